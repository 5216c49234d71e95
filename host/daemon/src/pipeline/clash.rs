//! Records of which it cannot be told whom they are: kept until a person decides, or until the question is gone.
//!
//! A clash is a named value of the store, and so is each of its rivals, by which it is found when that rival changes. Both are
//! written and dropped in the same commit as the work that found it. A look that comes to its end drops the clash about its
//! record; a rival that was worked on lets the record that waits be looked at again, and a question that ends by itself lets its rivals
//! be looked at that are linked to nobody. A rival may change while the question is being found, and finds nobody yet who waits: each
//! new question is looked at once more, a little later. What a person decided is written beside the question; [`decide`] carries it out.

mod decide;

use std::collections::BTreeSet;

pub use decide::DecideClashError;
use tandem_core::clash::{Clash, Kind, Waits};
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ExternalKey, InternalId, ObjectName};
use tandem_core::link::{Life, Link};
use tandem_core::matching::identity_digest;
use tandem_core::plan::Internal as InternalState;

use super::create::BUSY_LONG_MS;
use super::dispatch::Hand;
use super::record::Case;
use super::{Clock, Connection, Pipeline, PipelineError, Work};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::Runtime;
use crate::store::{Class, Commit, Hint, Op, Store, StoreError, Subject};

/// The word of a hint that a rival's change made.
pub(super) const RIVAL: &str = "rival";

/// Values that are read at once.
const PAGE: usize = 256;

