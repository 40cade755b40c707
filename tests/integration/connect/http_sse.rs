//! Servers that speak HTTP+SSE (2024-11-05) only.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, TOKEN, TOKEN_VARIABLE};
use crate::support::connect::{Client, Connect, VERSION, initialize_params, until};
use crate::support::process::Process;
use crate::support::remote::{Events, Proxy, Remote, Request};

const SSE: &str = "client:\n  transport: sse\n";
const QUICK: &str =
    "client:\n  transport: sse\n  retry:\n    max_retries: 2\n    initial_delay: 10ms\n    max_delay: 20ms";
const ENDPOINT: &str = "/messages?session_id=1";

/// A client and an old server, with a session open.
struct Old {
    remote: Remote,
    client: Client,
    /// The one stream.
    stream: Events,
}

impl Old {
    fn open(config: &str) -> Self {
        let remote = Remote::plain();
        let client = Connect::to(&remote.url).config(config).start();
        Self::begun(remote, client)
    }

    /// The session of a client that goes straight to the stream.
    fn begun(remote: Remote, mut client: Client) -> Self {
        client.ask("init", "initialize", &initialize_params());
        let mut stream = stream(&remote, ENDPOINT);
        answer_initialize(&remote, &mut stream);
        assert_eq!(client.next_message()["result"]["protocolVersion"], VERSION);
        client.notify("notifications/initialized", &json!({}));
        remote.asked("notifications/initialized").accepted();
        Self { remote, client, stream }
    }

    /// Sends a call that the server has taken in.
    fn call(&mut self, id: &str) -> Value {
        let params = json!({"name": "x", "_meta": {"progressToken": id}});
        self.client.ask(id, "tools/call", &params);
        let call = self.remote.asked("tools/call");
        let message = call.message();
        call.accepted();
        message
    }

    fn result(&mut self, id: &str, result: &Value) {
        self.stream.message(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    fn still_works(&mut self) {
        self.client.ask("after", "ping", &json!({}));
        self.remote.asked("ping").accepted();
        self.result("after", &json!({}));
        assert_eq!(self.client.next_message()["id"], "after");
        assert_eq!(self.remote.unasked(), [""; 0]);
    }
}

/// Answers the GET with a stream that begins as it should.
fn stream(remote: &Remote, endpoint: &str) -> Events {
    let mut stream = remote.get().events();
    stream.piece(format!("event: endpoint\ndata: {endpoint}\n\n").as_bytes());
    stream
}

fn answer_initialize(remote: &Remote, stream: &mut Events) {
    let initialize = remote.asked("initialize");
    assert_eq!((initialize.target.as_str(), initialize.header("mcp-session-id")), (ENDPOINT, String::new()));
    let message = initialize.message();
    assert_eq!(message["params"], initialize_params(), "the client's own");
    initialize.accepted();
    let server = json!({"name": "old", "version": "1"});
    let result = json!({"protocolVersion": VERSION, "capabilities": {}, "serverInfo": server});
    stream.message(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
}

fn refuse(request: Request, status: &str) {
    request.respond(status, &["content-type: text/plain"], b"no");
}

#[test]
fn messages_are_posted_to_the_endpoint_and_answers_come_by_the_stream() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).config(SSE).start();
    client.ask("init", "initialize", &initialize_params());
    let get = remote.get();
    assert_eq!((get.target.as_str(), get.header("accept")), ("/mcp", "text/event-stream".into()));
    let mut stream = get.events();
    stream.piece(b": hello\n\nevent: endpoint\ndata: ../messages?session_id=1\n\n");
    answer_initialize(&remote, &mut stream);
    client.next_message();
    client.notify("notifications/initialized", &json!({}));
    let initialized = remote.post();
    assert_eq!(
        (initialized.target.as_str(), initialized.header("mcp-protocol-version")),
        (ENDPOINT, VERSION.into())
    );
    initialized.accepted();
    let mut old = Old { remote, client, stream };

    old.client.ask("a", "tools/call", &json!({}));
    // Any success will do, with any body.
    old.remote.post().respond("200 OK", &["content-type: text/plain"], b"Accepted");
    old.call("b");
    old.stream.notification("notifications/message", &json!({"data": "log"}));
    old.stream.message(&json!({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {}}));
    old.result("b", &json!("b"));
    old.result("a", &json!("a"));
    assert_eq!(old.client.next_message()["params"]["data"], "log");
    assert_eq!(old.client.next_message()["method"], "sampling/createMessage");
    assert_eq!(old.client.next_message()["result"], "b");
    assert_eq!(old.client.next_message()["result"], "a");
    let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {"role": "assistant"}});
    old.client.message(&answer);
    let posted = old.remote.post();
    assert_eq!((posted.target.as_str(), posted.message()), (ENDPOINT, answer));
    posted.accepted();
    let error = json!({"code": -32602, "message": "no such tool"});
    old.call("c");
    old.stream.message(&json!({"jsonrpc": "2.0", "id": "c", "error": error}));
    assert_eq!(old.client.next_message()["error"], error);

    old.client.close_stdin();
    assert!(old.client.wait().success());
    old.stream.wait_closed();
    assert_eq!(old.remote.unasked(), [""; 0], "there is nothing to delete");
}

