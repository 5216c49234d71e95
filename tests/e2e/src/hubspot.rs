//! Customers whose CRM is HubSpot, in a house that runs already: their accounts in the simulator and their connections.
//!
//! Webhooks are the app's: one address and one registration for all accounts of the house. Customers of a house's plan are made with
//! the house; these come later, one by one, and may come before their connection does.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_simulator::control::types::{AccountInfo, AccountSettings, NewAccounts, QuotaSizes, TokenKind};

use crate::account::Account;
use crate::crm::Crm;
use crate::house::{House, key_property};
use crate::rest::write_whole;
use crate::salesforce::url_encoded;
use crate::{Error, until};

/// What a customer's account and connection are made from.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The connection's name.
    pub connection: String,
    /// The scope in System A.
    pub scope: String,
    /// The account; the app and the key property are put in.
    pub account: NewAccounts,
    /// Milliseconds between two polls.
    pub poll_every_ms: u32,
    /// Further settings of the provider, in TOML.
    pub settings: String,
    /// Lines of the object's policy, in TOML.
    pub policy: String,
}

impl Wanted {
    /// An account of a private app with larger limits than real ones have, that notes what is written to it and is hardly ever polled.
    /// Its connection is called as the scope is.
    #[must_use]
    pub fn new(scope: &str) -> Self {
        let settings = AccountSettings {
            journal: true,
            index_lag_min_ms: 100,
            index_lag_max_ms: 300,
            ..AccountSettings::default()
        };
        let quota = QuotaSizes { burst: 20_000, daily: None, search: 50 };
        Self {
            connection: scope.to_owned(),
            scope: scope.to_owned(),
            account: NewAccounts { quota: Some(quota), settings, ..NewAccounts::new(0, 1) },
            poll_every_ms: 600_000,
            settings: String::new(),
            policy: String::new(),
        }
    }
}

/// A customer.
pub struct Customer {
    /// The connection's name.
    pub connection: String,
    /// The scope in System A.
    pub scope: String,
    /// The account as it was made.
    pub info: AccountInfo,
}

impl Customer {
    /// By which the simulator names the account.
    #[must_use]
    pub fn portal(&self) -> u64 {
        self.info.portal_id
    }
}

impl House {
    /// An account that the daemon does not know yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn hubspot_account(&self, wanted: &Wanted) -> Result<Customer, Error> {
        let mut new = wanted.account.clone();
        new.app_id = self.app.app_id;
        new.properties.push(key_property());
        let made = self.control.create_accounts(&new).await?;
        let info = made.into_iter().next().ok_or("no account was made")?;
        Ok(Customer { connection: wanted.connection.clone(), scope: wanted.scope.clone(), info })
    }

    /// Writes the secret and the file of a customer's connection.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn connect_hubspot(&self, customer: &Customer, wanted: &Wanted) -> Result<(), Error> {
        let Customer { connection, scope, info } = customer;
        self.secret(connection, info.refresh_token.as_ref().unwrap_or(&info.access_token))?;
        let quota = wanted.account.quota.unwrap_or_default();
        let (credential, app) =
            if info.refresh_token.is_some() { ("refresh_token", "oauth") } else { ("token", "private") };
        let text = format!(
            "provider = \"hubspot\"\nscope = \"{scope}\"\napp = \"hubspot\"\naccount = \"{portal}\"\n\
             base_url = \"{api}\"\nhosts = [\"127.0.0.1\"]\nallow_loopback = true\n\
             auth = {{ {credential} = {{ file = \"../secrets/{connection}\" }} }}\n\
             [quotas.burst]\nlimit = {burst}\n[quotas.search]\nlimit = {search}\n{daily}\
             [settings]\napp = \"{app}\"\nkey_property = \"tandem_key\"\npoll_every_ms = {poll}\nsettle_ms = 500\n{settings}\n\
             [objects.contact]\n{policy}\n",
            portal = info.portal_id,
            api = self.api,
            burst = quota.burst,
            search = quota.search,
            // An app with OAuth has no limit of a day.
            daily = match (info.kind, quota.daily) {
                (TokenKind::Oauth, _) => String::new(),
                (_, daily) => format!("[quotas.daily]\nlimit = {}\n", daily.unwrap_or(1_000_000_000)),
            },
            poll = wanted.poll_every_ms,
            settings = wanted.settings,
            policy = wanted.policy,
        );
        write_whole(&self.connection_path(connection), &text)
    }

    /// Waits until a connection runs and its account was gone through.
    ///
    /// # Errors
    /// It does not come to work in time.
    pub async fn hubspot_runs(&self, customer: &Customer, deadline: Duration) -> Result<(), Error> {
        until(
            &format!("{} runs and its account was gone through", customer.connection),
            deadline,
            async || {
                let status = self.get("/v1/status").await?;
                let mut rows = status.get("connections").and_then(Value::as_array).into_iter().flatten();
                let row = rows.find(|row| row.get("connection") == Some(&json!(customer.connection)));
                let row = row.cloned().unwrap_or_default();
                let counts = self.control.account_counts(customer.portal()).await?;
                let walked = counts.calls("contacts.list") > 0 && counts.calls("properties.list") > 0;
                let runs = row.get("state") == Some(&json!("running"));
                Ok(if runs && walked { Ok(()) } else { Err(format!("{row} {:?}", counts.operations)) })
            },
        )
        .await
    }

    /// An account as people and judges see it. Where tokens end it is signed in anew, by a code that a person's consent gives.
    ///
    /// # Errors
    /// It is not signed in.
    pub async fn hubspot_crm(&self, customer: &Customer) -> Result<Crm, Error> {
        let portal = customer.portal();
        let token = match customer.info.kind {
            TokenKind::Private => customer.info.access_token.clone(),
            TokenKind::Oauth => self.signed_in(portal).await?,
        };
        Ok(Crm::hubspot(&self.control, portal, &Account::new(self.client(), &self.api, &token)))
    }

    async fn signed_in(&self, portal: u64) -> Result<String, Error> {
        let code = self.control.authorization_code(portal).await?;
        let form = url_encoded(&[
            ("grant_type", "authorization_code"),
            ("client_id", &self.app.client_id),
            ("client_secret", &self.app.client_secret),
            ("redirect_uri", "https://sync.example.com/done"),
            ("code", &code),
        ]);
        let request = self.client().post(format!("{}/oauth/v1/token", self.api));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let token = answer.get("access_token").and_then(Value::as_str);
        Ok(token.ok_or("no access token")?.to_owned())
    }
}
