//! People at all sides: they create, edit, clear, delete, put back and merge, now and then where somebody else is at work.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Event, World};
use crate::account::{Account, Pen};
use crate::history::{Side, What, Who};
use crate::setting::Guard;
use crate::values::{self, CODE, EDITED, EMAIL, NAME, TAGS};

impl World {
    pub(super) fn next_token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    pub(super) fn act(&mut self) {
        if self.acts_left == 0 || !self.awake {
            return;
        }
        self.acts_left -= 1;
        self.one_act();
        if matches!(self.setting.guard, Guard::Ruled(_)) && self.chance(100) {
            self.approve();
        }
        let wait = self.roll(|dice| match dice.below(10) {
            0..=3 => dice.below(50),
            4..=7 => dice.below(2_000),
            _ => dice.below(20_000),
        });
        self.shared.after(wait, Event::Act);
    }

    pub(super) fn approve(&mut self) {
        self.shared.trace(|| "an operator approves of what was withheld".into());
        if let Some(daemon) = &mut self.daemon {
            daemon.approve();
        }
    }

    pub(super) fn some_side(&self) -> Side {
        let accounts = self.accounts.len();
        self.roll(|dice| if dice.chance(450) { Side::Here } else { Side::There(dice.place(accounts)) })
    }

    pub(super) fn live(&self, side: Side) -> Vec<String> {
        match side {
            Side::Here => self.system_a.live(),
            Side::There(place) => self.accounts.get(place).map(Account::live).unwrap_or_default(),
        }
    }

    pub(super) fn code(&self, side: Side, id: &str) -> String {
        match side {
            Side::Here => self.system_a.code(id),
            Side::There(place) => self.accounts.get(place).map(|it| it.code(id)).unwrap_or_default(),
        }
    }

    fn one_act(&mut self) {
        let side = self.some_side();
        let ids = self.live(side);
        let anybody = self.persons == 0;
        if anybody || self.persons < self.setting.people && self.chance(350) {
            self.create(side);
            return;
        }
        let Some(id) = self.roll(|dice| dice.pick(&ids).cloned()) else {
            self.bring_back(side);
            return;
        };
        match self.roll(|dice| dice.below(100)) {
            0..=5 => self.delete(side, &id),
            6..=8 => self.bring_back(side),
            9..=11 => self.merge(side),
            _ => {
                self.edit(side, &id);
                if self.chance(300) {
                    self.edit_elsewhere(side, &id);
                }
            }
        }
    }

    /// Somebody at another side edits the same person's record at the same moment.
    fn edit_elsewhere(&mut self, side: Side, id: &str) {
        let code = self.code(side, id);
        let other = match side {
            Side::Here => Side::There(self.roll(|dice| dice.place(self.accounts.len()))),
            Side::There(_) => Side::Here,
        };
        let same = self.live(other).into_iter().find(|it| self.code(other, it) == code);
        if let Some(same) = same {
            self.met("edits on both sides");
            self.edit(other, &same);
        }
    }

