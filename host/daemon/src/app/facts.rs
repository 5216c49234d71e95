//! Facts: what an account says of itself (`probe`, `discover`), which its connection is configured with.
//!
//! An account is asked at the first look, and anew after a while, by another version of the provider, after the connection's file
//! changed or was refused, and when a person has everything looked at.
//!
//! Invariants: no record of a connection is worked before its account was asked for the first time, whether it answered or not: what
//! is carried of a record may depend on it, and nobody would look at the rest again. The facts that are kept are those that the
//! connection was configured with last, and are on disk before it is. Facts that it cannot be configured with
//! are dropped, and it goes on as it is. The same facts as before change nothing. An account that does not answer is asked at the
//! next look. Whoever had all records looked at before the account said something new has them looked at once more.
//!
//! It refuses to understand them: facts are the provider's.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_core::Millis;
use tandem_core::id::ConnectionId;

use super::Engine;
use crate::pipeline::Clock as _;
use crate::provider::Setup;
use crate::store::{Commit, Op, Store as _, StoreError, Until};

/// Fields and options are made by people, now and then; asking costs a call or two.
const AGAIN_MS: Millis = 6 * 60 * 60 * 1_000;
/// After facts that the connection could not be configured with: somebody is likely to be at work there.
const AGAIN_AFTER_REFUSAL_MS: Millis = 10 * 60 * 1_000;

/// When an account is asked again, unless another version serves by then.
#[derive(Serialize, Deserialize)]
struct Asked {
    again_at: Millis,
    by: String,
}

/// What asking an account has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learnt {
    /// It did not say.
    Nothing,
    /// The connection goes on with what it had: the account says so, or was asked a while ago, or says what cannot be used.
    Same,
    /// The connection works with something new.
    New,
}

impl Engine {
    /// What the account of a connection said of itself. Null: nothing yet.
    pub(super) fn facts(&self, id: &ConnectionId) -> Value {
        let stored = self.store.value(&facts_name(id)).ok().flatten();
        stored.and_then(|facts| serde_json::from_slice(&facts).ok()).unwrap_or(Value::Null)
    }

    /// Whether the account of a connection was asked at any time.
    pub(super) fn was_ever_asked(&self, id: &ConnectionId) -> bool {
        self.store.value(&asked_name(id)).is_ok_and(|asked| asked.is_some())
    }

    /// Asks the account when it is time. However that ends, its records wait no longer. True: what counts is what it says by now.
    pub(super) async fn learn(self: &Arc<Self>, id: &ConnectionId) -> Result<bool, StoreError> {
        let asking = self.asking.lock().entry(id.clone()).or_default().clone();
        let learnt = {
            let _one = asking.lock().await;
            self.ask(id).await
        };
        if let Some(connection) = self.pipeline.connection(id) {
            connection.directions.await_facts(false);
        }
        let learnt = learnt?;
        if learnt != Learnt::Nothing {
            let early = self.looked_early.lock().remove(id).unwrap_or_default();
            for object in early.iter().filter(|_| learnt == Learnt::New) {
                if let Err(error) = self.look_at_all(id, object).await {
                    tracing::warn!(connection = %id, %object, %error, "its records are not looked at once more");
                }
            }
        }
        Ok(learnt != Learnt::Nothing)
    }

    /// Has the account asked at the next look.
    pub(super) fn ask_anew(&self, id: &ConnectionId) {
        self.asked_anew.lock().insert(id.clone());
    }

    /// Asks the account about itself when it is time, and configures the connection with what it says.
    async fn ask(self: &Arc<Self>, id: &ConnectionId) -> Result<Learnt, StoreError> {
        let Some(version) = self.runtime.version_of(id) else { return Ok(Learnt::Nothing) };
        let wanted = self.asked_anew.lock().remove(id);
        if !wanted && self.is_asked(id, &version.label)? {
            return Ok(Learnt::Same);
        }
        let file = self.files.lock().get(id).cloned();
        let (Some(connection), Some(file)) = (self.pipeline.connection(id), file) else {
            return Ok(Learnt::Nothing);
        };
        let Some(facts) = self.pipeline.probe(&connection).await else {
            if wanted {
                self.ask_anew(id);
            }
            return Ok(Learnt::Nothing);
        };
        // Whoever has the turn may be waiting until nobody works with the connection as it was.
        drop(connection);
        if facts == self.facts(id) {
            self.note_asked(id, &version.label, AGAIN_MS, Commit::new()).await?;
            return Ok(Learnt::Same);
        }
        // Somebody may have changed or removed it meanwhile, or swapped its provider; that is newer, and asks again.
        let _turn = self.turn.lock().await;
        if !self.files.lock().get(id).is_some_and(|now| Arc::ptr_eq(now, &file)) {
            return Ok(Learnt::Nothing);
        }
        let Some(version) = self.runtime.version_of(id) else { return Ok(Learnt::Nothing) };
        let mut commit = Commit::new();
        commit.push(Op::PutValue(facts_name(id), facts.to_string().into_bytes()));
        let setup = Setup { settings: file.settings.clone(), facts };
        let (engine, name, serving) = (self.clone(), id.clone(), version.clone());
        let bound =
            tokio::task::spawn_blocking(move || engine.runtime.bind_blocking(&serving, &name, &setup, None))
                .await;
        let prepared = match bound {
            Ok(Ok(binding)) => self.prepare(&file, &binding).map_err(|findings| findings.join("; ")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let failed = match prepared {
            Ok(prepared) => {
                self.note_asked(id, &version.label, AGAIN_MS, commit).await?;
                let failed = self.move_over(vec![prepared]).await.failed.into_values().next();
                if failed.is_none() {
                    tracing::info!(connection = %id, "the account says something new of itself, which counts from now on");
                }
                failed
            }
            Err(error) => {
                self.note_asked(id, &version.label, AGAIN_AFTER_REFUSAL_MS, Commit::new()).await?;
                Some(error)
            }
        };
        if let Some(error) = failed {
            tracing::warn!(connection = %id, error, "it stays as it was before the account was asked");
            return Ok(Learnt::Same);
        }
        Ok(Learnt::New)
    }

    /// Whether this version has asked the account and need not do it yet again.
    fn is_asked(&self, id: &ConnectionId, version: &str) -> Result<bool, StoreError> {
        let stored = self.store.value(&asked_name(id))?;
        let asked: Option<Asked> = stored.and_then(|asked| serde_json::from_slice(&asked).ok());
        Ok(asked.is_some_and(|asked| asked.by == version && self.clock.now() < asked.again_at))
    }

    async fn note_asked(
        &self,
        id: &ConnectionId,
        version: &str,
        again_in: Millis,
        mut commit: Commit,
    ) -> Result<(), StoreError> {
        let asked = Asked { again_at: self.clock.now().saturating_add(again_in), by: version.to_owned() };
        let until = if commit.ops.is_empty() { Until::Applied } else { Until::Durable };
        commit.push(Op::PutValue(asked_name(id), serde_json::to_vec(&asked).unwrap_or_default()));
        self.store.commit(commit, until).await
    }
}

fn facts_name(connection: &ConnectionId) -> String {
    format!("facts/{connection}")
}

fn asked_name(connection: &ConnectionId) -> String {
    format!("asked/{connection}")
}
