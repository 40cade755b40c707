use mcp_bridge::tls::{Acceptor, Connector, Handshake};

use super::{
    pki::{Leaf, Pki},
    support::*,
};

/// Connects to `host` at a server whose certificate has these names, and says what the server saw.
async fn connect(pki: &Pki, cn: &str, names: &[&str], host: &str) -> Result<Handshake, String> {
    let acceptor =
        Acceptor::load(&server_tls(pki.identity("srv", &Leaf { cn, names, ..Leaf::default() }))).unwrap();
    let connector = Connector::load(&client_tls(&pki.ca()), host).unwrap();
    let met = meet(&acceptor, &connector).await;
    met.client.and(met.server.map_err(|error| error.to_string()))
}

#[tokio::test]
async fn names_that_match() {
    let pki = Pki::new();
    for (cn, names, host, sni) in [
        ("x", &["DNS:srv.test"][..], "srv.test", Some("srv.test")),
        ("x", &["DNS:srv.test"], "SRV.test", Some("SRV.test")),
        ("x", &["DNS:srv.test"], "srv.test.", Some("srv.test")),
        ("x", &["DNS:*.srv.test"], "a.srv.test", Some("a.srv.test")),
        ("x", &["IP:127.0.0.1"], "127.0.0.1", None),
        ("x", &["IP:::1"], "[::1]", None),
        // The guide says "CN or SAN".
        ("srv.test", &[], "srv.test", Some("srv.test")),
        ("srv.test", &["email:a@b.test"], "srv.test", Some("srv.test")),
    ] {
        let seen = connect(&pki, cn, names, host).await.unwrap();
        assert_eq!(seen.sni.as_deref(), sni, "{host}");
    }
}

#[tokio::test]
async fn names_that_do_not_match() {
    let pki = Pki::new();
    for (cn, names, host) in [
        ("x", &["DNS:srv.test"][..], "other.test"),
        ("x", &["DNS:*.srv.test"], "a.b.srv.test"),
        ("x", &["DNS:*.srv.test"], "srv.test"),
        ("x", &["DNS:s*.test"], "srv.test"),
        ("x", &["DNS:srv.test"], "a.srv.test"),
        ("x", &["IP:127.0.0.1"], "127.0.0.2"),
        // An address is verified as an address, never as a name.
        ("127.0.0.1", &["DNS:127.0.0.1"], "127.0.0.1"),
        // A common name counts only where there is no alternative one.
        ("srv.test", &["DNS:other.test"], "srv.test"),
        ("x", &[], "srv.test"),
    ] {
        let error = connect(&pki, cn, names, host).await.unwrap_err();
        has(&error, &[&format!("x509: certificate is not valid for {host}"), "tls.server_name"]);
    }
}

#[tokio::test]
async fn server_name_overrides_the_urls_host() {
    let pki = Pki::new();
    let server = server_tls(pki.identity("srv", &Leaf::default()));
    let mut client = client_tls(&pki.ca());
    client.server_name = Some("srv.test".into());
    let (acceptor, connector) =
        (Acceptor::load(&server).unwrap(), Connector::load(&client, "10.0.0.1").unwrap());
    assert_eq!(meet(&acceptor, &connector).await.both().0.sni.as_deref(), Some("srv.test"));
    for bad in ["", ".srv.test", "srv\0.test"] {
        client.server_name = Some(bad.into());
        has(&Connector::load(&client, "srv.test").unwrap_err().to_string(), &["tls.server_name"]);
    }
}

#[tokio::test]
async fn insecure_skip_verify_takes_any_certificate() {
    let pki = Pki::new();
    let other = Pki::new();
    let server =
        server_tls(other.identity("srv", &Leaf { cn: "x", names: &[], valid: (-9, -3), ..Leaf::default() }));
    let mut client = client_tls(&pki.ca());
    client.insecure_skip_verify = true;
    let connector = Connector::load(&client, "srv.test").unwrap();
    let (_, connected) = meet(&Acceptor::load(&server).unwrap(), &connector).await.both();
    has(&connected.to_string(), &["server certificate \"CN=x\": not checked"]);
}

#[tokio::test]
async fn ca_cert_replaces_the_systems_roots_and_may_be_a_directory() {
    let pki = Pki::new();
    let folder = pki.path("cas");
    std::fs::create_dir(&folder).unwrap();
    let error = Connector::load(&client_tls(&folder), "srv.test").unwrap_err().to_string();
    has(&error, &["tls.ca_cert", "no *.pem or *.crt"]);
    std::fs::write(folder.join("notes.txt"), "not a certificate").unwrap();
    std::fs::write(folder.join("root.crt"), pki.root.cert.to_pem().unwrap()).unwrap();
    std::fs::write(folder.join("other.pem"), Pki::named("Other Root").root.cert.to_pem().unwrap()).unwrap();
    let server = server_tls(pki.identity("srv", &Leaf::default()));
    meet_with(&server, &client_tls(&folder)).await.both();
    std::fs::remove_file(folder.join("root.crt")).unwrap();
    has(&meet_with(&server, &client_tls(&folder)).await.client_error(), &["unknown authority"]);
}

#[tokio::test]
async fn without_ca_cert_the_systems_roots_decide() {
    let pki = Pki::new();
    let mut client = client_tls(&pki.ca());
    client.ca_cert = None;
    let server = server_tls(pki.identity("srv", &Leaf::default()));
    has(&meet_with(&server, &client).await.client_error(), &["unknown authority"]);
}
