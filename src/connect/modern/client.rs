//! A client of revision 2026-07-28 on standard input: its requests stand alone.
//!
//! Source: revision 2026-07-28, `basic/transports/stdio`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Server;
use crate::{
    config::Retry,
    connect::{failure::Failure, remote::Delays},
    era,
    framing::writer::Writer,
    jsonrpc::{self, ErrorObject, Kind, Line, Message, Object, RequestId},
    mcp,
    metrics::{Exchanges, Outcome, Running},
    upstream::{Call, ModernServer},
};

/// Most requests in flight.
const MAX_IN_FLIGHT: usize = 1024;

/// What answers the client: the server itself, or `T`, its translation.
#[derive(Debug)]
pub(in crate::connect) enum Upstream<T> {
    Direct(Server),
    Translated(Arc<T>),
}

impl<T: ModernServer> ModernServer for Upstream<T> {
    async fn call(&self, request: era::Request) -> Call {
        match self {
            Self::Direct(server) => server.call(request).await,
            Self::Translated(server) => server.call(request).await,
        }
    }

    async fn notify(&self, message: Message) {
        match self {
            Self::Direct(server) => server.notify(message).await,
            Self::Translated(server) => server.notify(message).await,
        }
    }
}

/// A request that waits for an answer.
#[derive(Debug)]
struct Waiting {
    /// Ends the wait.
    cancelled: CancellationToken,
    /// It is a subscription, whose answer is its end.
    listens: bool,
    running: Running,
}

/// The client, as far as its modern requests go.
#[derive(Debug)]
pub(in crate::connect) struct Client {
    stdout: Writer,
    retry: Retry,
    counts: Exchanges,
    in_flight: Mutex<HashMap<RequestId, Waiting>>,
    exchanges: TaskTracker,
}

impl Client {
    /// `counts` counts its requests.
    pub(in crate::connect) fn new(stdout: Writer, retry: Retry, counts: Exchanges) -> Arc<Self> {
        Arc::new(Self { stdout, retry, counts, in_flight: Mutex::default(), exchanges: TaskTracker::new() })
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<RequestId, Waiting>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a request, which `upstream` answers once it is known.
    pub(in crate::connect) async fn request<S: ModernServer>(
        self: &Arc<Self>,
        message: Message,
        upstream: impl Future<Output = Result<Arc<S>, Failure>> + Send + 'static,
    ) {
        let Some(id) = message.request_id().cloned() else { return };
        let request = match era::Request::read(message) {
            Ok(request) if &*request.method == mcp::INITIALIZE => {
                Err(era::Refusal::MethodNotFound(request.method))
            }
            read => read,
        };
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return self.write(refusal.response(Some(&id)).line).await,
        };
        let cancelled = match self.begin(&request) {
            Ok(cancelled) => cancelled,
            Err(refused) => return self.write(refused.response(Some(&id)).line).await,
        };
        let client = Arc::clone(self);
        self.exchanges.spawn(async move {
            let answered = async {
                match upstream.await {
                    Ok(server) if &*request.method == mcp::LISTEN => client.listen(&*server, request).await,
                    Ok(server) => client.ask(&*server, request).await,
                    Err(failure) => client.fail(&id, &failure.error()).await,
                }
            };
            tokio::select! {
                biased;
                () = cancelled.cancelled() => {}
                () = answered => {}
            }
        });
    }

    /// Notes a request in flight, unless it can't be.
    fn begin(&self, request: &era::Request) -> Result<CancellationToken, ErrorObject> {
        let running = self.counts.begin(&request.method);
        let mut in_flight = self.in_flight();
        if in_flight.contains_key(&request.id) {
            return Err(ErrorObject::invalid("duplicate_id", "the id is that of a request in flight"));
        }
        if in_flight.len() >= MAX_IN_FLIGHT {
            let text = format!("more than {MAX_IN_FLIGHT} requests are in flight");
            return Err(ErrorObject::internal("too_many_requests", text));
        }
        let cancelled = CancellationToken::new();
        let listens = &*request.method == mcp::LISTEN;
        in_flight.insert(request.id.clone(), Waiting { cancelled: cancelled.clone(), listens, running });
        Ok(cancelled)
    }

