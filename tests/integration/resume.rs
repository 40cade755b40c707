//! A broken stream is taken up again where it was left (`Last-Event-ID`).

use serde_json::json;

use crate::support::{
    bridge::{Bridge, Guard, Serve},
    http::{Http, Response},
    session::Session,
};

const LIMITS: &str = "server:\n  shutdown_timeout: 0s\n  stream_after: 0s";

fn serve() -> Bridge {
    Serve::new(Guard::Tls).config(LIMITS).start()
}

/// Takes a stream of `session` up again after the event `last`.
async fn resume(session: &Session, last: &str) -> Response {
    with_last(session, last).get().await
}

fn with_last(session: &Session, last: &str) -> Http {
    session.http.clone().header("last-event-id", last)
}

#[tokio::test]
async fn an_answer_that_its_client_missed_is_given_when_the_client_comes_back() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut call = session.start_call("meet", json!({"n": 2}), "t").await;
    let primed = call.primed().await.id.unwrap();
    drop(call);
    // The second call lets the first one end, whose client is gone by now.
    session.call("meet", json!({"n": 2})).await;
    let mut again = resume(&session, &primed).await;
    assert_eq!(again.next_message().await.unwrap()["id"], 1);
    assert_eq!(again.next_message().await, None);
}

#[tokio::test]
async fn only_what_was_missed_is_sent_again_in_its_order() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut call = session.start_call("progress", json!({"steps": 5}), "t").await;
    call.primed().await;
    let first = call.next_event().await.unwrap();
    drop(call);
    let mut again = resume(&session, &first.id.unwrap()).await;
    for step in 2..=5 {
        assert_eq!(again.next_message().await.unwrap()["params"]["progress"], step);
    }
    assert!(again.next_message().await.unwrap()["result"].is_object());
    assert_eq!(again.next_message().await, None);
}

#[tokio::test]
async fn a_listening_stream_goes_on_where_it_broke() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    listener.primed().await;
    session.call("list_changed", json!({})).await;
    let seen = listener.next_event().await.unwrap().id.unwrap();
    drop(listener);
    // After its call, so that nothing but a listening stream can carry the news.
    session.call("list_changed", json!({"after": true})).await;
    let mut again = resume(&session, &seen).await;
    let missed = again.next_event().await.unwrap();
    assert!(missed.data.contains("list_changed") && missed.id.as_deref() != Some(&*seen), "{missed:?}");
}

#[tokio::test]
async fn a_stream_that_is_taken_up_twice_is_read_by_the_newer() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    let primed = listener.primed().await.id.unwrap();
    let mut newer = resume(&session, &primed).await;
    assert_eq!(listener.next_event().await, None);
    session.call("list_changed", json!({})).await;
    assert!(newer.next_event().await.unwrap().data.contains("list_changed"));
}

#[tokio::test]
async fn a_call_that_was_cancelled_is_not_waited_for_again_and_again() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut call = session.start_call("never", json!({}), "t").await;
    let primed = call.primed().await.id.unwrap();
    let progress = call.next_event().await.unwrap();
    session.notify("notifications/cancelled", &json!({"requestId": 1})).await;
    assert_eq!(call.next_event().await, None);
    // What was missed is given, as often as it is asked for; but never an end alone.
    for _ in 0..2 {
        let mut again = resume(&session, &primed).await;
        assert_eq!(again.next_event().await.unwrap(), progress);
        assert_eq!(again.next_event().await, None);
    }
    let over = resume(&session, &progress.id.unwrap()).await;
    assert_eq!(over.status, 400);
    assert_eq!(over.json().await["error"]["data"]["reason"], "unknown_event");
}

#[tokio::test]
async fn a_listening_stream_that_was_ended_is_followed_by_another() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut first = session.http.get().await;
    first.primed().await;
    session.call("list_changed", json!({})).await;
    let seen = first.next_event().await.unwrap().id.unwrap();
    // There may be four.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(session.http.get().await);
    }
    assert_eq!(first.next_event().await, None);
    let mut again = resume(&session, &seen).await;
    session.call("list_changed", json!({})).await;
    let next = again.next_message().await.unwrap();
    assert_eq!(next["method"], "notifications/tools/list_changed", "nothing was lost");
}

#[tokio::test]
async fn what_can_not_be_taken_up_again_is_refused() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    for id in ["e999-0", "nonsense", ""] {
        let refused = with_last(&session, id).header("last-event-id", if id.is_empty() { " " } else { id });
        let response = refused.get().await;
        assert_eq!(response.status, 400, "{id:?}");
        assert_eq!(response.json().await["error"]["data"]["reason"], "unknown_event");
    }
    let other = Session::open(&bridge.http()).await;
    let mut call = session.start_call("never", json!({}), "t").await;
    let id = call.primed().await.id.unwrap();
    assert_eq!(resume(&other, &id).await.status, 400, "a stream is its session's alone");
}

/// Larger than what is kept.
const LARGE: u64 = 3 << 20;

#[tokio::test]
async fn an_answer_that_is_too_large_to_keep_is_missed_as_an_error() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    let listening = listener.primed().await.id.unwrap();
    session.call("list_changed", json!({})).await;
    let mut call = session.start_call("big", json!({"bytes": LARGE}), "t").await;
    let primed = call.primed().await.id.unwrap();
    assert!(call.next_message().await.unwrap()["result"].is_object());
    let mut again = resume(&session, &primed).await;
    let answer = again.next_message().await.unwrap();
    // The session's requests are numbered.
    assert_eq!((&answer["id"], &answer["error"]["data"]["reason"]), (&json!(2), &json!("answer_lost")));
    assert_eq!(again.next_message().await, None);
    // What other streams have sent is kept.
    let mut again = resume(&session, &listening).await;
    assert_eq!(again.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
    session.http.delete().await;
    bridge.logged("1 messages were not kept");
}

#[tokio::test]
async fn a_message_that_is_too_large_to_keep_is_not_passed_over() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut call = session.start_call("huge_line", json!({"bytes": LARGE}), "t").await;
    let primed = call.primed().await.id.unwrap();
    let large = call.next_event().await.unwrap();
    assert!(call.next_message().await.unwrap()["result"].is_object());
    let refused = resume(&session, &primed).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json().await["error"]["data"]["reason"], "unknown_event");
    let mut again = resume(&session, &large.id.unwrap()).await;
    assert!(again.next_message().await.unwrap()["result"].is_object());
    assert_eq!(again.next_message().await, None);
}

#[tokio::test]
async fn whoever_listens_again_is_told_that_messages_are_lost() {
    let bridge = serve();
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    let primed = listener.primed().await.id.unwrap();
    let text = "x".repeat(usize::try_from(LARGE).unwrap());
    let line = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"x": text}});
    session.call("raw", json!({"line": line.to_string()})).await;
    assert_eq!(listener.next_message().await.unwrap()["params"]["x"], text);
    let mut again = resume(&session, &primed).await;
    let told = again.next_message().await.unwrap();
    assert_eq!(
        (&told["method"], &told["params"]["logger"]),
        (&json!("notifications/message"), &json!("mcp-bridge"))
    );
    session.call("list_changed", json!({})).await;
    assert_eq!(again.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
}
