//! The troubleshooting table: each phrase by a real handshake, in the log of `serve`, on the standard error of `connect`
//! and in its JSON-RPC error, with facts and hint.

use openssl::hash::MessageDigest;

use super::support::*;
use crate::support::bridge::Bridge;
use crate::support::process::Process;
use crate::tls::revocation::crl;
use crate::tls::support::SServer;

const CA: &str = "ca_cert: $ca.pem";
const OWN: [&str; 2] = ["cert_file: $client.crt", "key_file: $client.key"];
const VERIFY: [&str; 2] = ["client_auth: verify", "client_ca_file: $ca.pem"];
const VERSIONS: [&str; 2] = ["max_version: \"1.2\"", "min_version: \"1.3\""];

/// What `connect` says to its client, which is also in its log.
fn said_by_connect(mut connect: Process) -> String {
    // A notification would open one more connection, which the end of the process cuts off at any time.
    let answer = connect.ask_to_initialize();
    let error = &answer["error"];
    let message = error["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}")).to_owned();
    assert_eq!(error["data"]["source"], "mcp-bridge", "{answer}");
    assert_eq!(error["data"]["reason"], "not_connected", "{answer}");
    let line = connect.logged(message.split('"').next().unwrap());
    has(&line, &["WARN", &message]);
    message
}

/// What `connect` says about a `serve`, and `serve` about `connect`.
fn refused(site: &Site, bridge: &Bridge, client: &[&str]) -> (String, String) {
    let before = times(bridge, "TLS handshake failed");
    let message = said_by_connect(site.connect(&bridge.url, client));
    until("the server's line", || times(bridge, "TLS handshake failed") > before);
    let log = bridge.stderr();
    let line = log.lines().filter(|line| line.contains("TLS handshake failed")).nth(before).unwrap();
    has(line, &["INFO  127.0.0.1:"]);
    (message, line.to_owned())
}

fn both(first: &[&'static str], second: &[&'static str]) -> Vec<&'static str> {
    [first, second].concat()
}

#[test]
fn a_server_of_an_unknown_issuer() {
    let site = Site::new();
    site.pki.save("self", &issue(&server_leaf(), None), &[]);
    site.pki.save("other", &issue(&server_leaf(), Some(&Pki::named("Other Root").root)), &[]);
    let cases = [
        ("self", "issued by \"CN=srv.test\"", "code 18"),
        ("other", "issued by \"CN=Other Root\"", "code 20"),
    ];
    for (name, issuer, code) in cases {
        let (cert, key) = (format!("cert_file: ${name}.crt"), format!("key_file: ${name}.key"));
        let bridge = site.serve(&[&cert, &key]);
        for version in VERSIONS {
            let (client, server) = refused(&site, &bridge, &[CA, version]);
            has(&client, &["x509: certificate signed by unknown authority", "\"CN=srv.test\"", issuer, code]);
            has(&client, &["tls.ca_cert", "system trust store", "whole chain"]);
            has(
                &server,
                &["tls: bad certificate", "the client refused our certificate", "alert 48 unknown_ca"],
            );
        }
        // Without `ca_cert` the system's roots decide, and they do not know it either.
        let (client, _) = refused(&site, &bridge, &[]);
        has(&client, &["x509: certificate signed by unknown authority", code]);
    }
}

#[test]
fn a_server_with_another_name() {
    let site =
        Site::with(&Leaf { cn: "else.test", names: &["DNS:else.test", "IP:10.1.2.3"], ..Leaf::default() });
    let bridge = site.serve(&[]);
    for (name, wanted) in [("server_name: srv.test", "srv.test"), ("max_version: \"1.2\"", "127.0.0.1")] {
        let (client, server) = refused(&site, &bridge, &[CA, name]);
        has(&client, &[&format!("x509: certificate is not valid for {wanted} "), "tls.server_name"]);
        has(&client, &["its names: DNS:else.test, IP:10.1.2.3, CN=else.test"]);
        has(&server, &["tls: bad certificate", "names"]);
    }
}

#[test]
fn a_server_certificate_out_of_its_dates() {
    let site = Site::new();
    site.pki.identity("expired", &Leaf { valid: (-9 * DAY, -DAY), ..server_leaf() });
    site.pki.identity("future", &Leaf { valid: (DAY, 9 * DAY), ..server_leaf() });
    for (name, alert) in [("expired", "alert 45 certificate_expired"), ("future", "alert 42 bad_certificate")]
    {
        let (cert, key) = (format!("cert_file: ${name}.crt"), format!("key_file: ${name}.key"));
        let bridge = site.serve(&[&cert, &key]);
        let (client, server) = refused(&site, &bridge, &[CA]);
        has(&client, &["x509: certificate has expired or is not yet valid", "valid from 20", " to 20"]);
        has(&client, &["this machine's clock says 20", "renew the certificate, or set the clock"]);
        has(&server, &["tls: bad certificate", alert, "dates"]);
    }
}

