//! A server that breaks every rule harms its own session at most, for a bounded time and in bounded memory.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::eventually;
use crate::support::http::Response;
use crate::support::proc::{memory, peak_memory};
use crate::support::session::Session;

const MIB: u64 = 1 << 20;
/// What the documentation says that a session may take in all, with room for the allocator and the program itself.
const SESSION: u64 = 256 * MIB;

#[tokio::test]
async fn a_line_of_a_gibibyte_takes_no_memory_and_ends_the_calls_that_wait() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let other = Session::open(&bridge.http()).await;
    let waiting = waits(&session).await;
    let answer = session.call("endless_line", json!({"bytes": 1 << 30})).await;
    assert_eq!(answer["error"]["data"]["reason"], "message_too_long", "{answer}");
    assert_eq!(waiting.messages().await.pop().unwrap()["error"]["data"]["reason"], "message_too_long");
    still_works(&session).await;
    still_works(&other).await;
    let peak = peak_memory(bridge.pid());
    assert!(peak < SESSION, "{} MiB", peak / MIB);
}

#[tokio::test]
async fn half_a_line_and_then_silence_fails_in_time_and_the_next_line_but_one_is_read() {
    let bridge = Serve::new(Guard::None).config("mcp:\n  request_timeout: 300ms").start();
    let session = Session::open(&bridge.http()).await;
    // The answer to the second call stands on the line that the first one began.
    for tool in ["half_line", "echo"] {
        let answer = session.call(tool, json!({})).await;
        assert_eq!(answer["error"]["data"]["reason"], "timed_out", "{answer}");
    }
    bridge.logged("from the child is no message");
    still_works(&session).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_end_no_more_than_their_own_line() {
    let bridge = Serve::new(Guard::None).config("mcp:\n  request_timeout: 300ms").start();
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    for line in
        ["\u{0}", "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\u{0}\"}", "\u{0}{}\u{0}", "\u{feff}{}"]
    {
        let answer = session.call("raw", json!({"line": line})).await;
        assert_eq!(answer["result"]["content"][0]["text"], "written");
    }
    let answer = session.call("garbage", json!({})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "after the garbage");
    session.call("list_changed", json!({})).await;
    assert_eq!(listener.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_flood_of_notifications_arrives_whole_and_in_order() {
    const TIMES: u64 = 30_000;
    let bridge = Bridge::serve(Guard::Tls);
    let (session, other) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let mut flood = session.start_call("flood", json!({"times": TIMES}), "t").await;
    let client = tokio::spawn(async move {
        for n in 1..=TIMES {
            assert_eq!(flood.next_message().await.unwrap()["params"]["data"]["n"], n);
        }
        assert!(flood.next_message().await.unwrap()["result"].is_object());
        assert_eq!(flood.next_message().await, None);
    });
    while !client.is_finished() {
        still_works(&other).await;
    }
    client.await.unwrap();
    let peak = peak_memory(bridge.pid());
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
}

/// The flood would take more than a gigabyte.
#[tokio::test]
async fn a_flood_that_nobody_reads_is_cut_and_takes_no_memory() {
    let bridge = Serve::new(Guard::None).config("server:\n  shutdown_timeout: 0s").start();
    let (session, other) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let text = "x".repeat(100_000);
    let mut unread = session.start_call("flood", json!({"times": 12_000, "data": text}), "t").await;
    assert_eq!(unread.next_message().await.unwrap()["params"]["data"]["n"], 1);
    eventually("the cut", || bridge.stderr().contains("a stream is cut").then_some(())).await;
    still_works(&session).await;
    still_works(&other).await;
    let peak = peak_memory(bridge.pid());
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
}

#[tokio::test]
async fn a_flood_that_nobody_can_take_waits_in_bounds_and_its_oldest_messages_go() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let json = session.http.clone().header("accept", "application/json");
    let text = "x".repeat(10_000);
    let params = json!({"name": "flood", "arguments": {"times": 10_000, "data": text}});
    let call = json!({"jsonrpc": "2.0", "id": "flood", "method": "tools/call", "params": params});
    assert_eq!(json.post(call.to_string()).await.json().await["id"], "flood");
    bridge.logged("a message is lost: the client has no stream open");
    let mut listener = session.http.get().await;
    let first = listener.next_message().await.unwrap()["params"]["data"]["n"].as_u64().unwrap();
    assert!(first > 9_000, "{first}");
    for n in first + 1..=10_000 {
        assert_eq!(listener.next_message().await.unwrap()["params"]["data"]["n"], n);
    }
    let peak = peak_memory(bridge.pid());
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
}

#[tokio::test]
async fn who_writes_to_a_server_that_does_not_read_is_told_and_takes_no_memory() {
    let bridge = Serve::new(Guard::None)
        .config("server:\n  shutdown_timeout: 0s\nmcp:\n  graceful_shutdown_timeout: 200ms\n  request_timeout: 1s")
        .start();
    let (session, other) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    session.call("deaf", json!({})).await;
    // More than the pipe, the queue, and half of what else a session may take.
    let patient = session.http.clone().patience(Duration::from_secs(90));
    let clients = (0..40).map(|n| {
        let http = patient.clone();
        tokio::spawn(async move {
            let params = json!({"name": "size", "arguments": {"text": "x".repeat(1 << 20)}});
            let call = json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params});
            http.post(call.to_string()).await.messages().await.pop().unwrap()
        })
    });
    let clients: Vec<_> = clients.collect();
    still_works(&other).await;
    let mut reasons = Vec::new();
    for client in clients {
        let answer = client.await.unwrap();
        reasons.push(answer["error"]["data"]["reason"].as_str().unwrap().to_owned());
    }
    // What is in the queue may yet be read; what found no place there was not taken.
    let taken = reasons.iter().filter(|reason| *reason == "timed_out").count();
    let refused = reasons.iter().filter(|reason| *reason == "child_unwritable").count();
    assert!((10..20).contains(&taken) && taken + refused == 40, "{reasons:?}");
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    assert_eq!(session.http.post(notification).await.status, 202, "for which there is room");
    let peak = peak_memory(bridge.pid());
    assert!(peak < SESSION, "{} MiB", peak / MIB);
    session.http.delete().await;
    bridge.logged("was ended by signal 15");
}

