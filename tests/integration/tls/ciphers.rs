use mcp_bridge::{
    config::TlsVersion,
    tls::{Acceptor, Connector},
};

use super::{
    pki::{Kind, Leaf, Pki},
    support::*,
};

const GCM128: &str = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
const GCM256: &str = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";

fn rsa(pki: &Pki) -> mcp_bridge::config::Identity {
    pki.identity("srv", &Leaf { key: Kind::Rsa, ..Leaf::default() })
}

#[tokio::test]
async fn the_servers_order_of_suites_rules() {
    let pki = Pki::new();
    let mut settings = server_tls(rsa(&pki));
    settings.policy = only(TlsVersion::Tls12);
    for order in [[GCM128, GCM256], [GCM256, GCM128]] {
        settings.policy.cipher_suites = list(&order);
        let mut served = Served::start(Acceptor::load(&settings).unwrap()).await;
        for offered in [
            "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
        ] {
            let (_, outcome) = served.s_client(&["-cipher", offered]).await;
            assert_eq!(outcome.unwrap().cipher, order[0]);
        }
    }
}

#[tokio::test]
async fn each_suite_that_an_rsa_key_serves_connects_by_its_iana_name_alone() {
    let pki = Pki::new();
    let mut server = server_tls(rsa(&pki));
    let mut client = client_tls(&pki.ca());
    for kx in ["ECDHE_RSA", "DHE_RSA", "RSA"] {
        for cipher in ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "AES_128_CBC_SHA", "AES_256_CBC_SHA"] {
            let name = format!("TLS_{kx}_WITH_{cipher}");
            server.policy = only(TlsVersion::Tls12);
            server.policy.cipher_suites = list(&[&name]);
            client.policy = server.policy.clone();
            let (accepted, connected) = meet_with(&server, &client).await.both();
            assert_eq!((accepted.cipher, connected.cipher), (&*name, &*name));
            assert_eq!(accepted.group.is_some(), kx == "ECDHE_RSA", "{accepted}");
        }
    }
}

#[tokio::test]
async fn cbc_and_rsa_key_exchange_connect_over_tls_1_0() {
    let pki = Pki::new();
    let mut server = server_tls(rsa(&pki));
    let mut client = client_tls(&pki.ca());
    for name in [
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
    ] {
        server.policy = only(TlsVersion::Tls10);
        server.policy.cipher_suites = list(&[name]);
        client.policy = server.policy.clone();
        assert_eq!(meet_with(&server, &client).await.both().0.cipher, name);
    }
}

#[tokio::test]
async fn a_suite_that_no_key_can_serve_is_a_warning() {
    let pki = Pki::new();
    let mut settings = server_tls(rsa(&pki));
    settings.policy.cipher_suites = list(&[GCM128, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
    let warnings = Acceptor::load(&settings).unwrap().warnings();
    assert_eq!(warnings.len(), 1);
    has(&warnings[0], &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "no configured key"]);
}

#[tokio::test]
async fn anonymous_and_null_suites_are_never_negotiated_even_at_level_0() {
    let pki = Pki::new();
    let mut settings = server_tls(rsa(&pki));
    settings.policy.min_version = Some(TlsVersion::Tls10);
    let mut served = Served::start(Acceptor::load(&settings).unwrap()).await;
    for hollow in ["aNULL", "eNULL"] {
        let cipher = format!("{hollow}:@SECLEVEL=0");
        let (_, outcome) = served.s_client(&["-tls1_2", "-cipher", &cipher]).await;
        has(&outcome.unwrap_err().to_string(), &["tls: no common cipher suite"]);
    }
}

#[tokio::test]
async fn groups_are_the_configured_ones_on_both_sides() {
    let pki = Pki::new();
    let mut server = server_tls(pki.identity("srv", &Leaf::default()));
    let mut client = client_tls(&pki.ca());
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        for group in ["X25519", "X448", "P-256", "P-384", "P-521"] {
            client.policy = only(version);
            // An ECDSA key on P-256 needs that group, too, before TLS 1.3.
            client.policy.curve_preferences = list(&[group, "P-256"]);
            server.policy.curve_preferences = list(&[group]);
            let (accepted, connected) = meet_with(&server, &client).await.both();
            assert_eq!((accepted.group.as_deref(), connected.group.as_deref()), (Some(group), Some(group)));
        }
    }
    let report = Acceptor::load(&server).unwrap().report();
    assert_eq!(report.groups, ["P-521"]);
    let report = Connector::load(&client, "srv.test").unwrap().report();
    assert_eq!(report.groups, ["P-521", "P-256"]);
}

#[tokio::test]
async fn hybrid_groups_connect_where_openssl_has_them_and_warn_where_it_does_not() {
    let pki = Pki::new();
    let mut server = server_tls(pki.identity("srv", &Leaf::default()));
    for group in ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"] {
        server.policy.curve_preferences = list(&[group, "P-256"]);
        let acceptor = Acceptor::load(&server).unwrap();
        let mut client = client_tls(&pki.ca());
        client.policy = server.policy.clone();
        let (accepted, _) = meet_with(&server, &client).await.both();
        if openssl::version::number() < 0x3050_0000 {
            has(&acceptor.warnings()[0], &[group, "needs OpenSSL 3.5"]);
            assert_eq!(accepted.group.as_deref(), Some("P-256"));
        } else {
            assert_eq!((acceptor.warnings().len(), accepted.group.as_deref()), (0, Some(group)));
        }
    }
}

#[tokio::test]
async fn the_report_names_suites_groups_and_certificates_for_people_and_machines() {
    let pki = Pki::new();
    let mut settings = server_tls(rsa(&pki));
    settings.policy.cipher_suites = list(&[GCM256, GCM128]);
    settings.policy.curve_preferences = list(&["X25519", "P-256"]);
    let report = Acceptor::load(&settings).unwrap().report();
    has(
        &report.to_string(),
        &[
            "OpenSSL: OpenSSL 3.",
            "FIPS mode: off",
            "Versions: TLS 1.2 to TLS 1.3",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 (ECDHE-RSA-AES256-GCM-SHA384, 256 bits)",
            "Groups: X25519, P-256",
            "Client authentication: none",
            "Certificate: CN=srv.test",
            "Names: DNS:srv.test",
            "Issuer: CN=Test Root",
            "Key: RSA, 2048 bits",
        ],
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["ciphers"].as_array().unwrap().len(), 3 + 2, "{json}");
    assert_eq!(json["certificates"][0]["key_type"], "RSA");
}
