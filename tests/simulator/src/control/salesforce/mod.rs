//! The control API's part for Salesforce: orgs, and what people do in them.

mod client;
mod server;
mod types;

pub(crate) use self::server::router;
pub use self::types::*;
