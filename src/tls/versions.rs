//! Which versions a context allows: the platform's policy and the two keys of ours.

use std::fmt;

use openssl::ssl::{SslOptions, SslVersion};

use super::error::TlsError;
use crate::config::{TlsPolicy, TlsVersion};

const ALL: [TlsVersion; 4] = [TlsVersion::Tls10, TlsVersion::Tls11, TlsVersion::Tls12, TlsVersion::Tls13];

/// The versions in force, both ends included; `min` is never above `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Versions {
    pub(super) min: TlsVersion,
    pub(super) max: TlsVersion,
}

impl Versions {
    pub(super) fn contains(self, version: TlsVersion) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Whether TLS 1.2 or an older version is allowed: those have suites and groups of their own rules.
    pub(super) fn before_13(self) -> bool {
        self.min < TlsVersion::Tls13
    }

    /// Whether the versions need security level 0: their signatures are MD5 with SHA-1 (`SSL_CTX_set_security_level(3)`).
    pub(super) fn are_legacy(self) -> bool {
        self.min < TlsVersion::Tls12
    }

    /// The options that bar a version within the range; an explicit minimum lifts them.
    pub(super) fn bars(self) -> SslOptions {
        let within = ALL.into_iter().filter(|&version| self.contains(version));
        within.fold(SslOptions::empty(), |bars, version| bars | bar(version))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            return f.write_str(name(self.min));
        }
        write!(f, "{} to {}", name(self.min), name(self.max))
    }
}

/// What the platform allows, read from a fresh context: the versions between its limits that no option bars.
pub(super) fn of_platform(
    min: Option<SslVersion>,
    max: Option<SslVersion>,
    options: SslOptions,
) -> Vec<TlsVersion> {
    let min = min.and_then(from_openssl).unwrap_or(TlsVersion::Tls10);
    let max = max.and_then(from_openssl).unwrap_or(TlsVersion::Tls13);
    let open = |version: &TlsVersion| (min..=max).contains(version) && !options.contains(bar(*version));
    ALL.into_iter().filter(open).collect()
}

/// The versions in force. The default minimum is the platform's, at least 1.2; the keys override it.
pub(super) fn resolve(policy: &TlsPolicy, platform: &[TlsVersion]) -> Result<Versions, TlsError> {
    let lowest = platform.iter().copied().find(|&version| version >= TlsVersion::Tls12);
    let min = policy.min_version.or(lowest).unwrap_or(TlsVersion::Tls12);
    let max = policy.max_version.or(platform.last().copied()).unwrap_or(TlsVersion::Tls13);
    if min > max {
        let origin =
            |configured: bool| if configured { "configured" } else { "default of the platform's policy" };
        return Err(TlsError::new(
            if policy.max_version.is_some() { "tls.max_version" } else { "tls.min_version" },
            format!(
                "the minimum, {} ({}), is above the maximum, {} ({})",
                name(min),
                origin(policy.min_version.is_some()),
                name(max),
                origin(policy.max_version.is_some()),
            ),
        )
        .hint("set both tls.min_version and tls.max_version"));
    }
    if policy.fips_required && policy.min_version.is_some_and(|min| min < TlsVersion::Tls12) {
        return Err(TlsError::new("tls.min_version", format!("{} is not approved in FIPS mode", name(min)))
            .hint("set it to \"1.2\" or \"1.3\", or leave it out"));
    }
    Ok(Versions { min, max })
}

/// `TLS 1.2`.
pub(super) fn name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls10 => "TLS 1.0",
        TlsVersion::Tls11 => "TLS 1.1",
        TlsVersion::Tls12 => "TLS 1.2",
        TlsVersion::Tls13 => "TLS 1.3",
    }
}

pub(super) fn to_openssl(version: TlsVersion) -> SslVersion {
    match version {
        TlsVersion::Tls10 => SslVersion::TLS1,
        TlsVersion::Tls11 => SslVersion::TLS1_1,
        TlsVersion::Tls12 => SslVersion::TLS1_2,
        TlsVersion::Tls13 => SslVersion::TLS1_3,
    }
}

pub(super) fn from_openssl(version: SslVersion) -> Option<TlsVersion> {
    ALL.into_iter().find(|&known| to_openssl(known) == version)
}

/// The version of a hello's two bytes (RFC 8446, section 4.2.1), in words.
pub(super) fn wire_name(version: u16) -> String {
    match version {
        0x0300 => "SSL 3.0".to_owned(),
        0x0301..=0x0304 => name(ALL[usize::from(version - 0x0301)]).to_owned(),
        other => format!("0x{other:04x}"),
    }
}

fn bar(version: TlsVersion) -> SslOptions {
    match version {
        TlsVersion::Tls10 => SslOptions::NO_TLSV1,
        TlsVersion::Tls11 => SslOptions::NO_TLSV1_1,
        TlsVersion::Tls12 => SslOptions::NO_TLSV1_2,
        TlsVersion::Tls13 => SslOptions::NO_TLSV1_3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Result<Versions, TlsError> {
        let policy = TlsPolicy { min_version: min, max_version: max, ..TlsPolicy::default() };
        resolve(&policy, &ALL)
    }

    #[test]
    fn the_default_minimum_is_1_2_and_a_key_goes_below_it() {
        assert_eq!(versions(None, None).unwrap().to_string(), "TLS 1.2 to TLS 1.3");
        assert!(versions(Some(TlsVersion::Tls10), None).unwrap().are_legacy());
    }

    #[test]
    fn a_maximum_below_the_default_minimum_is_an_error_that_names_both() {
        let error = versions(None, Some(TlsVersion::Tls11)).unwrap_err().to_string();
        assert!(error.contains("TLS 1.2 (default of the platform's policy)"), "{error}");
        assert!(error.starts_with("tls.max_version"), "{error}");
    }

    #[test]
    fn the_platform_may_bar_versions_by_option_or_limit() {
        let platform = of_platform(Some(SslVersion::TLS1_1), None, SslOptions::NO_TLSV1_3);
        assert_eq!(platform, [TlsVersion::Tls11, TlsVersion::Tls12]);
        let policy = TlsPolicy::default();
        assert_eq!(resolve(&policy, &platform).unwrap().to_string(), "TLS 1.2");
    }

    #[test]
    fn fips_refuses_a_configured_minimum_below_1_2() {
        let policy =
            TlsPolicy { min_version: Some(TlsVersion::Tls11), fips_required: true, ..TlsPolicy::default() };
        assert!(resolve(&policy, &ALL).is_err());
    }
}
