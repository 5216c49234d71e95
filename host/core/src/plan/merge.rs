//! The three-way merge of two records that are both there, group by group.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::compare::{Look, Sides, blank, flow, groups, is_rewrite, look, same, settle};
use super::conflict::Contest;
use super::observe::State;
use super::{Conflict, Verdict, conflict, loops, overtaken, review, sets};
use crate::Millis;
use crate::link::{Chosen, Link, Pair, RECORD, Side};
use crate::policy::{FieldPolicy, Flow, Hold, ObjectPolicy, OnRewrite};

/// What the merge comes to. `None` as a value: the field is cleared.
#[derive(Default)]
pub(super) struct Merge {
    pub(super) to_internal: BTreeMap<String, Option<Value>>,
    pub(super) to_external: BTreeMap<String, Option<Value>>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) reasons: Vec<String>,
    /// Nothing can be decided before the external record was seen.
    pub(super) must_look: bool,
}

impl Merge {
    fn say(&mut self, what: &str, fields: &[&str]) {
        self.reasons.push(format!("{what}: {}", fields.join(", ")));
    }

    fn found(&mut self, conflict: Conflict) {
        let fields: Vec<&str> = conflict.fields.iter().map(String::as_str).collect();
        self.reasons.push(format!("conflict on {}: {}", fields.join(", "), conflict.why));
        self.conflicts.push(conflict);
    }
}

/// Merges. `own_internal`: the internal version is the one that our own write made.
pub(super) fn merge(link: &mut Link, sides: &Sides<'_>, own_internal: bool, now: Millis) -> Merge {
    let mut merge = Merge::default();
    forget_unknown(link, sides);
    for (group, fields) in groups(sides.policy) {
        merge_group(link, sides, group, &fields, own_internal, now, &mut merge);
    }
    for pointer in &sides.policy.sets {
        if sides.policy.mapped.contains(pointer) {
            merge_set(link, sides, pointer, now, &mut merge);
        }
    }
    if sides.policy.hold == Hold::Record
        && !link.held.is_empty()
        && !(merge.to_internal.is_empty() && merge.to_external.is_empty())
    {
        merge.to_internal.clear();
        merge.to_external.clear();
        merge.reasons.push("the record is held until its conflict is decided".to_owned());
    }
    merge
}

/// Lets go of what is no longer mapped, and of refusals that the internal value has outlived.
fn forget_unknown(link: &mut Link, sides: &Sides<'_>) {
    let policy = sides.policy;
    let mapped = |pointer: &String| policy.mapped.contains(pointer);
    link.held.retain(|group, held| group != RECORD && held.fields.iter().any(mapped));
    link.decided.retain(|group, _| group != RECORD);
    if link.refused.is_empty() {
        return;
    }
    let outlived: BTreeSet<String> = link
        .refused
        .iter()
        .filter(|(pointer, refused)| {
            !mapped(pointer) || !same(policy, pointer, sides.internal.get(*pointer), Some(refused))
        })
        .map(|(pointer, _)| policy.group(pointer).to_owned())
        .collect();
    link.refused.retain(|pointer, _| !outlived.contains(policy.group(pointer)));
}

