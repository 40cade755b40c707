//! A modern client of a legacy server.

use serde_json::{Value, json};

use super::{LEGACY, Pair, QUICK};
use crate::support::connect::Connect;
use crate::support::modern::{CAPABILITIES_KEY, LOG_LEVEL_KEY, Request};
use crate::support::proc::{Footprint, LONG};
use crate::support::remote::{self, Events, Remote};

fn initialize_result() -> Value {
    json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"logging": {}, "tools": {"listChanged": true}, "resources": {"subscribe": true}},
        "serverInfo": {"name": "old", "version": "1"},
    })
}

/// Opens the session that the first request needs; its GET stream.
fn open(remote: &Remote, session: &str) -> Events {
    let initialize = remote.asked("initialize");
    let body = json!({"jsonrpc": "2.0", "id": initialize.message()["id"], "result": initialize_result()});
    let session = format!("mcp-session-id: {session}");
    initialize.respond("200 OK", &["content-type: application/json", &session], body.to_string().as_bytes());
    remote.asked("notifications/initialized").accepted();
    remote.get().events()
}

fn answering(mut request: Request) -> Request {
    request.0["params"]["_meta"][CAPABILITIES_KEY] = json!({"elicitation": {}});
    request
}

fn call(id: impl Into<Value>) -> Request {
    answering(Request::call(id, "t", json!({})))
}

/// A call that is under way in a session of its own; the server's stream of it.
fn called(config: &str) -> (Pair, Events, Events) {
    let mut pair = Pair::new(config);
    pair.ask(&call(1));
    let own = open(&pair.remote, "s");
    let events = pair.remote.asked("tools/call").events();
    (pair, own, events)
}

fn elicit(events: &mut Events) {
    let params = json!({"message": "?", "requestedSchema": {"type": "object", "properties": {}}});
    events.message(&json!({"jsonrpc": "2.0", "id": "e", "method": "elicitation/create", "params": params}));
}

