//! Outbound messages: SOAP envelopes that tell of created and edited contacts, repeated until they are acknowledged.
//!
//! A process of the org's own sends them, so a message may arrive before the answer to the write or long after. It takes up to a hundred
//! notifications at a time and shows each record as it is when it is sent, not as it was when it was queued. What is not acknowledged
//! waits on its own and overtakes or is overtaken. Deletions are not told of. Nothing is signed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::contact::Contact;
use super::fields::FieldKind;
use super::ids;
use super::org::Org;
use super::values::soap_time;
use crate::faults::FaultKind;
use crate::world::World;

/// What is told, and to whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// Where messages are posted to, `http://…`; none: nowhere.
    pub target_url: Option<String>,
    /// Connect here (`127.0.0.1:8080`, plain HTTP) instead of to the host of the target: a proxy in between.
    pub connect_to: Option<String>,
    /// The fields that are shown, besides the id.
    pub fields: Vec<String>,
    /// Each message has the id of a session.
    pub include_session: bool,
    /// The user of the API does not send messages, so that its own writes are not told of.
    pub mute_api_user: bool,
    /// How long after a write it is told of, in milliseconds.
    pub delay_ms: u64,
    /// Notifications in one message at most; Salesforce sends up to 100.
    pub max_batch: usize,
    /// How long a target may take to answer, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts after the first. Real: for twenty-four hours.
    pub max_retries: u32,
    /// Milliseconds before the first retry; doubles each time. Real: from seconds to two hours.
    pub retry_base_ms: u64,
    /// Milliseconds before a retry at most.
    pub retry_max_ms: u64,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        let fields = ["FirstName", "LastName", "Email", "LastModifiedById", "SystemModstamp"];
        Self {
            target_url: None,
            connect_to: None,
            fields: fields.into_iter().map(str::to_owned).collect(),
            include_session: false,
            mute_api_user: false,
            delay_ms: 0,
            max_batch: 100,
            timeout_ms: 5_000,
            max_retries: 10,
            retry_base_ms: 200,
            retry_max_ms: 10_000,
        }
    }
}

/// Counters of an org's messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundCounts {
    /// Notifications that were to be sent.
    pub notifications: u64,
    /// Messages posted.
    pub messages: u64,
    /// Notifications acknowledged.
    pub acknowledged: u64,
    /// Notifications of attempts that failed.
    pub failed: u64,
    /// Notifications given up after the last retry.
    pub given_up: u64,
    /// Notifications lost by order.
    pub lost: u64,
    /// Notifications sent twice by order.
    pub duplicated: u64,
    /// Notifications that are neither acknowledged nor given up.
    pub under_way: u64,
}

#[derive(Debug, Clone, Copy)]
struct Notification {
    number: u64,
    contact: u64,
    attempt: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<(VecDeque<Notification>, bool)>,
    next: AtomicU64,
    messages: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    under_way: AtomicU64,
}

impl Outbox {
    pub(crate) fn counts(&self) -> OutboundCounts {
        let read = |tally: &AtomicU64| tally.load(Ordering::SeqCst);
        OutboundCounts {
            notifications: read(&self.next),
            messages: read(&self.messages),
            acknowledged: read(&self.acknowledged),
            failed: read(&self.failed),
            given_up: read(&self.given_up),
            lost: read(&self.lost),
            duplicated: read(&self.duplicated),
            under_way: read(&self.under_way),
        }
    }
}

/// Tells of contacts that were created or edited.
pub(crate) fn tell(world: &Arc<World>, org: &Arc<Org>, contacts: &[u64], by_api: bool) {
    let settings = org.outbound.read().clone();
    if settings.target_url.is_none() || by_api && settings.mute_api_user {
        return;
    }
    for contact in contacts {
        let number = org.outbox.next.fetch_add(1, Ordering::SeqCst) + 1;
        let notification = Notification { number, contact: *contact, attempt: 0 };
        let (mut delay, mut lost) = (settings.delay_ms, false);
        for fault in world.faults.draw_webhook(org.number, &world.dice) {
            match fault {
                FaultKind::WebhookLost => lost = true,
                FaultKind::WebhookDuplicated { delay_ms } => {
                    org.outbox.duplicated.fetch_add(1, Ordering::SeqCst);
                    later(world, org, vec![notification], settings.delay_ms + delay_ms);
                }
                FaultKind::WebhookDelayed { ms, jitter_ms } => delay += ms + world.dice.between(0, jitter_ms),
                FaultKind::WebhookReordered { window_ms } => delay += world.dice.between(0, window_ms),
                _ => {}
            }
        }
        if lost {
            org.outbox.lost.fetch_add(1, Ordering::SeqCst);
        } else {
            later(world, org, vec![notification], delay);
        }
    }
}

