//! One quota with its state: what is used, what the CRM said about it, how far its rate was lowered.

use tandem_core::Millis;
use tandem_core::descriptor::{QuotaDescriptor, QuotaKind};
use tandem_core::exchange::{QuotaState, Wait};

use super::day::Day;
use super::window::{ARRIVAL, Window};
use super::{QuotaConfig, QuotaError, jitter};
use crate::store::Class;

/// Successes after which a lowered rate is raised by one step.
const SUCCESSES: u32 = 20;
/// Steps of the rate: `FULL` is the whole limit.
const FULL: u64 = 64;
/// One step up.
const STEP: u64 = 4;
/// The rate is not lowered below an eighth.
const FLOOR: u64 = FULL / 8;
/// Longest pause after refusals that name no time.
const LONGEST: Millis = 300_000;

#[derive(Debug)]
pub(super) struct Meter {
    kind: QuotaKind,
    limit: u64,
    /// The CRM's own word, which wins.
    said: Option<u64>,
    /// In 64ths of the limit.
    rate: u64,
    refusals: u32,
    successes: u32,
    not_before: Millis,
    in_flight: u64,
    /// Given back without a time; stamped at the next look.
    loose: u64,
    changed: bool,
    /// Counted in the last run, until the first look at the clock.
    restored: Option<Box<Saved>>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Window(Window),
    Day(Day),
    Concurrency,
}

/// What survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Saved {
    Day { start: Millis, used: u64 },
    Window { log: Vec<(Millis, u64)>, under_way: u64 },
}

/// Why a call has to wait.
pub(super) enum Early {
    /// Nothing happens before this moment.
    Until(Millis),
    /// A call has to come back first.
    Release,
}

impl Meter {
    pub(super) fn new(quota: &QuotaDescriptor) -> Result<Self, QuotaError> {
        if quota.limit == 0 {
            return Err(QuotaError::Descriptor { quota: quota.name.clone(), what: "limit is 0".to_owned() });
        }
        let body = match quota.kind {
            QuotaKind::Concurrency => Body::Concurrency,
            QuotaKind::Window => match quota.per_ms {
                Some(per) if per > 0 => Body::Window(Window::new(per)),
                _ => {
                    let what = "a window needs per-ms above 0".to_owned();
                    return Err(QuotaError::Descriptor { quota: quota.name.clone(), what });
                }
            },
            QuotaKind::Daily => {
                let zone = match quota.time_zone.as_deref() {
                    None => jiff::tz::TimeZone::UTC,
                    Some(name) => jiff::tz::TimeZone::get(name).map_err(|_| QuotaError::Descriptor {
                        quota: quota.name.clone(),
                        what: format!("time-zone {name} is not an IANA time zone, such as Europe/Berlin"),
                    })?,
                };
                Body::Day(Day::new(zone))
            }
        };
        Ok(Self {
            kind: quota.kind,
            limit: quota.limit,
            said: None,
            rate: FULL,
            refusals: 0,
            successes: 0,
            not_before: 0,
            in_flight: 0,
            loose: 0,
            changed: false,
            restored: None,
            body,
        })
    }

    /// Whether the meter can go on under a changed descriptor.
    pub(super) fn fits(&self, quota: &QuotaDescriptor) -> bool {
        self.kind == quota.kind
            && match &self.body {
                Body::Window(window) => quota.per_ms == Some(window.per()),
                Body::Day(_) | Body::Concurrency => true,
            }
    }

    /// Goes on with another limit and time zone, keeping what is used.
    pub(super) fn adopt(&mut self, other: Self) {
        if self.limit != other.limit {
            self.limit = other.limit;
            self.said = None;
        }
        if let (Body::Day(day), Body::Day(new)) = (&mut self.body, other.body) {
            day.move_to(new);
        }
    }

    /// The limit that holds now, without reserves.
    pub(super) fn allowed(&self, config: &QuotaConfig) -> u64 {
        let limit = self.said.unwrap_or(self.limit);
        (limit.saturating_mul(u64::from(config.share.clamp(1, 100))) / 100 * self.rate / FULL).max(1)
    }

