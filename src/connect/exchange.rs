//! One request of the client's, until its answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::header::HeaderValue;
use tokio::time::{sleep, timeout};

use super::{
    answer::{self, Answer, Events, Refused},
    bridge::Bridge,
    failure::Failure,
    in_flight::Waiting,
    remote::Delays,
    transport::http_sse::HttpSse,
};
use crate::{
    config,
    jsonrpc::{Kind, Message, RequestId},
    mcp,
    session::cancellation,
};

/// How long the server may take to take in that a request is cancelled.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may take to end a stream once the answer is there.
const AFTER_ANSWER: Duration = Duration::from_secs(5);
/// The shortest wait before a stream is resumed, and the longest that a server may ask for.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(100);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered or cancelled.
    Done,
    /// It is `initialize`, and the server knows no such thing. Nobody was answered.
    OtherEra,
}

/// Sends a request and sees that it is answered once: by the server, or with what went wrong. A cancelled one is not.
pub(super) async fn run(bridge: Arc<Bridge>, message: Message, id: RequestId, waiting: Waiting) -> Outcome {
    let exchange = Exchange { bridge: &bridge, id: &id, waiting: &waiting, times: bridge.times() };
    let failure = tokio::select! {
        biased;
        () = waiting.cancelled.cancelled() => return Outcome::Done,
        result = exchange.ask(message) => match result {
            Ok(()) => return Outcome::Done,
            Err(Failure::OtherEra) => {
                bridge.forget(&id);
                return Outcome::OtherEra;
            }
            Err(failure) => failure,
        },
    };
    let timed_out = matches!(failure, Failure::TimedOut(_));
    let told = bridge.answer(&id, &failure.error()).await;
    if told && timed_out && !bridge.session().is_initialize(&id) {
        exchange.tell_cancelled().await;
    }
    Outcome::Done
}

/// The time that an exchange has.
#[derive(Debug)]
pub(super) struct Times {
    silence: Option<Duration>,
    total: Option<Duration>,
    began: Instant,
}

impl Times {
    pub(super) fn new(config: &config::Connect) -> Self {
        Self { silence: config.timeout, total: Some(config.max_request_time), began: Instant::now() }
    }

    /// For what may take for ever.
    pub(super) fn unlimited() -> Self {
        Self { silence: None, total: None, began: Instant::now() }
    }

    /// Runs the next step of an exchange; each may take as long as the server may be silent.
    pub(super) async fn limit<T>(
        &self,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let left = self.total.map(|total| (total.saturating_sub(self.began.elapsed()), total));
        // A step that needs no waiting would be taken in no time at all, and so would all that follow.
        if let Some((Duration::ZERO, total)) = left {
            return Err(Failure::TimedOut(total));
        }
        let silence = self.silence.map(|silence| (silence, silence));
        match silence.into_iter().chain(left).min() {
            Some((allowed, named)) => timeout(allowed, step).await.unwrap_or(Err(Failure::TimedOut(named))),
            None => step.await,
        }
    }
}

/// Where a broken stream is taken up again, and when.
#[derive(Default)]
struct Resume {
    last_event_id: Option<HeaderValue>,
    wait: Option<Duration>,
}

impl Resume {
    fn note(&mut self, events: &Events) {
        self.last_event_id = events.last_event_id().or(self.last_event_id.take());
        self.wait = events.retry().or(self.wait);
    }
}

struct Exchange<'a> {
    bridge: &'a Arc<Bridge>,
    id: &'a RequestId,
    waiting: &'a Waiting,
    times: Times,
}

