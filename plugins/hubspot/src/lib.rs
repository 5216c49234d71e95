//! HubSpot: contacts, both ways.
//!
//! What shapes this provider: every property value is a string and "" clears it; there is no precondition for writes; search is an
//! index that lags behind and shows 10,000 rows at most; webhooks of an app come for all its accounts, one event for each
//! property; deleted records are shown by listings of archived ones only. Where HubSpot's documentation leaves a form open, both
//! are accepted.

mod changes;
mod contact;
mod describe;
mod intake;
mod record;
mod refusal;
mod requests;
mod settings;
mod single;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_provider::classify::unreadable;
use tandem_provider::{
    Answer, ConnectionDescriptor, Context, Delivery, Descriptor, Mapping, Observed, Operation, Problem,
    Provider, Reply, Response, Scope,
};

use settings::{Facts, Settings};

/// The provider, configured for one account.
#[derive(Debug)]
pub struct HubSpot {
    settings: Settings,
    facts: Facts,
    app_id: Option<String>,
    contacts: Mapping,
    /// Path of the contacts.
    path: String,
    /// Properties that are asked for, joined by commas for queries.
    wanted: String,
}

tandem_provider::provider!(HubSpot);

/// Which request of an operation an answer belongs to.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
enum Note {
    /// The operation's first and usual request.
    First,
    /// The record was not found: is it among the archived ones?
    Archived,
    /// Create met an address that is taken, and the refusal did not say by whom.
    Holder,
    /// Find: by key.
    ByKey,
    /// Find: by e-mail address.
    ByEmail,
    /// Find: by search; what was found before.
    BySearch { found: Vec<String> },
}

/// Asked by `tandem check --live`: whether records may be written, told without writing one.
const MAY_WRITE: &str = "may-write";

/// Asked for the erasure of a person: the record is deleted for good, also out of the recycle bin.
const ERASE: &str = "erase";

impl Provider for HubSpot {
    fn describe() -> Descriptor {
        describe::descriptor()
    }

    fn configure(settings: &Value, facts: &Value) -> Result<Self, Vec<Problem>> {
        let mut settings = Settings::read(settings)?;
        let facts = Facts::read(facts);
        let contacts = contact::mapping(&settings, &facts)?;
        let path = settings.api_version.objects(contact::NAME);
        let mut wanted: Vec<&str> =
            contacts.mapped().filter(|field| field.reads).map(|field| field.name).collect();
        wanted.extend(["lastmodifieddate", record::MERGED]);
        wanted.extend(settings.key_property.as_deref());
        let wanted = wanted.join(",");
        let app_id = settings.app_id.take().map(settings::Id::into_text);
        Ok(Self { settings, facts, app_id, contacts, path, wanted })
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
            Operation::Probe => requests::account().then_note(&Note::First),
            Operation::Discover(_) => self.properties_request().then_note(&Note::First),
            Operation::Read(read) => self.read_request(&read.id, false).then_note(&Note::First),
            Operation::Find(find) => self.find(find),
            Operation::Write(write) => self.write(write),
            Operation::Remove(remove) => self.remove_request(&remove.id).then_note(&Note::First),
            Operation::Changes(listing) => self.changes(listing, context),
            Operation::Walk(listing) => self.walk(listing),
            Operation::Watch(watch) => Answer::Blocked {
                scope: Scope::Connection,
                problem: Problem::new(
                    "operator",
                    format!(
                        "webhook subscriptions of HubSpot belong to the app: in the app's settings, let contact.creation, \
                         contact.propertyChange, contact.deletion, contact.merge, contact.restore and \
                         contact.privacyDeletion go to {}",
                        watch.callback
                    ),
                ),
            }
            .into(),
            Operation::Other(name, _) if name == MAY_WRITE => self.may_write_request().then_note(&Note::First),
            Operation::Other(name, arguments) if name == ERASE => match self.erased_id(arguments) {
                Some(id) => self.erase_request(&id).then_note(&Note::First),
                None => Answer::unsupported(operation).into(),
            },
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
        self.events(delivery)
    }
}

#[cfg(test)]
mod tests;
