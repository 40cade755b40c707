//! A program that ends with its guard, and whose output lines can be waited for.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::DEADLINE;

pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: mpsc::Receiver<String>,
    stderr: Arc<Lines>,
    next_id: u64,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::piped())
    }

    /// As [`Self::spawn`], with a standard input that nobody writes to.
    pub(crate) fn spawn_with(command: &mut Command, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, stdout) = mpsc::channel();
        let pipe = child.stdout.take().unwrap();
        thread::spawn(move || each_line(pipe, |line| drop(sender.send(line))));
        let stderr = Arc::new(Lines::default());
        let collected = Arc::clone(&stderr);
        let pipe = child.stderr.take().unwrap();
        thread::spawn(move || {
            each_line(pipe, |line| collected.push(line));
            collected.end();
        });
        Self { stdin: child.stdin.take(), child, stdout, stderr, next_id: 1 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to standard input.
    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    /// Writes bytes as they are to standard input.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line of standard output; `None` at its end.
    pub(crate) fn next_line(&self) -> Option<String> {
        self.next_line_within(DEADLINE)
    }

    pub(crate) fn next_line_within(&self, limit: Duration) -> Option<String> {
        match self.stdout.recv_timeout(limit) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no line on stdout within {limit:?}"),
        }
    }

    pub(crate) fn next_message(&self) -> Value {
        let line = self.next_line().expect("stdout is open");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not a message: {line}: {error}"))
    }

    /// Sends a request and reads as far as its response; what came before it is dropped.
    pub(crate) fn request(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        loop {
            let message = self.next_message();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// `initialize` alone, where nothing may follow it.
    pub(crate) fn ask_to_initialize(&mut self) -> Value {
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
        self.request("initialize", &params)
    }

    pub(crate) fn initialize(&mut self) -> Value {
        let answer = self.ask_to_initialize();
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        answer
    }

    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// Waits for a line on stderr that contains the text, from the first line on.
    pub(crate) fn logged(&self, text: &str) -> String {
        self.stderr.wait_for(text).unwrap_or_else(|all| panic!("`{text}` was not logged, but:\n{all}"))
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.all()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for the end that something else has brought about, and for the last that it had to say.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.wait_until(Instant::now() + DEADLINE);
        let status = status.unwrap_or_else(|| panic!("still running:\n{}", self.stderr()));
        self.stderr.wait_for_end();
        status
    }

    /// Ends it as a service manager does, and says how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// `Child::wait` has no limit; asking every few milliseconds has one.
    fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.child.try_wait().unwrap() {
                Some(status) => return Some(status),
                None if Instant::now() > deadline => return None,
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("stderr of process {}:\n{}", self.pid(), self.stderr());
        }
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGTERM);
            if self.wait_until(Instant::now() + DEADLINE / 3).is_none() {
                drop(self.child.kill());
                drop(self.child.wait());
            }
        }
    }
}

/// Lines that one thread collects and others wait for.
#[derive(Default)]
struct Lines {
    collected: Mutex<Vec<String>>,
    grown: Condvar,
    ended: AtomicBool,
}

impl Lines {
    fn push(&self, line: String) {
        self.collected.lock().unwrap().push(line);
        self.grown.notify_all();
    }

    /// There will be no more.
    fn end(&self) {
        let _lines = self.collected.lock().unwrap();
        self.ended.store(true, Ordering::Release);
        self.grown.notify_all();
    }

    /// Waits until all lines are there; not for long, since an orphan may hold the pipe.
    fn wait_for_end(&self) {
        let lines = self.collected.lock().unwrap();
        let goes_on = |_: &mut Vec<String>| !self.ended.load(Ordering::Acquire);
        drop(self.grown.wait_timeout_while(lines, Duration::from_secs(2), goes_on).unwrap());
    }

    fn all(&self) -> String {
        self.collected.lock().unwrap().join("\n")
    }

    fn wait_for(&self, text: &str) -> Result<String, String> {
        let lines = self.collected.lock().unwrap();
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (lines, _) = self.grown.wait_timeout_while(lines, DEADLINE, missing).unwrap();
        lines.iter().find(|line| line.contains(text)).cloned().ok_or_else(|| lines.join("\n"))
    }
}

fn each_line(pipe: impl Read, mut take: impl FnMut(String)) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
        take(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned());
        line.clear();
    }
}
