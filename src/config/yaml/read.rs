//! The seeds that read a document into a tree: its shape first, then the text of its leaves.

use std::cell::{Cell, RefCell};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::config::node::{KeyPath, Kind, Node, Origin, Scalar, Value};

/// The most values that a file may hold once its aliases are followed: far more than any needs, and few enough
/// that comparing each key with the others of its map costs nothing.
const MAX_VALUES: usize = 10_000;

/// What the seeds of one reading share.
#[derive(Default)]
pub(super) struct Notes {
    values: Cell<usize>,
    pub(super) complaint: RefCell<Option<String>>,
}

impl Notes {
    /// Fails with a message of ours; the parser adds the position.
    fn complain<E: serde::de::Error>(&self, message: impl Into<String>) -> E {
        *self.complaint.borrow_mut() = Some(message.into());
        E::custom("see the notes")
    }
}

/// Reads a value with its type, but with numbers already interpreted: `1.0` has become `1`.
pub(super) struct Shape<'a> {
    pub(super) notes: &'a Notes,
    pub(super) path: KeyPath,
}

impl Shape<'_> {
    fn node(self, value: Value) -> Node {
        Node { origin: Origin::File(self.path), value }
    }

    fn scalar(self, kind: Kind) -> Node {
        self.node(Value::Scalar(Scalar { text: String::new(), kind, expand: kind == Kind::Text }))
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.notes.values.set(self.notes.values.get() + 1);
        if self.notes.values.get() > MAX_VALUES {
            return Err(self.notes.complain("too many values; do its aliases (`*name`) repeat too much?"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(self.scalar(Kind::Bool))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(self.scalar(Kind::Number))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(self.scalar(Kind::Number))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(self.scalar(Kind::Number))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(self.scalar(Kind::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(self.scalar(Kind::Number))
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(self.scalar(Kind::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) =
            items.next_element_seed(Shape { notes: self.notes, path: self.path.index(list.len()) })?
        {
            list.push(item);
        }
        Ok(self.node(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        loop {
            let new = NewKey { notes: self.notes, path: &self.path, entries: &entries };
            let Some(name) = map.next_key_seed(new)? else { break };
            let value = map.next_value_seed(Shape { notes: self.notes, path: self.path.key(&name) })?;
            entries.push((name, value));
        }
        Ok(self.node(Value::Map(entries)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.notes.complain("a tag (`!name`), which means nothing here; remove it"))
    }
}

/// Reads a key that none of `entries` has. It fails inside the key, so that the error's position is the key's.
struct NewKey<'a> {
    notes: &'a Notes,
    path: &'a KeyPath,
    entries: &'a [(String, Node)],
}

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<String, E> {
        if self.entries.iter().any(|(key, _)| key == name) {
            let path = self.path.key(name);
            return Err(self.notes.complain(format!("{path}: the key stands here twice; remove one")));
        }
        Ok(name.to_owned())
    }
}

/// Writes the text of each leaf into the tree that [`Shape`] has read.
pub(super) struct Fill<'a>(pub(super) &'a mut Node);

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.value {
            Value::Null => IgnoredAny::deserialize(deserializer).map(drop),
            Value::Scalar(_) => deserializer.deserialize_str(self),
            Value::List(_) => deserializer.deserialize_seq(self),
            Value::Map(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what was there before")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if let Value::Scalar(scalar) = &mut self.0.value {
            text.clone_into(&mut scalar.text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if let Value::List(list) = &mut self.0.value {
            for node in list {
                items.next_element_seed(Fill(node))?;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Value::Map(entries) = &mut self.0.value {
            for (_, node) in entries {
                map.next_key::<IgnoredAny>()?;
                map.next_value_seed(Fill(node))?;
            }
        }
        Ok(())
    }
}
