//! What is asked of all that Tandem did in a world, whoever's records it was about: each write has a cause and is told of, nothing is
//! done twice, in vain, or against what an account or the guard said. It looks at no end: where values stand is asked next door.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem::store::{HistoryEntry, Store as _};
use tandem_core::Millis;
use tandem_core::id::EntityKey;

use super::{Checker, plain};
use crate::daemon::connection_id;
use crate::history::{Side, Track, What, Who};
use crate::setting::Guard;
use crate::values::{self, EMAIL, OBJECT};

/// A piece of work is told of within so long of each thing that it did.
const TELLS_WITHIN: Millis = 60_000;

/// A history of more bytes than these may have been cut.
pub(super) const FULL_HISTORY: u64 = 24 << 10;

/// Since when a record is there with an address, before the change of a number. None: it is not, or has another one.
fn holds_since(track: &Track, before: u64, address: &str) -> Option<Millis> {
    let (mut live, mut known, mut since) = (false, None, 0);
    for change in track.changes.iter().filter(|change| change.number < before) {
        match change.what {
            What::Born | What::Back => live = true,
            What::Died | What::Merged(_) => live = false,
            What::Edited => {}
        }
        let value = change.fields.get(EMAIL);
        if value.is_some() || change.what != What::Edited {
            // A record that is put back has what it is put back with.
            known = value.and_then(plain);
            since = change.at;
        }
    }
    (live && known.as_deref() == Some(address)).then_some(since)
}

