//! The promises of routing, without a socket.

use bytes::Bytes;

use super::*;
use crate::jsonrpc::{Payload, parse};

const LIMITS: Limits = Limits { silence: Some(Duration::from_secs(10)), total: Duration::from_secs(60) };

struct Case {
    session: Session,
    now: Instant,
    streams: u64,
}

fn message(text: &str) -> Message {
    match parse(Bytes::from(text.to_owned())).unwrap() {
        Payload::Single(message) => message,
        Payload::Batch(_) => panic!("a batch"),
    }
}

impl Case {
    fn new() -> Self {
        Self { session: Session::new(LIMITS, Exchanges::default()), now: Instant::now(), streams: 0 }
    }

    fn stream(&mut self) -> StreamId {
        self.streams += 1;
        StreamId(self.streams)
    }

    fn intake(&mut self, text: &str, streams: bool) -> Result<(StreamId, Intake), ErrorObject> {
        let stream = self.stream();
        let intake = self.session.from_client(&message(text), stream, streams, self.now)?;
        Ok((stream, intake))
    }

    /// A request of the client's with this id (as JSON) and progress token.
    fn call(&mut self, id: &str, token: &str) -> StreamId {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
        );
        self.intake(&text, true).unwrap().0
    }

    fn listen(&mut self) -> StreamId {
        let stream = self.stream();
        self.session.open_listener(stream);
        stream
    }

    fn server(&mut self, text: &str) -> Outcome {
        self.session.from_server(message(text), None, self.now)
    }

    fn answer(&mut self, id: &str) -> Outcome {
        self.server(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
    }

    fn ask(&mut self, id: &str) -> Outcome {
        self.server(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"sampling/createMessage"}}"#))
    }

    fn notify(&mut self, method: &str) -> Outcome {
        self.server(&format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{}}}}"#))
    }

    fn progress(&mut self, token: &str) -> Outcome {
        self.server(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token}}}}}"#
        ))
    }
}

#[track_caller]
fn stream_of(outcome: &Outcome) -> StreamId {
    match outcome {
        Outcome::Deliver(delivery) => delivery.stream,
        other => panic!("not delivered: {other:?}"),
    }
}

#[track_caller]
fn ignored(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Ignore(_)), "{outcome:?}");
}

