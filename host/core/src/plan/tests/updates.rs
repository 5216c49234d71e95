//! One-sided changes, agreement, groups, sets, directions, first meetings, owed fields.

use super::*;

#[test]
fn nothing_changed_plans_nothing_and_leaves_the_link_alone() {
    let link = agreed(&[("/email", json!("a@example.com")), ("/phone", json!("1"))]);
    let internal = present(1, &[("/email", json!("A@Example.com ")), ("/phone", json!("1"))]);
    for external in [External::Unseen, read(&[("/email", json!("a@example.com")), ("/phone", json!("1"))])] {
        let plan = run(&link, &internal, &external, &policy());
        assert!(quiet(&plan), "{plan:?}");
        assert_eq!(plan.link.base, link.base);
    }
}

#[test]
fn a_change_in_system_a_is_written_with_the_changed_field_only() {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy());
    assert_eq!(sent_out(&plan), one("/phone", json!("2")));
    assert_eq!(plan.internal, None);
    // Planned is not written: the half stays where it is.
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("1")), Some(json!("1"))));
    let Some(ExternalWrite::Update { fields, .. }) = &plan.external else { unreachable!() };
    assert_eq!(fields.get("/name"), Some(&json!("Ann")));
}

#[test]
fn a_change_in_the_crm_is_written_to_system_a_and_keeps_what_is_not_mapped() {
    let link = agreed(&[("/phone", json!("1"))]);
    let internal = present(4, &[("/phone", json!("1")), ("/secret", json!("own"))]);
    let plan = run(&link, &internal, &read(&[("/phone", json!("2"))]), &policy());
    assert_eq!(sent_in(&plan), one("/phone", json!("2")));
    let Some(InternalWrite::Update { expected, fields, .. }) = &plan.internal else { unreachable!() };
    assert_eq!((*expected, fields.get("/secret")), (4, Some(&json!("own"))));
}

#[test]
fn a_cleared_field_is_cleared_on_the_other_side() {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let plan = run(&link, &present(2, &[("/phone", Value::Null)]), &External::Unseen, &policy());
    assert_eq!(sent_out(&plan), vec![("/name".into(), None), ("/phone".into(), Some(Value::Null))]);
    let internal = present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &read(&[("/name", json!("Ann"))]), &policy());
    assert_eq!(sent_in(&plan), vec![("/phone".into(), None)]);
}

#[test]
fn null_and_absent_are_the_same_and_empty_is_not() {
    let link = agreed(&[]);
    assert!(quiet(&run(&link, &present(2, &[("/phone", Value::Null)]), &External::Unseen, &policy())));
    let plan = run(&link, &present(2, &[("/phone", json!(""))]), &External::Unseen, &policy());
    assert_eq!(sent_out(&plan), one("/phone", json!("")));
    let mut policy = policy();
    policy.normalise.insert("/phone".into(), "empty-is-absent".into());
    assert!(quiet(&run(&link, &present(2, &[("/phone", json!(""))]), &External::Unseen, &policy)));
}

#[test]
fn changes_of_different_fields_cross_in_one_plan() {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &read(&[("/phone", json!("1")), ("/name", json!("Anna"))]), &policy());
    assert_eq!(sent_out(&plan), one("/phone", json!("2")));
    assert_eq!(sent_in(&plan), one("/name", json!("Anna")));
    assert!(plan.conflicts.is_empty());
}

#[test]
fn the_same_change_on_both_sides_is_agreed_without_a_write() {
    let link = agreed(&[("/phone", json!("1")), ("/email", json!("a@example.com"))]);
    let internal = present(2, &[("/phone", json!("2")), ("/email", json!("B@example.com"))]);
    let plan = run(
        &link,
        &internal,
        &read(&[("/phone", json!("2")), ("/email", json!("b@example.com"))]),
        &policy(),
    );
    assert!(quiet(&plan));
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("2")), Some(json!("2"))));
    assert_eq!(plan.link.committed_at, NOW);
}

#[test]
fn fields_that_are_not_mapped_take_no_part() {
    let link = agreed(&[]);
    let plan =
        run(&link, &present(2, &[("/secret", json!("x"))]), &read(&[("/other", json!("y"))]), &policy());
    assert!(quiet(&plan));
    assert!(!plan.link.base.contains_key("/secret"));
}

#[test]
fn a_one_sided_change_of_a_group_carries_what_changed() {
    let link = agreed(&[("/street", json!("Main 1")), ("/city", json!("Berlin"))]);
    let internal = present(2, &[("/street", json!("Side 2")), ("/city", json!("Berlin"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy());
    assert_eq!(sent_out(&plan), one("/street", json!("Side 2")));
}

#[test]
fn a_flow_to_the_crm_never_writes_back_and_the_other_half_follows() {
    let policy = with("/phone", |field| field.flow = Flow::ToExternal);
    let link = agreed(&[("/phone", json!("1"))]);
    let plan = run(&link, &present(1, &[("/phone", json!("1"))]), &read(&[("/phone", json!("9"))]), &policy);
    assert!(quiet(&plan));
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("1")), Some(json!("9"))));
    let plan = run(&link, &present(2, &[("/phone", json!("2"))]), &read(&[("/phone", json!("9"))]), &policy);
    assert_eq!(sent_out(&plan), one("/phone", json!("2")));
    assert!(plan.internal.is_none() && plan.conflicts.is_empty());
}

