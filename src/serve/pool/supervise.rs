//! The task that keeps one shared child: starts it, reads it, and starts it again.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::{sleep, sleep_until, timeout};

use super::{Ending, Restarts, instance::Instance, shutting_down};
use crate::{
    aside::Aside,
    child::{Child, ChildCommand, MAX_MESSAGE},
    crypto,
    framing::lines::Framed,
    jsonrpc::{ErrorObject, Payload, RequestId, parse},
};

/// How long a child must have run for its restarts to be forgotten.
const HEALTHY: Duration = Duration::from_secs(60);
/// The longest wait before a restart, unless the first is longer.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// How long the end of a child that has closed its output is waited for, and the output of one that has exited: a
/// process of its own may hold the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// A driver with nothing due looks again after this.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a child ends.
#[derive(Debug)]
enum End {
    Exited,
    OutputClosed,
    OutputFailed(io::Error),
    InputClosed,
    Deaf,
    Told,
}

/// Keeps `instance` until it is told to end, or until its child has failed too often.
pub(super) async fn keep(instance: Arc<Instance>, command: ChildCommand, restarts: Restarts, ending: Ending) {
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let Some(why) = live(&instance, &command, &ending).await else { break };
        failures = failures_before(failures, begun.elapsed());
        if !restarts.enabled || failures >= restarts.max {
            log::error!(
                "{instance}: {why}; it is not started again (mcp.restart_on_failure, mcp.max_restarts)"
            );
            return instance
                .fail(ErrorObject::internal("child_exited", format!("{why}, and is not started again")));
        }
        failures += 1;
        let delay = delay(restarts.delay, failures);
        log::warn!("{instance}: {why}; starting it again in {delay:?} ({failures} of {})", restarts.max);
        tokio::select! {
            () = sleep(delay) => command.count_restart(),
            () = ending.drain.cancelled() => break,
        }
    }
    instance.ended();
}

/// How many failures count once a child has run for so long.
fn failures_before(failures: u32, ran: Duration) -> u32 {
    if ran >= HEALTHY { 0 } else { failures }
}

/// The wait before a restart: it doubles, and differs so that several children don't start in step.
fn delay(first: Duration, failures: u32) -> Duration {
    let grown = first.saturating_mul(2_u32.saturating_pow(failures - 1)).min(MAX_DELAY.max(first));
    grown.mul_f64(0.5 + crypto::random_fraction().unwrap_or(0.5) / 2.0)
}

/// One process from its start to its end: what went wrong, or `None` when it was told to end.
async fn live(instance: &Instance, command: &ChildCommand, ending: &Ending) -> Option<String> {
    if ending.drain.is_cancelled() {
        return None;
    }
    let mut child = match command.spawn(&format!("{} of those shared", instance.index + 1)) {
        Ok(child) => child,
        Err(e) => return Some(format!("the MCP server can't be started: {e}")),
    };
    log::info!("{instance}: process {}", child.process.id());
    let hangs = instance.begin(&child.stdin);
    let mut end = tokio::select! {
        end = run(instance, &mut child, ending) => end,
        () = hangs.cancelled() => End::Deaf,
    };
    // One that has closed its pipes is mostly about to exit, and how it does is worth a moment.
    if matches!(end, End::OutputClosed | End::InputClosed)
        && timeout(LAST_OUTPUT, child.process.exited()).await.is_ok()
    {
        end = End::Exited;
    }
    if matches!(end, End::Exited) {
        let _ = timeout(LAST_OUTPUT, read_to_end(instance, &mut child)).await;
    }
    instance.pause();
    // Who waits is answered before the child has all its time to end; only one that has exited has a status by now.
    if !matches!(end, End::Exited) {
        instance.finish(&error(&end));
    }
    let exit = child.end(instance.grace()).await;
    let why = match end {
        End::Told => {
            log::info!("{instance}: the MCP server {exit}");
            return None;
        }
        End::Exited => format!("the MCP server {exit}"),
        end => format!("{}; it {exit}", words(&end)),
    };
    instance.finish(&ErrorObject::internal("child_exited", why.clone()));
    Some(why)
}

fn error(end: &End) -> ErrorObject {
    if matches!(end, End::Told) { shutting_down() } else { ErrorObject::internal("child_exited", words(end)) }
}

fn words(end: &End) -> String {
    match end {
        End::Exited => "the MCP server exited".to_owned(),
        End::OutputClosed => "the MCP server closed its output".to_owned(),
        End::OutputFailed(e) => format!("the MCP server's output can't be read: {e}"),
        End::InputClosed => "the MCP server closed its input".to_owned(),
        End::Deaf => "the MCP server does not read its input".to_owned(),
        End::Told => "it was told to".to_owned(),
    }
}

