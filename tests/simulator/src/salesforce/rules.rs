//! What an org asks of a write before it lets it happen: known fields that may be written, values of their types, what is required,
//! references that lead somewhere, unique values, duplicate rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::contact::{Contact, User};
use super::contacts::{Actor, Contacts, text};
use super::errors::ApiError;
use super::fields::{Field, FieldKind};
use super::ids;
use super::values::{Texts, stored};

/// The rules of an org that a write is under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) texts: Texts,
    pub(crate) duplicates: Duplicates,
    /// A write that changes nothing moves the times all the same.
    pub(crate) empty_touches: bool,
}

/// What a duplicate rule does with a contact whose address another one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Nothing.
    #[default]
    Allow,
    /// It is refused unless the request says `allowSave`.
    Alert,
    /// It is refused.
    Block,
    /// As `alert`, and the request said `allowSave`.
    #[serde(skip)]
    Allowed,
}

/// A field and what is stored in it; none clears it.
pub(super) type Change = (Arc<Field>, Option<Value>);

impl Contacts {
    pub(super) fn check(
        &self,
        given: &Map<String, Value>,
        creates: bool,
        actor: &Actor,
    ) -> Result<Vec<Change>, ApiError> {
        let mut fields: Vec<(&Arc<Field>, &Value)> = Vec::with_capacity(given.len());
        for (name, value) in given {
            if name == "attributes" {
                continue;
            }
            let field = self.schema.find(name).ok_or_else(|| {
                let message = format!("No such column '{name}' on sobject of type Contact");
                ApiError::bad("INVALID_FIELD", message).violating(format!("there is no field {name}"))
            })?;
            fields.push((field, value));
        }
        if fields.iter().any(|(field, _)| &*field.name == "Id") {
            let error = if creates {
                let message = "cannot specify Id in an insert call";
                ApiError::write("INVALID_FIELD_FOR_INSERT_UPDATE", message, &["Id"])
            } else {
                let message = "The Id field should not be specified in the sobject data.";
                ApiError::write("INVALID_FIELD", message, &["Id"])
            };
            return Err(error.violating("Id is a member of the body"));
        }
        let fixed: Vec<&str> =
            fields.iter().filter(|(field, _)| !field.writable).map(|(field, _)| &*field.name).collect();
        if !fixed.is_empty() {
            let message = format!(
                "Unable to create/update fields: {}. Please check the security settings of this field and verify that it \
                 is read/write for your profile or permission set.",
                fixed.join(", ")
            );
            return Err(ApiError::write("INVALID_FIELD_FOR_INSERT_UPDATE", message, &fixed)
                .violating(format!("fields that are only read are written: {}", fixed.join(", "))));
        }
        let mut checked = Vec::with_capacity(fields.len());
        for (field, value) in fields {
            checked.push((field.clone(), stored(field, value, actor.rules.texts)?));
        }
        Ok(checked)
    }

    /// The values of a record after a write that was checked, if the org's rules allow them.
    pub(super) fn settle(
        &self,
        number: Option<u64>,
        before: &BTreeMap<Arc<str>, Value>,
        checked: &[Change],
        rules: Rules,
    ) -> Result<BTreeMap<Arc<str>, Value>, ApiError> {
        let mut after = before.clone();
        for (field, value) in checked {
            let value = match (field.kind, value) {
                (FieldKind::Reference, Some(id)) => Some(self.reference(field, id)?),
                (_, value) => value.clone(),
            };
            match value {
                Some(value) => after.insert(field.name.clone(), value),
                None => after.remove(&field.name),
            };
        }
        let missing: Vec<&str> = self
            .schema
            .all()
            .iter()
            .filter(|field| field.required && !after.contains_key(&field.name))
            .map(|field| &*field.name)
            .collect();
        if !missing.is_empty() {
            let message = format!("Required fields are missing: [{}]", missing.join(", "));
            return Err(ApiError::write("REQUIRED_FIELD_MISSING", message, &missing));
        }
        for (field, value) in checked.iter().filter(|(field, _)| field.unique) {
            let others =
                value.as_ref().and_then(text).map(|value| self.find(field, &value)).unwrap_or_default();
            if let Some(other) = others.into_iter().find(|other| Some(*other) != number) {
                let message = format!(
                    "duplicate value found: {} duplicates value on record with id: {}",
                    field.name,
                    ids::short(ids::CONTACT, other)
                );
                return Err(ApiError::write("DUPLICATE_VALUE", message, &[]));
            }
        }
        self.duplicates(number, before, &after, rules)?;
        Ok(after)
    }

    fn duplicates(
        &self,
        number: Option<u64>,
        before: &BTreeMap<Arc<str>, Value>,
        after: &BTreeMap<Arc<str>, Value>,
        rules: Rules,
    ) -> Result<(), ApiError> {
        if matches!(rules.duplicates, Duplicates::Allow | Duplicates::Allowed)
            || before.get("Email") == after.get("Email")
        {
            return Ok(());
        }
        let (Some(field), Some(email)) =
            (self.schema.find("Email"), after.get("Email").and_then(Value::as_str))
        else {
            return Ok(());
        };
        let others: Vec<u64> =
            self.find(field, email).into_iter().filter(|other| Some(*other) != number).collect();
        if others.is_empty() {
            return Ok(());
        }
        let records: Vec<Value> = others
            .iter()
            .filter_map(|other| self.records.get(other))
            .map(|other| {
                serde_json::json!({
                    "additionalInformation": [], "fieldDiffs": [], "matchConfidence": 100.0,
                    "record": { "attributes": other.attributes("v60.0"), "Id": other.id() },
                })
            })
            .collect();
        let message = "Use one of these records?";
        Err(ApiError {
            duplicates: Some(Box::new(serde_json::json!({
                "allowSave": rules.duplicates == Duplicates::Alert,
                "duplicateRule": "Contacts_with_the_same_address",
                "duplicateRuleEntityType": "Contact",
                "errorMessage": message,
                "matchResults": [{
                    "entityType": "Contact", "errors": [], "matchEngine": "ExactMatchEngine",
                    "matchRecords": records, "rule": "Contacts_with_the_same_address",
                    "size": others.len(), "success": true,
                }],
            }))),
            ..ApiError::bad("DUPLICATES_DETECTED", message)
        })
    }

    /// The whole id of a record that a field may refer to.
    fn reference(&self, field: &Field, id: &Value) -> Result<Value, ApiError> {
        let id = id.as_str().unwrap_or_default();
        let Some(fifteen) = ids::fifteen(id) else {
            let message = format!("{}: id value of incorrect type: {id}", field.label);
            return Err(ApiError::write("MALFORMED_ID", message, &[&field.name]));
        };
        let known = match &*field.name {
            "OwnerId" => [User::Integration, User::Person]
                .into_iter()
                .map(User::id)
                .find(|user| user.starts_with(&fifteen)),
            "ReportsToId" => {
                ids::number(ids::CONTACT, &fifteen).and_then(|number| self.live(number).ok().map(Contact::id))
            }
            // Nothing else lives here.
            _ => None,
        };
        known.map(Value::from).ok_or_else(|| {
            ApiError::write("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", &[&field.name])
        })
    }
}
