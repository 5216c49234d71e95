//! Records that come back, are not to be made again, or are written on a condition.

use super::*;
use crate::link::{Doubt, OwnWrite};

fn base() -> Link {
    agreed(&[("/phone", json!("1"))])
}

fn gone() -> External {
    External::Gone { proof: Proof::Confirmed, at: NOW }
}

fn buried() -> Link {
    run(&base(), &deleted(2), &gone(), &policy()).link
}

#[test]
fn a_record_that_comes_back_in_system_a_is_made_in_the_crm_unless_it_may_be_back_there_too() {
    let back = present(3, &[("/phone", json!("5"))]);
    let merged = External::Moved { to: "e9".into() };
    for hint in [External::Unseen, merged, gone()] {
        let plan = run(&buried(), &back, &hint, &policy());
        assert_eq!(
            plan.external,
            Some(ExternalWrite::Create { fields: fields(&[("/phone", json!("5"))]) }),
            "{hint:?}"
        );
    }
    // Word of the old record: it is looked at first, and System A's return is not forgotten meanwhile.
    let row = whole(Source::Listing { began: NOW + 1, consistent: true }, None, &[("/phone", json!("5"))]);
    let event = External::Partial { fields: fields(&[("/phone", json!("5"))]), stamp: None };
    for hint in [External::Touched, event, row] {
        let plan = run(&buried(), &back, &hint, &policy());
        assert_eq!((plan.ask, plan.external), (Some(Ask::ReadExternal), None), "{hint:?}");
        assert!(run(&plan.link, &back, &gone(), &policy()).external.is_some(), "{hint:?}");
    }
    // A row that is no newer than the record that went is about that one: it is not linked again.
    let known = Link { external_stamp: Some(100), ..buried() };
    let row =
        whole(Source::Listing { began: NOW + 1, consistent: false }, Some(100), &[("/phone", json!("1"))]);
    let plan = run(&known, &back, &row, &policy());
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })), "{}", plan.reason);
    assert_eq!(plan.link.external, None);
    // One that was read is there again: it is linked, not doubled.
    let plan = run(&buried(), &back, &read(&[("/phone", json!("5"))]), &policy());
    assert!(quiet(&plan), "{}", plan.reason);
    assert_eq!(plan.link.external, Some("e1".into()));
}

#[test]
fn the_version_that_was_seen_before_a_deletion_does_not_bring_a_record_back() {
    for version in [1, 2] {
        let plan = run(&buried(), &present(version, &[("/phone", json!("1"))]), &External::Unseen, &policy());
        assert!(plan.external.is_none() && matches!(plan.link.life, Life::Tombstone { .. }), "{version}");
    }
}

#[test]
fn a_read_that_began_with_the_deletion_brings_a_record_back() {
    let at = |began: Millis| {
        let read = whole(Source::Read { began }, None, &[("/phone", json!("1"))]);
        run(&buried(), &deleted(2), &read, &policy()).internal
    };
    assert_eq!(at(NOW - 1), None);
    assert_eq!(at(NOW), Some(InternalWrite::Create { fields: fields(&[("/phone", json!("1"))]) }));
}

/// The record, read at a moment with a time of the CRM's.
fn read_at(began: Millis, time: u64) -> External {
    let mut read = whole(Source::Read { began }, None, &[("/phone", json!("1"))]);
    let External::Whole { stamp, .. } = &mut read else { panic!("not whole") };
    *stamp = Some(time);
    read
}

