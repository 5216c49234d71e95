//! Edits in the CRM that our own write overtook, told of afterwards by their events.

use super::hub::{Class, Event, Form, Hub, policy};
use super::*;
use crate::link::{Overtaken, Overwrite};
use crate::plan::{Edit, Pick, date, freeze, may_be_overtaken, note_edits};

fn hub(by: OnConflict) -> Hub {
    let mut policy = policy();
    policy.default.on_conflict = by;
    Hub::new(&[(Form::AsItIs, Class::FoundAfterwards, policy)])
}

/// A salesperson saves "S"; before anybody hears of it, System A's "I" is written over it.
fn overtaken(by: OnConflict) -> (Hub, Event) {
    let mut hub = hub(by);
    hub.edit_external(0, "/a", json!("S"), false);
    hub.edit_internal("/a", json!("I"));
    hub.work(0, External::Unseen, &[]);
    assert_eq!(hub.crms[0].fields["/a"], json!("I"));
    let event = hub.crms[0].events.remove(0);
    (hub, event)
}

#[test]
fn under_external_the_overtaken_value_is_written_back_to_both_sides() {
    let (mut hub, event) = overtaken(OnConflict::External);
    hub.deliver(0, &event);
    hub.settle(&[0], 20);
    assert_eq!(hub.everywhere("/a"), vec![json!("S"); 2]);
    let (writes, link) = (hub.writes, hub.crms[0].link.clone());
    assert!(link.overtaken.is_empty());
    hub.deliver(0, &event);
    assert_eq!((hub.writes, &hub.crms[0].link.base), (writes, &link.base));
}

#[test]
fn under_review_it_is_held_with_both_values_and_nothing_is_written() {
    let (mut hub, event) = overtaken(OnConflict::Review);
    let writes = hub.writes;
    hub.deliver(0, &event);
    hub.settle(&[0], 20);
    hub.deliver(0, &event);
    let read = hub.read(0);
    hub.work(0, read, &[]);
    let held = &hub.crms[0].link.held["/a"];
    assert_eq!(held.internal, fields(&[("/a", json!("I"))]));
    assert_eq!(held.external, fields(&[("/a", json!("S"))]));
    assert!(held.why.contains("overtook an edit in the CRM"), "{}", held.why);
    assert_eq!((hub.writes, hub.everywhere("/a")), (writes, vec![json!("I"); 2]));
}

#[test]
fn a_decision_about_an_overtaken_edit_is_carried_out_on_the_sides_that_lack_it() {
    for (choice, end) in [
        (Choice::External, "S"),
        (Choice::Internal, "I"),
        (Choice::Value(fields(&[("/a", json!("V"))])), "V"),
        (Choice::Fields([("/a".to_owned(), Pick::External)].into()), "S"),
        (Choice::Fields([("/a".to_owned(), Pick::Internal)].into()), "I"),
        (Choice::Fields([("/a".to_owned(), Pick::Value(Some(json!("V"))))].into()), "V"),
    ] {
        let (mut hub, event) = overtaken(OnConflict::Review);
        hub.deliver(0, &event);
        hub.crms[0].link = decide_review(&hub.crms[0].link, "/a", choice, hub.now).unwrap();
        let read = hub.read(0);
        hub.work(0, read, &[]);
        hub.settle(&[0], 20);
        hub.deliver(0, &event);
        assert_eq!(hub.everywhere("/a"), vec![json!(end); 2]);
        let link = &hub.crms[0].link;
        assert!(link.held.is_empty() && link.decided.is_empty() && link.overtaken.is_empty(), "{link:?}");
    }
}

#[test]
fn under_internal_it_is_recorded_as_lost_by_policy() {
    let (mut hub, event) = overtaken(OnConflict::Internal);
    let policy = hub.crms[0].policy.clone();
    let edit = Edit { pointer: "/a".into(), value: event.value.clone(), at: event.at };
    let found = note_edits(&hub.crms[0].link, &[edit], &policy, hub.now);
    let internal = Internal::Present { fields: hub.internal.clone(), version: hub.version, changed_at: None };
    let read = hub.read(0);
    let plan = super::super::plan(&found, &internal, &read, &policy, hub.now);
    assert!(quiet(&plan) && plan.link.overtaken.is_empty(), "{plan:?}");
    assert_eq!(plan.conflicts.len(), 1);
    assert_eq!(plan.conflicts[0].ruling, Verdict::Internal);
    assert!(plan.conflicts[0].why.contains("overtook"), "{:?}", plan.conflicts);
    let writes = hub.writes;
    hub.deliver(0, &event);
    assert_eq!((hub.writes, hub.everywhere("/a")), (writes, vec![json!("I"); 2]));
}

#[test]
fn under_newest_the_times_decide_beyond_the_tolerance_of_the_clocks() {
    // The overtaken edit is a moment older than System A's: too close to tell.
    let (mut close, event) = overtaken(OnConflict::Newest);
    close.deliver(0, &event);
    assert!(close.crms[0].link.held.contains_key("/a"));
    for (waited, end) in [(10_000, "I"), (0, "S")] {
        let mut hub = hub(OnConflict::Newest);
        if waited == 0 {
            hub.edit_internal("/a", json!("I"));
            hub.now += 10_000;
            hub.edit_external(0, "/a", json!("S"), false);
        } else {
            hub.edit_external(0, "/a", json!("S"), false);
            hub.now += waited;
            hub.edit_internal("/a", json!("I"));
        }
        hub.work(0, External::Unseen, &[]);
        let event = hub.crms[0].events.remove(0);
        hub.deliver(0, &event);
        assert_eq!(hub.everywhere("/a"), vec![json!(end); 2], "{waited}");
        assert!(hub.crms[0].link.held.is_empty());
    }
}

