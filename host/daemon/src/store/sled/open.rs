//! Opening: the folder, its lock, its format, recovery.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Condvar, Mutex, RwLock};
use tandem_core::id::ConnectionId;
use tokio::sync::Notify;

use super::super::StoreError;
use super::Options;
use super::codec::{self, Damage};
use super::engine::{BLOCK, CHECKPOINT, Connections, Engine, SEQ, Writer};
use super::journal::{self, Frame, Journal};
use super::keys;
use super::reads::{Found, Stretch};
use super::stage::unpack_count;
use super::tables::Tables;
use super::tree::{self, Tree};

/// The format of the folder. Each version opens the folders of all versions before it.
const FORMAT: u32 = 1;
/// Where what is damaged is kept, in the store's folder.
pub(super) const ASIDE: &str = "set-aside";

/// What a folder says of itself.
struct Manifest {
    segment: usize,
}

fn read_manifest(text: &str) -> Result<Manifest, String> {
    let mut segment = None;
    let mut format = None;
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("tandem-store", value)) => format = value.parse::<u32>().ok(),
            Some(("segment", value)) => segment = value.parse::<usize>().ok(),
            _ => {}
        }
    }
    match (format, segment) {
        (Some(format), _) if format > FORMAT => Err(format!(
            "its format is {format}, this version of tandem knows formats up to {FORMAT}: use the version that wrote it, or a later one"
        )),
        (Some(_), Some(segment)) => Ok(Manifest { segment }),
        _ => Err("its file `format` is damaged: restore the folder from a backup".to_owned()),
    }
}

/// Makes a folder and those above it. Their names are on disk when this returns.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_folder(parent)?;
    fs::create_dir(folder)?;
    File::open(parent)?.sync_all()
}

