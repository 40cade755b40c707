//! The promises of the translation, as scripts.

mod random;

use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::{
    era::script::{self, Bench, Side},
    jsonrpc::{Payload, parse},
};

const LIMITS: Limits = Limits { silence: Some(Duration::from_secs(60)), total: Duration::from_secs(600) };

/// A session with one client, whose requests are modern without saying so.
struct Stage {
    machine: Upgrade,
    declared: Value,
    keys: HashMap<String, CallKey>,
    next: u64,
    out: Vec<(Side, Value)>,
}

fn message(value: &Value) -> Message {
    match parse(value.to_string().into()) {
        Ok(Payload::Single(message)) => message,
        other => panic!("{value}: {other:?}"),
    }
}

/// What a message says, which must be of the kind that it is said to be of.
fn value(message: &Message) -> Value {
    match parse(message.line.bytes().clone()) {
        Ok(Payload::Single(read)) if read.kind == message.kind => {}
        other => panic!("{message:?}: {other:?}"),
    }
    serde_json::from_str(message.line.as_str()).unwrap()
}

/// A request with what each modern one says of itself.
fn modern(mut request: Value, declared: &Value) -> Request {
    let params = request.as_object_mut().unwrap().entry("params").or_insert_with(|| json!({}));
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/protocolVersion"] = json!(mcp::MODERN_REVISION);
    meta["io.modelcontextprotocol/clientCapabilities"] = declared.clone();
    Request::read(message(&request)).unwrap()
}

fn setup(declared: &Value, lanes: Lanes) -> Setup {
    Setup {
        capabilities: Capabilities::read(&to_raw_value(declared).unwrap()),
        client_info: None,
        lanes,
        limits: LIMITS,
        principal: Box::from(*b"someone"),
        sealer: Arc::new(Sealer::new().unwrap()),
        session: 1,
    }
}

impl Stage {
    fn new(declared: Value, lanes: Lanes) -> Self {
        let machine = Upgrade::new(setup(&declared, lanes), Instant::now());
        let mut stage = Self { machine, declared, keys: HashMap::new(), next: 0, out: Vec::new() };
        stage.collect();
        stage
    }

    fn collect(&mut self) {
        for output in self.machine.take_output() {
            let id = |key: CallKey, keys: &HashMap<String, CallKey>| {
                let id = keys.iter().find(|(_, k)| **k == key).unwrap().0;
                serde_json::from_str::<Value>(id).unwrap()
            };
            self.out.push(match output {
                Output::ToServer(message) => (Side::Server, value(&message)),
                Output::ToClient(_, item) => {
                    let Ok(Payload::Single(read)) = parse(item.message.line.bytes().clone()) else {
                        panic!()
                    };
                    assert_eq!(
                        read.kind, item.message.kind,
                        "what is known of a message is what its text says"
                    );
                    (Side::Client, value(&item.message))
                }
                Output::Ended(key) => (Side::Client, json!({ "ended": id(key, &self.keys) })),
            });
        }
    }
}

impl Bench for Stage {
    fn sends(&mut self, side: Side, sent: Value, now: Instant) {
        match side {
            Side::Client => {
                self.next += 1;
                let key = CallKey(self.next);
                self.keys.insert(sent["id"].to_string(), key);
                self.machine.call(key, modern(sent, &self.declared), now);
            }
            Side::Server => {
                let mut sent = sent;
                let about = sent.as_object_mut().and_then(|m| m.remove("about"));
                let about = about.and_then(|about| RequestId::from_json(&about.to_string()));
                self.machine.from_server(FromServer { message: message(&sent), about }, now);
            }
        }
        self.collect();
    }

    fn does(&mut self, side: Side, what: &str, now: Instant) {
        match (side, what.split_once(' ').unwrap_or((what, ""))) {
            (Side::Client, ("leaves", id)) => self.machine.left(self.keys[id], now),
            (Side::Client, ("ends", "listens")) => self.machine.end_listens(now),
            (Side::Server, ("is", "gone")) => {
                self.machine.server_ended(&ErrorObject::internal("child_exited", "gone"));
            }
            _ => panic!("{what}?"),
        }
        self.collect();
    }

