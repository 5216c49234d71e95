//! Deleted and made again, on either side: a new record for a new record, nothing cleared by an old base, and nothing that was
//! deleted comes back by old news.

use serde_json::json;
use tandem_e2e::{Error, until};

use super::support::{Rest, SOON, nothing_aside};

const MAIL: &str = "ann@acme.example";

/// Ann in System A and in the account, linked: her ids.
async fn ann(rest: &Rest) -> Result<(String, String), Error> {
    let here = rest.create(json!({ "email": MAIL, "city": "Ulm", "phone": "+49 731 1" })).await?;
    let there = in_the_account(rest, &[]).await?;
    rest.linked(&here, &there).await?;
    Ok((here, there))
}

/// The one person of the account with the address who is none of these.
async fn in_the_account(rest: &Rest, but: &[&str]) -> Result<String, Error> {
    until("she is in the account", SOON, async || {
        let people = rest.people().await?;
        let hers: Vec<&str> = people
            .iter()
            .filter(|one| one["Mail"] == json!(MAIL))
            .filter_map(|one| one["Id"].as_str())
            .filter(|id| !but.contains(id))
            .collect();
        Ok(match hers[..] {
            [one] => Ok(one.to_owned()),
            _ => Err(format!("{hers:?}")),
        })
    })
    .await
}

#[tokio::test]
async fn deleted_in_the_crm_and_made_again_by_a_person_is_a_new_record() -> Result<(), Error> {
    for same_mail in [false, true] {
        let rest = Rest::build(same_mail, "").await?;
        let (here, there) = ann(&rest).await?;
        // At once: the deletion may be worked on before or after the new record shows up.
        rest.house.control.rest_person_deletes("acme", &there).await?;
        let again = rest.person(json!({ "Mail": MAIL, "City": "Bonn" })).await?;
        let now = until("a new record is there in place of the old one", SOON, async || {
            let mut found = rest.with_mail(MAIL).await?;
            let new = found.len() == 1 && found[0] != here;
            Ok(found.pop().filter(|_| new).ok_or_else(|| format!("{found:?}")))
        })
        .await?;
        rest.linked(&now, &again).await?;
        rest.here(&now, "city", json!("Bonn")).await?;
        rest.patch(&now, json!({ "phone": "+49 228 1" })).await?;
        rest.there(&again, "Phone", json!("+49 228 1")).await?;
        assert_eq!((rest.people().await?.len(), rest.reviews().await?.len()), (1, 0));
        nothing_aside(&rest.house).await?;
    }
    Ok(())
}

#[tokio::test]
async fn made_again_where_deletions_are_left_alone_it_is_joined_and_clears_nothing() -> Result<(), Error> {
    let rest = Rest::build(false, "[objects.contact]\non_external_delete = \"ignore\"\n").await?;
    let (here, there) = ann(&rest).await?;
    rest.house.control.rest_person_deletes("acme", &there).await?;
    until("the deletion was seen", SOON, async || {
        let known = rest.house.get(&format!("/v1/explain?scope=acme&object=contact&id={here}")).await?;
        let life = known["links"][0]["life"].clone();
        Ok(if life == json!("lapsed") { Ok(()) } else { Err(life.to_string()) })
    })
    .await?;
    let again = rest.person(json!({ "Mail": MAIL, "Title": "Dr" })).await?;
    rest.linked(&here, &again).await?;
    rest.here(&here, "job_title", json!("Dr")).await?;
    rest.there(&again, "Phone", json!("+49 731 1")).await?;
    rest.here(&here, "phone", json!("+49 731 1")).await?;
    let known = rest.house.get(&format!("/v1/explain?scope=acme&object=contact&id={here}")).await?;
    assert_eq!(known["links"][0]["incarnation"], json!(1), "{known}");
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn deleted_in_system_a_and_made_again_is_a_new_record_of_the_crm() -> Result<(), Error> {
    for same_mail in [false, true] {
        let rest = Rest::build(same_mail, "").await?;
        let (here, there) = ann(&rest).await?;
        // At once: the old record may still be in the account when the new one is to be made.
        let answer = rest.house.system_a("acme").delete(&here).await?;
        assert!(answer.status.is_success(), "{}", answer.body);
        let again = rest.create(json!({ "email": MAIL, "city": "Bonn" })).await?;
        let new = until("the old one is gone and a new one there", SOON, async || {
            let people = rest.people().await?;
            let ids: Vec<String> =
                people.iter().filter_map(|one| one["Id"].as_str()).map(str::to_owned).collect();
            Ok(match &ids[..] {
                [one] if *one != there => Ok(one.clone()),
                _ => Err(format!("{ids:?}")),
            })
        })
        .await?;
        rest.linked(&again, &new).await?;
        rest.there(&new, "City", json!("Bonn")).await?;
        assert_eq!(rest.mails(MAIL, 1).await?, [again]);
        rest.wait_for_reviews(0).await?;
        nothing_aside(&rest.house).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_tombstone_outlives_old_news_and_ends_with_a_direct_read() -> Result<(), Error> {
    use tandem_e2e::house::{House, Plan};
    let house = House::build(Plan::roomy(&["acme"])).await?;
    let portal = house.customer("acme")?.info.portal_id;
    let made = house.system_a("acme").create(&json!({ "email": MAIL, "city": "Ulm" })).await?;
    let here = made.id.ok_or("made")?;
    let there = until("she is in the account", SOON, async || {
        let all = house.customer("acme")?.account.list().await?;
        Ok(all.first().map(|one| one.id.clone()).ok_or_else(String::new))
    })
    .await?;
    super::support::linked(&house, &here, &there).await?;
    house.control.person_deletes(portal, there.parse()?).await?;
    until("she is deleted in System A", SOON, async || {
        Ok(house.system_a("acme").read(&here).await?.map_or(Ok(()), |found| Err(found.to_string())))
    })
    .await?;
    // News of a record that is gone: a read says that it is, and nothing comes back.
    house
        .post(
            "/v1/look",
            &json!({ "connection": "acme", "object": "contact", "records": { "external": there } }),
        )
        .await?;
    house.quiet(SOON).await?;
    assert!(house.system_a("acme").list().await?.is_empty());
    house.control.person_restores(portal, there.parse()?).await?;
    until("she is back", SOON, async || {
        let all = house.system_a("acme").list().await?;
        Ok(if all.len() == 1 { Ok(()) } else { Err(format!("{all:?}")) })
    })
    .await?;
    super::support::linked(&house, &here, &there).await?;
    let known = house.get(&format!("/v1/explain?scope=acme&object=contact&id={here}")).await?;
    assert_eq!(known["links"][0]["incarnation"], json!(1), "{known}");
    nothing_aside(&house).await
}
