//! The store against power loss, `SIGKILL` and failing disks.
//!
//! A process of its own (this test binary again, see `writer_process`) commits with `Until::Durable` and then says so in the
//! file `ack-marker`. From what it acknowledged, the whole contents of the store can be told.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test: it fails by panicking"
)]

#[path = "../../../tests/e2e/src/power.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "it belongs to tandem-e2e, whose tests of the whole daemon use all of it"
)]
mod power;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tandem::store::sled::{Options, SledStore};
use tandem::store::{Class, Commit, Hint, HistoryEntry, Op, Store, StoreError, Subject, Until};
use tandem_core::id::EntityKey;
use tandem_core::link::{Link, Pair};

use self::power::{Keep, Recording};

const TASKS: u64 = 6;
/// Each task goes round so many links.
const LINKS: u64 = 50;
/// A hint is acknowledged when so many newer ones are there.
const OPEN: u64 = 10;
/// Every so many commits a large value is written.
const LARGE: u64 = 17;
const FOLDER: &str = "TANDEM_TEST_STORE";
const COMMITS: &str = "TANDEM_TEST_COMMITS";

fn torture() -> bool {
    std::env::var_os("TANDEM_TORTURE").is_some()
}

fn rounds() -> u64 {
    if torture() { 200 } else { 20 }
}

/// Small generations and segments: checkpoints, segment changes and reuse within a short run.
fn options() -> Options {
    Options {
        memory_bytes: 128 << 10,
        journal_bytes: 512 << 10,
        cache_bytes: 4 << 20,
        segment_bytes: 1 << 20,
        lazy: Duration::from_millis(2),
        pace: Duration::from_millis(1),
        min_free_bytes: 0,
        history_bytes: 2000,
    }
}

fn task_name(task: u64) -> String {
    format!("task-{task}")
}

fn entity(task: u64, slot: u64) -> EntityKey {
    EntityKey {
        scope: task_name(task).as_str().into(),
        object: "contact".into(),
        id: format!("{slot:03}").into(),
    }
}

fn link(task: u64, n: u64) -> Link {
    let mut link = Link::new(entity(task, n % LINKS), task_name(task).as_str().into());
    link.external = Some(format!("{}", n % LINKS).into());
    link.internal_version = Some(n);
    for field in 0..12 {
        let value = json!(format!("field {field} of commit {n} of task {task}"));
        link.base.insert(
            format!("/f{field}"),
            Pair { internal: Some(value.clone()), external: Some(value), ..Pair::default() },
        );
    }
    link
}

fn hint(task: u64, n: u64) -> Hint {
    Hint {
        seq: task * 10_000_000 + n,
        connection: task_name(task).as_str().into(),
        object: "contact".into(),
        subject: Subject::Internal(format!("{n}").into()),
        class: Class::Live,
        noticed_at: n,
        due: 0,
        attempts: 0,
        cause: "edit".to_owned(),
        observed: None,
    }
}

fn large(n: u64) -> Vec<u8> {
    (0..40_000_u64).map(|at| (at.wrapping_mul(n + 1) % 253) as u8).collect()
}

fn commit(task: u64, n: u64) -> Commit {
    let mut ops = vec![
        Op::PutValue(format!("last/{task}"), n.to_le_bytes().to_vec()),
        Op::PutLink(link(task, n)),
        Op::AddHint(hint(task, n)),
        Op::AddHistory(HistoryEntry {
            what: "wrote-external".to_owned(),
            why: "changed".to_owned(),
            cause: "edit".to_owned(),
            calls: 1,
            ..HistoryEntry::new(
                &Link::new(entity(task, n % LINKS), task_name(task).as_str().into()),
                n,
                "none".to_owned(),
            )
        }),
    ];
    if n > OPEN {
        ops.push(Op::DropHint(hint(task, n - OPEN).key()));
    }
    if n.is_multiple_of(LARGE) {
        ops.push(Op::PutValue(format!("large/{task}"), large(n)));
    }
    Commit { ops }
}

fn last(store: &SledStore, task: u64) -> Result<u64, StoreError> {
    let value = store.value(&format!("last/{task}"))?;
    Ok(value.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap())))
}

