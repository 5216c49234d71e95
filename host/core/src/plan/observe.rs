//! What an observation of the CRM is worth: the state, nothing new, a reason to look, or an absence.
//!
//! - A direct read is the state, unless it began before the link's last commit and nothing orders it after.
//! - A listed row, or a whole record in an event, is the state only with a newer stamp than everything the link knows (our own
//!   write included), or from a consistent listing that began after the last commit.
//! - Everything else is a hint: it is dismissed when it says what is believed anyway, and otherwise a reason to read.
//! - What is older than what the link has seen is dropped.

use std::collections::BTreeMap;

use super::compare::{believed, known, same};
use super::{Ask, External, Source, overtaken};
use crate::Millis;
use crate::exchange::Proof;
use crate::id::ExternalId;
use crate::link::{Doubt, Fields, Life, Link, OwnWrite, RECORD, Side};
use crate::policy::ObjectPolicy;

/// What an observation is worth.
pub(super) enum Seen<'a> {
    /// Nothing new: the external half is believed.
    Believed(&'static str),
    /// The record as it is.
    State(State<'a>),
    /// The record is gone, beyond doubt.
    Gone,
    /// Somebody has to look.
    Ask(Ask, &'static str),
}

/// The record as it is.
#[derive(Clone)]
pub(super) struct State<'a> {
    pub(super) fields: &'a Fields,
    pub(super) changed_at: &'a BTreeMap<String, Millis>,
    /// It is the state that our own write made.
    pub(super) ours: bool,
    /// It is known to have moved since our own write.
    pub(super) moved: bool,
    /// Our own last write, if this is the first state that is seen since.
    pub(super) own: Option<OwnWrite>,
}

impl State<'_> {
    /// A field whose half was assumed and is another now was rewritten: our own last write set it, and nothing is known to
    /// have moved the record since. Otherwise somebody may have changed it, and a change is not to be lost.
    pub(super) fn rewrote(&self, pointer: &str) -> bool {
        !self.moved && self.own.as_ref().is_some_and(|own| own.fields.contains(pointer))
    }
}

/// Whether a stamp is newer than everything that the link knows, our own write included.
fn newer(link: &Link, stamp: Option<u64>) -> bool {
    let Some(stamp) = stamp else { return false };
    let own = match &link.own {
        // Our write has no stamp: nothing orders a row after it.
        Some(own) if own.stamp.is_none() => return false,
        Some(own) => own.stamp,
        None => None,
    };
    match (link.external_stamp, own) {
        (None, None) => link.base.is_empty(),
        (seen, own) => seen.is_none_or(|seen| stamp > seen) && own.is_none_or(|own| stamp > own),
    }
}

/// Whether a stamp is older than the state that the link has seen.
pub(super) fn older(link: &Link, stamp: Option<u64>) -> bool {
    matches!((stamp, link.external_stamp), (Some(stamp), Some(seen)) if stamp < seen)
}

/// Nothing new was said: believe the base, if that can be done.
fn believe(link: &Link, policy: &ObjectPolicy, now: Millis, why: &'static str) -> Seen<'static> {
    if link.external.is_none() {
        return Seen::Believed(why);
    }
    if matches!(link.life, Life::Lapsed { by: Side::External, .. }) && !link.look {
        return Seen::Gone;
    }
    if let Some(doubt) = link.doubt {
        let due = doubt.since.saturating_add(policy.confirm_after());
        let ask = if now < due { Ask::ReadExternalAt(due) } else { Ask::ReadExternal };
        return Seen::Ask(ask, "the external record was missed once and is looked for again first");
    }
    if link.base.is_empty() {
        return Seen::Ask(Ask::ReadExternal, "linked, and never compared");
    }
    if link.look || link.held.contains_key(RECORD) || overtaken::has_to_look(link) {
        return Seen::Ask(Ask::ReadExternal, "what the link knows of the external record may be outdated");
    }
    Seen::Believed(why)
}

/// Whether fields say what is believed anyway. A field that takes no part (not mapped, frozen, owed) says nothing.
fn says_nothing_new<'a>(
    link: &Link,
    policy: &ObjectPolicy,
    fields: &Fields,
    pointers: impl Iterator<Item = &'a String>,
) -> bool {
    pointers
        .filter(|pointer| policy.mapped.contains(pointer))
        .filter(|pointer| !link.frozen.contains_key(*pointer) && !link.owed.contains(*pointer))
        .all(|pointer| {
            known(link, pointer) && same(policy, pointer, fields.get(pointer), believed(link, pointer))
        })
}

