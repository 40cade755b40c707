//! Each row of the troubleshooting table, by a real handshake: the phrase, the facts and the hint.

use mcp_bridge::{
    config::{ClientAuthMode, ClientTls, ServerTls, TlsVersion},
    tls::{Acceptor, Connector},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    pki::{DAY, Issued, Kind, Leaf, Pki, issue},
    support::*,
};

fn sides(pki: &Pki, leaf: &Leaf<'_>) -> (ServerTls, ClientTls) {
    (server_tls(pki.identity("srv", leaf)), client_tls(&pki.ca()))
}

/// What our client says about a server with this certificate, and what our server says about that.
async fn refused(pki: &Pki, issued: &Issued) -> (String, String) {
    let mut text = (String::new(), String::new());
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let mut client = client_tls(&pki.ca());
        client.policy = only(version);
        let met = meet_with(&server_tls(pki.save("srv", issued, &[])), &client).await;
        text = (met.client_error(), met.server_error());
        has(&text.1, &["tls: bad certificate", "the client refused our certificate", "the peer sent alert"]);
    }
    text
}

#[tokio::test]
async fn an_unknown_issuer() {
    let pki = Pki::new();
    let other =
        issue(&Leaf { cn: "Other Root", names: &[], purposes: &[], ca: true, ..Leaf::default() }, None);
    let leaf = Leaf::default();
    for (issued, issuer, code) in [
        (issue(&leaf, Some(&other)), "CN=Other Root", "verify code 20"),
        (issue(&leaf, None), "CN=srv.test", "verify code 18"),
        // The name of the CA, and another key.
        (issue(&leaf, Some(&Pki::new().root)), "CN=Test Root", "verify code 7"),
    ] {
        let (client, server) = refused(&pki, &issued).await;
        has(
            &client,
            &[
                "x509: certificate signed by unknown authority",
                "\"CN=srv.test\"",
                issuer,
                code,
                "tls.ca_cert",
                "whole chain",
            ],
        );
        let alert = if code.ends_with('7') { "alert 51 decrypt_error" } else { "alert 48 unknown_ca" };
        has(&server, &[alert, "tls.cert_file"]);
    }
}

#[tokio::test]
async fn an_intermediate_that_is_not_sent_or_is_the_only_anchor() {
    let pki = Pki::new();
    let inter = pki.issue(&Leaf { cn: "Inter", names: &[], purposes: &[], ca: true, ..Leaf::default() });
    let leaf = issue(&Leaf::default(), Some(&inter));
    let (client, _) = refused(&pki, &leaf).await;
    has(&client, &["x509: certificate signed by unknown authority", "CN=Inter"]);
    let server = server_tls(pki.save("srv", &leaf, &[&inter]));
    meet_with(&server, &client_tls(&pki.ca())).await.both();
    let settings = client_tls(&pki.write("inter.pem", &inter.cert.to_pem().unwrap()));
    has(
        &Connector::load(&settings, "srv.test").unwrap().warnings()[0],
        &["tls.ca_cert", "no anchor of trust"],
    );
    has(
        &meet_with(&server, &settings).await.client_error(),
        &["x509: certificate signed by unknown authority"],
    );
}

#[tokio::test]
async fn a_name_that_the_certificate_lacks() {
    let pki = Pki::new();
    let leaf = Leaf { cn: "else.test", names: &["DNS:else.test", "IP:10.1.2.3"], ..Leaf::default() };
    let (client, _) = refused(&pki, &pki.issue(&leaf)).await;
    has(
        &client,
        &[
            "x509: certificate is not valid for srv.test",
            "DNS:else.test, IP:10.1.2.3, CN=else.test",
            "tls.server_name",
        ],
    );
}

#[tokio::test]
async fn dates_that_do_not_fit_the_clock() {
    let pki = Pki::new();
    for valid in [(-10 * DAY, -DAY), (DAY, 10 * DAY)] {
        let (client, _) = refused(&pki, &pki.issue(&Leaf { valid, ..Leaf::default() })).await;
        has(
            &client,
            &[
                "x509: certificate has expired or is not yet valid",
                "valid from 20",
                " to 20",
                "this machine's clock says 20",
            ],
        );
    }
}

#[tokio::test]
async fn a_wrong_purpose() {
    let pki = Pki::new();
    let (client, server) =
        refused(&pki, &pki.issue(&Leaf { purposes: &["clientAuth"], ..Leaf::default() })).await;
    has(&client, &["x509: ", "purpose", "verify code 26", "serverAuth"]);
    has(&server, &["alert 43 unsupported_certificate"]);
}

