//! The tree at rest: sled 0.34.7, with what it lacks added around it.
//!
//! Only checkpoints write here, from one thread, and never with `apply_batch` (which takes a lock over all of sled in the
//! process and costs two more writes): a checkpoint may stop anywhere, since the journal repeats it.
//!
//! **What sled believes to be on disk has to be on disk.** sled calls a write stable after `sync_file_range`, which flushes
//! neither the drive's cache nor the file's size. It then (1) writes the position it believes to be stable into the header
//! of the next segment, and recovery looks for torn writes only from the segment of the highest such position; (2) reuses
//! segments whose pages were written elsewhere. Both are safe as long as fewer bytes than one segment were written to the
//! log since the last `fdatasync`: then the segment of the position in a header is wholly synced when the header is made, and a
//! segment is reused only after another one has been filled behind the copies of its pages. So before each row the length of the log is looked
//! up, and beyond a quarter of a segment everything is flushed and synced first. One row may add at most the pages that it
//! touches: its leaf, the two halves of a split, the parent, and one page that sled's cleaner moves for each of them. With
//! rows of at most a 512th of a segment (16 KiB) these are less than another quarter.
//!
//! **Nothing becomes a blob.** sled keeps a page fragment beyond a quarter of a segment in a file of its own, which it never
//! syncs. A leaf has at most 20 rows, so it stays below a sixteenth of a segment. Larger values are cut into parts.

use std::fs::{self, File};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::keys;

/// A row's value in the tree has at most this share of a segment; a larger one is cut.
const PARTS_IN_SEGMENT: usize = 512;
/// First byte of a value that stands for parts. Values begin with their format, which is never this.
const IN_PARTS: u8 = 0xff;

/// What sled said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TreeError(pub(super) String);

impl From<sled::Error> for TreeError {
    fn from(error: sled::Error) -> Self {
        Self(format!("tree: {error}"))
    }
}

impl From<std::io::Error> for TreeError {
    fn from(error: std::io::Error) -> Self {
        Self(format!("tree: {error}"))
    }
}

/// The open tree.
pub(super) struct Tree {
    db: sled::Db,
    /// The same file as sled's, for `fdatasync`.
    file: File,
    segment: i64,
    part: usize,
    /// Everything in the log before this position is synced.
    synced: Mutex<i64>,
}

fn config(path: &Path, cache: u64, segment: usize) -> sled::Config {
    // The background flusher is off: a checkpoint is the only one that writes.
    sled::Config::new().path(path).cache_capacity(cache).flush_every_ms(None).segment_size(segment)
}

/// Syncs every file of a folder, and the folder.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folder(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

/// Removes snapshots whose writing was interrupted: sled would take one for the newest snapshot and refuse to open. They were
/// never renamed, so nothing depends on them.
fn remove_unfinished_snapshots(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "store: an unfinished snapshot is removed");
            fs::remove_file(path.join(&*name))?;
        }
    }
    Ok(())
}

/// Moves snapshots out of the way. sled then reads its whole log instead.
fn set_snapshots_aside(path: &Path, to: &Path) -> std::io::Result<bool> {
    let mut moved = false;
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("snap.") {
            fs::create_dir_all(to)?;
            fs::rename(path.join(&name), to.join(&name))?;
            moved = true;
        }
    }
    Ok(moved)
}

/// sled asserts in places what a damaged file does not keep. A read is then an error, not the end of whoever reads: nothing of
/// sled's is left half done by it, since reads change only its cache, page by page.
fn guarded<T>(read: impl FnOnce() -> sled::Result<T>) -> Result<T, TreeError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(result) => Ok(result?),
        Err(_) => Err(TreeError("tree: sled gave up on a page".to_owned())),
    }
}

/// How long a tree that was closed in this process may take to let go of its file.
const LETTING_GO: Duration = Duration::from_secs(10);

/// sled's threads may hold its file, and the lock on it, a little longer than the tree: the store has a lock of its own, so whoever holds that one is an earlier self.
fn open_guarded(path: &Path, cache: u64, segment: usize) -> Result<sled::Db, TreeError> {
    let begun = Instant::now();
    loop {
        match std::panic::catch_unwind(|| config(path, cache, segment).open()) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error)))
                if error.to_string().contains("could not acquire lock") && begun.elapsed() < LETTING_GO =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(TreeError("tree: sled gave up on the file".to_owned())),
        }
    }
}

