//! What the model CRMs are like: drawn from the seed, one set of habits for each account.

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::descriptor::{
    Abilities, Condition, ConnectionDescriptor, Descriptor, FieldDescriptor, ObjectDescriptor,
    QuotaDescriptor, QuotaKind, QuotaScope,
};

use crate::dice::Dice;
use crate::values::{EDITED, FIELDS, OBJECT, Rewrite};

/// What a write is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    /// The whole record.
    Whole,
    /// The properties that were written.
    Written,
    /// Nothing.
    Nothing,
}

/// What a webhook says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// The changed properties, each in an event of its own.
    Each,
    /// The changed properties.
    Changed,
    /// Only that something happened.
    Touched,
}

/// How one account behaves.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// How a write can be made conditional: the guarantee class.
    pub(crate) condition: Condition,
    /// Records bear the time of their last change.
    pub(crate) stamps: bool,
    /// There is a place for Tandem's key, and a create with a key that is there already is an update.
    pub(crate) key: bool,
    /// Two records may not have the same address.
    pub(crate) unique: bool,
    pub(crate) returns: Returns,
    pub(crate) says: Says,
    /// A deleted record is known to be deleted (410), not only missing (404).
    pub(crate) proves: bool,
    /// A record that was merged away answers with the other one; otherwise it says where that one is.
    pub(crate) follows: bool,
    /// What is done to texts, by pointer.
    pub(crate) rewrites: Vec<(&'static str, Rewrite)>,
    pub(crate) changes: bool,
    pub(crate) shows_deleted: bool,
    /// Listings and searches are up to date.
    pub(crate) consistent: bool,
    /// Longest time until listings and searches see a change.
    pub(crate) lag: Millis,
    pub(crate) poll: Millis,
    /// How far its clock is from ours.
    pub(crate) skew: i64,
    /// Calls in a window of so many milliseconds.
    pub(crate) burst: (u64, Millis),
    /// Searches and listings.
    pub(crate) search: (u64, Millis),
    /// Calls at once.
    pub(crate) at_once: u64,
    /// A found record is told whole; otherwise only its id.
    pub(crate) finds_whole: bool,
    /// There is a call that erases a record for good; otherwise it can only be deleted.
    pub(crate) erases: bool,
    /// Records say who was the last who changed them.
    pub(crate) names_author: bool,
    /// So long reads may show a record that Tandem has deleted, in milliseconds. 0: not at all.
    pub(crate) ghosts: Millis,
    /// So long reads by id know nothing of a record that is there, once in its life. 0: not at all.
    pub(crate) hides: Millis,
    /// Each edit of a field is told by itself, with its value and its time: the class of what is found afterwards.
    pub(crate) event_times: bool,
    /// Events that come at once are sent as one webhook.
    pub(crate) batches: bool,
}

impl Habits {
    pub(crate) fn draw(dice: &mut Dice, condition: Condition) -> Self {
        let mut rewrites = Vec::new();
        if dice.chance(500) {
            for pointer in EDITED {
                rewrites.push((pointer, Rewrite::draw(dice)));
            }
        }
        let consistent = dice.chance(200);
        let changes = dice.chance(850);
        Self {
            condition,
            stamps: condition == Condition::Second || dice.chance(600),
            key: dice.chance(400),
            unique: dice.chance(500),
            returns: match dice.below(3) {
                0 => Returns::Whole,
                1 => Returns::Written,
                _ => Returns::Nothing,
            },
            says: match dice.below(3) {
                0 => Says::Each,
                1 => Says::Changed,
                _ => Says::Touched,
            },
            proves: dice.chance(500),
            follows: dice.chance(500),
            rewrites,
            changes,
            shows_deleted: changes && dice.chance(500),
            consistent,
            lag: if consistent { 0 } else { dice.between(100, 10_000) },
            poll: dice.between(10_000, 60_000),
            skew: i64::try_from(dice.between(0, 6_000)).unwrap_or(0) - 3_000,
            burst: (dice.between(4, 40), dice.between(1_000, 10_000)),
            search: (dice.between(2, 10), dice.between(1_000, 5_000)),
            at_once: dice.between(1, 8),
            finds_whole: dice.chance(500),
            erases: false,
            names_author: false,
            ghosts: 0,
            hides: 0,
            event_times: false,
            batches: false,
        }
    }

    /// Makes of an account without conditional writes one that tells when each field was edited, by its own clock.
    pub(crate) fn tell_times(&mut self, dice: &mut Dice) {
        let (tells, batches) = (dice.chance(500), dice.chance(500));
        if tells && self.condition == Condition::None {
            self.event_times = true;
            self.batches = batches;
            self.stamps = true;
            self.says = Says::Each;
        }
    }

    /// Makes of an account one that knows nothing of a record for a while, when it is asked by the id: not as long as Tandem waits
    /// before it takes a record that was missed for deleted.
    pub(crate) fn hide_records(&mut self, dice: &mut Dice) {
        let (hides, long) = (dice.chance(100), dice.between(500, 25_000));
        if hides {
            self.hides = long;
        }
    }

    pub(crate) fn rewrite(&self, pointer: &str, value: &Value) -> Value {
        let rewrite =
            self.rewrites.iter().find(|(of, _)| *of == pointer).map_or(Rewrite::None, |(_, it)| *it);
        rewrite.of(value)
    }

    pub(crate) fn abilities(&self) -> Abilities {
        Abilities {
            key: self.key,
            unique_identity: self.unique,
            condition: self.condition,
            consistent_listing: self.consistent,
            changes: self.changes,
            changes_show_deleted: self.shows_deleted,
            archives: true,
            find_settles_after_ms: self.lag,
            poll_every_ms: self.poll,
            event_times: self.event_times,
        }
    }

    pub(crate) fn quotas(&self) -> Vec<QuotaDescriptor> {
        let quota = |name: &str, kind, limit, per_ms, also: &[&str]| QuotaDescriptor {
            name: name.into(),
            kind,
            limit,
            per_ms,
            time_zone: None,
            scope: QuotaScope::Connection,
            also: also.iter().map(|it| (*it).into()).collect(),
        };
        vec![
            quota("burst", QuotaKind::Window, self.burst.0, Some(self.burst.1), &["at-once"]),
            quota("search", QuotaKind::Window, self.search.0, Some(self.search.1), &["burst"]),
            quota("at-once", QuotaKind::Concurrency, self.at_once, None, &[]),
        ]
    }

    pub(crate) fn describe(&self) -> (Descriptor, ConnectionDescriptor) {
        let descriptor = Descriptor {
            id: "model".into(),
            version: "1.0.0".into(),
            title: String::new(),
            auth: std::collections::BTreeMap::new(),
            webhooks: None,
            rules: false,
            secrets: std::collections::BTreeMap::new(),
            response_headers: Vec::new(),
            settings: None,
            examples: Vec::new(),
        };
        let object = ObjectDescriptor {
            name: "people".into(),
            schema: Value::Bool(true),
            write_schema: None,
            fields: FIELDS
                .iter()
                .map(|field| (field.pointer.to_owned(), FieldDescriptor::default()))
                .collect(),
            abilities: self.abilities(),
        };
        let connection = ConnectionDescriptor {
            base_url: "https://model.invalid".into(),
            hosts: Vec::new(),
            objects: [(OBJECT.to_owned(), object)].into(),
            quotas: self.quotas(),
        };
        (descriptor, connection)
    }
}