/// The retry of a suspended call.
fn retry(id: impl Into<Value>, asked: &Value) -> Request {
    let mut retry = call(id);
    let key = asked["result"]["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    retry.0["params"]["inputResponses"] = json!({key: {"action": "accept", "content": {}}});
    retry.0["params"]["requestState"] = asked["result"]["requestState"].clone();
    retry
}

fn elicited(remote: &Remote) -> Value {
    let answer =
        remote.take("an answer", |request| request.method == "POST" && request.message()["id"] == "e");
    let message = answer.message();
    answer.accepted();
    message
}

#[test]
fn requests_find_their_way_into_one_session_and_their_answers_back() {
    // Whatever is logged.
    for level in ["debug", "error"] {
        let mut pair = Pair::new(&format!("{LEGACY}logging:\n  level: {level}"));
        pair.ask(&Request::new(1, "tools/list", json!({})));
        let _own = open(&pair.remote, "s");
        let list = pair.remote.asked("tools/list");
        assert_eq!((list.header("mcp-session-id"), list.header("mcp-method")), ("s".into(), String::new()));
        assert!(list.message()["params"]["_meta"].is_null(), "{:?}", list.message());
        list.result(&json!({"tools": []}));
        let listed = pair.client.next_message();
        assert_eq!((&listed["id"], &listed["result"]["resultType"]), (&json!(1), &json!("complete")));
        pair.ask(&Request::call("c", "t", json!({"a": 1})).meta("progressToken", "p"));
        let call = pair.remote.asked("tools/call");
        let token = call.message()["params"]["_meta"]["progressToken"].clone();
        let mut events = call.events();
        events.notification("notifications/progress", &json!({"progressToken": token, "progress": 1}));
        events.result(&json!({"content": []}));
        assert_eq!(pair.client.next_message()["params"]["progressToken"], "p");
        assert_eq!(pair.client.next_message()["id"], "c");
        pair.ask(&Request::new("d", "server/discover", json!({})));
        assert_eq!(pair.client.next_message()["result"]["supportedVersions"], json!(["2026-07-28"]));
        pair.client.close_stdin();
        let delete = pair.remote.delete();
        assert_eq!(delete.header("mcp-session-id"), "s");
        delete.respond("200 OK", &[], b"");
        assert!(pair.client.wait().success());
        assert_eq!(pair.remote.unasked(), [""; 0]);
    }
}

#[test]
fn a_question_suspends_its_call_which_goes_on_with_the_answer_however_long_that_takes() {
    let (mut pair, _own, mut events) =
        called(&format!("{LEGACY}  timeout: 300ms\n  max_request_time: 700ms"));
    elicit(&mut events);
    let asked = pair.client.next_message();
    assert_eq!((&asked["id"], &asked["result"]["resultType"]), (&json!(1), &json!("input_required")));
    // Another one takes longer than either may, one after the other: the suspended one has begun before.
    for id in ["a", "b", "c"] {
        pair.ask(&call(id));
        let silent = pair.remote.asked("tools/call");
        assert_eq!(pair.client.next_message()["id"], id);
        pair.remote.asked("notifications/cancelled").accepted();
        silent.wait_closed();
    }
    pair.ask(&retry(2, &asked));
    assert_eq!(elicited(&pair.remote)["result"]["action"], "accept");
    events.result(&json!({"content": []}));
    let done = pair.client.next_message();
    assert_eq!((&done["id"], &done["result"]["resultType"]), (&json!(2), &json!("complete")));
    // It works once.
    pair.ask(&retry(3, &asked));
    assert_eq!(pair.client.next_message()["error"]["code"], -32602);
}

#[test]
fn cancelling_reaches_the_server_and_nothing_is_answered() {
    let (mut pair, _own, events) = called(LEGACY);
    pair.cancel(1);
    pair.remote.asked("notifications/cancelled").accepted();
    events.wait_closed();
    pair.ask(&call(2));
    pair.remote.asked("tools/call").result(&json!({"content": []}));
    assert_eq!(pair.client.next_message()["id"], 2);
}

#[test]
fn a_log_level_is_set_and_lines_come_on_the_stream_of_the_call() {
    let mut pair = Pair::new(LEGACY);
    pair.ask(&call(1).meta(LOG_LEVEL_KEY, "info"));
    let _own = open(&pair.remote, "s");
    let level = pair.remote.asked("logging/setLevel");
    assert_eq!(level.message()["params"]["level"], "info");
    level.result(&json!({}));
    let mut events = pair.remote.asked("tools/call").events();
    events.notification("notifications/message", &json!({"level": "debug", "data": "no"}));
    events.notification("notifications/message", &json!({"level": "error", "data": "yes"}));
    events.result(&json!({"content": []}));
    assert_eq!(pair.client.next_message()["params"]["data"], "yes");
    assert_eq!(pair.client.next_message()["id"], 1);
}

#[test]
fn a_subscription_hears_what_the_server_says_by_itself_and_begins_again_with_its_session() {
    let mut pair = Pair::new(&format!("{LEGACY}{QUICK}"));
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]});
    pair.ask(&Request::listen("l", &filter));
    let mut own = open(&pair.remote, "s");
    let subscribe = pair.remote.asked("resources/subscribe");
    assert_eq!(subscribe.message()["params"]["uri"], "file:///a");
    subscribe.result(&json!({}));
    assert_eq!(pair.client.next_message()["method"], "notifications/subscriptions/acknowledged");
    own.notification("notifications/resources/updated", &json!({"uri": "file:///a/b"}));
    own.notification("notifications/tools/list_changed", &json!({}));
    assert_eq!(pair.client.next_message()["params"]["uri"], "file:///a/b");
    assert_eq!(pair.client.next_message()["method"], "notifications/tools/list_changed");
    // The server begins anew and knows no session; the next request finds that out.
    drop(own);
    pair.ask(&Request::call(1, "t", json!({})));
    pair.remote.asked("tools/call").respond("404 Not Found", &[], b"");
    let initialize = pair.remote.asked("initialize");
    let body = json!({"jsonrpc": "2.0", "id": initialize.message()["id"], "result": initialize_result()});
    initialize.respond(
        "200 OK",
        &["content-type: application/json", "mcp-session-id: s2"],
        body.to_string().as_bytes(),
    );
    pair.remote.asked("notifications/initialized").accepted();
    let again = pair.remote.asked("resources/subscribe");
    assert_eq!(again.header("mcp-session-id"), "s2");
    again.result(&json!({}));
    let call = pair.remote.asked("tools/call");
    assert_eq!(call.header("mcp-session-id"), "s2");
    call.result(&json!({"content": []}));
    assert_eq!(pair.client.next_message()["id"], 1);
    let anew =
        |request: &remote::Request| request.method == "GET" && request.header("mcp-session-id") == "s2";
    let mut own = pair.remote.take("a GET", anew).events();
    own.notification("notifications/resources/updated", &json!({"uri": "file:///a"}));
    assert_eq!(pair.client.next_message()["params"]["uri"], "file:///a");
}

