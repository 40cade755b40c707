//! Each message goes where it belongs, whole, and once.

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::Response;
use crate::support::session::Session;
use crate::support::sse::Item;
use crate::support::{each_way, ended};

const CHANGED: &str = "notifications/tools/list_changed";

// JSON or a stream.

#[tokio::test]
async fn a_quick_answer_is_json_and_one_with_messages_before_it_a_stream() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let quick = session.start("tools/call", &json!({"name": "echo"})).await;
        assert_eq!(quick.header("content-type"), "application/json");
        let talking = session.start_call("progress", json!({"steps": 3}), "t").await;
        assert!(talking.is_stream());
        assert!(talking.header("cache-control").contains("no-cache"));
        assert_eq!(steps(&talking.messages().await, "t"), [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_takes_long_becomes_a_stream_before_its_answer() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).config("server:\n  stream_after: 50ms").start();
        let session = Session::open(&bridge.http()).await;
        // It is answered only after the test has seen its head.
        let waiting = session.start("tools/call", &json!({"name": "meet"})).await;
        assert!(waiting.is_stream());
        session.call("meet", json!({})).await;
        let messages = waiting.messages().await;
        assert_eq!((messages.len(), &messages[0]["result"]["content"][0]["text"]), (1, &json!("met")));
    }
}

#[tokio::test]
async fn a_call_that_takes_long_stays_json_for_a_client_that_takes_only_that() {
    let bridge = Serve::new(Guard::None).config("server:\n  stream_after: 0s").start();
    let session = Session::open(&bridge.http()).await;
    let json = session.http.clone().header("accept", "application/json");
    let call = request(7, "meet", &json!({}));
    let (response, _) = tokio::join!(json.post(call), session.call("meet", json!({})));
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.json().await["id"], 7);
}

#[tokio::test]
async fn waiting_streams_are_kept_alive_by_comments() {
    let limits = "server:\n  shutdown_timeout: 0s\n  stream_after: 0s\n  sse_keepalive_interval: 50ms";
    let bridge = Serve::new(Guard::None).config(limits).start();
    for http in [bridge.http(), bridge.http().http2()] {
        let session = Session::open(&http).await;
        let call = session.start("tools/call", &json!({"name": "never"})).await;
        for mut stream in [call, session.http.get().await] {
            stream.primed().await;
            for _ in 0..3 {
                assert!(matches!(stream.next_item().await, Some(Item::Comment(_))));
            }
        }
    }
    ended(bridge).await;
}

// Both directions.

#[tokio::test]
async fn progress_goes_to_the_call_whose_token_it_names() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        let mut open = Vec::new();
        for token in ["a", "b", "c"] {
            open.push((token, session.start_call("never", json!({}), token).await));
        }
        for (token, stream) in &mut open {
            assert_eq!(stream.next_message().await.unwrap()["params"]["progressToken"], *token);
        }
        let more = session.start_call("progress", json!({"steps": 2}), "d").await;
        assert_eq!(steps(&more.messages().await, "d"), [1, 2]);
        // Late progress of one that still waits, sent while another one runs.
        let params = json!({"progressToken": "b", "progress": 9});
        say(&session, "notifications/progress", params).await;
        assert_eq!(open[1].1.next_message().await.unwrap()["params"]["progress"], 9);
        assert_eq!(mark(&session, &mut listener).await, json!([]));
        end(&session, open.into_iter().map(|(_, stream)| stream)).await;
    })
    .await;
}

