//! Opening a session by the transport that the configuration names, or that the server turns out to speak.

use std::sync::Arc;

use tokio::time::timeout;

use super::{
    answer::{self, Answer, Refused},
    bridge::{Bridge, Out},
    failure::Failure,
    listen,
    transport::{Channel, http_sse::OPENING},
};
use crate::{
    config::Transport,
    jsonrpc::{Kind, Line, Message, error_code},
    mcp,
};

impl Bridge {
    /// Sends the client's `initialize`.
    ///
    /// Source: the MCP specification, revision 2025-11-25, `basic/transports`, "Backwards Compatibility".
    pub(super) async fn open(self: &Arc<Self>, initialize: &Line) -> Result<Answer, Failure> {
        let choice = self.remote.config.transport;
        if choice == Transport::Sse {
            return self.begin_by(self.open_http_sse().await?, initialize).await;
        }
        let answer = self.begin_by(Arc::new(Channel::streamable_http()), initialize).await?;
        let answer = match self.same_era(answer).await? {
            Answer::Refused(refused) if choice == Transport::Auto && refused.may_be_http_sse() => {
                self.fall_back(refused, initialize).await?
            }
            answer => answer,
        };
        // A server that lets nobody in is of no era; the one that does so later is asked anew.
        if matches!(&answer, Answer::Refused(refused) if !refused.is_failure()) {
            self.discovery.doubt().await;
        }
        Ok(answer)
    }

    /// Gives the answer to `initialize` back unless it is the refusal of a server that speaks the modern revision only.
    /// Such a server may well refuse without words. Those of HTTP+SSE do so too, and are asked one question in vain.
    ///
    /// Source: revision 2026-07-28, `basic/versioning`, "Compatibility Matrix".
    async fn same_era(&self, answer: Answer) -> Result<Answer, Failure> {
        let is_error = |message: &Message| matches!(message.kind, Kind::Response { is_error: true, .. });
        let (answer, refused, error) = match answer {
            Answer::Refused(refused) => {
                let (refused, error) = refused.read().await;
                let of_an_era = !refused.is_failure();
                (Answer::Refused(refused), of_an_era, error)
            }
            Answer::Json(body) => {
                let messages = answer::json(body).await?;
                let error = messages.iter().find(|message| is_error(message)).cloned();
                (Answer::Read(messages), false, error)
            }
            answer => (answer, false, None),
        };
        if !refused && error.is_none() {
            return Ok(answer);
        }
        if let Some(error) = error {
            self.doubt(&error).await;
        }
        // A question that can't be asked changes nothing about the answer. A translation has been chosen already.
        let translated = matches!(self.out, Out::Translator(_));
        if !translated && self.discovery.speaks_modern().await.unwrap_or(false) {
            return Err(Failure::OtherEra);
        }
        Ok(answer)
    }

    /// Looks at an error that answers `initialize`: a server that speaks modern revisions only is none that is known to
    /// be legacy.
    pub(super) async fn doubt(&self, refusal: &Message) {
        if error_code(&refusal.line) == Some(mcp::code::UNSUPPORTED_VERSION) {
            self.discovery.doubt().await;
        }
    }

    /// Tries HTTP+SSE. If it is not spoken either, the refusal stands.
    async fn fall_back(self: &Arc<Self>, refused: Refused, initialize: &Line) -> Result<Answer, Failure> {
        let status = refused.status;
        match timeout(OPENING, self.open_http_sse()).await.unwrap_or(Err(Failure::TimedOut(OPENING))) {
            Ok(channel) => {
                log::info!("the server refuses Streamable HTTP (HTTP status {status}) and speaks HTTP+SSE");
                self.begin_by(channel, initialize).await
            }
            Err(e) => Ok(Answer::Refused(refused.besides(&format!("HTTP+SSE was tried too: {e}")))),
        }
    }

    async fn begin_by(&self, channel: Arc<Channel>, initialize: &Line) -> Result<Answer, Failure> {
        self.session().takes(Arc::clone(&channel));
        channel.send(&self.remote, initialize).await
    }

    /// Opens a channel like that of a session that was lost.
    pub(super) async fn open_like(self: &Arc<Self>, lost: &Channel) -> Result<Arc<Channel>, Failure> {
        if lost.is_http_sse() {
            return self.open_http_sse().await;
        }
        Ok(Arc::new(Channel::streamable_http()))
    }

    /// Opens a channel of HTTP+SSE; from now on its stream is read.
    async fn open_http_sse(self: &Arc<Self>) -> Result<Arc<Channel>, Failure> {
        let (channel, stream) = Channel::http_sse(&self.remote).await?;
        tokio::spawn(listen::read(Arc::clone(self), stream));
        Ok(Arc::new(channel))
    }
}
