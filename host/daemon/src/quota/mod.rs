//! Quotas, adaptive rate and concurrency, classes, breakers, fair turns.
//!
//! [`Quotas`] answers one question: may this connection send this call now, and if not, when and why not. [`turns`] says whose
//! turn it is. Both are pure in time: `now` is an argument, randomness too; there is no timer, no thread, no I/O. Daily
//! counters survive a restart through [`Quotas::snapshots`] and [`Quotas::restore`]; who stores them is not this room's business.
//!
//! Invariants:
//! - A call takes from all its quotas or from none, and never more than a window, a day or a concurrency limit has.
//! - What the CRM says wins: nothing is admitted before a named wait has passed; its remaining counts lower our view and never raise it;
//!   a limit that it states replaces the descriptor's.
//! - Bulk work (reconciliation, backfill) leaves a reserve of each window and day to edits.
//!
//! Which quotas a call takes: those of its charges (one unit of the connection's first quota if it names none), and one unit of each quota
//! that these name in `also`, and so on. A quota that neither names, a concurrency quota too, does not hold for the call.

mod breaker;
mod day;
mod meter;
pub mod turns;
mod window;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use tandem_core::Millis;
use tandem_core::descriptor::{QuotaDescriptor, QuotaScope};
use tandem_core::exchange::{Charge, QuotaState, Throttle, Wait};
use tandem_core::id::ConnectionId;

use crate::store::Class;
use breaker::{Breaker, Ruling};
use meter::{Early, Meter, Saved};

/// When a cause has no end of its own.
pub const NEVER: Millis = Millis::MAX;

/// What the operator may tune.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Percent of each window and day that reconciliation and backfill leave alone.
    pub bulk_reserve: u8,
    /// Percent that retries leave alone.
    pub retry_reserve: u8,
    /// Percent of a limit below which refusals do not lower the rate.
    pub floor: u8,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { bulk_reserve: 20, retry_reserve: 5, floor: 12 }
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
    /// A saved counter.
    #[error("saved quota counters {key}: {what}; they start from what the CRM says")]
    Saved {
        /// Under which name they were stored.
        key: String,
        /// What is wrong with them.
        what: String,
    },
}

/// Why a connection waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// It does not.
    None,
    /// A quota is spent, or the CRM asked for a pause.
    Quota {
        /// Its name; empty for a pause that names no quota.
        quota: String,
        /// Not before this moment.
        until: Millis,
    },
    /// It failed too often.
    Breaker {
        /// When one call tries again.
        until: Millis,
    },
    /// The credentials are refused.
    Authorisation {
        /// What the CRM or the token endpoint said, without secrets.
        reason: String,
    },
    /// The CRM or the provider says that nothing works until somebody acts.
    Blocked {
        /// Why.
        reason: String,
    },
    /// An operator paused it.
    Paused,
    /// Nobody has registered it here.
    Unknown,
}

impl Cause {
    /// Not before this moment; [`NEVER`] for causes that somebody has to clear.
    #[must_use]
    pub fn until(&self) -> Millis {
        match self {
            Self::None => 0,
            Self::Quota { until, .. } | Self::Breaker { until } => *until,
            Self::Authorisation { .. } | Self::Blocked { .. } | Self::Paused | Self::Unknown => NEVER,
        }
    }
}

/// How a connection stands, for the scheduler and for `tandem status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Why it waits, if it does.
    #[serde(flatten)]
    pub cause: Cause,
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

