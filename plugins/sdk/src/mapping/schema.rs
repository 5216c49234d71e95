//! What a mapping says of itself: field descriptors and the JSON Schema of the provider's documents.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::descriptor::{Direction, FieldDescriptor};

use super::convert::{Convert, Table};
use super::{Field, Form, Mapping, Pointer};

/// What is known of a provider document besides its mapped fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) members: Vec<(Pointer, Value)>,
    pub(crate) others: Vec<(Pointer, Value)>,
    pub(crate) always: Vec<Pointer>,
}

/// Longest text of a mapped field, in characters.
const TEXT_LIMIT: u32 = 65_536;

impl Mapping {
    /// The mapped fields, for the connection descriptor.
    #[must_use]
    pub fn fields(&self) -> BTreeMap<String, FieldDescriptor> {
        let mut fields: BTreeMap<String, FieldDescriptor> = BTreeMap::new();
        for field in &self.fields {
            let entry = fields.entry(field.canonical.text.clone()).or_insert_with(|| FieldDescriptor {
                provider: Vec::new(),
                normalise: field.normalise.as_deref().map(|chain| self.chain(chain)),
                direction: field.direction,
                lossy: field.lossy.clone(),
            });
            entry.provider.push(field.provider.text.clone());
            // Read from one place and written to another is still both ways.
            if entry.direction != field.direction {
                entry.direction = Direction::Both;
            }
        }
        fields
    }

    /// Where absent and empty are one thing, the host has to compare them so.
    fn chain(&self, declared: &str) -> String {
        const EMPTY: &str = "empty-is-absent";
        if matches!(self.empty, super::Empty::Distinct)
            || declared.split(['|', '+']).any(|link| link.trim() == EMPTY)
        {
            declared.to_owned()
        } else {
            format!("{declared}|{EMPTY}")
        }
    }

    /// JSON Schema of a whole document in read form.
    #[must_use]
    pub fn schema(&self) -> Value {
        self.schema_of(&self.shape.always)
    }

    /// JSON Schema of a document that is to be written: as the read form, but what only the CRM gives may be missing.
    #[must_use]
    pub fn write_schema(&self) -> Value {
        let always: Vec<Pointer> = self
            .shape
            .always
            .iter()
            .filter(|pointer| self.parents.iter().any(|parent| parent.starts_with(&pointer.segments)))
            .cloned()
            .collect();
        self.schema_of(&always)
    }

    fn schema_of(&self, always: &[Pointer]) -> Value {
        let mut root = json!({ "type": "object" });
        for path in &self.parents {
            object_at(&mut root, path);
        }
        for (pointer, schema) in &self.shape.members {
            place(&mut root, pointer, schema.clone());
        }
        for field in &self.fields {
            place(&mut root, &field.provider, field_schema(field, self.form));
        }
        for constant in &self.constants {
            place(&mut root, &constant.provider, json!({}));
        }
        for (pointer, schema) in &self.shape.others {
            if let Some(object) = object_at(&mut root, &pointer.segments) {
                object.insert("additionalProperties".to_owned(), schema.clone());
            }
        }
        for pointer in always {
            let Some((name, path)) = pointer.segments.split_last() else { continue };
            if let Some(object) = object_at(&mut root, path)
                && let Some(list) = object.entry("required").or_insert_with(|| json!([])).as_array_mut()
            {
                list.push(Value::String(name.clone()));
            }
        }
        if let Value::Object(members) = &mut root {
            members.insert(
                "$schema".to_owned(),
                Value::String("https://json-schema.org/draft/2020-12/schema".to_owned()),
            );
            members.insert("title".to_owned(), Value::String(format!("{} in read form", self.name)));
        }
        root
    }
}

/// The schema of the object at a path; made on the way.
fn object_at<'a>(root: &'a mut Value, path: &[String]) -> Option<&'a mut Map<String, Value>> {
    let mut object = root.as_object_mut()?;
    for name in path {
        let members = object.entry("properties").or_insert_with(|| json!({})).as_object_mut()?;
        object =
            members.entry(name.clone()).or_insert_with(|| json!({ "type": "object" })).as_object_mut()?;
    }
    Some(object)
}

fn place(root: &mut Value, pointer: &Pointer, schema: Value) {
    let Some((name, path)) = pointer.segments.split_last() else { return };
    if let Some(object) = object_at(root, path)
        && let Some(members) = object.entry("properties").or_insert_with(|| json!({})).as_object_mut()
    {
        members.insert(name.clone(), schema);
    }
}

fn text() -> Value {
    json!({ "type": ["string", "null"], "maxLength": TEXT_LIMIT })
}

fn pattern(pattern: &str) -> Value {
    json!({ "type": ["string", "null"], "maxLength": 400, "pattern": pattern })
}

fn options(table: &Table, form: Form) -> Value {
    if table.otherwise.is_some() {
        return text();
    }
    let mut values: Vec<Value> = vec![Value::Null];
    if form == Form::Text {
        values.push(json!(""));
    }
    for (_, provider) in &table.rows {
        let value = Value::String(provider.clone());
        if !values.contains(&value) {
            values.push(value);
        }
    }
    json!({ "enum": values })
}

/// The schema of what a CRM may say, which is also what may stand in a document that is written back. An empty string is
/// allowed where everything is text: that is how a cleared property looks in events and in writes.
fn field_schema(field: &Field, form: Form) -> Value {
    if field.lenient {
        return if form == Form::Text { text() } else { json!({}) };
    }
    match (&field.convert, form) {
        (Convert::Text, _) => text(),
        (Convert::Integer, Form::Text) => pattern("^(-?[0-9]+(\\.0*)?)?$"),
        (Convert::Integer, Form::Native) => json!({ "type": ["integer", "null"] }),
        (Convert::Boolean, Form::Text) => pattern("^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])?$"),
        (Convert::Boolean, Form::Native) => json!({ "type": ["boolean", "null"] }),
        (Convert::Decimal, Form::Text) => pattern("^(-?[0-9]+(\\.[0-9]+)?([eE][+-]?[0-9]{1,3})?)?$"),
        (Convert::Decimal, Form::Native) => json!({ "type": ["number", "null"] }),
        (Convert::Date { .. } | Convert::DateTime { .. }, Form::Text) => {
            pattern("^(-?[0-9]{1,15}|[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.]+([Zz]|[+-][0-9:]+))?)?$")
        }
        (Convert::Date { .. } | Convert::DateTime { .. }, Form::Native) => {
            json!({ "type": ["string", "integer", "null"] })
        }
        (Convert::Options(table), _) => options(table, form),
        (Convert::Set { separator: Some(_), .. }, _) => text(),
        (Convert::Set { separator: None, .. }, _) => {
            json!({ "type": ["array", "null"], "items": { "type": ["string", "number"] } })
        }
        (Convert::Json, _) => json!({}),
        (Convert::Own(own), _) => serde_json::from_str(own.schema).unwrap_or_else(|_| json!({})),
    }
}
