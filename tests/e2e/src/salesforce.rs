//! Customers whose CRM is Salesforce, in a house: their orgs in the simulator, their connections, and an org as its own users see it.
//!
//! An org has an address of its own, which only a token's answer names: a daemon that asks anywhere else is not answered. Names
//! of fields are written from Salesforce's documentation of contacts, not from the provider.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tandem_simulator::control::salesforce::{
    FieldKind, NewField, NewSalesforceOrgs, OutboundSettings, SalesforceOrg, SalesforceSettings,
};
use tokio::sync::Mutex;

use crate::account::Contact;
use crate::crm::Crm;
use crate::house::{House, Plan};
use crate::rest::write_whole;
use crate::{Error, process, until};

/// Where the daemon finds the secret of the connected app.
const APP_SECRET: &str = "SALESFORCE_APP_SECRET";
const CLIENT_ID: &str = "3MVG9.client-of-this-house";
/// The secret of the connected app.
pub const CLIENT_SECRET: &str = "secret-of-the-connected-app-5820";
/// Version of the API that a user's own client asks for.
const VERSION: &str = "v60.0";

/// Canonical member and the standard field of a contact that is the same thing.
const NAMES: [(&str, &str); 13] = [
    ("email", "Email"),
    ("given_name", "FirstName"),
    ("family_name", "LastName"),
    ("phone", "Phone"),
    ("mobile_phone", "MobilePhone"),
    ("job_title", "Title"),
    ("street", "MailingStreet"),
    ("city", "MailingCity"),
    ("region", "MailingState"),
    ("postal_code", "MailingPostalCode"),
    ("country", "MailingCountry"),
    ("date_of_birth", "Birthdate"),
    ("notes", "Description"),
];

/// Salesforce's name of a canonical member.
pub(crate) fn name_of(member: &str) -> Option<&'static str> {
    NAMES.iter().find(|(canonical, _)| *canonical == member).map(|(_, name)| *name)
}

/// A house without customers yet, whose daemon knows the connected app.
#[must_use]
pub fn plan() -> Plan {
    Plan {
        main: format!(
            "[apps.salesforce]\nprovider = \"salesforce\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = {{ env = \"{APP_SECRET}\" }}\n"
        ),
        environment: [(APP_SECRET.to_owned(), CLIENT_SECRET.to_owned())].into(),
        ..Plan::roomy(&[])
    }
}

/// What a customer's org and connection are made from.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The connection's name.
    pub connection: String,
    /// The scope in System A.
    pub scope: String,
    /// The org; the app and the key field are put in.
    pub org: NewSalesforceOrgs,
    /// Milliseconds between two polls.
    pub poll_every_ms: u32,
    /// Further settings of the provider, in TOML.
    pub settings: String,
    /// Lines of the object's policy, in TOML.
    pub policy: String,
    /// Outbound messages reach the daemon.
    pub pushes: bool,
}

impl Wanted {
    /// An org that notes what is written to it, tells of changes at once, and is hardly ever polled. Its connection is called as the
    /// scope is.
    #[must_use]
    pub fn new(scope: &str) -> Self {
        let settings = SalesforceSettings { journal: true, ..SalesforceSettings::default() };
        Self {
            connection: scope.to_owned(),
            scope: scope.to_owned(),
            org: NewSalesforceOrgs { settings, ..NewSalesforceOrgs::default() },
            poll_every_ms: 600_000,
            settings: String::new(),
            policy: String::new(),
            pushes: true,
        }
    }

    /// Polled so often.
    #[must_use]
    pub fn polled(mut self, every_ms: u32) -> Self {
        self.poll_every_ms = every_ms;
        self
    }

    /// Without outbound messages: what changes is found by polling alone.
    #[must_use]
    pub fn without_pushes(mut self) -> Self {
        self.pushes = false;
        self
    }

    /// Lines of the object's policy.
    #[must_use]
    pub fn policy(mut self, lines: &str) -> Self {
        self.policy = lines.to_owned();
        self
    }

    /// Further settings of the provider.
    #[must_use]
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings = lines.to_owned();
        self
    }
}

/// A customer.
pub struct Customer {
    /// The connection's name.
    pub connection: String,
    /// The scope in System A.
    pub scope: String,
    /// The org as it was made.
    pub org: SalesforceOrg,
    /// The secret in the address that its messages are sent to.
    pub webhook_secret: String,
    /// The org as a user's own client sees it.
    pub api: Contacts,
}

impl Customer {
    /// By which the simulator names the org.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.org.portal_id
    }
}

/// A text field that finds records and of which no two have the same value.
fn key_field() -> NewField {
    NewField {
        name: "Tandem_Key__c".to_owned(),
        kind: FieldKind::String,
        unique: true,
        external_id: true,
        case_sensitive: true,
        ..NewField::default()
    }
}