impl Permit {
    /// Says what became of the call. Refusals and successes are told apart with [`Quotas::throttled`] and its siblings.
    pub fn finish(mut self, outcome: Outcome, now: Millis) {
        self.end(outcome, Some(now));
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
        for &(place, units) in &self.takes {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place) {
                match outcome {
                    Outcome::Sent => meter.release(units, admitted, now),
                    Outcome::NotSent => meter.refund(units),
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

type Takes = Vec<(Place, u64)>;

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
    not_before: Millis,
    pauses: u32,
    authorisation: Option<Box<str>>,
    blocked: Option<Box<str>>,
    paused: bool,
}

/// The quotas that the connections of an app share.
#[derive(Debug, Default)]
struct Pool {
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
    tuning: Tuning,
    accounts: RwLock<HashMap<ConnectionId, Arc<Account>>>,
    pools: RwLock<HashMap<Box<str>, Arc<Mutex<Pool>>>>,
}

impl Quotas {
    /// No connections yet.
    #[must_use]
    pub fn new(tuning: Tuning) -> Self {
        Self { tuning, ..Self::default() }
    }

    /// Makes a connection known, or gives it other quotas; what is used of quotas that stay is kept.
    ///
    /// # Errors
    /// A quota that cannot be understood; nothing is changed then.
    pub fn register(
        &self,
        connection: &ConnectionId,
        app: &str,
        quotas: &[QuotaDescriptor],
    ) -> Result<(), QuotaError> {
        let mut fresh = Vec::with_capacity(quotas.len());
        for (at, quota) in quotas.iter().enumerate() {
            if quotas.iter().take(at).any(|other| other.name == quota.name) {
                let what = "there are two of this name".to_owned();
                return Err(QuotaError::Descriptor { quota: quota.name.clone(), what });
            }
            fresh.push(Meter::new(quota)?);
        }
        let also = closures(quotas)?;

        let account =
            Arc::clone(self.accounts.write().entry(connection.clone()).or_insert_with(Account::new));
        let mut state = account.state.lock();
        if state.pool.is_none() && quotas.iter().any(|quota| quota.scope == QuotaScope::App) {
            state.pool = Some(Arc::clone(self.pools.write().entry(app.into()).or_default()));
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
            return Admission::Wait { until: NEVER, cause: Cause::Unknown };
        };
        let mut guard = account.state.lock();
        let state = &mut *guard;
        if let Some(cause) = state.stopped(now) {
            return Admission::Wait { until: cause.until(), cause };
        }
        let takes = state.takes(charges);
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        if let Some(cause) = state.early(&takes, pool.as_deref_mut(), class, now, &self.tuning) {
            return Admission::Wait { until: cause.until(), cause };
        }
        // Pacing comes last because asking it takes; a token lost to a second pacer's no only slows bulk work.
        for &(place, units) in &takes {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place)
                && let Err(early) = meter.pace(units, class, now, &self.tuning)
            {
                let until = early.moment(now);
                let cause = Cause::Quota { quota: state.name_of(place), until };
                return Admission::Wait { until, cause };
            }
        }
        for &(place, units) in &takes {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place) {
                meter.take(units);
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

    /// What the headers of a response said.
    pub fn observe(&self, connection: &ConnectionId, states: &[QuotaState], now: Millis) {
        if states.is_empty() {
            return;
        }
        self.with(connection, |state, pool| {
            let mut pool = pool;
            for said in states {
                let Some(place) = state.place_of(&said.quota) else { continue };
                if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), place) {
                    meter.observe(said, now);
                }
            }
        });
    }

    /// The CRM refused a call for want of quota. `random`: any number, for the jitter of waits that it does not name.
    pub fn throttled(&self, connection: &ConnectionId, throttle: &Throttle, now: Millis, random: u64) {
        let tuning = &self.tuning;
        self.with(connection, |state, pool| {
            let place = throttle.quota.as_deref().and_then(|name| state.place_of(name));
            if let Some(place) = place {
                if let Some(meter) = meter_at(&mut state.meters, pool, place) {
                    meter.refused(throttle.wait, now, random, tuning);
                }
                return;
            }
            // No quota is named: the whole connection pauses, and its windows are in doubt.
            let news = now >= state.not_before;
            match throttle.wait {
                Wait::Until(at) => state.not_before = state.not_before.max(at),
                Wait::Unknown if news => {
                    let pause = 1_000_u64.saturating_mul(1 << state.pauses.min(8)).min(300_000);
                    state.pauses = state.pauses.saturating_add(1);
                    state.not_before = now + jitter(pause, random);
                }
                Wait::Unknown => {}
            }
            if news && let Some(place) = state.lines.first().map(|line| line.place) {
                let until = Wait::Until(state.not_before);
                if let Some(meter) = meter_at(&mut state.meters, pool, place) {
                    meter.refused(until, now, random, tuning);
                }
            }
        });
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

    /// Somebody acted: refused credentials, blocks and the breaker are forgotten. A pause stays.
    pub fn clear(&self, connection: &ConnectionId) {
        self.with(connection, |state, _| {
            state.authorisation = None;
            state.blocked = None;
            state.breaker.succeeded();
        });
    }

    /// An operator pauses the connection, or lets it go on.
    pub fn pause(&self, connection: &ConnectionId, paused: bool) {
        self.with(connection, |state, _| state.paused = paused);
    }

    /// How the connection stands for an ordinary call of an edit.
    #[must_use]
    pub fn standing(&self, connection: &ConnectionId, now: Millis) -> Standing {
        let Some(account) = self.account(connection) else {
            return Standing { cause: Cause::Unknown, quotas: Vec::new() };
        };
        let mut guard = account.state.lock();
        let state = &mut *guard;
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        let cause = state.stopped(now).or_else(|| {
            let takes = state.takes(&[]);
            state.early(&takes, pool.as_deref_mut(), Class::Live, now, &self.tuning)
        });
        let mut quotas = Vec::with_capacity(state.lines.len());
        for line in &state.lines {
            if let Some(meter) = meter_at(&mut state.meters, pool.as_deref_mut(), line.place) {
                meter.roll(now);
                quotas.push(QuotaStanding {
                    quota: line.name.to_string(),
                    limit: meter.allowed(),
                    used: meter.used(),
                    rate: meter.rate_percent(),
                });
            }
        }
        Standing { cause: cause.unwrap_or(Cause::None), quotas }
    }

    /// When the connection may send an ordinary call of this class at the earliest: 0 for at once. Cheaper than [`Self::standing`].
    #[must_use]
    pub fn not_before(&self, connection: &ConnectionId, class: Class, now: Millis) -> Millis {
        let Some(account) = self.account(connection) else { return NEVER };
        let mut guard = account.state.lock();
        let state = &mut *guard;
        if let Some(cause) = state.stopped(now) {
            return cause.until();
        }
        let takes = state.takes(&[]);
        let pool = state.pool.clone();
        let mut pool = pool.as_ref().map(|pool| pool.lock());
        state.early(&takes, pool.as_deref_mut(), class, now, &self.tuning).map_or(0, |cause| cause.until())
    }

    /// Counters that changed since the last call and are worth keeping over a restart, as named values for the store:
    /// daily budgets, and windows of a minute and more. What is used between the last stored snapshot and a crash is
    /// learnt from the CRM again, by its headers or by a refusal.
    #[must_use]
    pub fn snapshots(&self, now: Millis) -> Vec<(String, Vec<u8>)> {
        let mut out = Vec::new();
        let accounts: Vec<_> =
            self.accounts.read().iter().map(|(id, account)| (id.clone(), Arc::clone(account))).collect();
        for (id, account) in accounts {
            if let Some(bytes) = save(&mut account.state.lock().meters, now) {
                out.push((format!("quota/connection/{id}"), bytes));
            }
        }
        let pools: Vec<_> =
            self.pools.read().iter().map(|(app, pool)| (app.clone(), Arc::clone(pool))).collect();
        for (app, pool) in pools {
            if let Some(bytes) = save(&mut pool.lock().meters, now) {
                out.push((format!("quota/app/{app}"), bytes));
            }
        }
        out
    }

    /// The name under which a connection's counters are stored.
    #[must_use]
    pub fn connection_key(connection: &ConnectionId) -> String {
        format!("quota/connection/{connection}")
    }

    /// The name under which the counters of an app are stored.
    #[must_use]
    pub fn app_key(app: &str) -> String {
        format!("quota/app/{app}")
    }

    /// Takes over a counter that [`Self::snapshots`] gave; the connection or app is registered already.
    ///
    /// # Errors
    /// Bytes that are not a snapshot.
    pub fn restore(&self, key: &str, bytes: &[u8], now: Millis) -> Result<(), QuotaError> {
        let bad = |what: String| QuotaError::Saved { key: key.to_owned(), what };
        let saved: Vec<(String, Saved)> = match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|error| bad(error.to_string()))?,
            _ => return Err(bad("unknown format".to_owned())),
        };
        let restore = |meters: &mut Vec<(Box<str>, Meter)>| {
            for (name, saved) in &saved {
                if let Some((_, meter)) = meters.iter_mut().find(|(known, _)| **known == **name) {
                    meter.restore(saved, now);
                }
            }
        };
        if let Some(connection) = key.strip_prefix("quota/connection/") {
            if let Some(account) = self.account(&connection.into()) {
                restore(&mut account.state.lock().meters);
            }
        } else if let Some(app) = key.strip_prefix("quota/app/")
            && let Some(pool) = self.pools.read().get(app)
        {
            restore(&mut pool.lock().meters);
        }
        Ok(())
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

/// First byte of a snapshot.
const FORMAT: u8 = 1;

fn save(meters: &mut [(Box<str>, Meter)], now: Millis) -> Option<Vec<u8>> {
    let changed = meters.iter_mut().fold(false, |changed, (_, meter)| meter.take_changed() | changed);
    if !changed {
        return None;
    }
    let saved: Vec<(&str, Saved)> =
        meters.iter_mut().filter_map(|(name, meter)| Some((&**name, meter.save(now)?))).collect();
    if saved.is_empty() {
        return None;
    }
    postcard::to_extend(&saved, vec![FORMAT]).ok()
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
                pauses: 0,
                authorisation: None,
                blocked: None,
                paused: false,
            }),
        })
    }
}

