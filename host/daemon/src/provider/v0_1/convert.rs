//! Between the generated types and the host's own. `to_…` goes into the sandbox and borrows, the others come out of it.

use tandem_core::exchange as host;

use super::bindings::tandem::provider::types as wit;

/// Lists that an operation refers to while it is being lent.
pub(super) struct Lists<'a> {
    attributes: Vec<wit::AttributeParam<'a>>,
    words: Vec<&'a str>,
}

pub(super) fn to_attributes(attributes: &[host::Attribute]) -> Vec<wit::AttributeParam<'_>> {
    attributes.iter().map(|a| wit::AttributeParam { name: &a.name, value: &a.value }).collect()
}

pub(super) fn to_lists(operation: &host::Operation) -> Lists<'_> {
    let (attributes, words): (&[host::Attribute], &[String]) = match operation {
        host::Operation::Find(find) => (&find.identity, &[]),
        host::Operation::Write(write) => (&write.attributes, &write.changed),
        host::Operation::Watch(watch) => (&[], &watch.objects),
        _ => (&[], &[]),
    };
    Lists { attributes: to_attributes(attributes), words: to_words(words) }
}

pub(super) fn to_words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn to_listing(listing: &host::Listing) -> wit::Listing<'_> {
    wit::Listing { object: &listing.object, cursor: listing.cursor.as_deref(), limit: listing.limit }
}

pub(super) fn to_operation<'a>(operation: &'a host::Operation, lists: &'a Lists<'a>) -> wit::Operation<'a> {
    match operation {
        host::Operation::Probe => wit::Operation::Probe,
        host::Operation::Discover(object) => wit::Operation::Discover(object),
        host::Operation::Read(read) => wit::Operation::Read(wit::Read { object: &read.object, id: &read.id }),
        host::Operation::Find(find) => wit::Operation::Find(wit::Find {
            object: &find.object,
            key: find.key.as_deref(),
            identity: &lists.attributes,
        }),
        host::Operation::Write(write) => wit::Operation::Write(wit::Write {
            object: &write.object,
            id: write.id.as_deref(),
            document: &write.document,
            changed: &lists.words,
            version: write.version.as_deref(),
            stamp: write.stamp,
            key: &write.key,
            keep: write.keep.as_deref(),
            previous: write.previous.as_deref(),
            attributes: &lists.attributes,
        }),
        host::Operation::Remove(remove) => wit::Operation::Remove(wit::Remove {
            object: &remove.object,
            id: &remove.id,
            version: remove.version.as_deref(),
            stamp: remove.stamp,
        }),
        host::Operation::Changes(listing) => wit::Operation::Changes(to_listing(listing)),
        host::Operation::Walk(listing) => wit::Operation::Walk(to_listing(listing)),
        host::Operation::Watch(watch) => wit::Operation::Watch(wit::Watch {
            callback: &watch.callback,
            objects: &lists.words,
            channel: watch.channel.as_deref(),
            active: watch.active,
        }),
        host::Operation::Other(name, arguments) => wit::Operation::Other((name, arguments)),
    }
}

fn attributes(attributes: Vec<wit::AttributeResult>) -> Vec<host::Attribute> {
    attributes.into_iter().map(|a| host::Attribute { name: a.name, value: a.value }).collect()
}

pub(super) fn problem(problem: wit::Problem) -> host::Problem {
    host::Problem { code: problem.code, message: problem.message, pointer: problem.pointer }
}

fn problems(problems: Vec<wit::Problem>) -> Vec<host::Problem> {
    problems.into_iter().map(problem).collect()
}

fn reference(reference: wit::Reference) -> host::Reference {
    host::Reference { object: reference.object, id: reference.id }
}

pub(super) fn observed(observed: wit::Observed) -> host::Observed {
    host::Observed {
        object: observed.object,
        id: observed.id,
        state: match observed.state {
            wit::State::Touched => host::State::Touched,
            wit::State::Partial(document) => host::State::Partial(document),
            wit::State::Whole(document) => host::State::Whole(document),
            wit::State::Gone(wit::Proof::Confirmed) => host::State::Gone(host::Proof::Confirmed),
            wit::State::Gone(wit::Proof::Unconfirmed) => host::State::Gone(host::Proof::Unconfirmed),
            wit::State::Moved(to) => host::State::Moved(reference(to)),
        },
        version: observed.version,
        stamp: observed.stamp,
        key: observed.key,
        keep: observed.keep,
        author: observed.author,
        account: observed.account,
        attributes: attributes(observed.attributes),
    }
}

