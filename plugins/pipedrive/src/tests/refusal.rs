use serde_json::{Value, json};
use tandem_provider::{Effect, Listing, Problem, QuotaState, Scope, Wait};

use super::*;

fn refused(status: u16, body: &Value) -> Answer {
    run(&plain(), &read("1"), &[answer(status, body)]).1.answer
}

fn update() -> Operation {
    write(Some("1"), &json!({ "first_name": "Ann" }), &["/given_name"])
}

fn create() -> Operation {
    write(None, &json!({ "first_name": "Ann", "job_title": "x" }), &[])
}

fn limited() -> Response {
    answer(429, &json!({ "success": false, "error": "Request over limit", "errorCode": 429 }))
}

fn throttled(response: Response) -> (Option<String>, Wait) {
    match run(&plain(), &read("1"), &[response]).1.answer {
        Answer::Throttled { quota, wait } => (quota, wait),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_is_left_of_the_day_tells_the_two_limits_apart() {
    let some = |name: &str| Some(name.to_owned());
    let spent = with_header(limited(), "x-daily-ratelimit-token-remaining", "0");
    assert_eq!(throttled(spent), (some("daily"), Wait::Unknown));
    assert_eq!(
        throttled(with_header(limited(), "x-daily-requests-left", "0")),
        (some("daily"), Wait::Unknown)
    );
    let said = answer(429, &json!({ "success": false, "error": "Daily token budget exceeded" }));
    assert_eq!(throttled(said), (some("daily"), Wait::Unknown));
    let burst = with_header(limited(), "x-daily-ratelimit-token-remaining", "900");
    assert_eq!(throttled(burst.clone()), (some("burst"), Wait::Until(NOW + 2_040)));
    assert_eq!(
        throttled(with_header(burst.clone(), "x-ratelimit-reset", "1")),
        (some("burst"), Wait::Until(NOW + 1_000))
    );
    assert_eq!(throttled(with_header(burst, "retry-after", "3")), (some("burst"), Wait::Until(NOW + 3_000)));
    // Nothing is claimed where nothing is said: a spent day is not asked every two seconds.
    assert_eq!(throttled(limited()), (None, Wait::Unknown));
    assert_eq!(throttled(with_header(limited(), "x-ratelimit-reset", "5")), (None, Wait::Until(NOW + 5_000)));
}

#[test]
fn headers_tell_what_is_left_of_the_window_and_of_the_day() {
    let mut response = done(&person(1, &json!({})));
    for (name, value) in [
        ("x-ratelimit-limit", "80"),
        ("x-ratelimit-remaining", "79"),
        ("x-ratelimit-reset", "2"),
        ("x-daily-ratelimit-token-limit", "30000"),
        ("x-daily-ratelimit-token-remaining", "29990"),
    ] {
        response = with_header(response, name, value);
    }
    let state = |quota: &str, limit, remaining, resets| QuotaState {
        quota: quota.to_owned(),
        limit: Some(limit),
        remaining: Some(remaining),
        resets,
    };
    let daily = state("daily", 30_000, 29_990, Wait::Unknown);
    let (_, reply) = run(&plain(), &read("1"), &[response.clone()]);
    assert_eq!(reply.quotas, [state("burst", 80, 79, Wait::Until(NOW + 2_000)), daily.clone()]);
    let find = Operation::Find(tandem_provider::Find {
        object: "contact".into(),
        key: None,
        identity: vec![Attribute::new("/email", "a@b.c")],
    });
    let search = Response { body: br#"{"data":{"items":[]}}"#.to_vec(), ..response.clone() };
    let (_, reply) = run(&plain(), &find, &[search]);
    assert_eq!(reply.quotas, [state("search", 80, 79, Wait::Until(NOW + 2_000)), daily]);
    assert!(run(&plain(), &read("1"), &[done(&person(1, &json!({})))]).1.quotas.is_empty());
    // The unit is not said: a moment is taken for one, and nonsense for nothing.
    let at = |reset: &str| {
        let response = with_header(
            with_header(done(&person(1, &json!({}))), "x-ratelimit-remaining", "1"),
            "x-ratelimit-reset",
            reset,
        );
        run(&plain(), &read("1"), &[response]).1.quotas[0].resets
    };
    assert_eq!(at("1767355260"), Wait::Until(1_767_355_260_000));
    assert_eq!(at("1"), Wait::Until(NOW + 1_000));
    assert_eq!(at("999999"), Wait::Unknown);
}

#[test]
fn whoever_is_shut_out_waits_long_and_asks_nobody_for_help() {
    let page = Response {
        status: 403,
        headers: Vec::new(),
        body: b"<!DOCTYPE html><title>error 1015</title>".to_vec(),
    };
    for operation in [read("1"), update(), create()] {
        let (_, reply) = run(&plain(), &operation, std::slice::from_ref(&page));
        assert_eq!(reply.answer, Answer::Throttled { quota: None, wait: Wait::Until(NOW + 1_800_000) });
    }
}

#[test]
fn refused_credentials_and_missing_rights_are_not_the_records_fault() {
    let body = json!({ "success": false, "error": "unauthorized access", "errorCode": 401, "error_info": "Please check developers.pipedrive.com" });
    assert_eq!(refused(401, &body), Answer::Unauthorised("unauthorized access".into()));
    let blocked = |answer: Answer| match answer {
        Answer::Blocked { scope, problem } => (scope, problem.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        blocked(refused(402, &json!({ "error": "account is not open" }))),
        (Scope::Connection, "account-not-open".into())
    );
    assert_eq!(
        blocked(refused(403, &json!({ "error": "Scope and URL mismatch" }))),
        (Scope::Object, "forbidden".into())
    );
    let capped =
        json!({ "success": false, "error": "limit reached", "code": "feature_capping_persons_limit" });
    let (_, reply) = run(&plain(), &create(), &[answer(403, &capped)]);
    assert_eq!(blocked(reply.answer), (Scope::Object, "feature-capping-persons-limit".into()));
    assert_eq!(blocked(refused(302, &Value::Null)), (Scope::Connection, "unexpected-status".into()));
}

#[test]
fn invalid_values_have_canonical_places_and_pipedrives_words() {
    let provider = rich();
    let said = "Validation failed: emails.0.value is not a valid email, custom_fields.1111111111111111111111111111111111111111 is no option";
    let body = json!({ "success": false, "error": said, "code": "ERR_SCHEMA_VALIDATION_FAILED", "error_info": "Please check developers.pipedrive.com" });
    let problem = |pointer: &str| Problem::new("schema-validation-failed", said).at(pointer);
    for (operation, status) in [(update(), 400), (create(), 422)] {
        let (_, reply) = run(&provider, &operation, &[answer(status, &body)]);
        assert_eq!(reply.answer, Answer::Rejected(vec![problem("/email"), problem("/custom/tier")]));
    }
    // Where the text names nothing, another member may.
    let coded = json!({ "success": false, "error": "Validation failed", "data": null, "additional_data": { "field_code": FEE } });
    let (_, reply) = run(&provider, &update(), &[answer(400, &coded)]);
    assert_eq!(
        reply.answer,
        Answer::Rejected(vec![Problem::new("refused", "Validation failed").at("/custom/fee")])
    );
    let (_, reply) = run(&provider, &update(), &[answer(400, &json!({ "error": "no\nway" }))]);
    assert_eq!(reply.answer, Answer::Rejected(vec![Problem::new("refused", "no way")]));
    // Parts of words are no names.
    let (_, reply) = run(&provider, &update(), &[answer(400, &json!({ "error": "renamed telephones" }))]);
    assert_eq!(reply.answer, Answer::Rejected(vec![Problem::new("refused", "renamed telephones")]));
}

#[test]
fn a_field_of_the_contact_sync_that_is_not_there_is_the_records_to_mend() {
    let said = json!({ "success": false, "error": "job_title is not available" });
    let (_, reply) = run(&rich(), &create(), &[answer(403, &said)]);
    assert_eq!(
        reply.answer,
        Answer::Rejected(vec![Problem::new("refused", "job_title is not available").at("/job_title")])
    );
    assert!(matches!(run(&rich(), &read("1"), &[answer(403, &said)]).1.answer, Answer::Blocked { .. }));
}

#[test]
fn trouble_that_passes_is_tried_again_and_a_lost_write_may_have_happened() {
    for status in [500, 501, 502, 503, 504] {
        assert_eq!(
            refused(status, &Value::Null),
            Answer::Again { wait: Wait::Unknown, took_effect: Effect::No }
        );
        for operation in [update(), create()] {
            let (_, reply) = run(&plain(), &operation, &[answer(status, &Value::Null)]);
            assert_eq!(reply.answer, Answer::Again { wait: Wait::Unknown, took_effect: Effect::Unknown });
        }
    }
}

#[test]
fn answers_that_say_nothing_are_still_answers() {
    let walk = Operation::Walk(Listing { object: "contact".into(), cursor: None, limit: 10 });
    for status in [400, 402, 405, 409, 415, 418, 422] {
        for operation in [read("1"), update(), create(), walk.clone(), Operation::Probe] {
            let response = Response { status, headers: Vec::new(), body: b"\xff<html>".to_vec() };
            let (_, reply) = run(&plain(), &operation, &[response]);
            assert!(
                matches!(reply.answer, Answer::Rejected(_) | Answer::Blocked { .. }),
                "{status} {} {:?}",
                operation.name(),
                reply.answer
            );
        }
    }
}