impl Tree {
    /// Makes an empty tree. It appears under its name only when all of it is on disk.
    pub(super) fn create(path: &Path, segment: usize) -> Result<(), TreeError> {
        let draft = path.with_extension("new");
        if draft.exists() {
            fs::remove_dir_all(&draft)?;
        }
        let db = config(&draft, 1 << 20, segment).open()?;
        db.flush()?;
        drop(db);
        sync_folder(&draft)?;
        fs::rename(&draft, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    /// Opens the tree. A snapshot that sled cannot read is moved to `aside`, and the log is read without it.
    pub(super) fn open(path: &Path, aside: &Path, cache: u64, segment: usize) -> Result<Self, TreeError> {
        remove_unfinished_snapshots(path)?;
        let db = match open_guarded(path, cache, segment) {
            Ok(db) => db,
            Err(error) => {
                if !set_snapshots_aside(path, aside)? {
                    return Err(error);
                }
                tracing::error!(%error, aside = %aside.display(), "store: the tree's snapshot was set aside; its whole log is read");
                open_guarded(path, cache, segment)?
            }
        };
        let file = File::open(path.join("db"))?;
        // Opening zeroes the torn end of the log and writes a new snapshot. Now they are on disk, and so are their names.
        let tree = Self {
            db,
            file,
            segment: i64::try_from(segment).unwrap_or(i64::MAX),
            part: (segment / PARTS_IN_SEGMENT).max(1),
            synced: Mutex::new(0),
        };
        tree.sync()?;
        sync_folder(path)?;
        Ok(tree)
    }

    /// Where the log ends now. sled does not tell, but a reservation that is given back does.
    fn tip(&self) -> Result<i64, TreeError> {
        let guard = sled::pin();
        let log = &self.db.context.pagecache.log;
        let (lsn, _) = log.reserve(sled::LogKind::Link, 0, &0_u64, &guard)?.abort()?;
        Ok(lsn)
    }

    /// Makes everything that was written durable.
    pub(super) fn sync(&self) -> Result<(), TreeError> {
        let tip = self.tip()?;
        self.db.flush()?;
        self.file.sync_data()?;
        *self.synced.lock() = tip;
        Ok(())
    }

    fn make_room(&self) -> Result<(), TreeError> {
        let unsynced = self.tip()? - *self.synced.lock();
        if unsynced > self.segment / 4 {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes or removes a row.
    pub(super) fn write(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), TreeError> {
        self.make_room()?;
        let mut parts = 0;
        let old = match value {
            Some(value) if value.len() > self.part => {
                for piece in value.chunks(self.part) {
                    self.make_room()?;
                    self.db.insert(&*keys::part(key, parts), piece)?;
                    parts += 1;
                }
                self.make_room()?;
                let [low, high] = parts.to_le_bytes();
                self.db.insert(key, &[IN_PARTS, low, high])?
            }
            Some(value) => self.db.insert(key, value)?,
            None => self.db.remove(key)?,
        };
        if let Some(&[IN_PARTS, low, high]) = old.as_deref() {
            for part in parts..u16::from_le_bytes([low, high]) {
                self.make_room()?;
                self.db.remove(&*keys::part(key, part))?;
            }
        }
        Ok(())
    }

    /// A row.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TreeError> {
        self.stored(key)?.map(|value| self.whole(key, &value)).transpose()
    }

    fn stored(&self, key: &[u8]) -> Result<Option<sled::IVec>, TreeError> {
        guarded(|| self.db.get(key))
    }

    /// The value of a row, put together from its parts if it was cut. A part that is missing leaves a value whose checksum
    /// does not fit.
    pub(super) fn whole(&self, key: &[u8], value: &[u8]) -> Result<Bytes, TreeError> {
        let &[IN_PARTS, low, high] = value else { return Ok(Bytes::copy_from_slice(value)) };
        let mut whole = Vec::new();
        for part in 0..u16::from_le_bytes([low, high]) {
            if let Some(piece) = self.stored(&keys::part(key, part))? {
                whole.extend_from_slice(&piece);
            }
        }
        Ok(whole.into())
    }

    /// Rows in key order, values as they are stored.
    pub(super) fn range<'a>(
        &self,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, sled::IVec), TreeError>> + use<> {
        Range(Some(self.db.range::<&[u8], _>((from, to))))
    }

    /// How large its files are.
    pub(super) fn bytes_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

/// Rows of the tree. Behind an error there are no more.
struct Range(Option<sled::Iter>);

impl Range {
    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(sled::IVec, sled::IVec), TreeError>> {
        let rows = self.0.as_mut()?;
        let row = guarded(|| step(rows).transpose()).transpose();
        if matches!(row, Some(Err(_))) {
            self.0 = None;
        }
        row
    }
}

impl Iterator for Range {
    type Item = Result<(sled::IVec, sled::IVec), TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

/// The tree's folder in the store's.
pub(super) fn folder(store: &Path) -> PathBuf {
    store.join("tree")
}
