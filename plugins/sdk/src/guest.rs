//! The WebAssembly side: generated bindings, and the conversions between them and the SDK's own types.
//!
//! Compiled for wasm32 only, so that `cargo test` needs no WebAssembly.

use std::cell::RefCell;

use serde_json::Value;

use crate::exchange as sdk;
use crate::provider::Provider;

/// Generated from `wit/`.
#[expect(missing_docs, reason = "generated; documented in wit/")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "provider",
        pub_export_macro: true,
        default_bindings_module: "tandem_provider::guest::bindings",
    });
}

use bindings::tandem::provider::types as wit;

pub use bindings::exports::tandem::provider::{descriptor, exchange, intake, mapping, rules};
pub use bindings::tandem::provider::types;

pub(crate) fn log(level: &str, message: &str) {
    bindings::tandem::provider::log::log(level, message);
}

/// Where the configured provider lives: one for each instance.
pub type Slot<P> = RefCell<Option<P>>;

/// `descriptor.describe`.
#[must_use]
pub fn describe<P: Provider>() -> Vec<u8> {
    serde_json::to_vec(&P::describe()).unwrap_or_default()
}

/// `descriptor.configure`.
///
/// # Errors
/// What is wrong with the settings.
pub fn configure<P: Provider>(
    slot: &Slot<P>,
    settings: &[u8],
    facts: &[u8],
) -> Result<Vec<u8>, Vec<wit::Problem>> {
    let read = |name: &str, bytes: &[u8]| -> Result<Value, Vec<wit::Problem>> {
        if bytes.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(bytes)
            .map_err(|error| vec![problem(sdk::Problem::new("invalid-json", format!("{name}: {error}")))])
    };
    let settings = read("settings", settings)?;
    let facts = read("facts", facts)?;
    let provider = P::configure(&settings, &facts).map_err(problems)?;
    let connection = serde_json::to_vec(&provider.connection()).unwrap_or_default();
    *slot.borrow_mut() = Some(provider);
    Ok(connection)
}

fn not_configured() -> sdk::Problem {
    sdk::Problem::new("not-configured", "configure comes first")
}

/// `mapping.to-provider`.
///
/// # Errors
/// What cannot be mapped.
pub fn to_provider<P: Provider>(
    slot: &Slot<P>,
    object: &str,
    canonical: &[u8],
    current: Option<&[u8]>,
) -> Result<Vec<u8>, Vec<wit::Problem>> {
    match &*slot.borrow() {
        Some(provider) => provider.to_provider(object, canonical, current).map_err(problems),
        None => Err(problems(vec![not_configured()])),
    }
}

/// `mapping.to-canonical`.
///
/// # Errors
/// What cannot be mapped.
pub fn to_canonical<P: Provider>(
    slot: &Slot<P>,
    object: &str,
    document: &[u8],
) -> Result<Vec<u8>, Vec<wit::Problem>> {
    match &*slot.borrow() {
        Some(provider) => provider.to_canonical(object, document).map_err(problems),
        None => Err(problems(vec![not_configured()])),
    }
}

/// `rules.decide`.
#[must_use]
pub fn decide<P: Provider>(slot: &Slot<P>, change: wit::Change) -> wit::Ruling {
    let change = sdk::Change {
        object: change.object,
        origin: change.origin,
        before: change.before,
        after: change.after,
        changed: change.changed,
    };
    let ruling = match &*slot.borrow() {
        Some(provider) => provider.decide(&change),
        None => sdk::Ruling {
            decision: sdk::Decision::Hold(not_configured().message),
            rule: "not-configured".to_owned(),
        },
    };
    let decision = match ruling.decision {
        sdk::Decision::Sync => wit::Decision::Sync,
        sdk::Decision::Skip(why) => wit::Decision::Skip(why),
        sdk::Decision::Hold(why) => wit::Decision::Hold(why),
        sdk::Decision::Remove(why) => wit::Decision::Remove(why),
        sdk::Decision::Read => wit::Decision::Read,
    };
    wit::Ruling { decision, rule: ruling.rule }
}

/// `exchange.start`.
#[must_use]
pub fn start<P: Provider>(slot: &Slot<P>, operation: wit::Operation, context: wit::Context) -> wit::Reply {
    match &*slot.borrow() {
        Some(provider) => reply(provider.start(&read_operation(operation), &read_context(context))),
        None => reply(blocked()),
    }
}

