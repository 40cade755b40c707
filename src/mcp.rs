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

/// `Mcp-Method`: the method of a modern request, again.
pub const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
/// `Mcp-Name`: the tool, prompt or resource of a modern request, again.
pub const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// What the names of headers begin with that repeat an argument of a tool.
pub const PARAM_HEADER_PREFIX: &str = "mcp-param-";

/// The revision without `initialize` and sessions.
pub const MODERN_REVISION: &str = "2026-07-28";

/// Keys of `_meta`. Source: revision 2026-07-28, `basic`, "`_meta`".
pub mod meta {
    /// The revision of a modern request.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// Who sends a modern request.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// What the sender of a modern request can do.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// The least severe log message that a modern request asks for.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Who answers a modern request.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// The `subscriptions/listen` that a message belongs to.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// Asks for progress.
    pub const PROGRESS_TOKEN: &str = "progressToken";
}

/// Error codes beyond those of JSON-RPC. Source: revision 2026-07-28, `basic`, "Error Codes".
pub mod code {
    /// Headers and body contradict each other.
    pub const HEADER_MISMATCH: i32 = -32020;
    /// The client has not declared a capability that the request needs.
    pub const MISSING_CLIENT_CAPABILITY: i32 = -32021;
    /// The revision of the request is not supported.
    pub const UNSUPPORTED_VERSION: i32 = -32022;
    /// Until 2025-11-25: there is no such resource.
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// 2025-11-25 only: the user must visit a URL first.
    pub const URL_ELICITATION_REQUIRED: i32 = -32042;
}

/// Opens a legacy session.
pub const INITIALIZE: &str = "initialize";
/// The client's confirmation of `initialize`.
pub const INITIALIZED: &str = "notifications/initialized";
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
/// Asks whether the other side is there; legacy only.
pub const PING: &str = "ping";
/// Asks a modern server who it is and what it can do.
pub const DISCOVER: &str = "server/discover";
/// Opens a modern stream of notifications.
pub const LISTEN: &str = "subscriptions/listen";
/// The first message of what [`LISTEN`] opened.
pub const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// A log message.
pub const MESSAGE: &str = "notifications/message";
/// A resource has changed.
pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
/// The roots of the client have changed; legacy only.
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
/// Calls a tool.
pub const CALL_TOOL: &str = "tools/call";
/// Gets a prompt.
pub const GET_PROMPT: &str = "prompts/get";
/// Reads a resource.
pub const READ_RESOURCE: &str = "resources/read";
/// Lists the tools.
pub const LIST_TOOLS: &str = "tools/list";
/// The tools have changed.
pub const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
/// The prompts have changed.
pub const PROMPTS_CHANGED: &str = "notifications/prompts/list_changed";
/// The resources have changed: which there are, not what they hold.
pub const RESOURCES_CHANGED: &str = "notifications/resources/list_changed";
/// Asks the user; of the server's.
pub const ELICIT: &str = "elicitation/create";
/// Asks the client's language model; of the server's.
pub const SAMPLE: &str = "sampling/createMessage";
/// Asks for the client's roots; of the server's.
pub const LIST_ROOTS: &str = "roots/list";

/// A URL has been visited; of the server's, in 2025-11-25 only.
pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";
/// What the methods of tasks begin with.
pub const TASKS_PREFIX: &str = "tasks/";
/// The extension for tasks.
pub const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Parameter of a modern request that is sent again: answers to the server's questions.
pub const INPUT_RESPONSES: &str = "inputResponses";
/// Parameter of a modern request that is sent again: what the server's answer said of itself.
pub const REQUEST_STATE: &str = "requestState";

/// A list whose changes a server may tell of.
#[derive(Debug)]
pub struct List {
    /// The server's capability that says so.
    pub capability: &'static str,
    /// The member of a subscription's filter that asks for them.
    pub filter: &'static str,
    /// The notification of a change.
    pub changed: &'static str,
}

/// All of them. Source: revision 2026-07-28, `basic/patterns/subscriptions`, "Notification Filter".
pub const LISTS: [List; 3] = [
    List { capability: "tools", filter: "toolsListChanged", changed: TOOLS_CHANGED },
    List { capability: "prompts", filter: "promptsListChanged", changed: PROMPTS_CHANGED },
    List { capability: "resources", filter: "resourcesListChanged", changed: RESOURCES_CHANGED },
];

/// The requests that a modern server may answer with a question.
const MAY_ASK: [&str; 3] = [CALL_TOOL, GET_PROMPT, READ_RESOURCE];

/// Whether a modern server may answer `method` with a question of its own (`basic/patterns/mrtr`, "Supported Requests").
pub fn may_ask(method: &str) -> bool {
    MAY_ASK.contains(&method)
}

/// The requests of the tasks extension that name a task.
const ABOUT_A_TASK: [&str; 3] = ["tasks/get", "tasks/update", "tasks/cancel"];

/// Which member of its parameters `Mcp-Name` repeats of a request
/// (`basic/transports/streamable-http`, "Request Metadata", and the tasks extension).
pub fn named_by(method: &str) -> Option<&'static str> {
    match method {
        CALL_TOOL | GET_PROMPT => Some("name"),
        READ_RESOURCE => Some("uri"),
        method if ABOUT_A_TASK.contains(&method) => Some("taskId"),
        _ => None,
    }
}

/// The requests whose complete results say how long they may be kept.
const CACHEABLE: [&str; 6] =
    [DISCOVER, LIST_TOOLS, "prompts/list", "resources/list", "resources/templates/list", READ_RESOURCE];

/// Whether the results of `method` carry `ttlMs` and `cacheScope` (`server/utilities/caching`, "Cacheable Results").
pub fn is_cacheable(method: &str) -> bool {
    CACHEABLE.contains(&method)
}

/// Notifications that tell of the server's state and so belong to no exchange.
const ABOUT_THE_SERVER: [&str; 4] = [PROMPTS_CHANGED, RESOURCES_CHANGED, RESOURCE_UPDATED, TOOLS_CHANGED];

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

    /// Whether requests name the revision in [`PROTOCOL_VERSION`].
    pub fn has_version_header(self) -> bool {
        self >= Self::V2025_06_18
    }

    /// Whether an event stream begins with an event that only names a point to resume from.
    pub fn has_priming(self) -> bool {
        self >= Self::V2025_11_25
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