    fn due(&self) -> Option<Instant> {
        self.machine.next_deadline()
    }

    fn expire(&mut self, now: Instant) {
        self.machine.expire(now);
        self.collect();
    }

    fn out(&mut self) -> Vec<(Side, Value)> {
        std::mem::take(&mut self.out)
    }
}

/// What every session begins with; INITIALIZE is what the server is told, CAPABILITIES what it declares.
const OPENING: &str = r#"
    wait 0s
    server< INITIALIZE
    server> {"jsonrpc":"2.0","id":"$init","result":{"protocolVersion":"2025-06-18","capabilities":CAPABILITIES}}
    server< {"jsonrpc":"2.0","method":"notifications/initialized","params":{}}
"#;

/// A script on a session that is open, with a server that declares these capabilities.
fn play(name: &str, declared: Value, lanes: Lanes, server: &str, script: &str) {
    let told = Capabilities::read(&to_raw_value(&declared).unwrap()).to_legacy();
    let initialize = format!(
        r#"{{"jsonrpc":"2.0","id":"$init","method":"initialize","params":{{"protocolVersion":"2025-11-25",
        "capabilities":{told},"clientInfo":{{"name":"mcp-bridge","version":"$_"}}}}}}"#
    )
    .replace('\n', "");
    let opening = OPENING.replace("INITIALIZE", &initialize).replace("CAPABILITIES", server);
    let opening = opening.lines().map(str::to_owned);
    let whole: Vec<_> = opening.chain(script.lines().map(short)).collect();
    script::run(name, &whole.join("\n"), &mut Stage::new(declared, lanes));
}

