//! Clients of revision 2026-07-28: each request stands alone, and the bridge translates for the legacy server, which all of
//! them share.

use std::sync::Arc;

use hyper::Method;
use serde_json::{Value, json};

use crate::World;
use crate::ledger::{End, Ledger, error};
use crate::support::http::{Http, Response};
use crate::work::{Call, LONGEST};

const REVISION: &str = "2026-07-28";
/// Most calls of a client at once.
const AT_ONCE: u64 = 4;

struct Client {
    world: Arc<World>,
    ledger: Arc<Ledger>,
    http: Http,
    /// For calls of which a lost connection would leave the server waiting for an answer.
    steady: Http,
    name: String,
}

pub(crate) async fn run(world: Arc<World>, ledger: Arc<Ledger>, n: u64) {
    let with_headers = |http: Http| {
        let http = http.header("content-type", "application/json");
        let http = http.header("accept", "application/json, text/event-stream");
        http.header("mcp-protocol-version", REVISION).header("mcp-method", "tools/call")
    };
    let (http, steady) = (with_headers(world.http()), with_headers(world.steady_http()));
    let name = format!("modern {n}");
    let client = Arc::new(Client { world, ledger, http, steady, name });
    let mut number = 0;
    while !client.world.stop.is_cancelled() {
        let calls = (0..=client.world.below(AT_ONCE)).map(|_| {
            number += 1;
            tokio::spawn(Arc::clone(&client).call(number))
        });
        let calls: Vec<_> = calls.collect();
        for call in calls {
            call.await.unwrap();
        }
    }
}

impl Client {
    async fn call(self: Arc<Self>, number: u64) {
        self.ledger.sent();
        let end = if self.world.one_in(20) {
            let call = Call::slow(&self.world, &self.name, number);
            tokio::select! {
                end = self.exchange(call) => end,
                // Leaving is what cancels.
                () = self.world.pause(500) => End::Cancelled,
            }
        } else {
            let call = Call::any(&self.world, &self.name, number);
            let what = format!("{call:?}");
            let ended = tokio::time::timeout(LONGEST, self.exchange(call)).await;
            ended.unwrap_or_else(|_| End::Nothing(format!("nothing within {LONGEST:?} for {what}")))
        };
        self.ledger.ended(end);
    }

    async fn exchange(&self, mut call: Call) -> End {
        let mut request: Value = serde_json::from_str(&call.request()).unwrap();
        let meta = request["params"]["_meta"].as_object_mut().unwrap();
        meta.insert("io.modelcontextprotocol/protocolVersion".into(), json!(REVISION));
        meta.insert("io.modelcontextprotocol/clientCapabilities".into(), json!({"sampling": {}}));
        let name = request["params"]["name"].as_str().unwrap().to_owned();
        let http = if call.asks() { &self.steady } else { &self.http };
        let http = http.clone().header("mcp-name", &name);
        let mut round = 0;
        loop {
            let Ok(response) = http.try_request(Method::POST, request.to_string()).await else {
                return broken();
            };
            let id = request["id"].clone();
            let mut answer = match Self::read(response, &mut call, &id).await {
                Ok(answer) => answer,
                Err(end) => return end,
            };
            if answer["result"]["resultType"] != "input_required" {
                answer["id"] = call.id.clone();
                return call.take(&answer).unwrap_or_else(|| End::Nothing(format!("{call:?}")));
            }
            round += 1;
            let result = &answer["result"];
            let asked = result["inputRequests"].as_object().cloned().unwrap_or_default();
            let answers = asked.into_iter().map(|(key, question)| {
                let prompt = &question["params"]["messages"][0]["content"]["text"];
                let content = json!({"type": "text", "text": "x"});
                (key, json!({"role": "assistant", "model": "m", "content": content, "echo": prompt}))
            });
            request["params"]["inputResponses"] = Value::Object(answers.collect());
            request["params"]["requestState"] = result["requestState"].clone();
            request["id"] = json!(format!("{id} again, round {round}"));
        }
    }

    /// Reads until the answer to the request `id`, which may be a question.
    async fn read(mut response: Response, call: &mut Call, id: &Value) -> Result<Value, End> {
        let status = response.status;
        if !response.is_stream() {
            return match response.try_messages().await.map(|messages| messages.into_iter().last()) {
                Ok(Some(answer)) if status.is_success() => Ok(answer),
                Ok(Some(answer)) => Err(error(&answer)),
                Ok(None) => Err(End::Error(status.to_string())),
                Err(_) => Err(broken()),
            };
        }
        loop {
            let event = match response.try_next_event().await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(End::Nothing(format!("the stream ended: {call:?}"))),
                Err(_) => return Err(broken()),
            };
            if event.data.is_empty() {
                continue;
            }
            let message: Value = serde_json::from_str(&event.data).unwrap();
            if message["id"] == *id {
                return Ok(message);
            }
            if let Some(end) = call.take(&message) {
                return Err(end);
            }
        }
    }
}

/// The connection is gone, and with it the request.
fn broken() -> End {
    End::Error("connection".into())
}
