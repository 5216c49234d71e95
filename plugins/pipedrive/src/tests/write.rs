use serde_json::{Value, json};
use tandem_provider::{Effect, Problem, Proof, Provider, Wait};

use super::*;

/// As the host makes it: the mapping of the whole contact, without the person as it is.
fn mapped(provider: &Pipedrive, canonical: &Value) -> Value {
    let bytes = provider.to_provider("contact", canonical.to_string().as_bytes(), None).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn update(provider: &Pipedrive, canonical: &Value, changed: &[&str]) -> Operation {
    write(Some("512"), &mapped(provider, canonical), changed)
}

#[test]
fn a_create_sends_what_has_a_value_and_cannot_be_repeated() {
    let provider = rich();
    let document = mapped(
        &provider,
        &json!({ "email": "a@b.c", "given_name": "Ann", "mobile_phone": "7", "job_title": null, "custom": { "tier": "gold" } }),
    );
    let made = person(9, &json!({ "custom_fields": { TIER: 11, FEE: null } }));
    let (requests, reply) =
        run(&provider, &write(None, &document, &[]), &[answer(201, &json!({ "data": made }))]);
    assert_eq!(requests[0].method, "POST");
    assert!(!requests[0].repeatable);
    assert_eq!(
        body(&requests[0]),
        json!({
            "first_name": "Ann", "last_name": "",
            "emails": [{ "value": "a@b.c", "primary": true, "label": "work" }],
            "phones": [{ "value": "7", "primary": true, "label": "mobile" }],
            "custom_fields": { TIER: 11 },
        })
    );
    let observed = written(reply);
    assert_eq!((observed.id.as_str(), observed.stamp), ("9", Some(THEN)));
    // The members of the contact sync are not in the answer.
    assert!(matches!(observed.state, State::Partial(_)));
}

#[test]
fn an_answer_with_all_that_is_mapped_is_the_whole_record() {
    let operation = write(None, &json!({ "first_name": "Ann" }), &[]);
    let made = person(9, &json!({ "custom_fields": { KEY: "k-1" } }));
    let (requests, reply) = run(&keyed(), &operation, &[done(&made)]);
    assert_eq!(body(&requests[0])["custom_fields"], json!({ KEY: "k-1" }));
    let observed = written(reply);
    assert_eq!(observed.key.as_deref(), Some("k-1"));
    assert!(matches!(observed.state, State::Whole(_)));
}

#[test]
fn whoever_has_no_name_is_called_by_the_address_or_the_number() {
    for (canonical, name) in
        [(json!({ "email": "a@b.c", "phone": "1" }), "a@b.c"), (json!({ "phone": "1" }), "1")]
    {
        let (requests, _) =
            run(&plain(), &write(None, &mapped(&plain(), &canonical), &[]), &[failed(500, "x")]);
        assert_eq!(body(&requests[0])["first_name"], name);
        let whole = pipedrive(&json!({ "names": "whole" }));
        let (requests, _) = run(&whole, &write(None, &mapped(&whole, &canonical), &[]), &[failed(500, "x")]);
        assert_eq!(body(&requests[0])["name"], name);
    }
    // Once there is a name, nothing stands in for it.
    let named = json!({ "given_name": "a@b.c", "family_name": "Smith", "email": "a@b.c" });
    let (requests, _) = run(&plain(), &update(&plain(), &named, &["/family_name"]), &[failed(500, "x")]);
    assert_eq!(body(&requests[0]), json!({ "first_name": "", "last_name": "Smith" }));
    let reply = plain().start(&write(None, &json!({}), &[]), &context());
    let Answer::Rejected(problems) = reply.answer else { panic!("{:?}", reply.answer) };
    assert_eq!(
        (problems[0].code.as_str(), problems[0].pointer.as_deref()),
        ("name-required", Some("/given_name"))
    );
}

#[test]
fn an_update_sends_what_changed_and_null_for_what_was_cleared() {
    let provider = rich();
    let canonical =
        json!({ "given_name": "Ann", "family_name": "B", "email": "a@b.c", "custom": { "tier": "gold" } });
    let operation = update(&provider, &canonical, &["/family_name", "/job_title", "/custom/tier"]);
    let (requests, _) = run(&provider, &operation, &[done(&person(512, &json!({})))]);
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("PATCH", "/api/v2/persons/512"));
    assert_eq!(
        body(&requests[0]),
        json!({ "first_name": "Ann", "last_name": "B", "job_title": null, "custom_fields": { TIER: 11 } })
    );
    let cleared = update(&provider, &json!({ "given_name": "Ann" }), &["/custom"]);
    let current =
        done(&person(512, &json!({ "custom_fields": { TIER: 11, FEE: { "value": 1, "currency": "USD" } } })));
    let (requests, _) = run(&provider, &cleared, &[current, done(&person(512, &json!({})))]);
    assert_eq!(body(&requests[1]), json!({ "custom_fields": { TIER: null, FEE: null } }));
}

