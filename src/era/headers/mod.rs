//! The headers of Streamable HTTP that repeat what stands in a modern request.
//!
//! Source: revision 2026-07-28, `basic/transports/streamable-http`, "Request Metadata".

mod annotations;
mod tools;
mod value;

use std::borrow::Cow;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use self::value::Primitive;
pub use self::{
    annotations::Annotations,
    tools::{InvalidTool, ToolHeaders, next_cursor, without},
};
use super::{Refusal, Request, params};
use crate::mcp;

/// The annotations with the value that a request has for each.
fn annotated<'a>(
    request: &Request,
    annotations: Option<&'a Annotations>,
) -> Vec<(&'a HeaderName, Option<Primitive>)> {
    let mut each = annotations.into_iter().flat_map(Annotations::iter).peekable();
    // Few tools have any, and reading the arguments takes as long as they are.
    let arguments = each.peek().and_then(|_| arguments(request));
    each.map(|annotation| (&annotation.header, annotation.value(arguments.as_deref()))).collect()
}

fn arguments(request: &Request) -> Option<Cow<'_, RawValue>> {
    called_tool(request)?;
    params(&request.line).ok()?.remove("arguments")
}

/// The tool that a `tools/call` names.
pub fn called_tool(request: &Request) -> Option<&str> {
    if &*request.method == mcp::CALL_TOOL { request.named.as_deref() } else { None }
}

/// The headers to send with a request. `annotations` are those of the tool that it calls.
pub fn to_send(request: &Request, annotations: Option<&Annotations>) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = vec![(mcp::PROTOCOL_VERSION, HeaderValue::from_static(mcp::MODERN_REVISION))];
    out.extend(value::plain(&request.method).map(|method| (mcp::METHOD_HEADER, method)));
    let name = request.named.as_deref().and_then(value::encode);
    out.extend(name.map(|name| (mcp::NAME_HEADER, name)));
    for (header, value) in annotated(request, annotations) {
        let value = value.and_then(|value| value::encode(&value.to_string()));
        out.extend(value.map(|value| (header.clone(), value)));
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
    if mcp::named_by(&request.method).is_some() {
        check_name(headers, request.named.as_deref())?;
    }
    for (header, value) in annotated(request, annotations) {
        match (single(headers, header)?, value) {
            (None, None) => {}
            (Some(text), Some(value)) if value.equals(&decoded(header, text)?) => {}
            (Some(_), Some(_)) => return Err(contradicts(header)),
            (None, Some(_)) => return Err(missing(header)),
            (Some(_), None) => return Err(mismatch(header, "stands for a value that is not there")),
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
