//! `initialize`, requests and results, and what is answered here.

use super::*;

#[test]
fn initialize_becomes_discover_and_its_answer_that_of_a_legacy_server() {
    let mut machine = Played::new();
    machine.info = Some(json!({ "name": "c", "version": "1" }));
    machine.capabilities = json!({
        "roots": {}, "sampling": {}, "extensions": { "a/b": {} }, "experimental": { "x": { "n": 1 } }
    });
    script::run(
        "initialize",
        r#"
        client> {"id": "i", "method": "initialize", "params": {"protocolVersion": "2025-11-25", "clientInfo": {"name": "c", "version": "1"}, "_meta": {"progressToken": "p", "traceparent": "00-1"}, "capabilities": {"tasks": {"list": {}}, "roots": {"listChanged": true}, "sampling": {}, "experimental": {"x": {"n": 1}}, "extensions": {"a/b": {}, "io.modelcontextprotocol/tasks": {}}}}}
        server< {"id": 1, "method": "server/discover", "params": {"_meta": {"progressToken": "p", "traceparent": "00-1"}}}
        server> {"id": 1, "result": {"resultType": "complete", "supportedVersions": ["2026-07-28"], "instructions": "Ask.", "ttlMs": 5, "cacheScope": "public", "capabilities": {"tools": {"listChanged": true}, "tasks": {}, "extensions": {"io.modelcontextprotocol/tasks": {}, "a/c": {}}}, "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "2", "title": "S"}, "x/y": 1}}}
        client< {"id": "i", "result": {"protocolVersion": "2025-11-25", "instructions": "Ask.", "capabilities": {"tools": {"listChanged": true}, "extensions": {"a/c": {}}}, "serverInfo": {"name": "s", "version": "2", "title": "S"}, "_meta": {"x/y": 1}}}
        "#,
        &mut machine,
    );
}

#[test]
fn a_revision_that_is_not_known_becomes_the_newest_and_a_server_without_a_name_gets_one() {
    for (asked, spoken) in [
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
    ] {
        let script = r#"
        client> {"id": 1, "method": "initialize", "params": {"protocolVersion": "ASKED", "capabilities": {}}}
        server< {"id": 1, "method": "server/discover", "params": {}}
        server> {"id": 1, "result": {"resultType": "complete", "capabilities": {}, "supportedVersions": []}}
        client< {"id": 1, "result": {"protocolVersion": "SPOKEN", "capabilities": {}, "serverInfo": {"name": "unknown", "version": "unknown"}}}
        "#;
        run_from_start(asked, &script.replace("ASKED", asked).replace("SPOKEN", spoken));
    }
}

#[test]
fn a_revision_declares_only_what_it_knows() {
    let declared = json!({ "elicitation": { "url": {}, "form": {} } });
    for (revision, becomes) in [
        ("2024-11-05", json!({})),
        ("2025-03-26", json!({})),
        ("2025-06-18", json!({ "elicitation": { "form": {} } })),
        ("2025-11-25", declared.clone()),
    ] {
        let mut machine = Played::new();
        machine.capabilities = becomes;
        let params = json!({ "protocolVersion": revision, "capabilities": declared });
        machine.sends(
            Side::Client,
            json!({ "id": 0, "method": "initialize", "params": params }),
            Instant::now(),
        );
        assert_eq!(machine.out().len(), 1, "{revision}");
    }
}

#[test]
fn initialize_comes_first_and_once_unless_it_fails() {
    run_from_start(
        "order",
        r#"
        client> {"id": 1, "method": "tools/list"}
        client< {"id": 1, "error": {"code": -32600, "message": "$_", "data": {"source": "mcp-bridge", "reason": "not_initialized"}}}
        client> {"id": 1, "method": "ping"}
        client< {"id": 1, "result": {}}
        client> {"id": 1, "method": "initialize", "params": {"capabilities": {}}}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": []}}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
        server< {"id": 1, "method": "server/discover", "params": {}}
        # It can't be cancelled, nor sent twice.
        client> {"method": "notifications/cancelled", "params": {"requestId": 1}}
        client> {"id": 2, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
        client< {"id": 2, "error": {"code": -32600, "message": "$_", "data": {"source": "mcp-bridge", "reason": "already_initialized"}}}
        server> {"id": 1, "error": {"code": -32021, "message": "no", "data": {"requiredCapabilities": {"roots": {}}}}}
        client< {"id": 1, "error": {"code": -32021, "message": "no", "data": {"requiredCapabilities": {"roots": {}}}}}
        client> {"id": 2, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
        server< {"id": 2, "method": "server/discover", "params": {}}
        server! ends 2
        client< {"id": 2, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "no_answer"}}}
        client> {"id": 3, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
        server< {"id": 3, "method": "server/discover", "params": {}}
        wait 60s
        server< {"cancel": 3}
        client< {"id": 3, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "timed_out"}}}
        client> {"id": 4, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
        server< {"id": 4, "method": "server/discover", "params": {}}
        server> {"id": 4, "result": {"capabilities": {}}}
        client< {"id": 4, "result": "$_"}
        client> {"id": 5, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}}}
        client< {"id": 5, "error": {"code": -32600, "message": "$_", "data": "$_"}}
        "#,
    );
}

