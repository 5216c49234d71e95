//! The events of a webhook's array as they were written, and the account that each of them names.
//!
//! As strict as reading them into values: nesting within 128, no lone surrogates, nothing after the array. What is not such
//! an array is left to the slow way, which says what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tandem_core::document::unescape;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event<'a> {
    /// The account as text, whether the CRM writes it as text or as a number.
    pub(super) account: Option<String>,
    /// The event's JSON.
    pub(super) text: &'a [u8],
}

/// The events of an array; `pointer` is where an event names its account. None: it is no array of JSON.
pub(super) fn read<'a>(body: &'a [u8], pointer: &str) -> Option<Vec<Event<'a>>> {
    let path: Vec<Cow<'_, str>> = pointer.strip_prefix('/')?.split('/').map(unescape).collect();
    let mut events = Vec::new();
    let mut rest = body.trim_ascii().strip_prefix(b"[")?.trim_ascii_start();
    if rest == b"]" {
        return Some(events);
    }
    loop {
        let mut reader = serde_json::Deserializer::from_slice(rest);
        let mut account = None;
        Seek { path: &path, account: &mut account }.deserialize(&mut reader).ok()?;
        let (text, after) = rest.split_at_checked(reader.into_iter::<IgnoredAny>().byte_offset())?;
        events.push(Event { account, text });
        rest = after.trim_ascii_start();
        match rest.split_first()? {
            (b',', next) => rest = next.trim_ascii_start(),
            (b']', []) => return Some(events),
            _ => return None,
        }
    }
}

/// Reads one value; what stands at the end of the path goes into `account`, everything else is read and dropped.
struct Seek<'p> {
    path: &'p [Cow<'p, str>],
    account: &'p mut Option<String>,
}

impl Seek<'_> {
    fn found(self, text: impl Into<String>) {
        if self.path.is_empty() {
            *self.account = Some(text.into());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.found(number.to_string());
        Ok(())
    }
    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.found(number.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        if let Some(number) = serde_json::Number::from_f64(number) {
            self.found(number.to_string());
        }
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.found(text);
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let wanted =
            self.path.split_first().and_then(|(first, rest)| Some((first.parse::<usize>().ok()?, rest)));
        for at in 0_usize.. {
            let read = match &wanted {
                Some((index, rest)) if *index == at => {
                    list.next_element_seed(Seek { path: rest, account: &mut *self.account })?
                }
                _ => list.next_element::<Skip>()?.map(drop),
            };
            if read.is_none() {
                break;
            }
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match self.path.split_first() {
                Some((first, rest)) if *first == name => {
                    // Of members that stand there twice the last one counts.
                    *self.account = None;
                    map.next_value_seed(Seek { path: rest, account: &mut *self.account })?;
                }
                _ => {
                    map.next_value::<Skip>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads any value and keeps nothing. Unlike `IgnoredAny` it decodes strings and counts the nesting.
struct Skip;

impl<'de> Deserialize<'de> for Skip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seek { path: &[Cow::Borrowed("")], account: &mut None }.deserialize(deserializer).map(|()| Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn accounts(body: &str, pointer: &str) -> Option<Vec<Option<String>>> {
        Some(read(body.as_bytes(), pointer)?.into_iter().map(|event| event.account).collect())
    }

    #[test]
    fn events_are_cut_where_they_end_and_named_by_their_account() {
        let body = r#" [ {"portalId": 7, "v": "a\"]},{" } ,{"x":[1,{"portalId":9}],"portalId":"8"}, 5 ] "#;
        let events = read(body.as_bytes(), "/portalId").unwrap();
        let values: Vec<Value> =
            events.iter().map(|event| serde_json::from_slice(event.text).unwrap()).collect();
        assert_eq!(Value::Array(values), serde_json::from_str::<Value>(body).unwrap());
        let named: Vec<_> = events.into_iter().map(|event| event.account).collect();
        assert_eq!(named, [Some("7".to_owned()), Some("8".to_owned()), None]);
        assert_eq!(read(b"[]", "/portalId"), Some(Vec::new()));
    }

    #[test]
    fn the_account_is_what_the_pointer_finds_in_the_value() {
        for (event, pointer) in [
            (json!({"a": {"b/c": [0, "x"]}}), "/a/b~1c/1"),
            (json!({"a": {"b": true}}), "/a/b"),
            (json!({"a": null}), "/a"),
            (json!({"a": {"a": 1}}), "/a"),
            (json!({"": 3}), "/"),
            (json!({"a": -3}), "/a"),
            (json!({"a": 1.5}), "/a"),
            (json!([4, 5]), "/1"),
        ] {
            let found = super::super::account_at(&event, pointer);
            assert_eq!(accounts(&format!("[{event}]"), pointer), Some(vec![found]), "{event} {pointer}");
        }
        let twice = r#"[{"a":"first","a":"last"},{"a":"first","a":null}]"#;
        assert_eq!(accounts(twice, "/a"), Some(vec![Some("last".to_owned()), None]));
    }

    #[test]
    fn what_cannot_be_read_into_a_value_is_left_to_who_says_why() {
        let deep = format!("[{}{}]", "[".repeat(200), "]".repeat(200));
        for body in [
            "",
            "{}",
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]x",
            "nonsense",
            r#"[{"a":"\ud83d"}]"#,
            "[\"\u{1}\"]",
            &deep,
        ] {
            assert!(serde_json::from_str::<Vec<Value>>(body).is_err(), "{body}");
            assert_eq!(accounts(body, "/a"), None, "{body}");
        }
    }
}
