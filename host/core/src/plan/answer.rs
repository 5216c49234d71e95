//! Folds what became of a write into the link. Only what was *written* moves; everything else in an answer is an
//! observation and is left to the next plan.

use std::collections::BTreeSet;

use serde_json::Value;

use super::compare::{blank, flow, is_rewrite, is_set, members, same};
use super::merge::pair_of;
use super::{
    External, ExternalWrite, ExternalWritten, Internal, InternalWrite, Returned, Source, loops, overtaken,
    sets,
};
use crate::Millis;
use crate::link::{Fields, Life, Link, OwnWrite, Pair, RECORD, Side};
use crate::policy::{Flow, ObjectPolicy, OnReject, OnRewrite};

/// After a write to the CRM was answered. `internal` is what the plan was made from.
///
/// Each field that was written gets its pair: what System A had, and what the CRM returned; or what was sent, *assumed*, where
/// the CRM returned no record. Fields that it did not take are refused: left out until their internal value changes. Plan next
/// with the returned record as [`Source::Answer`], if there is one: a person's edit of another field is in it.
#[must_use]
pub fn after_external_write(
    link: &Link,
    write: &ExternalWrite,
    internal: &Internal,
    written: &ExternalWritten,
    policy: &ObjectPolicy,
    now: Millis,
) -> Link {
    let mut next = link.clone();
    let nothing = Fields::new();
    let (source, version) = match internal {
        Internal::Present { fields, version, .. } => (fields, Some(*version)),
        Internal::Deleted { version, .. } => (&nothing, Some(*version)),
        Internal::Absent => (&nothing, None),
    };
    next.internal_version = next.internal_version.max(version);
    next.committed_at = next.committed_at.max(now);
    if let ExternalWrite::Remove { .. } = write {
        next.own = None;
        if written.stamp.is_some() {
            next.external_stamp = next.external_stamp.max(written.stamp);
        }
        next.bury(Side::Internal, now);
        return next;
    }
    let (fields, changed): (&Fields, BTreeSet<&String>) = match write {
        ExternalWrite::Create { fields } => (fields, fields.keys().collect()),
        ExternalWrite::Update { fields, changed, .. } => (fields, changed.iter().collect()),
        ExternalWrite::Remove { .. } => return next,
    };
    next.external = Some(written.id.clone());
    next.doubt = None;
    next.external_version.clone_from(&written.version);
    // A write that was conditional on our own last one followed it without a gap.
    let follows = match (write, &link.own) {
        (ExternalWrite::Update { version: Some(version), .. }, Some(own)) => {
            own.version.as_ref() == Some(version)
        }
        _ => false,
    };
    let mut own_fields = match &link.own {
        Some(own) if follows => own.fields.clone(),
        _ => BTreeSet::new(),
    };
    own_fields.extend(changed.iter().map(|pointer| (*pointer).clone()));
    next.own = Some(OwnWrite {
        version: written.version.clone(),
        stamp: written.stamp,
        at: now,
        fields: own_fields,
    });
    if let Some(keep) = &written.keep {
        next.keep = Some(keep.clone());
    }
    for pointer in changed {
        if !policy.mapped.contains(pointer) {
            continue;
        }
        decision_delivered(&mut next, pointer, Side::External);
        if written.unapplied.contains(pointer) {
            next.refused.insert(pointer.clone(), source.get(pointer).cloned().unwrap_or(Value::Null));
            continue;
        }
        let sent = fields.get(pointer);
        let returned = written.returned.field(pointer);
        let mut pair =
            external_pair(&pair_of(link, pointer), pointer, source.get(pointer), sent, returned, policy);
        if matches!(write, ExternalWrite::Create { .. }) && !is_set(policy, pointer) {
            // What a record is created with where it has no value is not what System A has.
            pair.internal = source.get(pointer).cloned();
        }
        next.base.insert(pointer.clone(), pair);
        let to_adopt = adopts(pointer, policy) && !is_set(policy, pointer);
        match returned.filter(|made| to_adopt && !same(policy, pointer, *made, sent)) {
            Some(made) => next.rewritten.insert(pointer.clone(), made.cloned().unwrap_or(Value::Null)),
            None => next.rewritten.remove(pointer),
        };
        next.refused.remove(pointer);
        if matches!(write, ExternalWrite::Update { .. }) {
            if overtaken::is_given_back(link, pointer, sent, policy) {
                loops::record_restored(&mut next, pointer, policy, now);
            } else {
                loops::record(&mut next, pointer, Side::External, policy, now);
            }
            overtaken::settle_given_back(&mut next, pointer, sent, source.get(pointer), policy);
            overtaken::remember(&mut next, link, pointer, sent, written.stamp, policy);
        }
    }
    overtaken::forget_old(&mut next, written.stamp);
    if let ExternalWrite::Create { .. } = write {
        // A new record has no value where none was sent, until it is seen to have one: most CRMs return only what they were
        // sent, and a later edit of such a field should not cost a read.
        let unsent = |pointer: &&String| {
            !next.base.contains_key(*pointer) && !next.owed.contains(*pointer) && blank(source.get(*pointer))
        };
        let unsent: Vec<String> = policy.mapped.iter().filter(unsent).cloned().collect();
        for pointer in unsent {
            let internal = source.get(&pointer).cloned();
            next.base.insert(pointer, Pair { internal, external: None, assumed: true, given: false });
        }
    }
    next
}