#[test]
fn a_request_says_who_sends_it_and_keeps_everything_else() {
    let mut machine = entered(LATEST, &json!({ "roots": {} }), &json!({ "logging": {} }));
    let text = concat!(
        r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"t","arguments":{"n":1.0,"big":1e400},"#,
        r#""task":{"ttl":1},"inputResponses":{},"requestState":"s","#,
        r#""_meta":{"progressToken":7,"io.modelcontextprotocol/logLevel":"debug","traceparent":"00"}}}"#
    );
    let Ok(Payload::Single(request)) = parse(Bytes::from_static(text.as_bytes())) else { panic!() };
    machine.downgrade.from_client(request, Instant::now());
    let [Output::Call { request, .. }] = &machine.downgrade.drain()[..] else { panic!() };
    assert_eq!(
        request.line.as_str(),
        concat!(
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0,"big":1e400},"#,
            r#""_meta":{"progressToken":7,"traceparent":"00","#,
            r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
            r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},"#,
            r#""io.modelcontextprotocol/clientCapabilities":{"roots":{}}}}}"#
        )
    );
}

#[test]
fn requests_that_are_none_are_refused() {
    run_able(
        "refused",
        r#"
        client> {"id": 1, "method": "tools/list", "params": []}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "tools/list", "params": {"_meta": 7}}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "tasks/list"}
        client< {"id": 1, "error": {"code": -32601, "message": "Method not found: tasks/list"}}
        client> {"id": 1, "method": "server/discover"}
        client< {"id": 1, "error": {"code": -32601, "message": "$_"}}
        client> {"id": 1, "method": "subscriptions/listen"}
        client< {"id": 1, "error": {"code": -32601, "message": "$_"}}
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": 7}}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "tools/list"}
        server< {"id": "$key", "method": "tools/list", "params": {}}
        client> {"id": 1, "method": "ping"}
        client< {"id": 1, "error": {"code": -32600, "message": "$_", "data": {"source": "mcp-bridge", "reason": "duplicate_id"}}}
        server> {"id": "$key", "result": {"tools": []}}
        client< {"id": 1, "result": {"tools": []}}
        "#,
    );
    run(
        "not on offer",
        LATEST,
        &json!({}),
        &json!({ "resources": { "subscribe": false } }),
        r#"
        client> {"id": 1, "method": "resources/subscribe", "params": {"uri": "a:b"}}
        client< {"id": 1, "error": {"code": -32601, "message": "$_"}}
        client> {"id": 1, "method": "logging/setLevel", "params": {"level": "info"}}
        client< {"id": 1, "error": {"code": -32601, "message": "$_"}}
        # Nothing to listen to.
        client> {"method": "notifications/initialized"}
        "#,
    );
}

