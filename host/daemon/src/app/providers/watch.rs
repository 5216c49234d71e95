//! The folders of providers and connections are watched: the folders, not the files, since files are replaced. What the
//! kernel tells is only a reason to look; a slow look beside it finds what it did not tell (network folders, overflows).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::signal::unix::Signal;
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

/// Tells that there may be something to look at.
#[derive(Default)]
struct Bell {
    rung: Notify,
    /// Everything is to be looked at, also what was refused.
    all: AtomicBool,
}

impl Bell {
    /// Returns when it was rung and is quiet again.
    async fn heard(&self) {
        self.rung.notified().await;
        let _restless = tokio::time::timeout(RESTLESS, async {
            while tokio::time::timeout(QUIET, self.rung.notified()).await.is_ok() {}
        })
        .await;
    }
}

/// Follows both folders until told to stop, each in a loop of its own: a saved setting does not wait for a provider that is
/// being compiled. SIGHUP looks at everything again, also at what was refused.
pub(in crate::app) async fn watch(
    engine: Arc<Engine>,
    hangup: Option<Signal>,
    stop: watch::Receiver<bool>,
) -> Result<(), PipelineError> {
    let (providers, connections) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    // Kept for as long as this runs.
    let _watchers = [
        watcher(&engine.config.providers_dir, providers.clone()),
        watcher(&engine.config.connections_dir, connections.clone()),
    ];
    let bells = [providers.clone(), connections.clone()];
    tokio::join!(
        follow(&engine, Folder::Providers, &providers, stop.clone()),
        follow(&engine, Folder::Connections, &connections, stop.clone()),
        pass_on(hangup, bells, stop)
    );
    Ok(())
}

fn watcher(folder: &Path, bell: Arc<Bell>) -> Option<notify::RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            bell.rung.notify_one();
        }
    };
    let watcher = notify::recommended_watcher(told).and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "not watched; it is looked at every 5 s");
        })
        .ok()
}

/// A folder that is followed.
#[derive(Clone, Copy)]
enum Folder {
    Providers,
    Connections,
}

impl Folder {
    async fn look(self, engine: &Arc<Engine>, all: bool) {
        let looked = match self {
            Self::Providers => {
                let scan = if all { Scan::All } else { Scan::Changed };
                engine.look_at_providers(scan).await.map(drop)
            }
            Self::Connections => {
                let _turn = engine.turn.lock().await;
                engine.reload_connections(all).await.map(drop)
            }
        };
        if let Err(error) = looked {
            tracing::error!(error, "the folder of connections cannot be read; all go on as they are");
        }
    }
}

/// Looks now, for what was dropped in while the daemon did not run, and whenever the bell was rung.
async fn follow(engine: &Arc<Engine>, folder: Folder, bell: &Bell, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        folder.look(engine, bell.all.swap(false, Ordering::Relaxed)).await;
        tokio::select! {
            () = bell.heard() => {}
            () = tokio::time::sleep(SLOW) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn pass_on(mut hangup: Option<Signal>, bells: [Arc<Bell>; 2], mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        tokio::select! {
            () = hung_up(hangup.as_mut()) => {
                tracing::info!("SIGHUP: everything is looked at again");
                for bell in &bells {
                    bell.all.store(true, Ordering::Relaxed);
                    bell.rung.notify_one();
                }
            }
            _ = stop.changed() => {}
        }
    }
}

async fn hung_up(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
