//! The provider of the model CRMs, native: the same answers that a component would give, without WebAssembly.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tandem::provider::{Binding, Fault, FaultKind, Provider, Runtime, View};
use tandem_core::descriptor::Condition;
use tandem_core::exchange::{
    Answer, Block, Change, Charge, Context, Decision, Delivery, HttpRequest, HttpResponse, Json, Listing,
    Observed, Operation, Page, Problem, Proof, Reference, Reply, Ruling, State, Step, Target, Throttle, Wait,
    Written,
};
use tandem_core::id::ConnectionId;

use crate::account::header;
use crate::habits::Habits;
use crate::history::History;
use crate::plant::Plant;
use crate::shared::Shared;
use crate::values::{FIELDS, OBJECT, pointer_of, property_of};
use crate::wire::{CALL, Faults, place_of};

/// Providers of a world: each visit is one hop with a nap before and after it.
pub(crate) struct Natives<E> {
    pub(crate) shared: Arc<Shared<E>>,
    pub(crate) history: Arc<parking_lot::Mutex<History>>,
    pub(crate) faults: Arc<parking_lot::Mutex<Faults>>,
    pub(crate) plant: Option<Plant>,
}

/// Binds a connection to the model provider.
pub(crate) fn bind(connection: &ConnectionId, habits: Arc<Habits>) -> Binding {
    let (descriptor, described) = habits.describe();
    let view = View {
        provider: "model".into(),
        label: "model@1.0.0#00000000".into(),
        descriptor: Arc::new(descriptor),
        connection: Arc::new(described),
    };
    Binding::new(connection.clone(), Arc::new(view), habits)
}

impl<E: Send + 'static> Runtime for Natives<E> {
    async fn visit<R, F>(&self, binding: &Binding, job: F) -> Result<R, Fault>
    where
        R: Send + 'static,
        F: FnOnce(&mut dyn Provider) -> Result<R, Fault> + Send + 'static,
    {
        let fault = || Fault {
            provider: "model@1.0.0#00000000".into(),
            call: "visit".into(),
            kind: FaultKind::Trap { what: "the seed says so".into() },
        };
        self.shared.nap(3).await;
        let faults = self.faults.lock().component;
        let (before, after) = self.shared.roll(|dice| (dice.chance(faults), dice.chance(faults)));
        let Some(habits) = binding.inner::<Habits>() else { return Err(fault()) };
        // A provider is pure: nobody can tell whether it faulted before its job or after it.
        let (done, read, heard) = {
            let mut native = Native { habits: &habits, plant: self.plant, read: None, heard: Vec::new() };
            (job(&mut native), native.read, native.heard)
        };
        if !before {
            self.shared.nap(3).await;
        }
        if !before && !after {
            return done;
        }
        let place = place_of(binding.connection());
        self.history.lock().unread.extend(heard.into_iter().map(|id| (place, id)));
        if let Some(call) = read
            && let Some(call) = self.history.lock().calls.get_mut(&call)
        {
            call.faulted = true;
        }
        Err(fault())
    }
}

struct Native<'a> {
    habits: &'a Habits,
    plant: Option<Plant>,
    /// The call whose answer it was given.
    read: Option<u64>,
    /// The records of which a webhook told.
    heard: Vec<String>,
}

type Mapped = Result<Result<Json, Vec<Problem>>, Fault>;

fn problem(code: &str, message: &str, pointer: Option<&str>) -> Problem {
    Problem { code: code.into(), message: message.into(), pointer: pointer.map(Into::into) }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Vec<Problem>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(vec![problem("not-an-object", "the document is no object", None)]),
    }
}

