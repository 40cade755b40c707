//! The two eras of the protocol, and translation between them. No I/O, and no clock of its own.
//!
//! Legacy revisions (2024-11-05 to 2025-11-25) open a session with `initialize`; modern ones (2026-07-28) say with each
//! request who sends it. What is common to both stands in `jsonrpc` and `mcp`.

mod refusal;
mod request;
#[cfg(test)]
#[allow(dead_code, reason = "the translators bring the scripts")]
mod script;

pub use self::{
    refusal::Refusal,
    request::{Meta, Request, declared_version},
};
