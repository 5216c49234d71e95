//! A simulator with an app and an account, and an HTTP client that knows its token.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tandem_simulator::control::types::{
    AccountInfo, AppInfo, NewAccounts, NewApp, QuotaSizes, WebhookSettings,
};
use tandem_simulator::{Config, Handle, Simulator, control};

use crate::receiver::Receiver;

pub(crate) const CONTACTS: &str = "/crm/v3/objects/contacts";
pub(crate) const SEARCH: &str = "/crm/v3/objects/contacts/search";

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// A number in a header.
    pub(crate) fn number(&self, header: &str) -> Option<u64> {
        self.headers.get(header)?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn id(&self) -> u64 {
        self.body["id"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn category(&self) -> &str {
        self.body["category"].as_str().unwrap_or("")
    }

    /// The code of the first detailed error.
    pub(crate) fn code(&self) -> &str {
        self.body["errors"][0]["code"].as_str().unwrap_or("")
    }
}

/// Everything a test needs.
pub(crate) struct Setting {
    pub(crate) simulator: Handle,
    pub(crate) control: control::Client,
    pub(crate) app: AppInfo,
    pub(crate) account: AccountInfo,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// Accounts whose search index does not lag and whose limits are out of the way.
pub(crate) fn accounts(app: u64) -> NewAccounts {
    let mut new = NewAccounts::new(app, 1);
    new.settings.index_lag_min_ms = 0;
    new.settings.index_lag_max_ms = 0;
    new.quota = Some(QuotaSizes::UNLIMITED);
    new
}

impl Setting {
    /// One account, no webhooks.
    pub(crate) async fn new() -> Self {
        Self::with(NewApp::default(), |_| {}).await
    }

    /// One account whose webhooks go to a receiver.
    pub(crate) async fn with_receiver(receiver: &Receiver) -> Self {
        let webhooks = WebhookSettings { target_url: Some(receiver.url()), ..WebhookSettings::default() };
        Self::with(NewApp { webhooks, ..NewApp::default() }, |_| {}).await
    }

    pub(crate) async fn with(app: NewApp, change: impl FnOnce(&mut NewAccounts)) -> Self {
        let simulator = Simulator::start(Config::default()).await.unwrap();
        let control = simulator.client();
        let app = control.create_app(&app).await.unwrap();
        let mut new = accounts(app.app_id);
        change(&mut new);
        let account = control.create_accounts(&new).await.unwrap().remove(0);
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { simulator, control, app, account, http }
    }

    pub(crate) fn portal(&self) -> u64 {
        self.account.portal_id
    }

    /// A raw request; an error when the connection closed without an answer.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        content_type: Option<&str>,
        body: &str,
    ) -> Result<Reply, hyper_util::client::legacy::Error> {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}{path}", self.simulator.api_url()));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let response = self.http.request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// A read as it comes: status and bytes.
    pub(crate) async fn bytes(&self, path: &str) -> (u16, Bytes) {
        let request = http::Request::builder()
            .uri(format!("{}{path}", self.simulator.api_url()))
            .header("authorization", format!("Bearer {}", self.account.access_token))
            .body(Full::default())
            .unwrap();
        let response = self.http.request(request).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Reply {
        let token = Some(self.account.access_token.as_str());
        self.raw(method, path, token, Some("application/json"), &body.to_string()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.raw(Method::GET, path, Some(&self.account.access_token), None, "").await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, id: u64, properties: Value) -> Reply {
        self.send(Method::PATCH, &format!("{CONTACTS}/{id}"), json!({ "properties": properties })).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.raw(Method::DELETE, path, Some(&self.account.access_token), None, "").await.unwrap()
    }

    /// A form to the token endpoint.
    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.raw(Method::POST, path, None, Some("application/x-www-form-urlencoded"), &body).await.unwrap()
    }

    /// Creates a contact and gives its id.
    pub(crate) async fn contact(&self, properties: Value) -> u64 {
        let reply = self.post(CONTACTS, json!({ "properties": properties, "associations": [] })).await;
        assert_eq!(reply.status, 201, "{:?}", reply.body);
        reply.id()
    }

    pub(crate) async fn read(&self, id: u64, properties: &str) -> Value {
        let reply = self.get(&format!("{CONTACTS}/{id}?properties={properties}")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        reply.body
    }

    /// The ids that a search finds.
    pub(crate) async fn found(&self, body: Value) -> Vec<u64> {
        let reply = self.post(SEARCH, body).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        ids(&reply.body)
    }

    /// The reasons of all violations so far.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        self.control.violations().await.unwrap().listed.into_iter().map(|v| v.reason).collect()
    }

    pub(crate) async fn settings(&self, members: Value) {
        self.control.set_settings(self.portal(), members).await.unwrap();
    }
}

/// The ids of the rows of an answer.
pub(crate) fn ids(body: &Value) -> Vec<u64> {
    let rows = body["results"].as_array().unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// A filter group of one filter.
pub(crate) fn filter(property: &str, operator: &str, value: &str) -> Value {
    json!({ "filters": [{ "propertyName": property, "operator": operator, "value": value }] })
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
