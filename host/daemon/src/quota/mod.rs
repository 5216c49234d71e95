//! Quotas, adaptive rate and concurrency, classes, breakers.
//!
//! [`Quotas`] answers one question: may this connection send this call now, and if not, when and why not. It is
//! pure in time: `now` is an argument, randomness too; there is no timer, no thread, no I/O. Daily
//! counters, and what the CRM said of their limits, survive a restart through [`Quotas::to_save`] and [`Quotas::restore`]; who stores
//! them is not this room's business.
//!
//! Invariants:
//! - A call takes from all its quotas or from none, and never more than a window, a day or a concurrency limit has.
//! - What the CRM says wins: nothing is admitted before a named wait has passed; its remaining counts lower our view, and never raise it
//!   above what we sent ourselves; a limit that it states replaces the descriptor's.
//! - A pause is for the figures that it came with: a limit that was raised, by the CRM's word or by the operator's, ends it.
//! - What a budget that outlasts the daemon loses to a call is on disk before the call is sent ([`Permit::is_saved`]): whoever is
//!   killed has not used more than was saved.
//! - Bulk work (reconciliation, backfill) leaves a reserve of each window and day to edits.
//!
//! Which quotas a call takes: those of its charges (one unit of the connection's first quota if it names none), and one unit of each quota
//! that these name in `also`, and so on. A quota that neither names, a concurrency quota too, does not hold for the call.

mod breaker;
mod day;
mod meter;
mod saving;
mod window;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tandem_core::Millis;
use tandem_core::descriptor::{QuotaDescriptor, QuotaScope};
use tandem_core::exchange::{Charge, QuotaState, Wait};
use tandem_core::id::ConnectionId;
use tokio::sync::Notify;

use crate::store::Class;
use breaker::{Breaker, Ruling};
use meter::{Early, Meter};
use saving::{Counters, Owner, give_back, owner};
pub use saving::{Extent, Saving};

/// When a cause has no end of its own.
pub const NEVER: Millis = Millis::MAX;

/// What the operator may say of all quotas.
#[derive(Clone, Copy, Debug)]
pub struct QuotaConfig {
    /// Percent of each of the CRM's quotas that Tandem may use; the rest is left to others. 1 to 100.
    pub share: u32,
    /// Percent of Tandem's part that reconciliation and backfill leave alone; retries leave a quarter of it. 0 to 90.
    pub reserve: u32,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { share: 100, reserve: 20 }
    }
}

/// Quotas that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// One quota of a descriptor or override.
    #[error("quota {quota}: {what}")]
    Descriptor {
        /// Its name.
        quota: String,
        /// What is wrong with it.
        what: String,
    },
    /// Saved counters.
    #[error("saved quota counters: {what}; they start from what the CRM says")]
    Saved {
        /// What is wrong with them.
        what: String,
    },
}

/// Why a connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It does not.
    None,
    /// A quota is spent, or the CRM asked for a pause.
    Quota,
    /// It failed too often; one call tries again when the time has come.
    Breaker,
    /// The credentials are refused, until [`Quotas::clear`].
    Authorisation,
    /// Nothing works until somebody acts and [`Quotas::clear`] is called. Also: the connection is not configured.
    Blocked,
}

/// How a connection stands, for the scheduler and for `tandem status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Why it waits, if it does.
    pub cause: Cause,
    /// Not before this moment: 0 for at once, [`NEVER`] for a cause that somebody has to clear.
    pub not_before: Millis,
    /// The quota's name (empty for a pause that names none), or the reason in words.
    pub detail: String,
    /// Each quota, in the descriptor's order.
    pub quotas: Vec<QuotaStanding>,
}

/// How one quota stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuotaStanding {
    /// Its name.
    pub quota: String,
    /// The limit that holds now.
    pub limit: u64,
    /// What is used of it.
    pub used: u64,
    /// Percent of its full rate, below 100 after refusals.
    pub rate: u64,
    /// A pause after a refusal ends then; 0 if there was none.
    pub not_before: Millis,
}

/// Whether a call may go.
#[derive(Debug)]
pub enum Admission {
    /// Now.
    Go(Permit),
    /// Not before `until`; asking again then may give another wait.
    Wait {
        /// [`NEVER`] if somebody has to clear the cause.
        until: Millis,
        /// Why.
        cause: Cause,
        /// The quota's name (empty for a pause that names none), or the reason in words.
        detail: String,
    },
}

