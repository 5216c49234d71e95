//! A customer of one CRM, and what scenes say of it: who makes, edits and deletes what on which side, and what both sides then have.
//!
//! Everything that somebody does is put into the ledger, so that each scene ends with the judge. Waiting looks at the simulator's own
//! records and costs the account nothing: all calls that are counted are the daemon's.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tandem_e2e::account::Contact;
use tandem_e2e::crm::Crm;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::judge::{Own, Report, Seen, judge};
use tandem_e2e::ledger::{Act, Ledger, Side, key_of, key_of_document};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NotedWrite, WriteKind, Writer};

use crate::rows::{Counted, Custom, Row, Wanted};

pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const SCOPE: &str = "acme";

pub(crate) fn torture() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some_and(|value| value == "1")
}

/// For what a whole account takes.
pub(crate) fn long() -> Duration {
    Duration::from_secs(if torture() { 1_200 } else { 240 })
}

pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// A record that both sides have.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) person: String,
    pub(crate) internal: String,
    pub(crate) external: String,
}

/// A customer, and the one scene that is played with them.
pub(crate) struct Stage<R> {
    pub(crate) house: House,
    pub(crate) row: R,
    pub(crate) wanted: Wanted,
    crm: Crm,
    pub(crate) ledger: Ledger,
    acts: Cell<u64>,
    before: Counted,
    says: Cell<Option<String>>,
}

/// Plays a scene with a connected customer; it gives how many records both sides have in the end. Then the judge is called, and it is
/// printed what was counted. Where something is not as it has to be, the house's folder is kept and named.
pub(crate) async fn scene<R: Row>(
    name: &str,
    wanted: Wanted,
    play: impl AsyncFnOnce(&mut Stage<R>) -> Result<u64, Error>,
) -> Result<(), Error> {
    let mut stage = Stage::<R>::before_connection(wanted).await?;
    let connected = stage.connected().await;
    let played = match connected {
        Ok(()) => Box::pin(play(&mut stage)).await,
        Err(error) => Err(error),
    };
    stage.ends(name, played).await
}

/// Plays a scene with a customer whose account the daemon does not know yet.
pub(crate) async fn scene_before_connection<R: Row>(
    name: &str,
    wanted: Wanted,
    play: impl AsyncFnOnce(&mut Stage<R>) -> Result<u64, Error>,
) -> Result<(), Error> {
    let mut stage = Stage::<R>::before_connection(wanted).await?;
    let played = Box::pin(play(&mut stage)).await;
    stage.ends(name, played).await
}

impl<R: Row> Stage<R> {
    async fn before_connection(wanted: Wanted) -> Result<Self, Error> {
        let mut plan = Plan::roomy(&[]);
        R::prepare(&mut plan);
        let house = House::build(plan).await?;
        R::bring(&house).await?;
        let row = R::open(&house, &wanted).await?;
        let crm = row.crm(&house).await?;
        let ledger = Ledger::create(&house.folder.join("ledger.ndjson"))?;
        let before = row.counted(&house).await?;
        Ok(Self { house, row, wanted, crm, ledger, acts: Cell::new(0), before, says: Cell::default() })
    }

    /// Connects the customer and waits until the account was gone through. What that cost is not counted.
    async fn connected(&mut self) -> Result<(), Error> {
        self.connect().await?;
        self.house.quiet(SOON).await?;
        self.before = self.counted().await?;
        Ok(())
    }

    pub(crate) async fn connect(&self) -> Result<(), Error> {
        self.row.connect(&self.house, &self.wanted).await?;
        self.row.runs(&self.house).await
    }

    async fn ends(mut self, name: &str, played: Result<u64, Error>) -> Result<(), Error> {
        let result = match played {
            Ok(shared) => self.closes(name, shared).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| {
            let log = self.house.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n");
            let kept = self.house.keep();
            format!("{}: {name}: {error}; everything is kept in {}\n{end}", R::CRM, kept.display()).into()
        })
    }

