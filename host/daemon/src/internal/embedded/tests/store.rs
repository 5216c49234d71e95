use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::{open, options};
use crate::internal::embedded::{Embedded, layout};
use crate::internal::{Expected, Internal, Outcome, Record, Write};

async fn write(
    store: &Embedded,
    scope: &str,
    id: &str,
    expected: Expected,
    document: Option<Value>,
) -> Outcome {
    let write = Write {
        scope: scope.into(),
        object: "contact".into(),
        id: id.into(),
        expected,
        document,
        origin: "test".into(),
    };
    store.write_if(write).await.expect("the store answers")
}

async fn create(store: &Embedded, scope: &str, id: &str, document: Value) -> u64 {
    match write(store, scope, id, Expected::Absent, Some(document)).await {
        Outcome::Written(record) => record.version,
        other => panic!("{other:?}"),
    }
}

async fn read(store: &Embedded, scope: &str, id: &str) -> Option<Record> {
    store.read(&scope.into(), &"contact".into(), &id.into()).await.expect("the store answers")
}

/// All changes after a cursor, and the cursor behind them.
async fn drain(store: &Embedded, cursor: Option<Vec<u8>>, limit: usize) -> (Vec<(String, u64)>, Vec<u8>) {
    let mut cursor = cursor;
    let mut all = Vec::new();
    loop {
        let page = store.changes(cursor.as_deref(), limit).await.expect("the store answers");
        let empty = page.changes.is_empty();
        all.extend(
            page.changes.iter().map(|change| (format!("{}/{}", change.scope, change.id), change.version)),
        );
        cursor = Some(page.cursor);
        if empty {
            return (all, cursor.unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn a_record_lives_dies_and_comes_back_with_ever_greater_versions() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(read(&store, "s", "1").await, None);
    let first = create(&store, "s", "1", json!({"given_name": "A"})).await;
    assert!(matches!(
        write(&store, "s", "1", Expected::Absent, Some(json!({}))).await,
        Outcome::Conflict(Some(_))
    ));
    let Outcome::Written(second) =
        write(&store, "s", "1", Expected::Version(first), Some(json!({"given_name": "B"}))).await
    else {
        panic!()
    };
    assert!(second.version > first);
    let stale = write(&store, "s", "1", Expected::Version(first), Some(json!({"given_name": "C"}))).await;
    assert_eq!(stale, Outcome::Conflict(Some(second.clone())));
    let Outcome::Written(gone) = write(&store, "s", "1", Expected::Version(second.version), None).await
    else {
        panic!()
    };
    assert_eq!(read(&store, "s", "1").await, Some(gone.clone()));
    assert!(gone.document.is_none() && gone.version > second.version);
    assert!(matches!(
        write(&store, "s", "1", Expected::Version(gone.version), Some(json!({}))).await,
        Outcome::Conflict(Some(_))
    ));
    assert!(matches!(write(&store, "s", "2", Expected::Version(1), None).await, Outcome::Conflict(None)));
    assert!(create(&store, "s", "1", json!({"given_name": "D"})).await > gone.version);
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let version = create(&store, "s", "1", json!({"given_name": "A"})).await;
    let Outcome::Written(same) =
        write(&store, "s", "1", Expected::Version(version), Some(json!({"given_name": "A"}))).await
    else {
        panic!()
    };
    assert_eq!(same.version, version);
    assert_eq!(drain(&store, None, 10).await.0, [("s/1".to_owned(), version)]);
}

#[tokio::test]
async fn identity_values_are_unique_among_live_records_of_a_scope() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = create(&store, "s", "1", json!({"email": "A@x.example"})).await;
    assert_eq!(
        write(&store, "s", "2", Expected::Absent, Some(json!({"email": "a@X.example"}))).await,
        Outcome::Exists("1".into())
    );
    create(&store, "other", "2", json!({"email": "a@x.example"})).await;
    let second = create(&store, "s", "2", json!({"email": "b@x.example"})).await;
    assert_eq!(
        write(&store, "s", "2", Expected::Version(second), Some(json!({"email": "a@x.example"}))).await,
        Outcome::Exists("1".into())
    );
    // Given up by an update, and by a deletion.
    write(&store, "s", "1", Expected::Version(first), Some(json!({"email": "c@x.example"}))).await;
    create(&store, "s", "3", json!({"email": "a@x.example"})).await;
    write(&store, "s", "2", Expected::Version(second), None).await;
    create(&store, "s", "4", json!({"email": "b@x.example"})).await;
    assert_eq!(
        write(&store, "s", "2", Expected::Absent, Some(json!({"email": "b@x.example"}))).await,
        Outcome::Exists("4".into())
    );
}

#[tokio::test]
async fn of_many_who_claim_an_identity_at_once_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let claims = (0..64).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            let document = Some(json!({"email": "same@x.example", "employees": number}));
            write(&store, "s", &number.to_string(), Expected::Absent, document).await
        })
    });
    let mut taken = Vec::new();
    let mut refused = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            Outcome::Written(record) => taken.push(record),
            Outcome::Exists(id) => refused.push(id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((taken.len(), refused.len()), (1, 63));
    assert!(refused.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn refused_documents_and_names_are_rejected_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let rejected = |outcome: Outcome| match outcome {
        Outcome::Rejected(problems) => problems[0].code.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        rejected(write(&store, "s", "1", Expected::Absent, Some(json!({"given_name": 1}))).await),
        "type"
    );
    assert_eq!(rejected(write(&store, "s", "a/b", Expected::Absent, Some(json!({}))).await), "bad-name");
    assert_eq!(rejected(write(&store, "", "1", Expected::Absent, Some(json!({}))).await), "bad-name");
    let large =
        json!({"notes": "x".repeat(65_536), "street": "é".repeat(1024), "tags": vec!["y".repeat(250); 300]});
    assert_eq!(rejected(write(&store, "s", "1", Expected::Absent, Some(large)).await), "too-large");
    let unknown = Write {
        scope: "s".into(),
        object: "deal".into(),
        id: "1".into(),
        expected: Expected::Absent,
        document: Some(json!({})),
        origin: "test".into(),
    };
    assert_eq!(rejected(store.write_if(unknown).await.unwrap()), "unknown-object");
    assert_eq!(drain(&store, None, 10).await.0, []);
    assert_eq!(store.counters().rejected.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn the_feed_names_every_change_after_a_cursor_also_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (nothing, start) = drain(&store, None, 10).await;
    assert!(nothing.is_empty());
    for number in 0..25 {
        create(&store, "s", &format!("{number:02}"), json!({"employees": number})).await;
    }
    let (all, middle) = drain(&store, Some(start.clone()), 7).await;
    assert_eq!(all.len(), 25);
    assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].1));
    drop(store);

    let store = open(folder.path());
    assert!(drain(&store, Some(middle.clone()), 7).await.0.is_empty());
    assert_eq!(drain(&store, Some(start), 7).await.0, all);
    let version = create(&store, "s", "late", json!({})).await;
    assert!(all.iter().all(|(_, earlier)| *earlier < version));
    assert_eq!(drain(&store, Some(middle), 7).await.0, [("s/late".to_owned(), version)]);
    let mut walked = drain(&store, None, 7).await.0;
    walked.sort_by_key(|(_, version)| *version);
    assert_eq!(walked.len(), 26);
}

