//! Edits in a CRM without conditional writes that our own write overtook: found afterwards, and then a conflict like any other.
//!
//! Between the last look at a record and a write of ours to a field somebody may edit the same field. The write goes over it, and
//! the next look shows nothing of it. Where the CRM tells of each edit with its value and its time, the edit is found by that:
//! it was made after the state that was last seen and not after the one that our write left, and its value is neither what the
//! field had before nor what we wrote.
//!
//! What is assumed: the time of an edit and the stamp of a record are of the same clock, and a record's stamp is never less than
//! the time of an edit that is in it. No clock of ours has a part in it. A CRM whose records have no stamp, or whose events
//! no times, promises nothing of this (`event_times`).
//!
//! - Only the newest edit of a field counts; what was edited before it was superseded in the CRM itself.
//! - An edit that was followed by one that we saw is superseded too: the spans of a field are forgotten when its half is seen
//!   to have moved, by somebody and not by what the CRM made of our own write.
//! - The same event again finds nothing again.
//! - An edit is given back to its CRM once. What the CRM makes of it then is what it makes of any write of ours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::compare::{flow, is_set, known, same};
use super::{External, sets};
use crate::Millis;
use crate::link::{Link, Overtaken, Overwrite};
use crate::policy::{Flow, ObjectPolicy};

/// Spans of a field that are kept, and for how long on the CRM's clock: CRMs tell of edits within seconds, and once more after
/// a failure. Each edit that is given back makes a span, and all of them may have been overtaken by one write, whose span is the
/// oldest: there are more than the loop breaker lets through.
const SPANS: usize = 16;
const KEPT_MS: u64 = 3_600_000;

/// An edit of a field in the CRM, by somebody else than us, as an event told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The field.
    pub pointer: String,
    /// What was made of it. None: it was cleared.
    pub value: Option<Value>,
    /// When, on the CRM's clock.
    pub at: Millis,
}

/// Remembers which span of the CRM's time our write went over. `before`: the link before the write; `sent`: what was written;
/// `stamp`: that the write left.
pub(super) fn remember(
    link: &mut Link,
    before: &Link,
    pointer: &str,
    sent: Option<&Value>,
    stamp: Option<u64>,
    policy: &ObjectPolicy,
) {
    if !policy.event_times || flow(policy, pointer) != Flow::Both {
        return;
    }
    let Some(until) = stamp else { return };
    // What our last write left says nothing of a field that it did not write: its answer need not have shown it. A record that was
    // never seen was made by us, and whatever was edited was edited after that.
    let own = before.own.as_ref().filter(|own| own.fields.contains(pointer)).and_then(|own| own.stamp);
    let after = before.external_stamp.max(own).unwrap_or_default();
    let Some(before) = left(before, pointer) else { return };
    let sent = sent.filter(|sent| !same(policy, pointer, Some(sent), left(link, pointer).flatten())).cloned();
    let before = before.cloned();
    let spans = link.overwrites.entry(pointer.to_owned()).or_default();
    spans.push(Overwrite { after, until, before, sent, found: None });
    let surplus = spans.len().saturating_sub(SPANS);
    spans.drain(..surplus);
}

/// What our own writes have left of a field in the CRM, whether System A is still to take it over or not. None: it was never compared.
fn left<'a>(link: &'a Link, pointer: &str) -> Option<Option<&'a Value>> {
    let pair = link.base.get(pointer)?;
    Some(link.rewritten.get(pointer).or(pair.external.as_ref()))
}

/// Forgets spans that are older than any event that is still to come.
pub(super) fn forget_old(link: &mut Link, stamp: Option<u64>) {
    let Some(stamp) = stamp else { return };
    link.overwrites.retain(|_, spans| {
        spans.retain(|span| span.until.saturating_add(KEPT_MS) >= stamp);
        !spans.is_empty()
    });
}

/// The CRM was seen to have moved a field by itself: whatever was overtaken before is superseded there.
pub(super) fn supersede(link: &mut Link, pointer: &str) {
    link.overwrites.remove(pointer);
    link.overtaken.remove(pointer);
}

/// Whether an edit of that time, of whatever field, can be one that a write of ours overtook.
#[must_use]
pub fn may_be_overtaken(link: &Link, at: Millis) -> bool {
    link.overwrites.values().flatten().any(|span| span.after < at && at <= span.until)
}

