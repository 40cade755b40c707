//! FIPS mode of the program.
//!
//! A provider is needed: `scripts/fips-provider.sh DIR`, then `MCP_BRIDGE_FIPS_DIR=DIR`; `scripts/test.sh` does both.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::support::*;
use crate::support::bridge::{Serve, TOKEN, TOKEN_VARIABLE};
use crate::support::process::Process;
use crate::support::session::Session;
use crate::support::{BRIDGE, fips_provider};

const CONF: &str = "OPENSSL_CONF";
const VERIFY: [&str; 2] = ["client_auth: verify", "client_ca_file: $ca.pem"];

fn under(server: Serve, conf: &Path) -> Serve {
    server.env(CONF, conf.to_str().unwrap()).arg("--fips")
}

fn rsa_site() -> Site {
    Site::with(&Leaf { key: Kind::Rsa, ..server_leaf() })
}

fn check_under(conf: &Path, site: &Site, lines: &[&str]) -> Said {
    let file = site.pki.write("check.yaml", site.server_config(lines).as_bytes());
    Said::by(Command::new(BRIDGE).args(["check", "--fips", "-c"]).arg(file).env(CONF, conf))
}

#[test]
fn serve_starts_in_fips_mode_and_serves_what_is_approved() {
    let Some(directory) = fips_provider() else { return };
    for conf in ["openssl.cnf", "on-request.cnf"] {
        let site = rsa_site();
        let bridge = under(site.server(&[]), &directory.join(conf)).start();
        has(&bridge.logged("FIPS mode: "), &["INFO", "OpenSSL FIPS Provider 3."]);
        for (args, facts) in [
            (
                &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "P-256"][..],
                "TLS 1.3, TLS_AES_128_GCM_SHA256, group P-256",
            ),
            (
                &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384", "-groups", "P-256"],
                "TLS 1.2, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, group P-256",
            ),
        ] {
            has(&s_client(&bridge, args).stdout, &["HTTP/1.1 "]);
            bridge.logged(facts);
        }
        // Among what it shares with a peer that can do everything, too.
        has(&s_client(&bridge, &[]).stdout, &["HTTP/1.1 ", "AES_256_GCM"]);
    }
}

#[test]
fn peers_with_nothing_that_is_approved_are_refused() {
    let Some(directory) = fips_provider() else { return };
    let site = rsa_site();
    let bridge = under(site.server(&[]), &directory.join("openssl.cnf")).start();
    for (args, phrase) in [
        (&["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"][..], "tls: no common cipher suite"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"], "tls: no common cipher suite"),
        (&["-tls1_3", "-groups", "X25519"], "tls: no common key exchange group"),
        (&["-tls1_2", "-cipher", "ECDHE", "-groups", "X25519"], "tls: no common key exchange group"),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "tls: no common protocol version"),
    ] {
        let before = times(&bridge, phrase);
        let said = s_client(&bridge, args);
        assert!(!said.stdout.contains("HTTP/1.1 "), "{}", said.stdout);
        has(&said.all(), &["alert"]);
        until(phrase, || times(&bridge, phrase) == before + 1);
    }
    let no_ems = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = -ExtendedMasterSecret\n";
    let no_ems = site.pki.write("no-ems.cnf", no_ems.as_bytes());
    s_client_with(&bridge, &["-tls1_2"], "x\n", Some(&no_ems));
    has(&bridge.logged("extended master secret (EMS, RFC 7627)"), &["INFO", "FIPS mode demands it"]);
}

#[test]
fn without_a_whole_provider_nothing_starts_and_the_message_helps() {
    let site = Site::new();
    let none = site.pki.path("missing.cnf");
    let lying = "openssl_conf = a\n[a]\nalg_section = b\n[b]\ndefault_properties = fips=yes\n";
    let lying = site.pki.write("lying.cnf", lying.as_bytes());
    let mut confs = vec![none, lying];
    if let Some(directory) = fips_provider() {
        // The module without the outcome of its self test.
        let module = directory.join("fips.so");
        let half = format!(
            "openssl_conf = a\n[a]\nproviders = b\n[b]\nfips = c\n[c]\nmodule = {}\nactivate = 1\n",
            module.display()
        );
        confs.push(site.pki.write("half.cnf", half.as_bytes()));
        // One that was installed and is damaged.
        let installed = std::fs::read_to_string(directory.join("fipsmodule.cnf")).unwrap();
        let damaged = installed.replace("module-mac = ", "module-mac = 00:");
        site.pki.write("fipsmodule.cnf", damaged.as_bytes());
        let conf = std::fs::read_to_string(directory.join("openssl.cnf")).unwrap();
        let included = directory.join("fipsmodule.cnf").into_os_string().into_string().unwrap();
        let conf = conf.replace(&included, &site.file("fipsmodule.cnf"));
        confs.push(site.pki.write("damaged.cnf", conf.as_bytes()));
    }
    for conf in confs {
        let said = check_under(&conf, &site, &[]);
        assert_eq!(said.code, Some(2), "{}: {}", conf.display(), said.all());
        has(
            &said.stderr,
            &["--fips: tls.fips: ", "install and enable the FIPS provider", "fips-mode-setup", "fipsinstall"],
        );
        let (mut serve, _dir) = under(site.server(&[]), &conf).spawn();
        assert_eq!(serve.wait().code(), Some(2), "{}", conf.display());
        has(&serve.logged("tls.fips: "), &["OPENSSL_CONF"]);
        let mut connect = connect_command(&site, "https://127.0.0.1:1/mcp", &conf, &["ca_cert: $ca.pem"]);
        assert_eq!(Process::spawn(&mut connect).wait().code(), Some(2), "{}", conf.display());
    }
}

