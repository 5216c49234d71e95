//! Salesforce: limits, disturbances, collections, and what the control API does.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tandem_simulator::control::client::Portal;
use tandem_simulator::control::salesforce::{NewSalesforceOrgs, SalesforceImport, SalesforceLimits};
use tandem_simulator::control::types::{FaultKind, FaultOrder, Rewrite, WriteKind, Writer};

use crate::salesforce_setting::Force;

const CONTACT: &str = "/sobjects/Contact";
const COLLECTION: &str = "/composite/sobjects";

/// A record of a collection.
fn record(values: Value) -> Value {
    let mut record = values;
    record["attributes"] = json!({ "type": "Contact" });
    record
}

#[tokio::test]
async fn every_answer_says_how_many_calls_were_made() {
    let f = Force::with(|new| new.limits.daily = 50).await;
    assert_eq!(f.get("/limits").await.header("sforce-limit-info"), Some("api-usage=1/50"));
    let refused = f.get(&format!("{CONTACT}/nobody")).await;
    assert_eq!(refused.header("sforce-limit-info"), Some("api-usage=2/50"));
    let limits = f.get("/limits").await;
    assert_eq!(limits.body["DailyApiRequests"], json!({ "Max": 50, "Remaining": 47 }));
}

#[tokio::test]
async fn calls_beyond_the_limit_are_403_and_nobody_says_until_when() {
    let f = Force::with(|new| {
        new.limits.daily = 3;
        new.settings.session_seconds = 100_000_000;
    })
    .await;
    for _ in 0..3 {
        assert_eq!(f.get("/limits").await.status, 200);
        f.control.advance(3_600_000).await.unwrap();
    }
    let reply = f.post(CONTACT, json!({ "LastName": "Doe" })).await;
    assert_eq!(reply.status, 403);
    assert_eq!(
        reply.body,
        json!([{ "message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED" }])
    );
    assert_eq!(reply.header("retry-after"), None);
    assert_eq!(reply.header("sforce-limit-info"), Some("api-usage=3/3"));
    let counts = f.control.salesforce_counts(f.number()).await.unwrap();
    assert_eq!((counts.operations["salesforce.create"].throttled, counts.live), (1, 0));
    // The window rolls: after the first call has left it, there is room for one.
    f.control.advance(21 * 3_600_000 + 120_000).await.unwrap();
    assert_eq!(f.get("/limits").await.status, 200);
    assert_eq!(f.get("/limits").await.status, 403);
    f.control.set_salesforce_limits(f.number(), &SalesforceLimits::UNLIMITED).await.unwrap();
    assert_eq!(f.get("/limits").await.status, 200);
}

