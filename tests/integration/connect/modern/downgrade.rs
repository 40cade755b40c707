//! A legacy client of a server that speaks the modern revision only.

use serde_json::{Value, json};

use super::{MODERN, Pair, discovered, refuse};
use crate::support::connect::initialize_params;
use crate::support::modern::{CAPABILITIES_KEY, REVISION, VERSION_KEY};
use crate::support::proc::{Footprint, LONG};
use crate::support::remote::{Events, Request};

fn params() -> Value {
    let mut params = initialize_params();
    params["capabilities"] = json!({"elicitation": {}});
    params
}

fn acknowledge(listen: Request) -> Events {
    let filter = listen.message()["params"]["notifications"].clone();
    let mut events = listen.events();
    events.notification("notifications/subscriptions/acknowledged", &json!({"notifications": filter}));
    events
}

/// A client that has initialized and listens to changes.
fn entered(config: &str) -> (Pair, Events) {
    let mut pair = Pair::new(config);
    pair.client.ask("i", "initialize", &params());
    enter(pair)
}

fn enter(mut pair: Pair) -> (Pair, Events) {
    pair.remote.asked("server/discover").result(&discovered());
    let result = pair.client.next_message();
    assert_eq!((&result["id"], &result["result"]["protocolVersion"]), (&json!("i"), &json!("2025-11-25")));
    pair.client.notify("notifications/initialized", &json!({}));
    let events = acknowledge(pair.remote.asked("subscriptions/listen"));
    (pair, events)
}

#[test]
fn a_server_that_refuses_initialize_is_asked_for_its_era_and_translated() {
    for (status, code) in [
        ("400 Bad Request", -32022),
        ("400 Bad Request", -32020),
        ("404 Not Found", -32601),
        ("200 OK", -32601),
    ] {
        let mut pair = Pair::new("");
        pair.client.ask("i", "initialize", &params());
        let data = json!({"supported": [REVISION], "requested": "2025-11-25"});
        refuse(pair.remote.asked("initialize"), status, code, &data);
        // Once to know its era, and once to answer the client.
        pair.remote.asked("server/discover").result(&discovered());
        let (mut pair, listen) = enter(pair);
        pair.client.ask(1, "prompts/list", &json!({}));
        let request = pair.remote.asked("prompts/list");
        assert_eq!(
            (request.header("mcp-method"), request.header("mcp-session-id")),
            ("prompts/list".into(), String::new())
        );
        let meta = request.message()["params"]["_meta"].clone();
        assert_eq!(
            (&meta[VERSION_KEY], &meta[CAPABILITIES_KEY]),
            (&json!(REVISION), &json!({"elicitation": {}}))
        );
        request.result(&json!({"resultType": "complete", "prompts": [], "ttlMs": 1, "cacheScope": "public"}));
        assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": 1, "result": {"prompts": []}}));
        pair.client.close_stdin();
        listen.wait_closed();
        assert!(pair.client.wait().success());
        assert_eq!(pair.remote.unasked(), [""; 0], "there is no session to delete");
    }
}

