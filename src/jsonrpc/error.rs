//! Errors that the bridge itself answers with.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Kind, Line, Message, RequestId};

/// Error codes of JSON-RPC 2.0, section 5.1.
pub mod code {
    /// The text is not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// The JSON is no message that may stand here.
    pub const INVALID_REQUEST: i32 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The parameters are not those of the method.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Something went wrong underway.
    pub const INTERNAL_ERROR: i32 = -32603;
}

/// Who speaks in `data.source`, so that a reader knows that the MCP server did not.
const SOURCE: &str = "mcp-bridge";

/// An error of the bridge's own, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorObject {
    /// One of [`code`].
    pub code: i32,
    /// What happened, in words.
    pub message: String,
    /// A short word for programs, in `data.reason`.
    pub reason: &'static str,
}

impl ErrorObject {
    /// An internal error (-32603) with a reason word and a message.
    pub fn internal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: code::INTERNAL_ERROR, message: message.into(), reason }
    }

    /// An invalid request (-32600).
    pub fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: code::INVALID_REQUEST, message: message.into(), reason }
    }

    /// The response that carries this error to the request `id`; a null id when it is not known.
    pub fn response(&self, id: Option<&RequestId>) -> Message {
        #[derive(Serialize)]
        struct Response<'a> {
            jsonrpc: &'static str,
            id: Option<&'a RequestId>,
            error: Body<'a>,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            code: i32,
            message: &'a str,
            data: Data,
        }
        #[derive(Serialize)]
        struct Data {
            source: &'static str,
            reason: &'static str,
        }
        let data = Data { source: SOURCE, reason: self.reason };
        let error = Body { code: self.code, message: &self.message, data };
        // Writing strings and numbers to memory does not fail; an id that could not be written is null.
        let text = serde_json::to_vec(&Response { jsonrpc: "2.0", id, error }).unwrap_or_default();
        let kind = Kind::Response { id: id.cloned(), is_error: true };
        Message { line: Line::new(Bytes::from(text)), kind }
    }
}

/// The code of the error that a response holds; `None` when it holds a result.
pub fn error_code(response: &Line) -> Option<i32> {
    #[derive(Deserialize)]
    struct Response {
        error: Coded,
    }
    #[derive(Deserialize)]
    struct Coded {
        code: i32,
    }
    let response: Response = serde_json::from_str(response.as_str()).ok()?;
    Some(response.error.code)
}

/// Whether a response is an error of the bridge's own, as [`ErrorObject::internal`] makes them.
pub fn is_own_error(response: &Line) -> bool {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        error: Detailed<'a>,
    }
    #[derive(Deserialize)]
    struct Detailed<'a> {
        #[serde(borrow)]
        data: Sourced<'a>,
    }
    #[derive(Deserialize)]
    struct Sourced<'a> {
        source: &'a str,
    }
    let response: Result<Response<'_>, _> = serde_json::from_str(response.as_str());
    response.is_ok_and(|response| response.error.data.source == SOURCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_who_speaks() {
        let error = ErrorObject::internal("child_exited", "the MCP server exited with status 3");
        let message = error.response(Some(&RequestId::from(7)));
        assert_eq!(
            message.line.as_str(),
            concat!(
                r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"the MCP server exited with status 3","#,
                r#""data":{"source":"mcp-bridge","reason":"child_exited"}}}"#
            )
        );
        assert!(error.response(None).line.as_str().contains(r#""id":null"#));
    }

    #[test]
    fn our_own_errors_are_told_from_those_of_servers() {
        assert!(is_own_error(&ErrorObject::internal("timed_out", "x").response(None).line));
        for theirs in [
            r#"{"id":1e400,"error":{"code":-32603,"message":"x"}}"#,
            r#"{"id":1,"error":{"code":-32603,"message":"x","data":{"source":7}}}"#,
            r#"{"id":1,"error":{"code":-32603,"message":"x","data":{"source":"other"}}}"#,
            r#"{"id":1,"result":{"data":{"source":"mcp-bridge"}}}"#,
        ] {
            assert!(!is_own_error(&Line::new(Bytes::from_static(theirs.as_bytes()))), "{theirs}");
        }
    }
}
