//! Whether a request may come from where it says: DNS rebinding and foreign pages are kept out.
//!
//! Source: the MCP specification, `basic/transports`, "Security Warning".

use hyper::{
    Request, Uri,
    header::{HOST, ORIGIN},
    http::uri::Authority,
};

use super::reply::Refusal;
use crate::config;

/// Checks `Host` and `Origin`.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// Lower case, without ports or brackets; `None`: any.
    hosts: Option<Vec<String>>,
    /// As browsers write them; `None`: only the request's own host.
    origins: Option<Vec<String>>,
    /// Origins that CORS lets in are let in here.
    cors: Vec<String>,
}

impl Gate {
    pub(super) fn new(config: &config::Serve) -> Self {
        let cors = config.cors.as_ref().map(|cors| cors.allowed_origins.clone()).unwrap_or_default();
        Self { hosts: config.allowed_hosts.clone(), origins: config.allowed_origins.clone(), cors }
    }

    /// Judges a request; the error is its answer.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let authority = authority(request)?;
        let host = host_name(&authority);
        let among = |hosts: &Vec<String>| hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        if !self.hosts.as_ref().is_none_or(among) {
            return Err(Refusal::Host);
        }
        let mut origins = request.headers().get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => Ok(()),
            (Some(origin), None) if origin.to_str().is_ok_and(|o| self.lets_in(o, host)) => Ok(()),
            _ => Err(Refusal::Origin),
        }
    }

    fn lets_in(&self, origin: &str, host: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|o| o == "*" || o.eq_ignore_ascii_case(origin));
        match &self.origins {
            _ if listed(&self.cors) => true,
            Some(origins) => listed(origins),
            None => {
                let uri = origin.parse::<Uri>().ok();
                uri.as_ref().and_then(Uri::authority).is_some_and(|authority| is_host(authority, host))
            }
        }
    }
}

/// The one host that a request names: RFC 9112, section 3.2, and RFC 9113, section 8.3.1.
fn authority<B>(request: &Request<B>) -> Result<Authority, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (header, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::BadHost("more than one Host header"));
    }
    let header = header
        .map(|value| value.as_bytes().try_into().map_err(|_| Refusal::BadHost("a malformed Host header")));
    match (request.uri().authority(), header.transpose()?) {
        (Some(authority), None) if request.version() >= hyper::Version::HTTP_2 => Ok(authority.clone()),
        (Some(authority), Some(header)) if is_host(authority, host_name(&header)) => Ok(header),
        (Some(_), Some(_)) => Err(Refusal::BadHost("a Host header that contradicts the request's target")),
        (None, Some(header)) => Ok(header),
        _ => Err(Refusal::BadHost("no Host header")),
    }
}

fn host_name(authority: &Authority) -> &str {
    authority.host().trim_matches(['[', ']']).trim_end_matches('.')
}

fn is_host(authority: &Authority, host: &str) -> bool {
    host_name(authority).eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(hosts: Option<&[&str]>, origins: Option<&[&str]>) -> Gate {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Gate { hosts: hosts.map(own), origins: origins.map(own), cors: Vec::new() }
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().uri("/mcp");
        headers.iter().fold(builder, |b, (name, value)| b.header(*name, *value)).body(()).unwrap()
    }

    fn check(gate: &Gate, headers: &[(&str, &str)]) -> bool {
        gate.check(&request(headers)).is_ok()
    }

    #[test]
    fn a_loopback_listener_knows_its_names_only() {
        let gate = gate(Some(&["localhost", "127.0.0.1", "::1"]), None);
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "localhost."] {
            assert!(check(&gate, &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "a b"] {
            assert!(!check(&gate, &[("host", host)]), "{host}");
        }
        assert!(!check(&gate, &[]));
        assert!(!check(&gate, &[("host", "localhost"), ("host", "localhost")]));
    }

    #[test]
    fn by_default_an_origin_must_be_the_host_itself() {
        let gate = gate(None, None);
        assert!(check(&gate, &[("host", "a.example"), ("origin", "https://a.example")]));
        assert!(check(&gate, &[("host", "[::1]:80"), ("origin", "http://[::1]:3000")]));
        for origin in ["https://b.example", "null", "", "https://a.example.b.example"] {
            assert!(!check(&gate, &[("host", "a.example"), ("origin", origin)]), "{origin}");
        }
        let twice = [("host", "a.example"), ("origin", "https://a.example"), ("origin", "https://b.example")];
        assert!(!check(&gate, &twice));
    }

    #[test]
    fn a_list_of_origins_decides_alone() {
        let gate = gate(None, Some(&["https://app.example"]));
        assert!(check(&gate, &[("host", "a.example"), ("origin", "https://app.example")]));
        assert!(!check(&gate, &[("host", "a.example"), ("origin", "https://a.example")]));
    }
}
