//! `tls`: what can be judged without opening a file or asking OpenSSL.

use std::time::Duration;

use crate::config::{
    ClientAuthMode, ClientTls, Identity, KeyPassword, ServerTls, TlsPolicy, TlsVersion, error::Fault,
    reader::Reader,
};

const VERSIONS: [(&str, TlsVersion); 4] = [
    ("1.0", TlsVersion::Tls10),
    ("1.1", TlsVersion::Tls11),
    ("1.2", TlsVersion::Tls12),
    ("1.3", TlsVersion::Tls13),
];

const CLIENT_AUTH: [(&str, ClientAuthMode); 5] = [
    ("none", ClientAuthMode::None),
    ("request", ClientAuthMode::Request),
    ("require", ClientAuthMode::Require),
    ("verify", ClientAuthMode::Verify),
    ("require_and_verify", ClientAuthMode::Verify),
];

/// Keys of the section that mean something, or ask for nothing, on a connection without TLS.
const WITHOUT_TLS: [&str; 3] = ["tls.fips", "tls.enabled", "tls.insecure_skip_verify"];

/// Reads `tls.fips`, which holds for the process also when there is no TLS.
pub(super) fn fips_required(r: &mut Reader<'_>) -> Result<bool, Fault> {
    Ok(r.choice("tls.fips", &[("off", false), ("required", true)])?.unwrap_or(false))
}

/// Reads `tls` of a server: nothing when it listens in plain HTTP.
pub(super) fn server(r: &mut Reader<'_>) -> Result<Option<ServerTls>, Fault> {
    let tls = ServerTls {
        policy: policy(r)?,
        identities: identities(r)?,
        client_auth: r.choice("tls.client_auth", &CLIENT_AUTH)?.unwrap_or_default(),
        client_ca_file: r.path("tls.client_ca_file")?,
        client_allowed_names: r.texts("tls.client_allowed_names")?,
        crl_file: r.path("tls.crl_file")?,
    };
    check_clients(r, &tls)?;
    if !enabled(r)? {
        if tls.client_auth != ClientAuthMode::None {
            return Err(
                r.fault("tls.client_auth", "needs `tls.enabled: true`; without TLS no client is checked")
            );
        }
        return Ok(None);
    }
    if tls.identities.is_empty() {
        return Err(
            r.fault("tls.cert_file", "missing; TLS is enabled and needs 'tls.cert_file' and 'tls.key_file'")
        );
    }
    Ok(Some(tls))
}

/// Half a section would otherwise leave a server in plain HTTP, in silence.
fn enabled(r: &mut Reader<'_>) -> Result<bool, Fault> {
    if let Some(enabled) = r.optional_flag("tls.enabled")? {
        return Ok(enabled);
    }
    if asks_for_tls(r).is_some() {
        return Err(r.fault("tls.enabled", "missing; set it to true for HTTPS, or to false for plain HTTP"));
    }
    Ok(false)
}

