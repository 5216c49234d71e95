//! A record of which it cannot be told whom it is: it waits for a person, beside the links.
//!
//! Identity fields say that two records are one person. Where they say it of more than two, or of one that is linked to
//! another already, nothing is linked at random and nothing is made twice: a clash is written down. It is about one record,
//! the one that waits; its rivals are the records that it may belong to or that stand in its way. Every new look at the
//! record writes the clash anew; a decision holds for as long as the question is the same, and the clash ends by itself when
//! the look finds no rival any more.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::id::{ConnectionId, EntityKey, ExternalId, InternalId, ObjectName, ScopeId};

/// The record that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waits {
    /// A record of System A.
    Internal(InternalId),
    /// A record of the CRM that is not linked.
    External(ExternalId),
}

impl Waits {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Internal(id) => id.as_str(),
            Self::External(id) => id.as_str(),
        }
    }
}

/// What kind of question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Two records of the CRM are one of System A: that one is linked to the other.
    Duplicate,
    /// Several records of the other side have its identity.
    Ambiguous,
    /// Its identity, or the one that it was given, belongs to another record.
    Taken,
    /// Its record in the CRM was merged into one that is linked already.
    Merged,
}

impl Kind {
    /// The kind's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Ambiguous => "ambiguous",
            Self::Taken => "taken",
            Self::Merged => "merged",
        }
    }
}

/// A record that the one that waits may belong to, or that stands in its way. At least one side is there; both: they are linked.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rival {
    /// In System A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal: Option<InternalId>,
    /// In the CRM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalId>,
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.internal, &self.external) {
            (Some(internal), Some(external)) => {
                write!(f, "{internal} of System A, linked to {external} of the CRM")
            }
            (Some(internal), None) => write!(f, "{internal} of System A"),
            (None, Some(external)) => write!(f, "{external} of the CRM"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

/// What a person decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// It is this record of the other side: the two are linked, and whatever that one was linked to is left alone.
    Link(String),
    /// It is somebody else, or not to be kept the same: it is left alone for as long as the question is the same.
    Apart,
    /// It is somebody else, and gets a record of its own in the CRM.
    New,
    /// It is the winner's record: System A's loser is deleted.
    Merge,
}

/// Why a choice cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// It is not one of those that the question has.
    #[error("that is no choice here; the choices are {0}")]
    Unfit(String),
    /// No rival has that id.
    #[error("{0} is not one of the records that it may belong to; the choices are {1}")]
    Stranger(String, String),
    /// A field group of a link is held for it.
    #[error("its field is held in the usual way: decide group {0} with --take or --value")]
    Held(String),
}

/// A record that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clash {
    /// The connection.
    pub connection: ConnectionId,
    /// The part of System A that it serves.
    pub scope: ScopeId,
    /// The canonical object.
    pub object: ObjectName,
    /// The record that waits.
    pub waits: Waits,
    /// What kind of question it is.
    pub kind: Kind,
    /// The identity fields that raise it.
    #[serde(default)]
    pub fields: BTreeSet<String>,
    /// A digest of their values: with others it is another question.
    #[serde(default)]
    pub identity: String,
    /// Field groups of the record's own link that are held for it. Then the choice is made there.
    #[serde(default)]
    pub held: BTreeSet<String>,
    /// It may get a record of its own in the CRM beside the others.
    #[serde(default)]
    pub may_be_new: bool,
    /// Whom it may belong to, or who stands in its way.
    pub rivals: Vec<Rival>,
    /// When it was first found.
    pub since: Millis,
    /// When it was last found.
    pub seen: Millis,
    /// Why, in words, without record contents.
    pub why: String,
    /// What a person decided about this question.
    #[serde(default)]
    pub decided: Option<Choice>,
}

impl Clash {
    /// The internal record of it: the one that waits, or else the first rival's.
    #[must_use]
    pub fn entity(&self) -> Option<EntityKey> {
        let id = match &self.waits {
            Waits::Internal(id) => Some(id),
            Waits::External(_) => self.rivals.iter().find_map(|rival| rival.internal.as_ref()),
        };
        id.map(|id| EntityKey { scope: self.scope.clone(), object: self.object.clone(), id: id.clone() })
    }

    /// The CRM's record of it: the one that waits, or else the first rival's.
    #[must_use]
    pub fn external(&self) -> Option<&ExternalId> {
        match &self.waits {
            Waits::External(id) => Some(id),
            Waits::Internal(_) => self.rivals.iter().find_map(|rival| rival.external.as_ref()),
        }
    }

