//! `BEHAVIOUR.md` and the tests name each other.

use std::collections::{BTreeMap, BTreeSet};

/// Tests of this binary and of the crate, as `module::name`.
fn tests() -> BTreeSet<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for folder in
        ["tests/it", "src", "src/hubspot", "src/rest", "src/pipedrive", "src/salesforce", "src/control"]
    {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    marked = true;
                } else if marked && line.contains("fn ") {
                    let name = line.split("fn ").nth(1).unwrap().split('(').next().unwrap();
                    let crate_test = if folder.starts_with("src") { "unit::" } else { "" };
                    found.insert(format!("{crate_test}{module}::{name}"));
                    marked = false;
                }
            }
        }
    }
    found
}

/// Rows of the table: id to the cells after it.
fn rows() -> BTreeMap<String, Vec<String>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("BEHAVIOUR.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = BTreeMap::new();
    for line in
        text.lines().filter(|line| ["| HS-", "| GR-", "| PD-", "| SF-"].iter().any(|id| line.starts_with(id)))
    {
        let cells: Vec<String> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let (id, rest) = cells.split_first().unwrap();
        assert!(rows.insert(id.clone(), rest.to_vec()).is_none(), "{id} is there twice");
    }
    rows
}

#[test]
fn every_behaviour_has_a_test_and_every_test_a_behaviour() {
    let (tests, rows) = (tests(), rows());
    for crm in ["HS-", "PD-", "SF-"] {
        let has_source =
            |cells: &Vec<String>| cells.get(2).is_some_and(|mark| "SDXC".contains(mark.as_str()));
        let count = rows.iter().filter(|(id, cells)| id.starts_with(crm) && has_source(cells)).count();
        assert!(count >= 50, "only {count} of {crm} have a source");
    }
    let mut named = BTreeSet::new();
    for (id, cells) in &rows {
        assert_eq!(cells.len(), 4, "{id}: rule, source, mark, test");
        assert!(
            ["S", "D", "X", "C", "T", "U", "M"].contains(&cells[2].as_str()),
            "{id}: {} is not a mark of certainty",
            cells[2]
        );
        for test in cells[3].split(", ") {
            let test = test.trim_matches('`');
            assert!(tests.contains(test), "{id} names {test}, which does not exist");
            named.insert(test.to_owned());
        }
    }
    let own: BTreeSet<String> =
        tests.into_iter().filter(|t| !t.starts_with("unit::") && !t.starts_with("document::")).collect();
    let unnamed: Vec<&String> = own.difference(&named).collect();
    assert!(unnamed.is_empty(), "no behaviour names {unnamed:?}");
}
