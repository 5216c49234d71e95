//! The checker: from the public history of both sides to what was wrong.
//!
//! It knows what people did, what each record looked like when, which calls were answered and when the process died; and from Tandem only
//! what an operator can ask for: what is under review, frozen, refused or set aside, and which records are linked. It does not know how
//! anything was decided. How an edit relates to another one it finds out from what could be *seen*: who edits a field has seen every
//! value that the record had before on that side. An edit that saw another one is newer than that one. Two edits that did not
//! see each other are a conflict, and what becomes of them is a matter of policy.
#![expect(clippy::indexing_slicing, reason = "a place is that of one of the world's accounts")]

mod afterwards;
mod creates;
mod deeds;
mod deletions;
mod edits;
mod equal;
mod erased;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem::pipeline::{Approval, Kind, Withheld};
use tandem::store::{DeadLetter, Store as _, Subject};
use tandem_core::Millis;
use tandem_core::clash::{self, Clash, Waits};
use tandem_core::id::{ExternalId, InternalId};
use tandem_core::link::RECORD;

use crate::daemon::connection_id;
use crate::history::{Change, History, Side, Track, What, Who};
use crate::values::{self, CODE, EMAIL, FIELDS, LONGEST, NAME, TAGS, TITLE};
use crate::world::World;

pub(crate) use erased::traces;

/// A write counts as accounted for when its answer came and the process lived on for so long.
const ACCOUNTED: Millis = 5_000;

/// A person's edit of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edit {
    side: Side,
    number: u64,
    at: Millis,
    /// None: it was cleared.
    token: Option<u64>,
}

/// What an operator is shown of one person's records at one account.
#[derive(Default)]
struct Shown {
    /// Fields that wait for a person, are frozen or were refused.
    fields: BTreeSet<String>,
    /// The record as a whole is under review or was set aside.
    whole: bool,
    /// Whether a deletion or an edit counts is under review.
    deletion: bool,
    /// The CRM's records whose deletion waits for approval.
    doomed: BTreeSet<String>,
}

struct Checker<'a> {
    world: &'a World,
    history: &'a History,
    wrong: Vec<String>,
    /// What is not promised, and was met.
    passed: Vec<&'static str>,
    /// Whose records an operator has erased: nothing else is asked about them.
    erased: BTreeSet<String>,
}

/// Finds what is wrong, and what was met that no promise covers.
pub(crate) fn check(world: &World) -> (Vec<String>, Vec<&'static str>) {
    let history = world.history.lock();
    let mut checker =
        Checker { world, history: &history, wrong: Vec::new(), passed: Vec::new(), erased: BTreeSet::new() };
    checker.erased = checker.erased_codes();
    let codes: BTreeSet<&str> = history.tracks.values().map(|track| track.code.as_str()).collect();
    for code in codes {
        checker.person(code);
    }
    for place in 0..world.accounts.len() {
        checker.reported(place);
        checker.set_aside(place);
        checker.found_by_id(place);
        checker.lives_on(place);
    }
    checker.causes();
    checker.needless();
    checker.told();
    checker.heard();
    checker.deleted_unseen();
    checker.found_afterwards();
    checker.deleted_for_a_cause();
    checker.edits_outlive_deletions();
    checker.made_once();
    checker.waited();
    checker.patient();
    checker.restless();
    checker.guarded();
    checker.erased();
    (checker.wrong, checker.passed)
}

/// An address as it is compared.
fn plain(value: &Value) -> Option<String> {
    value.as_str().map(|it| it.trim().to_lowercase()).filter(|it| !it.is_empty())
}

/// The elements of a set.
fn elements(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().map(ToString::to_string).collect()
}