/// Not a test: the process that is killed. Ends with 3 when the store failed as it should.
#[test]
fn writer_process() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let commits: u64 = std::env::var(COMMITS).unwrap().parse().unwrap();
    let store = match SledStore::open(&folder.join("store"), options()) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            eprintln!("open: {error}");
            std::process::exit(3);
        }
    };
    let acks = fs::File::options().append(true).create(true).open(folder.join("ack-marker")).unwrap();
    let acks = Arc::new(Mutex::new(acks));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let (store, acks) = (store.clone(), acks.clone());
            tasks.spawn(async move {
                let from = last(&store, task).unwrap() + 1;
                let (mut n, mut unread) = (from, 0);
                while n < from + commits {
                    match store.commit(commit(task, n), Until::Durable).await {
                        // In one write: a kill may come between two.
                        Ok(()) => {
                            acks.lock().unwrap().write_all(format!("{task} {n}\n").as_bytes()).unwrap();
                            n += 1;
                        }
                        // The tree refuses what this commit had to read, a moment before the thread that met the fault says so.
                        Err(StoreError::Unreadable { .. }) if unread < 5_000 => {
                            unread += 1;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        Err(error) => {
                            assert!(matches!(error, StoreError::Failed { .. }), "{error}");
                            // It never recovers by itself, and reads go on.
                            for until in [Until::Durable, Until::Applied] {
                                let again = store.commit(commit(task, n), until).await;
                                assert!(matches!(again, Err(StoreError::Failed { .. })), "{again:?}");
                            }
                            last(&store, task).unwrap();
                            return true;
                        }
                    }
                }
                false
            });
        }
        let mut failed = false;
        while let Some(outcome) = tasks.join_next().await {
            failed |= outcome.unwrap();
        }
        failed
    });
    // As if killed: no destructor runs.
    std::process::exit(if failed { 3 } else { 0 });
}

/// A folder on a real disk.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    power::refuse_tmpfs(dir.path()).unwrap();
    dir
}

struct Writer {
    dir: tempfile::TempDir,
    shim: Option<PathBuf>,
}

impl Writer {
    fn new() -> Self {
        let dir = folder();
        fs::create_dir(dir.path().join("watched")).unwrap();
        Self { dir, shim: None }
    }

    fn with_shim() -> Self {
        let mut writer = Self::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/shim/shim.c");
        writer.shim = Some(power::compile_shim(&source, writer.dir.path()).unwrap());
        writer
    }

    fn watched(&self) -> PathBuf {
        self.dir.path().join("watched")
    }

    fn command(&self, commits: u64, shim: &[(&str, &str)]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "writer_process", "--nocapture", "--test-threads", "1"])
            .env(FOLDER, self.watched())
            .env(COMMITS, commits.to_string())
            .stdout(Stdio::null());
        if let Some(library) = &self.shim {
            command
                .env("LD_PRELOAD", library)
                .env("TANDEM_SHIM_DIR", self.watched())
                .env("TANDEM_SHIM_LOG", self.dir.path().join("log"));
        }
        for (name, value) in shim {
            command.env(name, value);
        }
        command
    }

    /// Runs to its end, and says how it ended.
    fn run(&self, commits: u64, shim: &[(&str, &str)]) -> i32 {
        wait(self.command(commits, shim).spawn().unwrap())
    }

    fn recording(&self) -> Recording {
        Recording::read(&self.dir.path().join("log"), &self.watched()).unwrap()
    }

    fn acknowledged(&self) -> Vec<u64> {
        highest(&fs::read(self.watched().join("ack-marker")).unwrap_or_default())
    }
}

