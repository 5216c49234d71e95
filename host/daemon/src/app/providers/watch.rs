//! The folders of providers and connections are watched: the folders, not the files, since files are replaced. What the
//! kernel tells is only a reason to look; a slow look beside it finds what it did not tell (network folders, overflows).

use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::Scan;
use crate::app::Engine;
use crate::pipeline::PipelineError;

/// Files that were written within this are written to still.
const QUIET: Duration = Duration::from_millis(120);

/// A folder that is never quiet is looked at after this all the same.
const RESTLESS: Duration = Duration::from_millis(600);

/// The slow look.
const SLOW: Duration = Duration::from_secs(5);

/// Follows both folders until told to stop. SIGHUP looks at everything again, also at what was refused.
pub(in crate::app) async fn watch(
    engine: Arc<Engine>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let changed = Arc::new(Notify::new());
    let tell = changed.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            tell.notify_one();
        }
    });
    // Kept for as long as this runs.
    let _watcher = match watcher {
        Ok(mut watcher) => {
            for folder in [&engine.config.providers_dir, &engine.config.connections_dir] {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    tracing::warn!(folder = %folder.display(), %error, "not watched; it is looked at every 5 s");
                }
            }
            Some(watcher)
        }
        Err(error) => {
            tracing::warn!(%error, "folders are not watched; they are looked at every 5 s");
            None
        }
    };
    let mut hangup = signal(SignalKind::hangup()).ok();
    // What was dropped in while the daemon did not run.
    let mut scan = Scan::Changed;
    loop {
        {
            let _turn = engine.turn.lock().await;
            if *stop.borrow() {
                return Ok(());
            }
            let looked = engine.scan_providers(scan).await;
            // Connections that were refused may have waited for this very version.
            let all = scan == Scan::All || !looked.swapped.is_empty();
            if let Err(error) = engine.reload_connections(all).await {
                tracing::error!(error, "the folder of connections cannot be read; all go on as they are");
            }
        }
        scan = Scan::Changed;
        tokio::select! {
            () = changed.notified() => quiet(&changed).await,
            () = tokio::time::sleep(SLOW) => {}
            () = hung_up(hangup.as_mut()) => {
                tracing::info!("SIGHUP: everything is looked at again");
                scan = Scan::All;
            }
            _ = stop.changed() => {}
        }
    }
}

async fn hung_up(signal: Option<&mut tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns when nothing was told for a moment.
async fn quiet(changed: &Notify) {
    let _restless = tokio::time::timeout(RESTLESS, async {
        while tokio::time::timeout(QUIET, changed.notified()).await.is_ok() {}
    })
    .await;
}
