//! Probes learn whether the process is up and whether it can do its work; the endpoint wants credentials.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::bridge::{Bridge, Guard, Serve, TOKEN};
use crate::support::certs::cert;
use crate::support::http::{Http, Response};
use crate::support::modern::Modern;
use crate::support::proc::is_alive;
use crate::support::process::Process;
use crate::support::session::initialize;
use crate::support::{BRIDGE, each_way, eventually, fixture_server};

#[tokio::test]
async fn a_bridge_that_can_start_its_server_is_healthy_and_ready() {
    each_way(async |http| {
        for path in ["/health", "/ready"] {
            let response = http.clone().path(path).get().await;
            assert_eq!(response.status, 200, "{path}");
            assert_eq!(response.header("cache-control"), "no-store");
        }
    })
    .await;
}

#[tokio::test]
async fn a_bridge_whose_server_does_not_start_is_healthy_but_not_ready() {
    let bridge = Serve::new(Guard::None).child_arg("--fail-start").child_arg("7").start();
    not_ready(&bridge, "exited with status 7").await;
}

#[tokio::test]
async fn a_bridge_whose_server_dies_of_initialize_is_not_ready() {
    let bridge = Serve::new(Guard::None).child_arg("--exit-on-initialize").child_arg("8").start();
    not_ready(&bridge, "exited with status 8").await;
    let answer = bridge.http().post(initialize(&json!({}))).await.messages().await.pop().unwrap();
    assert_eq!(answer["id"], 0);
    assert!(answer["error"]["message"].as_str().unwrap().contains("exited with status 8"), "{answer}");
}

#[tokio::test]
async fn a_bridge_whose_server_has_been_removed_is_no_longer_ready() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("server");
    std::fs::copy(fixture_server(), &program).unwrap();
    let bridge = Serve::new(Guard::None).child(&[program.to_str().unwrap()]).start();
    assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    std::fs::remove_file(&program).unwrap();
    not_ready(&bridge, "no such file").await;
    let answer = bridge.http().post(initialize(&json!({}))).await.messages().await.pop().unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(0), &json!(-32603)), "{answer}");
}

#[tokio::test]
async fn a_bridge_that_cannot_start_a_child_for_a_modern_client_is_no_longer_ready() {
    for isolation in ["principal", "request"] {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("server");
        std::fs::copy(fixture_server(), &program).unwrap();
        let serve = Serve::new(Guard::None).config(&format!("mcp:\n  isolation: {isolation}"));
        let bridge = serve.child(&[program.to_str().unwrap()]).start();
        assert_eq!(bridge.http().path("/ready").get().await.status, 200);
        // A program that is there, and that no system starts.
        let broken = dir.path().join("broken");
        std::fs::copy(&program, &broken).unwrap();
        std::fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
        std::fs::rename(&broken, &program).unwrap();
        let answer = Modern(bridge.http()).call("echo", json!({})).await;
        assert_eq!(answer["error"]["data"]["reason"], "child_not_started", "{answer}");
        not_ready(&bridge, "can't be started").await;
    }
}

#[tokio::test]
async fn the_child_of_a_trial_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let bridge = Serve::new(Guard::None).child_arg("--pid-file").child_arg(file.to_str().unwrap()).start();
    for _ in 0..3 {
        assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    }
    let pids = || -> Vec<u32> {
        let pids = std::fs::read_to_string(&file).unwrap();
        pids.lines().map(|pid| pid.parse().unwrap()).collect()
    };
    // The bridge is ready as soon as one of them has answered; the other may still be starting.
    let ended = || pids().len() >= 2 && pids().iter().all(|pid| !is_alive(*pid));
    eventually("the end of the trials", || ended().then_some(())).await;
    assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    assert_eq!(pids().len(), 2, "one trial for each era is enough");
}