    fn person_pen<R>(&mut self, place: usize, write: impl FnOnce(&mut Account, Pen<'_>) -> R) -> Option<R> {
        let (number, now, who, lag) = self.pen(Who::Person, place);
        let history = self.history.clone();
        let mut history = history.lock();
        let account = self.accounts.get_mut(place)?;
        let done = write(account, Pen { history: &mut history, now, number, who, lag });
        drop(history);
        self.tell(place);
        Some(done)
    }

    pub(super) fn create(&mut self, side: Side) {
        self.persons += 1;
        let person = self.persons;
        let with_address = self.chance(800);
        let mut address = Value::Null;
        if with_address {
            let token = self.next_token();
            address = self.roll(|dice| values::text(dice, EMAIL, person, token));
        }
        self.create_at(side, person, &address);
        if self.chance(200) {
            let other = match side {
                Side::Here => Side::There(self.roll(|dice| dice.place(self.accounts.len()))),
                Side::There(_) => Side::Here,
            };
            self.met("creates on both sides");
            self.create_at(other, person, &address);
        }
    }

    pub(super) fn create_at(&mut self, side: Side, person: u64, address: &Value) {
        let mut fields = BTreeMap::from([(CODE, values::code(person))]);
        if !address.is_null() {
            fields.insert(EMAIL, address.clone());
        }
        for pointer in EDITED {
            if self.chance(700) {
                let token = self.next_token();
                fields.insert(pointer, self.roll(|dice| values::text(dice, pointer, person, token)));
            }
        }
        self.shared.trace(|| format!("a person creates at {side:?}: {fields:?}"));
        match side {
            Side::Here => {
                let document = fields
                    .iter()
                    .map(|(pointer, value)| (pointer.trim_start_matches('/').to_owned(), value.clone()));
                let _taken = self.system_a.create(document.collect());
            }
            Side::There(place) => {
                let _taken = self.person_pen(place, |account, pen| account.create(&fields, None, pen));
            }
        }
    }

    pub(super) fn person_of(&self, side: Side, id: &str) -> u64 {
        self.code(side, id).trim_start_matches('p').parse().unwrap_or(0)
    }

    pub(super) fn field_of(&self, side: Side, id: &str, pointer: &'static str) -> Value {
        match side {
            Side::Here => {
                let document = self.system_a.document(id).unwrap_or_default();
                document.get(pointer.trim_start_matches('/')).cloned().unwrap_or(Value::Null)
            }
            Side::There(place) => {
                let record = self.accounts.get(place).and_then(|account| account.records.get(id));
                record.and_then(|record| record.fields.get(pointer).cloned()).unwrap_or(Value::Null)
            }
        }
    }

    pub(super) fn edit(&mut self, side: Side, id: &str) {
        let person = self.person_of(side, id);
        let mut changes: Vec<(&'static str, Value)> = Vec::new();
        let which = self.roll(|dice| dice.below(100));
        if which < 15 {
            let mut tags = match self.field_of(side, id, TAGS) {
                Value::Array(tags) => tags,
                _ => Vec::new(),
            };
            if !tags.is_empty() && self.chance(400) {
                let place = self.roll(|dice| dice.place(tags.len()));
                tags.remove(place);
            } else {
                let token = self.next_token();
                tags.push(Value::String(format!("t{token}")));
            }
            changes.push((TAGS, Value::Array(tags)));
        } else if which < 20 {
            let token = self.next_token();
            changes.push((EMAIL, self.roll(|dice| values::text(dice, EMAIL, person, token))));
        } else {
            for _ in 0..self.roll(|dice| dice.between(1, 2)) {
                let pointer = self.roll(|dice| dice.pick(&EDITED).copied()).unwrap_or(NAME);
                if changes.iter().any(|(known, _)| *known == pointer) {
                    continue;
                }
                let token = self.next_token();
                let mut value = self.roll(|dice| values::text(dice, pointer, person, token));
                if self.chance(80) {
                    value = Value::Null;
                } else if self.setting.refuses && side == Side::Here && pointer == NAME && self.chance(150) {
                    value = Value::String(format!("Na{token}!"));
                }
                changes.push((pointer, value));
            }
        }
        self.lay(side, id, &changes);
    }

    pub(super) fn lay(&mut self, side: Side, id: &str, changes: &[(&'static str, Value)]) {
        self.shared.trace(|| format!("a person edits {id} at {side:?}: {changes:?}"));
        match side {
            Side::Here => {
                let _taken = self.system_a.edit(id, changes);
            }
            Side::There(place) => {
                let fields: BTreeMap<&'static str, Value> = changes.iter().cloned().collect();
                self.person_pen(place, |account, pen| {
                    let live = account.records.get(id).is_some_and(crate::account::Record::live);
                    let free = fields.get(EMAIL).is_none_or(|address| account.takes(id, address));
                    if live && free {
                        account.change(id, &fields, What::Edited, pen);
                    }
                });
            }
        }
    }

    pub(super) fn delete(&mut self, side: Side, id: &str) {
        self.met("deletions");
        self.shared.trace(|| format!("a person deletes {id} at {side:?}"));
        match side {
            Side::Here => self.system_a.delete(id),
            Side::There(place) => {
                self.person_pen(place, |account, pen| account.change(id, &BTreeMap::new(), What::Died, pen));
            }
        }
    }

    fn bring_back(&mut self, side: Side) {
        match side {
            Side::Here => {
                let gone = self.system_a.deleted();
                let Some(id) = self.roll(|dice| dice.pick(&gone).cloned()) else { return };
                let history = self.history.lock();
                let code = history.tracks.get(&(Side::Here, id.clone())).map(|track| track.code.clone());
                drop(history);
                let token = self.next_token();
                let mut document = Map::new();
                document.insert("code".into(), Value::String(code.unwrap_or_default()));
                let name = self.roll(|dice| values::text(dice, NAME, 0, token));
                document.insert("name".into(), name);
                self.shared.trace(|| format!("a person puts {id} back at {side:?}: {document:?}"));
                if self.system_a.put_back(&id, document) {
                    self.met("records put back");
                }
            }
            Side::There(place) => {
                let bin = self.accounts.get(place).map(Account::bin).unwrap_or_default();
                let Some(id) = self.roll(|dice| dice.pick(&bin).cloned()) else { return };
                let address = self.field_of(side, &id, EMAIL);
                if self.erasures.lock().again.contains(address.as_str().unwrap_or_default()) {
                    return;
                }
                self.shared.trace(|| format!("a person restores {id} at {side:?}"));
                let done = self.person_pen(place, |account, pen| {
                    let address =
                        account.records.get(&id).and_then(|record| record.fields.get(EMAIL)).cloned();
                    let free = address.is_none_or(|address| account.takes(&id, &address));
                    if free {
                        account.change(&id, &BTreeMap::new(), What::Back, pen);
                    }
                    free
                });
                if done == Some(true) {
                    self.met("records put back");
                }
            }
        }
    }

    fn merge(&mut self, side: Side) {
        let Side::There(place) = side else { return };
        let ids = self.live(side);
        let (Some(loser), Some(winner)) =
            (self.roll(|dice| dice.pick(&ids).cloned()), self.roll(|dice| dice.pick(&ids).cloned()))
        else {
            return;
        };
        if loser == winner {
            return;
        }
        self.met("merges");
        self.shared.trace(|| format!("a person merges {loser} into {winner} at {side:?}"));
        let to = winner.clone();
        self.person_pen(place, |account, pen| {
            account.change(&loser, &BTreeMap::new(), What::Merged(to), pen);
        });
        let token = self.next_token();
        let title = self.roll(|dice| values::text(dice, "/title", 0, token));
        self.lay(side, &winner, &[("/title", title)]);
    }
}
