//! One quota with its state: what is used, what the CRM said about it, how far its rate was lowered.
//!
//! What is used is our own calls and others': what the CRM counted besides. Only the others' part is ever lowered by an answer, and
//! only as far as the answer can know: calls of ours that were under way meanwhile may not be counted in it.
//!
//! A budget that outlasts the daemon is on disk before it is used: what is saved is a little ahead of what is used, and a call that
//! would pass it asks for the next save. Whoever is killed may have used all that was saved, so all of that counts.

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
/// Windows of this length outlast the daemon, as days do.
const LASTING: Millis = 60_000;
/// What is saved is ahead of what is used by this part of the limit, and by one unit at least.
const AHEAD: u64 = 256;

#[derive(Debug)]
pub(super) struct Meter {
    kind: QuotaKind,
    limit: u64,
    /// The CRM's own word, which wins.
    said: Option<u64>,
    /// What was used by the CRM's last count.
    told: Option<u64>,
    /// The last run was ended somewhere between what was used and what was saved: the next answer tells.
    recount: bool,
    /// In 64ths of the limit.
    rate: u64,
    refusals: u32,
    successes: u32,
    not_before: Millis,
    in_flight: u64,
    /// Given back without a time; stamped at the next look.
    loose: u64,
    changed: bool,
    /// Units that were ever taken.
    taken: u64,
    disk: Disk,
    /// Counted in the last run, until the first look at the clock.
    restored: Option<Box<Saved>>,
    body: Body,
}

/// How far what is on disk reaches. It counts all by which the use ever grew, and one for news that must not be lost.
#[derive(Debug, Default)]
struct Disk {
    grown: u64,
    /// The largest number that was given out for a save.
    issued: u64,
    /// The largest one whose save is on disk.
    covered: u64,
}

impl Disk {
    /// No save that has begun says what there is to say now.
    fn outdate(&mut self) {
        self.grown = self.grown.max(self.issued) + 1;
    }
}

#[derive(Debug)]
enum Body {
    Window(Window),
    Day(Day),
    Concurrency,
}

/// What survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Saved {
    /// The limit that was configured: what was said of another one holds no more.
    limit: u64,
    said: Option<u64>,
    not_before: Millis,
    count: Count,
}

/// What is used.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Count {
    Day {
        start: Millis,
        end: Millis,
        own: u64,
        others: u64,
    },
    Window {
        /// Free again at, ours, others'.
        log: Vec<(Millis, u64, u64)>,
        under_way: u64,
    },
}

/// As it was saved before the CRM's own words were.
#[derive(serde::Deserialize)]
pub(super) enum Former {
    Day { start: Millis, used: u64 },
    Window { log: Vec<(Millis, u64)>, under_way: u64 },
}

impl From<Former> for Saved {
    fn from(old: Former) -> Self {
        let count = match old {
            // Its end was not kept; its beginning lies in it and in no other day.
            Former::Day { start, used } => Count::Day { start, end: start + 1, own: used, others: 0 },
            Former::Window { log, under_way } => Count::Window {
                log: log.into_iter().map(|(free_at, units)| (free_at, units, 0)).collect(),
                under_way,
            },
        };
        Self { limit: 0, said: None, not_before: 0, count }
    }
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
            told: None,
            recount: false,
            rate: FULL,
            refusals: 0,
            successes: 0,
            not_before: 0,
            in_flight: 0,
            loose: 0,
            changed: false,
            taken: 0,
            disk: Disk::default(),
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

