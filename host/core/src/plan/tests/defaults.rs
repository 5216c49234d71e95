//! Values that a record is created with where it has none.

use super::*;

fn policy_with(pointer: &str, value: Value) -> ObjectPolicy {
    let mut policy = policy();
    policy.filled.insert(pointer.to_owned(), value);
    policy
}

/// Everything that the CRM was sent when the record was created, the link afterwards, and what the CRM has.
fn created_outside(internal: &Internal, policy: &ObjectPolicy) -> (Fields, Link, External) {
    let plan = run(&unlinked(), internal, &External::Unseen, policy);
    let Some(ExternalWrite::Create { fields: sent }) = &plan.external else { panic!("{}", plan.reason) };
    let sent = sent.clone();
    let values: Vec<(&str, Value)> =
        sent.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let answer = written(Some(&values));
    let link =
        after_external_write(&plan.link, plan.external.as_ref().unwrap(), internal, &answer, policy, NOW);
    (sent, link, observed_answer(&answer).unwrap())
}

#[test]
fn a_record_without_a_value_is_created_in_the_crm_with_the_default_and_system_a_keeps_none() {
    for empty in [None, Some(Value::Null), Some(json!(""))] {
        let policy = policy_with("/phone", json!("none"));
        let mut own = vec![("/name", json!("Ann"))];
        own.extend(empty.map(|empty| ("/phone", empty)));
        let internal = present(1, &own);
        let (sent, link, external) = created_outside(&internal, &policy);
        assert_eq!(sent, fields(&[("/name", json!("Ann")), ("/phone", json!("none"))]));
        for external in [external, External::Unseen] {
            let plan = run(&link, &internal, &external, &policy);
            assert!(quiet(&plan), "the two halves differ, and nothing more is written: {}", plan.reason);
        }
    }
}

#[test]
fn a_record_that_has_a_value_is_created_with_its_own() {
    let policy = policy_with("/phone", json!("none"));
    let (sent, ..) = created_outside(&present(1, &[("/phone", json!("1"))]), &policy);
    assert_eq!(sent, fields(&[("/phone", json!("1"))]));
}

#[test]
fn a_default_alone_creates_nobody() {
    let policy = policy_with("/phone", json!("none"));
    let plan = run(&unlinked(), &present(1, &[]), &External::Unseen, &policy);
    assert!(plan.external.is_none(), "{}", plan.reason);
}

#[test]
fn a_default_of_a_field_that_does_not_flow_there_is_not_sent() {
    let mut policy = policy_with("/phone", json!("none"));
    policy.fields.insert("/phone".into(), FieldPolicy { flow: Flow::ToInternal, ..FieldPolicy::default() });
    let (sent, ..) = created_outside(&present(1, &[("/name", json!("Ann"))]), &policy);
    assert_eq!(sent, fields(&[("/name", json!("Ann"))]));
}

#[test]
fn what_is_edited_later_goes_its_way_in_both_directions() {
    let policy = policy_with("/phone", json!("none"));
    let (_, link, _) = created_outside(&present(1, &[("/name", json!("Ann"))]), &policy);
    let ours = present(2, &[("/name", json!("Ann")), ("/phone", json!("7"))]);
    let plan = run(&link, &ours, &External::Unseen, &policy);
    assert_eq!(sent_out(&plan), one("/phone", json!("7")));
    let theirs = read(&[("/name", json!("Ann")), ("/phone", json!("8"))]);
    let plan = run(&link, &present(1, &[("/name", json!("Ann"))]), &theirs, &policy);
    assert_eq!(sent_in(&plan), one("/phone", json!("8")));
}

#[test]
fn a_record_without_a_value_is_created_in_system_a_with_the_default_and_the_crm_keeps_none() {
    let policy = policy_with("/phone", json!("none"));
    let external = read(&[("/name", json!("Ann"))]);
    let mut link = unlinked();
    link.external = Some("e1".into());
    let plan = run(&link, &Internal::Absent, &external, &policy);
    let Some(InternalWrite::Create { fields: made }) = &plan.internal else { panic!("{}", plan.reason) };
    assert_eq!(*made, fields(&[("/name", json!("Ann")), ("/phone", json!("none"))]));
    let made: Vec<(&str, Value)> = made.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let internal = present(1, &made);
    let link = after_internal_write(&plan.link, plan.internal.as_ref().unwrap(), 1, &external, &policy, NOW);
    assert_eq!(pair(&link, "/phone"), (Some(json!("none")), None));
    assert!(link.base["/name"].given && !link.base["/phone"].given, "the CRM gave a name and no telephone");
    let plan = run(&link, &internal, &external, &policy);
    assert!(quiet(&plan), "{}", plan.reason);
}

#[test]
fn a_default_is_not_sent_where_a_field_is_owed_or_where_the_crm_refused_it() {
    let policy = policy_with("/phone", json!("none"));
    let internal = present(1, &[("/name", json!("Ann"))]);
    let owed = owe(&unlinked(), ["/phone".to_owned()], NOW);
    let mut refused = unlinked();
    refused.refused.insert("/phone".into(), Value::Null);
    for link in [owed, refused] {
        let plan = run(&link, &internal, &External::Unseen, &policy);
        assert_eq!(plan.external, Some(ExternalWrite::Create { fields: fields(&[("/name", json!("Ann"))]) }));
    }
}
