//! Settings → OpenSSL contexts, and handshakes made with them.
//!
//! [`Acceptor`] and [`Connector`] are the two doors. Each is built once from its settings, is cheap to
//! clone, and swaps its context as a whole when its files change ([`watch`]). Every cryptographic
//! operation is OpenSSL's; `ffi` holds the few functions that the `openssl` crate does not bind.

mod alerts;
mod certificate;
mod certificate_verdict;
mod ciphers;
mod client;
mod client_auth;
mod error;
mod failure;
mod ffi;
pub mod fips;
mod groups;
mod handshake;
mod iana;
mod identity;
mod names;
mod notes;
mod policy;
mod probe;
mod reload;
mod report;
mod server;
mod server_name;
mod time;
mod trust;
mod verdict;
mod versions;

pub use certificate::CertificateIdentity;
pub use client::Connector;
pub use error::TlsError;
pub use failure::HandshakeError;
pub use handshake::{Alpn, Handshake, Judgement};
pub use reload::{Reload, ReloadCounts, watch};
pub use report::{CertificateReport, CipherReport, CrlReport, Report};
pub use server::Acceptor;

/// Whether reading has something to say though nothing more came from the peer.
pub fn has_more(stream: &openssl::ssl::SslRef) -> bool {
    ffi::has_more(stream)
}

/// Which end of a connection a context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// `serve`: we accept.
    Server,
    /// `connect`: we open.
    Client,
}
