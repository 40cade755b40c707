//! Bad input gets a clear error, and nothing else is disturbed by it.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::{Http, Response};
use crate::support::raw::{Raw, head, post};
use crate::support::session::{Session, initialize};
use crate::support::{each_way, ended, within};

const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// With an id that can be none of a request, so that it goes to the server, who remembers it.
const SMUGGLED: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":["smuggled"]}}"#;

// The body.

#[tokio::test]
async fn a_body_that_is_not_one_json_value_gets_a_parse_error_without_an_id() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let bodies: [&[u8]; 7] = [
            b"nonsense",
            b"",
            b"{",
            br#"{"jsonrpc":"2.0","id":7,"method":"ping""#,
            br#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":01}}"#,
            b"[",
            b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"p\xffng\"}",
        ];
        for body in bodies {
            let error = refused(session.http.post(body.to_vec()).await, 400).await;
            assert_eq!((&error["id"], &error["error"]["code"]), (&json!(null), &json!(-32700)), "{error}");
        }
        still_works(&session).await;
    })
    .await;
}

#[tokio::test]
async fn a_second_value_behind_the_first_is_refused_and_never_reaches_the_child() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for between in ["\n", "", " ", "\r\n", "\u{0}\n", "\u{2028}", ","] {
            let body = format!("{PING}{between}{SMUGGLED}");
            let error = refused(session.http.post(body).await, 400).await;
            assert_eq!(error["error"]["code"], -32700, "{error}");
        }
        assert_eq!(cancelled(&session).await, json!([]));
        assert_eq!(session.http.post(SMUGGLED).await.status, 202);
        assert_eq!(cancelled(&session).await, json!([["smuggled"]]), "what is not refused arrives");
    })
    .await;
}

