//! Answers to what cannot be done: `application/problem+json` (RFC 9457).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tandem_core::exchange::Problem;
use tandem_core::id::InternalId;

use crate::internal::InternalError;

/// An answer that is not a success. Texts name members and limits, never contents.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) problems: Vec<Problem>,
    /// The record that has the same identity value.
    pub(super) existing: Option<InternalId>,
    /// The record's version now.
    pub(super) version: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), problems: Vec::new(), existing: None, version: None }
    }

    /// The name of the object is not known.
    pub(super) fn unknown_object() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown-object", "there is no such object")
    }

    /// There was never such a record.
    pub(super) fn absent() -> Self {
        Self::new(StatusCode::NOT_FOUND, "absent", "there is no such record")
    }

    /// The record was deleted.
    pub(super) fn deleted(version: u64) -> Self {
        let refusal = Self::new(StatusCode::NOT_FOUND, "deleted", "the record was deleted");
        Self { version: Some(version), ..refusal }
    }

    /// The precondition does not hold.
    pub(super) fn mismatch(version: Option<u64>) -> Self {
        let refusal = Self::new(
            StatusCode::PRECONDITION_FAILED,
            "version-mismatch",
            "the record is not as the precondition asks: read it again",
        );
        Self { version, ..refusal }
    }

    /// Another live record has the same identity value.
    pub(super) fn exists(existing: InternalId) -> Self {
        let refusal = Self::new(
            StatusCode::CONFLICT,
            "identity-exists",
            "another record of the scope has the same identity value",
        );
        Self { existing: Some(existing), ..refusal }
    }

    /// A live record has this id already.
    pub(super) fn taken(id: InternalId, version: Option<u64>) -> Self {
        let refusal = Self::new(StatusCode::CONFLICT, "id-exists", "a record with this id is there already");
        Self { existing: Some(id), version, ..refusal }
    }

    /// The body is not a document, or not a valid one.
    pub(super) fn invalid(problems: Vec<Problem>) -> Self {
        let any = |codes: &[&str]| problems.iter().any(|problem| codes.contains(&problem.code.as_str()));
        let refusal = if any(&["too-large"]) {
            Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the document is too large")
        } else if any(&["not-json", "not-utf8", "control-character"]) {
            Self::new(StatusCode::BAD_REQUEST, "malformed", "the body is not JSON in UTF-8")
        } else {
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "the document is not valid")
        };
        Self { problems, ..refusal }
    }

    /// The body is larger than a document may be.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", format!("a document has at most {limit} bytes"))
    }

    /// The answer's body. Members that do not apply are left out.
    pub(super) fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("code".into(), self.code.into());
        members.insert("detail".into(), self.detail.as_str().into());
        if !self.problems.is_empty() {
            let problems = self.problems.iter().map(|problem| {
                let mut members = Map::new();
                members.insert("code".into(), problem.code.as_str().into());
                members.insert("message".into(), problem.message.as_str().into());
                if let Some(pointer) = &problem.pointer {
                    members.insert("pointer".into(), pointer.as_str().into());
                }
                Value::Object(members)
            });
            members.insert("problems".into(), problems.collect());
        }
        if let Some(existing) = &self.existing {
            members.insert("existing".into(), existing.as_str().into());
        }
        if let Some(version) = self.version {
            members.insert("version".into(), json!(version));
        }
        members
    }
}

impl From<InternalError> for Refusal {
    fn from(error: InternalError) -> Self {
        // What failed is for the operator; callers are told that they may come back.
        tracing::error!(error = %error, "system a cannot answer");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the store cannot do this now; the log says why",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), json!(self.status.as_u16()));
        body.append(&mut self.members());
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
