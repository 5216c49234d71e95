use serde_json::{Value, json};
use tandem_provider::{Provider, laws};

use super::*;

fn put(provider: &HubSpot, canonical: &Value, current: Option<&Value>) -> Value {
    let current = current.map(|it| it.to_string().into_bytes());
    let out = provider.to_provider("contact", canonical.to_string().as_bytes(), current.as_deref()).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn get(provider: &HubSpot, document: &Value) -> Value {
    serde_json::from_slice(&provider.to_canonical("contact", document.to_string().as_bytes()).unwrap())
        .unwrap()
}

fn everything() -> Value {
    json!({
        "key_property": "tandem_key",
        "properties": { "/tags": "labels", "/opted_out": "no_marketing", "/employees": "headcount" },
        "custom": {
            "/custom/tier": { "property": "tier", "type": "enumeration", "options": { "gold": "t1", "silver": "t2" } },
            "/custom/regions": { "property": "regions", "type": "set", "options": { "north": "n", "south": "s" } },
            "/custom/areas": { "property": "areas", "type": "set" },
            "/custom/seats": { "property": "seats", "type": "integer" },
            "/custom/fee": { "property": "fee", "type": "decimal" },
            "/custom/vip": { "property": "vip", "type": "boolean" },
            "/custom/renewal": { "property": "renewal", "type": "date" },
            "/custom/seen": { "property": "seen", "type": "datetime" },
            "/custom/note": { "property": "note", "type": "text" },
            "/custom/score": { "property": "score", "type": "decimal", "direction": "to-canonical" },
            "/custom/source": { "property": "source", "type": "text", "direction": "to-provider" },
        },
    })
}

#[test]
fn the_golden_examples_hold() {
    assert!(laws::check_examples::<HubSpot>().unwrap() >= 8);
}

#[test]
fn the_laws_hold_on_generated_contacts() {
    for (seed, settings) in
        [json!({}), everything(), json!({ "ignore": ["/email", "/notes"] })].iter().enumerate()
    {
        laws::check_generated(hubspot(settings).mapping("contact").unwrap(), seed as u64, 3_000).unwrap();
    }
}

#[test]
fn an_unrelated_edit_leaves_everything_else_as_hubspot_has_it() {
    let current = contact(
        "512",
        &json!({
            "email": "ann@example.com", "lifecyclestage": "4711", "numemployees": "5-25", "date_of_birth": "320630400000",
            "annualrevenue": "1.2E6", "hs_language": "EN-gb", "firstname": "Ann", "hubspot_owner_id": "7",
        }),
    );
    let mut canonical = get(&plain(), &current);
    assert_eq!(
        canonical,
        json!({
            "email": "ann@example.com", "given_name": "Ann", "language": "en-GB", "lifecycle_stage": "other",
            "date_of_birth": "1980-02-29", "annual_revenue": "1200000",
        })
    );
    canonical["given_name"] = json!("Anne");
    let mut expected = current.clone();
    expected["properties"]["firstname"] = json!("Anne");
    assert_eq!(put(&plain(), &canonical, Some(&current)), expected);
}

#[test]
fn problems_have_places_on_the_side_that_they_are_on() {
    let problems =
        plain().to_provider("contact", br#"{"email":5,"annual_revenue":"much"}"#, None).unwrap_err();
    let places: Vec<_> = problems.iter().map(|it| it.pointer.as_deref().unwrap()).collect();
    assert_eq!(places, ["/email", "/annual_revenue"]);
    let problems = plain().to_canonical("contact", br#"{"properties":{"email":5}}"#).unwrap_err();
    assert_eq!(problems[0].pointer.as_deref(), Some("/properties/email"));
    assert_eq!(plain().to_canonical("deal", b"{}").unwrap_err()[0].code, "unknown-object");
}

#[test]
fn settings_are_refused_with_their_place() {
    for (settings, place, word) in [
        (json!({ "colour": 1 }), None, "colour"),
        (json!({ "api_version": "v4" }), None, "v4"),
        (json!({ "base_url": "api.hubapi.com" }), Some("/base_url"), "address"),
        (json!({ "key_property": "Tandem Key" }), Some("/key_property"), "internal name"),
        (json!({ "key_property": "email" }), Some("/key_property"), "mapped to a field"),
        (json!({ "properties": { "/nothing": "x" } }), Some("/properties/~1nothing"), "no field"),
        (json!({ "properties": { "phone": "x" } }), Some("/properties/phone"), "canonical pointers"),
        (
            json!({ "custom": { "/custom/a": { "property": "a" } } }),
            Some("/custom/~1custom~1a"),
            "type is missing",
        ),
    ] {
        let problems = HubSpot::configure(&settings, &json!({})).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), place, "{settings}");
        assert!(problems[0].message.contains(word), "{settings}: {}", problems[0].message);
    }
}

#[test]
fn discovered_properties_decide_what_is_mapped_and_which_way() {
    let settings = json!({
        "key_property": "tandem_key",
        "custom": { "/custom/tier": { "property": "tier", "type": "text" }, "/custom/score": { "property": "score", "type": "text" } },
    });
    let facts = |unique: bool| {
        json!({ "objects": { "contact": { "properties": {
            "email": { "unique": true }, "score": { "read_only": true }, "tandem_key": { "unique": unique },
        }}}})
    };
    let provider = HubSpot::configure(&settings, &facts(true)).unwrap();
    let fields = provider.mapping("contact").unwrap().fields();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["/custom/score", "/email"]);
    assert_eq!(fields["/custom/score"].direction, tandem_provider::Direction::ToCanonical);
    assert!(
        tandem_provider::log::take()
            .iter()
            .any(|(level, line)| level == "warn" && line.contains("no property tier"))
    );
    let problems = HubSpot::configure(&settings, &facts(false)).unwrap_err();
    assert_eq!(problems[0].pointer.as_deref(), Some("/key_property"));
}

#[test]
fn mapping_takes_microseconds_not_milliseconds() {
    // No timing is asserted; run with `--nocapture` to see the figures.
    let provider = plain();
    let example = &HubSpot::describe().examples[0];
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