impl House {
    /// Puts the provider into the folder, as an operator would.
    ///
    /// # Errors
    /// It was not built.
    pub fn bring_salesforce(&self) -> Result<(), Error> {
        let component = std::fs::read(process::component("provider_salesforce.wasm")?)?;
        self.drop_in("salesforce.wasm", &component).map(drop)
    }

    /// An org that the daemon does not know yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn salesforce_org(&self, wanted: &Wanted) -> Result<Customer, Error> {
        let (connection, scope) = (wanted.connection.clone(), wanted.scope.clone());
        let webhook_secret = format!("address-secret-of-{connection}-7431");
        let mut org = wanted.org.clone();
        org.client_id = Some(CLIENT_ID.to_owned());
        org.client_secret = Some(CLIENT_SECRET.to_owned());
        org.fields.push(key_field());
        // Not the address where tokens are given out: that is 127.0.0.1.
        let port = self.api.rsplit(':').next().unwrap_or_default();
        org.instance = Some(format!("http://localhost:{port}"));
        if wanted.pushes {
            let mut fields: Vec<String> = NAMES.iter().map(|(_, name)| (*name).to_owned()).collect();
            let more = ["LastModifiedById", "SystemModstamp", "Tandem_Key__c", "HasOptedOutOfEmail"];
            fields.extend(more.map(str::to_owned));
            fields.extend(wanted.org.fields.iter().map(|field| field.name.clone()));
            org.outbound = OutboundSettings {
                target_url: Some(format!("{}/hooks/connection/{connection}?key={webhook_secret}", self.base)),
                fields,
                ..wanted.org.outbound.clone()
            };
        }
        let made = self.control.create_salesforce_orgs(&org).await?;
        let org = made.into_iter().next().ok_or("no org was made")?;
        let api = Contacts::new(self.client(), &self.api, &org);
        Ok(Customer { connection, scope, org, webhook_secret, api })
    }

    /// Writes the secrets and the file of a customer's connection.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn connect_salesforce(&self, customer: &Customer, wanted: &Wanted) -> Result<(), Error> {
        let Customer { connection, scope, org, webhook_secret, .. } = customer;
        self.secret(connection, &org.refresh_token)?;
        self.secret(&format!("{connection}.webhook"), webhook_secret)?;
        let Wanted { poll_every_ms, settings, policy, .. } = wanted;
        let text = format!(
            "provider = \"salesforce\"\nscope = \"{scope}\"\napp = \"salesforce\"\naccount = \"{account}\"\n\
             hosts = [\"127.0.0.1\", \"localhost\"]\nallow_loopback = true\n\
             auth = {{ refresh_token = {{ file = \"../secrets/{connection}\" }} }}\n\
             secrets = {{ webhook = {{ file = \"../secrets/{connection}.webhook\" }} }}\n\
             [settings]\nbase_url = \"{login}\"\nkey_field = \"Tandem_Key__c\"\npoll_every_ms = {poll_every_ms}\n\
             settle_ms = 500\n{settings}\n[objects.contact]\n{policy}\n",
            account = org.organization_id,
            login = self.api,
        );
        write_whole(&self.connection_path(connection), &text)
    }

    /// A customer whose org was gone through once, and who is connected: what is made after that is told by a message or found by
    /// a poll.
    ///
    /// # Errors
    /// Something cannot be made, or does not come to work in time.
    pub async fn salesforce_customer(&self, wanted: &Wanted) -> Result<Customer, Error> {
        let customer = self.salesforce_org(wanted).await?;
        self.connect_salesforce(&customer, wanted)?;
        self.salesforce_runs(&customer, Duration::from_secs(120)).await?;
        Ok(customer)
    }

    /// Waits until a connection runs and its org was gone through.
    ///
    /// # Errors
    /// It does not come to work in time.
    pub async fn salesforce_runs(&self, customer: &Customer, deadline: Duration) -> Result<(), Error> {
        until(&format!("{} runs and its org was gone through", customer.connection), deadline, async || {
            // A connection that is asked for by its name has to be known already.
            let status = self.get("/v1/status").await?;
            let mut rows = status.get("connections").and_then(Value::as_array).into_iter().flatten();
            let row = rows.find(|row| row.get("connection") == Some(&json!(customer.connection)));
            let row = row.cloned().unwrap_or_default();
            let counts = self.control.salesforce_counts(customer.number()).await?;
            let calls = |name: &str| counts.operations.get(name).map_or(0, |counts| counts.calls);
            let walked = calls("salesforce.query") > 0 && calls("salesforce.describe") > 0;
            let runs = row.get("state") == Some(&json!("running"));
            Ok(if runs && walked { Ok(()) } else { Err(format!("{row} {:?}", counts.operations)) })
        })
        .await
    }

    /// An org as people and judges see it.
    #[must_use]
    pub fn salesforce_crm(&self, customer: &Customer) -> Crm {
        Crm::salesforce(&self.control, customer.number(), &customer.api)
    }
}

