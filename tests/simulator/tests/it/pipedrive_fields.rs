//! Pipedrive: the fields of persons and the values of custom ones.

use http::Method;
use serde_json::{Map, Value, json};
use tandem_simulator::pipedrive::control::NewPipedriveAccounts;

use crate::pipedrive_setting::{PERSONS, Setting};

const FIELDS: &str = "/api/v2/personFields";

fn field(name: &str, kind: &str) -> Map<String, Value> {
    let mut field = json!({ "field_name": name, "field_type": kind });
    if ["enum", "set"].contains(&kind) {
        field["options"] = json!([{ "label": "Red" }, { "label": "Green" }, { "label": "Blue" }]);
    }
    field.as_object().unwrap().clone()
}

/// An account with one field of each of these kinds, named by it.
async fn with(kinds: &[&str]) -> Setting {
    Setting::with(|new| new.fields = kinds.iter().map(|kind| field(kind, kind)).collect()).await
}

async fn options(s: &Setting, name: &str) -> Vec<u64> {
    let reply = s.get(&format!("{FIELDS}/{}", s.key(name))).await;
    let options = reply.body["data"]["options"].as_array().unwrap();
    options.iter().map(|option| option["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn fields_are_listed_with_their_codes_kinds_and_options() {
    let s = with(&["enum", "monetary", "address"]).await;
    let reply = s.get(&format!("{FIELDS}?limit=500")).await;
    assert_eq!((reply.status, reply.cursor()), (200, None));
    let rows = reply.body["data"].as_array().unwrap();
    let of = |code: &str| rows.iter().find(|row| row["field_code"] == code).unwrap();
    assert_eq!(
        (&of("name")["field_type"], &of("name")["is_custom_field"]),
        (&json!("varchar"), &json!(false))
    );
    assert_eq!(of("name")["options"], Value::Null);
    let choice = of(s.key("enum"));
    assert_eq!((&choice["field_name"], &choice["is_custom_field"]), (&json!("enum"), &json!(true)));
    assert_eq!(choice["options"][1]["label"], "Green");
    let parts = of(s.key("monetary"))["subfields"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| &part["field_code"]).collect::<Vec<_>>(), ["value", "currency"]);
    assert_eq!(of(s.key("address"))["subfields"].as_array().unwrap().len(), 11);
    let page = s.get(&format!("{FIELDS}?limit=14")).await;
    let rest = s.get(&format!("{FIELDS}?limit=14&cursor={}", page.cursor().unwrap())).await;
    assert_eq!((rest.body["data"].as_array().unwrap().len(), rest.cursor()), (rows.len() - 14, None));
}

#[tokio::test]
async fn members_of_contact_sync_are_fields_where_the_company_has_it() {
    const SYNCED: [&str; 5] = ["postal_address", "notes", "im", "birthday", "job_title"];
    let s = with(&["varchar"]).await;
    let listed = async || {
        let reply = s.get(&format!("{FIELDS}?limit=500")).await;
        let rows = reply.body["data"].as_array().unwrap().clone();
        rows.into_iter()
            .filter(|row| SYNCED.iter().any(|name| row["field_code"] == *name))
            .collect::<Vec<_>>()
    };
    assert_eq!(listed().await, Vec::<Value>::new());
    s.settings(json!({ "contactSync": true })).await;
    let rows = listed().await;
    let codes: Vec<&Value> = rows.iter().map(|row| &row["field_code"]).collect();
    assert_eq!(codes, SYNCED);
    assert!(rows.iter().all(|row| row["is_custom_field"] == false));
}

#[tokio::test]
async fn details_of_a_field_are_shown_where_they_are_asked_for() {
    let s = with(&["varchar"]).await;
    let path = format!("{FIELDS}/{}", s.key("varchar"));
    assert!(s.get(&path).await.body["data"].get("ui_visibility").is_none());
    let reply = s.get(&format!("{path}?include_fields=ui_visibility,required_fields")).await;
    assert_eq!(reply.body["data"]["required_fields"], json!({ "enabled": false }));
    assert_eq!(s.get(&format!("{path}?include_fields=all")).await.status, 400);
    assert_eq!(s.get(&format!("{FIELDS}/nothing")).await.status, 404);
}

#[tokio::test]
async fn keys_have_forty_characters_and_differ_from_account_to_account() {
    let s = with(&["varchar"]).await;
    let new =
        NewPipedriveAccounts { fields: vec![field("varchar", "varchar")], ..NewPipedriveAccounts::default() };
    let other = s.control.create_pipedrive_accounts(&new).await.unwrap().remove(0);
    let (one, two) = (s.key("varchar"), &other.fields["varchar"]);
    assert!(one.len() == 40 && one.chars().all(|c| c.is_ascii_hexdigit()), "{one}");
    assert_ne!(one, two);
}

#[tokio::test]
async fn a_field_is_made_with_a_name_a_kind_and_options_where_it_is_a_choice() {
    let s = Setting::new().await;
    let reply = s.post(FIELDS, Value::Object(field("Colour", "set"))).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let made = &reply.body["data"];
    assert_eq!(
        (&made["field_name"], &made["field_type"], &made["is_custom_field"]),
        (&json!("Colour"), &json!("set"), &json!(true))
    );
    let code = made["field_code"].as_str().unwrap();
    assert_eq!(s.get(&format!("{FIELDS}/{code}")).await.body["data"], *made);
    for body in [
        json!({ "field_type": "varchar" }),
        json!({ "field_name": "", "field_type": "varchar" }),
        json!({ "field_name": "A", "field_type": "url" }),
        json!({ "field_name": "A", "field_type": "enum" }),
        json!({ "field_name": "A", "field_type": "enum", "options": [{}] }),
        json!({ "field_name": "A", "field_type": "varchar", "options": [{ "label": "a" }] }),
    ] {
        assert_eq!(s.post(FIELDS, body.clone()).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_custom_field_is_renamed_and_deleted_with_its_values() {
    let s = with(&["varchar"]).await;
    let key = s.key("varchar").to_owned();
    let id = s.person(json!({ "name": "Ada", "custom_fields": { key.clone(): "x" } })).await;
    let path = format!("{FIELDS}/{key}");
    let reply = s.send(Method::PATCH, &path, json!({ "field_name": "Other" })).await;
    assert_eq!((reply.status, &reply.body["data"]["field_name"]), (200, &json!("Other")));
    assert_eq!(s.delete(&path).await.status, 200);
    assert_eq!(s.get(&path).await.status, 404);
    assert_eq!(s.read(id).await["custom_fields"], json!({}));
    assert_eq!(s.patch(id, json!({ "custom_fields": { key: "y" } })).await.status, 400);
    assert_eq!(s.delete(&format!("{FIELDS}/name")).await.status, 404);
}

#[tokio::test]
async fn options_are_changed_all_or_none() {
    let s = with(&["enum", "varchar"]).await;
    let path = format!("{FIELDS}/{}/options", s.key("enum"));
    let known = options(&s, "enum").await;
    let reply = s.post(&path, json!([{ "label": "Black" }, { "label": "White" }])).await;
    let added = reply.ids();
    assert_eq!((reply.status, added.len(), &reply.body["additional_data"]), (200, 2, &Value::Null));
    assert!(added.iter().all(|id| !known.contains(id)));
    let wrong = json!([{ "id": added[0], "label": "Grey" }, { "id": 9999, "label": "None" }]);
    assert_eq!(s.send(Method::PATCH, &path, wrong.clone()).await.status, 404);
    assert_eq!(s.send(Method::DELETE, &path, wrong).await.status, 404);
    let reply = s.send(Method::PATCH, &path, json!([{ "id": added[0], "label": "Grey" }])).await;
    assert_eq!(reply.body["data"], json!([{ "id": added[0], "label": "Grey" }]));
    assert_eq!(s.send(Method::DELETE, &path, json!([{ "id": added[1] }])).await.ids(), [added[1]]);
    assert_eq!(options(&s, "enum").await, [known, vec![added[0]]].concat());
    let plain = format!("{FIELDS}/{}/options", s.key("varchar"));
    assert_eq!(s.post(&plain, json!([{ "label": "a" }])).await.status, 400);
    assert_eq!(s.post(&path, json!([])).await.status, 400);
}

#[tokio::test]
async fn values_of_every_kind_are_taken_and_shown_in_the_form_of_v2() {
    let kinds = [
        "varchar",
        "varchar_auto",
        "text",
        "phone",
        "double",
        "monetary",
        "date",
        "daterange",
        "time",
        "timerange",
        "enum",
        "set",
        "address",
        "user",
        "org",
        "people",
    ];
    let s = with(&kinds).await;
    let (one, many) = (options(&s, "enum").await[1], options(&s, "set").await);
    let values = json!({
        "varchar": "a", "varchar_auto": "b", "text": "c", "phone": "+372 1", "double": 2.5,
        "monetary": { "value": 500, "currency": "EUR" },
        "date": "2024-02-29",
        "daterange": { "value": "2024-01-01", "until": "2024-02-01" },
        "time": { "value": "09:00:00", "timezone_id": null, "timezone_name": "Europe/London" },
        "timerange": { "value": "09:00:00", "until": "11:00:00", "timezone_id": 310, "timezone_name": null },
        "enum": one, "set": [many[0], many[2]],
        "user": 7, "org": 8, "people": 9,
    });
    let mut given = Map::new();
    for (kind, value) in values.as_object().unwrap() {
        given.insert(s.key(kind).to_owned(), value.clone());
    }
    let id = s.person(json!({ "name": "Ada", "custom_fields": given })).await;
    let shown = s.read(id).await["custom_fields"].clone();
    for (kind, value) in values.as_object().unwrap() {
        assert_eq!(shown[s.key(kind)], *value, "{kind}");
    }
}

#[tokio::test]
async fn an_address_needs_its_text_and_parts_that_are_left_out_become_null() {
    let s = with(&["address"]).await;
    let key = s.key("address").to_owned();
    let set = |value: Value| json!({ "name": "Ada", "custom_fields": { key.clone(): value } });
    let id = s.person(set(json!({ "value": "Tee 3a", "locality": "Tallinn" }))).await;
    assert_eq!(s.read(id).await["custom_fields"][&key]["locality"], "Tallinn");
    s.patch(id, set(json!({ "value": "Tee 3a", "country": "Estonia" }))).await;
    let shown = s.read(id).await["custom_fields"][&key].clone();
    assert_eq!(
        (&shown["country"], &shown["locality"], &shown["formatted_address"]),
        (&json!("Estonia"), &Value::Null, &Value::Null)
    );
    for wrong in [json!("Tee 3a"), json!({ "country": "Estonia" }), json!({ "value": "a", "town": "b" })] {
        assert_eq!(s.patch(id, set(wrong)).await.status, 400);
    }
}

#[tokio::test]
async fn a_value_of_the_wrong_form_is_refused_with_the_key_of_its_field() {
    let s = with(&["varchar", "double", "enum", "monetary", "date", "time", "set"]).await;
    let id = s.named("Ada").await;
    for (kind, wrong, word) in [
        ("varchar", json!({ "value": "a" }), "Invalid collection"),
        ("varchar", json!(3), "Expected 'string'"),
        ("varchar", json!("a".repeat(256)), "longer than 255"),
        ("double", json!("2.5"), "Expected 'number'"),
        ("enum", json!("1"), "Expected 'number'"),
        ("enum", json!(999), "Invalid option 999"),
        ("monetary", json!(5), "Monetary custom field value expected 'object'"),
        ("monetary", json!({ "value": 5 }), "Expected 'currency'"),
        ("date", json!("2023-02-29"), "Expected 'date'"),
        ("time", json!("16:15"), "Time custom field value expected 'object'"),
        ("time", json!({ "value": "16:15" }), "Expected 'time'"),
        ("set", json!(["1"]), "Expected 'number'"),
    ] {
        let reply = s.patch(id, json!({ "custom_fields": { s.key(kind): wrong } })).await;
        assert_eq!((reply.status, reply.code()), (400, "ERR_SCHEMA_VALIDATION_FAILED"), "{kind}");
        assert!(reply.error().starts_with("Validation failed: custom_fields: "), "{}", reply.error());
        assert!(reply.error().contains(word), "{kind}: {}", reply.error());
        let plain = word.starts_with("Expected") || word.starts_with("Invalid option");
        assert!(!plain || reply.error().contains(s.key(kind)), "{}", reply.error());
    }
}

#[tokio::test]
async fn a_key_that_is_not_a_custom_fields_is_refused() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    for key in ["name", "1234567890123456789012345678901234567890"] {
        let reply = s.patch(id, json!({ "custom_fields": { key: "x" } })).await;
        let error = format!("Validation failed: custom_fields: Unknown key '{key}'");
        assert_eq!((reply.status, reply.error()), (400, error.as_str()));
    }
    assert_eq!(s.patch(id, json!({ "custom_fields": [] })).await.status, 400);
}

#[tokio::test]
async fn null_clears_a_choice_and_an_empty_list_is_refused() {
    let s = with(&["set"]).await;
    let key = s.key("set").to_owned();
    let many = options(&s, "set").await;
    let id = s.person(json!({ "name": "Ada", "custom_fields": { key.clone(): many } })).await;
    assert_eq!(s.patch(id, json!({ "custom_fields": { key.clone(): [] } })).await.status, 400);
    assert_eq!(s.read(id).await["custom_fields"][&key], json!(many));
    assert_eq!(s.patch(id, json!({ "custom_fields": { key.clone(): null } })).await.status, 200);
    assert_eq!(s.read(id).await["custom_fields"][&key], Value::Null);
}

#[tokio::test]
async fn empty_custom_fields_are_null_or_left_out() {
    let s = with(&["varchar", "double"]).await;
    let (text, number) = (s.key("varchar").to_owned(), s.key("double").to_owned());
    let id = s.person(json!({ "name": "Ada", "custom_fields": { text.clone(): "x" } })).await;
    assert_eq!(s.read(id).await["custom_fields"], json!({ text.clone(): "x", number: null }));
    s.settings(json!({ "emptyCustomFields": false })).await;
    assert_eq!(s.read(id).await["custom_fields"], json!({ text: "x" }));
}

#[tokio::test]
async fn fifteen_keys_can_be_asked_for() {
    let s = with(&["varchar", "double"]).await;
    let id = s.named("Ada").await;
    let number = s.key("double");
    let reply = s.get(&format!("{PERSONS}/{id}?custom_fields={number},unknown")).await;
    assert_eq!(reply.body["data"]["custom_fields"], json!({ number: null }));
    let reply = s.get(&format!("{PERSONS}?custom_fields={number}")).await;
    assert_eq!(reply.body["data"][0]["custom_fields"], json!({ number: null }));
    let many = ["a"; 16].join(",");
    assert_eq!(s.get(&format!("{PERSONS}/{id}?custom_fields={many}")).await.status, 400);
    assert_eq!(s.get(&format!("{PERSONS}/{id}?custom_fields={}", &many[2..])).await.status, 200);
}

#[tokio::test]
async fn options_and_labels_are_shown_in_words_where_they_are_asked_for() {
    let s = with(&["enum", "set", "double"]).await;
    let (one, many) = (options(&s, "enum").await, options(&s, "set").await);
    let custom = json!({ s.key("enum"): one[0], s.key("set"): [many[1]], s.key("double"): 3 });
    let id = s.person(json!({ "name": "Ada", "label_ids": [1], "custom_fields": custom })).await;
    let reply = s.get(&format!("{PERSONS}/{id}?include_option_labels=true&include_labels=true")).await;
    let person = &reply.body["data"];
    assert_eq!(person["custom_fields"][s.key("enum")], json!({ "id": one[0], "label": "Red" }));
    assert_eq!(person["custom_fields"][s.key("set")], json!([{ "id": many[1], "label": "Green" }]));
    assert_eq!(person["custom_fields"][s.key("double")], 3);
    assert_eq!(person["labels"], json!([{ "id": 1, "label": "Customer" }]));
    assert!(s.read(id).await.get("labels").is_none());
    assert_eq!(s.get(&format!("{PERSONS}/{id}?include_labels=1")).await.status, 400);
}

#[tokio::test]
async fn optional_members_are_shown_where_they_are_asked_for() {
    let s = Setting::new().await;
    let id = s.named("Ada").await;
    let reply =
        s.get(&format!("{PERSONS}/{id}?include_fields=notes_count,last_activity_id,doi_status")).await;
    let person = &reply.body["data"];
    assert_eq!((&person["notes_count"], &person["last_activity_id"]), (&json!(0), &Value::Null));
    assert!(person.get("doi_status").is_none(), "only with the marketing product");
    assert!(s.read(id).await.get("notes_count").is_none());
    assert_eq!(s.get(&format!("{PERSONS}/{id}?include_fields=everything")).await.status, 400);
}
