use serde_json::{Value, json};
use tandem_provider::{Direction, Provider};

use super::*;

fn put(provider: &Pipedrive, canonical: &Value, current: Option<&Value>) -> Value {
    let current = current.map(|it| it.to_string().into_bytes());
    let out = provider.to_provider("contact", canonical.to_string().as_bytes(), current.as_deref()).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn get(provider: &Pipedrive, document: &Value) -> Value {
    serde_json::from_slice(&provider.to_canonical("contact", document.to_string().as_bytes()).unwrap())
        .unwrap()
}

#[test]
fn an_unrelated_edit_leaves_everything_else_as_pipedrive_has_it() {
    let current = person(
        512,
        &json!({
            "emails": [{ "value": "a@b.c", "primary": false, "label": "home" }, { "value": "Ann@B.c", "primary": true, "label": "work" }],
            "phones": [{ "value": "1", "primary": true, "label": "mobile" }, { "value": "2", "primary": false, "label": "x" }],
            "postal_address": { "value": "Hauptstr. 5, Ulm", "route": "Hauptstr.", "street_number": "5", "locality": "Ulm", "sublocality": "S" },
            "custom_fields": { TIER: { "id": 11, "label": "Gold" }, FEE: { "value": 1.50, "currency": "USD" }, "other": [1] },
        }),
    );
    let provider = rich();
    let mut canonical = get(&provider, &current);
    assert_eq!(
        canonical,
        json!({
            "email": "Ann@B.c", "given_name": "Ann", "family_name": null, "phone": "2", "mobile_phone": "1", "street": "Hauptstr. 5",
            "city": "Ulm", "region": null, "postal_code": null, "country": null, "custom": { "tier": "gold", "fee": "1.5" },
        })
    );
    canonical["given_name"] = json!("Anne");
    let mut expected = current.clone();
    expected["first_name"] = json!("Anne");
    assert_eq!(put(&provider, &canonical, Some(&current)), expected);
}

#[test]
fn a_part_of_the_postal_address_keeps_the_others_and_rewrites_the_whole() {
    let current = person(
        1,
        &json!({ "postal_address": {
            "value": "5 Main St, Ulm", "route": "Main St", "street_number": "5", "locality": "Ulm", "subpremise": "A",
            "formatted_address": "5 Main St, 89073 Ulm, Germany",
        }}),
    );
    let mut canonical = get(&rich(), &current);
    assert_eq!(canonical["street"], "5 Main St");
    canonical["city"] = json!("Bonn");
    assert_eq!(
        put(&rich(), &canonical, Some(&current))["postal_address"],
        json!({ "value": "5 Main St, Bonn", "route": "Main St", "street_number": "5", "locality": "Bonn", "subpremise": "A" })
    );
    canonical["street"] = json!("Am Ring 7");
    let after = put(&rich(), &canonical, Some(&current));
    assert_eq!(after["postal_address"]["route"], "Am Ring 7");
    assert_eq!(get(&rich(), &after)["street"], "Am Ring 7");
    for part in ["street", "city"] {
        canonical[part] = Value::Null;
    }
    assert_eq!(put(&rich(), &canonical, Some(&current))["postal_address"], Value::Null);
}

#[test]
fn an_amount_keeps_its_currency_and_gets_the_accounts_where_it_has_none() {
    let canonical = json!({ "given_name": "A", "custom": { "fee": "007.50" } });
    let dollars = person(1, &json!({ "custom_fields": { FEE: { "value": 1, "currency": "USD" } } }));
    assert_eq!(
        put(&rich(), &canonical, Some(&dollars))["custom_fields"][FEE],
        json!({ "value": 7.5, "currency": "USD" })
    );
    assert_eq!(put(&rich(), &canonical, None)["custom_fields"][FEE]["currency"], "EUR");
    let cleared = put(&rich(), &json!({ "given_name": "A" }), Some(&dollars));
    assert_eq!(cleared["custom_fields"], json!({ FEE: null }));
}

#[test]
fn numbers_that_would_be_rounded_are_refused() {
    let provider = rich();
    let put = |fee: &str| {
        let canonical = json!({ "custom": { "fee": fee } }).to_string();
        provider.to_provider("contact", canonical.as_bytes(), None)
    };
    for fee in ["123456789012345", "-0.123456789012345", "9007199254740992", "1.50000000000000000000", "0"] {
        assert!(put(fee).is_ok(), "{fee}");
    }
    for fee in ["9773123547822.8441", "9007199254740993", "0.1234567890123456"] {
        let problems = put(fee).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), Some("/custom/fee"), "{fee}");
    }
}

#[test]
fn problems_have_places_on_the_side_that_they_are_on() {
    let problems =
        rich().to_provider("contact", br#"{"email":5,"custom":{"tier":"bronze"}}"#, None).unwrap_err();
    let places: Vec<_> = problems.iter().map(|it| it.pointer.as_deref().unwrap()).collect();
    assert_eq!(places, ["/email", "/custom/tier"]);
    for (document, place) in [
        (json!({ "emails": 5 }), "/emails"),
        (json!({ "phones": { "a": 1 } }), "/phones"),
        (json!({ "postal_address": { "locality": 5 } }), "/postal_address"),
        (json!({ "custom_fields": { TIER: 99 } }), "/custom_fields/1111111111111111111111111111111111111111"),
        (json!({ "birthday": "spring" }), "/birthday"),
    ] {
        let problems = rich().to_canonical("contact", document.to_string().as_bytes()).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), Some(place), "{document}");
    }
    assert_eq!(plain().to_canonical("deal", b"{}").unwrap_err()[0].code, "unknown-object");
    assert_eq!(plain().to_canonical("contact", b"[]").unwrap_err()[0].code, "wrong-shape");
    assert_eq!(plain().to_canonical("contact", b"{").unwrap_err()[0].code, "invalid-json");
    assert_eq!(plain().to_provider("contact", b"{}", Some(b"[]")).unwrap_err()[0].code, "wrong-shape");
}

