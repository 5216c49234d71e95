//! What a piece of work leaves to be done: one hint for all that it was about, which waits on disk for its time.
//!
//! Invariant: what was told of a CRM's record and is not answered for yet is known to whoever works the record meanwhile. The hint of
//! an edit in System A knows nothing of the one that waits, and would write over what that one tells of: so the link says that
//! somebody has to look first.

use tandem_core::exchange::Observed;
use tandem_core::link::{Life, Link};

use super::dispatch::Hand;
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

/// "Something happened to it": read it. Of a record of System A it is the link that knows the CRM's id.
fn touched_observation(hint: &Hint) -> Observed {
    let id = match &hint.subject {
        Subject::External(id) => id.as_str(),
        Subject::Internal(_) | Subject::Delivery(_) => "",
    };
    Observed::touched(hint.object.as_str(), id)
}