fn merge_group(
    link: &mut Link,
    sides: &Sides<'_>,
    group: &str,
    fields: &[&str],
    own_internal: bool,
    now: Millis,
    merge: &mut Merge,
) {
    let policy = sides.policy.group_policy(group, fields.iter().copied());
    let fields: Vec<&str> = fields.iter().copied().filter(|field| !link.owed.contains(*field)).collect();
    let mut looks: Vec<Look<'_>> = Vec::with_capacity(fields.len());
    let mut unknown = false;
    let mut unknown_wanted = false;
    for field in &fields {
        match look(link, sides, field) {
            Some(look) => looks.push(look),
            None => {
                unknown = true;
                unknown_wanted |= !blank(sides.internal.get(*field));
            }
        }
    }
    if unknown
        && policy.flow != Flow::ToInternal
        && (unknown_wanted || looks.iter().any(|look| look.internal_changed))
    {
        merge.must_look = true;
        return;
    }
    if looks.is_empty() {
        return;
    }
    if fields.iter().any(|field| link.frozen.contains_key(*field)) {
        for look in looks.iter().filter(|look| look.equal && (look.changed() || look.first)) {
            settle(link, look);
        }
        if looks.iter().any(|look| look.changed() && !look.equal) {
            merge.say("frozen, not written", &fields);
        }
        return;
    }
    if let Some(state) = &sides.state {
        for look in &mut looks {
            recognise_rewrite(link, (sides.policy, policy), state, look);
        }
        // The server's word on what was sent is nobody's edit, however late it is seen: nothing to adopt where System A has moved on.
        // A group goes as one, so that is so where another field of it was edited.
        if looks.iter().any(|look| look.internal_changed) {
            for look in looks.iter_mut().filter(|look| look.external_changed) {
                if is_rewrite(link, sides.policy, look.pointer, look.external)
                    && let Some(pair) = link.base.get_mut(look.pointer)
                {
                    pair.external = look.external.cloned();
                    look.external_changed = false;
                }
            }
        }
    }
    if link.decided.contains_key(group) {
        carry_decision(link, group, &looks, sides, now, merge);
        return;
    }
    if !link.overtaken.is_empty() {
        forget_superseded(link, sides, group, &looks, policy.flow, merge);
    }
    let late = looks.iter().any(|look| link.overtaken.contains_key(look.pointer));
    if link.held.contains_key(group) {
        if !late && looks.iter().all(|look| look.equal || !look.changed()) {
            for look in looks.iter().filter(|look| look.changed() || look.first) {
                settle(link, look);
            }
            link.held.remove(group);
            merge.say("both sides are the same again, the hold ends", &fields);
        } else {
            review::refresh(link, group, &looks);
            merge.say("held for review", &fields);
        }
        return;
    }
    if late && settle_late(link, group, &looks, sides, (policy, own_internal), now, merge) {
        return;
    }
    let rest: Vec<&Look<'_>> = looks.iter().filter(|look| look.changed() && !look.equal).collect();
    let agreed = looks.iter().filter(|look| look.equal && look.changed() || look.first && !look.changed());
    let mut settled = Vec::new();
    for look in agreed {
        settle(link, look);
        if look.internal_changed && look.external_changed {
            settled.push(look.pointer);
        }
    }
    if !settled.is_empty() {
        merge.say("agreed on both sides", &settled);
    }
    match policy.flow {
        Flow::ToExternal => {
            let (write, follow): (Vec<_>, Vec<_>) = rest.into_iter().partition(|look| look.internal_changed);
            for look in follow {
                settle(link, look);
                merge.say("changed in the CRM, flows to the CRM only", &[look.pointer]);
            }
            to_external(link, group, &write, sides, now, merge);
        }
        Flow::ToInternal => {
            let (write, follow): (Vec<_>, Vec<_>) = rest.into_iter().partition(|look| look.external_changed);
            for look in follow {
                settle(link, look);
                merge.say("changed in System A, flows to System A only", &[look.pointer]);
            }
            to_internal(link, &write, sides, now, merge);
        }
        Flow::Both => {
            let here = rest.iter().any(|look| look.internal_changed);
            let there = rest.iter().any(|look| look.external_changed);
            match (here, there) {
                (false, false) => {}
                (true, false) => to_external(link, group, &rest, sides, now, merge),
                (false, true) => to_internal(link, &rest, sides, now, merge),
                (true, true) => {
                    let contest =
                        Contest { group, looks: &looks_of(&rest), policy, own_internal, late: false };
                    let conflict = conflict::rule(sides, &contest);
                    match conflict.ruling {
                        Verdict::Internal => to_external(link, group, &rest, sides, now, merge),
                        Verdict::External => to_internal(link, &rest, sides, now, merge),
                        Verdict::Review => review::hold(link, group, &looks, &conflict.why, now),
                    }
                    merge.found(conflict);
                }
            }
        }
    }
}

