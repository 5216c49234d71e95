#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Map, Value, json};

use super::*;

const FIELDS: [&str; 5] = ["email", "given_name", "family_name", "annual_revenue", "tags"];

type Break = fn(&mut Map<String, Value>, u64);

/// A mapping that copies members, and spoils what it is told to spoil.
struct Copying {
    /// Spoils what is written.
    writing: Break,
    /// Spoils what is read.
    reading: Break,
    drops_unmapped: bool,
    calls: u64,
}

impl Copying {
    fn sound() -> Self {
        Self { writing: |_, _| {}, reading: |_, _| {}, drops_unmapped: false, calls: 0 }
    }
}

impl Mapping for Copying {
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        self.calls += 1;
        let mut document = match current {
            Some(Value::Object(members)) if !self.drops_unmapped => members.clone(),
            _ => Map::new(),
        };
        for field in FIELDS {
            match canonical.get(field).filter(|value| !value.is_null()) {
                Some(value) => document.insert(field.to_owned(), value.clone()),
                None => document.remove(field),
            };
        }
        (self.writing)(&mut document, self.calls);
        Ok(Value::Object(document).to_string().into_bytes())
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        self.calls += 1;
        let mut canonical = Map::new();
        for field in FIELDS {
            if let Some(value) = document.get(field) {
                canonical.insert(field.to_owned(), value.clone());
            }
        }
        (self.reading)(&mut canonical, self.calls);
        Ok(Value::Object(canonical).to_string().into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        self.calls = 0;
        Ok(())
    }
}

