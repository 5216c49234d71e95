//! `tandem provider fields`: what a provider maps, field by field, as tables for a page of documentation.
//!
//! A page says where a table belongs by a line `<!-- fields -->` and a line `<!-- end of fields -->`. The first one may hold JSON: with
//! which `settings` and `facts` the provider is asked, and which fields are wanted `only`. What stands between the two is replaced.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_core::descriptor::{Direction, ObjectDescriptor};
use tandem_core::schema::CanonicalSchema;

use super::args;
use super::failure::Failure;
use super::map::{one_document, settings_of};
use super::online::pretty;
use super::room::Room;
use crate::provider::{EngineConfig, Offline, Setup};

const BEGIN: &str = "<!-- fields";
const END: &str = "<!-- end of fields -->";

/// What one table shows.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    settings: Map<String, Value>,
    facts: Map<String, Value>,
    /// Canonical pointers. Empty: all that are mapped.
    only: Vec<String>,
}

/// Prints the tables, or puts them into a page.
pub(super) fn fields(config: &Path, asked: &args::ProviderFields, json: bool) -> Result<String, Failure> {
    let room = Room::found(config)?;
    let load = |wanted: &Wanted| {
        let setup = Setup {
            settings: Value::Object(wanted.settings.clone()),
            facts: Value::Object(wanted.facts.clone()),
        };
        Offline::load_with(&asked.file, &setup, &EngineConfig::default(), room.limits())
            .map_err(|error| Failure::new(&error))
    };
    if let Some(page) = &asked.into {
        let unread = |error: std::io::Error| Failure::usage(format!("{}: {error}", page.display()));
        let text = std::fs::read_to_string(page).map_err(unread)?;
        let mut tables = 0_u32;
        let written = put(&text, &page.display().to_string(), |wanted| {
            tables += 1;
            let offline = load(wanted)?;
            tables_of(&offline, &wanted.only)
        })?;
        if written != text {
            std::fs::write(page, &written).map_err(unread)?;
        }
        let done = json!({ "file": page, "tables": tables, "changed": written != text });
        return if json {
            pretty(&done)
        } else {
            let what = if written == text { "says what the mapping says" } else { "written" };
            Ok(format!("{}: {what}\n", page.display()))
        };
    }
    let object = |value| if let Value::Object(members) = value { members } else { Map::new() };
    let settings = match (&asked.connection, &asked.settings) {
        (Some(name), _) => object(settings_of(config, name)?),
        (None, Some(path)) => object(one_document(path)?),
        (None, None) => Map::new(),
    };
    let facts = asked.facts.as_deref().map(one_document).transpose()?.map(object).unwrap_or_default();
    let offline = load(&Wanted { settings, facts, only: Vec::new() })?;
    if json {
        let objects: Map<String, Value> = offline
            .view()
            .connection
            .objects
            .iter()
            .map(|(name, object)| (name.clone(), json!({ "name": object.name, "fields": object.fields })))
            .collect();
        return pretty(&json!({ "provider": offline.version().label.to_string(), "objects": objects }));
    }
    tables_of(&offline, &[])
}

/// The tables of all objects; several of them have their names above.
fn tables_of(offline: &Offline, only: &[String]) -> Result<String, Failure> {
    let objects = &offline.view().connection.objects;
    let mut text = String::new();
    for (name, object) in objects {
        if !text.is_empty() {
            text.push('\n');
        }
        if objects.len() > 1 {
            // Writing to a string does not fail.
            let _ = writeln!(text, "**{name}**\n");
        }
        let canonical = CanonicalSchema::built_in(name).transpose().map_err(|error| Failure::new(&error))?;
        text.push_str(&table(object, canonical.as_ref(), only).map_err(Failure::usage)?);
    }
    Ok(text)
}

/// One object's fields. What the provider declares no normaliser for has the canonical schema's, as at work.
fn table(
    object: &ObjectDescriptor,
    canonical: Option<&CanonicalSchema>,
    only: &[String],
) -> Result<String, String> {
    if let Some(unknown) = only.iter().find(|pointer| !object.fields.contains_key(*pointer)) {
        return Err(format!("only: the provider maps no {unknown} with these settings and facts"));
    }
    let usual = canonical.map(CanonicalSchema::policy_base).unwrap_or_default().normalise;
    let is_wanted = |pointer: &String| only.is_empty() || only.contains(pointer);
    let mut text = format!(
        "| canonical | `{}` | direction | normaliser | lossy |\n| --- | --- | --- | --- | --- |\n",
        cell(&object.name)
    );
    for (pointer, field) in object.fields.iter().filter(|(pointer, _)| is_wanted(pointer)) {
        let places: Vec<String> = field.provider.iter().map(|place| format!("`{}`", cell(place))).collect();
        let direction = match field.direction {
            Direction::Both => "both",
            Direction::ToProvider => "to the CRM",
            Direction::ToCanonical => "from the CRM",
        };
        let normaliser = field.normalise.as_ref().or_else(|| usual.get(pointer));
        let links: Vec<String> = normaliser
            .into_iter()
            .flat_map(|chain| chain.split(['|', '+']))
            .map(|link| format!("`{}`", link.trim()))
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {direction} | {} | {} |",
            cell(pointer),
            places.join(", "),
            if links.is_empty() { "none".to_owned() } else { links.join(", ") },
            cell(field.lossy.as_deref().unwrap_or_default()),
        );
    }
    // An empty cell is written with one space.
    Ok(text.replace("|  |", "| |"))
}

