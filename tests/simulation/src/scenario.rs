//! What some worlds have beside the common dice: crowds of records with one address, replicas that lag behind a deletion, values that
//! the other side cannot hold, deletions in numbers.
//!
//! Invariant: it is drawn from a stream of its own, so that a world without any of it is the same as without this file.

use tandem_core::Millis;

use crate::dice::Dice;
use crate::habits::Habits;
use crate::wire::Faults;

/// Sets the stream apart from that of the world.
const APART: u64 = 0x0005_ce7a_5105_0d1e;

/// Sets what records say of who changed them apart from both.
const AUTHORS: u64 = 0x00a0_7405_0d1e_0b1a;

/// Sets what events tell of the times of edits apart from all of them.
const TIMES: u64 = 0x0e7e_0007_1e50_0b2d;

/// Sets which accounts forget new records for a while apart from all of them.
const HIDES: u64 = 0x00d1_5a99_ea55_0b3f;

/// What a world has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Common,
    /// Several records of one person at several sides at once, with one address, which is changed later.
    Crowd,
    /// For a while reads show records that Tandem has deleted.
    Ghosts,
    /// People write values in a CRM that System A cannot hold, and shorter ones later.
    Unfit,
    /// Elements are added to sets at both sides, over and over.
    Sets,
    /// Creates get no answer, and people edit the new records meanwhile.
    Doubt,
    /// People are entered and deleted, over and over, and the process dies between.
    Purge,
    /// People are deleted in System A and entered again at once, with the same address, where an account takes no address twice.
    Anew,
}

/// A world's own, and its dice.
pub(crate) struct Scenario {
    pub(crate) kind: Kind,
    pub(crate) dice: Dice,
    /// When something of it happens, from the beginning of the world on.
    pub(crate) times: Vec<Millis>,
    /// Who was entered several times at last.
    pub(crate) last: u64,
}

impl Scenario {
    pub(crate) fn draw(seed: u64, plain: bool, accounts: &mut [Habits], faults: &mut Faults) -> Self {
        let mut dice = Dice::new(seed ^ APART);
        let kind = match dice.below(20) {
            _ if plain => Kind::Common,
            0..=1 => Kind::Crowd,
            2 => Kind::Ghosts,
            3 => Kind::Unfit,
            4 => Kind::Sets,
            5 => Kind::Doubt,
            6 => Kind::Purge,
            7 => Kind::Anew,
            _ => Kind::Common,
        };
        let mut times = Vec::new();
        let acts = match kind {
            Kind::Common => 0,
            Kind::Crowd => dice.between(1, 6),
            Kind::Ghosts | Kind::Unfit | Kind::Anew => dice.between(2, 8),
            Kind::Sets | Kind::Doubt => dice.between(4, 20),
            Kind::Purge => dice.between(8, 24),
        };
        for _ in 0..acts {
            times.push(dice.between(500, 80_000));
        }
        if kind == Kind::Doubt {
            faults.lost_before = 250;
            faults.lost_after = 150;
        }
        let mut authors = Dice::new(seed ^ AUTHORS);
        let (mut times_of_edits, mut hides) = (Dice::new(seed ^ TIMES), Dice::new(seed ^ HIDES));
        for account in accounts {
            if !plain {
                account.tell_times(&mut times_of_edits);
                account.hide_records(&mut hides);
            }
            account.names_author = !plain && authors.chance(500);
            match kind {
                Kind::Doubt => account.key &= dice.chance(300),
                Kind::Anew => account.unique |= dice.chance(700),
                Kind::Ghosts => {
                    let long = dice.between(500, 20_000);
                    // An edit that a deletion overtook is younger than all that is known: what shows it still might have been restored.
                    if !account.event_times {
                        account.ghosts = long;
                    }
                }
                Kind::Crowd => {
                    account.unique &= dice.chance(300);
                    if dice.chance(500) {
                        account.consistent = true;
                        account.lag = 0;
                    }
                }
                _ => {}
            }
        }
        Self { kind, dice, times, last: 0 }
    }
}
