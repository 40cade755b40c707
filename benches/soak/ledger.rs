//! The account of the requests of one kind of client.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

/// How a request ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With the answer to it and no other.
    Answer,
    /// With an error; its reason in a word.
    Error(String),
    /// It was cancelled, and got no answer.
    Cancelled,
    /// With something that was not for it; what that was.
    Wrong(String),
    /// With nothing.
    Nothing(String),
}

#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) sent: u64,
    pub(crate) answers: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) cancelled: u64,
    pub(crate) wrong: Vec<String>,
    pub(crate) nothing: Vec<String>,
    pub(crate) panics: u64,
    /// Messages of the server that belong to no request.
    pub(crate) notices: u64,
    /// Sessions that were opened.
    pub(crate) sessions: u64,
    /// Streams that were taken up again.
    pub(crate) resumed: u64,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) kind: &'static str,
    account: Mutex<Account>,
}

impl Ledger {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, account: Mutex::default() }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Account) -> T) -> T {
        read(&self.account.lock().unwrap())
    }

    fn write(&self, write: impl FnOnce(&mut Account)) {
        write(&mut self.account.lock().unwrap());
    }

    pub(crate) fn sent(&self) {
        self.write(|account| account.sent += 1);
    }

    pub(crate) fn ended(&self, end: End) {
        self.write(|account| match end {
            End::Answer => account.answers += 1,
            End::Error(reason) => *account.errors.entry(reason).or_default() += 1,
            End::Cancelled => account.cancelled += 1,
            End::Wrong(what) => account.wrong.push(what),
            End::Nothing(what) => account.nothing.push(what),
        });
    }

    /// A message that came to somebody to whom it does not belong.
    pub(crate) fn misled(&self, what: String) {
        self.write(|account| account.wrong.push(what));
    }

    pub(crate) fn noticed(&self) {
        self.write(|account| account.notices += 1);
    }

    pub(crate) fn opened(&self) {
        self.write(|account| account.sessions += 1);
    }

    pub(crate) fn resumed(&self) {
        self.write(|account| account.resumed += 1);
    }

    pub(crate) fn panicked(&self) {
        self.write(|account| account.panics += 1);
    }
}

/// The reason that an error gives. The bridge waits longer for an answer than any fault lasts, so that none may have
/// been waited for in vain.
pub(crate) fn error(answer: &Value) -> End {
    let error = &answer["error"];
    match error["data"]["reason"].as_str() {
        Some("timed_out") => End::Nothing(answer.to_string()),
        Some(reason) => End::Error(reason.to_owned()),
        None => End::Error(format!("code {}", error["code"])),
    }
}
