//! The promises of the translation, as scripts of messages.
//!
//! In the scripts a message stands without `jsonrpc`. What goes to the client on the stream of a request other than as
//! its answer has that request's id as `about`. A call's request has its key as id and stands without what every modern
//! request carries, which is compared with what the client said in `initialize`; a message of a call that is not its answer
//! is sent as `{"call": key, …}`. `{"cancel": key}` is a call that is ended, `{"notify": …}` a message without a call.

mod basics;
mod random;
mod rounds;
mod subscriptions;

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    era::{
        Request,
        script::{self, Bench, Side},
    },
    jsonrpc::{Payload, parse},
    mcp::meta,
};

const LIMITS: Limits = Limits { silence: Some(Duration::from_secs(60)), total: Duration::from_secs(600) };

fn message(mut value: Value) -> Message {
    value["jsonrpc"] = json!("2.0");
    match parse(Bytes::from(value.to_string())).unwrap() {
        Payload::Single(message) => message,
        Payload::Batch(_) => panic!("a batch"),
    }
}

struct Played {
    downgrade: Downgrade,
    /// What the client said of itself.
    info: Option<Value>,
    capabilities: Value,
}

impl Played {
    fn new() -> Self {
        Self { downgrade: Downgrade::new(LIMITS), info: None, capabilities: json!({}) }
    }

    /// A call's request as scripts have it.
    fn shown(&self, key: CallKey, request: &Request) -> Value {
        let read = Request::read(message(value(request.line.as_str()))).unwrap();
        assert_eq!((&read.id, &read.method), (&request.id, &request.method));
        assert_eq!(read.meta.progress_token, request.meta.progress_token);
        assert_eq!(key.request_id(), request.id);
        let mut shown = value(request.line.as_str());
        assert_eq!(shown.as_object_mut().unwrap().remove("jsonrpc"), Some(json!("2.0")));
        let params = shown["params"].as_object_mut().unwrap();
        let own = params.get_mut("_meta").unwrap().as_object_mut().unwrap();
        assert_eq!(own.remove(meta::PROTOCOL_VERSION), Some(json!("2026-07-28")));
        assert_eq!(own.remove(meta::CLIENT_INFO), self.info);
        assert_eq!(own.remove(meta::CLIENT_CAPABILITIES), Some(self.capabilities.clone()));
        if own.is_empty() {
            params.remove("_meta");
        }
        shown
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn key(value: &Value) -> CallKey {
    CallKey(value.as_u64().unwrap())
}

impl Bench for Played {
    fn sends(&mut self, side: Side, mut sent: Value, now: Instant) {
        match side {
            Side::Client => self.downgrade.from_client(message(sent), now),
            Side::Server => {
                let call = sent.as_object_mut().unwrap().remove("call");
                let call = call.unwrap_or_else(|| sent["id"].clone());
                self.downgrade.from_server(key(&call), &message(sent), now);
            }
        }
    }

    fn does(&mut self, side: Side, what: &str, now: Instant) {
        let (Side::Server, Some(call)) = (side, what.strip_prefix("ends ")) else { panic!("{what}") };
        self.downgrade.call_ended(key(&value(call)), now);
    }

    fn due(&self) -> Option<Instant> {
        self.downgrade.next_deadline()
    }

    fn expire(&mut self, now: Instant) {
        self.downgrade.expire(now);
    }

    fn out(&mut self) -> Vec<(Side, Value)> {
        let drained = self.downgrade.drain();
        let shown = drained.into_iter().map(|output| match output {
            Output::ToClient { message, about } => {
                let Ok(Payload::Single(read)) = parse(message.line.bytes().clone()) else { panic!() };
                assert_eq!(read.kind, message.kind, "what is known of a message is what its text says");
                let mut shown = value(message.line.as_str());
                shown.as_object_mut().unwrap().remove("jsonrpc");
                let about = about.map(|id| value(&id.to_string()));
                match &message.kind {
                    Kind::Response { .. } => assert_eq!(about.as_ref(), Some(&shown["id"])),
                    _ => about.into_iter().for_each(|id| shown["about"] = id),
                }
                (Side::Client, shown)
            }
            Output::Call { key, request } => (Side::Server, self.shown(key, &request)),
            Output::Cancel(key) => (Side::Server, json!({ "cancel": key.0 })),
            Output::Notify(message) => {
                let Ok(Payload::Single(read)) = parse(message.line.bytes().clone()) else { panic!() };
                assert_eq!(read.kind, message.kind, "what is known of a message is what its text says");
                let mut shown = value(message.line.as_str());
                shown.as_object_mut().unwrap().remove("jsonrpc");
                (Side::Server, json!({ "notify": shown }))
            }
        });
        shown.collect()
    }
}

/// Runs a script from the very beginning.
fn run_from_start(name: &str, script: &str) {
    script::run(name, script, &mut Played::new());
}

/// Runs a script with a client of `revision` that has declared `capabilities` (as modern ones) and a server that offers
/// `offers`; the next call is number 2.
fn run(name: &str, revision: &str, capabilities: &Value, offers: &Value, script: &str) {
    let mut machine = entered(revision, capabilities, offers);
    script::run(name, script, &mut machine);
}

fn entered(revision: &str, capabilities: &Value, offers: &Value) -> Played {
    let mut machine = Played::new();
    let info = json!({ "name": "c", "version": "1" });
    machine.info = Some(info.clone());
    machine.capabilities = capabilities.clone();
    let params = json!({ "protocolVersion": revision, "capabilities": capabilities, "clientInfo": info });
    let now = Instant::now();
    machine.sends(Side::Client, json!({ "id": 0, "method": "initialize", "params": params }), now);
    let result =
        json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": offers });
    machine.sends(Side::Server, json!({ "id": 1, "result": result }), now);
    let out = machine.out();
    assert_eq!(out.len(), 2);
    assert_eq!(out[1].1["result"]["protocolVersion"], revision);
    machine
}

const LATEST: &str = "2025-11-25";

/// Runs a script with a client that can do everything, and a server that offers everything.
fn run_able(name: &str, script: &str) {
    let capabilities = json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} });
    run(name, LATEST, &capabilities, &everything(), script);
}

fn everything() -> Value {
    json!({
        "logging": {}, "tools": { "listChanged": true }, "prompts": { "listChanged": true },
        "resources": { "subscribe": true, "listChanged": true }
    })
}