#[test]
fn the_whole_name_is_written_where_the_settings_say_so() {
    let provider = pipedrive(&json!({ "names": "whole" }));
    let operation = update(&provider, &json!({ "given_name": "Ann", "family_name": "B" }), &["/given_name"]);
    let (requests, _) = run(&provider, &operation, &[done(&person(512, &json!({})))]);
    assert_eq!(body(&requests[0]), json!({ "name": "Ann B" }));
}

#[test]
fn an_update_of_one_address_keeps_those_that_are_there_now() {
    let there = json!({ "emails": [
        { "value": "old@b.c", "primary": true, "label": "work" }, { "value": "home@b.c", "primary": false, "label": "home" },
    ]});
    let canonical = json!({ "given_name": "Ann", "email": "new@b.c" });
    let operation = update(&plain(), &canonical, &["/email"]);
    let (requests, reply) =
        run(&plain(), &operation, &[done(&person(512, &there)), done(&person(512, &json!({})))]);
    assert_eq!((requests[0].method.as_str(), requests[1].method.as_str()), ("GET", "PATCH"));
    assert_eq!(
        body(&requests[1]),
        json!({ "emails": [
            { "value": "new@b.c", "primary": true, "label": "work" }, { "value": "home@b.c", "primary": false, "label": "home" },
        ]})
    );
    assert!(matches!(written(reply).state, State::Whole(_)));
    // Cleared: the other one stays.
    let operation = update(&plain(), &json!({ "given_name": "Ann" }), &["/email"]);
    let (requests, _) = run(&plain(), &operation, &[done(&person(512, &there)), failed(500, "x")]);
    assert_eq!(
        body(&requests[1]),
        json!({ "emails": [{ "value": "home@b.c", "primary": false, "label": "home" }] })
    );
}

#[test]
fn numbers_that_are_not_changed_stay_although_they_are_in_the_same_list() {
    let there = json!({ "phones": [
        { "value": "1", "primary": true, "label": "work" }, { "value": "9", "primary": false, "label": "mobile" },
    ]});
    // The host saw the mobile number as it was before somebody edited it.
    let canonical = json!({ "given_name": "Ann", "phone": "2", "mobile_phone": "8" });
    let operation = update(&plain(), &canonical, &["/phone"]);
    let (requests, _) = run(&plain(), &operation, &[done(&person(512, &there)), failed(500, "x")]);
    assert_eq!(
        body(&requests[1])["phones"],
        json!([{ "value": "2", "primary": true, "label": "work" }, { "value": "9", "primary": false, "label": "mobile" }])
    );
}

#[test]
fn a_record_that_was_edited_since_it_was_seen_is_not_written() {
    let canonical = json!({ "given_name": "Ann", "email": "new@b.c" });
    let operation = |stamp| {
        let Operation::Write(mut write) = update(&plain(), &canonical, &["/email"]) else { unreachable!() };
        write.stamp = stamp;
        Operation::Write(write)
    };
    let there = done(&person(512, &json!({})));
    let (_, reply) = run(&plain(), &operation(Some(THEN - 1_000)), std::slice::from_ref(&there));
    assert_eq!(reply.answer, Answer::Refused);
    for stamp in [Some(THEN), Some(THEN + 1), None] {
        let (_, reply) = run(&plain(), &operation(stamp), std::slice::from_ref(&there));
        assert_eq!(sent(&reply).method, "PATCH");
    }
}