#[test]
fn a_server_that_is_revoked_for_another_purpose_or_weak() {
    let site = Site::new();
    let pki = &site.pki;
    let server = pki.issue(&server_leaf());
    pki.save("revoked", &server, &[]);
    pki.write("revoked.crl", &crl(pki, &pki.root, &[&server], 3600));
    pki.write("good.crl", &crl(pki, &pki.root, &[], 3600));
    pki.write("stale.crl", &crl(pki, &pki.root, &[], -60));
    pki.write("foreign.crl", &crl(pki, &Pki::named("Other Root").root, &[], 3600));
    pki.identity("purpose", &Leaf { purposes: &["clientAuth"], ..server_leaf() });
    for (name, list, phrases) in [
        (
            "revoked",
            "crl_file: $revoked.crl",
            ["x509: certificate revoked", "verify code 23", "get a new one"],
        ),
        ("revoked", "crl_file: $stale.crl", ["x509: CRL has expired", "verify code 12", "tls.crl_file"]),
        (
            "revoked",
            "crl_file: $foreign.crl",
            ["x509: unable to get certificate CRL", "verify code 3", "tls.crl_file"],
        ),
        (
            "purpose",
            "crl_file: $good.crl",
            ["x509: unsuitable certificate purpose", "verify code 26", "serverAuth"],
        ),
    ] {
        let (cert, key) = (format!("cert_file: ${name}.crt"), format!("key_file: ${name}.key"));
        let bridge = site.serve(&[&cert, &key]);
        let (client, server) = refused(&site, &bridge, &[CA, list]);
        has(&client, &phrases);
        has(&client, &["certificate \"CN=srv.test\", issued by \"CN=Test Root\", depth 0"]);
        has(&server, &["tls: bad certificate"]);
    }
    // `serve` would not take these: OpenSSL's own server shows them.
    for (leaf, phrases) in [
        (
            Leaf { key: Kind::RsaWeak, ..server_leaf() },
            ["x509: EE certificate key too weak", "verify code 66", "2048 bits"],
        ),
        (
            Leaf { digest: MessageDigest::sha1(), ..server_leaf() },
            ["x509: CA signature digest algorithm too weak", "verify code 68", "SHA-256"],
        ),
    ] {
        let server = SServer::start(&pki.identity("weak", &leaf), &["-cipher", "ALL:@SECLEVEL=0"]);
        let message = said_by_connect(site.connect(&format!("https://{}/mcp", server.address), &[CA]));
        has(&message, &phrases);
    }
}

#[test]
fn a_client_certificate_that_is_missing_or_not_trusted() {
    let site = Site::new();
    let pki = &site.pki;
    pki.save("self", &issue(&client_leaf(), None), &[]);
    pki.identity("expired", &Leaf { valid: (-9 * DAY, -DAY), ..client_leaf() });
    pki.identity("purpose", &Leaf { purposes: &["serverAuth"], ..client_leaf() });
    let bridge = site.serve(&VERIFY);
    let unknown = "x509: certificate signed by unknown authority";
    for version in VERSIONS {
        let (client, server) = refused(&site, &bridge, &[CA, version]);
        has(&client, &["tls: bad certificate", "the peer sent alert", "set tls.cert_file and tls.key_file"]);
        has(&client, &["client certificate asked for: yes, configured: no"]);
        has(
            &server,
            &["tls: no client certificate", "tls.client_auth demands one", "give the client a certificate"],
        );
        for (name, alert, why) in [
            ("self", "alert 48 unknown_ca", [unknown, "\"CN=mcp-client\"", "tls.client_ca_file"]),
            (
                "expired",
                "alert 45 certificate_expired",
                ["x509: certificate has expired", "clock says 20", "renew"],
            ),
            ("purpose", "alert 43 unsupported_certificate", ["x509: ", "purpose", "clientAuth"]),
        ] {
            let (cert, key) = (format!("cert_file: ${name}.crt"), format!("key_file: ${name}.key"));
            let (client, server) = refused(&site, &bridge, &[CA, &cert, &key, version]);
            has(
                &client,
                &[
                    "tls: bad certificate",
                    alert,
                    "asked for: yes, configured: yes",
                    "issuer, dates and purpose",
                ],
            );
            has(&server, &why);
        }
    }
}

#[test]
fn a_client_that_is_revoked_or_has_a_name_that_is_not_allowed() {
    let site = Site::new();
    let pki = &site.pki;
    let client = pki.issue(&client_leaf());
    pki.save("client", &client, &[]);
    pki.write("revoked.crl", &crl(pki, &pki.root, &[&client], 3600));
    for (line, alert, why) in [
        (
            "crl_file: $revoked.crl",
            "alert 44 certificate_revoked",
            ["x509: certificate revoked", "verify code 23"],
        ),
        (
            "client_allowed_names: [\"CN=agent-*\"]",
            "alert",
            ["x509: the name of the client certificate is not allowed", "its names: CN=mcp-client"],
        ),
    ] {
        let bridge = site.serve(&both(&VERIFY, &[line]));
        for version in VERSIONS {
            let (client, server) = refused(&site, &bridge, &[CA, OWN[0], OWN[1], version]);
            has(&client, &["tls: bad certificate", alert, "asked for: yes, configured: yes"]);
            has(&server, &why);
        }
    }
}

