//! The people of an account and what happened to them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::faults::{Rewrite, rewrite};
use crate::writes::{NotedWrite, WriteKind, Writer, Writes};

/// Members of a person and the kind of their values.
const MEMBERS: [(&str, Kind); 12] = [
    ("ExternalKey", Kind::Text),
    ("Mail", Kind::Mail),
    ("GivenName", Kind::Text),
    ("FamilyName", Kind::Text),
    ("Phone", Kind::Text),
    ("Company", Kind::Text),
    ("Title", Kind::Text),
    ("City", Kind::Text),
    ("Notes", Kind::Text),
    ("Stage", Kind::Text),
    ("Staff", Kind::Whole),
    ("Labels", Kind::Labels),
];

/// Members by which people are found. Two of them never have the same value, but for `Mail` where the account allows it.
const FOUND_BY: [&str; 2] = ["ExternalKey", "Mail"];

/// Members that the account sets.
const OWN: [&str; 3] = ["Id", "Rev", "Changed"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Mail,
    Whole,
    Labels,
}

/// Why something was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Missing,
    Stale,
    Exists(String),
    Invalid { member: String, why: String },
}

impl Refused {
    pub(super) fn error(&self) -> &str {
        match self {
            Self::Missing => "there is no such person",
            Self::Stale => "the person was changed meanwhile",
            Self::Exists(_) => "there is such a person already",
            Self::Invalid { why, .. } => why,
        }
    }
}

/// What a write of somebody else's depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Precondition {
    #[default]
    None,
    /// The person has this tag still.
    Tag(String),
    /// The person was not changed after this second since the epoch.
    Unchanged(i64),
}

#[derive(Debug, Default)]
pub(super) struct People {
    last: u64,
    alive: BTreeMap<u64, Map<String, Value>>,
    /// The last change of each person, by its number.
    changes: BTreeMap<u64, u64>,
    /// The number of each person's last change.
    changed: BTreeMap<u64, u64>,
    change: u64,
    /// Who has a value of a member by which people are found: an account of thousands stays as quick as a small one.
    held: BTreeMap<(&'static str, String), BTreeSet<u64>>,
    /// Two people may have the same `Mail`.
    same_mail: bool,
    /// How texts are rewritten, by member.
    rewrites: BTreeMap<String, Rewrite>,
    writes: Writes,
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("p-").and_then(|number| number.parse().ok())
}

/// What a person is found by, as it is compared: addresses without regard to case.
fn keys(members: &Map<String, Value>) -> impl Iterator<Item = (&'static str, String)> {
    FOUND_BY.into_iter().filter_map(|name| members.get(name)?.as_str().map(|value| key(name, value)))
}

fn key(name: &'static str, value: &str) -> (&'static str, String) {
    (name, if name == "Mail" { value.to_ascii_lowercase() } else { value.to_owned() })
}

fn shown(id: u64, members: &Map<String, Value>) -> Value {
    let mut all = Map::from_iter([("Id".to_owned(), Value::String(format!("p-{id}")))]);
    all.extend(members.clone());
    Value::Object(all)
}

fn check(members: &Map<String, Value>) -> Result<(), Refused> {
    for (name, value) in members {
        let invalid =
            |why: &str| Err(Refused::Invalid { member: name.clone(), why: format!("{name}: {why}") });
        if OWN.contains(&name.as_str()) {
            return invalid("is set by the account");
        }
        let Some((_, kind)) = MEMBERS.iter().find(|(known, _)| known == name) else {
            if name.starts_with(|first: char| first.is_ascii_lowercase()) {
                continue;
            }
            return invalid("there is no such member");
        };
        let lawful = match (kind, value) {
            (_, Value::Null) => true,
            (Kind::Text, Value::String(text)) => text.chars().count() <= 65_536,
            (Kind::Mail, Value::String(text)) => {
                text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
            }
            (Kind::Whole, Value::Number(number)) => number.is_i64() || number.is_u64(),
            (Kind::Labels, Value::Array(items)) => items.iter().all(Value::is_string),
            _ => false,
        };
        if !lawful {
            return invalid("the value is not of its kind");
        }
    }
    Ok(())
}

impl People {
    pub(super) fn new(same_mail: bool, rewrites: BTreeMap<String, Rewrite>, journal: bool) -> Self {
        let mut writes = Writes::default();
        writes.keep(journal);
        Self { same_mail, rewrites, writes, ..Self::default() }
    }

