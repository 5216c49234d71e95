//! Loops: within one link, and through System A over several.

use proptest::prelude::*;

use super::hub::{Class, Form, Hub, policy};
use super::*;
use crate::plan::Peer;

fn crm(form: Form, on_rewrite: OnRewrite) -> (Form, Class, ObjectPolicy) {
    let mut policy = ObjectPolicy { loop_limit: 6, ..policy() };
    policy.default.on_rewrite = on_rewrite;
    (form, Class::Exact, policy)
}

#[test]
fn two_crms_that_store_a_value_differently_are_quiet_when_rewrites_are_kept() {
    let mut hub = Hub::new(&[crm(Form::Upper, OnRewrite::Keep), crm(Form::Lower, OnRewrite::Keep)]);
    hub.edit_internal("/a", json!("Ann"));
    hub.settle(&[0, 1, 2], 30);
    assert_eq!(hub.everywhere("/a"), [json!("Ann"), json!("ANN"), json!("ann")]);
    assert_eq!(hub.writes, 2);
}

#[test]
fn two_crms_that_fight_over_a_form_freeze_the_field_on_both_links_and_the_sequence_is_told() {
    let mut hub = Hub::new(&[crm(Form::Upper, OnRewrite::Adopt), crm(Form::Lower, OnRewrite::Adopt)]);
    hub.edit_internal("/a", json!("Ann"));
    hub.settle(&[0, 1, 2], 60);
    assert!(hub.writes <= 20, "{} writes", hub.writes);
    let why = &hub.crms[0].link.frozen["/a"];
    assert_eq!(hub.crms[1].link.frozen["/a"], *why, "frozen on all links");
    assert!(why.contains("internal from crm-x at") && why.contains("external at crm-y at"), "{why}");
    // Other fields flow on.
    hub.edit_internal("/b", json!("7"));
    hub.settle(&[0], 60);
    assert_eq!(hub.everywhere("/b"), vec![json!("7"); 3]);
    // Unfrozen on all links, it flows; the count begins anew.
    for crm in &mut hub.crms {
        crm.link = unfreeze(&crm.link, "/a", hub.now);
        assert!(crm.link.frozen.is_empty() && !crm.link.alternations.contains_key("/a"));
        crm.policy.default.on_rewrite = OnRewrite::Keep;
        // What the CRM made of the last value was not taken over: it is an edit of its own.
        crm.policy.default.on_conflict = OnConflict::Internal;
        crm.told = true;
    }
    hub.edit_internal("/a", json!("Bo"));
    hub.settle(&[0], 60);
    assert_eq!(hub.everywhere("/a"), [json!("Bo"), json!("BO"), json!("bo")]);
}

#[test]
fn three_crms_in_a_round_are_stopped_although_none_goes_back_and_forth_by_itself() {
    // An automation in each CRM answers what it is given with something new.
    let three = [(); 3].map(|()| crm(Form::AsItIs, OnRewrite::Keep));
    let mut hub = Hub::new(&three);
    hub.edit_external(0, "/a", json!("0"), false);
    let mut rounds = 0;
    for round in 1..40 {
        hub.settle(&[0], 60);
        if hub.crms.iter().any(|crm| crm.link.frozen.contains_key("/a")) {
            break;
        }
        hub.edit_external(round % 3, "/a", json!(format!("{round}")), false);
        rounds = round;
    }
    assert_eq!(rounds, 7, "as many changes of hands as the limit allows, and the one that is too many");
    assert!(hub.crms.iter().all(|crm| crm.link.frozen.contains_key("/a")));
    let counted = |crm: &hub::Crm| crm.link.alternations["/a"].writes.len();
    assert!(hub.crms.iter().all(|crm| counted(crm) <= 6), "no link alone is over the limit");
}

#[test]
fn one_person_who_edits_again_and_again_is_no_loop() {
    let two = [(); 2].map(|()| crm(Form::AsItIs, OnRewrite::Keep));
    let mut hub = Hub::new(&two);
    for number in 0..20 {
        hub.edit_external(0, "/a", json!(format!("{number}")), false);
        hub.settle(&[0, 1], 30);
        hub.edit_internal("/b", json!(format!("{number}")));
        hub.settle(&[0, 1], 30);
    }
    assert!(hub.crms.iter().all(|crm| crm.link.frozen.is_empty()));
    assert_eq!(hub.everywhere("/a"), vec![json!("19"); 3]);
}

/// A link with these writes of `/a`.
fn with_writes(name: &str, writes: &[(Millis, Side)]) -> Link {
    let mut link = Link::new(entity(), ConnectionId::from(name));
    link.alternations.entry("/a".into()).or_default().writes = writes.to_vec();
    link
}

/// Whether one more write is one change of hands too many, for each limit from one on: how many there are.
fn counted(link: &Link, others: &[Link], side: Side, now: Millis) -> u32 {
    let peers: Vec<Peer<'_>> = others.iter().map(|link| Peer { link, policy: None }).collect();
    (1..20)
        .find(|limit| {
            let policy = ObjectPolicy { loop_limit: *limit, loop_window_ms: 100, ..policy() };
            super::super::loops::too_many(link, &peers, "/a", side, &policy, now).is_none()
        })
        .unwrap_or(99)
}

