//! Messages of one era with the envelope of the other.

use crate::{
    era::{Refusal, Request},
    jsonrpc::{Kind, Line, Message, Object, RequestId},
    mcp::{self, meta},
};

/// What a modern request says of its sender, which a legacy server has been told once.
const OF_THE_SENDER: [&str; 4] =
    [meta::PROTOCOL_VERSION, meta::CLIENT_INFO, meta::CLIENT_CAPABILITIES, meta::LOG_LEVEL];

/// A response whose `member` (`result` or `error`) is JSON already.
fn response(id: &RequestId, member: &'static str, value: Line) -> Message {
    let mut out = Object::default();
    out.put("jsonrpc", &"2.0");
    out.put("id", id);
    out.set(member, value);
    Message {
        line: out.to_line(),
        kind: Kind::Response { id: Some(id.clone()), is_error: member == "error" },
    }
}

/// A successful response.
pub(super) fn result(id: &RequestId, result: Line) -> Message {
    response(id, "result", result)
}

/// A response that says what went wrong.
pub(super) fn error(id: &RequestId, error: Line) -> Message {
    response(id, "error", error)
}

/// A modern request as a legacy server takes it, under an id of the bridge's own, which is the progress token too.
pub(super) fn to_legacy(request: &Request, id: &RequestId) -> Result<Message, Refusal> {
    let unusable = |e: serde_json::Error| Refusal::InvalidParams(e.to_string());
    let mut outer = Object::of(&request.line).map_err(unusable)?;
    let mut params = outer.object("params").map_err(unusable)?;
    params.remove(mcp::INPUT_RESPONSES);
    params.remove(mcp::REQUEST_STATE);
    if &*request.method == mcp::CALL_TOOL {
        params.remove("task");
    }
    let mut about = params.object("_meta").map_err(unusable)?;
    about.retain(|key, _| !OF_THE_SENDER.contains(&key));
    match &request.meta.progress_token {
        Some(_) => about.put(meta::PROGRESS_TOKEN, id),
        None => drop(about.remove(meta::PROGRESS_TOKEN)),
    }
    let about = (!about.is_empty()).then(|| about.to_line());
    match about {
        Some(about) => params.set("_meta", about),
        None => drop(params.remove("_meta")),
    }
    let params = params.to_line();
    outer.put("id", id);
    outer.set("params", params);
    let progress_token = request.meta.progress_token.as_ref().map(|_| id.clone());
    let kind = Kind::Request { id: id.clone(), method: request.method.clone(), progress_token };
    Ok(Message { line: outer.to_line(), kind })
}

/// A notification with `change` made to its parameters; `None` when it has none that can be changed.
pub(super) fn notification(message: &Message, change: impl FnOnce(&mut Object<'_>)) -> Option<Message> {
    let mut outer = Object::of(&message.line).ok()?;
    let mut params = outer.object("params").ok()?;
    change(&mut params);
    let params = params.to_line();
    outer.set("params", params);
    Some(Message { line: outer.to_line(), kind: message.kind.clone() })
}

/// Says in `_meta` to which subscription parameters or a result belong.
pub(super) fn put_subscription(of: &mut Object<'_>, id: &RequestId) {
    put_meta(of, |about| about.put(meta::SUBSCRIPTION_ID, id));
}

/// Changes `_meta`, unless it is no object.
pub(super) fn put_meta(of: &mut Object<'_>, change: impl FnOnce(&mut Object<'_>)) {
    let Ok(mut about) = of.object("_meta") else { return };
    change(&mut about);
    let about = about.to_line();
    of.set("_meta", about);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{Payload, parse};

    fn legacy(params: &str) -> String {
        let meta = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{},
            "io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"info""#;
        let text = r#"{"id":"x","jsonrpc":"2.0","method":"tools/call","params":PARAMS,"more":1e400}"#;
        let text = text.replace("PARAMS", params).replace("META", meta);
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{params}") };
        to_legacy(&Request::read(message).unwrap(), &RequestId::from(7)).unwrap().line.as_str().to_owned()
    }

    #[test]
    fn what_a_legacy_server_does_not_know_goes_and_all_else_keeps_its_text() {
        assert_eq!(
            legacy(
                r#"{"task":{},"z":1.0,"inputResponses":{},"arguments":{"n": 1e400},"requestState":"s","_meta":{META}}"#
            ),
            r#"{"id":7,"jsonrpc":"2.0","method":"tools/call","params":{"z":1.0,"arguments":{"n": 1e400}},"more":1e400}"#
        );
        assert_eq!(
            legacy(r#"{"_meta":{"a/b":{"c": 1},META,"progressToken":"t","traceparent":"00"}}"#),
            concat!(
                r#"{"id":7,"jsonrpc":"2.0","method":"tools/call","params":{"_meta":{"a/b":{"c": 1},"#,
                r#""progressToken":7,"traceparent":"00"}},"more":1e400}"#
            )
        );
    }
}
