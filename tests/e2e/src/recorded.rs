//! A house whose daemon's disk is recorded, and whose power fails: what was not synced is lost, or is there in part.
//!
//! Unlike a SIGKILL, which takes nothing that was written, see [`crate::power`] for what a disk may hold.

use std::path::{Path, PathBuf};

use crate::Error;
use crate::house::House;
use crate::power::{Keep, Recording, compile_shim, refuse_tmpfs};

/// Where the shim writes down what the daemon does.
const LOG: &str = "shim.log";

/// What a daemon stores, below its data folder. What it compiled (`compiled`) is no state: it stays, and is not recorded.
const STORES: [&str; 3] = ["queue", "system-a", "providers"];

impl House {
    /// Stops the daemon, empties its stores and starts it anew under the shim of `tests/shim/shim.c`: everything that it has on disk from
    /// here on is in the recording. `settings` are for the shim.
    ///
    /// # Errors
    /// The folder is on a disk in memory, the shim cannot be compiled, or the daemon does not get ready.
    pub async fn start_recorded(&mut self, settings: &[(&str, &str)]) -> Result<(), Error> {
        refuse_tmpfs(&self.folder)?;
        self.stop().await?;
        let data = self.folder.join("data");
        for store in STORES {
            std::fs::remove_dir_all(data.join(store))?;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shim/shim.c");
        let shim = compile_shim(&source, &self.folder)?;
        let log = self.folder.join(LOG);
        let own = [("LD_PRELOAD", shim), ("TANDEM_SHIM_DIR", data), ("TANDEM_SHIM_LOG", log)];
        let own = own.map(|(name, path): (_, PathBuf)| (name, path.to_string_lossy().into_owned()));
        let given = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.environment().extend(own.into_iter().chain(given).map(|(name, value)| (name.to_owned(), value)));
        self.start().await
    }

    /// What the shim has written down so far.
    ///
    /// # Errors
    /// Nothing is recorded, or it cannot be read.
    pub fn recording(&self) -> Result<Recording, Error> {
        Ok(Recording::read(&self.folder.join(LOG), &self.folder.join("data"))?)
    }

    /// The daemon is gone, and of its disk there is what a loss of power may leave. The next start is not recorded.
    ///
    /// # Errors
    /// The daemon does not run, nothing is recorded, or the disk cannot be put together.
    pub async fn power_fails(&mut self, keep: Keep) -> Result<(), Error> {
        self.kill().await?;
        self.environment().retain(|name, _| name != "LD_PRELOAD" && !name.starts_with("TANDEM_SHIM_"));
        let recording = self.recording()?;
        let (data, before) = (self.folder.join("data"), self.folder.join("data.before"));
        std::fs::rename(&data, &before)?;
        std::fs::create_dir(&data)?;
        recording.image(recording.len(), keep).write_to(&data)?;
        std::fs::rename(before.join("compiled"), data.join("compiled"))?;
        Ok(std::fs::remove_dir_all(before)?)
    }
}
