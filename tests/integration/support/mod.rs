//! What the tests share: the bridge and other programs as guarded processes, certificates, and a client that shows
//! HTTP as it is on the wire.

pub(crate) mod bridge;
pub(crate) mod certs;
pub(crate) mod connect;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod modern;
pub(crate) mod proc;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod remote;
pub(crate) mod scripted;
pub(crate) mod session;
pub(crate) mod sse;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use self::bridge::{Bridge, Guard};
use self::http::Http;

/// How long anything that a test waits for may take: far more than it does on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const BRIDGE: &str = env!("CARGO_BIN_EXE_mcp-bridge");

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `tests/support/fixture_server`, which `cargo test` builds as an example beside the bridge.
pub(crate) fn fixture_server() -> String {
    example("fixture-server")
}

pub(crate) fn example(name: &str) -> String {
    let path: PathBuf = Path::new(BRIDGE).parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: `cargo build --examples` makes it", path.display());
    path.into_os_string().into_string().unwrap()
}

/// The result of what must not take forever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(DEADLINE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Waits until `probe` finds something, however often it must look.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            match probe() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    within(what, look).await
}

/// Runs a test over each way to a `serve` of the fixture server: plain and mutual TLS, HTTP/1.1 and HTTP/2.
pub(crate) async fn each_way(test: impl AsyncFn(Http)) {
    for guard in [Guard::None, Guard::Mutual] {
        let bridge = Bridge::serve(guard);
        test(bridge.http()).await;
        test(bridge.http().http2()).await;
        ended(bridge).await;
    }
}

/// Ends a bridge while its clients still run: one that is not polled can't take leave of HTTP/2.
pub(crate) async fn ended(bridge: Bridge) {
    tokio::task::spawn_blocking(move || drop(bridge)).await.unwrap();
}

/// Says once for each reason why tests are skipped. That goes past the test runner's capture: a skipped test must not look
/// like a passed one.
pub(crate) fn skipped(why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap().insert(why.to_owned()) {
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
    }
}

/// The folder that `tests/NAME/setup.sh` filled and `variable` names; without one, says that the tests of `what` are
/// skipped.
pub(crate) fn installed(variable: &str, what: &str, name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os(variable).map(PathBuf::from);
    let directory = directory.filter(|directory| directory.join(".installed").exists());
    if directory.is_none() {
        let how =
            format!("tests/{name}/setup.sh target/{name} && {variable}=$PWD/target/{name} cargo test {name}");
        skipped(&format!("the tests with {what}, not installed ({how})"));
    }
    directory
}

/// The folder that `scripts/fips-provider.sh` filled; without one, says that the tests are skipped.
pub(crate) fn fips_provider() -> Option<PathBuf> {
    let directory = std::env::var_os("MCP_BRIDGE_FIPS_DIR").map(PathBuf::from);
    if directory.is_none() {
        skipped(
            "the tests of FIPS mode, MCP_BRIDGE_FIPS_DIR names no provider (scripts/fips-provider.sh DIR makes one)",
        );
    }
    directory
}
