//! Answers of a legacy server as a modern client takes them.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::rewrite;
use crate::{
    jsonrpc::{Line, Message, Object, RequestId, code},
    mcp::{self, meta},
};

/// What a response says. It shares the memory of the response.
#[derive(Debug)]
pub(super) enum Answer {
    Result(Line),
    Error(Line),
}

impl Answer {
    /// Reads a response; a text that is none counts as an empty result.
    pub(super) fn read(line: &Line) -> Self {
        #[derive(Deserialize)]
        struct Response<'a> {
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        match serde_json::from_str::<Response>(line.as_str()) {
            Ok(Response { error: Some(error), .. }) => Self::Error(line.part(error)),
            Ok(Response { result: Some(result), .. }) => Self::Result(line.part(result)),
            _ => Self::Result(line.part(RawValue::NULL)),
        }
    }

    /// A copy that holds no more memory than it needs.
    pub(super) fn detached(&self) -> Self {
        match self {
            Self::Result(result) => Self::Result(result.detached()),
            Self::Error(error) => Self::Error(error.detached()),
        }
    }

    /// The code of an error.
    pub(super) fn code(&self) -> Option<i64> {
        let Self::Error(error) = self else { return None };
        Object::of(error).ok()?.read("code")
    }

    /// Whether the request has failed: with an error, or a tool with a result that says so.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Error(_) => true,
            Self::Result(result) => {
                Object::of(result).is_ok_and(|result| result.read("isError") == Some(true))
            }
        }
    }

    /// The elicitations by URL that must come first (2025-11-25, -32042): parameters of each.
    pub(super) fn visits(&self) -> Option<Vec<Line>> {
        let Self::Error(error) = self else { return None };
        if self.code()? != i64::from(mcp::code::URL_ELICITATION_REQUIRED) {
            return None;
        }
        let error = Object::of(error).ok()?;
        let data = error.object("data").ok()?;
        let elicitations: Vec<&RawValue> = data.read("elicitations")?;
        let params = elicitations.into_iter().map(|params| {
            let mut params = Object::parse(params.get()).ok()?;
            params.put_if_absent("mode", &"url");
            Some(params.to_line())
        });
        params.collect::<Option<Vec<_>>>().filter(|params| !params.is_empty())
    }

    /// The answer to the client's request `id` for `method`.
    pub(super) fn to_modern(&self, id: &RequestId, method: &str, server: Option<&RawValue>) -> Message {
        match self {
            Self::Error(error) => rewrite::error(id, to_modern_error(error)),
            Self::Result(result) => {
                let Ok(mut object) = Object::of(result) else {
                    return rewrite::result(id, result.clone());
                };
                complete(&mut object, method, server);
                if method == mcp::LIST_TOOLS {
                    hide_tasks(&mut object);
                }
                rewrite::result(id, object.to_line())
            }
        }
    }
}

/// Adds what modern results have, and overwrites nothing.
pub(super) fn complete(result: &mut Object<'_>, method: &str, server: Option<&RawValue>) {
    result.put_if_absent("resultType", &"complete");
    if mcp::is_cacheable(method) {
        result.put_if_absent("ttlMs", &0);
        result.put_if_absent("cacheScope", &"private");
    }
    if let Some(server) = server {
        rewrite::put_meta(result, |about| about.put_if_absent(meta::SERVER_INFO, &server));
    }
}

/// Tasks can't be bridged: no tool says that it can run as one, and those that must are not there.
fn hide_tasks(result: &mut Object<'_>) {
    let Some(tools) = result.read::<Vec<&RawValue>>("tools") else { return };
    let shown: Vec<_> = tools.into_iter().filter_map(without_tasks).collect();
    let shown = serde_json::value::to_raw_value(&shown);
    if let Ok(shown) = shown {
        result.set("tools", shown);
    }
}

fn without_tasks(tool: &RawValue) -> Option<Box<RawValue>> {
    let Ok(mut object) = Object::parse(tool.get()) else { return Some(tool.to_owned()) };
    let Some(execution) = object.remove("execution") else { return Some(tool.to_owned()) };
    let support = Object::parse(execution.get()).ok().and_then(|e| e.read::<String>("taskSupport"));
    (support.as_deref() != Some("required")).then(|| object.to_raw())
}

/// Codes that mean something else in 2026-07-28, or nothing any more, are replaced.
fn to_modern_error(error: &Line) -> Line {
    const TAKEN: std::ops::RangeInclusive<i64> = -32099..=-32020;
    let Ok(mut object) = Object::of(error) else { return error.clone() };
    match object.read::<i64>("code") {
        Some(number) if number == i64::from(mcp::code::RESOURCE_NOT_FOUND) => {
            object.put("code", &code::INVALID_PARAMS);
            object.to_line()
        }
        Some(number) if TAKEN.contains(&number) => {
            let mut data = Object::default();
            data.put("source", &"mcp-bridge");
            data.put("reason", &"legacy_error");
            data.set("error", error.clone());
            object.put("code", &code::INTERNAL_ERROR);
            object.set("data", data.to_line());
            object.to_line()
        }
        _ => error.clone(),
    }
}

