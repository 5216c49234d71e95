//! What a first sync would find, without one: which records of the two sides are the same, and what would become of them.
//!
//! Records are gone through once and not kept: of each, a [`Ledger`] keeps digests of what it is known by, sixteen bytes for an
//! identity value and as many for a record of System A that has it. That is enough to tell, at the end, who is there more than
//! once. Nothing here writes or decides; the comparison of two records is the planner's own.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::id::{ConnectionId, EntityKey, ExternalId, InternalId};
use crate::link::{Fields, Link};
use crate::normalise;
use crate::plan::{self, External, ExternalWrite, Internal, InternalWrite, Source, Verdict};
use crate::policy::ObjectPolicy;

/// Identity fields of a record and their normal forms. Empty values identify nobody.
#[must_use]
pub fn identity_of(fields: &Fields, policy: &ObjectPolicy) -> Vec<(String, String)> {
    policy
        .identity
        .iter()
        .filter_map(|pointer| {
            let value = fields.get(pointer)?;
            let normal = match policy.normalise.get(pointer) {
                Some(name) => normalise::normal_form(name, value),
                None => value.clone(),
            };
            match normal {
                serde_json::Value::String(text) if !text.is_empty() => Some((pointer.clone(), text)),
                serde_json::Value::Number(number) => Some((pointer.clone(), number.to_string())),
                _ => None,
            }
        })
        .collect()
}

/// Eight bytes of a digest.
fn digest(parts: &[&str]) -> u64 {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A digest of identity values, in which their order counts for nothing.
#[must_use]
pub fn identity_digest(identity: &[(String, String)]) -> String {
    let mut all: Vec<u64> = identity.iter().map(|(pointer, value)| digest(&[pointer, value])).collect();
    all.sort_unstable();
    all.iter().map(|one| format!("{one:016x}")).collect::<Vec<_>>().join("")
}

/// What a record of either side would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is linked already.
    Linked,
    /// One record on each side: they would be linked.
    Match,
    /// Several records on either side: a person would have to decide.
    Ambiguous,
    /// Only in the CRM.
    OnlyCrm,
    /// Only in System A.
    OnlySystemA,
    /// It has no identity value, so that nothing can be found by it.
    WithoutIdentity,
    /// The CRM's record cannot be taken in as it is.
    Invalid,
}

impl Kind {
    /// All kinds, as they are told.
    pub const ALL: [Self; 7] = [
        Self::Linked,
        Self::Match,
        Self::Ambiguous,
        Self::OnlyCrm,
        Self::OnlySystemA,
        Self::WithoutIdentity,
        Self::Invalid,
    ];

    /// The kind's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Match => "match",
            Self::Ambiguous => "ambiguous",
            Self::OnlyCrm => "only-crm",
            Self::OnlySystemA => "only-system-a",
            Self::WithoutIdentity => "without-identity",
            Self::Invalid => "invalid",
        }
    }
}

/// One record, or a pair, of a report. Ids and names of fields, never values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it would be.
    pub kind: Kind,
    /// In the CRM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalId>,
    /// In System A: the one that it matches, or those that it may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internal: Vec<InternalId>,
    /// What would become of its fields.
    #[serde(default, skip_serializing_if = "Differences::is_empty")]
    pub differences: Differences,
    /// Why, where that is a question.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What would become of the fields of two records that are linked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Different on both sides: a conflict, and who wins it by policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub conflicts: BTreeMap<String, Ruling>,
    /// Written to System A.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_internal: Vec<String>,
    /// Written to the CRM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_external: Vec<String>,
}

impl Differences {
    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who wins a conflict by policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// System A.
    Internal,
    /// The CRM.
    External,
    /// A person decides.
    Review,
}

/// What the planner would do with two records that are linked to each other and were never compared.
#[must_use]
pub fn compare(
    (entity, connection): (&EntityKey, &ConnectionId),
    external: &ExternalId,
    internal: Fields,
    fields: Fields,
    policy: &ObjectPolicy,
    now: Millis,
) -> Differences {
    let mut link = Link::new(entity.clone(), connection.clone());
    link.external = Some(external.clone());
    let internal = Internal::Present { fields: internal, version: 1, changed_at: None };
    let external = External::Whole {
        id: external.clone(),
        fields,
        version: None,
        stamp: None,
        source: Source::Read { began: now },
        changed_at: BTreeMap::new(),
        by_other: false,
    };
    let plan = plan::plan(&link, &internal, &external, policy, now);
    let mut differences = Differences::default();
    for conflict in &plan.conflicts {
        let ruling = match conflict.ruling {
            Verdict::Internal => Ruling::Internal,
            Verdict::External => Ruling::External,
            Verdict::Review => Ruling::Review,
        };
        differences.conflicts.extend(conflict.fields.iter().map(|field| (field.clone(), ruling)));
    }
    if let Some(InternalWrite::Update { changed, .. }) = plan.internal {
        differences.to_internal = changed.into_iter().collect();
    }
    if let Some(ExternalWrite::Update { changed, .. }) = plan.external {
        differences.to_external = changed.into_iter().collect();
    }
    differences
}

