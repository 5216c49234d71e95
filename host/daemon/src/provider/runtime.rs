//! The room from outside: load providers, make connections, visit them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tandem_core::id::{ConnectionId, ProviderId};
use tandem_core::laws::Looked;
use tokio::sync::oneshot;

use super::breaker::BreakerConfig;
use super::counters::{Counters, Snapshot};
use super::engine::{Engine, EngineConfig, EngineError};
use super::exercise::{self, Exercise};
use super::instance::{Instance, Stderr, Workshop};
use super::lane::{Lane, Message, QUEUE, Seated, Share, Suspects, Task, Visit, broken};
use super::limits::Limits;
use super::load::{self, Candidate, LoadError, LoadStep, SLOW_LOAD, Setup, Subject};
use super::measure::{self, Measured, Sample};
use super::registry::{Connection, Registry, Version};
use super::trial::{self, Stored, Trial};
use super::{Binding, Fault, FaultKind, Provider, Runtime, View};

/// Mappings that one instance may take: memory, its guards, its image, and what the kernel splits. Measured: 4.
const MAPPINGS: usize = 8;

/// How the room is built.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The engine.
    pub engine: EngineConfig,
    /// Bounds of every instance and call.
    pub limits: Limits,
    /// Breakers.
    pub breaker: BreakerConfig,
    /// Lanes besides that of the suspects. None: one for each core.
    pub lanes: Option<usize>,
    /// Linear memory that all warm instances together may have reached, in bytes. What they really touch is a fraction of it: see
    /// the guests' `measure` test.
    pub warm_bytes: usize,
    /// Warm instances together. Lowered to what `vm.max_map_count` allows.
    pub warm_instances: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            limits: Limits::default(),
            breaker: BreakerConfig::default(),
            lanes: None,
            warm_bytes: 4 << 30,
            warm_instances: 4096,
        }
    }
}

/// The room could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A lane's thread.
    #[error("cannot start a lane's thread: {reason}; allow the daemon more threads")]
    Thread {
        /// Why.
        reason: String,
    },
}

/// What became of a folder of providers.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Versions that are in use now.
    pub versions: Vec<Arc<Version>>,
    /// Files that are not.
    pub errors: Vec<LoadError>,
}

struct Inner {
    workshop: Workshop,
    registry: Registry,
    /// The last one is the suspects'.
    lanes: Vec<Lane>,
    breaker: BreakerConfig,
}

/// The providers of a daemon. Clones are the same one; the lanes end with the last.
#[derive(Clone)]
pub struct Providers(Arc<Inner>);

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers").field("lanes", &self.0.lanes.len()).finish_non_exhaustive()
    }
}

