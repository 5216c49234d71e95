//! Webhooks of version 2: one event for each change of a person, with the person as it was then, and what of it changed.
//!
//! `data` may leave members out, so that nothing counts as the whole record. A change is told by the members that `previous`
//! names; where none of them is mapped, by all that are there, which says what is known already or has the record read. The
//! guide's example of an event has no members of the contact sync: where mapped ones are not there, what changed may be one of
//! them, and the record is read. Custom fields are told; those that are not there have no value.
//!
//! The time of an event is the record's own modification time, which has whole seconds: of two edits within the second of what
//! was last seen nobody can say which came first. So `event_times` is not claimed.

use tandem_provider::json::{Members, Node};
use tandem_provider::{Attribute, Delivery, Observed, Problem, Proof, Reference, State};

use crate::Pipedrive;
use crate::kinds;
use crate::person::OBJECT;
use crate::plain::{CUSTOM, EMAILS, PHONES, POSTAL, place_of};
use crate::record::{gone, id_of, stamp_of};

impl Pipedrive {
    /// The observations of a delivery: none if it is about something else.
    pub(crate) fn event(&self, delivery: &Delivery) -> Result<Vec<Observed>, Problem> {
        let body = tandem_provider::json::parse(&delivery.body)
            .map_err(|error| Problem::new("invalid-json", format!("webhook: {error}")))?;
        let missing = |name: &str| {
            Problem::new("invalid-event", format!("webhook: the event has no {name}"))
                .at(format!("/meta/{name}"))
        };
        let meta = body.get("meta").ok_or_else(|| missing("action"))?;
        let text = |name: &str| meta.get(name).and_then(Node::as_id);
        // Version 1 calls it `object`, and says other words for what happened: the record is read.
        let entity = text("entity").or_else(|| text("object")).ok_or_else(|| missing("entity"))?;
        if entity != "person" {
            return Ok(Vec::new());
        }
        let action = text("action").ok_or_else(|| missing("action"))?;
        let person = body.get("data").or_else(|| body.get("current")).filter(|it| it.as_object().is_some());
        let previous = body.get("previous").filter(|it| it.as_object().is_some());
        let id = text("entity_id")
            .or_else(|| person.or(previous).and_then(|it| id_of(it.get("id")?)))
            .or_else(|| text("id").filter(|_| text("entity").is_none()))
            .ok_or_else(|| missing("entity_id"))?;
        let mut rows = match action {
            "create" => vec![self.told(id, person, None)],
            "change" => vec![self.told(id, person, previous)],
            "delete" | "deleted" => deleted(id, meta),
            _ => vec![Observed::new(OBJECT, id, State::Touched)],
        };
        for row in &mut rows {
            row.account = text("company_id").map(str::to_owned);
            row.author = self.author(meta).map(str::to_owned);
            row.attributes.push(Attribute::new("event", format!("{action}.{entity}")));
            let by_program =
                text("change_source") == Some("api") || meta.get("is_bulk_edit") == Some(&Node::Bool(true));
            if by_program && row.author.as_deref() == Some("other") {
                row.attributes.push(Attribute::new("background", "true"));
            }
            if let Some(user) = text("user_id") {
                let through = text("change_source").map_or_else(String::new, |source| format!(" ({source})"));
                row.attributes.push(Attribute::new("by", format!("user {user}{through}")));
            }
            if let Some(at) = person.and_then(stamp_of) {
                row.attributes.push(Attribute::new("occurred-at", at.to_string()));
            }
        }
        Ok(rows)
    }