/// A record in few characters, as a part of a name.
fn digest(object: &ObjectName, side: &str, id: &str) -> String {
    use sha2::{Digest as _, Sha256};
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    for part in [object.as_str(), side, id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest_of(object: &ObjectName, waits: &Waits) -> String {
    match waits {
        Waits::Internal(id) => digest(object, "internal", id.as_str()),
        Waits::External(id) => digest(object, "external", id.as_str()),
    }
}

fn name_of(connection: &ConnectionId, object: &ObjectName, waits: &Waits) -> String {
    format!("clash/{connection}/{}", digest_of(object, waits))
}

/// Under which names a clash is found by its rivals.
fn rival_names(clash: &Clash) -> BTreeSet<String> {
    let own = digest_of(&clash.object, &clash.waits);
    let sides = clash.rivals.iter().flat_map(|rival| {
        let internal = rival.internal.clone().map(Waits::Internal);
        internal.into_iter().chain(rival.external.clone().map(Waits::External))
    });
    let name = |side: Waits| format!("rival/{}/{}/{own}", clash.connection, digest_of(&clash.object, &side));
    sides.map(name).collect()
}

/// About whom a clash would be that work on a subject finds.
fn waits_of(subject: Subject) -> Option<Waits> {
    match subject {
        Subject::Internal(id) => Some(Waits::Internal(id)),
        Subject::External(id) => Some(Waits::External(id)),
        Subject::Delivery(_) => None,
    }
}

/// Whether a commit says what is to become of a named value.
fn says_of(commit: &Commit, name: &str) -> bool {
    commit.ops.iter().any(|op| matches!(op, Op::PutValue(said, _) | Op::DropValue(said) if said == name))
}

fn read(name: &str, bytes: &[u8]) -> Option<Clash> {
    serde_json::from_slice(bytes)
        .inspect_err(|error| tracing::error!(name, %error, "a stored clash is not understood; the record is looked at anew"))
        .ok()
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Remembers whether a connection has clashes from earlier runs.
    pub(super) fn recall_clashes(&self, connection: &ConnectionId) -> Result<(), StoreError> {
        if !self.rooms.store.values_under(&format!("clash/{connection}/"), None, 1)?.is_empty() {
            self.clashing.lock().insert(connection.clone());
        }
        Ok(())
    }

    /// The stored clash about a record. Costs nothing at a connection that has none.
    pub(super) fn clash_about(
        &self,
        connection: &ConnectionId,
        object: &ObjectName,
        waits: &Waits,
    ) -> Result<Option<Clash>, StoreError> {
        if !self.clashing.lock().contains(connection) {
            return Ok(None);
        }
        let name = name_of(connection, object, waits);
        Ok(self.rooms.store.value(&name)?.and_then(|bytes| read(&name, &bytes)))
    }

    /// Writes a clash down with a commit, in the place of the one about the same record.
    pub(super) fn note_clash(
        &self,
        commit: &mut Commit,
        connection: &Connection,
        clash: Clash,
    ) -> Result<(), StoreError> {
        let before = self.clash_about(&connection.id, &clash.object, &clash.waits)?;
        if before.as_ref().is_none_or(|before| !before.asks_the_same(&clash)) && clash.decided.is_none() {
            self.rooms.metrics.record(&self.provider_of(connection), clash.kind.name());
        }
        let clash = match &before {
            Some(before) => clash.in_place_of(before),
            None => clash,
        };
        let names = rival_names(&clash);
        for old in before.iter().flat_map(rival_names).filter(|old| !names.contains(old)) {
            commit.push(Op::DropValue(old));
        }
        self.clashing.lock().insert(connection.id.clone());
        let value = serde_json::to_vec(&clash).unwrap_or_default();
        commit.push(Op::PutValue(name_of(&connection.id, &clash.object, &clash.waits), value));
        for name in names {
            commit.push(Op::PutValue(name, Vec::new()));
        }
        Ok(())
    }

    /// Lets a record about which there is a new question be looked at once more, a little later: a rival that changed while it was being
    /// found has seen nobody who waits. Only the record's own work asks for it: the look has to come to the same question, or end it.
    pub(super) fn look_once_more(
        &self,
        commit: &mut Commit,
        connection: &Connection,
        clash: &Clash,
        class: Class,
    ) -> Result<(), StoreError> {
        if clash.decided.is_some()
            || clash.kind == Kind::Merged
            || self.clash_about(&connection.id, &clash.object, &clash.waits)?.is_some()
        {
            return Ok(());
        }
        let cause = if clash.held.is_empty() { "question" } else { RIVAL };
        let look = self.look_again_hint(connection, &clash.object, &clash.waits, cause, class);
        let object = connection.objects.get(&clash.object);
        let settles = object.map_or(0, |object| object.abilities.find_settles_after_ms);
        let due = look.noticed_at.saturating_add(settles.max(BUSY_LONG_MS));
        commit.push(Op::AddHint(Hint { due, ..look }));
        Ok(())
    }

    /// Takes a clash away with a commit.
    pub(super) fn drop_clash(commit: &mut Commit, clash: &Clash) {
        commit.push(Op::DropValue(name_of(&clash.connection, &clash.object, &clash.waits)));
        for name in rival_names(clash) {
            commit.push(Op::DropValue(name));
        }
    }

    /// Work came to its end: the clash about its record is over, and records that waited because of it are looked at again.
    pub(super) async fn settle_clashes(
        &self,
        commit: &mut Commit,
        connection: &Connection,
        work: &Work,
        changed: bool,
    ) -> Result<(), PipelineError> {
        if !self.clashing.lock().contains(&connection.id) {
            return Ok(());
        }
        // What is not linked has nothing to commit, however much it was changed.
        let edited = || work.hints.iter().any(|hint| matches!(hint.subject, Subject::Internal(_)));
        let changed = changed || matches!(work.hand, Hand::External(_)) || edited();
        let changed = changed && self.identity_moved(connection, work, commit)?;
        let (mut own, mut woken, mut ended) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (object, subject) in self.subjects(connection, work, commit)? {
            let Some(about) = waits_of(subject) else { continue };
            if let Some(mut clash) = self.clash_about(&connection.id, &object, &about)?
                && !self.still_clashes(&clash, connection, commit).await?
            {
                Self::drop_clash(commit, &clash);
                let link = clash.entity().map(|entity| self.link_after(commit, &entity, connection));
                if link.transpose()?.flatten().is_none_or(|link| link.external.is_none()) {
                    // Nobody can carry it out any more.
                    clash.decided = None;
                }
                ended.push(clash);
            }
            if changed {
                woken.extend(self.waiting_for(connection, &object, &about)?);
            }
            own.insert((object, about));
        }
        for clash in &ended {
            woken.extend(self.left_open(connection, clash)?);
        }
        for (object, waits) in woken.difference(&own) {
            commit.push(Op::AddHint(self.look_again_hint(connection, object, waits, RIVAL, Class::Live)));
        }
        Ok(())
    }

    /// A record is set aside: what is wrong with it comes before the question whom it is, which is asked again when that is mended.
    pub(super) fn drop_questions(
        &self,
        commit: &mut Commit,
        connection: &Connection,
        work: &Work,
    ) -> Result<(), StoreError> {
        if !self.clashing.lock().contains(&connection.id) {
            return Ok(());
        }
        for (object, subject) in self.subjects(connection, work, commit)? {
            let Some(about) = waits_of(subject) else { continue };
            let Some(clash) = self.clash_about(&connection.id, &object, &about)? else { continue };
            // Nothing but the question may know of the CRM's records that are linked to nobody.
            let knows_more = clash.rivals.iter().any(|rival| rival.internal.is_none());
            if clash.is_open()
                && clash.kind != Kind::Merged
                && !knows_more
                && !says_of(commit, &name_of(&connection.id, &object, &about))
            {
                Self::drop_clash(commit, &clash);
            }
        }
        Ok(())
    }

    /// The CRM's records that were told of in nothing but a question that has ended by itself: each may be somebody's own still.
    fn left_open(
        &self,
        connection: &Connection,
        ended: &Clash,
    ) -> Result<Vec<(ObjectName, Waits)>, StoreError> {
        let mut open = Vec::new();
        if ended.decided.is_some() {
            return Ok(open);
        }
        for rival in ended.rivals.iter().filter(|rival| rival.internal.is_none()) {
            let Some(id) = &rival.external else { continue };
            let key = ExternalKey {
                connection: connection.id.clone(),
                object: ended.object.clone(),
                id: id.clone(),
            };
            if self.rooms.store.entity_of(&key)?.is_none() {
                open.push((ended.object.clone(), Waits::External(id.clone())));
            }
        }
        Ok(open)
    }

    /// The records that wait because of this one.
    fn waiting_for(
        &self,
        connection: &Connection,
        object: &ObjectName,
        about: &Waits,
    ) -> Result<Vec<(ObjectName, Waits)>, StoreError> {
        let waiting = format!("rival/{}/{}/", connection.id, digest_of(object, about));
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let names = self.rooms.store.values_under(&waiting, after.as_deref(), PAGE)?;
            let Some((last, _)) = names.last() else { return Ok(found) };
            after = Some(last.clone());
            for (name, _) in &names {
                let own = name.strip_prefix(&waiting).unwrap_or_default();
                let clash = format!("clash/{}/{own}", connection.id);
                let value = self.rooms.store.value(&clash)?;
                let clash = value.and_then(|bytes| read(&clash, &bytes));
                found.extend(clash.map(|clash| (clash.object, clash.waits)));
            }
        }
    }

    /// How many questions name an erased record, and what takes them away: its own is over, and whoever waits because of it is
    /// looked at again.
    pub(super) fn erased_clashes(
        &self,
        connection: &Connection,
        object: &ObjectName,
        records: impl Iterator<Item = Waits>,
    ) -> Result<(usize, Vec<Op>), StoreError> {
        let (mut count, mut commit) = (0, Commit::new());
        for about in records {
            let waiting = self.waiting_for(connection, object, &about)?;
            for (object, waits) in waiting.into_iter().chain(std::iter::once((object.clone(), about.clone())))
            {
                let Some(clash) = self.clash_about(&connection.id, &object, &waits)? else { continue };
                Self::drop_clash(&mut commit, &clash);
                count += 1;
                if waits != about {
                    commit.push(Op::AddHint(self.look_again_hint(
                        connection,
                        &object,
                        &waits,
                        RIVAL,
                        Class::Live,
                    )));
                }
            }
        }
        Ok((count, commit.ops))
    }

    /// Whether work has changed what its record is known by or linked to. An edit of another field makes nobody look again.
    fn identity_moved(
        &self,
        connection: &Connection,
        work: &Work,
        commit: &Commit,
    ) -> Result<bool, StoreError> {
        let put = commit.ops.iter().find_map(|op| match op {
            Op::PutLink(link) if link.connection == connection.id => Some(link),
            _ => None,
        });
        let entity = match (put, &work.hand) {
            (Some(link), _) => link.entity.clone(),
            (None, Hand::Entity(entity)) => entity.clone(),
            (None, _) => return Ok(true),
        };
        let Some(before) = self.rooms.store.link(&entity, &connection.id)? else { return Ok(true) };
        let Some(after) = put else { return Ok(before.external.is_none()) };
        let identity = connection.objects.get(&entity.object).map(|object| &object.policy.identity);
        let mut identity = identity.into_iter().flatten();
        Ok(before.external != after.external
            || before.life != after.life
            || identity.any(|field| before.base.get(field) != after.base.get(field)))
    }

    /// Whether work that came to its end has left the question open.
    async fn still_clashes(
        &self,
        clash: &Clash,
        connection: &Connection,
        commit: &Commit,
    ) -> Result<bool, PipelineError> {
        let (Waits::Internal(_), Some(entity)) = (&clash.waits, clash.entity()) else { return Ok(false) };
        let name = name_of(&connection.id, &clash.object, &clash.waits);
        if says_of(commit, &name) {
            // This very work has said what is to become of it.
            return Ok(true);
        }
        let link = self.link_after(commit, &entity, connection)?;
        if clash.decided.is_some() && link.as_ref().is_none_or(|link| link.external.is_none()) {
            // What was decided waits for the work that can carry it out, as long as the record is there.
            return Ok(matches!(self.read_internal(&entity).await?.0, InternalState::Present { .. }));
        }
        let Some(link) = link else { return Ok(false) };
        Ok(clash.held.iter().any(|group| link.held.contains_key(group))
            || clash.kind == Kind::Merged && matches!(link.life, Life::Detached { .. }))
    }

    /// The link of an entity as it is once a commit is applied.
    fn link_after(
        &self,
        commit: &Commit,
        entity: &EntityKey,
        connection: &Connection,
    ) -> Result<Option<Link>, StoreError> {
        let put = commit.ops.iter().rev().find_map(|op| match op {
            Op::PutLink(put) if put.entity == *entity && put.connection == connection.id => Some(put.clone()),
            _ => None,
        });
        match put {
            Some(put) => Ok(Some(put)),
            None => self.rooms.store.link(entity, &connection.id),
        }
    }

    fn look_again_hint(
        &self,
        connection: &Connection,
        object: &ObjectName,
        waits: &Waits,
        cause: &str,
        class: Class,
    ) -> Hint {
        match waits {
            Waits::External(id) => Hint { class, ..self.touched(connection, object, id.as_str(), cause) },
            Waits::Internal(id) => Hint {
                subject: Subject::Internal(id.clone()),
                class,
                observed: None,
                ..self.touched(connection, object, "", cause)
            },
        }
    }

    /// What waits for a person, of one connection or of all.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn clashes(&self, connection: Option<&ConnectionId>, limit: usize) -> Result<Vec<Clash>, StoreError> {
        let prefix = connection.map_or_else(|| "clash/".to_owned(), |id| format!("clash/{id}/"));
        let (mut open, mut after) = (Vec::new(), None::<String>);
        while open.len() < limit {
            let values = self.rooms.store.values_under(&prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = values.last() else { break };
            after = Some(last.clone());
            let clashes = values.iter().filter_map(|(name, bytes)| read(name, bytes));
            open.extend(clashes.filter(Clash::is_open));
        }
        open.truncate(limit);
        Ok(open)
    }
}

/// A clash about a record, before anything is known of an earlier one.
pub(super) fn clash(
    case: &Case<'_>,
    waits: Waits,
    kind: Kind,
    identity: &[(String, String)],
    rivals: Vec<tandem_core::clash::Rival>,
    (why, now): (String, tandem_core::Millis),
) -> Clash {
    let may_be_new = matches!(waits, Waits::Internal(_))
        && (kind == Kind::Merged || !case.object.abilities.unique_identity);
    Clash {
        connection: case.connection.id.clone(),
        scope: case.connection.scope.clone(),
        object: case.link.entity.object.clone(),
        waits,
        kind,
        fields: identity.iter().map(|(pointer, _)| pointer.clone()).collect(),
        identity: identity_digest(identity),
        held: BTreeSet::new(),
        may_be_new,
        rivals,
        since: now,
        seen: now,
        why,
        decided: None,
    }
}

/// Two ids as a rival.
pub(super) fn rival(internal: Option<InternalId>, external: Option<ExternalId>) -> tandem_core::clash::Rival {
    tandem_core::clash::Rival { internal, external }
}
