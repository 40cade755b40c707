//! HTTP+SSE, the transport of revision 2024-11-05.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    bridge::{Bridge, Guard, Serve},
    eventually, fixture_server,
    http::{Http, Response},
    modern::{Modern, Request},
    session::initialize,
    within,
};

/// A session with its one stream.
struct Sse {
    messages: Http,
    stream: Response,
}

impl Sse {
    async fn open(http: &Http) -> Self {
        let mut stream = http.clone().path("/sse").get().await;
        assert_eq!((stream.status.as_u16(), stream.is_stream()), (200, true));
        let event = stream.next_event().await.unwrap();
        assert_eq!((event.kind.as_deref(), event.id), (Some("endpoint"), None));
        let mut sse = Self { messages: http.clone().path(&event.data), stream };
        sse.post(initialize(&json!({"sampling": {}}))).await;
        assert!(sse.next().await["result"]["protocolVersion"].is_string());
        sse
    }

    async fn post(&self, message: impl Into<bytes::Bytes>) {
        let posted = self.messages.clone().header("accept", "").post(message).await;
        assert_eq!(posted.status, 202);
    }

    async fn call(&self, id: u64, tool: &str, arguments: &Value) {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": id}});
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        self.post(request.to_string()).await;
    }

    async fn next(&mut self) -> Value {
        self.stream.next_message().await.expect("a message")
    }
}

async fn each_way(test: impl AsyncFn(Http)) {
    for guard in [Guard::None, Guard::Mutual, Guard::Bearer] {
        let bridge = Bridge::serve(guard);
        test(bridge.http()).await;
    }
}

#[tokio::test]
async fn who_gets_no_stream_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("server");
    std::fs::copy(fixture_server(), &program).unwrap();
    let limits = "server:\n  session:\n    max_sessions: 1";
    let bridge = Serve::new(Guard::None).config(limits).child(&[program.to_str().unwrap()]).start();
    let sse = Sse::open(&bridge.http()).await;
    let reason = async || {
        let refused = bridge.http().path("/sse").get().await;
        (refused.status.as_u16(), refused.json().await["error"]["data"]["reason"].clone())
    };
    assert_eq!(reason().await, (503, json!("no_place")));
    std::fs::remove_file(&program).unwrap();
    drop(sse);
    let told = within("another reason", async {
        loop {
            let told = reason().await;
            if told.0 != 503 {
                return told;
            }
        }
    });
    assert_eq!(told.await, (502, json!("child_not_started")));
}

#[tokio::test]
async fn everything_goes_on_the_one_stream() {
    each_way(async |http| {
        let mut sse = Sse::open(&http).await;
        sse.call(1, "progress", &json!({"steps": 2})).await;
        assert_eq!(sse.next().await["params"]["progress"], 1);
        assert_eq!(sse.next().await["params"]["progress"], 2);
        assert_eq!(sse.next().await["id"], 1);
        sse.call(2, "sample", &json!({"prompt": "p"})).await;
        let asked = sse.next().await;
        assert_eq!(asked["method"], "sampling/createMessage");
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"x": "sampled"}});
        sse.post(answer.to_string()).await;
        let answered = sse.next().await;
        assert!(answered["id"] == 2 && answered.to_string().contains("sampled"), "{answered}");
        sse.call(3, "list_changed", &json!({})).await;
        assert_eq!(sse.next().await["method"], "notifications/tools/list_changed");
    })
    .await;
}

#[tokio::test]
async fn closing_the_stream_ends_the_session_and_its_server() {
    let bridge = Bridge::serve(Guard::Tls);
    let sse = Sse::open(&bridge.http()).await;
    drop(sse.stream);
    // Not `logged`, which would keep the client's own tasks from closing the connection.
    eventually("the end", || bridge.stderr().contains("exited with status 0").then_some(())).await;
    let late = sse.messages.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!(late.status, 404);
}

#[tokio::test]
async fn a_server_that_dies_answers_and_ends_the_stream() {
    let bridge = Bridge::serve(Guard::None);
    let mut sse = Sse::open(&bridge.http()).await;
    sse.call(1, "die", &json!({"status": 3})).await;
    let answer = sse.next().await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("exited with status 3"), "{answer}");
    assert_eq!(sse.stream.next_message().await, None);
}

#[tokio::test]
async fn a_session_of_one_transport_does_not_exist_for_the_other() {
    let bridge = Bridge::serve(Guard::None);
    let http = bridge.http();
    let sse = Sse::open(&http).await;
    let opened = http.post(initialize(&json!({}))).await;
    let id = opened.header("mcp-session-id").to_owned();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let crossed = http.clone().path(&format!("/messages?sessionId={id}"));
    assert_eq!(crossed.post(ping).await.status, 404);
    assert_eq!(http.clone().path("/messages").post(ping).await.status, 400);
    let response = http.clone().path("/sse").post(ping).await;
    assert_eq!((response.status.as_u16(), response.header("allow")), (405, "GET"));
    sse.post(ping).await;
}

#[tokio::test]
async fn a_principal_that_fills_a_shared_child_leaves_room_for_others() {
    const SESSIONS: usize = 4;
    const EACH: u64 = 1024;
    let config = "auth:\n  type: bearer\n  bearer:\n    tokens: [one, two]";
    let bridge = Serve::new(Guard::None).child_arg("--modern").config(config).start();
    let [one, two] =
        ["one", "two"].map(|token| bridge.http().header("authorization", &format!("Bearer {token}")));
    let read = async |http: &Http| {
        Modern(http.clone()).request(&Request::new(1, "resources/read", json!({"uri": "a:1"}))).await
    };
    let hold = async |sse: &Sse, id: u64| {
        let params = json!({"uri": "hold:"});
        let hold = json!({"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": params});
        sse.post(hold.to_string()).await;
    };
    let last = Sse::open(&one).await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let sse = Sse::open(&one).await;
        for id in 1..=EACH {
            hold(&sse, id).await;
        }
        sessions.push(sse);
    }
    // They are on their way to the child when their posts are answered. Where a read overtakes the last of them, that one
    // finds no place, and another must take it.
    let full = async {
        for id in 1..=EACH {
            if read(&one).await["error"]["data"]["reason"] == "too_many_requests" {
                return;
            }
            hold(&last, id).await;
        }
        panic!("there is no end of places");
    };
    within("the last of half the places", full).await;
    for _ in 0..10 {
        assert_eq!(read(&two).await["result"]["contents"][0]["text"], "contents");
    }
    drop((sessions, last));
    let free = async { while read(&one).await["result"].is_null() {} };
    within("places that are free again", free).await;
}

#[tokio::test]
async fn an_exchange_finishes_when_the_bridge_is_told_to_stop() {
    let mut bridge = Serve::new(Guard::None).start();
    let mut sse = Sse::open(&bridge.http()).await;
    sse.call(1, "sample", &json!({"prompt": "p"})).await;
    let asked = sse.next().await;
    bridge.signal(Signal::SIGTERM);
    bridge.logged("finishing what is in flight");
    sse.post(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).to_string()).await;
    assert_eq!(sse.next().await["id"], 1);
    assert_eq!(sse.stream.next_message().await, None);
    assert!(bridge.wait().success());
}
