//! Disturbances on demand. Each is ordered at the control API for one account or all, an operation pattern, a
//! probability or a count, and is drawn when a request that it can touch arrives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::operation::Operation;

/// An order for a disturbance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultOrder {
    /// The account, or none for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal_id: Option<u64>,
    /// `*`, `contacts.*`, `contacts.update` …; webhook disturbances do not look at it.
    #[serde(default = "every_operation")]
    pub operation: String,
    /// What happens.
    pub kind: FaultKind,
    /// How likely it is for each request that it can touch, 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How many times it happens at most; none: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// How many requests that it could touch are let through first.
    #[serde(default)]
    pub skip: u32,
}

fn every_operation() -> String {
    "*".to_owned()
}

fn certain() -> f64 {
    1.0
}

impl FaultOrder {
    /// An order for all accounts and operations, certain and without end.
    pub fn new(kind: FaultKind) -> Self {
        Self { portal_id: None, operation: every_operation(), kind, probability: 1.0, count: None, skip: 0 }
    }

    /// Only for this account.
    #[must_use]
    pub fn portal(mut self, portal_id: u64) -> Self {
        self.portal_id = Some(portal_id);
        self
    }

    /// Only for operations of this pattern.
    #[must_use]
    pub fn operation(mut self, pattern: &str) -> Self {
        pattern.clone_into(&mut self.operation);
        self
    }

    /// At most so many times.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }

    /// Let so many requests through first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// With this probability for each request.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// How an automation rewrites a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rewrite {
    /// Digits with a leading `+`, as a phone normaliser makes them.
    PhonePlus,
    /// Upper case.
    Upper,
    /// First letter of each word upper case.
    Title,
    /// Blanks at both ends taken away, and others in a row made one.
    Squeeze,
    /// This text, whatever was there; `{n}` becomes a number that grows.
    Set(String),
}

