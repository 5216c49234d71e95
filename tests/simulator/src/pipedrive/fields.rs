//! The fields of persons: Pipedrive's own and those that the account made. A custom field is known by a key of forty
//! characters that differs from account to account; the options of a choice are known by numbers.

use serde_json::{Map, Value, json};

use super::errors::Refusal;

/// The kinds that a custom field can have.
pub(super) const KINDS: &[&str] = &[
    "varchar",
    "text",
    "double",
    "phone",
    "date",
    "daterange",
    "time",
    "timerange",
    "set",
    "enum",
    "varchar_auto",
    "address",
    "monetary",
    "org",
    "people",
    "user",
];

/// The kinds that a search looks into.
pub(super) const SEARCHABLE: &[&str] =
    &["address", "varchar", "text", "varchar_auto", "double", "monetary", "phone"];

/// The parts of an address beside its text.
pub(super) const ADDRESS: &[&str] = &[
    "country",
    "admin_area_level_1",
    "admin_area_level_2",
    "locality",
    "sublocality",
    "route",
    "street_number",
    "subpremise",
    "postal_code",
    "formatted_address",
];

/// An option of a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) id: u64,
    pub(super) label: String,
}

/// A field.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) code: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) custom: bool,
    pub(super) choices: Vec<Choice>,
}

impl Field {
    fn own(code: &str, name: &str, kind: &str) -> Self {
        Self { code: code.into(), name: name.into(), kind: kind.into(), custom: false, choices: Vec::new() }
    }

    pub(super) fn has_choices(&self) -> bool {
        matches!(self.kind.as_str(), "enum" | "set")
    }

    pub(super) fn label(&self, id: u64) -> Option<&str> {
        self.choices.iter().find(|choice| choice.id == id).map(|choice| choice.label.as_str())
    }

    /// As v2 shows it.
    pub(super) fn view(&self) -> Value {
        let options: Value = if self.has_choices() {
            self.choices.iter().map(|choice| json!({ "id": choice.id, "label": choice.label })).collect()
        } else {
            Value::Null
        };
        let part = |code: &str, kind: &str| json!({ "field_code": code, "field_name": code.replace('_', " "), "field_type": kind });
        let subfields: Value = match self.kind.as_str() {
            "monetary" => json!([part("value", "double"), part("currency", "varchar")]),
            "address" => std::iter::once(&"value").chain(ADDRESS).map(|code| part(code, "varchar")).collect(),
            _ => Value::Null,
        };
        json!({
            "field_name": self.name,
            "field_code": self.code,
            "description": null,
            "field_type": self.kind,
            "options": options,
            "subfields": subfields,
            "is_custom_field": self.custom,
            "is_optional_response_field": false,
        })
    }
}

/// All fields of an account, in the order in which they came.
#[derive(Debug)]
pub(super) struct Fields {
    list: Vec<Field>,
    next_choice: u64,
}

impl Default for Fields {
    fn default() -> Self {
        let mut labels = Field::own("label_ids", "Labels", "set");
        labels.choices = ["Customer", "Hot lead", "Warm lead", "Cold lead"]
            .into_iter()
            .zip(1..)
            .map(|(label, id)| Choice { id, label: label.to_owned() })
            .collect();
        let list = vec![
            Field::own("id", "ID", "int"),
            Field::own("name", "Name", "varchar"),
            Field::own("first_name", "First name", "varchar"),
            Field::own("last_name", "Last name", "varchar"),
            labels,
            Field::own("phone", "Phone", "phone"),
            Field::own("email", "Email", "varchar"),
            Field::own("org_id", "Organization", "org"),
            Field::own("owner_id", "Owner", "user"),
            Field::own("visible_to", "Visible to", "visible_to"),
            Field::own("add_time", "Person created", "date"),
            Field::own("update_time", "Update time", "date"),
        ];
        Self { list, next_choice: 11 }
    }
}

impl Fields {
    pub(super) fn all(&self) -> &[Field] {
        &self.list
    }

    /// Those that a company with contact sync has besides.
    pub(super) fn synced() -> [Field; 5] {
        [
            Field::own("postal_address", "Postal address", "address"),
            Field::own("notes", "Notes", "text"),
            Field::own("im", "Instant messenger", "varchar"),
            Field::own("birthday", "Birthday", "date"),
            Field::own("job_title", "Job title", "varchar"),
        ]
    }

    pub(super) fn get(&self, code: &str) -> Option<&Field> {
        self.list.iter().find(|field| field.code == code)
    }

    pub(super) fn custom(&self) -> impl Iterator<Item = &Field> {
        self.list.iter().filter(|field| field.custom)
    }

    /// The custom field of this key.
    pub(super) fn key(&self, code: &str) -> Option<&Field> {
        self.get(code).filter(|field| field.custom)
    }

