//! Text → messages.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{Kind, Line, Message, RequestId, code};
use crate::{mcp, word::Word};

/// Most messages in one batch.
const MAX_BATCH: usize = 1000;

/// What one text held.
#[derive(Debug, Clone)]
pub enum Payload {
    /// One message.
    Single(Message),
    /// A batch (2025-03-26 only), never empty.
    Batch(Vec<Message>),
}

/// Why a text holds no message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Not one JSON value in UTF-8.
    #[error("not one JSON value: {0}")]
    NotJson(String),
    /// JSON, but not JSON-RPC 2.0.
    #[error("not a JSON-RPC 2.0 message: {reason}")]
    NotRpc {
        /// What is wrong with it.
        reason: String,
        /// The id, where one could be read, to answer under.
        id: Option<RequestId>,
    },
}

impl Invalid {
    /// The JSON-RPC error code.
    pub fn code(&self) -> i32 {
        match self {
            Self::NotJson(_) => code::PARSE_ERROR,
            Self::NotRpc { .. } => code::INVALID_REQUEST,
        }
    }

    /// The id to answer under.
    pub fn id(&self) -> Option<&RequestId> {
        match self {
            Self::NotJson(_) => None,
            Self::NotRpc { id, .. } => id.as_ref(),
        }
    }

    fn not_rpc(reason: impl Into<String>) -> Self {
        Self::NotRpc { reason: reason.into(), id: None }
    }
}

/// Reads one JSON value: a message, or a batch of them.
pub fn parse(text: Bytes) -> Result<Payload, Invalid> {
    let str = std::str::from_utf8(&text).map_err(|e| Invalid::NotJson(e.to_string()))?;
    if str.trim_start_matches(is_json_space).starts_with('[') {
        return parse_batch(&text, str);
    }
    let kind = parse_one(str)?;
    Ok(Payload::Single(Message { line: Line::new(text), kind }))
}

fn is_json_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn parse_batch(text: &Bytes, str: &str) -> Result<Payload, Invalid> {
    let values: Vec<&RawValue> = serde_json::from_str(str).map_err(|e| not_json(&e))?;
    if values.is_empty() {
        return Err(Invalid::not_rpc("an empty batch"));
    }
    if values.len() > MAX_BATCH {
        return Err(Invalid::not_rpc(format!("a batch of more than {MAX_BATCH} messages")));
    }
    let message = |raw: &&RawValue| {
        // To serde a list of the members would do.
        if raw.get().starts_with('[') {
            return Err(Invalid::not_rpc("a batch in a batch"));
        }
        let kind = parse_one(raw.get())?;
        Ok(Message { line: Line::new(text.slice_ref(raw.get().as_bytes())), kind })
    };
    values.iter().map(message).collect::<Result<_, _>>().map(Payload::Batch)
}

/// The members of a message that say what it is; serde refuses each that stands there twice.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// A string that is copied only if it has escapes: serde borrows a `Cow`, but not one within an `Option`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Tells a member that is null from one that is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn parse_one(str: &str) -> Result<Kind, Invalid> {
    let envelope: Envelope = serde_json::from_str(str).map_err(|e| {
        // A data error means that the text may yet be JSON; whether it is decides the code.
        match e.classify() {
            serde_json::error::Category::Data if is_json(str) => Invalid::not_rpc(e.to_string()),
            _ => not_json(&e),
        }
    })?;
    let id = envelope.id.and_then(|raw| RequestId::from_json(raw.get()));
    kind(&envelope, id.clone()).map_err(|reason| Invalid::NotRpc { reason: reason.to_owned(), id })
}

fn is_json(str: &str) -> bool {
    serde_json::from_str::<&RawValue>(str).is_ok()
}

fn not_json(e: &serde_json::Error) -> Invalid {
    Invalid::NotJson(e.to_string())
}

fn kind(envelope: &Envelope, id: Option<RequestId>) -> Result<Kind, &'static str> {
    if envelope.jsonrpc.as_ref().is_none_or(|version| version.0 != "2.0") {
        return Err("\"jsonrpc\" must be \"2.0\"");
    }
    let answers = envelope.result.is_some() || envelope.error.is_some();
    match (&envelope.method, answers) {
        (Some(_), true) => Err("both a method and a result or error"),
        (None, false) => Err("neither a method nor a result or error"),
        (Some(method), false) => asked(&method.0, envelope, id),
        (None, true) => answered(envelope, id),
    }
}

