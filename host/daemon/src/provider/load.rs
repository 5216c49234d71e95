//! From a file to an admitted version, and from a version with settings to a connection. Nothing is in use before it has
//! passed every step; every failure is one line that names the file, the provider as far as it is known, the step, the
//! reason and the way out.
//!
//! Steps: read, size, structure, contract, imports, compile, link, describe, descriptor, examples, laws; for a connection:
//! settings, configure, connection, and when it is tried with another version or other settings: stored, laws. All of it blocks: it runs on threads made for that, never on those of the runtime.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tandem_core::descriptor::{ConnectionDescriptor, Descriptor};
use tandem_core::exchange::Problem;
use tandem_core::id::{ConnectionId, ProviderId};
use wasmtime::component::Component;

use super::contract::{self, Track, Unlinkable};
use super::engine::one_line;
use super::instance::{Instance, Workshop};
use super::registry::{Connection, Seat, Version, digest, next_serial};
use super::structure::{self, Structure};
use super::{View, describe, examples};

/// What was being done when loading failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// Reading the file.
    Read,
    /// Its size.
    Size,
    /// Whether it is a component at all.
    Structure,
    /// Whether it speaks a contract that this host speaks.
    Contract,
    /// What it wants from the host.
    Imports,
    /// Compiling it.
    Compile,
    /// Fitting imports and exports.
    Link,
    /// Asking for its descriptor.
    Describe,
    /// The descriptor's content.
    Descriptor,
    /// Its golden examples.
    Examples,
    /// A connection's settings.
    Settings,
    /// Configuring it for a connection.
    Configure,
    /// The connection descriptor's content.
    Connection,
    /// Whether it reads what an earlier version left: cursors, what is kept on links.
    Stored,
    /// The laws of the mapping, on golden examples and on records that are made up.
    Laws,
}

impl fmt::Display for LoadStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Size => "size",
            Self::Structure => "structure",
            Self::Contract => "contract",
            Self::Imports => "imports",
            Self::Compile => "compile",
            Self::Link => "link",
            Self::Describe => "describe",
            Self::Descriptor => "descriptor",
            Self::Examples => "examples",
            Self::Settings => "settings",
            Self::Configure => "configure",
            Self::Connection => "connection",
            Self::Stored => "stored",
            Self::Laws => "laws",
        })
    }
}

/// A provider could not be loaded, or a connection could not be made with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {step}: {reason}; {remedy}")]
pub struct LoadError {
    /// The file, the provider (`hubspot@0.1.0#1a2b3c4d`) when it is known, the connection if it is about one.
    pub what: String,
    /// The step.
    pub step: LoadStep,
    /// Why, on one line.
    pub reason: String,
    /// The way out.
    pub remedy: String,
    /// The file ends in the middle: it may still be on its way.
    pub incomplete: bool,
}

/// What an error is about, as far as it is known.
#[derive(Clone)]
pub(super) struct Subject(String);

impl Subject {
    pub(super) fn file(path: &Path) -> Self {
        Self(path.display().to_string())
    }

    pub(super) fn provider(self, label: &str) -> Self {
        Self(format!("{}: provider {label}", self.0))
    }

    pub(super) fn connection(version: &Version, id: &ConnectionId) -> Self {
        Self(format!("connection {id}: provider {} ({})", version.label, version.file.display()))
    }

    pub(super) fn error(
        &self,
        step: LoadStep,
        reason: impl AsRef<str>,
        remedy: impl Into<String>,
    ) -> LoadError {
        LoadError {
            what: self.0.clone(),
            step,
            reason: one_line(reason.as_ref()),
            remedy: remedy.into(),
            incomplete: false,
        }
    }
}

const REBUILD: &str = "build it again for wasm32-wasip2 and copy the whole file";
pub(super) const REPORT: &str = "ask the provider's author for a version that does not";

/// A file that was read, and nothing more.
#[derive(Clone)]
pub struct Candidate {
    /// Where it stands for people: the file that was dropped in, also when the bytes come from elsewhere.
    pub file: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("file", &self.file).field("bytes", &self.bytes.len()).finish()
    }
}