    async fn closes(&self, name: &str, shared: u64) -> Result<(), Error> {
        self.quiet().await?;
        let counted = self.counted().await?;
        let (acts, calls) = (self.acts.get(), counted.calls() - self.before.calls());
        let writes = self.written().await?.len();
        let report = self.judged().await?;
        let dead = self.house.get("/v1/dead?limit=10").await?;
        ensure(dead == json!([]), || format!("set aside: {dead}"))?;
        let violations = self.house.control.violations().await?;
        ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed))?;
        ensure(report.failures.is_empty(), || format!("the judge: {report}: {:?}", report.failures))?;
        let held = report.under_review + report.set_aside;
        ensure((report.equal + report.superseded, held) == (shared, 0), || {
            format!("the judge: {report}, and not {shared} that are the same")
        })?;
        let each = |sum: u64| format!("{}.{:02}", sum / acts, sum * 100 / acts % 100);
        let tokens = counted.tokens.map_or_else(String::new, |tokens| {
            let tokens = tokens - self.before.tokens.unwrap_or_default();
            format!("; {tokens} tokens, {} each", each(tokens))
        });
        let operations = counted.operations.iter().filter_map(|(operation, counts)| {
            let before = self.before.operations.get(operation).map_or(0, |counts| counts.calls);
            (counts.calls > before).then(|| format!("{operation} {}", counts.calls - before))
        });
        let operations = operations.collect::<Vec<_>>().join(", ");
        println!(
            "{}: {name}: {acts} changes, {calls} calls ({operations}), {} each{tokens}; {writes} writes; refused for a limit {}, otherwise {}; \
             pushes delivered {}, lost {}; the judge: {report}{}",
            R::CRM,
            each(calls),
            counted.throttled(),
            counted.refused(),
            counted.pushes.delivered,
            counted.pushes.lost,
            self.says.take().map_or_else(String::new, |says| format!("; {says}")),
        );
        Ok(())
    }

    /// What the scene's line ends with.
    pub(crate) fn say(&self, what: String) {
        self.says.set(Some(what));
    }

    async fn judged(&self) -> Result<Report, Error> {
        let mut evidence = self.house.evidence().await?;
        let scope = self.wanted.scope.clone();
        evidence.system_a.insert(scope.clone(), self.house.system_a(&scope).list().await?);
        let mut contacts = self.row.crm(&self.house).await?.list().await?;
        let customs = if self.wanted.customs { self.row.customs().await? } else { Vec::new() };
        for contact in contacts.iter_mut().filter(|_| !customs.is_empty()) {
            let fields = self.row.fields(&self.house, &contact.id).await?;
            let own = fields.into_iter().filter(|(name, _)| customs.iter().any(|it| it.name == *name));
            contact.properties.extend(own.filter(|(_, value)| !value.is_null()).map(|(name, value)| {
                (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            }));
        }
        let own = |custom: Custom| Own {
            member: custom.member.to_owned(),
            name: custom.name,
            same: custom.here.into_iter().zip(custom.there).collect(),
        };
        let customs = customs.into_iter().map(own).collect();
        let seen = Seen { scope, dialect: R::DIALECT, contacts, customs, ..Seen::default() };
        evidence.accounts.insert(self.wanted.connection.clone(), seen);
        evidence.ledger = Ledger::read(&self.ledger_file())?;
        Ok(judge(&evidence))
    }

    fn ledger_file(&self) -> PathBuf {
        self.house.folder.join("ledger.ndjson")
    }

    // ---- who does what ----

    /// So much was done by somebody else who notes it in the ledger.
    pub(crate) fn acted(&self, acts: u64) {
        self.acts.set(self.acts.get() + acts);
    }

    pub(crate) fn note(&self, person: &str, side: Side, act: Act) -> Result<(), Error> {
        self.acts.set(self.acts.get() + 1);
        self.ledger.note(&self.wanted.scope, person, side, act)
    }

    /// Somebody makes a record in System A.
    pub(crate) async fn make_here(&self, document: &Value) -> Result<String, Error> {
        Ok(self.make_many_here(std::slice::from_ref(document)).await?.remove(0))
    }

    pub(crate) async fn make_many_here(&self, documents: &[Value]) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        for part in documents.chunks(500) {
            let lines: Vec<Value> =
                part.iter().map(|document| json!({ "op": "create", "document": document })).collect();
            let answers = self.house.system_a(&self.wanted.scope).batch(&lines).await?;
            for (document, answer) in part.iter().zip(&answers) {
                ids.push(answer["id"].as_str().ok_or_else(|| format!("not taken: {answer}"))?.to_owned());
                self.note(&key_of_document(document), Side::SystemA, wrote(document))?;
            }
        }
        ensure(ids.len() == documents.len(), || format!("{} of {} answered", ids.len(), documents.len()))?;
        Ok(ids)
    }

    /// Somebody makes a record in the CRM.
    pub(crate) async fn make_there(&self, document: &Value) -> Result<String, Error> {
        let pairs = texts(document);
        let id = self.crm.make(&borrowed(&pairs)).await?;
        self.note(&key_of_document(document), Side::Account, wrote(document))?;
        Ok(id)
    }

    /// Somebody imports these people into the CRM.
    pub(crate) async fn import_there(&self, documents: &[Value], quietly: bool) -> Result<(), Error> {
        let people: Vec<Vec<(&str, String)>> = documents.iter().map(texts).collect();
        self.crm.import(&people, quietly).await?;
        for document in documents {
            self.note(&key_of_document(document), Side::Account, wrote(document))?;
        }
        Ok(())
    }

    /// Somebody saves these members in System A; null clears.
    pub(crate) async fn edit_here(&self, shared: &Shared, members: Value) -> Result<(), Error> {
        let answer = self.house.system_a(&self.wanted.scope).patch(&shared.internal, &members).await?;
        ensure(answer.status.is_success(), || format!("{} {}", answer.status, answer.body))?;
        self.note(&shared.person, Side::SystemA, wrote(&members))
    }

    /// Somebody saves these members in the CRM; null clears.
    pub(crate) async fn edit_there(&self, shared: &Shared, members: Value) -> Result<(), Error> {
        let pairs = texts(&members);
        self.crm.edit(&shared.external, &borrowed(&pairs)).await?;
        self.note(&shared.person, Side::Account, wrote(&members))
    }

    /// Somebody saves these members of many records of the CRM at once.
    pub(crate) async fn edit_many_there(&self, many: &[Shared], members: Value) -> Result<(), Error> {
        let pairs = texts(&members);
        let ids: Vec<&str> = many.iter().map(|shared| shared.external.as_str()).collect();
        self.crm.edit_many(&ids, &borrowed(&pairs)).await?;
        for shared in many {
            self.note(&shared.person, Side::Account, wrote(&members))?;
        }
        Ok(())
    }

    pub(crate) async fn delete_here(&self, shared: &Shared) -> Result<(), Error> {
        let answer = self.house.system_a(&self.wanted.scope).delete(&shared.internal).await?;
        ensure(answer.status.is_success(), || answer.status.to_string())?;
        self.note(&shared.person, Side::SystemA, Act::Removed)
    }

    pub(crate) async fn delete_there(&self, shared: &Shared) -> Result<(), Error> {
        self.crm.delete(&shared.external).await?;
        self.note(&shared.person, Side::Account, Act::Removed)
    }

    /// Somebody takes back in the CRM what was deleted: it has these members again.
    pub(crate) async fn restore_there(&self, shared: &Shared, members: &Value) -> Result<(), Error> {
        self.crm.restore(&shared.external).await?;
        self.note(&shared.person, Side::Account, wrote(members))
    }

    /// So many records, made in System A and carried to the CRM.
    pub(crate) async fn shared(&self, many: usize) -> Result<Vec<Shared>, Error> {
        let documents: Vec<Value> = (0..many).map(numbered).collect();
        let ids = self.make_many_here(&documents).await?;
        self.quiet().await?;
        let there = self.everybody_there().await?;
        ensure(there.len() == many, || format!("{} of {many} are in the CRM", there.len()))?;
        self.ledger.note_quiet()?;
        let shared = ids.into_iter().zip(&documents).map(|(internal, document)| {
            let person = key_of_document(document);
            let external = there.get(&person).ok_or_else(|| format!("{person} is not in the CRM"))?;
            Ok(Shared { person, internal, external: external.id.clone() })
        });
        shared.collect()
    }

    pub(crate) async fn pause(&self) -> Result<(), Error> {
        self.house.post("/v1/pause", &json!({ "connection": self.wanted.connection })).await.map(drop)
    }

    pub(crate) async fn resume(&self) -> Result<(), Error> {
        self.house.post("/v1/resume", &json!({ "connection": self.wanted.connection })).await.map(drop)
    }

    /// Whoever looks after the review decides for a side.
    pub(crate) async fn decide(&self, shared: &Shared, member: &str, side: &str) -> Result<(), Error> {
        let decision = json!({
            "scope": self.wanted.scope, "object": "contact", "id": shared.internal,
            "connection": self.wanted.connection, "group": format!("/{member}"), "choice": side,
        });
        self.house.post("/v1/review/decide", &decision).await.map(drop)
    }

    /// Orders a disturbance of the account; gives its number.
    pub(crate) async fn order(&self, order: FaultOrder) -> Result<u64, Error> {
        Ok(self.house.control.order(&order.portal(self.row.number())).await?)
    }

    pub(crate) async fn fired(&self, order: u64) -> Result<u64, Error> {
        let faults = self.house.control.faults().await?.faults;
        Ok(faults.iter().find(|fault| fault.id == order).map_or(0, |fault| fault.fired))
    }

    /// Counts from now on how often credentials are renewed; the number is for [`Stage::fired`].
    pub(crate) async fn count_renewals(&self) -> Result<u64, Error> {
        // A delay that is none: what counts is how often it happens. Whose credential it is is not known there.
        let counted = FaultOrder::new(FaultKind::Latency { ms: 0, jitter_ms: 0 }).operation(R::RENEWAL);
        Ok(self.house.control.order(&counted).await?)
    }

    // ---- what is seen ----

    pub(crate) async fn quiet(&self) -> Result<(), Error> {
        self.house.quiet(long()).await
    }

    /// Everything was carried over and nobody acts: what comes later is said in knowledge of it.
    pub(crate) async fn settles(&self) -> Result<(), Error> {
        self.quiet().await?;
        self.ledger.note_quiet()
    }

    pub(crate) async fn counted(&self) -> Result<Counted, Error> {
        self.row.counted(&self.house).await
    }

    /// Everybody in the CRM by whom they are; two of one are an error.
    pub(crate) async fn everybody_there(&self) -> Result<BTreeMap<String, Contact>, Error> {
        let mut all = BTreeMap::new();
        for contact in self.crm.dump().await? {
            let seen = self.crm.canonical(&contact);
            let get = |member: &str| seen.get(member).map(String::as_str);
            let key = key_of(get("email"), get("given_name"), get("family_name"));
            let twice = all.insert(key.clone(), contact).is_some();
            ensure(!twice, || format!("{key} is there twice"))?;
        }
        Ok(all)
    }

    /// Waits until the CRM has somebody; gives the record's id.
    pub(crate) async fn comes_there(&self, person: &str) -> Result<String, Error> {
        until(&format!("{person} is in the CRM"), SOON, async || {
            let all = self.everybody_there().await?;
            Ok(all.get(person).map(|it| it.id.clone()).ok_or_else(|| format!("{} people", all.len())))
        })
        .await
    }

    /// Waits until System A has somebody; gives the record's id.
    pub(crate) async fn comes_here(&self, person: &str) -> Result<String, Error> {
        until(&format!("{person} is in System A"), SOON, async || {
            let all = self.house.system_a(&self.wanted.scope).list().await?;
            let found: Vec<&str> = all
                .iter()
                .filter(|record| key_of_document(&record.document) == person)
                .map(|record| record.id.as_str())
                .collect();
            Ok(match found.as_slice() {
                [one] => Ok((*one).to_owned()),
                many => Err(format!("{} of {} records are of them", many.len(), all.len())),
            })
        })
        .await
    }

    /// A record of System A, without members that have no value. None: it is not there.
    pub(crate) async fn record_here(&self, internal: &str) -> Result<Option<Value>, Error> {
        let document = self.house.system_a(&self.wanted.scope).read(internal).await?;
        Ok(document.map(|document| valued(&document)))
    }

    /// A record of the CRM by canonical names, without members that have no value. None: it is not there.
    pub(crate) async fn record_there(&self, external: &str) -> Result<Option<Value>, Error> {
        let found = self.crm.dump().await?.into_iter().find(|contact| contact.id == external);
        Ok(found.map(|contact| json!(self.crm.canonical(&contact))))
    }

    /// Waits until System A has these values; null stands for none.
    pub(crate) async fn becomes_here(&self, shared: &Shared, wanted: &Value) -> Result<Value, Error> {
        until(&format!("{} has {wanted} in System A", shared.person), SOON, async || {
            let now = self.record_here(&shared.internal).await?.unwrap_or_default();
            Ok(if has(&now, wanted) { Ok(now) } else { Err(now.to_string()) })
        })
        .await
    }

    /// Waits until the CRM has these values; null stands for none.
    pub(crate) async fn becomes_there(&self, shared: &Shared, wanted: &Value) -> Result<Value, Error> {
        until(&format!("{} has {wanted} in the CRM", shared.person), SOON, async || {
            let now = self.record_there(&shared.external).await?.unwrap_or_default();
            Ok(if has(&now, wanted) { Ok(now) } else { Err(now.to_string()) })
        })
        .await
    }

    pub(crate) async fn both_become(&self, shared: &Shared, wanted: &Value) -> Result<(), Error> {
        self.becomes_here(shared, wanted).await?;
        self.becomes_there(shared, wanted).await.map(drop)
    }

    pub(crate) async fn goes_here(&self, shared: &Shared) -> Result<(), Error> {
        until(&format!("{} is gone in System A", shared.person), SOON, async || {
            let found = self.record_here(&shared.internal).await?;
            Ok(found.map_or(Ok(()), |document| Err(document.to_string())))
        })
        .await
    }

    pub(crate) async fn goes_there(&self, shared: &Shared) -> Result<(), Error> {
        until(&format!("{} is gone in the CRM", shared.person), SOON, async || {
            let found = self.record_there(&shared.external).await?;
            Ok(found.map_or(Ok(()), |document| Err(document.to_string())))
        })
        .await
    }

    /// Waits until so many records are in the CRM.
    pub(crate) async fn all_come_there(&self, many: usize) -> Result<(), Error> {
        until(&format!("all {many} are in the CRM"), long(), async || {
            let live = self.counted().await?.live;
            Ok(if live == many { Ok(()) } else { Err(format!("{live}: {}", self.status().await?)) })
        })
        .await
    }

    /// The connection's row of the status.
    pub(crate) async fn status(&self) -> Result<Value, Error> {
        let status = self.house.get(&format!("/v1/status?connection={}", self.wanted.connection)).await?;
        Ok(status["connections"][0].clone())
    }

    /// Rows of the review of this connection.
    pub(crate) async fn review(&self) -> Result<Vec<Value>, Error> {
        let list = self.house.get("/v1/review?limit=10000").await?;
        let rows = list.as_array().into_iter().flatten();
        Ok(rows.filter(|row| row["connection"] == json!(self.wanted.connection)).cloned().collect())
    }

    /// All writes of the account, whoever made them, oldest first.
    pub(crate) async fn writes(&self) -> Result<Vec<NotedWrite>, Error> {
        self.crm.writes().await
    }

    /// What the daemon wrote or tried to write, oldest first.
    pub(crate) async fn written(&self) -> Result<Vec<NotedWrite>, Error> {
        Ok(self.writes().await?.into_iter().filter(|write| write.by == Writer::Api).collect())
    }

    /// How many records the daemon made.
    pub(crate) async fn made_by_us(&self) -> Result<usize, Error> {
        let written = self.written().await?;
        Ok(written.iter().filter(|write| write.kind == WriteKind::Create && write.taken).count())
    }

    pub(crate) fn name_of(&self, member: &str) -> Result<&'static str, Error> {
        self.crm.name_of(member)
    }

    /// Lets a second of the CRM's pass: where a search lags behind writes (by 300 ms at most here), it shows by then what was written.
    pub(crate) async fn search_catches_up(&self) -> Result<(), Error> {
        let written = self.house.control.advance(0).await?;
        until("a second passes", SOON, async || {
            let now = self.house.control.advance(0).await?;
            Ok(if now >= written + 1_000 { Ok(()) } else { Err(now.to_string()) })
        })
        .await
    }

    /// Lets the CRM's second end: where times count in seconds, what follows has another one than what was.
    pub(crate) async fn next_second(&self) -> Result<(), Error> {
        let second = self.house.control.advance(0).await?.div_euclid(1_000);
        until("the second ends", SOON, async || {
            let now = self.house.control.advance(0).await?.div_euclid(1_000);
            Ok(if now > second { Ok(()) } else { Err(now.to_string()) })
        })
        .await
    }
}

