//! A link: one internal record and one record of a CRM, and what both had when they last agreed.
//!
//! Invariants: the base is a *pair* for each field, and each side is compared with its own half only. A half moves only by
//! agreement, by a write that was answered, or by a decision in review.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Millis;
use crate::id::{ConnectionId, EntityKey, ExternalId, ExternalKey};

/// Canonical fields by JSON pointer (`/email`, `/custom/tier`). A missing entry is absent; `null` is null.
pub type Fields = BTreeMap<String, Value>;

/// What both sides had of one field when they last agreed. `None`: absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// System A's value.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none", with = "present")]
    pub internal: Option<Value>,
    /// The CRM's value, in canonical form.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none", with = "present")]
    pub external: Option<Value>,
    /// The CRM's value is what was sent; it has not been seen since.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
    /// System A's value came from this CRM: it was written there from here, or the CRM had it by itself.
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
}

/// The pairs of a link by field. Copies share them until one of them is changed: a plan copies its link at every step and changes
/// few fields, or none.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Pair>", into = "BTreeMap<String, Pair>")]
pub struct Base(Arc<BTreeMap<String, Pair>>);

impl Deref for Base {
    type Target = BTreeMap<String, Pair>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Base {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl PartialEq for Base {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl From<BTreeMap<String, Pair>> for Base {
    fn from(pairs: BTreeMap<String, Pair>) -> Self {
        Self(Arc::new(pairs))
    }
}

impl From<Base> for BTreeMap<String, Pair> {
    fn from(base: Base) -> Self {
        Arc::unwrap_or_clone(base.0)
    }
}

/// Keeps `null` and absent apart: a present member is always `Some`.
mod present {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(super) fn serialize<S: Serializer>(value: &Option<Value>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().unwrap_or(&Value::Null).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }
}

/// Where a link stands in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Both records are known, or one of them is still to be made.
    #[default]
    Active,
    /// Deleted. Comes back only by a direct read, as a new incarnation.
    Tombstone {
        /// Which side deleted first.
        by: Side,
        /// When it was seen.
        at: Millis,
    },
    /// Cut by policy; hints of either side change nothing.
    Detached {
        /// When it was cut.
        at: Millis,
    },
    /// Deleted on one side and left alone by policy: made again there when the other side changes.
    Lapsed {
        /// Which side deleted.
        by: Side,
        /// When it was seen.
        at: Millis,
    },
}

/// A side of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// System A.
    Internal,
    /// The CRM.
    External,
}

impl Side {
    /// The side's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

/// The name of the group that is the record as a whole: a deletion against a change.
pub const RECORD: &str = "";

/// A field group that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The fields of the group.
    pub fields: BTreeSet<String>,
    /// What System A has.
    pub internal: Fields,
    /// What the CRM has.
    pub external: Fields,
    /// When it was first held.
    pub since: Millis,
    /// Why, in words.
    pub why: String,
    /// Who is known to have given System A's values.
    #[serde(default, skip_serializing_if = "Said::is_unknown")]
    pub internal_said: Said,
    /// Who is known to have given the CRM's values.
    #[serde(default, skip_serializing_if = "Said::is_unknown")]
    pub external_said: Said,
}

/// Who gave a value, and when, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Who: the origin of a record of System A; of a CRM what it calls them, "own" or "other".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When: the time of the record in System A; of a CRM, when the edit was made, or when it was noticed if nothing tells that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
}

impl Said {
    /// Nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.by.is_none() && self.at.is_none()
    }
}

/// How often a field went back and forth: the loop breaker's memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alternation {
    /// Times of the last writes and the side that was written, oldest first, within the window.
    pub writes: Vec<(Millis, Side)>,
    /// Times at which an edit of the CRM that a write of ours overtook was given back to it, oldest first, within the window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restored: Vec<Millis>,
}

/// A deletion that waits to be confirmed, or the return of a record that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// When the record was first missed.
    pub since: Millis,
    /// How often it was looked for since.
    pub looks: u32,
    /// When it was looked for last.
    #[serde(default)]
    pub last: Millis,
    /// System A's record was deleted then: what is there by the time that this is confirmed came back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// It was shown after its deletion, and not missed: its return is in doubt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shown: bool,
}

