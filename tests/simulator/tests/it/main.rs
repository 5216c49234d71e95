//! The simulator's behaviour, over real HTTP against a simulator in this process. Each test is named by a line of
//! `BEHAVIOUR.md`, and each line names a test; `document` checks both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod batches;
mod control;
mod disturbances;
mod document;
mod limits;
mod objects;
mod pipedrive_control;
mod pipedrive_fields;
mod pipedrive_limits;
mod pipedrive_lists;
mod pipedrive_persons;
mod pipedrive_setting;
mod pipedrive_tokens;
mod pipedrive_webhooks;
mod properties;
mod receiver;
mod rest;
mod salesforce_limits;
mod salesforce_outbound;
mod salesforce_query;
mod salesforce_replication;
mod salesforce_rows;
mod salesforce_sessions;
mod salesforce_setting;
mod salesforce_values;
mod search;
mod setting;
mod tokens;
mod values;
mod webhooks;
