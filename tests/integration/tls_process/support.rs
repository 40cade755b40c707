//! A folder with certificates, and the program started with them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use crate::tls::pki::{DAY, Issued, Kind, Leaf, Pki, issue};
pub(crate) use crate::tls::support::has;

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::http::Http;
use crate::support::process::Process;
use crate::support::{BRIDGE, DEADLINE, fixture_server};

/// The names of a server that is reached by address, and by name where a test says so.
pub(crate) const NAMES: &[&str] = &["DNS:srv.test", "DNS:localhost", "IP:127.0.0.1"];

pub(crate) fn server_leaf() -> Leaf<'static> {
    Leaf { names: NAMES, ..Leaf::default() }
}

pub(crate) fn client_leaf() -> Leaf<'static> {
    Leaf { cn: "mcp-client", names: &[], purposes: &["clientAuth"], ..Leaf::default() }
}

/// A CA, and in its folder `srv.crt`, `srv.key`, `client.crt` and `client.key`.
pub(crate) struct Site {
    pub(crate) pki: Pki,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(&server_leaf())
    }

    pub(crate) fn with(server: &Leaf<'_>) -> Self {
        let site = Self { pki: Pki::new() };
        site.pki.identity("srv", server);
        site.pki.identity("client", &client_leaf());
        site
    }

    /// The path of a file in the folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.pki.path(name).into_os_string().into_string().unwrap()
    }

    /// Lines of a `tls` section: `$` before a name stands for the folder.
    fn section(&self, lines: &[&str]) -> String {
        let folder = format!("{}/", self.pki.dir.path().display());
        lines.iter().fold("tls:\n".to_owned(), |mut text, line| {
            writeln!(text, "  {}", line.replace('$', &folder)).unwrap();
            text
        })
    }

    /// A server's `tls` section, with `srv.crt` unless a line names another certificate.
    pub(crate) fn server_tls(&self, lines: &[&str]) -> String {
        let mut all = vec!["enabled: true"];
        for (key, line) in [("cert_file:", "cert_file: $srv.crt"), ("key_file:", "key_file: $srv.key")] {
            if !lines.iter().any(|line| line.starts_with(key)) {
                all.push(line);
            }
        }
        all.extend(lines);
        self.section(&all)
    }

    /// A `serve` that is about to start, with its log at debug.
    pub(crate) fn server(&self, lines: &[&str]) -> Serve {
        Serve::new(Guard::None).config(&self.server_tls(lines)).config("logging:\n  level: debug")
    }

    pub(crate) fn serve(&self, lines: &[&str]) -> Bridge {
        self.server(lines).start()
    }

    /// A client of our own that trusts the CA, without a certificate.
    pub(crate) fn http(&self, bridge: &Bridge) -> Http {
        Http::new(&bridge.url).trust(&self.file("ca.pem"))
    }

    /// The same with the client certificate.
    pub(crate) fn http_as_client(&self, bridge: &Bridge) -> Http {
        self.http(bridge).identity(&self.file("client.crt"), &self.file("client.key"))
    }

    /// A configuration for `connect`.
    pub(crate) fn client_config(&self, url: &str, lines: &[&str]) -> String {
        let tls = self.section(lines);
        format!("mode: client\nclient:\n  url: {url}\n  proxy: none\n{tls}logging:\n  level: debug\n")
    }

    pub(crate) fn connect(&self, url: &str, lines: &[&str]) -> Process {
        Process::spawn(&mut self.connect_command(url, lines))
    }

    pub(crate) fn connect_command(&self, url: &str, lines: &[&str]) -> Command {
        let file = self.pki.write("connect.yaml", self.client_config(url, lines).as_bytes());
        let mut command = Command::new(BRIDGE);
        command.arg("connect").arg("-c").arg(file).env_remove("OPENSSL_CONF");
        command
    }

    /// The server's configuration for `check`.
    pub(crate) fn server_config(&self, lines: &[&str]) -> String {
        let command = fixture_server();
        let tls = self.server_tls(lines);
        format!("mode: server\nserver:\n  listen: 127.0.0.1:0\nmcp:\n  command: {command}\n{tls}")
    }

    /// `check` of a configuration: its exit code and what it says.
    pub(crate) fn check(&self, config: &str, args: &[&str]) -> Said {
        let file = self.pki.write("check.yaml", config.as_bytes());
        Said::by(Command::new(BRIDGE).arg("check").arg("-c").arg(file).args(args).env_remove("OPENSSL_CONF"))
    }
}

/// A program that has ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn by(command: &mut Command) -> Self {
        Self::after(command, "")
    }

    /// With something to read on its standard input.
    pub(crate) fn after(command: &mut Command, input: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{}: {error}", self.stdout))
    }

    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// `host:port` of a bridge.
pub(crate) fn address(bridge: &Bridge) -> String {
    bridge.url.split('/').nth(2).unwrap().to_owned()
}

/// `openssl s_client` that sends a request, or what `input` says, and reads to the end.
pub(crate) fn s_client(bridge: &Bridge, args: &[&str]) -> Said {
    s_client_with(bridge, args, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", None)
}

pub(crate) fn s_client_with(bridge: &Bridge, args: &[&str], input: &str, conf: Option<&Path>) -> Said {
    // A client that waits for ever would hold the test for ever.
    let mut command = Command::new("timeout");
    command.args(["25", "openssl", "s_client", "-ign_eof", "-connect", &address(bridge)]);
    command.args(args).env_remove("OPENSSL_CONF");
    if let Some(conf) = conf {
        command.env("OPENSSL_CONF", conf);
    }
    Said::after(&mut command, input)
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many lines of the log have the text.
pub(crate) fn times(process: &Process, text: &str) -> usize {
    process.stderr().lines().filter(|line| line.contains(text)).count()
}

/// Loads anew by signal, and waits until it has happened.
pub(crate) fn hang_up(process: &Process) {
    let done = |process: &Process| times(process, LOADED) + times(process, NOT_LOADED);
    let before = done(process);
    process.signal(nix::sys::signal::Signal::SIGHUP);
    until("reload", || done(process) > before);
}

pub(crate) const LOADED: &str = "TLS: certificates, keys and trust loaded anew";
pub(crate) const NOT_LOADED: &str = "TLS: reload failed, the old files stay in force";
