//! `tandem check --live`: asks each connection's CRM whether it would work, with the provider's own requests, and writes nothing there and
//! nothing here.
//!
//! Shown: that the credentials are taken, which of the mapped fields the account has, that records can be read, and what the CRM says
//! of its quotas. That records may be *written* shows only with the first write. A refresh token that changes with every use is not tried:
//! using it here would take it from the running daemon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tandem_core::Millis;
use tandem_core::document;
use tandem_core::exchange::{
    Answer, Attribute, Context, Listing, Operation, Problem, QuotaState, Reply, Wait,
};
use tandem_core::id::{ConnectionId, ProviderId};
use tandem_core::policy::Flow;

use super::failure::Failure;
use super::table::plain;
use crate::admin::view::{Probe, ProbeStep};
use crate::app::Accounts;
use crate::config::{Config, ConnectionConfig, Credential};
use crate::credentials::Credentials;
use crate::delivery::{Client, ClientConfig, Deliver as _, SendError};
use crate::provider::{Fault, Providers, Setup, View};

/// Most requests for one question.
const STEPS: usize = 8;

/// Asks the CRM of each connection.
pub(super) async fn probe(
    config: &Config,
    providers: &Providers,
    connections: &[(Arc<ConnectionConfig>, Arc<View>)],
) -> Result<Vec<Probe>, Failure> {
    let accounts = Arc::new(Accounts::new(Arc::new(Credentials::default())));
    let client = ClientConfig {
        connect_timeout: config.delivery.connect_timeout,
        timeout: config.delivery.timeout,
        max_response: config.delivery.max_response,
        extra_ca: config.delivery.extra_ca.clone(),
    };
    let client = Client::new(&client, accounts.clone()).map_err(|error| Failure::new(&error))?;
    let mut probes = Vec::new();
    for (connection, view) in connections {
        let mut asking =
            Asking { providers, client: &client, connection, steps: Vec::new(), quotas: BTreeMap::new() };
        asking.everything(&accounts, view).await;
        probes.push(Probe { connection: connection.id.clone(), steps: asking.steps });
    }
    Ok(probes)
}

/// The question whether records of an object may be written, which the provider answers without writing one.
const MAY_WRITE: &str = "may-write";
const CANNOT_TELL: &str = "the provider cannot tell without writing";

/// The questions to one connection's CRM, and what came of them.
struct Asking<'a> {
    providers: &'a Providers,
    client: &'a Client<Accounts>,
    connection: &'a ConnectionConfig,
    steps: Vec<ProbeStep>,
    quotas: BTreeMap<String, QuotaState>,
}

