//! Stops calling a connection that keeps failing, and tries again one call at a time.

use tandem_core::Millis;

use super::jitter;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// First pause.
const FIRST: Millis = 1_000;
/// Longest pause.
const LONGEST: Millis = 300_000;

/// Closed, open until a moment, or half open with one call under way.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// How often it opened since it was last closed.
    opened: u32,
    until: Option<Millis>,
    probing: bool,
}

/// What the breaker says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    Closed,
    /// The time has come: one call may find out.
    Probe,
    Open(Millis),
}

impl Breaker {
    pub(super) fn ruling(&self, now: Millis) -> Ruling {
        match self.until {
            None => Ruling::Closed,
            Some(until) if now < until => Ruling::Open(until),
            Some(_) if self.probing => Ruling::Open(now + FIRST / 10),
            Some(_) => Ruling::Probe,
        }
    }

    pub(super) fn probe(&mut self) {
        self.probing = true;
    }

    /// The probing call is over, whatever came of it.
    pub(super) fn probed(&mut self) {
        self.probing = false;
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, now: Millis, random: u64) {
        self.failures = self.failures.saturating_add(1);
        let reopen = match self.until {
            // Calls that were under way when it opened say nothing new.
            Some(until) => now >= until,
            None => self.failures >= FAILURES,
        };
        if reopen {
            let pause = FIRST.saturating_mul(1 << self.opened.min(20)).min(LONGEST);
            self.opened = self.opened.saturating_add(1);
            self.until = Some(now + jitter(pause, random));
        }
    }
}
