//! The server as one of revision 2026-07-28: no session, a line in `_meta` with each request, subscriptions by their id.
//!
//! Besides the tools of `tools.rs` it has its own, which are about what this revision has; `TOOLS` lists them.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::tools::{self, Call, Reply, Tool, tool};

pub(crate) const REVISION: &str = "2026-07-28";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

const TOOLS: [Tool; 8] = [
    tool("query", "region, [limit]: its arguments; headers repeat them", query),
    tool("rename_header", "name: `query` wants its region under another header", rename_header),
    tool("touch", "uri: that resource has changed, for who subscribed to it", touch),
    tool("change_tools", "the tools have changed, for who subscribed to that", change_tools),
    tool("tear_down", "[complete]: ends every subscription", tear_down),
    tool(
        "log_if_asked",
        "data: logs it if the request has a log level, then waits to be cancelled",
        log_if_asked,
    ),
    tool("flood", "bytes: progress with messages of that length until it is cancelled", flood),
    tool("remember", "asks the user once; requestState names the process", remember),
];

/// A client that listens.
pub(crate) struct Subscription {
    id: Value,
    filter: Value,
}

/// Whether a request is one of this revision.
pub(crate) fn is_modern(params: &Value) -> bool {
    params["_meta"][VERSION].is_string()
}

/// The answer to who speaks an older revision.
pub(crate) fn refuse(peer: &Peer, id: &Value) {
    let data = json!({"supported": [REVISION], "requested": "an older one"});
    let error = json!({"code": -32022, "message": "Unsupported protocol version", "data": data});
    peer.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
}

pub(crate) fn handle(peer: &Arc<Peer>, method: &str, id: Value, params: Value, line: &[u8]) {
    match method {
        "server/discover" => {
            let capabilities =
                json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}});
            let result = json!({"supportedVersions": [REVISION], "capabilities": capabilities, "ttlMs": 0, "cacheScope": "private"});
            peer.answer(&id, &complete(result));
        }
        "tools/list" => peer.answer(&id, &complete(list(peer))),
        "tools/call" => match params["name"]
            .as_str()
            .and_then(find)
            .or_else(|| params["name"].as_str().and_then(tools::find))
        {
            Some(tool) => tools::start(tool, peer, id, params, line, complete),
            None => peer.refuse(&id, -32602, &format!("Unknown tool: {}", params["name"])),
        },
        // A request that takes nothing but its place.
        "resources/read" if params["uri"] == "hold:" => {}
        "resources/read" => {
            let contents = json!([{"uri": params["uri"], "text": "contents"}]);
            peer.answer(&id, &complete(json!({"contents": contents, "ttlMs": 0, "cacheScope": "private"})));
        }
        "subscriptions/listen" => listen(peer, id, params["notifications"].clone()),
        other => peer.refuse(&id, -32601, &format!("Method not found: {other}")),
    }
}

fn complete(mut result: Value) -> Value {
    if result.get("resultType").is_none() {
        result["resultType"] = json!("complete");
    }
    result
}

fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

fn list(peer: &Peer) -> Value {
    let header = peer.read(|state| state.header.clone()).unwrap_or_else(|| "Region".to_owned());
    let mut tools = tools::list();
    for tool in &TOOLS {
        tools.push(tool.described());
    }
    let properties = json!({
        "region": {"type": "string", "x-mcp-header": header},
        "limit": {"type": "integer", "x-mcp-header": "Limit"},
    });
    let query = tools.iter_mut().find(|tool| tool["name"] == "query").unwrap();
    query["inputSchema"] = json!({"type": "object", "properties": properties});
    json!({"tools": tools, "ttlMs": 0, "cacheScope": "private"})
}

fn listen(peer: &Peer, id: Value, filter: Value) {
    let params = json!({"_meta": {SUBSCRIPTION: id}, "notifications": filter});
    peer.change(|state| state.subscriptions.push(Subscription { id, filter }));
    peer.notify("notifications/subscriptions/acknowledged", &params);
}

/// Tells every subscription that wants it; how many those are.
fn tell(call: &Call, method: &str, params: &Value, wants: impl Fn(&Value) -> bool) -> Reply {
    let told = call.peer.read(|state| {
        let wanting =
            state.subscriptions.iter().filter(|s| !state.cancelled.contains(&s.id) && wants(&s.filter));
        wanting.map(|s| s.id.clone()).collect::<Vec<_>>()
    });
    for id in &told {
        let mut params = params.clone();
        params["_meta"] = json!({SUBSCRIPTION: id});
        call.peer.notify(method, &params);
    }
    Reply::text(&format!("{} told", told.len()))
}

fn query(call: &Call) -> Reply {
    Reply::structured(call.params["arguments"].clone())
}

fn rename_header(call: &Call) -> Reply {
    call.peer.change(|state| state.header = Some(call.text("name", "Region").to_owned()));
    Reply::text("renamed")
}

fn touch(call: &Call) -> Reply {
    let uri = call.arg("uri");
    tell(call, "notifications/resources/updated", &json!({"uri": uri}), |filter| {
        filter["resourceSubscriptions"].as_array().is_some_and(|uris| uris.contains(uri))
    })
}

fn change_tools(call: &Call) -> Reply {
    tell(call, "notifications/tools/list_changed", &json!({}), |filter| filter["toolsListChanged"] == true)
}

fn tear_down(call: &Call) -> Reply {
    let mut all = Vec::new();
    call.peer.change(|state| all.append(&mut state.subscriptions));
    for Subscription { id, .. } in &all {
        if call.flag("complete") {
            call.peer.answer(id, &complete(json!({"_meta": {SUBSCRIPTION: id}})));
        } else {
            call.peer
                .notify("notifications/cancelled", &json!({"requestId": id, "_meta": {SUBSCRIPTION: id}}));
        }
    }
    Reply::text(&format!("{} ended", all.len()))
}

fn log_if_asked(call: &Call) -> Reply {
    let level = &call.params["_meta"][LOG_LEVEL];
    if level.is_string() {
        call.peer.notify("notifications/message", &json!({"level": level, "data": call.arg("data")}));
    }
    tools::never(call)
}

fn flood(call: &Call) -> Reply {
    let message = "x".repeat(usize::try_from(call.number("bytes", 1024)).unwrap());
    let token = &call.params["_meta"]["progressToken"];
    for progress in 1.. {
        let params = json!({"progressToken": token, "progress": progress, "message": message});
        call.peer.notify("notifications/progress", &params);
        if call.is_cancelled_within(Duration::ZERO) {
            break;
        }
    }
    Reply::Nothing
}

fn remember(call: &Call) -> Reply {
    let state = json!(process::id().to_string());
    if call.params["requestState"].is_string() {
        let same = call.params["requestState"] == state;
        return Reply::structured(json!({"same": same, "pid": process::id()}));
    }
    let schema = json!({"type": "object", "properties": {}});
    let question =
        json!({"method": "elicitation/create", "params": {"message": "Go on?", "requestedSchema": schema}});
    Reply::Result(
        json!({"resultType": "input_required", "inputRequests": {"go": question}, "requestState": state}),
    )
}
