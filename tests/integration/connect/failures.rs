//! What a remote server can do wrong, and what the client is told: always an error under the request's own id.

use std::io::Write;

use serde_json::{Value, json};

use crate::support::connect::Pair;
use crate::support::remote::{Remote, Request};

const HTML: &str = "content-type: text/html";
const JSON: &str = "content-type: application/json";

#[test]
fn a_401_names_the_credentials_to_set() {
    let error = error_to(|call| {
        call.respond("401 Unauthorized", &["www-authenticate: Bearer realm=\"tools\""], b"");
    });
    contains(&error, &["401 Unauthorized", "Bearer realm=\"tools\"", "auth.type bearer"]);
}

#[test]
fn a_403_says_that_the_client_is_not_let_in() {
    let error = error_to(|call| call.respond("403 Forbidden", &["content-type: text/plain"], b"not\n\tyou"));
    contains(&error, &["403 Forbidden", "does not let this client in", "it said: not you"]);
}

#[test]
fn a_404_without_a_session_says_to_look_at_the_path() {
    let remote = Remote::plain();
    let mut client = crate::support::connect::Connect::to(&remote.url).start();
    client.ask("a", "initialize", &json!({}));
    for method in ["initialize", "server/discover"] {
        remote.asked(method).respond("404 Not Found", &[HTML], b"<h1>Not here</h1>");
    }
    remote.get().respond("404 Not Found", &[HTML], b"<h1>Not here either</h1>");
    contains(&client.own_error("a"), &["404 Not Found", "client.url", "path", "HTTP+SSE was tried too"]);
    client.ask("b", "ping", &json!({}));
    remote.post().respond("404 Not Found", &[], b"");
    contains(&client.own_error("b"), &["404 Not Found"]);
    assert_eq!(remote.unasked(), [""; 0]);
}

#[test]
fn a_405_says_that_this_is_no_endpoint() {
    let error = error_to(|call| call.respond("405 Method Not Allowed", &["allow: GET"], b""));
    contains(&error, &["405", "Streamable HTTP", "client.url"]);
}

#[test]
fn a_429_says_when_to_try_again() {
    let error = error_to(|call| call.respond("429 Too Many Requests", &["retry-after: 17"], b""));
    contains(&error, &["429", "17", "busy"]);
}

#[test]
fn a_failing_proxy_with_a_page_for_people_is_a_status_and_no_html() {
    let page = format!("<html>{}</html>", "x".repeat(100_000));
    let error = error_to(|call| call.respond("502 Bad Gateway", &[HTML], page.as_bytes()));
    contains(&error, &["502 Bad Gateway", "proxy"]);
    assert!(!error.contains("html") && error.len() < 500, "{error}");
}

