//! The part of the control API that is Pipedrive's: accounts, limits, settings, people, counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::account::{Account, Grant, SCOPES};
use super::control::{
    NewPipedriveAccounts, PipedriveAccount, PipedriveAccounts, PipedriveBulkEdit, PipedriveCounts,
    PipedriveDeed, PipedriveDeeds, PipedriveDump, PipedriveMerge, PipedrivePersonWrite, PipedriveQuota,
    PipedriveSettings, PipedriveWebhook,
};
use super::delivery::AT_ONCE;
use super::hooks::Hooks;
use super::oauth::{consent, hold, issue};
use super::people::{Deed, act};
use super::person::Shown;
use super::persons::Persons;
use super::quota::{Kind, Quota};
use super::{errors, field_paths};
use crate::control::server::Refusal;
use crate::control::types::{Code, Imported, NotedCall, NotedWrite};
use crate::operation::Counters;
use crate::world::World;

type Shared = Arc<World>;
type Answer<T> = Result<Json<T>, Refusal>;

impl From<errors::Refusal> for Refusal {
    fn from(refusal: errors::Refusal) -> Self {
        Self::bad(refusal.message())
    }
}

/// All routes.
pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/control/pipedrive/accounts", post(new_accounts).get(accounts))
        .route("/control/pipedrive/accounts/{company}/quota", put(set_quota))
        .route("/control/pipedrive/accounts/{company}/settings", patch(set_settings))
        .route("/control/pipedrive/accounts/{company}/expire-token", post(expire_token))
        .route("/control/pipedrive/accounts/{company}/authorization-code", post(authorization_code))
        .route("/control/pipedrive/accounts/{company}/counts", get(counts))
        .route("/control/pipedrive/accounts/{company}/calls", get(calls))
        .route("/control/pipedrive/accounts/{company}/writes", get(writes))
        .route("/control/pipedrive/accounts/{company}/webhooks", get(webhooks))
        .route("/control/pipedrive/accounts/{company}/clear", post(clear))
        .route("/control/pipedrive/accounts/{company}/persons", post(creates).get(dump))
        .route("/control/pipedrive/accounts/{company}/persons/bulk", post(edits_many))
        .route("/control/pipedrive/accounts/{company}/persons/merge", post(merges))
        .route("/control/pipedrive/accounts/{company}/persons/{id}", patch(edits).delete(deletes))
        .route("/control/pipedrive/accounts/{company}/persons/{id}/restore", post(restores))
        .route("/control/pipedrive/people", post(people_act))
}

/// The account of this company, or all of them for `all`.
fn find(world: &World, company: &str) -> Result<Vec<Arc<Account>>, Refusal> {
    let accounts = world.pipedrive.accounts.read();
    if company == "all" {
        return Ok(accounts.values().cloned().collect());
    }
    let found = company.parse().ok().and_then(|company: u64| accounts.get(&company).cloned());
    Ok(vec![found.ok_or_else(|| Refusal::missing("account"))?])
}

fn find_one(world: &World, company: &str) -> Result<Arc<Account>, Refusal> {
    find(world, company)?.pop().ok_or_else(|| Refusal::missing("account"))
}

