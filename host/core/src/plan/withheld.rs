//! Writes that wait for a person's approval: what such a write aims at, a write without what is withheld, and what a refusal
//! means for the link.
//!
//! Whether a write is withheld is not decided here: the planner says what would make both sides the same, and whoever counts writes
//! stops them. Nothing here makes a write that the planner did not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::compare::believed;
use super::delete::lapse;
use super::{External, ExternalWrite, Internal, InternalWrite};
use crate::Millis;
use crate::link::{Chosen, Decided, Fields, Link, Pair, RECORD, Side};

/// One field that a write changes: the side, the field's pointer, and its value afterwards (none: it is cleared).
pub type Aim = (Side, String, Option<Value>);

/// What the updates of a plan aim at.
#[must_use]
pub fn aims(internal: Option<&InternalWrite>, external: Option<&ExternalWrite>) -> Vec<Aim> {
    let mut aims = Vec::new();
    let mut add = |side: Side, fields: &Fields, changed: &BTreeSet<String>| {
        aims.extend(changed.iter().map(|pointer| {
            // Null and absent are the same here, so that what was written down compares.
            let value = fields.get(pointer).filter(|value| !value.is_null());
            (side, pointer.clone(), value.cloned())
        }));
    };
    if let Some(InternalWrite::Update { fields, changed, .. }) = internal {
        add(Side::Internal, fields, changed);
    }
    if let Some(ExternalWrite::Update { fields, changed, .. }) = external {
        add(Side::External, fields, changed);
    }
    aims
}

fn put(fields: &mut Fields, pointer: &str, value: Option<&Value>) {
    match value {
        Some(value) => fields.insert(pointer.to_owned(), value.clone()),
        None => fields.remove(pointer),
    };
}

/// The write to System A without some fields: they stay as System A has them. None: nothing is left to write. Anything but an
/// update is left as it is.
#[must_use]
pub fn without_internal(
    write: InternalWrite,
    withheld: &BTreeSet<String>,
    internal: &Internal,
) -> Option<InternalWrite> {
    let InternalWrite::Update { expected, mut fields, mut changed } = write else { return Some(write) };
    let now = match internal {
        Internal::Present { fields, .. } => Some(fields),
        Internal::Absent | Internal::Deleted { .. } => None,
    };
    changed.retain(|pointer| {
        let stays = !withheld.contains(pointer);
        if !stays {
            put(&mut fields, pointer, now.and_then(|now| now.get(pointer)));
        }
        stays
    });
    (!changed.is_empty()).then_some(InternalWrite::Update { expected, fields, changed })
}

/// The write to the CRM without some fields: they stay as the CRM has them, as far as is known. None: nothing is left to write.
/// Anything but an update is left as it is.
#[must_use]
pub fn without_external(
    write: ExternalWrite,
    withheld: &BTreeSet<String>,
    link: &Link,
    external: &External,
) -> Option<ExternalWrite> {
    let ExternalWrite::Update { mut fields, mut changed, version, stamp } = write else { return Some(write) };
    changed.retain(|pointer| {
        let stays = !withheld.contains(pointer);
        if !stays {
            put(&mut fields, pointer, there(link, external, pointer));
        }
        stays
    });
    (!changed.is_empty()).then_some(ExternalWrite::Update { fields, changed, version, stamp })
}

/// What the CRM has of a field: as it was seen, otherwise as it is believed.
fn there<'a>(link: &'a Link, external: &'a External, pointer: &str) -> Option<&'a Value> {
    match external {
        External::Whole { fields, .. } => fields.get(pointer),
        _ => believed(link, pointer),
    }
}

/// The two sides stay different in these fields: each side's half becomes what it has now, and nothing is written until one of them
/// is edited.
#[must_use]
pub fn agree_to_differ(
    link: &Link,
    pointers: &BTreeSet<String>,
    internal: &Internal,
    external: &External,
    now: Millis,
) -> Link {
    let Internal::Present { fields, .. } = internal else { return link.clone() };
    let mut next = link.clone();
    for pointer in pointers {
        let pair = Pair {
            internal: fields.get(pointer).cloned(),
            external: there(link, external, pointer).cloned(),
            assumed: false,
            // A person said that it stays: it is System A's own from here on.
            given: false,
        };
        next.base.insert(pointer.clone(), pair);
    }
    next.committed_at = next.committed_at.max(now);
    next
}

/// The record that one side deleted stays on the other, alone until it is changed there.
#[must_use]
pub fn leave_deleted(link: &Link, deleted: Side, now: Millis) -> Link {
    let mut next = link.clone();
    lapse(&mut next, deleted, now);
    next.doubt = None;
    next.committed_at = next.committed_at.max(now);
    next
}

/// The record that one side deleted is made again there: the next plan does it.
#[must_use]
pub fn keep_record(link: &Link, deleted: Side, now: Millis) -> Link {
    let choice = match deleted {
        Side::Internal => Chosen::External,
        Side::External => Chosen::Internal,
    };
    let mut next = link.clone();
    next.decided.insert(
        RECORD.to_owned(),
        Decided { choice, values: Fields::new(), to_internal: BTreeSet::new(), to_external: BTreeSet::new() },
    );
    next.committed_at = next.committed_at.max(now);
    next
}