#[test]
fn a_503_in_plain_words_is_quoted_and_bounded() {
    let body = format!("down for\r\nmaintenance \u{1b}[31m{}", "z".repeat(10_000));
    let error = error_to(|call| {
        call.respond("503 Service Unavailable", &["content-type: text/plain"], body.as_bytes());
    });
    contains(&error, &["503", "down for maintenance [31m"]);
    assert!(error.len() < 600 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_redirect_is_named_and_not_followed() {
    let elsewhere = Remote::plain();
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: {}", elsewhere.url);
        let error = error_to(|call| call.respond(status, &[&location], b""));
        contains(&error, &[status, &elsewhere.url, "client.url"]);
    }
    assert_eq!(elsewhere.accepted(), 0);
}

#[test]
fn a_202_is_no_answer_to_a_request() {
    contains(&error_to(Request::accepted), &["202", "without an answer"]);
}

#[test]
fn an_answer_of_the_wrong_type_is_named() {
    let error = error_to(|call| call.respond("200 OK", &[HTML], b"<h1>Welcome</h1>"));
    contains(&error, &["text/html", "client.url"]);
    let error = error_to(|call| call.respond("200 OK", &[], b"{}"));
    contains(&error, &["no Content-Type"]);
}

#[test]
fn malformed_json_is_named() {
    let error = error_to(|call| call.respond("200 OK", &[JSON], b"{\"jsonrpc\":\"2.0\",\"id\":"));
    contains(&error, &["can't be used", "not one JSON value"]);
    let error = error_to(|call| call.respond("200 OK", &[JSON], b"{\"id\":\"q\",\"result\":{}}"));
    contains(&error, &["can't be used", "jsonrpc"]);
    let error = error_to(|call| call.respond("200 OK", &[JSON], b""));
    contains(&error, &["can't be used"]);
}

#[test]
fn an_error_of_the_server_in_a_4xx_is_the_answer_under_the_own_id() {
    let mut pair = Pair::open();
    for id in [json!(null), json!("someone-else"), json!("q")] {
        pair.client.ask("q", "tools/call", &json!({}));
        let error = json!({"code": -32602, "message": "no such tool", "data": [1.0]});
        let body = json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string();
        pair.remote.post().respond("400 Bad Request", &[JSON], body.as_bytes());
        assert_eq!(pair.client.next_message(), json!({"jsonrpc": "2.0", "id": "q", "error": error}));
    }
}

#[test]
fn an_answer_to_something_else_is_none() {
    let error = error_to(|call| call.json(&json!({"jsonrpc": "2.0", "id": "other", "result": {}})));
    contains(&error, &["answers another request"]);
}

#[test]
fn an_answer_counts_once_and_only_if_somebody_waits_for_it() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.message(&json!({"jsonrpc": "2.0", "id": "never-asked", "result": 0}));
    events.result(&json!(1));
    events.result(&json!(2));
    events.notification("notifications/message", &json!({"data": "last words"}));
    events.end();
    assert_eq!(pair.client.next_message()["result"], 1);
    assert_eq!(pair.client.next_message()["params"]["data"], "last words");
    pair.still_works();
}

#[test]
fn a_server_that_closes_before_it_answers_is_not_asked_again() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let call = pair.remote.post();
    assert_eq!(call.message()["id"], "q");
    drop(call);
    contains(&pair.client.own_error("q"), &["broke before the answer", "may have run"]);
    pair.still_works();
}

#[test]
fn an_answer_that_breaks_off_is_not_asked_for_again() {
    let mut pair = Pair::open();
    for begun in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{\"jsonrpc\":",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:",
        "HTTP/1.1 200 OK\r\nconte",
    ] {
        pair.client.ask("q", "tools/call", &json!({}));
        pair.remote.post().raw(begun.as_bytes());
        contains(&pair.client.own_error("q"), &["broke before the answer", "may have run"]);
    }
    pair.still_works();
}

#[test]
fn a_stream_that_ends_without_the_answer_is_an_error() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.notification("notifications/message", &json!({"data": "so far"}));
    events.end();
    assert_eq!(pair.client.next_message()["params"]["data"], "so far");
    contains(&pair.client.own_error("q"), &["ended the stream without an answer", "may have run"]);
    pair.still_works();
}

#[test]
fn a_server_that_speaks_no_http_is_an_error() {
    let error = error_to(|call| call.raw(b"220 mail.example.com ESMTP\r\n"));
    contains(&error, &["connection to the server broke"]);
}

#[test]
fn a_silent_server_costs_the_timeout_and_is_told_that_the_call_is_cancelled() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config("client:\n  timeout: 300ms"));
    pair.client.ask("q", "tools/call", &json!({}));
    let call = pair.remote.asked("tools/call");
    contains(&pair.client.own_error("q"), &["did not answer within 300ms"]);
    let cancelled = pair.remote.asked("notifications/cancelled");
    assert_eq!(cancelled.message()["params"]["requestId"], "q");
    assert_eq!(cancelled.header("mcp-session-id"), "session-1");
    cancelled.accepted();
    call.wait_closed();
}

