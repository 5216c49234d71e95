//! Which half of the base moves after a write, and how far.

use super::*;

fn internal_write(fields_after: &[(&str, Value)], changed: &[&str]) -> InternalWrite {
    InternalWrite::Update { expected: 1, fields: fields(fields_after), changed: names(changed) }
}

#[test]
fn a_value_of_the_crm_that_was_written_to_system_a_moves_both_halves_each_in_its_own_form() {
    let link = agreed(&[("/email", json!("a@example.com"))]);
    let external = read(&[("/email", json!("B@Example.com"))]);
    let write = internal_write(&[("/email", json!("b@example.com"))], &["/email"]);
    let next = after_internal_write(&link, &write, 2, &external, &policy(), NOW);
    assert_eq!(pair(&next, "/email"), (Some(json!("b@example.com")), Some(json!("B@Example.com"))));
}

#[test]
fn a_value_that_was_not_the_crms_leaves_its_half_where_it_was() {
    let link = agreed(&[("/phone", json!("1"))]);
    let write = internal_write(&[("/phone", json!("4"))], &["/phone"]);
    for external in [read(&[("/phone", json!("3"))]), External::Unseen] {
        let next = after_internal_write(&link, &write, 2, &external, &policy(), NOW);
        assert_eq!(pair(&next, "/phone"), (Some(json!("4")), Some(json!("1"))), "{external:?}");
    }
}

#[test]
fn a_half_that_was_assumed_stays_so_until_it_is_seen_and_no_other_becomes_so() {
    let assumed = |before: bool, external: &External| {
        let mut link = agreed(&[("/phone", json!("1"))]);
        link.base.get_mut("/phone").unwrap().assumed = before;
        let write = internal_write(&[("/phone", json!("2"))], &["/phone"]);
        after_internal_write(&link, &write, 2, external, &policy(), NOW).base["/phone"].assumed
    };
    let seen = read(&[("/phone", json!("2"))]);
    assert!(assumed(true, &External::Unseen));
    assert!(!assumed(true, &seen));
    assert!(!assumed(false, &External::Unseen));
    assert!(!assumed(false, &seen));
}

#[test]
fn elements_that_came_to_system_a_move_and_those_of_one_side_stay_there() {
    let mut link = agreed(&[]);
    let half = |elements: Value| Some(elements);
    let tags = Pair {
        internal: half(json!(["a"])),
        external: half(json!(["a", "opaque"])),
        assumed: false,
        given: false,
    };
    link.base.insert("/tags".into(), tags);
    let external = read(&[("/tags", json!(["a", "opaque", "new"]))]);
    let plan = run(&link, &present(1, &[("/tags", json!(["a"]))]), &external, &policy());
    let next =
        after_internal_write(&plan.link, plan.internal.as_ref().unwrap(), 2, &external, &policy(), NOW);
    assert_eq!(pair(&next, "/tags"), (Some(json!(["a", "new"])), Some(json!(["a", "opaque", "new"]))));
}

/// System A took one element out and put one in; the CRM has one more of its own.
fn elements_sent(internal: &Internal, answer: &ExternalWritten) -> Link {
    let link = agreed(&[("/tags", json!(["a", "b"]))]);
    let planned = present(2, &[("/tags", json!(["b", "c"]))]);
    let plan = run(&link, &planned, &read(&[("/tags", json!(["a", "b", "d"]))]), &policy());
    assert_eq!(sent_out(&plan), one("/tags", json!(["b", "d", "c"])));
    after_external_write(&link, plan.external.as_ref().unwrap(), internal, answer, &policy(), NOW)
}

#[test]
fn elements_that_were_delivered_move_and_no_others() {
    let planned = present(2, &[("/tags", json!(["b", "c"]))]);
    let moved = (Some(json!(["b", "c"])), Some(json!(["b", "c"])));
    for answer in [written(None), written(Some(&[("/tags", json!(["b", "d", "c"]))]))] {
        assert_eq!(pair(&elements_sent(&planned, &answer), "/tags"), moved);
    }
    // Put in after the plan was made: still to be sent.
    let later = present(3, &[("/tags", json!(["b", "c", "e"]))]);
    assert_eq!(pair(&elements_sent(&later, &written(None)), "/tags"), moved);
}

#[test]
fn an_element_that_is_taken_out_after_it_was_delivered_does_not_come_back() {
    let link = agreed(&[("/tags", json!(["a"]))]);
    let internal = present(2, &[("/tags", json!(["a", "b"]))]);
    let plan = run(&link, &internal, &External::Unseen, &policy());
    let answer = written(Some(&[("/tags", json!(["a", "b"]))]));
    let link =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &internal, &answer, &policy(), NOW);
    let plan = run(&link, &internal, &read(&[("/tags", json!(["a"]))]), &policy());
    assert_eq!(sent_in(&plan), one("/tags", json!(["a"])));
    assert_eq!(plan.external, None);
}

