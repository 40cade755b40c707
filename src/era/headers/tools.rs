//! What is known of the tools of a server.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Annotations;
use crate::jsonrpc::{Line, Object};

/// Most tools remembered.
const MAX_TOOLS: usize = 4096;
/// Longest name of a tool that is remembered, in bytes.
const MAX_NAME: usize = 1024;

/// Tool → the arguments that headers repeat. Fed by the results of `tools/list`.
#[derive(Debug, Default)]
pub struct ToolHeaders {
    by_name: HashMap<Box<str>, Arc<Annotations>>,
}

/// A tool that no client of Streamable HTTP may use, because its `x-mcp-header` is not as the specification has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidTool {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    result: Page<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tool<'a> {
    name: String,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
}

impl ToolHeaders {
    /// The annotations of a tool, if it is known.
    pub fn get(&self, tool: &str) -> Option<Arc<Annotations>> {
        self.by_name.get(tool).cloned()
    }

    /// Learns from a response to `tools/list`, which may be one page of several; returned are the tools that are
    /// invalid, of which nothing is remembered. Anything else than a result teaches nothing.
    pub fn learn(&mut self, response: &Line) -> Vec<InvalidTool> {
        let mut invalid = Vec::new();
        let tools = page(response).map(|page| page.tools).unwrap_or_default();
        for tool in tools.iter().filter_map(|tool| serde_json::from_str::<Tool>(tool.get()).ok()) {
            match tool.input_schema.map_or_else(|| Ok(Annotations::default()), Annotations::of) {
                Ok(annotations) => self.remember(tool.name, annotations),
                Err(why) => {
                    self.by_name.remove(tool.name.as_str());
                    invalid.push(InvalidTool { name: tool.name, why });
                }
            }
        }
        invalid
    }

    fn remember(&mut self, name: String, annotations: Annotations) {
        let known = self.by_name.contains_key(name.as_str());
        if name.len() <= MAX_NAME && (known || self.by_name.len() < MAX_TOOLS) {
            self.by_name.insert(name.into(), Arc::new(annotations));
        }
    }
}

/// A response to `tools/list` without the tools named, which no client may use.
pub fn without(response: &Line, invalid: &[InvalidTool]) -> Line {
    let read = || {
        let mut envelope = Object::of(response).ok()?;
        let result = envelope.line("result")?;
        let mut result = Object::of(&result).ok()?;
        let tools: Vec<Box<RawValue>> = result.read("tools")?;
        let is_invalid = |tool: &RawValue| {
            let tool: Option<Tool> = serde_json::from_str(tool.get()).ok();
            tool.is_some_and(|tool| invalid.iter().any(|invalid| invalid.name == tool.name))
        };
        let kept: Vec<_> = tools.into_iter().filter(|tool| !is_invalid(tool)).collect();
        result.put("tools", &kept);
        envelope.set("result", result.to_line());
        Some(envelope.to_line())
    };
    if invalid.is_empty() { response.clone() } else { read().unwrap_or_else(|| response.clone()) }
}

/// The `nextCursor` of a response to `tools/list`: there is another page.
pub fn next_cursor(response: &Line) -> Option<String> {
    page(response)?.next_cursor
}

fn page(response: &Line) -> Option<Page<'_>> {
    let response: Response = serde_json::from_str(response.as_str()).ok()?;
    Some(response.result)
}
