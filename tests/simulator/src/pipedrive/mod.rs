//! Pipedrive as its documentation describes it: persons and their fields of API v2, what only v1 has (the caller, merges,
//! recents, subscriptions), OAuth and webhooks v2.
//!
//! A request is authenticated first (the gateway tells a stranger nothing about paths), then routed, counted against the
//! limits, disturbed if so ordered, and carried out under the account's lock. Companies are told apart by their tokens. A
//! host `{companyDomain}.…` or a prefix `/pipedrive/{companyDomain}` that names another company is not answered.
//! Deals, organizations' own paths, saved filters, followers and pictures are not here.
//! See `BEHAVIOUR.md` for every rule, its source and its test.

mod account;
mod change;
pub(crate) mod client;
pub mod control;
pub(crate) mod control_api;
mod delivery;
mod errors;
mod field_paths;
mod fields;
mod hooks;
mod index;
mod legacy;
mod listing;
mod oauth;
mod people;
mod person;
mod persons;
mod quota;
mod records;
mod route;
mod search;
mod values;
mod writing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use self::account::{Account, Grant, Noted};
use self::errors::Refusal;
use self::oauth::Held;
use self::quota::{Kind, Limit, Remaining};
use self::route::{Route, Routed};
use crate::call::{Answer, Call, Outcome};
use crate::dice::Dice;
use crate::faults::FaultKind;
use crate::operation::{Operation, Tally};
use crate::world::World;

type Header = (HeaderName, HeaderValue);

/// All accounts and tokens.
#[derive(Debug, Default)]
pub(crate) struct Pipedrive {
    accounts: RwLock<BTreeMap<u64, Arc<Account>>>,
    tokens: RwLock<HashMap<String, Arc<Grant>>>,
    refresh: RwLock<HashMap<String, Held>>,
    codes: RwLock<HashMap<String, Held>>,
}

impl Pipedrive {
    fn grant(&self, token: &str) -> Option<Arc<Grant>> {
        self.tokens.read().get(token).cloned()
    }

    fn give(&self, token: &str, grant: Grant) {
        self.tokens.write().insert(token.to_owned(), Arc::new(grant));
    }

    /// Ends all access tokens of a company's app now; how many there were.
    fn expire(&self, company: u64, now: i64) -> usize {
        let tokens = self.tokens.read();
        let mine = tokens.values().filter(|grant| {
            grant.account.company == company && grant.kind == Kind::Oauth && grant.expires() > now
        });
        mine.inspect(|grant| grant.expire(now)).count()
    }

    pub(crate) fn clear(&self) {
        self.accounts.write().clear();
        self.tokens.write().clear();
        self.refresh.write().clear();
        self.codes.write().clear();
    }
}

/// What an operation achieved.
struct Done {
    status: StatusCode,
    body: Vec<u8>,
    /// First attempts of webhooks that the answer waits for.
    waits: Vec<oneshot::Receiver<()>>,
}

impl Done {
    fn json(status: StatusCode, body: &Value) -> Self {
        Self { status, body: body.to_string().into_bytes(), waits: Vec::new() }
    }

    fn after(mut self, waits: Vec<oneshot::Receiver<()>>) -> Self {
        self.waits = waits;
        self
    }
}

/// An authenticated request to one account.
struct Context<'a> {
    call: &'a Call,
    account: &'a Arc<Account>,
    operation: Operation,
    now: i64,
}

