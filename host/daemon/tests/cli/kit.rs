//! What authors of providers and of rules try without a daemon.

use serde_json::{Value, json};

use crate::support::{House, guest};

const CONNECTION: &str = "provider = 'ledger'\nscope = 'acme'\nhosts = ['127.0.0.1']\nallow_loopback = true\n\
                          [[rules]]\nname = 'staff stays out'\n\
                          when = \"record.email != null && record.email.endsWith('@acme.example')\"\nthen = 'skip'\n\
                          [[rules]]\nname = 'large ones'\nwhen = 'record.employees > 100'\nthen = 'hold'\n\
                          [objects.contact]\n";

#[test]
fn a_component_is_taken_through_admission_with_its_figures() {
    let house = House::new(&[]);
    let file = guest("ledger").display().to_string();
    let said = house.tandem(&["provider", "check", &file, "--records", "300"]).ok();
    for part in [
        "ledger@0.1.0#",
        "2 hold",
        "hold on 302 records",
        "to-provider",
        "MICROSECONDS",
        "It would be admitted.",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let report = house.tandem(&["provider", "check", &file, "--records", "10", "--json"]).json();
    assert_eq!((&report["ok"], &report["laws"]["records"]), (&json!(true), &json!(12)));
    let mapping =
        report["functions"].as_array().unwrap().iter().find(|one| one["function"] == "to-provider").unwrap();
    assert!(
        mapping["memory"].as_u64().unwrap() > 0 && mapping["microseconds"].as_f64().unwrap() > 0.0,
        "{report}"
    );
}

#[test]
fn a_component_that_breaks_a_law_is_refused_with_the_smallest_example() {
    let house = House::new(&[]);
    for (name, says) in [
        (
            "drops_field",
            "object contact, field /family_name, to-provider: what was written is not what is read: \"a\" became nothing; smallest example: canonical {\"family_name\":\"a\"}, document {}",
        ),
        ("rounds_amounts", "field /annual_revenue"),
        ("swaps_names", "smallest example: canonical {\"given_name\":\"a\",\"family_name\":"),
        (
            "never_settles",
            "field /notes, to-provider: what was written is not what is read: \"a\" became \"a*\"",
        ),
        ("counts_calls", "the same input gives other bytes"),
        ("drops_unmapped", "a member that is not mapped does not stay"),
        ("loses_member", "field /tags"),
    ] {
        let done =
            house.tandem(&["provider", "check", &guest(name).display().to_string(), "--records", "500"]);
        assert_eq!(done.status, 1, "{name}: {}", done.out);
        assert!(
            done.err.starts_with("error: ") && done.err.contains(": laws: ") && done.err.contains(says),
            "{name}: {}",
            done.err
        );
        assert_eq!(done.err.lines().count(), 1, "{name}: {}", done.err);
    }
    let done = house.tandem(&["provider", "check", &guest("drops_field").display().to_string(), "--json"]);
    let report: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!((done.status, &report["ok"], &report["step"]), (1, &json!(false), &json!("laws")));
}

#[test]
fn settings_are_tried_as_well() {
    let house = House::new(&[("refused.json", r#"{ "refuse": true }"#)]);
    let settings = house.path().join("refused.json").display().to_string();
    let done =
        house.tandem(&["provider", "check", &guest("ledger").display().to_string(), "--settings", &settings]);
    assert!(
        done.status == 1 && done.err.contains("the settings ask to be refused at /refuse"),
        "{}",
        done.err
    );
}

#[test]
fn golden_cases_hold_differ_or_are_blessed() {
    let house = House::new(&[(
        "cases/one.json",
        r#"{ "to-canonical": { "email": "a@example.com", "shoe_size": 3 }, "expected": { "email": "b@example.com" } }"#,
    )]);
    let (file, cases) =
        (guest("ledger").display().to_string(), house.path().join("cases").display().to_string());
    let done = house.tandem(&["provider", "test", &file, &cases]);
    assert_eq!(done.status, 1);
    for part in ["DIFFERS", "/email", "- \"b@example.com\"", "+ \"a@example.com\"", "0 of 1 cases hold"] {
        assert!(done.out.contains(part), "{part} is missing in\n{}", done.out);
    }
    assert!(done.err.contains("--bless"), "{}", done.err);
    assert!(house.tandem(&["provider", "test", &file, &cases, "--bless"]).ok().contains("blessed"));
    assert!(house.tandem(&["provider", "test", &file, &cases]).ok().contains("1 of 1 cases hold"));
    let done =
        house.tandem(&["provider", "test", &file, &house.path().join("nothing").display().to_string()]);
    assert!(done.status == 64 && done.err.contains("nothing"), "{}", done.err);
}

#[test]
fn a_provider_is_begun_under_a_lawful_name_and_never_over_another() {
    let house = House::new(&[]);
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/sdk");
    let folder = house.path().join("new").display().to_string();
    let said = house.tandem(&["provider", "new", "acme-crm", "--into", &folder, "--sdk", sdk]).ok();
    assert!(said.contains("provider_acme_crm.wasm"), "{said}");
    let source = std::fs::read_to_string(house.path().join("new/src/lib.rs")).expect("the source");
    assert!(
        source.contains("pub struct AcmeCrm")
            && source.contains("\"acme-crm\"")
            && !source.contains("tarter"),
        "{source}"
    );
    for (arguments, says) in [
        (&["provider", "new", "acme-crm", "--into", &folder, "--sdk", sdk][..], "is there already"),
        (&["provider", "new", "Acme CRM", "--sdk", sdk], "no provider's name"),
        (&["provider", "new", "acme", "--sdk", "/nowhere"], "--sdk"),
    ] {
        let done = house.tandem(arguments);
        assert!(done.status == 64 && done.err.contains(says), "{arguments:?}: {}", done.err);
    }
}

#[test]
fn rules_are_tried_on_records_of_a_file() {
    let house = House::configured();
    house.write("connections/acme-ledger.toml", CONNECTION.as_bytes());
    let records = json!([
        { "email": "a@acme.example", "employees": 1 },
        { "email": "a@other.example", "employees": 101 },
        { "email": "a@other.example", "employees": 1 },
        { "before": { "email": "a@acme.example", "employees": 1 }, "after": null, "origin": "external" },
        { "email": "a@other.example" },
        { "colour": "red" }
    ]);
    house.write("records.json", records.to_string().as_bytes());
    let file = house.path().join("records.json").display().to_string();
    let done = house.tandem(&["rules", "test", &file, "--json"]);
    assert_eq!(done.status, 1, "two of them cannot be judged: {}", done.err);
    let outcomes: Vec<Value> = serde_json::from_str(&done.out).expect("JSON");
    let actions: Vec<&str> = outcomes.iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["skip", "hold", "sync", "skip", "error", "error"]);
    assert!(outcomes[4]["error"].as_str().unwrap().contains("test for null"), "{outcomes:?}");
    assert!(outcomes[5]["error"].as_str().unwrap().contains("/colour"), "{outcomes:?}");
    let text = house.tandem(&["rules", "test", &file, "--connection", "acme-ledger"]).out;
    assert!(text.contains("staff stays out") && text.contains("no rule"), "{text}");
}
