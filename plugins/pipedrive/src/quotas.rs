//! What calls cost, what an account may spend, and what responses say of it.
//!
//! Each call takes one of a rolling window of two seconds and so many tokens of the account's day, which all its users and apps
//! share. The window counts towards the day (`also`), so that a call of one token names the window alone, and whoever asks how a
//! connection stands is told of a spent day too. Figures: Pipedrive's page "Rate limiting", and `x-token-cost` in the published
//! description of the API.

use serde::Deserialize;
use tandem_provider::{
    Answer, Context, Operation, QuotaDescriptor, QuotaState, Request, Response, Wait, classify,
};

use crate::Note;
use crate::settings::{App, Settings};

/// Calls in two seconds: the default quota.
pub(crate) const BURST: &str = "burst";
/// Searches in two seconds.
pub(crate) const SEARCH: &str = "search";
/// Tokens of a day.
pub(crate) const DAILY: &str = "daily";

/// Tokens of calls.
pub(crate) mod tokens {
    pub(crate) const READ: u32 = 1;
    pub(crate) const LIST: u32 = 10;
    pub(crate) const SEARCH: u32 = 20;
    pub(crate) const WRITE: u32 = 5;
    pub(crate) const REMOVE: u32 = 3;
    /// Version 1: whoever is asking.
    pub(crate) const ME: u32 = 2;
    /// Version 1: all webhooks, or a new one.
    pub(crate) const WEBHOOKS: u32 = 10;
    /// Version 1: the end of a webhook.
    pub(crate) const UNWATCH: u32 = 6;
}

/// The account's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Plan {
    Lite,
    Growth,
    Premium,
    Ultimate,
}

/// Overrides of the usual limits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Quotas {
    burst: Option<Limit>,
    search: Option<Limit>,
    daily: Option<Limit>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit: u64,
    per_ms: Option<u64>,
}

/// Charges a call.
pub(crate) fn charged(request: Request, cost: u32) -> Request {
    let request = request.charge(BURST, 1);
    // The window draws in one of the day, but not besides what is charged to the day by name.
    if cost > 1 { request.charge(DAILY, cost) } else { request }
}

/// Charges a search, which has a window of its own besides.
pub(crate) fn charged_search(request: Request) -> Request {
    charged(request, tokens::SEARCH).charge(SEARCH, 1)
}

/// The limits, the default one first.
pub(crate) fn descriptors(settings: &Settings) -> Vec<QuotaDescriptor> {
    const WINDOW: u64 = 2_000;
    const BASE: u64 = 30_000;
    let (calls, factor) = match (settings.app, settings.plan) {
        (App::Token, Plan::Lite) => (20, 1),
        (App::Token, Plan::Growth) => (40, 2),
        (App::Token, Plan::Premium) => (100, 5),
        (App::Token, Plan::Ultimate) => (120, 7),
        (App::Oauth, Plan::Lite) => (80, 1),
        (App::Oauth, Plan::Growth) => (160, 2),
        (App::Oauth, Plan::Premium) => (400, 5),
        (App::Oauth, Plan::Ultimate) => (480, 7),
    };
    let window = |name: &str, said: Option<Limit>, usual: u64| {
        let per_ms = said.and_then(|limit| limit.per_ms).unwrap_or(WINDOW);
        QuotaDescriptor::window(name, said.map_or(usual, |limit| limit.limit), per_ms)
    };
    let usual =
        BASE.saturating_mul(factor).saturating_mul(settings.seats.max(1)).saturating_add(settings.top_up);
    let daily = settings.quotas.daily.map_or(usual, |limit| limit.limit);
    vec![
        window(BURST, settings.quotas.burst, calls).also(DAILY),
        window(SEARCH, settings.quotas.search, 10),
        QuotaDescriptor::daily(DAILY, daily, settings.day_zone.clone()),
    ]
}

/// Tokens of the day that are left, if the response tells. Public clients see the first header, which no page describes; the
/// other one is that of the older limit.
fn left_of_day(response: &Response) -> Option<u64> {
    response
        .number("x-daily-ratelimit-token-remaining")
        .or_else(|| response.number("x-daily-requests-left").filter(|left| *left == 0))
}

/// When the window ends. The header's unit is not said: clients take it for seconds; a large number can only be a moment.
fn window_ends(response: &Response, context: &Context) -> Wait {
    match response.number("x-ratelimit-reset") {
        Some(seconds @ 0..=86_400) => Wait::Until(context.now.saturating_add(seconds * 1_000)),
        Some(moment @ 1_000_000_000..=9_999_999_999) => Wait::Until((moment * 1_000).max(context.now)),
        _ => Wait::Unknown,
    }
}

/// What the headers say. They are not promised; a search's are about the window of searches.
pub(crate) fn states(
    operation: &Operation,
    note: &[u8],
    response: &Response,
    context: &Context,
) -> Vec<QuotaState> {
    let mut states = Vec::new();
    let limit = response.number("x-ratelimit-limit").filter(|limit| *limit > 0);
    let remaining = response.number("x-ratelimit-remaining");
    if limit.is_some() || remaining.is_some() {
        let quota = if is_search(operation, note) { SEARCH } else { BURST }.to_owned();
        states.push(QuotaState { quota, limit, remaining, resets: window_ends(response, context) });
    }
    let limit = response.number("x-daily-ratelimit-token-limit").filter(|limit| *limit > 0);
    let remaining = left_of_day(response);
    if limit.is_some() || remaining.is_some() {
        states.push(QuotaState { quota: DAILY.to_owned(), limit, remaining, resets: Wait::Unknown });
    }
    states
}

fn is_search(operation: &Operation, note: &[u8]) -> bool {
    matches!(operation, Operation::Find(_))
        && matches!(serde_json::from_slice(note), Ok(Note::KeySearch | Note::Identity { .. }))
}

/// Too many calls. Only what is left of the day tells the two limits apart; where that is not said, nothing is claimed, and the
/// host waits longer each time.
pub(crate) fn throttled(response: &Response, context: &Context) -> Answer {
    let said = classify::summary(response).to_ascii_lowercase();
    let ends = match classify::retry_after(response, context) {
        Wait::Unknown => window_ends(response, context),
        until => until,
    };
    let (quota, wait) = match left_of_day(response) {
        Some(0) => (Some(DAILY), Wait::Unknown),
        None if said.contains("daily") => (Some(DAILY), Wait::Unknown),
        Some(_) => (
            Some(BURST),
            match ends {
                // By when a window of two seconds has surely forgotten what it holds.
                Wait::Unknown => Wait::Until(context.now.saturating_add(2_040)),
                until => until,
            },
        ),
        None => (None, ends),
    };
    Answer::Throttled { quota: quota.map(str::to_owned), wait }
}
