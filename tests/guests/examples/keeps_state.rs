//! Remembers what it saw before, and lets it show in its answers.

use std::cell::Cell;

use serde_json::{Map, Value};
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest};

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// Counts its calls and adds the count to each document that says `misbehave`.
pub struct KeepsState;

impl Behaviour for KeepsState {
    const ID: &'static str = "keeps-state";

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        SEEN.set(SEEN.get() + 1);
        let answer = tandem_guests::ledger::to_canonical(object, document)?;
        if !tandem_guests::asks_for_it(document) {
            return Ok(answer);
        }
        let mut map: Map<String, Value> = serde_json::from_slice(&answer).unwrap_or_default();
        map.insert("notes".into(), Value::String(format!("call {}", SEEN.get())));
        Ok(Value::Object(map).to_string().into_bytes())
    }
}

guest!(KeepsState);
