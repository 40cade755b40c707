//! The log: a line for each request with everything that is known of it, and with nothing that may not be there.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve, TOKEN};
use crate::support::connect::Connect;
use crate::support::eventually;
use crate::support::modern::Modern;
use crate::support::process::Process;
use crate::support::session::{Session, initialize};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

/// The line of a request that has this fact.
async fn line(process: &Process, fact: &str) -> String {
    let found = || process.stderr().lines().find(|line| line.contains(fact)).map(str::to_owned);
    eventually(&format!("`{fact}` in the log"), found).await
}

async fn object(process: &Process, fact: &str) -> Value {
    serde_json::from_str(&line(process, fact).await).unwrap()
}

#[tokio::test]
async fn each_request_is_a_line_that_says_what_is_known_of_it() {
    let bridge = Serve::new(Guard::Bearer).start();
    let session = Session::open(&bridge.http()).await;
    let params = json!({"name": "echo", "arguments": {"message": "hello"}, "_meta": {"traceparent": TRACE}});
    session.request("tools/call", &params).await;
    let call = line(&bridge, "method=tools/call").await;
    let short = &session.id[..8];
    for fact in [
        " INFO  POST /mcp ",
        &format!(" session={short} "),
        " principal=\"token 1\" ",
        " id=1 ",
        " name=echo ",
        &format!(" traceparent={TRACE} "),
        " status=200 ",
        " peer=127.0.0.1:",
        " request=",
        " duration_ms=",
        " received=",
        " sent=",
    ] {
        assert!(call.contains(fact), "{fact}: {call}");
    }
    line(&bridge, "method=initialize").await;
    line(&bridge, "method=notifications/initialized").await;
    session.http.delete().await;
    line(&bridge, "DELETE /mcp").await;
    bridge.http().path("/nowhere?sessionId=secret").get().await;
    let nowhere = line(&bridge, "GET /nowhere").await;
    assert!(nowhere.contains("refused=not_found status=404") && !nowhere.contains("secret"), "{nowhere}");
    let wrong = bridge.http().header("authorization", "Bearer wrong").post("{}").await;
    assert_eq!(wrong.status, 401);
    assert!(!line(&bridge, "refused=unauthorized").await.contains("wrong"));
    assert_eq!(bridge.http().path("/health").get().await.status, 200);
    assert!(!bridge.stderr().contains("/health"), "{}", bridge.stderr());
}

#[tokio::test]
async fn lines_of_requests_can_be_turned_off() {
    let mut bridge = Serve::new(Guard::None).config("logging: {level: debug, requests: false}").start();
    let session = Session::open(&bridge.http()).await;
    session.call("echo", json!({"message": "x"})).await;
    session.http.delete().await;
    bridge.terminate();
    let log = bridge.stderr();
    assert!(log.contains(": opened by") && !log.contains("POST /mcp"), "{log}");
}

