//! The planner: from what both sides had when they last agreed and what they have now, to what is written next.
//!
//! Pure. At most one write for each side, the next base, conflicts, and the reason in words.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::exchange::Proof;
use crate::id::ExternalId;
use crate::link::{Fields, Link};
use crate::policy::ObjectPolicy;

/// What System A has.
#[derive(Clone, Debug, PartialEq)]
pub enum Internal {
    /// There was never such a record.
    Absent,
    /// It is there.
    Present {
        /// Its fields.
        fields: Fields,
        /// Its version: greater is newer.
        version: u64,
        /// When it was last changed, on System A's clock.
        changed_at: Option<Millis>,
    },
    /// It was deleted.
    Deleted {
        /// The version of the deletion.
        version: u64,
        /// When, on System A's clock.
        changed_at: Option<Millis>,
    },
}

/// How an external document was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A direct read of the record, begun at this moment.
    Read {
        /// When the request was sent.
        began: Millis,
    },
    /// The answer to our own write.
    Answer,
    /// A row of a listing.
    Listing {
        /// When the request was sent.
        began: Millis,
        /// The descriptor calls the listing consistent.
        consistent: bool,
    },
    /// A webhook.
    Event,
}

/// What is known of the CRM's record.
#[derive(Clone, Debug, PartialEq)]
pub enum External {
    /// Nobody looked: the base is believed.
    Unseen,
    /// Something happened to it; nothing else is known.
    Touched,
    /// A few fields. May dismiss a hint, never cause a write.
    Partial {
        /// The fields that were said.
        fields: Fields,
        /// Its stamp, if the event had one.
        stamp: Option<u64>,
    },
    /// All mapped fields.
    Whole {
        /// The CRM's id.
        id: ExternalId,
        /// The fields.
        fields: Fields,
        /// Equality only.
        version: Option<String>,
        /// Order.
        stamp: Option<u64>,
        /// How it was come by.
        source: Source,
        /// When fields were last changed, on the CRM's clock, where it tells.
        changed_at: std::collections::BTreeMap<String, Millis>,
    },
    /// It is gone.
    Gone {
        /// How sure that is.
        proof: Proof,
        /// When it was looked for.
        at: Millis,
    },
    /// It lives on under another id.
    Moved {
        /// The id.
        to: ExternalId,
    },
}

/// What is written to System A.
#[derive(Clone, Debug, PartialEq)]
pub enum InternalWrite {
    /// A new record; the id is the entity's.
    Create {
        /// The whole record.
        fields: Fields,
    },
    /// Some fields of a record.
    Update {
        /// The version that was read.
        expected: u64,
        /// The whole record afterwards.
        fields: Fields,
        /// The fields that change; one that is missing in `fields` is removed.
        changed: BTreeSet<String>,
    },
    /// The record is deleted.
    Delete {
        /// The version that was read.
        expected: u64,
    },
}

/// What is written to the CRM.
#[derive(Clone, Debug, PartialEq)]
pub enum ExternalWrite {
    /// A new record.
    Create {
        /// The whole record.
        fields: Fields,
    },
    /// Some fields of a record.
    Update {
        /// The whole record afterwards, as far as it is known.
        fields: Fields,
        /// The fields that change; one that is missing in `fields` is cleared.
        changed: BTreeSet<String>,
        /// The precondition, for CRMs that have one.
        version: Option<String>,
        /// The precondition, for CRMs that have one.
        stamp: Option<u64>,
    },
    /// The record is deleted or archived.
    Remove {
        /// The precondition, for CRMs that have one.
        version: Option<String>,
        /// The precondition, for CRMs that have one.
        stamp: Option<u64>,
    },
}

/// What has to be known before anything can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read the external record directly.
    ReadExternal,
    /// Read it again, not before this moment: its absence is not confirmed.
    ReadExternalAt(Millis),
    /// Read the internal record again.
    ReadInternal,
}

/// A conflict that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conflict {
    /// The group's name.
    pub group: String,
    /// Its fields.
    pub fields: BTreeSet<String>,
    /// What became of it.
    pub ruling: Verdict,
    /// Why, in words.
    pub why: String,
}

/// What became of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// System A's values win.
    Internal,
    /// The CRM's values win.
    External,
    /// Held for a person.
    Review,
}

/// What is to be done about one link.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The link as it stands without any write: what was agreed, held, frozen or dropped.
    pub link: Link,
    /// What is written to System A.
    pub internal: Option<InternalWrite>,
    /// What is written to the CRM.
    pub external: Option<ExternalWrite>,
    /// What has to be known first. Then nothing is written.
    pub ask: Option<Ask>,
    /// Conflicts that were found.
    pub conflicts: Vec<Conflict>,
    /// Why, in words, without record contents.
    pub reason: String,
}

/// Decides what is written next.
#[must_use]
pub fn plan(
    link: &Link,
    internal: &Internal,
    external: &External,
    policy: &ObjectPolicy,
    now: Millis,
) -> Plan {
    let _ = (internal, external, policy, now);
    Plan {
        link: link.clone(),
        internal: None,
        external: None,
        ask: None,
        conflicts: Vec::new(),
        reason: String::new(),
    }
}

/// What the CRM said to a write.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalWritten {
    /// The CRM's id.
    pub id: ExternalId,
    /// What it returned, if it returned the record.
    pub fields: Option<Fields>,
    /// Fields that it did not take.
    pub unapplied: BTreeSet<String>,
    /// Equality only.
    pub version: Option<String>,
    /// Order.
    pub stamp: Option<u64>,
    /// The provider's own bytes.
    pub keep: Option<Vec<u8>>,
}
