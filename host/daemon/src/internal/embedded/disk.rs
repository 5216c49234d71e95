//! The files of System A: sled 0.34.7, opened and synced so that what was acknowledged survives SIGKILL and power loss.
//!
//! What sled leaves undone, and what is done here about it:
//!
//! - its `flush` hands the bytes to the disk with `sync_file_range`, which syncs neither the file's metadata nor the device's
//!   cache: [`Disk::make_durable`] calls `fdatasync` on the log file afterwards, and reports its failure;
//! - pages above a quarter of a segment go to files of their own, which are never synced: a leaf holds up to about 20 values,
//!   so with segments of 16 MiB and values of at most 160 KiB nothing becomes such a file;
//! - a kill while a snapshot is written leaves `snap.*.generating`, which makes the next open fail: removed before opening
//!   (it was never renamed, so it never counted);
//! - the directory and the `conf` file are not synced: done once after opening, since snapshots are written only there;
//! - it writes over a segment that was given up once the copies of its pages are flushed, synced or not: a segment is
//!   reused no sooner than a whole segment was written after that, and a group commit (2 MiB of documents) is a fraction of
//!   one, so that a sync of ours lies in between;
//! - its background flusher only logs a failure: switched off.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::layout;

/// Cannot be changed once a store exists.
const SEGMENT_BYTES: usize = 16 << 20;
/// Largest value. See the module's header.
pub(super) const MAX_VALUE: usize = 160 << 10;

/// Opened files.
pub(super) struct Disk {
    path: PathBuf,
    // Kept beside the tree: the last of them to go closes the files.
    _db: sled::Db,
    tree: sled::Tree,
    log: File,
    #[cfg(test)]
    pub(super) broken: std::sync::atomic::AtomicBool,
}

/// How long a store that was closed in this process may take to let go of its files.
const LETTING_GO: Duration = Duration::from_secs(5);

impl Disk {
    /// Opens or creates the files in a folder.
    ///
    /// # Errors
    /// Why the store cannot be used, with the way out.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, String> {
        let what =
            |doing: &str, error: &dyn std::fmt::Display| format!("{}: {doing}: {error}", path.display());
        fs::create_dir_all(path).map_err(|error| what("cannot create the folder", &error))?;
        remove_unfinished(path).map_err(|error| what("cannot remove an unfinished snapshot", &error))?;
        let begun = Instant::now();
        let db = loop {
            let opened = sled::Config::new()
                .path(path)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(cache_bytes)
                .flush_every_ms(None)
                .open();
            match opened {
                Ok(db) => break db,
                // sled's threads let go of the lock a moment after its last handle went.
                Err(error)
                    if error.to_string().contains("could not acquire lock") && begun.elapsed() < LETTING_GO =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(what("cannot be opened (is another daemon using it?)", &error)),
            }
        };
        let tree = db.open_tree(b"system-a").map_err(|error| what("cannot open the table", &error))?;
        check_format(&tree).map_err(|error| what("cannot be used", &error))?;
        tree.flush().map_err(|error| what("cannot be flushed", &error))?;
        let log = sync_all(path).map_err(|error| what("cannot be synced", &error))?;
        Ok(Self {
            path: path.to_owned(),
            _db: db,
            tree,
            log,
            #[cfg(test)]
            broken: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// The one tree.
    pub(super) fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    /// Where the files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Applies a batch and brings it to the disk. After a failure nothing is known about what is on the disk: the caller
    /// must not write again.
    ///
    /// # Errors
    /// What failed.
    pub(super) fn make_durable(&self, batch: sled::Batch) -> Result<(), String> {
        self.tree.apply_batch(batch).map_err(|error| format!("write: {error}"))?;
        self.tree.flush().map_err(|error| format!("flush: {error}"))?;
        #[cfg(test)]
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("sync: broken by the test".into());
        }
        self.log.sync_data().map_err(|error| format!("sync: {error}"))
    }
}

fn remove_unfinished(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %entry.path().display(), "removing a snapshot that was being written at the last exit");
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn check_format(tree: &sled::Tree) -> Result<(), String> {
    match tree.get(layout::META_FORMAT).map_err(|error| error.to_string())? {
        Some(value) => match layout::unseal(&value) {
            Ok(_) => Ok(()),
            Err(damage) => Err(format!("{damage}; open it with the version of tandem that wrote it")),
        },
        None => tree
            .insert(layout::META_FORMAT, layout::seal(b"system-a"))
            .map_err(|error| error.to_string())
            .map(|_| ()),
    }
}

/// Syncs what opening wrote: settings, snapshots, log, and the folders that name them. The log file stays open.
fn sync_all(path: &Path) -> io::Result<File> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    fs::OpenOptions::new().read(true).write(true).open(path.join("db"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_snapshot_does_not_stop_the_next_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let disk = Disk::open(&path, 1 << 20).unwrap();
        let mut batch = sled::Batch::default();
        batch.insert(b"k".as_slice(), b"v".as_slice());
        disk.make_durable(batch).unwrap();
        drop(disk);
        fs::write(path.join("snap.FFFFFFFFFFFFFFF0.generating"), b"half").unwrap();
        let disk = Disk::open(&path, 1 << 20).unwrap();
        assert_eq!(disk.tree().get(b"k").unwrap().unwrap(), b"v");
        assert!(!path.join("snap.FFFFFFFFFFFFFFF0.generating").exists());
    }

    #[test]
    fn a_store_of_a_later_format_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path(), 1 << 20).unwrap();
        let mut batch = sled::Batch::default();
        batch.insert(layout::META_FORMAT, [9_u8, 0, 0, 0, 0].as_slice());
        disk.make_durable(batch).unwrap();
        drop(disk);
        let error = Disk::open(folder.path(), 1 << 20).err().unwrap();
        assert!(error.contains("format 9 is not known"), "{error}");
    }

    #[test]
    fn the_largest_values_never_become_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path(), 64 << 20).unwrap();
        for round in 0..4_u8 {
            let mut batch = sled::Batch::default();
            for number in 0..120_u32 {
                batch.insert(&number.to_be_bytes(), vec![round; MAX_VALUE]);
            }
            disk.make_durable(batch).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
    }
}
