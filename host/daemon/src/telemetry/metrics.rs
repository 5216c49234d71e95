//! The registry and its typed metrics: whoever counts something calls a method here and cannot invent a label.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tandem_core::id::{ConnectionId, ProviderId};

use super::names;

/// Bounds of all histograms, in seconds: 10 µs to a minute.
const BOUNDS: [f64; 21] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Stages of the path of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the arrival of a webhook until it is durable.
    Intake,
    /// From being noticed, or due again, until it is taken. What is put back is taken again.
    QueueWait,
    /// From being taken to the end: looking at both sides, planning, mapping, the CRM's answers, the commit.
    Work,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Intake, Self::QueueWait, Self::Work];

    fn name(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::QueueWait => "queue-wait",
            Self::Work => "work",
        }
    }
}

/// What other rooms count on their own, brought in before the metrics are shown. Counts only ever grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Calls into components by function: how many, and their time together.
    pub calls: Vec<(&'static str, u64, Duration)>,
    /// Instances that were dropped, by reason: "evicted" (made room for others), "retired" (age, memory, a newer version), "fault".
    pub dropped: Vec<(&'static str, u64)>,
    /// Instances that stand.
    pub instances: u64,
    /// Their memory in bytes.
    pub instances_memory: u64,
    /// Commits that the store took.
    pub commits: u64,
    /// The store refuses to go on.
    pub store_failed: bool,
}

/// How fresh a connection is: one line of [`Metrics::render`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The connection.
    pub connection: ConnectionId,
    /// Age of its oldest undone hint. Zero when nothing waits.
    pub age: Duration,
    /// Hints that wait.
    pub waiting: u64,
    /// Writes that wait for approval.
    pub withheld: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name<T>(T);

impl EncodeLabelValue for Name<ProviderId> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0.as_str())
    }
}

impl EncodeLabelValue for Name<ConnectionId> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0.as_str())
    }
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $kind),+ }
    )+};
}

