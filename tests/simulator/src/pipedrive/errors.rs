//! Pipedrive's error answers. v2 says `error` and `code`, v1 says `error` and `error_info`, the gateway before both says
//! `errorCode`, and the guard before the gateway answers in HTML.

use http::StatusCode;
use serde_json::{Value, json};

const INFO: &str = "Please check developers.pipedrive.com";

/// What an answer that is no success says.
#[derive(Debug)]
enum Said {
    Json(Value),
    Html(&'static str),
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    said: Said,
    pub(crate) retry_after: Option<u64>,
    /// Set by the gateway where it does not know the caller.
    pub(crate) by_gateway: bool,
}

impl Refusal {
    fn json(status: StatusCode, body: Value) -> Self {
        Self { status, said: Said::Json(body), retry_after: None, by_gateway: false }
    }

    /// An answer of v2.
    fn v2(status: StatusCode, code: &str, error: &str) -> Self {
        Self::json(status, json!({ "success": false, "error": error, "code": code }))
    }

    /// An answer of v1.
    pub(crate) fn v1(status: StatusCode, error: &str) -> Self {
        Self::json(
            status,
            json!({
                "success": false,
                "error": error,
                "error_info": "Please check developers.pipedrive.com for more information about Pipedrive API.",
                "data": null,
                "additional_data": null,
            }),
        )
    }

    fn gateway(status: StatusCode, error: &str) -> Self {
        Self::json(
            status,
            json!({ "success": false, "error": error, "errorCode": status.as_u16(), "error_info": INFO }),
        )
    }

    pub(crate) fn unauthorized() -> Self {
        Self { by_gateway: true, ..Self::gateway(StatusCode::UNAUTHORIZED, "unauthorized access") }
    }

    pub(crate) fn scope() -> Self {
        Self::gateway(StatusCode::FORBIDDEN, "Scope and URL mismatch")
    }

    pub(crate) fn over_limit() -> Self {
        Self::gateway(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded")
    }

    /// The guard before the gateway, which speaks no JSON.
    pub(crate) fn blocked() -> Self {
        Self {
            said: Said::Html(
                "<!DOCTYPE html><html><head><title>Access denied</title></head><body><h1>Sorry, you have been \
                 blocked</h1></body></html>",
            ),
            ..Self::json(StatusCode::FORBIDDEN, Value::Null)
        }
    }

    pub(crate) fn no_such_path() -> Self {
        Self::v2(StatusCode::NOT_FOUND, "ERR_NOT_FOUND", "Resource not found")
    }

    pub(crate) fn wrong_method() -> Self {
        Self::v2(StatusCode::METHOD_NOT_ALLOWED, "ERR_METHOD_NOT_ALLOWED", "Method not allowed")
    }

    /// What was sent is not of the published form; `place` is a member or a query parameter.
    pub(crate) fn invalid(place: &str, why: &str) -> Self {
        Self::v2(
            StatusCode::BAD_REQUEST,
            "ERR_SCHEMA_VALIDATION_FAILED",
            &format!("Validation failed: {place}: {why}"),
        )
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::v2(StatusCode::NOT_FOUND, "ERR_NOT_FOUND", &format!("{what} not found"))
    }

    pub(crate) fn forbidden(error: &str) -> Self {
        Self::v2(StatusCode::FORBIDDEN, "ERR_FORBIDDEN", error)
    }

    /// The token endpoint's errors.
    pub(crate) fn oauth(error: &str, message: &str) -> Self {
        Self::json(StatusCode::BAD_REQUEST, json!({ "success": false, "message": message, "error": error }))
    }

    pub(crate) fn ordered(status: u16, retry_after: Option<u64>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut refusal = match status {
            StatusCode::TOO_MANY_REQUESTS => Self::over_limit(),
            StatusCode::INTERNAL_SERVER_ERROR => Self::v2(status, "ERR_UNKNOWN", "Internal Server Error"),
            _ => Self::gateway(status, status.canonical_reason().unwrap_or("error")),
        };
        refusal.retry_after = retry_after;
        refusal
    }

    /// In one line, for people.
    pub(crate) fn message(&self) -> String {
        let Said::Json(body) = &self.said else { return "blocked".to_owned() };
        body.get("error").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The body and its media type.
    pub(crate) fn body(self) -> (Vec<u8>, &'static str) {
        match self.said {
            Said::Json(body) => (body.to_string().into_bytes(), "application/json; charset=utf-8"),
            Said::Html(text) => (text.as_bytes().to_vec(), "text/html; charset=UTF-8"),
        }
    }
}
