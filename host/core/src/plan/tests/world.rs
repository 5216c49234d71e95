//! A small System A, a small CRM with its habits, and the loop that the pipeline runs between them.

use super::*;
use crate::plan::{Edit, note_edits};

/// What a CRM does that others do not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habits {
    /// `/b` is stored in upper case, whoever writes it.
    pub(super) rewrites: bool,
    /// Writes are answered with the record.
    pub(super) returns: bool,
    /// Records carry an ordered stamp.
    pub(super) stamps: bool,
    /// Records carry a version, and a write may be conditional on it.
    pub(super) versions: bool,
    /// Events tell when a field was edited, on the clock of the stamps, and bear no stamp of their own.
    pub(super) times: bool,
    /// Records say whether somebody else was the last who changed them.
    pub(super) authors: bool,
}

pub(super) const PLAIN: [&str; 2] = ["/a", "/b"];
pub(super) const OUT: &str = "/out";
pub(super) const IN: &str = "/in";
pub(super) const ALL: [&str; 7] = ["/a", "/b", "/c", "/d", OUT, IN, "/tags"];

pub(super) fn policy(on_conflict: OnConflict) -> ObjectPolicy {
    let mut policy = ObjectPolicy { loop_limit: 0, ..ObjectPolicy::recommended() };
    policy.default.on_conflict = on_conflict;
    policy.mapped = ALL.map(String::from).to_vec();
    for field in ["/c", "/d"] {
        policy.groups.insert(field.into(), "pair".into());
    }
    policy.sets.push("/tags".into());
    policy.fields.insert(OUT.into(), FieldPolicy { flow: Flow::ToExternal, ..policy.default });
    policy.fields.insert(IN.into(), FieldPolicy { flow: Flow::ToInternal, ..policy.default });
    policy
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) habits: Habits,
    pub(super) policy: ObjectPolicy,
    pub(super) now: Millis,
    pub(super) link: Link,
    pub(super) internal: Fields,
    pub(super) version: u64,
    pub(super) external: Fields,
    pub(super) stamp: u64,
    /// Somebody else was the last who changed the CRM's record.
    by_other: bool,
    /// Single-property events that were not delivered yet: pointer, value, stamp.
    pub(super) events: Vec<(String, Option<Value>, u64)>,
    /// What the record looked like, with its stamp and whether somebody else had changed it last: a lagging index serves these.
    pub(super) past: Vec<(Fields, u64, bool)>,
    /// Rounds of plan and write that the last piece of work took, the last quiet one included.
    pub(super) rounds: usize,
    pub(super) writes_in: usize,
    pub(super) writes_out: usize,
    pub(super) reads: usize,
}

/// What goes wrong while a piece of work is done.
#[derive(Clone, Debug, Default)]
pub(super) struct Mishap {
    /// The process dies after this many writes took effect, before anything is committed.
    pub(super) die_after: Option<usize>,
    /// Somebody edits this field in the CRM between our plan and our first write.
    pub(super) race: Option<(String, Option<Value>)>,
}

impl World {
    pub(super) fn new(habits: Habits, on_conflict: OnConflict) -> Self {
        let start = fields(&[
            ("/a", json!("A0")),
            ("/b", json!("B0")),
            ("/c", json!("C0")),
            ("/d", json!("D0")),
            (OUT, json!("O0")),
            (IN, json!("I0")),
            ("/tags", json!(["t0", "t1"])),
        ]);
        let mut link = unlinked();
        link.external = Some("e1".into());
        link.internal_version = Some(1);
        link.external_stamp = habits.stamps.then_some(1);
        link.external_version = habits.versions.then(|| "v1".into());
        link.committed_at = 10;
        for (pointer, value) in &start {
            let half = Some(value.clone());
            link.base
                .insert(pointer.clone(), Pair { internal: half.clone(), external: half, ..Pair::default() });
        }
        Self {
            habits,
            policy: ObjectPolicy { event_times: habits.times, ..policy(on_conflict) },
            now: 1_000,
            link,
            internal: start.clone(),
            version: 1,
            past: vec![(start.clone(), 1, true)],
            external: start,
            stamp: 1,
            by_other: true,
            events: Vec::new(),
            rounds: 0,
            writes_in: 0,
            writes_out: 0,
            reads: 0,
        }
    }

