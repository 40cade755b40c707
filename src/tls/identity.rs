//! A certificate chain and its private key: read, matched, put on a context. Never a prompt on the terminal.

use std::{os::unix::fs::PermissionsExt, path::Path};

use openssl::{
    error::ErrorStack,
    pkey::{Id, PKey, Private},
    ssl::SslContextBuilder,
    x509::X509,
};

use super::{
    certificate,
    ciphers::KeyKind,
    error::{TlsError, read, words},
    ffi, fips, time, trust,
};
use crate::config::{Identity, KeyPassword};

const CERT: &str = "tls.cert_file";
const KEY: &str = "tls.key_file";

/// A certificate, what it is sent with, and its key.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) leaf: X509,
    chain: Vec<X509>,
    key: PKey<Private>,
    files: Identity,
    pub(super) warnings: Vec<String>,
}

impl Loaded {
    pub(super) fn load(identity: &Identity) -> Result<Self, TlsError> {
        let mut certificates = trust::file(CERT, &identity.cert_file)?.into_iter();
        let leaf = certificates.next().ok_or_else(|| trust::no_certificate(CERT, &identity.cert_file))?;
        let key = private_key(identity)?;
        if !leaf.public_key().is_ok_and(|public| public.public_eq(&key)) {
            return Err(mismatch(identity, &leaf));
        }
        let chain: Vec<X509> = certificates.collect();
        let mut warnings = judge(identity, &leaf, &chain);
        warnings.extend(readable_by_others(KEY, &identity.key_file));
        if let Some(KeyPassword::File(file)) = &identity.key_password {
            warnings.extend(readable_by_others("tls.key_password_file", file));
        }
        Ok(Self { leaf, chain, key, files: identity.clone(), warnings })
    }

    pub(super) fn put_on(&self, context: &mut SslContextBuilder) -> Result<(), TlsError> {
        let refused = |key, file: &Path, stack: &ErrorStack| {
            TlsError::new(key, format!("OpenSSL refuses it: {}", words(stack)))
                .file(file)
                .hint("its key or digest may be too weak for the platform's security level, or its kind not supported")
        };
        context.set_certificate(&self.leaf).map_err(|stack| refused(CERT, &self.files.cert_file, &stack))?;
        for certificate in &self.chain {
            ffi::add_chain_certificate(context, certificate)
                .map_err(|stack| refused(CERT, &self.files.cert_file, &stack))?;
        }
        context
            .set_private_key(&self.key)
            .and_then(|()| context.check_private_key())
            .map_err(|stack| refused(KEY, &self.files.key_file, &stack))
    }

    pub(super) fn kind(&self) -> KeyKind {
        match self.key.id() {
            Id::RSA => KeyKind::Rsa,
            Id::RSA_PSS => KeyKind::RsaPss,
            Id::EC | Id::ED25519 | Id::ED448 => KeyKind::Ec,
            _ => KeyKind::Other,
        }
    }
}

/// Loads each identity; OpenSSL keeps one certificate for each type of key, the last.
pub(super) fn load_all(identities: &[Identity]) -> Result<Vec<Loaded>, TlsError> {
    let loaded = identities.iter().map(Loaded::load).collect::<Result<Vec<_>, _>>()?;
    for (at, identity) in loaded.iter().enumerate() {
        if loaded[..at].iter().any(|earlier| earlier.key.id() == identity.key.id()) {
            let what = format!("a second certificate with a key of type {}", key_type(&identity.key));
            return Err(TlsError::new(CERT, what)
                .file(&identity.files.cert_file)
                .hint("several certificates serve clients with different signature algorithms: one for each type of key"));
        }
    }
    Ok(loaded)
}

fn private_key(identity: &Identity) -> Result<PKey<Private>, TlsError> {
    let path = &identity.key_file;
    let pem = read(KEY, path)?;
    let password = password(identity)?;
    ffi::forbid_prompts();
    let mut asked = false;
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked = true;
        let Some(password) = &password else { return Err(ErrorStack::get()) };
        let room = buffer.get_mut(..password.len()).ok_or_else(ErrorStack::get)?;
        room.copy_from_slice(password);
        Ok(password.len())
    });
    key.map_err(|stack| unreadable_key(&pem, path, asked, password.is_some(), &stack))
}

