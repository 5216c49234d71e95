//! Calls for each converged change, one kind of change at a time, and the same HTTP without Tandem.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem_e2e::account::PROPERTIES;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{Counts, QuotaSizes};

use crate::cpu::Usage;
use crate::people;

const SCOPE: &str = "calls";
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests of the bare loop at once: as many as the daemon keeps connections to one host.
const AT_ONCE: usize = 64;

/// One customer whose records change in one way only until the next measurement.
struct Room {
    house: House,
    changes: u64,
    figures: Map<String, Value>,
}

/// Both: what the calls of each kind of change are, and what a call costs by itself.
pub(crate) async fn measure(changes: u64, bare: Duration) -> Result<Value, Error> {
    let plan = Plan {
        quota: QuotaSizes { burst: 1_000_000, daily: None, search: 50 },
        // All of them are deleted, which the guard would stop.
        connection: "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 300000\n\
                     [objects.contact]\nguard_share = 100\n"
            .into(),
        ..Plan::roomy(&[SCOPE])
    };
    let house = House::build(plan).await?;
    house.quiet(PATIENCE).await?;
    let mut room = Room { house, changes, figures: Map::new() };
    let ids = room.create_out().await?;
    room.update_out("update_out", &ids, "First").await?;
    // With nobody told, what is left is the write itself: the difference is what its own echo costs.
    room.hear(false).await?;
    room.update_out("update_out_unheard", &ids, "Second").await?;
    room.hear(true).await?;
    room.unchanged_out(&ids).await?;
    let there = room.update_in().await?;
    room.unchanged_in(&there).await?;
    room.create_in().await?;
    room.delete_in(&there).await?;
    room.delete_out(&ids).await?;
    let echo = room.per_change("update_out") - room.per_change("update_out_unheard");
    room.figures.insert("echo".to_owned(), json!({"changes": changes, "per_change": echo}));
    let bare = room.bare(bare).await?;
    let _code = room.house.stop().await?;
    Ok(json!({"by_change": room.figures, "bare": bare}))
}

impl Room {
    fn portal(&self) -> Result<u64, Error> {
        Ok(self.house.customer(SCOPE)?.info.portal_id)
    }

    fn per_change(&self, kind: &str) -> f64 {
        self.figures.get(kind).and_then(|it| it.get("per_change")).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }

    async fn hear(&self, all: bool) -> Result<(), Error> {
        let wanted = if all { Value::Null } else { json!([]) };
        let _app =
            self.house.control.set_webhooks(self.house.app.app_id, json!({"subscriptions": wanted})).await?;
        Ok(())
    }

    /// Waits until everything is done and notes what it took.
    async fn note(&mut self, kind: &str, before: &Counts) -> Result<(), Error> {
        self.house.quiet(PATIENCE).await?;
        let after = self.house.control.counts().await?;
        let by_operation = crate::by_operation(before, &after);
        let made = after.total_calls() - before.total_calls();
        let figures = json!({
            "changes": self.changes, "per_change": made as f64 / self.changes.max(1) as f64,
            "by_operation": by_operation,
        });
        self.figures.insert(kind.to_owned(), figures);
        Ok(())
    }

    async fn create_out(&mut self) -> Result<Vec<String>, Error> {
        let before = self.house.control.counts().await?;
        let lines: Vec<Value> = (0..self.changes)
            .map(|number| json!({"op": "create", "document": people::document(SCOPE, number)}))
            .collect();
        let mut ids = Vec::new();
        for answer in self.house.system_a(SCOPE).batch(&lines).await? {
            let id = answer.get("id").and_then(Value::as_str).ok_or_else(|| format!("refused: {answer}"))?;
            ids.push(id.to_owned());
        }
        self.there("the account has what was created", |titles| titles.len() as u64 == self.changes).await?;
        self.note("create_out", &before).await?;
        Ok(ids)
    }

    async fn update_out(&mut self, kind: &str, ids: &[String], word: &str) -> Result<(), Error> {
        let before = self.house.control.counts().await?;
        let system_a = self.house.system_a(SCOPE);
        for (number, id) in ids.iter().enumerate() {
            let answer = system_a.patch(id, &json!({"job_title": format!("{word} {number}")})).await?;
            if !answer.status.is_success() {
                return Err(format!("refused: {} {}", answer.status, answer.body).into());
            }
        }
        self.there("the account shows every update", |titles| {
            (0..ids.len()).all(|number| titles.contains(&format!("{word} {number}")))
        })
        .await?;
        self.note(kind, &before).await
    }

    async fn unchanged_out(&mut self, ids: &[String]) -> Result<(), Error> {
        let system_a = self.house.system_a(SCOPE);
        let mut lines = Vec::new();
        for row in system_a.list().await? {
            if ids.contains(&row.id) {
                lines.push(json!({"op": "upsert", "id": row.id, "document": row.document}));
            }
        }
        let before = self.house.control.counts().await?;
        let _answers = system_a.batch(&lines).await?;
        self.note("unchanged_out", &before).await
    }

    async fn update_in(&mut self) -> Result<Vec<(u64, String)>, Error> {
        let portal = self.portal()?;
        let records = self.house.control.dump(portal).await?.records;
        let before = self.house.control.counts().await?;
        let mut edited = Vec::new();
        for record in records {
            let title = format!("Third {}", record.id);
            let _record = self.house.control.person_edits(portal, record.id, &[("jobtitle", &title)]).await?;
            edited.push((record.id, title));
        }
        let wanted: BTreeSet<String> = edited.iter().map(|(_, title)| title.clone()).collect();
        self.here("System A shows every edit", |titles| wanted.is_subset(titles)).await?;
        self.note("update_in", &before).await?;
        Ok(edited)
    }

