use tandem_provider::{Effect, Step, Wait};

use super::*;

fn created(id: &str) -> Response {
    answer(201, &json!({ "id": id, "success": true, "errors": [], "created": true }))
}

fn create() -> Operation {
    write(None, &json!({ "LastName": "Lee", "Email": "a@b.c" }), &[])
}

fn update() -> Operation {
    write(Some(ID), &json!({ "LastName": "Li", "Email": "a@b.c" }), &["/family_name"])
}

/// The request after a write, with what is already true.
fn next(reply: Reply) -> Step {
    match reply.answer {
        Answer::Send(step) => *step,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_create_is_an_upsert_on_the_key_alone() {
    let document = json!({
        "LastName": "Lee", "Email": "a@b.c", "Phone": null, "Title": "", "HasOptedOutOfEmail": true, "AccountId": "not ours",
    });
    let (requests, reply) = run(&keyed(), &write(None, &document, &[]), &[created(ID)]);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path()),
        ("PATCH", format!("{CONTACTS}/Tandem_Key__c/k-1").as_str())
    );
    assert_eq!(
        body(&requests[0]),
        json!({ "LastName": "Lee", "Email": "a@b.c", "HasOptedOutOfEmail": true })
    );
    assert!(requests[0].repeatable);
    assert_eq!(header(&requests[0], "sforce-call-options"), Some("client=Tandem"));
    let step = next(reply);
    assert_eq!(step.so_far.unwrap().observed.id, ID, "what is true is said before the record is read");
    assert_eq!(path(&step.request), format!("{CONTACTS}/{ID}"));
}

#[test]
fn without_a_key_field_a_create_is_plain_and_cannot_be_repeated() {
    let (requests, reply) =
        run(&plain(), &create(), &[created(ID), answer(200, &contact(ID, &json!({ "Email": "a@b.c" })))]);
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("POST", CONTACTS));
    assert!(!requests[0].repeatable);
    assert!(matches!(written(reply).state, State::Whole(_)));
}

#[test]
fn the_record_is_read_after_a_create_and_known_by_its_key() {
    let row = contact(
        ID,
        &json!({ "Email": "a@b.c", "Tandem_Key__c": "k-1", "MailingCountry": "filled in by a rule" }),
    );
    let (_, reply) = run(&keyed(), &create(), &[created(ID), answer(200, &row)]);
    let observed = written(reply);
    assert_eq!(
        (observed.id.as_str(), observed.key.as_deref(), observed.stamp),
        (ID, Some("k-1"), Some(STAMP))
    );
    assert!(matches!(observed.state, State::Whole(_)));
}

#[test]
fn a_create_that_met_its_own_record_is_a_create() {
    let met = answer(200, &json!({ "id": ID, "success": true, "errors": [], "created": false }));
    let observed = written(run(&assuming(), &create(), &[met]).1);
    assert_eq!(
        (observed.id.as_str(), observed.state, observed.key.as_deref()),
        (ID, State::Touched, Some("k-1"))
    );
    // Older versions answer with nothing: the key says which record it was.
    let row = contact(ID, &json!({ "Email": "a@b.c", "Tandem_Key__c": "k-1" }));
    let (requests, reply) = run(&keyed(), &create(), &[answer(204, &Value::Null), answer(200, &row)]);
    assert_eq!(path(&requests[1]), format!("{CONTACTS}/Tandem_Key__c/k-1"));
    assert_eq!(written(reply).id, ID);
    let (_, reply) = run(&keyed(), &create(), &[answer(204, &Value::Null), missing()]);
    assert_eq!(reply.answer, Answer::Again { wait: Wait::Unknown, took_effect: Effect::Unknown });
}

#[test]
fn a_key_that_several_bear_is_written_to_none_of_them() {
    let several = answer(300, &json!([format!("{CONTACTS}/{ID}"), format!("{CONTACTS}/{OTHER}")]));
    let Answer::Rejected(problems) = run(&keyed(), &create(), &[several]).1.answer else {
        panic!("rejected")
    };
    assert_eq!(problems[0].code, "several-matches");
    assert!(
        problems[0].message.contains(ID) && problems[0].message.contains(OTHER),
        "{}",
        problems[0].message
    );
}

