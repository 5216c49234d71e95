#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Map, Value, json};

use super::*;

/// One of them, the nickname, only the CRM has a value of.
const FIELDS: [&str; 6] = ["email", "given_name", "family_name", "annual_revenue", "tags", "nickname"];

type Break = fn(&mut Map<String, Value>, u64);

/// A mapping that copies members, and spoils what it is told to spoil.
struct Copying {
    /// Spoils what is written.
    writing: Break,
    /// Spoils what is read.
    reading: Break,
    drops_unmapped: bool,
    calls: u64,
    /// What it does to an answer's bytes, and what it remembers of documents that it read.
    says: fn(&mut String, &Value, &mut bool),
    remembers: bool,
}

impl Copying {
    fn sound() -> Self {
        Self {
            writing: |_, _| {},
            reading: |_, _| {},
            drops_unmapped: false,
            calls: 0,
            says: |_, _, _| {},
            remembers: false,
        }
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
        let mut said = Value::Object(canonical).to_string();
        (self.says)(&mut said, document, &mut self.remembers);
        Ok(said.into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        self.calls = 0;
        self.remembers = false;
        Ok(())
    }
}

fn checked(mapping: &mut Copying) -> Result<Looked, Lawless> {
    checked_from(mapping, 17)
}

fn checked_from(mapping: &mut Copying, seed: u64) -> Result<Looked, Lawless> {
    described_from(mapping, seed, |_, _| ())
}

/// Checks a mapping whose fields are described otherwise.
fn described_as(
    mapping: &mut Copying,
    otherwise: impl Fn(&str, &mut FieldDescriptor),
) -> Result<Looked, Lawless> {
    described_from(mapping, 17, otherwise)
}

fn described_from(
    mapping: &mut Copying,
    seed: u64,
    otherwise: impl Fn(&str, &mut FieldDescriptor),
) -> Result<Looked, Lawless> {
    held_against(otherwise, |terms| check(mapping, terms, &[], seed, 300))
}

fn held_against<T>(otherwise: impl Fn(&str, &mut FieldDescriptor), then: impl FnOnce(&Terms<'_>) -> T) -> T {
    let fields = FIELDS.iter().map(|field| {
        let pointer = format!("/{field}");
        let mut described = FieldDescriptor { provider: vec![pointer.clone()], ..FieldDescriptor::default() };
        otherwise(field, &mut described);
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
    then(&Terms { object: "contact", described: &described, canonical: &canonical, read: &read })
}

fn broken(mapping: &mut Copying) -> Broken {
    match checked(mapping) {
        Err(Lawless::Broken(broken)) => *broken,
        other => panic!("a law is broken: {other:?}"),
    }
}

/// The whole line of what is broken.
fn line(mut mapping: Copying) -> String {
    broken(&mut mapping).to_string()
}

#[test]
fn a_sound_mapping_keeps_the_laws_on_records_of_every_kind() {
    let looked = checked(&mut Copying::sound()).unwrap();
    assert_eq!(looked.records, 300);
    assert_eq!(looked.refused, 0);
}

#[test]
fn as_many_records_are_made_up_as_are_asked_for_and_the_same_ones_for_the_same_seed() {
    let made =
        |seed| held_against(|_, _| (), |terms| made_up(&mut Copying::sound(), terms, seed, 30)).unwrap();
    assert_eq!(made(17).len(), 30);
    assert_eq!(made(17), made(17));
    assert_ne!(made(17), made(18));
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
    assert_eq!(
        broken,
        Broken {
            law: Law::Written,
            object: "contact".to_owned(),
            field: "/family_name".to_owned(),
            way: Way::ToProvider,
            expected: Some(json!("a")),
            found: None,
            example: Record { canonical: json!({ "family_name": "a" }), current: json!({}) },
            after: None,
        }
    );
    assert_eq!(
        broken.to_string(),
        "object contact, field /family_name, to-provider: what was written is not what is read: \"a\" became nothing; \
         smallest example: canonical {\"family_name\":\"a\"}, document {}"
    );
}

#[test]
fn a_rounded_amount_is_found() {
    let mapping = Copying {
        writing: |document, _| {
            if let Some(amount) = document.get("annual_revenue").and_then(Value::as_str) {
                let whole = amount.split('.').next().unwrap_or_default().to_owned();
                document.insert("annual_revenue".to_owned(), Value::String(whole));
            }
        },
        ..Copying::sound()
    };
    assert_eq!(
        line(mapping),
        "object contact, field /annual_revenue, to-provider: what was written is not what is read: \"0.1\" became \"0\"; \
         smallest example: canonical {\"annual_revenue\":\"0.1\"}, document {}"
    );
}

#[test]
fn swapped_names_are_found() {
    let mapping = Copying {
        reading: |canonical, _| {
            // Both have to be there.
            if let (Some(given), Some(family)) =
                (canonical.get("given_name").cloned(), canonical.get("family_name").cloned())
            {
                canonical.insert("given_name".to_owned(), family);
                canonical.insert("family_name".to_owned(), given);
            }
        },
        ..Copying::sound()
    };
    assert_eq!(
        line(mapping),
        "object contact, field /family_name, to-provider: what was written is not what is read: \"a\" became \"b\"; \
         smallest example: canonical {\"family_name\":\"a\",\"given_name\":\"b\"}, document {}"
    );
}

#[test]
fn a_set_that_loses_a_member_is_found() {
    let mapping = Copying {
        reading: |canonical, _| {
            if let Some(Value::Array(tags)) = canonical.get_mut("tags") {
                tags.truncate(2);
            }
        },
        ..Copying::sound()
    };
    assert_eq!(
        line(mapping),
        "object contact, field /tags, to-provider: what was written is not what is read: [\"a\",\"a\",\"b\"] became [\"a\",\"a\"]; \
         smallest example: canonical {\"tags\":[\"a\",\"a\",\"b\"]}, document {}"
    );
}

#[test]
fn members_that_are_not_mapped_have_to_stay() {
    assert_eq!(
        line(Copying { drops_unmapped: true, ..Copying::sound() }),
        "object contact, field /nobody mapped this, to-provider: a member that is not mapped does not stay: \"a\" became nothing; \
         smallest example: canonical {}, document {\"nobody mapped this\":\"a\"}"
    );
}

#[test]
fn what_is_read_and_cannot_be_written_is_found_on_the_way_to_canonical() {
    // Nothing that System A can have: only the CRM says "unknown".
    let mapping = Copying {
        writing: |document, _| {
            if document.get("nickname").is_some_and(|name| name != "known") {
                document.remove("nickname");
            }
        },
        ..Copying::sound()
    };
    assert_eq!(
        line(mapping),
        "object contact, field /nickname, to-canonical: writing what was read changes it: \"a\" became nothing; \
         smallest example: canonical {}, document {\"nickname\":\"a\"}"
    );
}

#[test]
fn a_mapping_that_never_settles_is_found() {
    // Each write adds something that reading takes off again: what is read is the same, what is written never is.
    let mapping = Copying {
        writing: |document, _| {
            if let Some(Value::String(name)) = document.get_mut("given_name") {
                name.push(' ');
            }
        },
        ..Copying::sound()
    };
    assert_eq!(
        line(mapping),
        "object contact, field /given_name, to-canonical: writing the same once more changes it again: \"a \" became \"a  \"; \
         smallest example: canonical {}, document {\"given_name\":\"a\"}"
    );
}

#[test]
fn a_mapping_that_counts_its_calls_is_found() {
    let mapping = Copying {
        reading: |canonical, calls| {
            if let Some(Value::String(name)) = canonical.get_mut("given_name")
                && calls.is_multiple_of(2)
            {
                name.push('2');
            }
        },
        ..Copying::sound()
    };
    let said = line(mapping);
    assert!(
        said.starts_with(
            "object contact, field /given_name, to-provider: the same input gives other bytes: "
        ) && said.ends_with("smallest example: canonical {\"given_name\":\"a\"}, document {}"),
        "{said}"
    );
}

/// Once it has read a member that nobody mapped, a space follows everything that it says: the same document every time, and
/// the same call twice agrees. Only another order shows it.
fn remembering() -> Copying {
    Copying {
        says: |said, document, remembers| {
            *remembers |= document.get("nobody mapped this").is_some();
            if *remembers {
                said.push(' ');
            }
        },
        ..Copying::sound()
    }
}

#[test]
fn the_order_of_calls_may_not_show_even_when_the_same_call_twice_agrees() {
    let broken = broken(&mut remembering());
    let nothing = Record { canonical: json!({}), current: json!({}) };
    assert_eq!(
        broken,
        Broken {
            law: Law::Bytes,
            object: "contact".to_owned(),
            field: String::new(),
            way: Way::ToProvider,
            expected: Some(json!("{}")),
            found: Some(json!("{} ")),
            example: nothing,
            after: Some(Record { canonical: json!({}), current: json!({ "nobody mapped this": "a" }) }),
        }
    );
    assert!(
        broken.to_string().ends_with(
            "the same input gives other bytes: \"{}\" became \"{} \"; smallest example: canonical {}, document {}, \
             on an instance that has seen canonical {}, document {\"nobody mapped this\":\"a\"}"
        ),
        "{broken}"
    );
}

#[test]
fn the_smallest_record_is_the_same_wherever_it_was_found() {
    let mistakes: [Break; 3] = [
        |document, _| {
            document.remove("family_name");
        },
        |document, _| {
            if let Some(amount) = document.get("annual_revenue").and_then(Value::as_str) {
                let whole = amount.split('.').next().unwrap_or_default().to_owned();
                document.insert("annual_revenue".to_owned(), Value::String(whole));
            }
        },
        |document, _| {
            if let Some(Value::Array(tags)) = document.get_mut("tags") {
                tags.truncate(2);
            }
        },
    ];
    for writing in mistakes {
        let lines: Vec<String> = (0..20)
            .map(|seed| match checked_from(&mut Copying { writing, ..Copying::sound() }, seed) {
                Err(Lawless::Broken(broken)) => broken.to_string(),
                other => panic!("a law is broken: {other:?}"),
            })
            .collect();
        assert!(lines.iter().all(|line| *line == lines[0]), "{lines:#?}");
    }
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
        Err(Lawless::Broken(broken)) => {
            assert_eq!((broken.law, broken.way), (Law::Document, Way::ToCanonical));
            assert_eq!(broken.example, Record { canonical: json!({}), current: json!({}) });
        }
        other => panic!("it is no document: {other:?}"),
    }
}

#[test]
fn the_same_seed_makes_the_same_records() {
    let mut first = Copying { reading: |c, _| drop(c.remove("email")), ..Copying::sound() };
    let mut second = Copying { reading: |c, _| drop(c.remove("email")), ..Copying::sound() };
    assert_eq!(broken(&mut first), broken(&mut second));
}

#[test]
fn a_field_that_is_lossy_or_flows_one_way_is_not_held_to_come_back() {
    let loses =
        || Copying { writing: |document, _| drop(document.remove("family_name")), ..Copying::sound() };
    let unsettled = || Copying {
        writing: |document, _| {
            if let Some(Value::String(name)) = document.get_mut("family_name") {
                name.push(' ');
            }
        },
        ..Copying::sound()
    };
    for mapping in [loses, unsettled] as [fn() -> Copying; 2] {
        assert!(checked(&mut mapping()).is_err());
        let lossy = described_as(&mut mapping(), |field, described| {
            described.lossy = (field == "family_name").then(|| "it is not kept".to_owned());
        });
        assert_eq!(lossy.map(|looked| looked.records), Ok(300));
        let one_way = described_as(&mut mapping(), |field, described| {
            if field == "family_name" {
                described.direction = crate::descriptor::Direction::ToProvider;
            }
        });
        assert_eq!(one_way.map(|looked| looked.records), Ok(300));
    }
}

/// Numbers what it has not seen before, so that its answers depend on what came first.
#[derive(Default)]
struct Numbering {
    seen: Vec<Value>,
    fresh: bool,
}

impl Mapping for Numbering {
    fn to_provider(&mut self, canonical: &Value, _: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        if !self.seen.contains(canonical) {
            self.seen.push(canonical.clone());
        }
        let number = self.seen.iter().position(|seen| seen == canonical);
        Ok(json!({ "email": canonical.get("email"), "number": number }).to_string().into_bytes())
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        Ok(json!({ "email": document.get("email") }).to_string().into_bytes())
    }

    fn renew(&mut self) -> Result<(), String> {
        self.seen.clear();
        self.fresh = true;
        Ok(())
    }
}

fn contact_with_mail() -> (ObjectDescriptor, CanonicalSchema, Schema) {
    let schema =
        json!({ "properties": { "email": { "type": ["string", "null"] } }, "additionalProperties": false });
    let email = FieldDescriptor { provider: vec!["/email".to_owned()], ..FieldDescriptor::default() };
    let described = ObjectDescriptor {
        name: "people".to_owned(),
        schema: schema.clone(),
        write_schema: None,
        fields: BTreeMap::from([("/email".to_owned(), email)]),
        abilities: crate::descriptor::Abilities::default(),
    };
    let canonical = CanonicalSchema::built_in("contact").unwrap().unwrap();
    (described, canonical, Schema::compile("people", &schema).unwrap())
}

#[test]
fn answers_that_depend_on_what_came_before_are_found_on_a_fresh_instance() {
    let (described, canonical, read) = contact_with_mail();
    let terms = Terms { object: "contact", described: &described, canonical: &canonical, read: &read };
    let given: Vec<Record> = ["a@example.com", "b@example.com"]
        .map(|mail| Record { canonical: json!({ "email": mail }), current: json!({ "email": mail }) })
        .to_vec();
    let mut mapping = Numbering::default();
    match check(&mut mapping, &terms, &given, 1, 0) {
        Err(Lawless::Broken(broken)) => {
            assert_eq!((broken.law, broken.field.as_str()), (Law::Bytes, "/number"), "{broken}");
            let nothing = Record { canonical: json!({}), current: json!({}) };
            assert_eq!(broken.example, nothing, "the smallest shows it too");
        }
        other => panic!("they differ: {other:?}"),
    }
    assert!(mapping.fresh);
}

#[test]
fn a_few_records_are_compared_again_and_no_more() {
    let mut mapping = Copying::sound();
    checked(&mut mapping).unwrap();
    // Each is written and read with a current document and without one, and read, written, read and written; each call twice.
    assert_eq!(mapping.calls, 16 * COMPARED_AGAIN as u64);
}

/// What becomes of members that belong to no field, when these are the fields.
fn lost(fields: &[&str], before: &Value, after: &Value) -> Option<String> {
    let (mut described, canonical, read) = contact_with_mail();
    let owned = FieldDescriptor {
        provider: fields.iter().map(|field| (*field).to_owned()).collect(),
        ..FieldDescriptor::default()
    };
    described.fields = BTreeMap::from([("/email".to_owned(), owned)]);
    let terms = Terms { object: "contact", described: &described, canonical: &canonical, read: &read };
    check::lost(&terms, before, after).map(|(place, ..)| place)
}

#[test]
fn a_lost_member_is_named_as_deep_as_it_stands_and_an_object_as_a_whole() {
    let before =
        json!({ "id": 1, "properties": { "mail": "a", "note": "n" }, "meta": { "by": { "x": 1 }, "of": 2 } });
    let fields = ["/properties/mail"];
    let told = |after: Value| lost(&fields, &before, &after);
    assert_eq!(told(before.clone()), None);
    assert_eq!(
        told(
            json!({ "id": 1, "properties": { "mail": "other", "note": "n" }, "meta": before["meta"], "new": 1 })
        ),
        None,
        "a field may change, and there may be more"
    );
    for (after, place) in [
        (json!({ "properties": before["properties"], "meta": before["meta"] }), "/id"),
        (json!({ "id": 2, "properties": before["properties"], "meta": before["meta"] }), "/id"),
        (json!({ "id": 1, "properties": { "mail": "a" }, "meta": before["meta"] }), "/properties/note"),
        (json!({ "id": 1, "meta": before["meta"] }), "/properties/note"),
        (json!({ "id": 1, "properties": before["properties"] }), "/meta"),
        (
            json!({ "id": 1, "properties": before["properties"], "meta": { "by": { "x": 2 }, "of": 2 } }),
            "/meta/by/x",
        ),
        (json!({ "id": 1, "properties": before["properties"], "meta": { "of": 2 } }), "/meta/by"),
    ] {
        assert_eq!(told(after.clone()).as_deref(), Some(place), "{after}");
    }
}

#[test]
fn an_object_that_holds_nothing_but_fields_may_go() {
    let before = json!({ "properties": { "mail": "a" } });
    assert_eq!(lost(&["/properties/mail"], &before, &json!({})), None);
    assert_eq!(lost(&["/properties"], &before, &json!({})), None);
    assert_eq!(lost(&["/properties2/mail"], &before, &json!({})).as_deref(), Some("/properties"));
    assert_eq!(lost(&[], &before, &json!({ "properties": {} })).as_deref(), Some("/properties/mail"));
}

#[test]
fn answers_differ_at_the_first_member_that_is_another() {
    let differing = |left: &str, right: &str| check::differing(Some(left.as_bytes()), Some(right.as_bytes()));
    assert_eq!(differing(r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#), "/b");
    assert_eq!(differing(r#"{"a":1}"#, r#"{"a":1,"p/q":3}"#), "/p~1q");
    assert_eq!(differing("{\"a\":1}", "{ \"a\":1}"), "", "only the bytes differ");
    assert_eq!(differing("{", "}"), "");
}

#[test]
fn a_broken_law_is_told_in_one_line_that_does_not_go_on_for_ever() {
    let long = |letters: usize| Some(json!("x".repeat(letters)));
    let mut broken = Broken {
        law: Law::Written,
        object: "contact".to_owned(),
        field: "/email".to_owned(),
        way: Way::ToProvider,
        expected: Some(json!("a")),
        found: None,
        example: Record { canonical: json!({ "email": "a" }), current: json!({}) },
        after: None,
    };
    assert_eq!(
        Lawless::Broken(Box::new(broken.clone())).to_string(),
        "object contact, field /email, to-provider: what was written is not what is read: \"a\" became nothing; \
         smallest example: canonical {\"email\":\"a\"}, document {}"
    );
    // With its quotation marks a text of 298 letters is 300 long.
    broken.expected = long(298);
    assert!(broken.to_string().contains(&format!("\"{}\" became", "x".repeat(298))));
    broken.expected = long(299);
    assert!(broken.to_string().contains(&format!("\"{}… became", "x".repeat(299))));
    for (law, words) in [
        (Law::Written, "what was written is not what is read"),
        (Law::Read, "writing what was read changes it"),
        (Law::Settles, "writing the same once more changes it again"),
        (Law::Unmapped, "a member that is not mapped does not stay"),
        (Law::Bytes, "the same input gives other bytes"),
        (Law::Document, "the answer is no document"),
    ] {
        assert_eq!(law.to_string(), words);
    }
    for way in [Way::ToProvider, Way::ToCanonical] {
        assert_eq!(json!(way), json!(way.to_string()));
    }
}
