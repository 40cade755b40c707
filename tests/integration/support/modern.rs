//! A client of revision 2026-07-28, written out in HTTP requests.

use serde_json::{Value, json};

use super::http::{Http, Response};

pub(crate) const REVISION: &str = "2026-07-28";
pub(crate) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";
pub(crate) const LOG_LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";

/// A request as its client means it; [`Modern::post`] makes the headers that it needs.
#[derive(Clone)]
pub(crate) struct Request(pub(crate) Value);

impl Request {
    pub(crate) fn new(id: impl Into<Value>, method: &str, params: Value) -> Self {
        let mut params = params;
        params["_meta"] = json!({VERSION_KEY: REVISION, CAPABILITIES_KEY: {}});
        Self(json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}))
    }

    pub(crate) fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Self {
        let mut params = json!({"name": tool});
        params["arguments"] = arguments;
        Self::new(id, "tools/call", params)
    }

    pub(crate) fn listen(id: impl Into<Value>, filter: &Value) -> Self {
        Self::new(id, "subscriptions/listen", json!({"notifications": filter}))
    }

    /// One more member of `params._meta`.
    pub(crate) fn meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0["params"]["_meta"][key] = value.into();
        self
    }
}

#[derive(Clone)]
pub(crate) struct Modern(pub(crate) Http);

impl Modern {
    /// Sends a request with the headers that repeat it. Those that a test has set itself stay as they are.
    pub(crate) async fn post(&self, request: &Request) -> Response {
        self.try_post(request).await.unwrap_or_else(|error| panic!("{}: {error}", request.0))
    }

    /// As [`Self::post`], where no answer at all is something to be told.
    pub(crate) async fn try_post(&self, request: &Request) -> Result<Response, String> {
        let body = &request.0;
        let method = body["method"].as_str().unwrap();
        let params = &body["params"];
        let name = match method {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" => params["uri"].as_str(),
            _ => None,
        };
        let mut http = self.0.clone();
        for (header, value) in
            [("mcp-protocol-version", Some(REVISION)), ("mcp-method", Some(method)), ("mcp-name", name)]
        {
            http = http.or_header(header, value.unwrap_or_default());
        }
        http.try_post(body.to_string()).await
    }

    /// The last message of an answer, which must be all right.
    pub(crate) async fn request(&self, request: &Request) -> Value {
        let response = self.post(request).await;
        assert_eq!(response.status, 200, "{}", request.0);
        response.messages().await.pop().expect("an answer")
    }

    /// As [`Self::request`], where anything but an answer is something to be told.
    pub(crate) async fn try_request(&self, request: &Request) -> Result<Value, String> {
        let response = self.try_post(request).await?;
        if response.status != 200 {
            let status = response.status;
            return Err(format!("{status}: {}", response.text().await));
        }
        response.messages().await.pop().ok_or_else(|| "no answer".to_owned())
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.request(&Request::call(1, tool, arguments)).await
    }

    /// Opens a subscription and reads its acknowledgement.
    pub(crate) async fn listen(&self, id: impl Into<Value>, filter: Value) -> Response {
        let id = id.into();
        let mut stream = self.post(&Request::listen(id.clone(), &filter)).await;
        let first = stream.next_message().await.expect("an acknowledgement");
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        let params = json!({"_meta": {SUBSCRIPTION_KEY: id}, "notifications": filter});
        assert_eq!(first["params"], params);
        stream
    }

    /// The requests that the child has cancelled, once there are `n`.
    pub(crate) async fn cancelled(&self, n: usize) -> usize {
        let answer = self.call("cancelled", json!({"wait": n})).await;
        answer["result"]["structuredContent"]["ids"].as_array().unwrap().len()
    }
}
