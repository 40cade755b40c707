//! Several bridges behind HAProxy, as `packaging/haproxy/haproxy.cfg` has it, with TLS on both legs: load is spread,
//! sessions stay where they are, and whoever ends takes nobody along.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use hyper::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinHandle, block_in_place};

use crate::support::bridge::{Bridge, Guard, Serve};
use crate::support::certs::cert;
use crate::support::http::{Http, Response};
use crate::support::modern::{CAPABILITIES_KEY, Modern, Request};
use crate::support::process::Process;
use crate::support::session::{Session, VERSION, initialize};
use crate::support::{eventually, repository, skipped, within};

const BRIDGES: usize = 3;

/// How many clients there are under load.
const CLIENTS: usize = 4;

#[tokio::test]
async fn load_goes_to_all_bridges_and_a_session_stays_with_one() {
    let Some(cluster) = Cluster::start(Servers::Legacy) else { return };
    let mut served_by = BTreeSet::new();
    for _ in 0..2 * BRIDGES {
        let session = Session::open(&cluster.http).await;
        let name = served(&session).await;
        for _ in 0..4 {
            assert_eq!(served(&session).await, name);
        }
        served_by.insert(name);
    }
    assert_eq!(served_by.len(), BRIDGES, "{served_by:?}");
    let sessions = cluster.http.clone().http2();
    let session = Session::open(&sessions).await;
    assert_eq!(served(&session).await, served(&session).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_bridge_is_a_404_for_its_sessions_and_nothing_for_others() {
    let Some(mut cluster) = Cluster::start(Servers::Legacy) else { return };
    let sessions = cluster.one_session_each().await;
    cluster.bridges[0].signal(Signal::SIGKILL);
    block_in_place(|| cluster.bridges[0].wait());
    for (name, session) in &sessions {
        if name == "bridge1" {
            assert_eq!(session.start("ping", &json!({})).await.status, 404);
        } else {
            assert_eq!(&served(session).await, name);
        }
    }
    for _ in 0..4 * BRIDGES {
        let session = Session::open(&cluster.http).await;
        assert_ne!(served(&session).await, "bridge1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_shuts_down_finishes_its_calls_and_others_take_over() {
    let Some(mut cluster) = Cluster::start(Servers::Legacy) else { return };
    let sessions = cluster.one_session_each().await;
    let session = &sessions["bridge1"];
    let mut call = session.start_call("sample", json!({}), "t").await;
    let question = call.next_message().await.unwrap();
    assert_eq!(question["method"], "sampling/createMessage");

    cluster.bridges[0].signal(Signal::SIGTERM);
    block_in_place(|| cluster.haproxy.logged("bridge1 is DOWN"));
    for _ in 0..4 * BRIDGES {
        assert_ne!(served(&Session::open(&cluster.http).await).await, "bridge1");
    }
    let answer = json!({"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"});
    session.answer(&question, answer).await;
    let result = call.messages().await.pop().unwrap();
    assert!(result["result"].is_object(), "{result}");
    assert!(block_in_place(|| cluster.bridges[0].wait()).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_request() {
    let Some(mut cluster) = Cluster::start(Servers::Legacy) else { return };
    let load = Load::start(&cluster.http, visit);
    roll(&mut cluster, &load).await;
    let failures = load.end().await;
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test]
async fn a_modern_request_goes_to_any_bridge_when_the_servers_are_modern() {
    let Some(cluster) = Cluster::start(Servers::Modern) else { return };
    for http in [cluster.http.clone(), cluster.http.clone().http2()] {
        let mut served_by = BTreeSet::new();
        for _ in 0..20 * BRIDGES {
            served_by.insert(answered_by(&Modern(http.clone())).await);
        }
        assert_eq!(served_by.len(), BRIDGES, "{served_by:?}");
    }
}

#[tokio::test]
async fn a_call_that_asks_its_client_is_found_again_when_the_servers_are_legacy() {
    let Some(cluster) = Cluster::start(Servers::Legacy) else { return };
    let mut served_by = BTreeSet::new();
    for number in 0..4 * BRIDGES {
        let token = format!("Bearer {}", token(number));
        let client = Modern(cluster.http.clone().header("authorization", &token));
        let call = || {
            Request::call(1, "elicit", json!({"message": "Who?"}))
                .meta(CAPABILITIES_KEY, json!({"elicitation": {}}))
        };
        let asked = client.request(&call()).await;
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let (key, _) = asked["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
        let mut retry = call();
        retry.0["params"]["requestState"] = asked["result"]["requestState"].clone();
        retry.0["params"]["inputResponses"] = json!({ key: {"action": "accept", "content": {"name": "x"}} });
        let done = client.request(&retry).await;
        assert_eq!(done["result"]["structuredContent"]["result"]["content"]["name"], "x", "{done}");
        served_by.insert(answered_by(&client).await);
    }
    assert!(served_by.len() > 1, "all clients at one bridge: {served_by:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_modern_request() {
    for servers in [Servers::Modern, Servers::Legacy] {
        let Some(mut cluster) = Cluster::start(servers) else { return };
        let load = Load::start(&cluster.http, call_once);
        roll(&mut cluster, &load).await;
        let failures = load.end().await;
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_bridge_fails_no_modern_client_that_only_reads() {
    let Some(mut cluster) = Cluster::start(Servers::Modern) else { return };
    let load = Load::start(&cluster.http, list_tools);
    for number in 0..BRIDGES {
        load.everyone_served_again().await;
        cluster.bridges[number].signal(Signal::SIGKILL);
        block_in_place(|| cluster.bridges[number].wait());
        load.everyone_served_again().await;
        block_in_place(|| cluster.restart(number));
    }
    let failures = load.end().await;
    assert!(failures.is_empty(), "{failures:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_dead_bridge_was_at_is_not_done_again() {
    let Some(mut cluster) = Cluster::start(Servers::Modern) else { return };
    let client = Modern(cluster.http.clone());
    let asked = tokio::spawn(async move { client.post(&Request::call(1, "never", json!({}))).await.status });
    within("the call", cluster.one_in_flight()).await;
    for bridge in &mut cluster.bridges {
        bridge.signal(Signal::SIGKILL);
        block_in_place(|| bridge.wait());
    }
    // Sent again, it would have found no bridge, which is a 503.
    assert_eq!(asked.await.unwrap(), 502);
}

/// The name of the bridge that answered a call.
async fn answered_by(client: &Modern) -> String {
    name_in(&client.call("about", json!({})).await)
}

/// A modern client that calls a tool.
async fn call_once(http: Http) -> Outcome {
    let arguments = json!({"message": "hello"});
    let answer = Modern(http).try_request(&Request::call(1, "echo", arguments)).await;
    match answer {
        Ok(answer) if answer["result"]["content"][0]["text"] == "hello" => Outcome::Served,
        Ok(answer) => Outcome::Failed(answer.to_string()),
        Err(error) => Outcome::Failed(error),
    }
}

/// A modern client that reads what the server has.
async fn list_tools(http: Http) -> Outcome {
    match Modern(http).try_request(&Request::new(1, "tools/list", json!({}))).await {
        Ok(answer) if answer["result"]["tools"].is_array() => Outcome::Served,
        Ok(answer) => Outcome::Failed(answer.to_string()),
        Err(error) => Outcome::Failed(error),
    }
}

/// Restarts one bridge after the other.
async fn roll(cluster: &mut Cluster, load: &Load) {
    load.everyone_served_again().await;
    for number in 0..BRIDGES {
        block_in_place(|| assert!(cluster.bridges[number].terminate().success()));
        load.everyone_served_again().await;
        block_in_place(|| cluster.restart(number));
        load.everyone_served_again().await;
    }
}

/// What a client under load sees.
enum Outcome {
    Served,
    /// Its session is gone, which the protocol answers with 404; it starts anew.
    Lost,
    Failed(String),
}

/// A client that comes, calls a tool and goes.
async fn visit(http: Http) -> Outcome {
    let opened = match http.try_post(initialize(&json!({}))).await {
        Ok(response) if response.status == 200 => response,
        other => return Outcome::Failed(format!("initialize: {}", told(other).await)),
    };
    let id = opened.header("mcp-session-id").to_owned();
    drop(opened.messages().await);
    let http = http.header("mcp-session-id", &id).header("mcp-protocol-version", VERSION);
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let params = json!({"name": "echo", "arguments": {"message": "hello"}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    for (message, expected) in [(initialized, StatusCode::ACCEPTED), (call, StatusCode::OK)] {
        match http.try_post(message.to_string()).await {
            Ok(response) if response.status == 404 => return Outcome::Lost,
            Ok(response) if response.status == expected => {
                if expected == StatusCode::OK {
                    let answer = response.messages().await.pop().unwrap_or_default();
                    if answer["result"]["content"][0]["text"] != "hello" {
                        return Outcome::Failed(format!("call: {answer}"));
                    }
                }
            }
            other => return Outcome::Failed(format!("{message}: {}", told(other).await)),
        }
    }
    http.delete().await;
    Outcome::Served
}

async fn told(response: Result<Response, String>) -> String {
    match response {
        Ok(response) => {
            let status = response.status;
            format!("{status}: {}", response.text().await)
        }
        Err(error) => error,
    }
}

/// Clients that come again and again.
struct Load {
    clients: Vec<JoinHandle<Vec<String>>>,
    stop: Arc<AtomicBool>,
    /// Whether each client has got what it gets since somebody last asked.
    served: Vec<Arc<AtomicBool>>,
}

impl Load {
    /// `visit` is one client's coming and going, through whatever era of the protocol.
    fn start<F: Future<Output = Outcome> + Send + 'static>(http: &Http, visit: fn(Http) -> F) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let served: Vec<_> = (0..CLIENTS).map(|_| Arc::new(AtomicBool::new(false))).collect();
        let clients = served.iter().map(|served| {
            let (http, stop, served) = (http.clone(), Arc::clone(&stop), Arc::clone(served));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match visit(http.clone()).await {
                        Outcome::Served => {}
                        Outcome::Lost => continue,
                        Outcome::Failed(why) => failures.push(why),
                    }
                    served.store(true, Ordering::SeqCst);
                }
                failures
            })
        });
        Self { clients: clients.collect(), stop, served }
    }

    /// Waits until each client was served once more.
    async fn everyone_served_again(&self) {
        for served in &self.served {
            served.store(false, Ordering::SeqCst);
        }
        let all = || self.served.iter().all(|served| served.load(Ordering::SeqCst)).then_some(());
        eventually("service for every client", all).await;
    }

    /// What failed, if anything.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.await.unwrap());
        }
        failures
    }
}

/// What the MCP servers behind the bridges speak.
#[derive(Clone, Copy, PartialEq)]
enum Servers {
    Legacy,
    Modern,
}

/// HAProxy with the configuration that is packaged, and the bridges behind it.
struct Cluster {
    haproxy: Process,
    servers: Servers,
    bridges: Vec<Bridge>,
    http: Http,
    addresses: Vec<String>,
    _dir: TempDir,
}

impl Cluster {
    /// Without HAProxy, says that the tests are skipped.
    fn start(servers: Servers) -> Option<Self> {
        if Command::new("haproxy").arg("-v").output().is_err() {
            skipped("the tests with HAProxy, not installed");
            return None;
        }
        let addresses = addresses();
        let bridges: Vec<_> =
            (0..BRIDGES).map(|number| bridge(servers, number, &addresses[number])).collect();
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/mcp", front.local_addr().unwrap());
        let dir = tempfile::tempdir().unwrap();
        let pair = dir.path().join("front.pem");
        let read = |name| std::fs::read_to_string(cert(name)).unwrap();
        std::fs::write(&pair, read("server.crt") + &read("server.key")).unwrap();

        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(repository().join("packaging/haproxy/haproxy.cfg"));
        command.env("MCP_BIND", "fd@0").env("MCP_CERT", pair).env("MCP_BRIDGE_CA", cert("ca.crt"));
        command.env("MCP_NAME", "mcp.example.com");
        command.env("MCP_SERVERS", if servers == Servers::Modern { "modern" } else { "legacy" });
        for (number, address) in addresses.iter().enumerate() {
            command.env(format!("MCP_BRIDGE_{}", number + 1), address);
        }
        let haproxy = Process::spawn_with(&mut command, OwnedFd::from(front).into());
        let http =
            Http::new(&url).trust(&cert("ca.crt")).header("authorization", &format!("Bearer {}", token(0)));
        Some(Self { haproxy, servers, bridges, http, addresses, _dir: dir })
    }

    /// Sessions until each bridge has one, by the bridge's name.
    async fn one_session_each(&self) -> BTreeMap<String, Session> {
        let mut sessions = BTreeMap::new();
        for _ in 0..4 * BRIDGES {
            let session = Session::open(&self.http).await;
            sessions.insert(served(&session).await, session);
        }
        assert_eq!(sessions.len(), BRIDGES, "{:?}", sessions.keys());
        sessions
    }

    /// Waits until some bridge is at a call.
    async fn one_in_flight(&self) {
        loop {
            for address in &self.addresses {
                let scrape = Http::new(&format!("http://{}/metrics", metrics_address(address))).get().await;
                if scrape.text().await.contains("mcp_bridge_exchanges_in_flight 1\n") {
                    return;
                }
            }
        }
    }

    /// A new bridge in the place of one that has ended; returns when HAProxy has seen it.
    fn restart(&mut self, number: usize) {
        self.haproxy.logged(&format!("bridge{} is DOWN", number + 1));
        self.bridges[number] = bridge(self.servers, number, &self.addresses[number]);
        self.haproxy.logged(&format!("bridge{} is UP", number + 1));
    }
}

/// Loopback addresses that nobody else has: a port that is free for the time of a restart would be taken.
fn addresses() -> Vec<String> {
    static CLUSTERS: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let first = CLUSTERS.fetch_add(1, Ordering::SeqCst) * 16 + 1;
    (first..).take(BRIDGES).map(|last| format!("127.{}.{low}.{last}:8443", 64 + high % 128)).collect()
}

fn bridge(servers: Servers, number: usize, address: &str) -> Bridge {
    let name = format!("bridge{}", number + 1);
    let tokens: Vec<_> = (0..4 * BRIDGES).map(token).collect();
    let auth = format!("auth: {{type: bearer, bearer: {{tokens: [{}]}}}}", tokens.join(", "));
    let serve = Serve::new(Guard::Tls).config(&auth).config(&metrics(address));
    let serve = serve.listen(address).child_arg("--name").child_arg(&name);
    if servers == Servers::Modern { serve.child_arg("--modern").start() } else { serve.start() }
}

/// The metrics of the bridge at an address are on the same host.
fn metrics(address: &str) -> String {
    format!("metrics: {{listen: '{}'}}", metrics_address(address))
}

fn metrics_address(address: &str) -> String {
    address.replace(":8443", ":9090")
}

/// The token of a client.
fn token(number: usize) -> String {
    format!("token-{number}")
}

/// A call, and the name of the bridge that served it.
async fn served(session: &Session) -> String {
    name_in(&session.call("about", json!({})).await)
}

/// The name of the bridge in an answer to `about`.
fn name_in(answer: &Value) -> String {
    let name = &answer["result"]["structuredContent"]["args"][2];
    name.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}
