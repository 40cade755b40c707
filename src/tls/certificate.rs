//! Names in certificates, and the identity a verified one stands for.

use std::{fmt, net::IpAddr};

use openssl::x509::{GeneralNameRef, X509NameRef, X509Ref};

use crate::text::is_hidden;

/// Who a verified client certificate is for.
///
/// It exists only when a certificate was presented, OpenSSL's verify result is OK and `tls.client_ca_file` is
/// configured. A renewed certificate with the same subject, alternative names and issuer is the same identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateIdentity {
    subject: String,
    issuer: String,
    names: Vec<String>,
}

impl CertificateIdentity {
    pub(super) fn of(certificate: &X509Ref) -> Self {
        Self {
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            names: alternative_names(certificate),
        }
    }

    /// Bytes that are equal for equal identities alone.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts = [&self.subject, &self.issuer].into_iter().chain(&self.names);
        parts.flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.bytes())).collect()
    }
}

impl fmt::Display for CertificateIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A certificate may carry its names in the extension alone, as SPIFFE's do.
        match self.names.first() {
            Some(first) if self.subject.is_empty() => f.write_str(first),
            _ => f.write_str(&self.subject),
        }
    }
}

/// A distinguished name as `O=Example, CN=client`: in the certificate's order, with separators and control
/// characters escaped, so that a name cannot pass for another one or break a log line.
pub(super) fn name(name: &X509NameRef) -> String {
    let mut text = String::new();
    for entry in name.entries() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(entry.object().nid().short_name().unwrap_or("OID"));
        text.push('=');
        match entry.data().to_string() {
            Ok(value) => escape(&value, &mut text),
            Err(_) => text.push_str("(unreadable)"),
        }
    }
    text
}

/// [`name`], with a word for an empty one.
pub(super) fn shown(subject: &X509NameRef) -> String {
    let text = name(subject);
    if text.is_empty() { "(no subject)".to_owned() } else { text }
}

fn escape(value: &str, into: &mut String) {
    for c in value.chars() {
        match c {
            ',' | '+' | '\\' | '=' => into.extend(['\\', c]),
            c => push_visible(c, into),
        }
    }
}

/// Hidden characters become `\u{…}`: they would change how a log reads.
fn push_visible(c: char, into: &mut String) {
    if is_hidden(c) { into.extend(c.escape_unicode()) } else { into.push(c) }
}

/// The common names of a subject, as they are: interior NULs survive, so that no name is cut short.
pub(super) fn common_names(certificate: &X509Ref) -> Vec<String> {
    certificate
        .subject_name()
        .entries_by_nid(openssl::nid::Nid::COMMONNAME)
        .filter_map(|entry| entry.data().to_string().ok())
        .collect()
}

/// The alternative names, each as `DNS:…`, `IP:…`, `URI:…` or `email:…`.
pub(super) fn alternative_names(certificate: &X509Ref) -> Vec<String> {
    let names = certificate.subject_alt_names();
    names.iter().flatten().filter_map(alternative_name).collect()
}

fn alternative_name(name: &GeneralNameRef) -> Option<String> {
    let (kind, value) = if let Some(value) = name.dnsname() {
        ("DNS:", value)
    } else if let Some(value) = name.uri() {
        ("URI:", value)
    } else if let Some(value) = name.email() {
        ("email:", value)
    } else {
        return name.ipaddress().and_then(address).map(|ip| format!("IP:{ip}"));
    };
    let mut text = kind.to_owned();
    value.chars().for_each(|c| push_visible(c, &mut text));
    Some(text)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
