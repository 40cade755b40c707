//! The headers of Streamable HTTP that repeat what stands in a modern request.
//!
//! Source: revision 2026-07-28, `basic/transports/streamable-http`, "Request Metadata".

mod annotations;
mod tools;
mod value;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

pub use self::{
    annotations::Annotations,
    tools::{InvalidTool, ToolHeaders, next_cursor, without},
};
use super::{Refusal, Request};
use crate::{
    jsonrpc::{Line, Object},
    mcp,
};

/// The parameters of a request, as far as headers repeat them.
#[derive(Debug, Default)]
struct Mirrored {
    /// What `Mcp-Name` repeats.
    name: Option<String>,
    /// `params.arguments`.
    arguments: Option<Box<RawValue>>,
}

impl Mirrored {
    fn of(method: &str, line: &Line) -> Self {
        let read = || {
            let envelope = Object::parse(line.as_str()).ok()?;
            let params = envelope.object("params").ok()?;
            let name = mcp::named_by(method).and_then(|member| params.read(member));
            let arguments = params.get("arguments").filter(|_| method == mcp::CALL_TOOL);
            Some(Self { name, arguments: arguments.map(ToOwned::to_owned) })
        };
        read().unwrap_or_default()
    }
}

/// The tool that a `tools/call` names.
pub fn called_tool(request: &Request) -> Option<String> {
    if &*request.method == mcp::CALL_TOOL { Mirrored::of(&request.method, &request.line).name } else { None }
}

/// The headers to send with a request. `annotations` are those of the tool that it calls.
pub fn to_send(request: &Request, annotations: Option<&Annotations>) -> Vec<(HeaderName, HeaderValue)> {
    let mirrored = Mirrored::of(&request.method, &request.line);
    let mut out = vec![(mcp::PROTOCOL_VERSION, HeaderValue::from_static(mcp::MODERN_REVISION))];
    out.extend(value::plain(&request.method).map(|method| (mcp::METHOD_HEADER, method)));
    let name = mirrored.name.as_deref().and_then(value::encode);
    out.extend(name.map(|name| (mcp::NAME_HEADER, name)));
    let arguments = mirrored.arguments.as_deref();
    for annotation in annotations.into_iter().flat_map(Annotations::iter) {
        let value = annotation.value(arguments).and_then(|value| value::encode(&value.to_string()));
        out.extend(value.map(|value| (annotation.header.clone(), value)));
    }
    out
}

/// Whether the headers that came with a request say what it says itself. `annotations` are those of the tool that it
/// calls, where they are known.
///
/// # Errors
/// When they do not.
pub fn check(
    headers: &HeaderMap,
    request: &Request,
    annotations: Option<&Annotations>,
) -> Result<(), Refusal> {
    check_version(headers, mcp::MODERN_REVISION)?;
    expect_text(headers, &mcp::METHOD_HEADER, &request.method)?;
    let mirrored = Mirrored::of(&request.method, &request.line);
    if mcp::named_by(&request.method).is_some() {
        check_name(headers, mirrored.name.as_deref())?;
    }
    let arguments = mirrored.arguments.as_deref();
    for annotation in annotations.into_iter().flat_map(Annotations::iter) {
        let received = single(headers, &annotation.header)?;
        match (received, annotation.value(arguments)) {
            (None, None) => {}
            (Some(text), Some(value)) if value.equals(&decoded(&annotation.header, text)?) => {}
            (Some(_), Some(_)) => return Err(contradicts(&annotation.header)),
            (None, Some(_)) => return Err(missing(&annotation.header)),
            (Some(_), None) => {
                return Err(mismatch(&annotation.header, "stands for a value that is not there"));
            }
        }
    }
    Ok(())
}

/// Whether `MCP-Protocol-Version` names the revision that a request names.
///
/// # Errors
/// When it does not.
pub fn check_version(headers: &HeaderMap, revision: &str) -> Result<(), Refusal> {
    expect_text(headers, &mcp::PROTOCOL_VERSION, revision)
}

fn check_name(headers: &HeaderMap, name: Option<&str>) -> Result<(), Refusal> {
    match (single(headers, &mcp::NAME_HEADER)?, name) {
        (Some(text), Some(name)) if decoded(&mcp::NAME_HEADER, text)? == name => Ok(()),
        (Some(_), _) => Err(contradicts(&mcp::NAME_HEADER)),
        (None, Some(_)) => Err(missing(&mcp::NAME_HEADER)),
        // What the request lacks is for the server to say.
        (None, None) => Ok(()),
    }
}

/// A header whose value is never encoded.
fn expect_text(headers: &HeaderMap, name: &HeaderName, expected: &str) -> Result<(), Refusal> {
    match single(headers, name)? {
        Some(text) if text == expected => Ok(()),
        Some(_) => Err(contradicts(name)),
        None => Err(missing(name)),
    }
}

/// The one value of a header, without the white space around it.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(mismatch(name, "is there more than once")),
        (Some(value), None) => {
            let text =
                value::text(value).ok_or_else(|| mismatch(name, "has characters that it can't have"))?;
            Ok(Some(text))
        }
    }
}

fn decoded(name: &HeaderName, text: &str) -> Result<String, Refusal> {
    value::decode(text).ok_or_else(|| mismatch(name, "is not Base64 of UTF-8"))
}

fn missing(name: &HeaderName) -> Refusal {
    mismatch(name, "is missing")
}

fn contradicts(name: &HeaderName) -> Refusal {
    mismatch(name, "does not say what the body says")
}

fn mismatch(name: &HeaderName, how: &str) -> Refusal {
    Refusal::HeaderMismatch(format!("{name} {how}"))
}

#[cfg(test)]
mod tests;
