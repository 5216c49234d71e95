//! SIGKILL, with each CRM's own way of creating: at any moment of a load on both sides, and between the sending of creates and what is
//! noted of their answers. What `crash.rs` shows with HubSpot, whose records are looked for by a unique property.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::crm::Crm;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::judge::{Seen, judge};
use tandem_e2e::ledger::{Act, Ledger, Side, key_of_document};
use tandem_e2e::load::{Known, Load};
use tandem_e2e::people::Dice;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, WriteKind, Writer};

use crate::rows::{Row, Wanted};
use crate::stage::{SCOPE, ensure, long, scene, torture, valued};

/// A create takes effect, its webhook or message comes unless the account has given up on us, and nobody hears the answer as long as this
/// daemon lives.
const UNHEARD: FaultKind = FaultKind::WithholdAfter { ms: 60_000 };

/// People of whom every other one has no address: there is only Tandem's key to find them by.
fn newcomer(scope: &str, number: u64) -> Value {
    let mut document = json!({
        "email": format!("new{number}@{scope}.example"), "given_name": format!("New {number}"),
        "family_name": format!("Person {number}"), "job_title": "Pilot", "city": "Ulm",
    });
    if number.is_multiple_of(2) {
        document["email"] = Value::Null;
    }
    valued(&document)
}

pub(crate) async fn a_kill_at_any_moment_of_a_load_loses_and_doubles_nothing<R: Row>() -> Result<(), Error> {
    const EDITED: usize = 40;
    let kills: usize = if torture() { 200 } else { 4 };
    // More is deleted than the guard would let go. Where pushes tell of no deletion, polls have to.
    let wanted = Wanted::new(SCOPE).polled(1_000).policy("guard_share = 100");
    scene::<R>("killed under load", wanted, async |stage| {
        let known: Vec<Known> = stage
            .shared(EDITED + 2 * kills)
            .await?
            .into_iter()
            .map(|it| Known { person: it.person, internal: it.internal, external: it.external })
            .collect();
        let sides = (stage.house.system_a(SCOPE), stage.row.crm(&stage.house).await?);
        // So many edits as the account's calls can carry over.
        let load = Load::new(SCOPE, sides, &stage.ledger, (&known, EDITED), newcomer)?
            .slower(Duration::from_millis(10));
        let mut dice = Dice(20_240_229);
        let mut unheard = 0;
        for kill in 1..=kills {
            // In some rounds creates are under way when it comes.
            let order = FaultOrder::new(UNHEARD).operation(R::CREATE).portal(stage.row.number());
            let withheld = if kill % 2 == 0 { Some(stage.house.control.order(&order).await?) } else { None };
            let moment = Duration::from_millis(dice.below(700));
            let ended = Cell::new(false);
            let axe = async {
                tokio::time::sleep(moment).await;
                let killed = stage.house.kill().await;
                ended.set(true);
                killed
            };
            tokio::try_join!(axe, load.internal(&ended), load.external(&ended))
                .map_err(|error| format!("kill {kill}, after {moment:?}: {error}"))?;
            if let Some(order) = withheld {
                let faults = stage.house.control.faults().await?.faults;
                unheard += faults.iter().find(|fault| fault.id == order).map_or(0, |fault| fault.fired);
                stage.house.control.withdraw(order).await?;
            }
            stage.house.start().await.map_err(|error| format!("kill {kill}, after {moment:?}: {error}"))?;
            load.settle().await?;
        }
        stage.acted(load.acts());
        ensure(unheard > 0, || "all creates were answered: nothing was shown of them".to_owned())?;
        // With a few kills only, nobody may happen to be deleted on one of the sides.
        let whats: &[&str] = if torture() { &["made", "edited", "deleted"] } else { &["made", "edited"] };
        let done = load.done();
        for (side, what) in
            ["System A", "account"].iter().flat_map(|side| whats.iter().map(move |what| (*side, *what)))
        {
            ensure(done.contains(&(side, what)), || format!("nobody was {what} in {side}: {done:?}"))?;
        }
        stage.say(format!("{kills} kills, {unheard} creates without an answer"));
        stage.quiet().await?;
        let lost = stage.counted().await?.pushes.lost;
        if let (Some(why), 1..) = (R::UNLISTED_DELETIONS, lost) {
            println!("{}: {why}, and {lost} pushes were lost: everybody is looked at", R::CRM);
            let look = json!({ "connection": SCOPE, "object": "contact", "records": "all" });
            stage.house.post("/v1/look", &look).await?;
        }
        // What no push told of, the next poll does.
        let both = until("both sides have the same people", long(), async || {
            let here = stage.house.system_a(SCOPE).list().await?;
            let here: BTreeSet<String> =
                here.iter().map(|record| key_of_document(&record.document)).collect();
            let there: BTreeSet<String> = stage.everybody_there().await?.into_keys().collect();
            let apart: Vec<&String> = here.symmetric_difference(&there).take(5).collect();
            Ok(if apart.is_empty() { Ok(here.len()) } else { Err(format!("on one side only: {apart:?}")) })
        })
        .await?;
        Ok(both as u64)
    })
    .await
}

