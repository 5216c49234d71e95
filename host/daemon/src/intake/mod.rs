//! Webhooks: verify, route to the connection, blank what is secret, store raw, answer.
//!
//! Invariants: nothing is answered with success before it is on disk; a delivery is verified over its raw bytes before
//! anything is read from it; an account that nobody knows is taken in by nobody (and answered as delivered, so that the CRM
//! does not switch the webhook off). This room never calls a provider and decides nothing.
//!
//! A door is an address: `/hooks/app/NAME` receives for all connections of an app, `/hooks/connection/NAME` for one. Behind an app's door
//! each event goes to the connection of the account that it names, at the place that the provider's descriptor says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, Uri, header};
use secrecy::SecretString;
use serde_json::Value;
use tandem_core::Millis;
use tandem_core::descriptor::{BodyFormat, Verify, Webhooks};
use tandem_core::exchange::{Attribute, Delivery};
use tandem_core::id::{ConnectionId, ProviderId};
use tokio::sync::Semaphore;

use crate::credentials::webhook::{Incoming, verify};
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, StoredDelivery, Subject, Until};
use crate::telemetry::{Metrics, Stage};

mod events;
mod strangers;
#[cfg(test)]
mod tests;
mod xml;

pub use strangers::Strangers;

/// Where deliveries of an app or a connection come in.
pub struct Door {
    /// Its path below `/hooks/`.
    pub path: String,
    /// The provider, for metrics.
    pub provider: ProviderId,
    /// How deliveries are verified, routed and answered.
    pub webhooks: Webhooks,
    /// The secret that signs them, and during a rotation the one before. Empty where nothing is signed.
    pub secrets: Vec<SecretString>,
    /// Whose deliveries they are.
    pub route: Route,
    /// Events that are nobody's.
    pub strangers: Strangers,
}

/// Whose deliveries come in at a door.
pub enum Route {
    /// One connection's.
    Connection(ConnectionId),
    /// Those of the connections whose accounts are named in them.
    Accounts(HashMap<String, ConnectionId>),
}

/// All doors, and what happens behind them.
pub struct Intake<S> {
    store: Arc<S>,
    doors: ArcSwap<HashMap<String, Arc<Door>>>,
    /// The address under which CRMs reach this daemon, as they sign it. No trailing slash.
    public_url: ArcSwap<String>,
    metrics: Arc<Metrics>,
    now: Box<dyn Fn() -> Millis + Send + Sync>,
    arrived: Arc<dyn Fn(Vec<Hint>) + Send + Sync>,
    /// Deliveries that are being written down, whether or not their senders wait.
    writing: Arc<Semaphore>,
}

/// So many deliveries are written down at once at the most; further ones wait as long as their senders do.
const MOST_WRITING: usize = 1_024;

/// Why a delivery was not taken in.
enum Refusal {
    /// It does not prove its sender.
    Signature(String),
    /// It is not what the provider's webhooks look like.
    Malformed(String),
    /// The store does not take it.
    Store(StoreError),
}

impl<S: Store> Intake<S> {
    /// No doors yet. `arrived` is given the hints of stored deliveries.
    pub fn new(
        store: Arc<S>,
        metrics: Arc<Metrics>,
        now: Box<dyn Fn() -> Millis + Send + Sync>,
        arrived: Arc<dyn Fn(Vec<Hint>) + Send + Sync>,
    ) -> Self {
        Self {
            store,
            doors: ArcSwap::default(),
            public_url: ArcSwap::from_pointee(String::new()),
            metrics,
            now,
            arrived,
            writing: Arc::new(Semaphore::new(MOST_WRITING)),
        }
    }

    /// Puts these doors in place of all others.
    pub fn open(&self, doors: Vec<Door>) {
        let doors = doors.into_iter().map(|door| (door.path.clone(), Arc::new(door))).collect();
        self.doors.store(Arc::new(doors));
    }

    /// Sets the address that CRMs sign.
    pub fn set_public_url(&self, url: &str) {
        self.public_url.store(Arc::new(url.trim_end_matches('/').to_owned()));
    }