#[test]
fn a_server_that_refuses_streamable_http_is_asked_for_its_stream() {
    for status in ["400 Bad Request", "404 Not Found", "405 Method Not Allowed"] {
        let remote = Remote::plain();
        let mut client = Connect::to(&remote.url).start();
        client.ask("init", "initialize", &initialize_params());
        refuse(remote.asked("initialize"), status);
        // A server of the newest revision refuses in the same way, and is asked for that first.
        refuse(remote.asked("server/discover"), status);
        let mut stream = stream(&remote, ENDPOINT);
        answer_initialize(&remote, &mut stream);
        assert_eq!(client.next_message()["result"]["protocolVersion"], VERSION, "{status}");
        client.notify("notifications/initialized", &json!({}));
        remote.asked("notifications/initialized").accepted();
        Old { remote, client, stream }.still_works();
    }
}

#[test]
fn other_refusals_are_failures_and_no_transports() {
    for status in [
        "301 Moved Permanently",
        "401 Unauthorized",
        "403 Forbidden",
        "407 Proxy Authentication Required",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ] {
        let remote = Remote::plain();
        let mut client = Connect::to(&remote.url).start();
        client.ask(1, "initialize", &initialize_params());
        refuse(remote.post(), status);
        let error = client.own_error(1);
        assert!(error.contains(status) && !error.contains("HTTP+SSE"), "{error}");
        assert_eq!(remote.unasked(), [""; 0], "{status}");
    }
}

#[test]
fn a_chosen_streamable_http_is_not_left() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).config("client:\n  transport: streamable-http").start();
    client.ask(1, "initialize", &initialize_params());
    refuse(remote.asked("initialize"), "405 Method Not Allowed");
    refuse(remote.asked("server/discover"), "405 Method Not Allowed");
    assert!(client.own_error(1).contains("405"));
    assert_eq!(remote.unasked(), [""; 0]);
}

#[test]
fn a_stream_without_an_endpoint_is_not_http_sse() {
    for (first, words) in [
        (
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/a\"}\n\n",
            "does not begin with an `endpoint`",
        ),
        ("event: endpoint\ndata: http://[\n\n", "holds no URI"),
        ("", "does not begin with an `endpoint`"),
    ] {
        let remote = Remote::plain();
        let mut client = Connect::to(&remote.url).start();
        client.ask(1, "initialize", &initialize_params());
        refuse(remote.asked("initialize"), "404 Not Found");
        refuse(remote.asked("server/discover"), "404 Not Found");
        let mut events = remote.get().events();
        if !first.is_empty() {
            events.piece(first.as_bytes());
        }
        events.end();
        let error = client.own_error(1);
        assert!(error.contains("404 Not Found") && error.contains("HTTP+SSE was tried too"), "{error}");
        assert!(error.contains(words), "{error}");
        assert_eq!(remote.unasked(), [""; 0]);
    }
}

