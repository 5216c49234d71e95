//! What a refusal means when the CRM follows the usual meaning of HTTP. A provider asks here last, after its CRM's own words.

use crate::exchange::{Answer, Context, Effect, Operation, Problem, Response, Scope, Wait};
use crate::time;

/// The usual meaning of a status that is not a success.
#[must_use]
pub fn by_status(operation: &Operation, response: &Response, context: &Context) -> Answer {
    let status = response.status;
    let said = || summary(response);
    match status {
        401 => Answer::Unauthorised(said()),
        402 | 403 => Answer::Blocked { scope: Scope::Object, problem: Problem::new("forbidden", said()) },
        412 => Answer::Refused,
        429 => Answer::Throttled { quota: None, wait: retry_after(response, context) },
        408 => Answer::Again { wait: retry_after(response, context), took_effect: effect(operation) },
        // Locked and "too early" say that nothing happened.
        423 | 425 => Answer::Again { wait: retry_after(response, context), took_effect: Effect::No },
        500..=599 => Answer::Again { wait: retry_after(response, context), took_effect: effect(operation) },
        400..=499 => Answer::Rejected(vec![Problem::new(&format!("http-{status}"), said())]),
        _ => Answer::Blocked {
            scope: Scope::Connection,
            problem: Problem::new("unexpected-status", format!("the CRM answered with status {status}")),
        },
    }
}

/// Whether an operation that broke off may have taken effect.
#[must_use]
pub fn effect(operation: &Operation) -> Effect {
    if operation.writes() { Effect::Unknown } else { Effect::No }
}

/// A success whose body cannot be read.
#[must_use]
pub fn unreadable(operation: &Operation, why: &str) -> Answer {
    crate::log::warn(&format!("{}: {why}", operation.name()));
    Answer::Again { wait: Wait::Unknown, took_effect: effect(operation) }
}

/// `Retry-After`, in seconds or as a date.
#[must_use]
pub fn retry_after(response: &Response, context: &Context) -> Wait {
    let Some(text) = response.header("retry-after").map(str::trim) else { return Wait::Unknown };
    if let Ok(seconds) = text.parse::<u64>() {
        return Wait::Until(context.now.saturating_add(seconds.saturating_mul(1000)));
    }
    http_date(text).map_or(Wait::Unknown, |moment| Wait::Until(moment.max(context.now)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that servers may send (RFC 9110, 5.6.7).
#[must_use]
pub fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? + 1;
    let (year, clock) = (words.next()?, words.next()?);
    if words.next() != Some("GMT") {
        return None;
    }
    time::stamp(&format!("{year}-{month:02}-{day}T{clock}Z"))
}

/// One line of what the CRM said: its `message` or `error` where there is one, never the whole body.
#[must_use]
pub fn summary(response: &Response) -> String {
    let said = response.node().ok().and_then(|body| {
        ["message", "error_description", "error", "title"]
            .iter()
            .find_map(|name| body.get(name).and_then(|it| it.as_str()).map(one_line))
    });
    said.unwrap_or_else(|| format!("the CRM answered with status {}", response.status))
}

/// A text in one line of at most 500 characters.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().take(500).map(|it| if it.is_control() { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Attribute, Reference};

    fn read() -> Operation {
        Operation::Read(Reference { object: "contact".into(), id: "1".into() })
    }

    fn response(status: u16, retry: &str) -> Response {
        Response {
            status,
            headers: vec![Attribute::new("retry-after", retry)],
            body: br#"{"message":"no\nway"}"#.to_vec(),
        }
    }

    #[test]
    fn obeys_retry_after_in_both_forms() {
        let context = Context { now: 1_000, attributes: vec![] };
        let answer = by_status(&read(), &response(429, "3"), &context);
        assert_eq!(answer, Answer::Throttled { quota: None, wait: Wait::Until(4_000) });
        assert_eq!(
            retry_after(&response(503, "Sun, 06 Nov 1994 08:49:37 GMT"), &context),
            Wait::Until(784_111_777_000)
        );
        assert_eq!(retry_after(&response(503, "soon"), &context), Wait::Unknown);
    }

    #[test]
    fn a_broken_write_may_have_taken_effect_and_a_broken_read_has_not() {
        let context = Context::default();
        let broken = Response { status: 502, ..Response::default() };
        assert_eq!(
            by_status(&read(), &broken, &context),
            Answer::Again { wait: Wait::Unknown, took_effect: Effect::No }
        );
        let remove = Operation::Remove(crate::exchange::Remove {
            object: "contact".into(),
            id: "1".into(),
            version: None,
            stamp: None,
        });
        assert_eq!(
            by_status(&remove, &broken, &context),
            Answer::Again { wait: Wait::Unknown, took_effect: Effect::Unknown }
        );
    }

    #[test]
    fn says_what_the_crm_said_in_one_line() {
        assert_eq!(
            by_status(&read(), &response(401, "1"), &Context::default()),
            Answer::Unauthorised("no way".into())
        );
        assert_eq!(
            summary(&Response { status: 418, ..Response::default() }),
            "the CRM answered with status 418"
        );
    }
}
