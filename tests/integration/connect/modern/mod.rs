//! Clients and servers of revision 2026-07-28 at the two ends of `connect`.

mod discovery;
mod downgrade;
mod listen;
mod mixed;
mod same;
mod upgrade;

use serde_json::{Value, json};

use crate::support::connect::{Client, Connect};
use crate::support::modern::{REVISION, Request};
use crate::support::remote::{self, Remote};

/// The server is known to be modern, and is not asked.
const MODERN: &str = "client:\n  protocol: modern\n";
/// The server is known to be legacy, and is not asked.
const LEGACY: &str = "client:\n  protocol: legacy\n";
/// What is worth trying again is tried at once, three times.
const QUICK: &str =
    "  retry:\n    max_retries: 3\n    initial_delay: 1ms\n    max_delay: 1ms\n    multiplier: 1\n";

/// A modern client of a remote server.
struct Pair {
    remote: Remote,
    client: Client,
}

impl Pair {
    fn new(config: &str) -> Self {
        let remote = Remote::plain();
        let client = Connect::to(&remote.url).config(config).start();
        Self { remote, client }
    }

    fn ask(&mut self, request: &Request) {
        self.client.message(&request.0);
    }

    /// Sends a request of that method, which arrives at the server.
    fn asked(&mut self, id: impl Into<Value>, method: &str, params: Value) -> remote::Request {
        self.ask(&Request::new(id, method, params));
        self.remote.asked(method)
    }

    /// Takes back a request.
    fn cancel(&mut self, id: impl Into<Value>) {
        self.client.notify("notifications/cancelled", &json!({"requestId": id.into()}));
    }

    /// Shows that nothing more comes to the client: the next is the answer to one more request.
    fn nothing_more_comes(&mut self) {
        self.asked("the last", "prompts/list", json!({})).result(&json!({}));
        assert_eq!(self.client.next_message()["id"], "the last");
    }
}

/// The answer of a modern server to `server/discover`.
fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": [REVISION],
        "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}},
        "ttlMs": 0,
        "cacheScope": "private",
    })
}

fn refuse(request: remote::Request, status: &str, code: i32, data: &Value) {
    let error = json!({"code": code, "message": "no", "data": data});
    let body = json!({"jsonrpc": "2.0", "id": request.message()["id"], "error": error}).to_string();
    request.respond(status, &["content-type: application/json"], body.as_bytes());
}
