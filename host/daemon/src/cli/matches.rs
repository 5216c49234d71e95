//! Whom a record is: the report of what a first sync would find, and decisions about single records.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_core::clash::Choice;
use tandem_core::matching::{Kind, Row, Ruling};

use super::args;
use super::client::Client;
use super::failure::Failure;
use super::online::read;
use super::show;
use super::table::{harmless, indented, plain, table, time};
use crate::admin::matches::{DecideMatch, MatchReport, MatchRows, MatchState};
use crate::admin::view::ReviewView;

/// How often the daemon is asked how far a report is.
const ASK: Duration = Duration::from_millis(250);
/// How often it is told.
const TELL: Duration = Duration::from_secs(2);
/// Rows that are asked for at once.
const PAGE: usize = 1_000;

/// A report with the rows that were asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    #[serde(flatten)]
    report: MatchReport,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Row>,
}

/// Lets the daemon make reports, waits for them, and shows them.
pub(super) async fn report(client: &Client, asked: &args::Match) -> Result<(Value, String), Failure> {
    let mut wanted = BTreeMap::new();
    wanted.extend(asked.connection.as_ref().map(|connection| ("connection", connection)));
    wanted.extend(asked.object.as_ref().map(|object| ("object", object)));
    let query = [("connection", asked.connection.clone()), ("object", asked.object.clone())];
    if !asked.last {
        client.post("/v1/match", &wanted).await?;
    }
    let mut reports: Vec<MatchReport> = read(&client.get("/v1/match", &query).await?)?;
    let mut told = Instant::now();
    while reports.iter().any(|report| report.state == MatchState::Running) {
        tokio::time::sleep(ASK).await;
        reports = read(&client.get("/v1/match", &query).await?)?;
        if told.elapsed() >= TELL {
            told = Instant::now();
            for report in reports.iter().filter(|report| report.state == MatchState::Running) {
                // Nobody reads it any more: nothing is left to tell.
                let _ = writeln!(std::io::stderr().lock(), "{}", progress(report));
            }
        }
    }
    if reports.is_empty() {
        return Err(Failure::because(if asked.last {
            "there is no report since the daemon was started; leave --last out to make one"
        } else {
            "there is no connection that can be used; tandem status lists them"
        }));
    }
    let mut all = Vec::with_capacity(reports.len());
    for report in reports {
        let rows = match asked.list {
            Some(kind) if report.state == MatchState::Done => {
                rows(client, &report, kind, asked.limit).await?
            }
            _ => Vec::new(),
        };
        all.push(Told { report, rows });
    }
    let text: Vec<String> = all.iter().map(|told| shown(told, asked.list)).collect();
    let answer = serde_json::to_value(&all).map_err(|error| Failure::new(&error))?;
    Ok((answer, text.join("\n")))
}

async fn rows(client: &Client, report: &MatchReport, kind: Kind, limit: usize) -> Result<Vec<Row>, Failure> {
    let (mut all, mut from) = (Vec::new(), 0_u64);
    while all.len() < limit {
        let query = [
            ("connection", Some(report.connection.to_string())),
            ("object", Some(report.object.to_string())),
            ("kind", Some(kind.name().to_owned())),
            ("from", Some(from.to_string())),
            ("limit", Some((limit - all.len()).min(PAGE).to_string())),
        ];
        let piece: MatchRows = read(&client.get("/v1/match/rows", &query).await?)?;
        all.extend(piece.rows);
        match piece.next {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(all)
}

fn progress(report: &MatchReport) -> String {
    format!(
        "{} {}: {} records of the CRM, {} of System A, {} calls: {}",
        report.connection,
        report.object,
        report.crm,
        report.system_a,
        report.calls,
        plain(&report.detail)
    )
}

fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Linked => "are linked already",
        Kind::Match => "are one record on each side: they are linked",
        Kind::Ambiguous => "could be several records: they go to review",
        Kind::OnlyCrm => "are in the CRM only",
        Kind::OnlySystemA => "are in System A only",
        Kind::WithoutIdentity => "have no identity value: nothing is found by it",
        Kind::Invalid => "of the CRM cannot be taken in as they are",
    }
}