#[test]
fn what_one_gave_and_the_others_were_handed_counts_once() {
    use Side::{External, Internal};
    let x = with_writes("x", &[(1, Internal), (5, External)]);
    let y = with_writes("y", &[(2, External), (4, Internal)]);
    let z = with_writes("z", &[(3, External), (6, External)]);
    // x gave (1), y and z were handed it; y gave (4), x and z were handed it; now x gives again.
    assert_eq!(counted(&x, &[y.clone(), z.clone()], Internal, 7), 2);
    // Or System A's own word goes to the one that gave last: that is another hand.
    assert_eq!(counted(&y, &[x.clone(), z.clone()], External, 7), 2);
    // Being handed on once more is none.
    assert_eq!(counted(&z, &[x.clone(), y.clone()], External, 7), 1);
    // What System A says by itself is one hand, however many it is handed to.
    let told = ["p", "q", "r"].map(|name| with_writes(name, &[(1, External)]));
    assert_eq!(counted(&with_writes("s", &[]), &told, External, 7), 1);
    // At the same moment what is given comes before what is handed on.
    let x = with_writes("x", &[(1, Internal), (4, External)]);
    let y = with_writes("y", &[(1, External), (4, Internal)]);
    assert_eq!(counted(&x, std::slice::from_ref(&y), Internal, 7), 2);
    // What lies before the window is forgotten.
    assert_eq!(counted(&x, &[y], Internal, 103), 1);
}

#[test]
fn what_was_overtaken_and_is_given_back_is_no_change_of_hands() {
    // x hands its value to y over an edit there that nobody had told of; y stands above x, so its edit comes back. Once the two
    // meet before that.
    let of = |limit, rank| {
        let mut policy = ObjectPolicy { loop_limit: limit, ..policy() };
        policy.default.rank = Some(rank);
        (Form::AsItIs, Class::FoundAfterwards, policy)
    };
    let mut hub = Hub::new(&[of(6, 2), of(6, 1)]);
    for round in 0..3 {
        hub.edit_external(0, "/a", json!(format!("x{round}")), false);
        hub.edit_external(1, "/a", json!(format!("y{round}")), false);
        let (first, late) = (hub.crms[0].events.remove(0), hub.crms[1].events.remove(0));
        hub.deliver(0, &first);
        if round != 1 {
            hub.work(1, External::Unseen, &[]);
            assert_eq!(hub.everywhere("/a"), vec![json!(format!("x{round}")); 3]);
        }
        hub.deliver(1, &late);
        hub.settle(&[0], 20);
        assert_eq!(hub.everywhere("/a"), vec![json!(format!("y{round}")); 3], "round {round}");
    }
    assert!(hub.crms.iter().all(|crm| crm.link.frozen.is_empty()));
}

#[test]
fn a_crm_that_overtakes_what_is_given_back_to_it_again_and_again_is_stopped() {
    let mut policy = ObjectPolicy { loop_limit: 3, ..policy() };
    policy.default.on_conflict = OnConflict::External;
    let mut hub = Hub::new(&[(Form::AsItIs, Class::FoundAfterwards, policy)]);
    hub.crms[0].robot = Some(0);
    hub.edit_internal("/a", json!("I"));
    hub.settle(&[0], 40);
    let why = hub.crms[0].link.frozen.get("/a").cloned().unwrap_or_default();
    assert!(
        why.starts_with("edits in crm-x that a write of ours overtook were given back to it 3 times"),
        "{why}"
    );
    // System A's value, three that were given back, and what System A was given meanwhile.
    assert_eq!(hub.crms[0].robot, Some(4));
    assert!(hub.writes <= 8, "{} writes", hub.writes);
}

#[test]
fn a_breaker_that_is_turned_off_lets_everything_be_given_back() {
    let mut link = with_writes("x", &[]);
    link.alternations.entry("/a".into()).or_default().restored = vec![1, 2, 3];
    let stopped = |loop_limit| {
        let policy = ObjectPolicy { loop_limit, loop_window_ms: 100, ..policy() };
        super::super::loops::restored_too_often(&link, "/a", &policy, 4).is_some()
    };
    assert_eq!([0, 3, 4].map(stopped), [false, true, false]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_forms_and_policies_fight_it_is_quiet_after_a_bounded_number_of_writes(
        forms in prop::collection::vec(prop_oneof![Just(Form::AsItIs), Just(Form::Upper), Just(Form::Lower)], 1..4),
        adopts in prop::collection::vec(any::<bool>(), 3),
        edits in prop::collection::vec((0_usize..4, "[aB]{1,3}"), 1..5),
        order in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let crms: Vec<_> = forms
            .iter()
            .zip(&adopts)
            .map(|(form, adopts)| crm(*form, if *adopts { OnRewrite::Adopt } else { OnRewrite::Keep }))
            .collect();
        let mut hub = Hub::new(&crms);
        for (at, text) in &edits {
            if *at < hub.crms.len() {
                hub.edit_external(*at, "/a", json!(text), false);
            } else {
                hub.edit_internal("/a", json!(text));
            }
        }
        hub.settle(&order, 400);
        // Each change of hands is at most one write to System A and one to each CRM.
        prop_assert!(hub.writes <= (6 + 2 + edits.len()) * (1 + crms.len()), "{} writes", hub.writes);
    }
}
