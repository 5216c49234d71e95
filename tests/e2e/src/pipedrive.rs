//! Customers whose CRM is Pipedrive, in a house: their accounts in the simulator, their connections, and an account as its own users
//! see and edit it.
//!
//! Each company has a host of its own, for which a prefix of the path stands: a daemon that asks elsewhere is not answered. Names of
//! members are written from Pipedrive's documentation of persons, not from the provider.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tandem_simulator::control::Client as Control;
use tandem_simulator::pipedrive::control::{
    NewPipedriveAccounts, PipedriveAccount, PipedriveQuota, PipedriveSettings,
};

use crate::account::Contact;
use crate::crm::Crm;
use crate::house::{House, Plan};
use crate::rest::write_whole;
use crate::{Error, process, until};

/// Where the daemon finds the secret of the marketplace app.
const APP_SECRET: &str = "PIPEDRIVE_APP_SECRET";
const CLIENT_ID: &str = "client-of-this-house";
/// The secret of the marketplace app.
pub const CLIENT_SECRET: &str = "secret-of-the-marketplace-app-5821";
/// The address that Pipedrive is told; the simulator connects to the daemon in its place.
pub const PUBLIC_URL: &str = "https://sync.example.com";
/// The name of the field that Tandem alone writes.
const KEY_FIELD: &str = "Tandem key";
/// The label of mobile numbers.
const MOBILE: &str = "mobile";

/// Canonical member and what [`contact`] calls the value that is the same thing. Those below the first five come with contact sync.
const NAMES: [(&str, &str); 13] = [
    ("email", "emails"),
    ("given_name", "first_name"),
    ("family_name", "last_name"),
    ("phone", "phones"),
    ("mobile_phone", "phones: mobile"),
    ("job_title", "job_title"),
    ("notes", "notes"),
    ("date_of_birth", "birthday"),
    ("street", "route"),
    ("city", "locality"),
    ("region", "admin_area_level_1"),
    ("postal_code", "postal_code"),
    ("country", "country"),
];

/// Parts of an address, in the order of a letter.
const ADDRESS: [&str; 5] = ["route", "postal_code", "locality", "admin_area_level_1", "country"];

/// Pipedrive's name of a canonical member.
pub(crate) fn name_of(member: &str) -> Option<&'static str> {
    NAMES.iter().find(|(canonical, _)| *canonical == member).map(|(_, name)| *name)
}

/// A house without customers yet, whose daemon knows the marketplace app and the address that Pipedrive is told.
#[must_use]
pub fn plan() -> Plan {
    Plan {
        main: format!(
            "[apps.pipedrive]\nprovider = \"pipedrive\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = {{ env = \"{APP_SECRET}\" }}\n"
        ),
        environment: [(APP_SECRET.to_owned(), CLIENT_SECRET.to_owned())].into(),
        public_url: Some(PUBLIC_URL.to_owned()),
        ..Plan::roomy(&[])
    }
}

/// A custom field as the fields API describes it.
#[must_use]
pub fn field(name: &str, kind: &str, options: &[&str]) -> Map<String, Value> {
    let mut field = Map::new();
    field.insert("field_name".to_owned(), name.into());
    field.insert("field_type".to_owned(), kind.into());
    if !options.is_empty() {
        let options: Vec<Value> = options.iter().map(|label| json!({ "label": label })).collect();
        field.insert("options".to_owned(), options.into());
    }
    field
}

/// What a customer's account and connection are made from.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The connection's name.
    pub connection: String,
    /// The scope in System A.
    pub scope: String,
    /// The account; the app and the key field are put in.
    pub account: NewPipedriveAccounts,
    /// With tokens of the marketplace app, which end and are refreshed, instead of a user's API token.
    pub app: bool,
    /// Milliseconds between two polls.
    pub poll_every_ms: u32,
    /// Further settings of the provider, in TOML.
    pub settings: String,
    /// Lines of the object's policy, in TOML.
    pub policy: String,
    /// Webhooks are registered and reach the daemon.
    pub pushes: bool,
}

