//! The Properties API, account information.

use http::Method;
use serde_json::{Value, json};

use crate::setting::{CONTACTS, Setting};

const PROPERTIES: &str = "/crm/v3/properties/contacts";

fn definition(name: &str) -> Value {
    json!({
        "name": name, "label": "External id", "groupName": "contactinformation", "type": "string",
        "fieldType": "text", "hasUniqueValue": true,
    })
}

#[tokio::test]
async fn properties_are_listed_with_their_definitions() {
    let s = Setting::new().await;
    let body = s.get(PROPERTIES).await.body;
    let all = body["results"].as_array().unwrap();
    let find = |name: &str| all.iter().find(|p| p["name"] == name).unwrap();
    assert_eq!(find("email")["hubspotDefined"], true);
    assert_eq!(find("lifecyclestage")["type"], "enumeration");
    assert!(find("lifecyclestage")["options"].as_array().unwrap().iter().any(|o| o["value"] == "customer"));
    assert_eq!(find("lastmodifieddate")["modificationMetadata"]["readOnlyValue"], true);
    assert_eq!(find("hs_email_domain")["calculated"], true);
}

#[tokio::test]
async fn one_property_is_read_or_404() {
    let s = Setting::new().await;
    assert_eq!(s.get(&format!("{PROPERTIES}/email")).await.body["fieldType"], "text");
    assert_eq!(s.get("/crm/properties/2026-09/contacts/email").await.body["fieldType"], "text");
    let reply = s.get(&format!("{PROPERTIES}/nope")).await;
    assert_eq!((reply.status, reply.category()), (404, "OBJECT_NOT_FOUND"));
}

#[tokio::test]
async fn a_custom_property_is_created_used_and_archived() {
    let s = Setting::new().await;
    let reply = s.post(PROPERTIES, definition("ext_id")).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.body["hasUniqueValue"], true);
    assert_eq!(reply.body["hubspotDefined"], false);
    s.contact(json!({ "firstname": "Ann", "ext_id": "e1" })).await;
    let renamed = s.send(Method::PATCH, &format!("{PROPERTIES}/ext_id"), json!({ "label": "Ours" })).await;
    assert_eq!(renamed.body["label"], "Ours");
    assert_eq!(s.delete(&format!("{PROPERTIES}/ext_id")).await.status, 204);
    let reply = s.post(CONTACTS, json!({ "properties": { "firstname": "Bob", "ext_id": "e2" } })).await;
    assert_eq!(reply.code(), "PROPERTY_DOESNT_EXIST");
}

#[tokio::test]
async fn a_property_that_exists_conflicts() {
    let s = Setting::new().await;
    assert_eq!(s.post(PROPERTIES, definition("ext_id")).await.status, 201);
    for name in ["ext_id", "email"] {
        let reply = s.post(PROPERTIES, definition(name)).await;
        assert_eq!((reply.status, reply.category()), (409, "OBJECT_ALREADY_EXISTS"), "{name}");
    }
}

#[tokio::test]
async fn a_definition_must_be_whole_and_fit() {
    let s = Setting::new().await;
    for (member, value) in [
        ("name", json!("Ext Id")),
        ("type", json!("text")),
        ("fieldType", json!("checkbox")),
        ("groupName", Value::Null),
        ("label", Value::Null),
    ] {
        let mut given = definition("ext_id");
        given[member] = value;
        let reply = s.post(PROPERTIES, given).await;
        assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"), "{member}");
    }
}

#[tokio::test]
async fn ten_properties_at_most_are_unique() {
    let s = Setting::new().await;
    for n in 0..10 {
        assert_eq!(s.post(PROPERTIES, definition(&format!("unique_{n}"))).await.status, 201);
    }
    let reply = s.post(PROPERTIES, definition("unique_10")).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
}

#[tokio::test]
async fn custom_unique_values_are_enforced_and_identify() {
    let s = Setting::new().await;
    s.post(PROPERTIES, definition("ext_id")).await;
    let id = s.contact(json!({ "firstname": "Ann", "ext_id": "e1" })).await;
    let reply = s.post(CONTACTS, json!({ "properties": { "firstname": "Bob", "ext_id": "E1" } })).await;
    assert_eq!(
        (reply.status, reply.category(), reply.code()),
        (400, "VALIDATION_ERROR", "CONFLICTING_UNIQUE_VALUE")
    );
    assert!(reply.body["message"].as_str().unwrap().contains(&id.to_string()));
    assert_eq!(s.get(&format!("{CONTACTS}/e1?idProperty=ext_id")).await.id(), id);
    s.patch(id, json!({ "ext_id": "e2" })).await;
    assert_eq!(s.get(&format!("{CONTACTS}/e1?idProperty=ext_id")).await.status, 404);
    s.contact(json!({ "firstname": "Bob", "ext_id": "e1" })).await;
}

#[tokio::test]
async fn account_details_name_portal_zone_and_currency() {
    let s = Setting::with(Default::default(), |new| {
        new.time_zone = Some("Asia/Kolkata".into());
        new.currency = Some("INR".into());
    })
    .await;
    let body = s.get("/account-info/v3/details").await.body;
    assert_eq!(body["portalId"], s.portal());
    assert_eq!(body["timeZone"], "Asia/Kolkata");
    assert_eq!(body["companyCurrency"], "INR");
    assert_eq!(body["utcOffset"], "+05:30");
    assert_eq!(body["utcOffsetMilliseconds"], 19_800_000);
}
