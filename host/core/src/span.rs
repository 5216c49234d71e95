//! Lengths of time as people say them. One place for what the daemon and the command line tell, so that both say it alike.

use crate::Millis;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// A length of time by its two largest units, or by one where the other adds nothing: `24 h 40 min`.
#[must_use]
pub fn in_words(ms: Millis) -> String {
    match ms {
        ..SECOND => format!("{ms} ms"),
        // Tenths, where they tell something.
        SECOND..10_000 if ms % SECOND >= 100 => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        // Nobody reckons a minute and a half in two units.
        SECOND..120_000 => format!("{} s", ms / SECOND),
        120_000..HOUR => format!("{} min", ms / MINUTE),
        HOUR..172_800_000 => pair(ms / HOUR, "h", ms % HOUR / MINUTE, "min"),
        _ => pair(ms / DAY, "d", ms % DAY / HOUR, "h"),
    }
}

/// How long it is from `now` until a moment, rounded up to the second: whoever comes back then is not too early.
#[must_use]
pub fn until(moment: Millis, now: Millis) -> String {
    in_words(moment.saturating_sub(now).div_ceil(SECOND).max(1) * SECOND)
}

fn pair(large: u64, of_large: &str, small: u64, of_small: &str) -> String {
    match small {
        0 => format!("{large} {of_large}"),
        _ => format!("{large} {of_large} {small} {of_small}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_the_units_that_people_use() {
        let cases = [
            (0, "0 ms"),
            (7, "7 ms"),
            (4_000, "4 s"),
            (4_200, "4.2 s"),
            (61_000, "61 s"),
            (600_000, "10 min"),
            (3_599_999, "59 min"),
            (3_600_000, "1 h"),
            (5_400_000, "1 h 30 min"),
            (88_800_000, "24 h 40 min"),
            (172_800_000, "2 d"),
            (183_600_000, "2 d 3 h"),
            (864_000_000, "10 d"),
        ];
        for (ms, told) in cases {
            assert_eq!(in_words(ms), told);
        }
    }

    #[test]
    fn a_wait_is_never_told_too_short() {
        assert_eq!(until(10_001, 10_000), "1 s");
        assert_eq!(until(12_000, 10_000), "2 s");
        assert_eq!(until(12_001, 10_000), "3 s");
        assert_eq!(until(9_000, 10_000), "1 s", "it is over: now");
    }
}
