//! Operations on one record, and on the account: what is asked first, and what the answers mean.

use serde_json::{Value, json};
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{
    Answer, Context, Find, Observed, Operation, Proof, Reference, Reply, Response, State, Write,
};

use crate::contact::OBJECT;
use crate::record::{Extent, gone};
use crate::refusal::existing_id;
use crate::requests::value_of;
use crate::{ERASE, HubSpot, Note};

impl HubSpot {
    /// Finds by key, else by the address, else by search, whichever of them there is.
    ///
    /// Reading by a unique property shows a record at once; search shows it some moments later.
    pub(crate) fn find(&self, find: &Find) -> Reply {
        if let (Some(property), Some(key)) = (&self.settings.key_property, &find.key) {
            return self.read_by_request(property, key).then_note(&Note::ByKey);
        }
        self.find_by_identity(find)
    }

    fn find_by_identity(&self, find: &Find) -> Reply {
        match self.address(find) {
            Some(address) => self.read_by_request("email", address).then_note(&Note::ByEmail),
            None => self.find_by_search(find, Vec::new()),
        }
    }

    /// The address to look for, if the address is where HubSpot keeps it unique.
    fn address<'a>(&self, find: &'a Find) -> Option<&'a str> {
        let pointer = self.contacts.canonical_of("email")?;
        let entry = find.identity.iter().find(|entry| entry.name == pointer && !entry.value.is_empty())?;
        Some(&entry.value)
    }

    /// One group of filters for each identity field but the address: any of them may match.
    fn find_by_search(&self, find: &Find, found: Vec<String>) -> Reply {
        let mut groups: Vec<Value> = Vec::new();
        for entry in find.identity.iter().filter(|entry| !entry.value.is_empty()) {
            for field in
                self.contacts.mapped().filter(|field| field.canonical == entry.name && field.name != "email")
            {
                groups.push(json!([{ "propertyName": field.name, "operator": "EQ", "value": entry.value }]));
            }
        }
        // The published description allows six groups.
        groups.truncate(6);
        if groups.is_empty() {
            return Answer::Found(self.found(&found)).into();
        }
        self.search_request(&Value::Array(groups), None, 0, 100).then_note(&Note::BySearch { found })
    }

    fn found(&self, documents: &[String]) -> Vec<Observed> {
        documents
            .iter()
            .filter_map(|text| tandem_provider::json::parse(text.as_bytes()).ok())
            .filter_map(|record| self.observe(&record, Extent::Asked))
            .collect()
    }

    pub(crate) fn write(&self, write: &Write) -> Reply {
        let document = match write.node() {
            Ok(document) => document,
            Err(problem) => return Answer::Rejected(vec![problem]).into(),
        };
        match &write.id {
            None => self.create_request(write, &document).then_note(&Note::First),
            Some(id) => match self.update_request(id, write, &document) {
                Some(request) => request.then_note(&Note::First),
                // Nothing that HubSpot keeps has changed: there is nothing to say to it.
                None => Answer::written(Observed::new(
                    OBJECT,
                    id,
                    State::Partial(br#"{"properties":{}}"#.to_vec()),
                ))
                .into(),
            },
        }
    }

    /// Goes on with an operation on one record or on the account.
    pub(crate) fn single(
        &self,
        operation: &Operation,
        note: Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        match (operation, note) {
            (Operation::Probe, _) => self.probed(operation, response, context).into(),
            (Operation::Discover(_), _) => self.discovered(operation, response, context).into(),
            (Operation::Other(name, arguments), _) if name == ERASE => {
                let id = self.erased_id(arguments).unwrap_or_default();
                match response.status {
                    // What was never there, or is erased already, is not there either.
                    200..=299 | 404 => Answer::written(gone(&id, Proof::Confirmed)).into(),
                    _ => self.refuse(operation, response, context).into(),
                }
            }
            (Operation::Other(..), _) => match response.status {
                200..=299 | 400 | 404 => Answer::Facts(b"{}".to_vec()).into(),
                _ => self.refuse(operation, response, context).into(),
            },
            (Operation::Find(find), note) => self.looked(operation, find, note, response, context),
            (Operation::Write(Write { id: None, document, .. }), note) => {
                self.created(operation, document, &note, response, context)
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

    /// Read, update and remove of a record that is known by its id.
    fn about(
        &self,
        operation: &Operation,
        id: &str,
        note: &Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if matches!(note, Note::Archived) {
            return match response.status {
                // It is in the recycle bin; or it came back this very moment.
                200 => self.about_record(operation, id, response, true).into(),
                404 => Answer::current(gone(id, Proof::Unconfirmed)).into(),
                _ => self.refuse(operation, response, context).into(),
            };
        }
        match response.status {
            204 if matches!(operation, Operation::Remove(_)) => {
                Answer::written(gone(id, Proof::Confirmed)).into()
            }
            404 => self.read_request(id, true).then_note(&Note::Archived),
            409 if operation.writes() => self.taken(operation, response, context).into(),
            _ if response.is_success() => self.about_record(operation, id, response, false).into(),
            _ => self.refuse(operation, response, context).into(),
        }
    }

    /// A conflict of contacts is about the address: another one has it, and HubSpot says which.
    fn taken(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        let body = response.node().unwrap_or(Node::Null);
        let conflict = body.get("category").and_then(Node::as_str) == Some("CONFLICT");
        let message = body.get("message").and_then(Node::as_str).unwrap_or_default();
        match existing_id(message).filter(|_| conflict) {
            Some(id) => exists(&id),
            None => self.refuse(operation, response, context),
        }
    }

    /// `read`: the answer is one to a reading request, whatever the operation is.
    fn about_record(&self, operation: &Operation, id: &str, response: &Response, read: bool) -> Answer {
        let read = read || !operation.writes();
        let extent = if read { Extent::Asked } else { Extent::Returned };
        if matches!(operation, Operation::Read(_)) && !from_in_between(&response.body) {
            let record = response.node().ok();
            let observed = record.and_then(|record| self.observe_as(id, &record, extent));
            // What is no record is handed over as it came: the host says what is wrong with it and sets it aside.
            return Answer::current(
                observed.unwrap_or_else(|| Observed::new(OBJECT, id, State::Whole(response.body.clone()))),
            );
        }
        let record = match response.node() {
            Ok(record) => record,
            Err(why) => return unreadable(operation, &why),
        };
        match self.observe_as(id, &record, extent) {
            None => unreadable(operation, "the answer is no record"),
            // A write that met a deleted record wrote nothing.
            Some(observed) if matches!(observed.state, State::Gone(_)) => Answer::current(observed),
            Some(observed) if !read => Answer::written(observed),
            Some(observed) => Answer::current(observed),
        }
    }

    fn created(
        &self,
        operation: &Operation,
        document: &[u8],
        note: &Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        let body = match response.node() {
            Ok(body) => body,
            Err(why) if response.is_success() => return unreadable(operation, &why).into(),
            Err(_) => return self.refuse(operation, response, context).into(),
        };
        if matches!(note, Note::Holder) {
            // Whoever holds the address; if nobody does any more, the create may be tried again.
            return match (response.status, body.get("id").and_then(Node::as_id)) {
                (200, Some(id)) => exists(id).into(),
                (404, _) => Answer::Again {
                    wait: tandem_provider::Wait::Until(context.now + self.settings.settle_ms),
                    took_effect: tandem_provider::Effect::No,
                }
                .into(),
                _ => self.refuse(operation, response, context).into(),
            };
        }
        // A batch of one: the record or the refusal stands in a list.
        if response.is_success() {
            let first = |name: &str| body.get(name).and_then(|rows| rows.as_list()?.first());
            if let Some(observed) = self.observe(first("results").unwrap_or(&body), Extent::Returned) {
                return Answer::written(observed).into();
            }
            return match first("errors") {
                Some(error) => self.not_created(operation, document, error, response, context),
                None => unreadable(operation, "the answer is no record").into(),
            };
        }
        self.not_created(operation, document, &body, response, context)
    }

    fn not_created(
        &self,
        operation: &Operation,
        document: &[u8],
        error: &Node<'_>,
        response: &Response,
        context: &Context,
    ) -> Reply {
        let category = error.get("category").and_then(Node::as_str).unwrap_or_default();
        if category != "CONFLICT" && response.status != 409 {
            return if response.is_success() {
                Answer::Rejected(self.problems(error, response)).into()
            } else {
                self.refuse(operation, response, context).into()
            };
        }
        if let Some(id) = error.get("message").and_then(Node::as_str).and_then(existing_id) {
            return exists(&id).into();
        }
        let address = tandem_provider::json::parse(document)
            .ok()
            .and_then(|document| value_of(&document, "email").map(str::to_owned))
            .filter(|address| !address.is_empty());
        match address {
            Some(address) => self.read_by_request("email", &address).then_note(&Note::Holder),
            None => Answer::Rejected(self.problems(error, response)).into(),
        }
    }

    fn looked(
        &self,
        operation: &Operation,
        find: &Find,
        note: Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if response.status == 404 {
            return match note {
                Note::ByKey => self.find_by_identity(find),
                Note::ByEmail => self.find_by_search(find, Vec::new()),
                _ => self.refuse(operation, response, context).into(),
            };
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why).into(),
        };
        match note {
            Note::BySearch { found } => {
                let mut all = self.found(&found);
                for row in body.get("results").and_then(Node::as_list).unwrap_or_default() {
                    if let Some(observed) = self.observe(row, Extent::Asked)
                        && !all.iter().any(|known| known.id == observed.id)
                    {
                        all.push(observed);
                    }
                }
                Answer::Found(all).into()
            }
            // The key is ours alone: nobody else can bear it.
            Note::ByKey => Answer::Found(self.observe(&body, Extent::Asked).into_iter().collect()).into(),
            _ => {
                let text = String::from_utf8(body.to_bytes()).unwrap_or_default();
                self.find_by_search(find, vec![text])
            }
        }
    }

    fn probed(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let Some(portal) = body.get("portalId").and_then(Node::as_id) else {
            return unreadable(operation, "the answer has no portalId");
        };
        let text = |name: &str| body.get(name).and_then(Node::as_str);
        let offset =
            body.get("utcOffsetMilliseconds").and_then(Node::as_id).and_then(|it| it.parse::<i64>().ok());
        let facts = json!({ "account": {
            "id": portal,
            "time_zone": text("timeZone"),
            "utc_offset_ms": offset.or_else(|| offset_of(text("utcOffset")?)),
            "currency": text("companyCurrency"),
        }});
        Answer::Facts(facts.to_string().into_bytes())
    }

    fn discovered(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let Some(rows) = body.get("results").and_then(Node::as_list) else {
            return unreadable(operation, "the answer has no results");
        };
        let mut properties = serde_json::Map::new();
        for row in rows {
            let Some(name) = row.get("name").and_then(Node::as_str) else { continue };
            let flag = |node: Option<&Node<'_>>| node == Some(&Node::Bool(true));
            let options: Vec<&str> = row
                .get("options")
                .and_then(Node::as_list)
                .unwrap_or_default()
                .iter()
                .filter_map(|option| option.get("value")?.as_str())
                .collect();
            let read_only = flag(row.get("modificationMetadata").and_then(|it| it.get("readOnlyValue")))
                || flag(row.get("calculated"));
            let property = json!({
                "type": row.get("type").and_then(Node::as_str),
                "unique": flag(row.get("hasUniqueValue")),
                "read_only": read_only,
                "options": options,
            });
            properties.insert(name.to_owned(), property);
        }
        Answer::Facts(json!({ "objects": { OBJECT: { "properties": properties } } }).to_string().into_bytes())
    }
}

/// Nothing, or a page of markup: something between us and HubSpot speaks, and another try may reach HubSpot.
fn from_in_between(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_none_or(|first| *first == b'<')
}

fn exists(id: &str) -> Answer {
    Answer::Exists(Reference { object: OBJECT.to_owned(), id: id.to_owned() })
}

/// `-04:00` in milliseconds.
fn offset_of(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => (1, text),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    Some(sign * minutes * 60_000)
}
