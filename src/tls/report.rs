//! The policy in force, for `check`, its `--json` and the log at start.

use std::fmt;

use openssl::{
    ssl::{Ssl, SslContextRef},
    x509::X509Ref,
};
use serde::Serialize;

use super::{
    certificate,
    ffi::{self, Suite},
    fips, groups, identity, probe, time,
    trust::Crls,
    versions::Versions,
};
use crate::config::ClientAuthMode;

/// Everything a person or an auditor may ask of a context.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The OpenSSL that is linked at run time.
    pub openssl: &'static str,
    /// The provider that proves FIPS mode; `None` when it is off.
    pub fips: Option<String>,
    /// For example `TLS 1.2 to TLS 1.3`.
    pub versions: String,
    /// OpenSSL's security level (`SSL_CTX_set_security_level(3)`).
    pub security_level: u32,
    /// The suites that can be negotiated, in order.
    pub ciphers: Vec<CipherReport>,
    /// The groups that can be negotiated, in order.
    pub groups: Vec<String>,
    /// Of a server: `none`, `request`, `require` or `verify`.
    pub client_auth: Option<&'static str>,
    /// Our own certificates.
    pub certificates: Vec<CertificateReport>,
    /// The revocation lists, when configured.
    pub crl: Option<CrlReport>,
    /// What deserves attention.
    pub warnings: Vec<String>,
}

/// A suite that can be negotiated.
#[derive(Debug, Clone, Serialize)]
pub struct CipherReport {
    /// The name in IANA's registry.
    pub iana: &'static str,
    /// OpenSSL's name.
    pub openssl: &'static str,
    /// Strength in bits.
    pub bits: i32,
    #[serde(skip)]
    suite: Suite,
}

impl CipherReport {
    /// The number in a hello.
    pub(super) fn id(&self) -> u16 {
        self.suite.id
    }

    /// Whether TLS 1.2 can use it only with a group in common.
    pub(super) fn needs_group(&self) -> bool {
        self.suite.has("Kx=ECDH")
    }
}

/// One of our certificates.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateReport {
    /// The subject, for example `CN=srv.example`.
    pub subject: String,
    /// The alternative names, for example `DNS:srv.example`.
    pub names: Vec<String>,
    /// The issuer.
    pub issuer: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// When it expires, in seconds since 1970.
    #[serde(skip)]
    pub expires_at: i64,
    /// Seconds until it expires; negative when it has.
    pub expires_in: i64,
    /// Whether it expires within 30 days or a third of its lifetime, whichever is less.
    pub expires_soon: bool,
    /// `RSA`, `RSA-PSS`, `ECDSA`, `Ed25519` …
    pub key_type: &'static str,
    /// In bits.
    pub key_bits: u32,
}

/// The revocation lists.
#[derive(Debug, Clone, Serialize)]
pub struct CrlReport {
    /// When the first of them becomes stale, RFC 3339.
    pub next_update: Option<String>,
    /// The same, in seconds since 1970.
    #[serde(skip)]
    pub stale_at: Option<i64>,
    /// Whether one is stale: handshakes that need it fail.
    pub expired: bool,
}

/// What only the loader of a context knows.
pub(super) struct Parts<'a> {
    pub(super) client_auth: Option<ClientAuthMode>,
    pub(super) certificates: Vec<&'a X509Ref>,
    pub(super) crls: Option<&'a Crls>,
    pub(super) warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(context: &SslContextRef, versions: Versions, parts: Parts<'_>) -> Self {
        let certificates: Vec<_> =
            parts.certificates.iter().map(|leaf| CertificateReport::of(leaf)).collect();
        let mut warnings = parts.warnings;
        warnings.extend(certificates.iter().filter_map(CertificateReport::warning));
        let suites = Ssl::new(context).map(|ssl| ffi::supported_ciphers(&ssl)).unwrap_or_default();
        Self {
            openssl: openssl::version::version(),
            fips: fips::status().map(|proof| proof.to_string()),
            versions: versions.to_string(),
            security_level: context.security_level(),
            ciphers: suites.into_iter().filter(|suite| !suite.is_hollow()).map(CipherReport::of).collect(),
            groups: probe::groups(context).into_iter().map(groups::wire_name).collect(),
            client_auth: parts.client_auth.map(mode_name),
            certificates,
            crl: parts.crls.map(|crls| CrlReport {
                next_update: crls.next_update.map(time::rfc3339),
                stale_at: crls.next_update,
                expired: crls.expired(),
            }),
            warnings,
        }
    }

    /// Whether a certificate of ours has expired, which `check` counts as an error.
    pub fn has_expired_certificate(&self) -> bool {
        self.certificates.iter().any(|certificate| certificate.expires_in < 0)
    }
}

