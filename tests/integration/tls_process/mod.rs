//! The TLS contract on the program: `serve`, `connect` and `check` as processes, with the clients and servers of others.

mod certificate_zoo;
mod check;
mod errors;
mod fips;
mod handshakes;
mod policies;
mod reload;
mod robustness;
pub(crate) mod support;
