//! What a piece of work leaves to be done: one hint for all that it was about, which waits on disk for its time; and beside it what no
//! look can tell once more.
//!
//! Invariant: what was told of a CRM's record and is not answered for yet is known to whoever works the record meanwhile. The hint of
//! an edit in System A knows nothing of the one that waits, and would write over what that one tells of: so the link says that
//! somebody has to look first.

use std::collections::BTreeMap;

use tandem_core::Millis;
use tandem_core::exchange::{Attribute, Observed, State};
use tandem_core::id::ExternalId;
use tandem_core::link::{Life, Link};

use super::dispatch::Hand;
use super::observe::edited_at;
use super::{Clock, Pipeline, Work};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Commit, Hint, Op, Store, StoreError, Subject};

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// The hint that is left was told of the CRM's record: nobody writes that one any more without a look.
    pub(super) fn owe_a_look(&self, commit: &mut Commit, work: &Work, hint: &Hint) -> Result<(), StoreError> {
        let Hand::Entity(entity) = &work.hand else { return Ok(()) };
        if hint.observed.is_none() {
            return Ok(());
        }
        let is_its = |link: &Link| link.entity == *entity && link.connection == work.connection;
        let planned = commit.ops.iter_mut().rev().find_map(|op| match op {
            Op::PutLink(link) if is_its(link) => Some(link),
            _ => None,
        });
        if let Some(link) = planned {
            link.look |= link.external.is_some();
            return Ok(());
        }
        let stored = self.rooms.store.link(entity, &work.connection)?;
        if let Some(link) = stored.filter(|link| link.external.is_some() && !link.look) {
            commit.push(Op::PutLink(Link { look: true, ..link }));
        }
        Ok(())
    }
}

/// All hints of a work as one: the oldest notice, the most tries.
pub(super) fn merged(work: &Work, touched: bool) -> Option<Hint> {
    let first = work.hints.first()?;
    let observed = if touched {
        Some(touched_observation(first))
    } else {
        // Several observations are not kept apart: what was seen has to be read again.
        match work.hints.as_slice() {
            [only] => only.observed.clone(),
            all if all.iter().all(|hint| hint.observed.is_none()) => None,
            _ => Some(touched_observation(first)),
        }
    };
    Some(Hint {
        noticed_at: work.hints.iter().map(|hint| hint.noticed_at).min().unwrap_or(first.noticed_at),
        attempts: work.hints.iter().map(|hint| hint.attempts).max().unwrap_or(0),
        class: work.class(),
        observed,
        ..first.clone()
    })
}

/// Where the link has left the CRM's record that the hints were about (it is made anew), what is still to be done is about the
/// entity: nobody would find it by the old id. Also where that record was linked only in this work, and went in the middle of it.
pub(super) fn about_entity(hint: &mut Hint, hand: &Hand, commit: &Commit) {
    let Subject::External(id) = &hint.subject else { return };
    let mut left = None;
    for op in &commit.ops {
        let Op::PutLink(link) = op else { continue };
        if link.connection != hint.connection {
            continue;
        }
        let is_its = match hand {
            Hand::Entity(entity) => link.entity == *entity,
            _ => link.external.is_none() && link.life == Life::Active,
        };
        if link.external.as_ref() == Some(id) {
            left = None;
        } else if is_its {
            left = Some(link.entity.id.clone());
        }
    }
    if let Some(entity) = left {
        hint.subject = Subject::Internal(entity);
        hint.observed = Some(touched_observation(hint));
    }
}

/// So many edits that were told with their times are kept of one record at the most, the last ones.
const MOST_DATED: usize = 16;