impl Wanted {
    /// An account with contact sync and larger limits than real ones have, that notes what is written to it, tells of changes at
    /// once, and is hardly ever polled. Its connection is called as the scope is.
    #[must_use]
    pub fn new(scope: &str) -> Self {
        let settings = PipedriveSettings {
            journal: true,
            contact_sync: true,
            index_lag_min_ms: 100,
            index_lag_max_ms: 300,
            ..PipedriveSettings::default()
        };
        let quota =
            PipedriveQuota { token_burst: 20_000, oauth_burst: 20_000, search_burst: 1_000, daily: None };
        Self {
            connection: scope.to_owned(),
            scope: scope.to_owned(),
            account: NewPipedriveAccounts { quota, settings, ..NewPipedriveAccounts::default() },
            app: false,
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

    /// With tokens of the marketplace app.
    #[must_use]
    pub fn app(mut self) -> Self {
        self.app = true;
        self
    }

    /// Lines of the object's policy.
    #[must_use]
    pub fn policy(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.policy);
        self
    }

    /// Further settings of the provider.
    #[must_use]
    pub fn settings(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.settings);
        self
    }

    /// With these limits, of which the connection's file says the same.
    #[must_use]
    pub fn limited(mut self, quota: PipedriveQuota) -> Self {
        self.account.quota = quota;
        self
    }
}

/// A customer.
pub struct Customer {
    /// The connection's name.
    pub connection: String,
    /// The scope in System A.
    pub scope: String,
    /// The account as it was made.
    pub account: PipedriveAccount,
    /// The password that its webhooks show.
    pub webhook_password: String,
    /// The account as a user's own client sees it.
    pub api: Persons,
}

impl Customer {
    /// By which the simulator names the account.
    #[must_use]
    pub fn company(&self) -> u64 {
        self.account.company_id
    }

    /// Where its webhooks are sent to.
    #[must_use]
    pub fn callback(&self) -> String {
        format!("{PUBLIC_URL}/hooks/connection/{}", self.connection)
    }

    /// The name that its webhooks show.
    #[must_use]
    pub fn webhook_user(&self) -> String {
        format!("pipedrive-of-{}", self.connection)
    }

    /// The key of the field that Tandem alone writes.
    #[must_use]
    pub fn key_field(&self) -> &str {
        self.account.fields.get(KEY_FIELD).map_or("", String::as_str)
    }
}

impl House {
    /// Puts the provider into the folder, as an operator would.
    ///
    /// # Errors
    /// It was not built.
    pub fn bring_pipedrive(&self) -> Result<(), Error> {
        let component = std::fs::read(process::component("provider_pipedrive.wasm")?)?;
        self.drop_in("pipedrive.wasm", &component).map(drop)
    }

