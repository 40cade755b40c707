//! A proxy between `connect` and the server.

use serde_json::json;

use crate::support::connect::{Connect, Pair, initialize_params};
use crate::support::remote::{Proxy, Remote, closed_port};

/// `user:pass word` as it stands in a header, and as in a URL.
const BASIC: &str = "Basic dXNlcjpwYXNzIHdvcmQ=";
const USER: &str = "user:pass%20word";
const ONCE: &str = "  retry:\n    enabled: false\n";

#[test]
fn a_proxy_of_the_configuration_is_asked_for_a_tunnel_and_sees_no_more() {
    let proxy = Proxy::start(None);
    let remote = Remote::tls();
    let target = format!("127.0.0.1:{}", remote.port());
    let config =
        format!("client:\n  proxy: \"http://{USER}@127.0.0.1:{}\"\nlogging:\n  level: debug", proxy.port);
    let mut pair = Pair::open_with(remote, |connect| connect.config(&config));
    let head = proxy.head();
    assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
    assert!(
        head.to_lowercase().contains(&format!("proxy-authorization: {}", BASIC.to_lowercase())),
        "{head}"
    );
    assert!(head.contains(BASIC) && !head.contains("initialize"), "{head}");
    pair.client.ask(1, "ping", &json!({}));
    let ping = pair.remote.post();
    assert_eq!(ping.header("proxy-authorization"), "", "that is not for the server");
    ping.result(&json!({}));
    assert_eq!(pair.client.next_message()["id"], 1);
    let stderr = pair.client.stderr();
    assert!(stderr.contains("through the proxy"), "{stderr}");
    assert!(!stderr.contains("pass") && !stderr.contains("dXNlcjp"), "{stderr}");
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let proxy = Proxy::start(None);
    let url = format!("http://{USER}@127.0.0.1:{}", proxy.port);
    let pair = Pair::open_with(Remote::tls(), |connect| connect.env("HTTPS_PROXY", &url));
    let head = proxy.head();
    assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{} ", pair.remote.port())), "{head}");
    assert!(head.contains(BASIC), "{head}");
}

#[test]
fn no_proxy_names_the_servers_that_are_reached_without_one() {
    let proxy = Proxy::start(None);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let environment =
        |connect: Connect| connect.env("HTTPS_PROXY", &url).env("NO_PROXY", "example.com,127.0.0.1");
    let _pair = Pair::open_with(Remote::tls(), environment);
    assert!(proxy.is_unused());
}

#[test]
fn the_configuration_can_turn_the_environments_proxy_off() {
    let proxy = Proxy::start(None);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let _pair = Pair::open_with(Remote::tls(), |connect| {
        connect.env("HTTPS_PROXY", &url).config("client:\n  proxy: none")
    });
    assert!(proxy.is_unused());
}

#[test]
fn a_proxy_that_wants_other_credentials_is_named_without_them() {
    let proxy = Proxy::start(Some("407 Proxy Authentication Required"));
    let error = error_by(&proxy, "https://mcp.example.com/mcp");
    assert!(error.contains("407 Proxy Authentication Required; it wants other credentials"), "{error}");
    assert!(error.contains("mcp.example.com:443"), "{error}");
}

#[test]
fn a_proxy_that_does_not_connect_is_named_with_the_server() {
    let proxy = Proxy::start(Some("403 Forbidden"));
    let error = error_by(&proxy, "https://mcp.example.com:8443/mcp");
    assert!(error.contains("does not connect to mcp.example.com:8443: it answered 403 Forbidden"), "{error}");
}

#[test]
fn a_proxy_that_is_down_is_named() {
    let port = closed_port();
    let config = format!("client:\n  proxy: \"http://{USER}@127.0.0.1:{port}\"\n{ONCE}");
    let mut client = Connect::to("https://mcp.example.com/mcp").config(&config).start();
    client.ask(1, "initialize", &initialize_params());
    let error = client.own_error(1);
    assert!(error.contains(&format!("proxy 127.0.0.1:{port}")) && error.contains("refused"), "{error}");
}

/// The error for a request by way of that proxy, which shows no credentials anywhere.
fn error_by(proxy: &Proxy, url: &str) -> String {
    let address = format!("127.0.0.1:{}", proxy.port);
    let config = format!("client:\n  proxy: \"http://{USER}@{address}\"\n{ONCE}logging:\n  level: debug");
    let mut client = Connect::to(url).config(&config).start();
    client.ask(1, "initialize", &initialize_params());
    let error = client.own_error(1);
    assert!(error.contains(&address), "{error}");
    for said in [&error, &client.stderr()] {
        assert!(!said.contains("pass") && !said.contains("dXNlcjp"), "{said}");
    }
    error
}
