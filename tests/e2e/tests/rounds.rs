//! Two people edit the same contact on both sides, and neither knows of the other: what each policy promises comes about in every
//! round, for every class of guarantee that the simulator plays, at one write for each side, and then nobody writes any more.
//!
//! In *paused* rounds the connection is paused while both edits are made, so that both were accepted before either is delivered. In
//! *raced* rounds both are made at the same time while everything runs, so that all orders occur. Which order a round had is read from
//! System A's change feed, from whether the record was still as before when it was saved there (`If-Match`), and from the CRM's log of
//! writes; of the paused rounds at least 95 in 100 must be conflicts by the clock alone,
//! otherwise the run does not count.
//!
//! The exact class is the REST account (`If-Match`), and so is the one to the second (`If-Unmodified-Since`). HubSpot compares nothing: as long as its webhooks arrive, what was overwritten is
//! found afterwards; when all of them are lost, the window is narrow and nothing tells of it. `newest` means review here: the REST
//! account has no times of fields, and both edits are closer together than clocks are trusted. `TANDEM_TORTURE=1` plays 1,000 rounds
//! of each kind; each test prints what it counted.
#![expect(clippy::print_stdout, reason = "a test says how many rounds were conflicts")]
#![allow(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tandem_e2e::crm::{Crm, Dialect};
use tandem_e2e::feed::Feed;
use tandem_e2e::house::{House, Plan};
use tandem_e2e::people::Dice;
use tandem_e2e::rest::starter;
use tandem_e2e::round::{Facts, Guarantee, Order, Outcome, Policy, Round};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{Compares, FaultKind, FaultOrder, NewRestAccount, NotedWrite, Writer};
use tokio::task::JoinSet;

const SCOPE: &str = "acme";
const SOON: Duration = Duration::from_secs(120);

/// Fields that both people edit.
const CONTESTED: [&str; 3] = ["job_title", "company_name", "phone"];
/// What each person saves with it, and the other does not touch: it reaches the other side whatever becomes of the conflict.
const OWN_HERE: &str = "given_name";
const OWN_THERE: &str = "city";

/// Rounds of each kind, and contacts that they are played on.
fn size() -> (usize, usize) {
    if std::env::var_os("TANDEM_TORTURE").is_some_and(|value| value == "1") { (1_000, 200) } else { (40, 20) }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// Writes that the daemon may make for a paused round, in System A and in the CRM.
const PAUSED: [usize; 2] = [1, 1];

/// A contact on both sides.
#[derive(Clone)]
struct Contact {
    number: usize,
    internal: String,
    external: String,
}

/// What was counted.
#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    conflicts: usize,
    by_the_clock: usize,
    system_a_first: usize,
    crm_first: usize,
    untold: usize,
    overtaken: usize,
    held: usize,
    writes: [usize; 2],
    refused: usize,
}

impl Tally {
    fn count(&mut self, facts: &Facts, outcome: &Outcome, overtaken: bool) {
        self.rounds += 1;
        match facts.order {
            Order::Conflict => self.conflicts += 1,
            Order::SystemAFirst => self.system_a_first += 1,
            Order::CrmFirst => self.crm_first += 1,
            Order::Untold => self.untold += 1,
        }
        self.by_the_clock += usize::from(facts.is_conflict_by_the_clock());
        self.overtaken += usize::from(overtaken);
        self.held += usize::from(*outcome == Outcome::Held);
        for (sum, writes) in self.writes.iter_mut().zip(facts.writes) {
            *sum += writes;
        }
        self.refused += facts.refused;
    }
}

/// A house with one customer, whose account plays a class of guarantee, under a policy.
struct Stage {
    house: House,
    crm: Crm,
    guarantee: Guarantee,
    policy: Policy,
    contacts: Vec<Contact>,
    feed: Feed,
    dice: Dice,
}