impl Candidate {
    /// Reads a file, no further than its size allows. `shown_as`: the file that errors name, where it is another one.
    pub(super) fn read(limit: u64, path: &Path, shown_as: Option<&Path>) -> Result<Self, LoadError> {
        let shown = shown_as.unwrap_or(path);
        let bytes = read(limit, path, &Subject::file(shown))?;
        Ok(Self { file: shown.to_owned(), digest: digest(&bytes), bytes: bytes.into() })
    }
}

/// Loads one file, without the laws.
pub(super) fn file(workshop: &Workshop, path: &Path) -> Result<Version, LoadError> {
    inspect(workshop, &Candidate::read(workshop.limits.component_bytes, path, None)?)
}

/// Everything that can be said of a file by itself, but for the laws.
pub(super) fn inspect(workshop: &Workshop, candidate: &Candidate) -> Result<Version, LoadError> {
    let path = candidate.file.as_path();
    let subject = Subject::file(path);
    let (bytes, digest) = (&*candidate.bytes, candidate.digest);
    let structure = structure::read(bytes).map_err(|damage| LoadError {
        incomplete: damage.incomplete,
        ..subject.error(LoadStep::Structure, damage.reason, REBUILD)
    })?;
    let track = track(&structure, &subject)?;
    structure::allow(&structure).map_err(|import| {
        subject.error(
            LoadStep::Imports,
            format!("it imports {import}, which no provider gets"),
            "a provider does no input or output of its own: take out what needs it",
        )
    })?;

    let began = Instant::now();
    let component = Component::from_binary(workshop.engine.inner(), bytes)
        .map_err(|error| subject.error(LoadStep::Compile, format!("{error:#}"), REBUILD))?;
    let compiled_in = began.elapsed();
    let size = bytes.len() as u64;

    let remedy = format!("build it against the contract {} of this host (wit/)", Track::SPOKEN);
    let prepared = contract::prepare(&workshop.engine, &component, track).map_err(|error| match error {
        Unlinkable::Imports(reason) => subject.error(LoadStep::Imports, reason, remedy.clone()),
        Unlinkable::Exports(reason) => subject.error(LoadStep::Link, reason, remedy.clone()),
    })?;

    let file_label: Arc<str> =
        format!("{}#{}", path.file_stem().unwrap_or_default().display(), short(&digest)).into();
    let nobody: Arc<str> = "".into();
    let described = Instance::new(workshop, &*prepared, &file_label, &nobody)
        .and_then(|mut instance| instance.describe())
        .map_err(|fault| subject.error(LoadStep::Describe, fault.to_string(), REPORT))?;
    let descriptor = describe::descriptor(&described)
        .map_err(|reason| subject.error(LoadStep::Descriptor, reason, "mend the descriptor"))?;
    let label: Arc<str> = format!("{}@{}#{}", descriptor.id, descriptor.version, short(&digest)).into();
    let subject = subject.provider(&label);
    let settings = settings_schema(&descriptor).map_err(|reason| {
        subject.error(LoadStep::Descriptor, reason, "mend the descriptor's settings schema")
    })?;

    let version = Version {
        provider: ProviderId::from(descriptor.id.as_str()),
        label,
        descriptor: Arc::new(descriptor),
        file: path.to_owned(),
        digest,
        bytes: size,
        imports: structure.imports,
        compiled_in,
        settings,
        prepared,
    };
    examples::run(workshop, &version).map_err(|reason| {
        subject.error(LoadStep::Examples, reason, "mend the mapping or the example; a mapping keeps no state")
    })?;
    Ok(version)
}

