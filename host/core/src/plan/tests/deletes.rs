//! Deletions, doubts, tombstones, returns.

use super::*;
use crate::policy::CONFIRM_AFTER_MS;

fn base() -> Link {
    agreed(&[("/phone", json!("1"))])
}

fn same() -> Internal {
    present(1, &[("/phone", json!("1"))])
}

fn changed() -> Internal {
    present(2, &[("/phone", json!("2"))])
}

fn gone(proof: Proof) -> External {
    External::Gone { proof, at: NOW }
}

fn on_conflict(what: OnDeleteConflict) -> ObjectPolicy {
    ObjectPolicy { on_delete_conflict: what, ..policy() }
}

#[test]
fn a_record_deleted_in_system_a_is_removed_from_the_crm_after_a_last_look() {
    let plan = run(&base(), &deleted(2), &External::Unseen, &policy());
    assert_eq!(plan.ask, Some(Ask::ReadExternal), "an update may win, so it is looked for");
    let plan = run(&plan.link, &deleted(2), &read(&[("/phone", json!("1"))]), &policy());
    let write = plan.external.clone().unwrap();
    assert!(matches!(write, ExternalWrite::Remove { .. }));
    let link = after_external_write(&plan.link, &write, &deleted(2), &written(None), &policy(), NOW);
    assert_eq!(link.life, Life::Tombstone { by: Side::Internal, at: NOW });
    assert!(quiet(&run(&link, &deleted(2), &gone(Proof::Confirmed), &policy())));
    // Where the deletion wins anyway, no look is needed.
    let plan = run(&base(), &deleted(2), &External::Unseen, &on_conflict(OnDeleteConflict::Delete));
    assert!(matches!(plan.external, Some(ExternalWrite::Remove { .. })));
}

#[test]
fn a_confirmed_deletion_in_the_crm_deletes_in_system_a() {
    let plan = run(&base(), &same(), &gone(Proof::Confirmed), &policy());
    assert_eq!(plan.internal, Some(InternalWrite::Delete { expected: 1 }));
    let link = after_internal_write(
        &plan.link,
        plan.internal.as_ref().unwrap(),
        2,
        &gone(Proof::Confirmed),
        &policy(),
        NOW,
    );
    assert_eq!(link.life, Life::Tombstone { by: Side::External, at: NOW });
    assert!(quiet(&run(&link, &deleted(2), &External::Unseen, &policy())));
}

#[test]
fn an_unconfirmed_deletion_is_looked_for_again_before_it_counts() {
    let plan = run(&base(), &same(), &gone(Proof::Unconfirmed), &policy());
    let due = NOW + CONFIRM_AFTER_MS;
    assert_eq!(plan.ask, Some(Ask::ReadExternalAt(due)));
    assert!(plan.link.doubt.is_some() && plan.internal.is_none());
    // Meanwhile nothing is written, whoever hints.
    let meanwhile = run(&plan.link, &changed(), &External::Unseen, &policy());
    assert_eq!(meanwhile.ask, Some(Ask::ReadExternalAt(due)));
    // Too early a second look does not confirm.
    let early = External::Gone { proof: Proof::Unconfirmed, at: due - 1 };
    let early = super::super::plan(&plan.link, &same(), &early, &policy(), due - 1);
    assert_eq!(early.ask, Some(Ask::ReadExternalAt(due)));
    assert_eq!(early.link.doubt.unwrap().looks, 2);
    let late = External::Gone { proof: Proof::Unconfirmed, at: due };
    let late = super::super::plan(&early.link, &same(), &late, &policy(), due);
    assert_eq!(late.internal, Some(InternalWrite::Delete { expected: 1 }));
    // A retry with a changed internal record still knows that it was confirmed.
    let late = External::Gone { proof: Proof::Unconfirmed, at: due };
    let retry = super::super::plan(&early.link, &changed(), &late, &policy(), due);
    assert!(matches!(retry.external, Some(ExternalWrite::Create { .. })));
}

#[test]
fn a_record_that_is_seen_again_ends_the_doubt() {
    let doubted = run(&base(), &same(), &gone(Proof::Unconfirmed), &policy()).link;
    let seen = super::super::plan(
        &doubted,
        &same(),
        &whole(Source::Read { began: NOW + 1 }, None, &[("/phone", json!("1"))]),
        &policy(),
        NOW + 1,
    );
    assert!(quiet(&seen) && seen.link.doubt.is_none());
}