/// The kinds of disturbance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum FaultKind {
    /// The request waits before it is looked at.
    Latency {
        /// Milliseconds.
        ms: u64,
        /// Up to so many more, at random.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// The request is answered with this status and has no effect (423, 477, 500, 502, 503, 504, 524, 429 …).
    Status {
        /// HTTP status.
        status: u16,
        /// A `Retry-After` header with so many seconds.
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// The request is answered with this status and error of the vendor's own and has no effect (a locked row, a trigger …).
    Refused {
        /// HTTP status.
        status: u16,
        /// The vendor's code.
        code: String,
        /// The vendor's words.
        #[serde(default)]
        message: String,
    },
    /// The connection is closed before the request has any effect.
    ResetBefore,
    /// The request takes effect and the connection is closed without an answer.
    DropAfter,
    /// The request takes effect; the answer comes so late, or never if the client has gone.
    WithholdAfter {
        /// Milliseconds.
        ms: u64,
    },
    /// A read of one record is answered 200 with these bytes, whatever the record is.
    AnswerBody {
        /// The body, byte by byte: it need not be JSON, nor text.
        body: Vec<u8>,
        /// Only when this record is read.
        #[serde(default)]
        object_id: Option<u64>,
    },
    /// The access token that the request carries expires at this moment.
    ExpireToken,
    /// An automation of the account rewrites a property after each write of the record that sets it.
    Automation {
        /// The property.
        property: String,
        /// How.
        rewrite: Rewrite,
        /// Whether the answer to the write already shows the rewritten value.
        #[serde(default)]
        in_response: bool,
    },
    /// A person edits the record right after it has been read.
    PersonEditAfterRead {
        /// What is set; `{n}` in a value becomes a number that grows.
        properties: BTreeMap<String, String>,
        /// Only when this record was read.
        #[serde(default)]
        object_id: Option<u64>,
    },
    /// A person edits other properties of the record inside a write, so that the write's answer shows them.
    PersonEditInWrite {
        /// What is set; `{n}` in a value becomes a number that grows.
        properties: BTreeMap<String, String>,
        /// Only when this record was written.
        #[serde(default)]
        object_id: Option<u64>,
    },
    /// An event is never sent.
    WebhookLost,
    /// An event is sent a second time.
    WebhookDuplicated {
        /// So much later.
        #[serde(default)]
        delay_ms: u64,
    },
    /// An event is sent later.
    WebhookDelayed {
        /// Milliseconds.
        ms: u64,
        /// Up to so many more, at random.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// Events overtake each other inside a window of so many milliseconds.
    WebhookReordered {
        /// Milliseconds.
        window_ms: u64,
    },
}

impl FaultKind {
    /// The names of all kinds, as orders and listings have them.
    pub const NAMES: [&'static str; 15] = [
        "latency",
        "status",
        "refused",
        "resetBefore",
        "dropAfter",
        "withholdAfter",
        "answerBody",
        "expireToken",
        "automation",
        "personEditAfterRead",
        "personEditInWrite",
        "webhookLost",
        "webhookDuplicated",
        "webhookDelayed",
        "webhookReordered",
    ];

    /// Its name, one of [`NAMES`](Self::NAMES).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Status { .. } => "status",
            Self::Refused { .. } => "refused",
            Self::ResetBefore => "resetBefore",
            Self::DropAfter => "dropAfter",
            Self::WithholdAfter { .. } => "withholdAfter",
            Self::AnswerBody { .. } => "answerBody",
            Self::ExpireToken => "expireToken",
            Self::Automation { .. } => "automation",
            Self::PersonEditAfterRead { .. } => "personEditAfterRead",
            Self::PersonEditInWrite { .. } => "personEditInWrite",
            Self::WebhookLost => "webhookLost",
            Self::WebhookDuplicated { .. } => "webhookDuplicated",
            Self::WebhookDelayed { .. } => "webhookDelayed",
            Self::WebhookReordered { .. } => "webhookReordered",
        }
    }

    fn is_webhook(&self) -> bool {
        matches!(
            self,
            Self::WebhookLost
                | Self::WebhookDuplicated { .. }
                | Self::WebhookDelayed { .. }
                | Self::WebhookReordered { .. }
        )
    }

    fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Latency { .. }
                | Self::Status { .. }
                | Self::Refused { .. }
                | Self::ResetBefore
                | Self::DropAfter
                | Self::WithholdAfter { .. }
                | Self::ExpireToken
        )
    }

    fn touches_record(&self, operation: Operation, id: u64) -> bool {
        match self {
            Self::Automation { .. } => operation.writes(),
            Self::PersonEditInWrite { object_id, .. } => {
                operation.writes() && object_id.is_none_or(|only| only == id)
            }
            Self::AnswerBody { object_id, .. } => {
                matches!(
                    operation,
                    Operation::ContactsRead | Operation::PersonsRead | Operation::SalesforceRead
                ) && object_id.is_none_or(|only| only == id)
            }
            Self::PersonEditAfterRead { object_id, .. } => {
                matches!(
                    operation,
                    Operation::ContactsRead
                        | Operation::ContactsBatchRead
                        | Operation::PersonsRead
                        | Operation::SalesforceRead
                ) && object_id.is_none_or(|only| only == id)
            }
            _ => false,
        }
    }
}

/// An order and how often it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultState {
    /// Its number, to withdraw it.
    pub id: u64,
    /// The order.
    pub order: FaultOrder,
    /// How often it happened.
    pub fired: u64,
}

#[derive(Debug)]
struct Entry {
    state: FaultState,
    passed: u32,
}

/// All orders; one list, because a run has few of them. An atomic flag keeps the list off the hot path when empty.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    any: AtomicBool,
    next: AtomicU64,
    list: Mutex<Vec<Entry>>,
}

