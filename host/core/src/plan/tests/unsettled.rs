use super::*;
use crate::plan::Edit;

/// Both agreed on a telephone number; System A has another one now, and it is sent.
fn on_its_way_out() -> (Link, Unsettled) {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &External::Unseen, &policy());
    let mut unsettled = Unsettled::default();
    unsettled.note_external(&plan.external.unwrap(), &internal);
    (link, unsettled)
}

/// The CRM has another number, and it is written to System A.
fn on_its_way_in() -> (Link, Unsettled) {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &external, &policy());
    let mut unsettled = Unsettled::default();
    unsettled.note_internal(&plan.internal.unwrap(), &plan.link, &external);
    (link, unsettled)
}

/// The CRM has another number and another name, and both are written to System A.
fn two_on_their_way_in() -> (Link, External, Unsettled) {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("2")), ("/name", json!("Anna"))]);
    let plan = run(&link, &internal, &external, &policy());
    let mut unsettled = Unsettled::default();
    unsettled.note_internal(&plan.internal.unwrap(), &plan.link, &external);
    (link, external, unsettled)
}

#[test]
fn an_edit_after_a_write_whose_commit_was_lost_is_no_conflict() {
    let (link, unsettled) = on_its_way_out();
    let internal = present(3, &[("/phone", json!("3")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("2")), ("/name", json!("Ann"))]);
    assert_eq!(run(&link, &internal, &external, &policy()).conflicts.len(), 1, "it looks like one");
    let settled = unsettled.settle(&link, &internal, &external, &policy(), NOW);
    assert_eq!(pair(&settled, "/phone"), (Some(json!("2")), Some(json!("2"))));
    let plan = run(&settled, &internal, &external, &policy());
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert_eq!(sent_out(&plan), one("/phone", json!("3")));
    assert_eq!(plan.internal, None);
}

#[test]
fn an_edit_in_the_crm_after_such_a_write_to_system_a_is_no_conflict() {
    let (link, unsettled) = on_its_way_in();
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("3")), ("/name", json!("Ann"))]);
    assert_eq!(run(&link, &internal, &external, &policy()).conflicts.len(), 1, "it looks like one");
    let settled = unsettled.settle(&link, &internal, &external, &policy(), NOW);
    let plan = run(&settled, &internal, &external, &policy());
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert_eq!(sent_in(&plan), one("/phone", json!("3")));
    assert_eq!(plan.external, None);
    // Which version the write made is not known: the one that is there may be somebody's edit of another field.
    let versions = |link: &Link| (link.internal_version, link.own_internal, link.committed_at);
    assert_eq!(versions(&settled), versions(&link));
}

#[test]
fn a_write_that_arrived_before_the_record_was_deleted_in_system_a_brings_it_not_back() {
    let (link, unsettled) = on_its_way_out();
    let external = read(&[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let looks = run(&link, &deleted(3), &external, &policy());
    assert_eq!(looks.conflicts.len(), 1, "it looks like an edit in the CRM");
    let settled = unsettled.settle(&link, &deleted(3), &external, &policy(), NOW);
    let plan = run(&settled, &deleted(3), &external, &policy());
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert!(matches!(plan.external, Some(ExternalWrite::Remove { .. })), "{}", plan.reason);
    // An edit there is one still.
    let edited = read(&[("/phone", json!("3")), ("/name", json!("Ann"))]);
    let settled = unsettled.settle(&link, &deleted(3), &edited, &policy(), NOW);
    assert_eq!(run(&settled, &deleted(3), &edited, &policy()).conflicts.len(), 1);
    let (link, unsettled) = on_its_way_in();
    assert_eq!(unsettled.settle(&link, &deleted(3), &external, &policy(), NOW), link);
}

#[test]
fn a_write_that_never_arrived_settles_nothing() {
    let (link, unsettled) = on_its_way_out();
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let settled = unsettled.settle(&link, &internal, &external, &policy(), NOW);
    assert_eq!(settled, link);
    assert_eq!(sent_out(&run(&settled, &internal, &external, &policy())), one("/phone", json!("2")));
}

#[test]
fn a_value_that_is_neither_is_left_to_the_policies() {
    let (link, unsettled) = on_its_way_out();
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("9")), ("/name", json!("Ann"))]);
    let settled = unsettled.settle(&link, &internal, &external, &policy(), NOW);
    assert_eq!(settled, link);
    assert_eq!(run(&settled, &internal, &external, &policy()).conflicts.len(), 1);
}

