//! Looks at records that a person asks for: at one of them, or at all of an object.
//!
//! Invariant: what the account says of itself is asked before all records are looked at, since it may be what the person has just
//! changed there. An account that does not answer in time keeps nobody from looking; when it says something new later, they are looked
//! at once more.

use std::sync::Arc;
use std::time::Duration;

use tandem_core::exchange::Observed;
use tandem_core::id::{ConnectionId, EntityKey, ObjectName};
use tandem_core::link::Link;

use super::Engine;
use super::control::store;
use crate::admin::view::Count;
use crate::admin::{ControlError, Look, LookAt};
use crate::pipeline::Clock as _;
use crate::pipeline::listing::Kind;
use crate::store::{Class, Hint, Store as _, Subject, Until};

/// Links that are looked at at once by a look at all.
const PAGE: usize = 256;

/// So long a look at all waits for what the account says of itself.
const PATIENCE: Duration = Duration::from_secs(15);

impl Engine {
    /// Looks at what was asked for.
    ///
    /// # Errors
    /// The connection cannot be used, or the store failed.
    pub(super) async fn look(self: &Arc<Self>, look: Look) -> Result<Count, ControlError> {
        let connection = self.pipeline.connection(&look.connection).ok_or_else(|| {
            ControlError::Conflict(format!("connection {} cannot be used", look.connection))
        })?;
        let hint = match look.records {
            LookAt::All => {
                // A swap waits until nobody has the connection as it was any more.
                drop(connection);
                self.ask_first(&look.connection, &look.object).await;
                return self.look_at_all(&look.connection, &look.object).await;
            }
            LookAt::Internal(id) => {
                let entity = EntityKey { scope: connection.scope.clone(), object: look.object, id };
                let link = self.store.link(&entity, &connection.id).map_err(store)?;
                self.look_hint(&link.unwrap_or_else(|| Link::new(entity, connection.id.clone())))
            }
            LookAt::External(id) => Hint {
                seq: self.store.next_seq(),
                connection: connection.id.clone(),
                object: look.object.clone(),
                subject: Subject::External(id.clone()),
                class: Class::Reconcile,
                noticed_at: self.clock.now(),
                due: 0,
                attempts: 0,
                cause: "look".into(),
                observed: Some(Observed::touched(look.object.as_str(), id.as_str())),
            },
        };
        self.pipeline.notice(vec![hint], Until::Durable).await.map_err(store)?;
        Ok(Count { count: 1 })
    }

    /// Asks the account about itself, and waits for a while.
    async fn ask_first(self: &Arc<Self>, id: &ConnectionId, object: &ObjectName) {
        self.ask_anew(id);
        let (engine, of) = (self.clone(), id.clone());
        let learnt = tokio::time::timeout(PATIENCE, tokio::spawn(async move { engine.learn(&of).await }));
        if !matches!(learnt.await, Ok(Ok(Ok(true)))) {
            self.looked_early.lock().entry(id.clone()).or_default().insert(object.clone());
        }
    }

    /// Looks at all linked records of an object again, and goes through both sides once more as bulk work: also through records that
    /// are not linked, which a rule or a policy may have left out before. Answers how many links there are.
    ///
    /// # Errors
    /// The connection cannot be used, or the store failed.
    pub(super) async fn look_at_all(
        &self,
        id: &ConnectionId,
        object: &ObjectName,
    ) -> Result<Count, ControlError> {
        let failed = |error: &dyn std::fmt::Display| ControlError::Failed(error.to_string());
        let connection = self
            .pipeline
            .connection(id)
            .ok_or_else(|| ControlError::Conflict(format!("connection {id} cannot be used")))?;
        let mut after: Option<EntityKey> = None;
        let mut count = 0;
        let looking = self.pipeline.looking(id);
        loop {
            let links = self.store.scan_links(id, after.as_ref(), PAGE).map_err(store)?;
            let Some(last) = links.last() else { break };
            after = Some(last.entity.clone());
            let of_object = links.iter().filter(|link| link.entity.object == *object);
            let hints: Vec<Hint> = of_object.map(|link| self.look_hint(link)).collect();
            count += hints.len() as u64;
            self.pipeline.notice(hints, Until::Durable).await.map_err(store)?;
        }
        drop(looking);
        self.pipeline.forget_seed(id).await.map_err(|error| failed(&error))?;
        self.pipeline.forget_cursor(&connection, object, Kind::Walk).await.map_err(|error| failed(&error))?;
        self.forget_walk(&connection, object).await.map_err(store)?;
        self.looks.plan(self.clock.now(), id, object);
        // Where there was nothing to look at, or all of it was done by now.
        self.pipeline.weigh(&connection).await.map_err(|error| failed(&error))?;
        Ok(Count { count })
    }

    fn look_hint(&self, link: &Link) -> Hint {
        Hint {
            seq: self.store.next_seq(),
            connection: link.connection.clone(),
            object: link.entity.object.clone(),
            subject: Subject::Internal(link.entity.id.clone()),
            class: Class::Reconcile,
            noticed_at: self.clock.now(),
            due: 0,
            attempts: 0,
            cause: "look".into(),
            observed: link
                .external
                .as_ref()
                .map(|external| Observed::touched(link.entity.object.as_str(), external.as_str())),
        }
    }
}