    /// An account that the daemon does not know yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn pipedrive_account(&self, wanted: &Wanted) -> Result<Customer, Error> {
        let mut new = wanted.account.clone();
        let company = 12_000_001 + u64::try_from(self.control.pipedrive_accounts().await?.len())?;
        new.first_company_id = Some(company);
        // Not the address where tokens are given out: the company's own.
        new.api_domain = Some(format!("{}/pipedrive/company-{company}", self.api));
        new.client_id = Some(CLIENT_ID.to_owned());
        new.client_secret = Some(CLIENT_SECRET.to_owned());
        new.fields.push(field(KEY_FIELD, "varchar", &[]));
        new.settings.connect_to = Some(self.base.trim_start_matches("http://").to_owned());
        let made = self.control.create_pipedrive_accounts(&new).await?;
        let account = made.into_iter().next().ok_or("no account was made")?;
        let api = Persons {
            client: self.client(),
            base: account.api_domain.clone(),
            token: account.api_token.clone(),
        };
        let (connection, scope) = (wanted.connection.clone(), wanted.scope.clone());
        let webhook_password = format!("password-of-the-webhooks-of-{connection}-7431");
        Ok(Customer { connection, scope, account, webhook_password, api })
    }

    /// Writes the secrets and the file of a customer's connection.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn connect_pipedrive(&self, customer: &Customer, wanted: &Wanted) -> Result<(), Error> {
        let Customer { connection, scope, account, webhook_password, .. } = customer;
        let user = customer.webhook_user();
        self.secret(connection, if wanted.app { &account.refresh_token } else { &account.api_token })?;
        self.secret(&format!("{connection}.webhook"), &format!("{user}:{webhook_password}"))?;
        self.secret(&format!("{connection}.webhook-user"), &user)?;
        self.secret(&format!("{connection}.webhook-password"), webhook_password)?;
        let quota = &wanted.account.quota;
        let (credential, head, settings, burst) = if wanted.app {
            let settings = format!("app = \"oauth\"\nbase_url = \"{}\"", self.api);
            ("refresh_token", "app = \"pipedrive\"".to_owned(), settings, quota.oauth_burst)
        } else {
            let head = format!("base_url = \"{}\"", account.api_domain);
            ("token", head, String::new(), quota.token_burst)
        };
        let text = format!(
            "provider = \"pipedrive\"\nscope = \"{scope}\"\n{head}\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
             auth = {{ {credential} = {{ file = \"../secrets/{connection}\" }} }}\nregister_webhooks = {pushes}\n\
             [secrets]\nwebhook = {{ file = \"../secrets/{connection}.webhook\" }}\n\
             webhook_user = {{ file = \"../secrets/{connection}.webhook-user\" }}\n\
             webhook_password = {{ file = \"../secrets/{connection}.webhook-password\" }}\n\
             [quotas.burst]\nlimit = {burst}\n[quotas.search]\nlimit = {search}\n[quotas.daily]\nlimit = {daily}\n\
             [settings]\n{settings}\nkey_field = \"{key}\"\npoll_every_ms = {poll}\nsettle_ms = 500\n{more}\n\
             [objects.contact]\n{policy}\n",
            pushes = wanted.pushes,
            search = quota.search_burst,
            daily = quota.daily.unwrap_or(1_000_000_000),
            key = customer.key_field(),
            poll = wanted.poll_every_ms,
            more = wanted.settings,
            policy = wanted.policy,
        );
        write_whole(&self.connection_path(connection), &text)
    }

    /// A customer who is connected, whose webhook stands and whose account was gone through once: what is made after that is told by
    /// a webhook or found by a poll.
    ///
    /// # Errors
    /// Something cannot be made, or does not come to work in time.
    pub async fn pipedrive_customer(&self, wanted: &Wanted) -> Result<Customer, Error> {
        let customer = self.pipedrive_account(wanted).await?;
        self.connect_pipedrive(&customer, wanted)?;
        self.pipedrive_runs(&customer, wanted.pushes, Duration::from_secs(120)).await?;
        Ok(customer)
    }

    /// Waits until a connection runs, its webhook stands and its account was gone through.
    ///
    /// # Errors
    /// It does not come to work in time.
    pub async fn pipedrive_runs(
        &self,
        customer: &Customer,
        pushes: bool,
        deadline: Duration,
    ) -> Result<(), Error> {
        until(
            &format!("{} runs and its account was gone through", customer.connection),
            deadline,
            async || {
                // It is known once its file was read and its provider is loaded.
                let status = match self.get(&format!("/v1/status?connection={}", customer.connection)).await {
                    Ok(status) => status,
                    Err(error) => return Ok(Err(error.to_string())),
                };
                let row = status.pointer("/connections/0").cloned().unwrap_or_default();
                let counts = self.control.pipedrive_counts(customer.company()).await?;
                let walked = counts.calls("persons.list") > 0 && counts.calls("person-fields.list") > 0;
                let told = !pushes || !self.control.pipedrive_webhooks(customer.company()).await?.is_empty();
                let runs = row.get("state") == Some(&json!("running"));
                Ok(if runs && walked && told {
                    Ok(())
                } else {
                    Err(format!("{row} {:?}", counts.operations))
                })
            },
        )
        .await
    }

    /// An account as people and judges see it.
    #[must_use]
    pub fn pipedrive_crm(&self, customer: &Customer) -> Crm {
        Crm::pipedrive(&self.control, customer.company(), &customer.api)
    }
}

/// The persons of an account, read as any client of a user reads them.
#[derive(Clone)]
pub struct Persons {
    client: reqwest::Client,
    base: String,
    token: String,
}

impl Persons {
    /// Everybody who is not deleted, as the account shows them. Waits where the account's limits ask for it.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn all(&self) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut request =
                self.client.get(format!("{}/api/v2/persons", self.base)).query(&[("limit", "500")]);
            if let Some(cursor) = &cursor {
                request = request.query(&[("cursor", cursor)]);
            }
            let answer = request.header("x-api-token", &self.token).send().await?;
            if answer.status().as_u16() == 429 {
                tokio::time::sleep(Duration::from_millis(250)).await;
                continue;
            }
            let page: Value = answer.error_for_status()?.json().await?;
            all.extend(page.get("data").and_then(Value::as_array).into_iter().flatten().cloned());
            let next = page.pointer("/additional_data/next_cursor").and_then(Value::as_str);
            cursor = next.map(ToOwned::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// Everybody who is not deleted, by the values that people go by.
    ///
    /// # Errors
    /// No answer, or an unexpected one.
    pub async fn list(&self) -> Result<Vec<Contact>, Error> {
        Ok(self.all().await?.iter().map(contact).collect())
    }

    /// The id of an option of a custom field, by its label.
    ///
    /// # Errors
    /// No answer, or the field has no such option.
    pub async fn option(&self, code: &str, label: &str) -> Result<u64, Error> {
        let request = self.client.get(format!("{}/api/v2/personFields/{code}", self.base));
        let answer = request.header("x-api-token", &self.token).send().await?.error_for_status()?;
        let field: Value = answer.json().await?;
        let mut options = field.pointer("/data/options").and_then(Value::as_array).into_iter().flatten();
        let option = options.find(|option| option.get("label") == Some(&json!(label)));
        option
            .and_then(|option| option.get("id")?.as_u64())
            .ok_or_else(|| format!("{code} has no option {label}").into())
    }

    /// Makes a webhook as an administrator's script would.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn make_webhook(&self, body: &Value) -> Result<(), Error> {
        let request = self.client.post(format!("{}/v1/webhooks", self.base));
        request.header("x-api-token", &self.token).json(body).send().await?.error_for_status()?;
        Ok(())
    }
}

/// The one entry of a list that is meant: the primary one before others, of those with or without the label for mobile numbers.
fn entry(list: Option<&Value>, mobile: Option<bool>) -> Option<usize> {
    let entries = list?.as_array()?;
    let fits = |entry: &Value| {
        let label = entry.get("label").and_then(Value::as_str).unwrap_or_default();
        mobile.is_none_or(|mobile| (label == MOBILE) == mobile)
    };
    let primary = |entry: &Value| entry.get("primary") == Some(&json!(true));
    entries.iter().position(|it| fits(it) && primary(it)).or_else(|| entries.iter().position(fits))
}

/// A person by the values that people go by.
pub(crate) fn contact(person: &Value) -> Contact {
    let mut properties = BTreeMap::new();
    let mut put = |name: &str, text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            properties.insert(name.to_owned(), text.to_owned());
        }
    };
    let of = |list: &str, mobile: Option<bool>| {
        let place = entry(person.get(list), mobile)?;
        person.get(list)?.get(place)?.get("value")?.as_str()
    };
    put("emails", of("emails", None));
    put("phones", of("phones", Some(false)));
    put("phones: mobile", of("phones", Some(true)));
    for name in ["first_name", "last_name", "job_title", "notes", "birthday"] {
        put(name, person.get(name).and_then(Value::as_str));
    }
    for name in ADDRESS {
        put(name, person.pointer(&format!("/postal_address/{name}")).and_then(Value::as_str));
    }
    let id = person.get("id").and_then(Value::as_u64).unwrap_or(0);
    Contact { id: id.to_string(), properties }
}