labels! {
    ByClass { class: &'static str }
    ByClassOutcome { class: &'static str, outcome: &'static str }
    ByStage { stage: &'static str }
    ByProviderOutcome { provider: Name<ProviderId>, outcome: &'static str }
    ByRuling { provider: Name<ProviderId>, ruling: &'static str }
    ByPoint { provider: Name<ProviderId>, point: &'static str }
    ByReason { provider: Name<ProviderId>, reason: &'static str }
    ByOperation { provider: Name<ProviderId>, operation: &'static str }
    ByOperationOutcome { provider: Name<ProviderId>, operation: &'static str, outcome: &'static str }
    ByKindOutcome { provider: Name<ProviderId>, kind: &'static str, outcome: &'static str }
    ByCall { call: &'static str }
    ByKind { provider: Name<ProviderId>, kind: &'static str }
    Dropped { reason: &'static str }
    ByRoute { route: String, outcome: &'static str }
    ByConnection { connection: Name<ConnectionId> }
    ByVersion { version: &'static str }
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

fn histograms<L: Clone + std::hash::Hash + Eq>() -> Histograms<L> {
    Family::new_with_constructor(histogram)
}

/// All metrics of one daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    hints_added: Family<ByClass, Counter>,
    hints_done: Family<ByClassOutcome, Counter>,
    settled: Histograms<ByClass>,
    stages: [Histogram; Stage::ALL.len()],
    webhooks: Family<ByProviderOutcome, Counter>,
    records: Family<ByProviderOutcome, Counter>,
    conflicts: Family<ByRuling, Counter>,
    set_aside: Family<ByPoint, Counter>,
    calls: Family<ByOperationOutcome, Counter>,
    call_time: Histograms<ByOperation>,
    held_back: Family<ByReason, Counter>,
    guarded: Family<ByKindOutcome, Counter>,
    component_calls: Family<ByCall, Counter>,
    component_time: Family<ByCall, Counter<f64, AtomicU64>>,
    faults: Family<ByKind, Counter>,
    instances: Gauge,
    instances_memory: Gauge,
    instances_dropped: Family<Dropped, Counter>,
    commits: Counter,
    store_failed: Gauge,
    requests: Family<ByRoute, Counter>,
    freshness: Family<ByConnection, Gauge<f64, AtomicU64>>,
    waiting: Family<ByConnection, Gauge>,
    withheld: Family<ByConnection, Gauge>,
    /// One rendering at a time: it refills the families by connection.
    rendering: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics that are all zero.
    #[must_use]
    pub fn new() -> Self {
        let stages = Histograms::<ByStage>::new_with_constructor(histogram);
        let metrics = Self {
            registry: Registry::with_prefix(names::PREFIX),
            hints_added: Family::default(),
            hints_done: Family::default(),
            settled: histograms(),
            stages: Stage::ALL.map(|stage| stages.get_or_create_owned(&ByStage { stage: stage.name() })),
            webhooks: Family::default(),
            records: Family::default(),
            conflicts: Family::default(),
            set_aside: Family::default(),
            calls: Family::default(),
            call_time: histograms(),
            held_back: Family::default(),
            guarded: Family::default(),
            component_calls: Family::default(),
            component_time: Family::default(),
            faults: Family::default(),
            instances: Gauge::default(),
            instances_memory: Gauge::default(),
            instances_dropped: Family::default(),
            commits: Counter::default(),
            store_failed: Gauge::default(),
            requests: Family::default(),
            freshness: Family::default(),
            waiting: Family::default(),
            withheld: Family::default(),
            rendering: Mutex::default(),
        };
        metrics.registered(stages)
    }

    fn registered(mut self, stages: Histograms<ByStage>) -> Self {
        let build = Family::<ByVersion, Gauge>::default();
        build.get_or_create(&ByVersion { version: env!("CARGO_PKG_VERSION") }).set(1);
        let r = &mut self.registry;
        r.register(names::HINTS_ADDED, "Hints that were taken in", self.hints_added.clone());
        r.register(names::HINTS_DONE, "Hints that were done", self.hints_done.clone());
        r.register(names::SETTLED, "From noticing a change until it was done", self.settled.clone());
        r.register(names::STAGE, "Time spent in each stage of the path", stages);
        r.register(names::WEBHOOKS, "Webhook deliveries", self.webhooks.clone());
        r.register(names::RECORDS, "Records that were worked on", self.records.clone());
        r.register(names::CONFLICTS, "Conflicts between both sides", self.conflicts.clone());
        r.register(names::SET_ASIDE, "Records that were set aside", self.set_aside.clone());
        r.register(names::CALLS, "Requests to CRMs", self.calls.clone());
        r.register(names::CALL_TIME, "Time of requests to CRMs", self.call_time.clone());
        r.register(names::HELD_BACK, "Work that had to wait", self.held_back.clone());
        r.register(names::GUARDED, "Writes that the guard counted", self.guarded.clone());
        r.register(names::COMPONENT_CALLS, "Calls into provider components", self.component_calls.clone());
        r.register(
            names::COMPONENT_TIME,
            "Time of calls into provider components",
            self.component_time.clone(),
        );
        r.register(names::FAULTS, "Faults of provider components", self.faults.clone());
        r.register(names::INSTANCES, "Instances of provider components", self.instances.clone());
        r.register(names::INSTANCES_MEMORY, "Memory of all instances", self.instances_memory.clone());
        r.register(names::INSTANCES_DROPPED, "Instances that were dropped", self.instances_dropped.clone());
        r.register(names::COMMITS, "Commits of the store", self.commits.clone());
        r.register(names::STORE_FAILED, "Whether the store refuses to go on", self.store_failed.clone());
        r.register(names::REQUESTS, "Requests to the daemon's own API", self.requests.clone());
        r.register(names::FRESHNESS, "Age of the connection's oldest undone hint", self.freshness.clone());
        r.register(names::WAITING, "Hints of the connection that wait", self.waiting.clone());
        r.register(names::WITHHELD, "Writes of the connection that wait for approval", self.withheld.clone());
        r.register(names::BUILD, "Version of the daemon", build);
        self
    }

    /// A hint was taken in; `class` is the class's word.
    pub fn hint_added(&self, class: &'static str) {
        self.hints_added.get_or_create(&ByClass { class }).inc();
    }

    /// A hint was done, so long after it was noticed. Outcomes: "written", "dismissed", "set-aside".
    pub fn hint_done(&self, class: &'static str, outcome: &'static str, age: Duration) {
        self.hints_done.get_or_create(&ByClassOutcome { class, outcome }).inc();
        self.settled.get_or_create(&ByClass { class }).observe(age.as_secs_f64());
    }

    /// A hint became part of another one about the same record, which goes on.
    pub fn hint_merged(&self, class: &'static str) {
        self.hints_done.get_or_create(&ByClassOutcome { class, outcome: "merged" }).inc();
    }

    /// Time that was spent in a stage.
    pub fn stage(&self, stage: Stage, time: Duration) {
        if let Some(histogram) =
            Stage::ALL.iter().position(|s| *s == stage).and_then(|at| self.stages.get(at))
        {
            histogram.observe(time.as_secs_f64());
        }
    }

    /// A webhook delivery. Outcomes: "stored", "signature", "unroutable", "too-large", "malformed", "busy".
    pub fn webhook(&self, provider: &ProviderId, outcome: &'static str) {
        self.webhooks.get_or_create(&ByProviderOutcome { provider: Name(provider.clone()), outcome }).inc();
    }

    /// A record was worked on. Outcomes: "unchanged", "created-external", "updated-external", "removed-external", "created-internal",
    /// "updated-internal", "removed-internal", "linked", "held", "frozen", "set-aside", "retry".
    pub fn record(&self, provider: &ProviderId, outcome: &'static str) {
        self.records.get_or_create(&ByProviderOutcome { provider: Name(provider.clone()), outcome }).inc();
    }

    /// A conflict and its ruling: "internal", "external" or "review".
    pub fn conflict(&self, provider: &ProviderId, ruling: &'static str) {
        self.conflicts.get_or_create(&ByRuling { provider: Name(provider.clone()), ruling }).inc();
    }

    /// A record was set aside; `point` is the dead letter's.
    pub fn set_aside(&self, provider: &ProviderId, point: &'static str) {
        self.set_aside.get_or_create(&ByPoint { provider: Name(provider.clone()), point }).inc();
    }

    /// A write that the guard counted. Kinds: "delete", "rewrite"; outcomes: "passed", "withheld", "let-go" (after it was withheld),
    /// "rejected".
    pub fn guarded(&self, provider: &ProviderId, kind: &'static str, outcome: &'static str) {
        let provider = Name(provider.clone());
        self.guarded.get_or_create(&ByKindOutcome { provider, kind, outcome }).inc();
    }

    /// A request to a CRM. `outcome` from [`Metrics::status`], or "not-sent", "unknown", "forbidden", "unauthorised".
    pub fn call(
        &self,
        provider: &ProviderId,
        operation: &'static str,
        outcome: &'static str,
        time: Duration,
    ) {
        let provider = Name(provider.clone());
        let by_outcome = ByOperationOutcome { provider: provider.clone(), operation, outcome };
        self.calls.get_or_create(&by_outcome).inc();
        self.call_time.get_or_create(&ByOperation { provider, operation }).observe(time.as_secs_f64());
    }

    /// The class of a status, as a label: "2xx".
    #[must_use]
    pub fn status(status: u16) -> &'static str {
        match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            429 => "429",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "other",
        }
    }

    /// Work had to wait. Reasons: "quota", "breaker", "fault", "authorisation", "blocked", "other" (a reserve or a limit of calls at once).
    pub fn held_back(&self, provider: &ProviderId, reason: &'static str) {
        self.held_back.get_or_create(&ByReason { provider: Name(provider.clone()), reason }).inc();
    }

    /// A component's fault. Kinds: "deadline", "memory", "trap", "output", "broken", "configure", "absent".
    pub fn fault(&self, provider: &ProviderId, kind: &'static str) {
        self.faults.get_or_create(&ByKind { provider: Name(provider.clone()), kind }).inc();
    }

    /// Brings in what other rooms have counted so far.
    pub fn totals(&self, totals: &Totals) {
        let _one_at_a_time = self.rendering.lock();
        let grow = |counter: &Counter, to: u64| {
            counter.inc_by(to.saturating_sub(counter.get()));
        };
        for (call, count, time) in &totals.calls {
            grow(&self.component_calls.get_or_create_owned(&ByCall { call }), *count);
            let seconds = self.component_time.get_or_create_owned(&ByCall { call });
            seconds.inc_by((time.as_secs_f64() - seconds.get()).max(0.0));
        }
        for (reason, count) in &totals.dropped {
            grow(&self.instances_dropped.get_or_create_owned(&Dropped { reason }), *count);
        }
        let gauge = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        gauge(&self.instances, totals.instances);
        gauge(&self.instances_memory, totals.instances_memory);
        grow(&self.commits, totals.commits);
        gauge(&self.store_failed, u64::from(totals.store_failed));
    }

    /// A request to the daemon's own API. `route` is the pattern, never the path.
    pub fn request(&self, route: &str, status: u16) {
        self.requests
            .get_or_create(&ByRoute { route: route.to_owned(), outcome: Self::status(status) })
            .inc();
    }

    /// Everything in Prometheus' text format (OpenMetrics), with the freshness of all connections as it is now.
    #[must_use]
    pub fn render(&self, connections: &[Freshness]) -> String {
        let _one_at_a_time = self.rendering.lock();
        self.freshness.clear();
        self.waiting.clear();
        self.withheld.clear();
        for line in connections {
            let labels = ByConnection { connection: Name(line.connection.clone()) };
            self.freshness.get_or_create(&labels).set(line.age.as_secs_f64());
            self.waiting.get_or_create(&labels).set(i64::try_from(line.waiting).unwrap_or(i64::MAX));
            self.withheld.get_or_create(&labels).set(i64::try_from(line.withheld).unwrap_or(i64::MAX));
        }
        let mut page = String::new();
        // Writing to a string fails only when a metric's own encoding does.
        match text::encode(&mut page, &self.registry) {
            Ok(()) => page,
            Err(error) => format!("# metrics could not be written: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_written_out_once_it_has_a_value() {
        let metrics = Metrics::new();
        let provider = ProviderId::from("hubspot");
        metrics.hint_added("live");
        metrics.hint_done("live", "written", Duration::from_millis(7));
        for stage in Stage::ALL {
            metrics.stage(stage, Duration::from_micros(40));
        }
        metrics.webhook(&provider, "stored");
        metrics.record(&provider, "updated-external");
        metrics.conflict(&provider, "review");
        metrics.set_aside(&provider, "provider-in");
        metrics.call(&provider, "update", Metrics::status(204), Duration::from_millis(3));
        metrics.held_back(&provider, "quota");
        metrics.fault(&provider, "trap");
        let mut totals = Totals {
            calls: vec![("to-provider", 2, Duration::from_millis(250))],
            dropped: vec![("evicted", 1)],
            instances: 2,
            instances_memory: 1 << 20,
            commits: 1,
            store_failed: false,
        };
        metrics.totals(&totals);
        // They are totals, not what came since.
        totals.commits = 3;
        totals.store_failed = true;
        metrics.totals(&totals);
        metrics.hint_merged("live");
        metrics.request("/v1/status", 200);
        let freshness = Freshness {
            connection: "acme".into(),
            age: Duration::from_millis(1500),
            waiting: 4,
            withheld: 2,
        };
        metrics.guarded(&provider, "delete", "withheld");
        let page = metrics.render(std::slice::from_ref(&freshness));
        for line in [
            "tandem_hints_added_total{class=\"live\"} 1",
            "tandem_hints_done_total{class=\"live\",outcome=\"written\"} 1",
            "tandem_settled_seconds_bucket{le=\"0.01\",class=\"live\"} 1",
            "tandem_stage_seconds_count{stage=\"queue-wait\"} 1",
            "tandem_webhooks_total{provider=\"hubspot\",outcome=\"stored\"} 1",
            "tandem_records_total{provider=\"hubspot\",outcome=\"updated-external\"} 1",
            "tandem_conflicts_total{provider=\"hubspot\",ruling=\"review\"} 1",
            "tandem_set_aside_total{provider=\"hubspot\",point=\"provider-in\"} 1",
            "tandem_crm_calls_total{provider=\"hubspot\",operation=\"update\",outcome=\"2xx\"} 1",
            "tandem_crm_call_seconds_count{provider=\"hubspot\",operation=\"update\"} 1",
            "tandem_held_back_total{provider=\"hubspot\",reason=\"quota\"} 1",
            "tandem_hints_done_total{class=\"live\",outcome=\"merged\"} 1",
            "tandem_component_calls_total{call=\"to-provider\"} 2",
            "tandem_component_call_seconds_total{call=\"to-provider\"} 0.25",
            "tandem_component_faults_total{provider=\"hubspot\",kind=\"trap\"} 1",
            "tandem_component_instances 2",
            "tandem_component_memory_bytes 1048576",
            "tandem_component_instances_dropped_total{reason=\"evicted\"} 1",
            "tandem_store_commits_total 3",
            "tandem_store_failed 1",
            "tandem_api_requests_total{route=\"/v1/status\",outcome=\"2xx\"} 1",
            "tandem_connection_freshness_seconds{connection=\"acme\"} 1.5",
            "tandem_connection_waiting{connection=\"acme\"} 4",
            "tandem_connection_withheld{connection=\"acme\"} 2",
            "tandem_guarded_total{provider=\"hubspot\",kind=\"delete\",outcome=\"withheld\"} 1",
            concat!("tandem_build{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn a_connection_that_is_gone_is_no_longer_named() {
        let metrics = Metrics::new();
        let freshness = Freshness { connection: "acme".into(), age: Duration::ZERO, waiting: 0, withheld: 0 };
        assert!(metrics.render(&[freshness]).contains("acme"));
        assert!(!metrics.render(&[]).contains("acme"));
    }
}
