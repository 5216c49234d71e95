use tandem_provider::{Direction, laws, log};

use super::*;

fn put(provider: &Salesforce, canonical: &Value, current: Option<&Value>) -> Value {
    let current = current.map(|it| it.to_string().into_bytes());
    let out = provider.to_provider("contact", canonical.to_string().as_bytes(), current.as_deref()).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn get(provider: &Salesforce, document: &Value) -> Value {
    let out = provider.to_canonical("contact", document.to_string().as_bytes()).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn everything() -> Value {
    json!({
        "key_field": "Tandem_Key__c",
        "fields": {
            "/company_name": "Company__c", "/website": "Website__c", "/language": "Language__c", "/tags": "Labels__c",
            "/lifecycle_stage": "Stage__c", "/annual_revenue": "Revenue__c", "/employees": "Staff__c", "/city": "OtherCity",
        },
        "custom": {
            "/custom/tier": { "property": "Tier__c", "type": "enumeration", "options": { "gold": "t1", "silver": "t2" } },
            "/custom/regions": { "property": "Regions__c", "type": "set", "options": { "north": "n", "south": "s" } },
            "/custom/areas": { "property": "Areas__c", "type": "set" },
            "/custom/seats": { "property": "Seats__c", "type": "integer" },
            "/custom/fee": { "property": "Fee__c", "type": "decimal" },
            "/custom/vip": { "property": "Vip__c", "type": "boolean" },
            "/custom/renewal": { "property": "Renewal__c", "type": "date" },
            "/custom/seen": { "property": "Seen__c", "type": "datetime" },
            "/custom/note": { "property": "Note__c", "type": "text" },
            "/custom/score": { "property": "Score__c", "type": "decimal", "direction": "to-canonical" },
            "/custom/source": { "property": "Source__c", "type": "text", "direction": "to-provider" },
        },
    })
}

#[test]
fn the_golden_examples_hold() {
    assert!(laws::check_examples::<Salesforce>().unwrap() >= 10);
}

#[test]
fn the_laws_hold_on_generated_contacts() {
    let records = if std::env::var_os("TANDEM_TORTURE").is_some() { 10_000 } else { 2_000 };
    for (seed, settings) in
        [json!({}), everything(), json!({ "ignore": ["/email", "/notes"] })].iter().enumerate()
    {
        laws::check_generated(salesforce(settings).mapping("contact").unwrap(), seed as u64, records)
            .unwrap();
    }
}

#[test]
fn an_unrelated_edit_leaves_everything_else_as_salesforce_has_it() {
    let provider = salesforce(&everything());
    let current = contact(
        ID,
        &json!({
            "Email": "ann@example.com", "FirstName": "Ann", "Stage__c": "Negotiation", "Revenue__c": 1200000.5, "Staff__c": 250.0,
            "Seen__c": "2026-01-02T03:04:05.000+0000", "OwnerId": USER, "Name": "Ann Lee", "Birthdate": "1980-02-29",
            "MailingAddress": { "city": "Ulm" },
        }),
    );
    let mut canonical = get(&provider, &current);
    assert_eq!(
        canonical,
        json!({
            "email": "ann@example.com", "given_name": "Ann", "family_name": "Lee", "lifecycle_stage": "other",
            "annual_revenue": "1200000.5", "employees": 250, "date_of_birth": "1980-02-29", "opted_out": false,
            "custom": { "seen": "2026-01-02T03:04:05Z" },
        })
    );
    canonical["given_name"] = json!("Anne");
    let mut expected = current.clone();
    expected["FirstName"] = json!("Anne");
    assert_eq!(put(&provider, &canonical, Some(&current)), expected);
}

#[test]
fn problems_have_places_on_the_side_that_they_are_on() {
    let problems = plain().to_provider("contact", br#"{"email":5,"opted_out":"much"}"#, None).unwrap_err();
    let places: Vec<_> = problems.iter().map(|it| it.pointer.as_deref().unwrap()).collect();
    assert_eq!(places, ["/email", "/opted_out"]);
    let problems = plain().to_canonical("contact", br#"{"Email":5}"#).unwrap_err();
    assert_eq!(problems[0].pointer.as_deref(), Some("/Email"));
    assert_eq!(plain().to_canonical("deal", b"{}").unwrap_err()[0].code, "unknown-object");
}

#[test]
fn settings_are_refused_with_their_place() {
    for (settings, place, word) in [
        (json!({ "colour": 1 }), None, "colour"),
        (json!({ "api_version": "v60" }), Some("/api_version"), "46.0"),
        (json!({ "api_version": "45.0" }), Some("/api_version"), "46.0"),
        (json!({ "base_url": "acme.my.salesforce.com" }), Some("/base_url"), "address"),
        (json!({ "key_field": "Tandem Key" }), Some("/key_field"), "API name"),
        (json!({ "key_field": "Email" }), Some("/key_field"), "custom field"),
        (json!({ "client": "a b" }), Some("/client"), "letters"),
        (json!({ "client": "a\r\nx: y" }), Some("/client"), "letters"),
        (
            json!({ "key_field": "K__c", "custom": { "/custom/k": { "property": "K__c", "type": "text" } } }),
            Some("/key_field"),
            "mapped to a field",
        ),
        (json!({ "fields": { "/nothing": "X__c" } }), Some("/fields/~1nothing"), "no field"),
        (json!({ "fields": { "phone": "X__c" } }), Some("/fields/phone"), "canonical pointers"),
        (json!({ "fields": { "/phone": "X' OR" } }), Some("/fields/~1phone"), "API names"),
        (
            json!({ "fields": { "/family_name": "Name" } }),
            Some("/fields/~1family_name"),
            "made of other fields",
        ),
        (
            json!({ "custom": { "/custom/a": { "property": "MailingAddress", "type": "text" } } }),
            Some("/custom/~1custom~1a/property"),
            "made of other fields",
        ),
        (
            json!({ "custom": { "/custom/a": { "property": "A) FROM User--", "type": "text" } } }),
            Some("/custom/~1custom~1a/property"),
            "no API name",
        ),
        (
            json!({ "custom": { "/custom/a": { "property": "Id", "type": "text" } } }),
            Some("/custom/~1custom~1a/property"),
            "own",
        ),
        (
            json!({ "custom": { "/custom/a": { "property": "A__c" } } }),
            Some("/custom/~1custom~1a"),
            "type is missing",
        ),
    ] {
        let problems = Salesforce::configure(&settings, &json!({})).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), place, "{settings}");
        assert!(problems[0].message.contains(word), "{settings}: {}", problems[0].message);
    }
}

#[test]
fn discovered_fields_decide_what_is_mapped_and_which_way() {
    let settings = json!({
        "key_field": "Tandem_Key__c",
        "custom": {
            "/custom/tier": { "property": "Tier__c", "type": "enumeration", "options": { "gold": "Tier 1", "lead": "Tier 9" } },
            "/custom/score": { "property": "Score__c", "type": "text" },
            "/custom/lost": { "property": "Lost__c", "type": "text" },
        },
    });
    let facts = |key: bool, read_only: bool| {
        json!({ "objects": { "contact": { "fields": {
            "Email": {}, "Score__c": { "read_only": true }, "Tandem_Key__c": { "key": key, "read_only": read_only },
            "Tier__c": { "restricted": true, "options": ["Tier 1"] },
        }}}})
    };
    let _ = log::take();
    let provider = Salesforce::configure(&settings, &facts(true, false)).unwrap();
    let fields = provider.mapping("contact").unwrap().fields();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["/custom/score", "/custom/tier", "/email"]);
    assert_eq!(fields["/custom/score"].direction, Direction::ToCanonical);
    let lines = log::take();
    for word in ["no field Lost__c", "Tier 9 is none"] {
        assert!(
            lines.iter().any(|(level, line)| level == "warn" && line.contains(word)),
            "{word}: {lines:?}"
        );
    }
    assert!(!lines.iter().any(|(_, line)| line.contains("Tier 1 ")));
    for (key, read_only) in [(false, false), (true, true)] {
        let problems = Salesforce::configure(&settings, &facts(key, read_only)).unwrap_err();
        assert_eq!(problems[0].pointer.as_deref(), Some("/key_field"));
    }
}

#[test]
fn facts_of_another_version_are_none() {
    for facts in [json!({ "objects": 5 }), json!({ "account": { "id": 7 } }), json!([])] {
        assert!(Salesforce::configure(&json!({}), &facts).is_ok());
    }
}
