//! A server that means harm, or is broken beyond repair: each request gets one answer or error in bounded time and memory.

use std::io::Write;
use std::thread;

use serde_json::{Value, json};

use crate::support::connect::{Connect, Pair, initialize_params, opened};
use crate::support::h2::{GOAWAY, H2, RST_STREAM, frame};
use crate::support::proc::peak_memory;
use crate::support::remote::{Remote, Request, Wire};

const JSON: &str = "content-type: application/json";
const EVENTS: &str = "content-type: text/event-stream";
const IMPATIENT: &str = "client:\n  timeout: 300ms\n  retry:\n    initial_delay: 10ms\n    max_delay: 20ms";
const BUSY: &str = "client:\n  max_request_time: 500ms";
const GIB: usize = 1024 * 1024 * 1024;

#[test]
fn a_compressed_answer_was_not_asked_for() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let call = pair.remote.post();
    assert_eq!(call.header("accept-encoding"), "identity");
    call.respond("200 OK", &[JSON, "content-encoding: gzip"], b"\x1f\x8b\x08\x00");
    assert!(pair.client.own_error("q").contains("compressed (gzip)"));
    pair.client.ask("q", "tools/call", &json!({}));
    let plain = "content-type: text/plain";
    pair.remote.post().respond(
        "503 Service Unavailable",
        &[plain, "content-encoding: br"],
        b"\x8b\x02\x80zz",
    );
    let error = pair.client.own_error("q");
    assert!(error.contains("503") && !error.contains("zz"), "{error}");
    pair.client.ask("q", "tools/call", &json!({}));
    let call = pair.remote.post();
    let answer = json!({"jsonrpc": "2.0", "id": "q", "result": {}}).to_string();
    call.respond("200 OK", &[JSON, "content-encoding: identity"], answer.as_bytes());
    assert_eq!(pair.client.next_message()["result"], json!({}));
}

#[test]
fn a_stream_that_says_nothing_or_only_comments_costs_the_timeout() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(IMPATIENT));
    for piece in [&b""[..], b": still here\n\n", b"id: 1\nretry: 1\n\n", b"event: other\ndata: {}\n\n"] {
        pair.client.ask("q", "tools/call", &json!({}));
        let mut events = pair.remote.asked("tools/call").events();
        let saying = thread::spawn(move || {
            while !piece.is_empty() && events.try_piece(piece).is_ok() {}
            events
        });
        assert!(pair.client.own_error("q").contains("did not answer within 300ms"));
        pair.remote.asked("notifications/cancelled").accepted();
        saying.join().unwrap().wait_closed();
    }
}

#[test]
fn a_head_that_never_ends_costs_the_timeout() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(IMPATIENT));
    let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(8192));
    for piece in [hint, String::new()] {
        pair.client.ask("q", "tools/call", &json!({}));
        let mut wire = pair.remote.asked("tools/call").into_wire();
        wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let saying = thread::spawn(move || {
            while !piece.is_empty() && wire.write_all(piece.as_bytes()).is_ok() {}
            wire
        });
        assert!(pair.client.own_error("q").contains("did not answer within 300ms"));
        drop(saying.join().unwrap());
        pair.remote.asked("notifications/cancelled").accepted();
    }
}

#[test]
fn messages_without_end_do_not_put_off_the_answer_for_ever() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(BUSY));
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.asked("tools/call").events();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
    let piece = format!("data: {note}\n\n");
    let saying = thread::spawn(move || while events.try_piece(piece.as_bytes()).is_ok() {});
    let error = loop {
        let message = pair.client.next_message();
        if message != note {
            break message;
        }
    };
    assert_eq!((&error["id"], &error["error"]["data"]["reason"]), (&json!("q"), &json!("timed_out")));
    pair.remote.asked("notifications/cancelled").accepted();
    saying.join().unwrap();
}

#[test]
fn a_message_after_the_answer_does_not_hold_the_stream_open_for_ever() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "q");
    let saying = thread::spawn(move || while events.try_piece(b": more\n\n").is_ok() {});
    saying.join().unwrap();
}

