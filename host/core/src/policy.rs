//! Who wins, and which way a field flows: set for a field, an object or a connection beforehand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What happens when both sides changed a field group differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// System A wins.
    Internal,
    /// The CRM wins.
    External,
    /// The later edit wins where both have field times inside the clock tolerance's reach; otherwise review.
    Newest,
    /// The group is held with both values until somebody decides; the rest flows.
    #[default]
    Review,
}

/// Which way a field flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// Both ways.
    #[default]
    Both,
    /// Only from System A to the CRM.
    ToExternal,
    /// Only from the CRM to System A.
    ToInternal,
}

/// What happens when a CRM stores another value than was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRewrite {
    /// The two halves differ from now on; nothing is written.
    #[default]
    Keep,
    /// System A takes the CRM's value over.
    Adopt,
}

/// What happens when a CRM refuses one field of a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnReject {
    /// The whole write is set aside.
    #[default]
    Hold,
    /// The field is left out and flagged; the rest is written.
    OmitAndFlag,
}

/// What happens when one side deleted a record and the other changed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDeleteConflict {
    /// The update wins: the record is created again on the side that deleted it.
    #[default]
    Update,
    /// The deletion wins.
    Delete,
    /// Held for review.
    Review,
}

/// What a deletion on one side does on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDelete {
    /// The other record is deleted (archived where the CRM has a bin).
    #[default]
    Delete,
    /// The link is cut; the other record stays.
    Detach,
    /// Nothing; the record is created again when it changes.
    Ignore,
}

/// How many deletions, and how many updates that no edit asked for, pass without anybody's approval: see [`Guard::allows`].
/// Each object of a connection is counted by itself, and so is each side that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Guard {
    /// So many pass in a window, however few links there are.
    pub limit: u64,
    /// So many pass in a window: hundredths of the links that are alive. 100: all of them, which turns the guard off.
    pub share: u64,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// How long a deletion that was carried out can be undone, in milliseconds. 0: not at all, and nothing is kept for it.
    pub undo_ms: u64,
}

/// So many pass without approval, unless the configuration says otherwise: what a person deletes by hand.
pub const GUARD_LIMIT: u64 = 20;
/// Hundredths of the links that pass without approval, unless the configuration says otherwise.
pub const GUARD_SHARE: u64 = 1;
/// Within which time they are counted, unless the configuration says otherwise.
pub const GUARD_WINDOW_MS: u64 = 3_600_000;
/// How long a deletion can be undone, unless the configuration says otherwise.
pub const UNDO_MS: u64 = 7 * 86_400_000;

impl Default for Guard {
    fn default() -> Self {
        Self { limit: GUARD_LIMIT, share: GUARD_SHARE, window_ms: GUARD_WINDOW_MS, undo_ms: UNDO_MS }
    }
}

impl Guard {
    /// Whether nothing is ever withheld.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.share >= 100
    }

    /// Whether so many writes in one window need nobody's approval, at a connection with so many links: they are stopped when they
    /// are more than the limit *and* more than the share.
    #[must_use]
    pub fn allows(&self, writes: u64, links: u64) -> bool {
        self.is_off()
            || writes <= self.limit
            || u128::from(writes) * 100 <= u128::from(links) * u128::from(self.share)
    }
}

/// How much a review holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// The conflicting field group.
    #[default]
    Group,
    /// The whole record.
    Record,
}

/// The policy of one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FieldPolicy {
    /// Who wins a conflict.
    pub on_conflict: OnConflict,
    /// Which way it flows.
    pub flow: Flow,
    /// What a rewrite by the CRM does.
    pub on_rewrite: OnRewrite,
    /// What a refusal by the CRM does.
    pub on_reject: OnReject,
    /// The connection's place among those that serve the same records: where its edit and another connection's contend, the
    /// smaller number wins. None: behind all that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
}

