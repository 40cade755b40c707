//! What a modern request says of itself in `_meta`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::Refusal;
use crate::{
    jsonrpc::{self, Kind, Line, Message, Object, RequestId},
    mcp::{self, meta},
    word::Word,
};

/// A request of a modern client.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its id, which is its sender's own.
    pub id: RequestId,
    /// Its method.
    pub method: Box<str>,
    /// Its text.
    pub line: Line,
    /// The tool, prompt, resource or task that it names ([`mcp::named_by`]).
    pub named: Option<Box<str>>,
    /// What it says of itself.
    pub meta: Meta,
}

/// The `_meta` of a modern request, as far as the bridge needs it.
///
/// Source: revision 2026-07-28, `basic`, "Per-request protocol fields".
#[derive(Debug, Clone)]
pub struct Meta {
    /// Who sends it.
    pub client_info: Option<Box<RawValue>>,
    /// What the sender can do: an object.
    pub capabilities: Box<RawValue>,
    /// The least severe log message that the sender wants, as it was written: any JSON value.
    pub log_level: Option<Box<RawValue>>,
    /// Under which token progress is to be reported.
    pub progress_token: Option<RequestId>,
}

/// Who the bridge is when it asks for itself: an `Implementation`.
pub fn own_info() -> Value {
    json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") })
}

impl Request {
    /// A request of the bridge's own, which declares no capability.
    pub fn own(method: &str, params: &serde_json::Map<String, Value>) -> Self {
        let meta = Meta {
            client_info: serde_json::value::to_raw_value(&own_info()).ok(),
            capabilities: Object::default().to_raw(),
            log_level: None,
            progress_token: None,
        };
        Self::like(&meta, method, params)
    }

    /// A request of the bridge's own, in the name of who says `sender` of itself.
    pub fn on_behalf_of(sender: &Meta, method: &str, params: &serde_json::Map<String, Value>) -> Self {
        let meta = Meta { log_level: None, progress_token: None, ..sender.clone() };
        Self::like(&meta, method, params)
    }

    fn like(meta: &Meta, method: &str, params: &serde_json::Map<String, Value>) -> Self {
        let mut said = Object::default();
        said.put(meta::PROTOCOL_VERSION, &mcp::MODERN_REVISION);
        if let Some(info) = &meta.client_info {
            said.put(meta::CLIENT_INFO, info);
        }
        said.put(meta::CLIENT_CAPABILITIES, &meta.capabilities);
        let mut all = Object::default();
        for (name, value) in params {
            all.put(name, value);
        }
        all.put("_meta", &said);
        let id = RequestId::from(1);
        let line = jsonrpc::request(&id, method, &all);
        Self { id, method: method.into(), line, named: named(method, &all), meta: meta.clone() }
    }

    /// Reads a message that is a request.
    ///
    /// # Errors
    /// When a member that every modern request has is missing or no such thing, or names a revision that is not modern.
    pub fn read(message: Message) -> Result<Self, Refusal> {
        let Kind::Request { id, method, progress_token } = message.kind else {
            return Err(Refusal::InvalidParams("not a request".to_owned()));
        };
        let params = params(&message.line).map_err(|e| unusable(&e))?;
        let meta = Meta::read(&params, progress_token)?;
        let named = named(&method, &params);
        Ok(Self { id, method, line: message.line, named, meta })
    }
}

impl Meta {
    fn read(params: &Object<'_>, progress_token: Option<RequestId>) -> Result<Self, Refusal> {
        let missing = |what: &str| Refusal::InvalidParams(format!("params._meta[\"{what}\"] is required"));
        let meta = params.object("_meta").map_err(|e| unusable(&e))?;
        let version: Cow<str> =
            meta.read(meta::PROTOCOL_VERSION).ok_or_else(|| missing(meta::PROTOCOL_VERSION))?;
        if version != mcp::MODERN_REVISION {
            return Err(Refusal::UnsupportedVersion(version.into()));
        }
        let capabilities = meta.get(meta::CLIENT_CAPABILITIES);
        let capabilities = capabilities.filter(|value| Object::parse(value.get()).is_ok());
        Ok(Self {
            client_info: meta.get(meta::CLIENT_INFO).map(ToOwned::to_owned),
            capabilities: capabilities.ok_or_else(|| missing(meta::CLIENT_CAPABILITIES))?.to_owned(),
            log_level: meta.get(meta::LOG_LEVEL).map(ToOwned::to_owned),
            progress_token,
        })
    }
}

