//! Files that load, and what they become.

use std::{fs, time::Duration};

use super::*;

fn fixture(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What a fragment of the guide takes for granted.
fn completed(name: &str, text: &str) -> String {
    let mut whole = text.to_owned();
    let client = name.starts_with("client-") || text.contains("mode: client");
    for (key, line) in [
        ("mode:", if client { "mode: client" } else { "mode: server" }),
        (
            if client { "client:" } else { "mcp:" },
            if client { "client: {url: 'https://h/'}" } else { "mcp: {command: x}" },
        ),
        (if client { "client:" } else { "server:" }, "server: {listen: ':8443'}"),
    ] {
        if !whole.contains(key) {
            whole = format!("{line}\n{whole}");
        }
    }
    if name.starts_with("any-") { whole.replace(":8443", "127.0.0.1:8443") } else { whole }
}

#[test]
fn every_example_of_the_guide_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/guide");
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let whole = if name.starts_with("complete-") { text } else { completed(&name, &text) };
        let config = load_text(&whole).unwrap_or_else(|e| panic!("{name}: {e}\n{whole}"));
        // Snippets that show no `auth` beside their TLS listen for everyone.
        let expected = |warning: &&String| !warning.contains("set `auth`, or `tls.client_auth: verify`");
        let others = config.warnings.iter().filter(expected).count();
        assert_eq!(others, usize::from(name == "client-skip-verify.yaml"), "{name}: {:?}", config.warnings);
        seen += 1;
    }
    assert_eq!(seen, 15);
}