impl Provider for Native<'_> {
    fn to_provider(&mut self, _: &str, canonical: &[u8], _: Option<&[u8]>) -> Mapped {
        Ok(object(canonical).map(|mut members| {
            let mut document = Map::new();
            for field in &FIELDS {
                document
                    .insert(field.property.to_owned(), members.remove(field.member).unwrap_or(Value::Null));
            }
            Value::Object(document).to_string().into_bytes()
        }))
    }

    fn to_canonical(&mut self, _: &str, document: &[u8]) -> Mapped {
        Ok(object(document).map(|mut members| {
            if self.plant == Some(Plant::FieldsSwapped) {
                let (city, zip) = (members.remove("City"), members.remove("Zip"));
                members.extend(city.map(|city| ("Zip".to_owned(), city)));
                members.extend(zip.map(|zip| ("City".to_owned(), zip)));
            }
            let mut canonical = Map::new();
            for field in &FIELDS {
                if let Some(value) = members.remove(field.property) {
                    canonical.insert(field.member.to_owned(), value);
                }
            }
            Value::Object(canonical).to_string().into_bytes()
        }))
    }

    fn decide(&mut self, _: &Change) -> Result<Ruling, Fault> {
        Ok(Ruling { decision: Decision::Sync, rule: String::new() })
    }

    fn start(&mut self, operation: &Operation, _: &Context) -> Result<Reply, Fault> {
        let call = match operation {
            Operation::Read(read) => request("GET", format!("/people/{}", read.id), None),
            Operation::Find(find) => {
                let mut wanted = Map::new();
                if let Some(key) = &find.key {
                    wanted.insert("key".into(), json!(key));
                }
                for attribute in &find.identity {
                    if let Some(property) = property_of(&attribute.name) {
                        wanted.insert(property.into(), json!(attribute.value));
                    }
                }
                request("POST", "/find".into(), Some(Value::Object(wanted)))
            }
            Operation::Write(write) => {
                let document = match object(&write.document) {
                    Ok(document) => document,
                    Err(problems) => return Ok(reply(Answer::Rejected(problems))),
                };
                let properties: Map<String, Value> = write
                    .changed
                    .iter()
                    .filter_map(|pointer| property_of(pointer))
                    .map(|property| {
                        (property.to_owned(), document.get(property).cloned().unwrap_or(Value::Null))
                    })
                    .collect();
                let body = json!({ "properties": properties });
                match &write.id {
                    None if self.habits.key => {
                        let body = json!({ "properties": properties, "key": write.key });
                        request("POST", "/people".into(), Some(body))
                    }
                    None => request("POST", "/people".into(), Some(body)),
                    Some(id) => self.conditional(
                        request("PATCH", format!("/people/{id}"), Some(body)),
                        write.version.as_deref(),
                        write.stamp,
                    ),
                }
            }
            Operation::Remove(remove) => self.conditional(
                request("DELETE", format!("/people/{}", remove.id), None),
                remove.version.as_deref(),
                remove.stamp,
            ),
            Operation::Other(name, arguments) if name == "erase" => {
                if !self.habits.erases {
                    let problem = problem("unsupported", "there is no erasure", None);
                    return Ok(reply(Answer::Blocked(Block { scope: "record".into(), problem })));
                }
                request("POST", format!("/people/{}/erase", erased(arguments)), None)
            }
            Operation::Changes(listing) => self.list("/changes", listing),
            Operation::Walk(listing) => self.list("/walk", listing),
            other => {
                let what = format!("{} is not supported", other.name());
                return Ok(reply(Answer::Rejected(vec![problem("unsupported", &what, None)])));
            }
        };
        Ok(reply(Answer::Send(Step { request: call, note: Vec::new(), so_far: None })))
    }

    fn resume(
        &mut self,
        operation: &Operation,
        _: &[u8],
        response: &HttpResponse,
        context: &Context,
    ) -> Result<Reply, Fault> {
        self.read = number_in(response, CALL);
        let body: Value = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        let writes = matches!(operation, Operation::Write(_) | Operation::Remove(_) | Operation::Other(..));
        let message = body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        let wait = number_in(response, "retry-after")
            .map_or(Wait::Unknown, |seconds| Wait::Until(context.now + seconds * 1_000));
        let erased = match operation {
            Operation::Other(_, arguments) => erased(arguments),
            _ => String::new(),
        };
        let asked = match operation {
            Operation::Other(..) => erased.as_str(),
            Operation::Read(read) => read.id.as_str(),
            Operation::Write(write) => write.id.as_deref().unwrap_or_default(),
            Operation::Remove(remove) => remove.id.as_str(),
            _ => "",
        };
        let about = |state| Observed { state, ..Observed::touched(OBJECT, asked) };
        Ok(reply(match (response.status, operation) {
            (200..=299, Operation::Read(read)) if self.plant == Some(Plant::MergedStays) => {
                Answer::Current(Observed { id: read.id.clone(), ..whole(&body) })
            }
            (200..=299, Operation::Read(_)) if self.plant == Some(Plant::AuthorMisread) => {
                Answer::Current(Observed { author: Some("own".into()), ..whole(&body) })
            }
            // Of a hundred calls a few.
            (200..=299, Operation::Read(_))
                if self.plant == Some(Plant::ReadSaysGone)
                    && self.read.is_some_and(|call| call % 16 == 0) =>
            {
                Answer::Current(about(State::Gone(Proof::Confirmed)))
            }
            (200..=299, Operation::Read(_)) => Answer::Current(whole(&body)),
            (200..=299, Operation::Write(_)) => {
                Answer::Written(Written { observed: returned(&body), unapplied: Vec::new() })
            }
            (200..=299, Operation::Remove(_) | Operation::Other(..)) => Answer::Written(Written {
                observed: about(State::Gone(Proof::Confirmed)),
                unapplied: Vec::new(),
            }),
            (200..=299, Operation::Find(_)) => {
                let rows = rows(&body).map(|row| {
                    let found = whole(row);
                    if self.habits.finds_whole { found } else { Observed { state: State::Touched, ..found } }
                });
                Answer::Found(rows.collect())
            }
            (200..=299, Operation::Changes(_) | Operation::Walk(_)) => Answer::Page(Page {
                rows: rows(&body).map(whole).collect(),
                cursor: body.get("cursor").unwrap_or(&Value::Null).to_string().into_bytes(),
                more: body.get("more").and_then(Value::as_bool).unwrap_or(false),
            }),
            (301, _) => {
                let to = body.get("to").and_then(Value::as_str).unwrap_or_default();
                Answer::Current(about(State::Moved(Reference { object: OBJECT.into(), id: to.into() })))
            }
            (404, _) if self.plant == Some(Plant::MissedIsGone) => {
                Answer::Current(about(State::Gone(Proof::Confirmed)))
            }
            (404, _) => Answer::Current(about(State::Gone(Proof::Unconfirmed))),
            (410, Operation::Changes(_)) => Answer::CursorLost(message),
            (410, _) => Answer::Current(about(State::Gone(Proof::Confirmed))),
            (409, Operation::Write(_)) => {
                let id = body.get("id").and_then(Value::as_str).unwrap_or_default();
                Answer::Exists(Reference { object: OBJECT.into(), id: id.into() })
            }
            (412, _) => Answer::Refused,
            (429, _) => Answer::Throttled(Throttle {
                quota: body.get("quota").and_then(Value::as_str).map(Into::into),
                wait,
            }),
            (500..=599, _) => Answer::Again(wait, if writes { "unknown".into() } else { "no".into() }),
            _ => {
                let property = body.get("property").and_then(Value::as_str).and_then(pointer_of);
                Answer::Rejected(vec![problem("refused", &message, property)])
            }
        }))
    }

    fn receive(&mut self, delivery: &Delivery, _: &Context) -> Result<Result<Vec<Observed>, Problem>, Fault> {
        let Ok(Value::Array(events)) = serde_json::from_slice::<Value>(&delivery.body) else {
            return Ok(Err(problem("not-a-list", "the delivery is no list of events", None)));
        };
        let mut heard = Vec::new();
        let untold = |event: &&Value| {
            self.plant == Some(Plant::MergeUntold)
                && event.get("kind").and_then(Value::as_str) == Some("merged")
        };
        let observed = events.iter().filter(|event| !untold(event)).map(|event| {
            let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
            heard.push(id.to_owned());
            let properties = event.get("properties").unwrap_or(&Value::Null);
            let state = match event.get("kind").and_then(Value::as_str) {
                Some("changed") => State::Partial(properties.to_string().into_bytes()),
                Some("deleted") if self.habits.proves => State::Gone(Proof::Confirmed),
                Some("deleted") => State::Gone(Proof::Unconfirmed),
                Some("merged") => State::Moved(Reference {
                    object: OBJECT.into(),
                    id: properties.as_str().unwrap_or_default().into(),
                }),
                _ => State::Touched,
            };
            let stamp = event.get("stamp").and_then(Value::as_u64);
            let at =
                event.get("at").and_then(Value::as_u64).filter(|_| self.plant != Some(Plant::TimesUntold));
            let attributes = at.map(|at| header("occurred-at", at.to_string())).into_iter().collect();
            let author = event.get("by").and_then(Value::as_str).map(Into::into);
            Observed { state, stamp, author, attributes, ..Observed::touched(OBJECT, id) }
        });
        let observed = observed.collect();
        self.heard = heard;
        Ok(Ok(observed))
    }
}

