//! One record at a time, and lists of them.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_core::id::{InternalId, ObjectName, ScopeId};
use uuid::Uuid;

use super::conditions::{etag, precondition, unchanged};
use super::problem::Refusal;
use super::{
    ApiState, ObjectParameters, PageQuery, RecordParameters, bad_cursor, content_type, cursor_bytes,
    cursor_text, id_of, limit_of, object_parameters, query, record_parameters, whole_body,
};
use crate::internal::embedded::writer::{Precondition, Verdict};
use crate::internal::embedded::{Attempt, Embedded, Order, layout, rules};

/// How often a merge patch without `If-Match` is tried again after somebody else was quicker.
const PATCH_TRIES: usize = 64;

/// `?id=`.
#[derive(Deserialize)]
struct CreateQuery {
    id: Option<String>,
}

/// A write that was taken.
struct Taken {
    version: u64,
    created: bool,
}

pub(super) async fn create(
    State(api): State<ApiState>,
    path: ObjectParameters,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (scope, object) = object_parameters(&api.store, path)?;
    let asked: CreateQuery = query(&uri)?;
    let id = match asked.id {
        Some(id) => id_of(&id)?,
        None => Uuid::now_v7().to_string().into(),
    };
    content_type(&headers, &["application/json"])?;
    let document = document(&api.store, &object, &headers, body).await?;
    let order = Order {
        scope: scope.clone(),
        object: object.clone(),
        id: id.clone(),
        precondition: Precondition::Absent,
        origin: api.origin.clone(),
        document: Some(document),
    };
    let taken = match write(&api.store, order).await {
        Err(refusal) if refusal.code == "version-mismatch" => {
            return Err(Refusal::taken(id, refusal.version));
        }
        taken => taken?,
    };
    let mut response = written(&taken, &id);
    let location = format!("/v1/scopes/{scope}/{object}/{id}");
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn replace(
    State(api): State<ApiState>,
    path: RecordParameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (scope, object, id) = record_parameters(&api.store, path)?;
    let precondition = precondition(&headers)?;
    content_type(&headers, &["application/json"])?;
    let document = document(&api.store, &object, &headers, body).await?;
    let origin = api.origin.clone();
    let order = Order { scope, object, id: id.clone(), precondition, origin, document: Some(document) };
    Ok(written(&write(&api.store, order).await?, &id))
}

pub(super) async fn patch(
    State(api): State<ApiState>,
    path: RecordParameters,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let (scope, object, id) = record_parameters(&api.store, path)?;
    let precondition = precondition(&headers)?;
    content_type(&headers, &["application/merge-patch+json", "application/json"])?;
    let patch = document(&api.store, &object, &headers, body).await?;
    if !patch.is_object() {
        let detail = "a merge patch of a record is an object";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    // One at a time for each record, so that nobody is overtaken for ever.
    let _turn = match precondition {
        Precondition::Any => Some(api.store.turn(&scope, &object, &id).await),
        _ => None,
    };
    for _ in 0..PATCH_TRIES {
        let (version, mut document) = live(&api.store, &scope, &object, &id)?;
        let holds = match &precondition {
            Precondition::Any | Precondition::Live => true,
            Precondition::Versions(versions) => versions.contains(&version),
            Precondition::Absent => false,
        };
        if !holds {
            return Err(Refusal::mismatch(Some(version)));
        }
        merge(&mut document, &patch);
        let order = Order {
            scope: scope.clone(),
            object: object.clone(),
            id: id.clone(),
            precondition: Precondition::Versions(vec![version]),
            origin: api.origin.clone(),
            document: Some(document),
        };
        match write(&api.store, order).await {
            // Somebody was quicker. Whoever named a version is told; the others meant the record as it is by then.
            Err(refusal) if refusal.code == "version-mismatch" => {
                if matches!(precondition, Precondition::Versions(_)) {
                    return Err(refusal);
                }
            }
            taken => return Ok(written(&taken?, &id)),
        }
    }
    let detail = "too many writers at this record: try again";
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "contended", detail))
}

pub(super) async fn delete(
    State(api): State<ApiState>,
    path: RecordParameters,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (scope, object, id) = record_parameters(&api.store, path)?;
    let precondition = precondition(&headers)?;
    let conditional = precondition != Precondition::Any;
    let order = Order {
        scope: scope.clone(),
        object: object.clone(),
        id: id.clone(),
        precondition,
        origin: api.origin.clone(),
        document: None,
    };
    match write(&api.store, order).await {
        Err(refusal) if refusal.code == "version-mismatch" && !conditional => {
            Err(live(&api.store, &scope, &object, &id).err().unwrap_or(refusal))
        }
        taken => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            response.headers_mut().insert(header::ETAG, etag(taken?.version));
            Ok(response)
        }
    }
}

pub(super) async fn read(
    State(api): State<ApiState>,
    path: RecordParameters,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (scope, object, id) = record_parameters(&api.store, path)?;
    let stored =
        api.store.stored(scope.as_str(), object.as_str(), id.as_str())?.ok_or_else(Refusal::absent)?;
    let version = stored.header.version;
    if stored.header.deleted {
        return Err(Refusal::deleted(version));
    }
    let mut response = if unchanged(&headers, version)? {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(stored.json));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("tandem-changed-at", HeaderValue::from(stored.header.changed_at));
        if let Ok(origin) = HeaderValue::from_str(&stored.header.origin) {
            headers.insert("tandem-origin", origin);
        }
        response
    };
    response.headers_mut().insert(header::ETAG, etag(version));
    Ok(response)
}

