//! The main way: lines in, lines out.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::certs::cert;
use crate::support::connect::{Connect, Pair, VERSION, initialize_params, opened, until};
use crate::support::proc::{Footprint, LONG};
use crate::support::process::Process;
use crate::support::remote::Remote;

#[test]
fn a_client_calls_tools_through_connect_and_serve_over_mutual_tls() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut connect = bridge.connect();
    assert_eq!(connect.initialize()["result"]["serverInfo"]["name"], "fixture-server");
    let said = connect.call("echo", &json!({"message": "héllo\u{2028}\n"}));
    assert_eq!(said["result"]["content"][0]["text"], "héllo\u{2028}\n");
    let list = connect.request("tools/list", &json!({}));
    assert!(list["result"]["tools"].as_array().unwrap().len() > 10);
    let refused = connect.call("refuse", &json!({"code": -32042, "message": "no"}));
    assert_eq!(refused["error"], json!({"code": -32042, "message": "no"}));
}

#[test]
fn calls_that_run_at_once_are_answered_as_they_end() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut connect = bridge.connect();
    connect.initialize();
    call(&mut connect, "slow", "never", &json!({}));
    call(&mut connect, "a", "meet", &json!({"n": 2}));
    call(&mut connect, "b", "meet", &json!({"n": 2}));
    let ids: HashSet<String> = (0..2).map(|_| connect.next_message()["id"].to_string()).collect();
    assert_eq!(ids, HashSet::from([r#""a""#.to_owned(), r#""b""#.to_owned()]));
}

#[test]
fn progress_and_questions_of_the_server_come_before_the_answer() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut connect = bridge.connect();
    connect.initialize();
    let params = json!({"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": "t"}});
    connect.send(&request(&json!(1.5), "tools/call", &params));
    for step in 1..=3 {
        let progress = connect.next_message();
        assert_eq!(progress["method"], "notifications/progress");
        assert_eq!(
            (&progress["params"]["progressToken"], &progress["params"]["progress"]),
            (&json!("t"), &json!(step))
        );
    }
    assert_eq!(connect.next_message()["id"], 1.5);

    call(&mut connect, 2, "sample", &json!({"prompt": "why?"}));
    let question = connect.next_message();
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "because"}});
    connect.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}).to_string());
    let result = connect.next_message();
    assert_eq!(result["result"]["structuredContent"]["result"], answer);
}

#[test]
fn what_the_server_says_by_itself_arrives() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut connect = bridge.connect();
    connect.initialize();
    call(&mut connect, 1, "list_changed", &json!({"after": true}));
    // They come on two streams, in any order.
    let (one, other) = (connect.next_message(), connect.next_message());
    let (answer, change) = if one["id"] == 1 { (one, other) } else { (other, one) };
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(change["method"], "notifications/tools/list_changed");
}

#[test]
fn stdout_carries_messages_only_even_when_everything_is_logged() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut command = bridge.connect_command();
    command.extend(["--log-level".into(), "debug".into()]);
    let mut connect = spawn(&command);
    connect.initialize();
    connect.call("log", &json!({"times": 3}));
    connect.call("garbage", &json!({}));
    connect.send("not a message");
    connect.close_stdin();
    while let Some(line) = connect.next_line() {
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
    }
    assert!(connect.wait().success());
    connect.logged("TLS handshake");
}

#[test]
fn five_mebibytes_pass_in_both_directions() {
    const BYTES: u64 = 5 * 1024 * 1024;
    let bridge = Bridge::serve(Guard::Mutual);
    let mut connect = bridge.connect();
    connect.initialize();
    let big = connect.call("big", &json!({"bytes": BYTES}));
    let text = big["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(text.len() as u64, BYTES);
    let measured = connect.call("size", &json!({"text": text}));
    assert_eq!(measured["result"]["structuredContent"], big["result"]["structuredContent"]);
}

#[test]
fn a_client_may_write_everything_at_once_and_close_its_end() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut connect = bridge.connect();
    let mut lines = format!("{}\n", request(&json!("i"), "initialize", &initialize_params()));
    lines.push_str("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n");
    for id in 0..20 {
        let params = json!({"name": "meet", "arguments": {"n": 20}});
        lines.push_str(&request(&json!(id), "tools/call", &params));
        lines.push('\n');
    }
    connect.send_bytes(lines.trim_end().as_bytes());
    connect.close_stdin();
    let mut answers = HashSet::new();
    while let Some(line) = connect.next_line() {
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["result"].is_object(), "{line}");
        assert!(answers.insert(answer["id"].to_string()), "{line}");
    }
    assert_eq!(answers.len(), 21);
    assert!(connect.wait().success());
}

