//! `100ms`, `30s`, `5m`, `1h30m`.

use std::time::Duration;

const EXAMPLES: &str = "write for example 100ms, 30s, 5m or 1h30m";

/// Longer ones are mistakes, and could overflow a deadline.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

const UNITS: [(&str, u128); 4] =
    [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];

/// Reads a duration. The error continues a sentence that starts with the value.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("is negative; {EXAMPLES}"));
    }
    let (mut rest, mut nanos, mut smallest) = (text, 0_u128, u128::MAX);
    while !rest.is_empty() || smallest == u128::MAX {
        let (number, unit, after) = split(rest).ok_or_else(|| format!("is not a duration; {EXAMPLES}"))?;
        let unit = unit_nanos(unit)?;
        if unit >= smallest {
            return Err(format!("has its units out of order; {EXAMPLES}"));
        }
        nanos = nanos.saturating_add(times(number, unit).ok_or_else(|| format!("is too long; {EXAMPLES}"))?);
        (rest, smallest) = (after, unit);
    }
    match u64::try_from(nanos).map(Duration::from_nanos) {
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(format!("is longer than a year; {EXAMPLES}")),
    }
}

/// `1h30m` → `1`, `h`, `30m`.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    (number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.'))
        .then_some((number, unit, rest))
}

fn unit_nanos(unit: &str) -> Result<u128, String> {
    if unit.is_empty() {
        return Err(format!("has no unit; {EXAMPLES}"));
    }
    let known = UNITS.iter().find(|(name, _)| *name == unit);
    known.map(|(_, nanos)| *nanos).ok_or_else(|| format!("has an unknown unit; {EXAMPLES}"))
}

/// `1.5` × an hour. At most nine decimals, so that nothing is rounded away unseen.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let whole = u128::from(whole.parse::<u64>().ok()?).checked_mul(unit)?;
    let fraction = u128::from(fraction.parse::<u64>().ok()?).checked_mul(unit)? / scale;
    whole.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_durations_are_read() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("1.5s", 1_500),
            ("8760h", 31_536_000_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn bad_durations_say_how_to_write_one() {
        let cases = [
            ("", "is not a duration"),
            ("s", "is not a duration"),
            ("30", "has no unit"),
            ("1h30", "has no unit"),
            ("-5s", "is negative"),
            ("+5s", "is not a duration"),
            ("5 s", "has an unknown unit"),
            ("5sec", "has an unknown unit"),
            ("5S", "has an unknown unit"),
            ("5µs", "has an unknown unit"),
            ("1m1h", "out of order"),
            ("1s1s", "out of order"),
            ("1..5s", "is too long"),
            ("1.s", "is not a duration"),
            ("9999999h", "longer than a year"),
            ("99999999999999999999999h", "is too long"),
            ("18446744073709551615h", "longer than a year"),
        ];
        for (text, message) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message) && error.contains("1h30m"), "{text}: {error}");
        }
    }
}
