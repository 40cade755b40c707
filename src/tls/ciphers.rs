//! `tls.cipher_suites`: IANA names, each proven on a scratch context of its own.
//!
//! `set_cipher_list` drops what it does not know or cannot offer in silence, so its return code proves nothing.

use std::sync::LazyLock;

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslContext, SslMethod, SslVersion},
};

use super::{
    error::TlsError,
    ffi::{self, Suite},
    iana,
    policy::Judge,
    versions,
};
use crate::config::TlsVersion;

const KEY: &str = "tls.cipher_suites";

/// The suites that the list leaves, in its order; `None` when nothing of it concerns the allowed versions.
pub(super) fn resolve(
    names: &[String],
    judge: Judge,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<Suite>>, TlsError> {
    let mut suites: Vec<Suite> = Vec::new();
    for name in names {
        check_name(name)?;
        if iana::is_tls13(name) || !judge.versions.before_13() {
            continue;
        }
        match available(name, judge)? {
            Ok(suite) if suites.contains(&suite) => {}
            Ok(suite) => suites.push(suite),
            Err(reason) => warnings.push(format!("{KEY}: {name} is left out: {reason}")),
        }
    }
    warnings.extend(without_effect(names, judge));
    if !judge.versions.before_13() {
        return Ok(None);
    }
    if suites.is_empty() {
        return Err(nothing_left(judge));
    }
    Ok(Some(suites))
}

fn check_name(name: &str) -> Result<(), TlsError> {
    let refused = |why: &str| Err(TlsError::new(KEY, format!("{name} is refused: {why}")));
    let token = |token: &str| name.split('_').any(|word| word == token);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(unknown(name));
    }
    if name.ends_with("_SCSV") {
        return refused("it is a signal of the protocol, not a cipher suite");
    }
    if name.starts_with("TLS_") || name.starts_with("SSL_") {
        if token("NULL") {
            return refused("it does not encrypt");
        }
        if token("anon") {
            return refused("it does not authenticate the server");
        }
        if token("PSK") || token("SRP") || token("KRB5") {
            return refused("it needs shared secrets, which the bridge does not have");
        }
    }
    if iana::is_known(name) { Ok(()) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> TlsError {
    let error = TlsError::new(
        KEY,
        format!("{name:?} is not a cipher suite name of IANA's registry that OpenSSL knows"),
    );
    if let Some(translated) = openssl_name(name) {
        return error.hint(format!("that is OpenSSL's name; write {translated}"));
    }
    let near = super::names::nearest(name, iana::names());
    if near.is_empty() { error } else { error.hint(format!("did you mean {}?", near.join(" or "))) }
}

/// The registry's name for a suite written OpenSSL's way.
fn openssl_name(name: &str) -> Option<&'static str> {
    iana::names().find(|known| openssl::ssl::cipher_name(known).eq_ignore_ascii_case(name))
}

/// The suite, or why this context cannot offer it.
fn available(name: &str, judge: Judge) -> Result<Result<Suite, String>, TlsError> {
    let openssl = openssl::ssl::cipher_name(name);
    let offered = |versions, level| {
        offered_alone(openssl, versions, level)
            .map_err(|stack| TlsError::openssl(KEY, &format!("try {name}"), &stack))
    };
    let ours = (judge.versions.min, judge.versions.max);
    if let Some(suite) = offered(ours, judge.level)? {
        return Ok(Ok(suite));
    }
    let any = (TlsVersion::Tls10, TlsVersion::Tls13);
    Ok(Err(if let Some(suite) = offered(any, judge.level)? {
        format!("it needs {}, and {} is allowed", suite.since.replace("TLSv", "TLS "), judge.versions)
    } else if offered(any, 0)?.is_some() {
        format!("security level {} of the platform's policy forbids it", judge.level)
    } else if judge.fips {
        "it is not approved in FIPS mode".to_owned()
    } else {
        format!("{} is built without it", openssl::version::version())
    }))
}

/// What a context with this one name, these versions and this level offers for TLS 1.2 and below.
fn offered_alone(
    openssl: &str,
    (min, max): (TlsVersion, TlsVersion),
    level: u32,
) -> Result<Option<Suite>, ErrorStack> {
    let mut scratch = SslContext::builder(SslMethod::tls())?;
    scratch.clear_options(super::policy::version_bars());
    scratch.set_security_level(level);
    scratch.set_min_proto_version(Some(versions::to_openssl(min)))?;
    let max = if max == TlsVersion::Tls13 { SslVersion::TLS1_2 } else { versions::to_openssl(max) };
    scratch.set_max_proto_version(Some(max))?;
    if scratch.set_cipher_list(openssl).is_err() {
        return Ok(None);
    }
    let offered = ffi::supported_ciphers(&*Ssl::new(&scratch.build())?);
    Ok(offered.into_iter().find(|suite| suite.openssl == openssl && !suite.is_hollow()))
}

fn without_effect(names: &[String], judge: Judge) -> Option<String> {
    let tls13: Vec<&str> = names.iter().map(String::as_str).filter(|name| iana::is_tls13(name)).collect();
    if !judge.versions.before_13() {
        return Some(format!("{KEY} changes nothing: only TLS 1.3 is allowed, and its suites are fixed"));
    }
    (!tls13.is_empty())
        .then(|| format!("{KEY}: {} changes nothing: the suites of TLS 1.3 are fixed", tls13.join(", ")))
}

fn nothing_left(judge: Judge) -> TlsError {
    let what = format!("no usable suite for TLS 1.2 or below, and {} is allowed", judge.versions);
    let hint = if judge.fips {
        "name a suite that FIPS approves, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, or set tls.min_version to \"1.3\""
    } else {
        "name a suite such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, or set tls.min_version to \"1.3\""
    };
    TlsError::new(KEY, what).hint(hint)
}

/// The name of a suite's number in a hello.
pub(super) fn wire_name(id: u16) -> String {
    let known = CATALOG.iter().find(|(known, _)| *known == id);
    known.map_or_else(|| format!("0x{id:04x}"), |(_, name)| (*name).to_owned())
}

/// Every suite OpenSSL has, and `ChaCha20`'s, which FIPS mode hides.
static CATALOG: LazyLock<Vec<(u16, &'static str)>> = LazyLock::new(|| {
    let mut catalog = vec![
        (0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        (0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        (0xccaa, "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
        (0x00ff, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"),
        (0x5600, "TLS_FALLBACK_SCSV"),
    ];
    // Only read for its list: nothing is ever negotiated with this context.
    if let Ok(mut all) = SslContext::builder(SslMethod::tls())
        && all.set_cipher_list("ALL:COMPLEMENTOFALL").is_ok()
    {
        catalog.extend(ffi::configured_ciphers(&all.build()).iter().map(|suite| (suite.id, suite.iana)));
    }
    catalog
});

/// The kind of a server's key, as suites of TLS 1.2 and below see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    RsaPss,
    /// ECDSA, and Ed25519 and Ed448, which TLS 1.2 treats alike (RFC 8422, section 5.10).
    Ec,
    Other,
}

/// A warning for each suite that none of the server's keys can serve.
pub(super) fn unserved(suites: &[Suite], keys: &[KeyKind]) -> Vec<String> {
    let idle = suites.iter().filter(|suite| !keys.iter().any(|key| serves(*key, suite)));
    idle.map(|suite| format!("{KEY}: {} can never be used: no configured key fits it", suite.iana)).collect()
}

fn serves(key: KeyKind, suite: &Suite) -> bool {
    match key {
        KeyKind::Rsa => suite.has("Au=RSA"),
        // An RSA-PSS key signs and does not decrypt, so key exchange by RSA is out.
        KeyKind::RsaPss => suite.has("Au=RSA") && !suite.has("Kx=RSA"),
        KeyKind::Ec => suite.has("Au=ECDSA"),
        KeyKind::Other => suite.has("Au=DSS"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::versions::Versions, *};

    fn judge(min: TlsVersion, max: TlsVersion, level: u32) -> Judge {
        Judge { versions: Versions { min, max }, level, fips: false }
    }

    fn modern() -> Judge {
        judge(TlsVersion::Tls12, TlsVersion::Tls13, 2)
    }

    fn resolved(names: &[&str], judge: Judge) -> Result<(Vec<&'static str>, Vec<String>), String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut warnings = Vec::new();
        let suites = resolve(&names, judge, &mut warnings).map_err(|error| error.to_string())?;
        Ok((suites.unwrap_or_default().iter().map(|suite| suite.iana).collect(), warnings))
    }

    #[test]
    fn the_order_of_the_list_is_kept() {
        let list = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];
        assert_eq!(resolved(&list, modern()).unwrap(), (list.to_vec(), vec![]));
    }

    #[test]
    fn a_misspelt_name_is_an_error_with_the_nearest_names() {
        let error = resolved(&["TLS_ECDHE_RSA_WITH_AES256_GCM_SHA384"], modern()).unwrap_err();
        assert!(error.contains("did you mean TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{error}");
        let error = resolved(&["ECDHE-RSA-AES128-GCM-SHA256"], modern()).unwrap_err();
        assert!(error.contains("write TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "{error}");
        for odd in ["", "TLS_\0", "ALL:@SECLEVEL=0", "(NONE)"] {
            resolved(&[odd], modern()).unwrap_err();
        }
    }

    #[test]
    fn suites_without_encryption_authentication_or_certificates_are_refused() {
        for name in [
            "TLS_RSA_WITH_NULL_SHA256",
            "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
            "TLS_PSK_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_SRP_SHA_WITH_AES_128_CBC_SHA",
            "TLS_FALLBACK_SCSV",
            "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
        ] {
            let error = resolved(&[name], modern()).unwrap_err();
            assert!(error.contains("is refused"), "{error}");
        }
    }

    #[test]
    fn a_known_suite_that_is_not_built_in_is_one_warning() {
        let good = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        for gone in [
            "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
            "TLS_RSA_WITH_RC4_128_SHA",
            "TLS_RSA_WITH_IDEA_CBC_SHA",
            "TLS_DH_RSA_WITH_AES_128_CBC_SHA",
        ] {
            let (suites, warnings) = resolved(&[gone, good], modern()).unwrap();
            assert_eq!((suites, warnings.len()), (vec![good], 1));
            assert!(warnings[0].contains("built without it"), "{warnings:?}");
            assert!(resolved(&[gone], modern()).unwrap_err().contains("no usable suite"));
        }
    }

    #[test]
    fn a_suite_that_needs_a_newer_version_or_a_lower_level_says_so() {
        let old = judge(TlsVersion::Tls10, TlsVersion::Tls11, 0);
        let list = ["TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"];
        let (suites, warnings) = resolved(&list, old).unwrap();
        assert_eq!(suites, ["TLS_RSA_WITH_AES_128_CBC_SHA"]);
        assert!(warnings[0].contains("needs TLS 1.2"), "{warnings:?}");
        let strict = judge(TlsVersion::Tls12, TlsVersion::Tls13, 3);
        let list = ["TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"];
        let (_, warnings) = resolved(&list, strict).unwrap();
        assert!(warnings[0].contains("security level 3"), "{warnings:?}");
    }

    #[test]
    fn a_tls_1_3_name_is_accepted_with_one_warning_and_is_not_enough_for_1_2() {
        let good = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        let list = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", good];
        let (suites, warnings) = resolved(&list, modern()).unwrap();
        assert_eq!((suites, warnings.len()), (vec![good], 1));
        resolved(&list[..2], modern()).unwrap_err();
        let only13 = judge(TlsVersion::Tls13, TlsVersion::Tls13, 2);
        assert_eq!(resolved(&list[..2], only13).unwrap().1.len(), 1);
    }

    #[test]
    fn every_name_of_the_table_is_judged_without_an_error_of_its_own() {
        for name in iana::names() {
            check_name(name).unwrap();
        }
    }
}
