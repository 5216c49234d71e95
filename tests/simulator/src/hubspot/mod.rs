//! HubSpot as its documentation describes it: contacts of the CRM API (v3 and dated versions), properties, account
//! information, OAuth and webhooks.
//!
//! A request is routed, authenticated, counted against the limits, disturbed if so ordered, and then carried out under
//! the account's lock. The webhooks of a write are attempted before its answer leaves, unless set otherwise.
//! See `BEHAVIOUR.md` for every rule, its source and its test.

pub(crate) mod account;
mod account_info;
mod batch;
pub(crate) mod catalogue;
pub(crate) mod contact;
pub(crate) mod contacts;
pub(crate) mod errors;
mod index;
mod oauth;
mod objects;
pub(crate) mod people;
mod properties;
pub(crate) mod quota;
mod route;
mod search;
pub mod signature;
mod subscriptions;
mod values;
pub(crate) mod webhooks;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::RwLock;
use serde_json::{Map, Value};

use self::account::{Account, Grant, Noted, TokenKind};
use self::errors::ApiError;
use self::quota::Limit;
use self::route::{Route, Routed};
use self::webhooks::{App, Ticket, Timing};
use crate::call::{Answer, Call, Outcome};
use crate::dice::Dice;
use crate::faults::FaultKind;
use crate::operation::{Operation, Tally};
use crate::world::World;

const SHARDS: usize = 16;

/// Tokens by their text, in shards, because every request looks one up.
#[derive(Debug)]
struct Tokens {
    hasher: RandomState,
    shards: [RwLock<HashMap<String, Arc<Grant>>>; SHARDS],
}

impl Default for Tokens {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
    }
}

impl Tokens {
    fn shard(&self, token: &str) -> Option<&RwLock<HashMap<String, Arc<Grant>>>> {
        self.shards.get(self.hasher.hash_one(token) as usize % SHARDS)
    }
}

/// All apps, accounts and tokens.
#[derive(Debug, Default)]
pub(crate) struct HubSpot {
    pub(crate) apps: RwLock<BTreeMap<u64, Arc<App>>>,
    pub(crate) accounts: RwLock<BTreeMap<u64, Arc<Account>>>,
    tokens: Tokens,
    refresh: RwLock<HashMap<String, Arc<Account>>>,
    codes: RwLock<HashMap<String, Arc<Account>>>,
}

impl HubSpot {
    pub(crate) fn grant(&self, token: &str) -> Option<Arc<Grant>> {
        self.tokens.shard(token)?.read().get(token).cloned()
    }

    pub(crate) fn give(&self, token: &str, grant: Grant) {
        if let Some(shard) = self.tokens.shard(token) {
            shard.write().insert(token.to_owned(), Arc::new(grant));
        }
    }

    pub(crate) fn give_refresh(&self, token: &str, account: &Arc<Account>) {
        self.refresh.write().insert(token.to_owned(), account.clone());
    }

    pub(crate) fn give_code(&self, code: &str, account: &Arc<Account>) {
        self.codes.write().insert(code.to_owned(), account.clone());
    }

    /// All access tokens that an account was ever given.
    pub(crate) fn tokens_of(&self, portal: u64) -> Vec<String> {
        let mut tokens = Vec::new();
        for shard in &self.tokens.shards {
            let shard = shard.read();
            tokens.extend(
                shard
                    .iter()
                    .filter(|(_, grant)| grant.account.portal == portal)
                    .map(|(token, _)| token.clone()),
            );
        }
        tokens.sort();
        tokens
    }

    /// Ends all access tokens of an account now; how many there were.
    pub(crate) fn expire(&self, portal: u64, now: i64) -> usize {
        let mut ended = 0;
        for shard in &self.tokens.shards {
            for grant in shard.read().values().filter(|g| g.account.portal == portal && g.expires() > now) {
                grant.expire(now);
                ended += 1;
            }
        }
        ended
    }

    pub(crate) fn clear(&self) {
        self.apps.write().clear();
        self.accounts.write().clear();
        for shard in &self.tokens.shards {
            shard.write().clear();
        }
        self.refresh.write().clear();
        self.codes.write().clear();
    }
}

