//! Every status and code, and what a client is told that says too little.

use serde_json::{Value, json};

use super::{client, serve};
use crate::support::ended;
use crate::support::http::{Http, Response};
use crate::support::modern::{CAPABILITIES_KEY, Modern, REVISION, Request, VERSION_KEY};

fn list() -> Request {
    Request::new(1, "tools/list", json!({}))
}

async fn error(response: Response, status: u16, code: i64) -> Value {
    assert_eq!(response.status, status);
    assert_eq!(response.header("mcp-session-id"), "");
    let answer = response.json().await;
    assert_eq!(answer["error"]["code"], code, "{answer}");
    answer
}

#[tokio::test]
async fn an_answer_that_comes_soon_is_json_under_the_clients_own_id() {
    let bridge = serve().start();
    for http in [bridge.http(), bridge.http().http2()] {
        for id in [json!(7), json!("seven"), json!(-1)] {
            let response =
                Modern(http.clone()).post(&Request::new(id.clone(), "tools/list", json!({}))).await;
            assert_eq!(
                (response.status.as_u16(), response.header("content-type")),
                (200, "application/json")
            );
            assert_eq!(response.header("mcp-session-id"), "");
            let answer = response.json().await;
            assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&id, &json!("complete")));
        }
    }
}

#[tokio::test]
async fn each_error_has_its_status() {
    let bridge = serve().start();
    let client = client(&bridge);
    error(client.post(&Request::new(1, "no/such", json!({}))).await, 404, -32601).await;
    for (code, status) in [
        (-32700, 400),
        (-32600, 400),
        (-32602, 200),
        (-32603, 200),
        (-32020, 400),
        (-32021, 400),
        (-32022, 400),
    ] {
        let request = Request::call(1, "refuse", json!({"code": code, "message": "no"}));
        let answer = error(client.post(&request).await, status, code).await;
        assert_eq!(answer["error"]["message"], "no", "the server's own words");
    }
    // In a stream the status is out before the code is known.
    let request = Request::call(1, "progress", json!({"steps": 1})).meta("progressToken", "t");
    assert_eq!(client.post(&request).await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_of_this_revision_is_refused() {
    let bridge = serve().start();
    let announced = bridge.http().header("mcp-protocol-version", REVISION);
    error(announced.post("{").await, 400, -32700).await;
    error(announced.post("{}").await, 400, -32600).await;
    error(announced.post(format!("[{}]", list().0)).await, 400, -32600).await;
    error(announced.post(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await, 400, -32600).await;
    // Without the members of `_meta` that every request has.
    error(announced.post(r#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#).await, 400, -32602).await;
    let mut without = list().0;
    without["params"]["_meta"].as_object_mut().unwrap().remove(CAPABILITIES_KEY);
    let answer = error(announced.post(without.to_string()).await, 400, -32602).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains(CAPABILITIES_KEY), "{answer}");
    assert_eq!(answer["id"], 1);
}

#[tokio::test]
async fn a_revision_that_is_not_served_is_answered_with_the_one_that_is() {
    let bridge = serve().start();
    for version in ["1900-01-01", "2030-01-01"] {
        let request = list().meta(VERSION_KEY, version);
        let client = Modern(bridge.http().header("mcp-protocol-version", version));
        let answer = error(client.post(&request).await, 400, -32022).await;
        assert_eq!(answer["error"]["data"], json!({"supported": [REVISION], "requested": version}));
    }
    // Header and message contradict each other: which revision is asked for?
    let client = Modern(bridge.http().header("mcp-protocol-version", "2025-11-25"));
    error(client.post(&list()).await, 400, -32020).await;
    // Without a session, a legacy revision is no way to say what one wants.
    let legacy = list().meta(VERSION_KEY, "2025-11-25").0.to_string();
    let answer = error(bridge.http().post(legacy.clone()).await, 400, -32022).await;
    assert_eq!(answer["error"]["data"]["supported"], json!([REVISION]));
    error(bridge.http().header("mcp-protocol-version", "2025-11-25").post(legacy).await, 400, -32022).await;
}

#[tokio::test]
async fn who_says_nothing_is_told_what_is_missing() {
    let bridge = serve().start();
    let response = bridge.http().post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    let answer = error(response, 400, -32600).await;
    let message = answer["error"]["message"].as_str().unwrap();
    for word in ["Mcp-Session-Id", "MCP-Protocol-Version", "_meta"] {
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn what_modern_clients_need_not_do_is_not_there_for_them() {
    let bridge = serve().start();
    let announced = bridge.http().header("mcp-protocol-version", REVISION);
    for response in [announced.get().await, announced.delete().await] {
        assert_eq!((response.status.as_u16(), response.header("allow")), (405, "POST"));
    }
    // `initialize` is not passed to the child that everyone shares, however it comes.
    let modern = Modern(bridge.http());
    error(
        modern.post(&Request::new(1, "initialize", json!({"protocolVersion": REVISION}))).await,
        404,
        -32601,
    )
    .await;
    let plain = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}).to_string();
    error(announced.post(plain).await, 404, -32601).await;
    let request = Request::new(1, "initialize", json!({})).0.to_string();
    error(bridge.http().post(request).await, 404, -32601).await;
    // A session's id means nothing.
    let client = Modern(bridge.http().header("mcp-session-id", "whatever").header("last-event-id", "1-2-3"));
    assert_eq!(client.post(&list()).await.status, 200);
}

#[tokio::test]
async fn notifications_are_taken_and_can_cancel_nothing() {
    let bridge = serve().start();
    let client = client(&bridge);
    let mut stream = client.post(&Request::call(1, "late", json!({})).meta("progressToken", 1)).await;
    assert_eq!(stream.next_message().await.unwrap()["method"], "notifications/progress");
    let announced = bridge.http().header("mcp-protocol-version", REVISION);
    for id in 1..4 {
        let notification =
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
        let response = announced.post(notification.to_string()).await;
        assert_eq!(response.status, 202);
        assert_eq!(response.text().await, "");
    }
    assert_eq!(client.cancelled(0).await, 0);
    drop(stream);
    ended(bridge).await;
}

#[tokio::test]
async fn who_takes_json_only_gets_the_answer_alone() {
    let bridge = serve().start();
    let accepting = |accept: &str| Modern(bridge.http().header("accept", accept));
    let progress = Request::call(1, "progress", json!({"steps": 3})).meta("progressToken", "t");
    let response = accepting("application/json").post(&progress).await;
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.json().await["result"]["content"][0]["text"], "3 steps");
    let messages = accepting("text/event-stream").post(&list()).await.messages().await;
    assert_eq!(messages.len(), 1);
    let listen = Request::listen(1, &json!({}));
    assert_eq!(accepting("application/json").post(&listen).await.status, 406);
    assert_eq!(accepting("text/html").post(&list()).await.status, 406);
}

#[tokio::test]
async fn a_server_can_not_ask_and_says_so_itself() {
    let bridge = serve().start();
    let answer = client(&bridge).call("sample", json!({"prompt": "hello"})).await;
    assert_eq!(answer["result"]["structuredContent"]["error"]["code"], -32601, "{answer}");
}

/// What the bridge is asked by hand: no header of its own, and no helper's.
#[tokio::test]
async fn the_members_of_meta_alone_make_a_request_modern() {
    let bridge = serve().start();
    let http: Http = bridge.http();
    let answer = error(http.post(list().0.to_string()).await, 400, -32020).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("mcp-protocol-version"), "{answer}");
}
