//! OpenSSL's error → [`HandshakeError`]: by reason codes, never by text, which changes between versions.

use openssl::ssl::{self, SslRef};

use super::{
    Side,
    alerts::{alert, alert_number},
    certificate_verdict::chain,
    ciphers,
    error::words,
    failure::{HandshakeError, Kind},
    ffi, groups,
    notes::{self, Offer},
    report::{CipherReport, Report},
    versions,
};

/// What is known when a handshake fails.
pub(super) struct Scene<'a> {
    pub(super) side: Side,
    pub(super) ssl: &'a SslRef,
    /// What our side allows.
    pub(super) ours: &'a Report,
    /// For a client: the name that is verified.
    pub(super) name: Option<&'a str>,
    pub(super) has_certificate: bool,
}

pub(super) const LIB_SSL: i32 = 20;
const LIB_PROVIDER: i32 = 57;

/// The error of `SSL_accept(3)` or `SSL_connect(3)`, in words.
pub(super) fn of(error: &ssl::Error, scene: &Scene<'_>) -> HandshakeError {
    let Some(stack) = error.ssl_error().filter(|stack| !stack.errors().is_empty()) else {
        return lost(error, scene);
    };
    if let Some(number) = alert_number(stack) {
        return with_offers(
            alert(number, scene.side, ffi::certificate_was_asked(scene.ssl), scene.has_certificate),
            scene,
        );
    }
    let failure = stack.errors().iter().find_map(|error| match error.library_code() {
        LIB_SSL => reason(error.reason_code(), scene),
        // OpenSSL 3.0 has no name for it: EMS_NOT_ENABLED of newer FIPS providers.
        LIB_PROVIDER if error.reason_code() == 233 => Some(without_ems()),
        _ => None,
    });
    let failure = failure.unwrap_or_else(|| HandshakeError::new(Kind::Refused, "tls: handshake failed"));
    if failure.is_eof() {
        return lost(error, scene);
    }
    failure.fact(format!("OpenSSL: {}", words(stack)))
}

/// A failure that our side noticed (`openssl/sslerr.h`).
fn reason(code: i32, scene: &Scene<'_>) -> Option<HandshakeError> {
    let refused = |summary: &str| HandshakeError::new(Kind::Refused, summary);
    Some(match code {
        134 => notes::read(scene.ssl, |notes| notes.refusal.clone())
            .flatten()
            .map_or_else(|| refused("x509: certificate refused"), |refusal| chain(&refusal, scene)),
        199 => refused("tls: no client certificate")
            .fact("tls.client_auth demands one, and the client presented none")
            .advise("give the client a certificate, or set tls.client_auth to request or none"),
        // UNSUPPORTED_PROTOCOL, NO_PROTOCOLS_AVAILABLE, VERSION_TOO_LOW, VERSION_TOO_HIGH, WRONG_SSL_VERSION
        258 | 191 | 396 | 166 | 266 => with_offers(refused("tls: no common protocol version"), scene)
            .advise("widen tls.min_version and tls.max_version, or the peer's"),
        // NO_SHARED_CIPHER, NO_CIPHERS_AVAILABLE, WRONG_CIPHER_RETURNED, UNKNOWN_CIPHER_RETURNED
        193 | 181 | 261 | 248 => no_common_cipher(scene),
        // NO_SUITABLE_KEY_SHARE, NO_SHARED_GROUPS, NO_SUITABLE_GROUPS, BAD_KEY_SHARE, WRONG_CURVE, UNSUPPORTED_ELLIPTIC_CURVE
        101 | 410 | 295 | 108 | 378 | 315 => no_common_group(scene),
        // NO_SUITABLE_SIGNATURE_ALGORITHM, NO_SHARED_SIGNATURE_ALGORITHMS, LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED, NO_SUITABLE_DIGEST_ALGORITHM
        118 | 376 | 333 | 297 => refused("tls: no common signature algorithm").advise(
            "the peer's versions or keys need signatures that this security level or FIPS mode forbids; \
                   TLS 1.0 and 1.1 need an explicit tls.min_version",
        ),
        // EE_KEY_TOO_SMALL, CA_KEY_TOO_SMALL, CA_MD_TOO_WEAK, DH_KEY_TOO_SMALL
        399 | 397 | 398 | 394 => refused("x509: key or digest too weak for the security level")
            .advise("use RSA or DH keys of at least 2048 bits and SHA-256"),
        235 => refused("tls: no common application protocol")
            .fact("we take h2 (from TLS 1.2 on) and http/1.1")
            .advise("the client must offer one of the two by ALPN, or none at all"),
        // UNSAFE_LEGACY_RENEGOTIATION_DISABLED
        338 => refused("tls: the peer lacks secure renegotiation")
            .advise("it predates RFC 5746, and OpenSSL 3 does not connect to it; update it"),
        // HTTPS_PROXY_REQUEST, HTTP_REQUEST, WRONG_VERSION_NUMBER
        155 | 156 | 267 => no_tls(scene.side),
        294 => HandshakeError::new(Kind::Lost, EOF),
        _ => return None,
    })
}

