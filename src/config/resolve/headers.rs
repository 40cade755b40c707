//! `client.headers`.

use hyper::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};

use crate::config::{Secret, error::Fault, node::Origin, reader::Reader};

/// Headers that the transport sets itself, or that would change how a message is framed.
const OWNED: [&str; 20] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers whose values are secrets for certain.
const SECRET: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

/// Reads the extra request headers. Their values count as secrets.
pub(super) fn headers(r: &mut Reader<'_>) -> Result<Vec<(HeaderName, Secret)>, Fault> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    let authenticated = r.has("auth.bearer");
    for (written, value) in r.entries("client.headers")? {
        let name = HeaderName::from_bytes(written.as_bytes())
            .map_err(|_| value.secret_fault("stands under a name that is not a header's"))?;
        let fault = |message: &str| Err(value.about(&format!("the header {name} {message}")));
        if OWNED.contains(&name.as_str()) || name.as_str().starts_with("mcp-param-") {
            return fault("can't be set: the transport sets it; remove it");
        }
        if name == AUTHORIZATION && authenticated {
            return fault("can't be set beside `auth`, which sends it too; keep one");
        }
        if headers.iter().any(|(other, _)| *other == name) {
            return fault("is set twice (upper and lower case are the same); remove one");
        }
        if HeaderValue::from_str(&value.text).is_err() || !value.text.is_ascii() {
            return fault("has a value that no header can have; it must be printable ASCII");
        }
        if SECRET.contains(&name) && matches!(value.node.origin, Origin::Option(_)) {
            r.warnings.push(format!(
                "--header: everyone on this machine can read the value of {name} with `ps`; use --token-file or \
                 --token-env, or `client.headers` of the file"
            ));
        }
        headers.push((name, Secret::new(value.text)));
    }
    Ok(headers)
}
