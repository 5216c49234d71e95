//! Pipedrive: API tokens, OAuth, scopes, hosts.

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};
use tandem_simulator::pipedrive::control::NewPipedriveAccounts;

use crate::pipedrive_setting::{PERSONS, Reply, Setting};

const ME: &str = "/api/v1/users/me";

async fn refresh(s: &Setting, token: &str) -> Reply {
    s.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

fn unauthorized(reply: &Reply) {
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.body,
        json!({
            "success": false, "error": "unauthorized access", "errorCode": 401,
            "error_info": "Please check developers.pipedrive.com",
        })
    );
    assert_eq!(reply.headers["x-401-by-gw"], "true");
}

#[tokio::test]
async fn a_missing_or_unknown_token_is_401_from_the_gateway() {
    let s = Setting::new().await;
    unauthorized(&s.raw(Method::GET, ME, &[], "").await.unwrap());
    unauthorized(&s.raw(Method::GET, ME, &[("x-api-token", "nobody")], "").await.unwrap());
    unauthorized(&s.bearer("nobody", ME).await);
    // One kind of token is not the other.
    unauthorized(&s.bearer(&s.account.api_token, ME).await);
    unauthorized(
        &s.raw(Method::GET, ME, &[("x-api-token", s.account.access_token.as_str())], "").await.unwrap(),
    );
}

#[tokio::test]
async fn a_stranger_is_told_nothing_about_paths() {
    let s = Setting::new().await;
    for (method, path) in [(Method::GET, "/api/v2/nothing"), (Method::PUT, PERSONS)] {
        unauthorized(&s.raw(method, path, &[], "").await.unwrap());
    }
    let reply = s.get("/api/v2/nothing").await;
    assert_eq!((reply.status, reply.code()), (404, "ERR_NOT_FOUND"));
    assert_eq!(s.send(Method::PUT, PERSONS, json!({})).await.status, 405);
    assert_eq!(s.reasons().await, ["unknown path", "the path does not have this method"]);
}

#[tokio::test]
async fn a_token_in_the_query_is_taken_and_counted() {
    let s = Setting::new().await;
    for path in [ME, PERSONS] {
        let reply =
            s.raw(Method::GET, &format!("{path}?api_token={}", s.account.api_token), &[], "").await.unwrap();
        assert_eq!(reply.status, 200);
    }
    assert_eq!(s.reasons().await, ["the token is in the query, not in x-api-token"; 2]);
}

#[tokio::test]
async fn an_access_token_ends_after_its_time_and_an_api_token_does_not() {
    let s = Setting::new().await;
    assert_eq!(s.account.expires_in, 3_600);
    assert_eq!(s.bearer(&s.account.access_token, ME).await.status, 200);
    s.control.advance(3_600_000).await.unwrap();
    unauthorized(&s.bearer(&s.account.access_token, ME).await);
    assert_eq!(s.get(ME).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_gives_a_new_access_token_and_the_base_url() {
    let s = Setting::new().await;
    let reply = refresh(&s, &s.account.refresh_token).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let body = &reply.body;
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(3_600)));
    assert_eq!(body["api_domain"], s.simulator.api_url());
    assert!(body["scope"].as_str().unwrap().split(',').any(|scope| scope == "contacts:full"));
    let token = body["access_token"].as_str().unwrap();
    assert_ne!(token, s.account.access_token);
    for token in [token, &s.account.access_token] {
        assert_eq!(s.bearer(token, ME).await.status, 200);
    }
}

#[tokio::test]
async fn a_client_may_show_itself_in_the_form() {
    let s = Setting::new().await;
    let grant = [("grant_type", "refresh_token"), ("refresh_token", s.account.refresh_token.as_str())];
    let client =
        [("client_id", s.account.client_id.as_str()), ("client_secret", s.account.client_secret.as_str())];
    assert_eq!(s.form("/oauth/token", &[], &[grant, client].concat()).await.status, 200);
    let reply = s.form("/oauth/token", &[], &grant).await;
    assert_eq!((reply.status, reply.error()), (400, "invalid_client"));
    assert_eq!(reply.body["message"], "Invalid client: cannot retrieve client credentials");
}

#[tokio::test]
async fn a_refresh_token_stays_and_lasts_sixty_days_after_its_last_use() {
    let s = Setting::new().await;
    for _ in 0..3 {
        for _ in 0..40 {
            s.control.advance(86_400_000).await.unwrap();
        }
        let reply = refresh(&s, &s.account.refresh_token).await;
        assert_eq!(
            (reply.status, reply.body["refresh_token"].as_str()),
            (200, Some(s.account.refresh_token.as_str()))
        );
    }
    for _ in 0..60 {
        s.control.advance(86_400_000).await.unwrap();
    }
    assert_eq!(refresh(&s, &s.account.refresh_token).await.error(), "invalid_grant");
}