#[tokio::test]
async fn probes_need_no_token_and_the_endpoint_does() {
    let bridge = Bridge::serve(Guard::Bearer);
    let anonymous = bridge.http().header("authorization", "");
    for path in ["/health", "/ready"] {
        assert_eq!(anonymous.clone().path(path).get().await.status, 200, "{path}");
    }
    for http in [anonymous.clone(), anonymous.clone().path("/")] {
        for response in [http.post(initialize(&json!({}))).await, http.get().await, http.delete().await] {
            denied(response, r#"Bearer realm="mcp-bridge""#).await;
        }
    }
    assert_eq!(bridge.http().post(initialize(&json!({}))).await.status, 200);
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_told_apart_from_none() {
    let bridge = Bridge::serve(Guard::Bearer);
    let with = |value: &str| bridge.http().header("authorization", value);
    let longer = format!("Bearer {TOKEN}x");
    let shorter = format!("Bearer {}", &TOKEN[1..]);
    for value in ["Bearer wrong", &longer, &shorter, &longer.to_uppercase()] {
        let response = open(&with(value)).await;
        denied(response, r#"Bearer realm="mcp-bridge", error="invalid_token""#).await;
    }
    for value in ["Bearer", "Bearer  ", "Basic d3Jvbmc6d3Jvbmc=", TOKEN, "Bearer\u{e9} x"] {
        let response = open(&with(value)).await;
        denied(response, r#"Bearer realm="mcp-bridge", error="invalid_request""#).await;
    }
    assert_eq!(open(&with(&format!("bearer {TOKEN}"))).await.status, 200);
}

#[test]
fn the_health_command_asks_at_a_url() {
    let plain = Bridge::serve(Guard::None);
    assert_healthy(&ask(&[&plain.url]), "ok");
    let tls = Bridge::serve(Guard::Bearer);
    assert_healthy(&ask(&["--ready", &tls.url, "--ca-cert", &cert("ca.crt")]), "ready");
    assert_ended(&ask(&[&tls.url]), 1, "x509: certificate signed by unknown authority");
    let mutual = Bridge::serve(Guard::Mutual);
    let trusted = [&*mutual.url, "--ca-cert", &cert("ca.crt")];
    assert_ended(&ask(&trusted), 1, "perhaps it wants a client certificate");
    let shown = ["--cert", &cert("client.crt"), "--key", &cert("client.key")];
    assert_healthy(&ask(&[&trusted[..], &shown].concat()), "ok");
}

#[test]
fn the_health_command_asks_where_the_configuration_says() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Bridge::serve(Guard::None);
    assert_healthy(&ask_configured(dir.path(), &on_port(port(&plain)), ""), "ok");
    let everywhere = format!("server:\n  allow_insecure: true\n  listen: \":{}\"\n", port(&plain));
    assert_healthy(&ask_configured(dir.path(), &everywhere, ""), "ok");
    let tls = Bridge::serve(Guard::Tls);
    assert_healthy(&ask_configured(dir.path(), &on_port(port(&tls)), &certificate("")), "ok");
    assert_ended(&ask_configured(dir.path(), &on_port(port(&tls)), ""), 1, "400");

    let socket = dir.path().join("socket");
    let listen = format!("server:\n  listen: \"unix:{}\"\n", socket.display());
    let gone = ask_configured(dir.path(), &listen, "");
    assert_ended(&gone, 1, "does not answer");
    for tls in [String::new(), certificate("")] {
        let text = configuration(&listen, &tls);
        let file = dir.path().join("serve.yaml");
        std::fs::write(&file, text).unwrap();
        let mut bridge = Process::spawn(Command::new(BRIDGE).arg("-c").arg(&file));
        bridge.logged("listening on");
        assert_healthy(&ask_configured(dir.path(), &listen, &tls), "ok");
        assert!(bridge.terminate().success());
    }
}

#[test]
fn a_listener_that_wants_certificates_is_asked_where_it_wants_none() {
    let dir = tempfile::tempdir().unwrap();
    let mutual = Bridge::serve(Guard::Mutual);
    let verify = certificate(&format!("  client_auth: verify\n  client_ca_file: {}\n", cert("ca.crt")));
    let listen = on_port(port(&mutual));
    assert_ended(&ask_configured(dir.path(), &listen, &verify), 2, "set metrics.listen");
    let plain = Bridge::serve(Guard::None);
    let metrics = format!("metrics:\n  listen: 127.0.0.1:{}\n", port(&plain));
    assert_healthy(&ask_configured(dir.path(), &listen, &(verify + &metrics)), "ok");
    drop(plain);
    let verify = certificate("") + &metrics;
    let activated = "server:\n  listen: systemd\n  allow_insecure: true\n";
    assert_ended(&ask_configured(dir.path(), activated, &verify), 1, "does not answer");
    assert_ended(&ask_configured(dir.path(), activated, ""), 2, "set metrics.listen");
}

#[test]
fn the_health_command_says_why_a_bridge_is_not_ready() {
    let bridge = Serve::new(Guard::None).child_arg("--fail-start").child_arg("7").start();
    assert_ended(&ask(&["--ready", &bridge.url]), 1, "503 Service Unavailable: not ready: ");
    assert_healthy(&ask(&[&bridge.url]), "ok");
}

fn ask(args: &[&str]) -> Output {
    Command::new(BRIDGE).arg("health").args(args).output().unwrap()
}

fn ask_configured(dir: &Path, server: &str, more: &str) -> Output {
    let file = dir.join("health.yaml");
    std::fs::write(&file, configuration(server, more)).unwrap();
    ask(&["-c", file.to_str().unwrap()])
}

fn configuration(server: &str, more: &str) -> String {
    format!("mode: server\n{server}{more}mcp:\n  command: {}\n", fixture_server())
}

fn on_port(port: u16) -> String {
    format!("server:\n  listen: 127.0.0.1:{port}\n")
}

fn certificate(more: &str) -> String {
    let (cert, key) = (cert("server.crt"), cert("server.key"));
    format!("tls:\n  enabled: true\n  cert_file: {cert}\n  key_file: {key}\n{more}")
}

fn port(bridge: &Bridge) -> u16 {
    bridge.url.parse::<hyper::Uri>().unwrap().port_u16().unwrap()
}

fn assert_healthy(output: &Output, words: &str) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), words);
}

fn assert_ended(output: &Output, code: i32, words: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && told.contains(words), "{output:?}");
}

async fn open(http: &Http) -> Response {
    http.post(initialize(&json!({}))).await
}

async fn not_ready(bridge: &Bridge, why: &str) {
    let ready = bridge.http().path("/ready").get().await;
    assert_eq!(ready.status, 503);
    let text = ready.text().await;
    assert!(text.starts_with("not ready: ") && text.contains(why), "{text}");
    assert_eq!(bridge.http().path("/health").get().await.status, 200);
}

async fn denied(response: Response, challenge: &str) {
    assert_eq!((response.status.as_u16(), response.header("www-authenticate")), (401, challenge));
    let error = response.json().await;
    assert_eq!(error["error"]["data"]["source"], "mcp-bridge", "{error}");
    assert!(!error.to_string().contains(TOKEN));
}
