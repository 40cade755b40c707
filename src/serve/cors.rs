//! Cross-origin resource sharing (the Fetch standard), when `server.cors` is there.

use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use super::reply;
use crate::{config, http::Body, mcp};

/// The headers of CORS answers, made once.
#[derive(Debug, Clone)]
pub(super) struct Cors {
    origins: Vec<String>,
    any_origin: bool,
    methods: HeaderValue,
    headers: String,
    exposed: HeaderValue,
    credentials: bool,
    max_age: HeaderValue,
}

impl Cors {
    /// `None` when a configured name can't stand in a header.
    pub(super) fn new(config: &config::Cors) -> Option<Self> {
        let list = |names: &[String]| HeaderValue::from_str(&names.join(", ")).ok();
        let mut exposed = vec!["Mcp-Session-Id".to_owned()];
        exposed.extend(
            config.exposed_headers.iter().filter(|h| !h.eq_ignore_ascii_case("mcp-session-id")).cloned(),
        );
        Some(Self {
            origins: config.allowed_origins.clone(),
            any_origin: config.allowed_origins.iter().any(|o| o == "*"),
            methods: list(&config.allowed_methods)?,
            headers: config.allowed_headers.join(", "),
            exposed: list(&exposed)?,
            credentials: config.allow_credentials,
            max_age: HeaderValue::from(config.max_age.as_secs()),
        })
    }

    /// The answer to a preflight request, which carries no credentials; `None` for any other request.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method() != Method::OPTIONS || !asks {
            return None;
        }
        let mut response = reply::empty(StatusCode::NO_CONTENT);
        if self.allow_origin(request.headers(), response.headers_mut()) {
            let headers = self.headers_for(request.headers());
            let set = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, &headers),
                (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
            ];
            insert(response.headers_mut(), set);
        }
        Some(response)
    }

    /// The headers that a page may send: those configured, and what repeats arguments of tools, whose names nobody can
    /// list beforehand.
    fn headers_for(&self, request: &HeaderMap) -> HeaderValue {
        let asked = request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let asked = asked.filter_map(|names| names.to_str().ok()).flat_map(|names| names.split(','));
        let repeats = |name: &&str| {
            name.get(..mcp::PARAM_HEADER_PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(mcp::PARAM_HEADER_PREFIX))
                && HeaderName::from_bytes(name.as_bytes()).is_ok()
        };
        let mut all = self.headers.clone();
        for name in asked.map(str::trim).filter(repeats) {
            all.push_str(", ");
            all.push_str(name);
        }
        // The configured names are tokens, as these are.
        HeaderValue::from_str(&all).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// Adds what lets a page read the answer to its request.
    pub(super) fn expose(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if self.allow_origin(request, response) {
            insert(response, [(header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.exposed)]);
        }
    }

    fn allow_origin(&self, request: &HeaderMap, response: &mut HeaderMap) -> bool {
        response.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return false };
        let listed = origin.to_str().is_ok_and(|o| self.origins.iter().any(|a| a.eq_ignore_ascii_case(o)));
        if !listed && !self.any_origin {
            return false;
        }
        let allowed = if listed { origin.clone() } else { HeaderValue::from_static("*") };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }
}

fn insert<const N: usize>(headers: &mut HeaderMap, set: [(HeaderName, &HeaderValue); N]) {
    for (name, value) in set {
        headers.insert(name, value.clone());
    }
}
