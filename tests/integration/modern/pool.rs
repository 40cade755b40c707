//! Shared children: started again when they end, met again by what they issued, and as many as configured.

use std::collections::HashSet;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{client, serve};
use crate::support::bridge::Bridge;
use crate::support::http::Response;
use crate::support::modern::{Modern, Request, SUBSCRIPTION_KEY};
use crate::support::proc::is_alive;
use crate::support::{ended, eventually, within};

const SOON: &str = "mcp:\n  restart_delay: 10ms\n";

async fn pid(client: &Modern) -> u32 {
    let answer = client.call("echo", json!({"pid": true})).await;
    u32::try_from(answer["result"]["structuredContent"]["pid"].as_u64().unwrap()).unwrap()
}

async fn ready(bridge: &Bridge) -> (u16, String) {
    let response = bridge.http().path("/ready").get().await;
    (response.status.as_u16(), response.text().await)
}

#[tokio::test]
async fn all_clients_share_one_child() {
    let bridge = serve().start();
    let pids =
        [pid(&client(&bridge)).await, pid(&client(&bridge)).await, pid(&Modern(bridge.http().http2())).await];
    assert_eq!(HashSet::from(pids).len(), 1);
    assert_eq!(ready(&bridge).await.0, 200);
}

#[tokio::test]
async fn who_waits_for_a_child_that_dies_is_told_and_the_next_one_is_served() {
    let bridge = serve().config(SOON).start();
    let client = client(&bridge);
    let mut listener = client.listen(1, json!({})).await;
    let waiting = client.post(&Request::call(1, "never", json!({})).meta("progressToken", 1)).await;
    let first = pid(&client).await;
    let answer = client.call("die", json!({"status": 3})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("exited with status 3"), "{answer}");
    let last = waiting.messages().await.pop().unwrap();
    assert_eq!(last["error"]["data"]["reason"], "child_exited", "{last}");
    assert_eq!(listener.next_message().await, None, "the subscription ends without a result");
    assert_ne!(pid(&client).await, first);
    assert_eq!(ready(&bridge).await.0, 200);
}

#[tokio::test]
async fn under_load_each_request_is_answered_once_whatever_happens_to_the_child() {
    let bridge = serve().config("mcp:\n  restart_delay: 1ms\n  max_restarts: 1000\n").start();
    let client = client(&bridge);
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move {
                let request = match n % 10 {
                    0 => Request::call(n, "die", json!({"signal": 9})),
                    _ => Request::call(n, "progress", json!({"steps": 3, "ms": n % 7}))
                        .meta("progressToken", n),
                };
                let messages = client.post(&request).await.messages().await;
                let answers = messages.iter().filter(|m| m.get("id").is_some()).count();
                assert_eq!((answers, &messages.last().unwrap()["id"]), (1, &json!(n)), "{messages:?}");
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    pid(&client).await;
}

#[tokio::test]
async fn a_child_that_keeps_failing_is_given_up_and_the_bridge_is_not_ready() {
    let bridge = serve().config("mcp:\n  restart_delay: 1ms\n  max_restarts: 2").start();
    let client = client(&bridge);
    for _ in 0..3 {
        client.call("die", json!({"status": 4})).await;
    }
    bridge.logged("it is not started again");
    let (status, text) = ready(&bridge).await;
    assert!(status == 503 && text.contains("exited with status 4"), "{text}");
    let answer = client.call("echo", json!({})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("not started again"), "{answer}");
    assert_eq!(bridge.http().path("/health").get().await.status, 200);
}

#[tokio::test]
async fn without_restarts_the_first_end_is_the_last() {
    let bridge = serve().config("mcp:\n  restart_on_failure: false").start();
    client(&bridge).call("die", json!({"status": 0})).await;
    bridge.logged("it is not started again");
    assert_eq!(ready(&bridge).await.0, 503);
}

#[tokio::test]
async fn an_idle_child_that_is_killed_is_started_again() {
    let bridge = serve().config(SOON).start();
    let first = pid(&client(&bridge)).await;
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    bridge.logged("starting it again");
    eventually("its end", || (!is_alive(first)).then_some(())).await;
    assert_ne!(pid(&client(&bridge)).await, first);
}

#[tokio::test]
async fn several_children_share_the_work() {
    let bridge = serve().config("mcp:\n  instances: 3").start();
    let client = client(&bridge);
    // Each waits in a child of its own, since the others have less to do.
    let mut pids = HashSet::new();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let request = Request::call(1, "never", json!({})).meta("progressToken", 1);
        let mut stream = client.post(&request).await;
        stream.next_message().await.unwrap();
        waiting.push(stream);
    }
    for _ in 0..9 {
        pids.insert(pid(&client).await);
    }
    assert_eq!(pids.len(), 3);
    drop(waiting);
    ended(bridge).await;
}

#[tokio::test]
async fn state_goes_back_to_the_child_that_issued_it() {
    let bridge = serve().config("mcp:\n  instances: 3").start();
    let client = client(&bridge);
    for _ in 0..6 {
        let asked = client.call("remember", json!({})).await;
        let state = &asked["result"]["requestState"];
        let mut request = Request::call(2, "remember", json!({}));
        request.0["params"]["requestState"] = state.clone();
        request.0["params"]["inputResponses"] = json!({"go": {"action": "accept", "content": {}}});
        let answer = client.request(&request).await;
        assert_eq!(answer["result"]["structuredContent"]["same"], true, "{answer}");
    }
}

