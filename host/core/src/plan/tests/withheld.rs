//! Writes that wait for approval: what is left of a write without them, and what a refusal means.

use super::*;

fn both_changed() -> (Link, Internal, External, Plan) {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann")), ("/email", json!("a@x.example"))]);
    let internal =
        present(2, &[("/phone", json!("2")), ("/name", json!("Ann")), ("/email", json!("a@x.example"))]);
    let external =
        read(&[("/phone", json!("1")), ("/name", json!("Anna")), ("/email", json!("a@x.example"))]);
    let plan = run(&link, &internal, &external, &policy());
    (link, internal, external, plan)
}

#[test]
fn a_write_aims_at_the_fields_that_it_changes() {
    let (.., plan) = both_changed();
    assert_eq!(
        aims(plan.internal.as_ref(), plan.external.as_ref()),
        [
            (Side::Internal, "/name".to_owned(), Some(json!("Anna"))),
            (Side::External, "/phone".to_owned(), Some(json!("2"))),
        ]
    );
    let delete = InternalWrite::Delete { expected: 1 };
    assert_eq!(aims(Some(&delete), None), []);
}

#[test]
fn what_is_withheld_stays_as_each_side_has_it_and_the_rest_is_written() {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Bea"))]);
    let plan = run(&link, &internal, &read(&[("/phone", json!("1")), ("/name", json!("Ann"))]), &policy());
    let write =
        without_external(plan.external.clone().unwrap(), &names(&["/name"]), &link, &External::Unseen);
    let Some(ExternalWrite::Update { fields, changed, .. }) = write else { panic!("{write:?}") };
    assert_eq!(changed, names(&["/phone"]));
    assert_eq!((fields.get("/phone"), fields.get("/name")), (Some(&json!("2")), Some(&json!("Ann"))));
    let all = names(&["/name", "/phone"]);
    assert_eq!(without_external(plan.external.unwrap(), &all, &link, &External::Unseen), None);
    assert_eq!(without_external(remove(), &all, &link, &External::Unseen), Some(remove()));

    let internal = present(1, &[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let plan = run(&link, &internal, &read(&[("/phone", json!("2")), ("/city", json!("Ulm"))]), &policy());
    let write = without_internal(plan.internal.unwrap(), &names(&["/name", "/city"]), &internal);
    let Some(InternalWrite::Update { fields, changed, .. }) = write else { panic!("{write:?}") };
    assert_eq!(changed, names(&["/phone"]));
    assert_eq!(fields.get("/name"), Some(&json!("Ann")), "it is not cleared");
    assert_eq!(fields.get("/city"), None, "it is not added");
    let delete = InternalWrite::Delete { expected: 1 };
    assert_eq!(without_internal(delete.clone(), &all, &internal), Some(delete));
}

fn remove() -> ExternalWrite {
    ExternalWrite::Remove { version: None, stamp: None }
}

#[test]
fn sides_that_agree_to_differ_stay_so_until_one_of_them_is_edited() {
    let (_, internal, external, plan) = both_changed();
    let link = agree_to_differ(&plan.link, &names(&["/name", "/phone"]), &internal, &external, NOW);
    let again = run(&link, &internal, &external, &policy());
    assert!(quiet(&again), "{}", again.reason);
    let edited =
        present(3, &[("/phone", json!("2")), ("/name", json!("Cleo")), ("/email", json!("a@x.example"))]);
    assert_eq!(
        sent_out(&run(&link, &edited, &external, &policy())),
        [("/name".to_owned(), Some(json!("Cleo")))]
    );
    // Of a record that is gone there is nothing to agree about.
    assert_eq!(agree_to_differ(&plan.link, &names(&["/name"]), &deleted(3), &external, NOW), plan.link);
}

#[test]
fn a_deletion_that_was_refused_is_not_carried_over_until_the_record_changes() {
    let base = agreed(&[("/phone", json!("1"))]);
    let gone = External::Gone { proof: Proof::Confirmed, at: NOW };
    let same = present(1, &[("/phone", json!("1"))]);
    let link = leave_deleted(&base, Side::External, NOW);
    for external in [External::Unseen, gone.clone()] {
        let plan = run(&link, &same, &external, &policy());
        assert!(quiet(&plan), "{}", plan.reason);
    }
    let changed = run(&link, &present(2, &[("/phone", json!("2"))]), &External::Unseen, &policy());
    assert!(matches!(changed.external, Some(ExternalWrite::Create { .. })), "{}", changed.reason);

    let link = leave_deleted(&base, Side::Internal, NOW);
    for external in [External::Unseen, read(&[("/phone", json!("1"))])] {
        let plan = run(&link, &deleted(2), &external, &policy());
        assert!(quiet(&plan), "{}", plan.reason);
    }
    let changed = run(&link, &deleted(2), &read(&[("/phone", json!("2"))]), &policy());
    assert!(matches!(changed.internal, Some(InternalWrite::Create { .. })), "{}", changed.reason);
    // A policy that says otherwise than to delete is not touched by it.
    let detach = ObjectPolicy { on_internal_delete: OnDelete::Detach, ..policy() };
    let cut = run(&link, &deleted(2), &External::Unseen, &detach);
    assert!(matches!(cut.link.life, Life::Detached { .. }));
}

#[test]
fn a_record_that_is_to_be_kept_is_made_again_where_it_was_deleted() {
    let base = agreed(&[("/phone", json!("1"))]);
    let gone = External::Gone { proof: Proof::Confirmed, at: NOW };
    let same = present(1, &[("/phone", json!("1"))]);
    let kept = keep_record(&base, Side::External, NOW);
    let plan = run(&kept, &same, &gone, &policy());
    assert!(matches!(plan.external, Some(ExternalWrite::Create { .. })), "{}", plan.reason);
    assert_eq!((plan.link.external.clone(), plan.link.incarnation), (None, 1));

    let kept = keep_record(&base, Side::Internal, NOW);
    let asked = run(&kept, &deleted(2), &External::Unseen, &policy());
    assert_eq!(asked.ask, Some(Ask::ReadExternal));
    let plan = run(&asked.link, &deleted(2), &read(&[("/phone", json!("1"))]), &policy());
    assert!(matches!(plan.internal, Some(InternalWrite::Create { .. })), "{}", plan.reason);

    // Where none may be made, it is left alone, and nothing of the word is remembered.
    let none = ObjectPolicy { create_external: false, ..policy() };
    let plan = run(&keep_record(&base, Side::External, NOW), &same, &gone, &none);
    assert!(quiet(&plan) && plan.link.decided.is_empty());
    assert!(matches!(plan.link.life, Life::Lapsed { by: Side::External, .. }));
}
