//! Providers for the tests of the daemon's provider room: `ledger` behaves, the others do one thing each that a provider
//! must not do. They stand on the contract alone, not on the SDK, so that they show what any language could do.
//!
//! Each file in `examples/` becomes one component. They misbehave in the mapping, and only for a document with the member
//! `misbehave`: so the same instance can be seen before, during and after.

/// The contract as the generator gives it.
#[allow(missing_docs, reason = "generated; documented in wit/")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "provider",
        pub_export_macro: true,
        default_bindings_module: "tandem_guests::bindings",
    });
}

/// A world that has nothing to do with Tandem, for the component that speaks another language.
#[allow(missing_docs, reason = "generated")]
pub mod other_world {
    wit_bindgen::generate!({
        inline: "
            package stranger:greeter@1.0.0;
            interface greet { hello: func(name: string) -> string; }
            world greeter { export greet; }
        ",
        world: "greeter",
        pub_export_macro: true,
        default_bindings_module: "tandem_guests::other_world",
    });
}

pub mod ledger;

use serde_json::{Map, Value};

use bindings::tandem::provider::types::{
    Change, Context, Delivery, HttpResponse, Observed, Operation, Problem, Reply, Ruling,
};

/// UTF-8 JSON text.
pub type Json = Vec<u8>;

/// What a guest does. The defaults are those of the well-behaved ledger; a guest replaces what it does badly.
#[allow(clippy::needless_pass_by_value, reason = "arguments as the generated bindings give them")]
pub trait Behaviour {
    /// The provider's id.
    const ID: &'static str;

    /// What it does when a document says `misbehave`.
    fn misbehave() {}

    /// What holds for every account.
    fn describe() -> Json {
        ledger::describe(Self::ID)
    }

    /// What this connection has.
    fn configure(settings: &[u8], facts: &[u8]) -> Result<Json, Vec<Problem>> {
        ledger::configure(settings, facts)
    }

    /// Canonical to read form.
    fn to_provider(object: &str, canonical: &[u8], current: Option<&[u8]>) -> Result<Json, Vec<Problem>> {
        if asks_for_it(canonical) {
            Self::misbehave();
        }
        ledger::to_provider(object, canonical, current)
    }

    /// Read form to canonical.
    fn to_canonical(object: &str, document: &[u8]) -> Result<Json, Vec<Problem>> {
        if asks_for_it(document) {
            Self::misbehave();
        }
        ledger::to_canonical(object, document)
    }

    /// Whether a record takes part.
    fn decide(change: Change) -> Ruling {
        ledger::decide(&change)
    }

    /// Begins an exchange.
    fn start(operation: Operation, context: Context) -> Reply {
        ledger::start(&operation, &context)
    }

    /// Goes on with an exchange.
    fn resume(operation: Operation, note: Vec<u8>, response: HttpResponse, context: Context) -> Reply {
        ledger::resume(&operation, &note, &response, &context)
    }

    /// Reads a delivery.
    fn receive(delivery: Delivery, _context: Context) -> Result<Vec<Observed>, Problem> {
        ledger::receive(&delivery)
    }
}

/// Whether a document has the member that makes a guest misbehave.
#[must_use]
pub fn asks_for_it(document: &[u8]) -> bool {
    document.windows(11).any(|window| window == b"\"misbehave\"")
}

/// A document with its members changed; what is no document is an empty one.
pub fn rewritten(document: &[u8], change: impl FnOnce(&mut Map<String, Value>)) -> Json {
    let mut members = serde_json::from_slice(document).unwrap_or_default();
    change(&mut members);
    Value::Object(members).to_string().into_bytes()
}

/// Exports a [`Behaviour`] as a component.
#[macro_export]
macro_rules! guest {
    ($behaviour:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod component {
            use super::*;
            use $crate::bindings::exports::tandem::provider::{descriptor, exchange, intake, mapping, rules};
            use $crate::bindings::tandem::provider::types::*;

            struct Component;

            impl descriptor::Guest for Component {
                fn describe() -> Vec<u8> {
                    <$behaviour as $crate::Behaviour>::describe()
                }
                fn configure(settings: Vec<u8>, facts: Vec<u8>) -> Result<Vec<u8>, Vec<Problem>> {
                    <$behaviour as $crate::Behaviour>::configure(&settings, &facts)
                }
            }

            impl mapping::Guest for Component {
                fn to_provider(
                    object: String,
                    canonical: Vec<u8>,
                    current: Option<Vec<u8>>,
                ) -> Result<Vec<u8>, Vec<Problem>> {
                    <$behaviour as $crate::Behaviour>::to_provider(&object, &canonical, current.as_deref())
                }
                fn to_canonical(object: String, document: Vec<u8>) -> Result<Vec<u8>, Vec<Problem>> {
                    <$behaviour as $crate::Behaviour>::to_canonical(&object, &document)
                }
            }

            impl rules::Guest for Component {
                fn decide(change: Change) -> Ruling {
                    <$behaviour as $crate::Behaviour>::decide(change)
                }
            }

            impl exchange::Guest for Component {
                fn start(operation: Operation, context: Context) -> Reply {
                    <$behaviour as $crate::Behaviour>::start(operation, context)
                }
                fn resume(
                    operation: Operation,
                    note: Vec<u8>,
                    response: HttpResponse,
                    context: Context,
                ) -> Reply {
                    <$behaviour as $crate::Behaviour>::resume(operation, note, response, context)
                }
            }

            impl intake::Guest for Component {
                fn receive(delivery: Delivery, context: Context) -> Result<Vec<Observed>, Problem> {
                    <$behaviour as $crate::Behaviour>::receive(delivery, context)
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
        }
    };
}
