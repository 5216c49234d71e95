//! `tandem map`: a provider's mapping on documents of a file, there and back, offline and under the daemon's limits.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use tandem_core::descriptor::{Direction, FieldDescriptor, ObjectDescriptor};
use tandem_core::document::{self, Limits};
use tandem_core::exchange::Problem;
use tandem_core::normalise::normal_form;
use tandem_core::schema::{CanonicalSchema, Schema};

use super::args::{self, From};
use super::failure::{FAILED, Failure};
use super::online::pretty;
use super::room::Room;
use super::table::{indented, plain, table, value};
use crate::config::{Config, Connections};
use crate::provider::{EngineConfig, Offline, Setup};

/// What a file may hold.
const FILE: Limits = Limits { bytes: 64 << 20, depth: 66, members: 2_000_000 };

/// What came of a file.
#[derive(Debug, Serialize)]
struct Report {
    provider: String,
    object: String,
    ok: bool,
    records: Vec<Mapped>,
}

/// What came of one document.
#[derive(Debug, Default, Serialize)]
struct Mapped {
    ok: bool,
    /// What was given.
    given: Value,
    /// What it was mapped to. Null: it was refused.
    mapped: Value,
    /// What that was mapped back to. Null: it was not.
    back: Value,
    fields: Vec<Field>,
    problems: Vec<Complaint>,
}

/// One canonical field on its way.
#[derive(Debug, Serialize)]
struct Field {
    field: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical: Option<Value>,
    /// Members of the CRM's document that it is made of.
    document: Vec<Member>,
    /// From canonical: the canonical value that came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    back: Option<Value>,
    /// From provider: the members as they would be written back, where they differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    written: Vec<Member>,
    /// Why it may not come back as it went, if the provider says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    lossy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Member {
    pointer: String,
    value: Option<Value>,
}

/// How a field came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// As it went.
    Same,
    /// In its normal form.
    Normal,
    /// Otherwise, and the provider says so.
    Lossy,
    /// Otherwise: a law is broken.
    Broken,
    /// It flows one way only.
    OneWay,
    /// The provider does not map it.
    NotMapped,
}

/// Something that is wrong with a document on its way.
#[derive(Debug, Serialize)]
struct Complaint {
    /// "given", "mapped" or "back".
    at: &'static str,
    #[serde(flatten)]
    problem: Problem,
}

/// Maps, and answers what is printed.
pub(super) fn map(config: &Path, asked: &args::Map, json: bool) -> Result<String, Failure> {
    let given = documents(&asked.file)?;
    let optional = |path: &Option<std::path::PathBuf>| path.as_deref().map(one_document).transpose();
    let settings = match &asked.connection {
        Some(name) => Some(settings_of(config, name)?),
        None => optional(&asked.settings)?,
    };
    let empty = || Value::Object(serde_json::Map::new());
    let setup = Setup {
        settings: settings.unwrap_or_else(empty),
        facts: optional(&asked.facts)?.unwrap_or_else(empty),
    };
    let current = optional(&asked.current)?;
    let limits = Room::found(config)?.limits();
    let mut offline = Offline::load_with(&asked.provider, &setup, &EngineConfig::default(), limits)
        .map_err(|error| Failure::new(&error))?;

    let connection = offline.view().connection.clone();
    let Some(object) = connection.objects.get(&asked.object) else {
        let known: Vec<_> = connection.objects.keys().map(String::as_str).collect();
        let what = format!(
            "{} has no object {:?}; it has {}",
            offline.version().label,
            asked.object,
            known.join(", ")
        );
        return Err(Failure::usage(what));
    };
    let schema = |error: tandem_core::schema::SchemaError| Failure::new(&error);
    let run = Run {
        object: &asked.object,
        descriptor: object,
        canonical: CanonicalSchema::built_in(&asked.object).transpose().map_err(schema)?,
        read: Schema::compile(&object.name, &object.schema).map_err(schema)?,
        write: object
            .write_schema
            .as_ref()
            .map(|write| Schema::compile(&object.name, write))
            .transpose()
            .map_err(schema)?,
        current: current.as_ref(),
    };
    let records: Vec<Mapped> = given
        .into_iter()
        .map(|given| match asked.from {
            From::Canonical => run.start_with_canonical(&mut offline, given),
            From::Provider => run.start_with_provider(&mut offline, given),
        })
        .collect();
    let ok = records.iter().all(|record| record.ok);
    let report =
        Report { provider: offline.version().label.to_string(), object: asked.object.clone(), ok, records };
    let text = if json {
        pretty(&serde_json::to_value(&report).map_err(|error| Failure::new(&error))?)?
    } else {
        show(&report, asked.from)
    };
    if ok {
        return Ok(text);
    }
    super::print(&text)?;
    Err(Failure {
        status: FAILED,
        text: "error: the mapping does not keep its laws, or refused a document\n".to_owned(),
    })
}

