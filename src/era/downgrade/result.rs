//! A modern result, as a legacy client knows it.

use super::{input::InputRequired, tools};
use crate::{
    jsonrpc::{ErrorObject, Line, Object, RequestId},
    mcp,
};

/// What an answer comes to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The answer for the client.
    Complete(Line),
    /// The client is asked first.
    InputRequired(InputRequired),
}

/// Reads the answer to a call of `method`, which is for the client's request `id`.
pub(super) fn read(method: &str, answer: &Line, id: &RequestId) -> Result<Outcome, ErrorObject> {
    let mut answer = Object::of(answer).map_err(malformed)?;
    answer.put("id", id);
    let Some(result) = answer.line("result") else {
        return Ok(Outcome::Complete(answer.to_line())); // an error, which passes as it is
    };
    let mut result = Object::of(&result).map_err(malformed)?;
    match result_type(&mut result)?.as_deref() {
        None | Some("complete") => {}
        Some("input_required") if mcp::may_ask(method) => {
            return InputRequired::read(&result).map(Outcome::InputRequired).map_err(malformed);
        }
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            let text = format!("the MCP server answered {method} with a result of the type {other:?}");
            return Err(ErrorObject::internal("unknown_result_type", text));
        }
    }
    if mcp::is_cacheable(method) {
        result.remove("ttlMs");
        result.remove("cacheScope");
    }
    match method {
        mcp::LIST_TOOLS => tools::listed(&mut result),
        mcp::CALL_TOOL => tools::called(&mut result),
        _ => {}
    }
    answer.set("result", result.to_line());
    Ok(Outcome::Complete(answer.to_line()))
}

/// Takes the type out; results of servers that know of none are complete (`basic`, "Responses").
fn result_type(result: &mut Object<'_>) -> Result<Option<String>, ErrorObject> {
    let Some(raw) = result.remove("resultType") else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(malformed)
}

/// The error for an answer that is none.
pub(super) fn malformed(why: impl std::fmt::Display) -> ErrorObject {
    ErrorObject::internal("malformed_result", format!("the MCP server's answer can't be understood: {why}"))
}