#[tokio::test]
async fn long_calls_at_the_same_time_are_limited() {
    let f = Force::with(|new| {
        new.limits = SalesforceLimits { concurrent: 1, long_ms: 20, ..SalesforceLimits::default() }
    })
    .await;
    let slow = FaultKind::Latency { ms: 3_000, jitter_ms: 0 };
    f.control.order(&FaultOrder::new(slow).operation("salesforce.query").times(1)).await.unwrap();
    let long = f.query("SELECT COUNT() FROM Contact");
    let short = async {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let reply = f.get("/limits").await;
            if reply.status == 403 {
                break reply;
            }
            assert!(Instant::now() < deadline, "no call was refused while a long one was under way");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (long, short) = tokio::join!(long, short);
    assert_eq!(long.status, 200);
    assert_eq!(short.refusal(), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert_eq!(short.message(), "ConcurrentRequests (Concurrent API Requests) Limit exceeded.");
    assert_eq!(f.get("/limits").await.status, 200);
}

#[tokio::test]
async fn a_collection_is_created_with_a_result_for_each() {
    let f = Force::new().await;
    let records = [
        record(json!({ "LastName": "A", "Key__c": "k" })),
        record(json!({ "FirstName": "B" })),
        record(json!({ "LastName": "C", "Key__c": "k" })),
        record(json!({ "LastName": "D" })),
    ];
    let reply = f.post(COLLECTION, json!({ "allOrNone": false, "records": records })).await;
    assert_eq!(reply.status, 200);
    let rows = reply.body.as_array().unwrap();
    let taken: Vec<bool> = rows.iter().map(|row| row["success"].as_bool().unwrap()).collect();
    assert_eq!(taken, [true, false, false, true]);
    assert!(rows[0]["id"].as_str().unwrap().starts_with("003"));
    assert_eq!(rows[1]["errors"][0]["statusCode"], "REQUIRED_FIELD_MISSING");
    assert_eq!(
        (&rows[2]["errors"][0]["statusCode"], &rows[2]["errors"][0]["fields"]),
        (&json!("DUPLICATE_VALUE"), &json!([]))
    );
    let usage = f.get("/limits").await.header("sforce-limit-info").unwrap().to_owned();
    assert!(usage.starts_with("api-usage=2/"), "a collection is one call: {usage}");
}

#[tokio::test]
async fn all_or_none_takes_everything_back() {
    let f = Force::with(|new| new.settings.journal = true).await;
    let id = f.contact(json!({ "Title": "x" })).await;
    let records = [record(json!({ "id": id, "Title": "y" })), record(json!({ "id": id, "LastName": null }))];
    let reply = f.patch(COLLECTION, json!({ "allOrNone": true, "records": records })).await;
    assert_eq!(reply.body[0]["errors"][0]["statusCode"], "ALL_OR_NONE_OPERATION_ROLLED_BACK");
    assert_eq!(reply.body[1]["errors"][0]["statusCode"], "REQUIRED_FIELD_MISSING");
    assert_eq!(f.read(&id, "Title").await["Title"], "x");
    let writes = f.control.salesforce_writes(f.number()).await.unwrap();
    let taken: Vec<bool> = writes.iter().map(|write| write.taken).collect();
    assert_eq!(taken, [true, false, false]);
    let reply = f.patch(COLLECTION, json!({ "allOrNone": false, "records": records })).await;
    assert_eq!((&reply.body[0]["success"], &reply.body[1]["success"]), (&json!(true), &json!(false)));
    assert_eq!(f.read(&id, "Title").await["Title"], "y");
}

#[tokio::test]
async fn a_collection_is_upserted_read_and_deleted() {
    let f = Force::new().await;
    let records = [
        record(json!({ "Key__c": "a", "LastName": "A" })),
        record(json!({ "Key__c": "b", "LastName": "B" })),
        record(json!({ "LastName": "C" })),
    ];
    let path = format!("{COLLECTION}/Contact/Key__c");
    let first = f.patch(&path, json!({ "records": records })).await;
    assert_eq!((&first.body[0]["created"], &first.body[2]["success"]), (&json!(true), &json!(false)));
    let again = f.patch(&path, json!({ "records": [records[0]] })).await;
    assert_eq!((&again.body[0]["created"], &again.body[0]["id"]), (&json!(false), &first.body[0]["id"]));
    let (a, b) = (first.body[0]["id"].as_str().unwrap(), first.body[1]["id"].as_str().unwrap());
    let unknown = format!("{}zz", &a[..13]);
    let read = f
        .post(&format!("{COLLECTION}/Contact"), json!({ "ids": [b, unknown, a], "fields": ["LastName"] }))
        .await;
    assert_eq!(
        (&read.body[0]["LastName"], &read.body[1], &read.body[2]["LastName"]),
        (&json!("B"), &Value::Null, &json!("A"))
    );
    let gone = f.delete(&format!("{COLLECTION}?ids={a},{a}&allOrNone=false")).await;
    assert_eq!(gone.body[1]["errors"][0]["statusCode"], "ENTITY_IS_DELETED");
    assert_eq!(f.control.salesforce_counts(f.number()).await.unwrap().live, 1);
}

#[tokio::test]
async fn a_collection_has_two_hundred_records_at_most() {
    let f = Force::new().await;
    let records: Vec<Value> = (0..201).map(|_| record(json!({ "LastName": "Doe" }))).collect();
    let reply = f.post(COLLECTION, json!({ "records": records })).await;
    assert_eq!(reply.refusal(), (400, "EXCEEDED_ID_LIMIT"));
    assert_eq!(f.control.salesforce_counts(f.number()).await.unwrap().live, 0);
    let untyped = f.post(COLLECTION, json!({ "records": [{ "LastName": "Doe" }] })).await;
    assert_eq!(untyped.body[0]["success"], false);
}

#[tokio::test]
async fn ordered_refusals_have_no_effect_and_the_words_of_salesforce() {
    let f = Force::new().await;
    let refused = FaultKind::Refused {
        status: 400,
        code: "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY".into(),
        message: "a trigger failed".into(),
    };
    let busy = FaultKind::Status { status: 503, retry_after: None };
    let id = f.contact(json!({})).await;
    for (kind, status, code) in
        [(refused, 400, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"), (busy, 503, "SERVER_UNAVAILABLE")]
    {
        f.control
            .order(&FaultOrder::new(kind).portal(f.number()).operation("salesforce.update").times(1))
            .await
            .unwrap();
        assert_eq!(f.get(&format!("{CONTACT}/{id}")).await.status, 200);
        assert_eq!(f.update(&id, json!({ "Title": "x" })).await.refusal(), (status, code));
        assert_eq!(f.read(&id, "Title").await["Title"], Value::Null);
    }
    assert_eq!(f.update(&id, json!({ "Title": "x" })).await.status, 204);
}

#[tokio::test]
async fn a_write_may_take_effect_and_its_answer_be_lost_or_not_even_arrive() {
    let f = Force::new().await;
    let url = format!("{}/services/data/v60.0{CONTACT}", f.simulator.api_url());
    let bearer = format!("Bearer {}", f.org.access_token);
    for (kind, live) in [(FaultKind::ResetBefore, 0), (FaultKind::DropAfter, 1)] {
        f.control.order(&FaultOrder::new(kind).operation("salesforce.create").times(1)).await.unwrap();
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        assert!(f.raw(Method::POST, &url, &headers, r#"{"LastName":"Doe"}"#).await.is_err());
        assert_eq!(f.control.salesforce_counts(f.number()).await.unwrap().live, live);
    }
    f.control.order(&FaultOrder::new(FaultKind::ExpireToken).times(1)).await.unwrap();
    assert_eq!(f.get("/limits").await.refusal(), (401, "INVALID_SESSION_ID"));
    assert_eq!(f.get("/limits").await.status, 401, "it stays so");
}

#[tokio::test]
async fn an_automation_rewrites_in_the_name_of_whoever_wrote() {
    let f = Force::with(|new| new.settings.journal = true).await;
    let kind =
        FaultKind::Automation { property: "Phone".into(), rewrite: Rewrite::PhonePlus, in_response: false };
    f.control.order(&FaultOrder::new(kind)).await.unwrap();
    let id = f.contact(json!({ "Phone": "(49) 228-1" })).await;
    let read = f.read(&id, "Phone,LastModifiedById").await;
    assert_eq!((&read["Phone"], &read["LastModifiedById"]), (&json!("+492281"), &json!(f.org.api_user_id)));
    f.control.salesforce_person_edits(f.number(), &id, json!({ "Phone": "49 2" })).await.unwrap();
    let read = f.read(&id, "Phone,LastModifiedById").await;
    assert_eq!((&read["Phone"], &read["LastModifiedById"]), (&json!("+492"), &json!(f.org.person_user_id)));
    let writes = f.control.salesforce_writes(f.number()).await.unwrap();
    let by: Vec<Writer> = writes.iter().map(|write| write.by).collect();
    assert_eq!(by, [Writer::Api, Writer::Automation, Writer::Person, Writer::Automation]);
}

#[tokio::test]
async fn people_edit_right_after_a_read_and_inside_a_write() {
    let f = Force::new().await;
    let id = f.contact(json!({})).await;
    let number = f.control.salesforce_contacts(f.number()).await.unwrap()[0].object_id;
    let edit = |name: &str, value: &str| -> std::collections::BTreeMap<String, String> {
        [(name.to_owned(), value.to_owned())].into()
    };
    let kind =
        FaultKind::PersonEditAfterRead { properties: edit("Title", "Boss {n}"), object_id: Some(number) };
    f.control.order(&FaultOrder::new(kind).times(1)).await.unwrap();
    assert_eq!(f.read(&id, "Title").await["Title"], Value::Null);
    assert!(f.read(&id, "Title").await["Title"].as_str().unwrap().starts_with("Boss "));
    let kind = FaultKind::PersonEditInWrite { properties: edit("Score__c", "7"), object_id: None };
    f.control.order(&FaultOrder::new(kind).operation("salesforce.update").times(1)).await.unwrap();
    f.update(&id, json!({ "Phone": "1" })).await;
    let read = f.read(&id, "Phone,Score__c,LastModifiedById").await;
    assert_eq!((&read["Phone"], &read["Score__c"]), (&json!("1"), &json!(7)));
    assert_eq!(read["LastModifiedById"], json!(f.org.person_user_id));
    let body = b"{\"Id\":".to_vec();
    f.control
        .order(&FaultOrder::new(FaultKind::AnswerBody { body, object_id: Some(number) }).times(1))
        .await
        .unwrap();
    assert_eq!(f.get(&format!("{CONTACT}/{id}")).await.body, json!("{\"Id\":"));
}

#[tokio::test]
async fn people_act_past_the_limits_and_are_checked() {
    let f = Force::with(|new| new.limits.daily = 1).await;
    assert_eq!(f.get("/limits").await.status, 200);
    let made = f
        .control
        .salesforce_person_creates(f.number(), json!({ "LastName": "Doe", "Key__c": "k" }))
        .await
        .unwrap();
    assert_eq!(made.values["CreatedById"], json!(f.org.person_user_id));
    for wrong in [json!({ "LastName": null }), json!({ "Nope": 1 }), json!({ "Email": "x" })] {
        assert!(f.control.salesforce_person_edits(f.number(), &made.id, wrong).await.is_err());
    }
    let record = |key: &str| json!({ "LastName": "Doe", "Key__c": key }).as_object().unwrap().clone();
    let import = SalesforceImport { records: vec![record("a"), record("k"), record("b")], quiet: true };
    let imported = f.control.salesforce_person_imports(f.number(), &import).await.unwrap();
    assert_eq!((imported.ids[1].as_deref(), imported.refused.len()), (None, 1));
    let deleted = f.control.salesforce_person_deletes(f.number(), &made.id).await.unwrap();
    assert!(deleted.deleted);
    let counts = f.control.salesforce_counts(Portal::All).await.unwrap();
    assert_eq!((counts.live, counts.deleted), (2, 1));
    f.control.clear_salesforce_org(f.number()).await.unwrap();
    assert!(f.control.salesforce_contacts(f.number()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_org_notes_calls_with_their_client_and_writes_with_who_wrote() {
    let f = Force::with(|new| new.settings.journal = true).await;
    let options = [("sforce-call-options", "client=Tandem/1, defaultNamespace=x")];
    let reply = f.call(Method::POST, CONTACT, &options, json!({ "LastName": "Doe" })).await;
    let id = reply.body["id"].as_str().unwrap();
    f.update(id, json!({ "LastName": null })).await;
    f.control.salesforce_person_deletes(f.number(), id).await.unwrap();
    let calls = f.control.salesforce_calls(f.number()).await.unwrap();
    let told: Vec<(&str, Option<u16>, Option<&str>)> =
        calls.iter().map(|call| (&*call.operation, call.status, call.client.as_deref())).collect();
    assert_eq!(
        told,
        [("salesforce.create", Some(201), Some("Tandem/1")), ("salesforce.update", Some(400), None)]
    );
    let writes = f.control.salesforce_writes(f.number()).await.unwrap();
    let told: Vec<_> = writes.iter().map(|write| (write.by, write.kind, write.taken)).collect();
    assert_eq!(
        told,
        [
            (Writer::Api, WriteKind::Create, true),
            (Writer::Api, WriteKind::Update, false),
            (Writer::Person, WriteKind::Delete, true)
        ]
    );
    assert_eq!(
        f.control.salesforce_contacts(f.number()).await.unwrap()[0].client.as_deref(),
        Some("Tandem/1")
    );
}

#[tokio::test]
async fn many_orgs_are_made_in_one_call_and_a_reset_forgets_them() {
    let f = Force::new().await;
    let new = NewSalesforceOrgs { count: Some(500), ..NewSalesforceOrgs::default() };
    let made = f.control.create_salesforce_orgs(&new).await.unwrap();
    let ids: std::collections::BTreeSet<&str> = made.iter().map(|org| &*org.organization_id).collect();
    assert_eq!((ids.len(), made[0].client_id == made[499].client_id), (500, true));
    assert_eq!(f.control.salesforce_orgs().await.unwrap().len(), 501);
    assert_eq!(f.control.salesforce_tokens(made[7].portal_id).await.unwrap(), [made[7].access_token.clone()]);
    f.control.reset().await.unwrap();
    assert!(f.control.salesforce_orgs().await.unwrap().is_empty());
    assert_eq!(f.get("/limits").await.status, 401);
    let wrong: NewSalesforceOrgs = serde_json::from_value(json!({ "fields": [{ "name": "Key" }] })).unwrap();
    assert!(f.control.create_salesforce_orgs(&wrong).await.is_err());
    assert!(serde_json::from_value::<NewSalesforceOrgs>(json!({ "nope": 1 })).is_err());
}