impl Context<'_> {
    fn world(&self) -> &Arc<World> {
        &self.call.world
    }

    fn violation(&self, reason: impl Into<String>) {
        self.call.violation(Some(self.account.company), reason);
    }

    /// Notes query parameters that the operation does not have.
    fn only_query(&self, known: &[&str]) {
        for (name, _) in &self.call.query {
            if !known.contains(&name.as_str()) && name != "api_token" {
                self.violation(format!("unknown query parameter {name}"));
            }
        }
    }

    /// Notes that a query parameter is not of the published form, and refuses it.
    fn wrong_query(&self, name: &str, why: &str) -> Refusal {
        self.violation(format!("query parameter {name}: {why}"));
        Refusal::invalid(name, why)
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.call.query(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.wrong_query(name, "Expected boolean")),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.call.query(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| self.wrong_query(name, "Expected number")),
        }
    }

    /// Rows of a page: a hundred unless fewer or up to five hundred are asked for.
    fn limit(&self) -> Result<usize, Refusal> {
        match self.whole("limit")? {
            None => Ok(100),
            Some(limit @ 1..=500) => Ok(usize::try_from(limit).unwrap_or(500)),
            Some(_) => Err(self.wrong_query("limit", "must be between 1 and 500")),
        }
    }

    /// The body as JSON.
    fn json(&self) -> Result<Value, Refusal> {
        if !self.call.is_type("application/json") {
            self.violation("the content type is not application/json");
        }
        serde_json::from_slice(&self.call.body).map_err(|_| {
            self.violation("the body is not JSON");
            Refusal::invalid("body", "Expected JSON")
        })
    }

    /// The body as a JSON object.
    fn object(&self) -> Result<Map<String, Value>, Refusal> {
        match self.json()? {
            Value::Object(body) => Ok(body),
            _ => {
                self.violation("the body is not a JSON object");
                Err(Refusal::invalid("body", "Expected object"))
            }
        }
    }

    /// A number in the path.
    fn id(&self, text: &str) -> Result<u64, Refusal> {
        text.parse().map_err(|_| {
            self.violation("the id in the path is no number");
            Refusal::invalid("id", "Expected number")
        })
    }

    fn carry_out(&self, route: &Route) -> Result<Done, Refusal> {
        use Operation as O;
        match (route, self.operation) {
            (Route::Persons, O::PersonsCreate) => self.create(),
            (Route::Persons, _) => self.list(),
            (Route::Search, _) => self.search(),
            (Route::Person(id), O::PersonsUpdate) => self.update(self.id(id)?),
            (Route::Person(id), O::PersonsDelete) => self.delete(self.id(id)?),
            (Route::Person(id), _) => self.read(self.id(id)?),
            (Route::Fields, O::PersonFieldsCreate) => self.create_field(),
            (Route::Fields, _) => self.list_fields(),
            (Route::Field(code), O::PersonFieldsUpdate) => self.update_field(code),
            (Route::Field(code), O::PersonFieldsDelete) => self.delete_field(code),
            (Route::Field(code), _) => self.read_field(code),
            (Route::Options(code), _) => self.change_options(code),
            (Route::Me, _) => Ok(self.me()),
            (Route::Users, _) => Ok(self.users()),
            (Route::Recents, _) => self.recents(),
            (Route::Merge(id), _) => self.merge(self.id(id)?),
            (Route::Hooks, O::HooksCreate) => self.create_hook(),
            (Route::Hooks, _) => Ok(self.list_hooks()),
            (Route::Hook(id), _) => self.delete_hook(self.id(id)?),
        }
    }
}

/// Whether a path belongs to Pipedrive.
pub(crate) fn owns(path: &str) -> bool {
    let (_, path) = route::host_of(path);
    route::OAUTH.contains(&path) || ["/api/v1/", "/api/v2/", "/v1/"].iter().any(|own| path.starts_with(own))
}

/// How a request shows who sends it.
fn shown(call: &Call) -> Option<(Kind, &str)> {
    if let Some((scheme, token)) = call.header("authorization").and_then(|value| value.split_once(' ')) {
        return scheme.eq_ignore_ascii_case("bearer").then(|| (Kind::Oauth, token.trim()));
    }
    call.header("x-api-token").or_else(|| call.query("api_token")).map(|token| (Kind::ApiToken, token))
}

/// Whether the host or the prefix names another company than the token's.
fn elsewhere(call: &Call, prefix: Option<&str>, account: &Account) -> bool {
    let host = call.header("host").and_then(|host| host.split_once('.')).map(|(first, _)| first);
    let named = prefix.or(host.filter(|first| first.starts_with("company-")));
    named.is_some_and(|named| named != account.domain)
}

/// Carries out one request.
pub(crate) async fn serve(call: Call) -> Outcome {
    let world = call.world.clone();
    let (prefix, path) = route::host_of(&call.path);
    if route::OAUTH.contains(&path) {
        let drawn = Drawn::new(world.faults.draw(None, Operation::OauthToken, &world.dice), &world.dice);
        if let Err(outcome) = drawn.before(&[]).await {
            return outcome;
        }
        return drawn.after(answer(oauth::serve(&call, path), &[])).await;
    }
    let grant = shown(&call).and_then(|(kind, token)| {
        world.pipedrive.grant(token).filter(|grant| grant.kind == kind && grant.expires() > world.clock.now())
    });
    let Some(grant) = grant.filter(|grant| !elsewhere(&call, prefix, &grant.account)) else {
        return answer(Err(Refusal::unauthorized()), &[]);
    };
    let account = grant.account.clone();
    let refused = |reason: &str, refusal: Refusal| {
        call.violation(Some(account.company), reason);
        answer(Err(refusal), &[])
    };
    let (operation, route) = match route::route(&call.method, path) {
        Routed::To(operation, route) => (operation, route),
        Routed::NoSuchPath => return refused("unknown path", Refusal::no_such_path()),
        Routed::WrongMethod => {
            return refused("the path does not have this method", Refusal::wrong_method());
        }
    };
    if call.query("api_token").is_some() {
        call.violation(Some(account.company), "the token is in the query, not in x-api-token");
    }
    if call.method == Method::GET && !call.body.is_empty() {
        call.violation(Some(account.company), "a GET with a body");
    }
    account.counts.add(operation, Tally::Calls);
    let at = world.clock.now();
    let outcome = Box::pin(serve_account(&call, &grant, operation, &route)).await;
    let status = match &outcome {
        Outcome::Answer(answer) => Some(answer.status.as_u16()),
        Outcome::Drop => None,
    };
    let tally = match status {
        Some(429) => Some(Tally::Throttled),
        None | Some(500..) => Some(Tally::Disturbed),
        Some(400..) => Some(Tally::Refused),
        Some(_) => None,
    };
    if let Some(tally) = tally {
        account.counts.add(operation, tally);
    }
    account.note(Noted { at, operation, status });
    outcome
}

