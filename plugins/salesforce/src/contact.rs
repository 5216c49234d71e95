//! The contact: canonical fields and Salesforce's standard fields.

use serde_json::json;
use tandem_provider::log;
use tandem_provider::mapping::Table;
use tandem_provider::{Mapping, Problem};

use crate::settings::{Facts, Settings};

/// The canonical object.
pub(crate) const OBJECT: &str = "contact";
/// Salesforce's word for it.
pub(crate) const NAME: &str = "Contact";

/// The canonical stages.
pub(crate) const STAGES: [&str; 8] = [
    "subscriber",
    "lead",
    "marketing_qualified_lead",
    "sales_qualified_lead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
];

/// Salesforce has no empty text.
const TEXT: &str = "text|empty-is-absent";

/// The mapping of one connection.
pub(crate) fn mapping(settings: &Settings, facts: &Facts) -> Result<Mapping, Vec<Problem>> {
    let mut mapping = usual();
    let mut problems = Vec::new();
    for (pointer, field) in &settings.fields {
        let known;
        (mapping, known) = placed(mapping, pointer, &format!("/{field}"), settings);
        if !known {
            let at = format!("/fields/{}", pointer.replace('~', "~0").replace('/', "~1"));
            let message = format!("{pointer} is no field of a contact; fields of your own go under custom");
            problems.push(Problem::new("invalid-setting", message).at(at));
        }
    }
    mapping = mapping.custom(&settings.custom, |name| format!("/{name}")).map_err(|found| {
        found
            .into_iter()
            .map(|problem| {
                let place = format!("/custom{}", problem.pointer.as_deref().unwrap_or_default());
                problem.at(place)
            })
            .collect::<Vec<_>>()
    })?;
    for pointer in &settings.ignore {
        mapping = mapping.without(pointer);
    }
    if let Some(key) = &settings.key_field
        && mapping.canonical_of(key).is_some()
    {
        let message = format!("{key} is mapped to a field: Tandem's key needs a field of its own");
        problems.push(Problem::new("invalid-setting", message).at("/key_field"));
    }
    if let Some(known) = facts.fields(OBJECT) {
        for field in mapping.mapped().filter(|field| !known.contains_key(field.name)) {
            log::warn(&format!(
                "{}: the organisation has no field {}, or its user does not see it",
                field.canonical, field.name
            ));
        }
        warn_of_options(settings, facts);
        mapping = mapping
            .only_where(|name| known.contains_key(name))
            .read_only_where(|name| known.get(name).is_some_and(|field| field.read_only));
        if let Some(key) = &settings.key_field
            && !known.get(key).is_some_and(|field| field.key && !field.read_only)
        {
            let message = format!(
                "{key} is no field of contacts that is an external id, unique, and Tandem's user's to write: make it so, then \
                 discover again"
            );
            problems.push(Problem::new("invalid-setting", message).at("/key_field"));
        }
    }
    if problems.is_empty() { Ok(mapping) } else { Err(problems) }
}

/// Puts a canonical field into another place, or gives a place to one that has no usual one. False: there is no such field.
fn placed(mut mapping: Mapping, pointer: &str, place: &str, settings: &Settings) -> (Mapping, bool) {
    let placed = match pointer {
        "/company_name" => mapping.field(pointer, place).normalise(TEXT).text(),
        "/website" => mapping.field(pointer, place).normalise("url|empty-is-absent").text(),
        "/language" => mapping.field(pointer, place).normalise("language|empty-is-absent").text(),
        "/lifecycle_stage" => mapping.field(pointer, place).options(stages(settings)),
        "/annual_revenue" => mapping.field(pointer, place).normalise("decimal").decimal(),
        "/employees" => mapping.field(pointer, place).integer(),
        // A picklist of several values.
        "/tags" => mapping.field(pointer, place).normalise("trim|set|empty-is-absent").joined_set(';'),
        _ => {
            let known = mapping.rename(pointer, place);
            return (mapping, known);
        }
    };
    (placed, true)
}

/// Values that are not named read as "other" and stay.
fn stages(settings: &Settings) -> Table {
    let rows: Vec<(&str, &str)> = if settings.stages.is_empty() {
        STAGES.iter().map(|stage| (*stage, *stage)).collect()
    } else {
        settings.stages.iter().map(|(canonical, value)| (canonical.as_str(), value.as_str())).collect()
    };
    Table::new(&rows).otherwise("other")
}

/// A value that a restricted picklist does not have is refused record by record; better said at once.
fn warn_of_options(settings: &Settings, facts: &Facts) {
    let Some(known) = facts.fields(OBJECT) else { return };
    let tables = settings.custom.as_object().into_iter().flatten().filter_map(|(_, entry)| {
        let values = entry.get("options")?.as_object()?.values().filter_map(serde_json::Value::as_str);
        Some((entry.get("property")?.as_str()?, values.collect::<Vec<_>>()))
    });
    let stages = settings.fields.get("/lifecycle_stage").map(|field| {
        let values = settings.stages.values().map(String::as_str).collect::<Vec<_>>();
        (field.as_str(), values)
    });
    for (name, values) in tables.chain(stages) {
        let Some(field) = known.get(name).filter(|field| field.restricted) else { continue };
        for value in values.iter().filter(|value| !field.options.iter().any(|option| option == **value)) {
            log::warn(&format!(
                "{name}: the picklist takes no other values than its own, and {value} is none"
            ));
        }
    }
}

fn usual() -> Mapping {
    let record_id = json!({ "type": "string", "minLength": 15, "maxLength": 18 });
    Mapping::object(OBJECT, NAME)
        .member("/attributes", json!({ "type": "object" }))
        .member("/Id", record_id)
        .member("/SystemModstamp", json!({ "type": "string" }))
        .member("/IsDeleted", json!({ "type": "boolean" }))
        .always("/Id")
        .field("/email", "/Email")
        .normalise("email|empty-is-absent")
        .text()
        .field("/given_name", "/FirstName")
        .normalise(TEXT)
        .text()
        .field("/family_name", "/LastName")
        .normalise(TEXT)
        .text()
        .field("/phone", "/Phone")
        .normalise("phone|empty-is-absent")
        .text()
        .field("/mobile_phone", "/MobilePhone")
        .normalise("phone|empty-is-absent")
        .text()
        .field("/job_title", "/Title")
        .normalise(TEXT)
        .text()
        .field("/street", "/MailingStreet")
        .normalise(TEXT)
        .text()
        .field("/city", "/MailingCity")
        .normalise(TEXT)
        .text()
        .field("/region", "/MailingState")
        .normalise(TEXT)
        .text()
        .field("/postal_code", "/MailingPostalCode")
        .normalise(TEXT)
        .text()
        .field("/country", "/MailingCountry")
        .normalise(TEXT)
        .text()
        .field("/date_of_birth", "/Birthdate")
        .normalise("date")
        .date()
        .field("/notes", "/Description")
        .normalise(TEXT)
        .text()
        .field("/opted_out", "/HasOptedOutOfEmail")
        .lossy("Salesforce knows yes and no: no value is written as no")
        .boolean()
}
