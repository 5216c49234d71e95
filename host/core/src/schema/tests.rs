use serde_json::json;

use super::*;

fn contact() -> CanonicalSchema {
    CanonicalSchema::built_in("contact").unwrap().unwrap()
}

fn told(document: &Value) -> Vec<(String, String)> {
    let problems = contact().validate(document).unwrap_err();
    problems.into_iter().map(|problem| (problem.code, problem.pointer.unwrap())).collect()
}

fn one(code: &str, pointer: &str) -> Vec<(String, String)> {
    vec![(code.to_owned(), pointer.to_owned())]
}

#[test]
fn a_full_contact_is_valid() {
    let document = json!({
        "email": "ann@example.com", "given_name": "Änn", "family_name": "O'Neill", "phone": "+49 30 123456",
        "mobile_phone": null, "job_title": "CTO", "company_name": "Example", "website": "example.com",
        "street": "Main Street 1\n2nd floor", "city": "Berlin", "region": null, "postal_code": "10115", "country": "Germany",
        "language": "de-DE", "lifecycle_stage": "lead", "date_of_birth": "1990-02-28", "annual_revenue": "12345678901234567890.25",
        "employees": 12, "notes": "", "tags": ["a", "b"], "opted_out": false,
        "custom": {"tier": "gold", "score": 7, "flag": true, "list": ["x", 1], "none": null},
    });
    assert_eq!(contact().validate(&document), Ok(()));
    assert_eq!(contact().validate(&json!({})), Ok(()));
}

#[test]
fn bad_values_are_named_by_keyword_and_pointer() {
    assert_eq!(told(&json!({"email": "not an address"})), one("format", "/email"));
    assert_eq!(told(&json!({"given_name": 7})), one("type", "/given_name"));
    assert_eq!(told(&json!({"given_name": "x".repeat(1_000)})), one("maxLength", "/given_name"));
    assert_eq!(told(&json!({"date_of_birth": "1990-02-30"})), one("format", "/date_of_birth"));
    assert_eq!(told(&json!({"lifecycle_stage": "friend"})), one("enum", "/lifecycle_stage"));
    assert_eq!(told(&json!({"annual_revenue": "1e3"})), one("format", "/annual_revenue"));
    assert_eq!(told(&json!({"annual_revenue": 12})), one("type", "/annual_revenue"));
    assert_eq!(told(&json!({"employees": -1})), one("minimum", "/employees"));
    assert_eq!(told(&json!({"tags": ["a", 1]})), one("type", "/tags/1"));
    assert_eq!(told(&json!({"tags": "a"})), one("type", "/tags"));
    assert_eq!(told(&json!({"opted_out": "yes"})), one("type", "/opted_out"));
    assert_eq!(told(&json!({"surname": "x"})), one("additionalProperties", "/surname"));
    assert_eq!(told(&json!({"website": "has space"})), one("format", "/website"));
    assert_eq!(told(&json!([])), one("type", ""));
    assert!(!told(&json!({"custom": {"deep": {"er": 1}}})).is_empty());
}

#[test]
fn problems_are_bounded_in_one_line_and_without_contents() {
    let mut document = serde_json::Map::new();
    for n in 0..100 {
        document.insert(format!("unknown\n{n}{}", "x".repeat(200)), json!("SECRET"));
    }
    document.insert("email".into(), json!("SECRET"));
    document.insert("lifecycle_stage".into(), json!("SECRET"));
    document.insert("given_name".into(), json!(["SECRET"]));
    let problems = contact().validate(&Value::Object(document)).unwrap_err();
    assert!(problems.len() <= GREATEST_PROBLEMS);
    for problem in problems {
        let line = format!("{} {} {}", problem.code, problem.message, problem.pointer.unwrap());
        assert!(!line.contains("SECRET") && !line.contains('\n') && line.len() < 200, "{line}");
    }
}

