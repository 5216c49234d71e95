//! Webhooks.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::control::types::{NewApp, Subscription, Timing, WebhookSettings};
use tandem_simulator::hubspot::signature;

use crate::receiver::Receiver;
use crate::setting::{CONTACTS, Setting, accounts, until};

/// The example of HubSpot's own page on request validation.
const PUBLISHED_BODY: &str = r#"[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]"#;
const PUBLISHED_SECRET: &str = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";

#[test]
fn the_v1_signature_is_the_published_one() {
    assert_eq!(
        signature::v1(PUBLISHED_SECRET, PUBLISHED_BODY.as_bytes()),
        "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de"
    );
}

#[test]
fn the_v2_and_v3_signatures_are_those_of_independent_tools() {
    // Computed with OpenSSL: `openssl dgst -sha256 [-hmac SECRET -binary | base64]`.
    assert_eq!(
        signature::v2("secret", "POST", "https://example.com/hooks", b"[]"),
        "ccb44829fa5c5bd5bdc061cf7c163414d6a6958f2e219fd57ff9779090a5c30e"
    );
    assert_eq!(
        signature::v3("secret", "POST", "https://example.com/hooks?a=b", b"[]", "1700000000000"),
        "W130LTF9mvm4yleoH6QDPPlQPy/ynKIn/qk8SBcRB2U="
    );
    // Listed characters are decoded before they are signed, others are not.
    let decoded =
        signature::v3("secret", "POST", "https://example.com/a:b@c?d=%20%26", b"[]", "1700000000000");
    let encoded =
        signature::v3("secret", "POST", "https://example.com/a%3Ab%40c?d=%20%26", b"[]", "1700000000000");
    assert_eq!(decoded, encoded);
}

#[tokio::test]
async fn the_webhooks_of_a_write_arrive_before_its_answer() {
    let receiver = Receiver::start().await;
    receiver.hold(Duration::from_millis(30));
    let s = Setting::with_receiver(&receiver).await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    assert_eq!(receiver.of("contact.creation").len(), 1);
    s.patch(id, json!({ "city": "Bonn" })).await;
    assert_eq!(receiver.of("contact.propertyChange").last().unwrap()["propertyValue"], "Bonn");
    s.delete(&format!("{CONTACTS}/{id}")).await;
    assert_eq!(receiver.of("contact.deletion").len(), 1);
}

#[tokio::test]
async fn a_write_waits_for_its_webhooks_within_a_bound() {
    let receiver = Receiver::start().await;
    receiver.hold(Duration::from_secs(3600));
    let s = Setting::with_receiver(&receiver).await;
    s.control.set_webhooks(s.app.app_id, json!({ "beforeBoundMs": 50 })).await.unwrap();
    s.contact(json!({ "email": "ann@example.com" })).await;
    assert_eq!(receiver.of("contact.creation").len(), 1);
}

#[tokio::test]
async fn webhooks_may_leave_after_the_answer_or_beside_it() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    for (n, timing) in [Timing::After, Timing::Parallel].into_iter().enumerate() {
        let members = json!({ "timing": timing, "afterDelayMs": 300 });
        s.control.set_webhooks(s.app.app_id, members).await.unwrap();
        s.contact(json!({ "firstname": "Ann" })).await;
        if timing == Timing::After {
            assert!(receiver.events().is_empty());
        }
        until("the event", || receiver.of("contact.creation").len() == n + 1).await;
    }
}

#[tokio::test]
async fn every_changed_property_is_an_event_of_its_own() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let id = s.contact(json!({ "firstname": "Ann", "city": "Bonn" })).await;
    let before = receiver.events().len();
    s.patch(id, json!({ "city": "Bonn", "zip": "1", "phone": "2", "company": "" })).await;
    let events: Vec<Value> = receiver.events().split_off(before);
    let mut names: Vec<&str> = events.iter().map(|e| e["propertyName"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["phone", "zip"]);
    assert!(events.iter().all(|e| e["subscriptionType"] == "contact.propertyChange"));
    s.patch(id, json!({ "city": "" })).await;
    assert_eq!(receiver.events().last().unwrap()["propertyValue"], "");
}

#[tokio::test]
async fn an_event_has_the_published_members() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let delivery = receiver.deliveries().remove(0);
    assert_eq!(delivery.headers["content-type"], "application/json");
    let event = &delivery.events[0];
    assert_eq!(event["objectId"], id);
    assert_eq!(event["portalId"], s.portal());
    assert_eq!(event["appId"], s.app.app_id);
    assert_eq!(event["subscriptionType"], "contact.creation");
    assert_eq!(event["attemptNumber"], 0);
    assert_eq!(event["changeFlag"], "CREATED");
    for member in ["eventId", "subscriptionId", "occurredAt"] {
        assert!(event[member].is_u64(), "{member}");
    }
    let changed = receiver.of("contact.propertyChange").remove(0);
    assert!(changed["propertyName"].is_string() && changed["propertyValue"].is_string());
}

