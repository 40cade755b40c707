//! A modern client of a modern server: requests pass, with the headers that repeat them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::time::Duration;

use serde_json::{Value, json};

use super::{MODERN, Pair, refuse};
use crate::support::modern::{REVISION, Request};
use crate::support::remote;

/// The result of `tools/list`: a tool that repeats its argument `region`, if so declared, and one that can't be used.
fn tools(header: Option<&str>) -> Value {
    let region = match header {
        Some(header) => json!({"type": "string", "x-mcp-header": header}),
        None => json!({"type": "string"}),
    };
    json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": [
        {"name": "add", "inputSchema": {"type": "object", "properties": {"region": region}}},
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"x": {"type": "string", "x-mcp-header": "not a name"}}}},
    ]})
}

fn done() -> Value {
    json!({"resultType": "complete", "content": []})
}

fn call(id: impl Into<Value>) -> Request {
    Request::call(id, "add", json!({"region": "münster"}))
}

/// The headers that repeat a request.
fn repeated(request: &remote::Request) -> [String; 4] {
    ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-region"].map(|name| request.header(name))
}

#[test]
fn headers_repeat_what_a_call_says_and_the_tools_are_listed_once() {
    let mut pair = Pair::new(MODERN);
    pair.ask(&call(1));
    let list = pair.remote.asked("tools/list");
    assert_eq!(repeated(&list), [REVISION, "tools/list", "", ""].map(str::to_owned));
    list.result(&tools(Some("Region")));
    let first = pair.remote.asked("tools/call");
    let encoded = "=?base64?bcO8bnN0ZXI=?=".to_owned();
    assert_eq!(repeated(&first), [REVISION.into(), "tools/call".into(), "add".into(), encoded.clone()]);
    assert_eq!(first.header("accept"), "application/json, text/event-stream");
    assert_eq!(
        (first.header("mcp-session-id"), first.header("content-type")),
        (String::new(), "application/json".into())
    );
    assert_eq!(first.message(), call(1).0, "the body is the client's");
    first.result(&done());
    assert_eq!(pair.client.next_message()["result"], done());
    pair.ask(&call(2));
    let second = pair.remote.post();
    assert_eq!(
        (second.header("mcp-method"), second.header("mcp-param-region")),
        ("tools/call".into(), encoded)
    );
    second.result(&done());
    assert_eq!(pair.client.next_message()["id"], 2);
    let read = pair.asked(3, "resources/read", json!({"uri": "file:///a"}));
    assert_eq!(read.header("mcp-name"), "file:///a");
}

#[test]
fn a_tool_with_an_invalid_annotation_is_hidden_and_the_log_says_so() {
    let mut pair = Pair::new(MODERN);
    pair.asked(1, "tools/list", json!({})).result(&tools(Some("Region")));
    let listed = pair.client.next_message();
    let names: Vec<_> =
        listed["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["add"]);
    assert!(pair.client.logged("\"bad\" is left out").contains("WARN"), "{}", pair.client.stderr());
    // The list that passed is known: it is not asked for again.
    pair.ask(&call(2));
    assert_eq!(repeated(&pair.remote.post())[1], "tools/call");
}

#[test]
fn a_call_whose_headers_are_refused_is_sent_once_more_with_those_of_a_new_list() {
    let mut pair = Pair::new(MODERN);
    pair.asked(1, "tools/list", json!({})).result(&tools(None));
    pair.client.next_message();
    pair.ask(&call(2));
    let first = pair.remote.asked("tools/call");
    assert_eq!(first.header("mcp-param-region"), "");
    refuse(first, "400 Bad Request", -32020, &json!({}));
    pair.remote.asked("tools/list").result(&tools(Some("Region")));
    let again = pair.remote.asked("tools/call");
    assert_ne!(again.header("mcp-param-region"), "");
    refuse(again, "400 Bad Request", -32020, &json!({"n": 2}));
    let refused = pair.client.next_message();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(-32020)));
    assert_eq!(refused["error"]["data"]["n"], 2);
    // With the same headers it would be refused again.
    pair.ask(&call(3));
    refuse(pair.remote.asked("tools/call"), "400 Bad Request", -32020, &json!({"n": 3}));
    pair.remote.asked("tools/list").result(&tools(Some("Region")));
    assert_eq!(pair.client.next_message()["error"]["data"]["n"], 3);
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn tools_that_change_are_listed_again() {
    let mut pair = Pair::new(MODERN);
    let mut events = pair.asked(1, "tools/list", json!({})).events();
    events.result(&tools(None));
    pair.client.next_message();
    let mut events = pair.asked(2, "subscriptions/listen", json!({"notifications": {}})).events();
    events.notification("notifications/tools/list_changed", &json!({}));
    pair.client.next_message();
    pair.ask(&call(3));
    pair.remote.asked("tools/list").result(&tools(Some("Region")));
    assert_ne!(pair.remote.asked("tools/call").header("mcp-param-region"), "");
}

