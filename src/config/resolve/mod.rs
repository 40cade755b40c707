//! The tree → [`Config`]: defaults, and what must fit together.

mod address;
mod auth;
mod connect;
mod headers;
mod mcp;
mod origins;
mod serve;
mod tls;
mod url;

use std::path::PathBuf;

use super::{
    Config, Environment, LogFormat, LogOutput, Logging, Mode, Role, Written, compat::Compat, error::Fault,
    node::Node, reader::Reader, schema,
};

const MODES: [(&str, Mode); 2] = [("server", Mode::Server), ("client", Mode::Client)];

/// Which direction to run: the subcommand's, the file's, or both when they agree.
pub(super) fn mode(
    root: &Node,
    asked: Option<Mode>,
    file: bool,
    env: Environment<'_>,
) -> Result<Mode, Fault> {
    let mut r = Reader::new(root, env, false, Vec::new());
    let Some(written) = r.choice("mode", &MODES)? else {
        return asked.ok_or_else(|| missing_mode(root, file));
    };
    match (written, asked) {
        (Mode::Server, Some(Mode::Client)) => Err(
            r.fault("mode", "is server, but the subcommand is `connect`; run `serve`, or use another file")
        ),
        (Mode::Client, Some(Mode::Server)) => Err(
            r.fault("mode", "is client, but the subcommand is `serve`; run `connect`, or use another file")
        ),
        (written, _) => Ok(written),
    }
}

fn missing_mode(root: &Node, file: bool) -> Fault {
    // Perhaps it is there, misspelt.
    if let Err(fault) = schema::check(root, None) {
        return fault;
    }
    let place = if file { "set `mode: server` or `mode: client`, or " } else { "" };
    Fault::missing(root, "mode", format!("missing; {place}run `mcp-bridge serve` or `mcp-bridge connect`"))
}

/// Reads everything else.
pub(super) fn config(root: &Node, mode: Mode, env: Environment<'_>, compat: Compat) -> Result<Config, Fault> {
    let r = &mut Reader::new(root, env, compat.used, compat.warnings);
    // Once more, so that a variable in it counts as used.
    r.choice("mode", &MODES)?;
    let logging = logging(r, mode)?;
    let metrics_listen = r.parsed("metrics.listen", address::metrics)?;
    let fips_required = tls::fips_required(r)?;
    let role = match mode {
        Mode::Server => Role::Serve(Box::new(serve::serve(r, metrics_listen)?)),
        Mode::Client => Role::Connect(Box::new(connect::connect(r)?)),
    };
    let warnings = std::mem::take(&mut r.warnings);
    let written = Written(root.clone());
    Ok(Config { file: None, role, logging, metrics_listen, fips_required, written, warnings })
}

fn logging(r: &mut Reader<'_>, mode: Mode) -> Result<Logging, Fault> {
    let levels = [
        ("debug", log::LevelFilter::Debug),
        ("info", log::LevelFilter::Info),
        ("warn", log::LevelFilter::Warn),
        ("error", log::LevelFilter::Error),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let output = match r.text("logging.output")? {
        None => LogOutput::Stderr,
        Some(leaf) => match leaf.text.as_str() {
            "stderr" => LogOutput::Stderr,
            "stdout" if mode == Mode::Client => {
                return Err(leaf.fault("carries the protocol in client mode; use stderr or a file's path"));
            }
            "stdout" => LogOutput::Stdout,
            path => LogOutput::File(PathBuf::from(path)),
        },
    };
    Ok(Logging {
        level: r.choice("logging.level", &levels)?.unwrap_or(log::LevelFilter::Info),
        format: r.choice("logging.format", &formats)?.unwrap_or_default(),
        output,
        requests: r.flag("logging.requests", true)?,
        bodies: r.flag("logging.bodies", false)?,
    })
}
