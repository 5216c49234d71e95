//! The requests that are sent, and what they cost. Searches have a quota of their own; all else is charged to the default one.

use serde_json::{Value, json};
use tandem_provider::json::{Members, Node};
use tandem_provider::{Request, Write};

use crate::HubSpot;
use crate::contact;

/// Rows that a search shows on one page.
pub(crate) const SEARCH_PAGE: u32 = 200;
/// Rows that a listing shows on one page.
pub(crate) const LIST_PAGE: u32 = 100;

/// Who are we. There is no dated form of this path in any public description.
pub(crate) fn account() -> Request {
    Request::get("/account-info/v3/details")
}

impl HubSpot {
    pub(crate) fn properties_request(&self) -> Request {
        Request::get(self.settings.api_version.properties(contact::NAME)).query("archived", "false")
    }

    pub(crate) fn read_request(&self, id: &str, archived: bool) -> Request {
        Request::get(&self.path)
            .segment(id)
            .query("properties", &self.wanted)
            .query("archived", if archived { "true" } else { "false" })
    }

    /// Reads by a unique property instead of the id.
    pub(crate) fn read_by_request(&self, property: &str, value: &str) -> Request {
        self.read_request(value, false).query("idProperty", property)
    }

    pub(crate) fn list_request(&self, after: Option<&str>, limit: u32, archived: bool) -> Request {
        let request = Request::get(&self.path)
            .query("limit", &limit.clamp(1, LIST_PAGE).to_string())
            // Of an archived record nothing is wanted but its id.
            .query("properties", if archived { "lastmodifieddate" } else { &self.wanted })
            .query("archived", if archived { "true" } else { "false" });
        match after {
            Some(after) => request.query("after", after),
            None => request,
        }
    }

    /// A search. Each group of `groups` is a list of filters that must all hold; one group is enough. A search is a POST that
    /// changes nothing. The published description wants all five members.
    pub(crate) fn search_request(
        &self,
        groups: &Value,
        sort: Option<&str>,
        after: u32,
        limit: u32,
    ) -> Request {
        let groups: Vec<Value> =
            groups.as_array().into_iter().flatten().map(|filters| json!({ "filters": filters })).collect();
        let wanted: Vec<&str> = self.wanted.split(',').collect();
        Request::post(format!("{}/search", self.path))
            .json(&json!({
                "filterGroups": groups,
                "sorts": sort.into_iter().collect::<Vec<_>>(),
                "properties": wanted,
                "limit": limit.clamp(1, SEARCH_PAGE),
                "after": after.to_string(),
            }))
            .charge("search", 1)
            .repeatable()
    }

    pub(crate) fn remove_request(&self, id: &str) -> Request {
        // Archiving an archived record does nothing.
        Request::delete(&self.path).segment(id).repeatable()
    }

    /// What is to be erased, if it is a contact.
    pub(crate) fn erased_id(&self, arguments: &[u8]) -> Option<String> {
        let arguments: Value = serde_json::from_slice(arguments).ok()?;
        let member = |name: &str| arguments.get(name).and_then(Value::as_str);
        if member("object") == Some(contact::OBJECT) { member("id").map(str::to_owned) } else { None }
    }

    /// Deletes a contact for privacy's sake: also out of the recycle bin, and for good.
    pub(crate) fn erase_request(&self, id: &str) -> Request {
        Request::post(format!("{}/gdpr-delete", self.path)).json(&json!({ "objectId": id })).repeatable()
    }

    /// A create: by Tandem's key where there is one, so that it may be repeated; otherwise plain.
    pub(crate) fn create_request(&self, write: &Write, document: &Node<'_>) -> Request {
        let mut values = Members::with_capacity(32);
        for field in self.contacts.mapped().filter(|field| field.writes) {
            if let Some(value) = value_of(document, field.name).filter(|value| !value.is_empty()) {
                values.set(field.name.to_owned(), Node::text(value.to_owned()));
            }
        }
        let mut body = Members::default();
        let Some(property) = &self.settings.key_property else {
            body.push("properties", Node::Object(values));
            body.push("associations", Node::List(Vec::new()));
            return Request::post(&self.path).json_node(&Node::Object(body));
        };
        values.set(property.clone(), Node::text(write.key.clone()));
        let mut input = Members::default();
        input.push("id", Node::text(write.key.clone()));
        input.push("idProperty", Node::text(property.clone()));
        input.push("properties", Node::Object(values));
        body.push("inputs", Node::List(vec![Node::Object(input)]));
        Request::post(format!("{}/batch/upsert", self.path)).json_node(&Node::Object(body)).repeatable()
    }

    /// An update of the changed properties alone; "" clears. None: nothing that HubSpot has was changed.
    ///
    /// It is not repeatable: between a lost answer and the repetition somebody may have edited the record.
    /// An update of nothing, of a record that cannot be there: permissions are looked at before that.
    pub(crate) fn may_write_request(&self) -> Request {
        let mut body = Members::default();
        body.push("properties", Node::Object(Members::default()));
        Request::patch(&self.path).segment("0").json_node(&Node::Object(body))
    }

    pub(crate) fn update_request(&self, id: &str, write: &Write, document: &Node<'_>) -> Option<Request> {
        let mut values = Members::default();
        for pointer in &write.changed {
            for field in self.contacts.touched_by(pointer).filter(|field| field.writes) {
                let value = value_of(document, field.name).unwrap_or_default();
                values.set(field.name.to_owned(), Node::text(value.to_owned()));
            }
        }
        if values.is_empty() {
            return None;
        }
        let mut body = Members::default();
        body.push("properties", Node::Object(values));
        Some(Request::patch(&self.path).segment(id).json_node(&Node::Object(body)))
    }
}

/// A property of a document in read form.
pub(crate) fn value_of<'n>(document: &'n Node<'_>, name: &str) -> Option<&'n str> {
    document.get("properties")?.get(name)?.as_str()
}
