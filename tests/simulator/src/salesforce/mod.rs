//! Salesforce as its documentation describes it: contacts of the REST API (`/services/data/vNN.0`), SOQL, what was updated and deleted,
//! collections, OAuth and outbound messages.
//!
//! A request is routed, its session looked up, counted against the org's limits, disturbed if so ordered, and then carried out
//! under the lock of the org's contacts. Orgs are told apart by their sessions alone; the login host and the instance are one port,
//! unless an org is given an address of its own. See `BEHAVIOUR.md` for every rule, its source and its test.
//!
//! It refuses to be more than contacts: there are no accounts, no Bulk, SOAP or Pub/Sub API, no SOQL relationships or aggregates.

mod collections;
pub(crate) mod contact;
pub(crate) mod contacts;
pub(crate) mod errors;
pub(crate) mod fields;
pub(crate) mod ids;
mod oauth;
pub(crate) mod org;
pub(crate) mod outbound;
pub(crate) mod people;
pub(crate) mod query;
pub(crate) mod quota;
mod replication;
mod resources;
mod route;
mod rows;
pub(crate) mod rules;
mod select;
mod soql;
mod tokens;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use parking_lot::RwLock;
use serde_json::{Map, Value};

use self::contact::User;
use self::contacts::Actor;
use self::errors::ApiError;
pub(crate) use self::oauth::new_refresh;
use self::org::{NotedSalesforceCall, Org, Session};
use self::route::{Route, Routed};
use self::rules::Duplicates;
use crate::call::{Answer, Call, Outcome};
use crate::dice::Dice;
use crate::faults::FaultKind;
use crate::operation::{Operation, Tally};
use crate::world::World;
use crate::writes::Writer;

/// Bytes of a request's address at most.
const ADDRESS: usize = 16_384;

/// All orgs and sessions.
#[derive(Debug, Default)]
pub(crate) struct Salesforce {
    pub(crate) orgs: RwLock<BTreeMap<u64, Arc<Org>>>,
    sessions: RwLock<HashMap<String, Arc<Session>>>,
    /// Refresh tokens that were ever given out.
    refresh: RwLock<HashMap<String, Arc<Org>>>,
}

impl Salesforce {
    fn session(&self, token: &str) -> Option<Arc<Session>> {
        self.sessions.read().get(token).cloned()
    }

    /// Gives out a session of an org that begins now.
    pub(crate) fn issue(&self, dice: &Dice, org: &Arc<Org>, now: i64) -> String {
        let token = format!(
            "{}!AQ0A{}.{}",
            org.id.get(..15).unwrap_or_default(),
            dice.uuid().simple(),
            dice.uuid().simple()
        );
        self.sessions.write().insert(token.clone(), Arc::new(Session::new(org.clone(), now)));
        token
    }

    pub(crate) fn give_refresh(&self, token: &str, org: &Arc<Org>) {
        self.refresh.write().insert(token.to_owned(), org.clone());
    }

    /// All session ids that an org was ever given.
    pub(crate) fn tokens_of(&self, org: u64) -> Vec<String> {
        let sessions = self.sessions.read();
        let own = sessions.iter().filter(|(_, session)| session.org.number == org);
        let mut tokens: Vec<String> = own.map(|(token, _)| token.clone()).collect();
        tokens.sort();
        tokens
    }

    /// Ends all sessions of an org now; how many there were.
    pub(crate) fn expire(&self, org: u64, now: i64) -> usize {
        let sessions = self.sessions.read();
        let live = sessions.values().filter(|session| session.org.number == org && session.live(now));
        live.inspect(|session| session.end(now)).count()
    }

    pub(crate) fn clear(&self) {
        self.orgs.write().clear();
        self.sessions.write().clear();
        self.refresh.write().clear();
    }
}

/// What an operation achieved.
#[derive(Debug)]
pub(crate) struct Done {
    status: StatusCode,
    body: Vec<u8>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Done {
    fn json<T: serde::Serialize + ?Sized>(status: StatusCode, body: &T) -> Self {
        // The documents are made of strings, numbers and maps with string keys: they serialise.
        Self { status, body: serde_json::to_vec(body).unwrap_or_default(), headers: Vec::new() }
    }

    fn empty(status: StatusCode) -> Self {
        Self { status, body: Vec::new(), headers: Vec::new() }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }
}

/// A request with a session of an org.
pub(crate) struct Context<'a> {
    call: &'a Call,
    org: &'a Arc<Org>,
    operation: Operation,
    /// `v60.0`, as the path has it.
    version: &'a str,
    client: Option<&'a str>,
    now: i64,
}