/// Somebody who works there saves these values of a person, all at once: lists keep their other entries, and an address its other
/// parts.
pub(crate) async fn edit(
    control: &Control,
    company: u64,
    id: u64,
    values: &[(&str, &str)],
) -> Result<(), Error> {
    let persons = control.pipedrive_dump(company).await?.persons;
    let person = persons.iter().find(|person| person.get("id") == Some(&json!(id)));
    let person = person.ok_or_else(|| format!("no person {id}"))?;
    control.pipedrive_person_edits(company, id, save(person, values)).await?;
    Ok(())
}

/// The body that saves these values of a person, or of one who is to be made.
pub(crate) fn save(person: &Value, values: &[(&str, &str)]) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { Value::from(text) };
    let mut body = Map::new();
    let taken = |body: &Map<String, Value>, name: &str| {
        body.get(name).or_else(|| person.get(name)).cloned().unwrap_or_default()
    };
    for (name, value) in values {
        match *name {
            "emails" | "phones" | "phones: mobile" => {
                let (list, mobile) = match *name {
                    "emails" => ("emails", None),
                    other => ("phones", Some(other != "phones")),
                };
                let changed = replaced(taken(&body, list), mobile, value);
                body.insert(list.to_owned(), changed);
            }
            "first_name" | "last_name" => {
                for part in ["first_name", "last_name"] {
                    let there = taken(&body, part);
                    body.insert(part.to_owned(), there.as_str().unwrap_or_default().into());
                }
                body.insert((*name).to_owned(), (*value).into());
            }
            part if ADDRESS.contains(&part) => {
                let mut address = match taken(&body, "postal_address") {
                    Value::Object(parts) => parts,
                    _ => Map::new(),
                };
                address.insert(part.to_owned(), text(value));
                let lines = ADDRESS.iter().filter_map(|part| address.get(*part)?.as_str());
                let whole = lines.collect::<Vec<_>>().join(", ");
                address.insert("value".to_owned(), whole.into());
                body.insert("postal_address".to_owned(), address.into());
            }
            plain => {
                body.insert(plain.to_owned(), text(value));
            }
        }
    }
    Value::Object(body)
}

