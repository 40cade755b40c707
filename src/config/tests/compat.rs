//! Files written for pgEdge's bridge.

use super::*;

#[test]
fn nested_sections_and_old_names_load() {
    let text = "\
mode: server
server:
  listen: ':8443'
  write_timeout: 60s
  tls:
    enabled: true
    cert_file: c
    key_file: k
    client_ca: a
    client_auth: verify
  auth:
    type: bearer
    bearer:
      valid_tokens: ['$MCP_AUTH_TOKEN']
  mcp_server:
    command: x
    dir: /d
    restart_delay: 5s
  session:
    enabled: true
    timeout: 5m
    cleanup_interval: 5m
  cors:
    enabled: true
    allowed_origins: ['https://a']
    max_age: 3600
log:
  level: debug
";
    let config = load_text(text).unwrap();
    assert_eq!(config.logging.level, log::LevelFilter::Debug);
    assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
    let serve = serve(text);
    let tls = serve.tls.unwrap();
    assert_eq!(
        (tls.client_auth, tls.client_ca_file.unwrap().to_str().unwrap()),
        (ClientAuthMode::Verify, "a")
    );
    assert_eq!(serve.mcp.withheld_env, ["MCP_AUTH_TOKEN"]);
    assert_eq!(serve.session_timeout.as_secs(), 300);
    assert_eq!(serve.cors.unwrap().max_age.as_secs(), 3600);
}

#[test]
fn a_nested_client_loads() {
    let text = "\
mode: client
client:
  url: https://h/
  max_idle_conns: 20
  tls: {ca_cert: a, insecure_skip_verify: false}
  auth: {type: bearer, bearer: {token_env: MCP_AUTH_TOKEN}}
  retry: {enabled: false, max_retries: 3}
session: {enabled: true}
";
    let connect = connect(text);
    assert!(connect.tls.ca_cert.is_some() && !connect.retry.enabled);
    assert!(matches!(connect.auth, ClientAuth::Bearer(token) if token.expose() == "t0ken"));
}

#[test]
fn errors_name_what_was_written() {
    let cases = [
        ("mode: server\nserver:\n  mcp_server:\n    commnd: x\n", 4, "server.mcp_server.commnd: unknown key"),
        (
            "mode: server\nserver:\n  tls: {client_ca: 5}\n  mcp: {command: x}\n",
            3,
            "server.tls.client_ca: expected",
        ),
        ("mode: server\nmcp: {command: x}\nserver:\n  mcp: {command: y}\n", 4, "server.mcp: is said twice"),
        (
            "mode: server\nlog: {}\nlogging: {}\n",
            2,
            "log: is said twice: 'log' is an older name of 'logging'",
        ),
        ("mode: server\ntls:\n  client_ca: a\n  client_ca_file: b\n", 3, "tls.client_ca: is said twice"),
        ("mode: server\ntls: 5\nserver: {tls: {}}\n", 3, "server.tls: is said twice"),
        ("mode: server\nserver: 5\ncors: {}\n", 3, "cors: belongs into 'server', which is not a section"),
    ];
    for (text, line, message) in cases {
        let error = load_text(text).unwrap_err();
        assert_eq!(error.line(), Some(line), "{text}{error}");
        assert!(error.to_string().contains(message), "{text}{error}");
    }
}
