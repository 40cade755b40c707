//! Files written for pgEdge's `mcp-bridge`: the same things under other names.

use super::{
    error::Fault,
    node::{Node, Value},
};

/// Where a key of theirs stands here. Sections first, so that the renames find their keys in place.
const MOVES: [(&str, &str); 21] = [
    ("server.tls", "tls"),
    ("client.tls", "tls"),
    ("server.auth", "auth"),
    ("client.auth", "auth"),
    ("server.mcp", "mcp"),
    ("server.mcp_server", "mcp"),
    ("mcp_server", "mcp"),
    ("server.logging", "logging"),
    ("client.logging", "logging"),
    ("server.log", "logging"),
    ("client.log", "logging"),
    ("log", "logging"),
    ("session", "server.session"),
    ("cors", "server.cors"),
    ("retry", "client.retry"),
    ("server.base_path", "server.path"),
    ("tls.client_ca", "tls.client_ca_file"),
    ("auth.bearer.valid_tokens", "auth.bearer.tokens"),
    ("mcp.working_dir", "mcp.dir"),
    ("mcp.shutdown_timeout", "mcp.graceful_shutdown_timeout"),
    ("client.retry.max_attempts", "client.retry.max_retries"),
];

/// Keys of theirs that nothing here needs, and why. They are dropped with a warning.
const WITHOUT_EFFECT: [(&str, &str); 14] = [
    ("server.write_timeout", "an answer may take as long as mcp.request_timeout allows"),
    ("server.session.enabled", "the protocol decides whether there are sessions"),
    ("server.session.cleanup_interval", "a session ends when its time is up"),
    ("server.session.session_id", "session ids are the server's"),
    ("client.max_idle_conns", "connections are kept as they are needed"),
    ("client.idle_conn_timeout", "connections are kept as they are needed"),
    ("client.keepalive_interval", "the server keeps its streams alive"),
    ("client.max_response_size", "messages are bounded by a fixed limit"),
    ("client.retry.jitter", "one client has nobody to be out of step with"),
    ("mcp.startup_timeout", "mcp.request_timeout bounds the first answer"),
    ("tls.enable_http2", "HTTP/2 is always offered"),
    ("tls.ocsp", "OCSP responses are not stapled"),
    ("health", "see metrics.listen"),
    ("stdio", "messages are bounded by a fixed limit"),
];

/// What reading an older layout has turned up.
#[derive(Default)]
pub(super) struct Compat {
    /// Whether any key of theirs was there: then `$VAR` is a variable, as it is for them.
    pub(super) used: bool,
    pub(super) warnings: Vec<String>,
}

/// Rewrites `root` into our layout. Values keep the place they were written at.
pub(super) fn adopt(root: &mut Node) -> Result<Compat, Fault> {
    let mut compat = Compat::default();
    // In their client files `session` is the client's, and has no counterpart.
    if is_client(root) && root.remove("session").is_some() {
        compat.ignored("session", "the protocol decides whether there are sessions");
    }
    for (from, to) in MOVES {
        if let Some(node) = root.remove(from) {
            compat.used = true;
            put(root, from, to, node)?;
        }
    }
    for (path, why) in WITHOUT_EFFECT {
        if root.remove(path).is_some() {
            compat.ignored(path, why);
        }
    }
    Ok(compat)
}

impl Compat {
    fn ignored(&mut self, path: &str, why: &str) {
        self.used = true;
        self.warnings.push(format!("{path} has no effect: {why}"));
    }
}

fn is_client(root: &Node) -> bool {
    matches!(root.get("mode").map(|node| &node.value), Some(Value::Scalar(mode)) if mode.text == "client")
}

fn put(root: &mut Node, from: &str, to: &str, node: Node) -> Result<(), Fault> {
    if root.get(to).is_some() {
        return Err(Fault::at(
            &node,
            format!("is said twice: '{from}' is an older name of '{to}'; remove one"),
        ));
    }
    if let Some((section, _)) = to.split_once('.')
        && root.get(section).is_some_and(|node| !matches!(node.value, Value::Map(_) | Value::Null))
    {
        return Err(Fault::at(&node, format!("belongs into '{section}', which is not a section here")));
    }
    root.insert(to, node);
    Ok(())
}
