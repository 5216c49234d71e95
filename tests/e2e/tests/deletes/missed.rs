//! A record of the CRM that a read knows nothing of, though nothing proves that it is gone: it is looked for again before anything is
//! made of that.

use std::collections::BTreeMap;

use serde_json::json;
use tandem_e2e::house::House;
use tandem_e2e::{Error, until};
use tandem_simulator::control::types::{FaultKind, FaultOrder, PersonDeed};

use crate::{SOON, filled, nothing_waits, people, plan, row, run, versions};

/// How often an account was asked for one record.
async fn reads(house: &House, scope: &str) -> Result<u64, Error> {
    let portal = house.customer(scope)?.info.portal_id;
    Ok(house.control.account_counts(portal).await?.calls("contacts.read"))
}

/// No record of the account is found from now on, or so often; gives the disturbance's number. Neither among the contacts nor in the
/// recycle bin: that is two calls of a read.
async fn hide(house: &House, scope: &str, times: Option<u32>) -> Result<u64, Error> {
    let missing = FaultOrder::new(FaultKind::Status { status: 404, retry_after: None });
    let missing = missing.portal(house.customer(scope)?.info.portal_id).operation("contacts.read");
    Ok(house.control.order(&FaultOrder { count: times, ..missing }).await?)
}

/// The account's one record is not found from now on, or so often, and the daemon looks for it; gives the disturbance's number.
async fn misses(house: &House, scope: &str, times: Option<u32>) -> Result<u64, Error> {
    let missing = hide(house, scope, times).await?;
    let (external, _) = people(house, scope).await?[&format!("p0@{scope}.example")];
    run(house, &["look", scope, "contact", "--external", &external.to_string()])?;
    Ok(missing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_found_for_a_moment_is_looked_for_again_and_deletes_nothing() -> Result<(), Error>
{
    let house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    let ids = filled(&house, "acme", 1).await?;
    let before =
        (versions(&house, "acme").await?, people(&house, "acme").await?, reads(&house, "acme").await?);
    // The third call finds it.
    misses(&house, "acme", Some(2)).await?;
    until("it was looked for again", SOON, async || {
        let more = reads(&house, "acme").await? - before.2;
        Ok(if more > 2 { Ok(()) } else { Err(format!("{more} calls")) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;
    assert_eq!((versions(&house, "acme").await?, people(&house, "acme").await?), (before.0, before.1));
    assert_eq!(house.get("/v1/deletes/done?limit=10").await?, json!([]));
    // And the two are one record still.
    house.system_a("acme").patch(&ids[0], &json!({ "city": "Bonn" })).await?;
    until("an edit arrives", SOON, async || {
        let there = people(&house, "acme").await?["p0@acme.example"].1.clone();
        Ok(if there["city"] == json!("Bonn") { Ok(()) } else { Err(there.to_string()) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;
    assert_eq!(people(&house, "acme").await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_not_found_is_looked_for_again_after_a_kill_before_it_counts_as_deleted()
-> Result<(), Error> {
    let scopes = ["stays", "returns"];
    let mut plan = plan(&scopes);
    // The kill comes before either is looked for again.
    plan.connection = plan.connection.replace("\"200ms\"", "\"10s\"");
    let mut house = House::build(plan).await?;
    house.walked(SOON).await?;
    let mut ids = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for scope in scopes {
        ids.insert(scope, filled(&house, scope, 1).await?.remove(0));
    }
    for scope in scopes {
        missing.insert(scope, misses(&house, scope, None).await?);
    }
    for scope in scopes {
        until("another look waits", SOON, async || {
            let row = row(&house, scope).await?;
            let waits = row["delayed"] == json!(1) && row["waiting"] == json!(0);
            Ok(if waits { Ok(()) } else { Err(row.to_string()) })
        })
        .await?;
    }
    let asked = [reads(&house, "stays").await?, reads(&house, "returns").await?];
    for scope in scopes {
        assert!(
            house.system_a(scope).read(&ids[scope]).await?.is_some(),
            "{scope}: deleted at the first look"
        );
    }
    house.kill().await?;
    house.control.withdraw(missing["returns"]).await?;
    house.start().await?;
    // Nobody edits and nothing is polled: only the look that waited tells of it.
    until("the one that is missing still is deleted", SOON, async || {
        let here = house.system_a("stays").read(&ids["stays"]).await?;
        Ok(here.map_or(Ok(()), |document| Err(document.to_string())))
    })
    .await?;
    until("the other one was looked for, too", SOON, async || {
        let more = reads(&house, "returns").await? - asked[1];
        Ok(if more > 0 { Ok(()) } else { Err(format!("{more} calls")) })
    })
    .await?;
    house.quiet(SOON).await?;
    assert!(reads(&house, "stays").await? > asked[0], "it was deleted without another look");
    assert!(house.system_a("returns").read(&ids["returns"]).await?.is_some(), "it had come back");
    let done = house.get("/v1/deletes/done?limit=10").await?;
    assert_eq!(done.as_array().map(Vec::len), Some(1), "{done}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_record_that_a_read_knows_nothing_of_yet_is_taken_in_all_the_same() -> Result<(), Error> {
    let house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    hide(&house, "acme", Some(2)).await?;
    let properties = [("email", "new@acme.example"), ("lastname", "Person")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let portal = house.customer("acme")?.info.portal_id;
    house.control.people_act(vec![PersonDeed::Create { portal, properties }]).await?;
    // One webhook tells of it, and nothing is polled.
    until("it is in System A", SOON, async || {
        let here = house.system_a("acme").list().await?;
        let all: Vec<_> = here.iter().map(|record| record.document["email"].clone()).collect();
        Ok(if all == [json!("new@acme.example")] { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;
    assert!(reads(&house, "acme").await? > 2, "it was never missed");
    assert_eq!(people(&house, "acme").await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_deleted_in_system_a_goes_from_the_crm_though_a_look_knows_nothing_of_it()
-> Result<(), Error> {
    let house = House::build(plan(&["acme"])).await?;
    house.walked(SOON).await?;
    let ids = filled(&house, "acme", 1).await?;
    let before = reads(&house, "acme").await?;
    hide(&house, "acme", Some(2)).await?;
    house.system_a("acme").delete(&ids[0]).await?;
    // One miss is no proof that it went there by itself.
    until("it is gone in the CRM", SOON, async || {
        let there = people(&house, "acme").await?.len();
        Ok(if there == 0 { Ok(()) } else { Err(format!("{there} people")) })
    })
    .await?;
    nothing_waits(&house, "acme").await?;
    assert!(reads(&house, "acme").await? - before > 2, "it was never missed");
    assert!(house.system_a("acme").read(&ids[0]).await?.is_none());
    Ok(())
}
