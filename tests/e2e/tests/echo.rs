//! What comes back from a CRM (echoes, rewrites, stale rows, lost answers) costs no more than it must and undoes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::ledger::{key_of, key_of_document};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{Counts, FaultKind, FaultOrder, Rewrite};

const SOON: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;

/// A house whose connections have these policies and poll so often.
fn plan(scopes: &[&str], policy: &str, poll_ms: u64, settle_ms: u64) -> Plan {
    Plan {
        connection: format!(
            "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = {settle_ms}\npoll_every_ms = {poll_ms}\n\
             [objects.contact]\nconfirm_after = \"500ms\"\n{policy}\n"
        ),
        ..Plan::roomy(scopes)
    }
}

/// Runs a test in a house; where it fails, the house's folder is kept and named.
async fn in_house(plan: Plan, test: impl AsyncFnOnce(&mut House) -> Result<(), Error>) -> Result<(), Error> {
    let mut house = House::build(plan).await?;
    house.walked(SOON).await?;
    match Box::pin(test(&mut house)).await {
        Ok(()) => no_violations(&house).await,
        Err(error) => Err(format!("{error}; everything is kept in {}", house.keep().display()).into()),
    }
}

async fn no_violations(house: &House) -> Result<(), Error> {
    let violations = house.control.violations().await?;
    if violations.total == 0 { Ok(()) } else { Err(format!("not allowed: {:?}", violations.listed).into()) }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// A record on both sides.
#[derive(Clone, Debug)]
struct Linked {
    scope: String,
    portal: u64,
    internal: String,
    external: u64,
}

/// One customer's house with what tests ask of it.
struct View<'a> {
    house: &'a House,
    scope: &'a str,
    portal: u64,
}

impl<'a> View<'a> {
    fn new(house: &'a House, scope: &'a str) -> Result<Self, Error> {
        Ok(Self { house, scope, portal: house.customer(scope)?.info.portal_id })
    }

    async fn counts(&self) -> Result<Counts, Error> {
        Ok(self.house.control.account_counts(self.portal).await?)
    }

    /// Creates these in System A and waits until they are linked.
    async fn linked(&self, documents: &[Value]) -> Result<Vec<Linked>, Error> {
        let lines: Vec<Value> =
            documents.iter().map(|document| json!({"op": "create", "document": document})).collect();
        let answers = self.house.system_a(self.scope).batch(&lines).await?;
        self.house.quiet(SOON).await?;
        let ids = self.external_ids().await?;
        documents
            .iter()
            .zip(&answers)
            .map(|(document, answer)| {
                let key = key_of_document(document);
                Ok(Linked {
                    scope: self.scope.to_owned(),
                    portal: self.portal,
                    internal: answer.get("id").and_then(Value::as_str).ok_or("not taken")?.to_owned(),
                    external: *ids.get(&key).ok_or_else(|| format!("{key} did not arrive"))?,
                })
            })
            .collect()
    }

    /// Ids of the account's live records by person.
    async fn external_ids(&self) -> Result<BTreeMap<String, u64>, Error> {
        let dump = self.house.control.dump(self.portal).await?;
        let live = dump.records.iter().filter(|record| !record.archived);
        Ok(live
            .map(|record| {
                let get = |name: &str| record.properties.get(name).map(String::as_str);
                (key_of(get("email"), get("firstname"), get("lastname")), record.id)
            })
            .collect())
    }

    /// Waits until so many more searches were made: polls that began after this call.
    async fn polled(&self, more: u64) -> Result<(), Error> {
        let before = self.counts().await?.calls("contacts.search");
        until("polls", SOON, async || {
            let now = self.counts().await?.calls("contacts.search");
            Ok(if now >= before + more { Ok(()) } else { Err(format!("{} searches", now - before)) })
        })
        .await
    }
}

impl Linked {
    /// Version and document in System A.
    async fn here(&self, house: &House) -> Result<(u64, Value), Error> {
        let all = house.system_a(&self.scope).list().await?;
        let found = all.into_iter().find(|record| record.id == self.internal);
        found.map(|record| (record.version, record.document)).ok_or_else(|| "not in system a".into())
    }