fn make(world: &World, new: &NewPipedriveAccounts) -> Result<Vec<PipedriveAccount>, Refusal> {
    let zone = new.time_zone.clone().unwrap_or_else(|| "UTC".to_owned());
    let tz = jiff::tz::TimeZone::get(&zone).map_err(|_| Refusal::bad(format!("no time zone {zone}")))?;
    let now = world.clock.now();
    let uuid = || world.dice.uuid().simple().to_string();
    let client_id = new.client_id.clone().unwrap_or_else(uuid);
    let client_secret = new.client_secret.clone().unwrap_or_else(uuid);
    let pipedrive = &world.pipedrive;
    let mut made = Vec::with_capacity(new.count);
    let first = {
        let accounts = pipedrive.accounts.read();
        let free = accounts.last_key_value().map_or(12_000_001, |(company, _)| company + 1);
        new.first_company_id.unwrap_or(free)
    };
    for company in first..first + new.count as u64 {
        let mut persons = Persons::default();
        let mut keys = BTreeMap::new();
        for given in &new.fields {
            let field = persons.fields.define(given, field_paths::key(&world.dice))?;
            keys.insert(field.name, field.code);
        }
        let info = PipedriveAccount {
            company_id: company,
            company_domain: format!("company-{company}"),
            user_id: company + 1_000_000,
            api_token: uuid(),
            access_token: String::new(),
            expires_in: 0,
            refresh_token: format!("{company}:{}", uuid()),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            api_domain: new.api_domain.clone().unwrap_or_else(|| world.api_url().to_owned()),
            fields: keys,
        };
        let account = Arc::new(Account {
            company,
            domain: info.company_domain.clone(),
            user: info.user_id,
            currency: new.currency.clone().unwrap_or_else(|| "EUR".to_owned()),
            zone: zone.clone(),
            organizations: new.organizations.clone(),
            scopes: new
                .scopes
                .clone()
                .unwrap_or_else(|| SCOPES.iter().map(|scope| (*scope).to_owned()).collect()),
            settings: RwLock::default(),
            quota: Mutex::new(Quota::new(new.quota, tz.clone())),
            persons: Mutex::new(persons),
            hooks: Mutex::new(Hooks::default()),
            posting: Semaphore::new(AT_ONCE),
            counts: Counters::default(),
            journal: Mutex::default(),
            info: RwLock::new(info),
        });
        account.set(new.settings.clone());
        {
            let mut accounts = pipedrive.accounts.write();
            if accounts.contains_key(&company) {
                return Err(Refusal::bad(format!("account {company} exists")));
            }
            accounts.insert(company, account.clone());
        }
        let (token, seconds) = issue(pipedrive, &world.dice, &account, now);
        let info = {
            let mut info = account.info.write();
            info.access_token = token;
            info.expires_in = seconds;
            info.clone()
        };
        pipedrive.give(&info.api_token, Grant::new(account.clone(), Kind::ApiToken, i64::MAX));
        hold(pipedrive, &info.refresh_token, &account, now);
        made.push(info);
    }
    Ok(made)
}

async fn new_accounts(
    State(world): State<Shared>,
    Json(new): Json<NewPipedriveAccounts>,
) -> Answer<PipedriveAccounts> {
    Ok(Json(PipedriveAccounts { accounts: make(&world, &new)? }))
}

async fn accounts(State(world): State<Shared>) -> Json<PipedriveAccounts> {
    let accounts = world.pipedrive.accounts.read();
    Json(PipedriveAccounts { accounts: accounts.values().map(|one| one.info.read().clone()).collect() })
}

async fn set_quota(
    State(world): State<Shared>,
    Path(company): Path<String>,
    Json(sizes): Json<PipedriveQuota>,
) -> Answer<Value> {
    for account in find(&world, &company)? {
        account.quota.lock().resize(sizes);
    }
    Ok(Json(json!({})))
}

async fn set_settings(
    State(world): State<Shared>,
    Path(company): Path<String>,
    Json(given): Json<Map<String, Value>>,
) -> Answer<Value> {
    for account in find(&world, &company)? {
        let mut value =
            serde_json::to_value(&*account.settings()).map_err(|e| Refusal::bad(e.to_string()))?;
        if let Some(members) = value.as_object_mut() {
            members.extend(given.clone());
        }
        let next: PipedriveSettings =
            serde_json::from_value(value).map_err(|e| Refusal::bad(e.to_string()))?;
        account.set(next);
    }
    Ok(Json(json!({})))
}

async fn expire_token(State(world): State<Shared>, Path(company): Path<String>) -> Answer<Value> {
    let now = world.clock.now();
    let accounts = find(&world, &company)?;
    let ended: usize = accounts.iter().map(|one| world.pipedrive.expire(one.company, now)).sum();
    Ok(Json(json!({ "expired": ended })))
}

async fn authorization_code(State(world): State<Shared>, Path(company): Path<String>) -> Answer<Code> {
    let account = find_one(&world, &company)?;
    let code = world.dice.uuid().simple().to_string();
    consent(&world.pipedrive, &code, &account, world.clock.now());
    Ok(Json(Code { code }))
}

async fn counts(State(world): State<Shared>, Path(company): Path<String>) -> Answer<PipedriveCounts> {
    let now = world.clock.now();
    let mut sum = PipedriveCounts::default();
    for account in find(&world, &company)? {
        let one = account.counts(now);
        sum.live += one.live;
        sum.deleted += one.deleted;
        sum.tokens += one.tokens;
        for (name, counts) in one.operations {
            let total = sum.operations.entry(name).or_default();
            total.calls += counts.calls;
            total.refused += counts.refused;
            total.throttled += counts.throttled;
            total.disturbed += counts.disturbed;
        }
        let (all, own) = (&mut sum.webhooks, one.webhooks);
        all.events += own.events;
        all.attempts += own.attempts;
        all.delivered += own.delivered;
        all.failed += own.failed;
        all.given_up += own.given_up;
        all.banned += own.banned;
        all.lost += own.lost;
        all.under_way += own.under_way;
    }
    Ok(Json(sum))
}

