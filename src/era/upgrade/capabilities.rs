//! What a modern client can do, as a legacy server is told.

use serde_json::{Value, json, value::RawValue};

use crate::{
    jsonrpc::{Object, canonical},
    mcp,
};

/// Longest text of the extensions that a server is told of; longer ones are left out.
const MAX_EXTENSIONS: usize = 4 * 1024;

/// The capabilities that a legacy server can make use of. Clients with equal ones can share a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    roots: bool,
    sampling: bool,
    sampling_tools: bool,
    sampling_context: bool,
    form: bool,
    url: bool,
    /// As canonical JSON; empty for none.
    extensions: Box<str>,
}

/// What to do with a request of the server's.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The client has declared that it can answer.
    Declared,
    /// It has not declared this: a `ClientCapabilities` object.
    Lacking(Value),
    /// No client answers such requests.
    NoSuchMethod,
}

impl Capabilities {
    /// Reads a `ClientCapabilities` object.
    pub fn read(declared: &RawValue) -> Self {
        let declared = Object::parse(declared.get()).unwrap_or_default();
        let (sampling, elicitation) = (part(&declared, "sampling"), part(&declared, "elicitation"));
        let has = |of: &Option<Object<'_>>, key| of.as_ref().is_some_and(|of| part(of, key).is_some());
        let url = has(&elicitation, "url");
        Self {
            roots: part(&declared, "roots").is_some(),
            sampling: sampling.is_some(),
            sampling_tools: has(&sampling, "tools"),
            sampling_context: has(&sampling, "context"),
            form: elicitation.is_some() && (has(&elicitation, "form") || !url),
            url,
            extensions: part(&declared, "extensions").map_or_else(Box::default, extensions),
        }
    }

    /// Whether the client answers any question at all.
    pub fn answers(&self) -> bool {
        self.roots || self.sampling || self.form || self.url
    }

    /// Whether the client answers elicitations by URL.
    pub(super) fn visits_urls(&self) -> bool {
        self.url
    }

    /// The capabilities that `initialize` names.
    pub(super) fn to_legacy(&self) -> Box<RawValue> {
        let mut out = Object::default();
        if self.roots {
            out.put("roots", &json!({}));
        }
        if self.sampling {
            let flags = [("tools", self.sampling_tools), ("context", self.sampling_context)];
            out.put("sampling", &flagged(&flags));
        }
        match (self.form, self.url) {
            (false, false) => {}
            // Until 2025-06-18 there is no other form to say it in.
            (true, false) => out.put("elicitation", &json!({})),
            (form, url) => out.put("elicitation", &flagged(&[("form", form), ("url", url)])),
        }
        if let Ok(extensions) = RawValue::from_string(self.extensions.to_string()) {
            out.set("extensions", extensions);
        }
        out.to_raw()
    }

    /// Whether the server may ask this.
    pub(super) fn judge(&self, method: &str, params: &Object<'_>) -> Verdict {
        let needs_tools = params.get("tools").or(params.get("toolChoice")).is_some();
        let by_url = params.read::<String>("mode").is_some_and(|mode| mode == "url");
        let (declared, required) = match method {
            mcp::LIST_ROOTS => (self.roots, json!({ "roots": {} })),
            mcp::SAMPLE if needs_tools => (self.sampling_tools, json!({ "sampling": { "tools": {} } })),
            mcp::SAMPLE => (self.sampling, json!({ "sampling": {} })),
            mcp::ELICIT if by_url => (self.url, json!({ "elicitation": { "url": {} } })),
            mcp::ELICIT => (self.form, json!({ "elicitation": { "form": {} } })),
            _ => return Verdict::NoSuchMethod,
        };
        if declared { Verdict::Declared } else { Verdict::Lacking(required) }
    }
}

fn part<'a>(object: &'a Object<'_>, key: &str) -> Option<Object<'a>> {
    Object::parse(object.get(key)?.get()).ok()
}

fn flagged(flags: &[(&str, bool)]) -> Value {
    flags.iter().filter(|(_, set)| *set).map(|(name, _)| ((*name).to_owned(), json!({}))).collect()
}

/// Tasks can't be bridged.
fn extensions(mut declared: Object<'_>) -> Box<str> {
    declared.remove(mcp::TASKS_EXTENSION);
    let text = canonical(&declared.to_raw());
    if declared.is_empty() || text.len() > MAX_EXTENSIONS { Box::default() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Capabilities {
        Capabilities::read(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_flags_that_a_legacy_server_knows_are_passed_on() {
        for (declared, told) in [
            ("{}", "{}"),
            (r#"{"roots":{"listChanged":true},"experimental":{"x":{}}}"#, r#"{"roots":{}}"#),
            (
                r#"{"sampling":{"tools":{},"context":{"x":1},"y":{}}}"#,
                r#"{"sampling":{"context":{},"tools":{}}}"#,
            ),
            (r#"{"elicitation":{}}"#, r#"{"elicitation":{}}"#),
            (r#"{"elicitation":{"url":{}}}"#, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, r#"{"elicitation":{"form":{},"url":{}}}"#),
            (r#"{"roots":true,"sampling":null}"#, "{}"),
            (r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#, "{}"),
            (r#"{"extensions":{"b/y":{"z":1},"a/x":{}}}"#, r#"{"extensions":{"a/x":{},"b/y":{"z":1}}}"#),
        ] {
            assert_eq!(read(declared).to_legacy().get(), told, "{declared}");
        }
        let large = format!(r#"{{"extensions":{{"a/x":"{}"}}}}"#, "x".repeat(MAX_EXTENSIONS));
        assert_eq!(read(&large), Capabilities::default());
    }

    #[test]
    fn equal_capabilities_are_equal_however_they_are_written() {
        assert_eq!(
            read(r#"{"elicitation":{},"roots":{}}"#),
            read(r#"{"roots":{"x":1},"elicitation":{"form":{}}}"#)
        );
        assert_ne!(read(r#"{"elicitation":{"url":{}}}"#), read(r#"{"elicitation":{}}"#));
    }

    #[test]
    fn what_is_not_declared_is_named() {
        let client = read(r#"{"sampling":{},"elicitation":{}}"#);
        let judge = |method, params| client.judge(method, &Object::parse(params).unwrap());
        assert_eq!(judge("sampling/createMessage", "{}"), Verdict::Declared);
        let tools = json!({ "sampling": { "tools": {} } });
        assert_eq!(judge("sampling/createMessage", r#"{"tools":[]}"#), Verdict::Lacking(tools));
        assert_eq!(judge("elicitation/create", r#"{"mode":"form"}"#), Verdict::Declared);
        let url = json!({ "elicitation": { "url": {} } });
        assert_eq!(judge("elicitation/create", r#"{"mode":"url"}"#), Verdict::Lacking(url));
        assert_eq!(judge("roots/list", "{}"), Verdict::Lacking(json!({ "roots": {} })));
        assert_eq!(judge("tasks/get", "{}"), Verdict::NoSuchMethod);
    }
}