#[tokio::test]
async fn own_writes_people_and_automations_are_told_apart() {
    use tandem_simulator::control::types::{FaultKind, FaultOrder, Rewrite};
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    s.control.person_edits(s.portal(), id, &[("city", "Ulm")]).await.unwrap();
    let kind =
        FaultKind::Automation { property: "phone".into(), rewrite: Rewrite::PhonePlus, in_response: false };
    s.control.order(&FaultOrder::new(kind)).await.unwrap();
    s.patch(id, json!({ "phone": "1 2" })).await;
    until("the events", || receiver.events().iter().any(|e| e["propertyValue"] == "+12")).await;
    until("the person's event", || receiver.events().iter().any(|e| e["propertyValue"] == "Ulm")).await;
    let source = |value: &str| {
        let events = receiver.events();
        let event = events.iter().find(|e| e["propertyValue"] == value).unwrap();
        (event["changeSource"].clone(), event["sourceId"].clone())
    };
    assert_eq!(source("Ann"), (json!("INTEGRATION"), json!(s.app.app_id.to_string())));
    assert_eq!(source("Ulm"), (json!("CRM_UI"), json!("userId:1")));
    assert_eq!(source("+12").0, "AUTOMATION_PLATFORM");
}

#[tokio::test]
async fn an_edit_of_many_in_the_list_has_a_source_of_its_own() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let ids = [s.contact(json!({ "firstname": "Ann" })).await, s.contact(json!({ "firstname": "Bo" })).await];
    let edited =
        s.control.person_edits_many(s.portal(), &[ids[0], 1, ids[1]], &[("city", "Ulm")]).await.unwrap();
    assert_eq!(edited.ids, [Some(ids[0]), None, Some(ids[1])], "whom nobody knows stops no other");
    assert_eq!(edited.refused.len(), 1, "{:?}", edited.refused);
    s.control.person_edits(s.portal(), ids[0], &[("city", "Bonn")]).await.unwrap();
    let told = |value: &str| -> Vec<_> {
        let events = receiver.events();
        let of_value = events.iter().filter(|event| event["propertyValue"] == value);
        of_value.map(|event| (event["changeSource"].clone(), event["sourceId"].clone())).collect()
    };
    until("both edits are told", || told("Ulm").len() == 2 && told("Bonn").len() == 1).await;
    assert_eq!(told("Ulm"), vec![(json!("CRM_UI_BULK_ACTION"), json!("userId:1")); 2]);
    assert_eq!(told("Bonn"), [(json!("CRM_UI"), json!("userId:1"))]);
}

#[tokio::test]
async fn webhooks_are_signed_over_the_raw_body_and_the_full_url() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    s.contact(json!({ "firstname": "Zoë" })).await;
    let delivery = receiver.deliveries().remove(0);
    let header = |name: &str| delivery.headers[name].to_str().unwrap().to_owned();
    let timestamp = header(signature::TIMESTAMP);
    let wanted = signature::v3(&s.app.client_secret, "POST", &receiver.url(), &delivery.raw, &timestamp);
    assert_eq!(header(signature::SIGNATURE_V3), wanted);
    assert_eq!(header(signature::SIGNATURE), signature::v1(&s.app.client_secret, &delivery.raw));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(now - timestamp.parse::<u128>().unwrap() < 60_000);
}

#[tokio::test]
async fn a_target_behind_a_proxy_is_signed_with_its_public_url() {
    let receiver = Receiver::start().await;
    let webhooks = WebhookSettings {
        target_url: Some("https://sync.example.com/hooks?x=1".into()),
        connect_to: Some(format!("127.0.0.1:{}", receiver.port())),
        ..WebhookSettings::default()
    };
    let s = Setting::with(NewApp { webhooks, ..NewApp::default() }, |_| {}).await;
    s.contact(json!({ "firstname": "Ann" })).await;
    let delivery = receiver.deliveries().remove(0);
    assert_eq!(delivery.headers["host"], "sync.example.com");
    let timestamp = delivery.headers[signature::TIMESTAMP].to_str().unwrap();
    let wanted = signature::v3(
        &s.app.client_secret,
        "POST",
        "https://sync.example.com/hooks?x=1",
        &delivery.raw,
        timestamp,
    );
    assert_eq!(delivery.headers[signature::SIGNATURE_V3], wanted);
}

