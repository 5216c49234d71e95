//! What the HTTP API promises, over real connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::client::{Api, Connection};

/// A cursor as the API writes it.
fn cursor_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

const CONTACTS: &str = "/v1/scopes/acme/contact";
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

fn at(id: &str) -> String {
    format!("{CONTACTS}/{id}")
}

#[tokio::test]
async fn a_record_is_created_read_replaced_and_deleted() {
    let api = Api::start().await;
    let created = api.put("POST", CONTACTS, &[], &json!({"given_name": "Ada"})).await;
    assert_eq!(created.status, 201);
    let location = created.header("location").unwrap().to_owned();
    let id = created.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(location, at(&id));
    assert_eq!(id.len(), 36, "a UUID");

    let read = api.get(&location).await;
    assert_eq!((read.status, read.json()), (200, json!({"given_name": "Ada"})));
    assert_eq!(read.header("etag"), created.header("etag"));
    assert_eq!(read.header("tandem-origin"), Some("api"));

    let first = read.header("etag").unwrap().to_owned();
    let known = api.send("GET", &location, &[("if-none-match", &first)], b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));

    let replaced = api.put("PUT", &location, &[("if-match", &first)], &json!({"family_name": "L"})).await;
    assert_eq!(replaced.status, 200);
    assert_ne!(replaced.header("etag"), Some(first.as_str()));
    let changed = api.send("GET", &location, &[("if-none-match", &first)], b"").await;
    assert_eq!((changed.status, changed.json()), (200, json!({"family_name": "L"})));

    let stale = api.send("DELETE", &location, &[("if-match", &first)], b"").await;
    assert_eq!(stale.refusal().0, 412);
    let gone = api.send("DELETE", &location, &[("if-match", "*")], b"").await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    let missing = api.get(&location).await;
    assert_eq!(missing.refusal(), (404, "deleted".into(), None));
    let version = format!("\"{}\"", missing.json()["version"]);
    assert_eq!(gone.header("etag"), Some(version.as_str()));
    assert_eq!(api.send("DELETE", &location, &[], b"").await.refusal().1, "deleted");
    assert_eq!(api.send("DELETE", &at("never"), &[], b"").await.refusal().1, "absent");
}

