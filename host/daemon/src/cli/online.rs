//! Commands that ask a running daemon.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tandem_core::link::{Fields, Side};

use super::args::{self, Command};
use super::client::Client;
use super::failure::Failure;
use super::{deletes, matches, show, story};
use crate::admin::view::{Count, DecidedMany, ProviderView, ProvidersReloaded, ReviewView, Status, Swapped};
use crate::admin::{
    Choice, DeadTarget, Decide, DecideMany, DeletesTarget, Look, LookAt, PauseTarget, Pin, ReviewFilter,
    RollBack, Unfreeze,
};

/// Most reviews that are searched for the one that is meant.
const ALL: &str = "10000";

/// Asks, and answers what is printed on standard output.
pub(super) async fn ask(config: &Path, command: Command, json: bool) -> Result<String, Failure> {
    let client = Client::new(config)?;
    let is_report = matches!(command, Command::Match(_));
    let (answer, text) = answer(&client, command).await?;
    let text = if json { pretty(&answer)? } else { text };
    if is_report && !matches::is_clear(&answer) {
        // What was found is what was asked for: it goes to standard output.
        super::print(&text)?;
        return Err(matches::unclear(&answer));
    }
    Ok(text)
}

/// A value as JSON for standard output.
pub(super) fn pretty(value: &Value) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(&error))?;
    text.push('\n');
    Ok(text)
}

async fn answer(client: &Client, command: Command) -> Result<(Value, String), Failure> {
    match command {
        Command::Status { connection } => {
            let answer = client.get("/v1/status", &[("connection", connection)]).await?;
            let text = show::status(&read(&answer)?);
            Ok((answer, text))
        }
        Command::Pause(target) => {
            let answer = client.post("/v1/pause", &pause_target(target)).await?;
            let text = show::count(read(&answer)?, "paused", "connection", "connections");
            Ok((answer, text))
        }
        Command::Resume(target) => {
            let answer = client.post("/v1/resume", &pause_target(target)).await?;
            let text = show::count(read(&answer)?, "resumed", "connection", "connections");
            Ok((answer, text))
        }
        Command::Explain(record) => {
            let query = [
                ("scope", record.scope),
                ("connection", record.connection),
                ("object", Some(record.object.clone())),
                ("id", Some(record.id.clone())),
                ("field", record.field),
                ("at", record.at),
            ];
            let answer = client.get("/v1/explain", &query).await?;
            let text = story::explanation(&record.object, &record.id, &read(&answer)?);
            Ok((answer, text))
        }
        Command::Dead(command) => dead(client, command).await,
        Command::Review(command) => review(client, command).await,
        Command::Erase(record) => {
            let mut asked = serde_json::Map::new();
            for (name, value) in [
                ("scope", record.scope),
                ("connection", record.connection),
                ("object", Some(record.object)),
                ("id", Some(record.id)),
            ] {
                asked.extend(value.map(|value| (name.to_owned(), Value::String(value))));
            }
            let answer = client.post("/v1/erase", &Value::Object(asked)).await?;
            let text = deletes::erasure(&read(&answer)?);
            Ok((answer, text))
        }
        Command::Deletes(command) => guarded(client, command).await,
        Command::Match(asked) => matches::report(client, &asked).await,
        Command::Provider(args::Provider::List) => {
            let answer = client.get("/v1/providers", &[]).await?;
            let text = show::providers(&read::<Vec<_>>(&answer)?);
            Ok((answer, text))
        }
        Command::Provider(args::Provider::Try(asked)) => attempt(client, &asked).await,
        Command::Provider(args::Provider::Reload) => {
            let answer = client.post("/v1/providers/reload", &Value::Null).await?;
            let text = show::providers_reloaded(&read(&answer)?);
            Ok((answer, text))
        }
        Command::Provider(args::Provider::Rollback { provider }) => {
            let target = RollBack { provider: provider.into() };
            let answer = client.post("/v1/providers/rollback", &target).await?;
            let text = show::swapped(&read(&answer)?);
            Ok((answer, text))
        }
        Command::Provider(args::Provider::Pin { provider, version, off }) => {
            let pin = Pin { provider: provider.into(), version, off };
            let answer = client.post("/v1/providers/pin", &pin).await?;
            let swapped: Swapped = read(&answer)?;
            let held = if pin.off { "no longer pinned" } else { "pinned to" };
            let text = format!("{}{held} {}\n", show::swapped(&swapped), swapped.to);
            Ok((answer, text))
        }
        Command::Look(look) => {
            let records = match (look.id, look.external) {
                (Some(id), _) => LookAt::Internal(id.into()),
                (None, Some(id)) => LookAt::External(id.into()),
                (None, None) => LookAt::All,
            };
            let look = Look { connection: look.connection.into(), object: look.object.into(), records };
            let answer = client.post("/v1/look", &look).await?;
            let text = show::count(read(&answer)?, "looking at", "record", "records");
            Ok((answer, text))
        }
        Command::Reload => {
            let answer = client.post("/v1/connections/reload", &Value::Null).await?;
            let text = show::reloaded(&read(&answer)?);
            Ok((answer, text))
        }
        Command::Run(_)
        | Command::Check(_)
        | Command::Map(_)
        | Command::Provider(
            args::Provider::Check(_)
            | args::Provider::Fields(_)
            | args::Provider::New(_)
            | args::Provider::Test(_),
        )
        | Command::Rules(_)
        | Command::Version => Err(Failure::because("this command asks no daemon")),
    }
}