/// Somebody tells of a record that was left alone when it went: it may be back, and one look that misses it does not say that it is not.
fn note_return(link: &mut Link) {
    link.look |= matches!(link.life, Life::Lapsed { by: Side::External, .. });
}

/// Judges an observation and keeps what it says of identity, order and absence.
pub(super) fn judge<'a>(
    link: &mut Link,
    external: &'a External,
    policy: &ObjectPolicy,
    now: Millis,
) -> Seen<'a> {
    match external {
        External::Unseen => believe(link, policy, now, ""),
        External::Touched => {
            note_return(link);
            Seen::Ask(Ask::ReadExternal, "the external record was touched")
        }
        External::Partial { fields, stamp } => {
            if older(link, *stamp) {
                return believe(link, policy, now, "an event older than what is known was dropped");
            }
            if link.external.is_some()
                && matches!(link.life, Life::Active)
                && says_nothing_new(link, policy, fields, fields.keys())
            {
                return believe(link, policy, now, "an event said what is known");
            }
            note_return(link);
            Seen::Ask(Ask::ReadExternal, "an event said something new; a partial record causes no write")
        }
        External::Moved { to } => {
            redirect_to(link, to);
            Seen::Ask(Ask::ReadExternal, "the external record lives on under another id")
        }
        External::Gone { proof, at } => gone(link, *proof, *at, policy, now),
        External::Whole { id, fields, version, stamp, source, changed_at, by_other } => {
            let (stamp, source, by_other) = (*stamp, *source, *by_other);
            let observed = Whole { id, fields, version, stamp, source, changed_at, by_other };
            whole(link, observed, policy, now)
        }
    }
}

#[derive(Clone, Copy)]
struct Whole<'a> {
    id: &'a ExternalId,
    fields: &'a Fields,
    version: &'a Option<String>,
    stamp: Option<u64>,
    source: Source,
    changed_at: &'a BTreeMap<String, Millis>,
    by_other: bool,
}

fn whole<'a>(link: &mut Link, seen: Whole<'a>, policy: &ObjectPolicy, now: Millis) -> Seen<'a> {
    let Whole { id, fields, version, stamp, source, changed_at, by_other } = seen;
    if let Some(linked) = &link.external
        && linked != id
    {
        if !matches!(source, Source::Read { .. } | Source::Answer) {
            return Seen::Ask(Ask::ReadExternal, "a row of another external record");
        }
        // A read that answers with another id is a merge.
        redirect_to(link, id);
    }
    if older(link, stamp) {
        return believe(link, policy, now, "a record older than what is known was dropped");
    }
    let missed = link.doubt.is_some()
        || link.held.contains_key(RECORD)
        || matches!(link.life, Life::Lapsed { by: Side::External, .. });
    if missed && !matches!(source, Source::Read { .. } | Source::Answer) {
        // Nothing orders a row after a deletion: a listing that lags shows a change from before it as if it were new.
        note_return(link);
        return Seen::Ask(Ask::ReadExternal, "it was deleted or missed; only a direct read brings it back");
    }
    if link.look && link.external.is_some() && !matches!(source, Source::Read { .. } | Source::Answer) {
        // The row may be from before what somebody was told of and has not looked at yet.
        return Seen::Ask(Ask::ReadExternal, "somebody has to look first; a row may be older than that");
    }
    // Our own write left a later state than this one: a replica that lags, or a row from before.
    let before_own =
        matches!((link.own.as_ref().and_then(|own| own.stamp), stamp), (Some(own), Some(now)) if now < own);
    let same_version = version.is_some() && *version == link.external_version;
    let fresh = link.base.is_empty() && link.external_stamp.is_none();
    let state = same_version
        || match source {
            Source::Answer => true,
            Source::Read { began } => {
                // The same time may be another state: some tell it to the second.
                began >= link.committed_at || link.external_stamp.is_some() && newer(link, stamp) || fresh
            }
            Source::Listing { began, consistent } => {
                newer(link, stamp) || (consistent && began > link.committed_at)
            }
            Source::Event => newer(link, stamp),
        };
    if !state || before_own {
        let nothing_new = link.external.is_some()
            && matches!(link.life, Life::Active)
            && says_nothing_new(link, policy, fields, policy.mapped.iter());
        if nothing_new {
            return believe(link, policy, now, "a row said what is known");
        }
        return Seen::Ask(Ask::ReadExternal, "a row may be older than the record; it is read");
    }
    let own = link.own.take();
    let same_as_own = own.as_ref().is_some_and(|own| own.version.is_some() && own.version == *version);
    // A version is that of one state. A time that is told to the second may be that of our write and of an edit right after it: who was
    // the last decides.
    let ours = same_as_own
        || !by_other
            && (source == Source::Answer
                || own.as_ref().is_some_and(|own| own.stamp.is_some() && own.stamp == stamp));
    let moved = !ours
        && (by_other
            || own.as_ref().is_some_and(|own| {
                matches!((&own.version, version), (Some(own), Some(now)) if own != now)
                    || matches!((own.stamp, stamp), (Some(own), Some(now)) if now > own)
            }));
    if let (Source::Read { began }, None, None) = (source, stamp, version) {
        // The moment of the look is the only memory of order that there is.
        link.committed_at = link.committed_at.max(began);
    }
    link.external = Some(id.clone());
    link.external_version.clone_from(version);
    if stamp.is_some() {
        link.external_stamp = stamp;
    }
    link.doubt = None;
    link.look = false;
    Seen::State(State { fields, changed_at, ours, moved, own })
}

