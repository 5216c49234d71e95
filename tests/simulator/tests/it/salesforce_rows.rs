//! Salesforce: single contacts.

use http::Method;
use serde_json::{Value, json};

use crate::salesforce_setting::Force;

const CONTACT: &str = "/sobjects/Contact";

/// An HTTP date so many seconds from a moment as the API shows it.
fn http_date(shown: &str, seconds: i64) -> String {
    let at: jiff::Timestamp = shown.replace("+0000", "Z").parse().unwrap();
    let at = jiff::Timestamp::from_second(at.as_second() + seconds).unwrap();
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
}

#[tokio::test]
async fn a_create_answers_201_with_the_id_and_shows_no_values() {
    let f = Force::new().await;
    let reply = f.post(CONTACT, json!({ "LastName": "Doe", "attributes": { "type": "Contact" } })).await;
    assert_eq!(reply.status, 201);
    let id = reply.body["id"].as_str().unwrap();
    assert_eq!(reply.body, json!({ "id": id, "success": true, "errors": [] }));
    assert_eq!(
        reply.header("location"),
        Some(format!("/services/data/v60.0/sobjects/Contact/{id}").as_str())
    );
    assert_eq!(f.reasons().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_read_shows_all_fields_or_those_that_are_named_with_attributes_first() {
    let f = Force::new().await;
    let id = f.contact(json!({ "FirstName": "Ann", "Email": "ann@example.com" })).await;
    let all = f.get(&format!("{CONTACT}/{id}")).await;
    let members = all.body.as_object().unwrap();
    assert_eq!(members.keys().next().unwrap(), "attributes");
    let url = format!("/services/data/v60.0/sobjects/Contact/{id}");
    assert_eq!(all.body["attributes"], json!({ "type": "Contact", "url": url }));
    for (name, value) in [
        ("Id", json!(id)),
        ("FirstName", json!("Ann")),
        ("Title", Value::Null),
        ("IsDeleted", json!(false)),
        ("DoNotCall", json!(false)),
        ("MasterRecordId", Value::Null),
        ("OwnerId", json!(f.org.api_user_id)),
        ("Key__c", Value::Null),
    ] {
        assert_eq!(members[name], value, "{name}");
    }
    let some = f.read(&id, "email,FIRSTNAME").await;
    let names: Vec<&String> = some.as_object().unwrap().keys().collect();
    assert_eq!(names, ["attributes", "Email", "FirstName", "Id"]);
    let unknown = f.get(&format!("{CONTACT}/{id}?fields=Email,Nope__c")).await;
    assert_eq!(unknown.refusal(), (400, "INVALID_FIELD"));
}

#[tokio::test]
async fn an_update_answers_204_and_null_clears() {
    let f = Force::new().await;
    let id = f.contact(json!({ "Title": "Boss", "Department": "IT", "Phone": "1" })).await;
    let reply = f.update(&id, json!({ "Title": null, "Department": "", "Phone": "2" })).await;
    assert_eq!((reply.status, reply.body), (204, Value::Null));
    let read = f.read(&id, "Title,Department,Phone").await;
    assert_eq!(
        (&read["Title"], &read["Department"], &read["Phone"]),
        (&Value::Null, &Value::Null, &json!("2"))
    );
}

#[tokio::test]
async fn a_deleted_contact_is_in_the_bin_and_refuses_everything() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    let path = format!("{CONTACT}/{id}");
    assert_eq!(f.delete(&path).await.status, 204);
    for reply in [f.get(&path).await, f.update(&id, json!({ "Title": "x" })).await, f.delete(&path).await] {
        assert_eq!(reply.refusal(), (404, "ENTITY_IS_DELETED"));
        assert_eq!(
            reply.body[0],
            json!({ "message": "entity is deleted", "errorCode": "ENTITY_IS_DELETED", "fields": [] })
        );
    }
    f.settings(json!({ "deletedAreUnknown": true })).await;
    assert_eq!(f.get(&path).await.refusal(), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn ids_have_eighteen_characters_and_fifteen_are_taken_in_their_case() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    assert!(id.len() == 18 && id.starts_with("003"), "{id}");
    for form in [&id[..15], &id, &id.to_lowercase(), &id.to_uppercase()] {
        let read = f.read(form, "Id").await;
        assert_eq!(read["Id"], json!(id), "{form}");
    }
    let other_case = f.get(&format!("{CONTACT}/{}", id[..15].to_lowercase())).await;
    assert_eq!(other_case.refusal(), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn ids_of_others_and_words_that_are_no_ids_are_told_apart() {
    let f = Force::new().await;
    let user = f.get(&format!("{CONTACT}/{}", f.org.api_user_id)).await;
    assert_eq!(user.refusal(), (400, "MALFORMED_ID"));
    let word = f.get(&format!("{CONTACT}/nobody")).await;
    assert_eq!(word.refusal(), (404, "NOT_FOUND"));
    assert_eq!(word.message(), "Provided external ID field does not exist or is not accessible: nobody");
    let id = f.contact(json!({})).await;
    let unknown = format!("{}zz", &id[..13]);
    assert_eq!(
        f.get(&format!("{CONTACT}/{unknown}")).await.message(),
        "The requested resource does not exist"
    );
    let same = f.control.create_salesforce_orgs(&Default::default()).await.unwrap().remove(0);
    let theirs =
        f.control.salesforce_person_creates(same.portal_id, json!({ "LastName": "Doe" })).await.unwrap();
    assert_eq!(theirs.id, id, "ids are the same in each org, so that a mix-up shows");
}

#[tokio::test]
async fn a_last_name_is_required_and_stays() {
    let f = Force::new().await;
    let reply = f.post(CONTACT, json!({ "FirstName": "Ann" })).await;
    let error = json!([{
        "message": "Required fields are missing: [LastName]", "errorCode": "REQUIRED_FIELD_MISSING", "fields": ["LastName"]
    }]);
    assert_eq!((reply.status, &reply.body), (400, &error));
    let id = f.contact(json!({})).await;
    for nothing in [json!(null), json!(""), json!("  ")] {
        let reply = f.update(&id, json!({ "LastName": nothing })).await;
        assert_eq!(reply.refusal(), (400, "REQUIRED_FIELD_MISSING"));
    }
}

#[tokio::test]
async fn name_and_address_are_compounds_that_cannot_be_written() {
    let f = Force::new().await;
    let id = f.contact(json!({ "FirstName": "Ann", "LastName": "Doe" })).await;
    assert_eq!(f.read(&id, "MailingAddress").await["MailingAddress"], Value::Null);
    f.update(&id, json!({ "MailingCity": "Ulm", "MailingStreet": "A 1\nB", "MailingLatitude": 48.123_456 }))
        .await;
    let read = f.read(&id, "Name,MailingAddress,OtherAddress").await;
    assert_eq!(read["Name"], "Ann Doe");
    assert_eq!(read["OtherAddress"], Value::Null);
    assert_eq!(
        read["MailingAddress"],
        json!({
            "city": "Ulm", "country": null, "geocodeAccuracy": null, "latitude": 48.123_456, "longitude": null,
            "postalCode": null, "state": null, "street": "A 1\nB"
        })
    );
    for body in [
        json!({ "Name": "Bob" }),
        json!({ "MailingAddress": { "city": "Bonn" } }),
        json!({ "SystemModstamp": null }),
        json!({ "Formula__c": "x" }),
    ] {
        let name = body.as_object().unwrap().keys().next().unwrap().clone();
        let reply = f.update(&id, body).await;
        assert_eq!(reply.refusal(), (400, "INVALID_FIELD_FOR_INSERT_UPDATE"));
        assert_eq!(reply.body[0]["fields"], json!([name]));
    }
}

#[tokio::test]
async fn an_id_in_a_body_is_refused() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    let reply = f.update(&id, json!({ "Id": id, "Title": "x" })).await;
    assert_eq!(reply.refusal(), (400, "INVALID_FIELD"));
    assert_eq!(reply.message(), "The Id field should not be specified in the sobject data.");
    let reply = f.post(CONTACT, json!({ "Id": id, "LastName": "x" })).await;
    assert_eq!(reply.refusal(), (400, "INVALID_FIELD_FOR_INSERT_UPDATE"));
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_name_and_names_have_no_case() {
    let f = Force::new().await;
    let reply = f.post(CONTACT, json!({ "LastName": "Doe", "Nope__c": "x" })).await;
    assert_eq!(reply.refusal(), (400, "INVALID_FIELD"));
    assert_eq!(reply.message(), "No such column 'Nope__c' on sobject of type Contact");
    assert!(reply.body[0].get("fields").is_none(), "{:?}", reply.body);
    let id = f.contact(json!({ "TITLE": "x" })).await;
    assert_eq!(f.read(&id, "title").await["Title"], "x");
    assert_eq!(f.reasons().await, ["there is no field Nope__c"]);
}

#[tokio::test]
async fn an_upsert_creates_updates_or_says_that_there_are_several() {
    let f = Force::new().await;
    let path = format!("{CONTACT}/Key__c/a%2Fb%20c");
    let none = f.patch(&format!("{path}?updateOnly=true"), json!({ "LastName": "Doe" })).await;
    assert_eq!(none.refusal(), (404, "NOT_FOUND"));
    let made = f.patch(&path, json!({ "LastName": "Doe" })).await;
    assert_eq!(
        (made.status, &made.body["created"], &made.body["success"]),
        (201, &json!(true), &json!(true))
    );
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(f.read(id, "Key__c").await["Key__c"], "a/b c");
    let updated = f.patch(&path, json!({ "Title": "x" })).await;
    assert_eq!(
        (updated.status, &updated.body),
        (200, &json!({ "id": id, "success": true, "errors": [], "created": false }))
    );
    f.contact(json!({ "Group__c": "g" })).await;
    f.contact(json!({ "Group__c": "G" })).await;
    let several = f.patch(&format!("{CONTACT}/Group__c/g"), json!({ "Title": "x" })).await;
    assert_eq!(several.status, 300);
    let urls = several.body.as_array().unwrap();
    assert!(
        urls.len() == 2
            && urls
                .iter()
                .all(|url| url.as_str().unwrap().starts_with("/services/data/v60.0/sobjects/Contact/003")),
        "{urls:?}"
    );
    assert_eq!(
        f.patch(&format!("{CONTACT}/Title/x"), json!({ "LastName": "Doe" })).await.refusal(),
        (404, "NOT_FOUND")
    );
}

#[tokio::test]
async fn an_upsert_in_an_older_version_or_by_setting_answers_204_to_an_update() {
    let mut f = Force::new().await;
    f.version = "v45.0";
    let path = format!("{CONTACT}/Key__c/k");
    let made = f.patch(&path, json!({ "LastName": "Doe" })).await;
    assert_eq!((made.status, made.body.get("created")), (201, None));
    assert_eq!(f.patch(&path, json!({ "Title": "x" })).await.status, 204);
    f.version = "v60.0";
    assert_eq!(f.patch(&path, json!({ "Title": "x" })).await.status, 200);
    f.settings(json!({ "upsertsAreQuiet": true })).await;
    assert_eq!(f.patch(&path, json!({ "Title": "x" })).await.status, 204);
}

#[tokio::test]
async fn the_external_id_of_the_path_must_not_be_in_the_body() {
    let f = Force::new().await;
    let reply = f.patch(&format!("{CONTACT}/Key__c/k"), json!({ "LastName": "Doe", "Key__c": "k" })).await;
    assert_eq!(reply.refusal(), (400, "INVALID_FIELD"));
    assert_eq!(reply.message(), "The Key__c field should not be specified in the sobject data.");
}

#[tokio::test]
async fn a_contact_is_read_and_deleted_by_an_external_id() {
    let f = Force::new().await;
    let id = f.contact(json!({ "Key__c": "k", "Email": "ann@example.com" })).await;
    let read = f.get(&format!("{CONTACT}/Key__c/K?fields=Email")).await;
    assert_eq!((&read.body["Id"], &read.body["Email"]), (&json!(id), &json!("ann@example.com")));
    assert_eq!(f.get(&format!("{CONTACT}/Email/ann@example.com")).await.body["Id"], json!(id));
    assert_eq!(f.get(&format!("{CONTACT}/Key__c/other")).await.refusal(), (404, "NOT_FOUND"));
    assert_eq!(f.delete(&format!("{CONTACT}/Key__c/k")).await.status, 204);
    assert_eq!(f.get(&format!("{CONTACT}/Key__c/k")).await.refusal(), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn a_patch_is_refused_when_the_contact_changed_in_a_later_second() {
    let f = Force::new().await;
    let id = f.contact(json!({ "Title": "x", "Key__c": "k" })).await;
    let modified = f.read(&id, "LastModifiedDate").await["LastModifiedDate"].as_str().unwrap().to_owned();
    let path = format!("{CONTACT}/{id}");
    let patch = async |path: &str, date: &str| {
        f.call(Method::PATCH, path, &[("if-unmodified-since", date)], json!({ "Title": "y" })).await
    };
    let refused = patch(&path, &http_date(&modified, -1)).await;
    assert_eq!((refused.status, refused.body), (412, Value::Null));
    assert_eq!(f.read(&id, "Title").await["Title"], "x");
    assert_eq!(patch(&format!("{CONTACT}/Key__c/k"), &http_date(&modified, -1)).await.status, 412);
    assert_eq!(patch(&path, "yesterday").await.status, 400);
    assert_eq!(patch(&path, &http_date(&modified, 0)).await.status, 204);
    // A second write of the same second is not seen.
    let now = f.read(&id, "LastModifiedDate").await["LastModifiedDate"].as_str().unwrap().to_owned();
    f.update(&id, json!({ "Title": "z" })).await;
    if f.read(&id, "LastModifiedDate").await["LastModifiedDate"] == json!(now) {
        assert_eq!(patch(&path, &http_date(&now, 0)).await.status, 204);
    }
}

#[tokio::test]
async fn a_read_is_answered_304_or_412_by_the_second() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    let path = format!("{CONTACT}/{id}");
    let first = f.get(&path).await;
    let modified = first.body["LastModifiedDate"].as_str().unwrap();
    assert_eq!(first.header("last-modified"), Some(http_date(modified, 0).as_str()));
    let get = async |name: &str, seconds: i64| {
        f.call(Method::GET, &path, &[(name, http_date(modified, seconds).as_str())], Value::Null).await.status
    };
    assert_eq!((get("if-modified-since", 0).await, get("if-modified-since", -1).await), (304, 200));
    assert_eq!((get("if-unmodified-since", -1).await, get("if-unmodified-since", 0).await), (412, 200));
}

#[tokio::test]
async fn contacts_have_no_entity_tags_and_a_delete_has_no_conditions() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    let path = format!("{CONTACT}/{id}");
    assert_eq!(f.get(&path).await.header("etag"), None);
    let stale = [("if-match", "\"other\"")];
    assert_eq!(f.call(Method::PATCH, &path, &stale, json!({ "Title": "x" })).await.status, 204);
    let past = [("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")];
    assert_eq!(f.call(Method::DELETE, &path, &past, Value::Null).await.status, 204);
    assert_eq!(f.reasons().await, ["if-unmodified-since has no effect on DELETE"]);
}

#[tokio::test]
async fn times_have_whole_seconds_and_say_who_wrote() {
    let f = Force::new().await;
    let times = "CreatedDate,CreatedById,LastModifiedDate,LastModifiedById,SystemModstamp";
    let id = f.contact(json!({})).await;
    let made = f.read(&id, times).await;
    let created = made["CreatedDate"].as_str().unwrap();
    assert!(created.ends_with(".000+0000") && created.len() == 28, "{created}");
    assert_eq!(made["LastModifiedDate"], made["SystemModstamp"]);
    assert_eq!(made["CreatedById"], json!(f.org.api_user_id));
    f.next_second().await;
    f.control.salesforce_person_edits(f.number(), &id, json!({ "Title": "x" })).await.unwrap();
    let edited = f.read(&id, times).await;
    assert_eq!(edited["CreatedDate"], made["CreatedDate"]);
    assert!(edited["LastModifiedDate"].as_str() > made["LastModifiedDate"].as_str());
    assert_eq!(edited["LastModifiedById"], json!(f.org.person_user_id));
    f.next_second().await;
    f.control.touch_salesforce_contact(f.number(), &id).await.unwrap();
    let touched = f.read(&id, times).await;
    assert_eq!(touched["LastModifiedDate"], edited["LastModifiedDate"]);
    assert!(touched["SystemModstamp"].as_str() > edited["SystemModstamp"].as_str());
}

#[tokio::test]
async fn a_write_of_nothing_new_moves_the_times_unless_set_otherwise() {
    let f = Force::new().await;
    let id = f.contact(json!({ "Title": "x" })).await;
    let modified = async || f.read(&id, "LastModifiedDate").await["LastModifiedDate"].clone();
    let before = modified().await;
    f.next_second().await;
    f.update(&id, json!({ "Title": "x" })).await;
    let after = modified().await;
    assert_ne!(before, after);
    f.settings(json!({ "emptyUpdatesTouch": false })).await;
    f.next_second().await;
    f.update(&id, json!({ "Title": "x" })).await;
    assert_eq!(modified().await, after);
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_refused_for_a_while() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    f.control.lock_salesforce_contact(f.number(), &id, 60_000).await.unwrap();
    let reply = f.update(&id, json!({ "Title": "x" })).await;
    assert_eq!(reply.refusal(), (400, "UNABLE_TO_LOCK_ROW"));
    assert_eq!(
        reply.message(),
        format!("unable to obtain exclusive access to this record or 1 records: {id}")
    );
    assert_eq!(f.get(&format!("{CONTACT}/{id}")).await.status, 200);
    f.control.advance(60_000).await.unwrap();
    assert_eq!(f.update(&id, json!({ "Title": "x" })).await.status, 204);
}

#[tokio::test]
async fn describe_tells_of_types_lengths_picklists_and_keys() {
    let f = Force::new().await;
    let describe = f.get(&format!("{CONTACT}/describe")).await.body;
    assert_eq!(
        (&describe["name"], &describe["keyPrefix"], &describe["mergeable"]),
        (&json!("Contact"), &json!("003"), &json!(true))
    );
    let field = |name: &str| {
        let fields = describe["fields"].as_array().unwrap();
        fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    let last = field("LastName");
    assert_eq!(
        (&last["type"], &last["length"], &last["nillable"]),
        (&json!("string"), &json!(80), &json!(false))
    );
    let key = field("Key__c");
    assert_eq!(
        (&key["externalId"], &key["unique"], &key["custom"], &key["idLookup"]),
        (&json!(true), &json!(true), &json!(true), &json!(true))
    );
    let colour = field("Colour__c");
    assert_eq!((&colour["type"], &colour["restrictedPicklist"]), (&json!("picklist"), &json!(true)));
    assert_eq!(
        colour["picklistValues"][0],
        json!({ "active": true, "defaultValue": false, "label": "Red", "validFor": null, "value": "Red" })
    );
    assert_eq!(field("MailingCity")["compoundFieldName"], "MailingAddress");
    for name in ["Name", "MailingAddress", "Id", "SystemModstamp", "Formula__c"] {
        assert_eq!(
            (&field(name)["createable"], &field(name)["updateable"]),
            (&json!(false), &json!(false)),
            "{name}"
        );
    }
    assert_eq!(field("OwnerId")["referenceTo"], json!(["User"]));
}