async fn serve_account(call: &Call, grant: &Grant, operation: Operation, route: &Route) -> Outcome {
    let (world, account) = (&call.world, &grant.account);
    let now = world.clock.now();
    let drawn = Drawn::new(world.faults.draw(Some(account.company), operation, &world.dice), &world.dice);
    if drawn.expire {
        grant.expire(now);
        return answer(Err(Refusal::unauthorized()), &[]);
    }
    let granted = |scope: &&str| account.scopes.iter().any(|known| known == scope);
    if grant.kind == Kind::Oauth && !route::scopes(operation).iter().any(granted) {
        return answer(Err(Refusal::scope()), &[]);
    }
    let settings = account.settings();
    let (taken, remaining) = account.quota.lock().take(
        now,
        grant.kind,
        route::cost(operation),
        operation == Operation::PersonsSearch,
        (settings.abuse_after, settings.abuse_seconds),
    );
    let headers = limit_headers(remaining, settings.daily_headers);
    match taken {
        Ok(()) => {}
        Err(Limit::Over) => return answer(Err(Refusal::over_limit()), &headers),
        Err(Limit::Abuse) => return answer(Err(Refusal::blocked()), &[]),
    }
    if let Err(outcome) = drawn.before(&headers).await {
        return outcome;
    }
    // Time may have passed.
    let context = Context { call, account, operation, now: world.clock.now() };
    let mut result = context.carry_out(route);
    if let Ok(done) = &mut result {
        let bound = Duration::from_millis(settings.before_bound_ms);
        for wait in done.waits.drain(..) {
            // Too late or gone: the answer leaves without it.
            let _ = tokio::time::timeout(bound, wait).await;
        }
    }
    drawn.after(answer(result, &headers)).await
}

fn limit_headers(left: Remaining, daily: bool) -> Vec<Header> {
    let mut headers = Vec::with_capacity(5);
    let mut add = |name: &'static str, value: u64| {
        headers.push((HeaderName::from_static(name), HeaderValue::from(value)));
    };
    add("x-ratelimit-limit", u64::from(left.limit));
    add("x-ratelimit-remaining", u64::from(left.left));
    add("x-ratelimit-reset", u64::from(left.reset));
    if let Some((limit, remaining)) = left.daily.filter(|_| daily) {
        add("x-daily-ratelimit-token-limit", limit);
        add("x-daily-ratelimit-token-remaining", remaining);
    }
    headers
}

fn answer(result: Result<Done, Refusal>, extra: &[Header]) -> Outcome {
    let mut headers = extra.to_vec();
    let (status, body, media) = match result {
        Ok(done) => (done.status, done.body, "application/json; charset=utf-8"),
        Err(refusal) => {
            if let Some(seconds) = refusal.retry_after {
                headers.push((http::header::RETRY_AFTER, HeaderValue::from(seconds)));
            }
            if refusal.by_gateway {
                headers.push((HeaderName::from_static("x-401-by-gw"), HeaderValue::from_static("true")));
            }
            let status = refusal.status;
            let (body, media) = refusal.body();
            (status, body, media)
        }
    };
    headers.push((CONTENT_TYPE, HeaderValue::from_static(media)));
    Outcome::Answer(Answer { status, body, headers })
}

/// The disturbances of one request.
#[derive(Default)]
struct Drawn {
    latency: u64,
    status: Option<(u16, Option<u64>)>,
    reset: bool,
    drop: bool,
    withhold: Option<u64>,
    expire: bool,
}

impl Drawn {
    fn new(faults: Vec<FaultKind>, dice: &Dice) -> Self {
        let mut drawn = Self::default();
        for fault in faults {
            match fault {
                FaultKind::Latency { ms, jitter_ms } => drawn.latency += ms + dice.between(0, jitter_ms),
                FaultKind::Status { status, retry_after } => drawn.status = Some((status, retry_after)),
                FaultKind::ResetBefore => drawn.reset = true,
                FaultKind::DropAfter => drawn.drop = true,
                FaultKind::WithholdAfter { ms } => drawn.withhold = Some(ms),
                FaultKind::ExpireToken => drawn.expire = true,
                _ => {}
            }
        }
        drawn
    }

    /// What happens before the effect.
    async fn before(&self, headers: &[Header]) -> Result<(), Outcome> {
        if self.latency > 0 {
            tokio::time::sleep(Duration::from_millis(self.latency)).await;
        }
        if self.reset {
            return Err(Outcome::Drop);
        }
        match self.status {
            Some((status, retry_after)) => Err(answer(Err(Refusal::ordered(status, retry_after)), headers)),
            None => Ok(()),
        }
    }

    /// What happens to the answer.
    async fn after(&self, outcome: Outcome) -> Outcome {
        if self.drop {
            return Outcome::Drop;
        }
        if let Some(ms) = self.withhold {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        outcome
    }
}