#[test]
fn no_common_version() {
    let site = Site::new();
    for (ours, theirs, names) in [
        (VERSIONS[0], VERSIONS[1], ["TLS 1.2", "TLS 1.3"]),
        (VERSIONS[1], VERSIONS[0], ["TLS 1.3", "TLS 1.2"]),
    ] {
        let bridge = site.serve(&[ours]);
        let (client, server) = refused(&site, &bridge, &[CA, theirs]);
        has(
            &server,
            &[
                "tls: no common protocol version",
                &format!("our versions: {}; the client's: {}", names[0], names[1]),
            ],
        );
        has(&server, &["widen tls.min_version and tls.max_version"]);
        has(
            &client,
            &["tls: no common protocol version", &format!("our versions: {}", names[1]), "tls.min_version"],
        );
    }
}

#[test]
fn no_common_suite() {
    let site = Site::new();
    let (ours, theirs) =
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    let list = |name| format!("cipher_suites: [{name}]");
    let bridge = site.serve(&[&list(ours), "max_version: \"1.2\""]);
    let (client, server) = refused(&site, &bridge, &[CA, &list(theirs), "max_version: \"1.2\""]);
    has(
        &server,
        &[
            "tls: no common cipher suite",
            &format!("our suites: {ours}; the client's: {theirs}"),
            "tls.cipher_suites",
        ],
    );
    has(
        &client,
        &[
            "tls: no common cipher suite",
            "alert 40 handshake_failure",
            &format!("our suites: {theirs}"),
            "not known",
        ],
    );
    has(&client, &["compare tls.cipher_suites"]);
}

#[test]
fn no_common_group() {
    let site = Site::new();
    let suites = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]";
    for version in ["max_version: \"1.2\"", "min_version: \"1.3\""] {
        let bridge = site.serve(&["curve_preferences: [P-384]", version]);
        // An ECDSA server of TLS 1.2 needs a client that knows its curve, too: this one has P-256.
        let (client, server) = refused(&site, &bridge, &[CA, "curve_preferences: [P-256]", suites, version]);
        has(&server, &["tls: no common key exchange group", "our groups: P-384; the client's: P-256"]);
        has(&server, &["tls.curve_preferences"]);
        has(&client, &["tls: no common key exchange group", "our groups: P-256", "tls.curve_preferences"]);
    }
}

#[test]
fn a_server_that_speaks_no_tls() {
    let site = Site::new();
    let bridge = Bridge::serve(crate::support::bridge::Guard::None);
    let url = bridge.url.replace("http://", "https://");
    let message = said_by_connect(site.connect(&url, &[CA]));
    has(&message, &["tls: the peer does not speak TLS on this port", "http://", "port"]);
    // And it goes on.
    let mut connect = bridge.connect();
    assert!(connect.initialize()["result"].is_object());
}

#[test]
fn a_client_with_a_weak_key_or_digest() {
    let site = Site::new();
    let bridge = site.serve(&VERIFY);
    for (leaf, phrases) in [
        (Leaf { key: Kind::RsaWeak, ..client_leaf() }, ["x509: EE certificate key too weak", "2048 bits"]),
        (
            Leaf { digest: MessageDigest::sha1(), ..client_leaf() },
            ["x509: CA signature digest algorithm too weak", "SHA-256"],
        ),
    ] {
        site.pki.identity("weak", &leaf);
        let (cert, key) = (site.file("weak.crt"), site.file("weak.key"));
        s_client(&bridge, &["-cert", &cert, "-key", &key, "-cipher", "ALL:@SECLEVEL=0"]);
        has(&bridge.logged(phrases[0]), &["INFO  127.0.0.1:", phrases[1], "\"CN=mcp-client\""]);
    }
}

#[test]
fn a_foreign_server_over_http_1_that_refuses_our_certificate() {
    let site = Site::new();
    site.pki.save("self", &issue(&client_leaf(), None), &[]);
    let identity = site.pki.identity("srv", &server_leaf());
    let ca = site.file("ca.pem");
    let verify = ["-Verify", "1", "-verify_return_error", "-CAfile", &ca, "-alpn", "http/1.1"];
    for version in ["-tls1_2", "-tls1_3"] {
        let server = SServer::start(&identity, &[&verify[..], &[version]].concat());
        let url = format!("https://{}/mcp", server.address);
        let own = ["cert_file: $self.crt", "key_file: $self.key"];
        let message = said_by_connect(site.connect(&url, &[CA, own[0], own[1]]));
        has(&message, &["tls: bad certificate", "alert 48 unknown_ca", "asked for: yes, configured: yes"]);
        let message = said_by_connect(site.connect(&url, &[CA]));
        has(&message, &["tls: bad certificate", "asked for: yes, configured: no", "set tls.cert_file"]);
    }
}
