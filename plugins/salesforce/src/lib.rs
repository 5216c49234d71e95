//! Salesforce: contacts, both ways.
//!
//! What shapes this provider: the address comes with the token; a create is an upsert on a field that Tandem alone writes; writes
//! are conditional to the second, and answered without the record; the limit of calls is a 403 without a time to come back;
//! deleted and merged records are shown by queries for a while and by a listing of their own; outbound messages are SOAP.
//! Where Salesforce's documentation leaves a form open, both are accepted.
//!
//! It never writes a field that is not mapped, never follows a cursor that can expire, and takes no message of another
//! organisation.

mod changes;
mod contact;
mod describe;
mod ids;
mod intake;
mod listing;
mod outcome;
mod record;
mod refusal;
mod requests;
mod settings;
mod single;
mod soap;
mod soql;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_provider::classify::unreadable;
use tandem_provider::{
    Answer, ConnectionDescriptor, Context, Delivery, Descriptor, Mapping, Observed, Operation, Problem,
    Provider, Reply, Response, Scope,
};

use settings::{Facts, Settings};

/// The provider, configured for one organisation.
#[derive(Debug)]
pub struct Salesforce {
    settings: Settings,
    facts: Facts,
    contacts: Mapping,
    /// Path of the API.
    root: String,
    /// Path of the contacts.
    path: String,
    /// Fields that are asked for, joined by commas.
    wanted: String,
    /// Mapped fields that are yes or no. Salesforce has no third value for them.
    booleans: BTreeSet<String>,
    /// Mapped fields that are numbers.
    numbers: BTreeSet<String>,
}

tandem_provider::provider!(Salesforce);

/// Which request of an operation an answer belongs to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
enum Note {
    /// The operation's first and usual request.
    First,
    /// The record was not found: is it in the bin, or merged into another?
    Bin,
    /// The write was taken; the record as it is now. Without the id: an upsert did not say which record it was.
    After { id: Option<String> },
    /// Before a removal: is the record as it was seen?
    Check,
    /// Probe: what the API has.
    Resources,
    /// Probe: a query for the organisation.
    Organisation,
}

/// Asked by `tandem check --live`: whether records may be written, told without writing one.
const MAY_WRITE: &str = "may-write";

impl Provider for Salesforce {
    fn describe() -> Descriptor {
        describe::descriptor()
    }

    fn configure(settings: &Value, facts: &Value) -> Result<Self, Vec<Problem>> {
        let settings = Settings::read(settings)?;
        let facts = Facts::read(facts);
        let contacts = contact::mapping(&settings, &facts)?;
        let root = format!("/services/data/v{}", settings.api_version);
        let path = format!("{root}/sobjects/{}", contact::NAME);
        let system = ["Id", "SystemModstamp", "LastModifiedById", "IsDeleted", "MasterRecordId"];
        let mut wanted: Vec<&str> = system.to_vec();
        wanted.extend(settings.key_field.as_deref());
        for field in contacts.mapped().filter(|field| field.reads) {
            if !wanted.contains(&field.name) {
                wanted.push(field.name);
            }
        }
        let wanted = wanted.join(",");
        let schema = contacts.schema();
        let of_type = |kinds: &[&str]| -> BTreeSet<String> {
            let kind = |name: &str| schema.get("properties")?.get(name)?.get("type")?.get(0)?.as_str();
            contacts
                .mapped()
                .filter(|field| kind(field.name).is_some_and(|kind| kinds.contains(&kind)))
                .map(|field| field.name.to_owned())
                .collect()
        };
        let (booleans, numbers) = (of_type(&["boolean"]), of_type(&["integer", "number"]));
        Ok(Self { settings, facts, contacts, root, path, wanted, booleans, numbers })
    }

    fn connection(&self) -> ConnectionDescriptor {
        describe::connection(self)
    }

    fn mapping(&self, object: &str) -> Option<&Mapping> {
        (object == contact::OBJECT).then_some(&self.contacts)
    }

    fn start(&self, operation: &Operation, context: &Context) -> Reply {
        if operation.object().is_some_and(|object| object != contact::OBJECT) {
            return Answer::unsupported(operation).into();
        }
        match operation {
            Operation::Probe => requests::user_info().then_note(&Note::First),
            Operation::Discover(_) => self.describe_request().then_note(&Note::First),
            Operation::Read(read) => self.read(&read.id),
            Operation::Find(find) => self.find(find),
            Operation::Write(write) => self.write(write),
            Operation::Remove(remove) => self.remove(remove),
            Operation::Changes(listing) => self.changes(listing, context),
            Operation::Walk(listing) => self.walk(listing),
            Operation::Watch(watch) => Answer::Blocked {
                scope: Scope::Connection,
                problem: Problem::new(
                    "operator",
                    format!(
                        "outbound messages are set up in Salesforce: let a flow on saved contacts send one with Id, \
                         SystemModstamp and the mapped fields, without session id, to {}?key=SECRET",
                        watch.callback
                    ),
                ),
            }
            .into(),
            Operation::Other(name, arguments)
                if name == MAY_WRITE && Self::is_about_contacts(arguments) =>
            {
                self.describe_request().then_note(&Note::First)
            }
            Operation::Other(..) => Answer::unsupported(operation).into(),
        }
    }

    fn resume(&self, operation: &Operation, note: &[u8], response: &Response, context: &Context) -> Reply {
        let quotas = self.quota_states(response, context);
        let reply = match operation {
            Operation::Changes(listing) => self.changes_page(operation, listing, note, response, context),
            Operation::Walk(listing) => self.walk_page(operation, listing, response, context),
            _ => match serde_json::from_slice::<Note>(note) {
                Ok(note) => self.single(operation, note, response, context),
                Err(error) => unreadable(operation, &format!("note: {error}")).into(),
            },
        };
        reply.with_quotas(quotas)
    }

    fn receive(&self, delivery: &Delivery, _: &Context) -> Result<Vec<Observed>, Problem> {
        self.notifications(delivery)
    }
}

#[cfg(test)]
mod tests;
