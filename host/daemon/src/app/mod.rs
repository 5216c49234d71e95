//! The daemon put together: build the rooms, run them, drain them.
//!
//! Threads, the async runtime, files and ports are wired here and nowhere else. A connection whose file or provider cannot be
//! used is named and leaves the others working; its queue waits in the store.

mod build;
mod clock;
mod control;
mod directory;
mod edit;
mod facts;
mod limits;
mod look;
mod matching;
mod pauses;
mod providers;
mod registrations;
mod review;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tandem_core::Millis;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::link::Link;
use tokio::sync::{Notify, watch};

pub use clock::SystemClock;
pub use directory::Accounts;
pub use limits::runtime_config;

use crate::admin::view::HintView;
use crate::config::{Config, ConnectionConfig};
use crate::delivery::Client;
use crate::intake::Intake;
use crate::internal::embedded::Embedded;
use crate::internal::embedded::api::ApiState;
use crate::pipeline::{Clock as _, Connection, Pipeline, PipelineError};
use crate::provider::Providers;
use crate::quota::{Extent, Quotas};
use crate::store::sled::SledStore;
use crate::store::{Class, Commit, Op, Store as _, StoreError, Subject, Until};
use crate::telemetry::{Metrics, Totals};

/// The pipeline with the rooms of the real world.
pub type RealPipeline = Pipeline<SledStore, Providers, Client<Accounts>, Embedded, SystemClock>;

/// Counters of quotas that changed are saved so often, and when the daemon ends. What must not be lost is saved at once.
const SAVE_COUNTERS: Duration = Duration::from_secs(5);

/// Where the counters of all were kept before each connection and app had its own.
const COUNTERS: &str = "quota/counters";

/// The running daemon.
pub struct Engine {
    config: Arc<Config>,
    pipeline: Arc<RealPipeline>,
    store: Arc<SledStore>,
    internal: Arc<Embedded>,
    runtime: Arc<Providers>,
    quotas: Arc<Quotas>,
    accounts: Arc<Accounts>,
    intake: Arc<Intake<SledStore>>,
    metrics: Arc<Metrics>,
    clock: Arc<SystemClock>,
    wake: Arc<Notify>,
    looks: work::Looks,
    registrations: registrations::Registrations,
    /// What first syncs would find.
    reports: matching::Reports,
    /// Files of connections as they are in use.
    files: Mutex<BTreeMap<ConnectionId, Arc<ConnectionConfig>>>,
    /// What their secrets were when they were taken up.
    fingerprints: Mutex<BTreeMap<ConnectionId, [u8; 32]>>,
    /// Files of connections that could not be taken up, as they were then.
    seen_refused: Mutex<BTreeMap<ConnectionId, Arc<ConnectionConfig>>>,
    /// Connections whose accounts are asked about themselves at the next look, whenever that was done last.
    asked_anew: Mutex<BTreeSet<ConnectionId>>,
    /// Objects that a person had looked at as a whole before the account answered.
    looked_early: Mutex<BTreeMap<ConnectionId, BTreeSet<ObjectName>>>,
    /// One question at a time for each connection: whoever comes second waits for what the first one learns.
    asking: Mutex<BTreeMap<ConnectionId, Arc<tokio::sync::Mutex<()>>>>,
    /// Connections that cannot be used, and why.
    refused: Mutex<BTreeMap<ConnectionId, Vec<String>>>,
    /// Which versions of providers serve.
    shelf: providers::Shelf,
    /// Their files.
    archive: providers::Archive,
    /// Connections' files as they were read last.
    read: Mutex<crate::config::Read>,
    /// One change of providers at a time: taken before the turn.
    admitting: tokio::sync::Mutex<()>,
    /// One change of what serves or is connected at a time. What takes long (compiling, the laws, trying every connection) is
    /// done before it is taken, so that a saved setting never waits for a provider.
    turn: tokio::sync::Mutex<()>,
    /// One pause or resume at a time.
    pausing: tokio::sync::Mutex<()>,
    started_at: Millis,
    itself: std::sync::Weak<Self>,
    /// The first connections were taken up.
    running: AtomicBool,
    draining: AtomicBool,
    stop: watch::Sender<bool>,
}