fn written(written: wit::Written) -> host::Written {
    host::Written { observed: observed(written.observed), unapplied: problems(written.unapplied) }
}

fn wait(wait: wit::Wait) -> host::Wait {
    match wait {
        wit::Wait::Until(moment) => host::Wait::Until(moment),
        wit::Wait::Unknown => host::Wait::Unknown,
    }
}

fn request(request: wit::HttpRequest) -> host::HttpRequest {
    host::HttpRequest {
        method: request.method,
        target: match request.target {
            wit::Target::Path(path) => host::Target::Path(path),
            wit::Target::Url(url) => host::Target::Url(url),
        },
        headers: attributes(request.headers),
        body: request.body,
        charges: request
            .charges
            .into_iter()
            .map(|charge| host::Charge { quota: charge.quota, amount: charge.amount })
            .collect(),
        repeatable: request.repeatable,
        secrets: request
            .secrets
            .into_iter()
            .map(|place| host::Placeholder {
                marker: place.marker,
                secret: place.secret,
                escape: place.escape,
            })
            .collect(),
    }
}

fn answer(answer: wit::Answer) -> host::Answer {
    match answer {
        wit::Answer::Send(step) => host::Answer::Send(host::Step {
            request: request(step.request),
            note: step.note,
            so_far: step.so_far.map(written),
        }),
        wit::Answer::Written(done) => host::Answer::Written(written(done)),
        wit::Answer::Current(seen) => host::Answer::Current(observed(seen)),
        wit::Answer::Found(rows) => host::Answer::Found(rows.into_iter().map(observed).collect()),
        wit::Answer::Page(page) => host::Answer::Page(host::Page {
            rows: page.rows.into_iter().map(observed).collect(),
            cursor: page.cursor,
            more: page.more,
        }),
        wit::Answer::Watching(channel) => {
            host::Answer::Watching(host::Channel { state: channel.state, check_at: channel.check_at })
        }
        wit::Answer::Facts(facts) => host::Answer::Facts(facts),
        wit::Answer::Exists(existing) => host::Answer::Exists(reference(existing)),
        wit::Answer::Refused => host::Answer::Refused,
        wit::Answer::Throttled(throttle) => {
            host::Answer::Throttled(host::Throttle { quota: throttle.quota, wait: wait(throttle.wait) })
        }
        wit::Answer::Again((when, effect)) => host::Answer::Again(wait(when), effect),
        wit::Answer::Rejected(list) => host::Answer::Rejected(problems(list)),
        wit::Answer::Blocked(block) => {
            host::Answer::Blocked(host::Block { scope: block.scope, problem: problem(block.problem) })
        }
        wit::Answer::Unauthorised(why) => host::Answer::Unauthorised(why),
        wit::Answer::CursorLost(why) => host::Answer::CursorLost(why),
        wit::Answer::Other((name, value)) => host::Answer::Other(name, value),
    }
}

pub(super) fn reply(reply: wit::Reply) -> host::Reply {
    host::Reply {
        answer: answer(reply.answer),
        quotas: reply
            .quotas
            .into_iter()
            .map(|state| host::QuotaState {
                quota: state.quota,
                limit: state.limit,
                remaining: state.remaining,
                resets: wait(state.resets),
            })
            .collect(),
    }
}

pub(super) fn ruling(ruling: wit::Ruling) -> host::Ruling {
    host::Ruling {
        decision: match ruling.decision {
            wit::Decision::Sync => host::Decision::Sync,
            wit::Decision::Skip(why) => host::Decision::Skip(why),
            wit::Decision::Hold(why) => host::Decision::Hold(why),
            wit::Decision::Remove(why) => host::Decision::Remove(why),
            wit::Decision::Read => host::Decision::Read,
        },
        rule: ruling.rule,
    }
}
