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
    /// Those of `used` that are no calls of ours, as far as we know: what the CRM counted besides.
    others: u64,
    /// Units that came back after the end of the day: they may have been counted in the next.
    carry: u64,
}

impl Day {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { zone, start: 0, end: 0, used: 0, others: 0, carry: 0 }
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Those of the used ones that are no calls of ours.
    pub(super) fn others(&self) -> u64 {
        self.others
    }

    pub(super) fn start(&self) -> Millis {
        self.start
    }

    /// Midnight at its end.
    pub(super) fn end(&self) -> Millis {
        self.end
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
        self.used = self.used.saturating_sub(units).max(self.others);
    }

    /// The CRM counted so many more than we sent.
    pub(super) fn add_others(&mut self, units: u64) {
        self.used += units;
        self.others += units;
    }

    /// Others used no more than this.
    pub(super) fn at_most_others(&mut self, most: u64) {
        let excess = self.others.saturating_sub(most);
        self.others -= excess;
        self.used -= excess;
    }

    /// Begins the day that holds `now`, if it has begun, and says so.
    pub(super) fn roll(&mut self, now: Millis, in_flight: u64) -> bool {
        if self.end == 0 {
            (self.start, self.end) = bounds(&self.zone, now);
        } else if now >= self.end + SLACK {
            (self.start, self.end) = bounds(&self.zone, now);
            self.used = in_flight + self.carry;
            self.others = 0;
            self.carry = 0;
            return true;
        } else if now < self.start.saturating_sub(SLACK) {
            // The clock was set back: what was used stays used.
            (self.start, self.end) = bounds(&self.zone, now);
        }
        false
    }

    /// Goes on in another time zone, keeping what is used.
    pub(super) fn move_to(&mut self, other: Self) {
        if self.zone != other.zone {
            *self = Self { used: self.used, others: self.others, ..other };
        }
    }

    /// Takes over a saved counter, if its day is not over.
    pub(super) fn restore(&mut self, (start, end): (Millis, Millis), own: u64, others: u64, now: Millis) {
        self.roll(now, 0);
        if start < self.end && self.start < end {
            self.used += own;
            self.add_others(others);
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