fn checked(mapping: &mut Copying) -> Result<Looked, Lawless> {
    let fields = FIELDS.iter().map(|field| {
        let pointer = format!("/{field}");
        let described = FieldDescriptor { provider: vec![pointer.clone()], ..FieldDescriptor::default() };
        (pointer, described)
    });
    let schema = json!({
        "type": "object",
        "properties": {
            "email": { "type": "string", "format": "email", "maxLength": 254 },
            "given_name": { "type": ["string", "null"], "maxLength": 40 },
            "annual_revenue": { "type": "string", "format": "decimal" },
            "tags": { "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 20 } }
        }
    });
    let described = ObjectDescriptor {
        name: "people".to_owned(),
        schema: schema.clone(),
        write_schema: None,
        fields: fields.collect(),
        abilities: crate::descriptor::Abilities::default(),
    };
    let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
    let read = Schema::compile("people", &schema).unwrap();
    let terms = Terms { object: "contact", described: &described, canonical: &canonical, read: &read };
    check(mapping, &terms, &[], 17, 300)
}

fn broken(mapping: &mut Copying) -> Broken {
    match checked(mapping) {
        Err(Lawless::Broken(broken)) => *broken,
        other => panic!("a law is broken: {other:?}"),
    }
}

#[test]
fn a_sound_mapping_keeps_the_laws_on_records_of_every_kind() {
    let looked = checked(&mut Copying::sound()).unwrap();
    assert_eq!(looked.records, 300);
    assert_eq!(looked.refused, 0);
}

#[test]
fn a_dropped_field_is_named_with_the_smallest_record() {
    let mut mapping = Copying {
        writing: |document, _| {
            document.remove("family_name");
        },
        ..Copying::sound()
    };
    let broken = broken(&mut mapping);
    assert_eq!((broken.law, broken.field.as_str()), (Law::Written, "/family_name"));
    assert_eq!(broken.example, Record { canonical: json!({ "family_name": "a" }), current: json!({}) });
    assert_eq!((broken.expected, broken.found), (Some(json!("a")), None));
}

#[test]
fn a_rounded_amount_is_found() {
    let mut mapping = Copying {
        writing: |document, _| {
            if let Some(amount) = document.get("annual_revenue").and_then(Value::as_str) {
                let whole = amount.split('.').next().unwrap_or_default().to_owned();
                document.insert("annual_revenue".to_owned(), Value::String(whole));
            }
        },
        ..Copying::sound()
    };
    let broken = broken(&mut mapping);
    assert_eq!((broken.law, broken.field.as_str()), (Law::Written, "/annual_revenue"));
    assert_eq!(broken.example.current, json!({}));
    assert_eq!(broken.example.canonical.as_object().unwrap().len(), 1);
}

#[test]
fn swapped_names_are_found() {
    let mut mapping = Copying {
        reading: |canonical, _| {
            let (given, family) = (canonical.remove("given_name"), canonical.remove("family_name"));
            for (name, value) in [("given_name", family), ("family_name", given)] {
                canonical.extend(value.map(|value| (name.to_owned(), value)));
            }
        },
        ..Copying::sound()
    };
    let broken = broken(&mut mapping);
    assert_eq!(broken.law, Law::Written);
    assert!(["/given_name", "/family_name"].contains(&broken.field.as_str()), "{broken}");
    assert_eq!(broken.example.canonical.as_object().unwrap().len(), 1, "{broken}");
}

#[test]
fn a_set_that_loses_a_member_is_found() {
    let mut mapping = Copying {
        reading: |canonical, _| {
            if let Some(Value::Array(tags)) = canonical.get_mut("tags")
                && tags.len() > 1
            {
                tags.pop();
            }
        },
        ..Copying::sound()
    };
    let broken = broken(&mut mapping);
    assert_eq!((broken.law, broken.field.as_str()), (Law::Written, "/tags"));
    assert_eq!(
        broken.example.canonical["tags"].as_array().unwrap().len(),
        2,
        "two are needed to lose one: {broken}"
    );
}

#[test]
fn members_that_are_not_mapped_have_to_stay() {
    let broken = broken(&mut Copying { drops_unmapped: true, ..Copying::sound() });
    assert_eq!((broken.law, broken.field.as_str()), (Law::Unmapped, "/nobody mapped this"));
    assert_eq!(broken.example.canonical, json!({}));
    assert_eq!(broken.found, None);
}

#[test]
fn a_mapping_that_counts_its_calls_is_found() {
    let mut mapping = Copying {
        reading: |canonical, calls| {
            canonical.insert("given_name".to_owned(), json!(calls.to_string()));
        },
        ..Copying::sound()
    };
    assert_eq!(broken(&mut mapping).law, Law::Bytes);
}

#[test]
fn the_order_of_calls_may_not_show_even_when_the_same_call_twice_agrees() {
    // Calls come in pairs: this one changes its answer only after some hundred.
    let mut mapping = Copying {
        reading: |canonical, calls| {
            if calls > 120 {
                canonical.insert("given_name".to_owned(), json!("later"));
            }
        },
        writing: |document, calls| {
            if calls > 120 {
                document.insert("given_name".to_owned(), json!("later"));
            }
        },
        ..Copying::sound()
    };
    let broken = broken(&mut mapping);
    assert!(matches!(broken.law, Law::Bytes | Law::Written | Law::Read), "{broken}");
}

#[test]
fn a_mapping_that_never_settles_is_found() {
    // Each write adds something that reading takes off again: what is read is the same, what is written never is.
    let mut mapping = Copying {
        writing: |document, _| {
            if let Some(Value::String(name)) = document.get_mut("given_name") {
                name.push(' ');
            }
        },
        ..Copying::sound()
    };
    let broken = broken(&mut mapping);
    assert_eq!((broken.law, broken.field.as_str()), (Law::Settles, "/given_name"), "{broken}");
}

#[test]
fn an_answer_that_is_no_document_is_found_and_a_refusal_is_none() {
    struct Refusing(bool);
    impl Mapping for Refusing {
        fn to_provider(&mut self, _: &Value, _: Option<&Value>) -> Result<Vec<u8>, Refusal> {
            Err(Refusal::Record(Vec::new()))
        }
        fn to_canonical(&mut self, _: &Value) -> Result<Vec<u8>, Refusal> {
            if self.0 { Ok(b"{".to_vec()) } else { Err(Refusal::Record(Vec::new())) }
        }
        fn renew(&mut self) -> Result<(), String> {
            Ok(())
        }
    }
    let described = ObjectDescriptor {
        name: "people".to_owned(),
        schema: json!({ "type": "object" }),
        write_schema: None,
        fields: BTreeMap::new(),
        abilities: crate::descriptor::Abilities::default(),
    };
    let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
    let read = Schema::compile("people", &described.schema).unwrap();
    let terms = Terms { object: "contact", described: &described, canonical: &canonical, read: &read };
    let looked = check(&mut Refusing(false), &terms, &[], 1, 5).unwrap();
    assert_eq!((looked.records, looked.refused), (5, 5));
    match check(&mut Refusing(true), &terms, &[], 1, 5) {
        Err(Lawless::Broken(broken)) => assert_eq!(broken.law, Law::Document),
        other => panic!("it is no document: {other:?}"),
    }
}

#[test]
fn the_same_seed_makes_the_same_records() {
    let mut first = Copying { reading: |c, _| drop(c.remove("email")), ..Copying::sound() };
    let mut second = Copying { reading: |c, _| drop(c.remove("email")), ..Copying::sound() };
    assert_eq!(broken(&mut first), broken(&mut second));
}
