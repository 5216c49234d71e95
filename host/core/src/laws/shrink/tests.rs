#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::descriptor::{Abilities, FieldDescriptor, ObjectDescriptor};
use crate::laws::Refusal;
use crate::schema::{CanonicalSchema, Schema};

/// What a value is made into, without the simplest texts of each kind, which come first.
fn simpler_still(value: &Value) -> Vec<Value> {
    let simplest = SIMPLEST.map(Value::from);
    simpler(value).into_iter().filter(|one| !simplest.contains(one)).collect()
}

#[test]
fn a_smaller_text_is_one_of_the_simplest_a_half_or_without_its_first() {
    assert_eq!(simpler_still(&json!("long")), [json!("lo"), json!("ng"), json!("ong")]);
    assert_eq!(simpler_still(&json!("odd")), [json!("o"), json!("dd"), json!("dd")]);
    assert_eq!(simpler(&json!("long"))[0], json!("a"), "the simplest comes first");
    assert!(simpler(&json!("a")).is_empty(), "nothing is simpler than the simplest");
    assert!(simpler_still(&json!("x")).is_empty(), "a letter is no half of itself");
}

#[test]
fn numbers_objects_and_arrays_have_one_smallest_form() {
    assert_eq!(simpler(&json!(7)), [json!(0), json!(1)]);
    assert_eq!(simpler(&json!(1)), [json!(0)]);
    assert_eq!(simpler(&json!(true)), [json!(false)]);
    assert_eq!(simpler_still(&json!({"a": 1})), [json!({})]);
    assert_eq!(simpler_still(&json!([1])), [json!([])]);
    for smallest in [json!(0), json!({}), json!([]), json!(false), Value::Null] {
        assert!(simpler(&smallest).is_empty(), "{smallest}");
    }
}

#[test]
fn a_document_loses_one_thing_or_has_one_made_simpler_at_every_depth() {
    assert_eq!(
        smaller(&json!({"p/q": {"n": 7}, "tags": ["a", "a"]})),
        [
            json!({"tags": ["a", "a"]}),
            json!({"p/q": {}, "tags": ["a", "a"]}),
            json!({"p/q": {"n": 7}}),
            json!({"p/q": {"n": 7}, "tags": ["a"]}),
            json!({"p/q": {"n": 7}, "tags": ["a"]}),
            json!({"p/q": {}, "tags": ["a", "a"]}),
            json!({"p/q": {"n": 0}, "tags": ["a", "a"]}),
            json!({"p/q": {"n": 1}, "tags": ["a", "a"]}),
            json!({"p/q": {"n": 7}, "tags": []}),
        ]
    );
}

/// Loses two fields whatever it is given, and counts how often it is asked.
#[derive(Default)]
struct Losing {
    asked: usize,
}

