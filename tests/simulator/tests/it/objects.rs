//! Single contacts.

use http::Method;
use serde_json::{Value, json};

use crate::setting::{CONTACTS, Setting, ids};

#[tokio::test]
async fn create_answers_201_with_every_stored_property_and_a_location() {
    let s = Setting::new().await;
    let reply = s
        .post(
            CONTACTS,
            json!({ "properties": { "email": "ann@example.com", "firstname": "Ann" }, "associations": [] }),
        )
        .await;
    assert_eq!(reply.status, 201);
    let body = &reply.body;
    assert!(body["id"].is_string());
    assert_eq!(body["properties"]["email"], "ann@example.com");
    assert_eq!(body["properties"]["hs_object_id"], body["id"]);
    assert_eq!(body["properties"]["hs_object_source"], "INTEGRATION");
    assert_eq!(body["properties"]["lastmodifieddate"], body["updatedAt"]);
    assert_eq!(body["archived"], false);
    let location = reply.headers["location"].to_str().unwrap();
    assert!(location.ends_with(&format!("{CONTACTS}/{}", body["id"].as_str().unwrap())), "{location}");
    let names: Vec<&String> = body["properties"].as_object().unwrap().keys().collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[tokio::test]
async fn ids_are_numeric_strings_beyond_32_bits_and_shared_between_accounts() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    assert!(id > u64::from(u32::MAX));
    let other = s.control.create_accounts(&crate::setting::accounts(s.app.app_id)).await.unwrap().remove(0);
    let there = s.control.person_creates(other.portal_id, &[("email", "bob@example.com")]).await.unwrap();
    assert_eq!(there.id, id);
    assert_eq!(s.read(id, "email").await["properties"]["email"], "ann@example.com");
}

#[tokio::test]
async fn a_create_without_associations_is_taken() {
    let s = Setting::new().await;
    let reply = s.post(CONTACTS, json!({ "properties": { "firstname": "Ann" } })).await;
    assert_eq!(reply.status, 201);
    assert!(s.reasons().await.is_empty());
}

#[tokio::test]
async fn associations_must_have_their_shape_and_a_target() {
    let s = Setting::new().await;
    let properties = json!({ "firstname": "Ann" });
    let well = json!([{ "to": { "id": "1" }, "types": [{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279 }] }]);
    let reply = s.post(CONTACTS, json!({ "properties": properties, "associations": well })).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    assert!(s.reasons().await.is_empty());
    let reply = s.post(CONTACTS, json!({ "properties": properties, "associations": [{ "id": 1 }] })).await;
    assert_eq!(reply.status, 400);
    assert_eq!(s.reasons().await.len(), 1);
}

#[tokio::test]
async fn a_contact_needs_an_address_or_a_name() {
    let s = Setting::new().await;
    let reply = s.post(CONTACTS, json!({ "properties": { "phone": "1" } })).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    for name in ["firstname", "lastname"] {
        s.contact(json!({ name: "Ann" })).await;
    }
}

#[tokio::test]
async fn a_body_without_properties_is_refused() {
    let s = Setting::new().await;
    let reply = s.post(CONTACTS, json!({ "email": "ann@example.com" })).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    let reasons = s.reasons().await;
    assert!(reasons.iter().any(|r| r.contains("unknown member /email")), "{reasons:?}");
    assert!(reasons.iter().any(|r| r.contains("properties is missing")), "{reasons:?}");
}

#[tokio::test]
async fn new_contacts_become_leads_unless_a_stage_is_given() {
    let s = Setting::new().await;
    let lead = s.contact(json!({ "firstname": "Ann" })).await;
    assert_eq!(s.read(lead, "lifecyclestage").await["properties"]["lifecyclestage"], "lead");
    let customer = s.contact(json!({ "firstname": "Bob", "lifecyclestage": "customer" })).await;
    assert_eq!(s.read(customer, "lifecyclestage").await["properties"]["lifecyclestage"], "customer");
    s.settings(json!({ "defaultLead": false })).await;
    let none = s.contact(json!({ "firstname": "Cid" })).await;
    assert_eq!(s.read(none, "lifecyclestage").await["properties"]["lifecyclestage"], Value::Null);
}

