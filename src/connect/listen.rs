//! What the server has to say by itself: the GET stream of Streamable HTTP, the one stream of HTTP+SSE.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{StatusCode, header::HeaderValue};
use tokio::{sync::oneshot, time::sleep};

use super::{
    answer::{Answer, Events},
    bridge::Bridge,
    exchange::{LONGEST_WAIT, SHORTEST_WAIT},
    failure::Failure,
    remote::Delays,
    transport::http_sse::Stream,
};

/// How long to wait before a stream that ended is opened again, unless the server says otherwise.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of one attempt.
enum Outcome {
    /// The stream was open and ended.
    Ended { last_event_id: Option<HeaderValue>, retry: Option<Duration> },
    /// The server offers none.
    NotOffered,
    /// Not this time.
    Refused(StatusCode),
    /// The session was its stream, and is to be opened again.
    Lost(Failure),
    /// The session is another one now.
    Reopened,
}

/// Listens to the client's session, and to those that replace it when it is lost, until dropped. Tells when the server
/// has `answered` the first attempt.
pub(super) async fn run(bridge: &Arc<Bridge>, answered: oneshot::Sender<()>) {
    let mut answered = Some(answered);
    let mut epochs = bridge.epoch.subscribe();
    let mut delays = Delays::new(bridge.remote.config.retry);
    let mut resume = None;
    loop {
        let began = Instant::now();
        epochs.mark_unchanged();
        let attempt = tokio::select! {
            attempt = listen(bridge, resume.as_ref(), &mut answered) => attempt,
            _ = epochs.changed() => Ok(Outcome::Reopened),
        };
        let wait = match attempt {
            Ok(Outcome::Reopened) => {
                resume = None;
                continue;
            }
            Ok(Outcome::Ended { last_event_id, retry }) => {
                delays = Delays::new(bridge.remote.config.retry);
                resume = last_event_id.or(resume);
                Some(retry.unwrap_or(AGAIN).clamp(SHORTEST_WAIT, LONGEST_WAIT))
            }
            Ok(Outcome::Lost(why)) => {
                let retry = bridge.remote.config.retry;
                if began.elapsed() > retry.max_delay {
                    delays = Delays::new(retry);
                }
                failed(&mut delays, &why.to_string())
            }
            Ok(Outcome::NotOffered) => {
                log::debug!("the server offers no stream of its own");
                None
            }
            // What the server does not know any more can't be resumed, but a new stream can be opened.
            Ok(Outcome::Refused(status)) if resume.is_some() => {
                log::debug!("the server's stream can't be resumed (HTTP status {status}); opening a new one");
                resume = None;
                continue;
            }
            Ok(Outcome::Refused(status)) => failed(&mut delays, &format!("HTTP status {status}")),
            Err(e) => failed(&mut delays, &e.to_string()),
        };
        let again = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => bridge.reached.notified().await,
            }
        };
        let offered = wait.is_some() || delays.is_exhausted();
        tokio::select! {
            () = again, if offered => {}
            _ = epochs.changed() => resume = None,
        }
    }
}

/// How long to wait after a failure; `None` when only an answer of the server's makes it worth while to try again.
fn failed(delays: &mut Delays, why: &str) -> Option<Duration> {
    let delay = delays.next();
    match delay {
        Some(delay) => log::debug!("the server's stream: {why}; trying again in {delay:?}"),
        None => log::warn!("the server's stream can't be opened: {why}; trying again with the next answer"),
    }
    delay
}

async fn listen(
    bridge: &Arc<Bridge>,
    resume: Option<&HeaderValue>,
    answered: &mut Option<oneshot::Sender<()>>,
) -> Result<Outcome, Failure> {
    let (epoch, channel) = bridge.session().channel();
    let channel = channel.ok_or(Failure::NoSession)?;
    if channel.is_over() {
        bridge.reopen(epoch, None).await?;
        return Ok(Outcome::Reopened);
    }
    let answer = channel.listen(&bridge.remote, resume).await;
    drop(answered.take());
    let answer = answer?;
    if channel.is_lost(&answer) {
        bridge.reopen(epoch, None).await?;
        return Ok(Outcome::Reopened);
    }
    match answer {
        Answer::Events(events) => receive(bridge, events).await,
        Answer::OnStream(stream) => Ok(Outcome::Lost(stream.lost().await)),
        Answer::Refused(refused) if refused.status == StatusCode::METHOD_NOT_ALLOWED => {
            Ok(Outcome::NotOffered)
        }
        Answer::Refused(refused) => Ok(Outcome::Refused(refused.status)),
        Answer::Accepted | Answer::Json(_) | Answer::Read(_) => Ok(Outcome::NotOffered),
    }
}

/// Reads the one stream of HTTP+SSE until it is lost or its channel is given up.
pub(super) async fn read(bridge: Arc<Bridge>, mut stream: Stream) {
    while let Some(message) = stream.next().await {
        bridge.hear(message).await;
    }
}

async fn receive(bridge: &Arc<Bridge>, mut events: Events) -> Result<Outcome, Failure> {
    loop {
        match events.next().await {
            Ok(Some(message)) => bridge.deliver(message, None).await,
            Err(e @ Failure::Unusable(_)) => return Err(e),
            ended => {
                if let Err(e) = ended {
                    log::debug!("the server's stream broke: {e}");
                }
                return Ok(Outcome::Ended { last_event_id: events.last_event_id(), retry: events.retry() });
            }
        }
    }
}
