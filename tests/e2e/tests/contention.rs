//! Edits that meet: two CRMs of one customer, and a person who edits a record under a write of ours.
#![allow(clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::write_whole;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, NotedWrite, Rewrite, Writer};

const SOON: Duration = Duration::from_secs(60);

/// Polls only once in an hour: what is found is found by webhooks.
const SETTINGS: &str =
    "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 3600000\n";

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(what().into()) }
}

/// A house with two accounts that both serve scope `acme`; the second connection's file is changed while the daemon runs.
/// `sales` and `support` are lines of the two files below `[objects.contact]`.
async fn two_crms(sales: &str, support: &str) -> Result<House, Error> {
    let plan =
        Plan { connection: format!("{SETTINGS}[objects.contact]\n"), ..Plan::roomy(&["acme", "support"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    for (name, own) in [("acme", sales), ("support", support)] {
        let path = house.connection_path(name);
        let text = std::fs::read_to_string(&path)?;
        let text = text.replace("scope = \"support\"", "scope = \"acme\"");
        let text = text.replace("[objects.contact]\n", &format!("[objects.contact]\n{own}\n"));
        write_whole(&path, &text)?;
    }
    house.post("/v1/connections/reload", &json!({})).await?;
    Ok(house)
}

/// A record of System A with its id in each account.
struct Linked {
    internal: String,
    external: Vec<u64>,
}

async fn linked(house: &House, accounts: &[&str], count: usize) -> Result<Vec<Linked>, Error> {
    let mut records = Vec::new();
    for number in 0..count {
        let email = format!("someone{number}@acme.example");
        let document = json!({
            "email": email, "given_name": "Some", "family_name": format!("One {number}"),
            "phone": "+49 30 555", "job_title": "Clerk", "company_name": "Acme",
        });
        let internal = house.system_a("acme").create(&document).await?.id.ok_or("made")?;
        records.push((internal, email));
    }
    let mut all = Vec::new();
    for (internal, email) in records {
        let mut external = Vec::new();
        for account in accounts {
            let id = until(&format!("{email} is in {account}"), SOON, async || {
                let dump = house.control.dump(house.customer(account)?.info.portal_id).await?;
                let found = dump.records.iter().find(|record| record.properties.get("email") == Some(&email));
                Ok(found.map(|record| record.id).ok_or_else(|| "not there".to_owned()))
            })
            .await?;
            external.push(id);
        }
        all.push(Linked { internal, external });
    }
    house.quiet(SOON).await?;
    Ok(all)
}

/// What System A and each of the accounts have of a field.
async fn everywhere(
    house: &House,
    accounts: &[&str],
    record: &Linked,
    member: &str,
    property: &str,
) -> Result<Vec<String>, Error> {
    let document = house.system_a("acme").read(&record.internal).await?.ok_or("not in system a")?;
    let document = document.get("document").cloned().unwrap_or(document);
    let mut all = vec![document[member].as_str().unwrap_or_default().to_owned()];
    for (account, id) in accounts.iter().zip(&record.external) {
        let dump = house.control.dump(house.customer(account)?.info.portal_id).await?;
        let found = dump.records.iter().find(|record| record.id == *id);
        all.push(found.and_then(|record| record.properties.get(property).cloned()).unwrap_or_default());
    }
    Ok(all)
}

/// What is known of a record, for the one who reads why a test failed.
async fn story(house: &House, internal: &str) -> Result<String, Error> {
    let explained =
        house.get(&format!("/v1/explain?scope=acme&object=contact&id={internal}&field=/job_title")).await?;
    let reviews = house.get("/v1/review").await?;
    Ok(format!("{explained:#}\nunder review: {reviews:#}"))
}

async fn reviews(house: &House, kind: &str) -> Result<Vec<Value>, Error> {
    let all = house.get("/v1/review").await?;
    let all = all.as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|review| review["kind"] == kind).collect())
}

#[tokio::test]
async fn of_two_crms_the_higher_ranked_one_wins_whichever_edit_is_told_first() -> Result<(), Error> {
    const RECORDS: usize = 20;
    let accounts = ["acme", "support"];
    let house = two_crms("rank = 2", "rank = 1").await?;
    let records = linked(&house, &accounts, RECORDS).await?;
    // Which of the two webhooks comes first is a matter of chance.
    let delayed = FaultKind::WebhookDelayed { ms: 0, jitter_ms: 300 };
    house.control.order(&FaultOrder::new(delayed)).await?;
    for round in 0..3 {
        for (number, record) in records.iter().enumerate() {
            for (account, id) in accounts.iter().zip(&record.external) {
                let value = format!("{account} {round} {number}");
                let portal = house.customer(account)?.info.portal_id;
                house.control.person_edits(portal, *id, &[("jobtitle", &value)]).await?;
            }
        }
        for (number, record) in records.iter().enumerate() {
            let wins = vec![format!("support {round} {number}"); 3];
            let equal =
                until(&format!("round {round}: record {number} is the same everywhere"), SOON, async || {
                    let all = everywhere(&house, &accounts, record, "job_title", "jobtitle").await?;
                    Ok(if all == wins { Ok(()) } else { Err(format!("{all:?}")) })
                })
                .await;
            if let Err(error) = equal {
                return Err(format!("{error}\n{}", story(&house, &record.internal).await?).into());
            }
        }
        house.quiet(SOON).await?;
    }
    // It was the rank that decided, and it is told.
    let mut told = 0;
    for record in &records {
        let explained =
            house.get(&format!("/v1/explain?scope=acme&object=contact&id={}", record.internal)).await?;
        told += explained["history"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|entry| entry["why"].as_str().is_some_and(|why| why.contains("by rank")))
            .count();
    }
    println!("{told} of {} contests were decided by rank", 3 * RECORDS);
    ensure(told >= RECORDS, || format!("only {told} contests"))?;
    ensure(reviews(&house, "held").await?.is_empty(), || "something is held".into())
}

#[tokio::test]
async fn two_crms_that_fight_over_a_form_are_stopped_on_both_links_and_let_go_on_both() -> Result<(), Error> {
    let accounts = ["acme", "support"];
    let house = two_crms("on_rewrite = \"adopt\"", "on_rewrite = \"adopt\"").await?;
    let record = linked(&house, &accounts, 1).await?.remove(0);
    for (account, rewrite) in accounts.iter().zip([Rewrite::Upper, Rewrite::Title]) {
        let automation = FaultKind::Automation { property: "jobtitle".into(), rewrite, in_response: true };
        let portal = house.customer(account)?.info.portal_id;
        house.control.order(&FaultOrder::new(automation).portal(portal)).await?;
    }
    house.system_a("acme").patch(&record.internal, &json!({"job_title": "head of sales"})).await?;
    let frozen = until("the field is frozen on both links", SOON, async || {
        let frozen = reviews(&house, "frozen").await?;
        Ok(if frozen.len() == 2 { Ok(frozen) } else { Err(format!("{frozen:?}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    let why = frozen[0]["why"].as_str().unwrap_or_default();
    ensure(frozen[1]["why"] == why, || format!("{frozen:?}"))?;
    for says in ["internal from acme at", "internal from support at", "external at"] {
        ensure(why.contains(says), || format!("{says}: {why}"))?;
    }
    let before = house.control.counts().await?;
    for account in accounts {
        let all = json!({"connection": account, "object": "contact", "records": "all"});
        house.post("/v1/look", &all).await?;
    }
    house.quiet(SOON).await?;
    let after = house.control.counts().await?;
    ensure(before.calls("contacts.update") == after.calls("contacts.update"), || "it is not quiet".into())?;

    house.control.clear_faults().await?;
    let target =
        json!({"scope": "acme", "object": "contact", "id": record.internal, "connection": "support"});
    house.post("/v1/review/unfreeze", &target).await?;
    // What the last server made of the value flows first; an edit before that would contend with it.
    house.quiet(SOON).await?;
    house.system_a("acme").patch(&record.internal, &json!({"job_title": "pilot"})).await?;
    until("it flows again to both", SOON, async || {
        let all = everywhere(&house, &accounts, &record, "job_title", "jobtitle").await?;
        Ok(if all == ["pilot", "pilot", "pilot"] { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    ensure(reviews(&house, "frozen").await?.is_empty(), || "still frozen".into())
}

#[tokio::test]
async fn an_edit_under_our_write_is_found_by_its_webhook_and_goes_by_policy() -> Result<(), Error> {
    const RECORDS: usize = 10;
    let policies = "[objects.contact.fields]\n\"/phone\" = { on_conflict = \"external\" }\n\
                    \"/job_title\" = { on_conflict = \"review\" }\n\"/company_name\" = { on_conflict = \"internal\" }\n";
    let plan =
        Plan { connection: format!("{SETTINGS}[objects.contact]\n{policies}"), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let accounts = ["acme"];
    let portal = house.customer("acme")?.info.portal_id;
    let records = linked(&house, &accounts, RECORDS).await?;
    let delayed = FaultKind::WebhookDelayed { ms: 8_000, jitter_ms: 500 };
    let delay = house.control.order(&FaultOrder::new(delayed)).await?;
    let theirs = [("phone", "+49 30 222"), ("jobtitle", "Theirs"), ("company", "Theirs")];
    for record in &records {
        house.control.person_edits(portal, record.external[0], &theirs).await?;
        let ours = json!({"phone": "+49 30 111", "job_title": "Ours", "company_name": "Ours"});
        house.system_a("acme").patch(&record.internal, &ours).await?;
    }
    // Our write went over it before anybody told of it, or the test shows nothing.
    for record in &records {
        until("the person's edit is overwritten", Duration::from_secs(7), async || {
            let all = everywhere(&house, &accounts, record, "company_name", "company").await?;
            Ok(if all == ["Ours", "Ours"] { Ok(()) } else { Err(format!("{all:?}")) })
        })
        .await?;
    }
    house.control.withdraw(delay).await?;
    for record in &records {
        until("the overtaken number is back", SOON, async || {
            let all = everywhere(&house, &accounts, record, "phone", "phone").await?;
            Ok(if all == ["+49 30 222", "+49 30 222"] { Ok(()) } else { Err(format!("{all:?}")) })
        })
        .await?;
    }
    house.quiet(SOON).await?;
    let held = reviews(&house, "held").await?;
    ensure(held.len() == RECORDS, || format!("{} held: {held:?}", held.len()))?;
    for review in &held {
        ensure(review["internal_values"] == json!({"/job_title": "Ours"}), || review.to_string())?;
        ensure(review["external_values"] == json!({"/job_title": "Theirs"}), || review.to_string())?;
    }
    for record in &records {
        let all = everywhere(&house, &accounts, record, "company_name", "company").await?;
        ensure(all == ["Ours", "Ours"], || format!("{all:?}"))?;
        let explained =
            house.get(&format!("/v1/explain?scope=acme&object=contact&id={}", record.internal)).await?;
        let history = explained["history"].as_array().cloned().unwrap_or_default();
        let lost = history.iter().find(|entry| {
            entry["what"] == "overtaken" && entry["overtaken"]["/company_name"]["external"] == "Theirs"
        });
        ensure(lost.is_some(), || format!("what was lost is not in the history: {history:?}"))?;
    }
    // A decision for the CRM brings the value back to both sides.
    let decision = json!({
        "scope": "acme", "object": "contact", "id": records[0].internal, "connection": "acme",
        "group": "/job_title", "choice": "external",
    });
    house.post("/v1/review/decide", &decision).await?;
    until("the decision is carried out", SOON, async || {
        let all = everywhere(&house, &accounts, &records[0], "job_title", "jobtitle").await?;
        Ok(if all == ["Theirs", "Theirs"] { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    house.quiet(SOON).await
}

/// Within this time nobody tells of an edit whose webhook is delayed by eight seconds.
const UNTOLD: Duration = Duration::from_secs(7);

/// Waits until System A and the account have such cities.
async fn city_becomes(
    house: &House,
    record: &Linked,
    within: Duration,
    is: impl Fn(&[String]) -> bool,
) -> Result<(), Error> {
    until("the city is another", within, async || {
        let all = everywhere(house, &["acme"], record, "city", "city").await?;
        Ok(if is(&all) { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await
}

/// An automation of the CRM has a form of its own for what anybody saves: the CRM never has just the value that is given back.
#[tokio::test]
async fn an_edit_under_our_write_is_given_back_once_where_an_automation_rewrites_it() -> Result<(), Error> {
    let policy = "on_conflict = \"external\"\nloop_limit = 1000";
    let plan =
        Plan { connection: format!("{SETTINGS}[objects.contact]\n{policy}\n"), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let portal = house.customer("acme")?.info.portal_id;
    house.control.set_settings(portal, json!({ "journal": true })).await?;
    let record = linked(&house, &["acme"], 1).await?.remove(0);
    let habit =
        FaultKind::Automation { property: "city".to_owned(), rewrite: Rewrite::Title, in_response: true };
    house.control.order(&FaultOrder::new(habit).portal(portal)).await?;
    let delayed = FaultKind::WebhookDelayed { ms: 8_000, jitter_ms: 0 };
    let delay = house.control.order(&FaultOrder::new(delayed)).await?;
    house.control.person_edits(portal, record.external[0], &[("city", "bad TÖLZ")]).await?;
    house.system_a("acme").patch(&record.internal, &json!({ "city": "ulm" })).await?;
    // Our write went over it before anybody told of it, or the test shows nothing.
    city_becomes(&house, &record, UNTOLD, |all| all == ["ulm", "Ulm"]).await?;
    house.control.withdraw(delay).await?;
    city_becomes(&house, &record, SOON, |all| all[1] == "Bad Tölz" && all[0] != "ulm").await?;
    house.quiet(SOON).await?;
    // What the person typed and what the automation made of it have the same time. Told of together the automation's counts, and
    // otherwise the one that is told first.
    let all = everywhere(&house, &["acme"], &record, "city", "city").await?;
    ensure(["Bad Tölz", "bad TÖLZ"].contains(&all[0].as_str()) && all[1] == "Bad Tölz", || {
        format!("{all:?}")
    })?;
    let writes = house.crm("acme")?.writes().await?;
    let ours = |write: &&NotedWrite| write.by == Writer::Api && write.members.contains_key("city");
    let written: Vec<&NotedWrite> = writes.iter().filter(ours).collect();
    ensure(written.len() == 2, || format!("one that overtook, and one that gives back: {written:?}"))
}

/// The webhook is there before it is known that the write took effect.
#[tokio::test]
async fn an_edit_under_a_write_whose_answer_was_lost_is_found_by_its_webhook() -> Result<(), Error> {
    let policy = "on_conflict = \"external\"";
    let plan = Plan {
        connection: format!("{SETTINGS}[objects.contact]\n{policy}\n"),
        main: "[retry]\nfirst = \"10s\"\n".to_owned(),
        ..Plan::roomy(&["acme"])
    };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let record = linked(&house, &["acme"], 1).await?.remove(0);
    let delayed = FaultKind::WebhookDelayed { ms: 8_000, jitter_ms: 0 };
    let delay = house.control.order(&FaultOrder::new(delayed)).await?;
    let lost = FaultOrder::new(FaultKind::DropAfter).portal(portal).operation("contacts.update");
    house.control.order(&lost.times(1)).await?;
    house.control.person_edits(portal, record.external[0], &[("city", "Theirs")]).await?;
    house.system_a("acme").patch(&record.internal, &json!({ "city": "Ours" })).await?;
    city_becomes(&house, &record, UNTOLD, |all| all == ["Ours", "Ours"]).await?;
    house.control.withdraw(delay).await?;
    city_becomes(&house, &record, SOON, |all| all == ["Theirs", "Theirs"]).await?;
    house.quiet(SOON).await
}

#[tokio::test]
async fn an_edit_in_the_crm_brings_back_what_was_deleted_in_system_a_meanwhile() -> Result<(), Error> {
    let plan = Plan { connection: format!("{SETTINGS}[objects.contact]\n"), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let record = linked(&house, &["acme"], 1).await?.remove(0);
    let portal = house.customer("acme")?.info.portal_id;
    house.quiet(SOON).await?;
    house.post("/v1/pause", &json!({ "connection": "acme" })).await?;
    house.system_a("acme").delete(&record.internal).await?;
    house.control.person_edits(portal, record.external[0], &[("jobtitle", "Kept")]).await?;
    // HubSpot takes no condition: a deletion that is carried over before anybody tells of the edit goes over it.
    until("both wait", SOON, async || {
        let (undone, hooks) = (house.undone().await?, house.webhooks_under_way().await?);
        Ok(if undone == 2 && hooks == 0 { Ok(()) } else { Err(format!("{undone} hints, {hooks} webhooks")) })
    })
    .await?;
    house.post("/v1/resume", &json!({ "connection": "acme" })).await?;
    until("the record is back with the edit", SOON, async || {
        let found = house.system_a("acme").read(&record.internal).await?.unwrap_or_default();
        let document = found.get("document").cloned().unwrap_or(found);
        Ok(if document["job_title"] == "Kept" { Ok(()) } else { Err(document.to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    let all = everywhere(&house, &["acme"], &record, "job_title", "jobtitle").await?;
    ensure(all == ["Kept", "Kept"], || format!("{all:?}"))
}

#[tokio::test]
async fn under_newest_the_later_edit_wins_where_the_crm_tells_when_it_was_made() -> Result<(), Error> {
    const APART: Duration = Duration::from_millis(300);
    let newest = "on_conflict = \"newest\"\nclock_tolerance = \"100ms\"\n";
    let plan =
        Plan { connection: format!("{SETTINGS}[objects.contact]\n{newest}"), ..Plan::roomy(&["acme"]) };
    let house = House::build(plan).await?;
    house.walked(SOON).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let records = linked(&house, &["acme"], 3).await?;
    house.post("/v1/pause", &json!({ "connection": "acme" })).await?;
    let theirs = async |record: &Linked| {
        house.control.person_edits(portal, record.external[0], &[("jobtitle", "Theirs")]).await
    };
    let ours = json!({ "job_title": "Ours" });
    // The first record is edited in the CRM first, the second one in System A; of the third one's edit nobody tells.
    theirs(&records[0]).await?;
    house.system_a("acme").patch(&records[1].internal, &ours).await?;
    let lost = house.control.order(&FaultOrder::new(FaultKind::WebhookLost)).await?;
    theirs(&records[2]).await?;
    house.control.withdraw(lost).await?;
    // Not a wait for anything: the time between the edits is what decides.
    tokio::time::sleep(APART).await;
    house.system_a("acme").patch(&records[0].internal, &ours).await?;
    theirs(&records[1]).await?;
    house.system_a("acme").patch(&records[2].internal, &ours).await?;
    until("all that was told waits", SOON, async || {
        let (undone, hooks) = (house.undone().await?, house.webhooks_under_way().await?);
        Ok(if undone == 5 && hooks == 0 { Ok(()) } else { Err(format!("{undone} hints, {hooks} webhooks")) })
    })
    .await?;
    let unheard = json!({ "external": records[2].external[0].to_string() });
    let look = json!({ "connection": "acme", "object": "contact", "records": unheard });
    house.post("/v1/look", &look).await?;
    house.post("/v1/resume", &json!({ "connection": "acme" })).await?;
    for (record, wins) in records.iter().zip(["Ours", "Theirs"]) {
        let settled = until("the later edit is on both sides", SOON, async || {
            let all = everywhere(&house, &["acme"], record, "job_title", "jobtitle").await?;
            Ok(if all == [wins, wins] { Ok(()) } else { Err(format!("{all:?}, not {wins}")) })
        })
        .await;
        if let Err(error) = settled {
            return Err(format!("{error}\n{}", story(&house, &record.internal).await?).into());
        }
    }
    house.quiet(SOON).await?;
    let held = reviews(&house, "held").await?;
    ensure(held.len() == 1 && held[0]["entity"]["id"] == json!(records[2].internal), || format!("{held:?}"))?;
    let why = held[0]["why"].as_str().unwrap_or_default();
    ensure(why.contains("the CRM gives no time for the field"), || why.to_owned())?;
    let all = everywhere(&house, &["acme"], &records[2], "job_title", "jobtitle").await?;
    ensure(all == ["Ours", "Theirs"], || format!("{all:?}"))
}