/// What became of an admitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent, or may have been: its units are used.
    Sent,
    /// No byte was sent: its units come back.
    NotSent,
}

/// The right to send one call. Dropping it counts the call as sent.
#[derive(Debug)]
pub struct Permit {
    account: Arc<Account>,
    takes: Takes,
    admitted: Millis,
    probe: bool,
    over: bool,
}

/// Which call an answer belongs to, for what its headers say.
#[derive(Debug, Default)]
pub struct Answered {
    takes: Takes,
}

impl Permit {
    /// Says what became of the call. Refusals and successes are told apart with [`Quotas::throttled`] and its siblings.
    pub fn finish(mut self, outcome: Outcome, now: Millis) -> Answered {
        self.end(outcome, Some(now));
        Answered { takes: std::mem::take(&mut self.takes) }
    }

    /// Whether the call may be sent: what it takes is on disk, where that has to be. If not, what [`Quotas::to_save`] gives has to be
    /// stored first.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        let mut state = self.account.state.lock();
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        self.takes.iter().filter(|take| take.units > 0).all(|take| {
            meter_at(&mut state.meters, pool.as_deref_mut(), take.place)
                .is_none_or(|meter| meter.is_saved(take.grown))
        })
    }

    fn end(&mut self, outcome: Outcome, now: Option<Millis>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let admitted = self.admitted;
        let mut state = self.account.state.lock();
        if self.probe {
            state.breaker.probed();
        }
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        for take in self.takes.iter().filter(|take| take.units > 0) {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), take.place) {
                match outcome {
                    Outcome::Sent => meter.release(take.units, admitted, now),
                    Outcome::NotSent => meter.refund(take.units),
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(Outcome::Sent, None);
    }
}

/// Where a quota's state is: a connection's own, or its app's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own(usize),
    App(usize),
}

/// What a call takes of a quota of its connection, or that it takes nothing.
#[derive(Clone, Copy, Debug)]
struct Take {
    place: Place,
    units: u64,
    /// Units of the quota that had been taken and had come back before.
    settled: u64,
    /// How far the count on disk has to reach.
    grown: u64,
}

/// Of every quota of the connection, those that the call takes from first.
type Takes = Vec<Take>;

/// One line of a connection's quotas.
#[derive(Debug)]
struct Line {
    name: Box<str>,
    place: Place,
    also: Box<[usize]>,
}

#[derive(Debug)]
struct Account {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    meters: Vec<(Box<str>, Meter)>,
    pool: Option<Arc<Mutex<Pool>>>,
    breaker: Breaker,
    /// By a pause that names no quota.
    not_before: Millis,
    /// Not saved yet.
    paused: bool,
    pauses: u32,
    /// What the last call would have taken that had to wait for a quota.
    turned_away: Option<(Takes, Class)>,
    authorisation: Option<Box<str>>,
    blocked: Option<Box<str>>,
}

/// The quotas that the connections of an app share.
#[derive(Debug, Default)]
struct Pool {
    app: Box<str>,
    meters: Vec<(Box<str>, Meter)>,
}

fn meter_at<'a>(
    own: &'a mut [(Box<str>, Meter)],
    pool: Option<&'a mut Pool>,
    place: Place,
) -> Option<&'a mut Meter> {
    match place {
        Place::Own(at) => own.get_mut(at).map(|(_, meter)| meter),
        Place::App(at) => pool?.meters.get_mut(at).map(|(_, meter)| meter),
    }
}

/// All quotas, breakers and standing causes of all connections.
#[derive(Debug, Default)]
pub struct Quotas {
    config: QuotaConfig,
    accounts: RwLock<HashMap<ConnectionId, Arc<Account>>>,
    pools: RwLock<HashMap<Box<str>, Arc<Mutex<Pool>>>>,
    /// Counters of the last run, until their connection or app is configured.
    restored: Mutex<HashMap<String, Counters>>,
    /// Whose counters have to be saved before something is sent, or soon.
    due: Mutex<BTreeSet<Owner>>,
    rung: Notify,
}

