//! Pipedrive: subscriptions, and what becomes of their events.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::pipedrive::control::{PipedriveDeed, PipedriveWebhook};

use crate::pipedrive_setting::{PERSONS, Setting};
use crate::receiver::Receiver;
use crate::setting::until;

const HOOKS: &str = "/api/v1/webhooks";

fn subscription(receiver: &Receiver, action: &str, object: &str) -> Value {
    json!({
        "subscription_url": receiver.url(), "event_action": action, "event_object": object, "name": "Tandem",
        "version": "2.0",
    })
}

/// An account with one subscription to everything about persons.
async fn subscribed(receiver: &Receiver) -> Setting {
    let s = Setting::new().await;
    let reply = s.post(HOOKS, subscription(receiver, "*", "person")).await;
    assert_eq!(reply.status, 201, "{:?}", reply.body);
    s
}

async fn hook(s: &Setting) -> PipedriveWebhook {
    s.control.pipedrive_webhooks(s.company()).await.unwrap().remove(0)
}

/// Waits until no event is on its way.
async fn settled(s: &Setting) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while s.control.pipedrive_counts(s.company()).await.unwrap().webhooks.under_way > 0 {
        assert!(Instant::now() < deadline, "events are under way for too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn subscriptions_are_made_listed_and_removed_over_v1() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    let mut body = subscription(&receiver, "*", "person");
    body["http_auth_user"] = json!("tandem");
    body["http_auth_password"] = json!("secret");
    let reply = s.post(HOOKS, body).await;
    assert_eq!(
        (reply.status, &reply.body["status"], &reply.body["success"]),
        (201, &json!("ok"), &json!(true))
    );
    let made = &reply.body["data"];
    for (member, value) in [
        ("company_id", json!(s.company())),
        ("owner_id", json!(s.account.user_id)),
        ("event_action", json!("*")),
        ("event_object", json!("person")),
        ("subscription_url", json!(receiver.url())),
        ("version", json!("2.0")),
        ("is_active", json!(1)),
        ("type", json!("general")),
        ("http_auth_user", json!("tandem")),
        ("last_http_status", Value::Null),
        ("name", json!("Tandem")),
    ] {
        assert_eq!(made[member], value, "{member}");
    }
    assert_eq!(s.get("/v1/webhooks").await.body["data"], json!([made]));
    let path = format!("{HOOKS}/{}", made["id"]);
    assert_eq!(s.delete(&path).await.status, 200);
    assert_eq!(s.delete(&path).await.status, 404);
    assert_eq!(s.get(HOOKS).await.body["data"], json!([]));
    s.named("Ada").await;
    assert!(receiver.events().is_empty());
}

#[tokio::test]
async fn a_subscription_needs_a_url_an_action_an_object_and_a_name() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    for (member, wrong) in [
        ("subscription_url", json!("tandem")),
        ("subscription_url", json!("https://api.pipedrive.com/v1/webhooks")),
        ("event_action", json!("added")),
        ("event_object", json!("people")),
        ("name", Value::Null),
        ("version", json!("1.0")),
    ] {
        let mut body = subscription(&receiver, "*", "person");
        body[member] = wrong;
        let reply = s.post(HOOKS, body).await;
        assert_eq!((reply.status, &reply.body["data"]), (400, &Value::Null), "{member}");
    }
    assert_eq!(s.reasons().await.len(), 6);
}

#[tokio::test]
async fn a_user_has_forty_subscriptions_at_most() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    for _ in 0..40 {
        assert_eq!(s.post(HOOKS, subscription(&receiver, "create", "person")).await.status, 201);
    }
    assert_eq!(s.post(HOOKS, subscription(&receiver, "create", "person")).await.status, 403);
}

