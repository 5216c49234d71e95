//! HubSpot's limits of one account: the burst window that rolls, the day in the account's time zone, and the
//! seconds of the search endpoints.
//!
//! A window is kept in a hundred slots and one, so that counting costs the same whatever the limit; a slot is given back
//! only when all of it lies outside the window, so never more is let through than the real window would.

use serde::{Deserialize, Serialize};

/// How an account is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct QuotaSizes {
    /// Calls in any ten seconds, searches excluded.
    pub burst: u32,
    /// Calls in a day of the account; none for OAuth apps.
    pub daily: Option<u32>,
    /// Searches in any second.
    pub search: u32,
}

impl Default for QuotaSizes {
    fn default() -> Self {
        Self::PRIVATE
    }
}

impl QuotaSizes {
    /// A private app of a Professional account.
    pub const PRIVATE: Self = Self { burst: 190, daily: Some(650_000), search: 5 };
    /// An app that is installed with OAuth.
    pub const OAUTH: Self = Self { burst: 110, daily: None, search: 5 };
    /// As good as none, for load.
    pub const UNLIMITED: Self = Self { burst: 100_000_000, daily: None, search: 100_000_000 };
}

/// A hundredth of the window each, and one more, because the newest has only begun.
const SLOTS: usize = 101;

#[derive(Debug)]
struct Rolling {
    slot_ms: i64,
    slots: [u32; SLOTS],
    /// Number of the newest slot since 1970.
    head: i64,
    sum: u32,
}

impl Rolling {
    fn new(window_ms: i64) -> Self {
        Self { slot_ms: window_ms / (SLOTS as i64 - 1), slots: [0; SLOTS], head: 0, sum: 0 }
    }

    fn roll(&mut self, now: i64) {
        let head = now.div_euclid(self.slot_ms);
        let steps = head - self.head;
        if steps <= 0 {
            return;
        }
        if steps >= SLOTS as i64 {
            self.slots = [0; SLOTS];
            self.sum = 0;
        } else {
            for number in self.head + 1..=head {
                if let Some(slot) = self.slots.get_mut(number.rem_euclid(SLOTS as i64) as usize) {
                    self.sum -= *slot;
                    *slot = 0;
                }
            }
        }
        self.head = head;
    }

    fn take(&mut self, now: i64, limit: u32) -> bool {
        self.roll(now);
        if self.sum >= limit {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(self.head.rem_euclid(SLOTS as i64) as usize) {
            *slot += 1;
            self.sum += 1;
        }
        true
    }
}

/// Which limit a refused call ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Burst,
    Daily,
    Search,
}

/// What is left, for headers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remaining {
    pub(crate) burst: u32,
    pub(crate) burst_left: u32,
    pub(crate) daily: Option<(u32, u32)>,
}

#[derive(Debug)]
pub(crate) struct Quota {
    sizes: QuotaSizes,
    zone: jiff::tz::TimeZone,
    burst: Rolling,
    search: Rolling,
    today: u32,
    midnight: i64,
}

impl Quota {
    pub(crate) fn new(sizes: QuotaSizes, zone: jiff::tz::TimeZone) -> Self {
        Self {
            sizes,
            zone,
            burst: Rolling::new(10_000),
            search: Rolling::new(1_000),
            today: 0,
            midnight: i64::MIN,
        }
    }

    pub(crate) fn sizes(&self) -> QuotaSizes {
        self.sizes
    }

    pub(crate) fn resize(&mut self, sizes: QuotaSizes) {
        self.sizes = sizes;
    }

    /// Calls of today and when the day ends.
    pub(crate) fn today(&mut self, now: i64) -> (u32, i64) {
        if now >= self.midnight {
            self.today = 0;
            self.midnight = next_midnight(now, &self.zone);
        }
        (self.today, self.midnight)
    }

    /// Counts a call, or says which limit forbids it. A refused call counts for nothing.
    pub(crate) fn take(&mut self, now: i64, search: bool) -> Result<(), Limit> {
        let (today, _) = self.today(now);
        if self.sizes.daily.is_some_and(|daily| today >= daily) {
            return Err(Limit::Daily);
        }
        if search {
            if !self.search.take(now, self.sizes.search) {
                return Err(Limit::Search);
            }
        } else if !self.burst.take(now, self.sizes.burst) {
            return Err(Limit::Burst);
        }
        self.today += 1;
        Ok(())
    }

    pub(crate) fn remaining(&mut self, now: i64) -> Remaining {
        self.burst.roll(now);
        let (today, _) = self.today(now);
        Remaining {
            burst: self.sizes.burst,
            burst_left: self.sizes.burst.saturating_sub(self.burst.sum),
            daily: self.sizes.daily.map(|daily| (daily, daily.saturating_sub(today))),
        }
    }
}

/// The next midnight of a time zone; a day later if the calendar cannot say.
fn next_midnight(now: i64, zone: &jiff::tz::TimeZone) -> i64 {
    jiff::Timestamp::from_millisecond(now)
        .ok()
        .and_then(|at| at.to_zoned(zone.clone()).tomorrow().ok()?.start_of_day().ok())
        .map_or(now + 86_400_000, |midnight| midnight.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(burst: u32, daily: Option<u32>, zone: &str) -> Quota {
        Quota::new(QuotaSizes { burst, daily, search: 5 }, jiff::tz::TimeZone::get(zone).unwrap())
    }

    #[test]
    fn no_ten_seconds_hold_more_calls_than_the_burst() {
        let mut quota = quota(20, None, "UTC");
        let mut let_through = Vec::new();
        for step in 0..4000 {
            let now = 1_000_000_000_000 + step * 37;
            if quota.take(now, false).is_ok() {
                let_through.push(now);
            }
        }
        assert!(let_through.len() > 200);
        for start in &let_through {
            let inside = let_through.iter().filter(|t| **t >= *start && **t < start + 10_000).count();
            assert!(inside <= 20, "{inside} calls in the ten seconds from {start}");
        }
    }

    #[test]
    fn the_day_ends_at_midnight_of_the_account() {
        // 2026-03-08 03:30 UTC is 22:30 of the 7th in New York, where the clocks go forward that night.
        let mut quota = quota(1000, Some(3), "America/New_York");
        let evening = crate::clock::parse_instant("2026-03-08T03:30:00Z").unwrap();
        for _ in 0..3 {
            assert_eq!(quota.take(evening, false), Ok(()));
        }
        assert_eq!(quota.take(evening, false), Err(Limit::Daily));
        assert_eq!(quota.take(evening + 89 * 60_000, false), Err(Limit::Daily));
        assert_eq!(quota.take(evening + 90 * 60_000, false), Ok(()));
        let (_, next) = quota.today(evening + 90 * 60_000);
        assert_eq!(crate::clock::iso(next), "2026-03-09T04:00:00Z");
    }

    #[test]
    fn searches_have_a_window_of_their_own() {
        let mut quota = quota(1, None, "UTC");
        let now = 1_000_000_000_000;
        assert_eq!((0..9).filter(|_| quota.take(now, true).is_ok()).count(), 5);
        assert_eq!(quota.take(now, false), Ok(()));
        assert_eq!(quota.take(now, false), Err(Limit::Burst));
        assert_eq!(quota.take(now + 1_010, true), Ok(()));
    }
}