#[test]
fn settings_are_refused_with_their_place() {
    for (settings, place, word) in [
        (json!({ "colour": 1 }), None, "colour"),
        (json!({ "plan": "free" }), None, "free"),
        (json!({ "base_url": "acme.pipedrive.com" }), Some("/base_url"), "address"),
        (json!({ "key_field": "Tandem Key" }), Some("/key_field"), "forty characters"),
        (json!({ "v1_path": "v1" }), Some("/v1_path"), "path"),
        (
            json!({ "custom": { "/custom/a": { "field": "A b", "type": "text" } } }),
            Some("/custom/~1custom~1a"),
            "API key",
        ),
        (
            json!({ "custom": { "/custom/a": { "field": "a", "type": "colour" } } }),
            Some("/custom/~1custom~1a"),
            "colour",
        ),
        (
            json!({ "custom": { "/custom/a": { "field": "a", "type": "text" }, "/custom/b": { "field": "a", "type": "text" } } }),
            Some("/custom/~1custom~1b"),
            "mapped twice",
        ),
        (
            json!({ "key_field": "a", "custom": { "/custom/a": { "field": "a", "type": "text" } } }),
            Some("/key_field"),
            "a field of its own",
        ),
    ] {
        let problems = Pipedrive::configure(&settings, &json!({})).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), place, "{settings}");
        assert!(problems[0].message.contains(word), "{settings}: {}", problems[0].message);
    }
}

fn facts(fields: &Value) -> Value {
    json!({ "objects": { "contact": { "fields": fields } } })
}

fn pointers(provider: &Pipedrive) -> Vec<String> {
    provider.connection().objects["contact"].fields.keys().cloned().collect()
}

#[test]
fn fields_of_the_contact_sync_take_part_where_the_account_has_them() {
    let usual = ["/email", "/family_name", "/given_name", "/mobile_phone", "/phone"];
    assert_eq!(pointers(&plain()), usual);
    let some = facts(&json!({ "name": {}, "job_title": { "type": "varchar" } }));
    let provider = Pipedrive::configure(&json!({}), &some).unwrap();
    assert!(pointers(&provider).contains(&"/job_title".to_owned()) && pointers(&provider).len() == 6);
    let provider = Pipedrive::configure(&json!({ "contact_sync": false }), &some).unwrap();
    assert_eq!(pointers(&provider), usual);
    assert_eq!(pointers(&pipedrive(&json!({ "contact_sync": true }))).len(), 13);
}

#[test]
fn discovered_fields_decide_what_is_mapped_which_way_and_by_which_words() {
    let settings = json!({ "custom": {
        "/custom/tier": { "field": TIER, "type": "enumeration" },
        "/custom/areas": { "field": "areas", "type": "set", "options": { "north": "North" } },
        "/custom/score": { "field": "score", "type": "text" },
        "/custom/none": { "field": "none", "type": "text" },
    }});
    let before = Pipedrive::configure(&settings, &json!({})).unwrap();
    assert!(!pointers(&before).contains(&"/custom/tier".to_owned()), "its words are not known yet");
    let after = Pipedrive::configure(
        &settings,
        &facts(&json!({
            TIER: { "type": "enum", "options": { "3": "Gold", "4": "Silver" } },
            "areas": { "type": "set", "options": { "7": "North" } },
            "score": { "type": "double", "read_only": true },
        })),
    )
    .unwrap();
    let fields = after.connection().objects["contact"].fields.clone();
    assert_eq!(fields["/custom/score"].direction, Direction::ToCanonical);
    assert!(!fields.contains_key("/custom/none"));
    assert!(
        tandem_provider::log::take()
            .iter()
            .any(|(level, line)| level == "warn" && line.contains("no person field none"))
    );
    let document = json!({ "custom_fields": { TIER: 4, "areas": [7], "score": 1.5 } });
    let canonical = get(&after, &document);
    assert_eq!(canonical["custom"], json!({ "tier": "Silver", "areas": ["north"], "score": "1.5" }));
    let out = put(&after, &json!({ "custom": { "tier": "Gold", "areas": ["north"] } }), None);
    assert_eq!(out["custom_fields"], json!({ TIER: 3, "areas": [7] }));
}

#[test]
fn the_key_wants_a_text_field_that_the_account_has() {
    for (fields, word) in [
        (json!({ "name": { "type": "varchar" } }), "discover again"),
        (json!({ KEY: { "type": "enum" } }), "a text field is needed"),
    ] {
        let problems = Pipedrive::configure(&json!({ "key_field": KEY }), &facts(&fields)).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), Some("/key_field"));
        assert!(problems[0].message.contains(word));
    }
    let known = facts(&json!({ KEY: { "type": "varchar" } }));
    assert!(
        Pipedrive::configure(&json!({ "key_field": KEY }), &known).unwrap().connection().objects["contact"]
            .abilities
            .key
    );
}

#[test]
fn mapping_takes_microseconds_not_milliseconds() {
    // No timing is asserted; run with `--nocapture` to see the figures.
    let provider = plain();
    let example = &Pipedrive::describe().examples[0];
    let (canonical, document) =
        (example.canonical.to_string().into_bytes(), example.document.to_string().into_bytes());
    let rounds = 2_000_u32;
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(provider.to_provider("contact", &canonical, Some(&document)).unwrap());
    }
    let put = begun.elapsed() / rounds;
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(provider.to_canonical("contact", &document).unwrap());
    }
    println!("to-provider {put:?}, to-canonical {:?}, {} bytes", begun.elapsed() / rounds, document.len());
}