/// The loop of an author: swap, work on the last record again, show.
async fn attempt(client: &Client, asked: &args::ProviderTry) -> Result<(Value, String), Failure> {
    let began = std::time::Instant::now();
    let status: Status =
        read(&client.get("/v1/status", &[("connection", Some(asked.connection.clone()))]).await?)?;
    let row = status.connections.into_iter().next();
    let label = row.as_ref().and_then(|row| row.provider.clone()).ok_or_else(|| {
        Failure::because(format!(
            "connection {} has no provider at work; `tandem status` says why",
            asked.connection
        ))
    })?;
    let provider = label.split('@').next().unwrap_or_default().to_owned();
    let known: Vec<ProviderView> = read(&client.get("/v1/providers", &[]).await?)?;
    let place = known
        .iter()
        .find(|view| view.provider.as_str() == provider && !view.file.is_empty())
        .map(|view| std::path::PathBuf::from(&view.file))
        .ok_or_else(|| Failure::because(format!("provider {provider} has no file in the folder")))?;
    let failed =
        |error: &std::io::Error| Failure::caused(format!("{} cannot be replaced", place.display()), error);
    let temporary = place.with_extension("part");
    std::fs::copy(&asked.file, &temporary).map_err(|error| failed(&error))?;
    std::fs::rename(&temporary, &place).map_err(|error| failed(&error))?;
    let reloaded: ProvidersReloaded = read(&client.post("/v1/providers/reload", &Value::Null).await?)?;
    if let Some(why) =
        reloaded.refused.iter().chain(&reloaded.waiting).find(|line| line.contains(&*place.to_string_lossy()))
    {
        return Err(Failure::because(why.clone()));
    }
    let mut text = show::providers_reloaded(&reloaded);
    let Some(last) = row.and_then(|row| row.last) else {
        text.push_str("The connection has worked on no record since the daemon was started.\n");
        return Ok((Value::Null, text));
    };
    let look = Look {
        connection: asked.connection.as_str().into(),
        object: last.object.clone(),
        records: LookAt::Internal(last.id.clone()),
    };
    client.post("/v1/look", &look).await?;
    let query = [
        ("scope", Some(last.scope.to_string())),
        ("connection", None),
        ("object", Some(last.object.to_string())),
        ("id", Some(last.id.to_string())),
    ];
    // The look is done when nothing of the record waits any more.
    let mut answer = client.get("/v1/explain", &query).await?;
    for _ in 0..100 {
        let waits = answer.get("hints").and_then(Value::as_array).is_some_and(|hints| !hints.is_empty());
        if !waits {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = client.get("/v1/explain", &query).await?;
    }
    text.push_str(&story::explanation(last.object.as_str(), last.id.as_str(), &read(&answer)?));
    text.push_str(&format!("swapped and looked at again in {} ms\n", began.elapsed().as_millis()));
    Ok((answer, text))
}

pub(super) fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::because(format!(
            "the answer is not understood: {error}; do daemon and command have the same version?"
        ))
    })
}

fn pause_target(target: args::Pause) -> PauseTarget {
    PauseTarget {
        connection: target.connection.map(Into::into),
        direction: args::Direction::flow(target.direction),
    }
}

async fn dead(client: &Client, command: args::Dead) -> Result<(Value, String), Failure> {
    match command {
        args::Dead::List(list) => {
            let answer = client.get("/v1/dead", &list_query(list)).await?;
            let text = show::dead(&read::<Vec<_>>(&answer)?);
            Ok((answer, text))
        }
        args::Dead::Show { seq } => {
            let answer = client.get(&format!("/v1/dead/{seq}"), &[]).await?;
            let text = show::dead_letter(&read(&answer)?);
            Ok((answer, text))
        }
        args::Dead::Replay(target) => each(client, "/v1/dead/replay", target, "replayed").await,
        args::Dead::Drop(target) => each(client, "/v1/dead/drop", target, "dropped").await,
    }
}

