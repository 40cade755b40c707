//! The little cryptography outside TLS, by OpenSSL's EVP calls so that a FIPS provider serves it too.

use openssl::{error::ErrorStack, hash::MessageDigest, memcmp};

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

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
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
}
