//! The guard: deletions, and updates that no edit asked for, stop beyond a rate and a share and wait for a person's approval.
//!
//! What is counted, for each object of a connection and each side that is written: deletions that are carried over; and updates of
//! records that agreed before, when the only reason for the look is a look at all (`look`, a walk, a first load) and neither record
//! is newer than the link knows. Such an update comes from changed settings, rules or a changed version of the provider.
//!
//! Invariants:
//! - Of a bulk look nothing is written before all of it was looked at: what it would write is withheld, and weighed once no other bulk
//!   work of the connection waits. What the guard allows is let go then; otherwise not one write was made.
//! - Once it has stopped something, it stops everything of that kind until a person has ruled on all of it.
//! - A withheld write is a row of the store and nothing else: its hint is done, and it survives a restart. When it is let go, the
//!   record is read and planned anew; a record that came back, or was edited, is no longer deleted.
//! - What is deleted is written down before, so that it can be brought back for a while.
//!
//! It refuses to judge whether a write is right. `meter` counts, `weigh` rules by the counts, `rows` keeps what is withheld.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use tandem_core::descriptor::Condition;
use tandem_core::document;
use tandem_core::link::{Link, Side};
use tandem_core::plan::{
    self, Aim, External, ExternalWrite, Internal as InternalState, InternalWrite, Source, agree_to_differ,
    keep_record, leave_deleted, without_external, without_internal,
};

use super::record::Case;
use super::settle::End;
use super::{Clock, Pipeline, PipelineError, Work};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, Subject, Until};

mod meter;
mod rows;
mod weigh;

pub use meter::Looking;
pub(super) use meter::{Ledger, Reservation};
pub use rows::{Approval, Selection, Withheld};
pub(super) use rows::{PAGE, digest, parse};

/// What kind of write is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The record is deleted.
    Delete,
    /// Fields are written that nobody edited.
    Rewrite,
}

impl Kind {
    /// The kind's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Rewrite => "rewrite",
        }
    }
}

/// The writes of a plan.
pub(super) struct Writes {
    pub(super) internal: Option<InternalWrite>,
    pub(super) external: Option<ExternalWrite>,
}

impl Writes {
    pub(super) fn is_empty(&self) -> bool {
        self.internal.is_none() && self.external.is_none()
    }

    fn deletes(&self) -> Vec<Side> {
        let internal = matches!(self.internal, Some(InternalWrite::Delete { .. })).then_some(Side::Internal);
        let external = matches!(self.external, Some(ExternalWrite::Remove { .. })).then_some(Side::External);
        internal.into_iter().chain(external).collect()
    }

    /// Where the first of them comes from, and the record as it will be.
    fn change(&self) -> (&'static str, Option<Value>) {
        match (&self.internal, &self.external) {
            (Some(InternalWrite::Create { fields } | InternalWrite::Update { fields, .. }), _) => {
                ("external", Some(document::value(fields)))
            }
            (Some(InternalWrite::Delete { .. }), _) => ("external", None),
            (None, Some(ExternalWrite::Create { fields } | ExternalWrite::Update { fields, .. })) => {
                ("internal", Some(document::value(fields)))
            }
            (None, _) => ("internal", None),
        }
    }

    fn aims(&self) -> Vec<Aim> {
        plan::aims(self.internal.as_ref(), self.external.as_ref())
    }

    fn updates(&self) -> bool {
        matches!(self.internal, Some(InternalWrite::Update { .. }))
            || matches!(self.external, Some(ExternalWrite::Update { .. }))
    }
}

/// What the guard says of a plan's writes.
#[derive(Debug)]
pub(super) enum Ruling {
    /// They are made.
    Go,
    /// The link was changed: plan again.
    Replan,
    /// They wait; the work is done.
    Wait,
    /// A rule leaves the record out, or holds it: the work ends so.
    End(Box<End>),
}

