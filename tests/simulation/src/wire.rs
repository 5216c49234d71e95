//! The network between the daemon and the accounts: it delays, loses and breaks calls by the seed. What was sent takes effect, or
//! not, whether or not the sender is still there.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tandem::delivery::{Deliver, SendError};
use tandem_core::exchange::{HttpRequest, HttpResponse, Target};
use tandem_core::id::ConnectionId;

use crate::account::{answer, header};
use crate::history::{Call, History};
use crate::plant::Plant;
use crate::shared::Shared;
use crate::world::{Event, LONGEST_FLIGHT};

/// How often what goes wrong, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// No byte is sent.
    pub(crate) unsent: u64,
    /// No answer; it had no effect.
    pub(crate) lost_before: u64,
    /// No answer; it took effect.
    pub(crate) lost_after: u64,
    /// 5xx; it had no effect.
    pub(crate) broken_before: u64,
    /// 5xx; it took effect.
    pub(crate) broken_after: u64,
    /// 429 because of others' calls.
    pub(crate) throttled: u64,
    /// A webhook never comes.
    pub(crate) hook_lost: u64,
    /// It comes twice.
    pub(crate) hook_twice: u64,
    /// It comes late.
    pub(crate) hook_late: u64,
    /// Somebody edits a record that was just looked at.
    pub(crate) react: u64,
    /// A component faults.
    pub(crate) component: u64,
    /// A cursor is not accepted any more.
    pub(crate) cursor_lost: u64,
}

/// What becomes of a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    LostBefore,
    LostAfter,
    BrokenBefore { wait: bool },
    BrokenAfter { wait: bool },
    Throttled { wait: bool },
}

/// The header of an answer that says which call it belongs to.
pub(crate) const CALL: &str = "call";

/// Where an answer is waited for.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    result: Option<Result<HttpResponse, ()>>,
    waker: Option<Waker>,
}

impl Slot {
    pub(crate) fn fill(&self, result: Result<HttpResponse, ()>) {
        let mut slot = self.0.lock();
        slot.result = Some(result);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }

