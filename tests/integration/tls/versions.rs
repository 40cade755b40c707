use mcp_bridge::{
    config::TlsVersion,
    tls::{Acceptor, Alpn, Connector},
};

use super::{
    pki::{Kind, Leaf, Pki},
    support::*,
};

const FLAGS: [&str; 4] = ["-tls1", "-tls1_1", "-tls1_2", "-tls1_3"];

#[tokio::test]
async fn every_version_connects_between_our_own_sides() {
    let pki = Pki::new();
    let mut server = server_tls(pki.identity("srv", &Leaf::default()));
    let mut client = client_tls(&pki.ca());
    for version in VERSIONS {
        (server.policy, client.policy) = (only(version), only(version));
        let (accepted, connected) = meet_with(&server, &client).await.both();
        assert_eq!((accepted.version, connected.version), (version, version));
        // h2 needs TLS 1.2.
        let protocol = if version < TlsVersion::Tls12 { Alpn::Http11 } else { Alpn::H2 };
        assert_eq!((accepted.alpn, connected.alpn), (Some(protocol), Some(protocol)));
    }
}

#[tokio::test]
async fn every_version_is_accepted_from_openssl_s_client() {
    let pki = Pki::new();
    let mut settings = server_tls(pki.identity("srv", &Leaf { key: Kind::Rsa, ..Leaf::default() }));
    settings.policy.min_version = Some(TlsVersion::Tls10);
    let mut served = Served::start(Acceptor::load(&settings).unwrap()).await;
    for (version, flag) in VERSIONS.into_iter().zip(FLAGS) {
        let (_, outcome) = served.s_client(&[flag, "-cipher", "ALL:!aNULL:@SECLEVEL=0"]).await;
        assert_eq!(outcome.unwrap().version, version);
    }
}

#[tokio::test]
async fn every_version_of_openssl_s_server_is_connected_to() {
    let pki = Pki::new();
    let identity = pki.identity("srv", &Leaf { key: Kind::Rsa, ..Leaf::default() });
    let mut settings = client_tls(&pki.ca());
    settings.policy.min_version = Some(TlsVersion::Tls10);
    let connector = Connector::load(&settings, "srv.test").unwrap();
    for (version, flag) in VERSIONS.into_iter().zip(FLAGS) {
        let server = SServer::start(&identity, &[flag, "-cipher", "ALL:!aNULL:@SECLEVEL=0"]);
        assert_eq!(server.connect(&connector).await.unwrap().version, version);
    }
}

#[tokio::test]
async fn the_default_refuses_versions_below_1_2() {
    let pki = Pki::new();
    let acceptor = Acceptor::load(&server_tls(pki.identity("srv", &Leaf::default()))).unwrap();
    assert_eq!(acceptor.report().versions, "TLS 1.2 to TLS 1.3");
    let mut served = Served::start(acceptor).await;
    for flag in &FLAGS[..2] {
        let (_, outcome) = served.s_client(&[flag, "-cipher", "ALL:@SECLEVEL=0"]).await;
        has(
            &outcome.unwrap_err().to_string(),
            &["tls: no common protocol version", "our versions: TLS 1.2 to TLS 1.3"],
        );
    }
}

#[tokio::test]
async fn a_legacy_minimum_lowers_the_security_level_of_its_context_alone_and_says_so() {
    let pki = Pki::new();
    let mut settings = server_tls(pki.identity("srv", &Leaf::default()));
    let modern = Acceptor::load(&settings).unwrap().report();
    settings.policy.min_version = Some(TlsVersion::Tls11);
    let legacy = Acceptor::load(&settings).unwrap().report();
    assert_eq!((legacy.security_level, legacy.warnings.len()), (0, 1));
    has(&legacy.warnings[0], &["security level 0", "SHA-1"]);
    assert!(modern.security_level > 0 && modern.warnings.is_empty(), "{modern}");
    assert_eq!(
        Acceptor::load(&server_tls(settings.identities[0].clone())).unwrap().report().security_level,
        modern.security_level
    );
}

#[tokio::test]
async fn a_maximum_is_kept() {
    let pki = Pki::new();
    let mut settings = server_tls(pki.identity("srv", &Leaf::default()));
    settings.policy.max_version = Some(TlsVersion::Tls12);
    let (accepted, _) = meet_with(&settings, &client_tls(&pki.ca())).await.both();
    assert_eq!(accepted.version, TlsVersion::Tls12);
}

#[tokio::test]
async fn renegotiation_by_the_client_is_refused_and_compression_is_off() {
    let pki = Pki::new();
    let settings = server_tls(pki.identity("srv", &Leaf::default()));
    let (listener, address) = listen().await;
    let acceptor = Acceptor::load(&settings).unwrap();
    let server = async {
        let (io, _) = listener.accept().await.unwrap();
        let (mut stream, _) = acceptor.accept(io).await.unwrap();
        let mut seen = Vec::new();
        // Ends when the client gives up, for its renegotiation got no answer but a warning.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut seen).await;
        seen
    };
    // `R` at the beginning of a line asks s_client to renegotiate.
    let client = async {
        let mut child = tokio::process::Command::new("openssl")
            .args(["s_client", "-tls1_2", "-connect", &address.to_string()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        tokio::io::AsyncWriteExt::write_all(child.stdin.as_mut().unwrap(), b"R\n").await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let (seen, output) = tokio::join!(server, client);
    assert_eq!(seen, b"");
    has(&output, &["no renegotiation", "Compression: NONE"]);
}
