//! What Tandem decides without I/O: names, canonical documents and their schemas, links, the planner.
//!
//! Pure by its dependencies: no clock, no randomness, no file, no thread, no async runtime. Everything that varies is an
//! argument, so that the same input gives the same answer in the daemon, in a test and in the simulation.

pub mod clash;
pub mod descriptor;
pub mod document;
pub mod exchange;
pub mod id;
pub mod laws;
pub mod link;
pub mod matching;
pub mod normalise;
pub mod places;
pub mod plan;
pub mod policy;
pub mod redact;
pub mod rules;
pub mod schema;
pub mod span;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = u64;

/// How thoroughly a property is tried: on as many cases as it needs, unless `PROPTEST_CASES` says otherwise. Then proptest's own
/// variables hold, as they do for all other properties.
#[cfg(test)]
fn thoroughly(cases: u32) -> proptest::prelude::ProptestConfig {
    let config = proptest::prelude::ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => proptest::prelude::ProptestConfig { cases, max_shrink_iters: 20_000, ..config },
    }
}
