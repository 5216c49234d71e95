//! Salesforce: OAuth, sessions, versions and resources.

use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use http::Method;
use serde_json::json;
use sha2::Sha256;
use tandem_simulator::control::salesforce::NewSalesforceOrgs;

use crate::salesforce_setting::{Force, Reply};

const TOKEN: &str = "/services/oauth2/token";

async fn refresh(f: &Force, token: &str) -> Reply {
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", f.org.client_id.as_str()),
        ("client_secret", f.org.client_secret.as_str()),
    ];
    f.form(TOKEN, &fields).await
}

/// A read of the org's limits with a token: its status.
async fn status_of(f: &Force, token: &str) -> u16 {
    let url = format!("{}/services/data/v60.0/limits", f.simulator.api_url());
    f.raw(Method::GET, &url, &[("authorization", format!("Bearer {token}").as_str())], "")
        .await
        .unwrap()
        .status
}

fn text<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.body[name].as_str().unwrap_or_else(|| panic!("{name}: {:?}", reply.body))
}

#[tokio::test]
async fn a_refresh_gives_a_session_and_an_instance_and_does_not_say_for_how_long() {
    let f = Force::new().await;
    let reply = refresh(&f, &f.org.refresh_token).await;
    assert_eq!(reply.status, 200);
    let names: Vec<&String> = reply.body.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["access_token", "signature", "scope", "instance_url", "id", "token_type", "issued_at"]
    );
    assert_eq!((text(&reply, "token_type"), text(&reply, "instance_url")), ("Bearer", f.simulator.api_url()));
    assert!(text(&reply, "access_token").starts_with(&format!("{}!", &f.org.organization_id[..15])));
    let id = format!("{}/id/{}/{}", f.simulator.api_url(), f.org.organization_id, f.org.api_user_id);
    assert_eq!(text(&reply, "id"), id);
    let mut mac = Hmac::<Sha256>::new_from_slice(f.org.client_secret.as_bytes()).unwrap();
    mac.update(format!("{id}{}", text(&reply, "issued_at")).as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(text(&reply, "signature"), signature);
    assert_eq!(status_of(&f, text(&reply, "access_token")).await, 200);
    assert_eq!(refresh(&f, &f.org.refresh_token).await.status, 200, "the refresh token stays");
}

#[tokio::test]
async fn a_refresh_token_may_rotate_and_an_old_one_ends_everything() {
    let f = Force::with(|new| new.settings.rotate_refresh_tokens = true).await;
    let first = refresh(&f, &f.org.refresh_token).await;
    let second = refresh(&f, text(&first, "refresh_token")).await;
    assert_eq!(second.status, 200);
    assert_ne!(text(&first, "refresh_token"), text(&second, "refresh_token"));
    let reused = refresh(&f, &f.org.refresh_token).await;
    assert_eq!((reused.status, text(&reused, "error")), (400, "invalid_grant"));
    assert_eq!(text(&reused, "error_description"), "expired access/refresh token");
    assert_eq!(refresh(&f, text(&second, "refresh_token")).await.status, 400);
    assert_eq!(status_of(&f, text(&second, "access_token")).await, 401);
}

