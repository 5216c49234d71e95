//! What is not written yet, and what is said of it: frozen, held, decided, refused, owed, never compared.

use super::*;
use crate::link::Chosen;

const NOTHING: &str = "nothing to do: both sides are as they last agreed";

fn link() -> Link {
    agreed(&[("/phone", json!("1")), ("/street", json!("S")), ("/city", json!("C")), ("/tags", json!(["a"]))])
}

/// Both sides' records with these fields changed.
fn changed(members: &[(&str, Value)]) -> Fields {
    let mut all = fields(&[
        ("/phone", json!("1")),
        ("/street", json!("S")),
        ("/city", json!("C")),
        ("/tags", json!(["a"])),
    ]);
    all.extend(fields(members));
    all
}

fn here(members: &[(&str, Value)]) -> Internal {
    Internal::Present { fields: changed(members), version: 2, changed_at: Some(NOW - 10) }
}

fn there(members: &[(&str, Value)]) -> External {
    let mut seen = read(&[]);
    if let External::Whole { fields, .. } = &mut seen {
        *fields = changed(members);
    }
    seen
}

fn frozen(field: &str) -> Link {
    let mut link = link();
    link.frozen.insert(field.into(), "it went back and forth".into());
    link
}

#[test]
fn a_reason_says_what_was_seen_and_decided_and_nothing_when_there_is_nothing() {
    for (internal, external, reason) in [
        (here(&[]), External::Unseen, NOTHING),
        (here(&[]), there(&[]), NOTHING),
        (here(&[]), External::Touched, "the external record was touched"),
        (here(&[("/phone", json!("2"))]), External::Unseen, "to the CRM: /phone"),
        (here(&[]), there(&[("/phone", json!("2"))]), "to System A: /phone"),
        (here(&[("/phone", json!("2"))]), there(&[("/phone", json!("2"))]), "agreed on both sides: /phone"),
        (here(&[("/tags", json!(["b"]))]), External::Unseen, "elements merged: /tags"),
    ] {
        assert_eq!(run(&link(), &internal, &external, &policy()).reason, reason);
    }
}

#[test]
fn values_that_are_equal_when_records_meet_are_agreed_without_a_word() {
    let link = redirect(&unlinked(), &"e1".into(), NOW);
    let plan = run(&link, &here(&[]), &there(&[]), &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, NOTHING);
    assert_eq!(plan.link.base.len(), policy().mapped.len(), "empty fields are compared too");
    assert_eq!(pair(&plan.link, "/tags"), (Some(json!(["a"])), Some(json!(["a"]))));
}

#[test]
fn a_side_that_comes_round_to_the_other_is_no_agreement_of_both() {
    let mut link = link();
    let rewritten =
        Pair { internal: Some(json!("1")), external: Some(json!("+1")), assumed: false, given: false };
    link.base.insert("/phone".into(), rewritten);
    let plan = run(&link, &here(&[("/phone", json!("+1"))]), &External::Unseen, &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, NOTHING);
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("+1")), Some(json!("+1"))));
}

#[test]
fn a_rewritten_field_is_not_written_along_with_its_group() {
    let mut link = link();
    let rewritten =
        Pair { internal: Some(json!("S")), external: Some(json!("S.")), assumed: false, given: false };
    link.base.insert("/street".into(), rewritten);
    let plan = run(&link, &here(&[("/city", json!("D"))]), &there(&[("/street", json!("S."))]), &policy());
    assert_eq!(sent_out(&plan), one("/city", json!("D")));
    assert_eq!(plan.internal, None);
}

#[test]
fn a_field_is_looked_at_when_it_is_unfrozen_wherever_it_was_counted() {
    // Frozen through another link of the entity: this one has not counted anything.
    let thawed = unfreeze(&frozen("/phone"), "/phone", NOW);
    assert_eq!(thawed, Link { look: true, committed_at: NOW, ..link() });
    let without_record = unfreeze(&Link { external: None, ..frozen("/phone") }, "/phone", NOW);
    assert!(without_record.frozen.is_empty() && !without_record.look, "there is nothing to look at");
    // Counted here and frozen elsewhere: it has been followed all the time.
    let mut counted = link();
    counted.alternations.entry("/phone".into()).or_default().writes.push((1, Side::External));
    assert_eq!(unfreeze(&counted, "/phone", NOW), Link { committed_at: NOW, ..link() });
    assert_eq!(unfreeze(&link(), "/phone", NOW), link());
}

#[test]
fn a_frozen_field_keeps_its_halves_while_the_sides_differ() {
    let plan = run(&frozen("/phone"), &here(&[("/phone", json!("2"))]), &there(&[]), &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, "frozen, not written: /phone");
    assert_eq!(plan.link.base, frozen("/phone").base);
}

