//! An operator who has people erased: whom, how often it is asked whether it is done, and who comes again afterwards.

use tandem_core::id::{EntityKey, ExternalKey};

use super::{Event, World};
use crate::daemon::connection_id;
use crate::erasure::Ordered;
use crate::history::Side;
use crate::values::{self, EMAIL, OBJECT};

impl World {
    /// An operator is told whom to erase: mostly somebody who is there, by the id in System A or in a CRM.
    pub(super) fn choose(&mut self) {
        if !self.awake {
            return;
        }
        let accounts = self.accounts.len();
        let erasures = self.erasures.clone();
        let mut guard = erasures.lock();
        let dice = &mut guard.dice;
        let chosen = match dice.below(20) {
            0..=1 => dice.pick(&self.system_a.deleted()).cloned(),
            2..=6 => {
                let place = dice.place(accounts);
                let id = dice.pick(&self.live(Side::There(place))).cloned();
                id.and_then(|id| self.linked_to(place, &id))
            }
            _ => dice.pick(&self.system_a.live()).cloned(),
        };
        let Some(id) = chosen else { return };
        let entity = EntityKey { scope: self.system_a.scope(), object: OBJECT.into(), id: id.into() };
        guard.orders.push(Ordered::new(entity, self.shared.number()));
        let place = guard.orders.len() - 1;
        drop(guard);
        self.met("erasures");
        self.ask_to_erase(place);
    }

    /// System A's record that a CRM's record is linked to.
    pub(super) fn linked_to(&self, place: usize, id: &str) -> Option<String> {
        use tandem::store::Store as _;
        let key = ExternalKey { connection: connection_id(place), object: OBJECT.into(), id: id.into() };
        self.disk.entity_of(&key).ok().flatten().map(|entity| entity.id.to_string())
    }

    /// An operator asks until it is done; the daemon may have gone on by itself meanwhile.
    pub(super) fn ask_to_erase(&mut self, place: usize) {
        let erasures = self.erasures.clone();
        let mut guard = erasures.lock();
        let (asks, wait) = (guard.dice.chance(500), guard.dice.between(500, 20_000));
        let Some(order) = guard.orders.get(place) else { return };
        let (entity, done, answered) = (order.entity.clone(), order.done.is_some(), order.answered);
        drop(guard);
        if done {
            self.make_again(&entity);
            return;
        }
        if (asks || !answered)
            && let Some(daemon) = &mut self.daemon
        {
            self.shared.trace(|| format!("an operator has {entity} erased"));
            daemon.erase(place, &erasures);
        }
        self.shared.after(wait, Event::Erase(Some(place)));
    }

    /// Somebody comes again who was erased: a new person, with the address of the old one.
    fn make_again(&mut self, erased: &EntityKey) {
        let history = self.history.lock();
        let track = history.tracks.get(&(Side::Here, erased.id.to_string()));
        let changes = track.into_iter().flat_map(|track| &track.changes);
        let address = changes.filter_map(|change| change.fields.get(EMAIL)).next_back().cloned();
        drop(history);
        let Some(address) = address.filter(|address| !values::blank(address)) else { return };
        let text = address.as_str().unwrap_or_default().to_owned();
        let sides = (0..self.accounts.len()).map(Side::There).chain([Side::Here]);
        let is_taken = sides.into_iter().any(|side| {
            let mut ids = self.live(side).into_iter();
            ids.any(|id| {
                let other = self.field_of(side, &id, EMAIL);
                other.as_str().is_some_and(|other| other.trim().eq_ignore_ascii_case(text.trim()))
            })
        });
        let comes = self.erasures.lock().dice.chance(500);
        if is_taken || !comes || !self.awake {
            return;
        }
        self.met("people made again after an erasure");
        self.erasures.lock().again.insert(text);
        self.persons += 1;
        let person = self.persons;
        self.create_at(self.some_side(), person, &address);
    }
}
