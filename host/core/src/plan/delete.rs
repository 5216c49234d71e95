//! Creation, deletion and return: what happens when a record is there on one side only.
//!
//! A deletion of one side acts on the other by policy. Against a change of the other side it is a conflict. Both gone is a
//! tombstone; a record comes back from there only by a direct read of the CRM, or by System A's own word, as a new
//! incarnation.

use super::compare::{blank, external_changed, internal_changed, inward, outward, same, settle_rewrites};
use super::observe::State;
use super::{
    Ask, Conflict, Draft, External, ExternalWrite, Internal, InternalWrite, Source, Verdict, review,
};
use crate::Millis;
use crate::exchange::Proof;
use crate::id::ExternalId;
use crate::link::{Chosen, Doubt, Fields, Held, Life, Link, RECORD, Said, Side};
use crate::policy::{ObjectPolicy, OnDelete, OnDeleteConflict};

/// The record is there in System A and nowhere else.
pub(super) fn create_external(link: &Link, internal: &Fields, policy: &ObjectPolicy, draft: &mut Draft) {
    if !policy.create_external {
        draft.say("not linked; new records are not created in the CRM");
        return;
    }
    let refused = |pointer: &str| {
        link.refused
            .get(pointer)
            .is_some_and(|refused| same(policy, pointer, internal.get(pointer), Some(refused)))
    };
    let mut fields: Fields = outward(policy)
        .filter(|pointer| !link.owed.contains(*pointer) && !refused(pointer))
        .filter_map(|pointer| Some((pointer.to_owned(), internal.get(pointer)?.clone())))
        .filter(|(_, value)| !value.is_null())
        .collect();
    if fields.is_empty() {
        draft.say("nothing of the record flows to the CRM");
        return;
    }
    fill(
        &mut fields,
        outward(policy).filter(|pointer| !link.owed.contains(*pointer) && !refused(pointer)),
        policy,
    );
    draft.say("new in System A: created in the CRM");
    draft.external = Some(ExternalWrite::Create { fields });
}

/// The record is there in the CRM and not in System A.
pub(super) fn create_internal(external: &Fields, policy: &ObjectPolicy, draft: &mut Draft) {
    if !policy.create_internal {
        draft.say("not in System A; new records are not created there");
        return;
    }
    let mut fields: Fields = inward(policy)
        .filter_map(|pointer| Some((pointer.to_owned(), external.get(pointer)?.clone())))
        .filter(|(_, value)| !value.is_null())
        .collect();
    fill(&mut fields, inward(policy), policy);
    draft.say("new in the CRM: created in System A");
    draft.internal = Some(InternalWrite::Create { fields });
}

/// What a record is created with where it has no value.
fn fill<'p>(fields: &mut Fields, flowing: impl Iterator<Item = &'p str>, policy: &ObjectPolicy) {
    for pointer in flowing {
        if let (true, Some(value)) = (blank(fields.get(pointer)), policy.filled.get(pointer)) {
            fields.insert(pointer.to_owned(), value.clone());
        }
    }
}

/// Starts a new incarnation: nothing of the old one is remembered but the order of things.
fn reborn(link: &mut Link) {
    link.incarnation = link.incarnation.saturating_add(1);
    link.forget();
    link.life = Life::Active;
}

/// Starts a new incarnation whose record in the CRM is still to be made.
fn reborn_without_external(link: &mut Link) {
    reborn(link);
    link.external = None;
    link.external_version = None;
    link.external_stamp = None;
    link.keep = None;
}

/// Both are gone.
pub(super) fn both_gone(link: &mut Link, by: Side, now: Millis, draft: &mut Draft) {
    link.bury(by, now);
    draft.say("gone on both sides");
}

pub(super) fn lapse(link: &mut Link, by: Side, now: Millis) {
    link.decided.remove(RECORD);
    if !matches!(link.life, Life::Lapsed { by: before, .. } if before == by) {
        link.life = Life::Lapsed { by, at: now };
    }
}

/// What a deletion on one side does on the other. Once it was left alone, it stays so whatever the policy says by now.
fn policy_of(link: &Link, by: Side, policy: OnDelete) -> OnDelete {
    match link.life {
        Life::Lapsed { by: side, .. } if side == by && policy == OnDelete::Delete => OnDelete::Ignore,
        _ => policy,
    }
}

/// A person said that the record stays on the side that did not delete it.
fn is_kept(link: &Link, survivor: Chosen) -> bool {
    link.decided.get(RECORD).is_some_and(|decided| decided.choice == survivor)
}

