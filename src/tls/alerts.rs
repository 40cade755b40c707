//! Alerts from the peer, in words (RFC 8446, section 6.2; RFC 5246, section 7.2.2).

use openssl::{error::ErrorStack, ssl::SslAlert};

use super::{
    Side,
    failure::{HandshakeError, Kind},
    verdict::LIB_SSL,
};

/// The number of the alert that the peer sent, if the error is one.
pub(super) fn alert_number(stack: &ErrorStack) -> Option<u8> {
    let codes = stack.errors().iter().filter(|error| error.library_code() == LIB_SSL);
    let mut alerts = codes.map(openssl::error::Error::reason_code).filter(|&code| is_alert(code));
    alerts.find_map(|code| u8::try_from(code - 1000).ok())
}

fn is_alert(code: i32) -> bool {
    SslAlert::from_reason_code(code).is_some()
}

/// What an alert from the peer means. `asked` and `configured` are about a client's certificate.
pub(super) fn alert(number: u8, side: Side, asked: bool, configured: bool) -> HandshakeError {
    let lost = |summary: &str| HandshakeError::new(Kind::Lost, summary).fact(received(number));
    match (number, side) {
        (42..=46 | 48 | 49 | 51 | 113..=116, Side::Client) => own_certificate(lost("tls: bad certificate"), asked, configured),
        (40, Side::Client) if asked => own_certificate(lost("tls: bad certificate, or no common parameters"), asked, configured),
        (42..=46 | 48 | 49 | 51 | 113 | 114, Side::Server) => lost("tls: bad certificate")
            .fact("the client refused our certificate")
            .advise("let the client trust the CA that issued tls.cert_file, put the whole chain into that file, and check its names and dates"),
        (70, _) => lost("tls: no common protocol version").advise("widen tls.min_version and tls.max_version, or the peer's"),
        (40 | 71 | 47, Side::Client) => lost("tls: no common cipher suite or tls: no common key exchange group")
            .fact("the server does not say which")
            .advise("compare tls.cipher_suites, tls.curve_preferences and the versions with what the server allows; a server that demands a client certificate may answer so too"),
        (40 | 71 | 47, Side::Server) => lost("tls: the client gave up")
            .advise("its versions, suites, groups or signature algorithms do not fit what was chosen"),
        (112, _) => lost("tls: the server does not know the name").advise("set tls.server_name to a name it serves"),
        (120, _) => lost("tls: no common application protocol").advise("the bridge offers h2 and http/1.1"),
        _ => lost("tls: the peer gave up").advise("its log has the reason"),
    }
}

fn received(number: u8) -> String {
    let name = match number {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unnamed",
    };
    format!("the peer sent alert {number} {name}")
}

fn own_certificate(failure: HandshakeError, asked: bool, configured: bool) -> HandshakeError {
    let hint = match (asked, configured) {
        (_, false) => "set tls.cert_file and tls.key_file to a certificate that the server trusts",
        (true, true) => {
            "the server refused the certificate of tls.cert_file: check its issuer, dates and purpose (clientAuth), and that the file holds the whole chain"
        }
        (false, true) => "the server did not ask for our certificate, and refused something else",
    };
    let yes = |fact| if fact { "yes" } else { "no" };
    failure
        .fact(format!("client certificate asked for: {}, configured: {}", yes(asked), yes(configured)))
        .advise(hint)
}
