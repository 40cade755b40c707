//! HTTP below the protocol: listening, accepting, connecting and bodies.

mod accept;
mod backlog;
mod body;
mod connection;
mod connector;
mod listener;
mod opening;
mod readable;
mod resting;
mod tunnel;
mod unread;
mod watched;

pub use accept::{Door, Limits, Shutdown, Terms, run};
pub use body::{Body, BodyError, EventSource, GatherError, Tally, collect, gather, plain};
pub use connection::Peer;
pub use connector::{BadProxy, ConnectError, Connector, causes};
pub use listener::{BindError, Listener};
