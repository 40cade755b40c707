//! SIGHUP: what can change while running changes, and what is wrong changes nothing.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::json;

use super::scrape::{METRICS, Scrape};
use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::Http;
use crate::support::modern::{Modern, Request};
use crate::support::proc::is_alive;
use crate::support::process::Process;
use crate::support::raw::Raw;
use crate::support::session::{Session, initialize};
use crate::support::{eventually, fixture_server};
use crate::tls_process::support::{Site, times};

const DONE: &str = "the configuration was loaded anew";
const FAILED: &str = "reload failed, nothing has changed";

/// A `serve` whose file a test rewrites.
struct Served {
    process: Process,
    url: String,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

fn whole(config: &str) -> String {
    format!("mode: server\nmcp: {{command: {}}}\n{METRICS}\n{config}\n", fixture_server())
}

impl Served {
    fn with(config: &str) -> Self {
        Self::of(&whole(config))
    }

    fn of(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bridge.yaml");
        fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(crate::support::BRIDGE);
        let process = Process::spawn(command.args(["serve", "--listen", "127.0.0.1:0", "-c"]).arg(&file));
        let line = process.logged("listening on ");
        let url = line.split("listening on ").nth(1).unwrap().to_owned();
        Self { process, url, file, _dir: dir }
    }

    fn http(&self) -> Http {
        Http::new(&self.url)
    }

    /// Loads this text, and says what came of it.
    async fn load(&self, text: &str) -> String {
        fs::write(&self.file, text).unwrap();
        self.hang_up().await
    }

    async fn reload(&self, config: &str) {
        let line = self.load(&whole(config)).await;
        assert!(line.contains(DONE), "{}", self.process.stderr());
    }

