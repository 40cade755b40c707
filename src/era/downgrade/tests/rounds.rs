//! What the server asks, and what becomes of it.

use super::*;

#[test]
fn the_client_is_asked_in_parallel_and_the_call_sent_again_with_the_answers() {
    run_able(
        "a round of each",
        r#"
        client> {"id": "a", "method": "tools/call", "params": {"name": "t", "arguments": {"x": 1}, "_meta": {"progressToken": 5}}}
        server< {"id": 2, "method": "tools/call", "params": {"name": "t", "arguments": {"x": 1}, "_meta": {"progressToken": 5}}}
        server> {"call": 2, "method": "notifications/progress", "params": {"progressToken": 5, "progress": 2}}
        client< {"about": "a", "method": "notifications/progress", "params": {"progressToken": 5, "progress": 2}}
        server> {"id": 2, "result": {"resultType": "input_required", "requestState": "blob", "inputRequests": {"e": {"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}}, "s": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}, "r": {"method": "roots/list"}}}}
        client< {"about": "a", "id": "$e", "method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}}
        client< {"about": "a", "id": "$r", "method": "roots/list", "params": {}}
        client< {"about": "a", "id": "$s", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}
        # The client takes its time, in any order.
        client> {"id": "$r", "result": {"roots": []}}
        wait 5m
        client> {"id": "$e", "result": {"action": "accept", "content": {"n": 1}}}
        client> {"id": "$e", "result": {"action": "accept", "content": {"n": 2}}}
        client> {"id": "$s", "result": {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"}}
        server< {"id": 3, "method": "tools/call", "params": {"name": "t", "arguments": {"x": 1}, "requestState": "blob", "inputResponses": {"e": {"action": "accept", "content": {"n": 1}}, "s": {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"}, "r": {"roots": []}}, "_meta": {"progressToken": 5}}}
        # Progress rises over all rounds.
        server> {"call": 3, "method": "notifications/progress", "params": {"progressToken": 5, "progress": 1}}
        server> {"call": 3, "method": "notifications/progress", "params": {"progressToken": 5, "progress": 2.5}}
        client< {"about": "a", "method": "notifications/progress", "params": {"progressToken": 5, "progress": 2.5}}
        server> {"id": 3, "result": {"resultType": "complete", "content": []}}
        client< {"id": "a", "result": {"content": []}}
        "#,
    );
}

#[test]
fn answers_and_state_are_of_one_round_only() {
    run_able(
        "rounds",
        r#"
        client> {"id": 1, "method": "prompts/get", "params": {"name": "p"}}
        server< {"id": 2, "method": "prompts/get", "params": {"name": "p"}}
        server> {"id": 2, "result": {"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list"}}, "requestState": "one"}}
        client< {"about": 1, "id": "$q", "method": "roots/list", "params": {}}
        client> {"id": "$q", "result": {"roots": [1]}}
        server< {"id": 3, "method": "prompts/get", "params": {"name": "p", "inputResponses": {"k": {"roots": [1]}}, "requestState": "one"}}
        server> {"id": 3, "result": {"resultType": "input_required", "inputRequests": {"l": {"method": "roots/list", "params": {"_meta": {"a": 1}}}}}}
        client< {"about": 1, "id": "$r", "method": "roots/list", "params": {"_meta": {"a": 1}}}
        client> {"id": "$r", "result": {"roots": [2]}}
        server< {"id": 4, "method": "prompts/get", "params": {"name": "p", "inputResponses": {"l": {"roots": [2]}}}}
        server> {"id": 4, "error": {"code": -32602, "message": "no"}}
        client< {"id": 1, "error": {"code": -32602, "message": "no"}}
        "#,
    );
}

#[test]
fn state_alone_is_sent_back_after_a_while() {
    run_able(
        "state",
        r#"
        client> {"id": 1, "method": "resources/read", "params": {"uri": "a:b"}}
        server< {"id": 2, "method": "resources/read", "params": {"uri": "a:b"}}
        server> {"id": 2, "result": {"resultType": "input_required", "requestState": "1"}}
        wait 199ms
        wait 1ms
        server< {"id": 3, "method": "resources/read", "params": {"uri": "a:b", "requestState": "1"}}
        server> {"id": 3, "result": {"resultType": "input_required", "requestState": "2"}}
        wait 399ms
        wait 1ms
        server< {"id": 4, "method": "resources/read", "params": {"uri": "a:b", "requestState": "2"}}
        server> {"id": 4, "result": {"resultType": "input_required", "requestState": "3"}}
        client> {"method": "notifications/cancelled", "params": {"requestId": 1}}
        wait 1h
        client> {"id": 1, "method": "resources/read", "params": {"uri": "a:b"}}
        server< {"id": 5, "method": "resources/read", "params": {"uri": "a:b"}}
        server> {"id": 5, "result": {"resultType": "input_required", "inputRequests": {}}}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "malformed_result"}}}
        "#,
    );
}

#[test]
fn a_request_is_sent_again_sixteen_times_at_most() {
    let rounds = (2..18).map(|round| {
        let again = r#"
        server> {"id": ROUND, "result": {"resultType": "input_required", "requestState": "s"}}
        wait 10s
        server< {"id": NEXT, "method": "tools/call", "params": {"requestState": "s"}}"#;
        again.replace("ROUND", &round.to_string()).replace("NEXT", &(round + 1).to_string())
    });
    let begin = r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}"#;
    let end = r#"
        server> {"id": 18, "result": {"resultType": "input_required", "requestState": "s"}}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "too_many_rounds"}}}
        "#;
    let script = format!("{begin}{}{end}", rounds.collect::<String>());
    run_able("rounds", &script);
}

#[test]
fn an_elicitation_that_fails_is_cancelled_and_anything_else_ends_the_call() {
    let ask = r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}
        server> {"id": 2, "result": {"resultType": "input_required", "inputRequests": {"e": {"method": "elicitation/create", "params": {}}, "s": {"method": "sampling/createMessage", "params": {}}}}}
        client< {"about": 1, "id": "$e", "method": "elicitation/create", "params": {}}
        client< {"about": 1, "id": "$s", "method": "sampling/createMessage", "params": {}}
        "#;
    let cancelled = r#"
        client> {"id": "$e", "error": {"code": -32600, "message": "no"}}
        client> {"id": "$s", "result": {"model": "m"}}
        server< {"id": 3, "method": "tools/call", "params": {"inputResponses": {"e": {"action": "cancel"}, "s": {"model": "m"}}}}
        "#;
    let ended = r#"
        client> {"id": "$s", "error": {"code": -1, "message": "User rejected sampling request"}}
        client< {"about": 1, "method": "notifications/cancelled", "params": {"requestId": "$e", "reason": "$_"}}
        client< {"id": 1, "error": {"code": -1, "message": "User rejected sampling request"}}
        client> {"id": "$e", "result": {"action": "accept"}}
        "#;
    let malformed = r#"
        client> {"id": "$e", "result": 7}
        client> {"id": "$s", "result": 7}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "malformed_answer"}}}
        "#;
    for script in [cancelled, ended, malformed] {
        run_able(script, &format!("{ask}{script}"));
    }
}