/// Edits by others of a linked record that were told with their times, from work that is to be done again: a later look shows what the
/// record has by then, and not what one of our writes has gone over. They wait with the hint that is left, and are weighed anew.
pub(super) fn dated(work: &Work, left: &Hint) -> Vec<Hint> {
    if !matches!(work.hand, Hand::Entity(_)) {
        return Vec::new();
    }
    // What is left may be such a word itself, if there was nothing else.
    let is_dated = |hint: &&Hint| {
        let told = hint.observed.as_ref().filter(|told| told.author.as_deref() != Some("own"));
        hint.observed != left.observed && told.is_some_and(|told| edited_at(told).is_some())
    };
    let waits =
        |hint: &Hint| Hint { class: left.class, due: left.due, attempts: left.attempts, ..hint.clone() };
    let mut dated: Vec<Hint> = work.hints.iter().filter(is_dated).map(waits).collect();
    dated.sort_by_key(|hint| hint.observed.as_ref().and_then(edited_at));
    dated.drain(..dated.len().saturating_sub(MOST_DATED));
    dated
}

/// Records that are linked to nothing and that a read knew nothing of, by id, with the moment of the first such read.
pub(super) type Missed = BTreeMap<ExternalId, Millis>;

/// What an observation says of such a record, before its id.
const MISSED: &str = "missed:";

/// What these hints say of records that were missed. Nothing, where somebody told of something since: then each is looked for anew.
pub(super) fn missed_before(work: &Work) -> Missed {
    let mut all = Missed::new();
    for hint in &work.hints {
        let told = hint.observed.iter().flat_map(|observed| &observed.attributes);
        let told = told.filter_map(|told| Some((told.name.strip_prefix(MISSED)?, told.value.parse().ok()?)));
        let told: Vec<(&str, Millis)> = told.collect();
        if told.is_empty() {
            return Missed::new();
        }
        all.extend(told.into_iter().map(|(id, at)| (ExternalId::from(id), at)));
    }
    all
}

/// Takes out what a hint says of records that were missed: it is about other records, and of the next look only.
pub(super) fn forget_missed(hint: &mut Hint) {
    if let Some(observed) = &mut hint.observed {
        observed.attributes.retain(|told| !told.name.starts_with(MISSED));
    }
}

/// "They were missed": each is looked for once more before it counts as gone.
pub(super) fn after_missing(hint: Hint, missed: &Missed) -> Hint {
    let attribute =
        |(id, at): (&ExternalId, &Millis)| Attribute { name: format!("{MISSED}{id}"), value: at.to_string() };
    let attributes = missed.iter().map(attribute).collect();
    let observed = Observed { attributes, ..touched_observation(&hint) };
    Hint { observed: Some(observed), ..hint }
}

/// Whether a read that shows an unlinked record with this time is from before one of the hints says that it went.
pub(super) fn is_from_before_its_end(work: &Work, stamp: Option<u64>) -> bool {
    let told = work.hints.iter().filter_map(|hint| hint.observed.as_ref());
    let went = told.filter(|told| matches!(told.state, State::Gone(_))).filter_map(|told| told.stamp).max();
    matches!((stamp, went), (Some(stamp), Some(went)) if stamp < went)
}

/// "Something happened to it": read it. Of a record of System A it is the link that knows the CRM's id.
fn touched_observation(hint: &Hint) -> Observed {
    let id = match &hint.subject {
        Subject::External(id) => id.as_str(),
        Subject::Internal(_) | Subject::Delivery(_) => "",
    };
    Observed::touched(hint.object.as_str(), id)
}

#[cfg(test)]
mod tests {
    use tandem_core::exchange::Proof;
    use tandem_core::id::{EntityKey, ExternalKey};

    use super::*;
    use crate::store::Class;

    fn hint(seq: u64, attributes: &[(&str, &str)], state: State) -> Hint {
        let told =
            |(name, value): &(&str, &str)| Attribute { name: (*name).to_owned(), value: (*value).to_owned() };
        let observed = Observed {
            state,
            attributes: attributes.iter().map(told).collect(),
            ..Observed::touched("contact", "e1")
        };
        Hint {
            seq,
            connection: "acme".into(),
            object: "contact".into(),
            subject: Subject::External("e1".into()),
            class: Class::Live,
            noticed_at: seq,
            due: 0,
            attempts: 0,
            cause: "webhook".into(),
            observed: Some(observed),
        }
    }

    fn edit(seq: u64, at: &str) -> Hint {
        hint(seq, &[("occurred-at", at)], State::Partial(b"{}".to_vec()))
    }