#[tokio::test]
async fn a_walk_that_is_overtaken_by_writes_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut versions = std::collections::BTreeMap::new();
    for number in 0..30 {
        let id = format!("{number:02}");
        versions.insert(format!("s/{id}"), create(&store, "s", &id, json!({"employees": number})).await);
    }
    let first = store.changes(None, 10).await.unwrap();
    let mut seen: Vec<(String, u64)> = first
        .changes
        .iter()
        .map(|change| (format!("{}/{}", change.scope, change.id), change.version))
        .collect();
    // Behind the walker, in front of it, a new one, a deletion.
    for id in ["00", "29"] {
        let version = versions[&format!("s/{id}")];
        let Outcome::Written(record) =
            write(&store, "s", id, Expected::Version(version), Some(json!({"employees": 1000}))).await
        else {
            panic!()
        };
        versions.insert(format!("s/{id}"), record.version);
    }
    versions.insert("s/0-new".into(), create(&store, "s", "0-new", json!({})).await);
    let Outcome::Written(record) = write(&store, "s", "20", Expected::Version(versions["s/20"]), None).await
    else {
        panic!()
    };
    versions.insert("s/20".into(), record.version);
    seen.extend(drain(&store, Some(first.cursor), 10).await.0);
    for (name, version) in versions {
        assert!(seen.contains(&(name.clone(), version)), "{name} {version}");
    }
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_walks_the_records_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options();
    options.feed_keep = 20;
    let store = Embedded::open(folder.path(), options).unwrap();
    create(&store, "s", "first", json!({})).await;
    let (_, old) = drain(&store, None, 10).await;
    for number in 0..200 {
        create(&store, "s", &format!("{number:03}"), json!({"employees": number})).await;
    }
    drop(store);
    let mut options = super::options();
    options.feed_keep = 20;
    let store = Embedded::open(folder.path(), options).unwrap();
    let kept = store.inner.shared.disk.tree().scan_prefix([layout::FEED]).count();
    assert!((20..=24).contains(&kept), "{kept} blocks");
    let (walked, new) = drain(&store, Some(old), 50).await;
    assert_eq!(walked.len(), 201, "all records, each once");
    assert!(drain(&store, Some(new.clone()), 50).await.0.is_empty());
    // A cursor of a store that was ahead of this one, and one that never was a cursor.
    let ahead = crate::internal::embedded::Cursor::Feed { after: 1_000_000 }.encode();
    assert_eq!(drain(&store, Some(ahead), 50).await.0.len(), 201);
    assert_eq!(drain(&store, Some(b"nonsense".to_vec()), 50).await.0.len(), 201);
}

