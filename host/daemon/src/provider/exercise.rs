//! Every function of a version called on made-up input, so that its author sees that each has an answer to everything.
//!
//! What the CRM answers is made up as well, and mostly nothing that a proper CRM says. How long that takes is no cost of an
//! operation, and nothing here is timed: `measure` does that, on golden cases. Nothing of this is asked for by admission.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tandem_core::descriptor::ObjectDescriptor;
use tandem_core::exchange::{
    Answer, Attribute, Change, Context, Delivery, Find, HttpResponse, Listing, Operation, Reference, Remove,
    Watch, Write,
};
use tandem_core::laws::{self, Record, Terms};
use tandem_core::schema::{CanonicalSchema, Schema};

use super::instance::{Instance, Workshop};
use super::load::Setup;
use super::measure::aside;
use super::registry::Version;
use super::trial::{Mapped, Run, seed};
use super::{Fault, Provider as _};

/// Made-up records of each object.
const RECORDS: usize = 64;

/// Requests of one exchange.
const STEPS: usize = 8;

/// What a CRM may say to any request: a status, and a body in the place of which a record is put where it says so.
const RESPONSES: [(u16, &str); 12] = [
    (200, "RECORD"),
    (201, "RECORD"),
    (200, "{}"),
    (200, "[]"),
    (200, "not JSON"),
    (204, ""),
    (401, "{\"error\":\"token\"}"),
    (403, "{\"error\":\"scope\"}"),
    (404, "{}"),
    (409, "{}"),
    (429, "{}"),
    (502, "<html>bad gateway</html>"),
];

/// What came of calling every function.
#[derive(Clone, Debug, Default)]
pub struct Exercise {
    /// By operation.
    pub operations: Vec<Exercised>,
    /// Faults, a line each; each sort of fault once.
    pub faults: Vec<String>,
}

/// What came of one operation.
#[derive(Clone, Debug, Default)]
pub struct Exercised {
    /// Its name.
    pub operation: &'static str,
    /// What it answered, each once.
    pub answers: BTreeSet<String>,
    /// How often it was gone on with.
    resumed: u64,
}

/// Settings and facts to work with, as text.
pub(super) struct Furniture {
    settings: String,
    facts: String,
    name: Arc<str>,
}

impl Furniture {
    /// Those that are given, or those of the version's first golden example.
    pub(super) fn of(version: &Version, setup: Option<&Setup>) -> Self {
        let example = version.descriptor.examples.first();
        Self::new(
            setup.map(|setup| &setup.settings).or(example.map(|example| &example.settings)),
            setup.map(|setup| &setup.facts).or(example.map(|example| &example.facts)),
        )
    }

    pub(super) fn new(settings: Option<&Value>, facts: Option<&Value>) -> Self {
        let text = |value: Option<&Value>| {
            value.filter(|value| !value.is_null()).map_or_else(|| "{}".to_owned(), ToString::to_string)
        };
        Self { settings: text(settings), facts: text(facts), name: "".into() }
    }

    pub(super) fn run<'r>(&'r self, workshop: &'r Workshop, version: &'r Version) -> Run<'r> {
        let (settings, facts) = (self.settings.as_bytes(), self.facts.as_bytes());
        Run { workshop, version, name: &self.name, settings, facts }
    }
}

/// Made-up records of an object. None: Tandem does not keep such an object, and it takes no part.
pub(super) fn records(
    run: &Run<'_>,
    name: &str,
    object: &ObjectDescriptor,
) -> Result<Option<Vec<Record>>, String> {
    let Some(canonical) = CanonicalSchema::built_in(name) else { return Ok(None) };
    let canonical = canonical.map_err(|error| error.to_string())?;
    let read = Schema::compile(&object.name, &object.schema).map_err(|error| error.to_string())?;
    let terms = Terms { object: name, described: object, canonical: &canonical, read: &read };
    let mut mapped = Mapped { run, object: name, instance: run.instance()?.0 };
    laws::made_up(&mut mapped, &terms, seed(&run.version.digest), RECORDS)
        .map(Some)
        .map_err(|why| why.to_string())
}

/// Calls every function with the settings that are given, or those of the first golden example.
pub(super) fn version(
    workshop: &Workshop,
    version: &Version,
    setup: Option<&Setup>,
    now: u64,
) -> Result<Exercise, String> {
    let (furniture, workshop) = (Furniture::of(version, setup), aside(workshop));
    let run = furniture.run(&workshop, version);
    let described = run.described()?;
    let mut course = Course {
        instance: run.instance()?.0,
        run: &run,
        context: Context { now, attributes: Vec::new() },
        operations: BTreeMap::new(),
        faults: BTreeMap::new(),
    };
    for (name, object) in &described.objects {
        course.object(name, object)?;
    }
    Ok(Exercise {
        operations: course.operations.into_values().collect(),
        faults: course.faults.into_values().collect(),
    })
}

struct Course<'c> {
    run: &'c Run<'c>,
    instance: Instance,
    context: Context,
    operations: BTreeMap<&'static str, Exercised>,
    /// By function and kind.
    faults: BTreeMap<(String, &'static str), String>,
}