#[tokio::test]
async fn json_that_is_no_message_gets_an_invalid_request_under_its_own_id() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let cases = [
            (r#"{"jsonrpc":"1.0","id":"mine","method":"ping"}"#, json!("mine")),
            (r#"{"jsonrpc":"2.0","id":7}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#, json!(null)),
            ("42", json!(null)),
            ("[]", json!(null)),
        ];
        for (body, id) in cases {
            let error = refused(session.http.post(body).await, 400).await;
            assert_eq!((&error["id"], &error["error"]["code"]), (&id, &json!(-32600)), "{body}: {error}");
        }
        still_works(&session).await;
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_refused_where_the_revision_has_none() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let error = refused(session.http.post(format!("[{PING},{SMUGGLED}]")).await, 400).await;
        assert_eq!(error["error"]["code"], -32600, "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("batch"), "{error}");
        assert_eq!(cancelled(&session).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_batch_can_not_begin_a_session() {
    let bridge = Bridge::serve(Guard::None);
    refused(bridge.http().post(format!("[{}]", initialize(&json!({})))).await, 400).await;
    let session = open_2025_03_26(&bridge.http()).await;
    let error = refused(session.post(format!("[{}]", initialize(&json!({})))).await, 400).await;
    assert_eq!(error["error"]["code"], -32600, "{error}");
}

#[tokio::test]
async fn a_batch_of_revision_2025_03_26_is_answered_by_an_array_or_a_stream() {
    each_way(async |http| {
        let session = open_2025_03_26(&http).await;
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        let batch = format!("[{}, {notification}, {}]", ping("a"), ping("b"));
        let response = session.post(batch.clone()).await;
        assert_eq!((response.status.as_u16(), response.is_stream()), (200, false));
        assert_eq!(ids(response.json().await.as_array().unwrap()), ["a", "b"]);
        let response = session.clone().header("accept", "text/event-stream").post(batch).await;
        assert!(response.is_stream());
        assert_eq!(ids(&response.messages().await), ["a", "b"]);
        let response = session.post(format!("[{notification},{notification}]")).await;
        assert_eq!(response.status, 202);
        assert_eq!(response.text().await, "");
    })
    .await;
}

#[tokio::test]
async fn each_request_of_a_batch_gets_one_answer_even_when_two_have_one_id() {
    let bridge = Bridge::serve(Guard::None);
    let session = open_2025_03_26(&bridge.http()).await;
    let never = r#"{"jsonrpc":"2.0","id":"same","method":"tools/call","params":{"name":"sleep","arguments":{"ms":100}}}"#;
    let answers = session.post(format!("[{never},{never}]")).await.messages().await;
    let answers = answers.iter().flat_map(|m| m.as_array().unwrap_or(&vec![m.clone()]).clone());
    let (failed, worked): (Vec<_>, Vec<_>) = answers.partition(|answer| answer.get("error").is_some());
    assert_eq!((failed.len(), worked.len()), (1, 1), "{failed:?} {worked:?}");
    assert_eq!((&failed[0]["id"], &failed[0]["error"]["code"]), (&json!("same"), &json!(-32600)));
}

#[tokio::test]
async fn the_id_of_a_request_in_flight_can_not_be_used_again() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let params = json!({"name": "never", "_meta": {"progressToken": "t"}});
        let request = json!({"jsonrpc": "2.0", "id": "same", "method": "tools/call", "params": params});
        let mut first = session.http.post(request.to_string()).await;
        assert_eq!(first.next_message().await.unwrap()["method"], "notifications/progress");
        let second = session.http.post(ping("same")).await.messages().await;
        assert_eq!(second.len(), 1);
        assert_eq!((&second[0]["id"], &second[0]["error"]["code"]), (&json!("same"), &json!(-32600)));
        session.notify("notifications/cancelled", &json!({"requestId": "same"})).await;
        assert_eq!(first.next_message().await, None);
        assert_eq!(session.http.post(ping("same")).await.json().await["result"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn a_deeply_nested_message_passes_in_both_directions() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{deep}}}"#);
        assert_eq!(session.http.post(text.clone()).await.status, 202);
        let error = refused(session.http.post("[".repeat(1_000_000)).await, 400).await;
        assert_eq!(error["error"]["code"], -32700, "{error}");
        session.call("raw", json!({ "line": text })).await;
        listener.primed().await;
        assert_eq!(listener.next_event().await.unwrap().data, text);
    })
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let bridge = with_limit("max_body_size: 1KiB");
    for more in ["", "expect: 100-continue\r\n"] {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(format!("{}{more}content-length: 1000000000\r\n\r\n", head("POST /mcp"))).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, 413);
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains("1024 bytes") && message.contains("server.max_body_size"), "{message}");
        assert_eq!(raw.closed().await, "");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_read_no_further_when_its_length_was_not_told() {
    let bridge = with_limit("max_body_size: 1KiB");
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(format!("{}transfer-encoding: chunked\r\n\r\n", head("POST /mcp"))).await;
    raw.send(format!("2000\r\n{}\r\n", "x".repeat(0x2000))).await;
    assert_eq!(raw.answer().await.status, 413);
    assert_eq!(raw.closed().await, "");
}

#[tokio::test]
async fn the_limit_of_a_body_is_exact_and_another_request_is_not_disturbed() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).config("server:\n  max_body_size: 1KiB").start();
        for http in [bridge.http(), bridge.http().http2()] {
            let session = Session::open(&http).await;
            let largest = format!("{PING:1024}");
            assert_eq!(session.http.post(largest.clone()).await.json().await["result"], json!({}));
            refused(session.http.post(format!("{largest} ")).await, 413).await;
            still_works(&session).await;
        }
        ended(bridge).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_gets_408() {
    let bridge = with_limit("read_timeout: 300ms");
    for framing in ["content-length: 100\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(format!("{}{framing}", head("POST /mcp"))).await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, 408);
        assert!(answer.body.contains("server.read_timeout"), "{answer:?}");
        assert_eq!(raw.closed().await, "");
    }
}

// The head.

#[tokio::test]
async fn a_client_must_accept_something_that_can_be_answered() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for accept in ["", "text/html", "application/json;q=0, text/event-stream;q=0", "image/*"] {
            refused(session.http.clone().header("accept", accept).post(PING).await, 406).await;
        }
        for accept in ["", "application/json"] {
            refused(session.http.clone().header("accept", accept).get().await, 406).await;
        }
        still_works(&session).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_accepts_one_kind_of_answer_gets_that_kind() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let params = json!({"name": "progress", "_meta": {"progressToken": "t"}});
        let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
        let json = session.http.clone().header("accept", "application/json");
        for request in [PING, &call] {
            let response = json.post(request.to_owned()).await;
            assert_eq!(response.header("content-type"), "application/json");
            assert_eq!(response.json().await["id"], 7);
        }
        let stream = session.http.clone().header("accept", "text/event-stream");
        for (request, messages) in [(PING, 1), (&call, 4)] {
            let response = stream.post(request.to_owned()).await;
            assert!(response.is_stream());
            let all = response.messages().await;
            // What the client that took no stream had not seen comes with the first one that can carry it.
            assert!(all.len() >= messages, "{all:?}");
            assert_eq!(all.last().unwrap()["id"], 7);
        }
    })
    .await;
}

