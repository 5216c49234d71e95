//! The command line.
//!
//! Online commands ask a running daemon over its admin API and know nothing of its insides; `check` and `map` load providers
//! under the daemon's own limits and have no side effects; `run` hands the configuration to `app`. Text for people on standard output, or
//! JSON with `--json`; errors on standard error as `error: …` with their causes. Exit status: 0 success, 1 failure, 64 wrong usage or
//! configuration.

mod args;
mod case;
mod cases;
mod check;
mod client;
mod deletes;
mod failure;
mod fields;
mod live;
mod map;
mod matches;
mod new;
mod online;
mod provider;
mod room;
mod rules;
mod run;
mod show;
mod story;
mod table;

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command};
use self::failure::{Failure, USAGE};

/// The main file, unless another is named.
const CONFIG: &str = "tandem.toml";

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    // Who set another one before is right as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hardened = crate::telemetry::harden();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Nobody reads it any more: nothing is left to tell.
            let _ = error.print();
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let config = cli.config.or_else(|| std::env::var_os("TANDEM_CONFIG").map(PathBuf::from));
    let config = config.unwrap_or_else(|| PathBuf::from(CONFIG));
    let done = match cli.command {
        Command::Version => version(cli.json),
        Command::Run(run) => run::run(&config, &run, cli.json, hardened),
        Command::Check(check) => check::check(&config, &check, cli.json),
        Command::Map(map) => map::map(&config, &map, cli.json),
        Command::Rules(args::Rules::Test(asked)) => rules::test(&config, &asked, cli.json),
        Command::Provider(args::Provider::New(asked)) => new::new(&asked, cli.json),
        Command::Provider(args::Provider::Test(asked)) => cases::test(&config, &asked, cli.json),
        Command::Provider(args::Provider::Check(asked)) => provider::check(&config, &asked, cli.json),
        Command::Provider(args::Provider::Fields(asked)) => fields::fields(&config, &asked, cli.json),
        online => on_one_thread(online::ask(&config, online, cli.json)),
    };
    match done.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = std::io::stderr().write_all(failure.text.as_bytes());
            ExitCode::from(failure.status)
        }
    }
}

/// Writes to standard output; a reader that has gone away is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused("standard output cannot be written", &error))
        }
        _ => Ok(()),
    }
}

fn on_one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(&error))?.block_on(work)
}

fn version(json: bool) -> Result<String, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        return online::pretty(&serde_json::json!({ "version": version }));
    }
    Ok(format!("tandem {version}\n"))
}
