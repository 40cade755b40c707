//! Streams of clients that share a child: each gets what is its own, and leaving one cancels what it was for.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{client, serve};
use crate::support::bridge::{Guard, Serve};
use crate::support::modern::{LOG_LEVEL_KEY, Modern, REVISION, Request, SUBSCRIPTION_KEY};
use crate::support::session::Session;
use crate::support::{ended, within};

#[tokio::test]
async fn clients_with_the_same_ids_and_tokens_are_told_apart() {
    let bridge = serve().start();
    let client = client(&bridge);
    let calls = (0..20_usize).map(|n| {
        let request =
            Request::call(1, "progress", json!({"steps": n + 1, "ms": 1})).meta("progressToken", "t");
        let client = client.clone();
        tokio::spawn(async move { client.post(&request).await.messages().await })
    });
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let messages = call.await.unwrap();
        let (answer, progress) = messages.split_last().unwrap();
        assert_eq!(answer["id"], 1);
        assert_eq!(answer["result"]["content"][0]["text"], format!("{} steps", n + 1));
        let steps: Vec<_> = progress.iter().map(|m| m["params"]["progress"].as_u64().unwrap()).collect();
        assert_eq!(steps, (1..=n as u64 + 1).collect::<Vec<_>>());
        assert!(progress.iter().all(|m| m["params"]["progressToken"] == "t"));
    }
}

#[tokio::test]
async fn the_child_sees_the_clients_request_but_for_what_names_it() {
    let bridge = serve().start();
    let request = Request::call("mine", "raw_request", json!({"n": 1.0, "x": [1, {"y": "é"}]}))
        .meta("progressToken", "token")
        .meta("traceparent", "00-1-2-3");
    let answer = client(&bridge).request(&request).await;
    let seen: Value = serde_json::from_str(answer["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    let mut expected = request.0.clone();
    expected["id"] = seen["id"].clone();
    expected["params"]["_meta"]["progressToken"] = seen["id"].clone();
    assert!(seen["id"].is_u64());
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_long_request_and_its_long_answer_pass_whole() {
    let bridge = serve().start();
    let client = client(&bridge);
    let text = "é\"x\u{2028}".repeat(200_000);
    for accept in ["application/json", "text/event-stream"] {
        let client = Modern(client.0.clone().header("accept", accept));
        // One id is shorter than what stands for it, the other longer.
        for id in [json!(1), json!("a\u{2028}".repeat(50))] {
            let request = Request::call(id.clone(), "raw_request", json!({ "text": text }))
                .meta("progressToken", "token");
            let answer = client.request(&request).await;
            assert_eq!(answer["id"], id);
            let seen = answer["result"]["content"][0]["text"].as_str().unwrap();
            let seen: Value = serde_json::from_str(seen).unwrap();
            let mut expected = request.0;
            expected["id"] = seen["id"].clone();
            expected["params"]["_meta"]["progressToken"] = seen["id"].clone();
            assert!(seen["id"].is_u64() && seen == expected);
        }
    }
}

#[tokio::test]
async fn a_legacy_client_of_a_shared_child_gets_a_long_answer_whole() {
    let bridge = serve().start();
    let session = Session::open(&bridge.http()).await;
    let message = "é\"x\u{2028}".repeat(200_000);
    let answer = session.call("echo", json!({ "message": message })).await;
    assert!(answer["result"]["content"][0]["text"] == message);
}

#[tokio::test]
async fn a_stream_says_how_it_wants_to_be_treated_and_stays_alive() {
    let bridge = serve().config("server:\n  sse_keepalive_interval: 20ms\n  stream_after: 10ms").start();
    let mut stream = client(&bridge).post(&Request::call(1, "sleep", json!({"ms": 200}))).await;
    assert_eq!(stream.header("x-accel-buffering"), "no");
    assert!(stream.header("cache-control").contains("no-cache"));
    let mut comments = 0;
    loop {
        match stream.next_item().await.expect("an answer") {
            crate::support::sse::Item::Comment(_) => comments += 1,
            crate::support::sse::Item::Event(event) => {
                assert_eq!((event.id, event.retry), (None, None));
                assert!(event.data.contains("slept"));
                break;
            }
        }
    }
    assert!(comments > 0);
    assert!(stream.next_item().await.is_none());
}

#[tokio::test]
async fn leaving_a_stream_cancels_its_request() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).child_arg("--modern").start();
        for (n, http) in [bridge.http(), bridge.http().http2()].into_iter().enumerate() {
            let client = Modern(http);
            let mut stream =
                client.post(&Request::call(1, "never", json!({})).meta("progressToken", 1)).await;
            stream.next_message().await.unwrap();
            drop(stream);
            assert_eq!(client.cancelled(n + 1).await, n + 1);
        }
        ended(bridge).await;
    }
}

#[tokio::test]
async fn leaving_before_the_answer_has_begun_cancels_too() {
    let bridge = serve().config("server:\n  stream_after: 1h").start();
    let client = client(&bridge);
    for (n, half) in [(1, false), (2, true)] {
        let request = Request::call(1, "never", json!({})).0.to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, \
             text/event-stream\r\nmcp-protocol-version: {REVISION}\r\nmcp-method: tools/call\r\nmcp-name: never\r\n\
             content-length: {}\r\n\r\n{request}",
            request.len()
        );
        let address = bridge.url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned();
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        // The child has it before its client leaves; else nothing would have to be cancelled.
        client.call("echo", json!({})).await;
        if half {
            connection.shutdown().await.unwrap();
        } else {
            drop(connection);
        }
        assert_eq!(client.cancelled(n).await, n);
    }
}