impl Asking<'_> {
    fn note(&mut self, what: impl Into<String>, answer: Result<String, String>) -> bool {
        let ok = answer.is_ok();
        let detail = answer.unwrap_or_else(|wrong| plain(&wrong));
        self.steps.push(ProbeStep { what: what.into(), ok, detail });
        ok
    }

    async fn everything(&mut self, accounts: &Accounts, view: &View) {
        if let Err(why) = self.enter(accounts, view) {
            self.note("credentials", Err(why));
            return;
        }
        let mut facts = Value::Object(serde_json::Map::new());
        let probed = self.ask(Operation::Probe).await.and_then(|answer| learnt(answer, &mut facts));
        if !self.note("credentials", probed.map(|()| "the CRM takes them".to_owned())) {
            return;
        }
        let objects: Vec<String> = self.connection.enabled().map(|(name, _)| name.to_string()).collect();
        for object in &objects {
            let discovered = self.ask(Operation::Discover(object.clone())).await;
            let discovered = discovered.and_then(|answer| learnt(answer, &mut facts));
            let fields = match discovered {
                Ok(()) => self.fields(object, view, &facts).await,
                Err(why) => Err(why),
            };
            self.note(format!("fields {object}"), fields);
            let listing = Listing { object: object.clone(), cursor: None, limit: 1 };
            let read = self.ask(Operation::Walk(listing)).await.and_then(|answer| match answer {
                Answer::Page(_) => Ok("records can be read".to_owned()),
                Answer::Other(word, _) => Ok(format!("the provider does not list them: {word}")),
                other => Err(refused(other)),
            });
            self.note(format!("read {object}"), read);
            let writes = self.connection.objects.get(&object.as_str().into()).map(|object| object.direction);
            if writes != Some(Flow::ToInternal) {
                let arguments = serde_json::json!({ "object": object }).to_string().into_bytes();
                let asked = self.ask(Operation::Other(MAY_WRITE.to_owned(), arguments)).await;
                let write = asked.and_then(|answer| match answer {
                    Answer::Facts(_) => Ok("records can be written".to_owned()),
                    Answer::Other(..) => Ok(CANNOT_TELL.to_owned()),
                    Answer::Blocked(block) if block.problem.code == "unsupported" => {
                        Ok(CANNOT_TELL.to_owned())
                    }
                    other => Err(refused(other)),
                });
                self.note(format!("write {object}"), write);
            }
        }
        let quota = self.quota();
        self.note("quota", quota);
    }

    /// Makes the connection's endpoint.
    fn enter(&self, accounts: &Accounts, view: &View) -> Result<(), String> {
        if let Some(auth) = &self.connection.auth
            && let Credential::RefreshToken(_) = auth.credential
        {
            let scheme = auth.pick(&view.descriptor.auth).map(|(_, scheme)| scheme);
            let refresh = scheme.and_then(|scheme| scheme.refresh.as_ref());
            if refresh.is_some_and(|refresh| refresh.refresh_token.is_some()) {
                let what = "its refresh token changes with every use and belongs to the running daemon; ask that with tandem status";
                return Err(what.to_owned());
            }
        }
        let mut described = (*view.connection).clone();
        if let Some(base_url) = &self.connection.base_url {
            described.base_url.clone_from(base_url);
        }
        accounts.put(self.connection, view, &described).map_err(|wrong| wrong.join("; "))
    }

    /// Configures the connection with what was learnt, and compares.
    async fn fields(&self, object: &str, before: &View, facts: &Value) -> Result<String, String> {
        let setup = Setup { settings: self.connection.settings.clone(), facts: facts.clone() };
        let id: &ConnectionId = &self.connection.id;
        let provider: &ProviderId = &self.connection.provider;
        let made = self.providers.connect(id, provider, setup).await;
        let after = made.map_err(|error| format!("{}: {}; {}", error.step, error.reason, error.remedy))?;
        let known = after.connection.objects.get(object).ok_or("the account has no such object")?;
        let policies = self.connection.objects.get(&object.into()).map(|object| &object.policy.fields);
        let wanted = policies.into_iter().flat_map(BTreeMap::keys);
        let missing: Vec<&str> =
            wanted.filter(|pointer| !known.fields.contains_key(*pointer)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(format!(
                "the account has no {}; mend the connection's fields or settings",
                missing.join(", ")
            ));
        }
        let offered = before.connection.objects.get(object).map(|object| &object.fields);
        let lost: Vec<&str> = offered
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter(|pointer| !known.fields.contains_key(*pointer))
            .map(String::as_str)
            .collect();
        // Custom fields are there because the connection's file names them.
        let own: Vec<&str> = lost.iter().copied().filter(|pointer| pointer.starts_with("/custom/")).collect();
        if !own.is_empty() {
            return Err(format!(
                "the account has no property for {}; mend the connection's settings",
                own.join(", ")
            ));
        }
        let mapped = format!("{} fields are mapped", known.fields.len());
        Ok(if lost.is_empty() { mapped } else { format!("{mapped}; the account has no {}", lost.join(", ")) })
    }

    fn quota(&self) -> Result<String, String> {
        let mut told = Vec::new();
        let mut empty = false;
        for state in self.quotas.values() {
            let left = state.remaining.map_or("?".to_owned(), |left| left.to_string());
            let of = state.limit.map_or(String::new(), |limit| format!(" of {limit}"));
            told.push(format!("{}: {left}{of} left", plain(&state.quota)));
            empty |= state.remaining == Some(0);
        }
        match told.join(", ") {
            none if none.is_empty() => Ok("the CRM does not say what is left".to_owned()),
            told if empty => Err(format!("{told}; work waits until it is filled up again")),
            told => Ok(told),
        }
    }

    /// One question with all its requests.
    async fn ask(&mut self, operation: Operation) -> Result<Answer, String> {
        let id = self.connection.id.clone();
        let (start, context) = (operation.clone(), moment());
        let said = self.providers.visit(&id, move |provider| provider.start(&start, &context)).await;
        let mut answer = self.heard(said)?;
        for _ in 0..STEPS {
            let Answer::Send(step) = answer else { return Ok(answer) };
            let response = self.client.send(&id, step.request).await.map_err(|error| unsent(&error))?;
            let (resume, note, context) = (operation.clone(), step.note, moment());
            let said = self
                .providers
                .visit(&id, move |provider| provider.resume(&resume, &note, &response, &context))
                .await;
            answer = self.heard(said)?;
        }
        Err(format!("the provider wants more than {STEPS} requests for {}", operation.name()))
    }

    fn heard(&mut self, said: Result<Reply, Fault>) -> Result<Answer, String> {
        let reply = said.map_err(|fault| fault.to_string())?;
        self.quotas.extend(reply.quotas.into_iter().map(|state| (state.quota.clone(), state)));
        Ok(reply.answer)
    }
}

