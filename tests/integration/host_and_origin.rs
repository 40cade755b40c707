//! Who may send a browser here: DNS rebinding and foreign pages are kept out.

use hyper::Method;
use serde_json::json;

use crate::support::bridge::{Guard, Serve, TOKEN};
use crate::support::http::{Http, Response};
use crate::support::session::{Session, initialize};
use crate::support::{each_way, ended};

const APP: &str = "https://app.example.com";

#[tokio::test]
async fn a_listener_on_loopback_answers_to_its_own_names_only() {
    each_way(async |http| {
        if http.is_http2() {
            return; // its requests name the host that they connect to
        }
        for host in ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:1", "[::1]:8080", "localhost."] {
            assert_eq!(open(&http.clone().header("host", host)).await.status, 200, "{host}");
        }
        for host in
            ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "127.0.0.2"]
        {
            forbidden(open(&http.clone().header("host", host)).await, "server.allowed_hosts").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_of_allowed_hosts_replaces_the_names_of_loopback() {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Serve::new(guard).config("server:\n  allowed_hosts: [MCP.example.com, '::1']").start();
        for host in ["mcp.example.com", "MCP.EXAMPLE.COM:8443", "[::1]"] {
            assert_eq!(open(&bridge.http().header("host", host)).await.status, 200, "{host}");
        }
        let foreign = bridge.http().header("host", "localhost");
        forbidden(open(&foreign).await, "server.allowed_hosts").await;
        // Neither may the `:authority` of HTTP/2 be another one.
        forbidden(open(&bridge.http().http2()).await, "server.allowed_hosts").await;
        ended(bridge).await;
    }
}

#[tokio::test]
async fn probes_may_call_a_host_by_any_name() {
    let bridge = Serve::new(Guard::None).start();
    for path in ["/health", "/ready"] {
        let http = bridge.http().path(path).header("host", "10.0.0.7:8080");
        assert_eq!(http.get().await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_kept_out() {
    each_way(async |http| {
        let session = Session::open(&http).await;
        for origin in [APP, "null", "http://evil.example", "https://127.0.0.1.evil.example", "localhost"] {
            let http = session.http.clone().header("origin", origin);
            forbidden(open(&http).await, "server.allowed_origins").await;
            forbidden(http.get().await, "server.allowed_origins").await;
            forbidden(http.delete().await, "server.allowed_origins").await;
        }
        let own = session.http.clone().header("origin", "http://127.0.0.1:5173");
        assert_eq!(own.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_list_of_allowed_origins_decides_alone() {
    let bridge = Serve::new(Guard::None).config(&format!("server:\n  allowed_origins: ['{APP}']")).start();
    assert_eq!(open(&bridge.http().header("origin", APP)).await.status, 200);
    assert_eq!(open(&bridge.http()).await.status, 200);
    for origin in ["http://127.0.0.1", "http://app.example.com", "https://app.example.com.evil.example"] {
        forbidden(open(&bridge.http().header("origin", origin)).await, "server.allowed_origins").await;
    }
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_the_page_may_read_its_session_id() {
    for http2 in [false, true] {
        let bridge = Serve::new(Guard::Bearer)
            .config(&format!(
                "server:\n  cors:\n    allowed_origins: ['{APP}']\n    exposed_headers: [X-Extra]"
            ))
            .start();
        let http = if http2 { bridge.http().http2() } else { bridge.http() };
        let asks = http.clone().header("authorization", "").header("origin", APP);
        let preflight =
            asks.clone().header("access-control-request-method", "POST").request(Method::OPTIONS, "").await;
        assert_eq!((preflight.status.as_u16(), allowed_origin(&preflight)), (204, APP));
        let methods = preflight.header("access-control-allow-methods");
        assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        let headers = preflight.header("access-control-allow-headers").to_ascii_lowercase();
        for name in
            ["authorization", "content-type", "mcp-session-id", "mcp-protocol-version", "last-event-id"]
        {
            assert!(headers.contains(name), "{headers}");
        }
        // Whatever arguments tools want repeated, and nothing else that was not configured.
        let asked = "content-type, Mcp-Param-Region,mcp-param-limit, x-other, mcp-param-(x)";
        let more = asks.clone().header("access-control-request-headers", asked);
        let more = more.header("access-control-request-method", "POST").request(Method::OPTIONS, "").await;
        let expected = format!(
            "{}, Mcp-Param-Region, mcp-param-limit",
            preflight.header("access-control-allow-headers")
        );
        assert_eq!(more.header("access-control-allow-headers"), expected);
        assert_eq!(preflight.header("access-control-max-age"), "600");
        assert_eq!(preflight.header("vary"), "Origin");

        let opened = open(&http.clone().header("origin", APP)).await;
        assert_eq!((opened.status.as_u16(), allowed_origin(&opened)), (200, APP));
        let exposed = opened.header("access-control-expose-headers");
        assert!(exposed.contains("Mcp-Session-Id") && exposed.contains("X-Extra"), "{exposed}");
        // A page can't read the reason of a refusal that does not name it.
        let denied = open(&asks).await;
        assert_eq!((denied.status.as_u16(), allowed_origin(&denied)), (401, APP));
        ended(bridge).await;
    }
}

#[tokio::test]
async fn a_preflight_from_elsewhere_is_not_allowed_anything() {
    let config = format!("server:\n  cors:\n    allowed_origins: ['{APP}']\n    allow_credentials: true");
    let bridge = Serve::new(Guard::None).config(&config).start();
    let asks =
        |origin| bridge.http().header("origin", origin).header("access-control-request-method", "POST");
    let foreign = asks("https://evil.example").request(Method::OPTIONS, "").await;
    assert_eq!(allowed_origin(&foreign), "");
    assert_eq!(foreign.header("access-control-allow-methods"), "");
    let own = asks(APP).request(Method::OPTIONS, "").await;
    assert_eq!((allowed_origin(&own), own.header("access-control-allow-credentials")), (APP, "true"));
}

#[tokio::test]
async fn without_cors_no_page_is_told_anything() {
    let bridge = Serve::new(Guard::None).start();
    let asks = bridge.http().header("origin", APP).header("access-control-request-method", "POST");
    let preflight = asks.request(Method::OPTIONS, "").await;
    assert!(preflight.status.is_client_error());
    assert_eq!(allowed_origin(&preflight), "");
    let same_host = bridge.http().header("origin", "http://127.0.0.1");
    assert_eq!(allowed_origin(&open(&same_host).await), "");
}

#[tokio::test]
async fn a_foreign_host_is_refused_before_its_token_is_looked_at() {
    let bridge = Serve::new(Guard::Bearer).start();
    for token in [TOKEN, "wrong"] {
        let http = bridge.http().header("authorization", &format!("Bearer {token}"));
        forbidden(open(&http.header("host", "evil.example")).await, "server.allowed_hosts").await;
    }
}

async fn open(http: &Http) -> Response {
    http.post(initialize(&json!({}))).await
}

async fn forbidden(response: Response, why: &str) {
    assert_eq!(response.status, 403);
    assert_eq!(response.header("mcp-session-id"), "");
    let error = response.json().await;
    assert!(error["error"]["message"].as_str().unwrap().contains(why), "{error}");
}

fn allowed_origin(response: &Response) -> &str {
    response.header("access-control-allow-origin")
}
