//! JSON-RPC 2.0 messages, read just far enough to route them.
//!
//! A [`Message`] keeps its text byte for byte; what is known of it besides stands in [`Kind`].

mod canonical;
mod error;
mod id;
mod line;
mod object;
mod parse;
mod splice;

pub use canonical::canonical;
pub use error::{ErrorObject, code, error_code, is_own_error};
pub use id::RequestId;
pub use line::Line;
pub use object::Object;
pub use parse::{About, Invalid, Payload, about_message as about, parse};
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
    /// A notification of the bridge's own; what it is `about` is part of its parameters.
    pub fn notification<P: Serialize>(method: &str, params: &P, about: Option<RequestId>) -> Self {
        let kind = Kind::Notification { method: method.into(), about };
        Self { line: notification(method, params), kind }
    }

    /// A request with parameters that are JSON already, without a progress token.
    pub fn request(id: &RequestId, method: &str, params: Line) -> Self {
        let mut request = Object::default();
        request.put("jsonrpc", &"2.0");
        request.put("id", id);
        request.put("method", &method);
        request.set("params", params);
        let kind = Kind::Request { id: id.clone(), method: method.into(), progress_token: None };
        Self { line: request.to_line(), kind }
    }

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
    own(None, method, params)
}

/// A request of the bridge's own.
pub fn request<P: Serialize>(id: &RequestId, method: &str, params: &P) -> Line {
    own(Some(id), method, params)
}

/// A result of the bridge's own, as the answer to `id`.
pub fn result<R: Serialize>(id: &RequestId, result: &R) -> Message {
    let mut response = Object::default();
    response.put("jsonrpc", &"2.0");
    response.put("id", id);
    response.put("result", result);
    Message { line: response.to_line(), kind: Kind::Response { id: Some(id.clone()), is_error: false } }
}

fn own<P: Serialize>(id: Option<&RequestId>, method: &str, params: &P) -> Line {
    #[derive(Serialize)]
    struct Own<'a, P> {
        jsonrpc: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RequestId>,
        method: &'a str,
        params: &'a P,
    }
    // Not by way of a `Value`, which does not hold each number that an id may be.
    let text = serde_json::to_vec(&Own { jsonrpc: "2.0", id, method, params }).unwrap_or_default();
    Line::new(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bridge_says_of_itself_names_ids_as_they_are() {
        for text in ["7", "1e400", "-1.5", "12345678901234567890123", r#""a\"b""#] {
            let id = RequestId::from_json(text).unwrap();
            let line = request(&id, "x", &[&id]);
            assert_eq!(
                line.as_str(),
                format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"x","params":[{text}]}}"#)
            );
            assert!(notification("x", &[&id]).as_str().ends_with(&format!("[{text}]}}")));
        }
    }
}
