//! The planner: from what both sides had when they last agreed and what they have now, to what is written next.
//!
//! Pure. At most one write for each side, the next base, conflicts, and the reason in words.
//!
//! How it is used: [`plan`] from what is known; when it asks, find that out and plan again; commit the plan's link; carry out
//! its writes; fold each outcome in with [`after_external_write`] and [`after_internal_write`] and commit; plan once more with the
//! CRM's answer ([`observed_answer`]). Losing any step does no harm: the state decides anew.
//!
//! What is kept to:
//! - Each side is compared with its own half of the base, up to the field's normaliser. Null and absent count as the same.
//! - A half moves by agreement, by a write that was answered, or by a decision; never because a write was planned.
//! - Nothing is written from what is not known: a field without a half is compared only with a record that was seen.
//! - The same observation twice changes nothing the second time.
//! - Left alone, plan, write and fold settle within [`SETTLES_WITHIN`] rounds.

mod answer;
mod compare;
mod conflict;
mod delete;
mod differs;
mod identity;
mod loops;
mod merge;
mod observe;
mod overtaken;
mod peers;
mod review;
mod sets;
mod unsettled;
mod withheld;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::exchange::Proof;
use crate::id::ExternalId;
use crate::link::{Fields, Life, Link, Side};
use crate::policy::ObjectPolicy;

pub use answer::{after_external_reject, after_external_write, after_internal_write, observed_answer};
pub use delete::confirm_return;
pub use differs::{Differs, differs};
pub use identity::{bury_merged, cut, hold_identity, release_identity, relink, renew};
pub use overtaken::{Edit, date, may_be_overtaken, note_edits};
pub use peers::Peer;
pub use review::{
    Choice, DecideError, Pick, decide_review, freeze, give_up_owed, owe, redirect, settle_owed, unfreeze,
};
pub use unsettled::Unsettled;
pub use withheld::{
    Aim, agree_to_differ, aims, keep_record, leave_deleted, without_external, without_internal,
};

/// How many rounds of plan, write and fold it takes at most until nothing is left to do, when nobody edits meanwhile. One
/// for what was changed, one for what the CRM made of it, one that finds nothing.
pub const SETTLES_WITHIN: usize = 3;

/// What System A has.
#[derive(Clone, Debug, PartialEq)]
pub enum Internal {
    /// There was never such a record.
    Absent,
    /// It is there.
    Present {
        /// Its fields.
        fields: Fields,
        /// Its version: greater is newer.
        version: u64,
        /// When it was last changed, on System A's clock.
        changed_at: Option<Millis>,
    },
    /// It was deleted.
    Deleted {
        /// The version of the deletion.
        version: u64,
        /// When, on System A's clock.
        changed_at: Option<Millis>,
    },
}

/// How an external document was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A direct read of the record, begun at this moment.
    Read {
        /// When the request was sent.
        began: Millis,
    },
    /// The answer to our own write.
    Answer,
    /// A row of a listing.
    Listing {
        /// When the request was sent.
        began: Millis,
        /// The descriptor calls the listing consistent.
        consistent: bool,
    },
    /// A webhook.
    Event,
}

/// What is known of the CRM's record.
#[derive(Clone, Debug, PartialEq)]
pub enum External {
    /// Nobody looked: the base is believed.
    Unseen,
    /// Something happened to it; nothing else is known.
    Touched,
    /// A few fields. May dismiss a hint, never cause a write.
    Partial {
        /// The fields that were said.
        fields: Fields,
        /// Its stamp, if the event had one.
        stamp: Option<u64>,
    },
    /// All mapped fields.
    Whole {
        /// The CRM's id.
        id: ExternalId,
        /// The fields.
        fields: Fields,
        /// Equality only.
        version: Option<String>,
        /// Order.
        stamp: Option<u64>,
        /// How it was come by.
        source: Source,
        /// When fields were last changed, on the CRM's clock, where it tells.
        changed_at: std::collections::BTreeMap<String, Millis>,
        /// It says that somebody else was the last who changed it. Then nothing in it explains itself by a write of ours.
        by_other: bool,
    },
    /// It is gone.
    Gone {
        /// How sure that is.
        proof: Proof,
        /// When it was looked for.
        at: Millis,
    },
    /// It lives on under another id.
    Moved {
        /// The id.
        to: ExternalId,
    },
}

/// What is written to System A.
#[derive(Clone, Debug, PartialEq)]
pub enum InternalWrite {
    /// A new record; the id is the entity's.
    Create {
        /// The whole record.
        fields: Fields,
    },
    /// Some fields of a record.
    Update {
        /// The version that was read.
        expected: u64,
        /// The whole record afterwards.
        fields: Fields,
        /// The fields that change; one that is missing in `fields` is removed.
        changed: BTreeSet<String>,
    },
    /// The record is deleted.
    Delete {
        /// The version that was read.
        expected: u64,
    },
}

