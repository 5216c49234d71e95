//! A simulator with an account at Pipedrive, and an HTTP client that knows its tokens.

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tandem_simulator::pipedrive::control::{NewPipedriveAccounts, PipedriveAccount, PipedriveQuota};
use tandem_simulator::{Config, Handle, Simulator, control};

pub(crate) const PERSONS: &str = "/api/v2/persons";

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    /// Null where it is no JSON.
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn number(&self, header: &str) -> Option<u64> {
        self.headers.get(header)?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }

    /// The ids of a list.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.body["data"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    }

    pub(crate) fn cursor(&self) -> Option<String> {
        self.body["additional_data"]["next_cursor"].as_str().map(str::to_owned)
    }
}

/// Everything a test needs.
pub(crate) struct Setting {
    pub(crate) simulator: Handle,
    pub(crate) control: control::Client,
    pub(crate) account: PipedriveAccount,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Setting {
    /// An account whose search index does not lag and whose limits are out of the way.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut NewPipedriveAccounts)) -> Self {
        let simulator = Simulator::start(Config::default()).await.unwrap();
        let control = simulator.client();
        let mut new =
            NewPipedriveAccounts { quota: PipedriveQuota::UNLIMITED, ..NewPipedriveAccounts::default() };
        new.settings.index_lag_min_ms = 0;
        new.settings.index_lag_max_ms = 0;
        change(&mut new);
        let account = control.create_pipedrive_accounts(&new).await.unwrap().remove(0);
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { simulator, control, account, http }
    }

    pub(crate) fn company(&self) -> u64 {
        self.account.company_id
    }

    /// The key of a custom field.
    pub(crate) fn key(&self, name: &str) -> &str {
        &self.account.fields[name]
    }

    /// A request with these headers; an error when the connection closed without an answer.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, hyper_util::client::legacy::Error> {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}{path}", self.simulator.api_url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (parts, body) = self.http.request(request).await?.into_parts();
        let raw = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, raw, body })
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Reply {
        let headers =
            [("x-api-token", self.account.api_token.as_str()), ("content-type", "application/json")];
        self.raw(method, path, &headers, &body.to_string()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.raw(Method::GET, path, &[("x-api-token", self.account.api_token.as_str())], "").await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.raw(Method::DELETE, path, &[("x-api-token", self.account.api_token.as_str())], "").await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, id: u64, body: Value) -> Reply {
        self.send(Method::PATCH, &format!("{PERSONS}/{id}"), body).await
    }

    /// With an OAuth access token.
    pub(crate) async fn bearer(&self, token: &str, path: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        self.raw(Method::GET, path, &[("authorization", bearer.as_str())], "").await.unwrap()
    }

    /// Creates a person and gives its id.
    pub(crate) async fn person(&self, body: Value) -> u64 {
        let reply = self.post(PERSONS, body).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        reply.body["data"]["id"].as_u64().unwrap()
    }

    pub(crate) async fn named(&self, name: &str) -> u64 {
        self.person(json!({ "name": name })).await
    }

    pub(crate) async fn read(&self, id: u64) -> Value {
        let reply = self.get(&format!("{PERSONS}/{id}")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        reply.body["data"].clone()
    }

    /// The ids that a search finds.
    pub(crate) async fn found(&self, query: &str) -> Vec<u64> {
        let reply = self.get(&format!("{PERSONS}/search?{query}")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        let items = reply.body["data"]["items"].as_array().unwrap();
        items.iter().map(|row| row["item"]["id"].as_u64().unwrap()).collect()
    }

    pub(crate) async fn settings(&self, members: Value) {
        self.control.set_pipedrive_settings(self.company(), members).await.unwrap();
    }

    /// The reasons of all violations so far.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        self.control.violations().await.unwrap().listed.into_iter().map(|v| v.reason).collect()
    }

    /// A form to the token endpoint, with HTTP Basic.
    pub(crate) async fn token(&self, fields: &[(&str, &str)]) -> Reply {
        use base64::Engine as _;
        let client = format!("{}:{}", self.account.client_id, self.account.client_secret);
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(client));
        self.form("/oauth/token", &[("authorization", basic.as_str())], fields).await
    }

    pub(crate) async fn form(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Reply {
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.raw(Method::POST, path, &headers, &body).await.unwrap()
    }
}
