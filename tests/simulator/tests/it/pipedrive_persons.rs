//! Pipedrive: one person of API v2, and what only v1 does with persons.

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::pipedrive::control::NewPipedriveAccounts;

use crate::pipedrive_setting::{PERSONS, Setting};

const DAY: u32 = 86_400_000;

#[tokio::test]
async fn a_create_answers_200_with_the_whole_person() {
    let s = Setting::with(|new| new.organizations = vec!["Acme".to_owned()]).await;
    let given = json!({
        "name": "Ada Lovelace King",
        "org_id": 1,
        "emails": [{ "value": "ada@example.com", "primary": true, "label": "work" }],
        "phones": [{ "value": "+372 1", "primary": false, "label": "home" }],
        "visible_to": 7,
        "label_ids": [2],
    });
    let reply = s.post(PERSONS, given).await;
    assert_eq!((reply.status, &reply.body["success"]), (200, &json!(true)));
    let person = &reply.body["data"];
    for (member, value) in [
        ("id", json!(1)),
        ("name", json!("Ada Lovelace King")),
        ("first_name", json!("Ada")),
        ("last_name", json!("Lovelace King")),
        ("owner_id", json!(s.account.user_id)),
        ("org_id", json!(1)),
        ("emails", json!([{ "value": "ada@example.com", "primary": true, "label": "work" }])),
        ("phones", json!([{ "value": "+372 1", "primary": true, "label": "home" }])),
        ("is_deleted", json!(false)),
        ("visible_to", json!(7)),
        ("label_ids", json!([2])),
        ("picture_id", Value::Null),
        ("custom_fields", json!({})),
    ] {
        assert_eq!(person[member], value, "{member}");
    }
    assert_eq!(s.read(1).await, *person);
    assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
}

#[tokio::test]
async fn ids_are_numbers_that_each_account_counts_alone() {
    let s = Setting::new().await;
    let other =
        s.control.create_pipedrive_accounts(&NewPipedriveAccounts::default()).await.unwrap().remove(0);
    assert_eq!((s.named("A").await, s.named("B").await), (1, 2));
    let headers = [("x-api-token", other.api_token.as_str()), ("content-type", "application/json")];
    let reply = s.raw(Method::POST, PERSONS, &headers, r#"{"name":"C"}"#).await.unwrap();
    assert_eq!(reply.body["data"]["id"], 1);
    assert_eq!(s.read(1).await["name"], "A");
}

#[tokio::test]
async fn a_person_needs_a_name_and_nothing_else() {
    let s = Setting::new().await;
    for body in [json!({}), json!({ "emails": [] }), json!({ "name": " " }), json!({ "name": 3 })] {
        let reply = s.post(PERSONS, body).await;
        assert_eq!((reply.status, &reply.body["code"]), (400, &json!("ERR_SCHEMA_VALIDATION_FAILED")));
        assert!(reply.error().starts_with("Validation failed: name: "), "{}", reply.error());
    }
    assert_eq!(s.named("Ada").await, 1);
    assert_eq!(s.patch(1, json!({ "name": "" })).await.status, 400);
}

#[tokio::test]
async fn both_parts_of_a_name_may_be_given_in_its_place_and_stay_as_they_are() {
    let s = Setting::new().await;
    let id = s.person(json!({ "first_name": "Mary Ann", "last_name": "van der Berg" })).await;
    let named = async |id: u64| {
        let person = s.read(id).await;
        ["name", "first_name", "last_name"].map(|member| person[member].clone())
    };
    assert_eq!(named(id).await, ["Mary Ann van der Berg", "Mary Ann", "van der Berg"]);
    assert_eq!(s.patch(id, json!({ "first_name": "Mary Ann", "last_name": "" })).await.status, 200);
    assert_eq!(named(id).await, [json!("Mary Ann"), json!("Mary Ann"), Value::Null]);
    assert_eq!(s.patch(id, json!({ "first_name": "", "last_name": "Berg" })).await.status, 200);
    assert_eq!(named(id).await, ["Berg", "", "Berg"]);
    // A whole name is taken apart anew.
    assert_eq!(s.patch(id, json!({ "name": "Mary Ann Berg" })).await.status, 200);
    assert_eq!(named(id).await, ["Mary Ann Berg", "Mary", "Ann Berg"]);
    assert_eq!(s.control.violations().await.unwrap().total, 0);
}

#[tokio::test]
async fn one_part_of_a_name_two_empty_ones_or_parts_beside_the_whole_are_refused() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    let before = s.read(id).await;
    for body in [
        json!({ "first_name": "Ada" }),
        json!({ "last_name": "King" }),
        json!({ "first_name": "", "last_name": " " }),
        json!({ "first_name": "Ada", "last_name": null }),
        json!({ "name": "Ada King", "first_name": "Ada", "last_name": "King" }),
    ] {
        let created = s.post(PERSONS, body.clone()).await;
        assert_eq!((created.status, created.code()), (400, "ERR_SCHEMA_VALIDATION_FAILED"), "{body}");
        assert_eq!(s.patch(id, body).await.status, 400);
    }
    assert_eq!(s.read(id).await, before);
}

