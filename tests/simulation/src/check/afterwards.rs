//! Edits that a write of Tandem's overtook, where the account's events tell of each with its time: none is lost without a word.

use tandem::store::{HistoryEntry, Store as _};
use tandem_core::id::EntityKey;

use super::deeds::FULL_HISTORY;
use super::{Checker, values};
use crate::daemon::connection_id;
use crate::history::{Change, Side, What, Who};
use crate::scenario::Kind as Scene;
use crate::values::{CODE, OBJECT, Rewrite, TAGS};

impl Checker<'_> {
    /// Whether a webhook of a change of a record was taken in and read.
    pub(super) fn was_told(&self, place: usize, id: &str, number: u64) -> bool {
        let unread = self.history.unread.contains(&(place, id.to_owned()));
        let mut told = self.history.told.values().flatten();
        !unread
            && told.any(|told| {
                told.place == place && told.id == id && told.number == number && told.acknowledged.is_some()
            })
    }

    /// An edit that was written over before anybody had seen it, whose event came and after which nobody edited the field any more,
    /// stands, waits for somebody, or is told of in the history of its record.
    pub(super) fn found_afterwards(&mut self) {
        // What does not fit into System A was told of, and is written over when somebody edits the field there.
        if self.world.scenario.kind == Scene::Unfit {
            return;
        }
        let mut wrong = Vec::new();
        let mut found = 0;
        for ((side, id), track) in &self.history.tracks {
            let Side::There(place) = *side else { continue };
            let left_out = self.erased.contains(&track.code) || !self.is_calm(&track.code);
            if !self.world.accounts[place].habits.event_times || left_out || !self.undisturbed(id) {
                continue;
            }
            for (at, edit) in track.changes.iter().enumerate() {
                if edit.who != Who::Person || edit.what != What::Edited {
                    continue;
                }
                for (pointer, value) in
                    edit.fields.iter().filter(|(pointer, _)| !matches!(**pointer, CODE | TAGS))
                {
                    if self.looks_like_an_edit(place, pointer) {
                        continue;
                    }
                    let of_field = |change: &&Change| change.fields.contains_key(pointer);
                    let Some(write) = track.changes.iter().skip(at + 1).find(of_field) else { continue };
                    let is_last =
                        self.history.tracks.values().filter(|other| other.code == track.code).all(|other| {
                            let mut later = other.changes.iter().filter(|change| change.number > edit.number);
                            !later.any(|later| later.who == Who::Person && of_field(&later))
                        });
                    if !is_last
                        || !matches!(write.who, Who::Tandem(..))
                        || !self.was_told(place, id, edit.number)
                    {
                        continue;
                    }
                    let is_seen = self.carried_here(&track.code, pointer, values::token(value), write.number);
                    if is_seen || self.looked_at(place, id, (pointer, edit), write.at) {
                        continue;
                    }
                    found += 1;
                    let stands = self.value(*side, id, pointer) == *value;
                    let shown = self.shown(place, &track.code);
                    if stands || shown.whole || shown.fields.contains(*pointer) {
                        continue;
                    }
                    if !self.is_told_of(place, &track.code, pointer) {
                        wrong.push(format!(
                            "{id} in account {place} ({}): {pointer} was {value} when it was written over, its event came, and nothing tells of it",
                            track.code
                        ));
                    }
                }
            }
        }
        self.passed.extend(std::iter::repeat_n("edits that were found afterwards", found));
        self.wrong.extend(wrong);
    }

    /// Whether the event of a write of Tandem's looks like somebody's edit that followed: the server makes something else of the value, and
    /// does not say who wrote it.
    fn looks_like_an_edit(&self, place: usize, pointer: &str) -> bool {
        let habits = &self.world.accounts[place].habits;
        let rewrites = |(of, it): &(&'static str, Rewrite)| *of == pointer && *it != Rewrite::None;
        !habits.names_author && habits.rewrites.iter().any(rewrites)
    }

    /// Whether System A had a value before a moment.
    fn carried_here(&self, code: &str, pointer: &str, token: Option<u64>, until: u64) -> bool {
        self.tracks(Side::Here, code).into_iter().any(|(_, track)| {
            let mut before = track.changes.iter().filter(|change| change.number < until);
            before.any(|change| change.fields.get(pointer).is_some_and(|value| values::token(value) == token))
        })
    }

    /// Whether the history of a person's records tells of an overtaken edit of a field, or has no room for it.
    fn is_told_of(&self, place: usize, code: &str, pointer: &str) -> bool {
        self.tracks(Side::Here, code).into_iter().any(|(id, _)| {
            let entity =
                EntityKey { scope: self.world.system_a.scope(), object: OBJECT.into(), id: id.into() };
            let entries = self.world.disk.history(&entity, usize::MAX).unwrap_or_default();
            let is_full = entries.iter().map(HistoryEntry::weight).sum::<u64>() > FULL_HISTORY;
            is_full
                || entries.iter().any(|entry| {
                    entry.connection == connection_id(place) && entry.overtaken.contains_key(pointer)
                })
        })
    }
}