    /// A member in System A.
    async fn member(&self, house: &House, name: &str) -> Result<String, Error> {
        let (_, document) = self.here(house).await?;
        Ok(document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// A property in the account.
    async fn property(&self, house: &House, name: &str) -> Result<String, Error> {
        let dump = house.control.dump(self.portal).await?;
        let found = dump.records.iter().find(|record| record.id == self.external);
        Ok(found.and_then(|record| record.properties.get(name).cloned()).unwrap_or_default())
    }

    async fn patch(&self, house: &House, patch: &Value) -> Result<(), Error> {
        let answer = house.system_a(&self.scope).patch(&self.internal, patch).await?;
        ensure(answer.status.is_success(), || format!("system a: {} {}", answer.status, answer.body))
    }

    async fn member_becomes(&self, house: &House, name: &str, value: &str) -> Result<(), Error> {
        until(&format!("{name} is {value} in system a"), SOON, async || {
            let now = self.member(house, name).await?;
            Ok(if now == value { Ok(()) } else { Err(now) })
        })
        .await
    }

    async fn property_becomes(&self, house: &House, name: &str, value: &str) -> Result<(), Error> {
        until(&format!("{name} is {value} in the account"), SOON, async || {
            let now = self.property(house, name).await?;
            Ok(if now == value { Ok(()) } else { Err(now) })
        })
        .await
    }
}

/// Calls between two looks at the counters that read single records.
fn reads(before: &Counts, after: &Counts) -> u64 {
    between(before, after, &["contacts.read", "contacts.batch-read"])
}

fn updates(before: &Counts, after: &Counts) -> u64 {
    between(before, after, &["contacts.update", "contacts.batch-update"])
}

fn creates(before: &Counts, after: &Counts) -> u64 {
    between(before, after, &["contacts.create", "contacts.batch-create", "contacts.batch-upsert"])
}

fn between(before: &Counts, after: &Counts, operations: &[&str]) -> u64 {
    operations.iter().map(|operation| after.calls(operation) - before.calls(operation)).sum()
}

fn people(scope: &str, count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| {
            json!({
                "email": format!("someone{number}@{scope}.example"), "given_name": "Some", "family_name": format!("One {number}"),
                "phone": format!("+49 30 555{number:04}"), "job_title": "Clerk", "company_name": "Acme", "city": "Ulm",
            })
        })
        .collect()
}

fn rows(list: &Value) -> Vec<Value> {
    let rows = list.as_array().or_else(|| list.as_object()?.values().find_map(Value::as_array));
    rows.cloned().unwrap_or_default()
}

#[tokio::test]
async fn five_events_of_one_save_a_poll_and_the_echo_cost_one_read_and_one_write() -> Result<(), Error> {
    in_house(plan(&["acme"], "", 1_000, 500), async |house| {
        let view = View::new(house, "acme")?;
        let record = view.linked(&people("acme", 1)).await?.remove(0);
        view.polled(3).await?;
        house.quiet(SOON).await?;

        let (version, _) = record.here(house).await?;
        let before = view.counts().await?;
        let save = [
            ("phone", "+49 30 1"),
            ("mobilephone", "+49 170 2"),
            ("jobtitle", "Head"),
            ("company", "Other"),
            ("city", "Bonn"),
        ];
        house.control.person_edits(record.portal, record.external, &save).await?;
        record.member_becomes(house, "phone", "+49 30 1").await?;
        view.polled(4).await?;
        house.quiet(SOON).await?;
        let after = view.counts().await?;
        let (now, document) = record.here(house).await?;
        for (member, value) in [
            ("phone", "+49 30 1"),
            ("mobile_phone", "+49 170 2"),
            ("job_title", "Head"),
            ("company_name", "Other"),
            ("city", "Bonn"),
        ] {
            ensure(document.get(member) == Some(&json!(value)), || format!("{member}: {document}"))?;
        }
        ensure(now == version + 1, || format!("{} versions for one save", now - version))?;
        ensure(reads(&before, &after) <= 1, || format!("{} reads for one save", reads(&before, &after)))?;
        ensure(updates(&before, &after) == 0, || "the person's save was written back".into())?;
        ensure(creates(&before, &after) == 0, || "a save made a record".into())?;

        record.patch(house, &json!({"phone": "+49 30 9"})).await?;
        record.property_becomes(house, "phone", "+49 30 9").await?;
        view.polled(4).await?;
        house.quiet(SOON).await?;
        let end = view.counts().await?;
        ensure(updates(&after, &end) == 1, || format!("{} updates for one edit", updates(&after, &end)))?;
        ensure(reads(&after, &end) == 0, || format!("{} reads for one edit", reads(&after, &end)))?;
        ensure(creates(&after, &end) == 0, || "an edit made a record".into())?;
        let (last, _) = record.here(house).await?;
        ensure(last == now + 1, || format!("the echo made {} versions", last - now - 1))
    })
    .await
}

#[tokio::test]
async fn a_server_that_rewrites_a_value_is_understood_and_not_fought() -> Result<(), Error> {
    const RECORDS: usize = 50;
    const ROUNDS: u64 = 20;
    in_house(plan(&["inside", "later"], "", HOUR_MS, 500), async |house| {
        for (scope, in_response) in [("inside", true), ("later", false)] {
            let view = View::new(house, scope)?;
            let records = view.linked(&people(scope, RECORDS)).await?;
            let rewrite =
                FaultKind::Automation { property: "phone".into(), rewrite: Rewrite::PhonePlus, in_response };
            house.control.order(&FaultOrder::new(rewrite).portal(view.portal)).await?;
            for (number, record) in records.iter().enumerate() {
                record.patch(house, &json!({"phone": format!("+49 (30) 777-{number:04}")})).await?;
            }
            house.quiet(SOON).await?;
            for (number, record) in records.iter().enumerate() {
                record.property_becomes(house, "phone", &format!("+4930777{number:04}")).await?;
            }
            house.quiet(SOON).await?;

            let before = view.counts().await?;
            let versions = house.system_a(scope).list().await?;
            let all = json!({"connection": scope, "object": "contact", "records": "all"});
            for _ in 0..ROUNDS {
                let looks = house.post("/v1/look", &all).await?;
                let looks = looks.get("count").and_then(Value::as_u64);
                ensure(looks == Some(RECORDS as u64), || format!("{looks:?} looks"))?;
                house.quiet(SOON).await?;
            }
            let after = view.counts().await?;
            println!("{scope}: {} looks, {} reads", ROUNDS * RECORDS as u64, reads(&before, &after));
            ensure(reads(&before, &after) == ROUNDS * RECORDS as u64, || "not every look was a read".into())?;
            ensure(updates(&before, &after) == 0, || {
                format!("{scope}: {} updates", updates(&before, &after))
            })?;
            ensure(creates(&before, &after) == 0, || format!("{scope}: creates"))?;
            ensure(house.system_a(scope).list().await? == versions, || format!("{scope}: system a changed"))?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_the_crm_made_of_a_write_waits_while_writing_to_system_a_is_paused_and_is_not_written_again()
-> Result<(), Error> {
    in_house(plan(&["acme"], "on_rewrite = \"adopt\"", HOUR_MS, 500), async |house| {
        let view = View::new(house, "acme")?;
        let record = view.linked(&people("acme", 1)).await?.remove(0);
        let habit =
            FaultKind::Automation { property: "city".into(), rewrite: Rewrite::Title, in_response: true };
        house.control.order(&FaultOrder::new(habit).portal(record.portal)).await?;
        let direction = json!({ "connection": "acme", "direction": "to-internal" });
        house.post("/v1/pause", &direction).await?;
        let before = view.counts().await?;
        record.patch(house, &json!({ "city": "bad tölz" })).await?;
        record.property_becomes(house, "city", "Bad Tölz").await?;
        until("the record waits", SOON, async || {
            let status = house.get("/v1/status").await?;
            let delayed = status.pointer("/connections/0/delayed").and_then(Value::as_u64);
            Ok(if delayed == Some(1) { Ok(()) } else { Err(status.to_string()) })
        })
        .await?;
        ensure(record.member(house, "city").await? == "bad tölz", || "written while it was paused".into())?;
        house.post("/v1/resume", &direction).await?;
        record.member_becomes(house, "city", "Bad Tölz").await?;
        house.quiet(SOON).await?;
        let held = house.get("/v1/review").await?;
        ensure(rows(&held).is_empty(), || format!("nobody else edited it: {held}"))?;
        let after = view.counts().await?;
        ensure(updates(&before, &after) == 1, || format!("{} writes", updates(&before, &after)))
    })
    .await
}

#[tokio::test]
async fn an_edit_inside_our_own_write_is_carried_over() -> Result<(), Error> {
    in_house(plan(&["acme"], "", HOUR_MS, 500), async |house| {
        let view = View::new(house, "acme")?;
        let records = view.linked(&people("acme", 5)).await?;
        // No webhook and no poll: only the answer to our own write can tell.
        house.control.order(&FaultOrder::new(FaultKind::WebhookLost)).await?;
        let edit = FaultKind::PersonEditInWrite {
            properties: [("jobtitle".to_owned(), "Promoted".to_owned())].into(),
            object_id: None,
        };
        house.control.order(&FaultOrder::new(edit).operation("contacts.*")).await?;
        let before = view.counts().await?;
        for record in &records {
            record.patch(house, &json!({"phone": "+49 30 42"})).await?;
        }
        for record in &records {
            record.property_becomes(house, "phone", "+49 30 42").await?;
            record.member_becomes(house, "job_title", "Promoted").await?;
        }
        house.quiet(SOON).await?;
        let after = view.counts().await?;
        ensure(updates(&before, &after) == records.len() as u64, || {
            format!("{} updates", updates(&before, &after))
        })?;
        for record in &records {
            let there = (record.property(house, "phone").await?, record.property(house, "jobtitle").await?);
            ensure(there == ("+49 30 42".into(), "Promoted".into()), || format!("{there:?}"))?;
            let here = (record.member(house, "phone").await?, record.member(house, "job_title").await?);
            ensure(here == there, || format!("{here:?}"))?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stale_search_row_puts_nothing_back() -> Result<(), Error> {
    let plan = Plan { index_lag: (0, 0), ..plan(&["acme"], "", 3_000, 60_000) };
    in_house(plan, async |house| {
        let view = View::new(house, "acme")?;
        let records = view.linked(&people("acme", 20)).await?;
        view.polled(1).await?;
        for record in &records {
            house
                .control
                .person_edits(record.portal, record.external, &[("phone", "+49 30 1"), ("city", "Old")])
                .await?;
        }
        // From now on searches show these rows, whatever happens to the records.
        house.control.set_settings(view.portal, json!({"indexFrozen": true})).await?;
        for record in &records {
            record.member_becomes(house, "phone", "+49 30 1").await?;
        }
        house.quiet(SOON).await?;
        let before = view.counts().await?;
        for record in &records {
            record.patch(house, &json!({"phone": "+49 30 2", "city": "New"})).await?;
        }
        for record in &records {
            record.property_becomes(house, "phone", "+49 30 2").await?;
        }
        view.polled(3).await?;
        house.quiet(SOON).await?;
        let after = view.counts().await?;
        for record in &records {
            let here = (record.member(house, "phone").await?, record.member(house, "city").await?);
            let there = (record.property(house, "phone").await?, record.property(house, "city").await?);
            ensure(here == ("+49 30 2".into(), "New".into()), || format!("system a: {here:?}"))?;
            ensure(there == here, || format!("the account: {there:?}"))?;
        }
        ensure(updates(&before, &after) == records.len() as u64, || {
            format!("{} updates", updates(&before, &after))
        })
    })
    .await
}

#[tokio::test]
async fn a_time_out_after_the_create_took_effect_makes_no_second_record() -> Result<(), Error> {
    in_house(plan(&["acme"], "", HOUR_MS, 500), async |house| {
        let view = View::new(house, "acme")?;
        let mut faults = Vec::new();
        for operation in ["contacts.create", "contacts.batch-create", "contacts.batch-upsert"] {
            let order = FaultOrder::new(FaultKind::DropAfter).operation(operation).probability(0.5).times(40);
            faults.push(house.control.order(&order).await?);
        }
        let mut documents = people("acme", 30);
        documents.extend(
            (0..30).map(|number| json!({"given_name": "No", "family_name": format!("Address {number}")})),
        );
        let records = view.linked(&documents).await?;
        let fired: u64 = house.control.faults().await?.faults.iter().map(|fault| fault.fired).sum();
        ensure(fired > 0, || "no answer was dropped".into())?;
        println!("{fired} answers to creates were dropped");
        let live = view.counts().await?.live;
        ensure(live == records.len(), || format!("{live} records in the account for {}", records.len()))?;
        let here = house.system_a("acme").list().await?.len();
        ensure(here == records.len(), || format!("{here} records in system a for {}", records.len()))
    })
    .await
}

#[tokio::test]
async fn duplicated_and_reordered_webhooks_change_nothing() -> Result<(), Error> {
    in_house(plan(&["acme"], "", HOUR_MS, 500), async |house| {
        let view = View::new(house, "acme")?;
        let records = view.linked(&people("acme", 20)).await?;
        house.control.order(&FaultOrder::new(FaultKind::WebhookDuplicated { delay_ms: 300 })).await?;
        house.control.order(&FaultOrder::new(FaultKind::WebhookReordered { window_ms: 500 })).await?;
        let before = view.counts().await?;
        for round in 1..=3 {
            for record in &records {
                let phone = format!("+49 30 {round}");
                house.control.person_edits(record.portal, record.external, &[("phone", &phone)]).await?;
            }
        }
        for number in 0..10 {
            let email = format!("created{number}@acme.example");
            house.control.person_creates(view.portal, &[("email", &email), ("lastname", "Twice")]).await?;
        }
        for record in &records {
            record.member_becomes(house, "phone", "+49 30 3").await?;
        }
        until("created records arrive", SOON, async || {
            let here = house.system_a("acme").list().await?.len();
            Ok(if here >= 30 { Ok(()) } else { Err(format!("{here} records")) })
        })
        .await?;
        house.quiet(SOON).await?;
        for record in &records {
            let phones = (record.member(house, "phone").await?, record.property(house, "phone").await?);
            ensure(phones == ("+49 30 3".into(), "+49 30 3".into()), || format!("{phones:?}"))?;
        }
        let sizes = (house.system_a("acme").list().await?.len(), view.counts().await?.live);
        ensure(sizes == (30, 30), || format!("{sizes:?} records"))?;
        let after = view.counts().await?;
        ensure(creates(&before, &after) == 0, || "a webhook made a record in the account".into())
    })
    .await
}

#[tokio::test]
async fn what_webhooks_lose_a_poll_finds() -> Result<(), Error> {
    in_house(plan(&["acme"], "", 1_000, 500), async |house| {
        let view = View::new(house, "acme")?;
        let records = view.linked(&people("acme", 20)).await?;
        house.control.order(&FaultOrder::new(FaultKind::WebhookLost)).await?;
        for record in &records {
            house.control.person_edits(record.portal, record.external, &[("phone", "+49 30 8")]).await?;
        }
        house
            .control
            .person_creates(view.portal, &[("email", "unheard@acme.example"), ("lastname", "Of")])
            .await?;
        for record in &records {
            record.member_becomes(house, "phone", "+49 30 8").await?;
        }
        until("the created record arrives", SOON, async || {
            let here = house.system_a("acme").list().await?.len();
            Ok(if here == 21 { Ok(()) } else { Err(format!("{here} records")) })
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_deletion_crosses_from_either_side_and_nothing_comes_back() -> Result<(), Error> {
    in_house(plan(&["acme"], "", 1_000, 500), async |house| {
        let view = View::new(house, "acme")?;
        let records = view.linked(&people("acme", 10)).await?;
        let (ours, theirs) = records.split_at(5);
        for record in ours {
            house.system_a("acme").delete(&record.internal).await?;
        }
        for record in theirs {
            house.control.person_deletes(record.portal, record.external).await?;
        }
        until("both sides are empty", SOON, async || {
            let sizes = (house.system_a("acme").list().await?.len(), view.counts().await?.live);
            Ok(if sizes == (0, 0) { Ok(()) } else { Err(format!("{sizes:?}")) })
        })
        .await?;
        view.polled(3).await?;
        house.quiet(SOON).await?;
        let sizes = (house.system_a("acme").list().await?.len(), view.counts().await?.live);
        ensure(sizes == (0, 0), || format!("resurrected: {sizes:?}"))
    })
    .await
}

#[tokio::test]
async fn a_refused_field_is_set_aside_with_its_pointer_and_goes_after_mending() -> Result<(), Error> {
    in_house(plan(&["acme"], "", HOUR_MS, 500), async |house| {
        let system_a = house.system_a("acme");
        let odd = system_a.create(&json!({"email": "somebody@localhost", "family_name": "Odd"})).await?;
        let id = odd.id.ok_or("system a did not take it")?;
        system_a.create(&json!({"email": "next@acme.example", "family_name": "Next"})).await?;
        let dead = until("it is set aside", SOON, async || {
            let rows = rows(&house.get("/v1/dead?limit=100").await?);
            Ok(rows
                .into_iter()
                .find(|row| row.get("internal") == Some(&json!(id)))
                .ok_or("no dead letter".into()))
        })
        .await?;
        house.quiet(SOON).await?;
        let pointer = dead.pointer("/problems/0/pointer").cloned();
        ensure(pointer == Some(json!("/email")), || format!("{dead}"))?;
        let view = View::new(house, "acme")?;
        let ids = view.external_ids().await?;
        ensure(ids.len() == 1 && ids.contains_key("next@acme.example"), || "the next one did not go".into())?;

        house.post("/v1/pause", &json!({"connection": "acme"})).await?;
        system_a.patch(&id, &json!({"email": "somebody@acme.example"})).await?;
        let replayed = house.post("/v1/dead/replay", &json!({"seq": dead.get("seq")})).await?;
        ensure(replayed.get("count") == Some(&json!(1)), || format!("{replayed}"))?;
        house.post("/v1/resume", &json!({"connection": "acme"})).await?;
        until("it arrives", SOON, async || {
            let ids = view.external_ids().await?;
            Ok(if ids.contains_key("somebody@acme.example") {
                Ok(())
            } else {
                Err(format!("{} records", ids.len()))
            })
        })
        .await?;
        house.quiet(SOON).await?;
        ensure(view.external_ids().await?.len() == 2, || "doubled".into())?;
        let left = rows(&house.get("/v1/dead?limit=100").await?);
        ensure(left.is_empty(), || format!("still set aside: {left:?}"))
    })
    .await
}

#[tokio::test]
async fn a_conflict_for_review_is_held_shown_decided_and_carried_out() -> Result<(), Error> {
    in_house(plan(&["acme"], "on_conflict = \"review\"", HOUR_MS, 500), async |house| {
        let view = View::new(house, "acme")?;
        let records = view.linked(&people("acme", 3)).await?;
        house.post("/v1/pause", &json!({"connection": "acme"})).await?;
        for record in &records {
            let save = [("phone", "+49 30 22"), ("city", "Bonn")];
            house.control.person_edits(record.portal, record.external, &save).await?;
            record.patch(house, &json!({"phone": "+49 30 11"})).await?;
        }
        // Both sides are known before anything is written: this is a conflict, and not the window of a CRM without conditions.
        until("the webhooks are stored", SOON, async || {
            let under_way = house.webhooks_under_way().await?;
            Ok(if under_way == 0 { Ok(()) } else { Err(format!("{under_way} under way")) })
        })
        .await?;
        house.post("/v1/resume", &json!({"connection": "acme"})).await?;
        let reviews = until("the conflicts are shown", SOON, async || {
            let rows = rows(&house.get("/v1/review?limit=100").await?);
            Ok(if rows.len() == 3 { Ok(rows) } else { Err(format!("{} rows", rows.len())) })
        })
        .await?;
        // What does not conflict flows; what does stays on both sides as it is.
        for record in &records {
            record.member_becomes(house, "city", "Bonn").await?;
        }
        house.quiet(SOON).await?;
        let choices = [json!("internal"), json!("external"), json!({"values": {"/phone": "+49 30 33"}})];
        for ((record, choice), phone) in
            records.iter().zip(choices).zip(["+49 30 11", "+49 30 22", "+49 30 33"])
        {
            let both = (record.member(house, "phone").await?, record.property(house, "phone").await?);
            ensure(both == ("+49 30 11".into(), "+49 30 22".into()), || format!("not held: {both:?}"))?;
            let row = reviews.iter().find(|row| row.pointer("/entity/id") == Some(&json!(record.internal)));
            let row = row.ok_or("a conflict is not shown")?;
            ensure(row.get("fields") == Some(&json!(["/phone"])), || format!("{row}"))?;
            let decision = json!({
                "scope": "acme", "object": "contact", "id": record.internal, "connection": "acme",
                "group": row.get("group"), "choice": choice,
            });
            house.post("/v1/review/decide", &decision).await?;
            record.member_becomes(house, "phone", phone).await?;
            record.property_becomes(house, "phone", phone).await?;
        }
        house.quiet(SOON).await?;
        let left = rows(&house.get("/v1/review?limit=100").await?);
        ensure(left.is_empty(), || format!("still under review: {left:?}"))
    })
    .await
}
