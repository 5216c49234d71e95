//! A record's story as text: what is known of it, what was known at a moment, and what happened, from the hint to the base.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tandem_core::plan::Differs;
use tandem_core::span;

use super::show;
use super::table::{harmless, indented, plain, table, time, value};
use crate::admin::view::{
    Exchanged, Explanation, Extent, HistoryView, LinkView, Noticed, Origin, PairView, PastView, Sight,
};

pub(super) fn explanation(object: &str, id: &str, explanation: &Explanation) -> String {
    let mut text = match &explanation.entity {
        Some(entity) => format!("{} {} of scope {}\n", entity.object, entity.id, entity.scope),
        None => format!("{object} {id} is not linked\n"),
    };
    match &explanation.internal {
        None => text.push_str("System A has no such record.\n"),
        Some(record) => {
            let what = if record.document.is_some() { "changed" } else { "deleted" };
            let _ =
                writeln!(text, "System A: version {}, {what} {}", record.version, time(record.changed_at));
        }
    }
    for found in &explanation.links {
        text.push('\n');
        text.push_str(&link(found));
    }
    if explanation.links.is_empty() {
        text.push_str("There are no links.\n");
    }
    for intent in &explanation.intents {
        let lost =
            intent.unknown_since.map_or(String::new(), |at| format!(", its answer was lost {}", time(at)));
        let done = if intent.call == "create" { "created" } else { "updated" };
        let _ =
            writeln!(text, "\nBeing {done} at {} since {}{lost}", intent.connection, time(intent.opened_at));
    }
    if !explanation.hints.is_empty() {
        let rows = explanation.hints.iter().map(|hint| {
            let due = if hint.due == 0 { "now".to_owned() } else { time(hint.due) };
            [
                hint.connection.to_string(),
                hint.class.clone(),
                hint.cause.clone(),
                time(hint.noticed_at),
                due,
                hint.attempts.to_string(),
            ]
        });
        text.push_str("\nWaiting\n");
        text.push_str(&indented(&table(
            ["CONNECTION", "CLASS", "CAUSE", "NOTICED", "DUE", "TRIED"],
            &rows.collect::<Vec<_>>(),
        )));
    }
    if !explanation.dead.is_empty() {
        text.push_str("\nSet aside\n");
        text.push_str(&indented(&show::dead(&explanation.dead)));
    }
    text.push_str(&past(explanation));
    if explanation.history.is_empty() {
        text.push_str("\nNo history is kept of it.\n");
        return text;
    }
    text.push_str("\nHistory, newest first\n");
    let mut work = None;
    for entry in &explanation.history {
        text.push_str(&step(entry, work));
        work = entry.noticed.as_ref().map(|noticed| noticed.work);
    }
    text
}

/// What was known at the moment that was asked for.
fn past(explanation: &Explanation) -> String {
    let Some(at) = explanation.at else { return String::new() };
    let mut text = format!("\nAs of {}\n", time(at));
    if explanation.past.is_empty() {
        text.push_str("  There are no links.\n");
    }
    for past in &explanation.past {
        text.push_str(&past_link(past));
    }
    text
}

fn past_link(past: &PastView) -> String {
    let mut text = format!("  {}", past.connection);
    if let Some(reach) = past.short_of {
        let _ = writeln!(text, ": not known any more; the history that is kept of it begins {}", time(reach));
        return text;
    }
    if past.is_before_first {
        text.push_str(": it was not linked yet\n");
        return text;
    }
    match &past.last {
        Some(last) => {
            let _ = writeln!(text, ": last {}, {}", last.what, time(last.at));
        }
        None => text.push_str(": nothing had happened that is known\n"),
    }
    text.push_str(&indented(&indented(&base(&past.base, |_| String::new()))));
    if !past.unknown.is_empty() {
        let _ = writeln!(text, "    not known any more: {}", past.unknown.join(", "));
    }
    text
}

/// How a value that is not there is shown.
const NONE: &str = "-";

/// One thing that happened. `told`: the work whose hint was told just before.
fn step(entry: &HistoryView, told: Option<u64>) -> String {
    let calls = if entry.calls == 1 { "1 call".to_owned() } else { format!("{} calls", entry.calls) };
    let mut text = format!(
        "  {}  {}  {}  after {}, by {}, {calls}\n",
        time(entry.at),
        entry.connection,
        entry.what,
        entry.cause,
        entry.provider
    );
    let mut line = |words: String| {
        let _ = writeln!(text, "    {words}");
    };
    if !entry.why.is_empty() {
        line(plain(&entry.why));
    }
    if !entry.fields.is_empty() {
        line(format!("about {}", entry.fields.join(", ")));
    }
    let (mut empty, mut kept) = (Vec::new(), Vec::new());
    for (field, pair) in &entry.delta {
        let now = halves(pair);
        let before = entry.before.get(field).map(halves);
        let side = match entry.differs.get(field) {
            Some(Differs::Internal) => ", changed in System A",
            Some(Differs::External) => ", changed in the CRM",
            Some(Differs::Both) => ", changed on both sides",
            Some(Differs::Neither) | None => "",
        };
        match before {
            // Nothing that can be shown: it was compared, or seen after it was sent.
            None if now == NONE && side.is_empty() => empty.push(field.as_str()),
            Some(before) if now == before && side.is_empty() => kept.push(field.as_str()),
            Some(before) => line(format!("{field}: {now}, was {before}{side}")),
            None => line(format!("{field}: {now}{side}")),
        }
    }
    for (words, fields) in [("without a value", empty), ("confirmed as they were", kept)] {
        if !fields.is_empty() {
            line(format!("{words}: {}", fields.join(", ")));
        }
    }
    for field in &entry.cut {
        line(format!("{field}: too large to be kept"));
    }
    for (field, pair) in &entry.overtaken {
        line(match pair {
            Some(pair) => format!(
                "{field}: had been made {} in the CRM, over {} of System A",
                value(pair.external.as_ref()),
                value(pair.internal.as_ref())
            ),
            None => format!("{field}: the overtaken edit was too large to be kept"),
        });
    }
    if let Some(noticed) = &entry.noticed
        && told != Some(noticed.work)
    {
        line(hint(noticed, entry.at));
    }
    if let Some(seen) = &entry.seen {
        line(sight(seen));
    }
    if let Some(ruling) = &entry.ruling {
        line(plain(ruling));
    }
    for exchange in &entry.exchanges {
        line(asked(exchange));
    }
    text
}