#[tokio::test]
async fn client_credentials_and_passwords_give_sessions() {
    let f = Force::new().await;
    let url = format!("{}{TOKEN}", f.simulator.api_url());
    let pair = format!("{}:{}", f.org.client_id, f.org.client_secret);
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let reply = f.raw(Method::POST, &url, &headers, "grant_type=client_credentials").await.unwrap();
    assert_eq!((reply.status, reply.body.get("refresh_token")), (200, None));
    assert_eq!(status_of(&f, text(&reply, "access_token")).await, 200);
    let password = |word: String| {
        let f = &f;
        async move {
            let fields = [
                ("grant_type", "password"),
                ("client_id", f.org.client_id.as_str()),
                ("client_secret", f.org.client_secret.as_str()),
                ("username", f.org.username.as_str()),
                ("password", word.as_str()),
            ];
            f.form(TOKEN, &fields).await
        }
    };
    assert_eq!(password(f.org.password.clone()).await.status, 200);
    let wrong = password("guess".to_owned()).await;
    assert_eq!(
        (wrong.status, text(&wrong, "error"), text(&wrong, "error_description")),
        (400, "invalid_grant", "authentication failure")
    );
    assert_eq!(f.reasons().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_token_endpoint_names_what_is_wrong() {
    let f = Force::new().await;
    let (id, secret) = (f.org.client_id.as_str(), f.org.client_secret.as_str());
    let token = ("refresh_token", f.org.refresh_token.as_str());
    let grant = ("grant_type", "refresh_token");
    for (fields, error) in [
        (vec![grant, token, ("client_id", "who"), ("client_secret", secret)], "invalid_client_id"),
        (vec![grant, token, ("client_id", id), ("client_secret", "guess")], "invalid_client"),
        (vec![grant, token, ("client_id", id)], "invalid_client"),
        (vec![grant, ("refresh_token", "x"), ("client_id", id), ("client_secret", secret)], "invalid_grant"),
        (
            vec![("grant_type", "magic"), ("client_id", id), ("client_secret", secret)],
            "unsupported_grant_type",
        ),
    ] {
        let reply = f.form(TOKEN, &fields).await;
        assert_eq!((reply.status, text(&reply, "error")), (400, error), "{fields:?}");
        assert!(reply.body["error_description"].is_string());
    }
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_goes_on_when_it_is() {
    let f = Force::new().await;
    assert_eq!(f.get("/limits").await.status, 200);
    for _ in 0..3 {
        f.control.advance(3_700_000).await.unwrap();
        assert_eq!(f.get("/limits").await.status, 200);
    }
    f.control.advance(7_200_000).await.unwrap();
    let reply = f.get("/limits").await;
    assert_eq!(
        reply.body,
        json!([{ "message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID" }])
    );
    assert_eq!(reply.status, 401);
    assert_eq!(status_of(&f, "unknown").await, 401);
    let fresh = refresh(&f, &f.org.refresh_token).await;
    f.control.expire_salesforce_sessions(f.number()).await.unwrap();
    assert_eq!(status_of(&f, text(&fresh, "access_token")).await, 401);
}

#[tokio::test]
async fn a_session_opens_its_own_org_only() {
    let f = Force::new().await;
    f.contact(json!({ "LastName": "Own", "Key__c": "k" })).await;
    let other = f.control.create_salesforce_orgs(&NewSalesforceOrgs::default()).await.unwrap().remove(0);
    let url = format!("{}/services/data/v60.0/query?q=SELECT+COUNT()+FROM+Contact", f.simulator.api_url());
    let bearer = format!("OAuth {}", other.access_token);
    let reply = f.raw(Method::GET, &url, &[("authorization", bearer.as_str())], "").await.unwrap();
    assert_eq!(reply.body["totalSize"], 0);
    assert_eq!(f.query("SELECT COUNT() FROM Contact").await.body["totalSize"], 1);
}

#[tokio::test]
async fn an_org_with_an_address_of_its_own_answers_there_only() {
    let mut f = Force::new().await;
    let port = f.simulator.api_url().rsplit(':').next().unwrap().to_owned();
    let instance = format!("http://localhost:{port}");
    let new = NewSalesforceOrgs {
        instance: Some(instance.clone()),
        client_id: Some(f.org.client_id.clone()),
        client_secret: Some(f.org.client_secret.clone()),
        ..NewSalesforceOrgs::default()
    };
    f.org = f.control.create_salesforce_orgs(&new).await.unwrap().remove(0);
    let reply = refresh(&f, &f.org.refresh_token).await;
    assert_eq!(text(&reply, "instance_url"), instance);
    let token = text(&reply, "access_token").to_owned();
    assert_eq!(status_of(&f, &token).await, 401, "this is the login host");
    let url = format!("{instance}/services/data/v60.0/limits");
    let there =
        f.raw(Method::GET, &url, &[("authorization", format!("Bearer {token}").as_str())], "").await.unwrap();
    assert_eq!(there.status, 200);
}

#[tokio::test]
async fn a_session_says_who_it_belongs_to() {
    let f = Force::new().await;
    let ask = async |url: String, token: &str| {
        f.raw(Method::GET, &url, &[("authorization", format!("Bearer {token}").as_str())], "").await.unwrap()
    };
    let info = format!("{}/services/oauth2/userinfo", f.simulator.api_url());
    let reply = ask(info.clone(), &f.org.access_token).await;
    assert_eq!(
        (text(&reply, "organization_id"), text(&reply, "user_id")),
        (&*f.org.organization_id, &*f.org.api_user_id)
    );
    assert_eq!(text(&reply, "preferred_username"), f.org.username);
    let resources = f.get("").await;
    let identity = text(&resources, "identity").to_owned();
    let reply = f
        .raw(Method::GET, &format!("{identity}?format=json&oauth_token={}", f.org.access_token), &[], "")
        .await
        .unwrap();
    assert_eq!(
        (text(&reply, "organization_id"), text(&reply, "username")),
        (&*f.org.organization_id, &*f.org.username)
    );
    for url in [info, identity] {
        let reply = ask(url, "unknown").await;
        assert_eq!((reply.status, reply.body), (403, json!("Bad_OAuth_Token")));
    }
}

#[tokio::test]
async fn tokens_are_revoked() {
    let f = Force::new().await;
    let revoke = async |token: &str| f.form("/services/oauth2/revoke", &[("token", token)]).await;
    let fresh = refresh(&f, &f.org.refresh_token).await;
    assert_eq!(revoke(text(&fresh, "access_token")).await.status, 200);
    assert_eq!(status_of(&f, text(&fresh, "access_token")).await, 401);
    assert_eq!(f.get("/limits").await.status, 200);
    assert_eq!(revoke(&f.org.refresh_token).await.status, 200);
    assert_eq!(f.get("/limits").await.status, 401);
    assert_eq!(text(&refresh(&f, &f.org.refresh_token).await, "error"), "invalid_grant");
    assert_eq!(
        (revoke("x").await.status, revoke("x").await.body["error"].clone()),
        (400, json!("invalid_token"))
    );
}

#[tokio::test]
async fn versions_are_listed_and_old_ones_gone() {
    let mut f = Force::new().await;
    let url = format!("{}/services/data", f.simulator.api_url());
    let reply = f.raw(Method::GET, &url, &[], "").await.unwrap();
    let list = reply.body.as_array().unwrap();
    assert!(list.len() > 10);
    assert!(
        list.contains(&json!({ "label": "Spring '24", "url": "/services/data/v60.0", "version": "60.0" }))
    );
    let resources = f.get("").await;
    assert_eq!(resources.body["sobjects"], "/services/data/v60.0/sobjects");
    assert_eq!(f.get("/sobjects").await.body["sobjects"][0]["name"], "Contact");
    assert_eq!(f.get("/sobjects/Contact").await.body["objectDescribe"]["keyPrefix"], "003");
    for (version, refusal) in [
        ("v30.0", (410, "UNSUPPORTED_API_VERSION")),
        ("v99.0", (404, "NOT_FOUND")),
        ("v60", (404, "NOT_FOUND")),
    ] {
        f.version = version;
        assert_eq!(f.get("/limits").await.refusal(), refusal);
    }
}

#[tokio::test]
async fn paths_methods_and_bodies_that_are_not_described_are_refused_and_counted() {
    let f = Force::new().await;
    assert_eq!(f.get("//limits").await.refusal(), (404, "NOT_FOUND"));
    assert_eq!(f.get("/sobjects/Unicorn").await.refusal(), (404, "NOT_FOUND"));
    let id = f.contact(json!({})).await;
    let path = format!("/sobjects/Contact/{id}");
    let reply = f.call(Method::PUT, &path, &[], json!({})).await;
    assert_eq!(reply.refusal(), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(reply.message(), "HTTP Method 'PUT' not allowed. Allowed are HEAD,GET,PATCH,DELETE");
    let url = format!("{}/services/data/v60.0{path}", f.simulator.api_url());
    let bearer = format!("Bearer {}", f.org.access_token);
    let send = async |kind: &str, body: &str| {
        let headers = [("authorization", &*bearer), ("content-type", kind)];
        f.raw(Method::PATCH, &url, &headers, body).await.unwrap()
    };
    assert_eq!(send("text/plain", "{}").await.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE"));
    assert_eq!(send("application/json", "{\"Title\":").await.refusal(), (400, "JSON_PARSER_ERROR"));
    assert_eq!(send("application/json", "[]").await.refusal(), (400, "JSON_PARSER_ERROR"));
    assert_eq!(f.get(&format!("{path}?columns=Id")).await.status, 200);
    assert_eq!(
        f.reasons().await,
        [
            "unknown path",
            "unknown path",
            "the path does not have this method",
            "the content type is not application/json",
            "the body is not JSON",
            "the body is not a JSON object",
            "unknown query parameter columns",
        ]
    );
    assert_eq!(f.get(&format!("/query?q={}", "x".repeat(17_000))).await.status, 414);
    assert_eq!(f.control.violations().await.unwrap().listed[0].portal_id, None);
    assert_eq!(f.control.violations().await.unwrap().listed[3].portal_id, Some(f.number()));
    assert_eq!(f.get("/limits/").await.status, 200);
}
