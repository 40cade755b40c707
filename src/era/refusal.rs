//! The errors that revision 2026-07-28 defines, for requests that get no further.

use serde_json::{Value, json};

use crate::{
    jsonrpc::{Kind, Message, Object, RequestId, code},
    mcp,
};

/// Why a modern request is refused.
///
/// Source: revision 2026-07-28, `basic`, "Error Codes".
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// A parameter is missing or not usable (-32602); why.
    InvalidParams(String),
    /// There is no such method (-32601).
    MethodNotFound(Box<str>),
    /// Headers and body contradict each other (-32020); how.
    HeaderMismatch(String),
    /// The client has not declared what the request needs (-32021): a `ClientCapabilities` object.
    MissingCapability(Value),
    /// The revision is not supported (-32022).
    UnsupportedVersion(Box<str>),
}

impl Refusal {
    /// The JSON-RPC error code.
    pub fn code(&self) -> i32 {
        match self {
            Self::InvalidParams(_) => code::INVALID_PARAMS,
            Self::MethodNotFound(_) => code::METHOD_NOT_FOUND,
            Self::HeaderMismatch(_) => mcp::code::HEADER_MISMATCH,
            Self::MissingCapability(_) => mcp::code::MISSING_CLIENT_CAPABILITY,
            Self::UnsupportedVersion(_) => mcp::code::UNSUPPORTED_VERSION,
        }
    }

    /// What happened, for people.
    pub fn message(&self) -> String {
        match self {
            Self::InvalidParams(why) => why.clone(),
            Self::MethodNotFound(method) => format!("Method not found: {method}"),
            Self::HeaderMismatch(how) => format!("Header mismatch: {how}"),
            Self::MissingCapability(_) => "The client lacks a capability that the request needs".to_owned(),
            Self::UnsupportedVersion(_) => "Unsupported protocol version".to_owned(),
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Self::MissingCapability(required) => Some(json!({ "requiredCapabilities": required })),
            Self::UnsupportedVersion(requested) => {
                Some(json!({ "supported": [mcp::MODERN_REVISION], "requested": requested }))
            }
            _ => None,
        }
    }

    /// The response that carries this error to the request `id`; a null id when it is not known.
    pub fn response(&self, id: Option<&RequestId>) -> Message {
        let mut error = json!({ "code": self.code(), "message": self.message() });
        if let Some(data) = self.data() {
            error["data"] = data;
        }
        // Not by way of a `Value`, which does not hold each number that an id may be.
        let mut response = Object::default();
        response.put("jsonrpc", &"2.0");
        response.put("id", &id);
        response.put("error", &error);
        Message { line: response.to_line(), kind: Kind::Response { id: id.cloned(), is_error: true } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_revision_is_answered_with_those_that_are() {
        let response = Refusal::UnsupportedVersion("1900-01-01".into()).response(Some(&RequestId::from(1)));
        let value: Value = serde_json::from_str(response.line.as_str()).unwrap();
        assert_eq!(value["error"]["code"], -32022);
        assert_eq!(value["error"]["data"], json!({ "supported": ["2026-07-28"], "requested": "1900-01-01" }));
        assert_eq!(value["id"], 1);
        let huge = RequestId::from_json("1e400").unwrap();
        assert!(
            Refusal::InvalidParams(String::new())
                .response(Some(&huge))
                .line
                .as_str()
                .contains(r#""id":1e400"#)
        );
    }
}