fn mode_name(mode: ClientAuthMode) -> &'static str {
    match mode {
        ClientAuthMode::None => "none",
        ClientAuthMode::Request => "request",
        ClientAuthMode::Require => "require",
        ClientAuthMode::Verify => "verify",
    }
}

impl CipherReport {
    fn of(suite: Suite) -> Self {
        Self { iana: suite.iana, openssl: suite.openssl, bits: suite.bits, suite }
    }
}

impl CertificateReport {
    fn of(leaf: &X509Ref) -> Self {
        const MONTH: i64 = 30 * 86_400;
        let end = time::unix(leaf.not_after()).unwrap_or_default();
        let lifetime = end - time::unix(leaf.not_before()).unwrap_or(end);
        let expires_in = end - time::now();
        let key = leaf.public_key().ok();
        Self {
            subject: certificate::shown(leaf.subject_name()),
            names: certificate::alternative_names(leaf),
            issuer: certificate::shown(leaf.issuer_name()),
            not_before: time::text(leaf.not_before()),
            not_after: time::text(leaf.not_after()),
            expires_at: end,
            expires_in,
            expires_soon: expires_in < MONTH.min(lifetime / 3),
            key_type: key.as_ref().map_or("unknown", identity::key_type),
            key_bits: key.map_or(0, |key| key.bits()),
        }
    }

    fn warning(&self) -> Option<String> {
        // An expired one has a warning already, with its file.
        (self.expires_soon && self.expires_in >= 0)
            .then(|| format!("the certificate \"{}\" expires on {}", self.subject, self.not_after))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "OpenSSL: {}", self.openssl)?;
        writeln!(f, "FIPS mode: {}", self.fips.as_deref().unwrap_or("off"))?;
        writeln!(f, "Versions: {}", self.versions)?;
        writeln!(f, "Security level: {}", self.security_level)?;
        writeln!(f, "Cipher suites:")?;
        for suite in &self.ciphers {
            writeln!(f, "  {} ({}, {} bits)", suite.iana, suite.openssl, suite.bits)?;
        }
        writeln!(f, "Groups: {}", self.groups.join(", "))?;
        if let Some(mode) = self.client_auth {
            writeln!(f, "Client authentication: {mode}")?;
        }
        self.certificates.iter().try_for_each(|certificate| write!(f, "{certificate}"))?;
        if let Some(crl) = &self.crl {
            let state = if crl.expired { " (expired)" } else { "" };
            writeln!(
                f,
                "Revocation lists: next update {}{state}",
                crl.next_update.as_deref().unwrap_or("not given")
            )?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "Warning: {warning}"))
    }
}

impl fmt::Display for CertificateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Certificate: {}", self.subject)?;
        if !self.names.is_empty() {
            writeln!(f, "  Names: {}", self.names.join(", "))?;
        }
        writeln!(f, "  Issuer: {}", self.issuer)?;
        let state = match self {
            Self { expires_in: ..0, .. } => " (expired)",
            Self { expires_soon: true, .. } => " (soon)",
            _ => "",
        };
        writeln!(f, "  Valid: {} to {}{state}", self.not_before, self.not_after)?;
        writeln!(f, "  Key: {}, {} bits", self.key_type, self.key_bits)
    }
}
