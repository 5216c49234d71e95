//! Batches.

use serde_json::{Value, json};

use crate::setting::{CONTACTS, Setting, ids};

fn batch(kind: &str) -> String {
    format!("{CONTACTS}/batch/{kind}")
}

fn row(n: u32) -> Value {
    json!({ "properties": { "email": format!("n{n}@example.com") }, "associations": [] })
}

#[tokio::test]
async fn a_batch_read_answers_200_or_207_with_what_is_missing() {
    let s = Setting::new().await;
    let (a, b) =
        (s.contact(json!({ "email": "a@x.de" })).await, s.contact(json!({ "email": "b@x.de" })).await);
    let body =
        |inputs: Value| json!({ "inputs": inputs, "properties": ["email"], "propertiesWithHistory": [] });
    let reply = s.post(&batch("read"), body(json!([{ "id": a.to_string() }, { "id": b.to_string() }]))).await;
    assert_eq!((reply.status, ids(&reply.body)), (200, vec![a, b]));
    assert_eq!(reply.body["status"], "COMPLETE");
    assert!(reply.body["startedAt"].is_string() && reply.body["completedAt"].is_string());
    let reply = s.post(&batch("read"), body(json!([{ "id": a.to_string() }, { "id": "5" }]))).await;
    assert_eq!((reply.status, ids(&reply.body)), (207, vec![a]));
    assert_eq!(reply.body["numErrors"], 1);
    assert_eq!(reply.body["errors"][0]["category"], "OBJECT_NOT_FOUND");
    assert_eq!(reply.body["errors"][0]["context"]["ids"], json!(["5"]));
}

#[tokio::test]
async fn a_batch_read_may_go_by_a_unique_property() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "a@x.de" })).await;
    let body = json!({ "inputs": [{ "id": "A@x.de" }], "idProperty": "email", "properties": [], "propertiesWithHistory": ["email"] });
    let reply = s.post(&batch("read"), body).await;
    assert_eq!((reply.status, ids(&reply.body)), (200, vec![id]));
    assert_eq!(reply.body["results"][0]["propertiesWithHistory"]["email"][0]["value"], "a@x.de");
}

#[tokio::test]
async fn a_batch_has_a_hundred_inputs_at_most() {
    let s = Setting::new().await;
    let inputs: Vec<Value> = (0..100).map(row).collect();
    assert_eq!(s.post(&batch("create"), json!({ "inputs": inputs })).await.status, 201);
    let inputs: Vec<Value> = (100..201).map(row).collect();
    let reply = s.post(&batch("create"), json!({ "inputs": inputs })).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
    assert_eq!(s.reasons().await.len(), 1);
}

#[tokio::test]
async fn a_batch_create_is_all_or_nothing() {
    let s = Setting::new().await;
    s.contact(json!({ "email": "n2@example.com" })).await;
    let reply = s.post(&batch("create"), json!({ "inputs": [row(1), row(2)] })).await;
    assert_eq!((reply.status, reply.category()), (409, "CONFLICT"));
    assert_eq!(s.control.dump(s.portal()).await.unwrap().records.len(), 1);
    let reply = s.post(&batch("create"), json!({ "inputs": [row(1), row(1)] })).await;
    assert_eq!((reply.status, reply.category()), (400, "VALIDATION_ERROR"));
}

#[tokio::test]
async fn a_batch_create_with_trace_ids_answers_row_by_row() {
    let s = Setting::new().await;
    s.contact(json!({ "email": "n2@example.com" })).await;
    let traced = |n: u32| {
        let mut row = row(n);
        row["objectWriteTraceId"] = format!("t{n}").into();
        row
    };
    let reply = s.post(&batch("create"), json!({ "inputs": [traced(1), traced(2), traced(3)] })).await;
    assert_eq!(reply.status, 207);
    let traces: Vec<&Value> =
        reply.body["results"].as_array().unwrap().iter().map(|row| &row["objectWriteTraceId"]).collect();
    assert_eq!(traces, ["t1", "t3"]);
    assert_eq!(reply.body["errors"][0]["category"], "CONFLICT");
    assert_eq!(reply.body["errors"][0]["context"]["objectWriteTraceId"], json!(["t2"]));
}

