//! From the configuration to the rooms, and from a connection's file to a connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tandem_core::descriptor::ConnectionDescriptor;
use tandem_core::document;
use tandem_core::id::{ConnectionId, ObjectName};
use tandem_core::places::Places;
use tandem_core::policy::{Flow, ObjectPolicy};
use tandem_core::schema::{CanonicalSchema, Schema};
use tokio::sync::{Notify, watch};

use super::directory::fingerprint;
use super::pauses::Pauses;
use super::providers::{Archive, RECORDS_OF_CONNECTION, Scan, Shelf};
use super::{Accounts, AppError, COUNTERS, Engine, SystemClock};
use crate::admin::view::Reloaded;
use crate::config::{Config, ConnectionConfig, Connections, ObjectConfig};
use crate::credentials::{Credentials, FileTokens};
use crate::delivery::{Client, ClientConfig};
use crate::intake::{Door, Intake, Route, Strangers};
use crate::internal::embedded::{Embedded, EmbeddedOptions};
use crate::pipeline::{Clock as _, Connection, Directions, Limits, Object, Pipeline, Rooms};
use crate::provider::{Binding, Providers, Setup, Trial};
use crate::quota::{QuotaConfig, Quotas};
use crate::store::sled::{Options, SledStore};
use crate::store::{Commit, Op, Store as _, Until};
use crate::telemetry::Metrics;

/// Canonical objects that System A keeps.
const OBJECTS: [&str; 1] = ["contact"];

impl Engine {
    /// Opens the store and System A, loads providers and connections. Opens no port.
    pub(super) async fn build(config: Arc<Config>) -> Result<Arc<Self>, AppError> {
        let clock = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        std::fs::create_dir_all(&config.data_dir).map_err(|error| {
            AppError::Build(format!(
                "data_dir: {}: {error}; choose another folder",
                config.data_dir.display()
            ))
        })?;
        let queue = config.data_dir.join("queue");
        let store = Arc::new(
            tokio::task::spawn_blocking(move || SledStore::open(&queue, Options::default()))
                .await
                .map_err(|error| AppError::Build(error.to_string()))??,
        );
        let records = config.data_dir.join("system-a");
        let mut objects = BTreeMap::new();
        for object in OBJECTS {
            if let Some(schema) = CanonicalSchema::built_in(object) {
                objects.insert(
                    ObjectName::from(object),
                    schema.map_err(|error| AppError::Build(error.to_string()))?,
                );
            }
        }
        let options = EmbeddedOptions {
            max_document: config.limits.max_document.min(150 << 10),
            ..EmbeddedOptions::new(objects)
        };
        let internal = Arc::new(
            tokio::task::spawn_blocking(move || Embedded::open(&records, options))
                .await
                .map_err(|error| AppError::Build(error.to_string()))?
                .map_err(|error| AppError::Build(error.to_string()))?,
        );
        let runtime = Arc::new(
            Providers::start(&super::limits::runtime_config(&config))
                .map_err(|error| AppError::Build(error.to_string()))?,
        );
        let archive = config.data_dir.join("providers");
        let archive = Archive::open(archive.clone())
            .map_err(|error| AppError::Build(format!("data_dir: {}: {error}", archive.display())))?;
        let quotas =
            Arc::new(Quotas::new(QuotaConfig { share: config.quota.share, reserve: config.quota.reserve }));
        separate_counters(&store).await?;
        let tokens = FileTokens::new(&config.data_dir.join("tokens"))
            .map_err(|error| AppError::Build(format!("data_dir: tokens: {error}")))?;
        let credentials = Arc::new(Credentials::new(Arc::new(tokens)));
        let accounts = Arc::new(Accounts::new(credentials));
        let client = Client::new(
            &ClientConfig {
                connect_timeout: config.delivery.connect_timeout,
                timeout: config.delivery.timeout,
                max_response: config.delivery.max_response,
                extra_ca: config.delivery.extra_ca.clone(),
            },
            accounts.clone(),
        )
        .map_err(|error| AppError::Build(error.to_string()))?;
        if let Err(error) = super::matching::forget_reports(&config.data_dir) {
            tracing::warn!(%error, "what reports of an earlier run left cannot be removed from data_dir/match");
        }
        let wake = Arc::new(Notify::new());
        let pipeline = Arc::new(Pipeline::new(
            Rooms {
                store: store.clone(),
                runtime: runtime.clone(),
                deliver: Arc::new(client),
                internal: internal.clone(),
                clock: clock.clone(),
                quotas: quotas.clone(),
                metrics: metrics.clone(),
            },
            Limits {
                attempts: config.retry.attempts,
                backoff_ms: millis(config.retry.first),
                backoff_max_ms: millis(config.retry.most),
                ..Limits::default()
            },
            {
                let wake = wake.clone();
                Box::new(move || wake.notify_one())
            },
        ));
        let intake =
            Arc::new(Intake::new(store.clone(), metrics.clone(), Box::new(move || SystemClock.now()), {
                let pipeline = pipeline.clone();
                Arc::new(move |hints| pipeline.arrive(hints))
            }));
        let engine = Arc::new_cyclic(|itself| Self {
            itself: itself.clone(),
            started_at: clock.now(),
            pipeline,
            store,
            internal,
            runtime,
            quotas,
            accounts,
            intake,
            metrics,
            clock,
            wake,
            looks: super::work::Looks::default(),
            registrations: super::registrations::Registrations::default(),
            reports: super::matching::Reports::default(),
            files: Mutex::default(),
            fingerprints: Mutex::default(),
            refused: Mutex::default(),
            seen_refused: Mutex::default(),
            asked_anew: Mutex::default(),
            looked_early: Mutex::default(),
            asking: Mutex::default(),
            shelf: Shelf::default(),
            archive,
            read: Mutex::default(),
            admitting: tokio::sync::Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            pausing: tokio::sync::Mutex::default(),
            running: false.into(),
            draining: false.into(),
            stop: watch::channel(false).0,
            config,
        });
        engine.read_deployments()?;
        engine.read_registrations()?;
        engine.load_archived().await;
        engine.scan_providers(Scan::First).await;
        engine.reload_connections(true).await.map_err(AppError::Build)?;
        engine.pipeline.forget_absent().await?;
        engine.running.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(engine)
    }

