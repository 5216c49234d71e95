//! Behaviours of the whole store: through the seam, and through real HTTP.

mod crash;
mod http;
mod inputs;
mod store;

use std::collections::BTreeMap;
use std::path::Path;

use tandem_core::schema::CanonicalSchema;

use super::{Embedded, EmbeddedOptions};

fn options() -> EmbeddedOptions {
    let contact = CanonicalSchema::built_in("contact").expect("it is built in").expect("it compiles");
    EmbeddedOptions::new(BTreeMap::from([("contact".into(), contact.clone()), ("person".into(), contact)]))
}

fn open(path: &Path) -> Embedded {
    Embedded::open(path, options()).expect("the store opens")
}