fn connect_command(site: &Site, url: &str, conf: &Path, lines: &[&str]) -> Command {
    let mut command = site.connect_command(url, lines);
    command.arg("--fips").env(CONF, conf);
    command
}

#[test]
fn check_names_the_provider_and_warns_of_each_unapproved_name() {
    let Some(directory) = fips_provider() else { return };
    let (site, conf) = (rsa_site(), directory.join("openssl.cnf"));
    let lines = [
        "cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
        "curve_preferences: [X25519, P-384, X448]",
    ];
    let said = check_under(&conf, &site, &lines);
    assert_eq!(said.code, Some(0), "{}", said.all());
    has(&said.stdout, &["FIPS mode: OpenSSL FIPS Provider 3.", "Groups: P-384\n"]);
    for name in ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "X25519", "X448"] {
        let mut warnings = said.stdout.lines().filter(|line| line.starts_with("Warning: "));
        assert!(
            warnings.any(|line| line.contains(name) && line.contains("not approved in FIPS mode")),
            "{name}: {}",
            said.stdout
        );
    }
    for (line, key) in [
        ("cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]", "tls.cipher_suites"),
        ("curve_preferences: [X25519]", "tls.curve_preferences"),
        ("min_version: \"1.0\"", "tls.min_version"),
        ("min_version: \"1.1\"", "tls.min_version"),
    ] {
        let said = check_under(&conf, &site, &[line]);
        assert_eq!(said.code, Some(2), "{line}: {}", said.all());
        has(&said.stderr, &[key]);
    }
    // The provider is in force though the configuration does not demand it.
    let file = site.pki.write("check.yaml", site.server_config(&[]).as_bytes());
    let said = Said::by(Command::new(BRIDGE).args(["check", "--json", "-c"]).arg(file).env(CONF, conf));
    has(said.json()["fips"].as_str().unwrap(), &["OpenSSL FIPS Provider 3."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_tokens_and_reloads_work_in_fips_mode() {
    let Some(directory) = fips_provider() else { return };
    let site = Site::new();
    let auth = format!("auth:\n  type: bearer\n  bearer:\n    tokens: [\"${{{TOKEN_VARIABLE}}}\"]");
    let server = site.server(&["reload_interval: 1h"]).config(&auth);
    let bridge = under(server, &directory.join("openssl.cnf")).start();
    let http = |token: &str| site.http(&bridge).header("authorization", &format!("Bearer {token}"));
    let body = crate::support::session::initialize(&json!({}));
    assert_eq!(http("wrong-token-of-the-right-kind").post(body.clone()).await.status, 401);
    let (one, two) = (Session::open(&http(TOKEN)).await, Session::open(&http(TOKEN)).await);
    assert!(one.id.len() >= 32 && one.id != two.id, "{} {}", one.id, two.id);
    site.pki.identity("srv", &Leaf { cn: "second", ..server_leaf() });
    hang_up(&bridge);
    assert_eq!(times(&bridge, LOADED), 1);
    assert_eq!(one.call("echo", json!({"message": "x"})).await["result"]["content"][0]["text"], "x");
    site.pki.write("srv.crt", b"broken");
    hang_up(&bridge);
    assert_eq!(times(&bridge, NOT_LOADED), 1);
    assert_eq!(two.call("echo", json!({"message": "y"})).await["result"]["content"][0]["text"], "y");
}

#[test]
fn client_certificates_and_connect_work_in_fips_mode() {
    let Some(directory) = fips_provider() else { return };
    let (site, conf) = (Site::new(), directory.join("openssl.cnf"));
    let bridge = under(site.server(&VERIFY), &conf).start();
    let connect = |lines: &[&str]| {
        let mut connect = Process::spawn(&mut connect_command(&site, &bridge.url, &conf, lines));
        (connect.initialize(), connect)
    };
    let own = ["ca_cert: $ca.pem", "cert_file: $client.crt", "key_file: $client.key"];
    for version in ["max_version: \"1.2\"", "min_version: \"1.3\""] {
        let (answer, mut process) = connect(&[own[0], own[1], own[2], version]);
        assert!(answer["result"].is_object(), "{answer}");
        has(&process.logged("FIPS mode: OpenSSL FIPS Provider 3."), &["INFO"]);
        assert!(process.call("echo", &json!({"message": "x"}))["result"].is_object());
        let (answer, _) = connect(&[own[0], version]);
        has(&answer.to_string(), &["tls: bad certificate"]);
    }
    bridge.logged("client certificate \"CN=mcp-client\": verified");
    bridge.logged("tls: no client certificate");
}

#[test]
fn connect_in_fips_mode_refuses_a_server_without_anything_approved() {
    let Some(directory) = fips_provider() else { return };
    let (site, conf) = (rsa_site(), directory.join("openssl.cnf"));
    for lines in [
        &["curve_preferences: [X25519]", "min_version: \"1.3\""][..],
        &["cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]", "max_version: \"1.2\""],
    ] {
        let bridge = site.server(lines).env(CONF, "/dev/null").start();
        let mut connect =
            Process::spawn(&mut connect_command(&site, &bridge.url, &conf, &["ca_cert: $ca.pem"]));
        let message = connect.initialize()["error"]["message"].to_string();
        has(&message, &["tls: no common cipher suite or tls: no common key exchange group", "alert 40"]);
        // The same server and a client outside FIPS mode.
        let mut connect = site.connect(&bridge.url, &["ca_cert: $ca.pem"]);
        assert!(connect.initialize()["result"].is_object());
    }
}
