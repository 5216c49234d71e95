//! `tandem provider check`: a component through the daemon's own admission, without a daemon.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tandem_core::id::ConnectionId;
use tandem_core::laws::Looked;

use super::args;
use super::failure::{FAILED, Failure};
use super::map::{one_document, settings_of};
use super::online::pretty;
use super::room::Room;
use super::table::{indented, table};
use crate::provider::{Exercise, Limits, LoadError, Providers, Setup, Stored, Trial, Version};

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    file: String,
    /// Id, version and digest prefix. None: it did not get that far.
    provider: Option<String>,
    /// What it failed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// Why, and the way out: the line that the daemon would print.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    bytes: Option<u64>,
    imports: Vec<String>,
    examples: usize,
    /// Records that the laws were held against.
    laws: Looked,
    /// Whose limits: the main file, or the defaults.
    limits_of: String,
    limits: Vec<Limit>,
    functions: Vec<Function>,
    /// What operations answered to made-up input.
    operations: Vec<Answered>,
    /// What went wrong with made-up input although admission does not ask for it.
    notes: Vec<String>,
    compiled_ms: Option<u64>,
    /// How long admission took, with compiling. None: it was refused.
    admitted_ms: Option<u64>,
    took_ms: u64,
}

#[derive(Debug, Serialize)]
struct Limit {
    what: &'static str,
    most: String,
}

#[derive(Debug, Serialize)]
struct Function {
    function: &'static str,
    calls: u64,
    /// Mean time of a call in microseconds.
    microseconds: f64,
    /// Linear memory after the call that left the most, in bytes.
    memory: u64,
}

#[derive(Debug, Serialize)]
struct Answered {
    operation: &'static str,
    /// Mean time of `start` in microseconds.
    start: f64,
    /// Mean time of `resume` in microseconds. None: it asks for nothing that could be answered.
    resume: Option<f64>,
    answers: Vec<String>,
}

/// Checks, and answers what is printed.
pub(super) fn check(config: &Path, asked: &args::ProviderCheck, json: bool) -> Result<String, Failure> {
    let began = Instant::now();
    let settings = match (&asked.connection, &asked.settings) {
        (Some(name), _) => Some(settings_of(config, name)?),
        (None, Some(path)) => Some(one_document(path)?),
        (None, None) => None,
    };
    let facts = asked.facts.as_deref().map(one_document).transpose()?;
    let room = Room::found(config)?;
    let providers = Providers::start(&room.config).map_err(|error| Failure::new(&error))?;
    let empty = || Value::Object(serde_json::Map::new());
    let setup = (settings.is_some() || facts.is_some())
        .then(|| Setup { settings: settings.unwrap_or_else(empty), facts: facts.unwrap_or_else(empty) });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, in_ms);
    let admitting = Instant::now();
    let outcome = admit(&providers, asked, setup.as_ref(), now);
    let admitted_ms = in_ms(admitting.elapsed());
    let exercise = match &outcome {
        Ok((version, _)) => providers.exercise_blocking(version, setup.as_ref(), now),
        Err(_) => Ok(Exercise::default()),
    };
    let (exercise, unexercised) = match exercise {
        Ok(exercise) => (exercise, None),
        Err(error) => (Exercise::default(), Some(error.to_string())),
    };

    let version = outcome.as_ref().ok().map(|(version, _)| version.clone());
    let error = outcome.as_ref().err();
    let nothing = Looked::default();
    let looked = outcome.as_ref().map_or(nothing, |(_, looked)| *looked);
    let report = Report {
        ok: error.is_none(),
        file: asked.file.display().to_string(),
        provider: version.as_ref().map(|version| version.label.to_string()),
        step: error.map(|error| error.step.to_string()),
        error: error.map(ToString::to_string),
        bytes: version.as_ref().map(|version| version.bytes),
        imports: version.as_ref().map(|version| version.imports.clone()).unwrap_or_default(),
        examples: version.as_ref().map_or(0, |version| version.descriptor.examples.len()),
        laws: looked,
        limits: limits(&room.config.limits),
        limits_of: room.source,
        functions: functions(&providers),
        operations: answered(&exercise),
        notes: exercise.faults.into_iter().chain(unexercised).collect(),
        compiled_ms: version.as_ref().map(|version| in_ms(version.compiled_in)),
        admitted_ms: version.as_ref().map(|_| admitted_ms),
        took_ms: in_ms(began.elapsed()),
    };
    let text = if json {
        pretty(&serde_json::to_value(&report).map_err(|error| Failure::new(&error))?)?
    } else {
        show(&report)
    };
    let Some(error) = &report.error else { return Ok(text) };
    super::print(&text)?;
    Err(Failure { status: FAILED, text: if json { String::new() } else { format!("error: {error}\n") } })
}

fn admit(
    providers: &Providers,
    asked: &args::ProviderCheck,
    setup: Option<&Setup>,
    now: u64,
) -> Result<(std::sync::Arc<Version>, Looked), LoadError> {
    let candidate = providers.read_blocking(&asked.file, None)?;
    let (version, looked) = providers.inspect_blocking(&candidate, asked.records)?;
    if let Some(setup) = setup {
        let id = ConnectionId::from(asked.connection.as_deref().unwrap_or("check"));
        let trial = Trial::new(asked.records, now);
        providers.bind_blocking(&version, &id, setup, Some((&Stored::default(), &trial)))?;
    }
    Ok((version, looked))
}

