//! What people do in the scenario of a world, beside what they do in every one.

use serde_json::Value;

use super::{Event, World};
use crate::history::Side;
use crate::scenario::Kind;
use crate::values::{self, EMAIL, NAME, TAGS, TITLE};

impl World {
    /// Something of it happens.
    pub(super) fn scene(&mut self) {
        if !self.awake {
            return;
        }
        match self.scenario.kind {
            Kind::Common => {}
            Kind::Crowd => self.crowd(),
            Kind::Ghosts => self.delete_somebody(),
            Kind::Unfit => self.write_long(),
            Kind::Sets => self.add_elements(),
            Kind::Doubt => self.enter_or_edit(),
            Kind::Purge => self.enter_or_delete(),
            Kind::Anew => self.enter_anew(),
        }
    }

    /// A new person is entered several times at once, or somebody of such a crowd gets another address in System A.
    fn crowd(&mut self) {
        let live = self.system_a.live();
        let dice = &mut self.scenario.dice;
        if self.persons > 0 && dice.chance(500) {
            let last = format!("p{}", self.scenario.last);
            let last = live.iter().find(|id| self.system_a.code(id) == last).filter(|_| dice.chance(700));
            let Some(id) = last.or_else(|| dice.pick(&live)).cloned() else { return };
            let person = self.person_of(Side::Here, &id);
            let token = self.next_token();
            let address = self.roll(|dice| values::text(dice, EMAIL, person, token));
            self.lay(Side::Here, &id, &[(EMAIL, address)]);
            return;
        }
        let (here, sides) = (dice.chance(600), dice.between(1, 4));
        let mut places: Vec<usize> = (0..sides).map(|_| dice.place(self.accounts.len())).collect();
        let late = dice.place(places.len() + 1);
        self.met("crowds of one address");
        self.persons += 1;
        let (person, token) = (self.persons, self.next_token());
        let address = self.roll(|dice| values::text(dice, EMAIL, person, token));
        places.truncate(late.max(1));
        for place in places {
            self.create_at(Side::There(place), person, &address);
        }
        if here {
            self.create_at(Side::Here, person, &address);
        }
        self.scenario.last = person;
        let soon = self.scenario.dice.between(50, 20_000);
        self.shared.after(soon, Event::Scene);
    }

    /// Somebody is entered, or deleted at some side; now and then the process dies a little later.
    fn enter_or_delete(&mut self) {
        let accounts = self.accounts.len();
        let dice = &mut self.scenario.dice;
        let side = if dice.chance(600) { Side::Here } else { Side::There(dice.place(accounts)) };
        let (enters, dies) = (dice.chance(450), dice.chance(200).then(|| dice.between(1, 200)));
        let ids = self.live(side);
        let id = self.scenario.dice.pick(&ids).cloned();
        match id.filter(|_| !enters) {
            Some(id) => self.delete(side, &id),
            None => {
                self.persons += 1;
                let (person, token) = (self.persons, self.next_token());
                let address = self.roll(|dice| values::text(dice, EMAIL, person, token));
                self.create_at(side, person, &address);
            }
        }
        if let Some(steps) = dies {
            self.shared.after(0, Event::Crash(steps));
        }
    }

    /// Somebody is deleted in System A and entered again before the CRM's record can have gone.
    fn enter_anew(&mut self) {
        let ids = self.live(Side::Here);
        let Some(id) = self.scenario.dice.pick(&ids).cloned() else { return };
        let address = self.field_of(Side::Here, &id, EMAIL);
        if address.is_null() {
            return;
        }
        let person = self.person_of(Side::Here, &id);
        self.delete(Side::Here, &id);
        self.met("people deleted and entered again at once");
        self.create_at(Side::Here, person, &address);
    }

    fn delete_somebody(&mut self) {
        let Some(id) = self.scenario.dice.pick(&self.system_a.live()).cloned() else { return };
        // Word of an edit is on its way when the record goes.
        let code = self.code(Side::Here, &id);
        for place in 0..self.accounts.len() {
            let side = Side::There(place);
            let same = self.live(side).into_iter().find(|it| self.code(side, it) == code);
            if let Some(same) = same.filter(|_| self.scenario.dice.chance(500)) {
                self.edit(side, &same);
            }
        }
        if self.scenario.dice.chance(600) {
            self.delete(Side::Here, &id);
        }
    }

    /// Somebody writes a text in a CRM that is too long for System A, or a shorter one in its place, or edits another field here.
    fn write_long(&mut self) {
        let place = self.scenario.dice.place(self.accounts.len());
        let side = Side::There(place);
        let ids = self.live(side);
        let Some(id) = self.scenario.dice.pick(&ids).cloned() else { return };
        let token = self.next_token();
        match self.scenario.dice.below(3) {
            0 => {
                let text = Value::String(format!("{}Na{token}", "long ".repeat(14)));
                self.met("values that do not fit");
                self.lay(side, &id, &[(TITLE, text)]);
            }
            1 => {
                let text = self.roll(|dice| values::text(dice, TITLE, 0, token));
                self.lay(side, &id, &[(TITLE, text)]);
            }
            _ => {
                let code = self.code(side, &id);
                let here = self.live(Side::Here).into_iter().find(|it| self.code(Side::Here, it) == code);
                let text = self.roll(|dice| values::text(dice, NAME, 0, token));
                if let Some(here) = here {
                    self.lay(Side::Here, &here, &[(NAME, text)]);
                }
            }
        }
    }

    /// A new person in System A, or an edit of somebody who is there.
    fn enter_or_edit(&mut self) {
        let ids = self.live(Side::Here);
        if ids.len() < 4 && self.scenario.dice.chance(300) {
            self.create(Side::Here);
        } else if let Some(id) = self.scenario.dice.pick(&ids).cloned() {
            self.edit(Side::Here, &id);
        }
    }

    /// Somebody adds an element here, and somebody else another one there, a moment before or after.
    fn add_elements(&mut self) {
        let ids = self.live(Side::Here);
        let Some(id) = self.scenario.dice.pick(&ids).cloned() else { return };
        let code = self.code(Side::Here, &id);
        let mut sides = vec![(Side::Here, id)];
        for place in 0..self.accounts.len() {
            let side = Side::There(place);
            let same = self.live(side).into_iter().find(|it| self.code(side, it) == code);
            sides.extend(same.map(|same| (side, same)));
        }
        for (side, id) in sides {
            if self.scenario.dice.chance(300) {
                continue;
            }
            let token = self.next_token();
            let mut tags = self.field_of(side, &id, TAGS).as_array().cloned().unwrap_or_default();
            if !tags.is_empty() && self.scenario.dice.chance(150) {
                tags.remove(0);
            }
            tags.push(Value::String(format!("t{token}")));
            self.lay(side, &id, &[(TAGS, Value::Array(tags))]);
        }
    }
}