/// A key that is set and means nothing without TLS.
fn asks_for_tls(r: &Reader<'_>) -> Option<&'static str> {
    let keys = crate::config::schema::KEYS.iter().map(|key| key.path);
    keys.filter(|path| path.starts_with("tls.") && !WITHOUT_TLS.contains(path)).find(|path| r.has(path))
}

/// Reads `tls` of a client.
pub(super) fn client(r: &mut Reader<'_>, https: bool) -> Result<ClientTls, Fault> {
    let enabled = r.optional_flag("tls.enabled")?;
    let tls = ClientTls {
        policy: policy(r)?,
        identity: client_identity(r)?,
        ca_cert: r.path("tls.ca_cert")?,
        crl_file: r.path("tls.crl_file")?,
        server_name: r.parsed("tls.server_name", super::url::server_name)?,
        insecure_skip_verify: r.flag("tls.insecure_skip_verify", false)?,
    };
    if https && enabled == Some(false) {
        return Err(
            r.fault("tls.enabled", "is false, but 'client.url' is https://; remove it, or use http://")
        );
    }
    if !https {
        let skips = tls.insecure_skip_verify.then_some("tls.insecure_skip_verify");
        let asks = asks_for_tls(r).or(skips).or((enabled == Some(true)).then_some("tls.enabled"));
        if let Some(path) = asks {
            return Err(r.fault(path, "has no effect: 'client.url' is http://; use https://, or remove it"));
        }
    }
    Ok(tls)
}

fn policy(r: &mut Reader<'_>) -> Result<TlsPolicy, Fault> {
    let policy = TlsPolicy {
        min_version: r.choice("tls.min_version", &VERSIONS)?,
        max_version: r.choice("tls.max_version", &VERSIONS)?,
        cipher_suites: r.texts("tls.cipher_suites")?,
        curve_preferences: r.texts("tls.curve_preferences")?,
        fips_required: fips_required(r)?,
        reload_interval: r.wait("tls.reload_interval", Duration::from_secs(10))?,
    };
    check_versions(r, &policy)?;
    Ok(policy)
}

fn check_versions(r: &Reader<'_>, policy: &TlsPolicy) -> Result<(), Fault> {
    if let (Some(min), Some(max)) = (policy.min_version, policy.max_version)
        && min > max
    {
        return Err(r.fault("tls.min_version", "is higher than 'tls.max_version'; no version is left"));
    }
    let old = |version: Option<TlsVersion>| version.is_some_and(|version| version < TlsVersion::Tls12);
    if policy.fips_required {
        for (path, version) in
            [("tls.min_version", policy.min_version), ("tls.max_version", policy.max_version)]
        {
            if old(version) {
                return Err(r.fault(
                    path,
                    "FIPS permits TLS 1.2 and 1.3 only; raise it, or remove `tls.fips: required`",
                ));
            }
        }
    }
    Ok(())
}

fn client_identity(r: &mut Reader<'_>) -> Result<Option<Identity>, Fault> {
    let mut identities = identities(r)?;
    if identities.len() > 1 {
        return Err(r.fault("tls.cert_file", "a client has one certificate; give one file, not a list"));
    }
    Ok(identities.pop())
}

/// Certificates and keys in pairs, by their position.
fn identities(r: &mut Reader<'_>) -> Result<Vec<Identity>, Fault> {
    let certs = r.one_or_more("tls.cert_file")?;
    let keys = r.one_or_more("tls.key_file")?;
    let password = key_password(r)?;
    match (certs.len(), keys.len()) {
        (0, 0) if password.is_some() => Err(r.fault("tls.key_file", "missing; a password for it is set")),
        (0, 1..) => Err(r.fault("tls.cert_file", "missing; 'tls.key_file' is set and needs its certificate")),
        (1.., 0) => Err(r.fault("tls.key_file", "missing; 'tls.cert_file' is set and needs its private key")),
        (certs, keys) if certs != keys => Err(r.fault(
            "tls.key_file",
            format!("{keys} keys for {certs} certificates in 'tls.cert_file'; list them in pairs"),
        )),
        _ => Ok(certs
            .into_iter()
            .zip(keys)
            .map(|(cert, key)| Identity {
                cert_file: cert.text.into(),
                key_file: key.text.into(),
                key_password: password.clone(),
            })
            .collect()),
    }
}

fn key_password(r: &mut Reader<'_>) -> Result<Option<KeyPassword>, Fault> {
    match (r.secret("tls.key_password")?, r.path("tls.key_password_file")?) {
        (Some(_), Some(_)) => {
            Err(r.fault("tls.key_password_file", "'tls.key_password' is set too; keep one of them"))
        }
        (Some(password), None) => Ok(Some(KeyPassword::Plain(password))),
        (None, Some(file)) => Ok(Some(KeyPassword::File(file))),
        (None, None) => Ok(None),
    }
}

/// What is said about client certificates must be able to take effect.
fn check_clients(r: &mut Reader<'_>, tls: &ServerTls) -> Result<(), Fault> {
    let verify = tls.client_auth == ClientAuthMode::Verify;
    if verify && tls.client_ca_file.is_none() {
        return Err(
            r.fault("tls.client_ca_file", "missing; `client_auth: verify` needs the CAs that sign clients")
        );
    }
    if tls.client_allowed_names.is_some() && !verify {
        return Err(r.fault(
            "tls.client_allowed_names",
            "needs `tls.client_auth: verify`; other names prove nothing",
        ));
    }
    if tls.crl_file.is_some() && tls.client_ca_file.is_none() {
        return Err(r.fault("tls.crl_file", "needs 'tls.client_ca_file', whose clients it revokes"));
    }
    if tls.client_ca_file.is_some() && tls.client_auth == ClientAuthMode::None {
        r.warnings.push(
            "tls.client_ca_file has no effect: tls.client_auth is none, so no certificate is asked for"
                .into(),
        );
    }
    Ok(())
}