fn in_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn limits(limits: &Limits) -> Vec<Limit> {
    // All of them by name: one that is added has to be shown.
    let Limits {
        component_bytes,
        memory_bytes,
        table_elements,
        deadline,
        deadline_per_kib,
        deadline_of_admission,
        deadline_of_instance,
        wall_factor,
        copied_bytes,
        document_bytes,
        request_body_bytes,
        note_bytes,
        listing_note_bytes,
        cursor_bytes,
        keep_bytes,
        rows,
        text_bytes,
        log_line_bytes,
        log_bytes,
        stderr_bytes,
        calls,
        memory_mark_percent,
    } = limits;
    let limit = |what, most: String| Limit { what, most };
    let bytes = |what, most: usize| Limit { what, most: format!("{most} bytes") };
    vec![
        limit("file", format!("{component_bytes} bytes")),
        bytes("memory", *memory_bytes),
        limit("table elements", table_elements.to_string()),
        limit(
            "CPU time of a call",
            format!("{} ms and {} us for each KiB", deadline.as_millis(), deadline_per_kib.as_micros()),
        ),
        limit("time of a call by the clock", format!("{wall_factor} times its CPU time")),
        limit("CPU time to begin, in admission", format!("{} ms", deadline_of_admission.as_millis())),
        limit("CPU time to begin, at work", format!("{} ms", deadline_of_instance.as_millis())),
        bytes("answer of a call", *copied_bytes),
        bytes("document", *document_bytes),
        bytes("body of a request", *request_body_bytes),
        bytes("note", *note_bytes),
        bytes("note of a listing", *listing_note_bytes),
        bytes("cursor", *cursor_bytes),
        bytes("kept on a link", *keep_bytes),
        limit("rows of an answer", rows.to_string()),
        bytes("id, word or header", *text_bytes),
        bytes("line of the log", *log_line_bytes),
        limit("log", format!("{log_bytes} bytes a minute")),
        bytes("end of stderr", *stderr_bytes),
        limit("calls of an instance", format!("{calls}, give or take a quarter")),
        limit("memory at which an instance is replaced", format!("{memory_mark_percent} %")),
    ]
}

/// A mean for people.
fn microseconds(nanos: f64, count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    let count = count as f64;
    nanos / count / 1_000.0
}

fn answered(exercise: &Exercise) -> Vec<Answered> {
    let one = |one: &crate::provider::Exercised| Answered {
        operation: one.operation,
        start: microseconds(one.starting.as_secs_f64() * 1e9, one.started),
        resume: (one.resumed > 0).then(|| microseconds(one.resuming.as_secs_f64() * 1e9, one.resumed)),
        answers: one.answers.iter().cloned().collect(),
    };
    exercise.operations.iter().map(one).collect()
}

fn functions(providers: &Providers) -> Vec<Function> {
    let called = providers.snapshot().calls.into_iter().filter(|call| call.count > 0);
    called
        .map(|call| {
            #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
            let microseconds = microseconds(call.nanos as f64, call.count);
            Function { function: call.function, calls: call.count, microseconds, memory: call.memory }
        })
        .collect()
}

fn show(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", report.provider.as_deref().unwrap_or(&report.file));
    if let (Some(bytes), Some(compiled)) = (report.bytes, report.compiled_ms) {
        let _ = writeln!(text, "  file       {} ({bytes} bytes, compiled in {compiled} ms)", report.file);
        let imports = if report.imports.is_empty() { "none".to_owned() } else { report.imports.join(", ") };
        let _ = writeln!(text, "  imports    {imports}");
        let _ = writeln!(text, "  examples   {} hold", report.examples);
        let _ = writeln!(
            text,
            "  laws       hold on {} records; {} of them were refused in part",
            report.laws.records, report.laws.refused
        );
    }
    if let Some(took) = report.admitted_ms {
        let _ = writeln!(text, "  admission  took {took} ms: compiling, examples and laws");
    }
    let rows: Vec<_> = report
        .functions
        .iter()
        .map(|function| {
            [
                function.function.to_owned(),
                function.calls.to_string(),
                format!("{:.1}", function.microseconds),
                format!("{} KiB", function.memory >> 10),
            ]
        })
        .collect();
    text.push_str(&indented(&table(["FUNCTION", "CALLS", "MICROSECONDS", "MEMORY"], &rows)));
    if !report.operations.is_empty() {
        text.push('\n');
        let rows: Vec<_> = report
            .operations
            .iter()
            .map(|one| {
                [
                    one.operation.to_owned(),
                    format!("{:.1}", one.start),
                    one.resume.map_or_else(|| "-".to_owned(), |resume| format!("{resume:.1}")),
                    one.answers.join(", "),
                ]
            })
            .collect();
        let head = ["OPERATION", "START (us)", "RESUME (us)", "ANSWERS TO MADE-UP RESPONSES"];
        text.push_str(&indented(&table(head, &rows)));
    }
    let _ = writeln!(text, "\n  limits of {}", report.limits_of);
    let rows: Vec<_> =
        report.limits.iter().map(|limit| [limit.what.to_owned(), limit.most.clone()]).collect();
    text.push_str(&indented(&table(["LIMIT", "AT MOST"], &rows)));
    for note in &report.notes {
        let _ = writeln!(text, "  ! {note}");
    }
    if report.ok {
        text.push_str("It would be admitted.\n");
    }
    text
}
