use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::policy::Flow;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};

use super::matches::{DecideMatch, MatchAsked, MatchReport, MatchRows};
use super::view::{Cause, ConnectionState, ConnectionStatus, Paused, Status};
use super::*;
use crate::config::{Auth, Place, Secret, SecretFrom};
use crate::telemetry::Metrics;

const ADMIN: &str = "the-administrator's-token";
const METRICS: &str = "the-token-for-metrics";
const ACME: &str = "the-token-of-acme-inc";

/// A daemon that writes down what it is asked and knows one connection.
#[derive(Default)]
struct Fake {
    metrics: Arc<Metrics>,
    asked: Mutex<Vec<String>>,
    not_ready: Mutex<Option<String>>,
}

impl Fake {
    fn note(&self, asked: impl std::fmt::Debug) {
        self.asked.lock().push(format!("{asked:?}"));
    }

    fn one(&self, asked: impl std::fmt::Debug) -> Result<view::Count, ControlError> {
        self.note(asked);
        Ok(view::Count { count: 1 })
    }
}

impl Control for Fake {
    fn readiness(&self) -> Readiness {
        self.not_ready.lock().clone().map_or(Readiness::Ready, Readiness::NotReady)
    }

    async fn metrics(&self) -> Result<String, ControlError> {
        Ok(self.metrics.render(&[]))
    }

    async fn status(&self, connection: Option<ConnectionId>) -> Result<Status, ControlError> {
        if let Some(other) = connection.filter(|connection| connection.as_str() != "acme-hubspot") {
            return Err(ControlError::NotFound(format!("there is no connection {other}")));
        }
        Ok(Status {
            version: "0.1.0".to_owned(),
            started_at: 1,
            paused: Paused::default(),
            draining: false,
            connections: vec![ConnectionStatus {
                connection: "acme-hubspot".into(),
                provider: Some("hubspot@0.1.0#1a2b3c4d".to_owned()),
                scope: Some("acme".into()),
                state: ConnectionState::Waiting,
                paused: Paused::default(),
                freshness_ms: Some(4_200),
                waiting: 3,
                delayed: 1,
                last: None,
                review: 0,
                dead: 2,
                withheld: 0,
                cause: Cause::Quota,
                detail: "daily is used up until 00:00".to_owned(),
            }],
        })
    }

    async fn pause(&self, target: PauseTarget) -> Result<view::Count, ControlError> {
        self.one(("pause", target))
    }

    async fn resume(&self, target: PauseTarget) -> Result<view::Count, ControlError> {
        self.one(("resume", target))
    }

    async fn explain(&self, record: RecordRef, aspect: Aspect) -> Result<view::Explanation, ControlError> {
        self.note(("explain", &record, &aspect));
        let entity = match record {
            RecordRef::Internal(entity) => Some(entity),
            RecordRef::External(_) => None,
        };
        let (links, intents, hints) = (Vec::new(), Vec::new(), Vec::new());
        Ok(view::Explanation {
            entity,
            internal: None,
            links,
            intents,
            hints,
            dead: Vec::new(),
            history: Vec::new(),
            at: None,
            past: Vec::new(),
        })
    }

