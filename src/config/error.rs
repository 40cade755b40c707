//! Errors that name the file, line and key or the command line option.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    node::{Node, Origin},
    yaml,
};

/// What is wrong with the configuration, where, and what to do about it. Shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: Place,
    key: Option<String>,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf, Option<usize>),
    Option(&'static str),
    CommandLine,
}

impl ConfigError {
    /// Something about a whole file.
    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self { place: Place::File(path.to_owned(), None), key: None, message: message.into() }
    }

    /// Something about the arguments as a whole.
    pub(crate) fn command_line(message: impl Into<String>) -> Self {
        Self { place: Place::CommandLine, key: None, message: message.into() }
    }

    /// Something about one command line option.
    pub(crate) fn option(option: &'static str, message: impl Into<String>) -> Self {
        Self { place: Place::Option(option), key: None, message: message.into() }
    }

    /// The line of the file, counted from 1, where that is known.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Place::File(_, line) => line,
            Place::Option(_) | Place::CommandLine => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path, Some(line)) => write!(f, "{}:{line}: ", path.display())?,
            Place::File(path, None) => write!(f, "{}: ", path.display())?,
            Place::Option(option) => write!(f, "{option}: ")?,
            Place::CommandLine => f.write_str("command line: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// An error on its way up: it knows the key path, and gets its line only when somebody will read it.
#[derive(Debug)]
pub(super) struct Fault {
    origin: Origin,
    key: Option<String>,
    message: String,
}

impl Fault {
    /// `node`, as it was written, is wrong.
    pub(super) fn at(node: &Node, message: impl Into<String>) -> Self {
        let key = match &node.origin {
            Origin::File(path) if !path.is_root() => Some(path.to_string()),
            _ => None,
        };
        Self { origin: node.origin.clone(), key, message: message.into() }
    }

    /// `key` is missing; `near` is what it should have stood in.
    pub(super) fn missing(near: &Node, key: &str, message: impl Into<String>) -> Self {
        Self { origin: near.origin.clone(), key: Some(key.to_owned()), message: message.into() }
    }

    /// The text itself is wrong.
    pub(super) fn on_line(line: usize, message: impl Into<String>) -> Self {
        Self { origin: Origin::Line(line), key: None, message: message.into() }
    }

    /// The text itself is wrong, and nobody knows where.
    pub(super) fn somewhere(message: impl Into<String>) -> Self {
        Self { origin: Origin::Nowhere, key: None, message: message.into() }
    }

    pub(super) fn in_file(self, path: &Path, text: &str) -> ConfigError {
        let line = match &self.origin {
            Origin::File(key) if key.is_root() => None,
            Origin::File(key) => yaml::locate(text, key),
            Origin::Line(line) => Some(*line),
            Origin::Nowhere => None,
            Origin::Option(_) => return self.on_command_line(),
        };
        ConfigError { place: Place::File(path.to_owned(), line), key: self.key, message: self.message }
    }

    pub(super) fn on_command_line(self) -> ConfigError {
        let place = match self.origin {
            Origin::Option(option) => Place::Option(option),
            _ => Place::CommandLine,
        };
        ConfigError { place, key: self.key, message: self.message }
    }
}
