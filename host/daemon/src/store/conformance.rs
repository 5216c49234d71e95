//! What every store has to do: one suite, run on the reference and on the store on disk, and random commits that have to
//! read the same on both.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use tandem_core::exchange::{Attribute, Delivery, Observed, Problem, State};
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ExternalKey};
use tandem_core::link::{Held, Life, Link, Pair, Said};
use tandem_core::plan::Differs;

use super::memory::MemoryStore;
use super::sled::{Options, SledStore};
use super::*;

/// Small generations and segments, so that a short test goes through checkpoints and segments.
pub(super) fn small() -> Options {
    Options {
        memory_bytes: 24 << 10,
        journal_bytes: 64 << 10,
        cache_bytes: 4 << 20,
        segment_bytes: 1 << 20,
        lazy: std::time::Duration::from_millis(1),
        pace: std::time::Duration::from_micros(200),
        min_free_bytes: 0,
        history_bytes: 1000,
    }
}

pub(super) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(super) fn commit_of(ops: impl IntoIterator<Item = Op>) -> Commit {
    Commit { ops: ops.into_iter().collect() }
}

fn entity(id: &str) -> EntityKey {
    EntityKey { scope: "north".into(), object: "contact".into(), id: id.into() }
}

pub(super) fn hint(connection: &str, seq: u64, class: Class, due: u64, noticed_at: u64) -> Hint {
    Hint {
        seq,
        connection: connection.into(),
        object: "contact".into(),
        subject: Subject::Internal(format!("r{seq}").into()),
        class,
        noticed_at,
        due,
        attempts: 0,
        cause: "edit".to_owned(),
        observed: Some(Observed {
            object: "contact".to_owned(),
            id: "7".to_owned(),
            state: State::Partial(br#"{"email":"a@example.org"}"#.to_vec()),
            version: None,
            stamp: Some(9),
            key: None,
            keep: None,
            author: None,
            account: None,
            attributes: vec![Attribute { name: "n".to_owned(), value: "v".to_owned() }],
        }),
    }
}

pub(super) fn link(id: &str, connection: &str, external: Option<&str>) -> Link {
    let mut link = Link::new(entity(id), connection.into());
    link.external = external.map(ExternalId::from);
    let pair = |value: serde_json::Value| Pair {
        internal: Some(value.clone()),
        external: Some(value),
        ..Pair::default()
    };
    link.base.insert("/email".to_owned(), pair(json!("a@example.org")));
    link.base.insert("/nothing".to_owned(), pair(serde_json::Value::Null));
    link.base.insert("/absent".to_owned(), Pair::default());
    link.base.insert("/address".to_owned(), pair(json!({"city": "Uusikaupunki", "zip": "23500"})));
    link.keep = Some(vec![0, 255, 7]);
    link
}

/// An entry with everything that an entry may say, or with little, by its moment.
fn history(id: &str, at: u64) -> HistoryEntry {
    let phone = |value: &str| Pair {
        internal: Some(json!(value)),
        external: None,
        assumed: true,
        given: at.is_multiple_of(2),
    };
    let moved = |field: &str, before, after| Moved {
        field: field.to_owned(),
        differs: at.is_multiple_of(2).then_some(Differs::Internal),
        before,
        after,
        cut: false,
    };
    let full = !at.is_multiple_of(3);
    HistoryEntry {
        at,
        what: "wrote-external".to_owned(),
        why: "the phone number changed in System A".to_owned(),
        cause: "edit".to_owned(),
        calls: 1,
        delta: vec![
            moved("/phone", Before::Pair(phone("+358 1")), Some(phone("+358 2"))),
            moved("/new", Before::Nothing, Some(Pair::default())),
            moved("/old", Before::Untold, None),
            Moved { cut: true, ..moved("/notes", Before::Nothing, None) },
        ],
        fields: if full { vec!["/email".to_owned()] } else { Vec::new() },
        overtaken: if full {
            [("/name".to_owned(), Some(phone("+358 3"))), ("/notes".to_owned(), None)].into()
        } else {
            BTreeMap::new()
        },
        noticed: full.then(|| Noticed {
            work: at + 1,
            // As on a machine whose clock was set back: later than the entry.
            at: at + 7,
            began: at / 2,
            class: Class::Retry,
            hints: 2,
            attempts: 1,
            also: vec!["poll".to_owned()],
            said: Some(Extent::Partial),
            author: Some("other".to_owned()),
        }),
        seen: full.then(|| Sight {
            extent: Extent::Whole,
            origin: Some(Origin::Read),
            version: Some("v1".to_owned()),
            stamp: Some(at),
        }),
        ruling: full.then(|| "rule customers only: sync".to_owned()),
        exchanges: vec![Exchanged {
            operation: "update".to_owned(),
            requests: 1,
            status: 200,
            took_ms: 143,
            answer: "written".to_owned(),
        }],
        is_first: at.is_multiple_of(5),
        ..HistoryEntry::new(&link(id, "acme", None), at, "hubspot@0.1.0#1a2b3c4d".to_owned())
    }
}

fn letter(seq: u64, connection: &str, id: Option<&str>) -> DeadLetter {
    DeadLetter {
        seq,
        hint: hint(connection, seq, Class::Live, 0, 5),
        entity: id.map(entity),
        at: 17 + seq,
        point: "provider-out".to_owned(),
        problems: vec![Problem {
            code: "type".to_owned(),
            message: "no text".to_owned(),
            pointer: Some("/a".to_owned()),
        }],
        provider: "hubspot@0.1.0#1a2b3c4d".to_owned(),
        external: None,
        first_at: 17 + seq,
        count: 1,
    }
}

/// Runs a case on the reference and on a new store on disk.
fn on_both(case: impl Fn(&dyn Fn(Commit, Until), &dyn Reads)) {
    let memory = MemoryStore::new(small().history_bytes);
    case(&|commit, until| run(memory.commit(commit, until)).unwrap(), &memory);
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    case(&|commit, until| run(store.commit(commit, until)).unwrap(), &store);
}

/// [`Store`] without its commit, so that a case can be written once for any store.
pub(super) trait Reads {
    fn seq(&self) -> u64;
    fn everything(&self, universe: &Universe) -> Vec<String>;
    fn hints(&self, connection: &str, class: Class, after: u64, limit: usize) -> Vec<u64>;
    fn due(&self, until: u64, limit: usize) -> Vec<u64>;
    fn waiting(&self, connection: &str) -> Backlog;
    fn links_after(&self, connection: &str, after: Option<&str>, limit: usize) -> Vec<String>;
    fn owner(&self, connection: &str, external: &str) -> Option<String>;
    fn link_of(&self, id: &str, connection: &str) -> Option<Link>;
    fn held(&self, connection: Option<&str>, limit: usize) -> Vec<String>;
    fn past(&self, id: &str, limit: usize) -> Vec<u64>;
    fn letters(&self, connection: Option<&str>, limit: usize) -> Vec<u64>;
    fn about(&self, connection: &str, id: &str) -> Option<DeadLetter>;
    fn set_aside(&self, connection: &str) -> u64;
    fn named(&self, name: &str) -> Option<Vec<u8>>;
    fn all_named(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Vec<u8>)>;
    fn open_intents(&self, connection: &str) -> Vec<Intent>;
}

/// The names that a comparison goes over.
pub(super) struct Universe {
    pub(super) connections: Vec<&'static str>,
    pub(super) entities: Vec<&'static str>,
    pub(super) externals: Vec<&'static str>,
    pub(super) values: Vec<&'static str>,
    pub(super) highest: u64,
}

/// All of a hint's key: no two rows have the same one.
fn place(hint: &Hint) -> (u64, u64, ConnectionId, Class) {
    (hint.due, hint.seq, hint.connection.clone(), hint.class)
}

impl<S: Store> Reads for S {
    fn seq(&self) -> u64 {
        self.next_seq()
    }

    fn everything(&self, universe: &Universe) -> Vec<String> {
        let mut all =
            vec![format!("busy {:?}", self.busy().unwrap()), format!("due {:?}", self.next_due().unwrap())];
        for until in [0, 30, u64::MAX] {
            let mut delayed = self.delayed(until, 1000).unwrap();
            // The generator gives a number twice, which no daemon does: between the two there is no order.
            delayed.sort_by_key(place);
            all.push(format!("delayed {delayed:?}"));
            for after in delayed.iter().map(|hint| (hint.due, hint.seq)) {
                let mut behind = self.delayed_after(after, until, 1000).unwrap();
                behind.sort_by_key(place);
                let wanted = delayed.iter().filter(|hint| (hint.due, hint.seq) > after);
                assert!(behind.iter().eq(wanted), "what is delayed behind {after:?}");
            }
        }
        all.push(format!("held {:?}", self.held_links(None, 1000).unwrap()));
        all.push(format!("dead {:?}", self.dead(None, 1000).unwrap()));
        for name in &universe.connections {
            let connection = ConnectionId::from(*name);
            for class in Class::ALL {
                all.push(format!("ready {:?}", self.ready(&connection, class, 0, 1000).unwrap()));
                all.push(format!("ready {:?}", self.ready(&connection, class, 7, 2).unwrap()));
            }
            all.push(format!("backlog {name} {:?}", self.backlog(&connection).unwrap()));
            all.push(format!("links {:?}", self.scan_links(&connection, None, 1000).unwrap()));
            all.push(format!("held {:?}", self.held_links(Some(&connection), 1000).unwrap()));
            all.push(format!("dead {:?}", self.dead(Some(&connection), 1000).unwrap()));
            all.push(format!("dead {:?}", self.dead_count(&connection).unwrap()));
            all.push(format!("alive {:?}", self.count_links(&connection, &"contact".into()).unwrap()));
            all.push(format!("intents {:?}", self.intents(&connection, &"contact".into()).unwrap()));
            for id in &universe.externals {
                let key = ExternalKey {
                    connection: connection.clone(),
                    object: "contact".into(),
                    id: (*id).into(),
                };
                all.push(format!("owner {:?}", self.entity_of(&key).unwrap()));
            }
            for id in &universe.entities {
                all.push(format!("link {:?}", self.link(&entity(id), &connection).unwrap()));
                all.push(format!("intent {:?}", self.intent(&entity(id), &connection).unwrap()));
                all.push(format!("about {:?}", self.about(name, id)));
                all.push(format!("after {:?}", self.scan_links(&connection, Some(&entity(id)), 1).unwrap()));
            }
        }
        for id in &universe.entities {
            all.push(format!("links {:?}", self.links(&entity(id)).unwrap()));
            all.push(format!("history {:?}", self.history(&entity(id), 1000).unwrap()));
            all.push(format!("history {:?}", self.history(&entity(id), 1).unwrap()));
        }
        for name in &universe.values {
            all.push(format!("value {:?}", self.value(name).unwrap()));
            all.push(format!("values {:?}", self.values_under(name, None, 1000).unwrap()));
            all.push(format!("after {:?}", self.values_under("c", Some(*name), 2).unwrap()));
            all.push(format!("after all {:?}", self.values_under("", Some(name), 2).unwrap()));
        }
        for seq in 0..=universe.highest {
            all.push(format!("delivery {:?}", self.delivery(seq).unwrap()));
            all.push(format!("letter {:?}", self.dead_letter(seq).unwrap()));
        }
        all
    }

    fn hints(&self, connection: &str, class: Class, after: u64, limit: usize) -> Vec<u64> {
        self.ready(&connection.into(), class, after, limit).unwrap().iter().map(|hint| hint.seq).collect()
    }

    fn due(&self, until: u64, limit: usize) -> Vec<u64> {
        self.delayed(until, limit).unwrap().iter().map(|hint| hint.seq).collect()
    }

    fn waiting(&self, connection: &str) -> Backlog {
        self.backlog(&connection.into()).unwrap()
    }

    fn links_after(&self, connection: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let links = self.scan_links(&connection.into(), after.map(entity).as_ref(), limit).unwrap();
        links.iter().map(|link| link.entity.id.to_string()).collect()
    }

    fn owner(&self, connection: &str, external: &str) -> Option<String> {
        let key =
            ExternalKey { connection: connection.into(), object: "contact".into(), id: external.into() };
        self.entity_of(&key).unwrap().map(|entity| entity.id.to_string())
    }

    fn link_of(&self, id: &str, connection: &str) -> Option<Link> {
        self.link(&entity(id), &connection.into()).unwrap()
    }

    fn held(&self, connection: Option<&str>, limit: usize) -> Vec<String> {
        let links = self.held_links(connection.map(ConnectionId::from).as_ref(), limit).unwrap();
        links.iter().map(|link| format!("{}@{}", link.entity.id, link.connection)).collect()
    }

    fn past(&self, id: &str, limit: usize) -> Vec<u64> {
        self.history(&entity(id), limit).unwrap().iter().map(|entry| entry.at).collect()
    }

    fn letters(&self, connection: Option<&str>, limit: usize) -> Vec<u64> {
        let letters = self.dead(connection.map(ConnectionId::from).as_ref(), limit).unwrap();
        letters.iter().map(|letter| letter.seq).collect()
    }

    fn about(&self, connection: &str, id: &str) -> Option<DeadLetter> {
        self.dead_about(&connection.into(), &"contact".into(), &Subject::Internal(id.into())).unwrap()
    }

    fn set_aside(&self, connection: &str) -> u64 {
        self.dead_count(&connection.into()).unwrap()
    }

    fn named(&self, name: &str) -> Option<Vec<u8>> {
        self.value(name).unwrap()
    }

    fn all_named(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Vec<u8>)> {
        self.values_under(prefix, after, limit).unwrap()
    }

    fn open_intents(&self, connection: &str) -> Vec<Intent> {
        self.intents(&connection.into(), &"contact".into()).unwrap()
    }
}

#[test]
fn numbers_only_grow_also_beyond_those_that_came_with_a_commit() {
    on_both(|commit, store| {
        let first = store.seq();
        assert!(store.seq() > first);
        commit(commit_of([Op::AddHint(hint("acme", 5_000_000, Class::Live, 0, 1))]), Until::Durable);
        assert!(store.seq() > 5_000_000);
    });
}

#[test]
fn ready_hints_come_by_class_and_number() {
    on_both(|commit, store| {
        let add = |seq, class| Op::AddHint(hint("acme", seq, class, 0, 100 + seq));
        commit(
            commit_of([add(3, Class::Live), add(1, Class::Live), add(2, Class::Backfill)]),
            Until::Applied,
        );
        commit(
            commit_of([add(4, Class::Live), Op::AddHint(hint("other", 5, Class::Live, 0, 1))]),
            Until::Applied,
        );
        assert_eq!(store.hints("acme", Class::Live, 0, 10), [1, 3, 4]);
        assert_eq!(store.hints("acme", Class::Live, 1, 1), [3]);
        assert_eq!(store.hints("acme", Class::Live, u64::MAX, 9), [0; 0]);
        assert_eq!(store.hints("acme", Class::Backfill, 0, 10), [2]);
        assert_eq!(store.hints("nobody", Class::Live, 0, 10), [0; 0]);
        assert_eq!(store.waiting("acme"), Backlog { ready: 4, delayed: 0, oldest: Some(101) });
        let done = hint("acme", 1, Class::Live, 0, 0).key();
        commit(commit_of([Op::DropHint(done.clone())]), Until::Durable);
        commit(commit_of([Op::DropHint(done)]), Until::Durable);
        assert_eq!(store.hints("acme", Class::Live, 0, 10), [3, 4]);
        assert_eq!(store.waiting("acme"), Backlog { ready: 3, delayed: 0, oldest: Some(102) });
    });
}

#[test]
fn delayed_hints_come_when_they_are_due_and_count_for_their_connection() {
    on_both(|commit, store| {
        let add = |name, seq, due, noticed| Op::AddHint(hint(name, seq, Class::Retry, due, noticed));
        commit(
            commit_of([add("acme", 1, 50, 9), add("bolt", 2, 40, 8), add("acme", 3, 60, 7)]),
            Until::Durable,
        );
        assert_eq!(store.due(39, 10), [0; 0]);
        assert_eq!(store.due(50, 10), [2, 1]);
        assert_eq!(store.due(u64::MAX, 2), [2, 1]);
        assert_eq!(store.waiting("acme"), Backlog { ready: 0, delayed: 2, oldest: Some(7) });
        // Moved to the ready ones in one commit.
        let moved = hint("acme", 3, Class::Retry, 60, 7);
        commit(commit_of([Op::DropHint(moved.key()), Op::AddHint(Hint { due: 0, ..moved })]), Until::Durable);
        assert_eq!(store.due(u64::MAX, 9), [2, 1]);
        assert_eq!(store.hints("acme", Class::Retry, 0, 9), [3]);
        assert_eq!(store.waiting("acme"), Backlog { ready: 1, delayed: 1, oldest: Some(7) });
    });
}

#[test]
fn a_hint_under_the_same_key_replaces_the_one_before() {
    on_both(|commit, store| {
        commit(commit_of([Op::AddHint(hint("acme", 1, Class::Live, 0, 70))]), Until::Durable);
        commit(commit_of([Op::AddHint(hint("acme", 1, Class::Live, 0, 80))]), Until::Durable);
        assert_eq!(store.waiting("acme"), Backlog { ready: 1, delayed: 0, oldest: Some(80) });
    });
}

#[test]
fn links_keep_their_indexes() {
    on_both(|commit, store| {
        let put = |id, external| Op::PutLink(link(id, "acme", external));
        commit(commit_of([put("b", Some("1")), put("a", None), put("c", Some("3"))]), Until::Durable);
        assert_eq!(store.link_of("b", "acme"), Some(link("b", "acme", Some("1"))));
        assert_eq!(store.link_of("b", "other"), None);
        assert_eq!(store.links_after("acme", None, 9), ["a", "b", "c"]);
        assert_eq!(store.links_after("acme", Some("a"), 1), ["b"]);
        assert_eq!(store.owner("acme", "1").as_deref(), Some("b"));
        // The external record changes hands; the old link's later change does not take it back.
        commit(commit_of([put("a", Some("1"))]), Until::Applied);
        commit(commit_of([put("b", None)]), Until::Applied);
        assert_eq!(store.owner("acme", "1").as_deref(), Some("a"));
        commit(commit_of([Op::DropLink(entity("a"), "acme".into())]), Until::Durable);
        assert_eq!(store.owner("acme", "1"), None);
        assert_eq!(store.links_after("acme", None, 9), ["b", "c"]);
        commit(commit_of([Op::DropLink(entity("a"), "acme".into())]), Until::Durable);
    });
}

#[test]
fn held_and_frozen_links_are_listed_until_they_are_released() {
    on_both(|commit, store| {
        let mut held = link("a", "acme", Some("1"));
        held.held.insert(
            "name".to_owned(),
            Held {
                fields: ["/name".to_owned()].into(),
                internal: BTreeMap::new(),
                external: [("/name".to_owned(), json!("x"))].into(),
                since: 3,
                why: "both changed".to_owned(),
                internal_said: Said::default(),
                external_said: Said { by: Some("other".to_owned()), at: Some(2) },
            },
        );
        let mut frozen = link("b", "bolt", None);
        frozen.frozen.insert("/phone".to_owned(), "went back and forth".to_owned());
        commit(
            commit_of([Op::PutLink(held), Op::PutLink(frozen), Op::PutLink(link("c", "acme", None))]),
            Until::Durable,
        );
        assert_eq!(store.held(None, 9), ["a@acme", "b@bolt"]);
        assert_eq!(store.held(None, 1), ["a@acme"]);
        assert_eq!(store.held(Some("bolt"), 9), ["b@bolt"]);
        commit(commit_of([Op::PutLink(link("a", "acme", Some("1")))]), Until::Durable);
        assert_eq!(store.held(None, 9), ["b@bolt"]);
    });
}

#[test]
fn intents_are_open_until_they_are_closed() {
    on_both(|commit, store| {
        let intent = |unknown_since| Intent {
            entity: entity("a"),
            connection: "acme".into(),
            opened_at: 4,
            call: Call::Create {
                key: "a.1".to_owned(),
                identity: vec![("/email".to_owned(), "a@example.org".to_owned())],
                sent: br#"{"email":"a@example.org"}"#.to_vec(),
                unknown_since,
            },
        };
        let update =
            Intent { call: Call::Update { unsettled: b"{}".to_vec() }, entity: entity("b"), ..intent(None) };
        commit(commit_of([Op::PutIntent(intent(None))]), Until::Durable);
        commit(commit_of([Op::PutIntent(intent(Some(5)))]), Until::Durable);
        assert_eq!(store.open_intents("acme"), [intent(Some(5))]);
        assert_eq!(store.open_intents("bolt"), []);
        commit(commit_of([Op::PutIntent(update.clone())]), Until::Durable);
        assert_eq!(store.open_intents("acme"), [intent(Some(5)), update.clone()]);
        commit(commit_of([Op::DropIntent(entity("a"), "acme".into())]), Until::Durable);
        assert_eq!(store.open_intents("acme"), [update]);
    });
}

/// An entry of which every other one weighs the same.
fn plain(id: &str, at: u64) -> HistoryEntry {
    HistoryEntry { at, ..history(id, 3) }
}

#[test]
fn history_is_bounded_and_newest_first() {
    on_both(|commit, store| {
        for at in 0..40 {
            commit(
                commit_of([Op::AddHistory(plain("a", at)), Op::AddHistory(plain("b", at))]),
                Until::Applied,
            );
        }
        let kept = usize::try_from(small().history_bytes / plain("a", 0).weight()).unwrap();
        assert!(kept > 2);
        let expected: Vec<u64> = (0..40).rev().take(kept).collect();
        assert_eq!(store.past("a", 100), expected);
        assert_eq!(store.past("b", 2), [39, 38]);
        // Also when one commit brings more than is kept, and a single one that is too large stays.
        commit(commit_of((50..70).map(|at| Op::AddHistory(plain("a", at)))), Until::Applied);
        assert_eq!(store.past("a", 100), (50..70).rev().take(kept).collect::<Vec<_>>());
        let large = HistoryEntry { why: "x".repeat(5000), ..plain("a", 99) };
        commit(commit_of([Op::AddHistory(large)]), Until::Applied);
        assert_eq!(store.past("a", 100), [99]);
    });
}

#[test]
fn dead_letters_are_found_by_number_and_connection() {
    on_both(|commit, store| {
        commit(
            commit_of([
                Op::AddDead(letter(1, "acme", Some("a"))),
                Op::AddDead(letter(2, "bolt", Some("a"))),
                Op::AddDead(letter(3, "acme", None)),
            ]),
            Until::Durable,
        );
        assert_eq!(store.letters(None, 2), [3, 2]);
        assert_eq!(store.letters(Some("acme"), 9), [3, 1]);
        commit(commit_of([Op::DropDead(3), Op::DropDead(77)]), Until::Durable);
        assert_eq!(store.letters(Some("acme"), 9), [1]);
    });
}

#[test]
fn a_record_has_one_dead_letter_which_counts_and_keeps_its_number() {
    on_both(|commit, store| {
        let first = DeadLetter { external: Some("9".into()), ..letter(1, "acme", Some("a")) };
        commit(commit_of([Op::AddDead(first)]), Until::Durable);
        commit(commit_of([Op::AddDead(letter(2, "acme", Some("b")))]), Until::Durable);
        // In another commit, and twice within one.
        commit(commit_of([Op::AddDead(letter(3, "acme", Some("a")))]), Until::Applied);
        commit(
            commit_of([Op::AddDead(letter(4, "acme", Some("a"))), Op::AddDead(letter(5, "acme", Some("a")))]),
            Until::Durable,
        );
        assert_eq!(store.letters(None, 9), [2, 1]);
        assert_eq!(store.set_aside("acme"), 2);
        let about = store.about("acme", "a").unwrap();
        assert_eq!((about.seq, about.at, about.first_at, about.count), (1, 22, 18, 4));
        assert_eq!(about.external, Some("9".into()), "what was known of it stays known");
        assert_eq!(about.hint.seq, 5, "the newest hint");
        assert_eq!(store.about("bolt", "a"), None);

        commit(commit_of([drop_about("acme", "a"), drop_about("bolt", "a")]), Until::Durable);
        assert_eq!((store.about("acme", "a"), store.letters(None, 9)), (None, vec![2]));
        // Whoever is set aside after a success begins anew.
        commit(commit_of([Op::AddDead(letter(6, "acme", Some("a")))]), Until::Durable);
        let about = store.about("acme", "a").unwrap();
        assert_eq!((about.seq, about.first_at, about.count), (6, 23, 1));
        commit(
            commit_of([Op::DropDead(6), drop_about("acme", "b"), drop_about("acme", "b")]),
            Until::Durable,
        );
        assert_eq!((store.letters(Some("acme"), 9), store.set_aside("acme")), (vec![], 0));
    });
}

fn drop_about(connection: &str, id: &str) -> Op {
    Op::DropDeadAbout(connection.into(), "contact".into(), Subject::Internal(id.into()))
}

#[test]
fn values_are_found_by_the_beginning_of_their_names_in_order() {
    on_both(|commit, store| {
        let names = ["a/1", "a/10", "a/2", "ab/1", "a", "b/1", "a/\u{ff}", "a/\0x"];
        commit(
            commit_of(names.map(|name| Op::PutValue(name.to_owned(), name.as_bytes().to_vec()))),
            Until::Durable,
        );
        commit(commit_of([Op::DropValue("a/2".to_owned())]), Until::Durable);
        let found = |prefix: &str, after: Option<&str>, limit: usize| -> Vec<String> {
            let found = store.all_named(prefix, after, limit);
            assert!(found.iter().all(|(name, value)| name.as_bytes() == value.as_slice()));
            found.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(found("a/", None, 9), ["a/\0x", "a/1", "a/10", "a/\u{ff}"]);
        assert_eq!(found("a/", None, 2), ["a/\0x", "a/1"]);
        assert_eq!(found("a/", Some("a/1"), 9), ["a/10", "a/\u{ff}"]);
        assert_eq!(found("a/", Some("a/11"), 9), ["a/\u{ff}"], "a name that is not there");
        assert_eq!(found("a/", Some("a"), 9), ["a/\0x", "a/1", "a/10", "a/\u{ff}"]);
        assert_eq!(found("a/", Some("b"), 9), [""; 0]);
        assert_eq!(found("a/", Some("a/\u{ff}"), 9), [""; 0]);
        assert_eq!(found("a/", None, 0), [""; 0]);
        assert_eq!(found("", None, 9).len(), 7);
        assert_eq!(found("c", None, 9), [""; 0]);
    });
}

#[test]
fn values_and_deliveries_are_kept_until_dropped_also_large_ones() {
    on_both(|commit, store| {
        let large: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        commit(
            commit_of([
                Op::PutValue("cursor".to_owned(), large.clone()),
                Op::PutValue("empty".to_owned(), Vec::new()),
            ]),
            Until::Durable,
        );
        assert_eq!(store.named("cursor"), Some(large));
        assert_eq!(store.named("empty"), Some(Vec::new()));
        commit(commit_of([Op::PutValue("cursor".to_owned(), b"small".to_vec())]), Until::Durable);
        assert_eq!(store.named("cursor"), Some(b"small".to_vec()));
        commit(commit_of([Op::DropValue("cursor".to_owned())]), Until::Durable);
        assert_eq!(store.named("cursor"), None);
    });
}

#[test]
fn the_reference_crashes_to_a_prefix_that_holds_what_was_durable() {
    let store = MemoryStore::default();
    let value = |n: u8| commit_of([Op::PutValue(format!("v{n}"), vec![n])]);
    run(store.commit(value(0), Until::Applied)).unwrap();
    run(store.commit(value(1), Until::Durable)).unwrap();
    run(store.commit(value(2), Until::Applied)).unwrap();
    run(store.commit(value(3), Until::Applied)).unwrap();
    let given = store.next_seq();
    assert_eq!(store.pending(), 2);
    for (kept, present) in [(0, 2), (1, 3), (2, 4)] {
        let after = store.crash(kept);
        let found: Vec<u8> = (0..4).filter(|n| after.named(&format!("v{n}")).is_some()).collect();
        assert_eq!(found, (0..present).collect::<Vec<u8>>());
        assert!(after.next_seq() > given);
    }
    store.fail();
    assert!(matches!(run(store.commit(value(9), Until::Durable)), Err(StoreError::Failed { .. })));
}

/// A step of the random comparison.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Op>, bool),
    Checkpoint,
    Reopen,
    Close,
}

const CONNECTIONS: [&str; 3] = ["acme", "bolt", "zinc"];
const ENTITIES: [&str; 4] = ["a", "a\0b", "b", "ö"];
const EXTERNALS: [&str; 3] = ["1", "12", "2"];
const NAMES: [&str; 2] = ["cursor/acme", "counter"];

fn op() -> impl Strategy<Value = Op> {
    let connection = || prop::sample::select(&CONNECTIONS[..]);
    let id = || prop::sample::select(&ENTITIES[..]);
    let class = || prop::sample::select(&Class::ALL[..]);
    let seq = || 1_u64..20;
    let due = || prop_oneof![Just(0_u64), 1_u64..60];
    prop_oneof![
        4 => (connection(), seq(), class(), due(), 0_u64..9)
            .prop_map(|(name, seq, class, due, noticed)| Op::AddHint(hint(name, seq, class, due, noticed))),
        4 => (connection(), seq(), class(), due())
            .prop_map(|(name, seq, class, due)| Op::DropHint(hint(name, seq, class, due, 0).key())),
        1 => (seq(), connection(), 0_usize..3000).prop_map(|(seq, name, len)| Op::AddDelivery(StoredDelivery {
            seq,
            connection: name.into(),
            received_at: 3,
            delivery: Delivery { headers: Vec::new(), query: Vec::new(), body: vec![1; len] },
        })),
        1 => seq().prop_map(Op::DropDelivery),
        4 => (id(), connection(), prop::option::of(prop::sample::select(&EXTERNALS[..])), any::<bool>()).prop_map(
            |(id, name, external, frozen)| {
                let mut link = link(id, name, external);
                if frozen && external.is_none() {
                    link.life = Life::Detached { at: 1 };
                }
                if frozen {
                    link.frozen.insert("/phone".to_owned(), "why".to_owned());
                }
                Op::PutLink(link)
            }
        ),
        1 => (id(), connection()).prop_map(|(id, name)| Op::DropLink(entity(id), name.into())),
        1 => (id(), connection()).prop_map(|(id, name)| Op::PutIntent(Intent {
            entity: entity(id), connection: name.into(), opened_at: 1, call: Call::Update { unsettled: id.into() },
        })),
        1 => (id(), connection()).prop_map(|(id, name)| Op::DropIntent(entity(id), name.into())),
        2 => (id(), 0_u64..100).prop_map(|(id, at)| Op::AddHistory(history(id, at))),
        1 => id().prop_map(|id| Op::DropHistory(entity(id))),
        2 => (seq(), connection(), prop::option::of(id()))
            .prop_map(|(seq, name, id)| Op::AddDead(letter(seq, name, id))),
        1 => (connection(), id()).prop_map(|(name, id)| drop_about(name, id)),
        1 => seq().prop_map(Op::DropDead),
        1 => (prop::sample::select(&NAMES[..]), 0_usize..5000)
            .prop_map(|(name, len)| Op::PutValue(name.to_owned(), vec![7; len])),
        1 => prop::sample::select(&NAMES[..]).prop_map(|name| Op::DropValue(name.to_owned())),
    ]
}

/// A dead letter about another record under a number that is taken does not happen: numbers are given once. The same for a
/// hint under two due times at once is allowed and tested.
fn sensible(ops: Vec<Op>, letters: &mut BTreeMap<u64, (ConnectionId, Option<EntityKey>)>) -> Vec<Op> {
    let fits = |op: &Op| match op {
        Op::AddDead(letter) => {
            let about = (letter.hint.connection.clone(), letter.entity.clone());
            *letters.entry(letter.seq).or_insert_with(|| about.clone()) == about
        }
        _ => true,
    };
    let mut fits = fits;
    ops.into_iter().filter(|op| fits(op)).collect()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop::collection::vec(op(), 1..12), any::<bool>()).prop_map(|(ops, wait)| Step::Commit(ops, wait)),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ]
}

