//! What Salesforce's refusals mean, and what its headers say of quotas.
//!
//! A refusal is an array of errors with a word, a sentence and the fields that it is about; the word decides, since one status
//! stands for many things: a spent limit and a missing permission are both 403.

use tandem_provider::classify::{by_status, effect, one_line, retry_after, summary};
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Effect, Operation, Problem, QuotaState, Response, Scope, Wait};

use crate::Salesforce;
use crate::ids;

/// Calls that run at once end within seconds.
const CONCURRENT: u64 = 5_000;

/// Somebody else holds the row.
const LOCKED: u64 = 2_000;

/// Nobody gets in: the credentials are good, the user or the organisation is not.
const CONNECTION: [&str; 9] = [
    "API_CURRENTLY_DISABLED",
    "API_DISABLED_FOR_ORG",
    "CLIENT_NOT_ACCESSIBLE_FOR_USER",
    "INACTIVE_ORG",
    "LOGIN_DURING_RESTRICTED_DOMAIN",
    "LOGIN_DURING_RESTRICTED_TIME",
    "ORG_LOCKED",
    "PASSWORD_LOCKOUT",
    "UNSUPPORTED_API_VERSION",
];

/// It fails for every contact.
const OBJECT: [&str; 4] =
    ["FUNCTIONALITY_NOT_ENABLED", "INVALID_TYPE", "MALFORMED_QUERY", "STORAGE_LIMIT_EXCEEDED"];

/// One of the errors of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Error {
    /// `REQUIRED_FIELD_MISSING`
    pub(crate) code: String,
    /// In one line.
    pub(crate) message: String,
    /// API names.
    pub(crate) fields: Vec<String>,
    /// Records that a duplicate rule found.
    pub(crate) matches: Vec<String>,
}

/// The errors of an answer: an array of them, one alone, or those inside the answer to a write.
pub(crate) fn errors(response: &Response) -> Vec<Error> {
    let Ok(body) = response.node() else { return Vec::new() };
    let list = match &body {
        Node::List(errors) => errors.as_slice(),
        other => match other.get("errors").and_then(Node::as_list) {
            Some(errors) => errors,
            None => std::slice::from_ref(&body),
        },
    };
    list.iter().filter_map(error).collect()
}

fn error(node: &Node<'_>) -> Option<Error> {
    let text = |name: &str| node.get(name).and_then(Node::as_str);
    let code = text("errorCode").or_else(|| text("statusCode"))?.to_owned();
    let fields = node.get("fields").and_then(Node::as_list).unwrap_or_default();
    let message = one_line(text("message").unwrap_or(&code));
    let matches = node
        .get("duplicateResult")
        .or_else(|| node.get("duplicateResut"))
        .and_then(|it| it.get("matchResults")?.as_list())
        .unwrap_or_default()
        .iter()
        .flat_map(|it| it.get("matchRecords").and_then(Node::as_list).unwrap_or_default())
        .filter_map(|it| it.get("record")?.get("Id")?.as_str())
        .filter_map(ids::long)
        .collect();
    Some(Error {
        code,
        message,
        fields: fields.iter().filter_map(Node::as_str).map(str::to_owned).collect(),
        matches,
    })
}

/// One line of what was said.
fn said(errors: &[Error], response: &Response) -> String {
    errors.first().map_or_else(|| summary(response), |error| error.message.clone())
}