fn wrote(document: &Value) -> Act {
    Act::Wrote(document.as_object().cloned().unwrap_or_default())
}

/// Members as texts; what has no value is empty.
fn texts(document: &Value) -> Vec<(&str, String)> {
    let members = document.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn borrowed<'a>(pairs: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    pairs.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A document without members that have no value.
pub(crate) fn valued(document: &Value) -> Value {
    let members = document.as_object().into_iter().flatten();
    let members = members.filter(|(_, value)| !value.is_null());
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Whether these members have these values.
fn has(document: &Value, wanted: &Value) -> bool {
    wanted.as_object().into_iter().flatten().all(|(name, value)| document[name] == *value)
}

/// A document with these members changed; null takes one out.
pub(crate) fn changed(document: &Value, members: &Value) -> Value {
    let mut all: Map<String, Value> = document.as_object().cloned().unwrap_or_default();
    all.extend(members.as_object().cloned().unwrap_or_default());
    valued(&Value::Object(all))
}

/// Somebody, always the same for the same number.
pub(crate) fn numbered(number: usize) -> Value {
    json!({
        "email": format!("p{number}@{SCOPE}.example"), "given_name": format!("Pat {number}"),
        "family_name": format!("Person {number}"), "phone": format!("+44 20 7946 {number:04}"),
        "job_title": format!("Pilot {number}"), "city": "Ulm", "notes": "none",
    })
}