/// A client, once `n` children run.
async fn client_of_all(bridge: &Bridge, n: usize) -> Modern {
    let client = client(bridge);
    let mut pids = HashSet::new();
    let all = async {
        while pids.len() < n {
            pids.insert(pid(&client).await);
        }
    };
    within("the children", all).await;
    client
}

/// Changes the tools of `n` children, one after the other, each of which has one listener.
async fn change_tools(client: &Modern, n: usize) {
    for _ in 0..n {
        let answer = client.call("change_tools", json!({})).await;
        assert_eq!(answer["result"]["content"][0]["text"], "1 told");
    }
}

/// The subscription `s` is told `n` times that the tools have changed.
async fn told(stream: &mut Response, n: usize) {
    for _ in 0..n {
        let message: Value = stream.next_message().await.unwrap();
        assert_eq!(message["method"], "notifications/tools/list_changed", "{message}");
        assert_eq!(message["params"]["_meta"][SUBSCRIPTION_KEY], "s");
    }
}

#[tokio::test]
async fn a_subscription_hears_of_every_child_and_is_acknowledged_once() {
    let bridge = serve().config("mcp:\n  instances: 3").start();
    let client = client_of_all(&bridge, 3).await;
    let mut stream = client.listen("s", json!({"toolsListChanged": true})).await;
    change_tools(&client, 6).await;
    told(&mut stream, 6).await;
    // Who leaves, leaves all of them.
    drop(stream);
    for _ in 0..3 {
        assert_eq!(client.cancelled(1).await, 1);
    }
}

#[tokio::test]
async fn a_subscription_goes_on_when_one_of_its_children_dies_and_hears_of_the_next() {
    let bridge = serve().config("mcp:\n  instances: 3\n  restart_delay: 10ms").start();
    let client = client_of_all(&bridge, 3).await;
    let mut stream = client.listen("s", json!({"toolsListChanged": true})).await;
    client.call("die", json!({})).await;
    // Nobody knows what has changed until there was another one to ask.
    told(&mut stream, 1).await;
    change_tools(&client, 6).await;
    told(&mut stream, 6).await;
}

#[tokio::test]
async fn a_subscription_that_is_too_long_to_be_kept_ends_with_the_first_child() {
    let bridge = serve().config("mcp:\n  instances: 2\n  restart_delay: 10ms").start();
    let client = client_of_all(&bridge, 2).await;
    let uri = format!("a:{}", "x".repeat(64 * 1024));
    let mut stream = client.listen("s", json!({"resourceSubscriptions": [uri]})).await;
    client.call("die", json!({})).await;
    assert_eq!(stream.next_message().await, None);
}

#[tokio::test]
async fn a_subscription_lasts_as_long_as_one_of_its_children() {
    let bridge = serve().config("mcp:\n  instances: 2\n  restart_delay: 1h").start();
    let client = client_of_all(&bridge, 2).await;
    // One is away for long; nobody waits for it.
    client.call("die", json!({})).await;
    let mut first = client.listen("s", json!({"toolsListChanged": true})).await;
    change_tools(&client, 2).await;
    told(&mut first, 2).await;
    client.call("die", json!({})).await;
    assert_eq!(first.next_message().await, None, "nobody is left, and the end is no server's word");
}

#[tokio::test]
async fn a_subscription_opens_on_who_works_and_is_refused_when_nobody_does() {
    let bridge = serve().config("mcp:\n  instances: 2\n  restart_on_failure: false").start();
    let client = client_of_all(&bridge, 2).await;
    client.call("die", json!({})).await;
    bridge.logged("it is not started again");
    let mut stream = client.listen("s", json!({"toolsListChanged": true})).await;
    change_tools(&client, 2).await;
    told(&mut stream, 2).await;
    client.call("die", json!({})).await;
    assert_eq!(stream.next_message().await, None);
    let refused = client.request(&Request::listen("s", &json!({"toolsListChanged": true}))).await;
    assert_eq!((&refused["id"], &refused["error"]["data"]["reason"]), (&json!("s"), &json!("child_exited")));
}

#[tokio::test]
async fn a_child_that_ends_a_subscription_ends_it_on_all() {
    for complete in [true, false] {
        let bridge = serve().config("mcp:\n  instances: 2").start();
        let client = client_of_all(&bridge, 2).await;
        let mut stream = client.listen("s", json!({"toolsListChanged": true})).await;
        client.call("tear_down", json!({ "complete": complete })).await;
        let end = stream.next_message().await.unwrap();
        if complete {
            assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("s"), &json!("complete")));
        } else {
            assert_eq!(end["method"], "notifications/cancelled");
            assert_eq!(end["params"]["requestId"], "s");
        }
        assert_eq!(stream.next_message().await, None);
        // The other one is told that nobody listens any more.
        within("a cancellation", async { while client.cancelled(0).await == 0 {} }).await;
    }
}

#[tokio::test]
async fn log_levels_go_to_a_child_that_nobody_else_logs_in() {
    let bridge = serve().config("mcp:\n  instances: 2").start();
    let client = client(&bridge);
    let mut streams = Vec::new();
    for data in ["a", "b"] {
        let request = Request::call(1, "log_if_asked", json!({"data": data}))
            .meta("io.modelcontextprotocol/logLevel", "info")
            .meta("progressToken", 1);
        let mut stream = client.post(&request).await;
        assert_eq!(stream.next_message().await.unwrap()["params"]["data"], data);
        streams.push(stream);
    }
    drop(streams);
    ended(bridge).await;
}
