//! Records in HubSpot's answers as observations.

use tandem_provider::json::Node;
use tandem_provider::{Observed, Proof, Reference, State, time};

use crate::HubSpot;
use crate::contact::OBJECT;
use crate::requests::value_of;

/// HubSpot's ids are numbers of some eleven digits; what is longer than this is none, and names no other record.
const LONGEST_ID: usize = 64;

/// The property that names the records which a merge made this one of, its own id among them where it kept it. An account that does
/// not have it shows none, and merges are told by webhooks and reads alone.
pub(crate) const MERGED: &str = "hs_merged_object_ids";
/// So many of them are looked at.
const MOST_MERGED: usize = 100;

/// How much of a record an answer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// We asked for everything: what is missing has no value.
    Asked,
    /// The answer to a write, which may show only what was written.
    Returned,
}

impl HubSpot {
    /// A record of an answer. None: it is no record.
    pub(crate) fn observe(&self, record: &Node<'_>, extent: Extent) -> Option<Observed> {
        let id = record.get("id")?.as_id().filter(|id| (1..=LONGEST_ID).contains(&id.len()))?.to_owned();
        if record.get("archived") == Some(&Node::Bool(true)) {
            return Some(Observed::new(OBJECT, id, State::Gone(Proof::Confirmed)));
        }
        let properties = record.get("properties")?.as_object()?;
        let whole = extent == Extent::Asked
            || self
                .contacts
                .mapped()
                .filter(|field| field.reads)
                .all(|field| properties.get(field.name).is_some());
        let document = record.to_bytes();
        let mut observed =
            Observed::new(OBJECT, id, if whole { State::Whole(document) } else { State::Partial(document) });
        observed.stamp = stamp_of(record);
        observed.key = self.key_of(record);
        Some(observed)
    }

    /// As [`observe`](Self::observe), for an answer about the record `id`: after a merge it bears another id.
    pub(crate) fn observe_as(&self, id: &str, record: &Node<'_>, extent: Extent) -> Option<Observed> {
        let observed = self.observe(record, extent)?;
        if observed.id == id {
            return Some(observed);
        }
        let to = Reference { object: OBJECT.to_owned(), id: observed.id };
        Some(Observed { stamp: observed.stamp, ..Observed::new(OBJECT, id, State::Moved(to)) })
    }

    fn key_of(&self, record: &Node<'_>) -> Option<String> {
        let property = self.settings.key_property.as_deref()?;
        value_of(record, property).filter(|key| !key.is_empty()).map(str::to_owned)
    }
}

/// Whoever lives on in this record since a merge. The first that is named counts as the primary one, and the others lead to it, so that
/// whoever is linked to it is linked to what came of the merge, in whatever order they are looked at. HubSpot does not say in which
/// order it names them: at the worst the two records change places, and a person is asked about the other one.
pub(crate) fn merged_into(record: &Node<'_>, id: &str) -> Vec<Observed> {
    let mut named: Vec<&str> = Vec::new();
    for one in value_of(record, MERGED).unwrap_or_default().split(';').map(str::trim) {
        let is_id = (1..=LONGEST_ID).contains(&one.len()) && one.bytes().all(|digit| digit.is_ascii_digit());
        if is_id && !named.contains(&one) && named.len() < MOST_MERGED {
            named.push(one);
        }
    }
    // Merges of before 2025 kept the primary record.
    let primary = if named.contains(&id) { id } else { named.first().copied().unwrap_or(id) };
    let moved = |from: &str, to: &str| {
        let to = Reference { object: OBJECT.to_owned(), id: to.to_owned() };
        Observed::new(OBJECT, from, State::Moved(to))
    };
    let losers = named.into_iter().filter(|one| *one != primary);
    let mut rows: Vec<Observed> = losers.map(|loser| moved(loser, primary)).collect();
    if primary != id {
        rows.push(moved(primary, id));
    }
    rows
}

/// A record that is not there any more.
pub(crate) fn gone(id: &str, proof: Proof) -> Observed {
    Observed::new(OBJECT, id, State::Gone(proof))
}

/// When the record was last modified, on HubSpot's clock.
pub(crate) fn stamp_of(record: &Node<'_>) -> Option<u64> {
    value_of(record, "lastmodifieddate")
        .and_then(time::stamp)
        .or_else(|| record.get("updatedAt").and_then(Node::as_str).and_then(time::stamp))
}
