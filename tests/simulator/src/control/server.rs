//! The control API's server.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::types::{
    AccountInfo, AccountList, AccountSettings, Advance, AppInfo, ClockInfo, Code, Counts, Dump, FaultId,
    FaultList, FaultOrder, Imported, NewAccounts, NewApp, NewAppWithAccounts, NewRestAccount, NotedCall,
    NotedWrite, PersonBulkEdit, PersonDeed, PersonDeeds, PersonImport, PersonMerge, PersonWrite, QuotaSizes,
    Record, RestAccount, RestCounts, TokenKind, Violations, WebhookSettings,
};
use crate::hubspot::account::{Account, Grant, Opening, SCOPES};
use crate::hubspot::contact::Contact;
use crate::hubspot::errors::ApiError;
use crate::hubspot::people::{self, Deed};
use crate::hubspot::webhooks::App;
use crate::hubspot::{define_property, issue_token};
use crate::world::World;

pub(super) type Shared = Arc<World>;

/// A refusal of the control API.
#[derive(Debug)]
pub(crate) struct Refusal(StatusCode, Value);

impl Refusal {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, json!({ "message": message.into() }))
    }

    pub(crate) fn missing(what: &str) -> Self {
        Self(StatusCode::NOT_FOUND, json!({ "message": format!("no such {what}") }))
    }

    /// In words.
    pub(crate) fn message(&self) -> String {
        self.1.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error.status, error.into_body(""))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

pub(super) type Answer<T> = Result<Json<T>, Refusal>;

/// All routes.
pub(crate) fn router(world: Shared) -> Router {
    Router::new()
        .route("/control/apps", post(new_app).get(apps))
        .route("/control/apps/{app}", get(app_info))
        .route("/control/apps/{app}/webhooks", patch(set_webhooks))
        .route("/control/accounts", post(new_accounts).get(accounts))
        .route("/control/accounts/{portal}/quota", put(set_quota))
        .route("/control/accounts/{portal}/settings", patch(set_settings))
        .route("/control/accounts/{portal}/expire-token", post(expire_token))
        .route("/control/accounts/{portal}/tokens", get(tokens))
        .route("/control/accounts/{portal}/authorization-code", post(authorization_code))
        .route("/control/accounts/{portal}/counts", get(account_counts))
        .route("/control/accounts/{portal}/calls", get(account_calls))
        .route("/control/accounts/{portal}/writes", get(account_writes))
        .route("/control/accounts/{portal}/clear", post(clear_account))
        .route("/control/accounts/{portal}/contacts", post(person_creates).get(dump))
        .route("/control/accounts/{portal}/contacts/bulk", post(person_edits_many))
        .route("/control/accounts/{portal}/contacts/import", post(person_imports))
        .route("/control/accounts/{portal}/contacts/merge", post(person_merges))
        .route("/control/accounts/{portal}/contacts/{id}", patch(person_edits).delete(person_deletes))
        .route("/control/accounts/{portal}/contacts/{id}/restore", post(person_restores))
        .route("/control/accounts/{portal}/contacts/{id}/erase", post(person_erases))
        .route("/control/people", post(people_act))
        .route("/control/faults", post(order_fault).get(faults).delete(clear_faults))
        .route("/control/faults/{id}", delete(withdraw_fault))
        .route("/control/counts", get(counts))
        .route("/control/violations", get(violations).delete(clear_violations))
        .route("/control/clock", post(advance).get(clock))
        .route("/control/rest/accounts", post(new_rest_account).get(rest_accounts))
        .route("/control/rest/accounts/{account}/target", put(aim_rest_account))
        .route("/control/rest/accounts/{account}/counts", get(rest_counts))
        .route("/control/rest/accounts/{account}/writes", get(rest_writes))
        .route("/control/rest/accounts/{account}/people", post(rest_person_creates).get(rest_dump))
        .route(
            "/control/rest/accounts/{account}/people/{id}",
            patch(rest_person_edits).delete(rest_person_deletes),
        )
        .merge(crate::pipedrive::control_api::router())
        .merge(super::salesforce::router())
        .route("/control/reset", post(reset))
        .route("/control/shutdown", post(shutdown))
        .layer(DefaultBodyLimit::max(256 << 20))
        .with_state(world)
}

