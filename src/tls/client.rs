//! `connect`'s side: a context for connecting, and handshakes with it.

use std::{net::IpAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslConnector, SslConnectorBuilder, SslMethod, SslRef, SslSessionCacheMode, SslVerifyMode},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

use super::{
    Side,
    error::TlsError,
    failure::{HandshakeError, Kind},
    fips,
    handshake::{Alpn, Handshake, Terms},
    identity::Loaded,
    notes::{self, Notes},
    policy::Policy,
    reload::{self, Live, Load, Reload, ReloadCounts},
    report::{Parts, Report},
    server_name::server_name,
    trust::{self, Crls},
    verdict::{self, Scene},
};
use crate::config::{ClientTls, TlsVersion};

/// Opens TLS connections to one server by the settings it was loaded with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connector(Arc<Live<Client>>);

/// What a client is loaded from: the settings, and the name to verify.
#[derive(Debug)]
struct Settings {
    tls: ClientTls,
    name: String,
}

impl Connector {
    /// Reads the files, judges every key and builds the context. `url_host` is the host of the URL, which
    /// `tls.server_name` overrides.
    pub fn load(tls: &ClientTls, url_host: &str) -> Result<Self, TlsError> {
        let name = match &tls.server_name {
            Some(name) => server_name("tls.server_name", name)?,
            None => server_name("client.url", url_host)?,
        };
        Live::load(Settings { tls: tls.clone(), name }).map(Arc::new).map(Self)
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

    /// The client's part of a handshake on `io`. Safe to cancel; sets no timeout of its own.
    pub async fn connect<S>(&self, io: S) -> Result<(SslStream<S>, Handshake), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let client = self.0.current();
        let name = &self.0.settings.name;
        let unready = |stack: ErrorStack| {
            HandshakeError::new(Kind::Refused, "tls: no connection can be made").fact(stack.to_string())
        };
        let ssl = client.prepare(name).map_err(unready)?;
        let mut stream = SslStream::new(ssl, io).map_err(unready)?;
        if let Err(error) = Pin::new(&mut stream).connect().await {
            return Err(verdict::of(&error, &client.scene(stream.ssl(), name)));
        }
        notes::forget(stream.ssl());
        let mut handshake = Handshake::of(stream.ssl(), client.terms);
        // The server is sent no name when there is none to send.
        handshake.sni = name.parse::<IpAddr>().is_err().then(|| name.clone());
        if handshake.alpn == Some(Alpn::H2) && handshake.version < TlsVersion::Tls12 {
            return Err(HandshakeError::new(Kind::Refused, "tls: no common application protocol")
                .fact("the server chose h2, which needs TLS 1.2 (RFC 9113, section 9.2)"));
        }
        Ok((stream, handshake))
    }
}

impl Reload for Connector {
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

/// One context and what goes with it.
#[derive(Debug)]
struct Client {
    connector: SslConnector,
    verifies: bool,
    terms: Terms,
    report: Report,
    rebuild_at: Option<i64>,
}

impl Client {
    fn prepare(&self, name: &str) -> Result<Ssl, ErrorStack> {
        let mut ssl = self.connector.configure()?.verify_hostname(self.verifies).into_ssl(name)?;
        notes::attach(&mut ssl, Notes::default());
        Ok(ssl)
    }

    fn scene<'a>(&'a self, ssl: &'a SslRef, name: &'a str) -> Scene<'a> {
        let has_certificate = self.terms.has_certificate;
        Scene { side: Side::Client, ssl, ours: &self.report, name: Some(name), has_certificate }
    }
}

impl Load for Client {
    type Settings = Settings;

    fn load(settings: &Settings) -> Result<Self, TlsError> {
        let tls = &settings.tls;
        if tls.policy.fips_required {
            fips::require()?;
        }
        let mut policy = Policy::new(&tls.policy)?;
        let identity = tls.identity.as_ref().map(Loaded::load).transpose()?;
        let crls = tls.crl_file.as_deref().map(Crls::load).transpose()?;
        let mut warnings = std::mem::take(&mut policy.warnings);

        let mut context = SslConnector::builder(SslMethod::tls())
            .map_err(|stack| TlsError::openssl("tls", "make a context", &stack))?;
        policy.apply(&mut context, Side::Client)?;
        if let Some(identity) = &identity {
            identity.put_on(&mut context)?;
            warnings.extend(identity.warnings.iter().cloned());
        }
        verify_server(&mut context, settings, crls.as_ref(), &mut warnings)?;
        context.set_session_cache_mode(SslSessionCacheMode::OFF);
        let protocols: &[u8] = if policy.judge.versions.max < TlsVersion::Tls12 {
            b"\x08http/1.1"
        } else {
            b"\x02h2\x08http/1.1"
        };
        context
            .set_alpn_protos(protocols)
            .map_err(|stack| TlsError::openssl("tls", "offer h2 and http/1.1", &stack))?;

        let connector = context.build();
        policy.confirm(connector.context())?;
        if let (Some(path), Some(crls)) = (&tls.crl_file, &crls) {
            warnings.extend(crls.warnings(path));
        }
        let parts = Parts {
            client_auth: None,
            certificates: identity.iter().map(|identity| &*identity.leaf).collect(),
            crls: crls.as_ref(),
            warnings,
        };
        let verifies = !tls.insecure_skip_verify;
        let terms = Terms {
            side: Side::Client,
            asks: true,
            has_roots: verifies,
            has_certificate: identity.is_some(),
        };
        let report = Report::new(connector.context(), policy.judge.versions, parts);
        Ok(Self { connector, verifies, terms, report, rebuild_at: crls.and_then(|crls| crls.rebuild_at()) })
    }

    fn files(settings: &Settings) -> Vec<PathBuf> {
        let identity = settings.tls.identity.iter().flat_map(reload::identity_files);
        identity.chain(settings.tls.ca_cert.clone()).chain(settings.tls.crl_file.clone()).collect()
    }

    fn warnings(&self) -> &[String] {
        &self.report.warnings
    }

    fn rebuild_at(&self) -> Option<i64> {
        self.rebuild_at
    }
}

/// Whom to trust: `tls.ca_cert` alone, or the system's roots.
fn verify_server(
    context: &mut SslConnectorBuilder,
    settings: &Settings,
    crls: Option<&Crls>,
    warnings: &mut Vec<String>,
) -> Result<(), TlsError> {
    const CA: &str = "tls.ca_cert";
    if let Some(path) = &settings.tls.ca_cert {
        let roots = trust::certificates(CA, path)?;
        warnings.extend(trust::warnings(CA, path, &roots));
        // The preset trusts the system's roots already: only a new store leaves them out.
        context.set_cert_store(trust::store(&roots, crls)?);
    } else if let Some(crls) = crls {
        crls.put_in(context.cert_store_mut())
            .map_err(|stack| TlsError::openssl("tls.crl_file", "use it with the system's roots", &stack))?;
    }
    if settings.tls.insecure_skip_verify {
        context.set_verify(SslVerifyMode::NONE);
    } else {
        context.set_verify_callback(SslVerifyMode::PEER, |trusted, chain| {
            if !trusted {
                notes::refuse(chain);
            }
            trusted
        });
    }
    Ok(())
}
