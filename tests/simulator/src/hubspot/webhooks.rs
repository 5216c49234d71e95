//! Webhooks of an app: subscriptions, delivery in signed arrays, retries.
//!
//! Events of all accounts of an app go to one queue. Workers, as many as the app's concurrency allows, take up to a
//! hundred events at a time; a write may wait until its events were attempted. Nothing promises order. Retries wait
//! outside the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::contacts::{Event, What};
use super::signature;
use crate::faults::FaultKind;
use crate::world::World;

/// The client that posts webhooks.
pub(crate) type Poster = Client<HttpConnector, Full<Bytes>>;

/// When the webhooks of a write leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timing {
    /// They are attempted before the answer to the write leaves.
    #[default]
    Before,
    /// They leave after the answer.
    After,
    /// They leave at the same time.
    Parallel,
}

/// What an app is told about, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where events are posted to, `http://…`; none: nowhere. This URL is what signatures cover.
    pub target_url: Option<String>,
    /// Connect here (`127.0.0.1:8080`, plain HTTP) instead of to the host of the target: a proxy in between.
    pub connect_to: Option<String>,
    /// When the events of a write leave.
    pub timing: Timing,
    /// How long a write waits for its events at most, in milliseconds, with `before`.
    pub before_bound_ms: u64,
    /// How long after the answer the events leave, in milliseconds, with `after`.
    pub after_delay_ms: u64,
    /// How long a target may take to answer, in milliseconds.
    pub timeout_ms: u64,
    /// Events in one request at most; HubSpot sends up to 100.
    pub max_batch: usize,
    /// Requests of the app in flight at most.
    pub max_concurrent: usize,
    /// Attempts after the first.
    pub max_retries: u32,
    /// Milliseconds before the first retry; doubles each time, with jitter. Real: minutes to hours.
    pub retry_base_ms: u64,
    /// Milliseconds before a retry at most.
    pub retry_max_ms: u64,
    /// A creation also makes a property event for each value that it set.
    pub creation_has_property_events: bool,
    /// What is subscribed to; none: every event type, and every property that can be written.
    pub subscriptions: Option<Vec<Subscription>>,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            target_url: None,
            connect_to: None,
            timing: Timing::Before,
            before_bound_ms: 2_000,
            after_delay_ms: 20,
            timeout_ms: 5_000,
            max_batch: 100,
            max_concurrent: 10,
            max_retries: 10,
            retry_base_ms: 200,
            retry_max_ms: 10_000,
            creation_has_property_events: true,
            subscriptions: None,
        }
    }
}

/// One subscription of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    /// Its number; given when it is created if zero.
    #[serde(default)]
    pub id: u64,
    /// `contact.creation`, `contact.deletion`, `contact.propertyChange` …
    pub event_type: String,
    /// The property of a `propertyChange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property_name: Option<String>,
    /// Whether events are sent.
    #[serde(default)]
    pub active: bool,
    /// When it was made, in milliseconds.
    #[serde(default)]
    pub created_at: i64,
}

/// Counters of an app's webhooks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookCounts {
    /// Events that happened and are subscribed to.
    pub events: u64,
    /// Events sent, each attempt counted.
    pub sent: u64,
    /// Requests made.
    pub requests: u64,
    /// Events answered with success.
    pub acknowledged: u64,
    /// Events of attempts that failed.
    pub failed: u64,
    /// Events given up after the last retry.
    pub given_up: u64,
    /// Events lost by order.
    pub lost: u64,
    /// Events sent twice by order.
    pub duplicated: u64,
    /// Events that wait in the queue or are under way.
    pub queued: u64,
    /// Events that wait for a retry or a delay.
    pub waiting: u64,
}

#[derive(Debug, Default)]
struct Tallies {
    events: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    waiting: AtomicU64,
}

/// An app: credentials and webhooks that all its accounts share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) id: u64,
    pub(crate) id_text: Arc<str>,
    pub(crate) name: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) developer_key: String,
    pub(crate) hooks: RwLock<Arc<WebhookSettings>>,
    queue: Mutex<Queue>,
    tallies: Tallies,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Queued>,
    workers: usize,
    under_way: u64,
}