#[test]
fn a_flow_to_system_a_never_writes_back_and_the_other_half_follows() {
    let policy = with("/phone", |field| field.flow = Flow::ToInternal);
    let link = agreed(&[("/phone", json!("1"))]);
    let plan = run(&link, &present(2, &[("/phone", json!("2"))]), &External::Unseen, &policy);
    assert!(quiet(&plan));
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("2")), Some(json!("1"))));
    let plan = run(&link, &present(2, &[("/phone", json!("2"))]), &read(&[("/phone", json!("9"))]), &policy);
    assert_eq!(sent_in(&plan), one("/phone", json!("9")));
    assert!(plan.external.is_none());
    let plan = run(
        &unlinked(),
        &present(1, &[("/phone", json!("1")), ("/name", json!("A"))]),
        &External::Unseen,
        &policy,
    );
    assert_eq!(plan.external, Some(ExternalWrite::Create { fields: fields(&[("/name", json!("A"))]) }));
}

#[test]
fn sets_merge_element_by_element_without_a_conflict() {
    let link = agreed(&[("/tags", json!(["a", "b"]))]);
    let internal = present(2, &[("/tags", json!(["a", "b", "here"]))]);
    let plan = run(&link, &internal, &read(&[("/tags", json!(["b", "there"]))]), &policy());
    assert_eq!(sent_out(&plan), one("/tags", json!(["b", "there", "here"])));
    assert_eq!(sent_in(&plan), one("/tags", json!(["b", "here", "there"])));
    assert!(plan.conflicts.is_empty());
}

#[test]
fn an_element_that_one_side_cannot_express_is_kept_and_order_is_no_change() {
    let mut link = agreed(&[]);
    link.base.insert(
        "/tags".into(),
        Pair { internal: Some(json!(["a"])), external: Some(json!(["a", "opaque"])), ..Pair::default() },
    );
    let plan = run(&link, &present(2, &[("/tags", json!(["a", "new"]))]), &External::Unseen, &policy());
    assert_eq!(sent_out(&plan), one("/tags", json!(["a", "opaque", "new"])));
    assert!(plan.internal.is_none());
    let plan = run(
        &link,
        &present(2, &[("/tags", json!(["a"]))]),
        &read(&[("/tags", json!(["opaque", "a"]))]),
        &policy(),
    );
    assert!(quiet(&plan));
}

#[test]
fn only_delivered_elements_move_when_one_of_two_writes_is_lost() {
    let link = agreed(&[("/tags", json!(["a"]))]);
    let internal = present(2, &[("/tags", json!(["a", "here"]))]);
    let external = read(&[("/tags", json!(["a", "there"]))]);
    let plan = run(&link, &internal, &external, &policy());
    let write = plan.external.clone().unwrap();
    // The write to System A is lost; the one to the CRM is answered.
    let link = after_external_write(
        &plan.link,
        &write,
        &internal,
        &written(Some(&[("/tags", json!(["a", "there", "here"]))])),
        &policy(),
        NOW,
    );
    let again = run(&link, &internal, &read(&[("/tags", json!(["a", "there", "here"]))]), &policy());
    assert_eq!(sent_in(&again), one("/tags", json!(["a", "here", "there"])));
    assert!(again.external.is_none(), "{}", again.reason);
}

#[test]
fn a_new_record_of_system_a_is_created_in_the_crm_without_nulls() {
    let internal = present(1, &[("/name", json!("Ann")), ("/phone", Value::Null), ("/secret", json!(1))]);
    let plan = run(&unlinked(), &internal, &External::Unseen, &policy());
    assert_eq!(plan.external, Some(ExternalWrite::Create { fields: fields(&[("/name", json!("Ann"))]) }));
    let mut closed = policy();
    closed.create_external = false;
    assert!(quiet(&run(&unlinked(), &internal, &External::Unseen, &closed)));
}

#[test]
fn a_new_record_of_the_crm_is_created_in_system_a() {
    let external = read(&[("/name", json!("Ann")), ("/phone", Value::Null)]);
    let plan = run(&unlinked(), &Internal::Absent, &external, &policy());
    assert_eq!(plan.internal, Some(InternalWrite::Create { fields: fields(&[("/name", json!("Ann"))]) }));
    let link =
        after_internal_write(&plan.link, plan.internal.as_ref().unwrap(), 1, &external, &policy(), NOW);
    assert_eq!(link.external, Some("e1".into()));
    let again = run(&link, &present(1, &[("/name", json!("Ann"))]), &external, &policy());
    assert!(quiet(&again));
    assert_eq!(again.link.base, link.base);
    let mut closed = policy();
    closed.create_internal = false;
    assert!(quiet(&run(&unlinked(), &Internal::Absent, &external, &closed)));
}

