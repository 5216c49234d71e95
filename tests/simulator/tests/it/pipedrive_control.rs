//! Pipedrive: disturbances, people, journals, strict mode, many accounts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::control::client::Portal;
use tandem_simulator::control::types::{FaultKind, FaultOrder, Rewrite, WriteKind, Writer};
use tandem_simulator::pipedrive::control::{NewPipedriveAccounts, PipedriveDeed};

use crate::pipedrive_setting::{PERSONS, Setting};
use crate::receiver::Receiver;
use crate::setting::until;

async fn order(s: &Setting, operation: &str, kind: FaultKind) {
    let order = FaultOrder::new(kind).portal(s.company()).operation(operation).times(1);
    s.control.order(&order).await.unwrap();
}

#[tokio::test]
async fn ordered_statuses_have_no_effect() {
    let s = Setting::new().await;
    for status in [500, 502, 503, 429] {
        order(&s, "persons.create", FaultKind::Status { status, retry_after: Some(7) }).await;
        let reply = s.post(PERSONS, json!({ "name": "Ada" })).await;
        assert_eq!((reply.status, reply.number("retry-after")), (status, Some(7)));
        assert_eq!(reply.body["success"], false);
    }
    order(&s, "persons.*", FaultKind::ResetBefore).await;
    let headers = [("x-api-token", s.account.api_token.as_str()), ("content-type", "application/json")];
    assert!(s.raw(Method::POST, PERSONS, &headers, r#"{"name":"Ada"}"#).await.is_err());
    assert!(s.get(PERSONS).await.ids().is_empty());
    let counts = s.control.pipedrive_counts(s.company()).await.unwrap().operations["persons.create"];
    assert_eq!((counts.calls, counts.throttled, counts.disturbed), (5, 1, 4));
}

#[tokio::test]
async fn a_write_may_take_effect_and_its_answer_be_lost_or_late() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    let hook =
        json!({ "subscription_url": receiver.url(), "event_action": "*", "event_object": "*", "name": "T" });
    s.post("/v1/webhooks", hook).await;
    order(&s, "persons.create", FaultKind::DropAfter).await;
    let headers = [("x-api-token", s.account.api_token.as_str()), ("content-type", "application/json")];
    assert!(s.raw(Method::POST, PERSONS, &headers, r#"{"name":"Ada"}"#).await.is_err());
    assert_eq!((s.get(PERSONS).await.ids(), receiver.events().len()), (vec![1], 1));
    order(&s, "persons.update", FaultKind::WithholdAfter { ms: 80 }).await;
    order(&s, "persons.read", FaultKind::Latency { ms: 80, jitter_ms: 0 }).await;
    let start = Instant::now();
    assert_eq!(s.patch(1, json!({ "name": "Eve" })).await.status, 200);
    assert_eq!(s.read(1).await["name"], "Eve");
    assert!(start.elapsed() >= Duration::from_millis(160));
}

#[tokio::test]
async fn a_token_may_end_at_any_moment() {
    let s = Setting::new().await;
    order(&s, "persons.list", FaultKind::ExpireToken).await;
    assert_eq!(s.bearer(&s.account.access_token, PERSONS).await.status, 401);
    assert_eq!(s.bearer(&s.account.access_token, "/v1/users/me").await.status, 401);
    let form = [("grant_type", "refresh_token"), ("refresh_token", s.account.refresh_token.as_str())];
    let token = s.token(&form).await.body["access_token"].as_str().unwrap().to_owned();
    assert_eq!(s.bearer(&token, PERSONS).await.status, 200);
    s.control.expire_pipedrive_token(s.company()).await.unwrap();
    assert_eq!(s.bearer(&token, PERSONS).await.status, 401);
    let down = FaultKind::Status { status: 503, retry_after: None };
    s.control.order(&FaultOrder::new(down).operation("oauth.token")).await.unwrap();
    assert_eq!(s.token(&form).await.status, 503);
}

#[tokio::test]
async fn people_edit_between_a_read_and_a_write_and_inside_a_write() {
    let s = Setting::new().await;
    let id =
        s.person(json!({ "name": "Ada", "emails": [{ "value": "a@x.org" }, { "value": "b@x.org" }] })).await;
    let properties = BTreeMap::from([("name".to_owned(), "Eve {n}".to_owned())]);
    order(&s, "persons.read", FaultKind::PersonEditAfterRead { properties, object_id: Some(id) }).await;
    assert_eq!(s.read(id).await["name"], "Ada");
    assert!(s.read(id).await["name"].as_str().unwrap().starts_with("Eve "));
    let properties = BTreeMap::from([("email".to_owned(), "c@x.org".to_owned())]);
    order(&s, "persons.update", FaultKind::PersonEditInWrite { properties, object_id: None }).await;
    let reply = s.patch(id, json!({ "name": "Ida" })).await;
    let emails: Vec<&Value> =
        reply.body["data"]["emails"].as_array().unwrap().iter().map(|email| &email["value"]).collect();
    assert_eq!(
        (&reply.body["data"]["name"], emails),
        (&json!("Ida"), vec![&json!("c@x.org"), &json!("b@x.org")])
    );
}

#[tokio::test]
async fn an_automation_rewrites_what_a_write_has_set() {
    let s = Setting::with(|new| {
        new.fields =
            vec![json!({ "field_name": "Code", "field_type": "varchar" }).as_object().unwrap().clone()];
    })
    .await;
    let key = s.key("Code").to_owned();
    for (property, in_response) in [("phone", false), ("Code", true)] {
        let rewrite = if property == "phone" { Rewrite::PhonePlus } else { Rewrite::Upper };
        let kind = FaultKind::Automation { property: property.to_owned(), rewrite, in_response };
        s.control.order(&FaultOrder::new(kind)).await.unwrap();
    }
    let reply = s.post(PERSONS, json!({ "name": "Ada", "phones": [{ "value": "372 5" }] })).await;
    assert_eq!(reply.body["data"]["phones"][0]["value"], "372 5");
    assert_eq!(s.read(1).await["phones"][0]["value"], "+3725");
    let reply = s.patch(1, json!({ "custom_fields": { key.clone(): "abc" } })).await;
    assert_eq!(reply.body["data"]["custom_fields"][&key], "ABC");
    // What people write is rewritten as well; a write of something else is not.
    s.control.pipedrive_person_edits(s.company(), 1, json!({ "phones": [{ "value": "4" }] })).await.unwrap();
    assert_eq!(s.read(1).await["phones"][0]["value"], "+4");
}

#[tokio::test]
async fn webhooks_may_be_lost_late_doubled_and_out_of_order() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    let hook =
        json!({ "subscription_url": receiver.url(), "event_action": "*", "event_object": "*", "name": "T" });
    s.post("/v1/webhooks", hook).await;
    order(&s, "*", FaultKind::WebhookLost).await;
    s.named("Lost").await;
    order(&s, "*", FaultKind::WebhookDuplicated { delay_ms: 10 }).await;
    s.named("Twice").await;
    until("the second copy", || receiver.events().len() == 2).await;
    order(&s, "*", FaultKind::WebhookDelayed { ms: 1_000, jitter_ms: 0 }).await;
    s.named("Late").await;
    s.named("Soon").await;
    until("the late one", || receiver.events().len() == 4).await;
    let names: Vec<Value> = receiver.events().iter().map(|event| event["data"]["name"].clone()).collect();
    assert_eq!(names, ["Twice", "Twice", "Soon", "Late"]);
    s.control.order(&FaultOrder::new(FaultKind::WebhookReordered { window_ms: 400 })).await.unwrap();
    for n in 0..12 {
        s.named(&format!("{n:02}")).await;
    }
    until("the twelve", || receiver.events().len() == 16).await;
    let names: Vec<String> = receiver.events()[4..]
        .iter()
        .map(|event| event["data"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(!names.is_sorted(), "{names:?}");
    assert_eq!(s.control.pipedrive_counts(s.company()).await.unwrap().webhooks.lost, 1);
}

#[tokio::test]
async fn a_read_may_be_answered_with_any_body() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    order(&s, "persons.read", FaultKind::AnswerBody { body: b"{\"data\":".to_vec(), object_id: None }).await;
    assert_eq!(&s.get(&format!("{PERSONS}/{id}")).await.raw[..], b"{\"data\":");
    assert_eq!(s.read(id).await["name"], "Ada");
}

#[tokio::test]
async fn what_the_specification_allows_is_no_violation_and_what_it_does_not_is_counted() {
    let s = Setting::new().await;
    let id = s.person(json!({ "name": "Ada", "emails": [], "label_ids": [] })).await;
    s.get(&format!("{PERSONS}?limit=5&sort_by=update_time&updated_since=2025-01-01T00:00:00Z")).await;
    s.get(&format!("{PERSONS}/search?term=ada&fields=name&exact_match=true")).await;
    s.get(&format!("{PERSONS}/{id}?include_fields=notes_count&custom_fields=a")).await;
    s.patch(id, json!({ "name": "Eve" })).await;
    s.delete(&format!("{PERSONS}/{id}")).await;
    assert!(s.reasons().await.is_empty());
    s.get(&format!("{PERSONS}?start=5")).await;
    s.get(&format!("{PERSONS}?limit=9000")).await;
    assert_eq!(
        s.reasons().await,
        ["unknown query parameter start", "query parameter limit: must be between 1 and 500"]
    );
}

#[tokio::test]
async fn people_act_past_the_limits_and_are_checked_in_many_accounts_at_once() {
    let s = Setting::new().await;
    let new = NewPipedriveAccounts { count: 500, ..NewPipedriveAccounts::default() };
    let others = s.control.create_pipedrive_accounts(&new).await.unwrap();
    assert_eq!(s.control.pipedrive_accounts().await.unwrap().len(), 501);
    let members = json!({ "name": "Ada" }).as_object().unwrap().clone();
    let mut deeds: Vec<PipedriveDeed> = others
        .iter()
        .map(|account| PipedriveDeed::Create { company_id: account.company_id, members: members.clone() })
        .collect();
    let company_id = s.company();
    deeds.push(PipedriveDeed::Create { company_id, members: serde_json::Map::new() });
    deeds.push(PipedriveDeed::Edit { company_id: others[0].company_id, id: 1, members: members.clone() });
    deeds.push(PipedriveDeed::Delete { company_id: others[1].company_id, id: 1 });
    let done = s.control.pipedrive_people_act(deeds).await.unwrap();
    assert_eq!((done.ids.len(), done.ids[500], done.refused.len()), (503, None, 1));
    assert!(done.refused[0].contains("name: Required"), "{:?}", done.refused);
    let sum = s.control.pipedrive_counts(Portal::All).await.unwrap();
    assert_eq!((sum.live, sum.deleted, sum.tokens, sum.total_calls()), (499, 1, 0, 0));
}

#[tokio::test]
async fn an_account_notes_its_calls_and_who_wrote_what_when_it_is_asked_to() {
    let s = Setting::new().await;
    s.named("Unnoted").await;
    s.settings(json!({ "journal": true })).await;
    let id = s.named("Ada").await;
    s.patch(id, json!({ "name": "" })).await;
    s.control.pipedrive_person_edits(s.company(), id, json!({ "name": "Eve" })).await.unwrap();
    s.delete(&format!("{PERSONS}/{id}")).await;
    let writes = s.control.pipedrive_writes(s.company()).await.unwrap();
    let noted: Vec<(WriteKind, Writer, bool)> = writes.iter().map(|w| (w.kind, w.by, w.taken)).collect();
    assert_eq!(
        noted,
        [
            (WriteKind::Create, Writer::Api, true),
            (WriteKind::Update, Writer::Api, false),
            (WriteKind::Update, Writer::Person, true),
            (WriteKind::Delete, Writer::Api, true),
        ]
    );
    assert_eq!((&writes[0].id, &writes[0].members["name"]), (&Some(id.to_string()), &json!("Ada")));
    let calls = s.control.pipedrive_calls(s.company()).await.unwrap();
    let calls: Vec<(&str, Option<u16>)> = calls.iter().map(|c| (c.operation.as_str(), c.status)).collect();
    assert_eq!(
        calls,
        [("persons.create", Some(200)), ("persons.update", Some(400)), ("persons.delete", Some(200))]
    );
}

#[tokio::test]
async fn persons_are_dumped_and_cleared_and_a_reset_forgets_the_accounts() {
    let s = Setting::new().await;
    let (a, b) = (s.named("A").await, s.named("B").await);
    s.delete(&format!("{PERSONS}/{a}")).await;
    let dump = s.control.pipedrive_dump(s.company()).await.unwrap().persons;
    let seen: Vec<(&Value, &Value)> =
        dump.iter().map(|person| (&person["id"], &person["is_deleted"])).collect();
    assert_eq!(seen, [(&json!(a), &json!(true)), (&json!(b), &json!(false))]);
    s.control.clear_pipedrive_account(s.company()).await.unwrap();
    assert!(s.get(PERSONS).await.ids().is_empty());
    s.control.reset().await.unwrap();
    assert_eq!((s.get(PERSONS).await.status, s.control.pipedrive_accounts().await.unwrap().len()), (401, 0));
}

#[tokio::test]
async fn unknown_members_of_control_documents_are_refused_here_too() {
    let s = Setting::new().await;
    assert!(s.control.set_pipedrive_settings(s.company(), json!({ "lag": 1 })).await.is_err());
    assert!(s.control.set_pipedrive_settings(5_u64, json!({})).await.is_err());
    let new = NewPipedriveAccounts { first_company_id: Some(s.company()), ..NewPipedriveAccounts::default() };
    assert!(s.control.create_pipedrive_accounts(&new).await.is_err());
}
