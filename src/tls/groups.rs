//! `tls.curve_preferences`: the groups of the key exchange, from a table of our own.
//!
//! OpenSSL takes curves in silence that no one should use, so what is not in the table is an error.

use openssl::ssl::{SslContext, SslMethod};

use super::{error::TlsError, policy::Judge};

const KEY: &str = "tls.curve_preferences";

/// A group that may be configured.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The name in our texts, and the one OpenSSL takes in a list.
    pub(super) name: &'static str,
    aliases: &'static [&'static str],
    /// The number in RFC 8446, section 4.2.7, and RFC 9794's drafts for the hybrids.
    pub(super) id: u16,
    /// Whether TLS 1.2 and older can use it too.
    before_13: bool,
}

/// Sorted as the documentation lists them.
static GROUPS: [Group; 8] = [
    Group { name: "X25519", aliases: &[], id: 29, before_13: true },
    Group { name: "X448", aliases: &[], id: 30, before_13: true },
    Group { name: "P-256", aliases: &["prime256v1", "secp256r1", "CurveP256"], id: 23, before_13: true },
    Group { name: "P-384", aliases: &["secp384r1", "CurveP384"], id: 24, before_13: true },
    Group { name: "P-521", aliases: &["secp521r1", "CurveP521"], id: 25, before_13: true },
    Group { name: "X25519MLKEM768", aliases: &[], id: 0x11ec, before_13: false },
    Group { name: "SecP256r1MLKEM768", aliases: &[], id: 0x11eb, before_13: false },
    Group { name: "SecP384r1MLKEM1024", aliases: &[], id: 0x11ed, before_13: false },
];

/// The groups that the list leaves, in its order.
pub(super) fn resolve(
    names: &[String],
    judge: Judge,
    warnings: &mut Vec<String>,
) -> Result<Vec<&'static Group>, TlsError> {
    let mut groups: Vec<&'static Group> = Vec::new();
    for name in names {
        let group = find(name).ok_or_else(|| unknown(name))?;
        match unavailable(group, judge) {
            Some(reason) => warnings.push(format!("{KEY}: {name} is left out: {reason}")),
            None if groups.contains(&group) => {}
            None => groups.push(group),
        }
    }
    if groups.is_empty() {
        return Err(TlsError::new(KEY, "no usable group is left").hint("name P-256, or leave the key out"));
    }
    // Without one, TLS 1.2 would fall back to key exchange by RSA, without forward secrecy, in silence.
    if judge.versions.before_13() && !groups.iter().any(|group| group.before_13) {
        let what = format!("no group that TLS 1.2 can use, and {} is allowed", judge.versions);
        return Err(TlsError::new(KEY, what).hint("add P-256, or set tls.min_version to \"1.3\""));
    }
    Ok(groups)
}

/// OpenSSL's list syntax.
pub(super) fn list(groups: &[&Group]) -> String {
    groups.iter().map(|group| group.name).collect::<Vec<_>>().join(":")
}

/// Our name for what OpenSSL calls a group: `prime256v1` or `secp256r1` → `P-256`.
pub(super) fn display_name(openssl: &str) -> Option<&'static str> {
    find(openssl).map(|group| group.name)
}

/// The name of a group's number in a hello.
pub(super) fn wire_name(id: u16) -> String {
    match (GROUPS.iter().find(|group| group.id == id), id) {
        (Some(group), _) => group.name.to_owned(),
        (None, 0x0100..=0x0104) => {
            format!("ffdhe{}", [2048, 3072, 4096, 6144, 8192][usize::from(id - 0x0100)])
        }
        (None, _) => format!("0x{id:04x}"),
    }
}

/// Whether the number is reserved to keep peers from choking on unknown ones (RFC 8701).
pub(super) fn is_grease(id: u16) -> bool {
    id & 0x0f0f == 0x0a0a && id >> 8 == id & 0xff
}

fn find(name: &str) -> Option<&'static Group> {
    let is = |known: &&str| known.eq_ignore_ascii_case(name);
    GROUPS.iter().find(|group| is(&group.name) || group.aliases.iter().any(is))
}

fn unknown(name: &str) -> TlsError {
    let error = TlsError::new(KEY, format!("{name:?} is not a group that may be used"));
    let near = super::names::nearest(name, GROUPS.iter().map(|group| group.name));
    let all: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
    error.hint(if near.is_empty() {
        format!("known are {}", all.join(", "))
    } else {
        format!("did you mean {}?", near.join(" or "))
    })
}

fn unavailable(group: &Group, judge: Judge) -> Option<String> {
    if !group.before_13 && judge.versions.max < crate::config::TlsVersion::Tls13 {
        return Some(format!("it needs TLS 1.3, and {} is allowed", judge.versions));
    }
    let tried = SslContext::builder(SslMethod::tls()).map(|mut scratch| scratch.set_groups_list(group.name));
    match tried {
        Ok(Ok(())) => None,
        _ if !group.before_13 && openssl::version::number() < 0x3050_0000 => {
            Some(format!("it needs OpenSSL 3.5, and this is {}", openssl::version::version()))
        }
        _ if judge.fips => Some("it is not approved in FIPS mode".to_owned()),
        _ => Some(format!("{} is built without it", openssl::version::version())),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::versions::Versions, *};
    use crate::config::TlsVersion;

    fn resolved(names: &[&str], min: TlsVersion) -> Result<(String, Vec<String>), String> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let judge = Judge { versions: Versions { min, max: TlsVersion::Tls13 }, level: 2, fips: false };
        let mut warnings = Vec::new();
        let groups = resolve(&names, judge, &mut warnings).map_err(|error| error.to_string())?;
        Ok((list(&groups), warnings))
    }

    #[test]
    fn groups_go_by_several_names_and_once_each() {
        let names = ["x25519", "secp384r1", "prime256v1", "P-256", "X448", "P-521"];
        assert_eq!(resolved(&names, TlsVersion::Tls12).unwrap().0, "X25519:P-384:P-256:X448:P-521");
    }

    #[test]
    fn what_the_table_lacks_is_an_error_with_the_nearest_name() {
        assert!(resolved(&["P256"], TlsVersion::Tls12).unwrap_err().contains("did you mean P-256"));
        for bad in ["secp256k1", "sect163k1", "", "P-256:X25519", "brainpoolP256r1"] {
            resolved(&[bad], TlsVersion::Tls12).unwrap_err();
        }
        resolved(&[], TlsVersion::Tls12).unwrap_err();
    }

    #[test]
    fn a_hybrid_is_a_warning_where_openssl_lacks_it_and_never_serves_tls_1_2() {
        if openssl::version::number() < 0x3050_0000 {
            let (groups, warnings) = resolved(&["X25519MLKEM768", "X25519"], TlsVersion::Tls12).unwrap();
            assert_eq!(groups, "X25519");
            assert!(warnings[0].contains("needs OpenSSL 3.5"), "{warnings:?}");
        }
        resolved(&["X25519MLKEM768"], TlsVersion::Tls12).unwrap_err();
    }

    #[test]
    fn numbers_in_hellos_have_names() {
        assert_eq!(
            (wire_name(23), wire_name(0x100), wire_name(0x9999)),
            ("P-256".into(), "ffdhe2048".into(), "0x9999".into())
        );
        assert!(is_grease(0x2a2a) && !is_grease(29));
    }
}
