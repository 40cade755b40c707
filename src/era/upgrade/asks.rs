//! What the server asks the client: `elicitation/create`, `sampling/createMessage`, `roots/list`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::value::RawValue;

use crate::{
    jsonrpc::{Line, Message, Object, RequestId},
    mcp,
};

/// Most questions of one call, and most that are held.
const MAX_ASKS: usize = 64;
/// Most bytes of those.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long a question waits for a call that can carry it.
const HELD_FOR: Duration = Duration::from_secs(30);

/// A question.
#[derive(Debug)]
pub(super) struct Ask {
    /// The server's request; `None` for what the answer to a call has asked.
    pub(super) request: Option<RequestId>,
    pub(super) method: Box<str>,
    /// Absent when the server's request has none.
    pub(super) params: Option<Line>,
}

impl Ask {
    /// A question as the modern client is asked it.
    pub(super) fn new(request: Option<RequestId>, method: &str, params: Option<Object<'_>>) -> Self {
        let params = params.map(|mut params| {
            if method == mcp::ELICIT {
                params.remove("elicitationId");
            }
            params.to_line()
        });
        Self { request, method: method.into(), params }
    }

    fn len(&self) -> usize {
        self.params.as_ref().map_or(0, Line::len)
    }

    fn input_request(&self) -> Object<'_> {
        let mut out = Object::default();
        out.put("method", &self.method);
        if let Some(params) = &self.params {
            out.set("params", params.clone());
        }
        out
    }

    /// Whether `response` can be an answer.
    fn fits(&self, response: &RawValue) -> bool {
        let Ok(response) = Object::parse(response.get()) else { return false };
        let text = |key| response.read::<String>(key);
        match &*self.method {
            mcp::ELICIT => {
                let known = text("action").is_some_and(|a| ["accept", "decline", "cancel"].contains(&&*a));
                known && response.get("content").is_none_or(|content| Object::parse(content.get()).is_ok())
            }
            mcp::SAMPLE => {
                let is_content = |value: &RawValue| value.get().starts_with(['{', '[']);
                let content = response.get("content").is_some_and(is_content);
                content && text("role").is_some() && text("model").is_some()
            }
            _ => response
                .read::<Vec<Object>>("roots")
                .is_some_and(|roots| roots.iter().all(|root| root.read::<String>("uri").is_some())),
        }
    }
}

/// The questions of one call, each under a key of its own.
#[derive(Debug, Default)]
pub(super) struct Asks(Vec<(Box<str>, Ask)>);

impl Asks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a question; gives it back when there are too many.
    pub(super) fn push(&mut self, ask: Ask) -> Result<(), Ask> {
        let bytes: usize = self.0.iter().map(|(_, ask)| ask.len()).sum();
        if self.0.len() >= MAX_ASKS || bytes + ask.len() > MAX_BYTES {
            return Err(ask);
        }
        let mut key = match &ask.request {
            Some(RequestId::String(key)) => key.to_string(),
            Some(number) => number.to_string(),
            None => (self.0.len() + 1).to_string(),
        };
        while self.0.iter().any(|(taken, _)| **taken == *key) {
            key.push('\'');
        }
        self.0.push((key.into(), ask));
        Ok(())
    }

    /// Drops a question that the server has taken back; whether it was there.
    pub(super) fn withdraw(&mut self, request: &RequestId) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, ask)| ask.request.as_ref() != Some(request));
        self.0.len() != before
    }

    /// Takes all out.
    pub(super) fn take(&mut self) -> Vec<Ask> {
        self.0.drain(..).map(|(_, ask)| ask).collect()
    }

    /// `inputRequests`.
    pub(super) fn to_line(&self) -> Line {
        let mut out = Object::default();
        for (key, ask) in &self.0 {
            out.set(key, ask.input_request().to_line());
        }
        out.to_line()
    }

    /// Takes out what `responses` (`inputResponses`) answer: the messages for the server.
    ///
    /// # Errors
    /// The key of what can't be an answer; then nothing has been taken out.
    pub(super) fn take_answered(&mut self, responses: &Object<'_>) -> Result<Vec<Message>, String> {
        for (key, ask) in &self.0 {
            if responses.get(key).is_some_and(|response| !ask.fits(response)) {
                return Err(format!("{}[{key:?}] is no answer to {}", mcp::INPUT_RESPONSES, ask.method));
            }
        }
        let mut answers = Vec::new();
        self.0.retain(|(key, ask)| {
            let Some(response) = responses.line(key) else { return true };
            if let Some(id) = &ask.request {
                answers.push(super::rewrite::result(id, response));
            }
            false
        });
        Ok(answers)
    }
}

