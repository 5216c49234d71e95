//! What System A asks of a document, and of the names in front of it.

use serde_json::Value;
use tandem_core::exchange::Problem;

/// Bytes that could not be read as a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Unreadable {
    /// They are not JSON.
    Malformed {
        /// What is wrong, without repeating the bytes.
        message: String,
        /// Where, counted from 1; 0 where it is not known.
        line: usize,
        /// Where in the line, counted from 1.
        column: usize,
    },
    /// They are JSON, but not a document: doubled members, too deep, a number that cannot be kept exactly.
    Refused(Vec<Problem>),
}

/// What System A asks of the documents of one object.
///
/// Pure and quick: it is called on the threads that serve requests.
pub trait Rules: Send + Sync + 'static {
    /// Reads the JSON of a document, or of a merge patch.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not JSON or cannot be kept exactly.
    fn parse(&self, json: &[u8]) -> Result<Value, Unreadable>;

    /// Everything that is wrong with a whole document. Empty: it is valid.
    fn validate(&self, document: &Value) -> Vec<Problem>;

    /// The identity values of a valid document: pointer and normal form. No two live records of a scope and object have the
    /// same. Missing, null and empty values are left out.
    fn identity(&self, document: &Value) -> Vec<(String, String)>;
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
    use super::*;

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