/// A decided value has reached a side; the decision is forgotten when it has reached all that it was meant for. False: it was
/// not decided.
fn decision_delivered(link: &mut Link, pointer: &str, side: Side) -> bool {
    let mut delivered = false;
    link.decided.retain(|_, decided| {
        let left = match side {
            Side::Internal => &mut decided.to_internal,
            Side::External => &mut decided.to_external,
        };
        let reached = left.remove(pointer);
        delivered |= reached;
        !(reached && decided.to_internal.is_empty() && decided.to_external.is_empty())
    });
    delivered
}

/// Whether System A gets what the CRM makes of a field that is sent.
fn adopts(pointer: &str, policy: &ObjectPolicy) -> bool {
    policy.field(pointer).on_rewrite == OnRewrite::Adopt && flow(policy, pointer) != Flow::ToExternal
}

/// The pair of a field that was written to the CRM.
fn external_pair(
    before: &Pair,
    pointer: &str,
    internal: Option<&Value>,
    sent: Option<&Value>,
    returned: Option<Option<&Value>>,
    policy: &ObjectPolicy,
) -> Pair {
    let adopt = adopts(pointer, policy);
    if is_set(policy, pointer) {
        let chain = policy.normalise.get(pointer).map(String::as_str);
        // When the rewrite is adopted, the base keeps what was sent, so that what was returned is a change.
        let found = if adopt { None } else { returned.flatten() };
        let (here, there) =
            sets::delivered(chain, before.internal.as_ref(), before.external.as_ref(), internal, sent, found);
        let assumed = returned.is_none();
        return Pair { internal: Some(here), external: Some(there), assumed, given: false };
    }
    // A decided value was not System A's: its half moves when it was written there.
    let here =
        if same(policy, pointer, internal, sent) { internal.cloned() } else { before.internal.clone() };
    let there = match returned {
        // What was returned is to be adopted: against the base of what was sent, it is the CRM's change.
        Some(returned) if adopt && !same(policy, pointer, returned, sent) => sent.cloned(),
        Some(returned) => returned.cloned(),
        None => sent.cloned(),
    };
    // What this CRM gave itself and is given back is still its own.
    let given = before.given && same(policy, pointer, internal, before.internal.as_ref());
    Pair { internal: here, external: there, assumed: returned.is_none(), given }
}

