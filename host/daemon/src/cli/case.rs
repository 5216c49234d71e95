//! The format of golden cases: what is asked of a component, with what the CRM says. `provider test` looks at what comes of
//! them, `provider check` measures what they take.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_core::exchange::{
    Attribute, Delivery, Find, HttpResponse, Listing, Operation, Reference, Remove, Watch, Write,
};

use super::failure::Failure;
use crate::provider::{Asked, Sample, Setup};

/// A golden case: one of `to-provider`, `to-canonical`, `exchange`, `receive`, and what is expected of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Case {
    #[serde(default)]
    pub(super) settings: Value,
    #[serde(default)]
    pub(super) facts: Value,
    /// The canonical object. Default: contact.
    object: Option<String>,
    /// A canonical document.
    pub(super) to_provider: Option<Value>,
    /// The CRM's document that it is written over.
    pub(super) current: Option<Value>,
    /// A document of the CRM.
    pub(super) to_canonical: Option<Value>,
    /// An operation, with what the CRM answers to each request.
    pub(super) exchange: Option<Exchange>,
    /// A webhook's body, as it is stored.
    pub(super) receive: Option<Value>,
    /// A webhook's headers, those that are stored.
    #[serde(default)]
    headers: Map<String, Value>,
    /// What stood in the webhook's address.
    #[serde(default)]
    query: Map<String, Value>,
    /// What came of it when somebody looked last.
    #[serde(default)]
    pub(super) expected: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Exchange {
    /// "probe", "read", "find", "create", "update", "remove", "changes", "walk", "discover", "watch"; else what `other` is
    /// asked for, which has `arguments`.
    operation: String,
    id: Option<String>,
    /// The canonical document of a write.
    document: Option<Value>,
    #[serde(default)]
    changed: Vec<String>,
    version: Option<String>,
    stamp: Option<u64>,
    key: Option<String>,
    /// Of `find`: canonical pointers and values.
    #[serde(default)]
    identity: Map<String, Value>,
    /// As text, or as the JSON that it is.
    cursor: Option<Value>,
    /// Of `watch`: where to send.
    callback: Option<String>,
    arguments: Option<Value>,
    #[serde(default)]
    pub(super) now: u64,
    #[serde(default)]
    pub(super) responses: Vec<Response>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Response {
    status: u16,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Value,
}

/// The cases of a folder in the order of their names, or the one that is named.
pub(super) fn files(place: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(place) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) if place.is_file() => vec![place.to_owned()],
        Err(error) => {
            return Err(Failure::usage(format!("{}: {error}; name the folder of cases", place.display())));
        }
    };
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        return Err(Failure::usage(format!("{}: there is no case (*.json)", place.display())));
    }
    Ok(files)
}

/// A case, and the whole document that it stands in.
pub(super) fn read(path: &Path) -> Result<(Case, Value), Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::caused(path.display().to_string(), &error))?;
    let whole: Value = serde_json::from_str(&text).map_err(|error| Failure::because(error.to_string()))?;
    let case = Case::deserialize(&whole).map_err(|error| Failure::because(error.to_string()))?;
    Ok((case, whole))
}

/// The cases of exchanges and of deliveries, to be measured.
pub(super) fn samples(place: &Path) -> Result<Vec<Sample>, Failure> {
    let mut samples = Vec::new();
    for path in files(place)? {
        let named = |failure: Failure| {
            let why = failure.text.trim_start_matches("error: ");
            Failure { text: format!("error: {}: {why}", path.display()), ..failure }
        };
        let (case, _) = read(&path).map_err(named)?;
        if let Some(asked) = case.asked().map_err(named)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            samples.push(Sample { name, setup: Setup { settings: case.settings, facts: case.facts }, asked });
        }
    }
    Ok(samples)
}

impl Case {
    pub(super) fn object(&self) -> &str {
        self.object.as_deref().unwrap_or("contact")
    }

    pub(super) fn delivery(&self, body: &Value) -> Delivery {
        Delivery { headers: attributes(&self.headers), query: attributes(&self.query), body: octets(body) }
    }

    /// None: it is about the mapping.
    fn asked(&self) -> Result<Option<Asked>, Failure> {
        Ok(match (&self.receive, &self.exchange) {
            (Some(body), _) => Some(Asked::Delivery(self.delivery(body))),
            (None, Some(exchange)) => Some(Asked::Exchange {
                operation: exchange.operation(self.object())?,
                now: exchange.now,
                responses: exchange.responses.iter().map(Response::http).collect(),
            }),
            (None, None) => None,
        })
    }
}

impl Response {
    pub(super) fn http(&self) -> HttpResponse {
        HttpResponse {
            status: self.status,
            headers: attributes(&self.headers),
            body: if self.body.is_null() { Vec::new() } else { octets(&self.body) },
        }
    }
}

