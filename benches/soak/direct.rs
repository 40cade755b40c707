//! Clients that speak HTTP themselves: POST, the GET stream, and `Last-Event-ID` when a stream breaks or is left.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::World;
use crate::ledger::{End, Ledger, error};
use crate::support::http::{Http, Response};
use crate::support::session::VERSION;
use crate::work::{Call, LONGEST, Notice, Steps, initialize, notice};

/// Most calls of a client at once.
const AT_ONCE: u64 = 4;
/// Most calls of one session.
const CALLS: u64 = 80;
/// How often a broken stream is asked for again.
const TRIES: u32 = 20;

struct Session {
    world: Arc<World>,
    ledger: Arc<Ledger>,
    http: Http,
    name: String,
    /// The beginning of its id, as the bridge's log has it.
    short_id: String,
    steps: Mutex<Steps>,
    /// The client is done with it.
    done: CancellationToken,
}

pub(crate) async fn run(world: Arc<World>, ledger: Arc<Ledger>, n: u64) {
    let mut sessions = 0;
    while !world.stop.is_cancelled() {
        sessions += 1;
        match Session::open(&world, &ledger, format!("http {n} in session {sessions}")).await {
            Some(session) => session.work().await,
            None => world.pause(500).await,
        }
    }
}

impl Session {
    async fn open(world: &Arc<World>, ledger: &Arc<Ledger>, name: String) -> Option<Arc<Self>> {
        let accept = "application/json, text/event-stream";
        let mut http = world.http().header("content-type", "application/json").header("accept", accept);
        if world.one_in(3) {
            http = http.http2();
        }
        ledger.sent();
        let Ok(response) = http.try_request(Method::POST, initialize(&name)).await else {
            return failed(ledger);
        };
        let id = response.header("mcp-session-id").to_owned();
        match response.try_messages().await {
            Ok(messages) if messages.last().is_some_and(|answer| answer["result"].is_object()) => {
                ledger.ended(End::Answer);
            }
            Ok(messages) => {
                ledger.ended(messages.last().map_or(End::Nothing("initialize".into()), error));
                return None;
            }
            Err(_) => return failed(ledger),
        }
        ledger.opened();
        let http = http.header("mcp-session-id", &id).header("mcp-protocol-version", VERSION);
        let short_id = id.chars().take(8).collect();
        let done = CancellationToken::new();
        let (world, ledger) = (Arc::clone(world), Arc::clone(ledger));
        Some(Arc::new(Self { world, ledger, http, name, short_id, steps: Mutex::default(), done }))
    }

    async fn work(self: Arc<Self>) {
        let _done: DropGuard = self.done.clone().drop_guard();
        self.tell(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string()).await;
        let listener = tokio::spawn(Arc::clone(&self).listen());
        let (mut number, last) = (0, 10 + self.world.below(CALLS));
        while number < last && !self.world.stop.is_cancelled() && !listener.is_finished() {
            let calls = (0..=self.world.below(AT_ONCE)).map(|_| {
                number += 1;
                tokio::spawn(Arc::clone(&self).call(number))
            });
            let calls: Vec<_> = calls.collect();
            for call in calls {
                call.await.unwrap();
            }
        }
        // Some sessions are left to run out.
        if !self.world.one_in(4) {
            let _ = self.http.try_request(Method::DELETE, "").await;
        }
        self.done.cancel();
        listener.await.unwrap();
    }

    async fn call(self: Arc<Self>, number: u64) {
        self.ledger.sent();
        let cancelled = self.world.one_in(20);
        let call = if cancelled { Call::slow } else { Call::any }(&self.world, &self.name, number);
        let (id, what) = (call.id.clone(), format!("{call:?} of session {}", self.short_id));
        let cancel = async {
            if cancelled {
                self.world.pause(500).await;
                let params = json!({"requestId": id});
                let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
                self.tell(cancel.to_string()).await;
            }
        };
        let exchange = tokio::time::timeout(LONGEST, self.exchange(call));
        self.ledger.ended(match tokio::join!(exchange, cancel).0 {
            Ok(End::Nothing(_)) if cancelled => End::Cancelled,
            Ok(end) => end,
            Err(_) => {
                let what = if cancelled { format!("{what}, which was cancelled") } else { what };
                End::Nothing(format!("nothing within {LONGEST:?} for {what}"))
            }
        });
    }

