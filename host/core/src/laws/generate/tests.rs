#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::descriptor::{Abilities, FieldDescriptor, ObjectDescriptor};
use crate::schema::{CanonicalSchema, Schema};

/// Values that are made from a schema, one after the other.
fn values(schema: &Value, count: usize) -> Vec<Option<Value>> {
    let mut dice = Dice(7);
    (0..count).map(|_| made(schema, schema, &mut dice, 0)).collect()
}

/// Different values, each of which the schema lets through.
fn valid(schema: &Value, count: usize) -> BTreeSet<String> {
    let compiled = Schema::compile("t", schema).unwrap();
    let each = values(schema, count).into_iter().map(|value| {
        let value = value.unwrap();
        assert!(compiled.is_valid(&value), "{schema}: {value}");
        value.to_string()
    });
    each.collect()
}

fn texts(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn dice_fall_as_splitmix64_has_it() {
    let mut dice = Dice(0);
    let falls: Vec<u64> = (0..4).map(|_| dice.next()).collect();
    assert_eq!(
        falls,
        [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec]
    );
    let faces: BTreeSet<u64> = (0..100).map(|_| dice.below(6)).collect();
    assert_eq!(faces, (0..6).collect());
    assert_eq!(dice.below(0), 0);
}

#[test]
fn values_are_of_their_type_and_reach_all_of_its_range() {
    assert_eq!(valid(&json!({"type": "boolean"}), 50), texts(&["true", "false"]));
    assert_eq!(valid(&json!({"type": "null"}), 5), texts(&["null"]));
    assert_eq!(
        valid(&json!({"type": "integer", "minimum": -1, "maximum": 2}), 100),
        texts(&["-1", "0", "1", "2"])
    );
    assert_eq!(valid(&json!({"enum": ["a", 1, null]}), 50), texts(&["\"a\"", "1", "null"]));
    assert_eq!(valid(&json!({"const": {"a": 1}}), 5), texts(&["{\"a\":1}"]));
    assert_eq!(valid(&json!({"oneOf": [{"const": 1}, {"const": 2}]}), 50), texts(&["1", "2"]));
    assert_eq!(valid(&json!({"$defs": {"x": {"const": 1}}, "$ref": "#/$defs/x"}), 5), texts(&["1"]));
    let kinds = valid(&json!({"type": ["integer", "boolean", "null"], "maximum": 0, "minimum": 0}), 50);
    assert_eq!(kinds, texts(&["0", "true", "false"]), "null is for whoever may leave it out");
}

#[test]
fn integers_without_bounds_are_of_both_signs_and_numbers_have_fractions() {
    let wholes = values(&json!({"type": "integer"}), 50);
    let wholes: Vec<i64> = wholes.iter().map(|value| value.as_ref().unwrap().as_i64().unwrap()).collect();
    assert!(wholes.iter().any(|whole| *whole < 0) && wholes.iter().any(|whole| *whole > 0));
    assert!(wholes.iter().all(|whole| (-1_000_000..=1_000_000).contains(whole)));
    let numbers = values(&json!({"type": "number"}), 50);
    let fractions = numbers.iter().filter(|number| number.as_ref().unwrap().as_i64().is_none()).count();
    assert!((1..50).contains(&fractions), "{fractions}");
    assert!(numbers.iter().all(|number| number.as_ref().unwrap().is_number()));
}

#[test]
fn objects_have_what_is_required_sometimes_the_rest_and_null_only_where_it_may_be() {
    let schema = json!({
        "required": ["must"],
        "properties": {
            "must": {"type": ["string", "null"]},
            "may": {"type": ["integer", "boolean"]},
            "empty": {"type": ["integer", "null"]}
        }
    });
    let compiled = Schema::compile("t", &schema).unwrap();
    let objects: Vec<Value> = values(&schema, 200).into_iter().map(Option::unwrap).collect();
    for object in &objects {
        assert!(object.is_object() && compiled.is_valid(object), "{object}");
        assert!(object["must"].is_string(), "{object}");
    }
    let with = |name: &str| objects.iter().filter(|object| object.get(name).is_some()).count();
    assert!((100..200).contains(&with("may")) && (100..200).contains(&with("empty")));
    let nulls = objects.iter().filter(|object| object.get("empty") == Some(&Value::Null)).count();
    assert!((1..100).contains(&nulls), "{nulls}");
}

#[test]
fn a_schema_that_says_nothing_of_a_type_is_one_of_text() {
    assert!(values(&json!({}), 10).iter().all(|value| value.as_ref().is_some_and(Value::is_string)));
}

#[test]
fn arrays_have_at_least_the_elements_that_they_need() {
    let schema = json!({"type": "array", "minItems": 2, "items": {"const": 1}});
    let lengths: BTreeSet<usize> = valid(&schema, 50).iter().map(|text| text.matches('1').count()).collect();
    assert_eq!(lengths, BTreeSet::from([2, 3, 4, 5]));
    assert_eq!(values(&json!({"type": "array"}), 1), [None], "of what, nobody says");
}

#[test]
fn schemas_that_hold_themselves_end_at_the_deepest_nesting() {
    for endless in
        [json!({"$ref": "#"}), json!({"anyOf": [{"$ref": "#"}]}), json!({"oneOf": [{"$ref": "#"}]})]
    {
        assert_eq!(values(&endless, 1), [None], "{endless}");
    }
    let list = json!({"type": "array", "minItems": 1, "items": {"$ref": "#"}});
    for value in values(&list, 5) {
        let text = value.unwrap().to_string();
        assert!(text.contains("[[[[]") && !text.contains("[[[[["), "{text}");
    }
    let choice = json!({"anyOf": [list]});
    for value in values(&choice, 5) {
        let text = value.unwrap().to_string();
        assert!(text.contains("[[]") && !text.contains("[[["), "a choice is a step of its own: {text}");
    }
    let object = json!({"required": ["n"], "properties": {"n": {"$ref": "#"}}});
    assert_eq!(values(&object, 1), [Some(json!({"n": {"n": {"n": {}}}}))]);
}

#[test]
fn text_is_in_its_format_whether_that_is_a_format_or_a_normaliser() {
    for (format, normaliser) in [
        ("email", "email"),
        ("phone", "phone"),
        ("web-address", "url"),
        ("language", "language"),
        ("date", "date"),
        ("date-time", "datetime"),
        ("decimal", "decimal"),
    ] {
        assert!(valid(&json!({"type": "string", "format": format}), 200).len() > 1, "{format}");
        let compiled = Schema::compile("t", &json!({"format": format})).unwrap();
        for value in values(&json!({"type": "string", "x-normalise": normaliser}), 200) {
            let value = value.unwrap();
            assert!(compiled.is_valid(&value), "{normaliser}: {value}");
        }
    }
    assert!(valid(&json!({"type": "string", "format": "int64"}), 200).len() > 100);
}

#[test]
fn words_are_never_empty_and_never_too_long() {
    let mut dice = Dice(7);
    let all: Vec<String> = (0..300).map(|_| words(&mut dice, 0, 5)).collect();
    assert!(all.iter().all(|text| (1..=5).contains(&text.chars().count())));
    assert!(all.iter().any(|text| text.chars().count() == 5));
    let long = (0..300).map(|_| words(&mut dice, 15, 18).chars().count()).collect::<BTreeSet<usize>>();
    assert_eq!(long, (15..=18).collect(), "of an id that is never short");
    // Six pieces fill 42 characters at the most.
    let filled: BTreeSet<char> =
        (0..200).flat_map(|_| words(&mut dice, 60, 60).chars().skip(42).collect::<Vec<_>>()).collect();
    assert_eq!(filled, ('a'..='z').collect(), "the rest are letters");
    let ten: BTreeSet<String> = (0..200).map(|_| digits(&mut dice, 1)).collect();
    assert_eq!(ten.len(), 10, "{ten:?}");
}

fn complaint(place: &str) -> Problem {
    document::problem("wrong", "wrong", Some(place.to_owned()))
}

#[test]
fn what_is_complained_of_is_taken_out_or_the_nearest_that_is_there() {
    let full = json!({"a": {"b": 1, "c": 2}, "tags": ["x", "y"], "p/q": 3});
    for (place, left) in [
        ("/a/b", json!({"a": {"c": 2}, "tags": ["x", "y"], "p/q": 3})),
        ("/a/b/deeper/still", json!({"a": {"c": 2}, "tags": ["x", "y"], "p/q": 3})),
        ("/a/missing", json!({"tags": ["x", "y"], "p/q": 3})),
        ("/tags/1", json!({"a": {"b": 1, "c": 2}, "tags": ["x"], "p/q": 3})),
        ("/tags/2", json!({"a": {"b": 1, "c": 2}, "p/q": 3})),
        ("/p~1q", json!({"a": {"b": 1, "c": 2}, "tags": ["x", "y"]})),
    ] {
        let mut document = full.clone();
        assert!(take_out(&mut document, &[complaint(place)]), "{place}");
        assert_eq!(document, left, "{place}");
    }
    let mut document = full.clone();
    assert!(take_out(&mut document, &[complaint("/a"), complaint("/nowhere")]));
    assert!(take_out(&mut document, &[complaint("/tags/0"), complaint("/tags/0")]));
    assert_eq!(document, json!({"tags": [], "p/q": 3}));
}

#[test]
fn a_complaint_of_nothing_that_is_there_takes_nothing_out() {
    let full = json!({"a": 1});
    let without = Problem { pointer: None, ..complaint("") };
    for problems in [vec![], vec![complaint("")], vec![complaint("/b")], vec![complaint("b")], vec![without]]
    {
        let mut document = full.clone();
        assert!(!take_out(&mut document, &problems), "{problems:?}");
        assert_eq!(document, full);
    }
}

/// Copies a few members; refuses what it is told to refuse, one after the other.
struct Picky {
    refuses: &'static [&'static str],
}

