//! Both eras at one endpoint, and what the bridge finds out about its server.

use serde_json::json;

use super::{client, serve};
use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::modern::{Modern, REVISION, Request};
use crate::support::proc::{Footprint, LONG};
use crate::support::session::{Session, initialize};
use crate::support::within;

fn dual() -> Serve {
    serve().child_arg("--legacy")
}

async fn pid_of_session(session: &Session) -> u64 {
    let answer = session.call("echo", json!({"pid": true})).await;
    answer["result"]["structuredContent"]["pid"].as_u64().unwrap()
}

#[tokio::test]
async fn a_server_of_both_eras_serves_each_client_in_its_own() {
    let bridge = dual().start();
    let modern = client(&bridge);
    let (one, other) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let answer = modern.call("echo", json!({"pid": true})).await;
    let shared = answer["result"]["structuredContent"]["pid"].as_u64().unwrap();
    assert_eq!(answer["result"]["resultType"], "complete");
    let pids = [shared, pid_of_session(&one).await, pid_of_session(&other).await];
    assert!(pids[0] != pids[1] && pids[1] != pids[2] && pids[0] != pids[2], "{pids:?}");
    // A modern request is one also with a session's id, and then not the session's.
    let mixed = Modern(bridge.http().header("mcp-session-id", &one.id));
    let answer = mixed.call("echo", json!({"pid": true})).await;
    assert_eq!(answer["result"]["structuredContent"]["pid"], shared);
    assert_eq!(one.http.delete().await.status, 204);
    assert_eq!(modern.post(&Request::call(1, "echo", json!({}))).await.status, 200);
}

#[tokio::test]
async fn legacy_traffic_never_reaches_the_shared_child() {
    let bridge = dual().start();
    let session = Session::open(&bridge.http()).await;
    session.call("ignore_term", json!({})).await;
    let about = client(&bridge).call("about", json!({})).await;
    assert_eq!(about["result"]["structuredContent"]["initialize"], json!(null));
}

#[tokio::test]
async fn what_is_configured_is_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    for (protocol, trials) in [("legacy", 1), ("modern", 2), ("auto", 3)] {
        let file = dir.path().join(protocol);
        let bridge = dual()
            .child_arg("--pid-file")
            .child_arg(file.to_str().unwrap())
            .config(&format!("mcp:\n  protocol: {protocol}"))
            .start();
        assert_eq!(bridge.http().path("/ready").get().await.status, 200);
        if protocol != "legacy" {
            client(&bridge).call("echo", json!({})).await;
        }
        // One for each question, and one that modern clients share.
        let started = crate::support::eventually("the children", || {
            let started = std::fs::read_to_string(&file).ok()?.lines().count();
            (started >= trials).then_some(started)
        });
        assert_eq!(started.await, trials, "{protocol}");
    }
}

#[tokio::test]
async fn a_modern_server_is_ready_before_anyone_asks_in_the_other_era() {
    let bridge = serve().start();
    assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    assert_eq!(
        client(&bridge).call("echo", json!({"message": "x"})).await["result"]["content"][0]["text"],
        "x"
    );
}

#[tokio::test]
async fn without_translation_each_client_gets_what_sends_it_back() {
    let untranslated = |serve: Serve| serve.config("mcp:\n  translate: false").start();
    // A modern client of a legacy server is refused as a legacy server would refuse it.
    let bridge: Bridge = untranslated(Serve::new(Guard::None));
    let response = client(&bridge).post(&Request::new(1, "server/discover", json!({}))).await;
    assert_eq!(response.status, 400);
    let answer = response.json().await;
    assert_eq!(answer["error"]["code"], -32600, "no error that only modern servers know: {answer}");
    Session::open(&bridge.http()).await;
    // A legacy client of a modern server gets that server's own refusal.
    let bridge = untranslated(serve());
    let answer = bridge.http().post(initialize(&json!({}))).await.messages().await.pop().unwrap();
    assert_eq!(answer["error"]["code"], -32022, "{answer}");
    assert_eq!(answer["error"]["data"]["supported"], json!([REVISION]));
}

#[tokio::test]
async fn a_server_that_does_not_start_is_everybodys_error() {
    let bridge = Serve::new(Guard::None).child_arg("--fail-start").child_arg("7").start();
    let answer = client(&bridge).call("echo", json!({})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("exited with status 7"), "{answer}");
}

#[tokio::test]
async fn no_place_for_a_session_of_a_modern_client_is_told_before_anything_has_happened() {
    let limits = "server:\n  session:\n    max_sessions: 1\nmcp:\n  isolation: request";
    let bridge = Serve::new(Guard::None).config(limits).start();
    let client = client(&bridge);
    // The place is free again when the child of the request for the tools is gone.
    let never = Request::call(1, "never", json!({})).meta("progressToken", 1);
    let mut holds = client.post(&never).await;
    let begun = async {
        while holds.status != 200 {
            holds = client.post(&never).await;
        }
    };
    within("a place", begun).await;
    holds.next_message().await.unwrap();
    let refused = client.post(&Request::new("later", "tools/list", json!({}))).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
    assert_eq!(refused.json().await["id"], "later");
    drop(holds);
    let again = async { while client.post(&Request::new(2, "tools/list", json!({}))).await.status != 200 {} };
    within("a place that is free again", again).await;
}

/// Twice in the answer.
fn half() -> String {
    "x".repeat(LONG / 2)
}

#[tokio::test]
async fn a_modern_clients_long_message_is_translated_without_being_held_twice() {
    let bridge = Serve::new(Guard::None).config("server:\n  max_body_size: 64MiB").start();
    let modern = client(&bridge);
    modern.call("echo", json!({"message": ""})).await;
    let (footprint, text) = (Footprint::of(bridge.pid()), half());
    for _ in 0..3 {
        let answer = modern.call("echo", json!({"message": text})).await;
        assert_eq!(answer["result"]["resultType"], "complete");
        assert_eq!(answer["result"]["structuredContent"]["message"], text);
    }
    footprint.is_below(4);
}

#[tokio::test]
async fn a_legacy_clients_long_message_is_translated_without_being_held_twice() {
    let bridge = serve().config("server:\n  max_body_size: 64MiB").start();
    let session = Session::open(&bridge.http()).await;
    let (footprint, text) = (Footprint::of(bridge.pid()), half());
    for id in 1..4 {
        let answer = session.call("echo", json!({"message": text})).await;
        assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!(id), &json!(null)));
        assert_eq!(answer["result"]["structuredContent"]["message"], text);
    }
    footprint.is_below(4);
}