/// After a write to System A was done and gave `version`. `external` is the observation that the plan was made from.
#[must_use]
pub fn after_internal_write(
    link: &Link,
    write: &InternalWrite,
    version: u64,
    external: &External,
    policy: &ObjectPolicy,
    now: Millis,
) -> Link {
    let mut next = link.clone();
    next.internal_version = next.internal_version.max(Some(version));
    next.own_internal = Some(version);
    next.committed_at = next.committed_at.max(now);
    let whole = match external {
        External::Whole { fields, .. } => Some(fields),
        _ => None,
    };
    match write {
        InternalWrite::Delete { .. } => next.bury(Side::External, now),
        InternalWrite::Create { fields } => {
            next.life = Life::Active;
            next.decided.remove(RECORD);
            next.held.remove(RECORD);
            if let External::Whole { id, version, stamp, .. } = external {
                next.external = Some(id.clone());
                next.external_version.clone_from(version);
                if stamp.is_some() {
                    next.external_stamp = *stamp;
                }
            }
            for pointer in &policy.mapped {
                if next.owed.contains(pointer) {
                    continue;
                }
                // Where the record was seen, it says what it has: System A may have been given a value that it has not.
                let there = whole.unwrap_or(fields).get(pointer);
                let internal = fields.get(pointer).cloned();
                let given = internal.is_some() && there.is_some();
                let pair = Pair { internal, external: there.cloned(), assumed: false, given };
                next.base.insert(pointer.clone(), pair);
            }
        }
        InternalWrite::Update { fields, changed, .. } => {
            for pointer in changed.iter().filter(|pointer| policy.mapped.contains(pointer)) {
                let decided = decision_delivered(&mut next, pointer, Side::Internal);
                let before = pair_of(link, pointer);
                let written = fields.get(pointer);
                let there = whole.map(|fields| fields.get(pointer));
                let pair = internal_pair(&before, pointer, written, there, policy);
                // What the CRM made of our own write is neither an edit there nor a value that it gave.
                let adopted = is_rewrite(link, policy, pointer, pair.external.as_ref());
                let given = if adopted { before.given } else { !decided };
                let pair = Pair { given, ..pair };
                if !adopted && !same(policy, pointer, pair.external.as_ref(), before.external.as_ref()) {
                    overtaken::supersede(&mut next, pointer);
                }
                next.base.insert(pointer.clone(), pair);
                next.rewritten.remove(pointer);
                next.refused.remove(pointer);
                loops::record(&mut next, pointer, Side::Internal, policy, now);
            }
        }
    }
    next
}

/// The pair of a field that was written to System A. `external`: what the CRM was seen to have.
fn internal_pair(
    before: &Pair,
    pointer: &str,
    written: Option<&Value>,
    external: Option<Option<&Value>>,
    policy: &ObjectPolicy,
) -> Pair {
    if is_set(policy, pointer) && flow(policy, pointer) == Flow::Both {
        let chain = policy.normalise.get(pointer).map(String::as_str);
        let source = external.unwrap_or(before.external.as_ref());
        let (there, here) = sets::delivered(
            chain,
            before.external.as_ref(),
            before.internal.as_ref(),
            source,
            written,
            written,
        );
        return Pair { internal: Some(here), external: Some(there), assumed: before.assumed, given: true };
    }
    let there = match external {
        Some(external) if same(policy, pointer, external, written) => external.cloned(),
        _ => before.external.clone(),
    };
    let assumed = before.assumed && external.is_none();
    Pair { internal: written.cloned(), external: there, assumed, given: true }
}

/// After the CRM rejected some fields of a write: with `omit-and-flag` they are left out, with the whole of their groups,
/// until their internal value changes; the next plan writes the rest. None: the write as a whole is to be set aside,
/// because a field's policy says so or because the CRM named no mapped field.
#[must_use]
pub fn after_external_reject(
    link: &Link,
    pointers: &BTreeSet<String>,
    internal: &Internal,
    policy: &ObjectPolicy,
    now: Millis,
) -> Option<Link> {
    let Internal::Present { fields, .. } = internal else { return None };
    if pointers.is_empty() {
        return None;
    }
    let mut next = link.clone();
    for pointer in pointers {
        if !policy.mapped.contains(pointer) {
            return None;
        }
        let group = policy.group(pointer);
        let set = is_set(policy, pointer);
        let own =
            if set { policy.field(pointer) } else { policy.group_policy(group, members(policy, group)) };
        if own.on_reject == OnReject::Hold {
            return None;
        }
        let left_out: Vec<&str> = if set { vec![pointer.as_str()] } else { members(policy, group).collect() };
        for field in left_out {
            next.refused.insert(field.to_owned(), fields.get(field).cloned().unwrap_or(Value::Null));
        }
    }
    next.committed_at = next.committed_at.max(now);
    Some(next)
}

/// The answer of a write as an observation for the next plan. None: the CRM returned nothing of the record.
#[must_use]
pub fn observed_answer(written: &ExternalWritten) -> Option<External> {
    match &written.returned {
        Returned::Nothing => None,
        Returned::Partial(fields) => Some(External::Partial { fields: fields.clone(), stamp: written.stamp }),
        Returned::Whole(fields) => Some(External::Whole {
            id: written.id.clone(),
            fields: fields.clone(),
            version: written.version.clone(),
            stamp: written.stamp,
            source: Source::Answer,
            changed_at: std::collections::BTreeMap::new(),
            by_other: false,
        }),
    }
}
