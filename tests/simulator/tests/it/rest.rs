//! The generic REST account: what its own documentation (`src/rest/mod.rs`) says.

use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sha2::Sha256;
use tandem_simulator::control::types::{Compares, NewRestAccount, RestAccount, Rewrite, WriteKind, Writer};
use tandem_simulator::{Config, Handle, Simulator, control};

struct Rest {
    simulator: Handle,
    control: control::Client,
    account: RestAccount,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Rest {
    async fn new(new: NewRestAccount) -> Self {
        let simulator = Simulator::start(Config::default()).await.unwrap();
        let control = simulator.client();
        let account = control.create_rest_account(&new).await.unwrap();
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { simulator, control, account, http }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Value,
        tag: Option<&str>,
    ) -> (u16, Value, Option<String>) {
        let tag = tag.map(|tag| format!("\"{tag}\""));
        self.call_on(method, path, body, tag.as_deref().map(|tag| ("if-match", tag))).await
    }

    async fn call_on(
        &self,
        method: Method,
        path: &str,
        body: Value,
        condition: Option<(&str, &str)>,
    ) -> (u16, Value, Option<String>) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}/rest/v1{path}", self.simulator.api_url()))
            .header("authorization", format!("Bearer {}", self.account.token));
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let answer = self.http.request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let etag = answer.headers().get("etag").map(|tag| tag.to_str().unwrap().trim_matches('"').to_owned());
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null), etag)
    }

    async fn make(&self, person: Value) -> Value {
        let (status, made, _) = self.call(Method::POST, "/people", person, None).await;
        assert_eq!(status, 201, "{made}");
        made
    }
}

#[tokio::test]
async fn an_account_says_whether_two_people_may_have_one_address_and_keeps_to_it() {
    for same_mail in [false, true] {
        let rest = Rest::new(NewRestAccount { same_mail, ..NewRestAccount::default() }).await;
        let (_, me, _) = rest.call(Method::GET, "/me", Value::Null, None).await;
        assert_eq!(me["uniqueMail"], json!(!same_mail));
        rest.make(json!({ "Mail": "a@example.com", "ExternalKey": "k" })).await;
        let again = json!({ "Mail": "A@example.com" });
        let (status, said, _) = rest.call(Method::POST, "/people", again, None).await;
        assert_eq!(status, if same_mail { 201 } else { 409 }, "{said}");
        let (_, found, _) = rest.call(Method::GET, "/people?mail=a@EXAMPLE.com", Value::Null, None).await;
        let ids: Vec<&str> =
            found["items"].as_array().unwrap().iter().filter_map(|it| it["Id"].as_str()).collect();
        assert_eq!(ids, if same_mail { vec!["p-1", "p-2"] } else { vec!["p-1"] });
        // A key is the caller's own and unique everywhere.
        let (status, ..) = rest.call(Method::POST, "/people", json!({ "ExternalKey": "k" }), None).await;
        assert_eq!(status, 409);
        assert_eq!(rest.call(Method::DELETE, "/people/p-1", Value::Null, None).await.0, 204);
        let (_, found, _) = rest.call(Method::GET, "/people?mail=a@example.com", Value::Null, None).await;
        assert_eq!(found["items"].as_array().unwrap().len(), usize::from(same_mail));
    }
}

#[tokio::test]
async fn a_person_is_made_read_changed_under_its_tag_and_deleted() {
    let rest = Rest::new(NewRestAccount::default()).await;
    let made = rest.make(json!({ "Mail": "a@example.com", "City": "Ulm", "Staff": 3, "own": [1] })).await;
    assert_eq!((&made["Id"], &made["Rev"], &made["own"]), (&json!("p-1"), &json!("1"), &json!([1])));
    let (status, read, tag) = rest.call(Method::GET, "/people/p-1", Value::Null, None).await;
    assert_eq!((status, &read, tag.as_deref()), (200, &made, Some("1")));
    let (status, changed, tag) =
        rest.call(Method::PATCH, "/people/p-1", json!({ "City": null, "Phone": "1" }), Some("1")).await;
    assert_eq!(
        (status, changed.get("City"), &changed["Phone"], tag.as_deref()),
        (200, None, &json!("1"), Some("2"))
    );
    // A change of nothing is none.
    let (_, same, tag) = rest.call(Method::PATCH, "/people/p-1", json!({ "Phone": "1" }), None).await;
    assert_eq!((&same, tag.as_deref()), (&changed, Some("2")));
    let (status, said, _) = rest.call(Method::PATCH, "/people/p-1", json!({ "Phone": "2" }), Some("1")).await;
    assert_eq!((status, said["error"].as_str()), (412, Some("the person was changed meanwhile")));
    assert_eq!(rest.call(Method::DELETE, "/people/p-1", Value::Null, Some("1")).await.0, 412);
    assert_eq!(rest.call(Method::DELETE, "/people/p-1", Value::Null, Some("2")).await.0, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(rest.call(method, "/people/p-1", Value::Null, None).await.0, 404);
    }
}

