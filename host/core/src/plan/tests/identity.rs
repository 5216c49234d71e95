//! What becomes of a link when identity decides: held values, merges, second beginnings.

use super::*;

fn linked() -> Link {
    agreed(&[("/email", json!("a@x")), ("/phone", json!("1")), ("/name", json!("Ann"))])
}

/// The CRM's record was given an address that another record of System A has; its telephone was changed too.
fn contested() -> (Internal, External) {
    (
        present(1, &[("/email", json!("a@x")), ("/phone", json!("1")), ("/name", json!("Ann"))]),
        read(&[("/email", json!("b@x")), ("/phone", json!("2")), ("/name", json!("Ann"))]),
    )
}

fn held(link: &Link, from: Side, sides: (&Internal, &External)) -> Link {
    let (link, groups) = hold_identity(link, &names(&["/email"]), from, sides, &policy(), "taken", NOW);
    assert_eq!(groups, names(&["/email"]));
    link
}

#[test]
fn an_identity_that_another_record_has_is_held_and_the_rest_flows() {
    let (internal, external) = contested();
    let plan = run(&linked(), &internal, &external, &policy());
    assert_eq!(sent_in(&plan).len(), 2);
    let link = held(&plan.link, Side::External, (&internal, &external));
    let values =
        link.held.get("/email").map(|held| (held.internal.clone(), held.external.clone(), held.since));
    let wanted = (fields(&[("/email", json!("a@x"))]), fields(&[("/email", json!("b@x"))]), NOW);
    assert_eq!(values, Some(wanted));
    let plan = run(&link, &internal, &external, &policy());
    assert_eq!(sent_in(&plan), one("/phone", json!("2")));
    assert!(plan.link.held.contains_key("/email"));
}

#[test]
fn what_is_held_for_an_identity_is_tried_again_when_it_is_released() {
    let (internal, external) = contested();
    let link = held(&linked(), Side::External, (&internal, &external));
    let free = release_identity(&link, &names(&["/email"]), NOW);
    assert!(free.held.is_empty() && free.look);
    assert_eq!(sent_in(&run(&free, &internal, &read(&[("/email", json!("b@x"))]), &policy())).len(), 3);
    // Two groups that waited for the same record are let go of together.
    let (both, groups) = hold_identity(
        &linked(),
        &names(&["/email", "/phone"]),
        Side::External,
        (&internal, &external),
        &policy(),
        "taken",
        NOW,
    );
    let free = release_identity(&both, &groups, NOW);
    assert!(free.held.is_empty() && free.look);
    // Nothing that is held for another reason is let go of.
    assert_eq!(release_identity(&link, &names(&["/phone"]), NOW + 1), link);
}

#[test]
fn a_decision_that_cannot_be_carried_over_is_held_again_and_not_forgotten() {
    for (take, from) in [(Choice::External, Side::External), (Choice::Internal, Side::Internal)] {
        let (internal, external) = contested();
        let link = held(&linked(), from, (&internal, &external));
        let decided = decide_review(&link, "/email", take, NOW).unwrap();
        let again = held(&decided, from, (&internal, &external));
        assert!(again.decided.is_empty());
        // Both sides are as they were: that is no agreement, however often it is looked at.
        let plan = run(&again, &internal, &external, &policy());
        assert!(plan.link.held.contains_key("/email"), "{from:?}: {}", plan.reason);
        // Once the other record has let go of the value, it is carried over.
        let free = release_identity(&again, &names(&["/email"]), NOW);
        let plan = run(&free, &internal, &external, &policy());
        match from {
            Side::External => assert!(sent_in(&plan).contains(&("/email".into(), Some(json!("b@x"))))),
            Side::Internal => assert_eq!(sent_out(&plan), one("/email", json!("a@x"))),
        }
    }
}

#[test]
fn what_was_not_seen_is_held_as_it_is_believed() {
    let (internal, _) = contested();
    let link = held(&linked(), Side::Internal, (&internal, &External::Unseen));
    let external = link.held.get("/email").map(|held| held.external.clone());
    assert_eq!(external, Some(fields(&[("/email", json!("a@x"))])));
}

#[test]
fn the_hold_ends_when_both_sides_are_the_same_again() {
    let (internal, external) = contested();
    let link = held(&linked(), Side::External, (&internal, &external));
    let same = read(&[("/email", json!("a@x")), ("/phone", json!("1")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &same, &policy());
    assert!(plan.link.held.is_empty() && quiet(&plan), "{}", plan.reason);
}

#[test]
fn the_loser_of_a_merge_is_cut_off_and_hints_change_nothing() {
    let mut link = linked();
    link.keep = Some(vec![1]);
    let cut = cut(&link, NOW);
    assert_eq!(
        (cut.life.clone(), cut.external.clone(), cut.keep.clone()),
        (Life::Detached { at: NOW }, None, None)
    );
    assert!(cut.base.is_empty());
    assert_eq!(cut.internal_version, link.internal_version);
    for external in [External::Unseen, External::Touched, read(&[("/phone", json!("2"))])] {
        assert!(quiet(&run(&cut, &present(2, &[("/phone", json!("3"))]), &external, &policy())));
    }
}

#[test]
fn a_second_beginning_has_no_base_and_another_key() {
    let renewed = renew(&linked(), NOW);
    assert_eq!(
        (renewed.life.clone(), renewed.external.clone(), renewed.incarnation),
        (Life::Active, None, 1)
    );
    assert_ne!(renewed.key(), linked().key());
    let (internal, _) = contested();
    let plan = run(&renewed, &internal, &External::Unseen, &policy());
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })), "{}", plan.reason);
}

#[test]
fn a_record_that_is_linked_anew_is_joined_and_clears_nothing() {
    // The person made it again with the address alone. By the old base the telephone would have been cleared in the CRM.
    let link = Link { life: Life::Lapsed { by: Side::External, at: 5 }, ..linked() };
    let (internal, _) = contested();
    let bare = External::Whole {
        id: "e2".into(),
        fields: fields(&[("/email", json!("a@x"))]),
        version: None,
        stamp: None,
        source: Source::Read { began: NOW },
        changed_at: BTreeMap::new(),
        by_other: false,
    };
    let plan = run(&relink(&link, &"e2".into(), NOW), &internal, &bare, &policy());
    assert!(plan.internal.is_none(), "{}", plan.reason);
    assert_eq!(
        sent_out(&plan),
        [("/name".to_owned(), Some(json!("Ann"))), ("/phone".to_owned(), Some(json!("1")))]
    );
    assert_eq!((plan.link.life, plan.link.external), (Life::Active, Some("e2".into())));
}

#[test]
fn the_deleted_loser_of_a_merge_comes_back_by_system_a_s_own_word_only() {
    let gone = bury_merged(&cut(&linked(), NOW), 4, NOW);
    assert_eq!(
        (gone.life.clone(), gone.internal_version),
        (Life::Tombstone { by: Side::External, at: NOW }, Some(4))
    );
    assert!(quiet(&run(&gone, &deleted(4), &External::Unseen, &policy())));
    let plan = run(&gone, &present(5, &[("/email", json!("a@x"))]), &External::Unseen, &policy());
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })));
    assert_eq!(plan.link.incarnation, 1);
}