impl Quotas {
    /// No connections yet.
    #[must_use]
    pub fn new(config: QuotaConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Whether quotas can be kept. Nothing is changed.
    ///
    /// # Errors
    /// The first one that cannot be understood.
    pub fn check(quotas: &[QuotaDescriptor]) -> Result<(), QuotaError> {
        understood(quotas).map(drop)
    }

    /// Makes a connection known, or gives it other quotas; what is used of quotas that stay is kept.
    ///
    /// # Errors
    /// A quota that cannot be understood; nothing is changed then.
    pub fn configure(
        &self,
        connection: &ConnectionId,
        app: Option<&str>,
        quotas: &[QuotaDescriptor],
    ) -> Result<(), QuotaError> {
        let (fresh, also) = understood(quotas)?;
        let account =
            Arc::clone(self.accounts.write().entry(connection.clone()).or_insert_with(Account::new));
        let mut state = account.state.lock();
        if state.pool.is_none() && quotas.iter().any(|quota| quota.scope == QuotaScope::App) {
            // Without an app, a quota of the app is the connection's own.
            state.pool =
                app.map(|app| {
                    let mut pools = self.pools.write();
                    Arc::clone(pools.entry(app.into()).or_insert_with(|| {
                        Arc::new(Mutex::new(Pool { app: app.into(), meters: Vec::new() }))
                    }))
                });
        }
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        let mut lines = Vec::with_capacity(quotas.len());
        for ((quota, meter), also) in quotas.iter().zip(fresh).zip(also) {
            let place = match (quota.scope, pool.as_deref_mut()) {
                (QuotaScope::App, Some(pool)) => Place::App(settle(&mut pool.meters, quota, meter)),
                (QuotaScope::App | QuotaScope::Connection, _) => {
                    Place::Own(settle(&mut state.meters, quota, meter))
                }
            };
            lines.push(Line { name: quota.name.as_str().into(), place, also });
        }
        state.lines = lines;
        // It may point at quotas that are no more.
        state.turned_away = None;
        let mut restored = self.restored.lock();
        if !restored.is_empty() {
            if let Some(counters) = restored.remove(&Owner::Connection(connection.clone()).to_string()) {
                state.not_before = state.not_before.max(counters.not_before);
                give_back(&mut state.meters, counters);
            }
            if let (Some(app), Some(pool)) = (app, pool.as_deref_mut())
                && let Some(counters) = restored.remove(&Owner::App(app.into()).to_string())
            {
                give_back(&mut pool.meters, counters);
            }
        }
        Ok(())
    }

    /// Forgets a connection. Calls under way end as usual.
    pub fn remove(&self, connection: &ConnectionId) {
        self.accounts.write().remove(connection);
    }

    fn account(&self, connection: &ConnectionId) -> Option<Arc<Account>> {
        self.accounts.read().get(connection).map(Arc::clone)
    }

    /// Whether the connection may send a call with these charges now.
    #[must_use]
    pub fn admit(
        &self,
        connection: &ConnectionId,
        charges: &[Charge],
        class: Class,
        now: Millis,
    ) -> Admission {
        let Some(account) = self.account(connection) else {
            return Halt::unknown().into();
        };
        let mut guard = account.state.lock();
        let state = &mut *guard;
        if let Some(halt) = state.stopped(now) {
            return halt.into();
        }
        let takes = state.takes(charges);
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        if let Some(halt) = state.early(&takes, pool.as_deref_mut(), class, now, &self.config) {
            // Bulk work that leaves the reserve alone says nothing of edits.
            if class <= Class::Retry {
                state.turned_away = Some((takes, class));
            }
            return halt.into();
        }
        // Pacing comes last because asking it takes; a token lost to a second pacer's no only slows bulk work.
        for take in takes.iter().filter(|take| take.units > 0) {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), take.place)
                && let Err(early) = meter.pace(take.units, class, now, &self.config)
            {
                return Halt::quota(state.name_of(take.place), early.moment(now)).into();
            }
        }
        let mut takes = takes;
        for take in &mut takes {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), take.place) {
                take.settled = meter.settled();
                if take.units > 0 {
                    meter.take(take.units);
                    take.grown = meter.grown();
                    if !meter.is_saved(take.grown) {
                        self.fall_due(owner(take.place, connection, pool.as_deref()));
                    }
                }
            }
        }
        let probe = state.breaker.ruling(now) == Ruling::Probe;
        if probe {
            state.breaker.probe();
        }
        drop(pool);
        drop(guard);
        Admission::Go(Permit { account, takes, admitted: now, probe, over: false })
    }

    /// What the headers of a response said, and to which call. Whether calls may go that had to wait.
    pub fn observe(
        &self,
        connection: &ConnectionId,
        states: &[QuotaState],
        answered: &Answered,
        now: Millis,
    ) -> bool {
        if states.is_empty() {
            return false;
        }
        let config = &self.config;
        self.with(connection, |state, pool| {
            let mut pool = pool;
            let mut more = false;
            for said in states {
                let Some(place) = state.place_of(&said.quota) else { continue };
                let taken = answered.takes.iter().find(|take| take.place == place);
                if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place) {
                    let overlap = taken.map(|take| meter.overlap(take.settled, take.units));
                    more |= meter.observe(said, overlap, now, config);
                    if !meter.is_saved(meter.grown()) {
                        self.fall_due(owner(place, connection, pool.as_deref()));
                    }
                }
            }
            more
        })
        .unwrap_or_default()
    }

    /// The CRM refused a call for want of quota; the answer says when to come back at the earliest. `random`: any number, for
    /// the jitter of waits that the CRM does not name.
    pub fn throttled(
        &self,
        connection: &ConnectionId,
        quota: Option<&str>,
        wait: Wait,
        now: Millis,
        random: u64,
    ) -> Millis {
        let config = &self.config;
        self.with(connection, |state, pool| {
            let mut pool = pool;
            let named = quota.and_then(|name| state.place_of(name));
            let mut until = now;
            let mut doubted = named;
            let mut wait = wait;
            if named.is_none() {
                // No quota is named: the whole connection pauses, and its first quota is in doubt.
                let news = now >= state.not_before;
                let before = state.not_before;
                match wait {
                    Wait::Until(at) => state.not_before = state.not_before.max(at),
                    Wait::Unknown if news => {
                        let pause = 1_000_u64.saturating_mul(1 << state.pauses.min(8)).min(300_000);
                        state.pauses = state.pauses.saturating_add(1);
                        state.not_before = now + jitter(pause, random);
                    }
                    Wait::Unknown => {}
                }
                if state.not_before > before {
                    state.paused = true;
                    self.fall_due(Owner::Connection(connection.clone()));
                }
                until = state.not_before;
                wait = Wait::Until(until);
                doubted = state.lines.first().map(|line| line.place).filter(|_| news);
            }
            if let Some(place) = doubted
                && let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place)
            {
                let back = meter.refused(wait, now, random, config);
                if !meter.is_saved(meter.grown()) {
                    self.fall_due(owner(place, connection, pool.as_deref()));
                }
                if named.is_some() {
                    until = back;
                }
            }
            until
        })
        .unwrap_or(NEVER)
    }

    /// The CRM answered as it should: closes the breaker, raises a lowered rate by and by.
    pub fn succeeded(&self, connection: &ConnectionId, now: Millis) {
        self.with(connection, |state, pool| {
            let mut pool = pool;
            state.breaker.succeeded();
            if now >= state.not_before {
                state.pauses = 0;
            }
            for at in 0..state.lines.len() {
                let Some(place) = state.lines.get(at).map(|line| line.place) else { continue };
                if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place) {
                    meter.succeeded(now);
                }
            }
        });
    }

    /// The CRM did not answer, or with an error of its own.
    pub fn failed(&self, connection: &ConnectionId, now: Millis, random: u64) {
        self.with(connection, |state, _| state.breaker.failed(now, random));
    }

    /// The credentials are refused: nothing is sent until [`Self::clear`].
    pub fn unauthorised(&self, connection: &ConnectionId, reason: &str) {
        self.with(connection, |state, _| state.authorisation = Some(reason.into()));
    }

    /// Nothing works until somebody acts: nothing is sent until [`Self::clear`].
    pub fn blocked(&self, connection: &ConnectionId, reason: &str) {
        self.with(connection, |state, _| state.blocked = Some(reason.into()));
    }

    /// Somebody acted: refused credentials, blocks and the breaker are forgotten; what the CRM said of its quotas is not.
    pub fn clear(&self, connection: &ConnectionId) {
        self.with(connection, |state, _| {
            state.authorisation = None;
            state.blocked = None;
            state.breaker.succeeded();
        });
    }

    /// How the connection stands for an ordinary call of an edit, and for the call that was turned away last: what is left may be enough
    /// for the one and too little for the other.
    #[must_use]
    pub fn standing(&self, connection: &ConnectionId, now: Millis) -> Standing {
        let Some(account) = self.account(connection) else {
            let Halt { cause, until, detail } = Halt::unknown();
            return Standing { cause, not_before: until, detail, quotas: Vec::new() };
        };
        let mut guard = account.state.lock();
        let state = &mut *guard;
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        let halt = state.stopped(now).or_else(|| {
            let takes = state.takes(&[]);
            state.early(&takes, pool.as_deref_mut(), Class::Live, now, &self.config)
        });
        let halt = halt.or_else(|| {
            let (takes, class) = state.turned_away.take()?;
            let halt = state.early(&takes, pool.as_deref_mut(), class, now, &self.config)?;
            state.turned_away = Some((takes, class));
            Some(halt)
        });
        let mut quotas = Vec::with_capacity(state.lines.len());
        for line in &state.lines {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), line.place) {
                meter.roll(now);
                quotas.push(QuotaStanding {
                    quota: line.name.to_string(),
                    limit: meter.allowed(&self.config),
                    used: meter.used(),
                    rate: meter.rate_percent(),
                    not_before: meter.not_before(),
                });
            }
        }
        match halt {
            Some(Halt { cause, until, detail }) => Standing { cause, not_before: until, detail, quotas },
            None => Standing { cause: Cause::None, not_before: 0, detail: String::new(), quotas },
        }
    }

    /// When the connection may send an ordinary call of this class at the earliest: 0 for at once. Cheaper than [`Self::standing`].
    #[must_use]
    pub fn not_before(&self, connection: &ConnectionId, class: Class, now: Millis) -> Millis {
        let Some(account) = self.account(connection) else { return NEVER };
        let mut guard = account.state.lock();
        let state = &mut *guard;
        if let Some(halt) = state.stopped(now) {
            return halt.until;
        }
        let takes = state.takes(&[]);
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        state.early(&takes, pool.as_deref_mut(), class, now, &self.config).map_or(0, |halt| halt.until)
    }

    fn with<R>(
        &self,
        connection: &ConnectionId,
        act: impl FnOnce(&mut State, Option<&mut Pool>) -> R,
    ) -> Option<R> {
        let account = self.account(connection)?;
        let mut state = account.state.lock();
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        Some(act(&mut state, pool.as_deref_mut()))
    }
}

