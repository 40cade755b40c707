//! Values in headers: which characters they have, and Base64 for those that have others ("Value Encoding").

use std::fmt;

use hyper::header::HeaderValue;
use serde_json::value::RawValue;

use crate::jsonrpc::RequestId;

const BEFORE: &str = "=?base64?";
const AFTER: &str = "?=";

/// The value of an argument that a header repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Primitive {
    String(String),
    /// A number, as an id would be: equal however it is written.
    Number(RequestId),
    Bool(bool),
}

impl Primitive {
    /// Reads an argument; `None` for null and for what no header can repeat.
    pub(super) fn read(value: &RawValue) -> Option<Self> {
        match value.get() {
            "true" => Some(Self::Bool(true)),
            "false" => Some(Self::Bool(false)),
            text => match RequestId::from_json(text) {
                Some(number) if number.is_number() => Some(Self::Number(number)),
                _ => serde_json::from_str(text).ok().map(Self::String),
            },
        }
    }

    /// Whether a header's value, decoded, is this one.
    pub(super) fn equals(&self, text: &str) -> bool {
        match self {
            Self::String(own) => own == text,
            Self::Bool(own) => own.to_string() == text,
            Self::Number(own) => {
                // Not as a `Number`, which is no larger than a double.
                serde_json::from_str::<&RawValue>(text).is_ok()
                    && RequestId::from_json(text).is_some_and(|number| number == *own)
            }
        }
    }
}

impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// The text of a header's value without the white space around it; `None` when it has characters that it can't have.
pub(super) fn text(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?.trim_matches([' ', '\t']);
    text.bytes().all(is_plain).then_some(text)
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

/// A value that needs no encoding.
pub(super) fn plain(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// A value as a header carries it.
pub(super) fn encode(text: &str) -> Option<HeaderValue> {
    let safe =
        text.bytes().all(is_plain) && text.trim_matches([' ', '\t']) == text && encoded(text).is_none();
    if safe {
        return plain(text);
    }
    plain(&format!("{BEFORE}{}{AFTER}", openssl::base64::encode_block(text.as_bytes())))
}

/// What a header's value stands for; `None` when it is encoded wrongly.
pub(super) fn decode(text: &str) -> Option<String> {
    let Some(base64) = encoded(text) else { return Some(text.to_owned()) };
    if base64.is_empty() {
        return Some(String::new());
    }
    let bytes = openssl::base64::decode_block(base64).ok()?;
    // OpenSSL forgives white space and bits that stand for nothing; only one text stands for each value.
    let strict = openssl::base64::encode_block(&bytes) == base64;
    String::from_utf8(bytes).ok().filter(|_| strict)
}

fn encoded(text: &str) -> Option<&str> {
    text.strip_prefix(BEFORE)?.strip_suffix(AFTER)
}