#[tokio::test]
async fn addresses_are_for_work_and_the_first_is_primary_unless_said_otherwise() {
    let s = Setting::new().await;
    let id =
        s.person(json!({ "name": "A", "emails": [{ "value": "a@x.org" }, { "value": "b@x.org" }] })).await;
    let emails = json!([
        { "value": "a@x.org", "primary": true, "label": "work" },
        { "value": "b@x.org", "primary": false, "label": "work" },
    ]);
    assert_eq!(s.read(id).await["emails"], emails);
    let both = json!([{ "value": "a", "primary": true }, { "value": "b", "primary": true }]);
    let reply = s.patch(id, json!({ "phones": both })).await;
    let primary: Vec<&Value> =
        reply.body["data"]["phones"].as_array().unwrap().iter().map(|phone| &phone["primary"]).collect();
    assert_eq!(primary, [true, false]);
}

#[tokio::test]
async fn lists_of_addresses_are_replaced_whole() {
    let s = Setting::new().await;
    let id =
        s.person(json!({ "name": "A", "emails": [{ "value": "a@x.org" }, { "value": "b@x.org" }] })).await;
    s.patch(id, json!({ "emails": [{ "value": "c@x.org", "label": "home" }] })).await;
    assert_eq!(s.read(id).await["emails"], json!([{ "value": "c@x.org", "primary": true, "label": "home" }]));
    s.patch(id, json!({ "emails": [] })).await;
    assert_eq!(s.read(id).await["emails"], json!([]));
}

#[tokio::test]
async fn two_persons_may_have_the_same_name_and_address() {
    let s = Setting::new().await;
    let ada = json!({ "name": "Ada", "emails": [{ "value": "ada@x.org" }] });
    assert_eq!((s.person(ada.clone()).await, s.person(ada).await), (1, 2));
    assert_eq!(s.found("term=ada@x.org&fields=email&exact_match=true").await, [1, 2]);
}

#[tokio::test]
async fn an_unknown_person_is_404_and_a_text_for_an_id_400() {
    let s = Setting::new().await;
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let reply = s.send(method.clone(), &format!("{PERSONS}/9"), json!({})).await;
        assert_eq!((reply.status, reply.error()), (404, "Person not found"), "{method}");
        assert_eq!(s.send(method, &format!("{PERSONS}/me"), json!({})).await.status, 400);
    }
    assert!(s.reasons().await.contains(&"the id in the path is no number".to_owned()));
}