    /// The routes of all doors.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/hooks/{kind}/{name}", post(receive::<S>).get(challenge::<S>))
            .with_state(self.clone())
    }

    fn door(&self, kind: &str, name: &str) -> Option<Arc<Door>> {
        self.doors.load().get(&format!("{kind}/{name}")).cloned()
    }

    async fn take_in(
        &self,
        door: &Door,
        path_and_query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let now = (self.now)();
        let url = format!("{}{path_and_query}", self.public_url.load());
        let incoming = Incoming { method: "POST", url: &url, headers, body };
        verify(&door.webhooks.verify, &door.secrets, &incoming, now)
            .map_err(|error| Refusal::Signature(error.to_string()))?;
        let stored = self.split(door, path_and_query, headers, body, now)?;
        if let Some(told) = door.strangers.tell(now) {
            tracing::warn!(
                door = %door.path,
                events = told.events,
                accounts = told.accounts,
                "events of accounts that no connection has are answered and dropped; name the account in a connection's file, \
                 with app and account, or end the app's installation there"
            );
        }
        if stored.is_empty() {
            return Ok(());
        }
        let mut commit = Commit::new();
        let mut hints = Vec::with_capacity(stored.len());
        for delivery in stored {
            let hint = Hint {
                seq: self.store.next_seq(),
                connection: delivery.connection.clone(),
                object: "".into(),
                subject: Subject::Delivery(delivery.seq),
                // Before any record: what a person did is known before it could be written over.
                class: Class::Interactive,
                noticed_at: now,
                due: 0,
                attempts: 0,
                cause: "webhook".into(),
                observed: None,
            };
            commit.push(Op::AddDelivery(delivery)).push(Op::AddHint(hint.clone()));
            hints.push(hint);
        }
        // Who sent it may hang up meanwhile, and this future ends with them: it would lie on disk, and nobody would be told.
        let (store, arrived) = (Arc::clone(&self.store), Arc::clone(&self.arrived));
        let not_kept = |error: String| {
            let what = format!("a webhook was not written down: {error}");
            Refusal::Store(StoreError::Failed { path: "queue".to_owned(), what })
        };
        let permit = Arc::clone(&self.writing).acquire_owned().await;
        let permit = permit.map_err(|error| not_kept(error.to_string()))?;
        let kept = tokio::spawn(async move {
            let _writes = permit;
            store.commit(commit, Until::Durable).await?;
            arrived(hints);
            Ok(())
        });
        kept.await.map_err(|error| not_kept(error.to_string()))?.map_err(Refusal::Store)
    }

    /// One delivery for each connection that is named, in the order of the body.
    fn split(
        &self,
        door: &Door,
        path_and_query: &str,
        headers: &HeaderMap,
        body: &[u8],
        now: Millis,
    ) -> Result<Vec<StoredDelivery>, Refusal> {
        let webhooks = &door.webhooks;
        let proof = Proof::of(webhooks);
        let store = |connection: &ConnectionId, body: Vec<u8>| StoredDelivery {
            seq: self.store.next_seq(),
            connection: connection.clone(),
            received_at: now,
            delivery: Delivery {
                headers: kept_headers(webhooks, headers, &proof),
                query: query(path_and_query, &proof),
                body,
            },
        };
        let blank = || webhooks.blank.iter().map(String::as_str).chain(proof.pointer());
        let reads_body = webhooks.array || webhooks.account.is_some() || blank().next().is_some();
        let connection = match &door.route {
            Route::Connection(connection) if !reads_body => {
                return Ok(vec![store(connection, body.to_vec())]);
            }
            Route::Connection(connection) => Some(connection),
            Route::Accounts(_) => None,
        };
        if webhooks.format == BodyFormat::Xml {
            let read = xml::read(body, webhooks.account.as_deref(), &webhooks.blank)
                .map_err(|error| Refusal::Malformed(format!("the body is not proper XML: {error}")))?;
            let target = match &door.route {
                Route::Connection(connection) => Some(connection),
                Route::Accounts(accounts) => self.connection_of(door, accounts, read.account.as_deref()),
            };
            return Ok(target.into_iter().map(|connection| store(connection, read.body.clone())).collect());
        }
        if let (Route::Accounts(accounts), Some(pointer), true) =
            (&door.route, webhooks.account.as_deref(), blank().next().is_none())
            && let Some(events) = events::read(body, pointer)
        {
            // The common case, and half of the work of taking a webhook in: nothing is changed, so that the events are passed on
            // as they were written, and only their accounts are read.
            return Ok(self.sort(door, accounts, events, store));
        }
        let mut value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::Malformed(format!("the body is not JSON: {error}")))?;
        if let (Some(connection), None, false) = (connection, blank().next(), webhooks.array) {
            // Nothing is taken out of it: numbers stay as they were written.
            return Ok(vec![store(connection, body.to_vec())]);
        }
        let events: Vec<Value> = match &mut value {
            Value::Array(events) if webhooks.array => std::mem::take(events),
            _ if webhooks.array => {
                return Err(Refusal::Malformed("the body is not an array of events".into()));
            }
            _ => vec![value],
        };
        let mut split: Vec<(ConnectionId, Vec<Value>)> = Vec::new();
        for mut event in events {
            let target = match (&door.route, connection) {
                (_, Some(connection)) => Some(connection.clone()),
                (Route::Accounts(accounts), None) => {
                    let account = webhooks.account.as_deref().and_then(|pointer| account_at(&event, pointer));
                    self.connection_of(door, accounts, account.as_deref()).cloned()
                }
                (Route::Connection(connection), None) => Some(connection.clone()),
            };
            let Some(target) = target else { continue };
            for pointer in blank() {
                if let Some(secret) = event.pointer_mut(pointer) {
                    *secret = Value::Null;
                }
            }
            match split.iter_mut().find(|(connection, _)| *connection == target) {
                Some((_, events)) => events.push(event),
                None => split.push((target, vec![event])),
            }
        }
        split
            .into_iter()
            .map(|(connection, events)| {
                let body = if webhooks.array {
                    serde_json::to_vec(&events)
                } else {
                    events.first().map_or_else(|| Ok(Vec::new()), serde_json::to_vec)
                };
                body.map(|body| store(&connection, body))
                    .map_err(|error| Refusal::Malformed(error.to_string()))
            })
            .collect()
    }
}

