//! One line for each handshake: its facts at debug, why it failed at info, and who never said a word at debug.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use super::support::*;

#[test]
fn a_handshake_is_a_line_at_debug_with_all_its_facts() {
    let site = Site::new();
    let lines = ["client_auth: verify", "client_ca_file: $ca.pem", "curve_preferences: [P-256, X25519]"];
    let bridge = site.serve(&lines);
    let (cert, key) = (site.file("client.crt"), site.file("client.key"));
    let own = ["-cert", &cert, "-key", &key, "-servername", "srv.test"];
    for (args, facts) in [
        (
            &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "P-256", "-alpn", "http/1.1"]
                [..],
            "TLS 1.3, TLS_AES_128_GCM_SHA256, group P-256, SNI srv.test, ALPN http/1.1, full handshake, ",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384", "-groups", "P-256"],
            "TLS 1.2, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, group P-256, SNI srv.test, ALPN none, full handshake, ",
        ),
    ] {
        let said = s_client(&bridge, &[&own[..], args].concat());
        has(&said.stdout, &["HTTP/1.1 "]);
        let line = bridge.logged(facts);
        has(
            &line,
            &["DEBUG 127.0.0.1:", ": TLS handshake: ", "client certificate \"CN=mcp-client\": verified"],
        );
    }
    // A resumed one; the session is in a file.
    let session = site.file("session");
    s_client(&bridge, &[&own[..], &["-sess_out", &session]].concat());
    s_client(&bridge, &[&own[..], &["-sess_in", &session]].concat());
    has(&bridge.logged("resumed handshake"), &["client certificate \"CN=mcp-client\": verified"]);
    assert_eq!(times(&bridge, ": TLS handshake: "), 4);
}

#[test]
fn the_line_says_how_a_client_that_is_let_in_untrusted_was_judged() {
    let site = Site::new();
    site.pki.save("stranger", &issue(&client_leaf(), None), &[]);
    let (cert, key) = (site.file("stranger.crt"), site.file("stranger.key"));
    for (lines, args, judged) in [
        (
            &["client_auth: none"][..],
            &[][..],
            "SNI none, ALPN none, full handshake, client certificate not asked for",
        ),
        (&["client_auth: request"], &[], "client certificate none presented"),
        (&["client_auth: require"], &["-cert", &cert, "-key", &key], "\"CN=mcp-client\": not checked"),
        (
            &["client_auth: request", "client_ca_file: $ca.pem"],
            &["-cert", &cert, "-key", &key],
            "\"CN=mcp-client\": not trusted (self-signed certificate, verify code 18)",
        ),
    ] {
        let bridge = site.serve(lines);
        has(&s_client(&bridge, &[&["-noservername"], args].concat()).stdout, &["HTTP/1.1 "]);
        bridge.logged(judged);
    }
}

#[test]
fn connect_logs_its_handshake_too() {
    let site = Site::new();
    let bridge = site.serve(&["client_auth: verify", "client_ca_file: $ca.pem"]);
    let lines =
        ["ca_cert: $ca.pem", "cert_file: $client.crt", "key_file: $client.key", "server_name: srv.test"];
    let mut connect = site.connect(&bridge.url, &lines);
    assert!(connect.initialize()["result"].is_object());
    let line = connect.logged(": TLS handshake: ");
    has(&line, &["DEBUG", &address(&bridge), "TLS 1.3, ", "SNI srv.test, ALPN h2, full handshake, "]);
    has(&line, &["server certificate \"CN=srv.test\": verified"]);
}

#[test]
fn a_failed_handshake_is_one_line_at_info_and_a_silent_visit_at_debug() {
    let site = Site::new();
    let bridge = site.serve(&[]);
    s_client(&bridge, &["-tls1_2", "-cipher", "AES128-SHA"]);
    let line = bridge.logged("TLS handshake failed");
    has(&line, &["INFO  127.0.0.1:", "tls: no common cipher suite"]);
    assert_eq!(times(&bridge, "TLS handshake failed"), 1);
    drop(TcpStream::connect(address(&bridge)).unwrap());
    let line = bridge.logged("closed before its first byte");
    has(&line, &["DEBUG 127.0.0.1:"]);
    let mut io = TcpStream::connect(address(&bridge)).unwrap();
    io.write_all(b"\x16").unwrap();
    drop(io);
    has(&bridge.logged("closed during the handshake"), &["INFO "]);
    assert_eq!(times(&bridge, "TLS handshake failed"), 2);
}

#[test]
fn at_info_there_is_no_line_for_a_handshake_that_went_well() {
    let site = Site::new();
    let bridge = site.server(&[]).arg("--log-level=info").start();
    has(&s_client(&bridge, &[]).stdout, &["HTTP/1.1 "]);
    // A failure afterwards shows that the log has come as far.
    s_client(&bridge, &["-tls1_1"]);
    bridge.logged("TLS handshake failed");
    assert_eq!(times(&bridge, ": TLS handshake: "), 0, "{}", bridge.stderr());
}

#[test]
fn a_subject_can_not_forge_a_line_of_the_log() {
    let site = Site::new();
    let cn = "eve\r\n2026-01-01 INFO  listening on \"evil\"\u{202e}";
    site.pki.identity("eve", &Leaf { cn, ..client_leaf() });
    let bridge = site.serve(&["client_auth: verify", "client_ca_file: $ca.pem"]);
    s_client(&bridge, &["-cert", &site.file("eve.crt"), "-key", &site.file("eve.key")]);
    has(&bridge.logged("CN=eve"), &["CN=eve\\u{d}\\u{a}2026-01-01 INFO", "evil\"\\u{202e}\": verified"]);
}

#[test]
fn http2_by_alpn_works_with_curl_and_a_client_certificate() {
    let site = Site::new();
    let bridge = site.serve(&["client_auth: verify", "client_ca_file: $ca.pem"]);
    let body = crate::support::session::initialize(&serde_json::json!({}));
    for (version, number, alpn) in [("--http2", "2", "ALPN h2"), ("--http1.1", "1.1", "ALPN http/1.1")] {
        let said = Said::by(
            Command::new("curl")
                .args([
                    "-sS",
                    version,
                    "--noproxy",
                    "*",
                    "--max-time",
                    "25",
                    "-w",
                    "\n%{http_version} %{http_code}",
                ])
                .args(["--cacert", &site.file("ca.pem")])
                .args(["--cert", &site.file("client.crt"), "--key", &site.file("client.key")])
                .args([
                    "-H",
                    "content-type: application/json",
                    "-H",
                    "accept: application/json, text/event-stream",
                ])
                .args(["-d", &body, &bridge.url]),
        );
        assert_eq!(said.code, Some(0), "{}", said.all());
        assert!(said.stdout.ends_with(&format!("\n{number} 200")), "{}", said.stdout);
        has(&said.stdout, &["\"protocolVersion\""]);
        has(&bridge.logged(alpn), &["\"CN=mcp-client\": verified"]);
    }
}
