//! Persons in Pipedrive's answers as observations.

use tandem_provider::json::Node;
use tandem_provider::{Observed, Proof, Reference, State, time};

use crate::Pipedrive;
use crate::person::OBJECT;
use crate::plain::CUSTOM;

/// Ids are numbers; what is longer than this is none, and names no other record.
const LONGEST_ID: usize = 20;

/// How much of a person an answer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// We asked for everything: what is missing has no value.
    Asked,
    /// The answer to a write, which may show only some.
    Returned,
}

impl Pipedrive {
    /// A person of an answer. None: it is none.
    pub(crate) fn observe(&self, person: &Node<'_>, extent: Extent) -> Option<Observed> {
        let id = id_of(person.get("id")?)?.to_owned();
        if person.get("is_deleted") == Some(&Node::Bool(true)) {
            return Some(Observed { stamp: stamp_of(person), ..gone(&id, Proof::Confirmed) });
        }
        let whole = extent == Extent::Asked || self.has_all(person);
        let document = person.to_bytes();
        let mut observed =
            Observed::new(OBJECT, id, if whole { State::Whole(document) } else { State::Partial(document) });
        observed.stamp = stamp_of(person);
        observed.key = self.key_of(person);
        Some(observed)
    }

    /// As [`observe`](Self::observe), for an answer about the person `id`. Another id in it is a merge.
    pub(crate) fn observe_as(&self, id: &str, person: &Node<'_>, extent: Extent) -> Option<Observed> {
        let observed = self.observe(person, extent)?;
        if observed.id == id {
            return Some(observed);
        }
        let to = Reference { object: OBJECT.to_owned(), id: observed.id };
        Some(Observed { stamp: observed.stamp, ..Observed::new(OBJECT, id, State::Moved(to)) })
    }

    /// Whether every member that a mapped field is made of is there.
    fn has_all(&self, person: &Node<'_>) -> bool {
        let plain = self.plain(person);
        self.persons.mapped().filter(|field| field.reads).all(|field| {
            let path: Vec<&str> = field.provider.split('/').skip(1).collect();
            plain.at(&path).is_some()
        })
    }

    fn key_of(&self, person: &Node<'_>) -> Option<String> {
        let field = self.settings.key_field.as_deref()?;
        let value = person.get(CUSTOM)?.get(field)?;
        let key = value.as_str().or_else(|| value.get("value")?.as_str())?;
        (!key.is_empty()).then(|| key.to_owned())
    }
}

/// An id, if it is one.
pub(crate) fn id_of<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    node.as_id().filter(|id| (1..=LONGEST_ID).contains(&id.len()))
}

/// A person that is not there any more.
pub(crate) fn gone(id: &str, proof: Proof) -> Observed {
    Observed::new(OBJECT, id, State::Gone(proof))
}

/// When the person was last modified, on Pipedrive's clock; whole seconds.
pub(crate) fn stamp_of(person: &Node<'_>) -> Option<u64> {
    person.get("update_time").and_then(Node::as_str).and_then(time::stamp)
}

/// What an answer is about: Pipedrive wraps everything.
pub(crate) fn data<'n, 'a>(body: &'n Node<'a>) -> Option<&'n Node<'a>> {
    body.get("data").filter(|data| **data != Node::Null)
}

/// Where the next page of a listing begins.
pub(crate) fn next_cursor(body: &Node<'_>) -> Option<String> {
    let cursor = body.get("additional_data")?.get("next_cursor")?.as_str()?;
    (!cursor.is_empty()).then(|| cursor.to_owned())
}
