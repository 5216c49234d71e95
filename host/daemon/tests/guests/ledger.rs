//! The contract's functions through the whole room, with the guest that behaves.

use serde_json::{Value, json};
use tandem::provider::{Offline, Providers, Setup};
use tandem_core::exchange::{
    Answer, Attribute, Change, Context, Decision, Delivery, Find, HttpResponse, Listing, Operation, Page,
    Proof, Reference, State, Target, Wait, Watch, Write,
};
use tandem_core::id::ConnectionId;

use crate::support::{config, connect, guest, room};

fn context() -> Context {
    Context { now: 10_000, attributes: vec![Attribute { name: "attempt".into(), value: "1".into() }] }
}

fn response(status: u16, body: &Value) -> HttpResponse {
    HttpResponse {
        status,
        headers: vec![
            Attribute { name: "etag".into(), value: "\"7\"".into() },
            Attribute { name: "retry-after".into(), value: "3".into() },
        ],
        body: body.to_string().into_bytes(),
    }
}

/// Starts an operation, answers its one request, and gives the request's line and the operation's end.
async fn exchange(
    providers: &Providers,
    connection: &ConnectionId,
    operation: Operation,
    status: u16,
    body: Value,
) -> (String, Answer) {
    providers
        .visit(connection, move |provider| {
            let reply = provider.start(&operation, &context())?;
            let Answer::Send(step) = reply.answer else { return Ok((String::new(), reply.answer)) };
            let Target::Path(path) = &step.request.target else { panic!("the ledger sends to paths") };
            let sent = step.request.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let line = format!("{} {path} {sent}", step.request.method);
            let reply = provider.resume(&operation, &step.note, &response(status, &body), &context())?;
            Ok((line.trim_end().to_owned(), reply.answer))
        })
        .await
        .unwrap_or_else(|fault| panic!("{fault}"))
}

fn read(id: &str) -> Operation {
    Operation::Read(Reference { object: "contact".into(), id: id.into() })
}

