//! `mcp`: the child.

use std::{collections::BTreeMap, time::Duration};

use crate::config::{Isolation, Mcp, Protocol, Scheduling, Secret, error::Fault, reader::Reader};

/// Also the default of `client.timeout`.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Also the default of `client.max_request_time`.
pub(super) const MAX_REQUEST_TIME: Duration = Duration::from_secs(3600);

/// The words of `mcp.protocol` and `client.protocol`.
pub(super) const PROTOCOLS: [(&str, Protocol); 3] =
    [("auto", Protocol::Auto), ("legacy", Protocol::Legacy), ("modern", Protocol::Modern)];

/// What every child gets, even with `inherit_env: false`. These are no secrets, also when the file expands them.
const NEVER_WITHHELD: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Reads everything but the variables to withhold, which are known only when the whole file has been read.
pub(super) fn mcp(r: &mut Reader<'_>, isolation: Isolation) -> Result<Mcp, Fault> {
    let command = r.text("mcp.command")?.ok_or_else(|| {
        r.fault("mcp.command", "missing; set it to the MCP server to start, or give the command after `--`")
    })?;
    let isolations = [("principal", Isolation::Principal), ("request", Isolation::Request)];
    let schedulings = [("batch", Scheduling::Batch), ("inherit", Scheduling::Inherit)];
    let mcp = Mcp {
        command: command.text,
        args: r.values("mcp.args")?,
        env: env(r)?,
        dir: r.path("mcp.dir")?,
        inherit_env: r.flag("mcp.inherit_env", true)?,
        withheld_env: Vec::new(),
        protocol: r.choice("mcp.protocol", &PROTOCOLS)?.unwrap_or_default(),
        translate: r.flag("mcp.translate", true)?,
        isolation: r.choice("mcp.isolation", &isolations)?.unwrap_or(isolation),
        instances: r.number("mcp.instances", 1, 1..=1024)?,
        scheduling: r.choice("mcp.scheduling", &schedulings)?.unwrap_or_default(),
        max_request_time: r.wait("mcp.max_request_time", MAX_REQUEST_TIME)?,
        request_timeout: r.patience("mcp.request_timeout", REQUEST_TIMEOUT)?,
        graceful_shutdown_timeout: r.duration("mcp.graceful_shutdown_timeout", Duration::from_secs(5))?,
        restart_on_failure: r.flag("mcp.restart_on_failure", true)?,
        max_restarts: r.number("mcp.max_restarts", 5, 0..=u32::MAX)?,
        restart_delay: r.duration("mcp.restart_delay", Duration::from_secs(1))?,
    };
    if mcp.protocol == Protocol::Legacy && mcp.instances > 1 {
        r.warnings.push(
            "mcp.instances has no effect: 'mcp.protocol' is legacy, and only a modern server has several"
                .into(),
        );
    }
    Ok(mcp)
}

/// The variables that the child must not inherit: those that the file has expanded.
pub(super) fn withheld(r: &Reader<'_>) -> Vec<String> {
    r.used_variables().filter(|name| !NEVER_WITHHELD.contains(name)).map(ToOwned::to_owned).collect()
}

fn env(r: &mut Reader<'_>) -> Result<BTreeMap<String, Secret>, Fault> {
    let mut env = BTreeMap::new();
    for (name, value) in r.entries("mcp.env")? {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(value.secret_fault("stands under a name that no environment variable can have"));
        }
        env.insert(name.to_owned(), Secret::new(value.text));
    }
    Ok(env)
}