pub(super) fn documents(path: &Path) -> Result<Vec<Value>, Failure> {
    match parsed(path)? {
        Value::Array(list) => Ok(list),
        one => Ok(vec![one]),
    }
}

pub(super) fn one_document(path: &Path) -> Result<Value, Failure> {
    let value = parsed(path)?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Failure::usage(format!("{}: is not a JSON object", path.display())))
}

fn parsed(path: &Path) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|read| bytes = read)
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    document::parse_within(&bytes, &FILE).map_err(|problems| {
        let lines = problems.iter().map(|problem| format!("error: {}: {}\n", path.display(), told(problem)));
        Failure { text: lines.collect(), ..Failure::usage("") }
    })
}

pub(super) fn settings_of(config: &Path, name: &str) -> Result<Value, Failure> {
    let config = Config::load(config)?;
    let connections = Connections::load(&config)?;
    if let Some(bad) = connections.bad.iter().find(|bad| bad.id.as_str() == name) {
        return Err(crate::config::ConfigError { findings: bad.findings.clone() }.into());
    }
    let found = connections.good.iter().find(|(id, _)| id.as_str() == name);
    let missing =
        || Failure::usage(format!("there is no connection {name:?} in {}", config.connections_dir.display()));
    found.map(|(_, connection)| connection.settings.clone()).ok_or_else(missing)
}

fn told(problem: &Problem) -> String {
    let pointer = problem.pointer.as_deref().filter(|pointer| !pointer.is_empty());
    pointer.map_or_else(|| problem.message.clone(), |pointer| format!("{pointer}: {}", problem.message))
}

/// What all documents of a run have in common.
struct Run<'r> {
    object: &'r str,
    descriptor: &'r ObjectDescriptor,
    canonical: Option<CanonicalSchema>,
    /// Documents as the CRM gives them.
    read: Schema,
    /// What may be sent. None: documents in read form.
    write: Option<Schema>,
    current: Option<&'r Value>,
}

