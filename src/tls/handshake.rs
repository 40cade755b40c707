//! What a handshake came to.

use std::{borrow::Cow, error::Error, fmt, io};

use openssl::{
    ssl::{NameType, SslRef},
    x509::{X509, X509VerifyResult},
};

use super::{
    Side, alerts, certificate, certificate::CertificateIdentity, failure::HandshakeError, ffi, groups,
    versions,
};
use crate::config::TlsVersion;

/// The protocol chosen by ALPN (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `h2` (RFC 9113).
    H2,
    /// `http/1.1` (RFC 9112).
    Http11,
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H2 => "h2",
            Self::Http11 => "http/1.1",
        })
    }
}

/// How the peer's certificate was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// None was asked for.
    NotAsked,
    /// It was asked for, need not come, and did not.
    NonePresented,
    /// It came and nothing was there to judge it by: no `client_ca_file`, or `insecure_skip_verify`.
    NotChecked,
    /// It is trusted.
    Verified,
    /// It is not trusted and was let in all the same; OpenSSL's words.
    Untrusted(String),
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not asked for"),
            Self::NonePresented => f.write_str("none presented"),
            Self::NotChecked => f.write_str("not checked"),
            Self::Verified => f.write_str("verified"),
            Self::Untrusted(why) => write!(f, "not trusted ({why})"),
        }
    }
}

/// The facts of a handshake that succeeded. `Display` is the line for the log, without the peer's address.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The version.
    pub version: TlsVersion,
    /// The cipher suite, by its IANA name.
    pub cipher: &'static str,
    /// The group of the key exchange; `None` when there was none, as with RSA key exchange.
    pub group: Option<Cow<'static, str>>,
    /// The name the client asked for (RFC 6066, section 3).
    pub sni: Option<String>,
    /// The protocol agreed on; `None` when the client did not use ALPN.
    pub alpn: Option<Alpn>,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The subject of the peer's certificate.
    pub peer: Option<String>,
    /// How that certificate was judged.
    pub judgement: Judgement,
    /// Who the client is, when a verified certificate says so.
    pub identity: Option<CertificateIdentity>,
    side: Side,
    /// For a client: whether the server asked for a certificate, and whether one is configured.
    certificate_asked: bool,
    certificate_configured: bool,
}

/// What a context knows about its handshakes beforehand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) side: Side,
    /// Whether the peer is asked for a certificate.
    pub(super) asks: bool,
    /// Whether there are roots to judge it by.
    pub(super) has_roots: bool,
    /// Whether we have a certificate of our own.
    pub(super) has_certificate: bool,
}

impl Handshake {
    pub(super) fn of(ssl: &SslRef, terms: Terms) -> Self {
        let peer = if terms.asks { ssl.peer_certificate() } else { None };
        let judgement = judge(ssl.verify_result(), peer.as_ref(), terms);
        let verified_client = terms.side == Side::Server && judgement == Judgement::Verified;
        Self {
            version: ssl.version2().and_then(versions::from_openssl).unwrap_or(TlsVersion::Tls12),
            cipher: ssl
                .current_cipher()
                .map_or("unknown", |cipher| cipher.standard_name().unwrap_or(cipher.name())),
            group: ffi::negotiated_group(ssl).map(shown_group),
            sni: ssl.servername(NameType::HOST_NAME).map(str::to_owned),
            alpn: alpn(ssl),
            resumed: ssl.session_reused(),
            peer: peer.as_ref().map(|peer| certificate::shown(peer.subject_name())),
            identity: peer.filter(|_| verified_client).map(|peer| CertificateIdentity::of(&peer)),
            judgement,
            side: terms.side,
            certificate_asked: terms.side == Side::Client && ffi::certificate_was_asked(ssl),
            certificate_configured: terms.has_certificate,
        }
    }

    /// The version, as `TLS 1.3`.
    pub fn version_name(&self) -> &'static str {
        versions::name(self.version)
    }

    /// What a failed read or write means when the reason is the peer's alert, anywhere in the chain of causes.
    ///
    /// A TLS 1.3 server judges the client's certificate after the client's handshake is over (RFC 8446,
    /// section 4.4.2.4), so a refusal reaches the client with its first read.
    pub fn explain(&self, error: &(dyn Error + 'static)) -> Option<HandshakeError> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(alert) = alert_of(error) {
                return Some(alerts::alert(
                    alert,
                    self.side,
                    self.certificate_asked,
                    self.certificate_configured,
                ));
            }
            cause = error.source();
        }
        None
    }
}

/// An I/O error hides its own cause from `source` and shows that cause's instead.
fn alert_of(error: &(dyn Error + 'static)) -> Option<u8> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let ssl = inner
        .and_then(|inner| inner.downcast_ref::<openssl::ssl::Error>())
        .or_else(|| error.downcast_ref::<openssl::ssl::Error>())?;
    alerts::alert_number(ssl.ssl_error()?)
}

fn judge(result: X509VerifyResult, peer: Option<&X509>, terms: Terms) -> Judgement {
    match peer {
        _ if !terms.asks => Judgement::NotAsked,
        None => Judgement::NonePresented,
        Some(_) if !terms.has_roots => Judgement::NotChecked,
        Some(_) if result == X509VerifyResult::OK => Judgement::Verified,
        Some(_) => {
            Judgement::Untrusted(format!("{}, verify code {}", result.error_string(), result.as_raw()))
        }
    }
}

fn shown_group(openssl: String) -> Cow<'static, str> {
    // OpenSSL 3.0 names groups by object: `X25519`, `prime256v1`, `secp384r1`.
    groups::display_name(&openssl).map_or(Cow::Owned(openssl), Cow::Borrowed)
}

pub(super) fn alpn(ssl: &SslRef) -> Option<Alpn> {
    match ssl.selected_alpn_protocol()? {
        b"h2" => Some(Alpn::H2),
        _ => Some(Alpn::Http11),
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: Option<&str>| value.unwrap_or("none").to_owned();
        let (kind, owner) = (
            if self.resumed { "resumed" } else { "full" },
            if self.side == Side::Server { "client" } else { "server" },
        );
        write!(
            f,
            "{}, {}, group {}, SNI {}, ALPN {}, {kind} handshake, {owner} certificate ",
            versions::name(self.version),
            self.cipher,
            or_none(self.group.as_deref()),
            self.sni.as_deref().map_or_else(|| "none".to_owned(), |sni| sni.escape_debug().to_string()),
            self.alpn.map_or_else(|| "none".to_owned(), |alpn| alpn.to_string()),
        )?;
        match &self.peer {
            Some(subject) => write!(f, "\"{subject}\": {}", self.judgement),
            None => write!(f, "{}", self.judgement),
        }
    }
}
