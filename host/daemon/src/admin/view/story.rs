//! What happened to a record, and what was known of it at a moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::id::ConnectionId;
use tandem_core::plan::Differs;

use super::PairView;
use crate::admin::past::Past;
use crate::store::{Before, Exchanged, HistoryEntry, Noticed, Sight};

/// One thing that happened to a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    /// When.
    pub at: Millis,
    /// Through which connection.
    pub connection: ConnectionId,
    /// What: "wrote-external", "conflict" and so on.
    pub what: String,
    /// Why, in words.
    pub why: String,
    /// What brought it about.
    pub cause: String,
    /// Provider id, version and digest prefix.
    pub provider: String,
    /// API calls that it cost.
    pub calls: u32,
    /// The base of each changed field afterwards.
    pub delta: BTreeMap<String, PairView>,
    /// The base of changed fields before. One that is not here had never been compared, or the entry is of an older version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, PairView>,
    /// Which side of a written field was another than when both last agreed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub differs: BTreeMap<String, Differs>,
    /// Changed fields whose values were too large to be kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,
    /// Other fields that it is about: in conflict, held, refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// What edits that a write of Tandem's overtook had made of fields, beside what System A had. Null: too large to be kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overtaken: BTreeMap<String, Option<PairView>>,
    /// How the work came about that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noticed: Option<Noticed>,
    /// What was seen of the CRM's record last. None: it was not needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Sight>,
    /// What a rule said, with its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruling: Option<String>,
    /// What was said to the CRM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exchanges: Vec<Exchanged>,
}

/// What was known of a link at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastView {
    /// The connection.
    pub connection: ConnectionId,
    /// What both sides had when they had last agreed then, by field.
    pub base: BTreeMap<String, PairView>,
    /// Fields of which that is not known any more.
    pub unknown: Vec<String>,
    /// The moment that the history reaches back to, where that is too late. Then nothing is known.
    pub short_of: Option<Millis>,
    /// The link was not there yet.
    pub is_before_first: bool,
    /// What had happened last.
    pub last: Option<HistoryView>,
}

impl HistoryView {
    /// Leaves out of an entry what it says of other fields.
    pub fn narrow(&mut self, about: impl Fn(&str) -> bool) {
        self.delta.retain(|field, _| about(field));
        self.before.retain(|field, _| about(field));
        self.differs.retain(|field, _| about(field));
        self.overtaken.retain(|field, _| about(field));
        self.cut.retain(|field| about(field));
        self.fields.retain(|field| about(field));
    }
}

impl PastView {
    /// What was known of a link, of all its fields or of one.
    #[must_use]
    pub fn of(
        connection: &ConnectionId,
        past: &Past,
        last: Option<&HistoryEntry>,
        about: impl Fn(&str) -> bool,
    ) -> Self {
        Self {
            connection: connection.clone(),
            base: past
                .base
                .iter()
                .filter(|(field, _)| about(field))
                .map(|(field, pair)| (field.clone(), pair.into()))
                .collect(),
            unknown: past.unknown.iter().filter(|field| about(field)).cloned().collect(),
            short_of: past.short_of,
            is_before_first: past.is_before_first,
            last: last.map(HistoryView::from),
        }
    }
}

impl From<&HistoryEntry> for HistoryView {
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            at: entry.at,
            connection: entry.connection.clone(),
            what: entry.what.clone(),
            why: entry.why.clone(),
            cause: entry.cause.clone(),
            provider: entry.provider.clone(),
            calls: entry.calls,
            delta: entry
                .delta
                .iter()
                .filter(|moved| !moved.cut)
                .map(|moved| {
                    (moved.field.clone(), moved.after.as_ref().map_or_else(PairView::default, Into::into))
                })
                .collect(),
            before: entry
                .delta
                .iter()
                .filter_map(|moved| match &moved.before {
                    Before::Pair(pair) => Some((moved.field.clone(), pair.into())),
                    Before::Untold | Before::Nothing => None,
                })
                .collect(),
            differs: entry
                .delta
                .iter()
                .filter_map(|moved| Some((moved.field.clone(), moved.differs?)))
                .collect(),
            cut: entry.delta.iter().filter(|moved| moved.cut).map(|moved| moved.field.clone()).collect(),
            fields: entry.fields.clone(),
            overtaken: entry
                .overtaken
                .iter()
                .map(|(field, pair)| (field.clone(), pair.as_ref().map(Into::into)))
                .collect(),
            noticed: entry.noticed.clone(),
            seen: entry.seen.clone(),
            ruling: entry.ruling.clone(),
            exchanges: entry.exchanges.clone(),
        }
    }
}