/// A customer among many.
struct Customer<R> {
    scope: String,
    row: R,
    crm: Crm,
}

/// So many customers of one CRM, whose creates are killed at once.
struct Crowd<R> {
    house: House,
    customers: Vec<Customer<R>>,
    ledger: Ledger,
}

impl<R: Row> Crowd<R> {
    async fn founded() -> Result<Self, Error> {
        let mut plan = Plan::roomy(&[]);
        R::prepare(&mut plan);
        let house = House::build(plan).await?;
        let ledger = Ledger::create(&house.folder.join("ledger.ndjson"))?;
        Ok(Self { house, customers: Vec::new(), ledger })
    }

    async fn connect(&mut self, many: usize) -> Result<(), Error> {
        R::bring(&self.house).await?;
        for number in 0..many {
            let scope = format!("c{number}");
            let wanted = Wanted::new(&scope);
            let row = R::open(&self.house, &wanted).await?;
            row.connect(&self.house, &wanted).await?;
            row.runs(&self.house).await?;
            let crm = row.crm(&self.house).await?;
            self.customers.push(Customer { scope, row, crm });
        }
        self.house.quiet(long()).await
    }

    /// Makes so many people in System A for every customer.
    async fn make(&self, from: u64, each: u64) -> Result<(), Error> {
        for Customer { scope, .. } in &self.customers {
            let people: Vec<Value> = (from..from + each).map(|number| newcomer(scope, number)).collect();
            let lines: Vec<Value> =
                people.iter().map(|document| json!({ "op": "create", "document": document })).collect();
            let answers = self.house.system_a(scope).batch(&lines).await?;
            ensure(answers.len() == people.len(), || format!("{} were answered", answers.len()))?;
            for (document, answer) in people.iter().zip(&answers) {
                ensure(answer["status"] == json!(201), || format!("refused: {answer}"))?;
                let wrote = document.as_object().cloned().unwrap_or_default();
                self.ledger.note(scope, &key_of_document(document), Side::SystemA, Act::Wrote(wrote))?;
            }
        }
        Ok(())
    }

    /// Every create of every customer took effect.
    async fn made(&self, each: u64) -> Result<(), Error> {
        until("the creates took effect", long(), async || {
            for Customer { scope, row, .. } in &self.customers {
                let live = row.counted(&self.house).await?.live as u64;
                if live < each {
                    return Ok(Err(format!("{scope} has {live} of {each}")));
                }
            }
            Ok(Ok(()))
        })
        .await
    }

    async fn withhold(&self) -> Result<Vec<u64>, Error> {
        let mut orders = Vec::new();
        for Customer { row, .. } in &self.customers {
            let order = FaultOrder::new(UNHEARD).operation(R::CREATE).portal(row.number());
            orders.push(self.house.control.order(&order).await?);
        }
        Ok(orders)
    }