fn password(identity: &Identity) -> Result<Option<Vec<u8>>, TlsError> {
    match &identity.key_password {
        None => Ok(None),
        Some(KeyPassword::Plain(password)) => Ok(Some(password.expose().as_bytes().to_vec())),
        Some(KeyPassword::File(path)) => {
            let bytes = read("tls.key_password_file", path)?;
            let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
            Ok(Some(line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
        }
    }
}

fn unreadable_key(pem: &[u8], path: &Path, asked: bool, has_password: bool, stack: &ErrorStack) -> TlsError {
    let error = |what: &str| TlsError::new(KEY, what).file(path);
    let text = String::from_utf8_lossy(pem);
    if asked || text.contains("ENCRYPTED") {
        return if !has_password {
            error("the key is encrypted, and no password is configured")
                .hint("set tls.key_password_file or tls.key_password")
        } else if fips::is_active() && !text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            error("the key's encryption is not approved in FIPS mode")
                .hint("convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256")
        } else {
            error(&format!("the configured password does not open the key: {}", words(stack)))
                .hint("check tls.key_password or tls.key_password_file")
        };
    }
    if !text.contains("PRIVATE KEY") {
        return error("holds no private key in PEM form").hint(if text.contains("CERTIFICATE") {
            "it holds a certificate: are tls.cert_file and tls.key_file swapped?"
        } else {
            "expected is a block that begins with -----BEGIN PRIVATE KEY-----"
        });
    }
    error(&format!("the private key cannot be read: {}", words(stack)))
        .hint("check that the file is complete")
}

fn mismatch(identity: &Identity, leaf: &X509) -> TlsError {
    let what = format!(
        "the key does not belong to the certificate of tls.cert_file {} ({})",
        identity.cert_file.display(),
        certificate::shown(leaf.subject_name())
    );
    TlsError::new(KEY, what)
        .file(&identity.key_file)
        .hint("the server's own certificate must come first in tls.cert_file, and the key be the one it was made with")
}

/// A warning about a secret that every user of the machine may read.
fn readable_by_others(key: &str, path: &Path) -> Option<String> {
    const OTHERS_READ: u32 = 0o004;
    let mode = path.metadata().ok()?.permissions().mode();
    (mode & OTHERS_READ != 0).then(|| {
        let file = path.display();
        format!(
            "{key} {file}: every user of this machine can read it (mode {:04o}); run chmod o= {file}",
            mode & 0o7777
        )
    })
}

fn judge(identity: &Identity, leaf: &X509, chain: &[X509]) -> Vec<String> {
    let mut warnings = Vec::new();
    let file = identity.cert_file.display();
    let now = time::now();
    if time::unix(leaf.not_after()).is_some_and(|end| end < now) {
        warnings.push(format!("{CERT} {file}: the certificate expired on {}", time::text(leaf.not_after())));
    }
    if time::unix(leaf.not_before()).is_some_and(|start| start > now) {
        warnings.push(format!(
            "{CERT} {file}: the certificate is not valid before {}",
            time::text(leaf.not_before())
        ));
    }
    let mut issued = leaf;
    for (at, issuer) in chain.iter().enumerate() {
        if issuer.issued(issued) != openssl::x509::X509VerifyResult::OK {
            warnings.push(format!(
                "{CERT} {file}: certificate {} of the file did not issue the one before it; peers may refuse the chain",
                at + 2
            ));
            break;
        }
        issued = issuer;
    }
    warnings
}

/// `RSA`, `RSA-PSS`, `ECDSA`, `Ed25519` …
pub(super) fn key_type<T: openssl::pkey::HasPublic>(key: &PKey<T>) -> &'static str {
    match key.id() {
        Id::RSA => "RSA",
        Id::RSA_PSS => "RSA-PSS",
        Id::EC => "ECDSA",
        Id::ED25519 => "Ed25519",
        Id::ED448 => "Ed448",
        Id::DSA => "DSA",
        _ => "unknown",
    }
}
