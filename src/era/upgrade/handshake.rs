//! `initialize`, and what the server says of itself in its answer.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{capabilities::Capabilities, results};
use crate::{
    jsonrpc::{Line, Message, Object, RequestId},
    mcp::{self, LegacyRevision},
};

/// What a legacy server has said of itself.
#[derive(Debug)]
pub(super) struct Face {
    /// The result of `server/discover`.
    pub(super) discovered: Line,
    pub(super) info: Option<Box<RawValue>>,
    /// Resources can be subscribed to.
    pub(super) subscribes: bool,
    pub(super) tools_change: bool,
    pub(super) prompts_change: bool,
    pub(super) resources_change: bool,
    pub(super) logs: bool,
}

/// The first request of a legacy session.
pub(super) fn initialize(id: &RequestId, capabilities: &Capabilities, client: Option<&RawValue>) -> Message {
    let mut params = Object::default();
    params.put("protocolVersion", &LegacyRevision::LATEST.as_str());
    params.set("capabilities", capabilities.to_legacy());
    match client {
        Some(client) => params.set("clientInfo", client.to_owned()),
        None => params.put("clientInfo", &own_info()),
    }
    Message::request(id, mcp::INITIALIZE, params.to_line())
}

fn own_info() -> serde_json::Value {
    serde_json::json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") })
}

impl Face {
    /// Reads the result of `initialize`.
    pub(super) fn read(result: &str) -> Result<Self, String> {
        let mut result = Object::parse(result).map_err(|e| format!("its answer to initialize: {e}"))?;
        let version: Cow<str> = result.read("protocolVersion").unwrap_or_default();
        if LegacyRevision::parse(&version).is_none() {
            return Err(format!("it speaks the revision {version:?}, which is not known"));
        }
        let info = result.remove("serverInfo").filter(|info| Object::parse(info.get()).is_ok());
        let info = info.map(Cow::into_owned);
        result.remove("protocolVersion");
        let capabilities = result.remove("capabilities").unwrap_or_default();
        let capabilities = Object::parse(capabilities.get()).unwrap_or_default();
        let declares = |section: &str, flag: &str| {
            capabilities.object(section).is_ok_and(|section| section.read::<bool>(flag) == Some(true))
        };
        Ok(Self {
            subscribes: declares("resources", "subscribe"),
            tools_change: declares("tools", "listChanged"),
            prompts_change: declares("prompts", "listChanged"),
            resources_change: declares("resources", "listChanged"),
            logs: capabilities.get("logging").is_some_and(|value| value.get() != "null"),
            discovered: discovered(result, capabilities, info.as_deref()),
            info,
        })
    }
}

/// Tasks can't be bridged; all else that the server declares can.
fn discovered(mut result: Object<'_>, mut capabilities: Object<'_>, info: Option<&RawValue>) -> Line {
    capabilities.remove("tasks");
    let extensions = capabilities.object("extensions").ok().map(|mut extensions| {
        extensions.remove(mcp::TASKS_EXTENSION);
        (extensions.is_empty(), extensions.to_line())
    });
    match extensions {
        Some((false, extensions)) => capabilities.set("extensions", extensions),
        _ => drop(capabilities.remove("extensions")),
    }
    result.put("supportedVersions", &[mcp::MODERN_REVISION]);
    result.set("capabilities", capabilities.to_line());
    results::complete(&mut result, mcp::DISCOVER, info);
    result.to_line()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_answer_to_initialize_becomes_that_to_discover() {
        let face = Face::read(
            r#"{"protocolVersion":"2024-11-05","serverInfo":{"name":"s","version":"1e400"},"instructions":"i","x":1e400,
            "capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":false},"tasks":{},"z":{},
            "extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{"n":1.0}}}}"#,
        )
        .unwrap();
        assert_eq!(
            face.discovered.as_str(),
            concat!(
                r#"{"instructions":"i","x":1e400,"supportedVersions":["2026-07-28"],"capabilities":{"tools":"#,
                r#"{"listChanged":true},"resources":{"subscribe":false},"z":{},"extensions":{"a/b":{"n":1.0}}},"#,
                r#""resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":"#,
                r#"{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1e400"}}}"#
            )
        );
        assert!(face.tools_change && !face.subscribes && !face.logs && !face.prompts_change);
    }

    #[test]
    fn a_server_that_says_little_is_taken_as_it_is() {
        let face =
            Face::read(r#"{"protocolVersion":"2025-11-25","capabilities":{"extensions":{}}}"#).unwrap();
        let discovered: Value = serde_json::from_str(face.discovered.as_str()).unwrap();
        assert_eq!(discovered["capabilities"], json!({}));
        assert!(face.info.is_none() && discovered.get("_meta").is_none());
        assert!(Face::read("{}").unwrap_err().contains("revision"));
        assert!(Face::read("[]").is_err());
    }
}
