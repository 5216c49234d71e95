//! `tandem rules test`: which of a connection's rules decides for each record of a file, without a daemon.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tandem_core::rules::Case;
use tandem_core::schema::CanonicalSchema;

use super::args;
use super::failure::{FAILED, Failure};
use super::map::documents;
use super::online::pretty;
use super::table::{plain, table};
use crate::config::{Config, ConfigError, ConnectionConfig, Connections};

/// What came of one record.
#[derive(Debug, Serialize)]
struct Outcome {
    record: usize,
    /// "sync", "skip", "hold", or "error".
    action: String,
    /// None: no rule says anything.
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Judges, and answers what is printed.
pub(super) fn test(config: &Path, asked: &args::RulesTest, json: bool) -> Result<String, Failure> {
    let connection = connection(config, asked.connection.as_deref())?;
    let schema = CanonicalSchema::built_in(&asked.object)
        .ok_or_else(|| Failure::usage(format!("there is no canonical object {:?}", asked.object)))?
        .map_err(|error| Failure::new(&error))?;
    let given = documents(&asked.file)?;
    let outcomes: Vec<Outcome> = given
        .iter()
        .enumerate()
        .map(|(position, given)| judge(&connection, &asked.object, &schema, position + 1, given))
        .collect();
    let failed = outcomes.iter().any(|outcome| outcome.error.is_some());
    let text = if json {
        pretty(&serde_json::to_value(&outcomes).map_err(|error| Failure::new(&error))?)?
    } else {
        show(&connection, &outcomes)
    };
    if !failed {
        return Ok(text);
    }
    super::print(&text)?;
    Err(Failure {
        status: FAILED,
        text: "error: a rule cannot judge a record; it would be set aside\n".to_owned(),
    })
}

fn connection(config: &Path, name: Option<&str>) -> Result<Arc<ConnectionConfig>, Failure> {
    let config = Config::load(config)?;
    let connections = Connections::load(&config)?;
    if let Some(name) = name {
        if let Some(bad) = connections.bad.iter().find(|bad| bad.id.as_str() == name) {
            return Err(ConfigError { findings: bad.findings.clone() }.into());
        }
        let found = connections.good.iter().find(|(id, _)| id.as_str() == name);
        return found.map(|(_, file)| file.clone()).ok_or_else(|| {
            Failure::usage(format!("there is no connection {name:?} in {}", config.connections_dir.display()))
        });
    }
    let mut all = connections.good.values();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(Failure::usage("there is not just one connection; name it with --connection")),
    }
}

fn judge(
    connection: &ConnectionConfig,
    object: &str,
    schema: &CanonicalSchema,
    record: usize,
    given: &Value,
) -> Outcome {
    let change = given.as_object().is_some_and(|members| members.contains_key("after"));
    let present = |value: Option<&'_ Value>| value.filter(|value| !value.is_null()).cloned();
    let (before, after) = if change {
        (present(given.get("before")), present(given.get("after")))
    } else {
        (None, Some(given.clone()))
    };
    let origin = given.get("origin").and_then(Value::as_str).filter(|_| change).unwrap_or("internal");
    let problems =
        [&before, &after].into_iter().flatten().find_map(|document| schema.validate(document).err());
    if let Some(problem) = problems.and_then(|problems| problems.into_iter().next()) {
        let place = problem.pointer.unwrap_or_default();
        let error = format!("not a canonical {object}: {place}: {}", problem.message);
        return Outcome { record, action: "error".to_owned(), rule: None, error: Some(error) };
    }
    let case = Case {
        connection: connection.id.as_str(),
        object,
        schema,
        origin,
        before: before.as_ref(),
        after: after.as_ref(),
    };
    match connection.rules.judge(&case) {
        Ok(None) => Outcome { record, action: "sync".to_owned(), rule: None, error: None },
        Ok(Some(judged)) => Outcome {
            record,
            action: judged.action.to_string(),
            rule: Some(judged.rule.to_owned()),
            error: None,
        },
        Err(error) => Outcome {
            record,
            action: "error".to_owned(),
            rule: Some(error.rule.clone()),
            error: Some(error.why),
        },
    }
}

fn show(connection: &ConnectionConfig, outcomes: &[Outcome]) -> String {
    let rows: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            [
                outcome.record.to_string(),
                outcome.action.clone(),
                outcome.rule.as_deref().map_or_else(|| "no rule".to_owned(), plain),
                outcome.error.as_deref().map_or_else(String::new, plain),
            ]
        })
        .collect();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{} ({})", connection.id, connection.file.display());
    text.push_str(&table(["RECORD", "WHAT FOLLOWS", "RULE", ""], &rows));
    text
}