impl State {
    fn stopped(&self, now: Millis) -> Option<Cause> {
        if self.paused {
            return Some(Cause::Paused);
        }
        if let Some(reason) = &self.blocked {
            return Some(Cause::Blocked { reason: reason.to_string() });
        }
        if let Some(reason) = &self.authorisation {
            return Some(Cause::Authorisation { reason: reason.to_string() });
        }
        if let Ruling::Open(until) = self.breaker.ruling(now) {
            return Some(Cause::Breaker { until });
        }
        (now < self.not_before).then(|| Cause::Quota { quota: String::new(), until: self.not_before })
    }

    /// What a call takes: its charges first, then one unit of each quota that they draw in.
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
        takes
            .into_iter()
            .filter_map(|(line, units)| self.lines.get(line).map(|line| (line.place, units)))
            .collect()
    }

    /// Which quota makes the call wait longest.
    fn early(
        &mut self,
        takes: &Takes,
        mut pool: Option<&mut Pool>,
        class: Class,
        now: Millis,
        tuning: &Tuning,
    ) -> Option<Cause> {
        let mut worst: Option<(Place, Millis)> = None;
        for &(place, units) in takes {
            let Some(meter) = meter_at(&mut self.meters, pool.as_deref_mut(), place) else { continue };
            meter.roll(now);
            if let Err(early) = meter.check(units, class, now, tuning) {
                let until = early.moment(now);
                if worst.is_none_or(|(_, known)| until > known) {
                    worst = Some((place, until));
                }
            }
        }
        worst.map(|(place, until)| Cause::Quota { quota: self.name_of(place), until })
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