impl Providers {
    /// Builds the engine and starts the lanes.
    ///
    /// # Errors
    /// When the engine or a thread cannot be started.
    pub fn start(config: &RuntimeConfig) -> Result<Self, StartError> {
        let engine = Engine::new(&config.engine)?;
        let limits = Arc::new(config.limits.clone());
        let workshop = |start| Workshop {
            engine: engine.clone(),
            start,
            limits: Arc::clone(&limits),
            counters: Arc::new(Counters::default()),
            stderr: Stderr::Place,
        };
        let in_lane = limits.deadline_of_instance;
        let lanes = config
            .lanes
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, std::num::NonZero::get))
            .max(1);
        let most = (max_map_count() / 2 / MAPPINGS).min(config.warm_instances);
        let share = Share { bytes: config.warm_bytes / lanes, instances: (most / lanes).max(1) };
        // Suspects are few and are made anew after each fault: a small share of their own.
        let little = Share { bytes: share.bytes / 8, instances: (share.instances / 8).max(1) };
        let failed = |error: std::io::Error| StartError::Thread { reason: error.to_string() };

        let suspects =
            Lane::start("lane-suspects".to_owned(), workshop(in_lane), little, config.breaker.clone(), None)
                .map_err(failed)?;
        let mut all = Vec::with_capacity(lanes + 1);
        for index in 0..lanes {
            let way = Suspects { index: lanes, sender: suspects.sender.clone() };
            all.push(
                Lane::start(
                    format!("lane-{index}"),
                    workshop(in_lane),
                    share,
                    config.breaker.clone(),
                    Some(way),
                )
                .map_err(failed)?,
            );
        }
        all.push(suspects);
        Ok(Self(Arc::new(Inner {
            workshop: workshop(limits.deadline_of_admission),
            registry: Registry::default(),
            lanes: all,
            breaker: config.breaker.clone(),
        })))
    }

    /// Loads every `*.wasm` of a folder, in the order of their names. A file that fails stops no other.
    pub async fn load_folder(&self, folder: &Path) -> Loaded {
        let (this, folder) = (self.clone(), folder.to_owned());
        let shown = folder.display().to_string();
        tokio::task::spawn_blocking(move || this.load_folder_blocking(&folder)).await.unwrap_or_else(
            |error| Loaded {
                versions: Vec::new(),
                errors: vec![LoadError {
                    what: shown,
                    step: LoadStep::Read,
                    reason: format!("loading ended early: {error}"),
                    remedy: "start again".to_owned(),
                    incomplete: false,
                }],
            },
        )
    }

    /// [`Providers::load_folder`] for threads that may block.
    #[must_use]
    pub fn load_folder_blocking(&self, folder: &Path) -> Loaded {
        let mut loaded = Loaded::default();
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut files = match entries {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect::<Vec<_>>(),
            Err(error) => {
                loaded.errors.push(LoadError {
                    what: folder.display().to_string(),
                    step: LoadStep::Read,
                    reason: error.to_string(),
                    remedy: "make it a folder that the daemon can read".to_owned(),
                    incomplete: false,
                });
                return loaded;
            }
        };
        files.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
        files.sort();
        for path in files {
            match self.load_file_blocking(&path) {
                Ok(version) => loaded.versions.push(version),
                Err(error) => loaded.errors.push(error),
            }
        }
        loaded
    }

    /// Loads one file. For threads that may block.
    ///
    /// # Errors
    /// When it fails a step, or another file has given the same provider already.
    pub fn load_file_blocking(&self, path: &Path) -> Result<Arc<Version>, LoadError> {
        let began = Instant::now();
        let version = Arc::new(load::file(&self.0.workshop, path)?);
        if began.elapsed() > SLOW_LOAD {
            tracing::warn!(provider = %version.label, "loading took {} s", began.elapsed().as_secs());
        }
        self.0.registry.add_version(Arc::clone(&version)).map_err(|other| given_already(&version, &other))?;
        // The one that stands: another copy of the same file may have come first.
        Ok(self.0.registry.serving(&version.provider).unwrap_or(version))
    }

    /// Reads a file that may become a version, and nothing more. `shown_as`: the file that errors name, where it is another.
    ///
    /// # Errors
    /// When it cannot be read or is too large.
    pub fn read_blocking(&self, path: &Path, shown_as: Option<&Path>) -> Result<Candidate, LoadError> {
        Candidate::read(self.0.workshop.limits.component_bytes, path, shown_as)
    }

    /// Takes a file through every step that needs no connection; the laws on its examples and on so many made-up records
    /// of each object. Nothing is in use yet. For threads that may block.
    ///
    /// # Errors
    /// The step that it fails.
    pub fn inspect_blocking(
        &self,
        candidate: &Candidate,
        records: usize,
    ) -> Result<(Arc<Version>, Looked), LoadError> {
        let began = Instant::now();
        let version = Arc::new(load::inspect(&self.0.workshop, candidate)?);
        let looked = match records {
            0 => Looked::default(),
            records => trial::version(&self.0.workshop, &version, records)?,
        };
        if began.elapsed() > SLOW_LOAD {
            tracing::warn!(provider = %version.label, "loading took {} s", began.elapsed().as_secs());
        }
        Ok((version, looked))
    }

    /// Calls every function of a version on made-up input: with the settings that are given, or those of its first example.
    /// For threads that may block.
    ///
    /// # Errors
    /// When it cannot be configured with them.
    pub fn exercise_blocking(
        &self,
        version: &Version,
        setup: Option<&Setup>,
        now: u64,
    ) -> Result<Exercise, LoadError> {
        exercise::version(&self.0.workshop, version, setup, now).map_err(|reason| {
            Subject::file(&version.file).provider(&version.label).error(
                LoadStep::Configure,
                reason,
                "say with which settings it works, with --settings or in a golden example",
            )
        })
    }

    /// Measures what each function takes: the mapping on made-up records, with the settings that are given or those of the
    /// version's first example; exchanges and deliveries on golden cases. For threads that may block.
    #[must_use]
    pub fn measure_blocking(&self, version: &Version, setup: Option<&Setup>, samples: &[Sample]) -> Measured {
        measure::version(&self.0.workshop, version, setup, samples)
    }

    /// Configures a version for a connection, and tries it if told how. Nothing is in use yet. For threads that may block.
    ///
    /// # Errors
    /// The step that it fails. The connection stays as it was.
    pub fn bind_blocking(
        &self,
        version: &Arc<Version>,
        id: &ConnectionId,
        setup: &Setup,
        trial: Option<(&Stored, &Trial)>,
    ) -> Result<Binding, LoadError> {
        let before = self.0.registry.connection(id);
        let workshop = &self.0.workshop;
        let (connection, mut instance) = load::connection(workshop, version, id, setup, before.as_deref())?;
        if let Some((stored, trial)) = trial {
            trial::connection(workshop, &connection, &mut instance, stored, trial)?;
        }
        Ok(bound(Arc::new(connection)))
    }

    /// Makes bindings the ones that connections have from now on. Who holds another one goes on with it.
    pub fn put(&self, bindings: &[Binding]) {
        self.0.registry.put(bindings.iter().filter_map(Binding::inner).collect());
    }

    /// Lets a version serve: connections that are made from now on get it.
    pub fn serve(&self, version: Arc<Version>) {
        self.0.registry.serve(version);
    }

    /// No version of a provider serves any more.
    pub fn retire(&self, provider: &ProviderId) {
        self.0.registry.retire(provider);
    }

    /// What a connection is bound to.
    ///
    /// # Errors
    /// When there is no such connection.
    pub fn binding(&self, connection: &ConnectionId) -> Result<Binding, Fault> {
        self.connection(connection).map(bound)
    }

    /// What is known of a connection's provider.
    ///
    /// # Errors
    /// When there is no such connection.
    pub fn view(&self, connection: &ConnectionId) -> Result<Arc<View>, Fault> {
        self.connection(connection).map(|connection| Arc::clone(&connection.view))
    }

    /// The version that a connection is bound to.
    #[must_use]
    pub fn version_of(&self, connection: &ConnectionId) -> Option<Arc<Version>> {
        self.0.registry.connection(connection).map(|connection| Arc::clone(&connection.version))
    }

    /// [`Runtime::visit`] with what the connection is bound to at this moment.
    ///
    /// # Errors
    /// The component's fault, or that there is no such connection.
    pub async fn visit<R, F>(&self, connection: &ConnectionId, job: F) -> Result<R, Fault>
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Provider) -> Result<R, Fault> + Send + 'static,
    {
        Runtime::visit(self, &self.binding(connection)?, job).await
    }

    /// The versions in use.
    #[must_use]
    pub fn versions(&self) -> Vec<Arc<Version>> {
        self.0.registry.all_serving()
    }

    /// The version of a provider that a new connection gets.
    #[must_use]
    pub fn version(&self, provider: &ProviderId) -> Option<Arc<Version>> {
        self.0.registry.serving(provider)
    }

    /// Makes a connection, or gives one that is there other settings or facts. What is under way ends with what it began with.
    ///
    /// # Errors
    /// When there is no such provider, the settings do not fit its schema, or it refuses them. The connection stays as it was.
    pub async fn connect(
        &self,
        connection: &ConnectionId,
        provider: &ProviderId,
        setup: Setup,
    ) -> Result<Arc<View>, LoadError> {
        let wanted = vec![(connection.clone(), provider.clone(), setup)];
        let mut made = self.connect_all(wanted).await;
        made.pop().unwrap_or_else(|| Err(interrupted(connection)))
    }

    /// [`Providers::connect`] for many at once, in their order. One that fails stops no other.
    pub async fn connect_all(
        &self,
        wanted: Vec<(ConnectionId, ProviderId, Setup)>,
    ) -> Vec<Result<Arc<View>, LoadError>> {
        let this = self.clone();
        let names: Vec<ConnectionId> = wanted.iter().map(|(id, ..)| id.clone()).collect();
        tokio::task::spawn_blocking(move || this.connect_all_blocking(&wanted))
            .await
            .unwrap_or_else(|_| names.iter().map(|id| Err(interrupted(id))).collect())
    }

    /// [`Providers::connect_all`] for threads that may block.
    #[must_use]
    pub fn connect_all_blocking(
        &self,
        wanted: &[(ConnectionId, ProviderId, Setup)],
    ) -> Vec<Result<Arc<View>, LoadError>> {
        let mut connections = Vec::with_capacity(wanted.len());
        let mut answers = Vec::with_capacity(wanted.len());
        for (id, provider, setup) in wanted {
            match self.prepare(id, provider, setup) {
                Ok(connection) => {
                    answers.push(Ok(Arc::clone(&connection.view)));
                    connections.push(Arc::new(connection));
                }
                Err(error) => answers.push(Err(error)),
            }
        }
        self.0.registry.put(connections);
        answers
    }

    fn prepare(
        &self,
        id: &ConnectionId,
        provider: &ProviderId,
        setup: &Setup,
    ) -> Result<Connection, LoadError> {
        let version = self.0.registry.serving(provider).ok_or_else(|| LoadError {
            what: format!("connection {id}"),
            step: LoadStep::Connection,
            reason: format!("there is no provider {provider}"),
            remedy: "put its .wasm into the folder of providers, or mend the connection's `provider`"
                .to_owned(),
            incomplete: false,
        })?;
        let before = self.0.registry.connection(id);
        load::connection(&self.0.workshop, &version, id, setup, before.as_deref())
            .map(|(connection, _)| connection)
    }

    /// Takes a connection out. Visits under way end as they began; later ones find nothing.
    pub fn disconnect(&self, connection: &ConnectionId) {
        let Some(removed) = self.0.registry.remove(connection) else { return };
        let placement = removed.seat.placement.lock();
        let (home, at) = (placement.home, placement.at);
        drop(placement);
        if let Some(lane) = home.and_then(|lane| self.0.lanes.get(lane)) {
            lane.homes.fetch_sub(1, Ordering::Relaxed);
        }
        for lane in [home, at].into_iter().flatten() {
            self.forget(lane, connection);
        }
    }

    fn forget(&self, lane: usize, connection: &ConnectionId) {
        if let Some(lane) = self.0.lanes.get(lane) {
            // A full lane keeps it until it is the one used least lately: harmless, only late.
            let _ = lane.sender.try_send(Message::Forget(connection.clone()));
        }
    }

    /// Figures for telemetry.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.add(&self.0.workshop.counters);
        for lane in &self.0.lanes {
            snapshot.add(&lane.counters);
            snapshot.waiting += (QUEUE - lane.sender.capacity()) as u64;
        }
        (snapshot.connections, snapshot.breakers_open) = self.0.registry.figures(&self.0.breaker);
        snapshot
    }

    /// Why a connection's component is out of use after faults in a row: the last of them in words, with provider, version, digest and
    /// limit. None: it is in use.
    #[must_use]
    pub fn why_broken(&self, connection: &ConnectionId) -> Option<String> {
        let connection = self.0.registry.connection(connection)?;
        let breaker = connection.breaker.lock();
        breaker.said().filter(|_| breaker.tripped(&self.0.breaker, Instant::now)).map(ToOwned::to_owned)
    }

    /// Digests of what a connection runs with: component, settings, facts. For history, and to see whether anything changed.
    #[must_use]
    pub fn digests(&self, connection: &ConnectionId) -> Option<[[u8; 32]; 3]> {
        let connection = self.0.registry.connection(connection)?;
        Some([connection.version.digest, connection.settings_digest, connection.facts_digest])
    }

    fn connection(&self, id: &ConnectionId) -> Result<Arc<Connection>, Fault> {
        self.0.registry.connection(id).ok_or_else(|| Fault {
            provider: format!("of connection {id}"),
            call: "visit".to_owned(),
            kind: FaultKind::Absent {
                what: "there is no such connection, or its provider was not loaded".to_owned(),
            },
        })
    }

    /// The lane for a connection with nothing under way: its home, or the suspects' if it faulted lately.
    fn seat(&self, connection: &Arc<Connection>) -> (Seated, usize) {
        let suspect = connection.breaker.lock().suspect(&self.0.breaker, Instant::now);
        let suspects = self.0.lanes.len() - 1;
        let (seated, lane, left) = Seated::take(connection, |placement| {
            if suspect {
                return suspects;
            }
            *placement.home.get_or_insert_with(|| {
                let homes = |lane: &(usize, &Lane)| lane.1.homes.load(Ordering::Relaxed);
                let least = self.0.lanes.iter().take(suspects).enumerate().min_by_key(homes);
                least.map_or(0, |(index, lane)| {
                    lane.homes.fetch_add(1, Ordering::Relaxed);
                    index
                })
            })
        });
        if let Some(left) = left {
            self.forget(left, &connection.id);
        }
        (seated, lane)
    }
}

