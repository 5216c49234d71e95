//! Creates and updates.
//!
//! A changed address or telephone number is one entry of a list, and Pipedrive takes lists whole; a postal address, an amount or a
//! time loses the parts that are not sent. Such an update reads the person first (one token), lays the change onto what is there
//! now, and sends that: what somebody added a moment ago stays. The read is a look, too: a record that was edited since the host
//! saw it is not written, and the host plans again.

use std::borrow::Cow;

use tandem_provider::classify::unreadable;
use tandem_provider::json::{Members, Node};
use tandem_provider::{
    Answer, Context, Effect, Observed, Operation, Problem, Reply, Response, State, Wait, Write, log,
};

use crate::entries::{self, Pick};
use crate::person::OBJECT;
use crate::plain::{ADDRESS, CUSTOM, EMAILS, PHONES, POSTAL, SAME, STREET};
use crate::record::{Extent, data, stamp_of};
use crate::settings::Names;
use crate::{Note, Pipedrive};

const NAMELESS: &str =
    "Pipedrive wants a name, and the contact has neither name nor address nor telephone number";

/// The two parts of a name.
const PARTS: [&str; 2] = ["first_name", "last_name"];

/// A member of a request's body, and what of the flat form it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    Name,
    Plain(&'static str),
    List(&'static str),
    Postal,
    Custom(String),
}

impl Pipedrive {
    pub(crate) fn write(&self, write: &Write) -> Reply {
        let document = match write.node() {
            Ok(document) => document,
            Err(problem) => return Answer::Rejected(vec![problem]).into(),
        };
        let Some(id) = &write.id else {
            return match self.create_body(write, &document) {
                Ok(body) => Self::create_request(&body).then_note(&Note::First),
                Err(problem) => Answer::Rejected(vec![problem]).into(),
            };
        };
        let members = self.touched(write);
        if members.is_empty() {
            // Nothing that Pipedrive keeps has changed: there is nothing to say to it.
            return Answer::written(Observed::new(OBJECT, id, State::Partial(b"{}".to_vec()))).into();
        }
        if members.iter().any(|member| self.needs_current(member)) {
            return self.read_request(id).then_note(&Note::Before);
        }
        self.send(id, &members, &document)
    }

    fn send(&self, id: &str, members: &[Member], document: &Node<'_>) -> Reply {
        match self.body(members, document, false) {
            Ok(body) => Self::update_request(id, &Node::Object(body)).then_note(&Note::First),
            Err(problem) => Answer::Rejected(vec![problem]).into(),
        }
    }

    /// Goes on with an update once the person was read.
    pub(crate) fn lay_on(&self, operation: &Operation, response: &Response, context: &Context) -> Reply {
        let Operation::Write(write @ Write { id: Some(id), .. }) = operation else {
            return unreadable(operation, "a note of another operation").into();
        };
        if matches!(response.status, 404 | 410) {
            return self.missed(operation, id, response);
        }
        if !response.is_success() {
            return self.refuse(operation, response, context).into();
        }
        let body = match response.node() {
            Ok(body) => body,
            // Nothing was written yet.
            Err(_) => return nothing_happened().into(),
        };
        let Some(person) = data(&body) else { return nothing_happened().into() };
        let Some(seen) = self.observe_as(id, person, Extent::Asked) else {
            return nothing_happened().into();
        };
        if !matches!(seen.state, State::Whole(_)) {
            return Answer::current(seen).into();
        }
        if let (Some(then), Some(now)) = (write.stamp, stamp_of(person))
            && now > then
        {
            return Answer::Refused.into();
        }
        let document = match write.node() {
            Ok(document) => document,
            Err(problem) => return Answer::Rejected(vec![problem]).into(),
        };
        let members = self.touched(write);
        let merged = match self.laid_on(person, &document, write) {
            Ok(merged) => merged,
            Err(problems) => return Answer::Rejected(problems).into(),
        };
        let members: Vec<Member> =
            members.into_iter().filter(|member| Self::differs(member, person, &merged)).collect();
        if members.is_empty() {
            // Somebody has written the same.
            return Answer::written(seen).into();
        }
        self.send(id, &members, &merged)
    }

    /// The person as it is, with what is to be changed.
    fn laid_on<'a>(
        &self,
        person: &Node<'a>,
        document: &Node<'a>,
        write: &Write,
    ) -> Result<Node<'a>, Vec<Problem>> {
        let before = self.plain(person);
        let wanted = self.plain(document);
        let mut after = before.clone();
        for pointer in &write.changed {
            for field in self.persons.touched_by(pointer).filter(|field| field.writes) {
                let path: Vec<&str> = field.provider.split('/').skip(1).collect();
                after.set_at(&path, wanted.at(&path).cloned().unwrap_or(Node::Null));
            }
        }
        self.merge(person.clone(), &before, &after)
    }

    /// The members of a body that changed fields stand for.
    fn touched(&self, write: &Write) -> Vec<Member> {
        let mut members = Vec::new();
        for pointer in &write.changed {
            for field in self.persons.touched_by(pointer).filter(|field| field.writes) {
                let member = member_of(field.provider);
                if !members.contains(&member) {
                    members.push(member);
                }
            }
        }
        members
    }

    fn needs_current(&self, member: &Member) -> bool {
        match member {
            Member::List(_) | Member::Postal => true,
            Member::Custom(key) => self.kinds.get(key).is_some_and(crate::kinds::Kind::needs_current),
            // Both parts are written together: what is not mapped has to be known.
            Member::Name => !PARTS.iter().all(|part| {
                self.persons
                    .mapped()
                    .any(|field| field.writes && field.provider.strip_prefix('/') == Some(*part))
            }),
            Member::Plain(_) => false,
        }
    }

    fn differs(member: &Member, before: &Node<'_>, after: &Node<'_>) -> bool {
        match member {
            Member::Name => PARTS.iter().any(|part| before.get(part) != after.get(part)),
            Member::Plain(name) | Member::List(name) => before.get(name) != after.get(name),
            Member::Postal => before.get(POSTAL) != after.get(POSTAL),
            Member::Custom(key) => before.at(&[CUSTOM, key.as_str()]) != after.at(&[CUSTOM, key.as_str()]),
        }
    }

    fn create_body<'a>(&self, write: &Write, document: &Node<'a>) -> Result<Node<'a>, Problem> {
        let mut members = vec![Member::Name];
        for field in self.persons.mapped().filter(|field| field.writes) {
            let member = member_of(field.provider);
            if !members.contains(&member) {
                members.push(member);
            }
        }
        let mut body = self.body(&members, document, true)?;
        if let Some(key) = &self.settings.key_field {
            let mut fields = match body.remove(CUSTOM) {
                Some(Node::Object(fields)) => fields,
                _ => Members::default(),
            };
            fields.set(key.clone(), Node::text(write.key.clone()));
            body.set(CUSTOM, Node::Object(fields));
        }
        Ok(Node::Object(body))
    }

    /// The body of these members. `fresh`: what has no value is left out instead of cleared.
    fn body<'a>(&self, members: &[Member], document: &Node<'a>, fresh: bool) -> Result<Members<'a>, Problem> {
        let mut body = Members::with_capacity(members.len() + 1);
        let mut fields = Members::default();
        let put = |name: String, value: Option<Node<'a>>, into: &mut Members<'a>| match value {
            Some(value) if value != Node::Null => into.set(name, value),
            _ if !fresh => into.set(name, Node::Null),
            _ => {}
        };
        for member in members {
            match member {
                Member::Name => self.name(document, &mut body)?,
                Member::Plain(name) => put((*name).to_owned(), document.get(name).cloned(), &mut body),
                Member::List(name) => {
                    let list = document.get(name).cloned().filter(|list| list.as_list().is_some());
                    let empty = list.as_ref().is_none_or(|list| list.as_list().is_some_and(<[_]>::is_empty));
                    if !(fresh && empty) {
                        body.set(*name, list.unwrap_or_else(|| Node::List(Vec::new())));
                    }
                }
                Member::Postal => put(POSTAL.to_owned(), document.get(POSTAL).cloned(), &mut body),
                Member::Custom(key) => {
                    let value = document.get(CUSTOM).and_then(|fields| fields.get(key)).cloned();
                    put(key.clone(), value, &mut fields);
                }
            }
        }
        if !fields.is_empty() {
            body.set(CUSTOM, Node::Object(fields));
        }
        Ok(body)
    }

    /// A person has to have a name. Who has none is called by the address or telephone number.
    fn name<'a>(&self, document: &Node<'a>, body: &mut Members<'a>) -> Result<(), Problem> {
        let part = |name: &str| match document.get(name) {
            Some(Node::Text(text)) => text.clone(),
            _ => Cow::Borrowed(""),
        };
        let (mut first, last) = (part("first_name"), part("last_name"));
        let one_of = |list: &str| {
            let entries = document.get(list).and_then(Node::as_list)?;
            entries::picked(entries, Pick::Primary).or_else(|| entries.first()?.get("value")?.as_str())
        };
        let stands_in = one_of(EMAILS.0).or_else(|| one_of(PHONES));
        match (first.trim(), last.trim()) {
            ("", "") => {
                let name =
                    stands_in.ok_or_else(|| Problem::new("name-required", NAMELESS).at("/given_name"))?;
                first = Cow::Owned(name.to_owned());
            }
            // It stood in for a name until there was one.
            (name, _) if !last.trim().is_empty() && stands_in == Some(name) => first = Cow::Borrowed(""),
            _ => {}
        }
        match self.settings.names {
            Names::Parts => {
                body.set("first_name", Node::Text(first));
                body.set("last_name", Node::Text(last));
            }
            Names::Whole => {
                let whole = format!("{} {}", first.trim(), last.trim());
                body.set("name", Node::text(whole.trim().to_owned()));
            }
        }
        Ok(())
    }

    /// What a create or an update was answered with.
    pub(crate) fn created(&self, operation: &Operation, response: &Response, context: &Context) -> Answer {
        if !response.is_success() {
            return self.refuse(operation, response, context);
        }
        let body = match response.node() {
            Ok(body) => body,
            Err(why) => return unreadable(operation, &why),
        };
        match data(&body).and_then(|person| self.observe(person, Extent::Returned)) {
            Some(observed) => Answer::written(observed),
            None => unreadable(operation, "the answer is no person"),
        }
    }
}

fn member_of(plain: &str) -> Member {
    let name = plain.strip_prefix('/').unwrap_or(plain);
    if let Some(key) = name.strip_prefix(CUSTOM).and_then(|rest| rest.strip_prefix('/')) {
        return Member::Custom(key.to_owned());
    }
    if PARTS.contains(&name) {
        return Member::Name;
    }
    if name == STREET || ADDRESS.contains(&name) {
        return Member::Postal;
    }
    match SAME.iter().find(|same| **same == name) {
        Some(same) => Member::Plain(same),
        None if name == EMAILS.1 => Member::List(EMAILS.0),
        None => Member::List(PHONES),
    }
}

/// The read before an update could not be understood.
fn nothing_happened() -> Answer {
    log::warn("update: the person could not be read before it");
    Answer::Again { wait: Wait::Unknown, took_effect: Effect::No }
}
