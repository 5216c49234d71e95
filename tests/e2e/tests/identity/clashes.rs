//! Records of which it cannot be told whom they are: a question for a person, that is asked once, survives a restart, and ends by
//! itself when it is gone.

use serde_json::{Value, json};
use tandem_e2e::{Error, until};

use super::support::{Rest, SOON, nothing_aside, reviews, tandem};

/// An account with two people of one address, of whom one is linked: its id, the other's id, and System A's.
async fn doubled(rest: &Rest) -> Result<(String, String, String), Error> {
    let here = rest.create(json!({ "email": "Ann@acme.example", "city": "Ulm" })).await?;
    let first = until("she is in the account", SOON, async || {
        let people = rest.people().await?;
        Ok(people.first().and_then(|one| one["Id"].as_str()).map(str::to_owned).ok_or_else(String::new))
    })
    .await?;
    rest.linked(&here, &first).await?;
    let second = rest.person(json!({ "Mail": "ann@ACME.example", "Phone": "+49 30 2" })).await?;
    let reviews = rest.wait_for_reviews(1).await?;
    let review = &reviews[0];
    assert_eq!(review["kind"], json!("duplicate"), "{review}");
    assert_eq!(review["external"], json!(second), "{review}");
    assert_eq!(review["entity"]["id"], json!(here), "{review}");
    assert_eq!(review["clash"]["rivals"], json!([{ "internal": here, "external": first }]), "{review}");
    Ok((first, second, here))
}