    async fn exchange(self: &Arc<Self>, mut call: Call) -> End {
        self.steps.lock().unwrap().expect(&call);
        let Ok(mut response) = self.http.try_request(Method::POST, call.request()).await else {
            return broken();
        };
        let mut last = None;
        loop {
            if let Some(end) = self.read(response, &mut call, &mut last).await {
                return end;
            }
            // The stream broke, was left, or ended before the answer.
            let Some(last) = &last else {
                return End::Nothing(format!("a stream without an id ended: {call:?}"));
            };
            response = match self.resume(last).await {
                Ok(response) => response,
                Err(end) => return end,
            };
        }
    }

    /// Reads an answer; `None` when it is to be asked for again.
    async fn read(
        self: &Arc<Self>,
        mut response: Response,
        call: &mut Call,
        last: &mut Option<String>,
    ) -> Option<End> {
        if !response.status.is_success() {
            return Some(refused(response).await);
        }
        if !response.is_stream() {
            return Some(match response.try_messages().await {
                Err(_) if last.is_none() => broken(),
                Err(_) => return None,
                Ok(messages) => call.take(&messages[0]).unwrap_or_else(|| End::Nothing(format!("{call:?}"))),
            });
        }
        loop {
            if last.is_some() && self.world.one_in(40) {
                self.world.pause(300).await;
                return None;
            }
            let event = match response.try_next_event().await {
                Ok(Some(event)) => event,
                // Without an id there is nothing to ask for.
                Err(_) if last.is_none() => return Some(broken()),
                Ok(None) if last.is_none() => {
                    return Some(End::Nothing(format!("the stream ended: {call:?}")));
                }
                Ok(None) | Err(_) => return None,
            };
            *last = event.id.or(last.take());
            if event.data.is_empty() {
                continue;
            }
            let message: Value = serde_json::from_str(&event.data).unwrap();
            if message.get("method").is_some() && !call.is_named_by(&message) {
                self.notice(&message);
            } else if let Some(end) = call.take(&message) {
                return Some(end);
            }
        }
    }

    async fn resume(&self, last: &str) -> Result<Response, End> {
        let http = self.http.clone().header("last-event-id", last);
        for _ in 0..TRIES {
            match http.try_request(Method::GET, "").await {
                Ok(response) if response.status.is_success() => {
                    self.ledger.resumed();
                    return Ok(response);
                }
                Ok(response) => return Err(refused(response).await),
                Err(_) => self.world.pause(200).await,
            }
        }
        Err(broken())
    }

    /// Reads what belongs to no call, until the session is gone or its client is done.
    async fn listen(self: Arc<Self>) {
        let done = self.done.clone();
        tokio::select! {
            () = done.cancelled() => {}
            () = self.listen_on() => {}
        }
    }

    async fn listen_on(self: Arc<Self>) {
        let mut last: Option<String> = None;
        loop {
            let http = match &last {
                Some(last) => self.http.clone().header("last-event-id", last),
                None => self.http.clone(),
            };
            let mut stream = match http.try_request(Method::GET, "").await {
                Ok(stream) if stream.status.is_success() => stream,
                Ok(_) => return,
                Err(_) => {
                    self.world.pause(200).await;
                    continue;
                }
            };
            loop {
                // Nothing need come for a long time.
                let next = tokio::time::timeout(Duration::from_secs(3), stream.try_next_event()).await;
                let Ok(next) = next else { continue };
                let Ok(Some(event)) = next else { break };
                last = event.id.or(last);
                if !event.data.is_empty() {
                    self.notice(&serde_json::from_str(&event.data).unwrap());
                }
            }
        }
    }

    fn notice(self: &Arc<Self>, message: &Value) {
        match notice(&self.name, &self.steps.lock().unwrap(), message) {
            Notice::Read => self.ledger.noticed(),
            Notice::NotOurs => self.ledger.misled(format!("{message:.300} came to {}", self.name)),
            Notice::Answer(answer) => {
                let session = Arc::clone(self);
                tokio::spawn(async move { session.tell(answer).await });
            }
        }
    }

    /// Posts what wants no answer, until it has arrived or the session is gone.
    async fn tell(&self, message: String) {
        for _ in 0..TRIES {
            match self.http.try_request(Method::POST, message.clone()).await {
                Ok(_) => return,
                Err(_) => self.world.pause(200).await,
            }
        }
    }
}

/// The connection is gone, and with it the only way to the answer.
fn broken() -> End {
    End::Error("connection".into())
}

fn failed<T>(ledger: &Ledger) -> Option<T> {
    ledger.ended(broken());
    None
}

async fn refused(response: Response) -> End {
    let status = response.status;
    match response.try_messages().await.as_deref() {
        Ok([answer]) => error(answer),
        _ => End::Error(status.to_string()),
    }
}
