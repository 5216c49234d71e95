//! Providers that come, go and change while the daemon runs, with customers at work.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod broken;
mod folder;
mod load;
mod swap;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::rest::starter;
use tandem_e2e::{Error, until};

/// Long enough for a machine that does a dozen other things.
const SOON: Duration = Duration::from_secs(60);

fn full() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some()
}

/// More is deleted under the load than the guard would let go: it is not what these tests are about.
const UNGUARDED: &str = "[objects.contact]\nguard_share = 100\n";

/// A house with the starter and these customers at work.
async fn house(scopes: &[&str]) -> Result<House, Error> {
    let house = House::build(Plan::roomy(&[])).await?;
    house.drop_in("starter.wasm", &starter()?)?;
    until("the starter serves", SOON, async || {
        let label = house.serving("starter").await?;
        Ok(if label.starts_with("starter@") { Ok(()) } else { Err(label) })
    })
    .await?;
    for scope in scopes {
        house.rest_customer(scope, UNGUARDED).await?;
    }
    at_work(&house, scopes.len()).await?;
    Ok(house)
}

/// Waits until so many connections run.
async fn at_work(house: &House, count: usize) -> Result<(), Error> {
    until(&format!("{count} connections run"), Duration::from_secs(60), async || {
        let status = house.get("/v1/status").await?;
        let rows = status["connections"].as_array().cloned().unwrap_or_default();
        let running = rows.iter().filter(|row| row["state"] == json!("running")).count();
        Ok(if running == count { Ok(()) } else { Err(status.to_string()) })
    })
    .await
}

fn lead(number: u64) -> Value {
    json!({ "email": format!("lead{number}@example.com"), "given_name": format!("Lead {number}"), "lifecycle_stage": "lead" })
}

/// Makes a lead in System A and waits until the account has it: the word that was written for its stage.
async fn word_of(house: &House, scope: &str, number: u64) -> Result<String, Error> {
    let made = house.system_a(scope).create(&lead(number)).await?;
    assert!(made.status.is_success(), "{made:?}");
    let mail = format!("lead{number}@example.com");
    until(&format!("{mail} is in the account"), SOON, async || {
        let people = house.control.rest_people(scope).await?;
        let found = people.iter().find(|person| person["Mail"] == json!(mail));
        Ok(found
            .and_then(|person| person["Stage"].as_str())
            .map(ToOwned::to_owned)
            .ok_or("not there".to_owned()))
    })
    .await
}

async fn swapped(house: &House, before: &str) -> Result<String, Error> {
    // A version is tried for each connection that has facts of its own, with all its laws: sixty take four seconds on an idle machine,
    // and ten times that on a busy one.
    let in_time = Duration::from_secs(if full() { 600 } else { 150 });
    until("another version serves", in_time, async || {
        let row = house.provider("starter").await?.unwrap_or_default();
        let label = row["label"].as_str().unwrap_or_default().to_owned();
        if label == before || label.is_empty() {
            return Ok(Err(label));
        }
        // The record of the swap is durable before the connections move over; it is done when they have.
        let status = house.get("/v1/status").await?;
        let staying = status["connections"].as_array().into_iter().flatten().find(|connection| {
            let behind = connection["connection"].as_str().is_some_and(|id| row["behind"].get(id).is_some());
            let bound = connection["provider"].as_str().unwrap_or_default();
            bound.starts_with("starter@") && bound != label && !behind
        });
        Ok(staying.map_or(Ok(label), |connection| Err(connection.to_string())))
    })
    .await
}

/// The lines of files that are not taken, by file name.
async fn lines(house: &House) -> Result<BTreeMap<String, (String, String)>, Error> {
    let rows = house.get("/v1/providers").await?;
    let mut lines = BTreeMap::new();
    for row in rows.as_array().cloned().unwrap_or_default() {
        let file = row["file"].as_str().unwrap_or_default();
        let name = file.rsplit('/').next().unwrap_or_default().to_owned();
        let text = |member: &str| row[member].as_str().unwrap_or_default().to_owned();
        if !["serving", "pinned", "disabled"].contains(&text("state").as_str()) {
            lines.insert(name, (text("state"), text("detail")));
        }
    }
    Ok(lines)
}
