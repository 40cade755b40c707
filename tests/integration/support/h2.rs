//! An HTTP/2 server, frame by frame: it takes in requests and answers each with the frames that a test wants.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use openssl::ssl::{AlpnError, SslAcceptor, SslFiletype, SslMethod, select_next_proto};

use super::DEADLINE;
use super::certs::cert;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// Types of frames (RFC 9113, section 6).
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const GOAWAY: u8 = 7;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// One frame, written.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A server that answers the whole request of a stream with `answer(stream)`, and then ends the connection if told so.
pub(crate) struct H2 {
    pub(crate) url: String,
    requests: mpsc::Receiver<u32>,
}

impl H2 {
    pub(crate) fn start(closes: bool, answer: fn(u32) -> Vec<u8>) -> Self {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        builder.set_certificate_chain_file(cert("server.crt")).unwrap();
        builder.set_private_key_file(cert("server.key"), SslFiletype::PEM).unwrap();
        builder.set_alpn_select_callback(|_, theirs| {
            select_next_proto(b"\x02h2", theirs).ok_or(AlpnError::NOACK)
        });
        let acceptor = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://127.0.0.1:{}/mcp", listener.local_addr().unwrap().port());
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                thread::spawn(move || {
                    let Ok(mut wire) = acceptor.accept(tcp.unwrap()) else { return };
                    let _ = serve(&mut wire, &sender, closes, answer);
                });
            }
        });
        Self { url, requests }
    }

    /// Waits for the next request.
    pub(crate) fn asked(&self) {
        self.requests.recv_timeout(DEADLINE).expect("a request");
    }

    /// Whether a request has come that [`Self::asked`] has not seen.
    pub(crate) fn is_quiet(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

fn serve(
    wire: &mut (impl Read + Write),
    requests: &mpsc::Sender<u32>,
    closes: bool,
    answer: fn(u32) -> Vec<u8>,
) -> io::Result<()> {
    wire.read_exact(&mut [0; PREFACE])?;
    wire.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        wire.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes(stream);
        match kind {
            SETTINGS if flags & ACK == 0 => wire.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            HEADERS | DATA if flags & END_STREAM != 0 => {
                let _ = requests.send(stream);
                wire.write_all(&answer(stream))?;
                wire.flush()?;
                if closes {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}
