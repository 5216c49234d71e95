//! The providers of this repository, as they are shipped.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tandem::provider::{Offline, Setup};

use crate::support::{BUILD, guest};

/// A provider's file, beside the guests.
pub(crate) fn provider(name: &str) -> PathBuf {
    let guests = guest("ledger");
    let folder = guests.parent().and_then(Path::parent).expect("the guests' folder has a parent");
    let file = folder.join(format!("provider_{name}.wasm"));
    assert!(file.is_file(), "there is no {}: run `{BUILD}`", file.display());
    file
}

fn hubspot() -> Offline {
    Offline::load(&provider("hubspot"), &Setup { settings: json!({}), facts: Value::Null })
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn hubspot_is_admitted_and_asks_for_nothing_but_the_log_and_the_shell() {
    let offline = hubspot();
    assert_eq!(offline.view().descriptor.id, "hubspot");
    assert!(!offline.view().descriptor.examples.is_empty(), "its examples were run");
    assert!(offline.view().connection.objects.contains_key("contact"));
    for import in &offline.version().imports {
        assert!(
            ["tandem:provider/", "wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"]
                .iter()
                .any(|known| import.starts_with(known)),
            "{import}"
        );
    }
}

#[test]
fn hubspot_maps_to_the_same_bytes_on_fresh_and_on_used_instances_in_any_order() {
    let mut offline = hubspot();
    let documents: Vec<Vec<u8>> = (0..40)
        .map(|n| {
            let mut properties =
                json!({ "email": format!("Person{n}@Example.COM"), "firstname": format!("Zoë {n}") });
            for extra in ["lastname", "phone", "company", "city", "zip", "hs_language"].iter().take(n % 7) {
                properties[extra] = json!(format!("{extra} {n}"));
            }
            json!({ "id": n.to_string(), "properties": properties }).to_string().into_bytes()
        })
        .collect();
    let map = |offline: &mut Offline, document: &[u8]| {
        offline.provider().expect("an instance").to_canonical("contact", document).expect("no fault")
    };
    let mut fresh = Vec::new();
    for document in &documents {
        offline.renew().expect("a fresh one");
        fresh.push(map(&mut offline, document));
    }
    offline.renew().expect("a fresh one");
    for step in [1, 7, 11, 39] {
        for n in (0..documents.len()).map(|n| n * step % documents.len()) {
            assert_eq!(map(&mut offline, &documents[n]), fresh[n], "document {n}");
        }
    }
    assert!(fresh.iter().all(Result::is_ok), "they were really mapped");
}
