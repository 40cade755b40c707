//! Keys that are read and checked, and that this version does not act upon yet: nobody may believe that they hold.

use crate::config::{Config, Protocol, Role};

/// One warning for each such key that is set to something else than what happens anyway.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let (modern, instances) = match &config.role {
        Role::Serve(serve) => (("mcp.protocol", serve.mcp.protocol), serve.mcp.instances > 1),
        Role::Connect(connect) => (("client.protocol", connect.protocol), false),
    };
    let keys = [
        (modern.1 == Protocol::Modern, modern.0, "revisions up to 2025-11-25 are spoken"),
        (instances, "mcp.instances", "each session has a child of its own"),
    ];
    let set = keys.into_iter().filter(|(set, ..)| *set);
    set.map(|(_, key, instead)| format!("{key}: has no effect in this version: {instead}")).collect()
}