    /// Whether a person has to choose here: not decided, and not to be decided at a held group.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.decided.is_none() && self.held.is_empty()
    }

    /// Whether it is about the record, or the record is one of its rivals.
    #[must_use]
    pub fn names(&self, id: &str) -> bool {
        self.waits.id() == id
            || self.rivals.iter().any(|rival| {
                rival.internal.as_ref().is_some_and(|internal| internal.as_str() == id)
                    || rival.external.as_ref().is_some_and(|external| external.as_str() == id)
            })
    }

    /// The record of the other side that a rival is for the one that waits.
    fn other_side<'a>(&self, rival: &'a Rival) -> Option<&'a str> {
        match self.waits {
            Waits::Internal(_) => rival.external.as_ref().map(ExternalId::as_str),
            Waits::External(_) => rival.internal.as_ref().map(InternalId::as_str),
        }
    }

    /// The choices, as the command line takes them.
    #[must_use]
    pub fn choices(&self) -> Vec<String> {
        if let Some(group) = self.held.first() {
            return vec![format!("--group {group} --take internal"), format!("--group {group} --value")];
        }
        let mut choices: Vec<String> = match self.kind {
            Kind::Merged => vec!["--merge".to_owned()],
            Kind::Duplicate | Kind::Ambiguous | Kind::Taken => self
                .rivals
                .iter()
                .filter_map(|rival| self.other_side(rival))
                .map(|id| format!("--link {id}"))
                .collect(),
        };
        choices.push("--apart".to_owned());
        if self.may_be_new {
            choices.push("--new".to_owned());
        }
        choices
    }

    /// Whether a choice is one of those that the question has.
    ///
    /// # Errors
    /// It is not; the text has those that are.
    pub fn check(&self, choice: &Choice) -> Result<(), ChoiceError> {
        if let Some(group) = self.held.first() {
            return Err(ChoiceError::Held(group.clone()));
        }
        let fits = match choice {
            Choice::Apart => true,
            Choice::New => self.may_be_new,
            Choice::Merge => self.kind == Kind::Merged,
            Choice::Link(id) if self.kind != Kind::Merged => {
                if !self.rivals.iter().any(|rival| self.other_side(rival) == Some(id)) {
                    return Err(ChoiceError::Stranger(id.clone(), self.choices().join(", ")));
                }
                true
            }
            Choice::Link(_) => false,
        };
        if fits { Ok(()) } else { Err(ChoiceError::Unfit(self.choices().join(", "))) }
    }

    /// Whether it asks the same of the same records. What was decided holds for this question only.
    #[must_use]
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let rivals = |clash: &Self| clash.rivals.iter().cloned().collect::<BTreeSet<Rival>>();
        self.waits == other.waits
            && self.kind == other.kind
            && self.identity == other.identity
            && rivals(self) == rivals(other)
    }

    /// This clash in the place of the one that was stored about the record: its age stays, and what was decided, if it asks the
    /// same.
    #[must_use]
    pub fn in_place_of(mut self, before: &Self) -> Self {
        self.since = before.since;
        let is_had = self.may_be_new || before.decided != Some(Choice::New);
        if self.decided.is_none() && is_had && self.asks_the_same(before) {
            self.decided.clone_from(&before.decided);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rival(internal: Option<&str>, external: Option<&str>) -> Rival {
        Rival { internal: internal.map(InternalId::from), external: external.map(ExternalId::from) }
    }

    fn clash(waits: Waits, kind: Kind, rivals: Vec<Rival>) -> Clash {
        Clash {
            connection: "acme".into(),
            scope: "acme".into(),
            object: "contact".into(),
            waits,
            kind,
            fields: BTreeSet::from(["/email".to_owned()]),
            identity: "1".to_owned(),
            held: BTreeSet::new(),
            may_be_new: matches!(kind, Kind::Ambiguous | Kind::Merged),
            rivals,
            since: 5,
            seen: 5,
            why: String::new(),
            decided: None,
        }
    }

    fn duplicate() -> Clash {
        clash(Waits::External("p-2".into()), Kind::Duplicate, vec![rival(Some("x"), Some("p-1"))])
    }

    #[test]
    fn each_kind_has_its_choices_and_takes_no_others() {
        let link = |id: &str| Choice::Link(id.to_owned());
        let ambiguous = clash(
            Waits::Internal("x".into()),
            Kind::Ambiguous,
            vec![rival(None, Some("p-1")), rival(None, Some("p-2"))],
        );
        let merged = clash(Waits::Internal("y".into()), Kind::Merged, vec![rival(Some("x"), Some("p-1"))]);
        let taken = clash(Waits::Internal("z".into()), Kind::Taken, vec![rival(Some("y"), Some("p-1"))]);
        let all = [link("x"), link("p-1"), link("p-2"), Choice::Apart, Choice::New, Choice::Merge];
        for (clash, choices, taken) in [
            (duplicate(), "--link x, --apart", [true, false, false, true, false, false]),
            (ambiguous, "--link p-1, --link p-2, --apart, --new", [false, true, true, true, true, false]),
            (merged, "--merge, --apart, --new", [false, false, false, true, true, true]),
            (taken, "--link p-1, --apart", [false, true, false, true, false, false]),
        ] {
            assert_eq!(clash.choices().join(", "), choices);
            assert_eq!(all.each_ref().map(|choice| clash.check(choice).is_ok()), taken, "{choices}");
        }
    }

    #[test]
    fn what_is_held_at_a_link_is_decided_there() {
        let mut held = clash(Waits::Internal("x".into()), Kind::Taken, vec![rival(Some("y"), Some("p-2"))]);
        held.held.insert("/email".to_owned());
        assert!(!held.is_open());
        assert_eq!(held.check(&Choice::Apart), Err(ChoiceError::Held("/email".to_owned())));
        assert!(held.choices().iter().all(|choice| choice.starts_with("--group /email")));
    }

    #[test]
    fn a_decision_holds_for_the_same_question_and_the_age_for_the_record() {
        let decided = Clash { decided: Some(Choice::Apart), ..duplicate() };
        let again = Clash { since: 9, seen: 9, why: "again".to_owned(), ..duplicate() };
        let kept = again.clone().in_place_of(&decided);
        assert_eq!((kept.since, kept.seen, &kept.decided), (5, 9, &Some(Choice::Apart)));
        assert_eq!(kept.why, "again");
        for other in [
            Clash { identity: "2".to_owned(), ..again.clone() },
            Clash { kind: Kind::Ambiguous, ..again.clone() },
            Clash { rivals: vec![rival(Some("x"), Some("p-3"))], ..again.clone() },
        ] {
            let other = other.in_place_of(&decided);
            assert_eq!((other.since, other.decided), (5, None));
        }
        let mut turned = again.clone();
        turned.rivals.push(rival(Some("z"), None));
        let mut round = turned.clone();
        round.rivals.reverse();
        assert!(turned.asks_the_same(&round), "the order of rivals is no question");
    }

    #[test]
    fn what_was_decided_anew_stands_and_the_question_is_open_until_then() {
        assert!(duplicate().is_open());
        let before = Clash { decided: Some(Choice::Apart), ..duplicate() };
        assert!(!before.is_open());
        let link = Some(Choice::Link("x".to_owned()));
        let anew = Clash { decided: link.clone(), ..duplicate() }.in_place_of(&before);
        assert_eq!(anew.decided, link);
        // Another record is not to be had any more: the CRM has refused it.
        let before = Clash { decided: Some(Choice::New), may_be_new: true, ..duplicate() };
        assert_eq!(Clash { may_be_new: true, ..duplicate() }.in_place_of(&before).decided, before.decided);
        assert!(Clash { may_be_new: false, ..duplicate() }.in_place_of(&before).is_open());
    }

    #[test]
    fn kinds_are_told_by_the_words_that_they_are_kept_by() {
        for kind in [Kind::Duplicate, Kind::Ambiguous, Kind::Taken, Kind::Merged] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn a_rival_is_told_by_the_sides_on_which_it_is() {
        for (rival, told) in [
            (rival(Some("x"), Some("p-1")), "x of System A, linked to p-1 of the CRM"),
            (rival(Some("x"), None), "x of System A"),
            (rival(None, Some("p-1")), "p-1 of the CRM"),
            (rival(None, None), "nothing"),
        ] {
            assert_eq!(rival.to_string(), told);
        }
    }

    #[test]
    fn it_is_found_by_every_record_that_it_names() {
        let clash = duplicate();
        assert!(["p-2", "x", "p-1"].iter().all(|id| clash.names(id)));
        assert!(!clash.names("p-3"));
        assert_eq!(clash.entity().map(|entity| entity.id), Some("x".into()));
        assert_eq!(clash.external(), Some(&"p-2".into()));
    }
}
