//! The worlds of a normal test run, and those that once failed.

use std::io::Write as _;
use std::time::Duration;

use tandem_simulation::{Options, Plan, Progress, run, simulate};

/// Seeds of the normal test run: as far as those that fail are known (`open.txt`). `TANDEM_SEEDS` says another number;
/// `TANDEM_SEEDS_SECONDS`, after which no world is begun any more, as in CI.
const SEEDS: u64 = 10_000;

fn said<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Not captured: it takes minutes. Told of each ten seconds, it says something once a minute.
fn tell(progress: Progress<'_>) {
    if let Progress::Ended(ended, of, failed, took) = progress
        && (took.as_secs() / 10).is_multiple_of(6)
    {
        let took = took.as_secs();
        let _shown =
            writeln!(std::io::stderr(), "simulation: {ended} of {of} seeds, {failed} failed, after {took} s");
    }
}

#[test]
fn every_world_ends_with_nothing_lost_doubled_flipped_back_or_written_without_a_cause() {
    let report = run(&Plan {
        from: 0,
        seeds: said("TANDEM_SEEDS").unwrap_or(SEEDS),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        most: said("TANDEM_SEEDS_SECONDS").map(Duration::from_secs),
        plant: None,
        plain: false,
        stop_at: 100,
        tell: Some(tell),
    });
    let open: Vec<u64> = include_str!("../open.txt")
        .lines()
        .filter_map(|line| line.split_once(' ').and_then(|(seed, _)| seed.parse().ok()))
        .collect();
    // Not captured: whoever reads the log of CI sees how many there were.
    let _shown = writeln!(std::io::stderr(), "simulation: {report}");
    let unknown: Vec<_> = report.failed.keys().filter(|seed| !open.contains(seed)).collect();
    assert!(unknown.is_empty(), "{unknown:?} of {report}");
    assert!(report.seeds > 100, "only {} worlds were simulated", report.seeds);
}

#[test]
fn seeds_that_failed_once_do_not_fail_again() {
    let mut count = 0;
    for line in include_str!("../regressions.txt").lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (seed, why) = line.split_once(' ').unwrap_or((line, ""));
        let Ok(seed) = seed.parse() else { panic!("not a seed: {line}") };
        let plain = why.starts_with("(plain)");
        let outcome = simulate(seed, Options { plain, ..Options::default() });
        assert!(outcome.wrong.is_empty(), "seed {seed} ({why}): {:#?}", outcome.wrong);
        count += 1;
    }
    assert!(count > 0, "there are no regressions");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options { traced: true, ..Options::default() };
    for seed in 0..40 {
        let (first, second) = (simulate(seed, options), simulate(seed, options));
        let differs = first.trace.lines().zip(second.trace.lines()).position(|(left, right)| left != right);
        assert!(first.trace == second.trace, "seed {seed}: the traces differ in line {differs:?}");
        assert!(first.trace.len() > 1_000, "seed {seed} has no trace");
        assert_eq!(first.wrong, simulate(seed, Options::default()).wrong, "seed {seed}: looking changes it");
    }
}
