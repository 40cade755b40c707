//! Typed values out of the tree: expanded, checked one by one, and with errors that say where they stand.

use std::{ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use super::{
    Environment, Secret, duration,
    error::Fault,
    expand::Expander,
    leaf::Leaf,
    node::{Kind, Node, Scalar, Value},
    size, suggest,
};

/// Reads keys by their path.
pub(super) struct Reader<'a> {
    root: &'a Node,
    expander: Expander<'a>,
    env: Environment<'a>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Node, env: Environment<'a>, bare_names: bool, warnings: Vec<String>) -> Self {
        Self { root, expander: Expander::new(env, bare_names), env, warnings }
    }

    /// Whether the key, or anything in the section, is set.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.get(path).is_some_and(|node| match &node.value {
            Value::Null => false,
            Value::Map(entries) => !entries.is_empty(),
            Value::Scalar(_) | Value::List(_) => true,
        })
    }

    /// An error at `path`, or where it should have stood.
    pub(super) fn fault(&self, path: &str, message: impl Into<String>) -> Fault {
        match self.root.get(path) {
            Some(node) => Fault::at(node, message),
            None => Fault::missing(self.root.nearest(path), path, message),
        }
    }

    /// The variables that values have used so far.
    pub(super) fn used_variables(&self) -> impl Iterator<Item = &str> {
        self.expander.used().iter().map(String::as_str)
    }

    pub(super) fn variable(&self, name: &str) -> Option<std::ffi::OsString> {
        (self.env)(name)
    }

    pub(super) fn text(&mut self, path: &str) -> Result<Option<Leaf<'a>>, Fault> {
        self.root.get(path).map(|node| self.leaf(node, true)?.not_empty()).transpose()
    }

    /// A value that is not text to YAML too: `min_version: 1.2`.
    pub(super) fn value(&mut self, path: &str) -> Result<Option<Leaf<'a>>, Fault> {
        self.root.get(path).map(|node| self.leaf(node, false)?.not_empty()).transpose()
    }

    pub(super) fn parsed<T>(
        &mut self,
        path: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Fault> {
        self.value(path)?.map(|leaf| leaf.parse(parse)).transpose()
    }

    pub(super) fn path(&mut self, path: &str) -> Result<Option<PathBuf>, Fault> {
        Ok(self.text(path)?.map(|leaf| leaf.text.into()))
    }

    pub(super) fn secret(&mut self, path: &str) -> Result<Option<Secret>, Fault> {
        Ok(self.text(path)?.map(|leaf| Secret::new(leaf.text)))
    }

    pub(super) fn flag(&mut self, path: &str, default: bool) -> Result<bool, Fault> {
        Ok(self.optional_flag(path)?.unwrap_or(default))
    }

    pub(super) fn optional_flag(&mut self, path: &str) -> Result<Option<bool>, Fault> {
        self.parsed(path, |text| match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => Err("is neither true nor false".into()),
        })
    }

    pub(super) fn duration(&mut self, path: &str, default: Duration) -> Result<Duration, Fault> {
        Ok(self.parsed(path, duration::parse)?.unwrap_or(default))
    }

    /// A duration that makes no sense as zero.
    pub(super) fn wait(&mut self, path: &str, default: Duration) -> Result<Duration, Fault> {
        let positive = |text: &str| match duration::parse(text)? {
            Duration::ZERO => Err("must be more than zero; there is no way to turn it off".to_owned()),
            duration => Ok(duration),
        };
        Ok(self.parsed(path, positive)?.unwrap_or(default))
    }

    /// A duration for which `0` means never.
    pub(super) fn patience(&mut self, path: &str, default: Duration) -> Result<Option<Duration>, Fault> {
        Ok(Some(self.duration(path, default)?).filter(|duration| !duration.is_zero()))
    }

    pub(super) fn size(
        &mut self,
        path: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, Fault> {
        let within = |text: &str| match size::parse(text)? {
            bytes if range.contains(&bytes) => Ok(bytes),
            _ => Err(format!("is out of bounds: from {} to {} bytes", range.start(), range.end())),
        };
        Ok(self.parsed(path, within)?.unwrap_or(default))
    }

    pub(super) fn number<T>(&mut self, path: &str, default: T, range: RangeInclusive<T>) -> Result<T, Fault>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let within = |text: &str| match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("is not a number from {} to {}", range.start(), range.end())),
        };
        Ok(self.parsed(path, within)?.unwrap_or(default))
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, path: &str, words: &[(&str, T)]) -> Result<Option<T>, Fault> {
        self.parsed(path, |text| {
            if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
                return Ok(*meaning);
            }
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = suggest::nearest(text, names.iter().copied());
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            Err(format!("is none of {}{hint}", names.join(", ")))
        })
    }

    /// A list of texts, with at least one and none of them empty.
    pub(super) fn list(&mut self, path: &str) -> Result<Option<Vec<Leaf<'a>>>, Fault> {
        let Some(items) = self.items(path)? else { return Ok(None) };
        if items.is_empty() {
            return Err(self.fault(path, "is an empty list; give it entries, or remove the key"));
        }
        items.iter().map(|node| self.leaf(node, true)?.not_empty()).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn texts(&mut self, path: &str) -> Result<Option<Vec<String>>, Fault> {
        Ok(self.list(path)?.map(|list| list.into_iter().map(|leaf| leaf.text).collect()))
    }

    /// A list of values that become text whatever YAML takes them for: `args: [--port, 8080]`.
    pub(super) fn values(&mut self, path: &str) -> Result<Vec<String>, Fault> {
        let items = self.items(path)?.unwrap_or_default();
        items.iter().map(|node| Ok(self.leaf(node, false)?.text)).collect()
    }

    /// One text or a list of them.
    pub(super) fn one_or_more(&mut self, path: &str) -> Result<Vec<Leaf<'a>>, Fault> {
        match self.root.get(path).map(|node| &node.value) {
            Some(Value::List(_)) => Ok(self.list(path)?.unwrap_or_default()),
            _ => Ok(self.text(path)?.into_iter().collect()),
        }
    }

    /// The entries of a map whose names are free.
    pub(super) fn entries(&mut self, path: &str) -> Result<Vec<(&'a str, Leaf<'a>)>, Fault> {
        let Some(node) = self.root.get(path) else { return Ok(Vec::new()) };
        match &node.value {
            Value::Null => Ok(Vec::new()),
            Value::Map(entries) => {
                entries.iter().map(|(name, node)| Ok((name.as_str(), self.leaf(node, false)?))).collect()
            }
            _ => Err(Fault::at(node, format!("expected names with values, found {}", node.describe()))),
        }
    }

    fn items(&self, path: &str) -> Result<Option<&'a [Node]>, Fault> {
        match self.root.get(path) {
            None => Ok(None),
            Some(Node { value: Value::List(items), .. }) => Ok(Some(items)),
            Some(node) => Err(Fault::at(node, format!("expected a list, found {}", node.describe()))),
        }
    }

    fn leaf(&mut self, node: &'a Node, text_only: bool) -> Result<Leaf<'a>, Fault> {
        let scalar = match &node.value {
            Value::Scalar(scalar) if !text_only || scalar.kind == Kind::Text => scalar,
            Value::Scalar(_) => {
                let found = node.describe();
                return Err(Fault::at(node, format!("expected text, found {found}; put it in quotes")));
            }
            Value::Null => return Err(Fault::at(node, "has no value; give it one, or remove the key")),
            Value::List(_) | Value::Map(_) => {
                return Err(Fault::at(node, format!("expected one value, found {}", node.describe())));
            }
        };
        let text = self.expand(scalar).map_err(|message| Fault::at(node, message))?;
        if text.contains('\0') {
            return Err(Fault::at(node, "holds a NUL character, which nothing here can use; remove it"));
        }
        Ok(Leaf { node, text, written: &scalar.text })
    }

    fn expand(&mut self, scalar: &Scalar) -> Result<String, String> {
        if scalar.expand { self.expander.expand(&scalar.text) } else { Ok(scalar.text.clone()) }
    }
}
