//! What comes first: stamps, versions and the moments of looks, beside our own write.

use super::*;
use crate::link::OwnWrite;

fn link() -> Link {
    let mut link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    link.external_stamp = Some(100);
    link.external_version = Some("v1".into());
    link
}

fn internal() -> Internal {
    present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))])
}

/// The record with another phone.
fn other(source: Source, stamp: Option<u64>, version: Option<&str>) -> External {
    let mut seen = whole(source, stamp, &[("/phone", json!("9")), ("/name", json!("Ann"))]);
    if let External::Whole { version: seen, .. } = &mut seen {
        *seen = version.map(str::to_owned);
    }
    seen
}

fn row(stamp: Option<u64>) -> External {
    other(Source::Listing { began: 0, consistent: false }, stamp, None)
}

/// After our own write was answered with this stamp.
fn written_with(stamp: Option<u64>) -> Link {
    let own = OwnWrite { stamp, at: 900, fields: names(&["/name"]), ..OwnWrite::default() };
    Link { own: Some(own), ..link() }
}

/// Whether the other phone is taken for the state; if not, it is read.
fn believed(link: &Link, external: &External) -> bool {
    let plan = run(link, &internal(), external, &policy());
    assert!(plan.internal.is_some() || plan.ask == Some(Ask::ReadExternal), "{}", plan.reason);
    plan.internal.is_some()
}

#[test]
fn a_row_is_the_state_when_it_is_newer_than_our_own_write_too() {
    let link = written_with(Some(120));
    assert!(believed(&link, &row(Some(121))));
    assert!(!believed(&link, &row(Some(120))), "as old as our write, and not what it left");
    assert!(!believed(&link, &row(Some(119))));
    assert!(
        !believed(&written_with(None), &row(Some(121))),
        "nothing orders it after a write without a stamp"
    );
}

#[test]
fn the_first_row_of_a_link_that_was_never_compared_is_the_state() {
    let mut link = link();
    link.external_stamp = None;
    assert!(!believed(&link, &row(Some(5))), "what it knows has no stamp: nothing orders the row after it");
    link.base.clear();
    let plan = run(&link, &present(1, &[("/name", json!("Ann"))]), &row(Some(5)), &policy());
    assert_eq!(sent_in(&plan), one("/phone", json!("9")));
}

#[test]
fn a_read_from_before_the_last_commit_counts_when_its_stamp_is_newer_than_what_is_known() {
    let late = |link: Link| Link { committed_at: NOW, ..link };
    let read = |stamp: Option<u64>| other(Source::Read { began: NOW - 1 }, stamp, None);
    assert!(!believed(&late(link()), &read(Some(100))), "there may be two states of one second");
    assert!(believed(&late(link()), &read(Some(101))));
    assert!(!believed(&late(link()), &read(None)));
    assert!(believed(&late(written_with(Some(120))), &read(Some(121))));
    assert!(!believed(&late(written_with(Some(120))), &read(Some(120))));
    assert!(
        !believed(&late(written_with(None)), &read(Some(100))),
        "our write left no stamp to compare with"
    );
    let unseen = Link { external_stamp: None, ..late(written_with(Some(120))) };
    assert!(!believed(&unseen, &read(Some(121))), "no state with a stamp was ever seen");
}

#[test]
fn a_read_begun_before_the_link_was_made_shows_a_record_that_was_never_compared() {
    let link = redirect(&unlinked(), &"e1".into(), NOW);
    let seen = other(Source::Read { began: NOW - 1 }, None, None);
    let plan = run(&link, &present(1, &[("/name", json!("Ann"))]), &seen, &policy());
    assert_eq!(sent_in(&plan), one("/phone", json!("9")));
}

#[test]
fn a_row_of_the_version_that_is_known_is_the_state_and_of_another_is_not() {
    let row = |version: &str| other(Source::Listing { began: 0, consistent: false }, None, Some(version));
    assert!(believed(&link(), &row("v1")));
    assert!(!believed(&link(), &row("v2")));
    let unversioned = Link { external_version: None, ..link() };
    assert!(!believed(&unversioned, &other(Source::Event, None, None)), "no version is no version in common");
}

#[test]
fn what_our_own_write_left_is_known_by_its_version_as_by_its_stamp() {
    let policy = with("/phone", |field| field.on_conflict = OnConflict::Newest);
    let ruling = |own: OwnWrite, version: Option<&str>, stamp: Option<u64>| {
        let link = Link { own: Some(own), external_stamp: None, external_version: None, ..link() };
        let mut external = other(Source::Read { began: NOW }, stamp, version);
        if let External::Whole { changed_at, .. } = &mut external {
            changed_at.insert("/phone".into(), NOW + 90_000);
        }
        let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
        run(&link, &internal, &external, &policy).conflicts[0].ruling
    };
    let own = |version: Option<&str>, stamp: Option<u64>| OwnWrite {
        version: version.map(str::to_owned),
        stamp,
        at: 900,
        fields: BTreeSet::new(),
    };
    // A time that our own write made proves nothing.
    assert_eq!(ruling(own(Some("v2"), None), Some("v2"), None), Verdict::Review);
    assert_eq!(ruling(own(None, Some(7)), None, Some(7)), Verdict::Review);
    assert_eq!(ruling(own(Some("v2"), None), Some("v3"), None), Verdict::External);
    assert_eq!(ruling(own(None, Some(7)), None, Some(8)), Verdict::External);
    assert_eq!(ruling(own(None, None), None, None), Verdict::External);
}

/// The record as somebody else left it.
fn by_other(mut seen: External) -> External {
    if let External::Whole { by_other, .. } = &mut seen {
        *by_other = true;
    }
    seen
}

