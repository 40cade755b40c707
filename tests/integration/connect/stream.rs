//! What the server has to say by itself, and streams that break.

use serde_json::json;

use crate::support::connect::Pair;
use crate::support::remote::Remote;

const QUICK: &str = "client:\n  retry:\n    initial_delay: 10ms\n    max_delay: 20ms";

#[test]
fn a_question_on_the_servers_own_stream_is_answered_by_post() {
    let mut pair = Pair::listening(Remote::plain(), |connect| connect);
    let mut events = pair.remote.get().events();
    let question = json!({"jsonrpc": "2.0", "id": "roots-1", "method": "roots/list", "params": {}});
    events.message(&question);
    assert_eq!(pair.client.next_message(), question);
    let answer = json!({"jsonrpc": "2.0", "id": "roots-1", "result": {"roots": [{"uri": "file:///a"}]}});
    pair.client.message(&answer);
    let post = pair.remote.post();
    assert_eq!((post.message(), post.header("mcp-session-id")), (answer, "session-1".to_owned()));
    post.accepted();
}

#[test]
fn a_call_is_sent_when_the_servers_own_stream_is_open_for_its_questions() {
    // Often enough that a call which does not wait comes first at least once.
    for _ in 0..10 {
        let mut pair = Pair::listening(Remote::plain(), |connect| connect);
        pair.client.ask(1, "tools/call", &json!({}));
        let get = pair.remote.get();
        assert_eq!(pair.remote.unasked(), [""; 0]);
        get.respond("405 Method Not Allowed", &[], b"");
        pair.remote.asked("tools/call").result(&json!({}));
        assert_eq!(pair.client.next_message()["id"], 1);
    }
}

#[test]
fn a_server_that_says_nothing_of_its_own_stream_is_called_all_the_same() {
    let mut pair = Pair::listening(Remote::plain(), |connect| connect);
    let _unanswered = pair.remote.get();
    pair.client.ask(1, "tools/call", &json!({}));
    pair.remote.asked("tools/call").result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
}

#[test]
fn a_question_within_a_call_is_answered_while_the_call_is_open() {
    let mut pair = Pair::open();
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.message(
        &json!({"jsonrpc": "2.0", "id": 0, "method": "elicitation/create", "params": {"message": "?"}}),
    );
    assert_eq!(pair.client.next_message()["method"], "elicitation/create");
    pair.client.message(&json!({"jsonrpc": "2.0", "id": 0, "error": {"code": -1, "message": "no"}}));
    let answer = pair.remote.post();
    assert_eq!(answer.message()["error"]["code"], -1);
    answer.accepted();
    events.result(&json!("went on"));
    assert_eq!(pair.client.next_message()["result"], "went on");
}

#[test]
fn a_question_of_the_server_may_have_the_id_of_a_request_in_flight() {
    let mut pair = Pair::open();
    pair.client.ask(1, "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.message(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    assert_eq!(pair.client.next_message()["method"], "ping");
    pair.client.message(&json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    pair.remote.post().accepted();
    events.result(&json!("own"));
    assert_eq!(pair.client.next_message()["result"], "own");
}

#[test]
fn a_server_without_a_stream_of_its_own_is_not_asked_for_it_again() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(QUICK));
    for id in 0..5 {
        pair.client.ask(id, "ping", &json!({}));
        pair.remote.post().result(&json!({}));
        pair.client.next_message();
    }
    assert_eq!(pair.remote.unasked(), [""; 0]);
    assert!(!pair.client.stderr().contains("WARN"), "{}", pair.client.stderr());
}