#[test]
fn an_edit_of_what_system_a_had_just_taken_is_newer_than_that() {
    let (link, external, unsettled) = two_on_their_way_in();
    let settled = |phone: &str, name: &str| {
        let internal = present(3, &[("/phone", json!(phone)), ("/name", json!(name))]);
        let settled = unsettled.settle(&link, &internal, &external, &policy(), NOW);
        (run(&settled, &internal, &external, &policy()), settled)
    };
    // The name shows that the write was taken; somebody saw the number that came with it and has another one now.
    let (plan, known) = settled("3", "Anna");
    assert_eq!(pair(&known, "/phone"), (Some(json!("2")), Some(json!("2"))));
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert_eq!((sent_out(&plan), plan.internal), (one("/phone", json!("3")), None));
    // The number is as it was before: nobody edited it, or the name is somebody's own.
    let (plan, _) = settled("1", "Anna");
    assert_eq!(sent_in(&plan), one("/phone", json!("2")));
    // Nothing shows that the write was taken.
    let (plan, _) = settled("3", "Ann");
    assert_eq!(plan.conflicts.len(), 1, "{}", plan.reason);
}

#[test]
fn what_system_a_took_before_the_crms_record_went_keeps_it_not_alive() {
    let (link, unsettled) = on_its_way_in();
    let gone = External::Gone { proof: Proof::Confirmed, at: NOW };
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    assert_eq!(
        run(&link, &internal, &gone, &policy()).conflicts.len(),
        1,
        "it looks like an edit in System A"
    );
    let settled = unsettled.settle(&link, &internal, &gone, &policy(), NOW);
    let plan = run(&settled, &internal, &gone, &policy());
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert!(matches!(plan.internal, Some(InternalWrite::Delete { .. })), "{}", plan.reason);
    // An edit is one still.
    let edited = present(3, &[("/phone", json!("3")), ("/name", json!("Ann"))]);
    let settled = unsettled.settle(&link, &edited, &gone, &policy(), NOW);
    assert_eq!(run(&settled, &edited, &gone, &policy()).conflicts.len(), 1);
}

#[test]
fn what_came_back_after_a_removal_whose_answer_was_lost_is_not_deleted_for_it() {
    let members = [("/phone", json!("1")), ("/name", json!("Ann"))];
    let link = agreed(&members);
    let plan = run(&link, &deleted(2), &read(&members), &policy());
    let removal = plan.external.unwrap();
    assert!(matches!(removal, ExternalWrite::Remove { .. }), "{}", plan.reason);
    let mut unsettled = Unsettled::default();
    unsettled.note_external(&removal, &deleted(2));
    assert!(!unsettled.is_empty());
    // Somebody brings the record back in System A, and the CRM's is gone: by our own hand.
    let back = present(3, &members);
    // Missed once it may be there still: the note is kept until it is seen, or missed again.
    let due = NOW + 1 + policy().confirm_after();
    let missed = External::Gone { proof: Proof::Unconfirmed, at: NOW + 1 };
    assert!(!Unsettled::is_told_by(&plan.link, &missed, &policy()));
    assert_eq!(unsettled.settle(&plan.link, &back, &missed, &policy(), NOW + 1), plan.link);
    let doubted = run(&plan.link, &back, &missed, &policy()).link;
    let again = External::Gone { proof: Proof::Unconfirmed, at: due };
    let gone = External::Gone { proof: Proof::Confirmed, at: NOW + 1 };
    for (link, gone) in [(&plan.link, &gone), (&doubted, &again)] {
        assert!(Unsettled::is_told_by(link, gone, &policy()));
        let settled = unsettled.settle(link, &back, gone, &policy(), NOW + 1);
        assert_eq!(settled.committed_at, link.committed_at, "no read is known to be older than this");
        let next = run(&settled, &back, gone, &policy());
        assert_eq!(next.internal, None, "{gone:?}: {}", next.reason);
        assert!(matches!(next.external, Some(ExternalWrite::Create { .. })), "{gone:?}: {}", next.reason);
        assert_eq!(next.link.incarnation, link.incarnation + 1);
        // Without the note it is the CRM's deletion, which takes what did not change with it.
        assert_eq!(Unsettled::default().settle(link, &back, gone, &policy(), NOW + 1), *link);
    }
    let unnoted = run(&plan.link, &back, &gone, &policy());
    assert!(matches!(unnoted.internal, Some(InternalWrite::Delete { .. })), "{}", unnoted.reason);
    // Where it was not brought back both are gone, and where the removal did not arrive nothing is settled.
    let still = unsettled.settle(&plan.link, &deleted(2), &gone, &policy(), NOW + 1);
    assert!(quiet(&run(&still, &deleted(2), &gone, &policy())));
    assert_eq!(unsettled.settle(&plan.link, &back, &read(&members), &policy(), NOW), plan.link);
}

