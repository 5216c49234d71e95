//! One instance of a component in its own store: every call bounded, every answer checked, faults in plain words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_core::descriptor::Descriptor;
use tandem_core::exchange::{
    Change, Context, Delivery, HttpResponse, Json, Observed, Operation, Problem, Reply, Ruling, Write,
};
use wasmtime::{Store, Trap};

use super::check::{self, Wrong};
use super::contract::{Contract, Prepared};
use super::counters::{Counters, Function, Functions};
use super::engine::{Engine, WASM_STACK_BYTES, one_line};
use super::limits::Limits;
use super::registry::Version;
use super::sandbox::{Refused, Sandbox};
use super::{Fault, FaultKind, Provider};

/// What an instance takes besides its linear memory: store, tables, page tables, instance data. Measured: 75 KiB together with
/// what an ordinary instance really touches of its linear memory.
const OVERHEAD_BYTES: usize = 96 << 10;

/// How much of what a guest wrote to stderr goes into a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stderr {
    /// Where it panicked, and not with which words: they may quote a record. For everything that runs in the daemon.
    Place,
    /// All that was kept. For an author at work on a file of their own.
    Whole,
}

/// What instances are made with.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) engine: Engine,
    pub(super) limits: Arc<Limits>,
    pub(super) counters: Arc<Counters>,
    pub(super) stderr: Stderr,
    /// CPU time to instantiate, to describe, to configure.
    pub(super) start: Duration,
}

/// One instance. After its first fault every call answers with that fault.
pub(super) struct Instance {
    store: Store<Sandbox>,
    contract: Box<dyn Contract>,
    label: Arc<str>,
    /// What it says of itself. None: it is about to be asked.
    descriptor: Option<Arc<Descriptor>>,
    counters: Arc<Counters>,
    stderr: Stderr,
    start: Duration,
    calls: u32,
    calls_at_most: u32,
    fault: Option<Fault>,
    /// What answered since it was last asked for this.
    answered: Functions,
}

impl Instance {
    /// A fresh instance of a version, not configured yet.
    pub(super) fn of(workshop: &Workshop, version: &Version, connection: &Arc<str>) -> Result<Self, Fault> {
        let mut instance = Self::new(workshop, &*version.prepared, &version.label, connection)?;
        instance.descriptor = Some(Arc::clone(&version.descriptor));
        Ok(instance)
    }

    /// A fresh instance of a component that nothing is known of.
    pub(super) fn new(
        workshop: &Workshop,
        prepared: &dyn Prepared,
        label: &Arc<str>,
        connection: &Arc<str>,
    ) -> Result<Self, Fault> {
        let began = Instant::now();
        let limits = &workshop.limits;
        let mut store = Sandbox::store(&workshop.engine, limits, label, connection);
        Sandbox::prepare(&mut store, 0, workshop.start);
        let made = prepared.instantiate(&mut store);
        workshop.counters.call(Function::Instantiate, began.elapsed());
        match made {
            Ok(contract) => {
                workshop.counters.memory(Function::Instantiate, store.data().room.memory);
                Ok(Self {
                    store,
                    contract,
                    label: Arc::clone(label),
                    descriptor: None,
                    counters: Arc::clone(&workshop.counters),
                    stderr: workshop.stderr,
                    start: workshop.start,
                    calls: 0,
                    calls_at_most: jittered(limits.calls),
                    fault: None,
                    answered: Functions::of(Function::Instantiate),
                })
            }
            Err(error) => {
                let kind = kind_of(&error, &mut store, workshop.start, workshop.stderr);
                workshop.counters.fault(&kind);
                Err(Fault {
                    provider: label.to_string(),
                    call: Function::Instantiate.name().to_owned(),
                    kind,
                })
            }
        }
    }

    /// The fault that spoilt it.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The functions that answered as they should since this was last asked.
    pub(super) fn take_answered(&mut self) -> Functions {
        std::mem::take(&mut self.answered)
    }