    async fn unchanged_in(&mut self, edited: &[(u64, String)]) -> Result<(), Error> {
        let portal = self.portal()?;
        let before = self.house.control.counts().await?;
        for (id, title) in edited {
            let _record = self.house.control.person_edits(portal, *id, &[("jobtitle", title)]).await?;
        }
        self.note("unchanged_in", &before).await
    }

    async fn create_in(&mut self) -> Result<(), Error> {
        let portal = self.portal()?;
        let before = self.house.control.counts().await?;
        for number in 0..self.changes {
            let properties = people::properties(SCOPE, 1_000_000 + number);
            let given: Vec<(&str, &str)> =
                properties.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let _record = self.house.control.person_creates(portal, &given).await?;
        }
        self.here("System A has what was created", |titles| titles.len() as u64 >= 2 * self.changes).await?;
        self.note("create_in", &before).await
    }

    /// The first half goes in the account, the rest in System A.
    async fn delete_in(&mut self, there: &[(u64, String)]) -> Result<(), Error> {
        let portal = self.portal()?;
        let before = self.house.control.counts().await?;
        let half = there.len() / 2;
        for (id, _) in there.iter().take(half) {
            let _record = self.house.control.person_deletes(portal, *id).await?;
        }
        let gone: BTreeSet<String> = there.iter().take(half).map(|(_, title)| title.clone()).collect();
        self.here("System A has lost what was deleted", |titles| titles.is_disjoint(&gone)).await?;
        let all = std::mem::replace(&mut self.changes, half as u64);
        let noted = self.note("delete_in", &before).await;
        self.changes = all;
        noted
    }

    async fn delete_out(&mut self, ids: &[String]) -> Result<(), Error> {
        let system_a = self.house.system_a(SCOPE);
        let mut gone = BTreeSet::new();
        for row in system_a.list().await? {
            if ids.contains(&row.id)
                && let Some(title) = row.document.get("job_title").and_then(Value::as_str)
            {
                gone.insert((row.id, title.to_owned()));
            }
        }
        let before = self.house.control.counts().await?;
        for (id, _) in &gone {
            let answer = system_a.delete(id).await?;
            if !answer.status.is_success() {
                return Err(format!("refused: {} {}", answer.status, answer.body).into());
            }
        }
        let titles_gone: BTreeSet<String> = gone.iter().map(|(_, title)| title.clone()).collect();
        self.there("the account has lost what was deleted", |titles| titles.is_disjoint(&titles_gone))
            .await?;
        let all = std::mem::replace(&mut self.changes, gone.len() as u64);
        let noted = self.note("delete_out", &before).await;
        self.changes = all;
        noted
    }

    /// Waits for the titles of the account's live records.
    async fn there(&self, what: &str, holds: impl Fn(&BTreeSet<String>) -> bool) -> Result<(), Error> {
        let portal = self.portal()?;
        until(what, PATIENCE, async || {
            let records = self.house.control.dump(portal).await?.records;
            let titles = records
                .into_iter()
                .filter(|record| !record.archived)
                .filter_map(|mut record| record.properties.remove("jobtitle"))
                .collect();
            Ok(if holds(&titles) { Ok(()) } else { Err(format!("{} titles", titles.len())) })
        })
        .await
    }

    /// Waits for the titles of System A's records.
    async fn here(&self, what: &str, holds: impl Fn(&BTreeSet<String>) -> bool) -> Result<(), Error> {
        until(what, PATIENCE, async || {
            let rows = self.house.system_a(SCOPE).list().await?;
            let titles = rows
                .iter()
                .filter_map(|row| {
                    row.document.get("job_title").and_then(Value::as_str).map(ToOwned::to_owned)
                })
                .collect();
            Ok(if holds(&titles) { Ok(()) } else { Err(format!("{} titles", titles.len())) })
        })
        .await
    }

    /// Reads of one record by the daemon's HTTP library, as the provider asks for it, with nothing around it.
    async fn bare(&self, time: Duration) -> Result<Value, Error> {
        let customer = self.house.customer(SCOPE)?;
        let records = self.house.control.dump(customer.info.portal_id).await?.records;
        let id = records.iter().find(|record| !record.archived).ok_or("no record is left")?.id;
        let url =
            format!("{}/crm/v3/objects/contacts/{id}?properties={}", self.house.api, PROPERTIES.join(","));
        let pids = (std::process::id(), self.house.simulator_pid().ok_or("the simulator does not run")?);
        let client = tandem_e2e::client()?;
        let before = (Usage::of(pids.0)?, Usage::of(pids.1)?);
        let began = Instant::now();
        let loops: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (client, url, token) = (client.clone(), url.clone(), customer.info.access_token.clone());
                tokio::spawn(async move {
                    let mut calls = 0_u64;
                    while began.elapsed() < time {
                        let answer = client.get(&url).bearer_auth(&token).send().await?.error_for_status()?;
                        let _body = answer.bytes().await?;
                        calls += 1;
                    }
                    Ok::<_, Error>(calls)
                })
            })
            .collect();
        let mut calls = 0;
        for one in loops {
            calls += one.await??;
        }
        let took = began.elapsed().as_secs_f64();
        let each = |seconds: f64| seconds * 1e6 / calls.max(1) as f64;
        Ok(json!({
            "calls": calls, "per_second": calls as f64 / took, "at_once": AT_ONCE,
            "cpu_us_per_call": {
                "client": each(Usage::of(pids.0)?.since(&before.0).total),
                "simulator": each(Usage::of(pids.1)?.since(&before.1).total),
            },
        }))
    }
}