/// What an operation achieved.
pub(crate) struct Done {
    status: StatusCode,
    body: Vec<u8>,
    location: Option<String>,
    /// Webhooks that must have been attempted before the answer leaves.
    tickets: Vec<Arc<Ticket>>,
}

impl Done {
    fn json<T: serde::Serialize + ?Sized>(status: StatusCode, body: &T) -> Self {
        // The documents are made of strings, numbers and maps with string keys: they serialise.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Self { status, body, location: None, tickets: Vec::new() }
    }

    fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: Vec::new(), location: None, tickets: Vec::new() }
    }

    fn after(mut self, tickets: Vec<Arc<Ticket>>) -> Self {
        self.tickets = tickets;
        self
    }
}

/// An authenticated request to one account.
pub(crate) struct Context<'a> {
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
        self.call.violation(Some(self.account.portal), reason);
    }

    /// Notes query parameters that the operation does not have.
    fn only_query(&self, known: &[&str]) {
        for (name, _) in &self.call.query {
            if !known.contains(&name.as_str()) {
                self.violation(format!("unknown query parameter {name}"));
            }
        }
    }

    /// Its case does not matter: HubSpot's Python library sends `True`. What is no boolean is false, as its PHP library found with `1`.
    fn flag(&self, name: &str) -> bool {
        let given = self.call.query(name).unwrap_or("false");
        let truth = given.eq_ignore_ascii_case("true");
        if !truth && !given.eq_ignore_ascii_case("false") {
            self.violation(format!("query parameter {name} is not a boolean"));
        }
        truth
    }

    /// The body as a JSON object with only these members.
    fn object(&self, known: &[&str]) -> Result<Map<String, Value>, ApiError> {
        if !self.call.is_type("application/json") {
            self.violation("the content type is not application/json");
            return Err(ApiError::bare(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"));
        }
        match serde_json::from_slice(&self.call.body) {
            Ok(Value::Object(map)) => {
                self.only_members(&map, known, "");
                Ok(map)
            }
            Ok(_) => {
                self.violation("the body is not a JSON object");
                Err(ApiError::invalid_json("the body must be an object"))
            }
            Err(error) => {
                self.violation("the body is not JSON");
                Err(ApiError::validation(format!(
                    "Invalid input JSON on line {}, column {}",
                    error.line(),
                    error.column()
                )))
            }
        }
    }

    fn only_members(&self, map: &Map<String, Value>, known: &[&str], place: &str) {
        for name in map.keys() {
            if !known.contains(&name.as_str()) {
                self.violation(format!("unknown member {place}/{name}"));
            }
        }
    }

    /// Sends events as the app's timing says; what is returned must be waited for.
    fn announce(&self, events: Vec<contacts::Event>) -> Vec<Arc<Ticket>> {
        announce(self.world(), self.account, events)
    }
}

/// Sends the events of a write of one account by the app's timing.
pub(crate) fn announce(
    world: &Arc<World>,
    account: &Arc<Account>,
    events: Vec<contacts::Event>,
) -> Vec<Arc<Ticket>> {
    let hooks = account.app.hooks.read().clone();
    match hooks.timing {
        Timing::Before => {
            webhooks::tell(world, &account.app, account.portal, events, true).into_iter().collect()
        }
        Timing::Parallel => {
            webhooks::tell(world, &account.app, account.portal, events, false);
            Vec::new()
        }
        Timing::After => {
            let (world, account) = (world.clone(), account.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(hooks.after_delay_ms)).await;
                webhooks::tell(&world, &account.app, account.portal, events, false);
            });
            Vec::new()
        }
    }
}

/// Defines a custom property of one account, in the form of the Properties API.
pub(crate) fn define_property(
    contacts: &mut contacts::Contacts,
    given: &Map<String, Value>,
    now: i64,
) -> Result<(), ApiError> {
    let property = properties::define(contacts, given, now)?;
    contacts.define(property);
    Ok(())
}

pub(crate) use self::oauth::issue as issue_token;