impl Checker<'_> {
    fn fail(&mut self, what: String) {
        self.wrong.push(what);
    }

    fn tracks(&self, side: Side, code: &str) -> Vec<(&str, &Track)> {
        let all = self.history.tracks.iter().filter(|((at, _), track)| *at == side && track.code == code);
        all.map(|((_, id), track)| (id.as_str(), track)).collect()
    }

    fn live(&self, side: Side, code: &str) -> Vec<String> {
        let live = match side {
            Side::Here => self.world.system_a.live(),
            Side::There(place) => {
                self.world.accounts.get(place).map(super::account::Account::live).unwrap_or_default()
            }
        };
        let own: BTreeSet<&str> = self.tracks(side, code).into_iter().map(|(id, _)| id).collect();
        live.into_iter().filter(|id| own.contains(id.as_str())).collect()
    }

    fn value(&self, side: Side, id: &str, pointer: &str) -> Value {
        match side {
            Side::Here => {
                let document = self.world.system_a.document(id).unwrap_or_default();
                document.get(pointer.trim_start_matches('/')).cloned().unwrap_or(Value::Null)
            }
            Side::There(place) => {
                let record = self.world.accounts.get(place).and_then(|it| it.records.get(id));
                record.and_then(|record| record.fields.get(pointer).cloned()).unwrap_or(Value::Null)
            }
        }
    }

    /// What an operator is shown of a person's records at an account.
    fn shown(&self, place: usize, code: &str) -> Shown {
        let connection = connection_id(place);
        let here: BTreeSet<&str> = self.tracks(Side::Here, code).into_iter().map(|(id, _)| id).collect();
        let there: BTreeSet<&str> =
            self.tracks(Side::There(place), code).into_iter().map(|(id, _)| id).collect();
        let mut shown = Shown::default();
        for link in self.world.disk.scan_links(&connection, None, 10_000).unwrap_or_default() {
            let external = link.external.as_ref().is_some_and(|id| there.contains(id.as_str()));
            if !external && !here.contains(link.entity.id.as_str()) {
                continue;
            }
            for (group, held) in &link.held {
                shown.whole |= group == RECORD;
                shown.deletion |= group == RECORD;
                shown.fields.extend(held.fields.iter().cloned());
            }
            shown.fields.extend(link.frozen.keys().cloned());
            // A group goes as one.
            let groups = &self.world.setting.accounts[place].1.groups;
            let frozen: Vec<_> = link.frozen.keys().filter_map(|field| groups.get(field)).collect();
            let with_it = FIELDS.iter().map(|field| field.pointer.to_owned());
            shown
                .fields
                .extend(with_it.filter(|field| groups.get(field).is_some_and(|it| frozen.contains(&it))));
            shown.fields.extend(link.refused.keys().cloned());
        }
        let rows = self.world.disk.values_under(&format!("withheld/{connection}/"), None, 10_000);
        for (_, stored) in rows.unwrap_or_default() {
            let row = serde_json::from_slice::<Withheld>(&stored).ok();
            let waits = row.filter(|row| row.approval == Approval::Pending);
            let Some(row) = waits.filter(|row| here.contains(row.entity.id.as_str())) else { continue };
            shown.whole = true;
            let doomed = row.external.filter(|_| row.kind == Kind::Delete);
            shown.doomed.extend(doomed.map(|id| id.to_string()));
        }
        for clash in self.clashes(place) {
            shown.whole |= match &clash.waits {
                Waits::Internal(id) => here.contains(id.as_str()),
                Waits::External(id) => there.contains(id.as_str()),
            };
        }
        for letter in self.world.disk.dead(Some(&connection), 10_000).unwrap_or_default() {
            let entity = letter.entity.as_ref().is_some_and(|entity| here.contains(entity.id.as_str()));
            let external = letter.external.as_ref().is_some_and(|id| there.contains(id.as_str()));
            let subject = match &letter.hint.subject {
                Subject::Internal(id) => here.contains(id.as_str()),
                Subject::External(id) => there.contains(id.as_str()),
                Subject::Delivery(_) => true,
            };
            shown.whole |= entity || external || subject;
        }
        shown
    }

    /// Records of an account of which a person has to say whom they are.
    fn clashes(&self, place: usize) -> Vec<Clash> {
        let prefix = format!("clash/{}/", connection_id(place));
        let values = self.world.disk.values_under(&prefix, None, 10_000).unwrap_or_default();
        let clashes = values.iter().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok());
        clashes.filter(Clash::is_open).collect()
    }

    /// Whether nothing but edits happened to a person's records, one on each side.
    fn is_calm(&self, code: &str) -> bool {
        let accounts = 0..self.world.accounts.len();
        let sides = std::iter::once(Side::Here).chain(accounts.map(Side::There));
        sides.into_iter().all(|side| {
            let tracks = self.tracks(side, code);
            let plain = |change: &Change| matches!(change.what, What::Born | What::Edited);
            tracks.len() <= 1 && tracks.iter().all(|(_, track)| track.changes.iter().all(plain))
        })
    }

    fn is_merged(&self, code: &str) -> bool {
        let own = self.history.tracks.values().filter(|track| track.code == code);
        let mut winners: BTreeSet<&str> = BTreeSet::new();
        for ((_, id), track) in &self.history.tracks {
            for change in &track.changes {
                if let What::Merged(to) = &change.what {
                    winners.insert(id);
                    winners.insert(to);
                }
            }
        }
        let merged = self
            .history
            .tracks
            .iter()
            .any(|((_, id), track)| track.code == code && winners.contains(id.as_str()));
        merged
            || own.into_iter().any(|track| track.changes.iter().any(|it| matches!(it.what, What::Merged(_))))
    }

    fn person(&mut self, code: &str) {
        if code.is_empty() || self.erased.contains(code) {
            return;
        }
        let merged = self.is_merged(code);
        let calm = self.is_calm(code);
        let here = self.live(Side::Here, code);
        for place in 0..self.world.accounts.len() {
            let side = Side::There(place);
            let there = self.live(side, code);
            let shown = self.shown(place, code);
            if !merged {
                self.doubles(place, code, &there, here.len(), &shown);
            }
            if shown.whole {
                continue;
            }
            match (here.as_slice(), there.as_slice()) {
                ([], []) => {}
                _ if merged => {}
                ([a], [x]) => {
                    let (a, x) = (a.clone(), x.clone());
                    self.equal(place, code, &a, &x, &shown);
                    if calm {
                        self.newest(place, code, &x, &shown);
                        self.tags(place, code, &x, &shown);
                        self.order(Side::Here, code);
                        self.order(side, code);
                    }
                }
                (a, x) if a.len() > 1 || x.len() > 1 => {}
                (a, x) => {
                    self.fail(format!("{code}: {a:?} in system a and {x:?} in account {place}"));
                }
            }
            if !merged {
                self.deleted(place, code, &here, &there);
            }
        }
    }

    /// No duplicate where a key exists; elsewhere it is found and shown. So is a record that a person took out of the bin while it
    /// was made anew, and one whose deletion waits for a person.
    fn doubles(&mut self, place: usize, code: &str, live: &[String], here: usize, shown: &Shown) {
        let all = live.len();
        // One whose deletion is withheld is as good as gone: a new record may stand beside it, and not two.
        let live: Vec<&String> = live.iter().filter(|id| !shown.doomed.contains(*id)).collect();
        if live.len() <= here.max(1) {
            if all > here.max(1) {
                self.passed.push("records of one person beside each other, of which it is told");
            }
            return;
        }
        let account = &self.world.accounts[place];
        let habits = &account.habits;
        let mut by_tandem = 0;
        // Records that were made of different ones of System A are not one that was made twice.
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        let mut addressed = true;
        let mut renamed = false;
        let mut restored = false;
        for (id, track) in self.tracks(Side::There(place), code) {
            if live.iter().any(|it| *it == id) {
                let born = track.changes.first();
                restored |= track.changes.iter().any(|it| it.what == What::Back && it.who == Who::Person);
                if born.is_some_and(|it| matches!(it.who, Who::Tandem(..))) {
                    by_tandem += 1;
                    keys.extend(account.key_of(id));
                }
                addressed &= born.is_some_and(|it| it.fields.contains_key(EMAIL));
                renamed |= track
                    .changes
                    .iter()
                    .skip(1)
                    .any(|it| it.who == Who::Person && it.fields.contains_key(EMAIL));
            }
        }
        let one_key = habits.key && keys.len() < by_tandem;
        let twice = by_tandem >= 2 && (one_key || addressed && !renamed);
        let beside = by_tandem >= 1 && habits.unique && addressed && !renamed;
        let told = shown.deletion || shown.whole && (restored || !habits.key && !habits.unique);
        if (twice || beside) && told {
            self.passed.push("records of one person beside each other, of which it is told");
        } else if (twice || beside) && self.has_left(code) {
            self.passed.push("creates without anything to be found by, whose answer was lost");
        } else if twice || beside {
            self.fail(format!("{code}: doubled in account {place}: {live:?}"));
        }
    }

    /// Whether Tandem has deleted a record that reads may have shown afterwards.
    fn was_ghost(&self, place: usize, about: &Waits) -> bool {
        let Waits::External(id) = about else { return false };
        let track = self.history.tracks.get(&(Side::There(place), id.to_string()));
        let last = track.and_then(|track| track.changes.last());
        self.world.accounts[place].habits.ghosts > 0
            && last.is_some_and(|last| last.what == What::Died && matches!(last.who, Who::Tandem(..)))
    }

    /// Whether an account without a key has a record of a person that Tandem made there without an address, or that has got another one,
    /// and whose answer was lost: nothing finds it, and it is taken in as somebody else.
    fn has_left(&self, code: &str) -> bool {
        let own = self.history.tracks.iter().filter(|(_, track)| track.code == code);
        own.into_iter().any(|(record, track)| self.is_left(record, track))
    }

    fn is_left(&self, record: &(Side, String), track: &Track) -> bool {
        let Side::There(place) = record.0 else { return false };
        let mut changes = track.changes.iter();
        let Some(born) = changes.next() else { return false };
        let is_readdressed = |change: &Change| change.who == Who::Person && change.fields.contains_key(EMAIL);
        matches!(born.who, Who::Tandem(..))
            && (!born.fields.contains_key(EMAIL) || changes.any(is_readdressed))
            && !self.accounted(born)
            && !self.world.accounts[place].habits.key
    }

    /// Of records with one address each is linked or asked about, and nothing is asked about a record that is gone.
    fn reported(&mut self, place: usize) {
        let side = Side::There(place);
        let account = &self.world.accounts[place];
        let clashes = self.clashes(place);
        let mut known: BTreeSet<String> = BTreeSet::new();
        for clash in &clashes {
            let lives = match &clash.waits {
                Waits::Internal(id) => self.world.system_a.live().iter().any(|it| it == id.as_str()),
                Waits::External(id) => account.live().iter().any(|it| it == id.as_str()),
            };
            if !lives && self.was_ghost(place, &clash.waits) {
                self.passed.push("questions about records that a replica showed still");
            } else if !lives {
                self.wrong
                    .push(format!("{} in account {place} is asked about and is gone", clash.waits.id()));
            }
            if !self.is_contested(place, clash) {
                self.wrong.push(format!(
                    "{} in account {place} is asked about ({}), and nobody stands in its way",
                    clash.waits.id(),
                    clash.why
                ));
            }
            if let Waits::External(id) = &clash.waits {
                known.insert(id.to_string());
            }
            known.extend(clash.rivals.iter().filter_map(|rival| Some(rival.external.as_ref()?.to_string())));
        }
        let connection = connection_id(place);
        let links = self.world.disk.scan_links(&connection, None, 10_000).unwrap_or_default();
        known.extend(links.into_iter().filter_map(|link| Some(link.external?.to_string())));
        for letter in self.world.disk.dead(Some(&connection), 10_000).unwrap_or_default() {
            known.extend(letter.external.map(|id| id.to_string()));
        }
        let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in account.live() {
            let address = self.value(side, &id, EMAIL);
            let address = address.as_str().map(|it| it.trim().to_lowercase()).unwrap_or_default();
            if !address.is_empty() {
                addresses.entry(address).or_default().push(id);
            }
        }
        for twins in addresses.into_values().filter(|ids| ids.len() > 1) {
            for id in twins.iter().filter(|id| !known.contains(*id)) {
                let code = self.history.tracks.get(&(side, id.clone())).map_or("", |track| &track.code);
                if !self.is_merged(code) && !self.erased.contains(code) {
                    self.fail(format!("{code}: {twins:?} in account {place} have one address, and {id} is neither linked nor reported"));
                }
            }
        }
    }

    /// Whether any of those whom a record may be, or who stand in its way, is there still. Who lost a merge is asked about in any case.
    fn is_contested(&self, place: usize, clash: &Clash) -> bool {
        let here = self.world.system_a.live();
        let there = self.world.accounts[place].live();
        let is_there = |id: &ExternalId| {
            there.iter().any(|it| it == id.as_str()) || self.was_ghost(place, &Waits::External(id.clone()))
        };
        let is_here = |id: &InternalId| here.iter().any(|it| it == id.as_str());
        clash.kind == clash::Kind::Merged
            || clash.rivals.iter().any(|rival| {
                rival.external.as_ref().is_some_and(is_there) || rival.internal.as_ref().is_some_and(is_here)
            })
    }

    /// Whatever is set aside still was tried once more after faults and people had stopped: what is wrong with it has to be there.
    fn set_aside(&mut self, place: usize) {
        let mut letters = self.world.disk.dead(Some(&connection_id(place)), 10_000).unwrap_or_default();
        letters.retain(|letter| !self.has_cause(place, letter));
        for letter in letters {
            let what: Vec<&str> = letter.problems.iter().map(|problem| problem.message.as_str()).collect();
            self.fail(format!(
                "{:?} in account {place} is set aside ({}: {}), and nothing is wrong with it any more",
                letter.about().1,
                letter.point,
                what.join("; ")
            ));
        }
    }

    /// Whether what a letter says is so: a record is there that the other side does not take as it is.
    fn has_cause(&self, place: usize, letter: &DeadLetter) -> bool {
        let entity = letter.entity.as_ref().map(|entity| entity.id.to_string());
        let external = letter.external.as_ref().map(ToString::to_string);
        let (here, there) = match &letter.hint.subject {
            Subject::Internal(id) => (entity.or_else(|| Some(id.to_string())), external),
            Subject::External(id) => (entity, external.or_else(|| Some(id.to_string()))),
            Subject::Delivery(_) => return false,
        };
        let side = Side::There(place);
        let here = here.filter(|id| self.world.system_a.live().contains(id));
        let there = there.filter(|id| self.world.accounts[place].live().contains(id));
        match letter.point.as_str() {
            "rejected" => here.is_some_and(|id| {
                let name = self.value(Side::Here, &id, NAME);
                name.as_str().is_some_and(|name| name.contains('!'))
                    || self.world.accounts[place].habits.unique
                        && self.others_address(side, there.as_ref(), &self.value(Side::Here, &id, EMAIL))
            }),
            "canonical-in" | "provider-in" => there.is_some_and(|id| {
                self.value(side, &id, TITLE).as_str().is_some_and(|title| title.chars().count() > LONGEST)
                    || self.others_address(Side::Here, here.as_ref(), &self.value(side, &id, EMAIL))
            }),
            _ => false,
        }
    }

    /// Whether another record of a side than this one has an address.
    fn others_address(&self, side: Side, own: Option<&String>, address: &Value) -> bool {
        let Some(address) = plain(address) else { return false };
        let live = match side {
            Side::Here => self.world.system_a.live(),
            Side::There(place) => self.world.accounts[place].live(),
        };
        live.iter()
            .any(|id| Some(id) != own && plain(&self.value(side, id, EMAIL)).as_ref() == Some(&address))
    }

    /// A deletion that saw everything stands.
    fn deleted(&mut self, place: usize, code: &str, here: &[String], there: &[String]) {
        if self.world.accounts.len() > 1 || here.is_empty() && there.is_empty() {
            return;
        }
        let mut last: Option<(Side, Change)> = None;
        let mut edits: Vec<(Side, Change)> = Vec::new();
        for side in [Side::Here, Side::There(place)] {
            for (_, track) in self.tracks(side, code) {
                for change in track.changes.iter().filter(|change| change.who == Who::Person) {
                    if last.as_ref().is_none_or(|(_, known)| known.number < change.number) {
                        last = Some((side, change.clone()));
                    }
                    edits.push((side, change.clone()));
                }
            }
        }
        let Some((side, death)) = last.filter(|(_, change)| change.what == What::Died) else { return };
        let seen = edits.iter().filter(|(of, _)| *of != side).all(|(of, change)| {
            change.fields.iter().all(|(pointer, value)| {
                if *pointer == TAGS {
                    return false;
                }
                let edit = Edit { side, number: death.number, at: death.at, token: None };
                let other =
                    Edit { side: *of, number: change.number, at: change.at, token: values::token(value) };
                *pointer == CODE || self.saw(&edit, &other, code, pointer) == Some(true)
            }) && matches!(change.what, What::Born | What::Edited)
        });
        // Somebody else's record of the same person, or one that was never carried over, is not meant.
        let single =
            [Side::Here, Side::There(place)].into_iter().all(|side| self.tracks(side, code).len() == 1);
        if seen && single && there.iter().any(|x| self.may_be_edited(place, x)) {
            self.passed.push("records that met by their address after the answer to a create was lost");
        } else if seen && single {
            self.fail(format!(
                "{code}: was deleted at {side:?}, which saw everything, and is there: {here:?} {there:?}"
            ));
        }
    }
}