/// Whether nothing but a look at everything is the reason for a piece of work. Beside it, what tells of no newer state than the link
/// knows is no reason: a poll that comes by at the same time.
pub(super) fn is_bulk(work: &Work, link: &Link) -> bool {
    let bulk = |hint: &Hint| {
        hint.class >= Class::Reconcile && matches!(hint.cause.as_str(), "look" | "walk" | "first load")
    };
    let known = known_stamp(link);
    let tells_nothing = |hint: &Hint| {
        let stamp = hint.observed.as_ref().and_then(|observed| observed.stamp);
        matches!((stamp, known), (Some(stamp), Some(known)) if stamp <= known)
    };
    work.hints.iter().any(bulk) && work.hints.iter().all(|hint| bulk(hint) || tells_nothing(hint))
}

/// Whether nothing but rows of a poll is the reason, and they tell of a state that the link knows: what a plan makes of them comes from
/// a changed mapping or filter, and is left to a look at everything, of which it can be seen how much it changes. A time that is
/// told to the second proves nothing where it is the same.
pub(super) fn is_known(work: &Work, link: &Link, condition: Condition) -> bool {
    // What our own write left is known where nobody can have edited the record unseen before it: the write was conditional, or it made
    // the record.
    let known = match condition {
        Condition::None if link.external_stamp.is_some() => link.external_stamp,
        _ => known_stamp(link),
    };
    let tells_nothing = |hint: &Hint| {
        let stamp = hint.observed.as_ref().and_then(|observed| observed.stamp);
        hint.cause == "poll"
            && matches!((stamp, known), (Some(stamp), Some(known))
                if stamp < known || stamp == known && condition != Condition::Second)
    };
    !work.hints.is_empty() && work.hints.iter().all(tells_nothing)
}

/// Whether nobody asked for what a plan writes, and no edit is the reason for it. Then a poll is none either.
pub(super) fn is_unasked(case: &Case<'_>, writes: &Writes, internal: &InternalState) -> bool {
    let update = writes.updates()
        && matches!(writes.internal, None | Some(InternalWrite::Update { .. }))
        && matches!(writes.external, None | Some(ExternalWrite::Update { .. }));
    let Some(stored) = case.stored.as_ref().filter(|stored| !stored.base.is_empty()) else { return false };
    case.known
        && update
        && case.withheld.is_none()
        && !stored.look
        && stored.decided.is_empty()
        && case.link.overtaken.is_empty()
        && !is_edited(case, stored, internal)
}

