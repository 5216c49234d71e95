//! Operations on one person: what is asked first, and what the answers mean.

use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{
    Answer, Context, Find, Observed, Operation, Proof, Reference, Reply, Response, State, Write,
};

use crate::account::MAY_WRITE;
use crate::person::OBJECT;
use crate::record::{Extent, data, gone, id_of};
use crate::{Note, Pipedrive, requests};

/// Persons that a search for the key may show before the identity is asked for.
const MOST_READ: usize = 5;
/// Persons that a search for an identity may name.
const MOST_NAMED: usize = 100;

impl Pipedrive {
    /// Goes on with an operation on one person or on the account.
    pub(crate) fn single(
        &self,
        operation: &Operation,
        note: Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        match (operation, note) {
            (Operation::Probe, _) => self.probed(operation, response, context).into(),
            (Operation::Discover(_), Note::Fields { known }) => {
                self.discovered(operation, known, response, context)
            }
            (Operation::Other(name, _), _) if name == MAY_WRITE => match response.status {
                // No such person: it would have been written.
                200..=299 | 400 | 404 | 422 => Answer::Facts(b"{}".to_vec()).into(),
                _ => self.refuse(operation, response, context).into(),
            },
            (Operation::Find(find), note) => self.looked(operation, find, note, response, context),
            (Operation::Write(Write { id: Some(_), .. }), Note::Before) => {
                self.lay_on(operation, response, context)
            }
            (Operation::Write(Write { id: None, .. }), Note::First) => {
                self.created(operation, response, context).into()
            }
            (
                Operation::Read(Reference { id, .. })
                | Operation::Write(Write { id: Some(id), .. })
                | Operation::Remove(tandem_provider::Remove { id, .. }),
                note,
            ) => self.about(operation, id, &note, response, context),
            _ => unreadable(operation, "a note of another operation").into(),
        }
    }

    /// Read, update and remove of a person that is known by its id.
    fn about(
        &self,
        operation: &Operation,
        id: &str,
        note: &Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if matches!(note, Note::Missing) {
            return match response.status {
                // It is in the bin; or it came back this very moment.
                200 => self.about_person(operation, id, response, true).into(),
                404 => Answer::current(gone(id, Proof::Unconfirmed)).into(),
                410 => Answer::current(gone(id, Proof::Confirmed)).into(),
                // The write did not find it, whatever becomes of this look.
                _ => self.refuse(&read_of(id), response, context).into(),
            };
        }
        match response.status {
            404 | 410 => self.missed(operation, id, response),
            200..=299 if matches!(operation, Operation::Remove(_)) => {
                Answer::written(gone(id, Proof::Confirmed)).into()
            }
            200..=299 => self.about_person(operation, id, response, false).into(),
            _ => self.refuse(operation, response, context).into(),
        }
    }

    /// There is no such person, or none that can be written: a read tells whether it is in the bin.
    pub(crate) fn missed(&self, operation: &Operation, id: &str, response: &Response) -> Reply {
        match (operation, response.status) {
            (_, 410) => Answer::current(gone(id, Proof::Confirmed)).into(),
            (Operation::Read(_), _) => Answer::current(gone(id, Proof::Unconfirmed)).into(),
            _ => self.read_request(id).then_note(&Note::Missing),
        }
    }

    /// `read`: the answer is one to a reading request, whatever the operation is.
    fn about_person(&self, operation: &Operation, id: &str, response: &Response, read: bool) -> Answer {
        let read = read || !operation.writes();
        let extent = if read { Extent::Asked } else { Extent::Returned };
        let body = response.node();
        let person = body.as_ref().ok().and_then(data);
        let observed = person.and_then(|person| self.observe_as(id, person, extent));
        if matches!(operation, Operation::Read(_)) && !from_in_between(&response.body) {
            // What is no person is handed over as it came: the host says what is wrong with it and sets it aside.
            return Answer::current(observed.unwrap_or_else(|| {
                let came = person.map_or_else(|| response.body.clone(), Node::to_bytes);
                Observed::new(OBJECT, id, State::Whole(came))
            }));
        }
        match observed {
            None => unreadable(operation, "the answer is no person"),
            // A write that met a deleted person wrote nothing.
            Some(observed) if matches!(observed.state, State::Gone(_)) => Answer::current(observed),
            Some(observed) if !read => Answer::written(observed),
            Some(observed) => Answer::current(observed),
        }
    }

