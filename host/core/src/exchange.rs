//! The contract's types (wit/types.wit) in the host's own words.
//!
//! Version modules of the provider room convert into these; no generated type leaves that room. Field meanings are those of
//! the WIT file and are not repeated here.
#![expect(missing_docs, reason = "documented line by line in wit/types.wit")]

use serde::{Deserialize, Serialize};

use crate::Millis;

/// UTF-8 JSON text.
pub type Json = Vec<u8>;
pub type Opaque = Vec<u8>;

/// Bytes as one value and not as a list of numbers, each of them a call. In postcard and in JSON they are written as the
/// list would be.
mod octets {
    use std::fmt;

    use serde::de::{Deserializer, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(octets)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Octets)
    }

    struct Octets;

    impl<'de> Visitor<'de> for Octets {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, octets: &[u8]) -> Result<Vec<u8>, E> {
            Ok(octets.to_vec())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
            let mut octets = Vec::new();
            while let Some(octet) = list.next_element()? {
                octets.push(octet);
            }
            Ok(octets)
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub now: Millis,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Path(String),
    Url(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub quota: String,
    pub amount: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    pub marker: String,
    pub secret: String,
    pub escape: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    pub target: Target,
    pub headers: Vec<Attribute>,
    pub body: Option<Vec<u8>>,
    pub charges: Vec<Charge>,
    pub repeatable: bool,
    pub secrets: Vec<Placeholder>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<Attribute>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: String,
    pub message: String,
    pub pointer: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    Confirmed,
    Unconfirmed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub object: String,
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Touched,
    #[serde(with = "octets")]
    Partial(Json),
    #[serde(with = "octets")]
    Whole(Json),
    Gone(Proof),
    Moved(Reference),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub object: String,
    pub id: String,
    pub state: State,
    pub version: Option<String>,
    pub stamp: Option<u64>,
    pub key: Option<String>,
    pub keep: Option<Opaque>,
    pub author: Option<String>,
    pub account: Option<String>,
    pub attributes: Vec<Attribute>,
}

impl Observed {
    /// "Something happened to this record": it has to be read.
    #[must_use]
    pub fn touched(object: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            object: object.into(),
            id: id.into(),
            state: State::Touched,
            version: None,
            stamp: None,
            key: None,
            keep: None,
            author: None,
            account: None,
            attributes: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    pub object: String,
    pub key: Option<String>,
    pub identity: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub object: String,
    pub id: Option<String>,
    pub document: Json,
    pub changed: Vec<String>,
    pub version: Option<String>,
    pub stamp: Option<u64>,
    pub key: String,
    pub keep: Option<Opaque>,
    pub previous: Option<Json>,
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remove {
    pub object: String,
    pub id: String,
    pub version: Option<String>,
    pub stamp: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub object: String,
    pub cursor: Option<Opaque>,
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub callback: String,
    pub objects: Vec<String>,
    pub channel: Option<Opaque>,
    pub active: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Probe,
    Discover(String),
    Read(Reference),
    Find(Find),
    Write(Write),
    Remove(Remove),
    Changes(Listing),
    Walk(Listing),
    Watch(Watch),
    Other(String, Json),
}

impl Operation {
    /// The operation's word, for history, metrics and errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Discover(_) => "discover",
            Self::Read(_) => "read",
            Self::Find(_) => "find",
            Self::Write(write) if write.id.is_none() => "create",
            Self::Write(_) => "update",
            Self::Remove(_) => "remove",
            Self::Changes(_) => "changes",
            Self::Walk(_) => "walk",
            Self::Watch(_) => "watch",
            Self::Other(..) => "other",
        }
    }

    /// Names under which a descriptor declares what an operation may do: those of the contract.
    pub const DECLARED: [&str; 9] =
        ["probe", "discover", "read", "find", "write", "remove", "changes", "walk", "watch"];

    /// Its name in a descriptor.
    #[must_use]
    pub fn declared(&self) -> &str {
        match self {
            Self::Write(_) => "write",
            Self::Other(word, _) => word,
            _ => self.name(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    Until(Millis),
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub observed: Observed,
    pub unapplied: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub request: HttpRequest,
    pub note: Opaque,
    pub so_far: Option<Written>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Observed>,
    pub cursor: Opaque,
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub state: Opaque,
    pub check_at: Millis,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    pub quota: Option<String>,
    pub wait: Wait,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub scope: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Send(Step),
    Written(Written),
    Current(Observed),
    Found(Vec<Observed>),
    Page(Page),
    Watching(Channel),
    Facts(Json),
    Exists(Reference),
    Refused,
    Throttled(Throttle),
    Again(Wait, String),
    Rejected(Vec<Problem>),
    Blocked(Block),
    Unauthorised(String),
    CursorLost(String),
    Other(String, Json),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaState {
    pub quota: String,
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    pub resets: Wait,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub answer: Answer,
    pub quotas: Vec<QuotaState>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub headers: Vec<Attribute>,
    pub query: Vec<Attribute>,
    #[serde(with = "octets")]
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub object: String,
    pub origin: String,
    pub before: Option<Json>,
    pub after: Option<Json>,
    pub changed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Sync,
    Skip(String),
    Hold(String),
    Remove(String),
    Read,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub decision: Decision,
    pub rule: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the bytes were written as before they were one value.
    #[derive(Serialize, Deserialize)]
    struct Listed {
        headers: Vec<Attribute>,
        query: Vec<Attribute>,
        body: Vec<u8>,
    }

    #[test]
    fn bytes_read_back_what_was_written_as_a_list() {
        let listed = Listed { headers: Vec::new(), query: Vec::new(), body: vec![0, 7, 255] };
        let json = serde_json::to_string(&listed).unwrap();
        let delivery: Delivery = serde_json::from_str(&json).unwrap();
        assert_eq!(delivery.body, listed.body);
        assert_eq!(serde_json::to_string(&delivery).unwrap(), json);
    }

    #[test]
    fn bytes_are_taken_from_a_format_that_has_them_as_one_value() {
        let whole = serde::de::value::BytesDeserializer::<serde::de::value::Error>::new(&[0, 7, 255]);
        assert_eq!(octets::deserialize(whole), Ok(vec![0, 7, 255]));
    }

    #[test]
    fn what_is_no_bytes_is_refused_with_what_is_needed() {
        let error = serde_json::from_str::<Delivery>(r#"{"headers":[],"query":[],"body":7}"#).unwrap_err();
        assert!(error.to_string().contains("expected bytes"), "{error}");
    }

    #[test]
    fn an_operation_goes_by_the_word_of_the_contract_and_a_write_by_what_it_does() {
        let record = || Reference { object: "contact".into(), id: "1".into() };
        let listing = || Listing { object: "contact".into(), cursor: None, limit: 1 };
        let write = |id: Option<&str>| Write {
            object: "contact".into(),
            id: id.map(str::to_owned),
            document: Vec::new(),
            changed: Vec::new(),
            version: None,
            stamp: None,
            key: String::new(),
            keep: None,
            previous: None,
            attributes: Vec::new(),
        };
        let find = Find { object: "contact".into(), key: None, identity: Vec::new() };
        let remove = Remove { object: "contact".into(), id: "1".into(), version: None, stamp: None };
        let watch = Watch { callback: String::new(), objects: Vec::new(), channel: None, active: true };
        for (operation, word, declared) in [
            (Operation::Probe, "probe", "probe"),
            (Operation::Discover("contact".into()), "discover", "discover"),
            (Operation::Read(record()), "read", "read"),
            (Operation::Find(find), "find", "find"),
            (Operation::Write(write(None)), "create", "write"),
            (Operation::Write(write(Some("1"))), "update", "write"),
            (Operation::Remove(remove), "remove", "remove"),
            (Operation::Changes(listing()), "changes", "changes"),
            (Operation::Walk(listing()), "walk", "walk"),
            (Operation::Watch(watch), "watch", "watch"),
            (Operation::Other("new".into(), Vec::new()), "other", "new"),
        ] {
            assert_eq!((operation.name(), operation.declared()), (word, declared));
        }
    }
}
