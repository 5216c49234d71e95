//! Two linked records of a HubSpot account are merged: the winner's link follows, the loser's record waits for a person.

use serde_json::{Value, json};
use tandem_e2e::house::{House, Plan};
use tandem_e2e::{Error, until};

use super::support::{SOON, linked, nothing_aside, reviews, tandem, wait_for_reviews};

/// Ann and Bea, linked; then Bea's contact is merged into Ann's. Their ids in System A, and the id of what came of the merge.
async fn merged(house: &House) -> Result<(String, String, String), Error> {
    let portal = house.customer("acme")?.info.portal_id;
    let mut made = Vec::new();
    for name in ["ann", "bea"] {
        let mail = format!("{name}@acme.example");
        let answer = house.system_a("acme").create(&json!({ "email": mail, "given_name": name })).await?;
        let here = answer.id.ok_or("made")?;
        let there = until(&format!("{name} is in the account"), SOON, async || {
            let all = house.customer("acme")?.account.list().await?;
            let found = all.into_iter().find(|contact| contact.properties.get("email") == Some(&mail));
            Ok(found.map(|contact| contact.id).ok_or_else(String::new))
        })
        .await?;
        linked(house, &here, &there).await?;
        made.push((here, there));
    }
    let [(ann, winner), (bea, loser)] = &made[..] else { return Err("two".into()) };
    let result = house.control.person_merges(portal, winner.parse()?, loser.parse()?).await?;
    let result = result.id.to_string();
    linked(house, ann, &result).await?;
    let found = wait_for_reviews(house, 1).await?;
    assert_eq!(found[0]["kind"], json!("merged"), "{found:?}");
    assert_eq!(found[0]["clash"]["waits"], json!({ "internal": bea }), "{found:?}");
    Ok((ann.clone(), bea.clone(), result))
}

async fn property(house: &House, id: &str, name: &str, value: &str) -> Result<(), Error> {
    until(&format!("{id} has {name} {value}"), SOON, async || {
        let all = house.customer("acme")?.account.list().await?;
        let found = all.into_iter().find(|contact| contact.id == id);
        let own = found.and_then(|contact| contact.properties.get(name).cloned());
        Ok(if own.as_deref() == Some(value) { Ok(()) } else { Err(format!("{own:?}")) })
    })
    .await
}

async fn document(house: &House, id: &str) -> Result<Option<Value>, Error> {
    house.system_a("acme").read(id).await
}

#[tokio::test]
async fn the_loser_of_a_merge_waits_and_is_deleted_when_a_person_says_so() -> Result<(), Error> {
    let mut house = House::build(Plan::roomy(&["acme"])).await?;
    let (ann, bea, result) = merged(&house).await?;
    // An edit of the loser is not written over the winner, and nothing is made of it; not after a restart either.
    house.kill().await?;
    house.start().await?;
    house.system_a("acme").patch(&bea, &json!({ "given_name": "Beatrice" })).await?;
    house.system_a("acme").patch(&ann, &json!({ "family_name": "Archer" })).await?;
    property(&house, &result, "lastname", "Archer").await?;
    house.quiet(SOON).await?;
    wait_for_reviews(&house, 1).await?;
    let all = house.customer("acme")?.account.list().await?;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_ne!(all[0].properties.get("firstname").map(String::as_str), Some("Beatrice"));
    assert!(document(&house, &bea).await?.is_some());
    let shown = tandem(&house, &["review", "show", "contact", &bea], 0)?;
    assert!(shown.contains("choices: --merge, --apart, --new"), "{shown}");
    tandem(&house, &["review", "decide", "contact", &bea, "--merge"], 0)?;
    until("the loser is deleted in System A", SOON, async || {
        Ok(document(&house, &bea).await?.map_or(Ok(()), |found| Err(found.to_string())))
    })
    .await?;
    wait_for_reviews(&house, 0).await?;
    assert!(document(&house, &ann).await?.is_some());
    property(&house, &result, "lastname", "Archer").await?;
    nothing_aside(&house).await
}

#[tokio::test]
async fn the_loser_of_a_merge_may_be_a_record_of_its_own_again() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let (ann, bea, result) = merged(&house).await?;
    // The merged contact answers to both addresses, so that the new one needs another.
    house.system_a("acme").patch(&bea, &json!({ "email": "bea.again@acme.example" })).await?;
    tandem(&house, &["review", "decide", "contact", &bea, "--new"], 0)?;
    let own = until("she has a contact of her own", SOON, async || {
        let all = house.customer("acme")?.account.list().await?;
        let address = Some("bea.again@acme.example".to_owned());
        let found = all.into_iter().find(|contact| contact.properties.get("email") == address.as_ref());
        Ok(found.map(|contact| contact.id).ok_or_else(String::new))
    })
    .await?;
    linked(&house, &bea, &own).await?;
    linked(&house, &ann, &result).await?;
    assert!(reviews(&house).await?.is_empty());
    nothing_aside(&house).await
}

#[tokio::test]
async fn a_loser_that_is_deleted_in_system_a_is_no_question_any_more() -> Result<(), Error> {
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let (ann, bea, result) = merged(&house).await?;
    tandem(&house, &["review", "decide", "contact", &bea, "--apart"], 0)?;
    wait_for_reviews(&house, 0).await?;
    house.system_a("acme").delete(&bea).await?;
    house.system_a("acme").patch(&ann, &json!({ "given_name": "Anna" })).await?;
    property(&house, &result, "firstname", "Anna").await?;
    house.quiet(SOON).await?;
    let known = house.get(&format!("/v1/explain?scope=acme&object=contact&id={bea}")).await?;
    assert_eq!(known["links"][0]["life"], json!("deleted"), "{known}");
    assert_eq!(house.customer("acme")?.account.list().await?.len(), 1);
    nothing_aside(&house).await
}
