//! Which revision is spoken is agreed between client and server: the bridge changes nothing of it, and the transport
//! is that of the revision they agreed on.

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::{Http, Response};
use crate::support::session::{Session, initialize};

/// A revision, and what is particular to its Streamable HTTP.
pub(crate) struct Revision {
    pub(crate) name: &'static str,
    /// A POST may be a batch.
    batches: bool,
    /// A stream begins with an event that only names a point to resume from.
    priming: bool,
    /// `MCP-Protocol-Version` means something.
    header: bool,
}

/// The last one is of a future in which there is still `initialize`.
pub(crate) const REVISIONS: [Revision; 5] = [
    Revision { name: "2024-11-05", batches: false, priming: false, header: false },
    Revision { name: "2025-03-26", batches: true, priming: false, header: false },
    Revision { name: "2025-06-18", batches: false, priming: false, header: true },
    Revision { name: "2025-11-25", batches: false, priming: true, header: true },
    Revision { name: "2031-02-03", batches: false, priming: false, header: true },
];

#[tokio::test]
async fn a_client_and_a_server_of_any_two_revisions_agree_through_serve() {
    for server in &REVISIONS {
        let bridge = speaking(server);
        for client in &REVISIONS {
            let session = agreed(&bridge.http(), client, server).await;
            let asked = session.call("about", json!({})).await;
            let asked = &asked["result"]["structuredContent"]["initialize"];
            assert_eq!(asked["protocolVersion"], client.name, "what the server has heard");
            as_agreed(&session, server).await;
        }
    }
}

#[tokio::test]
async fn http_with_sse_carries_every_revision() {
    for server in &REVISIONS {
        let bridge = speaking(server);
        for client in &REVISIONS {
            let mut stream = bridge.http().path("/sse").get().await;
            let endpoint = stream.next_event().await.unwrap().data;
            let messages = bridge.http().path(&endpoint);
            assert_eq!(messages.post(asking_for(client)).await.status, 202);
            assert_eq!(version(&stream.next_message().await.unwrap()), server.name);
            assert_eq!(messages.post(format!("[{}]", ping("a"))).await.status, 400);
            assert_eq!(messages.post(ping("b")).await.status, 202);
            let event = stream.next_event().await.unwrap();
            assert_eq!(
                (&*event.data, event.id, event.retry),
                (r#"{"id":"b","jsonrpc":"2.0","result":{}}"#, None, None)
            );
        }
    }
}

/// A `serve` whose server speaks that revision, whatever it is asked for. All that is long becomes a stream.
fn speaking(revision: &Revision) -> Bridge {
    Serve::new(Guard::None)
        .config("server:\n  shutdown_timeout: 0s")
        .child_arg("--revision")
        .child_arg(revision.name)
        .start()
}

/// A session of a client that asks for one revision and gets another, as it is.
async fn agreed(http: &Http, client: &Revision, server: &Revision) -> Session {
    let response = http.post(asking_for(client)).await;
    let id = response.header("mcp-session-id").to_owned();
    assert_eq!(version(&response.json().await), server.name);
    Session::taken_up(http, &id, server.name)
}

/// The transport is that of the revision that was agreed on.
async fn as_agreed(session: &Session, revision: &Revision) {
    let name = revision.name;
    let refused_if = |refused: bool| if refused { 400 } else { 200 };

    let batch = session.http.post(format!("[{},{}]", ping("a"), ping("b"))).await;
    assert_eq!(batch.status, refused_if(!revision.batches), "{name}: a batch");

    let mut call = session.start_call("progress", json!({"steps": 1}), "t").await;
    assert_eq!(is_primed(&mut call).await, revision.priming, "{name}: an answer");
    let mut listener = session.http.get().await;
    session.call("list_changed", json!({})).await;
    assert_eq!(is_primed(&mut listener).await, revision.priming, "{name}: a stream of the server's own");

    for (header, refused) in [("", false), (name, false), ("1999-01-01", revision.header)] {
        let http = session.http.clone().header("mcp-protocol-version", header);
        assert_eq!(http.post(ping("c")).await.status, refused_if(refused), "{name}: header {header:?}");
        assert_eq!(http.get().await.status, refused_if(refused), "{name}: header {header:?} of a GET");
    }
}

/// Whether the first event of a stream only names a point to resume from, and says when.
async fn is_primed(stream: &mut Response) -> bool {
    let first = stream.next_event().await.unwrap();
    assert_eq!(first.retry.is_some(), first.data.is_empty(), "{first:?}");
    first.data.is_empty()
}

fn asking_for(revision: &Revision) -> String {
    initialize(&json!({"sampling": {}})).replace("2025-11-25", revision.name)
}

fn version(answer: &Value) -> &str {
    answer["result"]["protocolVersion"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

fn ping(id: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()
}
