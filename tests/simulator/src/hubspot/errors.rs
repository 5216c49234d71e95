//! HubSpot's error answers.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::contacts::Problem;
use crate::dice::Dice;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    body: Map<String, Value>,
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, category: &str, message: impl Into<String>) -> Self {
        let mut error = Self::bare(status, message);
        error.body.insert("category".into(), category.into());
        error
    }

    /// Without a category, as some of HubSpot's answers are.
    pub(crate) fn bare(status: StatusCode, message: impl Into<String>) -> Self {
        let mut body = Map::new();
        body.insert("status".into(), "error".into());
        body.insert("message".into(), message.into().into());
        Self { status, body, retry_after: None }
    }

    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        self.body.insert(member.into(), value);
        self
    }

    pub(crate) fn without(mut self, member: &str) -> Self {
        self.body.shift_remove(member);
        self
    }

    /// The body, with a fresh correlation id after the message.
    pub(crate) fn into_body(self, correlation: &str) -> Value {
        let mut body = Map::new();
        for (name, value) in self.body {
            let after = name == "message";
            body.insert(name, value);
            if after {
                body.insert("correlationId".into(), correlation.into());
            }
        }
        Value::Object(body)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    pub(crate) fn invalid_json(reason: &str) -> Self {
        Self::validation(format!("Invalid input JSON on line 1, column 1: {reason}"))
    }

    pub(crate) fn missing_member(kind: &str, member: &str) -> Self {
        Self::invalid_json(&format!(
            "Cannot build {kind}, some of required attributes are not set [{member}]"
        ))
    }

    pub(crate) fn not_found() -> Self {
        Self::bare(StatusCode::NOT_FOUND, "resource not found")
    }

    pub(crate) fn not_numeric(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "OBJECT_NOT_FOUND",
            "Object not found.  objectId are usually numeric.",
        )
        .with("context", json!({ "id": [id] }))
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "INVALID_AUTHENTICATION",
            "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more \
             details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
        )
    }

    pub(crate) fn expired(seconds: i64) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "EXPIRED_AUTHENTICATION",
            format!("The OAuth token used to make this call expired {seconds} second(s) ago."),
        )
    }

    pub(crate) fn missing_scope(scope: &str) -> Self {
        const PAGE: &str = "https://developers.hubspot.com/scopes";
        Self::bare(
            StatusCode::FORBIDDEN,
            format!(
                "This app hasn't been granted all required scopes to make this call. Read more about required \
                 scopes here: {PAGE}."
            ),
        )
        .with(
            "errors",
            json!([{
                "message": "One or more of the following scopes are required.",
                "context": { "requiredGranularScopes": [scope] },
            }]),
        )
        .with("links", json!({ "scopes": PAGE }))
        .with("category", "MISSING_SCOPES".into())
    }

    pub(crate) fn rate_limited(message: &str, policy: &str) -> Self {
        Self::bare(StatusCode::TOO_MANY_REQUESTS, message)
            .with("errorType", "RATE_LIMIT".into())
            .with("policyName", policy.into())
            .with("category", "RATE_LIMITS".into())
    }

    /// The token endpoint's errors carry their code as the status.
    pub(crate) fn oauth(code: &str, message: &str) -> Self {
        let mut error = Self::bare(StatusCode::BAD_REQUEST, message);
        error.body.insert("status".into(), code.into());
        error
    }

    pub(crate) fn ordered(status: u16, retry_after: Option<u64>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (category, message) = match status.as_u16() {
            423 => ("LOCKED", "There is another operation in progress on this account. Please try again."),
            477 => ("MIGRATION_IN_PROGRESS", "This account is being migrated to another data center."),
            429 => ("RATE_LIMITS", "You have reached your ten_secondly_rolling limit."),
            502 => ("BAD_GATEWAY", "Bad gateway"),
            503 => ("SERVICE_UNAVAILABLE", "The service is temporarily overloaded"),
            504 | 524 => ("TIMEOUT", "The request timed out"),
            _ => ("INTERNAL_ERROR", "internal error"),
        };
        let mut error = Self::new(status, category, message);
        if status == StatusCode::TOO_MANY_REQUESTS {
            error = error
                .with("errorType", "RATE_LIMIT".into())
                .with("policyName", "TEN_SECONDLY_ROLLING".into());
        }
        error.retry_after = retry_after;
        error
    }

    /// The answer to a write that the store of contacts refuses.
    pub(crate) fn refused(problem: Problem, portal: u64) -> Self {
        match problem {
            Problem::Values(bad) => {
                let detailed: Vec<Value> = bad
                    .iter()
                    .map(|b| {
                        json!({
                            "isValid": false,
                            "message": b.refused.message,
                            "error": b.refused.code,
                            "name": b.property,
                            "localizedErrorMessage": b.refused.message,
                            "propertyValue": b.value,
                            "portalId": portal,
                        })
                    })
                    .collect();
                let errors: Vec<Value> = bad
                    .iter()
                    .map(|b| {
                        json!({
                            "message": b.refused.message,
                            "code": b.refused.code,
                            "context": { "propertyName": [b.property] },
                        })
                    })
                    .collect();
                Self::validation(format!("Property values were not valid: {}", Value::Array(detailed)))
                    .with("errors", Value::Array(errors))
            }
            Problem::Exists(id) => Self::new(
                StatusCode::CONFLICT,
                "CONFLICT",
                format!("Contact already exists. Existing ID: {id}"),
            ),
            Problem::Nameless => Self::validation(
                "Error creating contact: at least one of the properties email, firstname or lastname is required.",
            ),
            Problem::Empty => Self::validation("No properties found to update, please provide at least one."),
            Problem::Missing => Self::not_found(),
            Problem::NotUnique(name) => Self::validation(format!(
                "Property {name} cannot be used as a unique identifier: it does not exist or is not unique."
            )),
            Problem::SameRecord => {
                Self::validation("Cannot merge an object with itself or with one merged into it.")
            }
        }
    }
}

/// A fresh correlation id.
pub(crate) fn correlation(dice: &Dice) -> String {
    dice.uuid().to_string()
}
