//! The checker is worth nothing unless it finds bugs: each planted one has to be found.

use tandem_simulation::{Options, Plan, Plant, run, simulate};

/// Worlds within which each planted bug has to be found.
const WITHIN: u64 = 2_000;

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for plant in Plant::ALL {
        match first(plant) {
            Some((seed, wrong)) => println!("{plant:?}: seed {seed}, {wrong}"),
            None => missed.push(plant),
        }
    }
    assert!(missed.is_empty(), "not found within {WITHIN} worlds: {missed:?}");
}

/// The first world that fails with a bug and does not without it.
fn first(plant: Plant) -> Option<(u64, String)> {
    let mut from = 0;
    while from < WITHIN {
        let report = run(&Plan {
            from,
            seeds: WITHIN - from,
            threads: 1,
            most: None,
            plant: Some(plant),
            plain: false,
            stop_at: 1,
            tell: None,
        });
        let (seed, wrong) = report.failed.into_iter().next()?;
        if simulate(seed, Options::default()).wrong.is_empty() {
            return Some((seed, wrong.into_iter().next().unwrap_or_default()));
        }
        from = seed + 1;
    }
    None
}
