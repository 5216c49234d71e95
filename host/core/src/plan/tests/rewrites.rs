//! Servers that store another value than was sent, or return none; refusals; the loop breaker.

use super::*;

/// Writes the planned update and folds the answer in.
fn fold(plan: &Plan, internal: &Internal, answer: &ExternalWritten, policy: &ObjectPolicy) -> Link {
    after_external_write(&plan.link, plan.external.as_ref().unwrap(), internal, answer, policy, NOW)
}

#[test]
fn a_rewritten_value_gives_two_halves_and_no_further_write() {
    let internal = present(2, &[("/phone", json!("0301234"))]);
    let plan = run(&agreed(&[]), &internal, &External::Unseen, &policy());
    let answer = written(Some(&[("/phone", json!("+49301234"))]));
    let mut link = fold(&plan, &internal, &answer, &policy());
    assert_eq!(pair(&link, "/phone"), (Some(json!("0301234")), Some(json!("+49301234"))));
    let mut external = observed_answer(&answer).unwrap();
    for _ in 0..1_000 {
        let plan = run(&link, &internal, &external, &policy());
        assert!(quiet(&plan), "{}", plan.reason);
        link = plan.link;
        external = read(&[("/phone", json!("+49301234"))]);
    }
}

/// The lost update that a single base prescribes: after a rewrite, a person's edit in the CRM looked like a conflict and lost.
#[test]
fn an_edit_of_a_rewritten_field_is_carried_over_though_system_a_would_win_a_conflict() {
    let policy = with("/phone", |field| field.on_conflict = OnConflict::Internal);
    let internal = present(2, &[("/phone", json!("0301234"))]);
    let plan = run(&agreed(&[]), &internal, &External::Unseen, &policy);
    let link = fold(&plan, &internal, &written(Some(&[("/phone", json!("+49301234"))])), &policy);
    let plan = run(&link, &internal, &read(&[("/phone", json!("+49309999"))]), &policy);
    assert_eq!(sent_in(&plan), one("/phone", json!("+49309999")));
    assert!(plan.external.is_none() && plan.conflicts.is_empty());
}

#[test]
fn an_adopted_rewrite_is_carried_to_system_a_once() {
    let policy = with("/phone", |field| field.on_rewrite = OnRewrite::Adopt);
    let internal = present(2, &[("/phone", json!("0301234"))]);
    let plan = run(&agreed(&[]), &internal, &External::Unseen, &policy);
    let answer = written(Some(&[("/phone", json!("+49301234"))]));
    let link = fold(&plan, &internal, &answer, &policy);
    let external = observed_answer(&answer).unwrap();
    let plan = run(&link, &internal, &external, &policy);
    assert_eq!(sent_in(&plan), one("/phone", json!("+49301234")));
    let link = after_internal_write(&plan.link, plan.internal.as_ref().unwrap(), 3, &external, &policy, NOW);
    let plan = run(&link, &present(3, &[("/phone", json!("+49301234"))]), &external, &policy);
    assert!(quiet(&plan));
}

/// The CRM has elements of its own that do not come to System A, and its own form of those that it is sent.
#[test]
fn a_set_that_flows_to_the_crm_alone_is_sent_once_whatever_the_crm_makes_of_its_elements() {
    let policy = with("/tags", |field| field.flow = Flow::ToExternal);
    let mut link = agreed(&[("/tags", json!([]))]);
    link.base.get_mut("/tags").unwrap().external = Some(json!(["extra"]));
    let internal = present(2, &[("/tags", json!(["vip"]))]);
    for stored in [json!(["extra", "VIP"]), json!(["extra"]), json!(["extra", "vip"])] {
        let plan = run(&link, &internal, &External::Unseen, &policy);
        assert_eq!(sent_out(&plan), one("/tags", json!(["extra", "vip"])));
        for answer in [written(Some(&[("/tags", stored.clone())])), written(None)] {
            let link = fold(&plan, &internal, &answer, &policy);
            let plan = run(&link, &internal, &read(&[("/tags", stored.clone())]), &policy);
            assert!(quiet(&plan), "{stored}: {plan:?}");
            // What is added later goes on its way, and nothing else does.
            let more = present(3, &[("/tags", json!(["vip", "new"]))]);
            let plan = run(&plan.link, &more, &read(&[("/tags", stored.clone())]), &policy);
            let mut expected = stored.as_array().cloned().unwrap();
            expected.push(json!("new"));
            assert_eq!(sent_out(&plan), one("/tags", Value::Array(expected)));
        }
    }
}

