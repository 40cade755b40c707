//! The task that owns a session's server: reads it, keeps its deadlines, and ends it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep_until, timeout};

use super::{
    live::Live,
    upstream::{Output, Said, Upstream},
};
use crate::{
    aside::Aside,
    child::{Exit, MAX_MESSAGE},
    jsonrpc::{ErrorObject, Kind, Message},
    logging,
    session::{Outcome, no_stream},
    upstream::FromServer,
};

/// How long the output of a child that has exited is waited for: a process of its own may hold the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// A driver with nothing due looks again after this.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// The times that a session keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// `server.session.timeout`.
    pub(super) idle: Duration,
    /// `mcp.graceful_shutdown_timeout`.
    pub(super) grace: Duration,
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    Exited,
    OutputClosed,
    OutputFailed(io::Error),
    InputClosed,
    /// The server is no child, and gone.
    Lost(ErrorObject),
    Idle,
    Told,
}

/// Drives `live` until its end, and returns when its server is gone. `forget` makes the session unreachable.
pub(super) async fn drive(
    live: Arc<Live>,
    mut upstream: Upstream,
    times: Times,
    forget: impl FnOnce() + Send,
) {
    let end = run(&live, &mut upstream, times).await;
    forget();
    if matches!(end, End::Exited) {
        let _ = timeout(LAST_OUTPUT, Box::pin(read_to_end(&live, upstream.parts().0))).await;
    }
    live.stdin.close();
    let session = live.short_id().to_owned();
    // Who waits is answered before the child has all its time to end, unless its status is part of the answer.
    if !matches!(end, End::Exited | End::OutputClosed) {
        live.finish(error(&end, None));
    }
    let exit = upstream.stop(times.grace).await;
    live.finish(error(&end, exit));
    let exit = exit.map(|exit| format!("the MCP server {exit}"));
    match (&end, exit) {
        (End::Exited, Some(exit)) => log::warn!("session {session}: ended: {exit}"),
        (_, Some(exit)) => log::info!("session {session}: ended: {}; {exit}", words(&end)),
        (_, None) => log::info!("session {session}: ended: {}", words(&end)),
    }
    let dropped = live.replay_dropped();
    if dropped > 0 {
        log::info!("session {session}: {dropped} messages were not kept for Last-Event-ID until its end");
    }
}

fn error(end: &End, exit: Option<Exit>) -> ErrorObject {
    match (end, exit) {
        (End::Told, _) => ErrorObject::internal("session_ended", "the session was ended"),
        (End::Idle, _) => ErrorObject::internal("session_ended", words(end)),
        (End::Lost(error), _) => error.clone(),
        (End::Exited, Some(exit)) => ErrorObject::internal("child_exited", format!("the MCP server {exit}")),
        (_, Some(exit)) => ErrorObject::internal("child_exited", format!("{}; it {exit}", words(end))),
        (_, None) => ErrorObject::internal("child_exited", words(end)),
    }
}

fn words(end: &End) -> String {
    match end {
        End::Exited => "the MCP server exited".to_owned(),
        End::OutputClosed => "the MCP server closed its output".to_owned(),
        End::OutputFailed(e) => format!("the MCP server's output can't be read: {e}"),
        End::InputClosed => "the MCP server closed its input".to_owned(),
        End::Lost(error) => error.message.clone(),
        End::Idle => "the session was idle for too long (server.session.timeout)".to_owned(),
        End::Told => "it was told to".to_owned(),
    }
}

