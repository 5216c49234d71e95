//! Starter: contacts of a plain REST account. Change what differs at your CRM, from top to bottom:
//!
//! 1. `describe`: who you are, how requests are authenticated, how webhooks are signed, a golden example;
//! 2. `contacts`: which canonical field is which member of the CRM's document;
//! 3. `connection`: where requests go, how many are allowed, what the CRM can do;
//! 4. `start` and `resume`: which request an operation begins with, and what the answer means;
//! 5. `receive`: which records a webhook is about.
//!
//! `cargo test` checks the mapping; `tandem provider check` takes the component through the daemon's own admission.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem_provider::classify::{by_status, unreadable};
use tandem_provider::json::{Members, Node, parse};
use tandem_provider::mapping::Table;
use tandem_provider::*;

/// One connection: its base URL, what the account compares before it writes, and the mapping of its contacts.
pub struct Starter {
    base_url: String,
    compares: Condition,
    contacts: Mapping,
    /// The account refuses a second person with the same address. It says so of itself.
    unique: bool,
}

tandem_provider::provider!(Starter);

/// Which canonical field is which member. Declared once, it works in both directions.
fn contacts() -> Mapping {
    // Several words of the CRM may mean the same; the first is written.
    let stages = Table::new(&[("lead", "Prospect"), ("lead", "Interest"), ("customer", "Customer")]);
    Mapping::object("contact", "people")
        .field("/email", "/Mail")
        .normalise("email")
        .text()
        .field("/given_name", "/GivenName")
        .normalise("text")
        .text()
        .field("/family_name", "/FamilyName")
        .normalise("text")
        .text()
        .field("/phone", "/Phone")
        .normalise("phone")
        .text()
        .field("/company_name", "/Company")
        .normalise("text")
        .text()
        .field("/job_title", "/Title")
        .normalise("text")
        .text()
        .field("/city", "/City")
        .normalise("text")
        .text()
        .field("/notes", "/Notes")
        .normalise("text")
        .text()
        .field("/lifecycle_stage", "/Stage")
        .options(stages)
        .field("/employees", "/Staff")
        .integer()
        .field("/tags", "/Labels")
        .normalise("trim|set")
        .set()
}

