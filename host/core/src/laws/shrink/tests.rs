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