    /// Makes a custom field. `key` is its key unless the document names one.
    pub(super) fn define(&mut self, given: &Map<String, Value>, key: String) -> Result<Field, Refusal> {
        let text = |member: &str| given.get(member).and_then(Value::as_str);
        let name = text("field_name").filter(|name| (1..=255).contains(&name.chars().count()));
        let name = name.ok_or_else(|| Refusal::invalid("field_name", "Required"))?;
        let kind = text("field_type").filter(|kind| KINDS.contains(kind));
        let kind = kind.ok_or_else(|| Refusal::invalid("field_type", "Invalid enum value"))?;
        let code = text("field_code").map_or(key, str::to_owned);
        if self.get(&code).is_some() {
            return Err(Refusal::invalid("field_code", "it is taken"));
        }
        let mut field =
            Field { code, name: name.to_owned(), kind: kind.to_owned(), custom: true, choices: Vec::new() };
        let labels = match given.get("options") {
            None | Some(Value::Null) => Vec::new(),
            Some(options) => labels(options)?,
        };
        if field.has_choices() == labels.is_empty() {
            return Err(Refusal::invalid("options", "Required for enum and set, and for them only"));
        }
        field.choices = labels.into_iter().map(|label| self.choice(label)).collect();
        self.list.push(field.clone());
        Ok(field)
    }

    fn choice(&mut self, label: String) -> Choice {
        self.next_choice += 1;
        Choice { id: self.next_choice, label }
    }

    fn key_mut(&mut self, code: &str) -> Result<&mut Field, Refusal> {
        let found = self.list.iter_mut().find(|field| field.custom && field.code == code);
        found.ok_or_else(|| Refusal::not_found("Field"))
    }

    pub(super) fn rename(&mut self, code: &str, name: &str) -> Result<Field, Refusal> {
        let field = self.key_mut(code)?;
        name.clone_into(&mut field.name);
        Ok(field.clone())
    }

    pub(super) fn remove(&mut self, code: &str) -> Result<Field, Refusal> {
        let field = self.key_mut(code)?.clone();
        self.list.retain(|known| known.code != code);
        Ok(field)
    }

    /// Adds options; all or none.
    pub(super) fn add_choices(&mut self, code: &str, given: &Value) -> Result<Vec<Choice>, Refusal> {
        if !self.key_mut(code)?.has_choices() {
            return Err(Refusal::invalid("field_code", "The field has no options"));
        }
        let added: Vec<Choice> = labels(given)?.into_iter().map(|label| self.choice(label)).collect();
        self.key_mut(code)?.choices.extend(added.iter().cloned());
        Ok(added)
    }

    /// Renames options; all or none.
    pub(super) fn rename_choices(&mut self, code: &str, given: &Value) -> Result<Vec<Choice>, Refusal> {
        let labels = labels(given)?;
        let ids = self.choice_ids(code, given)?;
        let field = self.key_mut(code)?;
        let mut renamed = Vec::new();
        for (id, label) in ids.into_iter().zip(labels) {
            for choice in field.choices.iter_mut().filter(|choice| choice.id == id) {
                choice.label.clone_from(&label);
                renamed.push(choice.clone());
            }
        }
        Ok(renamed)
    }

    /// Removes options; all or none.
    pub(super) fn remove_choices(&mut self, code: &str, given: &Value) -> Result<Vec<Choice>, Refusal> {
        let ids = self.choice_ids(code, given)?;
        let field = self.key_mut(code)?;
        let (gone, kept) = field.choices.drain(..).partition(|choice| ids.contains(&choice.id));
        field.choices = kept;
        Ok(gone)
    }

    fn choice_ids(&mut self, code: &str, given: &Value) -> Result<Vec<u64>, Refusal> {
        let field = self.key_mut(code)?;
        let rows = given.as_array().filter(|rows| !rows.is_empty());
        let rows = rows.ok_or_else(|| Refusal::invalid("options", "Expected a list that is not empty"))?;
        rows.iter()
            .map(|row| {
                let id = row.get("id").and_then(Value::as_u64).filter(|id| field.label(*id).is_some());
                id.ok_or_else(|| Refusal::not_found("Option"))
            })
            .collect()
    }
}

fn labels(given: &Value) -> Result<Vec<String>, Refusal> {
    let rows = given.as_array().filter(|rows| !rows.is_empty());
    let rows = rows.ok_or_else(|| Refusal::invalid("options", "Expected a list that is not empty"))?;
    rows.iter()
        .map(|row| {
            let label = row.get("label").and_then(Value::as_str);
            let label = label.filter(|label| (1..=255).contains(&label.chars().count()));
            label.map(str::to_owned).ok_or_else(|| Refusal::invalid("options.label", "Required"))
        })
        .collect()
}