/// Both halves of a base, once where they are the same.
fn halves(pair: &PairView) -> String {
    let (ours, theirs) = (value(pair.internal.as_ref()), value(pair.external.as_ref()));
    if ours == theirs { ours } else { format!("{ours} | {theirs}") }
}

fn hint(noticed: &Noticed, at: u64) -> String {
    let mut text = format!(
        "noticed {}, waited {}, done after {}",
        time(noticed.at),
        span::in_words(noticed.began.saturating_sub(noticed.at)),
        span::in_words(at.saturating_sub(noticed.began))
    );
    if noticed.hints > 1 {
        let _ = write!(text, ", {} hints in one", noticed.hints);
    }
    if !noticed.also.is_empty() {
        let _ = write!(text, ", also {}", noticed.also.join(", "));
    }
    match noticed.attempts {
        0 => {}
        1 => text.push_str(", after a try in vain"),
        tries => {
            let _ = write!(text, ", after {tries} tries in vain");
        }
    }
    if let Some(said) = noticed.said {
        let _ = write!(text, "; it told of {}", extent(said));
    }
    if let Some(author) = &noticed.author {
        let _ = write!(text, ", changed by {}", show::who(author));
    }
    text
}

fn extent(extent: Extent) -> &'static str {
    match extent {
        Extent::Touched => "a change",
        Extent::Partial => "some fields",
        Extent::Whole => "the whole record",
        Extent::Gone => "a record that is gone",
        Extent::Moved => "a record that has moved",
    }
}

fn sight(seen: &Sight) -> String {
    let mut text = format!("saw {}", extent(seen.extent));
    if let Some(origin) = seen.origin {
        text.push_str(match origin {
            Origin::Event => " in a webhook",
            Origin::Listing => " in a listing",
            Origin::Read => " by a read",
            Origin::Answer => " in the answer to a write",
        });
    }
    if let Some(version) = &seen.version {
        let _ = write!(text, ", version {}", harmless(version));
    }
    if let Some(stamp) = seen.stamp {
        let _ = write!(text, ", stamp {stamp}");
    }
    text
}

fn asked(exchange: &Exchanged) -> String {
    let requests = if exchange.requests == 1 {
        "1 request".to_owned()
    } else {
        format!("{} requests", exchange.requests)
    };
    let status = if exchange.status == 0 { "no answer".to_owned() } else { exchange.status.to_string() };
    format!(
        "{}: {requests}, {}, {status}, {}",
        exchange.operation,
        span::in_words(exchange.took_ms),
        exchange.answer
    )
}

fn link(link: &LinkView) -> String {
    let external = link.external.as_ref().map_or("not created yet".to_owned(), ToString::to_string);
    let mut text = format!("{} -> {external}, {}", link.connection, link.life);
    if link.incarnation > 0 {
        let _ = write!(text, ", created again {} times", link.incarnation);
    }
    let _ = writeln!(text, ", last settled {}", time(link.committed_at));
    let notes = |field: &str| {
        let mut notes = Vec::new();
        if link.owed.iter().any(|owed| owed == field) {
            notes.push("owed: its target is not linked yet".to_owned());
        }
        if link.refused.iter().any(|refused| refused == field) {
            notes.push("refused by the CRM".to_owned());
        }
        if let Some(why) = link.frozen.get(field) {
            notes.push(format!("frozen: {why}"));
        }
        notes.join(", ")
    };
    text.push_str(&indented(&base(&link.base, notes)));
    for (group, held) in &link.held {
        let _ = writeln!(text, "  {group} is under review since {}: {}", time(held.since), plain(&held.why));
        text.push_str(&indented(&show::both(&held.fields, &held.internal, &held.external)));
    }
    text
}

/// What both sides had of each field. Nothing for an empty base.
fn base(base: &BTreeMap<String, PairView>, notes: impl Fn(&str) -> String) -> String {
    if base.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = base
        .iter()
        .map(|(field, pair)| {
            let assumed = if pair.assumed { "not seen since it was sent" } else { "" };
            let notes = notes(field);
            let separator = if assumed.is_empty() || notes.is_empty() { "" } else { ", " };
            let (ours, theirs) = (value(pair.internal.as_ref()), value(pair.external.as_ref()));
            let theirs = if ours == theirs { "=".to_owned() } else { theirs };
            [field.clone(), ours, theirs, format!("{assumed}{separator}{notes}")]
        })
        .collect();
    table(["FIELD", "SYSTEM A", "CRM", ""], &rows)
}
