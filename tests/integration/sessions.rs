//! A session is its client's alone, and ends with it.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::certs::cert;
use crate::support::http::Http;
use crate::support::proc::is_alive;
use crate::support::session::{Session, initialize};
use crate::support::{each_way, ended, eventually, within};

#[tokio::test]
async fn each_session_has_a_server_of_its_own() {
    each_way(async |http| {
        let (one, two) = (Session::open(&http).await, Session::open(&http).await);
        assert_ne!(one.id, two.id);
        assert_ne!(pid(&one).await, pid(&two).await);
        let params = json!({"name": "never", "_meta": {"progressToken": "t"}});
        let call = json!({"jsonrpc": "2.0", "id": "one's", "method": "tools/call", "params": params});
        let mut call = one.http.post(call.to_string()).await;
        call.next_message().await.unwrap();
        one.notify("notifications/cancelled", &json!({"requestId": "one's"})).await;
        assert_eq!(call.next_message().await, None);
        assert_eq!(cancelled(&two).await, json!([]));
        assert_eq!(cancelled(&one).await, json!(["one's"]));
    })
    .await;
}

#[tokio::test]
async fn sessions_that_use_the_same_ids_and_tokens_never_meet() {
    const SESSIONS: usize = 8;
    let bridge = Bridge::serve(Guard::Mutual);
    let http = bridge.http();
    let clients = (0..SESSIONS).map(|n| {
        let http = http.clone();
        tokio::spawn(async move {
            let session = Session::open(&http).await;
            let mut listener = session.http.get().await;
            let name = format!("client {n}");
            let told = session.start_call("progress", json!({"steps": 5, "ms": 5}), "same").await;
            let (told, said) = tokio::join!(told.messages(), session.call("echo", json!({"message": name})));
            assert_eq!(told.iter().filter(|m| m["method"] == "notifications/progress").count(), 5, "{told:?}");
            assert_eq!(said["result"]["content"][0]["text"], name);
            let line = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"of": name}});
            session.call("raw", json!({"line": line.to_string()})).await;
            assert_eq!(listener.next_message().await.unwrap(), line);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn session_ids_are_long_random_and_all_differ() {
    let bridge = Serve::new(Guard::None).config("server:\n  session:\n    max_sessions: 64").start();
    let mut ids = HashSet::new();
    for _ in 0..40 {
        let response = bridge.http().post(initialize(&json!({}))).await;
        let id = response.header("mcp-session-id").to_owned();
        assert!(id.len() >= 128 / 4 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        // Neither a counter nor a time hides in them: each quarter differs too.
        for quarter in 0..4 {
            let at = id.len() / 4 * quarter;
            assert!(ids.insert((quarter, id[at..at + id.len() / 4].to_owned())), "{id}");
        }
    }
}

#[tokio::test]
async fn a_session_of_one_token_does_not_exist_for_another() {
    let tokens = "auth:\n  type: bearer\n  bearer:\n    tokens: [first, second]";
    let bridge = Serve::new(Guard::None).config(tokens).start();
    let session = Session::open(&bridge.http().header("authorization", "Bearer first")).await;
    keeps_out(&session, &session.http.clone().header("authorization", "Bearer second")).await;
}

#[tokio::test]
async fn a_session_of_one_certificate_does_not_exist_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let both = dir.path().join("both.crt");
    let text =
        [cert("ca.crt"), cert("other-ca.crt")].map(|file| std::fs::read_to_string(file).unwrap()).concat();
    std::fs::write(&both, text).unwrap();
    let bridge = Serve::new(Guard::Tls)
        .config(&format!("tls:\n  client_ca_file: {}\n  client_auth: verify", both.display()))
        .start();
    let enter =
        |name: &str| bridge.http().identity(&cert(&format!("{name}.crt")), &cert(&format!("{name}.key")));
    let session = Session::open(&enter("client")).await;
    let other = enter("other-client");
    Session::open(&other).await;
    let other = other.header("mcp-session-id", &session.id).header("mcp-protocol-version", "2025-11-25");
    keeps_out(&session, &other).await;
}

#[tokio::test]
async fn deleting_a_session_ends_its_server_and_the_session() {
    each_way(async |http| {
        let (session, other) = (Session::open(&http).await, Session::open(&http).await);
        let (child, others) = (pid(&session).await, pid(&other).await);
        let mut listener = session.http.get().await;
        let waiting = session.start_call("never", json!({}), "t").await;
        assert!(session.http.delete().await.status.is_success());
        for response in
            [session.http.post(ping()).await, session.http.get().await, session.http.delete().await]
        {
            assert_eq!(response.status, 404);
        }
        assert_eq!(listener.next_message().await, None);
        let answer = waiting.messages().await.pop().unwrap();
        assert_eq!(answer["error"]["data"]["source"], "mcp-bridge", "{answer}");
        eventually("the end of the child", || (!is_alive(child)).then_some(())).await;
        assert_eq!(pid(&other).await, others);
    })
    .await;
}

#[tokio::test]
async fn a_session_too_many_is_told_to_come_again() {
    let bridge = Serve::new(Guard::None).config("server:\n  session:\n    max_sessions: 2").start();
    let (one, two) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let response = bridge.http().post(initialize(&json!({}))).await;
    assert_eq!((response.status.as_u16(), response.header("mcp-session-id")), (503, ""));
    assert!(response.header("retry-after").parse::<u32>().unwrap() > 0);
    let error = response.json().await;
    assert_eq!((&error["id"], &error["error"]["data"]["source"]), (&json!(0), &json!("mcp-bridge")));
    assert!(error["error"]["message"].as_str().unwrap().contains("server.session.max_sessions"), "{error}");
    pid(&two).await;
    let child = pid(&one).await;
    one.http.delete().await;
    eventually("the end of the child", || (!is_alive(child)).then_some(())).await;
    opens_again(&bridge.http()).await;
}

#[tokio::test]
async fn an_idle_session_ends_and_one_with_an_open_stream_does_not() {
    let bridge = Serve::new(Guard::None)
        .config(
            "server:\n  shutdown_timeout: 0s\n  sse_keepalive_interval: 50ms\n  session:\n    timeout: 300ms",
        )
        .start();
    let (listening, calling) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let mut listener = listening.http.get().await;
    let mut call = calling.start_call("never", json!({}), "t").await;
    assert_eq!(call.next_message().await.unwrap()["method"], "notifications/progress");
    let kept = pid(&listening).await;
    // Opened last and so the last to run out, if all of them did.
    let idle = Session::open(&bridge.http()).await;
    let child = pid(&idle).await;
    eventually("the end of the idle child", || (!is_alive(child)).then_some(())).await;
    assert_eq!(idle.http.post(ping()).await.status, 404);
    bridge.logged("server.session.timeout");
    assert_eq!(pid(&listening).await, kept);
    listening.call("list_changed", json!({})).await;
    assert_eq!(listener.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(calling.http.post(ping()).await.status, 200);
    // When the stream is closed, its session is idle as well.
    drop(listener);
    eventually("the end of the other child", || (!is_alive(kept)).then_some(())).await;
    assert_eq!(calling.http.post(ping()).await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_before_initialize_is_answered_leaves_nothing() {
    // A client that leaves plain HTTP/1.1 could as well have only closed its half of the connection.
    for (guard, http2) in [(Guard::None, true), (Guard::Mutual, false), (Guard::Mutual, true)] {
        let bridge = Serve::new(guard).child_arg("--no-initialize-answer").start();
        let http = if http2 { bridge.http().http2() } else { bridge.http() };
        let client = tokio::spawn(async move { http.post(initialize(&json!({}))).await.status });
        let line = eventually("a session", || {
            bridge.stderr().lines().find(|line| line.contains("opened by")).map(str::to_owned)
        })
        .await;
        let child: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(is_alive(child));
        client.abort();
        eventually("the end of the child", || (!is_alive(child)).then_some(())).await;
        bridge.logged("ended: it was told to");
        ended(bridge).await;
    }
}

#[tokio::test]
async fn only_initialize_opens_a_session() {
    let bridge = Bridge::serve(Guard::None);
    let others = [
        ping(),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"initialize"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(),
    ];
    for body in others {
        let response = bridge.http().post(body).await;
        assert_eq!((response.status.as_u16(), response.header("mcp-session-id")), (400, ""));
    }
    assert!(!bridge.stderr().contains("opened by"), "{}", bridge.stderr());
}

/// The owner can use its session, and `stranger` can't even see that it is there.
async fn keeps_out(session: &Session, stranger: &Http) {
    for response in [stranger.post(ping()).await, stranger.get().await, stranger.delete().await] {
        let unknown = stranger.clone().header("mcp-session-id", "0123456789abcdef").post(ping()).await;
        assert_eq!((response.status.as_u16(), unknown.status.as_u16()), (404, 404));
        assert_eq!(response.text().await, unknown.text().await);
    }
    pid(session).await;
}

async fn opens_again(http: &Http) {
    let again = async { while http.post(initialize(&json!({}))).await.status != 200 {} };
    within("a place for a session", again).await;
}

async fn pid(session: &Session) -> u32 {
    let answer = session.call("echo", json!({"message": "", "pid": true})).await;
    let pid = answer["result"]["structuredContent"]["pid"].as_u64();
    u32::try_from(pid.unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

async fn cancelled(session: &Session) -> Value {
    session.call("cancelled", json!({})).await["result"]["structuredContent"]["ids"].clone()
}

fn ping() -> String {
    json!({"jsonrpc": "2.0", "id": "ping", "method": "ping"}).to_string()
}
