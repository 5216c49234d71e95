//! Load: programs write to System A, people edit in the accounts, and records flow both ways.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::House;
use tandem_e2e::ledger::{key_of, key_of_document};
use tandem_e2e::people::{Dice, person};
use tandem_e2e::system_a::SystemA;
use tandem_e2e::{Error, until};
use tandem_simulator::control::Client as Control;

use super::changes::{marker, number};
use super::{SCOPES, ensure};

const SOON: Duration = Duration::from_secs(120);
/// People of each scope that are edited in its account.
const PEOPLE: u64 = 120;
/// Programs that write to each scope at once.
const PROGRAMS: u64 = 4;
/// One edit in an account comes for so many writes.
const WRITES_PER_EDIT: u64 = 3;

/// Somebody on both sides whose job title is edited in the account, and nowhere else.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) scope: &'static str,
    pub(crate) internal: String,
    pub(crate) portal: u64,
    pub(crate) external: u64,
}

/// What all have in common.
struct Load {
    wanted: u64,
    /// Markers that were given.
    markers: Cell<u64>,
    /// Writes that System A acknowledged.
    writes: Cell<u64>,
    edits: Cell<u64>,
}

impl Load {
    fn is_over(&self) -> bool {
        self.writes.get() >= self.wanted
    }

    fn marker(&self) -> String {
        self.markers.set(self.markers.get() + 1);
        marker(self.markers.get())
    }

    fn acknowledged(&self, count: usize) {
        self.writes.set(self.writes.get() + count as u64);
    }

    /// Notes with a new marker; now and then they are long.
    fn notes(&self) -> Value {
        let marker = self.marker();
        let long = if self.markers.get().is_multiple_of(50) { 20_000 } else { 20 };
        json!(format!("{marker} {}", "long ".repeat(long / 5)))
    }

    fn document(&self, scope: &str, number: u64) -> Value {
        let mut document = person(scope, number);
        if let Some(members) = document.as_object_mut() {
            members.insert("notes".to_owned(), self.notes());
        }
        document
    }

    fn again(&self, document: &mut Value) -> Value {
        if let Some(members) = document.as_object_mut() {
            members.insert("notes".to_owned(), self.notes());
        }
        document.clone()
    }
}

/// A program that creates, changes and removes records of its own, one request after another.
struct Program<'a> {
    load: &'a Load,
    scope: &'static str,
    system_a: SystemA,
    dice: RefCell<Dice>,
    /// Its records: id and document.
    own: RefCell<Vec<(String, Value)>>,
    next: Cell<u64>,
}

impl Program<'_> {
    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.dice.borrow_mut().below(bound as u64)).unwrap_or(0)
    }

    fn newcomer(&self) -> Value {
        self.next.set(self.next.get() + 1);
        self.load.document(self.scope, self.next.get())
    }

    /// Takes one of its records out of the list.
    fn some_record(&self) -> Option<(String, Value)> {
        let len = self.own.borrow().len();
        (len > 0).then(|| self.own.borrow_mut().swap_remove(self.below(len)))
    }

    async fn run(&self) -> Result<(), Error> {
        while !self.load.is_over() {
            match self.below(10) {
                0 | 1 => self.create().await?,
                2 => self.remove().await?,
                3 => self.batch().await?,
                _ => self.change().await?,
            }
        }
        Ok(())
    }

    async fn create(&self) -> Result<(), Error> {
        let document = self.newcomer();
        let answer = self.system_a.create(&document).await?;
        let id = answer.id.ok_or_else(|| format!("a create was refused: {}", answer.body))?;
        self.own.borrow_mut().push((id, document));
        self.load.acknowledged(1);
        Ok(())
    }

    async fn change(&self) -> Result<(), Error> {
        let Some((id, mut document)) = self.some_record() else { return self.create().await };
        let notes = self.load.again(&mut document).get("notes").cloned();
        let answer = self.system_a.patch(&id, &json!({ "notes": notes })).await?;
        ensure(answer.status.is_success(), || format!("a change was refused: {}", answer.body))?;
        self.own.borrow_mut().push((id, document));
        self.load.acknowledged(1);
        Ok(())
    }

    async fn remove(&self) -> Result<(), Error> {
        let Some((id, _)) = self.some_record() else { return self.create().await };
        let answer = self.system_a.delete(&id).await?;
        ensure(answer.status.is_success(), || format!("a removal was refused: {}", answer.body))?;
        self.load.acknowledged(1);
        Ok(())
    }

    async fn batch(&self) -> Result<(), Error> {
        let mut lines = Vec::new();
        let mut kept = Vec::new();
        for _ in 0..5 {
            let document = self.newcomer();
            lines.push(json!({ "op": "create", "document": document }));
            kept.push(Some((None, document)));
        }
        for _ in 0..3 {
            let Some((id, mut document)) = self.some_record() else { break };
            lines.push(json!({ "op": "upsert", "id": id, "document": self.load.again(&mut document) }));
            kept.push(Some((Some(id), document)));
        }
        if let Some((id, _)) = self.some_record() {
            lines.push(json!({ "op": "delete", "id": id }));
            kept.push(None);
        }
        let answers = self.system_a.batch(&lines).await?;
        ensure(answers.len() == lines.len(), || {
            format!("{} answers to {} lines", answers.len(), lines.len())
        })?;
        for (record, answer) in kept.into_iter().zip(&answers) {
            let accepted = answer.get("status").and_then(Value::as_u64).is_some_and(|status| status < 300);
            ensure(accepted, || format!("a line was refused: {answer}"))?;
            if let Some((id, document)) = record {
                let given = || answer.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
                self.own.borrow_mut().push((id.or_else(given).ok_or("no id")?, document));
            }
        }
        self.load.acknowledged(lines.len());
        Ok(())
    }
}

