//! A legacy server as a modern one: the task that owns it, and the handle to that.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Call, FromServer, Item, LegacyServer, ModernServer, Replies, call};
use crate::{
    era::{
        self, state,
        upgrade::{CallKey, Output, Setup, Upgrade},
    },
    framing::queue::{self, NoRoom},
    jsonrpc::{ErrorObject, Message},
};

/// Most bytes of requests that wait for the task.
const MAX_QUEUED: u32 = 16 * 1024 * 1024;
/// How long a request waits for room in the queue.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a session waits for its first request, at least.
const UNUSED: Duration = Duration::from_secs(60);
/// A task with nothing due looks again after this.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// A request on its way to the task.
#[derive(Debug)]
struct Command {
    key: CallKey,
    request: era::Request,
    replies: Replies,
}

/// A legacy session, as a modern server. Its clones are one.
#[derive(Debug, Clone)]
pub struct UpgradeHandle {
    commands: queue::Sender<Command>,
    /// Of each call at most once.
    left: mpsc::UnboundedSender<CallKey>,
    keys: Arc<AtomicU64>,
    drain: CancellationToken,
    end: CancellationToken,
}

/// Why a session has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was told to, or nobody could reach it any more.
    Told,
    /// Nobody has used it for the given time.
    Idle,
    /// The server is gone, or has refused `initialize`.
    Failed(ErrorObject),
}

/// Opens a legacy session with `server`. The future is the session: it says why it has ended, when nothing is left of the
/// server. The session ends by itself when nothing has been open or suspended for `idle`.
pub fn upgrade<S: LegacyServer>(
    server: S,
    setup: Setup,
    idle: Duration,
) -> (UpgradeHandle, impl Future<Output = End> + Send + 'static) {
    let (commands, queued) = queue::bounded(MAX_QUEUED);
    let (left, leaving) = mpsc::unbounded_channel();
    let (drain, end) = (CancellationToken::new(), CancellationToken::new());
    let handle =
        UpgradeHandle { commands, left, keys: Arc::default(), drain: drain.clone(), end: end.clone() };
    let task = Task {
        server,
        machine: Upgrade::new(setup, Instant::now()),
        queued,
        leaving,
        calls: HashMap::new(),
        idle,
        idle_since: Some(Instant::now()),
        used: false,
        idled: false,
        closed: false,
        draining: false,
        drain,
        end,
    };
    (handle, task.drive())
}

impl UpgradeHandle {
    /// Sends a request, unless the session has ended: then it is given back.
    pub async fn offer(&self, request: era::Request) -> Result<Call, era::Request> {
        let room = match self.commands.reserve_within(request.line.len(), PATIENCE).await {
            Ok(room) => room,
            Err(NoRoom::Closed) => return Err(request),
            Err(NoRoom::Full) => {
                let busy = ErrorObject::internal("busy", "too many requests wait for the MCP server");
                return Ok(Call::answered(busy.response(Some(&request.id))));
            }
        };
        let key = CallKey(self.keys.fetch_add(1, Ordering::Relaxed));
        let left = self.left.clone();
        let (replies, call) = call(move || {
            // Without the task there is nothing to leave.
            let _ = left.send(key);
        });
        let command = Command { key, request: request.clone(), replies };
        if self.commands.send(command, room) { Ok(call) } else { Err(request) }
    }

    /// Takes no new requests but those that suspended calls wait for, ends listens, and ends the session when no call
    /// runs.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Ends the session now.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Whether the session takes no more requests.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }
}

impl ModernServer for UpgradeHandle {
    async fn call(&self, request: era::Request) -> Call {
        self.offer(request)
            .await
            .unwrap_or_else(|request| Call::answered(ended().response(Some(&request.id))))
    }

    async fn notify(&self, message: Message) {
        log::debug!(
            "a client's {} is dropped: a legacy server has no use for it",
            message.method().unwrap_or_default()
        );
    }
}

fn ended() -> ErrorObject {
    ErrorObject::internal("session_ended", "the session with the MCP server has ended")
}

/// Owns a legacy session.
struct Task<S> {
    server: S,
    machine: Upgrade,
    queued: queue::Receiver<Command>,
    leaving: mpsc::UnboundedReceiver<CallKey>,
    calls: HashMap<CallKey, Replies>,
    idle: Duration,
    /// Since when nothing is open.
    idle_since: Option<Instant>,
    /// There has been a request.
    used: bool,
    /// Nothing was open for too long.
    idled: bool,
    /// No request will come any more.
    closed: bool,
    draining: bool,
    drain: CancellationToken,
    end: CancellationToken,
}

