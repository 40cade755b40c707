//! `server.allowed_origins` and `server.cors`.

use std::time::Duration;

use hyper::{Method, header::HeaderName};

use crate::config::{Cors, error::Fault, leaf::Leaf, reader::Reader};

const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];

/// What MCP clients of both eras send.
const HEADERS: [&str; 8] = [
    "Accept",
    "Authorization",
    "Content-Type",
    "Last-Event-ID",
    "Mcp-Method",
    "Mcp-Name",
    "MCP-Protocol-Version",
    "Mcp-Session-Id",
];

const MAX_AGE: Duration = Duration::from_secs(600);

/// Reads a list of origins, each as a browser writes it.
pub(super) fn origins(r: &mut Reader<'_>, path: &str) -> Result<Option<Vec<String>>, Fault> {
    let Some(list) = r.list(path)? else { return Ok(None) };
    let alone = list.len() == 1;
    list.into_iter().map(|leaf| origin(leaf, alone)).collect::<Result<_, _>>().map(Some)
}

fn origin(leaf: Leaf<'_>, alone: bool) -> Result<String, Fault> {
    if leaf.text == "*" {
        return if alone {
            Ok(leaf.text)
        } else {
            Err(leaf.fault("allows every origin; remove the others, or it"))
        };
    }
    if leaf.text == "null" {
        return Ok(leaf.text);
    }
    // A browser compares bytes: a path or a slash at the end would never match.
    let shape = leaf.text.split_once("://").is_some_and(|(scheme, host)| {
        scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !scheme.is_empty()
            && !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'?' | b'#' | b'@' | b'*'))
    });
    if shape {
        return Ok(leaf.text);
    }
    Err(leaf.fault("is not an origin; write scheme://host or scheme://host:port, and nothing after it"))
}

/// Reads `server.cors`; nothing when the section is missing or not enabled.
pub(super) fn cors(r: &mut Reader<'_>) -> Result<Option<Cors>, Fault> {
    if !r.has("server.cors") || !r.flag("server.cors.enabled", true)? {
        return Ok(None);
    }
    let allowed_origins = origins(r, "server.cors.allowed_origins")?
        .ok_or_else(|| r.fault("server.cors.allowed_origins", "missing; list the origins that may call"))?;
    let allow_credentials = r.flag("server.cors.allow_credentials", false)?;
    if allow_credentials && allowed_origins == ["*"] {
        return Err(r.fault(
            "server.cors.allow_credentials",
            "browsers refuse credentials with the origin `*`; list the origins, or set it to false",
        ));
    }
    Ok(Some(Cors {
        allowed_origins,
        allowed_methods: tokens(r, "server.cors.allowed_methods", is_method)?
            .unwrap_or(METHODS.map(Into::into).into()),
        allowed_headers: tokens(r, "server.cors.allowed_headers", is_header)?
            .unwrap_or(HEADERS.map(Into::into).into()),
        exposed_headers: tokens(r, "server.cors.exposed_headers", is_header)?.unwrap_or_default(),
        allow_credentials,
        max_age: max_age(r)?,
    }))
}

fn tokens(r: &mut Reader<'_>, path: &str, is_valid: fn(&str) -> bool) -> Result<Option<Vec<String>>, Fault> {
    let Some(list) = r.list(path)? else { return Ok(None) };
    if let Some(wrong) = list.iter().find(|leaf| !is_valid(&leaf.text)) {
        return Err(wrong.fault("can't stand here; write methods like POST, headers like Content-Type"));
    }
    Ok(Some(list.into_iter().map(|leaf| leaf.text).collect()))
}

fn is_method(text: &str) -> bool {
    Method::from_bytes(text.as_bytes()).is_ok() && !text.bytes().any(|b| b.is_ascii_lowercase())
}

fn is_header(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// Other servers take a number of seconds here; so do we.
fn max_age(r: &mut Reader<'_>) -> Result<Duration, Fault> {
    let read = |text: &str| {
        let seconds = text.parse::<u32>().map(|seconds| Duration::from_secs(seconds.into()));
        seconds.or_else(|_| crate::config::duration::parse(text))
    };
    Ok(r.parsed("server.cors.max_age", read)?.unwrap_or(MAX_AGE))
}
