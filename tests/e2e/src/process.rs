//! Child processes that never outlive us: each has a pipe as standard input and ends when it closes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Error;

/// The folder that the workspace's binaries are built into.
///
/// # Errors
/// This program does not lie in one.
pub fn built() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("this program has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// A binary of the workspace.
///
/// # Errors
/// It is not built; the text says how to.
pub fn binary(name: &str) -> Result<PathBuf, Error> {
    let path = built()?.join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing; build it with: cargo build --workspace --bins", path.display()).into())
    }
}

/// The component of a provider, built by `just guests`.
///
/// # Errors
/// It is not built; the text says how to.
pub fn component(name: &str) -> Result<PathBuf, Error> {
    let target = built()?.parent().map(Path::to_owned).ok_or("no target folder")?;
    let path = target.join("wasm32-wasip2/guest").join(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing; build it with: just guests", path.display()).into())
    }
}

/// A running child.
pub struct Running {
    child: Child,
    /// The first line that it printed.
    pub announcement: serde_json::Value,
}

impl Running {
    /// Starts a program that announces itself with one JSON line on standard output. Its log goes to a file.
    ///
    /// # Errors
    /// It cannot be started, ends, or says nothing within the deadline; the text has the end of its log.
    pub async fn start(mut command: Command, log: &Path, deadline: Duration) -> Result<Self, Error> {
        let written = std::fs::File::options().create(true).append(true).open(log)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(written))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{:?}: {error}", command.as_std().get_program()))?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let line = tokio::time::timeout(deadline, lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => {
                let announcement =
                    serde_json::from_str(&line).map_err(|error| format!("announcement {line:?}: {error}"))?;
                // Whatever it prints later is read, so that it never blocks.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                Ok(Self { child, announcement })
            }
            other => {
                let _killed = child.kill().await;
                let end = end_of(log);
                let why = if other.is_err() { "said nothing in time" } else { "ended" };
                Err(format!(
                    "{:?} {why}; the end of its log {}:\n{end}",
                    command.as_std().get_program(),
                    log.display()
                )
                .into())
            }
        }
    }

    /// A member of the announcement.
    ///
    /// # Errors
    /// There is none.
    pub fn announced(&self, name: &str) -> Result<String, Error> {
        self.announcement
            .get(name)
            .and_then(|value| value.as_str())
            .map(ToOwned::to_owned)
            .ok_or_else(|| format!("no {name} in the announcement {}", self.announcement).into())
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn kill(&mut self) -> Result<(), Error> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, and waits for the end within the deadline; gives the exit code.
    ///
    /// # Errors
    /// It cannot be sent, or the child does not end.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<Option<i32>, Error> {
        let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(None) };
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = tokio::time::timeout(deadline, self.child.wait())
            .await
            .map_err(|_| format!("process {pid} did not end within {} s of SIGTERM", deadline.as_secs()))??;
        Ok(status.code())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// The last lines of a log.
#[must_use]
pub fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(20);
    lines.get(from..).unwrap_or_default().join("\n")
}
