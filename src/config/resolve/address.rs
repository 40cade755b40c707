//! Addresses to listen on, and what requests to them must name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    config::Listen,
    monitor::{HEALTH_PATH, READY_PATH},
    serve::{MESSAGES_PATH, SSE_PATH},
};

const EXAMPLES: &str =
    "write for example 127.0.0.1:8080, :8443 for all interfaces, [::1]:8443, unix:/path or systemd";

/// Who may connect to a unix socket: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// The longest path that fits into a `sockaddr_un`, with its NUL.
const UNIX_PATH_MAX: usize = 107;

/// Reads `server.listen`.
pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if text == "systemd" {
        return Ok(Listen::Systemd);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if text.contains("://") {
        return Err(format!("is a URL, not an address; {EXAMPLES}"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("has no port; {EXAMPLES}"))?;
    let port = port_number(port).ok_or_else(|| format!("has no valid port; {EXAMPLES}"))?;
    if host.is_empty() {
        return Ok(Listen::Tcp { host: None, port });
    }
    let host = bare_host(host).ok_or_else(|| format!("has no valid host; {EXAMPLES}"))?;
    Ok(Listen::Tcp { host: Some(host), port })
}

fn unix(path: &str) -> Result<Listen, String> {
    if !path.starts_with('/') {
        return Err("needs an absolute path; write for example unix:/run/mcp-bridge.sock".into());
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!("is longer than the {UNIX_PATH_MAX} bytes a unix socket's path can have"));
    }
    Ok(Listen::Unix { path: path.into(), mode: SOCKET_MODE })
}

/// Reads `server.socket_mode`: octal, as `chmod` takes it.
pub(super) fn socket_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode =
        if digits.len() > 4 || digits.starts_with('+') { None } else { u32::from_str_radix(digits, 8).ok() };
    mode.filter(|mode| *mode <= 0o777 && mode & 0o200 != 0).ok_or_else(|| {
        "is no mode of a file that its owner may write to; write for example 0660 or 0600".to_owned()
    })
}

pub(super) fn port_number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A name, an IPv4 address, or an IPv6 address in brackets, which are taken off.
fn bare_host(text: &str) -> Option<String> {
    if let Some(inside) = text.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    is_host_name(text).then(|| text.to_owned())
}

pub(super) fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// Reads `metrics.listen`.
pub(super) fn metrics(text: &str) -> Result<SocketAddr, String> {
    let hint = "write for example 127.0.0.1:9090, [::1]:9090, or :9090 for all interfaces";
    let address = match text.rsplit_once(':') {
        Some(("", port)) => port_number(port).map(|port| (Ipv6Addr::UNSPECIFIED, port).into()),
        Some(("localhost", port)) => port_number(port).map(|port| (Ipv4Addr::LOCALHOST, port).into()),
        _ => text.parse().ok(),
    };
    address.ok_or_else(|| format!("is not an IP address with a port; {hint}"))
}

/// Whether `metrics.listen` surely can't be bound beside `server.listen`. What names resolve to is not known here.
pub(super) fn collide(server: &Listen, metrics: SocketAddr) -> bool {
    let Listen::Tcp { host, port } = server else { return false };
    if *port == 0 || *port != metrics.port() {
        return false;
    }
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    let ours = match host.as_deref() {
        None => return true,
        Some("localhost") => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(host) => host.parse::<IpAddr>(),
    };
    ours.is_ok_and(|ours| ours == metrics.ip() || covers(ours, metrics.ip()) || covers(metrics.ip(), ours))
}

/// Reads one entry of `server.allowed_hosts`: a host without its port, lower case and without brackets.
pub(super) fn allowed_host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if text.contains("://") || text.contains('/') {
        return Err("must be a host name alone, without scheme or path".into());
    }
    if let Ok(address) = lower.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if text.contains(':') {
        return Err("must be a host name without a port; every port is allowed".into());
    }
    if !is_host_name(&lower) {
        return Err("is not a host name; write for example mcp.example.com".into());
    }
    Ok(lower)
}

/// Reads `server.path`.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("must start with a slash, as in /mcp".into());
    }
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'<' | b'>' | b'\\');
    if text.starts_with("//") || !text.bytes().all(allowed) {
        return Err("must be the path of a URL alone: no query, fragment or space".into());
    }
    if [HEALTH_PATH, READY_PATH, SSE_PATH, MESSAGES_PATH].contains(&text) {
        return Err("is a path of the bridge's own; choose another".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_addresses_are_read() {
        let tcp = |host: Option<&str>, port| Listen::Tcp { host: host.map(Into::into), port };
        let cases = [
            (":8443", tcp(None, 8443)),
            ("127.0.0.1:0", tcp(Some("127.0.0.1"), 0)),
            ("localhost:80", tcp(Some("localhost"), 80)),
            ("[::1]:8443", tcp(Some("::1"), 8443)),
            ("unix:/run/b.sock", Listen::Unix { path: "/run/b.sock".into(), mode: 0o660 }),
            ("systemd", Listen::Systemd),
        ];
        for (text, address) in cases {
            assert_eq!(listen(text), Ok(address), "{text}");
        }
    }

    #[test]
    fn bad_listening_addresses_are_refused() {
        let long = format!("unix:/{}", "x".repeat(200));
        let cases = [
            ("8080", "no port"),
            ("localhost", "no port"),
            ("localhost:", "valid port"),
            (":70000", "valid port"),
            (":+80", "valid port"),
            ("::1:8080", "valid host"),
            ("[::1:8080", "valid host"),
            ("a b:80", "valid host"),
            ("https://h:80", "is a URL"),
            ("unix:", "absolute path"),
            ("unix:run/x", "absolute path"),
            (&long, "longer than"),
        ];
        for (text, message) in cases {
            let error = listen(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn the_mode_of_a_socket_is_octal() {
        for text in ["660", "0660", "0o660"] {
            assert_eq!(socket_mode(text), Ok(0o660), "{text}");
        }
        for text in ["", "0", "0440", "888", "+660", "1777", "00660", "rw-rw----", "-1"] {
            assert!(socket_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_need_an_address() {
        assert_eq!(metrics(":9090").unwrap().to_string(), "[::]:9090");
        assert_eq!(metrics("localhost:1").unwrap().to_string(), "127.0.0.1:1");
        assert!(metrics("example.com:9090").is_err() && metrics("9090").is_err());
    }

    #[test]
    fn allowed_hosts_are_bare() {
        assert_eq!(allowed_host("[::1]").as_deref(), Ok("::1"));
        assert_eq!(allowed_host("MCP.Example.com").as_deref(), Ok("mcp.example.com"));
        for text in ["h:80", "https://h", "a b", "h/"] {
            assert!(allowed_host(text).is_err(), "{text}");
        }
    }
}
