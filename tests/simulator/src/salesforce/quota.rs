//! The limits of an org: calls in any twenty-four hours, and long calls at the same time.
//!
//! Calls are counted by the minute. Nothing says when there is room again: an answer has no `Retry-After`, only every answer says
//! how many calls were made.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;

/// How an org is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SalesforceLimits {
    /// Calls in any twenty-four hours.
    pub daily: u32,
    /// Calls under way for longer than `longMs` at the same time.
    pub concurrent: u32,
    /// From when on a call counts as long, in milliseconds of real time.
    pub long_ms: u64,
}

impl Default for SalesforceLimits {
    fn default() -> Self {
        Self { daily: 100_000, concurrent: 25, long_ms: 20_000 }
    }
}

impl SalesforceLimits {
    /// As good as none, for load.
    pub const UNLIMITED: Self = Self { daily: 1_000_000_000, concurrent: 1_000_000_000, long_ms: 20_000 };
}

/// The calls of the last twenty-four hours.
#[derive(Debug)]
pub(crate) struct Quota {
    pub(crate) limits: SalesforceLimits,
    minutes: VecDeque<(i64, u32)>,
    sum: u32,
}

impl Quota {
    pub(crate) fn new(limits: SalesforceLimits) -> Self {
        Self { limits, minutes: VecDeque::new(), sum: 0 }
    }

    /// Calls of the last twenty-four hours.
    pub(crate) fn used(&mut self, now: i64) -> u32 {
        // A minute is forgotten when all of it lies outside.
        let oldest = now.div_euclid(MINUTE_MS) - DAY_MINUTES;
        while let Some((_, count)) = self.minutes.front().copied().filter(|(minute, _)| *minute < oldest) {
            self.minutes.pop_front();
            self.sum -= count;
        }
        self.sum
    }

    /// Counts a call. False: there is no room for it, and it counts for nothing.
    pub(crate) fn take(&mut self, now: i64) -> bool {
        if self.used(now) >= self.limits.daily {
            return false;
        }
        let minute = now.div_euclid(MINUTE_MS);
        match self.minutes.back_mut().filter(|(newest, _)| *newest >= minute) {
            Some((_, count)) => *count += 1,
            None => self.minutes.push_back((minute, 1)),
        }
        self.sum += 1;
        true
    }
}

/// Calls that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<(u64, BTreeMap<u64, Instant>)>);

/// A call that is under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    number: u64,
}

impl Flights {
    /// Begins a call, unless too many long ones are under way.
    pub(crate) fn begin(self: &Arc<Self>, limits: SalesforceLimits) -> Option<Flight> {
        let mut state = self.0.lock();
        let now = Instant::now();
        let long = Duration::from_millis(limits.long_ms);
        let many = state.1.values().filter(|began| now.duration_since(**began) >= long).count();
        if many >= limits.concurrent as usize {
            return None;
        }
        state.0 += 1;
        let number = state.0;
        state.1.insert(number, now);
        Some(Flight { flights: self.clone(), number })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.0.lock().1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_twenty_four_hours_hold_more_calls_than_the_limit() {
        let mut quota = Quota::new(SalesforceLimits { daily: 50, ..SalesforceLimits::default() });
        let (start, day) = (1_700_000_000_000, 86_400_000);
        let mut through = Vec::new();
        for step in 0..5_000 {
            let now = start + step * 97_000;
            if quota.take(now) {
                through.push(now);
            }
        }
        assert!(through.len() > 200, "{}", through.len());
        for first in &through {
            let inside = through.iter().filter(|at| **at >= *first && **at < first + day).count();
            assert!(inside <= 50, "{inside} calls in a day from {first}");
        }
    }
}
