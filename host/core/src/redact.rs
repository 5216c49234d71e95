//! Takes the values of a record out of what somebody says about it.
//!
//! A CRM's refusal quotes what it refuses, and a provider may hand that on; but problems are shown, listed and kept where
//! a record's contents have no business. The pointer says which field is meant; whoever may see the value reads it there.
//!
//! Found are whole values of three characters and more, in any ASCII case, as they are or as JSON escapes them, and the
//! beginning of one where the text was cut off. A part of a value that is quoted alone, and a value that the CRM changed
//! before it quoted it, are not found.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::exchange::Problem;

/// What stands in place of a value.
pub const VALUE: &str = "[value]";

/// Shorter values are parts of words.
const LEAST: usize = 3;

/// Takes the document's values out of the problems' messages. A document that is no JSON has none.
pub fn redact(problems: &mut [Problem], document: &[u8]) {
    if problems.is_empty() {
        return;
    }
    let Ok(document) = serde_json::from_slice::<Value>(document) else { return };
    let mut values = BTreeSet::new();
    collect(&document, &mut values);
    let mut values: Vec<String> = values.into_iter().collect();
    // The longest first: what stands inside of another value must not break it.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for problem in problems {
        problem.message = without(&problem.message, &values);
    }
}

/// As [`redact`], for one problem.
pub fn redact_one(problem: &mut Problem, document: &[u8]) {
    redact(std::slice::from_mut(problem), document);
}

fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => keep(&number.to_string(), into),
        Value::String(text) => {
            keep(text, into);
            let escaped = Value::from(text.as_str()).to_string();
            keep(escaped.trim_matches('"'), into);
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(members) => members.values().for_each(|member| collect(member, into)),
    }
}

fn keep(text: &str, into: &mut BTreeSet<String>) {
    // As messages are: in one line.
    let line: String = text.trim().chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    if line.chars().count() >= LEAST {
        into.insert(line);
    }
}

fn without(message: &str, values: &[String]) -> String {
    let mut rest = message;
    let mut kept = String::with_capacity(message.len());
    while let Some(first) = rest.chars().next() {
        let found = values.iter().find_map(|value| length_at(rest, value));
        let (text, length) = match found {
            Some(length) => (VALUE, length),
            None => (rest.get(..first.len_utf8()).unwrap_or_default(), first.len_utf8()),
        };
        kept.push_str(text);
        rest = rest.get(length..).unwrap_or_default();
    }
    kept
}

/// How much of the text's beginning is this value, or all of the text if it is the beginning of the value.
fn length_at(text: &str, value: &str) -> Option<usize> {
    let length = value.len().min(text.len());
    let (begins, same) = (text.get(..length)?, value.get(..length)?);
    (begins.eq_ignore_ascii_case(same) && same.chars().count() >= LEAST).then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(message: &str, document: &Value) -> String {
        let mut problem =
            Problem { code: "invalid-email".into(), message: message.into(), pointer: Some("/email".into()) };
        redact_one(&mut problem, document.to_string().as_bytes());
        assert_eq!((problem.code.as_str(), problem.pointer.as_deref()), ("invalid-email", Some("/email")));
        problem.message
    }

    #[test]
    fn values_are_taken_out_and_the_words_stay() {
        let document =
            json!({"properties": {"email": "Ann@Example.com", "size": 12_345, "tags": ["vip"], "ok": true}});
        for (message, expected) in [
            ("Email address ann@example.com is invalid", "Email address [value] is invalid"),
            ("ANN@EXAMPLE.COM, 12345 and VIP", "[value], [value] and [value]"),
            ("Email address is invalid: true", "Email address is invalid: true"),
            ("", ""),
        ] {
            assert_eq!(said(message, &document), expected);
        }
    }

    #[test]
    fn escaped_cut_and_nested_values_are_taken_out() {
        let document = json!({"name": "Zoë \"Z\" Müller\nBerlin", "short": "Zoë", "tiny": "ab"});
        assert_eq!(
            said(r#"got {"name":"Zoë \"Z\" Müller\nBerlin"}"#, &document),
            r#"got {"name":"[value]"}"#
        );
        assert_eq!(said("got Zoë \"Z\" Müller Berlin", &document), "got [value]");
        assert_eq!(said("got Zoë \"Z\" Mü", &document), "got [value]");
        assert_eq!(said("ab Zo", &document), "ab Zo");
    }

    #[test]
    fn a_document_that_is_no_json_leaves_the_words_alone() {
        let mut problems = [Problem { message: "torn".into(), ..Problem::default() }];
        redact(&mut problems, b"{\"a\": \"torn");
        assert_eq!(problems[0].message, "torn");
    }

    proptest! {
        #[test]
        fn no_value_is_left(value in "[a-zäöß\"\\\\ ]{3,12}", before in "[0-9 ]{0,8}", after in "[0-9 ]{0,8}") {
            prop_assume!(value.trim().chars().count() >= LEAST);
            let message = said(&format!("{before}{value}{after}"), &json!({ "field": value }));
            prop_assert!(!message.contains(value.trim()), "{message}");
        }
    }
}
