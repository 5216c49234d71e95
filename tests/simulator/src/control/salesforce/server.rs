//! The server's side: routes below `/control/salesforce/orgs`. An org is named by its number or its id, or `all` where that makes sense.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::types::{
    NewSalesforceOrgs, NotedSalesforceCall, OutboundSettings, SalesforceCounts, SalesforceEditMany,
    SalesforceImport, SalesforceImported, SalesforceLimits, SalesforceLock, SalesforceMerge, SalesforceOrg,
    SalesforceRecord, SalesforceSettings, SalesforceWrite,
};
use crate::control::server::{Answer, Refusal, Shared, merged};
use crate::salesforce::contact::{Contact, User};
use crate::salesforce::contacts::Contacts;
use crate::salesforce::errors::ApiError;
use crate::salesforce::fields::Schema;
use crate::salesforce::ids;
use crate::salesforce::new_refresh;
use crate::salesforce::org::{Credentials, Opening, Org};
use crate::salesforce::people::{self, Deed};
use crate::world::World;
use crate::writes::NotedWrite;

const FIRST: u64 = 30_000_001;

pub(crate) fn router() -> Router<Shared> {
    const ORG: &str = "/control/salesforce/orgs/{org}";
    let of = |rest: &str| format!("{ORG}/{rest}");
    Router::new()
        .route("/control/salesforce/orgs", post(new_orgs).get(orgs))
        .route(&of("limits"), put(set_limits))
        .route(&of("settings"), patch(set_settings))
        .route(&of("outbound"), patch(set_outbound))
        .route(&of("expire-token"), post(expire))
        .route(&of("tokens"), get(tokens))
        .route(&of("counts"), get(counts))
        .route(&of("calls"), get(calls))
        .route(&of("writes"), get(writes))
        .route(&of("clear"), post(clear))
        .route(&of("contacts"), post(creates).get(dump))
        .route(&of("contacts/import"), post(imports))
        .route(&of("contacts/edit-many"), post(edits_of_many))
        .route(&of("contacts/merge"), post(merges))
        .route(&of("contacts/{id}"), patch(edits).delete(deletes))
        .route(&of("contacts/{id}/undelete"), post(undeletes))
        .route(&of("contacts/{id}/purge"), post(purges))
        .route(&of("contacts/{id}/touch"), post(touches))
        .route(&of("contacts/{id}/lock"), post(locks))
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::bad(format!("{}: {}", error.code, error.message))
    }
}

fn view(world: &World, org: &Org) -> SalesforceOrg {
    SalesforceOrg {
        portal_id: org.number,
        organization_id: org.id.clone(),
        instance_url: org.instance(world.api_url()).to_owned(),
        access_token: org.first_token.lock().clone(),
        refresh_token: org.refresh_token.lock().clone(),
        client_id: org.credentials.client_id.clone(),
        client_secret: org.credentials.client_secret.clone(),
        username: org.credentials.username.clone(),
        password: org.credentials.password.clone(),
        api_user_id: User::Integration.id(),
        person_user_id: User::Person.id(),
    }
}

fn find(world: &World, org: &str) -> Result<Vec<Arc<Org>>, Refusal> {
    let orgs = world.salesforce.orgs.read();
    if org == "all" {
        return Ok(orgs.values().cloned().collect());
    }
    let number = org.parse().ok().or_else(|| ids::number(ids::ORGANIZATION, org));
    let found = number.and_then(|number: u64| orgs.get(&number).cloned());
    Ok(vec![found.ok_or_else(|| Refusal::missing("org"))?])
}

fn find_one(world: &World, org: &str) -> Result<Arc<Org>, Refusal> {
    find(world, org)?.pop().ok_or_else(|| Refusal::missing("org"))
}

fn record_number(id: &str) -> Result<u64, Refusal> {
    ids::number(ids::CONTACT, id).ok_or_else(|| Refusal::bad(format!("{id} is not the id of a contact")))
}

fn record(contact: &Contact, schema: &Schema) -> SalesforceRecord {
    SalesforceRecord {
        id: contact.id(),
        object_id: contact.number,
        deleted: !contact.live(),
        master: contact.master.map(|master| ids::id(ids::CONTACT, master)),
        client: contact.client.clone(),
        values: contact.all(schema),
    }
}