fn asked(method: &str, envelope: &Envelope, id: Option<RequestId>) -> Result<Kind, &'static str> {
    let params = envelope.params.map_or("", RawValue::get);
    match (envelope.id, id) {
        (None, _) => Ok(Kind::Notification { method: method.into(), about: about(method, params) }),
        (Some(_), Some(id)) => {
            Ok(Kind::Request { id, method: method.into(), progress_token: progress_token(params) })
        }
        (Some(_), None) => Err("\"id\" must be a string or a number (of at most 128 KiB)"),
    }
}

fn answered(envelope: &Envelope, id: Option<RequestId>) -> Result<Kind, &'static str> {
    let is_error = match (envelope.result, envelope.error) {
        (Some(_), None) => false,
        (None, Some(_)) => true,
        _ => return Err("both a result and an error"),
    };
    match envelope.id {
        Some(raw) if id.is_none() && !(is_error && raw.get() == "null") => {
            Err("\"id\" must be a string or a number (of at most 128 KiB)")
        }
        None if !is_error => Err("a result without \"id\""),
        _ => Ok(Kind::Response { id, is_error }),
    }
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "requestId")]
    request_id: Option<&'a RawValue>,
}

/// `params._meta.progressToken`. The substring test spares most messages a second reading of their parameters.
fn progress_token(params: &str) -> Option<RequestId> {
    static KEY: Word = Word::new("progressToken");
    KEY.find_in(params.as_bytes())?;
    let params: Params = serde_json::from_str(params).ok()?;
    let meta: Params = serde_json::from_str(params.meta?.get()).ok()?;
    RequestId::from_json(meta.progress_token?.get())
}

fn about(method: &str, params: &str) -> Option<RequestId> {
    let read = || serde_json::from_str::<Params>(params).ok();
    let raw = match method {
        mcp::PROGRESS => read()?.progress_token?,
        mcp::CANCELLED => read()?.request_id?,
        _ => return None,
    };
    RequestId::from_json(raw.get())
}

/// What people want to know of a message, and routing need not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// `params.name`: of a tool or a prompt.
    pub name: Option<Cow<'a, str>>,
    /// `params._meta.traceparent`: W3C Trace Context, as OpenTelemetry puts it there.
    pub traceparent: Option<Cow<'a, str>>,
}

