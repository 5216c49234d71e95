//! What the guard withheld, and what can be undone, as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::table::{harmless, indented, plain, table, time, value};
use crate::admin::view::{ChangeView, ErasureView, KeptView, Undone, WithheldView};

/// Changes of a record that are shown in its line.
const CHANGES: usize = 3;

pub(super) fn withheld(all: &[WithheldView]) -> String {
    if all.is_empty() {
        return "Nothing waits for approval.\n".to_owned();
    }
    let mut batches: BTreeMap<u64, Vec<&WithheldView>> = BTreeMap::new();
    for one in all {
        batches.entry(one.batch).or_default().push(one);
    }
    let mut text = String::new();
    for (batch, of) in batches {
        let Some(first) = of.first() else { continue };
        let what = match (first.kind.as_str(), of.len()) {
            ("delete", 1) => "1 deletion".to_owned(),
            ("delete", n) => format!("{n} deletions"),
            (_, 1) => "1 update that no edit asked for".to_owned(),
            (_, n) => format!("{n} updates that no edit asked for"),
        };
        let _ = writeln!(
            text,
            "Batch {batch}: {what} of {} in {} through {}, since {}",
            first.entity.object,
            sides(&first.sides),
            first.connection,
            time(of.iter().map(|one| one.since).min().unwrap_or(first.since)),
        );
        let rows: Vec<_> = of.iter().map(|one| row(one)).collect();
        text.push_str(&indented(&table(["SCOPE", "ID", "CRM", "AFTER", "WHAT"], &rows)));
    }
    text
}

fn row(one: &WithheldView) -> [String; 5] {
    let mut changes: Vec<String> = one.changes.iter().take(CHANGES).map(change).collect();
    if let Some(more) = one.changes.len().checked_sub(CHANGES).filter(|more| *more > 0) {
        changes.push(format!("and {more} more"));
    }
    let what = if changes.is_empty() { plain(&one.why) } else { changes.join("; ") };
    [
        one.entity.scope.to_string(),
        harmless(one.entity.id.as_str()),
        one.external.as_ref().map_or("-".to_owned(), |id| harmless(id.as_str())),
        one.cause.clone(),
        what,
    ]
}

fn change(change: &ChangeView) -> String {
    let place = if change.side == "internal" { "System A" } else { "CRM" };
    let (from, to) = (value(change.from.as_ref()), value(change.to.as_ref()));
    format!("{place} {}: {from} -> {to}", change.field)
}

fn sides(sides: &[String]) -> &'static str {
    match sides {
        [one] if one == "internal" => "System A",
        [one] if one == "external" => "the CRM",
        _ => "System A and the CRM",
    }
}

pub(super) fn kept(all: &[KeptView]) -> String {
    if all.is_empty() {
        return "No deletion can be undone.\n".to_owned();
    }
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            [
                one.batch.to_string(),
                time(one.at),
                one.connection.to_string(),
                one.entity.scope.to_string(),
                one.entity.object.to_string(),
                harmless(one.entity.id.as_str()),
                one.external.as_ref().map_or("-".to_owned(), |id| harmless(id.as_str())),
                sides(std::slice::from_ref(&one.side)).to_owned(),
                plain(&one.why),
            ]
        })
        .collect();
    table(["BATCH", "AT", "CONNECTION", "SCOPE", "OBJECT", "ID", "CRM", "DELETED IN", "WHY"], &rows)
}

pub(super) fn undone(undone: &Undone) -> String {
    let mut text = match (undone.count, undone.not.is_empty()) {
        (0, true) => "undid nothing: there is no such thing\n".to_owned(),
        (0, false) => "undid nothing\n".to_owned(),
        (1, _) => "undid 1 deletion\n".to_owned(),
        (n, _) => format!("undid {n} deletions\n"),
    };
    for not in &undone.not {
        let _ = writeln!(text, "not undone: {}", plain(not));
    }
    text
}

pub(super) fn erasure(erasure: &ErasureView) -> String {
    let rows: Vec<_> = erasure
        .places
        .iter()
        .map(|place| {
            let gone = if place.gone { "gone" } else { "NOT GONE" };
            [gone.to_owned(), harmless(&place.place), plain(&place.what)]
        })
        .collect();
    let mut text = format!("{} {}\n", erasure.entity.object, harmless(erasure.entity.id.as_str()));
    text.push_str(&indented(&table(["", "PLACE", "WHAT"], &rows)));
    text.push_str(if erasure.done {
        "Erased: every place was looked at again.\n"
    } else {
        "Not erased everywhere yet: the daemon goes on until it is. Ask again to see how it stands.\n"
    });
    text.push_str("What this does not reach:\n");
    for remains in &erasure.remains {
        let _ = writeln!(text, "  {remains}");
    }
    text
}
