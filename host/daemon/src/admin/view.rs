//! The shapes that the admin API speaks, as JSON: made by the daemon, read by the command line.
//!
//! Times are milliseconds since 1970, durations milliseconds. New members may be added; readers ignore what they do not know.

mod review;
mod story;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tandem_core::Millis;
use tandem_core::exchange::Problem;
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, InternalId, ObjectName, ProviderId, ScopeId};
use tandem_core::link::{Fields, Life, Link};

pub use review::{DecidedMany, ReviewView, WriteView, seen};
pub use story::{HistoryView, PastView};

use crate::store::{Backlog, Call, DeadLetter, Hint, Intent, Subject};
pub use crate::store::{Exchanged, Extent, Noticed, Origin, Sight};

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// When it was started.
    pub started_at: Millis,
    /// Everything is paused, whatever the connections say.
    pub paused: Paused,
    /// SIGTERM was received or a shutdown asked for.
    pub draining: bool,
    /// In order of name.
    pub connections: Vec<ConnectionStatus>,
}

/// Which directions are paused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Nothing is written to the CRM.
    pub to_external: bool,
    /// Nothing is written to System A.
    pub to_internal: bool,
}

/// One connection in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Its name.
    pub connection: ConnectionId,
    /// Provider id, version and digest prefix. None: its provider or its file cannot be used.
    pub provider: Option<String>,
    /// The part of System A that it serves. None: its file cannot be used.
    pub scope: Option<ScopeId>,
    /// Whether it works.
    pub state: ConnectionState,
    /// Which directions are paused.
    pub paused: Paused,
    /// Age of its oldest undone hint. None: everything is done.
    pub freshness_ms: Option<u64>,
    /// Hints that are ready.
    pub waiting: u64,
    /// Hints that wait for their time.
    pub delayed: u64,
    /// The record that was worked on last since the daemon was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<EntityKey>,
    /// Field groups and fields that wait for a person.
    pub review: u64,
    /// Records that are set aside.
    pub dead: u64,
    /// Writes that wait for approval.
    #[serde(default)]
    pub withheld: u64,
    /// Why the oldest undone hint is not done, or why nothing can be.
    pub cause: Cause,
    /// The cause in words, with the way out. Empty when there is none.
    pub detail: String,
}

/// Whether a connection works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// It works, or would if there were something to do.
    Running,
    /// Both directions are paused.
    Paused,
    /// It waits for something that passes: a quota, a breaker.
    Waiting,
    /// Somebody has to act: authorisation, a wrong file, a provider that is not there.
    Stopped,
}

/// Why work is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing holds it up.
    #[default]
    None,
    /// A quota of the CRM is used up.
    Quota,
    /// The CRM or the component failed too often in a row; it is tried again later.
    Breaker,
    /// The CRM does not accept our credentials.
    Authorisation,
    /// A person has to decide.
    Review,
    /// The guard stopped deletions or rewrites: a person has to approve of them.
    Guard,
    /// The provider's component fails.
    Fault,
    /// It is paused.
    Paused,
    /// Its file or its provider cannot be used.
    Configuration,
}

impl Cause {
    /// The cause's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quota => "quota",
            Self::Breaker => "breaker",
            Self::Authorisation => "authorisation",
            Self::Review => "review",
            Self::Guard => "guard",
            Self::Fault => "fault",
            Self::Paused => "paused",
            Self::Configuration => "configuration",
        }
    }
}

/// `GET /v1/explain`: everything that is known of one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The internal record. None: only an external record is known, and it is not linked.
    pub entity: Option<EntityKey>,
    /// What System A says of it now.
    pub internal: Option<InternalView>,
    /// Its links, one for each connection.
    pub links: Vec<LinkView>,
    /// Creates that are under way.
    pub intents: Vec<IntentView>,
    /// Hints that wait, as far as they are known to be about this record.
    pub hints: Vec<HintView>,
    /// Records of it that are set aside.
    pub dead: Vec<DeadView>,
    /// What happened, newest first. When a moment was asked for, up to it; when a field was, what concerns it.
    pub history: Vec<HistoryView>,
    /// The moment that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
    /// What was known at that moment, link by link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<PastView>,
}

/// What System A says of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InternalView {
    /// Its version.
    pub version: u64,
    /// When it was last changed.
    pub changed_at: Millis,
    /// The canonical document. None: deleted.
    pub document: Option<Value>,
}

