//! Writes that were under way when the daemon ended or an answer was lost.
//!
//! Between the effect of a write and the commit of its link, the link still has the halves from before it. If somebody edits the
//! same field then, both sides seem to have changed it: a conflict that nobody made. So what is about to be written is noted
//! durably before, and compared with what is there afterwards: a side that has just what was to be written has it by that write,
//! or from somebody who wrote the same; either way both sides agreed on it. A side that has something else proves nothing: its
//! fields are left to the plan and its policies. System A takes a write whole or not at all, though: where one field shows that it
//! took it, another one that has neither the written value nor the one from before was edited since.
//!
//! A removal that may have reached the CRM is noted as well: the record that is gone there is gone by it, and what System A has by then
//! came back since. Taken for the CRM's deletion it would be deleted once more.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::same;
use super::observe::is_gone;
use super::{
    Edit, External, ExternalWrite, ExternalWritten, Internal, InternalWrite, Returned, Source,
    after_external_write, after_internal_write,
};
use crate::Millis;
use crate::id::ExternalId;
use crate::link::{Fields, Link, Pair};
use crate::policy::ObjectPolicy;

/// What is to be written to which side, field by field, with the value of the other side that it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unsettled {
    /// The CRM's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalId>,
    /// On the way to the CRM: what System A has, and what is sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub to_external: BTreeMap<String, Pair>,
    /// On the way to System A: what is written, and what the CRM has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub to_internal: BTreeMap<String, Pair>,
    /// The CRM's record is to be removed, since System A's was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removal: bool,
}

