//! Headers must say what the body says, also of a tool's arguments.

use serde_json::json;

use super::{client, serve};
use crate::support::http::Http;
use crate::support::modern::{Modern, Request};

async fn status(http: &Http, request: &Request) -> u16 {
    let response = Modern(http.clone()).post(request).await;
    let status = response.status.as_u16();
    if status != 200 {
        let answer = response.json().await;
        assert_eq!(
            (status, &answer["error"]["code"], &answer["id"]),
            (400, &json!(-32020), &request.0["id"])
        );
    }
    status
}

#[tokio::test]
async fn the_standard_headers_are_checked() {
    let bridge = serve().start();
    let http = bridge.http();
    let call = Request::call(1, "echo", json!({"message": "x"}));
    let read = Request::new(2, "resources/read", json!({"uri": "file:///é"}));
    assert_eq!(status(&http, &call).await, 200);
    for (header, value) in [
        ("mcp-method", ""),
        ("mcp-method", "tools/list"),
        ("mcp-method", "TOOLS/CALL"),
        ("mcp-name", ""),
        ("mcp-name", "fail"),
        ("mcp-name", "=?base64?ZWNobw?="),
        ("mcp-protocol-version", ""),
        ("mcp-protocol-version", "2025-06-18"),
    ] {
        assert_eq!(status(&http.clone().header(header, value), &call).await, 400, "{header}: {value}");
    }
    assert_eq!(status(&http.clone().header("mcp-name", "=?base64?ZWNobw==?="), &call).await, 200);
    assert_eq!(status(&http.clone().header("mcp-name", "=?base64?ZmlsZTovLy/DqQ==?="), &read).await, 200);
    assert_eq!(status(&http.clone().header("mcp-name", "file:///e"), &read).await, 400);
}

#[tokio::test]
async fn arguments_are_checked_though_nobody_has_listed_the_tools() {
    let bridge = serve().start();
    let http = bridge.http().header("mcp-param-region", "us").header("mcp-param-limit", "10.0");
    let query = |arguments| Request::call("q", "query", arguments);
    let right = query(json!({"region": "us", "limit": 10}));
    assert_eq!(status(&http, &right).await, 200);
    assert_eq!(status(&http.clone().header("mcp-param-region", "eu"), &right).await, 400);
    assert_eq!(status(&http.clone().header("mcp-param-region", ""), &right).await, 400);
    assert_eq!(status(&http, &query(json!({"region": null, "limit": 10}))).await, 400);
    assert_eq!(status(&http, &query(json!({"limit": 10}))).await, 400);
    let without = http.clone().header("mcp-param-region", "");
    assert_eq!(status(&without, &query(json!({"region": null, "limit": 10}))).await, 200);
    // No tool's argument has a header that nobody knows of.
    assert_eq!(status(&http.clone().header("mcp-param-other", "x"), &right).await, 200);
    let unknown = Modern(http).post(&Request::call(1, "no_such_tool", json!({"region": "eu"}))).await;
    assert_eq!(unknown.json().await["error"]["code"], -32602, "the server's own word");
}

#[tokio::test]
async fn a_tool_that_has_changed_is_asked_about_before_a_call_is_refused() {
    let bridge = serve().start();
    let call = Request::call(1, "query", json!({"region": "us"}));
    let old = bridge.http().header("mcp-param-region", "us");
    let new = bridge.http().header("mcp-param-place", "us");
    assert_eq!(status(&old, &call).await, 200);
    client(&bridge).call("rename_header", json!({"name": "Place"})).await;
    assert_eq!(status(&new, &call).await, 200);
    assert_eq!(status(&old, &call).await, 400);
    // A list that passes teaches too, and so does the word that there is a new one.
    client(&bridge).call("rename_header", json!({"name": "Region"})).await;
    client(&bridge).request(&Request::new(1, "tools/list", json!({}))).await;
    assert_eq!(status(&old, &call).await, 200);
    let mut stream = client(&bridge).listen(1, json!({"toolsListChanged": true})).await;
    client(&bridge).call("rename_header", json!({"name": "Place"})).await;
    client(&bridge).call("change_tools", json!({})).await;
    assert_eq!(stream.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(status(&new, &call).await, 200);
}