    /// Finds by key, else by address or telephone number. All of them are searches, which show a person some moments late.
    pub(crate) fn find(&self, find: &Find) -> Reply {
        match (&self.settings.key_field, &find.key) {
            (Some(_), Some(key)) if !key.is_empty() => {
                requests::search("custom_fields", key).then_note(&Note::KeySearch)
            }
            _ => Self::find_by_identity(find, 0, Vec::new()),
        }
    }

    /// Asks for the next identity field that persons can be searched by.
    fn find_by_identity(find: &Find, from: usize, found: Vec<String>) -> Reply {
        for (place, entry) in find.identity.iter().enumerate().skip(from) {
            if let Some(field) = searched(&entry.name)
                && !entry.value.is_empty()
            {
                return requests::search(field, &entry.value).then_note(&Note::Identity { place, found });
            }
        }
        // They are only named: the host reads them and sees whether it is them.
        let named = found.into_iter().map(|id| Observed::new(OBJECT, id, State::Touched));
        Answer::Found(named.collect()).into()
    }

    /// Reads what the search for the key showed, one after the other.
    fn read_next(&self, find: &Find, mut ids: Vec<String>) -> Reply {
        if ids.is_empty() {
            return Self::find_by_identity(find, 0, Vec::new());
        }
        let id = ids.remove(0);
        self.read_request(&id).then_note(&Note::KeyRead { id, rest: ids })
    }

    fn looked(
        &self,
        operation: &Operation,
        find: &Find,
        note: Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if let Note::KeyRead { rest, .. } = &note
            && matches!(response.status, 404 | 410)
        {
            return self.read_next(find, rest.clone());
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        match note {
            Note::KeyRead { id, rest } => {
                let seen = data(&body).and_then(|person| self.observe_as(&id, person, Extent::Asked));
                match seen.filter(|seen| find.key.is_some() && seen.key == find.key) {
                    // The key is ours alone: nobody else can bear it.
                    Some(seen) => Answer::Found(vec![seen]).into(),
                    None => self.read_next(find, rest),
                }
            }
            Note::KeySearch => match items(&body) {
                Some(items) => {
                    let ids = items.iter().filter_map(|item| id_of(item.get("id")?).map(str::to_owned));
                    self.read_next(find, ids.take(MOST_READ).collect())
                }
                None => unreadable(operation, "the answer has no items").into(),
            },
            Note::Identity { place, mut found } => {
                let Some(items) = items(&body) else {
                    return unreadable(operation, "the answer has no items").into();
                };
                let wanted = find.identity.get(place);
                for item in items {
                    let Some(id) = item.get("id").and_then(id_of) else { continue };
                    let fits = wanted.is_none_or(|wanted| {
                        searched(&wanted.name) != Some("email") || bears_address(item, &wanted.value)
                    });
                    if fits && found.len() < MOST_NAMED && !found.iter().any(|known| known == id) {
                        found.push(id.to_owned());
                    }
                }
                Self::find_by_identity(find, place + 1, found)
            }
            _ => unreadable(operation, "a note of another operation").into(),
        }
    }
}

/// Which fields a search for a canonical identity field goes through.
fn searched(pointer: &str) -> Option<&'static str> {
    match pointer {
        "/email" => Some("email"),
        "/phone" | "/mobile_phone" => Some("phone"),
        _ => None,
    }
}

/// What a search found.
fn items<'n, 'a>(body: &'n Node<'a>) -> Option<Vec<&'n Node<'a>>> {
    let Some(data) = data(body) else { return body.get("data").map(|_| Vec::new()) };
    let items = data.get("items")?.as_list()?;
    Some(items.iter().filter_map(|row| row.get("item")).collect())
}

/// Whether what was found has just this address, as far as the answer shows addresses.
fn bears_address(item: &Node<'_>, address: &str) -> bool {
    let Some(all) = item.get("emails").and_then(Node::as_list) else { return true };
    all.iter()
        .filter_map(|it| it.as_str().or_else(|| it.get("value")?.as_str()))
        .any(|it| it.trim().to_lowercase() == address.trim().to_lowercase())
}

fn read_of(id: &str) -> Operation {
    Operation::Read(Reference { object: OBJECT.to_owned(), id: id.to_owned() })
}

/// Nothing, or a page of markup: something between us and Pipedrive speaks, and another try may reach it.
fn from_in_between(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_none_or(|first| *first == b'<')
}