#[tokio::test]
async fn the_lifecycle_stage_only_moves_forward_until_it_is_cleared() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann", "lifecyclestage": "customer" })).await;
    let back = s.patch(id, json!({ "lifecyclestage": "lead", "city": "Bonn" })).await;
    assert_eq!(back.status, 200);
    assert_eq!(back.body["properties"]["lifecyclestage"], "customer");
    assert_eq!(back.body["properties"]["city"], "Bonn");
    s.patch(id, json!({ "lifecyclestage": "" })).await;
    let again = s.patch(id, json!({ "lifecyclestage": "lead" })).await;
    assert_eq!(again.body["properties"]["lifecyclestage"], "lead");
}

#[tokio::test]
async fn a_duplicate_address_conflicts_and_names_the_existing_contact() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    let reply = s.post(CONTACTS, json!({ "properties": { "email": " ANN@example.com" } })).await;
    assert_eq!((reply.status, reply.category()), (409, "CONFLICT"));
    assert_eq!(reply.body["message"], format!("Contact already exists. Existing ID: {id}"));
    let other = s.contact(json!({ "email": "bob@example.com" })).await;
    let reply = s.patch(other, json!({ "email": "ann@example.com" })).await;
    assert_eq!((reply.status, reply.category()), (409, "CONFLICT"));
    // Its own address is no conflict.
    assert_eq!(s.patch(id, json!({ "email": "ANN@example.com" })).await.status, 200);
}

#[tokio::test]
async fn errors_have_the_published_members() {
    let s = Setting::new().await;
    let reply = s.post(CONTACTS, json!({ "properties": { "email": "a@b.de", "nope": "1" } })).await;
    assert_eq!(reply.status, 400);
    let body = &reply.body;
    assert_eq!(body["status"], "error");
    assert_eq!(body["category"], "VALIDATION_ERROR");
    assert_eq!(body["correlationId"].as_str().unwrap().len(), 36);
    assert_eq!(body["correlationId"].as_str(), reply.headers["x-hubspot-correlation-id"].to_str().ok());
    let message = body["message"].as_str().unwrap();
    let list = message.strip_prefix("Property values were not valid: ").unwrap();
    let list: Value = serde_json::from_str(list).unwrap();
    assert_eq!(list[0]["isValid"], false);
    assert_eq!(list[0]["name"], "nope");
    assert_eq!(list[0]["error"], "PROPERTY_DOESNT_EXIST");
    assert_eq!(body["errors"][0]["context"]["propertyName"][0], "nope");
    assert_eq!(reply.headers["content-type"], "application/json;charset=utf-8");
}

#[tokio::test]
async fn a_read_shows_defaults_or_what_is_asked_for() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com", "phone": "+49 228 1" })).await;
    let body = s.get(&format!("{CONTACTS}/{id}")).await.body;
    let names: Vec<&str> = body["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"]);
    assert_eq!(body["properties"]["firstname"], Value::Null);
    // A comma list and repetition; what is unset is null, what is unknown is left out.
    let body = s.get(&format!("{CONTACTS}/{id}?properties=phone,zip&properties=nope")).await.body;
    let names: Vec<&str> = body["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["createdate", "hs_object_id", "lastmodifieddate", "phone", "zip"]);
    assert_eq!(body["properties"]["phone"], "+49 228 1");
    assert_eq!(body["properties"]["zip"], Value::Null);
}

#[tokio::test]
async fn a_contact_is_read_by_a_unique_property_only() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann+x@example.com" })).await;
    let reply = s.get(&format!("{CONTACTS}/Ann%2Bx%40example.com?idProperty=email")).await;
    assert_eq!((reply.status, reply.id()), (200, id));
    let reply = s.get(&format!("{CONTACTS}/Ann?idProperty=firstname")).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    assert_eq!(s.get(&format!("{CONTACTS}/nobody@example.com?idProperty=email")).await.status, 404);
}

#[tokio::test]
async fn an_unknown_id_is_404_without_a_category() {
    let s = Setting::new().await;
    for reply in [s.get(&format!("{CONTACTS}/12345")).await, s.patch(12345, json!({ "city": "Bonn" })).await]
    {
        assert_eq!(reply.status, 404);
        assert_eq!(reply.body["message"], "resource not found");
        assert!(reply.body.get("category").is_none());
    }
}

