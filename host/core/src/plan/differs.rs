//! Which side a field differs on from what both had when they last agreed: for the trail of a record. Decides nothing.

use serde::{Deserialize, Serialize};

use super::compare::{blank, same};
use super::{External, Internal};
use crate::link::Link;
use crate::policy::ObjectPolicy;

/// Where a field is another than in its half of the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Differs {
    /// On neither side: it is written for another reason (a decision, a record that is made again).
    Neither,
    /// In System A.
    Internal,
    /// In the CRM.
    External,
    /// On both sides.
    Both,
}

/// Where a field differs. What was not seen of the CRM's record is believed to be as it was. A field that was never compared differs on
/// each side that has a value.
#[must_use]
pub fn differs(
    link: &Link,
    internal: &Internal,
    external: &External,
    policy: &ObjectPolicy,
    field: &str,
) -> Differs {
    let pair = link.base.get(field);
    let here = match internal {
        Internal::Present { fields, .. } => fields.get(field),
        Internal::Absent | Internal::Deleted { .. } => None,
    };
    let there = match external {
        External::Whole { fields, .. } => Some(fields.get(field)),
        External::Partial { fields, .. } => fields.get(field).map(Some),
        _ => None,
    };
    let moved = |now, half: Option<&serde_json::Value>| match pair {
        Some(_) => !same(policy, field, now, half),
        None => !blank(now),
    };
    let here = moved(here, pair.and_then(|pair| pair.internal.as_ref()));
    let there = there.is_some_and(|there| moved(there, pair.and_then(|pair| pair.external.as_ref())));
    match (here, there) {
        (false, false) => Differs::Neither,
        (true, false) => Differs::Internal,
        (false, true) => Differs::External,
        (true, true) => Differs::Both,
    }
}
