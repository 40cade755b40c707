//! Probes learn whether the process is up and whether it can do its work; the endpoint wants credentials.

use serde_json::json;

use crate::support::bridge::{Bridge, Guard, Serve, TOKEN};
use crate::support::http::{Http, Response};
use crate::support::proc::is_alive;
use crate::support::session::initialize;
use crate::support::{each_way, eventually, fixture_server};

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
async fn the_child_of_a_trial_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let bridge = Serve::new(Guard::None).child_arg("--pid-file").child_arg(file.to_str().unwrap()).start();
    for _ in 0..3 {
        assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    }
    let pids = std::fs::read_to_string(file).unwrap();
    let pids: Vec<u32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "one trial for each era is enough");
    eventually("the end of the trials", || pids.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
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
