//! As many worlds as the time of a normal test run allows, and those that once failed.

use std::io::Write as _;
use std::time::Duration;

use tandem_simulation::{Options, Plan, run, simulate};

/// Seeds of the normal test run: as far as those that fail are known (`open.txt`). `TANDEM_SEEDS` asks for more, without a bound of
/// time.
const SEEDS: u64 = 10_000;

/// The normal test run begins no world after this; `TANDEM_SEEDS_SECONDS` says less, as CI does.
const MOST: Duration = Duration::from_secs(300);

fn said<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_world_ends_with_nothing_lost_doubled_flipped_back_or_written_without_a_cause() {
    let asked = said("TANDEM_SEEDS");
    let most = said("TANDEM_SEEDS_SECONDS").map_or(MOST, Duration::from_secs);
    let report = run(&Plan {
        from: 0,
        seeds: asked.unwrap_or(SEEDS),
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        most: asked.is_none().then_some(most),
        plant: None,
        plain: false,
        stop_at: 100,
        tell: None,
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