#[test]
fn nothing_is_remembered_of_a_rewrite_that_system_a_is_not_to_get() {
    let adopt = with("/phone", |field| field.on_rewrite = OnRewrite::Adopt);
    let internal = present(2, &[("/phone", json!("0301234"))]);
    for (policy, returned) in [(policy(), "+49301234"), (adopt, "0301234")] {
        let plan = run(&agreed(&[]), &internal, &External::Unseen, &policy);
        let link = fold(&plan, &internal, &written(Some(&[("/phone", json!(returned))])), &policy);
        assert!(link.rewritten.is_empty(), "{returned}");
    }
    // Elements are told apart one by one.
    let adopt = with("/tags", |field| field.on_rewrite = OnRewrite::Adopt);
    let internal = present(2, &[("/tags", json!(["VIP"]))]);
    let plan = run(&agreed(&[]), &internal, &External::Unseen, &adopt);
    let link = fold(&plan, &internal, &written(Some(&[("/tags", json!(["vip"]))])), &adopt);
    assert!(link.rewritten.is_empty());
}

#[test]
fn what_was_assumed_and_is_seen_to_be_a_rewrite_does_not_win_over_what_was_edited_meanwhile() {
    let mut policy = with("/phone", |field| field.on_rewrite = OnRewrite::Adopt);
    let sent = present(2, &[("/phone", json!(" 2"))]);
    let edited = present(3, &[("/phone", json!("3"))]);
    let plan = run(&agreed(&[("/phone", json!("1"))]), &sent, &External::Unseen, &policy);
    let link = fold(&plan, &sent, &written(None), &policy);
    let plan = run(&link, &edited, &read(&[("/phone", json!("2"))]), &policy);
    assert!(plan.conflicts.is_empty() && plan.internal.is_none(), "{}", plan.reason);
    assert_eq!(sent_out(&plan), one("/phone", json!("3")));
    assert!(plan.link.rewritten.is_empty());
    // Where nothing flows to System A, what the CRM made of our value is no change there that is told of.
    policy.fields.get_mut("/phone").unwrap().flow = Flow::ToExternal;
    let plan = run(&link, &sent, &read(&[("/phone", json!("2"))]), &policy);
    assert!(quiet(&plan) && !plan.reason.contains("changed in the CRM"), "{}", plan.reason);
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!(" 2")), Some(json!("2"))));
}

#[test]
fn an_edit_inside_the_answer_of_our_own_write_is_carried_to_system_a() {
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy());
    let answer = written(Some(&[("/phone", json!("2")), ("/name", json!("Anna"))]));
    let link = fold(&plan, &internal, &answer, &policy());
    assert_eq!(pair(&link, "/name"), (Some(json!("Ann")), Some(json!("Ann"))), "only what was written moves");
    let plan = run(&link, &internal, &observed_answer(&answer).unwrap(), &policy());
    assert_eq!(sent_in(&plan), one("/name", json!("Anna")));
    assert!(plan.external.is_none());
}

#[test]
fn a_default_that_the_crm_sets_on_creation_is_carried_to_system_a() {
    let internal = present(1, &[("/name", json!("Ann"))]);
    let plan = run(&unlinked(), &internal, &External::Unseen, &policy());
    let answer = written(Some(&[("/name", json!("Ann")), ("/phone", json!("default"))]));
    let link = fold(&plan, &internal, &answer, &policy());
    assert_eq!(link.external, Some("e1".into()));
    let plan = run(&link, &internal, &observed_answer(&answer).unwrap(), &policy());
    assert_eq!(sent_in(&plan), one("/phone", json!("default")));
}

