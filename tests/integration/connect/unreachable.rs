//! A server that can't be reached, or must not be trusted.

use serde_json::json;

use crate::support::certs::cert;
use crate::support::connect::{Connect, initialize_params, opened};
use crate::support::remote::{Remote, closed_port, greeter, mute};

const TWICE: &str = "client:\n  retry:\n    max_retries: 2\n    initial_delay: 10ms\n    max_delay: 20ms";
const ONCE: &str = "client:\n  retry:\n    enabled: false";

#[test]
fn a_refused_connection_is_tried_again_as_often_as_told_and_then_an_error() {
    let port = closed_port();
    let mut client = Connect::to(&format!("http://127.0.0.1:{port}/mcp")).config(TWICE).start();
    client.ask(1, "initialize", &initialize_params());
    let error = client.own_error(1);
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("Connection refused"), "{error}");
    assert!(!error.contains("may have run"), "{error}");
    let stderr = client.stderr();
    assert_eq!(stderr.matches("trying again in").count(), 2, "{stderr}");
    assert!(stderr.contains("in 10ms") && stderr.contains("in 20ms"), "{stderr}");
}

#[test]
fn a_server_that_comes_up_late_is_reached() {
    let port = closed_port();
    let config = "client:\n  retry:\n    max_retries: 1000\n    initial_delay: 10ms\n    multiplier: 1.0";
    let mut client = Connect::to(&format!("http://127.0.0.1:{port}/mcp")).config(config).start();
    client.ask(1, "initialize", &initialize_params());
    client.logged("trying again");
    let remote = Remote::plain_on(port);
    opened(remote.post(), "s");
    assert_eq!(client.next_message()["id"], 1);
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let mut client = Connect::to("https://no-such-host.invalid/mcp").config(ONCE).start();
    client.ask(1, "ping", &json!({}));
    let error = client.own_error(1);
    assert!(error.contains("no-such-host.invalid:443") && error.contains("lookup"), "{error}");
}

#[test]
fn a_server_that_takes_the_connection_and_says_nothing_costs_the_connect_timeout() {
    let (_listener, port) = mute();
    let config = format!("{ONCE}\n  connect_timeout: 200ms");
    let mut client = Connect::to(&format!("https://127.0.0.1:{port}/mcp")).config(&config).start();
    client.ask(1, "ping", &json!({}));
    let error = client.own_error(1);
    assert!(error.contains("within 200ms") && error.contains("client.connect_timeout"), "{error}");
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_at_once() {
    let remote = Remote::tls();
    let mut client = Connect::to(&remote.url).trust(&cert("other-ca.crt")).start();
    client.ask(1, "ping", &json!({}));
    let error = client.own_error(1);
    assert!(error.contains("x509: certificate signed by unknown authority"), "{error}");
    assert!(error.contains("tls.ca_cert"), "{error}");
    assert_eq!((remote.accepted(), remote.unasked()), (1, vec![]), "it is not tried again");
}

#[test]
fn a_certificate_for_another_name_is_refused_at_once() {
    let remote = Remote::tls();
    let mut client = Connect::to(&remote.url).args(["--server-name", "wrong.example.com"]).start();
    client.ask(1, "ping", &json!({}));
    let error = client.own_error(1);
    assert!(error.contains("x509: certificate is not valid for wrong.example.com"), "{error}");
    assert!(error.contains("mcp.example.com"), "its names are listed: {error}");
    assert_eq!((remote.accepted(), remote.unasked()), (1, vec![]), "it is not tried again");
}

#[test]
fn a_server_without_tls_on_an_https_url_is_named() {
    let mut client = Connect::to(&format!("https://127.0.0.1:{}/mcp", greeter())).config(ONCE).start();
    client.ask(1, "ping", &json!({}));
    let error = client.own_error(1);
    assert!(error.contains("does not speak TLS") && error.contains("http://"), "{error}");
}

#[test]
fn each_request_is_answered_though_none_can_be_sent() {
    let port = closed_port();
    let mut client = Connect::to(&format!("http://127.0.0.1:{port}/mcp")).config(ONCE).start();
    client.ask("i", "initialize", &initialize_params());
    client.own_error("i");
    client.notify("notifications/initialized", &json!({}));
    for id in 0..10 {
        client.ask(id, "ping", &json!({}));
    }
    let mut ids: Vec<i64> = (0..10).map(|_| client.next_message()["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    client.close_stdin();
    assert!(client.wait().success());
    assert_eq!(client.next_line(), None);
}
