//! Operations on one record, and on the organisation: what is asked first, and what the answers mean.

use serde_json::{Map, Value, json};
use tandem_provider::classify::unreadable;
use tandem_provider::json::Node;
use tandem_provider::{
    Answer, Context, Find, Observed, Operation, Problem, Proof, Reference, Remove, Reply, Request, Response,
    Scope, State, Write,
};

use crate::contact::OBJECT;
use crate::listing::rows_of;
use crate::record::{gone, stamp_of};
use crate::refusal::says_gone;
use crate::{Note, Salesforce, ids, soql};

/// Records that may bear one address. A person is not known by an address that more people have.
const FOUND: u32 = 200;

impl Salesforce {
    pub(crate) fn read(&self, id: &str) -> Reply {
        if ids::long(id).is_none() {
            // Salesforce has no record under what is no id.
            return Answer::current(gone(id, Proof::Unconfirmed)).into();
        }
        self.read_request(id).then_note(&Note::First)
    }

    /// Finds by key and identity in one query, which sees what was committed before it. Equality in SOQL has no regard to case.
    pub(crate) fn find(&self, find: &Find) -> Reply {
        let mut conditions: Vec<String> = Vec::new();
        if let (Some(field), Some(key)) = (&self.settings.key_field, &find.key) {
            conditions.push(format!("{field} = {}", soql::literal(key)));
        }
        for entry in find.identity.iter().filter(|entry| !entry.value.is_empty()) {
            for field in self.contacts.mapped().filter(|field| field.canonical == entry.name) {
                conditions.push(format!("{} = {}", field.name, soql::literal(&entry.value)));
            }
        }
        if conditions.is_empty() {
            return Answer::Found(Vec::new()).into();
        }
        self.query_request(&conditions.join(" OR "), "Id", FOUND).then_note(&Note::First)
    }

    /// Salesforce has no precondition for a removal: the record is looked at first.
    pub(crate) fn remove(&self, remove: &Remove) -> Reply {
        if ids::long(&remove.id).is_none() {
            return Answer::current(gone(&remove.id, Proof::Unconfirmed)).into();
        }
        match remove.stamp {
            Some(_) => self.check_request(&remove.id).then_note(&Note::Check),
            None => self.remove_request(&remove.id).then_note(&Note::First),
        }
    }

    /// A record that was not found: in the bin, merged, or nowhere.
    pub(crate) fn bin_request(&self, id: &str) -> Request {
        self.query_all_request(&format!("Id = {}", soql::literal(id)), "Id", 1)
    }

    /// Goes on with an operation on one record or on the organisation.
    pub(crate) fn single(
        &self,
        operation: &Operation,
        note: Note,
        response: &Response,
        context: &Context,
    ) -> Reply {
        match (operation, note) {
            (Operation::Probe, note) => self.probed(operation, &note, response, context),
            (Operation::Discover(_), _) => self.discovered(operation, response, context).into(),
            (Operation::Other(..), _) => self.may_write(operation, response, context).into(),
            (Operation::Find(find), _) => self.found(operation, find, response, context).into(),
            (Operation::Write(write), Note::After { id }) => {
                self.after(operation, write, id.as_deref(), response)
            }
            (
                Operation::Read(Reference { id, .. })
                | Operation::Write(Write { id: Some(id), .. })
                | Operation::Remove(Remove { id, .. }),
                Note::Bin,
            ) => self.in_bin(operation, id, response, context).into(),
            (Operation::Write(write @ Write { id: None, .. }), _) => {
                self.created(operation, write, response, context)
            }
            (Operation::Write(write @ Write { id: Some(id), .. }), _) => {
                self.updated(operation, write, id, response, context)
            }
            (Operation::Read(read), _) => self.was_read(operation, &read.id, response, context),
            (Operation::Remove(remove), Note::Check) => self.checked(operation, remove, response, context),
            (Operation::Remove(remove), _) => match response.status {
                200..=299 => Answer::written(gone(&remove.id, Proof::Confirmed)).into(),
                _ if says_gone(response) => self.bin_request(&remove.id).then_note(&Note::Bin),
                _ => self.refuse(operation, response, context).into(),
            },
            _ => unreadable(operation, "a note of another operation").into(),
        }
    }