/// A time may be told to the second, and the edit be made in that of our write.
#[test]
fn what_somebody_else_left_is_no_rewrite_of_our_own_write_whatever_its_time() {
    let policy = policy();
    let after = |stamp: Option<u64>| {
        let mut link = Link { external_version: None, ..written_with(stamp) };
        link.own.as_mut().unwrap().fields = names(&["/phone"]);
        link.base.get_mut("/phone").unwrap().assumed = true;
        link
    };
    for own in [None, Some(100)] {
        let seen = other(Source::Read { began: NOW }, Some(100), None);
        let rewritten = run(&after(own), &internal(), &seen, &policy);
        assert!(quiet(&rewritten), "{}", rewritten.reason);
        let edited = run(&after(own), &internal(), &by_other(seen), &policy);
        assert_eq!(sent_in(&edited), one("/phone", json!("9")), "{own:?}");
    }
}

/// A row may be from before our write of what was there already: its version is that of the write, and its author somebody else.
#[test]
fn what_has_the_version_of_our_own_write_is_what_it_made_whoever_was_the_last_before() {
    let mut link = link();
    let own =
        OwnWrite { version: Some("v1".into()), at: 900, fields: names(&["/phone"]), ..OwnWrite::default() };
    link.own = Some(own);
    link.base.get_mut("/phone").unwrap().assumed = true;
    let row = other(Source::Listing { began: 0, consistent: false }, Some(100), Some("v1"));
    assert!(quiet(&run(&link, &internal(), &by_other(row), &policy())));
}

#[test]
fn the_time_of_an_edit_counts_where_somebody_else_was_the_last_though_our_write_has_the_same() {
    let policy = with("/phone", |field| field.on_conflict = OnConflict::Newest);
    let mut seen = other(Source::Read { began: NOW }, Some(120), None);
    if let External::Whole { changed_at, .. } = &mut seen {
        changed_at.insert("/phone".into(), NOW + 90_000);
    }
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let ruling =
        |seen: &External| run(&written_with(Some(120)), &internal, seen, &policy).conflicts[0].ruling;
    assert_eq!(ruling(&seen), Verdict::Review);
    assert_eq!(ruling(&by_other(seen)), Verdict::External);
}

#[test]
fn an_event_is_dismissed_only_by_a_link_that_knows_a_living_record() {
    let empty = External::Partial { fields: Fields::new(), stamp: None };
    assert!(quiet(&run(&link(), &internal(), &empty, &policy())));
    assert_eq!(run(&unlinked(), &internal(), &empty, &policy()).ask, Some(Ask::ReadExternal));
    let lapsed = Link { life: Life::Lapsed { by: Side::External, at: 900 }, ..link() };
    let known = External::Partial { fields: fields(&[("/phone", json!("1"))]), stamp: None };
    for event in [&empty, &known] {
        assert_eq!(run(&lapsed, &internal(), event, &policy()).ask, Some(Ask::ReadExternal));
    }
    let row = whole(
        Source::Listing { began: 0, consistent: false },
        None,
        &[("/phone", json!("1")), ("/name", json!("Ann"))],
    );
    assert!(quiet(&run(&link(), &internal(), &row, &policy())));
    assert_eq!(run(&lapsed, &internal(), &row, &policy()).ask, Some(Ask::ReadExternal));
    assert_eq!(
        run(&Link { external: None, ..link() }, &internal(), &row, &policy()).ask,
        Some(Ask::ReadExternal),
        "it is not known to be this record"
    );
}

#[test]
fn a_missed_record_is_looked_for_once_it_is_due() {
    let doubted = |at: Millis| External::Gone { proof: Proof::Unconfirmed, at };
    let missed = run(&link(), &internal(), &doubted(NOW), &policy()).link;
    let due = NOW + policy().confirm_after();
    let plan =
        |external: &External, now: Millis| super::super::plan(&missed, &internal(), external, &policy(), now);
    assert_eq!(plan(&External::Unseen, due - 1).ask, Some(Ask::ReadExternalAt(due)));
    assert_eq!(plan(&External::Unseen, due).ask, Some(Ask::ReadExternal));
    // A look that began too early, and that was answered late, is done again at once.
    assert_eq!(plan(&doubted(due - 1), due - 1).ask, Some(Ask::ReadExternalAt(due)));
    assert_eq!(plan(&doubted(due - 1), due).ask, Some(Ask::ReadExternal));
    let again = plan(&doubted(NOW), due - 1).link.doubt.unwrap();
    assert_eq!((again.looks, again.last), (1, NOW), "the same look is counted once");
    let second = plan(&doubted(due - 2), due - 2).link;
    let again = super::super::plan(&second, &internal(), &doubted(due - 2), &policy(), due - 1).link.doubt;
    assert_eq!(again.map(|doubt| (doubt.looks, doubt.last)), Some((2, due - 2)), "and so is the second one");
}

#[test]
fn word_of_a_deletion_counts_from_the_moment_of_the_last_commit_on() {
    let mut link = link();
    link.committed_at = NOW;
    let gone =
        |at: Millis| run(&link, &internal(), &External::Gone { proof: Proof::Confirmed, at }, &policy());
    assert_eq!(gone(NOW - 1).ask, Some(Ask::ReadExternal));
    assert_eq!(gone(NOW).internal, Some(InternalWrite::Delete { expected: 1 }));
}

#[test]
fn pointing_a_link_at_the_record_that_it_has_changes_nothing() {
    assert_eq!(redirect(&link(), &"e1".into(), NOW), link());
    let moved = redirect(&link(), &"e2".into(), NOW);
    assert_eq!((moved.external.clone(), moved.committed_at, moved.look), (Some("e2".into()), NOW, true));
    assert_eq!((moved.external_version.clone(), moved.external_stamp), (None, None));
    assert_eq!(moved.base, link().base, "what differs there is a change");
}
