//! What the store on disk has to withstand beyond the suite that every store has to pass.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::conformance::{commit_of, hint, link, run, small};
use super::super::{Class, Op, Store, StoreError, StoredDelivery, Until};
use super::{Options, SledStore};

fn value(n: u32) -> Op {
    Op::PutValue(format!("v{n:05}"), format!("contents of value {n}, long enough to be found").into_bytes())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// A closed store with so many values, all of them in the tree.
fn filled(path: &Path, values: u32) {
    let store = SledStore::open(path, small()).unwrap();
    for n in 0..values {
        run(store.commit(commit_of([value(n)]), Until::Applied)).unwrap();
    }
    store.close().unwrap();
}

fn present(store: &SledStore, values: u32) -> u32 {
    (0..values).filter(|n| store.value(&format!("v{n:05}")).unwrap().is_some()).count() as u32
}

#[test]
fn an_unfinished_snapshot_does_not_keep_it_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 50);
    let unfinished = dir.path().join("tree/snap.7FFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, b"half of a snap").unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    assert_eq!(present(&store, 50), 50);
    assert!(!unfinished.exists());
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_log_is_read() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 300);
    drop(SledStore::open(dir.path(), small()).unwrap());
    let snapshot = files(&dir.path().join("tree"))
        .into_iter()
        .find(|path| path.to_string_lossy().contains("snap."))
        .unwrap();
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&snapshot, bytes).unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    assert_eq!(present(&store, 300), 300);
    assert!(dir.path().join("set-aside").join(snapshot.file_name().unwrap()).exists());
}

#[test]
fn a_damaged_value_reads_as_missing_is_named_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let key = super::keys::value("v00001");
    {
        let tree =
            super::tree::Tree::open(&dir.path().join("tree"), dir.path(), 1 << 20, small().segment_bytes)
                .unwrap();
        let mut bytes = tree.get(&key).unwrap().unwrap().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        tree.write(&key, Some(&bytes)).unwrap();
        tree.sync().unwrap();
    }
    let store = SledStore::open(dir.path(), small()).unwrap();
    assert_eq!(store.value("v00001").unwrap(), None);
    assert_eq!(present(&store, 3), 2);
    let check = store.check().unwrap();
    assert_eq!((check.damaged.len(), check.set_aside), (0, 1), "it was set aside by the read");
    // A new value takes its place.
    run(store.commit(commit_of([value(1)]), Until::Durable)).unwrap();
    assert_eq!(present(&store, 3), 3);
}

#[test]
fn a_check_finds_damage_that_nobody_read() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let key = super::keys::value("v00002");
    {
        let tree =
            super::tree::Tree::open(&dir.path().join("tree"), dir.path(), 1 << 20, small().segment_bytes)
                .unwrap();
        tree.write(&key, Some(b"\x01rubbish")).unwrap();
        tree.sync().unwrap();
    }
    let store = SledStore::open(dir.path(), small()).unwrap();
    let check = store.check().unwrap();
    assert_eq!((check.damaged.len(), check.set_aside), (1, 1), "{check:?}");
    assert!(check.damaged[0].starts_with("V:"), "{check:?}");
    assert_eq!(store.check().unwrap().damaged, Vec::<String>::new());
}

#[test]
fn a_flipped_byte_of_the_journal_costs_its_round_only() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = SledStore::open(dir.path(), Options::default()).unwrap();
        for n in 0..20 {
            run(store.commit(commit_of([value(n)]), Until::Durable)).unwrap();
        }
    }
    let journal = files(&dir.path().join("journal")).pop().unwrap();
    let bytes = fs::read(&journal).unwrap();
    let needle = b"contents of value 7,";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    let file = fs::File::options().write(true).open(&journal).unwrap();
    file.write_all_at(b"X", at as u64).unwrap();
    let store = SledStore::open(dir.path(), Options::default()).unwrap();
    assert_eq!(store.value("v00007").unwrap(), None);
    assert_eq!(present(&store, 20), 19);
    assert_eq!(files(&dir.path().join("set-aside")).len(), 1);
}

