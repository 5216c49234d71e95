//! The simulated clock: the machine's time plus an offset that the control API can advance.
//!
//! Everything that HubSpot would judge by the hour (quotas, token expiry, record times, the search index) reads
//! this clock. Network time-outs and the delays of webhooks run on real time. The offset only ever grows.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970, with an offset.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset: AtomicI64,
}

impl Clock {
    /// Simulated milliseconds since 1970 (UTC).
    pub(crate) fn now(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        i64::try_from(real).unwrap_or(i64::MAX).saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Moves the clock forward and returns the new total offset in milliseconds.
    pub(crate) fn advance(&self, by_ms: u32) -> i64 {
        self.offset.fetch_add(i64::from(by_ms), Ordering::Relaxed) + i64::from(by_ms)
    }
}

/// A moment as headers have it, to the second: `Sat, 31 Jan 2026 10:00:00 GMT`.
pub(crate) fn http_date(ms: i64) -> Option<String> {
    let at = jiff::Timestamp::from_second(ms.div_euclid(1_000)).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

/// `2026-01-31T10:00:00.123Z`; the fraction is left out when it is zero, as `java.time.Instant` prints it.
pub(crate) fn iso(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let (hour, minute, second, milli) =
        (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    if milli == 0 {
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    } else {
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// `2026-01-31` of a moment in UTC.
pub(crate) fn iso_date(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// Whether the moment is midnight in UTC.
pub(crate) fn is_midnight(ms: i64) -> bool {
    ms.rem_euclid(DAY_MS) == 0
}

/// Milliseconds of a `YYYY-MM-DD` day's midnight in UTC, or none when there is no such day.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    if text.len() != 10 {
        return None;
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// Milliseconds of an ISO-8601 instant with `Z` or an offset.
pub(crate) fn parse_instant(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_printed_as_java_prints_them_and_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (-86_400_000, "1969-12-31T00:00:00Z"),
            (4_102_444_800_120, "2100-01-01T00:00:00.120Z"),
        ] {
            assert_eq!(iso(ms), text);
            assert_eq!(parse_instant(text), Some(ms));
        }
        assert_eq!(parse_date("2024-02-29"), Some(1_709_164_800_000));
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(iso_date(1_709_164_800_000), "2024-02-29");
    }
}
