//! How `connect` finds out of which era the server is: it asks, before the first modern request.

use serde_json::{Value, json};

use super::{LEGACY, Pair, QUICK, discovered, refuse};
use crate::support::connect::{Connect, opened};
use crate::support::modern::Request;
use crate::support::remote::{self, Remote, closed_port};

const DISCOVER: &str = "server/discover";

/// The client asks for prompts, and the bridge for the server's era.
fn asking(config: &str) -> (Pair, remote::Request) {
    let mut pair = Pair::new(config);
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    let discover = pair.remote.asked(DISCOVER);
    assert_eq!(
        (discover.header("mcp-protocol-version"), discover.header("mcp-method")),
        ("2026-07-28".into(), DISCOVER.into())
    );
    (pair, discover)
}

/// The server was taken for a modern one, for good.
fn is_modern(mut pair: Pair) {
    for id in 1..3 {
        let request = pair.remote.post();
        assert_eq!(request.header("mcp-method"), "prompts/list");
        request.result(&json!({}));
        assert_eq!(pair.client.next_message()["id"], id);
        pair.ask(&Request::new(id + 1, "prompts/list", json!({})));
    }
}

/// The server was taken for a legacy one, for good.
fn is_legacy(mut pair: Pair) {
    let initialize = pair.remote.post();
    assert_eq!(initialize.message()["method"], "initialize");
    opened(initialize, "s");
    pair.remote.asked("notifications/initialized").accepted();
    pair.remote.get().respond("405 Method Not Allowed", &[], b"");
    for id in 1..3 {
        let request = pair.remote.post();
        assert_eq!(
            (request.header("mcp-session-id"), request.header("mcp-method")),
            ("s".into(), String::new())
        );
        request.result(&json!({"prompts": []}));
        let answer = pair.client.next_message();
        assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!(id), &json!("complete")));
        pair.ask(&Request::new(id + 1, "prompts/list", json!({})));
    }
}

#[test]
fn a_result_that_names_the_revision_is_modern() {
    let (pair, discover) = asking("");
    discover.result(&discovered());
    is_modern(pair);
    let (pair, discover) = asking("");
    let mut events = discover.events();
    events.result(&discovered());
    is_modern(pair);
}

#[test]
fn errors_that_only_the_revision_knows_are_modern() {
    for (code, data) in [
        (-32020, json!({})),
        (-32021, json!({"requiredCapabilities": {}})),
        (-32022, json!({"supported": ["2027-01-01"], "requested": "2026-07-28"})),
    ] {
        let (pair, discover) = asking("");
        refuse(discover, "400 Bad Request", code, &data);
        is_modern(pair);
    }
}

#[test]
fn other_answers_are_a_legacy_servers() {
    let (pair, discover) = asking("");
    discover.result(&json!({"supportedVersions": ["2025-11-25"], "capabilities": {}}));
    is_legacy(pair);
    for (status, code, data) in [
        ("200 OK", -32601, Value::Null),
        ("404 Not Found", -32601, Value::Null),
        ("200 OK", -32602, Value::Null),
        ("400 Bad Request", -32000, Value::Null),
        ("400 Bad Request", -32022, json!({"supported": ["2025-06-18"], "requested": "2026-07-28"})),
    ] {
        let (pair, discover) = asking("");
        refuse(discover, status, code, &data);
        is_legacy(pair);
    }
    for (status, media) in [
        ("404 Not Found", "text/html"),
        ("405 Method Not Allowed", "text/plain"),
        ("400 Bad Request", "text/plain"),
        ("200 OK", "text/html"),
    ] {
        let (pair, discover) = asking("");
        discover.respond(status, &[&format!("content-type: {media}")], b"<p>?</p>");
        is_legacy(pair);
    }
    let (pair, discover) = asking("");
    discover.accepted();
    is_legacy(pair);
}

#[test]
fn a_server_that_does_not_answer_is_a_legacy_one() {
    let (pair, silent) = asking("client:\n  connect_timeout: 100ms");
    is_legacy(pair);
    drop(silent);
}