/// Why the daemon does not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration does not do.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be built.
    #[error("{0}")]
    Build(String),
    /// The work came to a halt.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The address cannot be listened on.
    #[error("http.listen: {address}: {what}; choose another address or port")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        what: String,
    },
}

/// Runs the daemon until SIGTERM, SIGINT or a shutdown by the API; `ready` is told the bound address.
///
/// # Errors
/// When it cannot be built, or when its store failed while it ran.
pub async fn run<F: FnOnce(std::net::SocketAddr)>(
    config: Config,
    until_stdin_closes: bool,
    ready: F,
) -> Result<(), AppError> {
    let config = Arc::new(config);
    let tokens = Arc::new(crate::admin::Tokens::read(&config.auth)?);
    // From here on a SIGHUP ends nothing; one that comes before the daemon is ready is followed when it is.
    let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    let engine = Engine::build(config.clone()).await?;
    let listener = crate::admin::listen(config.http.listen).map_err(|error| AppError::Listen {
        address: config.http.listen.to_string(),
        what: error.to_string(),
    })?;
    let address = listener.local_addr().map_err(|error| AppError::Listen {
        address: config.http.listen.to_string(),
        what: error.to_string(),
    })?;
    engine.intake.set_public_url(
        &config.http.public_url.as_ref().map_or_else(|| format!("http://{address}"), ToString::to_string),
    );
    let house = crate::admin::house(
        [
            crate::admin::router(engine.clone(), tokens.clone()),
            crate::admin::for_scopes(engine.internal_router(), tokens),
            engine.intake.router(),
        ],
        engine.metrics.clone(),
        config.http.max_body,
    );
    let serving = crate::admin::Serving {
        header_timeout: config.http.timeout,
        connections: 8192,
        grace: config.drain_grace,
    };
    let mut stopped = engine.stop.subscribe();
    let server = tokio::spawn(crate::admin::serve(listener, house, serving, async move {
        while !*stopped.borrow_and_update() {
            if stopped.changed().await.is_err() {
                break;
            }
        }
    }));
    let workers = config.limits.workers.get();
    let loops = tokio::spawn({
        let engine = engine.clone();
        async move {
            tokio::try_join!(
                work::hand_out(engine.clone(), workers, engine.stop.subscribe()),
                work::follow_feed(engine.clone(), engine.stop.subscribe()),
                work::look_around(engine.clone(), engine.stop.subscribe()),
                work::try_again(engine.clone(), engine.stop.subscribe()),
                providers::watch(engine.clone(), hangup, engine.stop.subscribe()),
                registrations::keep(engine.clone(), engine.stop.subscribe()),
                save_counters(engine.clone(), engine.stop.subscribe()),
            )
        }
    });
    ready(address);
    let mut loops = loops;
    let ended = tokio::select! {
        () = told_to_stop() => {
            tracing::info!("draining");
            None
        }
        () = stdin_closes(), if until_stdin_closes => {
            tracing::info!("standard input was closed; draining");
            None
        }
        () = wait_for_stop(&engine) => None,
        ended = &mut loops => Some(ended),
    };
    engine.draining.store(true, Ordering::Relaxed);
    engine.internal.drain();
    let _told = engine.stop.send(true);
    let ended = match ended {
        Some(ended) => ended,
        None => match tokio::time::timeout(config.drain_grace, &mut loops).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(
                    "work in flight did not end within drain_grace; it goes on after the next start"
                );
                Ok(Ok(((), (), (), (), (), (), ())))
            }
        },
    };
    let _served = tokio::time::timeout(config.drain_grace, server).await;
    engine.pipeline.keep_counters(Extent::Last).await?;
    let store = engine.store.clone();
    tokio::task::spawn_blocking(move || store.close())
        .await
        .map_err(|error| AppError::Build(error.to_string()))??;
    match ended {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(panicked) => Err(AppError::Build(format!("a loop of the daemon ended: {panicked}"))),
    }
}

async fn wait_for_stop(engine: &Engine) {
    let mut stop = engine.stop.subscribe();
    while !*stop.borrow_and_update() {
        if stop.changed().await.is_err() {
            break;
        }
    }
}