#[test]
fn what_somebody_has_written_already_is_not_written_again() {
    let there = person(512, &json!({ "emails": [{ "value": "new@b.c", "primary": true, "label": "work" }] }));
    let operation = update(&plain(), &json!({ "given_name": "Ann", "email": "new@b.c" }), &["/email"]);
    let observed = written(run(&plain(), &operation, &[done(&there)]).1);
    assert_eq!(document(&observed.state), there);
    // Nor what Pipedrive has no place for.
    let operation = update(&plain(), &json!({ "given_name": "Ann" }), &["/employees"]);
    let observed = written(plain().start(&operation, &context()));
    assert_eq!(document(&observed.state), json!({}));
}

#[test]
fn a_name_of_which_a_part_takes_no_part_keeps_it() {
    let provider = pipedrive(&json!({ "ignore": ["/family_name"] }));
    let operation = update(&provider, &json!({ "given_name": "Anne" }), &["/given_name"]);
    let there = done(&person(512, &json!({ "last_name": "Smith" })));
    let (requests, _) = run(&provider, &operation, &[there, failed(500, "x")]);
    assert_eq!(body(&requests[1]), json!({ "first_name": "Anne", "last_name": "Smith" }));
}

#[test]
fn an_update_of_a_record_that_is_gone_says_so() {
    let by_read = update(&plain(), &json!({ "given_name": "Ann", "email": "a@b.c" }), &["/email"]);
    let at_once = update(&plain(), &json!({ "given_name": "Ann" }), &["/given_name"]);
    let bin = done(&person(512, &json!({ "is_deleted": true })));
    for operation in [&by_read, &at_once] {
        let missing = failed(404, "Person not found");
        let (requests, reply) = run(&plain(), operation, &[missing.clone(), bin.clone()]);
        assert_eq!(requests[1].method, "GET");
        assert_eq!(current(reply).state, State::Gone(Proof::Confirmed));
        let (_, reply) = run(&plain(), operation, &[missing.clone(), missing.clone()]);
        assert_eq!(current(reply).state, State::Gone(Proof::Unconfirmed));
        // It was restored between the two requests: that is an observation, not a write.
        let (_, reply) = run(&plain(), operation, &[missing, done(&person(512, &json!({})))]);
        assert!(matches!(current(reply).state, State::Whole(_)));
    }
    let (_, reply) = run(&plain(), &by_read, std::slice::from_ref(&bin));
    assert_eq!(current(reply).state, State::Gone(Proof::Confirmed));
    let (_, reply) = run(&plain(), &at_once, &[bin]);
    assert_eq!(current(reply).state, State::Gone(Proof::Confirmed));
}

#[test]
fn another_id_in_the_answer_is_a_merge() {
    let moved = State::Moved(Reference { object: "contact".into(), id: "600".into() });
    let operation = update(&plain(), &json!({ "given_name": "Ann" }), &["/given_name"]);
    assert_eq!(written(run(&plain(), &operation, &[done(&person(600, &json!({})))]).1).state, moved);
    let operation = update(&plain(), &json!({ "given_name": "Ann", "phone": "1" }), &["/phone"]);
    assert_eq!(current(run(&plain(), &operation, &[done(&person(600, &json!({})))]).1).state, moved);
}

#[test]
fn a_lost_read_wrote_nothing_and_a_lost_write_may_have() {
    let operation = update(&plain(), &json!({ "given_name": "Ann", "phone": "1" }), &["/phone"]);
    let torn = Response { status: 200, headers: Vec::new(), body: b"{\"data\":{\"id\":51".to_vec() };
    let again = |took_effect| Answer::Again { wait: Wait::Unknown, took_effect };
    let (_, reply) = run(&plain(), &operation, std::slice::from_ref(&torn));
    assert_eq!(reply.answer, again(Effect::No));
    let (_, reply) = run(&plain(), &operation, &[done(&person(512, &json!({}))), torn.clone()]);
    assert_eq!(reply.answer, again(Effect::Unknown));
    let create = write(None, &json!({ "first_name": "Ann" }), &[]);
    assert_eq!(run(&plain(), &create, &[torn]).1.answer, again(Effect::Unknown));
}

#[test]
fn a_document_that_is_none_is_refused() {
    let Operation::Write(mut write) = write(None, &json!({}), &[]) else { unreachable!() };
    write.document = b"{".to_vec();
    let reply = plain().start(&Operation::Write(write), &context());
    let Answer::Rejected(problems) = reply.answer else { panic!("{:?}", reply.answer) };
    assert_eq!(problems[0].code, Problem::new("invalid-json", "").code);
}