#[derive(Debug, Clone)]
struct Queued {
    event: Event,
    portal: u64,
    subscription: u64,
    event_id: u64,
    attempt: u32,
    ticket: Option<Arc<Ticket>>,
}

/// Counts down the events that a write waits for.
#[derive(Debug)]
pub(crate) struct Ticket {
    left: AtomicUsize,
    done: tokio::sync::Notify,
}

impl Ticket {
    fn new(events: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(events), done: tokio::sync::Notify::new() })
    }

    fn punch(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    /// Waits until every event was attempted once, at most so long.
    pub(crate) async fn wait(&self, bound: Duration) {
        if self.left.load(Ordering::Acquire) > 0 {
            let _ = tokio::time::timeout(bound, self.done.notified()).await;
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    event_id: u64,
    subscription_id: u64,
    portal_id: u64,
    app_id: u64,
    occurred_at: i64,
    subscription_type: &'static str,
    attempt_number: u32,
    object_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    property_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    property_value: Option<&'a str>,
    change_source: &'static str,
    source_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_flag: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_object_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_object_ids: Option<[u64; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_object_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number_of_properties_moved: Option<u64>,
}

fn type_of(what: &What) -> &'static str {
    match what {
        What::Created => "contact.creation",
        What::Deleted => "contact.deletion",
        What::Restored => "contact.restore",
        What::PrivacyDeleted => "contact.privacyDeletion",
        What::Changed { .. } => "contact.propertyChange",
        What::Merged { .. } => "contact.merge",
    }
}

impl App {
    pub(crate) fn new(
        id: u64,
        name: String,
        client_id: String,
        client_secret: String,
        developer_key: String,
        hooks: WebhookSettings,
    ) -> Self {
        Self {
            id,
            id_text: id.to_string().into(),
            name,
            client_id,
            client_secret,
            developer_key,
            hooks: RwLock::new(Arc::new(hooks)),
            queue: Mutex::default(),
            tallies: Tallies::default(),
        }
    }

    pub(crate) fn counts(&self) -> WebhookCounts {
        let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        let t = &self.tallies;
        let queue = self.queue.lock();
        WebhookCounts {
            events: read(&t.events),
            sent: read(&t.sent),
            requests: read(&t.requests),
            acknowledged: read(&t.acknowledged),
            failed: read(&t.failed),
            given_up: read(&t.given_up),
            lost: read(&t.lost),
            duplicated: read(&t.duplicated),
            queued: queue.events.len() as u64 + queue.under_way,
            waiting: read(&t.waiting),
        }
    }

    /// The number of the subscription that wants this event.
    fn subscription(&self, hooks: &WebhookSettings, what: &What) -> Option<u64> {
        let Some(subscriptions) = &hooks.subscriptions else {
            return Some(self.id * 100 + u64::from(matches!(what, What::Changed { .. })));
        };
        let wanted = type_of(what);
        subscriptions
            .iter()
            .find(|s| {
                s.active
                    && s.event_type == wanted
                    && match what {
                        What::Changed { property, .. } => s.property_name.as_deref() == Some(property),
                        _ => true,
                    }
            })
            .map(|s| s.id)
    }
}

/// Sends the events of a change. With a ticket, the caller can wait for their first attempt.
pub(crate) fn tell(
    world: &Arc<World>,
    app: &Arc<App>,
    portal: u64,
    events: Vec<Event>,
    wait: bool,
) -> Option<Arc<Ticket>> {
    let hooks = app.hooks.read().clone();
    if hooks.target_url.is_none() || events.is_empty() {
        return None;
    }
    let created = events.iter().any(|e| matches!(e.what, What::Created));
    let mut queued: Vec<Queued> = events
        .into_iter()
        .filter(|e| !created || hooks.creation_has_property_events || !matches!(e.what, What::Changed { .. }))
        .filter_map(|event| {
            let subscription = app.subscription(&hooks, &event.what)?;
            // 32 bits, as HubSpot's look; not promised to be unique.
            let event_id = world.dice.next() >> 32;
            Some(Queued { event, portal, subscription, event_id, attempt: 0, ticket: None })
        })
        .collect();
    if queued.is_empty() {
        return None;
    }
    app.tallies.events.fetch_add(queued.len() as u64, Ordering::Relaxed);
    if world.faults.any() {
        queued = disturb(world, app, portal, queued);
    }
    let ticket = (wait && !queued.is_empty()).then(|| Ticket::new(queued.len()));
    if let Some(ticket) = &ticket {
        for q in &mut queued {
            q.ticket = Some(ticket.clone());
        }
    }
    enqueue(world, app, queued);
    ticket
}

/// Applies webhook disturbances; what is left is to be sent now.
fn disturb(world: &Arc<World>, app: &Arc<App>, portal: u64, queued: Vec<Queued>) -> Vec<Queued> {
    let mut now = Vec::with_capacity(queued.len());
    for event in queued {
        let mut delay = 0;
        let mut lost = false;
        for fault in world.faults.draw_webhook(portal, &world.dice) {
            match fault {
                FaultKind::WebhookLost => lost = true,
                FaultKind::WebhookDuplicated { delay_ms } => {
                    app.tallies.duplicated.fetch_add(1, Ordering::Relaxed);
                    later(world, app, vec![event.clone()], delay_ms);
                }
                FaultKind::WebhookDelayed { ms, jitter_ms } => delay += ms + world.dice.between(0, jitter_ms),
                FaultKind::WebhookReordered { window_ms } => delay += world.dice.between(0, window_ms),
                _ => {}
            }
        }
        if lost {
            app.tallies.lost.fetch_add(1, Ordering::Relaxed);
        } else if delay > 0 {
            later(world, app, vec![event], delay);
        } else {
            now.push(event);
        }
    }
    now
}

fn later(world: &Arc<World>, app: &Arc<App>, events: Vec<Queued>, delay_ms: u64) {
    app.tallies.waiting.fetch_add(events.len() as u64, Ordering::Relaxed);
    let (world, app) = (world.clone(), app.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        let count = events.len() as u64;
        enqueue(&world, &app, events);
        app.tallies.waiting.fetch_sub(count, Ordering::Relaxed);
    });
}

fn enqueue(world: &Arc<World>, app: &Arc<App>, events: Vec<Queued>) {
    let workers = app.hooks.read().max_concurrent.max(1);
    let start = {
        let mut queue = app.queue.lock();
        queue.events.extend(events);
        let start = queue.workers < workers && !queue.events.is_empty();
        if start {
            queue.workers += 1;
        }
        start
    };
    if start {
        tokio::spawn(work(world.clone(), app.clone()));
    }
}

/// One worker: takes batches until the queue is empty.
async fn work(world: Arc<World>, app: Arc<App>) {
    loop {
        let hooks = app.hooks.read().clone();
        let batch: Vec<Queued> = {
            let mut queue = app.queue.lock();
            let size = queue.events.len().min(hooks.max_batch.clamp(1, 100));
            if size == 0 {
                queue.workers -= 1;
                return;
            }
            queue.under_way += size as u64;
            queue.events.drain(..size).collect()
        };
        let size = batch.len() as u64;
        deliver(&world, &app, &hooks, batch).await;
        app.queue.lock().under_way -= size;
    }
}

async fn deliver(world: &Arc<World>, app: &Arc<App>, hooks: &WebhookSettings, mut batch: Vec<Queued>) {
    let count = batch.len() as u64;
    app.tallies.sent.fetch_add(count, Ordering::Relaxed);
    app.tallies.requests.fetch_add(1, Ordering::Relaxed);
    let answered = post(world, app, hooks, &batch).await;
    for queued in &mut batch {
        if let Some(ticket) = queued.ticket.take() {
            ticket.punch();
        }
    }
    if answered {
        app.tallies.acknowledged.fetch_add(count, Ordering::Relaxed);
        return;
    }
    app.tallies.failed.fetch_add(count, Ordering::Relaxed);
    let attempt = batch.first().map_or(0, |queued| queued.attempt);
    batch.retain_mut(|queued| {
        queued.attempt += 1;
        queued.attempt <= hooks.max_retries
    });
    app.tallies.given_up.fetch_add(count - batch.len() as u64, Ordering::Relaxed);
    if !batch.is_empty() {
        let base = hooks.retry_base_ms.saturating_mul(1 << attempt.min(20)).min(hooks.retry_max_ms);
        later(world, app, batch, base / 2 + world.dice.between(0, base));
    }
}

/// Posts one array; true when the target acknowledged it.
async fn post(world: &World, app: &App, hooks: &WebhookSettings, batch: &[Queued]) -> bool {
    let Some(target) = &hooks.target_url else {
        return true;
    };
    let payloads: Vec<Payload<'_>> = batch.iter().map(|queued| payload(app, queued)).collect();
    let Ok(body) = serde_json::to_vec(&payloads) else {
        return false;
    };
    let Some((host, connect)) = addresses(target, hooks.connect_to.as_deref()) else {
        return false;
    };
    // The target judges the age of a request by its own clock, so this time is the real one.
    let timestamp = real_now().to_string();
    let request = http::Request::post(connect)
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::USER_AGENT, "HubSpot Connect 2.0 (http://dev.hubspot.com/) - Webhooks")
        .header(signature::SIGNATURE, signature::v1(&app.client_secret, &body))
        .header(signature::SIGNATURE_VERSION, "v1")
        .header(signature::SIGNATURE_V3, signature::v3(&app.client_secret, "POST", target, &body, &timestamp))
        .header(signature::TIMESTAMP, timestamp)
        .body(Full::new(Bytes::from(body)));
    let Ok(request) = request else {
        return false;
    };
    let exchange = async {
        let response = world.poster.request(request).await.ok()?;
        let success = response.status().is_success();
        // Read to the end so that the connection can be used again.
        response.into_body().collect().await.ok()?;
        success.then_some(())
    };
    matches!(tokio::time::timeout(Duration::from_millis(hooks.timeout_ms), exchange).await, Ok(Some(())))
}