#[tokio::test]
async fn an_id_that_is_no_number_is_404_object_not_found() {
    let s = Setting::new().await;
    let reply = s.get(&format!("{CONTACTS}/abc")).await;
    assert_eq!((reply.status, reply.category()), (404, "OBJECT_NOT_FOUND"));
    assert_eq!(reply.body["context"]["id"][0], "abc");
}

#[tokio::test]
async fn history_has_old_values_newest_first_with_their_source() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com", "city": "Bonn" })).await;
    s.patch(id, json!({ "city": "Ulm" })).await;
    s.control.person_edits(s.portal(), id, &[("city", "Kiel")]).await.unwrap();
    let body = s.get(&format!("{CONTACTS}/{id}?propertiesWithHistory=city")).await.body;
    let rows = body["propertiesWithHistory"]["city"].as_array().unwrap();
    let values: Vec<&str> = rows.iter().map(|row| row["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["Kiel", "Ulm", "Bonn"]);
    assert_eq!(rows[0]["sourceType"], "CRM_UI");
    assert_eq!(rows[1]["sourceType"], "INTEGRATION");
    assert_eq!(rows[1]["sourceId"], s.app.app_id.to_string());
    assert!(rows[0]["timestamp"].is_string());
}

#[tokio::test]
async fn a_patch_writes_what_it_names_and_answers_with_the_whole_record() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com", "city": "Bonn" })).await;
    let reply = s.patch(id, json!({ "phone": "1" })).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["properties"]["city"], "Bonn");
    assert_eq!(reply.body["properties"]["phone"], "1");
    let by_email = s
        .send(
            Method::PATCH,
            &format!("{CONTACTS}/ann@example.com?idProperty=email"),
            json!({ "properties": { "phone": "2" } }),
        )
        .await;
    assert_eq!((by_email.status, by_email.id()), (200, id));
}

#[tokio::test]
async fn an_empty_value_clears() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com", "city": "Bonn" })).await;
    let reply = s.patch(id, json!({ "city": "", "email": "" })).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body["properties"].get("city").is_none());
    assert_eq!(s.read(id, "city,hs_email_domain").await["properties"]["hs_email_domain"], Value::Null);
    // The address is free again.
    s.contact(json!({ "email": "ann@example.com" })).await;
}

#[tokio::test]
async fn an_empty_patch_is_refused() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let reply = s.patch(id, json!({})).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    assert_eq!(reply.body["message"], "No properties found to update, please provide at least one.");
}

#[tokio::test]
async fn a_write_that_changes_nothing_leaves_the_modification_time() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let before = s.read(id, "firstname").await;
    s.control.advance(5_000).await.unwrap();
    let same = s.patch(id, json!({ "firstname": "Ann" })).await;
    assert_eq!(same.body["updatedAt"], before["updatedAt"]);
    let other = s.patch(id, json!({ "firstname": "Anna" })).await;
    assert_ne!(other.body["updatedAt"], before["updatedAt"]);
    assert_eq!(other.body["createdAt"], before["createdAt"]);
}

#[tokio::test]
async fn a_refused_write_changes_nothing() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let before = s.read(id, "firstname,city").await;
    let reply = s.patch(id, json!({ "firstname": "Bea", "city": "Ulm", "nope": "1" })).await;
    assert_eq!(reply.status, 400);
    assert_eq!(s.read(id, "firstname,city").await, before);
}

#[tokio::test]
async fn an_archive_is_204_and_may_be_repeated() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    let path = format!("{CONTACTS}/{id}");
    for _ in 0..2 {
        let reply = s.delete(&path).await;
        assert_eq!((reply.status, &reply.body), (204, &Value::Null));
    }
    assert_eq!(s.get(&path).await.status, 404);
    assert_eq!(s.patch(id, json!({ "city": "Ulm" })).await.status, 404);
    let archived = s.get(&format!("{path}?archived=true")).await;
    assert_eq!(archived.status, 200);
    assert_eq!(archived.body["archived"], true);
    assert!(archived.body["archivedAt"].is_string());
}

