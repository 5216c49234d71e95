//! The contact: canonical fields and the values of a flat person.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tandem_provider::log;
use tandem_provider::{Mapping, Problem};

use crate::kinds::Kind;
use crate::plain::CUSTOM;
use crate::settings::{Custom, Facts, Field, Names, Settings};

/// The canonical object.
pub(crate) const OBJECT: &str = "contact";
/// Pipedrive's word for it.
pub(crate) const NAME: &str = "persons";

/// Pipedrive has no empty text.
const TEXT: &str = "text|empty-is-absent";

const NEXT_ONE: &str = "when it is cleared in System A and the person has further numbers of this kind, the next one takes its place";
const TAKEN_APART: &str = "only the whole name is written, and Pipedrive takes it apart by rules of its own";

/// The mapping of one connection, and what its custom fields hold.
pub(crate) fn mapping(
    settings: &Settings,
    facts: &Facts,
) -> Result<(Mapping, BTreeMap<String, Kind>), Vec<Problem>> {
    let mut mapping = usual(settings, facts);
    let mut problems = Vec::new();
    let (entries, kinds) = custom(settings, facts, &mut problems);
    mapping = match mapping.custom(&Value::Object(entries), |key| format!("/{CUSTOM}/{key}")) {
        Ok(mapping) => mapping,
        Err(found) => {
            problems.extend(found.into_iter().map(|problem| {
                let place = format!("/custom{}", problem.pointer.as_deref().unwrap_or_default());
                problem.at(place)
            }));
            return Err(problems);
        }
    };
    for pointer in &settings.ignore {
        mapping = mapping.without(pointer);
    }
    if let Some(fields) = facts.fields() {
        mapping = mapping.read_only_where(|key| fields.get(key).is_some_and(|field| field.read_only));
    }
    if let Some(key) = &settings.key_field {
        let mut wrong = |message: String| {
            problems.push(Problem::new("invalid-setting", message).at("/key_field"));
        };
        if kinds.contains_key(key) {
            wrong(format!("{key} is mapped to a field: Tandem's key needs a field of its own"));
        }
        match facts.fields().map(|fields| fields.get(key)) {
            Some(None) => {
                wrong(format!("the account has no person field {key}: make one, then discover again"));
            }
            // Only these are searched.
            Some(Some(Field { kind, .. }))
                if !["varchar", "text", "varchar_auto"].contains(&kind.as_str()) =>
            {
                wrong(format!("the person field {key} is of type {kind}: a text field is needed"));
            }
            _ => {}
        }
    }
    if problems.is_empty() { Ok((mapping, kinds)) } else { Err(problems) }
}

fn usual(settings: &Settings, facts: &Facts) -> Mapping {
    let mut mapping = Mapping::object(OBJECT, NAME)
        .text_values()
        .field("/email", "/email")
        .normalise("email|empty-is-absent")
        .text();
    for (pointer, place) in [("/given_name", "/first_name"), ("/family_name", "/last_name")] {
        let field = mapping.field(pointer, place).normalise(TEXT);
        mapping = match settings.names {
            Names::Parts => field.text(),
            Names::Whole => field.lossy(TAKEN_APART).text(),
        };
    }
    for (pointer, place) in [("/phone", "/phone"), ("/mobile_phone", "/mobile")] {
        mapping = mapping.field(pointer, place).normalise("phone|empty-is-absent").lossy(NEXT_ONE).text();
    }
    if settings.has_synced("job_title", facts) {
        mapping = mapping.field("/job_title", "/job_title").normalise(TEXT).text();
    }
    if settings.has_synced("notes", facts) {
        mapping = mapping.field("/notes", "/notes").normalise(TEXT).text();
    }
    if settings.has_synced("birthday", facts) {
        mapping = mapping.field("/date_of_birth", "/birthday").normalise("date").date();
    }
    if settings.has_synced("postal_address", facts) {
        for (pointer, place) in [
            ("/street", "/street"),
            ("/city", "/locality"),
            ("/region", "/admin_area_level_1"),
            ("/postal_code", "/postal_code"),
            ("/country", "/country"),
        ] {
            mapping = mapping.field(pointer, place).normalise(TEXT).text();
        }
    }
    mapping
}

