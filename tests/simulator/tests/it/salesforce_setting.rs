//! A simulator with a Salesforce org, and an HTTP client that knows its session.

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tandem_simulator::control::salesforce::{FieldKind, NewField, NewSalesforceOrgs, SalesforceOrg};
use tandem_simulator::{Config, Handle, Simulator, control};

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        assert!(self.body.is_array(), "{:?}", self.body);
        (self.status, self.body[0]["errorCode"].as_str().unwrap())
    }

    pub(crate) fn message(&self) -> &str {
        self.body[0]["message"].as_str().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The ids of a query's records.
    pub(crate) fn ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{:?}", self.body);
        let records = self.body["records"].as_array().unwrap();
        records.iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Everything a test needs.
pub(crate) struct Force {
    pub(crate) simulator: Handle,
    pub(crate) control: control::Client,
    pub(crate) org: SalesforceOrg,
    pub(crate) version: &'static str,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// A custom field that is an external id; unique, if asked for.
pub(crate) fn key(name: &str, unique: bool) -> NewField {
    NewField { name: name.to_owned(), external_id: true, unique, ..NewField::default() }
}

/// An org with fields of several kinds.
pub(crate) fn fields() -> Vec<NewField> {
    let field = |name: &str, kind| NewField { name: name.to_owned(), kind, ..NewField::default() };
    let colours = || vec!["Red".to_owned(), "Green".to_owned(), "Blue".to_owned()];
    vec![
        key("Key__c", true),
        key("Group__c", false),
        NewField { picklist_values: colours(), ..field("Colour__c", FieldKind::Picklist) },
        NewField { picklist_values: colours(), ..field("Colours__c", FieldKind::MultiPicklist) },
        NewField { picklist_values: colours(), unrestricted: true, ..field("Mood__c", FieldKind::Picklist) },
        field("Score__c", FieldKind::Double),
        field("Count__c", FieldKind::Int),
        field("Seen__c", FieldKind::DateTime),
        NewField {
            length: Some(5),
            label: Some("Short Text".to_owned()),
            ..field("Short__c", FieldKind::String)
        },
        NewField { read_only: true, ..field("Formula__c", FieldKind::String) },
        NewField { case_sensitive: true, ..key("Exact__c", true) },
    ]
}

impl Force {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut NewSalesforceOrgs)) -> Self {
        let simulator = Simulator::start(Config::default()).await.unwrap();
        let control = simulator.client();
        let mut new = NewSalesforceOrgs { fields: fields(), ..NewSalesforceOrgs::default() };
        change(&mut new);
        let org = control.create_salesforce_orgs(&new).await.unwrap().remove(0);
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { simulator, control, org, version: "v60.0", http }
    }

    pub(crate) fn number(&self) -> u64 {
        self.org.portal_id
    }

    /// A raw request; an error when the connection closed without an answer.
    pub(crate) async fn raw(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Reply, hyper_util::client::legacy::Error> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (parts, body) = self.http.request(request).await?.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = match body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())),
        };
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// A request to the org's data with its session.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Reply {
        let url = format!("{}/services/data/{}{path}", self.simulator.api_url(), self.version);
        let bearer = format!("Bearer {}", self.org.access_token);
        let mut all = vec![("authorization", bearer.as_str())];
        if !body.is_null() {
            all.push(("content-type", "application/json"));
        }
        all.extend(headers);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, &url, &all, &body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, &[], Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, &[], body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, &[], body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, &[], Value::Null).await
    }

    /// Creates a contact and gives its id.
    pub(crate) async fn contact(&self, values: Value) -> String {
        let mut values = values;
        if values.get("LastName").is_none() {
            values["LastName"] = json!("Doe");
        }
        let reply = self.post("/sobjects/Contact", values).await;
        assert_eq!(reply.status, 201, "{:?}", reply.body);
        reply.body["id"].as_str().unwrap().to_owned()
    }

    /// Some fields of a contact.
    pub(crate) async fn read(&self, id: &str, fields: &str) -> Value {
        let reply = self.get(&format!("/sobjects/Contact/{id}?fields={fields}")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        reply.body
    }

    pub(crate) async fn update(&self, id: &str, values: Value) -> Reply {
        self.patch(&format!("/sobjects/Contact/{id}"), values).await
    }

    pub(crate) async fn query(&self, soql: &str) -> Reply {
        self.get(&format!("/query?q={}", encoded(soql))).await
    }

    /// A form to a path of the login host.
    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let url = format!("{}{path}", self.simulator.api_url());
        let form = [("content-type", "application/x-www-form-urlencoded")];
        self.raw(Method::POST, &url, &form, &body).await.unwrap()
    }

    pub(crate) async fn settings(&self, members: Value) {
        self.control.set_salesforce_settings(self.number(), &members).await.unwrap();
    }

    /// The reasons of all violations so far.
    pub(crate) async fn reasons(&self) -> Vec<String> {
        self.control.violations().await.unwrap().listed.into_iter().map(|v| v.reason).collect()
    }

    /// Moves the clock to the beginning of the next second, so that what follows has another time.
    pub(crate) async fn next_second(&self) -> i64 {
        self.control.advance(1_000).await.unwrap()
    }
}

/// A text in a query of an address.
pub(crate) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