fn moment() -> Context {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let class = Attribute { name: "class".to_owned(), value: "interactive".to_owned() };
    Context { now: Millis::try_from(now).unwrap_or(Millis::MAX), attributes: vec![class] }
}

/// Lays facts over those that are known.
fn learnt(answer: Answer, facts: &mut Value) -> Result<(), String> {
    match answer {
        Answer::Facts(json) => {
            let more = document::parse(&json).map_err(|problems| told(&problems))?;
            document::merge(facts, &more);
            Ok(())
        }
        // A provider that has nothing to learn says so in its own words.
        Answer::Other(..) => Ok(()),
        other => Err(refused(other)),
    }
}

fn told(problems: &[Problem]) -> String {
    let one = |problem: &Problem| match problem.pointer.as_deref().filter(|pointer| !pointer.is_empty()) {
        Some(pointer) => format!("{pointer}: {}", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn unsent(error: &SendError) -> String {
    match error {
        SendError::NotSent { what, .. }
        | SendError::Forbidden { what, .. }
        | SendError::Unauthorised { what, .. } => what.clone(),
        SendError::Unknown { what, .. } => format!("no answer: {what}"),
    }
}

/// Why an answer is not what was asked for, and the way out.
fn refused(answer: Answer) -> String {
    match answer {
        Answer::Unauthorised(why) => {
            format!(
                "the CRM does not accept the credentials: {}; renew the token, or authorise again",
                plain(&why)
            )
        }
        Answer::Blocked(block) => format!(
            "the CRM does not allow it: {}; give the app or token the permission",
            plain(&told(std::slice::from_ref(&block.problem)))
        ),
        Answer::Throttled(throttle) => {
            let quota =
                throttle.quota.map_or("a quota".to_owned(), |quota| format!("quota {}", plain(&quota)));
            let until = match throttle.wait {
                Wait::Until(moment) => format!("try again after {}", super::table::time(moment)),
                Wait::Unknown => "try again later".to_owned(),
            };
            format!("{quota} is used up; {until}")
        }
        Answer::Again(_, why) => format!("the CRM is not available: {}; try again later", plain(&why)),
        Answer::Rejected(problems) => format!("the CRM refuses the request: {}", plain(&told(&problems))),
        Answer::CursorLost(why) => format!("the CRM refuses to list: {}", plain(&why)),
        other => format!("an answer that does not fit: {}", kind(&other)),
    }
}

fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Send(_) => "one more request",
        Answer::Written(_) => "a written record",
        Answer::Current(_) => "a record",
        Answer::Found(_) => "found records",
        Answer::Page(_) => "a page",
        Answer::Watching(_) => "a channel",
        Answer::Facts(_) => "facts",
        Answer::Exists(_) => "a record that exists",
        Answer::Refused => "a condition that failed",
        _ => "a refusal",
    }
}
