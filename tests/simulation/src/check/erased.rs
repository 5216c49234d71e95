//! What is asked of erasures: what was said to be gone is gone, from the store too, and nothing that Tandem does brings it back.
//!
//! A record that a person puts back under its own id in System A is made anew, and asked about no more. One that a person takes out of
//! a CRM's bin stays away from System A: Tandem takes no notice of it.

use std::collections::BTreeSet;

use tandem::store::{Call, Class, Hint, Store, Subject};
use tandem_core::clash::{Clash, Waits};
use tandem_core::exchange::State;
use tandem_core::id::{EntityKey, ExternalKey};

use super::Checker;
use crate::daemon::connection_id;
use crate::erasure::Ordered;
use crate::history::{Change, Side, Track, What, Who};
use crate::values::{self, CODE, OBJECT, TAGS};

/// No world has more accounts.
const ACCOUNTS: usize = 3;

/// What is looked through of anything.
const MOST: usize = 10_000;

/// What the store has of a record under its ids. `later`: also what others' work may write a moment after the record is gone, and
/// drops again.
pub(crate) fn traces<S: Store>(store: &S, order: &Ordered, later: bool) -> Vec<String> {
    let entity = &order.entity;
    let mut left = Vec::new();
    let copies = |place: usize| order.copies.iter().filter(move |(of, _)| *of == place).map(|(_, id)| id);
    let is_copy = |place: usize, id: &str| copies(place).any(|copy| copy == id);
    left.extend(store.links(entity).unwrap_or_default().iter().map(|link| format!("a link: {link:?}")));
    left.extend(
        store.history(entity, 1).unwrap_or_default().iter().map(|entry| format!("history: {entry:?}")),
    );
    for place in 0..ACCOUNTS {
        let connection = connection_id(place);
        let intent = store.intent(entity, &connection).ok().flatten();
        left.extend(intent.map(|intent| format!("an intent: {intent:?}")));
        for id in copies(place) {
            let key =
                ExternalKey { connection: connection.clone(), object: OBJECT.into(), id: id.as_str().into() };
            let known = store.entity_of(&key).ok().flatten();
            left.extend(known.map(|of| format!("the index: {id} of {connection} belongs to {}", of.id)));
        }
        let is_about = |subject: &Subject| match subject {
            Subject::Internal(id) => *id == entity.id,
            Subject::External(id) => is_copy(place, id.as_str()),
            Subject::Delivery(_) => false,
        };
        for letter in store.dead(Some(&connection), MOST).unwrap_or_default() {
            let external = letter.external.as_ref().is_some_and(|id| is_copy(place, id.as_str()));
            if letter.entity.as_ref() == Some(entity) || external || is_about(&letter.hint.subject) {
                left.push(format!("a letter: {letter:?}"));
            }
        }
        for (name, value) in store.values_under("", None, MOST).unwrap_or_default() {
            let text = String::from_utf8_lossy(&value);
            let own = name.contains(&format!("/{connection}/")) && !name.starts_with("cursor/");
            let ids = copies(place).map(String::as_str).chain([entity.id.as_str()]);
            if !own || !ids.into_iter().any(|id| text.contains(&format!("\"{id}\""))) {
                continue;
            }
            let of_others = serde_json::from_slice::<Clash>(&value).is_ok_and(|clash| match &clash.waits {
                Waits::Internal(id) => *id != entity.id,
                Waits::External(id) => !is_copy(place, id.as_str()),
            });
            if later || !of_others {
                left.push(format!("{name}: {text}"));
            }
        }
        if later {
            let hints = hints(store, place);
            left.extend(
                hints.iter().filter(|it| is_about(&it.subject)).map(|hint| format!("a hint: {hint:?}")),
            );
        }
    }
    left
}

/// All that waits for a connection.
fn hints<S: Store>(store: &S, place: usize) -> Vec<Hint> {
    let connection = connection_id(place);
    let mut all: Vec<Hint> = Vec::new();
    for class in Class::ALL {
        all.extend(store.ready(&connection, class, 0, MOST).unwrap_or_default());
    }
    let delayed = store.delayed(u64::MAX, MOST).unwrap_or_default();
    all.extend(delayed.into_iter().filter(|hint| hint.connection == connection));
    all
}

