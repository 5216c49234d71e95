//! Behaviours of the whole store: through the seam, and through real HTTP.

mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tandem_core::exchange::Problem;

use super::{Embedded, EmbeddedOptions, Rules, Unreadable};

/// A contact of the tests: `email` is its identity, `name` is text, nothing else is asked.
struct Contacts;

impl Rules for Contacts {
    fn parse(&self, json: &[u8]) -> Result<Value, Unreadable> {
        serde_json::from_slice(json).map_err(|error| Unreadable::Malformed {
            message: "not JSON".into(),
            line: error.line(),
            column: error.column(),
        })
    }

    fn validate(&self, document: &Value) -> Vec<Problem> {
        let problem = |message: &str, pointer: &str| {
            vec![Problem { code: "schema".into(), message: message.into(), pointer: Some(pointer.into()) }]
        };
        match document {
            Value::Object(members) => match members.get("name") {
                Some(Value::String(_)) | None => Vec::new(),
                Some(_) => problem("is text", "/name"),
            },
            _ => problem("is an object", ""),
        }
    }

    fn identity(&self, document: &Value) -> Vec<(String, String)> {
        document
            .get("email")
            .and_then(Value::as_str)
            .map(|email| ("/email".to_owned(), email.to_lowercase()))
            .into_iter()
            .collect()
    }
}

fn options() -> EmbeddedOptions {
    let rules: Arc<dyn Rules> = Arc::new(Contacts);
    EmbeddedOptions::new(BTreeMap::from([("contact".into(), Arc::clone(&rules)), ("company".into(), rules)]))
}

fn open(path: &Path) -> Embedded {
    Embedded::open(path, options()).expect("the store opens")
}