impl<S: Store> Intake<S> {
    /// The connection of an account. None: nobody's, which is counted and told of.
    fn connection_of<'a>(
        &self,
        door: &Door,
        accounts: &'a HashMap<String, ConnectionId>,
        account: Option<&str>,
    ) -> Option<&'a ConnectionId> {
        let connection = account.and_then(|account| accounts.get(account));
        if connection.is_none() {
            self.metrics.webhook(&door.provider, "unroutable");
            door.strangers.note(account);
        }
        connection
    }

    /// Events by the connections of their accounts.
    fn sort(
        &self,
        door: &Door,
        accounts: &HashMap<String, ConnectionId>,
        events: Vec<events::Event<'_>>,
        store: impl Fn(&ConnectionId, Vec<u8>) -> StoredDelivery,
    ) -> Vec<StoredDelivery> {
        let mut bodies: Vec<(&ConnectionId, Vec<u8>)> = Vec::new();
        for event in events {
            let Some(target) = self.connection_of(door, accounts, event.account.as_deref()) else { continue };
            match bodies.iter_mut().find(|(connection, _)| *connection == target) {
                Some((_, body)) => {
                    body.push(b',');
                    body.extend_from_slice(event.text);
                }
                None => bodies.push((target, [b"[".as_slice(), event.text].concat())),
            }
        }
        bodies
            .into_iter()
            .map(|(connection, mut body)| {
                body.push(b']');
                store(connection, body)
            })
            .collect()
    }
}

