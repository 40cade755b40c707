//! `connect` as a process, beside a remote server that a test scripts.

use std::ops::{Deref, DerefMut};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::BRIDGE;
use super::certs::cert;
use super::process::Process;
use super::remote::{Remote, Request};

pub(crate) const VERSION: &str = "2025-11-25";

/// A `connect` that is about to start. Its environment names no proxy unless told so.
pub(crate) struct Connect {
    url: String,
    ca: Option<String>,
    config: String,
    args: Vec<String>,
    envs: Vec<(String, String)>,
}

impl Connect {
    pub(crate) fn to(url: &str) -> Self {
        let ca = url.starts_with("https:").then(|| cert("ca.crt"));
        Self { url: url.to_owned(), ca, config: String::new(), args: Vec::new(), envs: Vec::new() }
    }

    /// Another authority to trust than the one of `certs-fixtures`.
    pub(crate) fn trust(mut self, ca: &str) -> Self {
        self.ca = Some(ca.to_owned());
        self
    }

    /// More lines of the configuration file, from the first column on.
    pub(crate) fn config(mut self, yaml: &str) -> Self {
        self.config.push_str(yaml);
        self.config.push('\n');
        self
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(str::to_owned));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, and the folder that must live as long as it.
    pub(crate) fn command(self) -> (Command, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, format!("mode: client\n{}", self.config)).unwrap();
        let mut command = Command::new(BRIDGE);
        command.arg("connect").arg(self.url).arg("-c").arg(file).args(self.args);
        if let Some(ca) = self.ca {
            command.args(["--ca-cert", &ca]);
        }
        for scheme in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(scheme).env_remove(scheme.to_lowercase());
        }
        command.envs(self.envs);
        (command, dir)
    }

    pub(crate) fn start(self) -> Client {
        let (mut command, dir) = self.command();
        Client { process: Process::spawn(&mut command), _dir: dir }
    }
}

pub(crate) struct Client {
    process: Process,
    _dir: TempDir,
}

impl Client {
    pub(crate) fn ask(&mut self, id: impl Into<Value>, method: &str, params: &Value) {
        self.message(&json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}));
    }

    pub(crate) fn notify(&mut self, method: &str, params: &Value) {
        self.message(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    pub(crate) fn message(&mut self, message: &Value) {
        self.process.send(&message.to_string());
    }

    /// The next message, which is the bridge's own error to that request; its text.
    pub(crate) fn own_error(&self, id: impl Into<Value>) -> String {
        let message = self.next_message();
        assert_eq!(message["id"], id.into(), "{message}");
        assert_eq!(message["error"]["code"], -32603, "{message}");
        assert_eq!(message["error"]["data"]["source"], "mcp-bridge", "{message}");
        message["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Deref for Client {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Both, with a session open. The server goes first at the end, so that nobody waits for its last answers.
pub(crate) struct Pair {
    pub(crate) remote: Remote,
    pub(crate) client: Client,
}

impl Pair {
    /// Over plain HTTP, with no stream of the server's own.
    pub(crate) fn open() -> Self {
        Self::open_with(Remote::plain(), |connect| connect)
    }

    pub(crate) fn open_with(remote: Remote, change: impl FnOnce(Connect) -> Connect) -> Self {
        let pair = Self::listening(remote, change);
        pair.remote.get().respond("405 Method Not Allowed", &[], b"");
        pair
    }

    /// As `open_with`, where the test answers the GET.
    pub(crate) fn listening(remote: Remote, change: impl FnOnce(Connect) -> Connect) -> Self {
        let mut client = change(Connect::to(&remote.url)).start();
        client.ask("init", "initialize", &initialize_params());
        opened(remote.asked("initialize"), "session-1");
        assert_eq!(client.next_message()["result"]["protocolVersion"], VERSION);
        client.notify("notifications/initialized", &json!({}));
        remote.asked("notifications/initialized").accepted();
        Self { remote, client }
    }
}

pub(crate) fn initialize_params() -> Value {
    json!({
        "protocolVersion": VERSION,
        "capabilities": {"roots": {"listChanged": true}},
        "clientInfo": {"name": "a client of its own", "version": "7"},
    })
}

/// Answers `initialize` and names the session.
pub(crate) fn opened(request: Request, session: &str) {
    opened_in(request, session, VERSION);
}

pub(crate) fn opened_in(request: Request, session: &str, version: &str) {
    let result =
        json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
    let answer = json!({"jsonrpc": "2.0", "id": request.message()["id"], "result": result});
    let session = format!("mcp-session-id: {session}");
    request.respond("200 OK", &["content-type: application/json", &session], answer.to_string().as_bytes());
}

/// Waits for what shows in the system only, and so has to be looked at again and again.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + super::DEADLINE;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within {:?}", super::DEADLINE);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
