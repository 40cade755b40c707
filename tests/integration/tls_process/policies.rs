//! What `check` says is what the wire does: every suite that OpenSSL has, tried on a running `serve`.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::process::Command;

use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVersion};
use serde_json::json;

use super::support::*;
use crate::support::DEADLINE;
use crate::support::bridge::Bridge;

const BOTH_KEYS: [&str; 2] = ["cert_file: [$rsa.crt, $srv.crt]", "key_file: [$rsa.key, $srv.key]"];
const SIX: &str = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
     TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, \
     TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]";
const OLD: &str = "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, \
     TLS_RSA_WITH_AES_128_CBC_SHA, TLS_RSA_WITH_AES_256_CBC_SHA]";
const VERSIONS: [(SslVersion, &str); 4] = [
    (SslVersion::TLS1, "TLS 1.0"),
    (SslVersion::TLS1_1, "TLS 1.1"),
    (SslVersion::TLS1_2, "TLS 1.2"),
    (SslVersion::TLS1_3, "TLS 1.3"),
];

/// A client that takes anything, of one version; it verifies nothing.
fn client(version: SslVersion) -> SslContextBuilder {
    let mut client = SslContext::builder(SslMethod::tls_client()).unwrap();
    client.set_security_level(0);
    client.set_min_proto_version(Some(version)).unwrap();
    client.set_max_proto_version(Some(version)).unwrap();
    client
}

/// The suite that a handshake agrees on.
fn negotiated(bridge: &Bridge, client: SslContextBuilder) -> Option<String> {
    let io = TcpStream::connect(address(bridge)).unwrap();
    io.set_read_timeout(Some(DEADLINE)).unwrap();
    let stream = Ssl::new(&client.build()).unwrap().connect(io).ok()?;
    Some(stream.ssl().current_cipher().unwrap().standard_name().unwrap().to_owned())
}

/// All suites of TLS 1.2 and below, by OpenSSL's names.
fn all_suites() -> Vec<String> {
    let said = Said::by(Command::new("openssl").args(["ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]));
    let suites = said.stdout.trim().split(':').filter(|name| !name.starts_with("TLS_"));
    suites.map(str::to_owned).collect()
}

fn as_configured(lines: &[&str]) {
    let site = Site::new();
    site.pki.identity("rsa", &Leaf { key: Kind::Rsa, ..server_leaf() });
    let lines = [&BOTH_KEYS[..], lines].concat();
    let found = site.check(&site.server_config(&lines), &["--json"]).json();
    let tls = &found["tls"];
    let reported: Vec<&str> =
        tls["ciphers"].as_array().unwrap().iter().map(|suite| suite["iana"].as_str().unwrap()).collect();
    let range = tls["versions"].as_str().unwrap();
    let bridge = site.server(&lines).arg("--log-level=info").start();

    let mut accepted = BTreeSet::new();
    let suites = all_suites();
    assert!(suites.len() > 50, "{suites:?}");
    for (version, name) in VERSIONS {
        if version == SslVersion::TLS1_3 {
            for suite in [
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_128_CCM_SHA256",
            ] {
                let mut client = client(version);
                client.set_ciphersuites(suite).unwrap();
                accepted.extend(negotiated(&bridge, client));
            }
            continue;
        }
        let mut any = client(version);
        any.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        let Some(first) = negotiated(&bridge, any) else {
            assert!(!within(range, version), "{name} is in {range} and not on the wire");
            continue;
        };
        assert!(within(range, version), "{name} is on the wire with {first} and not in {range}");
        for suite in suites.iter().filter(|_| version == SslVersion::TLS1_2) {
            let mut client = client(version);
            // What this client lacks it can't offer.
            if client.set_cipher_list(&format!("{suite}:@SECLEVEL=0")).is_ok() {
                accepted.extend(negotiated(&bridge, client));
            }
        }
    }
    let reported: BTreeSet<String> = reported.into_iter().map(str::to_owned).collect();
    assert_eq!(accepted, reported, "{lines:?}");
}

/// `TLS 1.2 to TLS 1.3`, `TLS 1.3`.
fn within(range: &str, version: SslVersion) -> bool {
    let place = |name: &str| VERSIONS.iter().position(|(_, known)| *known == name).unwrap();
    let (min, max) = range.split_once(" to ").unwrap_or((range, range));
    let at = VERSIONS.iter().position(|(known, _)| *known == version).unwrap();
    (place(min)..=place(max)).contains(&at)
}

#[test]
fn the_platforms_policy() {
    as_configured(&[]);
}

#[test]
fn six_suites_of_tls_1_2() {
    as_configured(&["max_version: \"1.2\"", SIX]);
}

#[test]
fn tls_1_3_alone() {
    as_configured(&["min_version: \"1.3\""]);
}

#[test]
fn legacy_versions_and_suites() {
    as_configured(&["min_version: \"1.0\"", "max_version: \"1.2\"", OLD]);
}

#[test]
fn the_order_of_the_servers_list_rules() {
    let site = Site::new();
    site.pki.identity("rsa", &Leaf { key: Kind::Rsa, ..server_leaf() });
    let bridge = site.serve(&[&BOTH_KEYS[..], &["max_version: \"1.2\"", SIX]].concat());
    let mut opposed = client(SslVersion::TLS1_2);
    opposed.set_cipher_list("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0").unwrap();
    assert_eq!(negotiated(&bridge, opposed).unwrap(), "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384");
}

#[test]
fn tls_1_0_and_1_1_really_connect_in_both_directions() {
    let site = Site::with(&Leaf { key: Kind::Rsa, ..server_leaf() });
    let bridge = site.serve(&["min_version: \"1.0\"", OLD]);
    for version in ["1.0", "1.1"] {
        let (min, max) = (format!("min_version: \"{version}\""), format!("max_version: \"{version}\""));
        for (suite, group) in
            [("TLS_RSA_WITH_AES_128_CBC_SHA", "none"), ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "X25519")]
        {
            let suites = format!("cipher_suites: [{suite}]");
            let mut connect = site.connect(&bridge.url, &["ca_cert: $ca.pem", &min, &max, &suites]);
            assert!(connect.initialize()["result"].is_object());
            assert!(connect.call("echo", &json!({"message": "x"}))["result"].is_object());
            let facts = format!("TLS {version}, {suite}, group {group}, ");
            has(&connect.logged(&facts), &["ALPN http/1.1"]);
            bridge.logged(&facts);
        }
    }
}
