//! One person of API v2: created, read, changed, deleted.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::errors::Refusal;
use super::person::Shown;
use super::persons::Written;
use super::writing::{one, settle, typed_edit};
use super::{Context, Done, change, delivery};
use crate::faults::FaultKind;
use crate::operation::Operation;
use crate::writes::Writer;

/// Members that can be asked for beside the usual ones.
const EXTRA: &[&str] = &[
    "next_activity_id",
    "last_activity_id",
    "open_deals_count",
    "related_open_deals_count",
    "closed_deals_count",
    "related_closed_deals_count",
    "participant_open_deals_count",
    "participant_closed_deals_count",
    "email_messages_count",
    "activities_count",
    "done_activities_count",
    "undone_activities_count",
    "files_count",
    "notes_count",
    "followers_count",
    "won_deals_count",
    "related_won_deals_count",
    "lost_deals_count",
    "related_lost_deals_count",
    "last_incoming_mail_time",
    "last_outgoing_mail_time",
    "marketing_status",
    "doi_status",
    "smart_bcc_email",
];

/// Members that only the marketing product has.
const MARKETING: &[&str] = &["marketing_status", "doi_status"];

/// Keys that can be asked for at once.
const KEYS: usize = 15;

impl Context<'_> {
    /// What the query asks to see.
    pub(super) fn shown(&self) -> Result<Shown, Refusal> {
        let settings = self.account.settings();
        let mut extra: Vec<String> = Vec::new();
        for name in self.call.list("include_fields") {
            if !EXTRA.contains(&name) {
                return Err(self.wrong_query("include_fields", "Invalid enum value"));
            }
            if !MARKETING.contains(&name) {
                extra.push(name.to_owned());
            }
        }
        let keys: Option<Vec<String>> = self
            .call
            .query("custom_fields")
            .is_some()
            .then(|| self.call.list("custom_fields").map(str::to_owned).collect());
        if keys.as_ref().is_some_and(|keys| keys.len() > KEYS) {
            return Err(self.wrong_query("custom_fields", "A maximum of 15 keys is allowed"));
        }
        Ok(Shown {
            keys,
            extra,
            option_labels: self.flag("include_option_labels")?,
            labels: self.flag("include_labels")?,
            empty: settings.empty_custom_fields,
            synced: settings.contact_sync,
        })
    }

    /// How the answer to a write shows the person.
    pub(super) fn written(&self) -> Shown {
        let settings = self.account.settings();
        Shown { empty: settings.empty_custom_fields, synced: settings.contact_sync, ..Shown::default() }
    }

    fn note_unknown(&self, body: &Map<String, Value>, creating: bool) {
        for name in change::unknown(body, creating) {
            self.violation(format!("unknown member {name}"));
        }
    }

    pub(super) fn create(&self) -> Result<Done, Refusal> {
        self.only_query(&[]);
        let body = self.object()?;
        self.note_unknown(&body, true);
        let rules = self.account.rules(&self.world().dice, self.now);
        let mut persons = self.account.persons.lock();
        let written = persons.create(&body, Writer::Api, rules)?;
        Ok(self.finish(&mut persons, written, &body, rules))
    }

    pub(super) fn update(&self, id: u64) -> Result<Done, Refusal> {
        self.only_query(&[]);
        let body = self.object()?;
        self.note_unknown(&body, false);
        let rules = self.account.rules(&self.world().dice, self.now);
        let mut persons = self.account.persons.lock();
        let written = persons.update(id, &body, Writer::Api, rules)?;
        Ok(self.finish(&mut persons, written, &body, rules))
    }

    fn finish(
        &self,
        persons: &mut super::persons::Persons,
        written: Written,
        body: &Map<String, Value>,
        rules: super::persons::Rules,
    ) -> Done {
        let (world, account) = (self.world(), self.account);
        let settled = settle(world, account, persons, self.operation, (written, body), Writer::Api, rules);
        let view = settled.person.view(&persons.fields, &self.written());
        let waits = delivery::announce(world, account, settled.events);
        Done::json(StatusCode::OK, &one(&view)).after(waits)
    }

    pub(super) fn delete(&self, id: u64) -> Result<Done, Refusal> {
        self.only_query(&[]);
        let rules = self.account.rules(&self.world().dice, self.now);
        let mut persons = self.account.persons.lock();
        let written = persons.delete(id, Writer::Api, rules)?;
        let events = delivery::Event::of(&persons.fields, &written, self.account.user, "api", self.now);
        drop(persons);
        let waits = delivery::announce(self.world(), self.account, events);
        Ok(Done::json(StatusCode::OK, &one(&json!({ "id": id }))).after(waits))
    }

    pub(super) fn read(&self, id: u64) -> Result<Done, Refusal> {
        self.only_query(&["include_fields", "custom_fields", "include_option_labels", "include_labels"]);
        let shown = self.shown()?;
        let (world, account) = (self.world(), self.account);
        let deleted = account.settings().deleted_readable;
        let mut persons = account.persons.lock();
        let person = persons.any(id, self.now).filter(|person| deleted || person.deleted.is_none());
        let person = person.cloned().ok_or_else(|| Refusal::not_found("Person"))?;
        let view = person.view(&persons.fields, &shown);
        let mut done = Done::json(StatusCode::OK, &one(&view));
        if world.faults.any() {
            let rules = account.rules(&world.dice, self.now);
            for fault in world.faults.draw_record(account.company, Operation::PersonsRead, id, &world.dice) {
                match fault {
                    FaultKind::PersonEditAfterRead { properties, .. } => {
                        let n = world.dice.next() % 1_000_000;
                        let edit = typed_edit(account, &mut persons, id, &properties, n, rules);
                        // It is told of on its own; the reader does not wait for it.
                        drop(edit.map(|(_, events)| delivery::announce(world, account, events)));
                    }
                    FaultKind::AnswerBody { body, .. } => done.body = body,
                    _ => {}
                }
            }
        }
        Ok(done)
    }
}