/// Dates the fields of a record by the edits that were told, for `newest`. Of each field the last edit counts that is not in the
/// state that was seen before, and only if the record has its value: another value is of an edit that nobody told of.
pub fn date(external: &mut External, link: &Link, edits: &[Edit], policy: &ObjectPolicy) {
    let External::Whole { fields, changed_at, .. } = external else { return };
    if !policy.event_times {
        return;
    }
    let seen = link.external_stamp.unwrap_or_default();
    let mut last: BTreeMap<&str, &Edit> = BTreeMap::new();
    for edit in edits.iter().filter(|edit| edit.at > seen) {
        let known = last.entry(&edit.pointer).or_insert(edit);
        if known.at < edit.at {
            *known = edit;
        }
    }
    for (pointer, edit) in last {
        if same(policy, pointer, edit.value.as_ref(), fields.get(pointer)) {
            changed_at.insert(pointer.to_owned(), edit.at);
        }
    }
}

/// Finds edits that our own writes overtook. What is found waits in the link; the next plan looks at the record and settles it
/// by policy. Of edits of a field at the same moment the first in the list counts, as in [`date`].
#[must_use]
pub fn note_edits(link: &Link, edits: &[Edit], policy: &ObjectPolicy, now: Millis) -> Link {
    let mut next = link.clone();
    if policy.event_times && !link.overwrites.is_empty() {
        let mut known = BTreeSet::new();
        for edit in edits.iter().filter(|edit| policy.mapped.contains(&edit.pointer)) {
            if known.insert((&edit.pointer, edit.at)) {
                note_edit(&mut next, edit, policy);
            }
        }
    }
    if next != *link {
        next.committed_at = next.committed_at.max(now);
    }
    next
}

fn note_edit(link: &mut Link, edit: &Edit, policy: &ObjectPolicy) {
    let Edit { pointer, value, at } = edit;
    let Some(spans) = link.overwrites.get(pointer) else { return };
    let Some(position) = spans.iter().position(|span| span.after < *at && *at <= span.until) else { return };
    if spans.iter().filter_map(|span| span.found).max() >= Some(*at) {
        // Found already, or superseded in the CRM by one that was.
        return;
    }
    let is = |other: Option<&Value>| same(policy, pointer, value.as_ref(), other);
    let is_ours = is(match spans.get(position.saturating_add(1)) {
        Some(next) => next.before.as_ref(),
        None => left(link, pointer).flatten(),
    });
    let Some(span) = link.overwrites.get_mut(pointer).and_then(|spans| spans.get_mut(position)) else {
        return;
    };
    if is_ours || span.sent.is_some() && is(span.sent.as_ref()) {
        // Our own write, or somebody who wrote the same.
        return;
    }
    span.found = Some(*at);
    if is(span.before.as_ref()) {
        // Taken back before our write came: nothing was lost.
        if link.overtaken.get(pointer).is_some_and(|overtaken| overtaken.at > span.after) {
            link.overtaken.remove(pointer);
        }
        return;
    }
    let overtaken = Overtaken { value: value.clone(), before: span.before.clone(), at: *at, stands: false };
    link.overtaken.insert(pointer.clone(), overtaken);
    link.look = link.external.is_some();
}

/// Whether what was sent gives the CRM an edit back that a write of ours overtook.
pub(super) fn is_given_back(link: &Link, pointer: &str, sent: Option<&Value>, policy: &ObjectPolicy) -> bool {
    let found = link.overtaken.get(pointer);
    found.is_some_and(|found| found.stands && same(policy, pointer, sent, found.value.as_ref()))
}

/// An overtaken edit that was sent to its CRM, and that System A has too, is settled: a CRM that writes such a value in a form of its own
/// never has just that one.
pub(super) fn settle_given_back(
    link: &mut Link,
    pointer: &str,
    sent: Option<&Value>,
    internal: Option<&Value>,
    policy: &ObjectPolicy,
) {
    let Some(found) = link.overtaken.get(pointer) else { return };
    let edited = found.value.as_ref();
    let has = |value: Option<&Value>| {
        if is_set(policy, pointer) {
            let chain = policy.normalise.get(pointer).map(String::as_str);
            sets::carries(chain, found.before.as_ref(), edited, value)
        } else {
            same(policy, pointer, value, edited)
        }
    };
    if has(sent) && has(internal) {
        link.overtaken.remove(pointer);
    }
}

/// Whether something was overtaken that waits for nobody, so that the record has to be seen first.
pub(super) fn has_to_look(link: &Link) -> bool {
    link.overtaken.keys().any(|pointer| {
        known(link, pointer)
            && !link.frozen.contains_key(pointer)
            && !link.held.values().any(|held| held.fields.contains(pointer))
    })
}