const EOF: &str = "tls: connection closed during the handshake";

impl HandshakeError {
    fn is_eof(&self) -> bool {
        self.summary() == EOF
    }
}

fn no_tls(side: Side) -> HandshakeError {
    let hint = match side {
        Side::Server => "the client must use https://",
        Side::Client => "check the port, and whether the server's URL is http://",
    };
    HandshakeError::new(Kind::PlainHttp, "tls: the peer does not speak TLS on this port").advise(hint)
}

/// A server cannot agree on a suite for want of groups, too: TLS 1.2's suites with ECDHE need a common one.
fn no_common_cipher(scene: &Scene<'_>) -> HandshakeError {
    let offer = notes::read(scene.ssl, |notes| notes.offer.clone()).flatten();
    let common_suite = offer.as_ref().is_some_and(|offer| {
        let mut shared = scene.ours.ciphers.iter().filter(|suite| offer.ciphers.contains(&suite.id()));
        shared.any(CipherReport::needs_group)
    });
    if common_suite && offer.is_some_and(|offer| !shares_group(&offer, scene.ours)) {
        return no_common_group(scene);
    }
    with_offers(HandshakeError::new(Kind::Refused, "tls: no common cipher suite"), scene)
        .advise("extend tls.cipher_suites, or the peer's list; a suite also needs a certificate with the right kind of key")
}

fn shares_group(offer: &Offer, ours: &Report) -> bool {
    offer.groups.iter().any(|&id| ours.groups.contains(&groups::wire_name(id)))
}

fn no_common_group(scene: &Scene<'_>) -> HandshakeError {
    with_offers(HandshakeError::new(Kind::Refused, "tls: no common key exchange group"), scene)
        .advise("extend tls.curve_preferences, or the peer's list")
}

fn without_ems() -> HandshakeError {
    HandshakeError::new(
        Kind::Refused,
        "tls: the peer does not support extended master secret (EMS, RFC 7627)",
    )
    .advise("FIPS mode demands it for TLS 1.2; update the peer, or let it use TLS 1.3")
}

/// Adds what each side offered, as far as it is known.
fn with_offers(failure: HandshakeError, scene: &Scene<'_>) -> HandshakeError {
    let summary = failure.summary();
    let about = |word: &str| summary.contains(word);
    let (version, cipher, group) = (about("version"), about("cipher"), about("group"));
    if !(version || cipher || group) {
        return failure;
    }
    let offer = notes::read(scene.ssl, |notes| notes.offer.clone()).flatten();
    let theirs =
        |what: &dyn Fn(&Offer) -> String| offer.as_ref().map_or_else(|| "not known".to_owned(), what);
    let owner = if scene.side == Side::Server { "the client's" } else { "the server's" };
    let (ours, mut failure) = (scene.ours, failure);
    if version {
        let list = theirs(&|offer| listed(&offer.versions, versions::wire_name));
        failure = failure.fact(format!("our versions: {}; {owner}: {list}", ours.versions));
    }
    if cipher {
        let list = theirs(&|offer| listed(&offer.ciphers, ciphers::wire_name));
        let names: Vec<&str> = ours.ciphers.iter().map(|suite| suite.iana).collect();
        failure = failure.fact(format!("our suites: {}; {owner}: {list}", names.join(", ")));
    }
    if group {
        let list = theirs(&|offer| listed(&offer.groups, groups::wire_name));
        failure = failure.fact(format!("our groups: {}; {owner}: {list}", ours.groups.join(", ")));
    }
    failure
}

/// A peer's list, bounded: it may name thousands.
fn listed(numbers: &[u16], name: impl Fn(u16) -> String) -> String {
    const SHOWN: usize = 32;
    let real: Vec<u16> = numbers.iter().copied().filter(|&id| !groups::is_grease(id)).collect();
    let text = real.iter().take(SHOWN).map(|&id| name(id)).collect::<Vec<_>>().join(", ");
    if real.len() > SHOWN {
        let more = real.len() - SHOWN;
        return format!("{text} and {more} more");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

/// No reason from OpenSSL: the connection ended, or broke.
fn lost(error: &ssl::Error, scene: &Scene<'_>) -> HandshakeError {
    if ffi::bytes_read(scene.ssl) == 0 {
        let failure = HandshakeError::new(Kind::ClosedEarly, "tls: connection closed before the first byte");
        return match error.io_error() {
            Some(io) => failure.fact(io.to_string()),
            None => failure,
        };
    }
    let failure = match error.io_error() {
        Some(io) => {
            HandshakeError::new(Kind::Lost, "tls: connection lost during the handshake").fact(io.to_string())
        }
        None => HandshakeError::new(Kind::Lost, EOF),
    };
    failure.fact(format!("at {}", scene.ssl.state_string_long()))
}
