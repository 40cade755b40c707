//! `serve`'s side: a context for accepting, and handshakes with it.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use openssl::{
    error::ErrorStack,
    ssl::{
        AlpnError, ClientHelloResponse, Ssl, SslAcceptor, SslContext, SslContextBuilder, SslMethod, SslRef,
        SslSessionCacheMode, SslVersion, select_next_proto,
    },
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_openssl::SslStream;

use super::{
    Side, ciphers, client_auth,
    error::TlsError,
    failure::{HandshakeError, Kind},
    ffi, fips,
    handshake::{Handshake, Terms},
    identity::{self, Loaded},
    notes::{self, Notes, Offer},
    policy::Policy,
    reload::{self, Live, Load, Reload, ReloadCounts},
    report::{Parts, Report},
    trust::Crls,
    verdict::{self, Scene},
};
use crate::config::{ClientAuthMode, ServerTls};

/// Accepts TLS connections by the settings it was loaded with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Acceptor(Arc<Live<Server>>);

impl Acceptor {
    /// Reads the files, judges every key and builds the context.
    pub fn load(settings: &ServerTls) -> Result<Self, TlsError> {
        Live::load(settings.clone()).map(Arc::new).map(Self)
    }

    /// What deserves an operator's attention, of the context in force.
    pub fn warnings(&self) -> Vec<String> {
        self.0.current().report.warnings.clone()
    }

    /// The policy in force.
    pub fn report(&self) -> Report {
        self.0.current().report.clone()
    }

    /// How reloads went.
    pub fn reload_counts(&self) -> ReloadCounts {
        self.0.counts()
    }

    /// The server's part of a handshake on `io`. Safe to cancel: dropping the future drops the connection.
    ///
    /// It sets no timeout of its own; after a refusal it waits for the peer to read the alert, at most a second.
    pub async fn accept<S>(&self, io: S) -> Result<(SslStream<S>, Handshake), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = self.0.current();
        let unready = |stack: ErrorStack| {
            HandshakeError::new(Kind::Refused, "tls: no connection can be made").fact(stack.to_string())
        };
        let ssl = Ssl::new(&server.context).map_err(unready)?;
        let mut stream = SslStream::new(ssl, io).map_err(unready)?;
        match Pin::new(&mut stream).accept().await {
            Ok(()) => {
                notes::forget(stream.ssl());
                let handshake = Handshake::of(stream.ssl(), server.terms);
                Ok((stream, handshake))
            }
            Err(error) => {
                let failure = verdict::of(&error, &server.scene(stream.ssl()));
                if failure.kind() == Kind::Refused {
                    let _ = tokio::time::timeout(DRAIN_TIME, drain(stream.get_mut())).await;
                }
                Err(failure)
            }
        }
    }
}

impl Reload for Acceptor {
    fn reload(&self) -> Result<(), TlsError> {
        self.0.reload()
    }

    fn is_due(&self) -> bool {
        self.0.is_due()
    }

    fn stale_in(&self) -> Option<Duration> {
        self.0.stale_in()
    }
}

/// How long, and for how many bytes, a refused peer may take to see why.
const DRAIN_TIME: Duration = Duration::from_secs(1);
const DRAIN_BYTES: u64 = 64 * 1024;

/// Closes our half and reads the peer's. Closing with bytes unread would reset the connection, and the reset
/// may overtake the alert: half the clients would see no reason.
async fn drain<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) {
    if io.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut io.take(DRAIN_BYTES), &mut tokio::io::sink()).await;
    }
}

/// One context and what goes with it.
#[derive(Debug)]
struct Server {
    context: SslContext,
    terms: Terms,
    report: Report,
    rebuild_at: Option<i64>,
}

impl Server {
    fn scene<'a>(&'a self, ssl: &'a SslRef) -> Scene<'a> {
        Scene { side: Side::Server, ssl, ours: &self.report, name: None, has_certificate: true }
    }
}