    /// What it may have touched.
    pub(super) fn bytes(&self) -> usize {
        self.store.data().room.memory + OVERHEAD_BYTES
    }

    /// Whether its time is over: too many calls, or too much memory, which never shrinks.
    pub(super) fn worn(&self) -> bool {
        self.calls >= self.calls_at_most
            || self.store.data().room.memory > self.store.data().limits.memory_mark()
    }

    /// Asks for the descriptor.
    pub(super) fn describe(&mut self) -> Result<Json, Fault> {
        let deadline = self.start;
        self.call(
            Function::Describe,
            0,
            deadline,
            |contract, store| contract.describe(store),
            |text, limits| check::document("a descriptor", text, limits),
        )
    }

    /// Configures it for a connection.
    pub(super) fn configure(
        &mut self,
        settings: &[u8],
        facts: &[u8],
    ) -> Result<Result<Json, Vec<Problem>>, Fault> {
        let deadline = self.start;
        self.call(
            Function::Configure,
            0,
            deadline,
            |contract, store| contract.configure(store, settings, facts),
            |answer, limits| match answer {
                Ok(text) => check::document("a connection descriptor", text, limits),
                Err(problems) => check::problems(problems, limits),
            },
        )
    }

    fn call<T>(
        &mut self,
        function: Function,
        now: u64,
        deadline: Duration,
        run: impl FnOnce(&dyn Contract, &mut Store<Sandbox>) -> wasmtime::Result<T>,
        check: impl FnOnce(&T, &Limits) -> Result<(), Wrong>,
    ) -> Result<T, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let began = Instant::now();
        self.calls += 1;
        Sandbox::prepare(&mut self.store, now, deadline);
        let result = run(&*self.contract, &mut self.store);
        self.counters.call(function, began.elapsed());
        self.counters.memory(function, self.store.data().room.memory);
        let kind = match result {
            Ok(answer) => match check(&answer, &self.store.data().limits) {
                Ok(()) => {
                    self.answered.add(function);
                    return Ok(answer);
                }
                Err(what) => FaultKind::Output { what },
            },
            Err(error) => kind_of(&error, &mut self.store, deadline, self.stderr),
        };
        self.counters.fault(&kind);
        let fault = Fault { provider: self.label.to_string(), call: function.name().to_owned(), kind };
        self.fault = Some(fault.clone());
        Err(fault)
    }

    fn deadline(&self, input: usize) -> Duration {
        self.store.data().limits.deadline_for(input)
    }
}

/// Give or take a quarter, so that instances that were made together are not replaced together.
fn jittered(calls: u32) -> u32 {
    let quarter = calls / 4;
    calls - quarter + rand::random_range(0..=quarter.saturating_mul(2))
}

fn mapped(answer: &Result<Json, Vec<Problem>>, limits: &Limits) -> Result<(), Wrong> {
    match answer {
        Ok(text) => check::mapped(text, limits),
        Err(problems) => check::problems(problems, limits),
    }
}

fn kind_of(
    error: &wasmtime::Error,
    store: &mut Store<Sandbox>,
    deadline: Duration,
    stderr: Stderr,
) -> FaultKind {
    let sandbox = store.data_mut();
    match sandbox.room.refused {
        Some(Refused::Memory) => {
            return FaultKind::Memory { limit_bytes: sandbox.limits.memory_bytes as u64 };
        }
        Some(Refused::Table) => return FaultKind::Table { limit: sandbox.limits.table_elements as u64 },
        None => {}
    }
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            return FaultKind::Deadline { limit_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) };
        }
        Some(Trap::StackOverflow) => format!("its stack of {WASM_STACK_BYTES} bytes overflowed"),
        Some(trap) => one_line(&trap.to_string()).trim_start_matches("wasm trap: ").to_owned(),
        None => {
            let what = one_line(&error.root_cause().to_string());
            // The error's type is private to the runtime.
            if what.contains("fuel allocated for hostcalls") {
                return FaultKind::Output {
                    what: format!("more than {} bytes in one call", sandbox.limits.copied_bytes),
                };
            }
            what
        }
    };
    let said = sandbox.stderr();
    let place = said.split_once("panicked at ").and_then(|(_, rest)| rest.split(' ').next());
    FaultKind::Trap {
        what: match (stderr, place) {
            (Stderr::Whole, _) if !said.is_empty() => format!("{what}; stderr: {said}"),
            (_, Some(place)) => {
                let place: String = place.trim_end_matches(':').chars().take(200).collect();
                format!("{what}; panicked at {place}")
            }
            _ => what,
        },
    }
}

