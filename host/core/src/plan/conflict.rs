//! Who wins when both sides changed a group differently.

use super::compare::{Look, Sides};
use super::{Conflict, Verdict, peers};
use crate::link::Link;
use crate::policy::{FieldPolicy, OnConflict};

/// What contends on a group.
pub(super) struct Contest<'a> {
    pub(super) group: &'a str,
    /// The fields that differ.
    pub(super) looks: &'a [Look<'a>],
    pub(super) policy: FieldPolicy,
    /// The internal version is the one that our own write made.
    pub(super) own_internal: bool,
    /// The external values are edits that our own write overtook.
    pub(super) late: bool,
}

impl Contest<'_> {
    /// Whether an external value that contends was last known as what we sent, and what is seen is not the state that the write left:
    /// nothing tells a rewrite from an edit then. A rewrite is not to win over what people made of the field since.
    fn may_be_rewrite(&self, sides: &Sides<'_>) -> bool {
        let seen = sides.state.is_some();
        seen && !self.late && self.looks.iter().any(|look| look.assumed && look.external_changed)
    }

    fn happened(&self, before: &Link) -> &'static str {
        if self.late {
            "a write of ours overtook an edit in the CRM, which was found afterwards"
        } else if before.base.is_empty() && self.looks.iter().any(|look| look.first) {
            "both sides had it when they were linked"
        } else if self.looks.iter().any(|look| look.first) {
            "both sides had it when it was mapped"
        } else {
            "both sides changed it"
        }
    }
}

/// Rules on a group whose remaining fields differ and were changed on both sides: by rank where two connections contend, else by
/// the group's policy.
pub(super) fn rule(sides: &Sides<'_>, contest: &Contest<'_>) -> Conflict {
    let happened = contest.happened(sides.link);
    let ranked = peers::outranks(sides.peers, contest.group, contest.looks, contest.policy.rank);
    let (ruling, why) = match (ranked, contest.policy.on_conflict) {
        (Some((true, why)), _) => (Verdict::External, why),
        (Some((false, why)), _) => (Verdict::Internal, why),
        (None, OnConflict::Internal) => (Verdict::Internal, "System A wins by policy".to_owned()),
        (None, OnConflict::External) if contest.may_be_rewrite(sides) => (
            Verdict::Review,
            "what the CRM has may be what it made of our own write, so it is held for review".to_owned(),
        ),
        (None, OnConflict::External) => (Verdict::External, "the CRM wins by policy".to_owned()),
        (None, OnConflict::Review) => (Verdict::Review, "held for review by policy".to_owned()),
        (None, OnConflict::Newest) => newest(sides, contest),
    };
    Conflict {
        group: contest.group.to_owned(),
        fields: contest.looks.iter().map(|look| look.pointer.to_owned()).collect(),
        ruling,
        why: format!("{happened}; {why}"),
    }
}

/// By the times of the edits. The CRM's time is that of the field; a record's time moves with any property and proves nothing.
/// A time that our own write made proves nothing either.
fn newest(sides: &Sides<'_>, contest: &Contest<'_>) -> (Verdict, String) {
    let review = |why: &str| (Verdict::Review, format!("{why}, so it is held for review"));
    let ours = sides.state.as_ref().is_some_and(|state| state.ours);
    if contest.own_internal || ours && !contest.late {
        return review("the time is that of our own write");
    }
    let Some(internal) = sides.internal_at else {
        return review("System A gives no time");
    };
    let mut external = None;
    for look in contest.looks.iter().filter(|look| look.external_changed) {
        let overtaken = sides.link.overtaken.get(look.pointer).filter(|_| contest.late);
        let at = match overtaken {
            Some(overtaken) => Some(overtaken.at),
            None => sides.state.as_ref().and_then(|state| state.changed_at.get(look.pointer)).copied(),
        };
        match at {
            Some(at) => external = external.max(Some(at)),
            None => return review("the CRM gives no time for the field"),
        }
    }
    let Some(external) = external else {
        return review("the CRM gives no time for the field");
    };
    let (here, there) = (internal.saturating_sub(external), external.saturating_sub(internal));
    if here > sides.policy.clock_tolerance_ms {
        (Verdict::Internal, format!("System A's edit is {here} ms newer"))
    } else if there > sides.policy.clock_tolerance_ms {
        (Verdict::External, format!("the CRM's edit is {there} ms newer"))
    } else {
        review("the edits are closer than the clocks can be trusted")
    }
}
