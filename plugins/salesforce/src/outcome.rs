//! What became of a write. Salesforce says that it took it, and at most the id; the record is read afterwards, so that the next
//! write can be conditional on what this one left.
//!
//! What is read is taken for the answer of the write only if it surely is: our user was the last who modified the record, or all
//! that was sent stands there. If somebody was quicker than the reading, nothing is said but that the write was taken.

use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{
    Answer, Context, Observed, Operation, Proof, Reference, Reply, Request, Response, State, Step, Write,
    Written,
};

use crate::contact::OBJECT;
use crate::record::gone;
use crate::refusal::{errors, holder, says_gone};
use crate::settings::AfterWrite;
use crate::{Note, Salesforce, ids};

impl Salesforce {
    pub(crate) fn write(&self, write: &Write) -> Reply {
        let document = match write.node() {
            Ok(document) => document,
            Err(problem) => return Answer::Rejected(vec![problem]).into(),
        };
        let Some(id) = &write.id else {
            return self.create_request(write, &document).then_note(&Note::First);
        };
        if ids::long(id).is_none() {
            return Answer::current(gone(id, Proof::Unconfirmed)).into();
        }
        match self.update_request(id, write, &document) {
            Some(request) => request.then_note(&Note::First),
            // Nothing that Salesforce keeps has changed: there is nothing to say to it.
            None => Answer::written(Observed::new(OBJECT, id, State::Partial(b"{}".to_vec()))).into(),
        }
    }

    pub(crate) fn created(
        &self,
        operation: &Operation,
        write: &Write,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if response.is_success() {
            let id = response.node().ok().and_then(|body| {
                let taken = body.get("success") != Some(&Node::Bool(false));
                body.get("id").filter(|_| taken)?.as_str().and_then(ids::long)
            });
            return match (id, &self.settings.key_field) {
                (Some(id), _) => self.taken(self.read_request(&id), &id, write),
                // Old versions answer an upsert that met the record with nothing.
                (None, Some(field)) if response.body.trim_ascii().is_empty() => {
                    self.read_by_key_request(field, &write.key).then_note(&Note::After { id: None })
                }
                _ => unreadable(operation, "the answer to a create names no record").into(),
            };
        }
        if response.status == 300 {
            let problem = tandem_provider::Problem::new(
                "several-matches",
                format!(
                    "several contacts bear the key {}: make the key field unique, and leave the key on one of them ({})",
                    write.key,
                    references(response).join(", ")
                ),
            );
            return Answer::Rejected(vec![problem]).into();
        }
        self.refused_write(operation, response, context)
    }

    pub(crate) fn updated(
        &self,
        operation: &Operation,
        write: &Write,
        id: &str,
        response: &Response,
        context: &Context,
    ) -> Reply {
        match response.status {
            200..=299 => self.taken(self.read_request(id), id, write),
            412 => Answer::Refused.into(),
            _ if says_gone(response) => self.bin_request(id).then_note(&Note::Bin),
            _ => self.refused_write(operation, response, context),
        }
    }

    /// A refusal that names who has the value of a unique field: if that is what a contact is known by, it is the same person.
    fn refused_write(&self, operation: &Operation, response: &Response, context: &Context) -> Reply {
        let errors = errors(response);
        if let Some(error) = errors.first().filter(|error| error.code == "DUPLICATE_VALUE") {
            let (named, id) = holder(&error.message);
            let field = named.or_else(|| error.fields.first().map(String::as_str));
            let identity = field.and_then(|field| self.contacts.canonical_of(field)) == Some("/email");
            if let Some(id) = id.filter(|_| identity) {
                return Answer::Exists(Reference { object: OBJECT.to_owned(), id }).into();
            }
            // Another create with the same key is under way or has just ended: this one meets the record next time.
            if field.is_some() && field == self.settings.key_field.as_deref() {
                return Answer::Again {
                    wait: tandem_provider::Wait::Until(context.now.saturating_add(self.settings.settle_ms)),
                    took_effect: tandem_provider::Effect::No,
                }
                .into();
            }
            let mut problems = self.problems(&errors, response);
            if let (Some(problem), Some(pointer)) =
                (problems.first_mut(), field.and_then(|field| self.pointer_of(field)))
            {
                problem.pointer = Some(pointer.to_owned());
            }
            return Answer::Rejected(problems).into();
        }
        self.refuse(operation, response, context).into()
    }