#[test]
fn word_of_a_deletion_from_before_the_last_commit_is_checked() {
    let mut link = base();
    link.committed_at = NOW + 1;
    let plan = run(&link, &same(), &gone(Proof::Confirmed), &policy());
    assert_eq!((plan.ask, plan.internal), (Some(Ask::ReadExternal), None));
}

#[test]
fn detach_cuts_the_link_and_nothing_crosses_any_more() {
    let policy = ObjectPolicy {
        on_internal_delete: OnDelete::Detach,
        on_external_delete: OnDelete::Detach,
        ..policy()
    };
    for (internal, external) in [(deleted(2), External::Unseen), (same(), gone(Proof::Confirmed))] {
        let plan = run(&base(), &internal, &external, &policy);
        assert!(quiet(&plan));
        assert_eq!(plan.link.life, Life::Detached { at: NOW });
        assert!(quiet(&run(&plan.link, &changed(), &read(&[("/phone", json!("9"))]), &policy)));
    }
}

#[test]
fn ignore_leaves_the_other_record_alone_until_it_changes() {
    let policy = ObjectPolicy {
        on_internal_delete: OnDelete::Ignore,
        on_external_delete: OnDelete::Ignore,
        ..policy()
    };
    let plan = run(&base(), &same(), &gone(Proof::Confirmed), &policy);
    assert!(quiet(&plan));
    assert_eq!(plan.link.life, Life::Lapsed { by: Side::External, at: NOW });
    assert!(quiet(&run(&plan.link, &same(), &External::Unseen, &policy)));
    let again = run(&plan.link, &changed(), &External::Unseen, &policy);
    assert!(matches!(again.external, Some(ExternalWrite::Create { .. })), "{}", again.reason);
    assert_eq!((again.link.incarnation, again.link.external.clone()), (1, None));

    let plan = run(&base(), &deleted(2), &External::Unseen, &policy);
    assert!(quiet(&plan));
    assert!(quiet(&run(&plan.link, &deleted(2), &read(&[("/phone", json!("1"))]), &policy)));
    let again = run(&plan.link, &deleted(2), &read(&[("/phone", json!("9"))]), &policy);
    assert_eq!(again.internal, Some(InternalWrite::Create { fields: fields(&[("/phone", json!("9"))]) }));
}

#[test]
fn a_lapsed_record_that_is_restored_goes_on_where_it_was() {
    let policy = ObjectPolicy { on_external_delete: OnDelete::Ignore, ..policy() };
    let lapsed = run(&base(), &same(), &gone(Proof::Confirmed), &policy).link;
    assert_eq!(run(&lapsed, &same(), &External::Touched, &policy).ask, Some(Ask::ReadExternal));
    let plan = run(&lapsed, &same(), &read(&[("/phone", json!("1"))]), &policy);
    assert!(quiet(&plan));
    assert_eq!(plan.link.life, Life::Active);
}

#[test]
fn an_update_wins_over_a_deletion_by_default() {
    let plan = run(&base(), &changed(), &gone(Proof::Confirmed), &policy());
    assert_eq!(plan.external, Some(ExternalWrite::Create { fields: fields(&[("/phone", json!("2"))]) }));
    assert_eq!((plan.link.incarnation, plan.link.key()), (1, "i1.1".into()));
    assert_eq!(plan.conflicts[0].ruling, Verdict::Internal);
    let plan = run(&base(), &deleted(2), &read(&[("/phone", json!("3"))]), &policy());
    assert_eq!(plan.internal, Some(InternalWrite::Create { fields: fields(&[("/phone", json!("3"))]) }));
    assert_eq!(plan.conflicts[0].ruling, Verdict::External);
}

#[test]
fn the_deletion_wins_where_the_policy_says_so() {
    let policy = on_conflict(OnDeleteConflict::Delete);
    let plan = run(&base(), &changed(), &gone(Proof::Confirmed), &policy);
    assert_eq!(plan.internal, Some(InternalWrite::Delete { expected: 2 }));
    let plan = run(&base(), &deleted(2), &read(&[("/phone", json!("3"))]), &policy);
    assert!(matches!(plan.external, Some(ExternalWrite::Remove { .. })));
}

