//! Webhooks: one event for each property of each record, in no order, perhaps twice.

use tandem_provider::json::{Members, Node};
use tandem_provider::{Delivery, Observed, Problem, Proof, Reference, State};

use crate::HubSpot;
use crate::contact::OBJECT;
use crate::record::gone;

/// Sources of what a program does, or somebody to many records at once. They are some of the values of `source` in HubSpot's published
/// descriptions; `CRM_UI_BULK_ACTION` was seen in deliveries (HS-227).
const BACKGROUND: [&str; 12] = [
    "API",
    "AUTOMATION_JOURNEY",
    "AUTOMATION_PLATFORM",
    "BATCH_UPDATE",
    "CRM_UI_BULK_ACTION",
    "DATA_ENRICHMENT",
    "IMPORT",
    "INTEGRATION",
    "INTEGRATIONS_SYNC",
    "MIGRATION",
    "SALESFORCE",
    "WORKFLOWS",
];

impl HubSpot {
    /// The observations of a delivery: one event, or an array of them.
    pub(crate) fn events(&self, delivery: &Delivery) -> Result<Vec<Observed>, Problem> {
        let body = tandem_provider::json::parse(&delivery.body)
            .map_err(|error| Problem::new("invalid-json", format!("webhook: {error}")))?;
        let mut rows = Vec::new();
        match &body {
            Node::List(events) => {
                for event in events {
                    self.event(event, &mut rows)?;
                }
            }
            event => self.event(event, &mut rows)?,
        }
        Ok(rows)
    }

    fn event(&self, event: &Node<'_>, rows: &mut Vec<Observed>) -> Result<(), Problem> {
        let missing = |name: &str| {
            Problem::new("invalid-event", format!("webhook: the event has no {name}")).at(format!("/{name}"))
        };
        let text = |name: &str| event.get(name).and_then(Node::as_id);
        let kind = text("subscriptionType").ok_or_else(|| missing("subscriptionType"))?;
        let what = match kind.split_once('.') {
            Some(("contact", what)) => what,
            // The newer form names the object apart; 0-1 is the contact.
            Some(("object", what)) if text("objectTypeId") == Some("0-1") => what,
            _ => return Ok(()),
        };
        let id = text("objectId").ok_or_else(|| missing("objectId"))?;
        let from = rows.len();
        match what {
            "propertyChange" => rows.extend(self.property_change(event, id)),
            // It says nothing of any field: a record that is linked already, since we made it, need not be read for it.
            "creation" => rows.push(partial(id, Members::default())),
            "restore" => rows.push(Observed::new(OBJECT, id, State::Touched)),
            "deletion" => rows.push(gone(id, Proof::Confirmed)),
            "privacyDeletion" => rows.push(gone(id, Proof::Confirmed).with("erasure", "privacy")),
            "merge" => merge(event, id, rows),
            // Associations are not mapped; what is newer than this provider is not known to matter.
            _ => {}
        }
        for row in rows.iter_mut().skip(from) {
            row.account = text("portalId").map(str::to_owned);
            row.author = self.author(event).map(str::to_owned);
            row.attributes.push(tandem_provider::Attribute::new("event", kind));
            let source = text("changeSource").filter(|_| row.author.as_deref() == Some("other"));
            if source.is_some_and(|source| BACKGROUND.contains(&source)) {
                row.attributes.push(tandem_provider::Attribute::new("background", "true"));
            }
            if let Some(source) = text("changeSource") {
                // A person of the account, or another app: `CRM_UI userId:123`, `INTEGRATION 54321`.
                let by = text("sourceId").map_or_else(|| source.to_owned(), |id| format!("{source} {id}"));
                row.attributes.push(tandem_provider::Attribute::new("by", by));
            }
            if let Some(at) = text("occurredAt") {
                // Not a stamp: it is not the record's modification time, and events come in any order.
                row.attributes.push(tandem_provider::Attribute::new("occurred-at", at));
            }
        }
        Ok(())
    }

    /// One property's new value. None: the property is not mapped.
    fn property_change(&self, event: &Node<'_>, id: &str) -> Option<Observed> {
        let name = event.get("propertyName")?.as_str()?;
        if !self.contacts.mapped().any(|field| field.reads && field.name == name) {
            return None;
        }
        let value = match event.get("propertyValue") {
            Some(Node::Text(value)) => Node::Text(value.clone()),
            // Anything else is not what the documentation says: the record is read.
            _ => return Some(Observed::new(OBJECT, id, State::Touched)),
        };
        let mut properties = Members::with_capacity(1);
        properties.push(name.to_owned(), value);
        Some(partial(id, properties))
    }

    /// Who did it: our own app when the event says that an integration did and names ours.
    fn author(&self, event: &Node<'_>) -> Option<&'static str> {
        let source = event.get("changeSource").and_then(Node::as_id)?;
        if source != "INTEGRATION" {
            return Some("other");
        }
        // The app that a subscription belongs to is ours.
        let own = self.app_id.as_deref().or_else(|| event.get("appId").and_then(Node::as_id))?;
        let by = event.get("sourceId").and_then(Node::as_id)?;
        Some(if by == own { "own" } else { "other" })
    }
}

/// These properties of a record are said, and nothing of the others.
fn partial(id: &str, properties: Members<'_>) -> Observed {
    let mut document = Members::with_capacity(2);
    document.push("id", Node::text(id));
    document.push("properties", Node::Object(properties));
    Observed::new(OBJECT, id, State::Partial(Node::Object(document).to_bytes()))
}

/// The losers live on in the primary record, and that one, where the merge made a new record, in the new one. So whoever is
/// linked to the primary is linked to what came of the merge, whichever event is looked at first.
fn merge(event: &Node<'_>, id: &str, rows: &mut Vec<Observed>) {
    let primary = event.get("primaryObjectId").and_then(Node::as_id).unwrap_or(id);
    let to = event.get("newObjectId").and_then(Node::as_id).unwrap_or(primary);
    let losers = event.get("mergedObjectIds").and_then(Node::as_list).unwrap_or_default();
    let mut moved: Vec<&str> = Vec::new();
    for loser in losers.iter().filter_map(Node::as_id) {
        if loser != to && loser != primary && !moved.contains(&loser) {
            moved.push(loser);
        }
    }
    let into = |id: &str| State::Moved(Reference { object: OBJECT.to_owned(), id: id.to_owned() });
    rows.extend(moved.into_iter().map(|loser| Observed::new(OBJECT, loser, into(primary))));
    if primary != to {
        rows.push(Observed::new(OBJECT, primary, into(to)));
    }
    rows.push(Observed::new(OBJECT, to, State::Touched));
}
