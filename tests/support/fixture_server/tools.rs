//! The tools: one function each, in the order of the table.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::peer::{Peer, response};

/// How long a tool waits for something that a test promised to do.
const PROMISED: Duration = Duration::from_secs(30);

pub(crate) struct Tool {
    name: &'static str,
    says: &'static str,
    pub(crate) run: fn(&Call) -> Reply,
    /// It runs in the thread that reads standard input, and nothing is read after it.
    pub(crate) stops_the_reader: bool,
}

/// One `tools/call` in flight.
pub(crate) struct Call {
    pub(crate) peer: Arc<Peer>,
    pub(crate) id: Value,
    /// The request as it was read, without its newline.
    pub(crate) line: String,
    pub(crate) params: Value,
}

pub(crate) enum Reply {
    Result(Value),
    Error(i32, String),
    Nothing,
}

const fn tool(name: &'static str, says: &'static str, run: fn(&Call) -> Reply) -> Tool {
    Tool { name, says, run, stops_the_reader: false }
}

const TOOLS: [Tool; 34] = [
    // A server that behaves.
    tool("echo", "message, [pid], [env: NAME]: the message; pid and variable as structured content", echo),
    tool("about", "process, arguments, directory, environment and what initialize said", about),
    tool("fail", "[message]: a result with isError", fail),
    tool("refuse", "[code], [message]: a JSON-RPC error", refuse),
    tool("sleep", "ms: answers after that time, or not at all when cancelled", sleep),
    tool("meet", "n: answers when n calls of it are open at once", meet),
    tool(
        "progress",
        "steps, [ms]: that many notifications for the request's token, then the result",
        progress,
    ),
    tool("log", "[data], [level], [times]: notifications/message, then the result", log),
    tool("sample", "prompt: asks the client to sample; its answer", sample),
    tool("elicit", "message: asks the client's user; the answer", elicit),
    tool("roots", "asks for the client's roots; its answer", roots),
    tool("ask", "method, params: asks the client anything; its whole response", ask),
    tool(
        "list_changed",
        "[after]: notifications/tools/list_changed in the call, or after its answer",
        list_changed,
    ),
    tool("big", "bytes: a text of that length, its length and Adler-32 as structured content", big),
    tool("size", "text: length and Adler-32 of the argument", size),
    tool("raw_request", "the request's line as it was read", raw_request),
    // A server whose output is strange.
    tool("garbage", "lines on stdout that are no message, then the result", garbage),
    tool("raw", "line: that line on stdout, then the result", raw),
    tool("huge_line", "bytes: one notification of that length, then the result", huge_line),
    tool("endless_line", "bytes: that many on one line that is no message, then the result", endless_line),
    tool("half_line", "the first half of the result, and no more", half_line),
    tool(
        "flood",
        "[times], [data]: numbered notifications as fast as they are taken, then the result",
        flood,
    ),
    tool(
        "stderr",
        "bytes, [line]: that much on stderr in lines of that length (0: one line, not ended)",
        stderr,
    ),
    tool("duplicate", "answers twice", duplicate),
    tool("unknown_id", "an answer to an id that was never asked, then the result", unknown_id),
    tool("batch_answer", "the result in a JSON array", batch_answer),
    // A server that cancels badly.
    tool("never", "never answers; one progress notification first when there is a token", never),
    tool("late", "answers after it was cancelled", late),
    tool("cancelled", "[wait: N]: the ids cancelled so far, once there are N", cancelled),
    // A server that is hard to live with.
    tool("die", "[status] or [signal], [progress: N], [partial]: ends in the middle of the call", die),
    tool("ignore_term", "SIGTERM does nothing from now on", ignore_term),
    tool(
        "spawn_grandchild",
        "[seconds], [ignore_term], [own_group]: a process that holds the pipes; its pid",
        spawn_grandchild,
    ),
    tool("close_stdout", "[hold]: answers and replaces itself by a process without stdout", close_stdout),
    Tool { name: "deaf", says: "answers and reads nothing more", run: deaf, stops_the_reader: true },
];

pub(crate) fn list() -> Vec<Value> {
    TOOLS
        .iter()
        .map(|tool| json!({"name": tool.name, "description": tool.says, "inputSchema": {"type": "object"}}))
        .collect()
}

pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    const { &TOOLS }.iter().find(|tool| tool.name == name)
}

fn echo(call: &Call) -> Reply {
    let mut structured = json!({"message": call.arg("message")});
    if call.flag("pid") {
        structured["pid"] = json!(process::id());
    }
    if let Some(name) = call.arg("env").as_str() {
        structured["env"] = json!(std::env::var(name).ok());
    }
    Reply::both(call.text("message", ""), structured)
}

fn about(call: &Call) -> Reply {
    Reply::structured(json!({
        "pid": process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "args": std::env::args().collect::<Vec<_>>(),
        "dir": std::env::current_dir().ok(),
        "env": std::env::vars().collect::<HashMap<_, _>>(),
        "initialize": call.peer.initialize_params(),
    }))
}