/// Why nothing is sent now.
struct Halt {
    cause: Cause,
    until: Millis,
    detail: String,
}

impl Halt {
    fn quota(name: String, until: Millis) -> Self {
        Self { cause: Cause::Quota, until, detail: name }
    }

    fn standing(cause: Cause, reason: &str) -> Self {
        Self { cause, until: NEVER, detail: reason.to_owned() }
    }

    fn unknown() -> Self {
        Self::standing(Cause::Blocked, "the connection is not configured")
    }
}

impl From<Halt> for Admission {
    fn from(Halt { cause, until, detail }: Halt) -> Self {
        Self::Wait { until, cause, detail }
    }
}

impl Account {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                lines: Vec::new(),
                meters: Vec::new(),
                pool: None,
                breaker: Breaker::default(),
                not_before: 0,
                paused: false,
                pauses: 0,
                turned_away: None,
                authorisation: None,
                blocked: None,
            }),
        })
    }
}

impl State {
    fn stopped(&self, now: Millis) -> Option<Halt> {
        if let Some(reason) = &self.blocked {
            return Some(Halt::standing(Cause::Blocked, reason));
        }
        if let Some(reason) = &self.authorisation {
            return Some(Halt::standing(Cause::Authorisation, reason));
        }
        if let Ruling::Open(until) = self.breaker.ruling(now) {
            let detail = "the CRM failed too often".to_owned();
            return Some(Halt { cause: Cause::Breaker, until, detail });
        }
        (now < self.not_before).then(|| Halt::quota(String::new(), self.not_before))
    }