/// What the task does next.
enum Event {
    Command(Option<Command>),
    Left(CallKey),
    Server(Result<FromServer, ErrorObject>),
    Drain,
    End,
    Time,
}

impl<S: LegacyServer> Task<S> {
    async fn drive(mut self) -> End {
        let end = self.run().await;
        let error = match &end {
            End::Failed(error) => error.clone(),
            End::Told | End::Idle => ended(),
        };
        self.machine.end_listens(Instant::now());
        self.machine.server_ended(&error);
        self.put_out();
        self.queued.close();
        while let Some((command, _)) = self.queued.recv().await {
            let message = error.response(Some(&command.request.id));
            let _ = command.replies.push(Item { message, last: true });
        }
        self.server.end().await;
        end
    }

    async fn run(&mut self) -> End {
        loop {
            self.put_out();
            if let Some(end) = self.has_ended() {
                return end;
            }
            match self.next().await {
                Event::Command(Some(command)) => self.take(command),
                Event::Command(None) => self.closed = true,
                Event::Left(key) => self.leave(key),
                Event::Server(Ok(message)) => self.machine.from_server(message, Instant::now()),
                Event::Server(Err(error)) => self.machine.server_ended(&error),
                Event::Drain => {
                    self.take_queued();
                    self.draining = true;
                    self.machine.end_listens(Instant::now());
                }
                Event::End => return End::Told,
                Event::Time => {}
            }
            self.expire(Instant::now());
        }
    }

    fn has_ended(&self) -> Option<End> {
        if let Some(error) = self.machine.failure() {
            return Some(End::Failed(error.clone()));
        }
        // When nobody can send a request, nobody can come back to a suspended call either.
        let nobody = self.closed && self.calls.is_empty();
        let drained = self.draining && !self.machine.has_running();
        (nobody || drained).then_some(if self.idled { End::Idle } else { End::Told })
    }

    /// Waits for what comes next. Cancel safe.
    async fn next(&mut self) -> Event {
        let due = self.machine.next_deadline().into_iter().chain(self.idle_at()).min();
        let due = due.unwrap_or_else(|| Instant::now() + FAR);
        tokio::select! {
            () = self.end.cancelled() => Event::End,
            () = self.drain.cancelled(), if !self.draining => Event::Drain,
            Some(key) = self.leaving.recv() => Event::Left(key),
            command = self.queued.recv(), if !self.closed => Event::Command(command.map(|(command, _)| command)),
            message = self.server.next() => Event::Server(message),
            () = sleep_until(due.into()) => Event::Time,
        }
    }

    fn idle_at(&self) -> Option<Instant> {
        let idle = if self.used { self.idle } else { self.idle.max(UNUSED) };
        self.idle_since.filter(|_| !self.idled).and_then(|since| since.checked_add(idle))
    }

    fn expire(&mut self, now: Instant) {
        if self.machine.next_deadline().is_some_and(|due| due <= now) {
            self.machine.expire(now);
        }
        self.idle_since = self.machine.is_idle().then(|| self.idle_since.unwrap_or(now));
        if self.idle_at().is_some_and(|at| at <= now) {
            // What has been queued meanwhile is still taken in.
            self.idled = true;
            self.queued.close();
        }
    }

    fn take(&mut self, command: Command) {
        let Command { key, request, replies } = command;
        self.used = true;
        if self.draining && !matches!(state::presented(&request), Ok(Some(_))) {
            let error = ErrorObject::internal("shutting_down", "mcp-bridge is shutting down");
            let _ = replies.push(Item { message: error.response(Some(&request.id)), last: true });
            return;
        }
        self.calls.insert(key, replies);
        self.machine.call(key, request, Instant::now());
    }

    fn leave(&mut self, key: CallKey) {
        // Its request went before, by another way.
        self.take_queued();
        self.calls.remove(&key);
        self.machine.left(key, Instant::now());
    }

    fn take_queued(&mut self) {
        while let Some((command, _)) = self.queued.try_recv() {
            self.take(command);
        }
    }

