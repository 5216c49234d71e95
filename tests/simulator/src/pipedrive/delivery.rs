//! Events of persons on their way to subscriptions: posted with HTTP Basic, tried again after fixed delays.
//!
//! Nothing is signed. A write of one record makes one event for each subscription that it fits; a merge makes two.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::account::Account;
use super::control::PipedriveSettings;
use super::fields::Fields;
use super::hooks::Hook;
use super::person::told_change;
use super::persons::Written;
use crate::clock::iso;
use crate::faults::FaultKind;
use crate::hubspot::webhooks::Timing;
use crate::world::World;

/// Events of an account that are posted at once. Not documented: any sender has some bound.
pub(super) const AT_ONCE: usize = 100;

/// Something that was done to a person.
#[derive(Debug, Clone)]
pub(super) struct Event {
    action: &'static str,
    id: u64,
    data: Value,
    previous: Value,
    source: &'static str,
    user: u64,
    pub(super) bulk: bool,
    /// The members that only a merge has.
    merge: Option<(&'static str, u64)>,
    at: i64,
}

impl Event {
    /// The event of a write; none where nothing changed.
    pub(super) fn of(
        fields: &Fields,
        written: &Written,
        user: u64,
        source: &'static str,
        at: i64,
    ) -> Vec<Self> {
        if !written.changed {
            return Vec::new();
        }
        let after = &written.after;
        let (action, data, previous) = match &written.before {
            None => ("create", after.told(fields).into(), Value::Null),
            Some(before) if after.deleted.is_some() => ("delete", Value::Null, before.told(fields).into()),
            Some(before) => {
                let (data, previous) = told_change(before, after, fields);
                ("change", data, previous)
            }
        };
        vec![Self { action, id: after.id, data, previous, source, user, bulk: false, merge: None, at }]
    }

    /// The two events of a merge: the loser is deleted, the survivor changes.
    pub(super) fn of_merge(
        fields: &Fields,
        (gone, kept): (&Written, &Written),
        user: u64,
        source: &'static str,
        at: i64,
    ) -> Vec<Self> {
        let mut events = Self::of(fields, gone, user, source, at);
        for event in &mut events {
            event.merge = Some(("merged_to_id", kept.after.id));
        }
        for mut event in Self::of(fields, kept, user, source, at) {
            event.merge = Some(("merged_from_id", gone.after.id));
            events.push(event);
        }
        events
    }
}

/// An event for one subscription.
struct Letter {
    hook: Hook,
    url: Option<(String, http::Uri)>,
    meta: Map<String, Value>,
    data: Value,
    previous: Value,
    delay: u64,
}

/// Sends the events of a write as the settings say; what is returned is to be waited for.
pub(super) fn announce(
    world: &Arc<World>,
    account: &Arc<Account>,
    events: Vec<Event>,
) -> Vec<oneshot::Receiver<()>> {
    if events.is_empty() || !account.hooks.lock().any() {
        return Vec::new();
    }
    let settings = account.settings();
    match settings.timing {
        Timing::Before => start(world, account, &settings, events),
        Timing::Parallel => {
            drop(start(world, account, &settings, events));
            Vec::new()
        }
        Timing::After => {
            let (world, account) = (world.clone(), account.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(settings.after_delay_ms)).await;
                drop(start(&world, &account, &settings, events));
            });
            Vec::new()
        }
    }
}

fn start(
    world: &Arc<World>,
    account: &Arc<Account>,
    settings: &PipedriveSettings,
    events: Vec<Event>,
) -> Vec<oneshot::Receiver<()>> {
    let mut letters: Vec<Letter> = Vec::new();
    let correlation = world.dice.uuid().to_string();
    for event in events {
        let told = account.hooks.lock().addressees(event.action, world.clock.now());
        for hook in told {
            for delay in delays(world, account) {
                letters.push(letter(world, account, settings, &event, hook.clone(), &correlation, delay));
            }
        }
    }
    account.hooks.lock().counts.under_way += letters.len() as u64;
    // Each subscription is told in the order of what happened; a slow one holds up no other.
    let mut waits = Vec::new();
    while let Some(first) = letters.first().map(|letter| letter.hook.id) {
        let (mine, others) = letters.into_iter().partition(|letter| letter.hook.id == first);
        letters = others;
        let (done, wait) = oneshot::channel();
        waits.push(wait);
        tokio::spawn(deliver_all(world.clone(), account.clone(), mine, done));
    }
    waits
}

/// After how many milliseconds an event leaves: once, unless it is lost or duplicated by order.
fn delays(world: &World, account: &Account) -> Vec<u64> {
    let (mut delay, mut copies) = (0, Vec::new());
    for fault in world.faults.draw_webhook(account.company, &world.dice) {
        match fault {
            FaultKind::WebhookLost => {
                account.hooks.lock().counts.lost += 1;
                return copies;
            }
            FaultKind::WebhookDuplicated { delay_ms } => copies.push(delay_ms),
            FaultKind::WebhookDelayed { ms, jitter_ms } => delay += ms + world.dice.between(0, jitter_ms),
            FaultKind::WebhookReordered { window_ms } => delay += world.dice.between(0, window_ms),
            _ => {}
        }
    }
    copies.insert(0, delay);
    copies
}