impl Run<'_> {
    /// c → P(c, s) → C(s ⊕ P(c, s)), which must be N(c).
    fn start_with_canonical(&self, offline: &mut Offline, given: Value) -> Mapped {
        let mut record = Mapped::default();
        self.complain("given", self.check_canonical(&given), &mut record);
        let mapped = self.to_provider(offline, &given, self.current);
        record.mapped = self.keep("mapped", mapped, &mut record);
        if record.mapped.is_object() {
            let mut whole = self.current.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
            document::merge(&mut whole, &record.mapped);
            let valid = self
                .write
                .as_ref()
                .map_or_else(|| self.read.validate(&whole), |write| write.validate(&record.mapped));
            self.complain("mapped", valid.err().unwrap_or_default(), &mut record);
            let back = self.to_canonical(offline, &whole);
            record.back = self.keep("back", back, &mut record);
        }
        if record.back.is_object() {
            self.complain("back", self.check_canonical(&record.back), &mut record);
            let (went, came) = (document::fields(&given), document::fields(&record.back));
            let pointers: BTreeSet<&String> = went.keys().chain(came.keys()).collect();
            for pointer in pointers {
                let (went, came) = (went.get(pointer), came.get(pointer));
                let field = self.descriptor.fields.get(pointer);
                let verdict = match field.map(|field| field.direction) {
                    None => Verdict::NotMapped,
                    // What only comes from the CRM is there because it stood in the current document.
                    Some(Direction::ToCanonical | Direction::ToProvider) => Verdict::OneWay,
                    Some(Direction::Both) => compare(field, went, came),
                };
                // A field that was not given is the CRM's own: nothing was asked of it.
                let verdict =
                    if went.is_none() && verdict == Verdict::Broken { Verdict::OneWay } else { verdict };
                record.fields.push(Field {
                    field: pointer.clone(),
                    verdict,
                    canonical: went.cloned(),
                    document: members(field, &record.mapped),
                    back: came.cloned(),
                    written: Vec::new(),
                    lossy: field.and_then(|field| field.lossy.clone()),
                });
            }
        }
        record.given = given;
        record.judged()
    }

    /// s → C(s) → P(C(s), s), which must change nothing beyond N.
    fn start_with_provider(&self, offline: &mut Offline, given: Value) -> Mapped {
        let mut record = Mapped::default();
        self.complain("given", self.read.validate(&given).err().unwrap_or_default(), &mut record);
        let mapped = self.to_canonical(offline, &given);
        record.mapped = self.keep("mapped", mapped, &mut record);
        if record.mapped.is_object() {
            self.complain("mapped", self.check_canonical(&record.mapped), &mut record);
            let back = self.to_provider(offline, &record.mapped, Some(&given));
            record.back = self.keep("back", back, &mut record);
        }
        if record.back.is_object() {
            let mut whole = given.clone();
            document::merge(&mut whole, &record.back);
            let again = self.to_canonical(offline, &whole);
            let again = self.keep("back", again, &mut record);
            let (first, second) = (document::fields(&record.mapped), document::fields(&again));
            for (pointer, field) in &self.descriptor.fields {
                let (before, after) = (members(Some(field), &given), members(Some(field), &whole));
                if before.is_empty() && !first.contains_key(pointer) {
                    continue;
                }
                let verdict = match field.direction {
                    Direction::ToProvider | Direction::ToCanonical => Verdict::OneWay,
                    Direction::Both if before == after => Verdict::Same,
                    Direction::Both => {
                        compare(Some(field), first.get(pointer), second.get(pointer)).at_least_normal()
                    }
                };
                let written = if before == after { Vec::new() } else { after };
                record.fields.push(Field {
                    field: pointer.clone(),
                    verdict,
                    canonical: first.get(pointer).cloned(),
                    document: before,
                    back: None,
                    written,
                    lossy: field.lossy.clone(),
                });
            }
            let foreign = self.foreign_changes(&given, &whole);
            self.complain("back", foreign, &mut record);
        }
        record.given = given;
        record.judged()
    }

    /// Members that belong to no field and were changed all the same.
    fn foreign_changes(&self, before: &Value, after: &Value) -> Vec<Problem> {
        let owned: BTreeSet<&str> =
            self.descriptor.fields.values().flat_map(|field| &field.provider).map(String::as_str).collect();
        let mut changed = Vec::new();
        changes("", before, after, &owned, &mut changed);
        let problem = |pointer| {
            document::problem("changed", "a member that is not mapped would be changed", Some(pointer))
        };
        changed.into_iter().map(problem).collect()
    }

    fn to_provider(
        &self,
        offline: &mut Offline,
        canonical: &Value,
        current: Option<&Value>,
    ) -> Result<Value, Vec<Problem>> {
        let (canonical, current) = (canonical.to_string(), current.map(ToString::to_string));
        let current = current.as_deref().map(str::as_bytes);
        let answer =
            offline.provider().and_then(|p| p.to_provider(self.object, canonical.as_bytes(), current));
        read(answer.map_err(|fault| vec![document::problem("fault", fault.to_string(), None)])?)
    }

    fn to_canonical(&self, offline: &mut Offline, document: &Value) -> Result<Value, Vec<Problem>> {
        let document = document.to_string();
        let answer = offline.provider().and_then(|p| p.to_canonical(self.object, document.as_bytes()));
        read(answer.map_err(|fault| vec![document::problem("fault", fault.to_string(), None)])?)
    }

    fn check_canonical(&self, canonical: &Value) -> Vec<Problem> {
        let checked = self.canonical.as_ref().map(|schema| schema.validate(canonical));
        checked.and_then(Result::err).unwrap_or_default()
    }

    fn complain(&self, at: &'static str, problems: Vec<Problem>, record: &mut Mapped) {
        record.problems.extend(problems.into_iter().map(|problem| Complaint { at, problem }));
    }

    fn keep(&self, at: &'static str, answer: Result<Value, Vec<Problem>>, record: &mut Mapped) -> Value {
        answer.unwrap_or_else(|problems| {
            self.complain(at, problems, record);
            Value::Null
        })
    }
}

fn read(answer: Result<Vec<u8>, Vec<Problem>>) -> Result<Value, Vec<Problem>> {
    answer.and_then(|json| document::parse(&json))
}

impl Mapped {
    fn judged(mut self) -> Self {
        let lawful = self.fields.iter().all(|field| field.verdict != Verdict::Broken);
        self.ok = self.problems.is_empty() && lawful && self.back.is_object();
        self
    }
}

impl Verdict {
    /// The CRM's members differ, so "same" would be too much said.
    fn at_least_normal(self) -> Self {
        if self == Self::Same { Self::Normal } else { self }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Same => "=",
            Self::Normal => "~",
            Self::Lossy => "<",
            Self::Broken => "!",
            Self::OneWay => ">",
            Self::NotMapped => "-",
        }
    }

    fn legend(self) -> &'static str {
        match self {
            Self::Same => "came back as it went",
            Self::Normal => "came back in its normal form",
            Self::Lossy => "came back otherwise, as the provider says it may",
            Self::Broken => "came back otherwise: a law is broken",
            Self::OneWay => "flows one way only",
            Self::NotMapped => "is not mapped",
        }
    }
}