    async fn dead(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<view::DeadView>, ControlError> {
        self.note(("dead", connection, limit));
        Ok(Vec::new())
    }

    async fn dead_letter(&self, seq: u64) -> Result<view::DeadView, ControlError> {
        Err(ControlError::NotFound(format!("there is no dead letter {seq}")))
    }

    async fn replay(&self, target: DeadTarget) -> Result<view::Count, ControlError> {
        self.one(("replay", target))
    }

    async fn drop_dead(&self, target: DeadTarget) -> Result<view::Count, ControlError> {
        self.one(("drop", target))
    }

    async fn reviews(
        &self,
        filter: ReviewFilter,
        limit: usize,
    ) -> Result<Vec<view::ReviewView>, ControlError> {
        self.note(("reviews", filter, limit));
        Ok(Vec::new())
    }

    async fn withheld(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<view::WithheldView>, ControlError> {
        self.note(("withheld", connection, limit));
        Ok(Vec::new())
    }

    async fn deleted(
        &self,
        connection: Option<ConnectionId>,
        limit: usize,
    ) -> Result<Vec<view::KeptView>, ControlError> {
        self.note(("deleted", connection, limit));
        Ok(Vec::new())
    }

    async fn approve(&self, target: DeletesTarget) -> Result<view::Count, ControlError> {
        self.one(("approve", target))
    }

    async fn reject(&self, target: DeletesTarget) -> Result<view::Count, ControlError> {
        self.one(("reject", target))
    }

    async fn undo(&self, target: DeletesTarget) -> Result<view::Undone, ControlError> {
        self.note(("undo", target));
        Ok(view::Undone { count: 1, not: Vec::new() })
    }

    async fn erase(&self, record: RecordRef) -> Result<view::ErasureView, ControlError> {
        self.note(("erase", &record));
        let RecordRef::Internal(entity) = record else {
            return Err(ControlError::NotFound("it is not linked".to_owned()));
        };
        Ok(view::ErasureView { entity, places: Vec::new(), remains: Vec::new(), done: true })
    }

    async fn decide(&self, decision: Decide) -> Result<view::Count, ControlError> {
        if decision.group.as_deref() == Some("/decided") {
            return Err(ControlError::Conflict("somebody decided /decided before".to_owned()));
        }
        self.one(("decide", decision))
    }

    async fn decide_many(&self, decision: DecideMany) -> Result<view::DecidedMany, ControlError> {
        self.note(decision);
        Ok(view::DecidedMany { matching: 2, records: 1, decided: 2, refused: Vec::new() })
    }

    async fn decide_match(&self, decision: DecideMatch) -> Result<view::Count, ControlError> {
        self.one(("decide_match", decision))
    }

    async fn begin_match(
        &self,
        connection: Option<ConnectionId>,
        object: Option<ObjectName>,
    ) -> Result<Vec<MatchReport>, ControlError> {
        self.note(("begin_match", connection, object));
        Ok(Vec::new())
    }

    async fn match_reports(
        &self,
        connection: Option<ConnectionId>,
        object: Option<ObjectName>,
    ) -> Result<Vec<MatchReport>, ControlError> {
        self.note(("match_reports", connection, object));
        Ok(Vec::new())
    }

    async fn match_rows(&self, asked: MatchAsked) -> Result<MatchRows, ControlError> {
        self.note(("match_rows", asked));
        Ok(MatchRows::default())
    }

    async fn unfreeze(&self, target: Unfreeze) -> Result<view::Count, ControlError> {
        self.one(("unfreeze", target.entity(), target.field))
    }

    async fn look(&self, look: Look) -> Result<view::Count, ControlError> {
        self.one(look)
    }

    async fn providers(&self) -> Result<Vec<view::ProviderView>, ControlError> {
        Ok(Vec::new())
    }

    async fn reload_providers(&self) -> Result<view::ProvidersReloaded, ControlError> {
        self.note("reload providers");
        Ok(view::ProvidersReloaded::default())
    }

    async fn roll_back(&self, target: RollBack) -> Result<view::Swapped, ControlError> {
        Err(ControlError::Conflict(format!("provider {} has no version before", target.provider)))
    }

    async fn pin(&self, pin: Pin) -> Result<view::Swapped, ControlError> {
        Err(ControlError::NotFound(format!("there is no provider {}", pin.provider)))
    }

    async fn connection_file(&self, id: ConnectionId) -> Result<String, ControlError> {
        Ok(format!("# {id}\n"))
    }

    async fn put_connection(&self, id: ConnectionId, text: String) -> Result<view::Reloaded, ControlError> {
        if text.is_empty() {
            return Err(ControlError::Invalid("provider: missing".to_owned()));
        }
        Ok(view::Reloaded { added: vec![id], ..view::Reloaded::default() })
    }

    async fn remove_connection(&self, id: ConnectionId) -> Result<view::Reloaded, ControlError> {
        Ok(view::Reloaded { removed: vec![id], ..view::Reloaded::default() })
    }

    async fn reload(&self) -> Result<view::Reloaded, ControlError> {
        Ok(view::Reloaded::default())
    }

    fn shut_down(&self) {
        self.note("shut down");
    }
}

fn secret(folder: &Path, name: &str, text: &str) -> Secret {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("a secret's file");
    let place = Place { line: 3, key: format!("auth.{name}"), ..Place::file(Path::new("tandem.toml")) };
    Secret { from: SecretFrom::File(file), place }
}

fn tokens() -> Arc<Tokens> {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = Auth {
        admin: secret(folder.path(), "admin", &format!("{ADMIN}\n")),
        metrics: Some(secret(folder.path(), "metrics", METRICS)),
        scopes: BTreeMap::from([("acme".into(), secret(folder.path(), "acme", ACME))]),
    };
    Arc::new(Tokens::read(&auth).expect("tokens"))
}

/// A served API with its fake daemon.
struct Api {
    fake: Arc<Fake>,
    url: String,
    client: reqwest::Client,
    end: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

const SERVING: Serving =
    Serving { header_timeout: Duration::from_millis(200), connections: 64, grace: Duration::from_secs(5) };

impl Api {
    async fn start() -> Self {
        Self::with(Router::new(), SERVING).await
    }

    async fn with(more: Router, serving: Serving) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fake = Arc::new(Fake::default());
        let system_a = Router::new()
            .route("/v1/scopes/{scope}/records", get(async || "records"))
            .route("/v1/everything", get(async || "everything"));
        let routers = [router(fake.clone(), tokens()), for_scopes(system_a, tokens()), more];
        let router = house(routers, fake.metrics.clone(), 1024);
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (end, ended) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, router, serving, async { drop(ended.await) }));
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        Self { fake, url, client, end: Some(end), served }
    }