fn check_outbound(outbound: &OutboundSettings, schema: &Schema) -> Result<(), Refusal> {
    let wrong = |url: &str| {
        url.parse::<http::Uri>().map_or(true, |uri| uri.scheme().is_none() || uri.authority().is_none())
    };
    match &outbound.target_url {
        Some(url) if wrong(url) => return Err(Refusal::bad("targetUrl is not an absolute URL")),
        Some(url) if url.starts_with("https:") && outbound.connect_to.is_none() => {
            return Err(Refusal::bad("an https target needs connectTo: messages are posted in plain HTTP"));
        }
        _ => {}
    }
    match outbound.fields.iter().find(|name| schema.find(name).is_none()) {
        Some(name) => Err(Refusal::bad(format!("outbound: there is no field {name}"))),
        None => Ok(()),
    }
}

async fn new_orgs(
    State(world): State<Shared>,
    Json(new): Json<NewSalesforceOrgs>,
) -> Answer<Vec<SalesforceOrg>> {
    let schema = Schema::new(&new.fields).map_err(Refusal::bad)?;
    check_outbound(&new.outbound, &schema)?;
    let count = new.count.unwrap_or(1);
    if new.username.is_some() && count > 1 {
        return Err(Refusal::bad("a user belongs to one org"));
    }
    let random = || world.dice.uuid().simple().to_string();
    let client_id = new.client_id.unwrap_or_else(|| format!("3MVG9{}", random()));
    let client_secret = new.client_secret.unwrap_or_else(random);
    let now = world.clock.now();
    let mut made = Vec::with_capacity(count);
    let mut orgs = world.salesforce.orgs.write();
    for _ in 0..count {
        let number = orgs.last_key_value().map_or(FIRST, |(number, _)| number + 1);
        let refresh_token = new_refresh(&world);
        let org = Arc::new(Org::open(Opening {
            number,
            credentials: Credentials {
                client_id: client_id.clone(),
                client_secret: client_secret.clone(),
                username: new.username.clone().unwrap_or_else(|| format!("integration@{number}.example.com")),
                password: new.password.clone().unwrap_or_else(random),
            },
            instance: new.instance.clone(),
            refresh_token: refresh_token.clone(),
            settings: new.settings,
            outbound: new.outbound.clone(),
            limits: new.limits,
            contacts: Contacts::new(schema.clone(), now),
        }));
        world.salesforce.give_refresh(&refresh_token, &org);
        *org.first_token.lock() = world.salesforce.issue(&world.dice, &org, now);
        made.push(view(&world, &org));
        orgs.insert(number, org);
    }
    Ok(Json(made))
}

async fn orgs(State(world): State<Shared>) -> Json<Vec<SalesforceOrg>> {
    Json(world.salesforce.orgs.read().values().map(|org| view(&world, org)).collect())
}

async fn set_limits(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(limits): Json<SalesforceLimits>,
) -> Answer<Value> {
    for org in find(&world, &org)? {
        org.quota.lock().limits = limits;
    }
    Ok(Json(json!({})))
}

async fn set_settings(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(given): Json<Map<String, Value>>,
) -> Answer<Value> {
    for org in find(&world, &org)? {
        let next: SalesforceSettings = merged(&*org.settings.read(), given.clone())?;
        org.set(next);
    }
    Ok(Json(json!({})))
}

async fn set_outbound(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(given): Json<Map<String, Value>>,
) -> Answer<Value> {
    for org in find(&world, &org)? {
        let current = org.outbound.read().clone();
        let next: OutboundSettings = merged(&*current, given.clone())?;
        check_outbound(&next, &org.contacts.lock().schema)?;
        *org.outbound.write() = Arc::new(next);
    }
    Ok(Json(json!({})))
}

async fn expire(State(world): State<Shared>, Path(org): Path<String>) -> Answer<Value> {
    let now = world.clock.now();
    let ended: usize = find(&world, &org)?.iter().map(|org| world.salesforce.expire(org.number, now)).sum();
    Ok(Json(json!({ "expired": ended })))
}

async fn tokens(State(world): State<Shared>, Path(org): Path<String>) -> Answer<Vec<String>> {
    let org = find_one(&world, &org)?;
    Ok(Json(world.salesforce.tokens_of(org.number)))
}

async fn counts(State(world): State<Shared>, Path(org): Path<String>) -> Answer<SalesforceCounts> {
    let mut sum = SalesforceCounts::default();
    for org in find(&world, &org)? {
        for (name, counts) in org.counts.snapshot() {
            let all = sum.operations.entry(name).or_default();
            all.calls += counts.calls;
            all.refused += counts.refused;
            all.throttled += counts.throttled;
            all.disturbed += counts.disturbed;
        }
        let contacts = org.contacts.lock();
        sum.live += contacts.records.values().filter(|contact| contact.live()).count();
        sum.deleted += contacts.records.values().filter(|contact| !contact.live() && !contact.purged).count();
        let own = org.outbox.counts();
        let all = &mut sum.outbound;
        all.notifications += own.notifications;
        all.messages += own.messages;
        all.acknowledged += own.acknowledged;
        all.failed += own.failed;
        all.given_up += own.given_up;
        all.lost += own.lost;
        all.duplicated += own.duplicated;
        all.under_way += own.under_way;
    }
    Ok(Json(sum))
}