/// Whether the answer says that the record is not there: deleted, of no such id, or out of our sight.
pub(crate) fn says_gone(response: &Response) -> bool {
    const WORDS: [&str; 4] =
        ["ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "INVALID_ID_FIELD", "NOT_FOUND"];
    let errors = errors(response);
    match errors.first() {
        // A reference field that points to nobody is another thing, and names the field.
        Some(error) => error.fields.iter().all(|field| field == "Id") && WORDS.contains(&error.code.as_str()),
        None => response.status == 404,
    }
}

impl Salesforce {
    /// The meaning of an answer that is no success.
    pub(crate) fn refuse(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        let errors = errors(response);
        let code = errors.first().map(|error| error.code.as_str()).unwrap_or_default();
        let said = || said(&errors, response);
        let blocked =
            |scope| Answer::Blocked { scope, problem: Problem::new(&word(code, "refused"), said()) };
        match code {
            "INVALID_SESSION_ID" | "INVALID_AUTH" | "INVALID_AUTH_HEADER" => {
                return Answer::Unauthorised(said());
            }
            "REQUEST_LIMIT_EXCEEDED" => return self.throttled(&said(), response, context),
            "UNABLE_TO_LOCK_ROW" => {
                let wait = retry_after_or(response, context, LOCKED);
                return Answer::Again { wait, took_effect: Effect::No };
            }
            "QUERY_TIMEOUT" | "SERVER_UNAVAILABLE" | "UNKNOWN_EXCEPTION" => {
                let wait = retry_after(response, context);
                return Answer::Again { wait, took_effect: effect(operation) };
            }
            code if CONNECTION.contains(&code) => return blocked(Scope::Connection),
            code if OBJECT.contains(&code) => return blocked(Scope::Object),
            _ => {}
        }
        match response.status {
            // Answers of the pages about the user have no errors inside.
            403 if response.body.trim_ascii().ends_with(b"_OAuth_Token") => {
                Answer::Unauthorised("the token is not accepted".to_owned())
            }
            // The path names no object or no external id: it is so for every contact.
            404 => blocked(Scope::Object),
            300 => blocked(Scope::Object),
            400..=403 | 409 | 422 if matches!(operation, Operation::Write(_) | Operation::Remove(_)) => {
                match response.status {
                    401 => Answer::Unauthorised(said()),
                    403 if errors.is_empty() => blocked(Scope::Object),
                    _ => Answer::Rejected(self.problems(&errors, response)),
                }
            }
            400 | 403 => blocked(Scope::Object),
            401 => Answer::Unauthorised(said()),
            _ => by_status(operation, response, context),
        }
    }

    /// What is wrong with a record, field by field, in Salesforce's words.
    pub(crate) fn problems(&self, errors: &[Error], response: &Response) -> Vec<Problem> {
        let mut problems = Vec::new();
        for error in errors {
            let code = word(&error.code, "refused");
            let mut message = error.message.clone();
            if !error.matches.is_empty() {
                message = format!("{message} (contacts {})", error.matches.join(", "));
            }
            let named: Vec<&str> = if error.fields.is_empty() {
                self.named(&error.message).into_iter().collect()
            } else {
                error.fields.iter().map(String::as_str).collect()
            };
            let mut placed = false;
            for field in &named {
                if let Some(pointer) = self.pointer_of(field) {
                    problems.push(Problem::new(&code, message.clone()).at(pointer));
                    placed = true;
                }
            }
            if !placed {
                let unmapped = named.iter().filter(|field| !message.contains(**field)).copied();
                let unmapped: Vec<&str> = unmapped.collect();
                if !unmapped.is_empty() {
                    message = format!("{message} ({})", unmapped.join(", "));
                }
                problems.push(Problem::new(&code, message));
            }
        }
        if problems.is_empty() {
            problems.push(Problem::new("refused", summary(response)));
        }
        problems
    }

    /// The canonical place of a field. Where states and countries are picklists, refusals may name their codes.
    pub(crate) fn pointer_of(&self, field: &str) -> Option<&str> {
        self.contacts.canonical_of(field).or_else(|| self.contacts.canonical_of(field.strip_suffix("Code")?))
    }

    /// The mapped field that a sentence has in quotes: `No such column 'Tier__c' on sobject of type Contact`.
    fn named<'m>(&self, message: &'m str) -> Option<&'m str> {
        message.split('\'').skip(1).step_by(2).find(|name| self.contacts.canonical_of(name).is_some())
    }
}

impl Salesforce {
    /// Too many calls. Salesforce does not say when to come back.
    fn throttled(&self, said: &str, response: &Response, context: &Context) -> Answer {
        let (quota, usual) = if said.contains("Concurrent") {
            ("concurrency", CONCURRENT)
        } else {
            ("requests", self.settings.limit_pause_ms)
        };
        Answer::Throttled { quota: Some(quota.to_owned()), wait: retry_after_or(response, context, usual) }
    }

    /// `Sforce-Limit-Info: api-usage=18/5000`: calls of the last 24 hours, of all programs together, and the limit.
    ///
    /// What others have used comes back by and by and nobody says when; after a pause it is looked at how much did.
    pub(crate) fn quota_states(&self, response: &Response, context: &Context) -> Vec<QuotaState> {
        let usage = response
            .header("sforce-limit-info")
            .into_iter()
            .flat_map(|text| text.split([';', ',', ' ']))
            .find_map(|part| part.trim().strip_prefix("api-usage="));
        let Some((used, limit)) = usage.and_then(|usage| usage.split_once('/')) else { return Vec::new() };
        let digits = |text: &str| {
            let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
            text.get(..end)?.parse::<u64>().ok()
        };
        let (Some(used), Some(limit)) = (digits(used), digits(limit)) else { return Vec::new() };
        vec![QuotaState {
            quota: "requests".to_owned(),
            limit: Some(limit),
            remaining: Some(limit.saturating_sub(used)),
            resets: Wait::Until(context.now.saturating_add(self.settings.limit_pause_ms)),
        }]
    }
}

fn retry_after_or(response: &Response, context: &Context, usual_ms: u64) -> Wait {
    match retry_after(response, context) {
        Wait::Unknown => Wait::Until(context.now.saturating_add(usual_ms)),
        until => until,
    }
}

/// Salesforce's `REQUIRED_FIELD_MISSING` as a word of the contract.
pub(crate) fn word(code: &str, otherwise: &str) -> String {
    if code.is_empty() {
        return otherwise.to_owned();
    }
    code.chars().take(64).map(|it| if it == '_' { '-' } else { it.to_ascii_lowercase() }).collect()
}

/// Whose value a unique field has already: `duplicate value found: Email__c duplicates value on record with id: 0035…`. Field and
/// record, as far as they are said.
pub(crate) fn holder(message: &str) -> (Option<&str>, Option<String>) {
    const BEFORE: &str = "duplicate value found: ";
    const BETWEEN: &str = " duplicates value on record with id: ";
    let Some((left, right)) = message.split_once(BETWEEN) else { return (None, None) };
    let field = left.split_once(BEFORE).map(|(_, field)| field.trim()).filter(|field| !field.contains('<'));
    let end = right.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(right.len());
    (field, right.get(..end).and_then(ids::long))
}