    async fn ask(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, token: Option<&str>, path: &str) -> (u16, Value) {
        self.ask(token, Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(Some(ADMIN), Method::POST, path, Some(body)).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.fake.asked.lock())
    }
}

/// Every route that wants a token.
const GUARDED: [(Method, &str); 25] = [
    (Method::GET, "/metrics"),
    (Method::GET, "/v1/status"),
    (Method::POST, "/v1/pause"),
    (Method::POST, "/v1/resume"),
    (Method::GET, "/v1/explain?scope=acme&object=contact&id=1"),
    (Method::GET, "/v1/dead"),
    (Method::GET, "/v1/dead/1"),
    (Method::POST, "/v1/dead/replay"),
    (Method::POST, "/v1/dead/drop"),
    (Method::GET, "/v1/review"),
    (Method::POST, "/v1/review/decide"),
    (Method::POST, "/v1/review/decide-many"),
    (Method::POST, "/v1/review/unfreeze"),
    (Method::GET, "/v1/deletes"),
    (Method::GET, "/v1/deletes/done"),
    (Method::POST, "/v1/deletes/approve"),
    (Method::POST, "/v1/deletes/reject"),
    (Method::POST, "/v1/deletes/undo"),
    (Method::POST, "/v1/erase"),
    (Method::POST, "/v1/look"),
    (Method::GET, "/v1/providers"),
    (Method::POST, "/v1/connections/reload"),
    (Method::POST, "/v1/shutdown"),
    (Method::GET, "/v1/scopes/acme/records"),
    (Method::GET, "/v1/everything"),
];

#[tokio::test]
async fn every_route_but_health_wants_a_token() {
    let api = Api::start().await;
    for (method, path) in GUARDED {
        for token in [None, Some("not-the-administrator"), Some("")] {
            let (status, body) = api.ask(token, method.clone(), path, Some(json!({}))).await;
            assert_eq!((status, &body["title"]), (401, &json!("unauthorized")), "{method} {path} {token:?}");
        }
    }
    assert_eq!(api.asked(), Vec::<String>::new());
    assert_eq!(api.get(None, "/healthz").await.0, 200);
    assert_eq!(api.get(None, "/readyz").await.0, 200);
}