#[test]
fn one_gibibyte_is_refused_in_bounded_memory() {
    let mut pair = Pair::open();
    for kind in [JSON, EVENTS] {
        for length in [&format!("content-length: {GIB}"), "transfer-encoding: chunked"] {
            pair.client.ask("q", "tools/call", &json!({}));
            let mut wire = pair.remote.post().into_wire();
            let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\n{length}\r\n\r\n");
            wire.write_all(head.as_bytes()).unwrap();
            flood(&mut *wire, length.contains("chunked"));
            let error = pair.client.own_error("q");
            assert!(error.contains("more than 67108864 bytes"), "{error}");
        }
    }
    let peak = peak_memory(pair.client.pid());
    assert!(peak < 160 << 20, "{peak} bytes");
}

/// Writes one gibibyte of one JSON text or event, for as long as it is taken.
fn flood(wire: &mut dyn Wire, is_chunked: bool) {
    let mut piece = vec![b'x'; 1024 * 1024];
    if is_chunked {
        piece = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
    }
    let _ = (0..GIB / (1024 * 1024)).try_for_each(|_| wire.write_all(&piece));
}

#[test]
fn what_is_no_message_is_no_answer() {
    let mut pair = Pair::open();
    let nested = format!(r#"{{"jsonrpc":"2.0","id":"q","result":{}1"#, "[".repeat(100_000));
    let bodies: [&[u8]; 12] = [
        br#"{"jsonrpc":"2.0","id":"q","result":"\xff"}"#,
        b"{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":\"\xff\"}",
        br#"{"jsonrpc":"2.0","id":"q"}"#,
        br#"{"jsonrpc":"2.0","id":"q","result":1,"error":{"code":1,"message":""}}"#,
        br#"{"jsonrpc":"2.0","id":["q"],"result":1}"#,
        br#"{"jsonrpc":"2.0","id":null,"result":1}"#,
        br#"{"jsonrpc":"2.0","id":"q","result":1} {"jsonrpc":"2.0","id":"q","result":2}"#,
        b"{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":1}\0",
        b"[]",
        b"\"q\"",
        b"data: {\"jsonrpc\":\"2.0\",\"id\":\"q\",\"result\":1}\n\n",
        nested.as_bytes(),
    ];
    for body in bodies {
        pair.client.ask("q", "tools/call", &json!({}));
        pair.remote.post().respond("200 OK", &[JSON], body);
        let error = pair.client.own_error("q");
        assert!(error.contains("can't be used"), "{}: {error}", String::from_utf8_lossy(body));
        assert!(error.len() < 500, "{error}");

        // On a stream it is passed over, and the stream ends without an answer.
        pair.client.ask("q", "tools/call", &json!({}));
        let mut events = pair.remote.post().events();
        events.piece(&[b"data: ", body, b"\n\n"].concat());
        events.end();
        let error = pair.client.own_error("q");
        assert!(error.contains("without an answer"), "{}: {error}", String::from_utf8_lossy(body));
    }
    pair.goes_on();
}

#[test]
fn bytes_after_an_answer_spoil_its_connection_only() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let answer = json!({"jsonrpc": "2.0", "id": "q", "result": 1}).to_string();
    let mut wire = pair.remote.post().into_wire();
    let head = format!("HTTP/1.1 200 OK\r\n{JSON}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
    let second = head.replace("\"result\":1", "\"result\":2");
    wire.write_all(format!("{head}{second}and more").as_bytes()).unwrap();
    assert_eq!(pair.client.next_message()["result"], 1);
    pair.goes_on();
}

