//! `tandem-simulation`: many worlds, or one with its trace.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tandem_simulation::{Options, Plan, Plant, Progress, run, simulate};

/// Simulates the whole engine: each seed is a world of its own.
#[derive(Parser)]
#[command(name = "tandem-simulation")]
struct Args {
    /// How many seeds.
    #[arg(default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Worlds at once, each in a thread of its own.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Stops after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Shows everything that happens in the world of this seed, and nothing else.
    #[arg(long)]
    trace: Option<u64>,
    /// Plants a bug, to see it found: its name as in the source.
    #[arg(long)]
    plant: Option<String>,
    /// Nothing but what the common dice say: nobody is erased.
    #[arg(long)]
    plain: bool,
}

/// On standard error, so that the report alone is on standard output.
#[expect(clippy::print_stderr, reason = "a program that shows")]
fn tell(progress: Progress<'_>) {
    match progress {
        Progress::Failed(seed, wrong) => eprintln!("seed {seed} failed: {}", wrong.join("; ")),
        Progress::Ended(ended, of, failed, took) => {
            eprintln!("{ended} of {of} seeds, {failed} failed, after {} s", took.as_secs());
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program that shows")]
fn main() -> ExitCode {
    let args = Args::parse();
    let plant = match args.plant.as_deref().map(|name| (name, Plant::named(name))) {
        None => None,
        Some((_, Some(plant))) => Some(plant),
        Some((name, None)) => {
            println!("there is no planted bug {name}; there are {:?}", Plant::ALL);
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = args.trace {
        let outcome = simulate(seed, Options { plant, traced: true, plain: args.plain });
        println!("seed {seed}: {}\n{}", outcome.setting, outcome.trace);
        return if outcome.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let report = run(&Plan {
        from: args.from,
        seeds: args.seeds,
        threads: args.threads,
        most: args.seconds.map(Duration::from_secs),
        plant,
        plain: args.plain,
        stop_at: usize::MAX,
        tell: Some(tell),
    });
    println!("{report}");
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
