//! JSON-RPC 2.0 messages, read just far enough to route them.
//!
//! A [`Message`] keeps its text byte for byte; what is known of it besides stands in [`Kind`].

mod error;
mod id;
mod line;
mod object;
mod parse;
mod splice;

pub use error::{ErrorObject, code};
pub use id::RequestId;
pub use line::Line;
pub use object::Object;
pub use parse::{Invalid, Payload, parse};
use serde::Serialize;
pub use splice::{Members, Splice};

/// One request, notification or response.
#[derive(Debug, Clone)]
pub struct Message {
    /// The text, on one line, as it goes on.
    pub line: Line,
    /// What the text is.
    pub kind: Kind,
}

/// What routing needs to know of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer under its id.
    Request {
        /// Its id.
        id: RequestId,
        /// Its method.
        method: Box<str>,
        /// `params._meta.progressToken`.
        progress_token: Option<RequestId>,
    },
    /// Wants no answer.
    Notification {
        /// Its method.
        method: Box<str>,
        /// What it speaks of: `params.progressToken` of progress, `params.requestId` of a cancellation.
        about: Option<RequestId>,
    },
    /// Answers a request.
    Response {
        /// The request's id; `None` for an error whose id is null.
        id: Option<RequestId>,
        /// Whether it holds `error` rather than `result`.
        is_error: bool,
    },
}

impl Message {
    /// The method of a request or notification.
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method, .. } => Some(method),
            Kind::Response { .. } => None,
        }
    }

    /// The id of a request.
    pub fn request_id(&self) -> Option<&RequestId> {
        match &self.kind {
            Kind::Request { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// A notification of the bridge's own.
pub fn notification<P: Serialize>(method: &str, params: &P) -> Line {
    Line::own(&serde_json::json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

/// A request of the bridge's own.
pub fn request<P: Serialize>(id: &RequestId, method: &str, params: &P) -> Line {
    Line::own(&serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}
