//! A small MCP server over stdio: JSON-RPC lines in, JSON-RPC lines out.
//!
//! It shows how little a server behind `mcp-bridge serve` needs to know: nothing about HTTP, TLS or sessions.
//!
//!     mcp-bridge serve --listen 127.0.0.1:8080 -- target/release/examples/demo-server

use std::io::{self, BufRead, Write};
use std::thread::available_parallelism;

use serde_json::{Value, json};

/// The protocol revisions that it knows, the newest last.
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn main() -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        if let Some(answer) = answer(&line?) {
            writeln!(stdout, "{answer}")?;
            stdout.flush()?;
        }
    }
    Ok(())
}

/// The response to a request, and nothing to a notification.
fn answer(line: &str) -> Option<Value> {
    let request: Value = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return Some(response(&Value::Null, Err((-32700, error.to_string())))),
    };
    let id = request.get("id")?;
    let params = &request["params"];
    let outcome = match request["method"].as_str()? {
        "initialize" => Ok(initialize(params)),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": tools()})),
        "tools/call" => call(params),
        other => Err((-32601, format!("Method not found: {other}"))),
    };
    Some(response(id, outcome))
}

fn response(id: &Value, outcome: Result<Value, (i32, String)>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}

fn initialize(params: &Value) -> Value {
    let newest = VERSIONS[VERSIONS.len() - 1];
    let asked = params["protocolVersion"].as_str().unwrap_or(newest);
    json!({
        "protocolVersion": if VERSIONS.contains(&asked) { asked } else { newest },
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "demo-server", "version": env!("CARGO_PKG_VERSION")},
    })
}

fn tools() -> Value {
    let number = json!({"type": "number"});
    json!([
        {
            "name": "add",
            "description": "Adds two numbers",
            "inputSchema": {"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]},
        },
        {
            "name": "echo",
            "description": "Says a message back",
            "inputSchema": {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
        },
        {
            "name": "system_info",
            "description": "Tells about the host that the server runs on",
            "inputSchema": {"type": "object"},
        },
    ])
}

fn call(params: &Value) -> Result<Value, (i32, String)> {
    let arguments = &params["arguments"];
    let text = match params["name"].as_str() {
        Some("add") => add(arguments),
        Some("echo") => arguments["message"].as_str().map(str::to_owned).ok_or("`message` must be a string"),
        Some("system_info") => Ok(system_info()),
        _ => return Err((-32602, format!("Unknown tool: {}", params["name"]))),
    };
    let is_error = text.is_err();
    let text = text.unwrap_or_else(str::to_owned);
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
}

fn add(arguments: &Value) -> Result<String, &'static str> {
    match (arguments["a"].as_f64(), arguments["b"].as_f64()) {
        (Some(a), Some(b)) => Ok((a + b).to_string()),
        _ => Err("`a` and `b` must be numbers"),
    }
}

fn system_info() -> String {
    let processors = available_parallelism().map_or(0, usize::from);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    json!({"os": os, "arch": arch, "processors": processors, "pid": std::process::id()}).to_string()
}