#[test]
fn a_frozen_field_follows_when_both_sides_are_the_same_again_and_nothing_is_said() {
    let same = [("/phone", json!("2"))];
    let plan = run(&frozen("/phone"), &here(&same), &there(&same), &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, NOTHING);
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("2")), Some(json!("2"))));
    // One that was never compared is compared, and one that a rewrite left in two forms is left.
    let mut fresh = frozen("/phone");
    fresh.base.remove("/phone");
    let plan = run(&fresh, &here(&[]), &there(&[]), &policy());
    assert_eq!(pair(&plan.link, "/phone"), (Some(json!("1")), Some(json!("1"))));
    let mut rewritten = frozen("/phone");
    rewritten.base.get_mut("/phone").unwrap().external = Some(json!("+1"));
    let plan = run(&rewritten, &here(&[]), &there(&[("/phone", json!("+1"))]), &policy());
    assert_eq!((plan.reason.as_str(), plan.link.base), (NOTHING, rewritten.base));
}

#[test]
fn a_frozen_set_is_not_written_and_says_so_only_when_it_changed() {
    let plan = run(&frozen("/tags"), &here(&[]), &External::Unseen, &policy());
    assert_eq!(plan.reason, NOTHING);
    let plan = run(&frozen("/tags"), &here(&[("/tags", json!(["b"]))]), &External::Unseen, &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, "frozen, not written: /tags");
    assert_eq!(plan.link.base, link().base);
}

#[test]
fn a_set_that_is_mapped_later_is_read_before_it_is_written() {
    let mut link = link();
    link.base.remove("/tags");
    let ask =
        |internal: &Internal, policy: &ObjectPolicy| run(&link, internal, &External::Unseen, policy).ask;
    assert_eq!(ask(&here(&[]), &policy()), Some(Ask::ReadExternal));
    assert_eq!(ask(&here(&[("/tags", json!([]))]), &policy()), None, "there is nothing to write");
    let inward = with("/tags", |field| field.flow = Flow::ToInternal);
    assert_eq!(ask(&here(&[]), &inward), None, "it is never written");
}

#[test]
fn a_rewritten_element_is_told_from_an_edit_by_who_moved_the_record_last() {
    let internal = here(&[("/tags", json!(["a", "b"]))]);
    let plan = run(&link(), &internal, &External::Unseen, &policy());
    let answer = ExternalWritten { stamp: Some(50), ..written(None) };
    let link =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &internal, &answer, &policy(), NOW);
    let seen = |stamp: u64| {
        let mut seen = there(&[("/tags", json!(["a", "c"]))]);
        if let External::Whole { stamp: seen, .. } = &mut seen {
            *seen = Some(stamp);
        }
        run(&link, &internal, &seen, &policy())
    };
    let ours = seen(50);
    assert!(quiet(&ours), "{}", ours.reason);
    assert_eq!(pair(&ours.link, "/tags"), (Some(json!(["a", "b"])), Some(json!(["a", "c"]))));
    assert_eq!(sent_in(&seen(51)), one("/tags", json!(["a", "c"])));
}

#[test]
fn a_refused_set_is_left_out_keeps_its_halves_and_says_so_only_when_it_would_be_written() {
    let bad = [("/tags", json!(["a", "bad"]))];
    let mut link = link();
    link.refused.insert("/tags".into(), json!(["a", "bad"]));
    let plan = run(&link, &here(&bad), &there(&[]), &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, "left out, the CRM refused it: /tags");
    assert_eq!(plan.link.base, link.base);
    // The CRM has it by now: nothing is left out.
    let plan = run(&link, &here(&bad), &there(&bad), &policy());
    assert!(quiet(&plan));
    assert_eq!(plan.reason, NOTHING);
}

#[test]
fn a_set_that_both_sides_changed_to_the_same_is_agreed() {
    let same = [("/tags", json!(["a", "b"]))];
    let plan = run(&link(), &here(&same), &there(&same), &policy());
    assert!(quiet(&plan));
    assert_eq!(pair(&plan.link, "/tags"), (Some(json!(["a", "b"])), Some(json!(["a", "b"]))));
}

#[test]
fn a_group_flows_one_way_as_a_whole() {
    let mut policy = policy();
    policy.fields.insert("address".into(), FieldPolicy { flow: Flow::ToInternal, ..FieldPolicy::default() });
    let plan = run(&unlinked(), &here(&[]), &External::Unseen, &policy);
    let Some(ExternalWrite::Create { fields }) = plan.external else { panic!("{}", plan.reason) };
    assert!(
        !fields.contains_key("/street") && !fields.contains_key("/city") && fields.contains_key("/phone")
    );
}

/// A conflict on the phone that was decided by a value of its own.
fn decided() -> Link {
    let conflict =
        run(&link(), &here(&[("/phone", json!("2"))]), &there(&[("/phone", json!("3"))]), &policy());
    let choice = Choice::Value(fields(&[("/phone", json!("4"))]));
    decide_review(&conflict.link, "/phone", choice, NOW).unwrap()
}

