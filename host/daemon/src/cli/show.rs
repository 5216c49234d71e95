//! Answers of the daemon as text for people.

use std::fmt::Write as _;

use tandem_core::link::Fields;

use super::table::{age, harmless, indented, plain, table, time, value};
use crate::admin::view::{
    ConnectionState, ConnectionStatus, Count, DeadView, Explanation, LinkView, Paused, ProviderView,
    ProvidersReloaded, Reloaded, ReviewView, Status, Swapped,
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
        status.freshness_ms.map_or("-".to_owned(), age),
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
        text.push_str(&indented(&dead(&explanation.dead)));
    }
    if explanation.history.is_empty() {
        text.push_str("\nNo history is kept of it.\n");
        return text;
    }
    text.push_str("\nHistory, newest first\n");
    for entry in &explanation.history {
        let calls = if entry.calls == 1 { "1 call".to_owned() } else { format!("{} calls", entry.calls) };
        let _ = writeln!(
            text,
            "  {}  {}  {}  after {}, by {}, {calls}",
            time(entry.at),
            entry.connection,
            entry.what,
            entry.cause,
            entry.provider
        );
        if !entry.why.is_empty() {
            let _ = writeln!(text, "    {}", plain(&entry.why));
        }
        for (field, pair) in &entry.delta {
            let (internal, external) = (value(pair.internal.as_ref()), value(pair.external.as_ref()));
            let _ = writeln!(text, "    {field}: {internal} | {external}");
        }
    }
    text
}

fn link(link: &LinkView) -> String {
    let external = link.external.as_ref().map_or("not created yet".to_owned(), ToString::to_string);
    let mut text = format!("{} -> {external}, {}", link.connection, link.life);
    if link.incarnation > 0 {
        let _ = write!(text, ", created again {} times", link.incarnation);
    }
    let _ = writeln!(text, ", last settled {}", time(link.committed_at));
    let rows: Vec<_> = link
        .base
        .iter()
        .map(|(field, pair)| {
            let mut notes = Vec::new();
            if pair.assumed {
                notes.push("not seen since it was sent".to_owned());
            }
            if link.owed.contains(field) {
                notes.push("owed: its target is not linked yet".to_owned());
            }
            if link.refused.contains(field) {
                notes.push("refused by the CRM".to_owned());
            }
            if let Some(why) = link.frozen.get(field) {
                notes.push(format!("frozen: {why}"));
            }
            let mut cells = [
                field.clone(),
                value(pair.internal.as_ref()),
                value(pair.external.as_ref()),
                notes.join(", "),
            ];
            if cells[1] == cells[2] {
                cells[2] = "=".to_owned();
            }
            cells
        })
        .collect();
    if !rows.is_empty() {
        text.push_str(&indented(&table(["FIELD", "SYSTEM A", "CRM", ""], &rows)));
    }
    for (group, held) in &link.held {
        let _ = writeln!(text, "  {group} is under review since {}: {}", time(held.since), plain(&held.why));
        text.push_str(&indented(&both(&held.fields, &held.internal, &held.external)));
    }
    text
}

fn both(fields: &[String], internal: &Fields, external: &Fields) -> String {
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
                review.group.clone(),
                review.kind.clone(),
                review.since.map_or("-".to_owned(), time),
                plain(&review.why),
            ]
        })
        .collect();
    table(["SCOPE", "OBJECT", "ID", "CONNECTION", "GROUP", "KIND", "SINCE", "WHY"], &rows)
}

pub(super) fn review(reviews: &[ReviewView]) -> String {
    let mut text = String::new();
    for review in reviews {
        let external =
            review.external.as_ref().map_or("not created yet".to_owned(), |id| harmless(id.as_str()));
        let _ = writeln!(
            text,
            "{} at {} -> {external}, group {}: {}",
            review.entity, review.connection, review.group, review.kind
        );
        let _ = writeln!(text, "  {}", plain(&review.why));
        if let Some(clash) = &review.clash {
            let _ = writeln!(text, "  the record that waits: {}", harmless(clash.waits.id()));
            for rival in &clash.rivals {
                let _ = writeln!(text, "  it may be {}", plain(&rival.to_string()));
            }
            let _ = writeln!(text, "  choices: {}", plain(&clash.choices.join(", ")));
        }
        if review.kind == "held" {
            text.push_str(&indented(&both(&review.fields, &review.internal_values, &review.external_values)));
        }
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
