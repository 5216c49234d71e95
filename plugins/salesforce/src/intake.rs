//! Outbound messages: up to 100 records each, in no order, perhaps twice, always as they are at the moment of sending.
//!
//! A message holds those of the fields that somebody chose when setting it up which have a value. So a record of it is a partial
//! one: what is not in it may have been cleared, or says nothing. What another user left is therefore read; what our own writes
//! left is compared, so that their messages cost no call. Nobody signs a message; it is believed because it came to an address
//! that nobody else knows, and only if it is of this organisation.

use std::borrow::Cow;

use tandem_provider::json::{Members, Node};
use tandem_provider::{Delivery, Observed, Problem, State, log};

use crate::contact::{NAME, OBJECT};
use crate::soap::{self, Field, Notification};
use crate::{Salesforce, ids};

impl Salesforce {
    /// The observations of a message.
    pub(crate) fn notifications(&self, delivery: &Delivery) -> Result<Vec<Observed>, Problem> {
        let message = soap::read(&delivery.body)
            .map_err(|why| Problem::new("invalid-xml", format!("outbound message: {why}")))?;
        let Some(organisation) = ids::long(&message.organisation) else {
            let why = "outbound message: it names no organisation";
            return Err(Problem::new("invalid-event", why).at("/Envelope/Body/notifications/OrganizationId"));
        };
        if self.facts.account.id.as_deref().is_some_and(|own| !ids::same(own, &organisation)) {
            log::warn(&format!(
                "an outbound message of organisation {organisation} came to another's address"
            ));
            return Ok(Vec::new());
        }
        let mut rows = Vec::with_capacity(message.notifications.len());
        for notification in &message.notifications {
            if notification.object != NAME {
                continue;
            }
            let mut observed = self.notified(notification)?;
            observed.account = Some(organisation.clone());
            rows.push(observed);
        }
        Ok(rows)
    }

    /// One record.
    fn notified(&self, notification: &Notification) -> Result<Observed, Problem> {
        let text = |name: &str| {
            notification
                .fields
                .iter()
                .find(|field| field.name == name)
                .and_then(|field| field.text.as_deref())
        };
        let id = text("Id").map(str::trim).and_then(ids::long).ok_or_else(|| {
            Problem::new("invalid-event", "outbound message: a record has no Id")
                .at("/Envelope/Body/notifications/Notification/sObject/Id")
        })?;
        let stamp = text("SystemModstamp").and_then(tandem_provider::time::stamp);
        let key = self.settings.key_field.as_deref().and_then(text).filter(|key| !key.is_empty());
        let own = self.facts.account.user.as_deref();
        let author = own
            .zip(text("LastModifiedById"))
            .map(|(own, by)| if ids::same(own, by.trim()) { "own" } else { "other" });
        let state = match author {
            Some("other") => State::Touched,
            _ => State::Partial(self.partial(&id, notification)),
        };
        let mut observed = Observed::new(OBJECT, id, state);
        observed.stamp = stamp;
        observed.key = key.map(str::to_owned);
        observed.author = author.map(str::to_owned);
        observed.attributes.push(tandem_provider::Attribute::new("event", "outbound-message"));
        observed.attributes.push(tandem_provider::Attribute::new("notification", notification.id.clone()));
        if let Some(user) = text("LastModifiedById") {
            observed.attributes.push(tandem_provider::Attribute::new("by", format!("user {}", user.trim())));
        }
        Ok(observed)
    }

    /// The mapped fields that a message has, as the API's JSON has them.
    fn partial(&self, id: &str, notification: &Notification) -> Vec<u8> {
        let mut document = Members::with_capacity(notification.fields.len() + 1);
        document.push("Id", Node::text(id.to_owned()));
        for field in &notification.fields {
            if self.contacts.mapped().any(|mapped| mapped.reads && mapped.name == field.name) {
                document.set(field.name.clone(), self.value(field));
            }
        }
        Node::Object(document).to_bytes()
    }

    /// A value as the API's JSON has it. What has none is there and empty.
    fn value(&self, field: &Field) -> Node<'static> {
        let Some(text) = &field.text else { return Node::text("") };
        let bare = text.trim();
        if self.booleans.contains(&field.name) {
            match bare {
                "true" | "1" => return Node::Bool(true),
                "false" | "0" => return Node::Bool(false),
                _ => {}
            }
        }
        if self.numbers.contains(&field.name)
            && let Ok(number @ Node::Number(_)) = tandem_provider::json::parse(bare.as_bytes())
        {
            return number.into_owned();
        }
        Node::Text(Cow::Owned(text.clone()))
    }
}
