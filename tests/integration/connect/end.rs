//! How `connect` ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::connect::{Connect, Pair, initialize_params, opened, until};
use crate::support::proc::peak_memory;
use crate::support::remote::{Events, Remote, STUCK, Wire};

const MESSAGES: usize = 300;
const BYTES: usize = 512 * 1024;

#[test]
fn a_signal_ends_the_session_and_the_process() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut pair = Pair::open();
        pair.client.ask("q", "tools/call", &json!({}));
        let call = pair.remote.post();
        let began = Instant::now();
        pair.client.signal(signal);
        let delete = pair.remote.delete();
        assert_eq!(delete.header("mcp-session-id"), "session-1");
        delete.respond("204 No Content", &[], b"");
        assert!(pair.client.wait().success(), "{signal}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drop(call);
    }
}

#[test]
fn a_signal_ends_the_process_though_the_server_says_nothing() {
    let mut pair = Pair::open();
    let began = Instant::now();
    pair.client.signal(Signal::SIGTERM);
    let _delete = pair.remote.delete();
    assert!(pair.client.wait().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_signal_ends_the_wait_for_the_last_answers() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let _call = pair.remote.post();
    let began = Instant::now();
    pair.client.close_stdin();
    pair.client.signal(Signal::SIGTERM);
    pair.remote.delete().respond("200 OK", &[], b"");
    assert!(pair.client.wait().success());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn answers_in_flight_are_waited_for_when_the_client_has_no_more_to_say() {
    let mut pair = Pair::open();
    pair.client.ask(1, "tools/call", &json!({}));
    pair.client.ask(2, "tools/call", &json!({}));
    pair.client.close_stdin();
    let (one, two) = (pair.remote.post(), pair.remote.post());
    for call in [one, two] {
        let id = call.message()["id"].clone();
        call.result(&json!("in time"));
        assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": id, "result": "in time"}));
    }
    pair.remote.delete().respond("200 OK", &[], b"");
    assert!(pair.client.wait().success());
    assert_eq!(pair.client.next_line(), None);
}

#[test]
fn an_answer_that_does_not_come_after_the_end_of_input_is_an_error() {
    let mut pair = Pair::open();
    pair.client.ask(1, "tools/call", &json!({}));
    pair.client.ask(2, "tools/call", &json!({}));
    pair.client.close_stdin();
    let (_one, _two) = (pair.remote.post(), pair.remote.post());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let error = pair.client.next_message();
        assert_eq!(error["error"]["code"], -32603, "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("standard input ended"), "{error}");
        ids.push(error["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    pair.remote.delete().respond("200 OK", &[], b"");
    assert!(pair.client.wait().success());
    assert_eq!(pair.client.next_line(), None);
}

#[test]
fn a_client_that_says_nothing_connects_to_nothing() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).start();
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!((client.next_line(), remote.accepted()), (None, 0));
}

#[test]
fn connect_ends_when_nobody_reads_its_output_any_more() {
    let remote = Remote::plain();
    let mut child = Raw::start(&remote);
    let _events = child.listen(&remote);
    drop(child.0.stdout.take());
    remote.delete().respond("200 OK", &[], b"");
    assert!(child.ends_well());
}

#[test]
fn a_client_that_does_not_read_costs_bounded_memory_and_gets_everything_later() {
    let remote = Remote::plain();
    let mut child = Raw::start(&remote);
    let events = child.listen(&remote);
    let (taken, is_stuck) = flood(events.into_wire(), MESSAGES, &"x".repeat(BYTES));
    assert!(is_stuck, "{taken} bytes were taken though nobody reads them");
    let peak = peak_memory(child.0.id());
    assert!(peak < 120 << 20, "{peak} bytes after {taken} bytes");
    let stdout = BufReader::new(child.0.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || stdout.lines().try_for_each(|line| sender.send(line.unwrap().len())));
    for n in 0..MESSAGES {
        let length = lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("message {n} is missing"));
        assert!(length > BYTES);
    }
}

#[test]
fn a_signal_ends_the_process_though_nobody_reads_its_output() {
    let remote = Remote::plain();
    let mut child = Raw::start(&remote);
    let events = child.listen(&remote);
    let (_, is_stuck) = flood(events.into_wire(), MESSAGES, &"x".repeat(BYTES));
    assert!(is_stuck);
    child.signal(Signal::SIGTERM);
    remote.delete().respond("200 OK", &[], b"");
    assert!(child.ends_well());
}

#[test]
fn the_end_of_input_ends_the_process_though_nobody_reads_its_output() {
    let remote = Remote::plain();
    let mut child = Raw::start(&remote);
    let events = child.listen(&remote);
    let (_, is_stuck) = flood(events.into_wire(), MESSAGES, &"x".repeat(BYTES));
    assert!(is_stuck);
    child.write(&json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call"}));
    // It gets no answer, and there is no room for the error that takes its place.
    let _call = remote.asked("tools/call");
    drop(child.0.stdin.take());
    remote.delete().respond("200 OK", &[], b"");
    assert!(child.ends_well());
}

/// Sends notifications until all have gone, or the other side has taken nothing for [`STUCK`].
/// The thread that is stuck holds the connection open until the bridge is gone.
fn flood(mut wire: Box<dyn Wire>, messages: usize, filler: &str) -> (usize, bool) {
    let message = format!(
        "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/m\",\"params\":{{\"x\":\"{filler}\"}}}}\n\n"
    );
    let piece = format!("{:x}\r\n{message}\r\n", message.len());
    let (sender, gone) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..messages {
            if wire.write_all(piece.as_bytes()).and_then(|()| wire.flush()).is_err() {
                return;
            }
            let _ = sender.send(());
        }
    });
    let mut taken = 0;
    loop {
        match gone.recv_timeout(STUCK) {
            Ok(()) => taken += filler.len(),
            Err(mpsc::RecvTimeoutError::Timeout) => return (taken, true),
            Err(mpsc::RecvTimeoutError::Disconnected) => return (taken, false),
        }
    }
}

/// A `connect` whose output only the test reads, if anybody does.
struct Raw(Child, #[expect(dead_code, reason = "it lives as long as the process")] tempfile::TempDir);

impl Raw {
    fn start(remote: &Remote) -> Self {
        let (mut command, dir) = Connect::to(&remote.url).command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap(), dir)
    }

    fn write(&mut self, message: &Value) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Opens the session and the server's stream.
    fn listen(&mut self, remote: &Remote) -> Events {
        self.write(
            &json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize_params()}),
        );
        opened(remote.post(), "session-1");
        let mut answer = String::new();
        self.stdout().read_line(&mut answer).unwrap();
        self.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        remote.post().accepted();
        remote.get().events()
    }

    /// Reads byte by byte: nothing is taken beyond what is asked for.
    fn stdout(&mut self) -> BufReader<&mut ChildStdout> {
        BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap())
    }

    fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    fn ends_well(&mut self) -> bool {
        let mut status = None;
        until("the process ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