/// Whether a path belongs to HubSpot.
pub(crate) fn owns(path: &str) -> bool {
    ["/crm/", "/oauth/", "/account-info/", "/webhooks/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Carries out one request.
pub(crate) async fn serve(call: Call) -> Outcome {
    let world = call.world.clone();
    let (operation, route) = match route::route(&call.method, &call.path) {
        Routed::To(operation, route) => (operation, route),
        Routed::NoSuchPath => {
            call.violation(None, "unknown path");
            return answer(&world, Err(ApiError::not_found()), &[]);
        }
        Routed::WrongMethod => {
            call.violation(None, "the path does not have this method");
            return answer(
                &world,
                Err(ApiError::bare(StatusCode::METHOD_NOT_ALLOWED, "HTTP 405 Method Not Allowed")),
                &[],
            );
        }
    };
    if call.method == Method::GET && !call.body.is_empty() {
        call.violation(None, "a GET with a body");
    }
    match &route {
        Route::Token(_) | Route::TokenInfo(_) | Route::RefreshInfo(_) => {
            let drawn = Drawn::new(world.faults.draw(None, operation, &world.dice), &world.dice);
            if let Err(outcome) = drawn.before(&world, &[]).await {
                return outcome;
            }
            let result = oauth::serve(&call, &route);
            return drawn.after(answer(&world, result, &[])).await;
        }
        Route::WebhookSettings(app)
        | Route::Subscriptions(app)
        | Route::Subscription(app, _)
        | Route::SubscriptionBatch(app) => {
            return answer(&world, subscriptions::serve(&call, &route, *app), &[]);
        }
        _ => {}
    }
    let Some(grant) = bearer(&call).and_then(|token| world.hubspot.grant(token)) else {
        return answer(&world, Err(ApiError::unauthenticated()), &[]);
    };
    let account = grant.account.clone();
    account.counts.add(operation, Tally::Calls);
    let at = world.clock.now();
    let outcome = Box::pin(serve_account(&call, &grant, &account, operation, &route)).await;
    if let Outcome::Answer(answer) = &outcome {
        let tally = match answer.status.as_u16() {
            429 => Some(Tally::Throttled),
            423 | 477 | 500.. => Some(Tally::Disturbed),
            400.. => Some(Tally::Refused),
            _ => None,
        };
        if let Some(tally) = tally {
            account.counts.add(operation, tally);
        }
    } else {
        account.counts.add(operation, Tally::Disturbed);
    }
    let status = match &outcome {
        Outcome::Answer(answer) => Some(answer.status.as_u16()),
        _ => None,
    };
    account.note(Noted { at, operation, status });
    outcome
}

async fn serve_account(
    call: &Call,
    grant: &Grant,
    account: &Arc<Account>,
    operation: Operation,
    route: &Route,
) -> Outcome {
    let world = &call.world;
    let now = world.clock.now();
    let drawn = Drawn::new(world.faults.draw(Some(account.portal), operation, &world.dice), &world.dice);
    if drawn.expire {
        if grant.kind == TokenKind::Private {
            return answer(world, Err(ApiError::unauthenticated()), &[]);
        }
        grant.expire(now);
    }
    if grant.expires() <= now && grant.kind == TokenKind::Private {
        // A private app's token does not expire, it is revoked.
        return answer(world, Err(ApiError::unauthenticated()), &[]);
    }
    if grant.expires() <= now {
        return answer(world, Err(ApiError::expired((now - grant.expires()) / 1000)), &[]);
    }
    if let Some(scope) = route.scope(operation)
        && !account.allows(scope)
    {
        return answer(world, Err(ApiError::missing_scope(scope)), &[]);
    }
    let search = operation == Operation::ContactsSearch;
    let (taken, remaining) = {
        let mut quota = account.quota.lock();
        let taken = quota.take(now, search);
        (taken, quota.remaining(now))
    };
    // Search answers carry no limit headers.
    let headers = if search { Vec::new() } else { limit_headers(remaining) };
    if let Err(limit) = taken {
        let error = match limit {
            Limit::Burst => ApiError::rate_limited(
                "You have reached your ten_secondly_rolling limit.",
                "TEN_SECONDLY_ROLLING",
            ),
            Limit::Daily => ApiError::rate_limited("You have reached your daily limit.", "DAILY"),
            Limit::Search => ApiError::rate_limited("You have reached your secondly limit.", "SECONDLY"),
        };
        return answer(world, Err(error), &headers);
    }
    if let Err(outcome) = drawn.before(world, &headers).await {
        return outcome;
    }
    // Time may have passed.
    let context = Context { call, account, operation, now: world.clock.now() };
    let result = context.carry_out(route);
    if let Ok(done) = &result {
        let bound = Duration::from_millis(account.app.hooks.read().before_bound_ms);
        for ticket in &done.tickets {
            ticket.wait(bound).await;
        }
    }
    drawn.after(answer(world, result, &headers)).await
}

impl Context<'_> {
    fn carry_out(&self, route: &Route) -> Result<Done, ApiError> {
        match route {
            Route::Contacts => match self.operation {
                Operation::ContactsCreate => self.create(),
                _ => self.list(),
            },
            Route::Contact(id) => match self.operation {
                Operation::ContactsUpdate => self.update(id),
                Operation::ContactsArchive => self.archive(id),
                _ => self.read(id),
            },
            Route::Batch => match self.operation {
                Operation::ContactsBatchRead => self.batch_read(),
                Operation::ContactsBatchCreate => self.batch_create(),
                Operation::ContactsBatchUpdate => self.batch_update(),
                Operation::ContactsBatchUpsert => self.batch_upsert(),
                _ => self.batch_archive(),
            },
            Route::Search => self.search(),
            Route::Merge => self.merge(),
            Route::GdprDelete => self.gdpr_delete(),
            Route::Properties => match self.operation {
                Operation::PropertiesCreate => self.create_property(),
                _ => self.list_properties(),
            },
            Route::Property(name) => match self.operation {
                Operation::PropertiesUpdate => self.update_property(name),
                Operation::PropertiesArchive => self.archive_property(name),
                _ => self.read_property(name),
            },
            Route::Details => self.details(),
            Route::Usage => self.usage(),
            _ => Err(ApiError::not_found()),
        }
    }
}

fn bearer(call: &Call) -> Option<&str> {
    let (scheme, token) = call.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn limit_headers(left: quota::Remaining) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::with_capacity(7);
    let mut add = |name: &'static str, value: u32| {
        headers.push((HeaderName::from_static(name), HeaderValue::from(value)));
    };
    if let Some((daily, remaining)) = left.daily {
        add("x-hubspot-ratelimit-daily", daily);
        add("x-hubspot-ratelimit-daily-remaining", remaining);
    }
    add("x-hubspot-ratelimit-interval-milliseconds", 10_000);
    add("x-hubspot-ratelimit-max", left.burst);
    add("x-hubspot-ratelimit-remaining", left.burst_left);
    add("x-hubspot-ratelimit-secondly", left.burst / 10);
    add("x-hubspot-ratelimit-secondly-remaining", left.burst_left.min(left.burst / 10));
    headers
}

