//! The name that a server's certificate must carry.

use super::error::TlsError;

/// The name that is verified: without the brackets of an IPv6 address and the dot of a fully qualified name.
pub(super) fn server_name(key: &'static str, written: &str) -> Result<String, TlsError> {
    let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(written);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    let wrong = |what: &str| {
        Err(TlsError::new(key, format!("{written:?} {what}"))
            .hint("write the host name or address that the server's certificate carries"))
    };
    // Each of these would make OpenSSL verify nothing, or subdomains, or panic.
    match bare {
        "" => wrong("is no name"),
        _ if bare.starts_with('.') => wrong("begins with a dot"),
        _ if bare.contains('\0') => wrong("has a NUL inside"),
        _ if bare.contains(char::is_whitespace) => wrong("has a space inside"),
        _ if !bare.is_ascii() => wrong("is not ASCII: write it in its xn-- form"),
        // Longer ones do not fit the extension (RFC 1035, section 2.3.4).
        _ if bare.len() > 253 => wrong("is longer than a host name can be"),
        _ => Ok(bare.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_brackets_and_the_final_dot() {
        for (written, bare) in [("srv.test.", "srv.test"), ("[::1]", "::1"), ("10.0.0.1", "10.0.0.1")] {
            assert_eq!(server_name("tls.server_name", written).unwrap(), bare);
        }
    }

    #[test]
    fn names_that_openssl_would_misread_are_errors() {
        for bad in ["", ".", "[]", ".srv.test", "a\0b", "a b", "bücher.test", &"a".repeat(254)] {
            server_name("tls.server_name", bad).unwrap_err();
        }
    }
}