impl Picky {
    fn look_at(&self, document: &Value) -> Result<(), Refusal> {
        match self.refuses.iter().find(|place| document.pointer(place).is_some()) {
            Some(place) => Err(Refusal::Record(vec![complaint(place)])),
            None => Ok(()),
        }
    }
}

impl Mapping for Picky {
    fn to_provider(&mut self, canonical: &Value, _: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        self.look_at(canonical)?;
        Ok(canonical.to_string().into_bytes())
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        self.look_at(document)?;
        Ok(json!({"custom": {"tier": document["tier"]}}).to_string().into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Records that are made up for a contact with these fields and this schema.
fn records(
    refuses: &'static [&'static str],
    fields: &[(&str, &str, Direction)],
    schema: &Value,
) -> Vec<Record> {
    let fields = fields.iter().map(|(pointer, place, direction)| {
        let provider = vec![(*place).to_owned()];
        let described = FieldDescriptor { provider, direction: *direction, ..FieldDescriptor::default() };
        ((*pointer).to_owned(), described)
    });
    let described = ObjectDescriptor {
        name: "people".to_owned(),
        schema: schema.clone(),
        write_schema: None,
        fields: fields.collect::<BTreeMap<_, _>>(),
        abilities: Abilities::default(),
    };
    let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
    let read = Schema::compile("people", schema).unwrap();
    let terms = Terms { object: "contact", described: &described, canonical: &canonical, read: &read };
    let mut maker = Maker::new(&terms, 7);
    let mut mapping = Picky { refuses };
    (0..60).map(|_| maker.record(&mut mapping).unwrap()).collect()
}

fn times(records: &[Record], there: impl Fn(&Record) -> bool) -> usize {
    records.iter().filter(|record| there(record)).count()
}

#[test]
fn documents_of_the_crm_have_what_its_schema_names_and_what_nobody_mapped() {
    let schema = json!({"required": ["id"], "properties": {"id": {"type": "integer"}}});
    let records = records(&[], &[("/email", "/properties/mail", Direction::Both)], &schema);
    assert_eq!(times(&records, |record| record.current["id"].is_i64()), 60);
    let mapped = times(&records, |record| record.current.pointer("/properties/mail").is_some());
    let stray = times(&records, |record| record.current.get("nobody mapped this").is_some());
    assert!((10..50).contains(&mapped) && (10..50).contains(&stray), "{mapped} {stray}");
}

#[test]
fn what_the_schema_or_the_mapping_refuses_is_taken_out_and_the_rest_stays() {
    let schema = json!({
        "required": ["id"],
        "properties": {"id": {"type": "integer"}, "code": {"type": "string", "pattern": "^never$"}, "bad": {"type": "integer"}}
    });
    let fields = [("/email", "/mail", Direction::Both), ("/given_name", "/first", Direction::Both)];
    let made = records(&["/bad"], &fields, &schema);
    assert_eq!(times(&made, |record| record.current["id"].is_i64()), 60, "the rest stays");
    assert_eq!(times(&made, |record| record.current.get("code").is_some()), 0);
    assert_eq!(times(&made, |record| record.current.get("bad").is_some()), 0);
    let fields = [fields[0], fields[1], ("/city", "/city", Direction::Both)];
    let made = records(&["/given_name", "/city"], &fields, &json!({}));
    assert_eq!(times(&made, |record| record.canonical.get("given_name").is_some()), 0);
    assert_eq!(times(&made, |record| record.canonical.get("city").is_some()), 0);
    assert!(times(&made, |record| record.canonical.get("email").is_some()) > 10);
}

#[test]
fn canonical_documents_have_fields_that_flow_to_the_crm_sometimes_null() {
    let fields = [("/email", "/mail", Direction::Both), ("/city", "/city", Direction::ToCanonical)];
    let records = records(&[], &fields, &json!({}));
    assert_eq!(times(&records, |record| record.canonical.get("city").is_some()), 0);
    let there = times(&records, |record| record.canonical.get("email").is_some());
    let null = times(&records, |record| record.canonical.get("email") == Some(&Value::Null));
    assert!((20..60).contains(&there) && (1..20).contains(&null), "{there} {null}");
}

#[test]
fn a_customers_own_fields_have_values_that_were_read_from_another_document() {
    let schema = json!({"required": ["tier"], "properties": {"tier": {"enum": ["gold", "tin"]}}});
    let records = records(&[], &[("/custom/tier", "/tier", Direction::Both)], &schema);
    let tier = |record: &Record| record.canonical.pointer("/custom/tier").cloned();
    let read = times(&records, |record| tier(record).is_some_and(|tier| tier == "gold" || tier == "tin"));
    assert!(read > 20, "{read}");
}