#[test]
fn nothing_is_sent_to_an_endpoint_on_another_server() {
    let elsewhere = Remote::plain();
    let remote = Remote::plain();
    let config = format!("{SSE}auth:\n  type: bearer\n  bearer:\n    token: s3cret");
    let mut client = Connect::to(&remote.url).config(&config).start();
    for (id, place) in [elsewhere.url.clone(), elsewhere.url.replace("http:", "")].into_iter().enumerate() {
        client.ask(id, "initialize", &initialize_params());
        let stream = stream(&remote, &place);
        let error = client.own_error(id);
        let port = format!("http://127.0.0.1:{}", elsewhere.port());
        assert!(error.contains("names another server") && error.contains(&port), "{error}");
        stream.wait_closed();
    }
    assert_eq!((elsewhere.accepted(), remote.unasked()), (0, vec![]));
}

#[test]
fn a_request_before_initialize_is_an_error() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).config(SSE).start();
    client.ask(1, "ping", &json!({}));
    assert!(client.own_error(1).contains("no session"));
    assert_eq!(remote.accepted(), 0);
}

#[test]
fn an_answer_may_come_before_its_request_is_taken_in() {
    let mut old = Old::open(SSE);
    old.client.ask("q", "tools/call", &json!({}));
    let call = old.remote.asked("tools/call");
    old.result("q", &json!("early"));
    assert_eq!(old.client.next_message()["result"], "early");
    call.accepted();
    old.still_works();
}

#[test]
fn what_is_said_to_a_post_does_not_matter_however_long_it_is() {
    let mut old = Old::open(SSE);
    for body in ["", "x"] {
        old.client.ask("q", "tools/call", &json!({}));
        let mut wire = old.remote.asked("tools/call").into_wire();
        wire.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
        let piece = body.repeat(16 * 1024);
        let saying = thread::spawn(move || {
            while !piece.is_empty() && wire.write_all(piece.as_bytes()).is_ok() {}
            wire
        });
        old.result("q", &json!({}));
        assert_eq!(old.client.next_message()["id"], "q");
        drop(saying.join().unwrap());
    }
    old.still_works();
}

#[test]
fn a_stream_that_never_names_the_endpoint_costs_the_timeout() {
    for piece in [&b""[..], b": hello\n\n"] {
        let remote = Remote::plain();
        let mut client = Connect::to(&remote.url).config(&format!("{SSE}  timeout: 300ms")).start();
        client.ask("q", "initialize", &initialize_params());
        let mut events = remote.get().events();
        let saying = thread::spawn(move || {
            while !piece.is_empty() && events.try_piece(piece).is_ok() {}
            events
        });
        assert!(client.own_error("q").contains("did not answer within 300ms"));
        saying.join().unwrap().wait_closed();
        assert_eq!(remote.unasked(), [""; 0]);
    }
}

#[test]
fn an_answer_just_before_the_end_of_the_stream_counts() {
    let mut old = Old::open(QUICK);
    old.call("q");
    old.result("q", &json!("last words"));
    old.stream.end();
    assert_eq!(old.client.next_message()["result"], "last words");
}

#[test]
fn a_refused_post_is_the_error_of_its_request_alone() {
    let mut old = Old::open(SSE);
    old.call("a");
    for (id, status) in
        ["400 Bad Request", "500 Internal Server Error", "307 Temporary Redirect"].iter().enumerate()
    {
        old.client.ask(id, "tools/call", &json!({}));
        refuse(old.remote.post(), status);
        assert!(old.client.own_error(id).contains(status));
    }
    old.client.ask("broken", "tools/call", &json!({}));
    drop(old.remote.post());
    assert!(old.client.own_error("broken").contains("may have run"));
    old.result("a", &json!("a"));
    assert_eq!(old.client.next_message()["result"], "a");
    old.still_works();
}