async fn new_rest_account(
    State(world): State<Shared>,
    Json(new): Json<NewRestAccount>,
) -> Answer<RestAccount> {
    world.rest.make(&world, new).map(Json).ok_or_else(|| Refusal::bad("there is an account of that name"))
}

async fn rest_accounts(State(world): State<Shared>) -> Json<Vec<RestAccount>> {
    Json(world.rest.list())
}

async fn aim_rest_account(
    State(world): State<Shared>,
    Path(account): Path<String>,
    Json(target): Json<Option<String>>,
) -> Answer<Value> {
    if world.rest.aim(&account, target) { Ok(Json(json!({}))) } else { Err(Refusal::missing("account")) }
}

async fn rest_counts(State(world): State<Shared>, Path(account): Path<String>) -> Answer<RestCounts> {
    world.rest.counts(&account).map(Json).ok_or_else(|| Refusal::missing("account"))
}

async fn rest_writes(State(world): State<Shared>, Path(account): Path<String>) -> Answer<Vec<NotedWrite>> {
    world.rest.writes(&account).map(Json).ok_or_else(|| Refusal::missing("account"))
}

async fn rest_dump(State(world): State<Shared>, Path(account): Path<String>) -> Answer<Vec<Value>> {
    world.rest.dump(&account).map(Json).ok_or_else(|| Refusal::missing("account"))
}

async fn rest_person_creates(
    State(world): State<Shared>,
    Path(account): Path<String>,
    Json(members): Json<Map<String, Value>>,
) -> Answer<Value> {
    world.rest.person(&world, &account, None, Some(&members)).map(Json).map_err(Refusal::bad)
}

async fn rest_person_edits(
    State(world): State<Shared>,
    Path((account, id)): Path<(String, String)>,
    Json(members): Json<Map<String, Value>>,
) -> Answer<Value> {
    world.rest.person(&world, &account, Some(&id), Some(&members)).map(Json).map_err(Refusal::bad)
}

async fn rest_person_deletes(
    State(world): State<Shared>,
    Path((account, id)): Path<(String, String)>,
) -> Answer<Value> {
    world.rest.person(&world, &account, Some(&id), None).map(Json).map_err(Refusal::bad)
}

fn app_view(app: &App) -> AppInfo {
    AppInfo {
        app_id: app.id,
        name: app.name.clone(),
        client_id: app.client_id.clone(),
        client_secret: app.client_secret.clone(),
        developer_key: app.developer_key.clone(),
        webhooks: WebhookSettings::clone(&app.hooks.read()),
        counts: app.counts(),
    }
}

fn find_app(world: &World, id: u64) -> Result<Arc<App>, Refusal> {
    world.hubspot.apps.read().get(&id).cloned().ok_or_else(|| Refusal::missing("app"))
}

/// The account of this number, or all of them for `all`.
fn find(world: &World, portal: &str) -> Result<Vec<Arc<Account>>, Refusal> {
    let accounts = world.hubspot.accounts.read();
    if portal == "all" {
        return Ok(accounts.values().cloned().collect());
    }
    let found = portal.parse().ok().and_then(|portal: u64| accounts.get(&portal).cloned());
    Ok(vec![found.ok_or_else(|| Refusal::missing("account"))?])
}

fn find_one(world: &World, portal: &str) -> Result<Arc<Account>, Refusal> {
    find(world, portal)?.pop().ok_or_else(|| Refusal::missing("account"))
}

pub(crate) fn make_app(world: &World, new: NewApp) -> Result<AppInfo, Refusal> {
    check_webhooks(&new.webhooks)?;
    let mut apps = world.hubspot.apps.write();
    let id = apps.last_key_value().map_or(1_000_001, |(id, _)| id + 1);
    let uuid = || world.dice.uuid().to_string();
    let app = App::new(
        id,
        new.name.unwrap_or_else(|| format!("app {id}")),
        new.client_id.unwrap_or_else(uuid),
        new.client_secret.unwrap_or_else(uuid),
        uuid(),
        numbered(world, new.webhooks),
    );
    let view = app_view(&app);
    apps.insert(id, Arc::new(app));
    Ok(view)
}