fn compare(field: Option<&FieldDescriptor>, went: Option<&Value>, came: Option<&Value>) -> Verdict {
    if went == came {
        return Verdict::Same;
    }
    let chain = field.and_then(|field| field.normalise.as_deref()).unwrap_or("exact");
    let normal =
        |value: Option<&Value>| value.map(|value| normal_form(chain, value)).filter(|value| !value.is_null());
    if normal(went) == normal(came) {
        Verdict::Normal
    } else if field.is_some_and(|field| field.lossy.is_some()) {
        Verdict::Lossy
    } else {
        Verdict::Broken
    }
}

/// The members of a document that a field is made of, those that are there.
fn members(field: Option<&FieldDescriptor>, document: &Value) -> Vec<Member> {
    let pointers = field.map(|field| field.provider.as_slice()).unwrap_or_default();
    let found = |pointer: &String| {
        let value = document.pointer(pointer)?;
        Some(Member { pointer: pointer.clone(), value: Some(value.clone()) })
    };
    pointers.iter().filter_map(found).collect()
}

fn changes(at: &str, before: &Value, after: &Value, owned: &BTreeSet<&str>, changed: &mut Vec<String>) {
    if before == after || owned.contains(at) {
        return;
    }
    if let (Value::Object(before), Value::Object(after)) = (before, after) {
        for (name, value) in after {
            let pointer = format!("{at}/{}", document::escape(name));
            match before.get(name) {
                Some(before) => changes(&pointer, before, value, owned, changed),
                None if !owned.contains(pointer.as_str()) => changed.push(pointer),
                None => {}
            }
        }
    } else {
        changed.push(at.to_owned());
    }
}

fn show(report: &Report, from: From) -> String {
    let mut text = String::new();
    let count = report.records.len();
    // Writing to a string does not fail.
    for (position, record) in report.records.iter().enumerate() {
        let _ = writeln!(text, "{} {}, document {} of {count}", report.provider, report.object, position + 1);
        let rows: Vec<_> = record.fields.iter().map(|field| row(field, from)).collect();
        if !rows.is_empty() {
            let head = match from {
                From::Canonical => ["", "FIELD", "SYSTEM A", "CRM", "BACK IN SYSTEM A"],
                From::Provider => ["", "FIELD", "CRM", "SYSTEM A", "BACK IN THE CRM"],
            };
            text.push_str(&indented(&table(head, &rows)));
        }
        for complaint in &record.problems {
            let _ = writeln!(text, "  ! {}: {}", complaint.at, plain(&told(&complaint.problem)));
        }
        text.push('\n');
    }
    let verdicts = [
        Verdict::Same,
        Verdict::Normal,
        Verdict::Lossy,
        Verdict::OneWay,
        Verdict::NotMapped,
        Verdict::Broken,
    ];
    for verdict in verdicts {
        if report.records.iter().flat_map(|record| &record.fields).any(|field| field.verdict == verdict) {
            let _ = writeln!(text, "{} {}", verdict.mark(), verdict.legend());
        }
    }
    let kept = report.records.iter().filter(|record| record.ok).count();
    let _ = writeln!(text, "{kept} of {count} documents went there and back as the laws say");
    text
}

fn row(field: &Field, from: From) -> [String; 5] {
    let shown = |members: &[Member]| {
        let one = |member: &Member| format!("{} {}", member.pointer, value(member.value.as_ref()));
        let all = members.iter().map(one).collect::<Vec<_>>().join("; ");
        if all.is_empty() { "-".to_owned() } else { all }
    };
    let (document, canonical) = (shown(&field.document), value(field.canonical.as_ref()));
    let mut back = match (field.verdict, from) {
        (Verdict::Same, _) => "=".to_owned(),
        (_, From::Canonical) => value(field.back.as_ref()),
        (_, From::Provider) if field.written.is_empty() => "=".to_owned(),
        (_, From::Provider) => shown(&field.written),
    };
    if let Some(lossy) = field.lossy.as_ref().filter(|_| field.verdict == Verdict::Lossy) {
        let _ = write!(back, "  ({lossy})");
    }
    let (first, second) = match from {
        From::Canonical => (canonical, document),
        From::Provider => (document, canonical),
    };
    [field.verdict.mark().to_owned(), field.field.clone(), first, second, back]
}
