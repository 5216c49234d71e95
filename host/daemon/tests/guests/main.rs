//! The provider room against guests that behave and guests that do not: each misdeed has its own error, and harms nobody.
//!
//! Guests are built by `just guests` (see `support`).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says what is wrong by panicking"
)]

mod admission;
mod documented;
mod faults;
mod lanes;
mod ledger;
mod measure;
mod plugins;
mod running;
mod support;
