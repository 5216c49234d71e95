//! Both sides changed the same group: every policy, holds and decisions.

use super::*;

fn base() -> Link {
    agreed(&[("/phone", json!("1")), ("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))])
}

/// System A's record with a changed phone and name.
fn here() -> Internal {
    present(
        2,
        &[("/phone", json!("2")), ("/name", json!("Anna")), ("/street", json!("S")), ("/city", json!("C"))],
    )
}

/// The CRM's record with another phone.
fn there() -> External {
    read(&[("/phone", json!("3")), ("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))])
}

fn timed(at: Option<Millis>) -> External {
    let mut external = there();
    if let (External::Whole { changed_at, .. }, Some(at)) = (&mut external, at) {
        changed_at.insert("/phone".into(), at);
    }
    external
}

#[test]
fn system_a_wins_by_policy() {
    let plan =
        run(&base(), &here(), &there(), &with("/phone", |field| field.on_conflict = OnConflict::Internal));
    assert!(sent_out(&plan).contains(&("/phone".into(), Some(json!("2")))));
    assert!(plan.internal.is_none());
    assert_eq!(plan.conflicts[0].ruling, Verdict::Internal);
}

#[test]
fn the_crm_wins_by_policy() {
    let plan =
        run(&base(), &here(), &there(), &with("/phone", |field| field.on_conflict = OnConflict::External));
    assert_eq!(sent_in(&plan), one("/phone", json!("3")));
    assert_eq!(sent_out(&plan), one("/name", json!("Anna")));
    assert_eq!(plan.conflicts[0].ruling, Verdict::External);
}

#[test]
fn the_newest_edit_wins_only_beyond_the_clock_tolerance_and_by_field_times() {
    // System A's edit was at NOW - 10.
    let ruling = |external: &External, change: &dyn Fn(&mut Link)| {
        let mut link = base();
        change(&mut link);
        let policy = with("/phone", |field| field.on_conflict = OnConflict::Newest);
        run(&link, &here(), external, &policy).conflicts[0].ruling
    };
    assert_eq!(ruling(&timed(Some(NOW - 10 - 2_001)), &|_| ()), Verdict::Internal);
    assert_eq!(ruling(&timed(Some(NOW - 10 + 2_001)), &|_| ()), Verdict::External);
    assert_eq!(ruling(&timed(Some(NOW - 10 - 2_000)), &|_| ()), Verdict::Review);
    assert_eq!(ruling(&timed(Some(NOW - 10 + 2_000)), &|_| ()), Verdict::Review);
    assert_eq!(ruling(&timed(Some(NOW - 10)), &|_| ()), Verdict::Review);
    assert_eq!(ruling(&timed(None), &|_| ()), Verdict::Review, "a record's time proves nothing");
    // The internal time is that of our own write.
    assert_eq!(ruling(&timed(Some(NOW - 90_000)), &|link| link.own_internal = Some(2)), Verdict::Review);
}

#[test]
fn the_stamp_of_our_own_write_never_wins() {
    let policy = with("/phone", |field| field.on_conflict = OnConflict::Newest);
    let mut link = base();
    link.own = Some(crate::link::OwnWrite { stamp: Some(70), at: NOW, ..Default::default() });
    let mut external = timed(Some(NOW + 90_000));
    if let External::Whole { stamp, .. } = &mut external {
        *stamp = Some(70);
    }
    assert_eq!(run(&link, &here(), &external, &policy).conflicts[0].ruling, Verdict::Review);
}

#[test]
fn review_holds_the_group_with_both_values_and_lets_the_rest_flow() {
    let plan = run(&base(), &here(), &there(), &policy());
    assert_eq!(sent_out(&plan), one("/name", json!("Anna")));
    assert!(plan.internal.is_none());
    let held = &plan.link.held["/phone"];
    assert_eq!(held.internal, fields(&[("/phone", json!("2"))]));
    assert_eq!(held.external, fields(&[("/phone", json!("3"))]));
    assert_eq!(held.since, NOW);
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("1")), Some(json!("1"))), "the half does not move");
}

#[test]
fn a_record_hold_stops_the_whole_record() {
    let mut policy = policy();
    policy.hold = Hold::Record;
    let plan = run(&base(), &here(), &there(), &policy);
    assert!(quiet(&plan) && plan.link.held.contains_key("/phone"));
    let later = present(3, &[("/phone", json!("2")), ("/name", json!("Annabel"))]);
    assert!(quiet(&run(&plan.link, &later, &External::Unseen, &policy)));
}

#[test]
fn a_new_look_refreshes_a_hold_and_equality_ends_it() {
    let held = run(&base(), &here(), &there(), &policy()).link;
    let internal = present(
        3,
        &[("/phone", json!("22")), ("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))],
    );
    let plan = super::super::plan(&held, &internal, &External::Unseen, &policy(), NOW + 5);
    assert!(quiet(&plan), "a held group is never written: {}", plan.reason);
    assert_eq!(plan.link.held["/phone"].internal, fields(&[("/phone", json!("22"))]));
    assert_eq!(
        plan.link.held["/phone"].external,
        fields(&[("/phone", json!("3"))]),
        "what was seen last stays"
    );
    assert_eq!(plan.link.held["/phone"].since, NOW);
    let internal = present(
        4,
        &[("/phone", json!("3")), ("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))],
    );
    let plan = run(&plan.link, &internal, &External::Unseen, &policy());
    assert!(quiet(&plan) && plan.link.held.is_empty());
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("3")), Some(json!("3"))));
}

#[test]
fn an_event_about_a_held_group_is_dismissed_when_it_says_what_was_seen() {
    let held = run(&base(), &here(), &there(), &policy()).link;
    let event = |value: &str| External::Partial { fields: fields(&[("/phone", json!(value))]), stamp: None };
    let internal = present(
        2,
        &[("/phone", json!("2")), ("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))],
    );
    assert_eq!(run(&held, &internal, &event("3"), &policy()).ask, None);
    assert_eq!(run(&held, &internal, &event("4"), &policy()).ask, Some(Ask::ReadExternal));
}

#[test]
fn a_group_stands_or_falls_together() {
    let internal = present(
        2,
        &[
            ("/street", json!("Here 1")),
            ("/city", json!("C")),
            ("/phone", json!("1")),
            ("/name", json!("Ann")),
        ],
    );
    let external = read(&[
        ("/street", json!("S")),
        ("/city", json!("Thereville")),
        ("/phone", json!("1")),
        ("/name", json!("Ann")),
    ]);
    let plan = run(&base(), &internal, &external, &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.conflicts[0].group, "address");
    assert_eq!(plan.link.held["address"].fields, names(&["/street", "/city"]));
    let mut internal_wins = policy();
    internal_wins.fields.insert(
        "address".into(),
        FieldPolicy { on_conflict: OnConflict::Internal, ..FieldPolicy::default() },
    );
    let plan = run(&base(), &internal, &external, &internal_wins);
    assert_eq!(
        sent_out(&plan),
        vec![("/city".into(), Some(json!("C"))), ("/street".into(), Some(json!("Here 1")))],
        "the loser's city goes too"
    );
}

/// Carries a decision out: plan with a look, write, fold, and plan again.
fn carry(link: &Link, internal: &Internal, external: &External) -> (Plan, Link) {
    assert_eq!(run(link, internal, &External::Unseen, &policy()).ask, Some(Ask::ReadExternal));
    let plan = run(link, internal, external, &policy());
    let mut folded = plan.link.clone();
    if let Some(write) = &plan.internal {
        folded = after_internal_write(&folded, write, 9, external, &policy(), NOW);
    }
    if let Some(write) = &plan.external {
        folded = after_external_write(&folded, write, internal, &written(None), &policy(), NOW);
    }
    (plan, folded)
}

fn same_name() -> Internal {
    present(
        2,
        &[("/phone", json!("2")), ("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))],
    )
}

#[test]
fn a_decision_for_system_a_writes_its_value_to_the_crm() {
    let held = run(&base(), &same_name(), &there(), &policy()).link;
    let decided = decide_review(&held, "/phone", Choice::Internal, NOW).unwrap();
    let (plan, link) = carry(&decided, &same_name(), &there());
    assert_eq!(sent_out(&plan), one("/phone", json!("2")));
    assert!(plan.internal.is_none() && link.decided.is_empty() && link.held.is_empty());
    assert!(quiet(&run(&link, &same_name(), &External::Unseen, &policy())));
}

#[test]
fn a_decision_for_the_crm_writes_its_value_to_system_a() {
    let held = run(&base(), &same_name(), &there(), &policy()).link;
    let decided = decide_review(&held, "/phone", Choice::External, NOW).unwrap();
    let (plan, link) = carry(&decided, &same_name(), &there());
    assert_eq!(sent_in(&plan), one("/phone", json!("3")));
    assert!(plan.external.is_none() && link.decided.is_empty());
    assert_eq!(pair(&link, "/phone"), (Some(json!("3")), Some(json!("3"))));
}

#[test]
fn a_decided_value_goes_to_both_sides_and_survives_the_loss_of_one_write() {
    let held = run(&base(), &same_name(), &there(), &policy()).link;
    let choice = Choice::Value(fields(&[("/phone", json!("4"))]));
    let decided = decide_review(&held, "/phone", choice, NOW).unwrap();
    let (plan, link) = carry(&decided, &same_name(), &there());
    assert_eq!(sent_out(&plan), one("/phone", json!("4")));
    assert_eq!(sent_in(&plan), one("/phone", json!("4")));
    assert!(link.decided.is_empty());
    assert_eq!(pair(&link, "/phone"), (Some(json!("4")), Some(json!("4"))));
    // Only the CRM was written: System A still gets it, and a rewriting CRM is not written again.
    let half = after_external_write(
        &plan.link,
        plan.external.as_ref().unwrap(),
        &same_name(),
        &written(Some(&[("/phone", json!("four"))])),
        &policy(),
        NOW,
    );
    let external = read(&[
        ("/phone", json!("four")),
        ("/name", json!("Ann")),
        ("/street", json!("S")),
        ("/city", json!("C")),
    ]);
    let again = run(&half, &same_name(), &external, &policy());
    assert_eq!(sent_in(&again), one("/phone", json!("4")));
    assert!(again.external.is_none());
}

#[test]
fn a_decision_on_values_that_changed_since_is_held_again() {
    let held = run(&base(), &same_name(), &there(), &policy()).link;
    let decided = decide_review(&held, "/phone", Choice::Internal, NOW).unwrap();
    let external = read(&[
        ("/phone", json!("33")),
        ("/name", json!("Ann")),
        ("/street", json!("S")),
        ("/city", json!("C")),
    ]);
    let plan = run(&decided, &same_name(), &external, &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.link.held["/phone"].external, fields(&[("/phone", json!("33"))]));
    assert!(plan.link.decided.is_empty());
}

#[test]
fn a_decision_about_a_group_takes_all_of_it() {
    let internal = present(
        2,
        &[
            ("/street", json!("Here 1")),
            ("/city", json!("C")),
            ("/phone", json!("1")),
            ("/name", json!("Ann")),
        ],
    );
    let external = read(&[
        ("/street", json!("S")),
        ("/city", json!("Thereville")),
        ("/phone", json!("1")),
        ("/name", json!("Ann")),
    ]);
    let held = run(&base(), &internal, &external, &policy()).link;
    let decided = decide_review(&held, "address", Choice::Internal, NOW).unwrap();
    let plan = run(&decided, &internal, &external, &policy());
    assert_eq!(
        sent_out(&plan),
        vec![("/city".into(), Some(json!("C"))), ("/street".into(), Some(json!("Here 1")))]
    );
}

#[test]
fn decisions_that_do_not_fit_are_refused() {
    let held = run(&base(), &same_name(), &there(), &policy()).link;
    assert_eq!(
        decide_review(&held, "/name", Choice::Internal, NOW),
        Err(DecideError::NotHeld("/name".into()))
    );
    let foreign = Choice::Value(fields(&[("/name", json!("x"))]));
    assert!(matches!(decide_review(&held, "/phone", foreign, NOW), Err(DecideError::Foreign { .. })));
}