    pub(super) fn writes(&self) -> Vec<NotedWrite> {
        self.writes.all()
    }

    fn note(
        &mut self,
        kind: WriteKind,
        id: Option<&str>,
        members: &Map<String, Value>,
        by: Writer,
        at: i64,
        taken: bool,
    ) {
        self.writes.note(|| NotedWrite {
            at,
            id: id.map(str::to_owned),
            by,
            kind,
            members: members.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            taken,
        });
    }

    /// A value as the account stores it.
    fn stored(&self, member: &str, value: &Value) -> Value {
        match (self.rewrites.get(member), value) {
            (Some(how), Value::String(text)) if !FOUND_BY.contains(&member) => {
                Value::String(rewrite(how, text, self.change))
            }
            _ => value.clone(),
        }
    }

    pub(super) fn all(&self) -> Vec<Value> {
        self.alive.iter().map(|(id, members)| shown(*id, members)).collect()
    }

    pub(super) fn read(&self, id: &str) -> Result<Value, Refused> {
        let id = number(id).ok_or(Refused::Missing)?;
        self.alive.get(&id).map(|members| shown(id, members)).ok_or(Refused::Missing)
    }

    pub(super) fn find(&self, member: &str, value: &str) -> Vec<Value> {
        let known = FOUND_BY.into_iter().find(|known| *known == member);
        let ids = known.and_then(|member| self.held.get(&key(member, value))).into_iter().flatten();
        ids.filter_map(|id| self.alive.get(id).map(|members| shown(*id, members))).collect()
    }

    fn taken(&self, members: &Map<String, Value>, except: Option<u64>) -> Result<(), Refused> {
        let unique = keys(members).filter(|(name, _)| !(self.same_mail && *name == "Mail"));
        let mut holders = unique.filter_map(|key| self.held.get(&key)).flatten();
        let holder = holders.find(|id| Some(**id) != except);
        holder.map_or(Ok(()), |id| Err(Refused::Exists(format!("p-{id}"))))
    }

    /// Takes what a person holds back and gives it what it has now.
    fn hold(&mut self, id: u64, before: &Map<String, Value>) {
        for key in keys(before) {
            let left = self.held.get_mut(&key).is_some_and(|ids| ids.remove(&id) && ids.is_empty());
            if left {
                self.held.remove(&key);
            }
        }
        for key in self.alive.get(&id).into_iter().flat_map(keys) {
            self.held.entry(key).or_default().insert(id);
        }
    }

    fn stamp(&mut self, id: u64, now: i64) {
        self.change += 1;
        if let Some(before) = self.changed.insert(id, self.change) {
            self.changes.remove(&before);
        }
        self.changes.insert(self.change, id);
        if let Some(members) = self.alive.get_mut(&id) {
            members.insert("Rev".to_owned(), Value::String(self.change.to_string()));
            // No two changes of a person have the same time.
            let before = members.get("Changed").and_then(Value::as_i64);
            members
                .insert("Changed".to_owned(), Value::from(before.map_or(now, |before| now.max(before + 1))));
        }
    }

    pub(super) fn create(
        &mut self,
        members: &Map<String, Value>,
        by: Writer,
        now: i64,
    ) -> Result<Value, Refused> {
        let done = self.carry_out_create(members, now);
        let id = done.as_ref().ok().and_then(|person| person.get("Id")).and_then(Value::as_str);
        self.note(WriteKind::Create, id, members, by, now, done.is_ok());
        done
    }

    fn carry_out_create(&mut self, members: &Map<String, Value>, now: i64) -> Result<Value, Refused> {
        check(members)?;
        self.taken(members, None)?;
        self.last += 1;
        let id = self.last;
        let members = members.iter().filter(|(_, value)| !value.is_null());
        let members = members.map(|(name, value)| (name.clone(), self.stored(name, value))).collect();
        self.alive.insert(id, members);
        self.hold(id, &Map::new());
        self.stamp(id, now);
        self.read(&format!("p-{id}"))
    }