#[tokio::test]
async fn a_question_of_the_only_call_comes_on_its_stream_and_the_answer_reaches_it() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        for (tool, method) in
            [("sample", "sampling/createMessage"), ("elicit", "elicitation/create"), ("roots", "roots/list")]
        {
            let mut call = session.start("tools/call", &json!({"name": tool})).await;
            let question = call.next_message().await.unwrap();
            assert_eq!(question["method"], method);
            session.answer(&question, json!({"to": method})).await;
            let result = call.next_message().await.unwrap();
            assert_eq!(result["result"]["structuredContent"]["result"], json!({"to": method}));
            assert_eq!(call.next_message().await, None);
        }
        assert_eq!(mark(&session, &mut listener).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_question_that_could_be_of_several_calls_comes_on_the_listening_stream() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        let mut other = session.start_call("never", json!({}), "t").await;
        other.next_message().await.unwrap();
        let params = json!({"name": "sample"});
        let asking = session.start("tools/call", &params);
        let answering = async {
            let question = listener.next_message().await.unwrap();
            assert_eq!(question["method"], "sampling/createMessage");
            session.answer(&question, json!({"model": "m"})).await;
        };
        let (asked, ()) = tokio::join!(asking, answering);
        let messages = asked.messages().await;
        assert_eq!(
            (messages.len(), &messages[0]["result"]["structuredContent"]["result"]["model"]),
            (1, &json!("m"))
        );
        end(&session, [other]).await;
    })
    .await;
}

#[tokio::test]
async fn an_error_of_the_client_reaches_the_server_that_asked() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let mut call = session.start("tools/call", &json!({"name": "sample"})).await;
    let question = call.next_message().await.unwrap();
    let error = json!({"code": -1, "message": "no", "data": {"x": 1}});
    let answer = json!({"jsonrpc": "2.0", "id": question["id"], "error": error}).to_string();
    assert_eq!(session.http.post(answer.clone()).await.status, 202);
    // A second answer is nobody's.
    assert_eq!(session.http.post(answer).await.status, 202);
    assert_eq!(call.next_message().await.unwrap()["result"]["structuredContent"]["error"], error);
}

#[tokio::test]
async fn news_of_the_server_come_on_the_listening_stream_even_during_a_call() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        for arguments in [json!({}), json!({"after": true})] {
            let call =
                session.start("tools/call", &json!({"name": "list_changed", "arguments": arguments})).await;
            assert_eq!(call.header("content-type"), "application/json");
            assert_eq!(listener.next_message().await.unwrap()["method"], CHANGED);
        }
    })
    .await;
}

#[tokio::test]
async fn of_several_listening_streams_only_the_newest_gets_a_message() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let mut older = session.http.get().await;
    let mut newer = session.http.get().await;
    session.call("list_changed", json!({})).await;
    assert_eq!(newer.next_message().await.unwrap()["method"], CHANGED);
    session.http.delete().await;
    assert_eq!(older.next_message().await, None);
    assert_eq!(newer.next_message().await, None);
}

#[tokio::test]
async fn what_has_no_stream_waits_for_the_next_listening_one() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let json = session.http.clone().header("accept", "application/json");
        for n in [1, 2, 3] {
            let line = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"n": n}});
            json.post(request(n, "raw", &json!({"line": line.to_string()}))).await.json().await;
        }
        let mut listener = session.http.get().await;
        for n in [1, 2, 3] {
            assert_eq!(listener.next_message().await.unwrap()["params"]["n"], n);
        }
        let mut again = session.http.get().await;
        assert_eq!(mark(&session, &mut again).await, json!([]), "nothing comes twice");
    })
    .await;
}

// Ends.

#[tokio::test]
async fn a_cancelled_call_gets_no_answer_and_the_server_is_told() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for (n, id) in [json!("a string"), json!(4711), json!("4711")].into_iter().enumerate() {
            let params = json!({"name": "never", "_meta": {"progressToken": "t"}});
            let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
            let mut stream = session.http.post(call.to_string()).await;
            stream.next_message().await.unwrap();
            session.notify("notifications/cancelled", &json!({"requestId": id, "reason": "enough"})).await;
            assert_eq!(stream.next_message().await, None);
            assert_eq!(cancelled(&session, n + 1).await[n], id);
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_that_was_cancelled_before_it_became_a_stream_ends_without_an_answer() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    let mut other = session.start_call("never", json!({}), "t").await;
    other.next_message().await.unwrap();
    for accept in ["application/json", "application/json, text/event-stream"] {
        let http = session.http.clone().header("accept", accept);
        let cancel = async {
            // Its question comes here because another call is in flight, and tells that it has begun.
            assert_eq!(listener.next_message().await.unwrap()["method"], "sampling/createMessage");
            session.notify("notifications/cancelled", &json!({"requestId": "c"})).await;
        };
        let (response, ()) = tokio::join!(http.post(request("c", "sample", &json!({}))), cancel);
        assert!(response.status.is_success());
        assert_eq!(response.text().await, "");
    }
    end(&session, [other]).await;
}

