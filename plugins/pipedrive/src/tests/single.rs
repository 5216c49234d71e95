use serde_json::{Value, json};
use tandem_provider::{Effect, Find, Proof, Provider, Remove, Wait};

use super::*;

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

fn items(items: &[Value]) -> Response {
    let rows: Vec<Value> = items.iter().map(|item| json!({ "result_score": 0.5, "item": item })).collect();
    done(&json!({ "items": rows }))
}

fn found(reply: Reply) -> Vec<Observed> {
    match reply.answer {
        Answer::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_gives_the_whole_person_as_it_came() {
    let there = person(512, &json!({ "custom_fields": { KEY: "k-9" }, "more": 1.50 }));
    let (requests, reply) = run(&keyed(), &read("512"), &[done(&there)]);
    assert_eq!(requests[0].path(), format!("/api/v2/persons/512?custom_fields={KEY}"));
    let observed = current(reply);
    assert_eq!(
        (observed.id.as_str(), observed.key.as_deref(), observed.stamp, observed.keep),
        ("512", Some("k-9"), Some(THEN), None)
    );
    assert!(matches!(observed.state, State::Whole(_)));
    assert_eq!(document(&observed.state), there);
}

#[test]
fn more_fields_than_may_be_named_are_not_named() {
    let mut custom = serde_json::Map::new();
    for n in 0..15 {
        custom.insert(format!("/custom/f{n}"), json!({ "field": format!("f{n}"), "type": "text" }));
    }
    let settings = json!({ "custom": custom });
    let (requests, _) = run(&pipedrive(&settings), &read("1"), &[failed(500, "x")]);
    assert_eq!(parameter(&requests[0], "custom_fields").unwrap().split(',').count(), 15);
    let mut more = settings;
    more["key_field"] = json!(KEY);
    let (requests, _) = run(&pipedrive(&more), &read("1"), &[failed(500, "x")]);
    assert_eq!(requests[0].path(), "/api/v2/persons/1");
}

#[test]
fn a_read_tells_what_is_gone_and_how_surely() {
    let deleted = person(512, &json!({ "is_deleted": true }));
    let observed = current(run(&plain(), &read("512"), &[done(&deleted)]).1);
    assert_eq!((observed.state, observed.stamp), (State::Gone(Proof::Confirmed), Some(THEN)));
    let observed = current(run(&plain(), &read("512"), &[failed(404, "Person not found")]).1);
    assert_eq!(observed.state, State::Gone(Proof::Unconfirmed));
    let observed = current(run(&plain(), &read("512"), &[failed(410, "gone")]).1);
    assert_eq!(observed.state, State::Gone(Proof::Confirmed));
}

#[test]
fn what_is_no_person_is_handed_over_as_it_came_and_what_stands_between_is_tried_again() {
    for (came, expected) in [
        (r#"{"data":{"name":"x"}}"#, r#"{"name":"x"}"#),
        (r#"{"success":true}"#, r#"{"success":true}"#),
        (r#"{"data":{"id":51"#, r#"{"data":{"id":51"#),
    ] {
        let response = Response { status: 200, headers: Vec::new(), body: came.as_bytes().to_vec() };
        assert_eq!(
            current(run(&plain(), &read("1"), &[response]).1).state,
            State::Whole(expected.as_bytes().to_vec())
        );
    }
    for came in ["", "<html>busy</html>"] {
        let response = Response { status: 200, headers: Vec::new(), body: came.as_bytes().to_vec() };
        let (_, reply) = run(&plain(), &read("1"), &[response]);
        assert_eq!(reply.answer, Answer::Again { wait: Wait::Unknown, took_effect: Effect::No });
    }
}

#[test]
fn a_removal_is_confirmed_and_one_of_what_is_gone_too() {
    let (requests, reply) = run(&plain(), &remove("512"), &[done(&json!({ "id": 512 }))]);
    assert_eq!((requests[0].method.as_str(), requests[0].path()), ("DELETE", "/api/v2/persons/512"));
    assert_eq!(written(reply).state, State::Gone(Proof::Confirmed));
    let bin = done(&person(512, &json!({ "is_deleted": true })));
    let (_, reply) = run(&plain(), &remove("512"), &[failed(404, "Person not found"), bin]);
    assert_eq!(current(reply).state, State::Gone(Proof::Confirmed));
}

#[test]
fn a_key_is_searched_and_read_before_it_is_believed() {
    let hits = items(&[json!({ "id": 1 }), json!({ "id": 2 }), json!({ "id": 3 })]);
    let other = done(&person(1, &json!({ "custom_fields": { KEY: "k-2" } })));
    let ours = person(3, &json!({ "custom_fields": { KEY: "k-1" } }));
    let operation = find(Some("k-1"), &[("/email", "a@b.c")]);
    let (requests, reply) = run(&keyed(), &operation, &[hits, other, failed(404, "x"), done(&ours)]);
    assert_eq!(parameter(&requests[0], "term").as_deref(), Some("k-1"));
    assert_eq!(parameter(&requests[0], "fields").as_deref(), Some("custom_fields"));
    let found = found(reply);
    assert_eq!((found.len(), found[0].id.as_str(), found[0].key.as_deref()), (1, "3", Some("k-1")));
    assert!(matches!(found[0].state, State::Whole(_)));
}

#[test]
fn without_the_key_the_identity_is_searched_and_what_is_found_is_named() {
    let none = items(&[]);
    let hits = items(&[
        json!({ "id": 5, "emails": ["x@b.c", "A@B.C"] }),
        json!({ "id": 6, "emails": ["aa@b.c"] }),
        json!({ "id": 7 }),
    ]);
    let phones = items(&[json!({ "id": 5 }), json!({ "id": 8 })]);
    let operation = find(
        Some("k-1"),
        &[("/email", "a@b.c"), ("/given_name", "A"), ("/phone", "+1 2"), ("/mobile_phone", "")],
    );
    let (requests, reply) = run(&keyed(), &operation, &[none, hits, phones]);
    let asked: Vec<_> = requests.iter().map(|it| parameter(it, "fields").unwrap()).collect();
    assert_eq!(asked, ["custom_fields", "email", "phone"]);
    assert_eq!(parameter(&requests[2], "term").as_deref(), Some("%2B1%202"));
    let found = found(reply);
    assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["5", "7", "8"]);
    assert!(found.iter().all(|it| it.state == State::Touched));
}

#[test]
fn what_cannot_be_searched_is_not_found() {
    assert!(found(plain().start(&find(Some("k-1"), &[("/given_name", "A")]), &context())).is_empty());
    let nothing = done(&Value::Null);
    assert!(found(run(&plain(), &find(None, &[("/email", "a@b.c")]), &[nothing]).1).is_empty());
    let (_, reply) =
        run(&plain(), &find(None, &[("/email", "a@b.c")]), &[answer(200, &json!({ "success": true }))]);
    assert!(matches!(reply.answer, Answer::Again { took_effect: Effect::No, .. }));
}

#[test]
fn objects_and_operations_that_nobody_knows_are_unsupported() {
    let other = Operation::Read(Reference { object: "deal".into(), id: "1".into() });
    for operation in [other, Operation::Other("erase".into(), b"{}".to_vec())] {
        let Answer::Blocked { problem, .. } = plain().start(&operation, &context()).answer else {
            panic!("blocked")
        };
        assert_eq!(problem.code, "unsupported");
    }
}

#[test]
fn a_note_of_another_version_is_no_reason_to_lose_a_record() {
    for note in [b"".as_slice(), br#"{"step":"later"}"#] {
        let reply = plain().resume(&read("1"), note, &done(&person(1, &json!({}))), &context());
        assert!(matches!(reply.answer, Answer::Again { .. }));
    }
}