/// One link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkView {
    /// The connection.
    pub connection: ConnectionId,
    /// The CRM's record. None: not created yet.
    pub external: Option<ExternalId>,
    /// "active", "deleted", "detached" or "lapsed".
    pub life: String,
    /// Counts re-creations after deletion.
    pub incarnation: u32,
    /// Version of the internal record that was last seen.
    pub internal_version: Option<u64>,
    /// Version of the external record that was last seen.
    pub external_version: Option<String>,
    /// Stamp of the external record that was last seen.
    pub external_stamp: Option<u64>,
    /// When the link was last committed.
    pub committed_at: Millis,
    /// What both sides had when they last agreed, by field.
    pub base: BTreeMap<String, PairView>,
    /// Field groups that wait for a person.
    pub held: BTreeMap<String, HeldView>,
    /// Fields that went back and forth too often, and why.
    pub frozen: BTreeMap<String, String>,
    /// Fields that the CRM refused and that are left out until they change.
    pub refused: Vec<String>,
    /// References whose target is not linked yet.
    pub owed: Vec<String>,
}

/// Both halves of a field's base. A missing half is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairView {
    /// System A's value.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub internal: Option<Value>,
    /// The CRM's value, in canonical form.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub external: Option<Value>,
    /// The CRM's value is what was sent; it has not been seen since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

/// Keeps `null` and absent apart: a present member is always `Some`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A held field group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldView {
    /// Its fields.
    pub fields: Vec<String>,
    /// What System A has.
    pub internal: Fields,
    /// What the CRM has.
    pub external: Fields,
    /// Since when.
    pub since: Millis,
    /// Why, in words.
    pub why: String,
}

/// A write that is under way, or whose outcome is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntentView {
    /// Where.
    pub connection: ConnectionId,
    /// "create" or "update".
    pub call: String,
    /// When it was written down.
    pub opened_at: Millis,
    /// The answer was lost at this moment: it may have taken effect.
    pub unknown_since: Option<Millis>,
}

/// A hint that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HintView {
    /// Its number.
    pub seq: u64,
    /// Whose work it is.
    pub connection: ConnectionId,
    /// "live", "retry" and so on.
    pub class: String,
    /// What brought it about.
    pub cause: String,
    /// When it was first noticed.
    pub noticed_at: Millis,
    /// Not before this moment. 0: at once.
    pub due: Millis,
    /// How often it was tried in vain.
    pub attempts: u32,
}

