//! A JSON object that is changed member by member.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::{Line, line::Parts};

/// An object whose members keep their order and, unless they are set anew, their text.
///
/// No two members may have one name: of those, readers would disagree on which counts.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    /// What it was read from, and may share the memory of.
    source: Option<&'a Line>,
    members: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// The value of a member.
#[derive(Debug, Clone)]
enum Value<'a> {
    /// As it was read.
    Read(&'a RawValue),
    /// Set anew.
    New(Line),
}

impl Value<'_> {
    fn raw(&self) -> &RawValue {
        match self {
            Self::Read(raw) => raw,
            Self::New(line) => serde_json::from_str(line.as_str()).unwrap_or(RawValue::NULL),
        }
    }

    /// Its length in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Read(raw) => raw.get().len(),
            Self::New(line) => line.len(),
        }
    }
}

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When `text` is no JSON object, or has two members of one name.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// As [`Self::parse`]; what is made of it may share the memory of `line`.
    ///
    /// # Errors
    /// As there.
    pub fn of(line: &'a Line) -> Result<Self, serde_json::Error> {
        Self::parse(line.as_str()).map(|object| object.within(line))
    }

    /// Says that the object was read from a part of `line`, whose memory may be shared from here on.
    #[must_use]
    pub fn within(self, line: &'a Line) -> Self {
        Self { source: Some(line), ..self }
    }

    fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The member `key`.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.value(key).map(Value::raw)
    }

    /// The member `key` as a text of its own, which may share the memory of the object's.
    pub fn line(&self, key: &str) -> Option<Line> {
        self.value(key).map(|value| self.line_of(value))
    }

    fn line_of(&self, value: &Value<'a>) -> Line {
        match (value, self.source) {
            (Value::New(line), _) => line.clone(),
            (Value::Read(raw), Some(source)) => source.part(raw),
            (Value::Read(raw), None) => (*raw).to_owned().into(),
        }
    }

    /// The member `key` as a value of another type, if it is there and can be.
    pub fn read<'b, T: Deserialize<'b>>(&'b self, key: &str) -> Option<T> {
        serde_json::from_str(self.get(key)?.get()).ok()
    }

    /// The member `key`, which is an object; an empty one when it is not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn object(&self, key: &str) -> Result<Object<'_>, serde_json::Error> {
        match self.value(key) {
            None => Ok(Object::default()),
            Some(Value::New(line)) => Object::of(line),
            Some(Value::Read(raw)) => Ok(Object { source: self.source, ..Object::parse(raw.get())? }),
        }
    }

    /// Puts `value` in the place of the member `key`, or at the end.
    pub fn set(&mut self, key: &'a str, value: impl Into<Line>) {
        let value = Value::New(value.into());
        match self.members.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.members.push((Cow::Borrowed(key), value)),
        }
    }

    /// As [`Self::set`], for a value that is yet to be written as JSON.
    pub fn put(&mut self, key: &'a str, value: &impl Serialize) {
        // Writing to memory fails only for maps whose keys are no strings, which no caller has.
        if let Ok(text) = serde_json::to_vec(value) {
            self.set(key, Line::new(text.into()));
        }
    }

    /// As [`Self::put`], unless the member is there already.
    pub fn put_if_absent(&mut self, key: &'a str, value: &impl Serialize) {
        if self.value(key).is_none() {
            self.put(key, value);
        }
    }

    /// Takes the member `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Cow<'a, RawValue>> {
        let at = self.members.iter().position(|(name, _)| name == key)?;
        Some(match self.members.remove(at).1 {
            Value::Read(raw) => Cow::Borrowed(raw),
            new @ Value::New(_) => Cow::Owned(new.raw().to_owned()),
        })
    }

    /// Keeps the members that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &RawValue) -> bool) {
        self.members.retain(|(name, value)| keep(name, value.raw()));
    }

    /// The members, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|(name, value)| (&**name, value.raw()))
    }

    /// The members, in order, each as [`Self::line`].
    pub fn lines(&self) -> impl Iterator<Item = (&str, Line)> {
        self.members.iter().map(|(name, value)| (&**name, self.line_of(value)))
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The object as text. Long members are not copied, if what the object was read from may lend its memory.
    pub fn to_line(&self) -> Line {
        // With the quotes of a name, and what stands before and behind it.
        let lengths = self.members.iter().map(|(name, value)| name.len() + value.len() + 4);
        let length = 2 + lengths.sum::<usize>();
        let lender = self.source.and_then(|source| source.lender_to(length));
        let mut parts = Parts::of_length(length);
        parts.copy("{");
        let mut before = "";
        for (name, value) in &self.members {
            parts.copy(before);
            parts.copy(&serde_json::to_string(name).unwrap_or_default());
            parts.copy(":");
            before = ",";
            match value {
                Value::New(line) => line.pieces().into_iter().for_each(|piece| parts.share(piece)),
                Value::Read(raw) => parts.add(raw.get(), lender),
            }
        }
        parts.copy("}");
        parts.finish()
    }

    /// The object as JSON text.
    pub fn to_raw(&self) -> Box<RawValue> {
        // As in `put`: keys are strings, and values are JSON already.
        serde_json::value::to_raw_value(self).unwrap_or_default()
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (name, value) in &self.members {
            map.serialize_entry(name, value.raw())?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(0).min(64));
                let mut names = std::collections::HashSet::new();
                while let Some(Key(name)) = map.next_key::<Key<'de>>()? {
                    if !names.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("the member {name:?} is there twice")));
                    }
                    members.push((name, Value::Read(map.next_value()?)));
                }
                Ok(Object { source: None, members })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A member's name; borrowed unless it is written with escapes.
