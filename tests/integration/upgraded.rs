//! Modern clients of a server that speaks legacy revisions only: the sessions that serve keeps for them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};
use mcp_bridge::auth::{Authenticator, Principal};
use mcp_bridge::child::ChildCommand;
use mcp_bridge::config::{self, Config, Role};
use mcp_bridge::era::Request;
use mcp_bridge::jsonrpc::{Payload, parse};
use mcp_bridge::metrics::Places;
use mcp_bridge::serve::{NotBegun, Options, Upgraded};
use mcp_bridge::upstream::Call;
use serde_json::{Value, json};

use crate::support::{eventually, fixture_server, within};

/// The sessions of a serve with these settings besides the command.
struct Clients {
    sessions: Arc<Upgraded>,
    places: Places,
    authenticator: Authenticator,
}

fn load(mcp: &str, server: &str) -> config::Serve {
    let text = format!(
        "mode: server\nserver: {{listen: '127.0.0.1:0', {server}}}\nmcp: {{command: '{}', {mcp}}}\n{}",
        fixture_server(),
        "auth: {type: bearer, bearer: {tokens: [one, two]}}\n"
    );
    let config = config::parse(Path::new("f.yaml"), &text, &config::Options::default(), &|_| None);
    match config.unwrap_or_else(|e| panic!("{e}")) {
        Config { role: Role::Serve(serve), .. } => *serve,
        Config { .. } => panic!("not serve"),
    }
}

impl Clients {
    fn new(mcp: &str, server: &str) -> Self {
        let config = load(mcp, server);
        let places = Places::new(config.max_sessions);
        let command = ChildCommand::resolve(&config.mcp).unwrap();
        let sessions = Upgraded::new(command, Options::new(&config), places.clone(), |_| ()).unwrap();
        Self { sessions, places, authenticator: Authenticator::new(&config.auth).unwrap() }
    }

    fn principal(&self, token: &str) -> Principal {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        self.authenticator.principal(&headers, None).unwrap()
    }

    async fn call(&self, token: &str, declared: Value, method: &str, params: Value) -> Call {
        self.try_call(token, declared, method, params).await.unwrap()
    }

    async fn try_call(
        &self,
        token: &str,
        declared: Value,
        method: &str,
        params: Value,
    ) -> Result<Call, NotBegun> {
        let request = modern(1, declared, method, params);
        within("a call", self.sessions.call(&self.principal(token), request)).await
    }

    /// Calls a tool of the fixture server, as a client that declares nothing.
    async fn tool(&self, token: &str, name: &str, arguments: Value) -> Value {
        let params = json!({ "name": name, "arguments": arguments });
        answer(&mut self.call(token, json!({}), "tools/call", params).await).await
    }

    async fn pid(&self, token: &str, declared: Value) -> u64 {
        let params = json!({ "name": "echo", "arguments": { "message": "x", "pid": true } });
        let answer = answer(&mut self.call(token, declared, "tools/call", params).await).await;
        answer["result"]["structuredContent"]["pid"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }
}

fn modern(id: u64, declared: Value, method: &str, mut params: Value) -> Request {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({ "name": "their-client", "version": "7" });
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = declared;
    let text = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
    let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{method}") };
    Request::read(message).unwrap()
}

async fn next(call: &mut Call) -> Option<Value> {
    let item = within("a message", call.next()).await?;
    Some(serde_json::from_str(item.message.line.as_str()).unwrap())
}

async fn answer(call: &mut Call) -> Value {
    loop {
        let message = next(call).await.expect("an answer");
        if message.get("id").is_some() {
            return message;
        }
    }
}

fn is_alive(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}/stat")).exists()
}

fn no_place(refused: Result<Call, NotBegun>) -> String {
    match refused {
        Err(NotBegun::NoPlace(why)) => why,
        other => panic!("{other:?}"),
    }
}

async fn gone(pid: u64) {
    eventually("the child's end", || (!is_alive(pid)).then_some(())).await;
}