fn reopen(store: SledStore, path: &Path) -> SledStore {
    drop(store);
    SledStore::open(path, small()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("TANDEM_TORTURE").is_some() { 400 } else { 24 }, ..ProptestConfig::default() })]

    #[test]
    fn random_commits_read_the_same_on_disk_and_in_the_reference(steps in prop::collection::vec(step(), 1..60)) {
        let universe = Universe {
            connections: CONNECTIONS.to_vec(),
            entities: ENTITIES.to_vec(),
            externals: EXTERNALS.to_vec(),
            values: NAMES.to_vec(),
            highest: 20,
        };
        let mut letters = BTreeMap::new();
        let dir = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new(small().history_bytes);
        let mut store = SledStore::open(dir.path(), small()).unwrap();
        let mut given = 0;
        for step in steps {
            match step {
                Step::Commit(ops, wait) => {
                    let ops = sensible(ops, &mut letters);
                    let until = if wait { Until::Durable } else { Until::Applied };
                    run(memory.commit(commit_of(ops.clone()), until)).unwrap();
                    run(store.commit(commit_of(ops), until)).unwrap();
                }
                Step::Checkpoint => store.checkpoint(),
                Step::Reopen => store = reopen(store, dir.path()),
                Step::Close => {
                    store.close().unwrap();
                    store = reopen(store, dir.path());
                }
            }
            let next = store.next_seq();
            prop_assert!(next > given);
            given = next;
            for (on_disk, expected) in store.everything(&universe).iter().zip(memory.everything(&universe)) {
                prop_assert_eq!(on_disk, &expected);
            }
        }
        let check = store.check().unwrap();
        prop_assert_eq!((check.damaged, check.dangling, check.miscounted), (Vec::new(), 0, 0));
    }
}