fn bound(connection: Arc<Connection>) -> Binding {
    Binding::new(connection.id.clone(), Arc::clone(&connection.view), connection)
}

fn given_already(version: &Version, other: &Version) -> LoadError {
    LoadError {
        what: format!("{}: provider {}", version.file.display(), version.label),
        step: LoadStep::Descriptor,
        reason: format!("{} gives provider {} already", other.file.display(), other.label),
        remedy: "leave one file for each provider in the folder".to_owned(),
        incomplete: false,
    }
}

fn interrupted(connection: &ConnectionId) -> LoadError {
    LoadError {
        what: format!("connection {connection}"),
        step: LoadStep::Connection,
        reason: "it ended early".to_owned(),
        remedy: "try again".to_owned(),
        incomplete: false,
    }
}

/// How many mappings the kernel gives a process.
fn max_map_count() -> usize {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65_530)
}

/// A visit's job on its way there and its result on the way back: one allocation.
struct Job<R, F> {
    job: Option<F>,
    reply: oneshot::Sender<Result<R, Fault>>,
    result: Option<Result<R, Fault>>,
}

impl<R, F> Task for Job<R, F>
where
    R: Send,
    F: FnOnce(&mut dyn Provider) -> Result<R, Fault> + Send,
{
    fn run(&mut self, instance: Result<&mut Instance, Fault>) {
        // Nobody waits any more: leave the instance alone.
        if self.reply.is_closed() {
            return;
        }
        if let Some(job) = self.job.take() {
            self.result = Some(instance.and_then(|instance| job(instance)));
        }
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            let _ = self.reply.send(result);
        }
    }
}