/// Who wins when one side deleted and the other changed. None: held.
fn rule(
    link: &mut Link,
    deleted: Side,
    internal: &Fields,
    external: &Fields,
    policy: &ObjectPolicy,
    now: Millis,
    draft: &mut Draft,
) -> Option<Side> {
    let survivor = match deleted {
        Side::Internal => Side::External,
        Side::External => Side::Internal,
    };
    let (winner, why) =
        match (link.decided.get(RECORD).map(|decided| decided.choice), policy.on_delete_conflict) {
            (Some(Chosen::Internal), _) => (Some(Side::Internal), "decided in review"),
            (Some(Chosen::External), _) => (Some(Side::External), "decided in review"),
            (_, OnDeleteConflict::Update) => (Some(survivor), "the update wins by policy"),
            (_, OnDeleteConflict::Delete) => (Some(deleted), "the deletion wins by policy"),
            (_, OnDeleteConflict::Review) => (None, "held for review by policy"),
        };
    let why =
        format!("deleted on the {} side and changed on the {} side; {why}", deleted.name(), survivor.name());
    if winner.is_none() {
        let held = Held {
            fields: policy.mapped.iter().cloned().collect(),
            internal: only_mapped(internal, policy),
            external: only_mapped(external, policy),
            since: now,
            why: why.clone(),
            internal_said: Said::default(),
            external_said: Said::default(),
        };
        review::hold_values(link, RECORD, held);
    } else {
        link.held.remove(RECORD);
    }
    draft.say(&why);
    draft.conflicts.push(Conflict {
        group: RECORD.to_owned(),
        fields: policy.mapped.iter().cloned().collect(),
        ruling: match winner {
            Some(Side::Internal) => Verdict::Internal,
            Some(Side::External) => Verdict::External,
            None => Verdict::Review,
        },
        why,
    });
    winner
}

fn only_mapped(fields: &Fields, policy: &ObjectPolicy) -> Fields {
    fields
        .iter()
        .filter(|(pointer, _)| policy.mapped.contains(pointer))
        .map(|(pointer, value)| (pointer.clone(), value.clone()))
        .collect()
}

/// Both were deleted, and System A's came back before the CRM's deletion was confirmed: nobody wants it deleted once more.
pub(super) fn back_in_internal(link: &mut Link, internal: &Fields, policy: &ObjectPolicy, draft: &mut Draft) {
    reborn_without_external(link);
    draft.say("deleted on both sides, and back in System A");
    create_external(link, internal, policy, draft);
}

/// The record is there in System A and is gone from the CRM beyond doubt.
pub(super) fn external_gone(
    link: &mut Link,
    internal: &Fields,
    version: u64,
    policy: &ObjectPolicy,
    now: Millis,
    draft: &mut Draft,
) {
    let changed = internal_changed(link, internal, policy) || is_kept(link, Chosen::Internal);
    match policy_of(link, Side::External, policy.on_external_delete) {
        OnDelete::Detach => {
            link.life = Life::Detached { at: now };
            link.doubt = None;
            draft.say("deleted in the CRM: the link is cut");
        }
        OnDelete::Ignore if changed && policy.create_external => {
            reborn_without_external(link);
            draft.say("deleted in the CRM and changed in System A since");
            create_external(link, internal, policy, draft);
        }
        OnDelete::Ignore => {
            lapse(link, Side::External, now);
            link.doubt = None;
            link.look = false;
            draft.say("deleted in the CRM: left alone until it changes in System A");
        }
        OnDelete::Delete if !changed => {
            draft.say("deleted in the CRM: deleted in System A");
            draft.internal = Some(InternalWrite::Delete { expected: version });
        }
        OnDelete::Delete => match rule(link, Side::External, internal, &Fields::new(), policy, now, draft) {
            Some(Side::Internal) if policy.create_external => {
                reborn_without_external(link);
                create_external(link, internal, policy, draft);
            }
            Some(Side::Internal) => {
                lapse(link, Side::External, now);
                link.doubt = None;
                link.look = false;
                draft.say("new records are not created in the CRM");
            }
            Some(Side::External) => draft.internal = Some(InternalWrite::Delete { expected: version }),
            None => {}
        },
    }
}

