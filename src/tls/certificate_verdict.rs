//! OpenSSL's verify code → the phrase, the certificate's facts and what to change (`X509_STORE_CTX_get_error(3)`).

use super::{
    Side,
    failure::{HandshakeError, Kind},
    notes::Refusal,
    time,
    verdict::Scene,
};

/// Why a peer's chain was refused.
pub(super) fn chain(refusal: &Refusal, scene: &Scene<'_>) -> HandshakeError {
    let code = refusal.result.as_raw();
    let words = refusal.result.error_string();
    let failure = match code {
        // 7: the issuer has the name of a trusted CA, and another key.
        2 | 7 | 18..=21 | 24 | 27 | 79 => unknown_authority(scene.side),
        9 | 10 | 13 | 14 => validity(refusal),
        62 | 64 => wrong_name(refusal, scene.name.unwrap_or("the name")),
        28 => HandshakeError::new(Kind::Refused, "x509: the name of the client certificate is not allowed")
            .fact(names(refusal))
            .advise("add one of its names to tls.client_allowed_names"),
        _ => refused(&format!("x509: {words}")).advise(what_to_change(code, scene.side)),
    };
    failure
        .fact(format!(
            "certificate \"{}\", issued by \"{}\", depth {}",
            refusal.subject, refusal.issuer, refusal.depth
        ))
        .fact(format!("OpenSSL verify code {code}: {words}"))
}

fn refused(summary: &str) -> HandshakeError {
    HandshakeError::new(Kind::Refused, summary)
}

fn unknown_authority(side: Side) -> HandshakeError {
    refused("x509: certificate signed by unknown authority").advise(match side {
        Side::Client => {
            "add the CA to tls.ca_cert or the system trust store; check that the server sends its whole chain"
        }
        Side::Server => "add the CA to tls.client_ca_file; check that the client sends its whole chain",
    })
}

fn validity(refusal: &Refusal) -> HandshakeError {
    refused("x509: certificate has expired or is not yet valid")
        .fact(format!(
            "valid from {} to {}; this machine's clock says {}",
            refusal.not_before,
            refusal.not_after,
            time::rfc3339(time::now())
        ))
        .advise("renew the certificate, or set the clock")
}

fn wrong_name(refusal: &Refusal, name: &str) -> HandshakeError {
    refused(&format!("x509: certificate is not valid for {name}"))
        .fact(names(refusal))
        .advise("connect by one of its names, or set tls.server_name to one of them")
}

fn names(refusal: &Refusal) -> String {
    let common = refusal.common_names.iter().map(|name| format!("CN={}", name.escape_debug()));
    let all: Vec<String> = refusal.names.iter().cloned().chain(common).collect();
    if all.is_empty() { "it has no name".to_owned() } else { format!("its names: {}", all.join(", ")) }
}

fn what_to_change(code: i32, side: Side) -> &'static str {
    match (code, side) {
        (23, _) => "the CA has revoked it: get a new one",
        (3 | 33, _) => "put a current CRL of every CA of the chain into tls.crl_file",
        (11 | 12 | 15 | 16, _) => "get a current CRL from the CA into tls.crl_file",
        (26, Side::Server) => "the client needs a certificate with the extended key usage clientAuth",
        (26, Side::Client) => "the server needs a certificate with the extended key usage serverAuth",
        (66 | 67, _) => "issue it with a key of at least 2048 bits (RSA) or 224 bits (EC)",
        (68, _) => "issue it with SHA-256 or better",
        (47 | 48, _) => "a name constraint of a CA of the chain forbids its names",
        _ => "get a certificate that satisfies RFC 5280",
    }
}
