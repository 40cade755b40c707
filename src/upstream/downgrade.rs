//! A modern server as a legacy one: a task drives the state machine of one client.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::{task::JoinSet, time::sleep_until};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{FromServer, Item, LegacyServer, ModernServer};
use crate::{
    era::{
        self,
        downgrade::{CallKey, Downgrade, Output},
    },
    framing::{
        queue::{self, NoRoom, Receiver, Sender},
        writer::{Queued, Writer},
    },
    jsonrpc::{self, ErrorObject, Kind, Line, Message, Payload},
    session::Limits,
};

/// Most bytes that wait for the client, and that have come of all calls and wait to be looked at; one larger message
/// may wait alone.
const MAX_QUEUED: u32 = 4 * 1024 * 1024;

/// A modern server, for one legacy client. Dropping it ends all that it has begun.
#[derive(Debug)]
pub struct Downgraded {
    stdin: Writer,
    messages: Receiver<FromServer>,
    task: AbortOnDropHandle<()>,
}

impl Downgraded {
    /// Puts `server` behind the face of a legacy one. Must run inside a Tokio runtime.
    ///
    /// A client that does not take its messages makes its own calls wait, and nobody else's.
    pub fn new(server: Arc<impl ModernServer>, limits: Limits) -> Self {
        let (stdin, lines) = Writer::queue();
        let (sender, messages) = queue::bounded(MAX_QUEUED);
        let driver = Driver { machine: Downgrade::new(limits), server, calls: Calls::new(), client: sender };
        let task = AbortOnDropHandle::new(tokio::spawn(driver.run(lines)));
        Self { stdin, messages, task }
    }

    /// Where the client's messages go.
    pub fn stdin(&self) -> &Writer {
        &self.stdin
    }
}

impl LegacyServer for Downgraded {
    fn send(&mut self, message: Message) -> Result<(), ErrorObject> {
        let untaken =
            |e| ErrorObject::internal("server_unwritable", format!("the MCP server takes no message: {e}"));
        self.stdin.try_send(message.line).map_err(untaken)
    }

    async fn next(&mut self) -> Result<FromServer, ErrorObject> {
        let next = self.messages.recv().await.map(|(message, _room)| message);
        next.ok_or_else(|| ErrorObject::internal("internal", "mcp-bridge has failed; its log says where"))
    }

    async fn end(mut self) {
        self.stdin.close();
        // Whoever waits for room learns that nobody will take anything.
        self.messages.close();
        if let Err(e) = (&mut self.task).await {
            log::error!("a session's translation has failed: {e}");
        }
    }
}

struct Driver<S> {
    machine: Downgrade,
    server: Arc<S>,
    calls: Calls,
    client: Sender<FromServer>,
}

/// The calls in progress: a task for each, all of which bring what comes to one queue.
struct Calls {
    tasks: JoinSet<CallKey>,
    /// Ends a call before its end.
    cancels: HashMap<CallKey, CancellationToken>,
    sender: Sender<(CallKey, Option<Message>)>,
    receiver: Receiver<(CallKey, Option<Message>)>,
}

impl<S: ModernServer> Driver<S> {
    async fn run(mut self, mut lines: Queued) {
        loop {
            // Nothing else is looked at before the client has taken what there is.
            if self.act().await.is_err() {
                break;
            }
            let due = self.machine.next_deadline();
            let alarm = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                line = lines.next() => match line {
                    Some((line, _room)) => self.take(&line),
                    None => break,
                },
                Some(((key, message), _room)) = self.calls.receiver.recv() => self.hear(key, message.as_ref()),
                Some(key) = self.calls.tasks.join_next() => self.calls.reap(key),
                () = alarm => {}
            }
            // Asked each time and not only by the alarm, which a busy server would drown out.
            if due.is_some_and(|due| due <= Instant::now()) {
                self.machine.expire(Instant::now());
            }
        }
        self.calls.tasks.shutdown().await;
    }

    fn take(&mut self, line: &Line) {
        let messages = match jsonrpc::parse(line.bytes().clone()) {
            Ok(Payload::Single(message)) => vec![message],
            Ok(Payload::Batch(messages)) => messages,
            Err(e) => return log::warn!("a client's line is no message: {e}"),
        };
        for message in messages {
            self.machine.from_client(message, Instant::now());
        }
    }

    fn hear(&mut self, key: CallKey, message: Option<&Message>) {
        match message {
            Some(message) => self.machine.from_server(key, message, Instant::now()),
            None => self.machine.call_ended(key, Instant::now()),
        }
    }

    /// Does what the machine wants.
    async fn act(&mut self) -> Result<(), NoRoom> {
        for output in self.machine.drain() {
            match output {
                Output::ToClient { message, about } => {
                    let room = self.client.reserve(message.line.len()).await?;
                    self.client.send(FromServer { message, about }, room);
                }
                Output::Call { key, request } => self.calls.begin(key, request, &self.server),
                Output::Cancel(key) => self.calls.cancel(key),
                Output::Notify(message) => self.server.notify(message).await,
            }
        }
        Ok(())
    }
}

impl Calls {
    fn new() -> Self {
        let (sender, receiver) = queue::bounded(MAX_QUEUED);
        Self { tasks: JoinSet::new(), cancels: HashMap::new(), sender, receiver }
    }

    fn begin(&mut self, key: CallKey, request: era::Request, server: &Arc<impl ModernServer>) {
        let cancel = CancellationToken::new();
        self.cancels.insert(key, cancel.clone());
        let (server, sender) = (Arc::clone(server), self.sender.clone());
        self.tasks.spawn(async move {
            bring(key, request, &*server, &sender, &cancel).await;
            key
        });
    }

    fn cancel(&mut self, key: CallKey) {
        if let Some(cancel) = self.cancels.get(&key) {
            cancel.cancel();
        }
    }

    fn reap(&mut self, done: Result<CallKey, tokio::task::JoinError>) {
        match done {
            Ok(key) => drop(self.cancels.remove(&key)),
            Err(e) => log::error!("a call has failed: {e}"),
        }
    }
}

/// The message in one piece. Of an answer the machine does not look at the id, which is the only change to most.
fn readable(message: Message) -> Message {
    let before = match message.kind {
        Kind::Response { .. } => message.line.before_change(),
        _ => None,
    };
    Message { line: before.unwrap_or_else(|| message.line.joined()), kind: message.kind }
}

/// Brings what comes of a call, and the word that nothing more will. What has come before it is cancelled is brought
/// still.
async fn bring(
    key: CallKey,
    request: era::Request,
    server: &impl ModernServer,
    sender: &Sender<(CallKey, Option<Message>)>,
    cancel: &CancellationToken,
) {
    let Some(mut call) = cancel.run_until_cancelled(server.call(request)).await else { return };
    loop {
        let item = tokio::select! {
            biased;
            item = call.next() => item,
            () = cancel.cancelled() => return,
        };
        let message = item.map(|Item { message, .. }| readable(message));
        let (bytes, ended) = (message.as_ref().map_or(0, |message| message.line.len()), message.is_none());
        let Ok(room) = sender.reserve(bytes).await else { return };
        if !sender.send((key, message), room) || ended {
            return;
        }
    }
}