#[test]
fn a_decided_value_is_held_again_when_either_side_changed_since() {
    for (mine, theirs) in [("22", "3"), ("2", "33"), ("22", "33")] {
        let internal = here(&[("/phone", json!(mine))]);
        let plan = run(&decided(), &internal, &there(&[("/phone", json!(theirs))]), &policy());
        assert!(quiet(&plan), "{mine} {theirs}");
        assert!(plan.link.held.contains_key("/phone") && plan.link.decided.is_empty(), "{mine} {theirs}");
    }
}

#[test]
fn a_decision_is_remembered_until_its_write_was_answered() {
    let (internal, external) = (here(&[("/phone", json!("2"))]), there(&[("/phone", json!("3"))]));
    let held = run(&link(), &internal, &external, &policy()).link;
    for (choice, chosen) in [(Choice::Internal, Chosen::Internal), (Choice::External, Chosen::External)] {
        let decided = decide_review(&held, "/phone", choice, NOW).unwrap();
        let first = run(&decided, &internal, &external, &policy());
        assert_eq!(first.link.decided["/phone"].choice, chosen);
        assert_eq!(first.reason, "decided in review: /phone");
        // The write was lost, and all that was committed is the plan's link.
        let second = run(&first.link, &internal, &external, &policy());
        assert_eq!((second.internal, second.external), (first.internal, first.external));
    }
}

#[test]
fn a_conflict_of_records_that_meet_is_told_from_one_of_a_field_that_is_mapped_later() {
    let why = |link: &Link| {
        let plan = run(link, &here(&[("/phone", json!("2"))]), &there(&[("/phone", json!("3"))]), &policy());
        plan.conflicts[0].why.clone()
    };
    let mut later = link();
    later.base.remove("/phone");
    assert_eq!(why(&later), "both sides had it when it was mapped; held for review by policy");
    // Others of their fields are equal, and agreed before it is ruled on this one.
    let met = redirect(&unlinked(), &"e1".into(), NOW);
    assert_eq!(why(&met), "both sides had it when they were linked; held for review by policy");
}

#[test]
fn the_time_of_system_a_counts_unless_its_version_is_that_of_our_own_write() {
    let policy = with("/phone", |field| field.on_conflict = OnConflict::Newest);
    let mut external = there(&[("/phone", json!("3"))]);
    if let External::Whole { changed_at, .. } = &mut external {
        changed_at.insert("/phone".into(), NOW - 90_000);
    }
    let ruling = |own: Option<u64>| {
        let link = Link { own_internal: own, ..link() };
        run(&link, &here(&[("/phone", json!("2"))]), &external, &policy).conflicts[0].ruling
    };
    assert_eq!(ruling(None), Verdict::Internal);
    assert_eq!(ruling(Some(1)), Verdict::Internal, "somebody wrote after us");
    assert_eq!(ruling(Some(2)), Verdict::Review);
}

#[test]
fn a_hint_about_a_record_that_is_not_linked_is_followed_unless_system_a_deleted_it() {
    let plan = run(&unlinked(), &here(&[]), &External::Touched, &policy());
    assert_eq!((plan.ask, plan.external), (Some(Ask::ReadExternal), None));
    let plan = run(&unlinked(), &deleted(2), &External::Touched, &policy());
    assert!(quiet(&plan));
    assert!(matches!(plan.link.life, Life::Tombstone { .. }));
    // A linked one is looked at even where the deletion wins anyway.
    let wins = ObjectPolicy { on_delete_conflict: OnDeleteConflict::Delete, ..policy() };
    let plan = run(&link(), &deleted(2), &External::Touched, &wins);
    assert_eq!((plan.ask, plan.external), (Some(Ask::ReadExternal), None));
}

#[test]
fn the_memory_of_what_went_back_and_forth_is_bounded_by_its_limit_and_window() {
    let policy = ObjectPolicy { loop_limit: 3, loop_window_ms: 1_000, ..policy() };
    let mut link = link();
    let write = InternalWrite::Update { expected: 1, fields: fields(&[]), changed: names(&["/phone"]) };
    let send = ExternalWrite::Update {
        fields: fields(&[]),
        changed: names(&["/phone"]),
        version: None,
        stamp: None,
    };
    for step in 0..10 {
        link = after_internal_write(&link, &write, step, &External::Unseen, &policy, NOW + 2 * step);
        link = after_external_write(&link, &send, &here(&[]), &written(None), &policy, NOW + 2 * step + 1);
    }
    let times =
        |link: &Link| link.alternations["/phone"].writes.iter().map(|(at, _)| *at - NOW).collect::<Vec<_>>();
    assert_eq!(times(&link), [15, 16, 17, 18, 19], "one alternation more than the limit");
    let later = after_internal_write(&link, &write, 99, &External::Unseen, &policy, NOW + 1_017);
    assert_eq!(times(&later), [17, 18, 19, 1_017], "older ones are out of the window");
}
