//! Servers, clients and OpenSSL's tools, each on a socket of its own.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcp_bridge::{
    config::{ClientAuthMode, ClientTls, Identity, ServerTls, TlsPolicy, TlsVersion},
    tls::{Acceptor, Connector, Handshake, HandshakeError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

pub(crate) const VERSIONS: [TlsVersion; 4] =
    [TlsVersion::Tls10, TlsVersion::Tls11, TlsVersion::Tls12, TlsVersion::Tls13];

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn server_tls(identity: Identity) -> ServerTls {
    ServerTls {
        policy: policy(None, None),
        identities: vec![identity],
        client_auth: ClientAuthMode::None,
        client_ca_file: None,
        client_allowed_names: None,
        crl_file: None,
    }
}

pub(crate) fn client_tls(ca: &Path) -> ClientTls {
    ClientTls { policy: policy(None, None), ca_cert: Some(ca.to_owned()), ..ClientTls::default() }
}

pub(crate) fn policy(min: Option<TlsVersion>, max: Option<TlsVersion>) -> TlsPolicy {
    TlsPolicy {
        min_version: min,
        max_version: max,
        reload_interval: Duration::from_millis(20),
        ..TlsPolicy::default()
    }
}

pub(crate) fn only(version: TlsVersion) -> TlsPolicy {
    policy(Some(version), Some(version))
}

#[allow(clippy::unnecessary_wraps)] // what the settings hold
pub(crate) fn list(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

/// The outcome on each side; a client whose handshake went well and whose first read failed has failed.
pub(crate) struct Met {
    pub(crate) server: Result<Handshake, HandshakeError>,
    pub(crate) client: Result<Handshake, String>,
}

impl Met {
    pub(crate) fn both(self) -> (Handshake, Handshake) {
        match (self.server, self.client) {
            (Ok(server), Ok(client)) => (server, client),
            (server, client) => panic!("server: {server:?}\nclient: {client:?}"),
        }
    }

    pub(crate) fn server_error(&self) -> String {
        self.server.as_ref().unwrap_err().to_string()
    }

    pub(crate) fn client_error(&self) -> String {
        self.client.as_ref().unwrap_err().clone()
    }
}

/// One handshake between our two sides, and a byte each way.
pub(crate) async fn meet(acceptor: &Acceptor, connector: &Connector) -> Met {
    let (listener, address) = listen().await;
    let server = async {
        let (io, _) = listener.accept().await.unwrap();
        let (mut stream, handshake) = acceptor.accept(io).await?;
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"y").await;
        let _ = stream.shutdown().await;
        Ok(handshake)
    };
    let client = async {
        let io = TcpStream::connect(address).await.unwrap();
        let (mut stream, handshake) = connector.connect(io).await.map_err(|error| error.to_string())?;
        let exchanged = match stream.write_all(b"x").await {
            Ok(()) => stream.read_u8().await,
            Err(error) => Err(error),
        };
        match exchanged {
            Ok(_) => Ok(handshake),
            Err(error) => Err(match handshake.explain(&error) {
                Some(explained) => explained.to_string(),
                None => format!("unexplained: {error:?}"),
            }),
        }
    };
    let (server, client) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(server, client) }).await.unwrap();
    Met { server, client }
}

/// Loads both sides and lets them meet.
pub(crate) async fn meet_with(server: &ServerTls, client: &ClientTls) -> Met {
    meet(&Acceptor::load(server).unwrap(), &Connector::load(client, "srv.test").unwrap()).await
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server of ours that takes connections one after the other until it is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    outcomes: mpsc::UnboundedReceiver<Result<Handshake, HandshakeError>>,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(acceptor: Acceptor) -> Self {
        let (listener, address) = listen().await;
        let (send, outcomes) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let outcome = match acceptor.accept(io).await {
                    Ok((mut stream, handshake)) => {
                        let _ = stream.read_u8().await;
                        let _ = stream.write_all(b"y\n").await;
                        let _ = stream.shutdown().await;
                        Ok(handshake)
                    }
                    Err(error) => Err(error),
                };
                let _ = send.send(outcome);
            }
        });
        Self { address, outcomes, task }
    }

    pub(crate) async fn outcome(&mut self) -> Result<Handshake, HandshakeError> {
        tokio::time::timeout(PATIENCE, self.outcomes.recv()).await.unwrap().unwrap()
    }

    /// What it makes of a connection that is now closed for writing.
    pub(crate) async fn outcome_after(&mut self, mut io: TcpStream) -> HandshakeError {
        io.shutdown().await.unwrap();
        self.outcome().await.unwrap_err()
    }

    /// Runs `openssl s_client` against it; its output, and what the server made of it.
    pub(crate) async fn s_client(&mut self, args: &[&str]) -> (String, Result<Handshake, HandshakeError>) {
        let output = s_client(self.address, args).await;
        (output, self.outcome().await)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `openssl s_client`: sends a byte, and reads until the server closes.
pub(crate) async fn s_client(address: SocketAddr, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new("openssl");
    run_s_client(&mut command, address, args).await
}

/// The same, with a configuration of OpenSSL's that this process does not have.
pub(crate) async fn s_client_under(configuration: &Path, address: SocketAddr, args: &[&str]) -> String {
    let mut command = tokio::process::Command::new("env");
    command.arg(format!("OPENSSL_CONF={}", configuration.display())).arg("openssl");
    run_s_client(&mut command, address, args).await
}

async fn run_s_client(command: &mut tokio::process::Command, address: SocketAddr, args: &[&str]) -> String {
    command
        .env_remove("OPENSSL_CONF")
        .args(["s_client", "-ign_eof", "-connect", &address.to_string()])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(b"x\n").await;
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// `openssl s_server` on a port of its own, killed when dropped.
pub(crate) struct SServer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl SServer {
    pub(crate) fn start(identity: &Identity, args: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert"])
            .arg(&identity.cert_file)
            .arg("-cert_chain")
            .arg(&identity.cert_file)
            .arg("-key")
            .arg(&identity.key_file)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| Some(line.unwrap().strip_prefix("ACCEPT ")?.to_owned()));
        let address = ready.expect("s_server is ready").parse().unwrap();
        // Nobody reads its chatter, which is small.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// A handshake of ours with it, and a request that it answers.
    pub(crate) async fn connect(&self, connector: &Connector) -> Result<Handshake, String> {
        let io = TcpStream::connect(self.address).await.unwrap();
        let exchange = async {
            let (mut stream, handshake) = connector.connect(io).await.map_err(|error| error.to_string())?;
            let mut answer = Vec::new();
            let sent = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
            let read = match sent {
                Ok(()) => stream.read_to_end(&mut answer).await,
                Err(error) => Err(error),
            };
            match read {
                Err(error) if answer.is_empty() => Err(match handshake.explain(&error) {
                    Some(explained) => explained.to_string(),
                    None => format!("unexplained: {error:?}"),
                }),
                _ => Ok(handshake),
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap()
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that a text has each of the parts.
#[track_caller]
pub(crate) fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}