/// The contacts of an org, read as any client reads them. It signs in by name and password, so that the refresh token stays the
/// daemon's alone.
#[derive(Clone)]
pub struct Contacts {
    client: reqwest::Client,
    login: String,
    org: Arc<SalesforceOrg>,
    session: Arc<Mutex<Option<Session>>>,
}

#[derive(Clone)]
struct Session {
    token: String,
    instance: String,
}

impl Contacts {
    /// A client of an org; `login` is where tokens are given out.
    #[must_use]
    pub fn new(client: reqwest::Client, login: &str, org: &SalesforceOrg) -> Self {
        Self { client, login: login.to_owned(), org: Arc::new(org.clone()), session: Arc::default() }
    }

    async fn sign_in(&self) -> Result<Session, Error> {
        let form = url_encoded(&[
            ("grant_type", "password"),
            ("client_id", &self.org.client_id),
            ("client_secret", &self.org.client_secret),
            ("username", &self.org.username),
            ("password", &self.org.password),
        ]);
        let answer: Value = self
            .client
            .post(format!("{}/services/oauth2/token", self.login))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Session {
            token: text("access_token").ok_or("no session")?,
            instance: text("instance_url").ok_or("no instance")?,
        })
    }

    /// An answer to a GET of the org, signed in again where the session has ended. None: there is no such thing.
    async fn get(&self, path_and_query: &str) -> Result<Option<Value>, Error> {
        let mut session = self.session.lock().await;
        for _ in 0..2 {
            let current = match &*session {
                Some(current) => current.clone(),
                None => session.insert(self.sign_in().await?).clone(),
            };
            let url = format!("{}{path_and_query}", current.instance);
            let answer = self.client.get(url).bearer_auth(&current.token).send().await?;
            if answer.status() == StatusCode::UNAUTHORIZED {
                *session = None;
                continue;
            }
            if answer.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            return Ok(Some(answer.error_for_status()?.json().await?));
        }
        Err("the org does not take a session that it has just given".into())
    }

    /// Everybody who is not in the recycle bin.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn list(&self) -> Result<Vec<Contact>, Error> {
        let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
        let soql = format!("SELECT Id,{} FROM Contact ORDER BY Id", names.join(","));
        Ok(self.query(&soql).await?.iter().map(contact).collect())
    }

    /// A contact with all its fields. None: it is not there, or in the recycle bin.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn read(&self, id: &str) -> Result<Option<Value>, Error> {
        self.get(&format!("/services/data/{VERSION}/sobjects/Contact/{id}")).await
    }

    /// The contacts with this address, with all their fields.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn with_email(&self, email: &str) -> Result<Vec<Value>, Error> {
        let literal = email.replace('\\', "\\\\").replace('\'', "\\'");
        let found = self.query(&format!("SELECT Id FROM Contact WHERE Email = '{literal}'")).await?;
        let mut all = Vec::new();
        for row in found {
            let id = row.get("Id").and_then(Value::as_str).ok_or("a row without an id")?;
            all.extend(self.read(id).await?);
        }
        Ok(all)
    }

    async fn query(&self, soql: &str) -> Result<Vec<Value>, Error> {
        let mut next = Some(format!("/services/data/{VERSION}/query?{}", url_encoded(&[("q", soql)])));
        let mut rows = Vec::new();
        while let Some(path) = next {
            let page = self.get(&path).await?.ok_or("there is no query")?;
            rows.extend(page.get("records").and_then(Value::as_array).into_iter().flatten().cloned());
            next = page.get("nextRecordsUrl").and_then(Value::as_str).map(str::to_owned);
        }
        Ok(rows)
    }
}

/// A contact by the values that people go by.
pub(crate) fn contact(row: &Value) -> Contact {
    let text = |name: &str| row.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let properties: BTreeMap<String, String> =
        NAMES.iter().filter_map(|(_, name)| Some(((*name).to_owned(), text(name)?.to_owned()))).collect();
    Contact { id: text("Id").unwrap_or_default().to_owned(), properties }
}

/// Pairs as a form or a query has them.
pub(crate) fn url_encoded(pairs: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        text.bytes().fold(String::new(), |mut all, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                all.push(char::from(byte));
            } else {
                all.push_str(&format!("%{byte:02X}"));
            }
            all
        })
    };
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_in_an_address_has_nothing_that_ends_it() {
        assert_eq!(
            url_encoded(&[("q", "SELECT Id, é&x"), ("b", "~1")]),
            "q=SELECT%20Id%2C%20%C3%A9%26x&b=~1"
        );
    }

    #[test]
    fn a_row_without_values_has_an_id_alone() {
        let row = json!({ "Id": "003", "Email": null, "LastName": "Li", "attributes": {} });
        let found = contact(&row);
        assert_eq!((found.id.as_str(), found.properties.len()), ("003", 1));
        assert_eq!(found.properties.get("LastName").map(String::as_str), Some("Li"));
    }
}
