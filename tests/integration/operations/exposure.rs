//! Nobody opens a server to the network, or a key to the machine, without being told.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::process::Process;
use crate::support::{BRIDGE, fixture_server};
use crate::tls_process::support::{Said, Site};

/// A `serve` on every interface, with this configuration.
fn exposed(site: &Site, config: &str) -> Process {
    let file = site
        .pki
        .write("exposed.yaml", format!("mode: server\nserver: {{listen: ':0'}}\n{config}").as_bytes());
    let mut command = Command::new(BRIDGE);
    let bridge = Process::spawn(command.args(["serve", "-c"]).arg(file).arg("--").arg(fixture_server()));
    bridge.logged("listening on ");
    bridge
}

fn warnings(bridge: &Process) -> Vec<String> {
    bridge.stderr().lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
}

#[test]
fn beyond_loopback_a_missing_half_is_a_warning_and_none_is_a_refusal() {
    let site = Site::new();
    let bearer = "auth: {type: bearer, bearer: {tokens: [secret]}}\n";
    let tls = |lines: &[&str]| site.server_tls(lines);
    let cases = [
        (tls(&[]), Some("anyone who reaches this address can use the MCP server; set `auth`")),
        (
            tls(&["client_auth: require"]),
            Some("anyone who reaches this address can use the MCP server; set `auth`"),
        ),
        (bearer.to_owned(), Some("bearer tokens cross the network unencrypted")),
        (tls(&[]) + bearer, None),
        (tls(&["client_auth: verify", "client_ca_file: $ca.pem"]), None),
    ];
    for (config, warning) in cases {
        let told = warnings(&exposed(&site, &config));
        match warning {
            Some(warning) => assert!(told.len() == 1 && told[0].contains(warning), "{config}: {told:?}"),
            None => assert!(told.is_empty(), "{config}: {told:?}"),
        }
    }
    let refused =
        Said::by(Command::new(BRIDGE).args(["serve", "--listen", ":0", "--"]).arg(fixture_server()));
    assert_eq!(refused.code, Some(2), "{}", refused.all());
    assert!(refused.stderr.contains("neither TLS nor auth"), "{}", refused.all());
}

#[test]
fn a_key_that_others_can_read_is_a_warning() {
    let site = Site::new();
    let key = site.file("srv.key");
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let said = site.check(&site.server_config(&[]), &[]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        let words = format!("tls.key_file {key}: every user of this machine can read it (mode {mode:04o})");
        assert_eq!(said.stdout.contains(&words), warned, "{mode:o}: {}", said.all());
    }
}
