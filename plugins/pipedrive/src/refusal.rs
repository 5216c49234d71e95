//! What Pipedrive's refusals mean.
//!
//! An error is `{"success":false,"error":"…","error_info":"…","code":"ERR_…"}`, in version 1 with `errorCode`; where a value is wrong,
//! the text names the member. Whoever goes on after 429 is shut out with 403 and a page of markup, for everything.

use tandem_provider::classify::{by_status, one_line, summary};
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Operation, Problem, Response, Scope, Wait, log};

use crate::Pipedrive;
use crate::plain::{ADDRESS, CUSTOM, EMAILS, PHONES, POSTAL, STREET};
use crate::quotas;

/// How long nothing is sent after we were shut out. Nobody says how long it lasts.
const SHUT_OUT_MS: u64 = 1_800_000;
/// Members that come with the contact sync: to write them without it is refused with 403.
const SYNCED: [&str; 4] = ["job_title", "birthday", "notes", POSTAL];

impl Pipedrive {
    /// The meaning of an answer that is no success.
    pub(crate) fn refuse(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        let body = response.node();
        let said = body.as_ref().map_or_else(|_| String::new(), |body| texts(body).join(" "));
        let blocked = |scope, code: &str| Answer::Blocked {
            scope,
            problem: Problem::new(code, said_or(&said, response)),
        };
        match response.status {
            400 | 409 | 422 if matches!(operation, Operation::Write(_)) => {
                Answer::Rejected(self.problems(body.as_ref().ok(), response))
            }
            400 | 404 | 405 | 409 | 410 | 415 | 422 => blocked(Scope::Object, "refused"),
            401 => Answer::Unauthorised(summary(response)),
            // The account is closed or not paid for.
            402 => blocked(Scope::Connection, "account-not-open"),
            403 if body.is_err() => {
                log::warn("Pipedrive shuts us out: too many calls after refusals");
                Answer::Throttled { quota: None, wait: Wait::Until(context.now.saturating_add(SHUT_OUT_MS)) }
            }
            403 => {
                let synced = SYNCED.iter().any(|name| names(&said, name));
                if synced && matches!(operation, Operation::Write(_)) {
                    return Answer::Rejected(self.problems(body.as_ref().ok(), response));
                }
                let code = body.as_ref().ok().and_then(|body| body.get("code")?.as_str());
                blocked(Scope::Object, &word(code.unwrap_or("forbidden")))
            }
            429 => quotas::throttled(response, context),
            _ => by_status(operation, response, context),
        }
    }

    /// What is wrong with a record, in Pipedrive's words, at each field that they name.
    fn problems(&self, body: Option<&Node<'_>>, response: &Response) -> Vec<Problem> {
        let code =
            body.and_then(|body| body.get("code")?.as_str()).map_or_else(|| "refused".to_owned(), word);
        let texts = body.map(texts).unwrap_or_default();
        let message = texts.first().map_or_else(|| summary(response), |first| one_line(first));
        let all = texts.join(" ");
        let mut problems: Vec<Problem> = Vec::new();
        for (name, plain) in self.members() {
            if names(&all, &name)
                && let Some(pointer) = self.canonical_at(&plain)
                && !problems.iter().any(|known| known.pointer.as_deref() == Some(pointer.as_str()))
            {
                problems.push(Problem::new(&code, message.clone()).at(pointer));
            }
        }
        if problems.is_empty() {
            problems.push(Problem::new(&code, message));
        }
        problems
    }

    /// Members of requests by which a refusal may name what is wrong, and the value of the flat form that each stands for.
    fn members(&self) -> Vec<(String, String)> {
        let pair = |name: &str, plain: &str| (name.to_owned(), format!("/{plain}"));
        let mut members = vec![
            pair(EMAILS.0, EMAILS.1),
            pair(EMAILS.1, EMAILS.1),
            pair(PHONES, "phone"),
            pair("phone", "phone"),
            pair("name", "first_name"),
            pair("first_name", "first_name"),
            pair("last_name", "last_name"),
            pair("job_title", "job_title"),
            pair("birthday", "birthday"),
            pair("notes", "notes"),
            pair(POSTAL, STREET),
        ];
        members.extend(ADDRESS.iter().map(|name| pair(name, name)));
        members.extend(self.kinds.keys().map(|key| pair(key, &format!("{CUSTOM}/{key}"))));
        members
    }
}

/// The texts of an error that people are meant to read, the most telling first; where to read more is none of them.
fn texts(body: &Node<'_>) -> Vec<String> {
    fn collect(node: &Node<'_>, depth: usize, into: &mut Vec<String>) {
        match node {
            Node::Text(text) => into.push(text.to_string()),
            Node::List(items) if depth < 6 => items.iter().for_each(|item| collect(item, depth + 1, into)),
            Node::Object(members) if depth < 6 => {
                members.iter().for_each(|(_, value)| collect(value, depth + 1, into));
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    if let Some(error) = body.get("error") {
        collect(error, 0, &mut all);
    }
    if let Some(members) = body.as_object() {
        for (name, value) in members.iter() {
            if !["error", "code", "errorCode", "data"].contains(&name) {
                collect(value, 0, &mut all);
            }
        }
    }
    all
}

fn said_or(said: &str, response: &Response) -> String {
    if said.is_empty() { summary(response) } else { one_line(said) }
}

/// Whether a text has a word: names are not parts of other names.
fn names(text: &str, name: &str) -> bool {
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
    text.match_indices(name).any(|(at, found)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at + found.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Pipedrive's `ERR_SCHEMA_VALIDATION_FAILED` as a word of the contract.
fn word(code: &str) -> String {
    let bare = code.strip_prefix("ERR_").unwrap_or(code);
    bare.chars()
        .take(64)
        .map(|it| if it == '_' || it == ' ' { '-' } else { it.to_ascii_lowercase() })
        .collect()
}
