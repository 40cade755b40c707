//! Keys that are read and checked, and that this version does not act upon yet: nobody may believe that they hold.

use crate::config::{Config, Protocol, Role, Transport};

/// One warning for each such key that is set to something else than what happens anyway.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let (modern, sse) = match &config.role {
        Role::Serve(_) => (false, false),
        Role::Connect(connect) => (connect.protocol == Protocol::Modern, connect.transport == Transport::Sse),
    };
    let keys = [
        (config.metrics_listen.is_some(), "metrics.listen", "no metrics are offered"),
        (config.logging.bodies, "logging.bodies", "no bodies are logged"),
        (modern, "client.protocol", "revisions up to 2025-11-25 are spoken"),
        (sse, "client.transport", "Streamable HTTP is spoken"),
    ];
    let set = keys.into_iter().filter(|(set, ..)| *set);
    set.map(|(_, key, instead)| format!("{key}: has no effect in this version: {instead}")).collect()
}
