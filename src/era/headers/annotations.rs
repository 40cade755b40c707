//! `x-mcp-header` in a tool's input schema ("Schema Extension").

use std::collections::HashSet;

use hyper::header::HeaderName;
use serde_json::value::RawValue;

use super::value::Primitive;
use crate::{jsonrpc::Object, mcp, word::Word};

const KEY: &str = "x-mcp-header";
/// How deep a schema is looked into.
const MAX_DEPTH: usize = 64;
/// Most annotations of one tool.
const MAX_ANNOTATIONS: usize = 256;

/// Keywords whose value is a schema, or an array of schemas.
const SCHEMAS: [&str; 15] = [
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "oneOf",
    "anyOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
];
/// Keywords whose value has a schema under each name.
const NAMED_SCHEMAS: [&str; 5] =
    ["patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// The arguments of one tool that headers repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Annotation {
    pub(super) header: HeaderName,
    /// The properties that lead to the value, from the arguments down.
    path: Vec<String>,
}

impl Annotations {
    /// Reads those of an input schema.
    ///
    /// # Errors
    /// When one is not as the specification has it; why.
    pub fn of(schema: &RawValue) -> Result<Self, String> {
        // Most schemas have none and are read no further. Written with escapes it would be no client's either.
        static WORD: Word = Word::new(KEY);
        if !WORD.is_in(schema.get().as_bytes()) {
            return Ok(Self::default());
        }
        let mut walk = Walk { found: Vec::new(), names: HashSet::new(), path: Vec::new() };
        walk.schema(schema.get(), true, 0)?;
        Ok(Self(walk.found))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.0.iter()
    }
}

impl Annotation {
    /// The value at the annotation's path; `None` when there is none, or null.
    pub(super) fn value(&self, arguments: Option<&RawValue>) -> Option<Primitive> {
        let mut value = arguments?.to_owned();
        for name in &self.path {
            value = Object::parse(value.get()).ok()?.get(name)?.to_owned();
        }
        Primitive::read(&value)
    }
}

struct Walk {
    found: Vec<Annotation>,
    /// The headers found, which are in lower case.
    names: HashSet<HeaderName>,
    path: Vec<String>,
}

impl Walk {
    /// Looks through one schema. `reachable`: only `properties` lead to it from the root.
    fn schema(&mut self, text: &str, reachable: bool, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("its input schema is deeper than {MAX_DEPTH}"));
        }
        if text.starts_with('[') {
            let each: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| e.to_string())?;
            return each.iter().try_for_each(|schema| self.schema(schema.get(), false, depth + 1));
        }
        if !text.starts_with('{') {
            return Ok(()); // true and false are schemas too
        }
        let schema = Object::parse(text).map_err(|e| format!("its input schema: {e}"))?;
        if let Some(name) = schema.get(KEY) {
            self.annotation(name, &schema, reachable)?;
        }
        for keyword in SCHEMAS {
            schema.get(keyword).map_or(Ok(()), |inner| self.schema(inner.get(), false, depth + 1))?;
        }
        for keyword in NAMED_SCHEMAS {
            self.each(&schema, keyword, false, depth)?;
        }
        self.each(&schema, "properties", reachable, depth)
    }

    fn each(
        &mut self,
        schema: &Object<'_>,
        keyword: &str,
        reachable: bool,
        depth: usize,
    ) -> Result<(), String> {
        let Ok(named) = schema.object(keyword) else { return Ok(()) };
        for (name, inner) in named.members() {
            self.path.push(name.to_owned());
            self.schema(inner.get(), reachable, depth + 1)?;
            self.path.pop();
        }
        Ok(())
    }

    fn annotation(&mut self, name: &RawValue, schema: &Object<'_>, reachable: bool) -> Result<(), String> {
        let place = self.path.join(".");
        let name: String =
            serde_json::from_str(name.get()).map_err(|_| format!("{KEY} of {place:?} is no string"))?;
        if !reachable || self.path.is_empty() {
            return Err(format!("{KEY} {name:?} stands where no chain of properties leads to"));
        }
        let kind: Option<String> = schema.read("type");
        if !matches!(kind.as_deref(), Some("string" | "integer" | "boolean")) {
            return Err(format!("{KEY} {name:?} is of {place:?}, which is no string, integer or boolean"));
        }
        let header = HeaderName::from_bytes(format!("{}{name}", mcp::PARAM_HEADER_PREFIX).as_bytes());
        let header = header.ok().filter(|_| !name.is_empty());
        let header = header.ok_or_else(|| format!("{KEY} {name:?} can't be part of a header's name"))?;
        if !self.names.insert(header.clone()) {
            return Err(format!("{KEY} {name:?} is there twice"));
        }
        if self.found.len() >= MAX_ANNOTATIONS {
            return Err(format!("more than {MAX_ANNOTATIONS} arguments have {KEY}"));
        }
        self.found.push(Annotation { header, path: self.path.clone() });
        Ok(())
    }
}