#[tokio::test]
async fn preconditions_are_honoured_exactly() {
    let api = Api::start().await;
    let body = json!({"given_name": "A"});
    let status = async |method: &str, id: &str, headers: &[(&str, &str)], body: &Value| {
        api.put(method, &at(id), headers, body).await.status
    };
    assert_eq!(status("PUT", "1", &[("if-match", "*")], &body).await, 412);
    assert_eq!(status("PUT", "1", &[("if-match", "\"1\"")], &body).await, 412);
    assert_eq!(status("PUT", "1", &[("if-none-match", "*")], &body).await, 201);
    assert_eq!(status("PUT", "1", &[("if-none-match", "*")], &body).await, 412);
    let tag = api.get(&at("1")).await.header("etag").unwrap().to_owned();
    let weak = format!("W/{tag}");
    let list = format!("\"7777\", {tag}");
    assert_eq!(status("PUT", "1", &[("if-match", &weak)], &json!({"given_name": "B"})).await, 412);
    assert_eq!(status("PUT", "1", &[("if-match", "\"7777\"")], &json!({"given_name": "B"})).await, 412);
    assert_eq!(status("PATCH", "1", &[("if-match", "\"7777\"")], &json!({"given_name": "B"})).await, 412);
    assert_eq!(status("PUT", "1", &[("if-match", &list)], &json!({"given_name": "B"})).await, 200);
    assert_eq!(status("PATCH", "1", &[("if-match", &tag)], &json!({"given_name": "C"})).await, 412);
    // Without a precondition the last write wins.
    assert_eq!(status("PUT", "1", &[], &json!({"given_name": "C"})).await, 200);
    assert_eq!(status("PUT", "2", &[], &body).await, 201);
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let api = Api::start().await;
    let path = at("1");
    assert_eq!(api.put("PATCH", &path, &[], &json!({"city": "Bern"})).await.refusal().1, "absent");
    api.put("PUT", &path, &[], &json!({"given_name": "Ada", "city": "London", "tags": ["a"]})).await;
    let patch = json!({"city": null, "job_title": "Countess", "tags": ["b", "c"]}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = api.send("PATCH", &path, &merge, patch.as_bytes()).await;
    assert_eq!(patched.status, 200);
    let after = json!({"given_name": "Ada", "tags": ["b", "c"], "job_title": "Countess"});
    assert_eq!(api.get(&path).await.json(), after);
    // The result is held to the schema, not the patch.
    let refused = api.send("PATCH", &path, &merge, br#"{"city": 7}"#).await;
    assert_eq!(refused.refusal(), (422, "invalid".into(), Some("/city".into())));
    assert_eq!(api.send("PATCH", &path, &merge, b"[]").await.refusal().0, 422);
    assert_eq!(api.get(&path).await.json(), after);
}

#[tokio::test]
async fn an_identity_value_belongs_to_one_record_and_the_answer_names_it() {
    let api = Api::start().await;
    api.put("PUT", &at("1"), &[], &json!({"email": "ada@x.example"})).await;
    let second = api.put("POST", CONTACTS, &[], &json!({"email": "Ada@X.example"})).await;
    assert_eq!(second.refusal(), (409, "identity-exists".into(), None));
    assert_eq!(second.json()["existing"], "1");
    let taken = api.put("POST", &format!("{CONTACTS}?id=1"), &[], &json!({})).await;
    assert_eq!(taken.refusal(), (409, "id-exists".into(), None));
    assert_eq!(taken.json()["existing"], "1");
    let own = api.put("POST", &format!("{CONTACTS}?id=own-1"), &[], &json!({})).await;
    assert_eq!((own.status, own.header("location")), (201, Some(at("own-1").as_str())));
    // Another scope is another customer.
    assert_eq!(
        api.put("PUT", "/v1/scopes/other/contact/1", &[], &json!({"email": "ada@x.example"})).await.status,
        201
    );
}

#[tokio::test]
async fn lists_give_live_records_in_order_page_by_page() {
    let api = Api::start().await;
    for number in 0..25 {
        let body = json!({"employees": number});
        assert_eq!(api.put("PUT", &at(&format!("c{number:02}")), &[], &body).await.status, 201);
    }
    api.put("PUT", "/v1/scopes/acme2/contact/x", &[], &json!({})).await;
    api.put("PUT", "/v1/scopes/acme/ticket/x", &[], &json!({"title": "t"})).await;
    api.send("DELETE", &at("c07"), &[], b"").await;
    let mut found = Vec::new();
    let mut path = format!("{CONTACTS}?limit=10");
    let mut pages = 0;
    loop {
        let page = api.get(&path).await.json();
        pages += 1;
        for record in page["records"].as_array().unwrap() {
            let number: u64 = record["id"].as_str().unwrap()[1..].parse().unwrap();
            assert_eq!(record["document"], json!({"employees": number}));
            assert!(record["version"].is_u64() && record["changed_at"].is_u64() && record["origin"] == "api");
            found.push(number);
        }
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("{CONTACTS}?limit=10&cursor={cursor}");
    }
    let expected: Vec<u64> = (0..25).filter(|number| *number != 7).collect();
    assert_eq!((found, pages), (expected, 3));
    assert_eq!(api.get("/v1/scopes/empty/contact").await.json(), json!({"records": []}));
}

#[tokio::test]
async fn the_feed_of_a_scope_names_its_changes_and_no_others() {
    let api = Api::start().await;
    for id in ["1", "2"] {
        api.put("PUT", &at(id), &[], &json!({})).await;
        api.put("PUT", &format!("/v1/scopes/other/contact/{id}"), &[], &json!({})).await;
    }
    let page = api.get("/v1/scopes/acme/changes?limit=1").await.json();
    assert_eq!((page["changes"][0]["id"].clone(), page["more"].clone()), (json!("1"), json!(true)));
    let cursor = page["cursor"].as_str().unwrap();
    let mut path = format!("/v1/scopes/acme/changes?cursor={cursor}");
    let mut ids = Vec::new();
    loop {
        let page = api.get(&path).await.json();
        ids.extend(page["changes"].as_array().unwrap().iter().map(|change| change["id"].clone()));
        path = format!("/v1/scopes/acme/changes?cursor={}", page["cursor"].as_str().unwrap());
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(ids, [json!("2")]);
    api.send("DELETE", &at("1"), &[], b"").await;
    let page = api.get(&path).await.json();
    assert_eq!(page["changes"].as_array().unwrap().len(), 1);
    let change = &page["changes"][0];
    assert_eq!(
        (change["object"].clone(), change["id"].clone(), change["deleted"].clone(), change["origin"].clone()),
        (json!("contact"), json!("1"), json!(true), json!("api"))
    );
}

#[tokio::test]
async fn a_cursor_that_is_too_old_is_told_to_start_again() {
    let mut options = super::options();
    options.feed_keep = 10;
    let api = Api::start_with(options, |state| state).await;
    api.put("PUT", &at("first"), &[], &json!({})).await;
    let page = api.get("/v1/scopes/acme/changes").await.json();
    let ahead = crate::internal::embedded::Cursor::Feed { after: 99_999 }.encode();
    let ahead = cursor_text(&ahead);
    let refused = api.get(&format!("/v1/scopes/acme/changes?cursor={ahead}")).await;
    assert_eq!(refused.refusal(), (410, "cursor-too-old".into(), None));
    // The cursor of a walk is good for its own scope only.
    let walk = crate::internal::embedded::Cursor::Walk {
        until: 1,
        after: crate::internal::embedded::layout::record_key("other", "contact", "1"),
    };
    let walk = cursor_text(&walk.encode());
    assert_eq!(api.get(&format!("/v1/scopes/acme/changes?cursor={walk}")).await.refusal().0, 410);
    let good = page["cursor"].as_str().unwrap();
    assert_eq!(api.get(&format!("/v1/scopes/acme/changes?cursor={good}")).await.status, 200);
}

/// Reads server-sent events until a blank line; comments count as events without fields.
struct Events {
    connection: Connection,
    text: String,
}

impl Events {
    async fn open(api: &Api, path: &str, last: Option<&str>) -> Self {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|last| ("last-event-id", last)));
        let mut connection = api.open("GET", path, &headers, Some(0)).await;
        let head = connection.head().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self { connection, text: String::new() }
    }

    async fn next(&mut self) -> Option<BTreeMap<String, String>> {
        loop {
            if let Some((event, rest)) = self.text.clone().split_once("\n\n") {
                self.text = rest.to_owned();
                let fields = event.lines().filter_map(|line| line.split_once(':'));
                return Some(
                    fields.map(|(name, value)| (name.to_owned(), value.trim_start().to_owned())).collect(),
                );
            }
            self.text.push_str(&String::from_utf8(self.connection.next_chunk().await?).unwrap());
        }
    }

    /// The id of the next changed record, and the event's id.
    async fn change(&mut self) -> (String, String) {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.get("event").map(String::as_str) == Some("change") {
                let data: Value = serde_json::from_str(&event["data"]).unwrap();
                return (data["id"].as_str().unwrap().to_owned(), event["id"].clone());
            }
        }
    }
}