async fn receive<S: Store>(
    State(intake): State<Arc<Intake<S>>>,
    Path((kind, name)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some(door) = intake.door(&kind, &name) else {
        return (StatusCode::NOT_FOUND, "there is no such webhook address\n").into_response();
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            intake.metrics.webhook(&door.provider, "too-large");
            return rejection.into_response();
        }
    };
    let path = uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string);
    let began = Instant::now();
    match intake.take_in(&door, &path, &headers, &body).await {
        Ok(()) => {
            intake.metrics.stage(Stage::Intake, began.elapsed());
            intake.metrics.webhook(&door.provider, "stored");
            answer(&door.webhooks, uri.query())
        }
        Err(Refusal::Signature(why)) => {
            intake.metrics.webhook(&door.provider, "signature");
            tracing::warn!(door = %format!("{kind}/{name}"), why, "a webhook does not prove its sender");
            (StatusCode::UNAUTHORIZED, "the delivery does not prove its sender\n").into_response()
        }
        Err(Refusal::Malformed(why)) => {
            intake.metrics.webhook(&door.provider, "malformed");
            tracing::warn!(door = %format!("{kind}/{name}"), why, "a webhook cannot be read");
            (StatusCode::BAD_REQUEST, "the delivery cannot be read\n").into_response()
        }
        Err(Refusal::Store(error)) => {
            intake.metrics.webhook(&door.provider, "busy");
            tracing::error!(%error, "a webhook cannot be stored");
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "not stored; send it again\n")
                .into_response()
        }
    }
}

/// Some CRMs try an address with a GET that wants a parameter echoed.
async fn challenge<S: Store>(
    State(intake): State<Arc<Intake<S>>>,
    Path((kind, name)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    match intake.door(&kind, &name) {
        Some(door) if door.webhooks.answer.echo.is_some() => answer(&door.webhooks, uri.query()),
        Some(_) => (StatusCode::METHOD_NOT_ALLOWED, "webhooks are POSTed\n").into_response(),
        None => (StatusCode::NOT_FOUND, "there is no such webhook address\n").into_response(),
    }
}

fn answer(webhooks: &Webhooks, query: Option<&str>) -> Response {
    let answer = &webhooks.answer;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let echoed = answer.echo.as_deref().and_then(|name| {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    });
    let body = echoed.unwrap_or_else(|| answer.body.clone());
    match &answer.content_type {
        Some(kind) => (status, [(header::CONTENT_TYPE, kind.as_str())], body).into_response(),
        None => (status, body).into_response(),
    }
}

/// Where the token stands that proves the sender: it goes no further.
enum Proof<'w> {
    None,
    Header(&'w str),
    Query(&'w str),
    Body(&'w str),
}

impl<'w> Proof<'w> {
    fn of(webhooks: &'w Webhooks) -> Self {
        let Verify::Token { place, .. } = &webhooks.verify else { return Self::None };
        match place.split_once(':') {
            Some(("header", name)) => Self::Header(name),
            Some(("query", name)) => Self::Query(name),
            Some(("body", pointer)) => Self::Body(pointer),
            _ => Self::None,
        }
    }

    fn pointer(&self) -> Option<&'w str> {
        if let Self::Body(pointer) = self { Some(pointer) } else { None }
    }
}

fn kept_headers(webhooks: &Webhooks, headers: &HeaderMap, proof: &Proof<'_>) -> Vec<Attribute> {
    webhooks
        .headers
        .iter()
        .filter(|name| !matches!(proof, Proof::Header(secret) if name.eq_ignore_ascii_case(secret)))
        .filter_map(|name| {
            let value = headers.get(name.as_str())?.to_str().ok()?;
            Some(Attribute { name: name.clone(), value: value.into() })
        })
        .collect()
}

fn query(path_and_query: &str, proof: &Proof<'_>) -> Vec<Attribute> {
    let Some((_, query)) = path_and_query.split_once('?') else { return Vec::new() };
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| !matches!(proof, Proof::Query(secret) if name == secret))
        .map(|(name, value)| Attribute { name: name.into_owned(), value: value.into_owned() })
        .collect()
}

/// An account as text, whether the CRM writes it as text or as a number.
fn account_at(event: &Value, pointer: &str) -> Option<String> {
    match event.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