#[test]
fn without_a_returned_record_the_half_is_assumed_until_it_is_seen() {
    let internal = present(2, &[("/phone", json!("0301234"))]);
    let plan = run(&agreed(&[]), &internal, &External::Unseen, &policy());
    let link = fold(&plan, &internal, &written(None), &policy());
    assert!(link.base["/phone"].assumed);
    assert!(quiet(&run(&link, &internal, &External::Unseen, &policy())));
    let seen = run(&link, &internal, &read(&[("/phone", json!("0301234"))]), &policy());
    assert!(quiet(&seen) && !seen.link.base["/phone"].assumed);
    // Seen different: a rewrite, not a change.
    let seen = run(&link, &internal, &read(&[("/phone", json!("+49301234"))]), &policy());
    assert!(quiet(&seen));
    assert_eq!(pair(&seen.link, "/phone"), (Some(json!("0301234")), Some(json!("+49301234"))));
    let adopt = with("/phone", |field| field.on_rewrite = OnRewrite::Adopt);
    let seen = run(&link, &internal, &read(&[("/phone", json!("+49301234"))]), &adopt);
    assert_eq!(sent_in(&seen), one("/phone", json!("+49301234")));
}

#[test]
fn an_assumed_half_that_moved_after_our_write_is_a_change() {
    let internal = present(2, &[("/phone", json!("2"))]);
    let plan = run(&agreed(&[("/phone", json!("1"))]), &internal, &External::Unseen, &policy());
    let mut answer = written(None);
    answer.stamp = Some(50);
    let link = fold(&plan, &internal, &answer, &policy());
    let ours = whole(Source::Read { began: NOW }, Some(50), &[("/phone", json!("rewritten"))]);
    assert!(quiet(&run(&link, &internal, &ours, &policy())));
    let later = whole(Source::Read { began: NOW }, Some(51), &[("/phone", json!("edited"))]);
    assert_eq!(sent_in(&run(&link, &internal, &later, &policy())), one("/phone", json!("edited")));
}

#[test]
fn a_refused_field_is_left_out_until_its_internal_value_changes() {
    let policy = with("/phone", |field| field.on_reject = OnReject::OmitAndFlag);
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(2, &[("/phone", json!("bad")), ("/name", json!("Anna"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy);
    assert_eq!(sent_out(&plan).len(), 2);
    let link = after_external_reject(&plan.link, &names(&["/phone"]), &internal, &policy, NOW).unwrap();
    assert_eq!(link.refused["/phone"], json!("bad"));
    let plan = run(&link, &internal, &External::Unseen, &policy);
    assert_eq!(sent_out(&plan), one("/name", json!("Anna")));
    let better = present(3, &[("/phone", json!("good")), ("/name", json!("Ann"))]);
    let plan = run(&link, &better, &External::Unseen, &policy);
    assert_eq!(sent_out(&plan), one("/phone", json!("good")));
    assert!(plan.link.refused.is_empty());
}

#[test]
fn a_refused_field_takes_its_group_along_and_a_create_goes_without_it() {
    let mut policy = policy();
    policy
        .fields
        .insert("address".into(), FieldPolicy { on_reject: OnReject::OmitAndFlag, ..FieldPolicy::default() });
    let internal = present(1, &[("/name", json!("Ann")), ("/street", json!("S")), ("/city", json!("C"))]);
    let link = after_external_reject(&unlinked(), &names(&["/city"]), &internal, &policy, NOW).unwrap();
    let plan = run(&link, &internal, &External::Unseen, &policy);
    assert_eq!(plan.external, Some(ExternalWrite::Create { fields: fields(&[("/name", json!("Ann"))]) }));
    assert_eq!(
        after_external_reject(&unlinked(), &names(&["/city", "/name"]), &internal, &policy, NOW),
        None
    );
    assert_eq!(after_external_reject(&unlinked(), &names(&["/other"]), &internal, &policy, NOW), None);
    assert_eq!(after_external_reject(&unlinked(), &names(&[]), &internal, &policy, NOW), None);
}

#[test]
fn a_field_that_the_crm_did_not_take_is_not_written_again_and_again() {
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("B"))]);
    let plan = run(
        &agreed(&[("/phone", json!("1")), ("/name", json!("A"))]),
        &internal,
        &External::Unseen,
        &policy(),
    );
    let mut answer = written(Some(&[("/phone", json!("1")), ("/name", json!("B"))]));
    answer.unapplied = names(&["/phone"]);
    let link = fold(&plan, &internal, &answer, &policy());
    let plan = run(&link, &internal, &observed_answer(&answer).unwrap(), &policy());
    assert!(quiet(&plan), "{}", plan.reason);
    assert!(plan.link.refused.contains_key("/phone"));
}

