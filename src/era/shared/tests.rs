use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Value, json};

use super::*;
use crate::{
    era::script::{self, Bench, Side},
    jsonrpc::{Payload, parse},
};

const LIMITS: Limits = Limits { silence: Some(Duration::from_secs(60)), total: Duration::from_secs(600) };

fn read(value: &Value) -> Message {
    let Ok(Payload::Single(message)) = parse(value.to_string().into()) else { panic!("{value}") };
    message
}

/// A modern request; `meta` are further members of its `_meta`.
fn request(id: &Value, method: &str, params: &Value, meta: &Value) -> Request {
    let mut params = params.clone();
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params["_meta"].as_object_mut().unwrap().extend(meta.as_object().cloned().unwrap_or_default());
    Request::read(read(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))).unwrap()
}

fn owner() -> Owner {
    Owner::from([0])
}

fn value(line: &Line) -> Value {
    serde_json::from_str(line.as_str()).unwrap()
}

/// The clients say `{"id", "method", "params", "_meta"}`, and get `{"to": N, "got": message, "last": true}`, where N
/// counts the requests that were sent. What both eras' messages have in common is left out of what the server gets.
struct Table {
    shared: Shared,
    /// Request → how many there were before it.
    calls: HashMap<Number, u64>,
    out: Vec<(Side, Value)>,
}

impl Table {
    fn new() -> Self {
        Self { shared: Shared::new(LIMITS), calls: HashMap::new(), out: Vec::new() }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let got = delivery.message.map(|message| {
            assert_eq!(read(&value(&message.line)).kind, message.kind, "{message:?}");
            value(&message.line)
        });
        let mut out = json!({ "to": self.calls[&delivery.to] });
        got.inspect(|got| out["got"] = got.clone());
        if delivery.last {
            out["last"] = json!(true);
        }
        self.out.push((Side::Client, out));
    }

    fn tell(&mut self, line: &Line) {
        let mut told = value(line);
        told.as_object_mut().unwrap().remove("jsonrpc");
        if let Some(meta) = told.pointer_mut("/params/_meta").and_then(Value::as_object_mut) {
            meta.retain(|key, _| !key.ends_with("protocolVersion") && !key.ends_with("clientCapabilities"));
        }
        self.out.push((Side::Server, told));
    }

    fn end(&mut self, ended: Ended) {
        for delivery in ended.deliveries {
            self.deliver(delivery);
        }
        for line in &ended.to_server {
            self.tell(line);
        }
    }

    fn number(&self, call: &str) -> Number {
        let call: u64 = call.parse().unwrap();
        *self.calls.iter().find(|(_, n)| **n == call).unwrap().0
    }
}

impl Bench for Table {
    fn sends(&mut self, side: Side, said: Value, now: Instant) {
        match side {
            Side::Client => {
                let method = said["method"].as_str().unwrap();
                let params = said.get("params").cloned().unwrap_or_else(|| json!({}));
                let request = request(&said["id"], method, &params, &said["_meta"]);
                let (number, line) = self.shared.request(&request, &owner(), now).unwrap();
                self.calls.insert(number, self.calls.len() as u64 + 1);
                self.tell(&line);
            }
            Side::Server => {
                let mut said = said;
                said["jsonrpc"] = json!("2.0");
                match self.shared.from_server(&read(&said), now) {
                    Outcome::Deliver(delivery) => self.deliver(delivery),
                    Outcome::Answer(line) => self.tell(&line),
                    Outcome::Ignore(_) => {}
                }
            }
        }
    }

    fn does(&mut self, _: Side, what: &str, now: Instant) {
        match what.split_once(' ').unwrap_or((what, "")) {
            ("leaves", call) => {
                let line = self.shared.leave(self.number(call), now);
                if let Some(line) = line {
                    self.tell(&line);
                }
            }
            ("is", "gone") => {
                let error = ErrorObject::internal("child_exited", "gone");
                for delivery in self.shared.server_ended(&error) {
                    self.deliver(delivery);
                }
            }
            ("loses", call) => {
                let of = (call != "an-answer").then(|| RequestId::from(self.number(call)));
                let error = ErrorObject::internal("message_too_long", "lost");
                let lost = self.shared.answer_lost(of.as_ref(), &error);
                for delivery in lost {
                    self.deliver(delivery);
                }
            }
            ("shuts", "down") => {
                let ended = self.shared.complete_subscriptions();
                self.end(ended);
            }
            other => panic!("{other:?}"),
        }
    }