#[test]
fn a_stream_that_is_lost_fails_what_is_in_flight_and_is_opened_again() {
    let mut old = Old::open(QUICK);
    old.client.ask("s", "resources/subscribe", &json!({"uri": "test://a"}));
    old.remote.post().accepted();
    old.result("s", &json!({}));
    old.client.next_message();
    old.client.ask("l", "logging/setLevel", &json!({"level": "debug"}));
    old.remote.post().accepted();
    old.stream.message(&json!({"jsonrpc": "2.0", "id": "l", "error": {"code": -32601, "message": "no"}}));
    old.client.next_message();
    old.call("a");
    old.client.ask("b", "tools/call", &json!({}));
    let not_taken_in = old.remote.asked("tools/call");
    drop(old.stream);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let error = old.client.next_message();
        assert!(error["error"]["message"].as_str().unwrap().contains("may have run"), "{error}");
        ids.push(error["id"].clone());
    }
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, ["a", "b"]);
    drop(not_taken_in);

    let mut stream = stream(&old.remote, ENDPOINT);
    // What the server says meanwhile reaches the client, and the bridge's own answers do not.
    stream.notification("notifications/message", &json!({"data": "meanwhile"}));
    answer_initialize(&old.remote, &mut stream);
    let initialized = old.remote.post();
    assert_eq!(initialized.message()["method"], "notifications/initialized");
    initialized.accepted();
    let subscribe = old.remote.post();
    assert_eq!(subscribe.message()["method"], "resources/subscribe", "and the level was refused");
    subscribe.accepted();
    stream.message(&json!({"jsonrpc": "2.0", "id": "s", "result": {}}));
    assert_eq!(old.client.next_message()["params"]["data"], "meanwhile");
    Old { remote: old.remote, client: old.client, stream }.still_works();
}

#[test]
fn a_stream_that_can_not_be_opened_again_is_given_up_until_the_next_request() {
    let mut old = Old::open(QUICK);
    drop(old.stream);
    for _ in 0..2 {
        refuse(old.remote.get(), "503 Service Unavailable");
    }
    // One more, if the stream was lost before anybody listened to it.
    until("it gives up", || {
        old.remote.come("GET").into_iter().for_each(|get| refuse(get, "503 Service Unavailable"));
        old.client.stderr().contains("can't be opened")
    });
    old.client.ask("q", "tools/call", &json!({}));
    refuse(old.remote.get(), "503 Service Unavailable");
    let error = old.client.own_error("q");
    assert!(error.contains("session was lost") && error.contains("503"), "{error}");
    old.client.ask("q", "tools/call", &json!({}));
    let mut stream = stream(&old.remote, ENDPOINT);
    answer_initialize(&old.remote, &mut stream);
    old.remote.asked("notifications/initialized").accepted();
    old.remote.asked("tools/call").accepted();
    stream.message(&json!({"jsonrpc": "2.0", "id": "q", "result": "at last"}));
    assert_eq!(old.client.next_message()["result"], "at last");
}

#[test]
fn a_404_to_a_message_opens_the_session_again_and_sends_it_once_more() {
    let mut old = Old::open(SSE);
    let call = json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": {"x": 1}});
    old.client.message(&call);
    refuse(old.remote.post(), "404 Not Found");
    let mut stream = stream(&old.remote, ENDPOINT);
    answer_initialize(&old.remote, &mut stream);
    old.remote.asked("notifications/initialized").accepted();
    let again = old.remote.post();
    assert_eq!(again.message(), call);
    again.accepted();
    old.stream.wait_closed();
    stream.message(&json!({"jsonrpc": "2.0", "id": "q", "result": "done"}));
    assert_eq!(old.client.next_message()["result"], "done");
    Old { remote: old.remote, client: old.client, stream }.still_works();
}

#[test]
fn a_new_initialize_of_the_client_closes_the_stream_of_the_one_before() {
    let old = Old::open(SSE);
    let again = Old::begun(old.remote, old.client);
    old.stream.wait_closed();
    Old { ..again }.still_works();
}

#[test]
fn a_cancelled_request_is_dropped_and_its_cancellation_posted() {
    let mut old = Old::open(SSE);
    old.call("q");
    old.client.notify("notifications/cancelled", &json!({"requestId": "q"}));
    let cancelled = old.remote.post();
    assert_eq!(
        (cancelled.target.as_str(), &cancelled.message()["params"]["requestId"]),
        (ENDPOINT, &json!("q"))
    );
    cancelled.accepted();
    old.result("q", &json!("too late"));
    old.still_works();
}

