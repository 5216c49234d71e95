//! Copies of the files that serve or served, under their digests: the folder of providers belongs to whoever drops files into
//! it, and what runs must outlast that.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::provider::Candidate;

use super::hex;

/// The folder of the archive.
#[derive(Clone, Debug)]
pub(in crate::app) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Opens the archive, with its folder on disk.
    pub(in crate::app) fn open(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        // The folder's own entry, too, has to outlast a power loss.
        folder.parent().map_or(Ok(()), sync)?;
        Ok(Self { folder })
    }

    /// Where a digest's file stands.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    /// Keeps a file; it is on disk when this returns.
    pub(super) fn keep(&self, candidate: &Candidate) -> std::io::Result<()> {
        let digest = hex(&candidate.digest);
        let path = self.path(&digest);
        if std::fs::read(&path).is_ok_and(|bytes| bytes == *candidate.bytes) {
            return Ok(());
        }
        let temporary = self.folder.join(format!(".{digest}.{}", std::process::id()));
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(&candidate.bytes)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&temporary, &path)?;
        sync(&self.folder)
    }

    /// Removes what nothing names. What cannot be removed is left for the next time.
    pub(super) fn sweep(&self, named: &BTreeSet<&str>) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ours = name.starts_with('.') || name.ends_with(".wasm");
            let wanted = name.strip_suffix(".wasm").is_some_and(|digest| named.contains(digest));
            if ours && !wanted {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(bytes: &[u8], digest: u8) -> Candidate {
        Candidate { file: PathBuf::from("x.wasm"), digest: [digest; 32], bytes: bytes.into() }
    }

    #[test]
    fn what_is_named_stays_and_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().join("providers")).unwrap();
        archive.keep(&candidate(b"one", 1)).unwrap();
        archive.keep(&candidate(b"two", 2)).unwrap();
        std::fs::write(archive.folder.join(".torn.17"), b"half").unwrap();
        std::fs::write(archive.folder.join("notes"), b"not ours").unwrap();
        let one = hex(&[1; 32]);
        archive.sweep(&BTreeSet::from([one.as_str()]));
        assert_eq!(std::fs::read(archive.path(&one)).unwrap(), b"one");
        assert!(!archive.path(&hex(&[2; 32])).exists());
        assert!(!archive.folder.join(".torn.17").exists());
        assert!(archive.folder.join("notes").exists());
    }

    #[test]
    fn a_copy_that_was_spoilt_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive::open(folder.path().join("providers")).unwrap();
        let path = archive.path(&hex(&[1; 32]));
        std::fs::write(&path, b"on").unwrap();
        archive.keep(&candidate(b"one", 1)).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"one");
    }
}
