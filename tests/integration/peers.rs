//! The official SDKs, the Inspector and the reference servers, on both ends of the bridge and over real TLS.
//!
//! They are not built by cargo: `tests/peers/setup.sh DIR` installs them, and `MCP_BRIDGE_PEERS=DIR` names them here.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::bridge::{Bridge, Guard, Serve, TOKEN, TOKEN_VARIABLE};
use crate::support::certs::cert;
use crate::support::process::Process;
use crate::support::remote::closed_port;
use crate::support::{BRIDGE, installed, repository};

const GUARDS: [Guard; 3] = [Guard::Tls, Guard::Mutual, Guard::Bearer];

#[test]
fn the_python_sdk_uses_every_feature_over_https() {
    each_guard(|peers, bridge, guard| {
        let report = peers.python("client.py", &over_https(bridge, guard));
        assert_eq!(report["after_delete"], 404, "{report}");
    });
}

#[test]
fn the_python_sdk_uses_every_feature_through_connect() {
    each_guard(|peers, bridge, _| {
        peers.python("client.py", &over_stdio(bridge));
    });
}

#[test]
fn the_typescript_sdk_uses_every_feature_over_https() {
    each_guard(|peers, bridge, guard| {
        let report = peers.node("client.mjs", &over_https(bridge, guard));
        assert_eq!(report["after_delete"], 404, "{report}");
    });
}

#[test]
fn the_typescript_sdk_uses_every_feature_through_connect() {
    each_guard(|peers, bridge, _| {
        peers.node("client.mjs", &over_stdio(bridge));
    });
}

#[test]
fn the_sdks_use_every_feature_of_servers_of_older_revisions() {
    let Some(peers) = Peers::installed() else { return };
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let bridge = Serve::new(Guard::Tls).child_arg("--revision").child_arg(revision).start();
        for way in [over_https(&bridge, Guard::Tls), over_stdio(&bridge)] {
            assert_eq!(peers.python("client.py", &way)["protocol"], revision);
            let over_http = peers.node("client.mjs", &way).get("protocol").cloned();
            assert!(over_http.is_none_or(|protocol| protocol == revision));
        }
    }
}

#[test]
fn the_inspector_lists_and_calls_over_https() {
    each_guard(|peers, bridge, guard| {
        peers.script("inspector.sh", &over_https(bridge, guard));
    });
}

#[test]
fn the_inspector_lists_and_calls_through_connect() {
    each_guard(|peers, bridge, _| {
        peers.script("inspector.sh", &over_stdio(bridge));
    });
}

#[test]
fn the_inspector_of_2026_07_28_lists_and_calls_both_ways() {
    let Some(peers) = Peers::installed() else { return };
    for server in [&[][..], &["--modern"]] {
        let mut serve = Serve::new(Guard::Tls);
        for arg in server {
            serve = serve.child_arg(arg);
        }
        let bridge = serve.start();
        for way in [over_https(&bridge, Guard::Tls), over_stdio(&bridge)] {
            peers.script("inspector.sh", &[vec!["--era".to_owned(), "modern".to_owned()], way].concat());
        }
    }
}

#[test]
fn thirty_two_clients_with_the_same_request_ids_get_only_what_is_theirs() {
    let Some(peers) = Peers::installed() else { return };
    let bridge = Bridge::serve(Guard::Mutual);
    let report = peers.python("many.py", &over_https(&bridge, Guard::Mutual));
    assert_eq!(report["clients"], 32, "{report}");
}

#[test]
fn eight_connects_at_once_get_only_what_is_theirs() {
    let Some(peers) = Peers::installed() else { return };
    let bridge = Bridge::serve(Guard::Mutual);
    let mut args = vec!["--clients".to_owned(), "8".to_owned()];
    args.extend(over_stdio(&bridge));
    let report = peers.python("many.py", &args);
    assert_eq!(report["clients"], 8, "{report}");
}

#[test]
fn server_everything_works_behind_serve_and_connect() {
    let Some(peers) = Peers::installed() else { return };
    let bridge =
        Serve::new(Guard::Mutual).child(&[&peers.node_path(), &peers.server("everything"), "stdio"]).start();
    for way in [over_https(&bridge, Guard::Mutual), over_stdio(&bridge)] {
        peers.node("servers.mjs", &[vec!["everything".to_owned()], way].concat());
    }
}

#[test]
fn server_filesystem_works_behind_serve_and_connect() {
    let Some(peers) = Peers::installed() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let bridge =
        Serve::new(Guard::Mutual).child(&[&peers.node_path(), &peers.server("filesystem"), dir]).start();
    for way in [over_https(&bridge, Guard::Mutual), over_stdio(&bridge)] {
        let args = ["filesystem", "--dir", dir].map(str::to_owned).to_vec();
        peers.node("servers.mjs", &[args, way].concat());
    }
}