/// The policy of an object of one connection, whole: defaults applied, groups and sets taken from the canonical schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ObjectPolicy {
    /// For fields that have none of their own.
    pub default: FieldPolicy,
    /// By canonical pointer.
    pub fields: BTreeMap<String, FieldPolicy>,
    /// Field pointer to the name of its group (`x-group`). Fields without an entry stand alone.
    pub groups: BTreeMap<String, String>,
    /// Pointers of set fields (`x-set`): merged element by element.
    pub sets: Vec<String>,
    /// Pointers of fields that are mapped by this connection. A field that is not here takes no part.
    pub mapped: Vec<String>,
    /// Pointers of `x-identity` fields.
    pub identity: Vec<String>,
    /// Normaliser by pointer: two values are equal when their normal forms are.
    pub normalise: BTreeMap<String, String>,
    /// Values by pointer that a record is created with, on either side, where the other side's record has none. The two halves
    /// of such a field differ from then on, and nothing more is written. Not for sets.
    pub filled: BTreeMap<String, Value>,
    /// Deletions in System A.
    pub on_internal_delete: OnDelete,
    /// Deletions in the CRM.
    pub on_external_delete: OnDelete,
    /// Deletion against update.
    pub on_delete_conflict: OnDeleteConflict,
    /// How much a review holds.
    pub hold: Hold,
    /// Creates in the CRM what is new in System A.
    pub create_external: bool,
    /// Creates in System A what is new in the CRM.
    pub create_internal: bool,
    /// How far the clocks of both sides may differ, in milliseconds, for `newest`.
    pub clock_tolerance_ms: u64,
    /// More alternations than this within `loop_window_ms` freeze a field. 0: never.
    pub loop_limit: u32,
    /// See `loop_limit`.
    pub loop_window_ms: u64,
    /// How long after the first miss an unconfirmed deletion is looked for again, in milliseconds. 0: [`CONFIRM_AFTER_MS`].
    pub confirm_after_ms: u64,
    /// The CRM's events tell when a field was edited, on the clock of its records' stamps.
    pub event_times: bool,
    /// What passes without anybody's approval.
    pub guard: Guard,
}

/// How long after the first miss a deletion is looked for again, unless the policy says otherwise.
pub const CONFIRM_AFTER_MS: u64 = 30_000;
/// How far the clocks of both sides may differ, unless the configuration says otherwise.
pub const CLOCK_TOLERANCE_MS: u64 = 2_000;
/// How often a field may go back and forth, unless the configuration says otherwise.
pub const LOOP_LIMIT: u32 = 6;
/// Within which time a field may go back and forth [`LOOP_LIMIT`] times, unless the configuration says otherwise.
pub const LOOP_WINDOW_MS: u64 = 600_000;

