//! What happened to a record: one entry for each write and each decision, with the trail that led to it.
//!
//! Invariants:
//! - Values of a record stand in deltas and nowhere else; words never quote them.
//! - An entry that moved the base says what each field was before and what it is afterwards, so that what was known at any
//!   moment that the history reaches back to follows from the base of today, however many older entries are gone.
//! - An entry is bounded ([`DELTA_BYTES`]): a value that has no room is left out, and the entry says so.
//!
//! It keeps and never judges: what was known at a moment is worked out by whoever shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey};
use tandem_core::link::{Base, Link, Pair};
use tandem_core::plan::Differs;

use super::Class;

/// About how many bytes of values one entry's delta has at most. An entity's history has 32 KiB.
pub const DELTA_BYTES: u64 = 12 << 10;

/// One thing that happened to a record.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    /// The record.
    pub entity: EntityKey,
    /// Through which connection.
    pub connection: ConnectionId,
    /// When.
    pub at: Millis,
    /// "wrote-internal", "wrote-external", "created-internal", "created-external", "removed-…", "linked", "agreed", "settled",
    /// "conflict", "held", "overtaken", "decided", "frozen", "unfrozen", "skipped", "refused-fields", "looked", "doubted", "failed",
    /// "unknown", "set-aside".
    pub what: String,
    /// Why, in words, without record contents.
    pub why: String,
    /// What brought it about: the hint's word.
    pub cause: String,
    /// Provider id, version and digest prefix: `hubspot@0.1.0#1a2b3c4d`.
    pub provider: String,
    /// API calls that it cost.
    pub calls: u32,
    /// What moved of the base.
    pub delta: Vec<Moved>,
    /// Fields that it is about besides those of the delta: in conflict, held, refused.
    pub fields: Vec<String>,
    /// What edits in the CRM that a write of ours overtook had made of fields, beside what System A had: it stands nowhere else
    /// any more. None: it had no room.
    pub overtaken: BTreeMap<String, Option<Pair>>,
    /// How the work came about that it is part of.
    pub noticed: Option<Noticed>,
    /// What was seen of the CRM's record last. None: nothing was needed.
    pub seen: Option<Sight>,
    /// What the customer's rules or the provider's said, with the rule's name.
    pub ruling: Option<String>,
    /// What was said to the CRM since the entry before.
    pub exchanges: Vec<Exchanged>,
    /// The link was not in the store before: there is nothing older to know of it.
    pub is_first: bool,
}

/// A field whose base moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The field.
    pub field: String,
    /// Which side differed from its half of the base when it was planned. None: it moved without a plan of its own, or the entry is
    /// one of an older version.
    pub differs: Option<Differs>,
    /// What the base had.
    pub before: Before,
    /// What it has now. None: nothing is known of the field any more.
    pub after: Option<Pair>,
    /// The values had no room; `before` and `after` are empty.
    pub cut: bool,
}

/// What the base had of a field before it moved.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    /// The entry does not say: it is one of an older version.
    Untold,
    /// The field had never been compared.
    Nothing,
    /// This.
    Pair(Pair),
}

/// How a piece of work came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// The number of its oldest hint. Entries with the same number belong to one piece of work.
    pub work: u64,
    /// When its oldest hint was noticed.
    pub at: Millis,
    /// When the work began: from `at` to here it waited.
    pub began: Millis,
    /// How urgent it was.
    pub class: Class,
    /// How many hints were merged.
    pub hints: u32,
    /// Tries in vain before this one.
    pub attempts: u32,
    /// Words of the other hints, where they differ from the entry's cause.
    pub also: Vec<String>,
    /// How much the hints said of the CRM's record. None: nothing.
    pub said: Option<Extent>,
    /// Who changed the CRM's record, where the hints say it: "own", what the CRM calls them, or "other".
    pub author: Option<String>,
}

/// How much was seen of a record of the CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Something happened to it, no more.
    Touched,
    /// Some fields.
    Partial,
    /// All mapped fields.
    Whole,
    /// It is gone.
    Gone,
    /// It lives on under another id.
    Moved,
}

/// Where an observation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A webhook.
    Event,
    /// A row of a listing.
    Listing,
    /// A direct read.
    Read,
    /// The answer to our own write.
    Answer,
}

