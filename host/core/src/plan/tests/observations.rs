//! What hints, listed rows, events and reads are worth.

use super::*;

fn link() -> Link {
    let mut link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    link.external_stamp = Some(100);
    link.external_version = Some("v1".into());
    link
}

fn internal() -> Internal {
    present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))])
}

fn partial(stamp: Option<u64>, members: &[(&str, Value)]) -> External {
    External::Partial { fields: fields(members), stamp }
}

fn row(stamp: Option<u64>, consistent: bool, began: Millis, members: &[(&str, Value)]) -> External {
    whole(Source::Listing { began, consistent }, stamp, members)
}

const OTHER: [(&str, &str); 2] = [("/phone", "9"), ("/name", "Ann")];

fn other() -> Vec<(&'static str, Value)> {
    OTHER.iter().map(|(pointer, value)| (*pointer, json!(value))).collect()
}

#[test]
fn an_event_that_says_what_is_known_is_dismissed_without_a_call() {
    for members in [vec![("/phone", json!("1"))], vec![("/unmapped", json!("x"))], vec![]] {
        let plan = run(&link(), &internal(), &partial(None, &members), &policy());
        assert!(quiet(&plan), "{}", plan.reason);
        assert_eq!(plan.link, link());
    }
}

#[test]
fn an_event_that_says_something_new_causes_a_read_and_no_write() {
    let plan = run(&link(), &internal(), &partial(None, &[("/phone", json!("2"))]), &policy());
    assert_eq!((plan.ask, plan.link), (Some(Ask::ReadExternal), link()));
    assert_eq!(run(&link(), &internal(), &External::Touched, &policy()).ask, Some(Ask::ReadExternal));
    // Even when System A has a change of its own: the record is read first.
    let changed = present(2, &[("/phone", json!("1")), ("/name", json!("Anna"))]);
    let plan = run(&link(), &changed, &partial(None, &[("/phone", json!("2"))]), &policy());
    assert!(plan.ask.is_some() && plan.external.is_none());
}

#[test]
fn an_event_older_than_what_is_known_is_dropped_and_system_a_still_flows() {
    let plan = run(&link(), &internal(), &partial(Some(99), &[("/phone", json!("2"))]), &policy());
    assert!(quiet(&plan));
    let changed = present(2, &[("/phone", json!("3")), ("/name", json!("Ann"))]);
    let plan = run(&link(), &changed, &partial(Some(99), &[("/phone", json!("2"))]), &policy());
    assert_eq!(sent_out(&plan), one("/phone", json!("3")));
}

#[test]
fn a_row_is_not_the_look_that_somebody_has_to_take_and_a_read_is() {
    let told = Link { look: true, ..link() };
    let newer = whole(Source::Listing { began: NOW + 1, consistent: true }, Some(200), &other());
    let plan = run(&told, &internal(), &newer, &policy());
    assert_eq!((plan.ask, plan.link.look), (Some(Ask::ReadExternal), true));
    assert!(run(&link(), &internal(), &newer, &policy()).ask.is_none(), "nobody has to look");
    let read = whole(Source::Read { began: NOW + 1 }, Some(200), &other());
    let plan = run(&told, &internal(), &read, &policy());
    assert_eq!((plan.ask, plan.link.look), (None, false));
    // A record that is not there yet cannot be read.
    let unlinked = Link { look: true, external: None, ..link() };
    assert_ne!(run(&unlinked, &internal(), &newer, &policy()).ask, Some(Ask::ReadExternal));
}

#[test]
fn the_echo_of_our_own_write_is_dismissed_in_every_form_without_a_call() {
    let changed = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let plan = run(&link(), &changed, &External::Unseen, &policy());
    let mut answer = written(Some(&[("/phone", json!("2")), ("/name", json!("Ann"))]));
    answer.version = Some("v2".into());
    answer.stamp = Some(120);
    let folded =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &changed, &answer, &policy(), NOW);
    let mut echo_by_version =
        row(Some(120), false, NOW - 5, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    if let External::Whole { version, .. } = &mut echo_by_version {
        *version = Some("v2".into());
    }
    for link in [folded.clone(), run(&folded, &changed, &observed_answer(&answer).unwrap(), &policy()).link] {
        for echo in [
            partial(None, &[("/phone", json!("2"))]),
            partial(Some(120), &[("/phone", json!("2"))]),
            echo_by_version.clone(),
            row(Some(120), false, NOW - 5, &[("/phone", json!("2")), ("/name", json!("Ann"))]),
            observed_answer(&answer).unwrap(),
        ] {
            let plan = run(&link, &changed, &echo, &policy());
            assert!(quiet(&plan), "{echo:?}: {}", plan.reason);
        }
    }
}

