//! A session that the server has lost is opened again, and nobody notices.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::connect::{Client, Connect, Pair, VERSION, initialize_params, opened, opened_in};
use crate::support::remote::{Remote, Request};

#[test]
fn a_lost_session_is_opened_again_as_the_client_had_made_it() {
    let mut pair = Pair::listening(Remote::plain(), |connect| connect);
    let mut stream = pair.remote.get().events();
    stream.piece(b"id: old-7\n\n");
    pair.client.settle(&pair.remote, "logging/setLevel", &json!({"level": "info"}));
    pair.client.settle(&pair.remote, "logging/setLevel", &json!({"level": "debug"}));
    pair.client.settle(&pair.remote, "resources/subscribe", &json!({"uri": "test://a"}));
    pair.client.settle(&pair.remote, "resources/subscribe", &json!({"uri": "test://b"}));
    pair.client.settle(&pair.remote, "resources/unsubscribe", &json!({"uri": "test://a"}));

    let call = json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": {"name": "x"}});
    pair.client.message(&call);
    lost(pair.remote.post());

    let initialize = pair.remote.post();
    assert_eq!(initialize.message()["method"], "initialize");
    assert_eq!(initialize.message()["params"], initialize_params(), "the client's own");
    assert_eq!(initialize.header("mcp-session-id"), "");
    opened(initialize, "session-2");
    let initialized = in_second(pair.remote.post());
    assert_eq!(initialized.message()["method"], "notifications/initialized");
    initialized.accepted();
    let level = in_second(pair.remote.post());
    assert_eq!(
        (&level.message()["method"], &level.message()["params"]),
        (&json!("logging/setLevel"), &json!({"level": "debug"}))
    );
    level.result(&json!({}));
    let subscribe = in_second(pair.remote.post());
    assert_eq!(
        (&subscribe.message()["method"], &subscribe.message()["params"]),
        (&json!("resources/subscribe"), &json!({"uri": "test://b"}))
    );
    subscribe.result(&json!({}));

    let again = in_second(pair.remote.post());
    assert_eq!(again.message(), call, "exactly as it was");
    again.result(&json!("done"));
    assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": "q", "result": "done"}));

    let get = in_second(pair.remote.get());
    assert_eq!(get.header("last-event-id"), "", "an id of the lost session means nothing in the new one");
    let mut events = get.events();
    events.notification("notifications/message", &json!({"data": "heard"}));
    assert_eq!(pair.client.next_message()["params"]["data"], "heard");
    stream.wait_closed();

    pair.client.close_stdin();
    in_second(pair.remote.delete()).respond("200 OK", &[], b"");
    assert!(pair.client.wait().success());
    assert_eq!(pair.client.next_line(), None, "no answer but the client's own");
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn many_requests_that_find_the_session_lost_open_it_once() {
    const CALLS: usize = 20;
    let mut pair = Pair::open();
    for id in 0..CALLS {
        pair.client.ask(id, "tools/call", &json!({"n": id}));
    }
    let refused: Vec<Request> = (0..CALLS).map(|_| pair.remote.post()).collect();
    refused.into_iter().for_each(lost);
    opened(pair.remote.asked("initialize"), "session-2");
    pair.remote.asked("notifications/initialized").accepted();
    for _ in 0..CALLS {
        let call = in_second(pair.remote.asked("tools/call"));
        let n = call.message()["params"]["n"].clone();
        call.result(&n);
    }
    let mut answered = HashSet::new();
    for _ in 0..CALLS {
        let answer = pair.client.next_message();
        assert_eq!(answer["id"], answer["result"], "{answer}");
        assert!(answered.insert(answer["id"].as_u64()));
    }
    in_second(pair.remote.get()).respond("405 Method Not Allowed", &[], b"");
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_request_that_is_refused_in_the_new_session_too_is_an_error() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    lost(pair.remote.post());
    reopen(&pair.remote);
    lost(in_second(pair.remote.asked("tools/call")));
    let error = pair.client.own_error("q");
    assert!(error.contains("404"), "{error}");
}

#[test]
fn a_new_session_in_another_revision_is_an_error_that_says_so() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    lost(pair.remote.post());
    opened_in(pair.remote.asked("initialize"), "session-2", "2025-03-26");
    let error = pair.client.own_error("q");
    assert!(error.contains("session was lost"), "{error}");
    assert!(error.contains("2025-03-26") && error.contains(VERSION), "{error}");
    assert_eq!(pair.remote.unasked(), [""; 0], "the request is not sent again");
}

