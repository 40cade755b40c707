//! `Accept` and `Content-Type`, by their grammar (RFC 9110, sections 8.3 and 12.5.1).

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};

/// JSON.
pub const JSON: &str = "application/json";
/// Server-sent events.
pub const EVENTS: &str = "text/event-stream";
/// Both, as most clients name them.
const BOTH: &[u8] = b"application/json, text/event-stream";

/// Which kinds of answer a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub events: bool,
}

impl Accepts {
    /// Reads the `Accept` headers; without one nothing is accepted, since the protocol demands it.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut all = headers.get_all(ACCEPT).iter();
        if let (Some(value), None) = (all.next(), all.next())
            && value.as_bytes() == BOTH
        {
            return Self { json: true, events: true };
        }
        let values = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
        let ranges: Vec<_> = values.flat_map(split_list).filter_map(Range::parse).collect();
        Self { json: accepts(&ranges, JSON), events: accepts(&ranges, EVENTS) }
    }
}

/// Whether the body is announced as JSON, with whatever parameters.
pub fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    value.to_str().is_ok_and(|value| media_type(value).eq_ignore_ascii_case(JSON))
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// A media range with its weight.
struct Range<'a> {
    range: &'a str,
    refused: bool,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let range = media_type(text);
        range.contains('/').then(|| Self { range, refused: weight(text) <= 0.0 })
    }

    /// How closely the range names the type: 3 exactly, 2 by its first half, 1 by `*/*`.
    fn closeness(&self, media_type: &str) -> u8 {
        let (kind, sub) = self.range.split_once('/').unwrap_or_default();
        let (wanted_kind, _) = media_type.split_once('/').unwrap_or_default();
        match (kind, sub) {
            _ if self.range.eq_ignore_ascii_case(media_type) => 3,
            (kind, "*") if kind.eq_ignore_ascii_case(wanted_kind) => 2,
            ("*", "*") => 1,
            _ => 0,
        }
    }
}

fn weight(text: &str) -> f32 {
    let parameters = text.split(';').skip(1).filter_map(|p| p.split_once('='));
    let q =
        parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")).map(|(_, value)| value.trim());
    q.last().map_or(1.0, |q| q.parse().unwrap_or(0.0))
}

/// The closest range decides.
fn accepts(ranges: &[Range], media_type: &str) -> bool {
    let named = ranges.iter().filter(|r| r.closeness(media_type) > 0);
    named.max_by_key(|r| r.closeness(media_type)).is_some_and(|r| !r.refused)
}

/// Splits at commas that are not inside a quoted string.
fn split_list(value: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let at_comma = move |c: char| {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !literal => escaped = true,
            '"' if !literal => quoted = !quoted,
            _ => {}
        }
        c == ',' && !quoted
    };
    value.split(at_comma).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &str) -> (bool, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        let Accepts { json, events } = Accepts::of(&headers);
        (json, events)
    }

    #[test]
    fn an_accept_header_is_read_by_its_grammar() {
        assert_eq!(accepts("application/json, text/event-stream"), (true, true));
        assert_eq!(accepts("Application/JSON;charset=utf-8"), (true, false));
        assert_eq!(accepts("text/event-stream;q=0.5"), (false, true));
        assert_eq!(accepts("*/*"), (true, true));
        assert_eq!(accepts("text/*, application/json;q=0"), (false, true));
        assert_eq!(accepts("*/*, text/event-stream; q=0.000"), (true, false));
        assert_eq!(accepts("text/event-stream, */*;q=0"), (false, true));
        assert_eq!(accepts(r#"text/html;x="a,application/json""#), (false, false));
        assert_eq!(accepts("nonsense"), (false, false));
        assert_eq!(Accepts::of(&HeaderMap::new()), Accepts { json: false, events: false });
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        let is = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().unwrap());
            is_json(&headers)
        };
        assert!(is("application/json"));
        assert!(is("APPLICATION/JSON ; charset=UTF-8"));
        assert!(!is("text/plain; application/json"));
        assert!(!is("application/jsonp"));
        assert!(!is_json(&HeaderMap::new()));
    }
}