async fn run(live: &Arc<Live>, upstream: &mut Upstream, times: Times) -> End {
    let (mut output, gone) = upstream.parts();
    let (told, drained) = (live.end.cancelled(), live.drain.cancelled());
    let mut alarm_at = Instant::now() + FAR;
    let (alarm, wake) = (sleep_until(alarm_at.into()), live.wake.notified());
    tokio::pin!(gone, told, drained, alarm, wake);
    let (mut gone, mut told, mut drained) = (Aside::new(gone), Aside::new(told), Aside::new(drained));
    let (mut alarm, mut wake) = (Aside::new(alarm), Aside::new(wake));
    let mut draining = false;
    loop {
        if draining && live.state().session.exchanges() == 0 {
            return End::Told;
        }
        let now = Instant::now();
        let (due, look_at) = due(live, times, alarm_at, now);
        // Asked for here and not only by the alarm, which a child that writes without end would drown out.
        if due <= now && expire(live, times, now) {
            return End::Idle;
        }
        if alarm_at != look_at {
            alarm_at = look_at;
            alarm.set(sleep_until(look_at.into()));
        }
        tokio::select! {
            biased;
            () = &mut told => return End::Told,
            said = output.next() => match said {
                // A client that is slow to read makes its server wait, but not those who want to end it.
                Ok(said) => tokio::select! {
                    () = take(live, said) => {}
                    () = &mut told => return End::Told,
                },
                Err(end) => return end,
            },
            end = &mut gone => return end,
            () = &mut drained, if !draining => {
                draining = true;
                live.end_listeners();
            }
            () = &mut wake => wake.set(live.wake.notified()),
            () = &mut alarm => alarm.set(sleep_until(alarm_at.into())),
        }
    }
}

/// When something is due, and when to look for it, which requests are told so that they can ask for an earlier look.
///
/// An alarm that comes too early costs less than one that is set anew for each request, so one that stands is left alone.
fn due(live: &Live, times: Times, alarm_at: Instant, now: Instant) -> (Instant, Instant) {
    let mut state = live.state();
    let due = state.session.next_deadline().into_iter().chain(state.idle_at(times.idle)).min();
    let due = due.unwrap_or_else(|| now + FAR);
    let look_at = if alarm_at <= now { due } else { due.min(alarm_at) };
    state.looks_at = Some(look_at);
    (due, look_at)
}

/// Ends what has waited too long; true when that is the session.
fn expire(live: &Live, times: Times, now: Instant) -> bool {
    let mut state = live.state();
    let expired = state.session.expire(now);
    state.deliver_now(expired.deliveries);
    let idle = state.idle_at(times.idle).is_some_and(|at| at <= now);
    drop(state);
    live.tell_child_all(expired.to_server);
    idle
}

async fn read_to_end(live: &Live, mut output: Output<'_>) {
    while let Ok(said) = output.next().await {
        take(live, said).await;
    }
}

async fn take(live: &Live, said: Said) {
    match said {
        Said::Message(message) => route(live, message).await,
        Said::Batch(messages) => {
            for message in messages {
                route(live, FromServer { message, about: None }).await;
            }
        }
        Said::Garbage(length, e) => {
            log::warn!(
                "session {}: a line of {length} bytes from the child is no message: {e}",
                live.short_id()
            );
        }
        Said::TooLong(length) => too_long(live, length),
    }
}

async fn route(live: &Live, FromServer { message, about }: FromServer) {
    logging::body(Some(live.short_id()), "from the MCP server", &message.line);
    let now = Instant::now();
    let outcome = live.state().session.from_server(message, about.as_ref(), now);
    match outcome {
        Outcome::Deliver(delivery) => {
            if let Err(delivery) = live.try_deliver(delivery, now) {
                Box::pin(live.deliver(delivery)).await;
            }
        }
        Outcome::Held(driven_out) => driven_out.into_iter().for_each(|message| lost(live, &message)),
        Outcome::Ignore(why) => {
            log::warn!("session {}: a message of the child's is dropped: {why}", live.short_id());
        }
    }
}

/// A message that waited for a stream had to make room for newer ones.
fn lost(live: &Live, message: &Message) {
    log::warn!("session {}: a message is lost: the client has no stream open", live.short_id());
    if let Kind::Request { id, .. } = &message.kind {
        live.tell_child(no_stream().response(Some(id)).line);
    }
}

/// Nobody can say whose answer it was, and nobody may wait for it for ever.
fn too_long(live: &Live, length: u64) {
    log::error!("session {}: a line of {length} bytes from the child is too long", live.short_id());
    let text =
        format!("the MCP server sent a message of {length} bytes; at most {MAX_MESSAGE} are passed on");
    let mut state = live.state();
    let deliveries = state.session.fail_all(&ErrorObject::internal("message_too_long", text));
    state.deliver_now(deliveries);
}