#[test]
fn every_request_carries_what_the_session_demands() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).start();
    client.ask(1, "initialize", &initialize_params());
    let first = remote.post();
    assert_eq!(
        (first.target.as_str(), first.header("accept")),
        ("/mcp", "application/json, text/event-stream".into())
    );
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("host"), format!("127.0.0.1:{}", remote.port()));
    assert_eq!(
        (first.header("mcp-session-id"), first.header("mcp-protocol-version")),
        (String::new(), String::new())
    );
    assert_eq!(first.message()["params"], initialize_params());
    opened(first, "a session");
    client.next_message();

    client.notify("notifications/initialized", &json!({}));
    let initialized = remote.post();
    let in_session = |request: &crate::support::remote::Request| {
        assert_eq!(request.header("mcp-session-id"), "a session", "{request:?}");
        assert_eq!(request.header("mcp-protocol-version"), VERSION, "{request:?}");
    };
    in_session(&initialized);
    initialized.accepted();
    let get = remote.get();
    in_session(&get);
    assert_eq!(
        (get.header("accept"), get.header("content-type")),
        ("text/event-stream".into(), String::new())
    );
    get.respond("405 Method Not Allowed", &[], b"");
    client.ask(2, "ping", &json!({}));
    let ping = remote.post();
    in_session(&ping);
    assert_eq!(ping.header("accept"), "application/json, text/event-stream");
    ping.result(&json!({}));
    client.next_message();
    client.close_stdin();
    let delete = remote.delete();
    in_session(&delete);
    delete.respond("200 OK", &[], b"");
    assert!(client.wait().success());
    assert_eq!(remote.unasked(), [""; 0]);
}

#[test]
fn a_server_without_sessions_is_served_too() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).start();
    client.ask(1, "initialize", &initialize_params());
    remote.post().result(&json!({"protocolVersion": VERSION, "capabilities": {}}));
    client.next_message();
    client.ask(2, "ping", &json!({}));
    let ping = remote.post();
    assert_eq!(
        (ping.header("mcp-session-id"), ping.header("mcp-protocol-version")),
        (String::new(), VERSION.into())
    );
    ping.result(&json!({}));
    client.next_message();
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(remote.unasked(), [""; 0], "there is nothing to delete");
}

#[test]
fn requests_one_after_the_other_share_one_connection_and_one_handshake() {
    let mut pair = Pair::open_with(Remote::tls(), |connect| connect);
    let mut used = BTreeSet::new();
    for id in 0..30 {
        pair.client.ask(id, "ping", &json!({}));
        let request = pair.remote.post();
        used.insert(request.number);
        request.result(&json!({}));
        pair.client.next_message();
    }
    // The GET may have been on its way beside the first of them. A request that finds the last one's connection not
    // given back yet opens another one, and takes whichever of them is there first.
    assert!(used.len() <= 2, "{used:?}");
    let accepted = pair.remote.accepted();
    assert!(accepted <= 4, "{accepted} connections for 30 requests");
}

#[test]
fn answers_by_stream_leave_the_connection_for_the_next_request() {
    let mut pair = Pair::open_with(Remote::tls(), |connect| connect);
    let before = pair.remote.accepted();
    for id in 0..20 {
        pair.client.ask(id, "tools/call", &json!({}));
        let mut events = pair.remote.post().events();
        events.notification("notifications/message", &json!({"data": id}));
        events.result(&json!({"n": id}));
        assert_eq!(pair.client.next_message()["method"], "notifications/message");
        assert_eq!(pair.client.next_message()["result"]["n"], id);
        // The end of the stream comes by itself, after the answer is there.
        events.end();
    }
    assert!(pair.remote.accepted() <= before + 2, "{} connections", pair.remote.accepted());
}

