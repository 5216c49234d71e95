//! Disturbances on demand.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tandem_simulator::control::types::{FaultKind, FaultOrder, Rewrite, TokenKind};

use crate::receiver::Receiver;
use crate::setting::{CONTACTS, SEARCH, Setting, filter, until};

async fn order(s: &Setting, order: FaultOrder) {
    s.control.order(&order).await.unwrap();
}

async fn records(s: &Setting) -> usize {
    s.control.account_counts(s.portal()).await.unwrap().live
}

fn edit(value: &str) -> std::collections::BTreeMap<String, String> {
    [("city".to_owned(), value.to_owned())].into()
}

#[tokio::test]
async fn ordered_statuses_have_no_effect() {
    let s = Setting::new().await;
    for status in [423, 429, 477, 500, 502, 503, 504] {
        let kind = FaultKind::Status { status, retry_after: (status == 477).then_some(7) };
        order(&s, FaultOrder::new(kind).operation("contacts.create").times(1)).await;
        let reply = s.post(CONTACTS, json!({ "properties": { "firstname": "Ann" } })).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.number("retry-after"), (status == 477).then_some(7));
        assert_eq!(reply.body["status"], "error");
    }
    assert_eq!(records(&s).await, 0);
    s.contact(json!({ "firstname": "Ann" })).await;
    let counts = s.control.account_counts(s.portal()).await.unwrap().operations["contacts.create"];
    assert_eq!((counts.calls, counts.disturbed, counts.throttled), (8, 6, 1));
}

#[tokio::test]
async fn a_reset_before_the_effect_leaves_nothing() {
    let s = Setting::new().await;
    order(&s, FaultOrder::new(FaultKind::ResetBefore).operation("contacts.create").times(1)).await;
    let body = json!({ "properties": { "firstname": "Ann" } }).to_string();
    let token = Some(s.account.access_token.as_str());
    let lost = s.raw(Method::POST, CONTACTS, token, Some("application/json"), &body).await;
    assert!(lost.is_err());
    assert_eq!(records(&s).await, 0);
}

#[tokio::test]
async fn a_write_may_take_effect_and_its_answer_be_lost() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    order(&s, FaultOrder::new(FaultKind::DropAfter).operation("contacts.create").times(1)).await;
    let body = json!({ "properties": { "email": "ann@example.com" } }).to_string();
    let token = Some(s.account.access_token.as_str());
    let lost = s.raw(Method::POST, CONTACTS, token, Some("application/json"), &body).await;
    assert!(lost.is_err());
    assert_eq!(records(&s).await, 1);
    assert_eq!(receiver.of("contact.creation").len(), 1);
    // The repetition finds it.
    let again = s.raw(Method::POST, CONTACTS, token, Some("application/json"), &body).await.unwrap();
    assert_eq!(again.status, 409);
}

#[tokio::test]
async fn an_answer_may_be_withheld_after_the_effect() {
    let s = Setting::new().await;
    let kind = FaultKind::WithholdAfter { ms: 3_600_000 };
    order(&s, FaultOrder::new(kind).operation("contacts.create").times(1)).await;
    let late = s.post(CONTACTS, json!({ "properties": { "firstname": "Ann" } }));
    assert!(tokio::time::timeout(Duration::from_millis(200), late).await.is_err());
    assert_eq!(records(&s).await, 1);
}

#[tokio::test]
async fn latency_comes_first() {
    let s = Setting::new().await;
    order(&s, FaultOrder::new(FaultKind::Latency { ms: 120, jitter_ms: 10 }).times(1)).await;
    let start = Instant::now();
    s.contact(json!({ "firstname": "Ann" })).await;
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_read_may_be_answered_with_any_body() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let other = s.contact(json!({ "firstname": "Bob" })).await;
    let body = b"{\"id\":\"\\ud800\xff".to_vec();
    let kind = FaultKind::AnswerBody { body: body.clone(), object_id: Some(id) };
    let number = s.control.order(&FaultOrder::new(kind)).await.unwrap();
    assert_eq!(s.bytes(&format!("{CONTACTS}/{id}")).await, (200, body.into()));
    assert_eq!(s.get(&format!("{CONTACTS}/{other}")).await.body["properties"]["firstname"], "Bob");
    s.control.withdraw(number).await.unwrap();
    assert_eq!(s.get(&format!("{CONTACTS}/{id}")).await.body["properties"]["firstname"], "Ann");
}

