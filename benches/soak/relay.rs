//! What stands between clients and bridge: a relay that can cut connections in the middle.

use std::sync::{Arc, Mutex};

use hyper::Uri;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub(crate) struct Relay {
    pub(crate) url: String,
    connections: Arc<Mutex<Vec<CancellationToken>>>,
}

impl Relay {
    pub(crate) async fn start(target: &str) -> Self {
        let target: Uri = target.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}{}", listener.local_addr().unwrap(), target.path());
        let connections = Arc::default();
        tokio::spawn(relay(listener, target.port_u16().unwrap(), Arc::clone(&connections)));
        Self { url, connections }
    }

    /// Cuts each connection for which `chosen` says so, and counts them.
    pub(crate) fn cut(&self, mut chosen: impl FnMut() -> bool) -> u64 {
        let mut connections = self.connections.lock().unwrap();
        let before = connections.len();
        connections.retain(|connection| {
            let cut = chosen();
            if cut {
                connection.cancel();
            }
            !cut
        });
        (before - connections.len()) as u64
    }
}

async fn relay(listener: TcpListener, port: u16, connections: Arc<Mutex<Vec<CancellationToken>>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let token = CancellationToken::new();
        let ended = token.clone().drop_guard();
        {
            let mut connections = connections.lock().unwrap();
            connections.retain(|connection| !connection.is_cancelled());
            connections.push(token.clone());
        }
        tokio::spawn(async move {
            let _ended = ended;
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                () = token.cancelled() => {}
            }
        });
    }
}
