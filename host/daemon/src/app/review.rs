//! What waits for a person: found, decided by group, by field and by the number, and let go on. A decision changes the link and adds a
//! hint in one commit; the pipeline carries it out like everything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tandem_core::exchange::Observed;
use tandem_core::id::{ConnectionId, EntityKey};
use tandem_core::link::{Held, Link, RECORD, Side};
use tandem_core::plan::{self, Pick};

use super::Engine;
use super::control::store;
use crate::admin::view::{Count, DecidedMany, ReviewView, seen};
use crate::admin::{Choice, ControlError, Decide, DecideMany, FieldChoice, ReviewFilter, Unfreeze};
use crate::pipeline::Clock as _;
use crate::store::{Class, Commit, Hint, HistoryEntry, Moved, Op, Store as _, Subject, Until};

/// Links that are looked through for reviews.
const MOST_HELD: usize = 10_000;

/// A change that a person asked for.
struct Change {
    /// The links that it changes, the one that was named first.
    links: Vec<Link>,
    /// How many groups or fields it concerns.
    count: u64,
    /// Which fields.
    fields: Vec<String>,
    /// What was chosen, in words, without values.
    why: String,
}

impl Engine {
    /// Changes links of an entity in nobody's hand but this one, writes down that a person did, and looks at them again. What comes
    /// out is written in one commit. `change` is given the link at the connection, and the entity's other links.
    async fn change_links<F>(
        &self,
        entity: &EntityKey,
        connection: &ConnectionId,
        what: &str,
        change: F,
    ) -> Result<Count, ControlError>
    where
        F: FnOnce(&Link, &[Link]) -> Result<Change, ControlError>,
    {
        self.known(connection)?;
        let hand = self
            .pipeline
            .hold_entity(entity)
            .await
            .ok_or_else(|| ControlError::Conflict(format!("{entity} is in work; ask again")))?;
        let (own, others): (Vec<Link>, Vec<Link>) = self
            .store
            .links(entity)
            .map_err(store)?
            .into_iter()
            .partition(|link| link.connection == *connection);
        let link = own
            .first()
            .ok_or_else(|| ControlError::NotFound(format!("{entity} has no link at {connection}")))?;
        let Change { links, count, fields, why } = change(link, &others)?;
        let now = self.clock.now();
        let mut commit = Commit::new();
        let mut hints = Vec::with_capacity(links.len());
        for link in links {
            let hint = Hint {
                seq: self.store.next_seq(),
                connection: link.connection.clone(),
                object: entity.object.clone(),
                subject: Subject::Internal(entity.id.clone()),
                class: Class::Interactive,
                noticed_at: now,
                due: 0,
                attempts: 0,
                cause: "review".into(),
                observed: link
                    .external
                    .as_ref()
                    .map(|id| Observed::touched(entity.object.as_str(), id.as_str())),
            };
            let label = self.runtime.view(&link.connection).map(|view| view.label.clone());
            let before = own.iter().chain(&others).find(|before| before.connection == link.connection);
            let mut entry = HistoryEntry {
                what: what.to_owned(),
                why: why.clone(),
                cause: "review".into(),
                delta: before.map(|before| Moved::between(&before.base, &link.base)).unwrap_or_default(),
                fields: fields.clone(),
                ..HistoryEntry::new(&link, now, label.unwrap_or_default())
            };
            entry.fit();
            commit.push(Op::PutLink(link)).push(Op::AddHistory(entry)).push(Op::AddHint(hint.clone()));
            hints.push(hint);
        }
        self.store.commit(commit, Until::Durable).await.map_err(store)?;
        drop(hand);
        self.pipeline.arrive(hints);
        Ok(Count { count })
    }

    /// What waits for a person.
    pub(super) fn found_reviews(
        &self,
        filter: &ReviewFilter,
        limit: usize,
    ) -> Result<Vec<ReviewView>, ControlError> {
        if let Some(connection) = &filter.connection {
            self.known(connection)?;
        }
        let links = self.store.held_links(filter.connection.as_ref(), MOST_HELD).map_err(store)?;
        let clashes = self.pipeline.clashes(filter.connection.as_ref(), MOST_HELD).map_err(store)?;
        let all =
            links.iter().flat_map(ReviewView::of).chain(clashes.iter().filter_map(ReviewView::of_clash));
        Ok(all.filter(|review| filter.admits(review)).take(limit).collect())
    }