#[tokio::test]
async fn a_token_may_expire_at_any_moment() {
    let s = Setting::with(Default::default(), |new| new.kind = TokenKind::Oauth).await;
    order(&s, FaultOrder::new(FaultKind::ExpireToken).times(1)).await;
    for _ in 0..2 {
        let reply = s.get(CONTACTS).await;
        assert_eq!((reply.status, reply.category()), (401, "EXPIRED_AUTHENTICATION"));
    }
    let s = Setting::new().await;
    s.control.expire_token(s.portal()).await.unwrap();
    assert_eq!(s.get(CONTACTS).await.category(), "INVALID_AUTHENTICATION");
}

#[tokio::test]
async fn an_automation_rewrites_and_touches_the_modification_time() {
    let s = Setting::new().await;
    let kind = |in_response| FaultKind::Automation {
        property: "phone".into(),
        rewrite: Rewrite::PhonePlus,
        in_response,
    };
    order(&s, FaultOrder::new(kind(false)).operation("contacts.*").times(2)).await;
    let reply =
        s.post(CONTACTS, json!({ "properties": { "firstname": "Ann", "phone": "(49) 228-1" } })).await;
    assert_eq!(reply.body["properties"]["phone"], "(49) 228-1");
    let id = reply.id();
    assert_eq!(s.read(id, "phone").await["properties"]["phone"], "+492281");
    let before = s.read(id, "phone").await["updatedAt"].clone();
    s.control.advance(1_000).await.unwrap();
    s.patch(id, json!({ "phone": "49 228 2" })).await;
    let after = s.read(id, "phone").await;
    assert_eq!(after["properties"]["phone"], "+492282");
    assert_ne!(after["updatedAt"], before);
    // Some rewrite before they answer.
    order(&s, FaultOrder::new(kind(true)).times(1)).await;
    assert_eq!(s.patch(id, json!({ "phone": "49 3" })).await.body["properties"]["phone"], "+493");
    let history = s.get(&format!("{CONTACTS}/{id}?propertiesWithHistory=phone")).await.body;
    assert_eq!(history["propertiesWithHistory"]["phone"][0]["sourceType"], "AUTOMATION_PLATFORM");
}

#[tokio::test]
async fn a_person_may_edit_between_a_read_and_a_write() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let (id, other) =
        (s.contact(json!({ "firstname": "Ann" })).await, s.contact(json!({ "firstname": "Bob" })).await);
    let kind = FaultKind::PersonEditAfterRead { properties: edit("Ulm {n}"), object_id: Some(id) };
    order(&s, FaultOrder::new(kind).times(1)).await;
    s.read(other, "city").await;
    assert_eq!(s.read(id, "city").await["properties"]["city"], json!(null));
    let edited = s.read(id, "city").await["properties"]["city"].as_str().unwrap().to_owned();
    assert!(edited.starts_with("Ulm ") && !edited.contains('{'), "{edited}");
    until("the person's event", || receiver.events().iter().any(|e| e["changeSource"] == "CRM_UI")).await;
}

#[tokio::test]
async fn an_edit_of_another_property_may_appear_in_a_writes_answer() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let kind = FaultKind::PersonEditInWrite { properties: edit("Ulm"), object_id: None };
    order(&s, FaultOrder::new(kind).operation("contacts.update").times(1)).await;
    let reply = s.patch(id, json!({ "phone": "1" })).await;
    assert_eq!(reply.body["properties"]["phone"], "1");
    assert_eq!(reply.body["properties"]["city"], "Ulm");
    let history = s.get(&format!("{CONTACTS}/{id}?propertiesWithHistory=city")).await.body;
    assert_eq!(history["propertiesWithHistory"]["city"][0]["sourceType"], "CRM_UI");
}