    fn due(&self) -> Option<Instant> {
        self.shared.next_deadline()
    }

    fn expire(&mut self, now: Instant) {
        let ended = self.shared.expire(now);
        self.end(ended);
    }

    fn out(&mut self) -> Vec<(Side, Value)> {
        std::mem::take(&mut self.out)
    }
}

#[test]
fn scripts() {
    for script in include_str!("scripts.txt").split("\n## ").skip(1) {
        let (name, script) = script.split_once('\n').unwrap();
        script::run(name, script, &mut Table::new());
    }
}

#[test]
fn what_is_not_rewritten_keeps_its_text() {
    let mut shared = Shared::new(LIMITS);
    let text = concat!(
        r#"{ "id" : "a", "jsonrpc":"2.0","method":"tools/call","params":{"x": 1e400,"_meta":{"z":1.0, "progressToken" :7,"#,
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#
    );
    let Ok(Payload::Single(message)) = parse(text.into()) else { panic!() };
    let (number, line) = shared.request(&Request::read(message).unwrap(), &owner(), Instant::now()).unwrap();
    let expected = text.replace(r#""a""#, &number.to_string()).replace(":7,", &format!(":{number},"));
    assert_eq!(line.as_str(), expected);
    let answer = format!(r#"{{"result": {{"n":12345678901234567890.0 }},"id":{number}, "jsonrpc":"2.0"}}"#);
    let Ok(Payload::Single(message)) = parse(answer.clone().into()) else { panic!() };
    let Outcome::Deliver(delivery) = shared.from_server(&message, Instant::now()) else { panic!() };
    let answered = delivery.message.unwrap();
    assert_eq!(answered.line.as_str(), answer.replace(&format!("\"id\":{number}"), "\"id\":\"a\""));
    assert!(matches!(answered.kind, Kind::Response { id: Some(RequestId::String(id)), .. } if &*id == "a"));
}

#[test]
fn what_is_written_with_escapes_is_rewritten_too() {
    let mut shared = Shared::new(LIMITS);
    let text = concat!(
        r#"{"id":1,"jsonrpc":"2.0","method":"tools/list","params":{"_meta":{"progress\u0054oken":99,"#,
        r#""io.modelcontextprotocol/log\u004cevel":"debug","#,
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#
    );
    let request = |shared: &mut Shared| {
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!() };
        value(&shared.request(&Request::read(message).unwrap(), &owner(), Instant::now()).unwrap().1)["params"]["_meta"]
            .clone()
    };
    let (first, second) = (request(&mut shared), request(&mut shared));
    assert_eq!((&first["progressToken"], &second["progressToken"]), (&json!(1), &json!(2)));
    assert_eq!(first["io.modelcontextprotocol/logLevel"], "debug");
    assert_eq!(second["io.modelcontextprotocol/logLevel"], Value::Null);
}

#[test]
fn nobody_has_more_requests_in_flight_than_others_may_have_still() {
    let mut shared = Shared::new(LIMITS);
    let request = request(&json!(1), "tools/list", &json!({}), &json!({}));
    let now = Instant::now();
    let fill = |shared: &mut Shared, owner: u8| {
        let mut numbers = Vec::new();
        loop {
            match shared.request(&request, &Owner::from([owner]), now) {
                Ok((number, _)) => numbers.push(number),
                Err(refused) => {
                    assert_eq!(refused.reason, "too_many_requests");
                    return numbers;
                }
            }
        }
    };
    let first = fill(&mut shared, 1);
    let second = fill(&mut shared, 2);
    assert_eq!((first.len(), second.len()), (MAX_IN_FLIGHT / 2, MAX_IN_FLIGHT / 4));
    for owner in 3..255 {
        fill(&mut shared, owner);
    }
    assert!(shared.len() <= MAX_IN_FLIGHT);
    // However a request ends, its place is free again.
    let answer = |number| read(&json!({ "jsonrpc": "2.0", "id": number, "result": {} }));
    shared.leave(second[0], now).unwrap();
    shared.from_server(&answer(second[1]), now);
    shared.withdraw(second[2]);
    assert!(fill(&mut shared, 2).is_empty(), "it has more than there are free");
    assert_eq!(fill(&mut shared, 0).len(), 2, "who has none finds a place, and leaves one of three");
    shared.server_ended(&ErrorObject::internal("child_exited", "gone"));
    assert_eq!(fill(&mut shared, 2).len(), MAX_IN_FLIGHT / 2);
}

/// A small generator of numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// What a client and the server have of one request, in a random run.
struct Run {
    id: Value,
    listens: bool,
    /// What was sent about it and has not arrived.
    sent: VecDeque<u64>,
    ended: bool,
}

#[test]
fn every_message_arrives_once_and_where_it_belongs() {
    for seed in 1..=60 {
        interleave(&mut Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed)));
    }
}

