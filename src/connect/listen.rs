//! The GET stream, for what the server has to say by itself.

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use tokio::{sync::oneshot, time::sleep};

use super::{
    answer::{Answer, Events},
    bridge::{Bridge, is_lost},
    exchange::{LONGEST_WAIT, SHORTEST_WAIT},
    failure::Failure,
    remote::Delays,
};

/// How long to wait before a stream that ended is opened again, unless the server says otherwise.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of one attempt.
enum Outcome {
    /// The stream was open and ended.
    Ended { last_event_id: Option<String>, retry: Option<Duration> },
    /// The server offers none.
    NotOffered,
    /// Not this time.
    Refused(StatusCode),
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
        epochs.mark_unchanged();
        let attempt = tokio::select! {
            attempt = listen(bridge, resume.as_deref(), &mut answered) => attempt,
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
    resume: Option<&str>,
    answered: &mut Option<oneshot::Sender<()>>,
) -> Result<Outcome, Failure> {
    let (epoch, headers) = bridge.session().headers();
    let response = bridge.remote.get(&headers, resume).await;
    drop(answered.take());
    let answer = Answer::of(response?)?;
    if is_lost(&answer, headers.id.is_some()) {
        bridge.reopen(epoch, None).await?;
        return Ok(Outcome::Reopened);
    }
    match answer {
        Answer::Events(events) => receive(bridge, events).await,
        Answer::Refused(refused) if refused.status == StatusCode::METHOD_NOT_ALLOWED => {
            Ok(Outcome::NotOffered)
        }
        Answer::Refused(refused) => Ok(Outcome::Refused(refused.status)),
        Answer::Accepted | Answer::Json(_) => Ok(Outcome::NotOffered),
    }
}

async fn receive(bridge: &Arc<Bridge>, mut events: Events) -> Result<Outcome, Failure> {
    loop {
        match events.next().await {
            Ok(Some(message)) => bridge.deliver(message).await,
            Err(e @ Failure::Unusable(_)) => return Err(e),
            ended => {
                if let Err(e) = ended {
                    log::debug!("the server's stream broke: {e}");
                }
                let last_event_id = events.last_event_id().map(str::to_owned);
                return Ok(Outcome::Ended { last_event_id, retry: events.retry() });
            }
        }
    }
}
