//! What a connection's callbacks saw, kept beside it for the case that the handshake fails.

use std::sync::{LazyLock, Mutex, PoisonError};

use openssl::{
    ex_data::Index,
    ssl::{Ssl, SslRef, SslVersion},
    x509::{X509Ref, X509StoreContext, X509StoreContextRef, X509VerifyResult},
};

use super::{certificate, ffi, time};

/// Seen so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) offer: Option<Offer>,
    /// The first complaint about the peer's chain.
    pub(super) refusal: Option<Box<Refusal>>,
}

/// What a client offered, by number. OpenSSL forgets the hello as soon as it has been judged.
#[derive(Debug, Clone, Default)]
pub(super) struct Offer {
    pub(super) versions: Vec<u16>,
    pub(super) ciphers: Vec<u16>,
    pub(super) groups: Vec<u16>,
}

/// A certificate that did not pass, with what a person needs to know of it.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) result: X509VerifyResult,
    /// 0 is the peer's own certificate.
    pub(super) depth: u32,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) names: Vec<String>,
    pub(super) common_names: Vec<String>,
}

static SLOT: LazyLock<Option<Index<Ssl, Mutex<Notes>>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// Gives a connection its notes. A second hello, after a retry request, replaces the first.
pub(super) fn attach(ssl: &mut SslRef, notes: Notes) {
    if let Some(slot) = *SLOT {
        ssl.set_ex_data(slot, Mutex::new(notes));
    }
}

/// The connection's notes, if it has any: a server's begin with the client's hello.
pub(super) fn read<R>(ssl: &SslRef, look: impl FnOnce(&mut Notes) -> R) -> Option<R> {
    let notes = ssl.ex_data((*SLOT)?)?;
    Some(look(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Lets go of what is of no use once a handshake has succeeded.
pub(super) fn forget(ssl: &SslRef) {
    read(ssl, |notes| *notes = Notes::default());
}

/// Notes a refusal from within a verify callback.
pub(super) fn refuse(chain: &X509StoreContextRef) {
    let (Some(ssl), Some(certificate)) =
        (X509StoreContext::ssl_idx().ok().and_then(|index| chain.ex_data(index)), chain.current_cert())
    else {
        return;
    };
    let (result, depth) = (chain.error(), chain.error_depth());
    read(ssl, |notes| {
        notes.refusal.get_or_insert_with(|| Box::new(Refusal::new(result, depth, certificate))).depth
    });
}

impl Refusal {
    fn new(result: X509VerifyResult, depth: u32, certificate: &X509Ref) -> Self {
        Self {
            result,
            depth,
            subject: certificate::shown(certificate.subject_name()),
            issuer: certificate::shown(certificate.issuer_name()),
            not_before: time::text(certificate.not_before()),
            not_after: time::text(certificate.not_after()),
            names: certificate::alternative_names(certificate),
            common_names: certificate::common_names(certificate),
        }
    }
}

impl Offer {
    /// Reads the hello. Only inside a client-hello callback.
    pub(super) fn of_hello(ssl: &SslRef) -> Self {
        const SUPPORTED_GROUPS: u32 = 10;
        const SUPPORTED_VERSIONS: u32 = 43;
        let extension = |kind, prefix| {
            let body = ffi::client_hello_extension(ssl, kind).unwrap_or_default();
            numbers(body.get(prefix..).unwrap_or_default())
        };
        let mut versions = extension(SUPPORTED_VERSIONS, 1);
        if versions.is_empty() {
            versions.extend(ssl.client_hello_legacy_version().and_then(legacy_number));
        }
        Self {
            versions,
            ciphers: numbers(ssl.client_hello_ciphers().unwrap_or_default()),
            groups: extension(SUPPORTED_GROUPS, 2),
        }
    }
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

fn legacy_number(version: SslVersion) -> Option<u16> {
    let known = [SslVersion::SSL3, SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2];
    let at = known.iter().position(|&known| known == version)?;
    u16::try_from(0x0300 + at).ok()
}