fn fail(call: &Call) -> Reply {
    Reply::Result(
        json!({"content": [{"type": "text", "text": call.text("message", "failed")}], "isError": true}),
    )
}

fn refuse(call: &Call) -> Reply {
    let code = call.arg("code").as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-32000);
    Reply::Error(code, call.text("message", "refused").to_owned())
}

fn sleep(call: &Call) -> Reply {
    let limit = Duration::from_millis(call.number("ms", 100));
    if call.is_cancelled_within(limit) { Reply::Nothing } else { Reply::text("slept") }
}

fn meet(call: &Call) -> Reply {
    let n = call.number("n", 2);
    call.peer.change(|state| state.met += 1);
    if call.peer.wait_until(PROMISED, |state| state.met >= n) {
        Reply::text("met")
    } else {
        Reply::Error(-32000, format!("fewer than {n} calls were open at once"))
    }
}

fn progress(call: &Call) -> Reply {
    let steps = call.number("steps", 3);
    let pause = Duration::from_millis(call.number("ms", 0));
    if call.report_progress(steps, pause) { Reply::text(&format!("{steps} steps")) } else { Reply::Nothing }
}

fn log(call: &Call) -> Reply {
    for _ in 0..call.number("times", 1) {
        let (level, data) = (call.text("level", "info"), call.text("data", "logged"));
        call.peer
            .notify("notifications/message", &json!({"level": level, "logger": "fixture", "data": data}));
    }
    Reply::text("logged")
}

fn sample(call: &Call) -> Reply {
    let message = json!({"role": "user", "content": {"type": "text", "text": call.text("prompt", "hello")}});
    ask_for(call, "sampling/createMessage", &json!({"messages": [message], "maxTokens": 100}))
}

fn elicit(call: &Call) -> Reply {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    let params = json!({"message": call.text("message", "Who?"), "requestedSchema": schema});
    ask_for(call, "elicitation/create", &params)
}

fn roots(call: &Call) -> Reply {
    ask_for(call, "roots/list", &json!({}))
}

fn ask(call: &Call) -> Reply {
    ask_for(call, call.text("method", "ping"), call.arg("params"))
}

/// The client's response is the structured content; its result, when it is one, also the text.
fn ask_for(call: &Call, method: &str, params: &Value) -> Reply {
    match call.peer.ask(method, params) {
        Some(response) => Reply::both(&response["result"].to_string(), response),
        None => Reply::Error(-32000, format!("no answer to {method}")),
    }
}

fn list_changed(call: &Call) -> Reply {
    const METHOD: &str = "notifications/tools/list_changed";
    if call.flag("after") {
        call.peer.answer(&call.id, &text("changes"));
        call.peer.notify(METHOD, &json!({}));
        return Reply::Nothing;
    }
    call.peer.notify(METHOD, &json!({}));
    Reply::text("changed")
}

fn big(call: &Call) -> Reply {
    let text = pattern(call.number("bytes", 1024));
    Reply::both(&text, measure(&text))
}

fn size(call: &Call) -> Reply {
    Reply::structured(measure(call.text("text", "")))
}

fn raw_request(call: &Call) -> Reply {
    Reply::text(&call.line)
}

fn garbage(call: &Call) -> Reply {
    const LINES: [&[u8]; 10] = [
        b"Starting up, this is not JSON",
        b"",
        b"{\"jsonrpc\":\"2.0\",\"id\":",
        b"{\"jsonrpc\":\"2.0\"} trailing",
        b"42",
        b"null",
        b"{}",
        b"[]",
        b"\xff\xfe\x00",
        b"{\"jsonrpc\":\"1.0\",\"id\":{},\"method\":7}",
    ];
    for line in LINES {
        call.peer.send_bytes(&[line, b"\n"].concat());
    }
    Reply::text("after the garbage")
}

fn raw(call: &Call) -> Reply {
    call.peer.send_bytes(&[call.text("line", "").as_bytes(), b"\n"].concat());
    Reply::text("written")
}

fn huge_line(call: &Call) -> Reply {
    let data = pattern(call.number("bytes", 1024));
    call.peer.notify("notifications/message", &json!({"level": "info", "data": data}));
    Reply::text("after the huge line")
}

fn endless_line(call: &Call) -> Reply {
    call.peer.send_repeated(b"endless ", call.number("bytes", 1024));
    Reply::text("after the endless line")
}

fn half_line(call: &Call) -> Reply {
    let answer = response(&call.id, &text("never finished")).to_string();
    call.peer.send_bytes(&answer.as_bytes()[..answer.len() / 2]);
    Reply::Nothing
}

fn flood(call: &Call) -> Reply {
    let times = call.number("times", 10_000);
    for n in 1..=times {
        let data = json!({"n": n, "text": call.text("data", "")});
        call.peer.notify("notifications/message", &json!({"level": "info", "data": data}));
    }
    Reply::text(&format!("{times} notifications"))
}

