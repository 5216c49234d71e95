//! Inputs that must not get in: each with its status, code and pointer, and the next good one is taken.

use serde_json::{Value, json};

use super::client::Api;

const CONTACTS: &str = "/v1/scopes/acme/contact";
const JSON: (&str, &str) = ("content-type", "application/json");

/// What it shows, the bytes, status, code, the first problem's code and pointer.
type BadBody = (&'static str, Vec<u8>, u16, &'static str, &'static str, &'static str);

/// What it shows, method, path, headers, body, status and code.
type BadRequest<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

/// Bodies of a create that are no contact.
fn bodies() -> Vec<BadBody> {
    let deep = |depth: usize| format!("{{\"custom\":{{\"a\":{}{}}}}}", "[".repeat(depth), "]".repeat(depth));
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("wrong type", text(r#"{"given_name":5}"#), 422, "invalid", "type", "/given_name"),
        ("wrong element", text(r#"{"tags":["a",7]}"#), 422, "invalid", "type", "/tags/1"),
        (
            "extra member",
            text(r#"{"given_name":"A","nope":1}"#),
            422,
            "invalid",
            "additionalProperties",
            "/nope",
        ),
        (
            "too long",
            json!({"given_name": "x".repeat(256)}).to_string().into_bytes(),
            422,
            "invalid",
            "maxLength",
            "/given_name",
        ),
        ("bad date", text(r#"{"date_of_birth":"2026-02-30"}"#), 422, "invalid", "format", "/date_of_birth"),
        ("bad address", text(r#"{"email":"nobody"}"#), 422, "invalid", "format", "/email"),
        ("bad enum", text(r#"{"lifecycle_stage":"friend"}"#), 422, "invalid", "enum", "/lifecycle_stage"),
        ("negative", text(r#"{"employees":-1}"#), 422, "invalid", "minimum", "/employees"),
        ("lone surrogate", text(r#"{"city":"a\ud800"}"#), 422, "invalid", "lone-surrogate", "/city"),
        ("depth 1000", text(&deep(1000)), 422, "invalid", "too-deep", "/custom/a/0/0"),
        ("beyond 2^53", text(r#"{"employees":9007199254740993}"#), 422, "invalid", "number", "/employees"),
        ("fraction", text(r#"{"employees":1.5}"#), 422, "invalid", "number", "/employees"),
        ("1e999", text(r#"{"employees":1e999}"#), 422, "invalid", "number", "/employees"),
        ("duplicate", text(r#"{"city":"a","city":"b"}"#), 422, "invalid", "duplicate-member", "/city"),
        ("array", text("[]"), 422, "invalid", "type", ""),
        ("null", text("null"), 422, "invalid", "type", ""),
        ("raw NUL", b"{\"city\":\"a\0b\"}".to_vec(), 400, "malformed", "control-character", "/city"),
        ("NUL between", b"{\0}".to_vec(), 400, "malformed", "not-json", ""),
        ("invalid UTF-8", b"{\"city\":\"\xC3\x28\"}".to_vec(), 400, "malformed", "not-utf8", ""),
        ("cut off", text(r#"{"city":"#), 400, "malformed", "not-json", "/city"),
        ("two documents", text("{}{}"), 400, "malformed", "not-json", ""),
    ]
}

#[tokio::test]
async fn bad_bodies_are_refused_with_status_code_and_pointer_and_the_next_is_taken() {
    let api = Api::start().await;
    for (name, body, status, code, problem, pointer) in bodies() {
        let answer = api.send("POST", CONTACTS, &[JSON], &body).await;
        let (found_status, found_code, found_pointer) = answer.refusal();
        let found_problem = answer.json()["problems"][0]["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (
                found_status,
                found_code.as_str(),
                found_problem.as_str(),
                found_pointer.unwrap_or_default().as_str()
            ),
            (status, code, problem, pointer),
            "{name}: {}",
            answer.text()
        );
        let next = api.put("POST", CONTACTS, &[], &json!({"city": name})).await;
        assert_eq!(next.status, 201, "after {name}");
    }
    let missing = api.put("POST", "/v1/scopes/acme/ticket", &[], &json!({})).await;
    assert_eq!(missing.refusal(), (422, "invalid".into(), Some("/title".into())));
    assert_eq!(missing.json()["problems"][0]["code"], "required");
    let kept = api.get(&format!("{CONTACTS}?limit=1000")).await.json();
    assert_eq!(kept["records"].as_array().unwrap().len(), bodies().len(), "the good ones only");
}

#[tokio::test]
async fn the_same_bodies_as_lines_of_a_batch_stop_no_other_line() {
    let api = Api::start().await;
    let mut sent = Vec::new();
    for (number, (_, body, ..)) in bodies().iter().enumerate() {
        sent.extend_from_slice(br#"{"op":"create","document":"#);
        sent.extend_from_slice(body);
        sent.extend_from_slice(b"}\n");
        sent.extend_from_slice(
            format!("{{\"op\":\"upsert\",\"id\":\"good-{number}\",\"document\":{{}}}}\n").as_bytes(),
        );
    }
    let ndjson = [("content-type", "application/x-ndjson")];
    let answer = api.send("POST", &format!("{CONTACTS}/batch"), &ndjson, &sent).await;
    let answers: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2 * bodies().len());
    for (pair, (name, _, status, _, problem, pointer)) in answers.chunks(2).zip(bodies()) {
        assert_eq!(pair[1]["status"], 201, "after {name}");
        assert_eq!(pair[0]["status"], status, "{name}: {}", pair[0]);
        // A body that closes the line's own object, or ends it early, is another mistake there.
        if !matches!(name, "two documents" | "cut off") {
            assert_eq!(pair[0]["problems"][0]["code"], problem, "{name}");
            let place = match name {
                "invalid UTF-8" => Value::Null,
                // A pointer that deep is told by its first members only.
                "depth 1000" => json!("/document/custom/a/0"),
                _ => json!(format!("/document{pointer}")),
            };
            assert_eq!(pair[0]["problems"][0]["pointer"], place, "{name}");
        }
    }
}

#[tokio::test]
async fn bad_addresses_headers_and_parameters_are_refused() {
    let api = Api::start().await;
    let long = format!("{CONTACTS}/{}", "x".repeat(129));
    let wide = format!("/v1/scopes/{}/contact", "x".repeat(65));
    let text = [("content-type", "text/plain")];
    let huge = vec![b' '; (128 << 10) + 1];
    let none: &[(&str, &str)] = &[];
    let json_only: &[(&str, &str)] = &[JSON];
    let record = "/v1/scopes/acme/contact/1";
    let cases: Vec<BadRequest<'_>> = vec![
        ("wrong content type", "POST", CONTACTS, &text, b"{}", 415, "wrong-content-type"),
        ("no content type", "POST", CONTACTS, none, b"{}", 415, "wrong-content-type"),
        (
            "batch of JSON",
            "POST",
            "/v1/scopes/acme/contact/batch",
            json_only,
            b"{}",
            415,
            "wrong-content-type",
        ),
        (
            "merge patch as PUT",
            "PUT",
            record,
            &[("content-type", "application/merge-patch+json")],
            b"{}",
            415,
            "wrong-content-type",
        ),
        ("empty body", "POST", CONTACTS, json_only, b"", 400, "malformed"),
        ("huge body", "POST", CONTACTS, json_only, &huge, 413, "too-large"),
        ("slash in id", "PUT", "/v1/scopes/acme/contact/a%2Fb", json_only, b"{}", 400, "bad-id"),
        ("NUL in id", "PUT", "/v1/scopes/acme/contact/a%00b", json_only, b"{}", 400, "bad-id"),
        ("dots as id", "GET", "/v1/scopes/acme/contact/%2e%2e", none, b"", 400, "bad-id"),
        ("long id", "PUT", &long, json_only, b"{}", 400, "bad-id"),
        ("id in query", "POST", "/v1/scopes/acme/contact?id=a%20b", json_only, b"{}", 400, "bad-id"),
        ("reserved id", "POST", "/v1/scopes/acme/contact?id=batch", json_only, b"{}", 400, "bad-id"),
        ("path that is no text", "GET", "/v1/scopes/acme/contact/%ff", none, b"", 400, "bad-path"),
        ("bad scope", "GET", "/v1/scopes/a%00b/contact", none, b"", 400, "bad-scope"),
        ("long scope", "GET", &wide, none, b"", 400, "bad-scope"),
        ("bad scope of feed", "GET", "/v1/scopes/-/changes", none, b"", 400, "bad-scope"),
        ("unknown object", "POST", "/v1/scopes/acme/deal", json_only, b"{}", 404, "unknown-object"),
        ("unknown object, read", "GET", "/v1/scopes/acme/deal/1", none, b"", 404, "unknown-object"),
        ("bad cursor", "GET", "/v1/scopes/acme/contact?cursor=%21", none, b"", 400, "bad-cursor"),
        ("foreign cursor", "GET", "/v1/scopes/acme/contact?cursor=AAAA", none, b"", 400, "bad-cursor"),
        ("bad feed cursor", "GET", "/v1/scopes/acme/changes?cursor=AAAA", none, b"", 400, "bad-cursor"),
        (
            "bad event id",
            "GET",
            "/v1/scopes/acme/changes",
            &[("accept", "text/event-stream"), ("last-event-id", "7")],
            b"",
            400,
            "bad-cursor",
        ),
        ("limit 0", "GET", "/v1/scopes/acme/contact?limit=0", none, b"", 400, "bad-limit"),
        ("limit 1001", "GET", "/v1/scopes/acme/changes?limit=1001", none, b"", 400, "bad-limit"),
        ("limit of words", "GET", "/v1/scopes/acme/contact?limit=all", none, b"", 400, "bad-query"),
        ("bare if-match", "PUT", record, &[JSON, ("if-match", "7")], b"{}", 400, "bad-precondition"),
        ("open if-match", "PATCH", record, &[JSON, ("if-match", "\"7")], b"{}", 400, "bad-precondition"),
        (
            "if-none-match of a tag on a write",
            "DELETE",
            record,
            &[("if-none-match", "\"7\"")],
            b"",
            400,
            "bad-precondition",
        ),
        ("wrong method", "PUT", CONTACTS, json_only, b"{}", 405, "wrong-method"),
        ("wrong method of feed", "POST", "/v1/scopes/acme/changes", json_only, b"{}", 405, "wrong-method"),
    ];
    for (name, method, path, headers, body, status, code) in cases {
        let answer = api.send(method, path, headers, body).await;
        let (found_status, found_code, _) = answer.refusal();
        assert_eq!((found_status, found_code.as_str()), (status, code), "{name}: {}", answer.text());
    }
    // A length that is not said is counted.
    let mut connection = api.open("POST", CONTACTS, &[JSON], None).await;
    for _ in 0..5 {
        connection.chunk(&vec![b' '; 32 << 10]).await;
    }
    connection.chunk(b"").await;
    assert_eq!(connection.answer().await.refusal().1, "too-large");
    assert_eq!(api.get(CONTACTS).await.json(), json!({"records": []}));
    assert_eq!(api.put("PUT", record, &[], &json!({})).await.status, 201);
}

#[tokio::test]
async fn refusals_repeat_no_contents() {
    let api = Api::start().await;
    let marker = "Zyxwvut-4711";
    for body in [
        format!(r#"{{"given_name":["{marker}"]}}"#),
        format!(r#"{{"lifecycle_stage":"{marker}"}}"#),
        format!(r#"{{"date_of_birth":"{marker}"}}"#),
        format!(r#"{{"city":"{marker}"#),
        format!(r#"{{"email":"{marker}"}}"#),
    ] {
        let answer = api.send("POST", CONTACTS, &[JSON], body.as_bytes()).await;
        assert!(answer.status >= 400 && !answer.text().contains(marker), "{}", answer.text());
    }
}
