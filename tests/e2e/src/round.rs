//! Rounds: two people edit the same field of the same record on both sides. What the logs of both sides say of a round, and what
//! its policy promises for it.
//!
//! Pure. A round is a conflict when both edits were accepted before either was delivered to the other side. Within one side the
//! order of the log decides; the moments of both sides are compared as well, since one machine's clock made them.

use std::fmt;

use serde_json::Value;
use tandem_simulator::control::types::{NotedWrite, Writer};

use crate::feed::Change;

/// Who wins a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// System A.
    Internal,
    /// The CRM.
    External,
    /// Whose edit is newer. The starter has no times of fields, and without them it means review; so does what is closer together than
    /// the clocks can be trusted.
    Newest,
    /// Nobody, until a person decides.
    Review,
}

impl Policy {
    /// As the configuration has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
            Self::Newest => "newest",
            Self::Review => "review",
        }
    }
}

/// How far an edit that lands between the last look at a record and the write of it is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// The CRM compares an entity tag: the write is refused, and the record looked at again.
    Exact,
    /// The CRM compares the time of the last change, to the second: refused as well, unless the edit was made in the second of the state
    /// that was last seen.
    ToTheSecond,
    /// The CRM compares nothing, and its webhooks tell of each edit: such an edit is overwritten, found, and then goes by policy.
    FoundAfterwards,
    /// The CRM compares nothing, and nothing tells of the edit: it is overwritten.
    NarrowWindow,
}

/// The two edits of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The record in System A.
    pub internal: String,
    /// The record in the CRM.
    pub external: String,
    /// The field, by its canonical name.
    pub member: &'static str,
    /// What was written in System A.
    pub here: String,
    /// What was written in the CRM.
    pub there: String,
    /// The version that System A answered the edit with.
    pub version: u64,
    /// The record was not any more what it had been before the round when the edit was made in System A: the daemon had written to it,
    /// also where System A's feed leaves that out, since the edit followed at once.
    pub was_written: bool,
}

/// Which edit was there first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Both were accepted before either was delivered.
    Conflict,
    /// System A's was in the CRM before the CRM's was made.
    SystemAFirst,
    /// The CRM's was in System A before System A's was made.
    CrmFirst,
    /// System A's feed left the edit out, since another change followed at once.
    Untold,
}

/// What the logs say of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which edit was first.
    pub order: Order,
    /// When System A and the CRM accepted.
    pub accepted: [i64; 2],
    /// When the daemon first wrote to System A and to the CRM afterwards; where System A's feed has left that out, the moment of the edit
    /// that followed. None: not yet.
    pub delivered: [Option<i64>; 2],
    /// Writes that the daemon made in System A and in the CRM.
    pub writes: [usize; 2],
    /// Writes that the CRM refused, since the record had changed.
    pub refused: usize,
    /// The daemon wrote System A's value over the CRM's.
    pub overtaken: bool,
    /// The CRM's edit was made in the second of an earlier change of the record.
    pub same_second: bool,
}

impl Facts {
    /// Whether the moments alone, without any log's order, show that both edits were accepted before either was delivered.
    #[must_use]
    pub fn is_conflict_by_the_clock(&self) -> bool {
        let accepted = self.accepted.iter().max();
        self.order != Order::Untold
            && self
                .delivered
                .iter()
                .flatten()
                .all(|delivered| accepted.is_some_and(|accepted| accepted < delivered))
    }
}

/// What is to be seen on both sides after a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides have this value.
    Both(String),
    /// Both values stand in the review; each side has its own still, unless one was overwritten before it was found.
    Held,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both(value) => write!(f, "{value:?} on both sides"),
            Self::Held => f.write_str("both values held for review"),
        }
    }
}

