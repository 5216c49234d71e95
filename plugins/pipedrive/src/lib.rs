//! Pipedrive: persons as contacts, both ways, over version 2 of its API.
//!
//! What shapes this provider: there is no upsert, no id of ours but what a custom field holds, no unique identity and no
//! precondition; a call costs tokens of a daily budget besides a rolling window; a person has any number of addresses and
//! telephone numbers, of which System A has one each, so that a changed list is merged into the one that is there; custom fields
//! stand under keys of forty characters with ids for options; deleted persons are in no listing. Webhooks are made by API, behind
//! HTTP Basic. Where the documentation leaves a form open, both are accepted.
//!
//! A person is mapped in a flat form where every value is text (`plain`); the host only ever sees Pipedrive's own form.

mod account;
mod changes;
mod describe;
mod entries;
mod intake;
mod kinds;
mod person;
mod plain;
mod quotas;
mod record;
mod refusal;
mod requests;
mod settings;
mod single;
mod watch;
mod write;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_provider::classify::unreadable;
use tandem_provider::json::{self, Node};
use tandem_provider::{
    Answer, ConnectionDescriptor, Context, Delivery, Descriptor, Mapping, Observed, Operation, Problem,
    Provider, Reply, Response,
};

use kinds::Kind;
use settings::{Facts, Settings};

/// The provider, configured for one account.
#[derive(Debug)]
pub struct Pipedrive {
    settings: Settings,
    facts: Facts,
    /// Between canonical contacts and persons in flat form.
    persons: Mapping,
    /// What Pipedrive keeps in each custom field that is mapped, by its key.
    kinds: BTreeMap<String, Kind>,
    /// Keys of custom fields that are asked for, joined by commas. None: too many to be named, all of them come.
    wanted: Option<String>,
}

tandem_provider::provider!(Pipedrive);

/// Which request of an operation an answer belongs to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
enum Note {
    /// The operation's first and usual request.
    First,
    /// An update of lists or compounds: the record as it is now, to merge into.
    Before,
    /// A write met no record: is it in the bin?
    Missing,
    /// Find: the search for the key.
    KeySearch,
    /// Find: a read of what the search for the key showed; what is still to be read.
    KeyRead { id: String, rest: Vec<String> },
    /// Find: the search for the identity field at this place in the operation; what was found before.
    Identity { place: usize, found: Vec<String> },
    /// Discover: a page; what the pages before said.
    Fields { known: Value },
}

impl Provider for Pipedrive {
    fn describe() -> Descriptor {
        describe::descriptor()
    }

    fn configure(settings: &Value, facts: &Value) -> Result<Self, Vec<Problem>> {
        let settings = Settings::read(settings)?;
        let facts = Facts::read(facts);
        let (persons, kinds) = person::mapping(&settings, &facts)?;
        let wanted = requests::wanted(&settings, kinds.keys());
        Ok(Self { settings, facts, persons, kinds, wanted })
    }

    fn connection(&self) -> ConnectionDescriptor {
        describe::connection(self)
    }

    /// None: the mapping is one of flat persons, and `to_provider` and `to_canonical` below speak Pipedrive's form.
    fn mapping(&self, _: &str) -> Option<&Mapping> {
        None
    }

    fn to_provider(
        &self,
        object: &str,
        canonical: &[u8],
        current: Option<&[u8]>,
    ) -> Result<Vec<u8>, Vec<Problem>> {
        known(object)?;
        let canonical = parse(canonical, "canonical document")?;
        let current = match current {
            Some(bytes) => parse(bytes, "current document")?,
            None => Node::object(),
        };
        if current.as_object().is_none() {
            let message = format!("the current document is {}", current.kind());
            return Err(vec![Problem::new("wrong-shape", message).at("")]);
        }
        let before = self.plain(&current);
        let after = self.persons.put(&canonical, Some(before.clone()))?;
        self.merge(current, &before, &after).map(|document| document.to_bytes())
    }

    fn to_canonical(&self, object: &str, document: &[u8]) -> Result<Vec<u8>, Vec<Problem>> {
        known(object)?;
        let document = parse(document, "provider document")?;
        if document.as_object().is_none() {
            let message = format!("the document is {}", document.kind());
            return Err(vec![Problem::new("wrong-shape", message).at("")]);
        }
        let plain = self.plain(&document);
        match self.persons.get(&plain) {
            Ok(canonical) => Ok(canonical.to_bytes()),
            Err(problems) => Err(problems.into_iter().map(plain::at_its_place).collect()),
        }
    }

    fn start(&self, operation: &Operation, context: &Context) -> Reply {
        if operation.object().is_some_and(|object| object != person::OBJECT) {
            return Answer::unsupported(operation).into();
        }
        match operation {
            Operation::Probe => self.account_request().then_note(&Note::First),
            Operation::Discover(_) => requests::fields(None)
                .then_note(&Note::Fields { known: Value::Object(serde_json::Map::new()) }),
            Operation::Read(read) => self.read_request(&read.id).then_note(&Note::First),
            Operation::Find(find) => self.find(find),
            Operation::Write(write) => self.write(write),
            Operation::Remove(remove) => requests::remove(&remove.id).then_note(&Note::First),
            Operation::Changes(listing) => self.changes(listing, context),
            Operation::Walk(listing) => self.walk(listing),
            Operation::Watch(watch) => self.watch(watch),
            Operation::Other(name, _) if name == account::MAY_WRITE => {
                requests::may_write().then_note(&Note::First)
            }
            // Pipedrive deletes for good by itself, thirty days after; there is no call for it.
            Operation::Other(..) => Answer::unsupported(operation).into(),
        }
    }

    fn resume(&self, operation: &Operation, note: &[u8], response: &Response, context: &Context) -> Reply {
        let quotas = quotas::states(operation, note, response, context);
        let reply = match operation {
            Operation::Changes(listing) => self.changes_page(operation, listing, response, context),
            Operation::Walk(listing) => self.walk_page(operation, listing, response, context),
            Operation::Watch(watch) => self.watched(operation, watch, note, response, context),
            _ => match serde_json::from_slice::<Note>(note) {
                Ok(note) => self.single(operation, note, response, context),
                Err(error) => unreadable(operation, &format!("note: {error}")).into(),
            },
        };
        reply.with_quotas(quotas)
    }

    fn receive(&self, delivery: &Delivery, _: &Context) -> Result<Vec<Observed>, Problem> {
        self.event(delivery)
    }
}

fn known(object: &str) -> Result<(), Vec<Problem>> {
    if object == person::OBJECT {
        return Ok(());
    }
    Err(vec![Problem::new("unknown-object", format!("this provider has no object {object}"))])
}

fn parse<'a>(bytes: &'a [u8], name: &str) -> Result<Node<'a>, Vec<Problem>> {
    json::parse(bytes).map_err(|error| vec![Problem::new("invalid-json", format!("{name}: {error}"))])
}

#[cfg(test)]
mod tests;
