use serde_json::json;
use tandem_provider::{Effect, Find, Observed, Problem, Proof, Remove, Scope, State, Wait, Watch};

use super::*;

fn current(reply: Reply) -> Observed {
    match reply.answer {
        Answer::Current(observed) => *observed,
        other => panic!("{other:?}"),
    }
}

fn written(reply: Reply) -> Observed {
    match reply.answer {
        Answer::Written(written) => {
            assert!(written.unapplied.is_empty());
            written.observed
        }
        other => panic!("{other:?}"),
    }
}

fn document(state: &State) -> Value {
    match state {
        State::Whole(bytes) | State::Partial(bytes) => serde_json::from_slice(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn remove(id: &str) -> Operation {
    Operation::Remove(Remove { object: "contact".into(), id: id.into(), version: None, stamp: None })
}

fn find(key: Option<&str>, identity: &[(&str, &str)]) -> Operation {
    Operation::Find(Find {
        object: "contact".into(),
        key: key.map(str::to_owned),
        identity: identity.iter().map(|(name, value)| Attribute::new(*name, *value)).collect(),
    })
}

fn missing() -> Response {
    answer(
        404,
        &json!({ "status": "error", "category": "OBJECT_NOT_FOUND", "message": "resource not found", "correlationId": "c" }),
    )
}

/// Every mapped property, as a full answer has them.
fn all_properties(provider: &HubSpot) -> Value {
    let mut properties = json!({});
    for name in provider.wanted.split(',').filter(|name| *name != "lastmodifieddate") {
        properties[name] = Value::Null;
    }
    properties
}

#[test]
fn a_read_asks_for_what_is_mapped_and_gives_the_whole_record() {
    let (requests, reply) = run(
        &keyed(),
        &read("512"),
        &[answer(200, &contact("512", &json!({ "email": "a@b.c", "tandem_key": "k-9", "firstname": null })))],
    );
    assert_eq!(requests[0].method, "GET");
    assert!(requests[0].path().starts_with("/crm/v3/objects/contacts/512?properties=email,firstname,"));
    let asked = parameter(&requests[0], "properties").unwrap();
    assert!(asked.contains(",lastmodifieddate") && asked.ends_with(",tandem_key"));
    assert!(requests[0].repeatable && requests[0].charges.is_empty());
    let observed = current(reply);
    assert_eq!(
        (observed.id.as_str(), observed.key.as_deref(), observed.stamp),
        ("512", Some("k-9"), Some(1_767_355_140_250))
    );
    assert!(matches!(observed.state, State::Whole(_)));
    assert_eq!(document(&observed.state)["properties"]["email"], "a@b.c");
}

#[test]
fn the_version_of_the_api_is_in_the_path() {
    let provider = hubspot(&json!({ "api_version": "2026-09" }));
    let (requests, _) = run(&provider, &read("1"), &[missing()]);
    assert!(requests[0].path().starts_with("/crm/objects/2026-09/contacts/1?"));
    let (requests, _) = run(&provider, &Operation::Discover("contact".into()), &[missing()]);
    assert!(requests[0].path().starts_with("/crm/properties/2026-09/contacts"));
}

#[test]
fn a_missing_record_is_looked_for_among_the_archived() {
    let mut archived = contact("512", &json!({}));
    archived["archived"] = json!(true);
    for operation in [
        read("512"),
        remove("512"),
        write(Some("512"), &json!({ "properties": { "city": "Ulm" } }), &["/city"]),
    ] {
        let (requests, reply) = run(&plain(), &operation, &[missing(), answer(200, &archived)]);
        assert_eq!(parameter(&requests[1], "archived").as_deref(), Some("true"));
        assert_eq!(current(reply).state, State::Gone(Proof::Confirmed), "{}", operation.name());
        let (_, reply) = run(&plain(), &operation, &[missing(), missing()]);
        assert_eq!(current(reply).state, State::Gone(Proof::Unconfirmed));
        // It was restored between the two requests: that is an observation, not a write.
        let (_, reply) = run(&plain(), &operation, &[missing(), answer(200, &contact("512", &json!({})))]);
        assert!(matches!(current(reply).state, State::Whole(_)));
    }
}

#[test]
fn another_id_in_the_answer_is_a_merge() {
    let moved = State::Moved(Reference { object: "contact".into(), id: "600".into() });
    let (_, reply) = run(&plain(), &read("512"), &[answer(200, &contact("600", &json!({})))]);
    let observed = current(reply);
    assert_eq!((observed.id.as_str(), &observed.state), ("512", &moved));
    let operation = write(Some("512"), &json!({ "properties": { "city": "Ulm" } }), &["/city"]);
    let (_, reply) = run(&plain(), &operation, &[answer(200, &contact("600", &json!({ "city": "Ulm" })))]);
    assert_eq!(written(reply).state, moved);
}

#[test]
fn a_plain_create_posts_what_has_a_value_and_cannot_be_repeated() {
    let document = json!({ "properties": { "email": "a@b.c", "firstname": "Ann", "city": null, "phone": "", "hs_not_ours": "x" } });
    let (requests, reply) = run(
        &plain(),
        &write(None, &document, &[]),
        &[answer(201, &contact("512", &json!({ "email": "a@b.c" })))],
    );
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("POST", "/crm/v3/objects/contacts"));
    assert_eq!(
        body(&requests[0]),
        json!({ "properties": { "email": "a@b.c", "firstname": "Ann" }, "associations": [] })
    );
    assert!(!requests[0].repeatable);
    let observed = written(reply);
    assert_eq!(observed.id, "512");
    assert!(matches!(observed.state, State::Partial(_)), "HubSpot returned some properties only");
}

#[test]
fn an_answer_with_all_properties_is_the_whole_record() {
    let provider = plain();
    let (_, reply) = run(
        &provider,
        &write(None, &json!({ "properties": { "email": "a@b.c" } }), &[]),
        &[answer(201, &contact("512", &all_properties(&provider)))],
    );
    assert!(matches!(written(reply).state, State::Whole(_)));
}

#[test]
fn with_a_key_property_a_create_is_an_upsert_on_it_alone() {
    let document = json!({ "properties": { "email": "a@b.c" } });
    let mut row = contact("512", &json!({ "email": "a@b.c", "tandem_key": "k-1" }));
    row["new"] = json!(true);
    let done = json!({ "status": "COMPLETE", "startedAt": "2026-01-02T12:00:00Z", "completedAt": "2026-01-02T12:00:00Z", "results": [row] });
    let (requests, reply) = run(&keyed(), &write(None, &document, &[]), &[answer(200, &done)]);
    assert_eq!(requests[0].path(), "/crm/v3/objects/contacts/batch/upsert");
    assert_eq!(
        body(&requests[0]),
        json!({ "inputs": [{ "id": "k-1", "idProperty": "tandem_key", "properties": { "email": "a@b.c", "tandem_key": "k-1" } }] })
    );
    assert!(requests[0].repeatable);
    let observed = written(reply);
    assert_eq!((observed.id.as_str(), observed.key.as_deref()), ("512", Some("k-1")));
}

#[test]
fn an_address_that_is_taken_names_its_holder() {
    let operation = write(None, &json!({ "properties": { "email": "a@b.c" } }), &[]);
    let taken = Answer::Exists(Reference { object: "contact".into(), id: "777".into() });
    let conflict = json!({ "status": "error", "category": "CONFLICT", "message": "Contact already exists. Existing ID: 777", "correlationId": "c" });
    let (_, reply) = run(&plain(), &operation, &[answer(409, &conflict)]);
    assert_eq!(reply.answer, taken);
    // A batch says it in a row, or as a whole.
    let row = json!({ "status": "COMPLETE", "results": [], "numErrors": 1, "errors": [conflict] });
    for response in [answer(207, &row), answer(409, &conflict)] {
        let (_, reply) = run(&keyed(), &operation, &[response]);
        assert_eq!(reply.answer, taken);
    }
    // When it does not say who, the holder is asked for.
    let silent = answer(
        409,
        &json!({ "category": "CONFLICT", "message": "Contact already exists.", "correlationId": "c" }),
    );
    let (requests, reply) =
        run(&plain(), &operation, &[silent.clone(), answer(200, &contact("777", &json!({})))]);
    assert!(requests[1].path().starts_with("/crm/v3/objects/contacts/a%40b.c?"));
    assert_eq!(parameter(&requests[1], "idProperty").as_deref(), Some("email"));
    assert_eq!(reply.answer, taken);
    let (_, reply) = run(&plain(), &operation, &[silent.clone(), missing()]);
    assert_eq!(reply.answer, Answer::Again { wait: Wait::Until(NOW + 10_000), took_effect: Effect::No });
    let (_, reply) = run(&plain(), &write(None, &json!({ "properties": { "city": "Ulm" } }), &[]), &[silent]);
    assert!(matches!(reply.answer, Answer::Rejected(_)));
}

#[test]
fn an_update_writes_the_changed_properties_alone_and_clears_with_nothing() {
    let document = json!({ "id": "512", "properties": { "email": "a@b.c", "firstname": "Anne", "city": null, "zip": "1" } });
    let operation = write(Some("512"), &document, &["/given_name", "/city", "/street", "/tags", "/unknown"]);
    let (requests, reply) =
        run(&plain(), &operation, &[answer(200, &contact("512", &json!({ "firstname": "Anne" })))]);
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("PATCH", "/crm/v3/objects/contacts/512"));
    assert_eq!(
        body(&requests[0]),
        json!({ "properties": { "firstname": "Anne", "city": "", "address": "" } })
    );
    assert!(!requests[0].repeatable);
    assert!(matches!(written(reply).state, State::Partial(_)));
}

#[test]
fn an_update_of_nothing_that_hubspot_keeps_costs_no_call() {
    let (requests, reply) = run(&plain(), &write(Some("512"), &json!({ "properties": {} }), &["/tags"]), &[]);
    assert!(requests.is_empty());
    assert_eq!(document(&written(reply).state), json!({ "properties": {} }));
}

#[test]
fn an_update_to_an_address_of_somebody_else_names_its_holder() {
    let operation = write(Some("512"), &json!({ "properties": { "email": "b@b.c" } }), &["/email"]);
    let conflict = json!({ "status": "error", "category": "CONFLICT", "message": "Contact already exists. Existing ID: 777", "correlationId": "c" });
    let (_, reply) = run(&plain(), &operation, &[answer(409, &conflict)]);
    assert_eq!(reply.answer, Answer::Exists(Reference { object: "contact".into(), id: "777".into() }));
    // Where it does not say who, the refusal stands at the field.
    let silent =
        json!({ "category": "CONFLICT", "message": "Contact already exists.", "correlationId": "c" });
    let (_, reply) = run(&plain(), &operation, &[answer(409, &silent)]);
    let refused = Problem::new("conflict", "Contact already exists.").at("/email");
    assert_eq!(reply.answer, Answer::Rejected(vec![refused]));
}

#[test]
fn an_archived_record_is_gone_for_sure() {
    let (requests, reply) = run(&plain(), &remove("512"), &[answer(204, &Value::Null)]);
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("DELETE", "/crm/v3/objects/contacts/512"));
    assert_eq!(written(reply).state, State::Gone(Proof::Confirmed));
}