impl Exchange<'_> {
    /// The message is let go once it is sent: a long one is not held together with its answer.
    async fn ask(&self, message: Message) -> Result<(), Failure> {
        let bridge = Arc::clone(self.bridge);
        let mut sent = Box::pin(async move {
            match message.method() {
                Some(mcp::INITIALIZE) => bridge.open(&message.line).await,
                _ => bridge.send(&message.line).await,
            }
        });
        let answer = tokio::select! {
            biased;
            // Where answers come by another way, one may be there before its request is taken in.
            () = self.waiting.answered.cancelled() => {
                tokio::spawn(timeout(AFTER_ANSWER, sent));
                return Ok(());
            }
            answer = self.times.limit(&mut sent) => answer?,
        };
        self.bridge.reached.notify_waiters();
        self.take(answer).await
    }

    async fn take(&self, answer: Answer) -> Result<(), Failure> {
        match answer {
            Answer::Accepted => Err(Failure::Unusable("it was taken in without an answer (202)".to_owned())),
            Answer::Json(body) => {
                for message in self.times.limit(answer::json(body)).await? {
                    self.bridge.deliver(message, Some(self.id)).await;
                }
                if !self.is_answered() {
                    return Err(Failure::Unusable("it answers another request".to_owned()));
                }
                Ok(())
            }
            Answer::Read(messages) => {
                for message in messages {
                    self.bridge.deliver(message, Some(self.id)).await;
                }
                Ok(())
            }
            Answer::Events(events) => self.stream(events).await,
            Answer::OnStream(stream) => self.wait(&stream).await,
            Answer::Refused(refused) => self.refused(refused).await,
        }
    }

    /// Whether the answer is there. The id may wait again by now, for a request that came after it.
    fn is_answered(&self) -> bool {
        self.waiting.answered.is_cancelled()
    }

    /// Waits for an answer that comes by the stream of the session, which somebody else reads.
    async fn wait(&self, stream: &HttpSse) -> Result<(), Failure> {
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    () = self.waiting.answered.cancelled() => Ok(true),
                    () = self.waiting.heard.notified() => Ok(false),
                    lost = stream.lost() => Err(lost),
                }
            };
            if self.times.limit(next).await? {
                return Ok(());
            }
        }
    }

    async fn stream(&self, mut events: Events) -> Result<(), Failure> {
        let mut resume = Resume::default();
        while !self.is_answered() {
            let ended = match self.times.limit(events.next()).await {
                Ok(Some(message)) => {
                    self.bridge.deliver(message, Some(self.id)).await;
                    continue;
                }
                Ok(None) => Failure::NoAnswer,
                Err(broken @ Failure::Broken(_)) => broken,
                Err(failure) => return Err(failure),
            };
            resume.note(&events);
            events = self.resume(&resume, ended).await?;
        }
        tokio::spawn(read_on(Arc::clone(self.bridge), self.id.clone(), events));
        Ok(())
    }

    /// Takes up a stream that ended before its answer, if the server has given its events ids. A server may end streams
    /// as often as it likes; what is counted are attempts that fail.
    ///
    /// Source: `basic/transports`, "Resumability and Redelivery".
    async fn resume(&self, resume: &Resume, ended: Failure) -> Result<Events, Failure> {
        let retry = self.bridge.remote.config.retry;
        let Some(last) = resume.last_event_id.as_ref().filter(|_| retry.enabled) else { return Err(ended) };
        let mut delays = Delays::new(retry);
        let mut wait = resume.wait.unwrap_or(retry.initial_delay).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        loop {
            log::debug!("the stream of an answer ended early ({ended}); resuming it in {wait:?}");
            let attempt = async {
                sleep(wait).await;
                let (_, channel) = self.bridge.session().channel();
                channel.ok_or(Failure::NoSession)?.listen(&self.bridge.remote, Some(last)).await
            };
            wait = match self.times.limit(attempt).await {
                Ok(Answer::Events(events)) => return Ok(events),
                // Asking for a stream again changes nothing, so it may be asked for again.
                Err(Failure::NotSent(_) | Failure::Broken(_)) => match delays.next() {
                    Some(delay) => delay,
                    None => return Err(ended),
                },
                Err(failure @ Failure::TimedOut(_)) => return Err(failure),
                Ok(_) | Err(_) => return Err(ended),
            };
        }
    }

    /// An error of the server's with an error status goes to the client under the request's id.
    async fn refused(&self, refused: Refused) -> Result<(), Failure> {
        let error = self.times.limit(refused.explain()).await?;
        self.bridge.deliver(answer::under_id(error, self.id)?, Some(self.id)).await;
        Ok(())
    }

    async fn tell_cancelled(&self) {
        let (_, Some(channel)) = self.bridge.session().channel() else { return };
        let line = cancellation(self.id);
        if let Ok(Err(e)) = timeout(CANCEL_PATIENCE, channel.send(&self.bridge.remote, &line)).await {
            log::debug!("a cancellation was not sent: {e}");
        }
    }
}

/// Reads what follows the last message that a stream may hold.
pub(super) async fn read_out(mut events: Events) {
    let _ = timeout(AFTER_ANSWER, async { while let Ok(Some(_)) = events.event().await {} }).await;
}

/// What follows an answer is the end of its stream, as a rule: a connection on which it has been read can be used again.
async fn read_on(bridge: Arc<Bridge>, id: RequestId, mut events: Events) {
    let rest = async {
        while let Ok(Some(message)) = events.next().await {
            match message.kind {
                Kind::Response { .. } => log::warn!("a second answer of the server's is dropped"),
                _ => bridge.deliver(message, Some(&id)).await,
            }
        }
    };
    let _ = timeout(AFTER_ANSWER, rest).await;
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn steps_that_need_no_waiting_end_with_the_time_as_well() {
        let times = Times { silence: None, total: Some(Duration::from_secs(1)), began: Instant::now() };
        assert!(matches!(times.limit(ready(Ok(()))).await, Ok(())));
        let times = Times { total: Some(Duration::ZERO), ..times };
        assert!(matches!(times.limit(ready(Ok(()))).await, Err(Failure::TimedOut(Duration::ZERO))));
    }
}
