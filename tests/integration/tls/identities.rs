use std::process::Command;

use mcp_bridge::{
    config::{Identity, KeyPassword, Secret, TlsVersion},
    tls::Acceptor,
};

use super::{
    pki::{Kind, Leaf, Pki, issue},
    support::*,
};

#[tokio::test]
async fn each_kind_of_key_serves_and_authenticates() {
    let pki = Pki::new();
    for key in [Kind::P256, Kind::P384, Kind::P521, Kind::Rsa, Kind::RsaPss, Kind::Ed25519] {
        let identity = pki.identity("both", &Leaf { key, ..Leaf::default() });
        let mut server = server_tls(identity.clone());
        server.client_auth = mcp_bridge::config::ClientAuthMode::Verify;
        server.client_ca_file = Some(pki.ca());
        let mut client = client_tls(&pki.ca());
        client.identity = Some(identity);
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            client.policy = only(version);
            let (accepted, _) = meet_with(&server, &client).await.both();
            assert!(accepted.identity.is_some(), "{key:?} {accepted}");
        }
    }
}

#[tokio::test]
async fn several_identities_serve_clients_with_different_algorithms() {
    let pki = Pki::new();
    let mut settings = server_tls(pki.identity("ec", &Leaf::default()));
    let inter = pki.issue(&Leaf { cn: "Inter", names: &[], purposes: &[], ca: true, ..Leaf::default() });
    let rsa = issue(&Leaf { key: Kind::Rsa, ..Leaf::default() }, Some(&inter));
    settings.identities.push(pki.save("rsa", &rsa, &[&inter]));
    let mut served = Served::start(Acceptor::load(&settings).unwrap()).await;
    let ca = pki.ca();
    // Each with its own chain: only the RSA certificate needs the intermediate.
    for (sigalgs, kind, sent) in
        [("ecdsa_secp256r1_sha256", "ECDSA", 1), ("rsa_pss_rsae_sha256", "RSA-PSS", 2)]
    {
        let args =
            ["-CAfile", ca.to_str().unwrap(), "-sigalgs", sigalgs, "-verify_return_error", "-showcerts"];
        // The intermediate is signed with ECDSA, which a client that takes RSA alone would not accept in TLS 1.3.
        let sigalgs_cert = ["-client_sigalgs", "ecdsa_secp256r1_sha256"];
        let (output, outcome) = served.s_client(&[&args[..], &sigalgs_cert].concat()).await;
        outcome.unwrap();
        has(&output, &[&format!("Peer signature type: {kind}")]);
        assert_eq!(output.matches("-----BEGIN CERTIFICATE-----").count(), sent, "{output}");
    }
    settings.identities.push(pki.identity("ec2", &Leaf { key: Kind::P384, ..Leaf::default() }));
    let error = Acceptor::load(&settings).unwrap_err().to_string();
    has(&error, &["tls.cert_file", "ec2.crt", "second certificate", "ECDSA"]);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_key_and_path() {
    let pki = Pki::new();
    let good = pki.identity("srv", &Leaf::default());
    let other = pki.identity("other", &Leaf::default());
    let garbage = pki.write("garbage.pem", b"garbage");
    let der = pki.write("der.pem", &pki.root.cert.to_der().unwrap());
    let cut = pki.write("cut.pem", &std::fs::read(&good.cert_file).unwrap()[..200]);
    let cut_key = pki.write("cut.key", &std::fs::read(&good.key_file).unwrap()[..100]);
    let identity = |cert: &std::path::Path, key: &std::path::Path| Identity {
        cert_file: cert.to_owned(),
        key_file: key.to_owned(),
        key_password: None,
    };
    let missing = pki.path("missing.pem");
    for (identity, parts) in [
        (identity(&missing, &good.key_file), &["tls.cert_file", "missing.pem", "cannot be read"][..]),
        (identity(&good.cert_file, &missing), &["tls.key_file", "missing.pem", "cannot be read"]),
        (identity(pki.dir.path(), &good.key_file), &["tls.cert_file", "cannot be read"]),
        (identity(&garbage, &good.key_file), &["tls.cert_file", "garbage.pem", "no certificate in PEM form"]),
        (identity(&der, &good.key_file), &["tls.cert_file", "der.pem", "DER"]),
        (identity(&cut, &good.key_file), &["tls.cert_file", "cut.pem"]),
        (identity(&good.cert_file, &garbage), &["tls.key_file", "garbage.pem", "no private key"]),
        (identity(&good.cert_file, &cut_key), &["tls.key_file", "cut.key", "cannot be read"]),
        (identity(&good.cert_file, &good.cert_file), &["tls.key_file", "srv.crt", "swapped"]),
        (identity(&good.key_file, &good.key_file), &["tls.cert_file", "srv.key", "swapped"]),
        (
            identity(&good.cert_file, &other.key_file),
            &["tls.key_file", "other.key", "does not belong", "tls.cert_file", "srv.crt"],
        ),
    ] {
        has(&Acceptor::load(&server_tls(identity)).unwrap_err().to_string(), parts);
    }
}

#[test]
fn an_rsa_key_beside_an_ec_certificate_does_not_load() {
    let pki = Pki::new();
    let mut identity = pki.identity("ec", &Leaf::default());
    identity.key_file = pki.identity("rsa", &Leaf { key: Kind::Rsa, ..Leaf::default() }).key_file;
    has(&Acceptor::load(&server_tls(identity)).unwrap_err().to_string(), &["does not belong"]);
}

/// Encrypts a key with the password `s3cret`, as PBES2 PKCS#8 or in OpenSSL's old form.
fn encrypt(pki: &Pki, identity: &mut Identity, old: bool) {
    let encrypted = pki.path("encrypted.key");
    let mut command = Command::new("openssl");
    if old {
        command.args(["pkey", "-traditional", "-aes256", "-passout", "pass:s3cret"]);
    } else {
        command.args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", "pass:s3cret"]);
    }
    let made = command.arg("-in").arg(&identity.key_file).arg("-out").arg(&encrypted).status().unwrap();
    assert!(made.success());
    identity.key_file = encrypted;
}

#[tokio::test]
async fn an_encrypted_key_opens_with_its_password_and_never_prompts() {
    let pki = Pki::new();
    for old in [false, true] {
        let mut identity = pki.identity("srv", &Leaf::default());
        encrypt(&pki, &mut identity, old);
        let load =
            |password| Acceptor::load(&server_tls(Identity { key_password: password, ..identity.clone() }));
        let plain = |text: &str| Some(KeyPassword::Plain(Secret::new(text)));
        load(plain("s3cret")).unwrap();
        load(Some(KeyPassword::File(pki.write("password", b"s3cret\r\nsecond line\n")))).unwrap();
        // A prompt would wait for the terminal, or read it: the test would hang.
        has(
            &load(None).unwrap_err().to_string(),
            &["tls.key_file", "encrypted.key", "no password", "tls.key_password_file"],
        );
        let long = "x".repeat(5000);
        for wrong in ["wrong", "", "s3cre", &long] {
            has(
                &load(plain(wrong)).unwrap_err().to_string(),
                &["tls.key_file", "encrypted.key", "does not open"],
            );
        }
        let missing = load(Some(KeyPassword::File(pki.path("none")))).unwrap_err().to_string();
        has(&missing, &["tls.key_password_file", "cannot be read"]);
    }
}

#[test]
fn a_certificate_that_expires_soon_or_has_expired_is_reported() {
    use super::pki::DAY;
    let pki = Pki::new();
    let load = |valid| {
        let identity = pki.identity("srv", &Leaf { valid, ..Leaf::default() });
        Acceptor::load(&server_tls(identity)).unwrap().report()
    };
    let fresh = load((-DAY, 365 * DAY));
    assert!(fresh.warnings.is_empty() && !fresh.certificates[0].expires_soon);
    // Under 30 days of a long life; under a third of a short one.
    has(&load((-365 * DAY, 29 * DAY)).warnings[0], &["expires on"]);
    has(&load((-7 * DAY, 2 * DAY)).warnings[0], &["expires on"]);
    assert!(load((-DAY, 6 * DAY)).warnings.is_empty());
    let expired = load((-9 * DAY, -DAY));
    assert!(expired.has_expired_certificate());
    assert_eq!(expired.warnings.len(), 1);
    has(&expired.warnings[0], &["tls.cert_file", "expired on"]);
}

#[test]
fn a_chain_in_the_wrong_order_is_a_warning() {
    let pki = Pki::new();
    let inter = pki.issue(&Leaf { cn: "Inter", names: &[], purposes: &[], ca: true, ..Leaf::default() });
    let leaf = issue(&Leaf::default(), Some(&inter));
    let load = |chain: &[_]| Acceptor::load(&server_tls(pki.save("srv", &leaf, chain))).unwrap().warnings();
    assert_eq!(load(&[&inter, &pki.root]), Vec::<String>::new());
    has(&load(&[&pki.root, &inter])[0], &["certificate 2 of the file"]);
}
