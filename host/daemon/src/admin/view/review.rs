//! What waits for a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId};
use tandem_core::link::{Fields, Held, Link, RECORD, Said, Side};

use super::PairView;

/// A field group or field that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewView {
    /// The internal record.
    pub entity: EntityKey,
    /// The connection.
    pub connection: ConnectionId,
    /// The CRM's record.
    pub external: Option<ExternalId>,
    /// "held" (both sides changed it; decide) or "frozen" (it went back and forth; unfreeze). Open: whoever does not know a kind
    /// shows `why` and the choices.
    pub kind: String,
    /// The group's name, or the frozen field.
    pub group: String,
    /// The fields.
    pub fields: Vec<String>,
    /// What System A has. Empty when frozen.
    pub internal_values: Fields,
    /// What the CRM has. Empty when frozen.
    pub external_values: Fields,
    /// Since when. None when frozen.
    pub since: Option<Millis>,
    /// Why, in words.
    pub why: String,
    /// What both sides had when they last agreed, by field.
    #[serde(default)]
    pub base: BTreeMap<String, PairView>,
    /// Who gave System A's values, and when, as far as it is known.
    #[serde(default)]
    pub internal_said: Said,
    /// Who gave the CRM's values (what it calls them, "own" or "other"), and when, or when that was noticed, as far as it is known.
    #[serde(default)]
    pub external_said: Said,
    /// What there is to choose from: "internal", "external", "value", "unfreeze".
    #[serde(default)]
    pub choices: Vec<String>,
    /// Stands for the values as they are here: a decision that names it is refused once they are others. Empty when frozen.
    #[serde(default)]
    pub seen: String,
    /// How a frozen field went back and forth, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<WriteView>,
    /// Whom the record may be, where that is the question: the kind is "duplicate", "ambiguous", "taken" or "merged" then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clash: Option<super::super::matches::ClashView>,
}

/// A write of a field that went back and forth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteView {
    /// When.
    pub at: Millis,
    /// The side that was written.
    pub side: Side,
}

/// What became of a decision about many groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedMany {
    /// Groups that match. Nothing more is said when it was only asked how many there are.
    pub matching: u64,
    /// Records that they belong to.
    pub records: u64,
    /// Groups that were decided.
    pub decided: u64,
    /// Groups that were not, one line each.
    pub refused: Vec<String>,
}

impl ReviewView {
    /// Everything in a link that waits for a person.
    #[must_use]
    pub fn of(link: &Link) -> Vec<Self> {
        let view = |kind: &str, group: &str, fields: Vec<String>| Self {
            entity: link.entity.clone(),
            connection: link.connection.clone(),
            external: link.external.clone(),
            kind: kind.to_owned(),
            group: group.to_owned(),
            internal_values: Fields::new(),
            external_values: Fields::new(),
            since: None,
            why: String::new(),
            base: fields
                .iter()
                .filter_map(|field| Some((field.clone(), link.base.get(field)?.into())))
                .collect(),
            fields,
            internal_said: Said::default(),
            external_said: Said::default(),
            choices: Vec::new(),
            seen: String::new(),
            writes: Vec::new(),
            clash: None,
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let held = link.held.iter().map(|(group, held)| Self {
            internal_values: held.internal.clone(),
            external_values: held.external.clone(),
            since: Some(held.since),
            why: held.why.clone(),
            internal_said: held.internal_said.clone(),
            external_said: held.external_said.clone(),
            // A deletion against a change has no third value.
            choices: words(if group == RECORD {
                &["internal", "external"]
            } else {
                &["internal", "external", "value"]
            }),
            seen: seen(held),
            ..view("held", group, held.fields.iter().cloned().collect())
        });
        let frozen = link.frozen.iter().map(|(field, why)| Self {
            why: why.clone(),
            choices: words(&["unfreeze"]),
            writes: link
                .alternations
                .get(field)
                .into_iter()
                .flat_map(|known| &known.writes)
                .map(|(at, side)| WriteView { at: *at, side: *side })
                .collect(),
            ..view("frozen", field, vec![field.clone()])
        });
        held.chain(frozen).collect()
    }
}

/// Stands for the values of a held group as they are: half of it for System A's, half for the CRM's.
#[must_use]
pub fn seen(held: &Held) -> String {
    use sha2::{Digest as _, Sha256};
    let half = |values: &Fields| {
        let bytes = serde_json::to_vec(&(&held.fields, values)).unwrap_or_default();
        Sha256::digest(bytes).iter().take(4).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    };
    half(&held.internal) + &half(&held.external)
}