#[test]
fn deletion_against_update_can_wait_for_a_person() {
    let policy = on_conflict(OnDeleteConflict::Review);
    let plan = run(&base(), &changed(), &gone(Proof::Confirmed), &policy);
    assert!(quiet(&plan));
    assert_eq!(plan.link.held[RECORD].internal, fields(&[("/phone", json!("2"))]));
    assert_eq!(run(&plan.link, &changed(), &External::Unseen, &policy).ask, Some(Ask::ReadExternal));
    let later = External::Gone { proof: Proof::Confirmed, at: NOW + 1 };
    let decided = decide_review(&plan.link, RECORD, Choice::Internal, NOW).unwrap();
    let kept = run(&decided, &changed(), &later, &policy);
    assert!(matches!(kept.external, Some(ExternalWrite::Create { .. })) && kept.link.decided.is_empty());
    let decided = decide_review(&plan.link, RECORD, Choice::External, NOW).unwrap();
    assert_eq!(
        run(&decided, &changed(), &later, &policy).internal,
        Some(InternalWrite::Delete { expected: 2 })
    );
    assert_eq!(
        decide_review(&plan.link, RECORD, Choice::Value(Fields::new()), NOW),
        Err(DecideError::NoValue)
    );
    // The record is there again on both sides: the hold has no object any more.
    let back = run(&plan.link, &changed(), &read(&[("/phone", json!("1"))]), &policy);
    assert!(back.link.held.is_empty());
}

#[test]
fn both_deleted_is_a_tombstone_without_a_write() {
    let plan = run(&base(), &deleted(2), &gone(Proof::Confirmed), &policy());
    assert!(quiet(&plan));
    assert!(matches!(plan.link.life, Life::Tombstone { .. }));
    let plan = run(&unlinked(), &deleted(2), &External::Unseen, &policy());
    assert!(quiet(&plan) && matches!(plan.link.life, Life::Tombstone { .. }));
}

/// Taken for gone, a record that was there all the while would stay there, or come back as a new one.
#[test]
fn a_record_that_was_deleted_in_system_a_is_not_gone_from_the_crm_when_it_was_missed_once() {
    let plan = run(&base(), &deleted(2), &gone(Proof::Unconfirmed), &policy());
    let due = NOW + CONFIRM_AFTER_MS;
    assert_eq!((plan.ask, plan.external), (Some(Ask::ReadExternalAt(due)), None));
    assert!(matches!(plan.link.life, Life::Active));
    let seen = read(&[("/phone", json!("1"))]);
    let there = run(&plan.link, &deleted(2), &seen, &policy());
    assert!(matches!(there.external, Some(ExternalWrite::Remove { .. })), "{}", there.reason);
    let late = External::Gone { proof: Proof::Unconfirmed, at: due };
    let late = super::super::plan(&plan.link, &deleted(2), &late, &policy(), due);
    assert!(quiet(&late));
    assert!(matches!(late.link.life, Life::Tombstone { .. }));
}

#[test]
fn a_tombstone_comes_back_only_by_a_direct_read() {
    let mut buried = run(&base(), &deleted(2), &gone(Proof::Confirmed), &policy()).link;
    buried.external_stamp = Some(100);
    let phone = [("/phone", json!("1"))];
    for hint in [
        External::Touched,
        External::Partial { fields: fields(&phone), stamp: None },
        whole(Source::Listing { began: NOW + 1, consistent: true }, Some(200), &phone),
        whole(Source::Event, Some(200), &phone),
    ] {
        let plan = run(&buried, &deleted(2), &hint, &policy());
        assert_eq!((plan.ask, plan.internal), (Some(Ask::ReadExternal), None), "{hint:?}");
        assert_eq!(plan.link, Link { look: true, committed_at: NOW, ..buried.clone() });
    }
    for old in [
        whole(Source::Listing { began: NOW - 1, consistent: true }, None, &phone),
        whole(Source::Listing { began: NOW + 1, consistent: false }, Some(100), &phone),
        whole(Source::Read { began: NOW - 1 }, None, &phone),
        External::Partial { fields: fields(&phone), stamp: Some(100) },
        gone(Proof::Confirmed),
        External::Unseen,
    ] {
        let plan = run(&buried, &deleted(2), &old, &policy());
        assert!(quiet(&plan), "{old:?}");
        assert_eq!(plan.link, buried);
    }
    let plan =
        run(&buried, &deleted(2), &whole(Source::Read { began: NOW + 1 }, Some(200), &phone), &policy());
    assert_eq!(plan.internal, Some(InternalWrite::Create { fields: fields(&phone) }));
    assert_eq!((plan.link.incarnation, plan.link.life.clone()), (1, Life::Active));
}

