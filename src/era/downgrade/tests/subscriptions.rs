//! What the client is told without having asked for it each time.

use super::*;

const LISTENING: &str = r#"
        client> {"method": "notifications/initialized"}
        server< {"id": 2, "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true}}}
        server> {"call": 2, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"toolsListChanged": true, "resourcesListChanged": true}, "_meta": {"io.modelcontextprotocol/subscriptionId": 2}}}
        "#;

fn run_listening(name: &str, script: &str) {
    run_able(name, &format!("{LISTENING}{script}"));
}

#[test]
fn changes_of_lists_are_told_once_the_client_is_ready() {
    run_listening(
        "lists",
        r#"
        server> {"call": 2, "method": "notifications/tools/list_changed", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 2}}}
        client< {"method": "notifications/tools/list_changed", "params": {}}
        server> {"call": 2, "method": "notifications/tools/list_changed", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": 2, "a/b": 1}}}
        client< {"method": "notifications/tools/list_changed", "params": {"_meta": {"a/b": 1}}}
        server> {"call": 2, "method": "notifications/tools/list_changed"}
        client< {"method": "notifications/tools/list_changed"}
        # Once is enough.
        client> {"method": "notifications/initialized"}
        "#,
    );
    run(
        "of one list",
        LATEST,
        &json!({}),
        &json!({ "prompts": { "listChanged": true }, "tools": {} }),
        r#"
        client> {"method": "notifications/initialized"}
        server< {"id": 2, "method": "subscriptions/listen", "params": {"notifications": {"promptsListChanged": true}}}
        "#,
    );
}

#[test]
fn a_subscription_is_answered_when_it_is_in_force_and_before_the_old_call_ends() {
    run_listening(
        "subscribe",
        r#"
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:1"}}
        server< {"id": 3, "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": ["a:1"]}}}
        # Meanwhile the old one is in force, and others wait for the next.
        server> {"call": 2, "method": "notifications/resources/list_changed", "params": {}}
        client< {"method": "notifications/resources/list_changed", "params": {}}
        client> {"id": 2, "method": "resources/subscribe", "params": {"uri": "a:2"}}
        client> {"id": 3, "method": "resources/subscribe", "params": {"uri": "a:3"}}
        client> {"id": 3, "method": "resources/subscribe", "params": {"uri": "a:4"}}
        client< {"id": 3, "error": {"code": -32600, "message": "$_", "data": {"source": "mcp-bridge", "reason": "duplicate_id"}}}
        client> {"id": 4, "method": "resources/subscribe", "params": {"uri": "a:4"}}
        client> {"method": "notifications/cancelled", "params": {"requestId": 4}}
        server> {"call": 3, "method": "notifications/resources/updated", "params": {"uri": "a:1"}}
        server> {"call": 3, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"resourceSubscriptions": ["a:1"]}}}
        server< {"cancel": 2}
        client< {"id": 1, "result": {}}
        server< {"id": 4, "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": ["a:1", "a:2", "a:3"]}}}
        # What the old one had brought still arrives; then it is gone.
        server> {"call": 2, "method": "notifications/prompts/list_changed", "params": {}}
        client< {"method": "notifications/prompts/list_changed", "params": {}}
        server! ends 2
        server> {"call": 2, "method": "notifications/prompts/list_changed", "params": {}}
        server> {"call": 3, "method": "notifications/resources/updated", "params": {"uri": "a:1/sub", "_meta": {"io.modelcontextprotocol/subscriptionId": 3}}}
        client< {"method": "notifications/resources/updated", "params": {"uri": "a:1/sub"}}
        # What is left out of the acknowledgement is refused.
        server> {"call": 4, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"resourceSubscriptions": ["a:1", "a:3"]}}}
        server< {"cancel": 3}
        client< {"id": 2, "error": {"code": -32602, "message": "$_"}}
        client< {"id": 3, "result": {}}
        # What is in force need not be asked for.
        client> {"id": 5, "method": "resources/subscribe", "params": {"uri": "a:3"}}
        client< {"id": 5, "result": {}}
        "#,
    );
}

#[test]
fn the_last_subscription_that_goes_ends_the_call() {
    run(
        "unsubscribe",
        LATEST,
        &json!({}),
        &json!({ "resources": { "subscribe": true } }),
        r#"
        client> {"method": "notifications/initialized"}
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:1"}}
        server< {"id": 2, "method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": ["a:1"]}}}
        server> {"call": 2, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"resourceSubscriptions": ["a:1"]}}}
        client< {"id": 1, "result": {}}
        client> {"id": 2, "method": "resources/unsubscribe", "params": {"uri": "a:9"}}
        client< {"id": 2, "result": {}}
        client> {"id": 3, "method": "resources/unsubscribe", "params": {"uri": "a:1"}}
        client< {"id": 3, "result": {}}
        server< {"cancel": 2}
        server! ends 2
        wait 1h
        "#,
    );
}

