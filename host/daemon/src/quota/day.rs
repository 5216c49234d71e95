//! So many units in a day of the account's time zone.
//!
//! A call may be counted a little after it was sent, and clocks differ: the old day's budget holds until [`SLACK`] after
//! midnight, and whatever was under way at or after midnight counts in the new day too.

use jiff::tz::TimeZone;
use tandem_core::Millis;

/// How long after midnight the old budget still holds.
pub(super) const SLACK: Millis = 2_000;

#[derive(Debug)]
pub(super) struct Day {
    zone: TimeZone,
    start: Millis,
    end: Millis,
    used: u64,
    /// Units that came back after the end of the day: they may have been counted in the next.
    carry: u64,
}

impl Day {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, start: 0, end: 0, used: 0, carry: 0 }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn start(&self) -> Millis {
        self.start
    }

    /// When the next budget may be used.
    pub(super) fn resets_at(&self) -> Millis {
        self.end + SLACK
    }

    pub(super) fn take(&mut self, units: u64) {
        self.used += units;
    }

    /// A call came back.
    pub(super) fn release(&mut self, units: u64, now: Millis) {
        if now >= self.end {
            self.carry += units;
        }
    }

    /// A call that was never sent.
    pub(super) fn refund(&mut self, units: u64) {
        self.used = self.used.saturating_sub(units);
    }

    /// At least so many are used.
    pub(super) fn at_least(&mut self, used: u64) {
        self.used = self.used.max(used);
    }

    /// Begins the day that holds `now`, if it has begun.
    pub(super) fn roll(&mut self, now: Millis, in_flight: u64) {
        if self.end == 0 {
            (self.start, self.end) = bounds(&self.zone, now);
        } else if now >= self.end + SLACK {
            (self.start, self.end) = bounds(&self.zone, now);
            self.used = in_flight + self.carry;
            self.carry = 0;
        } else if now < self.start.saturating_sub(SLACK) {
            // The clock was set back: what was used stays used.
            (self.start, self.end) = bounds(&self.zone, now);
        }
    }

    /// Goes on in another time zone, keeping what is used.
    pub(super) fn move_to(&mut self, other: Self) {
        if self.zone != other.zone {
            *self = Self { used: self.used, ..other };
        }
    }

    /// Takes over a saved counter, if it is of this day.
    pub(super) fn restore(&mut self, start: Millis, used: u64, now: Millis) {
        self.roll(now, 0);
        if start == self.start {
            self.at_least(used);
        }
    }
}

fn bounds(zone: &TimeZone, now: Millis) -> (Millis, Millis) {
    let fallback = (now - now % 86_400_000, now - now % 86_400_000 + 86_400_000);
    let Some(today) = i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_millisecond(now).ok())
    else {
        return fallback;
    };
    let today = today.to_zoned(zone.clone()).date();
    let midnight = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(zone.clone()).ok()?;
        Millis::try_from(zoned.timestamp().as_millisecond()).ok()
    };
    match (midnight(today), today.tomorrow().ok().and_then(midnight)) {
        (Some(start), Some(end)) if start < end => (start, end),
        _ => fallback,
    }
}
