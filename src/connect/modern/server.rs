//! A remote server of revision 2026-07-28: a POST for each request, whose response holds the answer, and nothing else.
//!
//! Source: revision 2026-07-28, `basic/transports/streamable-http`.

use std::sync::Arc;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    connect::{
        answer::{self, Answer},
        bridge::NOTIFY_PATIENCE,
        exchange::{self, Times},
        failure::Failure,
        remote::Remote,
    },
    era::{
        self,
        headers::{self, Annotations},
    },
    jsonrpc::{Kind, Message, error_code},
    logging, mcp,
    upstream::{self, Call, Catalog, Item, ModernServer, Replies},
};

/// The server. Clones are one.
#[derive(Debug, Clone)]
pub(in crate::connect) struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    remote: Arc<Remote>,
    tools: Catalog,
}

impl ModernServer for Server {
    async fn call(&self, request: era::Request) -> Call {
        self.begin(request, true)
    }

    async fn notify(&self, message: Message) {
        let headers =
            [(mcp::PROTOCOL_VERSION, hyper::header::HeaderValue::from_static(mcp::MODERN_REVISION))];
        let remote = &self.0.remote;
        let sent = async {
            let response = remote.post(remote.url(), headers.into_iter().collect(), &message.line).await?;
            Answer::of(response)?.taken_in().await
        };
        let sent = timeout(NOTIFY_PATIENCE, sent).await;
        if let Err(e) = sent.unwrap_or(Err(Failure::TimedOut(NOTIFY_PATIENCE))) {
            log::warn!("{} was not taken in: {e}", message.method().unwrap_or("a message"));
        }
    }
}

impl Server {
    pub(in crate::connect) fn new(remote: Arc<Remote>) -> Self {
        Self(Arc::new(Shared { remote, tools: Catalog::default() }))
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.0.remote
    }

    /// Begins a request; `mirrors`: what headers repeat of its arguments is looked up.
    fn begin(&self, request: era::Request, mirrors: bool) -> Call {
        let left = CancellationToken::new();
        let (replies, call) = upstream::call({
            let left = left.clone();
            move || left.cancel()
        });
        let server = self.clone();
        tokio::spawn(async move {
            let id = request.id.clone();
            // Leaving closes the response, which is what cancels a request.
            let failed = tokio::select! {
                biased;
                () = left.cancelled() => return,
                asked = server.ask(request, &replies, mirrors) => asked.err(),
            };
            if let Some(failure) = failed {
                replies.send(Item { message: failure.error().response(Some(&id)), last: true }).await;
            }
        });
        call
    }

    /// Posts a request with the headers that repeat it.
    pub(super) async fn post(
        &self,
        request: &era::Request,
        annotations: Option<&Annotations>,
    ) -> Result<Answer, Failure> {
        let remote = &self.0.remote;
        let headers = headers::to_send(request, annotations).into_iter().collect();
        Answer::of(remote.post(remote.url(), headers, &request.line).await?)
    }

    async fn ask(&self, request: era::Request, replies: &Replies, mirrors: bool) -> Result<(), Failure> {
        let config = &self.0.remote.config;
        let exchange = Exchange {
            server: self,
            // A stream that is listened to may be silent for as long as it likes.
            times: if &*request.method == mcp::LISTEN { Times::unlimited() } else { Times::new(config) },
            request,
            replies,
        };
        let Some(tool) = headers::called_tool(&exchange.request).filter(|_| mirrors) else {
            return exchange.run(None).await.map(drop);
        };
        let tools = &self.0.tools;
        let list = |request| async { Some(self.begin(request, false)) };
        let edition = tools.edition();
        let known = tools.look_up(tool);
        let annotations = match known {
            Some(annotations) => annotations,
            None => tools.ask(edition, tool, &exchange.request.meta, list).await,
        };
        if let Refusal::HeadersDiffer(refusal) = exchange.run(Some(&annotations)).await? {
            // It has not run: the tool's schema has changed since.
            let newer = tools.ask(tools.edition(), tool, &exchange.request.meta, list).await;
            if newer == annotations {
                exchange.finish(refusal).await;
            } else if let Refusal::HeadersDiffer(refusal) = exchange.run(Some(&newer)).await? {
                exchange.finish(refusal).await;
            }
        }
        Ok(())
    }
}

/// What has become of a request.
enum Refusal {
    /// It has its answer.
    None,
    /// The server says that the headers do not repeat what they must; its answer.
    HeadersDiffer(Message),
}

struct Exchange<'a> {
    server: &'a Server,
    request: era::Request,
    replies: &'a Replies,
    times: Times,
}

impl Exchange<'_> {
    async fn run(&self, annotations: Option<&Annotations>) -> Result<Refusal, Failure> {
        match self.times.limit(self.server.post(&self.request, annotations)).await? {
            Answer::Json(body) => self.pass_all(self.times.limit(answer::json(body)).await?).await,
            Answer::Read(messages) => self.pass_all(messages).await,
            Answer::Events(mut events) => {
                while let Some(message) = self.times.limit(events.next()).await? {
                    if self.pass(message).await {
                        tokio::spawn(exchange::read_out(events));
                        return Ok(Refusal::None);
                    }
                }
                Err(Failure::NoAnswer)
            }
            Answer::Refused(refused) => {
                let error = self.times.limit(refused.explain()).await?;
                let error = answer::under_id(error, &self.request.id)?;
                if annotations.is_some() && error_code(&error.line) == Some(mcp::code::HEADER_MISMATCH) {
                    return Ok(Refusal::HeadersDiffer(error));
                }
                self.finish(error).await;
                Ok(Refusal::None)
            }
            Answer::Accepted | Answer::OnStream(_) => {
                Err(Failure::Unusable("it was taken in without an answer (202)".to_owned()))
            }
        }
    }

    async fn pass_all(&self, messages: Vec<Message>) -> Result<Refusal, Failure> {
        for message in messages {
            if self.pass(message).await {
                return Ok(Refusal::None);
            }
        }
        Err(Failure::Unusable("it answers another request".to_owned()))
    }

    /// Passes a message on; true when it was the last.
    async fn pass(&self, mut message: Message) -> bool {
        logging::body(None, "from the server", &message.line);
        self.server.0.tools.observe(&message);
        match &message.kind {
            Kind::Response { id: Some(id), is_error } if *id == self.request.id => {
                if &*self.request.method == mcp::LIST_TOOLS && !is_error {
                    let invalid = self.server.0.tools.learn(&message.line);
                    for tool in &invalid {
                        log::warn!("tool {:?} is left out: {}", tool.name, tool.why);
                    }
                    message.line = headers::without(&message.line, &invalid);
                }
                self.finish(message).await;
                return true;
            }
            Kind::Response { .. } => log::info!("an answer of the server's is dropped: nobody waits for it"),
            Kind::Request { method, .. } => {
                log::warn!("the server asks {method}, which no server of this revision may; it is dropped");
            }
            Kind::Notification { .. } => {
                self.replies.send(Item { message, last: false }).await;
            }
        }
        false
    }

    async fn finish(&self, message: Message) {
        self.replies.send(Item { message, last: true }).await;
    }
}