impl Exchange {
    /// A write has its canonical document in the place of the CRM's: it has to be mapped yet.
    pub(super) fn operation(&self, object: &str) -> Result<Operation, Failure> {
        let object = object.to_owned();
        let id = || self.id.clone().ok_or_else(|| Failure::because("the exchange needs an id"));
        let listing =
            || Listing { object: object.clone(), cursor: self.cursor.as_ref().map(octets), limit: 100 };
        Ok(match self.operation.as_str() {
            "probe" => Operation::Probe,
            "discover" => Operation::Discover(object),
            "read" => Operation::Read(Reference { object, id: id()? }),
            "remove" => Operation::Remove(Remove {
                object,
                id: id()?,
                version: self.version.clone(),
                stamp: self.stamp,
            }),
            "find" => {
                Operation::Find(Find { object, key: self.key.clone(), identity: attributes(&self.identity) })
            }
            "changes" => Operation::Changes(listing()),
            "walk" => Operation::Walk(listing()),
            "watch" => Operation::Watch(Watch {
                callback: self.callback.clone().unwrap_or_default(),
                objects: vec![object],
                channel: None,
                active: true,
            }),
            word @ ("create" | "update") => Operation::Write(Write {
                object,
                id: if word == "update" { Some(id()?) } else { None },
                document: octets(self.document.as_ref().unwrap_or(&json!({}))),
                changed: self.changed.clone(),
                version: self.version.clone(),
                stamp: self.stamp,
                key: self.key.clone().unwrap_or_else(|| "key".to_owned()),
                keep: None,
                previous: None,
                attributes: Vec::new(),
            }),
            word => match &self.arguments {
                Some(arguments) => Operation::Other(word.to_owned(), octets(arguments)),
                None => return Err(Failure::because(format!("there is no operation {word:?}"))),
            },
        })
    }
}

/// A text is what it says, everything else its JSON: a body may be XML, or not what it should be.
fn octets(value: &Value) -> Vec<u8> {
    text(value).into_bytes()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn attributes(values: &Map<String, Value>) -> Vec<Attribute> {
    values.iter().map(|(name, value)| Attribute { name: name.clone(), value: text(value) }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test: it fails by panicking")]
mod tests {
    use super::*;

    fn case(value: Value) -> Case {
        Case::deserialize(value).unwrap()
    }

    #[test]
    fn a_text_is_what_it_says_and_everything_else_its_json() {
        let xml = case(json!({ "receive": "<a/>", "headers": { "x": "1" }, "query": { "key": 2 } }));
        let delivery = xml.delivery(xml.receive.as_ref().unwrap());
        assert_eq!(delivery.body, b"<a/>");
        assert_eq!((delivery.headers[0].value.as_str(), delivery.query[0].value.as_str()), ("1", "2"));
        let list = case(json!({ "receive": [{ "id": 1 }] }));
        assert_eq!(list.delivery(list.receive.as_ref().unwrap()).body, br#"[{"id":1}]"#);
        for (body, octets) in [(json!(null), &b""[..]), (json!("<p>"), b"<p>"), (json!({}), b"{}")] {
            let response: Response = serde_json::from_value(json!({ "status": 200, "body": body })).unwrap();
            assert_eq!(response.http().body, octets);
        }
    }

    #[test]
    fn an_exchange_says_what_the_operation_needs() {
        let asked = |exchange: Value| case(json!({ "exchange": exchange })).asked();
        let operation = |exchange: Value| match asked(exchange).unwrap() {
            Some(Asked::Exchange { operation, .. }) => operation,
            other => panic!("{other:?}"),
        };
        let Operation::Changes(listing) = operation(json!({ "operation": "changes", "cursor": { "v": 1 } }))
        else {
            panic!("changes")
        };
        assert_eq!(listing.cursor.as_deref(), Some(&br#"{"v":1}"#[..]));
        let update = json!({ "operation": "update", "id": "7", "document": { "city": "Ulm" }, "stamp": 3 });
        let Operation::Write(write) = operation(update) else { panic!("update") };
        assert_eq!((write.id.as_deref(), write.stamp), (Some("7"), Some(3)));
        assert_eq!(write.document, br#"{"city":"Ulm"}"#);
        let other = json!({ "operation": "may-write", "arguments": { "object": "contact" } });
        assert_eq!(
            operation(other),
            Operation::Other("may-write".to_owned(), br#"{"object":"contact"}"#.to_vec())
        );
        assert!(asked(json!({ "operation": "reed" })).unwrap_err().text.contains("no operation \"reed\""));
        assert!(asked(json!({ "operation": "read" })).unwrap_err().text.contains("needs an id"));
        assert!(case(json!({ "to-provider": {} })).asked().unwrap().is_none());
    }
}