/// What a list says of a record beside its document.
#[derive(serde::Serialize)]
struct Row<'a> {
    id: &'a str,
    version: u64,
    changed_at: u64,
    origin: &'a str,
}

pub(super) async fn list(
    State(api): State<ApiState>,
    path: ObjectParameters,
    uri: Uri,
) -> Result<Response, Refusal> {
    let (scope, object) = object_parameters(&api.store, path)?;
    let asked: PageQuery = query(&uri)?;
    let limit = limit_of(asked.limit)?;
    let after = match asked.cursor {
        None => None,
        Some(cursor) => {
            let id = String::from_utf8(cursor_bytes(&cursor)?).map_err(|_| bad_cursor())?;
            if !rules::is_id(&id) {
                return Err(bad_cursor());
            }
            Some(id)
        }
    };
    let store = api.store.clone();
    let rows = tokio::task::spawn_blocking(move || rows(&store, &scope, &object, after.as_deref(), limit))
        .await
        .unwrap_or_else(|_| {
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the list could not be read"))
        })?;
    let mut response = Response::new(Body::from(rows));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The JSON of a page: `{"records": [{id, version, changed_at, origin, document}], "cursor"?}`; no cursor on the last one.
/// Documents are copied as they are stored.
fn rows(
    store: &Embedded,
    scope: &ScopeId,
    object: &ObjectName,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<u8>, Refusal> {
    let shared = &store.inner.shared;
    let (scope, object) = (scope.as_str(), object.as_str());
    let prefix = layout::object_prefix(scope, object);
    let after = after.map(|id| layout::record_key(scope, object, id)).unwrap_or_default();
    let mut page = br#"{"records":["#.to_vec();
    let mut last = None;
    let mut count = 0;
    let mut more = false;
    for found in shared.records_after(&prefix, &after) {
        let (key, value) = found?;
        // A damaged record is left out of lists; reading it says so.
        let Some((header, document)) = shared.trusted(&key, &value) else { continue };
        let Some((_, _, id)) = layout::split_record_key(&key) else { continue };
        if header.deleted {
            continue;
        }
        if count >= limit {
            more = true;
            break;
        }
        let row = Row { id, version: header.version, changed_at: header.changed_at, origin: &header.origin };
        let row = serde_json::to_string(&row).unwrap_or_default();
        let Some(row) = row.strip_suffix('}') else { continue };
        if count > 0 {
            page.push(b',');
        }
        page.extend_from_slice(row.as_bytes());
        page.extend_from_slice(br#","document":"#);
        page.extend_from_slice(document);
        page.push(b'}');
        count += 1;
        last = Some(id.to_owned());
    }
    page.push(b']');
    if let Some(last) = last.filter(|_| more) {
        page.extend_from_slice(format!(r#","cursor":"{}""#, cursor_text(last.as_bytes())).as_bytes());
    }
    page.push(b'}');
    Ok(page)
}

/// Reads and parses a body.
async fn document(
    store: &Embedded,
    object: &ObjectName,
    headers: &HeaderMap,
    body: Body,
) -> Result<Value, Refusal> {
    let body = whole_body(headers, body, store.max_document()).await?;
    let rules = store.rules(object).ok_or_else(Refusal::unknown_object)?;
    rules.parse(&body).map_err(|problems| {
        store.counters().rejected.fetch_add(1, Ordering::Relaxed);
        Refusal::invalid(problems)
    })
}

/// Submits a write and waits until it is durable.
async fn write(store: &Embedded, order: Order) -> Result<Taken, Refusal> {
    match store.submit(order).await? {
        Attempt::Rejected(problems) => Err(Refusal::invalid(problems)),
        Attempt::Submitted(answer) => match store.answer(answer).await? {
            Verdict::Written { version, created, .. } => Ok(Taken { version, created }),
            Verdict::Exists(id) => Err(Refusal::exists(id)),
            Verdict::Conflict(stored) => {
                let header = stored.as_deref().and_then(|value| layout::decode_record(value).ok());
                Err(Refusal::mismatch(header.map(|(header, _)| header.version)))
            }
        },
    }
}

/// The live record, or why there is none.
fn live(
    store: &Embedded,
    scope: &ScopeId,
    object: &ObjectName,
    id: &InternalId,
) -> Result<(u64, Value), Refusal> {
    let stored = store.stored(scope.as_str(), object.as_str(), id.as_str())?.ok_or_else(Refusal::absent)?;
    if stored.header.deleted {
        return Err(Refusal::deleted(stored.header.version));
    }
    let document = serde_json::from_slice(&stored.json).map_err(|_| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the stored record cannot be read")
    })?;
    Ok((stored.header.version, document))
}

/// The answer to a write.
fn written(taken: &Taken, id: &InternalId) -> Response {
    let status = if taken.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response =
        (status, axum::Json(json!({ "id": id.as_str(), "version": taken.version }))).into_response();
    response.headers_mut().insert(header::ETAG, etag(taken.version));
    response
}

/// Applies a JSON merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            // Keeps the order of the others, so that the same contents stay the same bytes.
            target.shift_remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_patches_do_what_the_appendix_of_the_standard_says() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, result, "{target} with {patch}");
        }
    }
}
