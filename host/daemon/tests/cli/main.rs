//! The command line, by running the binary.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what is wrong by panicking"
)]

mod fields;
mod kit;
mod live;
mod offline;
mod online;
mod run;
mod support;