    fn allowed_for(&self, class: Class, config: &QuotaConfig) -> u64 {
        let allowed = self.allowed(config);
        if self.kind == QuotaKind::Concurrency {
            return allowed;
        }
        let reserve = match class {
            Class::Interactive | Class::Live => 0,
            Class::Retry => config.reserve / 4,
            Class::Reconcile | Class::Backfill => config.reserve,
        };
        (allowed - allowed.saturating_mul(u64::from(reserve.min(100))) / 100).max(1)
    }

    pub(super) fn used(&self) -> u64 {
        match &self.body {
            Body::Window(window) => window.held() + self.in_flight + self.loose,
            Body::Day(day) => day.used(),
            Body::Concurrency => self.in_flight,
        }
    }

    pub(super) fn rate_percent(&self) -> u64 {
        self.rate * 100 / FULL
    }

    /// Brings the state up to now.
    pub(super) fn roll(&mut self, now: Millis) {
        if let Some(saved) = self.restored.take() {
            self.take_over(&saved, now);
        }
        let loose = std::mem::take(&mut self.loose);
        match &mut self.body {
            Body::Window(window) => {
                if loose > 0 {
                    window.keep(loose, now);
                }
                window.roll(now);
            }
            Body::Day(day) => {
                day.release(loose, now);
                day.roll(now, self.in_flight);
            }
            Body::Concurrency => {}
        }
    }

    /// Whether `units` could be taken, which is not done. Call [`Self::roll`] before.
    pub(super) fn check(
        &self,
        units: u64,
        class: Class,
        now: Millis,
        config: &QuotaConfig,
    ) -> Result<(), Early> {
        if now < self.not_before {
            return Err(Early::Until(self.not_before));
        }
        let allowed = self.allowed_for(class, config);
        let units = units.min(allowed);
        let over = (self.used() + units).saturating_sub(allowed);
        if over == 0 {
            return Ok(());
        }
        Err(match &self.body {
            // What is under way comes back one window after its answer at the earliest.
            Body::Window(window) => {
                Early::Until(window.free_at(over).unwrap_or(now + window.per()).max(now + 1))
            }
            Body::Day(day) => Early::Until(day.resets_at().max(now + 1)),
            Body::Concurrency => Early::Release,
        })
    }

