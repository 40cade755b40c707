//! The little cryptography outside TLS, by OpenSSL's EVP calls so that a FIPS provider serves it too.

use std::fmt;

use openssl::{
    error::ErrorStack,
    hash::MessageDigest,
    memcmp,
    pkey::{PKey, Private},
    sign::Signer,
};

/// Bytes of randomness in an identifier that must not be guessed.
const ID_BYTES: usize = 32;

/// A new identifier that can't be guessed: 256 random bits in hexadecimal.
///
/// Source: `RAND_bytes(3ssl)`.
pub fn random_id() -> Result<String, ErrorStack> {
    let mut bytes = [0u8; ID_BYTES];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(hex(&bytes))
}

/// A fraction, at least 0 and less than 1, that differs each time.
pub fn random_fraction() -> Result<f64, ErrorStack> {
    let mut bytes = [0u8; 4];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}

/// The SHA-256 digest of `data` (FIPS 180-4).
pub fn sha256(data: &[u8]) -> Result<[u8; 32], ErrorStack> {
    let digest = openssl::hash::hash(MessageDigest::sha256(), data)?;
    let mut out = [0u8; 32];
    out.copy_from_slice(&digest);
    Ok(out)
}

/// Whether two digests are equal, in a time that does not depend on where they differ.
pub fn digests_match(a: &[u8; 32], b: &[u8; 32]) -> bool {
    memcmp::eq(a, b)
}

/// A key that nobody else has, to know again what was given away.
pub struct MacKey(PKey<Private>);

impl MacKey {
    /// A new key: 256 random bits.
    pub fn random() -> Result<Self, ErrorStack> {
        let mut bytes = [0u8; ID_BYTES];
        openssl::rand::rand_bytes(&mut bytes)?;
        PKey::hmac(&bytes).map(Self)
    }

    /// The HMAC-SHA-256 of `data` (FIPS 198-1).
    pub fn tag(&self, data: &[u8]) -> Result<[u8; 32], ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.0)?;
        let mut out = [0u8; 32];
        signer.sign_oneshot(&mut out, data)?;
        Ok(out)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The bytes that lower-case hexadecimal stands for.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_and_differ() {
        let (a, b) = (random_id().unwrap(), random_id().unwrap());
        assert_eq!(a.len(), 2 * ID_BYTES);
        assert_ne!(a, b);
    }

    #[test]
    fn digest_is_the_standards() {
        let digest = sha256(b"abc").unwrap();
        assert!(hex(&digest).starts_with("ba7816bf8f01cfea"));
        assert!(digests_match(&digest, &sha256(b"abc").unwrap()));
        assert!(!digests_match(&digest, &sha256(b"abd").unwrap()));
    }

    #[test]
    fn a_tag_depends_on_key_and_data() {
        let (a, b) = (MacKey::random().unwrap(), MacKey::random().unwrap());
        assert_eq!(a.tag(b"x").unwrap(), a.tag(b"x").unwrap());
        assert_ne!(a.tag(b"x").unwrap(), a.tag(b"y").unwrap());
        assert_ne!(a.tag(b"x").unwrap(), b.tag(b"x").unwrap());
        // RFC 4231, test case 2.
        let known = MacKey(PKey::hmac(b"Jefe").unwrap());
        let tag = known.tag(b"what do ya want for nothing?").unwrap();
        assert!(hex(&tag).starts_with("5bdcc146bf60754e6a042426089575c7"));
    }

    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        assert_eq!(unhex(&hex(&[0, 1, 0xab, 0xff])), Some(vec![0, 1, 0xab, 0xff]));
        for text in ["0", "0g", "AB", "é"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