impl Runtime for Providers {
    async fn visit<R, F>(&self, binding: &Binding, job: F) -> Result<R, Fault>
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Provider) -> Result<R, Fault> + Send + 'static,
    {
        let connection = binding.inner::<Connection>().ok_or_else(|| Fault {
            provider: binding.view().label.clone(),
            call: "visit".to_owned(),
            kind: FaultKind::Absent { what: "the binding is not one of this runtime".to_owned() },
        })?;
        let open = connection.breaker.lock().check(Instant::now);
        if let Err(open) = open {
            let fault = broken(&connection, open.faults, open.wait);
            self.0.workshop.counters.fault(&fault.kind);
            return Err(fault);
        }
        let (seated, lane) = self.seat(&connection);
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Job { job: Some(job), reply, result: None });
        let label = Arc::clone(&connection.version.label);
        let gone = |what: &str| Fault {
            provider: label.to_string(),
            call: "visit".to_owned(),
            kind: FaultKind::Absent { what: what.to_owned() },
        };
        let message = Message::Visit(Visit { connection, task, seated });
        let Some(lane) = self.0.lanes.get(lane) else { return Err(gone("its lane is gone")) };
        if let Err(refused) = lane.sender.try_send(message) {
            lane.sender.send(refused.into_inner()).await.map_err(|_| gone("its lane is gone"))?;
        }
        answer.await.map_err(|_| gone("the visit ended without an answer"))?
    }
}
