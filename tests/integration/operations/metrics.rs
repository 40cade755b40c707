//! What is counted, and that it is what happened.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::json;

use super::scrape::{METRICS, Scrape, metrics_url};
use crate::peers::Peers;
use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::connect::Connect;
use crate::support::http::Http;
use crate::support::modern::{Modern, Request};
use crate::support::process::Process;
use crate::support::raw::Raw;
use crate::support::session::{Session, initialize};
use crate::support::{repository, skipped, within};
use crate::tls::revocation::crl;
use crate::tls_process::support::{Site, address, hang_up};

async fn eventually_counts(process: &Process, name: &str, labels: &[&str], expected: u64) {
    let counted = async {
        loop {
            let scrape = Scrape::of(process).await;
            if scrape.sum(name, labels) == expected {
                return;
            }
        }
    };
    within(&format!("{name} {labels:?} = {expected}"), counted).await;
}

#[tokio::test]
async fn requests_are_counted_by_method_and_outcome() {
    let bridge = Serve::new(Guard::None).config(METRICS).config("mcp:\n  request_timeout: 1h").start();
    let session = Session::open(&bridge.http()).await;
    for _ in 0..3 {
        session.call("echo", json!({"message": "x"})).await;
    }
    session.call("refuse", json!({})).await;
    session.request("made/up", &json!({})).await;
    let waits = session.start_call("never", json!({}), "t").await;
    eventually_counts(&bridge, "mcp_bridge_exchanges_in_flight", &[], 1).await;
    session.notify("notifications/cancelled", &json!({"requestId": 6})).await;
    waits.messages().await;
    let requests = "mcp_bridge_requests_total";
    eventually_counts(&bridge, requests, &["tools/call", "\"cancelled\""], 1).await;
    session.call("die", json!({})).await;
    eventually_counts(&bridge, requests, &["tools/call", "\"failed\""], 1).await;
    let scrape = Scrape::of(&bridge).await;
    let of = |labels: &[&str]| scrape.sum(requests, labels);
    assert_eq!(
        [
            of(&["initialize", "\"ok\""]),
            of(&["tools/call", "\"ok\""]),
            of(&["tools/call", "\"error\""]),
            of(&["method=\"other\"", "\"error\""]),
            scrape.sum("mcp_bridge_exchanges_in_flight", &[]),
            scrape.sum("mcp_bridge_request_duration_seconds_count", &["tools/call"]),
        ],
        [1, 3, 1, 1, 0, 6]
    );
    assert!(!scrape.text.contains("made/up"));
}

#[tokio::test]
async fn modern_requests_and_restarts_of_shared_children_are_counted() {
    let mcp = "mcp:\n  request_timeout: 1h\n  restart_delay: 1ms";
    let bridge = Serve::new(Guard::None).child_arg("--modern").config(METRICS).config(mcp).start();
    let client = Modern(bridge.http());
    client.call("echo", json!({"message": "x"})).await;
    client.call("refuse", json!({})).await;
    let never = || Request::call(1, "never", json!({})).meta("progressToken", "t");
    let mut leaves = client.post(&never()).await;
    leaves.next_message().await.unwrap();
    drop(leaves);
    let (requests, restarted) = ("mcp_bridge_requests_total", "mcp_bridge_children_restarted_total");
    eventually_counts(&bridge, requests, &["tools/call", "\"cancelled\""], 1).await;
    assert_eq!(Scrape::of(&bridge).await.sum(restarted, &[]), 0);
    let listener = client.listen("s", json!({})).await;
    client.call("die", json!({})).await;
    assert!(listener.messages().await.is_empty());
    eventually_counts(&bridge, restarted, &[], 1).await;
    let scrape = Scrape::of(&bridge).await;
    let of = |labels: &[&str]| scrape.sum(requests, labels);
    assert_eq!(
        [
            of(&["tools/call", "\"ok\""]),
            of(&["tools/call", "\"error\""]),
            of(&["tools/call", "\"failed\""]),
            of(&["subscriptions/listen", "\"failed\""]),
            scrape.sum("mcp_bridge_exchanges_in_flight", &[]),
        ],
        [1, 1, 1, 1, 0]
    );
}

#[tokio::test]
async fn sessions_children_and_connections_are_counted() {
    let bridge = Serve::new(Guard::None)
        .config(METRICS)
        .config("server:\n  max_connections: 70\n  session:\n    max_sessions: 2")
        .start();
    assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    let (first, second) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    assert_eq!(bridge.http().post(initialize(&json!({}))).await.status, 503);
    let listening = first.http.get().await;
    eventually_counts(&bridge, "mcp_bridge_connections", &[], 1).await;
    let scrape = Scrape::of(&bridge).await;
    let of = |name: &str| scrape.sum(&format!("mcp_bridge_{name}"), &[]);
    assert_eq!(
        [
            "sessions",
            "sessions_limit",
            "sessions_opened_total",
            "sessions_refused_total",
            "connections_limit"
        ]
        .map(of),
        [2, 2, 2, 1, 70]
    );
    // Two were on trial, one for each era.
    assert_eq!(of("children_started_total"), 4);
    eventually_counts(&bridge, "mcp_bridge_children_running", &[], 2).await;
    drop(listening);
    first.http.delete().await;
    second.call("die", json!({"status": 3})).await;
    let exited = "mcp_bridge_children_exited_total";
    eventually_counts(&bridge, exited, &["\"failure\""], 1).await;
    eventually_counts(&bridge, exited, &["\"success\""], 3).await;
    eventually_counts(&bridge, "mcp_bridge_sessions", &[], 0).await;
    eventually_counts(&bridge, "mcp_bridge_children_running", &[], 0).await;
    let third = Session::open(&bridge.http()).await;
    third.call("die", json!({"signal": 9})).await;
    eventually_counts(&bridge, exited, &["\"signal\""], 1).await;
}