    /// Decides held groups of a record.
    pub(super) async fn decide_one(&self, decision: &Decide) -> Result<Count, ControlError> {
        let now = self.clock.now();
        self.change_links(&decision.entity(), &decision.connection, "decided", |link, _| {
            decided(link, decision, now)
        })
        .await
    }

    /// Decides held groups of many records, for the values that they had when they were counted here.
    pub(super) async fn decide_all(&self, decision: &DecideMany) -> Result<DecidedMany, ControlError> {
        let mut found = self.found_reviews(&decision.filter, usize::MAX)?;
        found.retain(|review| review.kind == "held" && review.group != RECORD);
        let records: BTreeSet<_> = found.iter().map(|review| (&review.entity, &review.connection)).collect();
        let mut answer = DecidedMany {
            matching: found.len() as u64,
            records: records.len() as u64,
            ..DecidedMany::default()
        };
        let Some(expected) = decision.expected else { return Ok(answer) };
        if expected != answer.matching {
            return Err(ControlError::Conflict(format!(
                "{} groups match by now, not {expected}; look at them again",
                answer.matching
            )));
        }
        for review in found {
            let one = Decide {
                scope: review.entity.scope.clone(),
                object: review.entity.object.clone(),
                id: review.entity.id.clone(),
                connection: review.connection.clone(),
                group: Some(review.group.clone()),
                choice: Some(match decision.take {
                    Side::Internal => Choice::Internal,
                    Side::External => Choice::External,
                }),
                fields: BTreeMap::new(),
                seen: vec![review.seen],
                force: false,
            };
            match self.decide_one(&one).await {
                Ok(count) => answer.decided += count.count,
                Err(ControlError::Failed(why)) => return Err(ControlError::Failed(why)),
                Err(why) => answer.refused.push(format!("{} {}: {why}", review.entity, review.group)),
            }
        }
        Ok(answer)
    }

    /// Lets frozen fields flow again, on all links of the entity.
    pub(super) async fn let_flow(&self, target: &Unfreeze) -> Result<Count, ControlError> {
        let now = self.clock.now();
        self.change_links(&target.entity(), &target.connection, "unfrozen", |link, others| {
            thawed(link, others, target.field.as_deref(), now)
        })
        .await
    }
}

/// Frozen fields of a link, or one of them, let flow again. A loop goes over all links of the entity, and so does what was counted
/// of it.
fn thawed(link: &Link, others: &[Link], field: Option<&str>, now: u64) -> Result<Change, ControlError> {
    let wanted = |name: &&String| field.is_none_or(|wanted| wanted == name.as_str());
    let fields: Vec<String> = link.frozen.keys().filter(wanted).cloned().collect();
    if fields.is_empty() {
        return Err(ControlError::NotFound(format!("nothing is frozen in {}", link.entity)));
    }
    let thaw =
        |link: &Link| fields.iter().fold(link.clone(), |link, field| plan::unfreeze(&link, field, now));
    let changed = others.iter().map(|other| (thaw(other), other)).filter(|(new, old)| new != *old);
    let links = std::iter::once(thaw(link)).chain(changed.map(|(new, _)| new)).collect();
    let why = format!("it may flow again: {}", fields.join(", "));
    Ok(Change { links, count: fields.len() as u64, fields, why })
}

/// A decision as a change of the link.
fn decided(link: &Link, decision: &Decide, now: u64) -> Result<Change, ControlError> {
    let choices = choices(link, decision)?;
    if !decision.seen.is_empty() && !decision.force {
        let stale: Vec<String> = choices
            .keys()
            .filter_map(|group| changed_since(group, link.held.get(group)?, &decision.seen))
            .collect();
        if !stale.is_empty() {
            return Err(ControlError::Conflict(format!(
                "{}; nothing was decided. Look again with `tandem review show {} {}`",
                stale.join("; "),
                link.entity.object,
                link.entity.id
            )));
        }
    }
    let (mut next, mut fields, mut words) = (link.clone(), Vec::new(), Vec::new());
    for (group, choice) in &choices {
        let held = link.held.get(group);
        words.push(in_words(group, choice));
        fields.extend(held.into_iter().flat_map(|held| held.fields.iter().cloned()));
        next = plan::decide_review(&next, group, choice.clone(), now)
            .map_err(|error| ControlError::Invalid(error.to_string()))?;
    }
    Ok(Change { links: vec![next], count: choices.len() as u64, fields, why: words.join("; ") })
}