#[tokio::test]
async fn key_and_address_are_unique_and_the_refusal_names_who_has_them() {
    let rest = Rest::new(NewRestAccount::default()).await;
    rest.make(json!({ "Mail": "a@example.com", "ExternalKey": "k1" })).await;
    rest.make(json!({ "Mail": "b@example.com" })).await;
    for taken in [json!({ "Mail": "A@example.com" }), json!({ "ExternalKey": "k1" })] {
        let (status, said, _) = rest.call(Method::POST, "/people", taken, None).await;
        assert_eq!((status, &said["id"]), (409, &json!("p-1")));
    }
    let (status, said, _) =
        rest.call(Method::PATCH, "/people/p-2", json!({ "Mail": "a@example.com" }), None).await;
    assert_eq!((status, &said["id"]), (409, &json!("p-1")));
}

#[tokio::test]
async fn members_that_are_not_of_their_kind_or_not_known_are_refused_by_name() {
    let rest = Rest::new(NewRestAccount::default()).await;
    for (person, member) in [
        (json!({ "Staff": "3" }), "Staff"),
        (json!({ "Mail": "nobody" }), "Mail"),
        (json!({ "Labels": "a" }), "Labels"),
        (json!({ "Colour": "red" }), "Colour"),
        (json!({ "Rev": "9" }), "Rev"),
    ] {
        let (status, said, _) = rest.call(Method::POST, "/people", person, None).await;
        assert_eq!((status, said["member"].as_str()), (422, Some(member)), "{said}");
    }
    assert_eq!(rest.control.rest_people(&rest.account.account).await.unwrap(), Vec::<Value>::new());
}

#[tokio::test]
async fn listings_give_pages_and_the_change_feed_each_person_once_with_tombstones() {
    let rest = Rest::new(NewRestAccount::default()).await;
    for number in 1..=5 {
        rest.make(json!({ "Mail": format!("{number}@example.com") })).await;
    }
    let (_, page, _) = rest.call(Method::GET, "/people?limit=2", Value::Null, None).await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (2, &json!("p-2")));
    let (_, page, _) = rest.call(Method::GET, "/people?limit=10&after=p-2", Value::Null, None).await;
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next"]), (3, &Value::Null));
    let (_, found, _) = rest.call(Method::GET, "/people?mail=3%40Example.com", Value::Null, None).await;
    assert_eq!(found["items"][0]["Id"], json!("p-3"));
    rest.call(Method::PATCH, "/people/p-1", json!({ "City": "Ulm" }), None).await;
    rest.call(Method::DELETE, "/people/p-2", Value::Null, None).await;
    let (_, all, _) = rest.call(Method::GET, "/changes", Value::Null, None).await;
    let rows: Vec<(&str, bool)> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row["deleted"].as_bool().unwrap()))
        .collect();
    assert_eq!(rows, [("p-3", false), ("p-4", false), ("p-5", false), ("p-1", false), ("p-2", true)]);
    let (_, first, _) = rest.call(Method::GET, "/changes?limit=1", Value::Null, None).await;
    assert_eq!((&first["more"], &first["cursor"]), (&json!(true), &json!("c-3")));
    let (_, none, _) = rest.call(Method::GET, "/changes?since=c-7", Value::Null, None).await;
    assert_eq!(none, json!({ "items": [], "cursor": "c-7", "more": false }));
    for lost in ["c-8", "x"] {
        assert_eq!(rest.call(Method::GET, &format!("/changes?since={lost}"), Value::Null, None).await.0, 410);
    }
}

