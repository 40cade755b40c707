//! HTTP+SSE: one stream for everything that the server says, whose first event names where messages are posted to. The
//! session lasts as long as the stream.
//!
//! Source: the MCP specification, revision 2024-11-05, `basic/transports`, "HTTP with SSE".

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::{
    HeaderMap, Uri,
    header::HeaderValue,
    http::uri::{PathAndQuery, Scheme},
};
use iri_string::{
    format::ToDedicatedString,
    types::{UriAbsoluteStr, UriReferenceStr},
};
use tokio::{
    sync::{SetOnce, oneshot},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::version_header;
use crate::{
    connect::{
        answer::{self, Answer, Events},
        failure::Failure,
        remote::Remote,
    },
    jsonrpc::{Kind, Line, Message, RequestId},
};

/// How long the server may take until its stream is there and has named the endpoint.
pub(in crate::connect) const OPENING: Duration = Duration::from_secs(30);

/// The name of the first event.
const ENDPOINT: &str = "endpoint";

/// The sending side. The stream is closed with the last clone.
#[derive(Debug, Clone)]
pub(in crate::connect) struct HttpSse {
    endpoint: Arc<Uri>,
    shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

/// The receiving side: what the server says, for the client.
#[derive(Debug)]
pub(in crate::connect) struct Stream {
    events: Events,
    shared: Arc<Shared>,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Shared {
    /// Why the stream is no more.
    lost: SetOnce<Failure>,
    /// The answers that are not for the client.
    expected: Mutex<HashMap<RequestId, oneshot::Sender<Message>>>,
}

impl Shared {
    fn expected(&self) -> MutexGuard<'_, HashMap<RequestId, oneshot::Sender<Message>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the message back unless it is an answer that somebody expects.
    fn claim(&self, message: Message) -> Option<Message> {
        let Kind::Response { id: Some(id), .. } = &message.kind else { return Some(message) };
        let Some(expecting) = self.expected().remove(id) else { return Some(message) };
        // Whoever has given up leaves it to the others.
        expecting.send(message).err()
    }
}

impl Stream {
    /// The next message for the client; `None` when the stream is lost. Cancel safe.
    pub(in crate::connect) async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::select! {
                () = self.closed.cancelled() => return None,
                next = self.events.next() => next,
            };
            match next.and_then(|message| message.ok_or(Failure::NoAnswer)) {
                Ok(message) => {
                    if let Some(message) = self.shared.claim(message) {
                        return Some(message);
                    }
                }
                Err(failure) => {
                    let _ = self.shared.lost.set(failure);
                    return None;
                }
            }
        }
    }
}

impl HttpSse {
    /// Opens the stream and waits for the event that names the endpoint.
    pub(super) async fn open(remote: &Remote) -> Result<(Self, Stream), Failure> {
        let response = remote.get(remote.url(), HeaderMap::new()).await?;
        let mut events = match Answer::of(response)? {
            Answer::Events(events) => events,
            Answer::Refused(refused) => return Err(refused.failure().await),
            _ => return Err(Failure::Unusable("no event stream at client.url".to_owned())),
        };
        let first = timeout(OPENING, events.event()).await.unwrap_or(Err(Failure::TimedOut(OPENING)))?;
        let first = first.filter(|event| event.name == ENDPOINT);
        let first = first.ok_or_else(|| {
            Failure::Unusable("its stream does not begin with an `endpoint` event".to_owned())
        })?;
        let endpoint = Arc::new(endpoint(remote.url(), &first.data).map_err(Failure::Unusable)?);
        let (shared, closed) = (Arc::<Shared>::default(), CancellationToken::new());
        let open = Arc::new(closed.clone().drop_guard());
        let stream = Stream { events, shared: Arc::clone(&shared), closed };
        Ok((Self { endpoint, shared, _open: open }, stream))
    }

    /// Posts a message. Any success will do; what the server has to say to it comes by the stream.
    pub(super) async fn send(
        &self,
        remote: &Remote,
        version: Option<&HeaderValue>,
        line: &Line,
    ) -> Result<Answer, Failure> {
        let posted = async {
            let response = remote.post(&self.endpoint, version_header(version), line).await?;
            if !response.status().is_success() {
                return Answer::of(response);
            }
            answer::pass_over(response.into_body()).await;
            Ok(Answer::OnStream(self.clone()))
        };
        tokio::select! {
            posted = posted => posted,
            lost = self.lost() => Err(lost),
        }
    }

    /// Posts a request and waits for its answer, of which the client does not hear.
    pub(super) async fn ask(
        &self,
        remote: &Remote,
        version: Option<&HeaderValue>,
        request: &Line,
        id: &RequestId,
    ) -> Result<Message, Failure> {
        let (sender, answer) = oneshot::channel();
        self.shared.expected().insert(id.clone(), sender);
        let posted = async {
            self.send(remote, version, request).await?.taken_in().await?;
            Err(self.lost().await)
        };
        tokio::select! {
            biased;
            Ok(answer) = answer => Ok(answer),
            failed = posted => failed,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.shared.lost.initialized()
    }

    /// Waits until the stream is lost, and says why.
    pub(in crate::connect) async fn lost(&self) -> Failure {
        self.shared.lost.wait().await.clone()
    }
}

/// Where `base` says that messages go: on the same origin, so that no other server gets them or the token.
fn endpoint(base: &Uri, named: &[u8]) -> Result<Uri, String> {
    const NO_URI: &str = "its `endpoint` event holds no URI";
    let named = std::str::from_utf8(named).map_err(|_| NO_URI)?;
    let named = UriReferenceStr::new(named.trim()).map_err(|_| NO_URI)?;
    let absolute = base.to_string();
    let absolute = UriAbsoluteStr::new(&absolute).map_err(|_| "client.url is no URI")?;
    let mut resolved = named.resolve_against(absolute).to_dedicated_string();
    resolved.set_fragment(None);
    let resolved: Uri = resolved.as_str().parse().map_err(|_| NO_URI)?;
    if origin(&resolved) != origin(base) {
        let (scheme, host, port) = origin(&resolved).unwrap_or_default();
        return Err(format!(
            "its `endpoint` event names another server, {scheme}://{host}:{port}; nothing is sent there"
        ));
    }
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(resolved.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|_| NO_URI.to_owned())
}

/// Scheme, host and port; `None` for a URI that has not all of them, or a user besides.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let scheme = uri.scheme()?;
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let port = authority.port_u16().unwrap_or(default);
    Some((scheme.as_str().to_ascii_lowercase(), authority.host().to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(base: &str, named: &str) -> Result<String, String> {
        endpoint(&base.parse().unwrap(), named.as_bytes()).map(|uri| uri.to_string())
    }

    #[test]
    fn an_endpoint_is_resolved_against_the_stream() {
        let base = "https://h.example:8443/a/sse?key=1";
        for (named, path) in [
            ("/messages/?session_id=7f", "/messages/?session_id=7f"),
            ("messages?s=1", "/a/messages?s=1"),
            ("../m", "/m"),
            ("?s=1", "/a/sse?s=1"),
            ("//H.example:8443/m", "/m"),
            ("https://h.example:8443/x/y?z#part", "/x/y?z"),
            ("https://H.EXAMPLE:8443", "/"),
            ("  /m\r", "/m"),
        ] {
            assert_eq!(resolve(base, named).unwrap(), format!("https://h.example:8443{path}"), "{named}");
        }
        assert_eq!(resolve("http://h/sse", "http://h:80/m").unwrap(), "http://h/m");
        assert_eq!(resolve("https://[::1]/sse", "m").unwrap(), "https://[::1]/m");
    }

    #[test]
    fn an_endpoint_elsewhere_is_refused() {
        for named in [
            "https://other.example:8443/m",
            "//other.example/m",
            "https://h.example/m",
            "http://h.example:8443/m",
            "https://h.example:8443@other.example/m",
            "https://user@h.example:8443/m",
            "https://h.example.:8443/m",
            "ftp://h.example:8443/m",
            "javascript:alert(1)",
            "/m m",
            "http://[/",
        ] {
            assert!(resolve("https://h.example:8443/sse", named).is_err(), "{named}");
        }
        assert!(endpoint(&"https://h/sse".parse().unwrap(), b"/\xff").is_err());
        let error = resolve("https://h.example/sse", "http://Other.example/m?secret").unwrap_err();
        assert!(error.contains("http://other.example:80") && !error.contains("secret"), "{error}");
    }
}
