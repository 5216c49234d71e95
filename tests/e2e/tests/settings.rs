//! Settings of connections that change while the daemon runs, by file and by API; and customers' rules.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_e2e::house::{ADMIN, House, Plan};
use tandem_e2e::people::person;
use tandem_e2e::rest::{starter, write_whole};
use tandem_e2e::{Error, client, until};

const SOON: Duration = Duration::from_secs(30);

async fn request(
    house: &House,
    method: reqwest::Method,
    path: &str,
    text: &str,
) -> Result<(u16, String), Error> {
    let url = format!("{}{path}", house.base);
    let answer = client()?.request(method, url).bearer_auth(ADMIN).body(text.to_owned()).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A connection's row of the status.
async fn row(house: &House, connection: &str) -> Result<Value, Error> {
    let status = house.get("/v1/status").await?;
    let rows = status["connections"].as_array().cloned().unwrap_or_default();
    Ok(rows.into_iter().find(|row| row["connection"] == json!(connection)).unwrap_or_default())
}

/// The account's contact by its address: its properties.
async fn contact(house: &House, scope: &str, email: &str) -> Result<Option<Value>, Error> {
    let dump = house.control.dump(house.customer(scope)?.info.portal_id).await?;
    let found = dump
        .records
        .iter()
        .find(|record| !record.archived && record.properties.get("email").is_some_and(|own| own == email));
    Ok(found.map(|record| json!(record.properties)))
}

async fn arrives(
    house: &House,
    scope: &str,
    email: &str,
    property: &str,
    value: Option<&str>,
) -> Result<(), Error> {
    until(&format!("{email} has {property} {value:?}"), SOON, async || {
        let found = contact(house, scope, email).await?;
        let own = found
            .as_ref()
            .map(|found| found[property].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
        Ok(if own == Some(value.map(str::to_owned)) { Ok(()) } else { Err(format!("{found:?}")) })
    })
    .await
}

#[tokio::test]
async fn a_saved_setting_is_live_within_a_second_and_a_wrong_one_leaves_the_old_working() -> Result<(), Error>
{
    let house = House::build(Plan::roomy(&["acme", "globex"])).await?;
    let path = house.connection_path("acme");
    let before = std::fs::read_to_string(&path)?;
    let mut ann = person("acme", 1);
    ann["city"] = json!("Ulm");
    // HubSpot keeps addresses in lower case.
    let email = ann["email"].as_str().unwrap().to_lowercase();
    let made = house.system_a("acme").create(&ann).await?;
    arrives(&house, "acme", &email, "city", Some("Ulm")).await?;

    // The city is ignored, and the job title kept elsewhere: no restart, no word to the daemon.
    let settings = "[settings]\nignore = [\"/city\"]\nproperties = { \"/job_title\" = \"industry\" }\n";
    let changed = before.replace("[settings]\n", settings);
    assert_ne!(before, changed, "{before}");
    let began = Instant::now();
    write_whole(&path, &changed)?;
    let id = made.id.ok_or("made")?;
    until("the saved setting is live", SOON, async || {
        let log = house.log();
        Ok(if log.contains("a connection works with its changed file") { Ok(()) } else { Err(log) })
    })
    .await?;
    println!("a saved setting was live after {} ms", began.elapsed().as_millis());
    house.system_a("acme").patch(&id, &json!({ "city": "Bonn", "job_title": "Pilot" })).await?;
    arrives(&house, "acme", &email, "industry", Some("Pilot")).await?;
    arrives(&house, "acme", &email, "city", Some("Ulm")).await?;

    // Wrong in each of three ways: no TOML, an unknown key, a setting that the provider refuses.
    for (wrong, says) in [
        ("provider = ", "not TOML"),
        ("colour = \"blue\"\n", "unknown key"),
        ("[settings]\nproperties = { \"/job_title\" = 7 }\n", "settings"),
    ] {
        let text = match wrong.starts_with("[settings]") {
            true => before.replace("[settings]\n", wrong),
            false => format!("{wrong}{changed}"),
        };
        write_whole(&path, &text)?;
        until(&format!("the status tells of {says}"), SOON, async || {
            let row = row(&house, "acme").await?;
            let detail = row["detail"].as_str().unwrap_or_default();
            Ok(if detail.contains(says) && detail.contains("acme.toml") {
                Ok(())
            } else {
                Err(row.to_string())
            })
        })
        .await?;
        assert_eq!(row(&house, "acme").await?["state"], json!("running"), "the old settings work");
        let title = format!("Title for {says}");
        house.system_a("acme").patch(&id, &json!({ "job_title": title })).await?;
        arrives(&house, "acme", &email, "industry", Some(&title)).await?;
    }
    write_whole(&path, &changed)?;
    until("nothing is wrong any more", SOON, async || {
        let row = row(&house, "acme").await?;
        Ok(if row["detail"] == json!("") { Ok(()) } else { Err(row.to_string()) })
    })
    .await
}

#[tokio::test]
async fn connections_are_added_changed_paused_and_removed_by_the_api() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", "").await?;
    until("it runs", SOON, async || {
        let row = row(&house, "acme").await?;
        Ok(if row["state"] == json!("running") { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let (status, text) = request(&house, reqwest::Method::GET, "/v1/connections/acme", "").await?;
    assert_eq!((status, text.as_str()), (200, house.rest_connection("acme", "").as_str()));

    // A second customer, from a file that the API writes.
    let second = house.rest_customer("globex", "").await?;
    let globex = std::fs::read_to_string(house.connection_path("globex"))?;
    std::fs::remove_file(house.connection_path("globex"))?;
    until("it is gone again", SOON, async || {
        let row = row(&house, "globex").await?;
        Ok(if row.is_null() { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let (status, text) = request(&house, reqwest::Method::PUT, "/v1/connections/globex", &globex).await?;
    assert_eq!(status, 200, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text)?["added"], json!(["globex"]));
    house.system_a("globex").create(&json!({ "email": "a@example.com" })).await?;
    until("its record arrives", SOON, async || {
        let people = house.control.rest_people(&second.account).await?;
        Ok(if people.len() == 1 { Ok(()) } else { Err(people.len().to_string()) })
    })
    .await?;

    // What cannot be used is refused with its place, and nothing is written.
    for (id, text, says) in [
        ("globex", "provider = \"starter\"\n", "globex.toml"),
        ("globex", &globex.replace("\"starter\"", "\"nobody\""), "no provider nobody"),
        ("other", &globex, "is the account of connection globex already"),
        ("..%2Ftandem", &globex, "not a connection's name"),
    ] {
        let (status, said) =
            request(&house, reqwest::Method::PUT, &format!("/v1/connections/{id}"), text).await?;
        assert_eq!(status, 422, "{id}: {said}");
        assert!(said.contains(says), "{id}: {said}");
    }
    assert_eq!(std::fs::read_to_string(house.connection_path("globex"))?, globex);
    assert!(!house.connection_path("other").exists());

    let paused = format!("paused = true\n{globex}");
    let (status, said) = request(&house, reqwest::Method::PUT, "/v1/connections/globex", &paused).await?;
    assert_eq!(status, 200, "{said}");
    assert_eq!(row(&house, "globex").await?["state"], json!("paused"));
    house.system_a("globex").create(&json!({ "email": "b@example.com" })).await?;

    let (status, said) = request(&house, reqwest::Method::DELETE, "/v1/connections/globex", "").await?;
    assert_eq!((status, serde_json::from_str::<Value>(&said)?["removed"].clone()), (200, json!(["globex"])));
    assert!(row(&house, "globex").await?.is_null());
    assert_eq!(request(&house, reqwest::Method::DELETE, "/v1/connections/globex", "").await?.0, 404);
    assert_eq!(request(&house, reqwest::Method::GET, "/v1/connections/globex", "").await?.0, 404);
    // It comes back, and with it what was made while it was gone.
    house.system_a("globex").create(&json!({ "email": "c@example.com" })).await?;
    assert_eq!(request(&house, reqwest::Method::PUT, "/v1/connections/globex", &globex).await?.0, 200);
    until("everybody is in the account", SOON, async || {
        let people = house.control.rest_people(&second.account).await?;
        Ok(if people.len() == 3 { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await
}

#[tokio::test]
async fn a_record_that_leaves_a_filter_is_left_alone_and_one_that_enters_brings_what_changed_meanwhile()
-> Result<(), Error> {
    let rules = "[[rules]]\nname = \"customers only\"\nwhen = \"record.lifecycle_stage != 'customer'\"\nthen = \"skip\"\n\
                 [[rules]]\nname = \"no nameless\"\nwhen = \"record.family_name == null\"\nthen = \"hold\"\n";
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    house.rest_customer("acme", rules).await?;
    until("it runs", SOON, async || {
        let row = row(&house, "acme").await?;
        Ok(if row["state"] == json!("running") { Ok(()) } else { Err(row.to_string()) })
    })
    .await?;
    let system_a = house.system_a("acme");
    let person =
        json!({ "email": "ann@example.com", "family_name": "Ash", "city": "Ulm", "lifecycle_stage": "lead" });
    let id = system_a.create(&person).await?.id.ok_or("made")?;
    let people = async || house.control.rest_people("acme").await;
    let explained = async |says: &str| {
        until(&format!("the history says {says}"), SOON, async || {
            let told = house.get(&format!("/v1/explain?scope=acme&object=contact&id={id}")).await?;
            let history = told["history"].to_string();
            Ok(if history.contains(says) { Ok(()) } else { Err(history) })
        })
        .await
    };
    explained("rule customers only").await?;
    house.quiet(SOON).await?;
    assert_eq!(people().await?, Vec::<Value>::new(), "a lead stays out");

    // It enters.
    system_a.patch(&id, &json!({ "lifecycle_stage": "customer" })).await?;
    until("the customer is in the account", SOON, async || {
        let people = people().await?;
        Ok(if people.len() == 1 && people[0]["City"] == json!("Ulm") {
            Ok(())
        } else {
            Err(format!("{people:?}"))
        })
    })
    .await?;
    let theirs = people().await?[0]["Id"].as_str().unwrap_or_default().to_owned();

    // It leaves: what changes on either side stays there, and nothing is deleted.
    system_a.patch(&id, &json!({ "lifecycle_stage": "lead", "city": "Bonn" })).await?;
    house.quiet(SOON).await?;
    house
        .control
        .rest_person_edits("acme", &theirs, &json!({ "Phone": "+49 30 1234567", "Stage": "Prospect" }))
        .await?;
    house.quiet(SOON).await?;
    assert_eq!(people().await?[0]["City"], json!("Ulm"), "left alone at the CRM");
    assert_eq!(system_a.read(&id).await?.unwrap()["phone"], Value::Null, "and in System A");

    // It enters again: both sides' changes flow.
    system_a.patch(&id, &json!({ "lifecycle_stage": "customer" })).await?;
    until("both sides are the same again", SOON, async || {
        let (ours, theirs) = (system_a.read(&id).await?.unwrap_or_default(), people().await?[0].clone());
        let same = ours["city"] == json!("Bonn")
            && theirs["City"] == json!("Bonn")
            && !ours["phone"].is_null()
            && theirs["Stage"] == json!("Customer");
        Ok(if same { Ok(()) } else { Err(format!("{ours} {theirs}")) })
    })
    .await?;

    // Another is held for a person, and goes when it is mended.
    let held = system_a
        .create(&json!({ "email": "x@example.com", "lifecycle_stage": "customer" }))
        .await?
        .id
        .ok_or("made")?;
    let dead = until("it is set aside", SOON, async || {
        let dead = house.get("/v1/dead").await?;
        Ok(if dead.to_string().contains("no nameless") { Ok(dead) } else { Err(dead.to_string()) })
    })
    .await?;
    assert_eq!(dead.as_array().map(Vec::len), Some(1));
    system_a.patch(&held, &json!({ "family_name": "Known" })).await?;
    until("it is in the account", SOON, async || {
        let people = people().await?;
        Ok(if people.len() == 2 { Ok(()) } else { Err(format!("{people:?}")) })
    })
    .await
}
