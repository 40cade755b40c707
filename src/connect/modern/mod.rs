//! Revision 2026-07-28: the remote server that speaks it, and the client that does.

mod client;
mod discovery;
mod server;

pub(super) use self::{
    client::{Client, Upstream},
    discovery::Discovery,
    server::Server,
};
