#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;

use super::*;

fn rule(name: &str, when: &str, then: Action) -> RuleText {
    RuleText { name: name.to_owned(), object: None, when: when.to_owned(), then }
}

fn judged(
    rules: &Rules,
    before: Option<&Value>,
    after: Option<&Value>,
) -> Result<Option<(String, Action)>, RuleError> {
    let schema = CanonicalSchema::built_in("contact").unwrap().unwrap();
    let case =
        Case { connection: "acme", object: "contact", schema: &schema, origin: "internal", before, after };
    rules.judge(&case).map(|judged| judged.map(|judged| (judged.rule.to_owned(), judged.action)))
}

fn one(when: &str) -> Rules {
    Rules::compile(vec![rule("r", when, Action::Skip)]).unwrap()
}

fn holds(when: &str, before: Option<&Value>, after: Option<&Value>) -> bool {
    judged(&one(when), before, after).unwrap().is_some()
}

#[test]
fn the_first_rule_that_holds_decides() {
    let rules = Rules::compile(vec![
        rule("vip", "record.tags != null && 'vip' in record.tags", Action::Sync),
        rule("staff", "record.email != null && record.email.endsWith('@acme.example')", Action::Skip),
        rule("no address", "record.email == null", Action::Hold),
    ])
    .unwrap();
    let end = |after: Value| judged(&rules, None, Some(&after)).unwrap().map(|(rule, _)| rule);
    assert_eq!(end(json!({ "email": "a@acme.example", "tags": ["vip"] })).as_deref(), Some("vip"));
    assert_eq!(end(json!({ "email": "a@acme.example", "tags": [] })).as_deref(), Some("staff"));
    assert_eq!(end(json!({})).as_deref(), Some("no address"));
    assert_eq!(end(json!({ "email": "b@other.example" })), None);
}

#[test]
fn conditions_see_both_values_the_changed_fields_the_operation_and_the_origin() {
    let (ann, bob) =
        (json!({ "given_name": "Ann", "city": "Ulm" }), json!({ "given_name": "Bob", "city": "Ulm" }));
    assert!(holds("changed == ['/given_name']", Some(&ann), Some(&bob)));
    assert!(holds("before.given_name == 'Ann' && after.given_name == 'Bob'", Some(&ann), Some(&bob)));
    assert!(holds("operation == 'update' && origin == 'internal'", Some(&ann), Some(&bob)));
    assert!(holds("operation == 'create' && before.city == null", None, Some(&bob)));
    assert!(holds("operation == 'delete' && after.city == null && record.city == 'Ulm'", Some(&ann), None));
    assert!(holds("object == 'contact' && connection == 'acme'", None, Some(&bob)));
    assert!(holds(
        "changed.exists(field, field.startsWith('/custom/'))",
        Some(&ann),
        Some(&json!({
            "given_name": "Ann", "city": "Ulm", "custom": { "vip": true }
        }))
    ));
    assert!(holds(
        "has(record.custom.vip) && record.custom.vip",
        None,
        Some(&json!({ "custom": { "vip": true } }))
    ));
    assert!(holds(
        "record.employees != null && record.employees > 10",
        None,
        Some(&json!({ "employees": 11 }))
    ));
    assert!(holds("record.city.matches('^U.m$')", None, Some(&ann)));
}

#[test]
fn a_rule_of_another_object_says_nothing() {
    let rules = Rules::compile(vec![RuleText {
        object: Some("company".to_owned()),
        ..rule("r", "true", Action::Skip)
    }])
    .unwrap();
    assert_eq!(judged(&rules, None, Some(&json!({}))).unwrap(), None);
}

