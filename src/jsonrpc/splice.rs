//! Changes to a message's text that leave the rest of it byte for byte.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Line, line::Parts, object::Key};

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

/// Changes to one text, made all at once.
#[derive(Debug)]
pub struct Splice<'a> {
    line: &'a Line,
    text: &'a str,
    changes: Vec<(Range<usize>, String)>,
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

    /// The text with its changes. What is long and not changed is not copied, if the line may lend its memory.
    pub fn finish(mut self) -> Line {
        self.changes.sort_by_key(|(place, _)| place.start);
        let new: usize = self.changes.iter().map(|(_, with)| with.len()).sum();
        let gone: usize = self.changes.iter().map(|(place, _)| place.len()).sum();
        let length = (self.text.len() + new).saturating_sub(gone);
        let lender = self.line.lender_to(length);
        let kept = |place: Range<usize>| self.text.get(place).unwrap_or_default();
        let mut parts = Parts::of_length(length);
        let mut done = 0;
        for (place, with) in &self.changes {
            parts.add(kept(done..place.start), lender);
            parts.copy(with);
            done = place.end;
        }
        parts.add(kept(done..self.text.len()), lender);
        parts.finish_after(lender.filter(|_| self.changes.len() == 1))
    }

    fn place(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        debug_assert!(start + part.len() <= self.text.len(), "not a piece of the text");
        start..start + part.len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::jsonrpc::line::LONG;

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
        let kept = changed.pieces().into_iter().max_by_key(Bytes::len).unwrap();
        assert!(kept.len() > LONG && line.bytes().as_ptr_range().contains(&kept.as_ptr()));
        let expected = text("12", r#"{"progressToken":"\u2028"}"#);
        assert_eq!((changed.len(), changed.detached().as_str()), (expected.len(), &*expected));
        assert_eq!((changed.as_str(), changed.clone().joined().as_str()), (&*expected, &*expected));
        assert_eq!(changed.before_change(), None);
        let mut splice = Splice::new(&line);
        splice.replace(members.get("id").unwrap(), &12);
        let before = splice.finish().before_change().unwrap();
        assert_eq!(before.bytes().as_ptr_range(), line.bytes().as_ptr_range());
    }

    #[test]
    fn what_is_left_of_a_text_does_not_hold_all_of_it() {
        let (long, longer) = ("x".repeat(LONG), "x".repeat(2 * LONG + 100));
        let line = line(&format!(r#"{{"a":"{longer}","b":"{long}"}}"#));
        let mut splice = Splice::new(&line);
        splice.remove(&Members::parse(splice.text()).unwrap(), "a");
        let left = splice.finish();
        assert_eq!(left.before_change(), None);
        assert_eq!(left.as_str(), format!(r#"{{"b":"{long}"}}"#));
        let place = line.bytes().as_ptr_range();
        assert!(left.pieces().into_iter().all(|piece| !place.contains(&piece.as_ptr())));
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