/// A search index that lags behind our own write must not put System A back.
#[test]
fn a_stale_row_puts_nothing_back() {
    let changed = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let plan = run(&link(), &changed, &External::Unseen, &policy());
    for stamp in [None, Some(120)] {
        let mut answer = written(None);
        answer.stamp = stamp;
        let link = after_external_write(
            &plan.link,
            plan.external.as_ref().unwrap(),
            &changed,
            &answer,
            &policy(),
            NOW,
        );
        // A row with the value from before, fetched before our write, stamped by somebody's edit in between.
        for row_stamp in [None, Some(100), Some(110)] {
            let stale = row(row_stamp, false, NOW - 5, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
            let plan = run(&link, &changed, &stale, &policy());
            assert_eq!(plan.ask, Some(Ask::ReadExternal), "{row_stamp:?}: {}", plan.reason);
            assert!(plan.internal.is_none());
        }
        let stale = row(None, true, NOW - 5, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
        assert!(run(&link, &changed, &stale, &policy()).internal.is_none());
    }
}

#[test]
fn a_row_counts_as_state_only_with_a_newer_stamp_or_from_a_consistent_listing_that_began_later() {
    let carried = |external: External| {
        let plan = run(&link(), &internal(), &external, &policy());
        assert!(plan.internal.is_some() || plan.ask == Some(Ask::ReadExternal) || quiet(&plan));
        plan.internal.is_some()
    };
    assert!(carried(row(Some(101), false, 0, &other())));
    assert!(!carried(row(Some(100), false, NOW, &other())));
    assert!(!carried(row(Some(99), true, NOW, &other())));
    assert!(!carried(row(None, false, NOW, &other())));
    assert!(carried(row(None, true, link().committed_at + 1, &other())));
    assert!(!carried(row(None, true, link().committed_at, &other())));
    assert!(carried(whole(Source::Event, Some(101), &other())));
    assert!(!carried(whole(Source::Event, None, &other())));
}

#[test]
fn a_row_that_is_only_a_hint_is_dismissed_when_it_says_what_is_known() {
    let plan = run(
        &link(),
        &internal(),
        &row(None, false, 0, &[("/phone", json!("1")), ("/name", json!("Ann"))]),
        &policy(),
    );
    assert!(quiet(&plan));
    assert_eq!(plan.link, link());
}

#[test]
fn a_read_from_before_the_last_commit_is_only_a_hint() {
    let mut link = link();
    link.external_stamp = None;
    link.external_version = None;
    link.committed_at = NOW;
    let before = whole(Source::Read { began: NOW - 1 }, None, &other());
    assert_eq!(run(&link, &internal(), &before, &policy()).ask, Some(Ask::ReadExternal));
    let after = whole(Source::Read { began: NOW }, None, &other());
    assert_eq!(sent_in(&run(&link, &internal(), &after, &policy())), one("/phone", json!("9")));
}

#[test]
fn a_read_older_than_what_is_known_is_dropped() {
    let plan = run(&link(), &internal(), &whole(Source::Read { began: NOW }, Some(99), &other()), &policy());
    assert!(quiet(&plan));
}

#[test]
fn a_consistent_row_from_before_a_look_is_older_than_the_look() {
    let mut link = link();
    link.external_stamp = None;
    link.external_version = None;
    let looked =
        run(&link, &internal(), &read(&[("/phone", json!("1")), ("/name", json!("Ann"))]), &policy());
    assert!(quiet(&looked));
    let plan = run(&looked.link, &internal(), &row(None, true, NOW - 1, &other()), &policy());
    assert_eq!(plan.ask, Some(Ask::ReadExternal));
}

#[test]
fn a_record_under_another_id_redirects_the_link() {
    let plan = run(&link(), &internal(), &External::Moved { to: "e2".into() }, &policy());
    assert_eq!((plan.ask, plan.link.external.clone()), (Some(Ask::ReadExternal), Some("e2".into())));
    // The winner's other values are changes of the CRM.
    let mut seen = read(&other());
    if let External::Whole { id, .. } = &mut seen {
        *id = "e2".into();
    }
    let plan = run(&plan.link, &internal(), &seen, &policy());
    assert_eq!(sent_in(&plan), one("/phone", json!("9")));
    // A read that answers with another id is a merge too.
    let plan = run(&link(), &internal(), &seen, &policy());
    assert_eq!(plan.link.external, Some("e2".into()));
    assert_eq!(sent_in(&plan), one("/phone", json!("9")));
}

#[test]
fn the_same_hint_twice_changes_nothing_the_second_time() {
    let changed = present(2, &[("/phone", json!("5")), ("/name", json!("Ann"))]);
    for internal in [internal(), changed] {
        for external in [
            External::Unseen,
            External::Touched,
            partial(None, &other()),
            partial(Some(200), &[("/phone", json!("1"))]),
            row(Some(200), false, NOW, &other()),
            row(None, false, NOW, &other()),
            read(&other()),
            whole(Source::Read { began: NOW }, Some(200), &other()),
            External::Gone { proof: Proof::Unconfirmed, at: NOW },
            External::Moved { to: "e2".into() },
        ] {
            let once = run(&link(), &internal, &external, &policy()).link;
            let twice = run(&once, &internal, &external, &policy()).link;
            assert_eq!(once, twice, "{external:?}");
        }
    }
}