impl Round {
    /// What happened, from what both sides noted since the round began. `name`: the CRM's name of the field; `earlier`: what the CRM
    /// noted before.
    ///
    /// # Errors
    /// An edit is not in the log, or two logs contradict each other.
    pub fn facts(
        &self,
        changes: &[Change],
        (earlier, writes): (&[NotedWrite], &[NotedWrite]),
        name: &str,
    ) -> Result<Facts, String> {
        let own: Vec<&Change> = changes.iter().filter(|change| change.id == self.internal).collect();
        let here = own.iter().find(|change| change.version == self.version);
        if here.is_none() && own.iter().all(|change| change.version < self.version) {
            return Err("System A's feed has no such edit".to_owned());
        }
        let carried = own.iter().find(|change| change.is_tandems());
        let carried_first = self.was_written || carried.is_some_and(|carried| carried.version < self.version);
        let of_record = |write: &&NotedWrite| write.id.as_ref() == Some(&self.external);
        let there: Vec<&NotedWrite> = writes.iter().filter(of_record).collect();
        let carries = |write: &NotedWrite, value: &str| {
            write.taken && write.members.get(name).and_then(Value::as_str) == Some(value)
        };
        let edit = there
            .iter()
            .position(|write| write.by == Writer::Person && carries(write, &self.there))
            .ok_or("the CRM's log has no such edit")?;
        let by_tandem = |write: &NotedWrite| write.by == Writer::Api && carries(write, &self.here);
        let written = there.iter().position(|write| by_tandem(write));
        let order = match (written.filter(|written| *written < edit), carried_first) {
            (Some(_), true) => return Err("each edit was delivered before the other was made".to_owned()),
            _ if here.is_none() => Order::Untold,
            (Some(_), false) => Order::SystemAFirst,
            (None, true) => Order::CrmFirst,
            (None, false) => Order::Conflict,
        };
        let second = |write: &NotedWrite| write.at.div_euclid(1_000);
        let edited_in = there.get(edit).map(|write| second(write));
        let before = earlier.iter().filter(of_record).chain(there.iter().take(edit).copied());
        let same_second = before.filter(|write| write.taken).any(|write| Some(second(write)) == edited_in);
        let made = |write: &&&NotedWrite| write.by == Writer::Api;
        // Where the feed has left it out it came before the edit, and when is not known.
        let told = carried.filter(|carried| !self.was_written || carried.version < self.version);
        let left_out = here.filter(|_| self.was_written);
        Ok(Facts {
            order,
            accepted: [here.map_or(0, |change| change.at), there.get(edit).map_or(0, |write| write.at)],
            delivered: [
                told.or(left_out).map(|change| change.at),
                there.iter().find(|write| by_tandem(write)).map(|write| write.at),
            ],
            writes: [
                own.iter().filter(|change| change.is_tandems()).count(),
                there.iter().filter(made).filter(|write| write.taken).count(),
            ],
            refused: there.iter().filter(made).filter(|write| !write.taken).count(),
            overtaken: there.iter().skip(edit).any(|write| by_tandem(write)),
            same_second,
        })
    }

    /// What is promised for a round of this order.
    ///
    /// Where an edit comes into the narrow window, System A's value stands whatever the policy says: that is granted only where
    /// the CRM's own log shows that the daemon's write came after the edit.
    #[must_use]
    pub fn promised(&self, policy: Policy, guarantee: Guarantee, facts: &Facts) -> Vec<Outcome> {
        let (here, there) = (Outcome::Both(self.here.clone()), Outcome::Both(self.there.clone()));
        let by_policy = match (facts.order, policy) {
            (Order::Untold, _) => return vec![here, there, Outcome::Held],
            (Order::SystemAFirst, _) | (Order::Conflict, Policy::External) => there,
            (Order::CrmFirst, _) | (Order::Conflict, Policy::Internal) => here.clone(),
            (Order::Conflict, Policy::Newest | Policy::Review) => Outcome::Held,
        };
        let granted = match guarantee {
            Guarantee::Exact | Guarantee::FoundAfterwards => false,
            Guarantee::ToTheSecond => facts.same_second,
            Guarantee::NarrowWindow => true,
        };
        let window = granted && facts.order == Order::Conflict && facts.overtaken;
        let overtaken = (window && by_policy != here).then_some(here);
        std::iter::once(by_policy).chain(overtaken).collect()
    }
}

#[cfg(test)]
mod tests {
    use tandem_simulator::control::types::WriteKind;

    use super::*;

    fn round() -> Round {
        Round {
            internal: "a".into(),
            external: "1".into(),
            member: "job_title",
            here: "here".into(),
            there: "there".into(),
            version: 5,
            was_written: false,
        }
    }

    fn change(version: u64, at: i64, origin: &str) -> Change {
        Change { id: "a".into(), version, at, origin: origin.into() }
    }

    fn write(by: Writer, at: i64, value: &str, taken: bool) -> NotedWrite {
        let members = [("Title".to_owned(), Value::from(value))].into();
        NotedWrite { at, id: Some("1".into()), by, kind: WriteKind::Update, members, taken }
    }

    fn facts(changes: &[Change], writes: &[NotedWrite]) -> Facts {
        round().facts(changes, (&[], writes), "Title").unwrap()
    }

    fn promised(policy: Policy, guarantee: Guarantee, facts: &Facts) -> Vec<Outcome> {
        round().promised(policy, guarantee, facts)
    }

    fn both(value: &str) -> Outcome {
        Outcome::Both(value.into())
    }