/// Which groups are decided, and how.
fn choices(link: &Link, decision: &Decide) -> Result<BTreeMap<String, plan::Choice>, ControlError> {
    let missing = |what: String| {
        ControlError::NotFound(format!(
            "{what} is not held in {} at {}; `tandem review list` lists what is",
            link.entity, link.connection
        ))
    };
    let mut chosen = BTreeMap::new();
    if let Some(group) = &decision.group
        && !link.held.contains_key(group)
    {
        return Err(missing(format!("group {group}")));
    }
    let in_question = |group: &String| decision.group.as_ref().is_none_or(|wanted| wanted == group);
    let mut picks: BTreeMap<String, BTreeMap<String, Pick>> = BTreeMap::new();
    for (field, choice) in &decision.fields {
        let of = |(group, held): &(&String, &Held)| {
            in_question(group) && group.as_str() != RECORD && held.fields.contains(field)
        };
        let (group, _) = link.held.iter().find(of).ok_or_else(|| missing(format!("field {field}")))?;
        let pick = match choice {
            FieldChoice::Internal => Pick::Internal,
            FieldChoice::External => Pick::External,
            FieldChoice::Value(Value::Null) => Pick::Value(None),
            FieldChoice::Value(value) => Pick::Value(Some(value.clone())),
        };
        picks.entry(group.clone()).or_default().insert(field.clone(), pick);
    }
    for (group, held) in link.held.iter().filter(|(group, _)| in_question(group)) {
        let by_field = picks.remove(group);
        let choice = match (by_field, &decision.choice) {
            (None, None) => continue,
            (None, Some(Choice::Internal)) => plan::Choice::Internal,
            (None, Some(Choice::External)) => plan::Choice::External,
            (Some(picks), None) => plan::Choice::Fields(picks),
            (Some(mut picks), Some(Choice::Internal)) => {
                fill(&mut picks, held, &Pick::Internal);
                plan::Choice::Fields(picks)
            }
            (Some(mut picks), Some(Choice::External)) => {
                fill(&mut picks, held, &Pick::External);
                plan::Choice::Fields(picks)
            }
            (None, Some(Choice::Values(values))) if decision.group.is_some() => {
                plan::Choice::Value(values.clone())
            }
            (_, Some(Choice::Values(_))) => {
                let why = "values belong to one group, and to no other choice beside them; name the group, or give values by field";
                return Err(ControlError::Invalid(why.to_owned()));
            }
        };
        chosen.insert(group.clone(), choice);
    }
    if chosen.is_empty() {
        return Err(if decision.choice.is_none() && decision.fields.is_empty() {
            ControlError::Invalid("nothing was chosen: give a choice, or choices by field".to_owned())
        } else {
            ControlError::NotFound(format!(
                "nothing is held in {} at {}; `tandem review list` lists what is",
                link.entity, link.connection
            ))
        });
    }
    Ok(chosen)
}

/// What is chosen for the fields that were not named.
fn fill(picks: &mut BTreeMap<String, Pick>, held: &Held, rest: &Pick) {
    for field in &held.fields {
        picks.entry(field.clone()).or_insert_with(|| rest.clone());
    }
}

/// Which side of a group has other values than those that were looked at. None: neither.
fn changed_since(group: &str, held: &Held, known: &[String]) -> Option<String> {
    let now = seen(held);
    if known.contains(&now) {
        return None;
    }
    let (internal, external) = now.split_at(now.len() / 2);
    let side = if known.iter().any(|known| known.starts_with(internal)) {
        "the CRM's values of"
    } else if known.iter().any(|known| known.ends_with(external)) {
        "System A's values of"
    } else {
        "the values of"
    };
    let name = if group == RECORD { "the record" } else { group };
    Some(format!("{side} {name} have changed since they were shown"))
}

