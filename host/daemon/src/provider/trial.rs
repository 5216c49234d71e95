//! A version tried before it is used: the laws, on its golden examples and on made-up records, and for a connection also
//! whether it reads what an earlier version left.
//!
//! Everything runs on instances of its own: what is tried harms no connection that works.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tandem_core::descriptor::{ConnectionDescriptor, Example, ObjectDescriptor};
use tandem_core::exchange::{Answer, Context, Operation};
use tandem_core::laws::{self, Lawless, Looked, Record, Refusal, Terms};
use tandem_core::schema::{CanonicalSchema, Schema};

use super::engine::one_line;
use super::instance::{Instance, Workshop};
use super::load::{LoadError, LoadStep, REPORT, Subject, said};
use super::registry::{Connection, Digest, Version};
use super::{Provider as _, describe};

/// What an earlier version left for a connection: operations as they would be started next.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Listings with their cursors, writes with what is kept on links.
    pub operations: Vec<Operation>,
}

/// How a version is tried on connections. One for all connections of an admission: what was shown for one is not shown
/// again for another that has the same settings and facts.
#[derive(Debug)]
pub struct Trial {
    /// Made-up records for each object.
    pub records: usize,
    /// The clock, for exchanges that are started.
    pub now: u64,
    proofs: Mutex<HashSet<[Digest; 3]>>,
}

impl Trial {
    /// One that nothing was shown to yet.
    #[must_use]
    pub fn new(records: usize, now: u64) -> Self {
        Self { records, now, proofs: Mutex::default() }
    }
}

/// Tries a configured connection.
pub(super) fn connection(
    workshop: &Workshop,
    connection: &Connection,
    instance: &mut Instance,
    stored: &Stored,
    trial: &Trial,
) -> Result<(), LoadError> {
    let version = &connection.version;
    let subject = Subject::connection(version, &connection.id);
    for operation in &stored.operations {
        reads(instance, operation, trial.now).map_err(|reason| {
            subject.error(LoadStep::Stored, reason, "ask the provider's author for a version that reads it")
        })?;
    }
    let proof = [version.digest, connection.settings_digest, connection.facts_digest];
    if trial.proofs.lock().contains(&proof) {
        return Ok(());
    }
    let run = Run {
        workshop,
        version,
        name: &connection.name,
        settings: &connection.settings,
        facts: &connection.facts,
    };
    run.all_objects(&connection.view.connection, &BTreeMap::new(), trial.records)
        .map_err(|reason| subject.error(LoadStep::Laws, reason, MEND))?;
    trial.proofs.lock().insert(proof);
    Ok(())
}

const MEND: &str = "mend the mapping, or declare the field lossy or one-way";

/// Whether an operation that an earlier version left can be started.
fn reads(instance: &mut Instance, operation: &Operation, now: u64) -> Result<(), String> {
    let name = operation.name();
    let reply = instance
        .start(operation, &Context { now, attributes: Vec::new() })
        .map_err(|fault| format!("{name} with what an earlier version left: {fault}"))?;
    match reply.answer {
        Answer::CursorLost(why) => Err(format!("it cannot read the stored cursor of {name}: {why}")),
        Answer::Rejected(problems) if matches!(operation, Operation::Changes(_) | Operation::Walk(_)) => {
            Err(format!("it cannot read the stored cursor of {name}: {}", said(&problems)))
        }
        _ => Ok(()),
    }
}

/// Tries a version on its golden examples' own settings, and on made-up records with each of them.
pub(super) fn version(workshop: &Workshop, version: &Version, records: usize) -> Result<Looked, LoadError> {
    let subject = Subject::file(&version.file).provider(&version.label);
    let mut setups: BTreeMap<[String; 2], BTreeMap<String, Vec<Record>>> = BTreeMap::new();
    for Example { object, settings, facts, canonical, document, .. } in &version.descriptor.examples {
        let record = Record { canonical: canonical.clone(), current: document.clone() };
        let setup =
            [settings, facts].map(|value| if value.is_null() { "{}".to_owned() } else { value.to_string() });
        setups.entry(setup).or_default().entry(object.clone()).or_default().push(record);
    }
    let unexplained = setups.is_empty();
    if unexplained {
        setups.insert(["{}".to_owned(), "{}".to_owned()], BTreeMap::new());
    }
    let name: Arc<str> = "".into();
    let mut looked = Looked::default();
    for ([settings, facts], given) in &setups {
        let (settings, facts) = (settings.as_bytes(), facts.as_bytes());
        let run = Run { workshop, version, name: &name, settings, facts };
        let described = match run.described() {
            Ok(described) => described,
            // Without examples nobody says with which settings it works: its connections will be tried.
            Err(_) if unexplained => continue,
            Err(reason) => return Err(subject.error(LoadStep::Configure, reason, REPORT)),
        };
        let seen = run
            .all_objects(&described, given, records)
            .map_err(|reason| subject.error(LoadStep::Laws, reason, MEND))?;
        looked.records += seen.records;
        looked.refused += seen.refused;
    }
    Ok(looked)
}

