//! Connections on which nothing happens give their buffers back, and nobody notices.

use serde_json::json;

use crate::support::{
    bridge::{Bridge, Guard, Serve},
    ended, eventually,
    raw::{Raw, post},
    within,
};

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
const REST: &str = "the connection rests";

fn serve(guard: Guard, config: &str) -> Bridge {
    Serve::new(guard).config(&format!("logging:\n  level: debug\n{config}")).start()
}

/// Waits until connections have come to rest so many times.
async fn rested(bridge: &Bridge, times: usize) {
    eventually("rest", || (bridge.stderr().matches(REST).count() >= times).then_some(())).await;
}

async fn asks(raw: &mut Raw) {
    raw.send(HEALTH).await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn a_connection_goes_on_after_a_rest() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = serve(guard, "");
        let mut raw = bridge.http().connection().await;
        asks(&mut raw).await;
        rested(&bridge, 1).await;
        // Whole, byte by byte, and several at once.
        asks(&mut raw).await;
        rested(&bridge, 2).await;
        for byte in HEALTH.bytes() {
            raw.send([byte]).await;
        }
        assert_eq!(raw.answer().await.status, 200);
        rested(&bridge, 3).await;
        raw.send(HEALTH.repeat(20)).await;
        for _ in 0..20 {
            assert_eq!(raw.answer().await.status, 200);
        }
        rested(&bridge, 4).await;
        // A session, with a body in pieces.
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}});
        let hello = post("", &hello.to_string());
        let (head, tail) = hello.split_at(hello.len() - 40);
        raw.send(head).await;
        raw.send(tail).await;
        assert_eq!(raw.answer().await.status, 200);
        rested(&bridge, 5).await;
        ended(bridge).await;
    }
}

#[tokio::test]
async fn half_a_request_is_no_rest() {
    let bridge = serve(Guard::Tls, "server:\n  read_timeout: 2s");
    let mut raw = bridge.http().connection().await;
    asks(&mut raw).await;
    rested(&bridge, 1).await;
    let (head, _) = HEALTH.split_at(20);
    raw.send(head).await;
    assert_eq!(raw.closed().await, "", "cut by read_timeout");
    assert_eq!(bridge.stderr().matches(REST).count(), 1);
    // A second request that has come in part together with the first.
    let mut raw = bridge.http().connection().await;
    raw.send(format!("{HEALTH}{head}")).await;
    assert_eq!(raw.answer().await.status, 200);
    raw.send(&HEALTH[20..]).await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn a_body_that_comes_after_its_answer_is_no_request() {
    let bridge = serve(Guard::Tls, "");
    let mut raw = bridge.http().connection().await;
    let length = HEALTH.len();
    raw.send(format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")).await;
    assert_eq!(raw.answer().await.status, 406);
    raw.try_send(HEALTH).await;
    assert_eq!(raw.closed().await, "");
}

#[tokio::test]
async fn a_connection_at_rest_keeps_its_limits_and_its_end() {
    let bridge = serve(Guard::Tls, "server:\n  max_connections: 1\n  idle_timeout: 3s");
    let mut raw = bridge.http().connection().await;
    asks(&mut raw).await;
    rested(&bridge, 1).await;
    assert_eq!(raw.closed().await, "", "cut by idle_timeout");
    // The place that it had is free again, and so is that of a client which leaves.
    for rests in 2..4 {
        let raw = within("a place", placed(&bridge)).await;
        rested(&bridge, rests).await;
        drop(raw);
    }
    ended(bridge).await;
}

#[tokio::test]
async fn a_stop_closes_connections_at_rest() {
    for guard in [Guard::None, Guard::Tls] {
        let mut bridge = serve(guard, "");
        let mut raw = bridge.http().connection().await;
        asks(&mut raw).await;
        rested(&bridge, 1).await;
        assert!(bridge.terminate().success());
        assert_eq!(raw.closed().await, "");
    }
}

/// A connection that was let in, and has asked.
async fn placed(bridge: &Bridge) -> Raw {
    loop {
        if let Some(mut raw) = bridge.http().try_connection().await {
            asks(&mut raw).await;
            return raw;
        }
    }
}