#[test]
fn a_record_that_is_read_with_the_time_from_before_is_back_when_it_is_still_so_a_while_later() {
    let buried = Link { external_stamp: Some(50), ..buried() };
    let wait = policy().confirm_after();
    for internal in [deleted(2), present(3, &[("/phone", json!("5"))])] {
        // A replica that lags, or one that was restored within the second in which it was deleted.
        let first = run(&buried, &internal, &read_at(NOW + 1, 50), &policy());
        assert_eq!(first.ask, Some(Ask::ReadExternalAt(NOW + 1 + wait)), "{}", first.reason);
        assert!(first.internal.is_none() && first.external.is_none());
        assert_eq!(
            first.link.doubt,
            Some(Doubt { since: NOW + 1, looks: 1, last: NOW + 1, shown: true, ..Doubt::default() })
        );
        let early = run(&first.link, &internal, &read_at(NOW + wait, 50), &policy());
        assert_eq!(early.ask, Some(Ask::ReadExternalAt(NOW + 1 + wait)));
        assert_eq!(
            early.link.doubt,
            Some(Doubt { since: NOW + 1, looks: 2, last: NOW + wait, shown: true, ..Doubt::default() })
        );
        // It was the replica.
        let lagged = run(&first.link, &deleted(2), &gone(), &policy());
        assert!(quiet(&lagged) && lagged.link.doubt.is_none());
        assert!(run(&lagged.link, &deleted(2), &read_at(NOW + 1 + wait, 50), &policy()).ask.is_some());
        // It is back: linked again, not made once more.
        let back = run(&first.link, &internal, &read_at(NOW + 1 + wait, 50), &policy());
        assert_eq!((back.ask, back.external), (None, None), "{}", back.reason);
        assert_eq!((back.link.life, back.link.external), (Life::Active, Some("e1".into())));
    }
    // An older time is that of a replica whenever it is read.
    assert!(quiet(&run(&buried, &deleted(2), &read_at(NOW + wait * 9, 49), &policy())));
}

#[test]
fn a_record_that_comes_back_in_system_a_is_made_anew_beside_what_a_replica_or_an_early_read_shows() {
    let buried = Link { external_stamp: Some(50), ..buried() };
    for read in [read_at(NOW + 1, 49), read_at(NOW - 1, 60)] {
        let plan = run(&buried, &present(3, &[("/phone", json!("5"))]), &read, &policy());
        assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })), "{}", plan.reason);
        assert_eq!(plan.link.external, None);
    }
}

#[test]
fn a_record_that_the_crm_never_had_is_not_looked_for_there_when_it_comes_back() {
    let buried = Link { external: None, ..buried() };
    let plan = run(&buried, &present(3, &[("/phone", json!("5"))]), &External::Touched, &policy());
    assert_eq!(plan.ask, None, "{}", plan.reason);
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })));
}

#[test]
fn an_update_that_wins_where_nothing_is_made_in_the_crm_leaves_the_link_lapsed() {
    let closed = ObjectPolicy { create_external: false, ..policy() };
    let plan = run(&base(), &present(2, &[("/phone", json!("2"))]), &gone(), &closed);
    assert!(quiet(&plan), "{}", plan.reason);
    assert_eq!(plan.link.life, Life::Lapsed { by: Side::External, at: NOW });
    assert_eq!((plan.link.external, plan.link.incarnation), (Some("e1".into()), 0));
}

#[test]
fn an_update_that_wins_where_nothing_is_made_in_system_a_leaves_the_link_lapsed() {
    for on_internal_delete in [OnDelete::Delete, OnDelete::Ignore] {
        let closed = ObjectPolicy { create_internal: false, on_internal_delete, ..policy() };
        let plan = run(&base(), &deleted(2), &read(&[("/phone", json!("3"))]), &closed);
        assert!(quiet(&plan), "{}", plan.reason);
        assert_eq!(plan.link.life, Life::Lapsed { by: Side::Internal, at: NOW });
        assert_eq!(plan.link.incarnation, 0);
    }
}

#[test]
fn a_record_that_a_store_forgot_is_made_again_as_a_new_incarnation_if_it_is_made_at_all() {
    let forgotten = |link: &Link, policy: &ObjectPolicy| {
        run(link, &Internal::Absent, &read(&[("/phone", json!("1"))]), policy)
    };
    let plan = forgotten(&base(), &policy());
    assert!(plan.internal.is_some() && plan.link.base.is_empty());
    assert_eq!(plan.link.incarnation, 1);
    // A record of the CRM that System A never had is no new incarnation.
    let met = redirect(&unlinked(), &"e1".into(), NOW);
    assert_eq!(forgotten(&met, &policy()).link.incarnation, 0);
    let closed = ObjectPolicy { create_internal: false, ..policy() };
    let plan = forgotten(&base(), &closed);
    assert!(quiet(&plan));
    assert_eq!((plan.link.incarnation, &plan.link.base), (0, &base().base));
}

#[test]
fn a_record_that_neither_side_has_costs_no_look() {
    let closed = ObjectPolicy { create_internal: false, ..policy() };
    for (link, policy) in [(unlinked(), policy()), (unlinked(), closed.clone()), (base(), closed)] {
        let plan = run(&link, &Internal::Absent, &External::Unseen, &policy);
        assert!(quiet(&plan), "{}", plan.reason);
    }
}

