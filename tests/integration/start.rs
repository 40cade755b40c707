//! What is wrong with a configuration is said once, clearly, before anything starts; what is right runs.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::bridge::{Guard, Serve, TOKEN};
use crate::support::certs::cert;
use crate::support::http::Http;
use crate::support::process::Process;
use crate::support::raw::{Raw, post};
use crate::support::session::{Session, initialize};
use crate::support::{BRIDGE, fixture_server, repository};

// What can't start.

#[test]
fn a_command_that_does_not_exist_is_named() {
    for command in ["no-such-mcp-server", "/no/such/mcp-server", "/etc/passwd", "/etc"] {
        let (bridge, _dir) = Serve::new(Guard::None).child(&[command]).spawn();
        refuses(bridge, 2, &["mcp.command", command]);
    }
}

#[test]
fn a_directory_that_does_not_exist_is_named() {
    let (bridge, _dir) = Serve::new(Guard::None).config("mcp:\n  dir: /no/such/directory").spawn();
    refuses(bridge, 2, &["mcp.dir", "/no/such/directory"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let bridge = run(&["serve", "--listen", &address, "--", &fixture_server()]);
    refuses(bridge, 1, &["server.listen", &address, "another program listens there"]);
}

#[test]
fn an_address_that_is_not_this_machines_is_named() {
    let bridge = run(&["serve", "--allow-insecure", "--listen", "192.0.2.1:0", "--", &fixture_server()]);
    refuses(bridge, 1, &["server.listen", "192.0.2.1:0", "no interface of this machine"]);
}

#[test]
fn a_key_that_does_not_match_its_certificate_is_named_with_it() {
    let (server, client) = (cert("server.crt"), cert("client.key"));
    let args =
        ["serve", "--listen", "127.0.0.1:0", "--cert", &server, "--key", &client, "--", &fixture_server()];
    let words = ["tls.key_file", "tls.cert_file", &server, &client, "does not belong"];
    refuses(run(&args), 2, &words);
}

#[test]
fn files_of_tls_that_are_missing_or_swapped_are_named() {
    let (certificate, key) = (cert("server.crt"), cert("server.key"));
    let cases = [
        ("/no/such.crt", &*key, ["tls.cert_file", "/no/such.crt"]),
        (&*certificate, "/no/such.key", ["tls.key_file", "/no/such.key"]),
        (&*key, &*certificate, ["tls.cert_file", "server.key"]),
    ];
    for (certificate, key, words) in cases {
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--cert",
            certificate,
            "--key",
            key,
            "--",
            &fixture_server(),
        ];
        refuses(run(&args), 2, &words);
    }
}

#[test]
fn a_configuration_that_can_not_be_read_is_named() {
    refuses(run(&["serve", "-c", "/no/such/config.yaml"]), 2, &["/no/such/config.yaml"]);
    refuses(run(&["-c", "/etc"]), 2, &["/etc"]);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_line_and_key() {
    let cases = [
        ("server:\n  listen: 127.0.0.1:0\n  max_body_sizes: 1MiB\n", ":3: ", "max_body_size"),
        ("server:\n  read_timeout: soon\n", ":2: ", "server.read_timeout"),
        ("sever:\n  listen: 127.0.0.1:0\n", ":1: ", "server"),
        ("server:\n  path: /a\n  path: /b\n", ":3: ", "path"),
        ("server:\n  path: ${NO_SUCH_VARIABLE}\n", ":2: ", "NO_SUCH_VARIABLE"),
        ("server:\n  allowed_hosts: [a b]\n", ":2: ", "server.allowed_hosts"),
        ("server: [\n", "config.yaml", ""),
        ("mode: client\n", ":1: ", "mode"),
    ];
    for (text, line, key) in cases {
        let (bridge, dir) = Serve::new(Guard::None).config(text).spawn();
        let file = dir.path().join("config.yaml");
        refuses(bridge, 2, &[file.to_str().unwrap(), line, key]);
    }
}

#[test]
fn listening_beyond_loopback_needs_tls_or_auth_or_consent() {
    let bridge = run(&["serve", "--listen", "0.0.0.0:0", "--", &fixture_server()]);
    refuses(bridge, 2, &["--listen", "neither TLS nor auth", "--allow-insecure"]);
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir, "open.yaml", "server:\n  listen: ':8080'\nmcp:\n  command: cat\n");
    refuses(run(&["serve", "-c", &file]), 2, &["open.yaml:2: server.listen", "neither TLS nor auth"]);
    let mut bridge = run(&["serve", "--listen", "0.0.0.0:0", "--allow-insecure", "--", &fixture_server()]);
    bridge.logged("anyone who reaches this address");
    bridge.logged("listening on ");
    assert_eq!(bridge.terminate().code(), Some(0));
}

#[test]
fn check_judges_a_file_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let text = format!(
        "mode: server\nserver:\n  listen: 127.0.0.1:0\ntls:\n  enabled: true\n  cert_file: {}\n  key_file: {}\n\
         mcp:\n  command: {}\n  args: [--pid-file, {}]\n",
        cert("server.crt"),
        cert("server.key"),
        fixture_server(),
        pids.display()
    );
    let file = write(&dir, "good.yaml", &text);
    let mut check = run(&["check", "-c", &file]);
    assert_eq!(check.wait().code(), Some(0));
    assert!(rest(&check).contains("the configuration can be used"));
    let mut check = run(&["check", "--json", "-c", &file]);
    assert_eq!(check.wait().code(), Some(0));
    let report: Value = serde_json::from_str(&rest(&check)).unwrap();
    assert_eq!((&report["mode"], &report["file"]), (&json!("server"), &json!(file)));
    assert!(report["openssl"].as_str().unwrap().starts_with("OpenSSL "), "{report}");
    assert!(report["tls"].is_object(), "{report}");
    assert!(!pids.exists(), "the server was started");
    for (from, to, word) in [("server.key", "client.key", "tls.key_file"), ("mcp:", "mpc:", "mcp")] {
        let file = write(&dir, "bad.yaml", &text.replace(from, to));
        for args in [&["check", "-c", &file][..], &["check", "--json", "-c", &file]] {
            refuses(run(args), 2, &[word]);
        }
    }
}

