//! Certificate times as seconds, and as text that people and machines read alike.

use std::time::{Duration, SystemTime};

use openssl::asn1::{Asn1Time, Asn1TimeRef};

const DAY: i64 = 86_400;

/// Seconds since 1970; `None` for a date OpenSSL cannot read.
pub(super) fn unix(time: &Asn1TimeRef) -> Option<i64> {
    let since = Asn1Time::from_unix(0).ok()?.diff(time).ok()?;
    Some(i64::from(since.days) * DAY + i64::from(since.secs))
}

/// This machine's clock, in seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// How long until `at`; zero when it has passed.
pub(super) fn until(at: i64) -> Duration {
    Duration::from_secs(u64::try_from(at - now()).unwrap_or(0))
}

/// `2026-11-22T18:22:56Z` (RFC 3339).
pub(super) fn rfc3339(seconds: i64) -> String {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The same from a certificate, or OpenSSL's own words for a date that cannot be read.
pub(super) fn text(time: &Asn1TimeRef) -> String {
    unix(time).map_or_else(|| time.to_string(), rfc3339)
}

/// Days since 1970 → year, month, day of the Gregorian calendar, counted in eras of 400 years from 1 March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_372_976), "2026-11-22T18:42:56Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn certificate_times_become_seconds() {
        let time = Asn1Time::from_unix(1_795_372_976).unwrap();
        assert_eq!(unix(&time), Some(1_795_372_976));
    }
}
