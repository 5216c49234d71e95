//! Two CRMs and more contend through System A: the rank decides, whichever edit comes first.

use proptest::prelude::*;

use super::hub::{Class, Crm, Form, Hub, name, policy};
use super::*;
use crate::plan::{Peer, plan_beside};

fn ranked(rank: Option<u32>, on_conflict: OnConflict) -> ObjectPolicy {
    let mut policy = policy();
    policy.default.rank = rank;
    policy.default.on_conflict = on_conflict;
    policy
}

fn three(ranks: [Option<u32>; 3], class: [Class; 3], by: OnConflict) -> Hub {
    let crm = |at: usize| (Form::AsItIs, class[at], ranked(ranks[at], by));
    Hub::new(&[crm(0), crm(1), crm(2)])
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Exact), Just(Class::FoundAfterwards)]
}

fn on_conflict() -> impl Strategy<Value = OnConflict> {
    use OnConflict::{External, Internal, Newest, Review};
    prop_oneof![Just(Internal), Just(External), Just(Review), Just(Newest)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_of_hints_the_highest_ranked_of_those_who_edited_wins(
        places in Just([Some(1), Some(2), None]).prop_shuffle(),
        class in [class(), class(), class()],
        by in on_conflict(),
        edits in prop::collection::vec(0_usize..3, 1..6),
        order in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let mut hub = three(places, class, by);
        for (number, at) in edits.iter().enumerate() {
            hub.edit_external(*at, "/a", json!(format!("{} {number}", name(*at))), false);
        }
        let first = *edits.iter().min_by_key(|at| places[**at].unwrap_or(9)).unwrap();
        let wins = hub.crms[first].fields["/a"].clone();
        hub.settle(&order, 200);
        prop_assert_eq!(hub.everywhere("/a"), vec![wins; 4]);
        prop_assert!(hub.crms.iter().all(|crm| crm.link.held.is_empty()));
    }

    #[test]
    fn whatever_is_edited_anywhere_all_sides_end_the_same_and_then_nothing_is_written(
        places in [prop::option::of(1_u32..4), prop::option::of(1_u32..4), prop::option::of(1_u32..4)],
        class in [class(), class(), class()],
        by in prop_oneof![Just(OnConflict::Internal), Just(OnConflict::External)],
        edits in prop::collection::vec((0_usize..4, 0_usize..2, any::<bool>()), 1..12),
        order in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let mut hub = three(places, class, by);
        for (number, (at, field, settles)) in edits.iter().enumerate() {
            let (pointer, value) = (hub::FIELDS[*field], json!(format!("{number}")));
            match at {
                3 => hub.edit_internal(pointer, value),
                at => hub.edit_external(*at, pointer, value, false),
            }
            if *settles {
                hub.settle(&order, 400);
            }
        }
        hub.settle(&order, 400);
        for pointer in hub::FIELDS {
            let all = hub.everywhere(pointer);
            prop_assert!(all.iter().all(|value| *value == all[0]), "{}: {:?}", pointer, all);
        }
        let writes = hub.writes;
        for at in 0..3 {
            let read = hub.read(at);
            hub.work(at, read, &[]);
            hub.work(at, External::Unseen, &[]);
        }
        prop_assert_eq!(hub.writes, writes);
    }

    #[test]
    fn an_edit_of_one_crm_only_reaches_all_whatever_its_rank(
        places in [prop::option::of(1_u32..4), prop::option::of(1_u32..4), prop::option::of(1_u32..4)],
        class in [class(), class(), class()],
        by in on_conflict(),
        at in 0_usize..3,
        order in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let mut hub = three(places, class, by);
        for (number, editor) in [at, (at + 1) % 3, at].into_iter().enumerate() {
            let value = json!(format!("{number}"));
            hub.edit_external(editor, "/a", value.clone(), false);
            hub.settle(&order, 200);
            prop_assert_eq!(hub.everywhere("/a"), vec![value; 4]);
        }
    }
}

/// Both CRMs edited `/a`; what the first gave is in System A when the second one's event is looked at.
fn contended(mut hub: Hub) -> (Hub, Crm) {
    hub.edit_external(0, "/a", json!("x"), false);
    hub.edit_external(1, "/a", json!("y"), false);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    let event = hub.crms[1].events.remove(0);
    hub.deliver(1, &event);
    let second = hub.crms[1].clone();
    (hub, second)
}

fn two(first: Option<u32>, second: Option<u32>, by: OnConflict) -> Hub {
    three([first, second, None], [Class::Exact; 3], by)
}

#[test]
fn field_ownership_is_a_rank_with_one_member() {
    let (hub, _) = contended(two(Some(1), None, OnConflict::External));
    assert_eq!((&hub.internal["/a"], &hub.crms[1].fields["/a"]), (&json!("x"), &json!("x")));
    let (hub, _) = contended(two(None, Some(1), OnConflict::Internal));
    assert_eq!(hub.internal["/a"], json!("y"));
}

#[test]
fn without_a_rank_or_with_the_same_one_the_policy_decides() {
    for rank in [None, Some(3)] {
        let (hub, second) = contended(two(rank, rank, OnConflict::Review));
        assert_eq!(hub.internal["/a"], json!("x"));
        assert_eq!(second.link.held["/a"].external, fields(&[("/a", json!("y"))]));
        let (hub, _) = contended(two(rank, rank, OnConflict::External));
        assert_eq!(hub.internal["/a"], json!("y"));
    }
}

#[test]
fn a_field_may_have_a_rank_of_its_own() {
    let mut hub = two(Some(1), Some(2), OnConflict::Review);
    let own = FieldPolicy { rank: Some(1), ..FieldPolicy::default() };
    hub.crms[1].policy.fields.insert("/a".into(), own);
    let lower = FieldPolicy { rank: Some(2), ..FieldPolicy::default() };
    hub.crms[0].policy.fields.insert("/a".into(), lower);
    let (hub, _) = contended(hub);
    assert_eq!(hub.internal["/a"], json!("y"));
}

#[test]
fn what_a_person_edits_in_system_a_goes_by_policy_and_not_by_rank() {
    let mut hub = two(Some(2), Some(1), OnConflict::Review);
    hub.edit_external(0, "/a", json!("x"), false);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    hub.edit_external(1, "/a", json!("y"), false);
    hub.edit_internal("/a", json!("person"));
    let event = hub.crms[1].events.remove(0);
    hub.deliver(1, &event);
    assert!(hub.crms[1].link.held.contains_key("/a"), "{:?}", hub.crms[1].link);
    assert_eq!(hub.internal["/a"], json!("person"));
}

/// The second CRM, which ranks lower, edits `/a` against what System A has: by policy it is held, by rank System A would win.
fn goes_by_policy(mut hub: Hub) -> bool {
    hub.edit_external(1, "/a", json!("y"), false);
    let event = hub.crms[1].events.remove(0);
    hub.deliver(1, &event);
    hub.crms[1].link.held.contains_key("/a")
}

#[test]
fn what_a_person_enters_as_the_crm_has_it_is_system_a_s_own() {
    let policy = |rank| ranked(Some(rank), OnConflict::Review);
    let mut hub =
        Hub::new(&[(Form::Upper, Class::Exact, policy(1)), (Form::AsItIs, Class::Exact, policy(2))]);
    hub.edit_internal("/a", json!("V0"));
    hub.work(0, External::Unseen, &[]);
    assert_eq!(hub.writes, 0, "it has that already");
    assert!(goes_by_policy(hub));
}

#[test]
fn what_a_person_makes_of_a_crm_s_value_is_system_a_s_own_once_the_crm_has_it_too() {
    let mut hub = two(Some(1), Some(2), OnConflict::Review);
    hub.edit_external(0, "/a", json!("x"), false);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    hub.edit_internal("/a", json!("person"));
    hub.work(0, External::Unseen, &[]);
    assert_eq!(hub.crms[0].fields["/a"], json!("person"));
    assert!(goes_by_policy(hub));
}

#[test]
fn what_a_person_makes_of_a_crm_s_value_that_flows_one_way_is_system_a_s_own() {
    let mut hub = two(Some(1), Some(2), OnConflict::Review);
    hub.crms[0].policy.default.flow = Flow::ToInternal;
    hub.edit_external(0, "/a", json!("x"), false);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    assert!(!goes_by_policy(hub.clone()), "it is the first CRM's");
    hub.edit_internal("/a", json!("person"));
    hub.work(0, External::Unseen, &[]);
    assert!(goes_by_policy(hub));
}

#[test]
fn an_edit_that_system_a_is_not_given_makes_its_value_no_crm_s() {
    let mut hub = two(Some(1), Some(2), OnConflict::Review);
    hub.crms[0].policy.default.flow = Flow::ToExternal;
    hub.edit_internal("/a", json!("person"));
    hub.work(0, External::Unseen, &[]);
    hub.edit_external(0, "/a", json!("x"), false);
    let read = hub.read(0);
    hub.work(0, read, &[]);
    assert_eq!((&hub.internal["/a"], &hub.crms[0].fields["/a"]), (&json!("person"), &json!("x")));
    assert!(goes_by_policy(hub));
}

#[test]
fn a_field_that_was_cleared_in_system_a_is_not_given_by_a_crm_that_never_had_it() {
    let mut hub = two(Some(1), Some(2), OnConflict::Review);
    hub.edit_internal("/a", Value::Null);
    hub.crms[0].fields.remove("/a");
    hub.crms[0].link.base.remove("/a");
    let read = hub.read(0);
    hub.work(0, read, &[]);
    assert!(hub.crms[0].link.base.contains_key("/a"));
    assert!(goes_by_policy(hub));
}

#[test]
fn what_a_person_decided_is_nobody_elses_edit() {
    let mut hub = two(None, None, OnConflict::Review);
    let (held, _) = contended(hub.clone());
    hub = held;
    let choice = Choice::Value(fields(&[("/a", json!("decided"))]));
    hub.crms[1].link = decide_review(&hub.crms[1].link, "/a", choice, hub.now).unwrap();
    hub.crms[1].told = true;
    hub.settle(&[0], 100);
    assert_eq!(hub.everywhere("/a"), vec![json!("decided"); 4]);
    assert!(hub.crms.iter().all(|crm| !crm.link.base["/a"].given), "{:?}", hub.crms);
}

#[test]
fn a_crm_that_came_to_the_same_value_by_itself_has_given_it_too() {
    let mut hub = three([Some(1), Some(3), Some(2)], [Class::Exact; 3], OnConflict::Review);
    for (at, value) in [(1, "same"), (0, "same"), (2, "other")] {
        hub.edit_external(at, "/a", json!(value), false);
    }
    // The lowest is told first; the highest finds its own value there.
    for at in [1, 0, 2] {
        let event = hub.crms[at].events.remove(0);
        hub.deliver(at, &event);
    }
    hub.settle(&[0], 50);
    assert_eq!(hub.everywhere("/a"), vec![json!("same"); 4]);
}

#[test]
fn a_group_is_contested_as_a_whole_and_the_reason_names_the_connection() {
    let grouped = |rank| {
        let mut policy = ranked(None, OnConflict::Review);
        policy.fields.insert("both".into(), FieldPolicy { rank, ..policy.default });
        for pointer in hub::FIELDS {
            policy.groups.insert(pointer.into(), "both".into());
        }
        policy
    };
    let mut hub = Hub::new(&[
        (Form::AsItIs, Class::Exact, grouped(Some(1))),
        (Form::AsItIs, Class::Exact, grouped(Some(2))),
    ]);
    hub.edit_external(0, "/a", json!("x"), false);
    hub.edit_external(1, "/b", json!("y"), false);
    let event = hub.crms[0].events.remove(0);
    hub.deliver(0, &event);
    let internal = Internal::Present { fields: hub.internal.clone(), version: hub.version, changed_at: None };
    let peers = [Peer { link: &hub.crms[0].link, policy: Some(&hub.crms[0].policy) }];
    let read = hub.clone().read(1);
    let crm = &hub.crms[1];
    let plan = plan_beside(&crm.link, &peers, &internal, &read, &crm.policy, hub.now + 5);
    assert_eq!(sent_out(&plan), vec![("/a".into(), Some(json!("x"))), ("/b".into(), Some(json!("v0")))]);
    assert!(plan.conflicts[0].why.contains("connection crm-x, which stands above it by rank"), "{plan:?}");
    // A connection that is not there any more has no place, and nothing is known of its policy.
    let gone = [Peer { link: &hub.crms[0].link, policy: None }];
    let plan = plan_beside(&crm.link, &gone, &internal, &read, &crm.policy, hub.now + 5);
    assert_eq!(plan.conflicts[0].ruling, Verdict::Review);
}
