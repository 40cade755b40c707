//! A zoo of good and bad certificates, judged by the bridge and by OpenSSL's own client and server.
//!
//! The zoo is beside the repository (`../shared/certs`, or where `MCP_BRIDGE_ZOO` says), and not part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::support::{Said, address};
use crate::support::bridge::{Guard, Serve};
use crate::support::{BRIDGE, repository, skipped};

/// OpenSSL's own client takes `f*.wild.test` for `foo.wild.test`, which RFC 9525, section 6.3 forbids.
const STRICTER: [&str; 1] = ["s-wild-partial"];

struct Zoo {
    scripts: PathBuf,
    dir: TempDir,
}

fn zoo() -> Option<&'static Zoo> {
    static ZOO: OnceLock<Option<Zoo>> = OnceLock::new();
    ZOO.get_or_init(|| {
        let place = std::env::var_os("MCP_BRIDGE_ZOO")
            .map_or_else(|| repository().join("../shared/certs"), PathBuf::from);
        let scripts = place.canonicalize().ok().filter(|place| place.join("zoo_run.py").exists());
        let Some(scripts) = scripts else {
            skipped(&format!("the tests with the certificate zoo, not at {}", place.display()));
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let said = Said::by(Command::new("bash").arg(scripts.join("zoo.sh")).arg(dir.path().join("zoo")));
        assert_eq!(said.code, Some(0), "{}", said.all());
        Some(Zoo { scripts, dir })
    })
    .as_ref()
}

/// Who accepts what: the certificate's id → accepted or not; what could not be shown is left out.
type Verdicts = BTreeMap<String, bool>;

impl Zoo {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("zoo").join(name)
    }

    fn run(&self, side: &str, name: &str, args: &[&str]) -> Verdicts {
        let out = self.dir.path().join(format!("{side}-{name}.tsv"));
        let said = Said::by(
            Command::new("python3")
                .arg(self.scripts.join("zoo_run.py"))
                .args([side, "-q", "--name", name, "--timeout", "30", "--zoo"])
                .arg(self.file("."))
                .arg("--out")
                .arg(&out)
                .args(args)
                .env_remove("OPENSSL_CONF"),
        );
        assert_eq!(said.code, Some(0), "{}", said.all());
        verdicts(&out)
    }
}

fn verdicts(file: &Path) -> Verdicts {
    let table = std::fs::read(file).unwrap();
    let table = String::from_utf8_lossy(&table);
    let rows = table.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter_map(|row| match row[2] {
        "accept" => Some((row[0].to_owned(), true)),
        // An HTTP status is an answer on a connection that came about.
        "reject" => Some((row[0].to_owned(), row[3].starts_with("HTTP "))),
        _ => None,
    })
    .collect()
}

fn compare(what: &str, ours: &Verdicts, openssl: &Verdicts, least: usize) {
    assert!(openssl.len() >= least && openssl.values().any(|&yes| yes) && openssl.values().any(|&yes| !yes));
    let differ = |id: &str| openssl.get(id) != ours.get(id) && !STRICTER.contains(&id);
    let differing: Vec<_> = openssl.keys().chain(ours.keys()).filter(|id| differ(id)).collect();
    assert!(differing.is_empty(), "{what}: {differing:?}\nours: {ours:?}\nOpenSSL's: {openssl:?}");
    assert!(STRICTER.iter().all(|id| ours.get(*id) != Some(&true)));
}

#[test]
fn connect_judges_servers_as_openssl_does() {
    let Some(zoo) = zoo() else { return };
    let script = repository().join("tests/support/zoo_client.sh").display().to_string();
    let command = format!("{script} {BRIDGE} {{ca}} {{port}} {{host}}");
    compare(
        "servers",
        &zoo.run("client", "connect", &["--cmd", &command]),
        &zoo.run("client", "s_client", &[]),
        70,
    );
    let command = format!("{command} {{crl}}");
    compare(
        "servers, with revocation lists",
        &zoo.run("client", "connect-crl", &["--cmd", &command]),
        &zoo.run("client", "s_client-crl", &[]),
        70,
    );
}

#[test]
fn serve_judges_clients_as_openssl_does() {
    let Some(zoo) = zoo() else { return };
    for (crl, reference) in [(false, "s_server"), (true, "s_server-crl")] {
        let path = |name: &str| zoo.file(name).display().to_string();
        let mut config = format!(
            "tls:\n  enabled: true\n  cert_file: {}\n  key_file: {}\n  client_auth: verify\n  client_ca_file: {}\n",
            path("s-good-rsa.crt"),
            path("s-good-rsa.key"),
            path("root.crt")
        );
        if crl {
            config.extend(["  crl_file: ", &path("root-with-crls.pem"), "\n"]);
        }
        let bridge = Serve::new(Guard::None).config(&config).start();
        let address = address(&bridge);
        let port = address.rsplit(':').next().unwrap();
        for version in ["1.2", "1.3"] {
            let ours = zoo.run("server", &format!("serve-{crl}"), &["--port", port, "--tls", version]);
            let openssl = zoo.run("server", reference, &["--tls", version]);
            compare(&format!("clients, {version}, CRL {crl}"), &ours, &openssl, 40);
        }
    }
}