/// An observation, without what was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// How much of the record.
    pub extent: Extent,
    /// Where it comes from, as far as it is known.
    pub origin: Option<Origin>,
    /// The record's version, for equality.
    pub version: Option<String>,
    /// The record's stamp, for order.
    pub stamp: Option<u64>,
}

/// One exchange with the CRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// "read", "update", "create", "find", "remove".
    pub operation: String,
    /// Requests that were sent.
    pub requests: u32,
    /// The status of the last answer. 0: there was none.
    pub status: u16,
    /// From before the first request to after the last answer, in milliseconds.
    pub took_ms: u64,
    /// What the provider made of it ("written", "current", "rejected", "throttled"), or why there is no answer ("not-sent",
    /// "unknown").
    pub answer: String,
}

impl HistoryEntry {
    /// An entry about a link that says nothing yet.
    #[must_use]
    pub fn new(link: &Link, at: Millis, provider: String) -> Self {
        Self {
            entity: link.entity.clone(),
            connection: link.connection.clone(),
            at,
            what: String::new(),
            why: String::new(),
            cause: String::new(),
            provider,
            calls: 0,
            delta: Vec::new(),
            fields: Vec::new(),
            overtaken: BTreeMap::new(),
            noticed: None,
            seen: None,
            ruling: None,
            exchanges: Vec::new(),
            is_first: false,
        }
    }

    /// About how many bytes it takes. An entity's history is bounded by the sum of these.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let text = [&self.what, &self.why, &self.cause, &self.provider];
        let words = text.into_iter().map(String::len).sum::<usize>()
            + self.fields.iter().map(|field| 2 + field.len()).sum::<usize>()
            + self.ruling.as_ref().map_or(0, String::len)
            + self.noticed.as_ref().map_or(0, |noticed| {
                let author = noticed.author.as_ref().map_or(0, String::len);
                16 + author + noticed.also.iter().map(String::len).sum::<usize>()
            })
            + self.seen.as_ref().map_or(0, |seen| 8 + seen.version.as_ref().map_or(0, String::len))
            + self.exchanges.iter().map(|one| 8 + one.operation.len() + one.answer.len()).sum::<usize>();
        (64 + words + self.values_weight()) as u64
    }

    /// What is bounded of an entry.
    fn values_weight(&self) -> usize {
        let overtaken = self.overtaken.iter().map(|(field, pair)| overtaken_weight(field, pair.as_ref()));
        self.delta.iter().map(Moved::weight).sum::<usize>() + overtaken.sum::<usize>()
    }

    /// Leaves values out, the largest first, until it is within its bound: what was overtaken last, as it stands nowhere else.
    pub fn fit(&mut self) {
        let mut weight = self.values_weight();
        let bound = usize::try_from(DELTA_BYTES).unwrap_or(usize::MAX);
        while weight > bound {
            let Some(largest) =
                self.delta.iter_mut().filter(|moved| !moved.cut).max_by_key(|moved| moved.weight())
            else {
                break;
            };
            weight -= largest.weight();
            largest.cut = true;
            largest.before = Before::Nothing;
            largest.after = None;
            weight += largest.weight();
        }
        while weight > bound {
            let kept = self.overtaken.iter_mut().filter(|(_, pair)| pair.is_some());
            let Some((field, largest)) =
                kept.max_by_key(|(field, pair)| overtaken_weight(field, pair.as_ref()))
            else {
                break;
            };
            weight -= overtaken_weight(field, largest.as_ref());
            *largest = None;
            weight += overtaken_weight(field, None);
        }
    }

    /// Whether it is about a field, or about one within it.
    #[must_use]
    pub fn concerns(&self, field: &str) -> bool {
        self.delta.iter().any(|moved| lies_within(&moved.field, field))
            || self.fields.iter().chain(self.overtaken.keys()).any(|own| lies_within(own, field))
    }
}

