//! A client that breaks every rule harms itself at most, for a bounded time and in bounded memory.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::Response;
use crate::support::proc::{open_files, peak_memory};
use crate::support::raw::{Raw, head, post};
use crate::support::session::{Session, initialize};
use crate::support::{each_way, eventually, within};

const MIB: u64 = 1 << 20;
const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

// Bodies.

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_a_body() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let mut raw = Raw::open(&bridge.url).await;
    for byte in post(&in_session(&session.id), PING).into_bytes() {
        raw.send([byte]).await;
        tokio::task::yield_now().await;
    }
    let answer = raw.answer().await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(7)));
}

#[tokio::test]
async fn a_body_that_trickles_has_no_more_time_than_another() {
    let bridge = Serve::new(Guard::None).config("server:\n  read_timeout: 500ms").start();
    let session = Session::open(&bridge.http()).await;
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(format!("{}{}content-length: 100000\r\n\r\n", head("POST /mcp"), in_session(&session.id))).await;
    let trickle = async {
        while raw.try_send(" ").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of a body that trickles", trickle).await;
    still_works(&session).await;
}

#[tokio::test]
async fn ids_and_tokens_of_64_kib_pass_and_larger_ones_are_refused() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let id = "i".repeat(64 << 10);
        let params = json!({"name": "progress", "arguments": {"steps": 1}, "_meta": {"progressToken": id}});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        let messages = session.http.post(call.to_string()).await.messages().await;
        assert_eq!((&messages[0]["params"]["progressToken"], &messages[1]["id"]), (&json!(id), &json!(id)));
        let twice = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "never", "_meta": {"progressToken": 1}}});
        let mut first = session.http.post(twice.to_string()).await;
        first.next_message().await.unwrap();
        let error = session.http.post(twice.to_string()).await.json().await;
        assert_eq!((&error["id"], &error["error"]["data"]["reason"]), (&json!(id), &json!("duplicate_id")));
        assert!(error["error"]["message"].as_str().unwrap().len() < 200, "an error is for people to read");
        let large = json!({"jsonrpc": "2.0", "id": "i".repeat(200 << 10), "method": "ping"});
        let refused = session.http.post(large.to_string()).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json().await["error"]["code"], -32600);
        still_works(&session).await;
    })
    .await;
}

#[tokio::test]
async fn keys_that_stand_twice_are_refused_where_they_decide_and_pass_where_they_do_not() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for twice in [r#""id":8"#, r#""method":"tools/list""#, r#""jsonrpc":"2.0""#, r#""\u0069d":8"#, r#""params":{}"#] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{}},{twice}}}"#);
            let refused = session.http.post(body.clone()).await;
            assert_eq!(refused.status, 400, "{body}");
            assert_eq!(refused.json().await["error"]["code"], -32600, "{body}");
        }
        let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"raw_request","a":1,"a":2},"x":1,"x":2}"#;
        let answer = session.http.post(body).await.json().await;
        assert_eq!(answer["result"]["content"][0]["text"], body);
    })
    .await;
}