fn short(digest: &[u8; 32]) -> String {
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn read(limit: u64, path: &Path, subject: &Subject) -> Result<Vec<u8>, LoadError> {
    use std::io::Read as _;

    let unreadable = |error: std::io::Error| {
        subject.error(LoadStep::Read, error.to_string(), "make it a file that the daemon can read")
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        let reason = format!("it is larger than {limit} bytes");
        return Err(subject.error(
            LoadStep::Size,
            reason,
            "strip it and build it with optimisation for size",
        ));
    }
    Ok(bytes)
}

fn track(structure: &Structure, subject: &Subject) -> Result<Track, LoadError> {
    let spoken = Track::SPOKEN;
    let remedy = format!("build it against the contract {spoken} of this host (wit/)");
    let Some(version) = &structure.contract else {
        let reason = format!(
            "it exports no tandem:provider/descriptor but {}",
            if structure.exports.is_empty() { "nothing".to_owned() } else { structure.exports.join(", ") }
        );
        return Err(subject.error(LoadStep::Contract, reason, remedy));
    };
    Track::of(version).ok_or_else(|| {
        let reason = format!("it speaks the contract {version}, this host speaks {spoken}");
        subject.error(LoadStep::Contract, reason, remedy)
    })
}

fn settings_schema(descriptor: &Descriptor) -> Result<Option<jsonschema::Validator>, String> {
    descriptor
        .settings
        .as_ref()
        .map(|schema| {
            jsonschema::validator_for(schema)
                .map_err(|error| format!("its settings are no JSON Schema: {error}"))
        })
        .transpose()
}

/// What a connection is made from.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The operator's settings for this connection; checked against the provider's schema.
    pub settings: Value,
    /// What `probe` and `discover` said; an empty object before that.
    pub facts: Value,
}

/// Configures a version for a connection.
pub(super) fn connection(
    workshop: &Workshop,
    version: &Arc<Version>,
    id: &ConnectionId,
    setup: &Setup,
    before: Option<&Connection>,
) -> Result<(Connection, Instance), LoadError> {
    let subject = Subject::connection(version, id);
    let settings = object(&setup.settings);
    if let Some(schema) = &version.settings {
        // The value itself stays out of the message: people put secrets where they do not belong.
        schema.validate(&settings).map_err(|error| {
            let reason = format!("{} at {:?}", error.masked(), error.instance_path().to_string());
            subject.error(LoadStep::Settings, reason, "mend the connection's settings")
        })?;
    }
    let settings = settings.to_string().into_bytes();
    let facts = object(&setup.facts).to_string().into_bytes();
    let name: Arc<str> = id.as_str().into();
    let mut instance = Instance::of(workshop, version, &name)
        .map_err(|fault| subject.error(LoadStep::Configure, fault.to_string(), REPORT))?;
    let described = instance
        .configure(&settings, &facts)
        .map_err(|fault| subject.error(LoadStep::Configure, fault.to_string(), REPORT))?
        .map_err(|problems| {
            subject.error(LoadStep::Configure, said(&problems), "mend the connection's settings")
        })?;
    let described: ConnectionDescriptor = describe::connection(&described).map_err(|reason| {
        subject.error(LoadStep::Connection, reason, "ask the provider's author to mend it")
    })?;
    let (settings_digest, facts_digest) = (digest(&settings), digest(&facts));
    let same_use = before
        .filter(|other| other.version.digest == version.digest && other.settings_digest == settings_digest);
    let connection = Connection {
        id: id.clone(),
        name,
        version: Arc::clone(version),
        settings_digest,
        facts_digest,
        settings,
        facts,
        view: Arc::new(View {
            provider: version.provider.clone(),
            label: version.label.to_string(),
            descriptor: Arc::clone(&version.descriptor),
            connection: Arc::new(described),
        }),
        serial: next_serial(),
        seat: before.map_or_else(|| Arc::new(Seat::default()), |other| Arc::clone(&other.seat)),
        breaker: same_use.map_or_else(|| Arc::new(Mutex::default()), |other| Arc::clone(&other.breaker)),
    };
    Ok((connection, instance))
}

fn object(value: &Value) -> Value {
    if value.is_null() { Value::Object(serde_json::Map::new()) } else { value.clone() }
}

/// Problems on one line.
pub(super) fn said(problems: &[Problem]) -> String {
    let one = |problem: &Problem| {
        let place = problem.pointer.as_deref().filter(|pointer| !pointer.is_empty());
        place.map_or_else(|| problem.message.clone(), |place| format!("{} at {place}", problem.message))
    };
    let mut line = problems.iter().take(5).map(one).collect::<Vec<_>>().join(", ");
    if problems.len() > 5 {
        line.push_str(", and more");
    }
    line
}

/// Longest time that one file may take to load before the log says so.
pub(super) const SLOW_LOAD: Duration = Duration::from_secs(10);
