//! `server`, and what a server's sections must agree on.

use std::{net::SocketAddr, time::Duration};

use super::{address, auth, mcp, origins, tls};
use crate::config::{
    ClientAuthMode, Isolation, Listen, Serve, ServerAuth, ServerTls, error::Fault, leaf::Leaf, reader::Reader,
};

const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// hyper needs 8 KiB of header buffer.
const HEADER_SIZES: std::ops::RangeInclusive<usize> = 8 << 10..=16 << 20;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Reads everything that `mode: server` needs, beside what listens on `metrics`.
pub(super) fn serve(r: &mut Reader<'_>, metrics: Option<SocketAddr>) -> Result<Serve, Fault> {
    let listen = listen(r)?;
    if metrics.is_some_and(|metrics| address::collide(&listen, metrics)) {
        return Err(r.fault(
            "metrics.listen",
            format!("collides with 'server.listen', which is {listen}; use another port"),
        ));
    }
    let tls = tls::server(r)?;
    let auth = auth::server(r)?;
    check_exposure(r, &listen, tls.as_ref(), &auth)?;
    let mut serve = Serve {
        path: r.parsed("server.path", address::endpoint)?.unwrap_or_else(|| "/mcp".into()),
        allowed_hosts: allowed_hosts(r, &listen)?,
        allowed_origins: origins::origins(r, "server.allowed_origins")?,
        read_timeout: r.wait("server.read_timeout", secs(30))?,
        idle_timeout: r.wait("server.idle_timeout", secs(120))?,
        handshake_timeout: r.wait("server.handshake_timeout", secs(10))?,
        stream_after: r.duration("server.stream_after", secs(5))?,
        sse_keepalive_interval: r.wait("server.sse_keepalive_interval", secs(15))?,
        max_body_size: r.size("server.max_body_size", 10 << 20, 1..=1 << 30)?,
        max_connections: r.number("server.max_connections", 10_000, 1..=1_000_000)?,
        max_header_size: r.size("server.max_header_size", 64 << 10, HEADER_SIZES)?,
        shutdown_timeout: r.duration("server.shutdown_timeout", secs(30))?,
        session_timeout: r.wait("server.session.timeout", secs(30 * 60))?,
        max_sessions: r.number("server.session.max_sessions", 100, 1..=1_000_000)?,
        cors: origins::cors(r)?,
        mcp: mcp::mcp(r, default_isolation(&listen, tls.as_ref(), &auth))?,
        listen,
        tls,
        auth,
    };
    serve.mcp.withheld_env = mcp::withheld(r);
    Ok(serve)
}

fn listen(r: &mut Reader<'_>) -> Result<Listen, Fault> {
    let default = || Listen::Tcp { host: Some("127.0.0.1".into()), port: 8080 };
    let mut listen = r.parsed("server.listen", address::listen)?.unwrap_or_else(default);
    if let Some(asked) = r.parsed("server.socket_mode", address::socket_mode)? {
        let Listen::Unix { mode, .. } = &mut listen else {
            return Err(r.fault(
                "server.socket_mode",
                "has no effect: only a unix socket of `server.listen: unix:/path` has a mode; remove it",
            ));
        };
        *mode = asked;
    }
    Ok(listen)
}

/// Nobody should open a server to the network by accident.
fn check_exposure(
    r: &mut Reader<'_>,
    listen: &Listen,
    tls: Option<&ServerTls>,
    auth: &ServerAuth,
) -> Result<(), Fault> {
    let allowed = r.flag("server.allow_insecure", false)?;
    if listen.is_local() {
        return Ok(());
    }
    let warning = match (tls, has_auth(tls, auth)) {
        (Some(_), true) => return Ok(()),
        (Some(_), false) => {
            "server.listen: anyone who reaches this address can use the MCP server; set `auth`, or \
             `tls.client_auth: verify`"
        }
        (None, true) => {
            "server.listen: bearer tokens cross the network unencrypted; enable `tls`, or keep it behind a TLS proxy"
        }
        (None, false) if allowed => {
            "server.allow_insecure: anyone who reaches this address can use the MCP server, unencrypted"
        }
        (None, false) => {
            return Err(r.fault(
                "server.listen",
                "listens beyond loopback with neither TLS nor auth; enable `tls` or `auth`, listen on \
                 127.0.0.1, or set `server.allow_insecure: true` (--allow-insecure)",
            ));
        }
    };
    r.warnings.push(warning.into());
    Ok(())
}

/// Whether only those come in who can show who they are.
fn has_auth(tls: Option<&ServerTls>, auth: &ServerAuth) -> bool {
    let certified = tls.is_some_and(|tls| tls.client_auth == ClientAuthMode::Verify);
    certified || matches!(auth, ServerAuth::Bearer(_))
}

fn allowed_hosts(r: &mut Reader<'_>, listen: &Listen) -> Result<Option<Vec<String>>, Fault> {
    if let Some(list) = r.list("server.allowed_hosts")? {
        if list.iter().any(|leaf| leaf.text == "*") {
            return Ok(None);
        }
        let read =
            |leaf: &Leaf<'_>| address::allowed_host(&leaf.text).map_err(|message| leaf.fault(&message));
        return list.iter().map(read).collect::<Result<_, _>>().map(Some);
    }
    match listen {
        Listen::Tcp { host: Some(host), .. } if listen.is_local() => {
            let mut names: Vec<String> = LOOPBACK_NAMES.map(Into::into).into();
            let host = host.to_ascii_lowercase();
            if !names.contains(&host) {
                names.push(host);
            }
            Ok(Some(names))
        }
        _ => Ok(None),
    }
}

/// Anonymous clients of the network can't be told apart, so they share nothing.
fn default_isolation(listen: &Listen, tls: Option<&ServerTls>, auth: &ServerAuth) -> Isolation {
    if listen.is_local() || has_auth(tls, auth) { Isolation::Principal } else { Isolation::Request }
}
