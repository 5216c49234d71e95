//! The contact: canonical fields and HubSpot's default properties.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem_provider::json::Node;
use tandem_provider::log;
use tandem_provider::mapping::{Converter, Table};
use tandem_provider::{Mapping, Problem};

use crate::settings::{Facts, Property, Settings};

/// The canonical object.
pub(crate) const OBJECT: &str = "contact";
/// HubSpot's word for it.
pub(crate) const NAME: &str = "contacts";

/// The mapping of one connection.
pub(crate) fn mapping(settings: &Settings, facts: &Facts) -> Result<Mapping, Vec<Problem>> {
    let mut mapping = usual();
    let mut problems = Vec::new();
    for (pointer, property) in &settings.properties {
        let place = format!("/properties/{property}");
        match pointer.as_str() {
            // HubSpot has no property for these; its own number of employees is a list of ranges.
            "/tags" => {
                mapping =
                    mapping.field(pointer, &place).normalise("trim|set|empty-is-absent").joined_set(';');
            }
            "/employees" => mapping = mapping.field(pointer, &place).integer(),
            "/opted_out" => mapping = mapping.field(pointer, &place).boolean(),
            _ => {
                if !mapping.rename(pointer, &place) {
                    let at = format!("/properties/{}", pointer.replace('~', "~0").replace('/', "~1"));
                    let message =
                        format!("{pointer} is no field of a contact; fields of your own go under custom");
                    problems.push(Problem::new("invalid-setting", message).at(at));
                }
            }
        }
    }
    mapping = mapping.custom(&settings.custom, |name| format!("/properties/{name}")).map_err(|found| {
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
    if let Some(key) = &settings.key_property
        && mapping.canonical_of(key).is_some()
    {
        let message = format!("{key} is mapped to a field: Tandem's key needs a property of its own");
        problems.push(Problem::new("invalid-setting", message).at("/key_property"));
    }
    if let Some(known) = facts.properties(OBJECT) {
        for field in mapping.mapped().filter(|field| !known.contains_key(field.name)) {
            log::warn(&format!("{}: the account has no property {}", field.canonical, field.name));
        }
        for missing in missing_options(&mapping, settings, known) {
            log::warn(&missing);
        }
        mapping = mapping
            .only_where(|name| known.contains_key(name))
            .read_only_where(|name| known.get(name).is_some_and(|property| property.read_only));
        if let Some(key) = &settings.key_property
            && !known.get(key).is_some_and(|property| property.unique)
        {
            let message = format!(
                "the account has no contact property {key} with unique values: make one, then discover again"
            );
            problems.push(Problem::new("invalid-setting", message).at("/key_property"));
        }
    }
    if problems.is_empty() { Ok(mapping) } else { Err(problems) }
}

/// Options of the settings, and stages, that the account's property does not have. HubSpot refuses them record by record; better said at
/// once.
fn missing_options(
    mapping: &Mapping,
    settings: &Settings,
    known: &BTreeMap<String, Property>,
) -> Vec<String> {
    let own = settings.custom.as_object().into_iter().flatten().filter_map(|(pointer, entry)| {
        let values = entry.get("options")?.as_object()?.values().filter_map(Value::as_str).collect();
        Some((pointer.as_str(), entry.get("property")?.as_str()?, values))
    });
    let stage = mapping.mapped().find(|field| field.canonical == "/lifecycle_stage" && field.writes);
    let stages = stage.map(|field| (field.canonical, field.name, STAGES.map(|(_, value)| value).to_vec()));
    let mut missing = Vec::new();
    for (pointer, name, values) in own.chain(stages) {
        let values: Vec<&str> = values;
        // Whatever is no list of options takes any value.
        let Some(options) = known.get(name).map(|it| &it.options).filter(|options| !options.is_empty())
        else {
            continue;
        };
        for value in values.into_iter().filter(|value| !options.iter().any(|option| option == value)) {
            missing.push(format!("{pointer}: the account's property {name} has no option {value}"));
        }
    }
    missing
}

fn usual() -> Mapping {
    /// HubSpot has no empty text.
    const TEXT: &str = "text|empty-is-absent";
    const FREE_TEXT: &str = "HubSpot keeps free text here: what is not in this form is left alone";
    let value = json!({ "type": ["string", "null"], "maxLength": 65_536 });
    Mapping::object(OBJECT, NAME)
        .text_values()
        .member("/id", json!({ "type": "string", "minLength": 1, "maxLength": 64 }))
        .member("/archived", json!({ "type": "boolean" }))
        .member("/createdAt", json!({ "type": "string" }))
        .member("/updatedAt", json!({ "type": "string" }))
        .others("/properties", value)
        .always("/id")
        .always("/properties")
        .field("/email", "/properties/email")
        .normalise("email|empty-is-absent")
        .text()
        .field("/given_name", "/properties/firstname")
        .normalise(TEXT)
        .text()
        .field("/family_name", "/properties/lastname")
        .normalise(TEXT)
        .text()
        .field("/phone", "/properties/phone")
        .normalise("phone|empty-is-absent")
        .text()
        .field("/mobile_phone", "/properties/mobilephone")
        .normalise("phone|empty-is-absent")
        .text()
        .field("/job_title", "/properties/jobtitle")
        .normalise(TEXT)
        .text()
        .field("/company_name", "/properties/company")
        .normalise(TEXT)
        .text()
        .field("/website", "/properties/website")
        .normalise("url|empty-is-absent")
        .text()
        .field("/street", "/properties/address")
        .normalise(TEXT)
        .text()
        .field("/city", "/properties/city")
        .normalise(TEXT)
        .text()
        .field("/region", "/properties/state")
        .normalise(TEXT)
        .text()
        .field("/postal_code", "/properties/zip")
        .normalise(TEXT)
        .text()
        .field("/country", "/properties/country")
        .normalise(TEXT)
        .text()
        .field("/language", "/properties/hs_language")
        .normalise("language|empty-is-absent")
        .own(LANGUAGE)
        .field("/lifecycle_stage", "/properties/lifecyclestage")
        .options(stages())
        .field("/date_of_birth", "/properties/date_of_birth")
        .lenient(FREE_TEXT)
        .normalise("date")
        .date()
        .field("/annual_revenue", "/properties/annualrevenue")
        .lenient(FREE_TEXT)
        .normalise("decimal")
        .decimal()
        .field("/notes", "/properties/message")
        .normalise(TEXT)
        .text()
}

/// The default stages: the canonical word, and HubSpot's value.
const STAGES: [(&str, &str); 8] = [
    ("subscriber", "subscriber"),
    ("lead", "lead"),
    ("marketing_qualified_lead", "marketingqualifiedlead"),
    ("sales_qualified_lead", "salesqualifiedlead"),
    ("opportunity", "opportunity"),
    ("customer", "customer"),
    ("evangelist", "evangelist"),
    ("other", "other"),
];

/// Accounts may have more stages; they read as "other" and stay.
fn stages() -> Table {
    Table::new(&STAGES).otherwise("other")
}

/// HubSpot's language codes are in lower case (`zh-hant`, `de-at`); canonical ones follow RFC 5646 (`zh-Hant`, `de-AT`).
const LANGUAGE: Converter = Converter {
    to_provider: |value| match value {
        Node::Text(tag) => Ok(Node::text(tag.to_ascii_lowercase())),
        other => Err(format!("a language tag was expected, not {}", other.kind())),
    },
    to_canonical: |value| match value {
        Node::Text(tag) if tag.bytes().all(|byte| byte.is_ascii_lowercase()) => Ok(Node::Text(tag.clone())),
        Node::Text(tag) => Ok(Node::text(language_tag(tag))),
        other => Err(format!("a language tag was expected, not {}", other.kind())),
    },
    schema: r#"{"type":["string","null"],"maxLength":100}"#,
    samples: &[r#""de""#, r#""de-AT""#, r#""zh-Hant-HK""#, r#""en-US""#, r#""pt-BR""#],
};

/// The usual case of a tag's parts: language small, script with a capital, region in capitals.
fn language_tag(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    for (index, part) in tag.split(['-', '_']).enumerate() {
        if index > 0 {
            out.push('-');
        }
        match (index, part.len()) {
            (1.., 2) => out.push_str(&part.to_ascii_uppercase()),
            (1.., 4) => {
                let mut letters = part.chars();
                out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
                out.push_str(&letters.as_str().to_ascii_lowercase());
            }
            _ => out.push_str(&part.to_ascii_lowercase()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_the_account_does_not_have_are_named() {
        let settings = json!({ "custom": {
            "/custom/tier": { "property": "tier", "type": "enumeration", "options": { "gold": "g", "tin": "t" } },
            "/custom/area": { "property": "area", "type": "enumeration", "options": { "north": "n" } },
        }});
        let options = |options: &[&str]| json!({ "type": "enumeration", "options": options });
        let without = STAGES.map(|(_, value)| value).into_iter().filter(|value| *value != "evangelist");
        let facts = json!({ "objects": { "contact": { "properties": {
            "tier": options(&["g", "s"]),
            "area": options(&[]),
            "lifecyclestage": options(&without.collect::<Vec<_>>()),
        }}}});
        let (settings, facts) = (Settings::read(&settings).unwrap(), Facts::read(&facts));
        let mapping = mapping(&settings, &facts).unwrap();
        assert_eq!(
            missing_options(&mapping, &settings, facts.properties(OBJECT).unwrap()),
            [
                "/custom/tier: the account's property tier has no option t",
                "/lifecycle_stage: the account's property lifecyclestage has no option evangelist",
            ]
        );
    }

    #[test]
    fn language_tags_get_their_usual_case() {
        for (crm, canonical) in [
            ("de", "de"),
            ("en-us", "en-US"),
            ("zh-hant-hk", "zh-Hant-HK"),
            ("es-419", "es-419"),
            ("pt_br", "pt-BR"),
        ] {
            assert_eq!(language_tag(crm), canonical);
        }
    }
}
