use serde_json::{Value, json};
use tandem_provider::{Effect, Provider, Scope};

use super::*;

fn facts(reply: Reply) -> Value {
    match reply.answer {
        Answer::Facts(facts) => serde_json::from_slice(&facts).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_probe_says_who_we_are() {
    let me = json!({
        "id": 9, "company_id": 77, "company_domain": "acme", "default_currency": "EUR", "timezone_name": "Europe/Berlin",
        "email": "not.kept@example.com",
    });
    let (requests, reply) = run(&plain(), &Operation::Probe, &[done(&me)]);
    assert_eq!(requests[0].path(), "/v1/users/me");
    assert_eq!(
        facts(reply),
        json!({ "account": { "id": "77", "user_id": "9", "domain": "acme", "currency": "EUR", "time_zone": "Europe/Berlin" } })
    );
    let (_, reply) = run(&plain(), &Operation::Probe, &[done(&json!({ "id": 9 }))]);
    assert!(matches!(reply.answer, Answer::Again { took_effect: Effect::No, .. }));
    let (_, reply) = run(&plain(), &Operation::Probe, &[failed(401, "unauthorized access")]);
    assert_eq!(reply.answer, Answer::Unauthorised("unauthorized access".into()));
}

#[test]
fn version_one_stands_where_the_settings_say() {
    let provider = pipedrive(&json!({ "v1_path": "/api/v1/" }));
    assert_eq!(sent(&provider.start(&Operation::Probe, &context())).path(), "/api/v1/users/me");
}

#[test]
fn discovery_goes_through_all_pages_and_feeds_the_mapping() {
    let discover = Operation::Discover("contact".into());
    let first = answer(
        200,
        &json!({ "success": true, "additional_data": { "next_cursor": "p2" }, "data": [
            { "field_name": "Name", "field_code": "name", "field_type": "varchar", "options": null, "is_custom_field": false },
            { "field_name": "Title", "field_code": "job_title", "field_type": "varchar", "is_custom_field": false },
            { "field_name": "no code" },
        ]}),
    );
    let second = answer(
        200,
        &json!({ "success": true, "additional_data": { "next_cursor": null }, "data": [
            { "field_name": "Tier", "field_code": TIER, "field_type": "enum", "is_custom_field": true, "is_writable": false,
              "options": [{ "id": 3, "label": "Gold" }, { "id": "x", "label": "Word" }, { "id": 4 }] },
        ]}),
    );
    let (requests, reply) = run(&plain(), &discover, &[first, second]);
    assert_eq!(parameter(&requests[1], "cursor").as_deref(), Some("p2"));
    let facts = facts(reply);
    let fields = &facts["objects"]["contact"]["fields"];
    assert_eq!(fields["name"], json!({ "name": "Name", "type": "varchar", "custom": false }));
    assert_eq!(
        fields[TIER],
        json!({ "name": "Tier", "type": "enum", "custom": true, "options": { "3": "Gold", "x": "Word" }, "read_only": true })
    );
    let provider = Pipedrive::configure(&json!({}), &facts).unwrap();
    assert!(provider.connection().objects["contact"].fields.contains_key("/job_title"));
    let (_, reply) = run(&plain(), &discover, &[done(&json!({}))]);
    assert!(matches!(reply.answer, Answer::Again { .. }));
}

#[test]
fn a_note_of_very_many_fields_is_not_too_long() {
    let discover = Operation::Discover("contact".into());
    let rows: Vec<Value> = (0..500)
        .map(|n| {
            let options: Vec<Value> = (0..10).map(|o| json!({ "id": o, "label": format!("label {o} of {n}") })).collect();
            json!({ "field_name": "f", "field_code": format!("{n:040}"), "field_type": "enum", "options": options, "is_custom_field": true })
        })
        .collect();
    let page = answer(200, &json!({ "data": rows, "additional_data": { "next_cursor": "p2" } }));
    let (_, reply) = run(&plain(), &discover, &[page]);
    let Answer::Send(step) = reply.answer else { panic!("the next page") };
    assert!(step.note.len() < 64 * 1024, "{} bytes", step.note.len());
}

#[test]
fn whether_persons_may_be_written_is_told_without_writing_one() {
    let ask = Operation::Other("may-write".into(), br#"{"object":"contact"}"#.to_vec());
    for status in [400, 404, 422] {
        let (requests, reply) = run(&plain(), &ask, &[failed(status, "no such person")]);
        assert_eq!((requests[0].method.as_str(), requests[0].path()), ("PATCH", "/api/v2/persons/0"));
        assert_eq!(facts(reply), json!({}));
    }
    let (_, reply) = run(&plain(), &ask, &[failed(403, "Scope and URL mismatch")]);
    assert!(matches!(reply.answer, Answer::Blocked { scope: Scope::Object, .. }));
}