/// The most records of one side that a report goes over.
pub const MOST: u32 = 10_000_000;

/// What is kept of the records that were gone through.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Identity values of the CRM's records, with the number of the record.
    identities: Vec<(u64, u32)>,
    /// Records of System A that a record of the CRM may be.
    claims: Vec<(u64, u32)>,
    rows: u32,
}

impl Ledger {
    /// Notes a record of the CRM. Answers its number.
    pub fn note(&mut self, identity: &[(String, String)], claims: &[InternalId]) -> u32 {
        let row = self.rows;
        self.rows = self.rows.saturating_add(1);
        self.identities.extend(identity.iter().map(|(pointer, value)| (digest(&[pointer, value]), row)));
        self.claims.extend(claims.iter().map(|id| (digest(&[id.as_str()]), row)));
        row
    }

    /// How many records were noted.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.rows
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Everything was noted: who is there more than once.
    #[must_use]
    pub fn close(mut self) -> Closed {
        let mut doubled = Vec::new();
        for list in [&mut self.identities, &mut self.claims] {
            list.sort_unstable();
            list.dedup();
            for same in list.chunk_by(|left, right| left.0 == right.0).filter(|same| same.len() > 1) {
                doubled.extend(same.iter().map(|(_, row)| *row));
            }
        }
        doubled.sort_unstable();
        doubled.dedup();
        let mut claimed: Vec<u64> = self.claims.into_iter().map(|(id, _)| id).collect();
        claimed.dedup();
        Closed { doubled, claimed }
    }
}

/// A ledger at its end.
#[derive(Debug)]
pub struct Closed {
    doubled: Vec<u32>,
    claimed: Vec<u64>,
}

impl Closed {
    /// Whether another record of the CRM has the same identity, or may be the same record of System A.
    #[must_use]
    pub fn is_doubled(&self, row: u32) -> bool {
        self.doubled.binary_search(&row).is_ok()
    }

    /// Whether some record of the CRM is, or may be, this record of System A.
    #[must_use]
    pub fn is_claimed(&self, id: &InternalId) -> bool {
        self.claimed.binary_search(&digest(&[id.as_str()])).is_ok()
    }
}

/// Records of System A that were told of already: a digest of each.
#[derive(Debug, Default)]
pub struct Told(HashSet<u64>);

impl Told {
    /// Whether it was not told of before. From now on it was.
    pub fn is_new(&mut self, id: &InternalId) -> bool {
        self.0.insert(digest(&[id.as_str()]))
    }

    /// How many were told of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The numbers of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Records, and pairs, by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// Matches in which at least one field is different on both sides.
    #[serde(default)]
    pub in_conflict: u64,
    /// What would become of the fields of the matches, by field.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldTally>,
}

/// The numbers of one field over all matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldTally {
    /// Conflicts that System A wins.
    pub internal: u64,
    /// Conflicts that the CRM wins.
    pub external: u64,
    /// Conflicts that a person decides.
    pub review: u64,
    /// Writes to System A.
    pub to_internal: u64,
    /// Writes to the CRM.
    pub to_external: u64,
}

impl Tally {
    /// Counts a row.
    pub fn count(&mut self, row: &Row) {
        *self.kinds.entry(row.kind).or_default() += 1;
        if row.kind != Kind::Match {
            return;
        }
        let differences = &row.differences;
        self.in_conflict += u64::from(!differences.conflicts.is_empty());
        for (field, ruling) in &differences.conflicts {
            let tally = self.fields.entry(field.clone()).or_default();
            match ruling {
                Ruling::Internal => tally.internal += 1,
                Ruling::External => tally.external += 1,
                Ruling::Review => tally.review += 1,
            }
        }
        for field in &differences.to_internal {
            self.fields.entry(field.clone()).or_default().to_internal += 1;
        }
        for field in &differences.to_external {
            self.fields.entry(field.clone()).or_default().to_external += 1;
        }
    }

    /// How many of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::{FieldPolicy, OnConflict};

    fn mail(value: &str) -> Vec<(String, String)> {
        vec![("/email".to_owned(), value.to_owned())]
    }

    fn policy() -> ObjectPolicy {
        let mut policy = ObjectPolicy::recommended();
        policy.mapped = ["/email", "/phone", "/city", "/title"].map(String::from).to_vec();
        policy.identity = vec!["/email".to_owned()];
        policy.normalise.insert("/email".into(), "email".into());
        policy.fields.insert(
            "/city".into(),
            FieldPolicy { on_conflict: OnConflict::Internal, ..FieldPolicy::default() },
        );
        policy
    }

    fn fields(members: &[(&str, &str)]) -> Fields {
        members.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }

