//! The store against a model that is small enough to be right: any sequence of writes, with the store opened anew in between.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::open;
use crate::internal::embedded::{Cursor, Embedded};
use crate::internal::{Expected, Internal, Outcome, Write};

#[derive(Clone, Debug)]
enum Step {
    /// A write to one of a few records, with one of a few addresses; None: a deletion.
    Write {
        scope: u8,
        id: u8,
        expected: Guess,
        email: Option<u8>,
    },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Guess {
    Absent,
    Right,
    Wrong,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![2 => Just(Guess::Absent), 3 => Just(Guess::Right), 1 => Just(Guess::Wrong)];
    let email = prop_oneof![1 => Just(None), 4 => (0..4_u8).prop_map(Some)];
    let write = (0..2_u8, 0..4_u8, guess, email).prop_map(|(scope, id, expected, email)| Step::Write {
        scope,
        id,
        expected,
        email,
    });
    prop::collection::vec(prop_oneof![30 => write, 1 => Just(Step::Reopen)], 1..80)
}

#[derive(Default)]
struct Model {
    /// Version and address; no address: deleted.
    records: BTreeMap<(u8, u8), (u64, Option<u8>)>,
    /// Every change: version, scope, id.
    feed: Vec<(u64, u8, u8)>,
}

enum Said {
    Written,
    Conflict,
    Exists(u8),
}

impl Model {
    fn write(&mut self, scope: u8, id: u8, expected: Expected, email: Option<u8>) -> Said {
        let live = self.records.get(&(scope, id)).copied().filter(|(_, email)| email.is_some());
        let holds = match expected {
            Expected::Absent => live.is_none() && email.is_some(),
            Expected::Version(version) => live.is_some_and(|(found, _)| found == version),
        };
        if !holds {
            return Said::Conflict;
        }
        if live.is_some_and(|(_, found)| found == email) {
            return Said::Written;
        }
        let owner = self.records.iter().find(|((of, other), (_, held))| {
            *of == scope && *other != id && held.is_some() && *held == email
        });
        if let Some(((_, owner), _)) = owner {
            return Said::Exists(*owner);
        }
        let version = self.feed.len() as u64 + 1;
        self.records.insert((scope, id), (version, email));
        self.feed.push((version, scope, id));
        Said::Written
    }
}

fn document(email: u8) -> Value {
    json!({ "email": format!("p{email}@x.example") })
}

async fn same(store: &Embedded, model: &Model) {
    for ((scope, id), (version, email)) in &model.records {
        let (scope, id) = (scope.to_string(), id.to_string());
        let record = store.read(&scope.into(), &"contact".into(), &id.into()).await.unwrap().unwrap();
        assert_eq!((record.version, record.document), (*version, email.map(document)));
    }
    // All changes, with those overtaken within one page left out: pages of one leave out none.
    let mut cursor = Some(Cursor::Feed { after: 0 }.encode());
    let mut feed = Vec::new();
    loop {
        let page = store.changes(cursor.as_deref(), 1).await.unwrap();
        let Some(change) = page.changes.first() else { break };
        feed.push((
            change.version,
            change.scope.as_str().parse().unwrap(),
            change.id.as_str().parse().unwrap(),
        ));
        cursor = Some(page.cursor);
    }
    assert_eq!(feed, model.feed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_writes_leaves_what_the_model_has(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(folder.path());
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Reopen => {
                        drop(store);
                        store = open(folder.path());
                    }
                    Step::Write { scope, id, expected, email } => {
                        let known = model.records.get(&(scope, id)).map_or(0, |(version, _)| *version);
                        let expected = match expected {
                            Guess::Absent => Expected::Absent,
                            Guess::Right => Expected::Version(known),
                            Guess::Wrong => Expected::Version(known + 1),
                        };
                        let write = Write {
                            scope: scope.to_string().into(),
                            object: "contact".into(),
                            id: id.to_string().into(),
                            expected,
                            document: email.map(document),
                            origin: "model".into(),
                        };
                        let outcome = store.write_if(write).await.unwrap();
                        match (model.write(scope, id, expected, email), outcome) {
                            (Said::Written, Outcome::Written(record)) => {
                                assert_eq!(record.version, model.records[&(scope, id)].0);
                            }
                            (Said::Conflict, Outcome::Conflict(record)) => {
                                let found = record.map(|record| record.version);
                                assert_eq!(found, model.records.get(&(scope, id)).map(|(version, _)| *version));
                            }
                            (Said::Exists(owner), Outcome::Exists(id)) => {
                                assert_eq!(id.as_str(), owner.to_string());
                            }
                            (_, other) => panic!("{other:?}"),
                        }
                    }
                }
            }
            same(&store, &model).await;
        });
    }
}