#[tokio::test]
async fn creation_change_and_deletion_are_one_event_each() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    let id = s.person(json!({ "name": "Ada King", "emails": [{ "value": "a@x.org" }] })).await;
    s.control.advance(1_000).await.unwrap();
    s.patch(id, json!({ "name": "Ada Byron", "phones": [{ "value": "1" }] })).await;
    s.patch(id, json!({ "name": "Ada Byron" })).await;
    s.delete(&format!("{PERSONS}/{id}")).await;
    let events = receiver.events();
    let actions: Vec<&Value> = events.iter().map(|event| &event["meta"]["action"]).collect();
    assert_eq!(actions, ["create", "change", "delete"]);
    let created = &events[0]["data"];
    assert_eq!(events[0]["previous"], Value::Null);
    for (member, value) in [
        ("id", json!(id)),
        ("name", json!("Ada King")),
        ("first_name", json!("Ada")),
        ("last_name", json!("King")),
        ("emails", json!([{ "value": "a@x.org", "primary": true, "label": "work" }])),
        ("phones", json!([])),
        ("owner_id", json!(s.account.user_id)),
        ("org_id", Value::Null),
        ("visible_to", json!("3")),
        ("custom_fields", json!({})),
    ] {
        assert_eq!(created[member], value, "{member}");
    }
    assert_eq!(events[1]["data"]["name"], "Ada Byron");
    let before = events[1]["previous"].as_object().unwrap();
    let changed: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(changed, ["last_name", "name", "phones", "update_time"]);
    assert_eq!((&before["name"], &before["phones"]), (&json!("Ada King"), &json!([])));
    assert_eq!((&events[2]["data"], &events[2]["previous"]), (&Value::Null, &events[1]["data"]));
}

#[tokio::test]
async fn an_event_says_what_when_who_and_how_in_its_meta_block() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    let id = s.named("Ada").await;
    let meta = receiver.events()[0]["meta"].clone();
    let hook = hook(&s).await.id;
    for (member, value) in [
        ("action", json!("create")),
        ("entity", json!("person")),
        ("entity_id", json!(id.to_string())),
        ("company_id", json!(s.company().to_string())),
        ("user_id", json!(s.account.user_id.to_string())),
        ("webhook_id", json!(hook.to_string())),
        ("webhook_owner_id", json!(s.account.user_id.to_string())),
        ("permitted_user_ids", json!([s.account.user_id.to_string()])),
        ("version", json!("2.0")),
        ("type", json!("general")),
        ("is_bulk_edit", json!(false)),
        ("change_source", json!("api")),
        ("attempt", json!(1)),
        ("host", json!(format!("{}.pipedrive.com", s.account.company_domain))),
    ] {
        assert_eq!(meta[member], value, "{member}");
    }
    assert!(meta["id"].as_str().unwrap().len() == 36 && meta["correlation_id"].as_str().unwrap().len() == 36);
    assert!(meta["timestamp"].as_str().unwrap().ends_with('Z'));
    assert!(meta.get("merged_to_id").is_none() && meta.get("merged_from_id").is_none());
    s.settings(json!({ "textIds": false })).await;
    s.patch(id, json!({ "name": "Eve" })).await;
    assert_eq!(receiver.events()[1]["meta"]["entity_id"], id);
}