#[test]
fn failures_say_nothing_and_are_not_remembered() {
    let (mut pair, mut discover) = asking("");
    for (id, status) in (1..).zip([
        "401 Unauthorized",
        "403 Forbidden",
        "407 Proxy Authentication Required",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
        "302 Found",
    ]) {
        discover.respond(status, &["content-type: text/plain"], b"no");
        let error = pair.client.own_error(id);
        assert!(error.contains(&status[..3]), "{error}");
        pair.ask(&Request::new(id + 1, "prompts/list", json!({})));
        discover = pair.remote.asked(DISCOVER);
    }
    drop(discover);
    assert!(pair.client.own_error(8).contains("may have run"));
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    pair.remote.asked(DISCOVER).result(&discovered());
    is_modern(pair);
}

#[test]
fn all_who_wait_for_an_attempt_share_in_its_failure() {
    let (mut pair, discover) = asking("");
    for id in 2..=20 {
        pair.ask(&Request::new(id, "prompts/list", json!({})));
    }
    // Answered here, and so after the others were taken in.
    pair.client.ask("x", DISCOVER, &json!({}));
    assert_eq!(pair.client.next_message()["id"], "x");
    discover.respond("503 Service Unavailable", &[], b"");
    for _ in 1..=20 {
        assert_eq!(pair.client.next_message()["error"]["data"]["reason"], "http_status");
    }
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_request_is_cancelled_while_the_server_is_asked() {
    let (mut pair, discover) = asking("");
    pair.cancel(1);
    pair.ask(&Request::new(2, "prompts/get", json!({"name": "p"})));
    discover.wait_closed();
    pair.remote.asked(DISCOVER).result(&discovered());
    let second = pair.remote.post();
    assert_eq!(second.message()["id"], 2);
    second.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 2);
}

#[test]
fn a_server_that_is_not_there_is_of_no_era() {
    let url = format!("http://127.0.0.1:{}/mcp", closed_port());
    let mut client = Connect::to(&url).config(&format!("client:\n{QUICK}")).start();
    client.message(&Request::new(1, "prompts/list", json!({})).0);
    assert!(client.own_error(1).contains("refused"));
    let remote = Remote::plain_on(url.rsplit(':').next().unwrap().trim_end_matches("/mcp").parse().unwrap());
    client.message(&Request::new(1, "prompts/list", json!({})).0);
    remote.asked(DISCOVER).result(&discovered());
    is_modern(Pair { remote, client });
}

#[test]
fn what_the_configuration_says_is_not_asked() {
    let mut pair = Pair::new(LEGACY);
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    is_legacy(pair);
    // Nor what HTTP+SSE says: it is older than the question.
    let mut pair = Pair::new("client:\n  transport: sse");
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    assert_eq!(pair.remote.take("any", |_| true).method, "GET");
}

#[test]
fn without_translation_a_modern_client_gets_the_legacy_servers_own_refusal() {
    let mut pair = Pair::new("client:\n  translate: false");
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    let request = pair.remote.post();
    assert_eq!(request.message()["method"], "prompts/list");
    refuse(request, "400 Bad Request", -32000, &json!({"from": "the server"}));
    assert_eq!(pair.client.next_message()["error"]["data"]["from"], "the server");
}

#[test]
fn a_server_that_comes_back_in_the_other_era_is_asked_again() {
    let (mut pair, discover) = asking("");
    refuse(discover, "404 Not Found", -32601, &json!({}));
    let initialize = pair.remote.asked("initialize");
    opened(initialize, "s");
    pair.remote.asked("notifications/initialized").accepted();
    pair.remote.get().respond("405 Method Not Allowed", &[], b"");
    // A modern server knows no sessions, and refuses to open one.
    pair.remote.asked("prompts/list").respond("404 Not Found", &[], b"");
    let supported = json!({"supported": ["2026-07-28"], "requested": "2025-11-25"});
    refuse(pair.remote.asked("initialize"), "400 Bad Request", -32022, &supported);
    assert_eq!(pair.client.next_message()["error"]["data"]["reason"], "session_lost");
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    pair.remote.asked(DISCOVER).result(&discovered());
    is_modern(pair);

    // Or it has become one before the first session.
    let (mut pair, discover) = asking("");
    refuse(discover, "404 Not Found", -32601, &json!({}));
    refuse(pair.remote.asked("initialize"), "400 Bad Request", -32022, &supported);
    // It might speak HTTP+SSE.
    pair.remote.get().respond("405 Method Not Allowed", &[], b"");
    assert_eq!(pair.client.next_message()["error"]["data"]["reason"], "not_legacy");
    pair.ask(&Request::new(1, "prompts/list", json!({})));
    pair.remote.asked(DISCOVER).result(&discovered());
    is_modern(pair);
}