#[tokio::test]
async fn a_patch_writes_what_it_names_and_answers_with_the_whole_person() {
    let s = Setting::with(|new| {
        new.fields = vec![
            json!({ "field_name": "One", "field_type": "varchar" }).as_object().unwrap().clone(),
            json!({ "field_name": "Two", "field_type": "double" }).as_object().unwrap().clone(),
        ];
    })
    .await;
    let (one, two) = (s.key("One").to_owned(), s.key("Two").to_owned());
    let custom = json!({ one.clone(): "a", two.clone(): 2 });
    let id =
        s.person(json!({ "name": "Ada", "emails": [{ "value": "a@x.org" }], "custom_fields": custom })).await;
    s.control.advance(5_000).await.unwrap();
    let before = s.read(id).await;
    let reply = s.patch(id, json!({ "name": "Eve", "custom_fields": { one.clone(): null } })).await;
    let after = &reply.body["data"];
    assert_eq!((&after["name"], &after["emails"]), (&json!("Eve"), &before["emails"]));
    assert_eq!(after["custom_fields"], json!({ one: null, two: 2 }));
    assert!(after["update_time"].as_str() > before["update_time"].as_str());
    assert_eq!((&after["add_time"], &s.read(id).await), (&before["add_time"], after));
}

#[tokio::test]
async fn a_write_of_nothing_new_leaves_the_time_of_the_last_change() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    let before = s.read(id).await;
    s.control.advance(5_000).await.unwrap();
    for body in [json!({ "name": "Ada" }), json!({})] {
        assert_eq!(s.patch(id, body).await.body["data"], before);
    }
    s.settings(json!({ "touchOnNoChange": true })).await;
    let after = s.patch(id, json!({ "name": "Ada" })).await;
    assert_ne!(after.body["data"]["update_time"], before["update_time"]);
}

#[tokio::test]
async fn a_refused_write_changes_nothing() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    let before = s.read(id).await;
    let reply = s.patch(id, json!({ "name": "Eve", "visible_to": 2 })).await;
    assert_eq!((reply.status, reply.error()), (400, "Validation failed: visible_to: Expected 1, 3, 5 or 7"));
    assert_eq!(s.read(id).await, before);
    assert_eq!(s.post(PERSONS, json!({ "name": "B", "emails": "b@x.org" })).await.status, 400);
    assert_eq!(s.get(PERSONS).await.ids(), [id]);
}

