use serde_json::json;
use tandem_provider::{Delivery, Observed, Proof, State};

use super::*;

fn receive(provider: &HubSpot, body: &Value) -> Vec<Observed> {
    let delivery = Delivery { headers: Vec::new(), query: Vec::new(), body: body.to_string().into_bytes() };
    provider.receive(&delivery, &context()).unwrap()
}

fn event(kind: &str, more: &Value) -> Value {
    let mut event = json!({
        "eventId": 100, "subscriptionId": 7, "portalId": 62515, "appId": 54321, "occurredAt": 1_767_355_100_000_u64,
        "subscriptionType": kind, "attemptNumber": 0, "objectId": 9_007_199_254_740_993_u64, "changeSource": "CRM_UI",
    });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

const ID: &str = "9007199254740993";

#[test]
fn a_property_change_is_a_partial_record() {
    let change = event(
        "contact.propertyChange",
        &json!({ "propertyName": "firstname", "propertyValue": "Ann \"A\"" }),
    );
    let rows = receive(&plain(), &change);
    assert_eq!(rows.len(), 1);
    let State::Partial(document) = &rows[0].state else { panic!("partial") };
    assert_eq!(
        serde_json::from_slice::<Value>(document).unwrap(),
        json!({ "id": ID, "properties": { "firstname": "Ann \"A\"" } })
    );
    assert_eq!(plain().to_canonical("contact", document).unwrap(), br#"{"given_name":"Ann \"A\""}"#);
    assert_eq!((rows[0].id.as_str(), rows[0].account.as_deref(), rows[0].stamp), (ID, Some("62515"), None));
    assert_eq!(rows[0].author.as_deref(), Some("other"));
    assert_eq!(
        rows[0].attributes,
        [
            Attribute::new("event", "contact.propertyChange"),
            Attribute::new("by", "CRM_UI"),
            Attribute::new("occurred-at", "1767355100000")
        ]
    );
    let named = json!({ "propertyName": "city", "propertyValue": "Ulm", "sourceId": "userId:123" });
    let rows = receive(&plain(), &event("contact.propertyChange", &named));
    assert!(rows[0].attributes.contains(&Attribute::new("by", "CRM_UI userId:123")), "{rows:?}");
}

#[test]
fn a_cleared_property_reads_as_null() {
    let rows = receive(
        &plain(),
        &event("contact.propertyChange", &json!({ "propertyName": "city", "propertyValue": "" })),
    );
    let State::Partial(document) = &rows[0].state else { panic!("partial") };
    assert_eq!(plain().to_canonical("contact", document).unwrap(), br#"{"city":null}"#);
}

#[test]
fn arrays_and_single_events_are_read() {
    let changes = json!([
        event("contact.propertyChange", &json!({ "propertyName": "email", "propertyValue": "a@b.c" })),
        event("contact.propertyChange", &json!({ "propertyName": "hs_not_mapped", "propertyValue": "x" })),
        event("company.creation", &json!({})),
        event("object.creation", &json!({ "objectTypeId": "0-2" })),
        event("object.creation", &json!({ "objectTypeId": "0-1" })),
        event("contact.associationChange", &json!({})),
        event("contact.propertyChange", &json!({ "propertyName": "email" })),
    ]);
    let rows = receive(&plain(), &changes);
    assert_eq!(rows.len(), 3);
    assert!(matches!(rows[0].state, State::Partial(_)));
    assert_eq!(rows[1].state, nothing_said(ID));
    assert_eq!(rows[2].state, State::Touched, "without a value the record has to be read");
    assert!(receive(&plain(), &json!([])).is_empty());
}

/// A partial observation without any field.
fn nothing_said(id: &str) -> State {
    State::Partial(json!({ "id": id, "properties": {} }).to_string().into_bytes())
}

#[test]
fn creation_restore_and_deletions_say_what_they_know() {
    for (kind, state) in [
        ("contact.creation", nothing_said(ID)),
        ("contact.restore", State::Touched),
        ("contact.deletion", State::Gone(Proof::Confirmed)),
        ("contact.privacyDeletion", State::Gone(Proof::Confirmed)),
    ] {
        let rows = receive(&plain(), &event(kind, &json!({})));
        assert_eq!((rows.len(), &rows[0].state), (1, &state), "{kind}");
        let erased = rows[0].attributes.contains(&Attribute::new("erasure", "privacy"));
        assert_eq!(erased, kind.ends_with("privacyDeletion"));
    }
}

#[test]
fn the_losers_of_a_merge_live_on_in_the_winner() {
    let moved = |rows: &[Observed]| {
        rows.iter()
            .map(|row| match &row.state {
                State::Moved(to) => format!("{}>{}", row.id, to.id),
                State::Touched => format!("{}!", row.id),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let merge =
        event("contact.merge", &json!({ "objectId": 1, "primaryObjectId": 1, "mergedObjectIds": [2, 3, 2] }));
    assert_eq!(moved(&receive(&plain(), &merge)), ["2>1", "3>1", "1!"]);
    let made = event(
        "contact.merge",
        &json!({ "objectId": 1, "primaryObjectId": 1, "mergedObjectIds": ["2"], "newObjectId": 9, "numberOfPropertiesMoved": 4 }),
    );
    assert_eq!(moved(&receive(&plain(), &made)), ["2>1", "1>9", "9!"]);
    assert_eq!(moved(&receive(&plain(), &event("contact.merge", &json!({ "objectId": 1 })))), ["1!"]);
}

#[test]
fn our_own_writes_are_recognised_by_the_apps_id() {
    let author = |provider: &HubSpot, more: Value| {
        receive(provider, &event("contact.creation", &more))[0].author.clone()
    };
    let own = Some("own".to_owned());
    let other = Some("other".to_owned());
    assert_eq!(author(&plain(), json!({ "changeSource": "INTEGRATION", "sourceId": "54321" })), own);
    assert_eq!(author(&plain(), json!({ "changeSource": "INTEGRATION", "sourceId": 54321 })), own);
    assert_eq!(author(&plain(), json!({ "changeSource": "INTEGRATION", "sourceId": "999" })), other);
    assert_eq!(author(&plain(), json!({ "changeSource": "INTEGRATION" })), None);
    assert_eq!(author(&plain(), json!({ "changeSource": null })), None);
    let named = hubspot(&json!({ "app_id": 999 }));
    assert_eq!(author(&named, json!({ "changeSource": "INTEGRATION", "sourceId": "999" })), own);
    assert_eq!(author(&named, json!({ "changeSource": "INTEGRATION", "sourceId": "54321" })), other);
}

#[test]
fn what_a_program_does_or_somebody_to_many_is_told_from_an_edit() {
    let is_background = |more: Value| {
        let rows = receive(&plain(), &event("contact.deletion", &more));
        rows[0].attributes.contains(&Attribute::new("background", "true"))
    };
    for source in ["CRM_UI_BULK_ACTION", "IMPORT", "AUTOMATION_PLATFORM", "WORKFLOWS", "API"] {
        assert!(is_background(json!({ "changeSource": source })), "{source}");
    }
    assert!(is_background(json!({ "changeSource": "INTEGRATION", "sourceId": "999" })), "another app");
    for source in [json!("CRM_UI"), json!("MOBILE_IOS"), json!("what comes next"), Value::Null] {
        assert!(!is_background(json!({ "changeSource": source })), "{source}");
    }
    assert!(!is_background(json!({ "changeSource": "INTEGRATION", "sourceId": "54321" })), "our own write");
    assert!(!is_background(json!({ "changeSource": "INTEGRATION" })), "nobody says whose");
}

#[test]
fn what_is_no_event_is_refused_with_its_place() {
    for (body, place) in [
        ("{", None),
        (r#"{"objectId":1}"#, Some("/subscriptionType")),
        (r#"[{"subscriptionType":"contact.creation"}]"#, Some("/objectId")),
    ] {
        let delivery = Delivery { body: body.as_bytes().to_vec(), ..Delivery::default() };
        assert_eq!(plain().receive(&delivery, &context()).unwrap_err().pointer.as_deref(), place);
    }
}