/// Lets go of overtaken edits that were followed by another edit of the field, or that are on both sides by now. Followed in the CRM,
/// nobody has seen them anywhere: they are told of as what lost.
fn forget_superseded(
    link: &mut Link,
    sides: &Sides<'_>,
    group: &str,
    looks: &[Look<'_>],
    flow: Flow,
    merge: &mut Merge,
) {
    for look in looks {
        let Some(overtaken) = link.overtaken.get(look.pointer) else { continue };
        let is_it = |value| same(sides.policy, look.pointer, value, overtaken.value.as_ref());
        let reached = link.base.get(look.pointer).is_some_and(|pair| is_it(pair.internal.as_ref()));
        if look.external_changed && !is_rewrite(link, sides.policy, look.pointer, look.external) {
            let stands = is_it(look.external);
            overtaken::supersede(link, look.pointer);
            if stands {
                // Somebody has written the same since.
                merge.say("edited again in the CRM after an overtaken edit", &[look.pointer]);
                continue;
            }
            merge.found(Conflict {
                group: group.to_owned(),
                fields: [look.pointer.to_owned()].into(),
                ruling: Verdict::External,
                why: "edited again in the CRM after an overtaken edit".to_owned(),
            });
        } else if is_it(look.internal) && (is_it(look.external) || !reached) || flow != Flow::Both {
            // On both sides, or System A came to it by itself and passes it on.
            link.overtaken.remove(look.pointer);
        } else if reached && look.internal_changed {
            link.overtaken.remove(look.pointer);
            merge.say("edited again in System A after an overtaken edit", &[look.pointer]);
        }
    }
}

/// Settles edits of a group that a write of ours overtook: a conflict that was found late. False: System A's values stand, and
/// the group goes on as though nothing had been found.
fn settle_late(
    link: &mut Link,
    group: &str,
    looks: &[Look<'_>],
    sides: &Sides<'_>,
    (policy, own_internal): (FieldPolicy, bool),
    now: Millis,
    merge: &mut Merge,
) -> bool {
    let found = link.overtaken.clone();
    let contends = |look: &Look<'_>| found.contains_key(look.pointer) || look.changed() && !look.equal;
    // What System A has of this CRM is an older edit there than the one that was found.
    let older = |look: &Look<'_>| {
        !look.internal_changed && link.base.get(look.pointer).is_some_and(|pair| pair.given)
    };
    let stands = looks.iter().any(|look| found.get(look.pointer).is_some_and(|overtaken| overtaken.stands));
    if looks.iter().filter(|look| contends(look)).all(older) {
        for look in looks {
            if let Some(overtaken) = link.overtaken.get_mut(look.pointer) {
                overtaken.stands = true;
            }
        }
    } else if !stands {
        let late: Vec<Look<'_>> = looks
            .iter()
            .filter(|look| contends(look))
            .map(|look| match found.get(look.pointer) {
                Some(_) => Look { internal_changed: !older(look), external_changed: true, ..*look },
                None => Look { ..*look },
            })
            .collect();
        let contest = Contest { group, looks: &late, policy, own_internal, late: true };
        let conflict = conflict::rule(sides, &contest);
        let ruling = conflict.ruling;
        match ruling {
            Verdict::Internal => {
                link.overtaken.retain(|pointer, _| !late.iter().any(|look| look.pointer == pointer));
            }
            Verdict::External => {
                for (pointer, overtaken) in &mut link.overtaken {
                    overtaken.stands |= late.iter().any(|look| look.pointer == pointer);
                }
            }
            Verdict::Review => review::hold(link, group, looks, &conflict.why, now),
        }
        merge.found(conflict);
        match ruling {
            Verdict::Internal => return false,
            Verdict::Review => return true,
            Verdict::External => {}
        }
    }
    write_back(link, group, looks, sides, now, merge);
    true
}

/// Writes overtaken edits that stand back to both sides; the rest of their group goes the same way.
fn write_back(
    link: &mut Link,
    group: &str,
    looks: &[Look<'_>],
    sides: &Sides<'_>,
    now: Millis,
    merge: &mut Merge,
) {
    let found = link.overtaken.clone();
    let mut inward = Vec::new();
    let mut outward = Vec::new();
    for look in looks {
        match found.get(look.pointer) {
            Some(overtaken) => {
                let value = overtaken.value.as_ref();
                let has = |side| same(sides.policy, look.pointer, side, value);
                if !has(look.internal) {
                    inward.push(Look { external: value, ..*look });
                }
                if !has(look.external) {
                    outward.push(Look { internal: value, ..*look });
                }
            }
            None if look.changed() && !look.equal => inward.push(Look { ..*look }),
            None => {}
        }
    }
    to_internal(link, &inward.iter().collect::<Vec<_>>(), sides, now, merge);
    if inward.iter().any(|look| link.frozen.contains_key(look.pointer)) {
        return;
    }
    let names: Vec<&str> = outward.iter().map(|look| look.pointer).collect();
    let why = |link: &Link, name: &str| loops::restored_too_often(link, name, sides.policy, now);
    if !freeze(link, &names, why, merge) {
        put_external(link, group, &outward.iter().collect::<Vec<_>>(), sides, merge);
    }
}

fn looks_of<'a>(looks: &[&Look<'a>]) -> Vec<Look<'a>> {
    looks.iter().map(|look| Look { ..**look }).collect()
}

