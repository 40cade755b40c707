//! The groups a context has in force, read from the hello it would send: OpenSSL 3.0 has no function that tells
//! (`SSL_get1_groups(3)` tells the peer's).

use std::io::{self, Read, Write};

use openssl::ssl::{Ssl, SslContextRef, SslStream};

/// Takes what is written and never answers.
#[derive(Debug, Default)]
struct Sink(Vec<u8>);

impl Read for Sink {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The numbers of the groups, in order; none when no hello can be made.
pub(super) fn groups(context: &SslContextRef) -> Vec<u16> {
    let hello = Ssl::new(context).and_then(|ssl| SslStream::new(ssl, Sink::default()));
    let Ok(mut stream) = hello else { return Vec::new() };
    // Always an error, for want of an answer.
    let _ = stream.connect();
    supported_groups(&stream.get_ref().0).unwrap_or_default()
}

/// Walks a record with a client hello (RFC 8446, sections 4.1.2 and 5.1) to extension 10.
fn supported_groups(record: &[u8]) -> Option<Vec<u16>> {
    let mut hello = Cursor(record.get(5 + 4 + 2 + 32..)?);
    hello.vector(1)?; // session id
    hello.vector(2)?; // cipher suites
    hello.vector(1)?; // compression methods
    let mut extensions = Cursor(hello.vector(2)?);
    loop {
        let kind = extensions.number(2)?;
        let body = extensions.vector(2)?;
        if kind == 10 {
            let list = Cursor(body).vector(2)?;
            return Some(list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect());
        }
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(head.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    fn vector(&mut self, prefix: usize) -> Option<&'a [u8]> {
        let len = self.number(prefix)?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use openssl::ssl::{SslContext, SslMethod};

    use super::*;

    #[test]
    fn the_groups_of_a_context_are_read_in_order() {
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        context.set_groups_list("P-384:X25519").unwrap();
        assert_eq!(groups(&context.build()), [24, 29]);
    }

    #[test]
    fn a_cut_off_hello_has_no_groups() {
        assert_eq!(supported_groups(&[22, 3, 1, 0, 0]), None);
        assert_eq!(supported_groups(&[0; 60]), None);
    }
}
