//! Peers that are slow, silent, many, or speak no TLS: each ends its own connection, and nobody else's.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::*;
use crate::support::DEADLINE;
use crate::support::bridge::{Bridge, Guard};
use crate::support::process::Process;
use crate::support::session::Session;

/// The first record of a real client: `openssl s_client` has written it into a socket that only listens.
fn client_hello() -> Vec<u8> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Process::spawn(Command::new("openssl").args(["s_client", "-connect", &address]));
    let mut io = listener.accept().unwrap().0;
    let mut record = vec![0; 5];
    io.read_exact(&mut record).unwrap();
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(5 + length, 0);
    io.read_exact(&mut record[5..]).unwrap();
    drop(io);
    client.wait();
    record
}

fn connect(bridge: &Bridge) -> TcpStream {
    let io = TcpStream::connect(address(bridge)).unwrap();
    io.set_read_timeout(Some(DEADLINE)).unwrap();
    io
}

/// What the server still sends until it ends the connection.
fn rest(io: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match io.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server keeps the connection: {error}"),
    }
    bytes
}

fn is_well(site: &Site, bridge: &Bridge) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = runtime.block_on(async {
        let session = Session::open(&site.http(bridge)).await;
        session.call("echo", json!({"message": "well"})).await
    });
    assert_eq!(answer["result"]["content"][0]["text"], "well");
}

#[test]
fn a_handshake_that_stops_half_way_or_comes_byte_by_byte_is_cut_at_its_timeout() {
    let site = Site::new();
    let limit = Duration::from_millis(700);
    let bridge = site.server(&[]).config("server:\n  handshake_timeout: 700ms").start();
    let hello = client_hello();

    let began = Instant::now();
    let mut silent = connect(&bridge);
    silent.write_all(&hello[..hello.len() / 2]).unwrap();
    assert_eq!(rest(&mut silent), b"");
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());

    // Each byte comes in good time, and all of them would take a minute.
    let mut slow = connect(&bridge);
    let cut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut reader = slow.try_clone().unwrap();
        let cut = &cut;
        scope.spawn(move || {
            assert_eq!(rest(&mut reader), b"");
            cut.store(true, Ordering::SeqCst);
        });
        for byte in hello.chunks(1) {
            if cut.load(Ordering::SeqCst) || slow.write_all(byte).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert!(cut.load(Ordering::SeqCst), "all of the hello was taken");
    let line = bridge.logged("TLS handshake not finished within 700ms");
    has(&line, &["INFO  127.0.0.1:"]);
    until("both are logged", || times(&bridge, "not finished within 700ms") == 2);

    // Not a byte at all.
    assert_eq!(rest(&mut connect(&bridge)), b"");
    bridge.logged("sent nothing for 700ms");
    is_well(&site, &bridge);
}

/// Opens connections that send a few bytes of a hello and then nothing, from a process with files enough of its own.
fn half_open(bridge: &Bridge, number: usize) -> Process {
    let (host, port) = address(bridge).split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let script = format!(
        "ulimit -n {files}; for i in $(seq {number}); do exec {{fd}}<>/dev/tcp/{host}/{port}; \
         printf '\\x16\\x03\\x01\\x02\\x00\\x01' >&$fd; done; echo ready; read",
        files = number + 100
    );
    let process = Process::spawn(Command::new("bash").args(["-c", &script]));
    assert_eq!(process.next_line().as_deref(), Some("ready"), "{}", process.stderr());
    process
}

/// The time of a connection, its handshake and a request, of twenty in the middle.
fn median(site: &Site, bridge: &Bridge) -> Duration {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let session = Session::open(&site.http(bridge)).await;
        let mut taken = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            let answer = session.call("echo", json!({"message": "x"})).await;
            assert!(answer["result"].is_object(), "{answer}");
            taken.push(began.elapsed());
        }
        taken.sort();
        taken[taken.len() / 2]
    })
}

#[test]
fn a_thousand_half_open_handshakes_do_not_delay_a_good_client() {
    let site = Site::new();
    let bridge = site.server(&[]).config("server:\n  handshake_timeout: 5m").start();
    let alone = median(&site, &bridge);
    let mut crowd = half_open(&bridge, 1000);
    let among = median(&site, &bridge);
    // Whoever waits for the crowd waits for minutes.
    assert!(among < alone * 10 + Duration::from_secs(1), "alone {alone:?}, among a thousand {among:?}");
    crowd.close_stdin();
    crowd.wait();
    until("the crowd has gone", || times(&bridge, "closed during the handshake") == 1000);
    assert_eq!(times(&bridge, "WARN"), 0);
}

#[test]
fn half_open_handshakes_count_as_connections_and_make_room_at_their_timeout() {
    let site = Site::new();
    let server = "server:\n  handshake_timeout: 2s\n  max_connections: 8";
    let bridge = site.server(&[]).config(server).start();
    let crowd = half_open(&bridge, 9);
    let line = bridge.logged("refused a connection: 8 are open");
    has(&line, &["WARN", "server.max_connections"]);
    until("the half-open ones are cut", || times(&bridge, "not finished within 2s") == 8);
    is_well(&site, &bridge);
    drop(crowd);
}

#[test]
fn renegotiation_by_the_client_is_refused() {
    let site = Site::new();
    let bridge = site.serve(&["max_version: \"1.2\""]);
    // `R` at the beginning of a line makes s_client renegotiate.
    let mut command = Command::new("timeout");
    command.args(["25", "openssl", "s_client", "-connect", &address(&bridge)]);
    let said = Said::after(&mut command, "R\n");
    has(&said.all(), &["RENEGOTIATING", "no renegotiation"]);
    bridge.logged("connection ended: ");
    assert_eq!(times(&bridge, ": TLS handshake: "), 1, "{}", bridge.stderr());
    is_well(&site, &bridge);
}