impl Stage {
    async fn new(guarantee: Guarantee, policy: Policy) -> Result<Self, Error> {
        let object = format!("[objects.contact]\non_conflict = \"{}\"\n", policy.name());
        let (house, crm) = match guarantee {
            Guarantee::FoundAfterwards | Guarantee::NarrowWindow => {
                let house = House::build(Plan {
                    connection: format!(
                        "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 1000\n{object}"
                    ),
                    ..Plan::roomy(&[SCOPE])
                })
                .await?;
                house.walked(SOON).await?;
                let portal = house.customer(SCOPE)?.info.portal_id;
                house.control.set_settings(portal, json!({ "journal": true })).await?;
                if guarantee == Guarantee::NarrowWindow {
                    house.control.order(&FaultOrder::new(FaultKind::WebhookLost).portal(portal)).await?;
                }
                let crm = house.crm(SCOPE)?;
                (house, crm)
            }
            Guarantee::Exact | Guarantee::ToTheSecond => {
                let by_time = guarantee == Guarantee::ToTheSecond;
                let mut house = House::build(Plan::roomy(&[])).await?;
                house.drop_in("starter.wasm", &starter()?)?;
                let compares = if by_time { Compares::Time } else { Compares::Tag };
                let new = NewRestAccount { journal: true, compares, ..NewRestAccount::default() };
                let setting = if by_time { "settings.compares = \"time\"\n" } else { "" };
                let text = format!("poll_every = \"1s\"\n{setting}{object}");
                let account = house.rest_account(SCOPE, SCOPE, new, &text).await?;
                let crm = house.rest_crm(&account);
                let asked = until("the account is asked for what changed", SOON, async || {
                    let polls = crm.polls().await?;
                    Ok(if polls > 0 { Ok(()) } else { Err("never".to_owned()) })
                })
                .await;
                if let Err(error) = asked {
                    return Err(format!("{error}; everything is kept in {}", house.keep().display()).into());
                }
                (house, crm)
            }
        };
        let contacts = people(&house, &crm, size().1).await?;
        let feed = Feed::follow(&house, SCOPE).await?;
        Ok(Self { house, crm, guarantee, policy, contacts, feed, dice: Dice(policy as u64) })
    }

    /// Everything that happened since the last call is forgotten: what is asked next begins here.
    async fn mark(&mut self) -> Result<usize, Error> {
        self.feed = Feed::follow(&self.house, SCOPE).await?;
        Ok(self.crm.writes().await?.len())
    }

    /// The CRM was asked often enough for what changed that its listing shows everything until now.
    async fn polled(&self) -> Result<(), Error> {
        let polls = self.crm.polls().await?;
        until("what changed is asked for three times more", SOON, async || {
            let now = self.crm.polls().await?;
            Ok(if now >= polls + 3 { Ok(()) } else { Err(format!("{} polls", now - polls)) })
        })
        .await
    }

