//! The requests that are sent, and what they cost: one of the organisation's calls each.
//!
//! What stands in paths, queries and headers is made here and nowhere else. The paths go below the address that came with the
//! token.

use serde_json::Value;
use tandem_provider::json::{Members, Node};
use tandem_provider::{Request, Write, time};

use crate::Salesforce;
use crate::contact;
use crate::soql;

/// Rows that Salesforce answers a query with at the most.
pub(crate) const QUERY_PAGE: u32 = 2_000;

/// Who the token is of.
pub(crate) fn user_info() -> Request {
    Request::get("/services/oauth2/userinfo")
}

impl Salesforce {
    /// What the API has. Where the user's own page is not allowed, this tells who asks.
    pub(crate) fn resources_request(&self) -> Request {
        Request::get(format!("{}/", self.root))
    }

    /// The organisation itself, which every user sees.
    pub(crate) fn organisation_request(&self) -> Request {
        Request::get(format!("{}/query", self.root)).query("q", "SELECT Id FROM Organization LIMIT 1")
    }

    pub(crate) fn describe_request(&self) -> Request {
        Request::get(format!("{}/describe", self.path))
    }

    pub(crate) fn read_request(&self, id: &str) -> Request {
        Request::get(&self.path).segment(id).query("fields", &self.wanted)
    }

    /// When the record was last modified, and nothing else.
    pub(crate) fn check_request(&self, id: &str) -> Request {
        Request::get(&self.path).segment(id).query("fields", "Id,SystemModstamp")
    }

    /// Reads by the key instead of the id.
    pub(crate) fn read_by_key_request(&self, field: &str, key: &str) -> Request {
        Request::get(&self.path).segment(field).segment(key).query("fields", &self.wanted)
    }

    /// Contacts that are there.
    pub(crate) fn query_request(&self, condition: &str, order: &str, limit: u32) -> Request {
        self.select("query", condition, order, limit)
    }

    /// Contacts that are there, and those in the bin.
    pub(crate) fn query_all_request(&self, condition: &str, order: &str, limit: u32) -> Request {
        self.select("queryAll", condition, order, limit)
    }

    fn select(&self, resource: &str, condition: &str, order: &str, limit: u32) -> Request {
        let (fields, object) = (&self.wanted, contact::NAME);
        let limit = limit.clamp(1, QUERY_PAGE);
        let condition = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
        let soql = format!("SELECT {fields} FROM {object}{condition} ORDER BY {order} LIMIT {limit}");
        Request::get(format!("{}/{resource}", self.root)).query("q", &soql)
    }

    /// Contacts that were deleted between two moments, in seconds. Salesforce looks at minutes only.
    pub(crate) fn deleted_request(&self, start: u64, end: u64) -> Request {
        Request::get(format!("{}/deleted/", self.path))
            .query("start", &soql::moment(start))
            .query("end", &soql::moment(end))
    }

    pub(crate) fn remove_request(&self, id: &str) -> Request {
        // Deleting what is deleted does nothing.
        self.marked(Request::delete(&self.path).segment(id)).repeatable()
    }

    /// A create: by Tandem's key where there is one, so that it may be repeated and alters no record that does not bear the key;
    /// otherwise plain.
    pub(crate) fn create_request(&self, write: &Write, document: &Node<'_>) -> Request {
        let mut values = Members::with_capacity(24);
        for field in self.contacts.mapped().filter(|field| field.writes) {
            if let Some(value) = document.get(field.name).filter(|value| !is_empty(value)) {
                values.set(field.name.to_owned(), value.clone());
            }
        }
        let request = match &self.settings.key_field {
            // The key stands in the path; in the body Salesforce refuses it.
            Some(field) => Request::patch(&self.path).segment(field).segment(&write.key).repeatable(),
            None => Request::post(&self.path),
        };
        self.saved(request).json_node(&Node::Object(values))
    }

    /// An update of the changed fields alone; null clears. None: nothing that Salesforce has was changed.
    ///
    /// The header compares with when the record was last modified. Salesforce keeps two such times: LastModifiedDate, which
    /// people's edits move, and SystemModstamp, which automatic ones move too and which is never earlier. Its documentation does
    /// not say which of them is compared. With SystemModstamp as it was seen the condition is right either way: a later edit
    /// is later than both, and what was seen is later than neither.
    ///
    /// It is not repeatable: between a lost answer and the repetition somebody may have edited the record.
    pub(crate) fn update_request(&self, id: &str, write: &Write, document: &Node<'_>) -> Option<Request> {
        let mut values = Members::default();
        for pointer in &write.changed {
            for field in self.contacts.touched_by(pointer).filter(|field| field.writes) {
                let value = document.get(field.name).filter(|value| !is_empty(value));
                let cleared = if self.booleans.contains(field.name) { Node::Bool(false) } else { Node::Null };
                values.set(field.name.to_owned(), value.cloned().unwrap_or(cleared));
            }
        }
        if values.is_empty() {
            return None;
        }
        let mut request = self.saved(Request::patch(&self.path).segment(id));
        let seen = write.stamp.and_then(|stamp| i64::try_from(stamp).ok()).and_then(time::format_http_date);
        if let Some(seen) = seen {
            request = request.header("if-unmodified-since", &seen);
        }
        Some(request.json_node(&Node::Object(values)))
    }

    /// A write that duplicate rules look at.
    fn saved(&self, request: Request) -> Request {
        let request = self.marked(request);
        if self.settings.save_duplicates {
            request.header("sforce-duplicate-rule-header", "allowSave=true")
        } else {
            request
        }
    }

    /// A write that change events and logs show as Tandem's.
    fn marked(&self, request: Request) -> Request {
        request.header("sforce-call-options", &format!("client={}", self.settings.client))
    }

    /// The object of an operation that the contract does not know.
    pub(crate) fn is_about_contacts(arguments: &[u8]) -> bool {
        let arguments: Value = serde_json::from_slice(arguments).unwrap_or(Value::Null);
        arguments.get("object").and_then(Value::as_str).is_none_or(|object| object == contact::OBJECT)
    }
}

/// Stands for "no value" at Salesforce.
fn is_empty(value: &Node<'_>) -> bool {
    matches!(value, Node::Null) || value.as_str() == Some("")
}
