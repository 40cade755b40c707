//! Which revision is spoken is agreed between client and server, and `connect` sends what they agreed on.

use serde_json::{Value, json};

use crate::revisions::REVISIONS;
use crate::support::connect::{Client, Connect, initialize_params, opened_in};
use crate::support::remote::Remote;

#[test]
fn a_client_and_a_server_of_any_two_revisions_agree_through_connect() {
    for client in &REVISIONS {
        for server in &REVISIONS {
            let (mut connect, remote) = agreed(client.name, server.name);
            what_was_agreed_on_is_named(&remote, &mut connect, server.name);
            a_batch_is_sent_in_pieces(&remote, &mut connect);
            an_answer_is_taken_in_any_form(&remote, &mut connect);
        }
    }
}

/// The server goes first at the end, so that nobody waits for its last answers.
fn agreed(client: &str, server: &str) -> (Client, Remote) {
    let remote = Remote::plain();
    let mut connect = Connect::to(&remote.url).start();
    let mut params = initialize_params();
    params["protocolVersion"] = client.into();
    connect.ask("init", "initialize", &params);
    let asked = remote.asked("initialize");
    assert_eq!((&asked.message()["params"], asked.header("mcp-protocol-version")), (&params, String::new()));
    opened_in(asked, "session", server);
    assert_eq!(connect.next_message()["result"]["protocolVersion"], server);
    (connect, remote)
}

/// The header came with 2025-06-18. Servers of older revisions do not look at it, and some SDKs' clients send it to them
/// as well.
fn what_was_agreed_on_is_named(remote: &Remote, connect: &mut Client, version: &str) {
    connect.notify("notifications/initialized", &json!({}));
    let initialized = remote.asked("notifications/initialized");
    assert_eq!(initialized.header("mcp-protocol-version"), version);
    initialized.accepted();
    let get = remote.get();
    assert_eq!(get.header("mcp-protocol-version"), version);
    get.respond("405 Method Not Allowed", &[], b"");
}

/// Only one revision has batches, and each message of one may as well come by itself.
fn a_batch_is_sent_in_pieces(remote: &Remote, connect: &mut Client) {
    let ping = |id: &str| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    connect.message(&json!([ping("a"), ping("b")]));
    for _ in 0..2 {
        remote.asked("ping").result(&json!({}));
    }
    let mut ids = [0; 2].map(|_| connect.next_message()["id"].to_string());
    ids.sort();
    assert_eq!(ids, [r#""a""#, r#""b""#]);
}

/// As JSON, in an array, on a stream that is primed and on one that is not.
fn an_answer_is_taken_in_any_form(remote: &Remote, connect: &mut Client) {
    let news = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    let answer = |id: &str| json!({"jsonrpc": "2.0", "id": id, "result": {"of": id}});
    let mut hear = |id: &str, says: &dyn Fn()| -> Vec<Value> {
        connect.ask(id, "tools/list", &json!({}));
        says();
        std::iter::from_fn(|| Some(connect.next_message())).take(2).collect()
    };

    let said = hear("array", &|| remote.asked("tools/list").json(&json!([news, answer("array")])));
    assert_eq!(said, [news.clone(), answer("array")]);

    for (id, beginning) in [("plain", ": hello\n\n"), ("primed", "retry: 100\nid: e-0\ndata:\n\n")] {
        let said = hear(id, &|| {
            let mut events = remote.asked("tools/list").events();
            events.piece(beginning.as_bytes());
            events.message(&json!([news, answer(id)]));
            events.end();
        });
        assert_eq!(said, [news.clone(), answer(id)]);
    }
}