impl Checker<'_> {
    /// Every value that Tandem wrote was on the other side before.
    pub(super) fn causes(&mut self) {
        let mut wrong = Vec::new();
        for ((side, id), track) in &self.history.tracks {
            for change in &track.changes {
                let Who::Tandem(place, _) = change.who else { continue };
                let from = match side {
                    Side::Here => Side::There(place),
                    Side::There(_) => Side::Here,
                };
                for (pointer, value) in &change.fields {
                    let before = self.history.tracks.iter().filter(|((at, _), _)| *at == from);
                    let mut before = before
                        .flat_map(|(_, other)| &other.changes)
                        .filter(|other| other.number < change.number)
                        .filter_map(|other| other.fields.get(pointer));
                    let caused = match value {
                        Value::Array(all) => {
                            let here = track.changes.iter().filter(|other| other.number < change.number);
                            let here = here.filter_map(|other| other.fields.get(pointer));
                            let known: BTreeSet<String> = before
                                .chain(here)
                                .filter_map(Value::as_array)
                                .flatten()
                                .map(ToString::to_string)
                                .collect();
                            all.iter().all(|one| known.contains(&one.to_string()))
                        }
                        value => {
                            let wanted = values::token(value);
                            // Where edits are found afterwards, one that was written over is given back.
                            let given_back = || {
                                let tells = matches!(side, Side::There(_))
                                    && self.world.accounts[place].habits.event_times;
                                let own = track
                                    .changes
                                    .iter()
                                    .filter(|other| other.number < change.number && other.who == Who::Person);
                                tells
                                    && own
                                        .filter_map(|other| other.fields.get(pointer))
                                        .any(|other| values::token(other) == wanted)
                            };
                            wanted.is_none()
                                || before.any(|other| values::token(other) == wanted)
                                || given_back()
                        }
                    };
                    if !caused {
                        wrong.push(format!(
                            "{pointer} of {id} at {side:?} was written as {value} without a cause"
                        ));
                    }
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// Whatever Tandem did to a record stands in the history of its entity, unless that is full and what is kept begins later. What it
    /// did while it was killed may be done once more.
    pub(super) fn told(&mut self) {
        if !self.history.crashes.is_empty() {
            return;
        }
        let mut wrong = Vec::new();
        for ((side, id), track) in
            self.history.tracks.iter().filter(|(_, track)| !self.is_merged(&track.code))
        {
            if self.erased.contains(&track.code) {
                continue;
            }
            let (mut entries, mut since) = (Vec::new(), 0);
            for (id, _) in self.tracks(Side::Here, &track.code) {
                let scope = self.world.system_a.scope();
                let entity = EntityKey { scope, object: OBJECT.into(), id: id.into() };
                let own = self.world.disk.history(&entity, usize::MAX).unwrap_or_default();
                if own.iter().map(HistoryEntry::weight).sum::<u64>() > FULL_HISTORY {
                    since = since.max(own.iter().map(|entry| entry.at).min().unwrap_or(0));
                }
                entries.extend(own);
            }
            for change in &track.changes {
                let Who::Tandem(place, _) = change.who else { continue };
                let kind = match (side, &change.what) {
                    (Side::Here, What::Died) => "removed-internal",
                    (Side::Here, What::Born | What::Back) => "created-internal",
                    (Side::Here, _) => "wrote-internal",
                    (Side::There(_), What::Died) => "removed-external",
                    (Side::There(_), What::Born) => "created-external",
                    (Side::There(_), _) => "wrote-external",
                };
                // An answer that was lost is understood later.
                let kinds = [kind, "settled", "linked"];
                let is_told = entries.iter().any(|entry| {
                    entry.connection == connection_id(place)
                        && entry.at.saturating_add(TELLS_WITHIN) >= change.at
                        && entry.at <= change.at.saturating_add(TELLS_WITHIN)
                        && kinds.contains(&entry.what.as_str())
                });
                if self.accounted(change) && change.at >= since && !is_told {
                    wrong.push(format!("{id} at {side:?}: no history tells of {kind} ({:?})", change.fields));
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// Tandem makes no record while one of the same address is there: in System A not beside one that has had it for a while, in an
    /// account whose searches are up to date not beside one that it made itself.
    pub(super) fn made_once(&mut self) {
        let mut wrong = Vec::new();
        for ((side, id), track) in
            self.history.tracks.iter().filter(|(_, track)| !self.is_merged(&track.code))
        {
            let Some(born) = track.changes.first().filter(|first| matches!(first.who, Who::Tandem(..)))
            else {
                continue;
            };
            let Some(address) = born.fields.get(EMAIL).and_then(plain) else { continue };
            let others = self.history.tracks.iter().filter(|((of, other), _)| of == side && other != id);
            for ((_, other), track) in others {
                let Some(since) = holds_since(track, born.number, &address) else { continue };
                if self.erased.contains(&track.code) {
                    continue;
                }
                let is_seen = match side {
                    // It is looked for a moment before.
                    Side::Here => since.saturating_add(10_000) < born.at,
                    Side::There(place) => {
                        let first = track.changes.first();
                        self.world.accounts[*place].habits.consistent
                            && first.is_some_and(|first| {
                                matches!(first.who, Who::Tandem(..)) && self.accounted(first)
                            })
                    }
                };
                if is_seen {
                    wrong.push(format!("{id} was made at {side:?} beside {other}, with one address"));
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// An account that says how long it wants to be left alone is left alone. A run that was killed has forgotten it.
    pub(super) fn patient(&mut self) {
        let mut wrong = Vec::new();
        let calls = &self.history.calls;
        for refused in calls.values().filter(|call| call.clean && !call.faulted) {
            let (Some(wait), Some(at)) = (refused.wait, refused.answered) else { continue };
            let until = at + wait;
            if self.history.crashes.iter().any(|crash| (at..until).contains(crash)) {
                continue;
            }
            // What was about to go goes.
            let mut early = calls
                .values()
                .filter(|call| call.place == refused.place && call.sent > at + 100 && call.sent < until);
            if let Some(early) = early.next() {
                wrong.push(format!("account {} was asked to be left alone: {}", refused.place, early.line));
            }
        }
        self.wrong.extend(wrong);
    }

    /// No more was deleted over a connection on either side than the guard lets pass, and what an operator approved of. A deletion whose
    /// outcome Tandem may not know counts for nothing: it may have been tried again.
    pub(super) fn guarded(&mut self) {
        let (Guard::Left(limit) | Guard::Ruled(limit)) = self.world.setting.guard else { return };
        let mut deleted: BTreeMap<(Side, usize), u64> = BTreeMap::new();
        let tracks = self.history.tracks.iter().filter(|(_, track)| !self.erased.contains(&track.code));
        for ((side, _), track) in tracks {
            for change in track.changes.iter().filter(|change| change.what == What::Died) {
                if let Who::Tandem(place, _) = change.who
                    && self.accounted(change)
                    && !self.is_approved(place, &track.code, change.at)
                {
                    *deleted.entry((*side, place)).or_default() += 1;
                }
            }
        }
        for ((side, place), count) in deleted {
            if count > limit {
                self.fail(format!(
                    "{count} were deleted at {side:?} for account {place}; the guard lets {limit} pass"
                ));
            }
        }
    }

    /// Whether an operator had approved of what was withheld of a person's records at an account.
    fn is_approved(&self, place: usize, code: &str, until: Millis) -> bool {
        let mut approved = self.history.approved.iter().filter(|((of, _), at)| *of == place && **at <= until);
        approved.any(|((_, id), _)| {
            let track = self.history.tracks.get(&(Side::Here, id.clone()));
            track.is_none_or(|track| track.code == code)
        })
    }

    /// Nobody asks for the same state of a record over and over.
    pub(super) fn restless(&mut self) {
        const MOST: usize = 15;
        let often = self.history.reads.iter().filter(|(_, at)| {
            at.iter().zip(at.iter().skip(MOST)).any(|(first, last)| last.saturating_sub(*first) < 1_000)
        });
        let often: Vec<String> = often
            .map(|((place, id, _), _)| {
                format!("{id} in account {place} was read more than {MOST} times in a second")
            })
            .collect();
        for what in often {
            self.fail(what);
        }
    }

    /// No update that changes nothing, unless an answer or a commit was lost. Merged records are left out.
    pub(super) fn needless(&mut self) {
        if !self.history.crashes.is_empty() {
            return;
        }
        let mut wrong = Vec::new();
        for (side, id, call) in &self.history.needless {
            let merged = self
                .history
                .tracks
                .get(&(*side, id.clone()))
                .is_some_and(|track| self.is_merged(&track.code));
            if self.undisturbed(id) && !merged {
                let line = self.history.calls.get(call).map(|call| call.line.clone()).unwrap_or_default();
                wrong.push(format!("{id} at {side:?} was written and nothing changed: {line}"));
            }
        }
        self.wrong.extend(wrong);
    }
}
