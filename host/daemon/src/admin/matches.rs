//! Whom a record is: questions for a person, and the report of what a first sync would find.

use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::clash::{Choice, Clash, Rival, Waits};
use tandem_core::id::{ConnectionId, ObjectName};
use tandem_core::link::Fields;
use tandem_core::matching::{Kind, Row, Tally};

use super::view::ReviewView;

/// What waits in a [`ReviewView`] about identity, and what may be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClashView {
    /// The record that waits: `{"internal": "…"}` or `{"external": "…"}`.
    pub waits: Waits,
    /// Whom it may be, or who stands in its way.
    pub rivals: Vec<Rival>,
    /// The choices, as `tandem review decide` takes them.
    pub choices: Vec<String>,
}

impl ReviewView {
    /// A record of which it cannot be told whom it is.
    #[must_use]
    pub fn of_clash(clash: &Clash) -> Option<Self> {
        Some(Self {
            entity: clash.entity()?,
            connection: clash.connection.clone(),
            external: clash.external().cloned(),
            kind: clash.kind.name().to_owned(),
            group: String::new(),
            fields: clash.fields.iter().cloned().collect(),
            internal_values: Fields::new(),
            external_values: Fields::new(),
            since: Some(clash.since),
            why: clash.why.clone(),
            base: std::collections::BTreeMap::new(),
            internal_said: tandem_core::link::Said::default(),
            external_said: tandem_core::link::Said::default(),
            choices: Vec::new(),
            seen: String::new(),
            writes: Vec::new(),
            clash: Some(ClashView {
                waits: clash.waits.clone(),
                rivals: clash.rivals.clone(),
                choices: clash.choices(),
            }),
        })
    }

    /// Whether it is about a record of that id, of either side.
    #[must_use]
    pub fn names(&self, id: &str) -> bool {
        let Some(clash) = &self.clash else { return self.entity.id.as_str() == id };
        let named = |rival: &Rival| {
            rival.internal.as_ref().is_some_and(|internal| internal.as_str() == id)
                || rival.external.as_ref().is_some_and(|external| external.as_str() == id)
        };
        clash.waits.id() == id || clash.rivals.iter().any(named)
    }
}

/// Who a record is, as a person decides it: `{"connection", "object", "waits", "choice"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideMatch {
    /// The connection.
    pub connection: ConnectionId,
    /// The canonical object.
    pub object: ObjectName,
    /// The record that waits.
    pub waits: Waits,
    /// `{"link": "ID"}`, `"apart"`, `"new"` or `"merge"`.
    pub choice: Choice,
}

/// Which report: of one connection and object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchTarget {
    /// The connection.
    pub connection: ConnectionId,
    /// The canonical object.
    pub object: ObjectName,
}

/// How far a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatchState {
    /// Records are gone through.
    Running,
    /// It is there.
    Done,
    /// It could not be made.
    Failed,
}

/// A report of what a first sync would find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchReport {
    /// The connection.
    pub connection: ConnectionId,
    /// The canonical object.
    pub object: ObjectName,
    /// How far it is.
    pub state: MatchState,
    /// When it was begun.
    pub began_at: Millis,
    /// When it ended. None: it runs.
    pub ended_at: Option<Millis>,
    /// Records of the CRM that were gone through.
    pub crm: u64,
    /// Records of System A that were gone through.
    pub system_a: u64,
    /// Calls of the CRM's API that it cost.
    pub calls: u64,
    /// What is going on, or what went wrong and the way out.
    pub detail: String,
    /// The numbers, once it is done.
    pub tally: Tally,
}

/// Rows of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchRows {
    /// In the order in which they were met.
    pub rows: Vec<Row>,
    /// Where the next rows are. None: these were the last.
    pub next: Option<u64>,
}

/// Which rows of a report are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchAsked {
    /// The report.
    pub target: MatchTarget,
    /// Which kind. None: all.
    pub kind: Option<Kind>,
    /// From there, as [`MatchRows::next`] said. 0: from the first.
    pub from: u64,
    /// At most so many.
    pub limit: usize,
}