fn check_webhooks(hooks: &WebhookSettings) -> Result<(), Refusal> {
    let wrong = |url: &str| {
        url.parse::<http::Uri>().map_or(true, |uri| uri.scheme().is_none() || uri.authority().is_none())
    };
    match &hooks.target_url {
        Some(url) if wrong(url) => Err(Refusal::bad("targetUrl is not an absolute URL")),
        Some(url) if url.starts_with("https:") && hooks.connect_to.is_none() => {
            Err(Refusal::bad("an https target needs connectTo: webhooks are posted in plain HTTP"))
        }
        _ => Ok(()),
    }
}

/// Gives numbers to subscriptions that have none.
fn numbered(world: &World, mut hooks: WebhookSettings) -> WebhookSettings {
    for subscription in hooks.subscriptions.iter_mut().flatten() {
        if subscription.id == 0 {
            subscription.id = world.dice.between(1_000_000, 9_999_999);
            subscription.active = true;
            subscription.created_at = world.clock.now();
        }
    }
    hooks
}

pub(crate) fn make_accounts(world: &World, new: &NewAccounts) -> Result<Vec<AccountInfo>, Refusal> {
    let app = find_app(world, new.app_id)?;
    let zone = new.time_zone.clone().unwrap_or_else(|| "America/New_York".to_owned());
    let tz = jiff::tz::TimeZone::get(&zone).map_err(|_| Refusal::bad(format!("no time zone {zone}")))?;
    let now = world.clock.now();
    let mut made = Vec::with_capacity(new.count);
    let mut accounts = world.hubspot.accounts.write();
    let first = match new.first_portal_id {
        Some(first) => first,
        None => accounts.last_key_value().map_or(20_000_001, |(portal, _)| portal + 1),
    };
    for portal in first..first + new.count as u64 {
        if accounts.contains_key(&portal) {
            return Err(Refusal::bad(format!("account {portal} exists")));
        }
        let default_sizes = match new.kind {
            TokenKind::Private => QuotaSizes::PRIVATE,
            TokenKind::Oauth => QuotaSizes::OAUTH,
        };
        let refresh_token = (new.kind == TokenKind::Oauth).then(|| format!("na1-{}", world.dice.uuid()));
        let account = Arc::new(Account::open(Opening {
            portal,
            app: app.clone(),
            kind: new.kind,
            zone: zone.clone(),
            tz: tz.clone(),
            currency: new.currency.clone().unwrap_or_else(|| "USD".to_owned()),
            scopes: new
                .scopes
                .clone()
                .unwrap_or_else(|| SCOPES.iter().map(|scope| (*scope).to_owned()).collect()),
            refresh_token: refresh_token.clone(),
            settings: new.settings,
            sizes: new.quota.unwrap_or(default_sizes),
            // Ids are unique in an account only: the same ones appear in each.
            first_id: 37_765_128_001,
        }));
        {
            let mut contacts = account.contacts.lock();
            contacts.index.freeze(new.settings.index_frozen);
            contacts.writes.keep(new.settings.journal);
            for property in &new.properties {
                define_property(&mut contacts, property, now)?;
            }
        }
        let (access_token, expires_in) = match new.kind {
            TokenKind::Private => {
                let token = format!("pat-na1-{}", world.dice.uuid());
                world.hubspot.give(&token, Grant::new(account.clone(), TokenKind::Private, i64::MAX));
                (token, None)
            }
            TokenKind::Oauth => {
                let (token, seconds) = issue_token(&world.hubspot, &world.dice, &account, now);
                (token, Some(seconds))
            }
        };
        if let Some(refresh) = &refresh_token {
            world.hubspot.give_refresh(refresh, &account);
        }
        *account.first_token.lock() = access_token.clone();
        made.push(AccountInfo {
            portal_id: portal,
            app_id: app.id,
            kind: new.kind,
            access_token,
            expires_in,
            refresh_token,
            time_zone: zone.clone(),
        });
        accounts.insert(portal, account);
    }
    Ok(made)
}