#[tokio::test]
async fn a_refusal_is_a_problem_document_with_a_challenge() {
    let api = Api::start().await;
    let request = api.client.get(format!("{}/v1/status", api.url)).header("authorization", "Basic YTpi");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"tandem\"");
    let body: Value = serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
    let detail = "the authorization header is not of the form: Bearer …";
    assert_eq!(body, json!({ "title": "unauthorized", "status": 401, "detail": detail }));
}

#[tokio::test]
async fn lesser_tokens_open_no_admin_route() {
    let api = Api::start().await;
    for (method, path) in GUARDED {
        for (token, own) in [(METRICS, "/metrics"), (ACME, "/v1/scopes/acme/records")] {
            let (status, _) = api.ask(Some(token), method.clone(), path, Some(json!({}))).await;
            assert_eq!(status, if path == own { 200 } else { 403 }, "{method} {path} {token}");
        }
    }
    assert_eq!(api.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_scopes_token_opens_that_scope_only() {
    let api = Api::start().await;
    assert_eq!(api.get(Some(ACME), "/v1/scopes/acme/records").await, (200, json!("records")));
    for other in [
        "/v1/scopes/other/records",
        "/v1/scopes/acm/records",
        "/v1/scopes/ACME/records",
        "/v1/scopes/acme%2F/records",
    ] {
        let (status, body) = api.get(Some(ACME), other).await;
        assert_eq!((status, &body["detail"]), (403, &json!("the token does not open this scope")), "{other}");
    }
    assert_eq!(api.get(Some(ADMIN), "/v1/scopes/other/records").await.0, 200);
    assert_eq!(api.get(Some(ADMIN), "/v1/everything").await.0, 200);
}

#[tokio::test]
async fn status_says_how_fresh_each_connection_is_and_why() {
    let api = Api::start().await;
    let (status, body) = api.get(Some(ADMIN), "/v1/status?connection=acme-hubspot").await;
    assert_eq!(status, 200);
    assert_eq!(
        body["connections"][0],
        json!({
            "connection": "acme-hubspot", "provider": "hubspot@0.1.0#1a2b3c4d", "scope": "acme", "state": "waiting",
            "paused": { "to_external": false, "to_internal": false }, "freshness_ms": 4200, "waiting": 3, "delayed": 1,
            "review": 0, "dead": 2, "withheld": 0, "cause": "quota", "detail": "daily is used up until 00:00"
        })
    );
}

#[tokio::test]
async fn what_is_asked_reaches_the_daemon_as_it_was_meant() {
    let api = Api::start().await;
    let entity = json!({ "scope": "acme", "object": "contact", "id": "c1", "connection": "acme-hubspot" });
    let with = |more: Value| {
        let mut body = entity.clone();
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        body
    };
    let key = EntityKey { scope: "acme".into(), object: "contact".into(), id: "c1".into() };
    let decide = |group: Option<&str>, choice| Decide {
        scope: "acme".into(),
        object: "contact".into(),
        id: "c1".into(),
        connection: "acme-hubspot".into(),
        group: group.map(str::to_owned),
        choice,
        fields: BTreeMap::new(),
        seen: Vec::new(),
        force: false,
    };
    let by_field = Decide {
        fields: BTreeMap::from([
            ("/phone".to_owned(), FieldChoice::Internal),
            ("/email".to_owned(), FieldChoice::External),
            ("/name".to_owned(), FieldChoice::Value(json!("Ann"))),
        ]),
        seen: vec!["1a2b3c4d5e6f7081".to_owned()],
        force: true,
        ..decide(None, Some(Choice::Internal))
    };
    let cases = [
        ("/v1/pause", json!({}), format!("{:?}", ("pause", PauseTarget::default()))),
        (
            "/v1/resume",
            json!({ "connection": "acme-hubspot", "direction": "to-internal" }),
            format!(
                "{:?}",
                (
                    "resume",
                    PauseTarget { connection: Some("acme-hubspot".into()), direction: Flow::ToInternal }
                )
            ),
        ),
        ("/v1/dead/replay", json!({ "seq": 17 }), format!("{:?}", ("replay", DeadTarget::Seq(17)))),
        ("/v1/dead/replay", json!("all"), format!("{:?}", ("replay", DeadTarget::All))),
        (
            "/v1/dead/drop",
            json!({ "connection": "acme-hubspot" }),
            format!("{:?}", ("drop", DeadTarget::Connection("acme-hubspot".into()))),
        ),
        (
            "/v1/review/decide",
            with(json!({ "group": "/phone", "choice": "external" })),
            format!("{:?}", ("decide", decide(Some("/phone"), Some(Choice::External)))),
        ),
        (
            "/v1/review/decide",
            with(json!({ "group": "/phone", "choice": { "values": { "/phone": null } } })),
            format!(
                "{:?}",
                (
                    "decide",
                    decide(Some("/phone"), Some(Choice::Values([("/phone".to_owned(), Value::Null)].into())))
                )
            ),
        ),
        (
            "/v1/review/decide",
            with(json!({
                "choice": "internal", "seen": ["1a2b3c4d5e6f7081"], "force": true,
                "fields": { "/phone": "internal", "/email": "external", "/name": { "value": "Ann" } }
            })),
            format!("{:?}", ("decide", by_field)),
        ),
        ("/v1/review/unfreeze", entity.clone(), format!("{:?}", ("unfreeze", &key, None::<String>))),
        (
            "/v1/deletes/approve",
            json!({ "connection": "acme-hubspot", "batch": 7 }),
            format!(
                "{:?}",
                (
                    "approve",
                    DeletesTarget {
                        connection: Some("acme-hubspot".into()),
                        batch: Some(7),
                        ..DeletesTarget::default()
                    }
                )
            ),
        ),
        (
            "/v1/deletes/reject",
            json!({ "ids": ["1"], "restore": true }),
            format!(
                "{:?}",
                (
                    "reject",
                    DeletesTarget { ids: vec!["1".into()], restore: true, ..DeletesTarget::default() }
                )
            ),
        ),
        (
            "/v1/look",
            json!({ "connection": "acme-hubspot", "object": "contact", "records": { "external": "501" } }),
            format!(
                "{:?}",
                Look {
                    connection: "acme-hubspot".into(),
                    object: "contact".into(),
                    records: LookAt::External("501".into())
                }
            ),
        ),
    ];
    for (path, body, meant) in cases {
        let shown = body.to_string();
        assert_eq!(api.post(path, body).await, (200, json!({ "count": 1 })), "{path} {shown}");
        assert_eq!(api.asked(), [meant]);
    }
    api.get(Some(ADMIN), "/v1/explain?connection=acme-hubspot&object=contact&id=501").await;
    api.get(Some(ADMIN), "/v1/explain?connection=acme-hubspot&object=contact&id=501&field=/email&at=-2h")
        .await;
    api.get(Some(ADMIN), "/v1/dead?limit=999999").await;
    api.get(Some(ADMIN), "/v1/review?scope=acme&connection=c&object=contact&id=1&field=/phone&kind=held")
        .await;
    let many = json!({ "filter": { "connection": "c" }, "take": "external", "expected": 2 });
    let done = json!({ "matching": 2, "records": 1, "decided": 2, "refused": [] });
    assert_eq!(api.post("/v1/review/decide-many", many).await, (200, done));
    assert_eq!(api.post("/v1/shutdown", json!({})).await.0, 202);
    assert_eq!(
        api.asked(),
        [
            "(\"explain\", External(ExternalKey { connection: \"acme-hubspot\", object: \"contact\", id: \"501\" }), Aspect { field: None, at: None })",
            "(\"explain\", External(ExternalKey { connection: \"acme-hubspot\", object: \"contact\", id: \"501\" }), Aspect { field: Some(\"/email\"), at: Some(\"-2h\") })",
            "(\"dead\", None, 10000)",
            "(\"reviews\", ReviewFilter { scope: Some(\"acme\"), connection: Some(\"c\"), object: Some(\"contact\"), id: Some(\"1\"), field: Some(\"/phone\"), kind: Some(\"held\") }, 100)",
            "DecideMany { filter: ReviewFilter { scope: None, connection: Some(\"c\"), object: None, id: None, field: None, kind: None }, take: External, expected: Some(2) }",
            "\"shut down\""
        ]
    );
}

#[tokio::test]
async fn what_does_not_fit_is_answered_with_a_problem() {
    let api = Api::start().await;
    let long = json!({ "connection": "x".repeat(2000) });
    let unknown = json!({ "conection": "acme-hubspot" });
    let half = json!({ "connection": "acme-hubspot", "object": "contact" });
    let decided = json!({ "scope": "acme", "object": "contact", "id": "1", "connection": "c", "group": "/decided", "choice": "internal" });
    for (method, path, body, status, detail) in [
        (Method::GET, "/v1/status?connection=nobody", None, 404, "there is no connection nobody"),
        (Method::GET, "/v1/status?conection=x", None, 400, "unknown field `conection`"),
        (Method::GET, "/v1/dead/abc", None, 400, "Cannot parse"),
        (Method::GET, "/v1/dead/7", None, 404, "there is no dead letter 7"),
        (Method::GET, "/v1/explain?object=contact&id=1", None, 400, "name either the scope"),
        (
            Method::GET,
            "/v1/explain?scope=a&connection=b&object=contact&id=1",
            None,
            400,
            "name either the scope",
        ),
        (Method::POST, "/v1/pause", Some(unknown), 422, "unknown field `conection`"),
        (Method::POST, "/v1/pause", Some(long), 413, "length limit exceeded"),
        (Method::POST, "/v1/pause", Some(json!(["acme-hubspot", "both"])), 422, "the body is a list"),
        (Method::POST, "/v1/look", Some(half), 422, "missing field `records`"),
        (Method::POST, "/v1/review/decide", Some(decided), 409, "somebody decided /decided before"),
        (Method::GET, "/v1/review?fields=/phone", None, 400, "unknown field `fields`"),
        (Method::POST, "/v1/review/decide-many", Some(json!({ "filter": {} })), 422, "missing field `take`"),
        (
            Method::POST,
            "/v1/review/decide-many",
            Some(json!({ "filter": { "fields": "/phone" }, "take": "internal" })),
            422,
            "unknown field `fields`",
        ),
        (Method::GET, "/v1/nothing", None, 404, "there is nothing at /v1/nothing"),
        (Method::DELETE, "/v1/status", None, 405, "not with this method"),
    ] {
        let (answered, problem) = api.ask(Some(ADMIN), method.clone(), path, body).await;
        assert_eq!((answered, &problem["status"]), (status, &json!(status)), "{method} {path}: {problem}");
        let said = problem["detail"].as_str().unwrap_or_default();
        assert!(said.contains(detail), "{method} {path}: {said}");
    }
    assert_eq!(api.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn requests_are_counted_by_pattern_and_never_by_path() {
    let api = Api::start().await;
    api.get(Some(ACME), "/v1/scopes/acme/records").await;
    api.get(Some(ACME), "/v1/scopes/marker-of-a-scope/records").await;
    api.get(Some(ADMIN), "/marker-of-a-path").await;
    let (_, page) = api.get(Some(METRICS), "/metrics").await;
    let page = page.as_str().expect("text");
    for line in [
        "tandem_api_requests_total{route=\"/v1/scopes/{scope}/records\",outcome=\"2xx\"} 1",
        "tandem_api_requests_total{route=\"/v1/scopes/{scope}/records\",outcome=\"4xx\"} 1",
        "tandem_api_requests_total{route=\"none\",outcome=\"4xx\"} 1",
    ] {
        assert!(page.lines().any(|written| written == line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("marker"), "{page}");
}

#[tokio::test]
async fn a_daemon_that_is_not_ready_says_why_and_lives() {
    let api = Api::start().await;
    *api.fake.not_ready.lock() = Some("draining".to_owned());
    let (status, body) = api.get(None, "/readyz").await;
    assert_eq!((status, &body["detail"]), (503, &json!("draining")));
    assert_eq!(api.get(None, "/healthz").await.0, 200);
}

#[test]
fn tokens_that_are_no_protection_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("nowhere");
    let place = Place { line: 9, key: "auth.metrics".to_owned(), ..Place::file(Path::new("tandem.toml")) };
    let auth = Auth {
        admin: secret(folder.path(), "admin", "short"),
        metrics: Some(Secret { from: SecretFrom::File(missing.clone()), place }),
        scopes: BTreeMap::from([
            ("a".into(), secret(folder.path(), "scopes.a", "one-token-for-two-scopes")),
            ("b".into(), secret(folder.path(), "scopes.b", "one-token-for-two-scopes")),
            ("c".into(), secret(folder.path(), "scopes.c", "\n")),
        ]),
    };
    let error = Tokens::read(&auth).expect_err("bad tokens").to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(
        lines,
        [
            "tandem.toml:3: auth.admin: the token has 5 characters, at least 16 are needed; make one with: openssl rand -hex 32".to_owned(),
            format!("tandem.toml:9: auth.metrics: secret file {}: No such file or directory (os error 2)", missing.display()),
            "tandem.toml:3: auth.scopes.b: the same token stands for somebody else too; give each its own".to_owned(),
            format!("tandem.toml:3: auth.scopes.c: secret file {} is empty", folder.path().join("scopes.c").display()),
        ]
    );
    assert!(!error.contains("one-token-for-two-scopes"));
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_finished_and_nothing_new_is_taken() {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, wait) = (entered.clone(), go_on.clone());
    let slow = Router::new().route(
        "/slow",
        get(async move || {
            enter.notify_one();
            wait.notified().await;
            "done"
        }),
    );
    let mut api = Api::with(slow, SERVING).await;
    let under_way = tokio::spawn(api.client.get(format!("{}/slow", api.url)).send());
    entered.notified().await;
    drop(api.end.take());
    let address = api.url.trim_start_matches("http://").to_owned();
    // The listener is closed some moments after the end.
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go_on.notify_one();
    let answer = under_way.await.expect("a task").expect("an answer");
    assert_eq!(answer.text().await.expect("a body"), "done");
    api.served.await.expect("served to the end");
}

#[tokio::test]
async fn the_end_does_not_wait_longer_than_its_grace() {
    let entered = Arc::new(Notify::new());
    let enter = entered.clone();
    let endless = Router::new().route(
        "/endless",
        get(async move || {
            enter.notify_one();
            std::future::pending::<()>().await;
        }),
    );
    let mut api = Api::with(endless, Serving { grace: Duration::from_millis(20), ..SERVING }).await;
    let under_way = tokio::spawn(api.client.get(format!("{}/endless", api.url)).send());
    entered.notified().await;
    drop(api.end.take());
    api.served.await.expect("served to the end");
    assert!(under_way.await.expect("a task").is_err(), "it was cut off");
}

/// Beyond the backlog the kernel drops what asks to connect: the sender would wait for its next try, a second later and more.
#[tokio::test]
async fn a_crowd_that_connects_before_anybody_is_accepted_is_let_in() {
    let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux");
    // More than `std` lets wait, and fewer than most shells let a process open.
    let crowd = somaxconn.trim().parse::<usize>().expect("a number").min(300);
    let mut waiting = Vec::new();
    for number in 0..crowd {
        let connected = tokio::time::timeout(Duration::from_secs(20), TcpStream::connect(address)).await;
        let connected = connected.unwrap_or_else(|_| panic!("number {number} of {crowd} was not let in"));
        waiting.push(connected.expect("a connection"));
    }
    for _ in 0..crowd {
        listener.accept().await.expect("each is accepted");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let api = Api::start().await;
    let mut stream = TcpStream::connect(api.url.trim_start_matches("http://")).await.expect("a connection");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await.expect("half a head");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("the server hangs up").expect("an orderly end");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
