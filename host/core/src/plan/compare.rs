//! What changed on which side, field by field: each side against its own half of the base.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::observe::State;
use super::peers::Peer;
use super::{overtaken, sets};
use crate::Millis;
use crate::link::{Fields, Link, Pair, RECORD};
use crate::normalise::normal_form;
use crate::policy::{Flow, ObjectPolicy};

/// Both sides, as far as they are known.
pub(super) struct Sides<'a> {
    pub(super) policy: &'a ObjectPolicy,
    pub(super) internal: &'a Fields,
    pub(super) internal_at: Option<Millis>,
    /// The external record, if it was seen; otherwise what the link last knew is believed.
    pub(super) state: Option<State<'a>>,
    /// The link before this plan.
    pub(super) link: &'a Link,
    /// The entity's other links.
    pub(super) peers: &'a [Peer<'a>],
}

impl<'a> Sides<'a> {
    /// What the CRM has of a field, as far as is known.
    pub(super) fn external(&self, pointer: &str) -> Option<&'a Value> {
        match &self.state {
            Some(state) => state.fields.get(pointer),
            None => believed(self.link, pointer),
        }
    }
}

/// One field on both sides.
pub(super) struct Look<'a> {
    pub(super) pointer: &'a str,
    pub(super) internal: Option<&'a Value>,
    pub(super) external: Option<&'a Value>,
    pub(super) internal_changed: bool,
    pub(super) external_changed: bool,
    /// Both sides have the same now.
    pub(super) equal: bool,
    /// The field has no half yet.
    pub(super) first: bool,
    /// The external half is what was sent, and was not seen since.
    pub(super) assumed: bool,
}

impl Look<'_> {
    pub(super) fn changed(&self) -> bool {
        self.internal_changed || self.external_changed
    }
}

/// Whether two values of a field count as the same. Null and absent both mean "no value" here; what is written keeps
/// them apart.
pub(super) fn same(policy: &ObjectPolicy, pointer: &str, a: Option<&Value>, b: Option<&Value>) -> bool {
    if a == b {
        return true;
    }
    let chain = policy.normalise.get(pointer).map(String::as_str);
    if is_set(policy, pointer) {
        return sets::same(chain, a, b);
    }
    form(chain, a) == form(chain, b)
}

fn form<'a>(chain: Option<&str>, value: Option<&'a Value>) -> Cow<'a, Value> {
    match (value, chain) {
        (None | Some(Value::Null), _) => Cow::Owned(Value::Null),
        (Some(value), None) => Cow::Borrowed(value),
        (Some(value), Some(chain)) => Cow::Owned(normal_form(chain, value)),
    }
}

/// Absent, null or empty.
pub(super) fn blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(elements)) => elements.is_empty(),
        Some(Value::Object(members)) => members.is_empty(),
        Some(_) => false,
    }
}

pub(super) fn is_set(policy: &ObjectPolicy, pointer: &str) -> bool {
    policy.sets.iter().any(|set| set == pointer)
}

/// Mapped fields that may flow to the CRM.
pub(super) fn outward(policy: &ObjectPolicy) -> impl Iterator<Item = &str> {
    policy.mapped.iter().map(String::as_str).filter(|pointer| flow(policy, pointer) != Flow::ToInternal)
}

/// Mapped fields that may flow to System A.
pub(super) fn inward(policy: &ObjectPolicy) -> impl Iterator<Item = &str> {
    policy.mapped.iter().map(String::as_str).filter(|pointer| flow(policy, pointer) != Flow::ToExternal)
}

/// The flow of a field: that of its group.
pub(super) fn flow(policy: &ObjectPolicy, pointer: &str) -> Flow {
    if is_set(policy, pointer) {
        return policy.field(pointer).flow;
    }
    let group = policy.group(pointer);
    if group == pointer {
        return policy.field(pointer).flow;
    }
    policy.group_policy(group, members(policy, group)).flow
}

/// The mapped fields of a group.
pub(super) fn members<'a>(policy: &'a ObjectPolicy, group: &'a str) -> impl Iterator<Item = &'a str> {
    policy
        .mapped
        .iter()
        .map(String::as_str)
        .filter(move |pointer| policy.group(pointer) == group && !is_set(policy, pointer))
}

/// The mapped fields by group; sets stand alone and are not here.
pub(super) fn groups(policy: &ObjectPolicy) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pointer in &policy.mapped {
        if !is_set(policy, pointer) {
            let fields = groups.entry(policy.group(pointer)).or_default();
            if !fields.contains(&pointer.as_str()) {
                fields.push(pointer);
            }
        }
    }
    groups
}

