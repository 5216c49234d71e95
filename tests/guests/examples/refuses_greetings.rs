//! A newer version of the ledger that does not take a setting which the one before took.

use serde_json::Value;
use tandem_guests::bindings::tandem::provider::types::Problem;
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Greets nobody.
pub struct RefusesGreetings;

impl Behaviour for RefusesGreetings {
    const ID: &'static str = "ledger";

    fn describe() -> Json {
        rewritten(&ledger::describe(Self::ID), |descriptor| {
            descriptor.insert("version".into(), "0.2.0".into());
        })
    }

    fn configure(settings: &[u8], facts: &[u8]) -> Result<Json, Vec<Problem>> {
        let given: Value = serde_json::from_slice(settings).unwrap_or_default();
        if given.get("greeting").is_some() {
            return Err(vec![Problem {
                code: "refused".into(),
                message: "this version greets nobody".into(),
                pointer: Some("/greeting".into()),
            }]);
        }
        ledger::configure(settings, facts)
    }
}

guest!(RefusesGreetings);
