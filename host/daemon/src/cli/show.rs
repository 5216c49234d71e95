//! Answers of the daemon as text for people.

use std::fmt::Write as _;

use tandem_core::link::{Fields, Said, Side};
use tandem_core::span;

use super::table::{harmless, indented, plain, table, time, value};
use crate::admin::view::{
    ConnectionState, ConnectionStatus, Count, DeadView, DecidedMany, Paused, ProviderView, ProvidersReloaded,
    Reloaded, ReviewView, Status, Swapped,
};

pub(super) fn status(status: &Status) -> String {
    let mut text = format!("tandem {}, running since {}", status.version, time(status.started_at));
    if status.draining {
        text.push_str(", draining");
    }
    if let Some(paused) = paused(status.paused) {
        let _ = write!(text, ", everything is paused ({paused})");
    }
    text.push_str("\n\n");
    if status.connections.is_empty() {
        text.push_str("There are no connections yet: put a file for each into the connections folder.\n");
        return text;
    }
    let rows: Vec<_> = status.connections.iter().map(connection).collect();
    text + &table(
        [
            "CONNECTION",
            "SCOPE",
            "PROVIDER",
            "STATE",
            "OLDEST",
            "READY",
            "DELAYED",
            "REVIEW",
            "ASIDE",
            "CAUSE",
        ],
        &rows,
    )
}

fn connection(status: &ConnectionStatus) -> [String; 10] {
    let state = match status.state {
        ConnectionState::Running => {
            paused(status.paused).map_or("running".to_owned(), |what| format!("paused {what}"))
        }
        ConnectionState::Paused => "paused".to_owned(),
        ConnectionState::Waiting => "waiting".to_owned(),
        ConnectionState::Stopped => "stopped".to_owned(),
    };
    let cause = match status.cause.name() {
        "none" => "-".to_owned(),
        cause if status.detail.is_empty() => cause.to_owned(),
        // The last column may be long: it has the way out.
        cause => format!("{cause}: {}", plain(&status.detail)),
    };
    [
        status.connection.to_string(),
        status.scope.as_ref().map_or("-".to_owned(), ToString::to_string),
        status.provider.clone().unwrap_or_else(|| "-".to_owned()),
        state,
        status.freshness_ms.map_or("-".to_owned(), span::in_words),
        status.waiting.to_string(),
        status.delayed.to_string(),
        status.review.to_string(),
        status.dead.to_string(),
        cause,
    ]
}

fn paused(paused: Paused) -> Option<&'static str> {
    match (paused.to_external, paused.to_internal) {
        (false, false) => None,
        (true, false) => Some("to-external"),
        (false, true) => Some("to-internal"),
        (true, true) => Some("both"),
    }
}

pub(super) fn both(fields: &[String], internal: &Fields, external: &Fields) -> String {
    let row = |field: &String| [field.clone(), value(internal.get(field)), value(external.get(field))];
    table(["FIELD", "SYSTEM A", "CRM"], &fields.iter().map(row).collect::<Vec<_>>())
}

pub(super) fn dead(letters: &[DeadView]) -> String {
    if letters.is_empty() {
        return "Nothing is set aside.\n".to_owned();
    }
    let rows: Vec<_> = letters
        .iter()
        .map(|letter| {
            let problem = letter.problems.first().map_or(String::new(), |problem| {
                let pointer = problem.pointer.as_deref().unwrap_or_default();
                format!("{pointer} {}", harmless(&problem.message)).trim().to_owned()
            });
            let more = letter.problems.len().saturating_sub(1);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            [
                letter.seq.to_string(),
                time(letter.at),
                letter.connection.to_string(),
                letter.object.to_string(),
                letter.internal.as_ref().map_or("-".to_owned(), |id| harmless(id.as_str())),
                letter.external.as_ref().map_or("-".to_owned(), |id| harmless(id.as_str())),
                letter.point.clone(),
                problem + &more,
            ]
        })
        .collect();
    table(["SEQ", "SET ASIDE", "CONNECTION", "OBJECT", "SYSTEM A", "CRM", "POINT", "PROBLEM"], &rows)
}