    pub(super) fn edit_internal(&mut self, pointer: &str, value: Option<Value>) {
        self.now += 1;
        if self.internal.get(pointer) != value.as_ref() {
            lay(&mut self.internal, pointer, value);
            self.version += 1;
        }
    }

    /// A person's edit of the CRM's record.
    pub(super) fn edit_external(&mut self, pointer: &str, value: Option<Value>) {
        self.change_external(pointer, value, true);
    }

    fn change_external(&mut self, pointer: &str, value: Option<Value>, by_other: bool) {
        let value = match value {
            Some(Value::String(text)) if self.habits.rewrites && pointer == "/b" => {
                Some(Value::String(text.to_uppercase()))
            }
            value => value,
        };
        self.now += 1;
        // Who wrote nothing new was the last who wrote it all the same.
        self.by_other &= by_other;
        if self.external.get(pointer) != value.as_ref() {
            lay(&mut self.external, pointer, value.clone());
            self.stamp += 1;
            self.events.push((pointer.to_owned(), value, self.stamp));
            self.by_other = by_other;
            self.past.push((self.external.clone(), self.stamp, by_other));
        }
    }

    fn version_now(&self) -> Option<String> {
        self.habits.versions.then(|| format!("v{}", self.stamp))
    }

    fn stamp_of(&self, stamp: u64) -> Option<u64> {
        self.habits.stamps.then_some(stamp)
    }

    pub(super) fn read(&mut self) -> External {
        self.now += 1;
        self.reads += 1;
        External::Whole {
            id: "e1".into(),
            fields: self.external.clone(),
            version: self.version_now(),
            stamp: self.stamp_of(self.stamp),
            source: Source::Read { began: self.now },
            changed_at: BTreeMap::new(),
            by_other: self.habits.authors && self.by_other,
        }
    }

    /// A row of a lagging index, fetched now.
    pub(super) fn row(&mut self, which: usize) -> External {
        self.now += 1;
        let (fields, stamp, by_other) = self.past[which % self.past.len()].clone();
        External::Whole {
            id: "e1".into(),
            fields,
            version: self.habits.versions.then(|| format!("v{stamp}")),
            stamp: self.stamp_of(stamp),
            source: Source::Listing { began: self.now, consistent: false },
            changed_at: BTreeMap::new(),
            by_other: self.habits.authors && by_other,
        }
    }

    pub(super) fn event(&self, (pointer, value, stamp): &(String, Option<Value>, u64)) -> External {
        External::Partial {
            fields: [(pointer.clone(), value.clone().unwrap_or(Value::Null))].into(),
            stamp: self.stamp_of(*stamp).filter(|_| !self.habits.times),
        }
    }

    /// An event arrives: what it says of edits that our writes overtook is found first. Nobody says who made the edit.
    pub(super) fn deliver(&mut self, event: &(String, Option<Value>, u64), mishap: Mishap) {
        let (pointer, value, at) = event.clone();
        self.link = note_edits(&self.link, &[Edit { pointer, value, at }], &self.policy, self.now);
        self.work(self.event(event), mishap);
    }

    pub(super) fn present(&self) -> Internal {
        Internal::Present { fields: self.internal.clone(), version: self.version, changed_at: Some(self.now) }
    }

