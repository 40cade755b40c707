//! New files without a restart: by signal, by looking, and never at the cost of a connection.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openssl::ssl::{Ssl, SslConnector, SslMethod};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::support::*;
use crate::support::bridge::Bridge;
use crate::support::session::Session;
use crate::tls::revocation::crl;

const VERIFY: [&str; 2] = ["client_auth: verify", "client_ca_file: $ca.pem"];
const NEVER: &str = "reload_interval: 1h";
const OFTEN: &str = "reload_interval: 20ms";

fn renew(site: &Site, cn: &str) {
    site.pki.identity("srv", &Leaf { cn, ..server_leaf() });
}

/// The subject of the certificate that the server shows.
async fn shown(bridge: &Bridge, ca: &str) -> String {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_ca_file(ca).unwrap();
    let ssl: Ssl = builder.build().configure().unwrap().into_ssl("127.0.0.1").unwrap();
    let address: SocketAddr = address(bridge).parse().unwrap();
    let mut stream = SslStream::new(ssl, TcpStream::connect(address).await.unwrap()).unwrap();
    Pin::new(&mut stream).connect().await.unwrap();
    let certificate = stream.ssl().peer_certificate().unwrap();
    let name = certificate.subject_name().entries().next().unwrap();
    name.data().to_string().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_loads_a_new_certificate_and_open_connections_live_on() {
    let site = Site::new();
    let bridge = site.serve(&[NEVER]);
    let session = Session::open(&site.http(&bridge)).await;
    let mut open = session.http.get().await;
    renew(&site, "second");
    assert_eq!(shown(&bridge, &site.file("ca.pem")).await, "srv.test");
    hang_up(&bridge);
    assert_eq!(shown(&bridge, &site.file("ca.pem")).await, "second");
    // The stream from before carries what the child has to say now.
    session.call("list_changed", json!({"after": true})).await;
    assert_eq!(open.next_message().await.unwrap()["method"], "notifications/tools/list_changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_noticed_and_a_broken_one_keeps_the_old_certificate() {
    let site = Site::new();
    let bridge = site.serve(&[OFTEN]);
    let ca = site.file("ca.pem");
    site.pki.write("srv.crt", b"broken");
    let line = bridge.logged(NOT_LOADED);
    has(&line, &["ERROR", "tls.cert_file", "srv.crt", "holds no certificate in PEM form"]);
    assert_eq!(shown(&bridge, &ca).await, "srv.test");
    renew(&site, "second");
    bridge.logged(LOADED);
    // Three files were written, and each may have been seen empty and whole: no error is repeated at each look.
    let failed = times(&bridge, NOT_LOADED);
    assert!((1..=6).contains(&failed), "{}", bridge.stderr());
    assert_eq!(shown(&bridge, &ca).await, "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_with_a_broken_file_keeps_the_old_certificate() {
    let site = Site::new();
    let bridge = site.serve(&[NEVER, VERIFY[0], VERIFY[1]]);
    let session = Session::open(&site.http_as_client(&bridge)).await;
    for (file, part) in [("srv.key", "tls.key_file"), ("ca.pem", "tls.client_ca_file")] {
        let good = std::fs::read(site.file(file)).unwrap();
        site.pki.write(file, b"-----BEGIN NOTHING-----\n");
        let before = times(&bridge, NOT_LOADED);
        hang_up(&bridge);
        assert_eq!((times(&bridge, NOT_LOADED), times(&bridge, LOADED)), (before + 1, 0));
        has(&bridge.stderr(), &[&format!("{NOT_LOADED}: {part}")]);
        site.pki.write(file, &good);
        assert_eq!(
            session.call("echo", json!({"message": "still here"})).await["result"]["isError"],
            json!(null)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_handshakes_over_ten_reloads_lose_nothing() {
    const WORKERS: usize = 8;
    const EACH: usize = 125;
    let site = Site::new();
    let bridge = site.server(&[NEVER, VERIFY[0], VERIFY[1]]).arg("--log-level=info").start();
    let session = Arc::new(Session::open(&site.http_as_client(&bridge)).await);
    let done = Arc::new(AtomicUsize::new(0));
    let workers = (0..WORKERS).map(|worker| {
        let (session, done) = (Arc::clone(&session), Arc::clone(&done));
        tokio::spawn(async move {
            for n in 0..EACH {
                // Each is a connection of its own.
                let message = format!("{worker}-{n}");
                let answer = session.call("echo", json!({"message": message})).await;
                assert_eq!(answer["result"]["content"][0]["text"], message, "{answer}");
                done.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    for reload in 1..=10 {
        // This exchange begins under the old files and ends under the new.
        let (first, second) = (Arc::clone(&session), Arc::clone(&session));
        // The tool counts its calls, and answers from that number on.
        let n = 2 * reload;
        let across = tokio::spawn(async move { first.call("meet", json!({"n": n})).await });
        let reached = reload * WORKERS * EACH / 11;
        tokio::task::block_in_place(|| {
            until("handshakes", || done.load(Ordering::SeqCst) >= reached);
            renew(&site, &format!("number {reload}"));
            hang_up(&bridge);
        });
        assert!(!across.is_finished());
        assert!(second.call("meet", json!({"n": n})).await["result"].is_object());
        assert!(across.await.unwrap()["result"].is_object());
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), WORKERS * EACH);
    assert_eq!((times(&bridge, LOADED), times(&bridge, "WARN")), (10, 0), "{}", bridge.stderr());
    assert_eq!((times(&bridge, "ERROR"), times(&bridge, "handshake failed")), (0, 0), "{}", bridge.stderr());
}

#[test]
fn a_session_of_a_ca_that_was_removed_can_not_resume() {
    for version in ["-tls1_2", "-tls1_3"] {
        let site = Site::new();
        let other = Pki::named("Other Root");
        let (root, other_root) = (site.pki.root.cert.to_pem().unwrap(), other.root.cert.to_pem().unwrap());
        site.pki.write("clients.pem", &[&root[..], &other_root].concat());
        site.pki.save("removed", &issue(&client_leaf(), Some(&other.root)), &[]);
        let bridge = site.serve(&[NEVER, VERIFY[0], "client_ca_file: $clients.pem"]);
        let (cert, key, session) = (site.file("removed.crt"), site.file("removed.key"), site.file("session"));
        let own = [version, "-cert", &cert, "-key", &key];
        s_client(&bridge, &[&own[..], &["-sess_out", &session]].concat());
        let resume = || s_client(&bridge, &[&own[..], &["-sess_in", &session]].concat());
        has(&resume().stdout, &["Reused, ", "HTTP/1.1 "]);
        bridge.logged("resumed handshake");
        site.pki.write("clients.pem", &root);
        hang_up(&bridge);
        let said = resume();
        assert!(!said.stdout.contains("HTTP/1.1 "), "{}", said.stdout);
        let line = bridge.logged("TLS handshake failed");
        has(&line, &["x509: certificate signed by unknown authority", "CN=Other Root", "tls.client_ca_file"]);
        assert_eq!(times(&bridge, "resumed handshake"), 1);
    }
}

#[test]
fn a_revocation_list_that_is_put_in_place_ends_what_it_revokes() {
    let site = Site::new();
    let pki = &site.pki;
    let client = pki.issue(&client_leaf());
    pki.save("client", &client, &[]);
    pki.write("list.crl", &crl(pki, &pki.root, &[], 3600));
    let bridge = site.serve(&[OFTEN, VERIFY[0], VERIFY[1], "crl_file: $list.crl"]);
    let (cert, key, session) = (site.file("client.crt"), site.file("client.key"), site.file("session"));
    let own = ["-cert", &cert, "-key", &key];
    has(&s_client(&bridge, &[&own[..], &["-sess_out", &session]].concat()).stdout, &["HTTP/1.1 "]);
    pki.write("list.crl", &crl(pki, &pki.root, &[&client], 3600));
    until("reload", || times(&bridge, LOADED) > 0);
    assert!(!s_client(&bridge, &[&own[..], &["-sess_in", &session]].concat()).stdout.contains("HTTP/1.1 "));
    bridge.logged("x509: certificate revoked");
}

#[test]
fn connect_loads_its_certificate_and_ca_anew() {
    for (interval, by_signal) in [(NEVER, true), (OFTEN, false)] {
        let site = Site::new();
        let bridge = site.serve(&VERIFY);
        let stranger = Pki::named("Stranger");
        site.pki.write("trusted.pem", &stranger.root.cert.to_pem().unwrap());
        site.pki.save("own", &issue(&client_leaf(), Some(&stranger.root)), &[]);
        let lines = ["ca_cert: $trusted.pem", "cert_file: $own.crt", "key_file: $own.key", interval];
        let mut connect = site.connect(&bridge.url, &lines);
        has(&connect.initialize().to_string(), &["x509: certificate signed by unknown authority"]);
        for (files, answer) in [
            (&[("ca.pem", "trusted.pem")][..], "tls: bad certificate (the peer sent alert 48 unknown_ca"),
            (&[("client.key", "own.key"), ("client.crt", "own.crt")], "\"protocolVersion\""),
        ] {
            let before = times(&connect, LOADED);
            for (good, name) in files {
                std::fs::copy(site.file(good), site.file(name)).unwrap();
            }
            if by_signal {
                hang_up(&connect);
            }
            until("reload", || times(&connect, LOADED) > before);
            // A file that was seen while it was written is loaded twice, and the first may be the step before.
            until(answer, || connect.initialize().to_string().contains(answer));
        }
        // What is broken afterwards changes nothing.
        site.pki.write("own.crt", b"broken");
        if by_signal {
            hang_up(&connect);
        }
        has(&connect.logged(&format!("{NOT_LOADED}: tls.cert_file")), &["own.crt", "ERROR"]);
        assert!(connect.call("echo", &json!({"message": "x"}))["result"].is_object());
    }
}
