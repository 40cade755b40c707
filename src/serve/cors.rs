//! Cross-origin resource sharing (the Fetch standard), when `server.cors` is there.

use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use super::reply;
use crate::{config, http::Body};

/// The headers of CORS answers, made once.
#[derive(Debug, Clone)]
pub(super) struct Cors {
    origins: Vec<String>,
    any_origin: bool,
    methods: HeaderValue,
    headers: HeaderValue,
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
            headers: list(&config.allowed_headers)?,
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
            let set = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
                (header::ACCESS_CONTROL_MAX_AGE, &self.max_age),
            ];
            insert(response.headers_mut(), set);
        }
        Some(response)
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
