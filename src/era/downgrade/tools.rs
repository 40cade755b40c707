//! What of tools would break a client of an older revision: there, a schema and structured content are objects, and so
//! is what stands in a schema's `properties`.

use std::borrow::Cow;

use serde_json::{Value, json, value::RawValue};

use crate::jsonrpc::Object;

/// Makes the result of `tools/list` safe.
pub(super) fn listed(result: &mut Object<'_>) {
    let safe = result.read::<Vec<&RawValue>>("tools").and_then(|tools| {
        let safe: Vec<_> = tools.iter().map(|tool| safe_tool(tool)).collect();
        let changed = safe.iter().any(|tool| matches!(tool, Cow::Owned(_)));
        changed.then(|| serde_json::value::to_raw_value(&safe).ok())?
    });
    if let Some(safe) = safe {
        result.set("tools", safe);
    }
}

fn safe_tool(tool: &RawValue) -> Cow<'_, RawValue> {
    let Ok(mut safe) = Object::parse(tool.get()) else { return Cow::Borrowed(tool) };
    let mut changed = false;
    if safe.get("outputSchema").is_some_and(|schema| !is_of_objects(schema)) {
        safe.remove("outputSchema");
        changed = true;
    }
    for name in ["inputSchema", "outputSchema"] {
        if let Some(schema) = safe.get(name).and_then(safe_schema) {
            safe.set(name, schema);
            changed = true;
        }
    }
    if changed { Cow::Owned(safe.to_raw()) } else { Cow::Borrowed(tool) }
}

/// Whether what a schema describes is said to be an object.
fn is_of_objects(schema: &RawValue) -> bool {
    let kind = Object::parse(schema.get()).ok().and_then(|schema| schema.read::<String>("type"));
    kind.as_deref() == Some("object")
}

/// The schema with objects in the place of boolean schemas, if it has any.
fn safe_schema(schema: &RawValue) -> Option<Box<RawValue>> {
    let mut schema = Object::parse(schema.get()).ok()?;
    let properties = schema.object("properties").ok()?;
    let mut safe = properties.clone();
    let booleans = properties.members().filter(|(_, value)| matches!(value.get(), "true" | "false"));
    let mut changed = false;
    for (name, value) in booleans {
        safe.put(name, &if value.get() == "true" { json!({}) } else { json!({ "not": {} }) });
        changed = true;
    }
    let safe = changed.then(|| safe.to_raw())?;
    schema.set("properties", safe);
    Some(schema.to_raw())
}

/// Makes the result of `tools/call` safe: structured content that is no object is kept as text.
pub(super) fn called(result: &mut Object<'_>) {
    if result.get("structuredContent").is_none_or(|content| content.get().starts_with('{')) {
        return;
    }
    let Some(structured) = result.remove("structuredContent") else { return };
    let content: Vec<Box<RawValue>> = result.read("content").unwrap_or_default();
    if content.iter().any(|block| says(block, &structured)) {
        return;
    }
    let text = json!({ "type": "text", "text": structured.get() });
    let content: Vec<_> = content.into_iter().chain(serde_json::value::to_raw_value(&text)).collect();
    result.put("content", &content);
}

/// Whether a content block is text that says the same (`server/tools`, "Structured Content").
fn says(block: &RawValue, structured: &RawValue) -> bool {
    let text = Object::parse(block.get()).ok().and_then(|block| block.read::<String>("text"));
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    text.and_then(|text| value(&text)).is_some_and(|said| value(structured.get()).as_ref() == Some(&said))
}
