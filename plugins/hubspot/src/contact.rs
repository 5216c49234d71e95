//! The contact: canonical fields and HubSpot's default properties.

use serde_json::json;
use tandem_provider::json::Node;
use tandem_provider::log;
use tandem_provider::mapping::{Converter, Table};
use tandem_provider::{Mapping, Problem};

use crate::settings::{Facts, Settings};

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

/// The default stages. Accounts may have more; they read as "other" and stay.
fn stages() -> Table {
    Table::new(&[
        ("subscriber", "subscriber"),
        ("lead", "lead"),
        ("marketing_qualified_lead", "marketingqualifiedlead"),
        ("sales_qualified_lead", "salesqualifiedlead"),
        ("opportunity", "opportunity"),
        ("customer", "customer"),
        ("evangelist", "evangelist"),
        ("other", "other"),
    ])
    .otherwise("other")
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