    /// The second of the CRM's last change is over: whatever is edited from now on is told from what the daemon has seen.
    async fn next_second(&self) -> Result<(), Error> {
        let last = self.crm.writes().await?.iter().map(|write| write.at.div_euclid(1_000)).max().unwrap_or(0);
        until("the second of the last change is over", SOON, async || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            Ok(if now > last.unsigned_abs() { Ok(()) } else { Err(format!("it is {now}")) })
        })
        .await
    }

    async fn pause(&self, paused: bool) -> Result<(), Error> {
        let path = if paused { "/v1/pause" } else { "/v1/resume" };
        self.house.post(path, &json!({ "connection": SCOPE })).await.map(drop)
    }

    /// Both edits for every contact. `apart`: at the same time, but for so many milliseconds at most between the two.
    async fn edits(&mut self, batch: usize, apart: u64) -> Result<Vec<Round>, Error> {
        let mut tasks = JoinSet::new();
        let before: BTreeMap<String, u64> =
            self.house.system_a(SCOPE).list().await?.into_iter().map(|row| (row.id, row.version)).collect();
        for contact in self.contacts.clone() {
            let before = *before.get(&contact.internal).ok_or("a contact is gone")?;
            let member = CONTESTED[(batch + contact.number) % CONTESTED.len()];
            let value = |side: usize| match member {
                "phone" => format!("+49 30 {side}{batch:03}{:04}", contact.number),
                _ => format!("side {side} in batch {batch} of {}", contact.number),
            };
            let (here, there) = (value(1), value(2));
            let (system_a, crm) = (self.house.system_a(SCOPE), self.crm.clone());
            let own = format!("batch {batch}");
            let waits = [self.dice.below(apart + 1), self.dice.below(apart + 1)].map(Duration::from_millis);
            tasks.spawn(async move {
                let save = json!({ member: here, OWN_HERE: own });
                let one = async {
                    tokio::time::sleep(waits[0]).await;
                    // Nobody else but the daemon writes to it.
                    let unchanged = system_a.patch_if(&contact.internal, before, &save).await?;
                    if unchanged.status != StatusCode::PRECONDITION_FAILED {
                        return Ok((unchanged, false));
                    }
                    system_a.patch(&contact.internal, &save).await.map(|written| (written, true))
                };
                let other = async {
                    tokio::time::sleep(waits[1]).await;
                    crm.edit(&contact.external, &[(member, &there), (OWN_THERE, &own)]).await
                };
                let (one, other) = tokio::join!(one, other);
                other?;
                let (one, was_written) = one?;
                let version = one.version.ok_or_else(|| format!("system a: {} {}", one.status, one.body))?;
                let Contact { internal, external, .. } = contact;
                Ok::<_, Error>(Round { internal, external, member, here, there, version, was_written })
            });
        }
        let mut rounds = Vec::new();
        while let Some(round) = tasks.join_next().await {
            rounds.push(round??);
        }
        Ok(rounds)
    }

    /// A batch of rounds while the connection is paused, as the module says.
    async fn paused(&mut self, batch: usize, tally: &mut Tally) -> Result<Vec<Round>, Error> {
        let from = self.mark().await?;
        self.pause(true).await?;
        if self.guarantee == Guarantee::ToTheSecond {
            self.next_second().await?;
        }
        let rounds = self.edits(batch, 0).await?;
        until("the CRM's events are taken in", SOON, async || {
            let under_way = self.house.webhooks_under_way().await?;
            Ok(if under_way == 0 { Ok(()) } else { Err(format!("{under_way} under way")) })
        })
        .await?;
        self.pause(false).await?;
        // Where our write may come before the webhook was read, the edit is found afterwards: one more write for each side.
        let most = if self.guarantee == Guarantee::FoundAfterwards { [2, 2] } else { PAUSED };
        self.judge(&rounds, batch, from, most, tally).await?;
        Ok(rounds)
    }

    /// A batch of rounds in which both edits race.
    async fn raced(&mut self, batch: usize, tally: &mut Tally) -> Result<Vec<Round>, Error> {
        let from = self.mark().await?;
        let rounds = self.edits(batch, 40).await?;
        // When the edits were not delivered together, each side may be written once for each of them.
        self.judge(&rounds, batch, from, [2, 2], tally).await?;
        Ok(rounds)
    }

    /// Waits until it is quiet and judges every round of a batch. `most`: writes that the daemon may make for a round.
    async fn judge(
        &self,
        rounds: &[Round],
        batch: usize,
        from: usize,
        most: [usize; 2],
        tally: &mut Tally,
    ) -> Result<(), Error> {
        if self.guarantee == Guarantee::NarrowWindow {
            self.polled().await?;
        }
        self.house.quiet(SOON).await?;
        let (here, there) = self.both_sides().await?;
        let reviews = self.reviews().await?;
        let last = here.values().map(|(version, _)| *version).max().unwrap_or(0);
        self.feed.reaches(last, SOON).await?;
        let changes = self.feed.changes();
        let mut earlier = self.crm.writes().await?;
        let writes = earlier.split_off(from);
        ensure(most != PAUSED || self.feed.left_out() == 0, || {
            format!("the feed left out {} changes", self.feed.left_out())
        })?;
        for round in rounds {
            let name = self.crm.name_of(round.member)?;
            let facts = round.facts(&changes, (&earlier, &writes), name)?;
            let documents = [
                here.get(&round.internal).map(|(_, document)| document).ok_or("not in system a")?,
                there.get(&round.external).ok_or("not in the crm")?,
            ];
            let seen = documents.map(|document| document.get(round.member).cloned().unwrap_or_default());
            let held = reviews.get(&(round.internal.clone(), format!("/{}", round.member)));
            let own = [&round.here, &round.there].map(|value| json!(value));
            let (apart, overwritten) =
                ([round.here.clone(), round.there.clone()], [&round.here; 2].map(Clone::clone));
            let outcome = match held {
                Some(values)
                    if *values == own && (seen == apart || facts.overtaken && seen == overwritten) =>
                {
                    Outcome::Held
                }
                None if seen[0] == seen[1] => Outcome::Both(seen[0].clone()),
                _ => return Err(format!("{round:?}: {seen:?}, in review {held:?}, {facts:?}").into()),
            };
            let promised = round.promised(self.policy, self.guarantee, &facts);
            ensure(promised.contains(&outcome), || {
                format!("{round:?}: {outcome}, and not {}; {facts:?}", promised[0])
            })?;
            for (member, saved) in [(OWN_HERE, "System A"), (OWN_THERE, "the CRM")] {
                let value = format!("batch {batch}");
                let arrived = documents.iter().all(|document| document.get(member) == Some(&value));
                ensure(arrived, || format!("{round:?}: {member}, saved in {saved}, is not on both sides"))?;
            }
            ensure(facts.writes.iter().zip(most).all(|(writes, most)| *writes <= most), || {
                format!("{round:?}: {facts:?}; at most {most:?} writes")
            })?;
            tally.count(&facts, &outcome, outcome != promised[0]);
        }
        let frozen = self.house.get("/v1/review?limit=10000").await?;
        let frozen = frozen.as_array().into_iter().flatten().find(|row| row["kind"] == json!("frozen"));
        ensure(frozen.is_none(), || format!("frozen: {frozen:?}"))
    }

    /// What both sides have by their public APIs: of System A by its ids with versions, of the CRM by its own.
    async fn both_sides(
        &self,
    ) -> Result<
        (BTreeMap<String, (u64, BTreeMap<String, String>)>, BTreeMap<String, BTreeMap<String, String>>),
        Error,
    > {
        let texts = |document: &Value| {
            let members = document.as_object().into_iter().flatten();
            members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        };
        let here = self.house.system_a(SCOPE).list().await?;
        let here = here.into_iter().map(|row| (row.id, (row.version, texts(&row.document)))).collect();
        let there = self.crm.list().await?;
        let there = there
            .iter()
            .map(|contact| {
                let members = self.crm.canonical(contact).into_iter();
                (contact.id.clone(), members.map(|(name, value)| (name.to_owned(), value)).collect())
            })
            .collect();
        Ok((here, there))
    }

    /// Both values of every group under review, by System A's id and the group.
    async fn reviews(&self) -> Result<BTreeMap<(String, String), [Value; 2]>, Error> {
        let list = self.house.get("/v1/review?limit=10000").await?;
        let rows = list.as_array().into_iter().flatten().filter(|row| row["kind"] == json!("held"));
        Ok(rows
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                let group = text("group");
                let id = row["entity"]["id"].as_str().unwrap_or_default().to_owned();
                let values = ["internal_values", "external_values"].map(|side| row[side][&group].clone());
                ((id, group), values)
            })
            .collect())
    }

    /// Ends every hold of a batch in one of four ways, and sees each carried out: a person decides for System A, for the CRM, or for
    /// a third value; or people agree by themselves, and nothing is left to decide.
    async fn decide(&mut self, rounds: &[Round]) -> Result<usize, Error> {
        let reviews = self.reviews().await?;
        let held: Vec<&Round> = rounds
            .iter()
            .filter(|round| reviews.contains_key(&(round.internal.clone(), format!("/{}", round.member))))
            .collect();
        // What was overwritten before it was found is on neither side any more.
        let (_, there) = self.both_sides().await?;
        let overwritten = |round: &Round| {
            there.get(&round.external).and_then(|document| document.get(round.member)) == Some(&round.here)
        };
        let deeds: Vec<(usize, bool)> = held
            .iter()
            .enumerate()
            .map(|(number, round)| match overwritten(round) {
                true => (number % 3, true),
                false => (number % 4, false),
            })
            .collect();
        ensure(reviews.len() == held.len(), || "something else is under review".to_owned())?;
        let from = self.mark().await?;
        let third = |round: &Round| match round.member {
            "phone" => format!("+49 89 {}", round.version),
            _ => format!("decided at {}", round.version),
        };
        for (round, (deed, _)) in held.iter().zip(&deeds) {
            let group = format!("/{}", round.member);
            let choice = match deed {
                0 => json!("internal"),
                1 => json!("external"),
                2 => json!({ "values": { &group: third(round) } }),
                _ => {
                    self.crm.edit(&round.external, &[(round.member, &round.here)]).await?;
                    continue;
                }
            };
            let decision = json!({
                "scope": SCOPE, "object": "contact", "id": round.internal, "connection": SCOPE, "group": group,
                "choice": choice,
            });
            self.house.post("/v1/review/decide", &decision).await?;
        }
        // Where the CRM tells of nothing, the next poll brings what was edited there.
        until("nothing is under review", SOON, async || {
            let left = self.reviews().await?;
            Ok(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
        })
        .await?;
        self.house.quiet(SOON).await?;
        let (here, there) = self.both_sides().await?;
        self.feed.reaches(here.values().map(|(version, _)| *version).max().unwrap_or(0), SOON).await?;
        let changes = self.feed.changes();
        let writes = self.crm.writes().await?.split_off(from);
        for (round, deed) in held.iter().zip(&deeds) {
            let (wanted, most) = match deed {
                (0, true) | (3, _) => (round.here.clone(), [0, 0]),
                (0, false) => (round.here.clone(), [0, 1]),
                (1, true) => (round.there.clone(), [1, 1]),
                (1, false) => (round.there.clone(), [1, 0]),
                _ => (third(round), [1, 1]),
            };
            let seen = [
                here.get(&round.internal).and_then(|(_, document)| document.get(round.member)),
                there.get(&round.external).and_then(|document| document.get(round.member)),
            ];
            ensure(seen == [Some(&wanted); 2], || format!("decided {wanted:?}: {seen:?}, {round:?}"))?;
            let made = [
                changes.iter().filter(|change| change.id == round.internal && change.is_tandems()).count(),
                writes.iter().filter(|write| is_tandems(write, &round.external)).count(),
            ];
            ensure(made == most, || {
                format!("{made:?} writes for decision {deed:?}, not {most:?}: {round:?}")
            })?;
        }
        Ok(held.len())
    }

    /// Nobody writes any more: not by itself, not when it asks what changed, and not when every record is looked at again.
    async fn stays_quiet(&mut self) -> Result<(), Error> {
        let from = self.mark().await?;
        let looks = json!({ "connection": SCOPE, "object": "contact", "records": "all" });
        let looks = self.house.post("/v1/look", &looks).await?;
        ensure(looks["count"] == json!(self.contacts.len()), || format!("{looks} looks"))?;
        self.polled().await?;
        self.house.quiet(SOON).await?;
        let writes = self.crm.writes().await?.split_off(from);
        ensure(writes.is_empty(), || format!("written after quiet: {writes:?}"))?;
        // A write of System A is a change of a version: what was not seen in the feed yet would show here.
        let last = self.both_sides().await?.0.values().map(|(version, _)| *version).max().unwrap_or(0);
        ensure(last <= self.feed.from, || format!("written after quiet: {:?}", self.feed.changes()))?;
        let violations = self.house.control.violations().await?;
        ensure(violations.total == 0, || format!("not allowed: {:?}", violations.listed))
    }

    async fn play(&mut self) -> Result<(), Error> {
        let (rounds, contacts) = size();
        let batches = rounds.div_ceil(contacts);
        let reviewed = matches!(self.policy, Policy::Review | Policy::Newest);
        let (mut paused, mut raced, mut decided) = (Tally::default(), Tally::default(), 0);
        for batch in 0..batches {
            let played = self.paused(batch, &mut paused).await?;
            decided += self.decide(&played).await?;
            let played = self.raced(batches + batch, &mut raced).await?;
            decided += self.decide(&played).await?;
        }
        self.stays_quiet().await?;
        let name = format!("{:?}, {}", self.guarantee, self.policy.name());
        println!(
            "{name}: paused rounds {paused:?}\n{name}: raced rounds {raced:?}; {decided} decided, no write after quiet"
        );
        ensure(paused.by_the_clock * 100 >= paused.rounds * 95, || {
            format!(
                "only {} of {} rounds were conflicts: the run does not count",
                paused.by_the_clock, paused.rounds
            )
        })?;
        // Where nothing tells of an edit, what was made since the last poll is overwritten.
        let told = self.guarantee != Guarantee::NarrowWindow;
        ensure(!told || paused.overtaken == 0, || format!("{} edits were overtaken", paused.overtaken))?;
        ensure(decided == if reviewed { paused.held + raced.held } else { 0 }, || {
            format!("{decided} decided")
        })?;
        ensure(!told || !reviewed || paused.held == paused.rounds, || {
            "not every conflict was held".to_owned()
        })
    }
}