#[test]
fn check_refuses_a_log_file_that_can_not_be_opened_and_creates_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("bridge.log");
    for (output, status) in [("/nonexistent/x.log", 2), ("/etc", 2), (log.to_str().unwrap(), 0)] {
        let text =
            format!("mode: server\nmcp:\n  command: {}\nlogging:\n  output: {output}\n", fixture_server());
        let file = write(&dir, "log.yaml", &text);
        let mut check = run(&["check", "-c", &file]);
        if status == 0 {
            assert_eq!(check.wait().code(), Some(0), "{}", check.stderr());
        } else {
            refuses(check, status, &["log.yaml:5: logging.output: ", output]);
            refuses(run(&["-c", &file]), status, &["log.yaml:5: logging.output: ", output]);
        }
    }
    assert!(!log.exists());
}

// Where it listens.

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so_in_plain_text() {
    let bridge = Serve::new(Guard::Tls).start();
    for request in [post("", &initialize(&json!({}))), "GET / HTTP/1.0\r\n\r\n".to_owned()] {
        let mut raw = Raw::open(&bridge.url).await;
        raw.send(request).await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("content-type")), (400, "text/plain; charset=utf-8"));
        assert!(answer.body.contains("https://"), "{answer:?}");
        raw.closed().await;
    }
}

#[tokio::test]
async fn a_unix_socket_is_served_and_goes_with_the_bridge() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bridge.sock");
    // What a killed bridge leaves behind: a file that nobody listens on.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listen = format!("unix:{}", path.display());
    let mut bridge = run(&["serve", "--listen", &listen, "--", &fixture_server()]);
    bridge.logged("listening on ");
    let mut raw = Raw::open_unix(&path).await;
    raw.send(post("", &initialize(&json!({})))).await;
    let answer = raw.answer().await;
    assert_eq!(answer.json()["result"]["serverInfo"]["name"], "fixture-server");
    let second = run(&["serve", "--listen", &listen, "--", &fixture_server()]);
    refuses(second, 1, &["server.listen", &listen]);
    assert!(path.exists(), "a socket that is in use is not taken away");
    drop(raw);
    assert_eq!(bridge.terminate().code(), Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(&dir, "precious", "text");
    let bridge = run(&["serve", "--listen", &format!("unix:{file}"), "--", &fixture_server()]);
    refuses(bridge, 1, &["server.listen", &file]);
    assert_eq!(fs::read_to_string(file).unwrap(), "text");
}

#[tokio::test]
async fn a_socket_of_systemds_is_taken_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let bridge = activated(listener);
    bridge.logged("listening on ");
    let session = Session::open(&Http::new(&url)).await;
    assert_eq!(session.call("echo", json!({"message": "x"})).await["result"]["content"][0]["text"], "x");
    // The child must not hold the socket open, nor believe that it is for itself.
    let env = session.call("about", json!({})).await["result"]["structuredContent"]["env"].clone();
    assert!(env.get("LISTEN_FDS").is_none() && env.get("LISTEN_PID").is_none(), "{env}");
}

#[test]
fn without_a_socket_of_systemds_that_is_said() {
    let bridge = run(&["serve", "--allow-insecure", "--listen", "systemd", "--", &fixture_server()]);
    refuses(bridge, 1, &["server.listen", "systemd", ".socket unit"]);
}

// The guide.

