//! Versions, suites, groups and security level: what the platform says, with our keys on top.

use openssl::{
    error::ErrorStack,
    ssl::{SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslVersion},
};

use super::{
    Side, ciphers,
    error::TlsError,
    ffi::{self, Suite},
    fips,
    groups::{self, Group},
    versions::{self, Versions},
};
use crate::config::{TlsPolicy, TlsVersion};

/// What names of suites and groups are judged against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    pub(super) versions: Versions,
    pub(super) level: u32,
    pub(super) fips: bool,
}

/// A policy ready to be put on a context.
#[derive(Debug)]
pub(super) struct Policy {
    platform: Platform,
    pub(super) judge: Judge,
    min_is_configured: bool,
    max_is_configured: bool,
    /// Of `tls.cipher_suites`.
    pub(super) suites: Option<Vec<Suite>>,
    groups: Option<Vec<&'static Group>>,
    pub(super) warnings: Vec<String>,
}

impl Policy {
    /// Judges the keys. With `fips: required` FIPS mode must be proven before, see [`fips::require`].
    pub(super) fn new(settings: &TlsPolicy) -> Result<Self, TlsError> {
        let platform =
            Platform::read().map_err(|stack| TlsError::openssl("tls", "make a context", &stack))?;
        let versions = versions::resolve(settings, &platform.versions())?;
        let level = if versions.are_legacy() { 0 } else { platform.level };
        let judge = Judge { versions, level, fips: fips::is_active() };
        let mut warnings: Vec<String> =
            legacy_warning(versions).into_iter().chain(platform.warning()).collect();
        let suites = match &settings.cipher_suites {
            Some(names) => ciphers::resolve(names, judge, &mut warnings)?,
            None => None,
        };
        let groups = match &settings.curve_preferences {
            Some(names) => Some(groups::resolve(names, judge, &mut warnings)?),
            None => None,
        };
        let (min_is_configured, max_is_configured) =
            (settings.min_version.is_some(), settings.max_version.is_some());
        Ok(Self { platform, judge, min_is_configured, max_is_configured, suites, groups, warnings })
    }

    /// Puts the platform's policy back, and the keys on top of it.
    pub(super) fn apply(&self, context: &mut SslContextBuilder, side: Side) -> Result<(), TlsError> {
        self.set(context, side).map_err(|stack| TlsError::openssl("tls", "apply the policy", &stack))
    }

    fn set(&self, context: &mut SslContextBuilder, side: Side) -> Result<(), ErrorStack> {
        self.platform.restore(context)?;
        context.set_options(SslOptions::NO_SSLV3 | SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION);
        context.set_mode(
            SslMode::ACCEPT_MOVING_WRITE_BUFFER
                | SslMode::ENABLE_PARTIAL_WRITE
                | SslMode::RELEASE_BUFFERS
                | SslMode::NO_AUTO_CHAIN,
        );
        context.set_read_ahead(true);
        self.set_versions(context)?;
        if let Some(suites) = &self.suites {
            context.set_cipher_list(&list(suites.iter()))?;
            if side == Side::Server {
                context.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
            }
        }
        if let Some(groups) = &self.groups {
            context.set_groups_list(&groups::list(groups))?;
        }
        ffi::set_dh_auto(context)?;
        // Last: a cipher list may carry a level of its own.
        context.set_security_level(self.judge.level);
        Ok(())
    }

    fn set_versions(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let Versions { min, max } = self.judge.versions;
        context.set_min_proto_version(Some(versions::to_openssl(min)))?;
        if self.max_is_configured {
            context.set_max_proto_version(Some(versions::to_openssl(max)))?;
        }
        if self.min_is_configured || self.max_is_configured {
            context.clear_options(self.judge.versions.bars());
        }
        Ok(())
    }
}

/// The options that bar versions of TLS.
pub(super) fn version_bars() -> SslOptions {
    Versions { min: TlsVersion::Tls10, max: TlsVersion::Tls13 }.bars()
}

fn legacy_warning(versions: Versions) -> Option<String> {
    versions.are_legacy().then(|| {
        format!(
            "tls.min_version: {versions} needs OpenSSL's security level 0, set on this context alone: it permits \
             SHA-1 and MD5 signatures and keys of any size, in certificates too, and the protocols' own weaknesses"
        )
    })
}

/// What a fresh context has: OpenSSL's defaults under the system's configuration (`config(5)`, `crypto-policies(7)`).
///
/// The presets of `SslAcceptor` and `SslConnector` overwrite these.
#[derive(Debug)]
struct Platform {
    options: SslOptions,
    min: Option<SslVersion>,
    max: Option<SslVersion>,
    level: u32,
    suites: Vec<Suite>,
    hollow: Vec<Suite>,
}

impl Platform {
    fn read() -> Result<Self, ErrorStack> {
        let mut fresh = SslContext::builder(SslMethod::tls())?;
        let (options, min, max) = (fresh.options(), fresh.min_proto_version(), fresh.max_proto_version());
        let fresh = fresh.build();
        let (hollow, suites) = ffi::configured_ciphers(&fresh).into_iter().partition(Suite::is_hollow);
        Ok(Self { options, min, max, level: fresh.security_level(), suites, hollow })
    }

    fn versions(&self) -> Vec<TlsVersion> {
        let mut versions = versions::of_platform(self.min, self.max, self.options);
        // Without a suite of its own TLS 1.3 would be negotiated and then fail.
        if !self.suites.iter().any(Suite::is_tls13) {
            versions.retain(|&version| version != TlsVersion::Tls13);
        }
        versions
    }

    fn restore(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        context.clear_options(context.options());
        context.set_options(self.options);
        context.set_min_proto_version(self.min)?;
        context.set_max_proto_version(self.max)?;
        let (tls13, older): (Vec<&Suite>, Vec<&Suite>) =
            self.suites.iter().partition(|suite| suite.is_tls13());
        context.set_ciphersuites(&list(tls13))?;
        let restored = context.set_cipher_list(&list(older.iter().copied()));
        // A policy without a suite for TLS 1.2 is restored by the very call that complains about it.
        if !older.is_empty() {
            restored?;
        }
        context.set_security_level(self.level);
        Ok(())
    }

    /// Suites without encryption or authentication are never offered, whatever the policy says.
    fn warning(&self) -> Option<String> {
        let names: Vec<&str> = self.hollow.iter().map(|suite| suite.iana).collect();
        (!names.is_empty()).then(|| {
            format!(
                "the platform's policy has suites without encryption or authentication; left out: {}",
                names.join(", ")
            )
        })
    }
}

fn list<'a>(suites: impl IntoIterator<Item = &'a Suite>) -> String {
    suites.into_iter().map(|suite| suite.openssl).collect::<Vec<_>>().join(":")
}