/// What a person decided about a field group, until it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Whose values were chosen.
    pub choice: Chosen,
    /// The values that were chosen; a field that is missing is cleared.
    #[serde(default)]
    pub values: Fields,
    /// Fields that System A has still to get.
    #[serde(default)]
    pub to_internal: BTreeSet<String>,
    /// Fields that the CRM has still to get.
    #[serde(default)]
    pub to_external: BTreeSet<String>,
}

/// Whose values were chosen in review.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chosen {
    /// System A's.
    Internal,
    /// The CRM's.
    External,
    /// Others, given by the person.
    Value,
}

/// Our own last write to the CRM, until the record is seen again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnWrite {
    /// The version that it was answered with.
    #[serde(default)]
    pub version: Option<String>,
    /// The stamp that it was answered with.
    #[serde(default)]
    pub stamp: Option<u64>,
    /// When its answer was folded in.
    #[serde(default)]
    pub at: Millis,
    /// The fields that it wrote, and those of the writes before it that it is known to have followed without a gap.
    #[serde(default)]
    pub fields: BTreeSet<String>,
}

/// The span in which an edit of a field in the CRM went under unseen: between the state that was last seen and our own write.
/// Both ends are stamps of the record, on the CRM's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overwrite {
    /// Of the state that was last seen before the write: what was edited until then was seen.
    #[serde(rename = "f")]
    pub after: u64,
    /// That the write left: what was edited later was not overwritten by it.
    #[serde(rename = "u")]
    pub until: u64,
    /// What the CRM had before the write, as far as was known.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none", with = "present")]
    pub before: Option<Value>,
    /// What was sent, where the CRM made something else of it.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Value>,
    /// When the newest edit was made that was found in this span.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub found: Option<u64>,
}

/// An edit in the CRM that our own write overtook, until it is settled what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overtaken {
    /// What somebody had made of the field. None: it was cleared.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    pub value: Option<Value>,
    /// What the field had before that edit and before our write.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
    pub before: Option<Value>,
    /// When it was made, on the CRM's clock.
    pub at: Millis,
    /// It was ruled that it is written back to both sides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands: bool,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The internal record.
    pub entity: EntityKey,
    /// The customer's account.
    pub connection: ConnectionId,
    /// The CRM's record. None: not created yet.
    pub external: Option<ExternalId>,
    /// Counts re-creations after deletion.
    #[serde(default)]
    pub incarnation: u32,
    /// Where the link stands in its life.
    #[serde(default)]
    pub life: Life,
    /// The base. A mapped field without an entry has never been compared.
    #[serde(default)]
    pub base: Base,
    /// Version of the internal record that was last seen.
    #[serde(default)]
    pub internal_version: Option<u64>,
    /// Version of the external record that was last seen: equality only.
    #[serde(default)]
    pub external_version: Option<String>,
    /// Stamp of the external record that was last seen: order.
    #[serde(default)]
    pub external_stamp: Option<u64>,
    /// The provider's own bytes.
    #[serde(default)]
    pub keep: Option<Vec<u8>>,
    /// Fields whose reference is not linked yet.
    #[serde(default)]
    pub owed: BTreeSet<String>,
    /// Held field groups by group name; the group [`RECORD`] is the record as a whole.
    #[serde(default)]
    pub held: BTreeMap<String, Held>,
    /// Frozen fields: they went back and forth too often. Value: why.
    #[serde(default)]
    pub frozen: BTreeMap<String, String>,
    /// The loop breaker's memory, by field.
    #[serde(default)]
    pub alternations: BTreeMap<String, Alternation>,
    /// Fields that the CRM refused and that are left out until they change.
    #[serde(default)]
    pub refused: BTreeMap<String, Value>,
    /// The external record was missed once.
    #[serde(default)]
    pub doubt: Option<Doubt>,
    /// What was decided in review and is not written yet, by group name.
    #[serde(default)]
    pub decided: BTreeMap<String, Decided>,
    /// Our own last write to the CRM, until the record is seen again.
    #[serde(default)]
    pub own: Option<OwnWrite>,
    /// What the CRM made of values that we sent, by field, until System A has it too: nobody edited the field there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rewritten: BTreeMap<String, Value>,
    /// The internal version that our own last write to System A made.
    #[serde(default)]
    pub own_internal: Option<u64>,
    /// Our last writes of each field to the CRM, oldest first, where its events tell the times of edits: what was edited in
    /// between without our seeing it is found by them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overwrites: BTreeMap<String, Vec<Overwrite>>,
    /// Edits in the CRM that our writes overtook, by field, until it is settled what becomes of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overtaken: BTreeMap<String, Overtaken>,
    /// The external half is not to be believed: the next plan has to see the record.
    #[serde(default)]
    pub look: bool,
    /// The customer's rule that left the record out when it was judged last. A deletion has no document to be judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<String>,
    /// Up to which of the moves of its object's fields it was written: see [`Places`](crate::places::Places).
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub moves: u32,
    /// When the link was last committed.
    #[serde(default)]
    pub committed_at: Millis,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_none_yet(moves: &u32) -> bool {
    *moves == 0
}

