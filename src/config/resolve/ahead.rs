//! Keys that are read and checked, and that this version does not act upon yet: nobody may believe that they hold.

use crate::config::{Config, Protocol, Role};

/// One warning for each such key that is set to something else than what happens anyway.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let modern = matches!(&config.role, Role::Connect(connect) if connect.protocol == Protocol::Modern);
    let keys = [(modern, "client.protocol", "revisions up to 2025-11-25 are spoken")];
    let set = keys.into_iter().filter(|(set, ..)| *set);
    set.map(|(_, key, instead)| format!("{key}: has no effect in this version: {instead}")).collect()
}