#[tokio::test]
async fn http_requests_and_their_bytes_are_counted() {
    let bridge = Serve::new(Guard::None).config(METRICS).start();
    let session = Session::open(&bridge.http()).await;
    let before = Scrape::of(&bridge).await;
    let text = "x".repeat(10_000);
    session.call("echo", json!({"message": text})).await;
    assert_eq!(bridge.http().path("/nowhere").get().await.status, 404);
    eventually_counts(&bridge, "mcp_bridge_http_requests_total", &["\"404\""], 1).await;
    let after = Scrape::of(&bridge).await;
    for (name, least) in [("http_received_bytes_total", 10_000), ("http_sent_bytes_total", 20_000)] {
        let name = format!("mcp_bridge_{name}");
        let grown = after.sum(&name, &[]) - before.sum(&name, &[]);
        assert!((least..least + 2_000).contains(&grown), "{name}: {grown}");
    }
    assert!(after.sum("mcp_bridge_http_requests_total", &["\"200\""]) >= 2, "{}", after.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_certificates_and_reloads_are_counted() {
    let site = Site::new();
    let bridge = site
        .server(&["reload_interval: 1h", "client_auth: verify", "client_ca_file: $ca.pem"])
        .config(METRICS)
        .start();
    Session::open(&site.http_as_client(&bridge)).await;
    assert!(site.http(&bridge).try_request(hyper::Method::GET, "").await.is_err());
    let mut plain = Raw::open(&bridge.url).await;
    plain.send("GET / HTTP/1\r\n\r\n").await;
    plain.answer().await;
    let handshakes = "mcp_bridge_tls_handshakes_total";
    drop(TcpStream::connect(address(&bridge)).unwrap());
    for result in ["\"refused\"", "\"plain_http\"", "\"closed_early\""] {
        eventually_counts(&bridge, handshakes, &[result], 1).await;
    }
    let scrape = Scrape::of(&bridge).await;
    let good = ["result=\"ok\"", "TLS 1.3", "cipher=\"TLS_", "resumed=\"false\""];
    assert!(scrape.sum(handshakes, &good) >= 2, "{}", scrape.text);
    assert!(scrape.sum("mcp_bridge_tls_handshake_duration_seconds_count", &[]) >= 2);
    let day = 86_400;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let expiry = scrape.sum("mcp_bridge_tls_certificate_expiry_timestamp_seconds", &["CN=srv.test"]);
    assert!(expiry > now + day, "{expiry}");
    let reloads = |scrape: &Scrape| {
        ["tls", "config"].map(|of| {
            let name = format!("mcp_bridge_{of}_reloads_total");
            ["ok", "failed"].map(|result| scrape.sum(&name, &[&format!("\"{result}\"")]))
        })
    };
    assert_eq!(reloads(&scrape), [[0; 2]; 2]);
    tokio::task::block_in_place(|| hang_up(&bridge));
    eventually_counts(&bridge, "mcp_bridge_config_reloads_total", &["\"ok\""], 1).await;
    site.pki.write("srv.key", b"broken");
    tokio::task::block_in_place(|| hang_up(&bridge));
    eventually_counts(&bridge, "mcp_bridge_config_reloads_total", &["\"failed\""], 1).await;
    assert_eq!(reloads(&Scrape::of(&bridge).await), [[1; 2]; 2]);
}

#[tokio::test]
async fn events_that_are_dropped_from_replay_are_counted() {
    let bridge = Serve::new(Guard::None).config(METRICS).start();
    let session = Session::open(&bridge.http()).await;
    let mut stream = session.http.get().await;
    stream.primed().await;
    session.call("log", json!({"times": 1100})).await;
    let dropped =
        async { while Scrape::of(&bridge).await.sum("mcp_bridge_replay_events_dropped_total", &[]) < 76 {} };
    within("dropped events", dropped).await;
}

#[tokio::test]
async fn a_client_counts_its_requests_and_handshakes() {
    let server = Bridge::serve(Guard::Tls);
    let mut client = Connect::to(&server.url).config(METRICS).config("logging:\n  level: debug").start();
    client.initialize();
    client.call("echo", &json!({"message": "x"}));
    client.call("refuse", &json!({}));
    let scrape = Scrape::of(&client).await;
    let requests = "mcp_bridge_requests_total";
    assert_eq!(
        [
            scrape.sum(requests, &["initialize", "\"ok\""]),
            scrape.sum(requests, &["tools/call", "\"ok\""]),
            scrape.sum(requests, &["tools/call", "\"error\""]),
        ],
        [1; 3]
    );
    assert!(scrape.sum("mcp_bridge_tls_handshakes_total", &["\"ok\""]) >= 1);
    assert!(!scrape.text.contains("mcp_bridge_sessions"), "{}", scrape.text);
    let http = Http::new(&metrics_url(&client));
    for path in ["/health", "/ready"] {
        assert_eq!(http.clone().path(path).get().await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn probes_beside_the_metrics_need_no_certificate() {
    let bridge = Serve::new(Guard::Mutual).config(METRICS).start();
    let http = Http::new(&metrics_url(&bridge));
    for path in ["/health", "/ready"] {
        assert_eq!(http.clone().path(path).get().await.status, 200, "{path}");
    }
    assert_eq!(http.clone().path("/mcp").get().await.status, 404);
    assert_eq!(http.post("{}").await.status, 405);
    let broken = Serve::new(Guard::None).config(METRICS).child_arg("--fail-start").child_arg("7").start();
    let ready = Http::new(&metrics_url(&broken)).path("/ready").get().await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().await.contains("exited with status 7"));
}

/// A scrape in which every series is there.
async fn full_scrape() -> Scrape {
    let site = Site::new();
    site.pki.write("crl.pem", &crl(&site.pki, &site.pki.root, &[], 86_400));
    let tls = ["client_auth: verify", "client_ca_file: $ca.pem", "crl_file: $crl.pem"];
    let bridge = site.server(&tls).config(METRICS).start();
    let session = Session::open(&site.http_as_client(&bridge)).await;
    session.call("die", json!({})).await;
    eventually_counts(&bridge, "mcp_bridge_children_running", &[], 0).await;
    Scrape::of(&bridge).await
}

/// Every name of a series in a text.
fn named_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !word(c)).filter(|word| word.starts_with("mcp_bridge_"));
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_alerts_dashboard_and_manual_name_is_in_a_scrape_and_the_reverse() {
    let scrape = full_scrape().await;
    let exposed = scrape.names();
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let manual = read("docs/metrics.md");
    let rules = read("packaging/prometheus/mcp-bridge.rules.yml");
    let dashboard = read("packaging/grafana/mcp-bridge.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    for (what, text) in [("rules", &rules), ("dashboard", &dashboard)] {
        let named = named_in(text);
        assert!(named.len() > 5, "{what}: {named:?}");
        for name in named {
            assert!(exposed.contains(name.as_str()), "{what}: {name} is in no scrape:\n{}", scrape.text);
        }
    }
    let families = |name: &&str| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        part.unwrap_or(name).to_owned()
    };
    let exposed: BTreeSet<_> = exposed.iter().map(families).collect();
    assert_eq!(named_in(&manual), exposed, "docs/metrics.md");
}

#[tokio::test]
async fn a_scrape_is_open_metrics() {
    let scrape = full_scrape().await;
    assert!(scrape.text.ends_with("# EOF\n"));
    assert_eq!(scrape.count("mcp_bridge_build_info"), 1);
    let Some(peers) = Peers::installed() else { return };
    let mut parser = Command::new(peers.path("venv/bin/python"));
    parser.arg(repository().join("tests/peers/openmetrics.py"));
    let output = fed(&mut parser, &scrape.text);
    assert!(output.contains("mcp_bridge_requests"), "{output}");
}

#[test]
fn the_alert_rules_fire_when_they_should() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skipped("the test of the alert rules, without promtool (scripts/promtool.sh DIR fetches it)");
    }
    for args in [["check", "rules", "mcp-bridge.rules.yml"], ["test", "rules", "mcp-bridge.rules.test.yml"]] {
        let mut command = Command::new("promtool");
        let output =
            command.args(args).current_dir(repository().join("packaging/prometheus")).output().unwrap();
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?}: {told}");
    }
}

#[tokio::test]
async fn the_address_of_the_metrics_is_named_when_it_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (mut bridge, _dir) =
        Serve::new(Guard::None).config(&format!("metrics:\n  listen: {address}")).spawn();
    assert_eq!(bridge.wait().code(), Some(1));
    let told = bridge.logged("mcp-bridge: ");
    assert!(told.contains("metrics.listen") && told.contains(&address), "{told}");
}

#[tokio::test]
async fn however_many_scrapers_there_are_clients_find_a_place() {
    let bridge = Serve::new(Guard::None).config(METRICS).start();
    let mut idle = Vec::new();
    for _ in 0..65 {
        idle.push(Raw::open(&metrics_url(&bridge)).await);
    }
    bridge.logged("refused a connection: 64 are open");
    let session = Session::open(&bridge.http()).await;
    assert!(session.call("echo", json!({"message": "x"})).await["result"].is_object());
}

fn fed(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
