//! `mcp-bridge`: joins the two transports of the Model Context Protocol, with every TLS byte through the
//! system's OpenSSL. `docs/architecture.md` is the map of this crate.

pub mod aside;
pub mod auth;
pub mod child;
pub mod cli;
pub mod config;
pub mod connect;
pub mod crypto;
pub mod era;
pub mod framing;
pub mod health;
pub mod http;
pub mod jsonrpc;
pub mod logging;
pub mod mcp;
pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod pieces;
pub mod serve;
pub mod session;
pub mod text;
pub mod tls;
pub mod upstream;
pub mod word;
