//! Where the fields of an object are in the CRM's record, and which of them have moved since a link was written.
//!
//! A base pair says what both sides had when the field was read from one place. When a customer maps the field to another property, the
//! value that stands there is no edit of the old one: compared with the old pair it would look as if somebody had changed or cleared
//! the field in the CRM. So a pair is forgotten once its field has moved, and the field is compared as it is when two records are
//! linked: a side without a value gets the other's, and two different values are a conflict.
//!
//! Moves are counted, and a link knows up to which of them it was written; nothing is done to links that nobody looks at. It refuses to
//! judge by values: a changed table of options moves nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::descriptor::FieldDescriptor;
use crate::link::Link;

/// The places of one object's fields at one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// How often a field has moved so far.
    moves: u32,
    /// By canonical pointer: the pointers into the provider document that it is made of. A field that is not mapped now is where it
    /// was last.
    places: BTreeMap<String, Vec<String>>,
    /// By canonical pointer: which move was its last.
    moved: BTreeMap<String, u32>,
}

impl Places {
    /// Places of which nothing has moved yet.
    #[must_use]
    pub fn of(fields: &BTreeMap<String, FieldDescriptor>) -> Self {
        let places = fields.iter().map(|(pointer, field)| (pointer.clone(), field.provider.clone()));
        Self { places: places.collect(), ..Self::default() }
    }

    /// These places after a change of what is mapped: the fields are where `now` has them. Whatever is new there has not moved.
    #[must_use]
    pub fn follow(&self, now: &Self) -> Self {
        let mut next = self.clone();
        let moves = self.moves.saturating_add(1);
        for (pointer, place) in &now.places {
            let before = next.places.insert(pointer.clone(), place.clone());
            if before.is_some_and(|before| before != *place) {
                next.moves = moves;
                next.moved.insert(pointer.clone(), moves);
            }
        }
        next
    }

    /// Lets a link forget what was read of fields that have moved since it was written. Answers the fields of its base that it forgot.
    pub fn take_up(&self, link: &mut Link) -> Vec<String> {
        let mut forgotten = Vec::new();
        if link.moves >= self.moves {
            return forgotten;
        }
        for (pointer, _) in self.moved.iter().filter(|(_, moved)| **moved > link.moves) {
            if link.base.contains_key(pointer) {
                link.base.remove(pointer);
                forgotten.push(pointer.clone());
            }
            link.refused.remove(pointer);
            link.rewritten.remove(pointer);
            link.overwrites.remove(pointer);
            link.overtaken.remove(pointer);
            if let Some(own) = &mut link.own {
                own.fields.remove(pointer);
            }
        }
        link.moves = self.moves;
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::EntityKey;
    use crate::link::{OwnWrite, Pair};

    fn places(of: &[(&str, &str)]) -> Places {
        let field =
            |place: &str| FieldDescriptor { provider: vec![place.to_owned()], ..FieldDescriptor::default() };
        Places::of(&of.iter().map(|(pointer, place)| ((*pointer).to_owned(), field(place))).collect())
    }

    fn link(moves: u32) -> Link {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "1".into() };
        let mut link = Link::new(entity, "crm".into());
        link.moves = moves;
        for pointer in ["/title", "/city"] {
            link.base.insert(pointer.to_owned(), Pair::default());
            link.refused.insert(pointer.to_owned(), json!("x"));
            link.rewritten.insert(pointer.to_owned(), json!("y"));
            link.overwrites.insert(pointer.to_owned(), Vec::new());
        }
        link.own = Some(OwnWrite {
            fields: ["/title".to_owned(), "/city".to_owned()].into(),
            ..OwnWrite::default()
        });
        link
    }

    fn known(link: &Link) -> Vec<Vec<&str>> {
        vec![
            link.base.keys().map(String::as_str).collect(),
            link.refused.keys().map(String::as_str).collect(),
            link.rewritten.keys().map(String::as_str).collect(),
            link.overwrites.keys().map(String::as_str).collect(),
            link.own.iter().flat_map(|own| &own.fields).map(String::as_str).collect(),
        ]
    }

    #[test]
    fn what_was_read_of_a_field_that_has_moved_is_forgotten_once() {
        let first = places(&[("/title", "/jobtitle"), ("/city", "/city")]);
        assert_eq!(first.moves, 0, "what is new has not moved");
        let second = first.follow(&places(&[("/title", "/industry"), ("/city", "/city")]));
        let mut old = link(0);
        assert_eq!((first.take_up(&mut old), &old), (Vec::new(), &link(0)));
        assert_eq!(second.take_up(&mut old), ["/title"]);
        assert_eq!((known(&old), old.moves), (vec![vec!["/city"]; 5], 1));
        let mut new = link(1);
        assert_eq!((second.take_up(&mut new), new), (Vec::new(), link(1)), "it was written after the move");
    }

    #[test]
    fn each_link_forgets_what_moved_since_it_was_written_and_no_more() {
        let first = places(&[("/title", "/a"), ("/city", "/b")]);
        let second = first.follow(&places(&[("/title", "/c"), ("/city", "/b")]));
        let third = second.follow(&places(&[("/title", "/c"), ("/city", "/d")]));
        let mut between = link(1);
        assert_eq!(third.take_up(&mut between), ["/city"]);
        assert_eq!((known(&between), between.moves), (vec![vec!["/title"]; 5], 2));
        let mut before = link(0);
        assert_eq!(third.take_up(&mut before), ["/city", "/title"]);
        assert!(known(&before).iter().all(Vec::is_empty));
    }

    #[test]
    fn a_field_that_was_ignored_meanwhile_has_moved_only_if_it_is_elsewhere_then() {
        let first = places(&[("/title", "/a")]);
        let ignored = first.follow(&places(&[]));
        assert_eq!(ignored, first);
        assert_eq!(ignored.follow(&places(&[("/title", "/a")])), first);
        assert_eq!(ignored.follow(&places(&[("/title", "/b")])).moves, 1);
    }
}