#[tokio::test]
async fn an_archived_contact_gives_its_address_up() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    s.delete(&format!("{CONTACTS}/{id}")).await;
    let again = s.contact(json!({ "email": "ann@example.com" })).await;
    assert_ne!(again, id);
    // So it cannot come back while another has it.
    assert!(s.control.person_restores(s.portal(), id).await.is_err());
    s.delete(&format!("{CONTACTS}/{again}")).await;
    assert_eq!(s.control.person_restores(s.portal(), id).await.unwrap().id, id);
    assert_eq!(s.get(&format!("{CONTACTS}/{id}")).await.status, 200);
}

#[tokio::test]
async fn a_list_walks_all_contacts_by_id() {
    let s = Setting::new().await;
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(s.contact(json!({ "firstname": format!("n{n}") })).await);
    }
    let (mut seen, mut path) = (Vec::new(), format!("{CONTACTS}?limit=3"));
    loop {
        let body = s.get(&path).await.body;
        seen.extend(ids(&body));
        let Some(next) = body["paging"]["next"]["after"].as_str() else { break };
        assert!(body["paging"]["next"]["link"].as_str().unwrap().contains(next));
        path = format!("{CONTACTS}?limit=3&after={next}");
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_list_has_ten_rows_by_default_and_a_hundred_at_most() {
    let s = Setting::new().await;
    for n in 0..11 {
        s.contact(json!({ "firstname": format!("n{n}") })).await;
    }
    assert_eq!(ids(&s.get(CONTACTS).await.body).len(), 10);
    assert_eq!(s.get(&format!("{CONTACTS}?limit=100")).await.status, 200);
    for limit in ["101", "0", "many"] {
        let reply = s.get(&format!("{CONTACTS}?limit={limit}")).await;
        assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"), "{limit}");
    }
    assert_eq!(s.reasons().await.len(), 3);
}

#[tokio::test]
async fn archived_contacts_are_listed_apart() {
    let s = Setting::new().await;
    let (kept, gone) =
        (s.contact(json!({ "firstname": "a" })).await, s.contact(json!({ "firstname": "b" })).await);
    s.delete(&format!("{CONTACTS}/{gone}")).await;
    assert_eq!(ids(&s.get(CONTACTS).await.body), [kept]);
    assert_eq!(ids(&s.get(&format!("{CONTACTS}?archived=true")).await.body), [gone]);
}

#[tokio::test]
async fn archived_is_taken_in_any_case_and_anything_else_is_false_and_counted() {
    let s = Setting::new().await;
    let (kept, gone) =
        (s.contact(json!({ "firstname": "a" })).await, s.contact(json!({ "firstname": "b" })).await);
    s.delete(&format!("{CONTACTS}/{gone}")).await;
    for (given, listed) in [("True", gone), ("TRUE", gone), ("False", kept), ("false", kept)] {
        assert_eq!(ids(&s.get(&format!("{CONTACTS}?archived={given}")).await.body), [listed], "{given}");
    }
    assert!(s.reasons().await.is_empty());
    assert_eq!(ids(&s.get(&format!("{CONTACTS}?archived=1")).await.body), [kept]);
    assert_eq!(s.get(&format!("{CONTACTS}/{gone}?archived=1")).await.status, 404);
    assert_eq!(s.reasons().await.len(), 2);
}

#[tokio::test]
async fn a_merge_makes_a_new_record_to_which_both_ids_lead() {
    let s = Setting::new().await;
    let first = s.contact(json!({ "email": "ann@example.com", "city": "Bonn" })).await;
    let second = s.contact(json!({ "email": "ann@work.example", "city": "Ulm", "phone": "1" })).await;
    let merge = json!({ "primaryObjectId": first.to_string(), "objectIdToMerge": second.to_string() });
    let reply = s.post(&format!("{CONTACTS}/merge"), merge).await;
    assert_eq!(reply.status, 200);
    let id = reply.id();
    assert!(id != first && id != second);
    let properties = &reply.body["properties"];
    assert_eq!(properties["email"], "ann@example.com");
    assert_eq!(properties["city"], "Bonn");
    assert_eq!(properties["phone"], "1");
    assert_eq!(properties["hs_additional_emails"], "ann@work.example");
    assert_eq!(properties["hs_merged_object_ids"], format!("{first};{second}"));
    for old in [first, second] {
        assert_eq!(s.get(&format!("{CONTACTS}/{old}")).await.id(), id);
    }
    assert_eq!(s.patch(second, json!({ "zip": "5" })).await.id(), id);
    // The second address still belongs to it.
    let reply = s.post(CONTACTS, json!({ "properties": { "email": "ann@work.example" } })).await;
    assert_eq!(reply.body["message"], format!("Contact already exists. Existing ID: {id}"));
    assert_eq!(ids(&s.get(CONTACTS).await.body), [id]);
}

#[tokio::test]
async fn a_merge_may_keep_the_primary_id_as_before_2025() {
    let s = Setting::new().await;
    s.settings(json!({ "mergeMakesNewRecord": false })).await;
    let (first, second) =
        (s.contact(json!({ "firstname": "a" })).await, s.contact(json!({ "firstname": "b" })).await);
    let merge = json!({ "primaryObjectId": first.to_string(), "objectIdToMerge": second.to_string() });
    assert_eq!(s.post(&format!("{CONTACTS}/merge"), merge.clone()).await.id(), first);
    assert_eq!(s.get(&format!("{CONTACTS}/{second}")).await.id(), first);
    assert_eq!(s.post(&format!("{CONTACTS}/merge"), merge).await.status, 400);
    let missing = json!({ "primaryObjectId": "1", "objectIdToMerge": "2" });
    assert_eq!(s.post(&format!("{CONTACTS}/merge"), missing).await.status, 404);
}

#[tokio::test]
async fn an_erased_contact_is_gone_for_good() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    let body = json!({ "objectId": "ann@example.com", "idProperty": "email" });
    assert_eq!(s.post(&format!("{CONTACTS}/gdpr-delete"), body.clone()).await.status, 204);
    assert_eq!(s.get(&format!("{CONTACTS}/{id}?archived=true")).await.status, 404);
    assert!(s.control.person_restores(s.portal(), id).await.is_err());
    assert_eq!(s.post(&format!("{CONTACTS}/gdpr-delete"), body).await.status, 204);
}

