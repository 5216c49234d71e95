//! What a link becomes when identity decides: a value that belongs to another record, a merge, a second beginning.

use std::collections::BTreeSet;

use super::compare::{believed, members};
use super::{External, Internal, review};
use crate::Millis;
use crate::id::ExternalId;
use crate::link::{Fields, Held, Life, Link, Pair, Said, Side};
use crate::policy::ObjectPolicy;

/// Holds the groups of identity fields whose values could not be carried over from `from`, because another record has them.
/// The rest of the record flows. Answers the groups too.
#[must_use]
pub fn hold_identity(
    link: &Link,
    fields: &BTreeSet<String>,
    from: Side,
    (internal, external): (&Internal, &External),
    policy: &ObjectPolicy,
    why: &str,
    now: Millis,
) -> (Link, BTreeSet<String>) {
    let mut next = link.clone();
    let groups: BTreeSet<String> = fields.iter().map(|field| policy.group(field).to_owned()).collect();
    let nothing = Fields::new();
    let here = if let Internal::Present { fields, .. } = internal { fields } else { &nothing };
    for group in &groups {
        let fields: BTreeSet<String> = members(policy, group).map(str::to_owned).collect();
        let mut held = Held {
            fields,
            internal: Fields::new(),
            external: Fields::new(),
            since: now,
            why: why.to_owned(),
            internal_said: Said::default(),
            external_said: Said::default(),
        };
        let was_decided = next.decided.remove(group).is_some();
        for field in &held.fields {
            let there = match external {
                External::Whole { fields, .. } => fields.get(field),
                _ => believed(link, field),
            };
            if was_decided {
                // The decision moved the base to what both sides have; what it could not carry over is a change again.
                let agreed = if from == Side::External { here.get(field) } else { there };
                let given = next.base.get(field).is_some_and(|pair| pair.given);
                let (internal, external) = (agreed.cloned(), agreed.cloned());
                let pair = Pair { internal, external, assumed: false, given };
                next.base.insert(field.clone(), pair);
            }
            held.internal.extend(here.get(field).map(|value| (field.clone(), value.clone())));
            held.external.extend(there.map(|value| (field.clone(), value.clone())));
        }
        review::hold_values(&mut next, group, held);
    }
    next.committed_at = next.committed_at.max(now);
    (next, groups)
}

/// Lets go of groups that were held for an identity that another record had: what waited is tried again.
#[must_use]
pub fn release_identity(link: &Link, groups: &BTreeSet<String>, now: Millis) -> Link {
    let mut next = link.clone();
    let mut released = false;
    for group in groups {
        released |= next.held.remove(group).is_some();
    }
    if released {
        next.look = next.external.is_some();
        next.committed_at = next.committed_at.max(now);
    }
    next
}

/// Cuts a link whose record in the CRM is another one's now: it points at nothing, and hints change nothing until a person
/// decided.
#[must_use]
pub fn cut(link: &Link, now: Millis) -> Link {
    let mut next = link.clone();
    next.begin_again();
    next.life = Life::Detached { at: now };
    next.committed_at = next.committed_at.max(now);
    next
}

/// Links the internal record to a record of the CRM that it was not linked to before, as a new incarnation: nothing of the one
/// before is the base of this one.
#[must_use]
pub fn relink(link: &Link, to: &ExternalId, now: Millis) -> Link {
    let mut next = renew(link, now);
    next.external = Some(to.clone());
    next
}

/// Starts a new incarnation whose record in the CRM is still to be made or found.
#[must_use]
pub fn renew(link: &Link, now: Millis) -> Link {
    let mut next = link.clone();
    next.begin_again();
    next.incarnation = next.incarnation.saturating_add(1);
    next.committed_at = next.committed_at.max(now);
    next
}

/// The internal record was deleted, since it was the winner's of a merge.
#[must_use]
pub fn bury_merged(link: &Link, version: u64, now: Millis) -> Link {
    let mut next = link.clone();
    next.begin_again();
    next.internal_version = next.internal_version.max(Some(version));
    next.own_internal = Some(version);
    next.bury(Side::External, now);
    next.committed_at = next.committed_at.max(now);
    next
}
