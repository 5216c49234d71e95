use serde_json::json;
use tandem_provider::{Effect, Problem, QuotaState, Scope, Wait};

use super::*;

fn refused(status: u16, body: &Value) -> Answer {
    run(&plain(), &read("1"), &[answer(status, body)]).1.answer
}

fn update() -> Operation {
    write(Some("1"), &json!({ "properties": { "email": "x", "city": "y" } }), &["/email", "/city"])
}

fn throttled(provider: &HubSpot, response: &Response, now: u64) -> (Option<String>, Wait) {
    let context = Context { now, attributes: Vec::new() };
    let Answer::Send(step) = provider.start(&read("1"), &context).answer else { panic!("a request") };
    match provider.resume(&read("1"), &step.note, response, &context).answer {
        Answer::Throttled { quota, wait } => (quota, wait),
        other => panic!("{other:?}"),
    }
}

fn limit(policy: &str, message: &str) -> Response {
    answer(
        429,
        &json!({ "status": "error", "message": message, "errorType": "RATE_LIMIT", "correlationId": "c", "policyName": policy }),
    )
}

#[test]
fn too_many_calls_are_told_apart_by_policy() {
    let some = |name: &str| Some(name.to_owned());
    let ten = limit("TEN_SECONDLY_ROLLING", "You have reached your ten_secondly_rolling limit.");
    assert_eq!(throttled(&plain(), &ten, NOW), (some("burst"), Wait::Until(NOW + 10_200)));
    let shorter = with_header(ten.clone(), "x-hubspot-ratelimit-interval-milliseconds", "2000");
    assert_eq!(throttled(&plain(), &shorter, NOW), (some("burst"), Wait::Until(NOW + 2_040)));
    assert_eq!(
        throttled(&plain(), &with_header(ten, "retry-after", "3"), NOW),
        (some("burst"), Wait::Until(NOW + 3_000))
    );
    assert_eq!(throttled(&plain(), &limit("SECONDLY", "x"), NOW), (some("search"), Wait::Until(NOW + 1_020)));
    assert_eq!(
        throttled(&plain(), &limit("", "You have reached your secondly limit."), NOW),
        (some("search"), Wait::Until(NOW + 1_020))
    );
    assert_eq!(
        throttled(&plain(), &limit("DAILY", "You have reached your daily limit."), NOW),
        (some("daily"), Wait::Unknown)
    );
    assert_eq!(throttled(&plain(), &limit("", "slow down"), NOW), (None, Wait::Unknown));
}

#[test]
fn a_spent_day_ends_at_the_accounts_midnight() {
    let facts = json!({ "account": { "utc_offset_ms": -18_000_000, "time_zone": "US/Eastern" } });
    let provider = HubSpot::configure(&json!({}), &facts).unwrap();
    let daily = || limit("DAILY", "You have reached your daily limit.");
    // 07:00 there: midnight is 17 hours away.
    assert_eq!(throttled(&provider, &daily(), NOW).1, Wait::Until(NOW + 17 * 3_600_000));
    // A minute past what is reckoned as midnight: daylight saving may have moved it; look again in an hour.
    let midnight = NOW + 17 * 3_600_000;
    assert_eq!(
        throttled(&provider, &daily(), midnight + 60_000).1,
        Wait::Until(midnight + 60_000 + 3_600_000)
    );
}

#[test]
fn headers_tell_what_is_left() {
    let mut response = answer(200, &contact("1", &json!({})));
    for (name, value) in [
        ("x-hubspot-ratelimit-daily", "650000"),
        ("x-hubspot-ratelimit-daily-remaining", "649999"),
        ("x-hubspot-ratelimit-interval-milliseconds", "10000"),
        ("x-hubspot-ratelimit-max", "190"),
        ("x-hubspot-ratelimit-remaining", "188"),
    ] {
        response = with_header(response, name, value);
    }
    let state = |quota: &str, limit, remaining| QuotaState {
        quota: quota.to_owned(),
        limit: Some(limit),
        remaining: Some(remaining),
        resets: Wait::Unknown,
    };
    let (_, reply) = run(&plain(), &read("1"), &[response]);
    assert_eq!(reply.quotas, [state("burst", 190, 188), state("daily", 650_000, 649_999)]);
    assert!(run(&plain(), &read("1"), &[answer(200, &contact("1", &json!({})))]).1.quotas.is_empty());
}