#[tokio::test]
async fn a_second_person_with_one_address_is_a_question_and_nobody_is_doubled() -> Result<(), Error> {
    let mut rest = Rest::build(true, "").await?;
    let (first, second, here) = doubled(&rest).await?;
    let since = rest.reviews().await?[0]["since"].clone();
    // Hints keep arriving: it is the same question, as old as before. The linked one goes on.
    rest.edit(&second, json!({ "Phone": "+49 30 3" })).await?;
    rest.edit(&first, json!({ "Title": "Dr" })).await?;
    rest.here(&here, "job_title", json!("Dr")).await?;
    rest.house.quiet(SOON).await?;
    assert_eq!(rest.wait_for_reviews(1).await?[0]["since"], since);
    let status = rest.house.get("/v1/status").await?;
    assert_eq!(status["connections"][0]["review"], json!(1), "{status}");
    // It survives a crash, and so does the way out of it.
    rest.restart().await?;
    rest.wait_for_reviews(1).await?;
    let listed = tandem(&rest.house, &["review", "list"], 0)?;
    assert!(listed.contains("duplicate"), "{listed}");
    for name in [second.as_str(), here.as_str(), first.as_str()] {
        let shown = tandem(&rest.house, &["review", "show", "contact", name], 0)?;
        assert!(shown.contains(&format!("choices: --link {here}, --apart")), "{shown}");
    }
    for (choice, says) in
        [(&["--link", "nobody"][..], "is not one of the records"), (&["--new"], "the choices are")]
    {
        let arguments = [&["review", "decide", "contact", second.as_str()][..], choice].concat();
        let refused = tandem(&rest.house, &arguments, 1)?;
        assert!(refused.contains(says), "{refused}");
    }
    // It is the second one: the first is left alone from now on.
    tandem(&rest.house, &["review", "decide", "contact", &second, "--link", &here], 0)?;
    rest.linked(&here, &second).await?;
    rest.there(&second, "City", json!("Ulm")).await?;
    rest.here(&here, "phone", json!("+49 30 3")).await?;
    rest.edit(&second, json!({ "Company": "Acme" })).await?;
    rest.here(&here, "company_name", json!("Acme")).await?;
    rest.edit(&first, json!({ "Company": "Other", "Title": null })).await?;
    rest.house.quiet(SOON).await?;
    rest.wait_for_reviews(0).await?;
    rest.here(&here, "company_name", json!("Acme")).await?;
    assert_eq!((rest.mails("Ann@acme.example", 1).await?, rest.people().await?.len()), (vec![here], 2));
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn a_question_ends_by_itself_when_either_of_the_two_is_deleted() -> Result<(), Error> {
    // The one that waits.
    let rest = Rest::build(true, "").await?;
    let (_, second, here) = doubled(&rest).await?;
    rest.house.control.rest_person_deletes("acme", &second).await?;
    rest.wait_for_reviews(0).await?;
    assert_eq!(rest.mails("Ann@acme.example", 1).await?, [here]);

    // The one that is linked: the other one is a record of its own then.
    let rest = Rest::build(true, "").await?;
    let (first, second, here) = doubled(&rest).await?;
    rest.house.control.rest_person_deletes("acme", &first).await?;
    rest.wait_for_reviews(0).await?;
    let now = rest.mails("ann@ACME.example", 1).await?;
    assert_ne!(now, [here]);
    rest.linked(&now[0], &second).await?;
    assert_eq!(rest.people().await?.len(), 1);
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn a_question_ends_by_itself_when_either_gets_another_address() -> Result<(), Error> {
    let rest = Rest::build(true, "").await?;
    let (first, second, here) = doubled(&rest).await?;
    rest.patch(&here, json!({ "email": "ann.new@acme.example" })).await?;
    rest.there(&first, "Mail", json!("ann.new@acme.example")).await?;
    rest.wait_for_reviews(0).await?;
    let new = rest.mails("ann@ACME.example", 1).await?;
    rest.linked(&new[0], &second).await?;
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn who_is_kept_apart_is_left_alone_until_it_is_somebody_else() -> Result<(), Error> {
    let mut rest = Rest::build(true, "").await?;
    let (first, second, here) = doubled(&rest).await?;
    tandem(&rest.house, &["review", "decide", "contact", &second, "--apart"], 0)?;
    rest.wait_for_reviews(0).await?;
    rest.restart().await?;
    rest.edit(&second, json!({ "Company": "Other" })).await?;
    rest.edit(&first, json!({ "Company": "Acme" })).await?;
    rest.here(&here, "company_name", json!("Acme")).await?;
    rest.house.quiet(SOON).await?;
    assert_eq!((rest.reviews().await?.len(), rest.mails("Ann@acme.example", 1).await?.len()), (0, 1));
    // With another address it is another person.
    rest.edit(&second, json!({ "Mail": "bea@acme.example" })).await?;
    let bea = rest.mails("bea@acme.example", 1).await?;
    rest.linked(&bea[0], &second).await?;
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn people_of_both_sides_are_not_doubled_in_an_account_that_would_allow_it() -> Result<(), Error> {
    let rest = Rest::build(true, "").await?;
    // Nothing comes from the CRM, so that System A's records meet it first.
    let inward = json!({ "connection": "acme", "direction": "to-internal" });
    rest.house.post("/v1/pause", &inward).await?;
    let mut expected = Vec::new();
    for number in 0..8 {
        let mail = format!("p{number}@acme.example");
        let there = rest.person(json!({ "Mail": mail })).await?;
        let here = rest.create(json!({ "email": mail, "phone": "+49 731 1" })).await?;
        expected.push((here, there));
    }
    for (here, there) in &expected {
        rest.linked(here, there).await?;
        rest.there(there, "Phone", json!("+49 731 1")).await?;
    }
    // Two of one address: which of them it is, is one question, from whichever side it comes up.
    let other = rest.person(json!({ "Mail": "twin@acme.example", "GivenName": "One" })).await?;
    let twin = rest.person(json!({ "Mail": "twin@acme.example", "GivenName": "Two" })).await?;
    let here = rest.create(json!({ "email": "twin@acme.example", "city": "Bonn" })).await?;
    let reviews = rest.wait_for_reviews(1).await?;
    rest.house.post("/v1/resume", &inward).await?;
    rest.house.quiet(SOON).await?;
    assert_eq!(rest.wait_for_reviews(1).await?[0]["since"], reviews[0]["since"]);
    assert_eq!(reviews[0]["kind"], json!("ambiguous"), "{reviews:?}");
    assert_eq!(reviews[0]["clash"]["waits"], json!({ "internal": here }), "{reviews:?}");
    tandem(&rest.house, &["review", "decide", "contact", &here, "--link", &twin], 0)?;
    rest.there(&twin, "City", json!("Bonn")).await?;
    rest.here(&here, "given_name", json!("Two")).await?;
    // The other one was not chosen, and is not asked about again.
    rest.edit(&other, json!({ "City": "Ulm" })).await?;
    rest.house.quiet(SOON).await?;
    rest.wait_for_reviews(0).await?;
    assert_eq!((rest.people().await?.len(), rest.mails("twin@acme.example", 1).await?), (10, vec![here]));
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn who_was_told_of_in_a_question_only_is_looked_at_when_it_is_gone() -> Result<(), Error> {
    let rest = Rest::build(true, "").await?;
    // Nothing comes from the CRM, so that the question is about System A's record.
    let inward = json!({ "connection": "acme", "direction": "to-internal" });
    rest.house.post("/v1/pause", &inward).await?;
    for name in ["One", "Two"] {
        rest.person(json!({ "Mail": "twin@acme.example", "GivenName": name })).await?;
    }
    let here = rest.create(json!({ "email": "twin@acme.example" })).await?;
    rest.wait_for_reviews(1).await?;
    rest.house.post("/v1/resume", &inward).await?;
    rest.house.quiet(SOON).await?;
    let reviews = rest.wait_for_reviews(1).await?;
    assert_eq!(reviews[0]["clash"]["waits"], json!({ "internal": here }), "{reviews:?}");
    // Nobody says a word of the two, and each of them was told of in that question only.
    rest.house.system_a("acme").delete(&here).await?;
    let now = rest.mails("twin@acme.example", 1).await?;
    assert_ne!(now, [here]);
    let reviews = rest.wait_for_reviews(1).await?;
    assert_eq!(reviews[0]["kind"], json!("duplicate"), "{reviews:?}");
    assert_eq!(reviews[0]["entity"]["id"], json!(now[0]), "{reviews:?}");
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn who_comes_up_on_both_sides_at_once_is_there_once_or_reported() -> Result<(), Error> {
    let rest = Rest::build(true, "").await?;
    let mails: Vec<String> = (0..20).map(|number| format!("p{number}@acme.example")).collect();
    for mail in &mails {
        tokio::try_join!(
            rest.create(json!({ "email": mail, "city": "Ulm" })),
            rest.person(json!({ "Mail": mail, "Phone": "+49 30 2" })),
        )?;
    }
    rest.house.quiet(SOON).await?;
    let doubled = until("everybody is there once or under review", SOON, async || {
        let (people, reviews) = (rest.people().await?, rest.reviews().await?);
        let mut doubled = 0;
        for mail in &mails {
            let here = rest.with_mail(mail).await?;
            let there: Vec<&Value> = people.iter().filter(|one| one["Mail"] == json!(mail)).collect();
            let named = |one: &&&Value| reviews.iter().any(|review| review["external"] == one["Id"]);
            let asked = there.iter().filter(named).count();
            if here.len() != 1 || there.len() != asked + 1 {
                return Ok(Err(format!("{mail}: {here:?}, {there:?}, {asked} asked")));
            }
            doubled += asked;
        }
        Ok(Ok(doubled))
    })
    .await?;
    println!("{doubled} of {} were made twice, each of them reported", mails.len());
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn an_address_that_another_record_has_is_held_while_the_rest_flows() -> Result<(), Error> {
    let rest = Rest::build(true, "").await?;
    let mut made = Vec::new();
    for name in ["ann", "bea"] {
        let here = rest.create(json!({ "email": format!("{name}@acme.example") })).await?;
        let mail = format!("{name}@acme.example");
        let there = until("it is in the account", SOON, async || {
            let people = rest.people().await?;
            let found = people.iter().find(|one| one["Mail"] == json!(mail));
            Ok(found.and_then(|one| one["Id"].as_str()).map(str::to_owned).ok_or_else(String::new))
        })
        .await?;
        rest.linked(&here, &there).await?;
        made.push((here, there));
    }
    let [(ann, ann_there), (bea, _)] = &made[..] else { return Err("two".into()) };
    rest.edit(ann_there, json!({ "Mail": "bea@acme.example", "Phone": "+49 30 2" })).await?;
    rest.here(ann, "phone", json!("+49 30 2")).await?;
    let reviews = rest.wait_for_reviews(1).await?;
    assert_eq!(
        (&reviews[0]["kind"], &reviews[0]["group"]),
        (&json!("held"), &json!("/email")),
        "{reviews:?}"
    );
    assert!(reviews[0]["why"].as_str().unwrap_or_default().contains(bea.as_str()), "{reviews:?}");
    // Whoever wants it against the other record is asked again.
    tandem(&rest.house, &["review", "decide", "contact", ann, "--take", "external"], 0)?;
    rest.house.quiet(SOON).await?;
    rest.wait_for_reviews(1).await?;
    rest.here(ann, "email", json!("ann@acme.example")).await?;
    // The other record lets go of it, and what waited is carried over.
    rest.patch(bea, json!({ "email": "bea.new@acme.example" })).await?;
    rest.here(ann, "email", json!("bea@acme.example")).await?;
    rest.wait_for_reviews(0).await?;
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn an_address_that_the_crm_refuses_is_held_while_the_rest_flows() -> Result<(), Error> {
    // The account's people are not taken in, so that System A does not know who has the address.
    let rest = Rest::build(false, "[objects.contact]\ncreate_internal = false\n").await?;
    let here = rest.create(json!({ "email": "ann@acme.example" })).await?;
    let there = until("she is in the account", SOON, async || {
        let people = rest.people().await?;
        Ok(people.first().and_then(|one| one["Id"].as_str()).map(str::to_owned).ok_or_else(String::new))
    })
    .await?;
    rest.linked(&here, &there).await?;
    let other = rest.person(json!({ "Mail": "dora@acme.example" })).await?;
    rest.patch(&here, json!({ "email": "dora@acme.example", "phone": "+49 731 1" })).await?;
    rest.there(&there, "Phone", json!("+49 731 1")).await?;
    // Whose record the other one is may be asked as well.
    let held = until("the address is held", SOON, async || {
        let all = reviews(&rest.house).await?;
        let held = all.iter().find(|one| one["kind"] == json!("held") && one["group"] == json!("/email"));
        Ok(held.cloned().ok_or_else(|| format!("{all:?}")))
    })
    .await?;
    assert!(held["why"].as_str().unwrap_or_default().contains(&other), "{held:?}");
    rest.house.control.rest_person_deletes("acme", &other).await?;
    rest.there(&there, "Mail", json!("dora@acme.example")).await?;
    rest.wait_for_reviews(0).await?;
    nothing_aside(&rest.house).await
}

#[tokio::test]
async fn what_was_decided_is_carried_out_where_nothing_is_made_in_the_crm() -> Result<(), Error> {
    let rest = Rest::build(true, "[objects.contact]\ncreate_external = false\n").await?;
    let there = rest.person(json!({ "Mail": "ann@acme.example", "Title": "Dr" })).await?;
    let here = rest.mails("ann@acme.example", 1).await?.remove(0);
    rest.linked(&here, &there).await?;
    let other = rest.create(json!({ "email": "bea@acme.example", "phone": "+49 731 1" })).await?;
    // Ann gets the address of one who is in System A only, and somebody new in the CRM has it as well.
    rest.edit(&there, json!({ "Mail": "bea@acme.example" })).await?;
    rest.wait_for_reviews(1).await?;
    let twin = rest.person(json!({ "Mail": "bea@acme.example", "City": "Ulm" })).await?;
    let reviews = rest.wait_for_reviews(2).await?;
    let asked = reviews.iter().find(|review| review["clash"]["waits"] == json!({ "internal": other }));
    let rivals = asked.map(|review| review["clash"]["rivals"].clone());
    let both = json!([{ "external": twin }, { "internal": here, "external": there }]);
    assert_eq!(rivals, Some(both), "{reviews:?}");
    // No create meets the one that is there, and her own work is that of the other record of System A.
    tandem(&rest.house, &["review", "decide", "contact", &other, "--link", &there], 0)?;
    rest.linked(&other, &there).await?;
    rest.there(&there, "Phone", json!("+49 731 1")).await?;
    rest.here(&other, "job_title", json!("Dr")).await?;
    // The one that was not chosen is asked about no more, and the one that had her is linked to nobody.
    rest.edit(&twin, json!({ "City": "Bonn" })).await?;
    rest.patch(&here, json!({ "company_name": "Other" })).await?;
    rest.patch(&other, json!({ "company_name": "Acme" })).await?;
    rest.there(&there, "Company", json!("Acme")).await?;
    rest.house.quiet(SOON).await?;
    rest.wait_for_reviews(0).await?;
    rest.there(&there, "Company", json!("Acme")).await?;
    assert_eq!((rest.people().await?.len(), rest.mails("bea@acme.example", 1).await?), (2, vec![other]));
    let known = rest.house.get(&format!("/v1/explain?scope=acme&object=contact&id={here}")).await?;
    assert_eq!(known["links"][0]["external"], Value::Null, "{known}");
    nothing_aside(&rest.house).await
}
