//! What is asked of deletions that Tandem makes: each carries one over that was made on the other side, no deletion is carried over
//! twice, and an edit that is to win over a deletion is not deleted with it.
//!
//! Of people whose records were merged or erased nothing is asked here.

use tandem_core::Millis;
use tandem_core::descriptor::Condition;
use tandem_core::policy::OnDeleteConflict;

use super::{Checker, Edit};
use crate::history::{Change, Side, Track, What, Who};
use crate::values::{self, CODE, EMAIL, TAGS};

/// A record that came back on the other side was deleted here no later than this after it.
const LATE: Millis = 60_000;

/// A deletion that Tandem made.
struct Deletion<'a> {
    side: Side,
    id: &'a str,
    track: &'a Track,
    death: &'a Change,
    /// The account whose connection it was made for.
    place: usize,
    /// Where it was decided by somebody else.
    from: Side,
}

impl Checker<'_> {
    /// All deletions that Tandem made and that something is asked of.
    fn deletions(&self) -> Vec<Deletion<'_>> {
        let mut all = Vec::new();
        for ((side, id), track) in &self.history.tracks {
            if track.code.is_empty() || self.erased.contains(&track.code) || self.is_merged(&track.code) {
                continue;
            }
            for death in track.changes.iter().filter(|change| change.what == What::Died) {
                let Who::Tandem(place, _) = death.who else { continue };
                let from = match side {
                    Side::Here => Side::There(place),
                    Side::There(_) => Side::Here,
                };
                all.push(Deletion { side: *side, id, track, death, place, from });
            }
        }
        all.sort_by_key(|deletion| deletion.death.number);
        all
    }

    /// Deletions on the other side that one of Tandem's may carry over: made before it, by a person or for another account, each with
    /// whether the record came back long before.
    fn carried_over(&self, deletion: &Deletion<'_>) -> Vec<(&Change, bool)> {
        // A replica that showed a record still after Tandem had deleted it has brought the other one back, until somebody looked again.
        let has_ghosts = self.world.accounts[deletion.place].habits.ghosts > 0;
        let mut deaths = Vec::new();
        for (_, track) in self.tracks(deletion.from, &deletion.track.code) {
            let mut before = track.changes.iter().filter(|change| change.number < deletion.death.number);
            while let Some(change) = before.next() {
                let is_own = matches!(change.who, Who::Tandem(place, _) if place == deletion.place);
                if change.what == What::Died && (!is_own || has_ghosts) {
                    let back = before.clone().find(|later| later.what == What::Back);
                    let is_over = back.is_some_and(|back| back.at.saturating_add(LATE) < deletion.death.at);
                    deaths.push((change, is_over));
                }
            }
        }
        deaths
    }

    /// Nothing is deleted without a deletion on the other side, and none of those is carried over twice, unless it is not known that it
    /// was.
    pub(super) fn deleted_for_a_cause(&mut self) {
        let mut wrong = Vec::new();
        let deletions = self.deletions();
        for (at, deletion) in deletions.iter().enumerate() {
            let causes = self.carried_over(deletion);
            let about = format!("{} at {:?} ({})", deletion.id, deletion.side, deletion.track.code);
            if causes.is_empty() {
                wrong.push(format!(
                    "{about} was deleted, and nobody had deleted anything at {:?}",
                    deletion.from
                ));
                continue;
            }
            if causes.iter().all(|(_, is_over)| *is_over) {
                wrong.push(format!(
                    "{about} was deleted long after what was deleted at {:?} had come back",
                    deletion.from
                ));
                continue;
            }
            let earlier = deletions.iter().take(at).filter(|other| {
                other.side == deletion.side
                    && other.place == deletion.place
                    && other.track.code == deletion.track.code
                    && self.accounted(other.death)
            });
            if earlier.count() >= causes.len() {
                wrong
                    .push(format!("{about} was deleted once more for a deletion that had been carried over"));
            }
        }
        self.wrong.extend(wrong);
    }

    /// Where a deletion does not win over an edit, no record is deleted that has an edit of which the deletion knew nothing, as far as the
    /// account lets Tandem see it.
    pub(super) fn edits_outlive_deletions(&mut self) {
        let mut wrong = Vec::new();
        let mut passed = Vec::new();
        for deletion in self.deletions() {
            let (code, place) = (&deletion.track.code, deletion.place);
            let policy = &self.world.setting.accounts[place].1;
            let single =
                [Side::Here, Side::There(place)].into_iter().all(|side| self.tracks(side, code).len() == 1);
            if policy.on_delete_conflict == OnDeleteConflict::Delete || !single {
                continue;
            }
            let mut later: Vec<&str> = Vec::new();
            let before = deletion.track.changes.iter().enumerate();
            let before: Vec<_> = before.filter(|(_, change)| change.number < deletion.death.number).collect();
            for (index, edit) in before.into_iter().rev() {
                if matches!(edit.what, What::Died | What::Back) {
                    // What was edited in an earlier life went with that.
                    break;
                }
                let mut unseen = Vec::new();
                for (pointer, value) in &edit.fields {
                    let stands = !later.contains(pointer);
                    later.push(pointer);
                    // Addresses that are taken and names that are refused wait at their side for another value.
                    let is_plain = !matches!(*pointer, CODE | TAGS | EMAIL)
                        && value.as_str().is_some_and(|text| !text.contains('!'));
                    if stands && is_plain && edit.what == What::Edited && edit.who == Who::Person {
                        unseen.push((*pointer, value));
                    }
                }
                unseen.retain(|(pointer, value)| {
                    let of = |side, change: &Change, token| Edit {
                        side,
                        number: change.number,
                        at: change.at,
                        token,
                    };
                    let made = of(deletion.side, edit, values::token(value));
                    let causes = self.carried_over(&deletion);
                    !causes.is_empty()
                        && causes.iter().all(|(death, _)| {
                            let death = of(deletion.from, death, None);
                            self.saw(&death, &made, code, pointer) == Some(false)
                        })
                });
                for (pointer, value) in unseen {
                    if !self.shows_in_time(&deletion, index, edit) {
                        continue;
                    }
                    if matches!(deletion.side, Side::There(_))
                        && self.taken_for_rewrite(place, deletion.id, pointer)
                    {
                        passed.push("edits that a CRM's own word did not tell from a rewrite");
                        continue;
                    }
                    wrong.push(format!(
                        "{} at {:?} ({code}) was deleted with an edit that should win over it: {pointer} {value}",
                        deletion.id, deletion.side
                    ));
                }
            }
        }
        self.wrong.extend(wrong);
        self.passed.extend(passed);
    }

    /// Whether Tandem had to know of an edit, the change of that index of its record, before the record was deleted. System A and an
    /// account that tells versions take no deletion that was meant for an older state; of the others a look tells, that was answered
    /// before the deletion was sent.
    fn shows_in_time(&self, deletion: &Deletion<'_>, index: usize, edit: &Change) -> bool {
        let (Side::There(place), Who::Tandem(_, call)) = (deletion.side, deletion.death.who) else {
            return true;
        };
        if self.world.accounts[place].habits.condition == Condition::Etag {
            return true;
        }
        let Some(removal) = self.history.calls.get(&call) else { return false };
        let look = format!("GET /people/{} ", deletion.id);
        let first = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
        let states = (place, deletion.id.to_owned(), first)..=(place, deletion.id.to_owned(), u64::MAX);
        let mut reads = self.history.reads.range(states).flat_map(|(_, times)| times);
        reads.any(|at| {
            *at >= edit.at
                && self.history.calls.values().any(|call| {
                    call.tells()
                        && !call.faulted
                        && call.line.starts_with(&look)
                        && call.sent <= *at
                        && call.answered.is_some_and(|answered| answered >= *at && answered <= removal.sent)
                })
        })
    }
}