#[test]
fn finds_by_key_and_by_address_without_the_index() {
    let found = |reply: Reply| match reply.answer {
        Answer::Found(rows) => rows.into_iter().map(|row| row.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let identity = [("/email", "ann+x@b.c")];
    let (requests, reply) =
        run(&keyed(), &find(Some("k/1"), &identity), &[answer(200, &contact("1", &json!({})))]);
    assert!(requests[0].path().starts_with("/crm/v3/objects/contacts/k%2F1?"));
    assert_eq!(parameter(&requests[0], "idProperty").as_deref(), Some("tandem_key"));
    assert_eq!(found(reply), ["1"]);
    let (requests, reply) =
        run(&keyed(), &find(Some("k"), &identity), &[missing(), answer(200, &contact("2", &json!({})))]);
    assert!(requests[1].path().starts_with("/crm/v3/objects/contacts/ann%2Bx%40b.c?"));
    assert_eq!(parameter(&requests[1], "idProperty").as_deref(), Some("email"));
    assert_eq!(found(reply), ["2"]);
    let (_, reply) = run(&keyed(), &find(Some("k"), &identity), &[missing(), missing()]);
    assert!(found(reply).is_empty());
    // Without a key property there is nothing to look the key up by.
    let (requests, reply) = run(&plain(), &find(Some("k"), &[]), &[]);
    assert!(requests.is_empty());
    assert!(found(reply).is_empty());
}

#[test]
fn finds_by_other_fields_with_a_search_and_joins_both() {
    let rows = json!({ "total": 2, "results": [contact("2", &json!({})), contact("3", &json!({}))] });
    let operation = find(None, &[("/email", "a@b.c"), ("/phone", "+49 1")]);
    let (requests, reply) =
        run(&plain(), &operation, &[answer(200, &contact("2", &json!({}))), answer(200, &rows)]);
    assert_eq!(
        body(&requests[1])["filterGroups"],
        json!([{ "filters": [{ "propertyName": "phone", "operator": "EQ", "value": "+49 1" }] }])
    );
    let Answer::Found(found) = reply.answer else { panic!("found") };
    assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["2", "3"]);
}

#[test]
fn a_probe_learns_the_account_and_its_clock() {
    let details = json!({
        "portalId": 12345678901_u64, "timeZone": "Europe/Berlin", "companyCurrency": "EUR", "utcOffset": "+01:00", "utcOffsetMilliseconds": 3600000,
    });
    let (requests, reply) = run(&plain(), &Operation::Probe, &[answer(200, &details)]);
    assert_eq!(requests[0].path(), "/account-info/v3/details");
    let Answer::Facts(facts) = reply.answer else { panic!("facts") };
    let facts: Value = serde_json::from_slice(&facts).unwrap();
    assert_eq!(
        facts,
        json!({ "account": { "id": "12345678901", "time_zone": "Europe/Berlin", "utc_offset_ms": 3_600_000, "currency": "EUR" } })
    );
    let connection = HubSpot::configure(&json!({}), &facts).unwrap().connection();
    assert_eq!(connection.quotas.last().unwrap().time_zone.as_deref(), Some("Europe/Berlin"));
    let (_, reply) =
        run(&plain(), &Operation::Probe, &[answer(200, &json!({ "portalId": 1, "utcOffset": "-09:30" }))]);
    let Answer::Facts(facts) = reply.answer else { panic!("facts") };
    assert_eq!(serde_json::from_slice::<Value>(&facts).unwrap()["account"]["utc_offset_ms"], -34_200_000);
}

#[test]
fn discovery_learns_types_options_and_what_is_unique() {
    let rows = json!({ "results": [
        { "name": "email", "type": "string", "hasUniqueValue": true, "options": [] },
        { "name": "lifecyclestage", "type": "enumeration", "hasUniqueValue": false, "options": [{ "label": "Lead", "value": "lead" }] },
        { "name": "hs_score", "type": "number", "calculated": true, "modificationMetadata": { "readOnlyValue": true } },
    ]});
    let (_, reply) = run(&plain(), &Operation::Discover("contact".into()), &[answer(200, &rows)]);
    let Answer::Facts(facts) = reply.answer else { panic!("facts") };
    assert_eq!(
        serde_json::from_slice::<Value>(&facts).unwrap(),
        json!({ "objects": { "contact": { "properties": {
            "email": { "type": "string", "unique": true, "read_only": false, "options": [] },
            "lifecyclestage": { "type": "enumeration", "unique": false, "read_only": false, "options": ["lead"] },
            "hs_score": { "type": "number", "unique": false, "read_only": true, "options": [] },
        }}}})
    );
}

#[test]
fn webhook_subscriptions_are_the_operators_and_other_objects_are_nobodys() {
    let watch = Operation::Watch(Watch {
        callback: "https://t.example/hooks".into(),
        objects: vec![],
        channel: None,
        active: true,
    });
    let Answer::Blocked { scope: Scope::Connection, problem } = run(&plain(), &watch, &[]).1.answer else {
        panic!("blocked")
    };
    assert!(problem.message.contains("https://t.example/hooks"));
    let deal = Operation::Read(Reference { object: "deal".into(), id: "1".into() });
    assert!(matches!(run(&plain(), &deal, &[]).1.answer, Answer::Blocked { scope: Scope::Object, .. }));
}

#[test]
fn a_read_hands_over_what_is_no_record_as_it_came() {
    for body in [
        "{}",
        "[]",
        "{\"id\":\"1\"",
        "{\"id\":\"1\",\"properties\":[]}",
        "{\"id\":\"1\",\"properties\":{\"firstname\":\"\\ud800\"}}",
    ] {
        let response = Response { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() };
        let observed = current(run(&plain(), &read("1"), &[response]).1);
        assert_eq!((observed.id.as_str(), observed.state), ("1", State::Whole(body.as_bytes().to_vec())));
    }
}

#[test]
fn a_success_that_cannot_be_read_leaves_a_write_unknown_and_a_read_undone() {
    for garbage in [b"<html>".to_vec(), b"{}".to_vec(), Vec::new()] {
        let page = garbage != b"{}";
        let response = Response { status: 200, headers: Vec::new(), body: garbage };
        let again = |took_effect| Answer::Again { wait: Wait::Unknown, took_effect };
        if page {
            assert_eq!(
                run(&plain(), &read("1"), std::slice::from_ref(&response)).1.answer,
                again(Effect::No)
            );
        }
        let operation = write(None, &json!({ "properties": {} }), &[]);
        assert_eq!(
            run(&plain(), &operation, std::slice::from_ref(&response)).1.answer,
            again(Effect::Unknown)
        );
        assert_eq!(
            run(&keyed(), &operation, std::slice::from_ref(&response)).1.answer,
            again(Effect::Unknown)
        );
        assert_eq!(
            run(&plain(), &Operation::Probe, std::slice::from_ref(&response)).1.answer,
            again(Effect::No)
        );
        assert_eq!(
            run(&plain(), &Operation::Discover("contact".into()), &[response]).1.answer,
            again(Effect::No)
        );
    }
}

#[test]
fn a_person_is_erased_for_good_and_a_second_time_is_no_failure() {
    let erase = |object: &str| {
        Operation::Other("erase".into(), json!({ "object": object, "id": "512" }).to_string().into_bytes())
    };
    for response in [answer(204, &Value::Null), missing()] {
        let (requests, reply) = run(&plain(), &erase("contact"), &[response]);
        assert_eq!(
            (requests[0].method.as_str(), requests[0].path()),
            ("POST", "/crm/v3/objects/contacts/gdpr-delete")
        );
        assert_eq!(body(&requests[0]), json!({ "objectId": "512" }));
        assert_eq!(written(reply).state, State::Gone(Proof::Confirmed));
    }
    let (_, reply) = run(&plain(), &erase("company"), &[]);
    assert!(matches!(reply.answer, Answer::Blocked { .. }), "{:?}", reply.answer);
}
