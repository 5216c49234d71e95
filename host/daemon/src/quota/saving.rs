//! Counters that outlast the daemon: which are to be written down, as what, and how a later run goes on with them.
//!
//! Invariants: a save that did not reach the disk is due again; what was saved ahead is never taken for what was used by others once
//! a later save is exact. It refuses to store anything: names and values are given to who has the store.

use std::sync::Arc;

use tandem_core::Millis;
use tandem_core::id::ConnectionId;

use super::meter::{Former, Meter, Saved};
use super::{Place, Pool, QuotaError, Quotas, State};

/// Whose counters they are. In the store they go by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Connection(ConnectionId),
    App(Box<str>),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(connection) => write!(f, "quota/connection/{connection}"),
            Self::App(app) => write!(f, "quota/app/{app}"),
        }
    }
}

/// Which counters are to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those that calls wait for, or that must not be lost.
    Due,
    /// All that changed.
    Changed,
    /// All that changed, exactly: no call is sent after it.
    Last,
}

/// Counters as values for the store. When they are on disk, [`Quotas::saved`] has to be told; nobody else may save meanwhile.
#[derive(Debug)]
pub struct Saving {
    /// Names and values.
    pub values: Vec<(String, Vec<u8>)>,
    /// How far they reach, by owner and by the meter's place.
    reach: Vec<(Owner, Vec<(usize, u64)>)>,
}

/// The counters of a connection or an app.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Counters {
    /// By a pause that names no quota.
    pub(super) not_before: Millis,
    /// By quota.
    meters: Vec<(String, Saved)>,
}

impl Quotas {
    /// Names of the stored counters that the connection and its app go on with, if they are not known yet: for [`Self::restore`], before
    /// [`Self::configure`].
    #[must_use]
    pub fn to_restore(&self, connection: &ConnectionId, app: Option<&str>) -> Vec<String> {
        let own = (!self.accounts.read().contains_key(connection))
            .then(|| Owner::Connection(connection.clone()).to_string());
        let shared = app
            .filter(|app| !self.pools.read().contains_key(*app))
            .map(|app| Owner::App(app.into()).to_string());
        own.into_iter().chain(shared).collect()
    }

    /// Returns when something has to be saved that may be lost otherwise.
    pub async fn due(&self) {
        self.rung.notified().await;
    }

    pub(super) fn fall_due(&self, owner: Owner) {
        if self.due.lock().insert(owner) {
            self.rung.notify_one();
        }
    }

    /// The counters that outlast the daemon (daily budgets, windows of a minute and more), a small value for each connection and app.
    #[must_use]
    pub fn to_save(&self, extent: Extent) -> Saving {
        let mut owners = std::mem::take(&mut *self.due.lock());
        if extent != Extent::Due {
            owners.extend(self.accounts.read().keys().cloned().map(Owner::Connection));
            owners.extend(self.pools.read().keys().cloned().map(Owner::App));
        }
        let mut saving = Saving { values: Vec::with_capacity(owners.len()), reach: Vec::new() };
        for owner in owners {
            let found = self.meters_of(&owner, |meters, state| {
                let mut changed = state.as_ref().is_some_and(|state| *state.paused);
                for (_, meter) in meters.iter_mut() {
                    changed |= meter.take_changed() || extent == Extent::Last && meter.is_ahead();
                }
                if !changed {
                    return None;
                }
                let not_before = state.map_or(0, |state| {
                    *state.paused = false;
                    state.not_before
                });
                let mut counters = Counters { not_before, meters: Vec::new() };
                let mut reach = Vec::new();
                for (at, (name, meter)) in meters.iter_mut().enumerate() {
                    if let Some((saved, number)) = meter.save(extent != Extent::Last) {
                        counters.meters.push((name.to_string(), saved));
                        reach.push((at, number));
                    }
                }
                (not_before > 0 || !reach.is_empty()).then_some((counters, reach))
            });
            let Some((counters, reach)) = found.flatten() else { continue };
            saving.values.push((owner.to_string(), written(&counters)));
            saving.reach.push((owner, reach));
        }
        saving
    }