#[tokio::test]
async fn subscriptions_get_what_they_asked_for_under_their_own_ids() {
    let bridge = serve().start();
    let client = client(&bridge);
    let mut one = client.listen(1, json!({"resourceSubscriptions": ["file:///a"]})).await;
    let mut other = client.listen(1, json!({"resourceSubscriptions": ["file:///a", "file:///b"]})).await;
    let mut tools = client.listen("s", json!({"toolsListChanged": true})).await;
    client.call("touch", json!({"uri": "file:///b"})).await;
    client.call("touch", json!({"uri": "file:///a"})).await;
    client.call("change_tools", json!({})).await;
    for (stream, uris) in [(&mut one, vec!["file:///a"]), (&mut other, vec!["file:///b", "file:///a"])] {
        for uri in uris {
            let params = json!({"uri": uri, "_meta": {SUBSCRIPTION_KEY: 1}});
            let message = stream.next_message().await.unwrap();
            assert_eq!(
                (&message["method"], &message["params"]),
                (&json!("notifications/resources/updated"), &params)
            );
        }
    }
    assert_eq!(tools.next_message().await.unwrap()["params"]["_meta"][SUBSCRIPTION_KEY], "s");
    drop(one);
    assert_eq!(client.cancelled(1).await, 1);
    client.call("touch", json!({"uri": "file:///a"})).await;
    assert_eq!(other.next_message().await.unwrap()["params"]["uri"], "file:///a");
}

#[tokio::test]
async fn a_subscription_ends_as_the_server_ends_it() {
    let bridge = serve().start();
    let client = client(&bridge);
    let mut stream = client.listen("s", json!({})).await;
    client.call("tear_down", json!({"complete": true})).await;
    let result = json!({"resultType": "complete", "_meta": {SUBSCRIPTION_KEY: "s"}});
    let answer = stream.next_message().await.unwrap();
    assert_eq!((&answer["id"], &answer["result"]), (&json!("s"), &result));
    assert!(stream.next_message().await.is_none());
    let mut stream = client.listen("s", json!({})).await;
    client.call("tear_down", json!({})).await;
    let told = stream.next_message().await.unwrap();
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(told["params"], json!({"requestId": "s", "_meta": {SUBSCRIPTION_KEY: "s"}}));
    assert!(stream.next_message().await.is_none());
    // What the server has ended is not cancelled.
    assert_eq!(client.cancelled(0).await, 0);
}

#[tokio::test]
async fn log_messages_reach_the_one_request_that_may_have_them() {
    let bridge = serve().start();
    let client = client(&bridge);
    let log = |data: &str| {
        Request::call(1, "log_if_asked", json!({"data": data}))
            .meta(LOG_LEVEL_KEY, "info")
            .meta("progressToken", "t")
    };
    let mut first = client.post(&log("first")).await;
    let message = first.next_message().await.unwrap();
    assert_eq!(message["params"], json!({"level": "info", "data": "first"}));
    // The second one's log level does not reach the child, so that nothing can come to the wrong one.
    let mut second = client.post(&log("second")).await;
    assert_eq!(second.next_message().await.unwrap()["method"], "notifications/progress");
    assert_eq!(first.next_message().await.unwrap()["method"], "notifications/progress");
    drop((first, second));
    ended(bridge).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_nobody_and_is_cancelled() {
    let bridge = serve().start();
    let client = client(&bridge);
    let flood = Request::call(1, "flood", json!({"bytes": 100_000})).meta("progressToken", 1);
    let unread = client.post(&flood).await;
    for _ in 0..10 {
        client.call("echo", json!({"message": "x"})).await;
    }
    assert_eq!(client.cancelled(1).await, 1);
    bridge.logged("its client does not read its stream");
    drop(unread);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cancelled_and_a_subscription_is_not() {
    let bridge = serve().config("mcp:\n  request_timeout: 300ms").start();
    let client = client(&bridge);
    let mut stream = client.listen(1, json!({"toolsListChanged": true})).await;
    let answer = client.call("never", json!({})).await;
    assert_eq!(answer["error"]["data"]["reason"], "timed_out", "{answer}");
    assert_eq!(client.cancelled(1).await, 1);
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.call("change_tools", json!({})).await;
    assert_eq!(stream.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn an_answer_of_many_megabytes_arrives_whole() {
    let bridge = serve().start();
    let answer = within("a big answer", client(&bridge).call("big", json!({"bytes": 20_000_000}))).await;
    assert_eq!(answer["result"]["content"][0]["text"].as_str().unwrap().len(), 20_000_000);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_an_error_for_its_request_alone() {
    let bridge = serve().start();
    let client = client(&bridge);
    let other = tokio::spawn({
        let client = client.clone();
        async move { client.call("meet", json!({"n": 2})).await }
    });
    let lost = client.call("big", json!({"bytes": 70_000_000})).await;
    assert_eq!(lost["error"]["data"]["reason"], "message_too_long", "{lost}");
    for met in [client.call("meet", json!({"n": 2})).await, other.await.unwrap()] {
        assert_eq!(met["result"]["content"][0]["text"], "met");
    }
}