#[tokio::test]
async fn a_batch_update_answers_207_for_ids_that_do_not_exist() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "a@x.de" })).await;
    let inputs = json!([
        { "id": "a@x.de", "idProperty": "email", "properties": { "city": "Ulm" } },
        { "id": "77", "properties": { "city": "Ulm" } },
    ]);
    let reply = s.post(&batch("update"), json!({ "inputs": inputs })).await;
    assert_eq!((reply.status, ids(&reply.body)), (207, vec![id]));
    assert_eq!(reply.body["results"][0]["properties"]["city"], "Ulm");
    assert_eq!(reply.body["errors"][0]["context"]["ids"], json!(["77"]));
    // A wrong value refuses the whole batch.
    let inputs = json!([
        { "id": id.to_string(), "properties": { "city": "Kiel" } },
        { "id": id.to_string(), "properties": { "nope": "1" } },
    ]);
    assert_eq!(s.post(&batch("update"), json!({ "inputs": inputs })).await.status, 400);
    assert_eq!(s.read(id, "city").await["properties"]["city"], "Ulm");
}

#[tokio::test]
async fn an_upsert_says_which_rows_are_new() {
    let s = Setting::new().await;
    let id = s.contact(json!({ "email": "a@x.de" })).await;
    let input = |email: &str, city: &str| json!({ "id": email, "idProperty": "email", "properties": { "city": city }, "objectWriteTraceId": email });
    let reply = s
        .post(&batch("upsert"), json!({ "inputs": [input("a@x.de", "Ulm"), input("b@x.de", "Kiel")] }))
        .await;
    assert_eq!(reply.status, 200);
    let rows = reply.body["results"].as_array().unwrap();
    assert_eq!((&rows[0]["new"], &rows[0]["id"]), (&json!(false), &json!(id.to_string())));
    assert_eq!((&rows[1]["new"], &rows[1]["properties"]["email"]), (&json!(true), &json!("b@x.de")));
    assert_eq!(rows[1]["objectWriteTraceId"], "b@x.de");
}

#[tokio::test]
async fn an_upsert_answers_207_row_by_row_and_needs_its_key() {
    let s = Setting::new().await;
    let inputs = json!([
        { "id": "a@x.de", "idProperty": "email", "properties": { "nope": "1" }, "objectWriteTraceId": "one" },
        { "id": "b@x.de", "idProperty": "email", "properties": {} },
    ]);
    let reply = s.post(&batch("upsert"), json!({ "inputs": inputs })).await;
    assert_eq!(reply.status, 207);
    assert_eq!(reply.body["results"].as_array().unwrap().len(), 1);
    assert_eq!(reply.body["errors"][0]["context"]["objectWriteTraceId"], json!(["one"]));
    let reply =
        s.post(&batch("upsert"), json!({ "inputs": [{ "id": "1", "properties": { "city": "x" } }] })).await;
    assert_eq!(reply.status, 400);
    let inputs = json!([{ "id": "x", "idProperty": "city", "properties": { "firstname": "x" } }]);
    assert_eq!(s.post(&batch("upsert"), json!({ "inputs": inputs })).await.status, 400);
}

#[tokio::test]
async fn a_batch_archive_is_204() {
    let s = Setting::new().await;
    let (a, b) =
        (s.contact(json!({ "email": "a@x.de" })).await, s.contact(json!({ "email": "b@x.de" })).await);
    let inputs = json!([{ "id": a.to_string() }, { "id": b.to_string() }, { "id": "5" }]);
    assert_eq!(s.post(&batch("archive"), json!({ "inputs": inputs })).await.status, 204);
    assert!(ids(&s.get(CONTACTS).await.body).is_empty());
}

#[tokio::test]
async fn a_batch_is_one_call() {
    let s = Setting::with(Default::default(), |new| new.quota = None).await;
    let before =
        s.get("/account-info/v3/details").await.number("x-hubspot-ratelimit-daily-remaining").unwrap();
    let inputs: Vec<Value> = (0..50).map(row).collect();
    let reply = s.post(&batch("create"), json!({ "inputs": inputs })).await;
    assert_eq!(reply.number("x-hubspot-ratelimit-daily-remaining"), Some(before - 1));
}