#[tokio::test]
async fn a_principal_with_the_same_capabilities_has_one_session() {
    let clients = Clients::new("isolation: principal", "");
    let one = clients.pid("one", json!({})).await;
    assert_eq!(clients.pid("one", json!({ "experimental": { "x": {} } })).await, one);
    assert_ne!(clients.pid("two", json!({})).await, one);
    assert_ne!(clients.pid("one", json!({ "roots": {} })).await, one);
    let about = clients.tool("one", "about", json!({})).await;
    let initialize = &about["result"]["structuredContent"]["initialize"];
    assert_eq!(initialize["clientInfo"]["name"], "mcp-bridge");
    assert_eq!(initialize["protocolVersion"], "2025-11-25");
    clients.sessions.end();
    within("the end", clients.sessions.ended()).await;
    assert!(!is_alive(one));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_wait_for_one_session() {
    let clients = Arc::new(Clients::new("isolation: principal", "session: {max_sessions: 1}"));
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let clients = Arc::clone(&clients);
            tokio::spawn(async move { clients.pid("one", json!({})).await })
        })
        .collect();
    let mut pids = HashSet::new();
    for request in requests {
        pids.insert(request.await.unwrap());
    }
    assert_eq!(pids.len(), 1);
}

#[tokio::test]
async fn a_request_of_its_own_has_a_child_of_its_own_that_ends_with_it() {
    let clients = Clients::new("isolation: request", "");
    let one = clients.pid("one", json!({})).await;
    let two = clients.pid("one", json!({})).await;
    assert_ne!(one, two);
    gone(one).await;
    gone(two).await;
    let about = clients.tool("one", "about", json!({})).await;
    let initialize = &about["result"]["structuredContent"]["initialize"];
    assert_eq!(initialize["clientInfo"], json!({ "name": "their-client", "version": "7" }));
    clients.sessions.end();
    within("the end", clients.sessions.ended()).await;
    let refused = clients.try_call("one", json!({}), "tools/list", json!({})).await.unwrap_err();
    assert_eq!(refused, NotBegun::ShuttingDown);
}

