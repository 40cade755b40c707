//! Request ids and progress tokens: a string or a number.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

/// Longest id or token, in bytes of its JSON text: it is kept for as long as its request is in flight.
const MAX_TEXT: usize = 128 * 1024;

/// Most characters of an id that people are shown.
const MAX_SHOWN: usize = 64;

/// The integers that every JSON implementation keeps exactly (RFC 8259, section 6).
const EXACT: f64 = 9_007_199_254_740_991.0;

/// A request id or progress token, comparable: `1` and `"1"` differ, `1` and `1.0` do not. Clones share their text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// An integer of 64 bits with its sign, as nearly every id is.
    Integer(i64),
    /// Any other number, by its canonical text.
    Number(Arc<str>),
    /// A string, by its value.
    String(Arc<str>),
}

impl RequestId {
    /// Reads an id from its JSON text; `None` unless it is a string or a number.
    pub fn from_json(text: &str) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(text).ok().map(|s| Self::String(s.into())),
            b'-' | b'0'..=b'9' => Some(Self::number(&canonical_number(text))),
            _ => None,
        }
    }

    fn number(canonical: &str) -> Self {
        match canonical.parse() {
            Ok(integer) if canonical != "-0" => Self::Integer(integer),
            _ => Self::Number(canonical.into()),
        }
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        !matches!(self, Self::String(_))
    }

    /// The whole number that it is, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(n) => u64::try_from(*n).ok(),
            Self::Number(text) => text.parse().ok(),
            Self::String(_) => None,
        }
    }

    /// The id for a message to people: short, whatever its length.
    pub fn shown(&self) -> String {
        let text = self.to_string();
        match text.char_indices().nth(MAX_SHOWN) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        }
    }
}

/// One text for each number that peers may write in several ways.
pub(super) fn canonical_number(text: &str) -> Cow<'_, str> {
    if text.bytes().skip(1).all(|b| b.is_ascii_digit()) && text != "-0" {
        return text.into();
    }
    match text.parse::<f64>() {
        Ok(n) if n.fract() == 0.0 && n.abs() <= EXACT => format!("{}", n + 0.0).into(),
        _ => text.into(),
    }
}

impl From<u64> for RequestId {
    fn from(n: u64) -> Self {
        i64::try_from(n).map_or_else(|_| Self::Number(n.to_string().into()), Self::Integer)
    }
}

impl fmt::Display for RequestId {
    /// The id as JSON text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => n.fmt(f),
            Self::Number(text) => f.write_str(text),
            Self::String(s) => f.write_str(&serde_json::to_string(&**s).map_err(|_| fmt::Error)?),
        }
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).ok_or_else(|| de::Error::custom("an id must be a string or a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::from_json(text).unwrap()
    }

    #[test]
    fn equal_ids_are_equal_however_they_are_written() {
        assert_eq!(id("1"), id("1.0"));
        assert_eq!(id("100"), id("1e2"));
        assert_eq!(id("0"), id("-0"));
        assert_eq!(id(r#""a""#), id(r#""\u0061""#));
    }

    #[test]
    fn different_ids_stay_different() {
        assert_ne!(id("1"), id(r#""1""#));
        assert_ne!(id("1"), id("1.5"));
        assert_ne!(id("9007199254740993"), id("9007199254740992"));
        assert_ne!(id("1e400"), id("1e401"));
        assert_ne!(id("9223372036854775807"), id("9223372036854775808"));
    }

    #[test]
    fn a_whole_number_is_the_one_that_it_was_made_of() {
        for n in [0, 7, i64::MAX.unsigned_abs(), i64::MAX.unsigned_abs() + 1, u64::MAX] {
            assert_eq!((RequestId::from(n).as_u64(), id(&n.to_string())), (Some(n), RequestId::from(n)));
        }
        for text in ["-1", "1.5", r#""1""#, "18446744073709551616"] {
            assert_eq!(id(text).as_u64(), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["null", "true", "[]", "{}", ""] {
            assert_eq!(RequestId::from_json(text), None, "{text}");
        }
        assert_eq!(RequestId::from_json(&format!("\"{}\"", "x".repeat(MAX_TEXT))), None);
    }

    #[test]
    fn an_id_is_written_back_as_it_was_meant() {
        for text in ["7", "-7", r#""a\"b""#, "1.5", "9223372036854775808", "12345678901234567890123"] {
            assert_eq!(id(text).to_string(), text);
            assert_eq!(serde_json::to_string(&id(text)).unwrap(), text);
        }
    }
}