#[tokio::test]
async fn events_of_all_accounts_of_an_app_share_target_and_arrays() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    s.control
        .set_webhooks(s.app.app_id, json!({ "maxConcurrent": 1, "creationHasPropertyEvents": false }))
        .await
        .unwrap();
    let other = s.control.create_accounts(&accounts(s.app.app_id)).await.unwrap().remove(0).portal_id;
    receiver.answers(&[(200, Duration::from_millis(100))]);
    let portals = [s.portal(), other];
    for n in 0..150 {
        s.control.person_creates(portals[n % 2], &[("firstname", "Ann")]).await.unwrap();
    }
    until("all events", || receiver.events().len() == 150).await;
    let deliveries = receiver.deliveries();
    assert!(deliveries.iter().all(|d| d.events.len() <= 100));
    let mixed = deliveries
        .iter()
        .any(|d| portals.iter().all(|portal| d.events.iter().any(|event| event["portalId"] == *portal)));
    assert!(mixed, "no array had events of both accounts");
}

#[tokio::test]
async fn an_array_has_a_hundred_events_at_most() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let inputs: Vec<Value> =
        (0..100).map(|n| json!({ "properties": { "firstname": format!("n{n}"), "city": "Ulm" } })).collect();
    s.post(&format!("{CONTACTS}/batch/create"), json!({ "inputs": inputs })).await;
    // Creation, first name, city and the default stage of each.
    until("all events", || receiver.events().len() == 400).await;
    let sizes: Vec<usize> = receiver.deliveries().iter().map(|d| d.events.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 100) && sizes.contains(&100), "{sizes:?}");
}

#[tokio::test]
async fn a_failed_delivery_is_repeated_with_a_growing_attempt_number() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let members = json!({ "retryBaseMs": 5, "creationHasPropertyEvents": false });
    s.control.set_webhooks(s.app.app_id, members).await.unwrap();
    receiver.answers(&[(500, Duration::ZERO), (404, Duration::ZERO), (302, Duration::ZERO)]);
    s.contact(json!({ "firstname": "Ann" })).await;
    until("the last attempt", || receiver.events().len() == 4).await;
    let attempts: Vec<Value> = receiver.events().iter().map(|e| e["attemptNumber"].clone()).collect();
    assert_eq!(attempts, [0, 1, 2, 3]);
    let ids: Vec<Value> = receiver.events().iter().map(|e| e["eventId"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[tokio::test]
async fn a_delivery_is_given_up_after_ten_retries() {
    let receiver = Receiver::start().await;
    receiver.answers(&[(503, Duration::ZERO); 40]);
    let s = Setting::with_receiver(&receiver).await;
    let members = json!({ "retryBaseMs": 1, "retryMaxMs": 2, "creationHasPropertyEvents": false });
    s.control.set_webhooks(s.app.app_id, members).await.unwrap();
    s.contact(json!({ "firstname": "Ann" })).await;
    until("eleven attempts", || receiver.events().len() == 11).await;
    for _ in 0..1000 {
        let counts = s.control.app(s.app.app_id).await.unwrap().counts;
        if counts.given_up == 1 {
            assert_eq!((counts.waiting, counts.queued, counts.failed), (0, 0, 11));
            assert_eq!(receiver.events().len(), 11);
            return;
        }
    }
    panic!("it was not given up");
}

#[tokio::test]
async fn a_target_that_is_too_slow_or_absent_is_tried_again() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let members = json!({ "timeoutMs": 50, "retryBaseMs": 5, "creationHasPropertyEvents": false });
    s.control.set_webhooks(s.app.app_id, members).await.unwrap();
    receiver.answers(&[(200, Duration::from_secs(3600))]);
    s.contact(json!({ "firstname": "Ann" })).await;
    until("the second attempt", || receiver.events().len() == 2).await;
    assert_eq!(receiver.events()[1]["attemptNumber"], 1);
    // Nobody listens: the write is answered all the same, and the event arrives once somebody does.
    let members = json!({ "connectTo": "127.0.0.1:1" });
    s.control.set_webhooks(s.app.app_id, members).await.unwrap();
    s.contact(json!({ "firstname": "Bob" })).await;
    s.control.set_webhooks(s.app.app_id, json!({ "connectTo": null })).await.unwrap();
    until("the late event", || receiver.events().len() == 3).await;
}

#[tokio::test]
async fn an_app_is_sent_so_many_requests_at_once_at_most() {
    let receiver = Receiver::start().await;
    receiver.hold(Duration::from_millis(10));
    let s = Setting::with_receiver(&receiver).await;
    let members = json!({ "maxConcurrent": 3, "maxBatch": 1, "creationHasPropertyEvents": false });
    s.control.set_webhooks(s.app.app_id, members).await.unwrap();
    let records = (0..40).map(|n| [("firstname".to_owned(), format!("n{n}"))].into()).collect();
    s.control.person_imports(s.portal(), records, false).await.unwrap();
    until("all events", || receiver.events().len() == 40).await;
    assert_eq!(receiver.most_at_once(), 3);
}

#[tokio::test]
async fn a_creation_has_property_events_unless_switched_off() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    s.contact(json!({ "email": "ann@example.com" })).await;
    let names: Vec<Value> =
        receiver.of("contact.propertyChange").iter().map(|e| e["propertyName"].clone()).collect();
    assert_eq!(names, ["email", "lifecyclestage"]);
    s.control.set_webhooks(s.app.app_id, json!({ "creationHasPropertyEvents": false })).await.unwrap();
    s.contact(json!({ "email": "bob@example.com" })).await;
    assert_eq!(receiver.of("contact.propertyChange").len(), 2);
}

