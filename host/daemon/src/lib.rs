//! The daemon `tandem`: keeps the records of System A and of customers' CRMs the same.
//!
//! A room imports only the rooms below it: `store`, `provider`, `quota`, `credentials`, `delivery`, `internal` know nothing
//! of one another's insides; `intake` and `pipeline` stand on them; `admin`, `app` and `cli` stand on everything.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod delivery;
pub mod intake;
pub mod internal;
pub mod pipeline;
pub mod provider;
pub mod quota;
pub mod store;
pub mod telemetry;