    #[test]
    fn edits_that_were_accepted_before_either_was_delivered_are_a_conflict() {
        let changes = [change(5, 100, "api"), change(6, 140, "tandem:c")];
        let writes = [write(Writer::Person, 110, "there", true), write(Writer::Api, 130, "here", true)];
        let facts = facts(&changes, &writes);
        assert_eq!(
            (facts.order, facts.accepted, facts.delivered),
            (Order::Conflict, [100, 110], [Some(140), Some(130)])
        );
        assert!(facts.is_conflict_by_the_clock() && facts.overtaken);
        assert_eq!((facts.writes, facts.refused), ([1, 1], 0));
        assert_eq!(promised(Policy::Internal, Guarantee::Exact, &facts), [both("here")]);
        assert_eq!(promised(Policy::External, Guarantee::Exact, &facts), [both("there")]);
        assert_eq!(promised(Policy::Newest, Guarantee::Exact, &facts), [Outcome::Held]);
        // Only the narrow window lets System A's value stand against the policy.
        assert_eq!(
            promised(Policy::External, Guarantee::NarrowWindow, &facts),
            [both("there"), both("here")]
        );
        assert_eq!(promised(Policy::Internal, Guarantee::NarrowWindow, &facts), [both("here")]);
    }

    #[test]
    fn a_delivery_that_the_feed_left_out_is_known_from_the_record_that_had_changed() {
        let later = [change(5, 120, "api"), change(6, 140, "tandem:c")];
        let writes = [write(Writer::Person, 100, "there", true), write(Writer::Api, 130, "here", true)];
        for changes in [&later[..1], &later] {
            assert_eq!(facts(changes, &writes).order, Order::Conflict);
            let round = Round { was_written: true, ..round() };
            let facts = round.facts(changes, (&[], &writes), "Title").unwrap();
            assert_eq!((facts.order, facts.delivered), (Order::CrmFirst, [Some(120), Some(130)]));
            assert!(!facts.is_conflict_by_the_clock());
            assert_eq!(round.promised(Policy::External, Guarantee::FoundAfterwards, &facts), [both("here")]);
        }
    }

    #[test]
    fn where_webhooks_tell_of_each_edit_an_overwritten_one_goes_by_policy() {
        let changes = [change(5, 100, "api"), change(6, 140, "tandem:c")];
        let writes = [write(Writer::Person, 110, "there", true), write(Writer::Api, 130, "here", true)];
        let facts = facts(&changes, &writes);
        assert!(facts.overtaken);
        assert_eq!(promised(Policy::External, Guarantee::FoundAfterwards, &facts), [both("there")]);
        assert_eq!(promised(Policy::Review, Guarantee::FoundAfterwards, &facts), [Outcome::Held]);
    }

    #[test]
    fn where_times_are_compared_a_window_is_granted_in_the_second_of_an_earlier_change_alone() {
        let changes = [change(5, 100, "api"), change(6, 1_140, "tandem:c")];
        let writes = [write(Writer::Person, 1_110, "there", true), write(Writer::Api, 1_130, "here", true)];
        for (at, granted) in [(999, false), (1_000, true)] {
            let earlier = [write(Writer::Api, at, "before", true)];
            let facts = round().facts(&changes, (&earlier, &writes), "Title").unwrap();
            let outcomes = promised(Policy::External, Guarantee::ToTheSecond, &facts);
            assert_eq!(outcomes.contains(&both("here")), granted, "{at}");
        }
    }

    #[test]
    fn nothing_is_granted_for_a_window_that_the_log_does_not_show() {
        let changes = [change(5, 100, "api")];
        let writes = [write(Writer::Person, 110, "there", true), write(Writer::Api, 120, "here", false)];
        let facts = facts(&changes, &writes);
        assert_eq!((facts.order, facts.overtaken, facts.refused), (Order::Conflict, false, 1));
        assert_eq!(promised(Policy::External, Guarantee::NarrowWindow, &facts), [both("there")]);
    }

    #[test]
    fn an_edit_that_was_made_after_the_other_one_arrived_is_no_conflict_and_wins() {
        let changes = [change(5, 100, "api"), change(7, 140, "tandem:c")];
        let writes = [write(Writer::Api, 105, "here", true), write(Writer::Person, 110, "there", true)];
        let first = facts(&changes, &writes);
        assert_eq!(first.order, Order::SystemAFirst);
        assert!(!first.is_conflict_by_the_clock());
        assert_eq!(promised(Policy::Internal, Guarantee::Exact, &first), [both("there")]);

        let changes = [change(4, 90, "tandem:c"), change(5, 100, "api")];
        let writes = [write(Writer::Person, 80, "there", true), write(Writer::Api, 120, "here", true)];
        let second = facts(&changes, &writes);
        assert_eq!(second.order, Order::CrmFirst);
        assert_eq!(promised(Policy::External, Guarantee::NarrowWindow, &second), [both("here")]);
    }

    #[test]
    fn what_the_logs_do_not_show_or_cannot_be_is_an_error() {
        let edit = [write(Writer::Person, 110, "there", true)];
        assert!(round().facts(&[change(4, 100, "api")], (&[], &edit), "Title").is_err());
        assert!(round().facts(&[change(5, 100, "api")], (&[], &[]), "Title").is_err());
        let writes = [write(Writer::Api, 105, "here", true), write(Writer::Person, 110, "there", true)];
        let changes = [change(4, 90, "tandem:c"), change(5, 100, "api")];
        assert!(round().facts(&changes, (&[], &writes), "Title").is_err());
    }
}
