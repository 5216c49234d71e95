//! One scope with two accounts of different habits, HubSpot and a REST account: people edit the same few records in System A and in
//! both accounts at once, and then everybody goes home. It is quiet within seconds, nobody writes afterwards, and all three have the
//! same, but for what an account is known to make of a text.
//!
//! `TANDEM_TORTURE=1` lets people edit for a minute; each test prints what it counted.
#![expect(clippy::print_stdout, reason = "a test says how much was edited and how soon it was quiet")]
#![allow(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tandem_e2e::crm::Crm;
use tandem_e2e::feed::Feed;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::judge::{Seen, judge};
use tandem_e2e::ledger::{Act, Ledger, Side};
use tandem_e2e::people::Dice;
use tandem_e2e::rest::starter;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NewRestAccount, Rewrite, Writer};

const SCOPE: &str = "acme";
const REST: &str = "acme-rest";
const SOON: Duration = Duration::from_secs(120);

/// Seconds from the last edit until nothing is left to do, at most.
const QUIET_WITHIN: Duration = Duration::from_secs(15);

const RECORDS: usize = 6;

/// What the accounts make of texts, by canonical member: both rewrite titles, each in its own way; the others are touched by one only.
const AT_HUBSPOT: [(&str, Rewrite); 2] = [("job_title", Rewrite::Upper), ("city", Rewrite::Title)];
const AT_REST: [(&str, Rewrite); 3] =
    [("job_title", Rewrite::Title), ("company_name", Rewrite::Squeeze), ("phone", Rewrite::PhonePlus)];

fn editing() -> Duration {
    let torture = std::env::var_os("TANDEM_TORTURE").is_some_and(|value| value == "1");
    Duration::from_secs(if torture { 60 } else { 5 })
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// A record that all three have.
#[derive(Clone)]
struct Shared {
    person: String,
    internal: String,
    hubspot: String,
    rest: String,
}

/// Who edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    SystemA,
    HubSpot,
    Rest,
}

struct Stage {
    house: House,
    hubspot: Crm,
    rest: Crm,
    ledger: Ledger,
    shared: Vec<Shared>,
}

/// A value for a field that all edit. Blanks and letters are as people type them.
fn typed(dice: &mut Dice) -> (&'static str, String) {
    let number = dice.below(1_000_000);
    match dice.below(5) {
        0 => ("phone", format!("+49 (30) {number:06}")),
        1 => ("job_title", format!("head OF desk {number}")),
        2 => ("company_name", format!("Acme  and   sons {number}")),
        3 => ("city", format!("bad  TÖLZ {number}")),
        _ => ("notes", format!("Said on call {number}")),
    }
}

impl Stage {
    /// `policy`: further lines of the object in both connections' files.
    async fn new(policy: &str) -> Result<Self, Error> {
        let object = format!("[objects.contact]\n{policy}\n");
        let mut house = House::build(Plan {
            connection: format!(
                "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 1000\n{object}"
            ),
            ..Plan::roomy(&[SCOPE])
        })
        .await?;
        house.walked(SOON).await?;
        let portal = house.customer(SCOPE)?.info.portal_id;
        house.control.set_settings(portal, json!({ "journal": true })).await?;
        let hubspot = house.crm(SCOPE)?;
        for (member, rewrite) in AT_HUBSPOT {
            let property = hubspot.name_of(member)?.to_owned();
            let habit = FaultKind::Automation { property, rewrite, in_response: true };
            house.control.order(&FaultOrder::new(habit).portal(portal)).await?;
        }
        house.drop_in("starter.wasm", &starter()?)?;
        let rewrites = AT_REST.map(|(member, rewrite)| {
            (tandem_e2e::crm::Dialect::Rest.name_of(member).unwrap_or_default().to_owned(), rewrite)
        });
        let new = NewRestAccount { rewrites: rewrites.into(), journal: true, ..NewRestAccount::default() };
        let account = house.rest_account(REST, SCOPE, new, &format!("poll_every = \"1s\"\n{object}")).await?;
        let rest = house.rest_crm(&account);
        until("the REST account is asked for what changed", SOON, async || {
            let polls = rest.polls().await?;
            Ok(if polls > 0 { Ok(()) } else { Err("never".to_owned()) })
        })
        .await?;
        let ledger = Ledger::create(&house.folder.join("ledger.ndjson"))?;
        let shared = match share(&house, &hubspot, &rest, &ledger).await {
            Ok(shared) => shared,
            Err(error) => {
                return Err(format!("{error}; everything is kept in {}", house.keep().display()).into());
            }
        };
        Ok(Self { house, hubspot, rest, ledger, shared })
    }

