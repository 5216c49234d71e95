//! System A's HTTP API: records with conditions, lists, the change feed, NDJSON intake.
//!
//! ```text
//! POST   /v1/scopes/{scope}/{object}         ?id=        create -> 201, ETag, Location
//! GET    /v1/scopes/{scope}/{object}         ?limit&cursor    live records in the order of their ids
//! GET    /v1/scopes/{scope}/{object}/{id}                document, ETag; 304 by If-None-Match
//! PUT    /v1/scopes/{scope}/{object}/{id}                create or replace
//! PATCH  /v1/scopes/{scope}/{object}/{id}                JSON merge patch (RFC 7396)
//! DELETE /v1/scopes/{scope}/{object}/{id}                -> 204
//! POST   /v1/scopes/{scope}/{object}/batch               NDJSON in, NDJSON out
//! GET    /v1/scopes/{scope}/changes          ?limit&cursor    JSON, or text/event-stream
//! ```
//!
//! The body of a record is its canonical document and nothing else; its version is the `ETag`. `If-Match` is optional and
//! honoured exactly; without it the last write wins. `If-None-Match: *` creates only. Errors are `application/problem+json`
//! with a `code` for programs and `problems` with JSON pointers. Authentication stands around this router; a token for one
//! scope is checked against `{scope}`, the only place where a scope is named. Nothing here logs contents.

mod batch;
mod changes;
mod conditions;
mod problem;
mod records;

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tandem_core::id::{InternalId, ObjectName, ScopeId};

use self::problem::Refusal;
use super::{Embedded, rules};

/// Records or changes of a page when nothing is asked.
const DEFAULT_PAGE: usize = 100;
/// Records or changes of a page at most.
const MAX_PAGE: usize = 1000;

/// What the routes need.
#[derive(Clone)]
pub struct ApiState {
    /// The store.
    pub store: Embedded,
    /// The origin of what is written through the API: kept with the record, shown in the feed. `api` by default.
    pub origin: String,
    /// How often an event stream without changes sends a comment, so that proxies keep it open; 15 s by default.
    pub heartbeat: Duration,
}

impl ApiState {
    /// The defaults, for a store.
    #[must_use]
    pub fn new(store: Embedded) -> Self {
        Self { store, origin: "api".into(), heartbeat: Duration::from_secs(15) }
    }
}

/// The routes, without authentication.
pub fn router(state: ApiState) -> Router {
    Router::new()
        .route("/v1/scopes/{scope}/changes", get(changes::changes).fallback(wrong_method))
        .route("/v1/scopes/{scope}/{object}", get(records::list).post(records::create).fallback(wrong_method))
        .route("/v1/scopes/{scope}/{object}/batch", post(batch::batch).fallback(wrong_method))
        .route(
            "/v1/scopes/{scope}/{object}/{id}",
            get(records::read)
                .put(records::replace)
                .patch(records::patch)
                .delete(records::delete)
                .fallback(wrong_method),
        )
        .layer(DefaultBodyLimit::disable())
        .with_state(state)
}

async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "this address does not take this method")
}

/// The object that a path names.
#[derive(Deserialize)]
struct ObjectPath {
    scope: String,
    object: String,
}

/// The record that a path names.
#[derive(Deserialize)]
struct RecordPath {
    scope: String,
    object: String,
    id: String,
}

/// `?limit&cursor`.
#[derive(Deserialize)]
struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

type ObjectParameters = Result<Path<ObjectPath>, PathRejection>;
type RecordParameters = Result<Path<RecordPath>, PathRejection>;

/// The names of a path, if they are names.
fn scope_of(text: &str) -> Result<ScopeId, Refusal> {
    if rules::is_name(text) {
        return Ok(text.into());
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        "bad-scope",
        "a scope has 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first",
    ))
}

fn object_of(store: &Embedded, text: &str) -> Result<ObjectName, Refusal> {
    let object = ObjectName::from(text);
    if rules::is_name(text) && store.rules(&object).is_some() {
        Ok(object)
    } else {
        Err(Refusal::unknown_object())
    }
}

fn id_of(text: &str) -> Result<InternalId, Refusal> {
    if rules::is_id(text) && text != "batch" {
        return Ok(text.into());
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        "bad-id",
        "an id has 1 to 128 letters, digits, '.', '_', '-', '~', ':' or '@', a letter or digit first, and is not 'batch'",
    ))
}

fn object_parameters(store: &Embedded, path: ObjectParameters) -> Result<(ScopeId, ObjectName), Refusal> {
    let Path(path) = path.map_err(|_| bad_path())?;
    Ok((scope_of(&path.scope)?, object_of(store, &path.object)?))
}

fn record_parameters(
    store: &Embedded,
    path: RecordParameters,
) -> Result<(ScopeId, ObjectName, InternalId), Refusal> {
    let Path(path) = path.map_err(|_| bad_path())?;
    Ok((scope_of(&path.scope)?, object_of(store, &path.object)?, id_of(&path.id)?))
}

fn bad_path() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad-path", "the path is not UTF-8")
}

/// Parameters behind the question mark.
fn query<T: DeserializeOwned>(uri: &http::Uri) -> Result<T, Refusal> {
    axum::extract::Query::try_from_uri(uri).map(|axum::extract::Query(query)| query).map_err(|_| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad-query",
            "a parameter behind the question mark is not what it should be",
        )
    })
}

fn limit_of(asked: Option<usize>) -> Result<usize, Refusal> {
    match asked {
        None => Ok(DEFAULT_PAGE),
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad-limit",
            format!("limit is between 1 and {MAX_PAGE}"),
        )),
    }
}

fn bad_cursor() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "bad-cursor",
        "the cursor is not one that was given; start again without one",
    )
}

fn cursor_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn cursor_bytes(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| bad_cursor())
}

/// Whether the body is said to be one of these media types. Parameters do not matter; JSON is always UTF-8.
fn content_type(headers: &HeaderMap, allowed: &[&str]) -> Result<(), Refusal> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = said.split(';').next().unwrap_or_default().trim();
    if allowed.iter().any(|allowed| media.eq_ignore_ascii_case(allowed)) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "wrong-content-type",
        format!("content-type must be {}", allowed.join(" or ")),
    ))
}

/// Reads a body of at most `limit` bytes.
async fn whole_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<bytes::Bytes, Refusal> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit as u64) {
        return Err(Refusal::too_large(limit));
    }
    to_bytes(body, limit).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        if cause.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
            Refusal::too_large(limit)
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, "interrupted", "the body ended before it was whole")
        }
    })
}

/// A JSON answer.
fn json(value: serde_json::Value) -> Response {
    axum::response::IntoResponse::into_response(Json(value))
}