/// Both sides were edited before anybody looked, and the CRM told of its edit.
#[test]
fn under_newest_an_edit_that_nothing_overtook_is_dated_by_its_event() {
    let policy = hub(OnConflict::Newest).crms[0].policy.clone();
    let mut link = agreed(&[]);
    let same = Pair { internal: Some(json!("1")), external: Some(json!("1")), ..Pair::default() };
    link.base = BTreeMap::from([("/a".to_owned(), same.clone()), ("/b".to_owned(), same)]).into();
    link.external_stamp = Some(NOW - 60_000);
    let internal = present(2, &[("/a", json!("I")), ("/b", json!("1"))]);
    let edit = |at, value| Edit { pointer: "/a".into(), value: Some(json!(value)), at };
    let ruling = |edits: &[Edit]| {
        let mut external = read(&[("/a", json!("S")), ("/b", json!("1"))]);
        date(&mut external, &link, edits, &policy);
        super::super::plan(&link, &internal, &external, &policy, NOW).conflicts[0].ruling
    };
    // System A's edit was at NOW - 10.
    assert_eq!(ruling(&[edit(NOW - 5_000, "S")]), Verdict::Internal);
    assert_eq!(ruling(&[edit(NOW + 5_000, "S")]), Verdict::External);
    assert_eq!(ruling(&[edit(NOW, "S")]), Verdict::Review, "closer than the clocks are trusted");
    for edits in
        [[edit(NOW - 9_000, "R"), edit(NOW - 5_000, "S")], [edit(NOW - 5_000, "S"), edit(NOW - 9_000, "R")]]
    {
        assert_eq!(ruling(&edits), Verdict::Internal, "of several the last one counts, in whatever order");
    }
    assert_eq!(ruling(&[]), Verdict::Review, "nobody told");
    assert_eq!(
        ruling(&[edit(NOW - 5_000, "S"), edit(NOW - 4_000, "T")]),
        Verdict::Review,
        "not the last edit"
    );
    assert_eq!(
        ruling(&[edit(NOW - 60_000, "S")]),
        Verdict::Review,
        "it is in the state that was seen before"
    );
    let silent = ObjectPolicy { event_times: false, ..policy.clone() };
    let mut external = read(&[("/a", json!("S")), ("/b", json!("1"))]);
    let undated = external.clone();
    date(&mut external, &link, &[edit(NOW - 5_000, "S")], &silent);
    assert_eq!(external, undated, "its times are of no known clock");
}

/// The answer to a write need not have shown more than what was written.
#[test]
fn an_edit_from_before_our_write_of_another_field_is_found() {
    let mut hub = hub(OnConflict::External);
    hub.crms[0].terse = true;
    hub.edit_external(0, "/a", json!("S"), false);
    for (pointer, value) in [("/b", "B"), ("/a", "I")] {
        hub.edit_internal(pointer, json!(value));
        hub.work(0, External::Unseen, &[]);
        assert_eq!(hub.crms[0].fields[pointer], json!(value));
    }
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    hub.settle(&[0], 20);
    assert_eq!((hub.everywhere("/a"), hub.everywhere("/b")), (vec![json!("S"); 2], vec![json!("B"); 2]));
}

#[test]
fn an_edit_that_was_seen_or_followed_is_not_overtaken() {
    // Seen: a later look was made before the write.
    let mut hub = hub(OnConflict::External);
    hub.edit_external(0, "/a", json!("S1"), false);
    hub.edit_external(0, "/a", json!("S2"), false);
    let early = hub.crms[0].events.remove(0);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    hub.edit_internal("/a", json!("I"));
    hub.work(0, External::Unseen, &[]);
    hub.deliver(0, &early);
    assert_eq!(hub.everywhere("/a"), vec![json!("I"); 2]);
    // Followed: somebody edited the field again, and that was seen.
    let (mut hub, event) = overtaken(OnConflict::External);
    hub.edit_external(0, "/a", json!("T"), false);
    let later = hub.crms[0].events.pop().unwrap();
    hub.deliver(0, &event);
    assert_eq!(hub.everywhere("/a"), vec![json!("T"); 2]);
    hub.deliver(0, &later);
    hub.edit_internal("/a", json!("I2"));
    hub.settle(&[0], 20);
    hub.deliver(0, &event);
    assert_eq!(hub.everywhere("/a"), vec![json!("I2"); 2]);
}

#[test]
fn of_many_edits_that_one_write_overtook_the_newest_stands_when_they_are_told_one_by_one() {
    let mut hub = hub(OnConflict::External);
    for number in 0..8 {
        hub.edit_external(0, "/a", json!(format!("S{number}")), false);
    }
    hub.edit_internal("/a", json!("I"));
    hub.work(0, External::Unseen, &[]);
    let told: Vec<Event> = hub.crms[0].events.drain(..).filter(|event| !event.own).collect();
    for event in &told {
        hub.deliver(0, event);
    }
    assert_eq!(hub.everywhere("/a"), vec![json!("S7"); 2]);
}

#[test]
fn of_several_overtaken_edits_the_newest_counts_in_whatever_order_they_are_told() {
    for order in [[0, 1], [1, 0]] {
        for by in [OnConflict::External, OnConflict::Review] {
            let mut hub = hub(by);
            hub.edit_external(0, "/a", json!("S1"), false);
            hub.edit_external(0, "/a", json!("S2"), false);
            hub.edit_internal("/a", json!("I"));
            hub.work(0, External::Unseen, &[]);
            let events: Vec<Event> = hub.crms[0].events.drain(..2).collect();
            for which in order {
                hub.deliver(0, &events[which]);
            }
            hub.settle(&[0], 20);
            if by == OnConflict::Review {
                assert_eq!(hub.crms[0].link.held["/a"].external, fields(&[("/a", json!("S2"))]));
            } else {
                assert_eq!(hub.everywhere("/a"), vec![json!("S2"); 2]);
            }
        }
    }
}