#[test]
fn a_call_keeps_its_bytes() {
    let mut pair = Pair::open();
    let params = r#"{"z":1.0,"a":1e3,"big":12345678901234567890123,"é":"\u00e9","_x":null}"#;
    let sent =
        format!(r#"{{ "method":"tools/call","id":"x","extra":[1],"jsonrpc":"2.0","params":{params} }}"#);
    pair.client.send(&sent);
    let call = pair.remote.post();
    assert_eq!(String::from_utf8_lossy(&call.body), sent);
    let answer = format!(r#"{{"result":{params},"extra":{{"b":1,"a":2}},"id":"x", "jsonrpc":"2.0"}}"#);
    call.respond("200 OK", &["Content-Type: Application/JSON; charset=utf-8"], answer.as_bytes());
    assert_eq!(pair.client.next_line().unwrap(), answer);
}

#[test]
fn a_pretty_printed_answer_is_one_line() {
    let mut pair = Pair::open();
    pair.client.ask(1, "ping", &json!({}));
    let body = b"{\r\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1,\n  \"result\": {}\n}\n";
    pair.remote.post().respond("200 OK", &["content-type: application/json"], body);
    assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
}

#[test]
fn events_may_be_cut_anywhere() {
    let mut pair = Pair::open();
    pair.client.ask(1, "ping", &json!({}));
    let mut events = pair.remote.post().events();
    let text = ": hello\r\n\r\nevent: other\ndata: {}\n\nid: 1\ndata:\n\ndata: {\"jsonrpc\":\"2.0\",\r\ndata: \"id\":1,\"result\":\"é\"}\r\n\r\n";
    for byte in text.as_bytes() {
        events.piece(&[*byte]);
    }
    assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": 1, "result": "é"}));
}

#[test]
fn serve_ends_the_session_that_connect_leaves() {
    let bridge = Serve::new(Guard::Mutual).arg("--log-level").arg("debug").start();
    let mut connect = bridge.connect();
    connect.initialize();
    let pid = connect.call("about", &json!({}))["result"]["structuredContent"]["pid"].clone();
    connect.close_stdin();
    assert!(connect.wait().success());
    let proc = format!("/proc/{pid}");
    until("the child of the session ends", || !std::path::Path::new(&proc).exists());
}

#[test]
fn a_client_without_the_certificate_that_serve_demands_is_told_so() {
    let bridge = Bridge::serve(Guard::Mutual);
    let mut client = Connect::to(&bridge.url).args(["--min-tls", "1.3"]).start();
    client.ask(1, "initialize", &initialize_params());
    let error = client.own_error(1);
    assert!(error.contains("bad certificate") && error.contains("tls.cert_file"), "{error}");
    let (foreign, key) = (cert("other-client.crt"), cert("other-client.key"));
    let mut client = Connect::to(&bridge.url).args(["--cert", &foreign, "--key", &key]).start();
    client.ask(1, "initialize", &initialize_params());
    let error = client.own_error(1);
    assert!(error.contains("bad certificate") && error.contains("refused the certificate"), "{error}");
}

#[test]
fn a_long_message_is_not_held_twice_and_leaves_nothing_behind() {
    let mut pair = Pair::open();
    let footprint = Footprint::of(pair.client.pid());
    let long = json!({"text": "x".repeat(LONG)});
    for _ in 0..3 {
        pair.client.ask("q", "tools/call", &long);
        let call = pair.remote.post();
        assert_eq!(call.message()["params"], long);
        call.result(&long);
        assert_eq!(pair.client.next_message()["result"], long);
    }
    footprint.is_below(3);
    until("the memory is given back", || footprint.is_gone());
}

#[test]
fn a_long_event_is_not_held_twice_though_its_stream_stays_open() {
    let mut pair = Pair::open();
    let footprint = Footprint::of(pair.client.pid());
    let text = "x".repeat(LONG);
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.notification("notifications/message", &json!({"level": "info", "data": text}));
    assert_eq!(pair.client.next_message()["params"]["data"], text);
    footprint.is_below(3);
    until("the memory is given back", || footprint.is_gone());
    events.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "q");
}

fn call(connect: &mut Process, id: impl Into<Value>, tool: &str, arguments: &Value) {
    connect.send(&request(&id.into(), "tools/call", &json!({"name": tool, "arguments": arguments})));
}

fn request(id: &Value, method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

fn spawn(command: &[String]) -> Process {
    Process::spawn(std::process::Command::new(&command[0]).args(&command[1..]))
}
