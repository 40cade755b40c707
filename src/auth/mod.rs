//! Credentials → [`Principal`]: who a request is from.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};
use openssl::error::ErrorStack;

use crate::{
    config::{AcceptedToken, ServerAuth},
    crypto,
    tls::CertificateIdentity,
};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Who a request is from. Two are equal when they came in with the same credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    token: Option<Token>,
    certificate: Option<CertificateIdentity>,
}

/// A bearer token, without the token.
#[derive(Debug, Clone)]
struct Token {
    digest: [u8; 32],
    /// Its place in the configuration, from 1, to show.
    number: usize,
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        crypto::digests_match(&self.digest, &other.digest)
    }
}

impl Eq for Token {}

impl Principal {
    /// Bytes that are equal for equal principals alone, and from which no token can be had.
    pub fn to_bytes(&self) -> Box<[u8]> {
        let token = self.token.as_ref().map_or(&[][..], |token| &token.digest);
        let certificate = self.certificate.as_ref().map(CertificateIdentity::to_bytes);
        let known = [u8::from(self.token.is_some()), u8::from(certificate.is_some())];
        [&known, token, certificate.as_deref().unwrap_or_default()].concat().into()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.token, &self.certificate) {
            (None, None) => f.write_str("anonymous"),
            (Some(token), None) => write!(f, "token {}", token.number),
            (None, Some(certificate)) => write!(f, "certificate {certificate}"),
            (Some(token), Some(certificate)) => {
                write!(f, "token {} with certificate {certificate}", token.number)
            }
        }
    }
}

/// Why a request may not come in: RFC 6750, section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No credentials.
    Missing,
    /// An `Authorization` header that holds no bearer token.
    Malformed,
    /// A token that is not among those accepted.
    Unknown,
}

impl Denied {
    /// The value of `WWW-Authenticate`.
    pub fn challenge(self) -> &'static str {
        match self {
            Self::Missing => r#"Bearer realm="mcp-bridge""#,
            Self::Malformed => r#"Bearer realm="mcp-bridge", error="invalid_request""#,
            Self::Unknown => r#"Bearer realm="mcp-bridge", error="invalid_token""#,
        }
    }

    /// The reason, for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "a bearer token is required",
            Self::Malformed => "the Authorization header must be one 'Bearer TOKEN'",
            Self::Unknown => "the bearer token is not accepted",
        }
    }
}

/// Judges credentials.
#[derive(Debug, Clone)]
pub struct Authenticator {
    /// `None`: no token is needed.
    tokens: Option<Vec<Token>>,
}

impl Authenticator {
    /// Keeps the digests of the accepted tokens.
    pub fn new(config: &ServerAuth) -> Result<Self, ErrorStack> {
        let ServerAuth::Bearer(accepted) = config else { return Ok(Self { tokens: None }) };
        let digest = |token: &AcceptedToken| match token {
            AcceptedToken::Plain(secret) => crypto::sha256(secret.expose().as_bytes()),
            AcceptedToken::Sha256(digest) => Ok(*digest),
        };
        let token = |(i, accepted)| Ok(Token { digest: digest(accepted)?, number: i + 1 });
        let tokens: Result<_, ErrorStack> = accepted.iter().enumerate().map(token).collect();
        Ok(Self { tokens: Some(tokens?) })
    }

    /// Who sends a request with these headers over a connection with this client certificate.
    pub fn principal(
        &self,
        headers: &HeaderMap,
        certificate: Option<&CertificateIdentity>,
    ) -> Result<Principal, Denied> {
        let token = self.tokens.as_ref().map(|tokens| check(tokens, headers)).transpose()?;
        Ok(Principal { token, certificate: certificate.cloned() })
    }

    /// Whether who came in as `principal` could still come in so.
    pub fn still_accepts(&self, principal: &Principal) -> bool {
        match (&self.tokens, &principal.token) {
            (None, None) => true,
            (Some(tokens), Some(token)) => tokens.contains(token),
            _ => false,
        }
    }
}