/// What the CRM is believed to have: the external half, or what was last seen of a held group.
pub(super) fn believed<'a>(link: &'a Link, pointer: &str) -> Option<&'a Value> {
    let held = link.held.iter().find(|(group, held)| *group != RECORD && held.fields.contains(pointer));
    match held {
        // What is held of an overtaken edit is not there any more.
        Some((_, held)) if !link.overtaken.contains_key(pointer) => held.external.get(pointer),
        _ => link.base.get(pointer).and_then(|pair| pair.external.as_ref()),
    }
}

/// Whether the base, or a hold, says anything of the CRM's value.
pub(super) fn known(link: &Link, pointer: &str) -> bool {
    link.base.contains_key(pointer) || link.held.values().any(|held| held.fields.contains(pointer))
}

/// One field on both sides. None: the external value is not known.
pub(super) fn look<'a>(link: &Link, sides: &Sides<'a>, pointer: &'a str) -> Option<Look<'a>> {
    if sides.state.is_none() && !known(link, pointer) {
        return None;
    }
    let policy = sides.policy;
    let internal = sides.internal.get(pointer);
    let external = sides.external(pointer);
    let equal = same(policy, pointer, internal, external);
    let pair = link.base.get(pointer);
    let (internal_changed, external_changed) = match pair {
        Some(pair) => (
            !same(policy, pointer, internal, pair.internal.as_ref()),
            !same(policy, pointer, external, pair.external.as_ref()),
        ),
        None if equal => (false, false),
        None => (!blank(internal), !blank(external)),
    };
    Some(Look {
        pointer,
        internal,
        external,
        internal_changed,
        external_changed,
        equal,
        first: pair.is_none(),
        assumed: pair.is_some_and(|pair| pair.assumed),
    })
}

/// Whether what the CRM has of a field is what it made of a value that we sent: nobody edited it there.
pub(super) fn is_rewrite(
    link: &Link,
    policy: &ObjectPolicy,
    pointer: &str,
    external: Option<&Value>,
) -> bool {
    link.rewritten.get(pointer).is_some_and(|made| same(policy, pointer, external, Some(made)))
}

/// Both sides have agreed on what they have now, whether it is the same or one a rewrite of the other.
pub(super) fn settle(link: &mut Link, look: &Look<'_>) {
    // A value that the CRM came to by itself is as much its own as one that it gave.
    let itself = look.equal && (look.external_changed || look.first && !blank(look.external));
    let before = link.base.get(look.pointer).is_some_and(|pair| pair.given && !look.internal_changed);
    let pair = Pair {
        internal: look.internal.cloned(),
        external: look.external.cloned(),
        assumed: false,
        given: itself || before,
    };
    link.rewritten.remove(look.pointer);
    if look.external_changed {
        overtaken::supersede(link, look.pointer);
    }
    if link.base.get(look.pointer) != Some(&pair) {
        link.base.insert(look.pointer.to_owned(), pair);
    }
}

/// What the server made of our own writes, as far as it is known to be that, is agreed on.
pub(super) fn settle_rewrites(link: &mut Link, state: &State<'_>, policy: &ObjectPolicy) {
    for pointer in policy.mapped.iter().filter(|pointer| state.rewrote(pointer)) {
        if link.base.get(pointer).is_some_and(|pair| pair.assumed)
            && let Some(pair) = link.base.get_mut(pointer)
        {
            pair.external = state.fields.get(pointer).cloned();
            pair.assumed = false;
        }
    }
}

/// Whether System A has anything that the CRM should have and has not been given.
pub(super) fn internal_changed(link: &Link, internal: &Fields, policy: &ObjectPolicy) -> bool {
    outward(policy).filter(|pointer| !link.owed.contains(*pointer)).any(|pointer| {
        let value = internal.get(pointer);
        let refused =
            link.refused.get(pointer).is_some_and(|refused| same(policy, pointer, value, Some(refused)));
        !refused
            && match link.base.get(pointer) {
                Some(pair) => !same(policy, pointer, value, pair.internal.as_ref()),
                None => !blank(value),
            }
    })
}

/// Whether the CRM has anything that System A should have and has not been given.
pub(super) fn external_changed(link: &Link, state: &State<'_>, policy: &ObjectPolicy) -> bool {
    inward(policy).filter(|pointer| !link.owed.contains(*pointer)).any(|pointer| {
        let value = state.fields.get(pointer);
        match link.base.get(pointer) {
            Some(pair) if pair.assumed && state.rewrote(pointer) => false,
            Some(_) if is_rewrite(link, policy, pointer, value) => false,
            Some(pair) => !same(policy, pointer, value, pair.external.as_ref()),
            None => !blank(value),
        }
    })
}
