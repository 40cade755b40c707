//! A session that the server has lost is opened again, as the client had made it.

use std::{sync::Arc, time::Duration};

use hyper::header::HeaderValue;
use tokio::{task::JoinError, time::timeout};

use super::{
    bridge::Bridge,
    failure::Failure,
    session::{Memory, Request, version},
    transport::Channel,
};
use crate::jsonrpc::{Kind, Line};

/// How long opening a session again may take, with everything that belongs to it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Bridge {
    /// Opens the session of `epoch` again, unless another has done so; returns the channel to use.
    /// What the server has `refused` for its session is left to the caller, who sends it once more.
    ///
    /// Source: `basic/transports`, "Session Management": after 404 a client must start a new session.
    pub(super) async fn reopen(
        self: &Arc<Self>,
        epoch: u64,
        refused: Option<&Line>,
    ) -> Result<Arc<Channel>, Failure> {
        let (bridge, refused) = (Arc::clone(self), refused.cloned());
        // A task of its own: others wait for the session too when the one who asked for it is cancelled.
        let reopening = tokio::spawn(async move { bridge.reopen_now(epoch, refused.as_ref()).await });
        let failed = |e: JoinError| Failure::SessionLost(e.to_string());
        reopening.await.map_err(failed)?.map_err(|e| match e {
            Failure::SessionLost(_) | Failure::NoSession => e,
            other => Failure::SessionLost(other.to_string()),
        })
    }

    async fn reopen_now(
        self: &Arc<Self>,
        epoch: u64,
        refused: Option<&Line>,
    ) -> Result<Arc<Channel>, Failure> {
        let _one_at_a_time = self.reopening.lock().await;
        let (current, channel) = self.session().channel();
        if let Some(channel) = channel.filter(|_| current != epoch) {
            return Ok(channel);
        }
        let memory = self.session().memory().ok_or(Failure::NoSession)?;
        log::warn!("the server has lost the session; opening it again");
        let restored = timeout(PATIENCE, self.restore(&memory, refused)).await;
        let channel = restored.unwrap_or(Err(Failure::TimedOut(PATIENCE)))?;
        if !self.session().reopened(epoch, Arc::clone(&channel)) {
            return Err(Failure::SessionLost("the client has begun another".to_owned()));
        }
        self.use_session();
        Ok(channel)
    }

    async fn restore(
        self: &Arc<Self>,
        memory: &Memory,
        refused: Option<&Line>,
    ) -> Result<Arc<Channel>, Failure> {
        let channel = self.open_like(&memory.channel).await?;
        let initialize = &memory.initialize;
        let answer = channel.ask(&self.remote, &initialize.line, &initialize.id).await?;
        if matches!(answer.kind, Kind::Response { is_error: true, .. }) {
            self.doubt(&answer).await;
            return Err(Failure::SessionLost("the server refused initialize".to_owned()));
        }
        channel.speaks(same_version(&answer.line, &memory.version)?);
        if let Some(initialized) = memory.initialized.as_ref().filter(|line| Some(*line) != refused) {
            channel.send(&self.remote, initialized).await?.taken_in().await?;
        }
        for request in &memory.requests {
            self.repeat(request, &channel).await;
        }
        Ok(channel)
    }

    /// Makes a setting of the lost session again. The client has had its answer, so a failure is for the log.
    async fn repeat(&self, request: &Request, channel: &Channel) {
        let failure = match channel.ask(&self.remote, &request.line, &request.id).await {
            Ok(answer) if matches!(answer.kind, Kind::Response { is_error: false, .. }) => return,
            Ok(_) => "the server refused it".to_owned(),
            Err(e) => e.to_string(),
        };
        log::warn!("a setting of the lost session could not be made again: {failure}");
    }
}

/// The revision in the answer to `initialize`, which must be that of the lost session: the client goes on in it.
fn same_version(answer: &Line, lost: &HeaderValue) -> Result<HeaderValue, Failure> {
    let version = version(answer);
    if let Some(version) = version.clone().filter(|version| version == lost) {
        return Ok(version);
    }
    let text = |v: Option<&HeaderValue>| v.and_then(|v| v.to_str().ok()).unwrap_or("no revision").to_owned();
    let (new, old) = (text(version.as_ref()), text(Some(lost)));
    Err(Failure::SessionLost(format!("the server now speaks {new} and not {old}; start the client again")))
}