/// The newest state of the CRM's record that was seen, or that our own write left.
fn known_stamp(link: &Link) -> Option<u64> {
    link.external_stamp.max(link.own.as_ref().and_then(|own| own.stamp))
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Whether there is a letter about a record. Work that comes to its end takes it away, so it has to be done then.
    pub(super) fn is_set_aside(&self, case: &Case<'_>) -> Result<bool, StoreError> {
        let (store, connection, entity) = (&self.rooms.store, &case.connection.id, &case.link.entity);
        if store.dead_count(connection)? == 0 {
            return Ok(false);
        }
        let external = case.link.external.clone().map(Subject::External);
        for subject in std::iter::once(Subject::Internal(entity.id.clone())).chain(external) {
            if store.dead_about(connection, &entity.object, &subject)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes up the withheld write of a record: what the CRM has now is what counts.
    pub(super) fn take_up_withheld(&self, case: &mut Case<'_>) -> Result<(), StoreError> {
        let is_known = {
            let ledger = self.ledger.lock();
            let watch = ledger.watches.get(&case.connection.id).filter(|watch| !watch.rows.is_empty());
            watch.is_some_and(|watch| watch.rows.contains(&digest(&case.link.entity)))
        };
        if !is_known {
            return Ok(());
        }
        case.withheld = self.row_of(&case.link.entity, &case.connection.id)?.map(Box::new);
        // A row or an event that is from before what was withheld does not take it back.
        let is_said = match &case.external {
            External::Unseen | External::Partial { .. } => true,
            External::Whole { source, .. } => matches!(source, Source::Listing { .. } | Source::Event),
            External::Touched | External::Gone { .. } | External::Moved { .. } => false,
        };
        if case.withheld.is_some() && is_said {
            case.external = External::Touched;
        }
        Ok(())
    }

    /// Whether a plan's writes are anything that the guard has a say in. Most are not, and cost nothing.
    pub(super) fn is_guarded(&self, case: &Case<'_>, writes: &Writes, internal: &InternalState) -> bool {
        case.withheld.is_some()
            || !writes.deletes().is_empty()
            || (writes.updates() && is_rewrite(case, internal))
    }

    /// Whether a plan's writes are made. What is withheld of them is taken out.
    pub(super) async fn guard(
        &self,
        case: &mut Case<'_>,
        writes: &mut Writes,
        internal: &InternalState,
        reason: &str,
    ) -> Result<Ruling, PipelineError> {
        let deletes = writes.deletes();
        let aims = writes.aims();
        let kind = if !deletes.is_empty() {
            Some(Kind::Delete)
        } else if !aims.is_empty() && is_rewrite(case, internal) {
            Some(Kind::Rewrite)
        } else {
            None
        };
        if let Some(row) = case.withheld.take() {
            let fits =
                kind == Some(row.kind) || (row.kind == Kind::Rewrite && kind.is_none() && !aims.is_empty());
            // The answer to another write says nothing of the fields that are withheld.
            let seen = matches!(case.external, External::Whole { .. } | External::Gone { .. });
            match row.approval {
                Approval::Pending if !fits && !seen && kind.is_none() => {
                    case.withheld = Some(row);
                    return Ok(Ruling::Go);
                }
                _ if !fits => {
                    // It came to nothing, or it was let go and has done its work.
                    if case.allowed == Some(row.kind) {
                        self.rooms.metrics.guarded(&case.provider, row.kind.name(), "let-go");
                    }
                    self.drop_row(&row, Commit::new()).await?;
                }
                Approval::Approved => {
                    case.allowed = Some(row.kind);
                    case.withheld = Some(row);
                }
                Approval::Rejected | Approval::Restored => {
                    self.reject(case, &row, internal, &aims).await?;
                    return Ok(Ruling::Replan);
                }
                Approval::Pending if kind.is_some() => {
                    let row = Withheld { aims, why: reason.to_owned(), ..*row };
                    case.commit.push(row.put());
                    case.withheld = Some(Box::new(row));
                    return Ok(Ruling::Wait);
                }
                Approval::Pending => return self.edited(case, row, writes, internal, &aims).await,
            }
        }
        let Some(kind) = kind else { return Ok(Ruling::Go) };
        // What a rule leaves out would not be written, so it is not counted.
        let (origin, after) = writes.change();
        if let Some(end) = self.judge(case, origin, after.as_ref()).await? {
            // It comes to nothing: somebody's word about it is not kept for another day.
            if let Some(row) = case.withheld.take() {
                self.drop_row(&row, Commit::new()).await?;
            }
            return Ok(Ruling::End(Box::new(end)));
        }
        let ruling = if case.allowed == Some(kind) || case.object.policy.guard.is_off() {
            Ruling::Go
        } else {
            let sides = match kind {
                Kind::Delete => deletes.clone(),
                Kind::Rewrite => aims.iter().map(|aim| aim.0).collect::<BTreeSet<_>>().into_iter().collect(),
            };
            self.measure(case, kind, sides, aims, reason)?
        };
        if matches!(ruling, Ruling::Go) && kind == Kind::Delete {
            let side = deletes.first().copied().unwrap_or(Side::External);
            self.keep(case, side, internal, reason).await?;
        }
        Ok(ruling)
    }

    /// A record with a withheld rewrite was edited: what is withheld stays so, what was edited flows.
    async fn edited(
        &self,
        case: &mut Case<'_>,
        row: Box<Withheld>,
        writes: &mut Writes,
        internal: &InternalState,
        aims: &[Aim],
    ) -> Result<Ruling, PipelineError> {
        let held = |side: Side| -> BTreeSet<String> {
            let same = row.aims.iter().filter(|aim| aim.0 == side && aims.contains(aim));
            same.map(|(_, pointer, _)| pointer.clone()).collect()
        };
        let (here, there) = (held(Side::Internal), held(Side::External));
        writes.internal = writes.internal.take().and_then(|write| without_internal(write, &here, internal));
        writes.external = writes
            .external
            .take()
            .and_then(|write| without_external(write, &there, &case.link, &case.external));
        if here.is_empty() && there.is_empty() {
            self.drop_row(&row, Commit::new()).await?;
        } else {
            case.withheld = Some(row);
        }
        let is_left = writes.internal.is_some() || writes.external.is_some();
        Ok(if is_left { Ruling::Go } else { Ruling::Wait })
    }

    /// Takes a row away that is of no use any more, with other changes. On its own and at once: the work may yet be put back, and
    /// nothing of it is in the store then.
    async fn drop_row(&self, row: &Withheld, mut commit: Commit) -> Result<(), PipelineError> {
        commit.push(Op::DropValue(row.name()));
        self.rooms.store.commit(commit, Until::Applied).await?;
        let mut commit = Commit::new();
        commit.ops.extend(self.settle_row(row));
        if !commit.ops.is_empty() {
            self.rooms.store.commit(commit, Until::Applied).await?;
        }
        Ok(())
    }

    /// Nobody waits for a row any more. When it was the last one, the guard lets things pass again.
    fn settle_row(&self, row: &Withheld) -> Option<Op> {
        let mut ledger = self.ledger.lock();
        let watch = ledger.watch(&row.connection);
        watch.rows.remove(&digest(&row.entity));
        watch.no_longer_waits(row)
    }

    /// What the end of a case means for the guard: the room that was taken is used, an approved row has done its work.
    pub(super) fn conclude_guard(&self, case: &mut Case<'_>) {
        if let Some(row) = case.withheld.take_if(|row| row.approval == Approval::Approved) {
            self.rooms.metrics.guarded(&case.provider, row.kind.name(), "let-go");
            case.commit.push(Op::DropValue(row.name()));
            case.commit.ops.extend(self.settle_row(&row));
        }
        if let Some(mut reservation) = case.reservation.take() {
            reservation.used = true;
            for (_, kind) in &reservation.gauges {
                self.rooms.metrics.guarded(&case.provider, kind.name(), "passed");
            }
            let mut ledger = self.ledger.lock();
            let meters = ledger.meters(&reservation.connection, &reservation.object);
            case.commit.ops.extend(meters.put(&reservation.connection, &reservation.object));
        }
        self.kept(case);
    }

    /// A withheld write was refused: what that means for the link. It is committed at once.
    async fn reject(
        &self,
        case: &mut Case<'_>,
        row: &Withheld,
        internal: &InternalState,
        aims: &[Aim],
    ) -> Result<(), PipelineError> {
        let now = self.rooms.clock.now();
        let deleted = match row.sides.first() {
            Some(Side::Internal) => Side::External,
            _ => Side::Internal,
        };
        let why = match (row.kind, row.approval) {
            (Kind::Rewrite, _) => {
                let fields = aims.iter().map(|(_, pointer, _)| pointer.clone()).collect();
                case.link = agree_to_differ(&case.link, &fields, internal, &case.external, now);
                "the update was rejected: both sides stay as they are"
            }
            (Kind::Delete, Approval::Restored) => {
                case.link = keep_record(&case.link, deleted, now);
                "the deletion was rejected: the record is made again where it was deleted"
            }
            (Kind::Delete, _) => {
                case.link = leave_deleted(&case.link, deleted, now);
                "the deletion was rejected: the record is left alone until it changes"
            }
        };
        case.note("rejected", why, now);
        let commit = self.take_commit(case);
        self.drop_row(row, commit).await?;
        self.rooms.metrics.guarded(&case.provider, row.kind.name(), "rejected");
        Ok(())
    }
}

/// Whether an update has no edit for a reason.
fn is_rewrite(case: &Case<'_>, internal: &InternalState) -> bool {
    if !case.bulk || case.allowed == Some(Kind::Rewrite) {
        return false;
    }
    let Some(stored) = case.stored.as_ref().filter(|stored| !stored.base.is_empty()) else {
        return false;
    };
    if !stored.decided.is_empty() {
        return false;
    }
    // A person asked for a look: whatever it finds is shown first. A walk finds what nobody was told of.
    if case.asked {
        return true;
    }
    !is_edited(case, stored, internal)
}

/// Whether either side moved since the link was stored.
fn is_edited(case: &Case<'_>, stored: &Link, internal: &InternalState) -> bool {
    let version = match internal {
        InternalState::Absent => None,
        InternalState::Present { version, .. } | InternalState::Deleted { version, .. } => Some(*version),
    };
    version > stored.internal_version
        || case.link.external_stamp > known_stamp(stored)
        || case.link.external_version != stored.external_version
}

#[cfg(test)]
mod tests {
    use tandem_core::exchange::Observed;
    use tandem_core::id::EntityKey;
    use tandem_core::link::OwnWrite;

    use super::*;
    use crate::pipeline::dispatch::Hand;

    fn told(link: &Link, rows: &[(&str, u64)]) -> Work {
        let hint = |(seq, (cause, stamp)): (usize, &(&str, u64))| Hint {
            seq: seq as u64,
            connection: link.connection.clone(),
            object: link.entity.object.clone(),
            subject: Subject::External("501".into()),
            class: Class::Live,
            noticed_at: 7,
            due: 0,
            attempts: 0,
            cause: (*cause).to_owned(),
            observed: Some(Observed { stamp: Some(*stamp), ..Observed::touched("contact", "501") }),
        };
        Work {
            connection: link.connection.clone(),
            object: link.entity.object.clone(),
            subject: Subject::External("501".into()),
            hints: rows.iter().enumerate().map(hint).collect(),
            hand: Hand::Entity(link.entity.clone()),
            went_ahead: false,
        }
    }

    /// A state that was seen at 10, if any, and a write of ours that left one at 20.
    fn written(seen: Option<u64>) -> Link {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "c1".into() };
        let mut link = Link::new(entity, "acme-crm".into());
        link.external_stamp = seen;
        link.own = Some(OwnWrite { stamp: Some(20), ..OwnWrite::default() });
        link
    }

    #[test]
    fn what_a_write_without_a_condition_left_is_not_known_where_an_edit_may_have_come_before_it() {
        use Condition::{Etag, None as Blind, Second};
        for (seen, condition, known) in [
            (Some(10), Blind, [true, true, false, false, false]),
            (Some(10), Second, [true, true, true, false, false]),
            (Some(10), Etag, [true, true, true, true, false]),
            (None, Blind, [true, true, true, true, false]),
        ] {
            let link = written(seen);
            let rows =
                [5, 10, 15, 20, 25].map(|stamp| is_known(&told(&link, &[("poll", stamp)]), &link, condition));
            assert_eq!(rows, known, "{condition:?} after {seen:?}");
        }
    }

    #[test]
    fn nothing_but_rows_of_a_poll_is_known() {
        let link = written(Some(10));
        let is_known = |rows: &[(&str, u64)]| is_known(&told(&link, rows), &link, Condition::Etag);
        assert!(is_known(&[("poll", 5), ("poll", 20)]));
        assert!(!is_known(&[]) && !is_known(&[("webhook", 5)]) && !is_known(&[("poll", 5), ("edit", 5)]));
    }
}