    /// Paces bulk work inside a window.
    pub(super) fn pace(
        &mut self,
        units: u64,
        class: Class,
        now: Millis,
        config: &QuotaConfig,
    ) -> Result<(), Early> {
        let allowed = self.allowed_for(class, config);
        match &mut self.body {
            Body::Window(window) if class >= Class::Reconcile => {
                window.pace(units, allowed, now).map_err(Early::Until)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take(&mut self, units: u64) {
        self.in_flight += units;
        if let Body::Day(day) = &mut self.body {
            day.take(units);
        }
        self.changed = true;
    }

    /// A call came back (`now` known), or was forgotten.
    pub(super) fn release(&mut self, units: u64, admitted: Millis, now: Option<Millis>) {
        self.in_flight = self.in_flight.saturating_sub(units);
        match (&mut self.body, now) {
            (Body::Window(window), Some(now)) => {
                let counted = now.min(admitted + ARRIVAL);
                if counted + window.hold() >= now {
                    window.keep(units, counted);
                }
            }
            (Body::Day(day), Some(now)) => day.release(units, now),
            (Body::Window(_) | Body::Day(_), None) => self.loose += units,
            (Body::Concurrency, _) => {}
        }
    }

    /// A call was not sent: its units were never used.
    pub(super) fn refund(&mut self, units: u64) {
        self.in_flight = self.in_flight.saturating_sub(units);
        if let Body::Day(day) = &mut self.body {
            day.refund(units);
        }
    }

    /// What a response's headers say. Lowers our view; raises it only by a stated limit.
    pub(super) fn observe(&mut self, state: &QuotaState, now: Millis, config: &QuotaConfig) {
        self.roll(now);
        if let Some(limit) = state.limit.filter(|&limit| limit > 0) {
            self.said = Some(limit);
        }
        let Some(remaining) = state.remaining else { return };
        let used = self.used();
        let unseen = self.allowed(config).saturating_sub(used).saturating_sub(remaining);
        if unseen == 0 {
            return;
        }
        self.changed = true;
        match &mut self.body {
            // Somebody else's calls: used at this moment at the latest; gone earlier only if the CRM says so.
            Body::Window(window) => match state.resets {
                Wait::Until(at) if at > now && at < now + window.per() => window.restore(at, unseen),
                Wait::Until(_) | Wait::Unknown => window.keep(unseen, now),
            },
            Body::Day(day) => day.at_least(used + unseen),
            Body::Concurrency => {}
        }
    }

    /// The CRM refused a call because of this quota; when to come back at the earliest.
    pub(super) fn refused(&mut self, wait: Wait, now: Millis, random: u64, config: &QuotaConfig) -> Millis {
        self.roll(now);
        // Several calls of one burst are refused together: that is one piece of news.
        let news = now >= self.not_before;
        if news {
            self.refusals = self.refusals.saturating_add(1);
            self.successes = 0;
        }
        let allowed = self.allowed(config);
        match (wait, &mut self.body) {
            (Wait::Until(at), _) => self.not_before = self.not_before.max(at),
            // A day's budget that is spent comes back at midnight and not before.
            (Wait::Unknown, Body::Day(day)) => {
                day.at_least(allowed);
                self.changed = true;
                return day.resets_at();
            }
            (Wait::Unknown, body) if news => {
                let base = match body {
                    Body::Window(window) => (window.per() / 8).clamp(250, 10_000),
                    Body::Day(_) | Body::Concurrency => 250,
                };
                let doublings = self.refusals.saturating_sub(1).min(16);
                let pause = base.saturating_mul(1 << doublings).min(LONGEST);
                self.not_before = now + jitter(pause, random);
            }
            (Wait::Unknown, _) => {}
        }
        // A named wait is obeyed; only if refusals go on is the rate itself in doubt.
        if news && (wait == Wait::Unknown || self.refusals > 1) && !matches!(self.body, Body::Day(_)) {
            self.rate = (self.rate / 2).max(FLOOR);
        }
        self.not_before
    }

    /// A call was answered without refusal.
    pub(super) fn succeeded(&mut self, now: Millis) {
        if self.refusals == 0 && self.rate == FULL || now < self.not_before {
            return;
        }
        self.successes += 1;
        if self.successes >= SUCCESSES {
            self.successes = 0;
            self.refusals = 0;
            self.rate = (self.rate + STEP).min(FULL);
        }
    }

    /// The counter for the store, if it is worth keeping.
    pub(super) fn save(&self) -> Option<Saved> {
        if let Some(restored) = &self.restored {
            return Some((**restored).clone());
        }
        match &self.body {
            Body::Day(day) if day.used() > 0 => Some(Saved::Day { start: day.start(), used: day.used() }),
            Body::Window(window) if window.per() >= 60_000 && self.used() > 0 => Some(Saved::Window {
                log: window.entries().collect(),
                under_way: self.in_flight + self.loose,
            }),
            _ => None,
        }
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        self.restored = Some(Box::new(saved));
    }

    fn take_over(&mut self, saved: &Saved, now: Millis) {
        match (&mut self.body, saved) {
            (Body::Day(day), Saved::Day { start, used }) => day.restore(*start, *used, now),
            (Body::Window(window), Saved::Window { log, under_way }) => {
                for &(free_at, units) in log.iter().filter(|(free_at, _)| *free_at > now) {
                    window.restore(free_at, units);
                }
                if *under_way > 0 {
                    window.keep(*under_way, now);
                }
            }
            _ => {}
        }
    }
}
