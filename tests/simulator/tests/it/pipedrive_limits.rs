//! Pipedrive: what calls cost and how many are let through.

use http::Method;
use serde_json::json;
use tandem_simulator::pipedrive::control::PipedriveQuota;

use crate::pipedrive_setting::{PERSONS, Setting};

async fn limited(quota: PipedriveQuota) -> Setting {
    Setting::with(|new| new.quota = quota).await
}

#[tokio::test]
async fn each_call_costs_what_the_specification_says() {
    let s = limited(PipedriveQuota { daily: Some(100_000), ..PipedriveQuota::UNLIMITED }).await;
    let id = s.named("Ada").await;
    let person = format!("{PERSONS}/{id}");
    let mut left = s.get(PERSONS).await.number("x-daily-ratelimit-token-remaining").unwrap();
    for (method, path, body, cost) in [
        (Method::GET, person.as_str(), json!(null), 1),
        (Method::GET, PERSONS, json!(null), 10),
        (Method::POST, PERSONS, json!({ "name": "Eve" }), 5),
        (Method::PATCH, person.as_str(), json!({ "name": "Ida" }), 5),
        (Method::GET, "/api/v2/persons/search?term=ada", json!(null), 20),
        (Method::GET, "/api/v2/personFields", json!(null), 10),
        (Method::GET, "/api/v2/personFields/name", json!(null), 1),
        (Method::POST, "/api/v2/personFields", json!({ "field_name": "A", "field_type": "text" }), 5),
        (Method::GET, "/api/v1/users/me", json!(null), 2),
        (Method::GET, "/api/v1/users", json!(null), 20),
        (Method::GET, "/api/v1/recents?since_timestamp=2020-01-01%2000:00:00", json!(null), 20),
        (Method::GET, "/api/v1/webhooks", json!(null), 10),
        (Method::PUT, "/api/v1/persons/2/merge", json!({ "merge_with_id": id }), 40),
        (Method::DELETE, person.as_str(), json!(null), 3),
    ] {
        let reply = s.send(method.clone(), path, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {:?}", reply.body);
        let now = reply.number("x-daily-ratelimit-token-remaining").unwrap();
        assert_eq!(left - now, cost, "{method} {path}");
        left = now;
    }
    let spent = s.control.pipedrive_counts(s.company()).await.unwrap().tokens;
    assert_eq!(spent, 100_000 - left);
}

#[tokio::test]
async fn the_tokens_of_a_day_are_shared_and_come_back_at_midnight() {
    let s = limited(PipedriveQuota { daily: Some(25), ..PipedriveQuota::UNLIMITED }).await;
    for _ in 0..2 {
        assert_eq!(s.get(PERSONS).await.status, 200);
    }
    // The last call may cost more than is left.
    let reply = s.bearer(&s.account.access_token, PERSONS).await;
    assert_eq!((reply.status, reply.number("x-daily-ratelimit-token-remaining")), (200, Some(0)));
    for reply in [s.get("/api/v1/users/me").await, s.bearer(&s.account.access_token, PERSONS).await] {
        assert_eq!((reply.status, reply.number("x-daily-ratelimit-token-remaining")), (429, Some(0)));
    }
    // People in the tool spend nothing.
    s.control.pipedrive_person_creates(s.company(), json!({ "name": "Ada" })).await.unwrap();
    s.control.advance(86_400_000).await.unwrap();
    let reply = s.get(PERSONS).await;
    assert_eq!((reply.status, reply.number("x-daily-ratelimit-token-limit")), (200, Some(25)));
    assert_eq!(reply.number("x-daily-ratelimit-token-remaining"), Some(15));
}

#[tokio::test]
async fn two_seconds_have_room_for_so_many_calls_of_each_kind_of_token() {
    let s = limited(PipedriveQuota { token_burst: 3, oauth_burst: 5, ..PipedriveQuota::UNLIMITED }).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(s.get("/api/v1/users/me").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(s.bearer(&s.account.access_token, "/api/v1/users/me").await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    s.control.advance(2_000).await.unwrap();
    assert_eq!(s.get("/api/v1/users/me").await.status, 200);
}

#[tokio::test]
async fn searches_have_a_window_of_their_own() {
    let s = limited(PipedriveQuota { search_burst: 2, ..PipedriveQuota::UNLIMITED }).await;
    let search = format!("{PERSONS}/search?term=ada");
    for left in [1, 0] {
        let reply = s.get(&search).await;
        assert_eq!((reply.status, reply.number("x-ratelimit-limit")), (200, Some(2)));
        assert_eq!(reply.number("x-ratelimit-remaining"), Some(left));
    }
    assert_eq!(s.get(&search).await.status, 429);
    assert_eq!(s.bearer(&s.account.access_token, &search).await.status, 429);
    assert_eq!(s.get(PERSONS).await.status, 200);
    s.control.advance(2_000).await.unwrap();
    assert_eq!(s.get(&search).await.status, 200);
}

#[tokio::test]
async fn every_answer_says_what_is_left_of_the_window() {
    let s = limited(PipedriveQuota::LITE).await;
    let reply = s.get("/api/v1/users/me").await;
    assert_eq!(
        (reply.number("x-ratelimit-limit"), reply.number("x-ratelimit-remaining")),
        (Some(20), Some(19))
    );
    assert_eq!(reply.number("x-ratelimit-reset"), Some(2));
    let reply = s.bearer(&s.account.access_token, "/api/v1/users/me").await;
    assert_eq!(
        (reply.number("x-ratelimit-limit"), reply.number("x-ratelimit-remaining")),
        (Some(80), Some(79))
    );
    // An answer that is no success says it as well.
    assert_eq!(s.get(&format!("{PERSONS}/9")).await.number("x-ratelimit-remaining"), Some(18));
}

#[tokio::test]
async fn the_headers_of_the_day_may_be_missing() {
    let s = limited(PipedriveQuota::LITE).await;
    assert_eq!(s.get(PERSONS).await.number("x-daily-ratelimit-token-limit"), Some(30_000));
    s.settings(json!({ "dailyHeaders": false })).await;
    let reply = s.get(PERSONS).await;
    assert!(reply.headers.get("x-daily-ratelimit-token-limit").is_none());
    assert!(reply.headers.get("x-daily-ratelimit-token-remaining").is_none());
    assert_eq!(reply.number("x-ratelimit-limit"), Some(20));
}

#[tokio::test]
async fn only_what_is_left_of_the_day_tells_one_429_from_the_other() {
    let s = limited(PipedriveQuota { token_burst: 2, daily: Some(20), ..PipedriveQuota::UNLIMITED }).await;
    for _ in 0..2 {
        s.get("/api/v1/users/me").await;
    }
    let burst = s.get(PERSONS).await;
    assert_eq!((burst.status, burst.number("x-daily-ratelimit-token-remaining")), (429, Some(16)));
    s.control.advance(2_000).await.unwrap();
    for _ in 0..2 {
        s.get(PERSONS).await;
    }
    s.control.advance(2_000).await.unwrap();
    let daily = s.get(PERSONS).await;
    assert_eq!((daily.status, daily.number("x-daily-ratelimit-token-remaining")), (429, Some(0)));
    assert_eq!(burst.body, daily.body);
    assert_eq!((&burst.body["success"], &burst.body["errorCode"]), (&json!(false), &json!(429)));
    assert!(burst.headers.get("retry-after").is_none());
}

#[tokio::test]
async fn a_caller_who_goes_on_after_being_refused_is_shut_out_for_a_while() {
    let s = limited(PipedriveQuota { token_burst: 1, ..PipedriveQuota::UNLIMITED }).await;
    s.settings(json!({ "abuseAfter": 3, "abuseSeconds": 30 })).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(s.get("/api/v1/users/me").await.status);
    }
    assert_eq!(statuses, [200, 429, 429, 429, 403]);
    s.control.advance(20_000).await.unwrap();
    let reply = s.get("/api/v1/users/me").await;
    assert_eq!(
        (reply.status, reply.headers["content-type"].to_str().unwrap()),
        (403, "text/html; charset=UTF-8")
    );
    assert!(reply.raw.starts_with(b"<!DOCTYPE html>"));
    assert!(reply.headers.get("x-ratelimit-limit").is_none());
    s.control.advance(10_000).await.unwrap();
    assert_eq!(s.get("/api/v1/users/me").await.status, 200);
}
