//! Deletions and updates that nobody edited, on the real daemon and the simulator: what the guard stops, before which call, what a
//! person says to it, and what can be undone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod missed;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::{patched, starter, write_whole};
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, PersonDeed};

pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) fn plan(scopes: &[&str]) -> Plan {
    Plan {
        connection: "[settings]\nkey_property = \"tandem_key\"\nsettle_ms = 500\npoll_every_ms = 600000\n\
                     [objects.contact]\nconfirm_after = \"200ms\"\n"
            .to_owned(),
        ..Plan::roomy(scopes)
    }
}

/// So many contacts on both sides: System A's ids by number.
pub(crate) async fn filled(house: &House, scope: &str, many: usize) -> Result<Vec<String>, Error> {
    let mut ids = Vec::new();
    for number in 0..many {
        let document = json!({
            "email": format!("p{number}@{scope}.example"), "family_name": format!("Person {number}"),
            "job_title": format!("Pilot {number}"), "city": "Ulm",
        });
        ids.push(house.system_a(scope).create(&document).await?.id.ok_or("not taken")?);
    }
    house.quiet(SOON).await?;
    assert_eq!(house.customer(scope)?.account.list().await?.len(), many);
    Ok(ids)
}

/// The account's contacts that are alive, by address: id and properties.
pub(crate) async fn people(house: &House, scope: &str) -> Result<BTreeMap<String, (u64, Value)>, Error> {
    let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
    let alive = dump.records.iter().filter(|record| !record.archived);
    Ok(alive
        .map(|record| {
            let email = record.properties.get("email").cloned().unwrap_or_default();
            (email, (record.id, json!(record.properties)))
        })
        .collect())
}

/// System A's records with their versions.
pub(crate) async fn versions(house: &House, scope: &str) -> Result<Vec<(String, u64)>, Error> {
    let mut all: Vec<_> =
        house.system_a(scope).list().await?.into_iter().map(|record| (record.id, record.version)).collect();
    all.sort();
    Ok(all)
}

/// Calls to an account that change something there.
async fn writes(house: &House, scope: &str) -> Result<u64, Error> {
    let counts = house.control.account_counts(house.customer(scope)?.info.portal_id).await?;
    let of = |name: &str| counts.calls(name);
    Ok([
        "create",
        "update",
        "archive",
        "batch-create",
        "batch-update",
        "batch-upsert",
        "batch-archive",
        "merge",
    ]
    .iter()
    .map(|what| of(&format!("contacts.{what}")))
    .sum())
}

pub(crate) async fn row(house: &House, connection: &str) -> Result<Value, Error> {
    let status = house.get(&format!("/v1/status?connection={connection}")).await?;
    Ok(status["connections"][0].clone())
}

