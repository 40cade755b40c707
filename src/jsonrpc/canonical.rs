//! One text for each JSON value.

use std::fmt::Write;

use serde_json::value::RawValue;

use super::{Object, id::canonical_number};

/// Values that lie deeper count by their text, so that a hostile one costs no more than an honest one.
const MAX_DEPTH: usize = 32;

/// The text that `value` has in common with each text of the same value: members in the order of their names, no white
/// space, one way to write a string and a number. What no reader takes for a value, such as an object with two members of
/// one name, counts by its text.
pub fn canonical(value: &RawValue) -> String {
    let mut out = String::with_capacity(value.get().len());
    write(value, 0, &mut out);
    out
}

fn write(value: &RawValue, depth: usize, out: &mut String) {
    let text = value.get();
    let written = match text.as_bytes().first() {
        Some(b'{') if depth < MAX_DEPTH => write_object(text, depth, out),
        Some(b'[') if depth < MAX_DEPTH => write_array(text, depth, out),
        Some(b'"') => write_string(text, out),
        Some(b'-' | b'0'..=b'9') => {
            out.push_str(&canonical_number(text));
            Some(())
        }
        _ => None,
    };
    if written.is_none() {
        out.push_str(text);
    }
}

fn write_object(text: &str, depth: usize, out: &mut String) -> Option<()> {
    let object = Object::parse(text).ok()?;
    let mut members: Vec<_> = object.members().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    for (i, (name, value)) in members.into_iter().enumerate() {
        let name = serde_json::Value::from(name);
        let _ = write!(out, "{}{name}:", if i == 0 { '{' } else { ',' });
        write(value, depth + 1, out);
    }
    out.push_str(if object.is_empty() { "{}" } else { "}" });
    Some(())
}

fn write_array(text: &str, depth: usize, out: &mut String) -> Option<()> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    out.push('[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(item, depth + 1, out);
    }
    out.push(']');
    Some(())
}

fn write_string(text: &str, out: &mut String) -> Option<()> {
    let string: String = serde_json::from_str(text).ok()?;
    out.push_str(&serde_json::Value::from(string).to_string());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        canonical(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn equal_values_have_one_text() {
        let one = of(r#"{"b":[1.0, 1e2, "\u0061"], "a" : {"y":null,"x":true}, "": {}}"#);
        assert_eq!(one, r#"{"":{},"a":{"x":true,"y":null},"b":[1,100,"a"]}"#);
        assert_eq!(of(&one), one);
    }

    #[test]
    fn different_values_have_different_texts() {
        let texts =
            ["1", "\"1\"", "1.5", "1e400", "[]", "{}", "[1,2]", "[2,1]", r#"{"a":1,"a":2}"#, "\"\\ud800\""];
        for (i, a) in texts.iter().enumerate() {
            assert!(texts[..i].iter().all(|b| of(a) != of(b)), "{a}");
        }
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(of(&deep), deep);
    }
}
