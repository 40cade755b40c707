//! Both eras on one pipe.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{Pair, discovered, refuse};
use crate::support::connect::{initialize_params, opened};
use crate::support::modern::Request;

#[test]
fn a_client_may_ask_for_the_era_and_fall_back_to_initialize() {
    let mut pair = Pair::new("client:\n  translate: false");
    refuse(pair.asked("d", "server/discover", json!({})), "404 Not Found", -32601, &json!({}));
    assert_eq!(pair.client.next_message()["error"]["code"], -32601);
    pair.client.ask("i", "initialize", &initialize_params());
    opened(pair.remote.asked("initialize"), "s");
    assert_eq!(pair.client.next_message()["id"], "i");
    pair.client.ask(1, "ping", &json!({}));
    let ping = pair.remote.asked("ping");
    assert_eq!(ping.header("mcp-session-id"), "s");
    ping.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
}

#[test]
fn a_translated_server_answers_both_eras_each_in_a_session_of_its_own() {
    let mut pair = Pair::new("");
    pair.ask(&Request::new("d", "server/discover", json!({})));
    refuse(pair.remote.asked("server/discover"), "400 Bad Request", -32000, &json!({}));
    opened(pair.remote.asked("initialize"), "translated");
    pair.remote.asked("notifications/initialized").accepted();
    pair.remote.get().respond("405 Method Not Allowed", &[], b"");
    assert_eq!(pair.client.next_message()["result"]["supportedVersions"], json!(["2026-07-28"]));
    pair.client.ask("i", "initialize", &initialize_params());
    opened(pair.remote.asked("initialize"), "own");
    assert_eq!(pair.client.next_message()["id"], "i");
    for (id, session) in [(1, "own"), (2, "translated"), (3, "own")] {
        if session == "own" {
            pair.client.ask(id, "prompts/list", &json!({}));
        } else {
            pair.ask(&Request::new(id, "prompts/list", json!({})));
        }
        let request = pair.remote.asked("prompts/list");
        assert_eq!(request.header("mcp-session-id"), session);
        request.result(&json!({"prompts": []}));
        assert_eq!(pair.client.next_message()["id"], id);
    }
    pair.client.close_stdin();
    for _ in 0..2 {
        pair.remote.delete().respond("200 OK", &[], b"");
    }
    assert!(pair.client.wait().success());
}

#[test]
fn a_modern_server_answers_both_eras() {
    let mut pair = Pair::new("client:\n  protocol: modern");
    let modern = pair.asked(1, "prompts/get", json!({"name": "p"}));
    pair.client.ask("i", "initialize", &initialize_params());
    pair.remote.asked("server/discover").result(&discovered());
    assert_eq!(pair.client.next_message()["id"], "i");
    pair.client.ask(2, "prompts/list", &json!({}));
    pair.remote.asked("prompts/list").result(&json!({"resultType": "complete", "prompts": []}));
    assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": 2, "result": {"prompts": []}}));
    modern.result(&json!({"resultType": "complete"}));
    assert_eq!(
        pair.client.next_message(),
        json!({"jsonrpc": "2.0", "id": 1, "result": {"resultType": "complete"}})
    );
    // Each cancels its own.
    let modern = pair.asked(3, "prompts/get", json!({"name": "p"}));
    pair.client.ask(4, "prompts/list", &json!({}));
    let legacy = pair.remote.asked("prompts/list");
    pair.cancel(4);
    legacy.wait_closed();
    pair.cancel(3);
    modern.wait_closed();
    // Both end with the process.
    let modern = pair.asked(5, "prompts/get", json!({"name": "p"}));
    pair.client.ask(6, "prompts/list", &json!({}));
    let legacy = pair.remote.asked("prompts/list");
    pair.client.signal(Signal::SIGTERM);
    assert!(pair.client.wait().success());
    modern.wait_closed();
    legacy.wait_closed();
}