fn stderr(call: &Call) -> Reply {
    let (bytes, length) = (call.number("bytes", 1024), call.number("line", 80));
    let text = pattern(bytes);
    let mut stderr = std::io::stderr().lock();
    if length == 0 {
        stderr.write_all(text.as_bytes()).unwrap();
    } else {
        for line in text.as_bytes().chunks(usize::try_from(length).unwrap()) {
            stderr.write_all(&[line, b"\n"].concat()).unwrap();
        }
    }
    Reply::text(&format!("{bytes} bytes on stderr"))
}

fn duplicate(call: &Call) -> Reply {
    call.peer.answer(&call.id, &text("first"));
    Reply::text("second")
}

fn unknown_id(call: &Call) -> Reply {
    call.peer.answer(&json!("never-asked"), &text("to nobody"));
    Reply::text("to you")
}

fn batch_answer(call: &Call) -> Reply {
    call.peer.send(&json!([response(&call.id, &text("in a batch"))]));
    Reply::Nothing
}

fn never(call: &Call) -> Reply {
    call.report_progress(1, Duration::ZERO);
    Reply::Nothing
}

fn late(call: &Call) -> Reply {
    call.report_progress(1, Duration::ZERO);
    call.is_cancelled_within(PROMISED);
    Reply::text("too late")
}

fn cancelled(call: &Call) -> Reply {
    let n = usize::try_from(call.number("wait", 0)).unwrap();
    call.peer.wait_until(PROMISED, |state| state.cancelled.len() >= n);
    Reply::structured(json!({"ids": call.peer.cancelled()}))
}

fn die(call: &Call) -> Reply {
    call.report_progress(call.number("progress", 0), Duration::ZERO);
    if call.flag("partial") {
        let answer = response(&call.id, &text("never finished")).to_string();
        call.peer.send_bytes(&answer.as_bytes()[..answer.len() / 2]);
    }
    if let Some(signal) = call.arg("signal").as_i64() {
        kill(Pid::this(), Signal::try_from(i32::try_from(signal).unwrap()).unwrap()).unwrap();
        return Reply::Nothing;
    }
    process::exit(i32::try_from(call.number("status", 1)).unwrap());
}

fn ignore_term(call: &Call) -> Reply {
    call.peer.ignore_term();
    Reply::text("ignoring SIGTERM")
}

fn spawn_grandchild(call: &Call) -> Reply {
    let trap = if call.flag("ignore_term") { "trap '' TERM; " } else { "" };
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{trap}exec sleep {}", call.number("seconds", 60)));
    if call.flag("own_group") {
        command.process_group(0);
    }
    Reply::structured(json!({"pid": command.spawn().unwrap().id()}))
}

fn close_stdout(call: &Call) -> Reply {
    call.peer.answer(&call.id, &text("closing stdout"));
    let error =
        Command::new("sleep").arg(call.number("hold", 60).to_string()).stdout(process::Stdio::null()).exec();
    Reply::Error(-32000, error.to_string())
}

fn deaf(_: &Call) -> Reply {
    Reply::text("not listening")
}

impl Call {
    fn arg(&self, name: &str) -> &Value {
        &self.params["arguments"][name]
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.arg(name).as_str().unwrap_or(default)
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.arg(name).as_u64().unwrap_or(default)
    }

    fn flag(&self, name: &str) -> bool {
        self.arg(name).as_bool().unwrap_or(false)
    }

    /// Says whether the call is still wanted at the end. Nothing is sent when the request has no progress token.
    fn report_progress(&self, steps: u64, pause: Duration) -> bool {
        let Some(token) = self.params.pointer("/_meta/progressToken") else { return true };
        for step in 1..=steps {
            let params = json!({"progressToken": token, "progress": step, "total": steps, "message": format!("step {step}")});
            self.peer.notify("notifications/progress", &params);
            if self.is_cancelled_within(pause) {
                return false;
            }
        }
        true
    }

    fn is_cancelled_within(&self, limit: Duration) -> bool {
        self.peer.wait_until(limit, |state| state.cancelled.contains(&self.id))
    }
}

impl Reply {
    fn text(said: &str) -> Self {
        Self::Result(text(said))
    }

    fn structured(value: Value) -> Self {
        Self::both(&value.to_string(), value)
    }

    fn both(said: &str, structured: Value) -> Self {
        let mut result = text(said);
        result["structuredContent"] = structured;
        Self::Result(result)
    }
}

fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

/// A text of that many bytes in which a lost or doubled piece shows.
fn pattern(bytes: u64) -> String {
    let bytes = usize::try_from(bytes).unwrap();
    let mut text = String::with_capacity(bytes + 16);
    for n in 0.. {
        if text.len() >= bytes {
            break;
        }
        write!(text, "{n} ").unwrap();
    }
    text.truncate(bytes);
    text
}

fn measure(text: &str) -> Value {
    let (a, b) = text.bytes().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (b + a) % 65521)
    });
    json!({"bytes": text.len(), "adler32": b << 16 | a})
}