/// A replica that does not know yet that the record was restored would end the story, and nothing else tells of it.
#[test]
fn a_record_that_is_told_of_after_its_deletion_is_not_gone_when_it_is_missed_once() {
    let mut buried = run(&base(), &deleted(2), &gone(Proof::Confirmed), &policy()).link;
    buried.external_stamp = Some(100);
    let missed = |at| External::Gone { proof: Proof::Unconfirmed, at };
    assert!(quiet(&run(&buried, &deleted(2), &missed(NOW + 1), &policy())), "nobody told of it");
    let back_here = present(3, &[("/phone", json!("1"))]);
    let due = NOW + 1 + policy().confirm_after();
    for internal in [&deleted(2), &back_here] {
        let told = run(&buried, internal, &External::Touched, &policy());
        assert_eq!((told.ask, &told.external), (Some(Ask::ReadExternal), &None));
        let told = told.link;
        let first = run(&told, internal, &missed(NOW + 1), &policy());
        assert_eq!((first.ask, first.external), (Some(Ask::ReadExternalAt(due)), None));
        let early = run(&first.link, internal, &missed(due - 1), &policy());
        assert_eq!(early.ask, Some(Ask::ReadExternalAt(due)));
        let late = run(&early.link, internal, &missed(due), &policy());
        assert_eq!((late.ask, late.internal), (None, None));
        // Nothing is made anew before that is known, or it would be there twice.
        assert_eq!(late.external.is_some(), internal == &back_here);
        let proved = run(&told, internal, &gone(Proof::Confirmed), &policy());
        assert_eq!((proved.ask, proved.external.is_some()), (None, internal == &back_here));
    }
    let told = run(&buried, &deleted(2), &External::Touched, &policy()).link;
    let first = run(&told, &deleted(2), &missed(NOW + 1), &policy()).link;
    // It comes back in System A while the look is owed: that one comes first.
    let owed = run(&first, &back_here, &External::Unseen, &policy());
    assert_eq!((owed.ask, owed.external), (Some(Ask::ReadExternal), None));
    let back = whole(Source::Read { began: due }, Some(200), &[("/phone", json!("1"))]);
    assert!(matches!(
        run(&first, &deleted(2), &back, &policy()).internal,
        Some(InternalWrite::Create { .. })
    ));
    let late = run(&first, &deleted(2), &missed(due), &policy()).link;
    assert_eq!((late.look, late.doubt, late.life), (false, None, buried.life), "and it is over");
}

#[test]
fn what_came_back_in_system_a_before_the_crms_deletion_was_confirmed_is_not_deleted_again() {
    let missed = |at| External::Gone { proof: Proof::Unconfirmed, at };
    let doubted = run(&base(), &deleted(2), &missed(NOW), &policy()).link;
    let due = NOW + policy().confirm_after();
    let back = present(3, &[("/phone", json!("1"))]);
    let plan = super::super::plan(&doubted, &back, &missed(due), &policy(), due);
    assert_eq!(plan.internal, None, "{}", plan.reason);
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })), "{}", plan.reason);
    assert_eq!(plan.link.incarnation, base().incarnation + 1);
    // Whenever it was deleted between the looks: before the first one, or after it.
    let early = |link: &Link, internal: &Internal| {
        super::super::plan(link, internal, &missed(due - 1), &policy(), due - 1).link
    };
    let doubted_first = run(&base(), &same(), &missed(NOW), &policy()).link;
    // An edit in System A is no look at the CRM's record.
    let unseen = super::super::plan(&doubted_first, &deleted(2), &External::Unseen, &policy(), NOW + 1);
    assert_eq!(unseen.ask, Some(Ask::ReadExternalAt(due)));
    for between in [early(&doubted, &back), early(&doubted_first, &deleted(2)), unseen.link] {
        let plan = super::super::plan(&between, &back, &missed(due), &policy(), due);
        assert_eq!(plan.internal, None, "{}", plan.reason);
    }
    // It was never deleted here: the CRM's deletion goes on.
    let plan = super::super::plan(&early(&doubted_first, &same()), &same(), &missed(due), &policy(), due);
    assert_eq!(plan.internal, Some(InternalWrite::Delete { expected: 1 }));
}