    /// People at one of the three edit until the time is over; gives how many saves were acknowledged.
    async fn people_at(&self, at: At, until: Instant) -> Result<usize, Error> {
        let mut dice = Dice(at as u64);
        let mut saves = 0;
        while Instant::now() < until {
            let shared = dice.pick(&self.shared).ok_or("nobody to edit")?.clone();
            let saved: BTreeMap<&'static str, String> =
                (0..=dice.below(2)).map(|_| typed(&mut dice)).collect();
            let members: Map<String, Value> =
                saved.iter().map(|(member, value)| ((*member).to_owned(), json!(value))).collect();
            let named: Vec<(&str, &str)> =
                saved.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let act = Act::Wrote(members.clone());
            match at {
                At::SystemA => {
                    let answer =
                        self.house.system_a(SCOPE).patch(&shared.internal, &Value::Object(members)).await?;
                    ensure(answer.status.is_success(), || format!("{} {}", answer.status, answer.body))?;
                    self.ledger.note(SCOPE, &shared.person, Side::SystemA, act)?;
                }
                At::HubSpot => {
                    self.hubspot.edit(&shared.hubspot, &named).await?;
                    self.ledger.note_at(SCOPE, &shared.person, SCOPE, act)?;
                }
                At::Rest => {
                    self.rest.edit(&shared.rest, &named).await?;
                    self.ledger.note_at(SCOPE, &shared.person, REST, act)?;
                }
            }
            saves += 1;
            tokio::time::sleep(Duration::from_millis(20 + dice.below(80))).await;
        }
        Ok(saves)
    }

    /// Everybody edits for a while, and goes home. Gives how long it took until it was quiet.
    async fn edit(&self) -> Result<Duration, Error> {
        let end = Instant::now() + editing();
        let (here, there, elsewhere) = tokio::join!(
            self.people_at(At::SystemA, end),
            self.people_at(At::HubSpot, end),
            self.people_at(At::Rest, end)
        );
        let (here, there, elsewhere) = (here?, there?, elsewhere?);
        let last = Instant::now();
        self.house.quiet(QUIET_WITHIN).await?;
        let quiet = last.elapsed();
        println!(
            "saves: {here} in System A, {there} in HubSpot, {elsewhere} in the REST account; quiet after {} ms",
            quiet.as_millis()
        );
        ensure(here.min(there).min(elsewhere) > 10, || "hardly anybody edited".to_owned())?;
        Ok(quiet)
    }

    /// Writes that the daemon made at both accounts.
    async fn written(&self) -> Result<usize, Error> {
        let mut sum = 0;
        for crm in [&self.hubspot, &self.rest] {
            sum += crm.writes().await?.iter().filter(|write| write.by == Writer::Api).count();
        }
        Ok(sum)
    }

    /// Nobody writes any more: not by itself, not when both are asked what changed, and not when every record is looked at again.
    async fn stays_quiet(&self) -> Result<(), Error> {
        let feed = Feed::follow(&self.house, SCOPE).await?;
        let before = self.written().await?;
        for (connection, crm) in [(SCOPE, &self.hubspot), (REST, &self.rest)] {
            let polls = crm.polls().await?;
            let looks = json!({ "connection": connection, "object": "contact", "records": "all" });
            let looks = self.house.post("/v1/look", &looks).await?;
            ensure(looks["count"] == json!(self.shared.len()), || format!("{looks} looks at {connection}"))?;
            until("what changed is asked for twice more", SOON, async || {
                let now = crm.polls().await?;
                Ok(if now >= polls + 2 { Ok(()) } else { Err(format!("{} polls", now - polls)) })
            })
            .await?;
        }
        self.house.quiet(SOON).await?;
        let after = self.written().await?;
        ensure(after == before, || format!("{} writes after quiet", after - before))?;
        let records = self.house.system_a(SCOPE).list().await?;
        let last = records.iter().map(|record| record.version).max().unwrap_or(0);
        ensure(last <= feed.from, || format!("written after quiet: {:?}", feed.changes()))?;
        let violations = self.house.control.violations().await?;
        ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed))
    }

    /// The outside judge: all three have what was last said, or what an account is known to make of it.
    async fn judged(&self, adopted: bool) -> Result<(), Error> {
        let mut evidence = self.house.evidence().await?;
        let known = |habits: &[(&str, Rewrite)]| {
            habits.iter().map(|(member, rewrite)| ((*member).to_owned(), rewrite.clone())).collect()
        };
        for (connection, crm, habits) in
            [(SCOPE, &self.hubspot, AT_HUBSPOT.as_slice()), (REST, &self.rest, AT_REST.as_slice())]
        {
            let seen = Seen {
                scope: SCOPE.to_owned(),
                dialect: crm.dialect(),
                rewrites: known(habits),
                adopted,
                customs: Vec::new(),
                contacts: crm.list().await?,
            };
            evidence.accounts.insert(connection.to_owned(), seen);
        }
        evidence.ledger = Ledger::read(&self.house.folder.join("ledger.ndjson"))?;
        let report = judge(&evidence);
        println!("the judge: {report}");
        ensure(report.failures.is_empty(), || report.failures.join("; "))
    }

    /// Rows of the review of a kind.
    async fn review(&self, kind: &str) -> Result<Vec<Value>, Error> {
        let list = self.house.get("/v1/review?limit=10000").await?;
        Ok(list.as_array().into_iter().flatten().filter(|row| row["kind"] == json!(kind)).cloned().collect())
    }
}

