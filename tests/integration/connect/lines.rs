//! What a client may write on standard input, and what it may not.

use serde_json::json;

use crate::support::connect::Pair;

#[test]
fn a_line_that_is_not_json_is_a_parse_error_without_an_id() {
    let mut pair = Pair::open();
    for line in ["hello", "{\"jsonrpc\":\"2.0\",\"id\":1,", "{'id':1}", "\u{feff}{}"] {
        pair.client.send(line);
        let error = pair.client.next_message();
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&json!(null), &json!(-32700)),
            "{line}: {error}"
        );
    }
    pair.nothing_was_sent();
}

#[test]
fn a_second_value_on_a_line_is_refused_with_the_first() {
    let mut pair = Pair::open();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for line in
        [format!("{ping}{ping}"), format!("{ping} {ping}"), format!("{ping} x"), format!("[{ping}]{ping}")]
    {
        pair.client.send(&line);
        let error = pair.client.next_message();
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&json!(null), &json!(-32700)),
            "{line}: {error}"
        );
    }
    pair.nothing_was_sent();
}

#[test]
fn json_that_is_no_message_is_an_invalid_request() {
    let mut pair = Pair::open();
    let cases = [
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, json!(null)),
        (r#"{"jsonrpc":"1.0","id":4,"method":"ping"}"#, json!(4)),
        (r#"{"id":"five","method":"ping"}"#, json!("five")),
        (r#"{"jsonrpc":"2.0","id":6}"#, json!(6)),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#, json!(7)),
        ("42", json!(null)),
        ("null", json!(null)),
        ("[]", json!(null)),
        ("{}", json!(null)),
    ];
    for (line, id) in cases {
        pair.client.send(line);
        let error = pair.client.next_message();
        assert_eq!((&error["id"], &error["error"]["code"]), (&id, &json!(-32600)), "{line}: {error}");
    }
    pair.nothing_was_sent();
}

#[test]
fn invalid_utf_8_is_a_parse_error_and_the_next_line_is_read() {
    let mut pair = Pair::open();
    pair.client.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xff\"}\n");
    let error = pair.client.next_message();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(null), &json!(-32700)), "{error}");
    pair.nothing_was_sent();
}

#[test]
fn an_id_that_is_in_flight_is_refused_and_the_first_request_goes_on() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let call = pair.remote.post();
    pair.client.ask("q", "tools/call", &json!({}));
    let error = pair.client.next_message();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!("q"), &json!(-32600)), "{error}");
    call.result(&json!("first"));
    assert_eq!(pair.client.next_message()["result"], "first");
    pair.client.ask("q", "tools/call", &json!({}));
    pair.remote.post().result(&json!("an id may be used again"));
    assert_eq!(pair.client.next_message()["result"], "an id may be used again");
    pair.nothing_was_sent();
}

#[test]
fn an_id_can_be_used_again_as_soon_as_it_is_answered() {
    let mut pair = Pair::open();
    for n in 0..30 {
        pair.client.ask("same", "ping", &json!({}));
        let mut events = pair.remote.post().events();
        events.result(&json!(n));
        events.end();
        assert_eq!(pair.client.next_message()["result"], n);
    }
}

#[test]
fn ids_are_told_apart_by_their_type() {
    let mut pair = Pair::open();
    pair.client.ask(1, "ping", &json!({}));
    pair.client.ask("1", "ping", &json!({}));
    for call in [pair.remote.post(), pair.remote.post()] {
        let id = call.message()["id"].clone();
        call.result(&id);
    }
    for _ in 0..2 {
        let answer = pair.client.next_message();
        assert_eq!(answer["id"], answer["result"]);
    }
}

#[test]
fn a_batch_is_sent_and_answered_message_by_message() {
    let mut pair = Pair::open();
    pair.client.send(concat!(
        r#"[{"jsonrpc":"2.0","id":1,"method":"a","params":{ "x": 1.0}},"#,
        r#" {"jsonrpc":"2.0","method":"notifications/n"},{"jsonrpc":"2.0","id":2,"method":"b"}]"#
    ));
    let one = pair.remote.asked("a");
    assert_eq!(
        String::from_utf8_lossy(&one.body),
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{ "x": 1.0}}"#
    );
    pair.remote.asked("notifications/n").accepted();
    pair.remote.asked("b").result(&json!("two"));
    assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": 2, "result": "two"}));
    one.result(&json!("one"));
    assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": 1, "result": "one"}));
}

#[test]
fn empty_lines_mean_nothing_and_lines_may_end_like_on_windows() {
    let mut pair = Pair::open();
    pair.client.send_bytes(b"\n\r\n\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n\r\n");
    let ping = pair.remote.post();
    assert_eq!(ping.body, br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    ping.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
    pair.nothing_was_sent();
}

#[test]
fn a_last_line_without_its_end_counts() {
    let mut pair = Pair::open();
    pair.client.send_bytes(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}");
    pair.client.close_stdin();
    pair.remote.post().result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
    pair.remote.delete().respond("200 OK", &[], b"");
    assert!(pair.client.wait().success());
}

#[test]
fn a_message_beyond_the_bound_is_refused_and_the_next_one_read() {
    let mut pair = Pair::open();
    let mut line = vec![b'x'; 65 * 1024 * 1024];
    line.push(b'\n');
    pair.client.send_bytes(&line);
    let error = pair.client.next_message();
    assert_eq!(error["id"], json!(null));
    assert!(error["error"]["message"].as_str().unwrap().contains("68157440 bytes"), "{error}");
    pair.nothing_was_sent();
}

#[test]
fn a_cancelled_request_gets_no_answer_and_the_server_is_told() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.notification("notifications/progress", &json!({"progressToken": 1, "progress": 1}));
    assert_eq!(pair.client.next_message()["method"], "notifications/progress");
    let params = json!({"requestId": "q", "reason": "changed my mind", "more": [1]});
    pair.client.notify("notifications/cancelled", &params);
    let cancelled = pair.remote.asked("notifications/cancelled");
    assert_eq!(cancelled.message()["params"], params);
    cancelled.accepted();
    // Its connection is closed, or the answer is read and dropped.
    let _ = events.try_piece(b"data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":\"too late\"}\n\n");
    pair.nothing_was_sent();
}

#[test]
fn a_cancellation_of_something_unknown_is_passed_on() {
    let mut pair = Pair::open();
    pair.client.notify("notifications/cancelled", &json!({"requestId": "nobody"}));
    pair.remote.asked("notifications/cancelled").accepted();
    pair.nothing_was_sent();
}

impl Pair {
    /// Nothing went to the server or to the client that a test has not seen.
    fn nothing_was_sent(&mut self) {
        self.client.ask("after", "ping", &json!({}));
        let ping = self.remote.post();
        assert_eq!(ping.message()["id"], "after");
        ping.result(&json!({}));
        assert_eq!(self.client.next_message()["id"], "after");
        assert_eq!(self.remote.unasked(), [""; 0]);
    }
}