    /// Goes on with another limit and time zone, keeping what is used. A limit above the one that held ends the pause for it.
    pub(super) fn adopt(&mut self, other: Self) {
        if self.limit != other.limit {
            if other.limit > self.said.unwrap_or(self.limit) {
                self.lift();
            }
            self.limit = other.limit;
            self.said = None;
            self.told = None;
            self.news();
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
            Class::Interactive | Class::Live | Class::Background => 0,
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

    pub(super) fn not_before(&self) -> Millis {
        self.not_before
    }

    /// Of the used ones, those that are no calls of ours.
    fn others(&self) -> u64 {
        match &self.body {
            Body::Window(window) => window.others(),
            Body::Day(day) => day.others(),
            Body::Concurrency => 0,
        }
    }

    /// Units that were taken and whose calls came back: whatever the CRM counts from now on, these are in it.
    pub(super) fn settled(&self) -> u64 {
        self.taken.saturating_sub(self.in_flight)
    }

    /// What may be missing from an answer's count: units of other calls that had not come back when its call was admitted, or were
    /// taken since.
    pub(super) fn overlap(&self, settled: u64, units: u64) -> u64 {
        self.taken.saturating_sub(settled).saturating_sub(units)
    }

    fn lift(&mut self) {
        self.not_before = 0;
        self.refusals = 0;
    }

    /// Something that has to outlast the daemon, whatever is used afterwards.
    fn news(&mut self) {
        self.changed = true;
        self.disk.outdate();
    }

    fn grew(&mut self, units: u64) {
        self.changed = true;
        self.disk.grown += units;
    }

    /// Whether it outlasts the daemon.
    fn lasts(&self) -> bool {
        match &self.body {
            Body::Day(_) => true,
            Body::Window(window) => window.per() >= LASTING,
            Body::Concurrency => false,
        }
    }

    /// How far the count on disk has to reach for what is used by now.
    pub(super) fn grown(&self) -> u64 {
        self.disk.grown
    }

    /// Whether what is on disk reaches so far, or need not.
    pub(super) fn is_saved(&self, grown: u64) -> bool {
        grown <= self.disk.covered || !self.lasts()
    }

    pub(super) fn rate_percent(&self) -> u64 {
        self.rate * 100 / FULL
    }

    /// Brings the state up to now.
    pub(super) fn roll(&mut self, now: Millis) {
        if let Some(saved) = self.restored.take() {
            self.take_over(*saved, now);
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
                if day.roll(now, self.in_flight) {
                    // What was saved ahead was of the day that ended.
                    self.told = None;
                    self.news();
                }
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
        self.taken += units;
        if let Body::Day(day) = &mut self.body {
            day.take(units);
        }
        self.grew(units);
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

    /// What a response's headers say. Lowers our view; raises it by a stated limit, and where the CRM's own count fell: then by what we
    /// held to be others'. `overlap`: see [`Self::overlap`]; None if it is not known. Whether calls may go that had to wait.
    pub(super) fn observe(
        &mut self,
        state: &QuotaState,
        overlap: Option<u64>,
        now: Millis,
        config: &QuotaConfig,
    ) -> bool {
        self.roll(now);
        let (left, paused) = (self.left(config), now < self.not_before);
        let held = self.said.unwrap_or(self.limit);
        let limit = state.limit.filter(|&limit| limit > 0).unwrap_or(held);
        if state.limit == Some(limit) && self.said != Some(limit) {
            self.said = Some(limit);
            self.news();
        }
        let raised = limit > held;
        let Some(remaining) = state.remaining else {
            if raised {
                self.lift();
            }
            return raised && (paused || self.left(config) > left);
        };
        let told = limit.saturating_sub(remaining);
        let before = self.told.replace(told);
        let fell = overlap.is_some_and(|overlap| {
            std::mem::take(&mut self.recount) || before.is_some_and(|before| told + overlap < before)
        });
        let missing = overlap.unwrap_or(0);
        let more = (raised || fell) && remaining > missing;
        if more {
            self.lift();
        }
        let gone = self.allowed(config).saturating_sub(remaining);
        let used = self.used();
        if fell {
            let own = used - self.others();
            self.at_most_others((gone + missing).saturating_sub(own));
        }
        self.add_others(gone.saturating_sub(self.used()), state.resets, now);
        paused && more || (raised || left == 0) && self.left(config) > left
    }

    /// What may still be used, without reserves.
    fn left(&self, config: &QuotaConfig) -> u64 {
        self.allowed(config).saturating_sub(self.used())
    }

    fn at_most_others(&mut self, most: u64) {
        match &mut self.body {
            Body::Window(window) => window.at_most_others(most),
            Body::Day(day) => day.at_most_others(most),
            Body::Concurrency => {}
        }
        self.changed = true;
    }

    /// Others used so many more.
    fn add_others(&mut self, units: u64, resets: Wait, now: Millis) {
        if units == 0 {
            return;
        }
        match &mut self.body {
            // Used at this moment at the latest; gone earlier only if the CRM says so.
            Body::Window(window) => match resets {
                Wait::Until(at) if at > now && at < now + window.per() => window.restore(at, 0, units),
                Wait::Until(_) | Wait::Unknown => window.keep_others(units, now),
            },
            Body::Day(day) => day.add_others(units),
            Body::Concurrency => return,
        }
        self.grew(units);
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
        let left = self.left(config);
        match (wait, &mut self.body) {
            (Wait::Until(at), _) => self.not_before = self.not_before.max(at),
            // A day's budget that is spent comes back at midnight and not before.
            (Wait::Unknown, Body::Day(day)) => {
                let until = day.resets_at();
                self.add_others(left, Wait::Unknown, now);
                self.news();
                return until;
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
        if news {
            self.news();
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

    /// The counter for the store, if it is worth keeping, and the number for [`Self::saved`]. `ahead`: more may be used before the next
    /// save.
    pub(super) fn save(&mut self, ahead: bool) -> Option<(Saved, u64)> {
        if let Some(restored) = &self.restored {
            return Some(((**restored).clone(), 0));
        }
        if !self.lasts() {
            return None;
        }
        let ahead = if ahead { (self.said.unwrap_or(self.limit) / AHEAD).max(1) } else { 0 };
        let count = match &self.body {
            Body::Day(day) => Count::Day {
                start: day.start(),
                end: day.end(),
                own: day.used().saturating_sub(day.others() + self.in_flight),
                others: day.others() + self.in_flight + ahead,
            },
            Body::Window(window) => Count::Window {
                log: window.entries().collect(),
                under_way: self.in_flight + self.loose + ahead,
            },
            Body::Concurrency => return None,
        };
        let (limit, said, not_before) = (self.limit, self.said, self.not_before);
        let number = self.disk.grown + ahead;
        if ahead == 0 {
            // It takes the place of one that was ahead.
            self.disk.covered = self.disk.covered.min(number);
            self.disk.issued = number;
        }
        self.disk.issued = self.disk.issued.max(number);
        Some((Saved { limit, said, not_before, count }, number))
    }

    /// What is on disk is ahead of what is used.
    pub(super) fn is_ahead(&self) -> bool {
        self.disk.issued > self.disk.grown
    }

    /// A save is on disk.
    pub(super) fn saved(&mut self, number: u64) {
        self.disk.covered = self.disk.covered.max(number);
    }

    /// Its state is to be saved, again if it was.
    pub(super) fn note_change(&mut self) {
        self.changed = true;
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        self.restored = Some(Box::new(saved));
    }

    fn take_over(&mut self, saved: Saved, now: Millis) {
        if saved.limit == self.limit {
            self.said = saved.said;
            self.not_before = self.not_before.max(saved.not_before);
        }
        self.recount = true;
        match (&mut self.body, saved.count) {
            (Body::Day(day), Count::Day { start, end, own, others }) => {
                day.restore((start, end), own, others, now);
            }
            (Body::Window(window), Count::Window { log, under_way }) => {
                for (free_at, own, others) in log.into_iter().filter(|(free_at, ..)| *free_at > now) {
                    window.restore(free_at, own, others);
                }
                window.keep_others(under_way, now);
            }
            _ => {}
        }
    }
}
