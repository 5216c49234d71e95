//! The planner by behaviour. `world` is a small CRM and a small System A with the loop that the pipeline runs.

mod answers;
mod conflicts;
mod defaults;
mod deletes;
mod halves;
mod hub;
mod identity;
mod late;
mod laws;
mod loops;
mod observations;
mod ranks;
mod returns;
mod review;
mod rewrites;
mod stamps;
mod unsettled;
mod updates;
mod waiting;
mod withheld;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::id::{ConnectionId, EntityKey};
use crate::link::{Pair, RECORD, Said};
use crate::policy::{FieldPolicy, Flow, Hold, OnConflict, OnDelete, OnDeleteConflict, OnReject, OnRewrite};

const NOW: Millis = 1_000_000;

fn fields(members: &[(&str, Value)]) -> Fields {
    members.iter().map(|(pointer, value)| ((*pointer).to_owned(), value.clone())).collect()
}

fn names(pointers: &[&str]) -> BTreeSet<String> {
    pointers.iter().map(|pointer| (*pointer).to_owned()).collect()
}

fn policy() -> ObjectPolicy {
    let mut policy = ObjectPolicy::recommended();
    policy.mapped = ["/email", "/phone", "/name", "/street", "/city", "/tags"].map(String::from).to_vec();
    for field in ["/street", "/city"] {
        policy.groups.insert(field.into(), "address".into());
    }
    policy.sets = vec!["/tags".into()];
    policy.identity = vec!["/email".into()];
    policy.normalise.insert("/email".into(), "email".into());
    policy
}

fn with(pointer: &str, change: impl FnOnce(&mut FieldPolicy)) -> ObjectPolicy {
    let mut policy = policy();
    change(policy.fields.entry(pointer.to_owned()).or_default());
    policy
}

fn entity() -> EntityKey {
    EntityKey { scope: "s".into(), object: "contact".into(), id: "i1".into() }
}

fn unlinked() -> Link {
    Link::new(entity(), ConnectionId::from("c"))
}

/// A link on which both sides agreed to these values.
fn agreed(values: &[(&str, Value)]) -> Link {
    let mut link = unlinked();
    link.external = Some("e1".into());
    link.internal_version = Some(1);
    link.committed_at = 1_000;
    for pointer in policy().mapped {
        let value = values.iter().find(|(name, _)| *name == pointer).map(|(_, value)| value.clone());
        link.base.insert(pointer, Pair { internal: value.clone(), external: value, ..Pair::default() });
    }
    link
}

fn present(version: u64, members: &[(&str, Value)]) -> Internal {
    Internal::Present { fields: fields(members), version, changed_at: Some(NOW - 10) }
}

fn deleted(version: u64) -> Internal {
    Internal::Deleted { version, changed_at: None }
}

fn whole(source: Source, stamp: Option<u64>, members: &[(&str, Value)]) -> External {
    External::Whole {
        id: "e1".into(),
        fields: fields(members),
        version: None,
        stamp,
        source,
        changed_at: BTreeMap::new(),
        by_other: false,
    }
}

/// A direct read, begun now.
fn read(members: &[(&str, Value)]) -> External {
    whole(Source::Read { began: NOW }, None, members)
}

fn run(link: &Link, internal: &Internal, external: &External, policy: &ObjectPolicy) -> Plan {
    plan(link, internal, external, policy, NOW)
}

fn quiet(plan: &Plan) -> bool {
    plan.internal.is_none() && plan.external.is_none() && plan.ask.is_none()
}

/// The fields that an update changes, with their values afterwards.
fn sent_out(plan: &Plan) -> Vec<(String, Option<Value>)> {
    match &plan.external {
        Some(ExternalWrite::Update { fields, changed, .. }) => {
            changed.iter().map(|pointer| (pointer.clone(), fields.get(pointer).cloned())).collect()
        }
        other => panic!("no update of the CRM: {other:?}; {}", plan.reason),
    }
}

fn sent_in(plan: &Plan) -> Vec<(String, Option<Value>)> {
    match &plan.internal {
        Some(InternalWrite::Update { fields, changed, .. }) => {
            changed.iter().map(|pointer| (pointer.clone(), fields.get(pointer).cloned())).collect()
        }
        other => panic!("no update of System A: {other:?}; {}", plan.reason),
    }
}

fn one(pointer: &str, value: Value) -> Vec<(String, Option<Value>)> {
    vec![(pointer.to_owned(), Some(value))]
}

fn written(returned: Option<&[(&str, Value)]>) -> ExternalWritten {
    ExternalWritten {
        id: "e1".into(),
        returned: returned.map_or(Returned::Nothing, |members| Returned::Whole(fields(members))),
        unapplied: BTreeSet::new(),
        version: None,
        stamp: None,
        keep: None,
    }
}

fn pair(link: &Link, pointer: &str) -> (Option<Value>, Option<Value>) {
    let pair = &link.base[pointer];
    (pair.internal.clone(), pair.external.clone())
}
