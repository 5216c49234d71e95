//! In quiet both sides are equal, or one is a rewrite of the other; and where a CRM's own word does not tell an edit from a rewrite.

use std::collections::BTreeSet;

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::descriptor::Condition;

use super::{ACCOUNTED, Checker, Shown, elements};
use crate::habits::Returns;
use crate::history::{Change, Side, Who};
use crate::values::{self, FIELDS, TAGS, blank};

impl Checker<'_> {
    /// In quiet both sides are equal, or one is a rewrite of the other.
    pub(super) fn equal(&mut self, place: usize, code: &str, a: &str, x: &str, shown: &Shown) {
        let side = Side::There(place);
        let rewrites = !self.world.accounts[place].habits.rewrites.is_empty();
        for field in &FIELDS {
            let pointer = field.pointer;
            if shown.fields.contains(pointer) {
                continue;
            }
            let (here, there) = (self.value(Side::Here, a, pointer), self.value(side, x, pointer));
            let same = match (&here, &there) {
                (Value::Array(_), Value::Array(_)) => elements(&here) == elements(&there),
                _ if blank(&here) || blank(&there) => blank(&here) && blank(&there),
                _ if rewrites => values::token(&here) == values::token(&there),
                _ => {
                    let plain = |value: &Value| value.as_str().map(|it| it.trim().to_lowercase());
                    plain(&here) == plain(&there)
                }
            };
            let taken = || match field.pointer {
                TAGS => self.elements_taken_for_rewrites(place, x, &here, &there),
                pointer => self.taken_for_rewrite(place, x, pointer),
            };
            if !same && taken() {
                self.passed.push("edits that a CRM's own word did not tell from a rewrite");
            } else if !same {
                self.fail(format!(
                    "{code}: {pointer} is {here} in system a ({a}) and {there} in account {place} ({x})"
                ));
            }
        }
    }

    /// A CRM that answers a write with nothing, and whose version and time do not tell whether the record was changed since (there
    /// are none, or only to the second), nor does the record say who was the last: a person's edit of what Tandem has just written
    /// cannot be told from a rewrite by the server.
    pub(super) fn taken_for_rewrite(&self, place: usize, x: &str, pointer: &str) -> bool {
        let Some(track) = self.history.tracks.get(&(Side::There(place), x.to_owned())) else { return false };
        let last = track.changes.iter().rfind(|change| change.fields.contains_key(pointer));
        last.is_some_and(|last| self.may_be_rewrite(place, x, pointer, last))
    }

    /// The same of each element that only one side has: who put it in or took it out last may have been taken for the server. What is
    /// written of the others later tells nothing of it.
    fn elements_taken_for_rewrites(&self, place: usize, x: &str, here: &Value, there: &Value) -> bool {
        let Some(track) = self.history.tracks.get(&(Side::There(place), x.to_owned())) else { return false };
        let (here, there) = (elements(here), elements(there));
        here.symmetric_difference(&there).all(|element| {
            let (mut last, mut had, mut vanished) = (None, false, false);
            let mut before = BTreeSet::new();
            for change in &track.changes {
                let Some(value) = change.fields.get(TAGS) else { continue };
                let has = elements(value).contains(element);
                if has != had {
                    last = Some(change);
                }
                had = has;
                // What came while nothing went is no other form of anything.
                vanished |= change.who == Who::Person && !before.is_subset(&elements(value));
                before = elements(value);
            }
            (vanished || !there.contains(element))
                && last.is_some_and(|last| self.may_be_rewrite(place, x, TAGS, last))
        })
    }

    /// Whether a change of a field in such a CRM may have been taken for a rewrite of what Tandem wrote before.
    fn may_be_rewrite(&self, place: usize, x: &str, pointer: &str, last: &Change) -> bool {
        let habits = &self.world.accounts[place].habits;
        let vague = match habits.condition {
            Condition::Etag => false,
            Condition::Second => true,
            Condition::None => !habits.stamps,
        };
        if habits.returns != Returns::Nothing || !vague || habits.names_author {
            return false;
        }
        let Some(track) = self.history.tracks.get(&(Side::There(place), x.to_owned())) else { return false };
        let is_ours = |change: &&Change| {
            change.number < last.number
                && change.fields.contains_key(pointer)
                && matches!(change.who, Who::Tandem(..))
        };
        let Some(before) = track.changes.iter().rfind(is_ours) else { return false };
        // An edit that was followed by another one before anybody looked is nobody's loss.
        let look = format!("GET /people/{x} ");
        let between = |at: Millis| at > before.at && at < last.at;
        let mut looks =
            self.history.calls.values().filter(|call| call.tells() && call.line.starts_with(&look));
        // Nor does it tell anything what a look that was answered then had seen before the write.
        let states = (place, x.to_owned(), 0)..=(place, x.to_owned(), u64::MAX);
        let is_seen = self.history.reads.range(states).any(|(_, at)| at.iter().any(|at| between(*at)));
        // What was seen may not have been kept, where the provider traps or the daemon dies.
        let is_kept = self.world.setting.faults.component == 0
            && !self.history.crashes.iter().any(|crash| (before.at..=last.at + ACCOUNTED).contains(crash));
        let seen_between = is_kept && is_seen && looks.any(|call| call.answered.is_some_and(between));
        let at_once = habits.condition != Condition::Second || last.at.abs_diff(before.at) <= 1_000;
        last.who == Who::Person && !seen_between && at_once
    }
}