/// Makes apps with their accounts, as a file lists them.
pub(crate) fn make_all(world: &World, list: Vec<NewAppWithAccounts>) -> Result<(), Refusal> {
    for entry in list {
        let app = make_app(world, entry.app)?;
        for mut accounts in entry.accounts {
            accounts.app_id = app.app_id;
            make_accounts(world, &accounts)?;
        }
    }
    Ok(())
}

async fn new_app(State(world): State<Shared>, Json(new): Json<NewApp>) -> Answer<AppInfo> {
    make_app(&world, new).map(Json)
}

async fn apps(State(world): State<Shared>) -> Json<Vec<AppInfo>> {
    Json(world.hubspot.apps.read().values().map(|app| app_view(app)).collect())
}

async fn app_info(State(world): State<Shared>, Path(app): Path<u64>) -> Answer<AppInfo> {
    let app = find_app(&world, app)?;
    Ok(Json(app_view(&app)))
}

/// Members that are given replace those that are.
pub(super) fn merged<T: serde::Serialize + serde::de::DeserializeOwned>(
    current: &T,
    given: Map<String, Value>,
) -> Result<T, Refusal> {
    let mut value = serde_json::to_value(current).map_err(|e| Refusal::bad(e.to_string()))?;
    if let Some(members) = value.as_object_mut() {
        members.extend(given);
    }
    serde_json::from_value(value).map_err(|e| Refusal::bad(e.to_string()))
}

async fn set_webhooks(
    State(world): State<Shared>,
    Path(app): Path<u64>,
    Json(given): Json<Map<String, Value>>,
) -> Answer<AppInfo> {
    let app = find_app(&world, app)?;
    let current = app.hooks.read().clone();
    let next: WebhookSettings = merged(&*current, given)?;
    check_webhooks(&next)?;
    *app.hooks.write() = Arc::new(numbered(&world, next));
    Ok(Json(app_view(&app)))
}

async fn new_accounts(State(world): State<Shared>, Json(new): Json<NewAccounts>) -> Answer<AccountList> {
    Ok(Json(AccountList { accounts: make_accounts(&world, &new)? }))
}

async fn accounts(State(world): State<Shared>) -> Json<AccountList> {
    let accounts = world.hubspot.accounts.read();
    let accounts = accounts
        .values()
        .map(|account| AccountInfo {
            portal_id: account.portal,
            app_id: account.app.id,
            kind: account.kind,
            access_token: account.first_token.lock().clone(),
            expires_in: None,
            refresh_token: account.refresh_token.lock().clone(),
            time_zone: account.zone.clone(),
        })
        .collect();
    Json(AccountList { accounts })
}

async fn set_quota(
    State(world): State<Shared>,
    Path(portal): Path<String>,
    Json(sizes): Json<QuotaSizes>,
) -> Answer<Value> {
    for account in find(&world, &portal)? {
        account.quota.lock().resize(sizes);
    }
    Ok(Json(json!({})))
}

async fn set_settings(
    State(world): State<Shared>,
    Path(portal): Path<String>,
    Json(given): Json<Map<String, Value>>,
) -> Answer<Value> {
    for account in find(&world, &portal)? {
        let next: AccountSettings = merged(&*account.settings.read(), given.clone())?;
        let mut contacts = account.contacts.lock();
        contacts.index.freeze(next.index_frozen);
        contacts.writes.keep(next.journal);
        drop(contacts);
        *account.settings.write() = next;
    }
    Ok(Json(json!({})))
}