/// Edits job titles, each record in its turn, one edit for some writes.
async fn edit(load: &Load, control: &Control, people: &[Person]) -> Result<(), Error> {
    for person in people.iter().cycle() {
        while load.edits.get() * WRITES_PER_EDIT > load.writes.get() {
            if load.is_over() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let title = load.marker();
        load.edits.set(load.edits.get() + 1);
        control.person_edits(person.portal, person.external, &[("jobtitle", &title)]).await?;
    }
    Ok(())
}

/// Puts people into System A and waits until they are on both sides.
async fn fill(house: &House, load: &Load, scope: &'static str) -> Result<Vec<Person>, Error> {
    let people: Vec<Value> = (0..PEOPLE).map(|number| load.document(scope, number)).collect();
    let lines: Vec<Value> =
        people.iter().map(|document| json!({ "op": "create", "document": document })).collect();
    let answers = house.system_a(scope).batch(&lines).await?;
    house.quiet(SOON).await?;
    let portal = house.customer(scope)?.info.portal_id;
    let records = house.control.dump(portal).await?.records;
    let ids: BTreeMap<String, u64> = records
        .iter()
        .map(|record| {
            let get = |name: &str| record.properties.get(name).map(String::as_str);
            (key_of(get("email"), get("firstname"), get("lastname")), record.id)
        })
        .collect();
    people
        .iter()
        .zip(&answers)
        .map(|(document, answer)| {
            let key = key_of_document(document);
            let internal = answer.get("id").and_then(Value::as_str);
            let internal = internal.ok_or_else(|| format!("refused: {answer}"))?.to_owned();
            let external = *ids.get(&key).ok_or_else(|| format!("{key} did not arrive"))?;
            Ok(Person { scope, internal, portal, external })
        })
        .collect()
}

/// Everybody's last edit arrived in System A.
async fn arrived(house: &House, people: &[Person]) -> Result<(), Error> {
    until("the last edits arrived", SOON, async || {
        let mut late = 0;
        for scope in SCOPES {
            let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
            let titles: BTreeMap<u64, &String> = dump
                .records
                .iter()
                .filter_map(|record| Some((record.id, record.properties.get("jobtitle")?)))
                .collect();
            let there: BTreeMap<String, Value> =
                house.system_a(scope).list().await?.into_iter().map(|one| (one.id, one.document)).collect();
            for person in people.iter().filter(|person| person.scope == scope) {
                let wanted = titles.get(&person.external).filter(|title| number(title).is_some());
                let found = there.get(&person.internal).and_then(|document| document.get("job_title"));
                late += usize::from(wanted.is_some_and(|wanted| found != Some(&json!(wanted))));
            }
        }
        Ok(if late == 0 { Ok(()) } else { Err(format!("{late} edits are missing")) })
    })
    .await
}

/// Loads the house until System A has acknowledged so many writes, and waits until everything is done.
pub(crate) async fn run(house: &House, writes: u64) -> Result<Vec<Person>, Error> {
    let load = Load { wanted: writes, markers: Cell::new(0), writes: Cell::new(0), edits: Cell::new(0) };
    let mut people = Vec::new();
    for scope in SCOPES {
        people.extend(fill(house, &load, scope).await?);
    }
    let programs: Vec<Program<'_>> = SCOPES
        .into_iter()
        .flat_map(|scope| (1..=PROGRAMS).map(move |number| (scope, number)))
        .map(|(scope, number)| Program {
            load: &load,
            scope,
            system_a: house.system_a(scope),
            dice: RefCell::new(Dice(number)),
            own: RefCell::default(),
            next: Cell::new(number * 1_000_000),
        })
        .collect();
    let [a, b, c, d, e, f, g, h] = programs.as_slice() else { return Err("eight programs".into()) };
    tokio::try_join!(
        a.run(),
        b.run(),
        c.run(),
        d.run(),
        e.run(),
        f.run(),
        g.run(),
        h.run(),
        edit(&load, &house.control, &people)
    )?;
    house.quiet(SOON).await?;
    // Without this a change that the daemon lost while all was well would look like one that the power took.
    arrived(house, &people).await?;
    Ok(people)
}