#[tokio::test]
async fn in_json_the_facts_are_members() {
    let bridge = Serve::new(Guard::None).arg("--log-format=json").start();
    let session = Session::open(&bridge.http()).await;
    let http = session.http.clone().header("traceparent", TRACE);
    let ask = json!({"jsonrpc": "2.0", "id": "a\"b\n", "method": "prompts/get", "params": {"name": "p q"}});
    http.post(ask.to_string()).await;
    let prompt = object(&bridge, "prompts/get").await;
    assert_eq!(prompt["level"], "info");
    assert_eq!(prompt["message"], "POST /mcp");
    assert_eq!(prompt["name"], "p q");
    assert_eq!(prompt["principal"], "anonymous");
    assert_eq!(prompt["id"], r#""a\"b\n""#);
    assert_eq!(prompt["traceparent"], TRACE);
    assert_eq!(prompt["status"], 200);
    assert_eq!(prompt["received"], ask.to_string().len());
    assert!(prompt["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{prompt}");
    for text in bridge.stderr().lines() {
        assert!(serde_json::from_str::<Value>(text).is_ok_and(|line| line["time"].is_string()), "{text}");
    }
}

#[tokio::test]
async fn a_stream_is_logged_when_it_ends_and_a_client_that_leaves_too() {
    let bridge = Serve::new(Guard::Tls).config("logging:\n  level: debug\n  bodies: true").start();
    let session = Session::open(&bridge.http()).await;
    let mut stream = session.http.get().await;
    stream.primed().await;
    assert!(!bridge.stderr().contains("GET /mcp"));
    drop(stream);
    assert!(line(&bridge, "GET /mcp").await.contains("status=200"));
    // The answer does not come before the client is gone.
    let only_json = session.http.clone().header("accept", "application/json");
    let ask = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "never"}});
    let asked = tokio::spawn(async move { only_json.post(ask.to_string()).await });
    eventually("the call", || bridge.stderr().contains(r#""name":"never""#).then_some(())).await;
    asked.abort();
    assert!(line(&bridge, "status=499").await.contains("name=never"));
}

#[tokio::test]
async fn nobody_can_forge_a_line_or_a_fact() {
    const FORGED: &str = "x\n2026-01-01T00:00:00.000Z INFO  forged status=200\r\u{1b}[2J\u{202e}";
    let bridge = Serve::new(Guard::None).start();
    let session = Session::open(&bridge.http().header("traceparent", "a status=1 \"b\"")).await;
    session.call(FORGED, json!({})).await;
    session.request("forged\nmethod status=2", &json!({})).await;
    let id = json!({"jsonrpc": "2.0", "id": "i\nforged status=3", "method": "ping"});
    session.http.post(id.to_string()).await;
    session.call("stderr", json!({"bytes": 10})).await;
    session.http.clone().path("/%0Aforged").get().await;
    line(&bridge, "GET /%0Aforged").await;
    let log = bridge.stderr();
    for text in log.lines() {
        let time = text.get(..24).unwrap_or_default();
        assert!(time.starts_with("20") && time.ends_with('Z'), "a line of somebody else's: {text}");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
        assert!(!text[24..].starts_with(" INFO  forged"), "{text}");
    }
    // What is outside of quotes is the bridge's.
    for text in log.lines() {
        let unescaped = text.replace("\\\\", "").replace("\\\"", "");
        let outside: String = unescaped.split('"').step_by(2).collect();
        let requests = usize::from(text.contains(" request="));
        assert_eq!(outside.matches("status=").count(), requests, "{text}");
        assert!(!outside.contains("forged") || text.contains("GET /%0Aforged"), "{text}");
    }
    for forged in ["x\\n2026", "a status=1", "method status=2", "\\\\nforged status=3"] {
        line(&bridge, forged).await;
    }
}

#[tokio::test]
async fn bodies_are_logged_at_debug_and_when_asked_for_and_nowhere_else() {
    const SAID: &str = "something said in confidence";
    for (level, bodies, shown) in
        [("debug", true, true), ("debug", false, false), ("info", true, false), ("info", false, false)]
    {
        let config = format!("logging:\n  level: {level}\n  bodies: {bodies}");
        let mut bridge = Serve::new(Guard::Bearer).config(&config).start();
        let session = Session::open(&bridge.http()).await;
        session.call("echo", json!({"message": SAID})).await;
        Modern(bridge.http()).call("echo", json!({"message": SAID})).await;
        bridge.terminate();
        let log = bridge.stderr();
        // Of a client of each era.
        let [asked, answered] = ["from the client", "from the MCP server"]
            .map(|way| log.lines().filter(|l| l.contains(way) && l.contains(SAID)).count() == 2);
        assert_eq!((asked, answered, log.contains(SAID)), (shown, shown, shown), "{config}: {log}");
        assert!(!log.contains(TOKEN) && !log.contains(&session.id), "{log}");
    }
}

#[tokio::test]
async fn a_long_body_is_cut() {
    let bridge = Serve::new(Guard::None).config("logging:\n  level: debug\n  bodies: true").start();
    let session = Session::open(&bridge.http()).await;
    session.call("echo", json!({"message": "é".repeat(100_000)})).await;
    line(&bridge, "method=tools/call").await;
    let long = bridge.stderr().lines().map(str::len).max().unwrap();
    assert!((65_000..66_000).contains(&long), "{long}");
}

#[tokio::test]
async fn a_client_logs_bodies_when_asked_for() {
    let server = Bridge::serve(Guard::None);
    for bodies in [true, false] {
        let config = format!("logging:\n  level: debug\n  bodies: {bodies}");
        let mut client = Connect::to(&server.url).config(&config).start();
        client.initialize();
        client.call("echo", &json!({"message": "in confidence"}));
        client.terminate();
        let ways = ["from the client", "from the server"];
        for way in ways {
            let said = |line: &str| line.contains(way) && line.contains("in confidence");
            assert_eq!(client.stderr().lines().any(said), bodies, "{way}: {}", client.stderr());
        }
    }
}

#[tokio::test]
async fn a_traceparent_of_a_message_reaches_the_server_through_both_directions() {
    let server = Serve::new(Guard::None).start();
    let mut client = Connect::to(&server.url).start();
    client.initialize();
    let params = json!({"name": "raw_request", "_meta": {"traceparent": TRACE, "tracestate": "a=b"}});
    let answer = client.request("tools/call", &params);
    let raw = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(
        raw.contains(&format!(r#""traceparent":"{TRACE}""#)) && raw.contains(r#""tracestate":"a=b""#),
        "{raw}"
    );
    assert!(line(&server, "name=raw_request").await.contains(TRACE));
}

#[tokio::test]
async fn a_log_file_that_was_moved_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (file, moved) = (dir.path().join("bridge.log"), dir.path().join("bridge.log.1"));
    let (mut bridge, _config) =
        Serve::new(Guard::None).arg(&format!("--log-output={}", file.display())).spawn();
    let read = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default();
    eventually("the start", || read(&file).contains("listening on ").then_some(())).await;
    fs::rename(&file, &moved).unwrap();
    bridge.signal(Signal::SIGHUP);
    eventually("the new file", || read(&file).contains("the configuration was loaded anew").then_some(()))
        .await;
    assert!(read(&moved).contains("SIGHUP"));
    assert_eq!(bridge.terminate().code(), Some(0));
    assert!(read(&file).contains("stopped") && !read(&moved).contains("stopped"));
}

#[tokio::test]
async fn nothing_of_a_token_or_a_session_is_in_the_log_of_http_sse() {
    let bridge = Serve::new(Guard::None).arg("--log-level=debug").start();
    let mut stream = bridge.http().path("/sse").get().await;
    let endpoint = stream.next_event().await.unwrap().data;
    let id = endpoint.split("sessionId=").nth(1).unwrap().to_owned();
    bridge.http().path(&endpoint).post(initialize(&json!({}))).await;
    stream.next_message().await.unwrap();
    drop(stream);
    line(&bridge, "GET /sse").await;
    assert!(line(&bridge, "POST /messages").await.contains("status=202"));
    assert!(!bridge.stderr().contains(&id), "{}", bridge.stderr());
}