/// Reads the parameters of a request that names a tool or prompt, or that belongs to a trace.
pub fn about_message(message: &Message) -> About<'_> {
    static KEY: Word = Word::new("traceparent");
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        params: Named<'a>,
    }
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "_meta")]
        meta: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, default)]
        traceparent: Option<&'a RawValue>,
    }
    fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
        serde_json::from_str(raw.get()).ok()
    }
    let text_of = message.line.as_str();
    let named = matches!(message.method(), Some(mcp::CALL_TOOL | mcp::GET_PROMPT));
    if !named && !KEY.is_in(text_of.as_bytes()) {
        return About::default();
    }
    let Ok(Request { params }) = serde_json::from_str(text_of) else { return About::default() };
    let meta = params.meta.and_then(|meta| serde_json::from_str::<Meta>(meta.get()).ok());
    About {
        name: params.name.filter(|_| named).and_then(text),
        traceparent: meta.and_then(|meta| meta.traceparent).and_then(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_is_about_is_read_from_its_parameters() {
        let about = |text: &str| {
            let message = one(text).unwrap();
            let About { name, traceparent } = about_message(&message);
            (name.map(Cow::into_owned), traceparent.map(Cow::into_owned))
        };
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"traceparent":"00-a"},"name":"e\"x"}}"#;
        assert_eq!(about(text), (Some("e\"x".into()), Some("00-a".into())));
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"name":"x","_meta":{"traceparent":"00-b"}}}"#;
        assert_eq!(about(text), (None, Some("00-b".into())));
        for params in
            ["", r#","params":{}"#, r#","params":[1]"#, r#","params":{"name":1,"_meta":"traceparent"}"#]
        {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{params}}}"#);
            assert_eq!(about(&text), (None, None), "{params}");
        }
    }

    fn one(text: &str) -> Result<Message, Invalid> {
        match parse(Bytes::from(text.to_owned()))? {
            Payload::Single(message) => Ok(message),
            Payload::Batch(_) => panic!("a batch"),
        }
    }

    fn kind_of(text: &str) -> Kind {
        one(text).unwrap().kind
    }

    #[test]
    fn what_is_no_object_is_told_so_in_words_of_json() {
        for text in ["42", "\"x\"", "null", "[42]"] {
            let reason = parse(Bytes::from(text)).unwrap_err().to_string();
            assert!(reason.contains("expected an object"), "{text}: {reason}");
        }
        let nested = parse(Bytes::from(r#"[ ["2.0", 7, "ping"] ]"#)).unwrap_err();
        assert!(matches!(&nested, Invalid::NotRpc { .. }), "{nested}");
    }

    #[test]
    fn requests_notifications_and_responses_are_told_apart() {
        let id = RequestId::from(1);
        assert_eq!(
            kind_of(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#),
            Kind::Request { id: id.clone(), method: "ping".into(), progress_token: None }
        );
        assert_eq!(
            kind_of(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
            Kind::Notification { method: "notifications/initialized".into(), about: None }
        );
        assert_eq!(
            kind_of(r#"{"jsonrpc":"2.0","id":1,"result":null}"#),
            Kind::Response { id: Some(id.clone()), is_error: false }
        );
        assert_eq!(
            kind_of(r#"{"jsonrpc":"2.0","id":1,"error":{}}"#),
            Kind::Response { id: Some(id), is_error: true }
        );
        assert_eq!(
            kind_of(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#),
            Kind::Response { id: None, is_error: true }
        );
    }

    #[test]
    fn the_tokens_that_routing_needs_are_read() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"t","x":1}}}"#;
        let token = RequestId::String("t".into());
        assert!(matches!(kind_of(text), Kind::Request { progress_token: Some(t), .. } if t == token));
        let text = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t"}}"#;
        assert!(matches!(kind_of(text), Kind::Notification { about: Some(t), .. } if t == token));
        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"t"}}"#;
        assert!(matches!(kind_of(text), Kind::Notification { about: Some(t), .. } if t == token));
        // A token deeper down, as an argument of the tool, is none.
        let text =
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"progressToken":"t"}}}"#;
        assert!(matches!(kind_of(text), Kind::Request { progress_token: None, .. }));
    }

    #[test]
    fn the_text_passes_byte_for_byte() {
        let text = r#"{ "method":"x", "jsonrpc":"2.0","id":1,"params":{"z":1.0,"a":1e400,"n":12345678901234567890} }"#;
        assert_eq!(one(text).unwrap().line.as_str(), text);
    }

    #[test]
    fn what_is_not_one_json_value_is_a_parse_error() {
        for text in [
            "",
            "nonsense",
            "{",
            r#"{"jsonrpc":"2.0","id":1,"method":"x"}{"jsonrpc":"2.0","id":2,"method":"y"}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}\n{}",
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":01}}"#,
            "[1,2",
        ] {
            assert_eq!(parse(Bytes::from(text)).unwrap_err().code(), code::PARSE_ERROR, "{text}");
        }
        assert_eq!(parse(Bytes::from_static(b"\"\xff\"")).unwrap_err().code(), code::PARSE_ERROR);
    }

    #[test]
    fn what_is_json_but_no_message_is_an_invalid_request() {
        for text in [
            "1",
            "\"x\"",
            "null",
            "{}",
            "[]",
            r#"{"id":1,"method":"x"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"result":1}"#,
            r#"{"jsonrpc":"2.0","result":1}"#,
        ] {
            assert_eq!(parse(Bytes::from(text)).unwrap_err().code(), code::INVALID_REQUEST, "{text}");
        }
    }

    #[test]
    fn a_refused_message_is_answered_under_its_own_id() {
        let refused = one(r#"{"jsonrpc":"1.0","id":"q","method":"x"}"#).unwrap_err();
        assert_eq!(refused.id(), Some(&RequestId::String("q".into())));
    }

    #[test]
    fn a_batch_is_split_into_its_messages() {
        let text =
            "[ {\"jsonrpc\":\"2.0\",\n\"id\":1,\"method\":\"a\"}, {\"jsonrpc\":\"2.0\",\"method\":\"b\"} ]";
        let Payload::Batch(messages) = parse(Bytes::from(text)).unwrap() else { panic!("no batch") };
        assert_eq!(messages[0].line.as_str(), r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#);
        assert_eq!(messages[1].method(), Some("b"));
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"a":{deep}}}}}"#);
        assert!(one(&text).is_ok());
    }
}
