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
        "MICROSECONDS",
        "limits of the defaults",
        "  memory                                   33554432 bytes\n",
        "  document                                 262144 bytes\n",
        "admission  took",
        "It would be admitted.",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let report = house.tandem(&["provider", "check", &file, "--records", "10", "--json"]).json();
    assert_eq!((&report["ok"], &report["laws"]["records"]), (&json!(true), &json!(12)));
    let names = |list: &str, name: &str| -> Vec<String> {
        let all = report[list].as_array().expect("a list").iter();
        all.map(|one| one[name].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(
        names("functions", "function"),
        ["instantiate", "describe", "configure", "to-provider", "to-canonical", "decide"],
        "what is said to a CRM cannot be made up, and is not measured without cases"
    );
    for function in report["functions"].as_array().expect("a list") {
        let name = function["function"].as_str().unwrap_or_default();
        assert!(function["calls"].as_u64().unwrap() > 0, "{function}");
        assert!(function["microseconds"].as_f64().unwrap() > 0.0, "{function}");
        assert!(function["memory"].as_u64().unwrap() > 0, "{function}");
        assert_eq!(function["refused"], 0, "made-up records are proper ones: {function}");
        assert!(said.contains(&format!("  {name} ")), "{name} is missing in\n{said}");
    }
    assert_eq!(
        names("operations", "operation"),
        [
            "changes", "create", "discover", "find", "other", "probe", "read", "remove", "update", "walk",
            "watch"
        ]
    );
    let read =
        report["operations"].as_array().unwrap().iter().find(|one| one["operation"] == "read").unwrap();
    for answer in ["send", "current", "unauthorised", "blocked", "throttled", "again"] {
        assert!(read["answers"].as_array().unwrap().contains(&json!(answer)), "{read}");
    }
    assert_eq!(report["unmeasured"].as_array().unwrap().len(), 12, "{report}");
    assert!(said.contains("not measured, for want of a golden case"), "{said}");
    assert_eq!(report["limits"].as_array().unwrap().len(), 21, "every limit: {report}");
    // The ledger takes what has no id for a record: nothing that admission asks for, and told all the same.
    let notes = report["notes"].as_array().expect("a list");
    assert!(
        notes.len() == 1 && notes[0].as_str().unwrap().ends_with(": resume: answered an empty record's id"),
        "{report}"
    );
}

/// What a refusal takes is never shown as what its operation takes.
#[test]
fn operations_are_measured_on_golden_cases_and_one_that_ends_otherwise_is_said() {
    let row = r#"{ "id": "7", "version": "1", "fields": { "email": "a@example.com" } }"#;
    let read = |id: &str, responses: &str| {
        format!(r#"{{ "exchange": {{ "operation": "read", "id": "{id}", "responses": [{responses}] }} }}"#)
    };
    let answered = |status: u16, body: &str| format!(r#"{{ "status": {status}, "body": {body} }}"#);
    let house = House::new(&[
        ("cases/a-read.json", read("7", &answered(200, row)).as_str()),
        ("cases/b-gone.json", &read("8", &answered(404, "{}"))),
        ("cases/c-refused.json", &read("7", &answered(401, r#"{ "error": "the token is old" }"#))),
        ("cases/d-unanswered.json", &read("7", "")),
        ("cases/e-discover.json", r#"{ "exchange": { "operation": "discover" } }"#),
        (
            "cases/f-update.json",
            &format!(
                r#"{{ "exchange": {{ "operation": "update", "id": "7", "document": {{ "city": "Ulm" }},
                     "changed": ["/city"], "responses": [{}] }} }}"#,
                answered(200, row)
            ),
        ),
        ("cases/g-receive.json", r#"{ "receive": "no event" }"#),
        ("cases/h-mapping.json", r#"{ "to-canonical": {}, "expected": {} }"#),
    ]);
    let (file, cases) =
        (guest("ledger").display().to_string(), house.path().join("cases").display().to_string());
    let asked = ["provider", "check", &file, "--records", "10", "--cases", &cases];
    let report = house.tandem(&[&asked[..], &["--json"]].concat()).json();
    let all = report["cases"].as_array().expect("a list");
    let seen: Vec<_> = all
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            (text("case"), text("ends"), text("uncounted"), one["first"].is_number())
        })
        .collect();
    let seen: Vec<_> = seen
        .iter()
        .map(|(case, ends, why, took)| (case.as_str(), ends.as_str(), why.as_str(), *took))
        .collect();
    assert_eq!(
        seen,
        [
            ("a-read", "current, whole", "", true),
            ("b-gone", "current, gone", "the record was expected", false),
            ("c-refused", "unauthorised", "the record was expected: the token is old", false),
            ("d-unanswered", "send", "the case has no response to the last request", false),
            ("e-discover", "facts", "the CRM was asked nothing", false),
            ("f-update", "written, whole", "", true),
            ("g-receive", "a problem", "the delivery is not JSON", false),
        ]
    );
    let measured = |name: &str| {
        let functions = report["functions"].as_array().expect("a list").iter();
        functions.filter(|one| one["function"] == name).filter_map(|one| one["calls"].as_u64()).sum::<u64>()
    };
    assert_eq!((measured("start"), measured("resume"), measured("receive")), (800, 800, 0), "{report}");
    let unmeasured = report["unmeasured"].as_array().expect("a list");
    assert!(unmeasured.contains(&json!("receive")) && !unmeasured.contains(&json!("read")), "{report}");
    let said = house.tandem(&asked).ok();
    for part in ["NOT COUNTED: current, gone; the record was expected", "It would be admitted."] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    house.write("cases/i-wrong.json", br#"{ "exchange": { "operation": "reed" } }"#);
    let done = house.tandem(&asked);
    assert!(
        done.status == 1 && done.err.contains("i-wrong.json: there is no operation \"reed\""),
        "{}",
        done.err
    );
}

/// A component under the limits of the daemon: those of the configuration that stands here, or of one that says nothing.
#[test]
fn a_component_that_needs_more_than_the_daemon_gives_is_refused_here_as_it_is_there() {
    let file = guest("needs_more").display().to_string();
    let house = House::new(&[]);
    let done = house.tandem(&["provider", "check", &file]);
    assert!(
        done.status == 1
            && done.err.contains("to-canonical: needed more than its 33554432 bytes of memory; "),
        "{}",
        done.err
    );
    let house = House::configured();
    let done = house.tandem(&["provider", "check", &file]);
    assert!(done.status == 1 && done.out.contains("limits of tandem.toml"), "{}{}", done.out, done.err);
    let more = format!("{}[limits]\ninstance_memory = '64 MiB'\n", house.main());
    house.write("tandem.toml", more.as_bytes());
    let said = house.tandem(&["provider", "check", &file, "--records", "50"]).ok();
    assert!(said.contains("67108864 bytes") && said.contains("It would be admitted."), "{said}");
    assert!(!house.path().join("data").exists(), "check has no side effects");
    let done = house.tandem(&["provider", "check", &file, "--config", "nowhere.toml"]);
    assert!(done.status == 64 && done.err.contains("nowhere.toml"), "{}", done.err);
}

#[test]
fn a_component_that_breaks_a_law_is_refused_with_the_smallest_example() {
    let house = House::new(&[]);
    for (name, says) in [
        (
            "drops_field",
            r#"field /family_name, to-provider: what was written is not what is read: "a" became nothing; smallest example: canonical {"family_name":"a"}, document {}"#,
        ),
        (
            "rounds_amounts",
            r#"field /annual_revenue, to-provider: what was written is not what is read: "0.1" became "0"; smallest example: canonical {"annual_revenue":"0.1"}, document {}"#,
        ),
        (
            "swaps_names",
            r#"field /family_name, to-provider: what was written is not what is read: "a" became "b"; smallest example: canonical {"family_name":"a","given_name":"b"}, document {}"#,
        ),
        (
            "loses_member",
            r#"field /tags, to-provider: what was written is not what is read: ["a","a","b"] became ["a","a"]; smallest example: canonical {"tags":["a","a","b"]}, document {}"#,
        ),
        (
            "drops_unmapped",
            r#"field /shoe_size, to-provider: a member that is not mapped does not stay: 0 became nothing; smallest example: canonical {}, document {"shoe_size":0}"#,
        ),
        (
            "reads_only",
            r#"field /source, to-canonical: writing what was read changes it: "a" became nothing; smallest example: canonical {}, document {"source":"a"}"#,
        ),
        (
            "never_settles",
            r#"field /notes, to-canonical: writing the same once more changes it again: "a*" became "a**"; smallest example: canonical {}, document {"notes":"a"}"#,
        ),
        (
            "member_twice",
            r#"field /notes, to-provider: the answer is no document: a member stands there twice; smallest example: canonical {"notes":"a"}, document {}"#,
        ),
        (
            "counts_calls",
            r#"field /city, to-provider: the same input gives other bytes: "{\"city\":\"a\"}" became "{\"city\":\"a, again\"}"; smallest example: canonical {"city":"a"}, document {}"#,
        ),
        (
            "remembers",
            r#"the whole document, to-provider: the same input gives other bytes: "{}" became "{} "; smallest example: canonical {}, document {}, on an instance that has seen canonical {}, document {"nobody mapped this":"a"}"#,
        ),
    ] {
        let file = guest(name).display().to_string();
        let done = house.tandem(&["provider", "check", &file, "--records", "500"]);
        assert_eq!(done.status, 1, "{name}: {}", done.out);
        let label = done.err.split(": laws: ").next().unwrap_or_default().to_owned();
        let id = name.replace('_', "-");
        assert!(label.starts_with(&format!("error: {file}: provider {id}@0.1.0#")), "{name}: {}", done.err);
        assert_eq!(
            done.err,
            format!(
                "{label}: laws: object contact, {says}; mend the mapping, or declare the field lossy or one-way\n"
            )
        );
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