/// `exchange.resume`.
#[must_use]
pub fn resume<P: Provider>(
    slot: &Slot<P>,
    operation: wit::Operation,
    note: &[u8],
    response: wit::HttpResponse,
    context: wit::Context,
) -> wit::Reply {
    let response = sdk::Response {
        status: response.status,
        headers: read_attributes(response.headers),
        body: response.body,
    };
    match &*slot.borrow() {
        Some(provider) => {
            reply(provider.resume(&read_operation(operation), note, &response, &read_context(context)))
        }
        None => reply(blocked()),
    }
}

/// `intake.receive`.
///
/// # Errors
/// Why the delivery cannot be read.
pub fn receive<P: Provider>(
    slot: &Slot<P>,
    delivery: wit::Delivery,
    context: wit::Context,
) -> Result<Vec<wit::Observed>, wit::Problem> {
    let delivery = sdk::Delivery {
        headers: read_attributes(delivery.headers),
        query: read_attributes(delivery.query),
        body: delivery.body,
    };
    match &*slot.borrow() {
        Some(provider) => provider
            .receive(&delivery, &read_context(context))
            .map(|rows| rows.into_iter().map(observed).collect())
            .map_err(problem),
        None => Err(problem(not_configured())),
    }
}

fn blocked() -> sdk::Reply {
    sdk::Answer::Blocked { scope: sdk::Scope::Connection, problem: not_configured() }.into()
}

// === from the host ===

fn read_attributes(attributes: Vec<wit::Attribute>) -> Vec<sdk::Attribute> {
    attributes.into_iter().map(|it| sdk::Attribute { name: it.name, value: it.value }).collect()
}

fn read_context(context: wit::Context) -> sdk::Context {
    sdk::Context { now: context.now, attributes: read_attributes(context.attributes) }
}

fn read_listing(listing: wit::Listing) -> sdk::Listing {
    sdk::Listing { object: listing.object, cursor: listing.cursor, limit: listing.limit }
}

fn read_operation(operation: wit::Operation) -> sdk::Operation {
    match operation {
        wit::Operation::Probe => sdk::Operation::Probe,
        wit::Operation::Discover(object) => sdk::Operation::Discover(object),
        wit::Operation::Read(it) => sdk::Operation::Read(sdk::Reference { object: it.object, id: it.id }),
        wit::Operation::Find(it) => sdk::Operation::Find(sdk::Find {
            object: it.object,
            key: it.key,
            identity: read_attributes(it.identity),
        }),
        wit::Operation::Write(it) => sdk::Operation::Write(sdk::Write {
            object: it.object,
            id: it.id,
            document: it.document,
            changed: it.changed,
            version: it.version,
            stamp: it.stamp,
            key: it.key,
            keep: it.keep,
            previous: it.previous,
            attributes: read_attributes(it.attributes),
        }),
        wit::Operation::Remove(it) => sdk::Operation::Remove(sdk::Remove {
            object: it.object,
            id: it.id,
            version: it.version,
            stamp: it.stamp,
        }),
        wit::Operation::Changes(it) => sdk::Operation::Changes(read_listing(it)),
        wit::Operation::Walk(it) => sdk::Operation::Walk(read_listing(it)),
        wit::Operation::Watch(it) => sdk::Operation::Watch(sdk::Watch {
            callback: it.callback,
            objects: it.objects,
            channel: it.channel,
            active: it.active,
        }),
        wit::Operation::Other((name, arguments)) => sdk::Operation::Other(name, arguments),
    }
}

// === to the host ===

fn attributes(attributes: Vec<sdk::Attribute>) -> Vec<wit::Attribute> {
    attributes.into_iter().map(|it| wit::Attribute { name: it.name, value: it.value }).collect()
}

fn problem(it: sdk::Problem) -> wit::Problem {
    wit::Problem { code: it.code, message: it.message, pointer: it.pointer }
}

fn problems(list: Vec<sdk::Problem>) -> Vec<wit::Problem> {
    list.into_iter().map(problem).collect()
}

