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
fn every_problem_of_a_document_is_told() {
    let mut problems = told(&json!({"given_name": 7, "employees": -1, "surname": "x"}));
    problems.sort();
    let expected = [("additionalProperties", "/surname"), ("minimum", "/employees"), ("type", "/given_name")];
    assert_eq!(problems, expected.map(|(code, pointer)| (code.to_owned(), pointer.to_owned())));
}

#[test]
fn a_problem_says_in_words_which_rule_is_broken() {
    let says = |schema: Value, document: Value| {
        let schema = Schema::compile("t", &schema).unwrap();
        assert!(!schema.is_valid(&document));
        schema.validate(&document).unwrap_err().remove(0).message
    };
    for (schema, document, words) in [
        (json!({"type": "string"}), json!(1), "not of type string"),
        (json!({"type": ["string", "null"]}), json!(1), "not of type null or string"),
        (json!({"format": "date"}), json!("x"), "not in format date"),
        (json!({"maxLength": 1}), json!("xx"), "longer than 1 characters"),
        (json!({"minLength": 2}), json!("x"), "shorter than 2 characters"),
        (json!({"maxItems": 1}), json!([1, 2]), "more than 1 elements"),
        (json!({"minItems": 1}), json!([]), "fewer than 1 elements"),
        (json!({"maxProperties": 0}), json!({"a": 1}), "more than 0 members"),
        (json!({"maximum": 1}), json!(2), "greater than 1"),
        (json!({"minimum": 1}), json!(0), "less than 1"),
        (json!({"enum": ["a", "b"]}), json!("c"), "none of the 2 allowed values"),
        (json!({"pattern": "^a$"}), json!("b"), "does not match the pattern"),
        (json!({"uniqueItems": true}), json!([1, 1]), "an element stands there twice"),
        (json!({"properties": {"a": false}}), json!({"a": 1}), "not allowed here"),
        (json!({"propertyNames": {"maxLength": 1}}), json!({"aa": 1}), "a member's name is not allowed"),
        (json!({"multipleOf": 2}), json!(3), "breaks the rule multipleOf"),
        (json!({"required": ["a"]}), json!({}), "missing"),
        (
            json!({"properties": {}, "additionalProperties": false}),
            json!({"a": 1}),
            "a member that the schema does not know",
        ),
        (
            json!({"properties": {}, "unevaluatedProperties": false}),
            json!({"a": 1}),
            "a member that the schema does not know",
        ),
    ] {
        assert_eq!(says(schema, document), words);
    }
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
    let chosen = json!({"anyOf": [{"type": "null"}, {"$ref": "https://example.com/other.json"}]});
    let error = Schema::compile("t", &chosen).unwrap_err();
    assert!(error.to_string().starts_with("schema t at /anyOf/1/$ref: "), "{error}");
    let inner = json!({"$defs": {"x": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/x"}}});
    assert!(Schema::compile("t", &inner).unwrap().validate(&json!({"a": 1})).is_err());
}

#[test]
fn a_schema_that_is_none_is_refused_with_its_place() {
    let error = Schema::compile("t", &json!({"properties": {"a": {"type": "text"}}})).unwrap_err();
    assert!(error.to_string().starts_with("schema t at /properties/a"), "{error}");
    assert!(error.to_string().contains("not valid"), "{error}");
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
        ("decimal", "0.5", ".5"),
        ("decimal", "5.0", "5."),
        ("decimal", "1", "1a"),
        ("decimal", "1", ""),
        ("decimal", &"1".repeat(60), &"1".repeat(61)),
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
        json!({"type": "string", "x-group": ""}),
        json!({"type": "string", "x-group": 1}),
    ] {
        let source = json!({"properties": {"a": declared}});
        assert!(
            matches!(CanonicalSchema::compile("t", &source), Err(SchemaError::Annotation { .. })),
            "{source}"
        );
    }
    let set = json!({"properties": {"a": {"type": "array", "x-set": true}}});
    assert_eq!(CanonicalSchema::compile("t", &set).unwrap().policy_base().sets, ["/a"]);
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
