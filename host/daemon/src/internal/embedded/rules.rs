//! What System A asks of a document, and of the names in front of it.

use serde_json::Value;
use tandem_core::document::{Limits, parse_within};
use tandem_core::exchange::Problem;
use tandem_core::normalise::normal_form;
use tandem_core::schema::CanonicalSchema;

/// What is asked of the documents of one object. Pure and quick: it is called on the threads that serve requests.
pub(super) struct Rules {
    schema: CanonicalSchema,
    /// Identity fields: pointer and normaliser.
    identity: Vec<(String, String)>,
    limits: Limits,
}

impl Rules {
    /// The rules that a canonical schema makes.
    pub(super) fn new(schema: CanonicalSchema, max_document: usize) -> Self {
        let identity = schema
            .fields()
            .iter()
            .filter(|(_, field)| field.identity)
            .map(|(pointer, field)| (pointer.clone(), field.normalise.clone().unwrap_or_default()))
            .collect();
        Self { schema, identity, limits: Limits { bytes: max_document, ..Limits::default() } }
    }

    /// Reads the JSON of a document or of a merge patch.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(&self, json: &[u8]) -> Result<Value, Vec<Problem>> {
        parse_within(json, &self.limits)
    }

    /// Reads JSON in which a document is one member.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse_around(&self, json: &[u8], margin: usize) -> Result<Value, Vec<Problem>> {
        let Limits { bytes, depth, members } = self.limits;
        parse_within(json, &Limits { bytes: bytes + margin, depth: depth + 1, members: members + margin })
    }

    /// Checks a whole document.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn validate(&self, document: &Value) -> Result<(), Vec<Problem>> {
        self.schema.validate(document)
    }

    /// The identity values of a valid document: pointer and normal form. Missing, null and empty ones are left out.
    pub(super) fn identity(&self, document: &Value) -> Vec<(&str, String)> {
        self.identity
            .iter()
            .filter_map(|(pointer, normaliser)| {
                let value = normal_form(normaliser, document.pointer(pointer)?);
                let text = match value {
                    Value::Null => return None,
                    Value::String(text) if text.is_empty() => return None,
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Some((pointer.as_str(), text))
            })
            .collect()
    }
}

/// Longest scope or object name, in bytes.
pub(super) const MAX_NAME: usize = 64;
/// Longest record id, in bytes.
pub(super) const MAX_ID: usize = 128;
/// Longest origin, in bytes.
pub(super) const MAX_ORIGIN: usize = 160;

/// Scopes and objects: letters, digits, `.`, `_`, `-`; a letter or digit first; at most 64.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Record ids: what may stand in a URL's path unescaped, and `:` and `@`; a letter or digit first; at most 128.
pub(super) fn is_id(text: &str) -> bool {
    text.len() <= MAX_ID
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~' | b':' | b'@')
        })
}

/// Origins are shown in the feed: visible ASCII, at most 160.
pub(super) fn is_origin(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ORIGIN && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn identity_values_are_compared_in_their_normal_form_and_emptiness_is_none() {
        let rules = Rules::new(CanonicalSchema::built_in("contact").unwrap().unwrap(), 1 << 16);
        let of = |document: Value| rules.identity(&document);
        assert_eq!(of(json!({"email": " Ada@X.example"})), [("/email", "ada@x.example".to_owned())]);
        for none in [json!({}), json!({"email": null}), json!({"email": " "}), json!({"phone": "1"})] {
            assert_eq!(of(none), []);
        }
    }

    #[test]
    fn names_that_could_leave_their_place_in_a_key_or_a_url_are_refused() {
        for good in ["contact", "acme-1", "a.b_c", "0"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "a\0b", "ä", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_id("0190c6a0-7b1e-7000-8000-000000000001"));
        assert!(is_id("crm:42@x~y"));
        for bad in ["", "..", "a/b", "a?b", "a%b", "a\0", "é", &"x".repeat(129)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }
}
