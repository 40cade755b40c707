//! Scripts of messages, which one table each tests the translators with.
//!
//! A script is text, one step a line:
//!
//! ```text
//! client> {…}     the client sends
//! client< {…}     the client gets, next
//! server> {…}     the server sends
//! server< {…}     the server gets, next
//! client! WHAT    the client does something that is no message; the translator's bench says what there is
//! server! WHAT    so does the server
//! wait 30s        time passes (ms, s, m, h); what becomes due on the way happens in its order
//! # …             a remark
//! ```
//!
//! Messages are compared as values. In one that is expected, a string `"$name"` stands for any value the first time,
//! and for the same value from then on; in one that is sent, for the value it stood for. `"$_"` is any value each time.
//! After each `>`, `!` and `wait`, whatever came out has to be what the following `<` lines say: no more, no less.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Who is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// A translator with its two sides.
pub(super) trait Bench {
    /// A side sends a message.
    fn sends(&mut self, side: Side, message: Value, now: Instant);
    /// A side does something that is no message.
    fn does(&mut self, side: Side, what: &str, now: Instant);
    /// When something next becomes due.
    fn due(&self) -> Option<Instant>;
    /// Does what is due.
    fn expire(&mut self, now: Instant);
    /// What has come out since it was last asked, oldest first.
    fn out(&mut self) -> Vec<(Side, Value)>;
}

/// Runs a script; panics with the line that is not true.
pub(super) fn run(name: &str, script: &str, bench: &mut impl Bench) {
    let mut stage = Stage { name, bench, now: Instant::now(), bound: HashMap::new(), out: VecDeque::new() };
    for (number, line) in (1..).zip(script.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            stage.step(number, line);
        }
    }
    stage.nothing_left("the end");
}

struct Stage<'a, B> {
    name: &'a str,
    bench: &'a mut B,
    now: Instant,
    bound: HashMap<String, Value>,
    out: VecDeque<(Side, Value)>,
}

impl<B: Bench> Stage<'_, B> {
    fn step(&mut self, number: usize, line: &str) {
        let place = format!("{}, line {number}: {line}", self.name);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "wait" {
            self.nothing_left(&place);
            self.wait(duration(rest, &place));
            return self.collect();
        }
        let side = match word.get(..6) {
            Some("client") => Side::Client,
            Some("server") => Side::Server,
            _ => panic!("{place}: who?"),
        };
        let json = || serde_json::from_str::<Value>(rest).unwrap_or_else(|e| panic!("{place}: {e}"));
        match &word[6..] {
            ">" => {
                self.nothing_left(&place);
                let message = self.filled(json(), &place);
                self.bench.sends(side, message, self.now);
                self.collect();
            }
            "!" => {
                self.nothing_left(&place);
                self.bench.does(side, rest, self.now);
                self.collect();
            }
            "<" => {
                let (to, message) = self.out.pop_front().unwrap_or_else(|| panic!("{place}: nothing came"));
                assert!(to == side && self.matches(&json(), &message), "{place}: but {to:?} got {message}");
            }
            _ => panic!("{place}: what?"),
        }
    }

    fn collect(&mut self) {
        let out = self.bench.out();
        self.out.extend(out);
    }

    fn nothing_left(&mut self, place: &str) {
        assert!(self.out.is_empty(), "{}, before {place}: this came too: {:?}", self.name, self.out);
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.bench.due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.bench.expire(self.now);
            assert!(self.bench.due().is_none_or(|next| next > due), "{}: it stays due", self.name);
        }
        self.now = end;
        self.bench.expire(end);
    }

    fn filled(&self, value: Value, place: &str) -> Value {
        match value {
            Value::String(s) if s.starts_with('$') => {
                self.bound.get(&s).unwrap_or_else(|| panic!("{place}: {s} stands for nothing yet")).clone()
            }
            Value::Array(items) => items.into_iter().map(|item| self.filled(item, place)).collect(),
            Value::Object(members) => {
                let name = |key: String| match self.bound.get(&key) {
                    Some(Value::String(name)) => name.clone(),
                    _ => key,
                };
                members.into_iter().map(|(key, value)| (name(key), self.filled(value, place))).collect()
            }
            other => other,
        }
    }

    /// Whether `message` is what is expected; a member's name may be a `"$name"` too.
    fn matches(&mut self, expected: &Value, message: &Value) -> bool {
        match (expected, message) {
            (Value::String(name), _) if name == "$_" => true,
            (Value::String(name), message) if name.starts_with('$') => {
                self.bound.entry(name.clone()).or_insert_with(|| message.clone()) == message
            }
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.matches(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, value)| {
                        if !key.starts_with("$_") && key.starts_with('$') {
                            return self.member_matches(key, value, b);
                        }
                        b.get(key).is_some_and(|found| self.matches(value, found))
                    })
            }
            (a, b) => a == b,
        }
    }

    fn member_matches(
        &mut self,
        name: &str,
        value: &Value,
        members: &serde_json::Map<String, Value>,
    ) -> bool {
        let bound = self.bound.get(name).and_then(Value::as_str).map(str::to_owned);
        let candidates: Vec<_> =
            members.iter().filter(|(key, _)| bound.as_ref().is_none_or(|b| b == *key)).collect();
        for (key, found) in candidates {
            let before = self.bound.clone();
            if self.matches(value, found) {
                self.bound.insert(name.to_owned(), Value::String(key.clone()));
                return true;
            }
            self.bound = before;
        }
        false
    }
}

fn duration(text: &str, place: &str) -> Duration {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().unwrap_or_else(|_| panic!("{place}: how long?"));
    match &text[digits..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3600 * number),
        _ => panic!("{place}: how long?"),
    }
}