#[tokio::test]
async fn a_cancellation_that_overtakes_its_call_does_not_reach_the_server() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        session.notify("notifications/cancelled", &json!({"requestId": "early"})).await;
        // The server remembers whom it was told of, and would not answer.
        let answer = session.http.post(request("early", "sleep", &json!({"ms": 1}))).await.messages().await;
        assert_eq!((answer.len(), &answer[0]["result"]["content"][0]["text"]), (1, &json!("slept")));
        assert_eq!(cancelled(&session, 0).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_are_dropped() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        let first = session.start("tools/call", &json!({"name": "duplicate"})).await.messages().await;
        assert_eq!((first.len(), &first[0]["result"]["content"][0]["text"]), (1, &json!("first")));
        let asked = session.start("tools/call", &json!({"name": "unknown_id"})).await.messages().await;
        assert_eq!((asked.len(), &asked[0]["result"]["content"][0]["text"]), (1, &json!("to you")));
        let params = json!({"name": "late", "_meta": {"progressToken": "t"}});
        let late = json!({"jsonrpc": "2.0", "id": "late", "method": "tools/call", "params": params});
        let mut late = session.http.post(late.to_string()).await;
        late.next_message().await.unwrap();
        session.notify("notifications/cancelled", &json!({"requestId": "late"})).await;
        assert_eq!(late.next_message().await, None);
        assert_eq!(mark(&session, &mut listener).await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_call_without_a_sign_of_life_times_out_and_the_server_is_told() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).config("mcp:\n  request_timeout: 300ms").start();
        let session = Session::open(&bridge.http()).await;
        for tool in ["never", "late"] {
            let answer =
                session.http.post(request(tool, tool, &json!({}))).await.messages().await.pop().unwrap();
            let error = &answer["error"];
            assert_eq!((&answer["id"], &error["code"]), (&json!(tool), &json!(-32603)), "{answer}");
            assert_eq!(error["data"]["source"], "mcp-bridge", "{answer}");
            assert!(error["message"].as_str().unwrap().contains("300ms"), "{answer}");
        }
        assert_eq!(cancelled(&session, 2).await, json!(["never", "late"]));
    }
}

#[tokio::test]
async fn a_call_that_shows_progress_does_not_time_out_before_its_whole_time() {
    let limits = "mcp:\n  request_timeout: 1s\n  max_request_time: 3s";
    let bridge = Serve::new(Guard::None).config(limits).start();
    let session = Session::open(&bridge.http()).await;
    let (done, endless) = tokio::join!(
        session.start_call("progress", json!({"steps": 8, "ms": 200}), "short"),
        session.start_call("progress", json!({"steps": 1000, "ms": 50}), "endless"),
    );
    let (done, endless) = tokio::join!(done.messages(), endless.messages());
    assert_eq!(steps(&done, "short").len(), 8);
    let answer = endless.last().unwrap();
    assert_eq!(answer["error"]["data"]["reason"], "timed_out", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("3s"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_nothing() {
    let bridge = Serve::new(Guard::Mutual).config("server:\n  stream_after: 0s").start();
    for http in [bridge.http(), bridge.http().http2()] {
        let session = Session::open(&http).await;
        let left = session.start("tools/call", &json!({"name": "meet"})).await;
        assert!(left.is_stream());
        drop(left);
        // The call that was left is the other one that it takes to meet.
        let answer = session.call("meet", json!({})).await;
        assert_eq!(answer["result"]["content"][0]["text"], "met");
        assert_eq!(cancelled(&session, 0).await, json!([]));
    }
    ended(bridge).await;
}

// Bytes.

#[tokio::test]
async fn a_request_passes_byte_for_byte() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let text = concat!(
            r#"{ "params":{"z":1.0,"a":1E2,"n":12345678901234567890123,"name":"raw_request" ,"#,
            r#""arguments":{"-0":-0.0,"u":"\u00e9é\ud83d\ude00\/","":[ ]}},"x-unknown":{"b":1,"a":2},"#,
            "\t\"method\":\"tools/call\",\"id\":\"\\u0031\",\"jsonrpc\":\"2.0\"}"
        );
        let answer = session.http.post(text).await.json().await;
        assert_eq!(
            (&answer["id"], answer["result"]["content"][0]["text"].as_str()),
            (&json!("1"), Some(text))
        );
    })
    .await;
}