#[test]
fn a_byte_flipped_anywhere_in_the_tree_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 200);
    let original = fs::read(dir.path().join("tree/db")).unwrap();
    let contents = |n: u32| format!("contents of value {n}, long enough to be found").into_bytes();
    let written: Vec<usize> = (0..original.len()).filter(|at| original[*at] != 0).collect();
    for round in 0..40 {
        let copy = tempfile::tempdir().unwrap();
        for folder in ["tree", "tree/blobs", "journal"] {
            fs::create_dir_all(copy.path().join(folder)).unwrap();
            for path in files(&dir.path().join(folder)).into_iter().filter(|path| path.is_file()) {
                fs::copy(&path, copy.path().join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::copy(dir.path().join("format"), copy.path().join("format")).unwrap();
        let file = fs::File::options().write(true).open(copy.path().join("tree/db")).unwrap();
        let at = written[(written.len() - 1) * round / 40];
        file.write_all_at(&[original[at] ^ 0x20], at as u64).unwrap();
        // It may refuse to open, fail to read or miss a value; it never answers with another one.
        let Ok(store) = SledStore::open(copy.path(), small()) else { continue };
        for n in 0..200 {
            if let Ok(Some(found)) = store.value(&format!("v{n:05}")) {
                assert_eq!(found, contents(n), "byte {at}");
            }
        }
    }
}

/// A page that lies where another one should, whole and with a checksum that fits: sled asserts that this cannot be.
#[test]
fn a_page_that_is_another_ones_is_an_error_and_no_panic() {
    use std::ops::Bound;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tree");
    let segment = small().segment_bytes;
    super::tree::Tree::create(&path, segment).unwrap();
    let key = |n: u32| format!("k{n:05}").into_bytes();
    let open = || super::tree::Tree::open(&path, dir.path(), 1 << 20, segment).unwrap();
    {
        let tree = open();
        for n in 0..200 {
            tree.write(&key(n), Some(&[b'x'; 100])).unwrap();
        }
        // Two leaves get a fragment of the same length each.
        tree.write(&key(50), Some(b"first one")).unwrap();
        tree.write(&key(190), Some(&[b'y'; 100])).unwrap();
        tree.write(&key(120), Some(b"other one")).unwrap();
        tree.sync().unwrap();
    }
    let tree = open();
    let bytes = fs::read(path.join("db")).unwrap();
    let end_of = |value: &[u8]| {
        bytes.windows(value.len()).rposition(|window| window == value).map(|at| at + value.len()).unwrap()
    };
    let (from, to) = (end_of(b"first one"), end_of(b"other one"));
    let len = 25;
    let file = fs::File::options().write(true).open(path.join("db")).unwrap();
    file.write_all_at(&bytes[from - len..from], (to - len) as u64).unwrap();
    for _ in 0..2 {
        let error = tree.get(&key(120)).unwrap_err().to_string();
        assert_eq!(error, "tree: sled gave up on a page");
    }
    // A scan ends there, with the error as its last row; other pages are read as before.
    let rows: Vec<_> = tree.range(Bound::Unbounded, Bound::Unbounded).take(1_000).collect();
    assert!(rows.len() < 200 && rows.last().unwrap().is_err(), "{} rows", rows.len());
    assert_eq!(rows.iter().filter(|row| row.is_err()).count(), 1);
    let back: Vec<_> = tree.range(Bound::Unbounded, Bound::Unbounded).rev().take(1_000).collect();
    assert!(back.len() < 200 && back.last().unwrap().is_err(), "{} rows", back.len());
    assert_eq!(&*tree.get(&key(50)).unwrap().unwrap(), b"first one");
}

#[test]
fn two_cannot_have_it_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    let error = SledStore::open(dir.path(), small()).unwrap_err();
    assert!(error.to_string().contains("another process has it open"), "{error}");
    drop(store);
    SledStore::open(dir.path(), small()).unwrap();
}

#[test]
fn a_newer_format_is_refused_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1);
    fs::write(dir.path().join("format"), "tandem-store 99\nsegment 1048576\nnew-thing 1\n").unwrap();
    let error = SledStore::open(dir.path(), small()).unwrap_err();
    assert!(
        error.to_string().contains("its format is 99, this version of tandem knows formats up to 1"),
        "{error}"
    );
    fs::write(dir.path().join("format"), "").unwrap();
    assert!(matches!(SledStore::open(dir.path(), small()), Err(StoreError::Open { .. })));
}