#[tokio::test]
async fn only_json_is_taken() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for kind in ["", "text/plain", "application/jsonp", "application/x-www-form-urlencoded", "json"] {
            refused(session.http.clone().header("content-type", kind).post(PING).await, 415).await;
        }
        let with_charset = session.http.clone().header("content-type", "Application/JSON; charset=utf-8");
        assert_eq!(with_charset.post(PING).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_session_that_is_missing_gets_400_and_one_that_is_unknown_404() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let missing = session.http.clone().header("mcp-session-id", "");
        for response in [missing.post(PING).await, missing.get().await, missing.delete().await] {
            refused(response, 400).await;
        }
        for id in ["0", &session.id[..31], &format!("{}0", session.id), &session.id.to_uppercase(), "\u{e9}"]
        {
            // An id may be all digits, which have no upper case.
            if id == session.id {
                continue;
            }
            let unknown = session.http.clone().header("mcp-session-id", id);
            for response in [unknown.post(PING).await, unknown.get().await, unknown.delete().await] {
                refused(response, 404).await;
            }
        }
        still_works(&session).await;
    })
    .await;
}

#[tokio::test]
async fn two_session_headers_are_refused() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let twice = format!("mcp-session-id: {0}\r\nmcp-session-id: {0}\r\n", session.id);
    assert_eq!(raw_status(&bridge, &post(&twice, PING)).await, 400);
    still_works(&session).await;
}

#[tokio::test]
async fn an_unknown_protocol_version_is_refused_and_a_missing_one_is_not() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for version in ["1999-01-01", "2025-11-2", "latest"] {
            let http = session.http.clone().header("mcp-protocol-version", version);
            for response in [http.post(PING).await, http.get().await] {
                let error = refused(response, 400).await;
                assert!(error["error"]["message"].as_str().unwrap().contains(version), "{error}");
            }
        }
        let without = session.http.clone().header("mcp-protocol-version", "");
        assert_eq!(without.post(PING).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn headers_over_the_limit_get_431() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).config("server:\n  max_header_size: 16KiB").start();
        for http in [bridge.http(), bridge.http().http2()] {
            let session = Session::open(&http).await;
            let large = |bytes| session.http.clone().header("x-large", &"x".repeat(bytes));
            assert_eq!(large(12_000).post(PING).await.status, 200);
            assert_eq!(large(20_000).post(PING).await.status, 431);
            let many = (0..200)
                .fold(session.http.clone(), |http, n| http.header(&format!("x-{n}"), &"x".repeat(100)));
            assert_eq!(many.post(PING).await.status, 431);
            still_works(&session).await;
        }
        ended(bridge).await;
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_at_the_limit() {
    let bridge = with_limit("max_header_size: 16KiB");
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(format!("GET /{}", "x".repeat(40_000))).await;
    let status = raw.answer().await.status;
    assert!([414, 431].contains(&status), "{status}");
    raw.closed().await;
}

#[tokio::test]
async fn a_request_names_one_host() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let request = post(&format!("mcp-session-id: {}\r\n", session.id), PING);
    assert_eq!(raw_status(&bridge, &request).await, 200);
    let host = "host: localhost\r\n";
    for hosts in ["", "host: localhost\r\nhost: localhost\r\n", "host: a b\r\n", "host:\r\n"] {
        let status = raw_status(&bridge, &request.replace(host, hosts)).await;
        assert!(matches!(status, 400 | 403), "{hosts:?}: {status}");
    }
    assert_eq!(raw_status(&bridge, &request.replace(host, "")).await, 400);
    assert_eq!(raw_status(&bridge, &request.replace(host, &host.repeat(2))).await, 400);
    let other_target = request.replace("POST /mcp", "POST http://127.0.0.1/mcp");
    assert_eq!(raw_status(&bridge, &other_target).await, 400);
}

