//! Under a service manager, and as process 1 of a container.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::support::bridge::{Guard, Serve};
use crate::support::http::Http;
use crate::support::proc::{children, command_line, is_alive};
use crate::support::process::Process;
use crate::support::raw::{Raw, post};
use crate::support::session::{Session, initialize};
use crate::support::{BRIDGE, DEADLINE, eventually, fixture_server, skipped};

/// What a service manager listens on.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, dir }
    }

    fn path(&self) -> String {
        self.dir.path().join("notify").into_os_string().into_string().unwrap()
    }

    /// The next message that holds this.
    fn told(&self, text: &str) -> String {
        let mut seen = String::new();
        loop {
            let mut buffer = [0; 4096];
            let read = self.socket.recv(&mut buffer);
            let n = read.unwrap_or_else(|error| panic!("{error}: not told `{text}`, but:\n{seen}"));
            let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if message.contains(text) {
                return message;
            }
            seen.push_str(&message);
        }
    }
}

fn lines(message: &str) -> Vec<&str> {
    message.lines().collect()
}

#[tokio::test]
async fn the_service_manager_is_told_of_every_state() {
    let manager = Manager::new();
    let mut bridge = Serve::new(Guard::None)
        .config("server:\n  shutdown_timeout: 1h")
        .env("NOTIFY_SOCKET", &manager.path())
        .env("WATCHDOG_USEC", "200000")
        .start();
    let status = format!("STATUS=listening on {}", bridge.url);
    assert_eq!(lines(&manager.told("READY=1")), ["READY=1", &status]);
    for _ in 0..3 {
        manager.told("WATCHDOG=1");
    }
    bridge.signal(Signal::SIGHUP);
    let reloading = manager.told("RELOADING=1");
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("a time");
    assert!(since.parse::<u64>().unwrap() > 0, "{reloading}");
    assert_eq!(lines(&manager.told("READY=1")), ["READY=1", &status]);
    let session = Session::open(&bridge.http()).await;
    let env = session.call("about", json!({})).await["result"]["structuredContent"]["env"].clone();
    assert!(env.get("NOTIFY_SOCKET").is_none() && env.get("WATCHDOG_USEC").is_none(), "{env}");
    let mut waits = session.start_call("never", json!({}), "t").await;
    waits.next_message().await.unwrap();
    bridge.signal(Signal::SIGTERM);
    assert_eq!(lines(&manager.told("STOPPING=1")), ["STOPPING=1", "STATUS=finishing what is in flight"]);
    // Alive to the end.
    manager.told("WATCHDOG=1");
    bridge.signal(Signal::SIGTERM);
    manager.told("STATUS=ending now");
    assert_eq!(bridge.wait().code(), Some(0));
}

#[tokio::test]
async fn a_reload_that_failed_is_in_the_status() {
    let manager = Manager::new();
    let file = manager.dir.path().join("bridge.yaml");
    std::fs::write(&file, format!("mode: server\nmcp: {{command: {}}}\n", fixture_server())).unwrap();
    let mut command = Command::new(BRIDGE);
    command.args(["serve", "--listen", "127.0.0.1:0", "-c"]).arg(&file).env("NOTIFY_SOCKET", manager.path());
    let bridge = Process::spawn(&mut command);
    manager.told("READY=1");
    std::fs::write(&file, "mode: server\nnonsense: 1\n").unwrap();
    bridge.signal(Signal::SIGHUP);
    let ready = manager.told("READY=1");
    assert!(
        ready.contains("the last reload failed: ") && ready.contains("bridge.yaml:2: nonsense"),
        "{ready}"
    );
    assert_eq!(lines(&ready).len(), 2, "{ready}");
}

#[tokio::test]
async fn a_start_that_fails_is_not_called_ready() {
    let manager = Manager::new();
    let (mut bridge, _dir) = Serve::new(Guard::None)
        .config("server:\n  path: nonsense")
        .env("NOTIFY_SOCKET", &manager.path())
        .spawn();
    assert_eq!(bridge.wait().code(), Some(2));
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
}