/// Text that ends neither its cell nor its row.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// Puts what `tables` makes between each pair of marks of a page. `name`: the page, for errors.
fn put(
    page: &str,
    name: &str,
    mut tables: impl FnMut(&Wanted) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let mut written = String::with_capacity(page.len());
    let mut lines = page.split_inclusive('\n').enumerate();
    let mut found = false;
    while let Some((at, line)) = lines.next() {
        written.push_str(line);
        let Some(mark) = line.trim().strip_prefix(BEGIN) else { continue };
        found = true;
        let wrong = |what: String| Failure::usage(format!("{name}:{}: {what}", at + 1));
        let mark = mark
            .strip_suffix("-->")
            .ok_or_else(|| wrong(format!("{BEGIN} … --> has to be one line")))?
            .trim();
        let wanted = match mark {
            "" => Wanted::default(),
            mark => serde_json::from_str(mark).map_err(|error| {
                wrong(format!("{mark}: {error}; it may hold settings, facts and only, as JSON"))
            })?,
        };
        let end = lines
            .by_ref()
            .map(|(_, line)| line)
            .find(|line| line.trim() == END || line.trim().starts_with(BEGIN))
            .filter(|line| line.trim() == END)
            .ok_or_else(|| wrong(format!("no line {END} follows; put it behind the table")))?;
        let _ = write!(written, "\n{}\n{end}", tables(&wanted)?);
    }
    if !found {
        return Err(Failure::usage(format!(
            "{name}: there is no line {BEGIN} -->; put it and {END} where the table belongs"
        )));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectDescriptor {
        serde_json::from_value(json!({
            "name": "people", "schema": {}, "abilities": {},
            "fields": {
                "/email": { "provider": ["/Mail"] },
                "/notes": { "provider": ["/a", "/b"], "direction": "to-canonical", "lossy": "a | b\nis cut" },
                "/phone": { "provider": ["/Tel"], "normalise": "phone|empty-is-absent", "direction": "to-provider" },
                "/custom/x": { "provider": ["/x"] },
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_table_says_places_directions_normalisers_and_what_is_lossy() {
        let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
        let usual = &canonical.policy_base().normalise["/email"];
        let usual = usual.split('|').map(|link| format!("`{link}`")).collect::<Vec<_>>().join(", ");
        let expected = format!(
            "| canonical | `people` | direction | normaliser | lossy |\n\
             | --- | --- | --- | --- | --- |\n\
             | `/custom/x` | `/x` | both | none | |\n\
             | `/email` | `/Mail` | both | {usual} | |\n\
             | `/notes` | `/a`, `/b` | from the CRM | `text` | a \\| b is cut |\n\
             | `/phone` | `/Tel` | to the CRM | `phone`, `empty-is-absent` | |\n"
        );
        assert_eq!(table(&object(), Some(&canonical), &[]).unwrap(), expected);
        let one = table(&object(), Some(&canonical), &["/phone".to_owned()]).unwrap();
        assert_eq!(one.lines().count(), 3, "{one}");
        let error = table(&object(), None, &["/fax".to_owned()]).unwrap_err();
        assert!(error.contains("/fax"), "{error}");
    }

    #[test]
    fn tables_take_the_place_between_the_marks_and_nothing_else() {
        let page = "# A\n\n<!-- fields -->\nold\n<!-- end of fields -->\ntext\n\
                    <!-- fields {\"settings\":{\"a\":1},\"only\":[\"/x\"]} -->\n<!-- end of fields -->";
        let mut asked = Vec::new();
        let table = |wanted: &Wanted| {
            asked.push((wanted.settings.clone(), wanted.only.clone()));
            Ok(format!("| {} |\n", asked.len()))
        };
        let once = put(page, "page", table).unwrap();
        assert_eq!(
            once,
            "# A\n\n<!-- fields -->\n\n| 1 |\n\n<!-- end of fields -->\ntext\n\
             <!-- fields {\"settings\":{\"a\":1},\"only\":[\"/x\"]} -->\n\n| 2 |\n\n<!-- end of fields -->"
        );
        assert_eq!(asked[0], (Map::new(), Vec::new()));
        assert_eq!(
            (asked[1].0["a"].clone(), asked[1].1.as_slice()),
            (json!(1), ["/x".to_owned()].as_slice())
        );
        let mut number = 0;
        let again = put(&once, "page", |_| {
            number += 1;
            Ok(format!("| {number} |\n"))
        });
        assert_eq!(again.unwrap(), once, "the second time changes nothing");
    }

    #[test]
    fn a_page_without_marks_or_with_half_of_them_is_named_with_the_line() {
        for (page, said) in [
            ("text\n", "page: there is no line <!-- fields -->"),
            ("\n<!-- fields -->\ntable\n", "page:2: no line <!-- end of fields --> follows"),
            ("<!-- fields -->\n<!-- fields -->\n<!-- end of fields -->\n", "page:1: no line"),
            ("<!-- fields {} --\n", "page:1: <!-- fields … --> has to be one line"),
            (
                "<!-- fields {\"onyl\":[]} -->\n<!-- end of fields -->\n",
                "page:1: {\"onyl\":[]}: unknown field",
            ),
        ] {
            let failure = put(page, "page", |_| Ok(String::new())).unwrap_err();
            assert!(failure.text.contains(said), "{}", failure.text);
        }
    }
}