/// The `Host` header and the URI to connect to.
fn addresses(target: &str, connect_to: Option<&str>) -> Option<(String, http::Uri)> {
    let uri: http::Uri = target.parse().ok()?;
    let host = uri.authority()?.as_str().to_owned();
    let Some(connect_to) = connect_to else {
        return Some((host, uri));
    };
    let mut parts = uri.into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = Some(connect_to.parse().ok()?);
    Some((host, http::Uri::from_parts(parts).ok()?))
}

fn real_now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis())
}

fn payload<'a>(app: &App, queued: &'a Queued) -> Payload<'a> {
    let event = &queued.event;
    let mut out = Payload {
        event_id: queued.event_id,
        subscription_id: queued.subscription,
        portal_id: queued.portal,
        app_id: app.id,
        occurred_at: event.at,
        subscription_type: type_of(&event.what),
        attempt_number: queued.attempt,
        object_id: event.id,
        property_name: None,
        property_value: None,
        change_source: event.source.kind,
        source_id: &event.source.id,
        change_flag: None,
        primary_object_id: None,
        merged_object_ids: None,
        new_object_id: None,
        number_of_properties_moved: None,
    };
    match &event.what {
        What::Created => out.change_flag = Some("CREATED"),
        What::Deleted => out.change_flag = Some("DELETED"),
        What::Restored => out.change_flag = Some("RESTORED"),
        What::PrivacyDeleted => {}
        What::Changed { property, value } => {
            out.property_name = Some(property);
            out.property_value = Some(value);
        }
        What::Merged { primary, merged, new, moved } => {
            out.change_flag = Some("MERGED");
            out.primary_object_id = Some(*primary);
            out.merged_object_ids = Some([*merged]);
            out.new_object_id = Some(*new);
            out.number_of_properties_moved = Some(*moved);
        }
    }
    out
}
