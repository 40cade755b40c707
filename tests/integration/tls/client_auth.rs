use mcp_bridge::{
    config::{ClientAuthMode, Identity, ServerTls, TlsVersion},
    tls::{Acceptor, Handshake, HandshakeError, Judgement},
};

use super::{
    pki::{DAY, Leaf, Pki, issue},
    support::*,
};

fn settings(pki: &Pki, mode: ClientAuthMode) -> ServerTls {
    let mut settings = server_tls(pki.identity("srv", &Leaf::default()));
    settings.client_auth = mode;
    settings.client_ca_file = Some(pki.ca());
    settings
}

fn trusted(pki: &Pki) -> Identity {
    pki.identity(
        "client",
        &Leaf { cn: "mcp-client", names: &[], purposes: &["clientAuth"], ..Leaf::default() },
    )
}

fn untrusted(pki: &Pki) -> Identity {
    pki.save("stranger", &issue(&Leaf { cn: "stranger", names: &[], ..Leaf::default() }, None), &[])
}

/// Two connections of `s_client`, the second with the first one's session.
async fn twice(
    served: &mut Served,
    pki: &Pki,
    flag: &str,
    identity: Option<&Identity>,
) -> [Result<Handshake, HandshakeError>; 2] {
    let session = pki.path("session");
    let _ = std::fs::remove_file(&session);
    let session = session.to_str().unwrap();
    let mut args = vec![flag];
    if let Some(identity) = identity {
        args.extend([
            "-cert",
            identity.cert_file.to_str().unwrap(),
            "-key",
            identity.key_file.to_str().unwrap(),
        ]);
    }
    let first = served.s_client(&[&args[..], &["-sess_out", session]].concat()).await.1;
    if !std::path::Path::new(session).exists() {
        return [first, served.s_client(&args).await.1];
    }
    [first, served.s_client(&[&args[..], &["-sess_in", session]].concat()).await.1]
}

