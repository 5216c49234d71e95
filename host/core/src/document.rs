//! Canonical documents: strict JSON, and the flat form that the planner works on.
//!
//! A document is read once, strictly, and then trusted:
//! - at most [`Limits::bytes`] long, [`Limits::depth`] deep and with [`Limits::members`] members and elements in all;
//! - no member twice, no lone surrogate, nothing after the document;
//! - no binary floating point: a number is an integer within ±(2^53 − 1); everything else is sent as a string with a format
//!   (RFC 8259, section 6, on what survives every reader);
//! - text, member names included, in Unicode normalisation form C.
//!
//! What is wrong comes back as [`Problem`]s with a JSON pointer (RFC 6901) and without record contents.
//!
//! [`Fields`] has one entry for each top-level member, and one for each member of `custom`. A missing entry is absent, `null`
//! is null, `""` is empty: three different things here.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use unicode_normalization::{UnicodeNormalization, is_nfc_quick};

use crate::exchange::Problem;
use crate::link::Fields;

/// The member that holds a customer's own fields.
pub const CUSTOM: &str = "custom";

/// The greatest integer that every JSON reader keeps exactly: 2^53 − 1.
pub const GREATEST_INTEGER: i64 = 9_007_199_254_740_991;

/// How many problems one document is told at most.
pub const GREATEST_PROBLEMS: usize = 20;

/// How long a name from outside may be in a pointer that is reported, in characters.
const GREATEST_NAME: usize = 80;

/// What a document may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length in bytes.
    pub bytes: usize,
    /// Arrays and objects within each other.
    pub depth: usize,
    /// Members and elements in all.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 20, depth: 64, members: 20_000 }
    }
}

/// Reads a document within the default limits.
///
/// # Errors
/// What is wrong with it, at most [`GREATEST_PROBLEMS`].
pub fn parse(bytes: &[u8]) -> Result<Value, Vec<Problem>> {
    parse_within(bytes, &Limits::default())
}

/// Reads a document within `limits`.
///
/// # Errors
/// What is wrong with it, at most [`GREATEST_PROBLEMS`]. Numbers are all told; everything else ends the reading.
pub fn parse_within(bytes: &[u8], limits: &Limits) -> Result<Value, Vec<Problem>> {
    read(bytes, limits, false)
}

fn read(bytes: &[u8], limits: &Limits, any_number: bool) -> Result<Value, Vec<Problem>> {
    if bytes.len() > limits.bytes {
        let message = format!("the document has {} bytes; at most {} are allowed", bytes.len(), limits.bytes);
        return Err(vec![problem("too-large", message, Some(String::new()))]);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("the document is not UTF-8 at byte {}", error.valid_up_to());
            return Err(vec![problem("not-utf8", message, None)]);
        }
    };
    let reading = RefCell::new(Reading {
        limits: *limits,
        any_number,
        path: Vec::new(),
        left: limits.members,
        problems: Vec::new(),
        fatal: None,
    });
    let mut json = serde_json::Deserializer::from_str(text);
    let result = Node(&reading).deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    let mut reading = reading.into_inner();
    match result {
        Ok(value) if reading.problems.is_empty() => Ok(value),
        Ok(_) => Err(reading.problems),
        Err(error) => {
            let fatal = reading.fatal.take().unwrap_or_else(|| reading.syntax(&error));
            reading.problems.truncate(GREATEST_PROBLEMS - 1);
            reading.problems.push(fatal);
            Err(reading.problems)
        }
    }
}

/// Reads a document in a CRM's own form: as strict about JSON itself, but numbers may be as the CRM likes; its schema judges
/// them.
///
/// # Errors
/// What is wrong with it, with its place.
pub fn parse_foreign(bytes: &[u8]) -> Result<Value, Vec<Problem>> {
    /// As deep as every reader of JSON goes.
    const DEPTH: usize = 100;
    read(bytes, &Limits { depth: DEPTH, ..Limits::default() }, true)
}

/// What is known while a document is read.
struct Reading {
    limits: Limits,
    /// Numbers may be anything that JSON allows.
    any_number: bool,
    path: Vec<Segment>,
    left: usize,
    problems: Vec<Problem>,
    fatal: Option<Problem>,
}

