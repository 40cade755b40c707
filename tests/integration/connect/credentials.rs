//! Tokens and headers: sent to the server that they are for, and shown to nobody.

use std::fs::File;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::connect::{Connect, Pair, initialize_params};
use crate::support::remote::{Remote, closed_port};

const SECRET: &str = "s3cret-0f-the-t0ken";
const BY_VARIABLE: &str = "auth:\n  type: bearer\n  bearer:\n    token_env: THE_TOKEN";

#[test]
fn a_token_of_the_environment_is_sent_with_every_request() {
    let mut pair = Pair::listening(Remote::plain(), by_variable);
    let get = pair.remote.get();
    assert_eq!(get.header("authorization"), format!("Bearer {SECRET}"));
    get.respond("405 Method Not Allowed", &[], b"");
    pair.client.ask(1, "ping", &json!({}));
    let ping = pair.remote.post();
    assert_eq!(ping.header("authorization"), format!("Bearer {SECRET}"));
    ping.result(&json!({}));
    pair.client.next_message();
    pair.client.close_stdin();
    let delete = pair.remote.delete();
    assert_eq!(delete.header("authorization"), format!("Bearer {SECRET}"));
    delete.respond("200 OK", &[], b"");
    assert!(pair.client.wait().success());
}

#[test]
fn a_token_never_shows() {
    let remote = Remote::plain();
    let config = format!(
        "{BY_VARIABLE}\nclient:\n  headers:\n    X-Key: hidden-{SECRET}\nlogging:\n  level: debug\n  bodies: true"
    );
    let mut client = Connect::to(&remote.url).config(&config).env("THE_TOKEN", SECRET).start();
    client.ask(1, "initialize", &initialize_params());
    let request = remote.post();
    assert_eq!(request.header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(request.header("x-key"), format!("hidden-{SECRET}"));
    request.respond("401 Unauthorized", &["www-authenticate: Bearer error=\"invalid_token\""], b"");
    let refused = client.own_error(1);
    client.ask(2, "ping", &json!({}));
    drop(remote.post());
    let broken = client.own_error(2);
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", client.pid())).unwrap();
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(client.next_line(), None);
    for said in [refused, broken, arguments, client.stderr()] {
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[test]
fn a_token_does_not_follow_a_redirect() {
    let elsewhere = Remote::plain();
    let mut pair = Pair::open_with(Remote::plain(), by_variable);
    for (id, status) in ["302 Found", "307 Temporary Redirect"].iter().enumerate() {
        pair.client.ask(id, "tools/call", &json!({}));
        pair.remote.post().respond(status, &[&format!("location: {}", elsewhere.url)], b"");
        assert!(pair.client.own_error(id).contains(&elsewhere.url));
    }
    assert_eq!(elsewhere.accepted(), 0);
}

#[test]
fn a_token_file_that_changes_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let mut pair =
        Pair::open_with(Remote::plain(), |connect| connect.args(["--token-file", file.to_str().unwrap()]));
    let mut age = SystemTime::now() - Duration::from_secs(1000);
    for token in ["second", "third"] {
        std::fs::write(&file, format!("  {token}\r\n")).unwrap();
        // Two writes may fall into one tick of the file system's clock.
        age += Duration::from_secs(10);
        File::options().write(true).open(&file).unwrap().set_modified(age).unwrap();
        pair.client.ask(1, "ping", &json!({}));
        let ping = pair.remote.post();
        assert_eq!(ping.header("authorization"), format!("Bearer {token}"));
        ping.result(&json!({}));
        pair.client.next_message();
    }
    std::fs::remove_file(&file).unwrap();
    pair.client.ask(1, "ping", &json!({}));
    assert_eq!(pair.remote.post().header("authorization"), "Bearer third", "the last one that could be read");
}

#[test]
fn a_401_with_a_renewed_token_file_costs_one_more_try_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let mut pair =
        Pair::open_with(Remote::plain(), |connect| connect.args(["--token-file", file.to_str().unwrap()]));
    let call = json!({"jsonrpc": "2.0", "id": "q", "method": "tools/call", "params": {"x": 1}});
    pair.client.message(&call);
    let refused = pair.remote.post();
    assert_eq!(refused.header("authorization"), "Bearer old");
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    std::fs::write(&file, "new").unwrap();
    // Though it does not look changed, a 401 makes it worth while to read it.
    File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    refused.respond("401 Unauthorized", &[], b"");
    let again = pair.remote.post();
    assert_eq!((again.header("authorization"), again.message()), ("Bearer new".to_owned(), call));
    again.respond("401 Unauthorized", &[], b"");
    let error = pair.client.own_error("q");
    assert!(error.contains("401"), "{error}");
    assert_eq!(pair.remote.unasked(), [""; 0], "once more is all");
}

#[test]
fn a_token_file_that_is_missing_is_an_error_at_start() {
    let mut client =
        Connect::to("http://127.0.0.1:1/mcp").args(["--token-file", "/nonexistent/token"]).start();
    assert_eq!(client.wait().code(), Some(2));
    let stderr = client.stderr();
    assert!(stderr.contains("auth.bearer.token_file") && stderr.contains("/nonexistent/token"), "{stderr}");
    assert_eq!(client.next_line(), None);
}

#[test]
fn extra_headers_are_sent_and_break_nothing() {
    let config = "client:\n  headers:\n    X-Team: blue\n    User-Agent: mine";
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(config));
    pair.client.ask(1, "ping", &json!({}));
    let ping = pair.remote.post();
    assert_eq!((ping.header("x-team"), ping.header("user-agent")), ("blue".into(), "mine".into()));
    assert_eq!(
        (ping.header("mcp-session-id"), ping.header("content-type")),
        ("session-1".into(), "application/json".into())
    );
}

#[test]
fn an_unreachable_server_is_named_without_the_token() {
    let url = format!("http://127.0.0.1:{}/mcp", closed_port());
    let once = "client:\n  retry:\n    enabled: false\nlogging:\n  level: debug";
    let mut client = by_variable(Connect::to(&url)).config(once).start();
    client.ask(1, "ping", &json!({}));
    let error = client.own_error(1);
    assert!(error.contains("refused"), "{error}");
    assert!(!format!("{error}{}", client.stderr()).contains(SECRET));
}

fn by_variable(connect: Connect) -> Connect {
    connect.config(BY_VARIABLE).env("THE_TOKEN", SECRET)
}
