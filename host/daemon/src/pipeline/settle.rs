//! How a piece of work ends: its hints are acknowledged, wait, are tried again, or are set aside. One commit each.

use std::sync::Arc;
use std::time::Duration;

use tandem_core::Millis;
use tandem_core::clash::{Clash, Waits};
use tandem_core::exchange::{Problem, State};
use tandem_core::id::{ConnectionId, EntityKey, ExternalId, ObjectName, ProviderId};
use tandem_core::link::Link;

use super::again::{Missed, about_entity, after_missing, dated, forget_missed, merged};
use super::dispatch::Hand;
use super::exchange::{ExchangeError, moment};
use super::{Clock, Connection, Pipeline, PipelineError, Work};
use crate::delivery::{Deliver, SendError};
use crate::internal::Internal;
use crate::provider::{FaultKind, Runtime};
use crate::quota::Cause;
use crate::store::{Class, Commit, DeadLetter, Hint, HistoryEntry, Op, Store, StoreError, Subject, Until};

/// A connection that is held up is looked at again after this at the latest, in milliseconds.
pub(super) const LONGEST_HOLD: u64 = 60_000;

/// With a full disk work is tried again after this, in milliseconds.
pub(super) const DISK_FULL_MS: u64 = 5_000;

/// How a piece of work ended.
#[derive(Debug)]
pub(super) enum End {
    /// All is agreed, or as agreed as it may be: the hints are acknowledged with these changes.
    Done(Commit),
    /// Nothing was done; the hints wait in memory.
    PutBack {
        /// Not before this moment.
        until: Millis,
        /// The whole connection waits with it.
        whole: bool,
    },
    /// To be done again at a moment, by no fault of the record: the hints wait on disk.
    Later {
        /// Not before this moment.
        until: Millis,
        /// Read the CRM's record first.
        touched: bool,
        /// What was done so far.
        commit: Commit,
    },
    /// A record that is linked to nothing was missed: it is looked for again before it counts as gone.
    Missed {
        /// All that were missed so far.
        missed: Missed,
        /// Not before this moment.
        until: Millis,
        /// What was done so far.
        commit: Commit,
    },
    /// It failed; another try is counted.
    Again {
        /// Why, for the dead letter that this may become.
        problem: Problem,
        /// Where it failed.
        point: &'static str,
        /// Not before this moment.
        not_before: Millis,
        /// The outcome is not known: read the CRM's record first.
        touched: bool,
        /// What was done so far.
        commit: Commit,
    },
    /// It cannot be told whom the record is: a person decides.
    Clash {
        /// The question.
        clash: Box<Clash>,
        /// What was done so far.
        commit: Commit,
    },
    /// The record cannot be worked as it is.
    SetAside {
        /// Where it failed.
        point: &'static str,
        /// What is wrong.
        problems: Vec<Problem>,
        /// The entity, if it is known.
        entity: Option<EntityKey>,
        /// What was done so far.
        commit: Commit,
    },
}

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    /// Commits the end of a piece of work and lets go of its hand.
    pub(super) async fn settle(
        &self,
        connection: &Arc<Connection>,
        work: Work,
        end: End,
    ) -> Result<(), PipelineError> {
        let now = self.rooms.clock.now();
        let is_idle = matches!(&end, End::Done(commit) if changes_nothing(commit));
        let mut outcome = if is_idle { "dismissed" } else { "written" };
        let (mut commit, next) = match end {
            End::PutBack { until, whole } => {
                self.dispatch.lock().put_back(work, until, whole);
                return Ok(());
            }
            End::Done(mut commit) => {
                self.drop_letters(&mut commit, connection, &work)?;
                self.settle_clashes(&mut commit, connection, &work, !is_idle).await?;
                (commit, None)
            }
            End::Clash { clash, mut commit } => {
                outcome = "review";
                if self.rooms.store.dead_count(&connection.id)? > 0 {
                    // What was wrong with the record is this question now.
                    for (object, subject) in self.subjects(connection, &work, &commit)? {
                        commit.push(Op::DropDeadAbout(connection.id.clone(), object, subject));
                    }
                }
                let subject = match &clash.waits {
                    Waits::Internal(id) => Subject::Internal(id.clone()),
                    Waits::External(id) => Subject::External(id.clone()),
                };
                if self.subjects(connection, &work, &commit)?.contains(&(clash.object.clone(), subject)) {
                    self.look_once_more(&mut commit, connection, &clash, work.class())?;
                }
                self.note_clash(&mut commit, connection, *clash)?;
                (commit, None)
            }
            End::Later { until, touched, commit } => {
                (commit, merged(&work, touched).map(|hint| Hint { seq: 0, due: until.max(1), ..hint }))
            }
            End::Missed { missed, until, commit } => {
                let next = merged(&work, true).map(|hint| after_missing(hint, &missed));
                (commit, next.map(|hint| Hint { seq: 0, due: until.max(1), ..hint }))
            }
            End::Again { problem, point, not_before, touched, commit } => match merged(&work, touched) {
                Some(mut hint) if hint.attempts.saturating_add(1) >= self.limits.attempts => {
                    outcome = "set-aside";
                    let mut commit = commit;
                    about_entity(&mut hint, &work.hand, &commit);
                    self.owe_a_look(&mut commit, &work, &hint)?;
                    let why = format!("{point}: given up after {} tries", hint.attempts.saturating_add(1));
                    let letter = self.letter(connection, &work, hint, point, vec![problem], None)?;
                    if let Some(entity) = &letter.entity {
                        let link = Link::new(entity.clone(), connection.id.clone());
                        commit.push(Op::AddHistory(HistoryEntry {
                            what: "set-aside".into(),
                            why,
                            cause: letter.hint.cause.clone(),
                            ..HistoryEntry::new(&link, now, letter.provider.clone())
                        }));
                    }
                    self.set_aside(&mut commit, connection, &work, letter)?;
                    (commit, None)
                }
                Some(hint) => {
                    self.rooms.metrics.record(&self.provider_of(connection), "retry");
                    let attempts = hint.attempts.saturating_add(1);
                    let due = not_before.max(now.saturating_add(self.backoff(attempts)));
                    (
                        commit,
                        Some(Hint { seq: 0, due, attempts, class: hint.class.max(Class::Retry), ..hint }),
                    )
                }
                None => (commit, None),
            },
            End::SetAside { point, problems, entity, mut commit } => {
                outcome = "set-aside";
                if let Some(mut hint) = merged(&work, false) {
                    about_entity(&mut hint, &work.hand, &commit);
                    let letter = self.letter(connection, &work, hint, point, problems, entity)?;
                    self.set_aside(&mut commit, connection, &work, letter)?;
                }
                (commit, None)
            }
        };
        for hint in &work.hints {
            commit.push(Op::DropHint(hint.key()));
        }
        // What this work asks for beside its own further way.
        let arrivals: Vec<Hint> = commit
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::AddHint(hint) => Some(hint.clone()),
                _ => None,
            })
            .collect();
        let goes_on = next.is_some();
        // Hints that wait from now on in the place of the work's.
        let mut kept = 1_usize;
        if let Some(mut hint) = next {
            about_entity(&mut hint, &work.hand, &commit);
            self.owe_a_look(&mut commit, &work, &hint)?;
            let tells = connection.objects.get(&work.object).is_some_and(|object| object.policy.event_times);
            for mut told in dated(&work, &hint).into_iter().filter(|_| tells) {
                let subject = told.subject.clone();
                about_entity(&mut told, &work.hand, &commit);
                if told.subject == subject {
                    kept += 1;
                    told.seq = self.rooms.store.next_seq();
                    commit.push(Op::AddHint(told));
                }
            }
            hint.seq = self.rooms.store.next_seq();
            commit.push(Op::AddHint(hint));
        }
        let closed: Vec<(EntityKey, ConnectionId)> = commit
            .ops
            .iter()
            .filter_map(|op| match op {
                Op::DropIntent(entity, connection) => Some((entity.clone(), connection.clone())),
                _ => None,
            })
            .collect();
        let committed = self.rooms.store.commit(commit, Until::Applied).await;
        if let Err(StoreError::Full { .. }) = &committed {
            // Nothing was taken: the work is done again when there is room. Whatever reached a CRM plans to nothing then. What was
            // under way still is.
            for (entity, connection) in closed {
                if let Some(intent) = self.rooms.store.intent(&entity, &connection)? {
                    self.remember(&intent);
                }
            }
            self.dispatch.lock().put_back(work, now.saturating_add(DISK_FULL_MS), false);
            return Ok(());
        }
        let mut dispatch = self.dispatch.lock();
        dispatch.finish(&work);
        if committed.is_ok() {
            if goes_on {
                for _ in work.hints.len()..kept {
                    self.rooms.metrics.hint_added(work.class().name());
                }
                for hint in work.hints.iter().skip(kept) {
                    self.rooms.metrics.hint_merged(hint.class.name());
                }
            } else {
                for hint in &work.hints {
                    let age = Duration::from_millis(now.saturating_sub(hint.noticed_at));
                    self.rooms.metrics.hint_done(hint.class.name(), outcome, age);
                }
            }
            for hint in &arrivals {
                self.rooms.metrics.hint_added(hint.class.name());
            }
            dispatch.arrived(arrivals.into_iter().filter(|hint| hint.due == 0));
        }
        drop(dispatch);
        committed?;
        Ok(())
    }

    /// The dead letter of a piece of work.
    fn letter(
        &self,
        connection: &Connection,
        work: &Work,
        mut hint: Hint,
        point: &'static str,
        problems: Vec<Problem>,
        entity: Option<EntityKey>,
    ) -> Result<DeadLetter, StoreError> {
        forget_missed(&mut hint);
        self.rooms.metrics.set_aside(&self.provider_of(connection), point);
        let entity = entity.or_else(|| match &work.hand {
            Hand::Entity(entity) => Some(entity.clone()),
            _ => None,
        });
        let linked = match &entity {
            Some(entity) => self.rooms.store.link(entity, &connection.id)?.and_then(|link| link.external),
            None => None,
        };
        let external = match &hint.subject {
            Subject::External(id) => Some(id.clone()),
            _ => linked,
        };
        let now = self.rooms.clock.now();
        Ok(DeadLetter {
            seq: self.rooms.store.next_seq(),
            hint,
            entity,
            at: now,
            point: point.into(),
            problems,
            provider: self.label(connection),
            external,
            first_at: now,
            count: 1,
        })
    }

    /// Sets a record aside. There is one letter about it, whatever it was known by before, and no question beside it.
    fn set_aside(
        &self,
        commit: &mut Commit,
        connection: &Connection,
        work: &Work,
        letter: DeadLetter,
    ) -> Result<(), StoreError> {
        if self.rooms.store.dead_count(&connection.id)? > 0 {
            let (object, about) = letter.about();
            for (of, subject) in self.subjects(connection, work, commit)? {
                if of != *object || subject != about {
                    commit.push(Op::DropDeadAbout(connection.id.clone(), of, subject));
                }
            }
        }
        self.drop_questions(commit, connection, work)?;
        commit.push(Op::AddDead(letter));
        Ok(())
    }

    /// Takes away the letters about a record that was worked to its end. Where the CRM's side was the reason and was not read since, it
    /// is read first: that System A's edit got through says nothing of it.
    fn drop_letters(
        &self,
        commit: &mut Commit,
        connection: &Connection,
        work: &Work,
    ) -> Result<(), StoreError> {
        if self.rooms.store.dead_count(&connection.id)? == 0 {
            return Ok(());
        }
        let is_touched = |hint: &Hint| {
            hint.observed.as_ref().is_some_and(|observed| matches!(observed.state, State::Touched))
        };
        let was_read = !matches!(work.hand, Hand::Entity(_)) || work.hints.iter().any(is_touched);
        let mut to_read = None;
        for (object, subject) in self.subjects(connection, work, commit)? {
            let Some(letter) = self.rooms.store.dead_about(&connection.id, &object, &subject)? else {
                continue;
            };
            match letter.external {
                Some(id) if !was_read && !is_of_system_a(&letter.point) => to_read = Some((object, id)),
                _ => {
                    commit.push(Op::DropDeadAbout(connection.id.clone(), object, subject));
                }
            }
        }
        if let Some((object, id)) = to_read {
            commit.push(Op::AddHint(self.touched(connection, &object, id.as_str(), "look")));
        }
        Ok(())
    }

    /// Every name under which a letter about this work's record may be found.
    pub(super) fn subjects(
        &self,
        connection: &Connection,
        work: &Work,
        commit: &Commit,
    ) -> Result<Vec<(ObjectName, Subject)>, StoreError> {
        let mut all: Vec<(ObjectName, Subject)> =
            work.hints.iter().map(|hint| (hint.object.clone(), hint.subject.clone())).collect();
        let mut linked = |entity: &EntityKey, external: Option<&ExternalId>| {
            all.push((entity.object.clone(), Subject::Internal(entity.id.clone())));
            all.extend(external.map(|id| (entity.object.clone(), Subject::External(id.clone()))));
        };
        if let Hand::Entity(entity) = &work.hand {
            let link = self.rooms.store.link(entity, &connection.id)?;
            linked(entity, link.and_then(|link| link.external).as_ref());
        }
        for op in &commit.ops {
            if let Op::PutLink(link) = op
                && link.connection == connection.id
            {
                linked(&link.entity, link.external.as_ref());
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The provider's label for history.
    pub(super) fn label(&self, connection: &Connection) -> String {
        connection.binding.view().label.clone()
    }

    /// The provider's id, for metrics.
    pub(super) fn provider_of(&self, connection: &Connection) -> ProviderId {
        connection.binding.view().provider.clone()
    }

    /// Doubles with each try, with up to half of it as jitter.
    fn backoff(&self, attempts: u32) -> u64 {
        let doubled = self.limits.backoff_ms.saturating_mul(1_u64 << attempts.saturating_sub(1).min(20));
        let wait = doubled.min(self.limits.backoff_max_ms);
        wait.saturating_add(self.rooms.clock.jitter(wait / 2 + 1))
    }

    /// What an exchange without an answer means for the record.
    pub(super) fn failed(
        &self,
        connection: &Connection,
        error: ExchangeError,
        entity: Option<EntityKey>,
        commit: Commit,
    ) -> Result<End, PipelineError> {
        let now = self.rooms.clock.now();
        let again = |point, code: &str, message: String, touched, not_before, commit| {
            let problem = Problem { code: code.into(), message, pointer: None };
            Ok(End::Again { problem, point, not_before, touched, commit })
        };
        match error {
            ExchangeError::Pipeline(error) => Err(error),
            ExchangeError::Held { until } => {
                let reason = match self.rooms.quotas.standing(&connection.id, now).cause {
                    Cause::Quota => "quota",
                    Cause::Breaker => "breaker",
                    Cause::Authorisation => "authorisation",
                    Cause::Blocked => "blocked",
                    Cause::None => "other",
                };
                self.rooms.metrics.held_back(&self.provider_of(connection), reason);
                Ok(later_or_back(until, commit))
            }
            ExchangeError::Refused { point, problems } => {
                Ok(End::SetAside { point, problems, entity, commit })
            }
            ExchangeError::Fault(fault) => {
                self.rooms.metrics.fault(&self.provider_of(connection), fault.kind.label());
                match &fault.kind {
                    FaultKind::Broken { wait_ms, .. } => {
                        self.rooms.metrics.held_back(&self.provider_of(connection), "fault");
                        Ok(later_or_back(now.saturating_add((*wait_ms).max(10)), commit))
                    }
                    FaultKind::Absent { .. } | FaultKind::Configure { .. } => {
                        Ok(later_or_back(now.saturating_add(1_000), commit))
                    }
                    _ => again("fault", "provider-fault", fault.to_string(), false, now, commit),
                }
            }
            ExchangeError::Send(error) => {
                let message = error.to_string();
                match error {
                    SendError::NotSent { .. } => {
                        self.rooms.quotas.failed(&connection.id, now, self.rooms.clock.jitter(u64::MAX));
                        again("delivery", "not-sent", message, false, now, commit)
                    }
                    SendError::Unknown { .. } => {
                        self.rooms.quotas.failed(&connection.id, now, self.rooms.clock.jitter(u64::MAX));
                        again("delivery", "outcome-unknown", message, true, now, commit)
                    }
                    SendError::Forbidden { all: false, what, .. } => {
                        let problem =
                            Problem { code: "forbidden-request".into(), message: what, pointer: None };
                        Ok(End::SetAside { point: "delivery", problems: vec![problem], entity, commit })
                    }
                    SendError::Forbidden { .. } => {
                        self.rooms.quotas.blocked(&connection.id, &message);
                        Ok(later_or_back(now.saturating_add(60_000), commit))
                    }
                    SendError::Unauthorised { .. } => {
                        self.rooms.quotas.unauthorised(&connection.id, &message);
                        Ok(later_or_back(now.saturating_add(30_000), commit))
                    }
                }
            }
        }
    }

    /// What an answer that is neither a result nor the record's fault means.
    pub(super) fn waits(
        &self,
        connection: &Connection,
        answer: tandem_core::exchange::Answer,
        entity: Option<EntityKey>,
        commit: Commit,
    ) -> End {
        use tandem_core::exchange::Answer;
        let now = self.rooms.clock.now();
        let random = self.rooms.clock.jitter(u64::MAX);
        match answer {
            Answer::Throttled(throttle) => {
                self.rooms.metrics.held_back(&self.provider_of(connection), "quota");
                let until = self.rooms.quotas.throttled(
                    &connection.id,
                    throttle.quota.as_deref(),
                    throttle.wait,
                    now,
                    random,
                );
                later_or_back(until.min(now.saturating_add(LONGEST_HOLD)), commit)
            }
            Answer::Again(wait, effect) => {
                self.rooms.quotas.failed(&connection.id, now, random);
                End::Again {
                    problem: Problem {
                        code: "try-again".into(),
                        message: format!("the CRM asked to try again (took effect: {effect})"),
                        pointer: None,
                    },
                    point: "delivery",
                    not_before: moment(wait, now, 0),
                    touched: effect != "no",
                    commit,
                }
            }
            Answer::Unauthorised(why) => {
                self.rooms.quotas.unauthorised(&connection.id, &why);
                later_or_back(now.saturating_add(30_000), commit)
            }
            Answer::Blocked(block) if block.scope == "connection" => {
                self.rooms.quotas.blocked(&connection.id, &block.problem.message);
                later_or_back(now.saturating_add(60_000), commit)
            }
            Answer::Blocked(block) => {
                End::SetAside { point: "blocked", problems: vec![block.problem], entity, commit }
            }
            Answer::Rejected(problems) => End::SetAside { point: "rejected", problems, entity, commit },
            other => End::SetAside {
                point: "fault",
                problems: vec![Problem {
                    code: "unexpected-answer".into(),
                    message: format!(
                        "the provider gave an answer that does not belong to the operation: {}",
                        word(&other)
                    ),
                    pointer: None,
                }],
                entity,
                commit,
            },
        }
    }
}

/// With something to commit the hints wait on disk; otherwise in memory, and the connection with them.
fn later_or_back(until: Millis, commit: Commit) -> End {
    if commit.ops.is_empty() {
        End::PutBack { until, whole: true }
    } else {
        End::Later { until, touched: false, commit }
    }
}

/// The reason lies in what System A has: a work that came to its end has written it.
fn is_of_system_a(point: &str) -> bool {
    matches!(point, "provider-out" | "rejected")
}

/// Nothing comes of it, but for a note that the CRM was asked in vain.
pub(super) fn changes_nothing(commit: &Commit) -> bool {
    commit.ops.iter().all(|op| matches!(op, Op::AddHistory(entry) if entry.what == "looked"))
}

/// The kind of an answer.
pub(super) fn word(answer: &tandem_core::exchange::Answer) -> &'static str {
    use tandem_core::exchange::Answer;
    match answer {
        Answer::Send(_) => "send",
        Answer::Written(_) => "written",
        Answer::Current(_) => "current",
        Answer::Found(_) => "found",
        Answer::Page(_) => "page",
        Answer::Watching(_) => "watching",
        Answer::Facts(_) => "facts",
        Answer::Exists(_) => "exists",
        Answer::Refused => "refused",
        Answer::CursorLost(_) => "cursor-lost",
        Answer::Throttled(_) => "throttled",
        Answer::Again(..) => "again",
        Answer::Rejected(_) => "rejected",
        Answer::Blocked(_) => "blocked",
        Answer::Unauthorised(_) => "unauthorised",
        Answer::Other(..) => "other",
    }
}
