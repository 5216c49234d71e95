//! Puts a component out of use for one connection after faults in a row, and lets it try again.
//!
//! One breaker belongs to a connection with its component and settings: another customer's faults do not open it, and a
//! new version or new settings begin with a closed one.

use std::time::{Duration, Instant};

use super::Fault;

/// When a breaker opens and for how long.
#[derive(Clone, Debug)]
pub struct BreakerConfig {
    /// Faults in a row that open it.
    pub faults: u32,
    /// How long it stays open the first time; doubled each time that the try after it fails.
    pub first: Duration,
    /// The longest that it stays open.
    pub longest: Duration,
    /// How long after its last fault a connection runs beside the others, on the suspects' lane.
    pub suspect_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            faults: 5,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            suspect_for: Duration::from_secs(60),
        }
    }
}

/// The state for one connection.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    faults: u32,
    openings: u32,
    until: Option<Instant>,
    last: Option<Instant>,
    /// The last fault in words: provider, version, digest and limit.
    said: Option<String>,
}

/// It is open: faults in a row, and the time until the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) faults: u32,
    pub(super) wait: Duration,
}

impl Breaker {
    /// Whether a visit may run. After the wait one may: the connection's lane runs them one after the other, and the next
    /// finds the breaker closed or open again.
    pub(super) fn check(&self, now: impl FnOnce() -> Instant) -> Result<(), Open> {
        let Some(until) = self.until else { return Ok(()) };
        match until.checked_duration_since(now()) {
            Some(wait) if !wait.is_zero() => Err(Open { faults: self.faults, wait }),
            _ => Ok(()),
        }
    }

    /// A visit ended without a fault.
    pub(super) fn success(&mut self) {
        self.faults = 0;
        self.openings = 0;
        self.until = None;
    }

    /// Keeps a fault's words for whoever asks why the breaker is open.
    pub(super) fn note(&mut self, fault: &Fault) {
        self.said = Some(fault.to_string());
    }

    /// The last fault in words.
    pub(super) fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// A visit ended with a fault. True: this opened it.
    pub(super) fn fault(&mut self, config: &BreakerConfig, now: Instant) -> bool {
        self.faults = self.faults.saturating_add(1);
        self.last = Some(now);
        if self.faults < config.faults {
            return false;
        }
        let wait = config.first.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX));
        self.openings = self.openings.saturating_add(1);
        self.until = Some(now + wait.min(config.longest));
        true
    }

    /// Whether the connection had a fault lately.
    pub(super) fn suspect(&self, config: &BreakerConfig, now: impl FnOnce() -> Instant) -> bool {
        self.last.is_some_and(|last| now().saturating_duration_since(last) < config.suspect_for)
    }

    /// Whether it is open or waits for its try.
    pub(super) fn tripped(&self) -> bool {
        self.until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BreakerConfig {
        BreakerConfig {
            faults: 3,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(4),
            suspect_for: Duration::from_secs(10),
        }
    }

    #[test]
    fn opens_after_faults_in_a_row_and_not_before() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        breaker.fault(&config(), start);
        breaker.fault(&config(), start);
        breaker.success();
        breaker.fault(&config(), start);
        assert!(!breaker.fault(&config(), start));
        assert_eq!(breaker.check(|| start), Ok(()));
        assert!(breaker.fault(&config(), start));
        assert_eq!(breaker.check(|| start), Err(Open { faults: 3, wait: Duration::from_secs(1) }));
    }

    #[test]
    fn waits_longer_each_time_up_to_a_bound_and_closes_on_success() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..2 {
            breaker.fault(&config(), now);
        }
        for _ in 0..4 {
            breaker.fault(&config(), now);
            let open = breaker.check(|| now).expect_err("open");
            waits.push(open.wait.as_secs());
            now += open.wait;
            assert_eq!(breaker.check(|| now), Ok(()), "one try after the wait");
        }
        assert_eq!(waits, [1, 2, 4, 4]);
        breaker.success();
        assert_eq!(breaker.check(|| now), Ok(()));
        assert!(!breaker.fault(&config(), now), "the count begins anew");
    }

    #[test]
    fn stays_suspect_for_a_while_after_a_fault() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.suspect(&config(), || now));
        breaker.fault(&config(), now);
        breaker.success();
        assert!(breaker.suspect(&config(), || now + Duration::from_secs(9)));
        assert!(!breaker.suspect(&config(), || now + Duration::from_secs(10)));
    }
}