    /// What [`Self::to_save`] gave is on disk.
    pub fn saved(&self, saving: Saving) {
        for (owner, reach) in saving.reach {
            self.meters_of(&owner, |meters, _| {
                for (at, number) in reach {
                    if let Some((_, meter)) = meters.get_mut(at) {
                        meter.saved(number);
                    }
                }
            });
        }
    }

    /// What [`Self::to_save`] gave did not reach the disk: it is due again, when somebody saves next.
    pub fn unsaved(&self, saving: Saving) {
        for (owner, _) in saving.reach {
            self.meters_of(&owner, |meters, state| {
                meters.iter_mut().for_each(|(_, meter)| meter.note_change());
                if let Some(state) = state {
                    *state.paused = true;
                }
            });
            self.due.lock().insert(owner);
        }
    }

    fn meters_of<R>(
        &self,
        owner: &Owner,
        act: impl FnOnce(&mut [(Box<str>, Meter)], Option<Pausing<'_>>) -> R,
    ) -> Option<R> {
        match owner {
            Owner::Connection(connection) => {
                let account = self.account(connection)?;
                let mut guard = account.state.lock();
                let State { meters, not_before, paused, .. } = &mut *guard;
                Some(act(meters, Some(Pausing { not_before: *not_before, paused })))
            }
            Owner::App(app) => {
                let pool = self.pools.read().get(app).map(Arc::clone)?;
                let mut pool = pool.lock();
                Some(act(&mut pool.meters, None))
            }
        }
    }

    /// Takes over a stored value of the last run. The connection or app gets it when it is configured.
    ///
    /// # Errors
    /// Bytes that are no counters; nothing is changed then.
    pub fn restore(&self, name: &str, value: &[u8]) -> Result<(), QuotaError> {
        let bad = |what: String| QuotaError::Saved { what };
        let counters = match value.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest).map_err(|error| bad(error.to_string()))?,
            _ => return Err(bad("unknown format".to_owned())),
        };
        self.restored.lock().insert(name.to_owned(), counters);
        Ok(())
    }

    /// The one value in which all counters were stored before each owner had its own, as values of today.
    ///
    /// # Errors
    /// Bytes that are no counters.
    pub fn separated(value: &[u8]) -> Result<Vec<(String, Vec<u8>)>, QuotaError> {
        type All = Vec<(String, Vec<(String, Former)>)>;
        let bad = |what: String| QuotaError::Saved { what };
        let all: All = match value.split_first() {
            Some((&FORMER, rest)) => postcard::from_bytes(rest).map_err(|error| bad(error.to_string()))?,
            _ => return Err(bad("unknown format".to_owned())),
        };
        // The names have the same ends.
        let separated = all.into_iter().map(|(name, meters)| {
            let meters = meters.into_iter().map(|(quota, saved)| (quota, saved.into())).collect();
            (format!("quota/{name}"), written(&Counters { not_before: 0, meters }))
        });
        Ok(separated.collect())
    }
}

/// First byte of a stored value.
const FORMAT: u8 = 2;

/// First byte of the value that had the counters of all.
const FORMER: u8 = 1;

fn written(counters: &Counters) -> Vec<u8> {
    postcard::to_extend(counters, vec![FORMAT]).unwrap_or_default()
}

/// A connection's pause that names no quota.
struct Pausing<'a> {
    not_before: Millis,
    /// Not saved yet.
    paused: &'a mut bool,
}

pub(super) fn owner(place: Place, connection: &ConnectionId, pool: Option<&Pool>) -> Owner {
    match (place, pool) {
        (Place::App(_), Some(pool)) => Owner::App(pool.app.clone()),
        _ => Owner::Connection(connection.clone()),
    }
}

pub(super) fn give_back(meters: &mut [(Box<str>, Meter)], counters: Counters) {
    for (name, saved) in counters.meters {
        if let Some((_, meter)) = meters.iter_mut().find(|(known, _)| **known == *name) {
            meter.restore(saved);
        }
    }
}
