//! A legacy client's session, written out in HTTP requests.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::http::{Http, Response};

pub(crate) const VERSION: &str = "2025-11-25";

pub(crate) struct Session {
    /// Every request of it carries the session and the protocol version.
    pub(crate) http: Http,
    pub(crate) id: String,
    next_id: AtomicU64,
}

impl Session {
    pub(crate) async fn open(http: &Http) -> Self {
        Self::open_with(http, &json!({"sampling": {}, "elicitation": {}, "roots": {}})).await
    }

    pub(crate) async fn open_with(http: &Http, capabilities: &Value) -> Self {
        let response = http.post(initialize(capabilities)).await;
        assert_eq!(response.status, 200, "initialize");
        let id = response.header("mcp-session-id").to_owned();
        let answer = response.messages().await.pop().unwrap();
        assert!(answer["result"]["protocolVersion"].is_string(), "initialize: {answer}");
        let session = Self::taken_up(http, &id, VERSION);
        session.notify("notifications/initialized", &json!({})).await;
        session
    }

    /// A session that was opened otherwise, of that revision.
    pub(crate) fn taken_up(http: &Http, id: &str, version: &str) -> Self {
        let http = http.clone().header("mcp-session-id", id).header("mcp-protocol-version", version);
        Self { http, id: id.to_owned(), next_id: AtomicU64::new(1) }
    }

    /// The response to a request, wherever in the answer it stands.
    pub(crate) async fn request(&self, method: &str, params: &Value) -> Value {
        let response = self.start(method, params).await;
        response.messages().await.pop().expect("an answer")
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments})).await
    }

    /// A call with a progress token, whose answer is read by the test.
    pub(crate) async fn start_call(&self, tool: &str, arguments: Value, token: &str) -> Response {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": token}});
        self.start("tools/call", &params).await
    }

    pub(crate) async fn start(&self, method: &str, params: &Value) -> Response {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        self.http
            .post(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string())
            .await
    }

    pub(crate) async fn notify(&self, method: &str, params: &Value) {
        self.accepted(&json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
    }

    /// Answers a request of the server.
    pub(crate) async fn answer(&self, request: &Value, result: Value) {
        self.accepted(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await;
    }

    async fn accepted(&self, message: &Value) {
        let response = self.http.post(message.to_string()).await;
        assert_eq!(response.status, 202, "{message}");
    }
}

/// The text of an `initialize` request with id 0.
pub(crate) fn initialize(capabilities: &Value) -> String {
    let client = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": VERSION, "capabilities": capabilities, "clientInfo": client});
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string()
}
