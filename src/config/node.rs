//! The tree that a file becomes: values that remember where they were written.

use std::fmt;

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; names are unique.
    Map(Vec<(String, Node)>),
}

/// One leaf. `text` is what was written: `1.0` stays `1.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) kind: Kind,
    /// Whether `${VAR}` means something in it: not in what a shell has already expanded.
    pub(super) expand: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Bool,
}

/// Where a value was written.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// At this path of the file; the line is looked up when an error needs it.
    File(KeyPath),
    /// On this line of the file.
    Line(usize),
    /// By this command line option.
    Option(&'static str),
    Nowhere,
}

/// Wherever it was written.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Node {}

impl Node {
    pub(super) fn empty_map() -> Self {
        Self { origin: Origin::Nowhere, value: Value::Map(Vec::new()) }
    }

    /// What stands at a dotted path, `None` also when something on the way is no map.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, name| match &node.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, child)| child),
            _ => None,
        })
    }

    fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        path.split('.').try_fold(self, |node, name| match &mut node.value {
            Value::Map(entries) => entries.iter_mut().find(|(key, _)| key == name).map(|(_, child)| child),
            _ => None,
        })
    }

    /// The deepest existing node on the way to `path`; a missing key is reported there.
    pub(super) fn nearest(&self, path: &str) -> &Node {
        let parent = path.rsplit_once('.').map(|(parent, _)| parent);
        parent.map_or(self, |parent| self.get(parent).unwrap_or_else(|| self.nearest(parent)))
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<Node> {
        let (parent, name) = match path.rsplit_once('.') {
            Some((parent, name)) => (self.get_mut(parent)?, name),
            None => (self, path),
        };
        let Value::Map(entries) = &mut parent.value else { return None };
        let index = entries.iter().position(|(key, _)| key == name)?;
        Some(entries.remove(index).1)
    }

    /// Puts `node` at `path`, over whatever stands there.
    pub(super) fn insert(&mut self, path: &str, node: Node) {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        if !matches!(self.value, Value::Map(_)) {
            self.value = Value::Map(Vec::new());
        }
        let Value::Map(entries) = &mut self.value else { return };
        let index = entries.iter().position(|(key, _)| key == first).unwrap_or_else(|| {
            entries.push((first.to_owned(), Self { origin: node.origin.clone(), value: Value::Null }));
            entries.len() - 1
        });
        match rest {
            Some(rest) => entries[index].1.insert(rest, node),
            None => entries[index].1 = node,
        }
    }

    /// What an error calls it.
    pub(super) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::List(_) => "a list",
            Value::Map(_) => "keys beneath it",
            Value::Scalar(scalar) => match scalar.kind {
                Kind::Text => "text",
                Kind::Number => "a number",
                Kind::Bool => "true or false",
            },
        }
    }
}

/// The way from the root of the file to a value.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyPath(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl KeyPath {
    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }

    pub(super) fn key(&self, name: &str) -> Self {
        self.with(Segment::Key(name.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(name) => {
                    let dot = if position == 0 { "" } else { "." };
                    // A name may hold anything; one that could be mistaken for a path or break the line is quoted.
                    if name.is_empty() || name.contains(|c: char| c == '.' || c.is_control()) {
                        write!(f, "{dot}{name:?}")?;
                    } else {
                        write!(f, "{dot}{name}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
