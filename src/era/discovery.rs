//! What the answer to `server/discover` says of a server.
//!
//! Source: revision 2026-07-28, `basic/versioning`, and "Backward Compatibility" of both transports.

use serde::Deserialize;

use crate::{
    jsonrpc::{self, Kind, Line, Message},
    mcp::{self, LegacyRevision},
};

/// Whether an answer to `server/discover` is a modern server's: a result that names the bridge's revision, or an error
/// that only modern servers know. It may speak legacy revisions too.
pub fn speaks_modern(answer: &Message) -> bool {
    match answer.kind {
        Kind::Response { is_error: false, .. } => {
            supported(&answer.line).iter().any(|version| version == mcp::MODERN_REVISION)
        }
        Kind::Response { is_error: true, .. } => match jsonrpc::error_code(&answer.line) {
            Some(mcp::code::HEADER_MISMATCH | mcp::code::MISSING_CLIENT_CAPABILITY) => true,
            // A server that names a legacy revision can be spoken to in that.
            Some(mcp::code::UNSUPPORTED_VERSION) => {
                !refused_for(&answer.line).iter().any(|version| LegacyRevision::parse(version).is_some())
            }
            _ => false,
        },
        _ => false,
    }
}

/// `result.supportedVersions`.
fn supported(response: &Line) -> Vec<String> {
    #[derive(Deserialize)]
    struct Response {
        result: Discovered,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
    }
    let response = serde_json::from_str::<Response>(response.as_str());
    response.map(|response| response.result.supported_versions).unwrap_or_default()
}

/// `error.data.supported`.
fn refused_for(response: &Line) -> Vec<String> {
    #[derive(Deserialize)]
    struct Response {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        supported: Vec<String>,
    }
    let response = serde_json::from_str::<Response>(response.as_str());
    response.map(|response| response.error.data.supported).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    #[test]
    fn only_a_modern_server_answers_like_one() {
        for (answer, modern) in [
            (r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{}}"#, true),
            (r#""result":{"supportedVersions":["2025-11-25","2026-07-28"],"capabilities":{}}"#, true),
            (r#""result":{"supportedVersions":["2027-01-01"],"capabilities":{}}"#, false),
            (r#""result":{"supportedVersions":"2026-07-28"}"#, false),
            (r#""result":{}"#, false),
            (r#""result":7"#, false),
            (r#""error":{"code":-32020,"message":"x"}"#, true),
            (r#""error":{"code":-32021,"message":"x","data":{"requiredCapabilities":{}}}"#, true),
            (r#""error":{"code":-32022,"message":"x","data":{"supported":["2026-07-28"]}}"#, true),
            (r#""error":{"code":-32022,"message":"x","data":{"supported":["2027-01-01"]}}"#, true),
            (r#""error":{"code":-32022,"message":"x","data":{"supported":["2025-11-25"]}}"#, false),
            (r#""error":{"code":-32022,"message":"x","data":"text"}"#, true),
            (r#""error":{"code":-32601,"message":"Method not found"}"#, false),
            (r#""error":{"code":-32600,"message":"Not initialized"}"#, false),
            (r#""error":{"code":-32602,"message":"x","data":"text"}"#, false),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,{answer}}}"#);
            let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{answer}") };
            assert_eq!(speaks_modern(&message), modern, "{answer}");
        }
    }
}