/// What was assumed and turns out different is a rewrite, not a change, unless somebody may have changed it since.
fn recognise_rewrite(
    link: &mut Link,
    (object, policy): (&ObjectPolicy, FieldPolicy),
    state: &State<'_>,
    look: &mut Look<'_>,
) {
    if !look.assumed {
        if !is_rewrite(link, object, look.pointer, look.external) {
            link.rewritten.remove(look.pointer);
        }
        return;
    }
    let Some(pair) = link.base.get_mut(look.pointer) else { return };
    pair.assumed = false;
    if !(look.external_changed && state.rewrote(look.pointer)) {
        return;
    }
    let adopt = policy.on_rewrite == OnRewrite::Adopt && policy.flow != Flow::ToExternal;
    if adopt && !look.internal_changed {
        let made = look.external.cloned().unwrap_or(Value::Null);
        link.rewritten.insert(look.pointer.to_owned(), made);
    } else {
        pair.external = look.external.cloned();
        look.external_changed = false;
    }
}

/// Puts fields on their way to the CRM.
fn to_external(
    link: &mut Link,
    group: &str,
    looks: &[&Look<'_>],
    sides: &Sides<'_>,
    now: Millis,
    merge: &mut Merge,
) {
    if looks.is_empty() {
        return;
    }
    let names: Vec<&str> = looks.iter().map(|look| look.pointer).collect();
    if is_refused(link, group, sides) || !freeze_looping(link, &names, Side::External, sides, now, merge) {
        put_external(link, group, looks, sides, merge);
    }
}

/// Whether the CRM refused a field of the group.
fn is_refused(link: &Link, group: &str, sides: &Sides<'_>) -> bool {
    link.refused.keys().any(|pointer| sides.policy.group(pointer) == group)
}

fn put_external(link: &Link, group: &str, looks: &[&Look<'_>], sides: &Sides<'_>, merge: &mut Merge) {
    if looks.is_empty() {
        return;
    }
    let names: Vec<&str> = looks.iter().map(|look| look.pointer).collect();
    if is_refused(link, group, sides) {
        merge.say("left out, the CRM refused it", &names);
        return;
    }
    for look in looks {
        merge.to_external.insert(look.pointer.to_owned(), look.internal.cloned());
    }
    merge.say("to the CRM", &names);
}

/// Puts fields on their way to System A.
fn to_internal(link: &mut Link, looks: &[&Look<'_>], sides: &Sides<'_>, now: Millis, merge: &mut Merge) {
    if looks.is_empty() {
        return;
    }
    let names: Vec<&str> = looks.iter().map(|look| look.pointer).collect();
    if freeze_looping(link, &names, Side::Internal, sides, now, merge) {
        return;
    }
    for look in looks {
        merge.to_internal.insert(look.pointer.to_owned(), look.external.cloned());
    }
    merge.say("to System A", &names);
}

/// Freezes the fields that have gone back and forth too often. True: nothing of the group is written.
fn freeze_looping(
    link: &mut Link,
    names: &[&str],
    side: Side,
    sides: &Sides<'_>,
    now: Millis,
    merge: &mut Merge,
) -> bool {
    let why = |link: &Link, name: &str| loops::too_many(link, sides.peers, name, side, sides.policy, now);
    freeze(link, names, why, merge)
}

/// Freezes the fields that there is a reason for. True: nothing of the group is written.
fn freeze(
    link: &mut Link,
    names: &[&str],
    why: impl Fn(&Link, &str) -> Option<String>,
    merge: &mut Merge,
) -> bool {
    let mut frozen = Vec::new();
    for name in names {
        if let Some(why) = why(link, name) {
            link.frozen.insert((*name).to_owned(), why);
            frozen.push(*name);
        }
    }
    if frozen.is_empty() {
        return false;
    }
    merge.say("frozen, it went back and forth too often", &frozen);
    true
}

/// Carries out what a person decided, unless the values have changed since they were looked at.
fn carry_decision(
    link: &mut Link,
    group: &str,
    looks: &[Look<'_>],
    sides: &Sides<'_>,
    now: Millis,
    merge: &mut Merge,
) {
    let Some(mut decided) = link.decided.remove(group) else { return };
    let here = looks.iter().any(|look| look.internal_changed);
    let there = looks.iter().any(|look| look.external_changed);
    let outdated = match decided.choice {
        Chosen::Internal => there,
        Chosen::External => here,
        Chosen::Value => here || there,
    };
    let names: Vec<&str> = looks.iter().map(|look| look.pointer).collect();
    if outdated && looks.iter().any(|look| !look.equal) {
        let why = "changed again after it was decided; held for review";
        review::hold(link, group, looks, why, now);
        merge.say(why, &names);
        return;
    }
    for look in looks {
        let wanted = match decided.choice {
            Chosen::Internal => look.internal.cloned(),
            Chosen::External => look.external.cloned(),
            Chosen::Value => decided.values.get(look.pointer).cloned(),
        };
        let has = |value| same(sides.policy, look.pointer, value, wanted.as_ref());
        if has(look.internal) {
            decided.to_internal.remove(look.pointer);
        }
        if has(look.external) {
            decided.to_external.remove(look.pointer);
        }
        if decided.to_internal.contains(look.pointer) {
            merge.to_internal.insert(look.pointer.to_owned(), wanted.clone());
        }
        if decided.to_external.contains(look.pointer) {
            merge.to_external.insert(look.pointer.to_owned(), wanted);
        }
    }
    if decided.to_internal.is_empty() && decided.to_external.is_empty() {
        for look in looks.iter().filter(|look| look.equal) {
            settle(link, look);
        }
    } else {
        link.decided.insert(group.to_owned(), decided);
        merge.say("decided in review", &names);
    }
}

fn merge_set(link: &mut Link, sides: &Sides<'_>, pointer: &str, now: Millis, merge: &mut Merge) {
    if link.owed.contains(pointer) {
        return;
    }
    let policy = sides.policy;
    let flow = flow(policy, pointer);
    let chain = policy.normalise.get(pointer).map(String::as_str);
    let Some(look) = look(link, sides, pointer) else {
        merge.must_look |= flow != Flow::ToInternal && !blank(sides.internal.get(pointer));
        return;
    };
    if link.frozen.contains_key(pointer) {
        if look.changed() {
            merge.say("frozen, not written", &[pointer]);
        }
        return;
    }
    if let Some(state) = &sides.state
        && look.assumed
        && let Some(pair) = link.base.get_mut(pointer)
    {
        pair.assumed = false;
        if look.external_changed && state.rewrote(pointer) {
            let half = pair.external.clone().unwrap_or(Value::Array(Vec::new()));
            pair.external = Some(sets::rewritten(chain, &half, pair.external.as_ref(), look.external));
        }
    }
    let mut merged = sets::merge(chain, link.base.get(pointer), look.internal, look.external, flow);
    if let Some(overtaken) = link.overtaken.get(pointer) {
        let half = link.base.get(pointer).and_then(|pair| pair.external.as_ref());
        if flow != Flow::Both || !same(policy, pointer, look.external, half) {
            overtaken::supersede(link, pointer);
        } else {
            let (before, edited) = (overtaken.before.as_ref(), overtaken.value.as_ref());
            merged.lay_on(chain, before, edited, look.internal, look.external);
            if merged.to_internal.is_none() && merged.to_external.is_none() {
                link.overtaken.remove(pointer);
            }
        }
    }
    let refused = link.refused.contains_key(pointer);
    if refused && merged.to_external.is_some() {
        merge.say("left out, the CRM refused it", &[pointer]);
    }
    let to_external = merged.to_external.filter(|_| !refused);
    if to_external.is_none() && merged.to_internal.is_none() {
        if !refused && (merged.moved || look.first) {
            settle(link, &look);
        }
        return;
    }
    for (value, side) in [(to_external, Side::External), (merged.to_internal, Side::Internal)] {
        let Some(value) = value else { continue };
        if freeze_looping(link, &[pointer], side, sides, now, merge) {
            merge.to_external.remove(pointer);
            return;
        }
        match side {
            Side::External => merge.to_external.insert(pointer.to_owned(), Some(value)),
            Side::Internal => merge.to_internal.insert(pointer.to_owned(), Some(value)),
        };
    }
    merge.say("elements merged", &[pointer]);
}

/// The pair of a field that was never there.
pub(super) fn pair_of(link: &Link, pointer: &str) -> Pair {
    link.base.get(pointer).cloned().unwrap_or_default()
}