/// Questions that wait for a call that can carry them.
#[derive(Debug, Default)]
pub(super) struct HeldAsks(VecDeque<(Ask, Instant)>);

impl HeldAsks {
    /// Holds a question; gives it back when there are too many.
    pub(super) fn push(&mut self, ask: Ask, now: Instant) -> Result<(), Ask> {
        let bytes: usize = self.0.iter().map(|(ask, _)| ask.len()).sum();
        if self.0.len() >= MAX_ASKS || bytes + ask.len() > MAX_BYTES {
            return Err(ask);
        }
        self.0.push_back((ask, now + HELD_FOR));
        Ok(())
    }

    pub(super) fn withdraw(&mut self, request: &RequestId) {
        self.0.retain(|(ask, _)| ask.request.as_ref() != Some(request));
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = Ask> {
        self.0.drain(..).map(|(ask, _)| ask)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.front().map(|(_, until)| *until)
    }

    /// Takes out what has waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ask> {
        let due = self.0.iter().take_while(|(_, until)| *until <= now).count();
        self.0.drain(..due).map(|(ask, _)| ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str) -> Ask {
        Ask::new(Some(RequestId::from(1)), method, None)
    }

    fn fits(method: &str, response: &str) -> bool {
        ask(method).fits(serde_json::from_str(response).unwrap())
    }

    #[test]
    fn answers_that_are_none_are_known() {
        for response in [
            r#"{"action":"accept","content":{"a":1}}"#,
            r#"{"action":"decline"}"#,
            r#"{"action":"cancel","more":1e400}"#,
        ] {
            assert!(fits("elicitation/create", response), "{response}");
        }
        for response in ["null", "{}", "[]", r#"{"action":"yes"}"#, r#"{"action":"accept","content":[]}"#] {
            assert!(!fits("elicitation/create", response), "{response}");
        }
        assert!(fits(
            "sampling/createMessage",
            r#"{"role":"assistant","model":"m","content":{"type":"text"}}"#
        ));
        assert!(fits("sampling/createMessage", r#"{"role":"assistant","model":"m","content":[]}"#));
        assert!(!fits("sampling/createMessage", r#"{"role":"assistant","model":"m","content":"x"}"#));
        assert!(!fits("sampling/createMessage", r#"{"role":"assistant","content":[]}"#));
        assert!(fits("roots/list", r#"{"roots":[{"uri":"file:///"}]}"#));
        assert!(!fits("roots/list", r#"{"roots":[{"name":"x"}]}"#));
        assert!(!fits("roots/list", "{}"));
    }

    #[test]
    fn each_question_has_a_key_of_its_own_and_the_servers_where_it_has_one() {
        let mut asks = Asks::default();
        for id in [RequestId::String("1".into()), RequestId::from(1), RequestId::String("key".into())] {
            asks.push(Ask::new(Some(id), "roots/list", None)).unwrap();
        }
        asks.push(Ask::new(None, "roots/list", None)).unwrap();
        let keys: Vec<_> = asks.0.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["1", "1'", "key", "4"]);
    }

    #[test]
    fn questions_are_bounded() {
        let (mut asks, mut held) = (Asks::default(), HeldAsks::default());
        for _ in 0..MAX_ASKS {
            asks.push(ask("roots/list")).unwrap();
            held.push(ask("roots/list"), Instant::now()).unwrap();
        }
        assert!(asks.push(ask("roots/list")).is_err());
        assert!(held.push(ask("roots/list"), Instant::now()).is_err());
        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(MAX_BYTES));
        let large = || Ask::new(None, "roots/list", Object::parse(&large).ok());
        assert!(Asks::default().push(large()).is_err());
        assert!(HeldAsks::default().push(large(), Instant::now()).is_err());
    }
}
