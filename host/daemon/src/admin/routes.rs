//! The routes.
//!
//! | route | what it does | body or query |
//! | --- | --- | --- |
//! | `GET /healthz` | 200 while the process lives; no token | |
//! | `GET /readyz` | 200 when it is ready for work, else 503 and why; no token | |
//! | `GET /metrics` | metrics (admin or metrics token) | |
//! | `GET /v1/status` | [`Status`](super::view::Status) | `?connection=` |
//! | `POST /v1/pause`, `/v1/resume` | [`Count`](super::view::Count) of connections | [`PauseTarget`] |
//! | `GET /v1/explain` | [`Explanation`](super::view::Explanation) | `?scope=&object=&id=` or `?connection=&object=&id=`, `&field=&at=` |
//! | `GET /v1/dead` | list of [`DeadView`](super::view::DeadView) | `?connection=&limit=` |
//! | `GET /v1/dead/{seq}` | [`DeadView`](super::view::DeadView) in full | |
//! | `POST /v1/dead/replay`, `/v1/dead/drop` | [`Count`](super::view::Count) of records | [`DeadTarget`] |
//! | `GET /v1/review` | list of [`ReviewView`](super::view::ReviewView) | `?scope=&connection=&object=&id=&field=&kind=&limit=` |
//! | `POST /v1/review/decide` | [`Count`](super::view::Count) of groups | [`Decide`] |
//! | `POST /v1/review/match` | [`Count`](super::view::Count) of records | [`DecideMatch`] |
//! | `POST /v1/match` | list of [`MatchReport`]: begins them | `{"connection", "object"}`, each may be missing |
//! | `GET /v1/match` | list of [`MatchReport`] | `?connection=&object=` |
//! | `GET /v1/match/rows` | [`MatchRows`] | `?connection=&object=&kind=&from=&limit=` |
//! | `POST /v1/review/decide-many` | [`DecidedMany`](super::view::DecidedMany) | [`DecideMany`] |
//! | `POST /v1/review/unfreeze` | [`Count`](super::view::Count) of fields | [`Unfreeze`] |
//! | `GET /v1/deletes` | list of [`WithheldView`](super::view::WithheldView) | `?connection=&limit=` |
//! | `GET /v1/deletes/done` | list of [`KeptView`](super::view::KeptView) | `?connection=&limit=` |
//! | `POST /v1/deletes/approve`, `/v1/deletes/reject` | [`Count`](super::view::Count) of records | [`DeletesTarget`] |
//! | `POST /v1/deletes/undo` | [`Undone`](super::view::Undone) | [`DeletesTarget`] |
//! | `POST /v1/erase` | [`ErasureView`](super::view::ErasureView) | `{"scope", "object", "id"}` or `{"connection", "object", "id"}` |
//! | `POST /v1/look` | [`Count`](super::view::Count) of hints | [`Look`] |
//! | `GET /v1/providers` | list of [`ProviderView`](super::view::ProviderView) | |
//! | `POST /v1/providers/reload` | [`ProvidersReloaded`](super::view::ProvidersReloaded) | |
//! | `POST /v1/providers/rollback` | [`Swapped`](super::view::Swapped) | [`RollBack`] |
//! | `POST /v1/providers/pin` | [`Swapped`](super::view::Swapped) | [`Pin`] |
//! | `GET /v1/connections/{id}` | the connection's file, TOML | |
//! | `PUT /v1/connections/{id}` | [`Reloaded`](super::view::Reloaded) | the file, TOML |
//! | `DELETE /v1/connections/{id}` | [`Reloaded`](super::view::Reloaded) | |
//! | `POST /v1/connections/reload` | [`Reloaded`](super::view::Reloaded) | |
//! | `POST /v1/shutdown` | 202; drains as SIGTERM does | |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{StatusCode, Uri, header};
use serde::Deserialize;
use tandem_core::id::{ConnectionId, EntityKey, ExternalKey, InternalId, ObjectName, ScopeId};

use super::auth::{Tokens, for_admin, for_metrics};
use super::control::{
    Aspect, Control, DeadTarget, Decide, DecideMany, DeletesTarget, Look, PauseTarget, Pin, Readiness,
    RecordRef, ReviewFilter, RollBack, Unfreeze,
};
use super::matches::{DecideMatch, MatchAsked, MatchReport, MatchRows, MatchTarget};
use super::problem::{Asked, Given, Named, Problem};
use super::view;
use crate::telemetry::Metrics;