#[tokio::test]
async fn merge_restore_and_erasure_have_their_events() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let first = s.contact(json!({ "firstname": "Ann" })).await;
    let second = s.contact(json!({ "firstname": "Ann", "city": "Ulm" })).await;
    let merge = json!({ "primaryObjectId": first.to_string(), "objectIdToMerge": second.to_string() });
    let id = s.post(&format!("{CONTACTS}/merge"), merge).await.id();
    let event = receiver.of("contact.merge").remove(0);
    assert_eq!(event["primaryObjectId"], first);
    assert_eq!(event["mergedObjectIds"], json!([second]));
    assert_eq!(event["newObjectId"], id);
    assert_eq!(event["numberOfPropertiesMoved"], 1);
    s.delete(&format!("{CONTACTS}/{id}")).await;
    s.control.person_restores(s.portal(), id).await.unwrap();
    until("the restore", || receiver.of("contact.restore").len() == 1).await;
    let erase = json!({ "objectId": id.to_string() });
    s.post(&format!("{CONTACTS}/gdpr-delete"), erase).await;
    assert_eq!(receiver.of("contact.privacyDeletion")[0]["objectId"], id);
    assert_eq!(receiver.of("contact.deletion").len(), 2);
}

#[tokio::test]
async fn only_what_is_subscribed_to_is_sent() {
    let receiver = Receiver::start().await;
    let subscription = |event_type: &str, property: Option<&str>| Subscription {
        id: 0,
        event_type: event_type.into(),
        property_name: property.map(str::to_owned),
        active: true,
        created_at: 0,
    };
    let webhooks = WebhookSettings {
        target_url: Some(receiver.url()),
        subscriptions: Some(vec![
            subscription("contact.deletion", None),
            subscription("contact.propertyChange", Some("city")),
        ]),
        ..WebhookSettings::default()
    };
    let s = Setting::with(NewApp { webhooks, ..NewApp::default() }, |_| {}).await;
    let id = s.contact(json!({ "firstname": "Ann", "city": "Ulm" })).await;
    s.delete(&format!("{CONTACTS}/{id}")).await;
    let events = receiver.events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["propertyName"], "city");
    assert_eq!(events[1]["subscriptionType"], "contact.deletion");
    assert_ne!(events[0]["subscriptionId"], events[1]["subscriptionId"]);
}

#[tokio::test]
async fn an_app_manages_target_and_subscriptions_with_its_developer_key() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    let (app, key) = (s.app.app_id, s.app.developer_key.clone());
    let call = async |method: Method, path: &str, body: Value| {
        let path = format!("/webhooks/v3/{app}/{path}?hapikey={key}");
        s.raw(method, &path, None, Some("application/json"), &body.to_string()).await.unwrap()
    };
    let settings = json!({ "targetUrl": receiver.url(), "throttling": { "maxConcurrentRequests": 7 } });
    let reply = call(Method::PUT, "settings", settings).await;
    assert_eq!(reply.body["throttling"]["maxConcurrentRequests"], 7);
    let new = json!({ "eventType": "contact.propertyChange", "propertyName": "city", "active": false });
    let made = call(Method::POST, "subscriptions", new.clone()).await;
    assert_eq!(made.status, 201);
    assert_eq!(call(Method::POST, "subscriptions", new).await.status, 409);
    let id = made.body["id"].as_str().unwrap().to_owned();
    s.contact(json!({ "firstname": "Ann", "city": "Ulm" })).await;
    assert!(receiver.events().is_empty());
    let one = format!("subscriptions/{id}");
    assert_eq!(call(Method::PATCH, &one, json!({ "active": true })).await.body["active"], true);
    s.contact(json!({ "firstname": "Ann", "city": "Kiel" })).await;
    assert_eq!(receiver.events().len(), 1);
    let batch = json!({ "inputs": [{ "id": id.parse::<u64>().unwrap(), "active": false }] });
    assert_eq!(
        call(Method::POST, "subscriptions/batch/update", batch).await.body["results"][0]["active"],
        false
    );
    let reply =
        s.raw(Method::GET, &format!("/webhooks/v3/{app}/subscriptions?hapikey=no"), None, None, "").await;
    assert_eq!(reply.unwrap().status, 401);
}
