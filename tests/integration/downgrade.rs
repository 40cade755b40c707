//! A legacy client on a modern server: the task that drives the translation, and `serve` over it.

use std::{path::Path, sync::Arc, time::Duration};

use mcp_bridge::{
    config::{self, Options, Role},
    jsonrpc::RequestId,
    metrics::Metrics,
    serve::{Prepared, Server},
    session::Limits,
    upstream::{Downgraded, LegacyServer},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::http::Http;
use crate::support::scripted::{Asked, Calls, Scripted, message, scripted};
use crate::support::session::{self, Session};
use crate::support::within;

const LIMITS: Limits = Limits { silence: None, total: Duration::from_secs(3600) };

async fn next(client: &mut Downgraded) -> (Value, Option<RequestId>) {
    let next = within("a message", client.next()).await.unwrap();
    (serde_json::from_str(next.message.line.as_str()).unwrap(), next.about)
}

fn send(client: &mut Downgraded, mut value: Value) {
    value["jsonrpc"] = json!("2.0");
    client.send(message(&value)).unwrap();
}

fn offers() -> Value {
    json!({"logging": {}, "tools": {"listChanged": true}, "resources": {"subscribe": true}})
}

/// A client that has been let in.
async fn entered(server: &Arc<Scripted>, calls: &mut Calls) -> Downgraded {
    let mut client = Downgraded::new(Arc::clone(server), LIMITS);
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}});
    send(&mut client, json!({"id": 0, "method": "initialize", "params": params}));
    calls.let_in(&offers()).await;
    assert_eq!(next(&mut client).await.0["result"]["capabilities"], offers());
    client
}

// The driver.

#[tokio::test]
async fn a_call_takes_its_rounds() {
    let (server, mut calls) = scripted();
    let mut client = entered(&server, &mut calls).await;
    send(&mut client, json!({ "method": "notifications/x" }));
    calls.next_is("notifications/x").await;
    send(&mut client, json!({ "id": "a", "method": "tools/call", "params": { "name": "t" } }));
    let first = calls.next().await;
    first.ask_for_roots();
    let (question, about) = next(&mut client).await;
    assert_eq!((&question["method"], about), (&json!("roots/list"), Some(RequestId::String("a".into()))));
    send(&mut client, json!({ "id": question["id"], "result": { "roots": [] } }));
    let second = calls.next().await;
    assert_eq!(second.params["inputResponses"], json!({ "k": { "roots": [] } }));
    assert_ne!(second.id, first.id);
    second.answer(&json!({ "resultType": "input_required", "requestState": "s" }));
    // Time is the driver's.
    let third = calls.next().await;
    assert_eq!(third.params["requestState"], "s");
    third.answer(&json!({ "resultType": "complete", "content": [] }));
    assert_eq!(next(&mut client).await.0["result"], json!({ "content": [] }));
    within("it", client.end()).await;
}