impl Context<'_> {
    fn world(&self) -> &Arc<World> {
        &self.call.world
    }

    fn violation(&self, reason: impl Into<String>) {
        self.call.violation(Some(self.org.number), reason);
    }

    /// The number of the version.
    fn version(&self) -> u32 {
        self.version
            .trim_start_matches('v')
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(0)
    }

    /// Notes query parameters that the operation does not have.
    fn only_query(&self, known: &[&str]) {
        for (name, _) in &self.call.query {
            if !known.contains(&name.as_str()) {
                self.violation(format!("unknown query parameter {name}"));
            }
        }
    }

    /// Who writes through the API.
    fn actor(&self) -> Actor {
        let mut rules = self.org.rules();
        let save = self.call.header("sforce-duplicate-rule-header").is_some_and(|header| {
            header.split(';').any(|part| part.replace(' ', "").eq_ignore_ascii_case("allowSave=true"))
        });
        if save && rules.duplicates == Duplicates::Alert {
            rules.duplicates = Duplicates::Allowed;
        }
        Actor {
            user: User::Integration,
            writer: Writer::Api,
            client: self.client.map(str::to_owned),
            now: self.now,
            rules,
        }
    }

    /// The body as a JSON object.
    fn object(&self) -> Result<Map<String, Value>, ApiError> {
        if !self.call.is_type("application/json") {
            let given = self.call.header("content-type").unwrap_or_default();
            let message = format!("Content-Type header specified in HTTP request is not supported: {given}");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
                .violating("the content type is not application/json"));
        }
        match serde_json::from_slice(&self.call.body) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(_) => Err(ApiError::bad(
                "JSON_PARSER_ERROR",
                "Unexpected parameter encountered during deserialization",
            )
            .violating("the body is not a JSON object")),
            Err(error) => {
                let message = format!(
                    "Unexpected character or end-of-input at [line:{}, column:{}]",
                    error.line(),
                    error.column()
                );
                Err(ApiError::bad("JSON_PARSER_ERROR", message).violating("the body is not JSON"))
            }
        }
    }

    /// Tells of contacts that the API wrote.
    fn tell(&self, contacts: &[u64]) {
        outbound::tell(self.world(), self.org, contacts, true);
    }
}

/// Whether a path belongs to Salesforce.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/services/") || path.starts_with("/id/")
}

fn client_of(call: &Call) -> Option<&str> {
    let options = call.header("sforce-call-options")?;
    options.split(',').find_map(|option| {
        let (name, value) = option.split_once('=')?;
        name.trim().eq_ignore_ascii_case("client").then(|| value.trim())
    })
}

fn bearer(call: &Call) -> Option<&str> {
    let (scheme, token) = call.header("authorization")?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("oauth")).then(|| token.trim())
}

/// Carries out one request.
pub(crate) async fn serve(call: Call) -> Outcome {
    let world = call.world.clone();
    let length =
        call.path.len() + call.query.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    if length > ADDRESS {
        call.violation(None, "the address is longer than 16,384 bytes");
        let error = ApiError::new(
            StatusCode::URI_TOO_LONG,
            "URI_TOO_LONG",
            "The length of the URI exceeds the limit",
        );
        return answer(Err(error), None);
    }
    let (version, operation, route) = match route::route(&call.method, &call.path) {
        Routed::To(version, operation, route) => (version, operation, route),
        Routed::NoSuchPath => {
            call.violation(None, "unknown path");
            return answer(Err(ApiError::not_found()), None);
        }
        Routed::Retired => {
            call.violation(None, "a version that is no longer served");
            let error = ApiError::new(
                StatusCode::GONE,
                "UNSUPPORTED_API_VERSION",
                "API version is no longer supported",
            );
            return answer(Err(error), None);
        }
        Routed::WrongMethod(allowed) => {
            call.violation(None, "the path does not have this method");
            let message = format!("HTTP Method '{}' not allowed. Allowed are {allowed}", call.method);
            let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
            return answer(Err(error), None);
        }
    };
    if call.method == Method::GET && !call.body.is_empty() {
        call.violation(None, "a GET with a body");
    }
    match &route {
        Route::Versions => return answer(Ok(resources::versions()), None),
        Route::Token | Route::Revoke | Route::UserInfo | Route::Identity(..) => {
            let drawn = Drawn::new(world.faults.draw(None, operation, &world.dice), &world.dice);
            if let Err(outcome) = drawn.before(None).await {
                return outcome;
            }
            return drawn.after(answer(Ok(oauth::serve(&call, &route)), None)).await;
        }
        _ => {}
    }
    let session = bearer(&call).and_then(|token| world.salesforce.session(token));
    let Some(session) = session.filter(|session| session.org.answers_at(call.header("host"))) else {
        return answer(Err(ApiError::session()), None);
    };
    let org = session.org.clone();
    org.counts.add(operation, Tally::Calls);
    let at = world.clock.now();
    let client = client_of(&call);
    let outcome = Box::pin(serve_org(&call, &session, operation, &version, client, &route)).await;
    let status = match &outcome {
        Outcome::Answer(answer) => Some(answer.status.as_u16()),
        Outcome::Drop => None,
    };
    let tally = match status {
        None | Some(423 | 500..) => Some(Tally::Disturbed),
        Some(429) => Some(Tally::Throttled),
        // Counted where the limit is looked at.
        Some(403) => None,
        Some(400..) => Some(Tally::Refused),
        _ => None,
    };
    if let Some(tally) = tally {
        org.counts.add(operation, tally);
    }
    org.note(NotedSalesforceCall {
        at,
        operation: operation.name().to_owned(),
        status,
        client: client.map(str::to_owned),
    });
    outcome
}