/// Clients that all use the same few ids and tokens, and a server that says things about any of their requests.
fn interleave(dice: &mut Dice) {
    let mut shared = Shared::new(LIMITS);
    let (mut runs, mut said) = (BTreeMap::<Number, Run>::new(), 0_u64);
    let now = Instant::now();
    for _ in 0..300 {
        let open: Vec<Number> =
            runs.iter().filter(|(_, run)| !run.ended).map(|(number, _)| *number).collect();
        if open.is_empty() || dice.roll(3) == 0 {
            let id = if dice.roll(2) == 0 { json!(dice.roll(3)) } else { json!(format!("{}", dice.roll(3))) };
            let listens = dice.roll(3) == 0;
            let method = if listens { "subscriptions/listen" } else { "tools/call" };
            let request = request(&id, method, &json!({}), &json!({ "progressToken": id }));
            let (number, line) = shared.request(&request, &owner(), now).unwrap();
            assert_eq!(value(&line)["id"], json!(number));
            assert!(runs.insert(number, Run { id, listens, sent: VecDeque::new(), ended: false }).is_none());
            continue;
        }
        let number = open[dice.roll(open.len())];
        let run = runs.get_mut(&number).unwrap();
        said += 1;
        let subscription = json!({ "io.modelcontextprotocol/subscriptionId": number });
        let told = match (dice.roll(8), run.listens) {
            (0, _) => {
                let told = shared.leave(number, now).unwrap();
                assert_eq!(value(&told)["params"]["requestId"], json!(number));
                run.ended = true;
                assert!(shared.leave(number, now).is_none());
                json!({ "id": number, "result": { "said": said } })
            }
            (1, false) => json!({ "id": number, "result": { "said": said } }),
            (1, true) => json!({ "id": number, "result": { "said": said, "_meta": subscription } }),
            (2, true) => {
                json!({ "method": "notifications/cancelled", "params": { "requestId": number, "said": said } })
            }
            (_, true) => {
                json!({ "method": "notifications/x", "params": { "said": said, "_meta": subscription } })
            }
            (_, false) => {
                json!({ "method": "notifications/progress", "params": { "progressToken": number, "said": said } })
            }
        };
        let mut told = told;
        told["jsonrpc"] = json!("2.0");
        let outcome = shared.from_server(&read(&told), now);
        if run.ended {
            assert!(matches!(outcome, Outcome::Ignore(_)));
            continue;
        }
        run.sent.push_back(said);
        let Outcome::Deliver(delivery) = outcome else { panic!("{told}") };
        assert_eq!(delivery.to, number);
        let got = value(&delivery.message.unwrap().line);
        let body = got.get("result").or(got.get("params")).unwrap();
        assert_eq!(body["said"], json!(run.sent.pop_front().unwrap()));
        let named = [
            got.get("id"),
            body.get("requestId"),
            body.get("progressToken"),
            body.pointer("/_meta/io.modelcontextprotocol~1subscriptionId"),
        ];
        assert!(
            named.iter().flatten().count() > 0 && named.iter().flatten().all(|name| **name == run.id),
            "{got}"
        );
        let ends = got.get("result").is_some() || got["method"] == "notifications/cancelled";
        assert_eq!(delivery.last, ends);
        run.ended = ends;
    }
    let open = runs.values().filter(|run| !run.ended).count();
    assert_eq!(shared.len(), open);
    let ended = shared.server_ended(&ErrorObject::internal("child_exited", "gone"));
    assert_eq!(ended.len(), open);
    for delivery in ended {
        let run = &runs[&delivery.to];
        assert_eq!(
            delivery.message.map(|m| value(&m.line)["id"].clone()),
            (!run.listens).then(|| run.id.clone())
        );
    }
}
