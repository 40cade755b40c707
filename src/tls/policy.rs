//! Versions, suites, groups and security level: what the platform says, with our keys on top.

use openssl::{
    error::ErrorStack,
    ssl::{Ssl, SslContext, SslContextBuilder, SslContextRef, SslMethod, SslMode, SslOptions, SslVersion},
};

use super::{
    Side, ciphers,
    error::TlsError,
    ffi::{self, Suite},
    fips,
    groups::{self, Group},
    probe,
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
    /// Whether a version is configured, and so holds against the options of the platform's policy.
    overrides_versions: bool,
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
        if versions.contains(TlsVersion::Tls13) && !platform.has_tls13() {
            return Err(TlsError::new(
                "tls.max_version",
                "the platform's policy leaves TLS 1.3 no cipher suite",
            )
            .hint("set tls.max_version to \"1.2\", or change Ciphersuites in openssl.cnf"));
        }
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
        let overrides_versions = settings.min_version.is_some() || settings.max_version.is_some();
        Ok(Self { platform, judge, overrides_versions, suites, groups, warnings })
    }

    /// Puts the platform's policy back, and the keys on top of it.
    pub(super) fn apply(&self, context: &mut SslContextBuilder, side: Side) -> Result<(), TlsError> {
        self.set(context, side).map_err(|stack| TlsError::openssl("tls", "apply the policy", &stack))
    }

    /// Reads the finished context back: what was configured must be what it offers.
    pub(super) fn confirm(&self, context: &SslContextRef) -> Result<(), TlsError> {
        let failed = |stack| TlsError::openssl("tls", "read the context back", &stack);
        let offered = ffi::supported_ciphers(&*Ssl::new(context).map_err(failed)?);
        let dropped = self.suites.iter().flatten().find(|suite| !offered.contains(suite));
        if let Some(suite) = dropped {
            return Err(TlsError::new(
                "tls.cipher_suites",
                format!("OpenSSL took {} and would not offer it", suite.iana),
            ));
        }
        let offered = probe::groups(context);
        // A context whose suites need no group offers none.
        let dropped =
            self.groups.iter().flatten().find(|group| !offered.is_empty() && !offered.contains(&group.id));
        match dropped {
            Some(group) => Err(TlsError::new(
                "tls.curve_preferences",
                format!("OpenSSL took {} and would not offer it", group.name),
            )
            .hint("a group may be too weak for the platform's security level")),
            None => Ok(()),
        }
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
        context.set_max_proto_version(Some(versions::to_openssl(max)))?;
        if self.overrides_versions {
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
        if !self.has_tls13() {
            versions.retain(|&version| version != TlsVersion::Tls13);
        }
        versions
    }

    fn has_tls13(&self) -> bool {
        self.suites.iter().any(Suite::is_tls13)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use openssl::ssl::{SslAcceptor, SslConnector};

    use super::*;

    const CHILD: &str = "MCP_BRIDGE_TEST_POLICY";

    /// Runs one test of this binary in a process of its own, where OpenSSL reads this configuration.
    fn under_policy(test: &str, policy: &str) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("openssl.cnf");
        std::fs::write(
            &file,
            format!("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n{policy}"),
        )
        .unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("OPENSSL_CONF", file)
            .env(CHILD, policy)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{policy}\n{said}");
    }

    fn is_child() -> bool {
        std::env::var_os(CHILD).is_some()
    }

    /// What can be compared of a context: suites in order, level, versions, options, groups.
    fn facts(mut context: SslContextBuilder) -> (Vec<Suite>, u32, Option<SslVersion>, SslOptions, Vec<u16>) {
        let ours = SslOptions::NO_SSLV3 | SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION;
        let (min, options) = (context.min_proto_version(), context.options() | ours);
        let context = context.build();
        let groups = probe::groups(&context);
        (ffi::configured_ciphers(&context), context.security_level(), min, options, groups)
    }

    fn applied(settings: &TlsPolicy) -> [SslContextBuilder; 2] {
        let policy = Policy::new(settings).unwrap();
        let mut server = SslContext::builder(SslMethod::tls()).unwrap();
        let mut client = SslContext::builder(SslMethod::tls()).unwrap();
        // What the presets are, and all that they set, is theirs: only the contexts inside count.
        std::mem::swap(&mut *SslAcceptor::mozilla_modern_v5(SslMethod::tls()).unwrap(), &mut server);
        std::mem::swap(&mut *SslConnector::builder(SslMethod::tls()).unwrap(), &mut client);
        policy.apply(&mut server, Side::Server).unwrap();
        policy.apply(&mut client, Side::Client).unwrap();
        [server, client]
    }

    #[test]
    fn the_presets_leave_no_trace_on_the_platforms_policy() {
        if is_child() {
            let fresh = || facts(SslContext::builder(SslMethod::tls()).unwrap());
            for context in applied(&TlsPolicy::default()) {
                assert_eq!(facts(context), fresh());
            }
            return;
        }
        for policy in [
            "MinProtocol = TLSv1.2\nCipherString = ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL=3\n\
             Ciphersuites = TLS_AES_256_GCM_SHA384\nGroups = P-384:P-521\n",
            "MinProtocol = TLSv1.2\nCipherString = DEFAULT@SECLEVEL=1\nOptions = PrioritizeChaCha,ServerPreference\n",
            "MinProtocol = TLSv1.3\nCipherString = AES128-SHA\n",
        ] {
            under_policy("tls::policy::tests::the_presets_leave_no_trace_on_the_platforms_policy", policy);
        }
    }

    #[test]
    fn an_explicit_version_holds_against_the_platforms_policy() {
        if is_child() {
            let settings = TlsPolicy { min_version: Some(TlsVersion::Tls10), ..TlsPolicy::default() };
            for mut context in applied(&settings) {
                assert_eq!(context.min_proto_version(), Some(SslVersion::TLS1));
                assert_eq!(context.max_proto_version(), Some(SslVersion::TLS1_2));
                let open = SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1;
                assert!(!context.options().intersects(open));
                assert_eq!(context.build().security_level(), 0);
            }
            return;
        }
        under_policy(
            "tls::policy::tests::an_explicit_version_holds_against_the_platforms_policy",
            "Protocol = ALL,-TLSv1,-TLSv1.1,-TLSv1.3\nMinProtocol = TLSv1.2\n",
        );
    }

    #[test]
    fn a_policy_without_suites_for_tls_1_3_leaves_1_2() {
        if is_child() {
            let policy = Policy::new(&TlsPolicy::default()).unwrap();
            assert_eq!(policy.judge.versions.to_string(), "TLS 1.2");
            let settings = TlsPolicy { max_version: Some(TlsVersion::Tls13), ..TlsPolicy::default() };
            Policy::new(&settings).unwrap_err();
            return;
        }
        under_policy(
            "tls::policy::tests::a_policy_without_suites_for_tls_1_3_leaves_1_2",
            "Ciphersuites = \n",
        );
    }

    #[test]
    fn hollow_suites_of_the_platforms_policy_are_left_out_with_a_warning() {
        if is_child() {
            let policy = Policy::new(&TlsPolicy::default()).unwrap();
            assert!(policy.warnings[0].contains("NULL"), "{:?}", policy.warnings);
            for context in applied(&TlsPolicy::default()) {
                let context = context.build();
                assert!(!ffi::configured_ciphers(&context).iter().any(Suite::is_hollow));
            }
            return;
        }
        under_policy(
            "tls::policy::tests::hollow_suites_of_the_platforms_policy_are_left_out_with_a_warning",
            "CipherString = ALL:COMPLEMENTOFALL:@SECLEVEL=0\n",
        );
    }
}