#[test]
fn a_field_that_goes_back_and_forth_is_frozen_with_its_sequence_and_without_values() {
    let mut policy = policy();
    policy.loop_limit = 3;
    policy.loop_window_ms = 60_000;
    let mut link = agreed(&[("/phone", json!("v0")), ("/name", json!("Ann"))]);
    let mut value = "v0".to_owned();
    let mut writes = 0;
    // Two robots, one on each side, that undo each other.
    for step in 1..20_u64 {
        let at = NOW + step * 100;
        let new = format!("v{step}");
        let (internal, external) = if step % 2 == 1 {
            let internal = present(step + 1, &[("/phone", json!(new)), ("/name", json!("Ann"))]);
            (internal, External::Unseen)
        } else {
            let internal = present(step, &[("/phone", json!(value)), ("/name", json!("Ann"))]);
            let seen =
                whole(Source::Read { began: at }, None, &[("/phone", json!(new)), ("/name", json!("Ann"))]);
            (internal, seen)
        };
        let plan = super::super::plan(&link, &internal, &external, &policy, at);
        link = plan.link.clone();
        if let Some(write) = &plan.external {
            writes += 1;
            let answer = written(Some(&[("/phone", json!(new)), ("/name", json!("Ann"))]));
            link = after_external_write(&link, write, &internal, &answer, &policy, at);
        }
        if let Some(write) = &plan.internal {
            writes += 1;
            link = after_internal_write(&link, write, step + 1, &external, &policy, at);
        }
        value = new;
    }
    // The first write and three alternations.
    assert_eq!(writes, 4);
    let why = &link.frozen["/phone"];
    assert!(why.contains("external at 1000100, internal at 1000200"), "{why}");
    assert!(!why.contains("v1"));
    // Other fields still flow.
    let internal = present(50, &[("/phone", json!("v")), ("/name", json!("Anna"))]);
    assert_eq!(sent_out(&run(&link, &internal, &External::Unseen, &policy)), one("/name", json!("Anna")));
    // An event about the frozen field costs nothing.
    let event = External::Partial { fields: fields(&[("/phone", json!("w"))]), stamp: None };
    let quiet_internal = present(50, &[("/phone", json!("v")), ("/name", json!("Ann"))]);
    assert!(quiet(&run(&link, &quiet_internal, &event, &policy)));
    // Unfrozen, it is looked at first and then flows.
    let link = unfreeze(&link, "/phone", NOW);
    assert_eq!(run(&link, &quiet_internal, &External::Unseen, &policy).ask, Some(Ask::ReadExternal));
    let external =
        whole(Source::Read { began: NOW + 10_000 }, None, &[("/phone", json!("v")), ("/name", json!("Ann"))]);
    assert!(quiet(&run(&link, &quiet_internal, &external, &policy)));
}

#[test]
fn a_rewrite_that_is_to_be_adopted_does_not_win_over_what_was_edited_meanwhile() {
    let mut policy = policy();
    policy.default.on_rewrite = OnRewrite::Adopt;
    policy.default.on_conflict = OnConflict::External;
    let sent = present(2, &[("/phone", json!(" 2")), ("/name", json!("Ann"))]);
    let plan =
        run(&agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]), &sent, &External::Unseen, &policy);
    let answer = written(Some(&[("/phone", json!("2")), ("/name", json!("Ann"))]));
    let link = fold(&plan, &sent, &answer, &policy);
    let observed = observed_answer(&answer).unwrap();
    // Nobody was there: it is adopted.
    assert_eq!(sent_in(&run(&link, &sent, &observed, &policy)), one("/phone", json!("2")));
    // Somebody edited the number before that: the edit goes out.
    let edited = present(3, &[("/phone", json!("3")), ("/name", json!("Ann"))]);
    let plan = run(&link, &edited, &observed, &policy);
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert_eq!((sent_out(&plan), plan.internal), (one("/phone", json!("3")), None));
}

