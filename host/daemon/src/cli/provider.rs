//! `tandem provider check`: a component through the daemon's own admission, without a daemon.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use tandem_core::id::ConnectionId;
use tandem_core::laws::Looked;

use super::args;
use super::case;
use super::failure::{FAILED, Failure};
use super::map::{one_document, settings_of};
use super::online::pretty;
use super::room::Room;
use super::table::{indented, plain, table};
use crate::provider::{
    Cost, Exercise, Limits, LoadError, Measured, Providers, Setup, Stored, Trial, Version, Weighed,
};

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
    /// What golden cases took.
    cases: Vec<Case>,
    /// Operations that no case measures.
    unmeasured: Vec<&'static str>,
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
    /// Linear memory of an instance of which only this was asked, after the call that left the most, in bytes.
    memory: u64,
    /// Calls that were answered with a refusal of the record.
    refused: u64,
}

#[derive(Debug, Serialize)]
struct Case {
    case: String,
    /// The operation, or `receive`.
    operation: &'static str,
    /// What it ended in.
    ends: String,
    /// Why its time is not counted. None: it ended in what the operation is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncounted: Option<String>,
    requests: usize,
    /// Mean time of `start`, or of `receive`, in microseconds.
    first: Option<f64>,
    /// Mean time of `resume` in microseconds.
    resume: Option<f64>,
    /// Linear memory after the call that left the most, in bytes.
    memory: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Answered {
    operation: &'static str,
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
    let samples = asked.cases.as_deref().map(case::samples).transpose()?.unwrap_or_default();
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
    let measured = match &outcome {
        Ok((version, _)) => providers.measure_blocking(version, setup.as_ref(), &samples),
        Err(_) => Measured::default(),
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
        functions: measured.functions.iter().map(function).collect(),
        cases: measured.samples.iter().map(weighed).collect(),
        unmeasured: if error.is_none() { measured.unmeasured() } else { Vec::new() },
        operations: answered(&exercise),
        notes: exercise.faults.into_iter().chain(measured.faults).chain(unexercised).collect(),
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

fn microseconds(cost: &Cost) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    let calls = cost.calls.max(1) as f64;
    cost.took.as_secs_f64() * 1e6 / calls
}

fn function(cost: &Cost) -> Function {
    Function {
        function: cost.function,
        calls: cost.calls,
        microseconds: microseconds(cost),
        memory: cost.memory,
        refused: cost.refused,
    }
}

fn weighed(one: &Weighed) -> Case {
    let costs = || one.first.iter().chain(&one.resume);
    Case {
        case: one.name.clone(),
        operation: one.operation,
        ends: one.ends.clone(),
        uncounted: one.uncounted.clone(),
        requests: one.requests,
        first: one.first.as_ref().map(microseconds),
        resume: one.resume.as_ref().map(microseconds),
        memory: costs().map(|cost| cost.memory).max(),
    }
}

fn answered(exercise: &Exercise) -> Vec<Answered> {
    let one = |one: &crate::provider::Exercised| Answered {
        operation: one.operation,
        answers: one.answers.iter().cloned().collect(),
    };
    exercise.operations.iter().map(one).collect()
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
    text.push_str(&indented(&figures(report)));
    if !report.operations.is_empty() {
        text.push('\n');
        let rows: Vec<_> =
            report.operations.iter().map(|one| [one.operation.to_owned(), one.answers.join(", ")]).collect();
        text.push_str(&indented(&table(["OPERATION", "ANSWERS TO MADE-UP RESPONSES"], &rows)));
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

/// What was measured, and what was not.
fn figures(report: &Report) -> String {
    let rows: Vec<_> = report
        .functions
        .iter()
        .map(|function| {
            [
                function.function.to_owned(),
                function.calls.to_string(),
                format!("{:.1}", function.microseconds),
                kib(function.memory),
                function.refused.to_string(),
            ]
        })
        .collect();
    let mut text = table(["FUNCTION", "CALLS", "MICROSECONDS", "MEMORY", "REFUSED"], &rows);
    if !report.cases.is_empty() {
        text.push('\n');
        let figure = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"));
        let rows: Vec<_> = report
            .cases
            .iter()
            .map(|one| {
                [
                    plain(&one.case),
                    one.operation.to_owned(),
                    one.requests.to_string(),
                    figure(one.first),
                    figure(one.resume),
                    one.memory.map_or_else(|| "-".to_owned(), kib),
                    match &one.uncounted {
                        None => one.ends.clone(),
                        Some(why) => format!("NOT COUNTED: {}; {}", one.ends, plain(why)),
                    },
                ]
            })
            .collect();
        let head = ["CASE", "OPERATION", "REQUESTS", "START (us)", "RESUME (us)", "MEMORY", "ENDS IN"];
        text.push_str(&table(head, &rows));
    }
    if !report.unmeasured.is_empty() {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "\nnot measured, for want of a golden case (--cases) that ends in a result: {}",
            report.unmeasured.join(", ")
        );
    }
    text
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes >> 10)
}
