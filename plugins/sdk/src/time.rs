//! Calendar arithmetic on the proleptic Gregorian calendar, without a clock and without time zones.

use crate::Millis;

/// Milliseconds of a day.
pub const DAY: i64 = 86_400_000;

/// Days since 1970-01-01 of a date; none when there is no such date. Years 0 to 9999.
#[must_use]
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(0..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=month_length(year, month)).contains(&day)
    {
        return None;
    }
    // Years begin in March, so that the leap day is a year's last (Hinnant, "chrono-compatible low-level date algorithms").
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Year, month and day of a number of days since 1970-01-01.
#[must_use]
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Digits of a fixed width.
fn digits(text: &str, from: usize, to: usize) -> Option<i64> {
    let part = text.get(from..to)?;
    if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    part.parse().ok()
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
#[must_use]
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    days(digits(text, 0, 4)?, digits(text, 5, 7)?, digits(text, 8, 10)?)
}

/// `YYYY-MM-DD` of days since 1970-01-01; none outside the years 0 to 9999.
#[must_use]
pub fn format_date(number: i64) -> Option<String> {
    if !(-719_528..=2_932_896).contains(&number) {
        return None;
    }
    let (year, month, day) = civil(number);
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// Milliseconds since the epoch of a date and time with `Z` or an offset (`+01:00`, `+0100`). Digits beyond milliseconds are
/// cut. A leap second counts as the second before it.
#[must_use]
pub fn parse_datetime(text: &str) -> Option<i64> {
    let day = parse_date(text.get(..10)?)?;
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let hour = digits(text, 11, 13)?;
    let minute = digits(text, 14, 16)?;
    let second = digits(text, 17, 19)?.min(59);
    if text.get(13..14) != Some(":") || text.get(16..17) != Some(":") || hour > 23 || minute > 59 {
        return None;
    }
    if digits(text, 17, 19)? > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        let kept = fraction.get(..length.min(3))?;
        millis = kept.parse::<i64>().ok()? * [100, 10, 1].get(kept.len() - 1)?;
        rest = fraction.get(length..)?;
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = match rest.as_bytes().first() {
                Some(b'+') => 1,
                Some(b'-') => -1,
                _ => return None,
            };
            let hours = digits(rest, 1, 3)?;
            let minutes = match rest.len() {
                6 if rest.get(3..4) == Some(":") => digits(rest, 4, 6)?,
                5 => digits(rest, 3, 5)?,
                3 => 0,
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 60 + minutes) * 60_000
        }
    };
    Some(day * DAY + ((hour * 60 + minute) * 60 + second) * 1000 + millis - offset)
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, without the fraction when it is zero; none outside the years 0 to 9999.
#[must_use]
pub fn format_datetime(millis: i64) -> Option<String> {
    let date = format_date(millis.div_euclid(DAY))?;
    let of_day = millis.rem_euclid(DAY);
    let (hour, minute, second, fraction) =
        (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    Some(if fraction == 0 {
        format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
    } else {
        format!("{date}T{hour:02}:{minute:02}:{second:02}.{fraction:03}Z")
    })
}

/// As HTTP headers have it (`Sun, 06 Nov 1994 08:49:37 GMT`): what is below a second is cut. For `If-Unmodified-Since`; RFC 9110,
/// section 5.6.7.
#[must_use]
pub fn format_http_date(millis: i64) -> Option<String> {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = millis.div_euclid(DAY);
    let (year, month, day) = civil(days);
    let weekday = DAYS.get(usize::try_from(days.rem_euclid(7)).ok()?)?;
    let month = MONTHS.get(usize::try_from(month - 1).ok()?)?;
    let of_day = millis.rem_euclid(DAY);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"))
}

/// A stamp for an observation: milliseconds since the epoch of an ISO time or of digits.
#[must_use]
pub fn stamp(text: &str) -> Option<Millis> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    u64::try_from(parse_datetime(text)?).ok()
}

/// The first midnight after `now` where clocks are `offset_ms` ahead of UTC.
#[must_use]
pub fn next_midnight(now: Millis, offset_ms: i64) -> Millis {
    let local = i64::try_from(now).unwrap_or(i64::MAX / 2) + offset_ms;
    u64::try_from((local.div_euclid(DAY) + 1) * DAY - offset_ms).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_http_headers_name_the_day_and_cut_what_is_below_a_second() {
        for (millis, text) in [
            (784_111_777_999, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (951_782_400_000, "Tue, 29 Feb 2000 00:00:00 GMT"),
        ] {
            assert_eq!(format_http_date(millis).as_deref(), Some(text));
        }
        assert_eq!(format_http_date(253_402_300_800_000), None, "the year 10000");
    }

    #[test]
    fn dates_go_there_and_back() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("1969-12-31", -1),
            ("0000-01-01", -719_528),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(parse_date(text), Some(number), "{text}");
            assert_eq!(format_date(number).as_deref(), Some(text));
        }
        let mut number = -719_528;
        while number <= 2_932_896 {
            assert_eq!(parse_date(&format_date(number).unwrap()), Some(number));
            number += 97;
        }
        for text in [
            "2001-02-29",
            "1900-02-29",
            "2020-13-01",
            "2020-00-10",
            "2020-1-1",
            "20200101",
            "2020-01-32",
            "2020-01-+1",
        ] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_with_any_offset() {
        let expected = Some(1_572_480_000_123);
        for text in [
            "2019-10-31T00:00:00.123Z",
            "2019-10-31T01:00:00.123+01:00",
            "2019-10-30T19:00:00.1239-0500",
            "2019-10-31 00:00:00.123456789z",
        ] {
            assert_eq!(parse_datetime(text), expected, "{text}");
        }
        for text in [
            "2019-10-31T00:00:00",
            "2019-10-31",
            "2019-10-31T24:00:00Z",
            "2019-10-31T00:00:00.Z",
            "2019-10-31T00:61:00Z",
        ] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
        assert_eq!(format_datetime(1_572_480_000_123).as_deref(), Some("2019-10-31T00:00:00.123Z"));
        assert_eq!(format_datetime(-1).as_deref(), Some("1969-12-31T23:59:59.999Z"));
        assert_eq!(stamp("1572480000123"), Some(1_572_480_000_123));
    }

    #[test]
    fn midnight_is_the_accounts() {
        let noon = 1_572_523_200_000; // 2019-10-31T12:00:00Z
        assert_eq!(next_midnight(noon, 0), 1_572_566_400_000);
        assert_eq!(next_midnight(noon, 3_600_000), 1_572_562_800_000);
        assert_eq!(next_midnight(noon, -18_000_000), 1_572_584_400_000);
        assert_eq!(next_midnight(1_572_566_400_000, 0), 1_572_652_800_000);
    }
}