/// What was chosen, without values.
fn in_words(group: &str, choice: &plan::Choice) -> String {
    let name = if group == RECORD { "the record" } else { group };
    let words = match choice {
        plan::Choice::Internal => "System A's values".to_owned(),
        plan::Choice::External => "the CRM's values".to_owned(),
        plan::Choice::Value(_) => "other values".to_owned(),
        plan::Choice::Fields(picks) => {
            let pick = |pick: &Pick| match pick {
                Pick::Internal => "System A's value",
                Pick::External => "the CRM's value",
                Pick::Value(Some(_)) => "another value",
                Pick::Value(None) => "no value",
            };
            let words = picks.iter().map(|(field, of)| {
                if field == group { pick(of).to_owned() } else { format!("{field} {}", pick(of)) }
            });
            words.collect::<Vec<_>>().join(", ")
        }
    };
    format!("{name}: {words}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_core::link::{Fields, Said};

    use super::*;

    fn held(fields: &[(&str, &str, &str)]) -> Held {
        let side = |pick: fn(&(&str, &str, &str)) -> String| -> Fields {
            fields.iter().map(|field| (field.0.to_owned(), json!(pick(field)))).collect()
        };
        Held {
            fields: fields.iter().map(|field| field.0.to_owned()).collect(),
            internal: side(|field| field.1.to_owned()),
            external: side(|field| field.2.to_owned()),
            since: 5,
            why: "both sides changed it".to_owned(),
            internal_said: Said::default(),
            external_said: Said::default(),
        }
    }

    /// Held: a phone, an address of two fields.
    fn link() -> Link {
        let entity = EntityKey { scope: "acme".into(), object: "contact".into(), id: "c1".into() };
        let mut link = Link::new(entity, "acme-hubspot".into());
        link.external = Some("501".into());
        link.held.insert("/phone".into(), held(&[("/phone", "1", "2")]));
        link.held.insert("address".into(), held(&[("/street", "A", "B"), ("/city", "C", "D")]));
        link
    }

    fn ask(more: &Value) -> Result<Change, ControlError> {
        ask_of(&link(), more)
    }

    fn ask_of(link: &Link, more: &Value) -> Result<Change, ControlError> {
        let mut body =
            json!({ "scope": "acme", "object": "contact", "id": "c1", "connection": "acme-hubspot" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        decided(link, &serde_json::from_value(body).unwrap(), 9)
    }

    /// What is decided, by group: the values that hold.
    fn outcome(more: &Value) -> BTreeMap<String, Value> {
        let change = ask(more).unwrap();
        let decided = change.links[0].decided.iter();
        decided.map(|(group, decided)| (group.clone(), json!(decided.values))).collect()
    }

    #[test]
    fn a_choice_is_about_a_group_or_about_all_that_is_held() {
        let phone = json!({ "/phone": "1" });
        assert_eq!(
            outcome(&json!({ "group": "/phone", "choice": "internal" })),
            [("/phone".into(), phone.clone())].into()
        );
        let both =
            [("/phone".to_owned(), phone), ("address".to_owned(), json!({ "/street": "A", "/city": "C" }))];
        assert_eq!(outcome(&json!({ "choice": "internal" })), both.into());
        let value = json!({ "group": "/phone", "choice": { "values": { "/phone": "3" } } });
        assert_eq!(outcome(&value), [("/phone".into(), json!({ "/phone": "3" }))].into());
    }

    #[test]
    fn choices_by_field_go_to_the_groups_that_the_fields_belong_to() {
        let fields =
            json!({ "fields": { "/phone": { "value": "9" }, "/street": "internal", "/city": "external" } });
        let wanted: BTreeMap<String, Value> = [
            ("/phone".into(), json!({ "/phone": "9" })),
            ("address".into(), json!({ "/street": "A", "/city": "D" })),
        ]
        .into();
        assert_eq!(outcome(&fields), wanted);
        let change = ask(&fields).unwrap();
        assert_eq!(change.count, 2);
        assert_eq!(change.fields, ["/phone", "/city", "/street"]);
        assert_eq!(
            change.why,
            "/phone: another value; address: /city the CRM's value, /street System A's value"
        );
        // A group that no field is named of stays held.
        let some = ask(&json!({ "fields": { "/phone": "external" } })).unwrap();
        assert_eq!(some.links[0].held.keys().collect::<Vec<_>>(), ["address"]);
        // Null clears.
        assert_eq!(
            outcome(&json!({ "fields": { "/phone": { "value": null } } })),
            [("/phone".into(), json!({}))].into()
        );
    }

    #[test]
    fn a_choice_beside_fields_is_for_the_fields_that_are_not_named() {
        let wanted: BTreeMap<String, Value> = [
            ("/phone".into(), json!({ "/phone": "1" })),
            ("address".into(), json!({ "/street": "A", "/city": "D" })),
        ]
        .into();
        assert_eq!(outcome(&json!({ "choice": "internal", "fields": { "/city": "external" } })), wanted);
        let one = json!({ "group": "address", "choice": "internal", "fields": { "/city": "external" } });
        assert_eq!(outcome(&one).keys().collect::<Vec<_>>(), ["address"]);
    }

    #[test]
    fn what_does_not_fit_what_is_held_is_refused_and_says_why() {
        for (more, says) in [
            (json!({}), "nothing was chosen"),
            (
                json!({ "group": "/email", "choice": "internal" }),
                "group /email is not held in acme/contact/c1",
            ),
            (json!({ "fields": { "/email": "internal" } }), "field /email is not held"),
            (json!({ "group": "/phone", "fields": { "/city": "internal" } }), "field /city is not held"),
            (
                json!({ "fields": { "/city": "internal" } }),
                "field /street of group \"address\" is not decided",
            ),
            (json!({ "choice": { "values": { "/phone": "3" } } }), "name the group"),
            (json!({ "group": "/phone", "choice": { "values": { "/city": "3" } } }), "/city does not belong"),
        ] {
            let Err(error) = ask(&more) else { panic!("{more} was taken") };
            assert!(error.to_string().contains(says), "{more}: {error}");
        }
        let mut empty = link();
        empty.held.clear();
        assert!(matches!(ask_of(&empty, &json!({ "choice": "internal" })), Err(ControlError::NotFound(_))));
    }

    #[test]
    fn a_decision_about_values_that_have_changed_since_says_which_side_did_and_is_not_taken() {
        let shown: Vec<String> = ReviewView::of(&link()).into_iter().map(|review| review.seen).collect();
        assert_eq!(shown.len(), 2);
        let taken = json!({ "choice": "internal", "seen": shown });
        assert_eq!(ask(&taken).unwrap().count, 2);
        for (internal, external, says) in [
            ("7", "2", "System A's values of /phone have changed"),
            ("1", "7", "the CRM's values of /phone have changed"),
            ("7", "7", "the values of /phone have changed"),
        ] {
            let mut moved = link();
            moved.held.insert("/phone".into(), held(&[("/phone", internal, external)]));
            let Err(ControlError::Conflict(why)) = ask_of(&moved, &taken) else { panic!("{says}") };
            assert!(why.contains(says) && why.contains("nothing was decided"), "{why}");
            assert!(!why.contains("address"), "{why}");
            // The other group is as it was looked at; and whoever insists is obeyed.
            let other = json!({ "group": "address", "choice": "internal", "seen": shown });
            assert_eq!(ask_of(&moved, &other).unwrap().count, 1);
            let forced = json!({ "choice": "internal", "seen": shown, "force": true });
            assert_eq!(ask_of(&moved, &forced).unwrap().count, 2);
        }
    }

    #[test]
    fn a_field_flows_again_on_all_links_of_its_entity() {
        let frozen = |connection: &str, fields: &[&str]| {
            let mut link = Link::new(link().entity, connection.into());
            for field in fields {
                link.frozen.insert((*field).to_owned(), "it went back and forth too often".to_owned());
            }
            link
        };
        let own = frozen("acme-hubspot", &["/phone", "/name"]);
        let others = [frozen("acme-other", &["/phone", "/email"]), frozen("acme-third", &["/email"])];
        let left = |change: &Change| -> Vec<(String, Vec<String>)> {
            let links = change.links.iter();
            links.map(|link| (link.connection.to_string(), link.frozen.keys().cloned().collect())).collect()
        };
        let one = thawed(&own, &others, Some("/phone"), 9).unwrap();
        let wanted = [
            ("acme-hubspot".to_owned(), vec!["/name".to_owned()]),
            ("acme-other".to_owned(), vec!["/email".to_owned()]),
        ];
        assert_eq!(left(&one), wanted, "a link of which nothing is frozen by it is left alone");
        assert_eq!((one.count, &one.fields), (1, &vec!["/phone".to_owned()]));
        let all = thawed(&own, &others, None, 9).unwrap();
        assert_eq!(left(&all)[0], ("acme-hubspot".to_owned(), Vec::new()));
        assert_eq!(left(&all)[1].1, ["/email"], "it is not what was named");
        assert!(matches!(thawed(&own, &others, Some("/email"), 9), Err(ControlError::NotFound(_))));
    }
}
