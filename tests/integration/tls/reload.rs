use std::time::Duration;

use mcp_bridge::{
    config::ServerTls,
    tls::{Acceptor, Connector, Reload, ReloadCounts, watch},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    pki::{Leaf, Pki},
    support::*,
};

const TICK: Duration = Duration::from_millis(10);

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
}

async fn subject(acceptor: &Acceptor, connector: &Connector) -> String {
    meet(acceptor, connector).await.both().1.peer.unwrap()
}

fn named(pki: &Pki, cn: &str) -> ServerTls {
    server_tls(pki.identity("srv", &Leaf { cn, ..Leaf::default() }))
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_certificate_and_a_good_one_replaces_it() {
    let pki = Pki::new();
    let acceptor = Acceptor::load(&named(&pki, "first")).unwrap();
    let connector = Connector::load(&client_tls(&pki.ca()), "srv.test").unwrap();
    let watching = tokio::spawn(watch(acceptor.clone(), TICK));
    pki.write("srv.crt", b"broken");
    until(|| acceptor.reload_counts().failed > 0).await;
    assert_eq!(subject(&acceptor, &connector).await, "CN=first");
    // One attempt for each change, not one for each look.
    let failed = acceptor.reload_counts().failed;
    acceptor.reload().unwrap_err();
    assert!(!acceptor.is_due());
    named(&pki, "second");
    until(|| acceptor.reload_counts().succeeded > 0).await;
    // The certificate may have been seen before its key was written: then the next look loads both.
    until(|| !acceptor.is_due()).await;
    assert_eq!(subject(&acceptor, &connector).await, "CN=second");
    assert!(acceptor.reload_counts().failed > failed);
    watching.abort();
}

#[tokio::test]
async fn nothing_is_loaded_anew_when_no_content_has_changed() {
    let pki = Pki::new();
    let settings = named(&pki, "same");
    let acceptor = Acceptor::load(&settings).unwrap();
    let bytes = std::fs::read(&settings.identities[0].cert_file).unwrap();
    std::fs::write(&settings.identities[0].cert_file, bytes).unwrap();
    assert!(!acceptor.is_due());
    acceptor.reload().unwrap();
    assert_eq!(acceptor.reload_counts(), ReloadCounts { succeeded: 1, failed: 0 });
}

#[tokio::test]
async fn open_connections_live_on_and_sessions_of_the_old_context_do_not() {
    let pki = Pki::new();
    let acceptor = Acceptor::load(&named(&pki, "first")).unwrap();
    let connector = Connector::load(&client_tls(&pki.ca()), "srv.test").unwrap();
    let (listener, address) = listen().await;
    let connect = async { connector.connect(TcpStream::connect(address).await.unwrap()).await.unwrap().0 };
    let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap().0 };
    let (mut client, mut server) = tokio::join!(connect, accept);
    named(&pki, "second");
    acceptor.reload().unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');

    let session = pki.path("session");
    let session = session.to_str().unwrap();
    for flag in ["-tls1_2", "-tls1_3"] {
        let mut running = Served::start(acceptor.clone()).await;
        running.s_client(&[flag, "-sess_out", session]).await.1.unwrap();
        assert!(running.s_client(&[flag, "-sess_in", session]).await.1.unwrap().resumed);
        acceptor.reload().unwrap();
        assert!(!running.s_client(&[flag, "-sess_in", session]).await.1.unwrap().resumed);
    }
}

#[tokio::test]
async fn a_client_follows_its_ca_directory_and_certificate() {
    let (pki, other) = (Pki::new(), Pki::named("Other Root"));
    let folder = pki.path("cas");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("other.pem"), other.root.cert.to_pem().unwrap()).unwrap();
    let acceptor = Acceptor::load(&named(&pki, "srv")).unwrap();
    let connector = Connector::load(&client_tls(&folder), "srv.test").unwrap();
    has(&meet(&acceptor, &connector).await.client_error(), &["unknown authority"]);
    let watching = tokio::spawn(watch(connector.clone(), TICK));
    std::fs::write(folder.join("root.pem"), pki.root.cert.to_pem().unwrap()).unwrap();
    until(|| connector.reload_counts().succeeded > 0 && !connector.is_due()).await;
    watching.abort();
    meet(&acceptor, &connector).await.both();
}
