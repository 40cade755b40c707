//! Clients behind a `connect` process: lines in, lines out.

use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::World;
use crate::ledger::{End, Ledger, error};
use crate::support::BRIDGE;
use crate::support::certs::cert;
use crate::support::proc::MARK;
use crate::support::process::Process;
use crate::work::{Call, LONGEST, Notice, Steps, initialize, notice};

/// Most calls of a client at once.
const AT_ONCE: u64 = 4;
/// Most rounds of calls that one process makes.
const ROUNDS: u64 = 30;

pub(crate) async fn run(world: Arc<World>, ledger: Arc<Ledger>, n: u64) {
    let client = tokio::task::spawn_blocking(move || {
        let mut processes = 0;
        while !world.stop.is_cancelled() {
            processes += 1;
            Client::start(&world, &ledger, format!("connect {n} in process {processes}")).work();
        }
    });
    client.await.unwrap();
}

struct Client<'a> {
    world: &'a World,
    ledger: &'a Ledger,
    name: String,
    process: Process,
    steps: Steps,
}

impl<'a> Client<'a> {
    fn start(world: &'a World, ledger: &'a Ledger, name: String) -> Self {
        let mut command = Command::new(BRIDGE);
        command.args(["connect", &world.url, "--ca-cert", &cert("ca.crt")]).env(MARK, &world.mark);
        let process = Process::spawn(&mut command);
        world.processes.lock().unwrap().insert(process.pid());
        Self { world, ledger, name, process, steps: Steps::default() }
    }

    fn work(mut self) {
        if self.initialize() {
            let mut number = 0;
            for _ in 0..=self.world.below(ROUNDS) {
                if self.world.stop.is_cancelled() {
                    break;
                }
                let calls = (0..=self.world.below(AT_ONCE)).map(|_| {
                    number += 1;
                    Call::any(self.world, &self.name, number)
                });
                let calls = calls.collect();
                self.round(calls);
            }
        }
        self.world.processes.lock().unwrap().remove(&self.process.pid());
        self.process.close_stdin();
        while let Some(line) = self.process.next_line() {
            self.notice(&serde_json::from_str(&line).unwrap());
        }
        assert!(self.process.wait().success(), "connect failed");
    }

    fn initialize(&mut self) -> bool {
        self.ledger.sent();
        self.process.send(&initialize(&self.name));
        let answer = self.process.next_message();
        let opened = answer["id"] == "initialize" && answer["result"].is_object();
        self.ledger.ended(if opened { End::Answer } else { error(&answer) });
        if opened {
            self.ledger.opened();
            self.process.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        }
        opened
    }

    /// Makes calls at once, and reads until the last one has ended.
    fn round(&mut self, mut calls: Vec<Call>) {
        for call in &calls {
            self.ledger.sent();
            self.steps.expect(call);
            self.process.send(&call.request());
        }
        while !calls.is_empty() {
            let line = self.process.next_line_within(LONGEST).expect("stdout is open");
            let message: Value = serde_json::from_str(&line).unwrap();
            let answers = |call: &Call| message.get("method").is_none() && message["id"] == call.id;
            let Some(at) = calls.iter().position(|call| answers(call) || call.is_named_by(&message)) else {
                self.notice(&message);
                continue;
            };
            if let Some(end) = calls[at].take(&message) {
                self.ledger.ended(end);
                calls.remove(at);
            }
        }
    }

    fn notice(&mut self, message: &Value) {
        match notice(&self.name, &self.steps, message) {
            Notice::Read => self.ledger.noticed(),
            Notice::NotOurs => self.ledger.misled(format!("{message:.300} came to {}", self.name)),
            Notice::Answer(answer) => self.process.send(&answer),
        }
    }
}
