//! `client`, and what a client's sections must agree on.

use std::time::Duration;

use super::{auth, headers, mcp, tls, url};
use crate::config::{
    ClientAuth, Connect, Protocol, ProxyChoice, Retry, Secret, Transport, error::Fault, reader::Reader,
};

/// Reads everything that `mode: client` needs.
pub(super) fn connect(r: &mut Reader<'_>) -> Result<Connect, Fault> {
    let url = target(r)?;
    let transports =
        [("auto", Transport::Auto), ("streamable-http", Transport::StreamableHttp), ("sse", Transport::Sse)];
    let https = url.scheme_str() == Some("https");
    let connect = Connect {
        connect_timeout: r.wait("client.connect_timeout", Duration::from_secs(10))?,
        timeout: r.patience("client.timeout", mcp::REQUEST_TIMEOUT)?,
        max_request_time: max_request_time(r)?,
        headers: headers::headers(r)?,
        proxy: proxy(r)?,
        protocol: r.choice("client.protocol", &mcp::PROTOCOLS)?.unwrap_or_default(),
        transport: r.choice("client.transport", &transports)?.unwrap_or_default(),
        translate: r.flag("client.translate", true)?,
        retry: retry(r)?,
        tls: tls::client(r, https)?,
        auth: auth::client(r)?,
        url,
    };
    if connect.protocol == Protocol::Modern && connect.transport == Transport::Sse {
        return Err(r.fault(
            "client.transport",
            "is sse, which only the legacy protocol has, but 'client.protocol' is modern; remove one",
        ));
    }
    warn(r, &connect, https);
    Ok(connect)
}

fn target(r: &mut Reader<'_>) -> Result<hyper::Uri, Fault> {
    let leaf = r.text("client.url")?.ok_or_else(|| {
        r.fault(
            "client.url",
            "missing; set it to the server to reach, for example https://mcp.example.com/mcp",
        )
    })?;
    url::url(&leaf.text).map_err(|message| leaf.secret_fault(&message))
}

fn max_request_time(r: &mut Reader<'_>) -> Result<Duration, Fault> {
    let (ours, other) = ("client.max_request_time", "mcp.max_request_time");
    match (r.has(ours), r.has(other)) {
        (true, true) => Err(r.fault(other, format!("is said twice: '{ours}' is set too; remove one"))),
        (false, true) => r.wait(other, mcp::MAX_REQUEST_TIME),
        _ => r.wait(ours, mcp::MAX_REQUEST_TIME),
    }
}

fn proxy(r: &mut Reader<'_>) -> Result<ProxyChoice, Fault> {
    let Some(leaf) = r.text("client.proxy")? else { return Ok(ProxyChoice::Environment) };
    if leaf.text == "none" {
        return Ok(ProxyChoice::Direct);
    }
    url::proxy(&leaf.text).map_err(|message| leaf.secret_fault(&message))?;
    Ok(ProxyChoice::Url(Secret::new(leaf.text)))
}

fn retry(r: &mut Reader<'_>) -> Result<Retry, Fault> {
    let retry = Retry {
        enabled: r.flag("client.retry.enabled", true)?,
        max_retries: r.number("client.retry.max_retries", 5, 0..=u32::MAX)?,
        initial_delay: r.wait("client.retry.initial_delay", Duration::from_millis(200))?,
        max_delay: r.wait("client.retry.max_delay", Duration::from_secs(10))?,
        multiplier: r.number("client.retry.multiplier", 2.0, 1.0..=1000.0)?,
    };
    if retry.initial_delay > retry.max_delay {
        let said = if r.has("client.retry.initial_delay") { "initial_delay" } else { "max_delay" };
        return Err(r.fault(
            &format!("client.retry.{said}"),
            format!(
                "the first delay ({:?}) is longer than the longest ({:?}); change one",
                retry.initial_delay, retry.max_delay
            ),
        ));
    }
    Ok(retry)
}

fn warn(r: &mut Reader<'_>, connect: &Connect, https: bool) {
    let url = &connect.url;
    let host = url.host().unwrap_or_default();
    if connect.tls.insecure_skip_verify {
        let authority = url.authority().map_or(host, |authority| authority.as_str());
        r.warnings.push(format!(
            "tls.insecure_skip_verify: the certificate of https://{authority} is not verified; anyone between can read and change everything"
        ));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let local = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !https && !local && !matches!(connect.auth, ClientAuth::None) {
        r.warnings.push("client.url: the bearer token crosses the network unencrypted; use https://".into());
    }
}