/// The write to System A may come to nothing after the rewrite was seen: the process dies, a rule stops it.
#[test]
fn an_adopted_rewrite_that_has_not_reached_system_a_loses_to_an_edit_there_though_the_record_moved() {
    let mut policy = policy();
    policy.default.on_rewrite = OnRewrite::Adopt;
    policy.default.on_conflict = OnConflict::External;
    let base = [("/phone", json!("1")), ("/name", json!("Ann"))];
    let sent = present(2, &[("/phone", json!(" 2")), ("/name", json!("Ann"))]);
    let plan = run(&agreed(&base), &sent, &External::Unseen, &policy);
    let there = |stamp, phone: &str, name: &str| {
        let fields = [("/phone", json!(phone)), ("/name", json!(name))];
        whole(Source::Read { began: NOW }, Some(stamp), &fields)
    };
    for returned in [Some([("/phone", json!("2")), ("/name", json!("Ann"))]), None] {
        let answer =
            ExternalWritten { stamp: Some(50), ..written(returned.as_ref().map(<[_; 2]>::as_slice)) };
        let seen = run(&fold(&plan, &sent, &answer, &policy), &sent, &there(50, "2", "Ann"), &policy);
        assert_eq!(sent_in(&seen), one("/phone", json!("2")));
        let link = seen.link;
        let elsewhere = run(&link, &sent, &External::Moved { to: "e2".into() }, &policy).link;
        assert!(!link.rewritten.is_empty() && elsewhere.rewritten.is_empty(), "that is another record");
        let moved = there(60, "2", "Anna");
        // Nobody edited it: it is adopted still.
        let both = [one("/name", json!("Anna")), one("/phone", json!("2"))].concat();
        assert_eq!(sent_in(&run(&link, &sent, &moved, &policy)), both);
        let edited = present(3, &[("/phone", json!("3")), ("/name", json!("Ann"))]);
        let next = run(&link, &edited, &moved, &policy);
        assert!(next.conflicts.is_empty(), "{}", next.reason);
        assert_eq!(sent_out(&next), one("/phone", json!("3")));
        assert_eq!(sent_in(&next), one("/name", json!("Anna")));
        // An edit of the number in the CRM is one still, also after it was taken back.
        let next = run(&link, &edited, &there(60, "4", "Ann"), &policy);
        assert_eq!(next.conflicts.len(), 1, "{}", next.reason);
        assert_eq!(sent_in(&next), one("/phone", json!("4")));
        assert_eq!(run(&next.link, &edited, &there(70, "2", "Ann"), &policy).conflicts.len(), 1);
    }
}

/// The server made something of the street, and before System A had it somebody edited the city there.
#[test]
fn an_adopted_rewrite_of_one_field_does_not_win_over_an_edit_of_another_field_of_its_group() {
    for on_conflict in [OnConflict::External, OnConflict::Review] {
        let mut policy = policy();
        policy.default.on_rewrite = OnRewrite::Adopt;
        policy.default.on_conflict = on_conflict;
        let base = [("/street", json!("Side")), ("/city", json!("Ulm"))];
        let sent = present(2, &[("/street", json!(" Main")), ("/city", json!("Ulm"))]);
        let plan = run(&agreed(&base), &sent, &External::Unseen, &policy);
        let made = [("/street", json!("Main")), ("/city", json!("Ulm"))];
        let answer = ExternalWritten { stamp: Some(50), ..written(Some(&made)) };
        let there = whole(Source::Read { began: NOW }, Some(50), &made);
        let link = run(&fold(&plan, &sent, &answer, &policy), &sent, &there, &policy).link;
        let edited = present(3, &[("/street", json!(" Main")), ("/city", json!("Bonn"))]);
        let next = run(&link, &edited, &whole(Source::Read { began: NOW }, Some(60), &made), &policy);
        assert!(next.conflicts.is_empty() && next.internal.is_none(), "{on_conflict:?}: {}", next.reason);
        assert_eq!(pair(&next.link, "/street"), (Some(json!(" Main")), Some(json!("Main"))));
        let out = sent_out(&next);
        assert!(out.contains(&("/city".to_owned(), Some(json!("Bonn")))), "{on_conflict:?}: {out:?}");
    }
}

