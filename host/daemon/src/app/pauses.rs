//! What is paused: noted in the store, so that a pause outlasts a restart.
//!
//! A connection without an entry of its own goes by what was said of everything. What a connection's file says is not noted here: it
//! counts whenever the file is taken up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_core::id::ConnectionId;
use tandem_core::policy::Flow;

use super::Engine;
use crate::admin::ControlError;
use crate::admin::view::Paused;
use crate::store::{Commit, Op, Store as _, StoreError, Until};

/// Where it is kept.
const PAUSES: &str = "pauses";

/// What was paused and not resumed since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pauses {
    /// Connections that nothing was said of.
    everything: Paused,
    connections: BTreeMap<ConnectionId, Paused>,
}

impl Pauses {
    /// What is paused of a connection.
    pub(super) fn of(&self, connection: &ConnectionId) -> Paused {
        self.connections.get(connection).copied().unwrap_or(self.everything)
    }

    /// Pauses or resumes directions of a connection, or of everything.
    fn set(&mut self, connection: Option<&ConnectionId>, direction: Flow, paused: bool) {
        match connection {
            Some(connection) => {
                let mut own = self.of(connection);
                turn(&mut own, direction, paused);
                self.connections.insert(connection.clone(), own);
            }
            None => {
                turn(&mut self.everything, direction, paused);
                for own in self.connections.values_mut() {
                    turn(own, direction, paused);
                }
            }
        }
        let everything = self.everything;
        self.connections.retain(|_, own| *own != everything);
    }
}

fn turn(of: &mut Paused, direction: Flow, paused: bool) {
    if matches!(direction, Flow::Both | Flow::ToExternal) {
        of.to_external = paused;
    }
    if matches!(direction, Flow::Both | Flow::ToInternal) {
        of.to_internal = paused;
    }
}

impl Engine {
    /// What is paused. Notes that cannot be read pause nothing, and are named.
    pub(super) fn pauses(&self) -> Result<Pauses, StoreError> {
        let Some(noted) = self.store.value(PAUSES)? else { return Ok(Pauses::default()) };
        Ok(serde_json::from_slice(&noted).unwrap_or_else(|error| {
            tracing::error!(%error, "what was paused cannot be read; nothing is paused but by files");
            Pauses::default()
        }))
    }

    /// Pauses or resumes; durable when this returns.
    pub(super) async fn note_pause(
        &self,
        connection: Option<&ConnectionId>,
        direction: Flow,
        paused: bool,
    ) -> Result<(), ControlError> {
        let failed = |what: String| ControlError::Failed(what);
        let _one_at_a_time = self.pausing.lock().await;
        let mut pauses = self.pauses().map_err(|error| failed(error.to_string()))?;
        pauses.set(connection, direction, paused);
        let noted = serde_json::to_vec(&pauses).map_err(|error| failed(error.to_string()))?;
        let mut commit = Commit::new();
        commit.push(Op::PutValue(PAUSES.into(), noted));
        self.store.commit(commit, Until::Durable).await.map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(to_external: bool, to_internal: bool) -> Paused {
        Paused { to_external, to_internal }
    }

    #[test]
    fn what_was_said_of_one_holds_beside_what_was_said_of_everything() {
        let (acme, bolt) = (ConnectionId::from("acme"), ConnectionId::from("bolt"));
        let mut pauses = Pauses::default();
        pauses.set(Some(&acme), Flow::ToExternal, true);
        assert_eq!((pauses.of(&acme), pauses.of(&bolt)), (paused(true, false), paused(false, false)));
        pauses.set(None, Flow::ToInternal, true);
        assert_eq!((pauses.of(&acme), pauses.of(&bolt)), (paused(true, true), paused(false, true)));
        pauses.set(Some(&bolt), Flow::Both, false);
        assert_eq!((pauses.of(&acme), pauses.of(&bolt)), (paused(true, true), paused(false, false)));
        pauses.set(None, Flow::Both, false);
        assert_eq!(pauses, Pauses::default(), "nothing is left of it");
    }
}