    /// Reads the folder of connections: new and changed files are taken up, wrong ones are named and leave what was there.
    /// `all`: also what files point at, secrets, is read again, and what was refused is tried again.
    ///
    /// One at a time: the caller holds the turn, or nobody else is there yet.
    pub(super) async fn reload_connections(self: &Arc<Self>, all: bool) -> Result<Reloaded, String> {
        let config = self.config.clone();
        let mut cache = std::mem::take(&mut *self.read.lock());
        let (read, changed, cache) = tokio::task::spawn_blocking(move || {
            let read = Connections::load_again(&config, &mut cache);
            (read, cache.changed(), cache)
        })
        .await
        .map_err(|error| error.to_string())?;
        *self.read.lock() = cache;
        let read = read.map_err(|error| error.to_string())?;
        if !all && !changed {
            return Ok(Reloaded::default());
        }
        let known = if all { BTreeMap::new() } else { self.fingerprints.lock().clone() };
        let files = self.files.lock().clone();
        let good = read.good.clone();
        let fingerprints = tokio::task::spawn_blocking(move || -> BTreeMap<ConnectionId, [u8; 32]> {
            // A file that stayed the same object was not read again: its secrets count as before unless all is asked for.
            let as_before = |id: &ConnectionId, file: &Arc<ConnectionConfig>| {
                files.get(id).filter(|before| Arc::ptr_eq(before, file)).and_then(|_| known.get(id)).copied()
            };
            good.iter()
                .map(|(id, file)| (id.clone(), as_before(id, file).unwrap_or_else(|| fingerprint(file))))
                .collect()
        })
        .await
        .map_err(|error| error.to_string())?;
        let mut reloaded = Reloaded::default();
        let before = self.files.lock().clone();
        for bad in &read.bad {
            let findings: Vec<String> = bad.findings.iter().map(ToString::to_string).collect();
            for finding in &findings {
                tracing::error!(connection = %bad.id, finding, "a connection's file cannot be used");
            }
            reloaded.refused.insert(bad.id.clone(), findings);
        }
        let stays = |id: &ConnectionId| read.good.contains_key(id) || reloaded.refused.contains_key(id);
        let gone: Vec<ConnectionId> = before.keys().filter(|id| !stays(id)).cloned().collect();
        self.files.lock().retain(|id, _| !gone.contains(id));
        self.end_registrations_without(stays, &gone).await;
        for id in &gone {
            self.drop_connection(id, before.get(id).map(Arc::as_ref)).await;
        }
        reloaded.removed.extend(gone);
        let mut wanted = Vec::new();
        for (id, file) in &read.good {
            let changed = match before.get(id) {
                Some(known)
                    if (Arc::ptr_eq(known, file) || same_file(known, file))
                        && self.fingerprints.lock().get(id) == fingerprints.get(id) =>
                {
                    continue;
                }
                Some(_) => true,
                // It was refused before, and nothing has changed.
                None if !all
                    && self.seen_refused.lock().get(id).is_some_and(|seen| Arc::ptr_eq(seen, file)) =>
                {
                    if let Some(why) = self.refused.lock().get(id) {
                        reloaded.refused.insert(id.clone(), why.clone());
                    }
                    continue;
                }
                None => false,
            };
            wanted.push((id.clone(), file.clone(), changed));
        }
        let tried: BTreeMap<ConnectionId, Arc<ConnectionConfig>> =
            wanted.iter().map(|(id, file, _)| (id.clone(), file.clone())).collect();
        self.take_up(wanted, &mut reloaded).await;
        {
            let mut seen = self.seen_refused.lock();
            seen.retain(|id, _| read.good.contains_key(id));
            for (id, file) in tried {
                match reloaded.refused.contains_key(&id) {
                    true => seen.insert(id, file),
                    false => seen.remove(&id),
                };
            }
        }
        let mut known = self.fingerprints.lock();
        for id in reloaded.added.iter().chain(&reloaded.changed) {
            known.extend(fingerprints.get(id).map(|fingerprint| (id.clone(), *fingerprint)));
        }
        known.retain(|id, _| read.good.contains_key(id));
        drop(known);
        let mut refused = self.refused.lock();
        for id in reloaded.added.iter().chain(&reloaded.changed).chain(&reloaded.removed) {
            refused.remove(id);
        }
        for (id, why) in &reloaded.refused {
            refused.insert(id.clone(), why.clone());
        }
        drop(refused);
        self.open_doors();
        Ok(reloaded)
    }