#[test]
fn an_element_that_the_crm_stores_in_another_form_is_known_when_as_many_vanished_as_appeared() {
    let half_of = |returned: Value| {
        let link = agreed(&[("/tags", json!(["a"]))]);
        let internal = present(2, &[("/tags", json!(["a", "VIP"]))]);
        let plan = run(&link, &internal, &External::Unseen, &policy());
        let answer = written(Some(&[("/tags", returned)]));
        let next = after_external_write(
            &plan.link,
            plan.external.as_ref().unwrap(),
            &internal,
            &answer,
            &policy(),
            NOW,
        );
        let (here, there) = pair(&next, "/tags");
        assert_eq!(here, Some(json!(["a", "VIP"])));
        there.unwrap()
    };
    assert_eq!(half_of(json!(["a", "vip"])), json!(["a", "vip"]));
    assert_eq!(half_of(json!(["a", "vip", "x"])), json!(["a"]), "which of the two it is cannot be told");
}

#[test]
fn the_order_of_elements_moves_no_half() {
    let link = agreed(&[("/tags", json!(["a", "b"]))]);
    let internal = present(2, &[("/tags", json!(["b", "a"]))]);
    let plan = run(&link, &internal, &read(&[("/tags", json!(["b", "a"]))]), &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.link.base, link.base);
}

/// Two writes without a returned record, one after the other: /phone, then /name.
fn two_writes(condition: Option<&str>) -> (Link, Internal) {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let answered = |version: &str| ExternalWritten { version: Some(version.into()), ..written(None) };
    let first = ExternalWrite::Update {
        fields: fields(&[("/phone", json!("2")), ("/name", json!("Ann"))]),
        changed: names(&["/phone"]),
        version: None,
        stamp: None,
    };
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let link = after_external_write(&link, &first, &internal, &answered("v2"), &policy(), NOW);
    let second = ExternalWrite::Update {
        fields: fields(&[("/phone", json!("2")), ("/name", json!("Anna"))]),
        changed: names(&["/name"]),
        version: condition.map(str::to_owned),
        stamp: None,
    };
    let internal = present(3, &[("/phone", json!("2")), ("/name", json!("Anna"))]);
    (after_external_write(&link, &second, &internal, &answered("v3"), &policy(), NOW), internal)
}

#[test]
fn a_rewrite_is_known_over_writes_that_followed_each_other_without_a_gap() {
    let mut seen = read(&[("/phone", json!("rewritten")), ("/name", json!("Anna"))]);
    if let External::Whole { version, .. } = &mut seen {
        *version = Some("v3".into());
    }
    let (link, internal) = two_writes(Some("v2"));
    assert_eq!(link.own.as_ref().unwrap().fields, names(&["/phone", "/name"]));
    assert!(quiet(&run(&link, &internal, &seen, &policy())));
    // Somebody may have edited the record between the two.
    for condition in [None, Some("v1")] {
        let (link, internal) = two_writes(condition);
        assert_eq!(link.own.as_ref().unwrap().fields, names(&["/name"]), "{condition:?}");
        let plan = run(&link, &internal, &seen, &policy());
        assert_eq!(sent_in(&plan), one("/phone", json!("rewritten")), "{condition:?}");
    }
}

#[test]
fn a_new_record_is_known_to_lack_what_was_neither_sent_nor_owed_nor_refused() {
    let mut policy = policy();
    policy.mapped.push("/company".into());
    let link = owe(&unlinked(), ["/company".to_owned()], NOW);
    let internal = present(1, &[("/name", json!("Ann")), ("/phone", json!("bad")), ("/street", json!(""))]);
    let plan = run(&link, &internal, &External::Unseen, &policy);
    let mut answer = written(Some(&[("/name", json!("Ann")), ("/street", json!(""))]));
    answer.unapplied = names(&["/phone"]);
    let next =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &internal, &answer, &policy, NOW);
    assert_eq!(pair(&next, "/city"), (None, None));
    assert!(next.base["/city"].assumed);
    assert_eq!(pair(&next, "/street"), (Some(json!("")), Some(json!(""))), "it was sent, and is empty");
    assert!(!next.base.contains_key("/company"), "it is owed");
    assert!(!next.base.contains_key("/phone"), "it was refused");
}

#[test]
fn a_write_to_system_a_is_noted_with_the_value_that_it_comes_from() {
    let link = agreed(&[("/phone", json!("1"))]);
    let noted = |external: &External| {
        let mut unsettled = Unsettled::default();
        unsettled.note_internal(&internal_write(&[("/phone", json!("2"))], &["/phone"]), &link, external);
        unsettled.to_internal["/phone"].external.clone()
    };
    assert_eq!(noted(&read(&[("/phone", json!("two"))])), Some(json!("two")));
    assert_eq!(noted(&External::Unseen), Some(json!("1")), "what was believed");
}

#[test]
fn what_is_owed_already_changes_nothing() {
    let owed = owe(&agreed(&[]), ["/phone".to_owned()], NOW);
    assert_eq!(owed.committed_at, NOW);
    assert_eq!(owe(&owed, ["/phone".to_owned()], NOW + 1), owed);
}