/// A list with another value for the entry that is meant; an empty one takes it out.
fn replaced(list: Value, mobile: Option<bool>, value: &str) -> Value {
    let place = entry(Some(&list), mobile);
    let mut entries = match list {
        Value::Array(entries) => entries,
        _ => Vec::new(),
    };
    match place {
        Some(place) if value.is_empty() => {
            entries.remove(place);
        }
        Some(place) => {
            if let Some(entry) = entries.get_mut(place).and_then(Value::as_object_mut) {
                entry.insert("value".to_owned(), value.into());
            }
        }
        None if value.is_empty() => {}
        None => {
            let label = if mobile == Some(true) { MOBILE } else { "work" };
            entries.push(json!({ "value": value, "primary": entries.is_empty(), "label": label }));
        }
    }
    entries.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Value {
        json!({
            "id": 7, "first_name": "Ann", "last_name": null, "is_deleted": false,
            "emails": [
                { "value": "old@x.org", "primary": false, "label": "home" },
                { "value": "ann@x.org", "primary": true, "label": "work" },
            ],
            "phones": [
                { "value": "2", "primary": true, "label": "mobile" },
                { "value": "1", "primary": false, "label": "work" },
            ],
            "postal_address": { "value": "High Street 1, London", "route": "High Street 1", "locality": "London" },
            "job_title": "Head", "notes": null,
        })
    }

    #[test]
    fn a_person_is_read_by_the_entries_that_are_meant() {
        let found = contact(&ann());
        let value = |member: &str| found.properties.get(name_of(member).unwrap()).map(String::as_str);
        assert_eq!(found.id, "7");
        assert_eq!(
            ["email", "given_name", "family_name", "phone", "mobile_phone", "job_title", "notes", "city"]
                .map(value),
            [Some("ann@x.org"), Some("Ann"), None, Some("1"), Some("2"), Some("Head"), None, Some("London")]
        );
    }

    #[test]
    fn an_edit_keeps_what_it_is_not_about() {
        let body = save(
            &ann(),
            &[("emails", "new@x.org"), ("phones", ""), ("last_name", "Li"), ("country", "UK"), ("notes", "")],
        );
        let emails = json!([
            { "value": "old@x.org", "primary": false, "label": "home" },
            { "value": "new@x.org", "primary": true, "label": "work" },
        ]);
        assert_eq!(
            body,
            json!({
                "emails": emails,
                "phones": [{ "value": "2", "primary": true, "label": "mobile" }],
                "first_name": "Ann", "last_name": "Li",
                "postal_address": {
                    "value": "High Street 1, London, UK", "route": "High Street 1", "locality": "London", "country": "UK",
                },
                "notes": null,
            })
        );
    }
}