impl Native<'_> {
    fn conditional(&self, mut call: HttpRequest, version: Option<&str>, stamp: Option<u64>) -> HttpRequest {
        match (self.habits.condition, version, stamp) {
            (Condition::Etag, Some(version), _) => call.headers.push(header("if-match", version.into())),
            (Condition::Second, _, Some(stamp)) => {
                call.headers.push(header("if-unmodified-since", stamp.to_string()));
            }
            _ => {}
        }
        call
    }

    fn list(&self, path: &str, listing: &Listing) -> HttpRequest {
        let after = listing.cursor.as_deref().and_then(|cursor| serde_json::from_slice::<Value>(cursor).ok());
        request("POST", path.into(), Some(json!({ "after": after, "limit": 4.min(listing.limit) })))
    }
}

fn request(method: &str, path: String, body: Option<Value>) -> HttpRequest {
    let searches = matches!(path.as_str(), "/find" | "/changes" | "/walk");
    let quota = if searches { "search" } else { "burst" };
    HttpRequest {
        method: method.into(),
        target: Target::Path(path),
        headers: Vec::new(),
        body: body.map(|body| body.to_string().into_bytes()),
        charges: vec![Charge { quota: quota.into(), amount: 1 }],
        repeatable: false,
        secrets: Vec::new(),
    }
}