#[tokio::test]
async fn waiting_ends_when_something_changes_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "s", "1", json!({})).await;
    let (_, cursor) = drain(&store, None, 10).await;
    let waiting = tokio::spawn({
        let (store, cursor) = (store.clone(), cursor.clone());
        async move { store.wait(Some(&cursor)).await }
    });
    // Many turns of the scheduler later it still waits.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    create(&store, "s", "2", json!({})).await;
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("woken").unwrap();
    store.wait(Some(&cursor)).await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_and_readers_see_what_was_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let version = create(&store, "s", "1", json!({"given_name": "durable"})).await;
    store.inner.shared.disk.broken.store(true, Ordering::SeqCst);
    let attempt = |id: &str, expected| {
        let write = Write {
            scope: "s".into(),
            object: "contact".into(),
            id: id.into(),
            expected,
            document: Some(json!({"given_name": "lost"})),
            origin: "test".into(),
        };
        store.write_if(write)
    };
    let error = attempt("1", Expected::Version(version)).await.unwrap_err();
    assert!(error.what.contains("until the daemon is restarted"), "{error}");
    // Also when the disk seems well again.
    store.inner.shared.disk.broken.store(false, Ordering::SeqCst);
    assert!(attempt("2", Expected::Absent).await.is_err());
    assert!(store.failure().is_some());
    assert_eq!(read(&store, "s", "1").await.unwrap().document, Some(json!({"given_name": "durable"})));
    assert_eq!(read(&store, "s", "2").await, None);
    assert_eq!(drain(&store, None, 10).await.0, [("s/1".to_owned(), version)]);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_never_taken_for_an_absent_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let version = create(&store, "s", "1", json!({"email": "a@x.example"})).await;
    create(&store, "s", "2", json!({"email": "b@x.example"})).await;
    let key = layout::record_key("s", "contact", "1");
    let tree = store.inner.shared.disk.tree();
    let mut value = tree.get(&key).unwrap().unwrap().to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    tree.insert(&key, value).unwrap();

    let error = store.read(&"s".into(), &"contact".into(), &"1".into()).await.unwrap_err();
    assert!(error.what.contains("s/contact/1"), "{error}");
    for expected in [Expected::Absent, Expected::Version(version)] {
        let write = Write {
            scope: "s".into(),
            object: "contact".into(),
            id: "1".into(),
            expected,
            document: Some(json!({})),
            origin: "test".into(),
        };
        assert!(store.write_if(write).await.is_err());
    }
    assert!(read(&store, "s", "2").await.is_some());
    // Its identity value is free: no live record can be shown to hold it.
    create(&store, "s", "3", json!({"email": "a@x.example"})).await;
    assert!(store.counters().damaged.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn counting_up_by_version_loses_no_step() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    create(&store, "s", "n", json!({"employees": 0})).await;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 25 {
                    let record = read(&store, "s", "n").await.unwrap();
                    let next = record.document.unwrap()["employees"].as_u64().unwrap() + 1;
                    let outcome = write(
                        &store,
                        "s",
                        "n",
                        Expected::Version(record.version),
                        Some(json!({"employees": next})),
                    )
                    .await;
                    match outcome {
                        Outcome::Written(_) => done += 1,
                        Outcome::Conflict(Some(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(read(&store, "s", "n").await.unwrap().document, Some(json!({"employees": 200})));
}
