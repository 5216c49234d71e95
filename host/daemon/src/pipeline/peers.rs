//! The other links of an entity that is worked on at one connection: the planner asks them where System A's values came from, and
//! a loop over several of them is stopped at all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_core::Millis;
use tandem_core::link::Link;
use tandem_core::plan::{self, Peer};

use super::record::Case;
use super::{Clock, Connection, Pipeline};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Op, Store, StoreError};

/// The entity's link at another connection.
pub(super) struct Other {
    link: Link,
    /// None: the connection is not there any more.
    connection: Option<Arc<Connection>>,
}

impl Other {
    /// What the planner is told of it.
    pub(super) fn peer(&self) -> Peer<'_> {
        let object = self.connection.as_ref().and_then(|at| at.objects.get(&self.link.entity.object));
        Peer { link: &self.link, policy: object.map(|object| &object.policy) }
    }
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// The entity's links at the other connections of its scope. Where there is none, the store is not asked.
    pub(super) fn peers(&self, case: &Case<'_>) -> Result<Vec<Other>, StoreError> {
        let entity = &case.link.entity;
        let is_alone = self.by_scope.load().get(&entity.scope).is_none_or(|all| all.len() < 2);
        if is_alone {
            return Ok(Vec::new());
        }
        let links = self.rooms.store.links(entity)?;
        let others = links.into_iter().filter(|link| link.connection != case.link.connection);
        Ok(others.map(|link| Other { connection: self.connection(&link.connection), link }).collect())
    }
}

impl Case<'_> {
    /// Freezes fields at the other connections too, in the same commit: a loop over several links is carried on by none.
    pub(super) fn freeze_peers(&mut self, fields: &BTreeMap<String, String>, now: Millis) {
        if fields.is_empty() {
            return;
        }
        for other in &mut self.peers {
            other.link = plan::freeze(&other.link, fields, now);
            self.commit.push(Op::PutLink(other.link.clone()));
        }
    }
}