/// Returns when standard input is at its end: whoever started the daemon is gone.
async fn stdin_closes() {
    use tokio::io::AsyncReadExt as _;
    let mut input = tokio::io::stdin();
    let mut buffer = [0_u8; 256];
    while let Ok(read) = input.read(&mut buffer).await {
        if read == 0 {
            return;
        }
    }
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    match terminate {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _interrupted = tokio::signal::ctrl_c().await;
        }
    }
}

async fn save_counters(engine: Arc<Engine>, mut stop: watch::Receiver<bool>) -> Result<(), PipelineError> {
    let mut every = tokio::time::interval(SAVE_COUNTERS);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !*stop.borrow() {
        tokio::select! {
            _ = every.tick() => engine.pipeline.keep_counters(Extent::Changed).await?,
            () = engine.quotas.due() => engine.pipeline.keep_counters(Extent::Due).await?,
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

impl Engine {
    fn poll_every(&self, connection: &ConnectionId, object: &ObjectName, wish: u64) -> u64 {
        let files = self.files.lock();
        let file = files.get(connection);
        let own = file.and_then(|file| {
            file.objects.get(object).and_then(|object| object.poll_every).or(file.poll_every)
        });
        own.map_or(wish, |every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)).max(100)
    }

    fn walked_name(connection: &Connection, object: &ObjectName) -> String {
        format!("walked/{}/{object}", connection.id)
    }

    fn is_walked(&self, connection: &Connection, object: &ObjectName) -> Result<bool, StoreError> {
        Ok(self.store.value(&Self::walked_name(connection, object))?.is_some())
    }

    /// Whether every object of a connection has been walked.
    fn is_gone_through(&self, id: &ConnectionId) -> Result<bool, StoreError> {
        let Some(connection) = self.pipeline.connection(id) else { return Ok(false) };
        for object in connection.objects.keys() {
            if !self.is_walked(&connection, object)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn note_walk(&self, connection: &Connection, object: &ObjectName) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        let when = self.clock.now().to_string().into_bytes();
        commit.push(Op::PutValue(Self::walked_name(connection, object), when));
        self.store.commit(commit, Until::Applied).await
    }

    async fn forget_walk(&self, connection: &Connection, object: &ObjectName) -> Result<(), StoreError> {
        let mut commit = Commit::new();
        commit.push(Op::DropValue(Self::walked_name(connection, object)));
        self.store.commit(commit, Until::Applied).await
    }

    /// The fault that keeps the connection's component out of use.
    fn faulty(&self, connection: &ConnectionId) -> Option<String> {
        self.runtime.why_broken(connection)
    }

    /// Hints of a record that wait, as far as a short look shows them.
    fn waiting_hints(&self, entity: &EntityKey, links: &[Link]) -> Result<Vec<HintView>, StoreError> {
        let mut views = Vec::new();
        for connection in self.pipeline.connections().iter().filter(|found| found.scope == entity.scope) {
            let external = links
                .iter()
                .find(|link| link.connection == connection.id)
                .and_then(|link| link.external.clone());
            let mut hints = self.store.delayed(Millis::MAX, 4096)?;
            for class in Class::ALL {
                hints.extend(self.store.ready(&connection.id, class, 0, 1024)?);
            }
            views.extend(
                hints
                    .iter()
                    .filter(|hint| hint.connection == connection.id)
                    .filter(|hint| match &hint.subject {
                        Subject::Internal(id) => *id == entity.id && hint.object == entity.object,
                        Subject::External(id) => Some(id) == external.as_ref(),
                        Subject::Delivery(_) => false,
                    })
                    .map(HintView::from),
            );
        }
        Ok(views)
    }

    /// Brings what the components and the store count into the metrics.
    fn bring_totals(&self) {
        let figures = self.runtime.snapshot();
        let calls = figures.calls.iter();
        self.metrics.totals(&Totals {
            calls: calls.map(|call| (call.function, call.count, Duration::from_nanos(call.nanos))).collect(),
            dropped: vec![
                ("evicted", figures.evicted),
                ("retired", figures.retired),
                ("fault", figures.discarded),
            ],
            instances: figures.instances,
            instances_memory: figures.instance_bytes,
            commits: self.store.commits(),
            store_failed: self.store.has_failed(),
        });
    }

    fn internal_router(self: &Arc<Self>) -> axum::Router {
        crate::internal::embedded::api::router(ApiState::new(Embedded::clone(&self.internal)))
    }
}
