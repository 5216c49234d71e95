//! The checker is worth nothing unless it finds bugs: each planted one has to be found.

use tandem_simulation::{Plan, Plant, run};

/// Worlds within which each planted bug has to be found.
const WITHIN: u64 = 2_000;

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for plant in Plant::ALL {
        let report = run(&Plan {
            from: 0,
            seeds: WITHIN,
            threads: 1,
            most: None,
            plant: Some(plant),
            plain: false,
            stop_at: 1,
            tell: None,
        });
        match report.failed.first_key_value() {
            Some((seed, wrong)) => {
                println!("{plant:?}: seed {seed}, {}", wrong.first().map_or("", String::as_str));
            }
            None => missed.push(plant),
        }
    }
    assert!(missed.is_empty(), "not found within {WITHIN} worlds: {missed:?}");
}