#[test]
fn messages_of_an_exchange_keep_it_alive_beyond_the_timeout() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config("client:\n  timeout: 1s"));
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    let began = std::time::Instant::now();
    let mut sent = 0;
    // Each waits for the one before, and they go on for longer than the server may be silent.
    while began.elapsed() < std::time::Duration::from_millis(1500) {
        sent += 1;
        events.notification("notifications/progress", &json!({"progressToken": 1, "progress": sent}));
        assert_eq!(pair.client.next_message()["params"]["progress"], sent);
    }
    events.result(&json!("done"));
    assert_eq!(pair.client.next_message()["result"], "done");
}

#[test]
fn initialize_that_times_out_is_an_error_and_is_never_cancelled() {
    let remote = Remote::plain();
    let mut client =
        crate::support::connect::Connect::to(&remote.url).config("client:\n  timeout: 300ms").start();
    client.ask("i", "initialize", &json!({}));
    let held = remote.post();
    contains(&client.own_error("i"), &["did not answer within 300ms"]);
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(remote.unasked(), [""; 0]);
    drop(held);
}

#[test]
fn an_answer_beyond_the_bound_is_refused_and_the_session_goes_on() {
    const TOO_MUCH: usize = 65 * 1024 * 1024;
    let mut pair = Pair::open();
    for head in ["application/json", "text/event-stream"] {
        pair.client.ask("q", "tools/call", &json!({}));
        let mut wire = pair.remote.post().into_wire();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {head}\r\ncontent-length: {TOO_MUCH}\r\n\r\n");
        wire.write_all(head.as_bytes()).unwrap();
        wire.write_all(b"data: \"").unwrap();
        let piece = vec![b'x'; 1024 * 1024];
        // It may stop reading at any time from its bound on.
        let _ = (0..65).try_for_each(|_| wire.write_all(&piece));
        contains(&pair.client.own_error("q"), &["can't be used", "more than 67108864 bytes"]);
    }
    pair.still_works();
}

#[test]
fn a_head_beyond_the_bound_is_refused() {
    let headers = format!("x: {}\r\n", "y".repeat(1024)).repeat(2000);
    let error = error_to(|call| {
        let mut wire = call.into_wire();
        let _ = wire.write_all(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes());
    });
    contains(&error, &["connection to the server broke"]);
}

#[test]
fn a_failure_is_one_line_of_the_log_and_shows_the_beginning_of_a_long_id() {
    let mut pair = Pair::open();
    let id = "i".repeat(10_000);
    pair.client.ask(id.as_str(), "tools/call", &json!({}));
    pair.remote.post().respond("403 Forbidden", &[], b"");
    pair.client.own_error(id.as_str());
    pair.client.logged("request \"iiii");
    pair.still_works();
    let stderr = pair.client.stderr();
    assert_eq!(stderr.matches("403").count(), 1, "{stderr}");
    assert!(stderr.len() < 1000, "{stderr}");
}

#[test]
fn no_failure_ends_the_session() {
    let mut pair = Pair::open();
    for (id, status) in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "429 Too Many Requests",
        "500 Internal Server Error",
    ]
    .iter()
    .enumerate()
    {
        pair.client.ask(id, "tools/call", &json!({}));
        let call = pair.remote.post();
        assert_eq!(call.header("mcp-session-id"), "session-1");
        call.respond(status, &[], b"");
        contains(&pair.client.own_error(id), &[status]);
    }
    pair.still_works();
}

/// The bridge's error for a call in a session that the server answers in that manner.
fn error_to(answer: impl FnOnce(Request)) -> String {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({"name": "x"}));
    answer(pair.remote.post());
    let error = pair.client.own_error("q");
    pair.still_works();
    error
}

fn contains(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

impl Pair {
    /// Neither a second answer nor a second request has come of what was before.
    fn still_works(&mut self) {
        let id: Value = json!({"jsonrpc": "2.0", "id": "after", "method": "ping"});
        self.client.message(&id);
        let ping = self.remote.post();
        assert_eq!(ping.message(), id);
        ping.result(&json!({}));
        assert_eq!(self.client.next_message()["id"], "after");
        assert_eq!(self.remote.unasked(), [""; 0]);
    }
}
