//! What is trusted: roots from a file or a directory, and revocation lists.

use std::path::{Path, PathBuf};

use openssl::{
    error::ErrorStack,
    x509::{
        X509, X509Crl,
        store::{X509Store, X509StoreBuilder, X509StoreBuilderRef},
        verify::X509VerifyFlags,
    },
};

use super::{
    certificate,
    error::{TlsError, read, words},
    ffi, time,
};

const CRL: &str = "tls.crl_file";

/// The certificates of a file, or of every `*.pem` and `*.crt` of a directory; at least one.
///
/// A directory is read file by file: OpenSSL's own lookup trusts nothing, in silence, unless the names are hashes.
pub(super) fn certificates(key: &'static str, path: &Path) -> Result<Vec<X509>, TlsError> {
    if !path.is_dir() {
        return file(key, path);
    }
    let mut found = Vec::new();
    for file in
        files(path).map_err(|error| TlsError::new(key, format!("cannot be listed: {error}")).file(path))?
    {
        found.extend(self::file(key, &file)?);
    }
    if found.is_empty() {
        let error = TlsError::new(key, "the directory has no *.pem or *.crt file with a certificate");
        return Err(error.file(path).hint("put CA certificates in PEM form there"));
    }
    Ok(found)
}

/// The certificate files of a directory, sorted, so that two loads see the same order.
pub(super) fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let fits = path.extension().is_some_and(|end| end == "pem" || end == "crt");
        if fits && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The certificates of a file; at least one.
pub(super) fn file(key: &'static str, path: &Path) -> Result<Vec<X509>, TlsError> {
    let pem = read(key, path)?;
    let certificates = X509::stack_from_pem(&pem).map_err(|stack| {
        TlsError::new(key, format!("a certificate cannot be read: {}", words(&stack)))
            .file(path)
            .hint("check that each block of the file is complete")
    })?;
    if certificates.is_empty() { Err(not_pem(key, path, &pem)) } else { Ok(certificates) }
}

/// The file has none of what it should have.
pub(super) fn no_certificate(key: &'static str, path: &Path) -> TlsError {
    TlsError::new(key, "holds no certificate in PEM form").file(path)
}

fn not_pem(key: &'static str, path: &Path, bytes: &[u8]) -> TlsError {
    let error = no_certificate(key, path);
    let text = String::from_utf8_lossy(bytes);
    if text.contains("PRIVATE KEY") {
        error.hint("it holds a private key: are tls.cert_file and tls.key_file swapped?")
    } else if bytes.first() == Some(&0x30) {
        error.hint("it looks like DER: convert it with openssl x509 -inform DER")
    } else {
        error.hint("expected is a block that begins with -----BEGIN CERTIFICATE-----")
    }
}

/// What is odd about a set of roots.
pub(super) fn warnings(key: &'static str, path: &Path, roots: &[X509]) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_anchor = |root: &X509| root.issued(root) == openssl::x509::X509VerifyResult::OK;
    if !roots.iter().any(is_anchor) {
        warnings.push(format!(
            "{key} {}: no self-signed certificate: an intermediate alone is no anchor of trust",
            path.display()
        ));
    }
    let expired = |root: &&X509| time::unix(root.not_after()).is_some_and(|end| end < time::now());
    for root in roots.iter().filter(expired) {
        warnings.push(format!(
            "{key} {}: {} expired on {}",
            path.display(),
            certificate::shown(root.subject_name()),
            time::text(root.not_after())
        ));
    }
    warnings
}

/// A store of its own with exactly these roots.
pub(super) fn store(roots: &[X509], crls: Option<&Crls>) -> Result<X509Store, TlsError> {
    let build = || -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for root in roots {
            store.add_cert(root.clone())?;
        }
        if let Some(crls) = crls {
            crls.put_in(&mut store)?;
        }
        Ok(store.build())
    };
    build().map_err(|stack| TlsError::openssl("tls", "build the store of trusted certificates", &stack))
}

/// Revocation lists, current or not.
pub(super) struct Crls {
    lists: Vec<X509Crl>,
    /// The earliest moment at which one of them becomes stale; `None` when none says.
    pub(super) next_update: Option<i64>,
}

impl Crls {
    pub(super) fn load(path: &Path) -> Result<Self, TlsError> {
        let pem = String::from_utf8_lossy(&read(CRL, path)?).into_owned();
        let lists = blocks(&pem)
            .map(|block| X509Crl::from_pem(block.as_bytes()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|stack| {
                TlsError::new(CRL, format!("a revocation list cannot be read: {}", words(&stack))).file(path)
            })?;
        if lists.is_empty() {
            return Err(TlsError::new(CRL, "holds no revocation list in PEM form")
                .file(path)
                .hint("expected is a block that begins with -----BEGIN X509 CRL-----; convert DER with openssl crl -inform DER"));
        }
        let next_update = lists.iter().filter_map(|list| time::unix(list.next_update()?)).min();
        Ok(Self { lists, next_update })
    }

    /// Whether one of them is stale: handshakes that need it fail.
    pub(super) fn expired(&self) -> bool {
        self.next_update.is_some_and(|at| at < time::now())
    }

    /// When the contexts must be built anew, so that no session outlives the list it was judged by.
    pub(super) fn rebuild_at(&self) -> Option<i64> {
        let updates = self.lists.iter().filter_map(|list| time::unix(list.next_update()?));
        updates.filter(|&at| at >= time::now()).min()
    }

    pub(super) fn warnings(&self, path: &Path) -> Vec<String> {
        let stale = self
            .lists
            .iter()
            .filter(|list| list.next_update().and_then(time::unix).is_some_and(|at| at < time::now()));
        stale
            .map(|list| {
                format!(
                    "{CRL} {}: the list of {} expired on {}: handshakes that need it fail",
                    path.display(),
                    certificate::shown(list.issuer_name()),
                    list.next_update().map(time::text).unwrap_or_default()
                )
            })
            .collect()
    }

    /// Adds the lists, and demands a current one from every CA of a chain.
    pub(super) fn put_in(&self, store: &mut X509StoreBuilderRef) -> Result<(), ErrorStack> {
        for list in &self.lists {
            ffi::add_crl(store, list)?;
        }
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)
    }
}

/// The PEM blocks that hold revocation lists.
fn blocks(pem: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "-----BEGIN X509 CRL-----";
    pem.match_indices(BEGIN).map(|(at, _)| {
        let rest = &pem[at..];
        let end = rest[BEGIN.len()..].find(BEGIN).map_or(rest.len(), |end| end + BEGIN.len());
        &rest[..end]
    })
}