#[test]
fn the_sdks_use_every_feature_through_connect_by_http_sse() {
    let Some(peers) = Peers::installed() else { return };
    for guard in GUARDS {
        let bridge = Bridge::serve(guard);
        let way = [vec!["--stdio".to_owned()], bridge.connect_command_to("/sse")].concat();
        peers.python("client.py", &way);
        peers.node("client.mjs", &way);
    }
}

#[test]
fn the_sdks_reach_a_python_server_of_http_sse_through_connect() {
    const MARK: &str = "Uvicorn running on ";
    let Some(peers) = Peers::installed() else { return };
    let with_a_server = |client: &dyn Fn(&[String])| {
        let mut command = Command::new(peers.path("venv/bin/python"));
        let server = Process::spawn(command.arg("-B").arg(source("sse_server.py")));
        let line = server.logged(MARK);
        let url = line.split(MARK).nth(1).unwrap().split(' ').next().unwrap();
        client(&["--stdio", BRIDGE, "connect", &format!("{url}/sse")].map(str::to_owned));
    };
    with_a_server(&|way| drop(peers.python("client.py", way)));
    with_a_server(&|way| drop(peers.node("client.mjs", way)));
}

#[test]
fn server_everything_works_by_http_sse_behind_connect() {
    let Some(peers) = Peers::installed() else { return };
    let port = closed_port();
    let mut command = Command::new(peers.node_path());
    command.args([&peers.server("everything"), "sse"]).env("PORT", port.to_string());
    let server = Process::spawn(&mut command);
    server.logged("Server is running on port");
    let url = format!("http://127.0.0.1:{port}/sse");
    peers.node("servers.mjs", &["everything", "--stdio", BRIDGE, "connect", &url].map(str::to_owned));
}

fn each_guard(test: impl Fn(&Peers, &Bridge, Guard)) {
    let Some(peers) = Peers::installed() else { return };
    for guard in GUARDS {
        let bridge = Bridge::serve(guard);
        test(&peers, &bridge, guard);
    }
}

/// A script's arguments that bring it to the bridge by HTTPS.
pub(crate) fn over_https(bridge: &Bridge, guard: Guard) -> Vec<String> {
    let mut args = vec!["--ca".to_owned(), cert("ca.crt")];
    match guard {
        Guard::Mutual => {
            args.extend(["--cert".to_owned(), cert("client.crt"), "--key".to_owned(), cert("client.key")]);
        }
        Guard::Bearer => args.extend(["--token-env".to_owned(), TOKEN_VARIABLE.to_owned()]),
        Guard::None | Guard::Tls => {}
    }
    args.push(bridge.url.clone());
    args
}

/// A script's arguments that bring it to the bridge by `connect`.
pub(crate) fn over_stdio(bridge: &Bridge) -> Vec<String> {
    let mut args = vec!["--stdio".to_owned()];
    args.extend(bridge.connect_command());
    args
}

/// The folder that `setup.sh` filled.
pub(crate) struct Peers(PathBuf);

impl Peers {
    pub(crate) fn installed() -> Option<Self> {
        installed("MCP_BRIDGE_PEERS", "real peers", "peers").map(Self)
    }

    pub(crate) fn node_path(&self) -> String {
        self.path("bin/node")
    }

    fn server(&self, name: &str) -> String {
        self.path(&format!("node_modules/@modelcontextprotocol/server-{name}/dist/index.js"))
    }

    /// A script named `…_2.py` runs on the Python SDK 2.x, any other of Python on 1.x.
    fn python(&self, script: &str, args: &[String]) -> Value {
        let second = script.ends_with("_2.py");
        let venv = if second { "venv-2" } else { "venv" };
        let mut command = Command::new(self.path(&format!("{venv}/bin/python")));
        command.envs(second.then(|| ("SSL_CERT_FILE", cert("ca.crt"))));
        self.run(command.arg("-B").arg(source(script)).args(args))
    }

    pub(crate) fn client(&self, script: &str, args: &[String]) -> Value {
        let is_python = Path::new(script).extension().is_some_and(|extension| extension == "py");
        if is_python { self.python(script, args) } else { self.node(script, args) }
    }

    fn node(&self, script: &str, args: &[String]) -> Value {
        self.run(Command::new(self.node_path()).arg(source(script)).args(args))
    }

    fn script(&self, script: &str, args: &[String]) -> Value {
        self.run(Command::new(source(script)).args(args))
    }

    /// Each script bounds its own time, fails loudly, and prints one line of JSON.
    fn run(&self, command: &mut Command) -> Value {
        let output = command.env("MCP_BRIDGE_PEERS", &self.0).env(TOKEN_VARIABLE, TOKEN).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}\n{stdout}{stderr}", output.status);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{command:?} printed {stdout}: {error}"))
    }

    pub(crate) fn path(&self, inside: &str) -> String {
        self.0.join(inside).into_os_string().into_string().unwrap()
    }
}

pub(crate) fn source(script: &str) -> PathBuf {
    repository().join("tests/peers").join(script)
}