/// Whether the daemon wrote this record.
fn is_tandems(write: &NotedWrite, external: &str) -> bool {
    write.by == Writer::Api && write.taken && write.id.as_deref() == Some(external)
}

/// Contacts that are on both sides.
async fn people(house: &House, crm: &Crm, count: usize) -> Result<Vec<Contact>, Error> {
    let email = |number: usize| format!("someone{number}@{SCOPE}.example");
    let lines: Vec<Value> = (0..count)
        .map(|number| {
            let document = json!({
                "email": email(number), "given_name": "Some", "family_name": format!("One {number}"),
                "phone": format!("+49 30 555{number:04}"), "job_title": "Clerk", "company_name": "Acme", "city": "Ulm",
            });
            json!({ "op": "create", "document": document })
        })
        .collect();
    let answers = house.system_a(SCOPE).batch(&lines).await?;
    let name = crm.name_of("email")?;
    let there = until("everybody is on both sides", SOON, async || {
        let there: BTreeMap<String, String> = crm
            .list()
            .await?
            .into_iter()
            .filter_map(|contact| Some((contact.properties.get(name)?.clone(), contact.id)))
            .collect();
        Ok(if there.len() == count { Ok(there) } else { Err(format!("{} of {count}", there.len())) })
    })
    .await?;
    house.quiet(SOON).await?;
    answers
        .iter()
        .enumerate()
        .map(|(number, answer)| {
            Ok(Contact {
                number,
                internal: answer["id"].as_str().ok_or_else(|| answer.to_string())?.to_owned(),
                external: there.get(&email(number)).ok_or("not there")?.clone(),
            })
        })
        .collect()
}

