//! URLs to reach, and names to verify.

use std::net::{IpAddr, Ipv6Addr};

use hyper::{Uri, http::uri::Authority};

use super::address::{is_host_name, port_number};

/// Reads `client.url`. The error never shows the URL: its query may hold a key.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let hint = "write for example https://mcp.example.com/mcp";
    if text.contains('#') {
        return Err(format!("has a fragment (`#…`), which is never sent; {hint}"));
    }
    let uri: Uri = text.parse().map_err(|_| format!("is not a URL; {hint}"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(format!("must start with https:// or http://; {hint}")),
        None => return Err(format!("has no scheme; {hint}")),
    }
    let authority = uri.authority().ok_or_else(|| format!("has no host; {hint}"))?;
    if authority.as_str().contains('@') {
        return Err("holds a user or password; use `auth` or `client.headers` for credentials".into());
    }
    check_authority(authority).map_err(|message| format!("{message}; {hint}"))?;
    Ok(uri)
}

/// The `http` crate takes some hosts and ports that can't be connected to.
fn check_authority(authority: &Authority) -> Result<(), &'static str> {
    let host = authority.host();
    let valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    if !valid {
        return Err("has no valid host");
    }
    let port = authority.as_str().rsplit('@').next().and_then(|rest| rest.strip_prefix(host)).unwrap_or("");
    match port.strip_prefix(':') {
        None => Ok(()),
        Some(port) if port_number(port).is_some_and(|port| port > 0) => Ok(()),
        Some(_) => Err("has no valid port"),
    }
}

/// Checks `client.proxy`. The error never shows it: it may hold a password.
pub(super) fn proxy(text: &str) -> Result<(), String> {
    let hint = "write http://[user:password@]host:port, or none";
    let uri: Uri = text.parse().map_err(|_| format!("is not a URL; {hint}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!(
            "must start with http:// (the connection through it is encrypted all the same); {hint}"
        ));
    }
    let authority = uri.authority().ok_or_else(|| format!("has no host; {hint}"))?;
    check_authority(authority).map_err(|message| format!("{message}; {hint}"))?;
    if authority.port_u16().is_none() {
        return Err(format!("has no port; {hint}"));
    }
    if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") || text.contains('#') {
        return Err(format!("has a path; {hint}"));
    }
    Ok(())
}

/// Reads `tls.server_name`: a host name or an IP address, brackets and one trailing dot taken off.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let hint = "write the name in the server's certificate, for example mcp.example.com";
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.starts_with('.') {
        return Err(format!("starts with a dot; {hint}"));
    }
    if name.contains(':') || name.contains('/') {
        return Err(format!("must be a name alone, without scheme or port; {hint}"));
    }
    if !is_host_name(name) || name.len() > 253 || name.split('.').any(str::is_empty) {
        return Err(format!("is not a host name; {hint}"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_urls_are_refused() {
        let cases = [
            ("mcp.example.com", "no scheme"),
            ("/mcp", "no scheme"),
            ("ftp://h/", "must start with"),
            ("https://", "not a URL"),
            ("https:///mcp", "not a URL"),
            ("https://u:p@h/", "user or password"),
            ("https://h/#x", "fragment"),
            ("https://h:99999/", "valid port"),
            ("https://h:0/", "valid port"),
            ("https://h:/", "valid port"),
            ("https://[::zz]/", "valid host"),
            ("https://h /", "not a URL"),
            ("https://%41/", "not a URL"),
            ("https://a!b/", "valid host"),
        ];
        for (text, message) in cases {
            let error = url(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
        for text in ["https://h", "http://h:80/mcp?a=b", "https://[::1]:8443/mcp", "https://127.0.0.1/"] {
            assert!(url(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn server_names_lose_brackets_and_one_dot() {
        let good = [("a.example.", "a.example"), ("[::1]", "::1"), ("10.0.0.1", "10.0.0.1"), ("h", "h")];
        for (text, name) in good {
            assert_eq!(server_name(text).as_deref(), Ok(name));
        }
        for text in [".", ".a", "a..", "a..b", "h:443", "https://h", "a b", "[h]", ""] {
            assert!(server_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn proxies_need_host_and_port() {
        for text in ["http://p:3128", "http://u:pw@p:3128/"] {
            assert_eq!(proxy(text), Ok(()));
        }
        for text in
            ["p:3128", "https://p:3128", "socks5://p:1", "http://p", "http://p:3128/x", "http://:3128"]
        {
            assert!(proxy(text).is_err(), "{text}");
        }
    }
}