fn wait(it: sdk::Wait) -> wit::Wait {
    match it {
        sdk::Wait::Until(moment) => wit::Wait::Until(moment),
        sdk::Wait::Unknown => wit::Wait::Unknown,
    }
}

fn reference(it: sdk::Reference) -> wit::Reference {
    wit::Reference { object: it.object, id: it.id }
}

fn observed(it: sdk::Observed) -> wit::Observed {
    let state = match it.state {
        sdk::State::Touched => wit::State::Touched,
        sdk::State::Partial(document) => wit::State::Partial(document),
        sdk::State::Whole(document) => wit::State::Whole(document),
        sdk::State::Gone(sdk::Proof::Confirmed) => wit::State::Gone(wit::Proof::Confirmed),
        sdk::State::Gone(sdk::Proof::Unconfirmed) => wit::State::Gone(wit::Proof::Unconfirmed),
        sdk::State::Moved(to) => wit::State::Moved(reference(to)),
    };
    wit::Observed {
        object: it.object,
        id: it.id,
        state,
        version: it.version,
        stamp: it.stamp,
        key: it.key,
        keep: it.keep,
        author: it.author,
        account: it.account,
        attributes: attributes(it.attributes),
    }
}

fn written(it: sdk::Written) -> wit::Written {
    wit::Written { observed: observed(it.observed), unapplied: problems(it.unapplied) }
}

fn request(it: sdk::Request) -> wit::HttpRequest {
    wit::HttpRequest {
        method: it.method,
        target: match it.target {
            sdk::Target::Path(path) => wit::Target::Path(path),
            sdk::Target::Url(url) => wit::Target::Url(url),
        },
        headers: attributes(it.headers),
        body: it.body,
        charges: it
            .charges
            .into_iter()
            .map(|charge| wit::Charge { quota: charge.quota, amount: charge.amount })
            .collect(),
        repeatable: it.repeatable,
        secrets: it
            .secrets
            .into_iter()
            .map(|it| wit::Placeholder { marker: it.marker, secret: it.secret, escape: it.escape })
            .collect(),
    }
}

fn answer(it: sdk::Answer) -> wit::Answer {
    match it {
        sdk::Answer::Send(step) => wit::Answer::Send(wit::Step {
            request: request(step.request),
            note: step.note,
            so_far: step.so_far.map(written),
        }),
        sdk::Answer::Written(it) => wit::Answer::Written(written(*it)),
        sdk::Answer::Current(it) => wit::Answer::Current(observed(*it)),
        sdk::Answer::Found(rows) => wit::Answer::Found(rows.into_iter().map(observed).collect()),
        sdk::Answer::Page(page) => wit::Answer::Page(wit::Page {
            rows: page.rows.into_iter().map(observed).collect(),
            cursor: page.cursor,
            more: page.more,
        }),
        sdk::Answer::Watching { state, check_at } => wit::Answer::Watching(wit::Channel { state, check_at }),
        sdk::Answer::Facts(facts) => wit::Answer::Facts(facts),
        sdk::Answer::Exists(to) => wit::Answer::Exists(reference(to)),
        sdk::Answer::Refused => wit::Answer::Refused,
        sdk::Answer::Throttled { quota, wait: time } => {
            wit::Answer::Throttled(wit::Throttle { quota, wait: wait(time) })
        }
        sdk::Answer::Again { wait: time, took_effect } => {
            wit::Answer::Again((wait(time), took_effect.name().to_owned()))
        }
        sdk::Answer::Rejected(list) => wit::Answer::Rejected(problems(list)),
        sdk::Answer::Blocked { scope, problem: it } => {
            wit::Answer::Blocked(wit::Block { scope: scope.name().to_owned(), problem: problem(it) })
        }
        sdk::Answer::Unauthorised(why) => wit::Answer::Unauthorised(why),
        sdk::Answer::CursorLost(why) => wit::Answer::CursorLost(why),
        sdk::Answer::Other(name, value) => wit::Answer::Other((name, value)),
    }
}

fn reply(it: sdk::Reply) -> wit::Reply {
    wit::Reply {
        answer: answer(it.answer),
        quotas: it
            .quotas
            .into_iter()
            .map(|it| wit::QuotaState {
                quota: it.quota,
                limit: it.limit,
                remaining: it.remaining,
                resets: wait(it.resets),
            })
            .collect(),
    }
}
