//! `tls.client_allowed_names`: which verified client certificates are let in; and names near a misspelt one.

use openssl::x509::X509Ref;

use super::{certificate, error::TlsError};

const KEY: &str = "tls.client_allowed_names";

/// Patterns of which a certificate must match one.
#[derive(Debug, Clone)]
pub(super) struct AllowedNames(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    kind: Kind,
    glob: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CommonName,
    Dns,
    Uri,
    Email,
}

impl AllowedNames {
    pub(super) fn parse(written: &[String]) -> Result<Self, TlsError> {
        if written.is_empty() {
            return Err(TlsError::new(KEY, "the list is empty, and would let no one in")
                .hint("leave the key out, or name someone"));
        }
        written.iter().map(|name| Pattern::parse(name)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether any name of the certificate matches any pattern.
    pub(super) fn allow(&self, certificate: &X509Ref) -> bool {
        let names = names_of(certificate);
        self.0.iter().any(|pattern| names.iter().any(|(kind, name)| pattern.matches(*kind, name)))
    }
}

fn names_of(certificate: &X509Ref) -> Vec<(Kind, String)> {
    let mut names: Vec<(Kind, String)> =
        certificate::common_names(certificate).into_iter().map(|name| (Kind::CommonName, name)).collect();
    for name in certificate.subject_alt_names().iter().flatten() {
        names.extend(name.dnsname().map(|name| (Kind::Dns, name.to_owned())));
        names.extend(name.uri().map(|name| (Kind::Uri, name.to_owned())));
        names.extend(name.email().map(|name| (Kind::Email, name.to_owned())));
    }
    // A NUL inside is how a name pretends to be another one.
    names.retain(|(_, name)| !name.contains('\0'));
    names
}

impl Pattern {
    fn parse(written: &str) -> Result<Self, TlsError> {
        let kinds =
            [("CN=", Kind::CommonName), ("DNS:", Kind::Dns), ("URI:", Kind::Uri), ("email:", Kind::Email)];
        let found = kinds.iter().find_map(|(prefix, kind)| Some((*kind, written.strip_prefix(prefix)?)));
        match found {
            Some((kind, glob)) if !glob.is_empty() => Ok(Self { kind, glob: glob.to_owned() }),
            _ => Err(TlsError::new(KEY, format!("{written:?} is not a pattern")).hint(
                "write CN=name, DNS:name, URI:name or email:name, where * stands for any run of characters",
            )),
        }
    }

    fn matches(&self, kind: Kind, name: &str) -> bool {
        if kind != self.kind {
            return false;
        }
        match kind {
            // A star stays within its label, path segment or local part, as in certificates' own wildcards.
            Kind::Dns => glob(&self.glob.to_ascii_lowercase(), &name.to_ascii_lowercase(), Some('.')),
            Kind::Uri => glob(&self.glob, name, Some('/')),
            Kind::Email => glob(&self.glob.to_ascii_lowercase(), &name.to_ascii_lowercase(), Some('@')),
            Kind::CommonName => glob(&self.glob, name, None),
        }
    }
}

/// Whether `text` matches `pattern`, in which `*` is any run of characters other than `barrier`.
///
/// Backtracks to the last star only, which is enough for globs, so the time is at most the product of the lengths.
fn glob(pattern: &str, text: &str, barrier: Option<char>) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    loop {
        match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((p, t));
                p += 1;
            }
            (Some(a), Some(b)) if a == b => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, end)) if text.get(end).is_some_and(|c| Some(*c) != barrier) => {
                    star = Some((at, end + 1));
                    (p, t) = (at + 1, end + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Up to three of the names, nearest first, that someone may have meant.
pub(super) fn nearest<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let written = written.to_ascii_uppercase();
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (strsim::osa_distance(&written, &name.to_ascii_uppercase()), name))
        .filter(|(distance, name)| distance * 4 <= name.len())
        .collect();
    near.sort_unstable();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, kind: Kind, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(kind, name)
    }

    #[test]
    fn a_star_matches_within_its_part_of_the_name() {
        assert!(matches("DNS:*.example.com", Kind::Dns, "A.Example.com"));
        assert!(!matches("DNS:*.example.com", Kind::Dns, "a.b.example.com"));
        assert!(!matches("DNS:*.example.com", Kind::Dns, "example.com"));
        assert!(matches("URI:spiffe://td/ns/*/sa/mcp", Kind::Uri, "spiffe://td/ns/prod/sa/mcp"));
        assert!(!matches("URI:spiffe://td/*", Kind::Uri, "spiffe://td/ns/prod"));
        assert!(matches("email:*@example.com", Kind::Email, "bob@example.com"));
        assert!(!matches("email:*@example.com", Kind::Email, "bob@evil@example.com"));
        assert!(matches("CN=mcp-*-prod*", Kind::CommonName, "mcp-a-prod-prod.x"));
        assert!(!matches("CN=mcp", Kind::CommonName, "mcp2"));
        assert!(!matches("CN=mcp", Kind::Dns, "mcp"));
    }

    #[test]
    fn what_is_not_a_pattern_is_an_error() {
        for bad in ["mcp-client", "CN=", "dns:x", "O=Example", ""] {
            Pattern::parse(bad).unwrap_err();
        }
        AllowedNames::parse(&[]).unwrap_err();
    }
}