fn shown(told: &Told, list: Option<Kind>) -> String {
    let report = &told.report;
    let mut text = format!("{} {}", report.connection, report.object);
    match report.state {
        MatchState::Done => {
            let ended = report.ended_at.map_or_else(|| "now".to_owned(), time);
            let _ = writeln!(
                text,
                ": {} records of the CRM, {} of System A, {} calls, {ended}",
                report.crm, report.system_a, report.calls
            );
        }
        MatchState::Running | MatchState::Failed => {
            let _ = writeln!(text, ": no report: {}", plain(&report.detail));
            return text;
        }
    }
    let counts = Kind::ALL
        .map(|kind| [kind.name().to_owned(), report.tally.of(kind).to_string(), meaning(kind).to_owned()]);
    text.push_str(&indented(&table(["KIND", "RECORDS", ""], &counts)));
    if !report.tally.fields.is_empty() {
        let _ = writeln!(text, "\n  {} matches differ in at least one field", report.tally.in_conflict);
        let fields: Vec<_> = report
            .tally
            .fields
            .iter()
            .map(|(field, of)| {
                [
                    harmless(field),
                    (of.review + of.internal + of.external).to_string(),
                    of.review.to_string(),
                    of.internal.to_string(),
                    of.external.to_string(),
                    of.to_internal.to_string(),
                    of.to_external.to_string(),
                ]
            })
            .collect();
        let head = [
            "FIELD",
            "CONFLICTS",
            "REVIEW",
            "SYSTEM A WINS",
            "CRM WINS",
            "WRITES TO SYSTEM A",
            "WRITES TO CRM",
        ];
        text.push_str(&indented(&table(head, &fields)));
    }
    if let Some(kind) = list {
        let of = report.tally.of(kind);
        let _ = writeln!(text, "\n  {}: {} of {of}", kind.name(), told.rows.len());
        let rows: Vec<_> = told.rows.iter().map(row).collect();
        text.push_str(&indented(&table(["CRM", "SYSTEM A", "CONFLICTS", "WHY"], &rows)));
    }
    text
}

fn row(row: &Row) -> [String; 4] {
    let ids: Vec<String> = row.internal.iter().map(|id| harmless(id.as_str())).collect();
    let conflicts: Vec<String> = row
        .differences
        .conflicts
        .iter()
        .map(|(field, ruling)| {
            let who = match ruling {
                Ruling::Internal => "System A wins",
                Ruling::External => "the CRM wins",
                Ruling::Review => "review",
            };
            format!("{} ({who})", harmless(field))
        })
        .collect();
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        row.external.as_ref().map_or("-".to_owned(), |id| harmless(id.as_str())),
        or_none(ids.join(", ")),
        or_none(conflicts.join(", ")),
        or_none(plain(&row.why)),
    ]
}

fn reports_of(answer: &Value) -> Vec<MatchReport> {
    let told: Vec<Told> = Vec::deserialize(answer).unwrap_or_default();
    told.into_iter().map(|told| told.report).collect()
}

fn troubles(report: &MatchReport) -> u64 {
    report.tally.of(Kind::Ambiguous) + report.tally.of(Kind::Invalid)
}

/// Every report was made, and no record of them needs a person.
pub(super) fn is_clear(answer: &Value) -> bool {
    reports_of(answer).iter().all(|report| report.state == MatchState::Done && troubles(report) == 0)
}

/// What is not clear, and the way out.
pub(super) fn unclear(answer: &Value) -> Failure {
    let mut lines = Vec::new();
    for report in reports_of(answer) {
        let name = format!("{} {}", report.connection, report.object);
        if report.state != MatchState::Done {
            lines.push(format!("{name}: no report: {}", plain(&report.detail)));
        } else if troubles(&report) > 0 {
            lines.push(format!(
                "{name}: {} records are ambiguous and {} cannot be taken in; --list ambiguous or --list invalid shows them",
                report.tally.of(Kind::Ambiguous),
                report.tally.of(Kind::Invalid)
            ));
        }
    }
    Failure::because(lines.join("\nerror: "))
}

/// What was chosen about whom a record is. None: it is about values.
pub(super) fn choice(decide: &args::Decide) -> Option<Choice> {
    let link = decide.link.clone().map(Choice::Link);
    let chosen = |flag: bool, choice| flag.then_some(choice);
    link.or(chosen(decide.apart, Choice::Apart))
        .or(chosen(decide.new, Choice::New))
        .or(chosen(decide.merge, Choice::Merge))
}

/// Decides whom a record is.
pub(super) async fn decide(
    client: &Client,
    one: ReviewView,
    choice: Choice,
) -> Result<(Value, String), Failure> {
    let waits = one
        .clash
        .map(|clash| clash.waits)
        .ok_or_else(|| Failure::because("that is a conflict of values; decide it with --take or --value"))?;
    let decision = DecideMatch { connection: one.connection, object: one.entity.object, waits, choice };
    let answer = client.post("/v1/review/match", &decision).await?;
    let text = show::count(read(&answer)?, "decided", "record", "records");
    Ok((answer, text))
}