#[test]
fn an_edit_between_later_writes_supersedes_one_from_before_in_whatever_order_they_are_told() {
    for order in [[0, 1], [1, 0]] {
        for by in [OnConflict::External, OnConflict::Review, OnConflict::Newest] {
            let mut hub = hub(by);
            for number in 1..3 {
                hub.edit_external(0, "/a", json!(format!("S{number}")), false);
                hub.now += 10_000;
                hub.edit_internal("/a", json!(format!("I{number}")));
                hub.now += 10_000;
                hub.work(0, External::Unseen, &[]);
            }
            let events: Vec<Event> = hub.crms[0].events.iter().filter(|event| !event.own).cloned().collect();
            for which in order {
                hub.deliver(0, &events[which]);
            }
            hub.settle(&[0], 20);
            match by {
                OnConflict::External => assert_eq!(hub.everywhere("/a"), vec![json!("S2"); 2]),
                OnConflict::Newest => assert_eq!(hub.everywhere("/a"), vec![json!("I2"); 2]),
                _ => assert_eq!(hub.crms[0].link.held["/a"].external, fields(&[("/a", json!("S2"))])),
            }
        }
    }
}

#[test]
fn an_edit_newer_than_the_one_that_system_a_has_of_this_crm_is_no_conflict_with_it() {
    let mut hub = hub(OnConflict::External);
    hub.edit_external(0, "/a", json!("S1"), false);
    hub.edit_external(0, "/a", json!("S2"), false);
    hub.edit_internal("/a", json!("I"));
    hub.work(0, External::Unseen, &[]);
    let events: Vec<Event> = hub.crms[0].events.drain(..2).collect();
    hub.deliver(0, &events[0]);
    assert_eq!(hub.everywhere("/a"), vec![json!("S1"); 2]);
    // Whatever the policy has become meanwhile.
    hub.crms[0].policy.default.on_conflict = OnConflict::Internal;
    hub.deliver(0, &events[1]);
    assert_eq!(hub.everywhere("/a"), vec![json!("S2"); 2]);
}

#[test]
fn what_was_taken_back_before_our_write_was_not_lost() {
    for order in [[0, 1], [1, 0]] {
        let mut hub = hub(OnConflict::Review);
        hub.edit_external(0, "/a", json!("S"), false);
        hub.edit_external(0, "/a", json!("v0"), false);
        hub.edit_internal("/a", json!("I"));
        hub.work(0, External::Unseen, &[]);
        let edit = |event: &Event| Edit { pointer: "/a".into(), value: event.value.clone(), at: event.at };
        let edits: Vec<Edit> = order.iter().map(|which| edit(&hub.crms[0].events[*which])).collect();
        let found = note_edits(&hub.crms[0].link, &edits, &hub.crms[0].policy, hub.now);
        assert!(found.overtaken.is_empty(), "{found:?}");
    }
}

#[test]
fn an_edit_between_two_writes_of_ours_is_found_too() {
    let mut hub = hub(OnConflict::External);
    hub.edit_internal("/a", json!("I1"));
    hub.work(0, External::Unseen, &[]);
    hub.edit_external(0, "/a", json!("S"), false);
    hub.edit_internal("/a", json!("I2"));
    hub.work(0, External::Unseen, &[]);
    // Our own events, told as though somebody else had written, are no edits.
    for event in &mut hub.crms[0].events {
        event.own = false;
    }
    hub.settle(&[2, 0, 1], 50);
    assert_eq!(hub.everywhere("/a"), vec![json!("S"); 2]);
}

#[test]
fn what_we_sent_is_nobodys_edit_also_where_the_crm_makes_something_else_of_it() {
    for (adopt, by) in [
        (false, OnConflict::External),
        (true, OnConflict::External),
        (true, OnConflict::Review),
        (true, OnConflict::Internal),
    ] {
        let mut policy = policy();
        policy.default.on_conflict = by;
        if adopt {
            policy.default.on_rewrite = OnRewrite::Adopt;
        }
        let mut hub = Hub::new(&[(Form::Upper, Class::FoundAfterwards, policy)]);
        hub.edit_internal("/a", json!("abc"));
        hub.work(0, External::Unseen, &[]);
        let stored = hub.crms[0].events.remove(0);
        let sent = Event { value: Some(json!("abc")), own: false, ..stored.clone() };
        let (writes, here) = if adopt { (2, "ABC") } else { (1, "abc") };
        for event in [sent, Event { own: false, ..stored }] {
            hub.deliver(0, &event);
            assert_eq!((hub.writes, hub.everywhere("/a")), (writes, vec![json!(here), json!("ABC")]));
            assert!(hub.crms[0].link.held.is_empty());
        }
    }
}