#[test]
fn what_is_taken_back_before_it_is_in_force_does_not_stay() {
    run(
        "taken back",
        LATEST,
        &json!({}),
        &json!({ "resources": { "subscribe": true } }),
        r#"
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:1"}}
        server< {"id": 2, "method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": ["a:1"]}}}
        client> {"id": 2, "method": "resources/subscribe", "params": {"uri": "a:2"}}
        client> {"id": 3, "method": "resources/unsubscribe", "params": {"uri": "a:1"}}
        client< {"id": 1, "result": {}}
        client< {"id": 3, "result": {}}
        server> {"call": 2, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"resourceSubscriptions": ["a:1"]}}}
        server< {"id": 3, "method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": ["a:2"]}}}
        client> {"method": "notifications/cancelled", "params": {"requestId": 2}}
        server> {"call": 3, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"resourceSubscriptions": ["a:2"]}}}
        server< {"cancel": 2}
        server< {"cancel": 3}
        "#,
    );
}

#[test]
fn a_server_that_breaks_each_call_soon_is_asked_ever_less_often() {
    let breaks = |call: u32, wait: &str| {
        let script = r#"
        server! ends CALL
        wait WAIT
        server< {"id": NEXT, "method": "subscriptions/listen", "params": "$_"}
        server> {"call": NEXT, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}}"#;
        script
            .replace("CALL", &call.to_string())
            .replace("NEXT", &(call + 1).to_string())
            .replace("WAIT", wait)
    };
    let script = [breaks(2, "1s"), breaks(3, "2s"), breaks(4, "4s"), "\nwait 60s".into(), breaks(5, "1s")];
    run_listening("breaks", &script.concat());
}

#[test]
fn a_refusal_is_that_of_whoever_waits() {
    run_listening(
        "refused",
        r#"
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:1"}}
        server< {"id": 3, "method": "subscriptions/listen", "params": "$_"}
        client> {"id": 2, "method": "resources/subscribe", "params": {"uri": "a:2"}}
        server> {"id": 3, "error": {"code": -32602, "message": "no such resource"}}
        client< {"id": 1, "error": {"code": -32602, "message": "no such resource"}}
        server< {"id": 4, "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": ["a:2"]}}}
        wait 30s
        server< {"cancel": 4}
        client< {"id": 2, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "timed_out"}}}
        server! ends 4
        # The old one is in force; what is wanted is asked for again all the same.
        server> {"call": 2, "method": "notifications/tools/list_changed", "params": {}}
        client< {"method": "notifications/tools/list_changed", "params": {}}
        wait 1s
        server< {"id": 5, "method": "subscriptions/listen", "params": "$_"}
        server> {"call": 5, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {}}}
        server< {"cancel": 2}
        "#,
    );
}

#[test]
fn a_server_that_knows_no_subscriptions_is_left_alone() {
    run_able(
        "no such method",
        r#"
        client> {"method": "notifications/initialized"}
        server< {"id": 2, "method": "subscriptions/listen", "params": "$_"}
        server> {"id": 2, "error": {"code": -32601, "message": "Method not found"}}
        wait 1h
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:1"}}
        server< {"id": 3, "method": "subscriptions/listen", "params": "$_"}
        server! ends 3
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "no_answer"}}}
        "#,
    );
}

#[test]
fn after_a_break_everything_may_have_changed() {
    run_listening(
        "break",
        r#"
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:1"}}
        server< {"id": 3, "method": "subscriptions/listen", "params": "$_"}
        server> {"call": 3, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["a:1"]}}}
        server< {"cancel": 2}
        client< {"id": 1, "result": {}}
        server> {"id": 3, "result": {"resultType": "complete", "_meta": {"io.modelcontextprotocol/subscriptionId": 3}}}
        wait 999ms
        wait 1ms
        server< {"id": 4, "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": ["a:1"]}}}
        server! ends 4
        # Twice as long each time.
        wait 1999ms
        wait 1ms
        server< {"id": 5, "method": "subscriptions/listen", "params": "$_"}
        server> {"call": 5, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["a:1"]}}}
        client< {"method": "notifications/tools/list_changed", "params": {}}
        client< {"method": "notifications/resources/updated", "params": {"uri": "a:1"}}
        # As a child ends it.
        server> {"call": 5, "method": "notifications/cancelled", "params": {"requestId": 5}}
        server< {"cancel": 5}
        # Who subscribes need not wait.
        client> {"id": 2, "method": "resources/subscribe", "params": {"uri": "a:2"}}
        server< {"id": 6, "method": "subscriptions/listen", "params": {"notifications": {"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true, "resourceSubscriptions": ["a:1", "a:2"]}}}
        server> {"call": 6, "method": "notifications/subscriptions/acknowledged", "params": {"notifications": {"resourceSubscriptions": ["a:2"]}}}
        client< {"id": 2, "result": {}}
        client< {"method": "notifications/resources/updated", "params": {"uri": "a:2"}}
        "#,
    );
}

#[test]
fn subscriptions_are_bounded() {
    let mut machine = entered(LATEST, &json!({}), &everything());
    let now = Instant::now();
    let mut subscribe = |id: usize, uri: &str| {
        let params = json!({ "uri": uri });
        machine.sends(
            Side::Client,
            json!({ "id": id, "method": "resources/subscribe", "params": params }),
            now,
        );
        let out = machine.out();
        out.last().is_some_and(|(_, last)| last["error"]["data"]["source"] == "mcp-bridge")
    };
    assert!(subscribe(0, &"x".repeat(1 << 20 | 1)));
    assert!((1..=1024).all(|id| !subscribe(id, &format!("a:{id}"))));
    assert!(subscribe(1025, "a:1025"));
}
