//! What the sandboxes in a process can read, and what the rest of it holds: asked from `tests/shim/memory.c`.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, power};

/// A shim for one process.
pub struct Shim {
    folder: tempfile::TempDir,
    library: PathBuf,
}

/// A piece of memory.
pub struct Region {
    /// Its address.
    pub start: u64,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Shim {
    /// Compiles it. Its socket lies in a folder of its own with a short path, as sockets need.
    ///
    /// # Errors
    /// There is no `cc`, or it refuses the source.
    pub fn compile() -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("tandem-").tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/memory.c");
        let library = power::compile_shim(&source, folder.path())?;
        Ok(Self { folder, library })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("memory")
    }

    /// The environment of the process to be looked into.
    #[must_use]
    pub fn environment(&self) -> [(String, String); 2] {
        [
            ("LD_PRELOAD".to_owned(), self.library.display().to_string()),
            ("TANDEM_MEMORY_SOCKET".to_owned(), self.socket().display().to_string()),
        ]
    }

    /// The linear memories of all guests, as they are at this moment.
    ///
    /// # Errors
    /// The process does not answer.
    pub fn guests(&self) -> Result<Vec<Region>, Error> {
        self.ask(b'g')
    }

    /// All other memory that can be written to.
    ///
    /// # Errors
    /// The process does not answer.
    pub fn rest(&self) -> Result<Vec<Region>, Error> {
        self.ask(b'r')
    }

    fn ask(&self, wanted: u8) -> Result<Vec<Region>, Error> {
        let mut stream = UnixStream::connect(self.socket())
            .map_err(|error| format!("the daemon does not show its memory, was it preloaded? {error}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&[wanted])?;
        let mut regions = Vec::new();
        loop {
            let mut head = [0_u8; 16];
            match stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(regions),
                Err(error) => return Err(error.into()),
            }
            let (start, length) = head.split_at(8);
            let (start, length) =
                (u64::from_ne_bytes(start.try_into()?), u64::from_ne_bytes(length.try_into()?));
            let mut bytes = vec![0; usize::try_from(length)?];
            stream.read_exact(&mut bytes)?;
            regions.push(Region { start, bytes });
        }
    }
}
