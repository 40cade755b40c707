//! Nothing changes hands: each message reaches the one whom it is for, in its order, whatever ids others use.

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::{Http, Response};
use crate::support::session::Session;

const CHANGED: &str = "notifications/tools/list_changed";

/// Every session uses the same ids, as numbers and as the same digits in a string, and those as progress tokens too.
#[tokio::test]
async fn equal_ids_and_tokens_never_mix_in_or_between_sessions() {
    const SESSIONS: u64 = 12;
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Bridge::serve(guard);
        let clients = (0..SESSIONS).map(|n| {
            let http = if n % 2 == 0 { bridge.http() } else { bridge.http().http2() };
            tokio::spawn(one_of_many(http, n))
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        crate::support::ended(bridge).await;
    }
}

async fn one_of_many(http: Http, n: u64) {
    const IDS: u64 = 12;
    let session = Session::open(&http).await;
    let mut listener = session.http.get().await;
    let ids = (1000..1000 + IDS).flat_map(|id| [json!(id), json!(id.to_string())]);
    let calls = ids.enumerate().map(|(k, id)| {
        let http = session.http.clone();
        // The number of steps says whose call it was.
        let steps = 3 + (n * 5 + k as u64) % 40;
        tokio::spawn(async move {
            let params = json!({"name": "progress", "arguments": {"steps": steps, "ms": k % 3}, "_meta": {"progressToken": id}});
            let messages = http.post(request(&id, &params)).await.messages().await;
            let (answer, progress) = messages.split_last().unwrap();
            let seen: Vec<_> = progress.iter().map(|m| (&m["params"]["progressToken"], m["params"]["progress"].as_u64().unwrap())).collect();
            assert_eq!(seen, (1..=steps).map(|step| (&id, step)).collect::<Vec<_>>());
            assert_eq!(answer["id"], id);
            assert_eq!(answer["result"]["content"][0]["text"], format!("{steps} steps"));
            assert!(progress.iter().all(|m| m["params"]["total"] == steps), "{progress:?}");
        })
    });
    let news = 10;
    let calls: Vec<_> = calls.collect();
    for k in 0..news {
        session.call("raw", json!({"line": changed(&json!({"of": n, "k": k}))})).await;
    }
    for call in calls {
        call.await.unwrap();
    }
    for k in 0..news {
        assert_eq!(listener.next_message().await.unwrap()["params"], json!({"of": n, "k": k}));
    }
}

#[tokio::test]
async fn what_a_server_answers_for_another_session_goes_nowhere() {
    let bridge = Bridge::serve(Guard::None);
    let (ours, theirs) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let (mut call, mut listener) = (waits(&ours, &json!("shared")).await, ours.http.get().await);
    let (forged, progress) = (answer(&json!("shared"), "forged"), progress(&json!("shared"), 99));
    for line in [&forged, &progress] {
        theirs.call("raw", json!({"line": line})).await;
    }
    bridge.logged(&format!("session {}: a message of the child's is dropped", &theirs.id[..8]));
    assert_eq!(everything_until_now(&ours, &mut listener).await, [Value::Null; 0]);
    ours.call("raw", json!({"line": answer(&json!("shared"), "ours")})).await;
    let got = call.next_message().await.unwrap();
    assert_eq!(got["result"]["content"][0]["text"], "ours");
    assert_eq!(call.next_message().await, None);
}

#[tokio::test]
async fn an_answer_to_an_id_of_another_type_or_before_its_question_is_no_answer() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    session.call("raw", json!({"line": answer(&json!("soon"), "too soon")})).await;
    let (mut number, mut text) = (waits(&session, &json!(700)).await, waits(&session, &json!("soon")).await);
    for id in [json!("700"), json!(7), json!(7000), json!([700]), json!(null), json!(true)] {
        session.call("raw", json!({"line": answer(&id, "forged")})).await;
    }
    // 700 and 700.0 are one number.
    session.call("raw", json!({"line": answer(&json!(700.0), "true")})).await;
    assert_eq!(number.next_message().await.unwrap()["result"]["content"][0]["text"], "true");
    session.call("raw", json!({"line": answer(&json!("soon"), "in time")})).await;
    assert_eq!(text.next_message().await.unwrap()["result"]["content"][0]["text"], "in time");
    assert_eq!(everything_until_now(&session, &mut listener).await, [Value::Null; 0]);
}

