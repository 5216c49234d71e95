//! System A with several CRMs around it, and the pipeline's loop between them: one entity, one link for each CRM.

use super::*;
use crate::plan::{Edit, Peer, freeze, note_edits, plan_beside};

/// How a CRM stores a text, whoever writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    AsItIs,
    Upper,
    Lower,
}

/// What its guarantee rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A write is refused when its version is not the record's.
    Exact,
    /// Events tell the times of edits.
    FoundAfterwards,
}

/// An event that was not delivered yet.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) pointer: String,
    pub(super) value: Option<Value>,
    pub(super) at: Millis,
    /// It tells of our own write.
    pub(super) own: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Crm {
    pub(super) form: Form,
    pub(super) class: Class,
    pub(super) policy: ObjectPolicy,
    pub(super) link: Link,
    pub(super) fields: Fields,
    pub(super) stamp: u64,
    pub(super) events: Vec<Event>,
    /// System A's record changed and this link does not know of it.
    pub(super) told: bool,
    /// It answers with what was written and no more.
    pub(super) terse: bool,
    /// Edits of `/a` that somebody makes between our look and our write, each time.
    pub(super) robot: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Hub {
    pub(super) now: Millis,
    pub(super) internal: Fields,
    pub(super) version: u64,
    pub(super) edited_at: Millis,
    pub(super) crms: Vec<Crm>,
    pub(super) writes: usize,
}

pub(super) const FIELDS: [&str; 2] = ["/a", "/b"];

pub(super) fn policy() -> ObjectPolicy {
    let mut policy = ObjectPolicy { loop_limit: 0, ..ObjectPolicy::recommended() };
    policy.mapped = FIELDS.map(String::from).to_vec();
    policy
}

impl Hub {
    pub(super) fn new(crms: &[(Form, Class, ObjectPolicy)]) -> Self {
        let crms = crms.iter().enumerate().map(|(place, (form, class, policy))| {
            let mut policy = policy.clone();
            policy.event_times = *class == Class::FoundAfterwards;
            let mut link = Link::new(entity(), ConnectionId::from(name(place)));
            link.external = Some(format!("e{place}").as_str().into());
            link.internal_version = Some(1);
            link.external_stamp = Some(1);
            link.external_version = (*class == Class::Exact).then(|| "v1".into());
            link.committed_at = 10;
            let mut fields = Fields::new();
            for pointer in FIELDS {
                let there = stored(*form, json!("v0"));
                fields.insert(pointer.to_owned(), there.clone());
                let pair = Pair { internal: Some(json!("v0")), external: Some(there), ..Pair::default() };
                link.base.insert(pointer.to_owned(), pair);
            }
            let (form, class) = (*form, *class);
            let events = Vec::new();
            Crm {
                form,
                class,
                policy,
                link,
                fields,
                stamp: 1,
                events,
                told: false,
                terse: false,
                robot: None,
            }
        });
        let internal = FIELDS.map(|pointer| (pointer.to_owned(), json!("v0"))).into();
        Self { now: 1_000, internal, version: 1, edited_at: 0, crms: crms.collect(), writes: 0 }
    }

    /// A person edits System A.
    pub(super) fn edit_internal(&mut self, pointer: &str, value: Value) {
        self.now += 1;
        self.write_internal(pointer, value, None);
    }

    fn write_internal(&mut self, pointer: &str, value: Value, by: Option<usize>) {
        self.internal.insert(pointer.to_owned(), value);
        self.version += 1;
        self.edited_at = self.now;
        for (place, crm) in self.crms.iter_mut().enumerate() {
            crm.told |= by != Some(place);
        }
    }

    /// A person edits a CRM, or we do.
    pub(super) fn edit_external(&mut self, at: usize, pointer: &str, value: Value, own: bool) {
        self.now += 1;
        let crm = &mut self.crms[at];
        let value = stored(crm.form, value);
        if crm.fields.get(pointer) == Some(&value) {
            return;
        }
        crm.fields.insert(pointer.to_owned(), value.clone());
        crm.stamp = self.now;
        crm.events.push(Event { pointer: pointer.to_owned(), value: Some(value), at: self.now, own });
    }

    /// What waits: for each CRM its events and what System A has to tell.
    pub(super) fn waiting(&self) -> Vec<(usize, Option<usize>)> {
        let mut all = Vec::new();
        for (place, crm) in self.crms.iter().enumerate() {
            all.extend((0..crm.events.len()).map(|event| (place, Some(event))));
            if crm.told {
                all.push((place, None));
            }
        }
        all
    }

    /// Works on what waits, in an order, until nothing does; at most so many pieces.
    pub(super) fn settle(&mut self, order: &[usize], most: usize) {
        let mut order = order.iter().copied().cycle();
        for _ in 0..most {
            let waiting = self.waiting();
            if waiting.is_empty() {
                return;
            }
            let (at, event) = waiting[order.next().unwrap_or(0) % waiting.len()];
            match event {
                Some(event) => {
                    let event = self.crms[at].events.remove(event);
                    self.deliver(at, &event);
                }
                None => self.work(at, External::Unseen, &[]),
            }
        }
        panic!("never quiet: {:?}", self.waiting());
    }

    pub(super) fn deliver(&mut self, at: usize, event: &Event) {
        let said = [(event.pointer.clone(), event.value.clone().unwrap_or(Value::Null))];
        let edit = Edit { pointer: event.pointer.clone(), value: event.value.clone(), at: event.at };
        let edits = if event.own { Vec::new() } else { vec![edit] };
        self.work(at, External::Partial { fields: said.into(), stamp: None }, &edits);
    }

    pub(super) fn read(&mut self, at: usize) -> External {
        self.now += 1;
        let crm = &self.crms[at];
        External::Whole {
            id: format!("e{at}").as_str().into(),
            fields: crm.fields.clone(),
            version: (crm.class == Class::Exact).then(|| format!("v{}", crm.stamp)),
            stamp: Some(crm.stamp),
            source: Source::Read { began: self.now },
            changed_at: BTreeMap::new(),
            by_other: false,
        }
    }

    /// One piece of work of a link, as the pipeline does it.
    pub(super) fn work(&mut self, at: usize, hint: External, edits: &[Edit]) {
        let mut external = hint;
        self.crms[at].told = false;
        let mut link = note_edits(&self.crms[at].link, edits, &self.crms[at].policy, self.now);
        for round in 0.. {
            assert!(round < 20, "never settles: {link:?}");
            self.now += 1;
            let policy = self.crms[at].policy.clone();
            let internal = Internal::Present {
                fields: self.internal.clone(),
                version: self.version,
                changed_at: Some(self.edited_at),
            };
            let others: Vec<(Link, ObjectPolicy)> = self
                .crms
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != at)
                .map(|(_, crm)| (crm.link.clone(), crm.policy.clone()))
                .collect();
            let peers: Vec<Peer<'_>> =
                others.iter().map(|(link, policy)| Peer { link, policy: Some(policy) }).collect();
            let plan = plan_beside(&link, &peers, &internal, &external, &policy, self.now);
            if let Some(ask) = plan.ask {
                assert_eq!(ask, Ask::ReadExternal, "{}", plan.reason);
                link = plan.link;
                external = self.read(at);
                continue;
            }
            let newly = |(field, _): &(&String, &String)| !link.frozen.contains_key(*field);
            let frozen: BTreeMap<String, String> =
                plan.link.frozen.iter().filter(newly).map(|(f, why)| (f.clone(), why.clone())).collect();
            link = plan.link;
            for (_, crm) in self.crms.iter_mut().enumerate().filter(|(place, _)| *place != at) {
                crm.link = freeze(&crm.link, &frozen, self.now);
            }
            if let Some(write) = &plan.internal {
                let InternalWrite::Update { fields, expected, changed } = write else { panic!("{write:?}") };
                assert_eq!(*expected, self.version, "a write that is not conditional on what was read");
                for pointer in changed {
                    let value = fields.get(pointer).cloned().unwrap_or(Value::Null);
                    self.write_internal(pointer, value, Some(at));
                }
                self.writes += 1;
                link = after_internal_write(&link, write, self.version, &external, &policy, self.now);
            }
            if let Some(write) = &plan.external {
                let ExternalWrite::Update { fields, changed, version, .. } = write else {
                    panic!("{write:?}")
                };
                let now = format!("v{}", self.crms[at].stamp);
                if self.crms[at].class == Class::Exact && version.as_ref() != Some(&now) {
                    external = External::Touched;
                    continue;
                }
                if let Some(edits) = self.crms[at].robot.filter(|_| changed.contains("/a")) {
                    self.crms[at].robot = Some(edits + 1);
                    self.edit_external(at, "/a", json!(format!("robot {edits}")), false);
                }
                for pointer in changed {
                    let value = fields.get(pointer).cloned().unwrap_or(Value::Null);
                    self.edit_external(at, pointer, value, true);
                }
                self.writes += 1;
                let crm = &self.crms[at];
                let mut shown = crm.fields.clone();
                shown.retain(|pointer, _| !crm.terse || changed.contains(pointer));
                let answer = ExternalWritten {
                    id: format!("e{at}").as_str().into(),
                    returned: if crm.terse { Returned::Partial(shown) } else { Returned::Whole(shown) },
                    unapplied: BTreeSet::new(),
                    version: (crm.class == Class::Exact).then(|| format!("v{}", crm.stamp)),
                    stamp: Some(crm.stamp),
                    keep: None,
                };
                let internal = Internal::Present {
                    fields: self.internal.clone(),
                    version: self.version,
                    changed_at: Some(self.edited_at),
                };
                link = after_external_write(&link, write, &internal, &answer, &policy, self.now);
                external = observed_answer(&answer).expect("the record");
                continue;
            }
            break;
        }
        self.crms[at].link = link;
    }

    /// What a field has everywhere: System A first.
    pub(super) fn everywhere(&self, pointer: &str) -> Vec<Value> {
        let here = self.internal.get(pointer).cloned().unwrap_or(Value::Null);
        let there = self.crms.iter().map(|crm| crm.fields.get(pointer).cloned().unwrap_or(Value::Null));
        std::iter::once(here).chain(there).collect()
    }
}

pub(super) fn name(place: usize) -> &'static str {
    ["crm-x", "crm-y", "crm-z"][place]
}

fn stored(form: Form, value: Value) -> Value {
    match (form, value) {
        (Form::Upper, Value::String(text)) => Value::String(text.to_uppercase()),
        (Form::Lower, Value::String(text)) => Value::String(text.to_lowercase()),
        (_, value) => value,
    }
}