pub(super) fn dead_letter(letter: &DeadView) -> String {
    let id = |id: Option<String>| id.map_or("not known".to_owned(), |id| harmless(&id));
    let mut text =
        format!("{} of connection {}, set aside {}\n", letter.seq, letter.connection, time(letter.at));
    let mut facts = vec![
        ["object".to_owned(), letter.object.to_string()],
        ["System A".to_owned(), id(letter.internal.as_ref().map(ToString::to_string))],
        ["CRM".to_owned(), id(letter.external.as_ref().map(ToString::to_string))],
        ["point".to_owned(), letter.point.clone()],
        ["provider".to_owned(), letter.provider.clone()],
        ["cause".to_owned(), format!("{}, tried {} times", letter.cause, letter.attempts)],
    ];
    if letter.count > 1 {
        let since = format!("{} times since {}", letter.count, time(letter.first_at));
        facts.push(["set aside".to_owned(), since]);
    }
    text.push_str(&indented(&table(["", ""], &facts)));
    text.push_str("\nProblems\n");
    let rows: Vec<_> = letter
        .problems
        .iter()
        .map(|problem| {
            let pointer = problem.pointer.clone().unwrap_or_else(|| "-".to_owned());
            [pointer, problem.code.clone(), plain(&problem.message)]
        })
        .collect();
    text.push_str(&indented(&table(["POINTER", "CODE", "MESSAGE"], &rows)));
    if let Some(observed) = &letter.observed {
        let pretty = serde_json::to_string_pretty(observed).unwrap_or_default();
        let _ = write!(text, "\nWhat was said\n{}", indented(&pretty));
    }
    let _ = writeln!(
        text,
        "\nTry again with: tandem dead replay {0}\nGive up with:   tandem dead drop {0}",
        letter.seq
    );
    text
}

pub(super) fn reviews(reviews: &[ReviewView]) -> String {
    if reviews.is_empty() {
        return "Nothing waits for a decision.\n".to_owned();
    }
    let rows: Vec<_> = reviews
        .iter()
        .map(|review| {
            [
                review.entity.scope.to_string(),
                review.entity.object.to_string(),
                harmless(review.entity.id.as_str()),
                review.connection.to_string(),
                group(&review.group),
                review.fields.len().to_string(),
                review.kind.clone(),
                review.since.map_or("-".to_owned(), time),
                plain(&review.why),
            ]
        })
        .collect();
    table(["SCOPE", "OBJECT", "ID", "CONNECTION", "GROUP", "FIELDS", "KIND", "SINCE", "WHY"], &rows)
}

/// A group's name; the record as a whole has none.
fn group(name: &str) -> String {
    if name.is_empty() { "(record)".to_owned() } else { name.to_owned() }
}

pub(super) fn review(reviews: &[ReviewView]) -> String {
    let mut text = String::new();
    for review in reviews {
        let external =
            review.external.as_ref().map_or("not created yet".to_owned(), |id| harmless(id.as_str()));
        let since = review.since.map_or(String::new(), |at| format!(" since {}", time(at)));
        let _ = writeln!(
            text,
            "{} at {} -> {external}, group {}: {}{since}",
            review.entity,
            review.connection,
            group(&review.group),
            review.kind
        );
        let _ = writeln!(text, "  {}", plain(&review.why));
        if let Some(clash) = &review.clash {
            let _ = writeln!(text, "  the record that waits: {}", harmless(clash.waits.id()));
            for rival in &clash.rivals {
                let _ = writeln!(text, "  it may be {}", plain(&rival.to_string()));
            }
            let _ = writeln!(text, "  choices: {}", plain(&clash.choices.join(", ")));
        }
        for write in &review.writes {
            let side = if write.side == Side::Internal { "System A" } else { "the CRM" };
            let _ = writeln!(text, "  {}  written in {side}", time(write.at));
        }
        if review.kind == "held" {
            text.push_str(&indented(&held(review)));
            let _ = writeln!(text, "  System A's values: {}", said(&review.internal_said, "changed"));
            let _ =
                writeln!(text, "  the CRM's values: {}", said(&review.external_said, "edited or noticed"));
        }
        let (object, id) = (&review.entity.object, &review.entity.id);
        if !review.choices.is_empty() {
            let _ = writeln!(text, "  choices: {}", review.choices.join(", "));
        }
        if !review.seen.is_empty() {
            let of_group =
                if review.group.is_empty() { String::new() } else { format!(" --group {}", review.group) };
            let _ = writeln!(
                text,
                "  tandem review decide {object} {} --connection {}{of_group} --seen {} --take internal",
                harmless(id.as_str()),
                review.connection,
                review.seen
            );
        }
    }
    text
}

