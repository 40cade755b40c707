//! The bridge ends in good order: subscriptions with a result, calls with their answer, children as any other.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{client, serve};
use crate::support::modern::{Request, SUBSCRIPTION_KEY};
use crate::support::proc::is_alive;
use crate::support::session::{Session, initialize};

#[tokio::test]
async fn what_is_open_when_the_bridge_ends_is_ended_in_good_order() {
    let mut bridge = serve().start();
    let client = client(&bridge);
    let pid = client.call("echo", json!({"pid": true})).await["result"]["structuredContent"]["pid"]
        .as_u64()
        .unwrap();
    let mut listener = client.listen("s", json!({"toolsListChanged": true})).await;
    let request = Request::call(1, "progress", json!({"steps": 10, "ms": 50})).meta("progressToken", 1);
    let mut running = client.post(&request).await;
    running.next_message().await.unwrap();
    bridge.signal(Signal::SIGTERM);
    let result = json!({"resultType": "complete", "_meta": {SUBSCRIPTION_KEY: "s"}});
    let answer = listener.next_message().await.unwrap();
    assert_eq!((&answer["id"], &answer["result"]), (&json!("s"), &result));
    assert!(listener.next_message().await.is_none());
    // Nothing new is let in while the rest finishes, and a proxy sees that another bridge may take it.
    let refused = client.post(&Request::call(7, "echo", json!({}))).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
    let refused = refused.json().await;
    assert_eq!(refused["id"], 7);
    assert_eq!(refused["error"]["data"]["reason"], "shutting_down", "{refused}");
    let last = running.messages().await.pop().unwrap();
    assert_eq!(last["result"]["content"][0]["text"], "10 steps", "{last}");
    assert!(tokio::task::spawn_blocking(move || bridge.wait()).await.unwrap().success());
    assert!(!is_alive(u32::try_from(pid).unwrap()));
}

#[tokio::test]
async fn a_legacy_clients_call_is_finished_in_as_many_rounds_as_it_takes() {
    let mut bridge = serve().start();
    let session = Session::open(&bridge.http()).await;
    let mut listener = client(&bridge).listen("s", json!({"toolsListChanged": true})).await;
    let mut call = session.start_call("remember", json!({}), "t").await;
    call.primed().await;
    let question = call.next_message().await.unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    bridge.signal(Signal::SIGTERM);
    // Modern clients need not wait for it.
    assert_eq!(listener.next_message().await.unwrap()["result"]["resultType"], "complete");
    assert_eq!(client(&bridge).post(&Request::call(1, "echo", json!({}))).await.status, 503);
    let refused = bridge.http().post(initialize(&json!({}))).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "10"));
    let refused = refused.json().await;
    assert_eq!(refused["error"]["data"]["reason"], "shutting_down", "{refused}");
    session.answer(&question, json!({"action": "accept", "content": {}})).await;
    let last = call.messages().await.pop().unwrap();
    assert_eq!(last["result"]["structuredContent"]["same"], true, "{last}");
    assert!(tokio::task::spawn_blocking(move || bridge.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_call_that_does_not_end_is_answered_when_its_time_is_up() {
    let mut bridge = serve().config("server:\n  shutdown_timeout: 100ms").start();
    let client = client(&bridge);
    let mut running = client.post(&Request::call(1, "never", json!({})).meta("progressToken", 1)).await;
    running.next_message().await.unwrap();
    bridge.signal(Signal::SIGTERM);
    let last = running.messages().await.pop().unwrap();
    assert_eq!(last["error"]["data"]["reason"], "shutting_down", "{last}");
    assert!(tokio::task::spawn_blocking(move || bridge.wait()).await.unwrap().success());
}

#[tokio::test]
async fn a_bridge_ends_when_the_last_client_leaves() {
    let mut bridge = serve().config("server:\n  shutdown_timeout: 10m").start();
    let client = client(&bridge);
    let mut running = client.post(&Request::call(1, "never", json!({})).meta("progressToken", 1)).await;
    running.next_message().await.unwrap();
    let mut listener = client.listen("s", json!({})).await;
    bridge.signal(Signal::SIGTERM);
    assert_eq!(listener.next_message().await.unwrap()["id"], "s");
    drop(running);
    assert!(tokio::task::spawn_blocking(move || bridge.wait()).await.unwrap().success());
}