/// Writes out what stands in short: `server< ID METHOD PARAMS`, `client> ID METHOD PARAMS`, `client< ID = RESULT`,
/// `server> ID = RESULT`, `… ID ! ERROR`, `… - METHOD PARAMS` for notifications.
fn short(line: &str) -> String {
    let mut words = line.trim().splitn(4, ' ');
    let (Some(who), Some(id), Some(what)) = (words.next(), words.next(), words.next()) else {
        return line.to_owned();
    };
    if !who.ends_with(['<', '>']) || id.starts_with('{') {
        return line.to_owned();
    }
    let rest = words.next().unwrap_or("{}");
    let id = if id.starts_with('$') { format!("\"{id}\"") } else { id.to_owned() };
    match what {
        "=" => format!(r#"{who} {{"jsonrpc":"2.0","id":{id},"result":{rest}}}"#),
        "!" => format!(r#"{who} {{"jsonrpc":"2.0","id":{id},"error":{rest}}}"#),
        method if id == "-" => format!(r#"{who} {{"jsonrpc":"2.0","method":"{method}","params":{rest}}}"#),
        method => format!(r#"{who} {{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{rest}}}"#),
    }
}

fn all() -> Value {
    json!({ "roots": {}, "sampling": {}, "elicitation": { "form": {}, "url": {} } })
}

#[test]
fn requests_wait_for_the_handshake_and_are_judged_before() {
    let mut stage = Stage::new(json!({}), Lanes::Concurrent);
    let script = r#"
        client> 1 tools/list
        client> 2 ping
        client< 2 ! {"code":-32601,"message":"Method not found: ping"}
        client> 3 tools/call {"_meta":{"io.modelcontextprotocol/logLevel":"loud"}}
        client< 3 ! {"code":-32602,"message":"$_"}
        client> 4 server/discover
        client> 5 tools/list
        client! leaves 5
        server> 1 = {"protocolVersion":"2025-11-25","capabilities":{"tools":{},"tasks":{}},"instructions":"x"}
        server< - notifications/initialized
        server< $a tools/list
        client< 4 = {"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"instructions":"x","resultType":"complete","ttlMs":0,"cacheScope":"private"}
        server> $a = {"tools":[]}
        client< 1 = {"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}
        client> 6 server/discover
        client< 6 = "$_"
    "#;
    let script: Vec<_> = script.lines().map(short).collect();
    let first = r#"server< {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-bridge","version":"$_"}}}"#;
    script::run("handshake", &format!("wait 0s\n{first}\n{}", script.join("\n")), &mut stage);
}

#[test]
fn a_handshake_that_fails_is_everybodys_answer() {
    for (does, reason) in [
        (r#"server> 1 ! {"code":-32602,"message":"no"}"#, "initialize_failed"),
        (r#"server> 1 = {"protocolVersion":"2026-07-28","capabilities":{}}"#, "initialize_failed"),
        (r#"server> 1 ! {"code":-32022,"message":"no"}"#, NOT_LEGACY),
        ("wait 60s", "timed_out"),
        ("server! is gone", "child_exited"),
    ] {
        let mut stage = Stage::new(json!({}), Lanes::Concurrent);
        let error = format!(
            r#"{{"code":-32603,"message":"$_","data":{{"source":"mcp-bridge","reason":"{reason}"}}}}"#
        );
        let script = [
            "wait 0s",
            r#"server< {"jsonrpc":"2.0","id":1,"method":"initialize","params":"$_"}"#,
            "client> 7 tools/list",
            "client> 8 subscriptions/listen {\"notifications\":{}}",
            does,
            &format!("client< 7 ! {error}"),
            &format!("client< 8 ! {error}"),
            "client> 9 tools/list",
            &format!("client< 9 ! {error}"),
        ];
        let script: Vec<_> = script.into_iter().map(short).collect();
        script::run(reason, &script.join("\n"), &mut stage);
        assert_eq!(stage.machine.failure().unwrap().reason, reason);
    }
}

#[test]
fn calls_go_under_ids_and_tokens_of_their_own() {
    play(
        "ids",
        json!({}),
        Lanes::Concurrent,
        "{}",
        r#"
        client> "a" tools/call {"name":"x","task":{},"_meta":{"progressToken":"t","a/b":1}}
        server< $a tools/call {"name":"x","_meta":{"progressToken":"$a","a/b":1}}
        client> 2 tools/call {"name":"x","inputResponses":{}}
        server< $b tools/call {"name":"x"}
        server> - notifications/progress {"progressToken":"$a","progress":1}
        client< - notifications/progress {"progressToken":"t","progress":1}
        server> - notifications/progress {"progressToken":"$b","progress":1}
        server> - notifications/progress {"progressToken":"t","progress":1}
        server> $b ! {"code":-32000,"message":"m"}
        client< 2 ! {"code":-32000,"message":"m"}
        server> $b = {}
        server> $a = {"content":[]}
        client< "a" = {"content":[],"resultType":"complete"}
        server> 99 = {}
        server> "x" ping
        server< "x" = {}
        server> - notifications/elicitation/complete {"elicitationId":"e"}
    "#,
    );
}

#[test]
fn a_client_that_leaves_cancels() {
    play(
        "leaving",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        client> 2 tools/call {"name":"y"}
        client> 3 tools/call {"name":"z"}
        client! leaves 2
        server> 5 roots/list
        client! leaves 1
        server< 5 ! {"code":-32603,"message":"$_","data":{"source":"mcp-bridge","reason":"cancelled"}}
        server< - notifications/cancelled {"requestId":"$a","reason":"the client has cancelled the request"}
        server< $c tools/call {"name":"z"}
        server> $a = {}
        server> $c = {}
        client< 3 = {"resultType":"complete"}
    "#,
    );
}

#[test]
fn silence_and_duration_have_limits_and_only_progress_moves_the_first() {
    play(
        "limits",
        json!({}),
        Lanes::OneAsker,
        r#"{"tools":{"listChanged":true}}"#,
        r#"
        client> 1 tools/call {"_meta":{"progressToken":1}}
        server< $a tools/call {"_meta":{"progressToken":"$a"}}
        client> 2 subscriptions/listen {"notifications":{"toolsListChanged":true}}
        client< - notifications/subscriptions/acknowledged {"_meta":{"io.modelcontextprotocol/subscriptionId":2},"notifications":{"toolsListChanged":true}}
        wait 59s
        server> - notifications/progress {"progressToken":"$a","progress":1}
        client< - notifications/progress {"progressToken":1,"progress":1}
        wait 59s
        wait 1s
        client< 1 ! {"code":-32603,"message":"the MCP server did not answer within 60s","data":{"source":"mcp-bridge","reason":"timed_out"}}
        server< - notifications/cancelled {"requestId":"$a","reason":"the MCP server did not answer within 60s"}
        wait 2h
        server> - notifications/tools/list_changed
        client< - notifications/tools/list_changed {"_meta":{"io.modelcontextprotocol/subscriptionId":2}}
    "#,
    );
}

#[test]
fn questions_that_come_together_suspend_the_call_and_answers_take_it_up_again() {
    play(
        "suspension",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x","_meta":{"progressToken":1}}
        server< $a tools/call {"name":"x","_meta":{"progressToken":"$a"}}
        server> "who" elicitation/create {"mode":"url","url":"u","message":"m","elicitationId":"e"}
        server> - notifications/progress {"progressToken":"$a","progress":1}
        client< - notifications/progress {"progressToken":1,"progress":1}
        server> 7 sampling/createMessage {"messages":[]}
        wait 19ms
        wait 1ms
        client< 1 = {"resultType":"input_required","inputRequests":{"who":{"method":"elicitation/create","params":{"mode":"url","url":"u","message":"m"}},"7":{"method":"sampling/createMessage","params":{"messages":[]}}},"requestState":"$s"}
        # Nobody hears it.
        server> - notifications/progress {"progressToken":"$a","progress":2}
        wait 9m
        # What is no answer leaves the state as it is.
        client> 2 tools/call {"name":"x","requestState":"$s","inputResponses":{"who":{"action":"?"}}}
        client< 2 ! {"code":-32602,"message":"$_"}
        client> 3 tools/call {"name":"x","requestState":"$s","inputResponses":[]}
        client< 3 ! {"code":-32602,"message":"$_"}
        # Of another request, of nobody, of no string, with a request that is never suspended.
        client> 4 tools/call {"name":"y","requestState":"$s"}
        client< 4 ! {"code":-32602,"message":"$_"}
        client> 5 tools/call {"name":"x","requestState":"forged"}
        client< 5 ! {"code":-32602,"message":"$_"}
        client> 6 tools/call {"name":"x","requestState":7}
        client< 6 ! {"code":-32602,"message":"$_"}
        client> 7 tools/list {"requestState":"$s"}
        client< 7 ! {"code":-32602,"message":"$_"}
        # Some answers, and some that nobody asked for: the rest is asked again.
        client> 8 tools/call {"name":"x","requestState":"$s","inputResponses":{"who":{"action":"decline"},"x":1}}
        server< "who" = {"action":"decline"}
        client< 8 = {"resultType":"input_required","inputRequests":{"7":{"method":"sampling/createMessage","params":{"messages":[]}}},"requestState":"$t"}
        # A state works once.
        client> 9 tools/call {"name":"x","requestState":"$s"}
        client< 9 ! {"code":-32602,"message":"$_"}
        client> 10 tools/call {"name":"x","requestState":"$t","inputResponses":{"7":{"role":"assistant","model":"m","content":[]}},"_meta":{"progressToken":"new"}}
        server< 7 = {"role":"assistant","model":"m","content":[]}
        server> - notifications/progress {"progressToken":"$a","progress":3}
        client< - notifications/progress {"progressToken":"new","progress":3}
        server> $a = {}
        client< 10 = {"resultType":"complete"}
        client> 11 tools/call {"name":"x","requestState":"$t"}
        client< 11 ! {"code":-32602,"message":"$_"}
    "#,
    );
}

#[test]
fn one_call_at_a_time_may_ask_and_a_suspended_one_blocks_nobody() {
    play(
        "lanes",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        client> 2 prompts/get {"name":"y"}
        client> 3 tools/list
        server< $c tools/list
        server> 1 roots/list
        wait 20ms
        client< 1 = {"resultType":"input_required","inputRequests":{"1":{"method":"roots/list","params":{}}},"requestState":"$s"}
        server< $b prompts/get {"name":"y"}
        client> 4 tools/call {"name":"z"}
        client> 5 tools/call {"name":"x","requestState":"$s","inputResponses":{"1":{"roots":[]}}}
        # It goes before what has not begun.
        server> $b = {}
        client< 2 = {"resultType":"complete"}
        server< 1 = {"roots":[]}
        server> $a = {}
        client< 5 = {"resultType":"complete"}
        server< $d tools/call {"name":"z"}
        server> 2 roots/list
        wait 20ms
        client< 4 = {"resultType":"input_required","inputRequests":{"2":{"method":"roots/list","params":{}}},"requestState":"$t"}
        client> 6 tools/call {"name":"x"}
        server< $e tools/call {"name":"x"}
        client> 7 tools/call {"name":"z","requestState":"$t","inputResponses":{"2":{"roots":[]}}}
        # The server may be waiting for nothing else.
        wait 9s
        wait 1s
        server< 2 = {"roots":[]}
        server> $d = {}
        client< 7 = {"resultType":"complete"}
        server> $e = {}
        client< 6 = {"resultType":"complete"}
        server> $c = {}
        client< 3 = {"resultType":"complete","ttlMs":0,"cacheScope":"private"}
    "#,
    );
}

#[test]
fn concurrent_calls_are_asked_as_the_transport_says_or_else_the_newest() {
    play(
        "concurrent",
        all(),
        Lanes::Concurrent,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        client> 2 tools/call {"name":"y"}
        server< $b tools/call {"name":"y"}
        server> {"jsonrpc":"2.0","id":1,"method":"roots/list","about":"$a"}
        server> 2 roots/list
        wait 20ms
        client< 1 = {"resultType":"input_required","inputRequests":{"1":{"method":"roots/list"}},"requestState":"$s"}
        client< 2 = {"resultType":"input_required","inputRequests":{"2":{"method":"roots/list","params":{}}},"requestState":"$t"}
        client> 3 tools/call {"name":"x","requestState":"$s","inputResponses":{"1":{"roots":[]}}}
        server< 1 = {"roots":[]}
        server> $a = {}
        client< 3 = {"resultType":"complete"}
        # What is asked while only a suspended call is open is asked with its next answer.
        server> 3 roots/list
        client> 4 tools/call {"name":"y","requestState":"$t","inputResponses":{"2":{"roots":[]}}}
        server< 2 = {"roots":[]}
        client< 4 = {"resultType":"input_required","inputRequests":{"3":{"method":"roots/list","params":{}}},"requestState":"$u"}
    "#,
    );
}

#[test]
fn who_does_not_come_back_is_given_up() {
    play(
        "expiry",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        server> 1 roots/list
        wait 20ms
        client< 1 = {"resultType":"input_required","inputRequests":"$_","requestState":"$s"}
        wait 10m
        server< 1 ! {"code":-32603,"message":"the client has not answered in time","data":{"source":"mcp-bridge","reason":"no_answer"}}
        server< - notifications/cancelled {"requestId":"$a","reason":"the client has not answered in time"}
        client> 2 tools/call {"name":"x","requestState":"$s","inputResponses":{"1":{"roots":[]}}}
        client< 2 ! {"code":-32602,"message":"$_"}
    "#,
    );
}

#[test]
fn an_answer_that_comes_too_early_is_held_and_questions_of_nobody_wait_for_the_next_call() {
    play(
        "early",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        server> 1 roots/list
        wait 20ms
        client< 1 = {"resultType":"input_required","inputRequests":"$_","requestState":"$s"}
        server> $a = {"content":[]}
        client> 2 tools/call {"name":"x","requestState":"$s","inputResponses":{"1":{"roots":[]}}}
        server< 1 = {"roots":[]}
        client< 2 = {"content":[],"resultType":"complete"}
        # Asked, but not waited for.
        client> 3 tools/call {"name":"x"}
        server< $b tools/call {"name":"x"}
        server> 2 roots/list
        server> $b = {}
        client< 3 = {"resultType":"complete"}
        wait 29s
        server> 3 roots/list
        client> 4 tools/list
        server< $c tools/list
        server> $c = {}
        client< 4 = {"resultType":"complete","ttlMs":0,"cacheScope":"private"}
        wait 1s
        server< 2 ! {"code":-32601,"message":"Method not found: roots/list"}
        client> 5 prompts/get {"name":"x"}
        client< 5 = {"resultType":"input_required","inputRequests":{"3":{"method":"roots/list","params":{}}},"requestState":"$t"}
        client> 6 prompts/get {"name":"x","requestState":"$t","inputResponses":{"3":{"roots":[]}}}
        server< 3 = {"roots":[]}
        server< $d prompts/get {"name":"x"}
        # Taken back.
        server> 4 roots/list
        server> - notifications/cancelled {"requestId":4}
        wait 1m
        client< 6 ! {"code":-32603,"message":"$_","data":{"source":"mcp-bridge","reason":"timed_out"}}
        server< - notifications/cancelled {"requestId":"$d","reason":"$_"}
        server> 5 roots/list
        server> - notifications/cancelled {"requestId":5}
        client> 7 tools/call {"name":"x"}
        server< $e tools/call {"name":"x"}
    "#,
    );
}

#[test]
fn what_the_client_can_not_do_is_refused_and_named_if_the_call_fails() {
    play(
        "capabilities",
        json!({ "sampling": {} }),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        server> 1 roots/list
        server< 1 ! {"code":-32601,"message":"Method not found: roots/list"}
        server> 2 sampling/createMessage {"tools":[]}
        server< 2 ! {"code":-32601,"message":"Method not found: sampling/createMessage"}
        server> 3 tasks/list
        server< 3 ! {"code":-32601,"message":"Method not found: tasks/list"}
        server> $a ! {"code":-32603,"message":"m"}
        client< 1 ! {"code":-32021,"message":"$_","data":{"requiredCapabilities":{"roots":{},"sampling":{"tools":{}}}}}
        client> 2 tools/call {"name":"x"}
        server< $b tools/call {"name":"x"}
        server> 4 roots/list
        server< 4 ! {"code":-32601,"message":"Method not found: roots/list"}
        server> $b = {}
        client< 2 = {"resultType":"complete"}
        client> 3 tools/call {"name":"x"}
        server< $c tools/call {"name":"x"}
        server> $c ! {"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"u","message":"m","elicitationId":"e"}]}}
        client< 3 ! {"code":-32021,"message":"$_","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}
    "#,
    );
}

#[test]
fn urls_that_must_be_visited_first_are_asked_for_and_then_the_call_is_sent_again() {
    play(
        "urls",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        server> $a ! {"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"u","message":"m","elicitationId":"e"}]}}
        client< 1 = {"resultType":"input_required","inputRequests":{"1":{"method":"elicitation/create","params":{"mode":"url","url":"u","message":"m"}}},"requestState":"$s"}
        client> 2 tools/call {"name":"x","requestState":"$s"}
        client< 2 = {"resultType":"input_required","inputRequests":"$_","requestState":"$t"}
        client> 3 tools/call {"name":"x","requestState":"$t","inputResponses":{"1":{"action":"accept"}}}
        server< $b tools/call {"name":"x"}
        server> $b = {}
        client< 3 = {"resultType":"complete"}
        # As an abandoned one ends, there is nothing to cancel.
        client> 4 tools/call {"name":"x"}
        server< $c tools/call {"name":"x"}
        server> $c ! {"code":-32042,"message":"m","data":{"elicitations":[{"url":"u","message":"m","elicitationId":"e"}]}}
        client< 4 = {"resultType":"input_required","inputRequests":{"1":{"method":"elicitation/create","params":{"mode":"url","url":"u","message":"m"}}},"requestState":"$u"}
        wait 11m
    "#,
    );
}

#[test]
fn log_messages_go_to_who_asked_for_them() {
    play(
        "logs",
        json!({}),
        Lanes::Concurrent,
        r#"{"logging":{}}"#,
        r#"
        server> - notifications/message {"level":"emergency","data":0}
        client> 1 tools/call {"name":"x","_meta":{"io.modelcontextprotocol/logLevel":"warning"}}
        server< $_ logging/setLevel {"level":"warning"}
        server< $a tools/call {"name":"x"}
        server> - notifications/message {"level":"info","data":1}
        server> - notifications/message {"level":"error","data":2}
        client< - notifications/message {"level":"error","data":2}
        client> 2 tools/call {"name":"y","_meta":{"io.modelcontextprotocol/logLevel":"debug"}}
        server< $_ logging/setLevel {"level":"debug"}
        server< $b tools/call {"name":"y"}
        client> 3 tools/call {"name":"z","_meta":{"io.modelcontextprotocol/logLevel":"info"}}
        server< $c tools/call {"name":"z"}
        server> $b = {}
        client< 2 = {"resultType":"complete"}
        server> - notifications/message {"level":"debug","data":3}
        server> {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":4},"about":"$a"}
        client< - notifications/message {"level":"error","data":4}
        client> 4 tools/call {"name":"z"}
        server< $_ logging/setLevel {"level":"info"}
        server< $d tools/call {"name":"z"}
        server> {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":5},"about":"$d"}
    "#,
    );
    play(
        "no logs",
        json!({}),
        Lanes::Concurrent,
        "{}",
        r#"
        client> 1 tools/call {"name":"x","_meta":{"io.modelcontextprotocol/logLevel":"debug"}}
        server< $a tools/call {"name":"x"}
    "#,
    );
}

const CHANGES: &str =
    r#"{"resources":{"subscribe":true,"listChanged":true},"prompts":{},"tools":{"listChanged":true}}"#;

#[test]
fn a_listen_is_acknowledged_after_the_server_has_answered_and_undone_at_its_end() {
    play(
        "listen",
        json!({}),
        Lanes::OneAsker,
        CHANGES,
        r#"
        client> "l" subscriptions/listen {"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["f:///a","f:///b"]}}
        server< $a resources/subscribe {"uri":"f:///a"}
        server< $b resources/subscribe {"uri":"f:///b"}
        server> $a = {}
        # Before the acknowledgement: it waits, and twice the same is once.
        server> - notifications/resources/updated {"uri":"f:///a/x"}
        server> - notifications/resources/updated {"uri":"f:///a/x"}
        client> 2 subscriptions/listen {"notifications":{"resourceSubscriptions":["f:///a"]}}
        client< - notifications/subscriptions/acknowledged {"_meta":{"io.modelcontextprotocol/subscriptionId":2},"notifications":{"resourceSubscriptions":["f:///a"]}}
        server> $b ! {"code":-32002,"message":"none"}
        client< - notifications/subscriptions/acknowledged {"_meta":{"io.modelcontextprotocol/subscriptionId":"l"},"notifications":{"toolsListChanged":true,"resourceSubscriptions":["f:///a"]}}
        client< - notifications/resources/updated {"uri":"f:///a/x","_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}
        server> - notifications/resources/updated {"uri":"f:///a","_meta":{"k":1}}
        client< - notifications/resources/updated {"uri":"f:///a","_meta":{"k":1,"io.modelcontextprotocol/subscriptionId":"l"}}
        client< - notifications/resources/updated {"uri":"f:///a","_meta":{"k":1,"io.modelcontextprotocol/subscriptionId":2}}
        server> - notifications/resources/updated {"uri":"f:///b"}
        server> - notifications/prompts/list_changed
        server> - notifications/resources/list_changed
        server> - notifications/tools/list_changed
        client< - notifications/tools/list_changed {"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}
        client! leaves "l"
        client! leaves 2
        server< $c resources/unsubscribe {"uri":"f:///a"}
        server> $c = {}
        client> 3 subscriptions/listen {"notifications":{"resourceSubscriptions":["f:///c"]}}
        server< $d resources/subscribe {"uri":"f:///c"}
        client! leaves 3
        server> $d = {}
        server< $e resources/unsubscribe {"uri":"f:///c"}
        # No answer: it is left out, and taken back.
        client> 4 subscriptions/listen {"notifications":{"resourceSubscriptions":["f:///d"]}}
        server< $f resources/subscribe {"uri":"f:///d"}
        wait 30s
        client< - notifications/subscriptions/acknowledged {"_meta":{"io.modelcontextprotocol/subscriptionId":4},"notifications":{"resourceSubscriptions":[]}}
        server< $g resources/unsubscribe {"uri":"f:///d"}
        client! ends listens
        client< 4 = {"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":4}}
        client> 5 subscriptions/listen {"notifications":{"toolsListChanged":true}}
        client< - notifications/subscriptions/acknowledged {"_meta":{"io.modelcontextprotocol/subscriptionId":5},"notifications":{"toolsListChanged":true}}
        server! is gone
        client< {"ended":5}
    "#,
    );
}

#[test]
fn a_listen_for_what_is_not_offered_gets_nothing_and_a_bad_one_is_refused() {
    play(
        "listen",
        json!({}),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 subscriptions/listen {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["f:///a"]}}
        client< - notifications/subscriptions/acknowledged {"_meta":{"io.modelcontextprotocol/subscriptionId":1},"notifications":{}}
        server> - notifications/tools/list_changed
        client> 2 subscriptions/listen
        client< 2 ! {"code":-32602,"message":"$_"}
        client> 3 subscriptions/listen {"notifications":{"toolsListChanged":1}}
        client< 3 ! {"code":-32602,"message":"$_"}
        client> 4 subscriptions/listen {"notifications":{"resourceSubscriptions":[1]}}
        client< 4 ! {"code":-32602,"message":"$_"}
    "#,
    );
}

#[test]
fn when_the_server_is_gone_everyone_who_waits_learns_of_it() {
    play(
        "gone",
        all(),
        Lanes::OneAsker,
        "{}",
        r#"
        client> 1 tools/call {"name":"x"}
        server< $a tools/call {"name":"x"}
        client> 2 tools/call {"name":"y"}
        server! is gone
        client< 1 ! {"code":-32603,"message":"gone","data":{"source":"mcp-bridge","reason":"child_exited"}}
        client< 2 ! {"code":-32603,"message":"gone","data":{"source":"mcp-bridge","reason":"child_exited"}}
        server> $a = {}
    "#,
    );
}

#[test]
fn what_the_server_does_not_take_fails_and_what_it_waits_for_is_its_end() {
    let (now, error) = (Instant::now(), ErrorObject::internal("child_unwritable", "deaf"));
    let mut stage = Stage::new(all(), Lanes::Concurrent);
    let opened = json!({ "jsonrpc": "2.0", "id": 1,
        "result": { "protocolVersion": "2025-11-25", "capabilities": { "resources": { "subscribe": true } } } });
    stage.sends(Side::Server, opened, now);
    let listen = json!({ "jsonrpc": "2.0", "id": 2, "method": "subscriptions/listen",
        "params": { "notifications": { "resourceSubscriptions": ["x:y"] } } });
    stage.out();
    let mut heard = Vec::new();
    for request in [json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call" }), listen] {
        stage.sends(Side::Client, request, now);
        let (_, sent) = stage.out().pop().unwrap();
        stage.machine.unsent(&message(&sent).kind, &error, now);
        stage.collect();
        heard.extend(stage.out());
    }
    let (_, refused) = &heard[0];
    assert_eq!((&refused["id"], &refused["error"]["message"]), (&json!(1), &json!("deaf")));
    let (side, acknowledged) = &heard[1];
    assert_eq!(
        (*side, &acknowledged["params"]["notifications"]["resourceSubscriptions"]),
        (Side::Client, &json!([]))
    );
    stage.machine.unsent(&message(&json!({ "jsonrpc": "2.0", "id": 9, "result": {} })).kind, &error, now);
    assert_eq!(stage.machine.failure(), Some(&error));
}