/// Most entries of a list.
const LONGEST_LIST: usize = 10_000;

/// Longest time of an admin request.
const PATIENCE: Duration = Duration::from_secs(30);

/// The admin API, metrics and health.
pub fn router<C: Control>(control: Arc<C>, tokens: Arc<Tokens>) -> Router {
    let open = Router::new()
        .route("/healthz", get(async || "live\n"))
        .route("/readyz", get(ready::<C>))
        .with_state(control.clone());
    let metrics = Router::new().route("/metrics", get(metrics::<C>)).with_state(control.clone());
    let admin = Router::new()
        .route("/v1/status", get(status::<C>))
        .route("/v1/pause", post(pause::<C>))
        .route("/v1/resume", post(resume::<C>))
        .route("/v1/explain", get(explain::<C>))
        .route("/v1/dead", get(dead::<C>))
        .route("/v1/dead/{seq}", get(dead_letter::<C>))
        .route("/v1/dead/replay", post(replay::<C>))
        .route("/v1/dead/drop", post(drop_dead::<C>))
        .route("/v1/review", get(reviews::<C>))
        .route("/v1/review/decide", post(decide::<C>))
        .route("/v1/review/match", post(decide_match::<C>))
        .route("/v1/match", get(match_reports::<C>).post(begin_match::<C>))
        .route("/v1/match/rows", get(match_rows::<C>))
        .route("/v1/review/decide-many", post(decide_many::<C>))
        .route("/v1/review/unfreeze", post(unfreeze::<C>))
        .route("/v1/deletes", get(withheld::<C>))
        .route("/v1/deletes/done", get(deleted::<C>))
        .route("/v1/deletes/approve", post(approve::<C>))
        .route("/v1/deletes/reject", post(reject::<C>))
        .route("/v1/deletes/undo", post(undo::<C>))
        .route("/v1/erase", post(erase::<C>))
        .route("/v1/look", post(look::<C>))
        .route("/v1/providers", get(providers::<C>))
        .route("/v1/providers/reload", post(reload_providers::<C>))
        .route("/v1/providers/rollback", post(roll_back::<C>))
        .route("/v1/providers/pin", post(pin::<C>))
        .route("/v1/connections/reload", post(reload::<C>))
        .route(
            "/v1/connections/{id}",
            get(connection_file::<C>).put(put_connection::<C>).delete(remove_connection::<C>),
        )
        .route("/v1/shutdown", post(shut_down::<C>))
        .with_state(control);
    let guarded = for_metrics(metrics, tokens.clone()).merge(for_admin(admin, tokens));
    open.merge(guarded.layer(from_fn(in_time)))
}

/// Puts the daemon's routers together on one address: bodies are bounded, requests are counted by route pattern, and what no route
/// answers is answered with a problem. None of the routers may have a fallback of its own.
pub fn house(routers: impl IntoIterator<Item = Router>, metrics: Arc<Metrics>, max_body: usize) -> Router {
    let merged = routers.into_iter().fold(Router::new(), Router::merge);
    merged
        .fallback(async |uri: Uri| {
            Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the route is there, but not with this method")
        })
        .layer(DefaultBodyLimit::max(max_body))
        .layer(from_fn_with_state(metrics, count))
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    metrics.request(route.as_ref().map_or("none", MatchedPath::as_str), response.status().as_u16());
    response
}

async fn in_time(request: Request, next: Next) -> Result<Response, Problem> {
    tokio::time::timeout(PATIENCE, next.run(request)).await.map_err(|_| {
        let detail = format!(
            "it took longer than {} s; a change that was begun goes on, ask what became of it",
            PATIENCE.as_secs()
        );
        Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
    })
}

async fn ready<C: Control>(State(control): State<Arc<C>>) -> Result<&'static str, Problem> {
    match control.readiness() {
        Readiness::Ready => Ok("ready\n"),
        Readiness::NotReady(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}

async fn metrics<C: Control>(State(control): State<Arc<C>>) -> Result<Response, Problem> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], control.metrics().await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfConnection {
    connection: Option<ConnectionId>,
}

