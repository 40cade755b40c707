//! Certificates made on the spot: a CA, and leaves of every kind.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use mcp_bridge::config::Identity;
use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::{BigNum, MsbOption},
    hash::MessageDigest,
    pkey::{Id, PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName},
    },
};
use tempfile::TempDir;

pub(crate) const DAY: i64 = 86_400;

/// A directory and the CA that signs what is put there.
pub(crate) struct Pki {
    pub(crate) dir: TempDir,
    pub(crate) root: Issued,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: X509,
    pub(crate) key: PKey<Private>,
}

/// What a leaf is to look like; the default is a good certificate of `srv.test` for both purposes.
#[derive(Clone)]
pub(crate) struct Leaf<'a> {
    pub(crate) cn: &'a str,
    /// `DNS:…`, `IP:…`, `URI:…`, `email:…`.
    pub(crate) names: &'a [&'a str],
    pub(crate) purposes: &'a [&'a str],
    /// Seconds from now.
    pub(crate) valid: (i64, i64),
    pub(crate) key: Kind,
    pub(crate) ca: bool,
    pub(crate) digest: MessageDigest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    P256,
    P384,
    P521,
    Rsa,
    RsaWeak,
    RsaPss,
    Ed25519,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        Self {
            cn: "srv.test",
            names: &["DNS:srv.test"],
            purposes: &["serverAuth", "clientAuth"],
            valid: (-DAY, 365 * DAY),
            key: Kind::P256,
            ca: false,
            digest: MessageDigest::sha256(),
        }
    }
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::named("Test Root")
    }

    pub(crate) fn named(cn: &str) -> Self {
        let root = issue(&Leaf { cn, names: &[], purposes: &[], ca: true, ..Leaf::default() }, None);
        let pki = Self { dir: tempfile::tempdir().unwrap(), root };
        pki.write("ca.pem", &pki.root.cert.to_pem().unwrap());
        pki
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        if path.extension().is_some_and(|extension| extension == "key") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> Issued {
        issue(leaf, Some(&self.root))
    }

    /// A leaf signed by the root, in files.
    pub(crate) fn identity(&self, name: &str, leaf: &Leaf<'_>) -> Identity {
        self.save(name, &self.issue(leaf), &[])
    }

    pub(crate) fn save(&self, name: &str, issued: &Issued, chain: &[&Issued]) -> Identity {
        let mut pem = issued.cert.to_pem().unwrap();
        for ca in chain {
            pem.extend(ca.cert.to_pem().unwrap());
        }
        Identity {
            cert_file: self.write(&format!("{name}.crt"), &pem),
            key_file: self.write(&format!("{name}.key"), &issued.key.private_key_to_pem_pkcs8().unwrap()),
            key_password: None,
        }
    }
}

/// A certificate signed by `issuer`, or by itself.
pub(crate) fn issue(leaf: &Leaf<'_>, issuer: Option<&Issued>) -> Issued {
    let key = new_key(leaf.key);
    let mut name = X509NameBuilder::new().unwrap();
    if !leaf.cn.is_empty() {
        name.append_entry_by_text("CN", leaf.cn).unwrap();
    }
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(100, MsbOption::ONE, false).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(issuer.map_or(&name, |issuer| issuer.cert.subject_name())).unwrap();
    builder.set_not_before(&from_now(leaf.valid.0)).unwrap();
    builder.set_not_after(&from_now(leaf.valid.1)).unwrap();
    builder.set_pubkey(&key).unwrap();
    extend(&mut builder, leaf, issuer);
    let signer = issuer.map_or(&key, |issuer| &issuer.key);
    let digest = if signer.id() == Id::ED25519 { MessageDigest::null() } else { leaf.digest };
    builder.sign(signer, digest).unwrap();
    Issued { cert: builder.build(), key }
}

fn extend(builder: &mut X509Builder, leaf: &Leaf<'_>, issuer: Option<&Issued>) {
    if leaf.ca {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder
            .append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap())
            .unwrap();
    }
    if !leaf.purposes.is_empty() {
        let mut usage = ExtendedKeyUsage::new();
        for purpose in leaf.purposes {
            usage.other(purpose);
        }
        builder.append_extension(usage.build().unwrap()).unwrap();
    }
    if !leaf.names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in leaf.names {
            let (kind, value) = name.split_once(':').unwrap();
            match kind {
                "DNS" => names.dns(value),
                "IP" => names.ip(value),
                "URI" => names.uri(value),
                _ => names.email(value),
            };
        }
        let context = builder.x509v3_context(issuer.map(|issuer| &*issuer.cert), None);
        let names = names.build(&context).unwrap();
        builder.append_extension(names).unwrap();
    }
}

fn from_now(seconds: i64) -> Asn1Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Asn1Time::from_unix(i64::try_from(now).unwrap() + seconds).unwrap()
}

fn new_key(kind: Kind) -> PKey<Private> {
    match kind {
        Kind::P256 => PKey::ec_gen("prime256v1").unwrap(),
        Kind::P384 => PKey::ec_gen("secp384r1").unwrap(),
        Kind::P521 => PKey::ec_gen("secp521r1").unwrap(),
        Kind::Rsa => PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
        Kind::RsaWeak => PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap(),
        Kind::RsaPss => pss_key(),
        Kind::Ed25519 => PKey::generate_ed25519().unwrap(),
    }
}

fn pss_key() -> PKey<Private> {
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output()
        .unwrap();
    PKey::private_key_from_pem(&made.stdout).unwrap()
}
