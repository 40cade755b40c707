//! The bridge as a process: `serve` on a free port, and `connect` to it.

use std::ops::{Deref, DerefMut};
use std::process::Command;

use tempfile::TempDir;

use super::certs::cert;
use super::http::Http;
use super::process::Process;
use super::{BRIDGE, fixture_server};

/// The environment variable that holds the bearer token, on both sides.
pub(crate) const TOKEN_VARIABLE: &str = "MCP_BRIDGE_TEST_TOKEN";
pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

/// What stands between client and server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Guard {
    /// Plain HTTP.
    None,
    /// HTTPS with a certificate of our own authority.
    Tls,
    /// HTTPS, and the client needs a certificate too.
    Mutual,
    /// HTTPS, and the client needs a token.
    Bearer,
}

/// A `serve` that is about to start: the fixture server over plain HTTP, unless told otherwise.
pub(crate) struct Serve {
    guard: Guard,
    child: Vec<String>,
    config: String,
    args: Vec<String>,
    envs: Vec<(String, String)>,
}

impl Serve {
    pub(crate) fn new(guard: Guard) -> Self {
        let config = match guard {
            Guard::Bearer => {
                format!("auth:\n  type: bearer\n  bearer:\n    tokens: [\"${{{TOKEN_VARIABLE}}}\"]\n")
            }
            _ => String::new(),
        };
        Self { guard, child: vec![fixture_server()], config, args: Vec::new(), envs: Vec::new() }
    }

    /// The child's command instead of the fixture server.
    pub(crate) fn child<S: AsRef<str>>(mut self, command: &[S]) -> Self {
        self.child = command.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// One more argument of the child.
    pub(crate) fn child_arg(mut self, arg: &str) -> Self {
        self.child.push(arg.to_owned());
        self
    }

    /// More lines of the configuration file, from the first column on.
    pub(crate) fn config(mut self, yaml: &str) -> Self {
        self.config.push_str(yaml);
        self.config.push('\n');
        self
    }

    /// More arguments of the bridge.
    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(str::to_owned));
        self
    }

    /// One more argument of the bridge.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The process, which may also be one that ends at once.
    pub(crate) fn spawn(self) -> (Process, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(BRIDGE);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        if !self.config.is_empty() {
            let file = dir.path().join("config.yaml");
            std::fs::write(&file, &self.config).unwrap();
            command.arg("-c").arg(file);
        }
        if self.guard != Guard::None {
            command.args(["--cert", &cert("server.crt"), "--key", &cert("server.key")]);
        }
        if self.guard == Guard::Mutual {
            command.args(["--client-ca", &cert("ca.crt"), "--client-auth", "verify"]);
        }
        command.args(self.args).env(TOKEN_VARIABLE, TOKEN).envs(self.envs);
        command.arg("--").args(self.child);
        (Process::spawn(&mut command), dir)
    }

    /// The bridge, listening.
    pub(crate) fn start(self) -> Bridge {
        const MARK: &str = "listening on ";
        let guard = self.guard;
        let (process, dir) = self.spawn();
        let line = process.logged(MARK);
        let url = line.split(MARK).nth(1).unwrap().split([' ', ',', '"']).next().unwrap().to_owned();
        Bridge { process, url, guard, dir }
    }
}

pub(crate) struct Bridge {
    process: Process,
    pub(crate) url: String,
    guard: Guard,
    dir: TempDir,
}

impl Bridge {
    pub(crate) fn serve(guard: Guard) -> Self {
        Serve::new(guard).start()
    }

    /// A client that may enter.
    pub(crate) fn http(&self) -> Http {
        let http = Http::new(&self.url);
        match self.guard {
            Guard::None => http,
            Guard::Tls => http.trust(&cert("ca.crt")),
            Guard::Mutual => http.trust(&cert("ca.crt")).identity(&cert("client.crt"), &cert("client.key")),
            Guard::Bearer => http.trust(&cert("ca.crt")).header("authorization", &format!("Bearer {TOKEN}")),
        }
    }

    /// The command of a `connect` that may enter.
    pub(crate) fn connect_command(&self) -> Vec<String> {
        self.connect_command_to("/mcp")
    }

    /// The same, to another path of the bridge.
    pub(crate) fn connect_command_to(&self, path: &str) -> Vec<String> {
        let url = format!("{}{path}", self.url.trim_end_matches("/mcp"));
        let mut command: Vec<String> = vec![BRIDGE.into(), "connect".into(), url];
        match self.guard {
            Guard::None => {}
            Guard::Tls => command.extend(["--ca-cert".into(), cert("ca.crt")]),
            Guard::Mutual => command.extend([
                "--ca-cert".into(),
                cert("ca.crt"),
                "--cert".into(),
                cert("client.crt"),
                "--key".into(),
                cert("client.key"),
            ]),
            Guard::Bearer => {
                command.extend([
                    "--ca-cert".into(),
                    cert("ca.crt"),
                    "--token-file".into(),
                    self.token_file(),
                ]);
            }
        }
        command
    }

    /// A file with the token; some hosts of stdio servers pass no environment on.
    fn token_file(&self) -> String {
        let file = self.dir.path().join("token");
        std::fs::write(&file, TOKEN).unwrap();
        file.into_os_string().into_string().unwrap()
    }

    /// A `connect` to this bridge.
    pub(crate) fn connect(&self) -> Process {
        let command = self.connect_command();
        Process::spawn(Command::new(&command[0]).args(&command[1..]).env(TOKEN_VARIABLE, TOKEN))
    }
}

impl Deref for Bridge {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Bridge {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
