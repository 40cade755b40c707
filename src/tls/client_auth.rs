//! `tls.client_auth`: whether clients are asked for a certificate, and which ones are let in.

use openssl::{
    error::ErrorStack,
    ssl::{SslContextBuilder, SslVerifyMode},
    x509::X509StoreContextRef,
};

use super::{
    error::TlsError,
    ffi,
    names::AllowedNames,
    notes,
    trust::{self, Crls},
};
use crate::config::{ClientAuthMode, ServerTls};

/// The four modes of `tls.client_auth`. No callback ever turns a verify result into OK.
pub(super) fn apply(
    context: &mut SslContextBuilder,
    settings: &ServerTls,
    crls: Option<&Crls>,
    warnings: &mut Vec<String>,
) -> Result<(), TlsError> {
    const CA: &str = "tls.client_ca_file";
    without_effect(settings)?;
    let roots = match &settings.client_ca_file {
        Some(path) => {
            let roots = trust::file(CA, path)?;
            warnings.extend(trust::warnings(CA, path, &roots));
            roots
        }
        None if settings.client_auth == ClientAuthMode::Verify => {
            return Err(TlsError::new(CA, "is missing, and tls.client_auth is verify")
                .hint("name the CA of your clients"));
        }
        None => Vec::new(),
    };
    let failed =
        |stack: ErrorStack| TlsError::openssl("tls.client_auth", "set up client verification", &stack);
    // The verify store, not the chain store: what is in that one goes out with our own certificate.
    context.set_verify_cert_store(trust::store(&roots, crls)?).map_err(failed)?;
    let demand = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    match settings.client_auth {
        ClientAuthMode::None => context.set_verify(SslVerifyMode::NONE),
        ClientAuthMode::Request => context.set_verify_callback(SslVerifyMode::PEER, |_, _| true),
        ClientAuthMode::Require => context.set_verify_callback(demand, |_, _| true),
        ClientAuthMode::Verify => {
            let allowed = settings.client_allowed_names.as_deref().map(AllowedNames::parse).transpose()?;
            context
                .set_verify_callback(demand, move |trusted, chain| judge(trusted, chain, allowed.as_ref()));
            roots.iter().try_for_each(|root| context.add_client_ca(root)).map_err(failed)?;
        }
    }
    Ok(())
}

/// A key that promises protection and would give none.
fn without_effect(settings: &ServerTls) -> Result<(), TlsError> {
    if settings.client_allowed_names.is_some() && settings.client_auth != ClientAuthMode::Verify {
        return Err(TlsError::new(
            "tls.client_allowed_names",
            "has no effect without tls.client_auth: verify",
        ));
    }
    if settings.crl_file.is_some() && settings.client_ca_file.is_none() {
        return Err(TlsError::new("tls.crl_file", "has no effect without tls.client_ca_file"));
    }
    Ok(())
}

fn judge(trusted: bool, chain: &mut X509StoreContextRef, allowed: Option<&AllowedNames>) -> bool {
    let is_let_in = || match (allowed, chain.current_cert()) {
        (Some(allowed), Some(leaf)) if chain.error_depth() == 0 => allowed.allow(leaf),
        _ => true,
    };
    if trusted && is_let_in() {
        return true;
    }
    if trusted {
        chain.set_error(ffi::certificate_rejected());
    }
    notes::refuse(chain);
    false
}
