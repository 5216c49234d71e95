//! What changes while the daemon runs: a credential that somebody replaces in its file.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::people::person;
use tandem_e2e::{Error, until};

const SOON: Duration = Duration::from_secs(60);
const SCOPES: [&str; 2] = ["acme", "globex"];

/// Waits until the connections are, in this order, in these states.
async fn causes(house: &House, wanted: [&str; 2]) -> Result<(), Error> {
    until(&format!("the causes are {wanted:?}"), SOON, async || {
        let status = house.get("/v1/status").await?;
        let rows = status.get("connections").and_then(Value::as_array).cloned().unwrap_or_default();
        let seen = SCOPES.map(|scope| {
            let row = rows.iter().find(|row| row.get("connection") == Some(&json!(scope)));
            row.and_then(|row| row.get("cause")?.as_str()).unwrap_or("none").to_owned()
        });
        Ok(if seen == wanted { Ok(()) } else { Err(status.to_string()) })
    })
    .await
}

async fn reload(house: &House, changed: &[&str]) -> Result<(), Error> {
    let said = house.post("/v1/connections/reload", &json!({})).await?;
    if said.get("changed") == Some(&json!(changed)) {
        Ok(())
    } else {
        Err(format!("reload said {said}").into())
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_used_after_a_reload() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&SCOPES)).await?;
    let right = std::fs::read_to_string(house.folder.join("secrets/acme"))?;

    house.secret("acme", "pat-na1-00000000-0000-0000-0000-000000000000")?;
    reload(&house, &["acme"]).await?;
    for scope in SCOPES {
        house.system_a(scope).create(&person(scope, 1)).await?;
    }
    causes(&house, ["authorisation", "none"]).await?;
    let live = async |scope: &str| -> Result<usize, Error> {
        Ok(house.control.dump(house.customer(scope)?.info.portal_id).await?.records.len())
    };
    until("the neighbour goes on", SOON, async || {
        Ok(if live("globex").await? == 1 { Ok(()) } else { Err("nothing there".to_owned()) })
    })
    .await?;
    assert_eq!(live("acme").await?, 0, "the account lets nobody in");

    house.secret("acme", &right)?;
    reload(&house, &["acme"]).await?;
    house.quiet(SOON).await?;
    assert_eq!(live("acme").await?, 1, "what waited was carried, once");
    causes(&house, ["none", "none"]).await?;
    reload(&house, &[]).await
}

#[tokio::test]
async fn a_connection_whose_file_was_away_at_a_start_is_given_what_it_missed() -> Result<(), Error> {
    let mut house = House::build(Plan::roomy(&SCOPES)).await?;
    let acme = house.system_a("acme");
    let kept = acme.create(&person("acme", 1)).await?.id.ok_or("it was not taken")?;
    house.quiet(SOON).await?;

    house.stop().await?;
    let (file, aside) = (house.folder.join("connections/acme.toml"), house.folder.join("acme.toml"));
    std::fs::rename(&file, &aside)?;
    house.start().await?;
    // The feed goes on without it, and past these.
    let acme = house.system_a("acme");
    acme.patch(&kept, &json!({"job_title": "edited while its file was away"})).await?;
    acme.create(&person("acme", 2)).await?;
    house.system_a("globex").create(&person("globex", 3)).await?;
    house.quiet(SOON).await?;
    let records = async |scope: &str| -> Result<Vec<String>, Error> {
        let records = house.control.dump(house.customer(scope)?.info.portal_id).await?.records;
        Ok(records.iter().map(|record| format!("{record:?}")).collect())
    };
    assert_eq!(records("globex").await?.len(), 1, "the neighbour goes on");
    assert_eq!(records("acme").await?.len(), 1);

    std::fs::rename(&aside, &file)?;
    house.post("/v1/connections/reload", &json!({})).await?;
    until("what was missed is carried", SOON, async || {
        let now = records("acme").await?;
        let is_edited = now.iter().any(|record| record.contains("edited while its file was away"));
        Ok(if now.len() == 2 && is_edited { Ok(()) } else { Err(format!("{now:?}")) })
    })
    .await?;
    Ok(())
}
