//! `64KiB`, `10MiB`, or bytes.

const EXAMPLES: &str = "write for example 64KiB, 10MiB, or a number of bytes";

const UNITS: [(&str, usize); 5] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a size in bytes. The error continues a sentence that starts with the value.
pub(super) fn parse(text: &str) -> Result<usize, String> {
    if text.starts_with('-') {
        return Err(format!("is negative; {EXAMPLES}"));
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if number.is_empty() {
        return Err(format!("is not a size; {EXAMPLES}"));
    }
    let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("has an unknown unit; {EXAMPLES}"));
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(*unit));
    bytes.ok_or_else(|| format!("is too large; {EXAMPLES}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_sizes_are_read() {
        let cases = [("0", 0), ("1024", 1024), ("12B", 12), ("64KiB", 65_536), ("10MiB", 10 << 20)];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_sizes_say_how_to_write_one() {
        let cases = [
            ("", "is not a size"),
            ("MiB", "is not a size"),
            ("-1", "is negative"),
            ("10MB", "unknown unit"),
            ("10 MiB", "unknown unit"),
            ("1.5MiB", "unknown unit"),
            ("10mib", "unknown unit"),
            ("99999999999999999999999", "too large"),
            ("18446744073709551615KiB", "too large"),
        ];
        for (text, message) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message) && error.contains("10MiB"), "{text}: {error}");
        }
    }
}
