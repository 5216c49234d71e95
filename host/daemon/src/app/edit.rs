//! Connections' files by the API: read, written, removed. What is written has been tried first, so that a wrong file leaves
//! the one that is there.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use tandem_core::id::ConnectionId;

use super::Engine;
use crate::admin::ControlError;
use crate::admin::view::Reloaded;
use crate::config::Connections;
use crate::pipeline::Clock as _;
use crate::provider::Trial;

impl Engine {
    /// The file as it stands.
    pub(super) async fn read_connection(&self, id: &ConnectionId) -> Result<String, ControlError> {
        let path = self.path_of(id)?;
        match tokio::task::spawn_blocking(move || std::fs::read_to_string(path)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Err(ControlError::NotFound(
                format!("there is no connection {id}; `tandem status` lists them"),
            )),
            Ok(Err(error)) => Err(ControlError::Failed(error.to_string())),
            Err(error) => Err(ControlError::Failed(error.to_string())),
        }
    }

    /// Tries what the file says, writes it, and takes it up.
    pub(super) async fn write_connection(
        self: &Arc<Self>,
        id: ConnectionId,
        text: String,
    ) -> Result<Reloaded, ControlError> {
        let path = self.path_of(&id)?;
        let _turn = self.turn.lock().await;
        let engine = self.clone();
        tokio::task::spawn_blocking(move || -> Result<(), ControlError> {
            let refused = |why: Vec<String>| ControlError::Invalid(why.join("; "));
            let file = Connections::read_one(&engine.config, &id, &path, &text)
                .map_err(|findings| refused(findings.iter().map(ToString::to_string).collect()))?;
            let others: Vec<_> =
                engine.files.lock().values().filter(|other| other.id != id).cloned().collect();
            Connections::refuse_account(&file, &others)
                .map_err(|finding| refused(vec![finding.to_string()]))?;
            let trial = Trial::new(super::providers::RECORDS_OF_CONNECTION, engine.clock.now());
            engine.bind(&Arc::new(file), Some(&trial)).map_err(refused)?;
            write(&path, &text).map_err(|error| ControlError::Failed(format!("{}: {error}", path.display())))
        })
        .await
        .map_err(|error| ControlError::Failed(error.to_string()))??;
        self.reload_connections(false).await.map_err(ControlError::Failed)
    }

    /// Removes the file. Queue, links and history stay in the store.
    pub(super) async fn delete_connection(
        self: &Arc<Self>,
        id: ConnectionId,
    ) -> Result<Reloaded, ControlError> {
        let path = self.path_of(&id)?;
        let _turn = self.turn.lock().await;
        let removed = tokio::task::spawn_blocking(move || {
            std::fs::remove_file(&path)?;
            path.parent().map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
        })
        .await
        .map_err(|error| ControlError::Failed(error.to_string()))?;
        match removed {
            Ok(()) => self.reload_connections(false).await.map_err(ControlError::Failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ControlError::NotFound(
                format!("there is no connection {id}; `tandem status` lists them"),
            )),
            Err(error) => Err(ControlError::Failed(error.to_string())),
        }
    }

    fn path_of(&self, id: &ConnectionId) -> Result<std::path::PathBuf, ControlError> {
        Connections::file_of(&self.config, id).map_err(ControlError::Invalid)
    }
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", std::process::id()));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(folder)?.sync_all()
}
