//! stub
#![allow(missing_docs)]
use crate::config;
use openssl::ssl::*;
use std::fmt;
pub use tokio_openssl::SslStream;
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateIdentity(String);
impl fmt::Display for CertificateIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    H2,
    Http11,
}
#[derive(Debug)]
pub struct Handshake {
    pub alpn: Option<Alpn>,
    pub identity: Option<CertificateIdentity>,
}
impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tls")
    }
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HandshakeError(String);
impl HandshakeError {
    pub fn closed_before_first_byte(&self) -> bool {
        false
    }
}
#[derive(Clone)]
pub struct Acceptor(SslAcceptor);
impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("acceptor")
    }
}
impl Acceptor {
    pub fn load(c: &config::ServerTls) -> Result<Self, TlsError> {
        let mut b = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
        b.set_certificate_chain_file(&c.identities[0].cert_file).unwrap();
        b.set_private_key_file(&c.identities[0].key_file, SslFiletype::PEM).unwrap();
        b.set_alpn_select_callback(|_, client| {
            select_next_proto(b"\x02h2\x08http/1.1", client).ok_or(AlpnError::NOACK)
        });
        Ok(Self(b.build()))
    }
    pub async fn accept<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
        &self,
        io: S,
    ) -> Result<(SslStream<S>, Handshake), HandshakeError> {
        let ssl = Ssl::new(self.0.context()).unwrap();
        let mut s = SslStream::new(ssl, io).unwrap();
        std::pin::Pin::new(&mut s).accept().await.map_err(|e| HandshakeError(e.to_string()))?;
        let alpn = match s.ssl().selected_alpn_protocol() {
            Some(b"h2") => Some(Alpn::H2),
            Some(_) => Some(Alpn::Http11),
            None => None,
        };
        Ok((s, Handshake { alpn, identity: None }))
    }
}
#[derive(Clone)]
pub struct Connector(SslConnector, String);
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connector")
    }
}
impl Connector {
    pub fn load(c: &config::ClientTls, host: &str) -> Result<Self, TlsError> {
        let mut b = SslConnector::builder(SslMethod::tls_client()).unwrap();
        if let Some(ca) = &c.ca_cert {
            b.set_ca_file(ca).unwrap();
        }
        b.set_alpn_protos(b"\x02h2\x08http/1.1").unwrap();
        Ok(Self(b.build(), host.to_owned()))
    }
    pub async fn connect<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
        &self,
        io: S,
    ) -> Result<(SslStream<S>, Handshake), HandshakeError> {
        let ssl = self.0.configure().unwrap().into_ssl(&self.1).unwrap();
        let mut s = SslStream::new(ssl, io).unwrap();
        std::pin::Pin::new(&mut s).connect().await.map_err(|e| HandshakeError(e.to_string()))?;
        let alpn = match s.ssl().selected_alpn_protocol() {
            Some(b"h2") => Some(Alpn::H2),
            Some(_) => Some(Alpn::Http11),
            None => None,
        };
        Ok((s, Handshake { alpn, identity: None }))
    }
}