    /// One piece of work, as the pipeline does it. Checks what must hold in every single plan.
    pub(super) fn work(&mut self, hint: External, mut mishap: Mishap) {
        let stored = self.link.clone();
        let mut link = stored.clone();
        let mut external = hint;
        let mut effects = 0;
        self.rounds = 0;
        for asks in 0.. {
            assert!(asks < 20, "never settles: {external:?}");
            self.now += 1;
            let internal = self.present();
            let plan = super::super::plan(&link, &internal, &external, &self.policy, self.now);
            self.check(&link, &plan);
            if let Some(ask) = plan.ask {
                assert_eq!(ask, Ask::ReadExternal, "{}", plan.reason);
                link = plan.link;
                external = self.read();
                continue;
            }
            link = plan.link;
            self.rounds += 1;
            if let Some((pointer, value)) = mishap.race.take() {
                self.edit_external(&pointer, value);
            }
            if let Some(write) = &plan.internal {
                let InternalWrite::Update { fields, expected, .. } = write else { panic!("{write:?}") };
                assert_eq!(*expected, self.version);
                self.internal = fields.clone();
                self.version += 1;
                self.writes_in += 1;
                effects += 1;
                if mishap.die_after == Some(effects) {
                    self.link = stored;
                    return;
                }
                link = after_internal_write(&link, write, self.version, &external, &self.policy, self.now);
            }
            if let Some(write) = &plan.external {
                let ExternalWrite::Update { fields, changed, version, .. } = write else {
                    panic!("{write:?}")
                };
                if version.is_some() && *version != self.version_now() {
                    external = External::Touched;
                    continue;
                }
                for pointer in changed {
                    self.change_external(pointer, fields.get(pointer).cloned(), false);
                }
                self.writes_out += 1;
                effects += 1;
                if mishap.die_after == Some(effects) {
                    self.link = stored;
                    return;
                }
                let answer = ExternalWritten {
                    id: "e1".into(),
                    returned: if self.habits.returns {
                        Returned::Whole(self.external.clone())
                    } else {
                        Returned::Nothing
                    },
                    unapplied: BTreeSet::new(),
                    version: self.version_now(),
                    stamp: self.stamp_of(self.stamp),
                    keep: None,
                };
                // System A's record as the pipeline has it by now.
                let internal = self.present();
                link = after_external_write(&link, write, &internal, &answer, &self.policy, self.now);
                external = observed_answer(&answer).unwrap_or(External::Unseen);
                continue;
            }
            if plan.internal.is_none() {
                break;
            }
        }
        self.link = link;
    }

    fn check(&self, before: &Link, plan: &Plan) {
        let held: BTreeSet<&String> = before
            .held
            .iter()
            .filter(|(group, _)| plan.link.held.contains_key(*group))
            .flat_map(|(_, held)| &held.fields)
            .collect();
        if let Some(InternalWrite::Update { changed, .. }) = &plan.internal {
            assert!(!changed.contains(OUT), "one-way wrote back: {}", plan.reason);
            assert!(changed.iter().all(|pointer| !held.contains(pointer)), "a held group was written");
        }
        if let Some(ExternalWrite::Update { changed, .. }) = &plan.external {
            assert!(!changed.contains(IN), "one-way wrote back: {}", plan.reason);
            assert!(changed.iter().all(|pointer| !held.contains(pointer)), "a held group was written");
        }
        assert!(plan.ask.is_none() || (plan.internal.is_none() && plan.external.is_none()));
    }

    /// What System A's value looks like in the CRM.
    pub(super) fn stored_form(&self, pointer: &str, value: Option<&Value>) -> Option<Value> {
        match value {
            Some(Value::String(text)) if self.habits.rewrites && pointer == "/b" => {
                Some(Value::String(text.to_uppercase()))
            }
            value => value.cloned(),
        }
    }

    /// Each field equal, or a rewrite, or held; one-way fields as far as they flow.
    pub(super) fn assert_the_same(&self) {
        for pointer in ["/a", "/b", "/c", "/d", "/tags"] {
            if self.link.held.values().any(|held| held.fields.contains(pointer)) {
                continue;
            }
            let (here, there) = (self.internal.get(pointer), self.external.get(pointer));
            assert!(
                compare::same(&self.policy, pointer, here, there)
                    || self.stored_form(pointer, here).as_ref() == there,
                "{pointer}: {here:?} and {there:?}; {:?}",
                self.link.base.get(pointer)
            );
        }
    }
}

fn lay(fields: &mut Fields, pointer: &str, value: Option<Value>) {
    match value {
        Some(value) => fields.insert(pointer.to_owned(), value),
        None => fields.remove(pointer),
    };
}
