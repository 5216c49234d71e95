//! A typed client of the control API, for tests, the demo, the judge and the benchmark.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::types::{
    AccountInfo, AccountList, Advance, AppInfo, ClockInfo, Code, Counts, Dump, FaultId, FaultList,
    FaultOrder, Imported, NewAccounts, NewApp, NewRestAccount, NotedCall, NotedWrite, PersonBulkEdit,
    PersonDeed, PersonDeeds, PersonImport, PersonMerge, PersonWrite, QuotaSizes, Record, RestAccount,
    RestCounts, Violations,
};

/// Why a call of the control API failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The simulator did not answer.
    #[error("the simulator at {url} did not answer: {reason}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// It refused.
    #[error("the simulator refused {url} with {status}: {message}")]
    Refused {
        /// The path.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its reason.
        message: String,
    },
    /// Its answer has another shape than expected.
    #[error("the simulator's answer to {url} cannot be read: {reason}")]
    Unreadable {
        /// The path.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

pub(super) type Answer<T> = Result<T, ControlError>;

/// One account, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portal {
    /// This one.
    One(u64),
    /// Every one.
    All,
}

impl From<u64> for Portal {
    fn from(portal: u64) -> Self {
        Self::One(portal)
    }
}

impl std::fmt::Display for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(portal) => portal.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