enum Segment {
    Member(String),
    Element(usize),
}

impl Reading {
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for segment in &self.path {
            pointer.push('/');
            match segment {
                Segment::Member(name) => pointer.push_str(&escape(&shorten(name))),
                Segment::Element(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    fn complain_of_number(&mut self, message: &str) {
        if !self.any_number {
            self.complain("number", message);
        }
    }

    fn complain(&mut self, code: &str, message: &str) {
        if self.problems.len() < GREATEST_PROBLEMS {
            let pointer = self.pointer();
            self.problems.push(problem(code, message, Some(pointer)));
        }
    }

    fn give_up(&mut self, code: &str, message: String) {
        let pointer = self.pointer();
        self.fatal = Some(problem(code, message, Some(pointer)));
    }

    fn enter(&mut self) -> bool {
        if self.path.len() >= self.limits.depth {
            let message = format!("nested deeper than {}; flatten it or send it as text", self.limits.depth);
            // The pointer of a very deep place would be as long as the document.
            self.path.truncate(4);
            self.give_up("too-deep", message);
            return false;
        }
        true
    }

    fn count(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                let limit = self.limits.members;
                self.give_up("too-many-members", format!("more than {limit} members and elements"));
                false
            }
        }
    }

    /// The reader's own words name no contents, only kinds and places.
    fn syntax(&self, error: &serde_json::Error) -> Problem {
        let words = error.to_string();
        let place = format!("line {}, column {}", error.line(), error.column());
        let (code, message) = if words.contains("surrogate") || words.contains("end of hex escape") {
            ("lone-surrogate", format!("text with half a surrogate pair at {place}; send whole characters"))
        } else if words.contains("control character") {
            ("control-character", format!("a raw control character in text at {place}; escape it"))
        } else if words.contains("number out of range") {
            ("number", format!("a number beyond every reader at {place}; send it as a string"))
        } else if words.contains("EOF") {
            ("not-json", format!("the document ends in the middle at {place}"))
        } else if words.contains("trailing characters") {
            ("not-json", format!("something follows the document at {place}"))
        } else {
            ("not-json", format!("the document is not JSON at {place}"))
        };
        problem(code, message, Some(self.pointer()))
    }
}

/// Reads one value at the current path.
struct Node<'a>(&'a RefCell<Reading>);