    /// None of the creates of any customer was answered.
    async fn all_are_unheard(&self, orders: &[u64], each: u64) -> Result<(), Error> {
        let faults = self.house.control.faults().await?.faults;
        let fired: Vec<u64> =
            faults.iter().filter(|fault| orders.contains(&fault.id)).map(|fault| fault.fired).collect();
        ensure(fired.len() == orders.len() && fired.iter().all(|fired| *fired >= each), || {
            format!("{fired:?} creates were not answered, and not {each} each")
        })
    }

    /// The judge, and what each account says of who made what.
    async fn ends(&self, each: u64) -> Result<(), Error> {
        let mut evidence = self.house.evidence().await?;
        for Customer { scope, row, crm } in &self.customers {
            let here = self.house.system_a(scope).list().await?;
            let contacts = crm.list().await?;
            let counts =
                (here.len() as u64, contacts.len() as u64, row.counted(&self.house).await?.live as u64);
            ensure(counts == (each, each, each), || format!("{scope}: {counts:?}, and not {each} each"))?;
            evidence.system_a.insert(scope.clone(), here);
            let seen = Seen { scope: scope.clone(), dialect: R::DIALECT, contacts, ..Seen::default() };
            evidence.accounts.insert(scope.clone(), seen);
            let writes = crm.writes().await?;
            let creates = writes
                .iter()
                .filter(|write| write.by == Writer::Api && write.kind == WriteKind::Create && write.taken);
            let creates = creates.count() as u64;
            ensure(creates == each, || format!("{scope}: {creates} were made, and not {each}"))?;
        }
        evidence.ledger = Ledger::read(&self.house.folder.join("ledger.ndjson"))?;
        let report = judge(&evidence);
        println!("{}: the judge: {report}", R::CRM);
        let all = each * self.customers.len() as u64;
        ensure(report.failures.is_empty() && report.equal == all, || {
            format!(
                "not all {all} are equal: {report}: {:?}",
                report.failures.iter().take(5).collect::<Vec<_>>()
            )
        })?;
        let violations = self.house.control.violations().await?;
        ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed.first()))
    }
}

/// In every other round the daemon is killed when all creates took effect and none was answered.
pub(crate) async fn creates_that_are_killed_before_they_are_noted_leave_no_duplicate<R: Row>()
-> Result<(), Error> {
    // Each customer has as many creates under way as it may have calls.
    let (many, rounds) =
        if torture() { (20, 10_000_u64.div_ceil(20 * R::AT_ONCE).next_multiple_of(2)) } else { (3, 4) };
    let mut crowd = Crowd::<R>::founded().await?;
    let played = Box::pin(kill_creates(&mut crowd, many, rounds)).await;
    played.map_err(|error| {
        let kept = crowd.house.keep();
        format!("{}: {error}; everything is kept in {}", R::CRM, kept.display()).into()
    })
}

async fn kill_creates<R: Row>(crowd: &mut Crowd<R>, many: usize, rounds: u64) -> Result<(), Error> {
    crowd.connect(many).await?;
    let mut killed = 0;
    for round in 0..rounds {
        let kill = round % 2 == 1;
        let orders = if kill { crowd.withhold().await? } else { Vec::new() };
        crowd.make(round * R::AT_ONCE, R::AT_ONCE).await?;
        crowd.made((round + 1) * R::AT_ONCE).await.map_err(|error| format!("round {round}: {error}"))?;
        if kill {
            crowd.all_are_unheard(&orders, R::AT_ONCE).await?;
            crowd.house.kill().await?;
            killed += R::AT_ONCE * crowd.customers.len() as u64;
            crowd.house.control.clear_faults().await?;
            crowd.house.start().await?;
        }
        crowd.house.quiet(long()).await.map_err(|error| format!("round {round}: {error}"))?;
    }
    let all = rounds * R::AT_ONCE * crowd.customers.len() as u64;
    println!("{}: {all} creates, {killed} of them killed between sending and what is noted", R::CRM);
    crowd.ends(rounds * R::AT_ONCE).await
}