/// What both sides had, and what they have.
fn held(review: &ReviewView) -> String {
    let rows: Vec<_> = review
        .fields
        .iter()
        .map(|field| {
            let agreed = review.base.get(field).map_or_else(
                || "never compared".to_owned(),
                |pair| {
                    let (ours, theirs) = (value(pair.internal.as_ref()), value(pair.external.as_ref()));
                    if ours == theirs { ours } else { format!("{ours} | {theirs}") }
                },
            );
            [
                field.clone(),
                agreed,
                value(review.internal_values.get(field)),
                value(review.external_values.get(field)),
            ]
        })
        .collect();
    table(["FIELD", "AGREED", "SYSTEM A", "CRM"], &rows)
}

/// Who changed a record: Tandem's own access, whom the CRM names, or somebody else.
pub(super) fn who(author: &str) -> String {
    match author {
        "own" => "Tandem's own access".to_owned(),
        "other" => "somebody else".to_owned(),
        by => harmless(by),
    }
}

/// Who gave a value, and when.
fn said(said: &Said, verb: &str) -> String {
    let by =
        said.by.as_deref().map_or_else(|| "by whom is unknown".to_owned(), |by| format!("by {}", who(by)));
    let at = said.at.map_or_else(|| "when is unknown".to_owned(), |at| format!("{verb} {}", time(at)));
    format!("{by}, {at}")
}

pub(super) fn decided_many(done: &DecidedMany) -> String {
    let mut text = count(Count { count: done.decided }, "decided", "group", "groups");
    for line in &done.refused {
        let _ = writeln!(text, "refused  {}", plain(line));
    }
    text
}

pub(super) fn providers(providers: &[ProviderView]) -> String {
    if providers.is_empty() {
        return "There are no providers: put a component (.wasm) into the providers folder.\n".to_owned();
    }
    let rows: Vec<_> = providers
        .iter()
        .map(|provider| {
            [
                provider.provider.to_string(),
                provider.label.clone().unwrap_or_else(|| "-".to_owned()),
                provider.connections.to_string(),
                provider.file.clone(),
                provider.state.to_string(),
            ]
        })
        .collect();
    let mut text = table(["PROVIDER", "VERSION", "CONNECTIONS", "FILE", "STATE"], &rows);
    for provider in providers {
        if let Some(previous) = &provider.previous {
            let _ = writeln!(
                text,
                "{}: `tandem provider rollback {0}` goes back to {previous}",
                provider.provider
            );
        }
        for (connection, why) in &provider.behind {
            let _ = writeln!(text, "{}: connection {connection} {}", provider.provider, plain(why));
        }
        if !provider.detail.is_empty() {
            let _ = writeln!(text, "{}: {}", provider.file, plain(&provider.detail));
        }
    }
    text
}

pub(super) fn swapped(swapped: &Swapped) -> String {
    let mut text = String::new();
    if swapped.from.as_deref() != Some(swapped.to.as_str()) {
        let from = swapped.from.as_ref().map(|from| format!(" in place of {from}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{} serves{from}: {} connections, {} ms",
            swapped.to, swapped.moved, swapped.took_ms
        );
    }
    for (connection, why) in &swapped.behind {
        let _ = writeln!(text, "connection {connection} stays behind: {}", plain(why));
    }
    if swapped.finishing > 0 {
        let _ = writeln!(text, "{} connections still finish what they had begun before", swapped.finishing);
    }
    text
}

pub(super) fn providers_reloaded(reloaded: &ProvidersReloaded) -> String {
    let mut text: String = reloaded.swapped.iter().map(swapped).collect();
    for (what, providers) in [("enabled", &reloaded.enabled), ("disabled", &reloaded.disabled)] {
        for provider in providers {
            let _ = writeln!(text, "{what}  {provider}");
        }
    }
    for (what, lines) in [("waiting", &reloaded.waiting), ("refused", &reloaded.refused)] {
        for line in lines {
            let _ = writeln!(text, "{what}  {}", plain(line));
        }
    }
    if text.is_empty() { "Nothing changed.\n".to_owned() } else { text }
}

pub(super) fn count(count: Count, done: &str, one: &str, many: &str) -> String {
    match count.count {
        0 => format!("{done} nothing: there is no such thing\n"),
        1 => format!("{done} 1 {one}\n"),
        n => format!("{done} {n} {many}\n"),
    }
}

pub(super) fn reloaded(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for (what, connections) in
        [("added", &reloaded.added), ("changed", &reloaded.changed), ("removed", &reloaded.removed)]
    {
        for connection in connections {
            let _ = writeln!(text, "{what}  {connection}");
        }
    }
    for (connection, findings) in &reloaded.refused {
        for finding in findings {
            let _ = writeln!(text, "refused  {connection}: {finding}");
        }
    }
    if text.is_empty() { "Nothing changed.\n".to_owned() } else { text }
}
