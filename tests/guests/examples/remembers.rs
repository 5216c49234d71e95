//! Remembers what it saw: it answers the same twice in a row, and otherwise than an instance that saw something else.

use std::cell::Cell;

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

thread_local! {
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// Puts a space behind everything that it reads, once it has seen a member that it does not know.
pub struct Remembers;

impl Behaviour for Remembers {
    const ID: &'static str = "remembers";

    /// Without the example that has such a member.
    fn describe() -> Json {
        rewritten(&ledger::describe(Self::ID), |descriptor| {
            if let Some(Value::Array(examples)) = descriptor.get_mut("examples") {
                examples.retain(|example| example.pointer("/document/shoe_size").is_none());
            }
        })
    }

    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        rewritten(document, |members| {
            if members.keys().any(|name| !ledger::FIELDS.contains(&name.as_str())) {
                SEEN.set(true);
            }
        });
        let mut canonical = ledger::to_canonical(object, document)?;
        if SEEN.get() {
            canonical.push(b' ');
        }
        Ok(canonical)
    }
}

guest!(Remembers);
