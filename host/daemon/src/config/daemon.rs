//! The main file, `tandem.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem_core::id::{ProviderId, ScopeId};
use url::Url;

use super::place::{Finding, Place};
use super::raw::{Section, Source};
use super::secret::Secret;
use super::words::{NAME_RULE, is_name};

/// The daemon's configuration, checked whole.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// `data_dir`: where the store and the embedded System A keep their files.
    pub data_dir: PathBuf,
    /// `providers_dir`: where the components of providers lie. Default: `providers`.
    pub providers_dir: PathBuf,
    /// `connections_dir`: one file for each connection. Default: `connections`.
    pub connections_dir: PathBuf,
    /// `drain_grace`: how long work in flight may take to finish after SIGTERM. What is not finished then is in the store and goes on after
    /// the next start. Default: 20 s.
    pub drain_grace: Duration,
    /// `[http]`
    pub http: Http,
    /// `[auth]`
    pub auth: Auth,
    /// `[system_a]`
    pub system_a: SystemA,
    /// `[limits]`
    pub limits: Limits,
    /// `[retry]`
    pub retry: Retry,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[quota]`
    pub quota: Quota,
    /// `[log]`
    pub log: Log,
    /// `[apps.NAME]`: our registrations with CRM vendors.
    pub apps: BTreeMap<String, Arc<App>>,
}

/// The daemon's own HTTP server: admin API, System A's API and webhooks on one address.
#[derive(Clone, Debug)]
pub struct Http {
    /// `listen`: address and port; port 0 takes a free one. Ignored when the listener is handed over (socket activation). Default: 127.0.0.1:7070.
    pub listen: SocketAddr,
    /// `public_url`: the address under which CRMs reach the webhooks, as they sign it. No trailing slash. None: the listening address.
    pub public_url: Option<Url>,
    /// `max_body`: longest body of a request. Default: 4 MiB.
    pub max_body: usize,
    /// `timeout`: longest time for reading a request, and for a request that is not a stream. Default: 30 s.
    pub timeout: Duration,
}

/// Who may ask for what.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `admin`: the token that may do everything.
    pub admin: Secret,
    /// `metrics`: a token that may read `/metrics` and nothing else.
    pub metrics: Option<Secret>,
    /// `[auth.scopes]`: tokens that may read and write the records of one scope in System A, and nothing else.
    pub scopes: BTreeMap<ScopeId, Secret>,
}

/// What System A is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemA {
    /// A record store in the daemon, with its own files below `data_dir`.
    Embedded,
}

/// Limits of the daemon as a whole and of each provider instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `lanes`: threads that run providers. None: one for each core.
    pub lanes: Option<NonZeroUsize>,
    /// `workers`: records that are worked on at once. Default: 2048, which is 13,600 calls of 150 ms a second.
    pub workers: NonZeroUsize,
    /// `instance_memory`: linear memory of one provider instance, in bytes. Default: 32 MiB.
    pub instance_memory: u64,
    /// `instances_memory`: linear memory of all warm instances together, in bytes (they touch about a tenth of it); the least recently used are dropped above it. Default: 4 GiB.
    pub instances_memory: u64,
    /// `call_deadline`: longest time of one call of a provider, before the part that grows with its input. Default: 100 ms.
    pub call_deadline: Duration,
    /// `max_document`: longest canonical or provider document, in bytes of JSON. Default: 256 KiB.
    pub max_document: usize,
}

/// When work that failed is tried again: first after `first`, then each time twice as late, up to `most`, with jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// `attempts`: after so many the record is set aside. Waiting for a quota, a breaker or an authorisation does not count. Default: 12.
    pub attempts: u32,
    /// `first`: default 1 s.
    pub first: Duration,
    /// `most`: default 15 min.
    pub most: Duration,
}

/// The HTTP client.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// `connect_timeout`: default 5 s.
    pub connect_timeout: Duration,
    /// `timeout`: from the first byte sent to the last one received. Default: 30 s.
    pub timeout: Duration,
    /// `max_response`: longest answer of a CRM, in bytes. Default: 16 MiB.
    pub max_response: usize,
    /// `extra_ca`: PEM file with authorities that are trusted beside the system's.
    pub extra_ca: Option<PathBuf>,
}

/// How quotas are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// `share`: percent of each of the CRM's quotas that Tandem may use; the rest is left to the customer's other integrations. Default: 100.
    pub share: u32,
    /// `reserve`: percent of Tandem's part that reconciliation and backfill may not touch. Default: 10.
    pub reserve: u32,
}

/// The log, on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `format`: "text" (default) or "json".
    pub format: LogFormat,
    /// `level`: "error", "warn", "info" (default), "debug" or "trace". `TANDEM_LOG` wins; it may also name rooms: `info,tandem::pipeline=debug`.
    pub level: LogLevel,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// From which level on the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// Something went wrong and was recovered from.
    Warn,
    /// Life cycle.
    Info,
    /// Single records, without contents.
    Debug,
    /// Everything, without contents.
    Trace,
}

impl LogLevel {
    /// The level's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// One of our registrations with a CRM vendor; connections refer to it by its name in the file.
#[derive(Clone, Debug)]
pub struct App {
    /// The name in the file.
    pub name: String,
    /// `provider`
    pub provider: ProviderId,
    /// `app_id`: the vendor's id of the app, where webhooks name it.
    pub app_id: Option<String>,
    /// `client_id`: for OAuth.
    pub client_id: Option<String>,
    /// `client_secret`: for OAuth, and for webhooks that are signed with it.
    pub client_secret: Option<Secret>,
    /// `[apps.NAME.secrets]`: further secrets under the names that the provider's descriptor uses.
    pub secrets: BTreeMap<String, Secret>,
    /// Where the configuration says so.
    pub place: Place,
}

impl App {
    /// Every secret of the app.
    pub fn all_secrets(&self) -> impl Iterator<Item = &Secret> {
        self.client_secret.iter().chain(self.secrets.values())
    }

    /// A secret by the name that a descriptor uses: one of `secrets`, or the client secret under `client_secret`.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name).or_else(|| {
            let is_client_secret = matches!(name, "client_secret" | "client-secret");
            self.client_secret.as_ref().filter(|_| is_client_secret)
        })
    }
}

impl Config {
    /// Every secret of the main file, for checking that all can be read.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let auth = [Some(&self.auth.admin), self.auth.metrics.as_ref()];
        let apps = self.apps.values().flat_map(|app| app.all_secrets());
        auth.into_iter().flatten().chain(self.auth.scopes.values()).chain(apps)
    }

    /// Reads the text of a main file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn read(file: &Path, text: &str) -> Result<Self, Vec<Finding>> {
        let source = Source::new(file, text);
        let table = source.parse();
        let config = table.as_ref().and_then(|table| read(file, source.root(table)));
        #[cfg(test)]
        super::tests::note_asked("config.schema.json", &source);
        let findings = source.into_findings();
        match config {
            Some(config) if findings.is_empty() => Ok(config),
            _ => Err(findings),
        }
    }
}

fn read(file: &Path, root: Section<'_>) -> Option<Config> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let data_dir = root
        .required("data_dir", "say where the data lies, for example data_dir = \"data\"")
        .and_then(|v| v.path());
    let providers_dir = root.value("providers_dir").and_then(|v| v.path());
    let connections_dir = root.value("connections_dir").and_then(|v| v.path());
    let drain_grace = root.value("drain_grace").and_then(|v| v.duration(Duration::ZERO..=HOUR));
    let http = read_http(root.section("http"));
    let auth = read_auth(root.section("auth"));
    let system_a = read_system_a(root.section("system_a"));
    let limits = read_limits(root.section("limits"));
    let retry = read_retry(root.section("retry"));
    let delivery = read_delivery(root.section("delivery"));
    let quota = read_quota(root.section("quota"));
    let log = read_log(root.section("log"));
    let apps = read_apps(root.section("apps"));
    root.finish();
    Some(Config {
        file: file.to_owned(),
        data_dir: data_dir?,
        providers_dir: providers_dir.unwrap_or_else(|| folder.join("providers")),
        connections_dir: connections_dir.unwrap_or_else(|| folder.join("connections")),
        drain_grace: drain_grace.unwrap_or(Duration::from_secs(20)),
        http,
        auth: auth?,
        system_a,
        limits,
        retry,
        delivery,
        quota,
        log,
        apps,
    })
}

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn read_http(http: Section<'_>) -> Http {
    let listen = http.value("listen").and_then(|v| v.address());
    let public_url = http.value("public_url").and_then(|v| v.url());
    let max_body = http.value("max_body").and_then(|v| v.size(64 * KIB..=GIB));
    let timeout = http.value("timeout").and_then(|v| v.duration(Duration::from_secs(1)..=10 * MINUTE));
    http.finish();
    Http {
        listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7070))),
        public_url,
        max_body: bytes(max_body, 4 * MIB),
        timeout: timeout.unwrap_or(Duration::from_secs(30)),
    }
}

fn read_auth(auth: Section<'_>) -> Option<Auth> {
    let admin = auth
        .required("admin", "every API needs a token; write [auth] admin = { file = \"admin.token\" }")
        .and_then(|v| v.secret());
    let metrics = auth.value("metrics").and_then(|v| v.secret());
    let mut scopes = BTreeMap::new();
    for (scope, value) in auth.section("scopes").entries() {
        if !is_name(scope) {
            value.fail::<()>(format!("{scope:?} is not a scope's name; {NAME_RULE}"));
        }
        if let Some(secret) = value.secret() {
            scopes.insert(ScopeId::from(scope), secret);
        }
    }
    auth.finish();
    Some(Auth { admin: admin?, metrics, scopes })
}

fn read_system_a(system_a: Section<'_>) -> SystemA {
    let kind = system_a.value("kind").and_then(|v| v.one_of(&[("embedded", SystemA::Embedded)]));
    system_a.finish();
    kind.unwrap_or(SystemA::Embedded)
}

fn read_limits(limits: Section<'_>) -> Limits {
    let lanes = limits.value("lanes").and_then(|v| v.count(256));
    let workers = limits.value("workers").and_then(|v| v.count(65_536));
    let instance_memory = limits.value("instance_memory").and_then(|v| v.size(MIB..=GIB));
    let instances_memory = limits.value("instances_memory").and_then(|v| v.size(MIB..=1024 * GIB));
    let call_deadline = limits.value("call_deadline").and_then(|v| v.duration(10 * MS..=MINUTE));
    let max_document = limits.value("max_document").and_then(|v| v.size(KIB..=4 * MIB));
    limits.finish();
    Limits {
        lanes: lanes.map(count),
        workers: workers.map_or(const { NonZeroUsize::MIN.saturating_add(2047) }, count),
        instance_memory: instance_memory.unwrap_or(32 * MIB),
        instances_memory: instances_memory.unwrap_or(4 * GIB),
        call_deadline: call_deadline.unwrap_or(100 * MS),
        max_document: bytes(max_document, 256 * KIB),
    }
}

fn read_retry(retry: Section<'_>) -> Retry {
    let attempts = retry.value("attempts").and_then(|v| v.count(1_000));
    let first = retry.value("first").and_then(|v| v.duration(MS..=HOUR)).unwrap_or(1_000 * MS);
    let most = retry.value("most").and_then(|v| v.duration(MS..=24 * HOUR)).unwrap_or(15 * MINUTE);
    if most < first {
        retry.fail(
            Some("most"),
            "is shorter than retry.first; the waiting time grows from first to most".to_owned(),
        );
    }
    retry.finish();
    Retry { attempts: attempts.map_or(12, std::num::NonZeroU32::get), first, most }
}

fn read_delivery(delivery: Section<'_>) -> Delivery {
    let connect_timeout = delivery.value("connect_timeout").and_then(|v| v.duration(10 * MS..=5 * MINUTE));
    let timeout = delivery.value("timeout").and_then(|v| v.duration(10 * MS..=10 * MINUTE));
    let max_response = delivery.value("max_response").and_then(|v| v.size(KIB..=GIB));
    let extra_ca = delivery.value("extra_ca").and_then(|v| v.path());
    delivery.finish();
    Delivery {
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
        timeout: timeout.unwrap_or(Duration::from_secs(30)),
        max_response: bytes(max_response, 16 * MIB),
        extra_ca,
    }
}

fn read_quota(quota: Section<'_>) -> Quota {
    let share = quota.value("share").and_then(|v| v.integer(1..=100));
    let reserve = quota.value("reserve").and_then(|v| v.integer(0..=90));
    quota.finish();
    Quota { share: percent(share, 100), reserve: percent(reserve, 10) }
}

fn read_log(log: Section<'_>) -> Log {
    let format =
        log.value("format").and_then(|v| v.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]));
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let level = log.value("level").and_then(|v| v.one_of(&levels.map(|level| (level.name(), level))));
    log.finish();
    Log { format: format.unwrap_or(LogFormat::Text), level: level.unwrap_or(LogLevel::Info) }
}

fn read_apps(apps: Section<'_>) -> BTreeMap<String, Arc<App>> {
    let mut read = BTreeMap::new();
    for (name, value) in apps.entries() {
        if !is_name(name) {
            value.fail::<()>(format!("{name:?} is not an app's name; {NAME_RULE}"));
        }
        let place = value.place();
        let Some(app) = value.section() else { continue };
        let provider = app
            .required("provider", "name the provider, for example provider = \"starter\"")
            .and_then(|v| v.name());
        let app_id = app.value("app_id").and_then(|v| v.text()).map(str::to_owned);
        let client_id = app.value("client_id").and_then(|v| v.text()).map(str::to_owned);
        let client_secret = app.value("client_secret").and_then(|v| v.secret());
        let secrets = read_secrets(app.section("secrets"));
        app.finish();
        if let Some(provider) = provider {
            let provider = ProviderId::from(provider);
            let name = name.to_owned();
            read.insert(
                name.clone(),
                Arc::new(App { name, provider, app_id, client_id, client_secret, secrets, place }),
            );
        }
    }
    read
}

/// Secrets by the names that a provider's descriptor uses.
pub(super) fn read_secrets(secrets: Section<'_>) -> BTreeMap<String, Secret> {
    let entries = secrets.entries().into_iter();
    entries.filter_map(|(name, value)| value.secret().map(|secret| (name.to_owned(), secret))).collect()
}

fn bytes(read: Option<u64>, default: u64) -> usize {
    usize::try_from(read.unwrap_or(default)).unwrap_or(usize::MAX)
}

fn count(read: std::num::NonZeroU32) -> NonZeroUsize {
    NonZeroUsize::try_from(read).unwrap_or(NonZeroUsize::MIN)
}

fn percent(read: Option<u64>, default: u32) -> u32 {
    read.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
}
