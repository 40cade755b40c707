//! A handshake that failed, in words.

use std::fmt;

/// Why a handshake failed: a phrase to search for, the facts, and what to do.
#[derive(Debug, Clone)]
pub struct HandshakeError {
    summary: String,
    facts: Vec<String>,
    advice: Option<String>,
    kind: Kind,
}

/// What callers act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// We refused; an alert is on its way to the peer.
    Refused,
    /// The peer refused or went away.
    Lost,
    /// The peer went away without a byte: a port scan, a load balancer's probe.
    ClosedEarly,
    /// The peer spoke HTTP without TLS, or no TLS at all.
    PlainHttp,
}

impl HandshakeError {
    /// [`Self::result`] of a peer that goes away without a byte.
    pub const CLOSED_EARLY: &str = "closed_early";
    /// [`Self::result`] of a peer that speaks HTTP without TLS.
    pub const PLAIN_HTTP: &str = "plain_http";

    pub(super) fn new(kind: Kind, summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), facts: Vec::new(), advice: None, kind }
    }

    pub(super) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    pub(super) fn advise(mut self, hint: impl Into<String>) -> Self {
        self.advice = Some(hint.into());
        self
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The phrase that the documentation's troubleshooting table promises, without facts and hint.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// One word for how it ended.
    pub fn result(&self) -> &'static str {
        match self.kind {
            Kind::Refused => "refused",
            Kind::Lost => "lost",
            Kind::ClosedEarly => Self::CLOSED_EARLY,
            Kind::PlainHttp => Self::PLAIN_HTTP,
        }
    }

    /// Whether the peer closed the connection before it sent a byte: not worth more than a debug line.
    pub fn closed_before_first_byte(&self) -> bool {
        self.kind == Kind::ClosedEarly
    }

    /// Whether the peer does not speak TLS: plain HTTP on the TLS port.
    pub fn is_plain_http(&self) -> bool {
        self.kind == Kind::PlainHttp
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        if !self.facts.is_empty() {
            write!(f, " ({})", self.facts.join("; "))?;
        }
        match &self.advice {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for HandshakeError {}
