//! The two eras of the protocol, and translation between them. No I/O, and no clock of its own.
//!
//! Legacy revisions (2024-11-05 to 2025-11-25) open a session with `initialize`; modern ones (2026-07-28) say with each
//! request who sends it. What is common to both stands in `jsonrpc` and `mcp`.

mod discovery;
pub mod downgrade;
pub mod headers;
mod refusal;
mod request;
#[cfg(test)]
mod script;
pub mod shared;
pub mod state;
mod subscription;
pub mod upgrade;

use self::request::{named, params};
pub use self::{
    discovery::speaks_modern,
    refusal::Refusal,
    request::{Meta, Request, declared_version, own_info},
    subscription::may_have_changed,
};
