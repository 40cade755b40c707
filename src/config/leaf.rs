//! One value, and the ways to complain about it.

use super::{error::Fault, node::Node};

/// One value, ready for use, and where it stands.
pub(super) struct Leaf<'a> {
    pub(super) node: &'a Node,
    /// With variables expanded.
    pub(super) text: String,
    /// As it stands in the file: what an error may show.
    pub(super) written: &'a str,
}

impl Leaf<'_> {
    /// `message` continues a sentence that starts with the value.
    pub(super) fn fault(&self, message: &str) -> Fault {
        let shown: String = self.written.chars().take(80).collect();
        Fault::at(self.node, format!("{shown:?} {message}"))
    }

    /// The same for a value that must not be shown.
    pub(super) fn secret_fault(&self, message: &str) -> Fault {
        self.about(&format!("the value {message}"))
    }

    /// `message` says it all.
    pub(super) fn about(&self, message: &str) -> Fault {
        Fault::at(self.node, message)
    }

    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
        parse(&self.text).map_err(|message| self.fault(&message))
    }

    pub(super) fn not_empty(self) -> Result<Self, Fault> {
        if self.text.is_empty() {
            return Err(Fault::at(self.node, "is empty; give it a value, or remove the key"));
        }
        Ok(self)
    }
}