/// Everything that the store has, in words.
fn everything<S: Store>(store: &S, entities: impl Iterator<Item = EntityKey>) -> Vec<String> {
    let mut all = Vec::new();
    let told = |hint: &Hint| {
        let body = match hint.observed.as_ref().map(|observed| &observed.state) {
            Some(State::Whole(body) | State::Partial(body)) => String::from_utf8_lossy(body).into_owned(),
            _ => String::new(),
        };
        let raw = match &hint.subject {
            Subject::Delivery(seq) => store.delivery(*seq).ok().flatten(),
            _ => None,
        };
        let raw = raw.map(|raw| String::from_utf8_lossy(&raw.delivery.body).into_owned());
        format!("{:?} {body} {}", hint.subject, raw.unwrap_or_default())
    };
    for entity in entities {
        all.extend(store.history(&entity, MOST).unwrap_or_default().iter().map(|entry| format!("{entry:?}")));
    }
    for place in 0..ACCOUNTS {
        let connection = connection_id(place);
        let links = store.scan_links(&connection, None, MOST).unwrap_or_default();
        all.extend(links.iter().map(|link| format!("{link:?}")));
        for intent in store.intents(&connection, &OBJECT.into()).unwrap_or_default() {
            all.push(match &intent.call {
                Call::Create { sent, identity, .. } => {
                    format!("intent {identity:?} {}", String::from_utf8_lossy(sent))
                }
                Call::Update { unsettled } => format!("intent {}", String::from_utf8_lossy(unsettled)),
            });
        }
        for letter in store.dead(Some(&connection), MOST).unwrap_or_default() {
            all.push(format!("letter {:?} {}", letter.problems, told(&letter.hint)));
        }
        all.extend(hints(store, place).iter().map(|hint| format!("hint {}", told(hint))));
    }
    for (name, value) in store.values_under("", None, MOST).unwrap_or_default() {
        all.push(format!("{name} {}", String::from_utf8_lossy(&value)));
    }
    all
}

/// Whether a text has a person's value with this number in it.
fn bears(text: &str, token: u64) -> bool {
    let digits = token.to_string();
    text.match_indices(&digits).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + digits.len()..).unwrap_or_default().chars().next();
        let is_whole = !after.is_some_and(|it| it.is_ascii_digit());
        is_whole
            && (before.to_lowercase().ends_with("na")
                || before.ends_with("\"t")
                || before.ends_with('-') && after == Some('@'))
    })
}

/// The numbers of the values that a change has put there.
fn tokens(change: &Change) -> BTreeSet<u64> {
    let mut all = BTreeSet::new();
    for (pointer, value) in change.fields.iter().filter(|(pointer, _)| **pointer != CODE) {
        match value.as_array().filter(|_| *pointer == TAGS) {
            Some(tags) => all.extend(tags.iter().filter_map(values::token)),
            None => all.extend(values::token(value)),
        }
    }
    all
}