/// Talks to the control API. Cheap to clone; belongs to the runtime in which it is first used.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client for a control address such as `http://127.0.0.1:4000`.
    pub fn new(base: impl Into<String>) -> Self {
        let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build(HttpConnector::new());
        Self { base: base.into().trim_end_matches('/').to_owned(), http }
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer<T> {
        let url = format!("{}{path}", self.base);
        let unreachable = |reason: String| ControlError::Unreachable { url: url.clone(), reason };
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(&url)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| unreachable(e.to_string()))?;
        let response = self.http.request(request).await.map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| unreachable(e.to_string()))?.to_bytes();
        if !status.is_success() {
            let message = String::from_utf8_lossy(&body).into_owned();
            return Err(ControlError::Refused { url, status: status.as_u16(), message });
        }
        serde_json::from_slice(&body).map_err(|e| ControlError::Unreadable { url, reason: e.to_string() })
    }

    /// Makes a generic REST account.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn create_rest_account(&self, new: &NewRestAccount) -> Answer<RestAccount> {
        self.send(Method::POST, "/control/rest/accounts", new).await
    }

    /// Sets where the events of a generic REST account go.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn aim_rest_account(&self, account: &str, target: Option<&str>) -> Answer<Value> {
        self.send(Method::PUT, &format!("/control/rest/accounts/{account}/target"), &target).await
    }

    /// Everybody of a generic REST account.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn rest_people(&self, account: &str) -> Answer<Vec<Value>> {
        self.get(&format!("/control/rest/accounts/{account}/people")).await
    }

    /// Calls of a generic REST account, or of `all` together.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn rest_counts(&self, account: &str) -> Answer<RestCounts> {
        self.get(&format!("/control/rest/accounts/{account}/counts")).await
    }

    /// The writes to the people of a generic REST account, oldest first, where it was made with a `journal`.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn rest_writes(&self, account: &str) -> Answer<Vec<NotedWrite>> {
        self.get(&format!("/control/rest/accounts/{account}/writes")).await
    }

    /// Somebody who works in the CRM creates a person.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn rest_person_creates(&self, account: &str, members: &Value) -> Answer<Value> {
        self.send(Method::POST, &format!("/control/rest/accounts/{account}/people"), members).await
    }

    /// Somebody who works in the CRM edits a person.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn rest_person_edits(&self, account: &str, id: &str, members: &Value) -> Answer<Value> {
        self.send(Method::PATCH, &format!("/control/rest/accounts/{account}/people/{id}"), members).await
    }

    /// Somebody who works in the CRM deletes a person.
    ///
    /// # Errors
    /// The simulator refused or did not answer.
    pub async fn rest_person_deletes(&self, account: &str, id: &str) -> Answer<Value> {
        self.call(Method::DELETE, &format!("/control/rest/accounts/{account}/people/{id}"), None).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Answer<T> {
        let body = serde_json::to_value(body)
            .map_err(|e| ControlError::Unreadable { url: path.to_owned(), reason: e.to_string() })?;
        self.call(method, path, Some(body)).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Answer<T> {
        self.send(Method::POST, path, body).await
    }

    /// Makes an app.
    pub async fn create_app(&self, new: &NewApp) -> Answer<AppInfo> {
        self.post("/control/apps", new).await
    }

    /// An app with the counts of its webhooks.
    pub async fn app(&self, app_id: u64) -> Answer<AppInfo> {
        self.get(&format!("/control/apps/{app_id}")).await
    }

    /// Changes some members of an app's webhook settings, such as `{"targetUrl": "http://…"}`.
    pub async fn set_webhooks(&self, app_id: u64, members: Value) -> Answer<AppInfo> {
        self.send(Method::PATCH, &format!("/control/apps/{app_id}/webhooks"), &members).await
    }

    /// Makes accounts.
    pub async fn create_accounts(&self, new: &NewAccounts) -> Answer<Vec<AccountInfo>> {
        self.post::<_, AccountList>("/control/accounts", new).await.map(|list| list.accounts)
    }

    /// All accounts, with the token that each was made with.
    pub async fn accounts(&self) -> Answer<Vec<AccountInfo>> {
        self.get::<AccountList>("/control/accounts").await.map(|list| list.accounts)
    }

    /// Sets the limits.
    pub async fn set_quota(&self, portal: impl Into<Portal>, sizes: QuotaSizes) -> Answer<()> {
        let path = format!("/control/accounts/{}/quota", portal.into());
        self.send::<_, Value>(Method::PUT, &path, &sizes).await.map(drop)
    }

    /// Changes some settings, such as `{"indexFrozen": true}`.
    pub async fn set_settings(&self, portal: impl Into<Portal>, members: Value) -> Answer<()> {
        let path = format!("/control/accounts/{}/settings", portal.into());
        self.send::<_, Value>(Method::PATCH, &path, &members).await.map(drop)
    }

    /// Ends all access tokens now, a private app's as well.
    pub async fn expire_token(&self, portal: impl Into<Portal>) -> Answer<()> {
        let path = format!("/control/accounts/{}/expire-token", portal.into());
        self.post::<_, Value>(&path, &json!({})).await.map(drop)
    }

    /// All access tokens that an account was ever given, in order of their text.
    pub async fn tokens(&self, portal: u64) -> Answer<Vec<String>> {
        self.get(&format!("/control/accounts/{portal}/tokens")).await
    }

    /// An authorisation code of an account.
    pub async fn authorization_code(&self, portal: u64) -> Answer<String> {
        let path = format!("/control/accounts/{portal}/authorization-code");
        self.post::<_, Code>(&path, &json!({})).await.map(|code| code.code)
    }

    /// The calls that came to an account, oldest first, since its settings asked for a `journal`.
    pub async fn calls(&self, portal: u64) -> Answer<Vec<NotedCall>> {
        self.get(&format!("/control/accounts/{portal}/calls")).await
    }

    /// The writes to the records of an account, oldest first, since its settings asked for a `journal`.
    pub async fn writes(&self, portal: u64) -> Answer<Vec<NotedWrite>> {
        self.get(&format!("/control/accounts/{portal}/writes")).await
    }

    /// Counts of one account.
    pub async fn account_counts(&self, portal: u64) -> Answer<Counts> {
        self.get(&format!("/control/accounts/{portal}/counts")).await
    }

    /// Counts of all accounts together.
    pub async fn counts(&self) -> Answer<Counts> {
        self.get("/control/counts").await
    }

    /// Removes all records without any event.
    pub async fn clear_account(&self, portal: impl Into<Portal>) -> Answer<()> {
        let path = format!("/control/accounts/{}/clear", portal.into());
        self.post::<_, Value>(&path, &json!({})).await.map(drop)
    }

    /// All records of an account.
    pub async fn dump(&self, portal: u64) -> Answer<Dump> {
        self.get(&format!("/control/accounts/{portal}/contacts")).await
    }

    /// A person creates a contact.
    pub async fn person_creates(&self, portal: u64, properties: &[(&str, &str)]) -> Answer<Record> {
        let path = format!("/control/accounts/{portal}/contacts");
        self.post(&path, &person_write(properties)).await
    }

    /// A person edits a contact: one save of all these properties.
    pub async fn person_edits(&self, portal: u64, id: u64, properties: &[(&str, &str)]) -> Answer<Record> {
        let path = format!("/control/accounts/{portal}/contacts/{id}");
        self.send(Method::PATCH, &path, &person_write(properties)).await
    }

    /// A person deletes a contact (it can be restored).
    pub async fn person_deletes(&self, portal: u64, id: u64) -> Answer<Record> {
        self.call(Method::DELETE, &format!("/control/accounts/{portal}/contacts/{id}"), None).await
    }

    /// A person restores a deleted contact.
    pub async fn person_restores(&self, portal: u64, id: u64) -> Answer<Record> {
        self.post(&format!("/control/accounts/{portal}/contacts/{id}/restore"), &json!({})).await
    }

    /// A person erases a contact for privacy's sake.
    pub async fn person_erases(&self, portal: u64, id: u64) -> Answer<()> {
        let path = format!("/control/accounts/{portal}/contacts/{id}/erase");
        self.post::<_, Value>(&path, &json!({})).await.map(drop)
    }

    /// A person merges two contacts; gives the result.
    pub async fn person_merges(&self, portal: u64, primary: u64, other: u64) -> Answer<Record> {
        self.post(&format!("/control/accounts/{portal}/contacts/merge"), &PersonMerge { primary, other })
            .await
    }

    /// A person edits many contacts at once in the list: for each its id, and why some were refused.
    pub async fn person_edits_many(
        &self,
        portal: u64,
        ids: &[u64],
        properties: &[(&str, &str)],
    ) -> Answer<Imported> {
        let edit = PersonBulkEdit { ids: ids.to_vec(), properties: person_write(properties).properties };
        self.post(&format!("/control/accounts/{portal}/contacts/bulk"), &edit).await
    }

    /// A person imports many contacts.
    pub async fn person_imports(
        &self,
        portal: u64,
        records: Vec<BTreeMap<String, String>>,
        quiet: bool,
    ) -> Answer<Imported> {
        let path = format!("/control/accounts/{portal}/contacts/import");
        self.post(&path, &PersonImport { records, quiet }).await
    }

    /// People do things in many accounts at the same time: for each its record's id, or why it was refused.
    pub async fn people_act(&self, deeds: Vec<PersonDeed>) -> Answer<Imported> {
        self.post("/control/people", &PersonDeeds { deeds }).await
    }

    /// Orders a disturbance.
    pub async fn order(&self, order: &FaultOrder) -> Answer<u64> {
        self.post::<_, FaultId>("/control/faults", order).await.map(|id| id.id)
    }

    /// All orders and how often each happened.
    pub async fn faults(&self) -> Answer<FaultList> {
        self.get("/control/faults").await
    }

    /// Withdraws one order.
    pub async fn withdraw(&self, id: u64) -> Answer<()> {
        self.call::<Value>(Method::DELETE, &format!("/control/faults/{id}"), None).await.map(drop)
    }

    /// Withdraws all orders.
    pub async fn clear_faults(&self) -> Answer<()> {
        self.call::<Value>(Method::DELETE, "/control/faults", None).await.map(drop)
    }

    /// Requests that the published description does not allow.
    pub async fn violations(&self) -> Answer<Violations> {
        self.get("/control/violations").await
    }

    /// Forgets them.
    pub async fn clear_violations(&self) -> Answer<()> {
        self.call::<Value>(Method::DELETE, "/control/violations", None).await.map(drop)
    }

    /// Moves the simulated clock forward; gives its milliseconds afterwards.
    pub async fn advance(&self, advance_ms: u32) -> Answer<i64> {
        self.post::<_, ClockInfo>("/control/clock", &Advance { advance_ms }).await.map(|clock| clock.now)
    }

    /// Forgets apps, accounts, orders and violations.
    pub async fn reset(&self) -> Answer<()> {
        self.post::<_, Value>("/control/reset", &json!({})).await.map(drop)
    }

    /// Ends the program.
    pub async fn shutdown(&self) -> Answer<()> {
        self.post::<_, Value>("/control/shutdown", &json!({})).await.map(drop)
    }
}

fn person_write(properties: &[(&str, &str)]) -> PersonWrite {
    let properties =
        properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    PersonWrite { properties, quiet: false }
}