    async fn take_up(
        self: &Arc<Self>,
        wanted: Vec<(ConnectionId, Arc<ConnectionConfig>, bool)>,
        reloaded: &mut Reloaded,
    ) {
        // At the start what served is taken up as it was; later a change is tried before it counts.
        let running = self.running.load(std::sync::atomic::Ordering::Relaxed);
        let (engine, files) =
            (self.clone(), wanted.iter().map(|(_, file, _)| file.clone()).collect::<Vec<_>>());
        let prepared = tokio::task::spawn_blocking(move || {
            let trial = Trial::new(RECORDS_OF_CONNECTION, engine.clock.now());
            files.iter().map(|file| engine.bind(file, running.then_some(&trial))).collect::<Vec<_>>()
        })
        .await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "connections were not taken up");
                return;
            }
        };
        // A pause that cannot be read is no leave to go on.
        let (pauses, unread) = match self.pauses() {
            Ok(pauses) => (pauses, None),
            Err(error) => (Pauses::default(), Some(error.to_string())),
        };
        let mut connections = Vec::new();
        let mut bindings = Vec::new();
        for ((id, file, changed), prepared) in wanted.into_iter().zip(prepared) {
            let made = match &unread {
                Some(error) => Err(vec![error.clone()]),
                None => prepared.and_then(|prepared| self.install(prepared)),
            };
            match made {
                Ok(mut connection) => {
                    let before = self.files.lock().get(&id).cloned();
                    if let Some(before) = before.filter(|before| before.scope != file.scope) {
                        self.leave_scope(&before).await;
                    }
                    if let Some(known) = self.pipeline.connection(&id) {
                        connection.directions = known.directions.clone();
                    }
                    let paused = pauses.of(&id);
                    connection.directions.pause_external(file.paused || paused.to_external);
                    connection.directions.pause_internal(file.paused || paused.to_internal);
                    connection.directions.disable(self.shelf.disabled(&file.provider));
                    bindings.push(connection.binding.clone());
                    self.files.lock().insert(id.clone(), file);
                    connections.push(connection);
                    if changed {
                        self.ask_anew(&id);
                        reloaded.changed.push(id);
                    } else {
                        reloaded.added.push(id);
                    }
                }
                Err(why) => {
                    for finding in &why {
                        tracing::error!(connection = %id, finding, "a connection cannot be used");
                    }
                    // What it lacks may have been made in the account meanwhile.
                    self.ask_anew(&id);
                    reloaded.refused.insert(id, why);
                }
            }
        }
        self.runtime.put(&bindings);
        for binding in &bindings {
            let (id, provider) = (binding.connection(), &binding.view().provider);
            let own = self.runtime.version_of(id).map(|version| version.digest);
            if own == self.runtime.version(provider).map(|version| version.digest)
                && let Err(error) = self.caught_up(provider, id).await
            {
                tracing::error!(%error, "that a connection follows again cannot be noted");
            }
        }
        // What stopped a connection may be what was mended.
        for id in &reloaded.changed {
            self.quotas.clear(id);
        }
        // From the beginning the feed brings everything; who comes later is given what is there.
        if let Ok(false) = self.pipeline.has_followed_feed() {
            for connection in &connections {
                if let Err(error) = self.pipeline.note_seeded(&connection.id).await {
                    tracing::error!(%error, "the beginning of a connection cannot be noted");
                }
            }
        }
        if let Err(error) = self.pipeline.note_places(&mut connections).await {
            tracing::error!(%error, "where the fields of a connection were before cannot be read or noted");
        }
        let looks: Vec<(ConnectionId, Vec<ObjectName>)> = connections
            .iter()
            .map(|connection| (connection.id.clone(), connection.objects.keys().cloned().collect()))
            .collect();
        if let Err(error) = self.pipeline.connect(connections) {
            tracing::error!(%error, "the queue of a connection cannot be read");
        }
        // Not before they are connected: a look at a connection that is not there is the last one.
        for (id, objects) in &looks {
            for object in objects {
                let first = self.clock.now().saturating_add(self.clock.jitter(1_000));
                self.looks.plan(first, id, object);
            }
        }
        for id in &reloaded.changed {
            tracing::info!(connection = %id, "a connection works with its changed file");
        }
        if let Err(error) = self.pipeline.release(&reloaded.changed.iter().cloned().collect()) {
            tracing::error!(%error, "what waits for another try cannot be read; it is tried when its time has come");
        }
    }

    /// Configures a connection's file on the version that it gets: the one that serves, or, if it stays behind and still
    /// cannot follow, the one that it has. `trial`: how it is tried first.
    pub(super) fn bind(
        &self,
        file: &Arc<ConnectionConfig>,
        trial: Option<&Trial>,
    ) -> Result<Prepared, Vec<String>> {
        let setup = || Setup { settings: file.settings.clone(), facts: self.facts(&file.id) };
        let serving = self.runtime.version(&file.provider).ok_or_else(|| {
            vec![format!(
                "{}: provider: there is no provider {}; put its .wasm into {}, or mend the name",
                file.file.display(),
                file.provider,
                self.config.providers_dir.display()
            )]
        });
        let stays = self.shelf.version_for(&file.id, &file.provider);
        let one = |version: &Arc<crate::provider::Version>| match trial {
            Some(trial) => self
                .try_blocking(version, file, trial)
                .map_err(|why| vec![format!("{}: provider {}: {why}", file.file.display(), version.label)]),
            None => self
                .runtime
                .bind_blocking(version, &file.id, &setup(), None)
                .map_err(|error| vec![error.to_string()])
                .and_then(|binding| self.prepare(file, &binding)),
        };
        match stays {
            None => one(&serving?),
            Some(own) if trial.is_none() => one(&own),
            // Other settings may be what lets it follow.
            Some(own) => one(&serving?).or_else(|_| one(&own)),
        }
    }

    /// A connection from its file and what its provider says, with everything that could be wrong with it looked at. Nothing
    /// has changed yet.
    pub(super) fn prepare(
        &self,
        file: &Arc<ConnectionConfig>,
        binding: &Binding,
    ) -> Result<Prepared, Vec<String>> {
        let mut findings = Vec::new();
        let described = overridden(file, &binding.view().connection);
        let mut objects = HashMap::new();
        for (name, object) in file.enabled() {
            match self.object(file, name, object, &described) {
                Ok(object) => {
                    objects.insert(name.clone(), object);
                }
                Err(finding) => findings.push(finding),
            }
        }
        if file.register_webhooks && binding.view().descriptor.webhooks.is_none() {
            findings.push(format!(
                "{}: register_webhooks: provider {} has no webhooks; take it out, what changed is asked for",
                file.file.display(),
                file.provider
            ));
        }
        let verify = binding.view().descriptor.webhooks.as_ref().map(|webhooks| &webhooks.verify);
        if let (true, Some(verify)) = (file.register_webhooks, verify) {
            match verify.secret() {
                Some(name) if file.secret(name).is_none() => findings.push(format!(
                    "{}: secrets.{name}: missing; without it the webhooks that register_webhooks asks for are refused",
                    file.file.display()
                )),
                _ => {}
            }
        }
        if let Err(more) = self.accounts.check(file, binding.view(), &described) {
            findings.extend(more);
        }
        if let Err(error) = Quotas::check(&described.quotas) {
            findings.push(format!("{}: {error}", file.file.display()));
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        let directions = Directions::default();
        directions.await_facts(!self.was_ever_asked(&file.id));
        let connection = Connection {
            id: file.id.clone(),
            scope: file.scope.clone(),
            objects,
            rules: file.rules.clone(),
            directions: Arc::new(directions),
            since: 0,
            binding: binding.clone(),
        };
        Ok(Prepared { file: file.clone(), connection, described })
    }

    /// Its endpoint, credentials and quotas take effect. It fails only where a secret's file went since it was prepared.
    pub(super) fn install(&self, prepared: Prepared) -> Result<Connection, Vec<String>> {
        let Prepared { file, connection, described } = prepared;
        let mut findings = Vec::new();
        if let Err(more) = self.accounts.put(&file, connection.binding.view(), &described) {
            findings.extend(more);
        }
        let app = file.app.as_ref().map(|app| app.name.as_str());
        for name in self.quotas.to_restore(&file.id, app) {
            match self.store.value(&name) {
                Ok(Some(value)) => {
                    if let Err(error) = self.quotas.restore(&name, &value) {
                        tracing::warn!(name, %error, "counters of quotas cannot be read");
                    }
                }
                Ok(None) => {}
                Err(error) => findings.push(format!("{}: {name}: {error}", file.file.display())),
            }
        }
        if let Err(error) = self.quotas.configure(&file.id, app, &described.quotas) {
            findings.push(format!("{}: {error}", file.file.display()));
        }
        if findings.is_empty() { Ok(connection) } else { Err(findings) }
    }

    fn object(
        &self,
        file: &ConnectionConfig,
        name: &ObjectName,
        object: &ObjectConfig,
        described: &ConnectionDescriptor,
    ) -> Result<Object, String> {
        let place = format!("{}: objects.{name}", file.file.display());
        let offered = described.objects.get(name.as_str()).ok_or_else(|| {
            let known: Vec<&str> = described.objects.keys().map(String::as_str).collect();
            format!("{place}: provider {} has no such object; it has {}", file.provider, known.join(", "))
        })?;
        if object.archives && !offered.abilities.archives {
            return Err(format!(
                "{place}.on_internal_delete: provider {} does not say that what is deleted there can be restored; \
                 use delete, detach or ignore",
                file.provider
            ));
        }
        let canonical = canonical_schemas()
            .map_err(|error| error.to_string())?
            .remove(name.as_str())
            .ok_or_else(|| format!("{place}: there is no canonical object of that name"))?;
        refuse_defaults(&object.policy, &canonical).map_err(|(pointer, why)| {
            format!("{}: objects.{name}.fields.\"{pointer}\".default: {why}", file.file.display())
        })?;
        let compile = |what: &str, schema: &Value| {
            Schema::compile(&format!("{}/{name}/{what}", file.provider), schema)
                .map_err(|error| format!("{place}: {error}"))
        };
        let read = Arc::new(compile("schema", &offered.schema)?);
        let write = match &offered.write_schema {
            Some(schema) => Arc::new(compile("write-schema", schema)?),
            None => read.clone(),
        };
        Ok(Object {
            policy: whole_policy(&object.policy, object.direction, &canonical, offered),
            canonical,
            read,
            write,
            abilities: offered.abilities.clone(),
            places: Places::of(&offered.fields),
        })
    }

    /// What a connection leaves behind whose file is not in use any more.
    async fn drop_connection(&self, id: &ConnectionId, file: Option<&ConnectionConfig>) {
        self.pipeline.disconnect(id);
        self.runtime.disconnect(id);
        self.quotas.remove(id);
        self.accounts.remove(id);
        self.looks.forget(id);
        if let Some(file) = file {
            self.leave_scope(file).await;
            if let Err(error) = self.caught_up(&file.provider, id).await {
                tracing::error!(%error, "that a connection was removed cannot be noted");
            }
        }
    }

    /// The feed brings this connection nothing any more: if it comes back, it is given what is there.
    async fn leave_scope(&self, file: &ConnectionConfig) {
        if let Err(error) = self.pipeline.forget_seed(&file.id).await {
            tracing::error!(%error, "that a connection left cannot be noted");
        }
    }

    /// Doors for all connections that have webhooks, and for the apps whose webhooks say whose they are.
    pub(super) fn open_doors(&self) {
        let files = self.files.lock();
        let mut doors = Vec::new();
        let mut accounts: BTreeMap<String, HashMap<String, ConnectionId>> = BTreeMap::new();
        for file in files.values() {
            let Some(version) = self.runtime.version(&file.provider) else { continue };
            let Some(webhooks) = version.descriptor.webhooks.clone() else { continue };
            if let (Some(app), Some(account)) = (&file.app, &file.account) {
                accounts.entry(app.name.clone()).or_default().insert(account.clone(), file.id.clone());
            }
            doors.push(Door {
                path: format!("connection/{}", file.id),
                provider: file.provider.clone(),
                secrets: super::directory::webhook_secrets(&webhooks, |name| file.secret(name)),
                webhooks,
                route: Route::Connection(file.id.clone()),
                strangers: Strangers::default(),
            });
        }
        drop(files);
        for (name, app) in &self.config.apps {
            let Some(version) = self.runtime.version(&app.provider) else { continue };
            let Some(webhooks) = version.descriptor.webhooks.clone() else { continue };
            // Without a place for the account nothing that came in could be anybody's: there is no such address, then.
            if webhooks.account.is_none() {
                continue;
            }
            doors.push(Door {
                path: format!("app/{name}"),
                provider: app.provider.clone(),
                secrets: super::directory::webhook_secrets(&webhooks, |secret| app.secret(secret)),
                webhooks,
                route: Route::Accounts(accounts.remove(name).unwrap_or_default()),
                strangers: Strangers::default(),
            });
        }
        self.intake.open(doors);
    }
}

