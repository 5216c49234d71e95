//! What HubSpot's refusals mean, and what its headers say of quotas.

use tandem_provider::classify::{by_status, one_line, retry_after, summary};
use tandem_provider::json::Node;
use tandem_provider::{Answer, Context, Effect, Operation, Problem, QuotaState, Response, Scope, Wait, time};

use crate::HubSpot;

/// An hour: how long to wait when a day's quota is spent although the day has just begun.
const HOUR: u64 = 3_600_000;

impl HubSpot {
    /// The meaning of an answer that is no success.
    pub(crate) fn refuse(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        let body = response.node().unwrap_or(Node::Null);
        let category = body.get("category").and_then(Node::as_str).unwrap_or_default();
        match response.status {
            400 if operation.writes() => Answer::Rejected(self.problems(&body, response)),
            400 | 404 => Answer::Blocked {
                scope: Scope::Object,
                problem: Problem::new(&code(category, "refused"), summary(response)),
            },
            401 => Answer::Unauthorised(summary(response)),
            403 if category == "MISSING_SCOPES" => Answer::Blocked {
                scope: Scope::Object,
                problem: Problem::new("missing-scopes", missing_scopes(&body, response)),
            },
            409 if operation.writes() => Answer::Rejected(self.problems(&body, response)),
            423 => Answer::Again { wait: retry_after_or(response, context, 2_000), took_effect: Effect::No },
            429 => self.throttled(&body, response, context),
            // The account is being moved to another data centre.
            477 => Answer::Again { wait: retry_after_or(response, context, 60_000), took_effect: Effect::No },
            _ => by_status(operation, response, context),
        }
    }

    /// What is wrong with a record, property by property, in HubSpot's words.
    pub(crate) fn problems(&self, body: &Node<'_>, response: &Response) -> Vec<Problem> {
        let category = body.get("category").and_then(Node::as_str).unwrap_or_default();
        let message = body.get("message").and_then(Node::as_str).unwrap_or_default();
        let mut problems: Vec<Problem> = body
            .get("errors")
            .and_then(Node::as_list)
            .unwrap_or_default()
            .iter()
            .filter_map(|error| self.problem(error, "code", category))
            .collect();
        // Older answers have the list inside the message: `Property values were not valid: [{"message":…,"name":…}]`.
        if problems.is_empty()
            && let Some(list) = message.find('[').and_then(|from| message.get(from..))
            && let Ok(Node::List(errors)) = tandem_provider::json::parse(list.as_bytes())
        {
            problems = errors.iter().filter_map(|error| self.problem(error, "error", category)).collect();
        }
        if problems.is_empty() {
            let said = if message.is_empty() { summary(response) } else { one_line(message) };
            let problem = Problem::new(&code(category, "refused"), said);
            // A conflict of contacts is always about the address.
            problems.push(if category == "CONFLICT" { problem.at("/email") } else { problem });
        }
        problems
    }

    fn problem(&self, error: &Node<'_>, code_member: &str, category: &str) -> Option<Problem> {
        let message = error.get("message").and_then(Node::as_str)?;
        let word = error.get(code_member).and_then(Node::as_str).unwrap_or(category);
        let named = error
            .get("context")
            .and_then(|context| context.get("propertyName"))
            .and_then(|names| names.as_list()?.first()?.as_str())
            .or_else(|| error.get("name").and_then(Node::as_str))
            .or_else(|| error.get("in").and_then(Node::as_str));
        let problem = Problem::new(&code(word, "refused"), one_line(message));
        Some(match named.and_then(|name| self.contacts.canonical_of(name)) {
            Some(pointer) => problem.at(pointer),
            None => problem,
        })
    }

