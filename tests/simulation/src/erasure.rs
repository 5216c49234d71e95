//! Erasures: whom an operator has erased in a world, and what was answered.
//!
//! Invariants: when and whom is drawn from a stream of its own, so that a world in which nobody is erased is the same as without this
//! file; what is kept here is what `tandem erase` and `tandem explain` show an operator, and nothing of the engine's inside.

use std::collections::BTreeSet;

use tandem::pipeline::{Erasure, Place};
use tandem_core::Millis;
use tandem_core::id::EntityKey;

use crate::dice::Dice;
use crate::habits::Habits;
use crate::wire::place_of;

/// Sets the stream apart from that of the world.
const APART: u64 = 0x00e5_ca9e_0f0b_11f3;

/// Of so many worlds one erases somebody.
const ONE_OF: u64 = 6;

/// Whom a world erases, and when.
pub(crate) struct Erasures {
    pub(crate) dice: Dice,
    /// When somebody is chosen, from the beginning of the world on.
    pub(crate) times: Vec<Millis>,
    pub(crate) orders: Vec<Ordered>,
    /// Addresses of erased people with which somebody was made anew.
    pub(crate) again: BTreeSet<String>,
}

/// A person whom an operator has erased.
pub(crate) struct Ordered {
    pub(crate) entity: EntityKey,
    /// The CRMs' records that were linked to it when it was asked, and those that an answer named: the account's place and the id.
    pub(crate) copies: BTreeSet<(usize, String)>,
    /// What happened later has a greater number.
    pub(crate) asked: u64,
    /// The last answer.
    pub(crate) places: Vec<Place>,
    /// It was answered at all: the order is on disk.
    pub(crate) answered: bool,
    /// Since when it is said to be done, as a number.
    pub(crate) done: Option<u64>,
    /// What was there in spite of that, at that moment.
    pub(crate) left: Vec<String>,
}

impl Erasures {
    pub(crate) fn draw(seed: u64, plain: bool, accounts: &mut [Habits]) -> Self {
        let mut dice = Dice::new(seed ^ APART);
        let mut times = Vec::new();
        if dice.below(ONE_OF) == 0 && !plain {
            for _ in 0..dice.between(1, 2) {
                times.push(dice.between(500, 60_000));
            }
            for account in accounts {
                account.erases = dice.chance(400);
            }
        }
        Self { dice, times, orders: Vec::new(), again: BTreeSet::new() }
    }

    /// Whether all of them are done.
    pub(crate) fn done(&self) -> bool {
        self.orders.iter().all(|order| order.done.is_some())
    }
}

impl Ordered {
    pub(crate) fn new(entity: EntityKey, asked: u64) -> Self {
        Self {
            entity,
            copies: BTreeSet::new(),
            asked,
            places: Vec::new(),
            answered: false,
            done: None,
            left: Vec::new(),
        }
    }

    /// Takes an answer in.
    pub(crate) fn answered(&mut self, erasure: Erasure, number: u64) {
        self.answered = true;
        for place in &erasure.places {
            // What an unanswered create has made has no id that anybody knows.
            if let Some((connection, id)) = place.place.split_once(" record ")
                && !id.contains(' ')
            {
                self.copies.insert((place_of(&connection.into()), id.to_owned()));
            }
        }
        self.places = erasure.places;
        if erasure.done {
            self.done.get_or_insert(number);
        }
    }
}