/// The record is deleted in System A and as far as is known still there in the CRM.
pub(super) fn internal_deleted(
    link: &mut Link,
    state: Option<&State<'_>>,
    policy: &ObjectPolicy,
    now: Millis,
    draft: &mut Draft,
) {
    let kept = is_kept(link, Chosen::External);
    let changed = state.filter(|state| kept || external_changed(link, state, policy));
    match policy_of(link, Side::Internal, policy.on_internal_delete) {
        OnDelete::Detach => {
            link.life = Life::Detached { at: now };
            draft.say("deleted in System A: the link is cut");
        }
        OnDelete::Ignore => match changed {
            Some(state) if policy.create_internal => {
                reborn(link);
                draft.say("deleted in System A and changed in the CRM since");
                create_internal(state.fields, policy, draft);
            }
            _ => {
                lapse(link, Side::Internal, now);
                draft.say("deleted in System A: left alone until it changes in the CRM");
            }
        },
        OnDelete::Delete => {
            let decided = link.decided.get(RECORD).map(|decided| decided.choice);
            if state.is_none()
                && policy.on_delete_conflict != OnDeleteConflict::Delete
                && decided != Some(Chosen::Internal)
            {
                // A deletion cannot be taken back everywhere: one look first, since an update may win.
                draft.ask = Some(Ask::ReadExternal);
                draft.say("deleted in System A: a look at the external record before it is removed");
                return;
            }
            let Some(state) = changed else {
                if let Some(state) = state {
                    // The removal may be lost, and the next look would take them for edits.
                    settle_rewrites(link, state, policy);
                }
                draft.say("deleted in System A: removed from the CRM");
                draft.external = Some(remove(link));
                return;
            };
            match rule(link, Side::Internal, &Fields::new(), state.fields, policy, now, draft) {
                Some(Side::External) if policy.create_internal => {
                    reborn(link);
                    create_internal(state.fields, policy, draft);
                }
                Some(Side::External) => {
                    lapse(link, Side::Internal, now);
                    draft.say("new records are not created in System A");
                }
                Some(Side::Internal) => draft.external = Some(remove(link)),
                None => {}
            }
        }
    }
}

fn remove(link: &Link) -> ExternalWrite {
    let (version, stamp) = precondition(link);
    ExternalWrite::Remove { version, stamp }
}

/// What a conditional write may rely on: the record as it was last seen, or as our own write left it.
pub(super) fn precondition(link: &Link) -> (Option<String>, Option<u64>) {
    match &link.own {
        Some(own) => (own.version.clone(), own.stamp),
        None => (link.external_version.clone(), link.external_stamp),
    }
}

