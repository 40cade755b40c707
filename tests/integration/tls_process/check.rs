//! `check`: the effective policy for people and for machines, and what would not start.

use std::process::Command;

use openssl::pkey::{PKey, Private};
use openssl::symm::Cipher;
use serde_json::{Value, json};

use super::support::*;
use crate::support::BRIDGE;
use crate::tls::revocation::crl;

const AES_128: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";

fn encrypted(key: &PKey<Private>) -> Vec<u8> {
    key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right").unwrap()
}

#[test]
fn the_effective_policy_in_text() {
    let site = Site::new();
    let lines = [
        "client_ca_file: $ca.pem",
        "client_auth: verify",
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
        "curve_preferences: [P-384, X25519]",
    ];
    let said = site.check(&site.server_config(&lines), &[]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    has(
        &said.stdout,
        &[
            &format!("OpenSSL: {}", openssl::version::version()),
            "FIPS mode: off",
            "Versions: TLS 1.2 to TLS 1.3",
            "Cipher suites:\n  TLS_AES_256_GCM_SHA384 (TLS_AES_256_GCM_SHA384, 256 bits)\n",
            "  TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 (ECDHE-ECDSA-AES256-GCM-SHA384, 256 bits)\n  \
             TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 (ECDHE-ECDSA-AES128-GCM-SHA256, 128 bits)\n",
            "Groups: P-384, X25519\n",
            "Client authentication: verify\n",
            "Certificate: CN=srv.test\n  Names: DNS:srv.test, DNS:localhost, IP:127.0.0.1\n  Issuer: CN=Test Root\n  Valid: 20",
            "  Key: ECDSA, 256 bits\n",
            "the configuration can be used\n",
        ],
    );
    assert!(!said.stdout.contains("Warning"), "{}", said.stdout);
    assert_eq!(said.stderr, "");
}

#[test]
fn the_effective_policy_as_json() {
    let site = Site::new();
    let lines = [
        "client_auth: request",
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]",
    ];
    let said = site.check(&site.server_config(&lines), &["--json"]);
    assert_eq!((said.code, &*said.stderr), (Some(0), ""));
    let found = said.json();
    assert_eq!((&found["mode"], &found["fips"]), (&json!("server"), &Value::Null));
    let tls = &found["tls"];
    assert_eq!(tls["openssl"], openssl::version::version());
    assert_eq!((&tls["versions"], &tls["client_auth"]), (&json!("TLS 1.2 to TLS 1.3"), &json!("request")));
    let ciphers = tls["ciphers"].as_array().unwrap();
    let named = ciphers.iter().find(|suite| suite["iana"] == AES_128).unwrap();
    assert_eq!(*named, json!({"iana": AES_128, "openssl": "ECDHE-ECDSA-AES128-GCM-SHA256", "bits": 128}));
    assert!(tls["groups"].as_array().unwrap().contains(&json!("P-256")), "{tls}");
    let certificate = &tls["certificates"][0];
    assert_eq!(certificate["subject"], "CN=srv.test");
    assert_eq!(certificate["names"], json!(["DNS:srv.test", "DNS:localhost", "IP:127.0.0.1"]));
    assert_eq!((&certificate["issuer"], &certificate["key_type"]), (&json!("CN=Test Root"), &json!("ECDSA")));
    assert_eq!((&certificate["key_bits"], &certificate["expires_soon"]), (&json!(256), &json!(false)));
    let left = certificate["expires_in"].as_i64().unwrap();
    assert!((364 * DAY..=365 * DAY).contains(&left), "{certificate}");
    assert_eq!(tls["warnings"].as_array().unwrap().len(), 1, "{tls}");
    has(tls["warnings"][0].as_str().unwrap(), &["TLS_AES_128_GCM_SHA256 changes nothing"]);
}

#[test]
fn a_clients_policy_in_both_forms() {
    let site = Site::new();
    let lines =
        ["ca_cert: $ca.pem", "cert_file: $client.crt", "key_file: $client.key", "max_version: \"1.2\""];
    let config = site.client_config("https://srv.test/mcp", &lines);
    let said = site.check(&config, &[]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    has(
        &said.stdout,
        &["mode: client, https://srv.test/mcp", "Versions: TLS 1.2\n", "Certificate: CN=mcp-client"],
    );
    let found = site.check(&config, &["--json"]).json();
    assert_eq!((&found["mode"], &found["endpoint"]), (&json!("client"), &json!("https://srv.test/mcp")));
    assert_eq!(found["tls"]["client_auth"], Value::Null);
    assert_eq!(found["tls"]["certificates"][0]["subject"], "CN=mcp-client");
    let found = site.check(&site.client_config("http://srv.test/mcp", &[]), &["--json"]).json();
    assert_eq!(found["tls"], Value::Null);
}

/// What is wrong → the lines of `tls`, and what the message names.
type Wrong = (&'static [&'static str], &'static [&'static str]);