#[test]
fn an_update_writes_the_changed_fields_alone_and_null_clears() {
    let document =
        json!({ "Id": ID, "LastName": "Li", "MailingCity": null, "Phone": "1", "HasOptedOutOfEmail": null });
    let changed = ["/family_name", "/city", "/street", "/opted_out", "/tags", "/unknown"];
    let operation = seen_at(write(Some(ID), &document, &changed), STAMP + 999);
    let (requests, _) = run(&plain(), &operation, &[answer(204, &Value::Null)]);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path()),
        ("PATCH", format!("{CONTACTS}/{ID}").as_str())
    );
    assert_eq!(
        body(&requests[0]),
        json!({ "LastName": "Li", "MailingCity": null, "MailingStreet": null, "HasOptedOutOfEmail": false })
    );
    assert!(!requests[0].repeatable);
    assert_eq!(header(&requests[0], "if-unmodified-since"), Some("Fri, 02 Jan 2026 11:59:00 GMT"));
    let (requests, _) = run(&plain(), &update(), &[answer(204, &Value::Null)]);
    assert_eq!(
        header(&requests[0], "if-unmodified-since"),
        None,
        "nothing was seen that it could be conditional on"
    );
}

#[test]
fn a_precondition_that_does_not_hold_is_refused() {
    let refused = error(412, "PRECONDITION_FAILED", "Precondition Failed", &[]);
    for response in [refused, answer(412, &Value::Null)] {
        assert_eq!(run(&plain(), &seen_at(update(), STAMP), &[response]).1.answer, Answer::Refused);
    }
}

#[test]
fn an_update_of_nothing_that_salesforce_keeps_costs_no_call() {
    let (requests, reply) = run(&plain(), &write(Some(ID), &json!({}), &["/tags"]), &[]);
    assert!(requests.is_empty());
    assert_eq!(document(&written(reply).state), json!({}));
}

#[test]
fn the_record_after_a_write_is_its_answer_if_it_has_what_was_sent() {
    let row = contact(ID, &json!({ "LastName": "Li", "Title": "set by somebody else meanwhile" }));
    let observed = written(run(&plain(), &update(), &[answer(204, &Value::Null), answer(200, &row)]).1);
    assert!(matches!(observed.state, State::Whole(_)));
    assert_eq!(observed.stamp, Some(STAMP));
    // A field that somebody set to another value before we read it: nothing is said, and the next look tells.
    let overtaken = contact(ID, &json!({ "LastName": "Leigh" }));
    for provider in [plain(), probed()] {
        let observed =
            written(run(&provider, &update(), &[answer(204, &Value::Null), answer(200, &overtaken)]).1);
        assert_eq!((observed.state, observed.stamp), (State::Touched, None));
    }
}

#[test]
fn a_value_that_salesforce_rewrote_is_its_answer_if_our_user_was_the_last() {
    let rewritten = contact(ID, &json!({ "LastName": "LI", "LastModifiedById": &USER[..15] }));
    let observed =
        written(run(&probed(), &update(), &[answer(204, &Value::Null), answer(200, &rewritten)]).1);
    assert_eq!(document(&observed.state)["LastName"], "LI");
    assert_eq!(observed.author.as_deref(), Some("own"));
    let observed = written(run(&plain(), &update(), &[answer(204, &Value::Null), answer(200, &rewritten)]).1);
    assert_eq!(observed.state, State::Touched, "who we are is not known");
}

#[test]
fn a_cleared_yes_or_no_is_a_no() {
    let operation = write(Some(ID), &json!({ "LastName": "Lee" }), &["/opted_out"]);
    let row = answer(200, &contact(ID, &json!({ "HasOptedOutOfEmail": false })));
    assert!(matches!(
        written(run(&plain(), &operation, &[answer(204, &Value::Null), row]).1).state,
        State::Whole(_)
    ));
    let row = answer(200, &contact(ID, &json!({ "HasOptedOutOfEmail": true })));
    assert_eq!(written(run(&plain(), &operation, &[answer(204, &Value::Null), row]).1).state, State::Touched);
}