async fn serve_org(
    call: &Call,
    session: &Session,
    operation: Operation,
    version: &str,
    client: Option<&str>,
    route: &Route,
) -> Outcome {
    let (world, org) = (&call.world, &session.org);
    let now = world.clock.now();
    let drawn = Drawn::new(world.faults.draw(Some(org.number), operation, &world.dice), &world.dice);
    if drawn.expire {
        session.end(now);
    }
    if !session.live(now) {
        return answer(Err(ApiError::session()), None);
    }
    session.used(now);
    let (taken, usage, limits) = {
        let mut quota = org.quota.lock();
        let taken = quota.take(now);
        (taken, format!("api-usage={}/{}", quota.used(now), quota.limits.daily), quota.limits)
    };
    let over = |which: &str| {
        org.counts.add(operation, Tally::Throttled);
        answer(Err(ApiError::limit(which)), Some(&usage))
    };
    if !taken {
        return over("TotalRequests");
    }
    let Some(_flight) = org.flights.begin(limits) else {
        return over("ConcurrentRequests (Concurrent API Requests)");
    };
    if let Err(outcome) = drawn.before(Some(&usage)).await {
        return outcome;
    }
    // Time may have passed.
    let context = Context { call, org, operation, version, client, now: world.clock.now() };
    org.contacts.lock().age(context.now);
    let result = context.carry_out(route);
    if let Err(error) = &result
        && let Some(reason) = &error.violation
    {
        context.violation(reason.clone());
    }
    drawn.after(answer(result, Some(&usage))).await
}

impl Context<'_> {
    fn carry_out(&self, route: &Route) -> Result<Done, ApiError> {
        match route {
            Route::Resources => Ok(self.resources()),
            Route::Limits => Ok(self.limits()),
            Route::Objects => Ok(self.objects()),
            Route::Object if self.operation == Operation::SalesforceCreate => self.create(),
            Route::Object => Ok(self.object_info()),
            Route::Describe => Ok(self.describe()),
            Route::Updated => self.updated(),
            Route::Deleted => self.removed(),
            Route::Row(id) => match self.operation {
                Operation::SalesforceUpdate => self.update(id),
                Operation::SalesforceDelete => self.delete(id),
                _ => self.read(id),
            },
            Route::External(field, value) => match self.operation {
                Operation::SalesforceUpsert => self.upsert(field, value),
                Operation::SalesforceDelete => self.delete_external(field, value),
                _ => self.find(field, value),
            },
            Route::Query(all) => self.query(*all),
            Route::More(locator) => self.more(locator),
            Route::Collection => match self.operation {
                Operation::SalesforceCollectionCreate => self.create_many(),
                Operation::SalesforceCollectionUpdate => self.update_many(),
                _ => self.delete_many(),
            },
            Route::CollectionRead => self.read_many(),
            Route::CollectionUpsert(field) => self.upsert_many(field),
            Route::Token | Route::Revoke | Route::UserInfo | Route::Identity(..) | Route::Versions => {
                Err(ApiError::not_found())
            }
        }
    }
}

fn answer(result: Result<Done, ApiError>, usage: Option<&str>) -> Outcome {
    let (status, body, mut headers) = match result {
        Ok(done) => (done.status, done.body, done.headers),
        // Some refusals have no words.
        Err(error) if error.code.is_empty() => (error.status, Vec::new(), Vec::new()),
        Err(error) => (error.status, serde_json::to_vec(&error.body()).unwrap_or_default(), Vec::new()),
    };
    if let Some(value) = usage.and_then(|usage| HeaderValue::from_str(usage).ok()) {
        headers.push((HeaderName::from_static("sforce-limit-info"), value));
    }
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
        headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8")));
    }
    Outcome::Answer(Answer { status, body, headers })
}

/// The disturbances of one request.
#[derive(Default)]
struct Drawn {
    latency: u64,
    refused: Option<ApiError>,
    retry_after: Option<u64>,
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
                FaultKind::Status { status, retry_after } => {
                    drawn.refused = Some(ApiError::ordered(status));
                    drawn.retry_after = retry_after;
                }
                FaultKind::Refused { status, code, message } => {
                    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
                    drawn.refused =
                        Some(ApiError { fields: Some(Vec::new()), ..ApiError::new(status, &code, message) });
                }
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
    async fn before(&self, usage: Option<&str>) -> Result<(), Outcome> {
        if self.latency > 0 {
            tokio::time::sleep(Duration::from_millis(self.latency)).await;
        }
        if self.reset {
            return Err(Outcome::Drop);
        }
        let Some(error) = self.refused.clone() else { return Ok(()) };
        let mut outcome = answer(Err(error), usage);
        if let (Some(seconds), Outcome::Answer(answer)) = (self.retry_after, &mut outcome) {
            answer.headers.push((http::header::RETRY_AFTER, HeaderValue::from(seconds)));
        }
        Err(outcome)
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
