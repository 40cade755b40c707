//! What the other tests take for granted of the fixture server and of their own tools.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::fixture_server;
use crate::support::process::Process;

#[test]
fn the_fixture_server_runs_calls_at_once_and_ends_with_its_input() {
    let mut server = Process::spawn(&mut Command::new(fixture_server()));
    assert_eq!(server.initialize()["result"]["serverInfo"]["name"], "fixture-server");
    for id in ["a", "b"] {
        let params = json!({"name": "meet", "arguments": {"n": 2}});
        server
            .send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string());
    }
    let mut ids = [0; 2].map(|_| server.next_message()["id"].to_string());
    ids.sort();
    assert_eq!(ids, [r#""a""#, r#""b""#]);
    server.close_stdin();
    assert!(server.wait().success());
    assert_eq!(server.next_line(), None);
}

#[test]
fn the_fixture_server_dies_and_resists_as_told() {
    let mut server = Process::spawn(&mut Command::new(fixture_server()));
    let said = server.call("stderr", &json!({"bytes": 100, "line": 40}));
    assert_eq!(said["result"]["content"][0]["text"], "100 bytes on stderr");
    server.logged("0 1 2 3");
    server.call("ignore_term", &json!({}));
    server.signal(Signal::SIGTERM);
    server.call("echo", &json!({"message": "still here"}));
    let die = json!({"name": "die", "arguments": {"signal": 9}});
    server.send(&json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": die}).to_string());
    assert_eq!(server.wait().signal(), Some(9));
}