/// A connection that can be put to work: nothing of it has taken effect.
pub(super) struct Prepared {
    pub(super) file: Arc<ConnectionConfig>,
    connection: Connection,
    described: ConnectionDescriptor,
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The same settings. Where secrets are found is part of it, what they are is not.
fn same_file(known: &ConnectionConfig, read: &ConnectionConfig) -> bool {
    format!("{known:?}") == format!("{read:?}")
}

/// The canonical schemas by object; compiled once.
fn canonical_schemas() -> Result<BTreeMap<&'static str, Arc<CanonicalSchema>>, AppError> {
    static COMPILED: std::sync::OnceLock<BTreeMap<&'static str, Arc<CanonicalSchema>>> =
        std::sync::OnceLock::new();
    if let Some(compiled) = COMPILED.get() {
        return Ok(compiled.clone());
    }
    let mut compiled = BTreeMap::new();
    for object in OBJECTS {
        if let Some(schema) = CanonicalSchema::built_in(object) {
            compiled.insert(object, Arc::new(schema.map_err(|error| AppError::Build(error.to_string()))?));
        }
    }
    Ok(COMPILED.get_or_init(|| compiled).clone())
}

/// What the provider says of the connection, with what the operator says in its place.
fn overridden(file: &ConnectionConfig, described: &ConnectionDescriptor) -> ConnectionDescriptor {
    let mut described = described.clone();
    if let Some(base_url) = &file.base_url {
        described.base_url.clone_from(base_url);
    }
    for quota in &mut described.quotas {
        if let Some(own) = file.quotas.get(&quota.name) {
            quota.limit = own.limit;
            if let Some(per) = own.per {
                quota.per_ms = Some(millis(per));
            }
        }
    }
    described
}