#[test]
fn notifications_end_here_unless_the_server_may_know_them() {
    run_from_start("before initialize", r#"client> {"method": "notifications/x"}"#);
    run(
        "notifications",
        LATEST,
        &json!({}),
        &json!({}),
        r#"
        client> {"method": "notifications/initialized"}
        client> {"method": "notifications/roots/list_changed"}
        client> {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
        client> {"method": "notifications/cancelled", "params": {"requestId": 77}}
        client> {"id": 77, "result": {}}
        client> {"method": "notifications/x", "params": {"y": 1}}
        server< {"notify": {"method": "notifications/x", "params": {"y": 1}}}
        "#,
    );
}

#[test]
fn results_lose_what_only_modern_ones_have() {
    run_able(
        "results",
        r#"
        client> {"id": 1, "method": "resources/read", "params": {"uri": "a:b"}}
        server< {"id": 2, "method": "resources/read", "params": {"uri": "a:b"}}
        server> {"id": 2, "result": {"resultType": "complete", "contents": [], "ttlMs": 1, "cacheScope": "private", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}}}
        client< {"id": 1, "result": {"contents": [], "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}}}
        # Of other results these names are the server's own.
        client> {"id": 1, "method": "completion/complete", "params": {}}
        server< {"id": 3, "method": "completion/complete", "params": {}}
        server> {"id": 3, "result": {"resultType": "complete", "completion": {"values": []}, "ttlMs": 1, "cacheScope": 2}}
        client< {"id": 1, "result": {"completion": {"values": []}, "ttlMs": 1, "cacheScope": 2}}
        client> {"id": 1, "method": "tools/call", "params": {"name": "t"}}
        server< {"id": 4, "method": "tools/call", "params": {"name": "t"}}
        server> {"id": 4, "result": {"resultType": "task", "taskId": "7"}}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "unknown_result_type"}}}
        client> {"id": 1, "method": "tools/list"}
        server< {"id": 5, "method": "tools/list", "params": {}}
        server> {"id": 5, "result": {"resultType": "input_required", "requestState": "s"}}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "unknown_result_type"}}}
        client> {"id": 1, "method": "tools/list"}
        server< {"id": 6, "method": "tools/list", "params": {}}
        server> {"id": 6, "result": 7}
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "malformed_result"}}}
        client> {"id": 1, "method": "tools/call", "params": {"name": "t"}}
        server< {"id": 7, "method": "tools/call", "params": {"name": "t"}}
        server> {"id": 7, "error": {"code": -32021, "message": "m", "data": {"requiredCapabilities": {"x": {}}}}}
        client< {"id": 1, "error": {"code": -32021, "message": "m", "data": {"requiredCapabilities": {"x": {}}}}}
        "#,
    );
}

#[test]
fn tools_are_made_safe_for_older_clients() {
    run_able(
        "tools/list",
        r#"
        client> {"id": 1, "method": "tools/list"}
        server< {"id": 2, "method": "tools/list", "params": {}}
        server> {"id": 2, "result": {"resultType": "complete", "ttlMs": 0, "cacheScope": "public", "nextCursor": "c", "tools": [{"name": "a", "inputSchema": {"type": "object", "properties": {"x": true, "y": false, "z": {"type": "string", "default": true}}}, "outputSchema": {"type": "array"}}, {"name": "b", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "properties": {"x": true}}}, {"name": "c", "inputSchema": {"type": "object"}, "outputSchema": {"anyOf": []}}]}}
        client< {"id": 1, "result": {"nextCursor": "c", "tools": [{"name": "a", "inputSchema": {"type": "object", "properties": {"x": {}, "y": {"not": {}}, "z": {"type": "string", "default": true}}}}, {"name": "b", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "properties": {"x": {}}}}, {"name": "c", "inputSchema": {"type": "object"}}]}}
        "#,
    );
    for (result, becomes) in [
        (r#"{"content":[],"structuredContent":{"a":1}}"#, r#"{"content":[],"structuredContent":{"a":1}}"#),
        (
            r#"{"content":[{"type":"image"}],"structuredContent":[1,2]}"#,
            r#"{"content":[{"type":"image"},{"type":"text","text":"[1,2]"}]}"#,
        ),
        (
            r#"{"content":[{"type":"text","text":"[1, 2]"}],"structuredContent":[1,2],"isError":false}"#,
            r#"{"content":[{"type":"text","text":"[1, 2]"}],"isError":false}"#,
        ),
        (r#"{"structuredContent":null}"#, r#"{"content":[{"type":"text","text":"null"}]}"#),
    ] {
        let script = r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}
        server> {"id": 2, "result": RESULT}
        client< {"id": 1, "result": BECOMES}
        "#;
        run_able(result, &script.replace("RESULT", result).replace("BECOMES", becomes));
    }
}

#[test]
fn the_log_level_is_remembered() {
    run_able(
        "logging",
        r#"
        client> {"id": 1, "method": "logging/setLevel", "params": {"level": "loud"}}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "logging/setLevel", "params": {"level": "notice"}}
        client< {"id": 1, "result": {}}
        client> {"id": 1, "method": "logging/setLevel", "params": {"level": "loud"}}
        client< {"id": 1, "error": {"code": -32602, "message": "$_"}}
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {"_meta": {"io.modelcontextprotocol/logLevel": "notice"}}}
        server> {"call": 2, "method": "notifications/message", "params": {"level": "error", "data": 1}}
        client< {"about": 1, "method": "notifications/message", "params": {"level": "error", "data": 1}}
        # Never with what is listened to.
        client> {"id": 2, "method": "resources/subscribe", "params": {"uri": "a:b"}}
        server< {"id": 3, "method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": ["a:b"]}}}
        "#,
    );
}