#[tokio::test]
async fn a_token_that_is_not_known_and_requests_beyond_the_limit_are_refused() {
    let mut rest = Rest::new(NewRestAccount { limit: Some(3), ..NewRestAccount::default() }).await;
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(rest.call(Method::GET, "/me", Value::Null, None).await.0);
    }
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    let counts = rest.control.rest_counts(&rest.account.account).await.unwrap();
    assert!(counts.throttled > 0 && counts.calls["GET me"] > 0, "{counts:?}");
    rest.account.token = "another".to_owned();
    assert_eq!(rest.call(Method::GET, "/me", Value::Null, None).await.0, 401);
}

#[tokio::test]
async fn events_are_posted_with_a_signature_over_time_and_body() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/hook", listener.local_addr().unwrap());
    let rest = Rest::new(NewRestAccount { target: Some(target), ..NewRestAccount::default() }).await;
    rest.control
        .rest_person_creates(&rest.account.account, &json!({ "Mail": "a@example.com" }))
        .await
        .unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0_u8; 4096];
    while !seen.contains("created") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let account = &rest.account.account;
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!([{ "account": account, "id": "p-1", "event": "created" }])
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(rest.account.secret.as_bytes()).unwrap();
    mac.update(header("x-rest-time").as_bytes());
    mac.update(body.as_bytes());
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-rest-signature"), expected);
}

#[tokio::test]
async fn texts_are_rewritten_whoever_writes_and_every_write_is_noted() {
    let rewrites = [("Title".to_owned(), Rewrite::Title), ("Company".to_owned(), Rewrite::Squeeze)].into();
    let rest = Rest::new(NewRestAccount { rewrites, journal: true, ..NewRestAccount::default() }).await;
    let made =
        rest.make(json!({ "Mail": "a@example.com", "Title": "head OF it", "Company": " A  b " })).await;
    assert_eq!((&made["Title"], &made["Company"]), (&json!("Head Of It"), &json!("A b")));
    let (_, same, tag) =
        rest.call(Method::PATCH, "/people/p-1", json!({ "Title": "HEAD of it" }), None).await;
    assert_eq!((&same, tag.as_deref()), (&made, Some("1")));
    let told = rest
        .control
        .rest_person_edits(&rest.account.account, "p-1", &json!({ "Title": "boss" }))
        .await
        .unwrap();
    assert_eq!(told["Title"], json!("Boss"));
    assert_eq!(rest.call(Method::PATCH, "/people/p-1", json!({ "Title": "x" }), Some("1")).await.0, 412);
    let writes = rest.control.rest_writes(&rest.account.account).await.unwrap();
    let told: Vec<_> = writes
        .iter()
        .map(|write| (write.by, write.kind, write.members["Title"].as_str().unwrap(), write.taken))
        .collect();
    assert_eq!(
        told,
        [
            (Writer::Api, WriteKind::Create, "head OF it", true),
            (Writer::Api, WriteKind::Update, "HEAD of it", true),
            (Writer::Person, WriteKind::Update, "boss", true),
            (Writer::Api, WriteKind::Update, "x", false),
        ]
    );
    assert!(writes.iter().all(|write| write.id.as_deref() == Some("p-1")));
}

#[tokio::test]
async fn an_account_that_compares_times_refuses_what_was_changed_in_a_later_second() {
    let rest = Rest::new(NewRestAccount { compares: Compares::Time, ..NewRestAccount::default() }).await;
    let made = rest.make(json!({ "Mail": "a@example.com" })).await;
    let changed = made["Changed"].as_i64().unwrap();
    let date = |seconds: i64| {
        let at = jiff::Timestamp::from_second(changed.div_euclid(1_000) + seconds).unwrap();
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    };
    let patch = async |header: &str, value: &str, phone: &str| {
        let body = json!({ "Phone": phone });
        rest.call_on(Method::PATCH, "/people/p-1", body, Some((header, value))).await.0
    };
    assert_eq!(patch("if-unmodified-since", &date(-1), "1").await, 412);
    assert_eq!(rest.call(Method::GET, "/people/p-1", Value::Null, None).await.1.get("Phone"), None);
    assert_eq!(patch("if-unmodified-since", &date(0), "2").await, 200);
    assert_eq!(patch("if-match", "\"other\"", "3").await, 200, "tags are not looked at");
    assert_eq!(patch("if-unmodified-since", "yesterday", "4").await, 400);
    assert_eq!(
        rest.call_on(Method::DELETE, "/people/p-1", Value::Null, Some(("if-unmodified-since", &date(-1))))
            .await
            .0,
        412
    );
}
