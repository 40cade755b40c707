//! FIPS mode. OpenSSL reads its configuration once, so each test runs again in a process of its own.
//!
//! A provider is needed: `scripts/fips-provider.sh DIR`, then `MCP_BRIDGE_FIPS_DIR=DIR`.

use std::{path::Path, process::Command};

use mcp_bridge::{
    config::{Identity, KeyPassword, Secret, TlsVersion},
    tls::{Acceptor, Connector, fips},
};

use crate::support::fips_provider;

use super::{
    pki::{Kind, Leaf, Pki},
    support::*,
};

const CHILD: &str = "MCP_BRIDGE_TEST_FIPS_CHILD";

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a test of this binary again, under an OpenSSL configuration.
fn again(test: &str, configuration: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("tls::fips::{test}"), "--nocapture"])
        .env("OPENSSL_CONF", configuration)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn required(pki: &Pki, key: Kind) -> mcp_bridge::config::ServerTls {
    let mut settings = server_tls(pki.identity("srv", &Leaf { key, ..Leaf::default() }));
    settings.policy.fips_required = true;
    settings
}

#[test]
fn required_fips_mode_without_a_provider_is_an_error_that_says_what_to_install() {
    if is_child() {
        let error = fips::require().unwrap_err().to_string();
        has(&error, &["tls.fips", "fipsinstall", "fips-mode-setup"]);
        assert_eq!(fips::status(), None);
        return;
    }
    let test = "required_fips_mode_without_a_provider_is_an_error_that_says_what_to_install";
    let directory = tempfile::tempdir().unwrap();
    again(test, &directory.path().join("missing.cnf"));
    // The properties say FIPS, and there is no module: OpenSSL alone would take that for FIPS mode.
    let lying = directory.path().join("lying.cnf");
    std::fs::write(&lying, "openssl_conf = a\n[a]\nalg_section = b\n[b]\ndefault_properties = fips=yes\n")
        .unwrap();
    again(test, &lying);
}

#[test]
fn fips_mode_is_proven_whether_the_platform_or_the_bridge_switches_it_on() {
    if is_child() {
        let by_platform = fips::status();
        let proof = fips::require().unwrap();
        has(&proof.to_string(), &["OpenSSL FIPS Provider 3."]);
        assert!(by_platform.is_none_or(|earlier| earlier == proof));
        assert_eq!(fips::status(), Some(proof));
        return;
    }
    let Some(directory) = fips_provider() else { return };
    for configuration in ["openssl.cnf", "on-request.cnf"] {
        again(
            "fips_mode_is_proven_whether_the_platform_or_the_bridge_switches_it_on",
            &directory.join(configuration),
        );
    }
}

#[test]
fn unapproved_names_are_warnings_and_nothing_else_is_an_error() {
    if is_child() {
        let pki = Pki::new();
        let mut settings = required(&pki, Kind::Rsa);
        let (good, chacha) =
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256");
        settings.policy.cipher_suites = list(&[chacha, good]);
        settings.policy.curve_preferences = list(&["X25519", "P-384"]);
        let report = Acceptor::load(&settings).unwrap().report();
        assert!(report.fips.is_some());
        assert_eq!(report.groups, ["P-384"]);
        let older: Vec<&str> =
            report.ciphers.iter().map(|suite| suite.iana).filter(|name| name.contains("_WITH_")).collect();
        assert_eq!(older, [good]);
        has(&report.warnings[0], &[chacha, "not approved in FIPS mode"]);
        has(&report.warnings[1], &["X25519", "not approved in FIPS mode"]);

        settings.policy.cipher_suites = list(&[chacha]);
        has(
            &Acceptor::load(&settings).unwrap_err().to_string(),
            &["tls.cipher_suites", "no usable suite", "FIPS approves"],
        );
        settings.policy.cipher_suites = None;
        settings.policy.curve_preferences = list(&["X25519"]);
        has(
            &Acceptor::load(&settings).unwrap_err().to_string(),
            &["tls.curve_preferences", "no usable group"],
        );
        settings.policy = only(TlsVersion::Tls11);
        settings.policy.fips_required = true;
        has(
            &Acceptor::load(&settings).unwrap_err().to_string(),
            &["tls.min_version", "not approved in FIPS mode"],
        );
        return;
    }
    let Some(directory) = fips_provider() else { return };
    again("unapproved_names_are_warnings_and_nothing_else_is_an_error", &directory.join("openssl.cnf"));
}