#[test]
fn a_store_whose_making_was_interrupted_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("tree.new")).unwrap();
    fs::write(dir.path().join("tree.new/db"), b"half").unwrap();
    fs::create_dir_all(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("format.new"), b"tand").unwrap();
    filled(dir.path(), 2);
    // With a journal but without its format it is not touched.
    fs::remove_file(dir.path().join("format")).unwrap();
    assert!(matches!(SledStore::open(dir.path(), small()), Err(StoreError::Open { .. })));
}

#[test]
fn the_segment_size_of_a_store_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let store = SledStore::open(dir.path(), Options::default()).unwrap();
    assert_eq!(present(&store, 5), 5);
}

#[test]
fn without_room_on_the_disk_new_work_is_refused_and_acknowledgements_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let old = hint("acme", 1, Class::Live, 0, 1);
    {
        let store = SledStore::open(dir.path(), small()).unwrap();
        run(store.commit(commit_of([Op::AddHint(old.clone())]), Until::Durable)).unwrap();
    }
    let store = SledStore::open(dir.path(), Options { min_free_bytes: u64::MAX, ..small() }).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let refused = loop {
        let outcome =
            run(store.commit(commit_of([Op::AddHint(hint("acme", 2, Class::Live, 0, 1))]), Until::Durable));
        if outcome.is_err() || std::time::Instant::now() > deadline {
            break outcome;
        }
    };
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    let delivery =
        StoredDelivery { seq: 9, connection: "acme".into(), received_at: 1, delivery: Default::default() };
    let refused = run(store.commit(commit_of([Op::AddDelivery(delivery)]), Until::Durable));
    assert!(matches!(refused, Err(StoreError::Full { .. })));
    run(store
        .commit(commit_of([Op::DropHint(old.key()), Op::PutLink(link("a", "acme", None))]), Until::Durable))
    .unwrap();
}

#[test]
fn what_is_too_large_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    let commit =
        commit_of([value(1), Op::PutValue("large".to_owned(), vec![0; super::codec::MAX_VALUE + 1])]);
    assert!(matches!(run(store.commit(commit, Until::Durable)), Err(StoreError::TooLarge { .. })));
    let long = link(&"x".repeat(600), "acme", None);
    assert!(matches!(
        run(store.commit(commit_of([Op::PutLink(long)]), Until::Durable)),
        Err(StoreError::TooLarge { .. })
    ));
    assert_eq!(present(&store, 2), 0);
    assert_eq!(store.busy().unwrap(), []);
}

#[test]
fn large_values_never_become_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    for n in 0..60 {
        let op = Op::PutValue(format!("large{n}"), vec![n as u8; super::codec::MAX_VALUE / 8]);
        run(store.commit(commit_of([op]), Until::Applied)).unwrap();
    }
    store.close().unwrap();
    assert_eq!(files(&dir.path().join("tree/blobs")), Vec::<PathBuf>::new());
    drop(store);
    let store = SledStore::open(dir.path(), small()).unwrap();
    for n in 0..60 {
        assert_eq!(
            store.value(&format!("large{n}")).unwrap(),
            Some(vec![n as u8; super::codec::MAX_VALUE / 8])
        );
    }
}

#[test]
fn a_closed_store_takes_nothing_more_and_its_journal_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), small()).unwrap();
    run(store.commit(commit_of([value(1)]), Until::Applied)).unwrap();
    store.close().unwrap();
    assert!(matches!(
        run(store.commit(commit_of([value(2)]), Until::Applied)),
        Err(StoreError::Failed { .. })
    ));
    let journals = files(&dir.path().join("journal"));
    assert_eq!(journals.len(), 1);
    assert_eq!(fs::metadata(&journals[0]).unwrap().len(), 16);
    drop(store);
    assert_eq!(present(&SledStore::open(dir.path(), small()).unwrap(), 3), 1);
}