    fn current(&self, id: &str, on: &Precondition) -> Result<u64, Refused> {
        let id = number(id).ok_or(Refused::Missing)?;
        let members = self.alive.get(&id).ok_or(Refused::Missing)?;
        let holds = match on {
            Precondition::None => true,
            Precondition::Tag(tag) => members.get("Rev").and_then(Value::as_str) == Some(tag),
            Precondition::Unchanged(since) => members
                .get("Changed")
                .and_then(Value::as_i64)
                .is_some_and(|at| at.div_euclid(1_000) <= *since),
        };
        if holds { Ok(id) } else { Err(Refused::Stale) }
    }

    pub(super) fn update(
        &mut self,
        id: &str,
        members: &Map<String, Value>,
        on: &Precondition,
        by: Writer,
        now: i64,
    ) -> Result<Value, Refused> {
        let done = self.carry_out_update(id, members, on, now);
        self.note(WriteKind::Update, Some(id), members, by, now, done.is_ok());
        done
    }

    fn carry_out_update(
        &mut self,
        id: &str,
        members: &Map<String, Value>,
        on: &Precondition,
        now: i64,
    ) -> Result<Value, Refused> {
        let number = self.current(id, on)?;
        check(members)?;
        self.taken(members, Some(number))?;
        let mut changed = false;
        let before = self.alive.get(&number).cloned().unwrap_or_default();
        let mut own = before.clone();
        for (name, value) in members {
            let value = self.stored(name, value);
            changed |= match value {
                Value::Null => own.shift_remove(name).is_some(),
                value => own.insert(name.clone(), value.clone()).as_ref() != Some(&value),
            };
        }
        self.alive.insert(number, own);
        if changed {
            self.hold(number, &before);
            self.stamp(number, now);
        }
        self.read(id)
    }

    pub(super) fn delete(
        &mut self,
        id: &str,
        on: &Precondition,
        by: Writer,
        now: i64,
    ) -> Result<(), Refused> {
        let done = self.carry_out_delete(id, on, now);
        self.note(WriteKind::Delete, Some(id), &Map::new(), by, now, done.is_ok());
        done
    }

    fn carry_out_delete(&mut self, id: &str, on: &Precondition, now: i64) -> Result<(), Refused> {
        let number = self.current(id, on)?;
        let before = self.alive.remove(&number).unwrap_or_default();
        self.hold(number, &before);
        self.stamp(number, now);
        Ok(())
    }

    pub(super) fn page(&self, after: Option<&str>, limit: usize) -> Value {
        let after = after.and_then(number).unwrap_or_default();
        let items: Vec<(u64, Value)> = self
            .alive
            .range(after + 1..)
            .take(limit)
            .map(|(id, members)| (*id, shown(*id, members)))
            .collect();
        let next = (items.len() == limit).then(|| items.last().map(|(id, _)| format!("p-{id}"))).flatten();
        json!({ "items": items.into_iter().map(|(_, person)| person).collect::<Vec<_>>(), "next": next })
    }

    /// What changed after a cursor, each person once, in order of the last change. None: there is no such cursor.
    pub(super) fn changes(&self, since: Option<&str>, limit: usize) -> Option<Value> {
        let since = match since.filter(|since| !since.is_empty()) {
            None => 0,
            Some(since) => {
                since.strip_prefix("c-")?.parse::<u64>().ok().filter(|since| *since <= self.change)?
            }
        };
        let items: Vec<(u64, Value)> = self
            .changes
            .range(since + 1..)
            .take(limit)
            .map(|(change, id)| {
                let name = format!("p-{id}");
                let person = self.alive.get(id).map(|members| shown(*id, members));
                (*change, json!({ "id": name, "deleted": person.is_none(), "person": person }))
            })
            .collect();
        let cursor = items.last().map_or(since, |(change, _)| *change);
        let more = self.changes.range(cursor + 1..).next().is_some();
        let items: Vec<Value> = items.into_iter().map(|(_, item)| item).collect();
        Some(json!({ "items": items, "cursor": format!("c-{cursor}"), "more": more }))
    }
}