/// Writing to System A is paused, or failed: what the CRM made of our write waits to be taken over.
#[test]
fn what_system_a_is_still_to_take_over_is_nobodys_edit() {
    let mut policy = timed();
    policy.default.on_rewrite = OnRewrite::Adopt;
    let mut link = agreed(&[("/phone", json!("old"))]);
    link.external_stamp = Some(100);
    let wrote = |link: &Link, version: u64, sent: &str, stored: &str, stamp: u64| {
        let internal = present(version, &[("/phone", json!(sent))]);
        let plan = run(link, &internal, &External::Unseen, &policy);
        let stamp = Some(stamp);
        let answer = ExternalWritten { stamp, ..written(Some(&[("/phone", json!(stored))])) };
        let write = plan.external.as_ref().unwrap();
        after_external_write(&plan.link, write, &internal, &answer, &policy, NOW)
    };
    let link = wrote(&link, 2, "ours", "OURS", 200);
    let edit = |value: &str, at| Edit { pointer: "/phone".into(), value: Some(json!(value)), at };
    for ours in ["ours", "OURS"] {
        assert_eq!(note_edits(&link, &[edit(ours, 200)], &policy, NOW), link, "{ours}");
    }
    assert!(note_edits(&link, &[edit("THEIRS", 150)], &policy, NOW).overtaken.contains_key("/phone"));
    // Nor is it when we have written again over it.
    let link = wrote(&link, 3, "newer", "NEWER", 300);
    for (ours, at) in [("ours", 200), ("OURS", 200), ("newer", 300), ("NEWER", 300)] {
        assert_eq!(note_edits(&link, &[edit(ours, at)], &policy, NOW), link, "{ours}");
    }
}

/// Its event tells what somebody typed, and the CRM stores that in capitals.
#[test]
fn an_overtaken_edit_is_given_back_once_also_where_the_crm_makes_something_else_of_it() {
    let mut policy = policy();
    policy.default.on_conflict = OnConflict::External;
    for terse in [false, true] {
        let mut hub = Hub::new(&[(Form::Upper, Class::FoundAfterwards, policy.clone())]);
        hub.crms[0].terse = terse;
        hub.edit_external(0, "/a", json!("theirs"), false);
        hub.edit_internal("/a", json!("ours"));
        hub.work(0, External::Unseen, &[]);
        let typed = Event { value: Some(json!("theirs")), ..hub.crms[0].events.remove(0) };
        hub.deliver(0, &typed);
        assert_eq!((hub.writes, hub.everywhere("/a")), (3, vec![json!("theirs"), json!("THEIRS")]));
        assert!(hub.crms[0].link.overtaken.is_empty());
        // What follows finds nothing to do.
        hub.deliver(0, &typed);
        let read = hub.read(0);
        hub.work(0, read, &[]);
        hub.settle(&[0], 20);
        assert_eq!(hub.writes, 3);
        // It is a value as any other: edited again on either side, it goes to the other one.
        hub.edit_internal("/a", json!("later"));
        hub.settle(&[0], 20);
        assert_eq!(hub.everywhere("/a"), vec![json!("later"), json!("LATER")]);
    }
}

/// System A takes over what the CRM makes of its values: that is no edit in the CRM, nor a value that the CRM gave.
#[test]
fn an_edit_under_a_write_whose_rewrite_was_adopted_goes_by_policy() {
    for (by, end) in [
        (OnConflict::External, Some("THEIRS")),
        (OnConflict::Internal, Some("OURS")),
        (OnConflict::Review, None),
    ] {
        let mut policy = policy();
        policy.default.on_conflict = by;
        policy.default.on_rewrite = OnRewrite::Adopt;
        let mut hub = Hub::new(&[(Form::Upper, Class::FoundAfterwards, policy)]);
        hub.edit_external(0, "/a", json!("theirs"), false);
        hub.edit_internal("/a", json!("ours"));
        hub.work(0, External::Unseen, &[]);
        assert_eq!(hub.everywhere("/a"), vec![json!("OURS"); 2], "adopted");
        assert!(!hub.crms[0].link.base["/a"].given, "people of System A typed it");
        let event = hub.crms[0].events.remove(0);
        hub.deliver(0, &event);
        hub.settle(&[0], 20);
        match end {
            Some(end) => assert_eq!(hub.everywhere("/a"), vec![json!(end); 2]),
            None => assert_eq!(hub.crms[0].link.held["/a"].external, fields(&[("/a", json!("THEIRS"))])),
        }
        // An edit that was seen since is a move of the CRM, and ends it.
        hub.edit_external(0, "/a", json!("later"), false);
        hub.settle(&[0], 20);
        hub.deliver(0, &event);
        if by != OnConflict::Review {
            assert_eq!(hub.everywhere("/a"), vec![json!("LATER"); 2]);
        }
    }
}

#[test]
fn of_two_edits_at_one_moment_the_first_in_the_list_counts() {
    let link = wrote(&timed(), "/phone", Some(200));
    let edit = |value: &str| Edit { pointer: "/phone".into(), value: Some(json!(value)), at: 150 };
    let both = [edit("AS THE CRM WRITES IT"), edit("as it was typed")];
    let found = note_edits(&link, &both, &timed(), NOW);
    assert_eq!(found.overtaken["/phone"].value, Some(json!("AS THE CRM WRITES IT")));
    for (value, is_dated) in [("AS THE CRM WRITES IT", true), ("as it was typed", false)] {
        let mut seen = whole(Source::Read { began: NOW }, Some(200), &[("/phone", json!(value))]);
        let before = Link { external_stamp: Some(100), ..link.clone() };
        date(&mut seen, &before, &both, &timed());
        let External::Whole { changed_at, .. } = seen else { panic!("{seen:?}") };
        assert_eq!(changed_at.contains_key("/phone"), is_dated, "{value}");
    }
    // So it is where the one that counts is what the record has anyway.
    let both = [edit("new"), edit("as it was typed")];
    assert_eq!(note_edits(&link, &both, &timed(), NOW), link);
}

