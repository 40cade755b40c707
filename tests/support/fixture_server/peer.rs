//! The other end of the pipes: what is written to it, what it was asked, and what it has cancelled.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a question to the client may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Peer {
    next_id: AtomicU64,
    ignores_term: AtomicBool,
    asked: Mutex<HashMap<u64, mpsc::Sender<Value>>>,
    state: Mutex<State>,
    changed: Condvar,
    stdout: Mutex<()>,
}

/// What calls wait for.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) cancelled: Vec<Value>,
    pub(crate) met: u64,
    initialize: Value,
}

impl Peer {
    pub(crate) fn new(ignores_term: bool) -> Self {
        Self { ignores_term: AtomicBool::new(ignores_term), ..Self::default() }
    }

    pub(crate) fn ignores_term(&self) -> bool {
        self.ignores_term.load(Ordering::SeqCst)
    }

    pub(crate) fn ignore_term(&self) {
        self.ignores_term.store(true, Ordering::SeqCst);
    }

    pub(crate) fn answer(&self, id: &Value, result: &Value) {
        self.send(&response(id, result));
    }

    pub(crate) fn refuse(&self, id: &Value, code: i32, message: &str) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}));
    }

    pub(crate) fn notify(&self, method: &str, params: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Asks the client something and waits for its whole response; `None` when it does not come.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> Option<Value> {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = mpsc::channel();
        self.asked.lock().unwrap().insert(id, sender);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        receiver.recv_timeout(ANSWER_WITHIN).ok()
    }

    pub(crate) fn take_response(&self, message: Value) {
        let sender = message["id"].as_u64().and_then(|id| self.asked.lock().unwrap().remove(&id));
        if let Some(sender) = sender {
            let _ = sender.send(message);
        }
    }

    pub(crate) fn remember_initialize(&self, params: Value) {
        self.state.lock().unwrap().initialize = params;
    }

    pub(crate) fn initialize_params(&self) -> Value {
        self.state.lock().unwrap().initialize.clone()
    }

    pub(crate) fn cancel(&self, id: Value) {
        self.change(|state| state.cancelled.push(id));
    }

    pub(crate) fn cancelled(&self) -> Vec<Value> {
        self.state.lock().unwrap().cancelled.clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until the state is as wanted, and says whether it became so in time.
    pub(crate) fn wait_until(&self, limit: Duration, wanted: impl Fn(&State) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock().unwrap();
        while !wanted(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
        true
    }

    pub(crate) fn send(&self, message: &Value) {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        self.send_bytes(&line);
    }

    /// Writes bytes as they are; nothing else gets between them. A reader that is gone is no error.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        let _whole = self.stdout.lock().unwrap();
        let mut stdout = std::io::stdout();
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// One line of that many bytes, which is held in no memory.
    pub(crate) fn send_repeated(&self, piece: &[u8], bytes: u64) {
        let block = piece.repeat(64 * 1024 / piece.len());
        let _whole = self.stdout.lock().unwrap();
        let mut stdout = std::io::stdout();
        let mut left = usize::try_from(bytes).unwrap();
        while left > 0 {
            let n = left.min(block.len());
            if stdout.write_all(&block[..n]).is_err() {
                return;
            }
            left -= n;
        }
        let _ = stdout.write_all(b"\n").and_then(|()| stdout.flush());
    }
}

pub(crate) fn response(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}
