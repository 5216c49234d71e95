//! SIGKILL at any moment: nothing that was acknowledged is lost, and nothing is there twice.
//!
//! `TANDEM_TORTURE=1` runs the full counts. Each test prints how many it ran, and its seed with a failure.
#![expect(clippy::print_stdout, reason = "a test says how many kills it ran")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::judge::{Report, judge};
use tandem_e2e::ledger::{Act, Ledger, Side, key_of, key_of_document};
use tandem_e2e::load::{Known, Load};
use tandem_e2e::people::{Dice, person};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder};

const SOON: Duration = Duration::from_secs(120);

fn torture() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some_and(|value| value == "1")
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// Runs a test in a house; where it fails, the house's folder is kept and named.
async fn in_house(plan: Plan, test: impl AsyncFnOnce(&mut House) -> Result<(), Error>) -> Result<(), Error> {
    let mut house = House::build(plan).await?;
    match Box::pin(test(&mut house)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error}; everything is kept in {}", house.keep().display()).into()),
    }
}

fn ledger_of(house: &House) -> Result<Ledger, Error> {
    Ledger::create(&house.folder.join("ledger.ndjson"))
}

fn members(document: &Value) -> Map<String, Value> {
    document.as_object().cloned().unwrap_or_default()
}

async fn judged(house: &House) -> Result<Report, Error> {
    house.quiet(SOON).await?;
    let mut evidence = house.evidence().await?;
    evidence.ledger = Ledger::read(&house.folder.join("ledger.ndjson"))?;
    let report = judge(&evidence);
    println!("the judge: {report}");
    let shown = report.failures.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    ensure(report.failures.is_empty(), || format!("{} failures: {shown}", report.failures.len()))?;
    let violations = house.control.violations().await?;
    ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed.first()))?;
    Ok(report)
}

/// From now on creates take effect and their webhooks arrive, and their answers do not.
async fn withhold_creates(house: &House) -> Result<(), Error> {
    for operation in ["contacts.create", "contacts.batch-create", "contacts.batch-upsert"] {
        let order = FaultOrder::new(FaultKind::WithholdAfter { ms: 60_000 }).operation(operation);
        house.control.order(&order).await?;
    }
    Ok(())
}

/// Loads people into System A and waits until they are on both sides.
async fn fill(house: &House, ledger: &Ledger, scope: &str, count: u64) -> Result<Vec<Known>, Error> {
    let people: Vec<Value> = (0..count).map(|number| person(scope, number)).collect();
    let lines: Vec<Value> =
        people.iter().map(|document| json!({"op": "create", "document": document})).collect();
    let answers = house.system_a(scope).batch(&lines).await?;
    for document in &people {
        ledger.note(scope, &key_of_document(document), Side::SystemA, Act::Wrote(members(document)))?;
    }
    house.quiet(SOON).await?;
    ledger.note_quiet()?;
    let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
    let ids: BTreeMap<String, String> = dump
        .records
        .iter()
        .map(|record| {
            let get = |name: &str| record.properties.get(name).map(String::as_str);
            (key_of(get("email"), get("firstname"), get("lastname")), record.id.to_string())
        })
        .collect();
    people
        .iter()
        .zip(&answers)
        .map(|(document, answer)| {
            let person = key_of_document(document);
            let internal = answer
                .get("id")
                .and_then(Value::as_str)
                .ok_or_else(|| format!("refused: {answer}"))?
                .to_owned();
            let external = ids.get(&person).cloned().ok_or_else(|| format!("{person} did not arrive"))?;
            Ok(Known { person, internal, external })
        })
        .collect()
}

/// How the daemon ends under load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// SIGKILL.
    Killed,
    /// SIGTERM: it finishes what it began, and its exit code is 0.
    Drained,
}

/// Ends the daemon so often in the middle of the load of two customers; then the judge is called.
async fn ended_under_load(house: &mut House, end: End, rounds: u64) -> Result<(), Error> {
    const SCOPES: [&str; 2] = ["acme", "globex"];
    const EDITED: usize = 100;
    let ledger = ledger_of(house)?;
    let mut known = Vec::new();
    for scope in SCOPES {
        known.push(fill(house, &ledger, scope, EDITED as u64 + 2 * rounds).await?);
    }
    let mut loads = Vec::new();
    for (scope, known) in SCOPES.into_iter().zip(&known) {
        let sides = (house.system_a(scope), house.crm(scope)?);
        loads.push(Load::new(scope, sides, &ledger, (known, EDITED), person)?);
    }
    let [acme, globex] = loads.as_slice() else { return Err("two customers".into()) };
    let mut dice = Dice(20_240_229);
    let mut slowest = Duration::ZERO;
    for round in 1..=rounds {
        let ended = Cell::new(false);
        // In some rounds creates take effect and are not answered before the end comes.
        let withheld = end == End::Killed && round % 4 == 0;
        if withheld {
            withhold_creates(house).await?;
        }
        let moment = Duration::from_millis(dice.below(700));
        let axe = async {
            tokio::time::sleep(moment).await;
            let done = match end {
                End::Killed => house.kill().await,
                End::Drained => house.stop().await.and_then(|code| {
                    ensure(code == Some(0), || format!("the exit code after SIGTERM is {code:?}"))
                }),
            };
            ended.set(true);
            done
        };
        tokio::try_join!(
            axe,
            acme.internal(&ended),
            acme.external(&ended),
            globex.internal(&ended),
            globex.external(&ended),
        )
        .map_err(|error| format!("round {round}, after {moment:?}: {error}"))?;
        if withheld {
            house.control.clear_faults().await?;
        }
        let began = Instant::now();
        house.start().await.map_err(|error| format!("round {round}, after {moment:?}: {error}"))?;
        slowest = slowest.max(began.elapsed());
        for load in [acme, globex] {
            load.settle().await?;
        }
    }
    println!(
        "{rounds} ends under load ({} acknowledged acts); ready again after {slowest:?} at most",
        acme.acts() + globex.acts()
    );
    let report = judged(house).await?;
    // Each field is edited on one side only: whatever is held for review was taken for a conflict that nobody made.
    ensure(report.under_review == 0, || format!("false conflicts: {report}"))?;
    ensure(report.set_aside == 0, || format!("nothing was refused: {report}"))?;
    ensure(report.removed > 0, || format!("nothing was deleted: {report}"))
}