#[tokio::test]
async fn other_paths_are_not_found() {
    each_way(async |http| {
        let body = initialize(&json!({}));
        for path in ["/other", "/mcp/", "/mcp/x", "/MCP", "//mcp", "/mcp%2f", "/healthy", "/ready/"] {
            refused(http.clone().path(path).post(body.clone()).await, 404).await;
        }
        for path in ["/", "/mcp", "/mcp?x=1"] {
            assert_eq!(http.clone().path(path).post(body.clone()).await.status, 200, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    each_way(async |http| {
        for method in [Method::PUT, Method::PATCH, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            let response = http.request(method.clone(), "").await;
            assert_eq!(
                (response.status.as_u16(), response.header("allow")),
                (405, "GET, POST, DELETE"),
                "{method}"
            );
        }
    })
    .await;
}

// The connection.

#[tokio::test]
async fn a_request_that_two_readers_could_cut_differently_is_refused() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let head = format!("{}mcp-session-id: {}\r\n", head("POST /mcp"), session.id);
    let (length, chunk) = (PING.len(), format!("{:x}\r\n{PING}\r\n0\r\n\r\n", PING.len()));
    let requests = [
        format!("{head}content-length: {length}\r\ncontent-length: 0\r\n\r\n{PING}"),
        format!("{head}content-length: {length}, 0\r\n\r\n{PING}"),
        format!("{head}content-length: +{length}\r\n\r\n{PING}"),
        format!("{head}content-length : {length}\r\n\r\n{PING}"),
        format!("{head}transfer-encoding: chunked, identity\r\n\r\n{chunk}"),
        format!("{head}transfer-encoding: xchunked\r\n\r\n{chunk}"),
        format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n{PING}\r\n0\r\n\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\n1ffffffffffffffff\r\n{PING}\r\n0\r\n\r\n"),
        format!("{head}content-length: {length}\r\n folded: x\r\n\r\n{PING}"),
    ];
    for request in requests {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(format!("{request}{HEALTH}")).await;
        let answers = raw.closed().await;
        assert!(answers.starts_with("HTTP/1.1 400 "), "{request}\n{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{request}\n{answers}");
    }
    still_works(&session).await;
}

#[tokio::test]
async fn nothing_is_read_behind_a_body_with_both_a_length_and_chunks() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let head = format!("{}mcp-session-id: {}\r\n", head("POST /mcp"), session.id);
    let (length, chunked) = ("content-length: 4\r\n", "transfer-encoding: chunked\r\n");
    for framing in [[length, chunked].concat(), [chunked, length].concat()] {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(format!("{head}{framing}\r\n{:x}\r\n{PING}\r\n0\r\n\r\n{HEALTH}", PING.len())).await;
        let answers = raw.closed().await;
        // RFC 9112, section 6.3: the chunks count, and the connection ends with the answer.
        assert!(answers.ends_with(r#"{"id":7,"jsonrpc":"2.0","result":{}}"#), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    }
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_one_by_one() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let request = |id| post(&format!("mcp-session-id: {}\r\n", session.id), &ping(id));
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(["a", "b", "c"].map(request).concat()).await;
    for id in ["a", "b", "c"] {
        assert_eq!(raw.answer().await.json()["id"], id);
    }
}

#[tokio::test]
async fn a_client_that_has_sent_all_it_wants_to_still_gets_its_answer() {
    for stream_after in ["0s", "1h"] {
        let bridge = with_limit(&format!("stream_after: {stream_after}"));
        let session = Session::open(&bridge.http()).await;
        let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "meet"}});
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(post(&format!("mcp-session-id: {}\r\n", session.id), &call.to_string())).await;
        raw.half_close().await;
        let (answer, _) = tokio::join!(raw.answer(), session.call("meet", json!({})));
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains(r#""text":"met""#), "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_closes_the_connection() {
    let bridge = with_limit("read_timeout: 300ms");
    let mut raw = Raw::open(&bridge.url).await;
    raw.send("POST /mcp HT").await;
    raw.closed().await;
    // Neither does one that comes byte by byte, and the second head has no more time than the first.
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(HEALTH).await;
    assert_eq!(raw.answer().await.status, 200);
    let trickle = async {
        while raw.try_send("x").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the end of a slow head", trickle).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let plain = with_limit("read_timeout: 300ms");
    assert_eq!(Raw::open(&plain.url).await.closed().await, "");
    let tls = Serve::new(Guard::Tls).config("server:\n  handshake_timeout: 300ms").start();
    assert_eq!(Raw::open(&tls.url).await.closed().await, "");
    let mut half_a_hello = Raw::open(&tls.url).await;
    half_a_hello.send([22, 3, 1, 2, 0, 1, 0]).await;
    assert_eq!(half_a_hello.closed().await, "");
}

#[tokio::test]
async fn a_connection_that_is_idle_is_closed() {
    let bridge = with_limit("idle_timeout: 300ms");
    let mut raw = Raw::open(&bridge.url).await;
    for _ in 0..2 {
        raw.send(HEALTH).await;
        assert_eq!(raw.answer().await.status, 200);
    }
    assert_eq!(raw.closed().await, "");
    let mut http2 = Raw::open(&bridge.url).await;
    http2.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    http2.closed().await;
}

#[tokio::test]
async fn a_connection_with_a_call_in_flight_is_not_idle() {
    for guard in [Guard::None, Guard::Mutual] {
        let limits = "server:\n  idle_timeout: 200ms\n  read_timeout: 200ms\n  stream_after: 1h";
        let bridge = Serve::new(guard).config(limits).start();
        for http in [bridge.http(), bridge.http().http2()] {
            let session = Session::open(&http).await;
            let answer = session.call("sleep", json!({"ms": 600})).await;
            assert_eq!(answer["result"]["content"][0]["text"], "slept");
        }
        ended(bridge).await;
    }
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_until_one_ends() {
    let bridge = with_limit("max_connections: 2");
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(HEALTH).await;
        assert_eq!(raw.answer().await.status, 200);
        open.push(raw);
    }
    assert_eq!(Raw::open(&bridge.url).await.closed().await, "");
    bridge.logged("server.max_connections");
    open.pop();
    let again = async {
        loop {
            let mut raw = Raw::open(&bridge.url).await;
            raw.try_send(HEALTH).await;
            raw.half_close().await;
            if raw.closed().await.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    };
    within("a place for a connection", again).await;
}

fn with_limit(line: &str) -> Bridge {
    Serve::new(Guard::None).config(&format!("server:\n  {line}")).start()
}

fn ping(id: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string()
}

/// The JSON-RPC error of a refusal.
async fn refused(response: Response, status: u16) -> Value {
    assert_eq!(response.status, status);
    let error = response.json().await;
    assert_eq!((&error["jsonrpc"], &error["error"]["data"]["source"]), (&json!("2.0"), &json!("mcp-bridge")));
    assert!(error["error"]["code"].is_i64() && error.get("id").is_some(), "{error}");
    error
}

async fn still_works(session: &Session) {
    let answer = session.call("echo", json!({"message": "hello"})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
}

/// The ids that the child was told to cancel.
async fn cancelled(session: &Session) -> Value {
    session.call("cancelled", json!({})).await["result"]["structuredContent"]["ids"].clone()
}

fn ids(messages: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = messages.iter().map(|message| message["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// A client that has opened a session of revision 2025-03-26.
async fn open_2025_03_26(http: &Http) -> Http {
    let response = http.post(initialize(&json!({})).replace("2025-11-25", "2025-03-26")).await;
    let http = http.clone().header("mcp-session-id", response.header("mcp-session-id"));
    assert_eq!(response.json().await["result"]["protocolVersion"], "2025-03-26");
    http
}

/// The status of the answer to a request on a connection of its own.
async fn raw_status(bridge: &Bridge, request: &str) -> u16 {
    let mut raw = Raw::open(&bridge.url).await;
    raw.send(request).await;
    raw.answer().await.status
}

#[tokio::test]
async fn a_connection_whose_client_is_done_closes_after_the_answer() {
    let bridge = with_limit("idle_timeout: 1h");
    for _ in 0..50 {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(HEALTH).await;
        raw.half_close().await;
        assert!(raw.closed().await.starts_with("HTTP/1.1 200 "));
    }
}