    /// The write was taken: how the record is now, if that is wanted.
    fn taken(&self, read: Request, id: &str, write: &Write) -> Reply {
        let written = self.touched(id, write);
        if self.settings.after_write == AfterWrite::Assume {
            return Answer::Written(Box::new(written)).into();
        }
        let note = serde_json::to_vec(&Note::After { id: Some(id.to_owned()) }).unwrap_or_default();
        Answer::Send(Box::new(Step { request: read, note, so_far: Some(written) })).into()
    }

    /// It was taken, and nothing is known of what it became.
    fn touched(&self, id: &str, write: &Write) -> Written {
        let mut observed = Observed::new(OBJECT, id, State::Touched);
        if write.id.is_none() && self.settings.key_field.is_some() {
            observed.key = Some(write.key.clone());
        }
        Written { observed, unapplied: Vec::new() }
    }

    /// The record after a write of ours.
    pub(crate) fn after(
        &self,
        operation: &Operation,
        write: &Write,
        id: Option<&str>,
        response: &Response,
    ) -> Reply {
        let record = if response.status == 200 { response.node().ok() } else { None };
        let seen = record.as_ref().and_then(|record| {
            let observed = self.observe(record)?;
            let whole = matches!(observed.state, State::Whole(_));
            let named = id.is_none_or(|id| ids::same(id, &observed.id));
            let ours = self.author_of(record) == Some("own") || self.is_as_sent(write, record);
            (whole && named).then_some((observed, ours))
        });
        match (seen, id) {
            (Some((observed, true)), _) => Answer::written(observed).into(),
            (Some((observed, false)), _) => {
                Answer::Written(Box::new(self.touched(&observed.id, write))).into()
            }
            // That it cannot be read now does not undo the write.
            (None, Some(id)) => Answer::Written(Box::new(self.touched(id, write))).into(),
            (None, None) => unreadable(operation, "which record the key is of was not said").into(),
        }
    }

    /// Whether all that was sent stands in the record.
    fn is_as_sent(&self, write: &Write, record: &Node<'_>) -> bool {
        let Ok(document) = write.node() else { return false };
        let (Ok(sent), Ok(found)) = (self.contacts.get(&document), self.contacts.get(record)) else {
            return false;
        };
        let (sent, found) = (self.contacts.normal(&sent), self.contacts.normal(&found));
        let value = |node: &Node<'_>, pointer: &str| -> Option<Node<'static>> {
            let path: Vec<String> =
                pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
            node.at(&path).filter(|value| **value != Node::Null).map(|value| value.clone().into_owned())
        };
        let is_written = |pointer: &str| {
            write.id.is_none()
                || write
                    .changed
                    .iter()
                    .any(|changed| self.contacts.touched_by(changed).any(|field| field.canonical == pointer))
        };
        self.contacts.mapped().filter(|field| field.writes && field.reads && is_written(field.canonical)).all(
            |field| {
                let (sent, found) = (value(&sent, field.canonical), value(&found, field.canonical));
                // What was not sent with a create is Salesforce's to fill in; no value of a yes or no is a no.
                sent == found || sent.is_none() && (write.id.is_none() || found == Some(Node::Bool(false)))
            },
        )
    }
}

/// The ids of the records that an answer with several matches lists by their addresses.
pub(crate) fn references(response: &Response) -> Vec<String> {
    let Ok(Node::List(addresses)) = response.node() else { return Vec::new() };
    addresses
        .iter()
        .filter_map(Node::as_str)
        .filter_map(|address| ids::long(address.rsplit('/').next()?))
        .collect()
}
