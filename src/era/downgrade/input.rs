//! What a modern server asks with an `InputRequiredResult`, and how a legacy client is asked it.
//!
//! Source: revision 2026-07-28, `basic/patterns/mrtr`; revisions 2025-06-18 and 2025-11-25, `client/elicitation`.

use serde_json::value::RawValue;

use super::client::Abilities;
use crate::{
    jsonrpc::{ErrorObject, Kind, Line, Message, Object, RequestId},
    mcp::{self, LegacyRevision},
};

/// An `InputRequiredResult`: of both at least one.
#[derive(Debug)]
pub(super) struct InputRequired {
    pub(super) questions: Vec<Question>,
    /// Goes back as it came.
    pub(super) state: Option<Box<RawValue>>,
}

/// One thing that the client is to be asked.
#[derive(Debug)]
pub(super) struct Question {
    /// The server's name for it.
    pub(super) key: Box<str>,
    pub(super) what: What,
    params: Line,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Form,
    /// The user is to visit this URL.
    Url(Box<str>),
    Sampling {
        tools: bool,
    },
    Roots,
}

impl InputRequired {
    /// Reads what there is of it in a result.
    pub(super) fn read(result: &Object<'_>) -> Result<Self, String> {
        let requests = result.object("inputRequests").map_err(|e| format!("inputRequests: {e}"))?;
        let questions = requests.lines().map(|(key, request)| Question::read(key, &request));
        let questions: Vec<_> = questions.collect::<Result<_, _>>()?;
        let state = result.get(mcp::REQUEST_STATE).map(ToOwned::to_owned);
        if questions.is_empty() && state.is_none() {
            return Err("neither inputRequests nor requestState".to_owned());
        }
        Ok(Self { questions, state })
    }
}

impl Question {
    fn read(key: &str, request: &Line) -> Result<Self, String> {
        let wrong = |e: serde_json::Error| format!("inputRequests[{key:?}]: {e}");
        let request = Object::of(request).map_err(wrong)?;
        let params = request.object("params").map_err(wrong)?;
        let what = match request.read::<String>("method").as_deref() {
            Some(mcp::ELICIT) if params.read::<String>("mode").as_deref() == Some("url") => {
                let url: Option<String> = params.read("url");
                What::Url(url.ok_or_else(|| format!("inputRequests[{key:?}]: no url"))?.into())
            }
            Some(mcp::ELICIT) => What::Form,
            Some(mcp::SAMPLE) => {
                What::Sampling { tools: params.get("tools").or(params.get("toolChoice")).is_some() }
            }
            Some(mcp::LIST_ROOTS) => What::Roots,
            _ => return Err(format!("inputRequests[{key:?}]: no such method")),
        };
        Ok(Self { key: key.into(), what, params: params.to_line() })
    }

    /// The parameters as a client of `revision` knows them; `id` is that of an elicitation in URL mode.
    pub(super) fn params(&self, revision: LegacyRevision, id: Option<&str>) -> Line {
        let Ok(mut params) = Object::of(&self.params) else { return self.params.clone() };
        if self.what == What::Form && revision < LegacyRevision::V2025_11_25 {
            params.remove("mode");
        }
        if let Some(id) = id {
            params.put("elicitationId", &id);
        }
        params.to_line()
    }
}

impl What {
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Form | Self::Url(_) => mcp::ELICIT,
            Self::Sampling { .. } => mcp::SAMPLE,
            Self::Roots => mcp::LIST_ROOTS,
        }
    }

    /// The words for it.
    fn words(&self) -> &'static str {
        match self {
            Self::Form => "elicitation with a form",
            Self::Url(_) => "elicitation with a URL",
            Self::Sampling { tools: false } => "sampling",
            Self::Sampling { tools: true } => "sampling with tools",
            Self::Roots => "roots",
        }
    }
}

impl Abilities {
    /// Whether the client has declared that it can be asked.
    ///
    /// # Errors
    /// When it has not.
    pub(super) fn check(self, what: &What) -> Result<(), ErrorObject> {
        let declared = match what {
            What::Form => self.forms,
            What::Url(_) => self.urls,
            What::Sampling { tools } => self.sampling && (!tools || self.sampling_with_tools),
            What::Roots => self.roots,
        };
        let text = || format!("the MCP server asks for {}, which the client has not declared", what.words());
        if declared { Ok(()) } else { Err(ErrorObject::internal("capability_not_declared", text())) }
    }
}

/// The error that says which URLs are to be visited before the request is sent again.
pub(super) fn url_required(id: &RequestId, elicitations: &[Line]) -> Message {
    let mut error = Object::default();
    error.put("code", &mcp::code::URL_ELICITATION_REQUIRED);
    error.put("message", &"The user has to visit a URL before this request can be completed");
    let mut data = Object::default();
    data.put("elicitations", &elicitations);
    error.set("data", data.to_line());
    let mut response = Object::default();
    response.put("jsonrpc", &"2.0");
    response.put("id", id);
    response.set("error", error.to_line());
    Message { line: response.to_line(), kind: Kind::Response { id: Some(id.clone()), is_error: true } }
}

/// What a client's answer comes to.
#[derive(Debug)]
pub(super) enum Reply {
    /// What the server gets.
    Input(Line),
    /// The end of the call.
    End(Message),
}

/// Reads the client's answer to a question of `method`, for its request `id`. An elicitation that it could not put to
/// the user has been cancelled; without anything else the call can't go on.
pub(super) fn reply(method: &str, answer: &Message, id: &RequestId) -> Reply {
    let read = || {
        let mut answer = Object::of(&answer.line).ok()?;
        if answer.get("error").is_some() {
            answer.put("id", id);
            let kind = Kind::Response { id: Some(id.clone()), is_error: true };
            return Some(Reply::End(Message { line: answer.to_line(), kind }));
        }
        let result = answer.line("result")?;
        Object::of(&result).is_ok().then(|| Reply::Input(result.clone()))
    };
    let malformed = || {
        let text = format!("the client's answer to {method} is no object");
        Reply::End(ErrorObject::internal("malformed_answer", text).response(Some(id)))
    };
    match (read().unwrap_or_else(malformed), method) {
        (Reply::End(_), mcp::ELICIT) => Reply::Input(cancelled()),
        (reply, _) => reply,
    }
}

fn cancelled() -> Line {
    let mut result = Object::default();
    result.put("action", &"cancel");
    result.to_line()
}