    fn work(hints: Vec<Hint>) -> Work {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "1".into() };
        Work {
            connection: "acme".into(),
            object: "contact".into(),
            subject: Subject::External("e1".into()),
            hints,
            hand: Hand::Entity(entity),
            went_ahead: false,
        }
    }

    #[test]
    fn a_read_is_from_before_the_end_that_is_told_with_a_later_time() {
        let mut gone = hint(1, &[], State::Gone(Proof::Confirmed));
        gone.observed.as_mut().unwrap().stamp = Some(10);
        let mut touched = hint(2, &[], State::Touched);
        touched.observed.as_mut().unwrap().stamp = Some(20);
        let told = work(vec![gone, touched.clone()]);
        assert!(is_from_before_its_end(&told, Some(9)));
        assert!(!is_from_before_its_end(&told, Some(10)), "it may have been restored in that moment");
        assert!(!is_from_before_its_end(&told, None), "nothing orders the two");
        assert!(!is_from_before_its_end(&work(vec![touched]), Some(9)));
    }

    #[test]
    fn edits_that_were_told_with_their_times_wait_beside_what_is_left() {
        let some = work(vec![edit(1, "10"), hint(2, &[], State::Touched), edit(3, "30")]);
        let left = Hint { due: 7, attempts: 2, class: Class::Retry, ..merged(&some, true).unwrap() };
        let kept = dated(&some, &left);
        let of = |hint: &Hint| (hint.observed.clone(), hint.noticed_at, hint.due, hint.attempts, hint.class);
        let expected = |hint: &Hint| (hint.observed.clone(), hint.noticed_at, 7, 2, Class::Retry);
        assert_eq!(
            kept.iter().map(of).collect::<Vec<_>>(),
            [&some.hints[0], &some.hints[2]].map(expected),
            "each as it was told"
        );
        let own = |hint: Hint| Hint {
            observed: hint.observed.map(|told| Observed { author: Some("own".into()), ..told }),
            ..hint
        };
        let ours = work(vec![own(edit(1, "10")), hint(2, &[], State::Touched)]);
        assert_eq!(dated(&ours, &merged(&ours, true).unwrap()), [], "our own writes overtake nothing");
        let many = work((0..40).map(|at| edit(at, &at.to_string())).collect());
        let kept = dated(&many, &merged(&many, true).unwrap());
        assert_eq!(kept.iter().map(|hint| hint.seq).collect::<Vec<_>>(), (24..40).collect::<Vec<_>>());
        // Alone it is what is left, and not kept twice.
        let one = work(vec![edit(1, "10")]);
        assert_eq!(dated(&one, &merged(&one, false).unwrap()), []);
        assert_eq!(dated(&one, &merged(&one, true).unwrap()).len(), 1);
        // Nobody has written to a record that is linked to nothing.
        let unlinked = Work { hand: Hand::External(key()), ..work(vec![edit(1, "10"), edit(2, "20")]) };
        assert_eq!(dated(&unlinked, &merged(&unlinked, true).unwrap()), []);
    }

    fn key() -> ExternalKey {
        ExternalKey { connection: "acme".into(), object: "contact".into(), id: "e1".into() }
    }

    #[test]
    fn what_was_missed_is_known_to_the_next_look_and_forgotten_when_somebody_tells_of_it() {
        let missed: Missed = [("e1".into(), 10), ("e:2".into(), 30)].into();
        let next = after_missing(hint(1, &[], State::Touched), &missed);
        assert_eq!(next.observed.as_ref().unwrap().state, State::Touched);
        assert_eq!(missed_before(&work(vec![next.clone()])), missed);
        assert_eq!(missed_before(&work(vec![next.clone(), next.clone()])), missed);
        let mut letter = next.clone();
        forget_missed(&mut letter);
        assert_eq!(letter.observed, Some(Observed::touched("contact", "e1")));
        assert_eq!(missed_before(&work(vec![next, edit(2, "20")])), Missed::new());
        assert_eq!(missed_before(&work(vec![edit(2, "20")])), Missed::new());
    }
}