fn unusable(e: &serde_json::Error) -> Refusal {
    Refusal::InvalidParams(format!("params._meta: {e}"))
}

/// What `Mcp-Name` repeats of a request's parameters.
pub(super) fn named(method: &str, params: &Object<'_>) -> Option<Box<str>> {
    params.read::<Cow<'_, str>>(mcp::named_by(method)?).map(Into::into)
}

/// The parameters of a message; none are as good as empty ones.
pub(super) fn params(message: &Line) -> Result<Object<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        params: Option<Object<'a>>,
    }
    // In one reading: a message may be long.
    let envelope: Envelope<'_> = serde_json::from_str(message.as_str())?;
    Ok(envelope.params.unwrap_or_default().within(message))
}

/// The revision that a request names in `_meta`, which only modern clients do; whatever it is.
///
/// The substring test spares most legacy messages a second reading.
pub fn declared_version(message: &Message) -> Option<Box<str>> {
    static KEY: Word = Word::new(meta::PROTOCOL_VERSION);
    KEY.find_in(message.line.bytes())?;
    let params = params(&message.line).ok()?;
    let meta = params.object("_meta").ok()?;
    meta.read::<Cow<str>>(meta::PROTOCOL_VERSION).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    fn message(params: &str) -> Message {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{params}}}"#);
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{params}") };
        message
    }

    const VERSION: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    const CAPABILITIES: &str = r#""io.modelcontextprotocol/clientCapabilities":{"roots":{}}"#;

    #[test]
    fn what_a_request_says_of_itself_is_read() {
        let text = format!(r#"{{"_meta":{{{VERSION},{CAPABILITIES},"progressToken":"t"}}}}"#);
        assert_eq!(declared_version(&message(&text)).as_deref(), Some("2026-07-28"));
        let request = Request::read(message(&text)).unwrap();
        assert_eq!(request.meta.capabilities.get(), r#"{"roots":{}}"#);
        assert_eq!(request.meta.progress_token, Some(RequestId::String("t".into())));
    }

    #[test]
    fn a_request_that_does_not_say_enough_is_refused() {
        for (params, code) in [
            ("{}".to_owned(), -32602),
            (format!(r#"{{"_meta":{{{VERSION}}}}}"#), -32602),
            (format!(r#"{{"_meta":{{{CAPABILITIES}}}}}"#), -32602),
            (format!(r#"{{"_meta":{{{VERSION},"io.modelcontextprotocol/clientCapabilities":[]}}}}"#), -32602),
            (format!(r#"{{"_meta":{{{VERSION},{VERSION},{CAPABILITIES}}}}}"#), -32602),
            (
                format!(r#"{{"_meta":{{{},{CAPABILITIES}}}}}"#, VERSION.replace("2026-07-28", "2025-11-25")),
                -32022,
            ),
        ] {
            assert_eq!(Request::read(message(&params)).unwrap_err().code(), code, "{params}");
        }
    }

    #[test]
    fn a_request_of_the_bridges_own_is_what_it_asks_of_others() {
        let own = Request::own(mcp::DISCOVER, &serde_json::Map::new());
        let Ok(Payload::Single(message)) = parse(own.line.bytes().clone()) else { panic!("{own:?}") };
        let read = Request::read(message).unwrap();
        assert_eq!((&read.id, &*read.method), (&own.id, mcp::DISCOVER));
        assert!(read.meta.client_info.unwrap().get().contains("mcp-bridge"));
    }

    #[test]
    fn a_revision_among_the_arguments_is_none() {
        let text = format!(r#"{{"arguments":{{"_meta":{{{VERSION}}}}}}}"#);
        assert_eq!(declared_version(&message(&text)), None);
    }
}
