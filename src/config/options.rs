//! What the command line says, laid over the file.

use super::{
    Mode,
    node::{Kind, Node, Origin, Scalar, Value},
};

/// The part of the configuration that comes from the command line. It wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the subcommand asks for; `None`: what the file says.
    pub mode: Option<Mode>,
    /// Keys that options set, in order.
    pub settings: Vec<Setting>,
}

/// One key that an option sets.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The option, for errors: `--listen`.
    pub option: &'static str,
    /// The key path: `server.listen`.
    pub key: String,
    /// What it becomes.
    pub value: SettingValue,
}

/// What an option makes of a key.
#[derive(Debug, Clone)]
pub enum SettingValue {
    /// This value, taken as it is.
    Text(String),
    /// This value, unless the file or another option has the key.
    Default(String),
    /// This list, taken as it is.
    List(Vec<String>),
    /// These entries of a map, over those that the file has under the same names (whose case does not count).
    Entries(Vec<(String, String)>),
    /// A list of the one value that this environment variable holds.
    FromEnv(String),
    /// Nothing, whatever the file says.
    Absent,
}

impl Options {
    /// Adds a key that `option` sets.
    pub fn set(&mut self, option: &'static str, key: impl Into<String>, value: SettingValue) {
        self.settings.push(Setting { option, key: key.into(), value });
    }

    pub(super) fn apply(&self, root: &mut Node) {
        for setting in &self.settings {
            setting.apply(root);
        }
    }
}

impl Setting {
    fn apply(&self, root: &mut Node) {
        let value = match &self.value {
            SettingValue::Absent => {
                root.remove(&self.key);
                return;
            }
            SettingValue::Default(_) if root.get(&self.key).is_some() => return,
            SettingValue::Default(text) | SettingValue::Text(text) => scalar(text.clone(), false),
            SettingValue::List(items) => {
                Value::List(items.iter().map(|item| self.node(scalar(item.clone(), false))).collect())
            }
            SettingValue::Entries(entries) => self.merge(root.remove(&self.key), entries),
            SettingValue::FromEnv(name) => Value::List(vec![self.node(scalar(format!("${{{name}}}"), true))]),
        };
        root.insert(&self.key, self.node(value));
    }

    fn merge(&self, file: Option<Node>, entries: &[(String, String)]) -> Value {
        let mut merged = match file.map(|node| node.value) {
            Some(Value::Map(merged)) => merged,
            _ => Vec::new(),
        };
        merged.retain(|(name, _)| !entries.iter().any(|(new, _)| new.eq_ignore_ascii_case(name)));
        merged.extend(
            entries.iter().map(|(name, text)| (name.clone(), self.node(scalar(text.clone(), false)))),
        );
        Value::Map(merged)
    }

    fn node(&self, value: Value) -> Node {
        Node { origin: Origin::Option(self.option), value }
    }
}

fn scalar(text: String, expand: bool) -> Value {
    Value::Scalar(Scalar { text, kind: Kind::Text, expand })
}