#[tokio::test]
async fn dated_versions_and_other_names_of_the_object_serve_the_same() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "ann@example.com" })).await;
    let wanted = s.get(&format!("{CONTACTS}/{id}")).await.body;
    for base in ["/crm/objects/2026-03/contacts", "/crm/objects/2026-09/contacts", "/crm/objects/2026-09/0-1"]
    {
        assert_eq!(s.get(&format!("{base}/{id}")).await.body, wanted, "{base}");
        let made = s.post(base, json!({ "properties": { "firstname": "x" } })).await;
        assert_eq!(made.status, 201);
    }
    assert_eq!(s.get(&format!("/crm/objects/2025-01/contacts/{id}")).await.status, 404);
    assert_eq!(s.reasons().await, ["unknown path"]);
}

#[tokio::test]
async fn times_have_milliseconds_only_when_there_are_some() {
    let s = Setting::new().await;
    for _ in 0..40 {
        s.control.advance(7).await.unwrap();
        let id = s.contact(json!({ "firstname": "Ann" })).await;
        let body = s.read(id, "createdate").await;
        let at = body["createdAt"].as_str().unwrap();
        assert_eq!(body["properties"]["createdate"], at);
        assert!(at.len() == 24 && at.ends_with('Z') || at.len() == 20, "{at}");
        assert!(!at.ends_with(".000Z"), "{at}");
    }
}

#[tokio::test]
async fn there_is_no_concurrency_control() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "firstname": "Ann" })).await;
    let read = s.get(&format!("{CONTACTS}/{id}")).await;
    assert!(!read.headers.contains_key("etag"));
    assert!(!read.headers.contains_key("last-modified"));
    s.control.person_edits(s.portal(), id, &[("firstname", "Bea")]).await.unwrap();
    // The later write wins, whatever was read.
    assert_eq!(s.patch(id, json!({ "firstname": "Cid" })).await.body["properties"]["firstname"], "Cid");
}