    /// Passes on what the machine puts out, and what comes of that.
    fn put_out(&mut self) {
        loop {
            let outputs = self.machine.take_output();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::ToServer(message) => {
                        let kind = message.kind.clone();
                        if let Err(error) = self.server.send(message) {
                            self.machine.unsent(&kind, &error, Instant::now());
                        }
                    }
                    Output::ToClient(key, item) => self.put_item(key, item),
                    Output::Ended(key) => drop(self.calls.remove(&key)),
                }
            }
        }
    }

    /// A client that does not read is cut off: the server's messages to the others do not wait for it.
    fn put_item(&mut self, key: CallKey, item: Item) {
        let Some(replies) = self.calls.get(&key) else { return };
        let last = item.last;
        match replies.push(item) {
            Err(NoRoom::Full) => {
                log::warn!("a call is cut: its client does not read what comes");
                self.leave(key);
            }
            // A client that has left says so itself.
            _ if last => drop(self.calls.remove(&key)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        era::{
            state::Sealer,
            upgrade::{Capabilities, Lanes},
        },
        jsonrpc::{Payload, parse},
        session::Limits,
    };

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A legacy server that says what a test says, and tells what it gets; it answers `initialize` by itself.
    struct Scripted {
        gets: mpsc::UnboundedSender<Value>,
        says: mpsc::UnboundedReceiver<Value>,
        first: Option<Value>,
    }

    impl LegacyServer for Scripted {
        fn send(&mut self, message: Message) -> Result<(), ErrorObject> {
            let got: Value = serde_json::from_str(message.line.as_str()).unwrap();
            if got["method"] == "initialize" {
                let capabilities = json!({ "tools": { "listChanged": true } });
                let result = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities });
                self.first = Some(json!({ "jsonrpc": "2.0", "id": got["id"], "result": result }));
            } else if got["method"] != "notifications/initialized" {
                self.gets.send(got).unwrap();
            }
            Ok(())
        }

        async fn next(&mut self) -> Result<FromServer, ErrorObject> {
            let said = match self.first.take() {
                Some(first) => Some(first),
                None => self.says.recv().await,
            };
            let said = said.ok_or_else(|| ErrorObject::internal("child_exited", "gone"))?;
            let Ok(Payload::Single(message)) = parse(said.to_string().into()) else { panic!("{said}") };
            Ok(FromServer { message, about: None })
        }

        async fn end(self) {}
    }

    struct Bench {
        handle: UpgradeHandle,
        session: tokio::task::JoinHandle<End>,
        /// What the server gets, and says.
        gets: mpsc::UnboundedReceiver<Value>,
        says: mpsc::UnboundedSender<Value>,
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, future).await.expect("not in time")
    }

    fn bench(idle: Duration) -> Bench {
        let (gets_sender, gets) = mpsc::unbounded_channel();
        let (says, says_receiver) = mpsc::unbounded_channel();
        let setup = Setup {
            capabilities: Capabilities::default(),
            client_info: None,
            lanes: Lanes::Concurrent,
            limits: Limits { silence: None, total: Duration::from_secs(3600) },
            principal: Box::default(),
            sealer: Arc::new(Sealer::new().unwrap()),
            session: 1,
        };
        let server = Scripted { gets: gets_sender, says: says_receiver, first: None };
        let (handle, session) = upgrade(server, setup, idle);
        Bench { handle, session: tokio::spawn(session), gets, says }
    }

    fn request(id: u64, method: &str, params: &str) -> era::Request {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}"_meta":{{"progressToken":{id},
            "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        );
        let Ok(Payload::Single(message)) = parse(text.into()) else { panic!("{params}") };
        era::Request::read(message).unwrap()
    }

    const LISTEN: &str = r#""notifications":{"toolsListChanged":true},"#;

    async fn next(call: &mut Call) -> Value {
        let item = within(call.next()).await.expect("no message");
        serde_json::from_str(item.message.line.as_str()).unwrap()
    }

    impl Bench {
        /// The server's next message and its id.
        async fn got(&mut self, method: &str) -> Value {
            let got = within(self.gets.recv()).await.unwrap();
            assert_eq!(got["method"], method);
            got["id"].clone()
        }

        fn answer(&self, id: &Value) {
            self.says.send(json!({ "jsonrpc": "2.0", "id": id, "result": {} })).unwrap();
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_cancels_its_call_and_no_other() {
        let mut bench = bench(PATIENCE);
        let mut stays = bench.handle.call(request(1, "tools/call", "")).await;
        let stays_as = bench.got("tools/call").await;
        // Also when the request has not been taken in.
        for leave_at_once in [true, false] {
            let leaves = bench.handle.call(request(2, "tools/call", "")).await;
            if leave_at_once {
                drop(leaves);
                let id = bench.got("tools/call").await;
                let cancelled = within(bench.gets.recv()).await.unwrap();
                assert_eq!(cancelled["params"]["requestId"], id);
            } else {
                let id = bench.got("tools/call").await;
                drop(leaves);
                let cancelled = within(bench.gets.recv()).await.unwrap();
                assert_eq!(cancelled["params"]["requestId"], id);
            }
        }
        bench.answer(&stays_as);
        assert_eq!(next(&mut stays).await["id"], 1);
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_off_and_slows_nobody() {
        let mut bench = bench(PATIENCE);
        let mut slow = bench.handle.call(request(1, "tools/call", "")).await;
        let slow_as = bench.got("tools/call").await;
        let params = json!({ "progressToken": slow_as, "progress": 1, "message": "x".repeat(1 << 20) });
        for _ in 0..8 {
            bench
                .says
                .send(json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }))
                .unwrap();
        }
        let cancelled = within(bench.gets.recv()).await.unwrap();
        assert_eq!(cancelled["params"]["requestId"], slow_as);
        let mut other = bench.handle.call(request(2, "tools/list", "")).await;
        let other_as = bench.got("tools/list").await;
        bench.answer(&other_as);
        assert_eq!(next(&mut other).await["id"], 2);
        // What was there before it was cut, and then its end without an answer.
        let mut last = false;
        while let Some(item) = within(slow.next()).await {
            last = item.last;
        }
        assert!(!last);
    }

    #[tokio::test]
    async fn a_session_that_nobody_uses_ends_and_gives_requests_back() {
        let mut bench = bench(Duration::ZERO);
        let mut call = bench.handle.call(request(1, "tools/call", "")).await;
        let id = bench.got("tools/call").await;
        bench.answer(&id);
        assert_eq!(next(&mut call).await["id"], 1);
        assert_eq!(within(bench.session).await.unwrap(), End::Idle);
        assert!(bench.handle.is_closed());
        assert_eq!(bench.handle.offer(request(2, "tools/call", "")).await.unwrap_err().id, 2.into());
        let answer = next(&mut bench.handle.call(request(2, "tools/call", "")).await).await;
        assert_eq!(answer["error"]["data"]["reason"], "session_ended");
    }

    #[tokio::test]
    async fn draining_ends_listens_with_a_result_and_waits_for_calls() {
        let mut bench = bench(PATIENCE);
        let mut listen = bench.handle.call(request(1, "subscriptions/listen", LISTEN)).await;
        assert_eq!(next(&mut listen).await["method"], "notifications/subscriptions/acknowledged");
        let mut call = bench.handle.call(request(2, "tools/call", "")).await;
        let id = bench.got("tools/call").await;
        bench.handle.drain();
        assert_eq!(next(&mut listen).await["result"]["resultType"], "complete");
        let refused = next(&mut bench.handle.call(request(3, "tools/call", "")).await).await;
        assert_eq!(refused["error"]["data"]["reason"], "shutting_down");
        bench.answer(&id);
        assert_eq!(next(&mut call).await["id"], 2);
        assert_eq!(within(bench.session).await.unwrap(), End::Told);
    }

    #[tokio::test]
    async fn the_end_of_the_server_is_everybodys_answer_but_no_listens() {
        let mut bench = bench(PATIENCE);
        let mut listen = bench.handle.call(request(1, "subscriptions/listen", LISTEN)).await;
        next(&mut listen).await;
        let mut call = bench.handle.call(request(2, "tools/call", "")).await;
        bench.got("tools/call").await;
        drop(bench.says);
        assert_eq!(next(&mut call).await["error"]["data"]["reason"], "child_exited");
        assert!(within(listen.next()).await.is_none());
        assert!(matches!(within(bench.session).await.unwrap(), End::Failed(_)));
    }

    #[tokio::test]
    async fn a_session_that_nobody_can_reach_ends() {
        let Bench { handle, session, .. } = bench(PATIENCE);
        drop(handle);
        assert_eq!(within(session).await.unwrap(), End::Told);
    }
}
