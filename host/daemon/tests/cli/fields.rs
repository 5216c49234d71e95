//! The tables of fields that the pages of the providers show.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{House, guest};

/// A provider of this repository, as it is shipped.
fn provider(name: &str) -> String {
    let guests = guest("ledger");
    let folder = guests.parent().and_then(Path::parent).expect("the guests' folder has a parent");
    let file = folder.join(format!("provider_{name}.wasm"));
    assert!(file.is_file(), "there is no {}: run `just guests`", file.display());
    file.display().to_string()
}

/// The pages of the providers.
fn pages() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/providers");
    let mut pages: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the pages")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    pages.sort();
    pages
}

#[test]
fn the_pages_of_the_providers_say_what_the_mappings_say() {
    let mut checked = Vec::new();
    for page in pages() {
        let name = page.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = std::fs::read_to_string(&page).expect("the page");
        let house = House::new(&[("page.md", &text)]);
        house.tandem(&["provider", "fields", &provider(&name), "--into", "page.md"]).ok();
        let written = std::fs::read_to_string(house.path().join("page.md")).expect("the page");
        let differs = text.lines().zip(written.lines()).find(|(has, says)| has != says);
        assert!(
            text == written,
            "docs/providers/{name}.md is not what the mapping says; run `just fields`: {differs:?}"
        );
        assert!(text.contains("| `/email` |"), "{name}: a table has the address");
        checked.push(name);
    }
    assert_eq!(checked, ["hubspot", "pipedrive", "salesforce"]);
}

#[test]
fn a_page_that_says_something_else_is_written_anew_and_nothing_around_the_table_changes() {
    let page = "# A page\n<!-- fields -->\n| `/email` | `/wrong` |\n<!-- end of fields -->\nThe end.\n";
    let house = House::new(&[("page.md", page)]);
    let component = provider("hubspot");
    let said = house.tandem(&["provider", "fields", &component, "--into", "page.md"]).ok();
    assert_eq!(said, "page.md: written\n");
    let written = std::fs::read_to_string(house.path().join("page.md")).expect("the page");
    assert!(written.starts_with("# A page\n<!-- fields -->\n\n| canonical | `contacts` |"), "{written}");
    assert!(written.ends_with("\n\n<!-- end of fields -->\nThe end.\n"), "{written}");
    assert!(!written.contains("/wrong"), "{written}");
    let said = house.tandem(&["provider", "fields", &component, "--into", "page.md"]).ok();
    assert_eq!(said, "page.md: says what the mapping says\n");
}

#[test]
fn fields_are_shown_with_the_settings_and_facts_that_are_given() {
    let settings = json!({ "ignore": ["/notes"], "custom": {
        "/custom/score": { "property": "score", "type": "decimal", "direction": "to-canonical" },
    }});
    let facts = json!({ "objects": { "contact": { "properties": {
        "email": {}, "score": {}, "firstname": { "read_only": true }, "message": {},
    }}}});
    let house = House::new(&[("s.json", &settings.to_string()), ("f.json", &facts.to_string())]);
    let component = provider("hubspot");
    let arguments = ["provider", "fields", &component, "--settings", "s.json", "--facts", "f.json"];
    let said = house.tandem(&arguments).ok();
    let rows: Vec<&str> = said.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "| `/custom/score` | `/properties/score` | from the CRM | none | |",
            "| `/email` | `/properties/email` | both | `email`, `empty-is-absent` | |",
            "| `/given_name` | `/properties/firstname` | from the CRM | `text`, `empty-is-absent` | |",
        ]
    );
    let report = house.tandem(&[&arguments[..], &["--json"]].concat()).json();
    let fields = &report["objects"]["contact"]["fields"];
    assert_eq!(fields["/email"]["provider"], json!(["/properties/email"]));
    assert_eq!(fields.as_object().map(serde_json::Map::len), Some(3), "{report}");
    assert_ne!(report["provider"], Value::Null);
}

#[test]
fn a_page_without_a_place_for_the_table_is_a_wrong_use() {
    let house = House::new(&[("page.md", "# A page\n")]);
    let done = house.tandem(&["provider", "fields", &provider("hubspot"), "--into", "page.md"]);
    assert_eq!(done.status, 64);
    assert!(done.err.contains("page.md: there is no line <!-- fields -->"), "{}", done.err);
}
