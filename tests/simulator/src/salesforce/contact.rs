//! A contact and how it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fields::{ADDRESS, Field, FieldKind, Schema};
use super::ids;
use super::values::shown_time;

/// The users of an org: the one that an integration works as, and one who works in the user interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Integration = 1,
    Person = 2,
}

impl User {
    pub(crate) fn id(self) -> String {
        ids::id(ids::USER, self as u64)
    }
}

/// When and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Milliseconds, of a whole second.
    pub(crate) at: i64,
    pub(crate) by: User,
}

#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) number: u64,
    /// Values that are not null, by the name of the field.
    pub(crate) values: BTreeMap<Arc<str>, Value>,
    pub(crate) created: Stamp,
    pub(crate) modified: Stamp,
    /// Also moved by what the org does on its own.
    pub(crate) modstamp: i64,
    /// When it went to the recycle bin.
    pub(crate) deleted: Option<i64>,
    /// Who it was merged into.
    pub(crate) master: Option<u64>,
    /// It has left the recycle bin for good.
    pub(crate) purged: bool,
    /// Until when somebody else holds it.
    pub(crate) locked_until: i64,
    /// The client that the last writer of the API said it was.
    pub(crate) client: Option<String>,
}

impl Contact {
    pub(crate) fn id(&self) -> String {
        ids::id(ids::CONTACT, self.number)
    }

    pub(crate) fn live(&self) -> bool {
        self.deleted.is_none()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(Value::as_str)
    }

    /// The name as one text.
    pub(crate) fn name(&self) -> String {
        let parts = [self.text("FirstName"), self.text("LastName")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    fn address(&self, prefix: &str) -> Value {
        let mut shown = Map::new();
        let mut any = false;
        for part in ADDRESS {
            let value = self.values.get(format!("{prefix}{part}").as_str()).cloned().unwrap_or(Value::Null);
            any |= !value.is_null();
            let mut name = part.to_owned();
            if let Some(first) = name.get_mut(..1) {
                first.make_ascii_lowercase();
            }
            shown.insert(name, value);
        }
        if any { Value::Object(shown) } else { Value::Null }
    }

    /// The value of a field as it is compared: moments in milliseconds.
    pub(crate) fn raw(&self, field: &Field) -> Value {
        match &*field.name {
            "Id" => self.id().into(),
            "IsDeleted" => (!self.live()).into(),
            "MasterRecordId" => self.master.map(|master| ids::id(ids::CONTACT, master)).into(),
            "Name" => self.name().into(),
            "CreatedDate" => self.created.at.into(),
            "CreatedById" => self.created.by.id().into(),
            "LastModifiedDate" => self.modified.at.into(),
            "LastModifiedById" => self.modified.by.id().into(),
            "SystemModstamp" => self.modstamp.into(),
            "MailingAddress" => self.address("Mailing"),
            "OtherAddress" => self.address("Other"),
            "PhotoUrl" => format!("/services/images/photo/{}", self.id()).into(),
            "IsEmailBounced" => self.values.contains_key("EmailBouncedDate").into(),
            name => match self.values.get(name) {
                Some(value) => value.clone(),
                None if field.kind == FieldKind::Boolean => false.into(),
                None => Value::Null,
            },
        }
    }

    /// The value of a field as the REST API shows it.
    pub(crate) fn shown(&self, field: &Field) -> Value {
        match self.raw(field) {
            Value::Number(ms) if field.kind == FieldKind::DateTime => {
                ms.as_i64().map_or(Value::Null, |ms| shown_time(ms).into())
            }
            value => value,
        }
    }

    /// The record with these fields.
    pub(crate) fn row(&self, version: &str, fields: &[Arc<Field>]) -> Map<String, Value> {
        let mut row = Map::new();
        row.insert("attributes".to_owned(), self.attributes(version));
        for field in fields {
            row.insert(field.name.to_string(), self.shown(field));
        }
        row
    }

    pub(crate) fn attributes(&self, version: &str) -> Value {
        json!({ "type": "Contact", "url": format!("/services/data/{version}/sobjects/Contact/{}", self.id()) })
    }

    /// All values that are not null, for a listing of a test.
    pub(crate) fn all(&self, schema: &Schema) -> BTreeMap<String, Value> {
        let values = schema.all().iter().map(|field| (field.name.to_string(), self.shown(field)));
        values.filter(|(_, value)| !value.is_null()).collect()
    }
}
