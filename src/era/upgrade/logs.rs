//! Log messages: how much the server is to say, and who wants to hear it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    era::Refusal,
    jsonrpc::{Message, Object},
};

/// How severe a log message is, the most verbose first (RFC 5424, section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    /// Reads the level that a request asks for.
    pub(super) fn asked(raw: &RawValue) -> Result<Self, Refusal> {
        serde_json::from_str(raw.get())
            .map_err(|_| Refusal::InvalidParams("logLevel: no such level".to_owned()))
    }

    /// The level of a log message; `None` when it has none that is known.
    pub(super) fn of(message: &Message) -> Option<Self> {
        let outer = Object::parse(message.line.as_str()).ok()?;
        outer.object("params").ok()?.read("level")
    }

    /// The level as the wire names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }
}