fn letter(
    world: &World,
    account: &Account,
    settings: &PipedriveSettings,
    event: &Event,
    hook: Hook,
    correlation: &str,
    delay: u64,
) -> Letter {
    let id = |number: u64| if settings.text_ids { number.to_string().into() } else { Value::from(number) };
    let kind = if hook.application { "application" } else { "general" };
    let mut meta = Map::new();
    let mut set = |name: &str, value: Value| {
        meta.insert(name.to_owned(), value);
    };
    set("action", event.action.into());
    set("company_id", id(account.company));
    set("correlation_id", correlation.into());
    set("entity_id", id(event.id));
    set("entity", "person".into());
    set("id", world.dice.uuid().to_string().into());
    set("is_bulk_edit", event.bulk.into());
    set("timestamp", iso(event.at).into());
    set("type", kind.into());
    set("user_id", id(event.user));
    set("version", "2.0".into());
    set("webhook_id", id(hook.id));
    set("webhook_owner_id", id(account.user));
    set("change_source", event.source.into());
    set("permitted_user_ids", json!([id(account.user)]));
    set("attempt", 1.into());
    set("host", format!("{}.pipedrive.com", account.domain).into());
    if let Some((name, other)) = event.merge {
        set(name, other.to_string().into());
    }
    let url = addresses(&hook.url, settings.connect_to.as_deref());
    Letter { hook, url, meta, data: event.data.clone(), previous: event.previous.clone(), delay }
}

/// Makes the first attempts in order; what is late or fails goes its own way.
async fn deliver_all(
    world: Arc<World>,
    account: Arc<Account>,
    letters: Vec<Letter>,
    done: oneshot::Sender<()>,
) {
    for mut letter in letters {
        if letter.delay > 0 {
            let (world, account) = (world.clone(), account.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(letter.delay)).await;
                let delivered = attempt(&world, &account, &mut letter, 1).await;
                retry(&world, &account, letter, delivered).await;
            });
            continue;
        }
        let delivered = attempt(&world, &account, &mut letter, 1).await;
        if delivered {
            account.hooks.lock().counts.under_way -= 1;
        } else {
            let (world, account) = (world.clone(), account.clone());
            tokio::spawn(async move { retry(&world, &account, letter, false).await });
        }
    }
    // Nobody waits any more where the writer has gone.
    let _ = done.send(());
}

/// Tries again until it is delivered, given up, or its subscription is gone.
async fn retry(world: &World, account: &Account, mut letter: Letter, mut delivered: bool) {
    let delays = account.settings().retry_delays_ms;
    for (delay, number) in delays.into_iter().zip(2..) {
        if delivered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if !account.hooks.lock().stands(letter.hook.id) {
            break;
        }
        delivered = attempt(world, account, &mut letter, number).await;
    }
    let mut hooks = account.hooks.lock();
    hooks.counts.under_way -= 1;
    if !delivered {
        hooks.counts.given_up += 1;
    }
}

/// Posts once; whether the target took it.
async fn attempt(world: &World, account: &Account, letter: &mut Letter, number: u32) -> bool {
    // The target's time begins when its turn has come.
    let _turn = account.posting.acquire().await;
    letter.meta.insert("attempt".into(), number.into());
    let body = json!({ "data": letter.data, "previous": letter.previous, "meta": letter.meta });
    let limit = Duration::from_millis(account.settings().timeout_ms);
    let status = match &letter.url {
        None => None,
        Some((host, uri)) => {
            let posted = post(world, host, uri, &letter.hook, body.to_string());
            tokio::time::timeout(limit, posted).await.ok().flatten()
        }
    };
    account.hooks.lock().judge(letter.hook.id, number, status, world.clock.now())
}

async fn post(world: &World, host: &str, uri: &http::Uri, hook: &Hook, body: String) -> Option<u16> {
    let mut request = http::Request::post(uri)
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::USER_AGENT, "Pipedrive Webhooks");
    if let Some((name, password)) = &hook.auth {
        let shown = STANDARD.encode(format!("{name}:{password}"));
        request = request.header(http::header::AUTHORIZATION, format!("Basic {shown}"));
    }
    let request = request.body(Full::new(Bytes::from(body))).ok()?;
    let response = world.poster.request(request).await.ok()?;
    let status = response.status().as_u16();
    // Read to the end so that the connection can be used again.
    response.into_body().collect().await.ok()?;
    Some(status)
}

/// The `Host` header and the URI to connect to. None: it cannot be reached from here.
fn addresses(target: &str, connect_to: Option<&str>) -> Option<(String, http::Uri)> {
    let uri: http::Uri = target.parse().ok()?;
    let host = uri.authority()?.as_str().to_owned();
    let Some(connect_to) = connect_to else {
        return (uri.scheme() == Some(&http::uri::Scheme::HTTP)).then_some((host, uri));
    };
    let mut parts = uri.into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = Some(connect_to.parse().ok()?);
    Some((host, http::Uri::from_parts(parts).ok()?))
}
