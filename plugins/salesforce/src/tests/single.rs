use tandem_provider::{Effect, Find, Problem, Proof, Scope, Wait, Watch};

use super::*;

fn find(key: Option<&str>, identity: &[(&str, &str)]) -> Operation {
    Operation::Find(Find {
        object: "contact".into(),
        key: key.map(str::to_owned),
        identity: identity.iter().map(|(name, value)| Attribute::new(*name, *value)).collect(),
    })
}

fn found(reply: Reply) -> Vec<String> {
    match reply.answer {
        Answer::Found(rows) => rows.into_iter().map(|row| row.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_asks_for_all_that_is_mapped_and_is_whole() {
    let (requests, reply) = run(
        &keyed(),
        &read(ID),
        &[answer(200, &contact(ID, &json!({ "Tandem_Key__c": "k-1", "Email": null })))],
    );
    assert_eq!(path(&requests[0]), format!("{CONTACTS}/{ID}"));
    let fields = parameter(&requests[0], "fields").unwrap();
    for name in [
        "Id",
        "SystemModstamp",
        "IsDeleted",
        "MasterRecordId",
        "LastModifiedById",
        "Tandem_Key__c",
        "Email",
        "MailingStreet",
    ] {
        assert_eq!(fields.split(',').filter(|it| *it == name).count(), 1, "{name} in {fields}");
    }
    let observed = current(reply);
    assert_eq!(
        (observed.id.as_str(), observed.stamp, observed.key.as_deref()),
        (ID, Some(STAMP), Some("k-1"))
    );
    assert_eq!(document(&observed.state)["LastName"], "Lee");
}

#[test]
fn a_short_id_is_asked_for_as_it_is_and_answered_as_it_was_asked() {
    let short = &ID[..15];
    let observed = current(run(&plain(), &read(short), &[answer(200, &contact(ID, &json!({})))]).1);
    assert_eq!(observed.id, short);
    assert!(matches!(observed.state, State::Whole(_)));
}

#[test]
fn a_record_in_the_bin_is_gone_for_sure_and_one_that_is_nowhere_may_come_back() {
    let gone = missing();
    let deleted = error(404, "ENTITY_IS_DELETED", "entity is deleted", &[]);
    let crossed = error(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", &[]);
    let update = write(Some(ID), &json!({ "LastName": "Li" }), &["/family_name"]);
    for operation in [read(ID), update, remove(ID), seen_at(remove(ID), STAMP)] {
        for first in [&gone, &deleted, &crossed] {
            let in_bin = records(&[contact(ID, &json!({ "IsDeleted": true }))]);
            let (requests, reply) = run(&plain(), &operation, &[first.clone(), in_bin]);
            assert_eq!(path(&requests[1]), format!("{ROOT}/queryAll"));
            assert_eq!(condition(&requests[1]), format!("Id = '{ID}'"));
            assert_eq!(current(reply).state, State::Gone(Proof::Confirmed), "{}", operation.name());
        }
        let (_, reply) = run(&plain(), &operation, &[gone.clone(), records(&[])]);
        assert_eq!(current(reply).state, State::Gone(Proof::Unconfirmed));
        let merged = contact(ID, &json!({ "IsDeleted": true, "MasterRecordId": &OTHER[..15] }));
        let (_, reply) = run(&plain(), &operation, &[gone.clone(), records(&[merged])]);
        let master = crate::ids::long(&OTHER[..15]).unwrap();
        let observed = current(reply);
        assert_eq!(observed.id, ID);
        assert_eq!(observed.state, State::Moved(Reference { object: "contact".into(), id: master }));
        // It was restored between the two requests: that is an observation, not a write.
        let (_, reply) = run(&plain(), &operation, &[gone.clone(), records(&[contact(ID, &json!({}))])]);
        assert!(matches!(current(reply).state, State::Whole(_)));
    }
}

#[test]
fn what_is_no_id_is_nobodys_and_costs_no_call() {
    for operation in
        [read("x"), remove("003'"), write(Some("1"), &json!({ "LastName": "Li" }), &["/family_name"])]
    {
        let (requests, reply) = run(&plain(), &operation, &[]);
        assert!(requests.is_empty());
        assert_eq!(current(reply).state, State::Gone(Proof::Unconfirmed));
    }
}

#[test]
fn a_removal_looks_first_and_removes_what_is_as_it_was_seen() {
    let as_seen = answer(200, &json!({ "Id": ID, "SystemModstamp": "2026-01-02T11:59:00.000+0000" }));
    let operation = seen_at(remove(ID), STAMP);
    let (requests, reply) = run(&plain(), &operation, &[as_seen.clone(), answer(204, &Value::Null)]);
    assert_eq!(parameter(&requests[0], "fields").as_deref(), Some("Id,SystemModstamp"));
    assert_eq!(
        (requests[1].method.as_str(), requests[1].path()),
        ("DELETE", format!("{CONTACTS}/{ID}").as_str())
    );
    assert!(requests[1].repeatable);
    assert_eq!(written(reply).state, State::Gone(Proof::Confirmed));
    let (requests, reply) = run(&plain(), &seen_at(remove(ID), STAMP - 1_000), &[as_seen]);
    assert_eq!((requests.len(), reply.answer), (1, Answer::Refused));
    // What cannot be read removes nothing.
    let (_, reply) = run(&plain(), &operation, &[answer(200, &json!({}))]);
    assert_eq!(reply.answer, Answer::Again { wait: Wait::Unknown, took_effect: Effect::No });
    let (requests, _) = run(&plain(), &remove(ID), &[answer(204, &Value::Null)]);
    assert_eq!(requests[0].method, "DELETE");
}

#[test]
fn finds_by_key_and_by_address_in_one_query() {
    let identity = [("/email", "o'brien+x@b.c"), ("/phone", "")];
    let row = |id: &str, key: Value| contact(id, &json!({ "Tandem_Key__c": key, "Email": "o'brien+x@b.c" }));
    let (requests, reply) = run(
        &keyed(),
        &find(Some("k\\1"), &identity),
        &[records(&[row(ID, Value::Null), row(OTHER, json!("another"))])],
    );
    assert_eq!(path(&requests[0]), format!("{ROOT}/query"));
    assert_eq!(condition(&requests[0]), r"Tandem_Key__c = 'k\\1' OR Email = 'o\'brien+x@b.c'");
    assert_eq!(found(reply), [ID, OTHER]);
    // Whoever bears the key is the only one.
    let both = records(&[row(ID, Value::Null), row(OTHER, json!("k-1"))]);
    assert_eq!(found(run(&keyed(), &find(Some("k-1"), &identity), &[both]).1), [OTHER]);
    assert!(found(run(&keyed(), &find(Some("k"), &identity), &[records(&[])]).1).is_empty());
    let (requests, _) = run(&plain(), &find(Some("k"), &identity), &[records(&[])]);
    assert_eq!(
        condition(&requests[0]),
        r"Email = 'o\'brien+x@b.c'",
        "without a key field nobody bears a key"
    );
    let (requests, reply) = run(&plain(), &find(Some("k"), &[("/nothing", "x")]), &[]);
    assert!(requests.is_empty() && found(reply).is_empty());
}

#[test]
fn a_probe_learns_organisation_and_user() {
    let facts = |reply: Reply| match reply.answer {
        Answer::Facts(facts) => serde_json::from_slice::<Value>(&facts).unwrap(),
        other => panic!("{other:?}"),
    };
    let info = json!({
        "sub": format!("https://login.salesforce.com/id/{ORG}/{USER}"), "user_id": USER, "organization_id": ORG,
        "preferred_username": "tandem@example.com", "zoneinfo": "Europe/Berlin",
    });
    let (requests, reply) = run(&plain(), &Operation::Probe, &[answer(200, &info)]);
    assert_eq!(requests[0].path(), "/services/oauth2/userinfo");
    let learnt = facts(reply);
    assert_eq!(learnt, json!({ "account": { "id": ORG, "user": USER, "time_zone": "Europe/Berlin" } }));
    Salesforce::configure(&json!({}), &learnt).unwrap();
    // Where the token may not ask that page, the API's own page names both.
    let identity =
        json!({ "identity": format!("https://login.salesforce.com/id/{ORG}/{USER}"), "sobjects": "/x" });
    for first in [answer(403, &Value::Null), missing(), answer(200, &json!({ "name": "x" }))] {
        let (requests, reply) = run(&plain(), &Operation::Probe, &[first, answer(200, &identity)]);
        assert_eq!(requests[1].path(), "/services/data/v60.0/");
        assert_eq!(facts(reply)["account"], json!({ "id": ORG, "user": USER, "time_zone": null }));
    }
    let organisation = records(&[json!({ "attributes": {}, "Id": ORG })]);
    let (requests, reply) =
        run(&plain(), &Operation::Probe, &[missing(), answer(200, &json!({})), organisation]);
    assert_eq!(parameter(&requests[2], "q").as_deref(), Some("SELECT Id FROM Organization LIMIT 1"));
    assert_eq!(facts(reply)["account"], json!({ "id": ORG }));
}

#[test]
fn a_probe_with_a_bad_token_is_unauthorised_and_asks_where_that_is_said_with_401() {
    let session = error(401, "INVALID_SESSION_ID", "Session expired or invalid", &[]);
    let reply = run(&plain(), &Operation::Probe, std::slice::from_ref(&session)).1;
    assert!(matches!(reply.answer, Answer::Unauthorised(_)), "{:?}", reply.answer);
    // A 403 renews no session: the API's own page says whether it has ended, with 401.
    let bad = Response { status: 403, headers: Vec::new(), body: b"Bad_OAuth_Token".to_vec() };
    let (requests, reply) = run(&plain(), &Operation::Probe, &[bad, session]);
    assert_eq!(requests[1].path(), "/services/data/v60.0/");
    assert!(matches!(reply.answer, Answer::Unauthorised(_)), "{:?}", reply.answer);
}

#[test]
fn discovery_learns_types_picklists_and_what_may_be_written() {
    let described = json!({ "name": "Contact", "createable": true, "fields": [
        { "name": "Email", "type": "email", "updateable": true, "externalId": false, "unique": false, "picklistValues": [] },
        { "name": "Tandem_Key__c", "type": "string", "updateable": true, "externalId": true, "unique": true, "picklistValues": [] },
        { "name": "Score__c", "type": "double", "updateable": false, "calculated": true },
        { "name": "Tier__c", "type": "picklist", "updateable": true, "restrictedPicklist": true, "picklistValues": [
            { "value": "Tier 1", "label": "Gold", "active": true, "defaultValue": false }, { "value": "Old", "active": false },
        ]},
    ]});
    let (requests, reply) = run(&plain(), &Operation::Discover("contact".into()), &[answer(200, &described)]);
    assert_eq!(requests[0].path(), format!("{CONTACTS}/describe"));
    let Answer::Facts(facts) = reply.answer else { panic!("facts") };
    assert_eq!(
        serde_json::from_slice::<Value>(&facts).unwrap(),
        json!({ "objects": { "contact": { "fields": {
            "Email": { "type": "email", "key": false, "read_only": false, "restricted": false, "options": [] },
            "Tandem_Key__c": { "type": "string", "key": true, "read_only": false, "restricted": false, "options": [] },
            "Score__c": { "type": "double", "key": false, "read_only": true, "restricted": false, "options": [] },
            "Tier__c": { "type": "picklist", "key": false, "read_only": false, "restricted": true, "options": ["Tier 1"] },
        }}}})
    );
}

#[test]
fn whether_contacts_may_be_written_is_asked_without_writing_one() {
    let ask = |object: &str| {
        Operation::Other("may-write".into(), json!({ "object": object }).to_string().into_bytes())
    };
    let all = json!({ "createable": true, "updateable": true, "deletable": true, "fields": [] });
    let (requests, reply) = run(&plain(), &ask("contact"), &[answer(200, &all)]);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path()),
        ("GET", format!("{CONTACTS}/describe").as_str())
    );
    assert_eq!(reply.answer, Answer::Facts(b"{}".to_vec()));
    let some = json!({ "createable": false, "updateable": true, "deletable": false, "fields": [] });
    let Answer::Blocked { scope: Scope::Object, problem } =
        run(&plain(), &ask("contact"), &[answer(200, &some)]).1.answer
    else {
        panic!("blocked")
    };
    assert_eq!(problem.code, "missing-permission");
    assert!(problem.message.contains("create, delete contacts"), "{}", problem.message);
    let reply = run(&plain(), &ask("contact"), &[missing()]).1;
    assert!(matches!(reply.answer, Answer::Blocked { scope: Scope::Object, .. }), "{:?}", reply.answer);
    assert!(run(&plain(), &ask("deal"), &[]).0.is_empty());
}

#[test]
fn outbound_messages_are_the_operators_and_other_objects_are_nobodys() {
    let watch = Operation::Watch(Watch {
        callback: "https://t.example/hooks/connection/acme".into(),
        objects: vec![],
        channel: None,
        active: true,
    });
    let Answer::Blocked { scope: Scope::Connection, problem } = run(&plain(), &watch, &[]).1.answer else {
        panic!("blocked")
    };
    assert!(problem.message.contains("https://t.example/hooks/connection/acme?key="), "{}", problem.message);
    let deal = Operation::Read(Reference { object: "deal".into(), id: ID.into() });
    let erase = Operation::Other("erase".into(), b"{}".to_vec());
    for operation in [deal, erase] {
        let Answer::Blocked { problem: Problem { code, .. }, .. } = run(&plain(), &operation, &[]).1.answer
        else {
            panic!("blocked")
        };
        assert_eq!(code, "unsupported");
    }
}

#[test]
fn a_read_hands_over_what_is_no_record_as_it_came() {
    for body in ["{}", "[]", "{\"Id\":\"1\"", "{\"Id\":5}", "{\"Id\":\"x\",\"LastName\":\"\\ud800\"}"] {
        let response = Response { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() };
        let observed = current(run(&plain(), &read(ID), &[response]).1);
        assert_eq!((observed.id.as_str(), observed.state), (ID, State::Whole(body.as_bytes().to_vec())));
    }
}

#[test]
fn a_success_that_cannot_be_read_leaves_reads_undone() {
    let again = Answer::Again { wait: Wait::Unknown, took_effect: Effect::No };
    for garbage in [b"<html>".to_vec(), Vec::new()] {
        let response = Response { status: 200, headers: Vec::new(), body: garbage };
        for operation in [read(ID), find(None, &[("/email", "a@b.c")]), Operation::Discover("contact".into())]
        {
            assert_eq!(
                run(&plain(), &operation, std::slice::from_ref(&response)).1.answer,
                again,
                "{}",
                operation.name()
            );
        }
    }
}
