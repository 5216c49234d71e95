//! Who wins when both sides changed a group differently.

use super::compare::{Look, Sides};
use super::{Conflict, Verdict};
use crate::policy::OnConflict;

/// Rules on a group whose remaining fields differ and were changed on both sides.
pub(super) fn rule(
    sides: &Sides<'_>,
    group: &str,
    looks: &[Look<'_>],
    by: OnConflict,
    own_internal: bool,
) -> Conflict {
    let (ruling, why) = match by {
        OnConflict::Internal => {
            (Verdict::Internal, "both sides changed it; System A wins by policy".to_owned())
        }
        OnConflict::External => {
            (Verdict::External, "both sides changed it; the CRM wins by policy".to_owned())
        }
        OnConflict::Review => {
            (Verdict::Review, "both sides changed it; held for review by policy".to_owned())
        }
        OnConflict::Newest => newest(sides, looks, own_internal),
    };
    let first = looks.iter().any(|look| look.first);
    let why = if first && sides.link.base.is_empty() {
        why.replace("both sides changed it", "both sides had it when they were linked")
    } else {
        why
    };
    Conflict {
        group: group.to_owned(),
        fields: looks.iter().map(|look| look.pointer.to_owned()).collect(),
        ruling,
        why,
    }
}

/// By the times of the edits. The CRM's time is that of the field; a record's time moves with any property and proves nothing.
/// A time that our own write made proves nothing either.
fn newest(sides: &Sides<'_>, looks: &[Look<'_>], own_internal: bool) -> (Verdict, String) {
    let review =
        |why: &str| (Verdict::Review, format!("both sides changed it; {why}, so it is held for review"));
    if own_internal || sides.state.as_ref().is_some_and(|state| state.ours) {
        return review("the time is that of our own write");
    }
    let Some(internal) = sides.internal_at else {
        return review("System A gives no time");
    };
    let mut external = None;
    for look in looks.iter().filter(|look| look.external_changed) {
        match sides.state.as_ref().and_then(|state| state.changed_at.get(look.pointer)) {
            Some(at) => external = external.max(Some(*at)),
            None => return review("the CRM gives no time for the field"),
        }
    }
    let Some(external) = external else {
        return review("the CRM gives no time for the field");
    };
    let apart = internal.abs_diff(external);
    if apart <= sides.policy.clock_tolerance_ms {
        return review("the edits are closer than the clocks can be trusted");
    }
    if internal > external {
        (Verdict::Internal, format!("both sides changed it; System A's edit is {apart} ms newer"))
    } else {
        (Verdict::External, format!("both sides changed it; the CRM's edit is {apart} ms newer"))
    }
}
