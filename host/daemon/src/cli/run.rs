//! `tandem run`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::args;
use super::failure::{Failure, USAGE};
use crate::app::{self, AppError};
use crate::config::Config;

/// Runs the daemon to its end. Prints its own line when it is ready.
pub(super) fn run(
    file: &Path,
    asked: &args::Run,
    json: bool,
    hardened: io::Result<()>,
) -> Result<String, Failure> {
    let config = Config::load(file)?;
    crate::telemetry::init(&config.log).map_err(|error| Failure::usage(error.to_string()))?;
    if let Err(error) = hardened {
        tracing::warn!(%error, "core dumps could not be switched off: one would hold secrets");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("tandem").build();
    let runtime = runtime.map_err(|error| Failure::new(&error))?;
    let data_dir = config.data_dir.clone();
    let ready = move |address: SocketAddr| {
        // A reader that has gone away does not stop the daemon.
        let _ = super::print(&announcement(address, &data_dir, json));
    };
    let ended = runtime.block_on(app::run(config, asked.until_stdin_closes, ready));
    // The thread that still waits for standard input would hold up the end.
    runtime.shutdown_background();
    ended.map_err(|error| match error {
        AppError::Config(error) => error.into(),
        AppError::Listen { .. } => Failure { status: USAGE, ..Failure::new(&error) },
        error => Failure::new(&error),
    })?;
    Ok(String::new())
}

fn announcement(address: SocketAddr, data_dir: &Path, json: bool) -> String {
    let api = format!("http://{address}");
    if json {
        return format!("{}\n", serde_json::json!({ "api": api }));
    }
    let (version, data_dir) = (env!("CARGO_PKG_VERSION"), data_dir.display());
    format!("tandem {version} is ready: API, webhooks and metrics at {api}, data in {data_dir}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_says_where_the_api_is() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        assert_eq!(announcement(address, Path::new("data"), true), "{\"api\":\"http://127.0.0.1:4711\"}\n");
        let text = announcement(address, Path::new("data"), false);
        assert!(
            text.ends_with("is ready: API, webhooks and metrics at http://127.0.0.1:4711, data in data\n"),
            "{text}"
        );
    }
}