#[test]
fn trouble_that_passes_is_tried_again() {
    let again = |wait, took_effect| Answer::Again { wait, took_effect };
    assert_eq!(refused(423, &Value::Null), again(Wait::Until(NOW + 2_000), Effect::No));
    assert_eq!(refused(477, &Value::Null), again(Wait::Until(NOW + 60_000), Effect::No));
    let migrating = with_header(answer(477, &Value::Null), "retry-after", "120");
    assert_eq!(
        run(&plain(), &update(), &[migrating]).1.answer,
        again(Wait::Until(NOW + 120_000), Effect::No)
    );
    for status in [500, 502, 503, 504, 524] {
        assert_eq!(refused(status, &Value::Null), again(Wait::Unknown, Effect::No));
        for operation in [update(), write(None, &json!({ "properties": {} }), &[])] {
            let reply = run(&plain(), &operation, &[answer(status, &Value::Null)]).1;
            assert_eq!(reply.answer, again(Wait::Unknown, Effect::Unknown));
        }
    }
}

#[test]
fn refused_credentials_and_missing_scopes_are_not_the_records_fault() {
    let expired = json!({ "status": "error", "category": "EXPIRED_AUTHENTICATION", "message": "The OAuth token used to make this call expired 7 second(s) ago.", "correlationId": "c" });
    assert_eq!(
        refused(401, &expired),
        Answer::Unauthorised("The OAuth token used to make this call expired 7 second(s) ago.".into())
    );
    let scopes = json!({
        "status": "error", "category": "MISSING_SCOPES", "message": "This app hasn't been granted all required scopes.", "correlationId": "c",
        "errors": [{ "message": "one of", "context": { "requiredGranularScopes": ["crm.objects.contacts.write"] } }],
    });
    let expected = Answer::Blocked {
        scope: Scope::Object,
        problem: Problem::new(
            "missing-scopes",
            "This app hasn't been granted all required scopes. (scopes: crm.objects.contacts.write)",
        ),
    };
    assert_eq!(run(&plain(), &update(), &[answer(403, &scopes)]).1.answer, expected);
    assert!(matches!(
        refused(403, &json!({ "message": "no" })),
        Answer::Blocked { scope: Scope::Object, .. }
    ));
}

#[test]
fn invalid_values_have_canonical_places_and_hubspots_words() {
    let expected = Answer::Rejected(vec![
        Problem::new("invalid-email", "Email address x is invalid").at("/email"),
        Problem::new("invalid-option", "y was not one of the allowed options").at("/lifecycle_stage"),
        Problem::new("validation-error", "something else"),
    ]);
    let errors = json!({
        "status": "error", "category": "VALIDATION_ERROR", "message": "Property values were not valid", "correlationId": "c",
        "errors": [
            { "message": "Email address x is invalid", "code": "INVALID_EMAIL", "context": { "propertyName": ["email"] } },
            { "message": "y was not one of the allowed options", "code": "INVALID_OPTION", "in": "lifecyclestage" },
            { "message": "something else" },
        ],
    });
    let create = write(None, &json!({ "properties": { "email": "x" } }), &[]);
    for operation in [&update(), &create] {
        assert_eq!(run(&plain(), operation, &[answer(400, &errors)]).1.answer, expected);
    }
    // In the row of a batch.
    let row = json!({ "status": "COMPLETE", "results": [], "errors": [errors] });
    assert_eq!(run(&keyed(), &create, &[answer(207, &row)]).1.answer, expected);
    // In the older form, inside the message.
    let message = "Property values were not valid: [{\"isValid\":false,\"message\":\"Email address x is invalid\",\"error\":\"INVALID_EMAIL\",\"name\":\"email\"}]";
    let older = json!({ "status": "error", "category": "VALIDATION_ERROR", "message": message, "correlationId": "c" });
    assert_eq!(
        run(&plain(), &update(), &[answer(400, &older)]).1.answer,
        Answer::Rejected(vec![Problem::new("invalid-email", "Email address x is invalid").at("/email")])
    );
    // With nothing to go by.
    assert_eq!(
        run(&plain(), &update(), &[answer(400, &json!({ "message": "no [list" }))]).1.answer,
        Answer::Rejected(vec![Problem::new("refused", "no [list")])
    );
}

#[test]
fn answers_that_say_nothing_are_still_answers() {
    for status in [400, 402, 405, 409, 418, 422] {
        for operation in [read("1"), update(), write(None, &json!({ "properties": {} }), &[])] {
            let response = Response { status, headers: Vec::new(), body: b"\xff<html>".to_vec() };
            let reply = run(&plain(), &operation, &[response]).1;
            assert!(
                matches!(reply.answer, Answer::Rejected(_) | Answer::Blocked { .. }),
                "{status} {:?}",
                reply.answer
            );
        }
    }
    assert!(matches!(refused(302, &Value::Null), Answer::Blocked { scope: Scope::Connection, .. }));
}
