//! Which edit stands: the newest of those that saw each other, and of those that did not the one that policy names; elements of sets one
//! by one; and that what is carried comes in the order in which it was made.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::Millis;
use tandem_core::descriptor::Condition;
use tandem_core::policy::{OnConflict, OnRewrite};

use super::{ACCOUNTED, Checker, Edit, Shown, elements};
use crate::history::{Change, Side, Who};
use crate::scenario::Kind as Scene;
use crate::values::{self, CODE, EMAIL, FIELDS, Rewrite, TAGS};

impl Checker<'_> {
    /// Persons' edits of a field of a person's records on one side, oldest first.
    fn edits(&self, side: Side, code: &str, pointer: &str) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (_, track) in self.tracks(side, code) {
            for change in track.changes.iter().filter(|change| change.who == Who::Person) {
                if let Some(value) = change.fields.get(pointer) {
                    edits.push(Edit {
                        side,
                        number: change.number,
                        at: change.at,
                        token: values::token(value),
                    });
                }
            }
        }
        edits.sort_by_key(|edit| edit.number);
        edits
    }

    /// Whether Tandem surely knows that a write of its own took effect.
    pub(super) fn accounted(&self, change: &Change) -> bool {
        let Who::Tandem(_, call) = change.who else { return true };
        let from = change.at;
        let until = match call {
            0 => change.at,
            call => match self.history.calls.get(&call) {
                // What the provider was given and could not read might as well have been lost.
                Some(call) if call.clean && !call.faulted => call.answered.unwrap_or(change.at),
                _ => return false,
            },
        };
        !self.history.crashes.iter().any(|crash| (from..=until + ACCOUNTED).contains(crash))
    }

    /// Whether an edit was made on a side where the other edit's value was seen before. None: it was, but Tandem may not know.
    pub(super) fn saw(&self, edit: &Edit, other: &Edit, code: &str, pointer: &str) -> Option<bool> {
        let mut seen = Some(false);
        for (_, track) in self.tracks(edit.side, code) {
            let mut before = track.changes.iter().filter(|change| change.number < edit.number);
            while let Some(change) = before.next() {
                let Some(value) = change.fields.get(pointer) else { continue };
                // That both cleared a field by themselves tells neither of the other.
                let told = other.token.is_some()
                    || change.number > other.number && matches!(change.who, Who::Tandem(..));
                if values::token(value) == other.token && told {
                    // Or people wrote the same at both sides: unless the two were read as they had it, nobody knows that one is the
                    // other's.
                    let mut later = before.clone().filter(|change| change.fields.contains_key(pointer));
                    let until = later.next().map_or(edit.at, |change| change.at);
                    let is_carried = matches!(change.who, Who::Tandem(..))
                        || self.were_read(code, change.at.max(other.at), until);
                    if is_carried && self.accounted(change) {
                        return Some(true);
                    }
                    seen = None;
                }
            }
        }
        seen
    }

    /// Whether a person's record in a CRM was read between two moments, long enough before the second to be linked by then.
    fn were_read(&self, code: &str, since: Millis, until: Millis) -> bool {
        let ids = self
            .history
            .tracks
            .iter()
            .filter(|((side, _), track)| matches!(side, Side::There(_)) && track.code == code);
        let looks: Vec<String> = ids.map(|((_, id), _)| format!("GET /people/{id} ")).collect();
        let mut calls = self.history.calls.values().filter(|call| call.tells());
        calls.any(|call| {
            let is_then = call.answered.is_some_and(|at| at > since && at.saturating_add(ACCOUNTED) < until);
            is_then && looks.iter().any(|look| call.line.starts_with(look))
        })
    }

    /// Whether every call about a record was answered and the answer understood, and the process never died.
    pub(super) fn undisturbed(&self, x: &str) -> bool {
        let about = format!("/{x} ");
        self.history.crashes.is_empty()
            && self.history.calls.values().all(|call| {
                let is_about = call.line.contains(&about) || call.line.starts_with("POST /people ");
                call.clean && !call.faulted || !is_about
            })
    }

    /// No older value stands where a newer one should.
    pub(super) fn newest(&mut self, place: usize, code: &str, x: &str, shown: &Shown) {
        let policy = &self.world.setting.accounts[place].1;
        let single = self.world.accounts.len() == 1;
        for field in FIELDS.iter().filter(|field| field.pointer != CODE && field.pointer != TAGS) {
            let pointer = field.pointer;
            if shown.fields.contains(pointer) {
                continue;
            }
            let mut sides = vec![Side::Here];
            sides.extend((0..self.world.accounts.len()).map(Side::There));
            let all: Vec<Vec<Edit>> = sides.iter().map(|side| self.edits(*side, code, pointer)).collect();
            let last: Vec<Edit> = all.iter().filter_map(|edits| edits.last().copied()).collect();
            let grouped = policy.groups.contains_key(pointer);
            if grouped && (self.group_contested(place, code, pointer) || self.may_be_edited(place, x)) {
                continue;
            }
            if self.waits_elsewhere(place, code) {
                continue;
            }
            let (mut allowed, certain) = self.not_overtaken(&last, code, pointer);
            // What could not be told from a rewrite may have stayed where it was made.
            let told: Vec<Edit> =
                last.iter().filter(|edit| !self.may_stay(edit, place, code, pointer)).copied().collect();
            if told.len() < last.len() {
                allowed.extend(self.not_overtaken(&told, code, pointer).0);
            }
            let stands = values::token(&self.value(Side::There(place), x, pointer));
            let cleared = allowed.iter().all(|edit| edit.token.is_none());
            if self.recognised_by_address(place, x, pointer, stands, cleared) {
                self.passed.push("records that met by their address after the answer to a create was lost");
                continue;
            }
            if !allowed.iter().any(|edit| edit.token == stands)
                && self.may_be_somebodys(place, x, pointer, stands)
            {
                self.passed.push("writes in doubt that the server had rewritten");
                continue;
            }
            if !allowed.iter().any(|edit| edit.token == stands) && !last.is_empty() {
                self.fail(format!(
                    "{code}: {pointer} of {x} in account {place} has token {stands:?}; it should be one of {allowed:?}"
                ));
                continue;
            }
            let habits = &self.world.accounts[place].habits;
            // Where an edit is found afterwards, its event has come.
            let is_found = |edit: &Edit| edit.side == Side::Here || self.was_told(place, x, edit.number);
            let fits = self.world.scenario.kind != Scene::Unfit;
            let afterwards = habits.event_times && fits && allowed.iter().all(is_found);
            let exact = habits.condition == Condition::Etag || afterwards;
            if exact && single && certain && allowed.len() == 2 && !grouped && self.undisturbed(x) {
                let of =
                    |wanted: Side| allowed.iter().find(|edit| edit.side == wanted).and_then(|it| it.token);
                let (here, there) = (of(Side::Here), of(Side::There(place)));
                if here.is_none() || there.is_none() || here == there {
                    continue;
                }
                let right = match policy.default.on_conflict {
                    OnConflict::Internal => stands == here,
                    OnConflict::External => stands == there,
                    // An event has a time that may decide; a record has none of a field.
                    OnConflict::Newest => afterwards,
                    OnConflict::Review => false,
                };
                if !right {
                    self.fail(format!(
                        "{code}: {pointer} of {x}: {here:?} in system a and {there:?} in the account did not see each other; {stands:?} stands against policy {:?}",
                        policy.default.on_conflict
                    ));
                }
            }
        }
    }

    /// The answer to a record's create was lost, and all that it could be found by is the address: it may as well be somebody's own, so
    /// that the two meet as any two records do. Whether a field never had a value or somebody cleared it since cannot be told
    /// without a document; whether the server rewrote it cannot be told at all.
    fn recognised_by_address(
        &self,
        place: usize,
        x: &str,
        pointer: &str,
        stands: Option<u64>,
        cleared: bool,
    ) -> bool {
        let habits = &self.world.accounts[place].habits;
        let Some(born) = self.searched_by_address(place, x) else { return false };
        (cleared && !habits.finds_whole || !habits.rewrites.is_empty())
            && stands.is_some()
            && born.fields.get(pointer).and_then(values::token) == stands
    }

    /// The server made something else of a write whose outcome Tandem does not know: for all that can be told, somebody has edited it.
    fn may_be_somebodys(&self, place: usize, x: &str, pointer: &str, stands: Option<u64>) -> bool {
        let Some(track) = self.history.tracks.get(&(Side::There(place), x.to_owned())) else { return false };
        let last = track.changes.iter().rfind(|change| change.fields.contains_key(pointer));
        let is_rewritten = || {
            let rewrites = &self.world.accounts[place].habits.rewrites;
            rewrites.iter().any(|(field, rewrite)| *field == pointer && *rewrite != Rewrite::None)
        };
        last.is_some_and(|last| {
            matches!(last.who, Who::Tandem(..))
                && last.fields.get(pointer).and_then(values::token) == stands
                && !self.accounted(last)
        }) && is_rewritten()
    }

    /// How a record began in an account without a key, where its address was looked for.
    fn searched_by_address(&self, place: usize, x: &str) -> Option<&Change> {
        if self.world.accounts[place].habits.key {
            return None;
        }
        let born = self.history.tracks.get(&(Side::There(place), x.to_owned()))?.changes.first()?;
        let address = born.fields.get(EMAIL).map(ToString::to_string).unwrap_or_default().to_lowercase();
        let mut calls = self.history.calls.values();
        calls
            .any(|call| call.line.starts_with("POST /find") && call.line.to_lowercase().contains(&address))
            .then_some(born)
    }

    /// The answer to a record's create was lost, it was found by its address or its key, and the server had rewritten it: who does not
    /// know that it is a rewrite takes it for an edit, and an edit may win over a deletion.
    pub(super) fn may_be_edited(&self, place: usize, x: &str) -> bool {
        let is_lost = |born: &Change| match born.who {
            Who::Tandem(..) => !self.accounted(born),
            Who::Person => false,
        };
        let habits = &self.world.accounts[place].habits;
        let by_key = || {
            let track = self.history.tracks.get(&(Side::There(place), x.to_owned()));
            track.and_then(|track| track.changes.first()).filter(|_| habits.key)
        };
        !habits.rewrites.is_empty() && self.searched_by_address(place, x).or_else(by_key).is_some_and(is_lost)
    }

    /// The edits of which no other one was made in sight of them, and whether that is certain.
    fn not_overtaken(&self, last: &[Edit], code: &str, pointer: &str) -> (Vec<Edit>, bool) {
        let (mut left, mut certain) = (Vec::new(), true);
        for edit in last {
            let mut overtaken = false;
            for other in last.iter().filter(|other| other.side != edit.side) {
                let saw = self.saw(other, edit, code, pointer);
                certain &= saw.is_some();
                overtaken |= saw == Some(true);
            }
            if !overtaken {
                left.push(*edit);
            }
        }
        (left, certain)
    }

    /// Whether what people wrote at another account does not fit into System A, and waits there: what came before it is what is carried.
    fn waits_elsewhere(&self, place: usize, code: &str) -> bool {
        let mut others = (0..self.world.accounts.len()).filter(|other| *other != place);
        self.world.scenario.kind == Scene::Unfit && others.any(|other| self.shown(other, code).whole)
    }

    /// Whether an edit at another account may have been taken for a rewrite there, and told to nobody; or waits there.
    fn may_stay(&self, edit: &Edit, place: usize, code: &str, pointer: &str) -> bool {
        let Side::There(other) = edit.side else { return false };
        let mut tracks = self.tracks(edit.side, code).into_iter();
        // Or it waits there for a person.
        let waits = || {
            let shown = self.shown(other, code);
            shown.whole || shown.fields.contains(pointer)
        };
        other != place && (tracks.any(|(id, _)| self.taken_for_rewrite(other, id, pointer)) || waits())
    }

    /// Both sides edited fields of a group, or the CRM's rewrite of one of them is adopted: who wins takes all of it.
    fn group_contested(&self, place: usize, code: &str, pointer: &str) -> bool {
        let policy = &self.world.setting.accounts[place].1;
        if policy.default.on_rewrite == OnRewrite::Adopt
            && !self.world.accounts[place].habits.rewrites.is_empty()
        {
            return true;
        }
        let group = policy.groups.get(pointer);
        let fields = FIELDS.iter().filter(|field| policy.groups.get(field.pointer) == group);
        let mut sides = BTreeSet::new();
        for field in fields {
            for side in 0..self.world.accounts.len() {
                if !self.edits(Side::There(side), code, field.pointer).is_empty() {
                    sides.insert(Side::There(side));
                }
            }
            if !self.edits(Side::Here, code, field.pointer).is_empty() {
                sides.insert(Side::Here);
            }
        }
        sides.len() > 1
    }

    /// An element that somebody added and nobody removed is there; one that somebody removed is not.
    pub(super) fn tags(&mut self, place: usize, code: &str, x: &str, shown: &Shown) {
        let exact = self.world.accounts.iter().all(|it| it.habits.condition == Condition::Etag);
        if shown.fields.contains(TAGS) || !exact || !self.undisturbed(x) || self.world.accounts.len() > 1 {
            return;
        }
        let (mut added, mut removed) = (BTreeSet::new(), BTreeSet::new());
        for side in [Side::Here, Side::There(place)] {
            for (_, track) in self.tracks(side, code) {
                let mut now = BTreeSet::new();
                for change in &track.changes {
                    let Some(value) = change.fields.get(TAGS) else { continue };
                    let next = elements(value);
                    if change.who == Who::Person {
                        added.extend(next.difference(&now).cloned());
                        removed.extend(now.difference(&next).cloned());
                    }
                    now = next;
                }
            }
        }
        let wanted: BTreeSet<String> = added.difference(&removed).cloned().collect();
        let stands = elements(&self.value(Side::There(place), x, TAGS));
        if wanted != stands {
            self.fail(format!(
                "{code}: tags of {x} in account {place} are {stands:?}; {wanted:?} were left by people"
            ));
        }
    }

    /// Who made a value: the first edit of a person with its token.
    fn origins(&self, code: &str, pointer: &str) -> BTreeMap<u64, (Side, u64)> {
        let mut origins = BTreeMap::new();
        for ((side, _), track) in self.history.tracks.iter().filter(|(_, track)| track.code == code) {
            for change in track.changes.iter().filter(|change| change.who == Who::Person) {
                if let Some(token) = change.fields.get(pointer).and_then(values::token) {
                    let origin = (*side, change.number);
                    let known = origins.entry(token).or_insert(origin);
                    if known.1 > origin.1 {
                        *known = origin;
                    }
                }
            }
        }
        origins
    }

    /// What Tandem carries to a side comes there in the order in which it was made.
    pub(super) fn order(&mut self, side: Side, code: &str) {
        let tracks: Vec<(String, Vec<Change>)> = self
            .tracks(side, code)
            .into_iter()
            .map(|(id, track)| (id.to_owned(), track.changes.clone()))
            .collect();
        for field in FIELDS.iter().filter(|field| field.pointer != CODE && field.pointer != TAGS) {
            let grouped = self.world.setting.accounts[0].1.groups.contains_key(field.pointer);
            if grouped {
                continue;
            }
            let origins = self.origins(code, field.pointer);
            for (id, changes) in &tracks {
                let mut newest: BTreeMap<Side, u64> = BTreeMap::new();
                for change in changes.iter().filter(|change| matches!(change.who, Who::Tandem(..))) {
                    let Some(token) = change.fields.get(field.pointer).and_then(values::token) else {
                        continue;
                    };
                    let Some((from, number)) = origins.get(&token).copied() else { continue };
                    if newest.get(&from).is_some_and(|known| *known > number) {
                        self.fail(format!(
                            "{code}: {} of {id} at {side:?}: an older value ({token}) was written after a newer one",
                            field.pointer
                        ));
                    }
                    newest.insert(from, number);
                }
            }
        }
    }
}