#[tokio::test]
async fn events_begin_with_all_records_follow_what_changes_and_resume() {
    let api = Api::start().await;
    for id in ["a", "b", "c"] {
        api.put("PUT", &at(id), &[], &json!({})).await;
    }
    let mut events = Events::open(&api, "/v1/scopes/acme/changes", None).await;
    let (first, _) = events.change().await;
    let (second, place) = events.change().await;
    assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
    drop(events);
    // In the middle of the walk the connection breaks; meanwhile something changes.
    api.put("PUT", &at("d"), &[], &json!({})).await;
    let mut events = Events::open(&api, "/v1/scopes/acme/changes", Some(&place)).await;
    assert_eq!(events.change().await.0, "c");
    let (fourth, place) = events.change().await;
    assert_eq!(fourth, "d");
    // Live.
    api.put("PUT", "/v1/scopes/other/contact/x", &[], &json!({})).await;
    api.put("PUT", &at("e"), &[], &json!({})).await;
    assert_eq!(events.change().await.0, "e");
    drop(events);
    let mut events = Events::open(&api, "/v1/scopes/acme/changes", Some(&place)).await;
    assert_eq!(events.change().await.0, "e");
}

#[tokio::test]
async fn an_idle_event_stream_sends_heartbeats_and_ends_when_the_server_drains() {
    let api = Api::start_with(super::options(), |mut state| {
        state.heartbeat = Duration::from_millis(5);
        state
    })
    .await;
    let mut events = Events::open(&api, "/v1/scopes/quiet/changes", None).await;
    for _ in 0..3 {
        let event = events.next().await.expect("a comment");
        assert!(!event.contains_key("event"), "{event:?}");
    }
    api.store.drain();
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn a_batch_answers_every_line_and_a_bad_one_stops_nobody() {
    let api = Api::start().await;
    let lines = [
        r#"{"op":"upsert","id":"1","document":{"email":"a@x.example"}}"#,
        r#"{"op":"create","document":{"given_name":"B"}}"#,
        r#"{"op":"create","id":"1","document":{}}"#,
        r#"{"op":"upsert","id":"2","document":{"employees":"many"}}"#,
        "not json",
        "",
        r#"{"op":"upsert","id":"3","document":{"email":"A@x.example"}}"#,
        r#"{"op":"upsert","id":"1","document":{"email":"a@x.example","city":"Bern"}}"#,
        r#"{"op":"delete","id":"1"}"#,
        r#"{"op":"delete","id":"1"}"#,
        r#"{"op":"delete","id":"never"}"#,
        r#"{"op":"merge","id":"1"}"#,
        r#"{"op":"upsert","document":{}}"#,
        r#"{"op":"upsert","id":"a/b","document":{}}"#,
        r#"{"op":"upsert","id":"4","document":{},"more":1}"#,
        r#"{"op":"upsert","id":"3","document":{"email":"a@x.example"}}"#,
    ];
    let answer = api.send("POST", &format!("{CONTACTS}/batch"), &[NDJSON], lines.join("\n").as_bytes()).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
    let answers: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<(u64, u64, &str)> = answers
        .iter()
        .map(|answer| {
            let code = answer["code"].as_str().unwrap_or_default();
            (answer["line"].as_u64().unwrap(), answer["status"].as_u64().unwrap(), code)
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, 201, ""),
            (2, 201, ""),
            (3, 409, "id-exists"),
            (4, 422, "invalid"),
            (5, 400, "malformed"),
            (7, 409, "identity-exists"),
            (8, 200, ""),
            (9, 204, ""),
            (10, 404, "deleted"),
            (11, 404, "absent"),
            (12, 400, "bad-line"),
            (13, 400, "bad-line"),
            (14, 400, "bad-id"),
            (15, 400, "bad-line"),
            (16, 201, ""),
        ]
    );
    assert_eq!(answers[3]["problems"][0]["pointer"], "/document/employees");
    assert_eq!((answers[3]["id"].clone(), answers[5]["existing"].clone()), (json!("2"), json!("1")));
    assert!(answers[0]["version"].as_u64() < answers[6]["version"].as_u64());
    assert_eq!(api.get(&at("3")).await.status, 200);
}

