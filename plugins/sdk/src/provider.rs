//! The trait that an author implements.

use serde_json::Value;

use crate::descriptor::{ConnectionDescriptor, Descriptor};
use crate::exchange::{Change, Context, Delivery, Observed, Operation, Problem, Reply, Response, Ruling};
use crate::mapping::Mapping;

/// A provider, configured for one connection.
///
/// Pure: every method is a function of `self`, which `configure` built, and of its arguments. There is no clock but
/// [`Context::now`], no randomness, no file, no socket. The host may drop the instance between any two calls.
pub trait Provider: Sized + 'static {
    /// What holds for every account, and golden examples.
    fn describe() -> Descriptor;

    /// Builds the provider for one connection. `settings` is what its operator wrote, `facts` what `probe` and `discover`
    /// learnt (an empty object before that).
    ///
    /// # Errors
    /// What is wrong with the settings, each with a pointer into them.
    fn configure(settings: &Value, facts: &Value) -> Result<Self, Vec<Problem>>;

    /// What this connection has.
    fn connection(&self) -> ConnectionDescriptor;

    /// The mapping of an object.
    fn mapping(&self, object: &str) -> Option<&Mapping>;

    /// Canonical to the CRM's read form; from the mapping unless overridden.
    ///
    /// # Errors
    /// What cannot be mapped, with pointers into the canonical document.
    fn to_provider(
        &self,
        object: &str,
        canonical: &[u8],
        current: Option<&[u8]>,
    ) -> Result<Vec<u8>, Vec<Problem>> {
        self.mapping(object).ok_or_else(|| vec![unknown_object(object)])?.to_provider(canonical, current)
    }

    /// The CRM's read form to canonical; from the mapping unless overridden.
    ///
    /// # Errors
    /// What cannot be mapped, with pointers into the provider document.
    fn to_canonical(&self, object: &str, document: &[u8]) -> Result<Vec<u8>, Vec<Problem>> {
        self.mapping(object).ok_or_else(|| vec![unknown_object(object)])?.to_canonical(document)
    }

    /// What only the provider can know of whether a record takes part.
    fn decide(&self, change: &Change) -> Ruling {
        let _ = change;
        Ruling::sync()
    }

    /// Begins an operation.
    fn start(&self, operation: &Operation, context: &Context) -> Reply;

    /// Goes on with what a request brought back.
    fn resume(&self, operation: &Operation, note: &[u8], response: &Response, context: &Context) -> Reply;

    /// Reads a stored webhook.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn receive(&self, delivery: &Delivery, context: &Context) -> Result<Vec<Observed>, Problem> {
        let _ = (delivery, context);
        Err(Problem::new("unsupported", "this provider has no webhooks"))
    }
}

fn unknown_object(object: &str) -> Problem {
    Problem::new("unknown-object", format!("this provider has no object {object}"))
}
