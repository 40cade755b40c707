use std::io::Write;

use super::*;
use crate::config::{ClientAuth, ClientAuthMode, Listen, Role, Serve, ServerAuth};

type Loaded = Result<(Command, Config), ConfigError>;

fn env(name: &str) -> Option<OsString> {
    match name {
        "TOKEN" => Some("t0ken".into()),
        "MCP_BRIDGE_CONFIG" => Some("/nonexistent/from-environment.yaml".into()),
        _ => None,
    }
}

fn load(args: &[&str]) -> Loaded {
    let args = ["mcp-bridge"].iter().chain(args);
    Cli::try_parse_from(args).unwrap().load_config_from(&env)
}

fn error(args: &[&str]) -> String {
    load(args).unwrap_err().to_string()
}

fn server(loaded: Loaded) -> Serve {
    match loaded.unwrap().1.role {
        Role::Serve(serve) => *serve,
        Role::Connect(_) => panic!("a client"),
    }
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

#[test]
fn the_definition_is_consistent() {
    definition().debug_assert();
    assert!(VERSION.contains("OpenSSL"), "{}", *VERSION);
}

#[test]
fn serve_has_a_short_form() {
    let serve = server(load(&["serve", "--listen", "127.0.0.1:9", "--", "python", "-m", "my_server"]));
    assert_eq!(serve.listen, Listen::Tcp { host: Some("127.0.0.1".into()), port: 9 });
    assert_eq!((serve.mcp.command.as_str(), serve.mcp.args.len()), ("python", 2));
}

#[test]
fn serve_with_a_certificate_is_https() {
    let args =
        ["serve", "--listen", ":8443", "--cert", "c", "--key", "k", "--client-ca", "ca", "--min-tls", "1.3"];
    let serve = server(load(&[&args[..], &["--", "./server", "${NOT_EXPANDED}"]].concat()));
    let tls = serve.tls.unwrap();
    assert_eq!(tls.client_auth, ClientAuthMode::Verify);
    assert_eq!(serve.mcp.args, ["${NOT_EXPANDED}"]);
}

#[test]
fn a_token_comes_from_the_environment_only() {
    let serve = server(load(&["serve", "--listen", ":80", "--token-env", "TOKEN", "--", "x"]));
    assert!(matches!(&serve.auth, ServerAuth::Bearer(tokens) if tokens.len() == 1));
    assert_eq!(serve.mcp.withheld_env, ["TOKEN"]);
    let (_, config) = load(&["connect", "https://h/", "--token-env", "TOKEN"]).unwrap();
    let Role::Connect(connect) = config.role else { panic!("a server") };
    assert!(matches!(&connect.auth, ClientAuth::Bearer(token) if token.expose() == "t0ken"));
}

#[test]
fn connect_has_a_short_form() {
    let args = ["connect", "https://h:1/mcp", "--ca-cert", "ca", "--header", "X-Team: blue: green", "--fips"];
    let (command, config) = load(&args).unwrap();
    assert!(config.fips_required && config.file.is_none() && command == Command::Run);
    let Role::Connect(connect) = config.role else { panic!("a server") };
    assert_eq!(connect.headers[0].1.expose(), "blue: green");
}

#[test]
fn a_credential_among_the_arguments_is_warned_of() {
    let warnings = |header| load(&["connect", "https://h/", "--header", header]).unwrap().1.warnings;
    for header in ["Authorization: Bearer s3cret", "cookie: s3cret"] {
        let warnings = warnings(header);
        assert!(warnings.len() == 1 && warnings[0].contains("`ps`; use --token-file"), "{warnings:?}");
        assert!(!warnings[0].contains("s3cret"), "{warnings:?}");
    }
    assert!(warnings("X-Team: blue").is_empty());
    let (_file, path) = file("client: {url: 'https://h/', headers: {Authorization: s3cret}}\n");
    assert!(load(&["connect", "-c", &path, "--header", "X-Team: blue"]).unwrap().1.warnings.is_empty());
}

#[test]
fn options_win_over_the_file() {
    let text = "mode: client\nclient:\n  url: https://a/\n  headers:\n    x-team: red\n    x-b: c\n\
                auth:\n  type: bearer\n  bearer:\n    token: old\n";
    let (_file, path) = file(text);
    let args = ["connect", "https://b/", "-c", &path, "--token-file", "new", "--header", "X-Team: blue"];
    let (_, config) = load(&args).unwrap();
    let Role::Connect(connect) = config.role else { panic!("a server") };
    assert_eq!(connect.url.host(), Some("b"));
    assert_eq!(connect.headers.len(), 2);
    assert!(matches!(connect.auth, ClientAuth::BearerFile(_)));
}

#[test]
fn errors_name_the_option() {
    let cases: [(&[&str], &str); 9] = [
        (&["serve", "--listen", "nowhere", "--", "x"], "--listen: \"nowhere\" has no port"),
        (&["serve", "--listen", ":80", "--", "x"], "--listen: listens beyond loopback"),
        (&["serve", "--cert", "c", "--", "x"], "tls.key_file: missing"),
        (&["serve", "--client-auth", "verfy", "--", "x"], "--client-auth: \"verfy\" is none of"),
        (
            &["serve", "--token-env", "UNSET", "--", "x"],
            "--token-env: the environment variable UNSET is not set",
        ),
        (&["connect", "ftp://h/"], "URL: the value must start with"),
        (&["connect", "https://h/", "--header", "s3cret"], "--header: has no colon"),
        (&["connect", "https://h/", "--header", "Host: x"], "--header: the header host can't be set"),
        (
            &["connect", "https://h/", "--log-output", "stdout"],
            "--log-output: \"stdout\" carries the protocol",
        ),
    ];
    for (args, message) in cases {
        let error = error(args);
        assert!(error.contains(message) && !error.contains("s3cret"), "{args:?}: {error}");
    }
}

#[test]
fn a_file_is_looked_for_unless_the_short_form_stands_alone() {
    let from_environment = "/nonexistent/from-environment.yaml: cannot be read";
    for args in [&[][..], &["serve"], &["connect"], &["check"], &["serve", "--listen", ":1"]] {
        assert!(error(args).starts_with(from_environment), "{args:?}");
    }
    assert!(load(&["serve", "--", "x"]).is_ok());
    assert!(error(&["serve", "-c", "/nonexistent/given.yaml", "--", "x"]).contains("given.yaml"));
}

#[test]
fn check_takes_either_mode() {
    let (_file, path) = file("mode: server\nmcp:\n  command: x\n");
    let (command, config) = load(&["check", "--json", "-c", &path]).unwrap();
    assert_eq!(command, Command::Check { json: true });
    assert!(matches!(config.role, Role::Serve(_)));
    assert!(
        error(&["connect", "-c", &path]).contains(":1: mode: is server, but the subcommand is `connect`")
    );
}

#[test]
fn health_takes_a_url_or_a_file() {
    let (command, config) = load(&["health", "--ready", "https://h:1/mcp", "--ca-cert", "ca"]).unwrap();
    assert_eq!(command, Command::Health(Question::Ready));
    assert!(config.file.is_none() && matches!(config.role, Role::Connect(_)));
    let (_file, path) = file("mode: server\nmcp:\n  command: x\n");
    let (command, config) = load(&["health", "-c", &path]).unwrap();
    assert_eq!(command, Command::Health(Question::Up));
    assert!(matches!(config.role, Role::Serve(_)));
    assert!(error(&["health", "https://h/", "-c", &path]).contains("not both"));
    assert!(error(&["health", "-c", &path, "--ca-cert", "ca"]).contains("go with a URL"));
}