#[test]
fn a_stream_that_ends_is_opened_again_where_it_ended_and_when_the_server_said() {
    let pair = Pair::listening(Remote::plain(), |connect| connect);
    let mut events = pair.remote.get().events();
    events.piece(b"retry: 300\nid: ev-1\ndata:\n\n");
    events.piece(b"id: ev-2\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/a\"}\n\n");
    assert_eq!(pair.client.next_message()["method"], "notifications/a");
    let ended = std::time::Instant::now();
    events.end();
    let get = pair.remote.get();
    assert!(ended.elapsed() >= std::time::Duration::from_millis(300), "{:?}", ended.elapsed());
    assert_eq!(
        (get.header("last-event-id"), get.header("mcp-session-id")),
        ("ev-2".into(), "session-1".into())
    );
    // Broken this time, before anything was said: the place is still known.
    drop(get.events_with(&[]));
    let get = pair.remote.get();
    assert_eq!(get.header("last-event-id"), "ev-2");
    get.events().notification("notifications/b", &json!({}));
    assert_eq!(pair.client.next_message()["method"], "notifications/b");
}

#[test]
fn a_stream_that_can_not_be_opened_for_now_is_tried_again() {
    let pair = Pair::listening(Remote::plain(), |connect| connect.config(QUICK));
    pair.remote.get().respond("503 Service Unavailable", &[], b"");
    drop(pair.remote.get());
    pair.remote.get().events().notification("notifications/a", &json!({}));
    assert_eq!(pair.client.next_message()["method"], "notifications/a");
}

#[test]
fn the_stream_of_an_answer_that_breaks_is_taken_up_where_it_broke() {
    let mut pair = Pair::open_with(Remote::plain(), |connect| connect.config(QUICK));
    pair.client.ask("q", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.piece(b"id: c-1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/a\"}\n\n");
    assert_eq!(pair.client.next_message()["method"], "notifications/a");
    drop(events);
    let get = pair.remote.get();
    assert_eq!(
        (get.header("last-event-id"), get.header("accept")),
        ("c-1".into(), "text/event-stream".into())
    );
    let mut events = get.events();
    events.message(&json!({"jsonrpc": "2.0", "id": "q", "result": "late but there"}));
    assert_eq!(pair.client.next_message()["result"], "late but there");
    events.end();
    assert_eq!(pair.remote.unasked(), [""; 0], "the call is not sent again");
}

#[test]
fn an_answer_that_comes_on_the_servers_own_stream_counts() {
    let mut pair = Pair::listening(Remote::plain(), |connect| connect);
    let mut stream = pair.remote.get().events();
    pair.client.ask("q", "tools/call", &json!({}));
    let call = pair.remote.post().events();
    stream.message(&json!({"jsonrpc": "2.0", "id": "q", "result": "elsewhere"}));
    assert_eq!(pair.client.next_message()["result"], "elsewhere");
    call.end();
    pair.client.ask("after", "ping", &json!({}));
    pair.remote.post().result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "after", "and no error follows");
}

#[test]
fn what_is_no_message_on_a_stream_is_passed_over() {
    let pair = Pair::listening(Remote::plain(), |connect| connect);
    let mut events = pair.remote.get().events();
    events.piece(
        b"data: hello\n\ndata: {\"jsonrpc\":\"2.0\"}\n\nevent: endpoint\ndata: /messages\n\n: comment\n\n",
    );
    events.notification("notifications/a", &json!({}));
    assert_eq!(pair.client.next_message()["method"], "notifications/a");
    pair.client.logged("an event of the server's is dropped");
}

#[test]
fn an_answer_to_the_server_is_sent_again_when_its_connection_breaks() {
    let mut pair = Pair::open();
    pair.client.ask("a", "tools/call", &json!({}));
    let mut events = pair.remote.post().events();
    events.message(&json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}}));
    assert_eq!(pair.client.next_message()["method"], "elicitation/create");
    let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {"action": "decline"}});
    pair.client.message(&answer);
    for _ in 0..2 {
        let lost = pair.remote.post();
        assert_eq!(lost.message(), answer);
        lost.raw(b"");
    }
    let taken = pair.remote.post();
    assert_eq!(taken.message(), answer);
    taken.accepted();
    events.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], "a");
}