/// Counters that an earlier version stored in one value get a value each, so that only those that changed are written.
async fn separate_counters(store: &SledStore) -> Result<(), AppError> {
    let Some(all) = store.value(COUNTERS)? else { return Ok(()) };
    let mut commit = Commit::new();
    match Quotas::separated(&all) {
        Ok(values) => {
            for (name, value) in values {
                commit.push(Op::PutValue(name, value));
            }
        }
        Err(error) => tracing::warn!(%error, "counters of quotas cannot be read"),
    }
    commit.push(Op::DropValue(COUNTERS.into()));
    store.commit(commit, Until::Durable).await?;
    Ok(())
}

/// Values that a record cannot be created with: of another kind than the field's, of an identity field, of a set.
fn refuse_defaults(policy: &ObjectPolicy, canonical: &CanonicalSchema) -> Result<(), (String, String)> {
    let base = canonical.policy_base();
    for (pointer, value) in &policy.filled {
        let refused = |why: &str| Err((pointer.clone(), why.to_owned()));
        if base.identity.contains(pointer) {
            return refused(
                "an identity field has no default: everybody without a value would be the same one; take it out",
            );
        }
        if base.sets.contains(pointer) {
            return refused("a set has no default; take it out");
        }
        let fields = BTreeMap::from([(pointer.clone(), value.clone())]);
        if let Err(problems) = canonical.validate(&document::value(&fields))
            && let Some(problem) = problems
                .iter()
                .find(|problem| problem.pointer.as_deref().is_none_or(|at| at.starts_with(pointer)))
        {
            return refused(&format!("{}; write a value that the field can have", problem.message));
        }
    }
    Ok(())
}

