//! One scope with an account of every CRM of the table: people edit the same few records in System A and in all accounts at once, and
//! then everybody goes home. It is quiet within seconds, all four have the same, and nobody writes afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem_e2e::crm::Crm;
use tandem_e2e::feed::Feed;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::judge::{Evidence, Seen, judge};
use tandem_e2e::ledger::{Act, Ledger, Side, key_of, key_of_document};
use tandem_e2e::people::Dice;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::Writer;

use crate::rows::{Counted, HubSpot, Pipedrive, Row, Salesforce, Wanted};
use crate::stage::{SCOPE, ensure, long, numbered, torture};

const RECORDS: usize = 6;

/// Seconds from the last edit until nothing is left to do, at most.
const QUIET_WITHIN: Duration = Duration::from_secs(30);

/// Fields that all edit.
const EDITED: [&str; 4] = ["phone", "job_title", "city", "notes"];

/// An account of the scope.
struct Account<R> {
    row: R,
    connection: &'static str,
    crm: Crm,
    /// The records' ids by whom they are.
    ids: BTreeMap<String, String>,
    before: Counted,
}

impl<R: Row> Account<R> {
    async fn connected(house: &House, connection: &'static str) -> Result<Self, Error> {
        // Who edits the same field at four sides goes back and forth more often than the loop breaker allows: nothing but the planner
        // is to make an end.
        let policy = "on_conflict = \"internal\"\nloop_limit = 1000";
        let wanted = Wanted::new(SCOPE).named(connection).polled(1_000).policy(policy);
        let row = R::open(house, &wanted).await?;
        row.connect(house, &wanted).await?;
        row.runs(house).await?;
        let crm = row.crm(house).await?;
        Ok(Self { row, connection, crm, ids: BTreeMap::new(), before: Counted::default() })
    }

    /// Waits until the records are there.
    async fn has_everybody(&mut self, house: &House) -> Result<(), Error> {
        self.ids = until(&format!("everybody is in {}", R::CRM), long(), async || {
            let mut ids = BTreeMap::new();
            for contact in self.crm.dump().await? {
                let seen = self.crm.canonical(&contact);
                ids.insert(key_of(seen.get("email").map(String::as_str), None, None), contact.id);
            }
            Ok(if ids.len() == RECORDS { Ok(ids) } else { Err(format!("{} of {RECORDS}", ids.len())) })
        })
        .await?;
        self.before = self.row.counted(house).await?;
        Ok(())
    }

    async fn people_edit(&self, ledger: &Ledger, until: Instant, seed: u64) -> Result<usize, Error> {
        let mut dice = Dice(seed);
        let mut saves = 0;
        while Instant::now() < until {
            let person = somebody(&mut dice);
            let saved = typed(&mut dice);
            let id = self.ids.get(&person).ok_or("nobody to edit")?;
            let named: Vec<(&str, &str)> =
                saved.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.crm.edit(id, &named).await?;
            ledger.note_at(SCOPE, &person, self.connection, wrote(&saved))?;
            saves += 1;
            breathe(&mut dice).await;
        }
        Ok(saves)
    }

    /// Writes of the daemon.
    async fn written(&self) -> Result<usize, Error> {
        Ok(self.crm.writes().await?.iter().filter(|write| write.by == Writer::Api).count())
    }

    /// Every record is looked at again, and what changed is asked for twice more.
    async fn looked_through(&self, house: &House) -> Result<(), Error> {
        let polls = self.crm.polls().await?;
        let looks = json!({ "connection": self.connection, "object": "contact", "records": "all" });
        let looks = house.post("/v1/look", &looks).await?;
        ensure(looks["count"] == json!(RECORDS), || format!("{looks} looks at {}", R::CRM))?;
        until("what changed is asked for twice more", long(), async || {
            let now = self.crm.polls().await?;
            Ok(if now >= polls + 2 { Ok(()) } else { Err(format!("{} polls", now - polls)) })
        })
        .await
    }

    async fn is_seen(&self, house: &House, evidence: &mut Evidence) -> Result<(), Error> {
        let contacts = self.row.crm(house).await?.list().await?;
        let seen = Seen { scope: SCOPE.to_owned(), dialect: R::DIALECT, contacts, ..Seen::default() };
        evidence.accounts.insert(self.connection.to_owned(), seen);
        Ok(())
    }

    async fn says(&self, house: &House, saves: usize) -> Result<String, Error> {
        let counted = self.row.counted(house).await?;
        let calls = counted.calls() - self.before.calls();
        let tokens = counted.tokens.map_or_else(String::new, |tokens| {
            format!(" ({} tokens)", tokens - self.before.tokens.unwrap_or_default())
        });
        Ok(format!(
            "{}: {saves} saves, {calls} calls{tokens}, {} writes, refused for a limit {}",
            R::CRM,
            self.written().await?,
            counted.throttled()
        ))
    }
}

fn somebody(dice: &mut Dice) -> String {
    let number = usize::try_from(dice.below(RECORDS as u64)).unwrap_or(0);
    key_of_document(&numbered(number))
}

/// One to three fields as somebody saves them.
fn typed(dice: &mut Dice) -> BTreeMap<&'static str, String> {
    (0..=dice.below(2))
        .filter_map(|_| {
            let member = *dice.pick(&EDITED)?;
            let number = dice.below(1_000_000);
            let value =
                if member == "phone" { format!("+49 30 {number:06}") } else { format!("{member} {number}") };
            Some((member, value))
        })
        .collect()
}

