//! YAML text → [`Node`], and key path → line.
//!
//! The parser tells positions only in its errors. So a tree is read without them, and when an error must name
//! its line, the text is read once more by a seed that fails on purpose at the key in question.

mod locate;
mod read;

pub(super) use locate::locate;

use serde::de::DeserializeSeed;

use super::{
    error::Fault,
    node::{KeyPath, Node, Value},
};
use read::{Fill, Notes, Shape};

/// Reads one document.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let notes = Notes::default();
    let shape = Shape { notes: &notes, path: KeyPath::default() };
    let mut root = shape
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|e| unreadable(&e, notes.complaint.take(), text))?;
    Fill(&mut root)
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|e| unreadable(&e, None, text))?;
    match root.value {
        Value::Map(_) => Ok(root),
        Value::Null => Err(Fault::somewhere(
            "the file is empty: set `mode: server` with `mcp.command`, or `mode: client` with `client.url`",
        )),
        _ => Err(Fault::somewhere("expected lines of `key: value`, such as `mode: server`")),
    }
}

fn unreadable(error: &serde_yaml::Error, complaint: Option<String>, text: &str) -> Fault {
    let line = error.location().map(|location| location.line());
    let message = complaint.unwrap_or_else(|| explain(&error.to_string()));
    match line.or_else(|| message.starts_with("more than one").then(|| second_document(text)).flatten()) {
        Some(line) => Fault::on_line(line, message),
        None => Fault::somewhere(message),
    }
}

fn explain(error: &str) -> String {
    if error.contains("more than one document") {
        "more than one YAML document; remove the `---` and what follows".into()
    } else if error.contains("repetition limit") {
        "its aliases (`*name`) repeat too much".into()
    } else if error.contains("recursion limit") {
        "it is nested too deeply".into()
    } else if error.contains("invalid value") || error.contains("invalid type") {
        // These quote the value, which may be a secret.
        "a value or key that does not fit its place or its `!tag`".into()
    } else if error.contains("cannot start any token") || error.contains("tab character") {
        format!("not valid YAML: {error} (YAML is indented with spaces, never with tabs)")
    } else {
        format!("not valid YAML: {error}")
    }
}

/// The line of the marker between the first two documents; the parser does not tell.
fn second_document(text: &str) -> Option<usize> {
    let mut content = false;
    for (index, line) in text.lines().enumerate() {
        if content && (line.starts_with("---") || line.starts_with("...")) {
            return Some(index + 1);
        }
        content |= !line.trim_start().is_empty() && !line.starts_with(['#', '%']) && !line.starts_with("---");
    }
    None
}
