//! Limits.

use serde_json::json;
use tandem_simulator::control::types::{QuotaSizes, TokenKind};

use crate::setting::{CONTACTS, SEARCH, Setting};

async fn limited(kind: TokenKind, quota: Option<QuotaSizes>) -> Setting {
    Setting::with(Default::default(), |new| {
        new.kind = kind;
        new.quota = quota;
    })
    .await
}

#[tokio::test]
async fn a_private_app_has_its_headers() {
    let s = limited(TokenKind::Private, None).await;
    let reply = s.get(CONTACTS).await;
    assert_eq!(reply.number("x-hubspot-ratelimit-daily"), Some(650_000));
    assert_eq!(reply.number("x-hubspot-ratelimit-daily-remaining"), Some(649_999));
    assert_eq!(reply.number("x-hubspot-ratelimit-interval-milliseconds"), Some(10_000));
    assert_eq!(reply.number("x-hubspot-ratelimit-max"), Some(190));
    assert_eq!(reply.number("x-hubspot-ratelimit-remaining"), Some(189));
    assert_eq!(reply.number("x-hubspot-ratelimit-secondly"), Some(19));
    // There is no hint how long to wait.
    assert!(!reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn an_oauth_app_has_no_daily_headers() {
    let s = limited(TokenKind::Oauth, None).await;
    let reply = s.get(CONTACTS).await;
    assert_eq!(reply.number("x-hubspot-ratelimit-max"), Some(110));
    assert!(!reply.headers.contains_key("x-hubspot-ratelimit-daily"));
    assert!(!reply.headers.contains_key("x-hubspot-ratelimit-daily-remaining"));
}

#[tokio::test]
async fn the_burst_is_refused_until_the_window_has_rolled() {
    let quota = QuotaSizes { burst: 20, daily: Some(1000), search: 5 };
    let s = limited(TokenKind::Private, Some(quota)).await;
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(s.get(CONTACTS).await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20);
    let refused = s.get(CONTACTS).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.body["policyName"], "TEN_SECONDLY_ROLLING");
    assert_eq!(refused.body["errorType"], "RATE_LIMIT");
    assert_eq!(refused.body["message"], "You have reached your ten_secondly_rolling limit.");
    assert_eq!(refused.number("x-hubspot-ratelimit-remaining"), Some(0));
    assert!(!refused.headers.contains_key("retry-after"));
    s.control.advance(10_200).await.unwrap();
    assert_eq!(s.get(CONTACTS).await.status, 200);
    let counts = s.control.account_counts(s.portal()).await.unwrap();
    assert_eq!(counts.operations["contacts.list"].throttled, 6);
}

#[tokio::test]
async fn refused_calls_do_not_use_the_quota() {
    let quota = QuotaSizes { burst: 2, daily: Some(1000), search: 5 };
    let s = limited(TokenKind::Private, Some(quota)).await;
    for _ in 0..6 {
        s.get(CONTACTS).await;
    }
    s.control.advance(10_200).await.unwrap();
    let reply = s.get(CONTACTS).await;
    assert_eq!(reply.number("x-hubspot-ratelimit-daily-remaining"), Some(997));
}

#[tokio::test]
async fn a_call_that_is_wrong_counts_like_any_other() {
    let quota = QuotaSizes { burst: 100, daily: Some(1000), search: 5 };
    let s = limited(TokenKind::Private, Some(quota)).await;
    s.get(&format!("{CONTACTS}/5")).await;
    assert_eq!(s.get(CONTACTS).await.number("x-hubspot-ratelimit-remaining"), Some(98));
}

#[tokio::test]
async fn the_day_is_refused_until_midnight_of_the_account() {
    let s = Setting::with(Default::default(), |new| {
        new.quota = Some(QuotaSizes { burst: 1000, daily: Some(3), search: 5 });
        new.time_zone = Some("Australia/Sydney".into());
    })
    .await;
    for _ in 0..3 {
        assert_eq!(s.get(CONTACTS).await.status, 200);
    }
    let refused = s.get(CONTACTS).await;
    assert_eq!((refused.status, &refused.body["policyName"]), (429, &json!("DAILY")));
    assert_eq!(refused.body["message"], "You have reached your daily limit.");
    assert_eq!(refused.number("x-hubspot-ratelimit-daily-remaining"), Some(0));
    // Searches are calls of the day too.
    assert_eq!(s.post(SEARCH, json!({})).await.body["policyName"], "DAILY");
    s.control.advance(86_400_000).await.unwrap();
    assert_eq!(s.get(CONTACTS).await.status, 200);
    assert_eq!(
        s.get("/account-info/v3/api-usage/daily/private-apps").await.body["results"][0]["currentUsage"],
        2
    );
}

#[tokio::test]
async fn searches_are_limited_by_the_second_and_carry_no_headers() {
    let s = limited(TokenKind::Private, None).await;
    // The real clock runs on while searches are sent; a few more than fit into two windows must hit the limit.
    let mut refused = None;
    let mut passed = 0;
    for _ in 0..200 {
        let reply = s.post(SEARCH, json!({})).await;
        assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("x-hubspot-ratelimit")));
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        passed += 1;
    }
    assert!(passed >= 5, "{passed}");
    let refused = refused.expect("a search that is refused");
    assert_eq!(refused.body["policyName"], "SECONDLY");
    assert_eq!(refused.body["message"], "You have reached your secondly limit.");
    // Other calls go on, and the burst window does not know of searches.
    let reply = s.get(CONTACTS).await;
    assert_eq!((reply.status, reply.number("x-hubspot-ratelimit-remaining")), (200, Some(189)));
    s.control.advance(1_100).await.unwrap();
    assert_eq!(s.post(SEARCH, json!({})).await.status, 200);
}

#[tokio::test]
async fn accounts_have_limits_of_their_own() {
    let quota = QuotaSizes { burst: 1, daily: None, search: 5 };
    let s = limited(TokenKind::Private, Some(quota)).await;
    s.get(CONTACTS).await;
    assert_eq!(s.get(CONTACTS).await.status, 429);
    let other = s.control.create_accounts(&crate::setting::accounts(s.app.app_id)).await.unwrap().remove(0);
    let reply = s.raw(http::Method::GET, CONTACTS, Some(&other.access_token), None, "").await.unwrap();
    assert_eq!(reply.status, 200);
    s.control.set_quota(s.portal(), QuotaSizes::UNLIMITED).await.unwrap();
    assert_eq!(s.get(CONTACTS).await.status, 200);
}