#[tokio::test]
async fn a_batch_answers_while_it_is_still_being_sent() {
    let api = Api::start().await;
    let mut connection = api.open("POST", &format!("{CONTACTS}/batch"), &[NDJSON], None).await;
    connection.chunk(br#"{"op":"upsert","id":"1","docu"#).await;
    connection.chunk(b"ment\":{}}\n").await;
    assert_eq!(connection.head().await.status, 200);
    let first: Value = serde_json::from_slice(&connection.next_chunk().await.unwrap()).unwrap();
    assert_eq!((first["status"].clone(), api.get(&at("1")).await.status), (json!(201), 200));
    // A line that is far too long is answered before it ends, and the next one is taken.
    let long = vec![b'x'; 300 << 10];
    connection.chunk(&long).await;
    let second: Value = serde_json::from_slice(&connection.next_chunk().await.unwrap()).unwrap();
    assert_eq!((second["line"].clone(), second["status"].clone()), (json!(2), json!(413)));
    connection.chunk(&long).await;
    connection.chunk(b"\n{\"op\":\"delete\",\"id\":\"1\"}").await;
    connection.chunk(b"").await;
    let third: Value = serde_json::from_slice(&connection.next_chunk().await.unwrap()).unwrap();
    assert_eq!((third["line"].clone(), third["status"].clone()), (json!(3), json!(204)));
    assert!(connection.next_chunk().await.is_none());
}

#[tokio::test]
async fn a_batch_of_thousands_keeps_its_order_and_every_line() {
    let api = Api::start().await;
    let mut body = String::new();
    for number in 0..5_000 {
        // Five writes to each record, in order.
        let id = number % 1_000;
        body.push_str(&format!(
            "{{\"op\":\"upsert\",\"id\":\"r{id}\",\"document\":{{\"employees\":{number}}}}}\n"
        ));
    }
    let answer = api.send("POST", &format!("{CONTACTS}/batch"), &[NDJSON], body.as_bytes()).await;
    let lines: Vec<u64> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, (1..=5_000).collect::<Vec<_>>());
    for id in [0, 1, 500, 999] {
        assert_eq!(api.get(&at(&format!("r{id}"))).await.json(), json!({"employees": 4_000 + id}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_up_with_if_match_loses_no_step() {
    let api = Arc::new(Api::start().await);
    api.put("PUT", &at("n"), &[], &json!({"employees": 0})).await;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let api = Arc::clone(&api);
            tokio::spawn(async move {
                let mut done = 0;
                while done < 20 {
                    let read = api.get(&at("n")).await;
                    let next = read.json()["employees"].as_u64().unwrap() + 1;
                    let tag = read.header("etag").unwrap().to_owned();
                    let method = if done % 2 == 0 { "PUT" } else { "PATCH" };
                    let body = json!({ "employees": next });
                    match api.put(method, &at("n"), &[("if-match", &tag)], &body).await.status {
                        200 => done += 1,
                        412 => {}
                        other => panic!("{other}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(api.get(&at("n")).await.json(), json!({"employees": 160}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_different_members_without_a_precondition_all_stay() {
    let api = Arc::new(Api::start().await);
    api.put("PUT", &at("p"), &[], &json!({})).await;
    let custom: BTreeSet<u32> = (0..48).collect();
    let patches: Vec<_> = custom
        .iter()
        .map(|number| {
            let (api, number) = (Arc::clone(&api), *number);
            tokio::spawn(async move {
                let patch = json!({"custom": {format!("f{number}"): number}});
                api.put("PATCH", &at("p"), &[], &patch).await.status
            })
        })
        .collect();
    for patch in patches {
        assert_eq!(patch.await.unwrap(), 200);
    }
    let document = api.get(&at("p")).await.json();
    assert_eq!(document["custom"].as_object().unwrap().len(), 48);
}