/// The custom fields that the account has, as the mapping wants them, and what each of them holds.
fn custom(
    settings: &Settings,
    facts: &Facts,
    problems: &mut Vec<Problem>,
) -> (Map<String, Value>, BTreeMap<String, Kind>) {
    let mut entries = Map::new();
    let mut kinds = BTreeMap::new();
    for (pointer, custom) in &settings.custom {
        let known = facts.fields().map(|fields| fields.get(&custom.field));
        if let Some(None) = known {
            log::warn(&format!("{pointer}: the account has no person field {}", custom.field));
            continue;
        }
        let known = known.flatten();
        let Some(options) = options(custom, known) else {
            // Its words are the labels of the account, and those are not known yet.
            log::log("info", &format!("{pointer}: it takes part once the account's fields are discovered"));
            continue;
        };
        if settings.ignore.contains(pointer) {
            continue;
        }
        let currency = settings.currency(facts);
        let kind = match custom.field_type.as_deref().or(known.map(|field| field.kind.as_str())) {
            Some(field_type) => Kind::of(field_type, currency),
            None => Kind::usual(&custom.kind),
        };
        if kinds.insert(custom.field.clone(), kind).is_some() {
            let place = format!("/custom/{}", pointer.replace('~', "~0").replace('/', "~1"));
            let message = format!("the field {} is mapped twice", custom.field);
            problems.push(Problem::new("invalid-setting", message).at(place));
        }
        entries.insert(pointer.clone(), entry(pointer, custom, options));
    }
    (entries, kinds)
}

/// The options of a field: word to id. The outer none: they are not known yet. The inner one: it has none.
fn options(custom: &Custom, known: Option<&Field>) -> Option<Option<Map<String, Value>>> {
    if !["enumeration", "set"].contains(&custom.kind.as_str()) {
        // Options of another type are refused by the mapping.
        let said = custom.options.as_ref();
        return Some(said.map(|said| said.iter().map(|(word, to)| (word.clone(), json!(to))).collect()));
    }
    let labels = known.map(|field| &field.options);
    let table = match (&custom.options, labels) {
        (Some(said), labels) => said
            .iter()
            .map(|(word, to)| {
                let by_label = labels.and_then(|labels| labels.iter().find(|(_, label)| *label == to));
                (word.clone(), json!(by_label.map_or(to, |(id, _)| id)))
            })
            .collect(),
        (None, Some(labels)) => {
            let mut table = Map::new();
            for (id, label) in labels {
                table.entry(label.clone()).or_insert_with(|| json!(id));
            }
            table
        }
        (None, None) => return None,
    };
    Some(Some(table))
}

/// A field as [`Mapping::custom`] reads it.
fn entry(pointer: &str, custom: &Custom, options: Option<Map<String, Value>>) -> Value {
    let mut entry = json!({ "property": custom.field, "type": custom.kind });
    let usual = match (pointer, custom.kind.as_str()) {
        ("/website", _) => Some("url|empty-is-absent"),
        ("/language", _) => Some("language|empty-is-absent"),
        (_, "text") => Some(TEXT),
        (_, "decimal") => Some("decimal"),
        (_, "date") => Some("date"),
        (_, "datetime") => Some("datetime"),
        (_, "set") => Some("trim|set|empty-is-absent"),
        _ => None,
    };
    if let Some(members) = entry.as_object_mut() {
        if let Some(options) = options {
            members.insert("options".to_owned(), Value::Object(options));
        }
        if let Some(direction) = &custom.direction {
            members.insert("direction".to_owned(), json!(direction));
        }
        if let Some(normalise) = custom.normalise.as_deref().or(usual) {
            members.insert("normalise".to_owned(), json!(normalise));
        }
    }
    entry
}