async fn calls(State(world): State<Shared>, Path(org): Path<String>) -> Answer<Vec<NotedSalesforceCall>> {
    Ok(Json(find_one(&world, &org)?.calls()))
}

async fn writes(State(world): State<Shared>, Path(org): Path<String>) -> Answer<Vec<NotedWrite>> {
    let org = find_one(&world, &org)?;
    let all = org.contacts.lock().writes.lock().all();
    Ok(Json(all))
}

async fn clear(State(world): State<Shared>, Path(org): Path<String>) -> Answer<Value> {
    for org in find(&world, &org)? {
        org.contacts.lock().clear();
    }
    Ok(Json(json!({})))
}

async fn dump(State(world): State<Shared>, Path(org): Path<String>) -> Answer<Vec<SalesforceRecord>> {
    let org = find_one(&world, &org)?;
    let contacts = org.contacts.lock();
    let shown = contacts.records.values().filter(|contact| !contact.purged);
    Ok(Json(shown.map(|contact| record(contact, &contacts.schema)).collect()))
}

fn person(world: &Shared, org: &str, deed: Deed, quiet: bool) -> Answer<SalesforceRecord> {
    let org = find_one(world, org)?;
    let number = people::act(world, &org, deed, quiet)?;
    let contacts = org.contacts.lock();
    let contact = contacts.records.get(&number).ok_or_else(|| Refusal::missing("contact"))?;
    Ok(Json(record(contact, &contacts.schema)))
}

async fn creates(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(write): Json<SalesforceWrite>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Create(write.values), write.quiet)
}

async fn imports(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(import): Json<SalesforceImport>,
) -> Answer<SalesforceImported> {
    let org = find_one(&world, &org)?;
    let mut imported = SalesforceImported::default();
    for values in import.records {
        match people::act(&world, &org, Deed::Create(values), import.quiet) {
            Ok(number) => imported.ids.push(Some(ids::id(ids::CONTACT, number))),
            Err(error) => {
                imported.ids.push(None);
                imported.refused.push(Refusal::from(error).message());
            }
        }
    }
    Ok(Json(imported))
}

async fn edits_of_many(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(edit): Json<SalesforceEditMany>,
) -> Answer<SalesforceImported> {
    let org = find_one(&world, &org)?;
    let mut edited = SalesforceImported::default();
    for id in edit.ids {
        match people::act(&world, &org, Deed::Edit(record_number(&id)?, edit.values.clone()), false) {
            Ok(_) => edited.ids.push(Some(id)),
            Err(error) => {
                edited.ids.push(None);
                edited.refused.push(Refusal::from(error).message());
            }
        }
    }
    Ok(Json(edited))
}

async fn merges(
    State(world): State<Shared>,
    Path(org): Path<String>,
    Json(merge): Json<SalesforceMerge>,
) -> Answer<SalesforceRecord> {
    let losers = merge.losers.iter().map(|id| record_number(id)).collect::<Result<Vec<_>, _>>()?;
    person(&world, &org, Deed::Merge(record_number(&merge.master)?, losers, merge.values), false)
}

async fn edits(
    State(world): State<Shared>,
    Path((org, id)): Path<(String, String)>,
    Json(write): Json<SalesforceWrite>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Edit(record_number(&id)?, write.values), write.quiet)
}

async fn deletes(
    State(world): State<Shared>,
    Path((org, id)): Path<(String, String)>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Delete(record_number(&id)?), false)
}

async fn undeletes(
    State(world): State<Shared>,
    Path((org, id)): Path<(String, String)>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Undelete(record_number(&id)?), false)
}

async fn purges(
    State(world): State<Shared>,
    Path((org, id)): Path<(String, String)>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Purge(record_number(&id)?), false)
}

async fn touches(
    State(world): State<Shared>,
    Path((org, id)): Path<(String, String)>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Touch(record_number(&id)?), false)
}

async fn locks(
    State(world): State<Shared>,
    Path((org, id)): Path<(String, String)>,
    Json(lock): Json<SalesforceLock>,
) -> Answer<SalesforceRecord> {
    person(&world, &org, Deed::Lock(record_number(&id)?, i64::from(lock.ms)), false)
}
