//! What was known of a record at a moment, worked out from its history and the base of today.
//!
//! A field that an entry after the moment moved had what that entry says was before it; one that no later entry moved has been as it is
//! today ever since. So the oldest entries may go: what is asked of is right as far back as the entries reach, and what is older is
//! said to be unknown.

use std::collections::{BTreeMap, BTreeSet};

use tandem_core::Millis;
use tandem_core::link::{Base, Pair};

use crate::store::{Before, HistoryEntry};

/// What was known of one link.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// The base, by field.
    pub base: BTreeMap<String, Pair>,
    /// Fields of which it cannot be said what the base had: their values had no room in the history, or it comes from an older version.
    pub unknown: BTreeSet<String>,
    /// How far back the history reaches. None: to before the moment.
    pub short_of: Option<Millis>,
    /// The link was not there yet.
    pub is_before_first: bool,
}

/// The base of a link at a moment. `history`: the entries of the link, newest first, all that are kept; `reach`: when the oldest
/// entry was made that is kept of its entity, which another link may have, as older ones are let go of whichever link they are of;
/// `now`: its base today.
#[must_use]
pub fn at(moment: Millis, history: &[&HistoryEntry], reach: Option<Millis>, now: &Base) -> Past {
    let mut past = Past { base: BTreeMap::clone(now), ..Past::default() };
    let later = history.iter().take_while(|entry| entry.at > moment);
    let mut undone = 0;
    for entry in later {
        undone += 1;
        for moved in &entry.delta {
            past.base.remove(&moved.field);
            past.unknown.remove(&moved.field);
            match &moved.before {
                _ if moved.cut => {
                    past.unknown.insert(moved.field.clone());
                }
                Before::Untold => {
                    past.unknown.insert(moved.field.clone());
                }
                Before::Nothing => {}
                Before::Pair(pair) => {
                    past.base.insert(moved.field.clone(), pair.clone());
                }
            }
        }
    }
    let earlier = history.get(undone..).unwrap_or_default();
    // What an entry did not say of before, one that is older may say of afterwards.
    for field in std::mem::take(&mut past.unknown) {
        let last = earlier.iter().find_map(|entry| entry.delta.iter().find(|moved| moved.field == field));
        match last {
            Some(moved) if !moved.cut => {
                if let Some(pair) = &moved.after {
                    past.base.insert(field, pair.clone());
                }
            }
            _ => {
                past.unknown.insert(field);
            }
        }
    }
    if earlier.is_empty() {
        // Without any history nothing was ever written down: all is as it was.
        let is_first = history.last().is_some_and(|oldest| oldest.is_first);
        past.is_before_first = is_first;
        past.short_of = reach.filter(|reach| !is_first && moment < *reach);
    }
    if past.is_before_first || past.short_of.is_some() {
        past.base.clear();
        past.unknown.clear();
    }
    past
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tandem_core::link::Link;

    use super::*;
    use crate::store::{DELTA_BYTES, Moved};

    fn pair(value: &str) -> Pair {
        Pair { internal: Some(json!(value)), external: Some(json!(value)), ..Pair::default() }
    }

    fn link() -> Link {
        let entity =
            tandem_core::id::EntityKey { scope: "s".into(), object: "contact".into(), id: "1".into() };
        Link::new(entity, "acme".into())
    }

    /// A link's life: at each moment some fields are set, or let go of. Its entries newest first, and its base after each.
    fn live(steps: &[Vec<(u8, Option<String>)>]) -> (Vec<HistoryEntry>, Vec<Base>) {
        let (mut entries, mut bases) = (Vec::new(), Vec::new());
        let mut base = Base::default();
        for (number, step) in steps.iter().enumerate() {
            let before = base.clone();
            for (field, value) in step {
                let field = format!("/f{field}");
                match value {
                    Some(value) => base.insert(field, pair(value)),
                    None => base.remove(&field),
                };
            }
            let mut entry = HistoryEntry {
                delta: Moved::between(&before, &base),
                is_first: number == 0,
                ..HistoryEntry::new(&link(), 10 * (number as u64 + 1), "p".to_owned())
            };
            entry.fit();
            entries.insert(0, entry);
            bases.push(base.clone());
        }
        (entries, bases)
    }

    fn asked(moment: Millis, entries: &[HistoryEntry], now: &Base) -> Past {
        at(moment, &entries.iter().collect::<Vec<_>>(), entries.last().map(|entry| entry.at), now)
    }

    proptest! {
        #[test]
        fn the_base_of_any_moment_is_right_however_many_of_the_oldest_entries_are_gone(
            steps in prop::collection::vec(prop::collection::vec((0..6_u8, prop::option::of("[a-z]{0,3}")), 0..5), 1..12),
            kept in 1..12_usize,
        ) {
            let (mut entries, bases) = live(&steps);
            entries.truncate(kept);
            let now = bases.last().unwrap();
            let gone = steps.len() - entries.len();
            for (number, base) in bases.iter().enumerate() {
                for moment in [10 * (number as u64 + 1), 10 * (number as u64 + 1) + 9] {
                    let past = asked(moment, &entries, now);
                    if number < gone {
                        prop_assert_eq!(past.short_of, Some(10 * (gone as u64 + 1)));
                        prop_assert!(past.base.is_empty() && past.unknown.is_empty());
                    } else {
                        prop_assert_eq!(&past.base, &**base);
                        prop_assert_eq!((past.short_of, past.is_before_first, past.unknown.len()), (None, false, 0));
                    }
                }
            }
            let before = asked(9, &entries, now);
            prop_assert_eq!(before.is_before_first, gone == 0);
        }
    }

    #[test]
    fn a_value_that_had_no_room_is_unknown_and_the_others_are_not() {
        let long = "x".repeat(usize::try_from(DELTA_BYTES).unwrap());
        let set = |field, value: &str| (field, Some(value.to_owned()));
        let (entries, bases) = live(&[
            vec![set(1, "a"), set(2, "b")],
            vec![set(1, &long), set(2, "c")],
            vec![set(1, "d"), set(2, "e")],
        ]);
        assert!(entries.iter().all(|entry| entry.weight() < DELTA_BYTES + 500), "each entry is bounded");
        let past = asked(25, &entries, &bases[2]);
        assert_eq!(past.unknown, ["/f1".to_owned()].into());
        assert_eq!(past.base, [("/f2".to_owned(), pair("c"))].into());
        // Before that it is known again, from what the first entry says of afterwards.
        let past = asked(15, &entries, &bases[2]);
        assert_eq!((past.base, past.unknown.len()), (BTreeMap::clone(&bases[0]), 0));
    }

    #[test]
    fn entries_of_older_versions_say_what_was_afterwards_only() {
        let (mut entries, bases) = live(&[
            vec![(1, Some("a".to_owned())), (2, Some("b".to_owned()))],
            vec![(1, Some("c".to_owned()))],
            vec![(2, Some("d".to_owned()))],
        ]);
        for entry in &mut entries {
            entry.is_first = false;
            for moved in &mut entry.delta {
                moved.before = Before::Untold;
            }
        }
        assert_eq!(asked(15, &entries, &bases[2]).base, *bases[0]);
        // With the oldest gone nobody knows what field 2 had before it was changed, but field 1 is known.
        entries.pop();
        let past = asked(25, &entries, &bases[2]);
        assert_eq!(past.base, [("/f1".to_owned(), pair("c"))].into());
        assert_eq!(past.unknown, ["/f2".to_owned()].into());
        assert_eq!(asked(15, &entries, &bases[2]).short_of, Some(20));
    }

    #[test]
    fn without_a_history_all_is_as_it_was() {
        let base: Base = BTreeMap::from([("/f1".to_owned(), pair("a"))]).into();
        assert_eq!(asked(5, &[], &base), Past { base: BTreeMap::clone(&base), ..Past::default() });
    }

    #[test]
    fn a_link_whose_entries_gave_way_to_those_of_another_is_known_as_far_back_as_these_reach() {
        let (entries, bases) = live(&[vec![(1, Some("a".to_owned()))], vec![(1, Some("b".to_owned()))]]);
        // Of this link one entry is kept, of 20; of the other link one of 15, which is why older ones of both may be gone.
        let own = [&entries[0]];
        let past = |moment| at(moment, &own, Some(15), &bases[1]);
        assert_eq!(past(20).base, *bases[1]);
        assert_eq!(past(15).base, *bases[0], "nothing of it is gone that is younger than what is kept");
        assert_eq!((past(14).short_of, past(14).base.len()), (Some(15), 0));
        // And of one of which nothing is kept any more.
        let past = |moment| at(moment, &[], Some(15), &bases[1]);
        assert_eq!((past(15).base, past(14).short_of), (BTreeMap::clone(&bases[1]), Some(15)));
    }
}