impl Provider for Starter {
    fn describe() -> Descriptor {
        Descriptor {
            id: "starter".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            title: "A plain REST account".into(),
            auth: BTreeMap::from([("static".into(), AuthScheme::bearer())]),
            webhooks: Some(Webhooks {
                array: true,
                account: Some("/account".into()),
                ..Webhooks::verified_by(Verify::HmacSha256 {
                    secret: "webhook".into(),
                    message: "{timestamp}{body}".into(),
                    header: "x-rest-signature".into(),
                    encoding: "hex".into(),
                    timestamp: Some("x-rest-time".into()),
                    tolerance_ms: Some(300_000),
                })
            }),
            response_headers: vec!["retry-after".into()],
            settings: Some(json!({
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "base_url": { "type": "string", "pattern": "^https?://[^/]+$" },
                    "compares": { "enum": ["tag", "time"], "default": "tag" }
                }
            })),
            examples: vec![Example {
                name: "a person".into(),
                object: "contact".into(),
                canonical: json!({ "email": "ann@example.com", "lifecycle_stage": "customer", "tags": ["a", "b"] }),
                document: json!({ "Mail": "ann@example.com", "Stage": "Customer", "Labels": ["a", "b"] }),
                ..Example::default()
            }],
            ..Descriptor::default()
        }
    }

    fn configure(settings: &Value, facts: &Value) -> Result<Self, Vec<Problem>> {
        let base_url =
            settings.get("base_url").and_then(Value::as_str).unwrap_or("https://api.starter.example");
        let unique = facts.get("uniqueMail").and_then(Value::as_bool).unwrap_or_default();
        let compares = match settings.get("compares").and_then(Value::as_str) {
            Some("time") => Condition::Second,
            _ => Condition::Etag,
        };
        Ok(Self { base_url: base_url.to_owned(), compares, contacts: contacts(), unique })
    }

    fn connection(&self) -> ConnectionDescriptor {
        let contact = ObjectDescriptor {
            name: "people".into(),
            schema: self.contacts.schema(),
            write_schema: None,
            fields: self.contacts.fields(),
            abilities: Abilities {
                key: true,
                unique_identity: self.unique,
                condition: self.compares,
                changes: true,
                changes_show_deleted: true,
                find_settles_after_ms: 0,
                poll_every_ms: 5_000,
                ..Abilities::default()
            },
        };
        let host = self.base_url.split_once("://").map_or("", |(_, rest)| rest);
        let host = host.split(':').next().unwrap_or_default().to_owned();
        ConnectionDescriptor {
            base_url: self.base_url.clone(),
            hosts: vec![host],
            objects: BTreeMap::from([("contact".into(), contact)]),
            quotas: vec![QuotaDescriptor::window("calls", 1_000, 1_000)],
        }
    }

    fn mapping(&self, object: &str) -> Option<&Mapping> {
        (object == "contact").then_some(&self.contacts)
    }

    fn start(&self, operation: &Operation, _context: &Context) -> Reply {
        match operation {
            Operation::Probe => Request::get("/rest/v1/me").repeatable().then("probe"),
            Operation::Discover(_) => Answer::Facts(b"{}".to_vec()).into(),
            Operation::Read(read) => {
                Request::get("/rest/v1/people").segment(&read.id).repeatable().then("read")
            }
            Operation::Find(find) => match (&find.key, find.identity.first()) {
                (Some(key), _) => {
                    Request::get("/rest/v1/people").query("externalKey", key).repeatable().then("find")
                }
                (None, Some(mail)) => {
                    Request::get("/rest/v1/people").query("mail", &mail.value).repeatable().then("find")
                }
                (None, None) => Answer::Found(Vec::new()).into(),
            },
            Operation::Write(write) => self.write(write),
            Operation::Remove(remove) => {
                let request = Request::delete("/rest/v1/people").segment(&remove.id).repeatable();
                self.only_if(request, remove.version.as_deref(), remove.stamp).then("remove")
            }
            Operation::Changes(listing) => page("/rest/v1/changes", "since", listing),
            Operation::Walk(listing) => page("/rest/v1/people", "after", listing),
            _ => Answer::unsupported(operation).into(),
        }
    }

    fn resume(&self, operation: &Operation, _note: &[u8], response: &Response, context: &Context) -> Reply {
        let gone = |id: &str, proof| Observed::new("contact", id, State::Gone(proof));
        match (operation, response.status) {
            (Operation::Read(read), 404) => return Answer::current(gone(&read.id, Proof::Confirmed)).into(),
            (Operation::Remove(remove), 204 | 404) => {
                return Answer::written(gone(&remove.id, Proof::Confirmed)).into();
            }
            (Operation::Write(Write { id: Some(id), .. }), 404) => {
                return Answer::current(gone(id, Proof::Confirmed)).into();
            }
            (_, 410) => return Answer::CursorLost("the cursor is not known any more".into()).into(),
            _ => {}
        }
        let body = response.node().unwrap_or(Node::Null);
        match (operation, response.status) {
            (Operation::Write(_), 409) => match body.get("id").and_then(Node::as_id) {
                Some(id) => Answer::Exists(Reference { object: "contact".into(), id: id.into() }).into(),
                None => by_status(operation, response, context).into(),
            },
            (Operation::Write(_), 422) => Answer::Rejected(vec![self.problem(&body)]).into(),
            (_, status) if !(200..300).contains(&status) => by_status(operation, response, context).into(),
            (Operation::Probe, _) => Answer::Facts(response.body.clone()).into(),
            (Operation::Find(_), _) => {
                Answer::Found(items(&body).iter().filter_map(|person| self.observed(person)).collect()).into()
            }
            (Operation::Walk(_), _) => {
                let next = body.get("next").and_then(Node::as_str);
                let rows: Vec<Observed> =
                    items(&body).iter().filter_map(|person| self.observed(person)).collect();
                let last = rows.last().map(|row| row.id.clone()).unwrap_or_default();
                Answer::Page(Page { rows, cursor: next.unwrap_or(&last).into(), more: next.is_some() }).into()
            }
            (Operation::Changes(_), _) => {
                let rows = items(&body).iter().filter_map(|row| self.change(row)).collect();
                let cursor = body.get("cursor").and_then(Node::as_str).unwrap_or_default();
                Answer::Page(Page {
                    rows,
                    cursor: cursor.into(),
                    more: body.get("more") == Some(&Node::Bool(true)),
                })
                .into()
            }
            (Operation::Read(read), _) => match self.observed(&body) {
                Some(seen) => Answer::current(seen).into(),
                // What is no person is handed over as it came: the host says what is wrong with it and goes on with the others.
                None => {
                    Answer::current(Observed::new("contact", &read.id, State::Whole(response.body.clone())))
                        .into()
                }
            },
            _ => match self.observed(&body) {
                Some(seen) => Answer::written(seen).into(),
                None => unreadable(operation, "the answer is no person").into(),
            },
        }
    }

    fn receive(&self, delivery: &Delivery, _context: &Context) -> Result<Vec<Observed>, Problem> {
        let body = parse(&delivery.body).map_err(|error| Problem::new("invalid-json", error.to_string()))?;
        // The host may hand over the whole delivery or one element of it.
        match body.as_list() {
            Some(events) => events.iter().map(event).collect(),
            None => Ok(vec![event(&body)?]),
        }
    }
}