#[test]
fn a_session_id_that_can_not_be_sent_back_is_refused() {
    for id in [&b"caf\xe9"[..], b"a\tb", &vec![b'x'; 64 * 1024]] {
        let remote = Remote::plain();
        let mut client = Connect::to(&remote.url).start();
        client.ask("init", "initialize", &initialize_params());
        let answer = json!({"jsonrpc": "2.0", "id": "init", "result": {}}).to_string();
        let length = format!("\r\n{JSON}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        remote.post().raw(&[b"HTTP/1.1 200 OK\r\nmcp-session-id: ", id, length.as_bytes()].concat());
        let error = client.own_error("init");
        assert!(error.contains("names the session with"), "{error}");
        client.close_stdin();
        assert!(client.wait().success());
        assert_eq!(remote.unasked(), [""; 0]);
    }
}

#[test]
fn a_server_does_not_rename_a_session() {
    let mut pair = Pair::open();
    let named = |call: Request| {
        assert_eq!(call.header("mcp-session-id"), "session-1");
        opened(call, "session-9");
    };
    for id in 0..2 {
        pair.client.ask(id, "tools/call", &json!({}));
        named(pair.remote.post());
        assert_eq!(pair.client.next_message()["id"], id);
    }
    pair.client.close_stdin();
    assert_eq!(pair.remote.delete().header("mcp-session-id"), "session-1");
}

#[test]
fn a_wait_before_a_stream_is_resumed_is_neither_nothing_nor_for_ever() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(IMPATIENT));
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.piece(b"retry: 0\nid: 1\ndata:\n\n");
    events.end();
    let mut events = pair.remote.get().events();
    events.message(&json!({"jsonrpc": "2.0", "id": "q", "result": "resumed"}));
    assert_eq!(pair.client.next_message()["result"], "resumed");
    for wait in ["18446744073709551615", "99999999999999999999999999"] {
        pair.client.ask("q", "tools/call", &json!({}));
        let mut events = pair.remote.asked("tools/call").events();
        events.piece(format!("retry: {wait}\nid: 1\ndata:\n\n").as_bytes());
        if wait.len() > 20 {
            // Not a number that counts: resumed at once, and that is silent.
            events.end();
            let _silent = pair.remote.get().events();
            assert!(pair.client.own_error("q").contains("did not answer within 300ms"));
        } else {
            events.end();
            assert!(pair.client.own_error("q").contains("did not answer within 300ms"));
        }
        pair.remote.asked("notifications/cancelled").accepted();
    }
}

#[test]
fn an_event_id_that_can_not_be_sent_back_is_not_resumed_after() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(IMPATIENT));
    for id in ["x".repeat(1024 * 1024), "bell \u{7}".to_owned()] {
        pair.client.ask("q", "tools/call", &json!({}));
        let mut events = pair.remote.post().events();
        events.piece(format!("id: {id}\ndata:\n\n").as_bytes());
        events.end();
        assert!(pair.client.own_error("q").contains("ended the stream without an answer"));
    }
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.piece("id: 7é\ndata:\n\nid: 8\u{0}\ndata:\n\n".as_bytes());
    events.end();
    let get = pair.remote.get();
    let last: Vec<u8> = get.header("last-event-id").into_bytes();
    assert_eq!(last, "7é".as_bytes());
    get.events().message(&json!({"jsonrpc": "2.0", "id": "q", "result": "resumed"}));
    assert_eq!(pair.client.next_message()["result"], "resumed");
    pair.goes_on();
}

#[test]
fn a_batch_may_hold_the_answer_and_others_that_nobody_waits_for() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let answer = |id: Value| json!({"jsonrpc": "2.0", "id": id, "result": id});
    pair.remote.post().json(&json!([answer(json!(1)), answer(json!("q")), answer(json!("q"))]));
    assert_eq!(pair.client.next_message(), answer(json!("q")));
    pair.goes_on();
}

#[test]
fn an_http2_stream_that_is_reset_is_an_error_and_not_asked_again() {
    // INTERNAL_ERROR, CANCEL, and ENHANCE_YOUR_CALM on the connection (RFC 9113, section 7).
    let resets: [(bool, fn(u32) -> Vec<u8>); 4] = [
        (false, |stream| frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())),
        (false, |stream| frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())),
        (true, |stream| frame(GOAWAY, 0, 0, &[stream.to_be_bytes(), 11_u32.to_be_bytes()].concat())),
        (true, |stream| frame(GOAWAY, 0, 0, &[stream.to_be_bytes(), 0_u32.to_be_bytes()].concat())),
    ];
    for (closes, answer) in resets {
        let server = H2::start(closes, answer);
        let mut client = Connect::to(&server.url).start();
        for id in 0..2 {
            client.ask(id, "tools/call", &json!({}));
            server.asked();
            let error = client.own_error(id);
            assert!(error.contains("may have run"), "{error}");
            assert!(server.is_quiet());
        }
        client.close_stdin();
        assert!(client.wait().success());
        assert_eq!(client.next_line(), None);
    }
}

impl Pair {
    /// What was before has left nothing behind.
    fn goes_on(&mut self) {
        self.client.ask("after", "ping", &json!({}));
        self.remote.asked("ping").result(&json!({}));
        assert_eq!(self.client.next_message(), json!({"jsonrpc": "2.0", "id": "after", "result": {}}));
        assert_eq!(self.remote.unasked(), [""; 0]);
    }
}