/// Tags that System A added one to, over an edit in the CRM that is known by now: the link, the policy and what System A has.
fn overtaken_tags() -> (Link, ObjectPolicy, Internal) {
    let mut policy = super::policy();
    policy.event_times = true;
    let mut link = agreed(&[("/tags", json!(["old", "kept"]))]);
    link.external_stamp = Some(100);
    let internal = present(2, &[("/tags", json!(["old", "kept", "ours"]))]);
    let plan = run(&link, &internal, &External::Unseen, &policy);
    let answer =
        ExternalWritten { stamp: Some(200), ..written(Some(&[("/tags", json!(["old", "kept", "ours"]))])) };
    let link =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &internal, &answer, &policy, NOW);
    let edit = Edit { pointer: "/tags".into(), value: Some(json!(["kept", "theirs"])), at: 150 };
    (note_edits(&link, &[edit], &policy, NOW), policy, internal)
}

fn tags_seen(stamp: u64, tags: Value) -> External {
    whole(Source::Read { began: NOW }, Some(stamp), &[("/tags", tags)])
}

#[test]
fn elements_of_a_set_that_were_overtaken_are_merged_into_both_sides() {
    let (link, policy, internal) = overtaken_tags();
    let external = tags_seen(200, json!(["old", "kept", "ours"]));
    let plan = run(&link, &internal, &external, &policy);
    assert_eq!(sent_in(&plan), one("/tags", json!(["kept", "ours", "theirs"])));
    assert_eq!(sent_out(&plan), one("/tags", json!(["kept", "ours", "theirs"])));
    assert!(plan.conflicts.is_empty());
    // System A has them; the write to the CRM failed and is tried until they are there too.
    let write = plan.internal.unwrap();
    let link = after_internal_write(&plan.link, &write, 3, &external, &policy, NOW);
    let internal = present(3, &[("/tags", json!(["kept", "ours", "theirs"]))]);
    for _ in 0..2 {
        let plan = run(&link, &internal, &tags_seen(200, json!(["old", "kept", "ours"])), &policy);
        assert_eq!(sent_out(&plan), one("/tags", json!(["kept", "ours", "theirs"])));
        assert!(plan.internal.is_none() && plan.link.overtaken.contains_key("/tags"));
    }
}

#[test]
fn elements_that_were_overtaken_are_given_back_once_also_where_the_crm_makes_something_else_of_them() {
    let (link, policy, internal) = overtaken_tags();
    let external = tags_seen(200, json!(["old", "kept", "ours"]));
    let plan = run(&link, &internal, &external, &policy);
    let (write, back) = (plan.internal.unwrap(), plan.external.unwrap());
    let link = after_internal_write(&plan.link, &write, 3, &external, &policy, NOW);
    let internal = present(3, &[("/tags", json!(["kept", "ours", "theirs"]))]);
    let stored = json!(["kept", "ours", "THEIRS"]);
    let answer = ExternalWritten { stamp: Some(300), ..written(Some(&[("/tags", stored.clone())])) };
    let link = after_external_write(&link, &back, &internal, &answer, &policy, NOW);
    assert!(link.overtaken.is_empty());
    for seen in [observed_answer(&answer).unwrap(), tags_seen(300, stored)] {
        let plan = run(&link, &internal, &seen, &policy);
        assert!(quiet(&plan), "{plan:?}");
    }
    // An edit that took elements out is not given back by a write that has one of them still.
    let (link, ..) = overtaken_tags();
    let still = present(3, &[("/tags", json!(["old", "kept", "ours", "theirs"]))]);
    let link = after_external_write(&link, &back, &still, &answer, &policy, NOW);
    assert!(link.overtaken.contains_key("/tags"));
}

#[test]
fn elements_that_are_given_back_are_counted_by_the_breaker_as_any_other_write_of_a_set() {
    // System A takes its own element out again, so that what is sent is just what was overtaken.
    let (link, policy, _) = overtaken_tags();
    let internal = present(3, &[("/tags", json!(["old", "kept"]))]);
    let plan = run(&link, &internal, &tags_seen(200, json!(["old", "kept", "ours"])), &policy);
    assert_eq!(sent_out(&plan), one("/tags", json!(["kept", "theirs"])));
    let answer =
        ExternalWritten { stamp: Some(300), ..written(Some(&[("/tags", json!(["kept", "theirs"]))])) };
    let write = plan.external.unwrap();
    let link = after_external_write(&plan.link, &write, &internal, &answer, &policy, NOW + 7);
    let counted = &link.alternations["/tags"];
    assert_eq!((&counted.writes, &counted.restored), (&vec![(NOW + 7, Side::External)], &Vec::new()));
}

#[test]
fn elements_that_were_overtaken_are_let_go_of_when_the_set_was_edited_again() {
    let (link, policy, internal) = overtaken_tags();
    let plan = run(&link, &internal, &tags_seen(300, json!(["old", "kept", "ours", "later"])), &policy);
    assert_eq!(sent_in(&plan), one("/tags", json!(["old", "kept", "ours", "later"])));
    assert!(plan.external.is_none() && plan.link.overtaken.is_empty());
}

#[test]
fn an_overtaken_edit_that_was_followed_by_another_one_is_told_of_as_what_lost() {
    let mut link = agreed(&[("/phone", json!("ours"))]);
    link.external_stamp = Some(200);
    let lost = Overtaken { value: Some(json!("lost")), before: Some(json!("old")), at: 150, stands: false };
    link.overtaken.insert("/phone".into(), lost);
    let internal = present(1, &[("/phone", json!("ours"))]);
    let then = |link: &Link, value: &str| {
        let seen = whole(Source::Read { began: NOW }, Some(300), &[("/phone", json!(value))]);
        let plan = run(link, &internal, &seen, &timed());
        assert_eq!(sent_in(&plan), one("/phone", json!(value)));
        assert!(plan.external.is_none() && plan.link.overtaken.is_empty());
        let found: Vec<_> = plan.conflicts.iter().map(|it| (it.group.clone(), it.ruling)).collect();
        found
    };
    assert_eq!(then(&link, "later"), [("/phone".to_owned(), Verdict::External)]);
    assert_eq!(then(&link, "lost"), [], "it stands, by whoever wrote it again");
}

