//! So many units in a rolling window.
//!
//! The promise: whatever the latency, the CRM never counts more than the limit in any window of its own. A bucket that refills
//! (GCRA, token bucket) cannot give it without giving away either the burst or a good part of the rate: with limit N and burst b
//! it lets b + N calls into one window. So the room keeps a log instead. A unit is taken when a call is admitted and comes back
//! one window after its *answer*: the CRM counted the call somewhere between the two, so no window of the CRM's holds
//! more. A call that hangs is assumed to have been counted within [`ARRIVAL`]. The log is coarse: releases are rounded up to
//! 1/64 of the window, so it has at most 66 entries, none when the connection is idle, and gives away at most 1.6 % of the rate.
//! A CRM that counts coarsely too gives a unit back later than its page says: [`LATE`] allows for that.
//!
//! GCRA (by `governor`) paces bulk work inside the window, so that a backfill does not spend it in one burst
//! and leave the rest of the window empty-handed.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use tandem_core::Millis;

/// Longest time between the sending of a call and the CRM's counting of it.
pub(super) const ARRIVAL: Millis = 2_000;

/// The part of a window by which a CRM may be late to forget a call.
const LATE: Millis = 50;

const PARTS: Millis = 64;

/// Units that were given back, by the moment when they may be used again.
#[derive(Debug)]
pub(super) struct Window {
    per: Millis,
    tick: Millis,
    /// Ascending by tick.
    log: VecDeque<Entry>,
    held: u64,
    /// Those of `held` that are no calls of ours.
    others: u64,
    pace: Option<Box<Pace>>,
}

/// Units that are free together.
#[derive(Debug)]
struct Entry {
    /// Number of the tick at whose beginning they are free.
    tick: u64,
    own: u64,
    /// Not sent by us, as far as we know: what the CRM counted besides.
    others: u64,
}

impl Entry {
    fn units(&self) -> u64 {
        self.own + self.others
    }
}

impl Window {
    pub(super) fn new(per: Millis) -> Self {
        Self { per, tick: (per / PARTS).max(1), log: VecDeque::new(), held: 0, others: 0, pace: None }
    }

    pub(super) fn per(&self) -> Millis {
        self.per
    }

    /// Units in the log.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Those in the log that are no calls of ours.
    pub(super) fn others(&self) -> u64 {
        self.others
    }

    /// Forgets what is free again. A clock that was set back may not keep units for longer than a window.
    pub(super) fn roll(&mut self, now: Millis) {
        let tick = now / self.tick;
        while let Some(entry) = self.log.front() {
            if entry.tick > tick {
                break;
            }
            self.held -= entry.units();
            self.others -= entry.others;
            self.log.pop_front();
        }
        let last = self.tick_after(now);
        if self.log.back().is_some_and(|entry| entry.tick > last) {
            self.log.clear();
            if self.held > 0 {
                self.log.push_back(Entry { tick: last, own: self.held - self.others, others: self.others });
            }
        }
        if self.log.is_empty() && self.log.capacity() > 0 {
            self.log = VecDeque::new();
        }
    }

    /// Keeps units that were counted at `at` at the latest.
    pub(super) fn keep(&mut self, units: u64, at: Millis) {
        self.put(Entry { tick: self.tick_after(at), own: units, others: 0 });
    }

    /// Keeps units that the CRM counted besides ours, at `at` at the latest.
    pub(super) fn keep_others(&mut self, units: u64, at: Millis) {
        self.put(Entry { tick: self.tick_after(at), own: 0, others: units });
    }

    /// Others used no more than this: what is too much is given back, the oldest first.
    pub(super) fn at_most_others(&mut self, most: u64) {
        let mut excess = self.others.saturating_sub(most);
        self.others -= excess;
        self.held -= excess;
        for entry in &mut self.log {
            let back = entry.others.min(excess);
            entry.others -= back;
            excess -= back;
        }
        self.log.retain(|entry| entry.units() > 0);
    }

