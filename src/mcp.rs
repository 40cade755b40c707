//! Names that the Model Context Protocol fixes: revisions, headers, methods.
//!
//! Source: the MCP specification, `basic/lifecycle` and `basic/transports` of each revision.

use std::fmt;

use hyper::header::HeaderName;

/// `Mcp-Session-Id`: names a legacy session on Streamable HTTP.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// `MCP-Protocol-Version`: the negotiated revision, sent from 2025-06-18 on.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// `Last-Event-ID`: where a broken stream is taken up again.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Opens a legacy session.
pub const INITIALIZE: &str = "initialize";
/// The client's confirmation of `initialize`.
pub const INITIALIZED: &str = "notifications/initialized";
/// Calls a tool, by its name.
pub const CALL_TOOL: &str = "tools/call";
/// Gets a prompt, by its name.
pub const GET_PROMPT: &str = "prompts/get";
/// Progress of a request, attributed by its token.
pub const PROGRESS: &str = "notifications/progress";
/// Cancels a request that is in flight.
pub const CANCELLED: &str = "notifications/cancelled";
/// Sets the least severe log message that a legacy server sends.
pub const SET_LEVEL: &str = "logging/setLevel";
/// Asks for `notifications/resources/updated` of one resource.
pub const SUBSCRIBE: &str = "resources/subscribe";
/// Ends what [`SUBSCRIBE`] began.
pub const UNSUBSCRIBE: &str = "resources/unsubscribe";

/// Notifications that tell of the server's state and so belong to no exchange.
const ABOUT_THE_SERVER: [&str; 4] = [
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/tools/list_changed",
];

/// Whether a notification belongs to no exchange, whatever is in flight.
pub fn is_about_the_server(method: &str) -> bool {
    ABOUT_THE_SERVER.contains(&method)
}

/// A revision of the protocol with `initialize` and sessions, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegacyRevision {
    /// 2024-11-05.
    V2024_11_05,
    /// 2025-03-26: Streamable HTTP, and the one revision with batches.
    V2025_03_26,
    /// 2025-06-18: the version header.
    V2025_06_18,
    /// 2025-11-25.
    V2025_11_25,
}

impl LegacyRevision {
    /// Every one, oldest first.
    pub const ALL: [Self; 4] = [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25];
    /// The newest, which the bridge asks for when it is itself the client.
    pub const LATEST: Self = Self::V2025_11_25;

    /// The revision as the wire names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// The revision that `name` stands for.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.as_str() == name)
    }

    /// Whether a POST body may be a JSON-RPC batch.
    pub fn has_batches(self) -> bool {
        self == Self::V2025_03_26
    }
}

impl fmt::Display for LegacyRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_revision_is_found_by_its_name() {
        for revision in LegacyRevision::ALL {
            assert_eq!(LegacyRevision::parse(revision.as_str()), Some(revision));
        }
        assert_eq!(LegacyRevision::parse("2026-07-28"), None);
        assert_eq!(LegacyRevision::ALL.last(), Some(&LegacyRevision::LATEST));
    }
}