    /// Too many calls. HubSpot tells which limit by the policy's name; `Retry-After` is not promised.
    fn throttled(&self, body: &Node<'_>, response: &Response, context: &Context) -> Answer {
        let policy = body.get("policyName").and_then(Node::as_str).unwrap_or_default();
        let message = body.get("message").and_then(Node::as_str).unwrap_or_default().to_ascii_lowercase();
        let (quota, wait) = if policy == "DAILY" || message.contains("daily limit") {
            (Some("daily"), self.midnight(context))
        } else if policy == "SECONDLY" || message.contains("secondly limit") && !message.contains("ten") {
            (Some("search"), retry_after_or(response, context, rolled(1_000)))
        } else if policy == "TEN_SECONDLY_ROLLING" || message.contains("ten_secondly") {
            let window = response.number("x-hubspot-ratelimit-interval-milliseconds").unwrap_or(10_000);
            (Some("burst"), retry_after_or(response, context, rolled(window)))
        } else {
            (None, retry_after(response, context))
        };
        Answer::Throttled { quota: quota.map(str::to_owned), wait }
    }

    /// When the account's next day begins, as far as it is known.
    ///
    /// The offset is that of the last probe. When daylight saving has changed it since, the day begins an hour later than
    /// reckoned; whoever is refused in the first hours of a day therefore looks again in an hour.
    pub(crate) fn midnight(&self, context: &Context) -> Wait {
        let Some(offset) = self.facts.account.utc_offset_ms else { return Wait::Unknown };
        let next = time::next_midnight(context.now, offset);
        let begun = next.saturating_sub(24 * HOUR);
        if context.now.saturating_sub(begun) < 2 * HOUR {
            return Wait::Until(context.now + HOUR);
        }
        Wait::Until(next)
    }

    /// What the headers say. Not all answers have them: searches have none, and daily ones belong to private apps.
    pub(crate) fn quota_states(&self, response: &Response, context: &Context) -> Vec<QuotaState> {
        let mut states = Vec::new();
        let limit = response.number("x-hubspot-ratelimit-max");
        let remaining = response.number("x-hubspot-ratelimit-remaining");
        if limit.is_some() || remaining.is_some() {
            states.push(QuotaState { quota: "burst".to_owned(), limit, remaining, resets: Wait::Unknown });
        }
        let limit = response.number("x-hubspot-ratelimit-daily");
        let remaining = response.number("x-hubspot-ratelimit-daily-remaining");
        if limit.is_some() || remaining.is_some() {
            states.push(QuotaState {
                quota: "daily".to_owned(),
                limit,
                remaining,
                resets: self.midnight(context),
            });
        }
        states
    }
}

/// By when a rolling window has surely forgotten what it holds: HubSpot does not say how finely it counts.
fn rolled(window_ms: u64) -> u64 {
    window_ms.saturating_add(window_ms.div_ceil(50))
}

fn retry_after_or(response: &Response, context: &Context, usual_ms: u64) -> Wait {
    match retry_after(response, context) {
        Wait::Unknown => Wait::Until(context.now.saturating_add(usual_ms)),
        until => until,
    }
}

/// HubSpot's `INVALID_EMAIL` as a word of the contract.
fn code(word: &str, otherwise: &str) -> String {
    if word.is_empty() {
        return otherwise.to_owned();
    }
    word.chars()
        .take(64)
        .map(|it| if it == '_' || it == ' ' { '-' } else { it.to_ascii_lowercase() })
        .collect()
}

fn missing_scopes(body: &Node<'_>, response: &Response) -> String {
    let errors = body.get("errors").and_then(Node::as_list).unwrap_or_default();
    let mut scopes: Vec<&str> = errors
        .iter()
        .chain([body])
        .filter_map(|it| it.get("context"))
        .flat_map(|context| {
            ["missingScopes", "requiredScopes", "requiredGranularScopes"].map(|name| context.get(name))
        })
        .flatten()
        .flat_map(|names| names.as_list().unwrap_or_default())
        .filter_map(Node::as_str)
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    let said = summary(response);
    if scopes.is_empty() { said } else { format!("{said} (scopes: {})", scopes.join(", ")) }
}

/// The id that a conflict names: `Contact already exists. Existing ID: 512`.
pub(crate) fn existing_id(message: &str) -> Option<String> {
    const BEFORE: &str = "Existing ID:";
    let rest = message.get(message.find(BEFORE)? + BEFORE.len()..)?.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}
