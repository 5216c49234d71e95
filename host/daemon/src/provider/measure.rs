//! What each function takes: microseconds and memory, on proper input.
//!
//! A mapping is measured on made-up records that follow its own descriptor, which are proper input for it. What a CRM says
//! cannot be made up: exchanges and deliveries are measured on golden cases, which their author wrote from what the CRM says.
//! A case that does not end in what its operation is for is told and not counted: how long a refusal takes says nothing of
//! the operation. Each function has instances of its own, since the memory of an instance never shrinks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tandem_core::descriptor::ObjectDescriptor;
use tandem_core::exchange::{
    Answer, Change, Context, Delivery, HttpResponse, Observed, Operation, State, Write,
};
use tandem_core::laws::Record;

use super::counters::{Counters, Function, Snapshot};
use super::exercise::{Furniture, answer_word, records};
use super::instance::{Instance, Workshop};
use super::load::{Setup, said};
use super::registry::Version;
use super::{Fault, Provider as _};

/// Instances that are made to see what making one takes.
const FRESH: usize = 64;

/// How often all made-up records are mapped.
const ROUNDS: usize = 16;

/// How often a case is gone through.
const CALLS: usize = 400;

/// A golden case as it is measured.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name, for people.
    pub name: String,
    /// Settings and facts.
    pub setup: Setup,
    /// What is asked of the component.
    pub asked: Asked,
}

/// What a golden case asks.
#[derive(Clone, Debug)]
pub enum Asked {
    /// An operation, with what the CRM answers to each request.
    Exchange {
        /// A write has the canonical document in the place of the CRM's, and is mapped before it is started.
        operation: Operation,
        /// The clock.
        now: u64,
        /// One for each request.
        responses: Vec<HttpResponse>,
    },
    /// What the CRM pushed.
    Delivery(Delivery),
}

/// What calls of one function took.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// The function, as in the contract, or `instantiate`.
    pub function: &'static str,
    /// How many.
    pub calls: u64,
    /// Their time together.
    pub took: Duration,
    /// Memory of an instance of which only this function was asked, after the call that left the most, in bytes.
    pub memory: u64,
    /// How many of them were answered with a refusal of the record.
    pub refused: u64,
}

/// What one golden case took.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// The case.
    pub name: String,
    /// The operation, or `receive`.
    pub operation: &'static str,
    /// What it ended in.
    pub ends: String,
    /// Why it is not counted.
    pub uncounted: Option<String>,
    /// Requests to the CRM.
    pub requests: usize,
    /// `start`, or `receive`. None: it is not counted.
    pub first: Option<Cost>,
    /// `resume`. None: it is not counted, or there is none.
    pub resume: Option<Cost>,
}

/// What everything took.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// In the order of the contract; functions that were not measured are not among them.
    pub functions: Vec<Cost>,
    /// In the order in which they were given.
    pub samples: Vec<Weighed>,
    /// What went wrong besides, a line each.
    pub faults: Vec<String>,
}

impl Measured {
    /// Operations, `receive` among them, of which no case is counted.
    #[must_use]
    pub fn unmeasured(&self) -> Vec<&'static str> {
        let counted: BTreeSet<_> = self
            .samples
            .iter()
            .filter(|sample| sample.uncounted.is_none())
            .map(|sample| sample.operation)
            .collect();
        ALL.into_iter().filter(|operation| !counted.contains(operation)).collect()
    }
}

/// What a case may be of.
const ALL: [&str; 12] = [
    "probe", "discover", "read", "find", "create", "update", "remove", "changes", "walk", "watch", "other",
    "receive",
];

/// The workshop with counters of its own, so that what is done in it does not count as work.
pub(super) fn aside(workshop: &Workshop) -> Workshop {
    Workshop { counters: Arc::default(), ..workshop.clone() }
}

