//! A child is noticed when it ends, ended when nobody needs it, and never leaked.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve, TOKEN, TOKEN_VARIABLE};
use crate::support::eventually;
use crate::support::http::{Http, Response};
use crate::support::proc::{
    MARK, children, command_line, family, is_alive, mark, open_files, scheduling_policy,
};
use crate::support::raw::Raw;
use crate::support::session::Session;

/// Well below every time that the bridge gives a child to end.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn everyone_who_waits_for_a_server_that_dies_is_told_at_once_how_it_ended() {
    let ways = [(json!({"status": 3}), "exited with status 3"), (json!({"signal": 9}), "signal 9")];
    for guard in [Guard::None, Guard::Mutual] {
        for (how, words) in &ways {
            let bridge = Serve::new(guard).config("mcp:\n  graceful_shutdown_timeout: 1m").start();
            let session = Session::open(&bridge.http()).await;
            let mut listener = session.http.get().await;
            let mut waiting = vec![waits(&session, "a").await, waits(&session, "b").await];
            let began = Instant::now();
            waiting.push(session.start("tools/call", &json!({"name": "die", "arguments": how})).await);
            for response in waiting {
                let answer = response.messages().await.pop().unwrap();
                let error = &answer["error"];
                assert_eq!(
                    (&error["code"], &error["data"]["source"]),
                    (&json!(-32603), &json!("mcp-bridge"))
                );
                assert!(error["message"].as_str().unwrap().contains(words), "{answer}");
            }
            assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
            assert_eq!(listener.next_message().await, None);
            assert_eq!(session.start("ping", &json!({})).await.status, 404);
            bridge.logged(words);
            Session::open(&bridge.http()).await;
        }
    }
}

#[tokio::test]
async fn a_server_gives_way_to_the_bridge_unless_told_otherwise() {
    const NORMAL: u32 = 0;
    const BATCH: u32 = 3;
    for (config, policy) in [("mcp:\n  instances: 1", BATCH), ("mcp:\n  scheduling: inherit", NORMAL)] {
        let bridge = Serve::new(Guard::None).config(config).start();
        let server = pid(&Session::open(&bridge.http()).await).await;
        assert_eq!(
            (scheduling_policy(server), scheduling_policy(bridge.pid())),
            (policy, NORMAL),
            "{config}"
        );
    }
}

#[tokio::test]
async fn what_a_server_said_before_it_died_arrives() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let call = session.start_call("die", json!({"progress": 3, "partial": true}), "t").await;
    let messages = call.messages().await;
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert!(
        messages[3]["error"]["message"].as_str().unwrap().contains("exited with status 1"),
        "{messages:?}"
    );
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_delays_no_answer() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let grandchild = spawn_grandchild(&session, json!({"own_group": true})).await;
    let began = Instant::now();
    let answer = session.call("die", json!({"status": 4})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("exited with status 4"), "{answer}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(is_alive(grandchild), "it is in a group of its own, which is not the bridge's to end");
    kill(Pid::from_raw(i32::try_from(grandchild).unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_server_that_closes_its_output_has_ended() {
    let bridge = Serve::new(Guard::None).config("mcp:\n  graceful_shutdown_timeout: 200ms").start();
    let session = Session::open(&bridge.http()).await;
    let child = pid(&session).await;
    session.call("close_stdout", json!({})).await;
    eventually("the end of the child", || (!is_alive(child)).then_some(())).await;
    assert_eq!(session.start("ping", &json!({})).await.status, 404);
}

#[tokio::test]
async fn a_server_that_ignores_everything_is_killed_with_its_grandchild() {
    let bridge = Serve::new(Guard::None)
        .config("mcp:\n  graceful_shutdown_timeout: 400ms")
        .child_arg("--ignore-eof")
        .child_arg("--ignore-term")
        .start();
    let session = Session::open(&bridge.http()).await;
    let pids = [pid(&session).await, spawn_grandchild(&session, json!({"ignore_term": true})).await];
    let began = Instant::now();
    session.http.delete().await;
    eventually("the end of the group", || pids.iter().all(|pid| !is_alive(*pid)).then_some(())).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "it had its time: {:?}", began.elapsed());
    bridge.logged("was ended by signal 9");
}

#[tokio::test]
async fn a_server_that_ignores_the_end_of_its_input_gets_sigterm() {
    let config = "mcp:\n  graceful_shutdown_timeout: 400ms";
    let bridge = Serve::new(Guard::None).config(config).child_arg("--ignore-eof").start();
    let session = Session::open(&bridge.http()).await;
    session.http.delete().await;
    bridge.logged("was ended by signal 15");
}

#[tokio::test]
async fn a_grandchild_goes_with_a_server_that_ends_by_itself() {
    let bridge = Bridge::serve(Guard::None);
    let session = Session::open(&bridge.http()).await;
    let grandchild = spawn_grandchild(&session, json!({"ignore_term": true})).await;
    session.http.delete().await;
    eventually("the end of the grandchild", || (!is_alive(grandchild)).then_some(())).await;
}

#[tokio::test]
async fn sigterm_and_sigint_end_every_child_and_the_bridge_exits_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mark = mark(&format!("ended by {signal}"));
        let mut bridge = Serve::new(Guard::None).env(MARK, &mark).start();
        let sessions = [Session::open(&bridge.http()).await, Session::open(&bridge.http()).await];
        let mut listener = sessions[0].http.get().await;
        spawn_grandchild(&sessions[1], json!({})).await;
        // The grandchild may be on its way from fork to exec.
        eventually("bridge, children and grandchild", || (family(&mark).len() >= 4).then_some(())).await;
        bridge.signal(signal);
        assert_eq!(listener.next_message().await, None);
        assert_eq!(bridge.wait().code(), Some(0));
        assert_eq!(family(&mark), [0; 0]);
    }
}

