//! Changes to a message's text that leave the rest of it byte for byte.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Line, object::Key};

/// The members of an object, as they stand in the text that holds it. No two have one name.
#[derive(Debug)]
pub struct Members<'a>(Vec<Member<'a>>);

#[derive(Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    /// With its quotes.
    key: &'a str,
    value: &'a str,
}

impl<'a> Members<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When `text` is no JSON object, or has two members of one name.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of the member `name`.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|member| member.name == name).map(|member| member.value)
    }

    /// The members of the member `name`, if that is an object.
    pub fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut members, mut names) = (Vec::new(), HashSet::new());
                while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    let Key(name) = serde_json::from_str(key.get()).map_err(de::Error::custom)?;
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("the member {name:?} is there twice")));
                    }
                    members.push(Member { name, key: key.get(), value: value.get() });
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

/// From this length on, in bytes, a text is changed without being copied. A shorter one is copied sooner than its pieces
/// are kept.
const LONG: usize = 32 * 1024;

/// Changes to one text, made all at once.
#[derive(Debug)]
pub struct Splice<'a> {
    line: &'a Line,
    text: &'a str,
    changes: Vec<(Range<usize>, String)>,
}

/// A piece of a changed text.
enum Part<'a> {
    Kept(&'a str),
    New(&'a str),
}

impl<'a> Splice<'a> {
    /// No change yet to `line`.
    pub fn new(line: &'a Line) -> Self {
        Self { line, text: line.as_str(), changes: Vec::new() }
    }

    /// The text that is changed.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Puts JSON text in the place of `part`, which is a piece of the text itself. No two changes may overlap.
    pub fn replace(&mut self, part: &'a str, with: &impl fmt::Display) {
        let place = self.place(part);
        self.changes.push((place, with.to_string()));
    }

    /// Takes out the member `name` of an object that is a piece of the text; at most one of an object.
    pub fn remove(&mut self, members: &Members<'a>, name: &str) {
        let Some(at) = members.0.iter().position(|member| member.name == name) else { return };
        let member = &members.0[at];
        let (key, value) = (self.place(member.key), self.place(member.value));
        let before = at.checked_sub(1).and_then(|before| members.0.get(before));
        let gone = match (before, members.0.get(at + 1)) {
            (Some(before), _) => self.place(before.value).end..value.end,
            (None, Some(after)) => key.start..self.place(after.key).start,
            (None, None) => key.start..value.end,
        };
        self.changes.push((gone, String::new()));
    }

    /// The text with its changes.
    pub fn finish(mut self) -> Line {
        self.changes.sort_by_key(|(place, _)| place.start);
        if self.text.len() < LONG {
            let parts: Vec<_> = self.parts().map(|(Part::Kept(text) | Part::New(text))| text).collect();
            return Line::new(parts.concat().into());
        }
        let pieces = self.parts().map(|part| match part {
            Part::Kept(text) => self.line.bytes().slice_ref(text.as_bytes()),
            // What is kept is of a line; this may be more than one.
            Part::New(text) => Line::new(Bytes::copy_from_slice(text.as_bytes())).bytes().clone(),
        });
        Line::spliced(pieces.collect())
    }

    /// The text with its changes, which are in order.
    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let ends = self.changes.iter().map(|(place, _)| place.end);
        let starts = self.changes.iter().map(|(place, _)| place.start).chain([self.text.len()]);
        let kept = std::iter::once(0).chain(ends).zip(starts).map(|(from, to)| self.text.get(from..to));
        let new = self.changes.iter().map(|(_, with)| with.as_str()).chain([""]);
        kept.zip(new).flat_map(|(kept, new)| [Part::Kept(kept.unwrap_or_default()), Part::New(new)])
    }

    fn place(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        debug_assert!(start + part.len() <= self.text.len(), "not a piece of the text");
        start..start + part.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::new(text.to_owned().into())
    }

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let line = line(r#"{ "id" : 7, "params":{"_meta":{"progressT\u006fken":"t" , "x":1.0},"n":1e400} }"#);
        let mut splice = Splice::new(&line);
        let members = Members::parse(splice.text()).unwrap();
        let meta = members.object("params").unwrap().object("_meta").unwrap();
        splice.replace(meta.get("progressToken").unwrap(), &12);
        splice.replace(members.get("id").unwrap(), &"\"long id\"");
        assert_eq!(
            splice.finish().as_str(),
            r#"{ "id" : "long id", "params":{"_meta":{"progressT\u006fken":12 , "x":1.0},"n":1e400} }"#
        );
    }

    #[test]
    fn a_long_text_is_changed_without_being_copied() {
        let long = "x".repeat(LONG);
        let text =
            |id, meta| format!(r#"{{"id":{id},"params":{{"_meta":{meta},"text":"{long}"}}, "n":1.0}}"#);
        let line = line(&text("7", r#"{"a":1,"progressToken":7}"#));
        let mut splice = Splice::new(&line);
        let members = Members::parse(splice.text()).unwrap();
        let meta = members.object("params").unwrap().object("_meta").unwrap();
        splice.remove(&meta, "a");
        splice.replace(meta.get("progressToken").unwrap(), &"\"\u{2028}\"");
        splice.replace(members.get("id").unwrap(), &12);
        let changed = splice.finish();
        let mut pieces = changed.pieces();
        let kept = std::iter::from_fn(|| pieces.next(usize::MAX)).max_by_key(Bytes::len).unwrap();
        assert!(kept.len() > LONG && line.bytes().as_ptr_range().contains(&kept.as_ptr()));
        let expected = text("12", r#"{"progressToken":"\u2028"}"#);
        assert_eq!((changed.len(), changed.detached().as_str()), (expected.len(), &*expected));
        assert_eq!((changed.as_str(), changed.clone().joined().as_str()), (&*expected, &*expected));
    }

    #[test]
    fn a_member_is_taken_out_with_its_comma() {
        for (text, name, left) in [
            (r#"{"a":1 , "b" : 2,"c":3}"#, "b", r#"{"a":1,"c":3}"#),
            (r#"{ "a":1 , "b":2}"#, "a", r#"{ "b":2}"#),
            (r#"{"a":1,"b":2 }"#, "b", r#"{"a":1 }"#),
            (r#"{ "a":[1] }"#, "a", "{  }"),
            (r#"{"a":1}"#, "b", r#"{"a":1}"#),
        ] {
            let line = line(text);
            let mut splice = Splice::new(&line);
            splice.remove(&Members::parse(line.as_str()).unwrap(), name);
            assert_eq!(splice.finish().as_str(), left);
        }
    }

    #[test]
    fn members_of_one_name_are_refused() {
        assert!(Members::parse(r#"{"a":1,"\u0061":2}"#).is_err());
        assert!(Members::parse("[]").is_err());
    }
}