/// Measures a version.
pub(super) fn version(
    workshop: &Workshop,
    version: &Version,
    setup: Option<&Setup>,
    samples: &[Sample],
) -> Measured {
    let mut bench = Bench { workshop, version, costs: Costs::default(), faults: Vec::new() };
    let furniture = Furniture::of(version, setup);
    if let Err(fault) = bench.functions(&furniture) {
        bench.faults.push(fault);
    }
    let samples = samples.iter().map(|sample| bench.sample(sample)).collect();
    Measured { functions: bench.costs.0, samples, faults: bench.faults }
}

/// Costs in the order of the contract.
#[derive(Default)]
struct Costs(Vec<Cost>);

impl Costs {
    fn add(&mut self, function: Function, more: &Cost) {
        let place = self.0.iter().position(|cost| cost.function == function.name());
        if let Some(cost) = place.and_then(|place| self.0.get_mut(place)) {
            cost.calls += more.calls;
            cost.took += more.took;
            cost.memory = cost.memory.max(more.memory);
            cost.refused += more.refused;
        } else if more.calls > 0 {
            self.0.push(more.clone());
            self.0.sort_by_key(|cost| Function::ALL.iter().position(|it| it.name() == cost.function));
        }
    }
}

/// What was counted of one function.
fn counted(counters: &Counters, function: Function, refused: u64) -> Cost {
    let mut snapshot = Snapshot::default();
    snapshot.add(counters);
    let found = snapshot.calls.into_iter().find(|call| call.function == function.name());
    found.map_or_else(Cost::default, |call| Cost {
        function: call.function,
        calls: call.count,
        took: Duration::from_nanos(call.nanos),
        memory: call.memory,
        refused,
    })
}

struct Bench<'b> {
    workshop: &'b Workshop,
    version: &'b Version,
    costs: Costs,
    faults: Vec<String>,
}