#[tokio::test]
async fn a_call_in_flight_may_finish_after_sigterm() {
    for guard in [Guard::None, Guard::Mutual] {
        let mut bridge = Bridge::serve(guard);
        let session = Session::open(&bridge.http()).await;
        let mut call = session.start_call("progress", json!({"steps": 6, "ms": 50}), "t").await;
        call.next_message().await.unwrap();
        bridge.signal(Signal::SIGTERM);
        let messages = call.messages().await;
        assert_eq!(messages.last().unwrap()["result"]["content"][0]["text"], "6 steps");
        assert_eq!(bridge.wait().code(), Some(0));
    }
}

#[tokio::test]
async fn who_has_just_connected_when_the_bridge_stops_is_answered() {
    let bridge = Bridge::serve(Guard::None);
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(Raw::open(&bridge.url).await);
    }
    // They are accepted in their order.
    assert_eq!(bridge.http().path("/health").get().await.status, 200);
    bridge.signal(Signal::SIGTERM);
    bridge.logged("finishing what is in flight");
    for connection in &mut connections {
        connection.send("GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    }
    for mut connection in connections {
        // The bridge says that it stops, and then it does.
        let status = connection.answer().await.status;
        assert!(matches!(status, 200 | 503), "{status}");
    }
}

#[tokio::test]
async fn a_call_that_does_not_finish_in_time_is_answered_when_the_bridge_ends() {
    let mut bridge = Serve::new(Guard::None).config("server:\n  shutdown_timeout: 200ms").start();
    let session = Session::open(&bridge.http()).await;
    let call = waits(&session, "t").await;
    bridge.signal(Signal::SIGTERM);
    let answer = call.messages().await.pop().unwrap();
    assert_eq!(answer["error"]["data"]["source"], "mcp-bridge", "{answer}");
    assert_eq!(bridge.wait().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_bridge_at_once() {
    let mut bridge = Serve::new(Guard::None).config("server:\n  shutdown_timeout: 1h").start();
    let session = Session::open(&bridge.http()).await;
    let child = pid(&session).await;
    let call = waits(&session, "t").await;
    bridge.signal(Signal::SIGTERM);
    bridge.logged("finishing what is in flight");
    bridge.signal(Signal::SIGTERM);
    let answer = call.messages().await.pop().unwrap();
    assert!(answer["error"].is_object(), "{answer}");
    assert_eq!(bridge.wait().code(), Some(0));
    assert!(!is_alive(child));
}

#[tokio::test]
async fn the_children_of_a_bridge_that_was_killed_see_the_end_of_their_input() {
    let mark = mark("a bridge that was killed");
    let mut bridge = Serve::new(Guard::None).env(MARK, &mark).start();
    let session = Session::open(&bridge.http()).await;
    let child = pid(&session).await;
    bridge.signal(Signal::SIGKILL);
    bridge.wait();
    eventually("the end of the child", || (!is_alive(child)).then_some(())).await;
    eventually("the end of all", || family(&mark).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_thousand_sessions_leave_no_zombie_no_orphan_and_no_open_file() {
    const CLIENTS: usize = 8;
    const EACH: usize = 125;
    let mark = mark("a thousand sessions");
    let bridge = Serve::new(Guard::None).env(MARK, &mark).start();
    assert_eq!(bridge.http().path("/ready").get().await.status, 200);
    let (bridge_pid, alone) = (bridge.pid(), || family(&mark) == [bridge.pid()]);
    eventually("the end of the trial", || alone().then_some(())).await;
    let files = open_files(bridge_pid);
    let clients = (0..CLIENTS).map(|_| tokio::spawn(open_and_close(bridge.http(), EACH)));
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    eventually("the end of all children", || alone().then_some(())).await;
    eventually("no zombie", || children(bridge_pid).is_empty().then_some(())).await;
    eventually("no open file", || (open_files(bridge_pid) <= files).then_some(())).await;
    let all = || bridge.stderr().matches(": opened by").count() >= CLIENTS * EACH;
    eventually("a line for each session", || all().then_some(())).await;
}

/// Every fifth session ends by the death of its server.
async fn open_and_close(http: Http, times: usize) {
    for n in 0..times {
        let session = Session::open(&http).await;
        if n % 5 == 0 {
            session.call("die", json!({})).await;
        } else {
            assert!(session.http.delete().await.status.is_success());
        }
    }
}

// The environment.

#[tokio::test]
async fn a_child_inherits_the_environment_without_the_bridges_secrets() {
    let bridge = Serve::new(Guard::Bearer)
        .config("mcp:\n  env:\n    FROM_FILE: plain\n    NAMED: \"${SECRET_NAMED}\"\n  dir: /")
        .env("INHERITED", "yes")
        .env("SECRET_NAMED", "a secret for the child")
        .start();
    let about = about(&Session::open(&bridge.http()).await).await;
    assert_eq!(about["dir"], "/");
    let env = &about["env"];
    assert_eq!((&env["INHERITED"], &env["FROM_FILE"]), (&json!("yes"), &json!("plain")));
    assert_eq!(env["NAMED"], "a secret for the child");
    assert!(env.get(TOKEN_VARIABLE).is_none() && env.get("SECRET_NAMED").is_none(), "{env}");
}

#[tokio::test]
async fn a_child_that_inherits_nothing_gets_the_least_and_what_is_configured() {
    let bridge = Serve::new(Guard::None)
        .config("mcp:\n  inherit_env: false\n  env: {OWN: mine}")
        .env("INHERITED", "yes")
        .env("LANG", "C")
        .start();
    let about = about(&Session::open(&bridge.http()).await).await;
    let env = about["env"].as_object().unwrap();
    assert_eq!((&env["OWN"], &env["LANG"]), (&json!("mine"), &json!("C")));
    let basic = ["PATH", "HOME", "LANG", "TZ", "TMPDIR", "OWN"];
    assert!(env.keys().all(|name| basic.contains(&name.as_str())), "{env:?}");
}

#[tokio::test]
async fn no_secret_is_in_the_log_or_a_command_line() {
    const OTHER: &str = "wrong-horse-battery-staple";
    for format in ["text", "json"] {
        let mut bridge = Serve::new(Guard::Bearer)
            .config("mcp:\n  env:\n    GIVEN: \"${SECRET_GIVEN}\"")
            .env("SECRET_GIVEN", "given-secret")
            .arg("--log-level=debug")
            .arg(&format!("--log-format={format}"))
            .start();
        let session = Session::open(&bridge.http()).await;
        let wrong = bridge.http().header("authorization", &format!("Bearer {OTHER}"));
        assert_eq!(wrong.post("{}").await.status, 401);
        let child = pid(&session).await;
        let lines = [command_line(bridge.pid()), command_line(child)];
        session.call("die", json!({})).await;
        assert_eq!(session.start("ping", &json!({})).await.status, 404);
        bridge.terminate();
        for text in [bridge.stderr(), lines.concat()] {
            for secret in [TOKEN, OTHER, &session.id, "given-secret"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

/// A call that is in flight and stays so.
async fn waits(session: &Session, token: &str) -> Response {
    let mut response = session.start_call("never", json!({}), token).await;
    assert_eq!(response.next_message().await.unwrap()["method"], "notifications/progress");
    response
}

async fn spawn_grandchild(session: &Session, how: Value) -> u32 {
    number(&session.call("spawn_grandchild", how).await["result"]["structuredContent"]["pid"])
}

async fn pid(session: &Session) -> u32 {
    number(&about(session).await["pid"])
}

async fn about(session: &Session) -> Value {
    session.call("about", json!({})).await["result"]["structuredContent"].clone()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap_or_else(|| panic!("{value}"))).unwrap()
}