#[tokio::test]
async fn a_member_that_the_specification_does_not_have_is_refused_or_ignored_and_counted() {
    let s = Setting::new().await;
    let reply = s.post(PERSONS, json!({ "name": "Ada", "email": "a@x.org" })).await;
    assert_eq!((reply.status, reply.error()), (400, "Validation failed: email: Unrecognized key"));
    s.settings(json!({ "refuseUnknownMembers": false })).await;
    let id = s.person(json!({ "name": "Ada", "middle_name": "Eve" })).await;
    assert_eq!(s.read(id).await["name"], "Ada");
    // Times of creation can be given only then.
    s.patch(id, json!({ "add_time": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(
        s.reasons().await,
        ["unknown member email", "unknown member middle_name", "unknown member add_time"]
    );
}

#[tokio::test]
async fn members_of_contact_sync_are_403_without_it() {
    let s = Setting::new().await;
    let body = json!({ "name": "Ada", "job_title": "Analyst", "birthday": "1815-12-10" });
    let reply = s.post(PERSONS, body.clone()).await;
    assert_eq!((reply.status, reply.code()), (403, "ERR_FORBIDDEN"));
    s.settings(json!({ "contactSync": true })).await;
    let id = s.person(body).await;
    let person = s.read(id).await;
    assert_eq!(
        (&person["job_title"], &person["birthday"], &person["notes"]),
        (&json!("Analyst"), &json!("1815-12-10"), &Value::Null)
    );
}

#[tokio::test]
async fn times_are_whole_seconds_in_utc() {
    let s = Setting::new().await;
    let id = s.person(json!({ "name": "Ada", "add_time": "2021-01-01T02:00:00.5+02:00" })).await;
    let person = s.read(id).await;
    assert_eq!(person["add_time"], "2021-01-01T00:00:00Z");
    let updated = person["update_time"].as_str().unwrap();
    assert_eq!((updated.len(), &updated[19..]), (20, "Z"));
    assert_eq!(s.post(PERSONS, json!({ "name": "B", "add_time": "2021-01-01" })).await.status, 400);
}

#[tokio::test]
async fn numbers_are_numbers_and_booleans_are_booleans() {
    let s = Setting::new().await;
    for body in [
        json!({ "name": "A", "visible_to": "3" }),
        json!({ "name": "A", "owner_id": "1" }),
        json!({ "name": "A", "label_ids": ["1"] }),
        json!({ "name": "A", "emails": [{ "value": "a@x.org", "primary": 1 }] }),
        json!({ "name": "A", "emails": [{ "value": null }] }),
        json!({ "name": "A", "phones": [{ "value": "1", "kind": "x" }] }),
    ] {
        let reply = s.post(PERSONS, body.clone()).await;
        assert_eq!((reply.status, reply.code()), (400, "ERR_SCHEMA_VALIDATION_FAILED"), "{body}");
    }
}

#[tokio::test]
async fn owners_organizations_and_labels_must_exist() {
    let s = Setting::with(|new| new.organizations = vec!["Acme".to_owned()]).await;
    for body in [json!({ "org_id": 2 }), json!({ "owner_id": 5 }), json!({ "label_ids": [99] })] {
        let mut body = body;
        body["name"] = json!("A");
        assert_eq!(s.post(PERSONS, body).await.status, 400);
    }
    let id = s.person(json!({ "name": "A", "org_id": 1, "owner_id": s.account.user_id })).await;
    s.patch(id, json!({ "org_id": null })).await;
    assert_eq!(s.read(id).await["org_id"], Value::Null);
}

#[tokio::test]
async fn a_deleted_person_is_in_no_list_and_gone_after_thirty_days() {
    let s = Setting::new().await;
    let (id, other) = (s.named("Ada").await, s.named("Eve").await);
    let reply = s.delete(&format!("{PERSONS}/{id}")).await;
    assert_eq!((reply.status, &reply.body), (200, &json!({ "success": true, "data": { "id": id } })));
    assert_eq!(s.get(PERSONS).await.ids(), [other]);
    assert_eq!(s.get(&format!("{PERSONS}?ids={id},{other}")).await.ids(), [other]);
    assert!(s.found("term=Ada").await.is_empty());
    assert_eq!(s.read(id).await["is_deleted"], true);
    for _ in 0..29 {
        s.control.advance(DAY).await.unwrap();
    }
    assert_eq!(s.read(id).await["is_deleted"], true);
    s.control.advance(DAY).await.unwrap();
    assert_eq!(s.get(&format!("{PERSONS}/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_deleted_person_cannot_be_written_and_may_be_404_at_once() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    s.delete(&format!("{PERSONS}/{id}")).await;
    assert_eq!(s.patch(id, json!({ "name": "Eve" })).await.status, 404);
    assert_eq!(s.delete(&format!("{PERSONS}/{id}")).await.status, 404);
    s.settings(json!({ "deletedReadable": false })).await;
    assert_eq!(s.get(&format!("{PERSONS}/{id}")).await.status, 404);
    s.control.pipedrive_person_restores(s.company(), id).await.unwrap();
    assert_eq!(s.read(id).await["name"], "Ada");
    assert_eq!(s.get(PERSONS).await.ids(), [id]);
}

#[tokio::test]
async fn there_is_no_entity_tag_and_no_precondition() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    let path = format!("{PERSONS}/{id}");
    assert!(s.get(&path).await.headers.get("etag").is_none());
    let headers = [
        ("x-api-token", s.account.api_token.as_str()),
        ("content-type", "application/json"),
        ("if-match", "\"never\""),
    ];
    assert_eq!(s.raw(Method::PATCH, &path, &headers, r#"{"name":"Eve"}"#).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_400_and_counted() {
    let s = Setting::new().await;
    let token = ("x-api-token", s.account.api_token.as_str());
    for (media, body) in [("application/json", "{"), ("application/json", "[]"), ("text/plain", "{}")] {
        let reply = s.raw(Method::POST, PERSONS, &[token, ("content-type", media)], body).await.unwrap();
        assert_eq!(reply.status, 400);
    }
    assert_eq!(
        s.reasons().await,
        ["the body is not JSON", "the body is not a JSON object", "the content type is not application/json"]
    );
}

#[tokio::test]
async fn a_merge_keeps_the_one_that_is_merged_with_and_fills_its_gaps() {
    let s = Setting::with(|new| {
        new.fields =
            vec![json!({ "field_name": "One", "field_type": "varchar" }).as_object().unwrap().clone()];
    })
    .await;
    let key = s.key("One").to_owned();
    let loser = s
        .person(json!({ "name": "Loser", "emails": [{ "value": "l@x.org" }, { "value": "s@x.org" }],
            "custom_fields": { key.clone(): "kept" } }))
        .await;
    let survivor = s.person(json!({ "name": "Survivor", "emails": [{ "value": "s@x.org" }] })).await;
    let reply = s
        .send(Method::PUT, &format!("/api/v1/persons/{loser}/merge"), json!({ "merge_with_id": survivor }))
        .await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let merged = &reply.body["data"];
    assert_eq!(
        (&merged["id"], &merged["merge_what_id"], &merged["name"]),
        (&json!(survivor), &json!(loser), &json!("Survivor"))
    );
    let person = s.read(survivor).await;
    let emails: Vec<&str> =
        person["emails"].as_array().unwrap().iter().map(|email| email["value"].as_str().unwrap()).collect();
    assert_eq!((emails, &person["custom_fields"][&key]), (vec!["s@x.org", "l@x.org"], &json!("kept")));
    assert_eq!(s.read(loser).await["is_deleted"], true);
    assert_eq!(s.control.pipedrive_dump(s.company()).await.unwrap().merged[&loser], survivor);
    for (id, with) in [(survivor, survivor), (loser, survivor), (survivor, 99)] {
        let reply =
            s.send(Method::PUT, &format!("/v1/persons/{id}/merge"), json!({ "merge_with_id": with })).await;
        assert!([400, 404].contains(&reply.status), "{:?}", reply.body);
        assert_eq!((&reply.body["data"], &reply.body["success"]), (&Value::Null, &json!(false)));
    }
}

#[tokio::test]
async fn recents_give_what_changed_since_with_deleted_persons() {
    let s = Setting::new().await;
    let old = s.named("Old").await;
    s.control.advance(10_000).await.unwrap();
    let (a, b) = (s.named("Ada").await, s.named("Eve").await);
    s.delete(&format!("{PERSONS}/{b}")).await;
    let since = s.read(a).await["update_time"].as_str().unwrap().replace('T', "%20").replace('Z', "");
    let reply = s.get(&format!("/api/v1/recents?since_timestamp={since}&items=person")).await;
    assert_eq!((reply.status, reply.ids()), (200, vec![a, b]));
    let rows = &reply.body["data"];
    assert_eq!((&rows[0]["item"], &rows[1]["data"]["active_flag"]), (&json!("person"), &json!(false)));
    assert_eq!(reply.body["additional_data"]["pagination"]["more_items_in_collection"], false);
    let reply = s.get("/v1/recents?since_timestamp=2020-01-01%2000:00:00&limit=2").await;
    assert_eq!(reply.ids(), [old, a]);
    assert_eq!(reply.body["additional_data"]["pagination"]["next_start"], 2);
    assert_eq!(s.get("/v1/recents?since_timestamp=yesterday").await.status, 400);
}

#[tokio::test]
async fn the_caller_learns_user_and_company_from_v1() {
    let s = Setting::new().await;
    for path in ["/v1/users/me", "/api/v1/users/me"] {
        let me = s.get(path).await.body["data"].clone();
        assert_eq!(me["id"], s.account.user_id);
        assert_eq!(
            (&me["company_id"], &me["company_domain"]),
            (&json!(s.company()), &json!(s.account.company_domain))
        );
        assert_eq!(me["timezone_name"], "UTC");
    }
    assert_eq!(s.get("/api/v1/users").await.ids(), [s.account.user_id]);
}
