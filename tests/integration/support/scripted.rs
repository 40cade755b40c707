//! A modern MCP server within the test, which does what the test does.

use std::sync::Arc;

use mcp_bridge::{
    era,
    framing::queue::NoRoom,
    jsonrpc::{self, Message, Payload},
    upstream::{Call, Item, ModernServer, Replies, call},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::within;

/// A call as the server sees it.
pub(crate) struct Asked {
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Value,
    replies: Replies,
    /// Whether who asked has left.
    pub(crate) left: oneshot::Receiver<()>,
}

/// What is asked of a server, in its order.
pub(crate) struct Calls(mpsc::UnboundedReceiver<Asked>);

pub(crate) struct Scripted(mpsc::UnboundedSender<Asked>);

pub(crate) fn scripted() -> (Arc<Scripted>, Calls) {
    let (send, asked) = mpsc::unbounded_channel();
    (Arc::new(Scripted(send)), Calls(asked))
}

impl Scripted {
    fn hear(&self, method: &str, message: &Value) -> Call {
        let (send, left) = oneshot::channel();
        // A test that is over does not care.
        let (replies, call) = call(move || send.send(()).unwrap_or_default());
        let (id, params) = (message["id"].clone(), message["params"].clone());
        let _ = self.0.send(Asked { id, method: method.to_owned(), params, replies, left });
        call
    }
}

impl ModernServer for Scripted {
    async fn call(&self, request: era::Request) -> Call {
        self.hear(&request.method, &serde_json::from_str(request.line.as_str()).unwrap())
    }

    async fn notify(&self, message: Message) {
        let text = serde_json::from_str(message.line.as_str()).unwrap();
        self.hear(message.method().unwrap(), &text);
    }
}

impl Calls {
    pub(crate) async fn next(&mut self) -> Asked {
        within("a call", self.0.recv()).await.unwrap()
    }

    /// The next call, which is of this method.
    pub(crate) async fn next_is(&mut self, method: &str) -> Asked {
        let asked = self.next().await;
        assert_eq!(asked.method, method);
        asked
    }

    /// Lets a client in, to a server that offers this.
    pub(crate) async fn let_in(&mut self, capabilities: &Value) {
        let discover = self.next_is("server/discover").await;
        discover.answer(&json!({"resultType": "complete", "capabilities": capabilities}));
    }
}

impl Asked {
    pub(crate) fn answer(&self, result: &Value) {
        let message = message(&json!({"jsonrpc": "2.0", "id": self.id, "result": result}));
        self.replies.push(Item { message, last: true }).unwrap();
    }

    /// Asks for the client's roots, and so ends the call.
    pub(crate) fn ask_for_roots(&self) {
        let questions = json!({"k": {"method": "roots/list"}});
        self.answer(&json!({"resultType": "input_required", "inputRequests": questions}));
    }

    pub(crate) fn tell(&self, method: &str, params: &Value) -> Result<(), NoRoom> {
        let message = message(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
        self.replies.push(Item { message, last: false })
    }

    /// Agrees to all that a `subscriptions/listen` asks for.
    pub(crate) fn acknowledge(&self) {
        let params = json!({"notifications": self.params["notifications"]});
        self.tell("notifications/subscriptions/acknowledged", &params).unwrap();
    }
}

pub(crate) fn message(value: &Value) -> Message {
    match jsonrpc::parse(value.to_string().into()).unwrap() {
        Payload::Single(message) => message,
        Payload::Batch(_) => panic!("a batch"),
    }
}