/// Where the reading stopped; the words are in [`Reading::fatal`].
fn stop<E: serde::de::Error>() -> E {
    E::custom("refused")
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        if number < -GREATEST_INTEGER {
            self.0.borrow_mut().complain_of_number("an integer beyond 2^53; send it as a string");
        }
        Ok(Value::Number(Number::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        if number > GREATEST_INTEGER.unsigned_abs() {
            self.0.borrow_mut().complain_of_number("an integer beyond 2^53; send it as a string");
        }
        Ok(Value::Number(Number::from(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        let mut reading = self.0.borrow_mut();
        reading
            .complain_of_number("a number with a fraction, an exponent or beyond 2^53; send it as a string");
        let number = Number::from_f64(number).filter(|_| reading.any_number);
        Ok(number.map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(composed(text).into_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        if !self.0.borrow_mut().enter() {
            return Err(stop());
        }
        let mut array = Vec::new();
        loop {
            self.0.borrow_mut().path.push(Segment::Element(array.len()));
            let Some(element) = elements.next_element_seed(Node(self.0))? else { break };
            let mut reading = self.0.borrow_mut();
            if !reading.count() {
                return Err(stop());
            }
            reading.path.pop();
            array.push(element);
        }
        self.0.borrow_mut().path.pop();
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        if !self.0.borrow_mut().enter() {
            return Err(stop());
        }
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let name = match composed(&name) {
                Cow::Borrowed(_) => name,
                Cow::Owned(name) => name,
            };
            {
                let mut reading = self.0.borrow_mut();
                reading.path.push(Segment::Member(name.clone()));
                if object.contains_key(&name) {
                    reading.give_up("duplicate-member", "a member stands there twice".to_owned());
                    return Err(A::Error::custom("refused"));
                }
                if !reading.count() {
                    return Err(stop());
                }
            }
            let value = members.next_value_seed(Node(self.0))?;
            self.0.borrow_mut().path.pop();
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Text in Unicode normalisation form C.
#[must_use]
pub fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == unicode_normalization::IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

/// A problem in one line.
#[must_use]
pub fn problem(code: &str, message: impl Into<String>, pointer: Option<String>) -> Problem {
    Problem { code: code.to_owned(), message: message.into(), pointer }
}

/// A name from outside, no longer than what a report can bear.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(GREATEST_NAME) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}

/// A segment of a JSON pointer, escaped (RFC 6901, section 3).
#[must_use]
pub fn escape(segment: &str) -> Cow<'_, str> {
    if segment.contains(['~', '/']) {
        Cow::Owned(segment.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(segment)
    }
}

/// A segment of a JSON pointer as the member's name.
#[must_use]
pub fn unescape(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') {
        Cow::Owned(segment.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(segment)
    }
}

/// The pointer of a top-level member.
#[must_use]
pub fn pointer(member: &str) -> String {
    let escaped = escape(member);
    let mut pointer = String::with_capacity(1 + escaped.len());
    pointer.push('/');
    pointer.push_str(&escaped);
    pointer
}

/// The pointer of one of a customer's own fields.
#[must_use]
pub fn custom_pointer(name: &str) -> String {
    format!("/{CUSTOM}/{}", escape(name))
}

/// A document as fields. What is not an object has none; an empty `custom` leaves no trace.
#[must_use]
pub fn fields(document: &Value) -> Fields {
    into_fields(document.clone())
}

/// [`fields`] of a document that is not needed any more: its values are moved.
#[must_use]
pub fn into_fields(document: Value) -> Fields {
    let mut fields = Fields::new();
    let Value::Object(members) = document else { return fields };
    for (name, value) in members {
        match value {
            Value::Object(custom) if name == CUSTOM => {
                for (name, value) in custom {
                    fields.insert(custom_pointer(&name), value);
                }
            }
            value => {
                fields.insert(pointer(&name), value);
            }
        }
    }
    fields
}

/// Fields as a document, the inverse of [`fields`].
#[must_use]
pub fn value(fields: &Fields) -> Value {
    let mut document = Map::new();
    let mut custom = Map::new();
    for (pointer, value) in fields {
        let name = pointer.strip_prefix('/').unwrap_or(pointer);
        match name.split_once('/') {
            Some((CUSTOM, name)) => {
                custom.insert(unescape(name).into_owned(), value.clone());
            }
            _ => {
                document.insert(unescape(name).into_owned(), value.clone());
            }
        }
    }
    if !custom.is_empty() {
        document.insert(CUSTOM.to_owned(), Value::Object(custom));
    }
    Value::Object(document)
}

/// `under` with the members of `over` laid on it: objects member by member, everything else replaced. A member that is
/// absent in `over` stays; one that is null there becomes null.
pub fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                match under.get_mut(name) {
                    Some(member) => merge(member, value),
                    None => {
                        under.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> (String, Option<String>) {
        let problems = parse(text.as_bytes()).unwrap_err();
        (problems[0].code.clone(), problems[0].pointer.clone())
    }

    #[test]
    fn an_ordinary_document_is_read_as_it_stands() {
        let value =
            parse(br#"{"email":"ann@example.com","n":42,"tags":["a",null],"custom":{"x":true}}"#).unwrap();
        assert_eq!(
            value,
            json!({"email": "ann@example.com", "n": 42, "tags": ["a", null], "custom": {"x": true}})
        );
    }

    #[test]
    fn text_and_names_are_composed() {
        let value = parse("{\"nom\u{0065}\u{0301}\":\"Jose\u{0301}\"}".as_bytes()).unwrap();
        assert_eq!(value, json!({"nomé": "José"}));
    }

    #[test]
    fn text_that_is_composed_is_not_copied() {
        for text in ["", "Jose", "José", "中"] {
            assert!(matches!(composed(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert!(matches!(composed("Jose\u{0301}"), Cow::Owned(text) if text == "José"));
    }

    #[test]
    fn numbers_with_a_fraction_an_exponent_or_beyond_two_to_the_53_are_refused_with_their_place() {
        for (text, place) in [
            (r#"{"a":1.5}"#, "/a"),
            (r#"{"a":{"b":[0,1e3]}}"#, "/a/b/1"),
            (r#"{"a":9007199254740992}"#, "/a"),
            (r#"{"a":-9007199254740992}"#, "/a"),
            (r#"{"a":123456789012345678901234567890}"#, "/a"),
            (r#"{"a":1.0}"#, "/a"),
        ] {
            assert_eq!(refused(text), ("number".into(), Some(place.into())), "{text}");
        }
        assert!(parse(br#"{"a":9007199254740991,"b":-9007199254740991}"#).is_ok());
    }

    #[test]
    fn a_foreign_document_may_have_any_number_and_is_read_as_strictly_otherwise() {
        let text = r#"{"a":1.5,"b":1e3,"c":9007199254740993,"d":-12345678901234567890,"e":"x"}"#;
        let value = parse_foreign(text.as_bytes()).unwrap();
        assert_eq!(
            (&value["a"], &value["b"], &value["c"]),
            (&json!(1.5), &json!(1e3), &json!(9_007_199_254_740_993_u64))
        );
        let refused = |text: &str| {
            let problems = parse_foreign(text.as_bytes()).unwrap_err();
            (problems[0].code.clone(), problems[0].pointer.clone().unwrap_or_default())
        };
        let told = |code: &str, pointer: &str| (code.to_owned(), pointer.to_owned());
        assert_eq!(refused(r#"{"p":{"a":"\ud800"}}"#), told("lone-surrogate", "/p/a"));
        assert_eq!(refused(r#"{"p":{"a":1,"a":2}}"#), told("duplicate-member", "/p/a"));
        assert_eq!(refused(r#"{"p":1e999}"#), told("number", "/p"));
        assert_eq!(refused(r#"{"p":{"a":"#), told("not-json", "/p/a"));
        assert_eq!(
            refused(&format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))),
            told("too-deep", "/0/0/0/0")
        );
        assert!(parse_foreign(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()).is_ok());
    }

    #[test]
    fn every_bad_number_is_told_up_to_the_bound() {
        assert_eq!(parse(br#"{"a":1.5,"b":2,"c":3.5}"#).unwrap_err().len(), 2);
        let many = format!("[{}1.5]", "1.5,".repeat(100));
        assert_eq!(parse(many.as_bytes()).unwrap_err().len(), GREATEST_PROBLEMS);
        let torn = parse(format!("{many}]").as_bytes()).unwrap_err();
        assert_eq!(torn.len(), GREATEST_PROBLEMS);
        assert_eq!(
            torn.last().map(|last| last.code.as_str()),
            Some("not-json"),
            "what ended the reading is told"
        );
    }

    #[test]
    fn a_lone_surrogate_is_refused_with_its_place() {
        for text in [
            r#"{"given_name":"\ud83d"}"#,
            r#"{"given_name":"\ude00"}"#,
            r#"{"given_name":"a\ud83dz"}"#,
            r#"{"given_name":"\ud83d\u0041"}"#,
        ] {
            assert_eq!(refused(text), ("lone-surrogate".into(), Some("/given_name".into())), "{text}");
        }
        assert_eq!(parse(br#"{"a":"\ud83d\ude00"}"#).unwrap(), json!({"a": "😀"}));
    }

    #[test]
    fn a_member_that_stands_there_twice_is_refused_also_when_only_composition_makes_it_so() {
        assert_eq!(refused(r#"{"a":{"b":1,"b":2}}"#), ("duplicate-member".into(), Some("/a/b".into())));
        assert_eq!(refused("{\"é\":1,\"e\u{0301}\":2}").0, "duplicate-member");
    }

    #[test]
    fn depth_is_bounded_before_the_stack_is() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(64).as_bytes()).is_ok());
        assert_eq!(refused(&deep(65)).0, "too-deep");
        assert_eq!(refused(&deep(1_000)).0, "too-deep");
        assert_eq!(refused(&"{\"a\":".repeat(100_000)).0, "too-deep");
    }

    #[test]
    fn size_and_number_of_members_are_bounded() {
        let limits = Limits { bytes: 20, depth: 4, members: 3 };
        assert_eq!(parse_within(br#"{"a":"0123456789abcdef"}"#, &limits).unwrap_err()[0].code, "too-large");
        assert_eq!(parse_within(b"[1,2,3,4]", &limits).unwrap_err()[0].code, "too-many-members");
        assert!(parse_within(b"[1,2,3]", &limits).is_ok());
        assert!(parse_within(br#"{"a":"0123456789ab"}"#, &limits).is_ok(), "just as long as it may be");
        assert!(parse_within(br#"{"a":"0123456789abc"}"#, &limits).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused_without_its_contents() {
        for text in ["", "{", "{\"secret\":tru}", "[1,]", "{} x", "\"a\nb\"", "{\"a\":\"\\x\"}", "nul"] {
            let problems = parse(text.as_bytes()).unwrap_err();
            assert_eq!(problems.len(), 1, "{text}");
            assert!(!problems[0].message.contains("tru}"), "{problems:?}");
            assert!(!problems[0].message.contains('\n'));
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err()[0].code, "not-utf8");
    }

    #[test]
    fn null_absent_and_empty_are_told_apart() {
        let fields = fields(&json!({"a": null, "b": "", "custom": {"c": null}}));
        assert_eq!(fields.get("/a"), Some(&Value::Null));
        assert_eq!(fields.get("/b"), Some(&json!("")));
        assert_eq!(fields.get("/custom/c"), Some(&Value::Null));
        assert_eq!(fields.get("/d"), None);
    }

    #[test]
    fn an_object_is_one_field_unless_it_holds_a_customers_own() {
        let document = json!({"address": {"city": "Ulm"}, "custom": {"tier": {"level": 1}}});
        let flat = fields(&document);
        assert_eq!(flat.keys().collect::<Vec<_>>(), ["/address", "/custom/tier"]);
        assert_eq!(flat.get("/address"), Some(&json!({"city": "Ulm"})));
        assert_eq!(value(&flat), document);
    }

    #[test]
    fn names_with_slash_and_tilde_are_escaped() {
        let document = json!({"a/b": 1, "c~d": 2, "custom": {"x/y~z": 3}});
        let flat = fields(&document);
        assert_eq!(flat.keys().collect::<Vec<_>>(), ["/a~1b", "/custom/x~1y~0z", "/c~0d"]);
        assert_eq!(value(&flat), document);
    }

    #[test]
    fn merge_keeps_what_is_absent_and_sets_what_is_null() {
        let mut under = json!({"id": "1", "properties": {"a": "x", "b": "y"}, "list": [1, 2]});
        merge(&mut under, &json!({"properties": {"b": null, "c": "z"}, "list": [3]}));
        assert_eq!(under, json!({"id": "1", "properties": {"a": "x", "b": null, "c": "z"}, "list": [3]}));
    }

    proptest! {
        #[test]
        fn fields_and_value_are_inverse(
            plain in prop::collection::btree_map("[a-z/~é]{1,6}", "[a-zA-Z0-9 ]{0,8}", 0..6),
            own in prop::collection::btree_map("[a-z/~]{1,6}", 0i64..100, 0..4),
        ) {
            let mut document = Map::new();
            for (name, text) in plain.into_iter().filter(|(name, _)| name != CUSTOM) {
                document.insert(name, Value::String(text));
            }
            if !own.is_empty() {
                let own = own.into_iter().map(|(name, number)| (name, Value::from(number))).collect();
                document.insert(CUSTOM.into(), Value::Object(own));
            }
            let document = Value::Object(document);
            prop_assert_eq!(value(&fields(&document)), document);
        }

        #[test]
        fn no_bytes_at_all_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_was_read_reads_again_as_the_same(text in "\\PC{0,40}") {
            let once = parse(json!({"t": text}).to_string().as_bytes()).unwrap();
            prop_assert_eq!(parse(once.to_string().as_bytes()).unwrap(), once);
        }
    }
}