#[tokio::test]
async fn the_guides_server_with_a_token_runs_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = guide(&dir, "complete-server.yaml");
    let bridge = Process::spawn(Command::new(BRIDGE).args(["-c", &file]).env("MCP_AUTH_TOKEN", TOKEN));
    let http = Http::new(&listening(&bridge)).trust(&cert("ca.crt"));
    assert_eq!(http.post(initialize(&json!({}))).await.status, 401);
    let wrong = http.clone().header("authorization", "Bearer wrong");
    assert_eq!(wrong.post(initialize(&json!({}))).await.status, 401);
    let session = Session::open(&http.header("authorization", &format!("Bearer {TOKEN}"))).await;
    assert_eq!(session.call("echo", json!({"message": "x"})).await["result"]["content"][0]["text"], "x");
}

#[tokio::test]
async fn the_guides_mutual_tls_runs_as_it_is_on_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let file = guide(&dir, "complete-mtls-server.yaml");
    let bridge = Process::spawn(Command::new(BRIDGE).args(["-c", &file]));
    let url = listening(&bridge);
    let http = Http::new(&url).trust(&cert("ca.crt"));
    let identity =
        |name: &str| http.clone().identity(&cert(&format!("{name}.crt")), &cert(&format!("{name}.key")));
    assert!(!answers(&http).await, "a client without a certificate came in");
    assert!(!answers(&identity("other-client")).await, "a certificate of another authority came in");
    let session = Session::open(&identity("client")).await;
    assert_eq!(session.call("echo", json!({"message": "x"})).await["result"]["content"][0]["text"], "x");

    let client = guide(&dir, "complete-mtls-client.yaml");
    let text = fs::read_to_string(&client).unwrap().replace("https://mcp.example.com:8443/mcp", &url);
    fs::write(&client, text).unwrap();
    let mut connect = Process::spawn(Command::new(BRIDGE).args(["-c", &client]));
    assert_eq!(connect.initialize()["result"]["serverInfo"]["name"], "fixture-server");
    assert_eq!(connect.call("echo", &json!({"message": "x"}))["result"]["content"][0]["text"], "x");
}

async fn answers(http: &Http) -> bool {
    http.try_request(hyper::Method::GET, "").await.is_ok()
}

/// An example of the guide with paths and port of this machine, and nothing else changed.
fn guide(dir: &TempDir, name: &str) -> String {
    let text = fs::read_to_string(repository().join("tests/data/guide").join(name)).unwrap();
    let replaced = [
        ("\":8443\"", "\"127.0.0.1:0\"".to_owned()),
        ("\":443\"", "\"127.0.0.1:0\"".to_owned()),
        ("/etc/letsencrypt/live/mcp.example.com/fullchain.pem", cert("server.crt")),
        ("/etc/letsencrypt/live/mcp.example.com/privkey.pem", cert("server.key")),
        ("/etc/mcp-bridge/tls/server.crt", cert("server.crt")),
        ("/etc/mcp-bridge/tls/server.key", cert("server.key")),
        ("/etc/mcp-bridge/tls/client-ca.crt", cert("ca.crt")),
        ("/etc/mcp-bridge/tls/server-ca.crt", cert("ca.crt")),
        ("/etc/mcp-bridge/tls/client.crt", cert("client.crt")),
        ("/etc/mcp-bridge/tls/client.key", cert("client.key")),
        ("/usr/local/bin/mcp-server", fixture_server()),
    ];
    let text = replaced.iter().fold(text, |text, (from, to)| text.replace(from, to));
    assert!(!text.contains("/etc/") && !text.contains("/usr/local/"), "{text}");
    write(dir, name, &text)
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

fn run(args: &[&str]) -> Process {
    Process::spawn(Command::new(BRIDGE).args(args))
}

/// A bridge that systemd started: `LISTEN_PID` must be its own, so a shell finds it out and becomes the bridge.
fn activated(listener: TcpListener) -> Process {
    let server = fixture_server();
    let script = format!(
        "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; \
         exec '{BRIDGE}' serve --allow-insecure --listen systemd -- '{server}'"
    );
    Process::spawn_with(Command::new("sh").args(["-c", &script]), OwnedFd::from(listener).into())
}

/// The URL that a bridge says it listens on.
fn listening(bridge: &Process) -> String {
    let line = bridge.logged("listening on ");
    line.split("listening on ").nth(1).unwrap().split([' ', ',']).next().unwrap().to_owned()
}

/// It ends with this status and one message on standard error that holds all the words.
fn refuses(mut bridge: Process, status: i32, words: &[&str]) {
    assert_eq!(bridge.wait().code(), Some(status), "{}", bridge.stderr());
    assert_eq!(bridge.next_line(), None, "standard output");
    bridge.logged("mcp-bridge: ");
    let stderr = bridge.stderr();
    let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("mcp-bridge: ")).collect();
    assert_eq!(told.len(), 1, "{stderr}");
    for word in words {
        assert!(told[0].contains(word), "{word}: {stderr}");
    }
}

/// What it printed on standard output.
fn rest(process: &Process) -> String {
    std::iter::from_fn(|| process.next_line()).collect::<Vec<_>>().join("\n")
}