/// The file's policy, with what the schemas say: groups, sets, identity, normalisers, and the fields that are mapped.
fn whole_policy(
    policy: &ObjectPolicy,
    direction: Flow,
    canonical: &CanonicalSchema,
    offered: &tandem_core::descriptor::ObjectDescriptor,
) -> ObjectPolicy {
    use tandem_core::descriptor::Direction;
    let base = canonical.policy_base();
    let mut whole = ObjectPolicy {
        groups: base.groups,
        sets: base.sets,
        identity: base.identity,
        normalise: base.normalise,
        mapped: offered.fields.keys().cloned().collect(),
        event_times: offered.abilities.event_times,
        ..policy.clone()
    };
    for (pointer, field) in &offered.fields {
        if let Some(normaliser) = &field.normalise {
            whole.normalise.insert(pointer.clone(), normaliser.clone());
        }
        let one_way = match field.direction {
            Direction::Both => direction,
            Direction::ToProvider => Flow::ToExternal,
            Direction::ToCanonical => Flow::ToInternal,
        };
        if one_way != Flow::Both {
            let mut own = whole.field(pointer);
            own.flow = one_way;
            whole.fields.insert(pointer.clone(), own);
        }
    }
    if direction == Flow::ToExternal {
        whole.create_internal = false;
    }
    if direction == Flow::ToInternal {
        whole.create_external = false;
    }
    whole
}