/// What is written to the CRM.
#[derive(Clone, Debug, PartialEq)]
pub enum ExternalWrite {
    /// A new record.
    Create {
        /// The whole record.
        fields: Fields,
    },
    /// Some fields of a record.
    Update {
        /// The whole record afterwards, as far as it is known.
        fields: Fields,
        /// The fields that change; one that is missing in `fields` is cleared.
        changed: BTreeSet<String>,
        /// The precondition, for CRMs that have one.
        version: Option<String>,
        /// The precondition, for CRMs that have one.
        stamp: Option<u64>,
    },
    /// The record is deleted or archived.
    Remove {
        /// The precondition, for CRMs that have one.
        version: Option<String>,
        /// The precondition, for CRMs that have one.
        stamp: Option<u64>,
    },
}

/// What has to be known before anything can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read the external record directly.
    ReadExternal,
    /// Read it again, not before this moment: its absence is not confirmed.
    ReadExternalAt(Millis),
    /// Read the internal record again.
    ReadInternal,
}

/// A conflict that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// The group's name.
    pub group: String,
    /// Its fields.
    pub fields: BTreeSet<String>,
    /// What became of it.
    pub ruling: Verdict,
    /// Why, in words.
    pub why: String,
}

/// What became of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// System A's values win.
    Internal,
    /// The CRM's values win.
    External,
    /// Held for a person.
    Review,
}

/// What is to be done about one link.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The link as it stands without any write: what was agreed, held, frozen or dropped.
    pub link: Link,
    /// What is written to System A.
    pub internal: Option<InternalWrite>,
    /// What is written to the CRM.
    pub external: Option<ExternalWrite>,
    /// What has to be known first. Then nothing is written.
    pub ask: Option<Ask>,
    /// Conflicts that were found.
    pub conflicts: Vec<Conflict>,
    /// Why, in words, without record contents.
    pub reason: String,
}

/// What is being drawn up.
#[derive(Default)]
struct Draft {
    internal: Option<InternalWrite>,
    external: Option<ExternalWrite>,
    ask: Option<Ask>,
    conflicts: Vec<Conflict>,
    reasons: Vec<String>,
}

impl Draft {
    fn say(&mut self, reason: &str) {
        if !reason.is_empty() {
            self.reasons.push(reason.to_owned());
        }
    }
}

/// Decides what is written next, for an entity whose only link this is.
///
/// `now` is the moment of the decision; `external` says what is known of the CRM's record, at best from a request that began
/// after the link's last commit.
#[must_use]
pub fn plan(
    link: &Link,
    internal: &Internal,
    external: &External,
    policy: &ObjectPolicy,
    now: Millis,
) -> Plan {
    plan_beside(link, &[], internal, external, policy, now)
}

/// Decides what is written next. `peers`: the entity's other links, which tell where System A's values came from and how often
/// they changed hands.
#[must_use]
pub fn plan_beside(
    link: &Link,
    peers: &[Peer<'_>],
    internal: &Internal,
    external: &External,
    policy: &ObjectPolicy,
    now: Millis,
) -> Plan {
    let mut next = link.clone();
    let mut draft = Draft::default();
    let situation = Situation { before: link, peers, internal, external, policy, now };
    if draw_up(&mut next, &situation, &mut draft) == Drawn::MustLook {
        next.clone_from(link);
        draft.ask = Some(Ask::ReadExternal);
        draft.say("a field was never compared with the external record; it is read first");
    }
    if draft.ask.is_some() {
        draft.internal = None;
        draft.external = None;
    }
    let looked = next.committed_at;
    next.committed_at = link.committed_at;
    if next == *link {
        next.committed_at = looked;
    } else {
        next.committed_at = link.committed_at.max(now);
    }
    let reason = if draft.reasons.is_empty() {
        "nothing to do: both sides are as they last agreed".to_owned()
    } else {
        draft.reasons.join("; ")
    };
    Plan {
        link: next,
        internal: draft.internal,
        external: draft.external,
        ask: draft.ask,
        conflicts: draft.conflicts,
        reason,
    }
}

/// How far the drawing up got.
#[derive(PartialEq, Eq)]
enum Drawn {
    /// As far as it goes.
    Up,
    /// What was drawn up does not count: the external record has to be seen first.
    MustLook,
}

/// What a plan is drawn up from.
struct Situation<'a> {
    /// The link before the plan.
    before: &'a Link,
    peers: &'a [Peer<'a>],
    internal: &'a Internal,
    external: &'a External,
    policy: &'a ObjectPolicy,
    now: Millis,
}