async fn each(
    client: &Client,
    path: &str,
    target: args::DeadTarget,
    done: &str,
) -> Result<(Value, String), Failure> {
    let targets = match target.connection {
        Some(connection) => vec![DeadTarget::Connection(connection.into())],
        None if target.all => vec![DeadTarget::All],
        None => target.seq.into_iter().map(DeadTarget::Seq).collect(),
    };
    let mut sum = Count { count: 0 };
    for target in targets {
        let answer: Count = read(&client.post(path, &target).await?)?;
        sum.count += answer.count;
    }
    let answer = serde_json::to_value(sum).map_err(|error| Failure::new(&error))?;
    Ok((answer, show::count(sum, done, "record", "records")))
}

fn list_query(list: args::List) -> [(&'static str, Option<String>); 2] {
    [("connection", list.connection), ("limit", Some(list.limit.to_string()))]
}

async fn review(client: &Client, command: args::Review) -> Result<(Value, String), Failure> {
    match command {
        args::Review::List(list) => {
            let query = [
                ("scope", list.scope),
                ("connection", list.connection),
                ("object", list.object),
                ("field", list.field),
                ("kind", list.kind),
                ("limit", Some(list.limit.to_string())),
            ];
            let answer = client.get("/v1/review", &query).await?;
            let text = show::reviews(&read::<Vec<_>>(&answer)?);
            Ok((answer, text))
        }
        args::Review::Show(record) => {
            let found = find(client, &record).await?;
            let answer = serde_json::to_value(&found).map_err(|error| Failure::new(&error))?;
            Ok((answer, show::review(&found)))
        }
        args::Review::Decide(decide) if matches::choice(&decide).is_some() => identify(client, decide).await,
        args::Review::Decide(args::Decide {
            object: Some(object),
            id: Some(id),
            scope,
            connection,
            group,
            take,
            all,
            field,
            value,
            seen,
            force,
            ..
        }) => {
            let mut found = find(client, &args::Reviewed { object, id, scope, connection }).await?;
            found.retain(|review| {
                review.kind == "held" && group.as_ref().is_none_or(|group| *group == review.group)
            });
            // What is seen here has been looked at as far as anybody knows; whoever looked before says at what.
            let known = if seen.is_empty() {
                found.iter().map(|review| review.seen.clone()).filter(|seen| !seen.is_empty()).collect()
            } else {
                seen
            };
            let is_one_group = take.is_some() || !value.is_empty();
            if !is_one_group {
                found.dedup_by(|one, other| one.entity == other.entity && one.connection == other.connection);
            }
            let one = only(found)?;
            let choice = match take.or(all) {
                Some(args::Take::Internal) => Some(Choice::Internal),
                Some(args::Take::External) => Some(Choice::External),
                None if value.is_empty() => None,
                None => Some(Choice::Values(value.into_iter().collect::<Fields>())),
            };
            let decision = Decide {
                scope: one.entity.scope,
                object: one.entity.object,
                id: one.entity.id,
                connection: one.connection,
                group: if is_one_group { Some(one.group) } else { group },
                choice,
                fields: field.into_iter().collect(),
                seen: known,
                force,
            };
            let answer = client.post("/v1/review/decide", &decision).await?;
            let text = show::count(read(&answer)?, "decided", "group", "groups");
            Ok((answer, text))
        }
        args::Review::Decide(decide) => decide_many(client, decide).await,
        args::Review::Unfreeze(unfreeze) => {
            let mut found = find(client, &unfreeze.record).await?;
            found.retain(|review| {
                review.kind == "frozen" && unfreeze.field.as_ref().is_none_or(|field| *field == review.group)
            });
            // Several fields of one link may be frozen; several links may not be meant.
            found.dedup_by(|one, other| one.entity == other.entity && one.connection == other.connection);
            let one = only(found)?;
            let target = Unfreeze {
                scope: one.entity.scope,
                object: one.entity.object,
                id: one.entity.id,
                connection: one.connection,
                field: unfreeze.field,
            };
            let answer = client.post("/v1/review/unfreeze", &target).await?;
            let text = show::count(read(&answer)?, "unfroze", "field", "fields");
            Ok((answer, text))
        }
    }
}

async fn guarded(client: &Client, command: args::Deletes) -> Result<(Value, String), Failure> {
    match command {
        args::Deletes::List { list, done: false } => {
            let answer = client.get("/v1/deletes", &list_query(list)).await?;
            let text = deletes::withheld(&read::<Vec<_>>(&answer)?);
            Ok((answer, text))
        }
        args::Deletes::List { list, done: true } => {
            let answer = client.get("/v1/deletes/done", &list_query(list)).await?;
            let text = deletes::kept(&read::<Vec<_>>(&answer)?);
            Ok((answer, text))
        }
        args::Deletes::Approve(target) => {
            let answer = client.post("/v1/deletes/approve", &deletes_target(target)).await?;
            let text = show::count(read(&answer)?, "approved", "record", "records");
            Ok((answer, text))
        }
        args::Deletes::Reject { target, restore } => {
            let target = DeletesTarget { restore, ..deletes_target(target) };
            let answer = client.post("/v1/deletes/reject", &target).await?;
            let text = show::count(read(&answer)?, "rejected", "record", "records");
            Ok((answer, text))
        }
        args::Deletes::Undo(target) => {
            let answer = client.post("/v1/deletes/undo", &deletes_target(target)).await?;
            let text = deletes::undone(&read(&answer)?);
            Ok((answer, text))
        }
    }
}

fn deletes_target(target: args::DeletesTarget) -> DeletesTarget {
    DeletesTarget {
        connection: target.connection.map(Into::into),
        batch: target.batch,
        object: target.object.map(Into::into),
        scope: target.scope.map(Into::into),
        ids: target.id.into_iter().map(Into::into).collect(),
        all: target.all,
        restore: false,
    }
}

/// Says whom a record is.
async fn identify(client: &Client, decide: args::Decide) -> Result<(Value, String), Failure> {
    let choice = matches::choice(&decide);
    let (Some(choice), Some(object), Some(id)) = (choice, decide.object, decide.id) else {
        return Err(Failure::usage("name the record: its object and its id"));
    };
    let record = args::Reviewed { object, id, scope: decide.scope, connection: decide.connection };
    let mut found = find(client, &record).await?;
    found.retain(|review| review.clash.is_some());
    matches::decide(client, only(found)?, choice).await
}

/// The same decision about many records: told how many they are, and decided when that was taken notice of.
async fn decide_many(client: &Client, decide: args::Decide) -> Result<(Value, String), Failure> {
    let take = match decide.all {
        Some(args::Take::Internal) => Side::Internal,
        Some(args::Take::External) => Side::External,
        None => {
            return Err(Failure::usage("name the record, or say --all internal or --all external for many"));
        }
    };
    let filter = ReviewFilter {
        scope: decide.scope.map(Into::into),
        connection: decide.connection.map(Into::into),
        object: decide.object.map(Into::into),
        id: None,
        field: decide.only,
        kind: Some("held".to_owned()),
    };
    let mut question = DecideMany { filter, take, expected: None };
    let answer = client.post("/v1/review/decide-many", &question).await?;
    let found: DecidedMany = read(&answer)?;
    if found.matching == 0 {
        return Ok((answer, "Nothing of that kind waits for a decision.\n".to_owned()));
    }
    if !decide.yes {
        let what = format!(
            "{} groups of {} records would take {}'s values; say --yes to decide them",
            found.matching,
            found.records,
            if take == Side::Internal { "System A" } else { "the CRM" }
        );
        return Err(Failure::because(what));
    }
    question.expected = Some(found.matching);
    let answer = client.post("/v1/review/decide-many", &question).await?;
    let text = show::decided_many(&read(&answer)?);
    Ok((answer, text))
}

/// The open reviews of a record.
async fn find(client: &Client, record: &args::Reviewed) -> Result<Vec<ReviewView>, Failure> {
    let query = [
        ("scope", record.scope.clone()),
        ("connection", record.connection.clone()),
        ("object", Some(record.object.clone())),
        ("id", Some(record.id.clone())),
        ("limit", Some(ALL.to_owned())),
    ];
    let reviews: Vec<ReviewView> = read(&client.get("/v1/review", &query).await?)?;
    if reviews.is_empty() {
        let what =
            format!("{} {} does not wait for a decision; see tandem review list", record.object, record.id);
        return Err(Failure::because(what));
    }
    Ok(reviews)
}

fn only(reviews: Vec<ReviewView>) -> Result<ReviewView, Failure> {
    let listed = show::reviews(&reviews);
    let mut reviews = reviews.into_iter();
    match (reviews.next(), reviews.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            let mut failure = Failure::usage(
                "that is not one thing; say which with --scope, --connection, --group or --field",
            );
            failure.text.push_str(&listed);
            Err(failure)
        }
        (None, _) => Err(Failure::because("there is nothing of that kind to decide; see tandem review list")),
    }
}