#[tokio::test]
async fn a_frozen_index_shows_stale_rows_until_it_thaws() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com", "city": "Bonn" })).await;
    s.settings(json!({ "indexFrozen": true })).await;
    s.patch(id, json!({ "city": "Ulm" })).await;
    let new = s.contact(json!({ "firstname": "Bob" })).await;
    s.control.advance(3_600_000).await.unwrap();
    let rows = s.post(SEARCH, json!({ "properties": ["city"] })).await.body;
    assert_eq!(crate::setting::ids(&rows), [id]);
    assert_eq!(rows["results"][0]["properties"]["city"], "Bonn");
    s.settings(json!({ "indexFrozen": false })).await;
    assert_eq!(s.found(json!({ "filterGroups": [filter("city", "EQ", "ulm")] })).await, [id]);
    assert_eq!(s.found(json!({})).await, [id, new]);
}

#[tokio::test]
async fn webhooks_may_be_lost() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    s.control.set_webhooks(s.app.app_id, json!({ "creationHasPropertyEvents": false })).await.unwrap();
    order(&s, FaultOrder::new(FaultKind::WebhookLost).times(1)).await;
    s.contact(json!({ "firstname": "Ann" })).await;
    s.contact(json!({ "firstname": "Bob" })).await;
    assert_eq!(receiver.events().len(), 1);
    assert_eq!(s.control.app(s.app.app_id).await.unwrap().counts.lost, 1);
}

#[tokio::test]
async fn webhooks_may_be_duplicated_and_delayed() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    s.control.set_webhooks(s.app.app_id, json!({ "creationHasPropertyEvents": false })).await.unwrap();
    order(&s, FaultOrder::new(FaultKind::WebhookDuplicated { delay_ms: 20 }).times(1)).await;
    s.contact(json!({ "firstname": "Ann" })).await;
    until("the copy", || receiver.events().len() == 2).await;
    assert_eq!(receiver.events()[0], receiver.events()[1]);
    order(&s, FaultOrder::new(FaultKind::WebhookDelayed { ms: 200, jitter_ms: 10 }).times(1)).await;
    s.contact(json!({ "firstname": "Bob" })).await;
    // The write did not wait for it.
    assert_eq!(receiver.events().len(), 2);
    until("the late event", || receiver.events().len() == 3).await;
}

#[tokio::test]
async fn webhooks_may_be_reordered() {
    let receiver = Receiver::start().await;
    let s = Setting::with_receiver(&receiver).await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let before = receiver.events().len();
    order(&s, FaultOrder::new(FaultKind::WebhookReordered { window_ms: 200 })).await;
    for n in 0..30 {
        s.patch(id, json!({ "city": n.to_string() })).await;
    }
    until("all events", || receiver.events().len() == before + 30).await;
    let values: Vec<u32> = receiver.events()[before..]
        .iter()
        .map(|e| e["propertyValue"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(!values.is_sorted(), "{values:?}");
    let mut sorted = values;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..30).collect::<Vec<u32>>());
}

#[tokio::test]
async fn disturbances_are_for_one_account_and_can_be_withdrawn() {
    let s = Setting::new().await;
    let other = s.control.create_accounts(&crate::setting::accounts(s.app.app_id)).await.unwrap().remove(0);
    let kind = FaultKind::Status { status: 503, retry_after: None };
    let id = s.control.order(&FaultOrder::new(kind).portal(other.portal_id)).await.unwrap();
    assert_eq!(s.get(CONTACTS).await.status, 200);
    let there =
        async || s.raw(Method::GET, CONTACTS, Some(&other.access_token), None, "").await.unwrap().status;
    assert_eq!(there().await, 503);
    assert_eq!(s.control.faults().await.unwrap().faults[0].fired, 1);
    s.control.withdraw(id).await.unwrap();
    assert_eq!(there().await, 200);
}