    fn put(&mut self, new: Entry) {
        if new.units() == 0 {
            return;
        }
        self.held += new.units();
        self.others += new.others;
        let mut place = self.log.len();
        while let Some(entry) = place.checked_sub(1).and_then(|i| self.log.get_mut(i)) {
            if entry.tick == new.tick {
                entry.own += new.own;
                entry.others += new.others;
                return;
            }
            if entry.tick < new.tick {
                break;
            }
            place -= 1;
        }
        self.log.insert(place, new);
    }

    /// When `units` of the log are free again; None if it does not hold so many.
    pub(super) fn free_at(&self, units: u64) -> Option<Millis> {
        let mut sum = 0;
        self.log.iter().find_map(|entry| {
            sum += entry.units();
            (sum >= units).then_some(entry.tick * self.tick)
        })
    }

    /// The log as (free again at, ours, others').
    pub(super) fn entries(&self) -> impl Iterator<Item = (Millis, u64, u64)> + '_ {
        self.log.iter().map(|entry| (entry.tick * self.tick, entry.own, entry.others))
    }

    /// Puts a saved entry back.
    pub(super) fn restore(&mut self, free_at: Millis, own: u64, others: u64) {
        let tick = self.tick_after(free_at.saturating_sub(self.hold()).saturating_sub(1));
        self.put(Entry { tick, own, others });
    }

    /// Asks the pacer for a unit of bulk work; the moment to come back at if it is too early.
    pub(super) fn pace(&mut self, units: u64, limit: u64, now: Millis) -> Result<(), Millis> {
        if self.pace.as_ref().is_none_or(|pace| pace.limit != limit) {
            self.pace = Some(Box::new(Pace::new(limit, self.per)));
        }
        self.pace.as_ref().map_or(Ok(()), |pace| pace.take(units, now))
    }

    /// How long a unit is kept.
    pub(super) fn hold(&self) -> Millis {
        self.per + self.per.div_ceil(LATE)
    }

    /// The first tick that begins later than one window after `at`, and by when the CRM has forgotten it.
    fn tick_after(&self, at: Millis) -> u64 {
        (at + self.hold()) / self.tick + 1
    }
}

type Limiter = governor::RateLimiter<NotKeyed, InMemoryState, Hand, NoOpMiddleware<Moment>>;

/// GCRA over a time that the caller gives.
struct Pace {
    limit: u64,
    burst: u32,
    limiter: Limiter,
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").field("limit", &self.limit).field("burst", &self.burst).finish_non_exhaustive()
    }
}

impl Pace {
    fn new(limit: u64, per: Millis) -> Self {
        let limit = limit.max(1);
        let one = Duration::from_nanos((per.saturating_mul(1_000_000) / limit).max(1));
        let burst = NonZeroU32::new(u32::try_from(limit / 10).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        let quota = governor::Quota::with_period(one)
            .unwrap_or_else(|| governor::Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        Self { limit, burst: burst.get(), limiter: Limiter::direct_with_clock(quota, Hand::default()) }
    }

    fn take(&self, units: u64, now: Millis) -> Result<(), Millis> {
        let units = u32::try_from(units).unwrap_or(u32::MAX).clamp(1, self.burst);
        self.limiter.clock().set(now);
        match NonZeroU32::new(units).map(|units| self.limiter.check_n(units)) {
            Some(Ok(Err(early))) => Err(early.earliest_possible().0.div_ceil(1_000_000).max(now + 1)),
            // More than the burst cannot be asked for: `units` is clamped.
            Some(Ok(Ok(())) | Err(_)) | None => Ok(()),
        }
    }
}

/// A clock whose hand the caller sets before each question.
#[derive(Default)]
struct Hand(std::sync::atomic::AtomicU64);

impl Hand {
    fn set(&self, now: Millis) {
        self.0.store(now.saturating_mul(1_000_000), std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for Hand {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

/// Nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl std::ops::Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, nanos: Nanos) -> Self {
        Self(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.0.saturating_sub(earlier.0))
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.as_u64()))
    }
}
