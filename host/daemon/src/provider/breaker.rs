//! Puts a component out of use for one connection after faults in a row, and lets it try again.
//!
//! One breaker belongs to a connection with its component and settings: another customer's faults do not open it, and a
//! new version or new settings begin with a closed one.
//!
//! Faults in a row are those of one function of the contract. A component that begins every exchange and cannot read a single
//! answer would else never be put out of use: each record's beginning would pass for a recovery.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Fault;

/// When a breaker opens and for how long.
#[derive(Clone, Debug)]
pub struct BreakerConfig {
    /// Faults in a row of one function that open it.
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
    /// Faults in a row of each function that had one since it last answered.
    faults: BTreeMap<String, u32>,
    /// Those whose faults opened it and that have not answered since.
    failing: BTreeSet<String>,
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
    /// Whether a visit may run. After the wait they may: the connection's lane runs them one after the other, and the first that calls
    /// a failing function closes the breaker or opens it again.
    pub(super) fn check(&self, now: impl FnOnce() -> Instant) -> Result<(), Open> {
        let Some(until) = self.until else { return Ok(()) };
        match until.checked_duration_since(now()) {
            Some(wait) if !wait.is_zero() => Err(Open { faults: self.worst(), wait }),
            _ => Ok(()),
        }
    }

    /// The most faults in a row of a failing function.
    fn worst(&self) -> u32 {
        self.failing
            .iter()
            .filter_map(|function| self.faults.get(function))
            .max()
            .copied()
            .unwrap_or_default()
    }

    /// These functions answered.
    pub(super) fn answered<'a>(&mut self, functions: impl Iterator<Item = &'a str>) {
        if self.faults.is_empty() {
            return;
        }
        for function in functions {
            self.faults.remove(function);
            self.failing.remove(function);
        }
        if self.failing.is_empty() {
            self.openings = 0;
            self.until = None;
        }
    }

    /// Keeps a fault's words for whoever asks why the breaker is open.
    pub(super) fn note(&mut self, fault: &Fault) {
        self.said = Some(fault.to_string());
    }

    /// The last fault in words.
    pub(super) fn said(&self) -> Option<&str> {
        self.said.as_deref()
    }

    /// A visit ended with a fault of this function. True: this opened it.
    pub(super) fn fault(&mut self, function: &str, config: &BreakerConfig, now: Instant) -> bool {
        let faults = self.faults.entry(function.to_owned()).or_default();
        *faults = faults.saturating_add(1);
        self.last = Some(now);
        if *faults < config.faults {
            return false;
        }
        self.failing.insert(function.to_owned());
        let wait = config.first.saturating_mul(1_u32.checked_shl(self.openings).unwrap_or(u32::MAX));
        self.openings = self.openings.saturating_add(1);
        self.until = Some(now + wait.min(config.longest));
        true
    }

    /// Whether the connection had a fault lately.
    pub(super) fn suspect(&self, config: &BreakerConfig, now: impl FnOnce() -> Instant) -> bool {
        self.last.is_some_and(|last| now().saturating_duration_since(last) < config.suspect_for)
    }

    /// Whether it is open or waits for its try. Where nobody has called the failing function for as long as a connection is suspect,
    /// the rest of its work is done and nothing is held up any more.
    pub(super) fn tripped(&self, config: &BreakerConfig, now: impl FnOnce() -> Instant) -> bool {
        self.until.is_some_and(|until| now().saturating_duration_since(until) < config.suspect_for)
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
        breaker.fault("resume", &config(), start);
        breaker.fault("resume", &config(), start);
        breaker.answered(["resume"].into_iter());
        breaker.fault("resume", &config(), start);
        assert!(!breaker.fault("resume", &config(), start));
        assert_eq!(breaker.check(|| start), Ok(()));
        assert!(breaker.fault("resume", &config(), start));
        assert_eq!(breaker.check(|| start), Err(Open { faults: 3, wait: Duration::from_secs(1) }));
    }

    #[test]
    fn another_function_that_answers_is_no_recovery() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for last in [false, false, true] {
            breaker.answered(["start"].into_iter());
            assert_eq!(breaker.fault("to-canonical", &config(), start), last);
        }
        breaker.answered(["start", "resume"].into_iter());
        assert!(breaker.check(|| start).is_err(), "it stays open");
        breaker.answered(["start", "to-canonical"].into_iter());
        assert_eq!(breaker.check(|| start), Ok(()));
    }

    #[test]
    fn faults_of_several_functions_are_not_added_up() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for function in ["start", "resume", "to-canonical", "start", "resume"] {
            assert!(!breaker.fault(function, &config(), start), "{function}");
        }
        assert!(breaker.fault("resume", &config(), start));
        assert!(breaker.fault("start", &config(), start));
        breaker.answered(["resume"].into_iter());
        assert!(breaker.check(|| start).is_err(), "the other one still fails");
        breaker.answered(["start"].into_iter());
        assert_eq!(breaker.check(|| start), Ok(()));
    }

    #[test]
    fn waits_longer_each_time_up_to_a_bound_and_closes_when_it_answers() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..2 {
            breaker.fault("resume", &config(), now);
        }
        for _ in 0..4 {
            breaker.fault("resume", &config(), now);
            let open = breaker.check(|| now).expect_err("open");
            waits.push(open.wait.as_secs());
            now += open.wait;
            assert_eq!(breaker.check(|| now), Ok(()), "a try after the wait");
        }
        assert_eq!(waits, [1, 2, 4, 4]);
        breaker.answered(["resume"].into_iter());
        assert_eq!(breaker.check(|| now), Ok(()));
        assert!(!breaker.fault("resume", &config(), now), "the count begins anew");
    }

    #[test]
    fn is_not_called_open_for_ever_when_nobody_calls_what_failed() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.tripped(&config(), || now));
        for _ in 0..3 {
            breaker.fault("receive", &config(), now);
        }
        let wait = Duration::from_secs(1);
        assert!(breaker.tripped(&config(), || now + wait + Duration::from_secs(9)));
        assert!(!breaker.tripped(&config(), || now + wait + Duration::from_secs(10)));
    }

    #[test]
    fn stays_suspect_for_a_while_after_a_fault() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.suspect(&config(), || now));
        breaker.fault("resume", &config(), now);
        breaker.answered(["resume"].into_iter());
        assert!(breaker.suspect(&config(), || now + Duration::from_secs(9)));
        assert!(!breaker.suspect(&config(), || now + Duration::from_secs(10)));
    }
}