/// More is deleted here than the guard would let go: it is not what these tests are about.
fn unguarded() -> Plan {
    Plan {
        connection: "[objects.contact]\nguard_share = 100\n".to_owned(),
        ..Plan::roomy(&["acme", "globex"])
    }
}

#[tokio::test]
async fn sigkill_at_any_moment_loses_and_doubles_nothing() -> Result<(), Error> {
    let kills = if torture() { 200 } else { 20 };
    in_house(unguarded(), async |house| ended_under_load(house, End::Killed, kills).await).await
}

#[tokio::test]
async fn sigterm_under_load_ends_with_0_and_loses_nothing() -> Result<(), Error> {
    let rounds = if torture() { 40 } else { 6 };
    in_house(unguarded(), async |house| ended_under_load(house, End::Drained, rounds).await).await
}

/// By what a connection recognises the record of a create whose answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recognised {
    /// By a unique property of Tandem's own: all records.
    ByKey,
    /// By the address, as HubSpot does when nobody made that property: a record without an address has no guarantee.
    ByAddress,
}

#[tokio::test]
async fn creates_killed_between_sending_and_commit_leave_no_duplicate() -> Result<(), Error> {
    kill_creates(Recognised::ByKey, if torture() { 98 } else { 10 }).await
}

#[tokio::test]
async fn creates_killed_between_sending_and_commit_are_recognised_by_their_address() -> Result<(), Error> {
    kill_creates(Recognised::ByAddress, if torture() { 98 } else { 6 }).await
}

/// Kills the daemon in every other round, when its creates took effect and were not answered.
async fn kill_creates(recognised: Recognised, rounds: u64) -> Result<(), Error> {
    /// As many as a connection sends at once.
    const EACH: u64 = 8;
    const SCOPES: [&str; 13] = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "b1", "b2", "b3", "b4"];
    let each_round = EACH * SCOPES.len() as u64;
    let mut plan = Plan::roomy(&SCOPES);
    if recognised == Recognised::ByAddress {
        plan.connection = "[settings]\nsettle_ms = 500\npoll_every_ms = 5000\n".to_owned();
    }
    in_house(plan, async |house| {
        let ledger = ledger_of(house)?;
        let mut killed = 0_u64;
        for round in 0..rounds {
            let kill = round % 2 == 1;
            if kill {
                withhold_creates(house).await?;
            }
            for scope in SCOPES {
                let people: Vec<Value> = (0..EACH)
                    .map(|number| {
                        let mut document = person(scope, round * EACH + number);
                        if let Some(members) = document.as_object_mut() {
                            match recognised {
                                Recognised::ByKey if number % 2 == 0 => _ = members.remove("email"),
                                Recognised::ByKey => {}
                                Recognised::ByAddress => {
                                    let address = format!("{scope}.{round}.{number}@example.com");
                                    members.insert("email".to_owned(), address.into());
                                }
                            }
                        }
                        document
                    })
                    .collect();
                let lines: Vec<Value> =
                    people.iter().map(|document| json!({"op": "create", "document": document})).collect();
                let answers = house.system_a(scope).batch(&lines).await?;
                for (document, answer) in people.iter().zip(&answers) {
                    ensure(answer.get("status") == Some(&json!(201)), || format!("refused: {answer}"))?;
                    ledger.note(
                        scope,
                        &key_of_document(document),
                        Side::SystemA,
                        Act::Wrote(members(document)),
                    )?;
                }
            }
            let wanted = (round + 1) * each_round;
            until("the creates took effect", SOON, async || {
                let live = house.control.counts().await?.live as u64;
                Ok(if live >= wanted { Ok(()) } else { Err(format!("round {round}: {live} of {wanted}")) })
            })
            .await?;
            if kill {
                house.kill().await?;
                killed += each_round;
                house.control.clear_faults().await?;
                house.start().await?;
            }
            house.quiet(SOON).await.map_err(|error| format!("round {round}: {error}"))?;
        }
        println!("{} creates, {killed} of them killed between sending and commit", rounds * each_round);
        let report = judged(house).await?;
        ensure(report.equal == rounds * each_round, || format!("not all are equal: {report}"))
    })
    .await
}