#[test]
fn a_cancelled_call_takes_its_questions_back() {
    run_able(
        "cancelled between rounds",
        r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}
        server> {"id": 2, "result": {"resultType": "input_required", "inputRequests": {"a": {"method": "roots/list"}, "b": {"method": "roots/list"}}}}
        client< {"about": 1, "id": "$a", "method": "roots/list", "params": {}}
        client< {"about": 1, "id": "$b", "method": "roots/list", "params": {}}
        client> {"id": "$a", "result": {"roots": []}}
        client> {"method": "notifications/cancelled", "params": {"requestId": 1}}
        client< {"about": 1, "method": "notifications/cancelled", "params": {"requestId": "$b", "reason": "$_"}}
        client> {"id": "$b", "result": {"roots": []}}
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 3, "method": "tools/call", "params": {}}
        server> {"id": 3, "result": {"resultType": "input_required", "inputRequests": {"a": {"method": "roots/list"}}}}
        client< {"about": 1, "id": "$c", "method": "roots/list", "params": {}}
        # Even whoever is asked has not for ever.
        wait 10m
        client< {"about": 1, "method": "notifications/cancelled", "params": {"requestId": "$c", "reason": "$_"}}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "timed_out"}}}
        "#,
    );
}

#[test]
fn a_client_is_asked_only_for_what_it_has_declared() {
    let (form, url) =
        (r#""elicitation/create""#, r#""elicitation/create", "params": {"mode": "url", "url": "https://x"}"#);
    let (sample, roots) = (r#""sampling/createMessage""#, r#""roots/list""#);
    let with_tools = r#""sampling/createMessage", "params": {"tools": []}"#;
    for (revision, declared, asks, may) in [
        (LATEST, json!({}), form, false),
        (LATEST, json!({}), sample, false),
        (LATEST, json!({}), roots, false),
        (LATEST, json!({ "elicitation": {} }), form, true),
        (LATEST, json!({ "elicitation": {} }), url, false),
        (LATEST, json!({ "elicitation": { "url": {} } }), form, false),
        (LATEST, json!({ "elicitation": { "url": {} } }), url, true),
        (LATEST, json!({ "elicitation": { "form": {} } }), url, false),
        (LATEST, json!({ "elicitation": null }), form, false),
        ("2025-06-18", json!({ "elicitation": {} }), form, true),
        ("2025-06-18", json!({ "elicitation": {} }), url, false),
        ("2025-03-26", json!({ "sampling": {} }), sample, true),
        ("2024-11-05", json!({ "roots": {} }), roots, true),
        (LATEST, json!({ "sampling": {} }), with_tools, false),
        (LATEST, json!({ "sampling": { "tools": {} } }), with_tools, true),
        (LATEST, json!({ "roots": {} }), r#""tools/call""#, false),
    ] {
        let mut machine = entered(revision, &declared, &json!({}));
        let now = Instant::now();
        machine.sends(Side::Client, json!({ "id": 1, "method": "tools/call" }), now);
        machine.out();
        let requests = value(&format!(r#"{{"k": {{"method": {asks}}}}}"#));
        let result = json!({ "resultType": "input_required", "inputRequests": requests });
        machine.sends(Side::Server, json!({ "id": 2, "result": result }), now);
        let out = machine.out();
        assert_eq!(out.len(), 1, "{revision} {declared} {asks}");
        assert_eq!(out[0].1["method"].is_string(), may, "{revision} {declared} {asks}: {}", out[0].1);
        assert_eq!(out[0].1["error"]["code"] == -32603, !may);
    }
}

#[test]
fn an_older_client_is_asked_in_its_own_words() {
    run(
        "2025-06-18",
        "2025-06-18",
        &json!({ "elicitation": {} }),
        &json!({}),
        r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}
        server> {"id": 2, "result": {"resultType": "input_required", "inputRequests": {"e": {"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": {}}}}}}
        client< {"about": 1, "id": "$e", "method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}}
        "#,
    );
}

#[test]
fn a_url_is_visited_once_and_then_the_user_has_to_act() {
    run_able(
        "URL",
        r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}
        server> {"id": 2, "result": {"resultType": "input_required", "requestState": "s", "inputRequests": {"u": {"method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/1"}}}}}
        client< {"about": 1, "id": "$q", "method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/1", "elicitationId": "$one"}}
        client> {"id": "$q", "result": {"action": "accept"}}
        server< {"id": 3, "method": "tools/call", "params": {"requestState": "s", "inputResponses": {"u": {"action": "accept"}}}}
        # Another one is asked for as the first was.
        server> {"id": 3, "result": {"resultType": "input_required", "inputRequests": {"u": {"method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/2"}}}}}
        client< {"about": 1, "id": "$r", "method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/2", "elicitationId": "$two"}}
        client> {"id": "$r", "result": {"action": "accept"}}
        server< {"id": 4, "method": "tools/call", "params": {"inputResponses": {"u": {"action": "accept"}}}}
        server> {"id": 4, "result": {"resultType": "input_required", "inputRequests": {"v": {"method": "elicitation/create", "params": {"mode": "url", "message": "Go on", "url": "https://x/1"}}, "f": {"method": "elicitation/create", "params": {"message": "?"}}}}}
        client< {"id": 1, "error": {"code": -32042, "message": "$_", "data": {"elicitations": [{"mode": "url", "message": "Go on", "url": "https://x/1", "elicitationId": "$one"}]}}}
        # The next call knows nothing of it, and what is asked twice at once was not asked before.
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 5, "method": "tools/call", "params": {}}
        server> {"id": 5, "result": {"resultType": "input_required", "inputRequests": {"u": {"method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/1"}}, "v": {"method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/1"}}}}}
        client< {"about": 1, "id": "$s", "method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/1", "elicitationId": "$three"}}
        client< {"about": 1, "id": "$t", "method": "elicitation/create", "params": {"mode": "url", "message": "Go", "url": "https://x/1", "elicitationId": "$three"}}
        "#,
    );
}

#[test]
fn questions_are_bounded() {
    let mut machine = entered(LATEST, &json!({ "roots": {} }), &json!({}));
    let now = Instant::now();
    let mut ask = |id: u64, questions: usize| {
        machine.sends(Side::Client, json!({ "id": id, "method": "tools/call" }), now);
        machine.out();
        let requests: serde_json::Map<_, _> =
            (0..questions).map(|n| (n.to_string(), json!({ "method": "roots/list" }))).collect();
        let result = json!({ "resultType": "input_required", "inputRequests": requests });
        machine.sends(Side::Server, json!({ "id": id + 2, "result": result }), now);
        machine.out()
    };
    for id in 0..16 {
        assert_eq!(ask(id, 64).len(), 64);
    }
    for (id, questions) in [(16, 1), (17, 65)] {
        let out = ask(id, questions);
        assert_eq!(out[0].1["error"]["data"]["reason"], "too_many_questions");
    }
}