fn wrote(saved: &BTreeMap<&'static str, String>) -> Act {
    Act::Wrote(saved.iter().map(|(member, value)| ((*member).to_owned(), json!(value))).collect())
}

/// Nobody saves faster than this.
async fn breathe(dice: &mut Dice) {
    tokio::time::sleep(Duration::from_millis(20 + dice.below(80))).await;
}

async fn people_edit_here(
    house: &House,
    internal: &BTreeMap<String, String>,
    ledger: &Ledger,
    until: Instant,
) -> Result<usize, Error> {
    let mut dice = Dice(4);
    let mut saves = 0;
    while Instant::now() < until {
        let person = somebody(&mut dice);
        let saved = typed(&mut dice);
        let members: Map<String, Value> =
            saved.iter().map(|(member, value)| ((*member).to_owned(), json!(value))).collect();
        let id = internal.get(&person).ok_or("nobody to edit")?;
        let answer = house.system_a(SCOPE).patch(id, &Value::Object(members)).await?;
        ensure(answer.status.is_success(), || format!("{} {}", answer.status, answer.body))?;
        ledger.note(SCOPE, &person, Side::SystemA, wrote(&saved))?;
        saves += 1;
        breathe(&mut dice).await;
    }
    Ok(saves)
}

async fn play(house: &House) -> Result<(), Error> {
    HubSpot::bring(house).await?;
    Salesforce::bring(house).await?;
    Pipedrive::bring(house).await?;
    let mut hubspot = Account::<HubSpot>::connected(house, "acme-hubspot").await?;
    let mut salesforce = Account::<Salesforce>::connected(house, "acme-salesforce").await?;
    let mut pipedrive = Account::<Pipedrive>::connected(house, "acme-pipedrive").await?;
    let ledger_file = house.folder.join("ledger.ndjson");
    let ledger = Ledger::create(&ledger_file)?;

    let mut internal = BTreeMap::new();
    for number in 0..RECORDS {
        let document = numbered(number);
        let person = key_of_document(&document);
        let made = house.system_a(SCOPE).create(&document).await?;
        let members = document.as_object().cloned().unwrap_or_default();
        ledger.note(SCOPE, &person, Side::SystemA, Act::Wrote(members))?;
        internal.insert(person, made.id.ok_or("not taken")?);
    }
    house.quiet(long()).await?;
    hubspot.has_everybody(house).await?;
    salesforce.has_everybody(house).await?;
    pipedrive.has_everybody(house).await?;
    ledger.note_quiet()?;

    // Everybody edits for a while, and goes home.
    let end = Instant::now() + Duration::from_secs(if torture() { 60 } else { 5 });
    let saves = tokio::try_join!(
        people_edit_here(house, &internal, &ledger, end),
        hubspot.people_edit(&ledger, end, 1),
        salesforce.people_edit(&ledger, end, 2),
        pipedrive.people_edit(&ledger, end, 3),
    )?;
    let last = Instant::now();
    house.quiet(QUIET_WITHIN).await?;
    println!("four sides: {} saves in System A; quiet after {} ms", saves.0, last.elapsed().as_millis());
    println!("four sides: {}", hubspot.says(house, saves.1).await?);
    println!("four sides: {}", salesforce.says(house, saves.2).await?);
    println!("four sides: {}", pipedrive.says(house, saves.3).await?);
    let fewest = [saves.0, saves.1, saves.2, saves.3].into_iter().min().unwrap_or(0);
    ensure(fewest > 10, || "hardly anybody edited".to_owned())?;

    // Nobody writes any more: not by itself, not when all are asked what changed, and not when every record is looked at again.
    let written = async || -> Result<[usize; 3], Error> {
        Ok([hubspot.written().await?, salesforce.written().await?, pipedrive.written().await?])
    };
    let feed = Feed::follow(house, SCOPE).await?;
    let before = written().await?;
    hubspot.looked_through(house).await?;
    salesforce.looked_through(house).await?;
    pipedrive.looked_through(house).await?;
    house.quiet(long()).await?;
    let after = written().await?;
    ensure(after == before, || format!("written after quiet: {before:?}, then {after:?}"))?;
    let records = house.system_a(SCOPE).list().await?;
    let last = records.iter().map(|record| record.version).max().unwrap_or(0);
    ensure(last <= feed.from, || format!("written after quiet: {:?}", feed.changes()))?;
    let review = house.get("/v1/review?limit=100").await?;
    ensure(review == json!([]), || format!("under review: {review}"))?;
    let violations = house.control.violations().await?;
    ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed))?;

    let mut evidence = house.evidence().await?;
    evidence.system_a.insert(SCOPE.to_owned(), records);
    hubspot.is_seen(house, &mut evidence).await?;
    salesforce.is_seen(house, &mut evidence).await?;
    pipedrive.is_seen(house, &mut evidence).await?;
    evidence.ledger = Ledger::read(&ledger_file)?;
    let report = judge(&evidence);
    println!("four sides: the judge: {report}");
    ensure(report.failures.is_empty(), || report.failures.join("; "))?;
    ensure(report.equal + report.superseded == RECORDS as u64, || report.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_at_four_sides_end_quiet_and_equal() -> Result<(), Error> {
    let mut plan = Plan::roomy(&[]);
    HubSpot::prepare(&mut plan);
    Salesforce::prepare(&mut plan);
    Pipedrive::prepare(&mut plan);
    let mut house = House::build(plan).await?;
    match Box::pin(play(&house)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error}; everything is kept in {}", house.keep().display()).into()),
    }
}