impl Mapping for Losing {
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        self.asked += 1;
        let mut document = current.cloned().unwrap_or_else(|| json!({"id": "x"}));
        if let (Some(document), Some(canonical)) = (document.as_object_mut(), canonical.as_object()) {
            let kept = canonical.iter().filter(|(name, _)| name.as_str() == "given_name");
            document.extend(kept.map(|(name, value)| (name.clone(), value.clone())));
        }
        Ok(document.to_string().into_bytes())
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        self.asked += 1;
        let name = document.get("given_name").cloned().unwrap_or_default();
        Ok(json!({"given_name": name}).to_string().into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Makes this record smaller in so many steps.
fn shrunk(mapping: &mut Losing, record: &Record, steps: usize) -> Broken {
    by_the_terms(|terms| {
        let Err(Lawless::Broken(broken)) = check::one(mapping, terms, record) else {
            panic!("it loses fields");
        };
        mapping.asked = 0;
        match smallest(mapping, terms, *broken, steps) {
            Lawless::Broken(broken) => *broken,
            Lawless::Fault(fault) => panic!("{fault}"),
        }
    })
}

/// The terms of three fields, for a CRM whose records have an id.
fn by_the_terms<T>(look: impl FnOnce(&Terms<'_>) -> T) -> T {
    let fields = ["/city", "/family_name", "/given_name"].map(|field| {
        let described = FieldDescriptor { provider: vec![field.to_owned()], ..FieldDescriptor::default() };
        (field.to_owned(), described)
    });
    let schema = json!({"required": ["id"]});
    let described = ObjectDescriptor {
        name: "people".to_owned(),
        schema: schema.clone(),
        write_schema: None,
        fields: BTreeMap::from(fields),
        abilities: Abilities::default(),
    };
    let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
    let read = Schema::compile("people", &schema).unwrap();
    look(&Terms { object: "contact", described: &described, canonical: &canonical, read: &read })
}

fn record() -> Record {
    Record {
        canonical: json!({"given_name": "Ann", "family_name": "Lee", "city": "Ulm"}),
        current: json!({"id": "e1", "note": "x"}),
    }
}

#[test]
fn the_smallest_record_breaks_the_law_at_the_same_field_and_is_one_that_may_be() {
    let broken = shrunk(&mut Losing::default(), &record(), 600);
    assert_eq!((broken.law, broken.field.as_str()), (Law::Written, "/city"));
    assert_eq!(broken.example.canonical, json!({"city": "a"}));
    assert_eq!(broken.example.current, json!({"id": "a"}), "without an id it is none of the CRM's");
}

#[test]
fn the_boldest_steps_come_first() {
    let all = by_the_terms(|terms| candidates(terms, "", &record()));
    assert_eq!(all[0], Record { canonical: json!({}), ..record() });
    assert_eq!(all[1], Record { current: json!({}), ..record() });
    let nothing = Record { canonical: json!({}), current: json!({}) };
    assert!(by_the_terms(|terms| candidates(terms, "", &nothing)).is_empty());
}

#[test]
fn no_more_steps_are_spent_than_were_given() {
    let mut mapping = Losing::default();
    assert_eq!(shrunk(&mut mapping, &record(), 0).example, record());
    assert_eq!(mapping.asked, 0);
    // A record is four calls until the law breaks, and at most sixteen if it keeps the laws; what neither side may have is none.
    shrunk(&mut mapping, &record(), 1);
    let one = mapping.asked;
    shrunk(&mut mapping, &record(), 4);
    let four = mapping.asked;
    shrunk(&mut mapping, &record(), 600);
    assert!(0 < four && four < mapping.asked, "{one} {four} {}", mapping.asked);
    assert!(one <= 16 && four <= 64, "{one} {four}");
}

/// Makes a record smaller whose law is said to break at a field.
fn shrunk_at(mapping: &mut dyn Mapping, law: Law, field: &str, example: Record) -> Broken {
    let broken = Broken {
        law,
        object: "contact".to_owned(),
        field: field.to_owned(),
        way: crate::laws::Way::ToProvider,
        expected: None,
        found: None,
        example,
        after: None,
    };
    by_the_terms(|terms| match smallest(mapping, terms, broken, 600) {
        Lawless::Broken(broken) => *broken,
        Lawless::Fault(fault) => panic!("{fault}"),
    })
}

#[test]
fn a_record_is_made_smaller_for_the_field_at_which_the_law_broke() {
    // With the other field it would be that one that is told.
    let broken = shrunk_at(&mut Losing::default(), Law::Written, "/family_name", record());
    assert_eq!(broken.field, "/family_name");
    assert_eq!(broken.example.canonical, json!({"family_name": "a"}));
}

/// Reads the family name with an exclamation mark more than is written.
struct Shouting;

const NAMES: [&str; 3] = ["city", "family_name", "given_name"];

impl Mapping for Shouting {
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        let mut document = current.cloned().unwrap_or_else(|| json!({"id": "x"}));
        if let (Some(document), Some(canonical)) = (document.as_object_mut(), canonical.as_object()) {
            document.retain(|name, _| !NAMES.contains(&name.as_str()));
            document.extend(canonical.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        Ok(document.to_string().into_bytes())
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        let mut canonical = json!({});
        for name in NAMES {
            if let Some(Value::String(text)) = document.get(name) {
                let told = if name == "family_name" { format!("{text}!") } else { text.clone() };
                canonical[name] = Value::String(told);
            }
        }
        Ok(canonical.to_string().into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn what_is_told_is_no_law_that_is_asked_later_nor_one_about_something_else() {
    let lee = || json!({"id": "e1", "family_name": "Lee"});
    let both = Record { canonical: json!({"family_name": "Lee"}), current: lee() };
    // Only the CRM has it: what is read is written otherwise. That is no smaller way to say that what was written is not read.
    let broken = shrunk_at(&mut Shouting, Law::Written, "/family_name", both);
    assert_eq!((broken.law, broken.example.canonical), (Law::Written, json!({"family_name": "a"})));
    // Members that are not mapped say nothing of fields.
    let read = Record { canonical: json!({}), current: lee() };
    let broken = shrunk_at(&mut Shouting, Law::Unmapped, "/family_name", read.clone());
    assert_eq!((broken.law, broken.example), (Law::Unmapped, read));
}

#[test]
fn which_of_the_two_simplest_texts_is_which_says_nothing() {
    let of = |canonical: Value, current: Value| {
        exchanged(&Record { canonical, current }).map(|record| (record.canonical, record.current))
    };
    assert_eq!(
        of(json!({"n": "long", "x": ["b", 7, "a"]}), json!({"y": {"z": "a"}, "m": "long"})),
        Some((json!({"n": "long", "x": ["a", 7, "b"]}), json!({"y": {"z": "b"}, "m": "long"})))
    );
    assert_eq!(of(json!({}), json!({"y": {"z": "b"}})), Some((json!({}), json!({"y": {"z": "a"}}))));
    assert_eq!(of(json!({"x": "a"}), json!({"y": "b"})), None, "they are in their order");
    assert_eq!(of(json!({"x": "c"}), json!({"y": 7})), None);
}

/// Answers otherwise once it has seen a city, and counts how often it starts anew.
#[derive(Default)]
struct Impressed {
    has_seen: bool,
    renewed: usize,
}

impl Mapping for Impressed {
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Shouting.to_provider(canonical, current)?;
        self.has_seen |= canonical.get("city").is_some();
        bytes.extend(self.has_seen.then_some(b' '));
        Ok(bytes)
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        let mut canonical = document.clone();
        if let Some(canonical) = canonical.as_object_mut() {
            canonical.retain(|name, _| NAMES.contains(&name.as_str()));
        }
        Ok(canonical.to_string().into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        self.renewed += 1;
        self.has_seen = false;
        Ok(())
    }
}

#[test]
fn no_more_steps_are_spent_on_the_order_than_were_given() {
    let current = || json!({"id": "e1"});
    let seen = Record { canonical: json!({"city": "Ulm"}), current: current() };
    let late = Record { canonical: json!({"given_name": "Annabella"}), current: current() };
    let spent = |steps| {
        let mut mapping = Impressed::default();
        let broken = by_the_terms(|terms| {
            let found = differs(&mut mapping, terms, &late, &seen).unwrap();
            mapping.renewed = 0;
            match order(&mut mapping, terms, found, &[&seen], steps) {
                Lawless::Broken(broken) => *broken,
                Lawless::Fault(fault) => panic!("{fault}"),
            }
        });
        (broken, mapping.renewed)
    };
    let (none, at_first) = spent(0);
    assert_eq!((&none.example, none.after.as_ref()), (&late, Some(&seen)));
    // To look whether a pair shows it takes two fresh instances.
    assert_eq!(at_first, 2);
    assert!(spent(1).1 <= 4 && spent(3).1 <= 8, "{:?} {:?}", spent(1).1, spent(3).1);
    let (smallest, renewed) = spent(600);
    assert!(renewed > 8, "{renewed}");
    assert_eq!(smallest.example.canonical, json!({}));
    assert_eq!(smallest.after.unwrap().canonical, json!({"city": "a"}));
}
