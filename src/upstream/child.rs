//! A child as a legacy server.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use super::{FromServer, LegacyServer};
use crate::{
    child::{Child, Exit, MAX_MESSAGE},
    framing::{
        lines::Framed,
        writer::{Unwritable, Writer},
    },
    jsonrpc::{ErrorObject, Line, Message, Payload, parse},
};

/// How long the output of a child that has exited is waited for: a process of its own may hold the pipe open.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// Most bytes that wait for room in the queue to a child's input; one larger message may wait alone.
const MAX_UNSENT: usize = 16 * 1024 * 1024;

/// The legacy server that a child is.
#[derive(Debug)]
pub struct ChildServer {
    /// Whose it is, for the log.
    label: String,
    grace: Duration,
    stdin: Writer,
    stage: Stage,
    /// What has been read and not been asked for.
    read: VecDeque<Message>,
    /// What waits for room in the queue to its input.
    unsent: VecDeque<Line>,
}

#[derive(Debug)]
enum Stage {
    Running {
        child: Box<Child>,
        /// It has exited; what it wrote before is read until then.
        exited: Option<Instant>,
    },
    Ending(Why, JoinHandle<Exit>),
    Ended(ErrorObject),
}

/// Why there will be no more messages.
#[derive(Debug)]
enum Why {
    Exited,
    Broken(String),
    TooLong(u64),
}

/// What a child does next.
enum Event {
    Line(Bytes),
    Exited,
    /// It has taken something that waited.
    Passed,
    Over(Why),
}

impl ChildServer {
    /// Takes charge of a child that has not been asked anything. `label` says in the log whose it is; at its end it has
    /// `grace` (`mcp.graceful_shutdown_timeout`).
    pub fn new(child: Child, label: String, grace: Duration) -> Self {
        let stdin = child.stdin.clone();
        let stage = Stage::Running { child: Box::new(child), exited: None };
        Self { label, grace, stdin, stage, read: VecDeque::new(), unsent: VecDeque::new() }
    }

    fn put(&mut self, line: Line) -> Result<(), ErrorObject> {
        let waiting: usize = self.unsent.iter().map(Line::len).sum();
        if self.unsent.is_empty() {
            match self.stdin.try_send(line.clone()) {
                // When the input is closed, the next message says why.
                Ok(()) | Err(Unwritable::Closed) => return Ok(()),
                Err(Unwritable::Deaf) => {}
            }
        } else if waiting + line.len() > MAX_UNSENT {
            let text = "the MCP server takes no message: it does not read its input";
            return Err(ErrorObject::internal("child_unwritable", text));
        }
        self.unsent.push_back(line);
        Ok(())
    }

    fn take(&mut self, text: Bytes) {
        let length = text.len();
        match parse(text) {
            Ok(Payload::Single(message)) => self.read.push_back(message),
            Ok(Payload::Batch(messages)) => self.read.extend(messages),
            Err(e) => {
                log::warn!("{}: a line of {length} bytes from the child is no message: {e}", self.label);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let why = match event {
            Event::Line(text) => return self.take(text),
            Event::Passed => return,
            Event::Exited => {
                if let Stage::Running { exited, .. } = &mut self.stage {
                    *exited = Some(Instant::now() + LAST_OUTPUT);
                }
                return;
            }
            Event::Over(why) => why,
        };
        let gone = Stage::Ended(ErrorObject::internal("child_exited", "the MCP server is gone"));
        self.stage = match std::mem::replace(&mut self.stage, gone) {
            Stage::Running { child, .. } => Stage::Ending(why, tokio::spawn(child.end(self.grace))),
            other => other,
        };
    }
}

/// Waits for what `child` does next. Cancel safe.
async fn next_event(child: &mut Child, exited: Option<Instant>) -> Event {
    let gone = async {
        if let Some(until) = exited {
            sleep_until(until.into()).await;
            return Event::Over(Why::Exited);
        }
        child.process.exited().await;
        Event::Exited
    };
    tokio::select! {
        biased;
        framed = child.stdout.next() => match framed {
            Ok(Some(Framed::Line(text))) => Event::Line(text),
            Ok(Some(Framed::TooLong { length, .. })) => Event::Over(Why::TooLong(length)),
            // Whoever exits closes its output first.
            Ok(None) if timeout(LAST_OUTPUT, child.process.exited()).await.is_ok() => Event::Over(Why::Exited),
            Ok(None) => Event::Over(Why::Broken("closed its output".to_owned())),
            Err(e) => Event::Over(Why::Broken(format!("has an output that can't be read: {e}"))),
        },
        event = gone => event,
        () = child.stdin.closed(), if exited.is_none() => Event::Over(Why::Broken("closed its input".to_owned())),
    }
}

/// Passes on what waits. Cancel safe; never ready when nothing waits.
async fn pass_on(stdin: &Writer, unsent: &mut VecDeque<Line>) -> Event {
    let Some(line) = unsent.front() else { return std::future::pending().await };
    match stdin.reserve(line).await {
        Ok(reserved) => {
            if let Some(Err(e)) = unsent.pop_front().map(|line| reserved.send(line)) {
                log::debug!("a line to the child is lost: {e}");
            }
        }
        // Its output says why.
        Err(Unwritable::Closed) => unsent.clear(),
        Err(e @ Unwritable::Deaf) => return Event::Over(Why::Broken(format!("takes no message: {e}"))),
    }
    Event::Passed
}

fn error(why: &Why, exit: Option<Exit>) -> ErrorObject {
    let exit = exit.map_or_else(|| "ended".to_owned(), |exit| exit.to_string());
    match why {
        Why::Exited => ErrorObject::internal("child_exited", format!("the MCP server {exit}")),
        Why::Broken(what) => {
            ErrorObject::internal("child_exited", format!("the MCP server {what}; it {exit}"))
        }
        Why::TooLong(length) => {
            let most = format!("at most {MAX_MESSAGE} are passed on");
            let text = format!("the MCP server sent a message of {length} bytes; {most}");
            ErrorObject::internal("message_too_long", text)
        }
    }
}

impl LegacyServer for ChildServer {
    fn send(&mut self, message: Message) -> Result<(), ErrorObject> {
        match &self.stage {
            Stage::Ended(error) => Err(error.clone()),
            // The next message says why there are no more.
            Stage::Ending(..) | Stage::Running { exited: Some(_), .. } => Ok(()),
            Stage::Running { .. } => self.put(message.line),
        }
    }

    async fn next(&mut self) -> Result<FromServer, ErrorObject> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Ok(FromServer { message, about: None });
            }
            match &mut self.stage {
                Stage::Running { child, exited } => {
                    let event = tokio::select! {
                        biased;
                        event = next_event(child, *exited) => event,
                        event = pass_on(&self.stdin, &mut self.unsent) => event,
                    };
                    self.handle(event);
                }
                Stage::Ending(why, exit) => {
                    let exit = exit.await.ok();
                    let error = error(why, exit);
                    if let Some(exit) = exit {
                        log::warn!("{}: the MCP server {exit}", self.label);
                    }
                    self.stage = Stage::Ended(error);
                }
                Stage::Ended(error) => return Err(error.clone()),
            }
        }
    }

    async fn end(self) {
        match self.stage {
            Stage::Running { child, .. } => {
                let exit = child.end(self.grace).await;
                log::info!("{}: the MCP server {exit}", self.label);
            }
            Stage::Ending(_, exit) => drop(exit.await),
            Stage::Ended(_) => {}
        }
    }
}