/// Whoever cancels while the answer is on its way gets that answer or none, and nobody else gets it.
#[tokio::test]
async fn a_cancellation_that_crosses_the_answer_leaves_no_trace() {
    const ROUNDS: usize = 100;
    const BESIDE: usize = 4;
    let bridge = Bridge::serve(Guard::None);
    for http in [bridge.http(), bridge.http().http2()] {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        for round in 0..ROUNDS {
            let params = |name: String| json!({"name": "echo", "arguments": {"message": name}});
            let crossed =
                session.http.post(request(&json!(format!("c{round}")), &params(format!("crossed {round}"))));
            let which = json!({"requestId": format!("c{round}")});
            let cancel = session.notify("notifications/cancelled", &which);
            let beside = (0..BESIDE).map(|n| {
                let (http, id) = (session.http.clone(), json!(format!("{round} {n}")));
                let body = request(&id, &params(format!("beside {id}")));
                tokio::spawn(async move { (id, http.post(body).await.messages().await) })
            });
            let beside: Vec<_> = beside.collect();
            let (crossed, ()) = tokio::join!(crossed, cancel);
            assert!(crossed.status.is_success());
            let text = crossed.text().await;
            if !text.is_empty() {
                assert!(
                    text.contains(&format!("crossed {round}"))
                        && text.contains(&format!(r#""id":"c{round}""#)),
                    "{text}"
                );
            }
            for call in beside {
                let (id, messages) = call.await.unwrap();
                assert_eq!((messages.len(), &messages[0]["id"]), (1, &id), "{messages:?}");
                assert_eq!(messages[0]["result"]["content"][0]["text"], format!("beside {id}"));
            }
        }
        assert_eq!(everything_until_now(&session, &mut listener).await, [Value::Null; 0]);
    }
    crate::support::ended(bridge).await;
}

#[tokio::test]
async fn a_stream_keeps_the_order_of_its_messages_also_when_it_is_taken_up_again() {
    const STEPS: u64 = 400;
    let bridge = Serve::new(Guard::Mutual).config("server:\n  stream_after: 0s").start();
    let session = Session::open(&bridge.http()).await;
    let params =
        json!({"name": "progress", "arguments": {"steps": STEPS, "ms": 1}, "_meta": {"progressToken": 5}});
    let mut stream = session.http.post(request(&json!("ordered"), &params)).await;
    let (mut last, mut seen) = (stream.primed().await.id.unwrap(), 0);
    loop {
        // Broken after some messages, wherever that is.
        for _ in 0..60 {
            let event = stream.next_event().await.unwrap();
            last = event.id.unwrap();
            let message: Value = serde_json::from_str(&event.data).unwrap();
            if message["id"] == "ordered" {
                assert_eq!((seen, stream.next_message().await), (STEPS, None));
                return;
            }
            seen += 1;
            assert_eq!(message["params"]["progress"], seen);
        }
        drop(stream);
        stream = session.http.clone().header("last-event-id", &last).get().await;
        assert_eq!(stream.status, 200);
    }
}

/// A call that is in flight under this id, which is its progress token too.
async fn waits(session: &Session, id: &Value) -> Response {
    let params = json!({"name": "never", "_meta": {"progressToken": id}});
    let mut response = session.http.post(request(id, &params)).await;
    assert_eq!(response.next_message().await.unwrap()["params"]["progressToken"], *id);
    response
}

fn request(id: &Value, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

fn answer(id: &Value, text: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}).to_string()
}

fn progress(token: &Value, progress: u64) -> String {
    let params = json!({"progressToken": token, "progress": progress});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string()
}

fn changed(params: &Value) -> String {
    json!({"jsonrpc": "2.0", "method": CHANGED, "params": params}).to_string()
}

/// What has come on a listening stream before a message that is sent for this purpose.
async fn everything_until_now(session: &Session, listener: &mut Response) -> Vec<Value> {
    session.call("raw", json!({"line": changed(&json!({"mark": true}))})).await;
    let mut before = Vec::new();
    loop {
        match listener.next_message().await.unwrap() {
            message if message["params"]["mark"] == true => return before,
            message => before.push(message),
        }
    }
}
