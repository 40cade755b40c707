//! The calls that clients make, each of which knows its own answer from everybody else's.

use std::time::Duration;

use serde_json::{Value, json};

use crate::World;
use crate::ledger::{End, error};
use crate::support::session::VERSION;

/// How long a call may take with all that can go wrong, such as a question of the server's that its client misses.
pub(crate) const LONGEST: Duration = Duration::from_secs(50);
const PROGRESS: &str = "notifications/progress";
const CHANGED: &str = "notifications/tools/list_changed";
/// Largest text asked for, in bytes: more than is kept for a stream that breaks.
const BIGGEST: u64 = 3_000_000;

#[derive(Debug)]
enum Tool {
    /// Says the client's name and the call's number back.
    Echo,
    /// Tells of this many steps.
    Progress { steps: u64 },
    /// Makes a text of this length.
    Big { bytes: u64 },
    /// Asks the client, and says the answer back.
    Sample,
    /// Answers after some time.
    Sleep { ms: u64 },
    /// Sends a notification of this text.
    Notify { line: String },
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: Value,
    /// Who calls, and which call it is.
    secret: String,
    tool: Tool,
    /// The steps that have been told of.
    told: u64,
}

impl Call {
    /// Any call of a client. Clients use the same ids, half of them as numbers and half as strings.
    pub(crate) fn any(world: &World, client: &str, number: u64) -> Self {
        let tool = match world.below(20) {
            0 | 1 => Tool::Sample,
            2 => Tool::Sleep { ms: world.below(500) },
            3 => Tool::Big { bytes: 1000 + world.below(BIGGEST) },
            4..=6 => Tool::Notify { line: changed(client, number) },
            7..=10 => Tool::Progress { steps: 1 + world.below(60) },
            _ => Tool::Echo,
        };
        Self::new(client, number, tool)
    }

    /// A call that takes its time.
    pub(crate) fn slow(world: &World, client: &str, number: u64) -> Self {
        Self::new(client, number, Tool::Sleep { ms: 100 + world.below(400) })
    }

    fn new(client: &str, number: u64, tool: Tool) -> Self {
        let id = if number.is_multiple_of(2) { json!(number) } else { json!(number.to_string()) };
        Self { id, secret: format!("call {number} of {client}"), tool, told: 0 }
    }

    /// The request as text.
    pub(crate) fn request(&self) -> String {
        let (name, arguments) = match &self.tool {
            Tool::Echo => ("echo", json!({"message": self.secret})),
            Tool::Progress { steps } => ("progress", json!({"steps": steps, "ms": steps % 8})),
            Tool::Big { bytes } => ("big", json!({"bytes": bytes})),
            Tool::Sample => ("sample", json!({"prompt": self.secret})),
            Tool::Sleep { ms } => ("sleep", json!({"ms": ms})),
            Tool::Notify { line } => ("raw", json!({"line": line})),
        };
        let params = json!({"name": name, "arguments": arguments, "_meta": {"progressToken": self.id}});
        json!({"jsonrpc": "2.0", "id": self.id, "method": "tools/call", "params": params}).to_string()
    }

    /// Whether the server asks its client something before it answers.
    pub(crate) fn asks(&self) -> bool {
        matches!(self.tool, Tool::Sample)
    }

    /// Whether a message that is no answer names this call.
    pub(crate) fn is_named_by(&self, message: &Value) -> bool {
        message["method"] == PROGRESS && message["params"]["progressToken"] == self.id
    }

    /// Takes a message that came for this call; `None` when more is to come.
    pub(crate) fn take(&mut self, message: &Value) -> Option<End> {
        if self.is_named_by(message) {
            self.told += 1;
            let expected = message["params"]["progress"] == self.told
                && matches!(&self.tool, Tool::Progress { steps } if message["params"]["total"] == *steps);
            return (!expected).then(|| self.wrong(message));
        }
        if message.get("method").is_some() || message["id"] != self.id {
            return Some(self.wrong(message));
        }
        if message.get("error").is_some() {
            return Some(error(message));
        }
        // What the tool was told instead of the client's answer.
        let instead = &message["result"]["structuredContent"];
        if matches!(self.tool, Tool::Sample) && instead.get("error").is_some() {
            return Some(error(instead));
        }
        Some(if self.is_answered_by(&message["result"]) { End::Answer } else { self.wrong(message) })
    }

    fn is_answered_by(&self, result: &Value) -> bool {
        let (text, structured) = (&result["content"][0]["text"], &result["structuredContent"]);
        match &self.tool {
            Tool::Echo => *text == self.secret,
            Tool::Progress { steps } => *text == format!("{steps} steps") && self.told == *steps,
            Tool::Big { bytes } => {
                structured["bytes"] == *bytes && text.as_str().is_some_and(|text| text.len() as u64 == *bytes)
            }
            Tool::Sample => structured["result"]["echo"] == self.secret,
            Tool::Sleep { .. } => text == "slept",
            Tool::Notify { .. } => text == "written",
        }
    }

    fn wrong(&self, message: &Value) -> End {
        End::Wrong(format!("{:.300} came for {self:?}", message.to_string()))
    }
}

/// The steps that a client's calls have asked for. When the connection of a call breaks before its answer is a stream,
/// the call ends with an error, and the listening stream tells of what is left of its steps.
#[derive(Debug, Default)]
pub(crate) struct Steps(Vec<(Value, u64)>);

impl Steps {
    pub(crate) fn expect(&mut self, call: &Call) {
        if let Tool::Progress { steps } = call.tool {
            self.0.push((call.id.clone(), steps));
        }
    }

    pub(crate) fn are_told_of(&self, message: &Value) -> bool {
        let params = &message["params"];
        message["method"] == PROGRESS
            && self.0.iter().any(|(id, steps)| params["progressToken"] == *id && params["total"] == *steps)
    }
}

/// A client's request to open a session.
pub(crate) fn initialize(client: &str) -> String {
    let params = json!({"protocolVersion": VERSION, "capabilities": {"sampling": {}}, "clientInfo": {"name": client, "version": "1"}});
    json!({"jsonrpc": "2.0", "id": "initialize", "method": "initialize", "params": params}).to_string()
}

/// What a client does with a message of the server's that is about no call of its own.
pub(crate) enum Notice {
    /// It answers this.
    Answer(String),
    /// It has read it.
    Read,
    /// It is somebody else's.
    NotOurs,
}

/// Reads a message of the server's: a question, or news that name whom they are for.
pub(crate) fn notice(client: &str, steps: &Steps, message: &Value) -> Notice {
    let ours = |text: &Value| text.as_str().is_some_and(|text| text.ends_with(&format!(" of {client}")));
    if steps.are_told_of(message) {
        return Notice::Read;
    }
    if message["method"] == CHANGED {
        return if message["params"]["of"] == client { Notice::Read } else { Notice::NotOurs };
    }
    let prompt = &message["params"]["messages"][0]["content"]["text"];
    if message["method"] != "sampling/createMessage" || !ours(prompt) {
        return Notice::NotOurs;
    }
    Notice::Answer(json!({"jsonrpc": "2.0", "id": message["id"], "result": {"echo": prompt}}).to_string())
}

fn changed(client: &str, number: u64) -> String {
    json!({"jsonrpc": "2.0", "method": CHANGED, "params": {"of": client, "number": number}}).to_string()
}