#[tokio::test]
async fn custom_fields_are_told_as_objects_with_their_kind() {
    let receiver = Receiver::start().await;
    let kinds = ["varchar", "double", "monetary", "enum", "set", "daterange", "people", "address"];
    let s = Setting::with(|new| {
        for kind in kinds {
            let mut field = json!({ "field_name": kind, "field_type": kind });
            if ["enum", "set"].contains(&kind) {
                field["options"] = json!([{ "label": "Red" }]);
            }
            new.fields.push(field.as_object().unwrap().clone());
        }
    })
    .await;
    s.post(HOOKS, subscription(&receiver, "*", "*")).await;
    let option = async |kind: &str| {
        let reply = s.get(&format!("/api/v2/personFields/{}", s.key(kind))).await;
        reply.body["data"]["options"][0]["id"].clone()
    };
    let (one, many) = (option("enum").await, option("set").await);
    let custom = json!({
        s.key("varchar"): "a", s.key("double"): 1.5, s.key("monetary"): { "value": 5, "currency": "EUR" },
        s.key("enum"): one, s.key("set"): [many], s.key("people"): 7, s.key("address"): { "value": "Tee 3" },
        s.key("daterange"): { "value": "2024-01-01", "until": "2024-02-01" },
    });
    let id = s.person(json!({ "name": "Ada", "custom_fields": custom })).await;
    let told = receiver.events()[0]["data"]["custom_fields"].clone();
    for (kind, value) in [
        ("varchar", json!({ "type": "varchar", "value": "a" })),
        ("double", json!({ "type": "double", "value": 1.5 })),
        ("monetary", json!({ "type": "monetary", "value": 5, "currency": "EUR" })),
        ("enum", json!({ "type": "enum", "id": one })),
        ("set", json!({ "type": "set", "values": [{ "id": many }] })),
        ("people", json!({ "type": "people", "id": 7 })),
        ("daterange", json!({ "type": "daterange", "from": "2024-01-01", "until": "2024-02-01" })),
    ] {
        assert_eq!(told[s.key(kind)], value, "{kind}");
    }
    assert_eq!(told[s.key("address")]["type"], "address");
    s.patch(id, json!({ "custom_fields": { s.key("double"): null } })).await;
    let event = receiver.events()[1].clone();
    assert_eq!(
        event["previous"]["custom_fields"],
        json!({ s.key("double"): { "type": "double", "value": 1.5 } })
    );
    assert_eq!(event["data"]["custom_fields"][s.key("double")], Value::Null);
}

#[tokio::test]
async fn events_carry_http_basic_and_no_signature() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    let mut body = subscription(&receiver, "create", "person");
    s.post(HOOKS, body.clone()).await;
    body["http_auth_user"] = json!("tandem");
    body["http_auth_password"] = json!("secret");
    s.post(HOOKS, body).await;
    s.named("Ada").await;
    let deliveries = receiver.deliveries();
    let mut shown: Vec<Option<&str>> = deliveries
        .iter()
        .map(|delivery| delivery.headers.get("authorization").map(|value| value.to_str().unwrap()))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [None, Some("Basic dGFuZGVtOnNlY3JldA==")]);
    for delivery in &deliveries {
        assert_eq!(delivery.headers["content-type"], "application/json");
        assert!(delivery.headers.keys().all(|name| !name.as_str().contains("signature")));
    }
}

#[tokio::test]
async fn writes_over_the_api_and_in_the_tool_are_told_apart() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    let id = s.named("Ada").await;
    s.control.pipedrive_person_edits(s.company(), id, json!({ "name": "Eve" })).await.unwrap();
    until("two events", || receiver.events().len() == 2).await;
    let bearer = format!("Bearer {}", s.account.access_token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    s.raw(Method::PATCH, &format!("{PERSONS}/{id}"), &headers, r#"{"name":"Ida"}"#).await.unwrap();
    let sources: Vec<Value> =
        receiver.events().iter().map(|event| event["meta"]["change_source"].clone()).collect();
    assert_eq!(sources, ["api", "app", "api"]);
}

#[tokio::test]
async fn a_merge_is_a_deletion_and_a_change() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    let loser = s.person(json!({ "name": "A", "emails": [{ "value": "a@x.org" }] })).await;
    let survivor = s.named("B").await;
    let path = format!("/api/v1/persons/{loser}/merge");
    assert_eq!(s.send(Method::PUT, &path, json!({ "merge_with_id": survivor })).await.status, 200);
    let events = receiver.events().split_off(2);
    assert_eq!(events.len(), 2);
    let (gone, kept) = (&events[0]["meta"], &events[1]["meta"]);
    assert_eq!((&gone["action"], &gone["entity_id"]), (&json!("delete"), &json!(loser.to_string())));
    assert_eq!((&gone["merged_to_id"], gone.get("merged_from_id")), (&json!(survivor.to_string()), None));
    assert_eq!((&kept["action"], &kept["entity_id"]), (&json!("change"), &json!(survivor.to_string())));
    assert_eq!((&kept["merged_from_id"], kept.get("merged_to_id")), (&json!(loser.to_string()), None));
    assert_eq!(gone["correlation_id"], kept["correlation_id"]);
    assert_eq!(events[1]["data"]["emails"][0]["value"], "a@x.org");
    // By hand in the tool, the same.
    let other = s.named("C").await;
    s.control.pipedrive_person_merges(s.company(), other, survivor).await.unwrap();
    until("the events of the merge", || receiver.events().len() == 7).await;
    assert_eq!(receiver.events()[5]["meta"]["change_source"], "app");
}

