//! Servers, whatever they are made of: a child, a remote server, or a translation of one of the other era.
//!
//! ```text
//! legacy client ── LegacyServer ──────────────────────────────── a child of its own, a session of connect's
//! legacy client ── LegacyServer = downgrade ── ModernServer ──── the shared children, the remote server
//! modern client ── ModernServer ──────────────────────────────── the shared children, the remote server
//! modern client ── ModernServer = upgrade ──── LegacyServer ──── a child, a session of connect's
//! ```

mod call;
mod child;
mod downgrade;
mod tools;
mod upgrade;

pub use self::{
    call::{Call, Item, Replies, call},
    child::ChildServer,
    downgrade::Downgraded,
    tools::{Catalog, Edition},
    upgrade::{End, UpgradeHandle, upgrade},
};
use crate::{
    era,
    jsonrpc::{ErrorObject, Message, RequestId},
};

/// A server of revision 2026-07-28: each request stands alone.
pub trait ModernServer: Send + Sync + 'static {
    /// Sends a request. Whatever goes wrong is its answer. Dropping the [`Call`] before its end cancels the request.
    fn call(&self, request: era::Request) -> impl Future<Output = Call> + Send;

    /// Sends a message that wants no answer.
    fn notify(&self, message: Message) -> impl Future<Output = ()> + Send;
}

/// A server of a revision until 2025-11-25, with one client, and before its `initialize`.
pub trait LegacyServer: Send + 'static {
    /// Sends a message, without waiting.
    ///
    /// # Errors
    /// When the server does not take it, with the answer for whoever waits for one.
    fn send(&mut self, message: Message) -> Result<(), ErrorObject>;

    /// The server's next message. Cancel safe.
    ///
    /// # Errors
    /// When there will be no more, with the answer for those who wait for one.
    fn next(&mut self) -> impl Future<Output = Result<FromServer, ErrorObject>> + Send;

    /// Takes leave of the server, and returns when nothing is left of it.
    fn end(self) -> impl Future<Output = ()> + Send;
}

/// A message of a legacy server's.
#[derive(Debug, Clone)]
pub struct FromServer {
    /// The message.
    pub message: Message,
    /// The request on whose stream it came, if that is known: the id under which it was sent.
    pub about: Option<RequestId>,
}
