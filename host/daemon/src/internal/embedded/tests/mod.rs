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
use std::time::Duration;

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

/// Opens, once the one before has let go of the files: its threads end a moment after its last clone.
fn open(path: &Path) -> Embedded {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match Embedded::open(path, options()) {
            Ok(store) => return store,
            Err(error) if error.what.contains("could not acquire lock") && std::time::Instant::now() < end => {
                std::thread::yield_now();
            }
            Err(error) => panic!("the store opens: {error}"),
        }
    }
}