impl Starter {
    fn write(&self, write: &Write) -> Reply {
        let document = match write.node() {
            Ok(document) => document,
            Err(problem) => return Answer::Rejected(vec![problem]).into(),
        };
        let Some(id) = &write.id else {
            let mut members = document.as_object().cloned().unwrap_or_default();
            members.set("ExternalKey", Node::text(write.key.clone()));
            // The key is Tandem's alone and unique: sent twice, it is refused the second time with the id of the first.
            return Request::post("/rest/v1/people")
                .json_node(&Node::Object(members))
                .repeatable()
                .then("create");
        };
        let mut changed = Members::default();
        for field in write.changed.iter().flat_map(|pointer| self.contacts.touched_by(pointer)) {
            changed.set(field.name.to_owned(), document.get(field.name).cloned().unwrap_or(Node::Null));
        }
        let request =
            Request::patch("/rest/v1/people").segment(id).json_node(&Node::Object(changed)).repeatable();
        self.only_if(request, write.version.as_deref(), write.stamp).then("update")
    }

    /// A whole person, with its version and the time of its last change.
    fn observed(&self, person: &Node<'_>) -> Option<Observed> {
        let id = person.get("Id")?.as_id()?;
        let newer = if matches!(self.compares, Condition::Second) { "Changed" } else { "Rev" };
        let mut seen = Observed::new("contact", id, State::Whole(person.to_bytes()));
        seen.version = person.get("Rev").and_then(Node::as_str).map(str::to_owned);
        seen.stamp = person.get(newer).and_then(Node::as_id).and_then(|stamp| stamp.parse().ok());
        seen.key = person.get("ExternalKey").and_then(Node::as_str).map(str::to_owned);
        Some(seen)
    }

    /// A row of the change feed.
    fn change(&self, row: &Node<'_>) -> Option<Observed> {
        if row.get("deleted") == Some(&Node::Bool(true)) {
            return Some(Observed::new("contact", row.get("id")?.as_id()?, State::Gone(Proof::Confirmed)));
        }
        self.observed(row.get("person")?)
    }

    /// The write is refused if the person was changed since it was seen.
    fn only_if(&self, request: Request, version: Option<&str>, changed: Option<u64>) -> Request {
        match (self.compares, version, changed.and_then(|at| time::format_http_date(at.try_into().ok()?))) {
            (Condition::Etag, Some(version), _) => request.header("if-match", &format!("\"{version}\"")),
            (Condition::Second, _, Some(changed)) => request.header("if-unmodified-since", &changed),
            _ => request,
        }
    }

    /// A refused member in the words of the CRM, with the canonical field that it is.
    fn problem(&self, body: &Node<'_>) -> Problem {
        let said = body.get("error").and_then(Node::as_str).unwrap_or("the CRM gave no reason");
        let member = body.get("member").and_then(Node::as_str).unwrap_or_default();
        let problem = Problem::new("rejected", said);
        match self.contacts.canonical_of(member) {
            Some(field) => problem.at(field),
            None => problem,
        }
    }
}