fn write_bytes(write: &Write) -> usize {
    write.document.len()
        + write.previous.as_ref().map_or(0, Vec::len)
        + write.keep.as_ref().map_or(0, Vec::len)
}

fn operation_bytes(operation: &Operation) -> usize {
    match operation {
        Operation::Write(write) => write_bytes(write),
        Operation::Changes(listing) | Operation::Walk(listing) => listing.cursor.as_ref().map_or(0, Vec::len),
        Operation::Other(_, arguments) => arguments.len(),
        _ => 0,
    }
}

impl Provider for Instance {
    fn to_provider(
        &mut self,
        object: &str,
        canonical: &[u8],
        current: Option<&[u8]>,
    ) -> Result<Result<Json, Vec<Problem>>, Fault> {
        let deadline = self.deadline(canonical.len() + current.map_or(0, <[u8]>::len));
        self.call(
            Function::ToProvider,
            0,
            deadline,
            |contract, store| contract.to_provider(store, object, canonical, current),
            mapped,
        )
    }

    fn to_canonical(&mut self, object: &str, document: &[u8]) -> Result<Result<Json, Vec<Problem>>, Fault> {
        let deadline = self.deadline(document.len());
        self.call(
            Function::ToCanonical,
            0,
            deadline,
            |contract, store| contract.to_canonical(store, object, document),
            mapped,
        )
    }

    fn decide(&mut self, change: &Change) -> Result<Ruling, Fault> {
        let size = |text: &Option<Json>| text.as_ref().map_or(0, Vec::len);
        let deadline = self.deadline(size(&change.before) + size(&change.after));
        self.call(
            Function::Decide,
            0,
            deadline,
            |contract, store| contract.decide(store, change),
            check::ruling,
        )
    }

    fn start(&mut self, operation: &Operation, context: &Context) -> Result<Reply, Fault> {
        let descriptor = self.descriptor.clone();
        let deadline = self.deadline(operation_bytes(operation));
        self.call(
            Function::Start,
            context.now,
            deadline,
            |contract, store| contract.start(store, operation, context),
            |reply, limits| check::reply(reply, operation, descriptor.as_deref(), limits),
        )
    }

    fn resume(
        &mut self,
        operation: &Operation,
        note: &[u8],
        response: &HttpResponse,
        context: &Context,
    ) -> Result<Reply, Fault> {
        let descriptor = self.descriptor.clone();
        let deadline = self.deadline(operation_bytes(operation) + note.len() + response.body.len());
        self.call(
            Function::Resume,
            context.now,
            deadline,
            |contract, store| contract.resume(store, operation, note, response, context),
            |reply, limits| check::reply(reply, operation, descriptor.as_deref(), limits),
        )
    }

    fn receive(
        &mut self,
        delivery: &Delivery,
        context: &Context,
    ) -> Result<Result<Vec<Observed>, Problem>, Fault> {
        let deadline = self.deadline(delivery.body.len());
        self.call(
            Function::Receive,
            context.now,
            deadline,
            |contract, store| contract.receive(store, delivery, context),
            |answer, limits| match answer {
                Ok(rows) => check::rows(rows, limits),
                Err(problem) => check::problem(problem, limits),
            },
        )
    }
}