/// An address whose street System A wrote over an edit in the CRM that is known by now, and whose city it has edited since: the
/// link, the policy and what both sides have.
fn overtaken_street(by: OnConflict) -> (Link, ObjectPolicy, Internal, External) {
    let mut policy = super::policy();
    policy.event_times = true;
    policy.fields.insert("address".into(), FieldPolicy { on_conflict: by, ..policy.default });
    let mut link = agreed(&[("/street", json!("S")), ("/city", json!("C"))]);
    link.external_stamp = Some(100);
    let internal = present(2, &[("/street", json!("Ours 1")), ("/city", json!("C"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy);
    let there = [("/street", json!("Ours 1")), ("/city", json!("C"))];
    let answer = ExternalWritten { stamp: Some(200), ..written(Some(&there)) };
    let link =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), &internal, &answer, &policy, NOW);
    let edit = Edit { pointer: "/street".into(), value: Some(json!("Theirs 2")), at: 150 };
    let link = note_edits(&link, &[edit], &policy, NOW);
    // Meanwhile System A's city was edited: the group stands or falls together.
    let internal = present(3, &[("/street", json!("Ours 1")), ("/city", json!("Ourville"))]);
    let external = whole(Source::Read { began: NOW }, Some(200), &there);
    (link, policy, internal, external)
}

#[test]
fn fields_of_a_group_are_decided_one_by_one_when_one_of_them_was_overtaken() {
    let (link, policy, internal, external) = overtaken_street(OnConflict::Review);
    let plan = run(&link, &internal, &external, &policy);
    assert_eq!(plan.conflicts[0].fields, names(&["/street", "/city"]), "both contend");
    let held = plan.link;
    assert_eq!(held.held["address"].external["/street"], json!("Theirs 2"));
    let decide = |street, city| {
        let picks = [("/street".to_owned(), street), ("/city".to_owned(), city)].into();
        let decided = decide_review(&held, "address", Choice::Fields(picks), NOW).unwrap();
        assert!(decided.overtaken.is_empty());
        run(&decided, &internal, &external, &policy)
    };
    // The edit that was overtaken is on neither side any more: it is written to both.
    let plan = decide(Pick::External, Pick::Internal);
    assert_eq!(sent_in(&plan), one("/street", json!("Theirs 2")));
    assert_eq!(
        sent_out(&plan),
        [one("/city", json!("Ourville")), one("/street", json!("Theirs 2"))].concat()
    );
    // The other way round the street stays as System A's write has left it on both sides.
    let plan = decide(Pick::Internal, Pick::External);
    assert_eq!((sent_in(&plan), &plan.external), (one("/city", json!("C")), &None));
    let plan = decide(Pick::External, Pick::External);
    assert_eq!(sent_in(&plan), [one("/city", json!("C")), one("/street", json!("Theirs 2"))].concat());
    assert_eq!(sent_out(&plan), one("/street", json!("Theirs 2")));
}

#[test]
fn a_group_that_holds_an_overtaken_field_goes_back_as_a_whole() {
    let (link, policy, internal, external) = overtaken_street(OnConflict::External);
    let plan = run(&link, &internal, &external, &policy);
    assert_eq!(
        sent_in(&plan),
        vec![("/city".into(), Some(json!("C"))), ("/street".into(), Some(json!("Theirs 2")))]
    );
    assert_eq!(sent_out(&plan), one("/street", json!("Theirs 2")));
}

#[test]
fn a_field_that_nobody_edited_does_not_contend_beside_an_overtaken_one() {
    for (here, there) in [("C", "C"), ("C", "C (stored)")] {
        for (by, ruling) in [(OnConflict::External, Verdict::External), (OnConflict::Review, Verdict::Review)]
        {
            let (mut link, policy, ..) = overtaken_street(by);
            let half = |value: &str| Some(json!(value));
            let city = Pair { internal: half(here), external: half(there), ..Pair::default() };
            link.base.insert("/city".into(), city);
            let internal = present(2, &[("/street", json!("Ours 1")), ("/city", json!(here))]);
            let seen = [("/street", json!("Ours 1")), ("/city", json!(there))];
            let external = whole(Source::Read { began: NOW }, Some(200), &seen);
            let plan = run(&link, &internal, &external, &policy);
            assert_eq!((&plan.conflicts[0].fields, plan.conflicts[0].ruling), (&names(&["/street"]), ruling));
            if ruling == Verdict::External {
                assert_eq!(sent_in(&plan), one("/street", json!("Theirs 2")));
                assert_eq!(sent_out(&plan), one("/street", json!("Theirs 2")));
            } else {
                assert!(quiet(&plan), "{}", plan.reason);
            }
        }
    }
}

#[test]
fn a_newer_edit_of_the_same_crm_is_no_conflict_though_its_group_is_stored_otherwise() {
    let (mut link, policy, ..) = overtaken_street(OnConflict::Review);
    let street = link.base.get_mut("/street").unwrap();
    street.given = true;
    let half = |value: &str| Some(json!(value));
    link.base.insert("/city".into(), Pair { internal: half("C"), external: half("C."), ..Pair::default() });
    let internal = present(2, &[("/street", json!("Ours 1")), ("/city", json!("C"))]);
    let seen = [("/street", json!("Ours 1")), ("/city", json!("C."))];
    let plan = run(&link, &internal, &whole(Source::Read { began: NOW }, Some(200), &seen), &policy);
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert_eq!(sent_in(&plan), one("/street", json!("Theirs 2")));
}

#[test]
fn what_system_a_made_of_the_field_meanwhile_contends_with_the_overtaken_edit() {
    let (mut hub, event) = overtaken(OnConflict::Review);
    hub.edit_internal("/a", json!("N"));
    hub.deliver(0, &event);
    let held = &hub.crms[0].link.held["/a"];
    assert_eq!(held.internal, fields(&[("/a", json!("N"))]));
    assert_eq!(held.external, fields(&[("/a", json!("S"))]));
}

#[test]
fn only_one_writes_to_system_a_after_it_was_read() {
    // What one link's work wrote makes the other link's plan outdated: its write names the version that it was made from.
    let crm = || (Form::AsItIs, Class::Exact, policy());
    let mut hub = Hub::new(&[crm(), crm()]);
    hub.edit_external(0, "/a", json!("x"), false);
    hub.edit_external(1, "/b", json!("y"), false);
    let internal = Internal::Present { fields: hub.internal.clone(), version: hub.version, changed_at: None };
    let read = hub.read(1);
    let stale = super::super::plan(&hub.crms[1].link, &internal, &read, &hub.crms[1].policy, hub.now);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    match stale.internal {
        Some(InternalWrite::Update { expected, .. }) => assert!(expected < hub.version),
        other => panic!("{other:?}"),
    }
    hub.settle(&[0], 20);
    assert_eq!((hub.everywhere("/a"), hub.everywhere("/b")), (vec![json!("x"); 3], vec![json!("y"); 3]));
}

/// A link after our write of `/phone` that was answered with this stamp, the last state having been seen at 100.
fn wrote(policy: &ObjectPolicy, pointer: &str, stamp: Option<u64>) -> Link {
    let mut link = agreed(&[(pointer, json!("old"))]);
    link.external_stamp = Some(100);
    wrote_again(&link, policy, pointer, "new", stamp)
}

fn wrote_again(link: &Link, policy: &ObjectPolicy, pointer: &str, value: &str, stamp: Option<u64>) -> Link {
    let internal = present(2, &[(pointer, json!(value))]);
    let write = ExternalWrite::Update {
        fields: fields(&[(pointer, json!(value))]),
        changed: names(&[pointer]),
        version: None,
        stamp: None,
    };
    let answer = ExternalWritten { stamp, ..written(Some(&[(pointer, json!(value))])) };
    after_external_write(link, &write, &internal, &answer, policy, NOW)
}

fn timed() -> ObjectPolicy {
    ObjectPolicy { event_times: true, ..super::policy() }
}

#[test]
fn a_span_is_from_the_state_that_was_seen_to_the_one_that_our_write_left() {
    let link = wrote(&timed(), "/phone", Some(200));
    let span = Overwrite { after: 100, until: 200, before: Some(json!("old")), sent: None, found: None };
    assert_eq!(link.overwrites["/phone"], vec![span]);
    let finds = |at| {
        let edit = Edit { pointer: "/phone".into(), value: Some(json!("theirs")), at };
        let found = note_edits(&link, &[edit], &timed(), NOW + 9);
        let is_found = found.overtaken.contains_key("/phone");
        assert_eq!((is_found, found.look), (may_be_overtaken(&link, at), is_found));
        assert_eq!(found.committed_at, if is_found { NOW + 9 } else { link.committed_at });
        is_found
    };
    assert_eq!([100, 101, 200, 201].map(finds), [false, true, true, false]);
    // The next one begins where this one ends, whether or not the record was seen in between.
    let link = wrote_again(&link, &timed(), "/phone", "newer", Some(300));
    assert_eq!((link.overwrites["/phone"][1].after, link.overwrites["/phone"][1].until), (200, 300));
}

#[test]
fn a_field_that_somebody_cleared_before_our_write_is_found_too() {
    let link = wrote(&timed(), "/phone", Some(200));
    let cleared = Edit { pointer: "/phone".into(), value: None, at: 150 };
    let found = note_edits(&link, &[cleared], &timed(), NOW);
    assert_eq!(found.overtaken.get("/phone").map(|overtaken| &overtaken.value), Some(&None));
}

#[test]
fn an_edit_that_one_write_overtook_stays_lost_when_a_later_one_is_taken_back() {
    // The first edit has the very time of our first write; between that and our second somebody enters what the first had left.
    let link = wrote(&timed(), "/phone", Some(200));
    let link = wrote_again(&link, &timed(), "/phone", "newer", Some(300));
    let edit = |value: &str, at| Edit { pointer: "/phone".into(), value: Some(json!(value)), at };
    let found = note_edits(&link, &[edit("theirs", 200), edit("new", 250)], &timed(), NOW);
    assert_eq!(found.overtaken.get("/phone").map(|overtaken| overtaken.at), Some(200));
}

#[test]
fn nothing_is_remembered_where_nothing_could_be_told_by_it() {
    let without = [wrote(&super::policy(), "/phone", Some(200)), wrote(&timed(), "/phone", None), {
        let mut policy = timed();
        let flow = Flow::ToExternal;
        policy.fields.insert("/phone".into(), FieldPolicy { flow, ..policy.default });
        wrote(&policy, "/phone", Some(200))
    }];
    for link in without {
        assert!(link.overwrites.is_empty(), "{link:?}");
    }
    // An edit of a field that is not mapped any more, or of one that we did not write, was not overtaken.
    let link = wrote(&timed(), "/phone", Some(200));
    let mut narrower = timed();
    narrower.mapped.retain(|pointer| pointer != "/phone");
    let edit = |pointer: &str| Edit { pointer: pointer.into(), value: Some(json!("theirs")), at: 150 };
    assert_eq!(note_edits(&link, &[edit("/phone")], &narrower, NOW), link);
    assert_eq!(note_edits(&link, &[edit("/name")], &timed(), NOW), link);
    assert_eq!(note_edits(&link, &[edit("/phone")], &super::policy(), NOW), link);
}

#[test]
fn spans_are_bounded_in_number_and_by_age() {
    let mut link = wrote(&timed(), "/phone", Some(200));
    for number in 1..18 {
        link = wrote_again(&link, &timed(), "/phone", &format!("n{number}"), Some(200 + number));
    }
    let begins: Vec<u64> = link.overwrites["/phone"].iter().map(|span| span.after).collect();
    assert_eq!(begins, (201..217).collect::<Vec<Millis>>());
    let link = wrote_again(&link, &timed(), "/name", "n", Some(204 + 3_600_000));
    let left: Vec<u64> = link.overwrites["/phone"].iter().map(|span| span.until).collect();
    assert_eq!(left, (204..218).collect::<Vec<Millis>>());
    let link = wrote_again(&link, &timed(), "/name", "m", Some(218 + 3_600_000));
    assert!(!link.overwrites.contains_key("/phone"));
}

#[test]
fn nothing_of_it_outlives_the_record_or_its_redirection() {
    let link = wrote(&timed(), "/phone", Some(200));
    let edit = Edit { pointer: "/phone".into(), value: Some(json!("theirs")), at: 150 };
    let link = note_edits(&link, &[edit], &timed(), NOW);
    let moved = redirect(&link, &"e2".into(), NOW);
    assert!(moved.overtaken.is_empty() && moved.overwrites.is_empty());
    let gone = External::Gone { proof: Proof::Confirmed, at: NOW + 1 };
    let buried = run(&link, &deleted(3), &gone, &timed()).link;
    assert!(buried.overtaken.is_empty() && buried.overwrites.is_empty());
}

#[test]
fn what_system_a_came_to_by_itself_is_passed_on_and_no_conflict() {
    let (mut hub, event) = overtaken(OnConflict::Review);
    hub.edit_internal("/a", json!("S"));
    hub.deliver(0, &event);
    assert_eq!(hub.everywhere("/a"), vec![json!("S"); 2]);
    assert!(hub.crms[0].link.held.is_empty());
}

#[test]
fn a_newer_edit_in_system_a_after_the_write_back_stands() {
    let (mut hub, event) = overtaken(OnConflict::External);
    let edit = Edit { pointer: "/a".into(), value: event.value.clone(), at: event.at };
    let policy = hub.crms[0].policy.clone();
    let found = note_edits(&hub.crms[0].link, &[edit], &policy, hub.now);
    let read = hub.read(0);
    let internal = Internal::Present { fields: hub.internal.clone(), version: hub.version, changed_at: None };
    let plan = super::super::plan(&found, &internal, &read, &policy, hub.now);
    let write = plan.internal.expect("the write back to System A");
    // It is written there; the write to the CRM fails, and somebody edits System A meanwhile.
    let link = after_internal_write(&plan.link, &write, hub.version + 1, &read, &policy, hub.now);
    assert!(link.overtaken["/a"].stands);
    let newer = present(hub.version + 2, &[("/a", json!("N")), ("/b", json!("v0"))]);
    let read = hub.read(0);
    let plan = super::super::plan(&link, &newer, &read, &policy, hub.now);
    assert_eq!(sent_out(&plan), one("/a", json!("N")));
    assert!(plan.internal.is_none() && plan.link.overtaken.is_empty());
    // Without that edit, the CRM gets what is in System A already, and it is not ruled again.
    let same = present(hub.version + 1, &[("/a", json!("S")), ("/b", json!("v0"))]);
    let plan = super::super::plan(&link, &same, &read, &policy, hub.now);
    assert_eq!(sent_out(&plan), one("/a", json!("S")));
    assert!(plan.conflicts.is_empty() && plan.internal.is_none());
}

#[test]
fn a_field_that_another_link_froze_is_frozen_with_its_first_reason() {
    let link = agreed(&[("/phone", json!("1"))]);
    let frozen = freeze(&link, &[("/phone".to_owned(), "why".to_owned())].into(), NOW);
    assert_eq!((frozen.frozen["/phone"].as_str(), frozen.committed_at), ("why", NOW));
    let again = freeze(&frozen, &[("/phone".to_owned(), "other".to_owned())].into(), NOW + 1);
    assert_eq!(again, frozen);
    let plan = run(&frozen, &present(2, &[("/phone", json!("2"))]), &External::Unseen, &super::policy());
    assert!(quiet(&plan), "{plan:?}");
}

#[test]
fn what_was_overtaken_is_settled_only_from_a_record_that_was_seen() {
    let mut policy = timed();
    policy.default.on_conflict = OnConflict::External;
    let link = wrote(&policy, "/phone", Some(200));
    let edit = Edit { pointer: "/phone".into(), value: Some(json!("theirs")), at: 150 };
    let mut found = note_edits(&link, &[edit], &policy, NOW);
    // It was looked at, and what followed failed: the next try looks again.
    found.look = false;
    let internal = present(2, &[("/phone", json!("new"))]);
    let plan = run(&found, &internal, &External::Unseen, &policy);
    assert_eq!(plan.ask, Some(Ask::ReadExternal));
    // What is held or frozen waits for a person, and costs no look.
    let frozen = freeze(&found, &[("/phone".to_owned(), "why".to_owned())].into(), NOW);
    assert!(quiet(&run(&frozen, &internal, &External::Unseen, &policy)));
    policy.default.on_conflict = OnConflict::Review;
    let seen = whole(Source::Read { began: NOW }, Some(200), &[("/phone", json!("new"))]);
    let held = run(&found, &internal, &seen, &policy).link;
    assert!(held.held.contains_key("/phone"));
    assert!(quiet(&run(&held, &internal, &External::Unseen, &policy)));
}