async fn expire_token(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Value> {
    let now = world.clock.now();
    let ended: usize = find(&world, &portal)?.iter().map(|a| world.hubspot.expire(a.portal, now)).sum();
    Ok(Json(json!({ "expired": ended })))
}

async fn tokens(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Vec<String>> {
    let account = find_one(&world, &portal)?;
    Ok(Json(world.hubspot.tokens_of(account.portal)))
}

async fn authorization_code(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Code> {
    let account = find_one(&world, &portal)?;
    let code = world.dice.uuid().to_string();
    world.hubspot.give_code(&code, &account);
    Ok(Json(Code { code }))
}

fn count(account: &Account) -> Counts {
    let (live, archived) = account.contacts.lock().count();
    Counts { operations: account.counts.snapshot(), live, archived }
}

async fn account_counts(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Counts> {
    Ok(Json(count(&*find_one(&world, &portal)?)))
}

async fn account_calls(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Vec<NotedCall>> {
    let account = find_one(&world, &portal)?;
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

async fn account_writes(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Vec<NotedWrite>> {
    let account = find_one(&world, &portal)?;
    let writes = account.contacts.lock().writes.all();
    Ok(Json(writes))
}

async fn counts(State(world): State<Shared>) -> Json<Counts> {
    let mut sum = Counts::default();
    for account in world.hubspot.accounts.read().values() {
        let one = count(account);
        sum.live += one.live;
        sum.archived += one.archived;
        for (name, counts) in one.operations {
            let total = sum.operations.entry(name).or_default();
            total.calls += counts.calls;
            total.refused += counts.refused;
            total.throttled += counts.throttled;
            total.disturbed += counts.disturbed;
        }
    }
    Json(sum)
}

async fn clear_account(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Value> {
    for account in find(&world, &portal)? {
        account.contacts.lock().clear();
    }
    Ok(Json(json!({})))
}

fn record(contact: &Contact) -> Record {
    Record {
        id: contact.id,
        archived: contact.archived.is_some(),
        created_at: contact.created,
        updated_at: contact.modified,
        properties: contact
            .values()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    }
}

async fn dump(State(world): State<Shared>, Path(portal): Path<String>) -> Answer<Dump> {
    let account = find_one(&world, &portal)?;
    let contacts = account.contacts.lock();
    let live = contacts.page(None, usize::MAX, false);
    let archived = contacts.page(None, usize::MAX, true);
    let redirects: BTreeMap<u64, u64> =
        contacts.redirects().map(|(from, _)| (from, contacts.resolve(from))).collect();
    drop(contacts);
    Ok(Json(Dump {
        records: live.iter().chain(&archived).map(|contact| record(contact)).collect(),
        redirects,
    }))
}

fn pairs(properties: BTreeMap<String, String>) -> Vec<(String, String)> {
    properties.into_iter().collect()
}

fn done(contact: Option<Arc<Contact>>) -> Json<Option<Record>> {
    Json(contact.map(|contact| record(&contact)))
}

fn person(world: &Shared, portal: &str, deed: Deed, quiet: bool) -> Answer<Option<Record>> {
    let account = find_one(world, portal)?;
    Ok(done(people::act(world, &account, deed, quiet)?))
}

async fn person_creates(
    State(world): State<Shared>,
    Path(portal): Path<String>,
    Json(write): Json<PersonWrite>,
) -> Answer<Option<Record>> {
    person(&world, &portal, Deed::Create(pairs(write.properties)), write.quiet)
}

async fn person_imports(
    State(world): State<Shared>,
    Path(portal): Path<String>,
    Json(import): Json<PersonImport>,
) -> Answer<Imported> {
    let quiet = import.quiet;
    let create = |properties| Deed::Create(pairs(properties));
    many(&world, &portal, import.records.into_iter().map(create), quiet)
}

async fn person_edits_many(
    State(world): State<Shared>,
    Path(portal): Path<String>,
    Json(edit): Json<PersonBulkEdit>,
) -> Answer<Imported> {
    let properties = pairs(edit.properties);
    many(&world, &portal, edit.ids.into_iter().map(|id| Deed::BulkEdit(id, properties.clone())), false)
}

/// Each on its own: one that is refused stops no other.
fn many(world: &Shared, portal: &str, deeds: impl Iterator<Item = Deed>, quiet: bool) -> Answer<Imported> {
    let account = find_one(world, portal)?;
    let mut done = Imported::default();
    for deed in deeds {
        match people::act(world, &account, deed, quiet) {
            Ok(contact) => done.ids.push(contact.map(|contact| contact.id)),
            Err(error) => {
                done.ids.push(None);
                done.refused.push(Refusal::from(error).message());
            }
        }
    }
    Ok(Json(done))
}

async fn people_act(State(world): State<Shared>, Json(asked): Json<PersonDeeds>) -> Json<Imported> {
    let mut done = Imported::default();
    for deed in asked.deeds {
        let (portal, deed) = match deed {
            PersonDeed::Create { portal, properties } => (portal, Deed::Create(pairs(properties))),
            PersonDeed::Edit { portal, id, properties } => (portal, Deed::Edit(id, pairs(properties))),
            PersonDeed::Delete { portal, id } => (portal, Deed::Delete(id)),
            PersonDeed::Repeat { portal, id } => (portal, Deed::Repeat(id)),
        };
        match person(&world, &portal.to_string(), deed, false) {
            Ok(Json(record)) => done.ids.push(record.map(|record| record.id)),
            Err(refusal) => {
                done.ids.push(None);
                done.refused.push(refusal.message());
            }
        }
    }
    Json(done)
}

async fn person_merges(
    State(world): State<Shared>,
    Path(portal): Path<String>,
    Json(merge): Json<PersonMerge>,
) -> Answer<Option<Record>> {
    person(&world, &portal, Deed::Merge(merge.primary, merge.other), false)
}

async fn person_edits(
    State(world): State<Shared>,
    Path((portal, id)): Path<(String, u64)>,
    Json(write): Json<PersonWrite>,
) -> Answer<Option<Record>> {
    person(&world, &portal, Deed::Edit(id, pairs(write.properties)), write.quiet)
}

async fn person_deletes(
    State(world): State<Shared>,
    Path((portal, id)): Path<(String, u64)>,
) -> Answer<Option<Record>> {
    person(&world, &portal, Deed::Delete(id), false)
}

async fn person_restores(
    State(world): State<Shared>,
    Path((portal, id)): Path<(String, u64)>,
) -> Answer<Option<Record>> {
    person(&world, &portal, Deed::Restore(id), false)
}

async fn person_erases(
    State(world): State<Shared>,
    Path((portal, id)): Path<(String, u64)>,
) -> Answer<Option<Record>> {
    person(&world, &portal, Deed::Erase(id), false)
}

async fn order_fault(State(world): State<Shared>, Json(order): Json<FaultOrder>) -> Answer<FaultId> {
    if !(0.0..=1.0).contains(&order.probability) {
        return Err(Refusal::bad("probability is not between 0 and 1"));
    }
    Ok(Json(FaultId { id: world.faults.add(order) }))
}

async fn faults(State(world): State<Shared>) -> Json<FaultList> {
    Json(FaultList { faults: world.faults.all() })
}

async fn clear_faults(State(world): State<Shared>) -> Json<Value> {
    world.faults.clear();
    Json(json!({}))
}

async fn withdraw_fault(State(world): State<Shared>, Path(id): Path<u64>) -> Answer<Value> {
    if world.faults.remove(id) { Ok(Json(json!({}))) } else { Err(Refusal::missing("fault")) }
}

async fn violations(State(world): State<Shared>) -> Json<Violations> {
    Json(world.strict.all())
}

async fn clear_violations(State(world): State<Shared>) -> Json<Value> {
    world.strict.clear();
    Json(json!({}))
}

async fn advance(State(world): State<Shared>, Json(step): Json<Advance>) -> Json<ClockInfo> {
    world.clock.advance(step.advance_ms);
    Json(ClockInfo { now: world.clock.now() })
}

async fn clock(State(world): State<Shared>) -> Json<ClockInfo> {
    Json(ClockInfo { now: world.clock.now() })
}

async fn reset(State(world): State<Shared>) -> Json<Value> {
    world.faults.clear();
    world.strict.clear();
    world.hubspot.clear();
    world.rest.clear();
    world.pipedrive.clear();
    world.salesforce.clear();
    Json(json!({}))
}

async fn shutdown(State(world): State<Shared>) -> Json<Value> {
    world.stop.send_replace(true);
    Json(json!({}))
}