#[tokio::test]
async fn every_operation_crosses_in_both_directions() {
    let providers = room(&config(), &["ledger"]);
    let c = connect(&providers, "c", "ledger").await;
    let record = json!({ "id": "42", "fields": { "email": "ada@example.com" }, "stamp": 9, "key": "k" });

    let (line, answer) = exchange(&providers, &c, read("42"), 200, record.clone()).await;
    assert_eq!(line, "GET /records/contact/42");
    let Answer::Current(seen) = answer else { panic!("{answer:?}") };
    assert_eq!((seen.id.as_str(), seen.stamp, seen.key.as_deref()), ("42", Some(9), Some("k")));
    assert_eq!(seen.version.as_deref(), Some("\"7\""));
    assert_eq!(seen.state, State::Whole(br#"{"email":"ada@example.com"}"#.to_vec()));

    let (_, answer) = exchange(&providers, &c, read("43"), 404, json!({})).await;
    let Answer::Current(seen) = answer else { panic!("{answer:?}") };
    assert_eq!(seen.state, State::Gone(Proof::Unconfirmed));

    let write = |id: Option<&str>| {
        Operation::Write(Write {
            object: "contact".into(),
            id: id.map(Into::into),
            document: br#"{"email":"ada@example.com","phone":"1"}"#.to_vec(),
            changed: vec!["/email".into()],
            version: Some("\"6\"".into()),
            stamp: Some(8),
            key: "k".into(),
            keep: Some(vec![0, 1]),
            previous: Some(b"{}".to_vec()),
            attributes: vec![Attribute { name: "class".into(), value: "live".into() }],
        })
    };
    let (line, answer) = exchange(&providers, &c, write(None), 201, record.clone()).await;
    assert_eq!(line, r#"POST /records/contact {"email":"ada@example.com","key":"k"}"#);
    assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
    let (line, answer) = exchange(&providers, &c, write(Some("42")), 412, json!({})).await;
    assert_eq!(line, r#"PATCH /records/contact/42 {"email":"ada@example.com"}"#);
    assert_eq!(answer, Answer::Refused);
    let (_, answer) = exchange(&providers, &c, write(None), 409, json!({ "id": "7" })).await;
    assert_eq!(answer, Answer::Exists(Reference { object: "contact".into(), id: "7".into() }));

    let find = Operation::Find(Find {
        object: "contact".into(),
        key: None,
        identity: vec![Attribute { name: "/email".into(), value: "ada@example.com".into() }],
    });
    let (line, answer) = exchange(&providers, &c, find, 200, json!({ "rows": [record] })).await;
    assert_eq!(line, r#"POST /find/contact {"key":null,"identity":{"email":"ada@example.com"}}"#);
    assert!(matches!(&answer, Answer::Found(rows) if rows.len() == 1), "{answer:?}");

    let listing =
        Operation::Changes(Listing { object: "contact".into(), cursor: Some(b"5".to_vec()), limit: 10 });
    let body = json!({ "rows": [record, { "id": "9", "gone": true }], "cursor": "6", "more": true });
    let (line, answer) = exchange(&providers, &c, listing, 200, body).await;
    assert_eq!(line, "GET /changes/contact?after=5&limit=10");
    let Answer::Page(Page { rows, cursor, more }) = answer else { panic!("{answer:?}") };
    assert_eq!((rows.len(), cursor.as_slice(), more), (2, &b"6"[..], true));
    assert_eq!(rows[1].state, State::Gone(Proof::Confirmed));

    let (_, answer) = exchange(&providers, &c, Operation::Probe, 429, json!({})).await;
    let Answer::Throttled(throttle) = answer else { panic!("{answer:?}") };
    assert_eq!(throttle.wait, Wait::Until(13_000), "the context's now and the response's header");
    let (_, answer) = exchange(&providers, &c, Operation::Probe, 401, json!({ "error": "expired" })).await;
    assert_eq!(answer, Answer::Unauthorised("expired".into()));
    let (_, answer) = exchange(&providers, &c, Operation::Probe, 503, json!({})).await;
    assert_eq!(answer, Answer::Again(Wait::Unknown, "unknown".into()));
    let (_, answer) = exchange(&providers, &c, Operation::Probe, 400, json!({ "error": "no" })).await;
    assert!(matches!(&answer, Answer::Rejected(problems) if problems[0].message == "no"), "{answer:?}");
    let watch = Watch {
        callback: "https://t.example/h".into(),
        objects: vec!["contact".into()],
        channel: None,
        active: true,
    };
    let (_, answer) = exchange(&providers, &c, Operation::Watch(watch), 200, json!({})).await;
    assert_eq!(answer, Answer::Other("unsupported".into(), b"{}".to_vec()));
}

#[tokio::test]
async fn mapping_rules_and_intake_cross_too() {
    let providers = room(&config(), &["ledger"]);
    let c = connect(&providers, "c", "ledger").await;
    let (mapped, refused, ruling, events, unreadable) = providers
        .visit(&c, |provider| {
            let mapped = provider.to_provider(
                "contact",
                br#"{"email":"b@x"}"#,
                Some(br#"{"email":"a@x","own":1}"#),
            )?;
            let refused = provider.to_canonical("contact", b"[]")?;
            let ruling = provider.decide(&Change {
                object: "contact".into(),
                origin: "internal".into(),
                before: None,
                after: Some(br#"{"status":"private"}"#.to_vec()),
                changed: vec!["/status".into()],
            })?;
            let delivery =
                |body: &[u8]| Delivery { headers: Vec::new(), query: Vec::new(), body: body.to_vec() };
            let events = provider
                .receive(&delivery(br#"{"object":"contact","id":5,"event":"changed"}"#), &context())?;
            let unreadable = provider.receive(&delivery(b"?"), &context())?;
            Ok((mapped, refused, ruling, events, unreadable))
        })
        .await
        .unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(mapped, Ok(br#"{"email":"b@x","own":1}"#.to_vec()));
    assert_eq!(refused.expect_err("refused")[0].code, "not-an-object");
    assert_eq!(
        (ruling.decision, ruling.rule.as_str()),
        (Decision::Skip("the record is private".into()), "private")
    );
    let events = events.expect("read");
    assert_eq!((events[0].id.as_str(), &events[0].state), ("5", &State::Touched));
    assert_eq!(events[0].attributes, [Attribute { name: "event".into(), value: "changed".into() }]);
    assert_eq!(unreadable.expect_err("refused").code, "not-json");
}

#[test]
fn offline_gives_the_same_answers_and_what_is_known_without_a_call() {
    let setup = Setup { settings: json!({ "greeting": "hello " }), facts: Value::Null };
    let mut offline = Offline::load(&guest("ledger"), &setup).unwrap_or_else(|error| panic!("{error}"));
    assert!(offline.view().label.starts_with("ledger@0.1.0#"));
    assert_eq!(offline.view().connection.quotas[0].name, "burst");
    assert!(offline.version().imports.iter().any(|import| import == "tandem:provider/types@0.1.0"));
    let mut map = || {
        let provider = offline.provider().expect("an instance");
        provider.to_provider("contact", br#"{"notes":"there"}"#, None).expect("no fault").expect("mapped")
    };
    let first = map();
    assert_eq!(first, br#"{"notes":"hello there"}"#);
    assert_eq!(map(), first, "warm");
    offline.renew().expect("a fresh one");
    assert_eq!(
        offline.provider().expect("fresh").to_provider("contact", br#"{"notes":"there"}"#, None),
        Ok(Ok(first)),
        "fresh"
    );
}