/// Whether a field is another, or lies within it: `/address/city` within `/address`.
#[must_use]
pub fn lies_within(field: &str, whole: &str) -> bool {
    field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Moved {
    /// What is another in one base than in an earlier one.
    #[must_use]
    pub fn between(before: &Base, after: &Base) -> Vec<Self> {
        let mut delta = Vec::new();
        if before == after {
            return delta;
        }
        let moved = |field: &String, before: Option<&Pair>, after: Option<&Pair>| Self {
            field: field.clone(),
            differs: None,
            before: before.map_or(Before::Nothing, |pair| Before::Pair(pair.clone())),
            after: after.cloned(),
            cut: false,
        };
        for (field, pair) in after.iter() {
            let known = before.get(field);
            if known != Some(pair) {
                delta.push(moved(field, known, Some(pair)));
            }
        }
        for (field, pair) in before.iter().filter(|(field, _)| !after.contains_key(*field)) {
            delta.push(moved(field, Some(pair), None));
        }
        delta
    }

    fn weight(&self) -> usize {
        let before = match &self.before {
            Before::Pair(pair) => Some(pair),
            Before::Untold | Before::Nothing => None,
        };
        10 + self.field.len()
            + [before, self.after.as_ref()].into_iter().flatten().map(pair_bytes).sum::<usize>()
    }
}

fn overtaken_weight(field: &str, pair: Option<&Pair>) -> usize {
    8 + field.len() + pair.map_or(0, pair_bytes)
}

/// Equal halves are kept once.
fn pair_bytes(pair: &Pair) -> usize {
    let external = if pair.internal == pair.external { None } else { pair.external.as_ref() };
    [pair.internal.as_ref(), external].into_iter().flatten().map(value_bytes).sum()
}

fn value_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => 2 + text.len(),
        Value::Array(items) => 2 + items.iter().map(|item| 1 + value_bytes(item)).sum::<usize>(),
        Value::Object(members) => {
            2 + members.iter().map(|(name, value)| 4 + name.len() + value_bytes(value)).sum::<usize>()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair(bytes: u64) -> Pair {
        let value = "x".repeat(usize::try_from(bytes).unwrap());
        Pair { internal: Some(json!(value)), external: Some(json!(value)), ..Pair::default() }
    }

    fn entry(delta: &[(&str, u64)], overtaken: &[(&str, u64)]) -> HistoryEntry {
        let entity = EntityKey { scope: "s".into(), object: "contact".into(), id: "1".into() };
        let moved = |(field, bytes): &(&str, u64)| Moved {
            field: (*field).to_owned(),
            differs: None,
            before: Before::Nothing,
            after: Some(pair(*bytes)),
            cut: false,
        };
        let mut entry = HistoryEntry {
            delta: delta.iter().map(moved).collect(),
            overtaken: overtaken
                .iter()
                .map(|(field, bytes)| ((*field).to_owned(), Some(pair(*bytes))))
                .collect(),
            ..HistoryEntry::new(&Link::new(entity, "acme".into()), 1, "p".to_owned())
        };
        entry.fit();
        entry
    }

    fn cut(entry: &HistoryEntry) -> Vec<&str> {
        let delta = entry.delta.iter().filter(|moved| moved.cut).map(|moved| &*moved.field);
        let overtaken = entry.overtaken.iter().filter(|(_, pair)| pair.is_none()).map(|(field, _)| &**field);
        delta.chain(overtaken).collect()
    }

    #[test]
    fn what_has_no_room_is_left_out_the_largest_first_and_what_stands_nowhere_else_last() {
        let half = DELTA_BYTES / 2;
        for (delta, overtaken, gone) in [
            (&[("/a", half - 100), ("/b", half - 100)][..], &[][..], &[][..]),
            (&[("/a", half), ("/b", half + 1)], &[], &["/b"]),
            (&[("/a", half)], &[("/b", half + 1)], &["/a"]),
            (&[("/a", 10)], &[("/b", DELTA_BYTES), ("/c", half)], &["/a", "/b"]),
            (&[("/a", DELTA_BYTES)], &[("/b", DELTA_BYTES)], &["/a", "/b"]),
        ] {
            let entry = entry(delta, overtaken);
            assert_eq!(cut(&entry), gone, "{delta:?} {overtaken:?}");
            assert!(entry.weight() < DELTA_BYTES + 100, "it is bounded");
        }
    }

    #[test]
    fn a_field_lies_within_another_by_whole_names() {
        assert!(lies_within("/address/city", "/address") && lies_within("/address", "/address"));
        assert!(!lies_within("/address2", "/address") && !lies_within("/address", "/address/city"));
    }
}
