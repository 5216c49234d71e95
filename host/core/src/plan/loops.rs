//! The loop breaker: a field that goes back and forth too often within a time is frozen until somebody unfreezes it.
//!
//! An alternation is a write to one side after a write to the other. Writes to the same side again are no loop.

use crate::Millis;
use crate::link::{Link, Side};
use crate::policy::ObjectPolicy;

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

/// Why a write of the field to `side` would be one alternation too many. None: it is not.
pub(super) fn too_many(
    link: &Link,
    pointer: &str,
    side: Side,
    policy: &ObjectPolicy,
    now: Millis,
) -> Option<String> {
    if policy.loop_limit == 0 {
        return None;
    }
    let oldest = now.saturating_sub(policy.loop_window_ms);
    let writes = &link.alternations.get(pointer)?.writes;
    let mut sequence: Vec<(Millis, Side)> = writes.iter().copied().filter(|(at, _)| *at >= oldest).collect();
    if sequence.last().is_none_or(|(_, last)| *last != side) {
        sequence.push((now, side));
    }
    let alternations = sequence.len().saturating_sub(1);
    if alternations <= usize::try_from(policy.loop_limit).unwrap_or(usize::MAX) {
        return None;
    }
    let steps: Vec<String> = sequence.iter().map(|(at, side)| format!("{} at {at}", side.name())).collect();
    Some(format!(
        "went back and forth more than {} times within {} ms: written {}",
        policy.loop_limit,
        policy.loop_window_ms,
        steps.join(", ")
    ))
}
