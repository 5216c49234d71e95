use super::*;

fn partly(members: &[(&str, Value)]) -> ExternalWritten {
    ExternalWritten { returned: Returned::Partial(fields(members)), ..written(None) }
}

fn phone_sent() -> (Link, Internal, ExternalWrite) {
    let link = agreed(&[("/phone", json!("1")), ("/name", json!("Ann"))]);
    let internal = present(2, &[("/phone", json!("2")), ("/name", json!("Ann"))]);
    let write = run(&link, &internal, &External::Unseen, &policy()).external.unwrap();
    (link, internal, write)
}

#[test]
fn what_was_written_is_seen_in_a_partial_answer() {
    let (link, internal, write) = phone_sent();
    let answer = partly(&[("/phone", json!("+2"))]);
    let next = after_external_write(&link, &write, &internal, &answer, &policy(), NOW);
    let phone = &next.base["/phone"];
    assert_eq!((phone.external.clone(), phone.assumed), (Some(json!("+2")), false));
    let plan = run(&next, &internal, &observed_answer(&answer).unwrap(), &policy());
    assert!(quiet(&plan), "{}", plan.reason);
}

#[test]
fn what_a_partial_answer_does_not_show_is_assumed() {
    let (link, internal, write) = phone_sent();
    let answer = partly(&[("/name", json!("Ann"))]);
    let next = after_external_write(&link, &write, &internal, &answer, &policy(), NOW);
    assert!(next.base["/phone"].assumed);
    assert!(quiet(&run(&next, &internal, &observed_answer(&answer).unwrap(), &policy())));
}

#[test]
fn an_edit_of_another_field_in_a_partial_answer_is_read() {
    let (link, internal, write) = phone_sent();
    let answer = partly(&[("/phone", json!("2")), ("/name", json!("Anna"))]);
    let next = after_external_write(&link, &write, &internal, &answer, &policy(), NOW);
    let plan = run(&next, &internal, &observed_answer(&answer).unwrap(), &policy());
    assert_eq!(plan.ask, Some(Ask::ReadExternal));
    let external = read(&[("/phone", json!("2")), ("/name", json!("Anna"))]);
    assert_eq!(sent_in(&run(&next, &internal, &external, &policy())), one("/name", json!("Anna")));
}

#[test]
fn a_field_that_a_create_did_not_send_costs_no_read_when_it_is_set() {
    let internal = present(1, &[("/name", json!("Ann"))]);
    let write = run(&unlinked(), &internal, &External::Unseen, &policy()).external.unwrap();
    let answer = partly(&[("/name", json!("Ann"))]);
    let next = after_external_write(&unlinked(), &write, &internal, &answer, &policy(), NOW);
    let later = present(2, &[("/name", json!("Ann")), ("/phone", json!("1"))]);
    let plan = run(&next, &later, &External::Unseen, &policy());
    assert_eq!(plan.ask, None, "{}", plan.reason);
    assert_eq!(sent_out(&plan), one("/phone", json!("1")));
}

#[test]
fn a_value_that_the_crm_gave_a_new_record_is_read_and_kept() {
    let internal = present(1, &[("/name", json!("Ann"))]);
    let write = run(&unlinked(), &internal, &External::Unseen, &policy()).external.unwrap();
    let answer = partly(&[("/name", json!("Ann")), ("/city", json!("Ulm"))]);
    let next = after_external_write(&unlinked(), &write, &internal, &answer, &policy(), NOW);
    let plan = run(&next, &internal, &observed_answer(&answer).unwrap(), &policy());
    assert_eq!(plan.ask, Some(Ask::ReadExternal));
    let external = read(&[("/name", json!("Ann")), ("/city", json!("Ulm"))]);
    assert_eq!(sent_in(&run(&next, &internal, &external, &policy())), one("/city", json!("Ulm")));
}