const SERVER_ERRORS: &[Wrong] = &[
    (
        &["key_file: $other.key"],
        &["tls.key_file ", "other.key: ", "does not belong to the certificate of tls.cert_file"],
    ),
    (&["cert_file: $missing.crt"], &["tls.cert_file ", "missing.crt: cannot be read", "check the path"]),
    (&["key_file: $missing.key"], &["tls.key_file ", "missing.key: cannot be read", "check the path"]),
    (
        &["client_auth: verify", "client_ca_file: $missing.pem"],
        &["tls.client_ca_file ", "missing.pem: cannot be read"],
    ),
    (
        &["client_auth: verify", "client_ca_file: $ca.pem", "crl_file: $missing.crl"],
        &["tls.crl_file ", "missing.crl: cannot be read"],
    ),
    (&["cert_file: $folder"], &["tls.cert_file ", "/folder: cannot be read"]),
    (&["cert_file: $locked.crt"], &["tls.cert_file ", "locked.crt: cannot be read"]),
    (&["cert_file: $srv.der"], &["tls.cert_file ", "srv.der: holds no certificate in PEM form", "DER"]),
    (&["key_file: $text"], &["tls.key_file ", "/text: holds no private key in PEM form"]),
    (
        &["cert_file: $srv.key", "key_file: $srv.crt"],
        &["tls.cert_file ", "srv.key: holds no certificate", "swapped?"],
    ),
    (&["cert_file: $cut.crt"], &["tls.cert_file ", "cut.crt: "]),
    (
        &["key_file: $encrypted.key"],
        &[
            "tls.key_file ",
            "encrypted.key: the key is encrypted, and no password is configured",
            "tls.key_password_file",
        ],
    ),
    (
        &["key_file: $encrypted.key", "key_password: wrong"],
        &["tls.key_file ", "encrypted.key: the configured password does not open the key"],
    ),
    (
        &["key_file: $encrypted.key", "key_password_file: $missing"],
        &["tls.key_password_file ", "/missing: cannot be read"],
    ),
    (
        &["client_auth: verify", "client_ca_file: $ca.pem", "crl_file: $ca.pem"],
        &["tls.crl_file ", "ca.pem: holds no revocation list"],
    ),
    (
        &["cipher_suites: [TLS_ECDHE_RSA_WITH_AES256_GCM_SHA384]"],
        &["tls.cipher_suites: ", "did you mean TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
    ),
    (
        &["cipher_suites: [TLS_RSA_WITH_NULL_SHA256]"],
        &["tls.cipher_suites: ", "is refused: it does not encrypt"],
    ),
    (
        &["cipher_suites: [TLS_RSA_WITH_RC4_128_SHA, TLS_AES_128_GCM_SHA256]"],
        &["tls.cipher_suites: ", "no usable suite"],
    ),
    (&["curve_preferences: [secp256k1]"], &["tls.curve_preferences: ", "secp256k1"]),
    (
        &["min_version: \"1.3\"", "max_version: \"1.2\""],
        &["check.yaml:", "tls.min_version: ", "higher than 'tls.max_version'"],
    ),
    (&["max_version: \"1.1\""], &["tls.m", "1.1", "1.2"]),
    (&["cert_file: $expired.crt", "key_file: $expired.key"], &["tls.cert_file", "expired"]),
    (&["fips: required"], &["tls.fips: ", "fipsinstall", "fips-mode-setup"]),
    (
        &["fips: required", "min_version: \"1.0\""],
        &["check.yaml:", "tls.min_version: ", "FIPS permits TLS 1.2 and 1.3 only"],
    ),
    (
        &["client_allowed_names: [\"CN=x\"]", "client_ca_file: $ca.pem"],
        &["tls.client_allowed_names: ", "client_auth: verify"],
    ),
];

const CLIENT_ERRORS: &[Wrong] = &[
    (&["ca_cert: $missing.pem"], &["tls.ca_cert ", "missing.pem: cannot be read"]),
    (&["ca_cert: $folder"], &["tls.ca_cert ", "/folder: ", "no *.pem or *.crt file"]),
    (&["cert_file: $client.crt", "key_file: $srv.key"], &["tls.key_file ", "srv.key: ", "does not belong"]),
    (&["server_name: .srv.test"], &["tls.server_name: ", "starts with a dot"]),
    (&["curve_preferences: [P256]"], &["tls.curve_preferences: ", "did you mean P-256"]),
];

fn site_with_wrong_files() -> Site {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let pki = &site.pki;
    pki.identity("other", &server_leaf());
    pki.identity("expired", &Leaf { valid: (-9 * DAY, -DAY), ..server_leaf() });
    std::fs::create_dir(pki.path("folder")).unwrap();
    // Root reads whatever the mode says, so that a folder stands in for it there.
    if nix::unistd::geteuid().is_root() {
        std::fs::create_dir(pki.path("locked.crt")).unwrap();
    } else {
        let locked = pki.write("locked.crt", b"");
        std::fs::set_permissions(locked, PermissionsExt::from_mode(0o000)).unwrap();
    }
    let issued = pki.issue(&server_leaf());
    pki.save("encrypted", &issued, &[]);
    pki.write("encrypted.key", &encrypted(&issued.key));
    pki.write("srv.der", &issued.cert.to_der().unwrap());
    pki.write("text", b"not PEM\n");
    let pem = issued.cert.to_pem().unwrap();
    pki.write("cut.crt", &pem[..pem.len() / 2]);
    site
}

#[test]
fn what_would_not_start_is_exit_code_2_with_the_key_and_the_file() {
    let site = site_with_wrong_files();
    let fails = |config: String, parts: &[&str]| {
        let said = site.check(&config, &[]);
        assert_eq!(said.code, Some(2), "{config}{}", said.all());
        has(&said.stderr, parts);
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    };
    for (lines, parts) in SERVER_ERRORS {
        fails(site.server_config(lines), parts);
    }
    for (lines, parts) in CLIENT_ERRORS {
        fails(site.client_config("https://srv.test/mcp", lines), parts);
    }
}

#[test]
fn serve_and_connect_exit_with_2_for_the_same_reasons() {
    let site = site_with_wrong_files();
    let (lines, parts) = SERVER_ERRORS[0];
    let (mut serve, _dir) = site.server(lines).spawn();
    assert_eq!(serve.wait().code(), Some(2));
    serve.logged(parts[2]);
    let (lines, parts) = CLIENT_ERRORS[2];
    let mut connect = site.connect("https://srv.test/mcp", lines);
    assert_eq!(connect.wait().code(), Some(2));
    connect.logged(parts[2]);
    assert_eq!(connect.next_line(), None);
}

#[test]
fn an_expired_certificate_is_reported_as_json_and_by_the_exit_code() {
    let site = site_with_wrong_files();
    let config = site.server_config(&["cert_file: $expired.crt", "key_file: $expired.key"]);
    let said = site.check(&config, &["--json"]);
    assert_eq!(said.code, Some(2));
    assert!(said.json()["tls"]["certificates"][0]["expires_in"].as_i64().unwrap() < 0);
    assert!(!site.check(&config, &[]).stdout.contains("can be used"));
}

/// `script` gives the program a terminal, on which a prompt would be seen and waited for.
#[test]
fn an_encrypted_key_never_asks_on_the_terminal() {
    let site = site_with_wrong_files();
    let config = site.server_config(&["key_file: $encrypted.key"]);
    let file = site.pki.write("check.yaml", config.as_bytes());
    for command in ["check", "serve"] {
        let command = format!("timeout 20 {BRIDGE} {command} -c {}", file.display());
        let said = Said::by(Command::new("script").args(["-q", "-e", "-c", &command, "/dev/null"]));
        assert_eq!(said.code, Some(2), "{}", said.all());
        has(&said.stdout, &["the key is encrypted, and no password is configured"]);
        assert!(!said.all().contains("pass phrase"), "{}", said.all());
    }
}

#[test]
fn the_right_password_from_the_file_or_the_configuration_opens_the_key() {
    let site = site_with_wrong_files();
    site.pki.write("password", b"right\nand a second line\n");
    for line in ["key_password: right", "key_password_file: $password"] {
        let lines = ["cert_file: $encrypted.crt", "key_file: $encrypted.key", line];
        let said = site.check(&site.server_config(&lines), &[]);
        assert_eq!(said.code, Some(0), "{}", said.all());
    }
}

#[test]
fn warnings_leave_the_exit_code_0() {
    let site = Site::new();
    let pki = &site.pki;
    pki.identity("soon", &Leaf { valid: (-300 * DAY, 10 * DAY), ..server_leaf() });
    pki.identity("future", &Leaf { valid: (DAY, 100 * DAY), ..server_leaf() });
    let root = Issued { cert: pki.root.cert.clone(), key: pki.root.key.clone() };
    let stranger = issue(&Leaf { cn: "Other", ca: true, ..Leaf::default() }, None);
    pki.save("unordered", &pki.issue(&server_leaf()), &[&stranger]);
    let inter = pki.issue(&Leaf { cn: "Inter", names: &[], purposes: &[], ca: true, ..Leaf::default() });
    pki.write("inter.pem", &inter.cert.to_pem().unwrap());
    pki.write("old.crl", &crl(pki, &root, &[], -3600));
    let server: &[Wrong] = &[
        (
            &["cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]"],
            &["changes nothing"],
        ),
        (
            &["cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_RSA_WITH_3DES_EDE_CBC_SHA]"],
            &["TLS_RSA_WITH_3DES_EDE_CBC_SHA is left out", "built without it"],
        ),
        (
            &[
                "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
            ],
            &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 can never be used"],
        ),
        (&["cert_file: $soon.crt", "key_file: $soon.key"], &["expires on 20"]),
        (&["cert_file: $future.crt", "key_file: $future.key"], &["future.crt", "not valid before 20"]),
        (&["cert_file: $unordered.crt", "key_file: $unordered.key"], &["unordered.crt", "did not issue"]),
        (
            &["min_version: \"1.0\"", "max_version: \"1.2\""],
            &["tls.min_version", "security level 0", "SHA-1"],
        ),
        (
            &["client_auth: verify", "client_ca_file: $inter.pem"],
            &["tls.client_ca_file", "no anchor of trust"],
        ),
        (
            &["client_auth: verify", "client_ca_file: $ca.pem", "crl_file: $old.crl"],
            &["tls.crl_file", "old.crl", "expired on 20"],
        ),
    ];
    let client: &[Wrong] = &[
        (&["insecure_skip_verify: true"], &["insecure_skip_verify", "https://srv.test "]),
        (&["ca_cert: $inter.pem"], &["tls.ca_cert", "no anchor of trust"]),
    ];
    let configs = server.iter().map(|(lines, parts)| (site.server_config(lines), parts));
    let url = "https://srv.test/mcp";
    let configs = configs.chain(client.iter().map(|(lines, parts)| (site.client_config(url, lines), parts)));
    for (config, parts) in configs {
        let said = site.check(&config, &[]);
        assert_eq!(said.code, Some(0), "{config}{}", said.all());
        let warnings = said.stdout.lines().filter(|line| line.to_lowercase().starts_with("warning: "));
        has(&warnings.collect::<Vec<_>>().join("\n"), parts);
        let found = site.check(&config, &["--json"]).json();
        let warnings = [&found["warnings"], &found["tls"]["warnings"]].map(ToString::to_string).concat();
        has(&warnings, parts);
    }
}

#[test]
fn the_log_at_debug_begins_with_the_same_policy() {
    let site = Site::new();
    let lines = [
        "client_auth: request",
        "curve_preferences: [P-256]",
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]",
    ];
    let checked = site.check(&site.server_config(&lines), &[]).stdout;
    let bridge = site.serve(&lines);
    let log = bridge.stderr();
    let policy = checked.lines().skip_while(|line| !line.starts_with("OpenSSL: "));
    let mut compared = 0;
    for line in policy.take_while(|line| !line.starts_with("the configuration")) {
        assert!(
            log.lines().any(|logged| logged.contains("DEBUG") && logged.ends_with(line)),
            "{line} is not in\n{log}"
        );
        compared += 1;
    }
    assert!(compared > 12, "{checked}");
    let warning = bridge.logged("changes nothing");
    assert!(warning.contains("WARN"), "{warning}");
}
