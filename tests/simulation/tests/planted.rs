//! The checker is worth nothing unless it finds bugs: each planted one has to be found.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tandem_simulation::{Options, Plan, Plant, run, simulate};

/// Worlds within which each planted bug has to be found.
const WITHIN: u64 = 2_000;

#[test]
fn every_planted_bug_is_found() {
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    // A world takes one thread; the plants are shared out.
    let search = || {
        while let Some(plant) = Plant::ALL.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            match first(plant) {
                Some((seed, wrong)) => println!("{plant:?}: seed {seed}, {wrong}"),
                None => missed.lock().unwrap_or_else(PoisonError::into_inner).push(plant),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(search);
        }
    });
    let missed = missed.into_inner().unwrap_or_else(PoisonError::into_inner);
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