impl Link {
    /// A link that knows its internal record only.
    #[must_use]
    pub fn new(entity: EntityKey, connection: ConnectionId) -> Self {
        Self {
            entity,
            connection,
            external: None,
            incarnation: 0,
            life: Life::Active,
            base: Base::default(),
            internal_version: None,
            external_version: None,
            external_stamp: None,
            keep: None,
            owed: BTreeSet::new(),
            held: BTreeMap::new(),
            frozen: BTreeMap::new(),
            alternations: BTreeMap::new(),
            refused: BTreeMap::new(),
            doubt: None,
            decided: BTreeMap::new(),
            own: None,
            rewritten: BTreeMap::new(),
            own_internal: None,
            overwrites: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            look: false,
            outside: None,
            moves: 0,
            committed_at: 0,
        }
    }

    /// The external record's key, once there is one.
    #[must_use]
    pub fn external_key(&self) -> Option<ExternalKey> {
        self.external.clone().map(|id| ExternalKey {
            connection: self.connection.clone(),
            object: self.entity.object.clone(),
            id,
        })
    }

    /// Notes who gave the values that are held. Values that `before` held already keep who gave them: a new look at the same
    /// value is no new word.
    pub fn sign(&mut self, before: &Self, internal: &Said, external: &Said) {
        for (group, held) in &mut self.held {
            let known = before.held.get(group);
            held.internal_said = match known.filter(|known| known.internal == held.internal) {
                Some(known) => known.internal_said.clone(),
                None => internal.clone(),
            };
            held.external_said = match known.filter(|known| known.external == held.external) {
                Some(known) => known.external_said.clone(),
                None => external.clone(),
            };
        }
    }

    /// Both records are gone: nothing is remembered but ids, versions and stamps.
    pub(crate) fn bury(&mut self, by: Side, at: Millis) {
        self.forget();
        self.life = Life::Tombstone { by, at };
    }

    /// Forgets everything about the values of the two records.
    pub(crate) fn forget(&mut self) {
        self.base = Base::default();
        self.owed.clear();
        self.held.clear();
        self.decided.clear();
        self.frozen.clear();
        self.alternations.clear();
        self.refused.clear();
        self.doubt = None;
        self.own = None;
        self.rewritten.clear();
        self.overwrites.clear();
        self.overtaken.clear();
        self.look = false;
        self.outside = None;
    }

    /// Forgets the record in the CRM and everything about the values of the two; the internal record is as it was.
    pub(crate) fn begin_again(&mut self) {
        self.forget();
        self.life = Life::Active;
        self.external = None;
        self.external_version = None;
        self.external_stamp = None;
        self.keep = None;
    }