#[test]
fn records_that_meet_for_the_first_time_agree_carry_over_and_conflict_by_field() {
    let mut policy = policy();
    policy.default.on_conflict = OnConflict::Internal;
    let link = redirect(&unlinked(), &"e1".into(), NOW);
    let internal = present(
        1,
        &[("/email", json!("a@example.com")), ("/name", json!("Ann")), ("/street", json!("Main 1"))],
    );
    assert_eq!(run(&link, &internal, &External::Unseen, &policy).ask, Some(Ask::ReadExternal));
    let external = read(&[
        ("/email", json!("A@example.com")),
        ("/name", json!("Anna")),
        ("/phone", json!("1")),
        ("/street", json!("")),
    ]);
    let plan = run(&link, &internal, &external, &policy);
    assert_eq!(
        sent_out(&plan),
        vec![("/name".into(), Some(json!("Ann"))), ("/street".into(), Some(json!("Main 1")))]
    );
    assert_eq!(sent_in(&plan), one("/phone", json!("1")));
    assert_eq!(plan.conflicts.len(), 1);
    assert_eq!(pair(&plan.link, "/email"), (Some(json!("a@example.com")), Some(json!("A@example.com"))));
}

#[test]
fn a_field_that_is_mapped_later_is_read_before_it_is_written() {
    let mut link = agreed(&[("/name", json!("Ann"))]);
    link.base.remove("/phone");
    let internal = present(1, &[("/name", json!("Ann")), ("/phone", json!("1"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy());
    assert_eq!(plan.ask, Some(Ask::ReadExternal));
    assert_eq!(plan.link, link);
    let plan = run(&link, &internal, &read(&[("/name", json!("Ann")), ("/phone", json!("9"))]), &policy());
    assert_eq!(plan.conflicts[0].ruling, Verdict::Review);
}

#[test]
fn an_owed_field_is_neither_compared_nor_written_until_its_target_links() {
    let mut policy = policy();
    policy.mapped.push("/company".into());
    let internal = present(1, &[("/name", json!("Ann")), ("/company", json!("c1"))]);
    let link = owe(&unlinked(), ["/company".to_owned()], NOW);
    let plan = run(&link, &internal, &External::Unseen, &policy);
    let write = plan.external.clone().unwrap();
    assert_eq!(write, ExternalWrite::Create { fields: fields(&[("/name", json!("Ann"))]) });
    let answer = written(Some(&[("/name", json!("Ann")), ("/company", Value::Null)]));
    let link = after_external_write(&plan.link, &write, &internal, &answer, &policy, NOW);
    let plan = run(&link, &internal, &observed_answer(&answer).unwrap(), &policy);
    assert!(quiet(&plan), "the CRM's null wipes nothing: {}", plan.reason);
    assert!(plan.link.owed.contains("/company"));
    let link = settle_owed(&plan.link, "/company", NOW);
    let plan = run(&link, &internal, &read(&[("/name", json!("Ann"))]), &policy);
    assert_eq!(sent_out(&plan), one("/company", json!("c1")));
}

#[test]
fn an_owed_field_that_is_given_up_stays_as_it_is_until_it_changes() {
    let mut policy = policy();
    policy.mapped.push("/company".into());
    let internal = present(1, &[("/company", json!("c1"))]);
    let link = owe(&agreed(&[]), ["/company".to_owned()], NOW);
    let Internal::Present { fields: here, .. } = &internal else { unreachable!() };
    let there = fields(&[("/company", json!("p9"))]);
    let link = give_up_owed(&link, "/company", here, &there, NOW);
    assert_eq!(pair(&link, "/company"), (Some(json!("c1")), Some(json!("p9"))));
    for seen in [External::Unseen, read(&[("/company", json!("p9"))])] {
        assert!(quiet(&run(&link, &internal, &seen, &policy)), "{seen:?}");
    }
    let plan = run(&link, &present(2, &[("/company", json!("c2"))]), &External::Unseen, &policy);
    assert_eq!(sent_out(&plan), one("/company", json!("c2")));
}

#[test]
fn an_internal_record_older_than_what_is_known_is_read_again() {
    let mut link = agreed(&[("/phone", json!("2"))]);
    link.internal_version = Some(7);
    let plan = run(&link, &present(6, &[("/phone", json!("1"))]), &External::Unseen, &policy());
    assert_eq!(plan.ask, Some(Ask::ReadInternal));
    assert_eq!(plan.link, link);
}

#[test]
fn reasons_and_conflicts_name_fields_and_never_values() {
    let link = agreed(&[("/phone", json!("SECRET0")), ("/name", json!("SECRET1"))]);
    let internal = present(2, &[("/phone", json!("SECRET2")), ("/name", json!("SECRET3"))]);
    let external = read(&[("/phone", json!("SECRET4")), ("/name", json!("SECRET1"))]);
    let plan = run(&link, &internal, &external, &policy());
    let told = format!("{} {:?}", plan.reason, plan.conflicts);
    assert!(told.contains("/phone") && told.contains("/name") && !told.contains("SECRET"), "{told}");
    assert!(!plan.link.held["/phone"].why.contains("SECRET"));
}