impl Bench<'_> {
    /// What can be measured without a CRM.
    fn functions(&mut self, furniture: &Furniture) -> Result<(), String> {
        let apart = aside(self.workshop);
        for _ in 0..FRESH {
            let made = Instance::of(&apart, self.version, &Arc::from(""));
            made.and_then(|mut instance| instance.describe()).map_err(|fault| fault.to_string())?;
        }
        self.costs.add(Function::Describe, &counted(&apart.counters, Function::Describe, 0));
        let apart = aside(self.workshop);
        for _ in 0..FRESH {
            furniture.run(&apart, self.version).instance()?;
        }
        for function in [Function::Instantiate, Function::Configure] {
            self.costs.add(function, &counted(&apart.counters, function, 0));
        }
        let described = furniture.run(&apart, self.version).described()?;
        for (name, object) in &described.objects {
            self.mapping(furniture, name, object)?;
        }
        Ok(())
    }

    fn mapping(
        &mut self,
        furniture: &Furniture,
        name: &str,
        object: &ObjectDescriptor,
    ) -> Result<(), String> {
        let apart = aside(self.workshop);
        let Some(records) = records(&furniture.run(&apart, self.version), name, object)? else {
            return Ok(());
        };
        let text = |record: &Record| {
            [&record.canonical, &record.current].map(|document| document.to_string().into_bytes())
        };
        let texts: Vec<_> = records.iter().map(text).collect();
        self.each(furniture, Function::ToProvider, &texts, |instance, [canonical, _]| {
            instance.to_provider(name, canonical, None).map(|answer| answer.is_ok())
        });
        self.each(furniture, Function::ToCanonical, &texts, |instance, [_, document]| {
            instance.to_canonical(name, document).map(|answer| answer.is_ok())
        });
        let changes: Vec<_> = texts
            .iter()
            .map(|[canonical, _]| Change {
                object: name.to_owned(),
                origin: "internal".to_owned(),
                before: None,
                after: Some(canonical.clone()),
                changed: object.fields.keys().cloned().collect(),
            })
            .collect();
        self.each(furniture, Function::Decide, &changes, |instance, change| {
            instance.decide(change).map(|_| true)
        });
        Ok(())
    }

    /// One function on each input in turn. `call` says whether the answer is more than a refusal.
    fn each<T>(
        &mut self,
        furniture: &Furniture,
        function: Function,
        inputs: &[T],
        call: impl Fn(&mut Instance, &T) -> Result<bool, Fault>,
    ) {
        let apart = aside(self.workshop);
        let done = furniture.run(&apart, self.version).instance().and_then(|(mut instance, _)| {
            let mut refused = 0;
            for input in (0..ROUNDS).flat_map(|_| inputs) {
                let well = call(&mut instance, input).map_err(|fault| fault.to_string())?;
                refused += u64::from(!well);
            }
            Ok(refused)
        });
        match done {
            Ok(refused) => self.costs.add(function, &counted(&apart.counters, function, refused)),
            Err(fault) => self.faults.push(fault),
        }
    }

    fn sample(&mut self, sample: &Sample) -> Weighed {
        let furniture = Furniture::new(Some(&sample.setup.settings), Some(&sample.setup.facts));
        let (operation, weighed) = match &sample.asked {
            Asked::Exchange { operation, now, responses } => {
                let context = Context { now: *now, attributes: Vec::new() };
                (operation.name(), self.exchange(&furniture, operation, &context, responses))
            }
            Asked::Delivery(delivery) => ("receive", self.delivery(&furniture, delivery)),
        };
        let end = weighed.unwrap_or_else(|why| End::short("nothing".to_owned(), why, 0));
        for (function, cost) in [
            (if operation == "receive" { Function::Receive } else { Function::Start }, &end.first),
            (Function::Resume, &end.resume),
        ] {
            if let Some(cost) = cost {
                self.costs.add(function, cost);
            }
        }
        let End { ends, uncounted, requests, first, resume } = end;
        Weighed { name: sample.name.clone(), operation, ends, uncounted, requests, first, resume }
    }

    fn exchange(
        &self,
        furniture: &Furniture,
        operation: &Operation,
        context: &Context,
        responses: &[HttpResponse],
    ) -> Result<End, String> {
        let plain = |fault: Fault| fault.to_string();
        let apart = aside(self.workshop);
        let run = furniture.run(&apart, self.version);
        let mut instance = run.instance()?.0;
        let operation = mapped(&mut instance, operation)?;
        // Gone through once, to see where it ends and what it is resumed with.
        let mut steps = Vec::new();
        let mut left = responses.iter();
        let mut answer = instance.start(&operation, context).map_err(plain)?.answer;
        while let Answer::Send(step) = &answer {
            let Some(response) = left.next() else { break };
            let note = step.note.clone();
            let reply = instance.resume(&operation, &note, response, context).map_err(plain)?;
            steps.push((note, response));
            answer = reply.answer;
        }
        let ends = ending(&answer);
        if let Some(why) = short(&operation, &answer, steps.len()) {
            return Ok(End::short(ends, why, steps.len()));
        }
        let starting = aside(self.workshop);
        let mut instance = furniture.run(&starting, self.version).instance()?.0;
        for _ in 0..CALLS {
            instance.start(&operation, context).map_err(plain)?;
        }
        let resuming = aside(self.workshop);
        let mut instance = furniture.run(&resuming, self.version).instance()?.0;
        for (note, response) in (0..CALLS).flat_map(|_| &steps) {
            instance.resume(&operation, note, response, context).map_err(plain)?;
        }
        Ok(End {
            ends,
            uncounted: None,
            requests: steps.len(),
            first: Some(counted(&starting.counters, Function::Start, 0)),
            resume: Some(counted(&resuming.counters, Function::Resume, 0)),
        })
    }

    fn delivery(&self, furniture: &Furniture, delivery: &Delivery) -> Result<End, String> {
        let apart = aside(self.workshop);
        let mut instance = furniture.run(&apart, self.version).instance()?.0;
        // As the host does it: without attributes.
        let context = Context::default();
        let mut rows = Vec::new();
        for _ in 0..CALLS {
            rows = match instance.receive(delivery, &context).map_err(|fault| fault.to_string())? {
                Ok(rows) => rows,
                Err(problem) => {
                    return Ok(End::short("a problem".to_owned(), said(std::slice::from_ref(&problem)), 0));
                }
            };
        }
        let ends = count(rows.len());
        if rows.is_empty() {
            return Ok(End::short(ends, "it says nothing of any record".to_owned(), 0));
        }
        let first = Some(counted(&apart.counters, Function::Receive, 0));
        Ok(End { ends, uncounted: None, requests: 0, first, resume: None })
    }
}

