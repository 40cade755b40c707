//! FIPS mode: asked for, switched on where the platform has not done it, and proven.

use std::{fmt, sync::Mutex};

use openssl::{md::Md, provider::Provider};

use super::{
    error::{TlsError, words},
    ffi,
};

const KEY: &str = "tls.fips";
const INSTALL: &str = "install and enable the FIPS provider: on RHEL boot with fips=1 (fips-mode-setup --enable); elsewhere \
     install the module, run openssl fipsinstall, and name it with OPENSSL_CONF";

/// Evidence that OpenSSL serves approved algorithms only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FipsProof {
    /// The provider's own name, for example `Red Hat Enterprise Linux 9 - OpenSSL FIPS Provider`.
    pub provider: String,
    /// Its version, the one on the validation certificate.
    pub version: String,
}

impl fmt::Display for FipsProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.provider, self.version)
    }
}

/// Puts the process into FIPS mode, or finds it there, and proves it: SHA-256 comes from the `fips` provider
/// and MD5 does not come at all.
pub fn require() -> Result<FipsProof, TlsError> {
    if !ffi::fips_is_default() {
        switch_on()?;
    }
    prove().map_err(|what| TlsError::new(KEY, what).hint(INSTALL))
}

/// The proof when FIPS mode is in force, whoever switched it on; changes nothing.
pub fn status() -> Option<FipsProof> {
    is_active().then(prove)?.ok()
}

/// Whether only approved algorithms are demanded; that they work is another question, see [`status`].
pub(super) fn is_active() -> bool {
    ffi::fips_is_default()
}

/// Providers unload when their handle goes: these stay.
static LOADED: Mutex<Vec<Provider>> = Mutex::new(Vec::new());

fn switch_on() -> Result<(), TlsError> {
    // `base` has the decoders that read keys.
    for name in ["fips", "base"] {
        let provider = Provider::load(None, name).map_err(|stack| {
            let what =
                format!("FIPS mode is required, and the provider {name:?} does not load: {}", words(&stack));
            TlsError::new(KEY, what).hint(INSTALL)
        })?;
        LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(provider);
    }
    ffi::demand_fips().map_err(|stack| TlsError::openssl(KEY, "switch FIPS mode on", &stack))
}

fn prove() -> Result<FipsProof, String> {
    if !ffi::provider_available("fips") {
        return Err("FIPS mode is demanded, and the provider \"fips\" is not available".to_owned());
    }
    let sha256 = Md::fetch(None, "SHA256", None)
        .map_err(|stack| format!("FIPS mode is on, and SHA-256 does not work: {}", words(&stack)))?;
    let (id, name, version) = ffi::provider_of(&sha256).unwrap_or_default();
    if id != "fips" {
        return Err(format!("FIPS mode is on, and SHA-256 comes from the provider {id:?}"));
    }
    if Md::fetch(None, "MD5", None).is_ok() {
        return Err("FIPS mode is on, and MD5, which is not approved, still works".to_owned());
    }
    Ok(FipsProof { provider: name.unwrap_or(id), version: version.unwrap_or_default() })
}