#[tokio::test]
async fn each_mode_judges_each_certificate_alike_in_full_and_resumed_handshakes() {
    use ClientAuthMode::{None as Never, Request, Require, Verify};
    let pki = Pki::new();
    let (good, bad) = (trusted(&pki), untrusted(&pki));
    let self_signed = || Some(Judgement::Untrusted("self-signed certificate, verify code 18".into()));
    let (ok, absent) = (|| Some(Judgement::Verified), || Some(Judgement::NonePresented));
    let not_asked = || Some(Judgement::NotAsked);
    for (mode, expected) in [
        (Never, [not_asked(), not_asked(), not_asked()]),
        (Request, [absent(), self_signed(), ok()]),
        (Require, [None, self_signed(), ok()]),
        (Verify, [None, None, ok()]),
    ] {
        let mut served = Served::start(Acceptor::load(&settings(&pki, mode)).unwrap()).await;
        for flag in ["-tls1_2", "-tls1_3"] {
            for (identity, expected) in [None, Some(&bad), Some(&good)].into_iter().zip(&expected) {
                let outcomes = twice(&mut served, &pki, flag, identity).await;
                for (resumed, outcome) in [false, true].into_iter().zip(outcomes) {
                    let case = format!("{mode:?} {flag} {expected:?} resumed={resumed}: {outcome:?}");
                    match (expected, outcome) {
                        (None, Err(_)) => {}
                        (Some(judgement), Ok(handshake)) => {
                            assert_eq!(handshake.judgement, *judgement, "{case}");
                            assert_eq!(handshake.resumed, resumed, "{case}");
                            let identity = handshake.identity.map(|identity| identity.to_string());
                            let verified = *judgement == Judgement::Verified;
                            assert_eq!(identity.as_deref(), verified.then_some("CN=mcp-client"), "{case}");
                        }
                        _ => panic!("{case}"),
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn without_a_client_ca_everyone_is_anonymous() {
    let pki = Pki::new();
    for mode in [ClientAuthMode::Request, ClientAuthMode::Require] {
        let mut settings = settings(&pki, mode);
        settings.client_ca_file = None;
        let mut client = client_tls(&pki.ca());
        client.identity = Some(trusted(&pki));
        let (accepted, _) = meet_with(&settings, &client).await.both();
        assert_eq!((accepted.identity, accepted.judgement), (None, Judgement::NotChecked));
        assert_eq!(accepted.peer.as_deref(), Some("CN=mcp-client"));
    }
    let mut settings = settings(&pki, ClientAuthMode::Verify);
    settings.client_ca_file = None;
    has(&Acceptor::load(&settings).unwrap_err().to_string(), &["tls.client_ca_file"]);
}

#[tokio::test]
async fn verify_names_its_cas_in_the_request() {
    let pki = Pki::new();
    let mut served = Served::start(Acceptor::load(&settings(&pki, ClientAuthMode::Verify)).unwrap()).await;
    let (output, _) = served.s_client(&[]).await;
    has(&output, &["Acceptable client certificate CA names", "CN = Test Root"]);
}

#[tokio::test]
async fn the_chain_a_server_sends_has_no_root_of_the_clients() {
    let pki = Pki::new();
    let mut served = Served::start(Acceptor::load(&settings(&pki, ClientAuthMode::Request)).unwrap()).await;
    let (output, _) = served.s_client(&["-showcerts"]).await;
    assert_eq!(output.matches("-----BEGIN CERTIFICATE-----").count(), 1, "the leaf alone: {output}");
}

#[tokio::test]
async fn a_ticket_is_not_worth_more_than_its_client_certificate() {
    let pki = Pki::new();
    let brief = Leaf { cn: "brief", names: &[], valid: (-DAY, 3), ..Leaf::default() };
    let identity = pki.identity("brief", &brief);
    let mut served = Served::start(Acceptor::load(&settings(&pki, ClientAuthMode::Verify)).unwrap()).await;
    let (cert, key) = (identity.cert_file.to_str().unwrap(), identity.key_file.to_str().unwrap());
    let sessions = ["12", "13"].map(|name| pki.path(name).to_str().unwrap().to_owned());
    for (flag, session) in ["-tls1_2", "-tls1_3"].into_iter().zip(&sessions) {
        served.s_client(&[flag, "-cert", cert, "-key", key, "-sess_out", session]).await.1.unwrap();
        let again =
            served.s_client(&[flag, "-cert", cert, "-key", key, "-sess_in", session]).await.1.unwrap();
        assert!(again.resumed);
    }
    let leaf = openssl::x509::X509::from_pem(&std::fs::read(cert).unwrap()).unwrap();
    while openssl::asn1::Asn1Time::days_from_now(0).unwrap() <= leaf.not_after() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for (flag, session) in ["-tls1_2", "-tls1_3"].into_iter().zip(&sessions) {
        let late = served.s_client(&[flag, "-cert", cert, "-key", key, "-sess_in", session]).await.1;
        has(&late.unwrap_err().to_string(), &["x509: certificate has expired"]);
    }
}

#[tokio::test]
async fn one_ticket_goes_out_with_each_handshake() {
    let pki = Pki::new();
    let mut served = Served::start(Acceptor::load(&settings(&pki, ClientAuthMode::None)).unwrap()).await;
    let (output, _) = served.s_client(&["-tls1_3", "-msg"]).await;
    assert_eq!(output.matches("NewSessionTicket").count(), 1, "{output}");
}

#[tokio::test]
async fn only_allowed_names_are_let_in() {
    let pki = Pki::new();
    let names = &["DNS:a.agents.test", "URI:spiffe://td/agent", "email:bob@agents.test"];
    let leaf = Leaf { cn: "agent-7", names, ..Leaf::default() };
    let mut client = client_tls(&pki.ca());
    client.identity = Some(pki.identity("client", &leaf));
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        client.policy = only(version);
        for allowed in ["CN=agent-*", "DNS:*.agents.test", "URI:spiffe://td/*", "email:*@agents.test"] {
            let mut settings = settings(&pki, ClientAuthMode::Verify);
            settings.client_allowed_names = list(&["CN=nobody", allowed]);
            let (accepted, _) = meet_with(&settings, &client).await.both();
            assert_eq!(accepted.identity.unwrap().to_string(), "CN=agent-7");
        }
        let mut settings = settings(&pki, ClientAuthMode::Verify);
        settings.client_allowed_names = list(&["CN=other", "DNS:*.test"]);
        let met = meet_with(&settings, &client).await;
        has(
            &met.server_error(),
            &[
                "x509: the name of the client certificate is not allowed",
                "DNS:a.agents.test",
                "tls.client_allowed_names",
            ],
        );
        has(&met.client_error(), &["tls: bad certificate", "alert 42 bad_certificate"]);
    }
}

#[test]
fn identities_are_equal_when_their_names_are() {
    let pki = Pki::new();
    let leaf = Leaf { cn: "mcp-client", ..Leaf::default() };
    let identity = |leaf: &Leaf<'_>| {
        let mut client = client_tls(&pki.ca());
        client.identity = Some(pki.identity("client", leaf));
        let settings = settings(&pki, ClientAuthMode::Verify);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(meet_with(&settings, &client)).both().0.identity.unwrap()
    };
    let (first, renewed) = (identity(&leaf), identity(&leaf));
    assert_eq!(first, renewed);
    assert_ne!(first, identity(&Leaf { cn: "other", ..Leaf::default() }));
    // A name cannot pass for two.
    let forged = identity(&Leaf { cn: "a, CN=mcp-client\n", ..Leaf::default() });
    assert_eq!(forged.to_string(), r"CN=a\, CN\=mcp-client\u{a}");
    let nameless = identity(&Leaf { cn: "", names: &["URI:spiffe://td/x"], ..Leaf::default() });
    assert_eq!(nameless.to_string(), "URI:spiffe://td/x");
}
