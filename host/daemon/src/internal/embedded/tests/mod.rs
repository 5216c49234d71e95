//! Behaviours of the whole store: through the seam, and through real HTTP.

mod client;
mod crash;
mod http;
mod inputs;
mod measure;
mod model;
mod store;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use tandem_core::schema::CanonicalSchema;

use super::{Embedded, EmbeddedOptions};

fn options() -> EmbeddedOptions {
    let contact = CanonicalSchema::built_in("contact").expect("it is built in").expect("it compiles");
    let ticket = json!({
        "type": "object",
        "required": ["title"],
        "properties": { "title": { "type": "string" }, "key": { "type": "string", "x-identity": true } },
    });
    let ticket = CanonicalSchema::compile("ticket", &ticket).expect("it compiles");
    EmbeddedOptions::new(BTreeMap::from([("contact".into(), contact), ("ticket".into(), ticket)]))
}

fn open(path: &Path) -> Embedded {
    Embedded::open(path, options()).expect("the store opens")
}