fn answer(world: &World, result: Result<Done, ApiError>, extra: &[(HeaderName, HeaderValue)]) -> Outcome {
    let correlation = errors::correlation(&world.dice);
    let mut headers = extra.to_vec();
    if let Ok(value) = HeaderValue::from_str(&correlation) {
        headers.push((HeaderName::from_static("x-hubspot-correlation-id"), value));
    }
    let (status, body) = match result {
        Ok(done) => {
            if let Some(value) = done.location.and_then(|l| HeaderValue::from_str(&l).ok()) {
                headers.push((http::header::LOCATION, value));
            }
            (done.status, done.body)
        }
        Err(error) => {
            if let Some(seconds) = error.retry_after {
                headers.push((http::header::RETRY_AFTER, HeaderValue::from(seconds)));
            }
            let status = error.status;
            (status, serde_json::to_vec(&error.into_body(&correlation)).unwrap_or_default())
        }
    };
    if !body.is_empty() {
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json;charset=utf-8")));
    }
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
                FaultKind::Refused { status, .. } => drawn.status = Some((status, None)),
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
    async fn before(&self, world: &World, headers: &[(HeaderName, HeaderValue)]) -> Result<(), Outcome> {
        if self.latency > 0 {
            tokio::time::sleep(Duration::from_millis(self.latency)).await;
        }
        if self.reset {
            return Err(Outcome::Drop);
        }
        match self.status {
            Some((status, retry_after)) => {
                Err(answer(world, Err(ApiError::ordered(status, retry_after)), headers))
            }
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
