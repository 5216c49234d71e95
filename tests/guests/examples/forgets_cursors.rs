//! A newer version of the ledger that cannot read the cursors of the one before.

use tandem_guests::bindings::tandem::provider::types::{Answer, Context, Operation, Reply};
use tandem_guests::{Behaviour, Json, guest, ledger, rewritten};

/// Knows no cursor but its own.
pub struct ForgetsCursors;

impl Behaviour for ForgetsCursors {
    const ID: &'static str = "ledger";

    fn describe() -> Json {
        rewritten(&ledger::describe(Self::ID), |descriptor| {
            descriptor.insert("version".into(), "0.2.0".into());
        })
    }

    fn start(operation: Operation, context: Context) -> Reply {
        match &operation {
            Operation::Changes(listing) if listing.cursor.is_some() => {
                let why = "it is no cursor of version 2".to_owned();
                Reply { answer: Answer::CursorLost(why), quotas: Vec::new() }
            }
            _ => ledger::start(&operation, &context),
        }
    }
}

guest!(ForgetsCursors);