#[test]
fn the_examples_of_this_repository_load() {
    let config = load_text(&fixture("examples/config/server.yaml")).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let config = load_text(&fixture("examples/config/client.yaml")).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_manual_names_every_key() {
    let manual = fixture("docs/configuration.md");
    for key in schema::KEYS {
        assert!(manual.contains(&format!("`{}`", key.path)), "docs/configuration.md lacks {}", key.path);
    }
}

#[test]
fn a_minimal_server_has_the_documented_defaults() {
    let config = load_text("mode: server\nmcp: {command: x}\n").unwrap();
    assert_eq!(config.logging.level, log::LevelFilter::Info);
    assert_eq!((config.logging.format, config.logging.output), (LogFormat::Text, LogOutput::Stderr));
    assert!(config.metrics_listen.is_none() && !config.fips_required && config.warnings.is_empty());
    let serve = serve("mode: server\nmcp: {command: x}\n");
    assert_eq!(serve.listen, Listen::Tcp { host: Some("127.0.0.1".into()), port: 8080 });
    assert_eq!(serve.path, "/mcp");
    assert_eq!(serve.allowed_hosts.unwrap(), ["localhost", "127.0.0.1", "::1"]);
    assert_eq!((serve.read_timeout.as_secs(), serve.idle_timeout.as_secs()), (30, 120));
    assert_eq!((serve.max_body_size, serve.max_header_size), (10 << 20, 64 << 10));
    assert_eq!((serve.max_connections, serve.max_sessions), (10_000, 100));
    assert_eq!((serve.session_timeout.as_secs(), serve.stream_after.as_secs()), (1800, 5));
    assert!(serve.tls.is_none() && serve.cors.is_none() && matches!(serve.auth, ServerAuth::None));
    let mcp = serve.mcp;
    assert_eq!((mcp.isolation, mcp.protocol, mcp.instances), (Isolation::Principal, Protocol::Auto, 1));
    assert_eq!((mcp.request_timeout.unwrap().as_secs(), mcp.max_request_time.as_secs()), (600, 3600));
    assert_eq!(mcp.scheduling, Scheduling::Batch);
    assert!(mcp.inherit_env && mcp.translate && mcp.restart_on_failure && mcp.withheld_env.is_empty());
}

#[test]
fn a_minimal_client_has_the_documented_defaults() {
    let connect = connect("mode: client\nclient: {url: 'https://h/'}\n");
    assert_eq!((connect.connect_timeout.as_secs(), connect.timeout.unwrap().as_secs()), (10, 600));
    assert_eq!(connect.max_request_time.as_secs(), 3600);
    assert!(matches!(connect.proxy, ProxyChoice::Environment) && matches!(connect.auth, ClientAuth::None));
    assert_eq!(
        (connect.protocol, connect.transport, connect.translate),
        (Protocol::Auto, Transport::Auto, true)
    );
    assert_eq!((connect.retry.max_retries, connect.retry.initial_delay.as_millis()), (5, 200));
    assert_eq!(connect.tls.policy.reload_interval, Duration::from_secs(10));
}

#[test]
fn variables_stand_for_values_of_any_type() {
    let text = "mode: ${MODE}\nserver:\n  max_connections: ${NUMBER}\n  allow_insecure: ${YES}\n  read_timeout: ${WAIT}\n  \
                max_body_size: ${SIZE}\n  path: /${NOT_SET:-x}/$$\ntls: {enabled: true, cert_file: '${HOME}/c', \
                key_file: k, min_version: '${VERSION}'}\nmcp: {command: '${LIST}', env: {A: '${SECRET}', B: 8080}}\n";
    let serve = serve(text);
    assert_eq!((serve.max_connections, serve.read_timeout.as_secs(), serve.max_body_size), (42, 90, 1024));
    assert_eq!((serve.path.as_str(), serve.mcp.command.as_str()), ("/x/$", "[a, b]\nmode: client"));
    assert_eq!(serve.tls.unwrap().policy.min_version, Some(TlsVersion::Tls13));
    assert_eq!((serve.mcp.env["A"].expose(), serve.mcp.env["B"].expose()), ("s3cret value", "8080"));
    assert_eq!(
        serve.mcp.withheld_env,
        ["LIST", "MODE", "NOT_SET", "NUMBER", "SECRET", "SIZE", "VERSION", "WAIT", "YES"]
    );
}

#[test]
fn leaves_keep_the_text_that_was_written() {
    let serve = serve("mode: server\nmcp: {command: x, args: [1.0, 0x10, 007, 1e3, true, ~x, ' a ', '']}\n");
    assert_eq!(serve.mcp.args, ["1.0", "0x10", "007", "1e3", "true", "~x", " a ", ""]);
    let tls = "tls: {enabled: true, cert_file: c, key_file: k, min_version: 1.0, max_version: 1.3}\n";
    let policy = super::serve(&server_with(tls)).tls.unwrap().policy;
    assert_eq!((policy.min_version, policy.max_version), (Some(TlsVersion::Tls10), Some(TlsVersion::Tls13)));
}

#[test]
fn several_certificates_stand_in_pairs() {
    let text =
        server_with("tls: {enabled: true, cert_file: [a, b], key_file: [c, d], key_password_file: p}\n");
    let identities = serve(&text).tls.unwrap().identities;
    assert_eq!(identities.len(), 2);
    assert_eq!(
        (identities[1].cert_file.as_os_str(), identities[1].key_file.as_os_str()),
        ("b".as_ref(), "d".as_ref())
    );
}

#[test]
fn isolation_depends_on_who_may_come() {
    let tls = "tls: {enabled: true, cert_file: c, key_file: k";
    let cases = [
        ("server: {listen: ':1', allow_insecure: true}\n".to_owned(), Isolation::Request),
        (format!("server: {{listen: ':1'}}\n{tls}}}\n"), Isolation::Request),
        (
            format!("server: {{listen: ':1'}}\n{tls}, client_ca_file: a, client_auth: verify}}\n"),
            Isolation::Principal,
        ),
        (
            "server: {listen: ':1'}\nauth: {type: bearer, bearer: {tokens: [a]}}\n".into(),
            Isolation::Principal,
        ),
        ("server: {listen: 'unix:/s'}\n".into(), Isolation::Principal),
        ("server: {listen: '[::1]:1'}\n".into(), Isolation::Principal),
    ];
    for (more, isolation) in cases {
        assert_eq!(serve(&server_with(&more)).mcp.isolation, isolation, "{more}");
    }
}

#[test]
fn what_deserves_attention_is_a_warning() {
    let tls = "tls: {enabled: true, cert_file: c, key_file: k, client_ca_file: a}\n";
    let open = |more: &str| {
        format!("server: {{listen: ':1'}}\ntls: {{enabled: true, cert_file: c, key_file: k, {more}}}\n")
    };
    let bearer = "auth: {type: bearer, bearer: {tokens: [a]}}\n";
    for closed in [open("client_auth: verify, client_ca_file: a"), open("") + bearer] {
        let warnings = load_text(&server_with(&closed)).unwrap().warnings;
        assert!(warnings.is_empty(), "{closed}: {warnings:?}");
    }
    let cases = [
        (server_with("server: {listen: ':1', allow_insecure: true}\n"), "server.allow_insecure"),
        (server_with("server: {listen: ':1'}\nauth: {type: bearer, bearer: {tokens: [a]}}\n"), "unencrypted"),
        (server_with(tls), "tls.client_ca_file has no effect"),
        (server_with(&open("")), "set `auth`, or `tls.client_auth: verify`"),
        (server_with(&open("client_auth: require")), "set `auth`, or `tls.client_auth: verify`"),
        (
            "mode: server\nmcp: {command: x, protocol: legacy, instances: 2}\n".into(),
            "mcp.instances has no effect: 'mcp.protocol' is legacy",
        ),
        (client_with("tls: {insecure_skip_verify: true}\n"), "https://h"),
        (
            "mode: client\nclient: {url: 'http://h/'}\nauth: {type: bearer, bearer: {token: a}}\n".into(),
            "use https://",
        ),
    ];
    for (text, warning) in cases {
        let warnings = load_text(&text).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(warning), "{text}: {warnings:?}");
    }
}

