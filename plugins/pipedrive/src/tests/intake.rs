use serde_json::json;
use tandem_provider::{Delivery, Proof, Provider};

use super::*;

fn receive(provider: &Pipedrive, body: &Value) -> Vec<Observed> {
    let delivery = Delivery { body: body.to_string().into_bytes(), ..Delivery::default() };
    provider.receive(&delivery, &context()).unwrap()
}

fn event(action: &str, data: &Value, previous: &Value) -> Value {
    json!({
        "data": data, "previous": previous,
        "meta": {
            "action": action, "entity": "person", "entity_id": "512", "company_id": "77", "user_id": "9", "version": "2.0",
            "correlation_id": "c", "id": "e", "is_bulk_edit": false, "timestamp": "2026-01-02T11:59:00.250Z", "type": "general",
            "webhook_id": "3", "webhook_owner_id": "9", "change_source": "app", "permitted_user_ids": ["9"], "attempt": 1, "host": "x",
        },
    })
}

#[test]
fn a_change_is_told_by_what_changed() {
    let data = person(
        512,
        &json!({ "last_name": "B", "emails": [{ "value": "new@b.c", "primary": true, "label": "work" }] }),
    );
    let rows = receive(
        &plain(),
        &event("change", &data, &json!({ "emails": [], "update_time": "2026-01-01T00:00:00Z" })),
    );
    assert_eq!(rows.len(), 1);
    assert_eq!(
        document(&rows[0].state),
        json!({ "emails": [{ "value": "new@b.c", "primary": true, "label": "work" }] })
    );
    let State::Partial(bytes) = &rows[0].state else { panic!("partial") };
    assert_eq!(plain().to_canonical("contact", bytes).unwrap(), br#"{"email":"new@b.c"}"#);
    assert_eq!(
        (rows[0].id.as_str(), rows[0].account.as_deref(), rows[0].stamp, rows[0].author.as_deref()),
        ("512", Some("77"), Some(THEN), Some("other"))
    );
    assert_eq!(
        rows[0].attributes,
        [
            Attribute::new("event", "change.person"),
            Attribute::new("by", "user 9 (app)"),
            Attribute::new("occurred-at", THEN.to_string())
        ]
    );
}

#[test]
fn a_cleared_member_reads_as_null() {
    let rows = receive(
        &plain(),
        &event(
            "change",
            &person(512, &json!({ "first_name": null })),
            &json!({ "first_name": "Ann", "phones": [{ "value": "1" }] }),
        ),
    );
    let State::Partial(bytes) = &rows[0].state else { panic!("partial") };
    assert_eq!(
        serde_json::from_slice::<Value>(&plain().to_canonical("contact", bytes).unwrap()).unwrap(),
        json!({ "given_name": null, "phone": null, "mobile_phone": null })
    );
}

#[test]
fn custom_fields_are_told_in_the_form_of_the_read_answers() {
    let fields = json!({
        TIER: { "type": "enum", "id": 12 }, FEE: { "type": "monetary", "value": 2.5, "currency": "USD" },
        "other": { "type": "set", "values": [{ "id": 1 }] },
    });
    let data = person(512, &json!({ "custom_fields": fields }));
    let previous = json!({ "custom_fields": { TIER: null, FEE: null } });
    let rows = receive(&rich(), &event("change", &data, &previous));
    assert_eq!(
        document(&rows[0].state),
        json!({ "custom_fields": { TIER: 12, FEE: { "value": 2.5, "currency": "USD" } } })
    );
    let State::Partial(bytes) = &rows[0].state else { panic!("partial") };
    assert_eq!(
        serde_json::from_slice::<Value>(&rich().to_canonical("contact", bytes).unwrap()).unwrap(),
        json!({ "custom": { "tier": "silver", "fee": "2.5" } })
    );
    let set = pipedrive(
        &json!({ "custom": { "/custom/s": { "field": "other", "type": "set", "options": { "one": "1" } } } }),
    );
    let rows = receive(&set, &event("change", &data, &json!({ "custom_fields": { "other": null } })));
    assert_eq!(document(&rows[0].state), json!({ "custom_fields": { "other": [1] } }));
}

#[test]
fn of_a_range_the_beginning_is_told_under_another_name_than_it_is_read() {
    let dates = pipedrive(
        &json!({ "custom": { "/custom/begin": { "field": TIER, "type": "date", "field_type": "daterange" } } }),
    );
    let fields = json!({ TIER: { "type": "daterange", "from": "2026-02-01", "until": "2026-02-28" } });
    let data = person(512, &json!({ "custom_fields": fields }));
    let rows = receive(&dates, &event("change", &data, &json!({ "custom_fields": { TIER: null } })));
    let State::Partial(bytes) = &rows[0].state else { panic!("partial") };
    assert_eq!(
        serde_json::from_slice::<Value>(&dates.to_canonical("contact", bytes).unwrap()).unwrap(),
        json!({ "custom": { "begin": "2026-02-01" } })
    );
}

#[test]
fn a_change_of_something_else_tells_all_that_is_mapped() {
    let rows = receive(&plain(), &event("change", &person(512, &json!({})), &json!({ "owner_id": 3 })));
    assert_eq!(
        document(&rows[0].state),
        json!({ "emails": [], "phones": [], "first_name": "Ann", "last_name": null })
    );
    let rows = receive(&plain(), &event("create", &person(512, &json!({})), &Value::Null));
    assert_eq!(document(&rows[0].state)["first_name"], "Ann");
}

#[test]
fn a_change_that_may_be_of_a_member_which_events_leave_out_has_the_record_read() {
    // As in the guide's example: nothing of the contact sync, and only the time of the change is said to be another.
    let data = person(512, &json!({}));
    let only_time = json!({ "update_time": "2026-01-01T00:00:00Z" });
    assert_eq!(receive(&rich(), &event("change", &data, &only_time))[0].state, State::Touched);
    // Without the contact sync nothing else is mapped, whether custom fields are there or not.
    let custom = pipedrive(&json!({ "custom": { "/custom/site": { "field": TIER, "type": "text" } } }));
    for provider in [plain(), custom] {
        let rows = receive(&provider, &event("change", &data, &only_time));
        assert!(matches!(rows[0].state, State::Partial(_)), "{:?}", rows[0].state);
    }
}

#[test]
fn what_changed_and_is_not_told_has_the_record_read() {
    for (data, previous) in [
        (json!({ "id": 512, "name": "B" }), json!({ "name": "A" })),
        (json!({ "id": 512, "name": "B" }), json!({ "emails": [] })),
        (Value::Null, json!({ "name": "A" })),
    ] {
        assert_eq!(receive(&plain(), &event("change", &data, &previous))[0].state, State::Touched, "{data}");
    }
    // The names of version 1 are known as well.
    let data = json!({ "id": 512, "email": [{ "value": "a@b.c", "primary": true }] });
    let rows = receive(&plain(), &event("change", &data, &json!({ "email": [] })));
    assert_eq!(document(&rows[0].state)["emails"][0]["value"], "a@b.c");
}

#[test]
fn deletions_are_sure_and_a_merge_says_where_the_person_lives_on() {
    let rows = receive(&plain(), &event("delete", &Value::Null, &person(512, &json!({}))));
    assert_eq!((rows.len(), &rows[0].state), (1, &State::Gone(Proof::Confirmed)));
    let rows = receive(
        &plain(),
        &event("change", &person(512, &json!({ "is_deleted": true })), &json!({ "is_deleted": false })),
    );
    assert_eq!(rows[0].state, State::Gone(Proof::Confirmed));
    let mut merged = event("delete", &Value::Null, &person(512, &json!({})));
    for to in [json!("600"), json!(600)] {
        merged["meta"]["merged_to_id"] = to;
        let rows = receive(&plain(), &merged);
        let into = Reference { object: "contact".into(), id: "600".into() };
        assert_eq!((rows[0].id.as_str(), &rows[0].state), ("512", &State::Moved(into)));
        assert_eq!((rows[1].id.as_str(), &rows[1].state), ("600", &State::Touched));
    }
    merged["meta"]["merged_to_id"] = Value::Null;
    assert_eq!(receive(&plain(), &merged)[0].state, State::Gone(Proof::Confirmed));
}

#[test]
fn our_own_writes_are_suspected_by_user_and_source() {
    let provider = Pipedrive::configure(&json!({}), &json!({ "account": { "user_id": "9" } })).unwrap();
    let author = |provider: &Pipedrive, source: Value, user: Value| {
        let mut event = event("create", &person(512, &json!({})), &Value::Null);
        event["meta"]["change_source"] = source;
        event["meta"]["user_id"] = user;
        receive(provider, &event)[0].author.clone()
    };
    let (own, other) = (Some("own".to_owned()), Some("other".to_owned()));
    assert_eq!(author(&provider, json!("api"), json!("9")), own);
    assert_eq!(author(&provider, json!("api"), json!(9)), own);
    assert_eq!(author(&provider, json!("api"), json!("10")), other);
    assert_eq!(author(&provider, json!("app"), json!("9")), other);
    assert_eq!(author(&provider, Value::Null, json!("9")), None);
    assert_eq!(author(&plain(), json!("api"), json!("9")), None, "nobody has told us who we are");
}

#[test]
fn what_a_program_does_or_somebody_to_many_is_told_from_an_edit() {
    let provider = Pipedrive::configure(&json!({}), &json!({ "account": { "user_id": "9" } })).unwrap();
    let is_background = |source: &str, user: &str, bulk: Value| {
        let mut event =
            event("change", &person(512, &json!({ "last_name": "B" })), &json!({ "last_name": "A" }));
        event["meta"]["change_source"] = json!(source);
        event["meta"]["user_id"] = json!(user);
        event["meta"]["is_bulk_edit"] = bulk;
        receive(&provider, &event)[0].attributes.contains(&Attribute::new("background", "true"))
    };
    assert!(is_background("app", "10", json!(true)), "many in the list");
    assert!(is_background("api", "10", json!(false)), "another program");
    assert!(!is_background("app", "10", json!(false)), "a person");
    assert!(!is_background("app", "10", Value::Null));
    assert!(!is_background("api", "9", json!(false)), "our own write, or somebody who looks like us");
    assert!(!is_background("api", "9", json!(true)));
}

#[test]
fn other_things_are_of_no_interest_and_what_is_no_event_is_refused_with_its_place() {
    let mut deal = event("change", &json!({ "id": 1 }), &json!({}));
    deal["meta"]["entity"] = json!("deal");
    assert!(receive(&plain(), &deal).is_empty());
    let mut later = event("archive", &person(512, &json!({})), &Value::Null);
    assert_eq!(receive(&plain(), &later)[0].state, State::Touched);
    later["meta"] = json!({ "v": 1, "action": "updated", "object": "person", "id": 512 });
    assert_eq!((receive(&plain(), &later)[0].id.as_str()), "512");
    for (body, place) in [
        ("{", None),
        ("{}", Some("/meta/action")),
        (r#"{"meta":{}}"#, Some("/meta/entity")),
        (r#"{"meta":{"entity":"person"}}"#, Some("/meta/action")),
        (r#"{"meta":{"entity":"person","action":"change"}}"#, Some("/meta/entity_id")),
    ] {
        let delivery = Delivery { body: body.as_bytes().to_vec(), ..Delivery::default() };
        assert_eq!(plain().receive(&delivery, &context()).unwrap_err().pointer.as_deref(), place, "{body}");
    }
}
