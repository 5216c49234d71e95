//! The loop breaker: a field that changes hands too often within a time is frozen until somebody unfreezes it.
//!
//! Counted for the entity, over all its links: how often System A's value of the field came from somewhere else than before, from
//! one of the CRMs or from System A itself. What one CRM gave and the others are given is one change of hands and not several.
//! With one link that is a write to one side after a write to the other. Writes to the same side again are no loop.
//!
//! An edit that a write of ours overtook and that is given back to its CRM is that CRM's own value still: no change of hands. So
//! that a CRM that answers each of these with another edit is stopped too, they are counted by themselves.

use crate::Millis;
use crate::link::{Link, Side};
use crate::policy::ObjectPolicy;

use super::peers::Peer;

/// Remembers that a field was written on a side.
pub(super) fn record(link: &mut Link, pointer: &str, side: Side, policy: &ObjectPolicy, now: Millis) {
    if policy.loop_limit == 0 {
        return;
    }
    let oldest = now.saturating_sub(policy.loop_window_ms);
    let writes = &mut link.alternations.entry(pointer.to_owned()).or_default().writes;
    writes.retain(|(at, _)| *at >= oldest);
    match writes.last_mut() {
        Some((at, last)) if *last == side => *at = now,
        _ => writes.push((now, side)),
    }
    let bound = usize::try_from(policy.loop_limit).unwrap_or(usize::MAX).saturating_add(2);
    while writes.len() > bound {
        writes.remove(0);
    }
}

/// Remembers that an overtaken edit of a field was given back to its CRM.
pub(super) fn record_restored(link: &mut Link, pointer: &str, policy: &ObjectPolicy, now: Millis) {
    if policy.loop_limit == 0 {
        return;
    }
    let oldest = now.saturating_sub(policy.loop_window_ms);
    let restored = &mut link.alternations.entry(pointer.to_owned()).or_default().restored;
    restored.retain(|at| *at >= oldest);
    restored.push(now);
    let surplus = restored.len().saturating_sub(usize::try_from(policy.loop_limit).unwrap_or(usize::MAX));
    restored.drain(..surplus);
}

/// Why an overtaken edit of the field is not given back to its CRM once more. None: it is.
pub(super) fn restored_too_often(
    link: &Link,
    pointer: &str,
    policy: &ObjectPolicy,
    now: Millis,
) -> Option<String> {
    let oldest = now.saturating_sub(policy.loop_window_ms);
    let restored = &link.alternations.get(pointer)?.restored;
    let times: Vec<String> = restored.iter().filter(|at| **at >= oldest).map(ToString::to_string).collect();
    let limit = usize::try_from(policy.loop_limit).unwrap_or(usize::MAX);
    (policy.loop_limit > 0 && times.len() >= limit).then(|| {
        format!(
            "edits in {} that a write of ours overtook were given back to it {} times within {} ms: at {}",
            link.connection,
            times.len(),
            policy.loop_window_ms,
            times.join(", ")
        )
    })
}

/// One write of a field: when, through which link, to which side.
#[derive(Clone, Copy)]
struct Step<'a> {
    at: Millis,
    link: &'a Link,
    side: Side,
}

/// The writes of a field through all links, in their order. Each link keeps its own order; of two at the same moment the one
/// to System A comes first, since the other one tells of it.
fn merged<'a>(links: &[&'a Link], pointer: &str, oldest: Millis) -> Vec<Step<'a>> {
    let mut queues: Vec<std::iter::Peekable<_>> = links
        .iter()
        .map(|link| {
            let writes = link.alternations.get(pointer).map(|known| known.writes.as_slice());
            writes
                .unwrap_or_default()
                .iter()
                .filter(|(at, _)| *at >= oldest)
                .map(|(at, side)| Step { at: *at, link, side: *side })
                .peekable()
        })
        .collect();
    let mut steps = Vec::new();
    loop {
        let next = queues
            .iter_mut()
            .enumerate()
            .filter_map(|(place, queue)| queue.peek().map(|step| (step.at, step.side, place)))
            .min();
        let Some((_, _, place)) = next else { return steps };
        steps.extend(queues.get_mut(place).and_then(Iterator::next));
    }
}

/// How often the value changed hands.
fn changes_of_hands(steps: &[Step<'_>]) -> usize {
    let mut count = 0_usize;
    let mut owner: Option<Option<&Link>> = None;
    let mut giver: Option<&Link> = None;
    for step in steps {
        let source = match step.side {
            Side::Internal => {
                giver = Some(step.link);
                giver
            }
            // What another link gave is handed on; what this link gave itself was changed in System A since.
            Side::External if giver.is_some_and(|giver| giver.connection != step.link.connection) => continue,
            Side::External => None,
        };
        let same = |before: Option<&Link>| match (before, source) {
            (Some(before), Some(source)) => before.connection == source.connection,
            (before, source) => before.is_none() && source.is_none(),
        };
        match owner {
            Some(before) if same(before) => {}
            Some(_) => count = count.saturating_add(1),
            None => {}
        }
        owner = Some(source);
    }
    count
}

/// Why a write of the field to `side` would be one change of hands too many. None: it is not.
pub(super) fn too_many(
    link: &Link,
    peers: &[Peer<'_>],
    pointer: &str,
    side: Side,
    policy: &ObjectPolicy,
    now: Millis,
) -> Option<String> {
    if policy.loop_limit == 0 {
        return None;
    }
    let oldest = now.saturating_sub(policy.loop_window_ms);
    let links: Vec<&Link> = std::iter::once(link).chain(peers.iter().map(|peer| peer.link)).collect();
    let mut steps = merged(&links, pointer, oldest);
    let is_repeated =
        steps.last().is_some_and(|last| last.side == side && last.link.connection == link.connection);
    if !is_repeated {
        steps.push(Step { at: now, link, side });
    }
    if changes_of_hands(&steps) <= usize::try_from(policy.loop_limit).unwrap_or(usize::MAX) {
        return None;
    }
    let told: Vec<String> = steps
        .iter()
        .map(|step| match (step.side, peers.is_empty()) {
            (side, true) => format!("{} at {}", side.name(), step.at),
            (Side::Internal, false) => format!("internal from {} at {}", step.link.connection, step.at),
            (Side::External, false) => format!("external at {} at {}", step.link.connection, step.at),
        })
        .collect();
    Some(format!(
        "went back and forth more than {} times within {} ms: written {}",
        policy.loop_limit,
        policy.loop_window_ms,
        told.join(", ")
    ))
}