#[test]
fn a_list_that_fails_leaves_the_call_as_it_is() {
    let mut pair = Pair::new(MODERN);
    pair.ask(&call(1));
    refuse(pair.remote.asked("tools/list"), "404 Not Found", -32601, &json!({}));
    let sent = pair.remote.asked("tools/call");
    assert_eq!(sent.header("mcp-param-region"), "");
    sent.result(&done());
    assert_eq!(pair.client.next_message()["result"], done());
}

#[test]
fn errors_come_out_of_their_statuses() {
    let mut pair = Pair::new(MODERN);
    for (id, status, code) in [
        (1, "400 Bad Request", -32602),
        (2, "404 Not Found", -32601),
        (3, "400 Bad Request", -32022),
        (4, "400 Bad Request", -32021),
        (5, "200 OK", -32603),
        (6, "500 Internal Server Error", -32603),
    ] {
        refuse(pair.asked(id, "prompts/get", json!({"name": "p"})), status, code, &json!({"kept": true}));
        let error = json!({"code": code, "message": "no", "data": {"kept": true}});
        assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }
    // An id that the server could not read is the request's all the same.
    let answer = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}"#;
    pair.asked("seven", "prompts/list", json!({})).respond(
        "400 Bad Request",
        &["content-type: application/json"],
        answer,
    );
    let unread = pair.client.next_message();
    assert_eq!((&unread["id"], &unread["error"]["code"]), (&json!("seven"), &json!(-32700)));
    for (status, words) in [
        ("404 Not Found", "no MCP endpoint"),
        ("401 Unauthorized", "other credentials"),
        ("503 Service Unavailable", "busy"),
        ("302 Found", "redirects"),
    ] {
        pair.asked(8, "prompts/list", json!({})).respond(
            status,
            &["content-type: text/html"],
            b"<h1>no</h1>",
        );
        let error = pair.client.own_error(8);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_comes_on_a_stream_comes_before_its_answer_and_the_connection_is_used_again() {
    let mut pair = Pair::new(MODERN);
    let before = pair.remote.accepted();
    for id in 0..20 {
        let mut events = pair.asked(id, "prompts/get", json!({"name": "p"})).events();
        events.notification("notifications/progress", &json!({"progressToken": "t", "progress": id}));
        // Not what a server of this revision may say.
        events.message(&json!({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {}}));
        events.result(&json!({"n": id}));
        assert_eq!(pair.client.next_message()["params"]["progress"], id);
        assert_eq!(pair.client.next_message()["result"]["n"], id);
        events.end();
    }
    assert!(pair.remote.accepted() <= before + 3, "{} connections", pair.remote.accepted());
}

#[test]
fn cancelling_closes_the_stream_and_nothing_is_answered() {
    let mut pair = Pair::new(MODERN);
    let mut events = pair.asked(1, "prompts/get", json!({"name": "p"})).events();
    events.notification("notifications/progress", &json!({"progressToken": "t", "progress": 1}));
    pair.client.next_message();
    pair.cancel(1);
    events.wait_closed();
    // Nor before the server has said anything.
    let silent = pair.asked(2, "prompts/get", json!({"name": "p"}));
    pair.cancel(2);
    silent.wait_closed();
    // Nor one that nobody knows: nothing is posted.
    pair.cancel("unknown");
    let mut declared = Request::new(0, "notifications/cancelled", json!({"requestId": "gone"})).0;
    declared.as_object_mut().unwrap().remove("id");
    pair.client.message(&declared);
    pair.nothing_more_comes();
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_call_is_cancelled_while_its_tools_are_listed() {
    let mut pair = Pair::new(MODERN);
    pair.ask(&call(1));
    let list = pair.remote.asked("tools/list");
    pair.cancel(1);
    list.wait_closed();
    // The next one does what it would have done.
    pair.ask(&call(2));
    pair.remote.asked("tools/list").result(&tools(None));
    let second = pair.remote.asked("tools/call");
    assert_eq!(second.message()["id"], 2);
    second.result(&done());
    assert_eq!(pair.client.next_message()["id"], 2);
}

#[test]
fn a_stream_that_breaks_is_an_error_and_nothing_is_sent_again() {
    let mut pair = Pair::new(MODERN);
    let mut events = pair.asked(1, "prompts/get", json!({"name": "p"})).events_with(&[]);
    events
        .piece(b"id: 7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n");
    pair.client.next_message();
    drop(events);
    assert!(pair.client.own_error(1).contains("may have run"));
    pair.asked(2, "prompts/get", json!({"name": "p"})).events().end();
    assert!(pair.client.own_error(2).contains("may have run"));
    drop(pair.asked(3, "prompts/get", json!({"name": "p"})));
    assert!(pair.client.own_error(3).contains("may have run"));
    pair.asked(4, "prompts/get", json!({"name": "p"})).accepted();
    pair.client.own_error(4);
    pair.nothing_more_comes();
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn silence_and_duration_end_a_request_and_no_subscription() {
    let mut pair = Pair::new(&format!("{MODERN}  timeout: 300ms"));
    let mut listen = pair.asked("l", "subscriptions/listen", json!({"notifications": {}})).events();
    let silent = pair.asked(1, "prompts/get", json!({"name": "p"}));
    assert!(pair.client.own_error(1).contains("300ms"));
    silent.wait_closed();
    listen.notification("notifications/subscriptions/acknowledged", &json!({}));
    assert_eq!(pair.client.next_message()["method"], "notifications/subscriptions/acknowledged");

    let mut pair = Pair::new(&format!("{MODERN}  max_request_time: 1s"));
    let mut events = pair.asked(1, "prompts/get", json!({"name": "p"})).events();
    let progress = br#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#;
    while events.try_piece(&[progress, &b"\n\n"[..]].concat()).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    loop {
        let message = pair.client.next_message();
        if message["id"] == 1 {
            break assert!(message["error"]["message"].as_str().unwrap().contains("1s"), "{message}");
        }
    }
}

#[test]
fn an_id_in_flight_is_refused_and_its_request_goes_on() {
    let mut pair = Pair::new(MODERN);
    let first = pair.asked(1, "prompts/get", json!({"name": "p"}));
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    let refused = pair.client.next_message();
    assert_eq!((&refused["id"], &refused["error"]["data"]["reason"]), (&json!(1), &json!("duplicate_id")));
    first.result(&json!({"first": true}));
    assert_eq!(pair.client.next_message()["result"]["first"], true);
    pair.nothing_more_comes();
}

#[test]
fn a_request_that_says_too_little_is_refused_here() {
    let mut pair = Pair::new(MODERN);
    pair.client.ask(1, "server/discover", &json!({}));
    assert_eq!(pair.client.next_message()["error"]["code"], -32602);
    pair.ask(&Request::new(2, "initialize", json!({})));
    assert_eq!(pair.client.next_message()["error"]["code"], -32601);
    pair.ask(
        &Request::new(3, "tools/list", json!({})).meta(crate::support::modern::VERSION_KEY, "2025-11-25"),
    );
    let refused = pair.client.next_message();
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["data"]["supported"]),
        (&json!(-32022), &json!([REVISION]))
    );
    pair.nothing_more_comes();
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_token_that_is_refused_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "one").unwrap();
    let config = format!("{MODERN}auth:\n  type: bearer\n  bearer:\n    token_file: {}", file.display());
    let mut pair = Pair::new(&config);
    let refused = pair.asked(1, "prompts/list", json!({}));
    assert_eq!(refused.header("authorization"), "Bearer one");
    let changed_at = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "two").unwrap();
    // The time of the file says nothing of its change.
    File::options().write(true).open(&file).unwrap().set_modified(changed_at).unwrap();
    refused.respond("401 Unauthorized", &[], b"");
    let again = pair.remote.asked("prompts/list");
    assert_eq!(again.header("authorization"), "Bearer two");
    again.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
}