#[test]
fn what_cannot_be_compiled_is_refused_with_its_place_and_reason() {
    let deep = "record.tags.all(a, record.tags.all(b, record.tags.all(c, a == b && b == c)))";
    let texts = vec![
        rule("a", "record.email ==", Action::Skip),
        rule("b", "recrod.email == null", Action::Skip),
        rule("c", deep, Action::Skip),
        rule("c", "true", Action::Skip),
        rule("d", &"a".repeat(LONGEST + 1), Action::Skip),
    ];
    let wrong = Rules::compile(texts).unwrap_err();
    let of = |position: usize| {
        wrong.iter().find(|(at, _)| *at == position).map(|(_, why)| why.as_str()).unwrap_or_default()
    };
    assert!(of(0).starts_with("the condition is no CEL"), "{wrong:?}");
    assert!(of(1).contains("there is no \"recrod\"") && of(1).contains("record, before"), "{wrong:?}");
    assert!(of(2).contains("nested"), "{wrong:?}");
    assert!(of(3).contains("another rule named"), "{wrong:?}");
    assert!(of(4).contains("longer than"), "{wrong:?}");
    assert!(wrong.iter().all(|(_, why)| !why.contains('\n')), "{wrong:?}");
}

#[test]
fn a_condition_that_fails_says_so_without_a_value_of_the_record() {
    for (when, says) in [
        ("record.city > 3", "does not take string"),
        ("record.city", "neither true nor false"),
        ("record.custom.nobody == 1", "no member nobody"),
        ("frobnicate(record.city)", "frobnicate"),
        ("record.employees / 0 == 1", "division by zero"),
    ] {
        let after = json!({ "city": "SECRET", "employees": 7 });
        let error = judged(&one(when), None, Some(&after)).unwrap_err().to_string();
        assert!(error.starts_with("rule r: "), "{when}: {error}");
        assert!(!error.contains("SECRET"), "{when}: {error}");
        assert!(error.contains(says), "{when}: {error}");
    }
}

#[test]
fn a_condition_over_a_thousand_tags_twice_ends() {
    let tags: Vec<String> = (0..1000).map(|tag| format!("t{tag}")).collect();
    let after = json!({ "tags": tags });
    assert!(!holds("record.tags.exists(a, record.tags.exists(b, a == b + 'x'))", None, Some(&after)));
}

#[test]
fn a_condition_may_be_just_as_long_as_is_said() {
    let longest = format!("true{}", " ".repeat(LONGEST - 4));
    assert!(Rules::compile(vec![rule("r", &longest, Action::Skip)]).is_ok());
}

#[test]
fn rules_are_the_same_when_their_texts_and_their_order_are() {
    let of = |names: &[&str]| {
        Rules::compile(names.iter().map(|name| rule(name, "true", Action::Skip)).collect()).unwrap()
    };
    assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
    assert!(of(&[]).is_empty() && !of(&["a"]).is_empty());
    assert!(of(&["a", "b"]).knows("b") && !of(&["a", "b"]).knows("c") && !of(&[]).knows("a"));
    assert_eq!(Rules::default(), of(&[]));
    let shown = format!("{:?}", of(&["vip"]));
    assert!(shown.contains("vip") && shown.contains("true"), "{shown}");
}

#[test]
fn actions_are_written_as_in_a_file() {
    for (action, word) in [(Action::Sync, "sync"), (Action::Skip, "skip"), (Action::Hold, "hold")] {
        assert_eq!(action.to_string(), word);
        assert_eq!(serde_json::to_value(action).unwrap(), json!(word));
    }
}

#[test]
fn what_a_condition_cannot_do_is_said_in_words() {
    let after = json!({ "city": "SECRET", "employees": 7, "tags": ["SECRET"] });
    for (when, says) in [
        ("record.city > 3", "> does not take string and int"),
        (
            "record.region.startsWith('x')",
            "startsWith does not take null_type and string; test for null first",
        ),
        ("size() == 1", "size does not take nothing"),
        ("record.city + 1 == 2", "values of these types cannot be compared or combined; test for null first"),
        ("record.employees ? true : false", "int stands where bool is needed"),
        ("record.city.all(c, true)", "string stands where iterable is needed"),
        ("record.tags[5] == 'a'", "an index is out of bounds"),
        ("record.employees + 9223372036854775807 > 0", "add is out of range"),
        ("record.employees % 0 == 1", "division by zero"),
        ("int(record.city) == 1", "int cannot be done with this value"),
        ("nobody(record.city)", "there is no function or name nobody"),
    ] {
        assert_eq!(judged(&one(when), None, Some(&after)).unwrap_err().why, says, "{when}");
    }
    let short = ExecutionError::InvalidArgumentCount { expected: 2, actual: 1 };
    assert_eq!(told(&short), "1 arguments where 2 are needed");
}