async fn status<C: Control>(
    State(control): State<Arc<C>>,
    Asked(asked): Asked<OfConnection>,
) -> Result<Json<view::Status>, Problem> {
    Ok(Json(control.status(asked.connection).await?))
}

async fn pause<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<PauseTarget>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.pause(target).await?))
}

async fn resume<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<PauseTarget>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.resume(target).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRecord {
    scope: Option<String>,
    connection: Option<String>,
    object: String,
    id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfStory {
    scope: Option<String>,
    connection: Option<String>,
    object: String,
    id: String,
    field: Option<String>,
    at: Option<String>,
}

impl OfRecord {
    fn record(self) -> Result<RecordRef, Problem> {
        let object = self.object.into();
        match (self.scope, self.connection) {
            (Some(scope), None) => {
                Ok(RecordRef::Internal(EntityKey { scope: scope.into(), object, id: self.id.into() }))
            }
            (None, Some(connection)) => Ok(RecordRef::External(ExternalKey {
                connection: connection.into(),
                object,
                id: self.id.into(),
            })),
            _ => {
                let detail =
                    "name either the scope (and an id of System A) or the connection (and an id of the CRM)";
                Err(Problem::new(StatusCode::BAD_REQUEST, detail))
            }
        }
    }
}

async fn explain<C: Control>(
    State(control): State<Arc<C>>,
    Asked(asked): Asked<OfStory>,
) -> Result<Json<view::Explanation>, Problem> {
    let OfStory { scope, connection, object, id, field, at } = asked;
    let record = OfRecord { scope, connection, object, id }.record()?;
    Ok(Json(control.explain(record, Aspect { field, at }).await?))
}

async fn erase<C: Control>(
    State(control): State<Arc<C>>,
    Given(asked): Given<OfRecord>,
) -> Result<Json<view::ErasureView>, Problem> {
    Ok(Json(control.erase(asked.record()?).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfList {
    connection: Option<ConnectionId>,
    limit: Option<usize>,
}

impl OfList {
    fn limit(&self) -> usize {
        bounded(self.limit)
    }
}

fn bounded(limit: Option<usize>) -> usize {
    limit.unwrap_or(100).clamp(1, LONGEST_LIST)
}

async fn dead<C: Control>(
    State(control): State<Arc<C>>,
    Asked(asked): Asked<OfList>,
) -> Result<Json<Vec<view::DeadView>>, Problem> {
    let limit = asked.limit();
    Ok(Json(control.dead(asked.connection, limit).await?))
}

async fn dead_letter<C: Control>(
    State(control): State<Arc<C>>,
    Named(seq): Named<u64>,
) -> Result<Json<view::DeadView>, Problem> {
    Ok(Json(control.dead_letter(seq).await?))
}

async fn replay<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<DeadTarget>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.replay(target).await?))
}

async fn drop_dead<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<DeadTarget>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.drop_dead(target).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfReviews {
    scope: Option<ScopeId>,
    connection: Option<ConnectionId>,
    object: Option<ObjectName>,
    id: Option<InternalId>,
    field: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
}

async fn reviews<C: Control>(
    State(control): State<Arc<C>>,
    Asked(asked): Asked<OfReviews>,
) -> Result<Json<Vec<view::ReviewView>>, Problem> {
    let OfReviews { scope, connection, object, id, field, kind, limit } = asked;
    let filter = ReviewFilter { scope, connection, object, id, field, kind };
    Ok(Json(control.reviews(filter, bounded(limit)).await?))
}

async fn decide<C: Control>(
    State(control): State<Arc<C>>,
    Given(decision): Given<Decide>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.decide(decision).await?))
}