fn later(world: &Arc<World>, org: &Arc<Org>, notifications: Vec<Notification>, delay_ms: u64) {
    org.outbox.under_way.fetch_add(notifications.len() as u64, Ordering::SeqCst);
    if delay_ms == 0 {
        enqueue(world, org, notifications);
        return;
    }
    let (world, org) = (world.clone(), org.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        enqueue(&world, &org, notifications);
    });
}

fn enqueue(world: &Arc<World>, org: &Arc<Org>, notifications: Vec<Notification>) {
    let start = {
        let mut queue = org.outbox.queue.lock();
        queue.0.extend(notifications);
        !std::mem::replace(&mut queue.1, true)
    };
    if start {
        tokio::spawn(work(world.clone(), org.clone()));
    }
}

/// Sends until the queue is empty.
async fn work(world: Arc<World>, org: Arc<Org>) {
    loop {
        let settings = org.outbound.read().clone();
        let batch: Vec<Notification> = {
            let mut queue = org.outbox.queue.lock();
            let size = queue.0.len().min(settings.max_batch.clamp(1, 100));
            if size == 0 {
                queue.1 = false;
                return;
            }
            queue.0.drain(..size).collect()
        };
        let count = batch.len() as u64;
        org.outbox.messages.fetch_add(1, Ordering::SeqCst);
        if post(&world, &org, &settings, &batch).await {
            org.outbox.acknowledged.fetch_add(count, Ordering::SeqCst);
        } else {
            org.outbox.failed.fetch_add(count, Ordering::SeqCst);
            for mut notification in batch {
                notification.attempt += 1;
                if notification.attempt > settings.max_retries {
                    org.outbox.given_up.fetch_add(1, Ordering::SeqCst);
                } else {
                    let base = settings.retry_base_ms.saturating_mul(1 << (notification.attempt - 1).min(20));
                    let base = base.min(settings.retry_max_ms);
                    later(&world, &org, vec![notification], base / 2 + world.dice.between(0, base / 2));
                }
            }
        }
        org.outbox.under_way.fetch_sub(count, Ordering::SeqCst);
    }
}

/// Posts a message; whether it was acknowledged.
async fn post(world: &World, org: &Arc<Org>, settings: &OutboundSettings, batch: &[Notification]) -> bool {
    let Some(target) = settings.target_url.as_deref().and_then(|url| url.parse::<http::Uri>().ok()) else {
        return false;
    };
    let session =
        settings.include_session.then(|| world.salesforce.issue(&world.dice, org, world.clock.now()));
    let envelope = envelope(world, org, settings, session.as_deref(), batch);
    let host = target.authority().map(ToString::to_string).unwrap_or_default();
    let uri = match &settings.connect_to {
        None => target.to_string(),
        Some(connect) => {
            format!(
                "http://{connect}{}",
                target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
            )
        }
    };
    let request = http::Request::post(uri)
        .header(http::header::HOST, host)
        .header(http::header::CONTENT_TYPE, "text/xml; charset=utf-8")
        .header("soapaction", "\"\"")
        .body(Full::new(Bytes::from(envelope)));
    let Ok(request) = request else { return false };
    let answered = async {
        let response = world.poster.request(request).await.ok()?;
        let success = response.status().is_success();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(success && acknowledges(&String::from_utf8_lossy(&body)))
    };
    let bound = Duration::from_millis(settings.timeout_ms);
    tokio::time::timeout(bound, answered).await.ok().flatten().unwrap_or(false)
}