impl Checker<'_> {
    /// Whose records were erased.
    pub(super) fn erased_codes(&self) -> BTreeSet<String> {
        let mut codes = BTreeSet::new();
        for order in &self.world.erasures.lock().orders {
            for record in records(order) {
                codes.extend(self.history.tracks.get(&record).map(|track| track.code.clone()));
            }
        }
        codes
    }

    /// What was said to be erased is gone, and stays so.
    pub(super) fn erased(&mut self) {
        let erasures = self.world.erasures.lock();
        let mut wrong = Vec::new();
        for order in &erasures.orders {
            let id = &order.entity.id;
            wrong.extend(
                order.left.iter().map(|left| format!("{id} was said to be erased, and there was {left}")),
            );
            let Some(done) = order.done else { continue };
            let here = self.history.tracks.get(&(Side::Here, id.to_string()));
            if here.is_some_and(|track| came_back(track, order.asked)) {
                continue;
            }
            wrong.extend(
                self.is_away(order, done).into_iter().map(|what| format!("{id} was erased, and {what}")),
            );
            if self.has_apart(order) {
                continue;
            }
            let store = &*self.world.disk;
            let left = traces(store, order, true);
            wrong.extend(left.iter().map(|left| format!("{id} was erased, and at the end there is {left}")));
            let own = self.own_tokens(order, |_| true);
            let scope = self.world.system_a.scope();
            let entities = self.history.tracks.keys().filter(|(side, _)| *side == Side::Here);
            let entities = entities.map(|(_, id)| EntityKey {
                scope: scope.clone(),
                object: OBJECT.into(),
                id: id.as_str().into(),
            });
            for text in everything(store, entities) {
                if let Some(token) = own.iter().find(|token| bears(&text, **token)) {
                    wrong.push(format!("{id} was erased, and its value {token} is kept: {text}"));
                }
            }
        }
        drop(erasures);
        self.wrong.extend(wrong);
    }

    /// Whether there is a record of the same person that was not linked: it is taken in, under the id that was made of it once.
    fn has_apart(&self, order: &Ordered) -> bool {
        self.history.tracks.iter().any(|(record, track)| self.is_apart(order, record, track))
    }

    /// Whether a record of the erased person was none of its records when it was erased, and a person has made it what it is.
    fn is_apart(&self, order: &Ordered, record: &(Side, String), track: &Track) -> bool {
        let of_person = self.history.tracks.get(&(Side::Here, order.entity.id.to_string()));
        let is_persons =
            |change: &Change| change.who == Who::Person && matches!(change.what, What::Born | What::Back);
        record.0 != Side::Here
            && !records(order).contains(record)
            && of_person.is_some_and(|own| own.code == track.code)
            && (track.changes.iter().any(is_persons) || self.is_left(record, track))
    }

    /// Numbers of values that only the erased records ever had, and no other record of those that count.
    fn own_tokens(&self, order: &Ordered, counts: impl Fn(&Change) -> bool) -> BTreeSet<u64> {
        let erased = records(order);
        let (mut own, mut others) = (BTreeSet::new(), BTreeSet::new());
        for (record, track) in &self.history.tracks {
            // With all that it had.
            let apart = self.is_apart(order, record, track);
            for change in &track.changes {
                if erased.contains(record) {
                    own.extend(tokens(change));
                } else if apart || counts(change) {
                    others.extend(tokens(change));
                }
            }
        }
        own.difference(&others).copied().collect()
    }

    /// What of it is there, or was written since.
    fn is_away(&self, order: &Ordered, done: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let erased = records(order);
        let apart = self.has_apart(order);
        for record in erased.iter().filter(|(side, _)| *side != Side::Here || !apart) {
            let Some(track) = self.history.tracks.get(record) else { continue };
            let (side, id) = record;
            let lives = match side {
                Side::Here => self.world.system_a.document(id).is_some(),
                Side::There(place) => {
                    self.world.accounts.get(*place).is_some_and(|it| it.live().contains(id))
                }
            };
            if lives && !came_back(track, order.asked) {
                wrong.push(format!("{id} is there at {side:?}"));
            }
            let moved = track.changes.iter().rev().find_map(|change| match &change.what {
                What::Merged(to) => Some((*side, to.clone())),
                _ => None,
            });
            if let Some(to) = moved.filter(|to| !erased.contains(to) && !self.was_anothers(to, done)) {
                wrong.push(format!("{id} at {side:?} lives on in {}", to.1));
            }
            for change in written_since(track, done) {
                wrong.push(format!(
                    "{id} at {side:?} was written since: {:?} {:?}",
                    change.what, change.fields
                ));
            }
        }
        let own = self.own_tokens(order, |change| change.who == Who::Person);
        for ((side, id), track) in self.history.tracks.iter().filter(|(record, _)| !erased.contains(*record))
        {
            for change in written_since(track, done) {
                if let Some(token) = tokens(change).into_iter().find(|token| own.contains(token)) {
                    wrong.push(format!("its value {token} was written to {id} at {side:?} since"));
                }
            }
        }
        wrong
    }

    /// Whether a CRM's record is nobody's that could have been taken for the erased one: it is gone, or belonged to another record of
    /// System A before.
    fn was_anothers(&self, record: &(Side, String), done: u64) -> bool {
        let Side::There(place) = record.0 else { return true };
        if !self.world.accounts.get(place).is_some_and(|account| account.live().contains(&record.1)) {
            return true;
        }
        let key = ExternalKey {
            connection: connection_id(place),
            object: OBJECT.into(),
            id: record.1.as_str().into(),
        };
        let entity = self.world.disk.entity_of(&key).ok().flatten();
        let born = entity.and_then(|entity| {
            let track = self.history.tracks.get(&(Side::Here, entity.id.to_string()))?;
            track.changes.first().map(|born| born.number)
        });
        born.is_some_and(|born| born < done)
    }
}

/// The records that an order is about.
fn records(order: &Ordered) -> BTreeSet<(Side, String)> {
    let copies = order.copies.iter().map(|(place, id)| (Side::There(*place), id.clone()));
    copies.chain([(Side::Here, order.entity.id.to_string())]).collect()
}

/// Whether a person has put a record back since.
fn came_back(track: &Track, since: u64) -> bool {
    let mut changes = track.changes.iter().filter(|change| change.number > since);
    changes.any(|change| change.what == What::Back && change.who == Who::Person)
}

/// What Tandem has changed of a record since.
fn written_since(track: &Track, since: u64) -> impl Iterator<Item = &Change> {
    let changes = track.changes.iter().filter(move |change| change.number > since);
    changes.filter(|change| matches!(change.who, Who::Tandem(..)))
}