impl ObjectPolicy {
    /// A policy that maps nothing yet, creates on both sides, and has the recommended limits.
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            create_external: true,
            create_internal: true,
            clock_tolerance_ms: CLOCK_TOLERANCE_MS,
            loop_limit: LOOP_LIMIT,
            loop_window_ms: LOOP_WINDOW_MS,
            confirm_after_ms: CONFIRM_AFTER_MS,
            ..Self::default()
        }
    }

    /// See `confirm_after_ms`.
    #[must_use]
    pub fn confirm_after(&self) -> u64 {
        if self.confirm_after_ms == 0 { CONFIRM_AFTER_MS } else { self.confirm_after_ms }
    }

    /// The policy of a group: an entry under the group's own name, else that of the first of its fields that has an entry,
    /// else the default. A group stands or falls together, so it has one policy.
    #[must_use]
    pub fn group_policy<'a>(&self, group: &str, fields: impl IntoIterator<Item = &'a str>) -> FieldPolicy {
        self.fields
            .get(group)
            .or_else(|| fields.into_iter().find_map(|field| self.fields.get(field)))
            .copied()
            .unwrap_or(self.default)
    }

    /// Whether this connection's edit of a group stands against another's: true by its rank, false by the other's; None: both
    /// have the same rank, or none.
    #[must_use]
    pub fn outranks(own: Option<u32>, other: Option<u32>) -> Option<bool> {
        let place = |rank: Option<u32>| rank.unwrap_or(u32::MAX);
        match place(own).cmp(&place(other)) {
            std::cmp::Ordering::Less => Some(true),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(false),
        }
    }

    /// The policy of a field.
    #[must_use]
    pub fn field(&self, pointer: &str) -> FieldPolicy {
        self.fields.get(pointer).copied().unwrap_or(self.default)
    }

    /// Whether any field's conflicts are decided by time.
    #[must_use]
    pub fn weighs_times(&self) -> bool {
        let by_time = |policy: &FieldPolicy| policy.on_conflict == OnConflict::Newest;
        by_time(&self.default) || self.fields.values().any(by_time)
    }

    /// The group that a field belongs to: its own name when it stands alone.
    #[must_use]
    pub fn group<'a>(&'a self, pointer: &'a str) -> &'a str {
        self.groups.get(pointer).map_or(pointer, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wins(on_conflict: OnConflict) -> FieldPolicy {
        FieldPolicy { on_conflict, ..FieldPolicy::default() }
    }

    #[test]
    fn a_missed_record_is_looked_for_again_after_the_time_that_is_set_or_the_recommended_one() {
        let mut policy = ObjectPolicy::default();
        assert_eq!(policy.confirm_after(), CONFIRM_AFTER_MS);
        policy.confirm_after_ms = 7;
        assert_eq!(policy.confirm_after(), 7);
    }

    #[test]
    fn a_deletion_can_be_undone_for_a_week_unless_it_is_said_otherwise() {
        assert_eq!(Guard::default().undo_ms, 604_800_000);
    }

    #[test]
    fn what_is_recommended_creates_on_both_sides_and_bounds_loops_and_clocks() {
        let policy = ObjectPolicy::recommended();
        assert!(policy.create_external && policy.create_internal && policy.mapped.is_empty());
        assert_eq!((policy.loop_limit, policy.loop_window_ms), (LOOP_LIMIT, LOOP_WINDOW_MS));
        assert_eq!(
            (policy.clock_tolerance_ms, policy.confirm_after_ms),
            (CLOCK_TOLERANCE_MS, CONFIRM_AFTER_MS)
        );
    }

    #[test]
    fn a_field_has_its_own_policy_before_the_default() {
        let mut policy = ObjectPolicy { default: wins(OnConflict::Newest), ..ObjectPolicy::default() };
        policy.fields.insert("/email".into(), wins(OnConflict::Internal));
        assert_eq!(policy.field("/email"), wins(OnConflict::Internal));
        assert_eq!(policy.field("/phone"), wins(OnConflict::Newest));
    }

    #[test]
    fn times_are_weighed_where_one_field_is_decided_by_them() {
        let mut policy = ObjectPolicy::default();
        assert!(!policy.weighs_times());
        policy.fields.insert("/email".into(), wins(OnConflict::Internal));
        assert!(!policy.weighs_times());
        policy.fields.insert("/phone".into(), wins(OnConflict::Newest));
        assert!(policy.weighs_times());
        assert!(ObjectPolicy { default: wins(OnConflict::Newest), ..ObjectPolicy::default() }.weighs_times());
    }

    #[test]
    fn a_group_has_the_policy_under_its_name_then_that_of_its_first_field_then_the_default() {
        let mut policy = ObjectPolicy { default: wins(OnConflict::Newest), ..ObjectPolicy::default() };
        for field in ["/street", "/city"] {
            policy.groups.insert(field.into(), "address".into());
        }
        let of = |policy: &ObjectPolicy| policy.group_policy("address", ["/street", "/city"]);
        assert_eq!((policy.group("/city"), policy.group("/email")), ("address", "/email"));
        assert_eq!(of(&policy), wins(OnConflict::Newest));
        policy.fields.insert("/city".into(), wins(OnConflict::External));
        assert_eq!(of(&policy), wins(OnConflict::External));
        policy.fields.insert("address".into(), wins(OnConflict::Internal));
        assert_eq!(of(&policy), wins(OnConflict::Internal));
    }
    #[test]
    fn a_person_who_deletes_a_few_is_never_stopped_and_a_mistake_that_deletes_all_is() {
        let guard = Guard::default();
        for (writes, links, passes) in [
            (10, 10, true),
            (20, 20, true),
            (21, 21, false),
            (21, 2_099, false),
            (21, 2_100, true),
            (100, 10_000, true),
            (101, 10_000, false),
            (u64::MAX, 1_000, false),
        ] {
            assert_eq!(guard.allows(writes, links), passes, "{writes} of {links}");
        }
        assert!(Guard { limit: 0, ..guard }.allows(0, 0));
        assert!(!Guard { limit: 0, ..guard }.allows(1, 99));
        assert!(Guard { limit: 0, share: 100, ..guard }.allows(u64::MAX, 1));
        assert!(
            !Guard { share: 0, ..guard }.allows(21, u64::MAX),
            "of no account may more than the limit go"
        );
    }
}
