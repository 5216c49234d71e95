//! What the author of a provider uses: a trait, a macro, and a mapping that is declared once and works in both directions.
//!
//! A provider is a set of pure functions over documents and HTTP messages; the host sends, authenticates, limits and stores.
//! Everything here works natively too: `cargo test` calls the trait without any WebAssembly, and [`laws`] checks the mapping
//! on golden and on generated records.
//!
//! Documents are [`json::Node`]s: strings are borrowed where they can be, and numbers stay the text that they came as, so
//! that no value passes through binary floating point.

/// Compiles the guide's provider with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/providers.md")]
struct Guide;

pub mod classify;
pub mod descriptor;
pub mod exchange;
#[cfg(target_arch = "wasm32")]
pub mod guest;
pub mod json;
pub mod laws;
pub mod log;
pub mod mapping;
mod provider;
pub mod time;

pub use descriptor::{
    Abilities, AuthKind, AuthScheme, BodyFormat, Condition, ConnectionDescriptor, Descriptor, Direction,
    Example, FieldDescriptor, ObjectDescriptor, QuotaDescriptor, QuotaKind, QuotaScope, Refresh, Verify,
    WebhookAnswer, Webhooks,
};
pub use exchange::{
    Answer, Attribute, Change, Charge, Context, Decision, Delivery, Effect, Find, Listing, Millis, Observed,
    Operation, Page, Placeholder, Problem, Proof, QuotaState, Reference, Remove, Reply, Request, Response,
    Ruling, Scope, State, Step, Target, Wait, Watch, Write, Written,
};
pub use mapping::Mapping;
pub use provider::Provider;

/// Exports a type that implements [`Provider`] as the component of this crate. Does nothing on other targets than wasm32.
///
/// ```ignore
/// tandem_provider::provider!(MyProvider);
/// ```
#[macro_export]
macro_rules! provider {
    ($provider:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::guest::{self, types};

            ::std::thread_local! {
                static PROVIDER: guest::Slot<$provider> = const { ::std::cell::RefCell::new(None) };
            }

            struct Component;

            impl guest::descriptor::Guest for Component {
                fn describe() -> Vec<u8> {
                    guest::describe::<$provider>()
                }
                fn configure(settings: Vec<u8>, facts: Vec<u8>) -> Result<Vec<u8>, Vec<types::Problem>> {
                    PROVIDER.with(|slot| guest::configure(slot, &settings, &facts))
                }
            }

            impl guest::mapping::Guest for Component {
                fn to_provider(
                    object: String,
                    canonical: Vec<u8>,
                    current: Option<Vec<u8>>,
                ) -> Result<Vec<u8>, Vec<types::Problem>> {
                    PROVIDER.with(|slot| guest::to_provider(slot, &object, &canonical, current.as_deref()))
                }
                fn to_canonical(object: String, document: Vec<u8>) -> Result<Vec<u8>, Vec<types::Problem>> {
                    PROVIDER.with(|slot| guest::to_canonical(slot, &object, &document))
                }
            }

            impl guest::rules::Guest for Component {
                fn decide(change: types::Change) -> types::Ruling {
                    PROVIDER.with(|slot| guest::decide(slot, change))
                }
            }

            impl guest::exchange::Guest for Component {
                fn start(operation: types::Operation, context: types::Context) -> types::Reply {
                    PROVIDER.with(|slot| guest::start(slot, operation, context))
                }
                fn resume(
                    operation: types::Operation,
                    note: Vec<u8>,
                    response: types::HttpResponse,
                    context: types::Context,
                ) -> types::Reply {
                    PROVIDER.with(|slot| guest::resume(slot, operation, &note, response, context))
                }
            }

            impl guest::intake::Guest for Component {
                fn receive(
                    delivery: types::Delivery,
                    context: types::Context,
                ) -> Result<Vec<types::Observed>, types::Problem> {
                    PROVIDER.with(|slot| guest::receive(slot, delivery, context))
                }
            }

    $crate::guest::bindings::export!(Component with_types_in $crate::guest::bindings);
        };
    };
}