    /// What a call takes: its charges first, then one unit of each quota that they draw in, nothing of the others.
    fn takes(&self, charges: &[Charge]) -> Takes {
        let mut takes: Vec<(usize, u64)> = Vec::with_capacity(self.lines.len());
        let mut add = |at: usize, units: u64| match takes.iter_mut().find(|(known, _)| *known == at) {
            Some(take) => take.1 += units,
            None => takes.push((at, units)),
        };
        for charge in charges.iter().filter(|charge| charge.amount > 0) {
            // A name that no quota bears is charged to the default one: rather too much than too little.
            let at = self.lines.iter().position(|line| *line.name == *charge.quota).unwrap_or(0);
            add(at, u64::from(charge.amount));
        }
        if charges.is_empty() && !self.lines.is_empty() {
            add(0, 1);
        }
        let named = takes.len();
        for at in 0..named {
            let Some(line) = takes.get(at).and_then(|&(line, _)| self.lines.get(line)) else { continue };
            for &drawn in &*line.also {
                if !takes.iter().any(|(known, _)| *known == drawn) {
                    takes.push((drawn, 1));
                }
            }
        }
        for line in 0..self.lines.len() {
            if !takes.iter().any(|(known, _)| *known == line) {
                takes.push((line, 0));
            }
        }
        let of = |(line, units): (usize, u64)| {
            let place = self.lines.get(line)?.place;
            Some(Take { place, units, settled: 0, grown: 0 })
        };
        takes.into_iter().filter_map(of).collect()
    }

