//! The laws of the mapping, natively, by the very code with which the host checks a component.

use serde_json::{Value, json};
use tandem_core::descriptor::ObjectDescriptor;
use tandem_core::laws::{Mapping, Record, Refusal, Terms, check};
use tandem_core::schema::{CanonicalSchema, Schema};
use tandem_provider::{Direction, Problem, Provider};

use super::*;

struct Native<'p>(&'p Pipedrive);

fn refusal(problems: Vec<Problem>) -> Refusal {
    let problem = |it: Problem| tandem_core::exchange::Problem {
        code: it.code,
        message: it.message,
        pointer: it.pointer,
    };
    Refusal::Record(problems.into_iter().map(problem).collect())
}

impl Mapping for Native<'_> {
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        let current = current.map(|it| it.to_string().into_bytes());
        self.0.to_provider("contact", canonical.to_string().as_bytes(), current.as_deref()).map_err(refusal)
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        self.0.to_canonical("contact", document.to_string().as_bytes()).map_err(refusal)
    }

    fn renew(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn hold(provider: &Pipedrive, given: &[Record], records: usize, seed: u64) {
    let object = serde_json::to_value(&provider.connection().objects["contact"]).unwrap();
    let described: ObjectDescriptor = serde_json::from_value(object).unwrap();
    let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
    let read = Schema::compile("persons", &described.schema).unwrap();
    let terms = Terms { object: "contact", described: &described, canonical: &canonical, read: &read };
    let looked =
        check(&mut Native(provider), &terms, given, seed, records).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(looked.records, u64::try_from(given.len() + records).unwrap());
    assert!(looked.refused * 4 < looked.records, "{} of {} were refused", looked.refused, looked.records);
}

/// How many records; the full count is tried with `LAWS=10000`.
fn records() -> usize {
    std::env::var("LAWS").ok().and_then(|it| it.parse().ok()).unwrap_or(2_000)
}

#[test]
fn the_laws_hold_on_records_that_are_made_up() {
    let everything = json!({
        "contact_sync": true, "key_field": KEY, "currency": "EUR",
        "custom": {
            "/website": { "field": "a1", "type": "text" },
            "/annual_revenue": { "field": "a2", "type": "decimal", "field_type": "monetary" },
            "/employees": { "field": "a3", "type": "integer" },
            "/opted_out": { "field": "a4", "type": "boolean" },
            "/custom/renewal": { "field": "a5", "type": "date" },
            "/custom/note": { "field": "a6", "type": "text", "field_type": "address" },
            "/custom/score": { "field": "a7", "type": "decimal", "direction": "to-canonical" },
            "/custom/source": { "field": "a8", "type": "text", "direction": "to-provider" },
            "/custom/tier": { "field": "a9", "type": "enumeration", "options": { "gold": "11", "silver": "12" } },
        },
    });
    for (seed, settings) in [
        json!({}),
        json!({ "contact_sync": true }),
        everything,
        json!({ "names": "whole", "ignore": ["/email"] }),
    ]
    .iter()
    .enumerate()
    {
        hold(&pipedrive(settings), &[], records(), seed as u64);
    }
}

#[test]
fn the_golden_examples_hold_in_the_directions_that_they_declare() {
    let examples = Pipedrive::describe().examples;
    assert!(examples.len() >= 10);
    for example in examples {
        let provider = Pipedrive::configure(&example.settings, &example.facts).unwrap();
        let put = |canonical: &Value| -> Value {
            let out = provider.to_provider("contact", canonical.to_string().as_bytes(), None).unwrap();
            serde_json::from_slice(&out).unwrap()
        };
        let get = |document: &Value| -> Value {
            let out = provider.to_canonical("contact", document.to_string().as_bytes()).unwrap();
            serde_json::from_slice(&out).unwrap()
        };
        if example.direction != Direction::ToCanonical {
            assert_eq!(put(&example.canonical), example.document, "{}", example.name);
        }
        if example.direction != Direction::ToProvider {
            assert_eq!(get(&example.document), example.canonical, "{}", example.name);
        }
        let mut current = example.document.clone();
        current["id"] = json!(1);
        let record = Record { canonical: example.canonical.clone(), current };
        hold(&provider, &[record], 0, 1);
    }
}

#[test]
fn a_number_is_read_as_it_was_written_unless_it_was_cleared_and_there_is_another() {
    // What `lossy` takes out of the host's laws for the two telephone numbers.
    let provider = plain();
    let lists = [
        json!([]),
        json!([{ "value": "1", "primary": true, "label": "work" }]),
        json!([{ "value": "1", "primary": true, "label": "mobile" }, { "value": "2", "primary": false, "label": "home" }]),
        json!([{ "value": "1", "label": "work" }, { "value": "2", "primary": true, "label": "work" }, { "value": "3", "label": "MOBILE" }]),
        json!([{ "value": "", "primary": true }, { "value": "2" }]),
    ];
    for list in &lists {
        let current = person(1, &json!({ "phones": list }));
        for (phone, mobile) in [("7", "8"), ("2", "3"), ("1", "1"), ("3", "2")] {
            let canonical = json!({ "given_name": "Ann", "phone": phone, "mobile_phone": mobile });
            let bytes = provider
                .to_provider(
                    "contact",
                    canonical.to_string().as_bytes(),
                    Some(current.to_string().as_bytes()),
                )
                .unwrap();
            let read: Value =
                serde_json::from_slice(&provider.to_canonical("contact", &bytes).unwrap()).unwrap();
            assert_eq!((&read["phone"], &read["mobile_phone"]), (&json!(phone), &json!(mobile)), "{list}");
            let again = provider
                .to_provider("contact", canonical.to_string().as_bytes(), Some(bytes.as_slice()))
                .unwrap();
            assert_eq!(again, bytes, "{list}");
        }
    }
}
