//! Subscriptions of a modern client, and their streams that break.

use serde_json::{Value, json};

use super::{MODERN, Pair, QUICK, refuse};
use crate::support::modern::SUBSCRIPTION_KEY;
use crate::support::remote::{Events, Request};

const LISTEN: &str = "subscriptions/listen";

fn meta() -> Value {
    json!({SUBSCRIPTION_KEY: "l"})
}

fn filter() -> Value {
    json!({"toolsListChanged": true, "resourceSubscriptions": ["file:///a"]})
}

fn acknowledge(listen: Request) -> Events {
    let mut events = listen.events();
    events.notification(
        "notifications/subscriptions/acknowledged",
        &json!({"_meta": meta(), "notifications": filter()}),
    );
    events
}

/// A subscription that is acknowledged.
fn listening() -> (Pair, Events) {
    let mut pair = Pair::new(&format!("{MODERN}{QUICK}"));
    let events = acknowledge(pair.asked("l", LISTEN, json!({"notifications": filter()})));
    assert_eq!(pair.client.next_message()["params"]["notifications"], filter());
    (pair, events)
}

#[test]
fn a_stream_that_breaks_is_opened_again_and_what_may_have_changed_is_told() {
    let (mut pair, mut events) = listening();
    events.notification("notifications/tools/list_changed", &json!({"_meta": meta()}));
    assert_eq!(pair.client.next_message()["method"], "notifications/tools/list_changed");
    for _ in 0..5 {
        drop(events);
        let again = pair.remote.asked(LISTEN);
        assert_eq!(again.message()["id"], "l");
        assert_eq!(again.message()["params"]["notifications"], filter());
        events = acknowledge(again);
        let tools = pair.client.next_message();
        assert_eq!(
            (&tools["method"], &tools["params"]["_meta"]),
            (&json!("notifications/tools/list_changed"), &meta())
        );
        let resource = pair.client.next_message();
        assert_eq!(resource["method"], "notifications/resources/updated");
        assert_eq!(
            (&resource["params"]["uri"], &resource["params"]["_meta"]),
            (&json!("file:///a"), &meta())
        );
    }
    events.result(&json!({"resultType": "complete", "_meta": meta()}));
    let end = pair.client.next_message();
    assert_eq!((&end["id"], &end["result"]["_meta"]), (&json!("l"), &meta()));
    pair.nothing_more_comes();
}

#[test]
fn what_can_not_be_opened_again_is_taken_down() {
    let (mut pair, events) = listening();
    drop(events);
    for _ in 0..3 {
        pair.remote.asked(LISTEN).respond("503 Service Unavailable", &[], b"");
    }
    let torn = pair.client.next_message();
    assert_eq!(
        (&torn["method"], &torn["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!("l"))
    );
    pair.nothing_more_comes();
    // Its id is free.
    acknowledge(pair.asked("l", LISTEN, json!({"notifications": filter()})));
    assert_eq!(pair.client.next_message()["method"], "notifications/subscriptions/acknowledged");
}

#[test]
fn a_subscription_that_is_refused_is_answered_so() {
    let mut pair = Pair::new(&format!("{MODERN}{QUICK}"));
    refuse(pair.asked(1, LISTEN, json!({"notifications": {}})), "404 Not Found", -32601, &json!({}));
    assert_eq!(pair.client.next_message()["error"]["code"], -32601);
    drop(pair.asked(2, LISTEN, json!({"notifications": {}})));
    pair.client.own_error(2);
    assert_eq!(pair.remote.unasked(), [""; 0]);
}

#[test]
fn a_subscription_that_is_taken_back_is_not_opened_again() {
    let (mut pair, events) = listening();
    pair.cancel("l");
    events.wait_closed();
    pair.nothing_more_comes();
    assert_eq!(pair.remote.unasked(), [""; 0]);
}