    /// Which quota makes the call wait longest.
    fn early(
        &mut self,
        takes: &[Take],
        mut pool: Option<&mut Pool>,
        class: Class,
        now: Millis,
        config: &QuotaConfig,
    ) -> Option<Halt> {
        let mut worst: Option<(Place, Millis)> = None;
        for &Take { place, units, .. } in takes.iter().filter(|take| take.units > 0) {
            let Some(meter) = meter_at(&mut self.meters, pool.as_deref_mut(), place) else { continue };
            meter.roll(now);
            if let Err(early) = meter.check(units, class, now, config) {
                let until = early.moment(now);
                if worst.is_none_or(|(_, known)| until > known) {
                    worst = Some((place, until));
                }
            }
        }
        worst.map(|(place, until)| Halt::quota(self.name_of(place), until))
    }

    fn name_of(&self, place: Place) -> String {
        self.lines
            .iter()
            .find(|line| line.place == place)
            .map(|line| line.name.to_string())
            .unwrap_or_default()
    }

    fn place_of(&self, quota: &str) -> Option<Place> {
        self.lines.iter().find(|line| *line.name == *quota).map(|line| line.place)
    }
}

impl Early {
    /// Where only a returning call can help, a look a little later costs nothing.
    fn moment(&self, now: Millis) -> Millis {
        match self {
            Self::Until(until) => *until,
            Self::Release => now + 10,
        }
    }
}

/// Finds the meter of that name, or adds it. Meters never move: permits point at them.
fn settle(meters: &mut Vec<(Box<str>, Meter)>, quota: &QuotaDescriptor, fresh: Meter) -> usize {
    if let Some(at) = meters.iter().position(|(name, meter)| **name == *quota.name && meter.fits(quota)) {
        if let Some((_, meter)) = meters.get_mut(at) {
            meter.adopt(fresh);
        }
        return at;
    }
    meters.push((quota.name.as_str().into(), fresh));
    meters.len() - 1
}

/// A meter for each quota, and what a charge of it draws in.
#[expect(clippy::type_complexity, reason = "two lists side by side, used at once")]
fn understood(quotas: &[QuotaDescriptor]) -> Result<(Vec<Meter>, Vec<Box<[usize]>>), QuotaError> {
    let mut fresh = Vec::with_capacity(quotas.len());
    for (at, quota) in quotas.iter().enumerate() {
        if quotas.iter().take(at).any(|other| other.name == quota.name) {
            let what = "there are two of this name".to_owned();
            return Err(QuotaError::Descriptor { quota: quota.name.clone(), what });
        }
        fresh.push(Meter::new(quota)?);
    }
    Ok((fresh, closures(quotas)?))
}

/// For each quota, all that a charge of it draws in, itself left out.
fn closures(quotas: &[QuotaDescriptor]) -> Result<Vec<Box<[usize]>>, QuotaError> {
    let find = |of: &QuotaDescriptor, name: &str| {
        quotas.iter().position(|quota| quota.name == name).ok_or_else(|| QuotaError::Descriptor {
            quota: of.name.clone(),
            what: format!("also names {name}, which is not a quota of the connection"),
        })
    };
    let mut all = Vec::with_capacity(quotas.len());
    for at in 0..quotas.len() {
        let mut reached = vec![at];
        let mut next = 0;
        while let Some(quota) = reached.get(next).and_then(|&at| quotas.get(at)) {
            for name in &quota.also {
                let drawn = find(quota, name)?;
                if !reached.contains(&drawn) {
                    reached.push(drawn);
                }
            }
            next += 1;
        }
        all.push(reached.into_iter().skip(1).collect());
    }
    Ok(all)
}

/// Between half of `pause` and the whole of it.
fn jitter(pause: Millis, random: u64) -> Millis {
    let half = pause / 2;
    half + random % (pause - half + 1)
}