/// Plays all rounds; where something is not as promised, the house's folder is kept and named.
async fn rounds(guarantee: Guarantee, policy: Policy) -> Result<(), Error> {
    let mut stage = Stage::new(guarantee, policy).await?;
    let plays = match guarantee {
        Guarantee::Exact | Guarantee::ToTheSecond => Dialect::Rest,
        Guarantee::FoundAfterwards | Guarantee::NarrowWindow => Dialect::HubSpot,
    };
    ensure(stage.crm.dialect() == plays, || "the wrong CRM plays".to_owned())?;
    match Box::pin(stage.play()).await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error}; everything is kept in {}", stage.house.keep().display()).into()),
    }
}

#[tokio::test]
async fn system_a_wins_by_policy_where_the_crm_compares_an_entity_tag() -> Result<(), Error> {
    rounds(Guarantee::Exact, Policy::Internal).await
}

#[tokio::test]
async fn the_crm_wins_by_policy_where_it_compares_an_entity_tag() -> Result<(), Error> {
    rounds(Guarantee::Exact, Policy::External).await
}

#[tokio::test]
async fn without_times_of_fields_the_newest_is_a_review_where_the_crm_compares_an_entity_tag()
-> Result<(), Error> {
    rounds(Guarantee::Exact, Policy::Newest).await
}

