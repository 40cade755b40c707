use std::process::Command;

use mcp_bridge::{
    config::{ClientAuthMode, ServerTls},
    tls::{Acceptor, Connector, Reload},
};

use super::{
    pki::{Issued, Leaf, Pki, issue},
    support::*,
};

/// A revocation list of `ca`, by `openssl ca`: `seconds` until its next update.
pub(crate) fn crl(pki: &Pki, ca: &Issued, revoked: &[&Issued], seconds: i64) -> Vec<u8> {
    let folder = tempfile::tempdir_in(pki.dir.path()).unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("ca.crt"), ca.cert.to_pem().unwrap()).unwrap();
    std::fs::write(file("ca.key"), ca.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let serials = revoked
        .iter()
        .map(|leaf| leaf.cert.serial_number().to_bn().unwrap().to_hex_str().unwrap().to_string());
    let lines = serials.map(|serial| format!("R\t400101000000Z\t250101000000Z\t{serial}\tunknown\t/CN=x\n"));
    let index = lines.collect::<Vec<_>>().concat();
    std::fs::write(file("index"), index).unwrap();
    std::fs::write(
        file("ca.cnf"),
        format!("[ca]\ndefault_ca=x\n[x]\ndatabase={}\ndefault_md=sha256\n", file("index").display()),
    )
    .unwrap();
    // A past list has to begin in the past.
    let time = |offset: i64| {
        let made = Command::new("date")
            .args(["-u", "-d", &format!("{offset} seconds"), "+%Y%m%d%H%M%SZ"])
            .output()
            .unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    };
    let made = Command::new("openssl")
        .args(["ca", "-gencrl", "-config"])
        .arg(file("ca.cnf"))
        .arg("-cert")
        .arg(file("ca.crt"))
        .arg("-keyfile")
        .arg(file("ca.key"))
        .args(["-crl_lastupdate", &time(seconds.min(0) - 3600), "-crl_nextupdate", &time(seconds)])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

fn verifying(pki: &Pki) -> ServerTls {
    let mut settings = server_tls(pki.identity("srv", &Leaf::default()));
    settings.client_auth = ClientAuthMode::Verify;
    settings.client_ca_file = Some(pki.ca());
    settings
}

#[tokio::test]
async fn a_revoked_client_is_refused_and_another_is_not() {
    let pki = Pki::new();
    let (bad, good) = (pki.issue(&Leaf::default()), pki.issue(&Leaf::default()));
    let mut server = verifying(&pki);
    server.crl_file = Some(pki.write("crl.pem", &crl(&pki, &pki.root, &[&bad], 3600)));
    let mut client = client_tls(&pki.ca());
    client.identity = Some(pki.save("bad", &bad, &[]));
    let met = meet_with(&server, &client).await;
    has(&met.server_error(), &["x509: certificate revoked", "verify code 23", "revoked it"]);
    has(&met.client_error(), &["tls: bad certificate", "alert 44 certificate_revoked"]);
    client.identity = Some(pki.save("good", &good, &[]));
    meet_with(&server, &client).await.both();
}

#[tokio::test]
async fn a_revoked_server_is_refused() {
    let pki = Pki::new();
    let bad = pki.issue(&Leaf::default());
    let mut client = client_tls(&pki.ca());
    client.crl_file = Some(pki.write("crl.pem", &crl(&pki, &pki.root, &[&bad], 3600)));
    let met = meet_with(&server_tls(pki.save("bad", &bad, &[])), &client).await;
    has(&met.client_error(), &["x509: certificate revoked"]);
    meet_with(&server_tls(pki.identity("good", &Leaf::default())), &client).await.both();
}

#[tokio::test]
async fn every_ca_of_the_chain_needs_a_current_list() {
    let pki = Pki::new();
    let inter = pki.issue(&Leaf { cn: "Inter", names: &[], purposes: &[], ca: true, ..Leaf::default() });
    let leaf = issue(&Leaf::default(), Some(&inter));
    let mut server = verifying(&pki);
    let mut client = client_tls(&pki.ca());
    client.identity = Some(pki.save("client", &leaf, &[&inter]));
    let (of_root, of_inter) = (crl(&pki, &pki.root, &[], 3600), crl(&pki, &inter, &[], 3600));
    server.crl_file = Some(pki.write("crl.pem", &of_root));
    has(
        &meet_with(&server, &client).await.server_error(),
        &["x509: unable to get certificate CRL", "tls.crl_file"],
    );
    server.crl_file = Some(pki.write("crl.pem", &[of_root.clone(), of_inter].concat()));
    meet_with(&server, &client).await.both();
    server.crl_file = Some(pki.write("crl.pem", &[of_root, crl(&pki, &inter, &[], -60)].concat()));
    let acceptor = Acceptor::load(&server).unwrap();
    has(&acceptor.warnings()[0], &["tls.crl_file", "CN=Inter", "expired on"]);
    assert!(acceptor.report().crl.unwrap().expired);
    has(&meet_with(&server, &client).await.server_error(), &["x509: CRL has expired", "current CRL"]);
}

#[test]
fn a_file_without_a_list_is_an_error() {
    let pki = Pki::new();
    let mut server = verifying(&pki);
    server.crl_file = Some(pki.ca());
    has(&Acceptor::load(&server).unwrap_err().to_string(), &["tls.crl_file", "ca.pem", "no revocation list"]);
}

#[tokio::test]
async fn when_a_list_becomes_stale_the_context_is_built_anew_and_sessions_end() {
    let pki = Pki::new();
    let mut server = verifying(&pki);
    server.crl_file = Some(pki.write("crl.pem", &crl(&pki, &pki.root, &[], 2)));
    let acceptor = Acceptor::load(&server).unwrap();
    assert!(!acceptor.is_due());
    let watch = tokio::spawn(mcp_bridge::tls::watch(acceptor.clone(), std::time::Duration::from_millis(20)));
    while acceptor.reload_counts().succeeded == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    watch.abort();
    assert!(acceptor.report().crl.unwrap().expired);
    // Once: a list that is stale already is no reason to build the context again and again.
    assert!(!acceptor.is_due());
    let mut client = client_tls(&pki.ca());
    client.identity = Some(pki.identity("client", &Leaf::default()));
    let connector = Connector::load(&client, "srv.test").unwrap();
    has(&meet(&acceptor, &connector).await.server_error(), &["x509: CRL has expired"]);
}

#[tokio::test]
async fn a_key_that_would_protect_nothing_is_an_error() {
    let pki = Pki::new();
    let mut server = verifying(&pki);
    server.crl_file = Some(pki.write("crl.pem", &crl(&pki, &pki.root, &[], 3600)));
    server.client_auth = ClientAuthMode::Request;
    server.client_ca_file = None;
    has(&Acceptor::load(&server).unwrap_err().to_string(), &["tls.crl_file", "tls.client_ca_file"]);
    server = verifying(&pki);
    server.client_auth = ClientAuthMode::Require;
    server.client_allowed_names = list(&["CN=x"]);
    has(&Acceptor::load(&server).unwrap_err().to_string(), &["tls.client_allowed_names", "verify"]);
}
