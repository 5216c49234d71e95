//! Many worlds, one after another or beside each other, and what is said of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::plant::Plant;
use crate::world::Options;

/// Which worlds.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Threads; each world has one thread.
    pub threads: usize,
    /// No world is begun after this.
    pub most: Option<Duration>,
    /// A bug that is planted.
    pub plant: Option<Plant>,
    /// Nothing but what the common dice say: nobody is erased.
    pub plain: bool,
    /// No world is begun after so many failed.
    pub stop_at: usize,
    /// Tells how far it is after each so many worlds, and of each that fails at once.
    pub tell: Option<fn(Progress<'_>)>,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// So many worlds of so many ended, and so many of them failed, after a time.
    Ended(u64, u64, usize, Duration),
    /// The world of this seed failed.
    Failed(u64, &'a [String]),
}

/// Progress is told at most this often.
const TOLD: Duration = Duration::from_secs(10);

/// What came of them.
#[derive(Debug, Default)]
pub struct Report {
    /// Worlds that ended.
    pub seeds: u64,
    /// Seeds that failed, with what was wrong.
    pub failed: BTreeMap<u64, Vec<String>>,
    /// How often what was met.
    pub met: BTreeMap<&'static str, u64>,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (seed, wrong) in &self.failed {
            writeln!(f, "seed {seed} failed; `just simulate --trace {seed}` shows what happened")?;
            for what in wrong {
                writeln!(f, "    {what}")?;
            }
        }
        let met: Vec<String> = self.met.iter().map(|(what, count)| format!("{count} {what}")).collect();
        write!(
            f,
            "{} seeds, {} failed, in {:.1} s ({:.0} an hour); met: {}",
            self.seeds,
            self.failed.len(),
            self.took.as_secs_f64(),
            self.seeds as f64 / self.took.as_secs_f64().max(0.001) * 3_600.0,
            met.join(", ")
        )
    }
}

/// Lets worlds happen and judges them.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    let began = Instant::now();
    let next = AtomicU64::new(plan.from);
    let report = Mutex::new(Report::default());
    let told = Mutex::new(began);
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let late = plan.most.is_some_and(|most| began.elapsed() >= most);
                    if late || report.lock().failed.len() >= plan.stop_at {
                        return;
                    }
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= plan.from.saturating_add(plan.seeds) {
                        return;
                    }
                    let options = Options { plant: plan.plant, plain: plan.plain, ..Options::default() };
                    let outcome = crate::simulate(seed, options);
                    let mut report = report.lock();
                    report.seeds += 1;
                    for (what, count) in outcome.met {
                        *report.met.entry(what).or_default() += count;
                    }
                    if let Some(tell) = plan.tell {
                        if !outcome.wrong.is_empty() {
                            tell(Progress::Failed(seed, &outcome.wrong));
                        }
                        let mut told = told.lock();
                        if told.elapsed() >= TOLD {
                            *told = Instant::now();
                            let failed = report.failed.len() + usize::from(!outcome.wrong.is_empty());
                            tell(Progress::Ended(report.seeds, plan.seeds, failed, began.elapsed()));
                        }
                    }
                    if !outcome.wrong.is_empty() {
                        report.failed.insert(seed, outcome.wrong);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner();
    report.took = began.elapsed();
    report
}