fn check(tokens: &[Token], headers: &HeaderMap) -> Result<Token, Denied> {
    let presented = presented(headers)?;
    let digest = crypto::sha256(presented).map_err(|e| {
        log::error!("a token can't be judged: SHA-256: {e}");
        Denied::Unknown
    })?;
    // All of them are compared, whichever matches.
    let matching = tokens.iter().fold(None, |found, token| {
        let matches = crypto::digests_match(&token.digest, &digest);
        found.or(matches.then_some(token))
    });
    matching.cloned().ok_or(Denied::Unknown)
}

fn presented(headers: &HeaderMap) -> Result<&[u8], Denied> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Denied::Missing)?.as_bytes();
    if values.next().is_some() || value.len() > MAX_TOKEN {
        return Err(Denied::Malformed);
    }
    let (scheme, token) = value.split_at_checked(7).ok_or(Denied::Malformed)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") || token.trim_ascii().is_empty() {
        return Err(Denied::Malformed);
    }
    Ok(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn authenticator() -> Authenticator {
        let digest = crypto::sha256(b"second").unwrap();
        let accepted = vec![AcceptedToken::Plain(Secret::new("first")), AcceptedToken::Sha256(digest)];
        Authenticator::new(&ServerAuth::Bearer(accepted)).unwrap()
    }

    fn try_with(values: &[&str]) -> Result<Principal, Denied> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        authenticator().principal(&headers, None)
    }

    #[test]
    fn a_token_is_accepted_plain_or_by_its_digest() {
        assert_eq!(try_with(&["Bearer first"]).unwrap().to_string(), "token 1");
        assert_eq!(try_with(&["bearer  second "]).unwrap().to_string(), "token 2");
        assert_ne!(try_with(&["Bearer first"]), try_with(&["Bearer second"]));
        let bytes = |token| try_with(&[token]).unwrap().to_bytes();
        assert_ne!(bytes("Bearer first"), bytes("Bearer second"));
        assert_eq!(bytes("Bearer first"), bytes("bearer first"));
        assert_ne!(Principal::default().to_bytes(), bytes("Bearer first"));
    }

    #[test]
    fn what_is_wrong_with_credentials_is_told_apart() {
        assert_eq!(try_with(&[]), Err(Denied::Missing));
        assert_eq!(try_with(&["Bearer third"]), Err(Denied::Unknown));
        assert_eq!(try_with(&["Bearer "]), Err(Denied::Malformed));
        assert_eq!(try_with(&["Basic Zmlyc3Q="]), Err(Denied::Malformed));
        assert_eq!(try_with(&["Bearer first", "Bearer first"]), Err(Denied::Malformed));
    }

    #[test]
    fn who_came_in_with_a_token_that_is_no_more_is_not_accepted_any_longer() {
        let (first, second) = (try_with(&["Bearer first"]).unwrap(), try_with(&["Bearer second"]).unwrap());
        let only_second = vec![AcceptedToken::Plain(Secret::new("second"))];
        let renewed = Authenticator::new(&ServerAuth::Bearer(only_second)).unwrap();
        assert!(renewed.still_accepts(&second) && !renewed.still_accepts(&first));
        let open = Authenticator::new(&ServerAuth::None).unwrap();
        assert!(!open.still_accepts(&first) && open.still_accepts(&Principal::default()));
        assert!(!renewed.still_accepts(&Principal::default()));
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", AcceptedToken::Plain(Secret::new("first")));
        assert!(!shown.contains("first"), "{shown}");
    }

    #[test]
    fn without_auth_everyone_is_anonymous() {
        let open = Authenticator::new(&ServerAuth::None).unwrap();
        assert_eq!(open.principal(&HeaderMap::new(), None).unwrap().to_string(), "anonymous");
    }
}