#[test]
fn a_session_that_can_not_be_opened_fails_its_requests_and_is_opened_by_the_next() {
    let mut pair = Pair::new(&format!("{LEGACY}{QUICK}"));
    pair.ask(&Request::new(1, "tools/list", json!({})));
    pair.remote.asked("initialize").respond("503 Service Unavailable", &[], b"");
    assert!(pair.client.own_error(1).contains("initialize"));
    pair.ask(&Request::new(2, "tools/list", json!({})));
    let _own = open(&pair.remote, "s");
    pair.remote.asked("tools/list").result(&json!({"tools": []}));
    assert_eq!(pair.client.next_message()["result"]["tools"], json!([]));
}

#[test]
fn sets_of_capabilities_have_sessions_of_their_own_and_all_are_left() {
    let (mut pair, _own, mut events) = called(LEGACY);
    events.result(&json!({"content": []}));
    pair.client.next_message();
    pair.ask(&Request::call(2, "t", json!({})));
    let _other = open(&pair.remote, "s2");
    let second = pair.remote.asked("tools/call");
    assert_eq!(second.header("mcp-session-id"), "s2");
    // It is in flight until the end.
    pair.client.close_stdin();
    assert!(pair.client.own_error(2).contains("standard input ended"));
    let mut left: Vec<_> = (0..2)
        .map(|_| {
            let delete = pair.remote.delete();
            let session = delete.header("mcp-session-id");
            delete.respond("200 OK", &[], b"");
            session
        })
        .collect();
    left.sort();
    assert_eq!(left, ["s", "s2"]);
    assert!(pair.client.wait().success());
}

#[test]
fn a_server_of_http_sse_is_translated_too() {
    let remote = Remote::plain();
    let client = Connect::to(&remote.url).config("client:\n  transport: sse").start();
    let mut pair = Pair { remote, client };
    pair.ask(&call(1));
    let mut stream = pair.remote.get().events();
    stream.piece(b"event: endpoint\ndata: /messages\n\n");
    let take = |pair: &Pair, method: &str| {
        let request = pair.remote.asked(method);
        let id = request.message()["id"].clone();
        request.accepted();
        id
    };
    let id = take(&pair, "initialize");
    stream.message(&json!({"jsonrpc": "2.0", "id": id, "result": initialize_result()}));
    take(&pair, "notifications/initialized");
    let id = take(&pair, "tools/call");
    elicit(&mut stream);
    let asked = pair.client.next_message();
    assert_eq!(asked["result"]["resultType"], "input_required");
    pair.ask(&retry(2, &asked));
    assert_eq!(elicited(&pair.remote)["result"]["action"], "accept");
    stream.message(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}));
    assert_eq!(pair.client.next_message()["id"], 2);
    pair.client.close_stdin();
    stream.wait_closed();
    assert!(pair.client.wait().success());
}

#[test]
fn a_long_message_is_translated_without_being_held_twice() {
    let mut pair = Pair::new(LEGACY);
    pair.ask(&Request::new(1, "tools/list", json!({})));
    let _own = open(&pair.remote, "s");
    pair.remote.asked("tools/list").result(&json!({"tools": []}));
    pair.client.next_message();
    let footprint = Footprint::of(pair.client.pid());
    let text = "x".repeat(LONG);
    for id in 2..5 {
        pair.ask(&Request::call(id, "t", json!({"text": text})));
        let call = pair.remote.asked("tools/call");
        assert_eq!(call.message()["params"]["arguments"]["text"], text);
        call.result(&json!({"content": [{"type": "text", "text": text}]}));
        let answer = pair.client.next_message();
        assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(id), &json!(text)));
    }
    footprint.is_below(4);
}