#[test]
fn a_record_that_was_left_alone_is_not_made_again_beside_one_that_was_missed_once() {
    let ignore = ObjectPolicy { on_external_delete: OnDelete::Ignore, ..policy() };
    let lapsed = run(&base(), &same(), &gone(Proof::Confirmed), &ignore).link;
    assert!(matches!(lapsed.life, Life::Lapsed { .. }));
    let missed = |at| External::Gone { proof: Proof::Unconfirmed, at };
    let phone = [("/phone", json!("7"))];
    for word in [
        External::Touched,
        External::Partial { fields: fields(&phone), stamp: None },
        whole(Source::Listing { began: NOW, consistent: true }, None, &phone),
    ] {
        let told = run(&lapsed, &changed(), &word, &ignore);
        assert_eq!((told.ask, told.external), (Some(Ask::ReadExternal), None));
        let first = run(&told.link, &changed(), &missed(NOW + 1), &ignore);
        let due = NOW + 1 + ignore.confirm_after();
        assert_eq!((first.ask, first.external), (Some(Ask::ReadExternalAt(due)), None));
        let late = super::super::plan(&first.link, &changed(), &missed(due), &ignore, due);
        assert!(matches!(late.external, Some(ExternalWrite::Create { .. })), "{}", late.reason);
        // Where it is as it was, it is left alone as before, and no look is owed.
        let late = super::super::plan(&first.link, &same(), &missed(due), &ignore, due);
        assert!(quiet(&late) && !late.link.look && late.link.doubt.is_none(), "{}", late.reason);
    }
    // Nobody told of it: what changes in System A brings it back, as ever.
    let plan = run(&lapsed, &changed(), &External::Unseen, &ignore);
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })), "{}", plan.reason);
}

/// A listing that lags shows a change from before the deletion after it, with a time that nobody has seen yet.
#[test]
fn a_row_takes_no_deletion_back() {
    let review = ObjectPolicy { on_delete_conflict: OnDeleteConflict::Review, ..policy() };
    let ignore = ObjectPolicy { on_external_delete: OnDelete::Ignore, ..policy() };
    let held = run(&base(), &changed(), &gone(Proof::Confirmed), &review).link;
    assert!(held.held.contains_key(RECORD));
    let lapsed = run(&base(), &same(), &gone(Proof::Confirmed), &ignore).link;
    assert!(matches!(lapsed.life, Life::Lapsed { .. }));
    let missed = run(&base(), &same(), &gone(Proof::Unconfirmed), &policy()).link;
    assert!(missed.doubt.is_some());
    for (link, internal, policy) in
        [(held, changed(), &review), (lapsed, same(), &ignore), (missed, same(), &policy())]
    {
        let link = Link { external_stamp: Some(100), ..link };
        for source in [Source::Listing { began: NOW + 1, consistent: true }, Source::Event] {
            let plan = run(&link, &internal, &whole(source, Some(200), &[("/phone", json!("7"))]), policy);
            assert_eq!((plan.ask, plan.internal, plan.external), (Some(Ask::ReadExternal), None, None));
            assert_eq!((plan.link.doubt, &plan.link.held), (link.doubt, &link.held));
        }
    }
}

/// The record was linked to another one when it was deleted; the time of that one says nothing of this one.
#[test]
fn another_record_than_the_last_is_not_older_by_its_time() {
    let mut buried = run(&base(), &deleted(2), &gone(Proof::Confirmed), &policy()).link;
    (buried.external, buried.external_stamp) = (Some("e1".into()), Some(100));
    let phone = [("/phone", json!("1"))];
    let mut other = whole(Source::Read { began: NOW + 1 }, Some(50), &phone);
    assert!(quiet(&run(&buried, &deleted(2), &other, &policy())));
    if let External::Whole { id, .. } = &mut other {
        *id = "e2".into();
    }
    let plan = run(&buried, &deleted(2), &other, &policy());
    assert_eq!(plan.internal, Some(InternalWrite::Create { fields: fields(&phone) }));
    assert_eq!((plan.link.external, plan.link.external_stamp), (Some("e2".into()), Some(50)));
}