impl Unsettled {
    /// Nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to_external.is_empty() && self.to_internal.is_empty() && !self.removal
    }

    /// Notes a write to the CRM, made from what System A has. Creates have intents of their own.
    pub fn note_external(&mut self, write: &ExternalWrite, internal: &Internal) {
        if let ExternalWrite::Remove { .. } = write {
            self.removal = true;
        }
        let ExternalWrite::Update { fields, changed, .. } = write else { return };
        let Internal::Present { fields: from, .. } = internal else { return };
        for pointer in changed {
            let (from, to) = (from.get(pointer).cloned(), fields.get(pointer).cloned());
            let pair = Pair { internal: from, external: to, ..Pair::default() };
            self.to_external.insert(pointer.clone(), pair);
        }
    }

    /// Notes a write to System A, made from what the CRM has.
    pub fn note_internal(&mut self, write: &InternalWrite, link: &Link, external: &External) {
        let (fields, changed): (_, BTreeSet<&String>) = match write {
            InternalWrite::Create { fields } => (fields, fields.keys().collect()),
            InternalWrite::Update { fields, changed, .. } => (fields, changed.iter().collect()),
            InternalWrite::Delete { .. } => return,
        };
        if link.external.is_some() {
            self.external.clone_from(&link.external);
        }
        for pointer in changed {
            let from = match external {
                External::Whole { fields, .. } => fields.get(pointer),
                _ => link.base.get(pointer).and_then(|pair| pair.external.as_ref()),
            };
            let written = fields.get(pointer).cloned();
            let pair = Pair { internal: written, external: from.cloned(), ..Pair::default() };
            self.to_internal.insert(pointer.clone(), pair);
        }
    }

    /// Whether what is known of the CRM's record by now tells what became of the writes: it was read, or is gone beyond doubt.
    #[must_use]
    pub fn is_told_by(link: &Link, external: &External, policy: &ObjectPolicy) -> bool {
        matches!(external, External::Whole { source: Source::Read { .. }, .. })
            || is_gone(link, external, policy)
    }

    /// Folds in what is known to have been written, by what both sides have now. `external` has to be a direct read that
    /// began after the write; anything else proves nothing and changes nothing, nor does a record that was only missed: see
    /// [`Unsettled::is_told_by`]. Where the CRM's record is gone, System A's tells still what it took before.
    #[must_use]
    pub fn settle(
        &self,
        link: &Link,
        internal: &Internal,
        external: &External,
        policy: &ObjectPolicy,
        now: Millis,
    ) -> Link {
        let mut next = match external {
            External::Whole { .. } if matches!(internal, Internal::Absent) => return link.clone(),
            External::Whole { .. } => self.settle_external(link, external, policy, now),
            _ if !is_gone(link, external, policy) => return link.clone(),
            _ if self.removal && matches!(internal, Internal::Present { .. }) => {
                return removed(link, policy, now);
            }
            _ => link.clone(),
        };
        next = self.settle_internal(&next, link, internal, policy, now);
        // What follows is planned from the read as from any other: it did not begin before this.
        next.committed_at = link.committed_at;
        next
    }

    /// The edits that a write which has taken effect may have gone over: not one that was followed by another one back to what was sent.
    /// When our write came is not known, only that it was before the read.
    #[must_use]
    pub fn may_have_overtaken(&self, edits: &[Edit], policy: &ObjectPolicy) -> Vec<Edit> {
        let is_taken_back = |edit: &Edit| {
            let sent = self.to_external.get(&edit.pointer).map(|pair| pair.external.as_ref());
            sent.is_some_and(|sent| {
                edits.iter().any(|later| {
                    later.pointer == edit.pointer
                        && later.at > edit.at
                        && same(policy, &edit.pointer, later.value.as_ref(), sent)
                })
            })
        };
        edits.iter().filter(|edit| !is_taken_back(edit)).cloned().collect()
    }

    /// What reached the CRM is no change of the CRM's, also where System A's record was deleted since.
    fn settle_external(&self, link: &Link, external: &External, policy: &ObjectPolicy, now: Millis) -> Link {
        let External::Whole { id, fields: there, version, stamp, .. } = external else {
            return link.clone();
        };
        let changed: BTreeSet<String> = self
            .to_external
            .iter()
            .filter(|(pointer, pair)| arrived(policy, pointer, there.get(*pointer), pair.external.as_ref()))
            .map(|(pointer, _)| pointer.clone())
            .collect();
        if changed.is_empty() {
            return link.clone();
        }
        let write = ExternalWrite::Update {
            fields: half(&self.to_external, |pair| pair.external.as_ref()),
            changed,
            version: None,
            stamp: None,
        };
        let from = half(&self.to_external, |pair| pair.internal.as_ref());
        let source = Internal::Present { fields: from, version: 0, changed_at: None };
        let answer = ExternalWritten {
            id: id.clone(),
            returned: Returned::Whole(there.clone()),
            unapplied: BTreeSet::new(),
            version: version.clone(),
            stamp: *stamp,
            keep: None,
        };
        after_external_write(link, &write, &source, &answer, policy, now)
    }

    /// What System A took. `before`: the link as it was when it was written.
    fn settle_internal(
        &self,
        link: &Link,
        before: &Link,
        internal: &Internal,
        policy: &ObjectPolicy,
        now: Millis,
    ) -> Link {
        let (Internal::Present { fields: here, version, .. }, Some(id)) = (internal, &link.external) else {
            return link.clone();
        };
        let has_moved = |pointer: &String| {
            let known = before.base.get(pointer);
            known.is_some_and(|known| !same(policy, pointer, here.get(pointer), known.internal.as_ref()))
        };
        let written: Vec<&String> = self
            .to_internal
            .iter()
            .filter(|(pointer, pair)| arrived(policy, pointer, here.get(*pointer), pair.internal.as_ref()))
            .map(|(pointer, _)| pointer)
            .collect();
        let took = written.iter().any(|pointer| has_moved(pointer));
        let edited = self
            .to_internal
            .keys()
            .filter(|pointer| took && policy.mapped.contains(pointer) && has_moved(pointer));
        let changed: BTreeSet<String> = written.iter().copied().chain(edited).cloned().collect();
        if changed.is_empty() {
            return link.clone();
        }
        let write = InternalWrite::Update {
            expected: *version,
            fields: half(&self.to_internal, |pair| pair.internal.as_ref()),
            changed,
        };
        let source = External::Whole {
            id: id.clone(),
            fields: half(&self.to_internal, |pair| pair.external.as_ref()),
            version: None,
            stamp: None,
            source: Source::Answer,
            changed_at: BTreeMap::new(),
            by_other: false,
        };
        // Which version the write made is not known, and what is there may be somebody's later edit of another field.
        Link {
            own_internal: link.own_internal,
            internal_version: before.internal_version,
            ..after_internal_write(link, &write, *version, &source, policy, now)
        }
    }
}

/// Both records are gone by System A's deletion. Which version that was is not known: whatever is newer than the last one that both
/// sides agreed on came after it.
fn removed(link: &Link, policy: &ObjectPolicy, now: Millis) -> Link {
    let Some(id) = link.external.clone() else { return link.clone() };
    let write = ExternalWrite::Remove { version: None, stamp: None };
    let answer = ExternalWritten {
        id,
        returned: Returned::Nothing,
        unapplied: BTreeSet::new(),
        version: None,
        stamp: None,
        keep: None,
    };
    let next = after_external_write(link, &write, &Internal::Absent, &answer, policy, now);
    Link { committed_at: link.committed_at, ..next }
}

/// Whether a side has just what was to be written to it.
fn arrived(policy: &ObjectPolicy, pointer: &str, now: Option<&Value>, wanted: Option<&Value>) -> bool {
    policy.mapped.iter().any(|mapped| mapped == pointer) && same(policy, pointer, now, wanted)
}

fn half(fields: &BTreeMap<String, Pair>, side: impl Fn(&Pair) -> Option<&Value>) -> Fields {
    fields
        .iter()
        .filter_map(|(pointer, pair)| side(pair).map(|value| (pointer.clone(), value.clone())))
        .collect()
}