impl Load for Server {
    type Settings = ServerTls;

    fn load(settings: &ServerTls) -> Result<Self, TlsError> {
        if settings.policy.fips_required {
            fips::require()?;
        }
        let mut policy = Policy::new(&settings.policy)?;
        let identities = identity::load_all(&settings.identities)?;
        let crls = settings.crl_file.as_deref().map(Crls::load).transpose()?;
        let mut warnings = std::mem::take(&mut policy.warnings);

        // The one preset that loads at every security level; the policy replaces what it sets.
        let mut context = SslAcceptor::mozilla_modern_v5(SslMethod::tls())
            .map_err(|stack| TlsError::openssl("tls", "make a context", &stack))?;
        policy.apply(&mut context, Side::Server)?;
        for identity in &identities {
            identity.put_on(&mut context)?;
            warnings.extend(identity.warnings.iter().cloned());
        }
        let keys: Vec<_> = identities.iter().map(Loaded::kind).collect();
        warnings.extend(ciphers::unserved(policy.suites.as_deref().unwrap_or_default(), &keys));
        client_auth::apply(&mut context, settings, crls.as_ref(), &mut warnings)?;
        serve_sessions(&mut context).map_err(|stack| TlsError::openssl("tls", "set up sessions", &stack))?;

        let context = context.build().into_context();
        policy.confirm(&context)?;
        if let (Some(path), Some(crls)) = (&settings.crl_file, &crls) {
            warnings.extend(crls.warnings(path));
        }
        let parts = Parts {
            client_auth: Some(settings.client_auth),
            certificates: identities.iter().map(|identity| &*identity.leaf).collect(),
            crls: crls.as_ref(),
            warnings,
        };
        let report = Report::new(&context, policy.judge.versions, parts);
        let rebuild_at = crls.and_then(|crls| crls.rebuild_at());
        Ok(Self { context, terms: terms(settings), report, rebuild_at })
    }

    fn files(settings: &ServerTls) -> Vec<PathBuf> {
        let identities = settings.identities.iter().flat_map(reload::identity_files);
        identities.chain(settings.client_ca_file.clone()).chain(settings.crl_file.clone()).collect()
    }

    fn warnings(&self) -> &[String] {
        &self.report.warnings
    }

    fn rebuild_at(&self) -> Option<i64> {
        self.rebuild_at
    }
}

fn terms(settings: &ServerTls) -> Terms {
    Terms {
        side: Side::Server,
        asks: settings.client_auth != ClientAuthMode::None,
        has_roots: settings.client_ca_file.is_some(),
        has_certificate: true,
    }
}

/// Sessions live in tickets alone, one for each handshake; a context's keys are its own, so that a reload
/// ends them all.
fn serve_sessions(context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    // Without it every client that resumes under client verification fails.
    context.set_session_id_context(b"mcp-bridge")?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_num_tickets(1)?;
    ffi::ignore_tickets_of_expired_peers(context)?;
    context.set_client_hello_callback(|ssl, _| {
        notes::attach(ssl, Notes { offer: Some(Offer::of_hello(ssl)), refusal: None });
        Ok(ClientHelloResponse::SUCCESS)
    });
    context
        .set_alpn_select_callback(|ssl, offered| choose_protocol(ssl, offered).ok_or(AlpnError::ALERT_FATAL));
    Ok(())
}

/// h2 needs TLS 1.2 (RFC 9113, section 9.2); a client with neither is told so (RFC 7301, section 3.2).
fn choose_protocol<'a>(ssl: &SslRef, offered: &'a [u8]) -> Option<&'a [u8]> {
    let old = matches!(ssl.version2(), Some(SslVersion::SSL3 | SslVersion::TLS1 | SslVersion::TLS1_1));
    let ours: &[u8] = if old { b"\x08http/1.1" } else { b"\x02h2\x08http/1.1" };
    select_next_proto(ours, offered)
}