/// A record that was set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadView {
    /// Its number, for `show`, `replay` and `drop`.
    pub seq: u64,
    /// Whose work it was.
    pub connection: ConnectionId,
    /// The canonical object. Empty for a webhook that could not be read.
    pub object: ObjectName,
    /// The internal record, as far as it is known.
    pub internal: Option<InternalId>,
    /// The CRM's record, as far as it is known.
    pub external: Option<ExternalId>,
    /// When it was set aside, the last time.
    pub at: Millis,
    /// When it was set aside for the first time, without a success since.
    #[serde(default)]
    pub first_at: Millis,
    /// How often it was set aside since then.
    #[serde(default = "once")]
    pub count: u64,
    /// Where it failed.
    pub point: String,
    /// What was wrong.
    pub problems: Vec<Problem>,
    /// Provider id, version and digest prefix.
    pub provider: String,
    /// What brought it about.
    pub cause: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What the webhook or row said; only in `GET /v1/dead/{seq}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Value>,
}

/// A daemon that does not count says it once.
fn once() -> u64 {
    1
}

/// A write that waits for approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WithheldView {
    /// What was stopped together has one number.
    pub batch: u64,
    /// The internal record.
    pub entity: EntityKey,
    /// The connection.
    pub connection: ConnectionId,
    /// The CRM's record.
    pub external: Option<ExternalId>,
    /// "delete" or "rewrite" (fields that nobody edited).
    pub kind: String,
    /// The sides that would be written: "internal", "external".
    pub sides: Vec<String>,
    /// Since when it waits.
    pub since: Millis,
    /// What brought it about.
    pub cause: String,
    /// Why it would be written, in words.
    pub why: String,
    /// What a rewrite would change.
    pub changes: Vec<ChangeView>,
}

/// One field that would be changed on one side. A missing value: the field has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// "internal" or "external".
    pub side: String,
    /// The field.
    pub field: String,
    /// What the side had when both last agreed.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it would have.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// A deletion that was carried out and can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptView {
    /// What was deleted together has one number.
    pub batch: u64,
    /// The internal record.
    pub entity: EntityKey,
    /// The connection over which it was carried.
    pub connection: ConnectionId,
    /// The CRM's record.
    pub external: Option<ExternalId>,
    /// The side that was written: "internal" or "external"; the other one had deleted it.
    pub side: String,
    /// When.
    pub at: Millis,
    /// Why, in words.
    pub why: String,
}

/// The proof of an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureView {
    /// The internal record.
    pub entity: EntityKey,
    /// Each place that was looked at.
    pub places: Vec<PlaceView>,
    /// What is out of reach, in words.
    pub remains: Vec<String>,
    /// Everything is gone. Otherwise the rest is tried again until it is.
    pub done: bool,
}

/// One place of an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceView {
    /// Which place.
    pub place: String,
    /// What was there, and what became of it.
    pub what: String,
    /// It was looked for afterwards, and is gone.
    pub gone: bool,
}

/// What became of undoing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undone {
    /// Records that are back in System A; from there they go to the CRMs.
    pub count: u64,
    /// Records that did not come back, and why.
    pub not: Vec<String>,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderView {
    /// Its id.
    pub provider: ProviderId,
    /// Id, version and digest prefix. None: it could not be loaded.
    pub label: Option<String>,
    /// The component's file.
    pub file: String,
    /// Connections that use it.
    pub connections: u64,
    /// What is the matter with it.
    pub state: ProviderState,
    /// What served before: `provider rollback` goes back to it.
    #[serde(default)]
    pub previous: Option<String>,
    /// Connections that stay on another version, and why.
    #[serde(default)]
    pub behind: BTreeMap<ConnectionId, String>,
    /// What is wrong with it. Empty: nothing.
    pub detail: String,
}

/// How it stands with a provider, or with a file that may become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderState {
    /// It serves.
    Serving,
    /// It serves, and no other file is taken.
    Pinned,
    /// Its file was removed.
    Disabled,
    /// The file is not whole yet.
    Waiting,
    /// The file is whole, and not taken for another reason.
    Held,
    /// It failed a step of admission.
    Refused,
}

impl std::fmt::Display for ProviderState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Pinned => "pinned",
            Self::Disabled => "disabled",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Refused => "refused",
        })
    }
}

/// A version took the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// The provider.
    pub provider: ProviderId,
    /// What served before. None: nothing did.
    pub from: Option<String>,
    /// What serves now.
    pub to: String,
    /// Connections that moved.
    pub moved: u64,
    /// Connections that stay on the version that they had, and why.
    pub behind: BTreeMap<ConnectionId, String>,
    /// Connections with work that began before and has not ended yet: it ends on the version before.
    pub finishing: u64,
    /// Milliseconds from the beginning of the trial until what had begun before had ended.
    pub took_ms: u64,
}

/// What became of the folder of providers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvidersReloaded {
    /// Versions that serve now.
    pub swapped: Vec<Swapped>,
    /// Providers whose files are back.
    pub enabled: Vec<ProviderId>,
    /// Providers whose files are gone: their connections stop and keep their queues.
    pub disabled: Vec<ProviderId>,
    /// Files that are not whole yet, one line each.
    pub waiting: Vec<String>,
    /// Files that were refused, one line each. What served goes on.
    pub refused: Vec<String>,
}

/// What a connection's CRM said when it was asked without writing (`tandem check --live`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The connection.
    pub connection: ConnectionId,
    /// What was asked, in order. What comes after the first failure may be missing.
    pub steps: Vec<ProbeStep>,
}

/// One thing that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStep {
    /// "credentials", "fields", "read", "quota"; with the object's name where it is about one: "fields contact".
    pub what: String,
    /// The answer is what the connection needs.
    pub ok: bool,
    /// The answer in words (`180 of 190 calls left`), or what is wrong and the way out. Without record contents.
    pub detail: String,
}

/// What a command set in motion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many records or connections it concerns.
    pub count: u64,
}

/// What became of the connections' files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Newly read.
    pub added: Vec<ConnectionId>,
    /// Read again because they changed.
    pub changed: Vec<ConnectionId>,
    /// No longer there.
    pub removed: Vec<ConnectionId>,
    /// Wrong, with what is wrong. They stay as they were.
    pub refused: BTreeMap<ConnectionId, Vec<String>>,
}

// === From the store's words ===

impl ConnectionStatus {
    /// Takes the numbers of a backlog over.
    pub fn count(&mut self, backlog: &Backlog, now: Millis) {
        self.waiting = backlog.ready;
        self.delayed = backlog.delayed;
        self.freshness_ms = backlog.oldest.map(|oldest| now.saturating_sub(oldest));
    }
}

impl From<&tandem_core::link::Pair> for PairView {
    fn from(pair: &tandem_core::link::Pair) -> Self {
        Self { internal: pair.internal.clone(), external: pair.external.clone(), assumed: pair.assumed }
    }
}

impl From<&tandem_core::link::Held> for HeldView {
    fn from(held: &tandem_core::link::Held) -> Self {
        Self {
            fields: held.fields.iter().cloned().collect(),
            internal: held.internal.clone(),
            external: held.external.clone(),
            since: held.since,
            why: held.why.clone(),
        }
    }
}

impl From<&Link> for LinkView {
    fn from(link: &Link) -> Self {
        let life = match link.life {
            Life::Active => "active",
            Life::Tombstone { .. } => "deleted",
            Life::Detached { .. } => "detached",
            Life::Lapsed { .. } => "lapsed",
        };
        Self {
            connection: link.connection.clone(),
            external: link.external.clone(),
            life: life.to_owned(),
            incarnation: link.incarnation,
            internal_version: link.internal_version,
            external_version: link.external_version.clone(),
            external_stamp: link.external_stamp,
            committed_at: link.committed_at,
            base: link.base.iter().map(|(field, pair)| (field.clone(), pair.into())).collect(),
            held: link.held.iter().map(|(group, held)| (group.clone(), held.into())).collect(),
            frozen: link.frozen.clone(),
            refused: link.refused.keys().cloned().collect(),
            owed: link.owed.iter().cloned().collect(),
        }
    }
}

impl From<&Intent> for IntentView {
    fn from(intent: &Intent) -> Self {
        Self {
            connection: intent.connection.clone(),
            call: match &intent.call {
                Call::Create { .. } => "create".to_owned(),
                Call::Update { .. } => "update".to_owned(),
            },
            opened_at: intent.opened_at,
            unknown_since: match &intent.call {
                Call::Create { unknown_since, .. } => *unknown_since,
                Call::Update { .. } => None,
            },
        }
    }
}

impl From<&Hint> for HintView {
    fn from(hint: &Hint) -> Self {
        Self {
            seq: hint.seq,
            connection: hint.connection.clone(),
            class: hint.class.name().to_owned(),
            cause: hint.cause.clone(),
            noticed_at: hint.noticed_at,
            due: hint.due,
            attempts: hint.attempts,
        }
    }
}

impl From<&DeadLetter> for DeadView {
    fn from(letter: &DeadLetter) -> Self {
        let internal = match &letter.hint.subject {
            Subject::Internal(id) => Some(id.clone()),
            Subject::External(_) | Subject::Delivery(_) => None,
        };
        Self {
            seq: letter.seq,
            connection: letter.hint.connection.clone(),
            object: letter.hint.object.clone(),
            internal: internal.or_else(|| letter.entity.as_ref().map(|entity| entity.id.clone())),
            external: letter.external.clone(),
            at: letter.at,
            first_at: letter.first_at,
            count: letter.count,
            point: letter.point.clone(),
            problems: letter.problems.clone(),
            provider: letter.provider.clone(),
            cause: letter.hint.cause.clone(),
            attempts: letter.hint.attempts,
            observed: None,
        }
    }
}

impl DeadView {
    /// With what the webhook or row said.
    #[must_use]
    pub fn in_full(letter: &DeadLetter) -> Self {
        let observed = letter.hint.observed.as_ref().and_then(|observed| match &observed.state {
            tandem_core::exchange::State::Whole(json) | tandem_core::exchange::State::Partial(json) => {
                Some(serde_json::from_slice(json).unwrap_or_else(|_| String::from_utf8_lossy(json).into()))
            }
            _ => None,
        });
        Self { observed, ..Self::from(letter) }
    }
}
