//! A place to work in: choices by field, who gave a value, hints that keep arriving.

use super::*;

fn values(street: &str, city: &str) -> [(&'static str, Value); 4] {
    [("/phone", json!("1")), ("/name", json!("Ann")), ("/street", json!(street)), ("/city", json!(city))]
}

/// The address is held: both of its fields were changed on both sides.
fn held() -> Link {
    let base = agreed(&values("S", "C"));
    let link = run(
        &base,
        &present(2, &values("Here 1", "Hereton")),
        &read(&values("There 2", "Thereton")),
        &policy(),
    )
    .link;
    assert_eq!(link.held["address"].fields, names(&["/street", "/city"]));
    link
}

fn picks(choices: &[(&str, Pick)]) -> Choice {
    Choice::Fields(choices.iter().map(|(field, pick)| ((*field).to_owned(), pick.clone())).collect())
}

type Sent = Vec<(String, Option<Value>)>;

/// Carries a decision out with both writes and looks again: what was sent, and the link at the end.
fn carried(decided: &Link, here: &[(&str, Value)], there: &[(&str, Value)]) -> (Sent, Sent, Link) {
    let (internal, external) = (present(2, here), read(there));
    let plan = run(decided, &internal, &external, &policy());
    let (mut out, mut inward, mut link) = (Vec::new(), Vec::new(), plan.link.clone());
    if let Some(write) = &plan.internal {
        inward = sent_in(&plan);
        link = after_internal_write(&link, write, 3, &external, &policy(), NOW);
    }
    if let Some(write) = &plan.external {
        out = sent_out(&plan);
        link = after_external_write(&link, write, &internal, &written(None), &policy(), NOW);
    }
    (out, inward, link)
}

#[test]
fn fields_of_a_group_are_decided_one_by_one() {
    let choice = picks(&[("/street", Pick::Internal), ("/city", Pick::External)]);
    let decided = decide_review(&held(), "address", choice, NOW).unwrap();
    let (out, inward, link) = carried(&decided, &values("Here 1", "Hereton"), &values("There 2", "Thereton"));
    assert_eq!(out, one("/street", json!("Here 1")));
    assert_eq!(inward, one("/city", json!("Thereton")));
    assert!(link.decided.is_empty() && link.held.is_empty());
    assert_eq!(pair(&link, "/street"), (Some(json!("Here 1")), Some(json!("Here 1"))));
    assert_eq!(pair(&link, "/city"), (Some(json!("Thereton")), Some(json!("Thereton"))));
    let same = values("Here 1", "Thereton");
    assert!(quiet(&run(&link, &present(3, &same), &read(&same), &policy())), "and nothing is left to do");
}

#[test]
fn a_field_may_get_a_value_of_its_own_or_none_beside_one_that_takes_a_side() {
    let choice = picks(&[("/street", Pick::Value(Some(json!("Third 3")))), ("/city", Pick::External)]);
    let decided = decide_review(&held(), "address", choice, NOW).unwrap();
    let (out, inward, _) = carried(&decided, &values("Here 1", "Hereton"), &values("There 2", "Thereton"));
    assert_eq!(out, one("/street", json!("Third 3")));
    assert_eq!(inward, [one("/city", json!("Thereton")), one("/street", json!("Third 3"))].concat());

    let choice = picks(&[("/street", Pick::Value(None)), ("/city", Pick::Internal)]);
    let decided = decide_review(&held(), "address", choice, NOW).unwrap();
    let (out, inward, link) = carried(&decided, &values("Here 1", "Hereton"), &values("There 2", "Thereton"));
    assert_eq!(out, [one("/city", json!("Hereton")), vec![("/street".to_owned(), None)]].concat());
    assert_eq!(inward, vec![("/street".to_owned(), None)]);
    assert!(link.decided.is_empty());
}

#[test]
fn choices_that_all_take_one_side_are_a_decision_for_that_side() {
    let choice = picks(&[("/street", Pick::Internal), ("/city", Pick::Internal)]);
    let decided = decide_review(&held(), "address", choice, NOW).unwrap();
    assert_eq!(decided, decide_review(&held(), "address", Choice::Internal, NOW).unwrap());
    // An edit on the side that was chosen goes along; of a choice by field it would be another question.
    let (out, _, link) = carried(&decided, &values("Here 9", "Hereton"), &values("There 2", "Thereton"));
    assert_eq!(out, [one("/city", json!("Hereton")), one("/street", json!("Here 9"))].concat());
    assert!(link.held.is_empty());
    let choice = picks(&[("/street", Pick::External), ("/city", Pick::External)]);
    let decided = decide_review(&held(), "address", choice, NOW).unwrap();
    assert_eq!(decided, decide_review(&held(), "address", Choice::External, NOW).unwrap());
}

#[test]
fn a_choice_by_field_is_a_question_again_when_either_side_moves_before_it_is_written() {
    let choice = picks(&[("/street", Pick::Internal), ("/city", Pick::External)]);
    let decided = decide_review(&held(), "address", choice, NOW).unwrap();
    for (here, there) in [
        (values("Here 9", "Hereton"), values("There 2", "Thereton")),
        (values("Here 1", "Hereton"), values("There 2", "Theretown")),
    ] {
        let (out, inward, link) = carried(&decided, &here, &there);
        assert_eq!((out, inward), (Vec::new(), Vec::new()));
        assert_eq!(link.held["address"].internal["/street"], here[2].1);
        assert_eq!(link.held["address"].external["/city"], there[3].1);
    }
}

#[test]
fn choices_that_leave_a_field_out_or_name_a_foreign_one_are_refused() {
    let some = picks(&[("/street", Pick::Internal)]);
    let error = decide_review(&held(), "address", some, NOW).unwrap_err();
    assert_eq!(error, DecideError::Undecided { group: "address".into(), field: "/city".into() });
    let foreign =
        picks(&[("/street", Pick::Internal), ("/city", Pick::Internal), ("/phone", Pick::Internal)]);
    let error = decide_review(&held(), "address", foreign, NOW).unwrap_err();
    assert_eq!(error, DecideError::Foreign { group: "address".into(), field: "/phone".into() });
    let mut link = held();
    let record = link.held["address"].clone();
    link.held.insert(RECORD.into(), record);
    let all = picks(&[("/street", Pick::Internal), ("/city", Pick::Internal)]);
    assert_eq!(decide_review(&link, RECORD, all, NOW), Err(DecideError::NoValue));
}

#[test]
fn hints_keep_arriving_and_show_both_sides_as_they_are_while_a_group_is_held() {
    let link = held();
    // An edit in System A alone: the CRM is not read.
    let next = run(&link, &present(3, &values("Here 7", "Hereton")), &External::Unseen, &policy());
    assert!(quiet(&next), "{}", next.reason);
    assert_eq!(next.link.held["address"].internal["/street"], json!("Here 7"));
    assert_eq!(next.link.held["address"].external, link.held["address"].external);
    // And one in the CRM.
    let last = run(
        &next.link,
        &present(3, &values("Here 7", "Hereton")),
        &read(&values("There 8", "Thereton")),
        &policy(),
    );
    assert!(quiet(&last), "{}", last.reason);
    assert_eq!(last.link.held["address"].internal["/street"], json!("Here 7"));
    assert_eq!(last.link.held["address"].external["/street"], json!("There 8"));
    assert_eq!(last.link.held["address"].since, link.held["address"].since);
    // The rest of the record goes on meanwhile.
    let mut here = values("Here 7", "Hereton");
    here[0].1 = json!("2");
    assert_eq!(
        sent_out(&run(&last.link, &present(4, &here), &External::Unseen, &policy())),
        one("/phone", json!("2"))
    );
}

#[test]
fn a_value_keeps_who_gave_it_until_it_is_another_one() {
    let said = |by: &str, at| Said { by: Some(by.to_owned()), at: Some(at) };
    let mut first = held();
    first.sign(&unlinked(), &said("api", 1), &said("other", 2));
    let known = (first.held["address"].internal_said.clone(), first.held["address"].external_said.clone());
    assert_eq!(known, (said("api", 1), said("other", 2)));

    let mut next = run(
        &first,
        &present(3, &values("Here 1", "Hereton")),
        &read(&values("There 3", "Thereton")),
        &policy(),
    )
    .link;
    next.sign(&first, &said("import", 8), &said("own", 9));
    assert_eq!(next.held["address"].internal_said, said("api", 1), "System A said nothing new");
    assert_eq!(next.held["address"].external_said, said("own", 9));
    let stored = serde_json::to_value(&next).unwrap();
    assert_eq!(serde_json::from_value::<Link>(stored).unwrap(), next);
}

#[test]
fn the_same_look_at_a_record_that_is_held_as_a_whole_changes_nothing() {
    let policy = ObjectPolicy { on_delete_conflict: OnDeleteConflict::Review, ..policy() };
    let before = agreed(&values("S", "C"));
    let there = read(&values("S", "Thereton"));
    let mut first = run(&before, &deleted(2), &there, &policy).link;
    let said = |by: &str| Said { by: Some(by.to_owned()), at: Some(1) };
    first.sign(&before, &said("api"), &said("other"));
    assert_eq!(first.held[RECORD].internal_said, said("api"));
    assert_eq!(run(&first, &deleted(2), &there, &policy).link, first);
    // Another value is another word.
    let next = run(&first, &deleted(2), &read(&values("S", "Thereville")), &policy).link;
    assert_eq!(next.held[RECORD].internal_said, said("api"));
    assert_eq!(next.held[RECORD].external_said, Said::default());
}

#[test]
fn a_link_of_an_older_version_knows_nobody_who_gave_a_value() {
    let link = held();
    let mut stored = serde_json::to_value(&link).unwrap();
    for member in ["internal_said", "external_said"] {
        assert_eq!(stored["held"]["address"].get(member), None, "what is not known is not written");
        stored["held"]["address"].as_object_mut().unwrap().remove(member);
    }
    assert_eq!(serde_json::from_value::<Link>(stored).unwrap(), link);
}

#[test]
fn a_trail_says_on_which_side_a_field_differs() {
    let link = agreed(&values("S", "C"));
    let here = present(2, &values("Here 1", "C"));
    let seen = |field: &str| differs(&link, &here, &read(&values("There 2", "Thereton")), &policy(), field);
    assert_eq!(
        (seen("/street"), seen("/city"), seen("/phone")),
        (Differs::Both, Differs::External, Differs::Neither)
    );
    let unseen = |field: &str| differs(&link, &here, &External::Unseen, &policy(), field);
    assert_eq!((unseen("/street"), unseen("/city")), (Differs::Internal, Differs::Neither));
    let some = External::Partial { fields: fields(&[("/city", json!("Thereton"))]), stamp: None };
    assert_eq!(differs(&link, &here, &some, &policy(), "/city"), Differs::External);
    assert_eq!(
        differs(&link, &here, &some, &policy(), "/street"),
        Differs::Internal,
        "of it nothing was said"
    );
    // Up to its normaliser, and never compared.
    let mut link = agreed(&[("/email", json!("a@b.c"))]);
    let shouted = present(2, &[("/email", json!("A@B.C"))]);
    assert_eq!(differs(&link, &shouted, &External::Unseen, &policy(), "/email"), Differs::Neither);
    link.base.remove("/email");
    assert_eq!(differs(&link, &shouted, &read(&[]), &policy(), "/email"), Differs::Internal);
    assert_eq!(
        differs(&link, &Internal::Absent, &read(&[("/email", json!("x@y.z"))]), &policy(), "/email"),
        Differs::External
    );
}