    /// The key that Tandem stores in the CRM's record, where it has a place for it. Stable for the link's incarnation.
    #[must_use]
    pub fn key(&self) -> String {
        if self.incarnation == 0 {
            self.entity.id.to_string()
        } else {
            format!("{}.{}", self.entity.id, self.incarnation)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entity() -> EntityKey {
        EntityKey { scope: "acme".into(), object: "contact".into(), id: "i1".into() }
    }

    fn base(phone: &str) -> Base {
        let half = Some(json!(phone));
        let pair = Pair { internal: half.clone(), external: half, assumed: false, given: false };
        Base::from(BTreeMap::from([("/phone".to_owned(), pair)]))
    }

    #[test]
    fn bases_are_the_same_when_their_pairs_are_wherever_they_are_kept() {
        let one = base("1");
        assert_eq!(one, one.clone(), "shared");
        assert_eq!(one, base("1"), "kept apart");
        assert_ne!(one, base("2"));
        assert_ne!(one, Base::default());
    }

    #[test]
    fn a_copy_of_a_base_that_is_changed_leaves_the_other_alone() {
        let one = base("1");
        let mut copy = one.clone();
        copy.remove("/phone");
        assert!(copy.is_empty());
        assert_eq!(one, base("1"));
        assert_eq!(BTreeMap::from(one.clone()), *one);
    }

    #[test]
    fn null_absent_and_empty_are_told_apart_after_being_written_down() {
        for (value, written) in [
            (None, r#"{"/phone":{"e":"+1"}}"#),
            (Some(Value::Null), r#"{"/phone":{"i":null,"e":"+1"}}"#),
            (Some(json!("")), r#"{"/phone":{"i":"","e":"+1"}}"#),
        ] {
            let pair = Pair { internal: value, external: Some(json!("+1")), assumed: false, given: false };
            let base = Base::from(BTreeMap::from([("/phone".to_owned(), pair)]));
            let text = serde_json::to_string(&base).unwrap();
            assert_eq!(text, written);
            assert_eq!(serde_json::from_str::<Base>(&text).unwrap(), base);
        }
    }

    #[test]
    fn what_is_known_of_who_said_it_and_of_moves_is_written_down_and_nothing_that_is_not() {
        let written = |link: &Link| {
            let text = serde_json::to_value(link).unwrap();
            assert_eq!(serde_json::from_value::<Link>(text.clone()).unwrap(), *link);
            text
        };
        let mut link = Link::new(entity(), "c".into());
        assert_eq!(written(&link).get("moves"), None);
        link.moves = 3;
        let (by, at) = (Some("other".to_owned()), Some(7));
        link.held.insert(
            "/phone".into(),
            Held {
                fields: BTreeSet::new(),
                internal: Fields::new(),
                external: Fields::new(),
                since: 1,
                why: String::new(),
                internal_said: Said { by, at: None },
                external_said: Said { by: None, at },
            },
        );
        link.held
            .insert("/city".into(), Held { internal_said: Said::default(), ..link.held["/phone"].clone() });
        let text = written(&link);
        assert_eq!(text["held"]["/city"].get("internal_said"), None);
        assert_eq!(
            (&text["moves"], &text["held"]["/phone"]["internal_said"]["by"]),
            (&json!(3), &json!("other"))
        );
    }

    #[test]
    fn the_key_of_a_record_is_its_id_until_it_is_made_again() {
        let mut link = Link::new(entity(), "c".into());
        assert_eq!(link.key(), "i1");
        link.incarnation = 2;
        assert_eq!(link.key(), "i1.2");
    }

    #[test]
    fn an_external_record_is_addressed_by_connection_object_and_id() {
        let mut link = Link::new(entity(), "c".into());
        assert_eq!(link.external_key(), None);
        link.external = Some("7".into());
        let key = link.external_key().unwrap();
        assert_eq!(key.to_string(), "c/contact/7");
        assert_eq!(link.entity.to_string(), "acme/contact/i1");
    }

    #[test]
    fn a_tombstone_keeps_ids_versions_and_stamps_and_no_value() {
        let names = || BTreeSet::from(["/phone".to_owned()]);
        let values = || Fields::from([("/phone".to_owned(), json!("SECRET"))]);
        let mut kept = Link::new(entity(), "c".into());
        kept.external = Some("7".into());
        kept.internal_version = Some(3);
        kept.external_version = Some("v".into());
        kept.external_stamp = Some(5);
        kept.incarnation = 1;
        let mut link = kept.clone();
        link.base = base("SECRET");
        link.owed = names();
        let held = Held {
            fields: names(),
            internal: values(),
            external: values(),
            since: 1,
            why: "both sides changed it".into(),
            internal_said: Said { by: Some("api".into()), at: Some(1) },
            external_said: Said::default(),
        };
        link.held.insert("/phone".into(), held);
        let decided =
            Decided { choice: Chosen::Value, values: values(), to_internal: names(), to_external: names() };
        link.decided.insert("/phone".into(), decided);
        link.frozen.insert("/phone".into(), "back and forth".into());
        let write = Alternation { writes: vec![(1, Side::Internal)], ..Alternation::default() };
        link.alternations.insert("/phone".into(), write);
        link.refused = values();
        link.doubt = Some(Doubt { since: 1, looks: 1, last: 1, ..Doubt::default() });
        link.own = Some(OwnWrite::default());
        link.rewritten = values();
        link.look = true;
        link.outside = Some("staff".into());
        link.bury(Side::External, 9);
        kept.life = Life::Tombstone { by: Side::External, at: 9 };
        assert_eq!(link, kept);
        assert_eq!((Side::Internal.name(), Side::External.name()), ("internal", "external"));
    }
}
