//! What the merged hints of a record say of it, in canonical form.
//!
//! Several single-property events of one save are one partial observation, as long as they do not contradict each other.
//! Whatever is not certain comes out as "touched": it has to be read.

use std::sync::Arc;

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::exchange::{Observed, State};
use tandem_core::id::ExternalId;
use tandem_core::link::Link;
use tandem_core::plan::{self, Edit, External, Source};

use super::exchange::{Body, see};
use super::inbox::is_background;
use super::{Clock, Connection, Object, Pipeline, Work};
use crate::delivery::Deliver;
use crate::internal::Internal;
use crate::provider::{Fault, Runtime};
use crate::store::Store;

impl<S: Store, R: Runtime, D: Deliver, I: Internal, C: Clock> Pipeline<S, R, D, I, C> {
    pub(super) async fn observe(
        &self,
        connection: &Arc<Connection>,
        object: &Object,
        work: &Work,
        link: &Link,
    ) -> Result<External, Fault> {
        let said: Vec<(&Observed, u64)> = work
            .hints
            .iter()
            .filter_map(|hint| hint.observed.as_ref().map(|observed| (observed, hint.noticed_at)))
            .collect();
        let Some((first, first_noticed)) = said.first().copied() else { return Ok(External::Unseen) };
        if said.iter().any(|(observed, _)| matches!(observed.state, State::Touched)) {
            return Ok(External::Touched);
        }
        match &first.state {
            State::Gone(proof) => {
                // When it was told is not when it happened: a late word of a deletion may be about a record that is back.
                let all_newer = said.iter().all(|(observed, _)| {
                    matches!(observed.state, State::Gone(_)) && is_newer(observed.stamp, link)
                });
                return Ok(if all_newer {
                    External::Gone { proof: *proof, at: first_noticed }
                } else {
                    External::Touched
                });
            }
            State::Moved(to) => {
                return Ok(if said.iter().all(|(observed, _)| observed.state == first.state) {
                    External::Moved { to: ExternalId::from(to.id.as_str()) }
                } else {
                    External::Touched
                });
            }
            _ => {}
        }
        let began = said.iter().map(|(_, noticed_at)| *noticed_at).min().unwrap_or(0);
        let consistent = object.abilities.consistent_listing;
        let rows: Vec<Observed> = said.iter().map(|(observed, _)| (*observed).clone()).collect();
        let room = connection.clone();
        self.rooms
            .runtime
            .visit(&connection.binding, move |provider| {
                let mut merged: Option<External> = None;
                for row in rows {
                    let seen = see(provider, &room, row)?;
                    let next = match seen.body {
                        Body::Partial(fields) => External::Partial { fields, stamp: seen.stamp },
                        Body::Whole(fields) => External::Whole {
                            id: seen.id,
                            fields,
                            version: seen.version,
                            stamp: seen.stamp,
                            source: Source::Listing { began, consistent },
                            changed_at: std::collections::BTreeMap::new(),
                            by_other: seen.by_other,
                        },
                        // A row that cannot be taken in is read directly, so that what is set aside is the record itself.
                        _ => return Ok(External::Touched),
                    };
                    merged = Some(match merged {
                        None => next,
                        Some(known) => merge(known, next),
                    });
                }
                Ok(merged.unwrap_or(External::Unseen))
            })
            .await
    }

    /// Edits by others that the hints tell of, each with its time, as far as somebody asks for them: a write of ours has overtaken them or
    /// may have, or times decide conflicts. A burst that contradicts itself, or a hint that asks for a look, says these
    /// things all the same.
    pub(super) async fn edits(
        &self,
        connection: &Arc<Connection>,
        object: &Object,
        link: &Link,
        work: &Work,
    ) -> Result<Vec<Edit>, Fault> {
        // A write whose answer was lost has overtaken what it has, and the link does not know of it yet.
        let all = object.policy.event_times
            && (object.policy.weighs_times() || self.is_under_way(&link.entity, &connection.id));
        let mut told: Vec<(Observed, Millis)> = work
            .hints
            .iter()
            .filter_map(|hint| hint.observed.as_ref())
            .filter(|observed| observed.author.as_deref() != Some("own"))
            .filter_map(|observed| Some((observed, edited_at(observed)?)))
            .filter(|(_, at)| all || plan::may_be_overtaken(link, *at))
            .map(|(observed, at)| (observed.clone(), at))
            .collect();
        if told.is_empty() {
            return Ok(Vec::new());
        }
        sort(&mut told);
        let room = connection.clone();
        self.rooms
            .runtime
            .visit(&connection.binding, move |provider| {
                let mut edits = Vec::new();
                for (observed, at) in told {
                    if let Body::Partial(fields) = see(provider, &room, observed)?.body {
                        let edit = |(pointer, value): (String, Value)| Edit {
                            pointer,
                            value: (!value.is_null()).then_some(value),
                            at,
                        };
                        edits.extend(fields.into_iter().map(edit));
                    }
                }
                Ok(edits)
            })
            .await
    }
}