impl Faults {
    pub(crate) fn add(&self, order: FaultOrder) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.list.lock().push(Entry { state: FaultState { id, order, fired: 0 }, passed: 0 });
        self.any.store(true, Ordering::Release);
        id
    }

    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut list = self.list.lock();
        let before = list.len();
        list.retain(|entry| entry.state.id != id);
        self.any.store(!list.is_empty(), Ordering::Release);
        list.len() != before
    }

    /// Whether anything is ordered at all.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(crate) fn clear(&self) {
        self.list.lock().clear();
        self.any.store(false, Ordering::Release);
    }

    pub(crate) fn all(&self) -> Vec<FaultState> {
        self.list.lock().iter().map(|entry| entry.state.clone()).collect()
    }

    /// The disturbances of one request.
    pub(crate) fn draw(&self, portal_id: Option<u64>, operation: Operation, dice: &Dice) -> Vec<FaultKind> {
        self.draw_where(portal_id, dice, |order| {
            order.kind.is_request() && operation.matches(&order.operation)
        })
    }

    /// What happens to one record that an operation reads or writes.
    pub(crate) fn draw_record(
        &self,
        portal_id: u64,
        operation: Operation,
        object_id: u64,
        dice: &Dice,
    ) -> Vec<FaultKind> {
        self.draw_where(Some(portal_id), dice, |order| {
            operation.matches(&order.operation) && order.kind.touches_record(operation, object_id)
        })
    }

    /// The automations that follow what a person wrote.
    pub(crate) fn draw_automation(
        &self,
        portal_id: u64,
        operation: Operation,
        object_id: u64,
        dice: &Dice,
    ) -> Vec<FaultKind> {
        self.draw_where(Some(portal_id), dice, |order| {
            matches!(order.kind, FaultKind::Automation { .. })
                && operation.matches(&order.operation)
                && order.kind.touches_record(operation, object_id)
        })
    }

    /// The disturbances of one webhook event.
    pub(crate) fn draw_webhook(&self, portal_id: u64, dice: &Dice) -> Vec<FaultKind> {
        self.draw_where(Some(portal_id), dice, |order| order.kind.is_webhook())
    }

    fn draw_where(
        &self,
        portal_id: Option<u64>,
        dice: &Dice,
        fits: impl Fn(&FaultOrder) -> bool,
    ) -> Vec<FaultKind> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut drawn = Vec::new();
        for entry in self.list.lock().iter_mut() {
            let order = &entry.state.order;
            let here = order.portal_id.is_none() || order.portal_id == portal_id;
            let spent = order.count.is_some_and(|count| entry.state.fired >= u64::from(count));
            if !here || spent || !fits(order) {
                continue;
            }
            if entry.passed < order.skip {
                entry.passed += 1;
                continue;
            }
            if dice.chance(order.probability) {
                drawn.push(order.kind.clone());
                entry.state.fired += 1;
            }
        }
        drawn
    }
}

/// Puts a growing number for `{n}`.
pub(crate) fn numbered(template: &str, n: u64) -> String {
    if template.contains("{n}") { template.replace("{n}", &n.to_string()) } else { template.to_owned() }
}

/// Applies a rewrite; the result for the same input is always the same, except for a `Set` with `{n}`.
pub(crate) fn rewrite(how: &Rewrite, value: &str, n: u64) -> String {
    match how {
        Rewrite::PhonePlus => {
            let digits: String = value.chars().filter(char::is_ascii_digit).collect();
            if digits.is_empty() { value.to_owned() } else { format!("+{digits}") }
        }
        Rewrite::Upper => value.to_uppercase(),
        Rewrite::Squeeze => value.split_whitespace().collect::<Vec<_>>().join(" "),
        Rewrite::Title => {
            let mut out = String::with_capacity(value.len());
            let mut start = true;
            for c in value.chars() {
                if start {
                    out.extend(c.to_uppercase());
                } else {
                    out.extend(c.to_lowercase());
                }
                start = c.is_whitespace();
            }
            out
        }
        Rewrite::Set(template) => numbered(template, n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_with_skip_and_count_happens_exactly_so_often_and_only_where_it_fits() {
        let (faults, dice) = (Faults::default(), Dice::new(1));
        faults.add(
            FaultOrder::new(FaultKind::Status { status: 503, retry_after: None })
                .portal(7)
                .operation("contacts.*")
                .after(2)
                .times(3),
        );
        let draw = |portal, operation| faults.draw(Some(portal), operation, &dice).len();
        assert_eq!(draw(8, Operation::ContactsRead), 0);
        assert_eq!(draw(7, Operation::AccountDetails), 0);
        let hits: usize = (0..10).map(|_| draw(7, Operation::ContactsRead)).sum();
        assert_eq!(hits, 3);
    }

    #[test]
    fn every_kind_is_named_as_it_is_ordered() {
        // serde lists the kinds that it knows: one that is missing in the names shows here.
        let unknown = serde_json::from_str::<FaultKind>(r#"{"type":"nothing"}"#).unwrap_err().to_string();
        let known: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert_eq!(known, FaultKind::NAMES);
        for kind in [
            FaultKind::ResetBefore,
            FaultKind::AnswerBody { body: Vec::new(), object_id: None },
            FaultKind::WebhookReordered { window_ms: 1 },
        ] {
            assert_eq!(serde_json::to_value(&kind).unwrap()["type"], kind.name());
        }
    }

    #[test]
    fn a_probability_is_kept_within_reason() {
        let (faults, dice) = (Faults::default(), Dice::new(2));
        faults.add(FaultOrder::new(FaultKind::ResetBefore).probability(0.25));
        let hits: usize = (0..4000).map(|_| faults.draw(None, Operation::ContactsRead, &dice).len()).sum();
        assert!((800..1200).contains(&hits), "{hits}");
    }
}