/// A version with settings and facts, on instances of its own.
pub(super) struct Run<'r> {
    pub(super) workshop: &'r Workshop,
    pub(super) version: &'r Version,
    pub(super) name: &'r Arc<str>,
    pub(super) settings: &'r [u8],
    pub(super) facts: &'r [u8],
}

impl Run<'_> {
    pub(super) fn instance(&self) -> Result<(Instance, Vec<u8>), String> {
        let mut instance =
            Instance::of(self.workshop, self.version, self.name).map_err(|fault| fault.to_string())?;
        let described = instance
            .configure(self.settings, self.facts)
            .map_err(|fault| fault.to_string())?
            .map_err(|problems| format!("configure: {}", said(&problems)))?;
        Ok((instance, described))
    }

    pub(super) fn described(&self) -> Result<ConnectionDescriptor, String> {
        describe::connection(&self.instance()?.1)
    }

    fn all_objects(
        &self,
        described: &ConnectionDescriptor,
        given: &BTreeMap<String, Vec<Record>>,
        records: usize,
    ) -> Result<Looked, String> {
        let mut looked = Looked::default();
        for (name, object) in &described.objects {
            let given = given.get(name).map(Vec::as_slice).unwrap_or_default();
            let seen = self.object(name, object, given, records)?;
            looked.records += seen.records;
            looked.refused += seen.refused;
        }
        Ok(looked)
    }

    fn object(
        &self,
        name: &str,
        object: &ObjectDescriptor,
        given: &[Record],
        records: usize,
    ) -> Result<Looked, String> {
        // An object that Tandem does not keep takes no part.
        let Some(canonical) = CanonicalSchema::built_in(name) else { return Ok(Looked::default()) };
        let canonical = canonical.map_err(|error| error.to_string())?;
        let read = Schema::compile(&object.name, &object.schema).map_err(|error| error.to_string())?;
        let terms = Terms { object: name, described: object, canonical: &canonical, read: &read };
        let (instance, _) = self.instance()?;
        let mut mapped = Mapped { run: self, object: name, instance };
        laws::check(&mut mapped, &terms, given, seed(&self.version.digest), records).map_err(
            |why| match why {
                Lawless::Broken(broken) => broken.to_string(),
                Lawless::Fault(fault) => format!("on a made-up record: {fault}"),
            },
        )
    }
}

/// The same records for the same file, other ones for another.
pub(super) fn seed(digest: &Digest) -> u64 {
    digest.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

pub(super) struct Mapped<'m> {
    pub(super) run: &'m Run<'m>,
    pub(super) object: &'m str,
    pub(super) instance: Instance,
}

impl laws::Mapping for Mapped<'_> {
    fn to_provider(&mut self, canonical: &Value, current: Option<&Value>) -> Result<Vec<u8>, Refusal> {
        let (canonical, current) = (canonical.to_string(), current.map(Value::to_string));
        let answer = self.instance.to_provider(
            self.object,
            canonical.as_bytes(),
            current.as_deref().map(str::as_bytes),
        );
        answered(answer)
    }

    fn to_canonical(&mut self, document: &Value) -> Result<Vec<u8>, Refusal> {
        let document = document.to_string();
        let answer = self.instance.to_canonical(self.object, document.as_bytes());
        answered(answer)
    }

    fn renew(&mut self) -> Result<(), String> {
        self.instance = self.run.instance()?.0;
        Ok(())
    }
}

fn answered(
    answer: Result<Result<Vec<u8>, Vec<tandem_core::exchange::Problem>>, super::Fault>,
) -> Result<Vec<u8>, Refusal> {
    answer.map_err(|fault| Refusal::Fault(one_line(&fault.to_string())))?.map_err(Refusal::Record)
}