#[test]
fn a_server_that_refuses_initialize_without_a_word_is_asked_for_its_era_too() {
    for (status, media, body) in [
        ("400 Bad Request", "text/plain", "Bad Request"),
        ("400 Bad Request", "application/json", r#"{"error":"Missing header: Mcp-Method"}"#),
        ("404 Not Found", "text/html", "<p>?</p>"),
        ("405 Method Not Allowed", "text/plain", ""),
        ("415 Unsupported Media Type", "text/plain", ""),
    ] {
        for config in ["", "client:\n  transport: streamable-http\n"] {
            let mut pair = Pair::new(config);
            pair.client.ask("i", "initialize", &params());
            let initialize = pair.remote.asked("initialize");
            initialize.respond(status, &[&format!("content-type: {media}")], body.as_bytes());
            // Once to know its era, and once to answer the client.
            pair.remote.asked("server/discover").result(&discovered());
            let (mut pair, _listen) = enter(pair);
            pair.client.ask(1, "prompts/list", &json!({}));
            let prompts = pair.remote.asked("prompts/list");
            prompts.result(
                &json!({"resultType": "complete", "prompts": [], "ttlMs": 1, "cacheScope": "public"}),
            );
            assert_eq!(pair.client.next_message()["result"], json!({"prompts": []}));
            assert_eq!(pair.remote.unasked(), [""; 0], "the server is not tried for an old one");
        }
    }
}

#[test]
fn a_server_that_lets_nobody_in_is_asked_again_when_it_has_come_back() {
    let mut pair = Pair::new("");
    pair.client.ask("i", "initialize", &params());
    for method in ["initialize", "server/discover"] {
        pair.remote.asked(method).respond("404 Not Found", &[], b"");
    }
    pair.remote.get().respond("404 Not Found", &[], b"");
    assert!(pair.client.own_error("i").contains("404"));
    pair.client.ask("i", "initialize", &params());
    pair.remote.asked("initialize").respond("400 Bad Request", &[], b"");
    pair.remote.asked("server/discover").result(&discovered());
    enter(pair);
}

#[test]
fn a_dual_era_server_is_spoken_to_in_the_clients_era() {
    let mut pair = Pair::new("");
    pair.client.ask("i", "initialize", &params());
    crate::support::connect::opened(pair.remote.post(), "s");
    assert_eq!(pair.client.next_message()["id"], "i");
    pair.client.ask(1, "ping", &json!({}));
    assert_eq!(pair.remote.post().header("mcp-session-id"), "s");
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_question_is_put_to_the_client_and_the_call_sent_again() {
    let (mut pair, _listen) = entered(MODERN);
    pair.client.ask(1, "tools/call", &json!({"name": "t", "arguments": {}}));
    pair.remote.asked("tools/list").result(&json!({"resultType": "complete", "tools": []}));
    let question = json!({"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}});
    pair.remote.asked("tools/call").result(
        &json!({"resultType": "input_required", "inputRequests": {"q": question}, "requestState": "s"}),
    );
    let asked = pair.client.next_message();
    assert_eq!((&asked["method"], &asked["params"]["message"]), (&json!("elicitation/create"), &json!("?")));
    let answer = json!({"action": "accept", "content": {}});
    pair.client.message(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": answer}));
    let again = pair.remote.asked("tools/call");
    assert_eq!(
        (&again.message()["params"]["inputResponses"]["q"], &again.message()["params"]["requestState"]),
        (&answer, &json!("s"))
    );
    let mut events = again.events();
    events.result(&json!({"resultType": "complete", "content": []}));
    assert_eq!(pair.client.next_message()["result"], json!({"content": []}));
}

#[test]
fn changes_are_told_and_subscriptions_made() {
    let (mut pair, mut listen) = entered(MODERN);
    listen.notification("notifications/tools/list_changed", &json!({}));
    assert_eq!(pair.client.next_message()["method"], "notifications/tools/list_changed");
    pair.client.ask(1, "resources/subscribe", &json!({"uri": "file:///a"}));
    let second = pair.remote.asked("subscriptions/listen");
    assert_eq!(second.message()["params"]["notifications"]["resourceSubscriptions"], json!(["file:///a"]));
    let mut second = acknowledge(second);
    assert_eq!(pair.client.next_message()["id"], 1);
    listen.wait_closed();
    second.notification("notifications/resources/updated", &json!({"uri": "file:///a"}));
    assert_eq!(pair.client.next_message()["params"]["uri"], "file:///a");
}

#[test]
fn pings_and_duplicates_are_answered_here_and_cancelling_closes_the_stream() {
    let (mut pair, _listen) = entered(MODERN);
    pair.client.ask(1, "ping", &json!({}));
    assert_eq!(pair.client.next_message()["result"], json!({}));
    pair.client.ask(2, "prompts/list", &json!({}));
    let first = pair.remote.asked("prompts/list");
    pair.client.ask(2, "prompts/list", &json!({}));
    assert_eq!(pair.client.next_message()["error"]["data"]["reason"], "duplicate_id");
    first.result(&json!({"resultType": "complete", "prompts": [1]}));
    assert_eq!(pair.client.next_message()["result"]["prompts"], json!([1]));
    pair.client.ask(3, "prompts/list", &json!({}));
    let cancelled = pair.remote.asked("prompts/list");
    pair.cancel(3);
    cancelled.wait_closed();
    pair.client.ask(4, "ping", &json!({}));
    assert_eq!(pair.client.next_message()["id"], 4);
}

#[test]
fn initialize_is_never_cancelled() {
    let mut pair = Pair::new(MODERN);
    pair.client.ask("i", "initialize", &params());
    let discover = pair.remote.asked("server/discover");
    pair.cancel("i");
    // Answered here, and so after the cancellation was taken in.
    pair.client.ask(1, "ping", &json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
    discover.result(&discovered());
    assert_eq!(pair.client.next_message()["id"], "i");
}

#[test]
fn at_the_end_of_input_the_answers_in_flight_still_come_and_each_once() {
    for _ in 0..20 {
        let (mut pair, _listen) = entered(MODERN);
        pair.client.ask(1, "prompts/list", &json!({}));
        let request = pair.remote.asked("prompts/list");
        pair.client.close_stdin();
        request.result(&json!({"resultType": "complete", "prompts": ["x".repeat(100_000)]}));
        assert_eq!(pair.client.next_message()["id"], 1);
        assert_eq!(pair.client.next_line(), None);
        assert!(pair.client.wait().success());
    }
    let (mut pair, listen) = entered(MODERN);
    pair.client.ask(1, "prompts/list", &json!({}));
    let never = pair.remote.asked("prompts/list");
    pair.client.close_stdin();
    assert!(pair.client.own_error(1).contains("standard input ended"));
    assert_eq!(pair.client.next_line(), None);
    assert!(pair.client.wait().success());
    never.wait_closed();
    listen.wait_closed();
}

#[test]
fn without_translation_initialize_is_refused_as_the_revision_says() {
    for config in ["client:\n  translate: false", "client:\n  translate: false\n  protocol: modern"] {
        let mut pair = Pair::new(config);
        pair.client.ask("i", "initialize", &params());
        if !config.contains("modern") {
            refuse(
                pair.remote.asked("initialize"),
                "400 Bad Request",
                -32022,
                &json!({"supported": [REVISION]}),
            );
            pair.remote.asked("server/discover").result(&discovered());
        }
        let refused = pair.client.next_message();
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!("i"), &json!(-32022)));
        assert_eq!(refused["error"]["data"]["supported"], json!([REVISION]));
    }
}

#[test]
fn a_legacy_server_that_refuses_initialize_is_not_translated() {
    let mut pair = Pair::new("");
    pair.client.ask("i", "initialize", &params());
    refuse(pair.remote.asked("initialize"), "200 OK", -32602, &json!({"own": true}));
    refuse(pair.remote.asked("server/discover"), "200 OK", -32601, &Value::Null);
    assert_eq!(pair.client.next_message()["error"]["data"]["own"], true);
}

#[test]
fn a_long_message_is_translated_without_being_held_twice() {
    let (mut pair, _listen) = entered(MODERN);
    pair.client.ask("l", "tools/list", &json!({}));
    let tools = json!([{"name": "t", "inputSchema": {"type": "object"}}]);
    pair.remote.asked("tools/list").result(&json!({"resultType": "complete", "tools": tools}));
    pair.client.next_message();
    let footprint = Footprint::of(pair.client.pid());
    let text = "x".repeat(LONG);
    for id in 0..3 {
        pair.client.ask(id, "tools/call", &json!({"name": "t", "arguments": {"text": text}}));
        let call = pair.remote.asked("tools/call");
        assert_eq!(call.message()["params"]["arguments"]["text"], text);
        call.result(&json!({"resultType": "complete", "content": [{"type": "text", "text": text}]}));
        let answer = pair.client.next_message();
        assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(id), &json!(text)));
    }
    footprint.is_below(4);
}
