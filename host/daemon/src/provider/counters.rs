//! Figures for telemetry. Labels come from closed sets; no name of a connection or record among them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::FaultKind;

/// Functions of the contract, and the making of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Instantiate,
    Describe,
    Configure,
    ToProvider,
    ToCanonical,
    Decide,
    Start,
    Resume,
    Receive,
}

impl Function {
    pub(super) const ALL: [Self; 9] = [
        Self::Instantiate,
        Self::Describe,
        Self::Configure,
        Self::ToProvider,
        Self::ToCanonical,
        Self::Decide,
        Self::Start,
        Self::Resume,
        Self::Receive,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instantiate => "instantiate",
            Self::Describe => "describe",
            Self::Configure => "configure",
            Self::ToProvider => "to-provider",
            Self::ToCanonical => "to-canonical",
            Self::Decide => "decide",
            Self::Start => "start",
            Self::Resume => "resume",
            Self::Receive => "receive",
        }
    }
}

/// Some of the functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Functions(u16);

impl Functions {
    pub(super) fn of(function: Function) -> Self {
        let mut functions = Self::default();
        functions.add(function);
        functions
    }

    pub(super) fn add(&mut self, function: Function) {
        self.0 |= 1 << function as u16;
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let named = move |function: &Function| self.0 & (1 << *function as u16) != 0;
        Function::ALL.into_iter().filter(named).map(Function::name)
    }
}

/// Upper bounds of the classes of call times, in microseconds; the last class has none.
pub const CALL_TIME_BOUNDS_US: [u64; 7] = [5, 20, 100, 500, 2_000, 10_000, 100_000];

const CLASSES: usize = CALL_TIME_BOUNDS_US.len() + 1;

#[derive(Default)]
struct CallCounters {
    nanos: AtomicU64,
    /// Linear memory after the call that left the most.
    memory: AtomicU64,
    classes: [AtomicU64; CLASSES],
}

/// What one lane counts. Only its own thread writes, so nothing is contended.
#[derive(Default)]
pub(super) struct Counters {
    calls: [CallCounters; Function::ALL.len()],
    faults: [AtomicU64; FaultKind::LABELS.len()],
    pub(super) visits: AtomicU64,
    pub(super) created: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) retired: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) instances: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) breakers_opened: AtomicU64,
    pub(super) rerouted: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn memory(&self, function: Function, bytes: usize) {
        if let Some(counters) = self.calls.get(function as usize) {
            counters.memory.fetch_max(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn call(&self, function: Function, took: Duration) {
        let Some(counters) = self.calls.get(function as usize) else { return };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters.nanos.fetch_add(nanos, Ordering::Relaxed);
        let class = CALL_TIME_BOUNDS_US.partition_point(|bound| bound * 1000 < nanos);
        if let Some(class) = counters.classes.get(class) {
            Self::add(class);
        }
    }

    pub(super) fn fault(&self, kind: &FaultKind) {
        if let Some(counter) = self.faults.get(kind.index()) {
            Self::add(counter);
        }
    }
}

/// Calls of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFigures {
    /// The function, as in the contract, or `instantiate`.
    pub function: &'static str,
    /// How many.
    pub count: u64,
    /// Their time together, in nanoseconds.
    pub nanos: u64,
    /// Linear memory of the instance after the call that left the most, in bytes.
    pub memory: u64,
    /// How many in each class of [`CALL_TIME_BOUNDS_US`].
    pub classes: [u64; CLASSES],
}

/// Figures of the room at one moment, all lanes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Calls by function.
    pub calls: Vec<CallFigures>,
    /// Faults by kind.
    pub faults: Vec<(&'static str, u64)>,
    /// Visits that ran.
    pub visits: u64,
    /// Visits that wait for a lane now.
    pub waiting: u64,
    /// Instances that stand now.
    pub instances: u64,
    /// Memory that they may have touched, in bytes.
    pub instance_bytes: u64,
    /// Instances made.
    pub created: u64,
    /// Instances that made room for others.
    pub evicted: u64,
    /// Instances replaced for their age, their memory, or a newer version.
    pub retired: u64,
    /// Instances thrown away after a fault.
    pub discarded: u64,
    /// Times that a breaker opened.
    pub breakers_opened: u64,
    /// Visits that moved to the suspects' lane.
    pub rerouted: u64,
    /// Connections.
    pub connections: u64,
    /// Connections whose breaker is open or waits for its try.
    pub breakers_open: u64,
}

impl Snapshot {
    /// Adds one lane.
    pub(super) fn add(&mut self, lane: &Counters) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        if self.calls.is_empty() {
            let figures =
                |function: Function| CallFigures { function: function.name(), ..CallFigures::default() };
            self.calls = Function::ALL.into_iter().map(figures).collect();
            self.faults = FaultKind::LABELS.into_iter().map(|label| (label, 0)).collect();
        }
        for (sum, counters) in self.calls.iter_mut().zip(&lane.calls) {
            sum.nanos += get(&counters.nanos);
            sum.memory = sum.memory.max(get(&counters.memory));
            for (class, counter) in sum.classes.iter_mut().zip(&counters.classes) {
                *class += get(counter);
                sum.count += get(counter);
            }
        }
        for ((_, sum), counter) in self.faults.iter_mut().zip(&lane.faults) {
            *sum += get(counter);
        }
        self.visits += get(&lane.visits);
        self.instances += get(&lane.instances);
        self.instance_bytes += get(&lane.bytes);
        self.created += get(&lane.created);
        self.evicted += get(&lane.evicted);
        self.retired += get(&lane.retired);
        self.discarded += get(&lane.discarded);
        self.breakers_opened += get(&lane.breakers_opened);
        self.rerouted += get(&lane.rerouted);
    }

    /// Faults of one kind (`deadline`, `memory`, `table`, `trap`, `output`, `broken`, `configure`, `absent`).
    #[must_use]
    pub fn faults_of(&self, kind: &str) -> u64 {
        self.faults.iter().find(|(label, _)| *label == kind).map_or(0, |(_, count)| *count)
    }
}