/// One `ClientCapabilities` object of two.
pub(super) fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert_with(|| json!({})), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(member: &str, text: &str) -> Answer {
        let line = RawValue::from_string(text.to_owned()).unwrap().into();
        if member == "error" { Answer::Error(line) } else { Answer::Result(line) }
    }

    fn modern(member: &str, text: &str, method: &str) -> String {
        let server = RawValue::from_string(r#"{"name":"s"}"#.to_owned()).unwrap();
        let message = answer(member, text).to_modern(&RequestId::from(1), method, Some(&server));
        let text = message.line.as_str().strip_prefix(r#"{"jsonrpc":"2.0","id":1,"#).unwrap();
        text.strip_suffix('}')
            .unwrap()
            .replace(r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}"#, "META")
    }

    #[test]
    fn a_result_gets_what_it_lacks_and_keeps_what_it_has() {
        for (method, legacy, expected) in [
            (
                "tools/call",
                r#"{"content":[],"n":1e400}"#,
                r#"{"content":[],"n":1e400,"resultType":"complete",META}"#,
            ),
            ("tools/call", r#"{"resultType":"x","_meta":7}"#, r#"{"resultType":"x","_meta":7}"#),
            ("x/y", r#"{"ttlMs":null}"#, r#"{"ttlMs":null,"resultType":"complete",META}"#),
            (
                "resources/read",
                r#"{"ttlMs":5}"#,
                r#"{"ttlMs":5,"resultType":"complete","cacheScope":"private",META}"#,
            ),
            ("tools/call", "null", "null"),
            ("tools/call", r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#),
        ] {
            assert_eq!(modern("result", legacy, method), format!(r#""result":{expected}"#), "{legacy}");
        }
        let own = r#"{"_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{"name":"other"}},"resultType":"complete"}"#;
        assert_eq!(modern("result", own, "tools/call"), format!(r#""result":{own}"#));
    }

    #[test]
    fn tools_that_need_tasks_are_hidden() {
        let tools = r#"{"tools":[{"name":"a","x":1.0},{"name":"b","execution":{"taskSupport":"required"}},
            {"name":"c","execution":{"taskSupport":"optional"},"y":2}]}"#;
        assert_eq!(
            modern("result", tools, "tools/list"),
            concat!(
                r#""result":{"tools":[{"name":"a","x":1.0},{"name":"c","y":2}],"#,
                r#""resultType":"complete","ttlMs":0,"cacheScope":"private",META}"#
            )
        );
        let odd = modern("result", r#"{"tools":7}"#, "tools/list");
        assert!(odd.starts_with(r#""result":{"tools":7,"#), "{odd}");
    }

    #[test]
    fn error_codes_that_mean_something_else_now_are_replaced() {
        for (legacy, expected) in [
            (
                r#"{"code":-32000,"message":"m","data":1e400}"#,
                r#"{"code":-32000,"message":"m","data":1e400}"#,
            ),
            (r#"{"code":-32602,"message":"m"}"#, r#"{"code":-32602,"message":"m"}"#),
            (
                r#"{"code":-32002,"message":"m","data":{"uri":"u"}}"#,
                r#"{"code":-32602,"message":"m","data":{"uri":"u"}}"#,
            ),
            (
                r#"{"code":-32042,"message":"m"}"#,
                concat!(
                    r#"{"code":-32603,"message":"m","data":{"source":"mcp-bridge","reason":"legacy_error","#,
                    r#""error":{"code":-32042,"message":"m"}}}"#
                ),
            ),
            ("7", "7"),
        ] {
            assert_eq!(modern("error", legacy, "tools/call"), format!(r#""error":{expected}"#), "{legacy}");
        }
        for (code, taken) in [(-32019, false), (-32020, true), (-32099, true), (-32100, false)] {
            let error = modern("error", &format!(r#"{{"code":{code},"message":""}}"#), "x");
            assert_eq!(error.contains("legacy_error"), taken, "{error}");
        }
    }

    #[test]
    fn required_capabilities_add_up() {
        let mut all = json!({});
        for more in
            [json!({"sampling": {}}), json!({"elicitation": {"url": {}}}), json!({"sampling": {"tools": {}}})]
        {
            merge(&mut all, &more);
        }
        assert_eq!(all, json!({"sampling": {"tools": {}}, "elicitation": {"url": {}}}));
    }
}
