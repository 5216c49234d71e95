use tandem_provider::{Effect, Problem, QuotaState, Scope, Wait};

use super::*;

fn refused(response: Response) -> Answer {
    run(&plain(), &read(ID), &[response]).1.answer
}

fn update() -> Operation {
    write(Some(ID), &json!({ "LastName": "x", "MailingCity": "y" }), &["/family_name", "/city"])
}

fn create() -> Operation {
    write(None, &json!({ "LastName": "x" }), &[])
}

#[test]
fn a_spent_limit_is_a_403_without_a_time_to_come_back() {
    let total = error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", &[]);
    let some = |quota: &str, wait| Answer::Throttled {
        quota: Some(quota.to_owned()),
        wait: Wait::Until(NOW + wait),
    };
    assert_eq!(refused(total.clone()), some("requests", 900_000));
    assert_eq!(refused(with_header(total.clone(), "retry-after", "30")), some("requests", 30_000));
    let concurrent = error(
        403,
        "REQUEST_LIMIT_EXCEEDED",
        "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
        &[],
    );
    assert_eq!(refused(concurrent), some("concurrency", 5_000));
    for operation in [update(), create(), remove(ID)] {
        assert_eq!(
            run(&plain(), &operation, std::slice::from_ref(&total)).1.answer,
            some("requests", 900_000)
        );
    }
    let shorter = salesforce(&json!({ "limit_pause_ms": 60_000 }));
    let reply = run(&shorter, &read(ID), &[with_header(total, "sforce-limit-info", "api-usage=9/9")]).1;
    assert_eq!(reply.answer, some("requests", 60_000));
    assert_eq!(reply.quotas[0].resets, Wait::Until(NOW + 60_000));
}

#[test]
fn headers_tell_what_is_left_of_the_last_24_hours() {
    let state = |limit: u64, remaining: u64| {
        vec![QuotaState {
            quota: "requests".to_owned(),
            limit: Some(limit),
            remaining: Some(remaining),
            resets: Wait::Until(NOW + 900_000),
        }]
    };
    for (text, expected) in [
        ("api-usage=18/5000", state(5_000, 4_982)),
        ("api-usage=25/5000; per-app-api-usage=17/250(appName=sample-connected-app)", state(5_000, 4_975)),
        ("per-app-api-usage=17/250(appName=x), api-usage=5001/5000", state(5_000, 0)),
        ("per-app-api-usage=17/250(appName=x)", vec![]),
        ("api-usage=many/5000", vec![]),
        ("api-usage=", vec![]),
    ] {
        for response in [answer(200, &contact(ID, &json!({}))), error(400, "X", "no", &[])] {
            let response = with_header(response, "sforce-limit-info", text);
            assert_eq!(run(&plain(), &read(ID), &[response]).1.quotas, expected, "{text}");
        }
    }
    assert!(run(&plain(), &read(ID), &[answer(200, &contact(ID, &json!({})))]).1.quotas.is_empty());
}

#[test]
fn an_ended_session_is_unauthorised() {
    let session = error(401, "INVALID_SESSION_ID", "Session expired or invalid", &[]);
    for operation in [read(ID), update(), create(), remove(ID)] {
        let answer = run(&plain(), &operation, std::slice::from_ref(&session)).1.answer;
        assert_eq!(answer, Answer::Unauthorised("Session expired or invalid".into()));
        assert!(matches!(
            run(&plain(), &operation, &[super::answer(401, &Value::Null)]).1.answer,
            Answer::Unauthorised(_)
        ));
    }
}

#[test]
fn what_holds_for_everybody_blocks_and_says_whom() {
    for (status, code, scope) in [
        (403, "API_DISABLED_FOR_ORG", Scope::Connection),
        (403, "API_CURRENTLY_DISABLED", Scope::Connection),
        (404, "UNSUPPORTED_API_VERSION", Scope::Connection),
        (400, "STORAGE_LIMIT_EXCEEDED", Scope::Object),
        (403, "FUNCTIONALITY_NOT_ENABLED", Scope::Object),
    ] {
        for operation in [read(ID), update(), create()] {
            let answer = run(&plain(), &operation, &[error(status, code, "no\nway", &[])]).1.answer;
            let problem = Problem::new(&code.to_ascii_lowercase().replace('_', "-"), "no way");
            assert_eq!(answer, Answer::Blocked { scope, problem }, "{code}");
        }
    }
    // The key field is none: no contact can be created.
    let none = error(
        404,
        "NOT_FOUND",
        "Provided external ID field does not exist or is not accessible: Tandem_Key__c",
        &[],
    );
    let answer = run(&keyed(), &create(), &[none]).1.answer;
    assert!(
        matches!(&answer, Answer::Blocked { scope: Scope::Object, problem } if problem.message.contains("Tandem_Key__c"))
    );
    // A field that a query asks for is not there.
    let column = error(400, "INVALID_FIELD", "No such column 'Phone' on entity 'Contact'.", &[]);
    assert!(matches!(refused(column), Answer::Blocked { scope: Scope::Object, .. }));
}

