//! What waits for a person: holds, decisions, frozen fields.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::Look;
use crate::Millis;
use crate::id::ExternalId;
use crate::link::{Chosen, Decided, Fields, Held, Link, Pair, RECORD};

/// What a person chose.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// System A's values.
    Internal,
    /// The CRM's values.
    External,
    /// Others, for all fields of the group; one that is missing is cleared.
    Value(Fields),
}

/// Why a decision cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// Nothing of that name is held.
    #[error("group {0:?} is not held; `review list` shows what is")]
    NotHeld(String),
    /// The value has a field that is not the group's.
    #[error("field {field} does not belong to group {group:?}")]
    Foreign {
        /// The group.
        group: String,
        /// The field.
        field: String,
    },
    /// A deletion against a change has no third value.
    #[error("the record as a whole takes the internal or the external side, not a value")]
    NoValue,
}

/// What both sides have of a group; of an edit that was overtaken, what it had made of the field.
fn values(link: &Link, looks: &[Look<'_>]) -> (Fields, Fields) {
    let mut internal = Fields::new();
    let mut external = Fields::new();
    for look in looks {
        if let Some(value) = look.internal {
            internal.insert(look.pointer.to_owned(), value.clone());
        }
        let there = match link.overtaken.get(look.pointer) {
            Some(overtaken) => overtaken.value.as_ref(),
            None => look.external,
        };
        if let Some(value) = there {
            external.insert(look.pointer.to_owned(), value.clone());
        }
    }
    (internal, external)
}

/// Holds a group with the values of both sides.
pub(super) fn hold(link: &mut Link, group: &str, looks: &[Look<'_>], why: &str, now: Millis) {
    let (internal, external) = values(link, looks);
    let fields = looks.iter().map(|look| look.pointer.to_owned()).collect();
    hold_values(link, group, Held { fields, internal, external, since: now, why: why.to_owned() });
}

/// Holds a group, or refreshes the values of one that is held.
pub(super) fn hold_values(link: &mut Link, group: &str, held: Held) {
    let since = link.held.get(group).map_or(held.since, |before| before.since);
    link.held.insert(group.to_owned(), Held { since, ..held });
}

/// A new look at a held group.
pub(super) fn refresh(link: &mut Link, group: &str, looks: &[Look<'_>]) {
    let (internal, external) = values(link, looks);
    if let Some(held) = link.held.get_mut(group) {
        held.internal = internal;
        held.external = external;
        held.fields = looks.iter().map(|look| look.pointer.to_owned()).collect();
    }
}

/// Takes a decision about a held group. The next plan carries it out; when the values have changed by then (those of the
/// side that was not chosen, or of either when a value was given), the group is held again.
///
/// # Errors
/// Nothing of that name is held, or the choice does not fit it.
pub fn decide_review(link: &Link, group: &str, choice: Choice, now: Millis) -> Result<Link, DecideError> {
    let Some(held) = link.held.get(group) else {
        return Err(DecideError::NotHeld(group.to_owned()));
    };
    if let Choice::Value(fields) = &choice
        && let Some(field) = fields.keys().find(|field| !held.fields.contains(*field))
    {
        return Err(if group == RECORD {
            DecideError::NoValue
        } else {
            DecideError::Foreign { group: group.to_owned(), field: field.clone() }
        });
    }
    if group == RECORD && matches!(choice, Choice::Value(_)) {
        return Err(DecideError::NoValue);
    }
    let all = || held.fields.clone();
    let late: BTreeSet<String> =
        held.fields.iter().filter(|field| link.overtaken.contains_key(*field)).cloned().collect();
    let (choice, values, to_internal, to_external) = match choice {
        Choice::Internal => (Chosen::Internal, held.internal.clone(), BTreeSet::new(), all()),
        // What was overtaken is on neither side any more.
        Choice::External if !late.is_empty() => (Chosen::Value, held.external.clone(), all(), late.clone()),
        Choice::External => (Chosen::External, held.external.clone(), all(), BTreeSet::new()),
        Choice::Value(values) => (Chosen::Value, values, all(), all()),
    };
    let mut next = link.clone();
    next.held.remove(group);
    if group != RECORD {
        for field in &held.fields {
            let external = if late.contains(field) {
                link.base.get(field).and_then(|pair| pair.external.as_ref())
            } else {
                held.external.get(field)
            };
            let internal = held.internal.get(field).cloned();
            let pair = Pair { internal, external: external.cloned(), ..Pair::default() };
            next.base.insert(field.clone(), pair);
            next.alternations.remove(field);
            next.overtaken.remove(field);
        }
    }
    next.decided.insert(group.to_owned(), Decided { choice, values, to_internal, to_external });
    // Fields that waited beside a held record have not been followed since.
    next.look = next.external.is_some();
    next.committed_at = next.committed_at.max(now);
    Ok(next)
}

/// Freezes fields, each with its reason, that went back and forth through another link of the same entity.
#[must_use]
pub fn freeze(link: &Link, fields: &BTreeMap<String, String>, now: Millis) -> Link {
    let mut next = link.clone();
    for (field, why) in fields {
        next.frozen.entry(field.clone()).or_insert_with(|| why.clone());
    }
    if next != *link {
        next.committed_at = next.committed_at.max(now);
    }
    next
}

/// Lets a field flow again that is frozen in this link or in another one of the entity; its memory of alternations is cleared.
#[must_use]
pub fn unfreeze(link: &Link, field: &str, now: Millis) -> Link {
    let mut next = link.clone();
    let frozen = next.frozen.remove(field).is_some();
    if next.alternations.remove(field).is_some() || frozen {
        next.look |= frozen && next.external.is_some();
        next.committed_at = next.committed_at.max(now);
    }
    next
}

/// Points the link at a record of the CRM: one that a create found to exist already, or the winner of a merge.
/// The base stays; the next plan looks at the record first.
#[must_use]
pub fn redirect(link: &Link, to: &ExternalId, now: Millis) -> Link {
    let mut next = link.clone();
    super::observe::redirect_to(&mut next, to);
    if next != *link {
        next.committed_at = next.committed_at.max(now);
    }
    next
}

/// Marks fields as owed: their reference is not linked yet, so they are neither compared nor written.
#[must_use]
pub fn owe(link: &Link, fields: impl IntoIterator<Item = String>, now: Millis) -> Link {
    let mut next = link.clone();
    next.owed.extend(fields);
    if next != *link {
        next.committed_at = next.committed_at.max(now);
    }
    next
}

/// An owed field's reference is linked now: the next plan compares and writes it.
#[must_use]
pub fn settle_owed(link: &Link, field: &str, now: Millis) -> Link {
    let mut next = link.clone();
    if next.owed.remove(field) {
        next.look = next.external.is_some();
        next.committed_at = next.committed_at.max(now);
    }
    next
}

/// An owed field is given up, because its target was deleted, skipped or is under review: what both sides have now counts
/// as agreed, until one of them changes.
#[must_use]
pub fn give_up_owed(link: &Link, field: &str, internal: &Fields, external: &Fields, now: Millis) -> Link {
    let mut next = link.clone();
    if next.owed.remove(field) {
        let pair = Pair {
            internal: internal.get(field).cloned(),
            external: external.get(field).cloned(),
            ..Pair::default()
        };
        next.base.insert(field.to_owned(), pair);
        next.committed_at = next.committed_at.max(now);
    }
    next
}
