//! The control API: how tests set up accounts, order disturbances, act as people and read counts.

pub mod client;
pub mod salesforce;
pub(crate) mod server;
pub mod types;

pub use client::{Client, ControlError};
