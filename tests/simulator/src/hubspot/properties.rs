//! The Properties API of contacts.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::catalogue::{self, Property, PropertyOption, PropertyType};
use super::contacts::{Contacts, UNIQUE_LIMIT};
use super::errors::ApiError;
use super::{Context, Done};
use crate::clock::iso;

const MEMBERS: &[&str] = &[
    "name",
    "label",
    "type",
    "fieldType",
    "groupName",
    "description",
    "options",
    "displayOrder",
    "hasUniqueValue",
    "hidden",
    "formField",
    "externalOptions",
    "calculationFormula",
    "dataSensitivity",
    "currencyPropertyName",
    "numberDisplayHint",
    "showCurrencySymbol",
    "textDisplayHint",
    "referencedObjectType",
];

fn view(property: &Property) -> Value {
    json!({
        "updatedAt": iso(property.created),
        "createdAt": iso(property.created),
        "name": &*property.name,
        "label": property.label,
        "type": property.kind.name(),
        "fieldType": property.field_type,
        "description": property.description,
        "groupName": property.group,
        "options": property.options,
        "displayOrder": -1,
        "calculated": property.calculated,
        "externalOptions": false,
        "archived": false,
        "hasUniqueValue": property.unique && !property.defined_by_hubspot,
        "hidden": false,
        "hubspotDefined": property.defined_by_hubspot,
        "modificationMetadata": {
            "archivable": !property.defined_by_hubspot,
            "readOnlyDefinition": property.defined_by_hubspot,
            "readOnlyValue": property.read_only,
        },
        "formField": !property.read_only,
        "dataSensitivity": "non_sensitive",
    })
}

/// Checks the definition of a custom property.
pub(super) fn define(
    contacts: &Contacts,
    given: &Map<String, Value>,
    now: i64,
) -> Result<Property, ApiError> {
    let text = |member: &str| {
        given
            .get(member)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| ApiError::missing_member("PropertyCreate", member))
    };
    let (name, label, group) = (text("name")?, text("label")?, text("groupName")?);
    let valid = name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !valid {
        return Err(ApiError::validation(format!(
            "Property name {name} is invalid: it must begin with a letter and hold lower-case letters, digits and _"
        )));
    }
    let kind =
        PropertyType::parse(text("type")?).ok_or_else(|| ApiError::validation("Invalid property type"))?;
    let field_type = text("fieldType")?;
    if !kind.allows(field_type) {
        return Err(ApiError::validation(format!("Invalid fieldType {field_type} for type {}", kind.name())));
    }
    let unique = given.get("hasUniqueValue").and_then(Value::as_bool).unwrap_or(false);
    if unique {
        if !matches!(kind, PropertyType::String | PropertyType::Number) {
            return Err(ApiError::validation("hasUniqueValue needs the type string or number"));
        }
        if contacts.custom().filter(|p| p.unique).count() >= UNIQUE_LIMIT {
            return Err(ApiError::validation(format!(
                "An object can have at most {UNIQUE_LIMIT} properties with unique values"
            )));
        }
    }
    Ok(Property {
        name: name.into(),
        label: label.to_owned(),
        description: given.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
        group: group.to_owned(),
        kind,
        field_type: field_type.to_owned(),
        options: options(given)?.unwrap_or_default(),
        read_only: false,
        calculated: false,
        unique,
        defined_by_hubspot: false,
        created: now,
    })
}

fn options(given: &Map<String, Value>) -> Result<Option<Vec<PropertyOption>>, ApiError> {
    given
        .get("options")
        .map(|options| {
            serde_json::from_value(options.clone())
                .map_err(|_| ApiError::invalid_json("options must be objects with label and value"))
        })
        .transpose()
}

fn not_found(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "OBJECT_NOT_FOUND",
        format!("Property {name} does not exist for object type 0-1"),
    )
    .with("subCategory", "Properties.PROPERTY_NOT_FOUND".into())
}

impl Context<'_> {
    pub(super) fn list_properties(&self) -> Result<Done, ApiError> {
        self.only_query(&["archived", "properties", "dataSensitivity", "locale"]);
        let contacts = self.account.contacts.lock();
        let results: Vec<Value> = if self.flag("archived") {
            Vec::new()
        } else {
            catalogue::all_standard()
                .map(|property| view(property))
                .chain(contacts.custom().map(|property| view(property)))
                .collect()
        };
        Ok(Done::json(StatusCode::OK, &json!({ "results": results })))
    }

    pub(super) fn read_property(&self, name: &str) -> Result<Done, ApiError> {
        self.only_query(&["archived", "properties", "dataSensitivity", "locale"]);
        let property = self.account.contacts.lock().property(name).ok_or_else(|| not_found(name))?;
        Ok(Done::json(StatusCode::OK, &view(&property)))
    }

    pub(super) fn create_property(&self) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let given = self.object(MEMBERS)?;
        let mut contacts = self.account.contacts.lock();
        let property = define(&contacts, &given, self.now).inspect_err(|_| {
            self.violation("the definition of a property is not of the described shape");
        })?;
        if contacts.property(&property.name).is_some() {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "OBJECT_ALREADY_EXISTS",
                format!("A property named '{}' already exists.", property.name),
            ));
        }
        let body = view(&property);
        contacts.define(property);
        Ok(Done::json(StatusCode::CREATED, &body))
    }

    pub(super) fn update_property(&self, name: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let given = self.object(MEMBERS)?;
        let mut contacts = self.account.contacts.lock();
        let property = contacts.property(name).ok_or_else(|| not_found(name))?;
        if property.defined_by_hubspot {
            return Err(ApiError::validation(format!("The definition of {name} is read only")));
        }
        let mut property = Property::clone(&property);
        if let Some(label) = given.get("label").and_then(Value::as_str) {
            label.clone_into(&mut property.label);
        }
        if let Some(description) = given.get("description").and_then(Value::as_str) {
            description.clone_into(&mut property.description);
        }
        if let Some(options) = options(&given)? {
            property.options = options;
        }
        let property = Arc::new(property);
        let body = view(&property);
        contacts.define(Property::clone(&property));
        Ok(Done::json(StatusCode::OK, &body))
    }

    pub(super) fn archive_property(&self, name: &str) -> Result<Done, ApiError> {
        self.only_query(&[]);
        let mut contacts = self.account.contacts.lock();
        let property = contacts.property(name).ok_or_else(|| not_found(name))?;
        if property.defined_by_hubspot {
            return Err(ApiError::validation(format!("The property {name} cannot be archived")));
        }
        contacts.undefine(name);
        Ok(Done::empty())
    }
}
