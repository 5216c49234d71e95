use serde_json::{Value, json};

use super::*;

fn strings() -> Mapping {
    Mapping::object("contact", "contacts")
        .text_values()
        .always("/id")
        .always("/properties")
        .field("/email", "/properties/email")
        .normalise("email")
        .text()
        .field("/employees", "/properties/numemployees")
        .integer()
        .field("/revenue", "/properties/annualrevenue")
        .decimal()
        .field("/opted_out", "/properties/optout")
        .boolean()
        .field("/born", "/properties/dob")
        .date()
        .field("/seen", "/properties/seen")
        .datetime_millis()
        .field("/stage", "/properties/stage")
        .options(
            Table::new(&[("lead", "lead"), ("lead", "prospect"), ("customer", "customer")])
                .otherwise("other"),
        )
        .field("/tags", "/properties/tags")
        .joined_set(';')
        .field("/custom/tier", "/properties/tier")
        .text()
        .field("/score", "/properties/hs_score")
        .to_canonical_only()
        .integer()
        .field("/source", "/properties/source")
        .to_provider_only()
        .text()
}

fn put(mapping: &Mapping, canonical: &Value, current: Option<&Value>) -> Value {
    let current = current.map(|it| it.to_string().into_bytes());
    let out = mapping.to_provider(canonical.to_string().as_bytes(), current.as_deref()).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn get(mapping: &Mapping, document: &Value) -> Value {
    serde_json::from_slice(&mapping.to_canonical(document.to_string().as_bytes()).unwrap()).unwrap()
}

#[test]
fn every_kind_goes_there_and_back() {
    let canonical = json!({
        "email": "ann@example.com", "employees": 12, "revenue": "1234.50", "opted_out": false, "born": "1980-02-29",
        "seen": "2026-01-02T03:04:05.678Z", "stage": "lead", "tags": ["a", "b"], "custom": { "tier": "gold" },
    });
    let document = put(&strings(), &canonical, None);
    assert_eq!(
        document,
        json!({ "properties": {
            "email": "ann@example.com", "numemployees": "12", "annualrevenue": "1234.50", "optout": "false",
            "dob": "1980-02-29", "seen": "1767323045678", "stage": "lead", "tags": "a;b", "tier": "gold",
        }})
    );
    assert_eq!(get(&strings(), &document), canonical);
}

#[test]
fn unmapped_members_and_the_crms_own_way_of_writing_stay() {
    let current = json!({
        "id": "1", "archived": false, "big": 1.5,
        "properties": { "hs_x": "y", "stage": "prospect", "annualrevenue": "1234.5", "dob": "320630400000", "tags": "b;a;" },
    });
    let canonical = json!({ "stage": "lead", "revenue": "1234.50", "born": "1980-02-29", "tags": ["a", "b"], "email": "x@y.z" });
    let mut expected = current.clone();
    expected["properties"]["email"] = json!("x@y.z");
    assert_eq!(put(&strings(), &canonical, Some(&current)), expected);
}

#[test]
fn numbers_of_unmapped_members_keep_every_digit() {
    let current = br#"{"properties":{},"amount":123456789012345678901234567890.10,"rate":1E2}"#;
    let out = strings().to_provider(br#"{"email":"a@b.c"}"#, Some(current)).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"properties":{"email":"a@b.c"},"amount":123456789012345678901234567890.10,"rate":1E2}"#
    );
}

#[test]
fn what_is_missing_null_or_empty_is_cleared_when_it_was_there() {
    let current = json!({ "properties": { "email": "a@b.c", "tags": "a", "tier": "gold", "dob": null } });
    for canonical in [
        json!({}),
        json!({ "email": null, "tags": [], "custom": {} }),
        json!({ "email": "", "custom": { "tier": "" } }),
    ] {
        assert_eq!(
            put(&strings(), &canonical, Some(&current)),
            json!({ "properties": { "email": null, "tags": null, "tier": null, "dob": null } })
        );
    }
    assert_eq!(put(&strings(), &json!({ "email": null }), None), json!({ "properties": {} }));
    assert_eq!(get(&strings(), &json!({ "properties": { "email": null, "tier": null } })), json!({}));
}

#[test]
fn a_property_that_an_event_shows_as_cleared_reads_as_null() {
    assert_eq!(
        get(&strings(), &json!({ "properties": { "email": "", "tier": "" } })),
        json!({ "email": null, "custom": { "tier": null } })
    );
}

#[test]
fn one_way_fields_go_one_way() {
    let document = put(&strings(), &json!({ "score": 3, "source": "tandem" }), None);
    assert_eq!(document, json!({ "properties": { "source": "tandem" } }));
    assert_eq!(
        get(&strings(), &json!({ "properties": { "source": "x", "hs_score": "7" } })),
        json!({ "score": 7 })
    );
}

#[test]
fn an_option_that_is_not_mapped_reads_as_the_declared_rest_and_stays() {
    let current = json!({ "properties": { "stage": "4711" } });
    assert_eq!(get(&strings(), &current), json!({ "stage": "other" }));
    assert_eq!(put(&strings(), &json!({ "stage": "other" }), Some(&current)), current);
    let problems = strings().to_provider(br#"{"stage":"other"}"#, None).unwrap_err();
    assert_eq!(
        (problems[0].code.as_str(), problems[0].pointer.as_deref()),
        ("invalid-option", Some("/stage"))
    );
}

#[test]
fn problems_name_every_place() {
    let problems = strings()
        .to_provider(
            br#"{"email":1,"employees":1.5,"revenue":"12,5","opted_out":"yes","born":"2021-02-30","seen":"2026-01-01","tags":["a;b"]}"#,
            None,
        )
        .unwrap_err();
    let places: Vec<_> = problems.iter().map(|it| it.pointer.clone().unwrap()).collect();
    assert_eq!(places, ["/email", "/employees", "/revenue", "/opted_out", "/born", "/seen", "/tags"]);
    let problems = strings()
        .to_canonical(br#"{"properties":{"numemployees":"5-25","optout":"1","dob":"x"}}"#)
        .unwrap_err();
    let places: Vec<_> = problems.iter().map(|it| it.pointer.clone().unwrap()).collect();
    assert_eq!(places, ["/properties/numemployees", "/properties/optout", "/properties/dob"]);
    assert!(strings().to_canonical(b"[]").is_err());
    assert!(strings().to_canonical(b"{").is_err());
}

#[test]
fn what_a_lenient_field_cannot_read_is_absent_and_stays() {
    let mapping = Mapping::object("contact", "contacts")
        .text_values()
        .field("/employees", "/properties/n")
        .lenient("the CRM keeps ranges")
        .integer();
    let current = json!({ "properties": { "n": "5-25" } });
    assert_eq!(get(&mapping, &current), json!({}));
    assert_eq!(put(&mapping, &json!({}), Some(&current)), current);
    assert_eq!(
        put(&mapping, &json!({ "employees": 7 }), Some(&current)),
        json!({ "properties": { "n": "7" } })
    );
}

#[test]
fn native_values_and_empty_ones_told_apart() {
    let mapping = Mapping::object("deal", "Opportunity")
        .tells_empty_apart()
        .constant("/RecordType", &json!("x"))
        .field("/amount", "/Amount")
        .decimal()
        .field("/count", "/Count")
        .integer()
        .field("/name", "/Name")
        .text()
        .field("/open", "/IsOpen")
        .boolean();
    let canonical = json!({ "amount": "1234567890.10", "count": 3, "name": "", "open": null });
    let out = mapping.to_provider(canonical.to_string().as_bytes(), None).unwrap();
    assert_eq!(
        String::from_utf8(out.clone()).unwrap(),
        r#"{"Amount":1234567890.1,"Count":3,"Name":"","IsOpen":null,"RecordType":"x"}"#
    );
    assert_eq!(
        String::from_utf8(mapping.to_canonical(&out).unwrap()).unwrap(),
        r#"{"amount":"1234567890.1","count":3,"name":"","open":null}"#
    );
}

#[test]
fn decimals_with_exponents_become_plain_ones() {
    let mapping = Mapping::object("x", "x").field("/a", "/a").decimal();
    for (given, plain) in [
        ("1.5E3", "1500"),
        ("1.50e1", "15"),
        ("12e-3", "0.012"),
        ("-1.25E+1", "-12.5"),
        ("0.00", "0.00"),
        ("1e0", "1"),
        ("100e-2", "1"),
        ("-0.5e-1", "-0.05"),
    ] {
        let out = mapping.to_canonical(format!(r#"{{"a":{given}}}"#).as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!(r#"{{"a":"{plain}"}}"#), "{given}");
    }
}

#[test]
fn settings_add_rename_and_take_out_fields() {
    let settings = json!({
        "/custom/level": { "property": "level", "type": "enumeration", "options": { "high": "h", "low": "l" } },
        "/custom/langs": { "property": "langs", "type": "set" },
        "/custom/since": { "property": "since", "type": "date", "direction": "to-canonical" },
    });
    let mut mapping =
        strings().without("/score").custom(&settings, |name| format!("/properties/{name}")).unwrap();
    assert!(mapping.rename("/email", "/properties/mail"));
    assert!(!mapping.rename("/nothing", "/properties/mail"));
    let canonical = json!({ "email": "a@b.c", "custom": { "level": "high", "langs": ["de", "en"], "since": "2020-01-01" } });
    assert_eq!(
        put(&mapping, &canonical, None),
        json!({ "properties": { "mail": "a@b.c", "level": "h", "langs": "de;en" } })
    );
    let fields = mapping.fields();
    assert_eq!(fields["/custom/since"].direction, Direction::ToCanonical);
    assert_eq!(fields["/email"].provider, ["/properties/mail"]);
    assert!(!fields.contains_key("/score"));
    for (settings, word) in [
        (json!({ "/a": { "property": "a" } }), "type is missing"),
        (json!({ "/a": { "type": "text" } }), "property is missing"),
        (json!({ "/a": { "property": "a", "type": "colour" } }), "colour is unknown"),
        (json!({ "/a": { "property": "a", "type": "text", "options": {} } }), "options belong"),
        (json!({ "/a": { "property": "a", "type": "text", "colour": 1 } }), "colour is unknown"),
        (json!({ "a": { "property": "a", "type": "text" } }), "JSON pointer"),
    ] {
        let problems = strings().custom(&settings, str::to_owned).unwrap_err();
        assert!(problems[0].message.contains(word), "{}", problems[0].message);
    }
}

#[test]
fn the_schema_describes_what_is_mapped() {
    let schema = strings()
        .member("/id", json!({ "type": "string" }))
        .others("/properties", json!({ "type": "string" }))
        .schema();
    assert_eq!(schema["required"], json!(["id", "properties"]));
    assert_eq!(schema["properties"]["properties"]["properties"]["email"]["type"], json!(["string", "null"]));
    assert_eq!(schema["properties"]["properties"]["additionalProperties"], json!({ "type": "string" }));
    assert_eq!(strings().write_schema()["required"], json!(["properties"]));
}

#[test]
fn a_changed_pointer_stands_for_what_is_above_and_below_it() {
    let mapping = strings();
    let names = |pointer: &str| mapping.touched_by(pointer).map(|it| it.name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names("/email"), ["email"]);
    assert_eq!(names("/custom"), ["tier"]);
    assert_eq!(names("/custom/tier/deeper"), ["tier"]);
    assert!(names("/ema").is_empty());
    assert_eq!(mapping.canonical_of("dob"), Some("/born"));
}

#[test]
fn a_decimal_of_the_settings_is_said_to_be_rounded_where_it_is_a_number() {
    let settings = serde_json::json!({ "/custom/fee": { "property": "fee", "type": "decimal" } });
    let lossy = |mapping: Mapping| {
        let mapping = mapping.custom(&settings, |name| format!("/{name}")).unwrap();
        mapping.fields()["/custom/fee"].lossy.clone()
    };
    assert_eq!(lossy(Mapping::object("contact", "people")).as_deref(), Some(ROUNDED));
    assert_eq!(lossy(Mapping::object("contact", "people").text_values()), None);
}
