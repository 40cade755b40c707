//! The TLS contract: real handshakes over real sockets, against ourselves and against OpenSSL's own tools.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod ciphers;
mod client_auth;
mod errors;
mod fips;
mod identities;
mod names;
pub(crate) mod pki;
mod reload;
pub(crate) mod revocation;
pub(crate) mod support;
mod versions;