    async fn hang_up(&self) -> String {
        reloaded(&self.process).await
    }
}

/// Reloads, and waits for the line that says how that went.
async fn reloaded(process: &Process) -> String {
    let lines = || {
        let log = process.stderr();
        let done = log.lines().filter(|line| line.contains(DONE) || line.contains(FAILED));
        done.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = lines().len();
    process.signal(Signal::SIGHUP);
    eventually("the reload", || lines().get(before).cloned()).await
}

fn bearer(tokens: &str) -> String {
    format!("auth: {{type: bearer, bearer: {{tokens: [{tokens}]}}}}")
}

fn as_token(http: &Http, token: &str) -> Http {
    http.clone().header("authorization", &format!("Bearer {token}"))
}

async fn status(http: &Http) -> u16 {
    http.post(initialize(&json!({}))).await.status.as_u16()
}

#[tokio::test]
async fn tokens_change_and_sessions_of_those_that_are_no_more_end() {
    let served = Served::with(&bearer("old, both"));
    let [old, both, new] = ["old", "both", "new"].map(|token| as_token(&served.http(), token));
    let (ends, stays) = (Session::open(&old).await, Session::open(&both).await);
    let about = ends.call("about", json!({})).await;
    let child = u32::try_from(about["result"]["structuredContent"]["pid"].as_u64().unwrap()).unwrap();
    let mut stream = ends.http.get().await;
    stream.primed().await;
    assert_eq!(status(&new).await, 401);
    served.reload(&bearer("new, both")).await;
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    assert!(stream.next_event().await.is_none(), "the stream of a token that is no more goes on");
    eventually("the end of its server", || (!is_alive(child)).then_some(())).await;
    assert!(stays.call("echo", json!({"message": "x"})).await["result"].is_object());
    served.reload("").await;
    assert_eq!(status(&served.http()).await, 200);
    served.reload(&bearer("new")).await;
    assert_eq!(status(&served.http()).await, 401);
}

#[tokio::test]
async fn modern_requests_of_tokens_that_are_no_more_end_too() {
    for args in ["", "args: [--modern], "] {
        let text = |tokens| whole(&bearer(tokens)).replace("mcp: {", &format!("mcp: {{{args}"));
        let served = Served::of(&text("old, both"));
        let [old, both] = ["old", "both"].map(|token| Modern(as_token(&served.http(), token)));
        let mut listener = old.listen("s", json!({"toolsListChanged": true})).await;
        let never = |token| Request::call(1, "never", json!({})).meta("progressToken", token);
        let (mut ends, mut stays) = (old.post(&never("e")).await, both.post(&never("s")).await);
        for stream in [&mut ends, &mut stays] {
            assert_eq!(stream.next_message().await.unwrap()["method"], "notifications/progress");
        }
        assert!(served.load(&text("both")).await.contains(DONE));
        assert_eq!((ends.next_message().await, listener.next_message().await), (None, None), "{args}");
        assert_eq!(old.post(&Request::call(2, "echo", json!({}))).await.status, 401);
        let requests = "mcp_bridge_exchanges_in_flight";
        while Scrape::of(&served.process).await.sum(requests, &[]) != 1 {}
        if args.is_empty() {
            // The session that was theirs alone, of the two.
            while Scrape::of(&served.process).await.sum("mcp_bridge_sessions", &[]) != 1 {}
        } else {
            assert_eq!(both.cancelled(2).await, 2);
        }
    }
}

#[tokio::test]
async fn a_request_whose_body_comes_after_its_token_has_gone_is_refused() {
    let served = Served::with(&bearer("old"));
    let body = initialize(&json!({}));
    let mut raw = Raw::open(&served.url).await;
    raw.send(&format!(
        "POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer old\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ))
    .await;
    // It is asked for once the head was judged.
    assert_eq!(raw.answer().await.status, 100);
    served.reload(&bearer("new")).await;
    raw.send(&body).await;
    let answer = raw.answer().await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn hosts_origins_and_cors_change() {
    let served = Served::with("");
    let host = served.http().header("host", "mcp.example.com");
    let page = served.http().header("origin", "https://app.example.com");
    assert_eq!((status(&host).await, status(&page).await), (403, 403));
    served
        .reload("server:\n  allowed_hosts: [mcp.example.com, 127.0.0.1]\n  cors: {allowed_origins: ['https://app.example.com']}")
        .await;
    assert_eq!(status(&host).await, 200);
    let response = page.post(initialize(&json!({}))).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), "https://app.example.com");
    served.reload("server:\n  allowed_origins: ['https://other.example.com']").await;
    assert_eq!((status(&host).await, status(&page).await), (403, 403));
}

#[tokio::test]
async fn limits_change() {
    let served = Served::with("");
    let session = Session::open(&served.http()).await;
    let call =
        json!({"jsonrpc": "2.0", "id": 9, "method": "ping", "params": {"x": "y".repeat(3000)}}).to_string();
    assert_eq!(session.http.post(call.clone()).await.status, 200);
    served.reload("server: {max_body_size: 2KiB, max_connections: 50, session: {max_sessions: 1}}").await;
    assert_eq!(session.http.post(call.clone()).await.status, 413);
    assert_eq!(status(&served.http()).await, 503);
    let scrape = Scrape::of(&served.process).await;
    assert_eq!(scrape.sum("mcp_bridge_connections_limit", &[]), 50);
    served.reload("").await;
    assert_eq!(session.http.post(call).await.status, 200);
    assert_eq!(status(&served.http()).await, 200);
}

#[tokio::test]
async fn a_shorter_patience_holds_for_new_sessions() {
    let served = Served::with("");
    let text = whole("").replace("mcp: {", "mcp: {request_timeout: 50ms, ");
    assert!(served.load(&text).await.contains(DONE));
    let session = Session::open(&served.http()).await;
    let answer = session.call("never", json!({})).await;
    assert_eq!(answer["error"]["data"]["reason"], "timed_out", "{answer}");
    for args in ["", "args: [--modern], "] {
        let text =
            |timeout| whole("").replace("mcp: {", &format!("mcp: {{{args}request_timeout: {timeout}, "));
        let served = Served::of(&text("1h"));
        let client = Modern(served.http());
        if !args.is_empty() {
            // The shared child is there already.
            client.call("echo", json!({})).await;
        }
        assert!(served.load(&text("50ms")).await.contains(DONE));
        let answer = client.call("never", json!({})).await;
        assert_eq!(answer["error"]["data"]["reason"], "timed_out", "{answer}");
    }
}

#[tokio::test]
async fn the_log_changes() {
    let served = Served::with("");
    served.reload("logging: {level: debug, format: json}").await;
    served.process.logged(r#""message":"the configuration was loaded anew""#);
    assert_eq!(served.http().path("/health").get().await.status, 200);
    eventually("a line at debug", || served.process.stderr().contains("GET /health").then_some(())).await;
    fs::write(&served.file, whole("logging: {level: error}")).unwrap();
    served.process.signal(Signal::SIGHUP);
    let reloads = "mcp_bridge_config_reloads_total";
    while Scrape::of(&served.process).await.sum(reloads, &["\"ok\""]) < 2 {}
    Session::open(&served.http()).await;
    // The log of before may still be on its way, but nothing was posted then.
    assert!(!served.process.stderr().contains("POST "), "{}", served.process.stderr());
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_told_with_its_line() {
    let served = Served::with(&bearer("good"));
    let good = as_token(&served.http(), "good");
    let session = Session::open(&good).await;
    let bad = bearer("other");
    let cases = [
        (
            whole(&format!("{bad}\nserver:\n  max_body_sizes: 1")),
            "bridge.yaml:7: server.max_body_sizes",
            "max_body_size",
        ),
        (
            whole(&format!("{bad}\nserver:\n  read_timeout: soon")),
            "bridge.yaml:7: server.read_timeout",
            "soon",
        ),
        (
            whole(&format!("{bad}\nlogging:\n  output: /no/such/folder/log")),
            "bridge.yaml:7: logging.output",
            "/no/such",
        ),
        (whole(&bearer("'${NO_SUCH_VARIABLE}'")), "bridge.yaml:5: auth.bearer.tokens", "NO_SUCH_VARIABLE"),
        (
            format!("mode: server\nmcp: {{command: /no/such/server}}\n{bad}"),
            "bridge.yaml:2: mcp.command",
            "/no/such/server: no such file",
        ),
        (whole(&bad).replace("mcp: {", "mcp: {dir: /no/such/folder, "), "bridge.yaml:2: mcp.dir", "/no/such"),
        ("mode: client\nclient: {url: 'https://h/'}".to_owned(), "bridge.yaml:1: mode", "is client"),
        ("server: [".to_owned(), "bridge.yaml", ""),
    ];
    for (text, place, word) in &cases {
        let line = served.load(text).await;
        assert!(line.contains("ERROR") && line.contains(FAILED), "{line}");
        assert!(line.contains(place) && line.contains(word), "{place} {word}: {line}");
        assert_eq!(status(&as_token(&served.http(), "other")).await, 401);
    }
    fs::remove_file(&served.file).unwrap();
    assert!(served.hang_up().await.contains("cannot be read"));
    assert_eq!(status(&good).await, 200);
    assert!(session.call("echo", json!({"message": "x"})).await["result"].is_object());
    let scrape = Scrape::of(&served.process).await;
    let counted = ["failed", "ok"].map(|result| scrape.sum("mcp_bridge_config_reloads_total", &[result]));
    assert_eq!(counted, [9, 0]);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_takes_effect() {
    let served = Served::with("");
    served.reload("server: {path: /other, max_body_size: 1KiB}\ntls: {fips: 'off', reload_interval: 1s, enabled: false}").await;
    let line = served.process.logged("restart mcp-bridge to put these changes into force");
    assert!(
        line.contains("WARN") && line.ends_with(": server.path, tls.enabled, tls.fips, tls.reload_interval"),
        "{line}"
    );
    assert_eq!(status(&served.http()).await, 200);
    let long = json!({"jsonrpc": "2.0", "id": 1, "method": "x".repeat(2000)}).to_string();
    assert_eq!(served.http().post(long).await.status, 413);
    let before = times(&served.process, "restart mcp-bridge");
    served.reload("").await;
    assert_eq!(times(&served.process, "restart mcp-bridge"), before, "back to what runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_that_was_judged_with_tls_waits_for_the_restart_with_it() {
    let site = Site::new();
    let served = Served::with(&bearer("good"));
    let tls = site.server_tls(&["client_auth: verify", "client_ca_file: $ca.pem"]);
    // Behind client certificates the token may go; behind nothing it may not.
    served.reload(&tls).await;
    served.process.logged("wait for that restart too");
    assert_eq!(status(&served.http()).await, 401);
    assert_eq!(status(&as_token(&served.http(), "good")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_keeps_the_tokens_of_before_too() {
    let site = Site::new();
    let served = Served::with(&format!("{}{}", site.server_tls(&["reload_interval: 1h"]), bearer("old")));
    let http = served.http().trust(&site.file("ca.pem"));
    site.pki.write("srv.crt", b"broken");
    let line =
        served.load(&whole(&format!("{}{}", site.server_tls(&["reload_interval: 1h"]), bearer("new")))).await;
    assert!(
        line.contains(FAILED) && line.contains("bridge.yaml:") && line.contains("tls.cert_file"),
        "{line}"
    );
    assert_eq!((status(&as_token(&http, "old")).await, status(&as_token(&http, "new")).await), (200, 401));
}

#[tokio::test]
async fn a_short_form_without_a_file_reloads() {
    let bridge = Bridge::serve(Guard::None);
    assert!(reloaded(&bridge).await.contains(DONE));
    Session::open(&bridge.http()).await;
}

#[tokio::test]
async fn a_signal_while_ending_does_not_reload() {
    let mut bridge = Serve::new(Guard::None).config("server:\n  shutdown_timeout: 1h").start();
    let session = Session::open(&bridge.http()).await;
    let mut waits = session.start_call("never", json!({}), "t").await;
    waits.next_message().await.unwrap();
    bridge.signal(Signal::SIGTERM);
    bridge.logged("finishing what is in flight");
    bridge.signal(Signal::SIGHUP);
    bridge.logged("not reloading");
    bridge.signal(Signal::SIGTERM);
    assert_eq!(bridge.wait().code(), Some(0));
}

#[tokio::test]
async fn a_client_reloads_its_log_and_names_the_rest() {
    let server = Bridge::serve(Guard::None);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.yaml");
    let write = |more: &str| {
        fs::write(&file, format!("mode: client\nclient:\n  url: {}\n  proxy: none\n{more}", server.url))
            .unwrap();
    };
    write("");
    let mut command = std::process::Command::new(crate::support::BRIDGE);
    let mut client = Process::spawn(command.arg("-c").arg(&file));
    client.initialize();
    write("logging: {level: debug, bodies: true}\nauth: {type: bearer, bearer: {token: x}}\n");
    assert!(reloaded(&client).await.contains(DONE));
    let line = client.logged("restart mcp-bridge");
    assert!(line.ends_with(": auth.type, auth.bearer.token"), "{line}");
    client.call("echo", &json!({"message": "in confidence"}));
    client.logged("in confidence");
    write("client: {}\n");
    let line = reloaded(&client).await;
    assert!(line.contains(FAILED) && line.contains("client.yaml:"), "{line}");
    assert_eq!(client.call("echo", &json!({"message": "x"}))["result"]["content"][0]["text"], "x");
}