fn number_in(response: &HttpResponse, name: &str) -> Option<u64> {
    response.headers.iter().find(|header| header.name == name)?.value.parse().ok()
}

/// The record that is to be erased.
fn erased(arguments: &[u8]) -> String {
    let arguments: Value = serde_json::from_slice(arguments).unwrap_or(Value::Null);
    arguments.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn reply(answer: Answer) -> Reply {
    Reply { answer, quotas: Vec::new() }
}

fn rows(body: &Value) -> impl Iterator<Item = &Value> {
    body.get("rows").and_then(Value::as_array).into_iter().flatten()
}

fn observed(row: &Value, state: State) -> Observed {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    Observed {
        state,
        version: text("tag"),
        stamp: row.get("stamp").and_then(Value::as_u64),
        key: text("key"),
        author: text("by"),
        ..Observed::touched(OBJECT, text("id").unwrap_or_default())
    }
}

fn whole(row: &Value) -> Observed {
    let state = if row.get("gone").and_then(Value::as_bool).unwrap_or(false) {
        State::Gone(Proof::Unconfirmed)
    } else {
        State::Whole(row.get("properties").unwrap_or(&Value::Null).to_string().into_bytes())
    };
    observed(row, state)
}

/// What a write returned of the record.
fn returned(row: &Value) -> Observed {
    let state = match row.get("properties") {
        None => State::Touched,
        Some(some) if row.get("partial").is_some() => State::Partial(some.to_string().into_bytes()),
        Some(all) => State::Whole(all.to_string().into_bytes()),
    };
    observed(row, state)
}