/// Whether a body is an envelope with a `notificationsResponse` whose `Ack` is true, whatever its prefixes.
fn acknowledges(body: &str) -> bool {
    let element = |name: &str| {
        body.match_indices('<').find_map(|(at, _)| {
            let rest = body.get(at + 1..)?;
            let (tag, after) = rest.split_once('>')?;
            let named = tag.split_whitespace().next()?;
            (named.rsplit(':').next() == Some(name)).then_some(after)
        })
    };
    element("Envelope").is_some()
        && element("notificationsResponse").is_some()
        && element("Ack")
            .and_then(|after| after.split('<').next())
            .is_some_and(|text| matches!(text.trim(), "true" | "1"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn envelope(
    world: &World,
    org: &Org,
    settings: &OutboundSettings,
    session: Option<&str>,
    batch: &[Notification],
) -> String {
    let instance = org.instance(world.api_url());
    let short = org.id.get(..15).unwrap_or_default();
    let session = match session {
        Some(session) => format!("<SessionId>{}</SessionId>", escaped(session)),
        None => "<SessionId xsi:nil=\"true\"/>".to_owned(),
    };
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n\
         <soapenv:Body>\n\
         <notifications xmlns=\"http://soap.sforce.com/2005/09/outbound\">\n\
         <OrganizationId>{}</OrganizationId>\n\
         <ActionId>{}</ActionId>\n\
         {session}\n\
         <EnterpriseUrl>{instance}/services/Soap/c/60.0/{short}</EnterpriseUrl>\n\
         <PartnerUrl>{instance}/services/Soap/u/60.0/{short}</PartnerUrl>\n",
        org.id,
        ids::id(ids::ACTION, 1),
    );
    let contacts = org.contacts.lock();
    for notification in batch {
        // Writing to a text does not fail.
        let _ = write!(
            out,
            "<Notification>\n\
             <Id>{}</Id>\n\
             <sObject xsi:type=\"sf:Contact\" xmlns:sf=\"urn:sobject.enterprise.soap.sforce.com\">\n\
             <sf:Id>{}</sf:Id>\n",
            ids::id(ids::NOTIFICATION, notification.number),
            ids::id(ids::CONTACT, notification.contact),
        );
        // What was deleted in the meantime has no values any more.
        if let Some(contact) = contacts.records.get(&notification.contact).filter(|contact| contact.live()) {
            for name in &settings.fields {
                let Some(field) = contacts.schema.find(name).filter(|field| &*field.name != "Id") else {
                    continue;
                };
                if let Some(text) = soap_value(contact, field) {
                    let _ = writeln!(out, "<sf:{0}>{1}</sf:{0}>", field.name, escaped(&text));
                }
            }
        }
        out.push_str("</sObject>\n</Notification>\n");
    }
    out.push_str("</notifications>\n</soapenv:Body>\n</soapenv:Envelope>\n");
    out
}

/// A value as the envelope has it. None: nulls are left out.
fn soap_value(contact: &Contact, field: &super::fields::Field) -> Option<String> {
    match contact.raw(field) {
        Value::Null | Value::Object(_) | Value::Array(_) => None,
        Value::Number(ms) if field.kind == FieldKind::DateTime => ms.as_i64().map(soap_time),
        Value::String(text) => Some(text),
        value => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_envelope_with_a_true_ack_acknowledges() {
        let answer = |ack: &str| {
            format!(
                "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\
                 <soapenv:Body><notificationsResponse xmlns=\"http://soap.sforce.com/2005/09/outbound\">\
                 <Ack>{ack}</Ack></notificationsResponse></soapenv:Body></soapenv:Envelope>"
            )
        };
        assert!(acknowledges(&answer("true")));
        assert!(acknowledges(
            &answer("true")
                .replace("<Ack", "<out:Ack")
                .replace("<notificationsResponse", "<out:notificationsResponse")
        ));
        for body in
            [answer("false"), answer(""), "<Ack>true</Ack>".to_owned(), "true".to_owned(), String::new()]
        {
            assert!(!acknowledges(&body), "{body}");
        }
    }
}