#[test]
fn two_hundred_requests_at_once_are_answered_in_any_order() {
    const MANY: usize = 200;
    let mut pair = Pair::new(MODERN);
    for id in 0..MANY {
        pair.ask(&Request::call(id, "add", json!({})));
    }
    pair.remote.asked("tools/list").result(&tools(None));
    let mut calls: Vec<_> = (0..MANY).map(|_| pair.remote.asked("tools/call")).collect();
    assert_eq!(pair.remote.unasked(), [""; 0], "the tools are listed once");
    calls.reverse();
    for call in calls {
        let id = call.message()["id"].clone();
        call.result(&json!({"of": id}));
    }
    let answered: HashSet<String> = (0..MANY)
        .map(|_| {
            let answer = pair.client.next_message();
            assert_eq!(answer["id"], answer["result"]["of"]);
            answer["id"].to_string()
        })
        .collect();
    assert_eq!(answered.len(), MANY);
}

#[test]
fn the_end_of_input_waits_for_answers_and_ends_subscriptions() {
    let mut pair = Pair::new(MODERN);
    let listen = pair.asked("l", "subscriptions/listen", json!({"notifications": {}})).events();
    let call = pair.asked(1, "prompts/get", json!({"name": "p"}));
    let never = pair.asked(2, "prompts/get", json!({"name": "p"}));
    pair.client.close_stdin();
    listen.wait_closed();
    call.result(&json!({"in": "time"}));
    assert_eq!(pair.client.next_message()["result"]["in"], "time");
    assert!(pair.client.own_error(2).contains("standard input ended"));
    assert_eq!(pair.client.next_line(), None);
    assert!(pair.client.wait().success());
    never.wait_closed();
}