impl Course<'_> {
    fn object(&mut self, name: &str, object: &ObjectDescriptor) -> Result<(), String> {
        let Some(records) = records(self.run, name, object)? else { return Ok(()) };
        let changed: Vec<String> = object.fields.keys().cloned().collect();
        for (position, record) in records.iter().enumerate() {
            self.decide(name, &records, position, &changed)?;
            for operation in self.operations(name, record, &changed)? {
                self.exchange(&operation, &record.current)?;
            }
            self.receive(name, &record.current)?;
        }
        Ok(())
    }

    fn decide(
        &mut self,
        object: &str,
        records: &[Record],
        position: usize,
        changed: &[String],
    ) -> Result<(), String> {
        let text = |record: &Record| record.canonical.to_string().into_bytes();
        let change = Change {
            object: object.to_owned(),
            origin: if position.is_multiple_of(2) { "internal" } else { "external" }.to_owned(),
            before: position.checked_sub(1).and_then(|before| records.get(before)).map(text),
            after: records.get(position).map(text),
            changed: changed.to_vec(),
        };
        let answer = self.instance.decide(&change);
        self.seen(answer).map(drop)
    }

    /// Everything that can be asked for about a record.
    fn operations(
        &mut self,
        object: &str,
        record: &Record,
        changed: &[String],
    ) -> Result<Vec<Operation>, String> {
        let (object, id) = (object.to_owned(), "1".to_owned());
        let listing = || Listing { object: object.clone(), cursor: None, limit: 100 };
        let identity = record.canonical.get("email").and_then(Value::as_str).unwrap_or("ann@example.com");
        let mut all = vec![
            Operation::Probe,
            Operation::Discover(object.clone()),
            Operation::Read(Reference { object: object.clone(), id: id.clone() }),
            Operation::Find(Find {
                object: object.clone(),
                key: Some("key".to_owned()),
                identity: vec![Attribute { name: "/email".to_owned(), value: identity.to_owned() }],
            }),
            Operation::Remove(Remove { object: object.clone(), id: id.clone(), version: None, stamp: None }),
            Operation::Changes(listing()),
            Operation::Walk(listing()),
            Operation::Watch(Watch {
                callback: "https://tandem.example/hooks".to_owned(),
                objects: vec![object.clone()],
                channel: None,
                active: true,
            }),
            Operation::Other("may-write".to_owned(), json!({ "object": object }).to_string().into_bytes()),
        ];
        let current = record.current.to_string().into_bytes();
        for over in [None, Some(current)] {
            let canonical = record.canonical.to_string();
            let document = self.instance.to_provider(&object, canonical.as_bytes(), over.as_deref());
            // A record that is refused is not written.
            let Some(Ok(document)) = self.seen(document)? else { continue };
            all.push(Operation::Write(Write {
                object: object.clone(),
                id: over.as_ref().map(|_| id.clone()),
                document,
                changed: changed.to_vec(),
                version: None,
                stamp: None,
                key: "key".to_owned(),
                keep: None,
                previous: over,
                attributes: Vec::new(),
            }));
        }
        Ok(all)
    }

    /// An operation to its end, each request answered with what comes next in the row.
    fn exchange(&mut self, operation: &Operation, record: &Value) -> Result<(), String> {
        let reply = self.instance.start(operation, &self.context);
        let mut reply = self.seen(reply)?;
        for _ in 0..STEPS {
            let Some(answer) = reply.map(|reply| reply.answer) else { return Ok(()) };
            let word = answer_word(&answer);
            self.of(operation).answers.insert(word.to_owned());
            let Answer::Send(step) = answer else { return Ok(()) };
            let seen = self.of(operation);
            seen.resumed += 1;
            let response = response(seen.resumed - 1, record);
            let resumed = self.instance.resume(operation, &step.note, &response, &self.context);
            reply = self.seen(resumed)?;
        }
        Ok(())
    }

    fn of(&mut self, operation: &Operation) -> &mut Exercised {
        let operation = operation.name();
        self.operations.entry(operation).or_insert_with(|| Exercised { operation, ..Exercised::default() })
    }

    fn receive(&mut self, object: &str, record: &Value) -> Result<(), String> {
        let event = json!({ "object": object, "id": "1", "account": "1", "event": "changed" });
        for body in [json!([event]), event, record.clone(), json!([]), json!("not an event")] {
            let delivery = Delivery { body: body.to_string().into_bytes(), ..Delivery::default() };
            let answer = self.instance.receive(&delivery, &self.context);
            self.seen(answer)?;
        }
        Ok(())
    }

    /// The answer; of a fault its line is kept, and the course goes on with a fresh instance.
    fn seen<T>(&mut self, answer: Result<T, Fault>) -> Result<Option<T>, String> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(fault) => {
                let sort = (fault.call.clone(), fault.kind.label());
                self.faults.entry(sort).or_insert_with(|| fault.to_string());
                self.instance = self.run.instance()?.0;
                Ok(None)
            }
        }
    }
}

/// What the CRM says the n-th time that an operation asks it: everything in its turn.
fn response(turn: u64, record: &Value) -> HttpResponse {
    let turn = usize::try_from(turn).unwrap_or_default() % RESPONSES.len();
    let (status, body) = RESPONSES.get(turn).copied().unwrap_or((200, "{}"));
    let body = if body == "RECORD" { record.to_string() } else { body.to_owned() };
    HttpResponse { status, headers: Vec::new(), body: body.into_bytes() }
}

pub(super) fn answer_word(answer: &Answer) -> &str {
    match answer {
        Answer::Send(_) => "send",
        Answer::Written(_) => "written",
        Answer::Current(_) => "current",
        Answer::Found(_) => "found",
        Answer::Page(_) => "page",
        Answer::Watching(_) => "watching",
        Answer::Facts(_) => "facts",
        Answer::Exists(_) => "exists",
        Answer::Refused => "refused",
        Answer::Throttled(_) => "throttled",
        Answer::Again(..) => "again",
        Answer::Rejected(_) => "rejected",
        Answer::Blocked(_) => "blocked",
        Answer::Unauthorised(_) => "unauthorised",
        Answer::CursorLost(_) => "cursor-lost",
        Answer::Other(word, _) => word,
    }
}