async fn calls(State(world): State<Shared>, Path(company): Path<String>) -> Answer<Vec<NotedCall>> {
    let account = find_one(&world, &company)?;
    let mut calls: Vec<NotedCall> = account
        .journal
        .lock()
        .iter()
        .map(|noted| NotedCall {
            at: noted.at,
            operation: noted.operation.name().to_owned(),
            status: noted.status,
        })
        .collect();
    calls.sort_by_key(|call| call.at);
    Ok(Json(calls))
}

async fn writes(State(world): State<Shared>, Path(company): Path<String>) -> Answer<Vec<NotedWrite>> {
    let account = find_one(&world, &company)?;
    let writes = account.persons.lock().writes.all();
    Ok(Json(writes))
}

async fn webhooks(State(world): State<Shared>, Path(company): Path<String>) -> Answer<Vec<PipedriveWebhook>> {
    let account = find_one(&world, &company)?;
    let seen = account.hooks.lock().seen(world.clock.now());
    Ok(Json(seen))
}

async fn clear(State(world): State<Shared>, Path(company): Path<String>) -> Answer<Value> {
    for account in find(&world, &company)? {
        account.persons.lock().clear();
    }
    Ok(Json(json!({})))
}

async fn dump(State(world): State<Shared>, Path(company): Path<String>) -> Answer<PipedriveDump> {
    let account = find_one(&world, &company)?;
    let shown = Shown { synced: account.settings().contact_sync, ..Shown::default() };
    let persons = account.persons.lock();
    Ok(Json(PipedriveDump {
        persons: persons.all(world.clock.now()).map(|person| person.view(&persons.fields, &shown)).collect(),
        merged: persons.merged().clone(),
    }))
}

/// A deed whose outcome is one person.
fn one(world: &Shared, company: &str, deed: Deed, quiet: bool) -> Answer<Value> {
    let account = find_one(world, company)?;
    let mut people = act(world, &account, deed, quiet)?;
    people.pop().map(Json).ok_or_else(|| Refusal::bad("nobody was named"))
}

async fn creates(
    State(world): State<Shared>,
    Path(company): Path<String>,
    Json(write): Json<PipedrivePersonWrite>,
) -> Answer<Value> {
    one(&world, &company, Deed::Create(write.members), write.quiet)
}

async fn edits(
    State(world): State<Shared>,
    Path((company, id)): Path<(String, u64)>,
    Json(write): Json<PipedrivePersonWrite>,
) -> Answer<Value> {
    one(&world, &company, Deed::Edit(id, write.members), write.quiet)
}

async fn deletes(State(world): State<Shared>, Path((company, id)): Path<(String, u64)>) -> Answer<Value> {
    one(&world, &company, Deed::Delete(id), false)
}

async fn restores(State(world): State<Shared>, Path((company, id)): Path<(String, u64)>) -> Answer<Value> {
    one(&world, &company, Deed::Restore(id), false)
}

async fn merges(
    State(world): State<Shared>,
    Path(company): Path<String>,
    Json(merge): Json<PipedriveMerge>,
) -> Answer<Value> {
    one(&world, &company, Deed::Merge(merge.loser, merge.survivor), false)
}

async fn edits_many(
    State(world): State<Shared>,
    Path(company): Path<String>,
    Json(edit): Json<PipedriveBulkEdit>,
) -> Answer<Vec<Value>> {
    let account = find_one(&world, &company)?;
    Ok(Json(act(&world, &account, Deed::Bulk(edit.ids, edit.members), false)?))
}

async fn people_act(State(world): State<Shared>, Json(asked): Json<PipedriveDeeds>) -> Json<Imported> {
    let mut done = Imported::default();
    for deed in asked.deeds {
        let (company, deed) = match deed {
            PipedriveDeed::Create { company_id, members } => (company_id, Deed::Create(members)),
            PipedriveDeed::Edit { company_id, id, members } => (company_id, Deed::Edit(id, members)),
            PipedriveDeed::Delete { company_id, id } => (company_id, Deed::Delete(id)),
        };
        match one(&world, &company.to_string(), deed, false) {
            Ok(Json(person)) => done.ids.push(person.get("id").and_then(Value::as_u64)),
            Err(refusal) => {
                done.ids.push(None);
                done.refused.push(refusal.message());
            }
        }
    }
    Json(done)
}