fn wait(mut child: Child) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > Duration::from_secs(240) {
            let _ = child.kill();
            panic!("the writer hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The highest acknowledged number of each task. A line that was being written when the process died does not count.
fn highest(acks: &[u8]) -> Vec<u64> {
    let mut highest = vec![0; TASKS as usize];
    let text = String::from_utf8_lossy(acks);
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut words = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        let (task, n) = (words.next().unwrap() as usize, words.next().unwrap());
        highest[task] = highest[task].max(n);
    }
    highest
}

/// Opens a store and compares everything in it with what its last commits make it.
fn verify(folder: &Path, acknowledged: &[u64]) -> Result<(), String> {
    let said = |error: StoreError| error.to_string();
    let store = SledStore::open(folder, options()).map_err(said)?;
    let mut problems = Vec::new();
    let mut problem = |what: String| problems.push(what);
    for task in 0..TASKS {
        let name = task_name(task);
        let connection = name.as_str().into();
        let n = last(&store, task).map_err(said)?;
        if n < acknowledged[task as usize] {
            problem(format!("{name}: {} was acknowledged, {n} is there", acknowledged[task as usize]));
        }
        let first = n.saturating_sub(LINKS - 1).max(1);
        let links = store.scan_links(&connection, None, 1000).map_err(said)?;
        if links.len() as u64 != (n + 1 - first) {
            problem(format!("{name}: {} links at {n}", links.len()));
        }
        for version in first..=n {
            let found = store.link(&entity(task, version % LINKS), &connection).map_err(said)?;
            if found.as_ref() != Some(&link(task, version)) {
                let found = found.and_then(|link| link.internal_version);
                problem(format!("{name}: link {version} of {n} is {found:?}"));
            }
        }
        let hints: Vec<u64> = store
            .ready(&connection, Class::Live, 0, 1000)
            .map_err(said)?
            .iter()
            .map(|hint| hint.noticed_at)
            .collect();
        let expected: Vec<u64> = (n.saturating_sub(OPEN - 1).max(1)..=n).collect();
        if hints != expected {
            problem(format!("{name}: hints {hints:?} at {n}"));
        }
        if store.backlog(&connection).map_err(said)?.ready != expected.len() as u64 {
            problem(format!("{name}: miscounted at {n}"));
        }
        if n > 0 {
            let newest = store.history(&entity(task, n % LINKS), 1).map_err(said)?;
            if newest.first().map(|entry| entry.at) != Some(n) {
                problem(format!("{name}: history ends at {newest:?}, not {n}"));
            }
        }
        let found = store.value(&format!("large/{task}")).map_err(said)?;
        let expected = n / LARGE * LARGE;
        if found != (expected > 0).then(|| large(expected)) {
            problem(format!("{name}: the large value at {n} is not that of {expected}"));
        }
    }
    let check = store.check().map_err(said)?;
    if !check.damaged.is_empty() || check.dangling > 0 || check.miscounted > 0 {
        problem(format!("{check:?}"));
    }
    // It has to take new work, also.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let value = Commit { ops: vec![Op::PutValue("after".to_owned(), vec![1])] };
    if let Err(error) = runtime.block_on(store.commit(value, Until::Durable)) {
        problem(error.to_string());
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// Takes an image, opens it and verifies it. Returns what is wrong.
fn judge(recording: &Recording, at: usize, keep: Keep) -> Result<(), String> {
    let mut acks = Vec::new();
    for ack in recording.acknowledged(at) {
        acks.extend(ack.data);
    }
    let dir = folder();
    recording.image(at, keep).write_to(dir.path()).unwrap();
    verify(&dir.path().join("store"), &highest(&acks)).map_err(|error| format!("at {at}, {keep:?}: {error}"))
}

fn keep_of(round: u64) -> Keep {
    match round % 4 {
        0 => Keep::Nothing,
        1 => Keep::Torn(round),
        _ => Keep::Some(round),
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_power_goes() {
    let writer = Writer::with_shim();
    let commits = if torture() { 1000 } else { 150 };
    // Three lives: the positions of the images lie also in openings and recoveries.
    for _ in 0..3 {
        assert_eq!(writer.run(commits, &[]), 0);
    }
    let recording = writer.recording();
    assert!(recording.syncs() > 100, "{} syncs", recording.syncs());
    assert!(recording.acknowledged(recording.len()).count() as u64 >= 3 * TASKS * commits);
    let rounds = rounds();
    let mut wrong = Vec::new();
    for round in 0..rounds {
        let at = (recording.len() as u64 * (round + 1) / rounds) as usize;
        wrong.extend(judge(&recording, at, keep_of(round)).err());
    }
    assert!(wrong.is_empty(), "{} of {rounds} images:\n{}", wrong.len(), wrong.join("\n"));
    println!("{rounds} images of {} lines, {} syncs", recording.len(), recording.syncs());
}

#[test]
fn the_referee_finds_a_store_that_does_not_sync() {
    let writer = Writer::with_shim();
    assert_eq!(writer.run(60, &[("TANDEM_SHIM_IGNORE", "fdatasync")]), 0);
    let recording = writer.recording();
    assert!(judge(&recording, recording.len(), Keep::Everything).is_ok());
    let found = judge(&recording, recording.len(), Keep::Nothing);
    assert!(found.as_ref().is_err_and(|what| what.contains("was acknowledged")), "{found:?}");
}

#[test]
fn killed_at_any_moment_it_loses_nothing() {
    let writer = Writer::new();
    let mut acknowledged = 0;
    for round in 0..rounds() {
        let mut child = writer.command(1_000_000, &[]).spawn().unwrap();
        // A different moment each time: after so many acknowledgements, some while it opens.
        let more = round * 37 % 200;
        let begun = Instant::now();
        while (writer.acknowledged().iter().sum::<u64>()) < acknowledged + more {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
            assert!(begun.elapsed() < Duration::from_secs(60), "the writer hangs");
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let acks = writer.acknowledged();
        let begun = Instant::now();
        verify(&writer.watched().join("store"), &acks).unwrap_or_else(|what| panic!("round {round}: {what}"));
        assert!(begun.elapsed() < Duration::from_secs(30));
        acknowledged = acks.iter().sum();
    }
    assert!(acknowledged > 0);
    println!("{} kills, {acknowledged} acknowledged", rounds());
}

#[test]
fn a_failing_disk_stops_the_store_and_loses_nothing() {
    let faults = [
        "fdatasync:30:EIO:/journal/",
        "pwrite:30:ENOSPC:/journal/",
        "pwrite:30+:ENOSPC:/journal/",
        "fdatasync:4:EIO:/tree/db",
        "pwrite:6:ENOSPC:/tree/db",
        "fsync:8:EIO:/journal",
    ];
    for fault in faults {
        let writer = Writer::with_shim();
        assert_eq!(writer.run(2000, &[("TANDEM_SHIM_FAIL", fault)]), 3, "{fault}");
        let recording = writer.recording();
        let lost = judge(&recording, recording.len(), Keep::Nothing);
        assert!(lost.is_ok(), "{fault}: {lost:?}");
        // The disk is well again, and so is the store.
        verify(&writer.watched().join("store"), &writer.acknowledged())
            .unwrap_or_else(|what| panic!("{fault}: {what}"));
    }
}