/// Whether the CRM's record was seen to be gone beyond doubt: its absence is proved, or it was missed again a while after it was missed
/// first, or known to be gone before and nobody told of it since. That System A's record is deleted proves nothing: what was only missed
/// may be there still, and stay.
pub(super) fn is_gone(link: &Link, external: &External, policy: &ObjectPolicy) -> bool {
    let External::Gone { proof, at } = external else { return false };
    if matches!(link.life, Life::Lapsed { by: Side::External, .. }) && !link.look {
        return true;
    }
    match link.doubt.filter(|doubt| !doubt.shown) {
        None => *at >= link.committed_at && *proof == Proof::Confirmed,
        Some(doubt) => {
            *proof == Proof::Confirmed || *at >= doubt.since.saturating_add(policy.confirm_after())
        }
    }
}

fn gone<'a>(link: &mut Link, proof: Proof, at: Millis, policy: &ObjectPolicy, now: Millis) -> Seen<'a> {
    if link.external.is_none() {
        return Seen::Believed("an unknown record is gone");
    }
    if is_gone(link, &External::Gone { proof, at }, policy) {
        return Seen::Gone;
    }
    match link.doubt.filter(|doubt| !doubt.shown) {
        None if at < link.committed_at => {
            // Word of a deletion that is older than what the link knows: the record may have been restored.
            Seen::Ask(Ask::ReadExternal, "word of a deletion from before the last commit")
        }
        None => {
            link.doubt = Some(Doubt { since: at, looks: 1, last: at, ..Doubt::default() });
            let due = at.saturating_add(policy.confirm_after());
            Seen::Ask(Ask::ReadExternalAt(due), "the external record was missed; it is looked for again")
        }
        Some(doubt) => {
            if at > doubt.last {
                link.doubt = Some(Doubt { looks: doubt.looks.saturating_add(1), last: at, ..doubt });
            }
            let due = doubt.since.saturating_add(policy.confirm_after());
            let ask = if now < due { Ask::ReadExternalAt(due) } else { Ask::ReadExternal };
            Seen::Ask(ask, "the external record was missed; it is looked for again")
        }
    }
}

/// The link now points at another record of the CRM. The base stays: what differs there is a change.
pub(super) fn redirect_to(link: &mut Link, to: &ExternalId) {
    if link.external.as_ref() == Some(to) {
        return;
    }
    link.external = Some(to.clone());
    link.external_version = None;
    link.external_stamp = None;
    link.own = None;
    link.rewritten.clear();
    link.overwrites.clear();
    link.overtaken.clear();
    link.doubt = None;
    link.look = true;
}
