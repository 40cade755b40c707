//! A session that the server has lost is opened again, as the client had made it.

use std::{sync::Arc, time::Duration};

use hyper::header::HeaderValue;
use tokio::{task::JoinError, time::timeout};

use super::{
    answer::{self, Answer},
    bridge::Bridge,
    failure::Failure,
    session::{Headers, Memory, version},
};
use crate::{
    jsonrpc::{Kind, Line, Message, RequestId},
    mcp,
};

/// How long opening a session again may take, with everything that belongs to it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Bridge {
    /// Opens the session of `epoch` again, unless another has done so; returns the one to use.
    /// What the server has `refused` for its session is left to the caller, who sends it once more.
    ///
    /// Source: `basic/transports`, "Session Management": after 404 a client must start a new session.
    pub(super) async fn reopen(
        self: &Arc<Self>,
        epoch: u64,
        refused: Option<&Line>,
    ) -> Result<(u64, Headers), Failure> {
        let (bridge, refused) = (Arc::clone(self), refused.cloned());
        // A task of its own: others wait for the session too when the one who asked for it is cancelled.
        let reopening = tokio::spawn(async move { bridge.reopen_now(epoch, refused.as_ref()).await });
        let failed = |e: JoinError| Failure::SessionLost(e.to_string());
        reopening.await.map_err(failed)?.map_err(|e| match e {
            Failure::SessionLost(_) => e,
            other => Failure::SessionLost(other.to_string()),
        })
    }

    async fn reopen_now(&self, epoch: u64, refused: Option<&Line>) -> Result<(u64, Headers), Failure> {
        let _one_at_a_time = self.reopening.lock().await;
        let (current, headers) = self.session().headers();
        if current != epoch {
            return Ok((current, headers));
        }
        let memory = self.session().memory();
        let memory = memory.ok_or_else(|| Failure::SessionLost("it was never opened".to_owned()))?;
        log::warn!("the server has lost the session; opening it again");
        let restored = timeout(PATIENCE, self.restore(&memory, refused)).await;
        let id = restored.unwrap_or(Err(Failure::TimedOut(PATIENCE)))?;
        if !self.session().reopened(epoch, id) {
            return Err(Failure::SessionLost("the client has begun another".to_owned()));
        }
        let (current, headers) = self.session().headers();
        self.epoch.send_replace(current);
        Ok((current, headers))
    }

    async fn restore(&self, memory: &Memory, refused: Option<&Line>) -> Result<Option<HeaderValue>, Failure> {
        let response = self.remote.post(&memory.initialize, &Headers::default()).await?;
        let id = response.headers().get(mcp::SESSION_ID).cloned();
        let answer = answer_to(Answer::of(response)?, &memory.id).await?;
        let version = version(&answer.line);
        if version.is_none() || version != memory.version {
            let text = |v: &Option<HeaderValue>| {
                v.as_ref().and_then(|v| v.to_str().ok()).unwrap_or("no revision").to_owned()
            };
            let (new, old) = (text(&version), text(&memory.version));
            return Err(Failure::SessionLost(format!(
                "the server now speaks {new} and not {old}; start the client again"
            )));
        }
        let headers = Headers { id: id.clone(), version };
        if let Some(initialized) = memory.initialized.as_ref().filter(|line| Some(*line) != refused) {
            taken_in(Answer::of(self.remote.post(initialized, &headers).await?)?).await?;
        }
        for request in memory.requests.iter().filter(|line| Some(*line) != refused) {
            self.repeat(request, &headers).await;
        }
        Ok(id)
    }

    /// Makes a setting of the lost session again. The client has had its answer, so a failure is for the log.
    async fn repeat(&self, request: &Line, headers: &Headers) {
        let repeated = async {
            let response = self.remote.post(request, headers).await?;
            taken_in(Answer::of(response)?).await
        };
        if let Err(e) = repeated.await {
            log::warn!("a setting of the lost session could not be made again: {e}");
        }
    }
}

async fn answer_to(answer: Answer, wanted: &RequestId) -> Result<Message, Failure> {
    let is_it =
        |m: &Message| matches!(&m.kind, Kind::Response { id: Some(id), is_error: false } if id == wanted);
    match answer {
        Answer::Json(body) => {
            let found = answer::json(body).await?.into_iter().find(is_it);
            found.ok_or_else(|| Failure::SessionLost("the server refused initialize".to_owned()))
        }
        Answer::Events(mut events) => loop {
            match events.next().await? {
                Some(message) if is_it(&message) => return Ok(message),
                Some(_) => {}
                None => return Err(Failure::NoAnswer),
            }
        },
        Answer::Accepted => Err(Failure::SessionLost("the server did not answer initialize".to_owned())),
        Answer::Refused(refused) => Err(refused_words(refused).await),
    }
}

async fn taken_in(answer: Answer) -> Result<(), Failure> {
    match answer {
        Answer::Accepted => Ok(()),
        Answer::Json(body) => answer::json(body).await.map(drop),
        Answer::Events(mut events) => {
            while let Some(message) = events.next().await? {
                if matches!(message.kind, Kind::Response { .. }) {
                    break;
                }
            }
            Ok(())
        }
        Answer::Refused(refused) => Err(refused_words(refused).await),
    }
}

async fn refused_words(refused: answer::Refused) -> Failure {
    match refused.explain().await {
        Ok(error) => Failure::Status(format!("the server answered {}", error.line.as_str())),
        Err(failure) => failure,
    }
}