#[test]
fn a_silent_server_costs_the_timeout_and_progress_keeps_its_call_alive() {
    let mut old = Old::open(&format!("{SSE}  timeout: 1s"));
    old.call("alive");
    old.call("silent");
    let began = Instant::now();
    let (mut sent, mut silent) = (0, None);
    while began.elapsed() < Duration::from_millis(1500) || silent.is_none() {
        sent += 1;
        old.stream
            .notification("notifications/progress", &json!({"progressToken": "alive", "progress": sent}));
        loop {
            let message = old.client.next_message();
            if message["params"]["progress"] == sent {
                break;
            }
            assert!(silent.is_none(), "{message}");
            silent = Some(message);
        }
    }
    let silent = silent.unwrap();
    assert_eq!(silent["id"], "silent");
    assert!(silent["error"]["message"].as_str().unwrap().contains("did not answer within 1s"), "{silent}");
    let cancelled = old.remote.asked("notifications/cancelled");
    assert_eq!(cancelled.message()["params"]["requestId"], "silent");
    cancelled.accepted();
    old.result("alive", &json!("done"));
    assert_eq!(old.client.next_message()["result"], "done");
}

#[test]
fn a_refused_initialize_is_the_servers_own_error() {
    let remote = Remote::plain();
    let mut client = Connect::to(&remote.url).config(SSE).start();
    client.ask(1, "initialize", &initialize_params());
    let mut stream = stream(&remote, ENDPOINT);
    remote.post().accepted();
    stream.message(&json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "too new"}}));
    assert_eq!(client.next_message()["error"]["message"], "too new");
}

#[test]
fn a_renewed_token_is_sent_to_the_endpoint_and_with_the_next_stream() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let remote = Remote::plain();
    let client =
        Connect::to(&remote.url).config(QUICK).args(["--token-file", file.to_str().unwrap()]).start();
    let mut old = Old::begun(remote, client);
    old.client.ask("q", "tools/call", &json!({}));
    let refused = old.remote.post();
    assert_eq!(refused.header("authorization"), "Bearer old");
    std::fs::write(&file, "new").unwrap();
    refuse(refused, "401 Unauthorized");
    let again = old.remote.post();
    assert_eq!((again.target.as_str(), again.header("authorization")), (ENDPOINT, "Bearer new".into()));
    again.accepted();
    old.result("q", &json!({}));
    old.client.next_message();
    drop(old.stream);
    assert_eq!(old.remote.get().header("authorization"), "Bearer new");
}

#[test]
fn the_stream_and_the_messages_take_the_proxy() {
    let (proxy, remote) = (Proxy::start(None), Remote::tls());
    let config = format!("{SSE}  proxy: http://127.0.0.1:{}", proxy.port);
    let client = Connect::to(&remote.url).config(&config).start();
    let mut old = Old::begun(remote, client);
    for _ in 0..2 {
        assert!(proxy.head().starts_with(&format!("CONNECT 127.0.0.1:{} ", old.remote.port())));
    }
    old.still_works();
}

#[test]
fn a_signal_ends_the_session_and_the_process() {
    let mut old = Old::open(SSE);
    old.call("q");
    old.client.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(old.client.wait().success());
    old.stream.wait_closed();
}

#[test]
fn serve_and_connect_understand_each_other_by_http_sse() {
    for guard in [Guard::None, Guard::Mutual, Guard::Bearer] {
        let bridge = Bridge::serve(guard);
        let mut connect = to_sse(&bridge);
        assert_eq!(connect.initialize()["result"]["serverInfo"]["name"], "fixture-server");
        let said = connect.call("echo", &json!({"message": "héllo"}));
        assert_eq!(said["result"]["content"][0]["text"], "héllo");
        let pid = connect.call("about", &json!({}))["result"]["structuredContent"]["pid"].clone();
        connect.close_stdin();
        assert!(connect.wait().success());
        let proc = format!("/proc/{pid}");
        until("the child of the session ends", || !std::path::Path::new(&proc).exists());
    }
}

fn to_sse(bridge: &Bridge) -> Process {
    let command = bridge.connect_command_to("/sse");
    Process::spawn(Command::new(&command[0]).args(&command[1..]).env(TOKEN_VARIABLE, TOKEN))
}
