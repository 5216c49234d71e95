//! Refusals in the words of Salesforce: an array of `{message, errorCode, fields}`, whatever the status.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// A refusal.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Refusals of a write name fields, even none; others do not have the member.
    pub(crate) fields: Option<Vec<String>>,
    /// Who was found by a duplicate rule.
    pub(crate) duplicates: Option<Box<Value>>,
    /// The published description does not allow the request: what is wrong with it, without any content.
    pub(crate) violation: Option<Box<str>>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            fields: None,
            duplicates: None,
            violation: None,
        }
    }

    pub(crate) fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A refusal of a write.
    pub(crate) fn write(code: &str, message: impl Into<String>, fields: &[&str]) -> Self {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Self { fields: Some(fields), ..Self::bad(code, message) }
    }

    pub(crate) fn violating(mut self, reason: impl Into<String>) -> Self {
        self.violation = Some(reason.into().into_boxed_str());
        self
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "The requested resource does not exist")
    }

    /// The path names neither an id nor a field by which records are found.
    pub(crate) fn no_external_id(what: &str) -> Self {
        let message = format!("Provided external ID field does not exist or is not accessible: {what}");
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(crate) fn deleted() -> Self {
        let error = Self::write("ENTITY_IS_DELETED", "entity is deleted", &[]);
        Self { status: StatusCode::NOT_FOUND, ..error }
    }

    pub(crate) fn session() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", "Session expired or invalid")
    }

    pub(crate) fn locked(id: &str) -> Self {
        let message = format!("unable to obtain exclusive access to this record or 1 records: {id}");
        Self::write("UNABLE_TO_LOCK_ROW", message, &[])
    }

    pub(crate) fn limit(which: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "REQUEST_LIMIT_EXCEEDED", format!("{which} Limit exceeded."))
    }

    /// A read or a query names a field that is not there.
    pub(crate) fn no_column(name: &str) -> String {
        format!(
            "No such column '{name}' on entity 'Contact'. If you are attempting to use a custom field, be sure to append \
             the '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate \
             names."
        )
    }

    /// A status that a test ordered, in words that fit it.
    pub(crate) fn ordered(status: u16) -> Self {
        let (code, message) = match status {
            401 => return Self::session(),
            403 => return Self::limit("TotalRequests"),
            404 => return Self::not_found(),
            503 => ("SERVER_UNAVAILABLE", "The server is too busy to respond. Please try again later."),
            _ => (
                "UNKNOWN_EXCEPTION",
                "An unexpected error occurred. Please include this ErrorId if you contact support",
            ),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, code, message)
    }

    fn members(&self, code: &str) -> Map<String, Value> {
        let mut members = Map::new();
        if let Some(duplicates) = &self.duplicates {
            // Spelt so by Salesforce.
            members.insert("duplicateResut".to_owned(), Value::clone(duplicates));
        }
        members.insert("message".to_owned(), self.message.clone().into());
        members.insert(code.to_owned(), self.code.clone().into());
        if let Some(fields) = &self.fields {
            members.insert("fields".to_owned(), json!(fields));
        }
        members
    }

    /// The body of an answer.
    pub(crate) fn body(&self) -> Value {
        json!([self.members("errorCode")])
    }

    /// The result of one record of several, which has another name for the code.
    pub(crate) fn row(&self) -> Value {
        let mut members = self.members("statusCode");
        members.entry("fields").or_insert_with(|| json!([]));
        json!({ "success": false, "errors": [members] })
    }
}