#[tokio::test]
async fn a_refresh_token_may_be_rotated() {
    let s = Setting::new().await;
    s.settings(json!({ "rotateRefreshTokens": true })).await;
    let next = refresh(&s, &s.account.refresh_token).await.body["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(next, s.account.refresh_token);
    let reply = refresh(&s, &s.account.refresh_token).await;
    assert_eq!(
        (reply.status, &reply.body["message"]),
        (400, &json!("Invalid grant: refresh_token is invalid"))
    );
    assert_eq!(refresh(&s, &next).await.status, 200);
}

#[tokio::test]
async fn an_authorisation_code_is_exchanged_once_within_five_minutes() {
    let s = Setting::new().await;
    let exchange = async |code: &str| {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", "https://a.example.com/"),
        ];
        s.token(&form).await
    };
    let code = s.control.pipedrive_authorization_code(s.company()).await.unwrap();
    let reply = exchange(&code).await;
    assert_eq!((reply.status, &reply.body["refresh_token"]), (200, &json!(s.account.refresh_token)));
    assert_eq!(exchange(&code).await.error(), "invalid_grant");
    let late = s.control.pipedrive_authorization_code(s.company()).await.unwrap();
    s.control.advance(300_000).await.unwrap();
    assert_eq!(exchange(&late).await.body["message"], "Invalid grant: authorization_code has expired");
    let code = s.control.pipedrive_authorization_code(s.company()).await.unwrap();
    let reply = s.token(&[("grant_type", "authorization_code"), ("code", &code)]).await;
    assert_eq!((reply.status, reply.error()), (400, "invalid_request"));
}

#[tokio::test]
async fn the_token_endpoint_names_what_is_wrong() {
    let s = Setting::new().await;
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let grant = [("grant_type", "refresh_token"), ("refresh_token", s.account.refresh_token.as_str())];
    let wrong = basic(&format!("{}:wrong", s.account.client_id));
    let reply = s.form("/oauth/token", &[("authorization", wrong.as_str())], &grant).await;
    assert_eq!((reply.status, &reply.body["message"]), (400, &json!("Invalid client: client is invalid")));
    assert_eq!(s.token(&[]).await.error(), "invalid_request");
    assert_eq!(s.token(&[("grant_type", "password")]).await.error(), "unsupported_grant_type");
    assert_eq!(refresh(&s, "nobody").await.error(), "invalid_grant");
    // Another app's.
    let other =
        s.control.create_pipedrive_accounts(&NewPipedriveAccounts::default()).await.unwrap().remove(0);
    assert_eq!(refresh(&s, &other.refresh_token).await.error(), "invalid_grant");
    let client = basic(&format!("{}:{}", s.account.client_id, s.account.client_secret));
    let json = [("authorization", client.as_str()), ("content-type", "application/json")];
    let reply = s.raw(Method::POST, "/oauth/token", &json, "{}").await.unwrap();
    assert_eq!(reply.status, 400);
    assert_eq!(s.raw(Method::GET, "/oauth/token", &[], "").await.unwrap().status, 405);
}

#[tokio::test]
async fn tokens_are_revoked() {
    let s = Setting::new().await;
    let client =
        [("client_id", s.account.client_id.as_str()), ("client_secret", s.account.client_secret.as_str())];
    let second =
        refresh(&s, &s.account.refresh_token).await.body["access_token"].as_str().unwrap().to_owned();
    let revoke = async |token: &str| {
        let form = [&client[..], &[("token", token)]].concat();
        assert_eq!(s.form("/oauth/revoke", &[], &form).await.status, 200);
    };
    revoke(&s.account.access_token).await;
    unauthorized(&s.bearer(&s.account.access_token, ME).await);
    assert_eq!(s.bearer(&second, ME).await.status, 200);
    revoke(&s.account.refresh_token).await;
    unauthorized(&s.bearer(&second, ME).await);
    assert_eq!(refresh(&s, &s.account.refresh_token).await.status, 400);
}

#[tokio::test]
async fn an_app_without_the_scope_is_403_and_an_api_token_has_them_all() {
    let s = Setting::with(|new| new.scopes = Some(vec!["base".to_owned(), "contacts:read".to_owned()])).await;
    assert_eq!(s.bearer(&s.account.access_token, PERSONS).await.status, 200);
    assert_eq!(s.bearer(&s.account.access_token, ME).await.status, 200);
    let bearer = format!("Bearer {}", s.account.access_token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let reply = s.raw(Method::POST, PERSONS, &headers, r#"{"name":"Ada"}"#).await.unwrap();
    assert_eq!(
        (reply.status, reply.error(), &reply.body["errorCode"]),
        (403, "Scope and URL mismatch", &json!(403))
    );
    assert_eq!(s.bearer(&s.account.access_token, "/api/v1/webhooks").await.status, 403);
    assert_eq!(s.named("Ada").await, 1);
}

#[tokio::test]
async fn a_company_is_found_at_its_own_host_only() {
    let s = Setting::with(|new| new.count = 2).await;
    let own = &s.account.company_domain;
    let other = s.control.pipedrive_accounts().await.unwrap().remove(1).company_domain;
    let token = ("x-api-token", s.account.api_token.as_str());
    for (host, status) in [(own, 200), (&other, 401)] {
        let named = format!("{host}.pipedrive.com");
        assert_eq!(
            s.raw(Method::GET, ME, &[token, ("host", named.as_str())], "").await.unwrap().status,
            status
        );
        let prefixed = format!("/pipedrive/{host}{ME}");
        assert_eq!(s.raw(Method::GET, &prefixed, &[token], "").await.unwrap().status, status);
    }
}

#[tokio::test]
async fn the_token_endpoint_tells_the_base_url_that_the_account_was_given() {
    let s = Setting::with(|new| new.api_domain = Some("https://acme.pipedrive.com".to_owned())).await;
    let body = refresh(&s, &s.account.refresh_token).await.body;
    assert_eq!(body["api_domain"], "https://acme.pipedrive.com");
    assert_ne!(body["access_token"], Value::Null);
}
