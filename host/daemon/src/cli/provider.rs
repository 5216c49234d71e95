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
use super::table::{indented, table};
use crate::provider::{Limits, LoadError, Providers, RuntimeConfig, Setup, Stored, Trial, Version};

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
    limits: Vec<Limit>,
    functions: Vec<Function>,
    compiled_ms: Option<u64>,
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

/// Checks, and answers what is printed.
pub(super) fn check(config: &Path, asked: &args::ProviderCheck, json: bool) -> Result<String, Failure> {
    let began = Instant::now();
    let settings = match (&asked.connection, &asked.settings) {
        (Some(name), _) => Some(settings_of(config, name)?),
        (None, Some(path)) => Some(one_document(path)?),
        (None, None) => None,
    };
    let facts = asked.facts.as_deref().map(one_document).transpose()?;
    let room = RuntimeConfig { lanes: Some(1), ..RuntimeConfig::default() };
    let providers = Providers::start(&room).map_err(|error| Failure::new(&error))?;
    let outcome = admit(&providers, asked, settings, facts);

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
        limits: limits(&room.limits),
        functions: functions(&providers),
        compiled_ms: version.as_ref().map(|version| in_ms(version.compiled_in)),
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
    settings: Option<Value>,
    facts: Option<Value>,
) -> Result<(std::sync::Arc<Version>, Looked), LoadError> {
    let candidate = providers.read_blocking(&asked.file, None)?;
    let (version, looked) = providers.inspect_blocking(&candidate, asked.records)?;
    if settings.is_some() || facts.is_some() {
        let empty = || Value::Object(serde_json::Map::new());
        let setup = Setup { settings: settings.unwrap_or_else(empty), facts: facts.unwrap_or_else(empty) };
        let id = ConnectionId::from(asked.connection.as_deref().unwrap_or("check"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, in_ms);
        let trial = Trial::new(asked.records, now);
        providers.bind_blocking(&version, &id, &setup, Some((&Stored::default(), &trial)))?;
    }
    Ok((version, looked))
}

fn in_ms(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn limits(limits: &Limits) -> Vec<Limit> {
    let limit = |what, most: String| Limit { what, most };
    vec![
        limit("file", format!("{} bytes", limits.component_bytes)),
        limit("memory", format!("{} bytes", limits.memory_bytes)),
        limit("table elements", limits.table_elements.to_string()),
        limit(
            "CPU time of a call",
            format!(
                "{} ms and {} us for each KiB",
                limits.deadline.as_millis(),
                limits.deadline_per_kib.as_micros()
            ),
        ),
        limit("document", format!("{} bytes", limits.document_bytes)),
    ]
}

fn functions(providers: &Providers) -> Vec<Function> {
    let called = providers.snapshot().calls.into_iter().filter(|call| call.count > 0);
    called
        .map(|call| {
            #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
            let microseconds = call.nanos as f64 / call.count as f64 / 1_000.0;
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
    let limits: Vec<String> =
        report.limits.iter().map(|limit| format!("{} {}", limit.what, limit.most)).collect();
    let _ = writeln!(text, "  limits     {}", limits.join("; "));
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
    if report.ok {
        text.push_str("It would be admitted.\n");
    }
    text
}