#[derive(Deserialize)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::line::LONG;

    #[test]
    fn what_is_not_changed_keeps_its_text_and_its_place() {
        let mut object = Object::parse(r#"{ "z": 1.0, "a":1e400,"u\u0041":[ 1 ] , "b":{"c": 2}}"#).unwrap();
        object.put("a", &7);
        object.put("new", &"x");
        assert_eq!(object.remove("b").unwrap().get(), r#"{"c": 2}"#);
        assert_eq!(object.to_raw().get(), r#"{"z":1.0,"a":7,"uA":[ 1 ],"new":"x"}"#);
        object.put_if_absent("z", &2);
        assert_eq!(object.get("z").unwrap().get(), "1.0");
    }

    #[test]
    fn what_is_long_is_not_copied_into_what_is_made_of_it() {
        let (long, longer) = ("x".repeat(LONG), "x".repeat(2 * LONG));
        let text = |n, id: &str| {
            format!(r#"{{"id":{id}"a":{{"b":{{"c":"{longer}"}},"n":{n}}},"long":"{long}","z":1.0}}"#)
        };
        let line = Line::from(RawValue::from_string(text("1", "7,\n ")).unwrap());
        let mut outer = Object::of(&line).unwrap();
        let mut inner = outer.object("a").unwrap();
        inner.put("n", &"\u{2028}");
        let b = inner.object("b").unwrap().to_line();
        inner.set("b", b);
        let inner = inner.to_line();
        outer.set("a", inner);
        let changed = outer.to_line();
        assert_eq!(changed.as_str(), text(r#""\u2028""#, "7,"));
        let place = line.bytes().as_ptr_range();
        let (kept, new): (Vec<_>, Vec<_>) =
            changed.pieces().into_iter().partition(|piece| place.contains(&piece.as_ptr()));
        assert!(kept.len() == 2 && new.iter().map(bytes::Bytes::len).sum::<usize>() < 100);
        assert_eq!(outer.object("a").unwrap().read("b"), Some(serde_json::json!({ "c": longer })));
        assert_eq!(outer.line("z").unwrap().as_str(), "1.0");
        let a = Object::of(&line).unwrap().line("a").unwrap();
        assert!(place.contains(&a.bytes().as_ptr()));
    }

    #[test]
    fn whatever_is_shared_the_text_is_the_same() {
        let member = |length| format!("[\"{}\", 1e400]", "\u{e9}".repeat(length / 2));
        let lengths = [0, LONG - 20, LONG, 2 * LONG].map(member);
        for n in 0..lengths.len().pow(3) {
            let [a, b, c] = [n % 4, n / 4 % 4, n / 16].map(|n| &lengths[n]);
            let text = format!(r#"{{"a":{a},"o":{{"b": {b} ,"c":{c}}}}}"#);
            let line = Line::from(RawValue::from_string(text).unwrap());
            let mut outer = Object::of(&line).unwrap();
            let mut inner = outer.object("o").unwrap();
            inner.put("n", &1);
            assert_eq!(inner.to_line().as_str(), inner.to_raw().get());
            inner.remove("b");
            let inner = inner.to_line();
            outer.set("o", inner);
            let expected = format!(r#"{{"a":{a},"o":{{"c":{c},"n":1}}}}"#);
            let changed = outer.to_line();
            assert_eq!((changed.as_str(), outer.to_raw().get()), (&*expected, &*expected));
            assert_eq!((changed.len(), changed.detached().as_str()), (expected.len(), &*expected));
        }
    }

    #[test]
    fn what_is_left_of_an_object_does_not_hold_all_of_it() {
        let (long, longer) = ("x".repeat(LONG), "x".repeat(2 * LONG + 100));
        let text = format!(r#"{{"a":"{longer}","b":"{long}"}}"#);
        let line = Line::from(RawValue::from_string(text).unwrap());
        let mut object = Object::of(&line).unwrap();
        let b = object.line("b").unwrap();
        object.remove("a");
        let left = object.to_line();
        assert_eq!(left.as_str(), format!(r#"{{"b":{}}}"#, b.as_str()));
        let place = line.bytes().as_ptr_range();
        assert!(left.pieces().into_iter().chain(b.pieces()).all(|piece| !place.contains(&piece.as_ptr())));
    }

    #[test]
    fn a_text_that_is_elsewhere_is_copied() {
        let (line, other) =
            (Line::from(RawValue::NULL.to_owned()), format!("{{\"a\":\"{}\"}}", "x".repeat(LONG)));
        let object = Object::parse(&other).unwrap().within(&line);
        assert_eq!((object.to_line().as_str(), object.to_raw().get()), (&*other, &*other));
    }

    #[test]
    fn members_of_one_name_are_refused() {
        assert!(Object::parse(r#"{"a":1,"a":2}"#).is_err());
        assert!(Object::parse(r#"{"a":1,"\u0061":2}"#).is_err());
        assert!(Object::parse("[]").is_err());
    }
}