#[test]
fn a_tombstone_comes_back_when_system_a_has_the_record_again() {
    let buried = run(&base(), &deleted(2), &gone(Proof::Confirmed), &policy()).link;
    let plan = run(&buried, &present(3, &[("/phone", json!("5"))]), &External::Unseen, &policy());
    assert_eq!(plan.external, Some(ExternalWrite::Create { fields: fields(&[("/phone", json!("5"))]) }));
    assert_eq!(plan.link.incarnation, 1);
    let stale = run(&buried, &present(1, &[("/phone", json!("1"))]), &External::Unseen, &policy());
    assert!(stale.external.is_none());
}

#[test]
fn a_store_that_went_back_in_time_deletes_nothing() {
    let plan = run(&base(), &Internal::Absent, &External::Unseen, &policy());
    assert_eq!(plan.ask, Some(Ask::ReadExternal));
    let plan = run(&base(), &Internal::Absent, &read(&[("/phone", json!("1"))]), &policy());
    assert_eq!(plan.internal, Some(InternalWrite::Create { fields: fields(&[("/phone", json!("1"))]) }));
}

/// The first look tells a rewrite from an edit. The removal that follows may be lost, and the second look must not find an edit.
#[test]
fn what_the_server_made_of_our_write_does_not_bring_a_deleted_record_back_when_its_removal_was_lost() {
    let internal = present(2, &[("/phone", json!(" 2"))]);
    let plan = run(&agreed(&[("/phone", json!("1"))]), &internal, &External::Unseen, &policy());
    let mut answer = written(None);
    answer.stamp = Some(50);
    let write = plan.external.as_ref().unwrap();
    let mut link = after_external_write(&plan.link, write, &internal, &answer, &policy(), NOW);
    let there = whole(Source::Read { began: NOW }, Some(50), &[("/phone", json!("2"))]);
    for _ in 0..2 {
        let plan = run(&link, &deleted(3), &there, &policy());
        assert!(matches!(plan.external, Some(ExternalWrite::Remove { .. })), "{}", plan.reason);
        assert!(plan.conflicts.is_empty() && plan.internal.is_none(), "{}", plan.reason);
        link = plan.link;
    }
}

/// Who deletes the record in System A has nothing left to adopt the rewrite.
#[test]
fn a_rewrite_that_is_to_be_adopted_does_not_bring_a_deleted_record_back_and_an_edit_does() {
    let policy = with("/phone", |field| field.on_rewrite = OnRewrite::Adopt);
    let internal = present(2, &[("/phone", json!(" 2"))]);
    let plan = run(&agreed(&[("/phone", json!("1"))]), &internal, &External::Unseen, &policy);
    let answer = ExternalWritten { stamp: Some(50), ..written(Some(&[("/phone", json!("2"))])) };
    let write = plan.external.as_ref().unwrap();
    let link = after_external_write(&plan.link, write, &internal, &answer, &policy, NOW);
    let there = |phone: &str, stamp| whole(Source::Read { began: NOW }, stamp, &[("/phone", json!(phone))]);
    let answered = observed_answer(&answer).unwrap();
    for seen in [answered, there("2", Some(50))] {
        let mut link = link.clone();
        // The removal may be lost: the second look finds no edit either.
        for seen in [seen, there("2", Some(50))] {
            let plan = run(&link, &deleted(3), &seen, &policy);
            assert!(matches!(plan.external, Some(ExternalWrite::Remove { .. })), "{}", plan.reason);
            assert!(plan.conflicts.is_empty() && plan.internal.is_none(), "{}", plan.reason);
            link = plan.link;
        }
    }
    let plan = run(&link, &deleted(3), &there("edited", Some(51)), &policy);
    assert!(plan.internal.is_some() && plan.external.is_none(), "the update wins: {}", plan.reason);
}

#[test]
fn a_return_in_doubt_is_confirmed_by_a_look_after_a_while_from_the_first_one_on() {
    let mut link = agreed(&[("/phone", json!("1"))]);
    let wait = policy().confirm_after();
    assert_eq!(confirm_return(&mut link, NOW, &policy()), Some(NOW + wait));
    assert_eq!(
        confirm_return(&mut link, NOW + wait - 1, &policy()),
        Some(NOW + wait),
        "it counts from the first one"
    );
    assert_eq!(confirm_return(&mut link, NOW + wait, &policy()), None);
    assert_eq!(link.doubt.map(|doubt| (doubt.since, doubt.looks, doubt.last)), Some((NOW, 3, NOW + wait)));
}