#[test]
fn each_answer_goes_to_the_one_who_asked() {
    let mut case = Case::new();
    let (one, text) = (case.call("1", "10"), case.call(r#""1""#, r#""10""#));
    assert_eq!(stream_of(&case.answer(r#""1""#)), text);
    assert_eq!(stream_of(&case.answer("1")), one);
    assert!(case.session.is_idle());
}

#[test]
fn an_answer_is_delivered_once_and_only_if_asked_for() {
    let mut case = Case::new();
    case.call("1", "1");
    ignored(&case.answer("2"));
    stream_of(&case.answer("1"));
    ignored(&case.answer("1"));
}

#[test]
fn the_second_of_two_equal_ids_is_refused() {
    let mut case = Case::new();
    case.call("1", "1");
    let again = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    assert_eq!(case.intake(again, true).unwrap_err().reason, "duplicate_id");
    stream_of(&case.answer("1"));
    assert!(case.intake(again, true).is_ok(), "after its answer an id is free");
}

#[test]
fn progress_goes_to_the_exchange_of_its_token() {
    let mut case = Case::new();
    case.listen();
    let (a, b) = (case.call("1", "\"a\""), case.call("2", "\"b\""));
    assert_eq!(stream_of(&case.progress("\"b\"")), b);
    assert_eq!(stream_of(&case.progress("\"a\"")), a);
}

#[test]
fn of_two_exchanges_with_one_token_the_newer_has_it_until_it_ends() {
    let mut case = Case::new();
    let (_, newer) = (case.call("1", "7"), case.call("2", "7"));
    stream_of(&case.answer("1"));
    assert_eq!(stream_of(&case.progress("7")), newer);
}

#[test]
fn what_names_no_exchange_goes_to_the_only_one_else_to_the_listener_else_to_the_newest() {
    let mut case = Case::new();
    let first = case.call("1", "1");
    assert_eq!(stream_of(&case.ask("100")), first);
    let second = case.call("2", "2");
    assert_eq!(stream_of(&case.ask("101")), second);
    let listener = case.listen();
    assert_eq!(stream_of(&case.notify("notifications/message")), listener);
    assert_eq!(stream_of(&case.ask("102")), listener);
}

#[test]
fn news_of_the_server_prefers_the_listener_even_with_one_exchange() {
    let mut case = Case::new();
    let call = case.call("1", "1");
    assert_eq!(stream_of(&case.notify("notifications/tools/list_changed")), call);
    let listener = case.listen();
    assert_eq!(stream_of(&case.notify("notifications/tools/list_changed")), listener);
    assert_eq!(stream_of(&case.notify("notifications/message")), call);
}

#[test]
fn what_is_said_to_belong_to_an_exchange_goes_to_its_stream_if_that_can_carry_it() {
    let mut case = Case::new();
    let (first, second) = (case.call("1", "1"), case.call("2", "2"));
    let about = |case: &mut Case, id: u64, text: &str| {
        case.session.from_server(message(text), Some(&RequestId::from(id)), case.now)
    };
    let ask = r#"{"jsonrpc":"2.0","id":100,"method":"elicitation/create"}"#;
    let tell = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
    assert_eq!(stream_of(&about(&mut case, 1, ask)), first);
    assert_eq!(stream_of(&about(&mut case, 1, tell)), first);
    assert_eq!(stream_of(&about(&mut case, 2, ask)), second);
    case.session.stream_left(first, false, case.now);
    assert_eq!(stream_of(&about(&mut case, 1, ask)), second);
    let listener = case.listen();
    assert_eq!(stream_of(&about(&mut case, 9, tell)), listener);
}

#[test]
fn without_a_stream_messages_wait_for_one() {
    let mut case = Case::new();
    assert!(matches!(case.ask("100"), Outcome::Held(out) if out.is_empty()));
    let stream = case.stream();
    let held = case.session.open_listener(stream);
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].stream, stream);
    let reply = r#"{"jsonrpc":"2.0","id":100,"result":{}}"#;
    assert!(matches!(case.intake(reply, true), Ok((_, Intake::Forward(_)))));
}

#[test]
fn a_new_exchange_takes_what_waits_only_if_it_can_stream_and_nobody_listens() {
    let mut case = Case::new();
    case.ask("100");
    let text = |id: u32| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
    let (_, intake) = case.intake(&text(1), false).unwrap();
    assert!(matches!(intake, Intake::Forward(out) if out.is_empty()));
    let (stream, intake) = case.intake(&text(2), true).unwrap();
    assert!(matches!(intake, Intake::Forward(out) if out.len() == 1 && out[0].stream == stream));
}

#[test]
fn a_request_that_nobody_can_take_is_refused_in_time() {
    let mut case = Case::new();
    case.ask("100");
    case.notify("notifications/message");
    let due = case.session.next_deadline().unwrap();
    assert!(case.session.expire(case.now).to_server.is_empty());
    let expired = case.session.expire(due);
    assert_eq!(expired.to_server.len(), 1);
    assert!(expired.to_server[0].as_str().contains(r#""id":100"#));
}

#[test]
fn what_waits_is_bounded_and_the_oldest_goes_first() {
    let mut case = Case::new();
    case.ask("7");
    let mut out = Vec::new();
    for _ in 0..300 {
        if let Outcome::Held(driven_out) = case.notify("notifications/message") {
            out.extend(driven_out);
        }
    }
    assert_eq!(out.len(), 300 + 1 - 256);
    assert_eq!(out[0].request_id(), Some(&RequestId::from(7)));
}

#[test]
fn an_answer_of_the_client_passes_once_and_only_if_asked_for() {
    let mut case = Case::new();
    case.call("1", "1");
    case.ask("100");
    let reply = r#"{"jsonrpc":"2.0","id":100,"result":{}}"#;
    assert!(matches!(case.intake(reply, true), Ok((_, Intake::Forward(_)))));
    assert!(matches!(case.intake(reply, true), Ok((_, Intake::Ignore(_)))));
}

#[test]
fn a_cancelled_exchange_ends_without_an_answer() {
    let mut case = Case::new();
    let stream = case.call("1", "1");
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let (_, Intake::Forward(out)) = case.intake(cancel, true).unwrap() else { panic!("not forwarded") };
    assert!(matches!(&out[..], [Delivery { stream: s, line: None, last: true, .. }] if *s == stream));
    ignored(&case.answer("1"));
}

#[test]
fn what_cancels_nothing_in_flight_is_kept_from_the_server() {
    let mut case = Case::new();
    let cancel = |id| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
    };
    let (_, early) = case.intake(&cancel(1), true).unwrap();
    assert!(matches!(early, Intake::Ignore(_)));
    let stream = case.call("1", "1");
    assert_eq!(stream_of(&case.answer("1")), stream);
    let (_, late) = case.intake(&cancel(1), true).unwrap();
    assert!(matches!(late, Intake::Ignore(_)));
    let malformed = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
    assert!(matches!(case.intake(malformed, true), Ok((_, Intake::Forward(out))) if out.is_empty()));
}

#[test]
fn a_message_of_a_stream_that_is_gone_takes_another_way() {
    let mut case = Case::new();
    let (a, b) = (case.call("1", "1"), case.call("2", "2"));
    case.session.stream_left(b, false, case.now);
    assert_eq!(stream_of(&case.ask("100")), a);
    assert_eq!(stream_of(&case.progress("2")), a);
    let listener = case.listen();
    assert_eq!(stream_of(&case.progress("2")), listener);
}

#[test]
fn a_stream_that_can_be_taken_up_again_keeps_what_is_its_own() {
    let mut case = Case::new();
    let (a, b) = (case.call("1", "1"), case.call("2", "2"));
    case.session.stream_left(b, true, case.now);
    assert_eq!(stream_of(&case.progress("2")), b);
    assert_eq!(stream_of(&case.ask("100")), a);
    case.session.stream_resumed(b, StreamKind::Exchange);
    assert_eq!(stream_of(&case.ask("101")), b);
}

#[test]
fn when_the_server_ends_every_request_is_answered_and_every_stream_ends() {
    let mut case = Case::new();
    let (a, b, l) = (case.call("1", "1"), case.call("2", "2"), case.listen());
    let out = case.session.server_ended(&ErrorObject::internal("child_exited", "exit status 3"));
    let ended: Vec<_> = out.iter().filter(|d| d.last).map(|d| d.stream).collect();
    assert_eq!(ended, [a, b, l]);
    assert!(out[0].line.as_ref().unwrap().as_str().contains(r#""id":1"#));
    assert!(out[1].line.as_ref().unwrap().as_str().contains("exit status 3"));
}

#[test]
fn silence_ends_an_exchange_and_progress_does_not_extend_it_for_ever() {
    let mut case = Case::new();
    case.call("1", "1");
    let start = case.now;
    for _ in 0..6 {
        case.now += Duration::from_secs(9);
        assert!(case.session.expire(case.now).deliveries.is_empty(), "progress resets the silence");
        case.progress("1");
    }
    let expired = case.session.expire(start + LIMITS.total);
    assert!(expired.deliveries[0].line.as_ref().unwrap().as_str().contains("60s"));
    assert!(expired.to_server[0].as_str().contains("notifications/cancelled"));
    case.call("2", "2");
    let expired = case.session.expire(case.now + Duration::from_secs(10));
    assert!(expired.deliveries[0].line.as_ref().unwrap().as_str().contains("10s"));
}

#[test]
fn whoever_is_asked_may_take_his_time() {
    let mut case = Case::new();
    case.call("1", "1");
    case.ask("100");
    case.now += Duration::from_secs(9);
    let due = case.session.next_deadline().unwrap();
    assert!(case.session.expire(due).deliveries.is_empty());
    case.now = due + Duration::from_secs(9);
    case.intake(r#"{"jsonrpc":"2.0","id":100,"result":{}}"#, true).unwrap();
    assert!(case.session.expire(case.now + Duration::from_secs(9)).deliveries.is_empty());
    assert_eq!(case.session.expire(case.now + Duration::from_secs(11)).deliveries.len(), 1);
}

#[test]
fn a_request_of_the_servers_on_a_stream_that_nobody_saw_is_refused() {
    let mut case = Case::new();
    let stream = case.call("1", "1");
    case.ask("100");
    let told = case.session.stream_left(stream, false, case.now);
    assert!(told[0].as_str().contains(r#""id":100"#) && told[0].as_str().contains("no_stream"));
    assert!(case.session.stream_left(stream, false, case.now).is_empty());
}

#[test]
fn a_request_of_the_servers_on_a_stream_that_is_not_taken_up_again_is_refused_in_time() {
    let mut case = Case::new();
    let stream = case.listen();
    case.ask("100");
    case.session.stream_left(stream, true, case.now);
    let due = case.session.next_deadline().unwrap();
    case.session.stream_resumed(stream, StreamKind::Listener);
    assert!(case.session.expire(due).to_server.is_empty(), "its client is back");
    case.session.stream_left(stream, true, case.now);
    let told = case.session.expire(due).to_server;
    assert!(told[0].as_str().contains(r#""id":100"#) && told[0].as_str().contains("no_stream"));
    assert!(case.session.next_deadline().is_none());
}

#[test]
fn a_batch_ends_its_stream_with_its_last_answer() {
    let mut case = Case::new();
    let stream = case.stream();
    for id in [1, 2] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        case.session.from_client(&message(&text), stream, true, case.now).unwrap();
    }
    assert!(matches!(case.answer("2"), Outcome::Deliver(Delivery { last: false, .. })));
    assert!(matches!(case.answer("1"), Outcome::Deliver(Delivery { last: true, .. })));
}

#[test]
fn the_revision_is_the_servers_word() {
    let mut case = Case::new();
    case.intake(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#, true).unwrap();
    case.server(r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-03-26"}}"#);
    assert_eq!(case.session.revision(), Some(mcp::LegacyRevision::V2025_03_26));
}

#[test]
fn a_request_may_name_the_revision_that_was_agreed_on_and_those_that_are_known() {
    let long = "x".repeat(MAX_REVISION + 1);
    let table = [
        ("2024-11-05", "whatever", true),
        ("2025-03-26", "whatever", true),
        ("2025-06-18", "whatever", false),
        ("2025-06-18", "2025-11-25", true),
        ("2025-11-25", "2025-11-26", false),
        ("2025-11-26", "2025-11-26", true),
        ("2025-11-26", "2025-11-25", true),
        ("2025-11-26", "2025-11-27", false),
        (&long, &long, false),
    ];
    for (agreed, named, admitted) in table {
        let mut case = Case::new();
        assert!(!case.session.admits_version("2025-11-26"), "before there is an answer");
        case.intake(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#, true).unwrap();
        case.server(&format!(r#"{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"{agreed}"}}}}"#));
        assert_eq!(case.session.admits_version(named), admitted, "{named} in a session of {agreed}");
    }
}

#[test]
fn an_initialize_that_is_refused_makes_no_session() {
    let mut case = Case::new();
    case.intake(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#, true).unwrap();
    case.server(r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#);
    assert!(!case.session.may_be_used());
    let mut case = Case::new();
    case.intake(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#, true).unwrap();
    assert!(case.session.may_be_used(), "it may yet succeed");
    case.session.server_ended(&ErrorObject::internal("child_exited", "exit status 3"));
    assert!(!case.session.may_be_used());
}

#[test]
fn an_answer_that_comes_before_the_rest_of_its_batch_does_not_end_the_stream() {
    let mut case = Case::new();
    let stream = case.stream();
    let ping = |id| message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
    case.session.begin_batch(stream);
    case.session.from_client(&ping(1), stream, true, case.now).unwrap();
    assert!(matches!(case.answer("1"), Outcome::Deliver(Delivery { last: false, .. })));
    case.session.from_client(&ping(2), stream, true, case.now).unwrap();
    assert!(!case.session.complete_batch(stream));
    assert!(matches!(case.answer("2"), Outcome::Deliver(Delivery { last: true, .. })));
}

#[test]
fn an_id_is_given_back_whatever_number_it_is() {
    let id = RequestId::from_json("1e400").unwrap();
    assert!(cancellation(&id).as_str().contains(r#""requestId":1e400"#));
}
