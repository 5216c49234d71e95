//! Moments as people write them.

use tandem_core::Millis;

/// A moment: RFC 3339 (`2026-11-26T09:30:00Z`), milliseconds since 1970, or how long before now: `-90s`, `-10m`, `-2h`, `-3d`.
///
/// # Errors
/// It is none of these; the text says how to write it.
pub fn moment(text: &str, now: Millis) -> Result<Millis, String> {
    let wrong = || {
        format!(
            "{text:?} is no moment; write it as 2026-11-26T09:30:00Z, or as a time before now: -90s, -10m, -2h, -3d"
        )
    };
    if let Some(ago) = text.strip_prefix('-') {
        let (number, unit) = ago.split_at_checked(ago.len().saturating_sub(1)).ok_or_else(wrong)?;
        let unit: u64 = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        return Ok(now.saturating_sub(number.saturating_mul(unit)));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| wrong());
    }
    let stamp: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(stamp.as_millisecond()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = 1_795_392_000_000;
        for (text, wanted) in [
            ("2026-11-23T00:00:00Z", now),
            ("2026-11-23T01:00:00.250+01:00", now + 250),
            ("1795392000007", now + 7),
            ("-0s", now),
            ("-90s", now - 90_000),
            ("-10m", now - 600_000),
            ("-2h", now - 7_200_000),
            ("-3d", now - 259_200_000),
            ("-999999999999999999d", 0),
        ] {
            assert_eq!(moment(text, now), Ok(wanted), "{text}");
        }
        for text in [
            "",
            "-",
            "-2",
            "-h",
            "-2w",
            "-2 h",
            "--2h",
            "yesterday",
            "2026-11-23",
            "2026-11-23T00:00:00",
            "99999999999999999999",
            "-1\u{e4}",
        ] {
            let wrong = moment(text, now).unwrap_err();
            assert!(wrong.contains("-2h"), "{text}: {wrong}");
        }
    }
}