#[tokio::test]
async fn numbers_that_no_float_holds_pass_and_what_the_server_can_not_read_ends_in_time() {
    let bridge = Serve::new(Guard::None).config("mcp:\n  request_timeout: 300ms").start();
    let session = Session::open(&bridge.http()).await;
    // The test server can't read 1e400, and says so without an id.
    for (id, params) in [("7", r#"{"n":1e400}"#), ("1e400", "{}"), ("-1e-999999999", "{}")] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#);
        let response = session.http.post(body).await;
        assert_eq!(response.status, 200);
        let text = response.text().await;
        let read = text.contains(r#""result""#);
        assert!(read || text.contains("timed_out") && text.contains(&format!(r#""id":{id},"#)), "{text}");
    }
    still_works(&session).await;
}

#[tokio::test]
async fn nesting_in_every_place_exhausts_no_stack() {
    let bridge = Serve::new(Guard::None).config("mcp:\n  request_timeout: 300ms").start();
    let session = Session::open(&bridge.http()).await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(500_000), close.repeat(500_000));
    let (lists, objects) = (deep("[", "]"), deep(r#"{"_meta":"#, "}"));
    let bodies = [
        lists.clone(),
        objects.clone(),
        format!(r#"{{"jsonrpc":"2.0","id":{lists},"method":"ping"}}"#),
        format!(r#"{{"jsonrpc":"2.0","method":{objects}}}"#),
        format!(r#"{{"jsonrpc":{lists},"id":7,"method":"ping"}}"#),
    ];
    for body in bodies {
        assert_eq!(session.http.post(body).await.status, 400);
    }
    let places = [
        format!(r#""params":{{"_meta":{{"progressToken":{lists}}}}}"#),
        format!(r#""params":{objects}"#),
        format!(r#""x":{lists}"#),
    ];
    for place in places {
        let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping",{place}}}"#);
        assert_eq!(session.http.post(body).await.json().await["id"], 7);
    }
    still_works(&session).await;
}

// Headers.

#[tokio::test]
async fn nothing_that_a_client_names_gets_into_a_header_or_a_line_of_the_log() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let odd: [&[u8]; 8] = [
        b"\xff\xfe",
        b"\xc3\xa9 \xe2\x80\xa8",
        b"a\tb",
        b"%0d%0aINJECTED: 1",
        b"\\r\\nINJECTED: 1",
        b"\"; INJECTED=1",
        b"e1-18446744073709551616INJECTED",
        b"../../INJECTED",
    ];
    for name in ["mcp-session-id", "last-event-id", "mcp-protocol-version"] {
        for value in odd {
            let session = if name == "mcp-session-id" { String::new() } else { in_session(&session.id) };
            let head = format!(
                "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{session}{name}: "
            );
            let answer = raw_answer(&bridge, [head.as_bytes(), value, b"\r\n\r\n"].concat()).await;
            let expected: &[u16] = if name == "mcp-session-id" { &[404] } else { &[400] };
            assert!(expected.contains(&answer.status), "{name}: {value:?}: {answer:?}");
            assert_eq!(answer.json()["error"]["data"]["source"], "mcp-bridge");
            assert!(!answer.head().contains("INJECTED"), "{answer:?}");
        }
        // What can't stand in a header at all ends with the connection.
        for value in ["a\u{0}b", "a\rINJECTED: 1", "a\u{1}b", "a\u{7f}b", "a\r\n INJECTED: 1"] {
            let head = format!(
                "GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{name}: {value}\r\n\r\n"
            );
            let answer = raw_answer(&bridge, head.into_bytes()).await;
            assert_eq!((answer.status, answer.body.as_str()), (400, ""), "{name}: {value:?}");
        }
    }
    for query in ["%0d%0aINJECTED", "a%00b", "", "../x"] {
        let head = head(&format!("POST /messages?sessionId={query}"));
        let request = format!("{head}content-length: {}\r\n\r\n{PING}", PING.len());
        assert_eq!(raw_answer(&bridge, request.into_bytes()).await.status, 404, "{query}");
    }
    still_works(&session).await;
    assert!(!bridge.stderr().contains("INJECTED"), "{}", bridge.stderr());
}

// Streams and sessions.

#[tokio::test]
async fn a_thousand_listening_streams_are_a_few_at_a_time() {
    const STREAMS: usize = 1_000;
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).config("server:\n  shutdown_timeout: 0s").start();
        let session = Session::open(&bridge.http()).await;
        let files = open_files(bridge.pid());
        let mut streams: Vec<Response> = Vec::new();
        for n in 0..STREAMS {
            streams.push(session.http.get().await);
            assert_eq!(streams[n].status, 200);
            if n >= 4 {
                streams[n - 4].primed().await;
                assert_eq!(streams[n - 4].next_message().await, None, "the oldest ends for the newest");
            }
        }
        session.call("list_changed", json!({})).await;
        assert!(streams[STREAMS - 1].next_message().await.unwrap()["method"].is_string());
        drop(streams);
        eventually("the end of the connections", || (open_files(bridge.pid()) <= files).then_some(())).await;
        let peak = peak_memory(bridge.pid());
        assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
        crate::support::ended(bridge).await;
    }
}

#[tokio::test]
async fn a_thousand_streams_in_the_sessions_of_many_take_little_each() {
    const SESSIONS: usize = 40;
    const EACH: usize = 25;
    let bridge =
        Serve::new(Guard::None).config("server:\n  shutdown_timeout: 0s\n  stream_after: 0s").start();
    let mut open = Vec::new();
    for _ in 0..SESSIONS {
        let session = Session::open(&bridge.http()).await;
        for token in 0..EACH {
            let mut call = session.start_call("never", json!({}), &token.to_string()).await;
            assert_eq!(call.next_message().await.unwrap()["params"]["progressToken"], token.to_string());
            open.push(call);
        }
        still_works(&session).await;
    }
    assert_eq!(open.len(), SESSIONS * EACH);
    let peak = peak_memory(bridge.pid());
    assert!(peak < 256 * MIB, "{} MiB", peak / MIB);
}

#[tokio::test]
async fn more_requests_in_flight_than_a_session_may_have_are_refused_one_by_one() {
    const MOST: usize = 1024;
    let bridge =
        Serve::new(Guard::None).config("server:\n  shutdown_timeout: 0s\n  stream_after: 0s").start();
    let session = Session::open(&bridge.http()).await;
    let body = |id: usize| {
        json!({"jsonrpc": "2.0", "id": id + 10_000, "method": "tools/call", "params": {"name": "never"}})
            .to_string()
    };
    let mut open = Vec::new();
    for id in 0..MOST {
        let response = session.http.post(body(id)).await;
        assert!(response.is_stream());
        open.push(response);
    }
    let error = session.http.post(body(MOST)).await.json().await;
    assert_eq!(error["error"]["data"]["reason"], "too_many_requests", "{error}");
    session.notify("notifications/cancelled", &json!({"requestId": 10_000})).await;
    still_works(&session).await;
    assert!(session.http.delete().await.status.is_success());
    // One was cancelled, and each other one is answered.
    let mut answers = 0;
    for response in open {
        answers += response.messages().await.len();
    }
    assert_eq!(answers, MOST - 1);
}

#[tokio::test]
async fn sessions_that_are_opened_and_left_keep_nobody_out_for_long() {
    let limits = "server:\n  session:\n    timeout: 500ms\n    max_sessions: 5";
    let bridge = Serve::new(Guard::None).config(limits).start();
    let mut refused = 0;
    let open = async {
        for _ in 0..20 {
            let response = bridge.http().post(initialize(&json!({}))).await;
            match response.status.as_u16() {
                200 => {}
                503 => {
                    assert_eq!(response.header("retry-after"), "10");
                    let error = response.json().await;
                    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(0), &json!(-32603)));
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                other => panic!("{other}"),
            }
        }
    };
    within("sessions", open).await;
    assert!(refused > 0);
    let opened = eventually("a place", || {
        let ended = bridge.stderr().matches("server.session.timeout").count();
        let opened = bridge.stderr().matches("opened by").count();
        (ended == opened).then_some(opened)
    });
    assert!(opened.await >= 5);
    still_works(&Session::open(&bridge.http()).await).await;
}

#[tokio::test]
async fn answers_that_are_read_late_are_bounded_and_whole() {
    const UNREAD: usize = 30;
    let bridge = Serve::new(Guard::Mutual).config("server:\n  shutdown_timeout: 0s").start();
    let (session, other) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let mut unread = Vec::new();
    for n in 0..UNREAD {
        let params = json!({"name": "big", "arguments": {"bytes": 4 * MIB}});
        let call =
            json!({"jsonrpc": "2.0", "id": format!("unread {n}"), "method": "tools/call", "params": params});
        unread.push(session.http.post(call.to_string()).await);
        still_works(&other).await;
    }
    let peak = peak_memory(bridge.pid());
    assert!(peak < 512 * MIB, "{} MiB", peak / MIB);
    for (n, response) in unread.into_iter().enumerate() {
        assert_eq!(response.messages().await.pop().unwrap()["id"], format!("unread {n}"));
    }
}

#[tokio::test]
async fn connections_whose_answers_nobody_reads_are_cut() {
    let bridge = Serve::new(Guard::None).config("logging:\n  level: debug").start();
    let session = Session::open(&bridge.http()).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "big", "arguments": {"bytes": 16 * MIB}}});
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(post(&in_session(&session.id), &call.to_string())).await;

    // A client that opens no window, and says all the while that it is there.
    let address = bridge.url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    http2.initial_stream_window_size(0).adaptive_window(false);
    let (mut sender, connection) = http2.handshake(TokioIo::new(tcp)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(&bridge.url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("mcp-session-id", &session.id)
        .body(Full::<Bytes>::from(call.to_string().replace(r#""id":1"#, r#""id":2"#)))
        .unwrap();
    let unread = sender.send_request(request).await.unwrap();
    assert_eq!(unread.status(), 200);

    let cut = tokio::time::timeout(Duration::from_secs(120), connection).await;
    let _ = cut.expect("a connection that nobody reads is still there").unwrap();
    bridge.logged("cut: nothing of an answer was read for 60s");
    // Reading would keep the other one.
    let timed_out = || bridge.stderr().contains("connection ended: ").then_some(());
    eventually("the end of the other connection", timed_out).await;
    assert!((raw.closed().await.len() as u64) < 16 * MIB);
    still_works(&session).await;
}

fn in_session(id: &str) -> String {
    format!("mcp-session-id: {id}\r\n")
}

async fn raw_answer(bridge: &Bridge, request: Vec<u8>) -> crate::support::raw::Answer {
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(request).await;
    raw.answer().await
}

async fn still_works(session: &Session) {
    let answer: Value = session.call("echo", json!({"message": "hello"})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
}