async fn decide_match<C: Control>(
    State(control): State<Arc<C>>,
    Given(decision): Given<DecideMatch>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.decide_match(decision).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfMatch {
    connection: Option<ConnectionId>,
    object: Option<ObjectName>,
}

async fn begin_match<C: Control>(
    State(control): State<Arc<C>>,
    Given(wanted): Given<OfMatch>,
) -> Result<Json<Vec<MatchReport>>, Problem> {
    Ok(Json(control.begin_match(wanted.connection, wanted.object).await?))
}

async fn match_reports<C: Control>(
    State(control): State<Arc<C>>,
    Asked(wanted): Asked<OfMatch>,
) -> Result<Json<Vec<MatchReport>>, Problem> {
    Ok(Json(control.match_reports(wanted.connection, wanted.object).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRows {
    connection: ConnectionId,
    object: ObjectName,
    kind: Option<tandem_core::matching::Kind>,
    from: Option<u64>,
    limit: Option<usize>,
}

async fn match_rows<C: Control>(
    State(control): State<Arc<C>>,
    Asked(wanted): Asked<OfRows>,
) -> Result<Json<MatchRows>, Problem> {
    let OfRows { connection, object, kind, from, limit } = wanted;
    let asked = MatchAsked {
        target: MatchTarget { connection, object },
        kind,
        from: from.unwrap_or(0),
        limit: limit.unwrap_or(100).clamp(1, LONGEST_LIST),
    };
    Ok(Json(control.match_rows(asked).await?))
}

async fn decide_many<C: Control>(
    State(control): State<Arc<C>>,
    Given(decision): Given<DecideMany>,
) -> Result<Json<view::DecidedMany>, Problem> {
    Ok(Json(control.decide_many(decision).await?))
}

async fn unfreeze<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<Unfreeze>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.unfreeze(target).await?))
}

async fn withheld<C: Control>(
    State(control): State<Arc<C>>,
    Asked(asked): Asked<OfList>,
) -> Result<Json<Vec<view::WithheldView>>, Problem> {
    let limit = asked.limit();
    Ok(Json(control.withheld(asked.connection, limit).await?))
}

async fn deleted<C: Control>(
    State(control): State<Arc<C>>,
    Asked(asked): Asked<OfList>,
) -> Result<Json<Vec<view::KeptView>>, Problem> {
    let limit = asked.limit();
    Ok(Json(control.deleted(asked.connection, limit).await?))
}

async fn approve<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<DeletesTarget>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.approve(target).await?))
}

async fn reject<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<DeletesTarget>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.reject(target).await?))
}

async fn undo<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<DeletesTarget>,
) -> Result<Json<view::Undone>, Problem> {
    Ok(Json(control.undo(target).await?))
}

async fn look<C: Control>(
    State(control): State<Arc<C>>,
    Given(look): Given<Look>,
) -> Result<Json<view::Count>, Problem> {
    Ok(Json(control.look(look).await?))
}

async fn providers<C: Control>(
    State(control): State<Arc<C>>,
) -> Result<Json<Vec<view::ProviderView>>, Problem> {
    Ok(Json(control.providers().await?))
}

async fn reload<C: Control>(State(control): State<Arc<C>>) -> Result<Json<view::Reloaded>, Problem> {
    Ok(Json(control.reload().await?))
}

async fn reload_providers<C: Control>(
    State(control): State<Arc<C>>,
) -> Result<Json<view::ProvidersReloaded>, Problem> {
    Ok(Json(control.reload_providers().await?))
}

async fn roll_back<C: Control>(
    State(control): State<Arc<C>>,
    Given(target): Given<RollBack>,
) -> Result<Json<view::Swapped>, Problem> {
    Ok(Json(control.roll_back(target).await?))
}

async fn pin<C: Control>(
    State(control): State<Arc<C>>,
    Given(pin): Given<Pin>,
) -> Result<Json<view::Swapped>, Problem> {
    Ok(Json(control.pin(pin).await?))
}

async fn connection_file<C: Control>(
    State(control): State<Arc<C>>,
    Named(id): Named<ConnectionId>,
) -> Result<Response, Problem> {
    let text = control.connection_file(id).await?;
    Ok(([(header::CONTENT_TYPE, "application/toml; charset=utf-8")], text).into_response())
}

async fn put_connection<C: Control>(
    State(control): State<Arc<C>>,
    Named(id): Named<ConnectionId>,
    text: Result<String, axum::extract::rejection::StringRejection>,
) -> Result<Json<view::Reloaded>, Problem> {
    let text = text.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    Ok(Json(control.put_connection(id, text).await?))
}

async fn remove_connection<C: Control>(
    State(control): State<Arc<C>>,
    Named(id): Named<ConnectionId>,
) -> Result<Json<view::Reloaded>, Problem> {
    Ok(Json(control.remove_connection(id).await?))
}

async fn shut_down<C: Control>(State(control): State<Arc<C>>) -> (StatusCode, Json<view::Count>) {
    control.shut_down();
    (StatusCode::ACCEPTED, Json(view::Count { count: 1 }))
}