fn draw_up(link: &mut Link, situation: &Situation<'_>, draft: &mut Draft) -> Drawn {
    let Situation { before, peers, internal, external, policy, now } = *situation;
    if let Life::Detached { .. } = link.life {
        draft.say("the link was cut");
        return Drawn::Up;
    }
    if let (Some(version), Some(seen)) = (version_of(internal), link.internal_version)
        && version < seen
    {
        draft.ask = Some(Ask::ReadInternal);
        draft.say("the internal record is older than what is known; it is read again");
        return Drawn::Up;
    }
    let mut external = external;
    if let Life::Tombstone { at, .. } = link.life {
        if !delete::tombstone(link, at, internal, external, policy, draft) {
            if draft.ask.is_none() {
                link.internal_version = version_of(internal).max(link.internal_version);
            }
            return Drawn::Up;
        }
        // What is made anew has nothing to do with what is said of the record from before.
        if link.external.is_none() || !matches!(external, External::Whole { .. }) {
            external = &External::Unseen;
        }
    }
    let own_internal = link.own_internal == version_of(internal);
    let deleted = matches!(internal, Internal::Deleted { .. });
    let seen = observe::judge(link, external, policy, now);
    link.internal_version = version_of(internal).max(link.internal_version);
    let state = match seen {
        observe::Seen::Ask(_, _) if deleted && link.external.is_none() => None,
        observe::Seen::Ask(ask, why) => {
            // Nothing was decided from the internal record yet, but that it was deleted while the CRM's was missed.
            link.internal_version = before.internal_version;
            if let Some(doubt) = link.doubt.as_mut().filter(|doubt| deleted && !doubt.shown) {
                doubt.deleted = true;
            }
            draft.ask = Some(ask);
            draft.say(why);
            return Drawn::Up;
        }
        observe::Seen::Gone => {
            match internal {
                Internal::Present { fields, .. } if link.doubt.is_some_and(|doubt| doubt.deleted) => {
                    delete::back_in_internal(link, fields, policy, draft);
                }
                Internal::Present { fields, version, .. } => {
                    delete::external_gone(link, fields, *version, policy, now, draft);
                }
                Internal::Deleted { .. } => delete::both_gone(link, Side::Internal, now, draft),
                Internal::Absent => delete::both_gone(link, Side::External, now, draft),
            }
            return Drawn::Up;
        }
        observe::Seen::State(state) => Some(state),
        observe::Seen::Believed(why) => {
            draft.say(why);
            None
        }
    };
    match internal {
        Internal::Absent => delete::internal_lost(link, state.as_ref(), policy, draft),
        Internal::Deleted { .. } if link.external.is_none() => {
            delete::both_gone(link, Side::Internal, now, draft);
        }
        Internal::Deleted { .. } => delete::internal_deleted(link, state.as_ref(), policy, now, draft),
        Internal::Present { fields, .. } if link.external.is_none() => {
            delete::create_external(link, fields, policy, draft);
        }
        Internal::Present { fields, version, changed_at } => {
            link.life = Life::Active;
            let internal_at = *changed_at;
            let sides = compare::Sides { policy, internal: fields, internal_at, state, link: before, peers };
            let merged = merge::merge(link, &sides, own_internal, now);
            if merged.must_look {
                return Drawn::MustLook;
            }
            draft.reasons.extend(merged.reasons);
            draft.conflicts.extend(merged.conflicts);
            if !merged.to_internal.is_empty() {
                let (fields, changed) = laid_on(fields.clone(), merged.to_internal);
                draft.internal = Some(InternalWrite::Update { expected: *version, fields, changed });
            }
            if !merged.to_external.is_empty() {
                let known = policy
                    .mapped
                    .iter()
                    .filter_map(|pointer| Some((pointer.clone(), sides.external(pointer)?.clone())))
                    .collect();
                let (fields, changed) = laid_on(known, merged.to_external);
                let (version, stamp) = delete::precondition(link);
                draft.external = Some(ExternalWrite::Update { fields, changed, version, stamp });
            }
        }
    }
    Drawn::Up
}

fn version_of(internal: &Internal) -> Option<u64> {
    match internal {
        Internal::Absent => None,
        Internal::Present { version, .. } | Internal::Deleted { version, .. } => Some(*version),
    }
}

fn laid_on(
    mut fields: Fields,
    changes: std::collections::BTreeMap<String, Option<serde_json::Value>>,
) -> (Fields, BTreeSet<String>) {
    let changed = changes.keys().cloned().collect();
    for (pointer, value) in changes {
        match value {
            Some(value) => fields.insert(pointer, value),
            None => fields.remove(&pointer),
        };
    }
    (fields, changed)
}

/// What the CRM returned of a record that was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    /// Nothing: what was sent is assumed.
    Nothing,
    /// These fields; of the others nothing is known. A field that has no value is there as null.
    Partial(Fields),
    /// All mapped fields.
    Whole(Fields),
}

impl Returned {
    /// What was returned of a field. The inner option: its value.
    fn field(&self, pointer: &str) -> Option<Option<&serde_json::Value>> {
        match self {
            Self::Nothing => None,
            Self::Partial(fields) => fields.get(pointer).map(Some),
            Self::Whole(fields) => Some(fields.get(pointer)),
        }
    }
}

/// What the CRM said to a write.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalWritten {
    /// The CRM's id.
    pub id: ExternalId,
    /// What it returned of the record.
    pub returned: Returned,
    /// Fields that it did not take.
    pub unapplied: BTreeSet<String>,
    /// Equality only.
    pub version: Option<String>,
    /// Order.
    pub stamp: Option<u64>,
    /// The provider's own bytes.
    pub keep: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests;
