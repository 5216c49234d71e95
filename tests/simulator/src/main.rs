//! The simulator as a program. It prints one line of JSON when it listens, and nothing more.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tandem_simulator::{Config, Simulator};

/// As in the daemon, so that the benchmark's share of the machine is not the allocator's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stands for HubSpot: as strict as its documentation allows one to know, and disturbed on demand.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    api: SocketAddr,
    /// Where the control API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Also speak TLS, on a port of its own, with a test authority that is made at each start.
    #[arg(long)]
    tls: bool,
    /// Where the API listens over TLS.
    #[arg(long, default_value = "127.0.0.1:0")]
    tls_address: SocketAddr,
    /// Where the test authority's certificate is written (PEM).
    #[arg(long, requires = "tls")]
    ca_out: Option<PathBuf>,
    /// End when standard input closes or the parent process is gone.
    #[arg(long)]
    exit_with_parent: bool,
    /// Apps and accounts to begin with: a JSON array of {"app": …, "accounts": […]} as the control API takes them.
    #[arg(long)]
    accounts_file: Option<PathBuf>,
    /// Do not count requests that the published description does not allow.
    #[arg(long)]
    lenient: bool,
    /// Seed of everything random.
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let result = runtime.block_on(run(arguments));
    // Requests that are withheld on purpose must not hold the end up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    // Nobody is left to tell when this fails too.
    let _ = writeln!(std::io::stderr(), "tandem-simulator: {message}");
    ExitCode::FAILURE
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let accounts = match &arguments.accounts_file {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            serde_json::from_slice(&text).map_err(|e| format!("{} is not understood: {e}", path.display()))?
        }
    };
    let config = Config {
        api: arguments.api,
        control: arguments.control,
        tls: arguments.tls.then_some(arguments.tls_address),
        strict: !arguments.lenient,
        seed: arguments.seed.unwrap_or(Config::default().seed),
        accounts,
    };
    let simulator = Simulator::start(config).await.map_err(|e| e.to_string())?;
    let mut line = serde_json::Map::new();
    line.insert("api".to_owned(), simulator.api_url().into());
    line.insert("control".to_owned(), simulator.control_url().into());
    if let (Some(tls), Some(authority)) = (simulator.tls_url(), simulator.authority()) {
        line.insert("tls".to_owned(), tls.into());
        if let Some(path) = &arguments.ca_out {
            std::fs::write(path, authority).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
            line.insert("ca".to_owned(), path.display().to_string().into());
        }
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::Value::Object(line))
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("cannot print: {e}"))?;
    let parent = async {
        if arguments.exit_with_parent {
            orphaned().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    tokio::select! {
        () = simulator.ended() => {}
        () = parent => {}
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    simulator.shutdown();
    Ok(())
}

/// Waits until standard input closes or this process gets another parent.
async fn orphaned() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    // A thread of its own: reading standard input cannot be cancelled.
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
        // The other end is gone only when the program ends anyway.
        let _ = closed.send(());
    });
    let parent = std::os::unix::process::parent_id();
    let adopted = async {
        while std::os::unix::process::parent_id() == parent {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::select! {
        _ = wait => {}
        () = adopted => {}
    }
}
