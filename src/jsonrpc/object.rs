//! A JSON object that is changed member by member.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::Line;

/// An object whose members keep their order and, unless they are set anew, their text.
///
/// No two members may have one name: of those, readers would disagree on which counts.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

impl<'a> Object<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When `text` is no JSON object, or has two members of one name.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The member `key`.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.members.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)
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
        self.get(key).map_or_else(|| Ok(Object::default()), |value| Object::parse(value.get()))
    }

    /// Puts `value` in the place of the member `key`, or at the end.
    pub fn set(&mut self, key: &'a str, value: Box<RawValue>) {
        match self.members.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.members.push((Cow::Borrowed(key), Cow::Owned(value))),
        }
    }

    /// As [`Self::set`], for a value that is yet to be written as JSON.
    pub fn put(&mut self, key: &'a str, value: &impl Serialize) {
        // Writing to memory fails only for maps whose keys are no strings, which no caller has.
        if let Ok(raw) = serde_json::value::to_raw_value(value) {
            self.set(key, raw);
        }
    }

    /// As [`Self::put`], unless the member is there already.
    pub fn put_if_absent(&mut self, key: &'a str, value: &impl Serialize) {
        if self.get(key).is_none() {
            self.put(key, value);
        }
    }

    /// Takes the member `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Cow<'a, RawValue>> {
        let at = self.members.iter().position(|(name, _)| name == key)?;
        Some(self.members.remove(at).1)
    }

    /// Keeps the members that `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &RawValue) -> bool) {
        self.members.retain(|(name, value)| keep(name, value));
    }

    /// The members, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The object as a message's text.
    pub fn to_line(&self) -> Line {
        Line::new(serde_json::to_vec(self).unwrap_or_default().into())
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
            map.serialize_entry(name, value)?;
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
                    members.push((name, Cow::Borrowed(map.next_value::<&'de RawValue>()?)));
                }
                Ok(Object { members })
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
    fn members_of_one_name_are_refused() {
        assert!(Object::parse(r#"{"a":1,"a":2}"#).is_err());
        assert!(Object::parse(r#"{"a":1,"\u0061":2}"#).is_err());
        assert!(Object::parse("[]").is_err());
    }
}
