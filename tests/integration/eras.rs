//! The official SDKs of both eras: each client with each server, through `serve` and through `connect`.
//!
//! The clients of one era do with the servers of the other what they do with their own: `tests/peers/eras*`.

use std::process::Command;

use crate::peers::{Peers, over_https, over_stdio, source};
use crate::support::BRIDGE;
use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::process::Process;

/// The clients, two of each era.
const CLIENTS: [&str; 4] = ["eras-1.mjs", "eras_1.py", "eras-2.mjs", "eras_2.py"];

const LEGACY: &str = "server-1.mjs";
const MODERN: &str = "server-2.mjs";

#[test]
fn clients_of_both_eras_use_a_legacy_server_behind_serve() {
    through_serve(LEGACY);
}

#[test]
fn clients_of_both_eras_use_a_modern_server_behind_serve() {
    through_serve(MODERN);
}

#[test]
fn clients_of_both_eras_use_a_legacy_server_behind_connect() {
    through_connect(LEGACY);
}

#[test]
fn clients_of_both_eras_use_a_modern_server_behind_connect() {
    through_connect(MODERN);
}

#[test]
fn clients_of_both_eras_behind_connect_use_servers_of_both_behind_serve() {
    let Some(peers) = Peers::installed() else { return };
    for (client, server) in [("eras-1.mjs", MODERN), ("eras-2.mjs", LEGACY)] {
        let bridge = served(&peers, server);
        check(&peers, client, server, &over_stdio(&bridge));
    }
}

fn through_serve(server: &str) {
    let Some(peers) = Peers::installed() else { return };
    for client in CLIENTS {
        let bridge = served(&peers, server);
        check(&peers, client, server, &over_https(&bridge, Guard::Tls));
    }
}

fn served(peers: &Peers, server: &str) -> Bridge {
    let script = source(server).into_os_string().into_string().unwrap();
    Serve::new(Guard::Tls)
        .env("MCP_BRIDGE_PEERS", &peers.path(""))
        .child(&[peers.node_path(), script])
        .start()
}

fn through_connect(server: &str) {
    const MARK: &str = "listening on ";
    let Some(peers) = Peers::installed() else { return };
    for client in CLIENTS {
        let mut command = Command::new(peers.node_path());
        command.arg(source(server)).arg("--http").env("MCP_BRIDGE_PEERS", peers.path(""));
        let http = Process::spawn(&mut command);
        let line = http.logged(MARK);
        let url = line.split(MARK).nth(1).unwrap().trim();
        check(&peers, client, server, &["--stdio", BRIDGE, "connect", url].map(str::to_owned));
    }
}

/// One client uses one server, and gets its errors under the codes of the client's era.
fn check(peers: &Peers, client: &str, server: &str, way: &[String]) {
    let report = peers.client(client, way);
    let legacy = client.contains('1') && server == LEGACY;
    assert_eq!(report["unknown_method"], -32601, "{report}");
    assert_eq!(report["missing_resource"], if legacy { -32002 } else { -32602 }, "{report}");
    assert_eq!(report["unknown_tool"], -32602, "{report}");
}