#[test]
fn records_that_are_none_end_their_connection_and_no_other() {
    const ALERT: u8 = 21;
    let site = Site::new();
    let bridge = site.serve(&[]);
    let hello = client_hello();
    let record = |kind: u8, version: [u8; 2], length: u16, body: &[u8]| {
        [&[kind, version[0], version[1]], &length.to_be_bytes()[..], body].concat()
    };
    let noise: Vec<u8> = (0..=255_u8).map(|n| n.wrapping_mul(167).wrapping_add(13)).collect();
    let mut forged = hello.clone();
    // The length of the hello inside the record, and of its session id.
    forged[6] = 0xff;
    let mut torn = hello.clone();
    torn[43] = 0xff;
    let cases: &[(&str, Vec<u8>, bool)] = &[
        ("oversized", record(22, [3, 1], 0xffff, &noise), true),
        ("empty", record(22, [3, 1], 0, b""), false),
        ("application data first", record(23, [3, 3], 16, &noise[..16]), true),
        ("change cipher spec first", record(20, [3, 1], 1, b"\x01"), true),
        ("a hello of 16 MB", forged, true),
        ("a session id beyond the end", torn, true),
        ("no hello", record(22, [3, 1], 256, &noise), true),
        ("random bytes", noise.repeat(4), false),
        ("random bytes after the type", [&b"\x16"[..], &noise].concat(), false),
        ("zeros", vec![0; 512], false),
        ("SSH", b"\x00SSH-2.0-OpenSSH_9.2\r\n".to_vec(), false),
    ];
    for (at, (what, bytes, alert)) in cases.iter().enumerate() {
        let mut io = connect(&bridge);
        // The server may have ended the connection before it has taken all.
        let _ = io.write_all(bytes);
        let answer = rest_after_end(io);
        if *alert {
            assert_eq!(answer.first(), Some(&ALERT), "{what}: {answer:?}");
        }
        until(what, || times(&bridge, "TLS handshake failed") == at + 1);
    }
    // Truncated anywhere: nothing is owed to who has left, but a line.
    for end in [1, 4, 5, 6, hello.len() / 2, hello.len() - 1] {
        let mut io = connect(&bridge);
        io.write_all(&hello[..end]).unwrap();
        rest_after_end(io);
    }
    until("six more lines", || times(&bridge, "TLS handshake failed") == cases.len() + 6);
    assert_eq!(times(&bridge, "tls: connection closed during the handshake"), 7, "{}", bridge.stderr());
    assert_eq!(times(&bridge, " INFO ") - 2, cases.len() + 6, "each at info: {}", bridge.stderr());
    assert_eq!(times(&bridge, "panicked"), 0);
    is_well(&site, &bridge);
}

/// Half-closes, so that a server that waits for more sees that there is none.
fn rest_after_end(mut io: TcpStream) -> Vec<u8> {
    let _ = io.shutdown(std::net::Shutdown::Write);
    rest(&mut io)
}

#[test]
fn a_broken_record_after_the_handshake_ends_the_connection() {
    let site = Site::new();
    let bridge = site.serve(&["max_version: \"1.2\""]);
    // Between the client and the server stands one that turns a bit of what the client sends after its handshake.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let server = connect(&bridge);
    let relay = std::thread::spawn(move || {
        let client = listener.accept().unwrap().0;
        let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let back = std::thread::spawn(move || drop(io::copy(&mut from_server, &mut to_client)));
        spoil_application_data(client, server);
        back.join().unwrap();
    });
    let mut command = Command::new("timeout");
    command.args(["25", "openssl", "s_client", "-ign_eof", "-connect", &here]);
    let said = Said::after(&mut command, "GET / HTTP/1.1\r\n\r\n");
    relay.join().unwrap();
    has(&said.all(), &["bad record mac"]);
    bridge.logged("connection ended: ");
    is_well(&site, &bridge);
}

fn spoil_application_data(mut client: TcpStream, mut server: TcpStream) {
    let mut head = [0; 5];
    while client.read_exact(&mut head).is_ok() {
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        client.read_exact(&mut body).unwrap();
        if head[0] == 23 {
            *body.last_mut().unwrap() ^= 1;
        }
        if server.write_all(&[&head[..], &body].concat()).is_err() {
            break;
        }
    }
}

#[test]
fn plain_http_on_the_tls_port_is_told_so() {
    let site = Site::new();
    let bridge = site.serve(&[]);
    let url = bridge.url.replace("https://", "http://");
    let said = Said::by(Command::new("curl").args([
        "-sS",
        "-i",
        "--noproxy",
        "*",
        "--max-time",
        "25",
        "-d",
        "{}",
        &url,
    ]));
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.stdout.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{}", said.stdout);
    has(&said.stdout, &["content-type: text/plain", "This port speaks TLS: use an https:// URL"]);
    let line = bridge.logged("plain HTTP on the TLS port");
    has(&line, &["INFO  127.0.0.1:"]);
    let mut connect = site.connect(&url, &[]);
    has(
        &connect.initialize()["error"]["message"].to_string(),
        &["400", "This port speaks TLS: use an https:// URL"],
    );
}

#[test]
fn tls_on_a_plain_port_fails_cleanly() {
    let bridge = Bridge::serve(Guard::None);
    let url = bridge.url.replace("http://", "https://");
    let said = Said::by(Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "25", &url]));
    // "A problem occurred somewhere in the SSL/TLS handshake."
    assert_eq!(said.code, Some(35), "{}", said.all());
    let mut connect = bridge.connect();
    assert!(connect.initialize()["result"].is_object());
}
