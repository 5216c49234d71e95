//! What happened in a world, as anybody could have seen it who looked at the two sides: who changed which record when.
//!
//! It is kept by the model systems and read by the checker. Nothing of the engine's inside is in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem_core::Millis;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// System A.
    Here,
    /// An account, by its place.
    There(usize),
}

/// Who changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A person.
    Person,
    /// Tandem, for the connection of this place, with this call (0: none; System A's writes have none).
    Tandem(usize, u64),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Born,
    Edited,
    Died,
    /// It came back from the bin, or under its own id in System A.
    Back,
    /// It lives on in another record.
    Merged(String),
}

/// One change of one record.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Greater is later, over all records of the world.
    pub(crate) number: u64,
    pub(crate) at: Millis,
    pub(crate) who: Who,
    pub(crate) what: What,
    /// The fields that have another value now, by pointer. Null: no value.
    pub(crate) fields: BTreeMap<&'static str, Value>,
}

/// A record's life.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    /// Whose record it is. Empty: it was never said.
    pub(crate) code: String,
    pub(crate) changes: Vec<Change>,
}

/// One request of Tandem's to an account.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Whose.
    pub(crate) place: usize,
    /// When Tandem made it.
    pub(crate) sent: Millis,
    /// So long nothing is to be asked of the account any more, in milliseconds.
    pub(crate) wait: Option<Millis>,
    /// When Tandem had its answer.
    pub(crate) answered: Option<Millis>,
    /// The answer said what became of it, and was received.
    pub(crate) clean: bool,
    /// The status of that answer; 0 where the call was not sent.
    pub(crate) status: u16,
    /// The provider faulted over it: what it said never came further.
    pub(crate) faulted: bool,
    /// What it was, for people.
    pub(crate) line: String,
}

impl Call {
    /// Whether it told what is there: a call that was not sent or was refused did not.
    pub(crate) fn tells(&self) -> bool {
        self.clean && matches!(self.status, 200..=299 | 404 | 410)
    }
}

/// What a webhook tells of a change of an account's record.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Whose.
    pub(crate) place: usize,
    pub(crate) id: String,
    /// The last change of the record that it may tell of.
    pub(crate) number: u64,
    /// When Tandem acknowledged it.
    pub(crate) acknowledged: Option<Millis>,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) tracks: BTreeMap<(Side, String), Track>,
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) crashes: Vec<Millis>,
    /// What a model system found wrong at once.
    pub(crate) wrong: Vec<String>,
    /// When a state of an account's record was read: the account's place, the id, the number of the state.
    pub(crate) reads: BTreeMap<(usize, String, u64), Vec<Millis>>,
    /// When a listing or a search showed an account's record, and with what: the account's place, the id.
    pub(crate) listed: BTreeMap<(usize, String), Vec<(Millis, Value)>>,
    /// What webhooks tell of, by their number.
    pub(crate) told: BTreeMap<u64, Vec<Told>>,
    /// When work on an account's record was taken up: the account's place, the id.
    pub(crate) taken: BTreeMap<(usize, String), Vec<Millis>>,
    /// Records of which a webhook told that the provider faulted over: what it said never came further.
    pub(crate) unread: BTreeSet<(usize, String)>,
    /// Whose withheld writes an operator approved of, and when: the account's place, the id in System A.
    pub(crate) approved: BTreeMap<(usize, String), Millis>,
    /// Writes that an account took and that changed nothing.
    pub(crate) needless: Vec<(Side, String, u64)>,
}

impl History {
    pub(crate) fn note(&mut self, side: Side, id: &str, change: Change) {
        let track = self
            .tracks
            .entry((side, id.to_owned()))
            .or_insert_with(|| Track { code: String::new(), changes: Vec::new() });
        if let Some(code) = change.fields.get(crate::values::CODE).and_then(Value::as_str)
            && track.code.is_empty()
        {
            code.clone_into(&mut track.code);
        }
        track.changes.push(change);
    }

    /// Changes of both sides that Tandem made since.
    pub(crate) fn writes_since(&self, number: u64) -> Vec<String> {
        let mut all = Vec::new();
        for ((side, id), track) in &self.tracks {
            for change in track.changes.iter().filter(|change| change.number > number) {
                if let Who::Tandem(..) = change.who {
                    all.push(format!(
                        "{side:?} {id} ({}): {:?} {:?}",
                        track.code, change.what, change.fields
                    ));
                }
            }
        }
        all
    }
}