#[test]
fn an_adopted_rewrite_that_has_not_reached_system_a_is_no_update_against_a_deletion_there() {
    let policy = with("/phone", |field| field.on_rewrite = OnRewrite::Adopt);
    let base = [("/phone", json!("1")), ("/name", json!("Ann"))];
    let sent = present(2, &[("/phone", json!(" 2")), ("/name", json!("Ann"))]);
    let plan = run(&agreed(&base), &sent, &External::Unseen, &policy);
    let answer = ExternalWritten {
        stamp: Some(50),
        ..written(Some(&[("/phone", json!("2")), ("/name", json!("Ann"))]))
    };
    let link =
        run(&fold(&plan, &sent, &answer, &policy), &sent, &observed_answer(&answer).unwrap(), &policy).link;
    let there = [("/phone", json!("2")), ("/name", json!("Ann"))];
    let plan = run(&link, &deleted(3), &whole(Source::Read { began: NOW }, Some(60), &there), &policy);
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert!(matches!(plan.external, Some(ExternalWrite::Remove { .. })), "{}", plan.reason);
    let there = [("/phone", json!("4")), ("/name", json!("Ann"))];
    let plan = run(&link, &deleted(3), &whole(Source::Read { began: NOW }, Some(60), &there), &policy);
    assert_eq!(plan.conflicts.len(), 1, "{}", plan.reason);
}

/// What we sent was not seen before somebody edited another field: what is there may be an edit as well as what the server made of it.
#[test]
fn what_may_be_a_rewrite_is_held_and_does_not_win_over_an_edit_in_system_a() {
    let mut policy = policy();
    policy.default.on_conflict = OnConflict::External;
    let base = [("/phone", json!("1")), ("/name", json!("Ann"))];
    let sent = present(2, &[("/phone", json!(" 2")), ("/name", json!("Ann"))]);
    let plan = run(&agreed(&base), &sent, &External::Unseen, &policy);
    let mut answer = written(None);
    answer.stamp = Some(50);
    let assumed = fold(&plan, &sent, &answer, &policy);
    let ours =
        whole(Source::Read { began: NOW }, Some(50), &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let seen = run(&assumed, &sent, &ours, &policy).link;
    let edited = present(3, &[("/phone", json!("3")), ("/name", json!("Ann"))]);
    let there = [("/phone", json!("4")), ("/name", json!("Anna"))];
    let later = whole(Source::Read { began: NOW }, Some(60), &there);
    for (link, ruling) in [(&assumed, Verdict::Review), (&seen, Verdict::External)] {
        let plan = run(link, &edited, &later, &policy);
        assert_eq!(plan.conflicts.len(), 1, "{}", plan.reason);
        assert_eq!(plan.conflicts[0].ruling, ruling, "{}", plan.conflicts[0].why);
        assert_eq!(plan.external, None, "{}", plan.reason);
        let taken = sent_in(&plan).iter().any(|(pointer, _)| pointer == "/phone");
        assert_eq!(taken, ruling == Verdict::External, "{}", plan.reason);
    }
}

#[test]
fn writes_far_apart_or_to_one_side_only_are_no_loop() {
    let mut policy = policy();
    policy.loop_limit = 2;
    policy.loop_window_ms = 1_000;
    for apart in [10, 5_000] {
        let mut link = agreed(&[("/phone", json!("v0"))]);
        for step in 1..20_u64 {
            let at = NOW + step * apart;
            let value = json!(format!("v{step}"));
            let both = apart > policy.loop_window_ms && step % 2 == 0;
            let (internal, external) = if both {
                let previous = json!(format!("v{}", step - 1));
                let seen = whole(Source::Read { began: at }, None, &[("/phone", value.clone())]);
                (present(step, &[("/phone", previous)]), seen)
            } else {
                (present(step + 1, &[("/phone", value.clone())]), External::Unseen)
            };
            let plan = super::super::plan(&link, &internal, &external, &policy, at);
            link = match (&plan.external, &plan.internal) {
                (Some(write), None) => after_external_write(
                    &plan.link,
                    write,
                    &internal,
                    &written(Some(&[("/phone", value.clone())])),
                    &policy,
                    at,
                ),
                (None, Some(write)) => {
                    after_internal_write(&plan.link, write, step + 1, &external, &policy, at)
                }
                other => panic!("step {step}: {other:?} {}", plan.reason),
            };
        }
        assert!(link.frozen.is_empty());
        assert!(link.alternations["/phone"].writes.len() <= 4);
    }
}