/// Waits until the guard has stopped so many writes of a connection.
async fn stopped(house: &House, connection: &str, many: u64) -> Result<Vec<Value>, Error> {
    until(&format!("{many} writes wait for approval"), SOON, async || {
        let row = row(house, connection).await?;
        let is = row["cause"] == json!("guard") && row["withheld"] == json!(many);
        Ok(if is { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let all = house.get(&format!("/v1/deletes?connection={connection}&limit=10000")).await?;
    let all = all.as_array().cloned().unwrap_or_default();
    assert_eq!(all.len() as u64, many);
    Ok(all)
}

pub(crate) fn run(house: &House, arguments: &[&str]) -> Result<String, Error> {
    let output = house.command(arguments)?.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

pub(crate) async fn nothing_waits(house: &House, connection: &str) -> Result<(), Error> {
    house.quiet(SOON).await?;
    assert_eq!(house.get(&format!("/v1/deletes?connection={connection}")).await?, json!([]));
    assert_eq!(row(house, connection).await?["cause"], json!("none"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_mapping_that_would_rewrite_everything_is_stopped_before_the_first_call()
-> Result<(), Error> {
    let mut house = House::build(plan(&["acme", "globex"])).await?;
    house.walked(SOON).await?;
    let acme = filled(&house, "acme", 60).await?;
    filled(&house, "globex", 30).await?;
    let before =
        (versions(&house, "acme").await?, people(&house, "acme").await?, writes(&house, "acme").await?);

    // The job title is kept elsewhere from now on, where there is none: each look finds one to be written.
    let mut files = BTreeMap::new();
    for scope in ["acme", "globex"] {
        let path = house.connection_path(scope);
        let text = std::fs::read_to_string(&path)?;
        let changed =
            text.replace("[settings]\n", "[settings]\nproperties = { \"/job_title\" = \"industry\" }\n");
        assert_ne!(changed, text);
        write_whole(&path, &changed)?;
        files.insert(scope, text);
    }
    run(&house, &["reload"])?;
    for scope in ["acme", "globex"] {
        run(&house, &["look", scope, "contact", "--all"])?;
    }
    let withheld = stopped(&house, "acme", 60).await?;
    stopped(&house, "globex", 30).await?;
    house.quiet(SOON).await?;
    let now = (versions(&house, "acme").await?, people(&house, "acme").await?, writes(&house, "acme").await?);
    assert_eq!(now, before, "not one write was made on either side");
    for one in &withheld {
        assert_eq!((&one["kind"], &one["sides"]), (&json!("rewrite"), &json!(["external"])), "{one}");
        assert_eq!(one["batch"], withheld[0]["batch"]);
        let change = &one["changes"][0];
        assert_eq!(change["field"], json!("/job_title"), "{one}");
        assert!(change["to"].as_str().is_some_and(|title| title.starts_with("Pilot")), "{one}");
    }
    let said = run(&house, &["deletes", "list", "--connection", "acme"])?;
    assert!(said.contains("60 updates that no edit asked for of contact in the CRM through acme"), "{said}");
    assert!(row(&house, "acme").await?["detail"].as_str().unwrap().contains("tandem deletes list"));

    // Everything else flows on, of these records too, and nothing is forgotten by a kill.
    house.kill().await?;
    house.start().await?;
    stopped(&house, "acme", 60).await?;
    house.system_a("acme").patch(&acme[0], &json!({ "city": "Bonn" })).await?;
    let other = people(&house, "acme").await?["p1@acme.example"].0;
    house.control.person_edits(house.customer("acme")?.info.portal_id, other, &[("city", "Kiel")]).await?;
    until("both edits are carried", SOON, async || {
        let there = people(&house, "acme").await?["p0@acme.example"].1["city"].clone();
        let here = house.system_a("acme").read(&acme[1]).await?.unwrap_or_default()["city"].clone();
        Ok(if (&there, &here) == (&json!("Bonn"), &json!("Kiel")) {
            Ok(())
        } else {
            Err(format!("{there} {here}"))
        })
    })
    .await?;
    house.quiet(SOON).await?;
    stopped(&house, "acme", 60).await?;
    for record in house.system_a("acme").list().await? {
        assert!(record.document["job_title"].is_string(), "{}", record.document);
    }

    // Rejected, both sides stay as they are, and the next edit of the field flows by the new mapping.
    let batch = withheld[0]["batch"].to_string();
    assert_eq!(run(&house, &["deletes", "reject", "--batch", &batch])?, "rejected 60 records\n");
    nothing_waits(&house, "acme").await?;
    house.system_a("acme").patch(&acme[2], &json!({ "job_title": "Captain" })).await?;
    until("the edit arrives", SOON, async || {
        let there = people(&house, "acme").await?["p2@acme.example"].1.clone();
        Ok(if there["industry"] == json!("Captain") { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    run(&house, &["look", "acme", "contact", "--all"])?;
    nothing_waits(&house, "acme").await?;
    for record in house.system_a("acme").list().await? {
        assert!(record.document["job_title"].is_string(), "{}", record.document);
    }

    // When the mistake is mended, what was withheld comes to nothing, approved or not.
    let before = (versions(&house, "globex").await?, writes(&house, "globex").await?);
    write_whole(&house.connection_path("globex"), &files["globex"])?;
    run(&house, &["reload"])?;
    assert_eq!(run(&house, &["deletes", "approve", "--connection", "globex"])?, "approved 30 records\n");
    nothing_waits(&house, "globex").await?;
    assert_eq!((versions(&house, "globex").await?, writes(&house, "globex").await?), before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_would_rewrite_a_few_records_writes_them_and_an_approved_batch_is_written()
-> Result<(), Error> {
    let house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    let ids = filled(&house, "acme", 40).await?;
    // What is edited while a rule leaves the record alone is a rewrite when the rule is gone.
    let path = house.connection_path("acme");
    let text = std::fs::read_to_string(&path)?;
    let rule = "[[rules]]\nname = \"nobody\"\nwhen = \"true\"\nthen = \"skip\"\n";
    let edited = async |from: usize, to: usize, city: &str| -> Result<(), Error> {
        run(&house, &["pause", "acme"])?;
        write_whole(&path, &text.replace("[settings]", &format!("{rule}[settings]")))?;
        run(&house, &["reload"])?;
        run(&house, &["resume", "acme"])?;
        for id in &ids[from..to] {
            house.system_a("acme").patch(id, &json!({ "city": city })).await?;
        }
        house.quiet(SOON).await?;
        write_whole(&path, &text)?;
        run(&house, &["reload"])?;
        Ok(())
    };
    let living_in = async |city: &str| -> Result<usize, Error> {
        let all = people(&house, "acme").await?;
        Ok(all.values().filter(|(_, properties)| properties["city"] == json!(city)).count())
    };
    edited(0, 20, "Bonn").await?;
    let before = writes(&house, "acme").await?;
    run(&house, &["look", "acme", "contact", "--all"])?;
    until("the few are written", SOON, async || {
        let there = living_in("Bonn").await?;
        Ok(if there == 20 { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;
    assert_eq!(writes(&house, "acme").await?, before + 20, "one call each");

    // The window is full: one more is one too many, and nothing of it is written.
    edited(10, 40, "Kiel").await?;
    let before = writes(&house, "acme").await?;
    run(&house, &["look", "acme", "contact", "--all"])?;
    let withheld = stopped(&house, "acme", 30).await?;
    assert_eq!(withheld[0]["sides"], json!(["external"]));
    house.quiet(SOON).await?;
    assert_eq!((writes(&house, "acme").await?, living_in("Kiel").await?), (before, 0));
    // One by name, then the rest.
    let id = withheld[0]["entity"]["id"].as_str().unwrap();
    assert_eq!(run(&house, &["deletes", "approve", id, "--scope", "acme"])?, "approved 1 record\n");
    until("the one is written", SOON, async || {
        let there = living_in("Kiel").await?;
        Ok(if there == 1 { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    stopped(&house, "acme", 29).await?;
    assert_eq!(run(&house, &["deletes", "approve", "--all"])?, "approved 29 records\n");
    until("all are written", SOON, async || {
        let there = living_in("Kiel").await?;
        Ok(if there == 30 { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;
    assert_eq!(writes(&house, "acme").await?, before + 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_of_a_provider_that_reads_a_field_elsewhere_rewrites_nothing_unasked() -> Result<(), Error>
{
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", "").await?;
    until("it runs", SOON, async || {
        let row = house.get("/v1/status").await?["connections"][0].clone();
        Ok(if row["state"] == json!("running") { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let system_a = house.system_a("acme");
    for number in 0..30 {
        system_a.create(&json!({ "email": format!("p{number}@acme.example"), "city": "Ulm" })).await?;
    }
    until("everybody is there", SOON, async || {
        let people = house.control.rest_people("acme").await?;
        Ok(if people.len() == 30 { Ok(()) } else { Err(people.len().to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    let before = (versions(&house, "acme").await?, house.control.rest_people("acme").await?);
    let label = house.serving("starter").await?;
    house.drop_in("starter.wasm", &patched(&starter()?, "City", "Town")?)?;
    until("the other version serves", SOON, async || {
        let serving = house.serving("starter").await?;
        Ok(if serving == label { Err(serving) } else { Ok(()) })
    })
    .await?;
    run(&house, &["look", "acme", "contact", "--all"])?;
    let withheld = stopped(&house, "acme", 30).await?;
    assert!(withheld.iter().all(|one| one["changes"][0]["field"] == json!("/city")), "{withheld:?}");
    house.quiet(SOON).await?;
    assert_eq!((versions(&house, "acme").await?, house.control.rest_people("acme").await?), before);
    Ok(())
}

/// People delete contacts by their addresses, all at once.
async fn delete_there(house: &House, scope: &str, numbers: std::ops::Range<usize>) -> Result<(), Error> {
    let portal = house.customer(scope)?.info.portal_id;
    let all = people(house, scope).await?;
    let deeds = numbers.map(|number| {
        let (id, _) = all[&format!("p{number}@{scope}.example")];
        PersonDeed::Delete { portal, id }
    });
    house.control.people_act(deeds.collect()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_in_a_crm_stop_beyond_the_rate_and_wait_for_a_person_over_a_restart() -> Result<(), Error> {
    let mut house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    let ids = filled(&house, "acme", 60).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let here =
        async |house: &House| -> Result<usize, Error> { Ok(house.system_a("acme").list().await?.len()) };

    // Ten are what a person does.
    delete_there(&house, "acme", 0..10).await?;
    until("ten are gone", SOON, async || {
        let left = here(&house).await?;
        Ok(if left == 50 { Ok(()) } else { Err(left.to_string()) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;

    // Forty are not: ten more pass, and thirty wait.
    let archived = people(&house, "acme").await?;
    delete_there(&house, "acme", 10..50).await?;
    let withheld = stopped(&house, "acme", 30).await?;
    house.quiet(SOON).await?;
    assert_eq!(here(&house).await?, 40);
    assert!(withheld.iter().all(|one| one["kind"] == json!("delete") && one["sides"] == json!(["internal"])));
    let said = run(&house, &["deletes", "list"])?;
    assert!(said.contains("30 deletions of contact in System A through acme"), "{said}");

    house.kill().await?;
    house.start().await?;
    stopped(&house, "acme", 30).await?;
    // What nobody deleted flows on.
    house.system_a("acme").patch(&ids[55], &json!({ "city": "Bonn" })).await?;
    until("an edit arrives", SOON, async || {
        let there = people(&house, "acme").await?["p55@acme.example"].1.clone();
        Ok(if there["city"] == json!("Bonn") { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    // One more deletion waits with them, although it is one.
    delete_there(&house, "acme", 50..51).await?;
    let withheld = stopped(&house, "acme", 31).await?;
    let waiting: Vec<usize> = (10..51)
        .filter(|number| withheld.iter().any(|one| one["entity"]["id"] == json!(ids[*number])))
        .collect();
    assert_eq!(waiting.len(), 31);

    // A record that is restored in the CRM is not deleted any more.
    let restored = format!("p{}@acme.example", waiting[0]);
    house.control.person_restores(portal, archived[&restored].0).await?;
    stopped(&house, "acme", 30).await?;
    // One that is edited here wins over its deletion there, and is made again.
    house.system_a("acme").patch(&ids[waiting[1]], &json!({ "city": "Kiel" })).await?;
    let email = format!("p{}@acme.example", waiting[1]);
    until("the edited one is there again", SOON, async || {
        let there = people(&house, "acme").await?;
        Ok(if there.contains_key(&email) { Ok(()) } else { Err(there.len().to_string()) })
    })
    .await?;
    stopped(&house, "acme", 29).await?;

    // Approved: one.
    assert_eq!(
        run(&house, &["deletes", "approve", &ids[waiting[2]], "--scope", "acme"])?,
        "approved 1 record\n"
    );
    until("it is deleted", SOON, async || {
        let found = house.system_a("acme").read(&ids[waiting[2]]).await?;
        Ok(if found.is_none() { Ok(()) } else { Err(format!("{found:?}")) })
    })
    .await?;
    // Left alone: one. It stays here and is not made there.
    run(&house, &["deletes", "reject", &ids[waiting[3]], "--scope", "acme"])?;
    stopped(&house, "acme", 27).await?;
    // The rest was a mistake: they are made again in the CRM.
    assert_eq!(run(&house, &["deletes", "reject", "--all", "--restore"])?, "rejected 27 records\n");
    nothing_waits(&house, "acme").await?;
    let there = people(&house, "acme").await?;
    for number in &waiting[4..] {
        assert!(there.contains_key(&format!("p{number}@acme.example")), "{number} was not made again");
        assert!(house.system_a("acme").read(&ids[*number]).await?.is_some());
    }
    let alone = format!("p{}@acme.example", waiting[3]);
    assert!(!there.contains_key(&alone), "a deletion that was rejected is left alone");
    assert!(house.system_a("acme").read(&ids[waiting[3]]).await?.is_some());

    // And what passed before anybody was asked is undone.
    let done = house.get("/v1/deletes/done?limit=1000").await?;
    assert_eq!(done.as_array().map(Vec::len), Some(21));
    assert_eq!(run(&house, &["deletes", "undo", "--all"])?, "undid 21 deletions\n");
    nothing_waits(&house, "acme").await?;
    assert_eq!(here(&house).await?, 60);
    let there = people(&house, "acme").await?;
    assert_eq!(there.len(), 59, "all but the one that is left alone");
    let back = house.system_a("acme").read(&ids[3]).await?.unwrap();
    assert_eq!((&back["job_title"], &back["city"]), (&json!("Pilot 3"), &json!("Ulm")));
    assert_eq!(there["p3@acme.example"].1["jobtitle"], json!("Pilot 3"));
    assert_eq!(run(&house, &["deletes", "undo", "--all"])?, "undid nothing: there is no such thing\n");
    assert_eq!(house.control.violations().await?.total, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_changed_deletes_nothing_that_is_more_than_the_guard_allows() -> Result<(), Error> {
    let house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    filled(&house, "acme", 40).await?;
    let path = house.connection_path("acme");
    let everybody = std::fs::read_to_string(&path)?;
    let nobody = everybody
        .replace("[settings]", "[[rules]]\nname = \"nobody\"\nwhen = \"true\"\nthen = \"skip\"\n[settings]");
    assert_ne!(nobody, everybody);
    let filter = async |text: &str| -> Result<(), Error> {
        write_whole(&path, text)?;
        run(&house, &["reload"])?;
        run(&house, &["look", "acme", "contact", "--all"])?;
        house.quiet(SOON).await?;
        Ok(())
    };
    let both = async || -> Result<_, Error> {
        Ok((versions(&house, "acme").await?, people(&house, "acme").await?, writes(&house, "acme").await?))
    };

    // Whoever leaves a filter stays on both sides.
    let before = both().await?;
    filter(&nobody).await?;
    nothing_waits(&house, "acme").await?;
    assert_eq!(both().await?, before);
    // Nor is a deletion carried that nobody takes part in.
    delete_there(&house, "acme", 0..30).await?;
    house.quiet(SOON).await?;
    let before = both().await?;
    assert_eq!((before.0.len(), before.1.len()), (40, 10));

    // All of them enter again, and thirty deletions with them: not one is made.
    filter(&everybody).await?;
    let withheld = stopped(&house, "acme", 30).await?;
    assert!(withheld.iter().all(|one| one["kind"] == json!("delete") && one["sides"] == json!(["internal"])));
    assert_eq!(both().await?, before, "stopped before the first write");
    // With the filter as it was, they come to nothing although somebody approved of them.
    write_whole(&path, &nobody)?;
    run(&house, &["reload"])?;
    assert_eq!(run(&house, &["deletes", "approve", "--all"])?, "approved 30 records\n");
    nothing_waits(&house, "acme").await?;
    assert_eq!(both().await?, before);
    // And that word is not kept: they are stopped once more.
    filter(&everybody).await?;
    stopped(&house, "acme", 30).await?;
    assert_eq!(both().await?, before);
    assert_eq!(run(&house, &["deletes", "approve", "--all"])?, "approved 30 records\n");
    nothing_waits(&house, "acme").await?;
    assert_eq!(house.system_a("acme").list().await?.len(), 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_carried_left_alone_or_cuts_the_link_by_policy_and_meets_a_change_by_policy()
-> Result<(), Error> {
    let scopes = ["deletes", "detaches", "ignores", "contests"];
    let house = House::build(plan(&scopes)).await?;
    for (scope, lines) in [
        ("detaches", "on_internal_delete = \"detach\"\non_external_delete = \"detach\"\n"),
        ("ignores", "on_internal_delete = \"ignore\"\non_external_delete = \"ignore\"\n"),
        ("contests", "on_delete_conflict = \"delete\"\n"),
    ] {
        let path = house.connection_path(scope);
        let text = std::fs::read_to_string(&path)?;
        write_whole(&path, &text.replace("confirm_after", &format!("{lines}confirm_after")))?;
    }
    run(&house, &["reload"])?;
    house.walked(SOON).await?;
    let mut ids = BTreeMap::new();
    for scope in scopes {
        ids.insert(scope, filled(&house, scope, 4).await?);
    }
    let edits_there = async |scope: &str, number: usize, city: &str| -> Result<(), Error> {
        let (id, _) = people(&house, scope).await?[&format!("p{number}@{scope}.example")];
        house.control.person_edits(house.customer(scope)?.info.portal_id, id, &[("city", city)]).await?;
        Ok(())
    };
    // Who is there, by number: in System A and in the account.
    let there = async |scope: &str| -> Result<[Vec<usize>; 2], Error> {
        let all = people(&house, scope).await?;
        let mut here = Vec::new();
        for (number, id) in ids[scope].iter().enumerate() {
            if house.system_a(scope).read(id).await?.is_some() {
                here.push(number);
            }
        }
        let there = (0..4).filter(|number| all.contains_key(&format!("p{number}@{scope}.example")));
        Ok([here, there.collect()])
    };

    // The first is deleted here, the second there.
    for scope in scopes {
        house.system_a(scope).delete(&ids[scope][0]).await?;
        delete_there(&house, scope, 1..2).await?;
    }
    until("what is carried was carried", SOON, async || {
        let all = [there("deletes").await?, there("contests").await?];
        Ok(if all == [[vec![2, 3], vec![2, 3]], [vec![2, 3], vec![2, 3]]] {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        })
    })
    .await?;
    house.quiet(SOON).await?;
    for scope in ["detaches", "ignores"] {
        assert_eq!(there(scope).await?, [vec![1, 2, 3], vec![0, 2, 3]], "{scope}");
    }
    // An edit of the one that is left makes the other one again, unless the link was cut.
    for scope in ["detaches", "ignores"] {
        edits_there(scope, 0, "Kiel").await?;
        house.system_a(scope).patch(&ids[scope][1], &json!({ "city": "Bonn" })).await?;
    }
    until("what was left alone is there again", SOON, async || {
        let all = there("ignores").await?;
        Ok(if all == [vec![0, 1, 2, 3], vec![0, 1, 2, 3]] { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!(there("detaches").await?, [vec![1, 2, 3], vec![0, 2, 3]]);

    // Deleted on one side and edited on the other before either was told.
    for scope in ["deletes", "contests"] {
        run(&house, &["pause", scope])?;
        edits_there(scope, 2, "Kiel").await?;
        house.system_a(scope).delete(&ids[scope][2]).await?;
        house.system_a(scope).patch(&ids[scope][3], &json!({ "city": "Bonn" })).await?;
        delete_there(&house, scope, 3..4).await?;
        run(&house, &["resume", scope])?;
    }
    until("each policy has its way", SOON, async || {
        let all = [there("deletes").await?, there("contests").await?];
        Ok(if all == [[vec![2, 3], vec![2, 3]], [vec![], vec![]]] { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    for scope in scopes {
        nothing_waits(&house, scope).await?;
    }
    assert_eq!(
        house.system_a("deletes").read(&ids["deletes"][2]).await?.unwrap_or_default()["city"],
        json!("Kiel")
    );
    assert_eq!(people(&house, "deletes").await?["p3@deletes.example"].1["city"], json!("Bonn"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_in_system_a_stop_before_the_crm_loses_more_than_the_guard_allows() -> Result<(), Error> {
    let lines = "guard_limit = 5\non_internal_delete = \"archive\"\nconfirm_after";
    let house = House::build(Plan {
        connection: plan(&[]).connection.replace("confirm_after", lines),
        ..plan(&["acme"])
    })
    .await?;
    house.walked(SOON).await?;
    let ids = filled(&house, "acme", 20).await?;
    let portal = house.customer("acme")?.info.portal_id;
    for id in &ids[..12] {
        house.system_a("acme").delete(id).await?;
    }
    stopped(&house, "acme", 7).await?;
    house.quiet(SOON).await?;
    let archived = async || -> Result<u64, Error> {
        Ok(house.control.account_counts(portal).await?.calls("contacts.archive"))
    };
    assert_eq!((archived().await?, people(&house, "acme").await?.len()), (5, 15));
    // The metric and the text are about the same.
    assert!(
        row(&house, "acme").await?["detail"]
            .as_str()
            .unwrap()
            .starts_with("7 deletions of contact in the CRM")
    );

    assert_eq!(run(&house, &["deletes", "approve", "--connection", "acme"])?, "approved 7 records\n");
    nothing_waits(&house, "acme").await?;
    assert_eq!((archived().await?, people(&house, "acme").await?.len()), (12, 8));

    // All of them come back, with what both sides knew of them.
    assert_eq!(run(&house, &["deletes", "undo", "--connection", "acme"])?, "undid 12 deletions\n");
    nothing_waits(&house, "acme").await?;
    let there = people(&house, "acme").await?;
    assert_eq!(there.len(), 20);
    assert_eq!(there["p0@acme.example"].1["jobtitle"], json!("Pilot 0"));
    assert_eq!(house.system_a("acme").read(&ids[0]).await?.unwrap()["family_name"], json!("Person 0"));
    Ok(())
}

/// The places of an erasure that are not gone, by name.
fn not_gone(erasure: &Value) -> Vec<String> {
    let places = erasure["places"].as_array().cloned().unwrap_or_default();
    assert!(places.len() >= 8, "{erasure}");
    let left = places.iter().filter(|place| place["gone"] != json!(true));
    left.map(|place| place["place"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Places that word of the erasure's own doing may reach while it goes on: they are gone once the daemon has read them.
const ARRIVING: [&str; 2] = ["waiting hints", "webhooks that were not read yet"];

/// Orders an erasure and asks until it is done. Answers the first answer and the last: in the first, nothing but what just arrived
/// may be left.
async fn erased(house: &House, record: &[&str]) -> Result<(Value, Value), Error> {
    let order = [&["erase", "contact"], record, &["--json"]].concat();
    let first: Value = serde_json::from_str(&run(house, &order)?)?;
    let left = not_gone(&first);
    assert!(left.iter().all(|place| ARRIVING.contains(&place.as_str())), "{first}");
    let last = until("the erasure is done", SOON, async || {
        let answer: Value = serde_json::from_str(&run(house, &order)?)?;
        Ok(if answer["done"] == json!(true) { Ok(answer) } else { Err(answer.to_string()) })
    })
    .await?;
    assert_eq!(not_gone(&last), Vec::<String>::new(), "{last}");
    Ok((first, last))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_gone_from_everywhere_and_does_not_come_back() -> Result<(), Error> {
    let mut house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    let ids = filled(&house, "acme", 3).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let there = people(&house, "acme").await?["p0@acme.example"].0;
    let other = people(&house, "acme").await?["p1@acme.example"].0;
    house.system_a("acme").patch(&ids[0], &json!({ "city": "Bonn" })).await?;
    house.quiet(SOON).await?;
    // A letter about it, and everything stands still: an erasure asks nobody's leave.
    house.system_a("acme").patch(&ids[0], &json!({ "email": "ann@localhost" })).await?;
    until("it is set aside", SOON, async || {
        let dead = house.get("/v1/dead").await?;
        Ok(if dead.as_array().is_some_and(|all| all.len() == 1) { Ok(()) } else { Err(dead.to_string()) })
    })
    .await?;
    run(&house, &["pause", "--all"])?;
    house.system_a("acme").patch(&ids[0], &json!({ "city": "Kiel" })).await?;

    // A report of both sides names it.
    run(&house, &["match", "acme", "contact", "--report"])?;
    let reports = house.folder.join("data/match");
    let names_it = || -> Result<bool, Error> {
        let mut found = false;
        for entry in std::fs::read_dir(&reports)? {
            found |= std::fs::read_to_string(entry?.path())?.contains(&ids[0]);
        }
        Ok(found)
    };
    assert!(names_it()?, "the report does not name it: nothing is shown");

    let (first, _) = erased(&house, &[&ids[0], "--scope", "acme"]).await?;
    assert!(first.to_string().contains("reports of a first sync"), "{first}");
    assert!(!names_it()?, "a report names it still");
    let dump = house.control.dump(portal).await?;
    assert!(dump.records.iter().all(|record| record.id != there), "not in the bin either");
    assert_eq!(house.control.account_counts(portal).await?.calls("contacts.gdpr-delete"), 1);
    assert_eq!(house.system_a("acme").read(&ids[0]).await?, None);
    assert_eq!(house.get("/v1/dead").await?, json!([]));
    let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={}", ids[0])).await?;
    for member in ["links", "history", "intents", "dead"] {
        assert_eq!(told[member], json!([]), "{told}");
    }
    assert!(told["internal"]["document"].is_null());

    // Late words about it change nothing, and the others are as they were.
    run(&house, &["resume", "--all"])?;
    run(&house, &["look", "acme", "contact", "--external", &there.to_string()])?;
    run(&house, &["look", "acme", "contact", "--id", &ids[0]])?;
    house.quiet(SOON).await?;
    assert_eq!(house.system_a("acme").list().await?.len(), 2);
    assert_eq!(people(&house, "acme").await?.len(), 2);
    let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={}", ids[0])).await?;
    assert_eq!((&told["links"], &told["history"]), (&json!([]), &json!([])), "{told}");

    // A CRM that cannot be reached, and a kill: what is left is done when it can be.
    let storm = FaultKind::Status { status: 503, retry_after: None };
    house.control.order(&FaultOrder::new(storm).portal(portal).operation("contacts.gdpr-delete")).await?;
    let by_crm = ["erase", "contact", &other.to_string(), "--connection", "acme", "--json"];
    let erasure: Value = serde_json::from_str(&run(&house, &by_crm)?)?;
    let mut left = not_gone(&erasure);
    left.retain(|place| !ARRIVING.contains(&place.as_str()));
    assert_eq!((left, &erasure["done"]), (vec![format!("acme record {other}")], &json!(false)));
    assert_eq!(house.system_a("acme").list().await?.len(), 1);
    house.kill().await?;
    house.control.clear_faults().await?;
    house.start().await?;
    until("the rest is erased", Duration::from_secs(90), async || {
        let dump = house.control.dump(portal).await?;
        let left = dump.records.iter().any(|record| record.id == other);
        Ok(if left { Err("it is still there".to_owned()) } else { Ok(()) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert_eq!((house.system_a("acme").list().await?.len(), people(&house, "acme").await?.len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_crm_knows_no_erasure_the_record_is_deleted_and_the_proof_says_so() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", "").await?;
    until("it runs", SOON, async || {
        let row = house.get("/v1/status").await?["connections"][0].clone();
        Ok(if row["state"] == json!("running") { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let id =
        house.system_a("acme").create(&json!({ "email": "ann@acme.example" })).await?.id.ok_or("made")?;
    until("she is there", SOON, async || {
        let people = house.control.rest_people("acme").await?;
        Ok(if people.len() == 1 { Ok(()) } else { Err(people.len().to_string()) })
    })
    .await?;
    house.quiet(SOON).await?;
    let (first, _) = erased(&house, &[&id, "--scope", "acme"]).await?;
    assert!(first.to_string().contains("its provider knows no erasure"), "{first}");
    let said = run(&house, &["erase", "contact", &id, "--scope", "acme"])?;
    assert!(said.contains("Erased: every place was looked at again."), "{said}");
    assert_eq!(house.control.rest_people("acme").await?, Vec::<Value>::new());
    house.quiet(SOON).await?;
    assert_eq!(house.system_a("acme").list().await?.len(), 0);

    // Nor is it asked to archive: what it removes is gone.
    let archive = house.rest_connection("acme", "[objects.contact]\non_internal_delete = \"archive\"\n");
    write_whole(&house.connection_path("acme"), &archive)?;
    let output = house.command(&["reload"])?.output()?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("does not say that what is deleted there can be restored"), "{said}");
    Ok(())
}