#[tokio::test]
async fn systemds_own_activation_hands_its_socket_over() {
    if Command::new("systemd-socket-activate").arg("--version").output().is_err() {
        return skipped("the test with systemd-socket-activate, not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bridge.sock");
    let mut command = Command::new("systemd-socket-activate");
    command.arg("-l").arg(&path).args([BRIDGE, "serve", "--allow-insecure", "--listen", "systemd", "--"]);
    let mut bridge = Process::spawn(command.arg(fixture_server()));
    eventually("the socket", || path.exists().then_some(())).await;
    let mut raw = Raw::open_unix(&path).await;
    raw.send(post("", &initialize(&json!({})))).await;
    assert_eq!(raw.answer().await.json()["result"]["serverInfo"]["name"], "fixture-server");
    drop(raw);
    assert_eq!(bridge.terminate().code(), Some(0));
    assert!(path.exists(), "the socket is the service manager's");
}

#[tokio::test]
async fn a_unix_socket_has_the_mode_that_is_configured() {
    for (config, mode) in [("", 0o660), ("server: {socket_mode: 0600}", 0o600)] {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("bridge.sock"), dir.path().join("bridge.yaml"));
        std::fs::write(&file, format!("mode: server\n{config}\n")).unwrap();
        let mut command = Command::new(BRIDGE);
        command.args(["serve", "--listen", &format!("unix:{}", path.display()), "-c"]).arg(&file);
        let bridge = Process::spawn(command.arg("--").arg(fixture_server()));
        bridge.logged("listening on ");
        assert_eq!(mode_of(&path), mode, "{config}");
    }
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// The bridge as process 1 of a namespace of its own, where this user may make one.
fn as_process_1(dir: &TempDir) -> Option<(Process, u32, String)> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        skipped("the tests as process 1, this user can't make a namespace of processes");
        return None;
    }
    let file = dir.path().join("bridge.yaml");
    std::fs::write(&file, "mode: server\nserver: {listen: '127.0.0.1:0'}\nlogging: {level: debug}\n")
        .unwrap();
    let mut command = unshare();
    command.args([BRIDGE, "serve", "-c"]).arg(&file).arg("--").arg(fixture_server());
    let process = Process::spawn(&mut command);
    let line = process.logged("listening on ");
    let url = line.split("listening on ").nth(1).unwrap().to_owned();
    let bridge = children(process.pid()).first().map(|(pid, _)| *pid).expect("the bridge");
    assert!(command_line(bridge).contains("serve"), "{}", command_line(bridge));
    Some((process, bridge, url))
}

#[tokio::test]
async fn process_1_reaps_orphans_and_still_knows_how_its_own_children_ended() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut process, bridge, url)) = as_process_1(&dir) else { return };
    let http = Http::new(&url);
    let session = Session::open(&http).await;
    for _ in 0..3 {
        // It outlives its parent, and then ends by itself.
        session.call("spawn_grandchild", json!({"seconds": 1, "own_group": true})).await;
    }
    let died = session.call("die", json!({"status": 3})).await;
    assert!(died["error"]["message"].as_str().unwrap().contains("exited with status 3"), "{died}");
    process.logged("an orphaned process was waited for");
    eventually("no child and no zombie", || children(bridge).is_empty().then_some(())).await;
    // Children that end at once, over and over, while orphans come and go.
    for n in 1..40 {
        let session = Session::open(&http).await;
        session.call("spawn_grandchild", json!({"seconds": 0, "own_group": true})).await;
        let died = session.call("die", json!({"status": n})).await;
        let told = died["error"]["message"].as_str().unwrap().to_owned();
        assert!(told.ends_with(&format!("exited with status {n}")), "{told}");
    }
    eventually("no child and no zombie", || children(bridge).is_empty().then_some(())).await;
    kill(Pid::from_raw(i32::try_from(bridge).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
}

#[tokio::test]
async fn process_1_ends_in_good_order_and_at_once_at_the_second_signal() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut process, bridge, url)) = as_process_1(&dir) else { return };
    let session = Session::open(&Http::new(&url)).await;
    let mut waits = session.start_call("never", json!({}), "t").await;
    waits.next_message().await.unwrap();
    let server = children(bridge).first().map(|(pid, _)| *pid).expect("a child");
    let pid = Pid::from_raw(i32::try_from(bridge).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    process.logged("finishing what is in flight");
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(waits.next_message().await.unwrap()["error"].is_object());
    assert_eq!(process.wait().code(), Some(0));
    assert!(!is_alive(server));
}