/// Where a case ended, and what it took if it counts.
struct End {
    ends: String,
    uncounted: Option<String>,
    requests: usize,
    first: Option<Cost>,
    resume: Option<Cost>,
}

impl End {
    fn short(ends: String, why: String, requests: usize) -> Self {
        Self { ends, uncounted: Some(why), requests, first: None, resume: None }
    }
}

/// A write with its document as the CRM has it.
fn mapped(instance: &mut Instance, operation: &Operation) -> Result<Operation, String> {
    let Operation::Write(write) = operation else { return Ok(operation.clone()) };
    let document = instance
        .to_provider(&write.object, &write.document, None)
        .map_err(|fault| fault.to_string())?
        .map_err(|problems| format!("to-provider refuses its document: {}", said(&problems)))?;
    Ok(Operation::Write(Write { document, ..write.clone() }))
}

/// Why an exchange shows nothing of what its operation costs.
fn short(operation: &Operation, answer: &Answer, requests: usize) -> Option<String> {
    let there = |seen: &Observed| matches!(seen.state, State::Whole(_) | State::Partial(_));
    let (wanted, found) = match operation {
        Operation::Probe | Operation::Discover(_) => ("facts", matches!(answer, Answer::Facts(_))),
        Operation::Read(_) => ("the record", matches!(answer, Answer::Current(seen) if there(seen))),
        Operation::Find(_) => ("what was found", matches!(answer, Answer::Found(_))),
        Operation::Write(_) | Operation::Remove(_) => {
            ("what was written", matches!(answer, Answer::Written(_)))
        }
        Operation::Changes(_) | Operation::Walk(_) => ("a page", matches!(answer, Answer::Page(_))),
        Operation::Watch(_) => ("a registration", matches!(answer, Answer::Watching(_))),
        Operation::Other(..) => (
            "an answer",
            matches!(answer, Answer::Facts(_) | Answer::Written(_) | Answer::Current(_) | Answer::Other(..)),
        ),
    };
    match (found, answer) {
        (true, _) if requests > 0 => None,
        (true, _) => Some("the CRM was asked nothing".to_owned()),
        (false, Answer::Send(_)) => Some("the case has no response to the last request".to_owned()),
        (false, Answer::Rejected(problems)) => Some(format!("{wanted} was expected: {}", said(problems))),
        (false, Answer::Blocked(block)) => {
            Some(format!("{wanted} was expected: {}", said(std::slice::from_ref(&block.problem))))
        }
        (false, Answer::Unauthorised(why) | Answer::CursorLost(why)) => {
            Some(format!("{wanted} was expected: {why}"))
        }
        (false, _) => Some(format!("{wanted} was expected")),
    }
}

/// What an exchange ended in.
fn ending(answer: &Answer) -> String {
    let state = |seen: &Observed| match seen.state {
        State::Touched => "touched",
        State::Partial(_) => "partial",
        State::Whole(_) => "whole",
        State::Gone(_) => "gone",
        State::Moved(_) => "moved",
    };
    let word = answer_word(answer);
    match answer {
        Answer::Written(written) => format!("{word}, {}", state(&written.observed)),
        Answer::Current(seen) => format!("{word}, {}", state(seen)),
        Answer::Found(rows) => format!("{word}, {}", count(rows.len())),
        Answer::Page(page) => format!("{word}, {}", count(page.rows.len())),
        _ => word.to_owned(),
    }
}

fn count(rows: usize) -> String {
    if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") }
}