#[tokio::test]
async fn a_weak_key() {
    let pki = Pki::new();
    let weak = pki.identity("weak", &Leaf { key: Kind::RsaWeak, ..Leaf::default() });
    let server = SServer::start(&weak, &["-cipher", "ALL:@SECLEVEL=0"]);
    let connector = Connector::load(&client_tls(&pki.ca()), "srv.test").unwrap();
    has(&server.connect(&connector).await.unwrap_err(), &["x509: ", "key too weak", "2048 bits"]);
    let error = Acceptor::load(&server_tls(weak)).unwrap_err().to_string();
    has(&error, &["tls.cert_file", "weak.crt", "ee key too small"]);
}

#[tokio::test]
async fn our_client_certificate_is_refused_or_missing() {
    let pki = Pki::new();
    let (mut server, mut client) = sides(&pki, &Leaf::default());
    server.client_auth = ClientAuthMode::Verify;
    server.client_ca_file = Some(pki.ca());
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        client.policy = only(version);
        client.identity = None;
        let met = meet_with(&server, &client).await;
        has(
            &met.client_error(),
            &[
                "tls: bad certificate",
                "the peer sent alert",
                "asked for: yes, configured: no",
                "set tls.cert_file",
            ],
        );
        has(&met.server_error(), &["tls: no client certificate", "tls.client_auth"]);
        for (leaf, alert, why) in [
            (issue(&Leaf::default(), None), "48 unknown_ca", "x509: certificate signed by unknown authority"),
            (
                pki.issue(&Leaf { valid: (-9 * DAY, -DAY), ..Leaf::default() }),
                "45 certificate_expired",
                "x509: certificate has expired or is not yet valid",
            ),
            (
                pki.issue(&Leaf { purposes: &["serverAuth"], ..Leaf::default() }),
                "43 unsupported_certificate",
                "clientAuth",
            ),
        ] {
            client.identity = Some(pki.save("client", &leaf, &[]));
            let met = meet_with(&server, &client).await;
            has(&met.client_error(), &["tls: bad certificate", alert, "asked for: yes, configured: yes"]);
            has(&met.server_error(), &[why]);
        }
    }
}

#[tokio::test]
async fn no_common_version() {
    let pki = Pki::new();
    let (mut server, mut client) = sides(&pki, &Leaf::default());
    server.policy = only(TlsVersion::Tls13);
    client.policy = only(TlsVersion::Tls12);
    let met = meet_with(&server, &client).await;
    has(
        &met.server_error(),
        &[
            "tls: no common protocol version",
            "our versions: TLS 1.3",
            "the client's: TLS 1.2",
            "tls.min_version",
        ],
    );
    has(
        &met.client_error(),
        &["tls: no common protocol version", "alert 70 protocol_version", "our versions: TLS 1.2"],
    );
    (server.policy, client.policy) = (client.policy, server.policy);
    let met = meet_with(&server, &client).await;
    has(
        &met.server_error(),
        &["tls: no common protocol version", "our versions: TLS 1.2", "the client's: TLS 1.3"],
    );
    has(&met.client_error(), &["tls: no common protocol version"]);
}

#[tokio::test]
async fn no_common_cipher() {
    let pki = Pki::new();
    let (mut server, mut client) = sides(&pki, &Leaf { key: Kind::Rsa, ..Leaf::default() });
    (server.policy, client.policy) = (only(TlsVersion::Tls12), only(TlsVersion::Tls12));
    let (ours, theirs) =
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256");
    server.policy.cipher_suites = list(&[ours]);
    client.policy.cipher_suites = list(&[theirs]);
    let met = meet_with(&server, &client).await;
    has(
        &met.server_error(),
        &[
            "tls: no common cipher suite",
            &format!("our suites: {ours}"),
            &format!("the client's: {theirs}"),
            "tls.cipher_suites",
        ],
    );
    has(
        &met.client_error(),
        &[
            "tls: no common cipher suite",
            "tls: no common key exchange group",
            "alert 40 handshake_failure",
            &format!("our suites: {theirs}"),
            "not known",
        ],
    );
}

#[tokio::test]
async fn no_common_group() {
    let pki = Pki::new();
    let (mut server, mut client) = sides(&pki, &Leaf { key: Kind::Rsa, ..Leaf::default() });
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        (server.policy, client.policy) = (only(version), only(version));
        server.policy.curve_preferences = list(&["P-256"]);
        client.policy.curve_preferences = list(&["X25519"]);
        // Key exchange by RSA would need no group.
        client.policy.cipher_suites = list(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
        let met = meet_with(&server, &client).await;
        has(
            &met.server_error(),
            &[
                "tls: no common key exchange group",
                "our groups: P-256",
                "the client's: X25519",
                "tls.curve_preferences",
            ],
        );
        has(&met.client_error(), &["tls: no common key exchange group", "our groups: X25519"]);
    }
}