#[test]
fn a_write_is_conditional_on_what_was_seen_last_or_on_our_own_last_write() {
    let mut link = base();
    link.external_version = Some("v1".into());
    link.external_stamp = Some(100);
    let changed = present(2, &[("/phone", json!("2"))]);
    let removal = ObjectPolicy { on_delete_conflict: OnDeleteConflict::Delete, ..policy() };
    let conditions = |link: &Link| {
        let update = run(link, &changed, &External::Unseen, &policy()).external;
        let remove = run(link, &deleted(2), &External::Unseen, &removal).external;
        let (
            Some(ExternalWrite::Update { version, stamp, .. }),
            Some(ExternalWrite::Remove { version: of_removal, stamp: at_removal }),
        ) = (update, remove)
        else {
            panic!("both are written");
        };
        assert_eq!((&version, &stamp), (&of_removal, &at_removal));
        (version, stamp)
    };
    assert_eq!(conditions(&link), (Some("v1".into()), Some(100)));
    link.own = Some(OwnWrite { version: Some("v2".into()), stamp: Some(120), ..OwnWrite::default() });
    assert_eq!(conditions(&link), (Some("v2".into()), Some(120)));
    link.own = Some(OwnWrite::default());
    assert_eq!(
        conditions(&link),
        (None, None),
        "what was seen before our own write is no condition any more"
    );
}

#[test]
fn a_field_that_was_never_compared_is_a_change_where_it_has_a_value() {
    let mut link = base();
    link.base.remove("/name");
    let named = [("/phone", json!("1")), ("/name", json!("Ann"))];
    let plain = [("/phone", json!("1")), ("/name", json!(""))];
    let in_the_crm = |members: &[(&str, Value)]| run(&link, &deleted(2), &read(members), &policy());
    assert!(in_the_crm(&named).internal.is_some(), "the update wins");
    assert!(matches!(in_the_crm(&plain).external, Some(ExternalWrite::Remove { .. })));
    let in_system_a = |members: &[(&str, Value)]| run(&link, &present(1, members), &gone(), &policy());
    assert!(matches!(in_system_a(&named).external, Some(ExternalWrite::Create { .. })));
    assert!(matches!(in_system_a(&plain).internal, Some(InternalWrite::Delete { .. })));
}

#[test]
fn what_the_crm_made_of_our_own_write_is_no_change_against_a_deletion_and_an_edit_since_is() {
    let after = |returned: Option<&[(&str, Value)]>, stamp: Option<u64>| {
        let internal = present(2, &[("/phone", json!("2"))]);
        let plan = run(&base(), &internal, &External::Unseen, &policy());
        let answer = ExternalWritten { stamp, ..written(returned) };
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &internal, &answer, &policy(), NOW)
    };
    let deletes = |link: &Link, phone: &str, stamp: Option<u64>| {
        let seen = whole(Source::Read { began: NOW }, stamp, &[("/phone", json!(phone))]);
        let plan = run(link, &deleted(3), &seen, &policy());
        assert!(plan.internal.is_some() != plan.external.is_some(), "{}", plan.reason);
        plan.external.is_some()
    };
    let sent = after(None, Some(50));
    assert!(deletes(&sent, "rewritten", Some(50)));
    assert!(!deletes(&sent, "edited", Some(51)));
    // What was returned is known, so that another value is an edit, with or without a stamp.
    let returned = after(Some(&[("/phone", json!("2"))]), None);
    assert!(deletes(&returned, "2", None));
    assert!(!deletes(&returned, "edited", None));
}

#[test]
fn a_record_that_is_held_keeps_the_moment_at_which_it_was_held_first() {
    let review = ObjectPolicy { on_delete_conflict: OnDeleteConflict::Review, ..policy() };
    let held = |link: &Link, phone: &str, now: Millis| {
        let missed = External::Gone { proof: Proof::Confirmed, at: now };
        let internal = present(2, &[("/phone", json!(phone))]);
        super::super::plan(link, &internal, &missed, &review, now).link
    };
    let first = held(&base(), "2", NOW);
    let again = held(&first, "22", NOW + 5);
    assert_eq!((first.held[RECORD].since, again.held[RECORD].since), (NOW, NOW));
    assert_eq!(again.held[RECORD].internal, fields(&[("/phone", json!("22"))]));
}