/// Records that all three have.
async fn share(house: &House, hubspot: &Crm, rest: &Crm, ledger: &Ledger) -> Result<Vec<Shared>, Error> {
    let mut internal = Vec::new();
    for number in 0..RECORDS {
        let person = format!("someone{number}@{SCOPE}.example");
        let document = json!({
            "email": person, "given_name": "Some", "family_name": format!("One {number}"), "phone": "+49 30 1",
            "job_title": "Clerk", "company_name": "Acme", "city": "Ulm", "notes": "none",
        });
        let made = house.system_a(SCOPE).create(&document).await?;
        let members = document.as_object().cloned().unwrap_or_default();
        ledger.note(SCOPE, &person, Side::SystemA, Act::Wrote(members))?;
        internal.push((person, made.id.ok_or("not taken")?));
    }
    let ids = async |crm: &Crm| -> Result<BTreeMap<String, String>, Error> {
        let name = crm.name_of("email")?;
        until("everybody is there", SOON, async || {
            let there: BTreeMap<String, String> = crm
                .list()
                .await?
                .into_iter()
                .filter_map(|contact| Some((contact.properties.get(name)?.clone(), contact.id)))
                .collect();
            Ok(if there.len() == RECORDS { Ok(there) } else { Err(format!("{} of {RECORDS}", there.len())) })
        })
        .await
    };
    let (there, elsewhere) = (ids(hubspot).await?, ids(rest).await?);
    house.quiet(SOON).await?;
    ledger.note_quiet()?;
    internal
        .into_iter()
        .map(|(person, internal)| {
            let id = |ids: &BTreeMap<String, String>| ids.get(&person).cloned().ok_or("not there");
            Ok(Shared { internal, hubspot: id(&there)?, rest: id(&elsewhere)?, person })
        })
        .collect()
}

/// Plays; where something is not as promised, the house's folder is kept and named.
async fn three_sides(policy: &str, play: impl AsyncFnOnce(&Stage) -> Result<(), Error>) -> Result<(), Error> {
    let mut stage = Stage::new(policy).await?;
    match Box::pin(play(&stage)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error}; everything is kept in {}", stage.house.keep().display()).into()),
    }
}

/// The loop breaker allows a thousand turns, so that nothing but the planner makes an end: who edits the same field on three sides for a minute goes
/// back and forth more often than it allows.
async fn settles(winner: &str) -> Result<(), Error> {
    let policy = format!("on_conflict = \"{winner}\"\nloop_limit = 1000");
    three_sides(&policy, async |stage| {
        stage.edit().await?;
        stage.stays_quiet().await?;
        ensure(stage.review("held").await?.is_empty(), || "something is held".to_owned())?;
        ensure(stage.review("frozen").await?.is_empty(), || "something is frozen".to_owned())?;
        stage.judged(false).await
    })
    .await
}

#[tokio::test]
async fn three_sides_that_edit_at_once_settle_where_system_a_wins() -> Result<(), Error> {
    settles("internal").await
}

#[tokio::test]
async fn three_sides_that_edit_at_once_settle_where_the_crm_wins() -> Result<(), Error> {
    settles("external").await
}

/// Both accounts rewrite titles, and System A takes over what each makes of them: each write of one is an edit for the other. That goes
/// on until the loop breaker freezes the field; everything else settles.
#[tokio::test]
async fn two_accounts_that_rewrite_each_other_are_stopped_and_nothing_else_is() -> Result<(), Error> {
    three_sides("on_conflict = \"internal\"\non_rewrite = \"adopt\"", async |stage| {
        let one = stage.shared.first().ok_or("nobody")?;
        let save = json!({ "job_title": "head of sales", "city": "bad tölz", "company_name": "A  b" });
        stage.house.system_a(SCOPE).patch(&one.internal, &save).await?;
        let members = save.as_object().cloned().unwrap_or_default();
        stage.ledger.note(SCOPE, &one.person, Side::SystemA, Act::Wrote(members))?;
        stage.house.quiet(QUIET_WITHIN).await?;
        let frozen = stage.review("frozen").await?;
        println!("frozen: {frozen:?}");
        let fields: std::collections::BTreeSet<&str> =
            frozen.iter().filter_map(|row| row["group"].as_str()).collect();
        ensure(fields.into_iter().eq(["/job_title"]), || format!("frozen: {frozen:?}"))?;
        // Titles were fought over from the first one on; nothing else of the records is.
        let is_frozen =
            |shared: &Shared| frozen.iter().any(|row| row["entity"]["id"] == json!(shared.internal));
        ensure(stage.shared.iter().all(is_frozen), || format!("{frozen:?}"))?;
        stage.stays_quiet().await?;
        let document = stage.house.system_a(SCOPE).read(&one.internal).await?.unwrap_or_default();
        ensure(document["city"] == json!("Bad Tölz") && document["company_name"] == json!("A b"), || {
            format!("System A did not take over what the accounts made: {document}")
        })
    })
    .await
}
