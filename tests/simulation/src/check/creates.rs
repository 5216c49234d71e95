//! What is asked of creates whose outcome is not known, and of the links that come of them.

use std::collections::BTreeMap;

use serde_json::Value;
use tandem::store::Store as _;
use tandem_core::id::ExternalKey;
use tandem_core::link::Life;

use super::Checker;
use crate::daemon::connection_id;
use crate::history::{Call, Side, What};
use crate::values::OBJECT;

/// A create that was sent: whose it is, and its address.
fn create(call: &Call) -> Option<(String, String)> {
    let body: Value = serde_json::from_str(call.line.strip_prefix("POST /people ")?.trim()).ok()?;
    let text = |name: &str| Some(body.get("properties")?.get(name)?.as_str()?.to_owned());
    // Where the CRM knows it by its key, nothing is made twice.
    body.get("key").is_none().then_some(())?;
    Some((text("Code")?, text("Mail")?))
}

impl Checker<'_> {
    /// A create whose answer did not come is not sent again before the account's searches would show the record. A run that was killed
    /// knows only when it was begun.
    pub(super) fn waited(&mut self) {
        let mut creates: BTreeMap<(usize, (String, String)), Vec<&Call>> = BTreeMap::new();
        for call in self.history.calls.values() {
            if let Some(of) = create(call) {
                creates.entry((call.place, of)).or_default().push(call);
            }
        }
        let mut wrong = Vec::new();
        for ((place, (code, address)), calls) in creates {
            let Some(account) = self.world.accounts.get(place) else { continue };
            let own = self.history.tracks.values().filter(|track| track.code == code);
            let dies = own.into_iter().flat_map(|track| &track.changes);
            let dies = dies.into_iter().any(|change| matches!(change.what, What::Died | What::Merged(_)));
            for (first, second) in calls.iter().zip(calls.iter().skip(1)) {
                let Some(lost) = first.answered.filter(|_| !first.clean && !first.faulted) else { continue };
                let is_killed = self.history.crashes.iter().any(|at| (first.sent..=second.sent).contains(at));
                if second.sent < lost + account.habits.lag && !dies && !is_killed {
                    wrong.push(format!(
                        "{code}: {address} was made in account {place} again before searches could show it: {}",
                        second.line
                    ));
                }
            }
        }
        self.wrong.extend(wrong);
    }

    /// Whoever asks by the CRM's id finds the record that it is linked to.
    pub(super) fn found_by_id(&mut self, place: usize) {
        let connection = connection_id(place);
        for link in self.world.disk.scan_links(&connection, None, 10_000).unwrap_or_default() {
            let Some(id) = link.external.clone().filter(|_| link.life == Life::Active) else { continue };
            let key = ExternalKey { connection: connection.clone(), object: OBJECT.into(), id: id.clone() };
            let of = self.world.disk.entity_of(&key).ok().flatten();
            let lives = self.world.accounts.get(place).is_some_and(|it| it.live().contains(&id.to_string()));
            let code = self.history.tracks.get(&(Side::There(place), id.to_string()));
            if of.as_ref() != Some(&link.entity) && lives {
                self.fail(format!(
                    "{}: {id} in account {place} is linked to {} and known as that of {of:?}",
                    code.map_or("", |track| &track.code),
                    link.entity.id
                ));
            }
        }
    }

    /// No link is left with a record that is gone, deleted or merged into another one, unless a person is asked about it.
    pub(super) fn lives_on(&mut self, place: usize) {
        let connection = connection_id(place);
        for link in self.world.disk.scan_links(&connection, None, 10_000).unwrap_or_default() {
            let Some(id) = link.external.clone().filter(|_| link.life == Life::Active) else { continue };
            let Some(track) = self.history.tracks.get(&(Side::There(place), id.to_string())) else {
                continue;
            };
            let code = track.code.clone();
            let here = self.history.tracks.get(&(Side::Here, link.entity.id.to_string()));
            let of_person = here.map_or(&code, |track| &track.code).clone();
            let lives = self.world.accounts.get(place).is_some_and(|it| it.live().contains(&id.to_string()));
            if lives || self.shown(place, &of_person).whole || self.shown(place, &code).whole {
                continue;
            }
            self.fail(format!(
                "{code}: {id} in account {place} is gone, and linked to {} still",
                link.entity.id
            ));
        }
    }
}
