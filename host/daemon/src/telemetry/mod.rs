//! What the daemon says of itself: logs on standard error, metrics for Prometheus.
//!
//! Invariants: no record content, no secret and no record id in either; labels of metrics are bounded (provider, outcome, operation,
//! class, point, stage), and a connection is a label only where [`names`] says so. Levels: ERROR, an operator must act; WARN, something
//! went wrong and was recovered from; INFO, life cycle; nothing for a single record above DEBUG.

mod hardening;
mod log;
mod metrics;
pub mod names;

pub use hardening::harden;
pub use log::{LogError, init};
pub use metrics::{Freshness, Metrics, Stage, Totals};