    #[test]
    fn identity_is_the_normal_form_and_emptiness_is_none() {
        let identity = |value| identity_of(&Fields::from([("/email".to_owned(), value)]), &policy());
        assert_eq!(identity(json!(" Ada@X.example")), mail("ada@x.example"));
        assert_eq!(identity(json!(7)), [("/email".to_owned(), "7".to_owned())]);
        for none in [json!(""), json!(null), json!(["a"])] {
            assert_eq!(identity(none), []);
        }
        assert_eq!(identity_of(&Fields::new(), &policy()), []);
    }

    #[test]
    fn the_digest_of_an_identity_is_that_of_its_values_in_any_order() {
        let two = |a: &str, b: &str| vec![("/a".to_owned(), a.to_owned()), ("/b".to_owned(), b.to_owned())];
        let mut turned = two("1", "2");
        turned.reverse();
        assert_eq!(identity_digest(&two("1", "2")), identity_digest(&turned));
        assert_ne!(identity_digest(&two("1", "2")), identity_digest(&two("2", "1")));
        assert_ne!(identity_digest(&mail("a")), identity_digest(&mail("b")));
    }

    #[test]
    fn what_would_become_of_a_pair_is_what_the_planner_says() {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "x".into() };
        let differences = compare(
            (&entity, &"acme".into()),
            &"p-1".into(),
            fields(&[("/email", "A@x"), ("/phone", "1"), ("/city", "Ulm")]),
            fields(&[("/email", "a@x"), ("/phone", "2"), ("/city", "Bonn"), ("/title", "Dr")]),
            &policy(),
            5,
        );
        assert_eq!(
            differences,
            Differences {
                conflicts: [("/phone".to_owned(), Ruling::Review), ("/city".to_owned(), Ruling::Internal)]
                    .into(),
                to_internal: vec!["/title".to_owned()],
                to_external: vec!["/city".to_owned()],
            }
        );
        assert!(!differences.is_empty());
        let same = fields(&[("/email", "a@x"), ("/phone", "1")]);
        let none = compare((&entity, &"acme".into()), &"p-1".into(), same.clone(), same, &policy(), 5);
        assert!(none.is_empty());
    }

    #[test]
    fn kinds_are_told_by_the_words_that_they_are_kept_by() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn each_record_is_told_of_once() {
        let mut told = Told::default();
        assert!(told.is_empty());
        assert_eq!(["x", "y", "x"].map(|id| told.is_new(&id.into())), [true, true, false]);
        assert_eq!((told.len(), told.is_empty()), (2, false));
    }

    #[test]
    fn a_ledger_tells_who_is_there_more_than_once() {
        let mut ledger = Ledger::default();
        assert!(ledger.is_empty());
        let rows = [
            ledger.note(&mail("a"), &["x".into()]),
            ledger.note(&mail("b"), &[]),
            ledger.note(&mail("c"), &["y".into()]),
            ledger.note(&mail("b"), &[]),
            // Another identity that says the same record of System A.
            ledger.note(&mail("d"), &["y".into()]),
            ledger.note(&[], &[]),
            ledger.note(&[], &[]),
            // Twice the same of one record is not two.
            ledger.note(&[mail("e"), mail("e")].concat(), &["z".into(), "z".into()]),
        ];
        assert_eq!((ledger.len(), ledger.is_empty()), (8, false));
        let closed = ledger.close();
        let doubled = rows.map(|row| closed.is_doubled(row));
        assert_eq!(doubled, [false, true, true, true, true, false, false, false]);
        assert!(["x", "y", "z"].iter().all(|id| closed.is_claimed(&(*id).into())));
        assert!(!closed.is_claimed(&"w".into()));
    }

    #[test]
    fn a_tally_counts_kinds_and_the_fields_of_matches_only() {
        let row = |kind, conflicts: &[(&str, Ruling)]| Row {
            kind,
            external: Some("p-1".into()),
            internal: vec!["x".into()],
            differences: Differences {
                conflicts: conflicts.iter().map(|(name, ruling)| ((*name).to_owned(), *ruling)).collect(),
                to_internal: vec!["/title".to_owned()],
                to_external: vec!["/city".to_owned()],
            },
            why: String::new(),
        };
        let mut tally = Tally::default();
        tally.count(&row(Kind::Match, &[("/phone", Ruling::Review), ("/city", Ruling::Internal)]));
        tally.count(&row(Kind::Match, &[("/phone", Ruling::External)]));
        tally.count(&row(Kind::Match, &[]));
        tally.count(&row(Kind::Ambiguous, &[("/phone", Ruling::Review)]));
        assert_eq!(Kind::ALL.map(|kind| tally.of(kind)), [0, 3, 1, 0, 0, 0, 0], "by kind, as they are told");
        assert_eq!(tally.in_conflict, 2);
        let phone = FieldTally { review: 1, external: 1, ..FieldTally::default() };
        assert_eq!(tally.fields.get("/phone"), Some(&phone));
        let city = FieldTally { internal: 1, to_external: 3, ..FieldTally::default() };
        assert_eq!(tally.fields.get("/city"), Some(&city));
        assert_eq!(tally.fields.get("/title").map(|title| title.to_internal), Some(3));
    }
}
