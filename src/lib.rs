//! `mcp-bridge`: joins the two transports of the Model Context Protocol, with every TLS byte through the
//! system's OpenSSL. `docs/architecture.md` is the map of this crate.

pub mod child;
pub mod config;
pub mod crypto;
pub mod framing;
pub mod jsonrpc;
pub mod mcp;
pub mod session;