/// Writes a small file so that it is there whole or not at all.
fn write_whole(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let draft = folder.join(format!("{name}.new"));
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Makes the folder ready. The file `format` comes last: a folder without it was never used.
fn create(folder: &Path, options: &Options) -> Result<Manifest, String> {
    let said = |what: &str, error: io::Error| format!("{what}: {error}");
    let journals = journal::folder(folder);
    make_folder(&journals).map_err(|error| said("journal", error))?;
    let used = journal::numbers(&journals).map_err(|error| said("journal", error))?;
    if !used.is_empty() {
        return Err("it has a journal but no file `format`: restore the folder from a backup".to_owned());
    }
    let trees = tree::folder(folder);
    if trees.exists() {
        fs::remove_dir_all(&trees).map_err(|error| said("tree", error))?;
    }
    Tree::create(&trees, options.segment_bytes).map_err(|error| error.to_string())?;
    write_format(folder, options.segment_bytes).map_err(|error| said("format", error))?;
    Ok(Manifest { segment: options.segment_bytes })
}

fn write_format(folder: &Path, segment: usize) -> io::Result<()> {
    write_whole(folder, "format", &format!("tandem-store {FORMAT}\nsegment {segment}\n"))
}

/// What [`open`] found.
pub(super) struct Opened {
    pub(super) engine: Arc<Engine>,
    pub(super) journal: Journal,
}

pub(super) fn open(folder: &Path, options: Options) -> Result<Opened, StoreError> {
    let refused = |what: String| StoreError::Open { path: folder.display().to_string(), what };
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    make_folder(folder).map_err(failed("folder")).map_err(refused)?;
    let lock = File::create(folder.join("lock")).map_err(failed("lock")).map_err(refused)?;
    if let Err(error) = lock.try_lock() {
        return Err(refused(match error {
            fs::TryLockError::WouldBlock => "another process has it open: stop that one first".to_owned(),
            fs::TryLockError::Error(error) => format!("lock: {error}"),
        }));
    }
    let manifest = match fs::read_to_string(folder.join("format")) {
        Ok(text) => read_manifest(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(folder, &options),
        Err(error) => Err(format!("format: {error}")),
    }
    .map_err(refused)?;

    let aside = folder.join(ASIDE);
    let tree = Tree::open(&tree::folder(folder), &aside, options.cache_bytes, manifest.segment)
        .map_err(|error| refused(error.to_string()))?;
    let key = keys::meta(CHECKPOINT);
    let carried = tree.get(&key).map_err(|error| refused(error.to_string()))?;
    let carried = match carried.map(|value| codec::open(&key, &value).and_then(codec::number)) {
        None => 0,
        Some(Ok(number)) => number,
        Some(Err(damage)) => return Err(refused(format!("the checkpoint's number: {damage}"))),
    };

    let journals = journal::folder(folder);
    journal::remove_before(&journals, carried).map_err(failed("journal")).map_err(refused)?;
    let mut tables = Tables::default();
    let replayed = journal::replay(&journals, carried, &aside, &mut |key, value| tables.put(key, value))
        .map_err(failed("journal"))
        .map_err(refused)?;
    tracing::info!(frames = replayed.frames, damaged = replayed.damaged.len(), "store: journal read");
    let last = journal::numbers(&journals).map_err(failed("journal")).map_err(refused)?.last().copied();
    let next = last.map_or(carried, |last| last + 1).max(1);
    let journal = Journal::begin(&journals, next).map_err(failed("journal")).map_err(refused)?;

    let engine = Engine {
        path: folder.to_owned(),
        options,
        tree,
        tables: RwLock::new(tables),
        connections: RwLock::new(Connections::default()),
        writer: Mutex::new(Writer::default()),
        wake: Condvar::new(),
        room: Notify::new(),
        crowded: AtomicBool::new(false),
        scarce: AtomicBool::new(false),
        failed: OnceLock::new(),
        commits: AtomicU64::new(0),
        seq: AtomicU64::new(0),
        delayed: AtomicU64::new(0),
        none_delayed: AtomicU64::new(0),
        seq_asked: AtomicU64::new(0),
        seq_durable: Mutex::new(0),
        seq_wake: Condvar::new(),
        _lock: lock,
    };
    recover(&engine, journal).map(|journal| Opened { engine: Arc::new(engine), journal })
}

/// Rebuilds what is kept in memory, and reserves the first block of sequence numbers.
fn recover(engine: &Engine, mut journal: Journal) -> Result<Journal, StoreError> {
    let mut names =
        engine.values(&Stretch::prefix([keys::CONNECTION].into()), usize::MAX, |key, payload| {
            let name = keys::Parser::new(key).text().ok_or(Damage::Payload("connection"))?;
            let number = payload.first_chunk::<4>().ok_or(Damage::Payload("connection"))?;
            Ok(Found::Take((u32::from_le_bytes(*number), ConnectionId::from(name))))
        })?;
    names.sort();
    let counts = engine.values(&Stretch::prefix([keys::COUNT].into()), usize::MAX, |key, payload| {
        let conn = keys::Parser::new(key).conn().ok_or(Damage::Payload("count"))?;
        Ok(Found::Take((conn, unpack_count(payload)?)))
    })?;
    {
        let mut connections = engine.connections.write();
        for (number, name) in names {
            // A connection whose name was damaged keeps its number, so that nobody else gets its rows.
            while connections.len() < number as usize {
                let lost = connections.len();
                connections.push(format!("lost-connection-{lost}").into());
            }
            connections.push(name);
        }
        for (conn, count) in counts {
            connections.set(conn, count);
        }
    }
    count_letters(engine)?;

    // A lost reservation (its row was damaged) is made good by the numbers that were used.
    let reserved = engine.value(&keys::meta(SEQ), codec::number)?;
    let used = highest_used(engine)?;
    let base = reserved.unwrap_or(0).max(used);
    let high = base + BLOCK;
    let key = keys::meta(SEQ);
    let value = codec::seal("a number", &key, &high.to_le_bytes())?;
    let mut frame = Frame::default();
    frame.push(&key, Some(&value));
    journal.append(&mut frame).map_err(|error| StoreError::Open {
        path: engine.path.display().to_string(),
        what: format!("journal: {error}"),
    })?;
    engine.tables.write().put(key, Some(value));
    engine.seq.store(base, std::sync::atomic::Ordering::SeqCst);
    engine.seq_asked.store(high, std::sync::atomic::Ordering::SeqCst);
    *engine.seq_durable.lock() = high;
    let mut writer = engine.writer.lock();
    writer.floor = base + 1;
    writer.seq_high = high;
    // What a long journal left in memory is carried on at once.
    writer.checkpoint = engine.tables.read().active_bytes() > engine.options.memory_bytes;
    drop(writer);
    Ok(journal)
}

/// Letters are few, and counted instead of keeping a number for them.
fn count_letters(engine: &Engine) -> Result<(), StoreError> {
    let mut dead: HashMap<u32, u64> = HashMap::new();
    let prefix = [keys::DEAD_BY_CONNECTION];
    let to = keys::after_prefix(&prefix);
    engine
        .tables
        .read()
        .scan(&engine.tree, Bound::Included(&prefix), to.as_deref(), false, &mut |key, _| {
            if let Some(conn) = keys::Parser::new(key).conn() {
                *dead.entry(conn).or_default() += 1;
            }
            ControlFlow::Continue(())
        })
        .map_err(|error| engine.unreadable(&error))?;
    let mut connections = engine.connections.write();
    for (conn, dead) in dead {
        let count = connections.count(conn);
        connections.set(conn, super::stage::Count { dead, ..count });
    }
    Ok(())
}

/// The highest number among deliveries and dead letters.
fn highest_used(engine: &Engine) -> Result<u64, StoreError> {
    let mut highest = 0;
    for table in [keys::DELIVERY, keys::DEAD] {
        if let Some((key, _)) = engine.edge(&[table], true)? {
            highest = highest.max(keys::Parser::new(&key).number().unwrap_or(0));
        }
    }
    Ok(highest)
}