    /// The client takes a request back, which then gets no answer; false when it is none of these.
    pub(in crate::connect) fn cancel(&self, id: &RequestId) -> bool {
        self.in_flight().remove(id).map(Waiting::cancel).is_some()
    }

    async fn ask(&self, server: &impl ModernServer, request: era::Request) {
        let id = request.id.clone();
        let mut call = server.call(request).await;
        while let Some(item) = call.next().await {
            if item.last {
                return self.answer(&id, item.message.line, outcome(&item.message.kind)).await;
            }
            self.write(item.message.line).await;
        }
        self.fail(&id, &Failure::NoAnswer.error()).await;
    }

    /// Answers a request that still waits.
    async fn answer(&self, id: &RequestId, answer: Line, outcome: Outcome) {
        let waiting = self.in_flight().remove(id);
        if let Some(waiting) = waiting {
            waiting.running.end(outcome);
            self.write(answer).await;
        }
    }

    async fn fail(&self, id: &RequestId, error: &ErrorObject) {
        log::warn!("request {}: {}", id.shown(), error.message);
        self.answer(id, error.response(Some(id)).line, Outcome::Failed).await;
    }

    /// Listens, and listens again when the stream breaks. What can't be opened again is taken down as a server would.
    ///
    /// Source: `basic/patterns/subscriptions`.
    async fn listen(&self, server: &impl ModernServer, request: era::Request) {
        let id = request.id.clone();
        let mut acknowledged: Option<Line> = None;
        let mut delays = Delays::new(self.retry);
        loop {
            let mut call = server.call(request.clone()).await;
            while let Some(item) = call.next().await {
                let is_error = matches!(item.message.kind, Kind::Response { is_error: true, .. });
                if item.last && !(is_error && acknowledged.is_some()) {
                    return self.answer(&id, item.message.line, outcome(&item.message.kind)).await;
                }
                if item.last {
                    break;
                }
                if item.message.method() == Some(mcp::ACKNOWLEDGED) {
                    delays = Delays::new(self.retry);
                    if acknowledged.replace(item.message.line.detached()).is_some() {
                        // The client has been told; what changed meanwhile it has not.
                        for message in era::may_have_changed(&item.message.line, &id) {
                            self.write(message.line).await;
                        }
                        continue;
                    }
                }
                self.write(item.message.line).await;
            }
            match delays.next() {
                Some(delay) if acknowledged.is_some() => {
                    log::info!("a subscription's stream ended; opening it again in {delay:?}");
                    sleep(delay).await;
                }
                _ => return self.tear_down(&id).await,
            }
        }
    }

    async fn tear_down(&self, id: &RequestId) {
        log::warn!("subscription {}: its stream is lost", id.shown());
        let mut params = Object::default();
        params.put("requestId", id);
        params.put("reason", &"the stream is lost");
        self.answer(id, jsonrpc::notification(mcp::CANCELLED, &params), Outcome::Failed).await;
    }

    async fn write(&self, line: Line) {
        if self.stdout.send(line).await.is_err() {
            log::debug!("a message is lost: standard output is closed");
        }
    }

    /// Waits until every request has its answer; no more may come. Subscriptions end.
    pub(in crate::connect) async fn answered(&self) {
        self.in_flight().extract_if(|_, waiting| waiting.listens).for_each(|(_, waiting)| waiting.cancel());
        self.exchanges.close();
        self.exchanges.wait().await;
    }

    /// Answers what still waits with `error`.
    pub(in crate::connect) async fn give_up(&self, error: &ErrorObject) {
        let left: Vec<_> = self.in_flight().keys().cloned().collect();
        for id in left {
            self.fail(&id, error).await;
        }
        self.leave();
    }

    /// Cancels what still runs.
    pub(in crate::connect) fn leave(&self) {
        self.in_flight().drain().for_each(|(_, waiting)| waiting.cancel());
    }
}

impl Waiting {
    fn cancel(self) {
        self.cancelled.cancel();
        self.running.end(Outcome::Cancelled);
    }
}

fn outcome(answer: &Kind) -> Outcome {
    if matches!(answer, Kind::Response { is_error: true, .. }) { Outcome::Error } else { Outcome::Ok }
}