#[tokio::test]
async fn an_edit_of_many_in_the_list_says_so() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    let ids = [s.named("A").await, s.named("B").await];
    s.control.pipedrive_bulk_edit(s.company(), &ids, json!({ "visible_to": 7 })).await.unwrap();
    until("four events", || receiver.events().len() == 4).await;
    for event in &receiver.events()[2..] {
        assert_eq!(
            (&event["meta"]["is_bulk_edit"], &event["meta"]["action"]),
            (&json!(true), &json!("change"))
        );
    }
}

#[tokio::test]
async fn only_what_is_subscribed_to_is_told() {
    let receiver = Receiver::start().await;
    let s = Setting::new().await;
    s.post(HOOKS, subscription(&receiver, "delete", "person")).await;
    s.post(HOOKS, subscription(&receiver, "*", "deal")).await;
    let id = s.named("Ada").await;
    s.patch(id, json!({ "name": "Eve" })).await;
    s.delete(&format!("{PERSONS}/{id}")).await;
    let actions: Vec<Value> = receiver.events().iter().map(|event| event["meta"]["action"].clone()).collect();
    assert_eq!(actions, ["delete"]);
}

#[tokio::test]
async fn a_failure_is_tried_again_three_times_with_its_number() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    s.settings(json!({ "retryDelaysMs": [5, 10, 15] })).await;
    receiver.answers(&[
        (500, Duration::ZERO),
        (404, Duration::ZERO),
        (301, Duration::ZERO),
        (503, Duration::ZERO),
    ]);
    s.named("Ada").await;
    settled(&s).await;
    let events = receiver.events();
    let attempts: Vec<&Value> = events.iter().map(|event| &event["meta"]["attempt"]).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert!(events.iter().all(|event| event["meta"]["id"] == events[0]["meta"]["id"]));
    let counts = s.control.pipedrive_counts(s.company()).await.unwrap().webhooks;
    assert_eq!((counts.events, counts.failed, counts.given_up, counts.delivered), (1, 4, 1, 0));
    receiver.answers(&[(500, Duration::ZERO), (204, Duration::ZERO)]);
    s.named("Eve").await;
    settled(&s).await;
    assert_eq!(s.control.pipedrive_counts(s.company()).await.unwrap().webhooks.delivered, 1);
    assert_eq!(s.get(HOOKS).await.body["data"][0]["last_http_status"], 204);
}

#[tokio::test]
async fn a_target_that_is_too_slow_or_absent_has_failed() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    s.settings(json!({ "timeoutMs": 400, "retryDelaysMs": [1, 1, 1] })).await;
    receiver.answers(&[(200, Duration::from_millis(3_000))]);
    s.named("Ada").await;
    settled(&s).await;
    let counts = s.control.pipedrive_counts(s.company()).await.unwrap().webhooks;
    assert_eq!((counts.failed, counts.delivered), (1, 1));
    // Nothing listens there.
    s.settings(json!({ "connectTo": "127.0.0.1:1" })).await;
    s.named("Eve").await;
    settled(&s).await;
    assert_eq!(s.control.pipedrive_counts(s.company()).await.unwrap().webhooks.given_up, 1);
}