#[test]
fn trouble_that_passes_is_tried_again() {
    let again = |wait, took_effect| Answer::Again { wait, took_effect };
    let locked =
        error(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", &["Id"]);
    for operation in [update(), create(), remove(ID)] {
        let answer = run(&plain(), &operation, std::slice::from_ref(&locked)).1.answer;
        assert_eq!(answer, again(Wait::Until(NOW + 2_000), Effect::No));
    }
    for response in [
        error(503, "SERVER_UNAVAILABLE", "overloaded", &[]),
        error(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred.", &[]),
        error(400, "QUERY_TIMEOUT", "too long", &[]),
        answer(502, &Value::Null),
        answer(504, &Value::Null),
    ] {
        assert_eq!(refused(response.clone()), again(Wait::Unknown, Effect::No));
        for operation in [update(), create(), remove(ID)] {
            assert_eq!(
                run(&plain(), &operation, std::slice::from_ref(&response)).1.answer,
                again(Wait::Unknown, Effect::Unknown)
            );
        }
    }
}

#[test]
fn invalid_values_have_canonical_places_and_salesforces_words() {
    let expected = Answer::Rejected(vec![
        Problem::new("string-too-long", "Last Name: data value too large").at("/family_name"),
        Problem::new("required-field-missing", "Required fields are missing: [Email, Region__c]")
            .at("/email"),
        Problem::new("field-integrity-exception", "There's a problem with this state").at("/region"),
        Problem::new("field-integrity-exception", "There's a problem with this state").at("/country"),
        Problem::new("field-custom-validation-exception", "not on Sundays (Day__c)"),
        Problem::new("invalid-field", "No such column 'MailingCity' on sobject of type Contact").at("/city"),
        Problem::new("json-parser-error", "unexpected character"),
    ]);
    let errors = json!([
        { "message": "Last Name: data value too large", "errorCode": "STRING_TOO_LONG", "fields": ["LastName"] },
        { "message": "Required fields are missing: [Email, Region__c]", "errorCode": "REQUIRED_FIELD_MISSING", "fields": ["Email", "Region__c"] },
        { "message": "There's a problem with this state", "errorCode": "FIELD_INTEGRITY_EXCEPTION", "fields": ["MailingState", "MailingCountryCode"] },
        { "message": "not on Sundays", "errorCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "fields": ["Day__c"] },
        { "message": "No such column 'MailingCity' on sobject of type Contact", "errorCode": "INVALID_FIELD" },
        { "message": "unexpected character", "errorCode": "JSON_PARSER_ERROR" },
    ]);
    for operation in [update(), create()] {
        assert_eq!(run(&plain(), &operation, &[answer(400, &errors)]).1.answer, expected);
    }
    // One alone, and the form inside the answer to a write.
    let inside = json!({ "id": null, "success": false, "errors": [
        { "statusCode": "INVALID_EMAIL_ADDRESS", "message": "Email: invalid email address: x", "fields": ["Email"] },
    ]});
    let alone = json!({ "errorCode": "INVALID_EMAIL_ADDRESS", "message": "Email: invalid email address: x", "fields": ["Email"] });
    for body in [inside, alone] {
        let problem = Problem::new("invalid-email-address", "Email: invalid email address: x").at("/email");
        assert_eq!(run(&plain(), &create(), &[answer(400, &body)]).1.answer, Answer::Rejected(vec![problem]));
    }
}

#[test]
fn a_duplicate_rule_names_the_contacts_that_it_found_and_links_none() {
    let found = json!([{
        "errorCode": "DUPLICATES_DETECTED", "message": "Use one of these records?", "fields": [],
        "duplicateResult": { "allowSave": false, "matchResults": [{ "matchRecords": [
            { "record": { "attributes": { "type": "Contact" }, "Id": ID } }, { "record": { "Id": OTHER } },
        ]}]},
    }]);
    let problem =
        Problem::new("duplicates-detected", format!("Use one of these records? (contacts {ID}, {OTHER})"));
    assert_eq!(run(&keyed(), &create(), &[answer(400, &found)]).1.answer, Answer::Rejected(vec![problem]));
}

#[test]
fn a_record_that_our_user_may_not_write_is_its_own_fault() {
    for code in
        ["INSUFFICIENT_ACCESS_OR_READONLY", "ENTITY_IS_LOCKED", "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"]
    {
        for status in [400, 403] {
            let answer = run(&plain(), &update(), &[error(status, code, "not this one", &[])]).1.answer;
            assert!(matches!(answer, Answer::Rejected(_)), "{status} {code}: {answer:?}");
        }
    }
}

#[test]
fn answers_that_say_nothing_are_still_answers() {
    for status in [400, 402, 403, 405, 409, 415, 418, 422] {
        for operation in [read(ID), update(), create(), remove(ID)] {
            let response = Response { status, headers: Vec::new(), body: b"\xff<html>".to_vec() };
            let answer = run(&plain(), &operation, &[response]).1.answer;
            assert!(matches!(answer, Answer::Rejected(_) | Answer::Blocked { .. }), "{status} {answer:?}");
        }
    }
    assert!(matches!(refused(answer(302, &Value::Null)), Answer::Blocked { scope: Scope::Connection, .. }));
}
