//! Whom a record is: joined where it is one person, never doubled, and a question for a person where it cannot be told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod again;
mod clashes;
mod joined;
mod merges;
mod report;
mod support;