fn page(path: &str, after: &str, listing: &Listing) -> Reply {
    let mut request = Request::get(path).query("limit", &listing.limit.to_string()).repeatable();
    if let Some(cursor) = &listing.cursor {
        request = request.query(after, &String::from_utf8_lossy(cursor));
    }
    request.then("page")
}

fn items<'n>(body: &'n Node<'n>) -> &'n [Node<'n>] {
    body.get("items").and_then(Node::as_list).unwrap_or_default()
}

/// What one event of a webhook is about.
fn event(event: &Node<'_>) -> Result<Observed, Problem> {
    let id = event.get("id").and_then(Node::as_id);
    let id = id.ok_or_else(|| Problem::new("invalid-event", "it names no person").at("/id"))?;
    let state = match event.get("event").and_then(Node::as_str) {
        Some("deleted") => State::Gone(Proof::Confirmed),
        _ => State::Touched,
    };
    let mut seen = Observed::new("contact", id, state);
    seen.account = event.get("account").and_then(Node::as_id).map(str::to_owned);
    Ok(seen)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]
mod tests {
    use super::*;

    fn starter() -> Starter {
        Starter::configure(&json!({}), &json!({})).unwrap()
    }

    #[test]
    fn the_laws_hold() {
        laws::check_examples::<Starter>().unwrap();
        laws::check_generated(&starter().contacts, 1, 2_000).unwrap();
    }

    #[test]
    fn a_read_asks_for_the_person_and_takes_what_comes() {
        let operation = Operation::Read(Reference { object: "contact".into(), id: "p-7".into() });
        let context = Context::default();
        let Answer::Send(step) = starter().start(&operation, &context).answer else { panic!("it asks") };
        assert_eq!(step.request.path(), "/rest/v1/people/p-7");
        let response = Response {
            status: 200,
            headers: Vec::new(),
            body: br#"{"Id":"p-7","Rev":"3","Mail":"a@b.example"}"#.to_vec(),
        };
        let Answer::Current(seen) = starter().resume(&operation, &step.note, &response, &context).answer
        else {
            panic!("it is there")
        };
        assert_eq!((seen.id.as_str(), seen.version.as_deref(), seen.stamp), ("p-7", Some("3"), Some(3)));
    }

    fn update() -> Write {
        Write {
            object: "contact".into(),
            id: Some("p-7".into()),
            document: br#"{"Mail":"a@b.example","City":"Ulm"}"#.to_vec(),
            changed: vec!["/city".into(), "/phone".into()],
            version: Some("3".into()),
            stamp: None,
            key: "k".into(),
            keep: None,
            previous: None,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn an_update_sends_what_changed_and_on_what_it_rests() {
        let write = update();
        let Answer::Send(step) = starter().start(&Operation::Write(write), &Context::default()).answer else {
            panic!("it asks")
        };
        assert_eq!(step.request.body.as_deref().unwrap(), br#"{"City":"Ulm","Phone":null}"#);
        assert!(step.request.headers.iter().any(|it| it.name == "if-match" && it.value == "\"3\""));
    }

    #[test]
    fn where_the_account_compares_times_an_update_rests_on_the_time_that_was_seen() {
        let by_time = Starter::configure(&json!({ "compares": "time" }), &json!({})).unwrap();
        let seen = parse(br#"{"Id":"p-7","Rev":"3","Changed":784111777999}"#).unwrap();
        assert_eq!(by_time.observed(&seen).unwrap().stamp, Some(784_111_777_999));
        let write = Write { stamp: Some(784_111_777_999), ..update() };
        let Answer::Send(step) = by_time.start(&Operation::Write(write), &Context::default()).answer else {
            panic!("it asks")
        };
        let conditions: Vec<_> =
            step.request.headers.iter().filter(|it| it.name.starts_with("if-")).collect();
        assert_eq!(conditions.len(), 1);
        assert_eq!(
            (conditions[0].name.as_str(), conditions[0].value.as_str()),
            ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT")
        );
    }
}