#[tokio::test]
async fn no_common_application_protocol() {
    let pki = Pki::new();
    let mut served = Served::start(Acceptor::load(&sides(&pki, &Leaf::default()).0).unwrap()).await;
    let (output, outcome) = served.s_client(&["-alpn", "smtp,h3"]).await;
    has(&outcome.unwrap_err().to_string(), &["tls: no common application protocol", "http/1.1"]);
    has(&output, &["no application protocol"]);
    assert_eq!(served.s_client(&["-alpn", "http/1.1,h2"]).await.1.unwrap().alpn.unwrap().to_string(), "h2");
    assert_eq!(served.s_client(&[]).await.1.unwrap().alpn, None);
}

#[tokio::test]
async fn plain_http_and_silence_on_the_tls_port() {
    let pki = Pki::new();
    let mut served = Served::start(Acceptor::load(&sides(&pki, &Leaf::default()).0).unwrap()).await;
    let mut io = TcpStream::connect(served.address).await.unwrap();
    io.write_all(b"POST /mcp HTTP/1.1\r\nHost: srv.test\r\n\r\n").await.unwrap();
    let error = served.outcome_after(io).await;
    assert!(error.is_plain_http() && !error.closed_before_first_byte(), "{error}");
    has(&error.to_string(), &["does not speak TLS", "https://"]);
    let io = TcpStream::connect(served.address).await.unwrap();
    let error = served.outcome_after(io).await;
    assert!(error.closed_before_first_byte(), "{error}");
    let mut io = TcpStream::connect(served.address).await.unwrap();
    io.write_all(b"\x16\x03\x01").await.unwrap();
    let error = served.outcome_after(io).await;
    assert!(!error.closed_before_first_byte() && !error.is_plain_http(), "{error}");
    has(&error.to_string(), &["tls: connection closed during the handshake"]);
}

#[tokio::test]
async fn a_server_that_speaks_plain_http_or_nothing() {
    let pki = Pki::new();
    let connector = Connector::load(&client_tls(&pki.ca()), "srv.test").unwrap();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let (listener, address) = listen().await;
        let server = async {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut hello = [0; 5];
            io.read_exact(&mut hello).await.unwrap();
            io.write_all(answer).await.unwrap();
            io.shutdown().await.unwrap();
            let _ = io.read_to_end(&mut Vec::new()).await;
        };
        let client = async {
            connector.connect(TcpStream::connect(address).await.unwrap()).await.map(drop).unwrap_err()
        };
        let ((), error) = tokio::join!(server, client);
        assert_eq!(error.is_plain_http(), !answer.is_empty(), "{error}");
        assert_eq!(error.closed_before_first_byte(), answer.is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_refused_client_sees_the_alert_and_no_reset_each_time() {
    let pki = Pki::new();
    let (mut server, mut client) = sides(&pki, &Leaf::default());
    server.client_auth = ClientAuthMode::Require;
    client.policy = only(TlsVersion::Tls13);
    let (acceptor, connector) =
        (Acceptor::load(&server).unwrap(), Connector::load(&client, "srv.test").unwrap());
    for _ in 0..50 {
        has(&meet(&acceptor, &connector).await.client_error(), &["alert 116 certificate_required"]);
    }
}

#[tokio::test]
async fn a_cancelled_handshake_leaves_the_acceptor_whole() {
    let pki = Pki::new();
    let (server, client) = sides(&pki, &Leaf::default());
    let (acceptor, connector) =
        (Acceptor::load(&server).unwrap(), Connector::load(&client, "srv.test").unwrap());
    let (listener, address) = listen().await;
    let _silent = TcpStream::connect(address).await.unwrap();
    let (io, _) = listener.accept().await.unwrap();
    let limit = std::time::Duration::from_millis(20);
    assert!(tokio::time::timeout(limit, acceptor.accept(io)).await.is_err());
    meet(&acceptor, &connector).await.both();
}

#[tokio::test]
async fn a_handshake_is_one_line_for_the_log() {
    let pki = Pki::new();
    let (mut server, mut client) = sides(&pki, &Leaf::default());
    server.client_auth = ClientAuthMode::Verify;
    server.client_ca_file = Some(pki.ca());
    client.policy.curve_preferences = list(&["X25519", "P-256"]);
    client.identity = Some(pki.identity("client", &Leaf { cn: "mcp-client", ..Leaf::default() }));
    let (accepted, connected) = meet_with(&server, &client).await.both();
    let facts = "TLS 1.3, TLS_AES_256_GCM_SHA384, group X25519, SNI srv.test, ALPN h2, full handshake, ";
    assert_eq!(accepted.to_string(), format!("{facts}client certificate \"CN=mcp-client\": verified"));
    assert_eq!(connected.to_string(), format!("{facts}server certificate \"CN=srv.test\": verified"));
}
