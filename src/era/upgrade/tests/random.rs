//! Whatever comes in whatever order, no message is lost, doubled or another's.

use super::*;

/// xorshift64*: enough to interleave with, and the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % sides
    }

    fn pick<T>(&mut self, of: &mut Vec<T>) -> Option<T> {
        if of.is_empty() { None } else { Some(of.swap_remove(self.roll(of.len()))) }
    }
}

/// A client and a server that do anything at any time, and note what they get.
struct World {
    machine: Upgrade,
    now: Instant,
    next: u64,
    /// Calls without an end: key → id and tag.
    open: HashMap<u64, (Value, u64)>,
    /// What the client may come back with: tag, state, keys of what it was asked.
    suspended: Vec<(u64, Value, Vec<String>)>,
    /// What the server works on: id and tag.
    working: Vec<(Value, u64)>,
    seen: Vec<Value>,
    /// The server's questions without an answer.
    asked: Vec<Value>,
    answers: usize,
}

impl World {
    fn new(lanes: Lanes) -> Self {
        let now = Instant::now();
        let mut machine = Upgrade::new(setup(&all(), lanes), now);
        let opened = json!({ "jsonrpc": "2.0", "id": 1,
            "result": { "protocolVersion": "2025-11-25", "capabilities": {} } });
        machine.from_server(FromServer { message: message(&opened), about: None }, now);
        machine.take_output();
        Self {
            machine,
            now,
            next: 0,
            open: HashMap::new(),
            suspended: Vec::new(),
            working: Vec::new(),
            seen: Vec::new(),
            asked: Vec::new(),
            answers: 0,
        }
    }

    fn call(&mut self, tag: u64, more: &Value) {
        self.next += 1;
        let id =
            if self.next.is_multiple_of(2) { json!(self.next) } else { json!(format!("c{}", self.next)) };
        let mut params = json!({ "name": "x", "arguments": { "tag": tag } });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        self.open.insert(self.next, (id, tag));
        self.machine.call(CallKey(self.next), modern(request, &all()), self.now);
        self.collect();
    }

    fn come_back(&mut self, (tag, state, keys): (u64, Value, Vec<String>)) {
        let answers = keys.into_iter().map(|key| {
            let uri = format!("for:{}", key.trim_end_matches('\''));
            (key, json!({ "roots": [{ "uri": uri }] }))
        });
        let answers: Value = answers.collect();
        self.call(tag, &json!({ "requestState": state, "inputResponses": answers }));
    }

    fn server(&mut self, sent: &Value) {
        self.machine.from_server(FromServer { message: message(sent), about: None }, self.now);
        self.collect();
    }

    fn ask(&mut self) {
        self.next += 1;
        self.asked.push(json!(self.next));
        self.server(&json!({ "jsonrpc": "2.0", "id": self.next, "method": "roots/list" }));
    }

    fn finish(&mut self, (id, tag): (Value, u64)) {
        self.server(&json!({ "jsonrpc": "2.0", "id": id, "result": { "tag": tag } }));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.machine.next_deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.machine.expire(self.now);
            self.collect();
        }
        self.now = end;
    }

    fn collect(&mut self) {
        for output in self.machine.take_output() {
            match output {
                Output::ToServer(message) => self.server_gets(&value(&message)),
                Output::ToClient(key, item) => self.client_gets(key.0, &value(&item.message), item.last),
                Output::Ended(key) => panic!("{key:?} ended"),
            }
        }
    }

    fn server_gets(&mut self, got: &Value) {
        let id = got["id"].clone();
        match got["method"].as_str() {
            Some("tools/call") => {
                assert!(!self.seen.contains(&id), "{got}: an id again");
                self.seen.push(id.clone());
                self.working.push((id, got["params"]["arguments"]["tag"].as_u64().unwrap()));
            }
            Some("notifications/cancelled") => {
                self.working.retain(|(id, _)| *id != got["params"]["requestId"]);
            }
            Some(other) => panic!("{other}"),
            None => {
                let at = self.asked.iter().position(|asked| *asked == id);
                self.asked.swap_remove(at.unwrap_or_else(|| panic!("{got}: answered twice")));
                if let Some(uri) = got["result"]["roots"][0]["uri"].as_str() {
                    assert_eq!(uri, format!("for:{id}"));
                }
            }
        }
    }

    fn client_gets(&mut self, key: u64, got: &Value, last: bool) {
        assert!(last, "{got}");
        let (id, tag) = self.open.remove(&key).unwrap_or_else(|| panic!("{got}: answered twice"));
        assert_eq!(got["id"], id);
        self.answers += 1;
        let result = &got["result"];
        if result["resultType"] == "input_required" {
            let keys = result["inputRequests"].as_object().unwrap().keys().cloned().collect();
            self.suspended.push((tag, result["requestState"].clone(), keys));
        } else if result.is_object() {
            assert_eq!(result["tag"], tag, "{got}: another's answer");
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.roll(12) {
            0..=2 if self.open.len() < 20 => {
                let tag = self.next + 1000;
                self.call(tag, &json!({}));
            }
            3..=4 => self.ask(),
            5..=6 => dice.pick(&mut self.working).into_iter().for_each(|work| self.finish(work)),
            7..=8 => dice.pick(&mut self.suspended).into_iter().for_each(|it| self.come_back(it)),
            9 => {
                let mut keys: Vec<_> = self.open.keys().copied().collect();
                keys.sort_unstable();
                if let Some(key) = dice.pick(&mut keys) {
                    self.open.remove(&key);
                    self.machine.left(CallKey(key), self.now);
                    self.collect();
                }
            }
            _ => self.pass(Duration::from_millis(15)),
        }
    }

    /// Everyone does what they owe.
    fn settle(&mut self) {
        while !self.open.is_empty() || !self.suspended.is_empty() || !self.working.is_empty() {
            self.pass(Duration::from_millis(20));
            for it in std::mem::take(&mut self.suspended) {
                self.come_back(it);
            }
            for work in std::mem::take(&mut self.working) {
                self.finish(work);
            }
        }
        self.pass(Duration::from_secs(30));
    }
}

#[test]
fn whatever_happens_each_gets_one_answer_and_it_is_its_own() {
    for seed in 1..=25 {
        for lanes in [Lanes::OneAsker, Lanes::Concurrent] {
            let (mut world, mut dice) = (World::new(lanes), Dice(seed));
            for _ in 0..200 {
                world.step(&mut dice);
            }
            world.settle();
            assert!(world.asked.is_empty(), "seed {seed}, {lanes:?}: {:?}", world.asked);
            assert!(world.machine.is_idle() && world.answers > 10, "seed {seed}, {lanes:?}");
        }
    }
}