#[tokio::test]
async fn a_person_decides_where_the_crm_compares_an_entity_tag() -> Result<(), Error> {
    rounds(Guarantee::Exact, Policy::Review).await
}

#[tokio::test]
async fn system_a_wins_by_policy_where_the_crm_compares_times() -> Result<(), Error> {
    rounds(Guarantee::ToTheSecond, Policy::Internal).await
}

#[tokio::test]
async fn the_crm_wins_by_policy_where_it_compares_times() -> Result<(), Error> {
    rounds(Guarantee::ToTheSecond, Policy::External).await
}

#[tokio::test]
async fn without_times_of_fields_the_newest_is_a_review_where_the_crm_compares_times() -> Result<(), Error> {
    rounds(Guarantee::ToTheSecond, Policy::Newest).await
}

#[tokio::test]
async fn a_person_decides_where_the_crm_compares_times() -> Result<(), Error> {
    rounds(Guarantee::ToTheSecond, Policy::Review).await
}

#[tokio::test]
async fn system_a_wins_by_policy_where_webhooks_tell_of_each_edit() -> Result<(), Error> {
    rounds(Guarantee::FoundAfterwards, Policy::Internal).await
}

#[tokio::test]
async fn the_crm_wins_by_policy_where_webhooks_tell_of_each_edit() -> Result<(), Error> {
    rounds(Guarantee::FoundAfterwards, Policy::External).await
}

#[tokio::test]
async fn edits_of_the_same_moment_are_a_review_where_webhooks_tell_of_each_edit() -> Result<(), Error> {
    rounds(Guarantee::FoundAfterwards, Policy::Newest).await
}

#[tokio::test]
async fn a_person_decides_where_webhooks_tell_of_each_edit() -> Result<(), Error> {
    rounds(Guarantee::FoundAfterwards, Policy::Review).await
}

#[tokio::test]
async fn system_a_wins_by_policy_where_nothing_tells_of_an_edit() -> Result<(), Error> {
    rounds(Guarantee::NarrowWindow, Policy::Internal).await
}

#[tokio::test]
async fn the_crm_wins_by_policy_where_nothing_tells_of_an_edit() -> Result<(), Error> {
    rounds(Guarantee::NarrowWindow, Policy::External).await
}

#[tokio::test]
async fn without_times_of_fields_the_newest_is_a_review_where_nothing_tells_of_an_edit() -> Result<(), Error>
{
    rounds(Guarantee::NarrowWindow, Policy::Newest).await
}

#[tokio::test]
async fn a_person_decides_where_nothing_tells_of_an_edit() -> Result<(), Error> {
    rounds(Guarantee::NarrowWindow, Policy::Review).await
}