/// A hint about a link whose records are both gone. True: it came back, and planning goes on.
pub(super) fn tombstone(
    link: &mut Link,
    at: Millis,
    internal: &Internal,
    external: &External,
    policy: &ObjectPolicy,
    draft: &mut Draft,
) -> bool {
    // The times of two records are in no order.
    let is_other = |id: &ExternalId| link.external.as_ref().is_some_and(|known| known != id);
    let seen = match external {
        External::Whole { id, .. } if is_other(id) => None,
        _ => link.external_stamp,
    };
    let old = move |stamp: &Option<u64>| matches!((stamp, seen), (Some(stamp), Some(seen)) if *stamp <= seen);
    if let Some(until) = confirm_absence(link, external, policy) {
        draft.ask = Some(Ask::ReadExternalAt(until));
        draft.say("gone; somebody told of it since, and it was missed: it is looked for again");
        return false;
    }
    if let Internal::Present { version, .. } = internal
        && link.internal_version.is_none_or(|seen| *version > seen)
    {
        // Made anew beside a record that is back it would be there twice.
        let is_back = match external {
            // Somebody told of it, and the look that follows is still owed.
            External::Unseen if link.look => None,
            External::Unseen | External::Gone { .. } | External::Moved { .. } => Some(false),
            External::Whole { source: Source::Read { began }, stamp, .. }
                if *began >= at && *stamp == seen && stamp.is_some() =>
            {
                if let Some(until) = confirm_return(link, *began, policy) {
                    draft.ask = Some(Ask::ReadExternalAt(until));
                    draft.say(
                        "it came back in System A; in the CRM it has the time from before: another look",
                    );
                    return false;
                }
                Some(true)
            }
            External::Whole { source: Source::Read { began }, stamp, .. } => {
                Some(*began >= at && !old(stamp))
            }
            External::Whole { source: Source::Answer, .. } => Some(false),
            External::Whole { stamp, .. } | External::Partial { stamp, .. } if old(stamp) => Some(false),
            External::Touched | External::Partial { .. } | External::Whole { .. } => None,
        };
        match (is_back, external) {
            (None, _) if link.external.is_some() => {
                link.look = true;
                draft.ask = Some(Ask::ReadExternal);
                draft.say("it came back in System A; a look whether it is back in the CRM too");
                return false;
            }
            (Some(true), External::Whole { id, version, stamp, .. }) => {
                reborn(link);
                link.external = Some(id.clone());
                link.external_version.clone_from(version);
                link.external_stamp = stamp.or(seen);
                draft.say("it came back on both sides");
            }
            _ => {
                reborn_without_external(link);
                draft.say("it came back in System A");
            }
        }
        return true;
    }
    match external {
        External::Unseen => draft.say("gone on both sides"),
        External::Gone { .. } => {
            link.doubt = None;
            link.look = false;
            draft.say("gone on both sides");
        }
        External::Partial { stamp, .. } if old(stamp) => draft.say("gone; an older event changes nothing"),
        External::Whole { source: Source::Read { began }, fields, id, version, stamp, .. } => {
            let undecided = *stamp == seen && stamp.is_some();
            if *began < at || old(stamp) && !undecided {
                draft.say("gone; an older read changes nothing");
                return false;
            }
            if undecided && let Some(until) = confirm_return(link, *began, policy) {
                draft.ask = Some(Ask::ReadExternalAt(until));
                draft.say("gone, and read with the time from before; it is looked for again");
                return false;
            }
            if !policy.create_internal {
                draft.say("it came back in the CRM; new records are not created in System A");
                return false;
            }
            reborn(link);
            link.external = Some(id.clone());
            link.external_version.clone_from(version);
            if stamp.is_some() {
                link.external_stamp = *stamp;
            }
            draft.say("it came back in the CRM");
            create_internal(fields, policy, draft);
        }
        External::Whole { stamp, source, .. } => {
            let before = matches!(source, Source::Listing { began, .. } if *began <= at);
            if old(stamp) || before || *source == Source::Answer {
                draft.say("gone; an older row changes nothing");
            } else {
                link.look = true;
                draft.ask = Some(Ask::ReadExternal);
                draft.say("gone; only a direct read brings it back");
            }
        }
        External::Touched | External::Partial { .. } | External::Moved { .. } => {
            link.look = true;
            draft.ask = Some(Ask::ReadExternal);
            draft.say("gone; only a direct read brings it back");
        }
    }
    false
}

/// Somebody told of a record that is gone, as if it were back, and the look that follows misses it. Until when to wait before it is looked
/// for again; None: it is gone beyond doubt, or nobody told of it.
fn confirm_absence(link: &mut Link, external: &External, policy: &ObjectPolicy) -> Option<Millis> {
    let External::Gone { proof: Proof::Unconfirmed, at } = external else { return None };
    if !link.look {
        return None;
    }
    doubted(link, *at, false, policy)
}

/// One more look at what is in doubt. A doubt of the other kind is over by it. Until when to wait; None: it is confirmed.
fn doubted(link: &mut Link, began: Millis, shown: bool, policy: &ObjectPolicy) -> Option<Millis> {
    let before = link.doubt.filter(|doubt| doubt.shown == shown);
    let doubt = before.unwrap_or(Doubt { since: began, shown, ..Doubt::default() });
    link.doubt = Some(Doubt { looks: doubt.looks.saturating_add(1), last: began.max(doubt.last), ..doubt });
    let due = doubt.since.saturating_add(policy.confirm_after());
    (began < due).then_some(due)
}

/// A record that is gone was read as it was before: a replica that lags, or one that was restored within the same second. True of the
/// second kind is what is still so a while later. Until when to wait; None: it is back.
#[must_use]
pub fn confirm_return(link: &mut Link, began: Millis, policy: &ObjectPolicy) -> Option<Millis> {
    doubted(link, began, true, policy)
}

/// System A never had the record, and the link says that it did: its store went back in time. Nothing is deleted for that.
pub(super) fn internal_lost(
    link: &mut Link,
    state: Option<&State<'_>>,
    policy: &ObjectPolicy,
    draft: &mut Draft,
) {
    match state {
        Some(state) => {
            if policy.create_internal && !link.base.is_empty() {
                reborn(link);
            }
            create_internal(state.fields, policy, draft);
        }
        None if link.external.is_some() && policy.create_internal => {
            draft.ask = Some(Ask::ReadExternal);
            draft.say("not in System A: a look at the external record first");
        }
        None => draft.say("neither side has the record"),
    }
}