#[test]
fn a_call_that_is_cancelled_is_ended_and_never_answered() {
    run_able(
        "cancelled",
        r#"
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 2, "method": "tools/call", "params": {}}
        client> {"method": "notifications/cancelled", "params": {"requestId": 1}}
        server< {"cancel": 2}
        server> {"call": 2, "method": "notifications/message", "params": {}}
        server> {"id": 2, "result": {}}
        server! ends 2
        # The id is free again.
        client> {"id": 1, "method": "tools/call", "params": {}}
        server< {"id": 3, "method": "tools/call", "params": {}}
        # Of a server's words none but its own end this way.
        server> {"call": 3, "method": "notifications/cancelled", "params": {"requestId": 3}}
        server> {"call": 3, "id": 9, "method": "sampling/createMessage"}
        server! ends 3
        client< {"id": 1, "error": {"code": -32603, "message": "$_", "data": {"source": "mcp-bridge", "reason": "no_answer"}}}
        "#,
    );
}

#[test]
fn silence_and_length_end_a_call() {
    run_able(
        "timed out",
        r#"
        client> {"id": 1, "method": "tools/call", "params": {"_meta": {"progressToken": "t"}}}
        server< {"id": 2, "method": "tools/call", "params": {"_meta": {"progressToken": "t"}}}
        wait 59s
        server> {"call": 2, "method": "notifications/progress", "params": {"progressToken": "t", "progress": 1}}
        client< {"about": 1, "method": "notifications/progress", "params": {"progressToken": "t", "progress": 1}}
        wait 59s
        # What does not rise is dropped, and still a sign of life; what is another's is neither the client's.
        server> {"call": 2, "method": "notifications/progress", "params": {"progressToken": "t", "progress": 1}}
        server> {"call": 2, "method": "notifications/progress", "params": {"progressToken": "u", "progress": 2}}
        wait 59s
        wait 1s
        server< {"cancel": 2}
        client< {"id": 1, "error": {"code": -32603, "message": "the MCP server did not answer within 60s", "data": {"source": "mcp-bridge", "reason": "timed_out"}}}
        "#,
    );
    let alive = r#"
        wait 50s
        server> {"call": 2, "method": "notifications/message", "params": {}}
        client< {"about": 1, "method": "notifications/message", "params": {}}"#;
    let script = format!(
        r#"
        client> {{"id": 1, "method": "tools/call", "params": {{}}}}
        server< {{"id": 2, "method": "tools/call", "params": {{}}}}
        {}
        wait 50s
        server< {{"cancel": 2}}
        client< {{"id": 1, "error": {{"code": -32603, "message": "the MCP server did not answer within 600s", "data": "$_"}}}}
        "#,
        alive.repeat(11)
    );
    run_able("in all", &script);
}

#[test]
fn requests_in_flight_are_bounded_in_number_and_in_bytes() {
    let mut machine = entered(LATEST, &json!({}), &json!({}));
    let now = Instant::now();
    let call =
        |id: usize, text: &str| message(json!({ "id": id, "method": "tools/call", "params": { "x": text } }));
    let refused = |machine: &mut Played| {
        let out = machine.out();
        assert_eq!(out.len(), 1);
        out[0].1["error"]["data"]["reason"] == "too_many_requests"
    };
    for id in 0..1024 {
        machine.downgrade.from_client(call(id, ""), now);
        assert!(!refused(&mut machine));
    }
    machine.downgrade.from_client(call(5000, ""), now);
    assert!(refused(&mut machine));

    let mut machine = entered(LATEST, &json!({}), &json!({}));
    let text = "x".repeat(33 << 20);
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"x":"{text}"}}}}"#);
    let Ok(Payload::Single(half)) = parse(text.into()) else { panic!() };
    for (id, refused) in [(1, false), (2, true)] {
        let kind = Kind::Request { id: id.into(), method: "tools/call".into(), progress_token: None };
        machine.downgrade.from_client(Message { line: half.line.clone(), kind }, now);
        assert_eq!(matches!(machine.downgrade.drain()[..], [Output::ToClient { .. }]), refused);
    }
}