#[test]
fn what_was_not_read_settles_nothing() {
    let (link, unsettled) = on_its_way_out();
    let internal = present(2, &[("/phone", json!("2"))]);
    let missed = External::Gone { proof: Proof::Unconfirmed, at: NOW };
    for external in [External::Unseen, External::Touched, missed] {
        assert!(!Unsettled::is_told_by(&link, &external, &policy()));
        assert_eq!(unsettled.settle(&link, &internal, &external, &policy(), NOW), link);
    }
    // Nor does what arrived, where System A has no record that it could have come from.
    let external = read(&[("/phone", json!("2")), ("/name", json!("Ann"))]);
    assert!(Unsettled::is_told_by(&link, &external, &policy()));
    assert_ne!(unsettled.settle(&link, &internal, &external, &policy(), NOW), link);
    assert_eq!(unsettled.settle(&link, &Internal::Absent, &external, &policy(), NOW), link);
}

#[test]
fn a_field_that_is_mapped_no_more_settles_nothing() {
    let (link, unsettled) = on_its_way_out();
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let external = read(&[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let narrow = ObjectPolicy { mapped: vec!["/name".to_owned()], ..policy() };
    for (link, unsettled) in [(link, unsettled), on_its_way_in()] {
        assert_ne!(unsettled.settle(&link, &internal, &external, &policy(), NOW), link);
        assert_eq!(unsettled.settle(&link, &internal, &external, &narrow, NOW), link);
    }
    // Nor is it taken for edited where another field shows that the write arrived.
    let (link, external, unsettled) = two_on_their_way_in();
    let internal = present(2, &[("/phone", json!("3")), ("/name", json!("Anna"))]);
    let settled = |policy: &ObjectPolicy| unsettled.settle(&link, &internal, &external, policy, NOW);
    assert_eq!(pair(&settled(&policy()), "/phone"), (Some(json!("2")), Some(json!("2"))));
    let narrowed = settled(&narrow);
    assert_eq!(pair(&narrowed, "/phone"), (Some(json!("1")), Some(json!("1"))));
    assert_eq!(pair(&narrowed, "/name"), (Some(json!("Anna")), Some(json!("Anna"))));
}

#[test]
fn a_record_that_was_made_in_system_a_keeps_its_base() {
    let mut link = unlinked();
    link.external = Some("e1".into());
    let external = read(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let plan = run(&link, &Internal::Absent, &external, &policy());
    let mut unsettled = Unsettled::default();
    unsettled.note_internal(&plan.internal.unwrap(), &plan.link, &external);
    assert_eq!(unsettled.external, Some("e1".into()));
    let internal = present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let edited = read(&[("/phone", json!("2")), ("/name", json!("Ann"))]);
    assert_eq!(run(&link, &internal, &edited, &policy()).conflicts.len(), 1, "it looks like one");
    let settled = unsettled.settle(&link, &internal, &edited, &policy(), NOW);
    let plan = run(&settled, &internal, &edited, &policy());
    assert!(plan.conflicts.is_empty(), "{}", plan.reason);
    assert_eq!(sent_in(&plan), one("/phone", json!("2")));
}

#[test]
fn it_survives_being_written_down() {
    let (_, unsettled) = on_its_way_out();
    let text = serde_json::to_string(&unsettled).unwrap();
    assert_eq!(serde_json::from_str::<Unsettled>(&text).unwrap(), unsettled);
    assert!(!unsettled.is_empty() && Unsettled::default().is_empty());
    let removal = Unsettled { removal: true, ..Unsettled::default() };
    let text = serde_json::to_string(&removal).unwrap();
    assert_eq!(serde_json::from_str::<Unsettled>(&text).unwrap(), removal);
}

#[test]
fn an_edit_that_was_taken_back_to_what_we_sent_was_not_overtaken_by_it() {
    let (_, unsettled) = on_its_way_out();
    let edit =
        |pointer: &str, value: &str, at| Edit { pointer: pointer.into(), value: Some(json!(value)), at };
    let edits = [
        edit("/phone", "theirs", 150),
        edit("/phone", "2", 200),
        edit("/phone", "later", 250),
        edit("/name", "2", 260),
        edit("/name", "theirs", 150),
    ];
    let left = unsettled.may_have_overtaken(&edits, &policy());
    assert_eq!(left, edits[1..].to_vec(), "only what came before it, and of the same field");
}