    fn was_read(&self, operation: &Operation, id: &str, response: &Response, context: &Context) -> Reply {
        if !response.is_success() {
            return if says_gone(response) {
                self.bin_request(id).then_note(&Note::Bin)
            } else {
                self.refuse(operation, response, context).into()
            };
        }
        if from_in_between(&response.body) {
            return unreadable(operation, "the answer is a page of markup or nothing").into();
        }
        let observed = response.node().ok().and_then(|record| self.observe(&record));
        // What is no record is handed over as it came: the host says what is wrong with it and sets it aside.
        let observed =
            observed.unwrap_or_else(|| Observed::new(OBJECT, id, State::Whole(response.body.clone())));
        Answer::current(under(id, observed)).into()
    }

    fn in_bin(&self, operation: &Operation, id: &str, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let Some(rows) = rows_of(&body) else { return unreadable(operation, "the answer has no records") };
        match rows.first().and_then(|row| self.observe(row)) {
            // It is there: it came back between the two requests. That is an observation, not a write.
            Some(observed) => Answer::current(under(id, observed)),
            // Purged from the bin, or out of our sight.
            None => Answer::current(gone(id, Proof::Unconfirmed)),
        }
    }

    fn checked(
        &self,
        operation: &Operation,
        remove: &Remove,
        response: &Response,
        context: &Context,
    ) -> Reply {
        if says_gone(response) && !response.is_success() {
            return self.bin_request(&remove.id).then_note(&Note::Bin);
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        match response.node() {
            Ok(record) if stamp_of(&record).is_some() && stamp_of(&record) == remove.stamp => {
                self.remove_request(&remove.id).then_note(&Note::First)
            }
            Ok(record) if stamp_of(&record).is_some() => Answer::Refused.into(),
            // Nothing was removed yet.
            _ => Answer::Again {
                wait: tandem_provider::Wait::Unknown,
                took_effect: tandem_provider::Effect::No,
            }
            .into(),
        }
    }

    fn found(&self, operation: &Operation, find: &Find, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let Some(rows) = rows_of(&body) else { return unreadable(operation, "the answer has no records") };
        let mut found: Vec<Observed> = rows.iter().filter_map(|row| self.observe(row)).collect();
        // Whoever bears the key is the only one.
        if let Some(key) = &find.key
            && found.iter().any(|row| row.key.as_ref() == Some(key))
        {
            found.retain(|row| row.key.as_ref() == Some(key));
        }
        Answer::Found(found)
    }

    /// The page about the token's user says all; where the token may not see it, the API's own page names organisation and user.
    fn probed(&self, operation: &Operation, note: &Note, response: &Response, context: &Context) -> Reply {
        let body = if response.is_success() { response.node().ok() } else { None };
        let text = |name: &str| body.as_ref().and_then(|body| body.get(name)).and_then(Node::as_str);
        // `https://login.salesforce.com/id/00D…/005…`
        let identity = text("identity").or_else(|| text("sub")).or_else(|| text("id")).and_then(|address| {
            let mut parts = address.rsplit('/');
            Some((ids::long(parts.next()?)?, ids::long(parts.next()?)?))
        });
        let (by_address, of_address) = identity.unzip();
        let account = text("organization_id").and_then(ids::long).or(of_address);
        let user = text("user_id").and_then(ids::long).or(by_address);
        if let Some(account) = account {
            let facts = json!({ "account": { "id": account, "user": user, "time_zone": text("zoneinfo") } });
            return Answer::Facts(facts.to_string().into_bytes()).into();
        }
        // A query for the organisation answers with one row.
        let row = body.as_ref().and_then(|body| rows_of(body)?.first()?.get("Id")?.as_str());
        if let Some(account) = row.and_then(ids::long) {
            return Answer::Facts(json!({ "account": { "id": account } }).to_string().into_bytes()).into();
        }
        let refused = self.refuse(operation, response, context);
        // The page about the user refuses an ended session with 403 and a word, at which nobody would renew it: the API's own page
        // is asked, which answers 401.
        let ended_at_page = matches!(note, Note::First) && response.status == 403;
        let final_word = match refused {
            Answer::Throttled { .. } | Answer::Again { .. } => true,
            Answer::Unauthorised(_) => !ended_at_page,
            _ => false,
        };
        match note {
            _ if !response.is_success() && final_word => refused.into(),
            Note::First => self.resources_request().then_note(&Note::Resources),
            Note::Resources => self.organisation_request().then_note(&Note::Organisation),
            _ if response.is_success() => unreadable(operation, "no answer names the organisation").into(),
            _ => refused.into(),
        }
    }

    fn discovered(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let Some(rows) = body.get("fields").and_then(Node::as_list) else {
            return unreadable(operation, "the answer has no fields");
        };
        let mut fields = Map::new();
        for row in rows {
            let Some(name) = row.get("name").and_then(Node::as_str) else { continue };
            fields.insert(name.to_owned(), field_facts(row));
        }
        Answer::Facts(json!({ "objects": { OBJECT: { "fields": fields } } }).to_string().into_bytes())
    }

    /// The description of the object says what its user may do with it.
    fn may_write(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return match self.refuse(operation, response, context) {
                // An object that is not there is one that its user does not see.
                Answer::Rejected(mut problems) if !problems.is_empty() => {
                    Answer::Blocked { scope: Scope::Object, problem: problems.swap_remove(0) }
                }
                other => other,
            };
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        let missing: Vec<&str> = [("createable", "create"), ("updateable", "edit"), ("deletable", "delete")]
            .into_iter()
            .filter(|(flag, _)| !is_true(&body, flag))
            .map(|(_, word)| word)
            .collect();
        if missing.is_empty() {
            return Answer::Facts(b"{}".to_vec());
        }
        Answer::Blocked {
            scope: Scope::Object,
            problem: Problem::new(
                "missing-permission",
                format!(
                    "the user that the token is of may not {} contacts: give it a permission set that allows it",
                    missing.join(", ")
                ),
            ),
        }
    }
}

fn is_true(node: &Node<'_>, name: &str) -> bool {
    node.get(name) == Some(&Node::Bool(true))
}

fn field_facts(row: &Node<'_>) -> Value {
    let options: Vec<&str> = row
        .get("picklistValues")
        .and_then(Node::as_list)
        .unwrap_or_default()
        .iter()
        .filter(|option| option.get("active") != Some(&Node::Bool(false)))
        .filter_map(|option| option.get("value")?.as_str())
        .collect();
    json!({
        "type": row.get("type").and_then(Node::as_str),
        "key": is_true(row, "externalId") && is_true(row, "unique"),
        "read_only": row.get("updateable") == Some(&Node::Bool(false)) || is_true(row, "calculated"),
        "restricted": is_true(row, "restrictedPicklist"),
        "options": options,
    })
}

/// An observation under the id that was asked for.
fn under(id: &str, observed: Observed) -> Observed {
    if observed.id == id || ids::same(&observed.id, id) {
        return Observed { id: id.to_owned(), ..observed };
    }
    let to = Reference { object: OBJECT.to_owned(), id: observed.id };
    Observed { stamp: observed.stamp, ..Observed::new(OBJECT, id, State::Moved(to)) }
}

/// Nothing, or a page of markup: something between us and Salesforce speaks, and another try may reach Salesforce.
fn from_in_between(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_none_or(|first| *first == b'<')
}
