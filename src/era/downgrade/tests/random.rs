//! Random interleavings: each request is answered once, under its own id, with what belongs to it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A small generator (xorshift64), so that a failure can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn pick<K: Clone + Ord, V: Clone>(&mut self, from: &BTreeMap<K, V>) -> Option<(K, V)> {
        let at = if from.is_empty() { return None } else { self.below(from.len()) };
        from.iter().nth(at).map(|(key, value)| (key.clone(), value.clone()))
    }
}

/// A client and a server that remember what they wait for.
struct World {
    machine: Played,
    random: Random,
    now: Instant,
    requests: u64,
    states: u64,
    /// The client's requests that wait, `true` for `resources/subscribe`. Their parameters repeat their ids.
    open: BTreeMap<u64, bool>,
    /// Questions to the client, each with the request that it names.
    questions: BTreeMap<u64, u64>,
    /// The calls that the server works on, each with the request that it names.
    calls: BTreeMap<u64, u64>,
    listens: BTreeMap<u64, Value>,
    /// What the retry of a request has to bring.
    expected: BTreeMap<u64, (Value, BTreeSet<String>)>,
    answered: u64,
    cancelled: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            machine: entered(LATEST, &json!({ "roots": {} }), &everything()),
            random: Random(seed * 0x9E37_79B9 + 1),
            now: Instant::now(),
            requests: 0,
            states: 0,
            open: BTreeMap::new(),
            questions: BTreeMap::new(),
            calls: BTreeMap::new(),
            listens: BTreeMap::new(),
            expected: BTreeMap::new(),
            answered: 0,
            cancelled: 0,
        }
    }

    fn client(&mut self, message: Value) {
        self.machine.sends(Side::Client, message, self.now);
        self.look();
    }

    fn server(&mut self, message: Value) {
        self.machine.sends(Side::Server, message, self.now);
        self.look();
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 | 1 => {
                self.requests += 1;
                let id = self.requests;
                self.open.insert(id, false);
                let params = json!({ "arguments": id, "_meta": { "progressToken": id } });
                self.client(json!({ "id": id, "method": "tools/call", "params": params }));
            }
            2 => {
                self.requests += 1;
                let (id, uri) = (self.requests, format!("a:{}", self.random.below(9)));
                self.open.insert(id, true);
                let method = ["resources/subscribe", "resources/unsubscribe"][self.random.below(2)];
                self.client(json!({ "id": id, "method": method, "params": { "uri": uri } }));
            }
            3 => {
                if let Some((id, _)) = self.random.pick(&self.open) {
                    self.open.remove(&id);
                    self.cancelled += 1;
                    self.client(
                        json!({ "method": "notifications/cancelled", "params": { "requestId": id } }),
                    );
                    assert!(self.questions.values().all(|about| *about != id), "a question is left");
                }
            }
            4 | 5 => self.reply(),
            6 | 7 => self.ask(),
            8 => self.answer(),
            9 => {
                if let Some((call, about)) = self.random.pick(&self.calls) {
                    let params = json!({ "progressToken": about, "progress": self.random.below(99) });
                    self.server(
                        json!({ "call": call, "method": "notifications/progress", "params": params }),
                    );
                }
            }
            10 => self.acknowledge(),
            _ => {
                self.now += Duration::from_millis(50);
                self.machine.expire(self.now);
                self.look();
            }
        }
    }

    /// The client answers a question.
    fn reply(&mut self) {
        let Some((question, about)) = self.random.pick(&self.questions) else { return };
        self.questions.remove(&question);
        let answer = if self.random.below(9) == 0 { "error" } else { "result" };
        self.client(json!({ "id": question, answer: { "code": 1, "message": "m", "about": about } }));
    }

    /// The server answers a call with questions, or with its state alone.
    fn ask(&mut self) {
        let Some((call, about)) = self.random.pick(&self.calls) else { return };
        self.calls.remove(&call);
        self.states += 1;
        let state = json!(format!("state {} of {about}", self.states));
        let keys: BTreeSet<_> = (0..self.random.below(4)).map(|n| format!("{about}-{n}")).collect();
        let params = json!({ "_meta": { "about": about } });
        let requests: serde_json::Map<_, _> = keys
            .iter()
            .map(|key| (key.clone(), json!({ "method": "roots/list", "params": params })))
            .collect();
        self.expected.insert(about, (state.clone(), keys));
        let result =
            json!({ "resultType": "input_required", "inputRequests": requests, "requestState": state });
        self.server(json!({ "id": call, "result": result }));
    }

    /// The server answers a call, or fails.
    fn answer(&mut self) {
        let Some((call, about)) = self.random.pick(&self.calls) else { return };
        self.calls.remove(&call);
        match self.random.below(4) {
            0 => {
                self.machine.does(Side::Server, &format!("ends {call}"), self.now);
                self.look();
            }
            1 => self.server(json!({ "id": call, "error": { "code": 1, "message": "m", "data": about } })),
            _ => self.server(json!({ "id": call, "result": { "resultType": "complete", "about": about } })),
        }
    }

    /// The server acknowledges a subscription, or breaks it.
    fn acknowledge(&mut self) {
        let Some((call, filter)) = self.random.pick(&self.listens) else { return };
        if self.random.below(4) == 0 {
            self.listens.remove(&call);
            self.machine.does(Side::Server, &format!("ends {call}"), self.now);
            return self.look();
        }
        let method = "notifications/subscriptions/acknowledged";
        self.server(json!({ "call": call, "method": method, "params": { "notifications": filter } }));
    }

    /// Looks at what has come out.
    fn look(&mut self) {
        for (side, message) in self.machine.out() {
            match side {
                Side::Client => self.client_gets(&message),
                Side::Server => self.server_gets(&message),
            }
        }
    }

    fn client_gets(&mut self, message: &Value) {
        let id = message["id"].as_u64();
        match message["method"].as_str() {
            None => {
                let id = id.unwrap();
                let subscribes = self.open.remove(&id).unwrap_or_else(|| panic!("not asked for: {message}"));
                self.answered += 1;
                let about = &message["result"]["about"];
                let error = &message["error"]["data"];
                assert!(subscribes || *about == id || about.is_null(), "{message}");
                assert!(error.is_null() || error.is_object() || *error == id, "{message}");
            }
            Some("roots/list") => {
                let about = message["about"].as_u64().unwrap();
                assert_eq!(message["params"]["_meta"]["about"], about);
                assert!(self.open.contains_key(&about), "{message}");
                assert!(self.questions.insert(id.unwrap(), about).is_none());
            }
            Some("notifications/cancelled") => {
                let id = message["params"]["requestId"].as_u64().unwrap();
                assert!(self.questions.remove(&id).is_some(), "{message}");
            }
            Some("notifications/progress") => {
                assert_eq!(message["params"]["progressToken"], message["about"]);
                assert!(self.open.contains_key(&message["about"].as_u64().unwrap()), "{message}");
            }
            Some(_) => assert!(message.get("about").is_none()),
        }
    }

    fn server_gets(&mut self, message: &Value) {
        if let Some(call) = message["cancel"].as_u64() {
            let known = self.calls.remove(&call).is_some() | self.listens.remove(&call).is_some();
            return assert!(known, "{message}");
        }
        let (id, params) = (message["id"].as_u64().unwrap(), &message["params"]);
        if message["method"] == "subscriptions/listen" {
            self.listens.insert(id, params["notifications"].clone());
            return;
        }
        let about = params["arguments"].as_u64().unwrap();
        assert!(self.open.contains_key(&about), "{message}");
        assert!(self.calls.values().all(|other| *other != about), "two calls of one request");
        let (state, keys) = self.expected.remove(&about).unwrap_or_default();
        assert_eq!(params["requestState"], state);
        let answers = params["inputResponses"].as_object().cloned().unwrap_or_default();
        assert!(answers.values().all(|answer| answer["about"] == about), "{message}");
        assert_eq!(answers.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>(), keys);
        self.calls.insert(id, about);
    }

    /// Nobody begins anything, and everybody answers.
    fn settle(&mut self) {
        while !self.open.is_empty() {
            self.now += Duration::from_secs(1);
            self.machine.expire(self.now);
            self.look();
            (0..4).for_each(|_| self.reply());
            (0..4).for_each(|_| self.answer());
            (0..4).for_each(|_| self.acknowledge());
        }
    }
}

#[test]
fn no_interleaving_loses_doubles_or_mixes_up_anything() {
    let (mut answered, mut cancelled) = (0, 0);
    for seed in 1..=50 {
        let mut world = World::new(seed);
        (0..300).for_each(|_| world.step());
        world.settle();
        assert_eq!(world.answered + world.cancelled, world.requests, "seed {seed}");
        assert!(world.machine.downgrade.exchanges.is_empty() && world.questions.is_empty(), "seed {seed}");
        answered += world.answered;
        cancelled += world.cancelled;
    }
    assert!(answered > 500 && cancelled > 500, "{answered} answered, {cancelled} cancelled");
}
