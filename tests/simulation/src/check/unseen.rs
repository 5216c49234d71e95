//! What people did in an account is not written over or deleted unseen, as far as the account lets Tandem see it and says no to what
//! comes too late.

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::descriptor::Condition;

use super::Checker;
use crate::habits::Returns;
use crate::history::{Change, Side, What, Who};
use crate::values::{self, CODE, TAGS, property_of};

impl Checker<'_> {
    /// Nothing is written to an account over a person's edit that Tandem had been told of before it took up the work, unless it has
    /// looked since. A delivery whose reading failed holds nobody up, so records that one told of are left out.
    pub(super) fn heard(&mut self) {
        let mut wrong = Vec::new();
        for ((side, id), track) in
            self.history.tracks.iter().filter(|(_, track)| !self.is_merged(&track.code))
        {
            let Side::There(place) = *side else { continue };
            if self.history.unread.contains(&(place, id.clone())) {
                continue;
            }
            let taken = self.history.taken.get(&(place, id.clone()));
            for write in track.changes.iter().filter(|change| change.what == What::Edited) {
                let Who::Tandem(_, call) = write.who else { continue };
                let Some(call) = self.history.calls.get(&call) else { continue };
                if !call.line.starts_with("PATCH ") {
                    continue;
                }
                let Some(taken) = taken.and_then(|all| all.iter().rfind(|at| **at <= call.sent)) else {
                    continue;
                };
                for pointer in write.fields.keys().filter(|pointer| !matches!(**pointer, CODE | TAGS)) {
                    let mut before = track
                        .changes
                        .iter()
                        .filter(|change| change.number < write.number && change.fields.contains_key(pointer));
                    let Some(edit) = before.next_back().filter(|it| it.who == Who::Person) else { continue };
                    let value = edit.fields.get(pointer).map(values::token);
                    // Who sets a field back to what it was changed nothing that Tandem could see.
                    if edit.what != What::Edited
                        || before.any(|other| other.fields.get(pointer).map(values::token) == value)
                    {
                        continue;
                    }
                    let is_told = self.history.told.values().flatten().any(|told| {
                        told.place == place
                            && told.id == *id
                            && told.number == edit.number
                            && told.acknowledged.is_some_and(|at| at < *taken)
                    });
                    if is_told && !self.looked_at(place, id, (pointer, edit), call.sent) {
                        wrong.push(format!(
                            "{id} in account {place}: {pointer} was written over an edit that had been told of: {}",
                            call.line
                        ));
                    }
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// Whether an account told Tandem of an edit before a moment: in a look at the record, in what a write was answered with, in a row of
    /// a listing that shows it.
    pub(super) fn looked_at(&self, place: usize, id: &str, edit: (&str, &Change), until: Millis) -> bool {
        let (pointer, edit) = edit;
        let is_then = |at: Millis| at >= edit.at && at <= until;
        let look = format!("GET /people/{id} ");
        let write = format!("PATCH /people/{id} ");
        let answers_whole = self.world.accounts[place].habits.returns == Returns::Whole;
        let mut calls = self.history.calls.values().filter(|call| call.place == place && call.tells());
        let is_seen = calls.any(|call| {
            call.answered.is_some_and(is_then)
                && !call.faulted
                && (call.line.starts_with(&look) || answers_whole && call.line.starts_with(&write))
        });
        let wanted = edit.fields.get(pointer).map(values::token);
        let shows = |row: &Value| {
            let shown = property_of(pointer).and_then(|property| row.get(property));
            Some(values::token(shown.unwrap_or(&Value::Null))) == wanted
        };
        let rows = self.history.listed.get(&(place, id.to_owned()));
        is_seen || rows.is_some_and(|rows| rows.iter().any(|(at, row)| is_then(*at) && shows(row)))
    }

    /// Where an account refuses what was meant for an older state, no record is deleted whose last edit Tandem has not been shown: in a
    /// look, in a row of a listing, or in what a write was answered with. A version that is told to the second tells nothing of edits
    /// within it.
    pub(super) fn deleted_unseen(&mut self) {
        let mut wrong = Vec::new();
        for ((side, id), track) in &self.history.tracks {
            let Side::There(place) = *side else { continue };
            let condition = self.world.accounts[place].habits.condition;
            if condition == Condition::None || self.erased.contains(&track.code) {
                continue;
            }
            for death in track.changes.iter().filter(|change| change.what == What::Died) {
                let Who::Tandem(_, call) = death.who else { continue };
                let Some(call) =
                    self.history.calls.get(&call).filter(|call| call.line.starts_with("DELETE "))
                else {
                    continue;
                };
                let mut before = track.changes.iter().filter(|change| change.number < death.number).rev();
                let Some(last) = before.next().filter(|last| last.who == Who::Person) else { continue };
                let known = before.next().map_or(0, |change| change.at);
                if condition == Condition::Second && last.at.saturating_sub(known) < 2_000 {
                    continue;
                }
                let seen = match last.fields.iter().next() {
                    Some((pointer, _)) => self.looked_at(place, id, (pointer, last), call.sent),
                    None => true,
                };
                if !seen {
                    wrong.push(format!(
                        "{id} in account {place} was deleted with an edit that nobody had looked at: {:?}",
                        last.fields
                    ));
                }
            }
        }
        self.wrong.extend(wrong);
    }
}