#[test]
fn a_write_stays_taken_when_the_record_cannot_be_read_after_it() {
    for second in [
        missing(),
        answer(503, &Value::Null),
        error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", &[]),
        answer(200, &json!({})),
        answer(200, &contact(OTHER, &json!({ "LastName": "Li" }))),
    ] {
        let observed = written(run(&plain(), &update(), &[answer(204, &Value::Null), second]).1);
        assert_eq!((observed.id.as_str(), observed.state), (ID, State::Touched));
    }
}

#[test]
fn without_reading_what_was_sent_is_assumed() {
    let (requests, reply) = run(&assuming(), &update(), &[answer(204, &Value::Null)]);
    assert_eq!(requests.len(), 1);
    assert_eq!(written(reply).state, State::Touched);
}

#[test]
fn warnings_of_duplicate_rules_are_passed_only_where_that_is_wanted() {
    let saves = salesforce(&json!({ "save_duplicates": true, "client": "acme/sync" }));
    for operation in [create(), update()] {
        let (requests, _) = run(&saves, &operation, &[created(ID)]);
        assert_eq!(header(&requests[0], "sforce-duplicate-rule-header"), Some("allowSave=true"));
        assert_eq!(header(&requests[0], "sforce-call-options"), Some("client=acme/sync"));
        let (requests, _) = run(&plain(), &operation, &[created(ID)]);
        assert_eq!(header(&requests[0], "sforce-duplicate-rule-header"), None);
    }
}

#[test]
fn a_unique_address_that_is_taken_names_its_holder() {
    let taken = |field: &str| {
        let message =
            format!("duplicate value found: {field} duplicates value on record with id: {}", &OTHER[..15]);
        error(400, "DUPLICATE_VALUE", &message, &[])
    };
    let unique = salesforce(&json!({ "fields": { "/email": "Mail__c" }, "key_field": "Tandem_Key__c" }));
    let holder = crate::ids::long(&OTHER[..15]).unwrap();
    let document = json!({ "LastName": "Lee", "Mail__c": "a@b.c" });
    for operation in [write(None, &document, &[]), write(Some(ID), &document, &["/email"])] {
        let exists = Answer::Exists(Reference { object: "contact".into(), id: holder.clone() });
        assert_eq!(run(&unique, &operation, &[taken("Mail__c")]).1.answer, exists);
        // Another unique field is no identity.
        let Answer::Rejected(problems) = run(&unique, &operation, &[taken("Customer_Number__c")]).1.answer
        else {
            panic!("rejected")
        };
        assert_eq!((problems[0].code.as_str(), problems[0].pointer.as_deref()), ("duplicate-value", None));
        let Answer::Rejected(problems) = run(&unique, &operation, &[taken("LastName")]).1.answer else {
            panic!("rejected")
        };
        assert_eq!(problems[0].pointer.as_deref(), Some("/family_name"));
    }
    // Two creates with one key at once: the second meets the record of the first when it is made again.
    let again = Answer::Again { wait: Wait::Until(NOW + 10_000), took_effect: Effect::No };
    assert_eq!(run(&unique, &write(None, &document, &[]), &[taken("Tandem_Key__c")]).1.answer, again);
}

#[test]
fn an_answer_to_a_create_that_names_nobody_leaves_it_unknown() {
    let unknown = Answer::Again { wait: Wait::Unknown, took_effect: Effect::Unknown };
    for (provider, body) in [
        (plain(), b"{}".to_vec()),
        (plain(), Vec::new()),
        (keyed(), b"<html>".to_vec()),
        (keyed(), br#"{"id":"x","success":true}"#.to_vec()),
        (keyed(), format!(r#"{{"id":"{ID}","success":false}}"#).into_bytes()),
    ] {
        let response = Response { status: 201, headers: Vec::new(), body };
        assert_eq!(run(&provider, &create(), &[response]).1.answer, unknown);
    }
}