#[tokio::test]
async fn what_is_cancelled_and_what_ends_with_its_client_leaves_the_server() {
    let (server, mut calls) = scripted();
    let mut client = entered(&server, &mut calls).await;
    for id in [1, 2] {
        send(&mut client, json!({ "id": id, "method": "tools/call", "params": {} }));
    }
    let (first, second) = (calls.next().await, calls.next().await);
    send(&mut client, json!({ "method": "notifications/cancelled", "params": { "requestId": 1 } }));
    let (first, mut second) = if first.id == 2 { (first, second) } else { (second, first) };
    within("it", first.left).await.unwrap();
    assert!(second.left.try_recv().is_err());
    within("it", client.end()).await;
    second.left.try_recv().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_nobody_else_wait() {
    let (server, mut calls) = scripted();
    let (mut slow, mut other) = (entered(&server, &mut calls).await, entered(&server, &mut calls).await);
    send(&mut slow, json!({ "id": 1, "method": "tools/call", "params": {} }));
    let flooded = calls.next().await;
    let params = json!({ "data": "x".repeat(100_000) });
    // The server is never made to wait: it finds no room, and cuts the call.
    within("it", async {
        while flooded.tell("notifications/message", &params).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(flooded);
    send(&mut other, json!({ "id": 1, "method": "tools/call", "params": {} }));
    calls.next().await.answer(&json!({ "content": [] }));
    assert_eq!(next(&mut other).await.0["id"], 1);
    loop {
        let (message, _) = next(&mut slow).await;
        if message["id"] == 1 {
            break assert_eq!(message["error"]["data"]["reason"], "no_answer");
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_when_one_subscription_takes_the_place_of_another() {
    let (server, mut calls) = scripted();
    let mut client = entered(&server, &mut calls).await;
    send(&mut client, json!({ "id": 1, "method": "resources/subscribe", "params": { "uri": "a:1" } }));
    let old = calls.next().await;
    old.acknowledge();
    assert_eq!(next(&mut client).await.0["id"], 1);
    send(&mut client, json!({ "id": 2, "method": "resources/subscribe", "params": { "uri": "a:2" } }));
    let new = calls.next().await;
    for n in 0..100 {
        old.tell("notifications/resources/updated", &json!({ "uri": "a:1", "n": n })).unwrap();
    }
    new.acknowledge();
    let mut updates = 0;
    let mut answered = false;
    while updates < 100 || !answered {
        let (message, about) = next(&mut client).await;
        match message["method"].as_str() {
            Some(_) => {
                assert_eq!((&message["params"]["n"], about), (&json!(updates), None));
                updates += 1;
            }
            None => answered = true,
        }
    }
    within("it", old.left).await.unwrap();
    within("it", client.end()).await;
}

#[tokio::test]
async fn dropping_it_ends_everything() {
    let (server, mut calls) = scripted();
    let mut client = entered(&server, &mut calls).await;
    send(&mut client, json!({ "id": 1, "method": "tools/call", "params": {} }));
    let call = calls.next().await;
    drop(client);
    within("it", call.left).await.unwrap();
}

// `serve`.

/// A `serve` within the test, whose sessions run on the scripted server.
struct Local {
    http: Http,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Local {
    fn serve(server: &Arc<Scripted>, more: &str) -> Self {
        // The command is not what sessions run on.
        let text = format!("mode: server\nserver:\n  listen: 127.0.0.1:0\n{more}  command: /bin/true\n");
        let config = config::parse(Path::new("test.yaml"), &text, &Options::default(), &|_| None).unwrap();
        let Role::Serve(config) = config.role else { panic!("not a server") };
        let prepared = Prepared::load(&config).unwrap().on(Arc::clone(server));
        let server = Server::bind(prepared, &Metrics::of_serve(false)).unwrap();
        let (http, stop) = (Http::new(&server.url()), CancellationToken::new());
        let running = tokio::spawn(server.run(stop.clone().cancelled_owned(), std::future::pending()));
        Self { http, stop, running }
    }

    /// A session, and what its client listens to.
    async fn open(&self, calls: &mut Calls) -> (Session, Asked) {
        let capabilities = offers();
        let (session, ()) = tokio::join!(Session::open(&self.http), calls.let_in(&capabilities));
        let listening = calls.next_is("subscriptions/listen").await;
        listening.acknowledge();
        (session, listening)
    }

    async fn stop(self) {
        self.stop.cancel();
        within("the end of serve", self.running).await.unwrap();
    }
}

const NOTHING_MORE: &str = "mcp:\n";

#[tokio::test]
async fn a_question_comes_on_the_stream_of_the_call_that_it_is_for() {
    let (server, mut calls) = scripted();
    let serve = Local::serve(&server, NOTHING_MORE);
    let (session, _listening) = serve.open(&mut calls).await;
    let mut listener = session.http.get().await;
    listener.primed().await;
    let arguments = json!({"name": "t", "arguments": {"n": 1.0}});
    let ask = async {
        let (first, second) = (calls.next().await, calls.next().await);
        first.ask_for_roots();
        second.tell("notifications/message", &json!({"level": "info", "data": second.id})).unwrap();
        (second, first)
    };
    let one = session.start("tools/call", &arguments);
    let two = session.start("tools/call", &arguments);
    let (mut one, mut two, (second, _)) = tokio::join!(one, two, ask);
    one.primed().await;
    two.primed().await;
    let (asked, told) = tokio::join!(one.next_message(), two.next_message());
    let (mut asked, mut told) = (asked.unwrap(), told.unwrap());
    let mut other = two;
    if asked["method"] != "roots/list" {
        std::mem::swap(&mut asked, &mut told);
        std::mem::swap(&mut one, &mut other);
    }
    assert_eq!((&asked["method"], &told["method"]), (&json!("roots/list"), &json!("notifications/message")));
    session.answer(&asked, json!({"roots": []})).await;
    let again = calls.next_is("tools/call").await;
    assert_eq!(again.params["inputResponses"], json!({"k": {"roots": []}}));
    again.answer(&json!({"resultType": "complete", "content": [], "n": 1}));
    second.answer(&json!({"resultType": "complete", "content": [], "n": 2}));
    assert_eq!(one.next_message().await.unwrap()["result"], json!({"content": [], "n": 1}));
    assert_eq!(other.next_message().await.unwrap()["result"], json!({"content": [], "n": 2}));
    assert_eq!((one.next_message().await, other.next_message().await), (None, None));
}

#[tokio::test]
async fn what_changes_is_told_to_who_listens() {
    let (server, mut calls) = scripted();
    let serve = Local::serve(&server, NOTHING_MORE);
    let (session, _listening) = serve.open(&mut calls).await;
    let mut listener = session.http.get().await;
    listener.primed().await;
    let params = json!({"uri": "a:1"});
    let subscribed = session.request("resources/subscribe", &params);
    let (subscribed, listening) = tokio::join!(subscribed, async {
        let listening = calls.next_is("subscriptions/listen").await;
        listening.acknowledge();
        listening
    });
    assert_eq!(subscribed["result"], json!({}));
    listening.tell("notifications/resources/updated", &params).unwrap();
    listening.tell("notifications/tools/list_changed", &json!({})).unwrap();
    assert_eq!(listener.next_message().await.unwrap()["params"], params);
    assert_eq!(listener.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test]
async fn a_session_that_ends_ends_its_calls_and_makes_room() {
    let (server, mut calls) = scripted();
    let serve = Local::serve(&server, "  session:\n    max_sessions: 1\nmcp:\n");
    let (session, _listening) = serve.open(&mut calls).await;
    let refused = serve.http.post(session::initialize(&json!({}))).await;
    assert_eq!(refused.status, 503);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}).to_string();
    let ((), answer) = tokio::join!(
        async {
            let call = calls.next_is("tools/call").await;
            session.http.delete().await;
            within("the end of the call", call.left).await.unwrap();
        },
        session.http.post(call)
    );
    let answer = answer.messages().await.pop().unwrap();
    assert_eq!(answer["error"]["data"]["reason"], "session_ended");
    serve.open(&mut calls).await;
    serve.stop().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_ended_on_both_sides() {
    let (server, mut calls) = scripted();
    let serve = Local::serve(&server, "mcp:\n  request_timeout: 100ms\n");
    let (session, _listening) = serve.open(&mut calls).await;
    let (answer, ()) = tokio::join!(session.call("t", json!({})), async {
        let call = calls.next_is("tools/call").await;
        within("the end of the call", call.left).await.unwrap();
    });
    assert_eq!(answer["error"]["data"]["reason"], "timed_out");
    serve.stop().await;
}

#[tokio::test]
async fn a_session_over_the_two_endpoints_of_2024_runs_on_it_too() {
    let (server, mut calls) = scripted();
    let serve = Local::serve(&server, NOTHING_MORE);
    let mut stream = serve.http.clone().path("/sse").get().await;
    let endpoint = stream.next_event().await.unwrap().data;
    let messages = serve.http.clone().path(&endpoint);
    let opened = messages.post(session::initialize(&json!({"roots": {}}))).await;
    assert_eq!(opened.status, 202);
    calls.let_in(&offers()).await;
    assert_eq!(stream.next_message().await.unwrap()["id"], 0);
    messages.post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}).to_string()).await;
    let call = calls.next_is("tools/call").await;
    call.ask_for_roots();
    assert_eq!(stream.next_message().await.unwrap()["method"], "roots/list");
}