#[test]
fn what_waits_for_a_restart_is_known_by_key() {
    let old = "server: {listen: ':1', allow_insecure: true, max_body_size: 1KiB}\nlogging: {level: info}\nmcp: {command: x}\n";
    let waiting = |old: &str, new: &str| {
        let [old, new] = [old, new].map(|text| load_text(&format!("mode: server\n{text}")).unwrap());
        old.restart_for(&new)
    };
    assert_eq!(waiting(old, old), [""; 0]);
    let live = "server: {listen: ':1', allow_insecure: true, max_body_size: 2KiB, allowed_hosts: [h]}\n\
                auth: {type: bearer, bearer: {tokens: [a]}}\nlogging: {level: debug}\nmcp: {command: x, request_timeout: 1s}\n";
    assert_eq!(waiting(old, live), [""; 0]);
    let other = "server: {listen: ':2', allow_insecure: true, path: /x}\nmetrics: {listen: ':3'}\nmcp: {command: x, args: [a]}\n";
    assert_eq!(waiting(old, other), ["server.listen", "server.path", "mcp.args", "metrics.listen"]);
    let [old, new] = ["", "auth: {type: bearer, bearer: {token: a}}\nlogging: {format: json}\n"]
        .map(|text| load_text(&client_with(text)).unwrap());
    assert_eq!(old.restart_for(&new), ["auth.type", "auth.bearer.token"]);
}

#[test]
fn zero_is_never_where_that_makes_sense() {
    assert!(connect("mode: client\nclient: {url: 'https://h/', timeout: 0}\n").timeout.is_none());
    assert!(serve("mode: server\nmcp: {command: x, request_timeout: 0s}\n").mcp.request_timeout.is_none());
}

#[test]
fn tokens_may_be_digests() {
    let digest = "9F86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let text = server_with(&format!("auth: {{type: bearer, bearer: {{tokens: ['sha256:{digest}', a]}}}}\n"));
    let ServerAuth::Bearer(tokens) = serve(&text).auth else { panic!("no tokens") };
    assert!(matches!(&tokens[0], AcceptedToken::Sha256(bytes) if bytes[..2] == [0x9f, 0x86]));
    assert!(!format!("{tokens:?}").contains("\"a\""), "{tokens:?}");
}

#[test]
fn fips_holds_without_tls_too() {
    assert!(load_text(&server_with("tls: {fips: required}\n")).unwrap().fips_required);
}

#[test]
fn anchors_are_followed() {
    let serve = serve("mode: server\nserver: {read_timeout: &t 7s, idle_timeout: *t}\nmcp: {command: x}\n");
    assert_eq!((serve.read_timeout.as_secs(), serve.idle_timeout.as_secs()), (7, 7));
    let text =
        "mode: server\nserver:\n  allowed_hosts: &h\n    - a b\n  allowed_origins: *h\nmcp: {command: x}\n";
    assert_eq!(load_text(text).unwrap_err().line(), Some(4));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_no_harm() {
    assert_eq!(serve("\u{feff}mode: server\r\nmcp:\r\n  command: x\r\n").mcp.command, "x");
}

#[test]
fn an_error_about_what_a_key_names_gets_the_place_of_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.yaml");
    let text = "mode: server\nserver:\n  tls:\n    enabled: true\n    client_ca: x\n    cert_file: c\n    key_file: k\nmcp: {}\n";
    fs::write(&file, text).unwrap();
    let name = file.display().to_string();
    let mut options = Options::default();
    options.set("COMMAND", "mcp.command", SettingValue::Text("x".into()));
    options.set("--key", "tls.key_file", SettingValue::Text("other".into()));
    options.set("--fips", "tls.fips", SettingValue::Text("required".into()));
    let config = load(Some(&file), &options, &env).unwrap();
    let at = |error| config.written.place(config.file.as_deref(), error);
    assert_eq!(at("tls.enabled: no"), format!("{name}:4: tls.enabled: no"));
    assert_eq!(at("tls.client_ca_file /x: no"), format!("{name}:5: tls.client_ca_file /x: no"));
    assert_eq!(at("tls.key_file /x: no"), "--key: tls.key_file /x: no");
    assert_eq!(at("tls.fips: no"), "--fips: tls.fips: no");
    assert_eq!(at("mcp.command: x: no"), "COMMAND: mcp.command: x: no");
    assert_eq!(at("tls.crl_file: no"), "tls.crl_file: no");
    assert_eq!(at("no key at all: no"), "no key at all: no");
}