#[test]
fn handshakes_in_fips_mode() {
    if is_child() {
        tokio::runtime::Runtime::new().unwrap().block_on(handshakes());
        return;
    }
    let Some(directory) = fips_provider() else { return };
    again("handshakes_in_fips_mode", &directory.join("openssl.cnf"));
}

async fn handshakes() {
    let pki = Pki::new();
    let settings = required(&pki, Kind::Rsa);
    let mut client = client_tls(&pki.ca());
    client.policy.fips_required = true;
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        client.policy.max_version = Some(version);
        let (accepted, _) = meet_with(&settings, &client).await.both();
        assert_eq!(accepted.version, version);
        has(accepted.cipher, &["AES", "GCM"]);
        assert_ne!(accepted.group.as_deref(), Some("X25519"));
    }
    Connector::load(&client, "srv.test").unwrap();
    // A peer without FIPS mode; it has the machine's own configuration.
    let mut served = Served::start(Acceptor::load(&settings).unwrap()).await;
    for (args, phrase) in [
        (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"][..], "tls: no common cipher suite"),
        (&["-tls1_3", "-groups", "X25519"], "tls: no common key exchange group"),
        (&["-tls1_2", "-cipher", "ECDHE", "-groups", "X25519"], "tls: no common key exchange group"),
    ] {
        has(&served.s_client(args).await.1.unwrap_err().to_string(), &[phrase]);
    }
    served.s_client(&["-tls1_2"]).await.1.unwrap();
    let configuration = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = -ExtendedMasterSecret\n";
    let configuration = pki.write("no-ems.cnf", configuration.as_bytes());
    s_client_under(&configuration, served.address, &["-tls1_2"]).await;
    let error = served.outcome().await.unwrap_err().to_string();
    has(&error, &["does not support extended master secret (EMS, RFC 7627)", "FIPS mode demands it"]);
}

#[test]
fn keys_must_be_encrypted_as_fips_approves() {
    if is_child() {
        let pki = Pki::new();
        let folder = std::env::temp_dir();
        let settings = required(&pki, Kind::P256);
        let identity = &settings.identities[0];
        let convert = |name: &str, args: &[&str]| {
            let file = pki.path(name);
            let made = Command::new("openssl")
                .args(args)
                .args(["-passout", "pass:s3cret"])
                .arg("-in")
                .arg(&identity.key_file)
                .arg("-out")
                .arg(&file)
                .env_remove("OPENSSL_CONF")
                .current_dir(&folder)
                .status()
                .unwrap();
            assert!(made.success());
            Identity {
                key_file: file,
                key_password: Some(KeyPassword::Plain(Secret::new("s3cret"))),
                ..identity.clone()
            }
        };
        let load = |identity| {
            let mut settings = settings.clone();
            settings.identities = vec![identity];
            Acceptor::load(&settings)
        };
        load(convert("pbes2.key", &["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"]))
            .unwrap();
        let error = load(convert("old.key", &["pkey", "-traditional", "-aes256"])).unwrap_err().to_string();
        has(&error, &["tls.key_file", "old.key", "not approved in FIPS mode", "openssl pkcs8 -topk8"]);
        return;
    }
    let Some(directory) = fips_provider() else { return };
    again("keys_must_be_encrypted_as_fips_approves", &directory.join("openssl.cnf"));
}