#[test]
fn a_missing_member_is_told_at_its_own_place() {
    let schema = Schema::compile("t", &json!({"type": "object", "required": ["a/b"]})).unwrap();
    let problems = schema.validate(&json!({})).unwrap_err();
    assert_eq!((problems[0].code.as_str(), problems[0].pointer.as_deref()), ("required", Some("/a~1b")));
}

#[test]
fn references_out_of_the_document_are_refused() {
    for target in ["https://example.com/other.json", "other.json", "file:///etc/passwd"] {
        let source = json!({"properties": {"a": {"$ref": target}}});
        let error = Schema::compile("t", &source).unwrap_err();
        assert!(
            matches!(&error, SchemaError::RemoteReference { pointer, .. } if pointer == "/properties/a/$ref"),
            "{error}"
        );
    }
    let inner = json!({"$defs": {"x": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/x"}}});
    assert!(Schema::compile("t", &inner).unwrap().validate(&json!({"a": 1})).is_err());
}

#[test]
fn a_schema_that_is_none_is_refused_with_its_place() {
    let error = Schema::compile("t", &json!({"properties": {"a": {"type": "text"}}})).unwrap_err();
    assert!(error.to_string().starts_with("schema t at /properties/a"), "{error}");
    assert!(matches!(Schema::parse("t", "{"), Err(SchemaError::NotJson { .. })));
}

#[test]
fn our_own_formats_are_asserted() {
    let check = |format: &str, text: &str| {
        Schema::compile("t", &json!({"format": format})).unwrap().is_valid(&json!(text))
    };
    for (format, good, bad) in [
        ("decimal", "-12.50", "12,5"),
        ("decimal", "0", "."),
        ("int64", "9223372036854775807", "9223372036854775808"),
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-02-29T12:00:00Z", "2024-02-29 12:00"),
        ("email", "a@example.com", "a@"),
        ("uri", "https://example.com/", "example"),
        ("phone", "+1", "-"),
        ("language", "zh-Hant_TW", "de--DE"),
    ] {
        assert!(check(format, good), "{format} {good}");
        assert!(!check(format, bad), "{format} {bad}");
    }
}

#[test]
fn annotations_fill_the_policy() {
    let policy = contact().policy_base();
    assert_eq!(policy.identity, ["/email"]);
    assert_eq!(policy.sets, ["/tags"]);
    assert_eq!(policy.groups.len(), 5);
    assert!(policy.groups.values().all(|group| group == "address"));
    assert_eq!(policy.normalise.get("/email").map(String::as_str), Some("email"));
    assert_eq!(policy.normalise.get("/phone").map(String::as_str), Some("phone"));
    assert!(policy.mapped.is_empty() && policy.loop_limit > 0);
}

#[test]
fn annotations_that_do_not_fit_are_refused() {
    for declared in [
        json!({"type": "string", "x-normalise": "soundex"}),
        json!({"type": "string", "x-set": true}),
        json!({"type": "array", "x-set": true, "x-group": "g"}),
        json!({"type": "string", "x-identity": "yes"}),
        json!({"type": "string", "x-idenity": true}),
    ] {
        let source = json!({"properties": {"a": declared}});
        assert!(
            matches!(CanonicalSchema::compile("t", &source), Err(SchemaError::Annotation { .. })),
            "{source}"
        );
    }
    let source = json!({"properties": {"company": {"type": ["string", "null"], "x-reference": "company"}}});
    let schema = CanonicalSchema::compile("t", &source).unwrap();
    assert_eq!(schema.references().get("/company").map(String::as_str), Some("company"));
}

#[test]
fn every_field_of_the_contact_is_described() {
    let schema = contact();
    let properties = schema.schema().source()["properties"].as_object().unwrap();
    assert_eq!(properties.len(), 22);
    for (name, property) in properties {
        assert!(property["description"].as_str().is_some_and(|text| text.len() > 10), "{name}");
    }
    assert!(schema.has("/custom/anything") && schema.has("/email") && !schema.has("/nothing"));
}
