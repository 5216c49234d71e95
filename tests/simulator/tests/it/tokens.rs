//! Tokens, OAuth, scopes.

use http::Method;
use serde_json::json;
use tandem_simulator::control::types::{NewApp, TokenKind};

use crate::setting::{CONTACTS, Setting};

async fn oauth() -> Setting {
    Setting::with(NewApp::default(), |new| new.kind = TokenKind::Oauth).await
}

async fn refresh(s: &Setting, change: &[(&str, &str)]) -> crate::setting::Reply {
    let refresh = s.account.refresh_token.clone().unwrap();
    let mut fields = vec![
        ("grant_type", "refresh_token"),
        ("client_id", s.app.client_id.as_str()),
        ("client_secret", s.app.client_secret.as_str()),
        ("refresh_token", refresh.as_str()),
    ];
    for (name, value) in change {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    s.form("/oauth/v1/token", &fields).await
}

#[tokio::test]
async fn a_missing_or_unknown_token_is_401() {
    let s = Setting::new().await;
    for token in [None, Some("pat-na1-nobody")] {
        let reply = s.raw(Method::GET, CONTACTS, token, None, "").await.unwrap();
        assert_eq!((reply.status, reply.category()), (401, "INVALID_AUTHENTICATION"));
        assert!(reply.body["message"].as_str().unwrap().starts_with("Authentication credentials not found."));
    }
}

#[tokio::test]
async fn an_expired_token_is_401_and_says_so() {
    let s = oauth().await;
    assert_eq!(s.get(CONTACTS).await.status, 200);
    s.control.advance(1_807_000).await.unwrap();
    let reply = s.get(CONTACTS).await;
    assert_eq!((reply.status, reply.category()), (401, "EXPIRED_AUTHENTICATION"));
    let message = reply.body["message"].as_str().unwrap();
    assert!(message.starts_with("The OAuth token used to make this call expired "), "{message}");
    assert!(message.ends_with(" second(s) ago."), "{message}");
}

#[tokio::test]
async fn a_refresh_token_gives_a_new_access_token_and_stays() {
    let s = oauth().await;
    let reply = refresh(&s, &[]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["token_type"], "bearer");
    assert_eq!(reply.body["expires_in"], 1800);
    assert_eq!(reply.body["refresh_token"].as_str(), s.account.refresh_token.as_deref());
    let token = reply.body["access_token"].as_str().unwrap();
    assert_ne!(token, s.account.access_token);
    assert_eq!(s.raw(Method::GET, CONTACTS, Some(token), None, "").await.unwrap().status, 200);
    // The earlier token still works until its own time.
    assert_eq!(s.get(CONTACTS).await.status, 200);
    assert_eq!(refresh(&s, &[]).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_may_be_rotated() {
    let s = oauth().await;
    s.control.set_settings(s.portal(), json!({ "rotateRefreshTokens": true })).await.unwrap();
    let reply = refresh(&s, &[]).await;
    let next = reply.body["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(Some(next.as_str()), s.account.refresh_token.as_deref());
    assert_eq!(refresh(&s, &[]).await.body["status"], "BAD_REFRESH_TOKEN", "the one before is void");
    let again = refresh(&s, &[("refresh_token", &next)]).await;
    assert_eq!(again.status, 200);
    let accounts = s.control.accounts().await.unwrap();
    assert_eq!(accounts[0].refresh_token.as_deref(), again.body["refresh_token"].as_str());
    let mut given = vec![s.account.access_token.as_str()];
    given.extend([&reply, &again].map(|reply| reply.body["access_token"].as_str().unwrap()));
    given.sort_unstable();
    assert_eq!(s.control.tokens(s.portal()).await.unwrap(), given);
}

#[tokio::test]
async fn newer_token_endpoints_say_more() {
    let s = oauth().await;
    let refresh = s.account.refresh_token.clone().unwrap();
    for path in ["/oauth/v3/token", "/oauth/2026-03/token"] {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", s.app.client_id.as_str()),
            ("client_secret", s.app.client_secret.as_str()),
            ("refresh_token", refresh.as_str()),
        ];
        let reply = s.form(path, &fields).await;
        assert_eq!(reply.body["hub_id"], s.portal());
        assert!(reply.body["scopes"].is_array());
        assert_eq!(reply.body["token_use"], "access_token");
    }
}

#[tokio::test]
async fn the_token_endpoint_names_what_is_wrong() {
    let s = oauth().await;
    for (field, code) in [
        ("client_id", "BAD_CLIENT_ID"),
        ("client_secret", "BAD_CLIENT_SECRET"),
        ("refresh_token", "BAD_REFRESH_TOKEN"),
        ("grant_type", "BAD_GRANT_TYPE"),
    ] {
        let reply = refresh(&s, &[(field, "wrong")]).await;
        assert_eq!((reply.status, &reply.body["status"]), (400, &json!(code)), "{field}");
        assert!(reply.body["message"].is_string() && reply.body["correlationId"].is_string());
    }
}

#[tokio::test]
async fn the_token_endpoint_takes_forms_only() {
    let s = oauth().await;
    let reply = s.raw(Method::POST, "/oauth/v1/token", None, Some("application/json"), "{}").await.unwrap();
    assert_eq!(reply.status, 415);
    assert_eq!(s.reasons().await.len(), 1);
}

#[tokio::test]
async fn an_authorisation_code_is_exchanged_once() {
    let s = oauth().await;
    let code = s.control.authorization_code(s.portal()).await.unwrap();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", s.app.client_id.as_str()),
        ("client_secret", s.app.client_secret.as_str()),
        ("redirect_uri", "http://127.0.0.1/callback"),
        ("code", code.as_str()),
    ];
    let reply = s.form("/oauth/v1/token", &fields).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["refresh_token"].as_str(), s.account.refresh_token.as_deref());
    let again = s.form("/oauth/v1/token", &fields).await;
    assert_eq!((again.status, &again.body["status"]), (400, &json!("BAD_AUTH_CODE")));
}

#[tokio::test]
async fn tokens_tell_about_themselves() {
    let s = oauth().await;
    let reply = s
        .raw(Method::GET, &format!("/oauth/v1/access-tokens/{}", s.account.access_token), None, None, "")
        .await;
    let body = reply.unwrap().body;
    assert_eq!(body["hub_id"], s.portal());
    assert_eq!(body["app_id"], s.app.app_id);
    assert_eq!(body["token_type"], "access");
    let refresh = s.account.refresh_token.clone().unwrap();
    let path = format!("/oauth/v1/refresh-tokens/{refresh}");
    let body = s.raw(Method::GET, &path, None, None, "").await.unwrap().body;
    assert_eq!(body["client_id"], s.app.client_id);
    assert_eq!(s.raw(Method::DELETE, &path, None, None, "").await.unwrap().status, 204);
    assert_eq!(s.raw(Method::GET, &path, None, None, "").await.unwrap().status, 404);
    assert_eq!(self::refresh(&s, &[]).await.body["status"], "BAD_REFRESH_TOKEN");
}

#[tokio::test]
async fn a_missing_scope_is_403_and_names_it() {
    let s = Setting::with(NewApp::default(), |new| {
        new.scopes = Some(vec!["crm.objects.contacts.read".into()]);
    })
    .await;
    assert_eq!(s.get(CONTACTS).await.status, 200);
    let reply = s.post(CONTACTS, json!({ "properties": { "firstname": "Ann" } })).await;
    assert_eq!((reply.status, reply.category()), (403, "MISSING_SCOPES"));
    assert_eq!(
        reply.body["errors"][0]["context"]["requiredGranularScopes"],
        json!(["crm.objects.contacts.write"])
    );
    assert_eq!(s.get("/crm/v3/properties/contacts").await.status, 403);
}

#[tokio::test]
async fn a_token_opens_its_own_account_only() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    let other = s.control.create_accounts(&crate::setting::accounts(s.app.app_id)).await.unwrap().remove(0);
    let path = format!("{CONTACTS}/{id}");
    assert_eq!(s.raw(Method::GET, &path, Some(&other.access_token), None, "").await.unwrap().status, 404);
}