#[tokio::test]
async fn ten_failed_first_attempts_ban_for_half_an_hour_and_events_are_lost() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    s.settings(json!({ "retryDelaysMs": [1, 1, 1] })).await;
    // Retries succeed, and do not take a strike back.
    for _ in 0..10 {
        receiver.answers(&[(500, Duration::ZERO)]);
        s.named("Ada").await;
        settled(&s).await;
    }
    assert_eq!((hook(&s).await.strikes, hook(&s).await.banned), (10, true));
    let before = receiver.events().len();
    s.named("Lost").await;
    assert_eq!(s.control.pipedrive_counts(s.company()).await.unwrap().webhooks.banned, 1);
    s.control.advance(29 * 60_000).await.unwrap();
    s.named("Lost too").await;
    s.control.advance(60_000).await.unwrap();
    assert_eq!((hook(&s).await.strikes, hook(&s).await.banned), (0, false));
    s.named("Told").await;
    let events = receiver.events().split_off(before);
    assert_eq!(events.iter().map(|event| &event["data"]["name"]).collect::<Vec<_>>(), ["Told"]);
}

#[tokio::test]
async fn three_days_without_success_remove_a_subscription() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    s.settings(json!({ "retryDelaysMs": [1, 1, 1] })).await;
    let fail = async || {
        receiver.answers(&[(500, Duration::ZERO); 4]);
        s.named("Ada").await;
        settled(&s).await;
    };
    fail().await;
    s.control.advance(86_400_000 * 2).await.unwrap();
    s.named("Told").await;
    s.control.advance(86_400_000 * 2).await.unwrap();
    assert_eq!(hook(&s).await.removed, None, "there was a success in between");
    fail().await;
    s.control.advance(86_400_000).await.unwrap();
    fail().await;
    s.control.advance(86_400_000 * 2).await.unwrap();
    let before = receiver.events().len();
    s.named("Eve").await;
    assert_eq!(hook(&s).await.removed.as_deref(), Some("no successful deliveries on 3 consecutive days"));
    assert_eq!((receiver.events().len(), s.get(HOOKS).await.body["data"].clone()), (before, json!([])));
}

#[tokio::test]
async fn webhooks_leave_before_the_answer_after_it_or_beside_it() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    s.named("Before").await;
    assert_eq!(receiver.events().len(), 1);
    s.settings(json!({ "timing": "after", "afterDelayMs": 300 })).await;
    s.named("After").await;
    assert_eq!(receiver.events().len(), 1);
    until("the event after the answer", || receiver.events().len() == 2).await;
    s.settings(json!({ "timing": "parallel" })).await;
    receiver.answers(&[(200, Duration::from_secs(6))]);
    let start = Instant::now();
    s.named("Parallel").await;
    assert!(start.elapsed() < Duration::from_secs(5));
    until("the event beside the answer", || receiver.events().len() == 3).await;
    // A slow target stops no write for longer than the bound.
    s.settings(json!({ "timing": "before", "beforeBoundMs": 50 })).await;
    receiver.answers(&[(200, Duration::from_secs(6))]);
    let start = Instant::now();
    s.named("Bounded").await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_hundred_events_of_an_account_are_posted_at_once_at_most() {
    let receiver = Receiver::start().await;
    let s = subscribed(&receiver).await;
    receiver.hold(Duration::from_secs(1));
    // The last ones wait longer for their turn than a target may take.
    s.settings(json!({ "timeoutMs": 3_000 })).await;
    let (company_id, name) = (s.company(), json!("Ada"));
    let members = serde_json::Map::from_iter([("name".to_owned(), name)]);
    let deeds = (0..350).map(|_| PipedriveDeed::Create { company_id, members: members.clone() }).collect();
    s.control.pipedrive_people_act(deeds).await.unwrap();
    until("all events", || receiver.events().len() == 350).await;
    settled(&s).await;
    assert_eq!(receiver.most_at_once(), 100);
    let counts = s.control.pipedrive_counts(s.company()).await.unwrap().webhooks;
    assert_eq!((counts.delivered, counts.failed), (350, 0));
}