#[test]
fn a_session_that_cannot_be_opened_again_is_an_error_and_tried_again_with_the_next_request() {
    let mut pair = Pair::open();
    pair.client.ask(1, "tools/call", &json!({}));
    lost(pair.remote.post());
    pair.remote.asked("initialize").respond("503 Service Unavailable", &["retry-after: 9"], b"");
    let error = pair.client.own_error(1);
    assert!(error.contains("session was lost") && error.contains("503") && error.contains('9'), "{error}");
    pair.client.ask(2, "tools/call", &json!({}));
    lost(pair.remote.post());
    let refusal =
        json!({"jsonrpc": "2.0", "id": "init", "error": {"code": -32000, "message": "no more room"}});
    pair.remote.asked("initialize").json(&refusal);
    let error = pair.client.own_error(2);
    assert!(error.contains("session was lost"), "{error}");
    pair.client.ask(3, "tools/call", &json!({}));
    lost(pair.remote.post());
    reopen(&pair.remote);
    in_second(pair.remote.asked("tools/call")).result(&json!("at last"));
    assert_eq!(pair.client.next_message()["result"], "at last");
}

#[test]
fn a_notification_that_finds_the_session_lost_opens_it_too() {
    let mut pair = Pair::open();
    pair.client.notify("notifications/roots/list_changed", &json!({}));
    lost(pair.remote.post());
    reopen(&pair.remote);
    in_second(pair.remote.asked("notifications/roots/list_changed")).accepted();
    pair.client.ask("q", "ping", &json!({}));
    in_second(pair.remote.asked("ping")).result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "q");
}

#[test]
fn a_stream_that_finds_the_session_lost_opens_it_too() {
    let pair = Pair::listening(Remote::plain(), |connect| connect);
    lost(pair.remote.get());
    reopen(&pair.remote);
    let mut events = in_second(pair.remote.get()).events();
    events.notification("notifications/message", &json!({"data": "heard"}));
    assert_eq!(pair.client.next_message()["params"]["data"], "heard");
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_setting_that_finds_the_session_lost_is_made_once() {
    let mut pair = Pair::open();
    pair.client.ask("s", "resources/subscribe", &json!({"uri": "test://a"}));
    lost(pair.remote.post());
    reopen(&pair.remote);
    in_second(pair.remote.post()).result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "s");
    pair.client.ask("q", "ping", &json!({}));
    assert_eq!(in_second(pair.remote.post()).message()["method"], "ping");
}

#[test]
fn an_initialized_that_finds_the_session_lost_is_sent_once_to_the_new_one() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).start();
    client.ask("init", "initialize", &initialize_params());
    opened(remote.post(), "session-1");
    client.next_message();
    client.notify("notifications/initialized", &json!({}));
    lost(remote.post());
    opened(remote.post(), "session-2");
    let initialized = in_second(remote.post());
    assert_eq!(initialized.message()["method"], "notifications/initialized");
    initialized.accepted();
    in_second(remote.get()).respond("405 Method Not Allowed", &[], b"");
    client.ask("q", "ping", &json!({}));
    assert_eq!(in_second(remote.post()).message()["method"], "ping");
}

#[test]
fn a_new_initialize_of_the_client_begins_a_new_session() {
    let mut pair = Pair::open();
    pair.client.ask("again", "initialize", &initialize_params());
    let initialize = pair.remote.post();
    assert_eq!(initialize.header("mcp-session-id"), "");
    opened(initialize, "session-2");
    assert_eq!(pair.client.next_message()["id"], "again");
    pair.client.ask("q", "ping", &json!({}));
    in_second(pair.remote.asked("ping")).result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "q");
}

/// What a server says of a session that it does not know.
fn lost(request: Request) {
    assert!(request.header("mcp-session-id").starts_with("session-"), "{request:?}");
    request.respond("404 Not Found", &["content-type: text/plain"], b"no such session");
}

fn reopen(remote: &Remote) {
    opened(remote.asked("initialize"), "session-2");
    in_second(remote.asked("notifications/initialized")).accepted();
}

fn in_second(request: Request) -> Request {
    assert_eq!(request.header("mcp-session-id"), "session-2", "{request:?}");
    assert_eq!(request.header("mcp-protocol-version"), VERSION, "{request:?}");
    request
}

impl Client {
    /// Makes a setting that the server takes.
    fn settle(&mut self, remote: &Remote, method: &str, params: &Value) {
        self.ask(method, method, params);
        remote.asked(method).result(&json!({}));
        assert_eq!(self.next_message()["id"], method);
    }
}