/// What glibc keeps of it for later is bounded; with the setting that the documentation names it keeps nothing.
#[tokio::test]
async fn memory_that_large_messages_took_is_used_again_or_given_back() {
    for (tunables, kept) in [("", SESSION), ("glibc.malloc.mmap_threshold=1048576", 24 * MIB)] {
        let bridge = Serve::new(Guard::Tls).env("GLIBC_TUNABLES", tunables).start();
        let session = Session::open(&bridge.http()).await;
        still_works(&session).await;
        let before = memory(bridge.pid());
        for _ in 0..4 {
            let answer = session.call("big", json!({"bytes": 20 * MIB})).await;
            assert_eq!(answer["result"]["structuredContent"]["bytes"], 20 * MIB);
        }
        let grown = || memory(bridge.pid()).saturating_sub(before);
        eventually("the memory of large messages", || (grown() < kept).then_some(())).await;
    }
}

#[tokio::test]
async fn a_message_of_any_shape_breaks_nothing() {
    let bridge = Serve::new(Guard::None).config("mcp:\n  request_timeout: 300ms").start();
    let session = Session::open(&bridge.http()).await;
    let shapes: [Value; 8] = [
        json!({"jsonrpc": "2.0", "id": 1e300, "result": {}}),
        json!({"jsonrpc": "2.0", "id": "x".repeat(200_000), "result": {}}),
        json!({"jsonrpc": "2.0", "id": "y", "result": {}, "error": {}}),
        json!({"jsonrpc": "2.0", "id": "y", "method": "initialize", "params": []}),
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": [1]}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}}),
        json!([{"jsonrpc": "2.0", "id": 5, "result": {}}, [], 7]),
        json!({"jsonrpc": "2.0", "method": "x".repeat(100_000)}),
    ];
    for shape in shapes {
        session.call("raw", json!({"line": shape.to_string()})).await;
    }
    still_works(&session).await;
    assert!(!bridge.stderr().contains("panicked"), "{}", bridge.stderr());
}

/// A call that is in flight and stays so.
async fn waits(session: &Session) -> Response {
    let mut response = session.start_call("never", json!({}), "waits").await;
    assert_eq!(response.next_message().await.unwrap()["method"], "notifications/progress");
    response
}

async fn still_works(session: &Session) {
    let answer = session.call("echo", json!({"message": "hello"})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
}
