//! Streamable HTTP: a POST for each message, whose response holds the answer, and `Mcp-Session-Id`.
//!
//! Source: the MCP specification, revision 2025-11-25, `basic/transports`, "Streamable HTTP".

use std::sync::OnceLock;

use hyper::{HeaderMap, header::HeaderValue};

use super::version_header;
use crate::{
    connect::{answer::Answer, failure::Failure, remote::Remote},
    jsonrpc::Line,
    mcp,
};

/// Longest id of a session, in bytes: it goes along with each request, and servers take heads of 8 KiB and more.
const MAX_SESSION_ID: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct StreamableHttp {
    /// How the server named the session first. It may not rename it.
    session: OnceLock<HeaderValue>,
}

impl StreamableHttp {
    pub(super) async fn send(
        &self,
        remote: &Remote,
        version: Option<&HeaderValue>,
        line: &Line,
    ) -> Result<Answer, Failure> {
        let response = remote.post(remote.url(), self.headers(version), line).await?;
        if response.status().is_success()
            && let Some(id) = response.headers().get(mcp::SESSION_ID)
        {
            self.named(id)?;
        }
        Answer::of(response)
    }

    pub(super) async fn listen(
        &self,
        remote: &Remote,
        version: Option<&HeaderValue>,
        resume: Option<&HeaderValue>,
    ) -> Result<Answer, Failure> {
        let mut headers = self.headers(version);
        if let Some(id) = resume {
            headers.insert(mcp::LAST_EVENT_ID, id.clone());
        }
        Answer::of(remote.get(remote.url(), headers).await?)
    }

    /// Ends the session, if there is one.
    pub(super) async fn leave(&self, remote: &Remote, version: Option<&HeaderValue>) -> Result<(), Failure> {
        if self.in_session() {
            remote.delete(remote.url(), self.headers(version)).await?;
        }
        Ok(())
    }

    pub(super) fn in_session(&self) -> bool {
        self.session.get().is_some()
    }

    fn named(&self, id: &HeaderValue) -> Result<(), Failure> {
        let is_text = id.as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_text || id.len() > MAX_SESSION_ID {
            return Err(Failure::Unusable(format!(
                "it names the session with what is not printable ASCII, or longer than {MAX_SESSION_ID} bytes"
            )));
        }
        let _ = self.session.set(id.clone());
        Ok(())
    }

    fn headers(&self, version: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = version_header(version);
        if let Some(id) = self.session.get() {
            headers.insert(mcp::SESSION_ID, id.clone());
        }
        headers
    }
}