#[tokio::test]
async fn a_question_suspends_the_call_until_its_own_client_answers() {
    for isolation in ["principal", "request"] {
        let clients = Clients::new(&format!("isolation: {isolation}"), "");
        let declared = json!({ "elicitation": {} });
        let params = json!({ "name": "elicit", "arguments": { "message": "Who?" } });
        let mut call = clients.call("one", declared.clone(), "tools/call", params.clone()).await;
        let asked = answer(&mut call).await;
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{asked}");
        let (key, question) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(question["params"]["message"], "Who?");
        let mut retry = params;
        retry["requestState"] = result["requestState"].clone();
        retry["inputResponses"] = json!({ key: { "action": "accept", "content": { "name": "x" } } });
        let foreign =
            answer(&mut clients.call("two", declared.clone(), "tools/call", retry.clone()).await).await;
        assert_eq!(foreign["error"]["code"], -32602);
        let done =
            answer(&mut clients.call("one", declared.clone(), "tools/call", retry.clone()).await).await;
        assert_eq!(done["result"]["structuredContent"]["result"]["content"]["name"], "x", "{done}");
        assert_eq!(done["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fixture-server");
        let again = answer(&mut clients.call("one", declared, "tools/call", retry).await).await;
        assert_eq!(again["error"]["code"], -32602);
    }
}

#[tokio::test]
async fn notifications_come_before_the_answer() {
    let clients = Clients::new("isolation: principal", "");
    let params = json!({
        "name": "progress", "arguments": { "steps": 2 },
        "_meta": { "progressToken": "t", "io.modelcontextprotocol/logLevel": "info" },
    });
    let mut call = clients.call("one", json!({}), "tools/call", params).await;
    for progress in [1, 2] {
        let message = next(&mut call).await.unwrap();
        assert_eq!(message["params"]["progressToken"], "t");
        assert_eq!(message["params"]["progress"], progress);
    }
    assert_eq!(answer(&mut call).await["result"]["resultType"], "complete");
    let log = json!({
        "name": "log", "arguments": { "level": "error", "data": "d" },
        "_meta": { "io.modelcontextprotocol/logLevel": "warning" },
    });
    let mut call = clients.call("one", json!({}), "tools/call", log).await;
    assert_eq!(next(&mut call).await.unwrap()["params"]["data"], "d");
    assert!(answer(&mut call).await["result"].is_object());
}

#[tokio::test]
async fn who_leaves_cancels() {
    let clients = Clients::new("isolation: principal", "");
    let params = json!({ "name": "never", "_meta": { "progressToken": "t" } });
    let mut call = clients.call("one", json!({}), "tools/call", params).await;
    assert_eq!(next(&mut call).await.unwrap()["method"], "notifications/progress");
    drop(call);
    let cancelled = clients.tool("one", "cancelled", json!({ "wait": 1 })).await;
    assert!(cancelled["result"]["content"][0]["text"].is_string(), "{cancelled}");
}

#[tokio::test]
async fn a_child_that_dies_ends_its_calls_and_the_next_call_gets_another() {
    let clients = Clients::new("isolation: principal", "");
    let one = clients.pid("one", json!({})).await;
    let listen = json!({ "notifications": { "toolsListChanged": true } });
    let mut listen = clients.call("one", json!({}), "subscriptions/listen", listen).await;
    assert_eq!(
        next(&mut listen).await.unwrap()["params"]["notifications"],
        json!({ "toolsListChanged": true })
    );
    let died = clients.tool("one", "die", json!({ "status": 3 })).await;
    assert_eq!(died["error"]["message"], "the MCP server exited with status 3");
    assert_eq!(died["error"]["data"]["reason"], "child_exited");
    assert!(next(&mut listen).await.is_none());
    assert_ne!(clients.pid("one", json!({})).await, one);
}

#[tokio::test]
async fn sessions_take_places_and_give_them_back() {
    let clients = Clients::new("isolation: principal", "session: {max_sessions: 1, timeout: 1ms}");
    let place = clients.places.take().unwrap();
    let refused = clients.try_call("one", json!({}), "tools/call", json!({ "name": "echo" })).await;
    assert!(no_place(refused).contains("max_sessions"));
    drop(place);
    // The session is idle at once, and its place free when its child is gone.
    let one = clients.pid("one", json!({})).await;
    gone(one).await;
    eventually("a place", || clients.places.take().map(drop)).await;
    clients.pid("two", json!({})).await;
}

#[tokio::test]
async fn a_principal_has_a_bounded_number_of_sets_of_capabilities() {
    let clients = Clients::new("isolation: principal", "");
    let declared = |n: usize| json!({ "extensions": { "a/b": { "n": n } } });
    for n in 0..16 {
        clients.pid("one", declared(n)).await;
    }
    let params = json!({ "name": "echo" });
    let refused = clients.try_call("one", declared(16), "tools/call", params).await;
    assert!(no_place(refused).contains("16 different sets"));
    clients.pid("one", declared(3)).await;
    clients.pid("two", declared(16)).await;
}

#[tokio::test]
async fn draining_finishes_calls_and_ends_listens_with_a_result() {
    let clients = Clients::new("isolation: principal", "");
    let listen = json!({ "notifications": {} });
    let mut listen = clients.call("one", json!({}), "subscriptions/listen", listen).await;
    next(&mut listen).await.unwrap();
    let params = json!({ "name": "meet", "arguments": { "n": 1 }, "_meta": { "progressToken": 1 } });
    let mut call = clients.call("one", json!({}), "tools/call", params).await;
    clients.sessions.drain();
    assert_eq!(next(&mut listen).await.unwrap()["result"]["resultType"], "complete");
    assert_eq!(answer(&mut call).await["result"]["content"][0]["text"], "met");
    within("the end", clients.sessions.ended()).await;
    assert!(clients.places.take().is_some());
}

#[tokio::test]
async fn a_server_that_does_not_start_is_everybodys_answer() {
    let clients = Clients::new("isolation: principal, args: ['--exit-on-initialize', '4']", "");
    let refused = clients.tool("one", "echo", json!({})).await;
    assert_eq!(refused["error"]["message"], "the MCP server exited with status 4", "{refused}");
}

#[tokio::test]
async fn large_requests_at_once_wait_for_the_child_to_read_them() {
    const LENGTH: usize = 3 << 20;
    let clients = Clients::new("isolation: principal", "");
    clients.pid("one", json!({})).await;
    let text = "x".repeat(LENGTH);
    let mut calls = Vec::new();
    for _ in 0..9 {
        let params = json!({ "name": "size", "arguments": { "text": text } });
        calls.push(clients.call("one", json!({}), "tools/call", params).await);
    }
    for call in &mut calls {
        let answer = answer(call).await;
        assert_eq!(answer["result"]["structuredContent"]["bytes"], LENGTH, "{answer}");
    }
}