async fn run(instance: &Instance, child: &mut Child, ending: &Ending) -> End {
    let Child { stdin, stdout, process } = child;
    let (exited, input_closed) = (process.exited(), stdin.closed());
    let (now, closed, drained) = (ending.now.cancelled(), ending.close.cancelled(), ending.drain.cancelled());
    let mut alarm_at = Instant::now() + FAR;
    let (alarm, wake) = (sleep_until(alarm_at.into()), instance.wake.notified());
    tokio::pin!(exited, input_closed, now, closed, drained, alarm, wake);
    let (mut exited, mut input_closed) = (Aside::new(exited), Aside::new(input_closed));
    let (mut now, mut closed, mut drained) = (Aside::new(now), Aside::new(closed), Aside::new(drained));
    let (mut alarm, mut wake) = (Aside::new(alarm), Aside::new(wake));
    let (mut closing, mut draining) = (false, false);
    loop {
        if draining && instance.retire() {
            return End::Told;
        }
        let due = instance.due();
        // Asked for here and not only by the alarm, which a child that writes without end would drown out.
        if due.is_some_and(|due| due <= Instant::now()) {
            instance.expire();
            continue;
        }
        if let Some(due) = due.filter(|due| *due != alarm_at) {
            alarm_at = due;
            alarm.set(sleep_until(due.into()));
        }
        tokio::select! {
            biased;
            () = &mut now => return End::Told,
            framed = stdout.next() => match framed {
                Ok(Some(framed)) => take(instance, framed),
                Ok(None) => return End::OutputClosed,
                Err(e) => return End::OutputFailed(e),
            },
            () = &mut exited => return End::Exited,
            () = &mut input_closed => return End::InputClosed,
            () = &mut closed, if !closing => {
                closing = true;
                instance.complete_subscriptions();
            }
            () = &mut drained, if !draining => draining = true,
            () = &mut wake => wake.set(instance.wake.notified()),
            () = &mut alarm => {
                alarm_at = Instant::now() + FAR;
                alarm.set(sleep_until(alarm_at.into()));
            }
        }
    }
}

async fn read_to_end(instance: &Instance, child: &mut Child) {
    while let Ok(Some(framed)) = child.stdout.next().await {
        take(instance, framed);
    }
}

fn take(instance: &Instance, framed: Framed) {
    match framed {
        Framed::Line(text) => take_text(instance, text),
        Framed::TooLong { length, head } => {
            log::error!("{instance}: a line of {length} bytes from the child is too long");
            let text = format!(
                "the MCP server sent a message of {length} bytes; at most {MAX_MESSAGE} are passed on"
            );
            instance.answer_lost(answered(&head).as_ref(), &ErrorObject::internal("message_too_long", text));
        }
    }
}

fn take_text(instance: &Instance, text: Bytes) {
    let length = text.len();
    match parse(text) {
        Ok(Payload::Single(message)) => instance.take(&message),
        Ok(Payload::Batch(messages)) => messages.iter().for_each(|message| instance.take(message)),
        Err(e) => log::warn!("{instance}: a line of {length} bytes from the child is no message: {e}"),
    }
}

/// The id of the response that begins so, if it stands where most servers put it.
fn answered(head: &[u8]) -> Option<RequestId> {
    let mut rest = std::str::from_utf8(head.get(..64)?).ok()?.strip_prefix('{')?;
    rest = rest.strip_prefix(r#""jsonrpc":"2.0","#).unwrap_or(rest).strip_prefix(r#""id":"#)?;
    rest.split_once(',').and_then(|(id, _)| RequestId::from_json(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_long_answer_is_found_where_it_is_sure() {
        let head = |text: &str| answered(format!("{text}{}", "x".repeat(64)).as_bytes());
        assert_eq!(head(r#"{"jsonrpc":"2.0","id":7,"result":""#), Some(RequestId::from(7)));
        assert_eq!(head(r#"{"id":7,"jsonrpc":"2.0","result":""#), Some(RequestId::from(7)));
        assert_eq!(head(r#"{"result":{"id":7,"#), None);
        assert_eq!(head(r#"{"jsonrpc":"2.0","method":""#), None);
    }

    #[test]
    fn a_minute_of_health_makes_failures_forgotten() {
        assert_eq!(failures_before(4, HEALTHY), 0);
        assert_eq!(failures_before(4, HEALTHY / 2), 4);
    }

    #[test]
    fn the_wait_doubles_up_to_a_bound_and_varies_by_half() {
        let second = Duration::from_secs(1);
        for (failures, longest) in [(1, 1), (2, 2), (5, 16), (7, 60), (u32::MAX, 60)] {
            let (waits, longest) = (delay(second, failures), Duration::from_secs(longest));
            assert!(waits <= longest && waits >= longest / 2, "{failures}: {waits:?}");
        }
        assert!(delay(Duration::from_secs(300), 9) >= Duration::from_secs(150));
    }
}