#[tokio::test]
async fn a_message_of_the_server_passes_byte_for_byte() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        listener.primed().await;
        let text = format!(
            "{{ \"params\":{{\"z\":1.0,\"a\":1e400,\"u\":\"\\u00e9é\\ud83d\",\"\":[ ]}},\t\"method\":\"{CHANGED}\",\"x\":1,\"jsonrpc\":\"2.0\"}}"
        );
        session.call("raw", json!({"line": text})).await;
        assert_eq!(listener.next_event().await.unwrap().data, text);
    })
    .await;
}

#[tokio::test]
async fn a_pretty_printed_body_reaches_the_server_on_one_line() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let value = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": {"name": "raw_request", "arguments": {"text": "a\nb\r\u{85}", "list": [1, {"x": []}]}}});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        for text in [pretty.clone(), pretty.replace('\n', "\r\n"), format!("\n\n{pretty}\r\n")] {
            let answer = session.http.post(text).await.json().await;
            let line = answer["result"]["content"][0]["text"].as_str().unwrap().to_owned();
            assert!(!line.contains(['\n', '\r', '\u{85}']), "{line}");
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
        }
    })
    .await;
}

#[tokio::test]
async fn what_only_some_readers_take_for_a_line_end_stays_in_its_string() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        let mut listener = session.http.get().await;
        let message = "a\u{2028}b\u{2029}c\u{85}d\u{0b}\u{0c}\u{1c}e";
        let answer = session.call("echo", json!({"message": message})).await;
        assert_eq!(answer["result"]["content"][0]["text"], message);
        let line = json!({"jsonrpc": "2.0", "method": CHANGED, "params": {"text": message}});
        session.call("raw", json!({"line": line.to_string()})).await;
        assert_eq!(listener.next_message().await.unwrap(), line);
    })
    .await;
}

#[tokio::test]
async fn five_mebibytes_pass_in_both_directions() {
    const BYTES: usize = 5 << 20;
    each_way(async |http| {
        let session = Session::open(&http).await;
        let text = "0123456789abcdef".repeat(BYTES / 16);
        let measured =
            session.call("size", json!({"text": text})).await["result"]["structuredContent"].clone();
        assert_eq!(measured, json!({"bytes": BYTES, "adler32": adler32(&text)}));
        let answer = session.call("big", json!({"bytes": BYTES})).await;
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        let measured = &answer["result"]["structuredContent"];
        assert_eq!(*measured, json!({"bytes": text.len(), "adler32": adler32(text)}));
        assert_eq!(text.len(), BYTES);
    })
    .await;
}

#[tokio::test]
async fn garbage_of_the_server_is_logged_and_goes_nowhere() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let mut listener = session.http.get().await;
    let messages = session.start("tools/call", &json!({"name": "garbage"})).await.messages().await;
    assert_eq!(
        (messages.len(), &messages[0]["result"]["content"][0]["text"]),
        (1, &json!("after the garbage"))
    );
    bridge.logged(&format!("session {}: a line of 29 bytes from the child is no message", &session.id[..8]));
    assert_eq!(mark(&session, &mut listener).await, json!([]));
}

#[tokio::test]
async fn a_batch_of_the_server_is_taken_apart() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let answer = session.start("tools/call", &json!({"name": "batch_answer"})).await.json().await;
    assert_eq!(answer["result"]["content"][0]["text"], "in a batch");
}

