//! A scripted MCP server over stdio, for the tests: each tool is one way in which a server can behave, well or badly.
//!
//! It speaks the legacy revisions, runs every call in a thread of its own, and ends with its standard input.
//! `tools.rs` lists the tools; the options of the command line are in [`Options`].
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test server may die of a wrong test"
)]

mod peer;
mod tools;

use std::fs::OpenOptions;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::{process, thread};

use nix::sys::signal::{SigSet, Signal, raise};
use serde_json::{Value, json};

use peer::Peer;
use tools::{Call, Reply};

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// How the server behaves from its start, before any tool is called.
#[derive(Clone, Default)]
struct Options {
    /// `--name N`: its name in `serverInfo`.
    name: Option<String>,
    /// `--revision R`: the revision that `initialize` is answered with, whatever was asked for.
    revision: Option<String>,
    /// `--fail-start STATUS`: exit at once.
    fail_start: Option<i32>,
    /// `--exit-on-initialize STATUS`: exit instead of answering `initialize`.
    exit_on_initialize: Option<i32>,
    /// `--no-initialize-answer`: say nothing to `initialize`.
    no_initialize_answer: bool,
    /// `--ignore-term`: SIGTERM does nothing.
    ignore_term: bool,
    /// `--ignore-eof`: stay when standard input ends.
    ignore_eof: bool,
    /// `--pid-file PATH`: append the process id, so that a test can count the starts.
    pid_file: Option<String>,
}

impl Options {
    fn from_args() -> Self {
        let mut options = Self::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                "--name" => options.name = Some(value()),
                "--revision" => options.revision = Some(value()),
                "--fail-start" => options.fail_start = Some(value().parse().unwrap()),
                "--exit-on-initialize" => options.exit_on_initialize = Some(value().parse().unwrap()),
                "--no-initialize-answer" => options.no_initialize_answer = true,
                "--ignore-term" => options.ignore_term = true,
                "--ignore-eof" => options.ignore_eof = true,
                "--pid-file" => options.pid_file = Some(value()),
                _ => panic!("unknown option {arg}"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::from_args();
    if let Some(path) = &options.pid_file {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{}", process::id()).unwrap();
    }
    if let Some(status) = options.fail_start {
        eprintln!("fixture-server: told to fail at start");
        process::exit(status);
    }
    let peer = Arc::new(Peer::new(options.ignore_term));
    watch_sigterm(&peer);
    read_stdin(&options, &peer);
    if options.ignore_eof {
        park();
    }
}

/// SIGTERM is blocked in every thread and taken by this one, so that a tool can change what it does.
fn watch_sigterm(peer: &Arc<Peer>) {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().unwrap();
    let peer = Arc::clone(peer);
    thread::spawn(move || {
        while set.wait().is_ok() {
            if !peer.ignores_term() {
                set.thread_unblock().unwrap();
                raise(Signal::SIGTERM).unwrap();
            }
        }
    });
}

fn read_stdin(options: &Options, peer: &Arc<Peer>) {
    let mut stdin = std::io::stdin().lock();
    let mut line = Vec::new();
    while stdin.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
        match serde_json::from_slice(&line) {
            Ok(Value::Array(batch)) => batch.into_iter().for_each(|m| handle(options, peer, m, &line)),
            Ok(message) => handle(options, peer, message, &line),
            Err(error) => {
                eprintln!("fixture-server: not JSON: {error}");
                peer.send(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": error.to_string()}}));
            }
        }
        line.clear();
    }
}

fn handle(options: &Options, peer: &Arc<Peer>, message: Value, line: &[u8]) {
    let id = message.get("id").cloned();
    let params = message.get("params").cloned().unwrap_or_default();
    match (message.get("method").and_then(Value::as_str), id) {
        (Some("initialize"), Some(id)) => initialize(options, peer, &id, params),
        (Some("ping" | "logging/setLevel"), Some(id)) => peer.answer(&id, &json!({})),
        (Some("tools/list"), Some(id)) => peer.answer(&id, &json!({"tools": tools::list()})),
        (Some("tools/call"), Some(id)) => call(peer, id, params, line),
        (Some(other), Some(id)) => peer.refuse(&id, -32601, &format!("Method not found: {other}")),
        (Some("notifications/cancelled"), None) => peer.cancel(params["requestId"].clone()),
        (Some(_), None) => {}
        (None, _) => peer.take_response(message),
    }
}

fn initialize(options: &Options, peer: &Arc<Peer>, id: &Value, params: Value) {
    if let Some(status) = options.exit_on_initialize {
        eprintln!("fixture-server: told to exit at initialize");
        process::exit(status);
    }
    let version = revision(options, &params);
    let name = options.name.as_deref().unwrap_or("fixture-server");
    let result = json!({
        "protocolVersion": version,
        "capabilities": {"tools": {"listChanged": true}, "logging": {}},
        "serverInfo": {"name": name, "version": "1.0.0"},
    });
    peer.remember_initialize(params);
    if !options.no_initialize_answer {
        peer.answer(id, &result);
    }
}

/// The revision to speak: the one of the command line, else what is asked for, else the newest.
fn revision<'a>(options: &'a Options, params: &Value) -> &'a str {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let known = || *VERSIONS.iter().find(|known| **known == asked).unwrap_or(&VERSIONS[3]);
    options.revision.as_deref().unwrap_or_else(known)
}

fn call(peer: &Arc<Peer>, id: Value, params: Value, line: &[u8]) {
    let Some(tool) = params["name"].as_str().and_then(tools::find) else {
        return peer.refuse(&id, -32602, &format!("Unknown tool: {}", params["name"]));
    };
    let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned();
    let call = Call { peer: Arc::clone(peer), id, line, params };
    let run = move || match (tool.run)(&call) {
        Reply::Result(result) => call.peer.answer(&call.id, &result),
        Reply::Error(code, message) => call.peer.refuse(&call.id, code, &message),
        Reply::Nothing => {}
    };
    if tool.stops_the_reader {
        run();
        park();
    }
    thread::spawn(run);
}

/// Never goes on.
fn park() -> ! {
    loop {
        thread::park();
    }
}
