//! What values are taken, and in which form they are kept.

use serde_json::{Value, json};
use tandem_simulator::control::types::NewApp;

use crate::setting::{CONTACTS, Setting};

fn custom(name: &str, kind: &str, field: &str) -> serde_json::Map<String, Value> {
    let property = json!({
        "name": name, "label": name, "groupName": "contactinformation", "type": kind, "fieldType": field,
        "options": [{ "label": "Red", "value": "red" }, { "label": "Green", "value": "green" }],
    });
    property.as_object().unwrap().clone()
}

async fn setting() -> Setting {
    Setting::with(NewApp::default(), |new| {
        new.properties = vec![
            custom("born", "date", "date"),
            custom("seen", "datetime", "date"),
            custom("score", "number", "number"),
            custom("colours", "enumeration", "checkbox"),
            custom("vip", "bool", "booleancheckbox"),
        ];
    })
    .await
}

/// What the record shows after a write, or the code of the refusal.
async fn written(s: &Setting, id: u64, name: &str, value: &str) -> Result<String, String> {
    let reply = s.patch(id, json!({ name: value })).await;
    if reply.status == 200 {
        Ok(s.read(id, name).await["properties"][name].as_str().unwrap_or("").to_owned())
    } else {
        assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
        Err(reply.code().to_owned())
    }
}

#[tokio::test]
async fn unknown_properties_are_refused_all_at_once() {
    let s = Setting::new().await;
    let reply =
        s.post(CONTACTS, json!({ "properties": { "firstname": "a", "x_one": "1", "x_two": "2" } })).await;
    assert_eq!((reply.status, reply.code()), (400, "PROPERTY_DOESNT_EXIST"));
    assert_eq!(reply.body["errors"].as_array().unwrap().len(), 2);
    assert_eq!(s.control.dump(s.portal()).await.unwrap().records.len(), 0);
}

#[tokio::test]
async fn read_only_properties_are_refused() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    for name in ["hs_object_id", "createdate", "lastmodifieddate", "hs_email_domain"] {
        let reply = s.patch(id, json!({ name: "1" })).await;
        assert_eq!((reply.status, reply.code()), (400, "READ_ONLY_VALUE"), "{name}");
    }
}

#[tokio::test]
async fn addresses_are_lower_cased_and_trimmed() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "  Ann.Lee@Example.COM " })).await;
    let body = s.read(id, "email,hs_email_domain").await;
    assert_eq!(body["properties"]["email"], "ann.lee@example.com");
    assert_eq!(body["properties"]["hs_email_domain"], "example.com");
}

#[tokio::test]
async fn bad_addresses_are_refused() {
    let s = Setting::new().await;
    for email in ["ann", "ann@", "@example.com", "ann@example", "a b@example.com"] {
        let reply = s.post(CONTACTS, json!({ "properties": { "email": email } })).await;
        assert_eq!((reply.status, reply.code()), (400, "INVALID_EMAIL"), "{email}");
    }
}

#[tokio::test]
async fn days_are_kept_as_days_and_must_be_midnight() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    assert_eq!(written(&s, id, "born", "1572480000000").await, Ok("2019-10-31".into()));
    assert_eq!(written(&s, id, "born", "2019-11-01").await, Ok("2019-11-01".into()));
    for wrong in ["1572480000001", "2019-02-30", "01.11.2019", "soon"] {
        assert_eq!(written(&s, id, "born", wrong).await, Err("INVALID_DATE".into()), "{wrong}");
    }
}

#[tokio::test]
async fn instants_are_taken_in_two_forms_and_kept_in_utc() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    assert_eq!(written(&s, id, "seen", "1572480000123").await, Ok("2019-10-31T00:00:00.123Z".into()));
    assert_eq!(written(&s, id, "seen", "2019-10-31T02:00:00+02:00").await, Ok("2019-10-31T00:00:00Z".into()));
    assert_eq!(written(&s, id, "seen", "tomorrow").await, Err("INVALID_DATE".into()));
}

#[tokio::test]
async fn numbers_keep_their_digits_and_must_be_numbers() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    assert_eq!(written(&s, id, "score", "9007199254740993").await, Ok("9007199254740993".into()));
    assert_eq!(written(&s, id, "score", "-1.50").await, Ok("-1.50".into()));
    assert_eq!(written(&s, id, "score", "many").await, Err("INVALID_INTEGER".into()));
}

#[tokio::test]
async fn options_are_checked_with_their_case() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    assert_eq!(written(&s, id, "hs_lead_status", "OPEN").await, Ok("OPEN".into()));
    assert_eq!(written(&s, id, "hs_lead_status", "open").await, Err("INVALID_OPTION".into()));
    assert_eq!(written(&s, id, "hs_language", "de-ch").await, Ok("de-ch".into()));
    assert_eq!(written(&s, id, "vip", "true").await, Ok("true".into()));
    assert_eq!(written(&s, id, "vip", "yes").await, Err("INVALID_OPTION".into()));
}

#[tokio::test]
async fn several_options_are_joined_by_semicolons_and_appended_with_a_leading_one() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    assert_eq!(written(&s, id, "colours", "red").await, Ok("red".into()));
    assert_eq!(written(&s, id, "colours", ";green").await, Ok("red;green".into()));
    assert_eq!(written(&s, id, "colours", "green").await, Ok("green".into()));
    assert_eq!(written(&s, id, "colours", "green;pink").await, Err("INVALID_OPTION".into()));
}

#[tokio::test]
async fn white_space_around_values_that_are_no_text_is_refused() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    for (name, value) in
        [("score", "1 "), ("born", " 2019-10-31"), ("hs_lead_status", "OPEN\u{a0}"), ("colours", "red ")]
    {
        assert_eq!(written(&s, id, name, value).await, Err("LEADING_TRAILING_WHITESPACE".into()), "{name}");
    }
    assert_eq!(written(&s, id, "city", " Bonn ").await, Ok(" Bonn ".into()));
}

#[tokio::test]
async fn a_text_has_65536_characters_at_most() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let longest = "ä".repeat(65_536);
    assert_eq!(written(&s, id, "message", &longest).await, Ok(longest.clone()));
    assert_eq!(written(&s, id, "message", &format!("{longest}x")).await, Err("INVALID_LENGTH".into()));
}

#[tokio::test]
async fn values_that_are_no_strings_are_taken_as_text_and_counted() {
    let s = setting().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let reply = s.patch(id, json!({ "score": 17, "vip": true })).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["properties"]["score"], "17");
    assert_eq!(s.reasons().await.len(), 2);
    assert_eq!(s.patch(id, json!({ "score": [1] })).await.status, 400);
}