    async fn wait(&self) -> Result<HttpResponse, ()> {
        poll_fn(|context| {
            let mut slot = self.0.lock();
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// A request under way.
pub(crate) struct Sending {
    pub(crate) slot: Arc<Slot>,
    pub(crate) place: usize,
    pub(crate) request: HttpRequest,
    pub(crate) run: u64,
    pub(crate) call: u64,
    pub(crate) fate: Fate,
}

/// The daemon's end of the network, in one of its runs.
pub(crate) struct Wire {
    pub(crate) shared: Arc<Shared<Event>>,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) faults: Arc<Mutex<Faults>>,
    pub(crate) run: u64,
    pub(crate) plant: Option<Plant>,
}

/// The place of a connection's account.
pub(crate) fn place_of(connection: &ConnectionId) -> usize {
    connection.as_str().trim_start_matches('c').parse().unwrap_or(0)
}

/// The line of a request.
pub(crate) fn line(request: &HttpRequest) -> String {
    let (Target::Path(path) | Target::Url(path)) = &request.target;
    let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
    let headers: Vec<String> =
        request.headers.iter().map(|header| format!("{}: {}", header.name, header.value)).collect();
    format!("{} {path} {} {body}", request.method, headers.join(" "))
}

impl Wire {
    fn fate(&self) -> Result<Fate, ()> {
        let faults = *self.faults.lock();
        self.shared.roll(|dice| {
            if dice.chance(faults.unsent) {
                return Err(());
            }
            let wait = dice.chance(500);
            Ok(if dice.chance(faults.lost_before) {
                Fate::LostBefore
            } else if dice.chance(faults.lost_after) {
                Fate::LostAfter
            } else if dice.chance(faults.broken_before) {
                Fate::BrokenBefore { wait }
            } else if dice.chance(faults.broken_after) {
                Fate::BrokenAfter { wait }
            } else if dice.chance(faults.throttled) {
                Fate::Throttled { wait }
            } else {
                Fate::Fine
            })
        })
    }

    fn put(&self, wait: u64, place: usize, request: HttpRequest, call: u64, fate: Fate) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        let sending = Sending { slot: slot.clone(), place, request, run: self.run, call, fate };
        self.shared.after(wait, Event::Arrive(Box::new(sending)));
        slot
    }

    /// What a planted bug does to a request. Some: the answer, without sending it.
    fn planted(&self, place: usize, request: &mut HttpRequest, call: u64) -> Option<HttpResponse> {
        let chance = |of| self.shared.roll(|dice| dice.chance(of));
        let again = |wait, request: HttpRequest| {
            let _nobody_waits = self.put(wait, place, request, call, Fate::Fine);
        };
        let (Target::Path(path) | Target::Url(path)) = request.target.clone();
        match (self.plant?, request.method.as_str()) {
            (Plant::CreateTwice, "POST") if path == "/people" && chance(300) => again(5, request.clone()),
            (Plant::UpdateAgain, "PATCH") if chance(200) => {
                let mut later = request.clone();
                later.headers.clear();
                again(8_000, later);
            }
            (Plant::NoPrecondition, "PATCH") | (Plant::DeletesWhatever, "DELETE") => request.headers.clear(),
            (Plant::UpdateSwallowed, "PATCH") if chance(100) => return Some(answer(200, &Value::Null)),
            (Plant::UpdateTooMuch, "PATCH") if chance(200) => {
                let body = request.body.as_deref().unwrap_or_default();
                let mut body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
                if let Some(properties) = body.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.insert("Title".into(), json!("Na0"));
                }
                request.body = Some(body.to_string().into_bytes());
            }
            (Plant::Resurrect, "DELETE") => {
                let body = json!({ "properties": { "Code": "p1", "Name": "Na1" } });
                let create = HttpRequest {
                    method: "POST".into(),
                    target: Target::Path("/people".into()),
                    headers: Vec::new(),
                    body: Some(body.to_string().into_bytes()),
                    ..request.clone()
                };
                again(3_000, create);
            }
            (Plant::UpdateDeletes, "PATCH") if chance(100) => {
                request.method = "DELETE".into();
                request.headers.clear();
                request.body = None;
            }
            (Plant::ReadTwice, "GET") => {
                for wait in 0..6 {
                    again(wait, request.clone());
                }
            }
            (Plant::SearchBlind, _) if path == "/find" => {
                return Some(answer(200, &json!({ "rows": [] })));
            }
            (Plant::WrongAnswer, "GET") if chance(100) => {
                let other = path.trim_end_matches(char::is_numeric);
                request.target = Target::Path(format!("{other}1"));
            }
            _ => {}
        }
        None
    }
}

impl Deliver for Wire {
    async fn send(
        &self,
        connection: &ConnectionId,
        mut request: HttpRequest,
    ) -> Result<HttpResponse, SendError> {
        let place = place_of(connection);
        let call = self.shared.number();
        let line = line(&request);
        self.shared.trace(|| format!("call {call} of {connection}: {line}"));
        let record = Call {
            place,
            sent: self.shared.now(),
            wait: None,
            answered: None,
            clean: false,
            status: 0,
            faulted: false,
            line,
        };
        self.history.lock().calls.insert(call, record);
        let done = |clean: bool, status: u16| {
            if let Some(record) = self.history.lock().calls.get_mut(&call) {
                record.answered = Some(self.shared.now());
                record.clean = clean;
                record.status = status;
            }
        };
        let Ok(fate) = self.fate() else {
            self.shared.nap(20).await;
            done(true, 0);
            self.shared.trace(|| format!("call {call}: not sent"));
            return Err(SendError::NotSent { connection: connection.to_string(), what: "refused".into() });
        };
        if let Some(answered) = self.planted(place, &mut request, call) {
            done(true, answered.status);
            return Ok(answered);
        }
        let wait = self
            .shared
            .roll(|dice| if dice.chance(100) { dice.below(LONGEST_FLIGHT) } else { dice.below(20) });
        match self.put(wait, place, request, call, fate).wait().await {
            Ok(mut response) => {
                done(response.status < 500, response.status);
                let named = response.headers.iter().find(|header| header.name == "retry-after");
                let seconds = named.and_then(|header| header.value.parse::<u64>().ok());
                if let Some(record) =
                    self.history.lock().calls.get_mut(&call).filter(|_| response.status == 429)
                {
                    record.wait = seconds.map(|seconds| seconds * 1_000);
                }
                response.headers.push(header(CALL, call.to_string()));
                self.shared.trace(|| {
                    let body = String::from_utf8_lossy(&response.body).into_owned();
                    format!("call {call}: {} {body}", response.status)
                });
                Ok(response)
            }
            Err(()) => {
                done(false, 0);
                self.shared.trace(|| format!("call {call}: no answer"));
                Err(SendError::Unknown { connection: connection.to_string(), what: "timed out".into() })
            }
        }
    }
}