#[tokio::test]
async fn a_flood_on_stderr_is_logged_under_the_session_and_blocks_nothing() {
    const BYTES: usize = 1_000_000;
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let answer = session.call("stderr", json!({"bytes": BYTES, "line": 100})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "1000000 bytes on stderr");
    let answer = session.call("stderr", json!({"bytes": BYTES, "line": 0})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "1000000 bytes on stderr");
    session.http.delete().await;
    bridge.logged("(1000000 bytes)");
    let label = format!("child of session {}: stderr: ", &session.id[..8]);
    let logged = bridge.stderr();
    let whole = logged.lines().filter_map(|line| line.split_once(&label)).map(|(_, said)| said);
    assert_eq!(whole.filter(|said| said.len() == 100).count(), BYTES / 100);
    assert!(!logged.contains(&session.id), "a whole session id is a secret");
}

#[tokio::test]
async fn a_line_over_the_limit_is_passed_over_and_who_waits_is_told() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let answer = session.call("huge_line", json!({"bytes": 64 << 20})).await;
    assert_eq!(answer["error"]["data"]["reason"], "message_too_long", "{answer}");
    let answer = session.call("echo", json!({"message": "still here"})).await;
    assert_eq!(answer["result"]["content"][0]["text"], "still here");
}

#[tokio::test]
async fn a_long_line_below_the_limit_passes() {
    const BYTES: usize = 6 << 20;
    let bridge = Bridge::serve(Guard::Tls);
    for http in [bridge.http(), bridge.http().http2()] {
        let session = Session::open(&http).await;
        let params = json!({"name": "huge_line", "arguments": {"bytes": BYTES}});
        let messages = session.start("tools/call", &params).await.messages().await;
        assert_eq!(messages[0]["params"]["data"].as_str().unwrap().len(), BYTES);
        assert_eq!(messages[1]["result"]["content"][0]["text"], "after the huge line");
    }
    ended(bridge).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_stream_slows_only_itself() {
    let bridge = Serve::new(Guard::None).config("server:\n  shutdown_timeout: 0s").start();
    let (slow, quick) = (Session::open(&bridge.http()).await, Session::open(&bridge.http()).await);
    let unread = slow.start_call("huge_line", json!({"bytes": 6 << 20}), "t").await;
    assert!(unread.is_stream());
    for _ in 0..20 {
        let answer = quick.call("echo", json!({"message": "x"})).await;
        assert_eq!(answer["result"]["content"][0]["text"], "x");
    }
    assert_eq!(unread.messages().await.len(), 2);
}

/// A `tools/call` as text.
fn request(id: impl Into<Value>, tool: &str, arguments: &Value) -> String {
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": params}).to_string()
}

/// Has the server send a notification while no other message of its own is on the way.
async fn say(session: &Session, method: &str, params: Value) {
    let line = json!({"jsonrpc": "2.0", "method": method, "params": params});
    session.call("raw", json!({"line": line.to_string()})).await;
}

/// What has come on a listening stream so far: everything before a message that is sent for this purpose.
async fn mark(session: &Session, listener: &mut Response) -> Value {
    say(session, CHANGED, json!({"mark": true})).await;
    let mut before = Vec::new();
    loop {
        let message = listener.next_message().await.unwrap();
        if message["params"]["mark"] == true {
            return Value::Array(before);
        }
        before.push(message);
    }
}

/// The progress of an answer that holds nothing but that and the result.
fn steps(messages: &[Value], token: &str) -> Vec<u64> {
    let (answer, progress) = messages.split_last().unwrap();
    assert!(answer.get("result").is_some(), "{answer}");
    assert!(progress.iter().all(|message| message["params"]["progressToken"] == token), "{progress:?}");
    progress.iter().map(|message| message["params"]["progress"].as_u64().unwrap()).collect()
}

/// The ids that the server was told to cancel, once there are as many.
async fn cancelled(session: &Session, wait: usize) -> Value {
    session.call("cancelled", json!({"wait": wait})).await["result"]["structuredContent"]["ids"].clone()
}

/// Ends calls that never end by themselves: with their session.
async fn end(session: &Session, calls: impl IntoIterator<Item = Response>) {
    assert!(session.http.delete().await.status.is_success());
    for call in calls {
        assert!(call.messages().await.pop().unwrap()["error"].is_object());
    }
}

fn adler32(text: &str) -> u32 {
    let (a, b) = text.bytes().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}