/// Sorts edits by their times. Of those with the same time the ones that a program made come first, which are the ones that count: a
/// program answers what a person saves, within a moment, and hardly the other way round.
fn sort(told: &mut [(Observed, Millis)]) {
    told.sort_by_key(|(observed, at)| (*at, !is_background(observed)));
}

/// When the edit was made that a partial observation tells of, on the CRM's clock.
pub(super) fn edited_at(observed: &Observed) -> Option<Millis> {
    matches!(observed.state, State::Partial(_)).then(|| occurred_at(observed)).flatten()
}

/// When that happened which an observation tells of, on the CRM's clock, where it says so.
pub(super) fn occurred_at(observed: &Observed) -> Option<Millis> {
    attribute(observed, "occurred-at")?.parse().ok()
}

/// So many characters of a CRM's name for somebody are kept.
const LONGEST_NAME: usize = 100;

/// Who made the edit that an observation tells of: "own", what the CRM calls them, or "other".
pub(super) fn author(observed: &Observed) -> Option<String> {
    let named = attribute(observed, "by").filter(|_| observed.author.as_deref() != Some("own"));
    named.map(|name| name.chars().take(LONGEST_NAME).collect()).or_else(|| observed.author.clone())
}

fn attribute<'a>(observed: &'a Observed, name: &str) -> Option<&'a str> {
    observed.attributes.iter().find(|attribute| attribute.name == name).map(|it| it.value.as_str())
}

/// Whether a stamp is newer than all that the link knows of the record.
fn is_newer(stamp: Option<u64>, link: &Link) -> bool {
    let own = link.own.as_ref().map_or(Some(0), |own| own.stamp);
    let (Some(stamp), Some(seen), Some(own)) = (stamp, link.external_stamp, own) else { return false };
    stamp > seen && stamp > own
}

/// Two observations as one; "touched" when they contradict each other.
fn merge(known: External, next: External) -> External {
    match (known, next) {
        (External::Partial { mut fields, stamp }, External::Partial { fields: more, stamp: later }) => {
            for (field, value) in more {
                match fields.get(&field) {
                    Some(other) if *other != value => return External::Touched,
                    _ => {
                        fields.insert(field, value);
                    }
                }
            }
            External::Partial { fields, stamp: stamp.max(later) }
        }
        (External::Partial { fields: some, .. }, whole @ External::Whole { .. })
        | (whole @ External::Whole { .. }, External::Partial { fields: some, .. }) => match &whole {
            External::Whole { fields, .. }
                if some.iter().all(|(field, value)| fields.get(field) == Some(value)) =>
            {
                whole
            }
            _ => External::Touched,
        },
        (left @ External::Whole { .. }, right @ External::Whole { .. }) if left == right => right,
        _ => External::Touched,
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::exchange::Attribute;

    use super::*;

    #[test]
    fn what_a_program_made_of_an_edit_at_the_same_moment_comes_before_it() {
        let edit = |id: &str, background: bool| {
            let attribute = Attribute { name: "background".into(), value: background.to_string() };
            Observed { attributes: vec![attribute], ..Observed::touched("contact", id) }
        };
        let mut told = vec![
            (edit("later", true), 2),
            (edit("typed", false), 1),
            (edit("typed, too", false), 1),
            (edit("answered", true), 1),
            (edit("earlier", false), 0),
        ];
        sort(&mut told);
        let order: Vec<&str> = told.iter().map(|(observed, _)| observed.id.as_str()).collect();
        assert_eq!(order, ["earlier", "answered", "typed", "typed, too", "later"]);
    }
}