    /// What an event says of a person.
    fn told(&self, id: &str, person: Option<&Node<'_>>, previous: Option<&Node<'_>>) -> Observed {
        let Some(person) = person else { return Observed::new(OBJECT, id, State::Touched) };
        if person.get("is_deleted") == Some(&Node::Bool(true)) {
            return Observed { stamp: stamp_of(person), ..gone(id, Proof::Confirmed) };
        }
        let all = in_read_form(person);
        let changed = previous.map(in_read_form);
        let told = match &changed {
            None => Some(self.mapped_of(&all, None)),
            Some(changed) => match self.named(changed) {
                // What changed is not mapped, or is not told of: all that is there says whether it is known.
                names if names.is_empty() => self.tells_all(&all).then(|| self.mapped_of(&all, None)),
                names => names
                    .iter()
                    .all(|path| at(&all, path).is_some())
                    .then(|| self.mapped_of(&all, Some(&names))),
            },
        };
        let state = match told {
            Some(document) => State::Partial(document.to_bytes()),
            // It changed, and the event does not say to what.
            None => State::Touched,
        };
        let mut observed = Observed::new(OBJECT, id, state);
        observed.stamp = stamp_of(person);
        observed
    }

    /// Whether every mapped member that is no custom field is there.
    fn tells_all(&self, document: &Node<'_>) -> bool {
        let mut own = self.paths().into_iter().filter(|path| path.first().is_none_or(|name| name != CUSTOM));
        own.all(|path| at(document, &path).is_some())
    }

    /// Members that are mapped, as paths.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut paths: Vec<Vec<String>> = Vec::new();
        for field in self.persons.mapped().filter(|field| field.reads) {
            let place = place_of(field.provider);
            let path = place.split('/').skip(1).map(str::to_owned).collect();
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// Which mapped members stand in a document. A name is told as a whole, too.
    fn named(&self, document: &Node<'_>) -> Vec<Vec<String>> {
        let renamed = document.get("name").is_some();
        self.paths()
            .into_iter()
            .filter(|path| {
                at(document, path).is_some()
                    || renamed
                        && matches!(path.as_slice(), [part] if part == "first_name" || part == "last_name")
            })
            .collect()
    }

    /// A document of the mapped members that are there, or of these only.
    fn mapped_of<'a>(&self, document: &Node<'a>, only: Option<&[Vec<String>]>) -> Node<'a> {
        let mut told = Node::object();
        for path in self.paths() {
            if only.is_none_or(|only| only.contains(&path))
                && let Some(value) = at(document, &path)
            {
                told.set_at(&path, value.clone());
            }
        }
        told
    }

    /// Who did it. Coarse: whatever else uses the API with our user looks like us.
    fn author(&self, meta: &Node<'_>) -> Option<&'static str> {
        let source = meta.get("change_source").and_then(Node::as_id)?;
        if source != "api" {
            return Some("other");
        }
        let own = self.facts.account.user_id.as_deref()?;
        let by = meta.get("user_id").and_then(Node::as_id)?;
        Some(if by == own { "own" } else { "other" })
    }
}

fn at<'n, 'a>(document: &'n Node<'a>, path: &[String]) -> Option<&'n Node<'a>> {
    document.at(path)
}

/// Deleted, or merged into another person.
fn deleted(id: &str, meta: &Node<'_>) -> Vec<Observed> {
    match meta.get("merged_to_id").and_then(id_of).filter(|to| *to != id && *to != "0") {
        Some(to) => {
            let into = State::Moved(Reference { object: OBJECT.to_owned(), id: to.to_owned() });
            vec![Observed::new(OBJECT, id, into), Observed::new(OBJECT, to, State::Touched)]
        }
        None => vec![gone(id, Proof::Confirmed)],
    }
}

/// An event's person in the form of the read answers: lists by their names there, custom fields without their types.
fn in_read_form<'a>(person: &Node<'a>) -> Node<'a> {
    let mut out = Members::default();
    let Some(members) = person.as_object() else { return Node::object() };
    for (name, value) in members.iter() {
        match name {
            "email" => out.set(EMAILS.0, value.clone()),
            "phone" => out.set(PHONES, value.clone()),
            _ if name == CUSTOM => {
                let mut fields = Members::default();
                for (key, value) in value.as_object().into_iter().flat_map(Members::iter) {
                    fields.push(key.to_owned(), kinds::read_form(value));
                }
                out.set(CUSTOM, Node::Object(fields));
            }
            _ if name == POSTAL => out.set(POSTAL, kinds::read_form(value)),
            _ => out.set(name.to_owned(), value.clone()),
        }
    }
    Node::Object(out)
}
