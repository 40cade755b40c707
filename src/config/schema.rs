//! Every key that a file may hold, and the direction it belongs to.

use super::{
    Mode,
    error::Fault,
    node::{Node, Value},
    suggest,
};

/// A key that holds a value (or a list, or a map of free names).
pub(super) struct Key {
    pub(super) path: &'static str,
    mode: Option<Mode>,
    reload: Reload,
}

/// Where a change of a key takes effect without a restart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reload {
    Nowhere,
    Server,
    Everywhere,
}

const fn both(path: &'static str) -> Key {
    Key { path, mode: None, reload: Reload::Nowhere }
}

const fn server(path: &'static str) -> Key {
    Key { path, mode: Some(Mode::Server), reload: Reload::Nowhere }
}

const fn client(path: &'static str) -> Key {
    Key { path, mode: Some(Mode::Client), reload: Reload::Nowhere }
}

impl Key {
    /// A reload puts a change of it into force.
    const fn live(self) -> Self {
        Self { reload: Reload::Everywhere, ..self }
    }

    /// A reload of a server puts a change of it into force.
    const fn live_on_server(self) -> Self {
        Self { reload: Reload::Server, ..self }
    }
}

pub(super) static KEYS: &[Key] = &[
    both("mode"),
    server("server.listen"),
    server("server.path"),
    server("server.socket_mode"),
    server("server.allowed_hosts").live(),
    server("server.allowed_origins").live(),
    server("server.read_timeout").live(),
    server("server.idle_timeout").live(),
    server("server.handshake_timeout").live(),
    server("server.stream_after").live(),
    server("server.sse_keepalive_interval").live(),
    server("server.max_body_size").live(),
    server("server.max_connections").live(),
    server("server.max_header_size").live(),
    server("server.shutdown_timeout").live(),
    server("server.allow_insecure").live(),
    server("server.session.timeout").live(),
    server("server.session.max_sessions").live(),
    server("server.cors.enabled").live(),
    server("server.cors.allowed_origins").live(),
    server("server.cors.allowed_methods").live(),
    server("server.cors.allowed_headers").live(),
    server("server.cors.exposed_headers").live(),
    server("server.cors.allow_credentials").live(),
    server("server.cors.max_age").live(),
    both("tls.enabled"),
    both("tls.cert_file"),
    both("tls.key_file"),
    both("tls.key_password"),
    both("tls.key_password_file"),
    both("tls.min_version"),
    both("tls.max_version"),
    both("tls.cipher_suites"),
    both("tls.curve_preferences"),
    both("tls.crl_file"),
    both("tls.fips"),
    both("tls.reload_interval"),
    server("tls.client_ca_file"),
    server("tls.client_auth"),
    server("tls.client_allowed_names"),
    client("tls.ca_cert"),
    client("tls.server_name"),
    client("tls.insecure_skip_verify"),
    both("auth.type").live_on_server(),
    server("auth.bearer.tokens").live(),
    client("auth.bearer.token"),
    client("auth.bearer.token_file"),
    client("auth.bearer.token_env"),
    server("mcp.command"),
    server("mcp.args"),
    server("mcp.env"),
    server("mcp.dir"),
    server("mcp.inherit_env"),
    server("mcp.protocol"),
    server("mcp.translate"),
    server("mcp.isolation"),
    server("mcp.instances"),
    server("mcp.scheduling"),
    both("mcp.max_request_time").live_on_server(),
    server("mcp.request_timeout").live(),
    server("mcp.graceful_shutdown_timeout").live(),
    server("mcp.restart_on_failure"),
    server("mcp.max_restarts"),
    server("mcp.restart_delay"),
    client("client.url"),
    client("client.connect_timeout"),
    client("client.timeout"),
    client("client.max_request_time"),
    client("client.headers"),
    client("client.proxy"),
    client("client.protocol"),
    client("client.transport"),
    client("client.translate"),
    client("client.retry.enabled"),
    client("client.retry.max_retries"),
    client("client.retry.initial_delay"),
    client("client.retry.max_delay"),
    client("client.retry.multiplier"),
    both("logging.level").live(),
    both("logging.format").live(),
    both("logging.output").live(),
    server("logging.requests").live(),
    both("logging.bodies").live(),
    both("metrics.listen"),
];

/// The keys of which `new` says something else than `old`, and whose change needs a restart.
pub(super) fn restart_for(old: &Node, new: &Node, mode: Mode) -> Vec<&'static str> {
    let live = |key: &Key| match key.reload {
        Reload::Nowhere => false,
        Reload::Server => mode == Mode::Server,
        Reload::Everywhere => true,
    };
    let changed = |key: &&Key| match (old.get(key.path), new.get(key.path)) {
        (None, None) => false,
        (Some(old), Some(new)) => old.value != new.value,
        _ => true,
    };
    KEYS.iter().filter(|key| !live(key)).filter(changed).map(|key| key.path).collect()
}

impl Key {
    /// Whether it may stand in a file of this direction; any will do while that is unknown.
    pub(super) fn fits(&self, mode: Option<Mode>) -> bool {
        self.mode.is_none() || mode.is_none() || self.mode == mode
    }

    /// Whether it stands somewhere beneath `section`.
    fn is_beneath(&self, section: &str) -> bool {
        self.path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
    }
}

/// Refuses keys that mean nothing, or nothing in this direction.
pub(super) fn check(root: &Node, mode: Option<Mode>) -> Result<(), Fault> {
    check_section(root, "", mode)
}

fn check_section(section: &Node, prefix: &str, mode: Option<Mode>) -> Result<(), Fault> {
    let entries = match &section.value {
        Value::Map(entries) => entries,
        // A section whose every line is commented out.
        Value::Null => return Ok(()),
        _ => {
            return Err(Fault::at(
                section,
                format!("expected keys beneath it, found {}", section.describe()),
            ));
        }
    };
    for (name, node) in entries {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        check_entry(node, name, &path, mode)?;
    }
    Ok(())
}

fn check_entry(node: &Node, name: &str, path: &str, mode: Option<Mode>) -> Result<(), Fault> {
    if name.contains('.') {
        let hint = "unknown key; keys are nested by indentation, not by dots";
        return Err(Fault::at(node, hint));
    }
    if let Some(key) = KEYS.iter().find(|key| key.path == path) {
        return if key.fits(mode) { Ok(()) } else { Err(foreign(node, path, mode)) };
    }
    let mut beneath = KEYS.iter().filter(|key| key.is_beneath(path)).peekable();
    if beneath.peek().is_none() {
        return Err(Fault::at(node, format!("unknown key; {}", suggest::instead_of(path, mode))));
    }
    if !beneath.any(|key| key.fits(mode)) && !matches!(node.value, Value::Null) {
        return Err(foreign(node, path, mode));
    }
    check_section(node, path, mode)
}

/// The key of the other direction.
fn foreign(node: &Node, path: &str, mode: Option<Mode>) -> Fault {
    let (here, there) = match mode {
        Some(Mode::Client) => ("client", "server"),
        _ => ("server", "client"),
    };
    let hint =
        suggest::in_other_mode(path, mode).map_or("remove it".into(), |key| format!("did you mean '{key}'?"));
    Fault::at(node, format!("belongs to `mode: {there}`, but this is `mode: {here}`; {hint}"))
}
